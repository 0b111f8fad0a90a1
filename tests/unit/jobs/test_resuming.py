"""Whether an sd-scripts has the options for resuming."""

from __future__ import annotations

from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal

import pytest

from lorabake.errors import SetupError
from lorabake.jobs.resume import prepare
from lorabake.planning.resume_steps import ResumeSteps, TrainingSchedule
from lorabake.runs.resume_points import OutputNames, ResumePoint, Training
from lorabake.runs.states import ExpectedFiles, SavedState
from lorabake.trainer import versions
from lorabake.trainer.install import Trainer
from lorabake.trainer.options import not_installed_error
from lorabake.util import resources
from lorabake_schemas.machine import MachineFacts
from lorabake_schemas.record import FileDigest, Record, TrainerRecord
from situations import RECORDED

if TYPE_CHECKING:
    from lorabake_schemas.messages import Message
    from lorabake_schemas.options import OptionSnapshot
    from lorabake_schemas.plan import Script

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
        **RECORDED,
    )


def way(*, skip: bool) -> ResumePoint:
    training = Training(
        {}, OutputNames("x", "safetensors", TrainingSchedule(batches=5, accumulation=1, epochs=3, steps=15))
    )
    state = SavedState(Path("output/x-step00000012-state"), "step", 12, 1)
    return ResumePoint(training, ExpectedFiles(frozenset()), state, ResumeSteps(12, 10, skip=skip))


def trainer(kind: Literal["pin", "own"] = "pin", commit: str | None = OLD) -> Trainer:
    return Trainer(kind, Path("/sd-scripts"), Path("python"), commit, None, None, {})


def without(*names: str, of: str = "train_network.py") -> OptionSnapshot:
    whole = resources.load_snapshot()
    options = tuple(each for each in whole.of(of) if each.name not in names)
    return whole.model_copy(update={"scripts": {**whole.scripts, of: options}})


def knows(monkeypatch: pytest.MonkeyPatch, asked: str, snapshot: OptionSnapshot) -> None:
    def answer(*_asked: object) -> OptionSnapshot:
        return snapshot

    monkeypatch.setattr(versions, asked, answer)


def refuse(script: Script = "train_network.py", *, skip: bool = True, of: Trainer | None = None) -> list[Message]:
    said: list[Message] = []
    chosen = of or trainer()
    snapshot = prepare.read_option_snapshot(chosen, record(script).trainer, ENV, said.append)
    prepare.ensure_options_supported(way(skip=skip), script, chosen, snapshot)
    return said


def test_an_older_commit_that_cannot_skip_is_refused_by_the_options_it_lacks(monkeypatch: pytest.MonkeyPatch) -> None:
    older = without("initial_step", "skip_until_initial_step")
    knows(monkeypatch, "load_commit_options", older)
    with pytest.raises(SetupError) as caught:
        refuse()
    message = caught.value.message
    assert "sd-scripts aaaaaaaaaaaa " in message
    assert message.filled["options"] == "--initial_step, --skip_until_initial_step"
    assert caught.value.hint == "start again with `lorabake rerun RUN`"


def test_only_the_options_that_are_needed_are_asked_for_and_of_the_script_of_the_run(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    older = without("skip_until_initial_step", of="sdxl_train_network.py")
    knows(monkeypatch, "load_commit_options", older)
    assert refuse("train_network.py") == []
    assert refuse("sdxl_train_network.py", skip=False) == []
    with pytest.raises(SetupError, match=r"has no --skip_until_initial_step,"):
        refuse("sdxl_train_network.py")


def test_the_pin_has_them_all() -> None:
    assert refuse(of=trainer(commit=resources.load_pin().commit)) == []


def test_what_cannot_be_asked_is_not_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(commit: str | None, _: object) -> OptionSnapshot:
        raise not_installed_error(commit or "")

    monkeypatch.setattr(versions, "load_commit_options", unknown)
    assert refuse() == []


def test_an_own_one_is_asked_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    older = without("initial_step")
    knows(monkeypatch, "read_user_options", older)
    with pytest.raises(SetupError, match=r"sd-scripts /sd-scripts has no --initial_step,"):
        refuse(of=trainer("own", None))
