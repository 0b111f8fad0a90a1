"""What two plans or runs do not share, side by side."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from string import hexdigits
from types import MappingProxyType

import click

from lorabake.planning.difference import TIMES
from lorabake.planning.drift import WHAT
from lorabake.render.page import Page, bold, table
from lorabake.render.settings import source_text, value_text
from lorabake.terminal import duration
from lorabake_schemas.record import Role
from lorabake_schemas.report import (
    TOOK,
    CountDifference,
    DataDifference,
    PlanDifference,
    SettingDifference,
    SideValue,
    ValueDifference,
)
from lorabake_schemas.words import Said, quoted, say, told, visible

MOST = 20  # files of a folder that are named
SHOWN, COMMIT = 12, 40  # digits of a digest that are shown, and how many a commit has

NAMES: Mapping[str, Said] = MappingProxyType(
    {
        "steps": say("steps"),
        "epochs": say("epochs"),
        "steps_per_epoch": say("steps an epoch"),
        "batches_per_epoch": say("batches an epoch"),
        "train_samples": say("samples an epoch"),
        "reg_samples": say("regularisation samples an epoch"),
        "warmup_steps": say("warm-up steps"),
        "files": say("files"),
        "file_bytes": say("bytes of each file"),
        "seconds_low": say("time at least"),
        "seconds_high": say("time at most"),
        "samples_per_epoch": say("samples an epoch"),
        "exposures": say("times each picture is seen"),
        "bucket_samples": say("samples in the bucket"),
    }
)
# What planning.run_difference calls a value of two runs; packages and files have names of their own.
VALUES: Mapping[str, Said] = MappingProxyType(
    {
        "files of sd-scripts": say("files of sd-scripts"),
        "packages": say("packages"),
        "system": say("system"),
        "memory": say("memory"),
        "status": say("status"),
        "verdict": say("verdict"),
        "steps": say("steps"),
        TOOK: say("took"),
    }
)


def difference_text(found: PlanDifference, page: Page) -> str:
    """``-`` is what was asked about, ``+`` the other one, as in a diff from the one to the other."""
    head = [_minus(f"--- {page(found.here)}"), _plus(f"+++ {page(found.there)}")]
    if found.same:
        return "\n".join([*head, *_all_the_same(found, page)])
    parts = ["\n".join(head)]
    for name in dict.fromkeys(change.table for change in found.settings):
        changes = [change for change in found.settings if change.table == name]
        parts.append("\n".join([bold(_table_name(name, page)), *_changes(changes, page)]))
    if found.forecast:
        parts.append("\n".join([bold(page(say("Forecast"))), *_counts(found.forecast, page)]))
    if found.data:
        parts.append("\n".join([bold(page(say("Pictures, captions and models"))), *data_lines(found.data, page)]))
    parts += _values(found, page)
    parts += _digests(found, page)
    return "\n\n".join(parts)


def difference_json(found: PlanDifference) -> str:
    return json.dumps(found.model_dump(mode="json"), indent=2, ensure_ascii=False)


def _all_the_same(found: PlanDifference, page: Page) -> Iterator[str]:
    if found.data is None and found.outcome is None:
        yield page(say("the plans are the same"))
        return
    yield page(say("nothing differs"))
    for took in found.outcome or ():
        yield page(say("(one took {here}, the other {there})", here=took.here or "?", there=took.there or "?"))


def _values(found: PlanDifference, page: Page) -> Iterator[str]:
    parts = ((say("Trainer"), found.trainer), (say("Machine"), found.machine), (say("Outcome"), found.outcome))
    for name, changes in parts:
        if changes:
            rows = [("", "-", "+"), *(_value_row(each, page) for each in changes)]
            yield "\n".join([bold(page(name)), *table(rows)])


def _value_row(each: ValueDifference, page: Page) -> tuple[str, str, str]:
    name = page(VALUES.get(each.name, each.name))
    return name, _short(each.here), _short(each.there)


def _short(value: str | None) -> str:
    """A digest by its first digits."""
    if value is None:
        return "-"
    return f"{value[:SHOWN]}…" if len(value) >= COMMIT and set(value) <= set(hexdigits) else visible(value)


def _digests(found: PlanDifference, page: Page) -> Iterator[str]:
    """What two runs' digests say."""
    if found.digests is not None:
        here, there = found.digests
        same = say("the digests are equal: settings, data, models and trainer are the same")
        yield page(same if here == there else say("the digests differ: these are two different trainings"))


def _table_name(name: str, page: Page) -> str:
    match name:
        case "train":
            return page(say("Settings"))
        case "dataset":
            return page(say("Pictures and captions"))
        case "launch":
            return page(say("Launch"))
        case "samples":
            return page(say("Sample pictures"))
        case _:
            return page(name)


def _changes(changes: Iterable[SettingDifference], page: Page) -> Iterable[str]:
    for change in changes:
        yield f"  {page(change.option)}"
        if change.here is not None:
            yield _minus(f"    - {_side(change.here, page)}")
        if change.there is not None:
            yield _plus(f"    + {_side(change.there, page)}")


def data_lines(changes: Sequence[DataDifference], page: Page) -> Iterator[str]:
    """Folder by folder, and model by model; of many files the first ones."""
    places: dict[tuple[Role, int, str], list[DataDifference]] = {}
    for each in changes:
        places.setdefault((each.what, each.index, each.where), []).append(each)
    for (role, _, where), mine in places.items():
        yield f"  {page(WHAT.get(role) or (say('caches of {folder}', folder=where) if role == 'caches' else where))}"
        for each in mine[:MOST]:
            yield from _file(each, page)
        if len(mine) > MOST:
            yield f"    {page(told(len(mine) - MOST, 'and {n} more', 'and {n} more'))}"


def _file(each: DataDifference, page: Page) -> Iterator[str]:
    name, there = page(quoted(each.name)), page(quoted(each.name_there or each.name))
    if each.here is None:
        yield _plus(f"    + {there}")
    elif each.there is None:
        yield _minus(f"    - {name}")
    elif each.here == each.there:
        yield f"    {page(say('{name} is named {there} there', name=each.name, there=each.name_there or each.name))}"
    elif each.what in WHAT and each.where == each.name:
        yield _minus(f"    - {name}  SHA-256 {_short(each.here)}")
        yield _plus(f"    + {there}  SHA-256 {_short(each.there)}")
    else:
        yield f"    {page(say('{name} differs', name=each.name))}"


def _side(side: SideValue, page: Page) -> str:
    return f"{value_text(side.value)}  {click.unstyle(source_text(side.source, page))}"


def _counts(changes: Iterable[CountDifference], page: Page) -> Iterable[str]:
    rows = [("", "-", "+")]
    for change in changes:
        name = page(NAMES[change.name]) + (f", {page(change.subject)}" if change.subject else "")
        shown = duration if change.name in TIMES else _number
        rows.append((name, shown(change.here), shown(change.there)))
    return table(rows, numbers=(1, 2))


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.10g}"


def _minus(text: str) -> str:
    return click.style(text, fg="red")


def _plus(text: str) -> str:
    return click.style(text, fg="green")


__all__ = ["data_lines", "difference_json", "difference_text"]
