"""What a run will do, as a person reads it: steps, the guide's marks, concepts, buckets, files, time."""

from __future__ import annotations

from collections.abc import Iterator

from lorabake.render.page import Page, bold, file_size, guided, table
from lorabake.render.report import size
from lorabake.terminal import duration
from lorabake_schemas.plan import Bucket, Dealing, FileSize, Forecast, Mark, Plan, Save, Timing, Underfilled
from lorabake_schemas.words import Said, joined, say, told

SHOWN_SAVES = 12


def forecast_lines(plan: Plan, page: Page) -> list[str]:
    """Blocks with an empty line between them, under one heading."""
    counted = plan.forecast
    blocks = (
        [line for said in _steps(counted) for line in page.paragraph(said, first="  ")],
        _marks(counted, page),
        _shares(counted, page),
        _buckets(counted, page),
        _files(counted, page),
        page.paragraph(_time(counted.timing), first="  "),
    )
    lines = [line for block in blocks if block for line in ("", *block)]
    return [bold(page(say("Forecast"))), *lines[1:]]


def _steps(counted: Forecast) -> Iterator[Said]:
    yield size(counted)
    yield say(
        "{batches} and {steps} an epoch; {warmup}",
        batches=told(counted.batches_per_epoch, "{n} batch", "{n} batches"),
        steps=told(counted.steps_per_epoch, "{n} step", "{n} steps"),
        warmup=told(
            counted.warmup_steps, "the rate rises over the first step", "the rate rises over the first {n} steps"
        )
        if counted.warmup_steps
        else say("no warm-up"),
    )
    if counted.restarts:
        steps = ", ".join(map(str, counted.restarts))
        yield say("the rate is at its highest after steps {steps}, where each cosine begins", steps=steps)
    if counted.dealing and (counted.dealing.processes > 1 or counted.dealing.accumulation > 1):
        yield from _dealing(counted.dealing)


def _dealing(dealt: Dealing) -> Iterator[Said]:
    """Only where a step is more than one batch."""
    samples = told(dealt.samples_per_step, "{n} sample", "{n} samples")
    if dealt.processes == 1:
        yield told(dealt.accumulation, "{n} batch a step: {samples}", "{n} batches a step: {samples}", samples=samples)
    else:
        yield told(
            dealt.accumulation,
            "{n} batch of each of {processes} processes a step: {samples}",
            "{n} batches of each of {processes} processes a step: {samples}",
            processes=dealt.processes,
            samples=samples,
        )
    if dealt.repeated_batches:
        yield told(
            dealt.repeated_batches,
            "{n} batch is trained twice in every epoch, so that the processes come out even",
            "{n} batches are trained twice in every epoch, so that the processes come out even",
        )
    if dealt.last_step_batches < dealt.accumulation:
        yield say(
            "the last step of an epoch has {batches} only, and counts as much less",
            batches=told(dealt.last_step_batches, "{n} batch", "{n} batches"),
        )


def _marks(counted: Forecast, page: Page) -> list[str]:
    """The guide's numbers beside the plan's."""
    if not counted.marks:
        return []
    head = (say("beside the guide"), say("planned"), say("the guide"), "")
    rows = [(_measure(mark), f"{mark.planned:.4g}", str(mark.guide), guided(mark.rule)) for mark in counted.marks]
    return table([tuple(map(page, head)), *((page(name), *rest) for name, *rest in rows)], numbers=(1, 2))


def _measure(mark: Mark) -> Said:
    return say("times each picture is seen") if mark.measure == "exposures" else say("steps")


def _shares(counted: Forecast, page: Page) -> list[str]:
    head = (say("concept"), say("pictures"), say("repeats"), say("samples"), say("each seen"))
    rows = [
        (
            page(say("{title} (regularisation)", title=share.title)) if share.is_reg else page(share.title),
            _used(share.images, share.images_used, page),
            str(share.num_repeats),
            str(share.samples_per_epoch),
            page(say("{times:.3g} times", times=share.exposures)),
        )
        for share in counted.shares
    ]
    return table([tuple(map(page, head)), *rows], numbers=(1, 2, 3, 4))


