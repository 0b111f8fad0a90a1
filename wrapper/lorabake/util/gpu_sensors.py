"""Memory and temperature of GPUs, as NVIDIA's driver measures them (NVML).

nvidia-ml-py is imported only where a training has a GPU: it takes 4 MB. A driver whose GPU has failed may never answer,
so it is asked in a separate thread, which nobody waits for.
"""

from __future__ import annotations

import importlib
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from lorabake_schemas.events import GpuReading

if TYPE_CHECKING:
    from lorabake.util.machine import GpuDevice

INTERVAL_S = 10.0
MAX_AGE_S = 30.0


@dataclass(slots=True)
class GpuSensors:
    """The last readings of some GPUs, none without a driver that answers. Used as a context; without GPUs it does
    nothing."""

    gpus: Sequence[GpuDevice]
    interval_s: float = INTERVAL_S
    _found: tuple[GpuReading, ...] = ()
    _found_at: float = 0.0
    _measured: threading.Event = field(default_factory=threading.Event)
    _closed: threading.Event = field(default_factory=threading.Event)

    def __enter__(self) -> GpuSensors:
        if self.gpus:
            threading.Thread(target=self._watch, name="gpu-sensors", daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._closed.set()

    @property
    def readings(self) -> tuple[GpuReading, ...]:
        """None if the driver no longer answers."""
        return self._found if time.monotonic() - self._found_at < MAX_AGE_S + self.interval_s else ()

    def wait(self, seconds: float) -> tuple[GpuReading, ...]:
        """The first readings; none if there are no GPUs, or if the driver takes longer."""
        if self.gpus:
            self._measured.wait(seconds)
        return self.readings

    def _watch(self) -> None:
        try:
            self._measure()
        finally:
            self._measured.set()

    def _measure(self) -> None:
        try:
            nvml: Any = importlib.import_module("pynvml")
            nvml.nvmlInit()
        except Exception:  # noqa: BLE001 - no driver, or a library of another version: then nothing is shown
            return
        while True:
            self._found = tuple(found for gpu in self.gpus if (found := read_gpu(nvml, gpu)) is not None)
            self._found_at = time.monotonic()
            self._measured.set()
            if self._closed.wait(self.interval_s):
                return


def read_gpu(nvml: Any, gpu: GpuDevice) -> GpuReading | None:
    """None if the driver does not answer for this GPU."""
    try:
        handle = nvml.nvmlDeviceGetHandleByUUID(gpu.uuid)
        memory = nvml.nvmlDeviceGetMemoryInfo(handle)
    except nvml.NVMLError:
        return None
    try:
        temperature = nvml.nvmlDeviceGetTemperature(handle, nvml.NVML_TEMPERATURE_GPU)
    except nvml.NVMLError:
        temperature = None
    return GpuReading(gpu.uuid, gpu.name, memory.used >> 20, memory.total >> 20, temperature)
