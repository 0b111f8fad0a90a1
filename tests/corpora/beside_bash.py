#!/usr/bin/env python3
"""Compares the training commands that lorabake finds in bash scripts with those that bash itself runs.

beside_bash.py [FILES...] [--show] [--names NAME...]

FILES are scripts; without them, those of bash_scripts.txt. Each is run by bash as the user nobody (so this is run as
root), in an empty folder that is its home, for at most 10 seconds, where PATH has only harmless programs and stand-ins:
accelerate and python record their arguments, and the files that these name; everything else does nothing.

Prints which scripts are equal, in which lorabake says what it cannot know, and which differ silently. Exits 1 if one
does.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from difflib import SequenceMatcher
from itertools import zip_longest
from pathlib import Path
from typing import NamedTuple

from lorabake.errors import LorabakeError
from lorabake.exchange.foreign import Source
from lorabake.exchange.shell.reader import Launch, find_launch, read_launches, shows_unset
from lorabake.exchange.shell.script import Runner
from lorabake_schemas.families.registry import list_scripts

NOBODY = 65534
REAL = (
    "basename", "dirname", "pwd", "date", "nproc", "cat", "echo", "printf", "seq", "tr", "sed", "awk", "cut",
    "grep", "head", "tail", "wc", "sort", "true", "false", "nohup", "tee", "xargs", "realpath", "readlink",
    "uname", "test", "expr", "mktemp", "touch", "bash", "sh",
)  # fmt: skip
NOTHING = (
    "pip", "pip3", "git", "rm", "cp", "mv", "ln", "ls", "find", "wget", "curl", "apt", "apt-get", "sleep",
    "nvidia-smi", "tmux", "screen", "unzip", "chmod", "chown", "tensorboard", "huggingface-cli", "wandb", "bc",
    "module", "clear", "kill", "aws",
)  # fmt: skip
RECORDING = ("accelerate", "python", "python3", "torchrun", "deepspeed")
RECORD = """#!/bin/bash -p
/bin/mkdir -p "$RECORDS/$$"
printf '%s\\0' "${0##*/}" "$@" > "$RECORDS/$$/words"
for word; do
  word=${word#--*=}
  [[ -f $word && $word == *.toml ]] && /bin/cat "$word" > "$RECORDS/$$/${word##*/}"
done
exit 0
"""
STARTING = {
    "activate": "",
    "mkdir": '/bin/mkdir "$@"; exit 0',
    "sudo": 'while [[ $1 == -* ]]; do shift; done; "$@"',
    "env": 'while [[ $1 == *=* ]]; do export "$1"; shift; done; "$@"',
    "nice": 'while [[ $1 == -* ]]; do [[ $1 == -n ]] && shift; shift; done; "$@"',
    "conda": 'while [[ $1 == run || $1 == -* ]]; do [[ $1 == -n ]] && shift; shift; done; "$@"',
}


class Ran(NamedTuple):
    """A training command that bash ran, and the TOML files that it names."""

    words: tuple[str, ...]
    files: Mapping[str, str]


def make_programs(folder: Path) -> None:
    folder.mkdir()
    for name in REAL:
        if found := shutil.which(name):
            (folder / name).symlink_to(found)
    for name, text in {**dict.fromkeys(NOTHING, "exit 0"), **STARTING}.items():
        (folder / name).write_text(f"#!/bin/bash -p\n{text}\n")
    for name in RECORDING:
        (folder / name).write_text(RECORD)
    for path in folder.iterdir():
        if not path.is_symlink():
            path.chmod(0o755)


def run_bash(files: Mapping[str, str], name: str, programs: Path) -> list[Ran]:
    """What bash runs, with the sandbox's folder as a dot."""
    with tempfile.TemporaryDirectory() as kept:
        folder, records = Path(kept) / "home", Path(kept) / "records"
        for each in (folder, records):
            each.mkdir()
        for file, text in files.items():
            (folder / file).write_text(text)
        (folder / "venv").mkdir()
        (folder / "venv" / "bin").symlink_to(programs)
        for path in (Path(kept), folder, records, *(folder / file for file in files)):
            os.chown(path, NOBODY, NOBODY)
        try:
            subprocess.run(
                ["/bin/bash", name], cwd=folder,
                env={"PATH": str(programs), "HOME": str(folder), "RECORDS": str(records), "VIRTUAL_ENV": "venv"},
                stdin=subprocess.DEVNULL, capture_output=True, timeout=10, check=False,
                user=NOBODY, group=NOBODY, extra_groups=[],
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            print(f"{name}: not done within 10 s")
        found = list[Ran]()
        for record in sorted(records.iterdir(), key=lambda path: path.stat().st_ctime_ns):
            words = (record / "words").read_text().replace(str(folder), ".").split("\0")[:-1]
            toml = {path.name: path.read_text() for path in record.iterdir() if path.name != "words"}
            found.append(Ran(tuple(words), toml))
        return found


def compare(files: Mapping[str, str], name: str, programs: Path) -> tuple[str, str]:
    """The outcome, and what differs."""
    ran = [(find_launch(0, each.words), each.files) for each in run_bash(files, name, programs)]
    real = [(launch, toml) for launch, toml in ran if launch is not None and launch.script in list_scripts()]
    with tempfile.TemporaryDirectory() as folder:
        for file, text in files.items():
            (Path(folder) / file).write_text(text)
        path = Path(folder) / name
        try:
            script, found = read_launches(Source(path=path, content=path.read_bytes(), home="."))
        except LorabakeError as error:
            return "refused", str(error.message)
    ours = [launch for launch in found if launch.script in list_scripts()]
    if sorted(show(one) for one, _ in real) == sorted(map(show, ours)):  # at once, so in any order
        real.sort(key=lambda one: show(one[0]))
        ours.sort(key=show)
    differing = list(find_differences(real, ours, script))
    if not differing:
        return "equal", ""
    shown = "; ".join(f"bash {one!r}, lorabake {two!r}" for one, two in differing[:3])
    known = script.doubts or all(two is not None and shows_unset(two) for _, two in differing)
    return ("unknown" if known else "SILENT"), f"{shown} {list(script.doubts) or ''}"


def find_differences(
    real: Sequence[tuple[Launch, Mapping[str, str]]], ours: Sequence[Launch], script: Runner
) -> Iterator[tuple[str | None, str | None]]:
    for one, launch in zip_longest(real, ours):
        if one is None or launch is None:
            yield (show(one[0]) if one else None), (show(launch) if launch else None)
            continue
        words, found = (one[0].script, *one[0].words), (launch.script, *launch.words)
        for kind, start, end, first, last in SequenceMatcher(None, words, found, autojunk=False).get_opcodes():
            if kind != "equal":
                yield " ".join(words[start:end]), " ".join(found[first:last])
        for name, text in launch.written.items():
            base = re.split(r"[\\/]", name)[-1]
            if base in one[1] and one[1][base] != text:
                yield one[1][base], text


def show(launch: Launch) -> str:
    return " ".join((launch.script, *launch.words))


def read_corpus() -> dict[str, dict[str, str]]:
    """The files of each script."""
    found = dict[str, dict[str, str]]()
    parts = re.split(r"^(#####?) (\S+)\n", Path(__file__).with_name("bash_scripts.txt").read_text(), flags=re.MULTILINE)
    name = ""
    for marks, title, text in zip(parts[1::3], parts[2::3], parts[3::3], strict=True):
        if marks == "#####":
            name = f"{title}.sh"
            found[name] = {name: text}
        else:
            found[name][title] = text
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="*", type=Path)
    parser.add_argument("--show", action="store_true", help="show every difference, not only the silent ones")
    parser.add_argument("--names", nargs="*", default=[], help="only these scripts")
    given = parser.parse_args()
    corpus = {path.name: {path.name: path.read_text(errors="replace")} for path in given.files} or read_corpus()
    total = Counter[str]()
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        programs = Path(folder) / "programs"
        make_programs(programs)
        for name, files in corpus.items():
            if given.names and name.removesuffix(".sh") not in given.names:
                continue
            outcome, shown = compare(files, name, programs)
            total[outcome] += 1
            if outcome == "SILENT" or (given.show and outcome != "equal"):
                print(f"{outcome:<8}{name}: {shown}"[:600])
    print(", ".join(f"{outcome}: {count}" for outcome, count in sorted(total.items())))
    return 1 if total["SILENT"] else 0


if __name__ == "__main__":
    sys.exit(main())
