"""Two LoRA files side by side: equal, or how far apart, block by block."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from lorabake.render.page import Page, bold, table
from lorabake_schemas.comparison import Apart, Comparison, MetadataDifference
from lorabake_schemas.words import Said, say, told

NAMES_SHOWN = 10  # of a list of tensors
VALUE_SHOWN = 40  # signs of a value of the metadata


def comparison(found: Comparison, page: Page, *, as_json: bool) -> str:
    """JSON in full; as text what a person wants to know."""
    return found.model_dump_json(indent=2) if as_json else comparison_text(found, page)


def comparison_text(found: Comparison, page: Page) -> str:
    head = [f"1  {page(found.first)}", f"2  {page(found.second)}"]
    parts = ["\n".join(head), bold(page(_verdict(found)))]
    if found.whole.differing:
        parts.append("\n".join(_blocks(found, page)))
    if found.whole.not_finite:
        said = told(
            found.whole.not_finite,
            "{n} number is NaN or infinite in one of them only, and not counted above",
            "{n} numbers are NaN or infinite in one of them only, and not counted above",
        )
        parts.append("\n".join(page.paragraph(said)))
    if found.unlike:
        rows = [
            (page(say("other form")), "1", "2"),
            *(tuple(map(page, (each.name, each.first, each.second))) for each in found.unlike),
        ]
        parts.append("\n".join([*table(rows[: NAMES_SHOWN + 1]), *_more(len(found.unlike), page)]))
    for number, names in (("1", found.only_first), ("2", found.only_second)):
        if names:
            said = told(len(names), "{n} tensor only in {file}", "{n} tensors only in {file}", file=number)
            shown = [f"  {page(name)}" for name in names[:NAMES_SHOWN]]
            parts.append("\n".join([page(said), *shown, *_more(len(names), page)]))
    if found.metadata:
        parts.append("\n".join(_metadata(found.metadata, page)))
    return "\n\n".join(parts)


def _verdict(found: Comparison) -> Said:
    if found.likeness == "equal-bytes":
        return say("equal to the byte")
    if found.likeness == "equal-tensors":
        return told(
            found.whole.tensors,
            "the tensor is equal, the header is not",
            "all {n} tensors are equal, the header is not",
        )
    if not found.whole.differing:
        return say("what both hold is equal, but one holds what the other does not")
    return told(
        found.whole.tensors,
        "the tensor differs",
        "{differing} of {n} tensors differ",
        differing=found.whole.differing,
    )


def _blocks(found: Comparison, page: Page) -> Iterable[str]:
    heading = tuple(
        map(page, (say("block"), say("tensors"), say("differ"), say("largest"), say("mean"), say("relative")))
    )
    rows = [heading, *(_row(page(block.block), block) for block in found.blocks)]
    if len(found.blocks) > 1:
        rows.append(_row(page(say("all")), found.whole))
    yield from table(rows, numbers=range(1, 6))
    yield "  " + page(
        say("largest, mean: of the absolute differences; relative: the length of all, as a share of file 1's")
    )


def _row(name: str, apart: Apart) -> Sequence[str]:
    if not apart.differing:
        return (name, str(apart.tensors), "0", "0", "0", "0")
    relative = "-" if apart.relative is None else f"{apart.relative:.2g}"
    return (name, str(apart.tensors), str(apart.differing), f"{apart.largest:.3g}", f"{apart.mean:.3g}", relative)


def _metadata(changes: Sequence[MetadataDifference], page: Page) -> Iterable[str]:
    rows = [(page(say("metadata")), "1", "2")]
    rows += [(page(each.key), _value(each.first, page), _value(each.second, page)) for each in changes]
    return table(rows)


def _value(value: str | None, page: Page) -> str:
    if value is None:
        return "-"
    text = page(" ".join(value.split()))
    return text if len(text) <= VALUE_SHOWN else f"{text[:VALUE_SHOWN]}..."


def _more(count: int, page: Page) -> Iterable[str]:
    if count > NAMES_SHOWN:
        yield "  " + page(say("and {n} more; --json names all", n=count - NAMES_SHOWN))


__all__ = ["comparison", "comparison_text"]
