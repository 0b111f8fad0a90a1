"""`lorabake resume` on the command line: its output, its refusals, and that --dry-run changes nothing."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from own_trainer import OwnTrainer
from own_trainer import lorabake as started
from test_resume import broken

import fake_sd_scripts
from fake_sd_scripts import weight
from lorabake.runs.folder import RunPaths, create_run_folder
from lorabake.runs.record import read_record
from lorabake_schemas.record import Record
from situations import RECIPE, project

# The size of this network is not planned: the stand-in's has 64 weights. An epoch goes through two [[datasets]].
MORE = """
[network]
type = "networks.lora_fa"
[train]
resolutions = [256, 320]
max_train_steps = 15
[save]
save_state = true
save_every_n_steps = 2
save_every_n_epochs = 1
"""


@dataclass(frozen=True)
class Made:
    """A project with a finished run of 15 steps, and the trainer that saves states as sd-scripts does."""

    folder: Path
    trainer: OwnTrainer

    def copy(self, folder: Path, name: str) -> Path:
        """The project with its run, under another name."""
        shutil.copytree(self.folder / "project", folder, dirs_exist_ok=True)
        (run,) = (path.parent for path in folder.glob("runs/*/record.json"))
        return run.rename(run.with_name(name)) if run.name != name else run


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    folder = tmp_path_factory.mktemp("made")
    trainer = OwnTrainer(folder / "trainer")
    script = Path(fake_sd_scripts.__file__).read_text("utf-8")
    (trainer.checkout / "train_network.py").write_text(script.replace('"delay": 0.0', '"batches": 5, "delay": 0.0'))
    (folder / "home").mkdir()
    project(folder / "project", MORE, text=re.sub('name = "[a-z]+"', 'name = "x"', RECIPE, count=1), pictures=6)
    done = started(folder / "project", folder / "home", "run", "recipe.toml", *trainer.flags)
    assert done.returncode == 0, done.stdout + done.stderr
    return Made(folder, trainer)


def lorabake(cwd: Path, *args: str) -> subprocess.CompletedProcess[str]:
    flags = (cwd / "trainer-flags").read_text("utf-8").splitlines() if (cwd / "trainer-flags").exists() else []
    return started(cwd, cwd / "home", *args, *flags)


@pytest.fixture
def stopped(made: Made, tmp_path: Path) -> Path:
    """A run of 15 steps that was killed after 13: its last states are of steps 12, 10 (and the second epoch), 8."""
    root = made.copy(tmp_path, "x-001")
    (tmp_path / "home").mkdir()
    (tmp_path / "trainer-flags").write_text("\n".join(made.trainer.flags), "utf-8")
    for name in ("x.safetensors", "x-step00000014.safetensors"):
        (root / "output" / name).unlink()
    for name in ("x-state", "x-step00000014-state"):
        (root / "output" / name).rename(tmp_path / name)
    changed(root, status="interrupted", outcome=None)
    lines = (root / "events.jsonl").read_text("utf-8").splitlines(keepends=True)
    kept = next(n for n, line in enumerate(lines) if '"step": 14,' in line)
    (root / "events.jsonl").write_text("".join(lines[:kept]), "utf-8")
    return root


def changed(root: Path, **changes: Any) -> None:
    record = json.loads((root / "record.json").read_text("utf-8"))
    (root / "record.json").write_text(json.dumps(record | changes), "utf-8")


def tree(root: Path) -> dict[str, bytes]:
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def test_a_look_shows_state_and_command_and_changes_nothing(tmp_path: Path, stopped: Path) -> None:
    broken(stopped, 12)
    before = tree(stopped)
    done = lorabake(tmp_path, "resume", "runs/x-001", "--dry-run")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0] == "output/x-step00000012-state is not used: optimizer.bin: damaged (archive/data/0)"
    assert lines[1].endswith("x-001 continues from output/x-000002-state, after step 10 of 15")
    assert lines[2] == "3 steps after it are trained again"
    assert lines[3].endswith("--resume output/x-000002-state --initial_step 10 --output_dir parts/002/output")
    assert lines[4] == "nothing was written or started"
    assert tree(stopped) == before


def test_the_same_for_programs(tmp_path: Path, stopped: Path) -> None:
    done = lorabake(tmp_path, "resume", "x-001", "--dry-run", "--json")
    told = json.loads(done.stdout)
    assert (told["version"], told["state"], told["from_step"]) == (1, "output/x-step00000012-state", 12)
    assert (told["planned_steps"], told["trained_again"], told["not_used"]) == (15, 1, [])
    assert told["argv"][-4:] == ["12", "--skip_until_initial_step", "--output_dir", "parts/002/output"]


def test_it_goes_on_to_the_end(tmp_path: Path, stopped: Path) -> None:
    done = lorabake(tmp_path, "resume", "runs/x-001")
    assert done.returncode == 0, done.stderr
    assert "trained 15 steps" in done.stdout
    assert "note: the rest of the interrupted epoch was shuffled again" in done.stdout
    assert "continues from output/x-step00000012-state, after step 12 of 15" in done.stderr
    assert weight(stopped / "output" / "x.safetensors") == 15
    again = lorabake(tmp_path, "resume", "runs/x-001")
    assert again.returncode == 0
    assert "x-001 is finished; all 15 steps were trained\n" in again.stdout
    as_json = lorabake(tmp_path, "resume", "runs/x-001", "--json")
    assert Record.model_validate_json(as_json.stdout) == read_record(stopped / "record.json")


def test_drift_is_refused_unless_told(tmp_path: Path, stopped: Path) -> None:
    """A caption of the run is another one now."""
    caption = min((tmp_path / "pics").glob("*.txt"))
    caption.write_text(caption.read_text("utf-8") + ", hat", "utf-8")
    before = tree(stopped)
    refused = lorabake(tmp_path, "resume", "x-001")
    assert refused.returncode == 1
    assert caption.stem in refused.stderr
    assert "--with-drift" in refused.stderr
    assert tree(stopped) == before
    assert lorabake(tmp_path, "resume", "x-001", "--with-drift").returncode == 7
    assert read_record(stopped / "record.json").status == "inputs-changed"
    assert weight(stopped / "output" / "x.safetensors") == 15


@pytest.mark.parametrize("name", ["train.toml", "dataset.toml", "accelerate.yaml"])
def test_an_edited_file_of_the_run_folder_is_drift(tmp_path: Path, stopped: Path, name: str) -> None:
    """sd-scripts reads these again; rerun compiles new ones and does not need them."""
    (stopped / name).write_bytes((stopped / name).read_bytes() + b"# edited\n")
    before = tree(stopped)
    refused = lorabake(tmp_path, "resume", "x-001")
    assert refused.returncode == 1
    assert name in refused.stderr
    assert "train anyway with --with-drift" in refused.stderr
    assert tree(stopped) == before
    assert lorabake(tmp_path, "resume", "x-001", "--with-drift").returncode == 0
    assert weight(stopped / "output" / "x.safetensors") == 15


def test_the_copy_of_the_recipe_is_not_what_goes_on(tmp_path: Path, stopped: Path) -> None:
    (stopped / "recipe.toml").write_text("name = 'y'\n", "utf-8")
    assert lorabake(tmp_path, "resume", "x-001").returncode == 0


@pytest.mark.parametrize(
    ("gone", "why"),
    [
        (["train.toml"], "train.toml is missing"),
        (["output"], "output is missing"),
        (["events.jsonl", "logs"], "events.jsonl and logs/trainer.log are missing"),
    ],
)
def test_what_is_missing_is_named(tmp_path: Path, stopped: Path, gone: list[str], why: str) -> None:
    for name in gone:
        (stopped / name).rename(tmp_path / name)
    before = tree(stopped)
    refused = lorabake(tmp_path, "resume", "x-001")
    assert refused.returncode == 1
    assert f"x-001: {why}" in refused.stderr
    assert tree(stopped) == before
    for name in gone:
        (tmp_path / name).rename(stopped / name)
    assert lorabake(tmp_path, "resume", "x-001").returncode == 0


def test_what_cannot_be_read_is_named(tmp_path: Path, stopped: Path) -> None:
    (stopped / "output").rename(tmp_path / "output")
    (stopped / "output").write_text("")
    assert "x-001: output is no longer a folder" in lorabake(tmp_path, "resume", "x-001").stderr
    (stopped / "output").unlink()
    (tmp_path / "output").rename(stopped / "output")
    (stopped / "train.toml").write_text("= no TOML", "utf-8")
    refused = lorabake(tmp_path, "resume", "x-001")
    assert refused.returncode == 1
    assert "x-001: train.toml changed and is not valid TOML" in refused.stderr


@pytest.mark.parametrize("gone", ["logs", "logs/trainer.log", "events.jsonl"])
def test_it_goes_on_without_its_log_or_its_events(tmp_path: Path, stopped: Path, gone: str) -> None:
    (stopped / gone).rename(tmp_path / "gone")
    done = lorabake(tmp_path, "resume", "x-001")
    assert done.returncode == 0, done.stderr
    record = read_record(stopped / "record.json")
    assert [part.status for part in record.parts] == ["interrupted", "finished"]
    assert weight(stopped / "output" / "x.safetensors") == 15
    assert (stopped / "logs" / "trainer.log").stat().st_size
    assert '"resumed"' in (stopped / "events.jsonl").read_text("utf-8")


@pytest.mark.parametrize("how", ["the record lists it", "tensorboard"])
def test_what_a_record_lists_is_not_what_lorabake_makes(tmp_path: Path, stopped: Path, how: str) -> None:
    name = "argparse.py" if how == "the record lists it" else "tensorboard/__init__.py"
    (stopped / name).write_text("", "utf-8")
    record = json.loads((stopped / "record.json").read_text("utf-8"))
    changed(
        stopped, compiled=[*record["compiled"], {"name": name, "sha256": hashlib.sha256(b"").hexdigest(), "size": 0}]
    )
    refused = lorabake(tmp_path, "resume", "x-001", "--with-drift")
    assert refused.returncode == 1
    assert name in refused.stderr
    assert read_record(stopped / "record.json").parts == ()


def test_notes_litter_and_backups_by_hard_links_are_no_obstacle(tmp_path: Path, stopped: Path) -> None:
    for name in ("notes.md", "output/.DS_Store", "output/x-000001-best.safetensors", "core.12", "recipe.toml~"):
        (stopped / name).write_text("", "utf-8")
    backup = tmp_path / "backup"
    backup.mkdir()
    kept = {name: (stopped / name).read_bytes() for name in ("events.jsonl", "logs/trainer.log", "record.json")}
    for name in kept:
        (backup / Path(name).name).hardlink_to(stopped / name)
    assert lorabake(tmp_path, "resume", "x-001").returncode == 0
    assert {name: (backup / Path(name).name).read_bytes() for name in kept} == kept
    assert weight(stopped / "output" / "x.safetensors") == 15


@pytest.fixture
def unjudged(made: Made, tmp_path: Path) -> Path:
    """A run that had reached its last step as its lorabake was killed, and whose trainer is missing since."""
    root = made.copy(tmp_path, "x-002")
    (tmp_path / "home").mkdir()
    changed(root, status="interrupted", outcome=None)
    return root


def test_a_verdict_knows_the_losses(tmp_path: Path, unjudged: Path) -> None:
    """Of a run that is judged later, too: finite weights are not enough."""
    path = unjudged / "events.jsonl"
    losses = '"loss_average": "nan", "loss_current": "nan"'
    text = re.sub(r'"loss_average": [^,]+, "loss_current": [^}]+', losses, path.read_text("utf-8"))
    path.write_text(text, "utf-8")
    assert losses in text
    assert lorabake(tmp_path, "resume", "x-002").returncode == 4
    outcome = read_record(unjudged / "record.json").outcome
    assert outcome is not None
    assert (outcome.code, len(outcome.remarks)) == ("nan-loss", 2)


def test_a_verdict_needs_no_trainer(tmp_path: Path, unjudged: Path) -> None:
    done = lorabake(tmp_path, "resume", "x-002")
    assert done.returncode == 0, done.stderr
    assert "x-002 had already reached its last step" in done.stderr
    assert "sd-scripts" not in done.stderr
    record = read_record(unjudged / "record.json")
    assert (record.status, record.parts) == ("finished", ())
    assert not (tmp_path / "home" / "trainers").exists()


def test_a_verdict_without_a_log(tmp_path: Path, unjudged: Path) -> None:
    (unjudged / "logs" / "trainer.log").unlink()
    done = lorabake(tmp_path, "resume", "x-002")
    assert done.returncode == 0, done.stderr
    record = read_record(unjudged / "record.json")
    assert record.outcome is not None
    assert (record.outcome.code, record.outcome.steps) == ("trained", 15)
    assert "cannot read the log, so the trainer's last messages are unknown" in record.outcome.remarks


def test_a_trainer_that_is_not_lorabakes_has_to_be_named(tmp_path: Path, stopped: Path, made: Made) -> None:
    """Whatever the record has: it may come from a stranger."""
    (tmp_path / "trainer-flags").unlink()
    before = tree(stopped)
    done = lorabake(tmp_path, "resume", "x-001")
    assert done.returncode == 4
    assert str(made.trainer.checkout) in done.stderr
    assert "--sd-scripts" in done.stderr
    assert tree(stopped) == before


@pytest.mark.parametrize("name", ["notes.py", "output/argparse.py", "json", "tensorboard/plugin.py", ".hidden"])
def test_a_file_that_lorabake_did_not_make_is_named_before_anything_starts(
    tmp_path: Path, stopped: Path, name: str
) -> None:
    (stopped / name).write_text("", "utf-8")
    before = tree(stopped)
    refused = lorabake(tmp_path, "resume", "x-001")
    assert refused.returncode == 1
    assert name in refused.stderr
    assert tree(stopped) == before
    (stopped / name).unlink()
    assert lorabake(tmp_path, "resume", "x-001").returncode == 0


def test_a_rehearsal_and_a_run_without_states(tmp_path: Path, stopped: Path) -> None:
    for status in ("interrupted", "finished"):
        changed(stopped, rehearsal=True, status=status)
        refused = lorabake(tmp_path, "resume", "x-001")
        assert refused.returncode == 1
        assert "x-001 is a rehearsal that trained nothing" in refused.stderr
        assert not refused.stdout
    changed(stopped, rehearsal=False, status="interrupted")
    train = (stopped / "train.toml").read_text("utf-8")
    (stopped / "train.toml").write_text(train.replace("save_state = true", "save_state = false"), "utf-8")
    for path in (stopped / "output").glob("*-state"):
        path.rename(tmp_path / path.name)
    refused = lorabake(tmp_path, "resume", "x-001")
    assert refused.returncode == 1
    assert "x-001 has no usable state to resume from" in refused.stderr
    assert "save.save_state = true" in refused.stderr


def test_a_run_that_never_began_to_train(tmp_path: Path, stopped: Path) -> None:
    record = (stopped / "record.json").read_bytes()
    other = RunPaths(tmp_path / "runs" / "x-002")
    create_run_folder(other, {"train.toml": b"save_state = true\nsave_every_n_epochs = 1\n", "record.json": record})
    refused = lorabake(tmp_path, "resume", "x-002")
    assert refused.returncode == 1
    assert "it ended before its first state was saved; start again with `lorabake rerun RUN`" in refused.stderr


def test_no_such_run(tmp_path: Path) -> None:
    done = lorabake(tmp_path, "resume", "runs/nothing")
    assert done.returncode == 1
    assert "run not found: " in done.stderr
