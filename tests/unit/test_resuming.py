"""Whether an sd-scripts has the options by which a training goes on."""

from __future__ import annotations

from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal

import pytest

from lorabake import commits, resources, resuming
from lorabake.errors import SetupError
from lorabake.planning.continuation import Continuation, Course
from lorabake.runs.parts import Names
from lorabake.runs.resumable import Training, Way
from lorabake.runs.states import Expected, State
from lorabake.trainer.install import Trainer
from lorabake.trainer.options import not_installed
from lorabake_schemas.machine import MachineFacts
from lorabake_schemas.record import FileDigest, Record, TrainerRecord

if TYPE_CHECKING:
    from lorabake_schemas.options import Snapshot
    from lorabake_schemas.plan import Script
    from lorabake_schemas.words import Said

OLD = "a" * 40
ENV = MappingProxyType[str, str]({})


def record(script: Script) -> Record:
    return Record(
        name="x",
        lorabake="0",
        rehearsal=False,
        seed=1,
        status="interrupted",
        started="2026-01-01T00:00:00Z",
        recipe=FileDigest(name="recipe.toml", sha256="0" * 64, size=0),
        compiled=(),
        argv=("python", f"/sd-scripts/{script}", "--config_file", "train.toml"),
        cwd="/runs/x-001",
        environment={},
        trainer=TrainerRecord(kind="pin", python="python", commit=OLD),
        machine=MachineFacts(system="test", cpus=1, memory_bytes=1),
        planned_steps=15,
    )


def way(*, skip: bool) -> Way:
    training = Training({}, Names("x", "safetensors", Course(batches=5, accumulation=1, epochs=3, steps=15)))
    state = State(Path("output/x-step00000012-state"), "step", 12, 1)
    return Way(training, Expected(frozenset()), state, Continuation(12, 10, skip=skip))


def trainer(kind: Literal["pin", "own"] = "pin", commit: str | None = OLD) -> Trainer:
    return Trainer(kind, Path("/sd-scripts"), Path("python"), commit, None, None, {})


def without(*names: str, of: str = "train_network") -> Snapshot:
    whole = resources.snapshot()
    options = tuple(each for each in getattr(whole, of) if each.name not in names)
    return whole.model_copy(update={of: options})


def knows(monkeypatch: pytest.MonkeyPatch, asked: str, snapshot: Snapshot) -> None:
    def answer(*_asked: object) -> Snapshot:
        return snapshot

    monkeypatch.setattr(commits, asked, answer)


def refuse(script: Script = "train_network.py", *, skip: bool = True, of: Trainer | None = None) -> list[Said]:
    said: list[Said] = []
    chosen = of or trainer()
    snapshot = resuming.understood(chosen, record(script).trainer, ENV, said.append)
    resuming.refuse_lacking(way(skip=skip), script, chosen, snapshot)
    return said


def test_an_older_commit_that_cannot_skip_is_refused_by_the_options_it_lacks(monkeypatch: pytest.MonkeyPatch) -> None:
    older = without("initial_step", "skip_until_initial_step")
    knows(monkeypatch, "snapshot", older)
    with pytest.raises(SetupError) as caught:
        refuse()
    message = caught.value.message
    assert message == (
        "sd-scripts aaaaaaaaaaaa cannot go on from a state where it stopped: it does not know --initial_step, "
        "--skip_until_initial_step"
    )
    assert caught.value.hint == "start the run again with `lorabake rerun`"


def test_only_the_options_that_are_needed_are_asked_for_and_of_the_script_of_the_run(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    older = without("skip_until_initial_step", of="sdxl_train_network")
    knows(monkeypatch, "snapshot", older)
    assert refuse("train_network.py") == []
    assert refuse("sdxl_train_network.py", skip=False) == []
    with pytest.raises(SetupError, match="does not know --skip_until_initial_step"):
        refuse("sdxl_train_network.py")


def test_the_pin_has_them_all() -> None:
    assert refuse(of=trainer(commit=resources.pin().commit)) == []


def test_what_cannot_be_asked_is_not_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(commit: str | None, _: object) -> Snapshot:
        raise not_installed(commit or "")

    monkeypatch.setattr(commits, "snapshot", unknown)
    assert refuse() == []


def test_an_own_one_is_asked_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    older = without("initial_step")
    knows(monkeypatch, "own", older)
    with pytest.raises(SetupError, match="sd-scripts /sd-scripts cannot go on"):
        refuse(of=trainer("own", None))
