"""Checks the content of a run folder before a trainer starts in it again: only files of lorabake and sd-scripts.

A run folder may come from a stranger. A link could lead a write outside, a FIFO would block it, a Python file could be
imported as a module. Anything unknown is named, and the trainer is not started.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from stat import S_ISDIR, S_ISLNK, S_ISREG
from typing import TYPE_CHECKING

from lorabake.errors import MachineError
from lorabake_schemas.messages import Message, escape_undecodable, msg, shorten_list
from lorabake_schemas.saved_names import STATE_SUFFIX, saved_pattern

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from lorabake.runs.folder import RunPaths

FILES_SHOWN = 5
MAX_ENTRIES = 100_000  # entries: a run that saves at each step for days has fewer
# Below the run folder, by the path from there; NAME is what sd-scripts calls what it saves. Files of lorabake first,
# then those of sd-scripts (TU:89-100, TU:6572-6576) and of accelerate 1.6.0 (checkpointing.py:55-160).
LORABAKE_FILES = (
    r"(?:recipe|train|dataset)\.toml|prompts\.txt|(?:command|plan|inputs|record)\.json|events\.jsonl"
    r"|\.room|\.running|\.stop"
)
PART_FOLDER = r"parts/\d{3}"
OUTPUT_FOLDER = rf"(?:{PART_FOLDER}/)?output|{PART_FOLDER}/(?:replaced|beyond)"
STATE_FILES = (
    r"train_state\.json|model(?:_\d+)?\.safetensors|(?:optimizer|scheduler|sampler)(?:_\d+)?\.bin|scaler\.pt"
    r"|random_states_\d+\.pkl"
)
KNOWN_FOLDERS = rf"logs|tensorboard(?:/.*)?|parts|{PART_FOLDER}|{OUTPUT_FOLDER}|(?:{OUTPUT_FOLDER})/sample"
TENSORBOARD_FILES = r"tensorboard/(?:.*/)?(?:events\.out\.tfevents\.[^/]+|hparams\.yml)"
# Notes, copies of results, and what file managers, editors, NFS and crashes leave: nothing starts or imports them.
HARMLESS_FILES = (
    r"(?:.*/)?(?:[^/]+\.(?:md|txt|png|jpg|jpeg|webp|safetensors)|[^/]+~|\.nfs[0-9a-f]+|\.DS_Store|\._[^/]+|Thumbs\.db"
    r"|desktop\.ini|core(?:\.\d+)?)"
)
KNOWN_FILES = (
    rf"{LORABAKE_FILES}|logs/trainer\.log|logs/machine-\d+\.log|{TENSORBOARD_FILES}|{PART_FOLDER}/resume_epoch\.py"
    rf"|(?:{OUTPUT_FOLDER})/sample/[^/]+\.png|{HARMLESS_FILES}"
)
NUMBER_SUFFIX = r"(?:\.\d+)?"  # of several that were replaced (jobs/resume/outputs.py)
# Written in their place, not replaced: another name of the same file would be written, too.
WRITTEN_IN_PLACE = re.compile(rf"events\.jsonl|logs/.*|\.room|\.running|\.stop|{PART_FOLDER}/output/.*")


def refuse_foreign_files(paths: RunPaths, names: Collection[str], saved_as: str) -> tuple[Path, ...]:
    """Raises MachineError that names files that lorabake and sd-scripts do not make, and files that are not harmless.

    ``names`` are the files that lorabake itself compiles for this run, never those that its record lists. ``saved_as``
    is the name under which sd-scripts saves. Returns the files that have a second name (a hard link, as backups make)
    and that are written in place.
    """
    name, of = saved_pattern(saved_as), "|".join(map(re.escape, names))
    folders = re.compile(rf"{KNOWN_FOLDERS}|(?:{OUTPUT_FOLDER})/{name}{STATE_SUFFIX}{NUMBER_SUFFIX}")
    own = rf"{KNOWN_FILES}|{of}" if of else KNOWN_FILES
    lora = rf"{name}\.(?:safetensors|ckpt|pt){NUMBER_SUFFIX}"
    state_file = rf"{name}{STATE_SUFFIX}{NUMBER_SUFFIX}/(?:{STATE_FILES})"
    file = rf"(?:{OUTPUT_FOLDER})/(?:{lora}|{state_file})"
    files = re.compile(rf"{own}|{file}")
    part = re.compile(r"(?:(.*)/)?\.([^/]+)\.part")
    found: list[tuple[str, Message]] = []
    shared: list[Path] = []
    for place, state in _iter_entries(paths.root):
        left_over = part.fullmatch(place)  # of a file that lorabake was killed in the middle of
        known = place if left_over is None else f"{left_over[1] + '/' if left_over[1] else ''}{left_over[2]}"
        why = _foreign_reason(place, state, known_file=files.fullmatch(known) is not None, folders=folders)
        if why is not None:
            found.append((place, why))
        elif S_ISREG(state.st_mode) and state.st_nlink > 1 and WRITTEN_IN_PLACE.fullmatch(place):
            shared.append(paths.root / place)
    if found:
        raise _foreign_files_error(paths.root, found)
    return tuple(shared)


def _foreign_reason(place: str, state: os.stat_result, *, known_file: bool, folders: re.Pattern[str]) -> Message | None:
    """Why an entry is not to be there; None for one of ours."""
    if S_ISLNK(state.st_mode):
        return msg("it is a symbolic link")
    if S_ISDIR(state.st_mode):
        return None if folders.fullmatch(place) else msg("unexpected folder")
    if not S_ISREG(state.st_mode):
        return msg("it is not a regular file")
    return None if known_file else msg("unexpected file")


def _iter_entries(root: Path) -> Iterator[tuple[str, os.stat_result]]:
    """Everything below a folder, by its path from there; links are not followed. Raises MachineError for too much."""
    ahead, count = [""], 0
    while ahead:
        inside = ahead.pop()
        with os.scandir(root / inside) as entries:
            for entry in entries:
                count += 1
                if count > MAX_ENTRIES:
                    raise MachineError(msg("{run} has too many files for a run", run=root))
                place, state = f"{inside}/{entry.name}" if inside else entry.name, entry.stat(follow_symlinks=False)
                yield place, state
                if S_ISDIR(state.st_mode):
                    ahead.append(place)


def _foreign_files_error(root: Path, found: list[tuple[str, Message]]) -> MachineError:
    shown = shorten_list(
        sorted(found), FILES_SHOWN, lambda each: msg("{file} ({why})", file=escape_undecodable(each[0]), why=each[1])
    )
    said = msg("{run} contains files that lorabake did not create: {files}", run=root, files=shown)
    return MachineError(said, msg("nothing was started; move or delete these files"))
