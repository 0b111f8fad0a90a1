"""Two LoRA files side by side: equal, or how far apart, block by block."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from lorabake.commands.output.layout import TextLayout, bold, format_table
from lorabake_schemas.comparison import LoraComparison, MetadataDifference, TensorDistance
from lorabake_schemas.messages import Message, msg, nmsg

MAX_TENSOR_NAMES = 10  # of a list of tensors
MAX_VALUE_LENGTH = 40  # characters of a metadata value


def render_comparison(found: LoraComparison, page: TextLayout, *, as_json: bool) -> str:
    """JSON in full; as text what a person wants to know."""
    return found.model_dump_json(indent=2) if as_json else format_comparison(found, page)


def format_comparison(found: LoraComparison, page: TextLayout) -> str:
    head = [f"1  {page(found.first)}", f"2  {page(found.second)}"]
    parts = ["\n".join(head), bold(page(_describe_likeness(found)))]
    if found.whole.differing:
        parts.append("\n".join(_iter_block_lines(found, page)))
    if found.whole.not_finite:
        said = nmsg(
            found.whole.not_finite,
            "{n} number is NaN or infinite in only one file and is not counted above",
            "{n} numbers are NaN or infinite in only one file and are not counted above",
        )
        parts.append("\n".join(page.paragraph(said)))
    if found.unlike:
        rows = [
            (page(msg("different shape or type")), "1", "2"),
            *(tuple(map(page, (each.name, each.first, each.second))) for each in found.unlike),
        ]
        parts.append(
            "\n".join([*format_table(rows[: MAX_TENSOR_NAMES + 1]), *_iter_more_lines(len(found.unlike), page)])
        )
    for number, names in (("1", found.only_first), ("2", found.only_second)):
        if names:
            said = nmsg(len(names), "{n} tensor only in file {file}", "{n} tensors only in file {file}", file=number)
            shown = [f"  {page(name)}" for name in names[:MAX_TENSOR_NAMES]]
            parts.append("\n".join([page(said), *shown, *_iter_more_lines(len(names), page)]))
    if found.metadata:
        parts.append("\n".join(_metadata_table(found.metadata, page)))
    return "\n\n".join(parts)


def _describe_likeness(found: LoraComparison) -> Message:
    if found.likeness == "equal-bytes":
        return msg("identical byte for byte")
    if found.likeness == "equal-tensors":
        return nmsg(
            found.whole.tensors,
            "the tensor is equal, but the header differs",
            "all {n} tensors are equal, but the header differs",
        )
    if not found.whole.differing:
        return msg("the tensors in common are equal, but the files do not contain the same tensors")
    return nmsg(
        found.whole.tensors,
        "the tensor differs",
        "{differing} of {n} tensors differ",
        differing=found.whole.differing,
    )


def _iter_block_lines(found: LoraComparison, page: TextLayout) -> Iterable[str]:
    heading = tuple(
        map(page, (msg("block"), msg("tensors"), msg("differ"), msg("largest"), msg("mean"), msg("relative")))
    )
    rows = [heading, *(_block_row(page(block.block), block) for block in found.blocks)]
    if len(found.blocks) > 1:
        rows.append(_block_row(page(msg("all")), found.whole))
    yield from format_table(rows, numbers=range(1, 6))
    yield "  " + page(
        msg(
            "largest and mean are absolute differences; relative is the norm of the difference divided "
            "by the norm of file 1"
        )
    )


def _block_row(name: str, apart: TensorDistance) -> Sequence[str]:
    if not apart.differing:
        return (name, str(apart.tensors), "0", "0", "0", "0")
    relative = "-" if apart.relative is None else f"{apart.relative:.2g}"
    return (name, str(apart.tensors), str(apart.differing), f"{apart.largest:.3g}", f"{apart.mean:.3g}", relative)


def _metadata_table(changes: Sequence[MetadataDifference], page: TextLayout) -> Iterable[str]:
    rows = [(page(msg("metadata")), "1", "2")]
    rows += [(page(each.key), _shorten_value(each.first, page), _shorten_value(each.second, page)) for each in changes]
    return format_table(rows)


def _shorten_value(value: str | None, page: TextLayout) -> str:
    if value is None:
        return "-"
    text = page(" ".join(value.split()))
    return text if len(text) <= MAX_VALUE_LENGTH else f"{text[:MAX_VALUE_LENGTH]}..."


def _iter_more_lines(count: int, page: TextLayout) -> Iterable[str]:
    if count > MAX_TENSOR_NAMES:
        yield "  " + page(msg("and {n} more (list all with --json)", n=count - MAX_TENSOR_NAMES))
