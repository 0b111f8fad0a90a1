"""The files of a resumed run: moves the output of a resumed part into output/ under the run's own numbers.

A resumed part writes into parts/00K/output, because sd-scripts counts its steps from 0 again and would overwrite files
of the same number. Everything here can be interrupted at any point and repeated: a file's right number follows from its
name, and it is moved last. Nothing is ever deleted: files in the way go to parts/00K/replaced.
"""

from __future__ import annotations

import json
import re
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from lorabake.lora.completeness import incomplete_lora_reason
from lorabake.runs.folder import replace_file
from lorabake.runs.resume_points import OutputNames, PartOutputs
from lorabake.runs.states import TRAIN_STATE, ExpectedFiles, SavedState, state_problem
from lorabake.util.files import copy_file, make_folders, move_file, read_bytes, remove_file
from lorabake.util.safetensors import rewrite_metadata
from lorabake_schemas.messages import Message, escape_undecodable, msg
from lorabake_schemas.saved_names import SAMPLE_NAME

if TYPE_CHECKING:
    from collections.abc import Iterator

SAMPLE_FOLDER = "sample"


@dataclass(slots=True)
class CollectedOutputs:
    """What became of a continuation's files: moved to these names, and left where they are, with why."""

    files: list[str] = field(default_factory=list[str])
    left: list[tuple[str, Message]] = field(default_factory=list[tuple[str, Message]])


def archive_outputs(written: PartOutputs, names: OutputNames) -> int:
    """Move files in output/ of steps after the one that the run continues from to replaced/; returns how many.

    Raises OSError.
    """
    output, moved = written.root / "output", 0
    for entry in sorted(output.iterdir()):
        told = names.read(entry.name)
        if told is not None and told[1] > written.first_step:
            _move_entry(entry, _free_path(written.replaced / entry.name), written)
            moved += 1
    return moved


def collect_outputs(written: PartOutputs, names: OutputNames, wanted: ExpectedFiles) -> CollectedOutputs:
    """Move everything intact that a resumed part wrote into output/, with the run's numbers in names and files.

    Partial files that a kill left stay where they are. Raises OSError if the disk is full or something cannot be moved.
    What was moved stays moved, and the rest can be moved later.
    """
    adopted = CollectedOutputs()
    if not written.output.is_dir():
        return adopted
    for entry in sorted(written.output.iterdir()):
        if re.fullmatch(r"\..+\.part", entry.name):  # a rewriting of ours that was broken off
            remove_file(entry, within=written.root)
        elif entry.name == SAMPLE_FOLDER and entry.is_dir():
            _collect_samples(entry, written, adopted)
        else:
            _collect_entry(entry, written, names, wanted, adopted)
    for folder in (written.output / SAMPLE_FOLDER, written.output):
        with suppress(OSError):  # not empty
            folder.rmdir()
    return adopted


def _collect_entry(
    entry: Path, written: PartOutputs, names: OutputNames, wanted: ExpectedFiles, adopted: CollectedOutputs
) -> None:
    told, is_state = names.read(entry.name, written.offset), entry.is_dir()
    if told is None:
        _move_to_output(entry, entry.name, written, adopted)
        return
    kind, step = told
    if written.stop_at is not None and (kind == "last" or step > names.course.steps):
        _move_entry(
            entry, _free_path(written.beyond / entry.name), written
        )  # trained past the run's end before it could be stopped
        return
    why = _incomplete_reason(entry, step, written, wanted, is_state=is_state)
    if why is not None:
        adopted.left.append((escape_undecodable(entry.relative_to(written.root).as_posix()), why))
        return
    ends = step == names.course.steps and written.stop_at is not None
    if ends and not is_state:
        _collect_last_step(entry, written, names, adopted)
        return
    _correct_step_number(entry, step, written.offset, is_state=is_state)
    _move_to_output(entry, names.of_the_run(entry.name, written), written, adopted)


