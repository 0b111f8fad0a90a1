"""How long steps took in the runs next to a recipe. Damaged and unfinished runs are ignored."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import cast

from pydantic import ValidationError

from lorabake.planning.time_estimate import combine_blocks
from lorabake.runs.events import iter_events
from lorabake.runs.record import read_record_fields
from lorabake.util.files import is_folder, read_toml
from lorabake_schemas.base import parse_lenient
from lorabake_schemas.families.registry import find_family_of_run
from lorabake_schemas.machine import MachineFacts
from lorabake_schemas.past_runs import PastRun, StepTiming

RUN_LIMIT = 20  # runs that are looked at
EVENTS_TAIL_SIZE = 2_000_000  # bytes of an events file, from its end: some 15,000 steps
MIN_TIMING_S = 5.0  # a stretch is at least that long: the log is looked at five times a second only
Table = Mapping[str, object]


def read_past_runs(folder: Path) -> tuple[PastRun, ...]:
    """The trainings in a folder of run folders, newest first; rehearsals are none. Never raises."""
    found = ((read_record_fields(root), root) for root in _list_folders(folder))
    records = [(record, root) for record, root in found if record.get("rehearsal") is False]
    records.sort(key=lambda each: (str(each[0].get("started")), each[1].name), reverse=True)
    runs = (_read_run(record, root) for record, root in records[:RUN_LIMIT])
    return tuple(run for run in runs if run is not None)


def _list_folders(folder: Path) -> list[Path]:
    try:
        return [each for each in folder.iterdir() if is_folder(each)]
    except OSError:
        return []


def _read_run(record: Table, root: Path) -> PastRun | None:
    try:
        train = read_toml(root / "train.toml")
        dataset = read_toml(root / "dataset.toml")
        machine = parse_lenient(MachineFacts, json.dumps(record.get("machine")).encode())
        stretches = tuple(_iter_timings(_iter_steps(root), _sampling_interval(train)))
        first, *others = [_plain_options(block) for block in cast("list[Table]", dataset["datasets"])]
        options = {**_plain_options(train), **combine_blocks([first, *others])}
        argv = [str(each) for each in cast("Sequence[object]", record.get("argv") or ())]
        return PastRun(
            root.name, find_family_of_run(argv, train).name, machine, _count_processes(argv), options, stretches
        )
    except (OSError, ValueError, ValidationError, LookupError, TypeError, StopIteration, AttributeError):
        return None


def _plain_options(table: Table) -> dict[str, object]:
    """Options only, with tuples for TOML arrays, as in a plan."""
    return {
        key: tuple(cast("list[object]", value)) if isinstance(value, list) else value
        for key, value in table.items()
        if key != "subsets"
    }


def _count_processes(argv: Sequence[str]) -> int:
    named = next((value for flag, value in pairwise(argv) if flag == "--num_processes"), "1")
    return int(named)


def _sampling_interval(train: Table) -> int:
    """After every how many steps sample images are made, 0 for never (those after an epoch cut a stretch anyway)."""
    every = train.get("sample_every_n_steps")
    return every if isinstance(every, int) and not isinstance(every, bool) else 0


def _iter_steps(root: Path) -> Iterator[tuple[float, int]]:
    """Seconds and step of each step event; step 0 for anything else, and for a line that cannot be read."""
    for event in iter_events(root / "events.jsonl", root, last=EVENTS_TAIL_SIZE):
        try:
            step = event["step"] if event["event"] == "step" else 0
            yield datetime.fromisoformat(cast("str", event["time"])).timestamp(), int(cast("int", step))
        except (ValueError, LookupError, TypeError, OverflowError):
            yield 0.0, 0


def _iter_timings(events: Iterator[tuple[float, int]], sampled: int) -> Iterator[StepTiming]:
    """Rows of steps with nothing between them but steps: no save, no epoch's end, no sample.

    A sample falls before or after the event of its step, by how often tqdm draws: both gaps are left out.
    """
    steps, seconds = 0, 0.0
    for (before, last), (after, step) in pairwise(events):
        made = bool(sampled) and (step % sampled == 0 or last % sampled == 0)
        if not last or step <= last or after < before or made:
            if seconds >= MIN_TIMING_S:
                yield StepTiming(steps, seconds)
            steps, seconds = 0, 0.0
            continue
        steps, seconds = steps + step - last, seconds + after - before
        if seconds >= MIN_TIMING_S:
            yield StepTiming(steps, seconds)
            steps, seconds = 0, 0.0
