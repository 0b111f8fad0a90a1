"""Which commit a question is about, and when the user's own sd-scripts is asked for its options."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from constant import returning
from lorabake.errors import SetupError
from lorabake.jobs.run import TrainerChoice
from lorabake.trainer import git_tree, options, versions
from lorabake.trainer.install import Trainer
from lorabake.util import resources
from lorabake_schemas.messages import msg
from lorabake_schemas.options import OptionSnapshot

PIN, OTHER = resources.load_pin(), "0123456789" * 4


def test_a_choice_of_a_commit_is_the_pin_but_for_that() -> None:
    assert TrainerChoice().pin == PIN
    other = TrainerChoice(commit=OTHER).pin
    assert other.commit == OTHER
    assert other.model_copy(update={"commit": PIN.commit}) == PIN


def test_who_uses_the_pin_is_not_warned() -> None:
    assert versions.commit_warning(None) is versions.commit_warning(PIN.commit) is None
    warned = versions.commit_warning(OTHER)
    assert warned is not None
    assert OTHER[:12] in warned
    assert PIN.commit[:12] in warned


def test_the_pins_options_need_no_trainer(tmp_path: Path) -> None:
    assert versions.load_commit_options(None, {"LORABAKE_HOME": str(tmp_path)}) == resources.load_snapshot()
    assert versions.load_commit_options(PIN.commit, {"LORABAKE_HOME": str(tmp_path)}) == resources.load_snapshot()


class Asked:
    """Stands in for the parsers of a checkout."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *, clean: bool = True, answers: bool = True) -> None:
        self.asked: list[str] = []
        self.answers = answers

        monkeypatch.setattr(git_tree, "find_changed_blobs", returning(() if clean else ("library/train_util.py",)))
        monkeypatch.setattr(options, "extract_options", self.make)

    def make(
        self, _python: Path, _checkout: Path, folder: Path, commit: str, _env: Mapping[str, str]
    ) -> OptionSnapshot:
        assert not folder.exists()
        self.asked.append(commit)
        if not self.answers:
            raise SetupError(msg("it does not start"))
        return resources.load_snapshot().model_copy(update={"commit": commit})


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
    found = versions.read_user_options(own(commit), {}, said.append)
    assert (found.commit if found else None, said) == (name, [])
    assert asked.asked == ([name] if name else [])


def test_one_that_does_not_answer_is_warned_of(monkeypatch: pytest.MonkeyPatch) -> None:
    Asked(monkeypatch, answers=False)
    said: list[str] = []
    assert versions.read_user_options(own(OTHER), {}, said.append) is None
    assert said == ["warning: cannot read the options of this sd-scripts, so they are not checked: it does not start"]


def test_lorabakes_own_trainers_are_not_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = Asked(monkeypatch)
    trainer = Trainer("pin", Path("x"), Path("python"), OTHER, "cpu", "x", {})
    assert versions.read_user_options(trainer, {}, print) is None
    assert asked.asked == []
