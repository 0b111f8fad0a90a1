"""How long steps took in the runs that lie beside a recipe. Whatever is damaged or unfinished counts as not there."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import Any, cast

from pydantic import ValidationError

from lorabake.files import is_folder, open_file, parse_json, read_json, read_toml
from lorabake_schemas.base import kept
from lorabake_schemas.history import PastRun, Stretch
from lorabake_schemas.machine import Family, MachineFacts

NEWEST = 20  # runs that are looked at
TAIL = 2_000_000  # bytes of an events file, from its end: some 15,000 steps
LEAST_S = 5.0  # a stretch is at least that long: the log is looked at five times a second only
Table = Mapping[str, object]


def past_runs(folder: Path) -> tuple[PastRun, ...]:
    """The trainings in a folder of run folders, newest first; rehearsals are none. Never raises."""
    found = ((_record(root / "record.json"), root) for root in _entries(folder))
    records = [(record, root) for record, root in found if record is not None and record.get("rehearsal") is False]
    records.sort(key=lambda each: (str(each[0].get("started")), each[1].name), reverse=True)
    runs = (_run(record, root) for record, root in records[:NEWEST])
    return tuple(run for run in runs if run is not None)


def _entries(folder: Path) -> list[Path]:
    try:
        return [each for each in folder.iterdir() if is_folder(each)]
    except OSError:
        return []


def _record(path: Path) -> Table | None:
    try:
        return _table(read_json(path))
    except (OSError, ValueError):
        return None


def _table(value: object) -> Table | None:
    return cast("Table", value) if isinstance(value, dict) else None


def _run(record: Table, root: Path) -> PastRun | None:
    try:
        train = read_toml(root / "train.toml")
        dataset = read_toml(root / "dataset.toml")
        machine = kept(MachineFacts, json.dumps(record.get("machine")).encode())
        stretches = tuple(_stretches(_events(root / "events.jsonl"), _sampled(train)))
        block = next(iter(cast("list[Table]", dataset["datasets"])))
        options = {**_plain(train), **_plain(block)}
        argv = [str(each) for each in cast("Sequence[object]", record.get("argv") or ())]
        return PastRun(root.name, _family(train, argv), machine, _processes(argv), options, stretches)
    except (OSError, ValueError, ValidationError, LookupError, TypeError, StopIteration, AttributeError):
        return None


def _plain(table: Table) -> dict[str, object]:
    """Options alone, with tuples where TOML has arrays, as a plan has them."""
    return {
        key: tuple(cast("list[object]", value)) if isinstance(value, list) else value
        for key, value in table.items()
        if key != "subsets"
    }


def _family(train: Table, argv: Sequence[str]) -> Family:
    if any(each.endswith("sdxl_train_network.py") for each in argv):
        return "sdxl"
    return "sd2" if train.get("v2") else "sd15"


def _processes(argv: Sequence[str]) -> int:
    named = next((value for flag, value in pairwise(argv) if flag == "--num_processes"), "1")
    return int(named)


def _sampled(train: Table) -> int:
    """After every how many steps sample pictures are made, 0 for never (those after an epoch cut a stretch anyway)."""
    every = train.get("sample_every_n_steps")
    return every if isinstance(every, int) and not isinstance(every, bool) else 0


def _events(path: Path) -> Iterator[tuple[float, int]]:
    """Seconds and step of each step event; step 0 for anything else, and for a line that cannot be read."""
    with open_file(path) as file:
        size = file.seek(0, 2)
        file.seek(max(0, size - TAIL))
        lines = file.read(TAIL).split(b"\n")
    for line in lines[1:] if size > TAIL else lines:
        try:
            told = cast("Any", parse_json(line))
            step = told["step"] if told["event"] == "step" else 0
            yield datetime.fromisoformat(told["time"]).timestamp(), int(step)
        except (ValueError, LookupError, TypeError, OverflowError):
            yield 0.0, 0


def _stretches(events: Iterator[tuple[float, int]], sampled: int) -> Iterator[Stretch]:
    """Rows of steps with nothing between them but steps: no save, no epoch's end, no sample.

    A sample falls before or after the event of its step, by how often tqdm draws: both gaps are left out.
    """
    steps, seconds = 0, 0.0
    for (before, last), (after, step) in pairwise(events):
        made = bool(sampled) and (step % sampled == 0 or last % sampled == 0)
        if not last or step <= last or after < before or made:
            if seconds >= LEAST_S:
                yield Stretch(steps, seconds)
            steps, seconds = 0, 0.0
            continue
        steps, seconds = steps + step - last, seconds + after - before
        if seconds >= LEAST_S:
            yield Stretch(steps, seconds)
            steps, seconds = 0, 0.0


__all__ = ["past_runs"]
