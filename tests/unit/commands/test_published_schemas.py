"""What --json prints is what the published schemas say; the files under schemas/ are those that lorabake makes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, get_args

import pytest
from click.testing import CliRunner
from jsonschema import ValidationError

from lorabake.analysis.check import check_recipe
from lorabake.analysis.diff import diff_plans
from lorabake.cli import main
from lorabake.commands.json_schema import SchemaName, generate_schema
from lorabake.commands.output.findings import findings_to_json
from lorabake.commands.output.plan import plan_to_json
from lorabake.commands.schema import SCHEMA_NAMES
from published import SCHEMAS, hold
from situations import GPU, plan_of, project, recipe, write_pictures

RECIPES = {
    "good": "",
    "warned": "[network]\nnetwork_dim = 128\n",
    "ignored": '[[ignore]]\nrule = "G1.2"\nreason = "only a trial"\n',
    "shapeless": '[network]\nnetwork_dim = "many"\n',
    "no-toml": "oops\n",
    "regularised": '[[regularization]]\nclass = "food"\nimages = "reg"\n',
    "lokr": '[network]\ntype = "lokr"\n[train]\nlr_scheduler = "cosine_with_restarts"\n[sample]\nprompts = ["a"]\n',
}


@pytest.mark.parametrize("what", get_args(SchemaName))
def test_the_files_are_those_that_lorabake_makes(what: SchemaName) -> None:
    assert (SCHEMAS / f"{what}.schema.json").read_text("utf-8") == generate_schema(what), f"make schema ({what})"


def test_every_one_can_be_asked_for() -> None:
    assert (
        set(SCHEMA_NAMES) == set(get_args(SchemaName)) == {path.name.split(".")[0] for path in SCHEMAS.glob("*.json")}
    )


@pytest.mark.parametrize("name", RECIPES)
def test_check_prints_what_its_schema_says(name: str, tmp_path: Path) -> None:
    found = check_recipe(project(tmp_path, RECIPES[name]), GPU)
    table = json.loads(findings_to_json(found))
    hold(table, "check")
    assert set(table) == set(json.loads(generate_schema("check"))["properties"])


@pytest.mark.parametrize("name", ["good", "warned", "ignored", "regularised", "lokr"])
def test_plan_prints_what_its_schema_says(name: str, tmp_path: Path) -> None:
    write_pictures(tmp_path / "reg", size=(128, 64))
    table = json.loads(plan_to_json(check_recipe(project(tmp_path, RECIPES[name]), GPU)))
    hold(table, "plan")
    assert set(table) == set(json.loads(generate_schema("plan"))["properties"])


def test_diff_prints_what_its_schema_says() -> None:
    one, other = plan_of(recipe(concept={"num_repeats": 2})), plan_of(recipe(network={"type": "lokr"}))
    told = json.loads(diff_plans(one, other, ("a", "b")).model_dump_json())
    assert told["settings"]
    assert told["forecast"]
    hold(told, "diff")


def warned(tmp_path: Path) -> dict[str, Any]:
    table: dict[str, Any] = json.loads(findings_to_json(check_recipe(project(tmp_path, RECIPES["warned"]), GPU)))
    return table


@pytest.mark.parametrize(
    ("where", "value"),
    [
        (("findings",), None),
        (("version",), 2),
        (("findings", 0, "severity"), "bad"),
        (("findings", 0, "fix"), None),
        (("forecast", "steps"), "many"),
        (("forecast", "buckets", 0, "width"), 1.5),
    ],
)
def test_the_schema_is_no_formality(where: tuple[str | int, ...], value: object, tmp_path: Path) -> None:
    table = warned(tmp_path)
    hold(table, "check")
    place: Any = table
    for part in where[:-1]:
        place = place[part]
    place[where[-1]] = value
    with pytest.raises(ValidationError):
        hold(table, "check")


def test_a_field_of_a_later_lorabake_is_no_fault(tmp_path: Path) -> None:
    hold(warned(tmp_path) | {"new": 1}, "check")


def test_only_a_schema_can_be_out_of_date(tmp_path: Path) -> None:
    """Anything else would be lost by writing the schema over it."""
    files = {
        "x.toml": 'name = "a"\n',
        "x.json": '{"name": "a"}',
        "torn.json": '{"$schema": ',
        "old.json": '{"$schema": "https://json-schema.org/draft/2020-12/schema"}',
    }
    said = dict[str, str]()
    for name, text in files.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
        done = CliRunner().invoke(main, ["schema", "recipe", "--check", str(tmp_path / name)])
        assert done.exit_code == 1
        said[name] = done.output
    assert f"lorabake check {tmp_path / 'x.toml'}" in said["x.toml"]
    assert [name for name, text in said.items() if "lorabake schema recipe >" in text] == ["old.json"]
