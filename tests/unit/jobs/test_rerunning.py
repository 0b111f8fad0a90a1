"""Which trainer repeats a run, and the message about the two files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from lorabake.errors import SetupError
from lorabake.jobs.rerun import RerunRequest, compare_with_original, trainer_choice_from_record
from lorabake.jobs.run import TrainerChoice
from lorabake.runs.folder import RunPaths
from lorabake.runs.index import FoundRun
from lorabake.util import resources
from lorabake.util.hashing import digest_bytes
from lorabake_schemas.machine import MachineFacts
from lorabake_schemas.messages import literal
from lorabake_schemas.record import Outcome, OutputFile, Record, RunStatus, TrainerRecord
from situations import RECORDED

PIN = resources.load_pin().commit
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
    assert trainer_choice_from_record(then) == choice


def test_an_own_trainer_is_never_taken_from_the_record() -> None:
    with pytest.raises(SetupError) as caught:
        trainer_choice_from_record(trainer(kind="own", checkout="/s s", lock=None, commit=OTHER))
    assert "--sd-scripts '/s s' --python /t/python" in str(caught.value.hint)


def run(sha256: str | None, *, then: TrainerRecord | None = None, status: RunStatus = "finished") -> FoundRun:
    outputs = () if sha256 is None else (OutputFile(name="output/x.safetensors", sha256=sha256, size=1),)
    record = Record(
        lorabake="0", name="x", rehearsal=False, status=status, started="", recipe=digest_bytes(b"", "recipe.toml"),
        compiled=(), seed=1, trainer=then or trainer(), machine=MachineFacts(system="t", cpus=1, memory_bytes=1),
        argv=(), cwd="/", environment={}, planned_steps=1,
        outcome=Outcome(code="trained", message=literal("m"), outputs=outputs), **RECORDED,
    )  # fmt: skip
    return FoundRun(RunPaths(Path("/r")), record, "runs/x-001")


def test_what_is_named_comes_before_what_the_run_had() -> None:
    found, mine = run("a", then=trainer(commit=OTHER)), TrainerChoice("cuda")
    assert RerunRequest(found, mine).trainer == mine
    assert RerunRequest(found, TrainerChoice()).trainer == TrainerChoice("cpu", commit=OTHER)


def test_what_is_said_of_the_two_files() -> None:
    then, root = run("a"), Path("/r2")
    assert (
        compare_with_original(then, run("a").record, root)
        == "x.safetensors is identical byte for byte to the one of runs/x-001"
    )
    other = compare_with_original(then, run("b").record, root)
    assert other is not None
    assert other.endswith("`lorabake compare runs/x-001 /r2`")
    assert compare_with_original(then, run(None).record, root) is None
    assert compare_with_original(run(None), run("a").record, root) is None
    assert compare_with_original(then, run("a", status="failed").record, root) is None
