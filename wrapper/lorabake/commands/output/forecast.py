"""What a run will do, as a person reads it: steps, the guide's marks, concepts, buckets, files, time."""

from __future__ import annotations

from collections.abc import Iterator

from lorabake.commands.output.findings import describe_run_size
from lorabake.commands.output.layout import TextLayout, bold, format_file_size, format_table, style_rule_id
from lorabake.commands.output.progress import format_duration
from lorabake_schemas.messages import Message, join_list, msg, nmsg
from lorabake_schemas.plan import (
    BatchDistribution,
    Bucket,
    FileSize,
    Forecast,
    GuideTarget,
    Plan,
    PlannedSave,
    TimeEstimate,
    UnderfilledBatches,
)

MAX_SAVES_SHOWN = 12


def format_forecast(plan: Plan, page: TextLayout) -> list[str]:
    """Blocks with an empty line between them, under one heading."""
    counted = plan.forecast
    blocks = (
        [line for said in _iter_step_lines(counted) for line in page.paragraph(said, first="  ")],
        _target_table(counted, page),
        _concept_table(counted, page),
        _bucket_table(counted, page),
        _file_table(counted, page),
        page.paragraph(_describe_time(counted.timing), first="  "),
    )
    lines = [line for block in blocks if block for line in ("", *block)]
    return [bold(page(msg("Forecast"))), *lines[1:]]


def _iter_step_lines(counted: Forecast) -> Iterator[Message]:
    yield describe_run_size(counted)
    yield msg(
        "{batches} and {steps} per epoch; {warmup}",
        batches=nmsg(counted.batches_per_epoch, "{n} batch", "{n} batches"),
        steps=nmsg(counted.steps_per_epoch, "{n} step", "{n} steps"),
        warmup=nmsg(counted.warmup_steps, "warm-up over the first step", "warm-up over the first {n} steps")
        if counted.warmup_steps
        else msg("no warm-up"),
    )
    if counted.restarts:
        steps = ", ".join(map(str, counted.restarts))
        yield msg("the learning rate peaks at the start of each cosine cycle (after step {steps})", steps=steps)
    if counted.dealing and (counted.dealing.processes > 1 or counted.dealing.accumulation > 1):
        yield from _iter_batch_lines(counted.dealing)


def _iter_batch_lines(dealt: BatchDistribution) -> Iterator[Message]:
    """Only where a step is more than one batch."""
    samples = nmsg(dealt.samples_per_step, "{n} sample", "{n} samples")
    if dealt.processes == 1:
        yield nmsg(
            dealt.accumulation, "{n} batch per step: {samples}", "{n} batches per step: {samples}", samples=samples
        )
    else:
        yield nmsg(
            dealt.accumulation,
            "{n} batch per step from each of {processes} processes: {samples}",
            "{n} batches per step from each of {processes} processes: {samples}",
            processes=dealt.processes,
            samples=samples,
        )
    if dealt.repeated_batches:
        yield nmsg(
            dealt.repeated_batches,
            "{n} batch is trained twice per epoch so that all processes get the same number",
            "{n} batches are trained twice per epoch so that all processes get the same number",
        )
    if dealt.last_step_batches < dealt.accumulation:
        yield msg(
            "the last step of an epoch has only {batches} and counts proportionally less",
            batches=nmsg(dealt.last_step_batches, "{n} batch", "{n} batches"),
        )


def _target_table(counted: Forecast, page: TextLayout) -> list[str]:
    """The guide's numbers beside the plan's."""
    if not counted.marks:
        return []
    head = (msg("compared with the guide"), msg("planned"), msg("guide"), "")
    rows = [
        (_measure_label(mark), f"{mark.planned:.4g}", str(mark.guide), style_rule_id(mark.rule))
        for mark in counted.marks
    ]
    return format_table([tuple(map(page, head)), *((page(name), *rest) for name, *rest in rows)], numbers=(1, 2))


def _measure_label(mark: GuideTarget) -> Message:
    return msg("times each image is seen") if mark.measure == "exposures" else msg("steps")


def _concept_table(counted: Forecast, page: TextLayout) -> list[str]:
    head = (msg("concept"), msg("images"), msg("repeats"), msg("samples"), msg("seen"))
    rows = [
        (
            page(msg("{title} (regularization)", title=share.title)) if share.is_reg else page(share.title),
            _format_image_count(share.images, share.images_used, page),
            str(share.num_repeats),
            str(share.samples_per_epoch),
            page(msg("{times:.3g} times", times=share.exposures)),
        )
        for share in counted.shares
    ]
    return format_table([tuple(map(page, head)), *rows], numbers=(1, 2, 3, 4))


