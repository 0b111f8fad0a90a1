"""`lorabake rerun` and `lorabake compare` with an sd-scripts of one's own, and with rehearsals."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest
from own_trainer import TRAIN, OwnTrainer, lorabake
from trainer_world import git

from lorabake_schemas.record import Record
from situations import project

MORE = """
[train]
resolution = 256
max_train_steps = 4
"""
REPEATABLE = "\n[launch]\ndeterministic = true\n"
TORCH = """\
import types
def use_deterministic_algorithms(mode, *, warn_only=False):
    assert mode and not warn_only
backends = types.SimpleNamespace(cudnn=types.SimpleNamespace(deterministic=False, benchmark=True))
"""
# As sd-scripts: a session drawn from nowhere, the clock, the keys in any order.
TIMES = """\
import random, time
drawn = {"ss_session_id": str(random.getrandbits(32)), "ss_training_started_at": str(time.time())}
drawn = list({"ss_steps": str(steps), **drawn}.items())
random.shuffle(drawn)
header = {"__metadata__": dict(drawn), "lora_unet_a.lora_up.weight": tensor}
"""


class World:
    """A project, and a user's own trainer whose output differs every time."""

    def __init__(self, folder: Path) -> None:
        self.home, self.project = folder / "home", folder / "project"
        self.home.mkdir(parents=True)
        self.trainer = OwnTrainer(folder / "trainer")
        script = self.trainer.checkout / "train_network.py"
        script.write_text(TRAIN.replace("told_header =", f"{TIMES}told_header ="))
        git(self.trainer.checkout, "commit", "-qam", "two")
        (self.trainer.packages / "torch" / "__init__.py").write_text(TORCH)
        project(self.project, MORE, pictures=3)

    def run(self, *flags: object, code: int = 0) -> subprocess.CompletedProcess[str]:
        asks = flags[0] in {"rerun", "verify"} and "--sd-scripts" not in flags
        done = lorabake(self.project, self.home, *flags, *(self.trainer.flags if asks else ()))
        assert done.returncode == code, done.stdout + done.stderr
        return done

    def train(self, recipe: str = "recipe.toml") -> Path:
        before = runs(self.project)
        self.run("run", recipe, *self.trainer.flags)
        (made,) = runs(self.project) - before
        return made

    def more(self, text: str) -> None:
        recipe = self.project / "recipe.toml"
        recipe.write_text(recipe.read_text("utf-8") + text, "utf-8")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> World:
    world = World(tmp_path_factory.mktemp("made"))
    world.train()
    return world


@pytest.fixture
def world(made: World, tmp_path: Path) -> World:
    """The same to spoil; the trainer is shared."""
    copy = World.__new__(World)
    copy.home, copy.trainer, copy.project = tmp_path / "home", made.trainer, tmp_path / "project"
    copy.home.mkdir()
    shutil.copytree(made.project, copy.project)
    return copy


def runs(folder: Path) -> set[Path]:
    return {path.parent for path in folder.glob("runs/*/record.json")}


def record(run: Path) -> Record:
    return Record.model_validate_json((run / "record.json").read_bytes())


def only(folder: Path) -> str:
    (run,) = runs(folder)
    return run.name


def second(name: str) -> str:
    return name.replace("-001", "-002")


def test_a_rerun_is_the_same_run_in_the_next_folder(world: World) -> None:
    """Also if the recipe was edited or deleted since."""
    name = only(world.project)
    (world.project / "recipe.toml").unlink()
    done = world.run("rerun", name)
    one, two = record(world.project / "runs" / name), record(world.project / "runs" / second(name))
    assert one.digest == two.digest == two.rerun_of
    assert two.drift == ()
    assert two.status == "finished"
    assert (two.recipe, two.compiled, two.seed, two.recipe_place) == (
        one.recipe,
        one.compiled,
        one.seed,
        one.recipe_place,
    )
    assert (two.trainer.commit, two.trainer.tree) == (one.trainer.commit, one.trainer.tree)
    assert [each.sha256 for each in two.inputs] == [each.sha256 for each in one.inputs]
    assert f"{one.name}.safetensors differs from the one of " in done.stderr
    world.run("verify", second(name))
    third = json.loads(world.run("rerun", second(name), "--run-dir", "elsewhere/again", "--json").stdout)
    assert third["digest"] == one.digest
    assert (world.project / "elsewhere" / "again" / "record.json").is_file()


def test_the_recipe_is_the_runs_and_not_the_edited_one(world: World) -> None:
    name = only(world.project)
    world.more("\n[network]\nnetwork_dim = 8\n")
    run = world.project / "runs" / name
    (run / "recipe.toml").write_text("edited\n")  # the record has it, too
    world.run("rerun", name)
    assert record(world.project / "runs" / second(name)).digest == record(run).digest