def _used(images: int, used: int | None, page: Page) -> str:
    return str(images) if used in (None, images) else page(say("{used} of {images}", used=used, images=images))


def _buckets(counted: Forecast, page: Page) -> list[str]:
    if not counted.buckets:
        return []
    head = (say("bucket"), say("pictures"), say("samples"), say("batches"), say("last batch"))
    rows = [
        (f"{b.width}x{b.height}", str(b.pictures), str(b.samples), str(b.batches), page(_last(b)))
        for b in counted.buckets
    ]
    lines = table([tuple(map(page, head)), *rows], numbers=(1, 2, 3))
    lost = counted.underfilled
    return lines + (page.paragraph(_cost(lost, counted), first="  ") if lost and lost.missing_samples else [])


def _last(bucket: Bucket) -> Said:
    if not bucket.missing:
        return say("full")
    return told(bucket.missing, "{n} short", "{n} short")


def _cost(lost: Underfilled, counted: Forecast) -> Said:
    """What batches that are not full cost: sd-scripts fills a batch from one bucket only (S10)."""
    said = [
        told(
            lost.batches,
            "{n} of {all} batches is not full ({share:.0%}), because a batch comes from one bucket",
            "{n} of {all} batches are not full ({share:.0%}), because a batch comes from one bucket",
            all=counted.batches_per_epoch,
            share=lost.share,
        )
    ]
    if lost.extra_batches:
        said.append(
            told(
                lost.extra_batches,
                "{n} batch an epoch would be saved if all pictures had one shape",
                "{n} batches an epoch would be saved if all pictures had one shape",
            )
        )
    return joined(said, "; ")


def _files(counted: Forecast, page: Page) -> list[str]:
    if not counted.saves:
        return []
    head = (say("file"), say("after step"), say("epoch"), "")
    rows = [_row(save, page) for save in counted.saves]
    if len(rows) > SHOWN_SAVES:
        left = len(rows) - SHOWN_SAVES
        more = page(told(left, "... {n} more", "... {n} more"))
        rows = [*rows[: SHOWN_SAVES // 2], (more, "", "", ""), *rows[-SHOWN_SAVES // 2 :]]
    lines = table([tuple(map(page, head)), *rows], numbers=(1, 2))
    return lines + page.paragraph(_room(counted.saves, counted.file_size), first="  ")


def _row(save: Save, page: Page) -> tuple[str, str, str, str]:
    epoch = "" if save.epoch is None else str(save.epoch)
    return page(save.file), str(save.step), epoch, "" if save.kept else page(say("deleted again"))


def _room(saves: tuple[Save, ...], each: FileSize | None) -> Said:
    """How much disk the saves take."""
    kept = sum(save.kept for save in saves)
    files = told(kept, "{n} file", "{n} files")
    if each is None:
        return say("{files} in the end; how large is not known for this network", files=files)
    one = each.tensor_bytes + each.header_bytes
    if kept == 1:
        return say("1 file of {one} in the end", one=file_size(one))
    return say(
        "{files} of {one} in the end, {all} together", files=files, one=file_size(one), all=file_size(one * kept)
    )


def _time(timing: Timing | None) -> Said:
    """A range from runs of this machine, or nothing: a guess would be believed."""
    if timing is None:
        return say("time: unknown; no run like this was measured on this machine yet")
    said = say(
        "time: {low} to {high} for the steps alone, by {steps} of {runs}",
        low=duration(timing.low),
        high=duration(timing.high),
        steps=told(timing.steps_measured, "{n} step", "{n} steps"),
        runs=", ".join(timing.runs),
    )
    if not timing.differs:
        return said
    return say("{time}, which differs in {what}", time=said, what=joined(timing.differs))


__all__ = ["forecast_lines"]
