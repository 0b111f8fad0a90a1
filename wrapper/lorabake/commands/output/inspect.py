"""What `lorabake inspect` prints: a file's page in groups. What a file contains is cut to a length, --json has all."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import click

from lorabake.commands.output.layout import TextLayout, bold, count_cells, format_file_size, pad_text
from lorabake.lora.metadata import parse_own_comment
from lorabake_schemas.families.registry import list_family_names
from lorabake_schemas.inspection import (
    BaseModelInfo,
    DatasetInfo,
    Inspection,
    InspectReport,
    KnownRun,
    LoraNetwork,
    MetadataGroup,
)
from lorabake_schemas.messages import Message, join_list, msg, nmsg

Row = tuple[str, str]
MAX_VALUE_LENGTH, MAX_NAME_LENGTH, MAX_OPTION_LENGTH = 400, 40, 80  # characters of a value, its name, an option
MAX_FOLDERS, MAX_DATASETS, MAX_ROW_ITEMS = 40, 8, 40  # so many of each are shown; of blocks or ranks in a row
GROUP_HEADINGS: Mapping[MetadataGroup, Message] = {
    "network": msg("Network"),
    "base": msg("Base model"),
    "training": msg("Training"),
    "noise": msg("Loss and noise"),
    "data": msg("Images and captions"),
    "saving": msg("Saving"),
    "other": msg("Other metadata"),
}
PART_LABELS: Mapping[str, Message] = {
    "te": msg("text encoder"),
    "te1": msg("text encoder 1"),
    "te2": msg("text encoder 2"),
    "te3": msg("text encoder 3"),
    "unet": msg("UNet"),
}
INTEGRITY_LABELS: Mapping[str, Message] = {
    "same": msg("tensors match the hash stored in the file (sshs_model_hash)"),
    "changed": msg("tensors do not match the hash stored in the file (sshs_model_hash)"),
    "no-hash": msg("no hash is stored in the file"),
    "not-comparable": msg("unknown (LyCORIS hashes them in an order that the file does not keep)"),
    "not-read": msg("not read because the file is large (use --deep)"),
}
KNOWN_BY_LABELS: Mapping[str, Message] = {"digest": msg("the digest in its comment"), "place": msg("its path")}
ABOUT_ORDER = (
    "title", "author", "description", "license", "tags", "usage_hint", "trigger_phrase", "merged_from", "date",
    "architecture", "resolution", "prediction_type",
)  # fmt: skip
# Meaningless without another value.
REQUIRED_VALUES: Mapping[str, str] = {
    "huber_c": "huber", "huber_schedule": "huber", "huber_scale": "huber",
    "multires_noise_discount": "multires_noise_iterations",
}  # fmt: skip


def inspection_to_json(report: InspectReport) -> str:
    """As schemas/inspect.schema.json has it."""
    return report.model_dump_json(indent=2)


def format_inspection(report: InspectReport, page: TextLayout, here: Path) -> str:
    """A page for each file; runs below ``here`` are named from there."""
    return "\n\n\n".join("\n".join(_iter_file_lines(file, page, here)) for file in report.files)


def _iter_file_lines(file: Inspection, page: TextLayout, here: Path) -> Iterator[str]:
    yield bold(page(msg("{file}: {what}", file=file.file, what=file.what)))
    if file.size is not None and file.network is not None:
        yield from page.paragraph(_describe_size(file.size, file.network), first="  ")
    for notes, mark, color in ((file.faults, msg("problem:"), "red"), (file.remarks, msg("note:"), "yellow")):
        for said in notes:
            yield from page.paragraph(said, first=f"  {click.style(page(mark), fg=color)} ", rest="    ")
    yield from _iter_section(msg("About"), _iter_about_rows(file), page)
    for group, heading in GROUP_HEADINGS.items():
        yield from _iter_section(heading, _iter_group_rows(group, file), page)
    if file.kind in {"lora", "pickle"}:
        rows = (*_iter_run_rows(file, here), *_iter_import_rows(file))
        yield from _iter_section(msg("On this machine"), rows, page)


def _describe_size(size: int, network: LoraNetwork) -> Message:
    return msg(
        "{size}; {tensors} with {numbers:,} numbers in {formats}",
        size=format_file_size(size),
        tensors=nmsg(network.tensors, "{n} tensor", "{n} tensors"),
        numbers=network.numbers,
        formats=", ".join(network.formats),
    )


def _iter_section(heading: Message, rows: Iterable[Row], page: TextLayout) -> Iterator[str]:
    """Names in a column, values next to them; nothing without rows."""
    named = [(page(name)[:MAX_NAME_LENGTH], value) for name, value in rows]
    if named:
        yield from ("", bold(page(heading)))
    wide = max((count_cells(name) for name, _ in named), default=0)
    for name, value in named:
        text = value
        if len(value) > MAX_VALUE_LENGTH:
            text = msg("{start}… ({n} characters)", start=value[:MAX_VALUE_LENGTH], n=len(value))
        yield from page.paragraph(text, first=f"  {pad_text(name, wide)}  ", rest=" " * (wide + 4))


def _iter_about_rows(file: Inspection) -> Iterator[Row]:
    """ModelSpec's keys, the most informative first, then the recipe's own comment."""
    order = {name: number for number, name in enumerate(ABOUT_ORDER)}
    for name, value in sorted(file.about.items(), key=lambda each: (order.get(each[0], len(order)), each[0])):
        if name not in {"sai_model_spec", "implementation"}:
            yield name, msg("an image") if value.startswith("data:") else value
    if file.comment and (own := parse_own_comment(file.comment)):
        yield "comment", own
    if file.digest:
        yield "digest", file.digest


def _iter_group_rows(group: MetadataGroup, file: Inspection) -> Iterator[Row]:
    if group == "network" and file.network:
        yield from _iter_network_rows(file.network)
    if group == "base" and file.base:
        yield from _iter_base_rows(file.base)
    if group == "data":
        for dataset in file.datasets[:MAX_DATASETS]:
            yield from _iter_dataset_rows(dataset)
        yield from _iter_more_rows(len(file.datasets) - MAX_DATASETS)
    if group == "saving":
        yield from _iter_saving_rows(file)
    given = {value.name: value.value for value in file.values}
    for value in file.values:
        needed = REQUIRED_VALUES.get(value.name)
        is_used = needed is None or needed in given or needed == given.get("loss_type")
        if value.group == group and value.value and is_used:  # what is off is not worth a line
            yield value.name, "true" if value.value is True else str(value.value)


def _iter_network_rows(network: LoraNetwork) -> Iterator[Row]:
    yield msg("modules"), ", ".join(f"{name} {count}" for name, count in network.algorithms.items())
    for part in network.parts:
        where = ", ".join(_merge_ranges(part.blocks)[:MAX_ROW_ITEMS])
        said = nmsg(part.modules, "{n} module in {where}", "{n} modules in {where}", where=where)
        yield PART_LABELS.get(part.name, part.name), said
    ranks = [
        nmsg(each.modules, "{rank} in {n} convolution", "{rank} in {n} convolutions", rank=each.rank)
        if each.conv
        else nmsg(each.modules, "{rank} in {n} layer", "{rank} in {n} layers", rank=each.rank)
        for each in network.ranks
    ]
    alphas = [msg("{alpha} in {n}", alpha=alpha, n=count) for alpha, count in network.alphas.items()]
    for name, found in ((msg("dim"), ranks), (msg("alpha"), alphas)):
        if found:
            yield name, join_list(found[:MAX_ROW_ITEMS])


def _merge_ranges(blocks: Iterable[str]) -> list[str]:
    """``down_blocks.0-2`` for three that follow each other."""
    runs: list[tuple[str, int, int]] = []
    for block in blocks:
        name, _, digits = block.partition(".")
        number = int(digits or -1)
        if runs and number >= 0 and (runs[-1][0], runs[-1][2] + 1) == (name, number):
            runs[-1] = (name, runs[-1][1], number)
        else:
            runs.append((name, number, number))
    return [
        name if first < 0 else f"{name}.{first}" if first == last else f"{name}.{first}-{last}"
        for name, first, last in runs
    ]


def _iter_base_rows(base: BaseModelInfo) -> Iterator[Row]:
    if base.name:
        yield "sd_model_name", base.name
    if base.version:
        yield "base_model_version", base.version
    if base.sha256:
        yield "new_sd_model_hash", msg("{hash} (SHA-256 of the file)", hash=base.sha256)
    if base.is_folder:
        yield "sd_model_hash", msg("none (the base model was a folder, which sd-scripts does not hash)")
    elif base.short_hash:
        yield (
            "sd_model_hash",
            msg("{hash} (of 64 KiB after the first MiB, as used by older programs)", hash=base.short_hash),
        )
    if base.vae:
        yield "vae_name", base.vae
    if base.vae_sha256:
        yield "new_vae_hash", base.vae_sha256


def _iter_saving_rows(file: Inspection) -> Iterator[Row]:
    if file.started:
        yield "training_started_at", file.started
    if file.finished:
        took = msg("{time}, after {minutes:.1f} minutes", time=file.finished, minutes=(file.seconds or 0) / 60)
        yield "training_finished_at", took if file.seconds else file.finished
    if file.integrity and file.kind == "lora":
        yield msg("tensors"), INTEGRITY_LABELS[file.integrity.verdict]
        if file.integrity.not_finite == ():
            yield msg("numbers"), msg("all are finite")
    if file.integrity and file.integrity.file:
        yield "SHA-256", file.integrity.file


def _iter_dataset_rows(dataset: DatasetInfo) -> Iterator[Row]:
    size: list[Message] = []
    if dataset.width and dataset.height:
        size = [msg("{width}x{height}", width=dataset.width, height=dataset.height)]
    batch = msg("batch size {n}", n=dataset.batch_size or 1)
    samples = nmsg(dataset.samples or 0, "{n} sample per epoch", "{n} samples per epoch")
    yield msg("dataset"), join_list([*size, batch, samples])
    for folder in dataset.folders[:MAX_FOLDERS]:
        counts: dict[str, object] = {"img_count": folder.pictures, "num_repeats": folder.repeats}
        reg = {"is_reg": True} if folder.regularization else {}
        options = {**counts, **reg, **folder.options, "class_tokens": folder.class_tokens}
        shown = (name if value is True else f"{name} = {value}" for name, value in options.items() if value is not None)
        yield folder.name, ", ".join(each[:MAX_OPTION_LENGTH] for each in shown)
    yield from _iter_more_rows(len(dataset.folders) - MAX_FOLDERS)


def _iter_more_rows(left: int) -> Iterator[Row]:
    if left > 0:
        yield "", msg("and {n} more (list all with --json)", n=left)


def _iter_run_rows(file: Inspection, here: Path) -> Iterator[Row]:
    """The run that the file comes from, and what can be done with it."""
    folders = [_relative_folder(each.folder, here) for each in file.runs]
    if not folders:
        unknown = msg("the run that made it was not found")
        if file.digest:
            unknown = msg(
                "no run with this digest was found on this machine; it was made elsewhere or its folder was moved"
            )
        yield msg("run"), unknown
        return
    first, *others = (shlex.quote(folder) for folder in folders)
    yield msg("run"), _describe_run(file.runs[0], folders[0])
    yield msg("this file"), _describe_likeness(file.runs[0])
    yield msg("recipe"), f"{folders[0]}/recipe.toml"
    yield msg("next"), f"lorabake verify {first}"
    yield "", f"lorabake rerun {first}"
    if others:
        yield "", f"lorabake diff {first} {others[0]}"
    for run, folder in zip(file.runs[1:], folders[1:], strict=True):
        yield msg("also"), _describe_run(run, folder)


def _iter_import_rows(file: Inspection) -> Iterator[Row]:
    """How to get a recipe, of a LoRA that can be trained again."""
    if file.kind == "lora" and file.family in list_family_names():
        yield msg("to a recipe"), f"lorabake import {shlex.quote(file.file)}"


def _relative_folder(folder: str, here: Path) -> str:
    path = Path(folder)
    return str(path.relative_to(here)) if path != here and path.is_relative_to(here) else folder


def _describe_run(run: KnownRun, folder: str) -> Message:
    return msg(
        "{folder}, {status}, started {time}; identified by {what}",
        folder=folder,
        status=run.status,
        time=run.started,
        what=KNOWN_BY_LABELS[run.known_by],
    )


def _describe_likeness(run: KnownRun) -> Message:
    output = run.output or ""
    match run.likeness:
        case "bytes":
            return msg("identical byte for byte to {file} of this run", file=output)
        case "tensors":
            return msg("same tensors as {file} of this run, but the metadata were changed later", file=output)
        case "not-compared":
            return msg("same size as {file} of this run, not compared (use --deep)", file=output)
        case "differs":
            return msg("not one of the files left by this run; it was changed later, or the run deleted the original")
