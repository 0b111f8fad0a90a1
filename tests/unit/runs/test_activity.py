"""What the events show: the pace of the last minute, phases, saves, reports; and nothing that is not an event."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from lorabake.runs.activity import RunActivity, measure_pace, read_activity, read_recent_activity
from lorabake.runs.events import format_timestamp
from lorabake.runs.folder import RunPaths

START = datetime(2026, 1, 31, 9, 30, tzinfo=UTC)


def at(seconds: float, event: str, **fields: Any) -> dict[str, Any]:
    return {"time": format_timestamp(START + timedelta(seconds=seconds)), "event": event, **fields}


def written(root: Path, *events: dict[str, Any] | str) -> RunPaths:
    paths = RunPaths(root)
    paths.events.write_text("".join(f"{each if isinstance(each, str) else json.dumps(each)}\n" for each in events))
    return paths


def taken(*events: dict[str, Any]) -> RunActivity:
    found = RunActivity()
    for event in events:
        found.take(event)
    return found


def test_a_steady_pace() -> None:
    assert measure_pace([(number * 2.0, number) for number in range(1, 200)]) == pytest.approx(2.0)
    assert measure_pace([]) is None
    assert measure_pace([(3.0, 1)]) is None


def test_the_last_minute_counts_and_not_the_average() -> None:
    slow = [(number * 10.0, number) for number in range(1, 101)]
    fast = [(1000.0 + number, 100 + number) for number in range(1, 121)]
    assert measure_pace([*slow, *fast]) == pytest.approx(1.0)


@pytest.mark.parametrize("steps_after", [1, 2, 30])
def test_right_after_a_pause_it_is_the_pace_of_training(steps_after: int) -> None:
    before = [(float(number), number) for number in range(1, 50)]
    after = [(49.0 + 600.0 + number, 49 + number) for number in range(1, steps_after + 1)]
    assert measure_pace([*before, *after]) == pytest.approx(1.0)


def test_steps_that_were_written_in_one_piece() -> None:
    steps = [(0.2 * (number // 10), number) for number in range(1, 500)]
    assert measure_pace(steps) == pytest.approx(0.02, rel=0.05)


def test_time_that_runs_backwards_and_steps_that_do_not_go_on() -> None:
    assert measure_pace([(5.0, 1), (4.0, 2), (4.0, 2), (3.0, 1)]) is None


def test_a_training_from_its_first_event() -> None:
    found = taken(at(0, "started"), at(1, "device", device="cpu"))
    assert (found.phase and found.phase.name, found.step) == ("loading", 0)
    found.take(at(2, "phase", phase="caching", done=3, total=40))
    assert found.phase is not None
    assert (found.phase.name, found.phase.done, found.phase.total) == ("caching", 3, 40)
    found.take(at(3, "epoch", epoch=2, total=5))
    found.take(at(4, "step", step=7, total=10, loss_average=0.1, loss_current="nan"))
    assert (found.phase.name, found.step, found.epoch, found.epochs) == ("training", 7, 2, 5)
    assert (found.loss_average, found.loss) == (0.1, "nan")
    found.take(at(5, "saved", file="output/x-000002.safetensors"))
    assert found.last_save is not None
    assert (found.phase.name, found.last_save.file, found.last_save.step) == (
        "saving", "output/x-000002.safetensors", 7,
    )  # fmt: skip


def test_a_resumed_part_starts_anew() -> None:
    before = (at(0, "started"), at(1, "step", step=5), at(2, "stalled", text="no step"), at(3, "stop_requested"))
    found = taken(*before)
    assert found.is_stopping
    assert len(found.notices) == 1
    found.take(at(900, "resumed", part=2, from_step=4))
    assert (found.step, found.is_stopping, len(found.notices), found.seconds_per_step) == (4, False, 0, None)


def test_a_report_that_repeats_itself_is_kept_once() -> None:
    found = taken(*(at(number, "trainer_warning", text="slow") for number in range(9)), at(9, "traceback", text="slow"))
    assert [each.kind for each in found.notices] == ["trainer_warning", "traceback"]


@pytest.mark.parametrize(
    "event",
    [
        {},
        {"event": "step"},
        {"event": 3, "time": "x"},
        at(0, "step", step="7"),
        at(0, "step", step=True),
        at(0, "step", step=-1),
        at(0, "step", step=1 << 70),
        at(0, "phase", phase="dancing"),
        at(0, "phase", phase=["training"]),
        at(0, "saved", file=7),
        at(0, "somehow", step=5),
    ],
)
def test_what_is_no_event_changes_nothing(event: dict[str, Any]) -> None:
    found = taken(event)
    assert (found.step, found.phase and found.phase.name, found.last_save) in {
        (None, None, None), (None, "training", None), (None, "saving", None),
    }  # fmt: skip


@pytest.mark.parametrize("loss", [1e400, "many", [1], True, 1 << 2000])
def test_a_loss_that_is_no_number(loss: Any) -> None:
    assert taken(at(0, "step", step=1, loss_average=loss)).loss_average in {None, "inf"}


def test_the_end_of_a_long_file_is_enough_for_where_it_is(tmp_path: Path) -> None:
    steps = [at(60 + number, "step", step=number, total=5000) for number in range(1, 3001)]
    early = (at(0, "started"), at(1, "trainer_warning", text="bf16"), at(2, "epoch", epoch=1, total=9), steps[0])
    saved = at(61.5, "saved", file="output/x.safetensors")
    paths = written(tmp_path, *early, saved, *steps[1:])
    short, whole = read_recent_activity(paths), read_activity(paths)
    assert short.step == whole.step == 3000
    assert short.seconds_per_step == pytest.approx(1.0)
    assert whole.seconds_per_step == pytest.approx(1.0)
    assert (short.last_save, short.epoch, len(short.notices)) == (None, None, 0)
    assert whole.last_save is not None
    assert (whole.last_save.step, whole.epoch, whole.notices[0].text) == (1, 1, "bf16")


def test_damage_is_passed_over(tmp_path: Path) -> None:
    paths = written(tmp_path, "{", "[]", '"text"', "\x00", at(0, "step", step=3), "{" * 9000)
    assert read_activity(paths).step == 3
    assert read_recent_activity(RunPaths(tmp_path / "nowhere")).step is None
