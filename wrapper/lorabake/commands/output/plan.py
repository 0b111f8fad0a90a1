"""A plan: every setting with its source in groups, then the forecast."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal

import click

from lorabake.commands.output.findings import describe_run_size, format_check_command, format_finding_counts
from lorabake.commands.output.layout import (
    TextLayout,
    align_rows,
    bold,
    count_cells,
    dim,
    format_duration,
    format_file_size,
    format_table,
    style_rule_id,
)
from lorabake_schemas.base import OptionValue
from lorabake_schemas.bucket_fit import Size
from lorabake_schemas.findings import Severity
from lorabake_schemas.messages import Message, escape_invisible, join_list, literal, msg, nmsg
from lorabake_schemas.plan import (
    BatchDistribution,
    Bucket,
    ConceptShare,
    FileSize,
    FolderShare,
    Forecast,
    GuideTarget,
    Origin,
    Plan,
    PlannedSave,
    Setting,
    Source,
    SubsetPlan,
    TimeEstimate,
    UnderfilledBatches,
)

if TYPE_CHECKING:
    from lorabake.analysis.check import CheckResult

SettingGroup = Literal["model", "network", "optimizer", "data", "validation", "saving", "machine", "kohya"]
GROUP_LABELS: Mapping[SettingGroup, Message] = MappingProxyType(
    {
        "model": msg("Model"),
        "network": msg("Network"),
        "optimizer": msg("Optimizer and schedule"),
        "data": msg("Images and captions"),
        "validation": msg("Validation"),
        "saving": msg("Saving"),
        "machine": msg("Machine"),
        "kohya": msg("Other sd-scripts options"),
    }
)
OPTIONS_BY_GROUP: Mapping[SettingGroup, tuple[str, ...]] = MappingProxyType(
    {
        "model": (
            "pretrained_model_name_or_path", "vae", "tokenizer_cache_dir", "v2", "v_parameterization",
            "zero_terminal_snr", "clip_skip", "max_token_length", "no_half_vae",
        ),
        "network": (
            "network_module", "network_dim", "network_alpha", "network_args", "network_dropout",
            "network_train_unet_only", "network_weights", "scale_weight_norms",
        ),
        "optimizer": (
            "optimizer_type", "optimizer_args", "learning_rate", "unet_lr", "text_encoder_lr", "lr_scheduler",
            "lr_scheduler_type", "lr_scheduler_args", "lr_warmup_steps", "lr_scheduler_num_cycles",
            "max_train_epochs", "max_train_steps",
            "gradient_accumulation_steps", "min_snr_gamma", "debiased_estimation_loss", "noise_offset",
            "prior_loss_weight", "max_grad_norm", "seed",
        ),
        "data": ("resolution", "masked_loss"),
        "validation": (
            "validation_split", "validation_seed", "validate_every_n_epochs", "validate_every_n_steps",
            "max_validation_steps",
        ),
        "saving": (
            "output_name", "output_dir", "save_model_as", "save_precision", "save_every_n_epochs",
            "save_every_n_steps", "save_last_n_epochs", "save_last_n_steps", "save_state", "save_state_on_train_end",
            "logging_dir", "log_with", "log_tracker_name", "wandb_run_name", "sample_prompts", "sample_every_n_epochs",
            "sample_every_n_steps", "sample_at_first", "sample_sampler",
        ),
        "machine": (
            "mixed_precision", "xformers", "sdpa", "gradient_checkpointing", "cache_latents", "cache_latents_to_disk",
            "max_data_loader_n_workers", "persistent_data_loader_workers",
        ),
    }
)  # fmt: skip
_GROUP_BY_OPTION: Mapping[str, SettingGroup] = MappingProxyType(
    {option: group for group, options in OPTIONS_BY_GROUP.items() for option in options}
)
ORIGIN_LABELS: Mapping[Origin, Message] = MappingProxyType(
    {
        Origin.RECIPE: msg("recipe"),
        Origin.GUIDE: msg("guide"),
        Origin.SD_SCRIPTS: msg("sd-scripts"),
        Origin.MACHINE: msg("machine"),
        Origin.LORABAKE: msg("lorabake"),
    }
)
ORIGIN_COLORS: Mapping[Origin, str | None] = MappingProxyType(
    {
        Origin.RECIPE: "green",
        Origin.GUIDE: "cyan",
        Origin.SD_SCRIPTS: "magenta",
        Origin.MACHINE: "yellow",
        Origin.LORABAKE: None,
    }
)
MAX_VALUE_WIDTH, MIN_VALUE_WIDTH = 30, 12
MIN_REASON_WIDTH = 24
MAX_SAVES_SHOWN = 12


def format_plan_page(result: CheckResult, layout: TextLayout) -> str:
    """The plan and how many findings there are."""
    _, plan = result.planned()
    parts = [format_plan(plan, layout), "", bold(layout(msg("Findings")))]
    parts += [f"  {layout(format_finding_counts(result))}"]
    if result.findings or result.ignored:
        more = msg("`{command}` shows them", command=format_check_command(result))
        parts += [dim(line) for line in layout.paragraph(more, first="  ")]
    return "\n".join(parts)


def format_plan(plan: Plan, layout: TextLayout) -> str:
    """Every setting with its value and where it comes from, then what will happen."""
    head = msg("{name}: {family}, {script}", name=plan.name, family=plan.family, script=plan.script)
    sections = list(_iter_sections(plan, layout))
    blocks = iter(_align_settings([setting for _, settings in sections for setting in settings], layout))
    parts = [bold(layout(head))]
    for heading, settings in sections:
        parts += ["", heading, *(line for _ in settings for line in next(blocks))]
    if plan.launch.deterministic:
        parts += ["", bold(layout(msg("Deterministic"))), *layout.paragraph(_describe_determinism(plan), first="  ")]
    return "\n".join([*parts, "", *format_forecast(plan, layout)])


def _iter_sections(plan: Plan, layout: TextLayout) -> Iterator[tuple[str, Sequence[Setting]]]:
    """The groups of settings under their headings, those of each concept among them."""
    for group, name in GROUP_LABELS.items():
        if group == "data":
            yield from _iter_data_sections(plan, layout)
        elif settings := select_group(plan.train, group):
            yield bold(layout(name)), settings


def _iter_data_sections(plan: Plan, layout: TextLayout) -> Iterator[tuple[str, Sequence[Setting]]]:
    """The blocks of all resolutions with the folders in each; what a block has like the first one is not repeated."""
    name = GROUP_LABELS["data"]
    for block in plan.datasets:
        several = msg("{group} at {size}", group=name, size=format_size(block.resolution))
        yield bold(layout(name if len(plan.datasets) == 1 else several)), block.settings
        known = () if block is plan.datasets[0] else plan.datasets[0].subsets
        named = [(f"  {bold(layout(_describe_subset(part)))}", part) for part in block.subsets if part not in known]
        yield from ((name, part.settings) for name, part in named)


def format_size(size: Size) -> str:
    """``512x768``."""
    return f"{size[0]}x{size[1]}"


def _describe_subset(subset: SubsetPlan) -> Message:
    pictures = nmsg(subset.images, "{n} image", "{n} images")
    return (
        msg("regularization {title}, {pictures}", title=subset.title, pictures=pictures)
        if subset.is_reg
        else msg("concept {title}, {pictures}", title=subset.title, pictures=pictures)
    )


def _describe_determinism(plan: Plan) -> Message:
    """What launch.deterministic guarantees."""
    if plan.launch.num_processes > 1:
        return msg(
            "PyTorch uses only deterministic kernels, but sums over several processes are not guaranteed to repeat "
            "exactly"
        )
    if plan.launch.cpu:
        return nmsg(
            plan.launch.num_cpu_threads_per_process,
            "a rerun on the same kind of CPU with {n} thread gives the same file byte for byte",
            "a rerun on the same kind of CPU with {n} threads gives the same file byte for byte",
        )
    return msg(
        "a rerun on the same kind of GPU with the same driver and packages should give the same "
        "file byte for byte. PyTorch guarantees this for its own kernels, but lorabake has not "
        "tested it"
    )


def find_group(option: str) -> SettingGroup:
    """What is not in the table came through ``[kohya]``, apart from metadata, which is kept with the file."""
    return "saving" if option.startswith("metadata_") else _GROUP_BY_OPTION.get(option, "kohya")


def select_group(settings: Iterable[Setting], group: SettingGroup) -> tuple[Setting, ...]:
    """The settings of a group, in the order of its table."""
    found = [setting for setting in settings if find_group(setting.option) == group]
    order = {option: number for number, option in enumerate(OPTIONS_BY_GROUP.get(group, ()))}
    return tuple(sorted(found, key=lambda setting: order.get(setting.option, len(order))))


def _align_settings(settings: Sequence[Setting], layout: TextLayout) -> list[list[str]]:
    """The lines of each setting: option, value and source in columns. On a terminal a list takes a line for each of its
    values, and values that are too long for their column follow below."""
    options = [escape_invisible(setting.option) for setting in settings]
    room = None if layout.columns is None else layout.columns - 2
    limit = MAX_VALUE_WIDTH
    if room is not None:
        limit = room - max(map(count_cells, options)) - 4 - MIN_REASON_WIDTH
        limit = max(min(limit, MAX_VALUE_WIDTH), MIN_VALUE_WIDTH)
    rows: list[tuple[str, str, str]] = []
    below: list[list[str]] = []
    for option, setting in zip(options, settings, strict=True):
        shown_values = list(_split_value(setting.value))
        sources = setting.parts or (setting.source,) * len(shown_values)
        values = [_style_value(value, source) for value, source in zip(shown_values, sources, strict=True)]
        too_long = room is not None and any(count_cells(value) > limit for value in values)
        shown = "" if too_long else (" " if room is None else "\n").join(values)
        rows.append((option, shown, format_source(setting.source, layout)))
        below.append([f"    {value}" for value in values] if too_long else [])
    aligned = align_rows(rows, limit=max(limit, *map(count_cells, options)), room=room)
    return [[*(f"  {line}" for line in lines), *more] for lines, more in zip(aligned, below, strict=True)]


def format_setting_value(value: OptionValue) -> str:
    """On one line."""
    return " ".join(_split_value(value))


def _split_value(value: OptionValue) -> Iterable[str]:
    if isinstance(value, bool):
        return (str(value).lower(),)
    return tuple(escape_invisible(str(each)) for each in (value if isinstance(value, tuple) else (value,)))


def format_source(source: Source, layout: TextLayout) -> str:
    """``recipe``, ``G4.52: why``, ``machine: why``."""
    why = dim(f": {layout(source.why)}") if source.why else ""
    return f"{_style_source(_source_name(source, layout), source)}{why}"


def _source_name(source: Source, layout: TextLayout) -> str:
    name = (
        ""
        if source.origin in (Origin.GUIDE, Origin.SD_SCRIPTS) and source.rule
        else layout(ORIGIN_LABELS[source.origin])
    )
    return " ".join(part for part in (name, escape_invisible(source.rule)) if part)


def _style_value(value: str, source: Source) -> str:
    return click.style(value, bold=True) if source.origin is Origin.RECIPE else value


def _style_source(name: str, source: Source) -> str:
    return click.style(name, fg=ORIGIN_COLORS[source.origin]) if ORIGIN_COLORS[source.origin] else dim(name)


def format_forecast(plan: Plan, layout: TextLayout) -> list[str]:
    """Blocks with an empty line between them, under one heading."""
    counted = plan.forecast
    blocks = (
        [line for said in _iter_step_lines(counted) for line in layout.paragraph(said, first="  ")],
        _target_table(counted, layout),
        _concept_table(plan, layout),
        _bucket_table(plan, layout),
        _file_table(counted, layout),
        layout.paragraph(_describe_time(counted.timing), first="  "),
    )
    lines = [line for block in blocks if block for line in ("", *block)]
    return [bold(layout(msg("Forecast"))), *lines[1:]]


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
            "{n} batch per step from each of {processes} processes, {samples} in all",
            "{n} batches per step from each of {processes} processes, {samples} in all",
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


def _target_table(counted: Forecast, layout: TextLayout) -> list[str]:
    """The plan's numbers next to the guide's."""
    if not counted.marks:
        return []
    head = (msg("compared with the guide"), msg("planned"), msg("guide"), "")
    rows = [
        (_measure_label(mark), f"{mark.planned:.1f}".removesuffix(".0"), str(mark.guide), style_rule_id(mark.rule))
        for mark in counted.marks
    ]
    return format_table([tuple(map(layout, head)), *((layout(name), *rest) for name, *rest in rows)], numbers=(1, 2))


def _measure_label(mark: GuideTarget) -> Message:
    return msg("times each image is seen") if mark.measure == "exposures" else msg("steps")


def _concept_table(plan: Plan, layout: TextLayout) -> list[str]:
    """A row for each concept; where it has several folders or resolutions, one for each of them below."""
    head = (msg("concept"), msg("images"), msg("repeats"), msg("samples"), msg("seen"))
    rows = list[tuple[str, ...]]()
    for share in plan.forecast.shares:
        title = msg("{title} (regularization)", title=share.title) if share.is_reg else literal(share.title)
        alone = len(share.folders) == 1
        rows.append(_share_row(layout(title), share, str(share.folders[0].num_repeats) if alone else "", layout))
        for part in () if alone else share.folders:
            size = format_size(plan.datasets[part.dataset].resolution)
            place = msg("{folder} at {size}", folder=part.folder, size=size)
            named = layout(place if len(plan.datasets) > 1 else literal(part.folder))
            rows.append(_share_row(f"  {named}", part, str(part.num_repeats), layout))
    return format_table([tuple(map(layout, head)), *rows], numbers=(1, 2, 3, 4))


def _share_row(name: str, share: ConceptShare | FolderShare, repeats: str, layout: TextLayout) -> tuple[str, ...]:
    images = _format_image_count(share.images, share.images_used, layout)
    seen = layout(msg("{times:.3g} times", times=share.exposures))
    return name, images, repeats, str(share.samples_per_epoch), seen


def _format_image_count(images: int, used: int, layout: TextLayout) -> str:
    return str(images) if used == images else layout(msg("{used} of {images}", used=used, images=images))


def _bucket_table(plan: Plan, layout: TextLayout) -> list[str]:
    """The buckets of each resolution."""
    counted = plan.forecast
    head = (msg("bucket"), msg("images"), msg("samples"), msg("batches"), msg("last batch"))
    lines = list[str]()
    for number, block in enumerate(plan.datasets):
        rows = [
            (f"{b.width}x{b.height}", str(b.pictures), str(b.samples), str(b.batches), layout(_describe_last_batch(b)))
            for b in counted.buckets
            if b.dataset == number
        ]
        if rows and len(plan.datasets) > 1:
            size = msg("at {size}", size=format_size(block.resolution))
            lines += ["", f"  {layout(size)}"] if lines else [f"  {layout(size)}"]
        lines += format_table([tuple(map(layout, head)), *rows], numbers=(1, 2, 3)) if rows else []
    lost = counted.underfilled
    return lines + (
        layout.paragraph(_describe_batch_cost(lost, counted), first="  ") if lost and lost.missing_samples else []
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


def _file_table(counted: Forecast, layout: TextLayout) -> list[str]:
    if not counted.saves:
        return []
    head = (msg("file"), msg("after step"), msg("epoch"), "")
    rows = [_save_row(save, layout) for save in counted.saves]
    if len(rows) > MAX_SAVES_SHOWN:
        left = len(rows) - MAX_SAVES_SHOWN
        more = layout(
            msg(
                "... {n} more",
                n=left,
            )
        )
        rows = [*rows[: MAX_SAVES_SHOWN // 2], (more, "", "", ""), *rows[-MAX_SAVES_SHOWN // 2 :]]
    lines = format_table([tuple(map(layout, head)), *rows], numbers=(1, 2))
    return lines + layout.paragraph(_describe_disk_use(counted.saves, counted.file_size), first="  ")


def _save_row(save: PlannedSave, layout: TextLayout) -> tuple[str, str, str, str]:
    epoch = "" if save.epoch is None else str(save.epoch)
    return layout(save.file), str(save.step), epoch, "" if save.kept else layout(msg("deleted later"))


def _describe_disk_use(saves: tuple[PlannedSave, ...], each: FileSize | None) -> Message:
    """How much disk the saves take."""
    kept = sum(save.kept for save in saves)
    if each is None:
        return nmsg(
            kept,
            "{n} file is kept (size unknown for this network)",
            "{n} files are kept (size unknown for this network)",
        )
    one = each.tensor_bytes + each.header_bytes
    return nmsg(
        kept,
        "{n} file of {one} is kept",
        "{n} files of {one} each are kept, {all} in total",
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


def plan_to_json(result: CheckResult) -> str:
    """As schemas/plan.schema.json has it."""
    import json

    from lorabake_schemas.check_report import FindingCounts, PlanReport  # slow to import, and text needs neither

    _, plan = result.planned()
    found = [finding.severity for finding in result.findings]
    counted = FindingCounts(
        errors=found.count(Severity.ERROR),
        warnings=found.count(Severity.WARNING),
        hints=found.count(Severity.HINT),
        ignored=len(result.ignored),
    )
    report = PlanReport.model_construct(**dict(plan), recipe=str(result.loaded.path), counts=counted)
    table = report.model_dump(mode="json")
    first = {name: table.pop(name) for name in ("version", "recipe")}
    return json.dumps(first | table, indent=2, ensure_ascii=False)
