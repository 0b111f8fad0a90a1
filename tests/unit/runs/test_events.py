"""events.jsonl is valid JSON line by line, with times, whatever the loss is."""

from __future__ import annotations

import io
import json
from datetime import UTC, datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any, get_args

import pytest

from lorabake.runs.event_kinds import EVENT_KINDS
from lorabake.runs.events import (
    EventLog,
    decode_event,
    encode_event,
    format_timestamp,
    iter_events,
    iter_recorded_steps,
    read_last_step,
)
from lorabake.runs.folder import RunPaths
from lorabake_schemas.events import (
    BadLoss,
    DiskLow,
    EmptyDataset,
    Epoch,
    GpuReading,
    LogLine,
    LossJump,
    Metrics,
    ModelLoaded,
    Phase,
    ProgressEvent,
    RunTotals,
    Saved,
    Saving,
    Stalled,
    StallEnded,
    StallSign,
    Started,
    Step,
    Stopping,
    TrainerError,
    TrainerWarning,
)

if TYPE_CHECKING:
    from pathlib import Path

NOON = datetime(2026, 1, 31, 12, 0, 0, 123456, UTC)


def read(path: Path) -> list[dict[str, Any]]:
    def refuse(name: str) -> None:
        raise AssertionError(f"{name} is not JSON")

    return [json.loads(line, parse_constant=refuse) for line in path.read_text("utf-8").splitlines()]


@pytest.mark.parametrize(
    ("event", "fields"),
    [
        (Started("cuda"), {"event": "device", "device": "cuda"}),
        (ModelLoaded(), {"event": "model_loaded"}),
        (
            RunTotals(12, 3, 2, 2, 4),
            {"event": "totals", "train_samples": 12, "reg_samples": 3, "batches_per_epoch": 2, "epochs": 2, "steps": 4},
        ),
        (Epoch(1, 2), {"event": "epoch", "epoch": 1, "total": 2}),
        (Step(3, 4, 0.25, 1.0), {"event": "step", "step": 3, "total": 4, "loss_average": 0.25, "loss_current": None}),
        (Step(3, 4), {"event": "step", "step": 3, "total": 4, "loss_average": None, "loss_current": None}),
        (
            Step(3, 4, float("nan"), loss_current=0.5),
            {"event": "step", "step": 3, "total": 4, "loss_average": "nan", "loss_current": 0.5},
        ),
        (BadLoss(3, float("-inf")), {"event": "bad_loss", "step": 3, "loss": "-inf"}),
        (Saving("output/x.safetensors"), {"event": "saved", "file": "output/x.safetensors"}),
        (Saved(), {"event": "model_saved"}),
        (EmptyDataset(), {"event": "no_data"}),
        (
            Phase("caching", 3, 40, "latents"),
            {"event": "phase", "phase": "caching", "done": 3, "total": 40, "of": "latents"},
        ),
        (Phase("training"), {"event": "phase", "phase": "training", "done": None, "total": None, "of": None}),
        (TrainerWarning("no VAE"), {"event": "trainer_warning", "text": "no VAE", "count": 1}),
        (TrainerError("OSError: cut", 12), {"event": "trainer_error", "text": "OSError: cut", "count": 12}),
        (
            Stalled("training", 90.5, 1.25, (StallSign("disk"), StallSign("proxy", "[::1]:9")), "a line"),
            {
                "event": "stalled",
                "phase": "training",
                "seconds": 90.5,
                "usual": 1.25,
                "signs": [{"kind": "disk", "detail": ""}, {"kind": "proxy", "detail": "[::1]:9"}],
                "last_line": "a line",
            },
        ),
        (
            Stalled("loading", 900.0),
            {"event": "stalled", "phase": "loading", "seconds": 900.0, "usual": None, "signs": [], "last_line": None},
        ),
        (StallEnded(120.0), {"event": "stall_ended", "seconds": 120.0}),
        (LossJump(40, 0.1, 0.4), {"event": "loss_jump", "step": 40, "before": 0.1, "after": 0.4}),
        (
            DiskLow("x.safetensors", 8, 5, 9),
            {"event": "disk_low", "file": "x.safetensors", "step": 8, "free": 5, "needed": 9},
        ),
        (
            Metrics((("unet", 1e-4), ("textencoder", float("nan"))), 0.5, (GpuReading("GPU-a", "A10", 5, 9, 65),)),
            {
                "event": "metrics",
                "learning_rates": {"unet": 1e-4, "textencoder": "nan"},
                "d": 0.5,
                "gpus": [{"uuid": "GPU-a", "name": "A10", "used_mib": 5, "total_mib": 9, "temperature": 65}],
            },
        ),
        (
            Metrics(gpus=(GpuReading("MIG-b", "", 5, 9),)),
            {
                "event": "metrics",
                "learning_rates": {},
                "d": None,
                "gpus": [{"uuid": "MIG-b", "name": "", "used_mib": 5, "total_mib": 9, "temperature": None}],
            },
        ),
        (Stopping("SIGTERM"), {"event": "stopping", "signal": "SIGTERM"}),
        (LogLine("hello"), None),
    ],
)
def test_every_event_as_it_stands_in_the_file(event: ProgressEvent, fields: dict[str, Any] | None) -> None:
    assert encode_event(event) == fields
    if fields is not None:
        again = decode_event(json.loads(json.dumps({"time": "2026-01-31T12:00:00.123Z", **fields})))
        assert type(again) is type(event)
        assert again is not None
        assert encode_event(again) == fields


