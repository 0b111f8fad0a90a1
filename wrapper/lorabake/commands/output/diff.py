"""What two plans or runs do not share, side by side."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from string import hexdigits
from types import MappingProxyType

import click

from lorabake.analysis.diff import FORECAST_TIMES, VALUE_LABELS
from lorabake.analysis.differences import MODEL_LABELS
from lorabake.commands.output.layout import (
    TextLayout,
    bold,
    count_cells,
    format_duration,
    format_table,
    wrap_text,
)
from lorabake.commands.output.plan import format_setting_value, format_source
from lorabake_schemas.check_report import (
    CountDifference,
    DataDifference,
    PlanDifference,
    SettingDifference,
    SideValue,
    ValueDifference,
)
from lorabake_schemas.messages import Message, escape_invisible, literal, msg
from lorabake_schemas.record import InputRole
from lorabake_schemas.run_table import RunTable

NAME_OPTION = "output_name"  # left out where the name of each run has it
MAX_VALUE_WIDTH = 24  # of a value in a table of runs on a terminal
MAX_FILES = 20  # files of a folder that are named
DIGITS_SHOWN, COMMIT_LENGTH = 12, 40  # digits of a digest that are shown, and how many a commit has

TABLE_LABELS: Mapping[str, Message] = MappingProxyType(
    {
        "train": msg("Settings"),
        "dataset": msg("Images and captions"),
        "launch": msg("Launch"),
        "samples": msg("Sample images"),
    }
)
COUNT_LABELS: Mapping[str, Message] = MappingProxyType(
    {
        "steps": msg("steps"),
        "epochs": msg("epochs"),
        "steps_per_epoch": msg("steps per epoch"),
        "batches_per_epoch": msg("batches per epoch"),
        "train_samples": msg("samples per epoch"),
        "reg_samples": msg("regularization samples per epoch"),
        "warmup_steps": msg("warm-up steps"),
        "files": msg("files"),
        "file_bytes": msg("bytes per file"),
        "seconds_low": msg("minimum time"),
        "seconds_high": msg("maximum time"),
        "samples_per_epoch": msg("samples per epoch"),
        "exposures": msg("times each image is seen"),
        "bucket_samples": msg("samples in the bucket"),
    }
)


def format_plan_diff(found: PlanDifference, page: TextLayout) -> str:
    """``-`` is what was asked about, ``+`` the other one, as in a diff from the one to the other."""
    head = [_style_removed(f"--- {page(found.here)}"), _style_added(f"+++ {page(found.there)}")]
    if found.same:
        return "\n".join([*head, *_iter_same_lines(found, page)])
    parts = ["\n".join(head)]
    for name in dict.fromkeys(change.table for change in found.settings):
        changes = [change for change in found.settings if change.table == name]
        parts.append("\n".join([bold(page(TABLE_LABELS.get(name, name))), *_iter_setting_changes(changes, page)]))
    if found.forecast:
        parts.append("\n".join([bold(page(msg("Forecast"))), *_count_table(found.forecast, page)]))
    if found.data:
        parts.append("\n".join([bold(page(msg("Images, captions and models"))), *iter_data_lines(found.data, page)]))
    parts += _iter_value_tables(found, page)
    parts += _iter_digest_lines(found, page)
    return "\n\n".join(parts)


def format_run_table(found: RunTable, page: TextLayout) -> str:
    """How the runs ended, and the settings that are not the same in all of them: a column for each run. A narrow
    terminal gets several tables, one below the other.
    """
    names = _name_runs([page(literal(run.name)) for run in found.runs])
    rows = [("", *names)]
    facts = (
        (msg("status"), [page(literal(run.status or "")) for run in found.runs]),
        (msg("steps"), ["" if run.steps is None else str(run.steps) for run in found.runs]),
        (msg("final loss"), [_format_final_loss(run.loss) for run in found.runs]),
        (msg("duration"), ["" if run.seconds is None else format_duration(run.seconds) for run in found.runs]),
    )
    rows += [(page(name), *cells) for name, cells in facts if any(cells)]
    for row in found.rows:
        if row.option == NAME_OPTION and all(str(each) in name for each, name in zip(row.values, names, strict=True)):
            continue
        name = row.option if row.table == "train" else f"{page(TABLE_LABELS.get(row.table, row.table))}: {row.option}"
        rows.append((page(name), *("-" if value is None else format_setting_value(value) for value in row.values)))
    if page.width is not None:
        rows = [(name, *("\n".join(wrap_text(cell, MAX_VALUE_WIDTH)) for cell in cells)) for name, *cells in rows]
    tables = ["\n".join(format_table(part, indent="")) for part in _split_columns(rows, page.width)]
    same = "" if found.rows else "\n" + page(msg("the settings are the same"))
    return "\n\n".join(tables) + same


def _name_runs(names: Sequence[str]) -> list[str]:
    """Without the folder that all of them are in."""
    folder = names[0].rpartition("/")[0]
    same = all(name.rpartition("/")[0] == folder for name in names)
    return [name.rpartition("/")[2] for name in names] if same else [*names]


def _split_columns(rows: Sequence[Sequence[str]], width: int | None) -> list[list[list[str]]]:
    """The table in parts that fit, each with the names of the rows; a part has at least one column."""
    columns = zip(*rows, strict=True)
    sizes = [max(count_cells(line) for cell in column for line in cell.split("\n")) for column in columns]
    parts, used = list[list[int]](), 0
    for at, size in enumerate(sizes[1:], 1):
        if not parts or (width is not None and used + size + 2 > width):
            parts.append([0])
            used = sizes[0]
        parts[-1].append(at)
        used += size + 2
    return [[[row[at] for at in part] for row in rows] for part in parts]


def _format_final_loss(loss: float | str | None) -> str:
    return "" if loss is None else loss if isinstance(loss, str) else f"{loss:.4g}"


def plan_diff_to_json(found: PlanDifference) -> str:
    return json.dumps(found.model_dump(mode="json"), indent=2, ensure_ascii=False)


def _iter_same_lines(found: PlanDifference, page: TextLayout) -> Iterator[str]:
    if found.data is None and found.outcome is None:
        yield page(msg("the plans are the same"))
        return
    yield page(msg("no differences"))
    for took in found.outcome or ():
        yield page(msg("(one took {here}, the other {there})", here=took.here or "?", there=took.there or "?"))


def _iter_value_tables(found: PlanDifference, page: TextLayout) -> Iterator[str]:
    parts = ((msg("Trainer"), found.trainer), (msg("Machine"), found.machine), (msg("Outcome"), found.outcome))
    for name, changes in parts:
        if changes:
            rows = [("", "-", "+"), *(_value_row(each, page) for each in changes)]
            yield "\n".join([bold(page(name)), *format_table(rows)])


def _value_row(each: ValueDifference, page: TextLayout) -> tuple[str, str, str]:
    name = page(VALUE_LABELS.get(each.name, each.name))
    return name, _shorten_digest(each.here), _shorten_digest(each.there)


def _shorten_digest(value: str | None) -> str:
    """A digest by its first digits."""
    if value is None:
        return "-"
    return (
        f"{value[:DIGITS_SHOWN]}…"
        if len(value) >= COMMIT_LENGTH and set(value) <= set(hexdigits)
        else escape_invisible(value)
    )


def _iter_digest_lines(found: PlanDifference, page: TextLayout) -> Iterator[str]:
    """What the digests of two runs show."""
    if found.digests is not None:
        here, there = found.digests
        same = msg("the digests are equal, so settings, data, models and trainer are the same")
        yield page(same if here == there else msg("the digests differ, so these are two different trainings"))


def _iter_setting_changes(changes: Iterable[SettingDifference], page: TextLayout) -> Iterable[str]:
    for change in changes:
        yield f"  {page(change.option)}"
        if change.here is not None:
            yield _style_removed(f"    - {_format_side(change.here, page)}")
        if change.there is not None:
            yield _style_added(f"    + {_format_side(change.there, page)}")


def iter_data_lines(changes: Sequence[DataDifference], page: TextLayout) -> Iterator[str]:
    """Folder by folder, and model by model; of many files the first ones."""
    places: dict[tuple[InputRole, int, str], list[DataDifference]] = {}
    for each in changes:
        places.setdefault((each.what, each.index, each.where), []).append(each)
    for (role, _, where), mine in places.items():
        other = msg("caches in {folder}", folder=where) if role == "caches" else where
        yield f"  {page(MODEL_LABELS.get(role) or other)}"
        for each in mine[:MAX_FILES]:
            yield from _iter_file_lines(each, page)
        if len(mine) > MAX_FILES:
            yield "    " + page(msg("and {n} more (list all with --json)", n=len(mine) - MAX_FILES))


def _iter_file_lines(each: DataDifference, page: TextLayout) -> Iterator[str]:
    name, there = page(literal(each.name)), page(literal(each.name_there or each.name))
    if each.here is None:
        yield _style_added(f"    + {there}")
    elif each.there is None:
        yield _style_removed(f"    - {name}")
    elif each.here == each.there:
        yield "    " + page(
            msg("{name} is named {there} in the other one", name=each.name, there=each.name_there or each.name)
        )
    elif each.what in MODEL_LABELS and each.where == each.name:
        yield _style_removed(f"    - {name}  SHA-256 {_shorten_digest(each.here)}")
        yield _style_added(f"    + {there}  SHA-256 {_shorten_digest(each.there)}")
    else:
        yield "    " + page(msg("{name} differs", name=each.name))


def _format_side(side: SideValue, page: TextLayout) -> str:
    return f"{format_setting_value(side.value)}  {click.unstyle(format_source(side.source, page))}"


def _count_table(changes: Iterable[CountDifference], page: TextLayout) -> Iterable[str]:
    rows = [("", "-", "+")]
    for change in changes:
        name = page(COUNT_LABELS[change.name]) + (f", {page(change.subject)}" if change.subject else "")
        shown = format_duration if change.name in FORECAST_TIMES else _format_number
        rows.append((name, shown(change.here), shown(change.there)))
    return format_table(rows, numbers=(1, 2))


def _format_number(value: float | None) -> str:
    return "-" if value is None else f"{value:.10g}"


def _style_removed(text: str) -> str:
    return click.style(text, fg="red")


def _style_added(text: str) -> str:
    return click.style(text, fg="green")
