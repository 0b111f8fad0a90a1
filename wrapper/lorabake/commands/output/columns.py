"""Tables of runs: columns that make room for each other on a narrow terminal, and a column for each setting."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lorabake.commands.output.layout import COLUMN_GAP, TextLayout, align_rows, count_cells, dim
from lorabake_schemas.messages import escape_invisible, msg

if TYPE_CHECKING:
    from pydantic import JsonValue

MAX_SETTING_LENGTH = 24  # of a setting's value
MAX_NAMED = 8  # of the settings without a column


@dataclass(frozen=True, slots=True, eq=False)
class Column:
    """``cells`` has one text for each row, below the title. ``setting`` is the key of the setting that it shows."""

    title: str
    cells: Sequence[str]
    is_number: bool = False
    setting: str = ""

    @property
    def width(self) -> int:
        return max(map(count_cells, (self.title, *self.cells)))


def make_setting_columns(rows: Sequence[Mapping[str, JsonValue]]) -> list[Column]:
    """One for each key. The title is without its table, unless two keys would have the same. A row shows "-" for None,
    and nothing without the key.
    """
    keys = dict.fromkeys(key for row in rows for key in row)
    names = Counter(key.rpartition(".")[2] for key in keys)
    columns: list[Column] = []
    for key in keys:
        name = key.rpartition(".")[2]
        cells = [_format_setting(row[key]) if key in row else "" for row in rows]
        is_number = all(isinstance(row.get(key), int | float | None) for row in rows)
        title = escape_invisible(name if names[name] == 1 else key)
        columns.append(Column(title, cells, is_number, setting=escape_invisible(key)))
    return columns


def _format_setting(value: JsonValue) -> str:
    """On one line, cut where it is long."""
    match value:
        case None:
            return "-"
        case bool():
            return str(value).lower()
        case list():
            text = ",".join(map(_format_setting, value))
        case _:
            text = escape_invisible(str(value))
    return text if len(text) <= MAX_SETTING_LENGTH else text[: MAX_SETTING_LENGTH - 1] + "…"


def format_columns(columns: Sequence[Column], dropped: Sequence[Column], page: TextLayout) -> list[str]:
    """A table without empty columns, and without the first of ``dropped`` that a narrow terminal has no room for. The
    settings that are missing are named.
    """
    widths = {column: column.width for column in columns if any(column.cells)}
    hidden = list[str]()
    for column in dropped:
        if page.width is None or sum(widths.values()) + COLUMN_GAP * (len(widths) - 1) <= page.width:
            break
        if widths.pop(column, None) is not None and column.setting:
            hidden.append(column.setting)
    lines = _draw_table(widths)
    if hidden:
        named = [*reversed(hidden)]
        settings = ", ".join(named[:MAX_NAMED]) + (" ..." if len(named) > MAX_NAMED else "")
        lines += page.paragraph(msg("no room for {settings} (--json has all)", settings=settings))
    return lines


def _draw_table(columns: Iterable[Column]) -> list[str]:
    shown = [*columns]
    rows = [[column.title for column in shown], *zip(*(column.cells for column in shown), strict=True)]
    numbers = [at for at, column in enumerate(shown) if column.is_number]
    head, *lines = ("\n".join(each) for each in align_rows(rows, numbers))
    return [dim(head), *lines]