def test_every_kind_of_event_but_a_line_of_the_log_has_a_place_in_the_file() -> None:
    assert {*get_args(ProgressEvent)} - {kind.form for kind in EVENT_KINDS} == {LogLine}


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"event": "started", "name": "x", "rehearsal": False},
        {"event": "finished", "code": "trained"},
        {"event": ["step"]},
        {"event": "step"},
        {"event": "step", "step": True, "total": 4, "loss_average": None, "loss_current": None},
        {"event": "step", "step": -1, "total": 4, "loss_average": None, "loss_current": None},
        {"event": "step", "step": 1 << 70, "total": 4, "loss_average": None, "loss_current": None},
        {"event": "step", "step": 1, "total": 4, "loss_average": "high", "loss_current": None},
        {"event": "step", "step": 1, "total": 4, "loss_average": 10**400, "loss_current": None},
        {"event": "phase", "phase": "dreaming", "done": None, "total": None, "of": None},
        {"event": "phase", "phase": {}, "done": None, "total": None, "of": None},
        {
            "event": "stalled",
            "phase": "training",
            "seconds": 1,
            "usual": 1,
            "signs": [{"kind": "x"}],
            "last_line": None,
        },
        {
            "event": "stalled",
            "phase": "training",
            "seconds": 1,
            "usual": 1,
            "signs": {"kind": "disk"},
            "last_line": None,
        },
        {"event": "saved", "file": 3},
    ],
)
def test_what_is_no_progress_event_is_read_as_none(fields: dict[str, Any]) -> None:
    assert decode_event(fields) is None


def test_lines_are_there_before_the_file_is_closed(tmp_path: Path) -> None:
    log = EventLog(tmp_path / "events.jsonl", lambda: NOON)
    log.write([{"event": "started", "rehearsal": True}])
    log.progress([Epoch(1, 2), LogLine("not kept"), Step(1, 4, float("nan"))])
    log.progress([LogLine("nothing to write")])
    time = "2026-01-31T12:00:00.123Z"
    try:
        assert read(tmp_path / "events.jsonl") == [
            {"time": time, "event": "started", "rehearsal": True},
            {"time": time, "event": "epoch", "epoch": 1, "total": 2},
            {"time": time, "event": "step", "step": 1, "total": 4, "loss_average": "nan", "loss_current": None},
        ]
    finally:
        log.close()


def test_times_are_utc_with_milliseconds() -> None:
    assert format_timestamp(NOON.astimezone(timezone(timedelta(hours=-3)))) == "2026-01-31T12:00:00.123Z"
    assert format_timestamp(datetime(2026, 1, 1, tzinfo=UTC)) == "2026-01-01T00:00:00.000Z"


class FullDisk(io.FileIO):
    """Takes 100 bytes in all, in pieces."""

    room = 100

    def write(self, data: Any, /) -> int:
        if self.room == 0:
            raise OSError(28, "No space left on device")
        taken = super().write(data[: min(self.room, 60)])
        self.room -= taken
        return taken


def test_a_full_disk_leaves_whole_lines(tmp_path: Path) -> None:
    log = EventLog(tmp_path / "events.jsonl", lambda: NOON)
    log.close()
    with FullDisk(tmp_path / "events.jsonl", "a") as disk:
        log._file = disk  # pyright: ignore[reportPrivateUsage]
        log.write([{"event": "started"}])
        with pytest.raises(OSError, match="No space left"):
            log.write([{"event": "failed", "message": "a long one"}])
    assert [event["event"] for event in read(tmp_path / "events.jsonl")] == ["started"]


def test_steps_are_read_back_as_they_were_written(tmp_path: Path) -> None:
    steps = [Step(1, 4, 0.5), Step(2, 4, float("inf"), loss_current=0.25), Step(3, 4)]
    log = EventLog(tmp_path / "events.jsonl", lambda: NOON)
    log.write([{"event": "started"}])
    log.progress([Epoch(1, 1), *steps])
    log.write([{"event": "step"}, {"event": "step", "step": "x", "total": 1, "loss_average": [], "loss_current": {}}])
    log.close()
    with (tmp_path / "events.jsonl").open("ab") as torn:
        torn.write(b'{"event": "step"')
    assert list(iter_recorded_steps(tmp_path / "events.jsonl", tmp_path)) == steps


def test_every_line_is_an_event_and_a_damaged_one_is_empty(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    path.write_text('{"event": "epoch"}\n{"event": "st\n[1]\n' + "[" * 9000 + '\n{"event": "step", "step": 3}\n{"half')
    found = list(iter_events(path, tmp_path))
    assert found == [{"event": "epoch"}, {}, {}, {}, {"event": "step", "step": 3}, {}]
    assert list(iter_events(path, tmp_path, containing=b'"step"')) == [{"event": "step", "step": 3}]
    assert read_last_step(RunPaths(tmp_path)) == 3


def test_of_a_long_file_only_its_beginning_or_its_end_is_read(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    path.write_text("".join(f'{{"step": {number:02}}}\n' for number in range(10, 30)))
    size = len('{"step": 10}\n')
    assert [event["step"] for event in iter_events(path, tmp_path, first=2 * size)] == [10, 11]
    assert [event["step"] for event in iter_events(path, tmp_path, last=2 * size + 5)] == [28, 29]
    assert len(list(iter_events(path, tmp_path, last=1 << 20))) == 20


def test_a_line_that_is_no_event_of_lorabake_ends_the_reading(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    path.write_bytes(b'{"step": 1}\n' + b" " * (1 << 17) + b'\n{"step": 2}\n')
    assert list(iter_events(path, tmp_path)) == [{"step": 1}]
