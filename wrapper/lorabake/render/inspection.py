"""What `lorabake inspect` prints: a file's page in groups. What a file holds is cut to a length and made legible."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Literal

import click

from lorabake.render.inspection_rows import Row, about, rows_of
from lorabake.render.page import Page, bold, cells, dim, file_size, padded, table
from lorabake_schemas.inspection import Dataset, FolderTags, Group, Inspection, InspectReport, KnownRun
from lorabake_schemas.words import Said, joined, quoted, say, told

LONGEST, LONGEST_NAME, LONGEST_WORD = 400, 40, 80  # characters of a value, its name, a tag; --json has all
TAGS, FOLDERS, DATASETS = 30, 40, 8  # so many of each are shown
HEADS: Mapping[Group, Said] = MappingProxyType(
    {
        "network": say("Network"),
        "base": say("Base model"),
        "training": say("Training"),
        "noise": say("Loss and noise"),
        "data": say("Pictures and captions"),
        "saving": say("Saving"),
        "other": say("Further metadata"),
    }
)


def inspection_json(report: InspectReport) -> str:
    """As schemas/inspect.schema.json has it."""
    return report.model_dump_json(indent=2)


def inspection_text(report: InspectReport, page: Page, here: Path) -> str:
    """A page for each file; runs that lie below ``here`` are named from there."""
    return "\n\n\n".join("\n".join(_file(file, page, here)) for file in report.files)


def _file(file: Inspection, page: Page, here: Path) -> Iterator[str]:
    yield bold(page(say("{file}: {what}", file=file.file, what=file.what)))
    yield from _size(file, page)
    yield from _marked(file.faults, say("fault:"), "red", page)
    yield from _marked(file.remarks, say("note:"), "yellow", page)
    groups: list[tuple[Said, list[Row]]] = [(say("About"), list(about(file)))]
    groups += [(head, rows_of(group, file, page)) for group, head in HEADS.items()]
    for head, rows in groups:
        if rows:
            yield from ("", bold(page(head)), *_rows(rows, page))
        if head == HEADS["data"]:
            for dataset in file.datasets[:DATASETS]:
                yield from _dataset(dataset, page)
            yield from _more(len(file.datasets) - DATASETS, page)
            yield from _tags(file.tags, page)
    yield from _machine(file, page, here)


def _size(file: Inspection, page: Page) -> Iterator[str]:
    if file.size is None or file.network is None:
        return
    formats = ", ".join(file.network.formats)
    yield from page.paragraph(
        say(
            "{size}; {tensors} with {numbers:,} numbers in {formats}",
            size=file_size(file.size),
            tensors=told(file.network.tensors, "{n} tensor", "{n} tensors"),
            numbers=file.network.numbers,
            formats=formats,
        ),
        first="  ",
    )


def _marked(said: Iterable[Said], mark: Said, colour: str, page: Page) -> Iterator[str]:
    for words in said:
        yield from page.paragraph(words, first=f"  {click.style(page(mark), fg=colour)} ", rest="    ")


def _rows(rows: Sequence[Row], page: Page) -> Iterator[str]:
    """Names in a column, values beside them."""
    names = [page(name[:LONGEST_NAME]) for name, _ in rows]
    wide = max(map(cells, names))
    for name, (_, value) in zip(names, rows, strict=True):
        first = f"  {padded(name, wide)}  "
        yield from page.paragraph(_cut(value), first=first, rest=" " * (wide + 4))


def _cut(value: str) -> str:
    """A value as one line of a length that a person reads."""
    text = quoted(value)
    if len(text) <= LONGEST:
        return text
    return say("{start}… ({n} characters)", start=text[:LONGEST], n=len(text))


def _dataset(dataset: Dataset, page: Page) -> Iterator[str]:
    yield ""
    if dataset.width and dataset.height:
        size = say("{width}x{height}", width=dataset.width, height=dataset.height)
        batch = say("batches of {n}", n=dataset.batch_size or 1)
        samples = told(dataset.samples or 0, "{n} sample an epoch", "{n} samples an epoch")
        yield from page.paragraph(joined([size, batch, samples]), first="  ")
    head = (say("folder"), say("pictures"), say("repeats"))
    rows = [
        (
            page(folder.name[:LONGEST_WORD]),
            str(folder.pictures if folder.pictures is not None else "?"),
            str(folder.repeats if folder.repeats is not None else "?"),
        )
        for folder in dataset.folders[:FOLDERS]
    ]
    if rows:
        yield from table([tuple(map(page, head)), *rows], numbers=(1, 2))
    for folder, row in zip(dataset.folders, rows, strict=False):
        if told_of := _options(folder.options, folder.class_tokens, reg=folder.regularisation):
            yield from page.paragraph(
                say("{folder}: {options}", folder=row[0], options=told_of), first="  ", rest="    "
            )
    yield from _more(len(dataset.folders) - FOLDERS, page)
    if dataset.buckets:
        shown = [f"{each.width}x{each.height} {each.pictures}" for each in dataset.buckets[:FOLDERS]]
        yield from page.paragraph(say("buckets: {buckets}", buckets=", ".join(shown)), first="  ", rest="    ")
        yield from _more(len(dataset.buckets) - FOLDERS, page)


def _options(options: Mapping[str, object], tokens: str | None, *, reg: bool) -> Said:
    said = [say("regularisation")] if reg else []
    said += [quoted(name if value is True else f"{name} = {value}"[:LONGEST_WORD]) for name, value in options.items()]
    if tokens:
        said.append(quoted(f"class_tokens = {tokens[:LONGEST_WORD]}"))
    return joined(said)


def _tags(folders: Sequence[FolderTags], page: Page) -> Iterator[str]:
    """The most frequent ones of each folder."""
    for each in folders[:FOLDERS]:
        head = told(len(each.tags), "{n} tag in {folder}", "{n} tags in {folder}", folder=each.folder[:LONGEST_WORD])
        yield from ("", f"  {bold(page(head))}")
        shown = [f"{tag.tag[:LONGEST_WORD]} {tag.count}" for tag in each.tags[:TAGS]]
        yield from page.paragraph(", ".join(shown), first="    ")
        yield from _more(len(each.tags) - TAGS, page, indent="    ")
    yield from _more(len(folders) - FOLDERS, page)


def _more(left: int, page: Page, indent: str = "  ") -> Iterator[str]:
    if left > 0:
        yield dim(indent + page(told(left, "... {n} more", "... {n} more")))


BY: Mapping[Literal["digest", "bytes", "place"], Said] = MappingProxyType(
    {
        "digest": say("the digest in its comment"),
        "bytes": say("its SHA-256"),
        "place": say("its place"),
    }
)


def _machine(file: Inspection, page: Page, here: Path) -> Iterator[str]:
    """The run that the file comes from, and what can be done with it."""
    if file.kind not in {"lora", "pickle"}:
        return
    yield from ("", bold(page(say("On this machine"))))
    if not file.runs:
        yield from page.paragraph(_unknown(file), first="  ")
        return
    run, *others = file.runs
    folder, *beside = (_from_here(each.folder, here) for each in file.runs)
    typed = shlex.quote(folder)
    rows: list[Row] = [
        (page(say("run")), page(_run(run, folder))),
        (page(say("this file")), page(_likeness(run))),
        (page(say("recipe")), f"{folder}/recipe.toml"),
        (page(say("go on")), f"lorabake verify {typed}"),
        ("", f"lorabake rerun {typed}"),
        *(("", f"lorabake diff {typed} {shlex.quote(other)}") for other in beside[:1]),
        *((page(say("also")), page(_run(other, place))) for other, place in zip(others, beside, strict=True)),
    ]
    yield from _rows(rows, page)


def _unknown(file: Inspection) -> Said:
    if file.digest:
        return say("no run with this digest is known here: it was made elsewhere, or its folder was moved away")
    if file.integrity is None or file.integrity.file is None:
        return say("no run is known that it comes from; --deep asks for its SHA-256, too")
    return say("no run is known that it comes from")


def _from_here(folder: str, here: Path) -> str:
    path = Path(folder)
    return str(path.relative_to(here)) if path != here and path.is_relative_to(here) else folder


def _run(run: KnownRun, folder: str) -> Said:
    return say(
        "{folder}, {status}, begun {time}; known by {what}",
        folder=folder,
        status=run.status,
        time=run.started,
        what=BY[run.known_by],
    )


def _likeness(run: KnownRun) -> Said:
    output = run.output or ""
    match run.likeness:
        case "bytes":
            return say("byte for byte its {file}", file=output)
        case "tensors":
            return say("the same tensors as its {file}; the metadata were changed since", file=output)
        case "not-compared":
            return say("as large as its {file}, not compared: --deep does", file=output)
        case "differs":
            return say("none of the files that the run left: changed since, or one that was deleted again")


__all__ = ["inspection_json", "inspection_text"]
