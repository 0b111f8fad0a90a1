"""Everything that gets a Translator prints in its language."""

from __future__ import annotations

import io

import click
import pytest

from languages import Backwards
from lorabake.commands.error_handler import error_boundary
from lorabake.commands.help import current_translator
from lorabake.commands.output.progress import line_printer, watch_progress
from lorabake.errors import MachineError
from lorabake.util.i18n import ENGLISH, Translator
from lorabake_schemas.events import Epoch, RunTotals, Saving, Step
from lorabake_schemas.messages import msg, nmsg

OTHER = Translator("xx", Backwards())


def test_english_is_what_was_said() -> None:
    assert ENGLISH(msg("a {b}", b=1)) == "a 1"
    assert type(ENGLISH(msg("a"))) is str
    assert OTHER(nmsg(2, "{n} file", "{n} files")) == "~2 files"
    assert OTHER("as it is") == "as it is"


def test_the_boundary_speaks_it(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit), error_boundary({}, speech=lambda: OTHER):
        raise MachineError(msg("no {what}", what=msg("room")), msg("make some"))
    assert click.unstyle(capsys.readouterr().err) == "~error: ~no ~room\n  ~make some\n"


def test_a_run_speaks_it() -> None:
    stream = io.StringIO()
    with watch_progress(stream, 2, translator=OTHER, clock=lambda: 0.0) as watcher:
        for event in (RunTotals(train_samples=1, epochs=2, steps=2), Saving("x"), Epoch(1, 2), Step(2, 2, 0.5)):
            watcher(event)
    assert stream.getvalue().splitlines() == [
        "~~1 sample per epoch, ~2 epochs, ~2 steps", "~saving x", "~step 2/2  ~average loss 0.5  ~epoch 1/2",
    ]  # fmt: skip


def test_passing_lines_are_known_in_any_language() -> None:
    stream = io.StringIO()
    out = line_printer(stream, OTHER)
    for number in range(10):
        out(msg("installing {n}", n=number))
    assert stream.getvalue() == "~installing 9\n"


def test_a_command_finds_the_speech_of_its_command_line() -> None:
    assert current_translator() is ENGLISH
    root = click.Context(click.Command("root"), obj="pt_BR")
    with root, click.Context(click.Command("check"), parent=root):
        assert current_translator().language == "pt_BR"
