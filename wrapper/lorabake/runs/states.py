"""The states of a run: which there are, of which step, and which are whole by what they hold, never by their dates.

accelerate 1.6.0 (checkpointing.py:55-160) writes a state's files one after another and flushes none of them: a kill, a
full disk or a power cut leaves a folder with some of them, or with parts of some. sd-scripts' hook writes
train_state.json before all of them (TN:937-946).
"""

from __future__ import annotations

import errno
import json
import struct
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, cast

from lorabake.util.files import open_file, read_bytes, reason
from lorabake.util.safetensors import HeaderError, read_header
from lorabake_schemas.messages import Message, msg
from lorabake_schemas.saved_names import LORA_EXTENSIONS, STATE_SUFFIX, SavedKind, parse_saved_name

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lorabake.planning.resume_steps import TrainingSchedule

MODEL, TRAIN_STATE, SCHEDULER, SCALER = "model.safetensors", "train_state.json", "scheduler.bin", "scaler.pt"
REQUIRED_FILES = (TRAIN_STATE, MODEL, "optimizer.bin", "random_states_0.pkl")
# The records at the end of a zip file: the last one, and the two of the 64 bit form before it.
ZIP_END = struct.Struct("<4s4H2LH")
LONG_END, LOCATOR = struct.Struct("<4sQ2H2L4Q"), struct.Struct("<4sLQL")
ZIP_TAIL_BYTES = LONG_END.size + LOCATOR.size + ZIP_END.size

Shapes = Mapping[str, tuple[int, ...]]


@dataclass(frozen=True, slots=True)
class StateLocation:
    """A folder where a start of the trainer writes: which start, and what its own step numbers lack."""

    folder: Path
    part: int = 1
    offset: int = 0


@dataclass(frozen=True, slots=True)
class SavedState:
    """A state folder. ``step`` is the run's, by the folder's name; ``offset`` what the numbers inside may lack."""

    path: Path
    kind: SavedKind
    step: int
    part: int
    offset: int = 0


@dataclass(frozen=True, slots=True)
class ExpectedFiles:
    """What every whole state of a run holds: files by name, and the network's tensors where they are known."""

    files: frozenset[str]
    shapes: Shapes | None = None


def list_states(spots: Sequence[StateLocation], name: str, course: TrainingSchedule) -> list[SavedState]:
    """Every state folder of a training that saves as ``name``, the one that is furthest first.

    Of several that are as far, that of the last start comes first.
    """
    found = [state for spot in spots for state in _iter_states(spot, name, course)]
    return sorted(found, key=lambda each: (each.step, each.part, each.kind != "step", each.path.name), reverse=True)


def _iter_states(spot: StateLocation, name: str, course: TrainingSchedule) -> Iterator[SavedState]:
    for path in sorted(spot.folder.glob(f"*{STATE_SUFFIX}")):
        told = parse_saved_name(path.name, name, STATE_SUFFIX)
        if told is None or not path.is_dir():
            continue
        kind, number = told
        yield SavedState(path, kind, course.step_of(kind, number, spot.offset), spot.part, spot.offset)


def expected_files(states: Sequence[SavedState], train: Mapping[str, object]) -> ExpectedFiles:
    """By the settings of the training, and by what most of its states have in common."""
    files = {*REQUIRED_FILES}
    if not str(train.get("optimizer_type", "")).lower().endswith("schedulefree"):  # TU:5240; it has no schedule
        files.add(SCHEDULER)
    if train.get("mixed_precision") == "fp16":
        files.add(SCALER)
    shapes = Counter(found for state in states if (found := _read_shapes(state.path / MODEL)) is not None)
    return ExpectedFiles(frozenset(files), dict(shapes.most_common(1)[0][0]) if shapes else None)


def _read_shapes(path: Path) -> tuple[tuple[str, tuple[int, ...]], ...] | None:
    try:
        return tuple(sorted(read_header(path).shapes.items()))
    except OSError:
        return None


def state_problem(state: SavedState, wanted: ExpectedFiles) -> Message | None:
    """Why a state is not whole, None when it is: every file is read to its end."""
    for name in sorted(wanted.files):
        path = state.path / name
        try:
            why = _file_problem(path, state, wanted)
        except FileNotFoundError:
            why = msg("missing")
        except OSError as error:
            why = reason(error)
        if why is not None:
            return msg("{file}: {why}", file=name, why=why)
    return None


def _file_problem(path: Path, state: SavedState, wanted: ExpectedFiles) -> Message | None:
    """Raises OSError when the file cannot be read."""
    if path.name == TRAIN_STATE:
        return _step_problem(path, state)
    if path.name == MODEL:
        return _weights_problem(path, wanted.shapes)
    return archive_problem(path)


