"""A stand-in for pynvml: a driver with two GPUs."""

from __future__ import annotations

from types import SimpleNamespace

from lorabake.util.machine import GpuDevice

MIB = 1 << 20
FIRST, SECOND = GpuDevice("GPU-aaaa", "0", "NVIDIA A10"), GpuDevice("MIG-bbbb")


class NvmlError(Exception):
    """As NVML's own."""


class FakeNvml:
    """The second GPU is a part of one (MIG), which has no sensor of temperature."""

    NVMLError = NvmlError
    NVML_TEMPERATURE_GPU = 0

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.temperature, self.used_mib = 65, 10_000

    def nvmlInit(self) -> None:  # noqa: N802 - NVML's name
        self.asked.append("init")

    def nvmlDeviceGetHandleByUUID(self, uuid: str) -> str:  # noqa: N802
        if uuid not in {FIRST.uuid, SECOND.uuid}:
            raise NvmlError
        self.asked.append(uuid)
        return uuid

    def nvmlDeviceGetMemoryInfo(self, handle: str) -> SimpleNamespace:  # noqa: N802
        return SimpleNamespace(used=(self.used_mib if handle == FIRST.uuid else 500) * MIB, total=24_000 * MIB)

    def nvmlDeviceGetTemperature(self, handle: str, _sensor: int) -> int:  # noqa: N802
        if handle == SECOND.uuid:
            raise NvmlError
        return self.temperature
