"""What `lorabake inspect` prints: a file's page in groups. What a file holds is cut to a length and made legible."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Literal

import click

from lorabake.commands.output.inspect_rows import Row, iter_about_rows, list_group_rows
from lorabake.commands.output.layout import TextLayout, bold, count_cells, dim, format_file_size, format_table, pad_text
from lorabake_schemas.inspection import DatasetInfo, FolderTagCounts, Inspection, InspectReport, KnownRun, MetadataGroup
from lorabake_schemas.messages import Message, join_list, literal, msg, nmsg

MAX_VALUE_LENGTH, MAX_NAME_LENGTH, MAX_TAG_LENGTH = (
    400,
    40,
    80,
)  # characters of a value, its name, a tag; --json has all
MAX_TAGS, MAX_FOLDERS, MAX_DATASETS = 30, 40, 8  # so many of each are shown
GROUP_HEADINGS: Mapping[MetadataGroup, Message] = MappingProxyType(
    {
        "network": msg("Network"),
        "base": msg("Base model"),
        "training": msg("Training"),
        "noise": msg("Loss and noise"),
        "data": msg("Pictures and captions"),
        "saving": msg("Saving"),
        "other": msg("Further metadata"),
    }
)


def inspection_to_json(report: InspectReport) -> str:
    """As schemas/inspect.schema.json has it."""
    return report.model_dump_json(indent=2)


def format_inspection(report: InspectReport, page: TextLayout, here: Path) -> str:
    """A page for each file; runs that lie below ``here`` are named from there."""
    return "\n\n\n".join("\n".join(_iter_file_lines(file, page, here)) for file in report.files)


def _iter_file_lines(file: Inspection, page: TextLayout, here: Path) -> Iterator[str]:
    yield bold(page(msg("{file}: {what}", file=file.file, what=file.what)))
    yield from _iter_size_lines(file, page)
    yield from _iter_note_lines(file.faults, msg("fault:"), "red", page)
    yield from _iter_note_lines(file.remarks, msg("note:"), "yellow", page)
    groups: list[tuple[Message, list[Row]]] = [(msg("About"), list(iter_about_rows(file)))]
    groups += [(head, list_group_rows(group, file, page)) for group, head in GROUP_HEADINGS.items()]
    for head, rows in groups:
        if rows:
            yield from ("", bold(page(head)), *_iter_row_lines(rows, page))
        if head == GROUP_HEADINGS["data"]:
            for dataset in file.datasets[:MAX_DATASETS]:
                yield from _iter_dataset_lines(dataset, page)
            yield from _iter_more_lines(len(file.datasets) - MAX_DATASETS, page)
            yield from _iter_tag_lines(file.tags, page)
    yield from _iter_run_lines(file, page, here)


def _iter_size_lines(file: Inspection, page: TextLayout) -> Iterator[str]:
    if file.size is None or file.network is None:
        return
    formats = ", ".join(file.network.formats)
    yield from page.paragraph(
        msg(
            "{size}; {tensors} with {numbers:,} numbers in {formats}",
            size=format_file_size(file.size),
            tensors=nmsg(file.network.tensors, "{n} tensor", "{n} tensors"),
            numbers=file.network.numbers,
            formats=formats,
        ),
        first="  ",
    )


def _iter_note_lines(said: Iterable[Message], mark: Message, colour: str, page: TextLayout) -> Iterator[str]:
    for words in said:
        yield from page.paragraph(words, first=f"  {click.style(page(mark), fg=colour)} ", rest="    ")


def _iter_row_lines(rows: Sequence[Row], page: TextLayout) -> Iterator[str]:
    """Names in a column, values beside them."""
    names = [page(name[:MAX_NAME_LENGTH]) for name, _ in rows]
    wide = max(map(count_cells, names))
    for name, (_, value) in zip(names, rows, strict=True):
        first = f"  {pad_text(name, wide)}  "
        yield from page.paragraph(_shorten_value(value), first=first, rest=" " * (wide + 4))


def _shorten_value(value: str) -> str:
    """A value as one line of a length that a person reads."""
    text = literal(value)
    if len(text) <= MAX_VALUE_LENGTH:
        return text
    return msg("{start}… ({n} characters)", start=text[:MAX_VALUE_LENGTH], n=len(text))


def _iter_dataset_lines(dataset: DatasetInfo, page: TextLayout) -> Iterator[str]:
    yield ""
    if dataset.width and dataset.height:
        size = msg("{width}x{height}", width=dataset.width, height=dataset.height)
        batch = msg("batches of {n}", n=dataset.batch_size or 1)
        samples = nmsg(dataset.samples or 0, "{n} sample an epoch", "{n} samples an epoch")
        yield from page.paragraph(join_list([size, batch, samples]), first="  ")
    head = (msg("folder"), msg("pictures"), msg("repeats"))
    rows = [
        (
            page(folder.name[:MAX_TAG_LENGTH]),
            str(folder.pictures if folder.pictures is not None else "?"),
            str(folder.repeats if folder.repeats is not None else "?"),
        )
        for folder in dataset.folders[:MAX_FOLDERS]
    ]
    if rows:
        yield from format_table([tuple(map(page, head)), *rows], numbers=(1, 2))
    for folder, row in zip(dataset.folders, rows, strict=False):
        if told_of := _describe_options(folder.options, folder.class_tokens, reg=folder.regularization):
            yield from page.paragraph(
                msg("{folder}: {options}", folder=row[0], options=told_of), first="  ", rest="    "
            )
    yield from _iter_more_lines(len(dataset.folders) - MAX_FOLDERS, page)
    if dataset.buckets:
        shown = [f"{each.width}x{each.height} {each.pictures}" for each in dataset.buckets[:MAX_FOLDERS]]
        yield from page.paragraph(msg("buckets: {buckets}", buckets=", ".join(shown)), first="  ", rest="    ")
        yield from _iter_more_lines(len(dataset.buckets) - MAX_FOLDERS, page)


def _describe_options(options: Mapping[str, object], tokens: str | None, *, reg: bool) -> Message:
    said = [msg("regularization")] if reg else []
    said += [
        literal(name if value is True else f"{name} = {value}"[:MAX_TAG_LENGTH]) for name, value in options.items()
    ]
    if tokens:
        said.append(literal(f"class_tokens = {tokens[:MAX_TAG_LENGTH]}"))
    return join_list(said)


def _iter_tag_lines(folders: Sequence[FolderTagCounts], page: TextLayout) -> Iterator[str]:
    """The most frequent ones of each folder."""
    for each in folders[:MAX_FOLDERS]:
        head = nmsg(len(each.tags), "{n} tag in {folder}", "{n} tags in {folder}", folder=each.folder[:MAX_TAG_LENGTH])
        yield from ("", f"  {bold(page(head))}")
        shown = [f"{tag.tag[:MAX_TAG_LENGTH]} {tag.count}" for tag in each.tags[:MAX_TAGS]]
        yield from page.paragraph(", ".join(shown), first="    ")
        yield from _iter_more_lines(len(each.tags) - MAX_TAGS, page, indent="    ")
    yield from _iter_more_lines(len(folders) - MAX_FOLDERS, page)


def _iter_more_lines(left: int, page: TextLayout, indent: str = "  ") -> Iterator[str]:
    if left > 0:
        yield dim(indent + page(nmsg(left, "... {n} more", "... {n} more")))


KNOWN_BY_LABELS: Mapping[Literal["digest", "bytes", "place"], Message] = MappingProxyType(
    {
        "digest": msg("the digest in its comment"),
        "bytes": msg("its SHA-256"),
        "place": msg("its place"),
    }
)


def _iter_run_lines(file: Inspection, page: TextLayout, here: Path) -> Iterator[str]:
    """The run that the file comes from, and what can be done with it."""
    if file.kind not in {"lora", "pickle"}:
        return
    yield from ("", bold(page(msg("On this machine"))))
    if not file.runs:
        yield from page.paragraph(_describe_unknown_run(file), first="  ")
        return
    run, *others = file.runs
    folder, *beside = (_relative_folder(each.folder, here) for each in file.runs)
    typed = shlex.quote(folder)
    rows: list[Row] = [
        (page(msg("run")), page(_describe_run(run, folder))),
        (page(msg("this file")), page(_describe_likeness(run))),
        (page(msg("recipe")), f"{folder}/recipe.toml"),
        (page(msg("go on")), f"lorabake verify {typed}"),
        ("", f"lorabake rerun {typed}"),
        *(("", f"lorabake diff {typed} {shlex.quote(other)}") for other in beside[:1]),
        *((page(msg("also")), page(_describe_run(other, place))) for other, place in zip(others, beside, strict=True)),
    ]
    yield from _iter_row_lines(rows, page)


def _describe_unknown_run(file: Inspection) -> Message:
    if file.digest:
        return msg("no run with this digest is known here: it was made elsewhere, or its folder was moved away")
    if file.integrity is None or file.integrity.file is None:
        return msg("no run is known that it comes from; --deep asks for its SHA-256, too")
    return msg("no run is known that it comes from")


def _relative_folder(folder: str, here: Path) -> str:
    path = Path(folder)
    return str(path.relative_to(here)) if path != here and path.is_relative_to(here) else folder


def _describe_run(run: KnownRun, folder: str) -> Message:
    return msg(
        "{folder}, {status}, begun {time}; known by {what}",
        folder=folder,
        status=run.status,
        time=run.started,
        what=KNOWN_BY_LABELS[run.known_by],
    )


def _describe_likeness(run: KnownRun) -> Message:
    output = run.output or ""
    match run.likeness:
        case "bytes":
            return msg("byte for byte its {file}", file=output)
        case "tensors":
            return msg("the same tensors as its {file}; the metadata were changed since", file=output)
        case "not-compared":
            return msg("as large as its {file}, not compared: --deep does", file=output)
        case "differs":
            return msg("none of the files that the run left: changed since, or one that was deleted again")
