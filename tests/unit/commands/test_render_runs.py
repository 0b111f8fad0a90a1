"""Runs, trainers and recipes as text and as JSON."""

from __future__ import annotations

import json
from pathlib import Path

import click

from ended_runs import record
from lorabake.commands.output.layout import TextLayout, format_file_size
from lorabake.commands.output.lists import (
    format_copied_recipe,
    format_installed_trainer,
    format_recipe_list,
    format_trainer,
    format_trainer_status,
)
from lorabake.commands.output.runs import LAST_LOG_LINES, format_run_outcome, format_written_files
from lorabake.runs.causes.general import UNKNOWN_FAILURE
from lorabake.runs.folder import RunPaths
from lorabake.runs.record import read_trigger_words
from lorabake.trainer.install import Trainer, TrainerStatus
from lorabake.util import resources

PAGE = TextLayout()


def plain(text: str) -> str:
    return click.unstyle(text)


def test_the_list_of_recipes_says_what_each_is_for() -> None:
    texts = {name: resources.read_recipe_text(name) for name in resources.list_recipe_names()}
    rows = format_recipe_list(texts, PAGE).splitlines()
    assert [row.split()[0] for row in rows] == list(resources.list_recipe_names())
    assert all(len(row.split(maxsplit=1)[1]) > 15 and "#" not in row for row in rows)


def test_a_good_end_names_the_file() -> None:
    file = {"name": "output/x.safetensors", "sha256": "0", "size": 12_300_000}
    ended = record("finished", {"code": "ok", "message": "trained", "outputs": [file]})
    rows = plain(format_run_outcome(ended, Path("r"), PAGE, ["lum", "red hat"])).splitlines()
    assert rows[:3] == ["done: trained", "  r/output/x.safetensors (12.3 MB)", "  trigger words: lum, red hat"]
    assert "models/Lora" in rows[3]
    assert "models/loras" in rows[3]
    assert rows[4].endswith(": lorabake tensorboard r")
    assert rows[5:] == ["  run folder: r"]
    assert len(plain(format_run_outcome(ended, Path("r"), PAGE)).splitlines()) == 5
    rehearsed = ended.model_copy(update={"rehearsal": True})
    assert len(plain(format_run_outcome(rehearsed, Path("r"), PAGE, ["lum"])).splitlines()) == 3


def test_the_trigger_words_of_a_run(tmp_path: Path) -> None:
    paths = RunPaths(tmp_path)
    assert read_trigger_words(paths) == ()
    paths.recipe.write_text('concept = [{token = "lum", outfit = "red hat"}, {token = "lum"}, {class = "cat"}, 3]')
    assert read_trigger_words(paths) == ("lum", "red hat")
    for bad in ("concept = 3", "[concept]\ntoken = 'x'", "not toml"):
        paths.recipe.write_text(bad)
        assert read_trigger_words(paths) == ()


def test_a_remark_stands_below_a_good_end() -> None:
    outcome: dict[str, object] = {"code": "trained", "message": "trained", "remarks": ["the loss jumped"]}
    rows = plain(format_run_outcome(record("finished", outcome), Path("r"), PAGE)).splitlines()
    assert rows == ["done: trained", "  note: the loss jumped", "  run folder: r"]


def test_a_bad_end_shows_the_trainers_last_words() -> None:
    words = [f"line {number}" for number in range(40)]
    outcome: dict[str, object] = {"code": "died", "message": "it died", "hint": "more memory", "last_words": words}
    rows = plain(format_run_outcome(record("failed", outcome), Path("r"), PAGE)).splitlines()
    assert rows[0] == "failed: it died"
    assert rows[1:-2] == [f"  line {number}" for number in range(40 - LAST_LOG_LINES, 40)]
    assert rows[-2:] == ["  more memory", "  run folder: r"]
    assert "lorabake attach r" in format_run_outcome(record("started", None), Path("r"), PAGE)


def test_changed_inputs_are_neither_done_nor_failed() -> None:
    outcome: dict[str, object] = {"code": "inputs-changed", "message": "trained, but", "hint": "again"}
    rows = plain(format_run_outcome(record("inputs-changed", outcome), Path("r"), PAGE)).splitlines()
    assert rows == ["finished, but inputs changed: trained, but", "  again", "  run folder: r"]


