"""Two people with one project: other paths, other HOMEs, the same digest and the same compiled bytes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest
from jsonschema import Draft202012Validator

from sample_images import write_lighthouses

SCHEMAS = Path(__file__).resolve().parents[2] / "schemas"
COMPILED = ("train.toml", "dataset.toml", "prompts.txt", "accelerate.yaml", "recipe.toml")
RECIPE = """\
name = "lamp"
kind = "object"
[base]
model = "{model}"
family = "sd15"
tags = "danbooru"
[[concept]]
token = "lumlighthouse"
class = "lighthouse"
images = "pictures"
[train]
optimizer = "Prodigy"
resolution = 64
max_train_steps = 8
[sample]
prompts = ["lumlighthouse, lighthouse"]
[metadata]
license = "CC0"
"""


class Person:
    """Somebody with a home and a project in it; every run is a rehearsal."""

    def __init__(self, home: Path, project: Path, model: str = "models/none.safetensors") -> None:
        self.home, self.project = home, project
        home.mkdir(parents=True)
        write_lighthouses(project / "pictures")
        (project / "lamp.toml").write_text(RECIPE.format(model=model))

    def run(self) -> Path:
        runs = {path.name for path in self.project.glob("runs/*")}
        kept = {name: value for name, value in os.environ.items() if not name.startswith("LORABAKE")}
        env = kept | {"HOME": str(self.home), "LORABAKE_HOME": str(self.home / "lorabake")}
        argv = [sys.executable, "-m", "lorabake", "run", "lamp.toml", "--rehearse"]
        done = subprocess.run(argv, cwd=self.project, env=env, capture_output=True, text=True, timeout=120, check=False)
        assert done.returncode == 0, done.stderr
        (made,) = [path for path in self.project.glob("runs/*") if path.is_dir() and path.name not in runs]
        return made


def record(run: Path) -> dict[str, Any]:
    table: dict[str, Any] = json.loads((run / "record.json").read_bytes())
    return table


@pytest.fixture
def one(tmp_path: Path) -> Person:
    return Person(tmp_path / "home" / "anna", tmp_path / "home" / "anna" / "lamp")


@pytest.fixture
def other(tmp_path: Path) -> Person:
    return Person(tmp_path / "Users" / "bert jr", tmp_path / "elsewhere" / "très loin" / "lamp project")


def test_other_paths_and_homes_give_one_digest_and_equal_files(one: Person, other: Person) -> None:
    here, there = one.run(), other.run()
    assert len(record(here)["digest"]) == 64
    assert record(here)["digest"] == record(there)["digest"]
    for name in COMPILED:
        assert (here / name).read_bytes() == (there / name).read_bytes(), name
    assert [each["sha256"] for each in record(here)["inputs"]] == [each["sha256"] for each in record(there)["inputs"]]
    assert (here / "inputs.json").read_bytes() == (there / "inputs.json").read_bytes()


def test_a_model_under_another_absolute_path_changes_no_digest(tmp_path: Path) -> None:
    """Its path is in train.toml, so those bytes differ; what is trained does not."""
    first = Person(tmp_path / "a", tmp_path / "a" / "lamp", str(tmp_path / "a" / "x.safetensors"))
    second = Person(tmp_path / "b", tmp_path / "b" / "lamp", str(tmp_path / "b" / "models" / "y.safetensors"))
    here, there = first.run(), second.run()
    assert (here / "train.toml").read_bytes() != (there / "train.toml").read_bytes()
    assert record(here)["digest"] == record(there)["digest"]


def test_a_byte_of_a_caption_changes_the_digest(one: Person, other: Person) -> None:
    caption = min((other.project / "pictures").glob("*.txt"))
    caption.write_text(caption.read_text("utf-8") + ", night", "utf-8")
    assert record(one.run())["digest"] != record(other.run())["digest"]


def test_a_second_run_has_the_first_one_s_digest(one: Person) -> None:
    assert record(one.run())["digest"] == record(one.run())["digest"]


@pytest.mark.parametrize("what", ["record", "inputs"])
def test_what_lies_in_the_run_folder_is_what_the_published_schemas_say(what: str, one: Person) -> None:
    schema = json.loads((SCHEMAS / f"{what}.schema.json").read_text("utf-8"))
    table = json.loads((one.run() / f"{what}.json").read_bytes())
    check: Callable[[object], None] = cast("Any", Draft202012Validator(schema)).validate
    check(table)
    assert set(table) == set(schema["properties"])


def test_nothing_of_the_person_is_in_the_digested_files(one: Person) -> None:
    run = one.run()
    for name in (*COMPILED, "inputs.json", "plan.json"):
        assert str(one.home).encode() not in (run / name).read_bytes(), name
