"""From which step on a run has diverged, by its events."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from lorabake.runs.events import encode_event
from lorabake.runs.folder import RunPaths
from lorabake.runs.resume_points import find_divergence
from lorabake.runs.watch.loss_monitor import LossMonitor
from lorabake_schemas.events import Step

if TYPE_CHECKING:
    from pathlib import Path


def part(first: int, losses: str) -> list[dict[str, Any]]:
    """Steps after ``first``: "." is a good one, "x" one with NaN."""
    lines: list[dict[str, Any]] = [{"event": "resumed", "from_step": first} if first else {"event": "started"}]
    monitor = LossMonitor()
    for number, each in enumerate(losses, first + 1):
        step = Step(number, 100, 0.1, loss_current=float("nan") if each == "x" else 0.1)
        reports = [step, monitor.add_step(step)]
        lines += [fields for event in reports if event is not None and (fields := encode_event(event)) is not None]
    return lines


@pytest.mark.parametrize(
    ("parts", "expected"),
    [
        ([part(0, "........")], None),
        ([part(0, "....xxxx")], 5),
        ([part(0, "xxx")], 1),
        ([part(0, "..xx..")], None),
        ([part(0, "..xx..x")], 7),
        ([part(0, "....xxxx"), part(4, ".")], None),
        ([part(0, "....xxxx"), part(4, "")], None),
        ([part(0, "........"), part(4, "..xx")], 7),
    ],
)
def test_from_which_step_on_the_last_part_had_diverged(
    tmp_path: Path, parts: list[list[dict[str, Any]]], expected: int | None
) -> None:
    paths = RunPaths(tmp_path)
    paths.events.write_text("".join(json.dumps(line) + "\n" for lines in parts for line in lines))
    assert find_divergence(paths) == expected


@pytest.mark.parametrize("text", ["", "{", '{"event": "bad_loss"}\n{"event": "step", "step": []}\n{"event": 3}\n'])
def test_a_damaged_file_shows_nothing(tmp_path: Path, text: str) -> None:
    paths = RunPaths(tmp_path)
    assert find_divergence(paths) is None
    paths.events.write_text(text)
    assert find_divergence(paths) is None
