"""Images, captions and models that change during a run, or before its trainer reads them: never "done"."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from own_trainer import TRAIN, OwnTrainer, environment, lorabake
from trainer_world import git

from lorabake.errors import MachineError
from lorabake.inputs.manifest import rehash_inputs
from lorabake.jobs import run as workflow
from lorabake.jobs.run import RunRequest
from lorabake.runs.watch.input_watch import InputWatch
from lorabake.util.hashing import FileHasher
from lorabake_schemas.record import Input, Inputs, Record
from situations import project, write_pictures

MORE = """
[train]
resolution = 256
max_train_steps = 4
"""
BACKDATED = """\
path = pics / "000.txt"
at = path.stat()
path.write_bytes(path.read_bytes()[::-1])
os.utime(path, ns=(at.st_atime_ns, at.st_mtime_ns))
"""
# The project is above the run folder, in which the trainer works.
MEDDLING = """\
meddle = Path("../../meddle.py")
if meddle.exists():
    exec(meddle.read_text("utf-8"), {"pics": Path("../../pics"), "project": Path("../.."), "os": os})
"""


class World:
    """A project, and a user's own trainer that runs the project's meddle.py while it trains."""

    def __init__(self, folder: Path, trainer: OwnTrainer) -> None:
        self.home, self.project, self.trainer = folder / "home", folder / "project", trainer
        self.home.mkdir()
        project(self.project, MORE, pictures=3)

    def run(self, meddle: str, code: int) -> Record:
        (self.project / "meddle.py").write_text(meddle, "utf-8")
        done = lorabake(self.project, self.home, "run", "recipe.toml", *self.trainer.flags)
        assert done.returncode == code, done.stdout + done.stderr
        (path,) = self.project.glob("runs/*/record.json")
        return Record.model_validate_json(path.read_bytes())

    @property
    def last_event(self) -> str:
        (path,) = self.project.glob("runs/*/events.jsonl")
        return str(json.loads(path.read_text("utf-8").splitlines()[-1])["event"])


@pytest.fixture(scope="module")
def trainer(tmp_path_factory: pytest.TempPathFactory) -> OwnTrainer:
    made = OwnTrainer(tmp_path_factory.mktemp("trainer"))
    for script in ("train_network.py", "sdxl_train_network.py"):
        (made.checkout / script).write_text(TRAIN.replace("data = struct", f"{MEDDLING}data = struct"))
    git(made.checkout, "commit", "-qam", "two")
    return made


@pytest.fixture
def world(tmp_path: Path, trainer: OwnTrainer) -> World:
    return World(tmp_path, trainer)


def changes(record: Record) -> list[tuple[str, str, str]]:
    assert record.outcome is not None
    return [(each.role, each.name, each.change) for each in record.outcome.inputs_changed]


@pytest.mark.parametrize(
    ("meddle", "found"),
    [
        ("(pics / '000.png').write_bytes((pics / '001.png').read_bytes())", [("concept", "000.png", "changed")]),
        ("(pics / '000.txt').write_text('other')", [("concept", "000.txt", "changed")]),
        ("(pics / '000.txt').unlink()", [("concept", "000.txt", "missing")]),
        ("(pics / 'new.png').write_bytes((pics / '001.png').read_bytes())", [("concept", "new.png", "added")]),
        (
            "(pics / '000.png').rename(pics / 'z.png')",
            [("concept", "000.png", "renamed"), ("concept", "000.txt", "missing")],
        ),
        ("pics.rename(project / 'elsewhere')", [("concept", "pics", "missing")]),
        ("(project / 'base.safetensors').write_bytes(b'x')", [("base", "base.safetensors", "changed")]),
        (
            BACKDATED,
            [("concept", "000.txt", "changed")],
        ),
    ],
)
def test_what_changed_is_named_and_the_run_is_not_finished(
    world: World, meddle: str, found: list[tuple[str, str, str]]
) -> None:
    record = world.run(meddle, code=7)
    assert record.outcome is not None
    assert (record.status, record.outcome.code) == ("inputs-changed", "inputs-changed")
    assert changes(record) == found
    assert world.last_event == "inputs-changed"


@pytest.mark.parametrize(
    "meddle",
    [
        "os.utime(pics / '000.png')",
        "old = (pics / '000.txt').read_bytes(); (pics / '000.txt').unlink(); (pics / '000.txt').write_bytes(old)",
        "(pics / '000_0256x0256_sd.npz').write_bytes(b'cache')",
        "(pics / 'notes.md').write_text('mine')",
        "(pics / '000.png').read_bytes()",
    ],
)
def test_the_same_bytes_and_files_of_no_concern_are_no_change(world: World, meddle: str) -> None:
    record = world.run(meddle, code=0)
    assert (record.status, changes(record)) == ("finished", [])


def test_of_a_run_that_fails_they_are_named_too(world: World) -> None:
    record = world.run("(pics / '000.txt').write_bytes(b''); raise AssertionError('caption file is empty')", code=4)
    assert record.outcome is not None
    assert (record.status, record.outcome.code) == ("failed", "crashed")
    assert changes(record) == [("concept", "000.txt", "changed")]
    assert "000.txt" in record.outcome.message


def test_verify_and_resume_know_such_a_run_though_the_files_are_back(world: World) -> None:
    """What it was trained with is unknown, whatever the files contain now."""
    old = (world.project / "pics" / "000.txt").read_bytes()
    world.run("(pics / '000.txt').write_text('other')", code=7)
    (world.project / "pics" / "000.txt").write_bytes(old)
    (name,) = [path.parent.name for path in world.project.glob("runs/*/record.json")]
    verified = lorabake(world.project, world.home, "verify", name, "--json")
    assert verified.returncode == 1, verified.stdout + verified.stderr
    told = json.loads(verified.stdout)
    assert (told["identical"], told["differences"], told["status"]) == (False, [], "inputs-changed")
    assert len(told["unproven"]) > 0
    resumed = lorabake(world.project, world.home, "resume", name, "--json")
    assert resumed.returncode == 0, resumed.stderr
    assert lorabake(world.project, world.home, "diff", name, name).returncode == 0


BEFORE_THE_START: tuple[Callable[[Path], object], ...] = (
    lambda pics: (pics / "000.txt").unlink(),
    lambda pics: (pics / "000.txt").write_text("other"),
    lambda pics: write_pictures(pics, 4),
)


@pytest.mark.parametrize("meddle", BEFORE_THE_START)
def test_what_changes_between_check_and_start_stops_it(tmp_path: Path, meddle: Callable[[Path], object]) -> None:
    """The plan was made for other files; nothing is trained yet, so nothing is lost."""
    recipe, env = project(tmp_path / "project", MORE), environment(tmp_path)
    prepared = workflow.prepare_run(RunRequest(recipe, rehearse=True), env)
    meddle(tmp_path / "project" / "pics")
    with pytest.raises(MachineError):
        workflow.execute_run(prepared, env, print)
    assert not prepared.root.exists()


def test_a_rehearsal_is_watched_too(tmp_path: Path) -> None:
    recipe, env = project(tmp_path / "project", MORE), environment(tmp_path)
    prepared = workflow.prepare_run(RunRequest(recipe, rehearse=True), env)
    assert workflow.exit_code(workflow.execute_run(prepared, env, print)) == 0


def watch(folder: Path) -> InputWatch:
    """A folder of one image and its caption, hashed long after they were written."""
    pics = folder / "pics"
    write_pictures(pics, 1)
    (pics / "000.txt").write_text("a")
    for path in pics.iterdir():
        os.utime(path, ns=(10**18, 10**18))
    asked = Input(role="concept", name="pics", place="../../pics", kind="folder", endings=(".png", ".txt"))
    with FileHasher(None) as fingerprints:
        inputs = Inputs(inputs=rehash_inputs([asked], folder / "runs" / "x", fingerprints, {}))
    return InputWatch(inputs, folder / "runs" / "x", {}, known=fingerprints.learned)


def test_what_changed_in_an_earlier_part_stays_changed(tmp_path: Path) -> None:
    first = watch(tmp_path)
    (tmp_path / "pics" / "000.txt").write_text("b")
    (change,) = first.changes()
    (tmp_path / "pics" / "000.txt").write_text("a")
    assert first.changes() == ()
    again = InputWatch(first.inputs, first.root, {}, before=(change,))
    assert again.changes() == (change,)
