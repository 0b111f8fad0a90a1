"""init on a terminal: it asks for what it cannot see, in the reader's language, and enter takes the default."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
import tomllib
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

ENVIRONMENT = {name: os.environ[name] for name in ("PATH", "COVERAGE_PROCESS_START") if name in os.environ}


def make_photographs(folder: Path) -> Path:
    folder.mkdir()
    for number in range(12):
        Image.new("RGB", (96, 96 + 8 * number), (number * 20, 90, 60)).save(folder / f"IMG_{number:04}.jpg")
    return folder


def answer_on_terminal(place: Path, args: Sequence[str], answers: Sequence[str]) -> tuple[int, str]:
    """The exit code, and everything that the terminal showed. An answer is typed at each question."""
    ours, theirs = pty.openpty()
    env = ENVIRONMENT | {"HOME": str(place), "TERM": "xterm", "COLUMNS": "100", "NO_COLOR": "1", "LC_ALL": "C.UTF-8"}
    ahead, pieces, seen = [*answers], list[bytes](), 0
    with subprocess.Popen(
        [sys.executable, "-m", "lorabake", "init", *args],
        cwd=place,
        env=env,
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
    ) as process:
        os.close(theirs)
        with suppress(OSError):
            while piece := os.read(ours, 1 << 16):
                pieces.append(piece)
                shown = b"".join(pieces)
                if shown[seen:].endswith(b": ") and ahead:
                    seen = len(shown)
                    os.write(ours, f"{ahead.pop(0)}\n".encode())
        process.wait()
    os.close(ours)
    assert not ahead, "fewer questions than answers"
    return process.returncode, b"".join(pieces).decode("utf-8").replace("\r", "")


def read(place: Path, name: str) -> dict[str, Any]:
    return tomllib.loads((place / name).read_text("utf-8"))


@pytest.mark.parametrize(
    ("language", "question"), [("en", "What do the images show?"), ("pt_BR", "O que as imagens mostram?")]
)
def test_questions_have_defaults_in_both_languages(tmp_path: Path, language: str, question: str) -> None:
    make_photographs(tmp_path / "photos")
    code, shown = answer_on_terminal(tmp_path, ["photos", "--lang", language], ["", "", "", ""])
    assert question in shown
    made = read(tmp_path, "ohwxlora.toml")
    assert (made["kind"], made["concept"][0]["class"], made["concept"][0]["captions"]) == (
        "character",
        "person",
        "none",
    )
    assert code == 1  # there is no model


def test_answers_become_the_recipe_and_wrong_ones_are_asked_again(tmp_path: Path) -> None:
    make_photographs(tmp_path / "photos")
    answers = ["owner/some-model", "sdxl", "car", "char", "zkwanna", "woman"]
    code, shown = answer_on_terminal(tmp_path, ["photos"], answers)
    made = read(tmp_path, "zkwanna.toml")
    assert (made["base"]["model"], made["base"]["family"]) == ("owner/some-model", "sdxl")
    assert (made["kind"], made["concept"][0]["token"], made["concept"][0]["class"]) == ("character", "zkwanna", "woman")
    assert (shown.count("What do the images show?"), code) == (2, 0)


def test_what_options_say_and_yes_are_not_asked(tmp_path: Path) -> None:
    make_photographs(tmp_path / "photos")
    options = ["photos", "--token", "zkwanna", "--class", "woman", "--kind", "character"]
    _, shown = answer_on_terminal(tmp_path, options, [""])
    assert shown.count("Base model (") == 1
    _, shown = answer_on_terminal(tmp_path, ["photos", "--yes", "-o", "other.toml"], [])
    assert read(tmp_path, "other.toml")["name"] == "ohwxlora"


def test_json_and_no_terminal_ask_nothing(tmp_path: Path) -> None:
    make_photographs(tmp_path / "photos")
    done = subprocess.run(
        [sys.executable, "-m", "lorabake", "init", "photos", "--json"],
        cwd=tmp_path, env=ENVIRONMENT | {"HOME": str(tmp_path)}, capture_output=True, encoding="utf-8", timeout=60,
        check=False, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    report = json.loads(done.stdout)
    assert (report["recipe"], report["model"]) == ("ohwxlora.toml", None)
    assert [each["key"] for each in report["assumed"]] == ["model", "kind", "token", "class"]
    assert [each["rule"] for each in report["check"]["findings"] if each["severity"] == "error"] == ["G4.7"]
    assert done.returncode == 1


def test_a_wrong_option_is_named_before_anything_is_written(tmp_path: Path) -> None:
    make_photographs(tmp_path / "photos")
    for option, value in (("--family", "flux"), ("--kind", "car"), ("--name", "a/b"), ("--token", " ")):
        done = subprocess.run(
            [sys.executable, "-m", "lorabake", "init", "photos", option, value],
            cwd=tmp_path, env=ENVIRONMENT | {"HOME": str(tmp_path)}, capture_output=True, encoding="utf-8", timeout=60,
            check=False,
        )  # fmt: skip
        assert (done.returncode, list(tmp_path.glob("*.toml"))) == (2, [])
        assert option in done.stderr
