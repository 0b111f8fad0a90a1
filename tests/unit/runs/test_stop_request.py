"""When a requested stop is due."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from lorabake.runs.folder import RunPaths
from lorabake.runs.stop_request import StopSchedule, clear_stop_requests, request_stop
from lorabake_schemas.events import Epoch, Saving, Step

if TYPE_CHECKING:
    from pathlib import Path

    from lorabake.runs.stop_request import StopMode


@pytest.mark.parametrize("mode", ["soon", "now"])
def test_at_once_and_only_once(tmp_path: Path, mode: StopMode) -> None:
    schedule = StopSchedule(RunPaths(tmp_path))
    assert schedule.take() is None
    request_stop(schedule.paths, mode)
    assert schedule.poll() == (mode,)
    assert schedule.take() == mode
    assert schedule.poll() == ()
    assert schedule.take() is None


def test_after_a_save_means_after_it_is_complete(tmp_path: Path) -> None:
    schedule = StopSchedule(RunPaths(tmp_path))
    schedule.feed([Saving("output/x-step00000005.safetensors")])  # began before it was asked for
    request_stop(schedule.paths, "after-save")
    schedule.poll()
    schedule.feed([Step(6, 10), Epoch(2, 3), Saving("output/x-000002.safetensors")])
    assert schedule.take() is None
    schedule.feed([Epoch(3, 3)])
    assert schedule.take() == "soon"


def test_after_an_epoch_means_when_the_next_one_begins(tmp_path: Path) -> None:
    schedule = StopSchedule(RunPaths(tmp_path))
    schedule.feed([Epoch(1, 3)])
    request_stop(schedule.paths, "after-epoch")
    schedule.poll()
    schedule.feed([Step(4, 12)])
    assert schedule.take() is None
    schedule.feed([Epoch(2, 3)])
    assert schedule.take() == "soon"


def test_a_later_wish_for_now_wins(tmp_path: Path) -> None:
    schedule = StopSchedule(RunPaths(tmp_path))
    request_stop(schedule.paths, "after-epoch")
    request_stop(schedule.paths, "now")
    schedule.poll()
    assert schedule.take() == "now"


def test_nonsense_and_half_a_line_are_passed_over(tmp_path: Path) -> None:
    schedule = StopSchedule(RunPaths(tmp_path))
    schedule.paths.stop.write_bytes(b'[1]\n{"stop": "never"}\n\xff\n{"stop": ["now"]}\n{"stop": "n')
    assert schedule.poll() == ()
    with schedule.paths.stop.open("ab") as file:
        file.write(b'ow"}\n')
    assert schedule.poll() == ("now",)


def test_a_resumed_part_starts_without_wishes(tmp_path: Path) -> None:
    schedule = StopSchedule(RunPaths(tmp_path))
    request_stop(schedule.paths, "now")
    clear_stop_requests(schedule.paths)
    assert schedule.poll() == ()
