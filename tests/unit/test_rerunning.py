"""With which trainer a run is repeated, and what is said of the two files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from lorabake import resources
from lorabake.errors import SetupError
from lorabake.rerunning import Rerun, beside, trainer_of
from lorabake.runs.find import FoundRun
from lorabake.runs.folder import RunPaths, digest_of
from lorabake.workflow import TrainerChoice
from lorabake_schemas.machine import MachineFacts
from lorabake_schemas.record import Outcome, OutputFile, Record, Status, TrainerRecord
from lorabake_schemas.words import quoted

PIN = resources.pin().commit
OTHER = "a" * 40


def trainer(**given: Any) -> TrainerRecord:
    return TrainerRecord(kind="pin", python="/t/python", commit=PIN, lock="cpu").model_copy(update=given)


@pytest.mark.parametrize(
    ("then", "choice"),
    [
        (trainer(), TrainerChoice("cpu")),
        (trainer(lock="cuda"), TrainerChoice("cuda")),
        (trainer(lock=None), TrainerChoice("auto")),
        (trainer(commit=OTHER), TrainerChoice("cpu", commit=OTHER)),
        (trainer(kind="rehearsal", commit=None, lock=None), TrainerChoice()),
    ],
)
def test_the_trainer_is_the_runs(then: TrainerRecord, choice: TrainerChoice) -> None:
    assert trainer_of(then) == choice


def test_an_own_trainer_is_never_taken_from_the_record() -> None:
    with pytest.raises(SetupError) as caught:
        trainer_of(trainer(kind="own", checkout="/s s", lock=None, commit=OTHER))
    assert "--sd-scripts '/s s' --python /t/python" in str(caught.value.hint)


def run(sha256: str | None, *, then: TrainerRecord | None = None, status: Status = "finished") -> FoundRun:
    outputs = () if sha256 is None else (OutputFile(name="output/x.safetensors", sha256=sha256, size=1),)
    record = Record(
        lorabake="0", name="x", rehearsal=False, status=status, started="", recipe=digest_of(b"", "recipe.toml"),
        compiled=(), seed=1, trainer=then or trainer(), machine=MachineFacts(system="t", cpus=1, memory_bytes=1),
        argv=(), cwd="/", environment={}, planned_steps=1,
        outcome=Outcome(code="trained", message=quoted("m"), outputs=outputs),
    )  # fmt: skip
    return FoundRun(RunPaths(Path("/r")), record, "runs/x-001")


def test_what_is_named_comes_before_what_the_run_had() -> None:
    found, mine = run("a", then=trainer(commit=OTHER)), TrainerChoice("cuda")
    assert Rerun(found, mine).trainer == mine
    assert Rerun(found, TrainerChoice()).trainer == TrainerChoice("cpu", commit=OTHER)


def test_what_is_said_of_the_two_files() -> None:
    then, root = run("a"), Path("/r2")
    assert beside(then, run("a").record, root) == "x.safetensors is the same file as that of runs/x-001, byte for byte"
    other = beside(then, run("b").record, root)
    assert other is not None
    assert other.endswith("how far apart they are: lorabake compare runs/x-001 /r2")
    assert beside(then, run(None).record, root) is None
    assert beside(run(None), run("a").record, root) is None
    assert beside(then, run("a", status="failed").record, root) is None
