"""Which of the two locks a machine gets, and whether there is room for it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Literal

from lorabake.errors import ResourceError, SetupError
from lorabake_schemas.messages import Message, msg
from lorabake_schemas.pin import LockName, Pin

LockChoice = Literal["auto", "cuda", "cpu"]

# The one CPU build of torch for Linux whose hash is in the CPU lock, and the last Python that torchvision 0.15.2 has
# builds for (vendor/trainer-cpu.in).
_LINUX_CPU_BUILD = ("x86_64", "3.11")


def choose_lock(
    choice: LockChoice, *, gpu: bool, system: tuple[str, str], python: str, offers_cpu: Callable[[], bool]
) -> tuple[LockName, Message]:
    """Which lock to install, and why. ``system`` is (operating system, processor), ``python`` major.minor.

    On Linux the package index only has CUDA builds of torch, which train on a CPU, too. ``offers_cpu`` asks pip whether
    it can find a CPU build; it is called only if that matters. Raises SetupError if the CPU lock was asked for and is
    not available.
    """
    if choice == "cuda":
        return "cuda", msg("requested")
    if gpu:
        return "cuda", msg("this machine has an NVIDIA GPU")
    missing = _missing_cpu_build(system, python, offers_cpu)
    if missing is None:
        return "cpu", msg("requested") if choice == "cpu" else msg("no NVIDIA GPU on this machine")
    if choice == "auto":
        return "cuda", msg(
            "no NVIDIA GPU on this machine, but {why}; the CUDA build can also train on the CPU", why=missing
        )
    raise SetupError(
        msg("the CPU packages are not available: {why}", why=missing),
        msg("add a package index that has them (pip config set global.extra-index-url URL), or use the CUDA packages"),
    )


def _missing_cpu_build(system: tuple[str, str], python: str, offers_cpu: Callable[[], bool]) -> Message | None:
    """Why torch has no CPU build for this machine; None if it has one."""
    if system[0] != "Linux":
        return None
    if (system[1], python) != _LINUX_CPU_BUILD:
        processor, version = _LINUX_CPU_BUILD
        return msg("the CPU packages are for Python {version} on {processor}", version=version, processor=processor)
    return None if offers_cpu() else msg("pip found no CPU build of torch")


def check_disk_space(pin: Pin, name: LockName, home: Path, free: int) -> None:
    """Raises ResourceError when the disk is too small: packages need room twice, downloaded and installed."""
    lock = pin.lock(name)
    needed = lock.download_bytes + lock.disk_bytes
    if free < needed:
        raise ResourceError(
            msg(
                "not enough disk space in {home}: the {lock} packages need {needed:.1f} GB, but only "
                "{free:.1f} GB are free",
                home=home,
                lock=name,
                needed=needed / 1e9,
                free=free / 1e9,
            ),
            msg("free some space, or set LORABAKE_HOME to a folder on another disk"),
        )
