"""What two plans do not share, side by side."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType

import click

from lorabake.render.page import Page, bold, table
from lorabake.render.settings import source_text, value_text
from lorabake_schemas.report import CountDifference, PlanDifference, SettingDifference, SideValue
from lorabake_schemas.words import Said, say

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
        "seconds_low": say("seconds at least"),
        "seconds_high": say("seconds at most"),
        "samples_per_epoch": say("samples an epoch"),
        "exposures": say("times each picture is seen"),
        "bucket_samples": say("samples in the bucket"),
    }
)


def difference_text(found: PlanDifference, page: Page) -> str:
    """``-`` is the recipe asked about, ``+`` the other one, as in a diff from the one to the other."""
    head = [_minus(f"--- {found.here}"), _plus(f"+++ {found.there}")]
    if found.same:
        return "\n".join([*head, page(say("the plans are the same"))])
    parts = ["\n".join(head)]
    for name in dict.fromkeys(change.table for change in found.settings):
        changes = [change for change in found.settings if change.table == name]
        parts.append("\n".join([bold(_table_name(name, page)), *_changes(changes, page)]))
    if found.forecast:
        parts.append("\n".join([bold(page(say("Forecast"))), *_counts(found.forecast, page)]))
    return "\n\n".join(parts)


def _table_name(name: str, page: Page) -> str:
    match name:
        case "train":
            return page(say("Settings"))
        case "dataset":
            return page(say("Pictures and captions"))
        case _:
            return name


def _changes(changes: Iterable[SettingDifference], page: Page) -> Iterable[str]:
    for change in changes:
        yield f"  {change.option}"
        if change.here is not None:
            yield _minus(f"    - {_side(change.here, page)}")
        if change.there is not None:
            yield _plus(f"    + {_side(change.there, page)}")


def _side(side: SideValue, page: Page) -> str:
    return f"{value_text(side.value)}  {click.unstyle(source_text(side.source, page))}"


def _counts(changes: Iterable[CountDifference], page: Page) -> Iterable[str]:
    rows = [("", "-", "+")]
    for change in changes:
        name = page(NAMES[change.name]) + (f", {change.subject}" if change.subject else "")
        rows.append((name, _number(change.here), _number(change.there)))
    return table(rows, numbers=(1, 2))


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.10g}"


def _minus(text: str) -> str:
    return click.style(text, fg="red")


def _plus(text: str) -> str:
    return click.style(text, fg="green")


__all__ = ["difference_text"]