def _step_problem(path: Path, state: SavedState) -> Message | None:
    """sd-scripts counts a continuation's steps from anew; lorabake may have set the number right already."""
    try:
        told: object = json.loads(read_bytes(path, 1 << 20))
    except (ValueError, RecursionError):
        return msg("not valid JSON")
    step = cast("dict[str, object]", told).get("current_step") if isinstance(told, dict) else None
    if step in (state.step, state.step - state.offset):
        return None
    return msg("contains step {found}, but the folder name has step {step}", found=repr(step), step=state.step)


def _weights_problem(path: Path, shapes: Shapes | None) -> Message | None:
    from lorabake.lora.weights import read_weights  # imports numpy, which `check` can do without

    weights = read_weights(path)
    if not weights.shapes:
        return msg("contains no tensors")
    if weights.not_finite:
        return msg("contains NaN or infinity")
    if shapes is not None and dict(weights.shapes) != dict(shapes):
        return msg("its tensors differ from those of the other states")
    return None


def incomplete_lora_reason(path: Path) -> Message | None:
    """Why a file that should be a LoRA is not a complete one, by its header or its archive; None for any other file.

    Raises OSError when it cannot be read.
    """
    if path.suffix == ".safetensors":
        try:
            read_header(path)
        except HeaderError:
            return msg("damaged or cut off")
        return None
    return archive_problem(path) if path.suffix in LORA_EXTENSIONS else None


def archive_problem(path: Path) -> Message | None:
    """What torch.save writes is a zip archive with a CRC for each part: nothing has to be unpickled to check it.

    Raises OSError when it cannot be read.
    """
    with open_file(path) as file:
        size = file.seek(0, 2)
        file.seek(max(0, size - ZIP_TAIL_BYTES))
        tail = file.read()
    if not size:
        return msg("empty")
    try:
        part = _find_damaged_entry(path) if _has_valid_end(tail, size) else ""
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, ValueError):
        part = ""
    except OSError as error:
        if error.errno != errno.EINVAL:  # a place in the file that cannot be
            raise
        part = ""
    if part:
        return msg("damaged ({part})", part=part)
    return None if part is None else msg("damaged or cut off")


def _find_damaged_entry(path: Path) -> str | None:
    """The first part of an archive whose CRC is wrong; "" when it is none of torch's, which writes all parts alike and
    compresses nothing, or when parts are not described as they should be. None when it is sound."""
    with open_file(path) as file, zipfile.ZipFile(file) as archive:
        entries, broken = archive.infolist(), archive.testzip()
    alike = {
        (each.flag_bits, each.create_version, each.extract_version, each.volume, each.reserved) for each in entries
    }
    stored = all(not each.compress_type and each.file_size == each.compress_size for each in entries)
    torchs = any(each.filename.rpartition("/")[2] == "data.pkl" for each in entries)
    sound = len(alike) == 1 and stored and torchs and not entries[0].flag_bits & 1
    return broken or (None if sound else "")


def _has_valid_end(tail: bytes, size: int) -> bool:
    """Whether the records at an archive's end agree, of which zipfile believes some and torch others.

    The end of a zip file as PKWARE's APPNOTE 4.3.14 to 4.3.16 has it: where the list of entries lies and how many there
    are, twice when the 64 bit form is there as well, as torch writes it.
    """
    if len(tail) < ZIP_END.size:
        return False
    sign, disk, disk_of_list, here, count, length, begin, comment = ZIP_END.unpack(tail[-ZIP_END.size :])
    if sign != b"PK\5\6" or disk or disk_of_list or here != count or comment:
        return False
    if len(tail) < ZIP_TAIL_BYTES or tail[LONG_END.size :][:4] != b"PK\6\7":
        return bool(begin + length == size - ZIP_END.size)
    long, locator = LONG_END.unpack(tail[: LONG_END.size]), LOCATOR.unpack(tail[LONG_END.size : -ZIP_END.size])
    told = zip((here, count, length, begin), long[6:], (0xFFFF, 0xFFFF, 0xFFFFFFFF, 0xFFFFFFFF), strict=True)
    agree = all(short == min(full, limit) for short, full, limit in told)  # the short form holds no more than that
    right = (b"PK\6\6", LONG_END.size - 12, *long[2:4], 0, 0)
    at = size - ZIP_TAIL_BYTES
    return agree and bool(long[:6] == right and locator == (b"PK\6\7", 0, at, 1) and long[8] + long[9] == at)
