"""Which commit a question is about, and when the user's own sd-scripts is asked for its options."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from constant import returning
from lorabake import commits, resources
from lorabake.errors import SetupError
from lorabake.trainer import git_tree, options
from lorabake.trainer.install import Trainer
from lorabake.workflow import TrainerChoice
from lorabake_schemas.options import Snapshot
from lorabake_schemas.words import say

PIN, OTHER = resources.pin(), "0123456789" * 4


def test_a_choice_of_a_commit_is_the_pin_but_for_that() -> None:
    assert TrainerChoice().pin == PIN
    other = TrainerChoice(commit=OTHER).pin
    assert other.commit == OTHER
    assert other.model_copy(update={"commit": PIN.commit}) == PIN


def test_who_uses_the_pin_is_not_warned() -> None:
    assert commits.warning(None) is commits.warning(PIN.commit) is None
    warned = commits.warning(OTHER)
    assert warned is not None
    assert OTHER[:12] in warned
    assert PIN.commit[:12] in warned


def test_the_pins_options_need_no_trainer(tmp_path: Path) -> None:
    assert commits.snapshot(None, {"LORABAKE_HOME": str(tmp_path)}) == resources.snapshot()
    assert commits.snapshot(PIN.commit, {"LORABAKE_HOME": str(tmp_path)}) == resources.snapshot()


class Asked:
    """Stands in for the parsers of a checkout."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *, clean: bool = True, answers: bool = True) -> None:
        self.asked: list[str] = []
        self.answers = answers

        monkeypatch.setattr(git_tree, "changed", returning(() if clean else ("library/train_util.py",)))
        monkeypatch.setattr(options, "make", self.make)

    def make(self, _python: Path, _checkout: Path, folder: Path, commit: str, _env: Mapping[str, str]) -> Snapshot:
        assert not folder.exists()
        self.asked.append(commit)
        if not self.answers:
            raise SetupError(say("it does not start"))
        return resources.snapshot().model_copy(update={"commit": commit})


def own(commit: str | None) -> Trainer:
    return Trainer("own", Path("/home/me/sd-scripts"), Path("python"), commit, None, None, {})


@pytest.mark.parametrize(
    ("commit", "clean", "name"),
    [
        (PIN.commit, True, None),
        (PIN.commit, False, f"{PIN.commit} (changed)"),
        (OTHER, True, OTHER),
        (None, True, "/home/me/sd-scripts"),
    ],
)
def test_the_users_own_is_asked_unless_it_is_the_pin_untouched(
    monkeypatch: pytest.MonkeyPatch, commit: str | None, clean: bool, name: str | None
) -> None:
    asked, said = Asked(monkeypatch, clean=clean), list[str]()
    found = commits.own(own(commit), {}, said.append)
    assert (found.commit if found else None, said) == (name, [])
    assert asked.asked == ([name] if name else [])


def test_one_that_does_not_answer_is_warned_of(monkeypatch: pytest.MonkeyPatch) -> None:
    Asked(monkeypatch, answers=False)
    said: list[str] = []
    assert commits.own(own(OTHER), {}, said.append) is None
    assert said == ["warning: its options could not be read, so nobody checks them: it does not start"]


def test_lorabakes_own_trainers_are_not_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = Asked(monkeypatch)
    trainer = Trainer("pin", Path("x"), Path("python"), OTHER, "cpu", "x", {})
    assert commits.own(trainer, {}, print) is None
    assert asked.asked == []