def test_a_file_that_was_cut_off_is_marked_and_a_moved_folder_named() -> None:
    file = {"name": "output/x.safetensors", "sha256": "0", "size": 1000, "incomplete": "it is cut off"}
    outcome: dict[str, object] = {"code": "disk-full", "message": "full", "outputs": [file], "moved_to": "there"}
    rows = plain(format_run_outcome(record("failed", outcome), Path("r"), PAGE)).splitlines()
    assert rows[1:] == [
        "  there/output/x.safetensors (1 kB): not usable (it is cut off)", "  run folder: there",
    ]  # fmt: skip


def test_nothing_is_said_to_be_in_a_deleted_folder() -> None:
    outcome: dict[str, object] = {"code": "folder-deleted", "message": "gone", "steps": 3, "hint": "run it again"}
    rows = plain(format_run_outcome(record("failed", outcome), Path("r"), PAGE)).splitlines()
    assert rows == ["failed: gone", "  run it again"]


TRAINER = Trainer("pin", Path("sd"), Path("py"), "0123456789abcdef", "cpu", "0", {"torch": "2.13.0"})


def test_trainers() -> None:
    assert format_trainer(TRAINER, PAGE) == "sd-scripts 0123456789ab, cpu packages (torch 2.13.0): sd"
    own = Trainer("own", Path("sd"), Path("py"), None, None, None, {})
    assert format_trainer(own, PAGE).startswith("sd-scripts (unknown commit),")
    assert format_trainer(own, PAGE).endswith("own packages (torch ?): sd")
    status = TrainerStatus(Path("h"), "url", "abc", "3.11", TRAINER, (TRAINER,))
    changed = {TRAINER.checkout: ("venv/x.py",)}
    lines = format_trainer_status(status, changed, PAGE, as_json=False).splitlines()
    assert lines[1].startswith("in use: sd-scripts")
    assert "venv/x.py" in lines[2]
    table = json.loads(format_trainer_status(status, changed, PAGE, as_json=True))
    assert table["installed"][0]["changed"] == ["venv/x.py"]
    assert (table["version"], table["commit"], table["in_use"]["lock"]) == (1, "abc", "cpu")
    none = TrainerStatus(Path("h"), "url", "abc", "3.11", None, ())
    assert "not installed" in format_trainer_status(none, {}, PAGE, as_json=False)
    assert json.loads(format_trainer_status(none, {}, PAGE, as_json=True))["in_use"] is None


def test_files_that_were_written() -> None:
    assert format_written_files((Path("a"), Path("b")), PAGE, as_json=False) == "wrote a\nwrote b"
    assert json.loads(format_written_files((Path("a"),), PAGE, as_json=True)) == {"version": 1, "written": ["a"]}
    assert format_copied_recipe(Path("my.toml"), PAGE).endswith("`lorabake check my.toml`")


def test_sizes() -> None:
    assert [format_file_size(size) for size in (1, 99_499, 100_000, 73_400_000)] == [
        "1 kB",
        "99 kB",
        "0.1 MB",
        "73.4 MB",
    ]


def test_an_installed_trainer() -> None:
    assert format_installed_trainer(TRAINER, PAGE, as_json=False) == format_trainer(TRAINER, PAGE)
    assert json.loads(format_installed_trainer(TRAINER, PAGE, as_json=True))["checkout"] == "sd"


def test_a_failure_of_which_only_the_place_is_known_shows_the_end_of_the_log_too() -> None:
    words = [f"line {number}" for number in range(40)]
    outcome: dict[str, object] = {
        "code": UNKNOWN_FAILURE, "message": "failed", "last_words": words, "evidence": [{"line": 3, "text": "File a"}],
    }  # fmt: skip
    rows = plain(format_run_outcome(record("failed", outcome), Path("r"), PAGE)).splitlines()
    assert f"  {words[-1]}" in rows
    assert sum(row.startswith("  line ") for row in rows) == LAST_LOG_LINES
