"""What `lorabake inspect` prints: a file's page in groups. What a file contains is cut to a length, --json has all."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType

import click

from lorabake.commands.output.layout import TextLayout, bold, count_cells, dim, format_file_size, format_table, pad_text
from lorabake.lora.metadata import parse_own_comment
from lorabake_schemas.inspection import (
    DatasetInfo,
    FolderInfo,
    Inspection,
    InspectReport,
    KnownRun,
    LoraNetwork,
    MetadataGroup,
    MetadataValue,
)
from lorabake_schemas.messages import Message, join_list, literal, msg, nmsg

Row = tuple[str, str]
MAX_VALUE_LENGTH, MAX_NAME_LENGTH, MAX_FOLDER_LENGTH = 400, 40, 80  # characters of a value, its name, a folder
MAX_FOLDERS, MAX_DATASETS, MAX_ROW_ITEMS = 40, 8, 40  # so many of each are shown; of blocks or ranks in a row
GROUP_HEADINGS: Mapping[MetadataGroup, Message] = MappingProxyType(
    {
        "network": msg("Network"),
        "base": msg("Base model"),
        "training": msg("Training"),
        "noise": msg("Loss and noise"),
        "data": msg("Images and captions"),
        "saving": msg("Saving"),
        "other": msg("Other metadata"),
    }
)
PART_LABELS: Mapping[str, Message] = MappingProxyType(
    {
        "te": msg("text encoder"),
        "te1": msg("text encoder 1"),
        "te2": msg("text encoder 2"),
        "te3": msg("text encoder 3"),
        "unet": msg("UNet"),
    }
)
INTEGRITY_LABELS: Mapping[str, Message] = MappingProxyType(
    {
        "same": msg("tensors match the hash stored in the file (sshs_model_hash)"),
        "changed": msg("tensors do not match the hash stored in the file (sshs_model_hash)"),
        "no-hash": msg("no hash is stored in the file"),
        "not-comparable": msg("unknown (LyCORIS hashes them in an order that the file does not keep)"),
        "not-read": msg("not read because the file is large (use --deep)"),
    }
)
KNOWN_BY_LABELS: Mapping[str, Message] = MappingProxyType(
    {"digest": msg("the digest in its comment"), "place": msg("its path")}
)
ABOUT_ORDER = (
    "title", "author", "description", "license", "tags", "usage_hint", "trigger_phrase", "merged_from", "date",
    "architecture", "resolution", "prediction_type",
)  # fmt: skip
# What says nothing unless another value does.
REQUIRED_VALUES: Mapping[str, str] = MappingProxyType(
    {
        "huber_c": "huber", "huber_schedule": "huber", "huber_scale": "huber",
        "multires_noise_discount": "multires_noise_iterations",
    }
)  # fmt: skip


def inspection_to_json(report: InspectReport) -> str:
    """As schemas/inspect.schema.json has it."""
    return report.model_dump_json(indent=2)


def format_inspection(report: InspectReport, page: TextLayout, here: Path) -> str:
    """A page for each file; runs that lie below ``here`` are named from there."""
    return "\n\n\n".join("\n".join(_iter_file_lines(file, page, here)) for file in report.files)


def _iter_file_lines(file: Inspection, page: TextLayout, here: Path) -> Iterator[str]:
    yield bold(page(msg("{file}: {what}", file=file.file, what=file.what)))
    if file.size is not None and file.network is not None:
        size = msg(
            "{size}; {tensors} with {numbers:,} numbers in {formats}",
            size=format_file_size(file.size),
            tensors=nmsg(file.network.tensors, "{n} tensor", "{n} tensors"),
            numbers=file.network.numbers,
            formats=", ".join(file.network.formats),
        )
        yield from page.paragraph(size, first="  ")
    for notes, mark, color in ((file.faults, msg("problem:"), "red"), (file.remarks, msg("note:"), "yellow")):
        for said in notes:
            yield from page.paragraph(said, first=f"  {click.style(page(mark), fg=color)} ", rest="    ")
    yield from _iter_section_lines(msg("About"), _iter_about_rows(file), page)
    for group, heading in GROUP_HEADINGS.items():
        yield from _iter_section_lines(heading, _iter_group_rows(group, file, page), page)
        if group == "data":
            for dataset in file.datasets[:MAX_DATASETS]:
                yield from ("", *_iter_dataset_lines(dataset, page))
            yield from _iter_more_lines(len(file.datasets) - MAX_DATASETS, page)
    if file.kind in {"lora", "pickle"}:
        yield from _iter_section_lines(msg("On this machine"), _iter_run_rows(file, page, here), page)


def _iter_section_lines(heading: Message, rows: Iterable[Row], page: TextLayout) -> Iterator[str]:
    """Names in a column, values next to them; nothing where there are no rows."""
    named = [(page(name[:MAX_NAME_LENGTH]), value) for name, value in rows]
    if named:
        yield from ("", bold(page(heading)))
    wide = max((count_cells(name) for name, _ in named), default=0)
    for name, value in named:
        text = literal(value)
        if len(text) > MAX_VALUE_LENGTH:
            text = msg("{start}… ({n} characters)", start=text[:MAX_VALUE_LENGTH], n=len(text))
        yield from page.paragraph(text, first=f"  {pad_text(name, wide)}  ", rest=" " * (wide + 4))


def _iter_about_rows(file: Inspection) -> Iterator[Row]:
    """ModelSpec's keys, those that say the most first, then the recipe's own comment."""
    order = {name: number for number, name in enumerate(ABOUT_ORDER)}
    for name, value in sorted(file.about.items(), key=lambda each: (order.get(each[0], len(order)), each[0])):
        if name not in {"sai_model_spec", "implementation"}:
            yield name, msg("an image") if value.startswith("data:") else value
    if file.comment and (own := parse_own_comment(file.comment)):
        yield "comment", own
    if file.digest:
        yield "digest", file.digest


def _iter_group_rows(group: MetadataGroup, file: Inspection, page: TextLayout) -> Iterator[Row]:
    if group == "network" and file.network:
        yield from _iter_network_rows(file.network, page)
    if group == "base":
        yield from _iter_base_rows(file)
    if group == "saving":
        yield from _iter_saving_rows(file, page)
    for value in file.values:
        if value.group == group and _is_shown(value, file):
            yield value.name, "true" if value.value is True else str(value.value)


def _is_shown(value: MetadataValue, file: Inspection) -> bool:
    """Whether a value is worth a line: not what is off, and not what belongs to something that is off."""
    if value.value is False or value.value == 0:
        return False
    needed = REQUIRED_VALUES.get(value.name)
    return needed is None or any(
        each.name == needed or (each.name == "loss_type" and needed in str(each.value)) for each in file.values
    )


def _iter_network_rows(network: LoraNetwork, page: TextLayout) -> Iterator[Row]:
    yield page(msg("modules")), ", ".join(f"{name} {count}" for name, count in network.algorithms.items())
    for part in network.parts:
        where = ", ".join(_merge_ranges(part.blocks)[:MAX_ROW_ITEMS])
        said = nmsg(part.modules, "{n} module in {where}", "{n} modules in {where}", where=where)
        yield page(PART_LABELS.get(part.name, literal(part.name))), page(said)
    ranks = [
        nmsg(each.modules, "{rank} in {n} convolution", "{rank} in {n} convolutions", rank=each.rank)
        if each.conv
        else nmsg(each.modules, "{rank} in {n} layer", "{rank} in {n} layers", rank=each.rank)
        for each in network.ranks[:MAX_ROW_ITEMS]
    ]
    if ranks:
        yield page(msg("dim")), page(join_list(ranks))
    alphas = [msg("{alpha} in {n}", alpha=alpha, n=count) for alpha, count in network.alphas.items()][:MAX_ROW_ITEMS]
    if alphas:
        yield page(msg("alpha")), page(join_list(alphas))


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


def _iter_base_rows(file: Inspection) -> Iterator[Row]:
    base = file.base
    if base is None:
        return
    short: str | None = None
    if base.is_folder:
        short = msg("none (the base model was a folder, which sd-scripts does not hash)")
    elif base.short_hash:
        short = msg("{hash} (of 64 KiB after the first MiB, as used by older programs)", hash=base.short_hash)
    rows = {
        "sd_model_name": base.name,
        "base_model_version": base.version,
        "new_sd_model_hash": base.sha256 and msg("{hash} (SHA-256 of the file)", hash=base.sha256),
        "sd_model_hash": short,
        "vae_name": base.vae,
        "new_vae_hash": base.vae_sha256,
    }
    yield from ((name, value) for name, value in rows.items() if value)


def _iter_saving_rows(file: Inspection, page: TextLayout) -> Iterator[Row]:
    if file.started:
        yield "training_started_at", file.started
    if file.finished:
        took = msg("{time}, after {minutes:.1f} minutes", time=file.finished, minutes=(file.seconds or 0) / 60)
        yield "training_finished_at", page(took) if file.seconds else file.finished
    if file.integrity and file.kind == "lora":
        yield page(msg("tensors")), page(INTEGRITY_LABELS[file.integrity.verdict])
        if file.integrity.not_finite == ():
            yield page(msg("numbers")), page(msg("all are finite"))
    if file.integrity and file.integrity.file:
        yield "SHA-256", file.integrity.file


def _iter_dataset_lines(dataset: DatasetInfo, page: TextLayout) -> Iterator[str]:
    if dataset.width and dataset.height:
        size = msg("{width}x{height}", width=dataset.width, height=dataset.height)
        batch = msg("batch size {n}", n=dataset.batch_size or 1)
        samples = nmsg(dataset.samples or 0, "{n} sample per epoch", "{n} samples per epoch")
        yield from page.paragraph(join_list([size, batch, samples]), first="  ")
    shown = dataset.folders[:MAX_FOLDERS]
    counts = [["?" if each is None else str(each) for each in (folder.pictures, folder.repeats)] for folder in shown]
    names = [page(folder.name[:MAX_FOLDER_LENGTH]) for folder in shown]
    if shown:
        heading = [page(each) for each in (msg("folder"), msg("images"), msg("repeats"))]
        rows = [[name, *count] for name, count in zip(names, counts, strict=True)]
        yield from format_table([heading, *rows], numbers=(1, 2))
    for folder, name in zip(shown, names, strict=True):
        if options := _describe_options(folder):
            yield from page.paragraph(msg("{folder}: {options}", folder=name, options=options), first="  ", rest="    ")
    yield from _iter_more_lines(len(dataset.folders) - MAX_FOLDERS, page)


def _describe_options(folder: FolderInfo) -> Message:
    said = [msg("regularization")] if folder.regularization else []
    options = {**folder.options, **({"class_tokens": folder.class_tokens} if folder.class_tokens else {})}
    for name, value in options.items():
        said.append(literal(name if value is True else f"{name} = {value}"[:MAX_FOLDER_LENGTH]))
    return join_list(said)


def _iter_more_lines(left: int, page: TextLayout) -> Iterator[str]:
    if left > 0:
        yield dim(
            "  "
            + page(
                msg(
                    "... {n} more",
                    n=left,
                )
            )
        )


def _iter_run_rows(file: Inspection, page: TextLayout, here: Path) -> Iterator[Row]:
    """The run that the file comes from, and what can be done with it."""
    if not file.runs:
        unknown = msg("the run that made it was not found")
        if file.digest:
            unknown = msg(
                "no run with this digest was found on this machine; it was made elsewhere or its folder was moved"
            )
        yield page(msg("run")), page(unknown)
        return
    run, *others = file.runs
    folder, *beside = (_relative_folder(each.folder, here) for each in file.runs)
    typed = shlex.quote(folder)
    yield page(msg("run")), page(_describe_run(run, folder))
    yield page(msg("this file")), page(_describe_likeness(run))
    yield page(msg("recipe")), f"{folder}/recipe.toml"
    yield page(msg("next")), f"lorabake verify {typed}"
    yield "", f"lorabake rerun {typed}"
    if beside:
        yield "", f"lorabake diff {typed} {shlex.quote(beside[0])}"
    for other, place in zip(others, beside, strict=True):
        yield page(msg("also")), page(_describe_run(other, place))


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