def _collect_last_step(entry: Path, written: PartOutputs, names: OutputNames, adopted: CollectedOutputs) -> None:
    """If sd-scripts would have continued beyond the last step, the file of that step is the run's last file. It is also
    kept as a step's file if the recipe wants one there.
    """
    course = names.course
    both = course.save_every_n_steps is not None and course.steps % course.save_every_n_steps == 0
    place = written.root / "output" / names.step_name(course.steps, state=False)
    if both and not place.exists():  # set_aside has cleared the place: an existing one was made here before
        _correct_step_number(entry, course.steps, written.offset, is_state=False)
        copy_file(entry, place, within=written.root)
        adopted.files.append(escape_undecodable(f"output/{place.name}"))
    _correct_step_number(entry, course.steps, written.offset, is_state=False, epoch=course.epochs)
    _move_to_output(entry, names.final_name, written, adopted)


def _incomplete_reason(
    entry: Path, step: int, written: PartOutputs, wanted: ExpectedFiles, *, is_state: bool
) -> Message | None:
    """Why a file or state is incomplete. Raises OSError if it cannot be read."""
    if is_state:
        return state_problem(SavedState(entry, "step", step, written.number, written.offset), wanted)
    return incomplete_lora_reason(entry)


def _correct_step_number(entry: Path, step: int, offset: int, *, is_state: bool, epoch: int | None = None) -> None:
    """Write the run's own step into a LoRA's header or a state's train_state.json. A file that has neither the right
    number nor the expected wrong one is not changed, and is judged later.
    """
    if is_state:
        path = entry / TRAIN_STATE
        told = json.loads(read_bytes(path, within=entry))
        replace_file(path, json.dumps({**told, "current_step": step}).encode(), within=entry)
        return

    def right(metadata: dict[str, str]) -> dict[str, str]:
        if metadata.get("ss_steps") not in {str(step), str(step - offset)}:
            return metadata
        return metadata | {"ss_steps": str(step)} | ({} if epoch is None else {"ss_epoch": str(epoch)})

    rewrite_metadata(entry, right)


def _collect_samples(folder: Path, written: PartOutputs, adopted: CollectedOutputs) -> None:
    for entry in sorted(folder.iterdir()):
        _move_to_output(entry, f"{SAMPLE_FOLDER}/{rename_sample(entry.name, written)}", written, adopted)


def rename_sample(name: str, written: PartOutputs) -> str:
    """Write the run's own step into a sample's name. Samples from before the first step of a resumed part already have
    the right step.
    """
    told = SAMPLE_NAME.fullmatch(name)
    if told is None or (told[2] and int(told[3])):
        return name
    step = written.first_step if told[2] else int(told[3]) + written.offset
    return f"{told[1]}{step:06d}{told[4]}"


def _move_to_output(entry: Path, target: str, written: PartOutputs, adopted: CollectedOutputs) -> None:
    place = written.root / "output" / target
    if place.exists():
        _move_entry(place, _free_path(written.replaced / target), written)
    _move_entry(entry, place, written)
    adopted.files.append(escape_undecodable(f"output/{target}"))


def _move_entry(entry: Path, place: Path, written: PartOutputs) -> None:
    make_folders(place.parent, within=written.root)
    move_file(entry, place, within=written.root)


def _free_path(place: Path) -> Path:
    """This path, or a similar one if it is taken."""
    return next(each for each in _iter_numbered_paths(place) if not each.exists())


def _iter_numbered_paths(place: Path) -> Iterator[Path]:
    yield place
    number = 2
    while True:
        yield place.with_name(f"{place.name}.{number}")
        number += 1


def describe_uncollected(adopted: CollectedOutputs) -> tuple[Message, ...]:
    """A remark for each file that was left where it is."""
    return tuple(
        msg("{file} is incomplete and was left in place: {why}", file=file, why=why) for file, why in adopted.left
    )
