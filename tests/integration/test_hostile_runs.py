"""No hostile run folder (hostile_runs.py) runs, reads, writes, moves or deletes anything outside itself."""

from __future__ import annotations

from pathlib import Path

import pytest
from hostile_runs import CASES
from hostile_world import Base, Case, tried


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Base:
    return Base(tmp_path_factory.mktemp("hostile") / "base")


def test_a_run_that_is_not_tampered_with_can_be_verified_resumed_and_repeated(base: Base, tmp_path: Path) -> None:
    """Otherwise the other cases could be blocked for another reason."""
    runs = ("verify own", "rerun own", "resume --dry-run", "resume own")
    verdict = tried(base, Case("untouched", lambda _: None, runs), tmp_path / "world")
    assert (verdict.codes, verdict.successes) == (dict.fromkeys(runs, 0), ())


def test_what_reaches_outside_is_noticed(base: Base, tmp_path: Path) -> None:
    """Each kind of success, achieved by the test itself instead of by a command."""
    folders = iter((tmp_path / "a", tmp_path / "b"))
    quiet = tried(base, Case("quiet", lambda world: world.ran.write_text("started x\n"), ()), next(folders))
    assert quiet.successes == ("ran: started x",)
    loud = tried(base, Case("loud", lambda world: world.sleeper.kill(), ("verify",)), next(folders))
    assert loud.successes == ("signalled the user's process",)


@pytest.mark.parametrize("name", CASES)
def test_no_hostile_run_folder_succeeds(base: Base, tmp_path: Path, name: str) -> None:
    assert tried(base, CASES[name], tmp_path / "world").successes == ()


@pytest.mark.parametrize("name", ["another-python", "argv-in-record-and-command", "argv-of-a-part", "argv-with-code"])
def test_an_edited_command_is_named(base: Base, tmp_path: Path, name: str) -> None:
    verdict = tried(base, Case(name, CASES[name].tamper, ("verify",)), tmp_path / "world")
    assert verdict.codes == {"verify": 1}
