"""A plan as people read it: groups of settings with their sources, then what will happen."""

from __future__ import annotations

import json
import tomllib
from itertools import chain
from pathlib import Path

import click
import pytest

from lorabake.analysis.check import check_recipe
from lorabake.commands.output.findings import format_finding_counts
from lorabake.commands.output.layout import TextLayout
from lorabake.commands.output.plan import (
    GROUP_LABELS,
    OPTIONS_BY_GROUP,
    find_group,
    format_plan,
    format_plan_page,
    plan_to_json,
)
from lorabake.util import resources
from lorabake_schemas.check_report import PlanReport
from lorabake_schemas.recipe import Recipe
from situations import GPU, plan_of, project, recipe

PIPE, SCREEN = TextLayout(), TextLayout(width=80)


def plain(text: str) -> str:
    return click.unstyle(text)


def test_a_plan_names_every_setting_with_its_source() -> None:
    plan = plan_of(recipe(regularization=[{"class": "food", "images": "reg"}], train={"seed": 7}))
    text = plain(format_plan(plan, PIPE))
    rows = {row.split()[0]: row.split() for row in text.splitlines() if row.startswith("  ")}
    for setting in (*plan.train, *plan.datasets[0].settings):
        assert setting.option in rows
    assert rows["seed"][1:] == ["7", "recipe"]
    assert rows["network_dim"][1:] == ["32", "G4.70"]
    assert rows["enable_bucket"][1] == "true"
    assert "concept hmbrgrlora, 30 images" in text
    assert "regularization food, 30 images" in text
    assert text.splitlines()[0] == "hmbrgrlora: sd15, train_network.py"


def test_settings_stand_in_groups() -> None:
    rows = plain(
        format_plan(plan_of(recipe(kohya={"ip_noise_gamma": 0.1}, validation={"validation_split": 0.1})), PIPE)
    ).splitlines()
    heads = [row for row in rows if row and not row.startswith(" ")][1:]
    assert heads == [*GROUP_LABELS.values(), "Forecast"]
    assert rows[rows.index("Other sd-scripts options") + 1].split() == ["ip_noise_gamma", "0.1", "recipe"]


def test_every_setting_that_is_decided_has_its_group() -> None:
    """Only what comes through [kohya] has none."""
    options: set[str] = set()
    for name in resources.list_recipe_names():
        shipped = Recipe.model_validate(tomllib.loads(resources.read_recipe_text(name)))
        options |= {setting.option for setting in plan_of(shipped).train} - set(shipped.kohya)
    assert len(options) > 30
    assert {option for option in options if find_group(option) == "kohya"} == set()


def test_no_option_has_two_groups_and_all_are_sd_scripts_own() -> None:
    every = list(chain.from_iterable(OPTIONS_BY_GROUP.values()))
    assert len(every) == len(set(every))
    scripts = ("train_network.py", "sdxl_train_network.py")
    known = {option.name for script in scripts for option in resources.load_script_options(script)}
    assert set(every) <= known


@pytest.mark.parametrize("width", [60, 80, 100, 200])
def test_on_a_terminal_every_line_fits_and_no_word_is_lost(width: int) -> None:
    plan = plan_of(recipe(network={"type": "lokr"}))
    rows = plain(format_plan(plan, TextLayout(width=width))).splitlines()
    assert [row for row in rows if len(row) > max(width, 66)] == []
    said = " ".join(" ".join(rows).split())
    for setting in (*plan.train, *plan.datasets[0].settings):
        values = setting.value if isinstance(setting.value, tuple) else ()
        assert all(str(value) in said for value in values)


def test_a_list_stands_one_below_the_other_on_a_terminal() -> None:
    plan = plan_of(recipe(train={"optimizer": "Prodigy"}))
    rows = plain(format_plan(plan, SCREEN)).splitlines()
    at = next(number for number, row in enumerate(rows) if "optimizer_args" in row)
    assert [row.split() for row in rows[at : at + 3]] == [
        ["optimizer_args", "decouple=True", "G4.50"], ["weight_decay=0.1"], ["betas=0.9,0.99"],
    ]  # fmt: skip
    wide = plain(format_plan(plan, PIPE))
    assert "optimizer_args                  decouple=True weight_decay=0.1 betas=0.9,0.99  G4.50" in wide


def test_a_long_path_goes_below() -> None:
    long = "models/" + "x" * 60 + ".safetensors"
    rows = plain(format_plan(plan_of(recipe(base={"model": long})), SCREEN)).splitlines()
    at = rows.index(f"    {long}")
    assert rows[at - 1].split() == ["pretrained_model_name_or_path", "recipe"]


def test_the_page_ends_with_how_many_findings_there_are(tmp_path: Path) -> None:
    path = project(tmp_path, "[network]\nnetwork_dim = 128\n")
    rows = plain(format_plan_page(check_recipe(path, GPU), PIPE)).splitlines()
    assert rows[-3:-1] == ["Findings", f"  {format_finding_counts(check_recipe(path, GPU))}"]
    assert "1 warning" in rows[-2] or "2 warnings" in rows[-2]
    assert rows[-1] == f"  `lorabake check {path}` shows them"


def test_json_is_what_the_schema_says(tmp_path: Path) -> None:
    found = check_recipe(project(tmp_path, "[network]\nnetwork_dim = 128\n"), GPU)
    table = json.loads(plan_to_json(found))
    assert list(table)[:3] == ["version", "recipe", "name"]
    found_ = [finding.severity.value for finding in found.findings]
    assert table["counts"] == {"errors": 0, "ignored": 0} | {f"{s}s": found_.count(s) for s in ("warning", "hint")}
    assert sum(table["counts"].values()) > 0
    again = PlanReport.model_validate_json(plan_to_json(found))
    assert again.forecast == found.planned()[1].forecast


def test_one_of_a_thing_is_not_many() -> None:
    assert "1 epoch, " in plain(format_plan(plan_of(recipe(train={"max_train_epochs": 1})), PIPE))


def test_a_deterministic_plan_promises_no_more_than_is_true() -> None:
    def words(**launch: object) -> str:
        plan = plan_of(recipe())
        text = format_plan(plan.model_copy(update={"launch": plan.launch.model_copy(update=launch)}), PIPE)
        return plain(text).partition("\nDeterministic\n")[2].partition("\n")[0]

    assert words() == ""
    promises = [
        words(deterministic=True, cpu=True),
        words(deterministic=True, cpu=True, num_cpu_threads_per_process=2),
        words(deterministic=True),
        words(deterministic=True, num_processes=2),
    ]
    assert len(set(promises)) == 4
    assert ["byte for byte" in promise for promise in promises] == [True, True, True, False]
