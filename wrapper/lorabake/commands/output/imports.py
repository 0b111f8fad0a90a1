"""import: the recipe that was written, and what became of the keys of the file."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from lorabake.commands.output.findings import format_check_result
from lorabake.commands.output.layout import TextLayout, align_rows, bold, count_cells
from lorabake.commands.output.next_step import format_next_step
from lorabake.exchange.to_recipe import shorten_names
from lorabake_schemas.messages import Message, literal, msg, nmsg

if TYPE_CHECKING:
    from lorabake.analysis.check import CheckResult
    from lorabake_schemas.import_report import ImportedKey, ImportReport

# In the order in which they matter to a reader; the first ones are listed, the others counted.
LISTED_FATES = ("repaired", "dropped", "unknown")
COUNTED_FATES = ("taken", "renamed", "computed", "default", "off", "result")
FATE_WORDS: dict[str, Message] = {
    "repaired": msg("repaired"),
    "dropped": msg("dropped"),
    "unknown": msg("unknown"),
    "taken": msg("taken"),
    "renamed": msg("renamed"),
    "computed": msg("converted"),
    "default": msg("same as lorabake's default"),
    "off": msg("empty or off"),
    "result": msg("not settings"),
}
LENGTHS = ("train.max_train_epochs", "train.max_train_steps")  # one in place of the other: the reason has both
MAX_VALUE = 40  # characters of a value
MAX_KEY = 60  # columns of a key with its value
MERGED = 3  # keys with the same reason


def import_to_json(report: ImportReport) -> str:
    return report.model_dump_json(indent=2)


def format_import(
    report: ImportReport, examination: CheckResult, layout: TextLayout, here: Path, *, verbose: bool
) -> str:
    """The report in groups, then what the check finds."""
    said = msg("wrote {recipe} from {file}", recipe=report.recipe or "", file=report.source)
    lines = [layout(said), "", *_format_counts(report, layout)]
    fates = (*LISTED_FATES, *COUNTED_FATES) if verbose else LISTED_FATES
    for fate in fates:
        keys = [key for key in report.keys if key.fate == fate]
        as_trained = fate == "repaired" and report.faithful
        title = msg("as its program trained it, which was hardly meant") if as_trained else FATE_WORDS[fate]
        lines += _format_group(title, keys if verbose else _merge_keys(keys), layout)
    lines += _format_added([key for key in report.added if verbose or key.to], layout)
    missing = report.missing if verbose else [_shorten_names(key, layout) for key in report.missing]
    lines += _format_group(msg("to fill in or to check"), missing, layout)
    if not verbose:
        lines += ["", layout(msg("--keys shows every key, --json as data"))]
    found = format_check_result(examination, None, layout, here)
    return "\n".join([*lines, "", found, *format_next_step(examination, layout)])


def _format_counts(report: ImportReport, layout: TextLayout) -> Iterator[str]:
    counts = {fate: sum(key.fate == fate for key in report.keys) for fate in (*COUNTED_FATES, *LISTED_FATES)}
    parts = ", ".join(f"{count} {layout(FATE_WORDS[fate])}" for fate, count in counts.items() if count)
    total = len(report.keys)
    if total:
        yield from layout.paragraph(nmsg(total, "{n} key: {parts}", "{n} keys: {parts}", parts=literal(parts)))
    else:
        yield layout(msg("no keys"))


def _merge_keys(keys: Sequence[ImportedKey]) -> list[ImportedKey]:
    """Those that have nothing but the same reason in common as one line, where its first one is."""
    alike: dict[str, list[ImportedKey]] = {}
    for key in keys:
        mergeable = key.why and key.to is None and key.trained is None
        alike.setdefault(key.why if mergeable and key.why else f"{id(key)}", []).append(key)
    merged: list[ImportedKey] = []
    for group in alike.values():
        names = ", ".join(f"{key.key} = {_shorten(key.value)}" if key.value else key.key for key in group)
        merged += group if len(group) < MERGED else [group[0].model_copy(update={"key": names, "value": ""})]
    return merged


def _format_group(title: Message, keys: Sequence[ImportedKey], layout: TextLayout) -> Iterator[str]:
    """Keys in a column, reasons next to them; the reason of a long key is below it."""
    if not keys:
        return
    yield from ("", bold(layout(title)))
    rows = [(_format_key(key, layout), layout(_explain(key))) for key in keys]
    limit = MAX_KEY if layout.width is None else min(MAX_KEY, layout.width // 2)
    room = None if layout.width is None else layout.width - 2
    short = iter(align_rows([row for row in rows if count_cells(row[0]) <= limit], room=room))
    for key, why in rows:
        if count_cells(key) <= limit:
            yield from (f"  {line}" for line in next(short))
        else:
            yield from layout.paragraph(key, first="  ", rest="    ")
            if why:
                yield from layout.paragraph(why, first="    ", rest="    ")


def _format_added(keys: Sequence[ImportedKey], layout: TextLayout) -> Iterator[str]:
    """Keys that are not in the file, together with those of the same reason."""
    for why in dict.fromkeys(key.why or literal("") for key in keys):
        parts = [_format_added_key(key) for key in keys if (key.why or "") == why]
        yield from ("", bold(layout(msg("added: {why}", why=why))))
        yield from layout.paragraph(", ".join(parts), first="  ")


def _format_added_key(key: ImportedKey) -> str:
    name = (
        f"{key.to} {key.key}"
        if key.to and key.to.endswith("_args") and not key.to.endswith(key.key)
        else key.to or key.key
    )
    return f"{name} = {_shorten(key.value)}"


def _shorten_names(key: ImportedKey, layout: TextLayout) -> ImportedKey:
    return key.model_copy(update={"key": layout(shorten_names(key.key)), "to": None})


def _shorten(value: str) -> str:
    return value if len(value) <= MAX_VALUE else value[: MAX_VALUE - 3] + "..."


def _format_key(key: ImportedKey, layout: TextLayout) -> str:
    value = _shorten(key.value)
    text = layout(f"{key.key} = {value}" if value else key.key)
    return f"{text} {layout.arrow} {layout(key.to)}" if key.to and key.to != key.key else text


def _explain(key: ImportedKey) -> Message:
    why = key.why or literal("")
    if key.trained is not None and (key.trained or key.to not in LENGTHS):
        trained = key.trained or msg("nothing")
        return msg("{why} (really trained with: {trained})", why=why, trained=trained)
    return why
