"""Two plans compared: what differs, and nothing else."""

from __future__ import annotations

import click

from lorabake.analysis.diff import FORECAST_COUNTS, diff_plans
from lorabake.commands.output.diff import COUNT_LABELS, format_plan_diff
from lorabake.commands.output.layout import TextLayout
from lorabake_schemas.check_report import PlanDifference
from lorabake_schemas.plan import FileSize, Forecast, TimeEstimate
from situations import concept, plan_of, recipe

PAGE = TextLayout()


def between(one: dict[str, object], other: dict[str, object]) -> PlanDifference:
    return diff_plans(plan_of(recipe(**one)), plan_of(recipe(**other)), ("a.toml", "b.toml"))  # type: ignore[arg-type]


def test_a_plan_does_not_differ_from_itself() -> None:
    found = between({}, {})
    assert found.same
    assert click.unstyle(format_plan_diff(found, PAGE)) == "--- a.toml\n+++ b.toml\nthe plans are the same"


def test_what_differs_is_told_with_both_sources() -> None:
    found = between({}, {"network": {"network_dim": 8}})
    [dim] = [change for change in found.settings if change.option == "network_dim"]
    assert dim.here is not None
    assert dim.there is not None
    assert (dim.table, dim.here.value, dim.here.source.rule) == ("train", 32, "G4.70")
    assert (dim.there.value, dim.there.source.origin) == (8, "recipe")
    rows = click.unstyle(format_plan_diff(found, PAGE)).splitlines()
    assert rows[rows.index("  network_dim") + 1 :][:2] == ["    - 32  G4.70", "    + 8  recipe"]


def test_the_same_value_from_another_source_is_no_difference() -> None:
    assert between({}, {"network": {"network_dim": 32}}).settings == ()


def test_an_integer_is_not_a_float() -> None:
    """sd-scripts takes what the TOML says: it reads 1 as a number of steps and 1.0 as a share of them (S4)."""
    found = between({"kohya": {"lr_decay_steps": 1}}, {"kohya": {"lr_decay_steps": 1.0}})
    assert [change.option for change in found.settings] == ["lr_decay_steps"]


def test_how_it_is_launched_and_what_is_sampled_count_too() -> None:
    found = between({"launch": {"num_processes": 2}}, {"sample": {"prompts": ["a lamp"]}})
    tables = {change.option: (change.table, change.here and change.here.value) for change in found.settings}
    assert tables["num_processes"] == ("launch", 2)
    assert tables["prompts"] == ("samples", None)
    rows = click.unstyle(format_plan_diff(found, PAGE)).splitlines()
    assert {"Launch", "Sample images"} <= set(rows)


def test_what_one_plan_does_not_have_is_null() -> None:
    found = between({}, {"network": {"type": "locon"}})
    sides = {change.option: (change.here is None, change.there is None) for change in found.settings}
    assert sides["network_args"] == (True, False)
    assert sides["network_dropout"] == (False, True)


def test_concepts_are_held_together_by_their_place() -> None:
    one = {"concepts": [concept("a", "x")]}
    two = {"concepts": [concept("b", "x"), concept("c", "y")]}
    found = between({**one}, {**two})
    tables = {change.table for change in found.settings}
    assert {"a", "c"} <= tables
    assert "b" not in tables
    assert [c.option for c in found.settings if c.table == "a"] == ["class_tokens"]
    assert all(change.here is None for change in found.settings if change.table == "c")


def test_numbers_of_the_forecast() -> None:
    found = between({}, {"train": {"max_train_epochs": 7}})
    counts = {(change.name, change.subject): (change.here, change.there) for change in found.forecast}
    assert counts["epochs", ""] == (100, 7)
    assert counts["steps", ""] == (3000, 210)
    assert counts["exposures", "hmbrgrlora"] == (100, 7)
    assert ("train_samples", "") not in counts
    text = click.unstyle(format_plan_diff(found, PAGE))
    assert [row.split() for row in text.splitlines() if row.startswith("  steps  ")] == [["steps", "3000", "210"]]


def test_buckets_that_one_side_lacks() -> None:
    found = between({}, {"train": {"resolution": 512}})
    buckets = [(c.subject, c.here, c.there) for c in found.forecast if c.name == "bucket_samples"]
    assert buckets == [("768x768", 30, None), ("512x512", None, 30)]
    rows = [row.split() for row in click.unstyle(format_plan_diff(found, PAGE)).splitlines()]
    assert ["samples", "in", "the", "bucket,", "512x512", "-", "30"] in rows


def test_time_and_size_where_they_are_known() -> None:
    plan = plan_of(recipe())
    size = FileSize(tensors=1, tensor_bytes=100, header_bytes=10)
    times = TimeEstimate(step_low=1, step_high=2, low=3000, high=6000.5, runs=("r",), steps_measured=9)
    known = plan.forecast.model_copy(update={"file_size": size, "timing": times})
    found = diff_plans(plan.model_copy(update={"forecast": known}), plan, ("a", "b"))
    assert {(c.name, c.here, c.there) for c in found.forecast} == {
        ("file_bytes", 110, None), ("seconds_low", 3000, None), ("seconds_high", 6000.5, None),
    }  # fmt: skip
    rows = [row.split()[-3:] for row in click.unstyle(format_plan_diff(found, PAGE)).splitlines()]
    assert ["1:40", "h", "-"] in rows


def test_every_number_has_a_name() -> None:
    found = between({"regularization": [{"class": "food", "images": "r"}]}, {"train": {"resolution": 512}})
    assert {change.name for change in found.forecast} <= set(COUNT_LABELS)
    assert set(FORECAST_COUNTS) <= set(COUNT_LABELS) & set(Forecast.model_fields)
