"""Learning rates and GPU readings become an event now and then, and nothing of it disturbs a run."""

from __future__ import annotations

import math
import sys
import threading
import time
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from fake_nvml import FIRST, SECOND, FakeNvml, NvmlError
from lorabake.runs.metrics import REPORT_S, MetricsReporter, find_d, read_learning_rates
from lorabake.util.gpu_sensors import GpuSensors
from lorabake.util.machine import GpuDevice
from lorabake_schemas.events import GpuReading, Metrics

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping


@pytest.fixture
def nvml(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeNvml]:
    fake = FakeNvml()
    monkeypatch.setitem(sys.modules, "pynvml", fake)
    yield fake
    until(lambda: not any(thread.name.startswith("gpu-sensors") for thread in threading.enumerate()))


def until(is_true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not is_true():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def wait_for(sensors: GpuSensors, count: int) -> None:
    until(lambda: len(sensors.readings) >= count)


def test_the_gpus_of_the_run_are_measured_and_no_others(nvml: FakeNvml) -> None:
    with GpuSensors((FIRST, SECOND)) as sensors:
        wait_for(sensors, 2)
        assert sensors.readings == (
            GpuReading("GPU-aaaa", "NVIDIA A10", 10_000, 24_000, 65),
            GpuReading("MIG-bbbb", "", 500, 24_000, None),
        )
    assert nvml.asked == ["init", FIRST.uuid, SECOND.uuid]


def test_a_gpu_that_the_driver_does_not_know_is_left_out(nvml: FakeNvml) -> None:
    with GpuSensors((GpuDevice("GPU-gone"), FIRST)) as sensors:
        wait_for(sensors, 1)
        assert [gpu.uuid for gpu in sensors.readings] == [FIRST.uuid]


def test_it_is_measured_again(nvml: FakeNvml) -> None:
    with GpuSensors((FIRST,), interval_s=0.01) as sensors:
        wait_for(sensors, 1)
        nvml.temperature = 80
        until(lambda: sensors.readings[0].temperature == 80)


@pytest.mark.parametrize("broken", [None, SimpleNamespace()])
def test_without_a_driver_or_its_library_nothing_is_measured(monkeypatch: pytest.MonkeyPatch, broken: object) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", broken)
    with GpuSensors((FIRST,)) as sensors:
        until(lambda: not any(thread.name.startswith("gpu-sensors") for thread in threading.enumerate()))
        assert sensors.readings == ()


def test_without_gpus_the_library_is_not_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "pynvml", raising=False)
    with GpuSensors(()) as sensors:
        assert sensors.readings == ()
    assert "pynvml" not in sys.modules
    assert not any(thread.name.startswith("gpu-sensors") for thread in threading.enumerate())


def test_a_driver_that_never_answers_holds_nobody_up(nvml: FakeNvml, monkeypatch: pytest.MonkeyPatch) -> None:
    hangs, released = threading.Event(), threading.Event()

    def hang(_uuid: str) -> str:
        hangs.set()
        released.wait(30)
        raise NvmlError

    monkeypatch.setattr(nvml, "nvmlDeviceGetHandleByUUID", hang)
    with GpuSensors((FIRST,)) as sensors:
        assert hangs.wait(30)
        assert sensors.readings == ()
    released.set()


RATES: Mapping[str, float] = {"lr/textencoder": 5e-5, "lr/unet": 1e-4}


@pytest.mark.parametrize(
    ("logged", "rates", "d"),
    [
        ({}, (), None),
        ({**RATES, "lr/group1": 1e-4}, (("textencoder", 5e-5), ("unet", 1e-4)), None),
        ({"lr/unet": 1e-4, "lr/textencoder": 1e-4}, (("unet", 1e-4),), None),  # the UNet alone, by a rate of 0
        ({"lr/textencoder": 1e-4, "lr/textencoder plus": 1e-3, "lr/group1": 1e-3},
         (("textencoder", 1e-4), ("textencoder plus", 1e-3)), None),
        ({"lr/unet": math.nan, "lr/d*lr/unet": math.inf}, (), None),
        ({f"lr/unet_block{n}": 1e-4 for n in range(75)}, tuple((f"unet_block{n}", 1e-4) for n in range(12)), None),
        # Prodigy, the rate of the text encoder has come to its end
        (
            {
                "lr/textencoder": 0.0, "lr/d*lr/textencoder": 0.0, "lr/unet": 0.5, "lr/d*lr/unet": 2e-5,
                "lr/group1": 0.5, "lr/d*lr/group1": 2e-5,
            },
            (("textencoder", 0.0), ("unet", 0.5)),
            4e-5,
        ),
        # ProdigyPlusScheduleFree with one rate
        ({"lr/unet": 2.0, "lr/d*lr": 3e-5, "lr/group0": 2.0}, (("unet", 2.0),), 1.5e-5),
        # LyCORIS with three groups: TN:96-100 names them all "group"
        (
            {"lr/group1": 1e-4, "lr/group2": 2e-4, "lr/group3": 3e-4, "lr/textencoder": 1e-4},
            (("group1", 1e-4), ("group2", 2e-4), ("group3", 3e-4), ("textencoder", 1e-4)),
            None,
        ),
        ({"lr/unet": 1.0, "lr/d*lr/other": 3e-5}, (("unet", 1.0),), None),
    ],
)  # fmt: skip
def test_what_sd_scripts_logs_as_rates(
    logged: dict[str, float], rates: tuple[tuple[str, float], ...], d: float | None
) -> None:
    assert (read_learning_rates(logged), find_d(logged)) == (rates, d)


def test_an_event_is_written_now_and_then_and_only_if_something_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    sensors = GpuSensors(())
    reporter, told = MetricsReporter(sensors), list[tuple[float, Any]]()
    for second in range(0, 100, 2):
        rate = 1.0 if second < 50 else 1.0 / second
        told += [(second, event.learning_rates) for event in reporter.look(second, {"lr/unet": rate} if second else {})]
    assert [second for second, _ in told] == [2, 50, 60, 70, 80, 90]
    assert REPORT_S == 10
    readings = (GpuReading("GPU-aaaa", "x", 1, 2),)
    monkeypatch.setattr(GpuSensors, "readings", readings)
    assert reporter.look(200.0, {}) == [Metrics(gpus=readings)]


def test_what_was_measured_long_ago_is_not_shown(nvml: FakeNvml, monkeypatch: pytest.MonkeyPatch) -> None:
    with GpuSensors((FIRST,)) as sensors:
        wait_for(sensors, 1)
        later = time.monotonic() + 1000
        monkeypatch.setattr(time, "monotonic", lambda: later)
        assert sensors.readings == ()
