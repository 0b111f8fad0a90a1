"""Real commits of sd-scripts before the pin: fetched, read with the pin's packages, installed next to it."""

from __future__ import annotations

import os
import shutil
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from lorabake.analysis.check import check_recipe
from lorabake.errors import UnreachableError
from lorabake.jobs.run_files import build_run_files
from lorabake.trainer import install as trainers
from lorabake.trainer import options, store
from lorabake.trainer.build import BuildEnv
from lorabake.trainer.environment import read_trainer_contents
from lorabake.trainer.versions import diff_options
from lorabake.util import machine, resources
from lorabake.util.environment import read_environment
from lorabake.util.hashing import FileHasher
from lorabake_schemas.families.registry import list_scripts
from lorabake_schemas.options import OptionSnapshot
from lorabake_schemas.pin import Pin
from situations import CPU, project

pytestmark = pytest.mark.real

V0_7_0 = "2a23713f71628b2d1b88a51035b3e4ee2b5dbe46"
V0_9_1 = "8f4ee8fc343b047965cd8976fca65c3a35b7593a"
# "Add resize interpolation CLI option", and the commit before it.
BEFORE, AFTER = "58e9e146a3c72716af909191835d4f41521b4c27", "d0128d18be009c5e221db96d53b6045bdd5af04f"
ROOM = 4 * 10**9  # for a second copy of the packages


def at(commit: str) -> Pin:
    return resources.load_pin().model_copy(update={"commit": commit})


@pytest.fixture(scope="module")
def home(trainer: trainers.Trainer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A separate store that borrows the installed trainer, so that nothing is left in the real one."""
    folder = tmp_path_factory.mktemp("home")
    installed = trainer.checkout.parent
    store.trainers_folder(folder).mkdir()
    shutil.copytree(installed, store.trainers_folder(folder) / installed.name, symlinks=True, copy_function=_linked)
    for marker in installed.parent.glob("*.json"):
        shutil.copy(marker, store.trainers_folder(folder))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


def _linked(file: str, place: str) -> None:
    """No second copy of the packages where one disk has both."""
    try:
        os.link(file, place, follow_symlinks=False)
    except OSError:
        shutil.copy2(file, place, follow_symlinks=False)


def looked_up(home: Path, commit: str) -> OptionSnapshot:
    try:
        return options.fetch_options(at(commit), home, read_environment(), print)
    except UnreachableError as error:
        pytest.skip(f"no other commit: {error.message} ({error.hint})")


def test_neighbours_differ_by_the_one_option_that_was_added(home: Path) -> None:
    found = diff_options(looked_up(home, BEFORE), looked_up(home, AFTER))
    assert {(each.place, each.name, each.before) for each in found.changes} == {
        (script, "resize_interpolation", None) for script in list_scripts()
    }


def test_a_recipe_at_a_commit_from_before_its_options(home: Path, tmp_path: Path) -> None:
    """Every plan has debiased_estimation_loss and a share of steps for the warm-up; v0.7.0 knows neither. What the
    findings say to write mends it."""
    old = looked_up(home, V0_7_0)
    assert "debiased_estimation_loss" not in {option.name for option in old.of("train_network.py")}
    recipe = project(tmp_path)
    refused = check_recipe(recipe, CPU, snapshot=old)
    said = {finding.key: finding for finding in refused.errors}
    assert said.keys() == {"train.debiased_estimation_loss", "train.lr_warmup_steps"}
    assert V0_7_0[:12] in said["train.debiased_estimation_loss"].message
    assert "has no option debiased_estimation_loss" in said["train.debiased_estimation_loss"].message
    assert "train.debiased_estimation_loss = false" in said["train.debiased_estimation_loss"].fix
    assert {"whole", "number"} <= {*said["train.lr_warmup_steps"].fix.split()}
    mended = "[train]\ndebiased_estimation_loss = false\nlr_warmup_steps = 10\n"
    recipe.write_text(f"{recipe.read_text(encoding='utf-8')}\n{mended}", encoding="utf-8")
    accepted = check_recipe(recipe, CPU, snapshot=old)
    assert accepted.errors == ()
    written = tomllib.loads(build_run_files(accepted, tmp_path / "run").fill_folder()["train.toml"].decode())
    assert len(written) >= 20
    assert written.keys() <= {option.name for option in old.of("train_network.py")}


@pytest.fixture
def python(trainer: trainers.Trainer, tmp_path: Path) -> Path:
    """One whose virtual environments have the packages already, so that they need not be fetched again."""
    if machine.get_free_disk(tmp_path) < ROOM:
        pytest.skip(f"a second trainer needs {ROOM / 1e9:.0f} GB of disk")
    script, ready = tmp_path / "python", trainer.checkout.parent / "venv"
    script.write_text(
        f'#!/bin/sh\nif [ "$2" = venv ]; then exec cp -R "{ready}" "$3"; fi\nexec "{sys.executable}" "$@"\n',
        encoding="utf-8",
    )
    script.chmod(0o755)
    return script


def test_an_older_release_installed_beside_the_pin(
    trainer: trainers.Trainer, home: Path, python: Path, tmp_path: Path
) -> None:
    env, said = read_environment(), list[str]()
    world = BuildEnv(lender=resources.load_pin())
    try:
        older = trainers.ensure_installed(at(V0_9_1), home, "auto", env, said.append, python=python, world=world)
    except UnreachableError as error:
        pytest.skip(f"no other commit: {error.message} ({error.hint})")
    assert (older.commit, older.kind, older.lock) == (V0_9_1, "pin", trainer.lock)
    assert any(all(part in line for part in ("accelerate==0.30.0", "accelerate==1.6.0")) for line in said)
    assert any("does not require schedulefree==1.4" in line for line in said)
    made_of = read_trainer_contents(older, env, FileHasher(None))
    assert made_of.clean
    assert made_of.packages == read_trainer_contents(trainer, env, FileHasher(None)).packages
    assert made_of.tree != read_trainer_contents(trainer, env, FileHasher(None)).tree
    found = options.require_options(at(V0_9_1), home, env)
    changes = diff_options(resources.load_snapshot(), found).changes
    missing = {each.name for each in changes if each.place == "train_network.py" and each.after is None}
    assert missing >= {"metadata_trigger_phrase", "huber_scale", "skip_cache_check", "resize_interpolation"}
    assert "seed" not in missing
    examination = check_recipe(project(tmp_path), CPU, snapshot=found)
    assert examination.errors == ()
    assert any("has no option metadata_trigger_phrase" in finding.message for finding in examination.findings)
    written = tomllib.loads(build_run_files(examination, tmp_path / "run").fill_folder()["train.toml"].decode())
    assert "metadata_trigger_phrase" not in written
    assert written.keys() <= {option.name for option in found.of("train_network.py")}
    shutil.rmtree(older.checkout.parent)