def _format_image_count(images: int, used: int | None, page: TextLayout) -> str:
    return str(images) if used in (None, images) else page(msg("{used} of {images}", used=used, images=images))


def _bucket_table(counted: Forecast, page: TextLayout) -> list[str]:
    if not counted.buckets:
        return []
    head = (msg("bucket"), msg("images"), msg("samples"), msg("batches"), msg("last batch"))
    rows = [
        (f"{b.width}x{b.height}", str(b.pictures), str(b.samples), str(b.batches), page(_describe_last_batch(b)))
        for b in counted.buckets
    ]
    lines = format_table([tuple(map(page, head)), *rows], numbers=(1, 2, 3))
    lost = counted.underfilled
    return lines + (
        page.paragraph(_describe_batch_cost(lost, counted), first="  ") if lost and lost.missing_samples else []
    )


def _describe_last_batch(bucket: Bucket) -> Message:
    if not bucket.missing:
        return msg("full")
    return nmsg(bucket.missing, "{n} missing", "{n} missing")


def _describe_batch_cost(lost: UnderfilledBatches, counted: Forecast) -> Message:
    """What batches that are not full cost: sd-scripts fills a batch from one bucket only (S10)."""
    said = [
        nmsg(
            lost.batches,
            "{n} of {all} batches is not full ({share:.0%}) because each batch comes from one bucket",
            "{n} of {all} batches are not full ({share:.0%}) because each batch comes from one bucket",
            all=counted.batches_per_epoch,
            share=lost.share,
        )
    ]
    if lost.extra_batches:
        said.append(
            nmsg(
                lost.extra_batches,
                "if all images had the same shape, each epoch would need {n} batch fewer",
                "if all images had the same shape, each epoch would need {n} batches fewer",
            )
        )
    return join_list(said, "; ")


def _file_table(counted: Forecast, page: TextLayout) -> list[str]:
    if not counted.saves:
        return []
    head = (msg("file"), msg("after step"), msg("epoch"), "")
    rows = [_save_row(save, page) for save in counted.saves]
    if len(rows) > MAX_SAVES_SHOWN:
        left = len(rows) - MAX_SAVES_SHOWN
        more = page(
            msg(
                "... {n} more",
                n=left,
            )
        )
        rows = [*rows[: MAX_SAVES_SHOWN // 2], (more, "", "", ""), *rows[-MAX_SAVES_SHOWN // 2 :]]
    lines = format_table([tuple(map(page, head)), *rows], numbers=(1, 2))
    return lines + page.paragraph(_describe_disk_use(counted.saves, counted.file_size), first="  ")


def _save_row(save: PlannedSave, page: TextLayout) -> tuple[str, str, str, str]:
    epoch = "" if save.epoch is None else str(save.epoch)
    return page(save.file), str(save.step), epoch, "" if save.kept else page(msg("deleted later"))


def _describe_disk_use(saves: tuple[PlannedSave, ...], each: FileSize | None) -> Message:
    """How much disk the saves take."""
    kept = sum(save.kept for save in saves)
    files = nmsg(kept, "{n} file", "{n} files")
    if each is None:
        return msg("{files} in the end (size unknown for this network)", files=files)
    one = each.tensor_bytes + each.header_bytes
    if kept == 1:
        return msg("1 file of {one} in the end", one=format_file_size(one))
    return msg(
        "{files} of {one} in the end, {all} in total",
        files=files,
        one=format_file_size(one),
        all=format_file_size(one * kept),
    )


def _describe_time(timing: TimeEstimate | None) -> Message:
    """A range from runs of this machine, or nothing: a guess would be believed."""
    if timing is None:
        return msg("time: unknown (no similar run has been measured on this machine)")
    said = msg(
        "time: {low} to {high} for the steps only, estimated from {steps} of {runs}",
        low=format_duration(timing.low),
        high=format_duration(timing.high),
        steps=nmsg(timing.steps_measured, "{n} step", "{n} steps"),
        runs=", ".join(timing.runs),
    )
    if not timing.differs:
        return said
    return msg("{time}, which differs in {what}", time=said, what=join_list(timing.differs))
