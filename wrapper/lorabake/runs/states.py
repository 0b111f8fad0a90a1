"""The states of a run: which exist, of which step, and which are intact, judged by content and never by date.

accelerate 1.6.0 (checkpointing.py:55-160) writes a state's files one after another and flushes none of them: a kill, a
full disk or a power cut leaves a folder with some of them, or with parts of some. sd-scripts' hook writes
train_state.json before all of them (TN:937-946).
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, cast

from lorabake.planning.file_size import BYTES_BY_PRECISION
from lorabake.util.files import read_bytes, reason
from lorabake.util.safetensors import read_header
from lorabake.util.torch_archive import archive_problem
from lorabake_schemas.messages import Message, msg
from lorabake_schemas.saved_names import STATE_SUFFIX, SavedKind, parse_saved_name

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lorabake.planning.resume_steps import TrainingSchedule
    from lorabake_schemas.plan import Plan

MODEL, TRAIN_STATE, SCHEDULER, SCALER = "model.safetensors", "train_state.json", "scheduler.bin", "scaler.pt"
# Only the first of several processes saves (TN:1499), so a state does not show how many there were.
REQUIRED_FILES = (TRAIN_STATE, MODEL, "optimizer.bin", "random_states_0.pkl")
CLOSE = 0.01  # relative, how exact the planned size of a network is

Shapes = Mapping[str, tuple[int, ...]]


@dataclass(frozen=True, slots=True)
class StateLocation:
    """A folder where a start of the trainer writes: which start, and the offset of its step numbers."""

    folder: Path
    part: int = 1
    offset: int = 0


@dataclass(frozen=True, slots=True)
class SavedState:
    """A state folder. ``step`` is the run's, by the folder's name; ``offset`` is the possible offset of the numbers
    inside.
    """

    path: Path
    kind: SavedKind
    step: int
    part: int
    offset: int = 0


@dataclass(frozen=True, slots=True)
class ExpectedFiles:
    """The content of every intact state of a run: files by name, and the network's tensors and about how many numbers
    they have, if they are known.
    """

    files: frozenset[str]
    shapes: Shapes | None = None
    numbers: int | None = None


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


def expected_files(
    states: Sequence[SavedState], train: Mapping[str, object], plan: Plan | None = None
) -> ExpectedFiles:
    """By the plan and the settings of the training, and by what most of its states of the planned size have in
    common.
    """
    files = {*REQUIRED_FILES}
    if not str(train.get("optimizer_type", "")).lower().endswith("schedulefree"):  # TU:5240; it has no schedule
        files.add(SCHEDULER)
    if train.get("mixed_precision") == "fp16":
        files.add(SCALER)
    numbers = _planned_numbers(plan)
    found = (_read_shapes(state.path / MODEL) for state in states)
    shapes = Counter(each for each in found if each is not None and _is_of_size(dict(each), numbers))
    return ExpectedFiles(frozenset(files), dict(shapes.most_common(1)[0][0]) if shapes else None, numbers)


def _planned_numbers(plan: Plan | None) -> int | None:
    """How many numbers the network of a plan has: it is saved as it is in a state (tests/real/test_file_sizes.py)."""
    if plan is None or (size := plan.forecast.file_size) is None:
        return None
    return size.tensor_bytes // BYTES_BY_PRECISION.get(str(plan.value("save_precision")), 2)


def _count_numbers(shapes: Shapes) -> int:
    return sum(map(math.prod, shapes.values()))


def _is_of_size(shapes: Shapes, numbers: int | None) -> bool:
    return numbers is None or abs(_count_numbers(shapes) - numbers) <= numbers * CLOSE


def _read_shapes(path: Path) -> tuple[tuple[str, tuple[int, ...]], ...] | None:
    try:
        return tuple(sorted(read_header(path).shapes.items()))
    except OSError:
        return None


def state_problem(state: SavedState, wanted: ExpectedFiles) -> Message | None:
    """Why a state is not intact or of another training, None if it is neither: every file is read to its end."""
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
        return _weights_problem(path, wanted)
    return archive_problem(path)


def _step_problem(path: Path, state: SavedState) -> Message | None:
    """sd-scripts counts the steps of a resumed part from 0; lorabake may have corrected the number already."""
    try:
        told: object = json.loads(read_bytes(path, 1 << 20))
    except (ValueError, RecursionError):
        return msg("not valid JSON")
    step = cast("dict[str, object]", told).get("current_step") if isinstance(told, dict) else None
    if step in (state.step, state.step - state.offset):
        return None
    return msg("contains step {found}, but the folder name has step {step}", found=repr(step), step=state.step)


def _weights_problem(path: Path, wanted: ExpectedFiles) -> Message | None:
    from lorabake.lora.weights import read_weights  # imports numpy, which `check` can do without

    weights = read_weights(path)
    if not weights.shapes:
        return msg("contains no tensors")
    if weights.not_finite:
        return msg("contains NaN or infinity")
    if wanted.numbers is not None and not _is_of_size(weights.shapes, wanted.numbers):
        return msg(
            "contains {found:,} weights, but the network of this run has about {wanted:,}; "
            "it was saved with another network_dim or by another run",
            found=_count_numbers(weights.shapes), wanted=wanted.numbers,
        )  # fmt: skip
    if wanted.shapes is not None and dict(weights.shapes) != dict(wanted.shapes):
        return msg("its tensors differ from those of the other states")
    return None
