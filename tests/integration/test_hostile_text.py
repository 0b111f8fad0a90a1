"""Text of others, wherever it comes from, does nothing to a terminal, to grep or to GitHub: it is shown.

One text full of what terminals and readers are led by is put wherever a person, a file or a program can put one.
"""

from __future__ import annotations

import json
import os
import pty
import re
import shutil
import subprocess
import sys
import unicodedata
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, cast

import pytest
from click.testing import CliRunner, Result
from test_cli import environment, make_project, with_base

from lora_files import SMALL, metadata, write
from lorabake.cli import main

ENDS = "\x1b[2J\x1b]0;owned\x07\x1b[8m\x9b5m\x7f\x85\u202e\u2066\u200b\u2028\u061c\ufeff"
NASTY = f"a{ENDS}\r\nINJECTED::error file=x::[red]b[/red]"  # as much as a file name can hold, too
Run = Callable[..., Result]
OWN = re.compile(r"\x1b\[(?:0|1|2|3[1-6])m")

RECIPE = f"""
name = "lamp"
kind = "object"

[base]
model = "models/none.safetensors"
family = "sd15"
tags = "danbooru"

[[concept]]
token = "lumlighthouse"
class = {json.dumps("lighthouse" + ENDS)}
images = {json.dumps(NASTY)}

[train]
optimizer = "Prodigy"
resolution = 64
max_train_steps = 4

[metadata]
title = {json.dumps(NASTY)}

[log]
wandb_run_name = {json.dumps(NASTY)}

[[ignore]]
rule = "G1.2"
reason = {json.dumps(NASTY)}
"""
FAULTY = f"""
name = {json.dumps(NASTY)}
kind = {json.dumps(NASTY)}
{json.dumps(NASTY)} = 1

[base]
model = {json.dumps(NASTY)}
vae = {json.dumps(NASTY)}

[[concept]]
token = {json.dumps(NASTY)}
class = {json.dumps(NASTY)}
images = {json.dumps(NASTY)}

[train]
optimizer = {json.dumps(NASTY)}
optimizer_args = [{json.dumps(NASTY)}]

[kohya]
{json.dumps(NASTY)} = {json.dumps(NASTY)}
log_with = {json.dumps(NASTY)}

[[ignore]]
rule = {json.dumps(NASTY)}
reason = {json.dumps(NASTY)}
"""


def assert_shown(text: str, *, terminal: bool = False) -> None:
    """Nothing is left in what was printed but text and line breaks, and none of these was brought by the text."""
    text = OWN.sub("", text).replace("\r\n", "\n") if terminal else text
    led = {sign for sign in text if sign != "\n" and unicodedata.category(sign) in {"Cc", "Cf", "Cs", "Zl", "Zp"}}
    assert led == set()
    assert [line for line in text.splitlines() if line.lstrip(" '\"").startswith("INJECTED")] == []