def test_drift_is_refused_with_the_list_and_recorded_when_allowed(world: World) -> None:
    name = only(world.project)
    caption = next(world.project.glob("pics/*.txt"))
    caption.write_text(caption.read_text() + ", more", "utf-8")
    done = world.run("rerun", name, code=1)
    words = f"pics/{caption.name} changed after the run"
    assert words in done.stderr
    assert "have changed" in done.stderr
    assert "--with-drift" in done.stderr
    assert only(world.project) == name
    world.run("rerun", name, "--with-drift")
    again = record(world.project / "runs" / second(name))
    assert again.drift == (words,)
    assert again.rerun_of == record(world.project / "runs" / name).digest != again.digest


def test_another_trainer_is_no_rerun(world: World, tmp_path: Path) -> None:
    """The run's own is untouched; but it is not the one that was asked for."""
    other = OwnTrainer(tmp_path / "other")
    name = only(world.project)
    done = world.run("rerun", name, *other.flags, code=1)
    assert "sd-scripts" in done.stderr
    assert only(world.project) == name
    world.run("rerun", name, *other.flags, "--with-drift")
    assert any("sd-scripts" in each for each in record(world.project / "runs" / second(name)).drift)


def test_a_dry_run_writes_nothing(world: World) -> None:
    name = only(world.project)
    done = world.run("rerun", name, "--dry-run")
    assert "nothing was written or started" in done.stdout
    assert str(world.trainer.checkout) in done.stdout
    assert only(world.project) == name


def test_a_recipe_that_is_lost_and_a_record_that_does_not_tell(world: World) -> None:
    name = only(world.project)
    run = world.project / "runs" / name
    table = json.loads((run / "record.json").read_bytes())
    (run / "record.json").write_text(json.dumps({**table, "recipe_text": "x"}))
    world.run("rerun", name)  # the copy in the folder is still what it was
    (run / "recipe.toml").unlink()
    assert "the original recipe of " in world.run("rerun", name, code=1).stderr
    (run / "record.json").write_text(json.dumps({**table, "recipe_place": None}))
    assert "not a valid run record" in world.run("rerun", name, code=1).stderr


def test_deterministic_runs_leave_the_same_file_and_ordinary_ones_do_not(world: World) -> None:
    ordinary = only(world.project)
    world.run("rerun", ordinary)
    told = world.run("compare", ordinary, second(ordinary))
    assert "but the header differs" in told.stdout
    assert {"ss_session_id", "ss_training_started_at"} <= set(told.stdout.split())
    world.more(REPEATABLE)
    run = world.train()
    assert "deterministic.py" in record(run).argv
    assert record(run).environment["MKL_CBWR"] == "AUTO"
    assert (run / "deterministic.py").is_file()
    done = world.run("rerun", run)
    again = run.with_name(run.name.replace("-003", "-004"))
    lora = f"output/{record(run).name}.safetensors"
    assert (run / lora).read_bytes() == (again / lora).read_bytes()
    assert "is identical byte for byte to the one of " in done.stderr
    assert record(run).digest == record(again).digest != record(world.project / "runs" / ordinary).digest
    assert "identical byte for byte" in world.run("compare", run, again / lora).stdout
    assert b"ss_session_id" not in (run / lora).read_bytes()


def test_rehearsals_are_repeated_too(world: World) -> None:
    world.run("run", "recipe.toml", "--rehearse")
    (rehearsal,) = world.project.glob("runs/*-rehearsal-001")
    world.run("rerun", rehearsal.name)
    again = record(rehearsal.with_name(second(rehearsal.name)))
    assert again.rehearsal
    assert again.rerun_of == again.digest == record(rehearsal).digest
    assert "is a rehearsal, so it has no LoRA" in world.run("compare", rehearsal, rehearsal, code=1).stderr


def test_what_cannot_be_compared_is_told(world: World) -> None:
    name = only(world.project)
    run = world.project / "runs" / name
    assert "run not found: nobody" in world.run("compare", name, "nobody", code=1).stderr
    lora = run / "output" / f"{record(run).name}.safetensors"
    shutil.copy(lora, lora.with_name("x-000001.safetensors"))
    lora.unlink()
    done = world.run("compare", name, name, code=1)
    assert "has no finished LoRA" in done.stderr
    assert "x-000001.safetensors" in done.stderr
    lora.with_suffix(".ckpt").write_bytes(b"PK")
    assert "only torch can read it" in world.run("compare", name, name, code=1).stderr
    assert "only torch can read it" in world.run("compare", name, lora.with_suffix(".ckpt"), code=1).stderr


def test_different_weights_are_exit_code_1_and_json(world: World, tmp_path: Path) -> None:
    name = only(world.project)
    run = world.project / "runs" / name
    lora = next(run.glob("output/*.safetensors"))
    data = bytearray(lora.read_bytes())
    data[-1] ^= 0x40
    (tmp_path / "b.safetensors").write_bytes(data)
    told = json.loads(world.run("compare", name, tmp_path / "b.safetensors", "--json", code=1).stdout)
    assert told["likeness"] == "different"
    assert told["whole"]["differing"] == 1
    assert told["whole"]["largest"] > 0
