"""`lorabake diff` between runs and recipes that real commands made and read."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest
from jsonschema import Draft202012Validator
from own_trainer import OwnTrainer, lorabake

from situations import project, write_base

SCHEMA = Path(__file__).resolve().parents[2] / "schemas" / "diff.schema.json"
TRAIN = """
[train]
resolution = 256
max_train_steps = 4
"""


class World:
    """Two runs; a setting, a caption, an image, the model and a package changed in between."""

    def __init__(self, folder: Path) -> None:
        self.home, self.project = folder / "home", folder / "project"
        self.home.mkdir(parents=True)
        self.trainer = OwnTrainer(folder / "trainer")
        project(self.project, TRAIN, pictures=6)
        self.run()
        self.run()
        text = (self.project / "recipe.toml").read_text("utf-8")
        (self.project / "other.toml").write_text(text.replace("max_train_steps = 4", "max_train_steps = 5"), "utf-8")
        pictures = self.project / "pics"
        (pictures / "001.txt").write_text("another caption")
        (pictures / "002.png").unlink()
        (pictures / "003.png").rename(pictures / "x.png")
        (pictures / "003.txt").rename(pictures / "x.txt")
        base = self.project / "base.safetensors"
        write_base(base)
        base.write_bytes(base.read_bytes()[:-1] + b"\1")
        self.trainer.install("accelerate", "1.6.1")
        self.run("other.toml")

    def run(self, recipe: str = "recipe.toml") -> None:
        done = lorabake(self.project, self.home, "run", recipe, *self.trainer.flags)
        assert done.returncode == 0, done.stderr + done.stdout

    def diff(self, one: str, other: str) -> dict[str, Any]:
        done = lorabake(self.project, self.home, "diff", one, other, "--json")
        assert done.returncode == 0, done.stderr
        told: dict[str, Any] = json.loads(done.stdout)
        schema = json.loads(SCHEMA.read_text("utf-8"))
        check: Callable[[object], None] = cast("Any", Draft202012Validator(schema)).validate
        check(told)
        return told

    def text(self, one: str, other: str) -> str:
        done = lorabake(self.project, self.home, "diff", one, other)
        assert done.returncode == 0, done.stderr
        return done.stdout


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return World(tmp_path_factory.mktemp("diff"))


ONE, TWO, THREE = (f"hmbrgrlora-00{number}" for number in (1, 2, 3))


def test_two_runs_of_the_same_differ_in_nothing_but_their_time(world: World) -> None:
    told = world.diff(ONE, TWO)
    assert (told["settings"], told["forecast"], told["data"], told["trainer"], told["machine"]) == ([],) * 5
    assert {each["name"] for each in told["outcome"]} <= {"took"}
    assert told["digests"][0] == told["digests"][1]
    assert world.text(ONE, TWO).splitlines()[:3] == [f"--- runs/{ONE}", f"+++ runs/{TWO}", "no differences"]


def test_two_runs_that_differ_in_everything_that_a_person_can_change(world: World) -> None:
    told = world.diff(ONE, THREE)
    steps = {each["option"]: each for each in told["settings"]}["max_train_steps"]
    assert (steps["here"]["value"], steps["there"]["value"]) == (4, 5)
    assert steps["here"]["source"]["origin"] == "recipe"
    assert {"steps": (4, 5)}.items() <= {
        each["name"]: (each["here"], each["there"]) for each in told["forecast"]
    }.items()
    data = [(each["what"], each["name"], each["name_there"], bool(each["here"]), bool(each["there"]))
            for each in told["data"]]  # fmt: skip
    assert data == [
        ("base", "base.safetensors", None, True, True),
        ("concept", "001.txt", None, True, True),
        ("concept", "002.png", None, True, False),
        ("concept", "002.txt", None, True, False),
        ("concept", "003.png", "x.png", True, True),
        ("concept", "003.txt", "x.txt", True, True),
    ]
    assert told["trainer"] == [{"name": "accelerate", "here": "1.6.0", "there": "1.6.1"}]
    outcome = {each["name"]: (each["here"], each["there"]) for each in told["outcome"]}
    assert outcome["steps"] == ("4", "5")
    assert set(outcome) <= {"steps", "took", "output/hmbrgrlora.safetensors"}
    assert told["digests"][0] != told["digests"][1]


def test_the_text_has_a_part_for_each_kind(world: World) -> None:
    rows = world.text(ONE, THREE).splitlines()
    heads = [row for row in rows if row and not row.startswith((" ", "---", "+++"))]
    assert heads == [
        "Settings", "Forecast", "Images, captions and models", "Trainer", "Outcome",
        "the digests differ, so these are two different trainings",
    ]  # fmt: skip
    at = rows.index("Images, captions and models")
    assert rows[at + 1] == "  the base model"
    assert rows[at + 2].startswith("    - base.safetensors  SHA-256 ")
    assert rows[at + 3].startswith("    + base.safetensors  SHA-256 ")
    assert rows[at + 4 : at + 10] == [
        "  pics",
        "    001.txt differs",
        "    - 002.png",
        "    - 002.txt",
        "    003.png is named x.png in the other one",
        "    003.txt is named x.txt in the other one",
    ]
    assert "  accelerate  1.6.0  1.6.1" in rows


def test_a_run_and_a_recipe_compare_what_both_have(world: World) -> None:
    told = world.diff(THREE, "other.toml")
    assert (told["settings"], told["data"]) == ([], [])
    assert (told["trainer"], told["machine"], told["outcome"], told["digests"]) == (None,) * 4
    told = world.diff("recipe.toml", f"runs/{THREE}/recipe.toml")
    assert {each["option"] for each in told["settings"]} == {"max_train_steps"}
    assert told["there"] == f"runs/{THREE}"


def test_two_recipes(world: World) -> None:
    told = world.diff("recipe.toml", "other.toml")
    assert ({each["option"] for each in told["settings"]}, told["data"]) == ({"max_train_steps"}, [])
    assert world.text("recipe.toml", "recipe.toml").splitlines()[-1] == "no differences"


def test_a_rehearsal_does_not_know_the_models(world: World) -> None:
    done = lorabake(world.project, world.home, "run", "other.toml", "--rehearse")
    assert done.returncode == 0, done.stderr
    told = world.diff("hmbrgrlora-rehearsal-001", THREE)
    assert (told["data"], told["trainer"]) == ([], None)


def test_a_run_without_its_plan_is_not_compared(world: World) -> None:
    plan = world.project / "runs" / TWO / "plan.json"
    plan.rename(plan.with_suffix(".aside"))
    try:
        done = lorabake(world.project, world.home, "diff", TWO, THREE)
    finally:
        plan.with_suffix(".aside").rename(plan)
    assert (done.returncode, done.stdout) == (1, "")
    assert f"runs/{TWO} has no valid plan.json" in done.stderr


def test_what_cannot_be_compared_ends_with_1_and_says_why(world: World) -> None:
    bad = world.project / "bad.toml"
    bad.write_text("x = 1\n")
    done = lorabake(world.project, world.home, "diff", "recipe.toml", "bad.toml")
    assert done.returncode == 1
    assert "nothing was compared; fix bad.toml first" in done.stderr
    done = lorabake(world.project, world.home, "diff", ONE, "hmbrgrlora-004")
    assert done.returncode == 1
    assert done.stderr.startswith("error: run not found: hmbrgrlora-004\n")