@pytest.fixture
def lorabake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """In this process: what is printed is the same, and there are many commands."""
    (tmp_path / "home").mkdir()

    def run(*args: object, cwd: Path) -> Result:
        monkeypatch.chdir(cwd)
        return CliRunner().invoke(main, list(map(str, args)), env=environment(tmp_path / "home"))

    return run


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A project in a folder with such a name, whose images and captions have such names, too."""
    folder = make_project(tmp_path / f"p{NASTY.replace('/', '')}"[:90], RECIPE.lstrip())
    with_base(folder)
    images = folder / NASTY
    images.parent.mkdir(parents=True, exist_ok=True)
    shutil.move(folder / "pictures", images)
    first = min(images.glob("*.png"))
    for number in range(3):
        shutil.copy(first, images / f"n{number}{ENDS}\nINJECTED.png")
        (images / f"n{number}{ENDS}\nINJECTED.txt").write_text(f"lumlighthouse, x{ENDS}, {NASTY}", "utf-8")
    (folder / "faulty.toml").write_text(FAULTY.lstrip(), "utf-8")
    return folder


@pytest.mark.parametrize(
    "args",
    [
        ("check", "lamp.toml"),
        ("check", "lamp.toml", "--output-format", "full"),
        ("check", "faulty.toml"),
        ("check", "faulty.toml", "--output-format", "full"),
        ("check", "faulty.toml", "--color", "always"),
        ("plan", "lamp.toml"),
        ("plan", "lamp.toml", "--diff", "faulty.toml"),
        ("compile", "lamp.toml", "-o", f"out{ENDS}\nINJECTED"),
        ("compile", "lamp.toml", "-o", "lamp.toml"),
        ("run", "lamp.toml", "--rehearse", "--dry-run"),
        ("check", NASTY),
        ("plan", f"none{ENDS}"),
        ("check", "lamp.toml", f"--{ENDS}"),
        ("check", "lamp.toml", "--output-format", NASTY),
        ("check", "lamp.toml", "--commit", NASTY),
        (NASTY,),
        (f"--{NASTY}",),
        ("explain", NASTY),
        ("explain", "rank", ENDS),
        ("recipes", "show", NASTY),
        ("recipes", "copy", NASTY),
        ("recipes", "copy", "object-sd15-prodigy", f"mine{ENDS}\nINJECTED.toml"),
        ("schema", "recipe", "--check", f"none{ENDS}"),
        ("verify", NASTY),
        ("resume", NASTY),
        ("rerun", NASTY),
        ("diff", NASTY, "lamp.toml"),
        ("compare", NASTY, "lamp.toml"),
        ("inspect", NASTY),
        ("run", "lamp.toml", "--sd-scripts", NASTY, "--python", NASTY),
        ("trainer", "install", "--python", NASTY),
    ],
    ids=lambda args: re.sub(r"[^\w-]+", ".", "-".join(args))[:60],
)  # fmt: skip
def test_a_command_shows_it(place: Path, lorabake: Run, args: tuple[str, ...]) -> None:
    done = lorabake(*args, cwd=place)
    assert done.exit_code in ({0, 1} if args[:2] == ("plan", "lamp.toml") else {0, 1, 2, 4})
    assert done.stdout + done.stderr
    for text in (done.stdout, done.stderr):
        assert_shown(text, terminal="always" in args)


def test_every_finding_is_one_line_for_github(place: Path, lorabake: Run) -> None:
    for name in ("lamp.toml", "faulty.toml"):
        counted = json.loads(lorabake("check", name, "--json", cwd=place).stdout)["findings"]
        done = lorabake("check", name, "--output-format", "github", cwd=place)
        assert_shown(done.stdout)
        *commands, summary = done.stdout.splitlines()
        assert len(commands) == len(counted) > 0
        assert all(
            re.match(r"::(error|warning|notice) file=[^:,]+(,line=\d+)?(,col=\d+)?,title=", each) for each in commands
        )
        assert not summary.startswith("::")


@pytest.mark.parametrize(
    "args", [("check", "lamp.toml"), ("check", "faulty.toml"), ("plan", "lamp.toml"), ("inspect", "x.safetensors"),
             ("run", "lamp.toml", "--rehearse", "--dry-run")],
    ids="-".join,
)  # fmt: skip
def test_json_escapes_it_and_stays_json(place: Path, lorabake: Run, args: tuple[str, ...]) -> None:
    lora(place / "x.safetensors")
    done = lorabake(*args, "--json", cwd=place)
    assert_shown(done.stdout + done.stderr)
    assert isinstance(json.loads(done.stdout), dict)


def lora(path: Path, **more: Any) -> Path:
    told = metadata() | {"ss_output_name": NASTY, f"ss_{NASTY}": NASTY, "modelspec.title": NASTY, NASTY: NASTY}
    told |= {"ss_tag_frequency": {NASTY: {NASTY: 3}}, "ss_training_comment": NASTY, "ss_sd_model_name": NASTY} | more
    return write(path, {**SMALL, f"{NASTY}.alpha": ()}, told)


def test_a_lora_shows_it(place: Path, lorabake: Run) -> None:
    first, second = lora(place / f"1{ENDS}.safetensors"), lora(place / "2.safetensors", ss_seed=f"7{ENDS}")
    for command in ("inspect", "compare"):
        done = lorabake(command, first, second, cwd=place)
        assert_shown(done.stdout + done.stderr)
        assert "INJECTED" in done.stdout


def planted(value: Any) -> Any:
    """Every text in a JSON value with the hostile one behind it."""
    if isinstance(value, dict):
        return {key: planted(each) for key, each in cast("dict[str, Any]", value).items()}
    if isinstance(value, list):
        return [planted(each) for each in cast("list[object]", value)]
    return f"{value}{NASTY}" if isinstance(value, str) else value


KEPT = {"status", "version", "kind", "rehearsal", "severity", "rule", "role", "sha256", "where", "started", "ended"}


def plant(path: Path, *keys: str) -> None:
    """Put it into the texts of a record that no choice is bound to."""
    table = json.loads(path.read_text("utf-8"))
    for key in keys:
        table[key] = _plant(table[key])
    path.write_text(json.dumps(table), "utf-8")


def _plant(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: each if key in KEPT else _plant(each) for key, each in cast("dict[str, Any]", value).items()}
    return [_plant(each) for each in cast("list[object]", value)] if isinstance(value, list) else planted(value)


def test_a_run_shows_it(place: Path, lorabake: Run) -> None:
    done = lorabake("run", "lamp.toml", "--rehearse", "--verbose", cwd=place)
    assert done.exit_code == 0, done.stderr
    assert_shown(done.stdout + done.stderr)
    root = place / "runs" / "lamp-rehearsal-001"
    other = place / "runs" / f"o{ENDS}"
    shutil.copytree(root, other)
    plant(other / "record.json", "name", "argv", "environment", "trainer", "machine", "findings", "ignored", "outcome",
          "inputs", "lorabake", "recipe_place", "cwd")  # fmt: skip
    plant(other / "plan.json", "train", "datasets")
    plant(other / "inputs.json", "inputs")
    (other / "events.jsonl").write_text(json.dumps({"event": NASTY, "name": NASTY}) + "\n", "utf-8")
    (other / "logs" / "trainer.log").write_text(NASTY * 9, "utf-8")
    for args in (
        ("verify", other), ("verify", other, "--json"), ("diff", root, other), ("diff", "lamp.toml", other),
        ("resume", other, "--dry-run"), ("resume", other), ("rerun", other, "--dry-run"), ("rerun", root, "--dry-run"),
        ("inspect", other / "record.json"), ("compare", other, root),
    ):  # fmt: skip
        done = lorabake(*args, cwd=place)
        assert done.exit_code in {0, 1, 4}, (args, done.stderr)
        assert_shown(done.stdout + done.stderr)


@pytest.mark.parametrize(
    "args",
    [("check", "lamp.toml"), ("check", "faulty.toml"), ("plan", "lamp.toml"), ("run", "lamp.toml", "--rehearse", "-v")],
    ids="-".join,
)
def test_a_terminal_gets_lorabakes_own_styles_only(place: Path, tmp_path: Path, args: tuple[str, ...]) -> None:
    args = tuple("--verbose" if each == "-v" else each for each in args)
    text = on_a_terminal(place, tmp_path, args)
    if args[0] == "run":  # rich draws the bar
        text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text)
        assert "[2J" not in re.sub(r"\\x1b\[2J", "", text)
    assert_shown(text.replace("\r", ""), terminal=True)


def on_a_terminal(place: Path, home: Path, args: tuple[str, ...]) -> str:
    ours, theirs = pty.openpty()
    env = environment(home) | {"TERM": "xterm", "COLUMNS": "100"}
    with subprocess.Popen(
        [sys.executable, "-m", "lorabake", *args], cwd=place, env=env, stdin=theirs, stdout=theirs, stderr=theirs
    ) as process:
        os.close(theirs)
        pieces = list[bytes]()
        with suppress(OSError):
            while piece := os.read(ours, 1 << 16):
                pieces.append(piece)
        process.wait()
    os.close(ours)
    return b"".join(pieces).decode("utf-8")
