"""What this machine has: GPUs, CPUs, memory, disk."""

from __future__ import annotations

import os
import platform
import shutil
import socket
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from lorabake.errors import SetupError
from lorabake.util.files import exists
from lorabake.util.process import capture_output
from lorabake_schemas.machine import Gpu, MachineFacts
from lorabake_schemas.messages import Message, msg

if TYPE_CHECKING:
    from collections.abc import Mapping

_NVIDIA_SMI_TIMEOUT_S = 10.0  # a driver that is still waking the card takes seconds
_GPU_FIELDS = "index,uuid,name,memory.total,driver_version"
_VISIBLE_GPUS = "CUDA_VISIBLE_DEVICES"
_CGROUP = Path("/sys/fs/cgroup")
_SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 - a file system, in which nothing is written


@dataclass(frozen=True, slots=True)
class GpuDevice:
    """A GPU of this machine, or the part of one (MIG) that CUDA_VISIBLE_DEVICES names."""

    uuid: str
    index: str = ""
    name: str = ""

    def describe(self) -> Message:
        if not self.index:
            return msg("GPU {uuid}", uuid=self.uuid)
        return msg("GPU {index} ({name})", index=self.index, name=self.name)


def detect_machine(env: Mapping[str, str]) -> MachineFacts:
    """The machine as a training started with ``env`` would see it (CUDA_VISIBLE_DEVICES hides GPUs)."""
    return MachineFacts(
        system=platform.system(),
        cpus=_count_cpus(),
        memory_bytes=_read_memory(),
        gpus=_detect_gpus(env),
        release=platform.release(),
        architecture=platform.machine(),
        processor=_read_processor_name(),
        shared_memory_bytes=_get_shared_memory(),
    )


def _get_shared_memory() -> int | None:
    try:
        return shutil.disk_usage(_SHARED_MEMORY).total
    except OSError:
        return None


def _read_processor_name() -> str:
    """The CPU's name from the kernel; Python's value on a system without that table."""
    with suppress(OSError, ValueError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines():
            name, _, value = line.partition(":")
            if name.strip() == "model name":
                return value.strip()
    return platform.processor()


def _count_cpus() -> int:
    if hasattr(os, "sched_getaffinity"):  # not on macOS
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _read_memory() -> int:
    """Physical memory in bytes, or what the container may use when that is less."""
    physical = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else 0
    limit = _read_number(_CGROUP / "memory.max")
    return physical if limit is None else min(physical, limit)


def get_available_memory() -> int | None:
    """Memory in bytes that a new process can use without swapping; None if the system does not report it."""
    free = _read_table_field(Path("/proc/meminfo"), "MemAvailable:")
    limit, used = _read_number(_CGROUP / "memory.max"), _read_number(_CGROUP / "memory.current")
    left: int | None = None
    if limit is not None and used is not None:
        cached = _read_table_field(
            _CGROUP / "memory.stat", "inactive_file"
        )  # counted as used, given back when asked for
        left = max(limit - used + (cached or 0), 0)
    return min((value for value in (None if free is None else free * 1024, left) if value is not None), default=None)


def _read_table_field(path: Path, name: str) -> int | None:
    """The number after ``name`` in one of the kernel's tables."""
    with suppress(OSError, ValueError, IndexError):
        for line in path.read_text(encoding="ascii").splitlines():
            if line.split(maxsplit=1)[0] == name:
                return int(line.split()[1])
    return None


def _read_number(path: Path) -> int | None:
    """A cgroup file's number; None without one ("max" means no limit)."""
    try:
        return int(path.read_text(encoding="ascii"))
    except (OSError, ValueError):
        return None


def has_memory_limit() -> bool:
    """Whether this process, and what it starts, may only use so much address space (ulimit -v)."""
    return _get_limit("RLIMIT_AS") is not None


def get_file_size_limit() -> int | None:
    """How many bytes a file may have that this process, or one that it starts, writes (ulimit -f); None for any."""
    return _get_limit("RLIMIT_FSIZE")


def _get_limit(name: str) -> int | None:
    try:
        import resource  # not on Windows
    except ImportError:
        return None
    kind: int | None = getattr(resource, name, None)
    limit = resource.RLIM_INFINITY if kind is None else resource.getrlimit(kind)[0]
    return None if limit == resource.RLIM_INFINITY else limit


def read_process_name(number: int) -> str | None:
    """The name of a running process; None if there is none of that number, or the system does not tell."""
    with suppress(OSError):
        return Path(f"/proc/{number}/comm").read_text(encoding="utf-8", errors="replace").strip() or None
    return None


def get_free_disk(path: Path) -> int:
    """Free bytes for this user where ``path`` is or would be made. Raises OSError when no parent of it exists."""
    return shutil.disk_usage(_find_existing_parent(path)).free


def get_shared_memory_space() -> tuple[int, int] | None:
    """Size and free bytes of /dev/shm; None without one."""
    try:
        usage = shutil.disk_usage(_SHARED_MEMORY)
    except OSError:
        return None
    return usage.total, usage.free


def open_file_limit() -> int | None:
    """How many files a process may open; None without a limit, or on a system that does not tell."""
    try:
        import resource  # not on Windows
    except ImportError:
        return None
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return None if limit == resource.RLIM_INFINITY else limit


def get_file_system_id(path: Path) -> int:
    """The number of the file system on which ``path`` is or would be made. Raises OSError."""
    return _find_existing_parent(path).stat().st_dev


def _find_existing_parent(path: Path) -> Path:
    place = path.absolute()
    while not exists(place) and place != place.parent:
        place = place.parent
    return place


def is_port_free(port: int) -> bool:
    """Whether a program of this user can listen on this port now."""
    try:
        listen_everywhere(port).close()
    except OSError:
        return False
    return True


def listen_everywhere(port: int) -> socket.socket:
    """Listen on all addresses of this machine, IPv4 and where it has them IPv6. Raises OSError."""
    if socket.has_dualstack_ipv6():
        return socket.create_server(("", port), family=socket.AF_INET6, dualstack_ipv6=True)
    return socket.create_server(("", port))


def is_writable(folder: Path) -> bool:
    """Whether this user may make files in an existing folder."""
    return os.access(folder, os.W_OK | os.X_OK)


def _detect_gpus(env: Mapping[str, str]) -> tuple[Gpu, ...]:
    """NVIDIA GPUs by the driver's own tool; no tool, no driver or no answer in time means none."""
    return parse_gpus(_query_gpus(env), env.get(_VISIBLE_GPUS))


def list_gpus(env: Mapping[str, str]) -> tuple[GpuDevice, ...]:
    """The GPUs that a program started with ``env`` would use, in its order. Of a MIG device only the UUID is known.

    nvidia-smi counts by PCI bus. CUDA does so only with CUDA_DEVICE_ORDER=PCI_BUS_ID; without it, it puts the fastest
    GPU first, so that of unlike GPUs an index may name another one here (CUDA C Programming Guide, environment
    variables).
    """
    rows, visible = _split_rows(_query_gpus(env)), env.get(_VISIBLE_GPUS)
    parts = [] if visible is None else [part.strip() for part in visible.split(",")]
    if any(part.startswith("MIG-") for part in parts):
        return tuple(GpuDevice(part) for part in parts if part.startswith("MIG-"))
    chosen = rows if visible is None else _select_visible(rows, visible)
    return tuple(GpuDevice(uuid=row[1], index=row[0], name=row[2]) for row in chosen)


def _query_gpus(env: Mapping[str, str]) -> str:
    """nvidia-smi's table; empty without GPUs."""
    visible = env.get(_VISIBLE_GPUS)
    if visible is not None and visible.strip() in {"", "-1"}:
        return ""
    query = ["nvidia-smi", f"--query-gpu={_GPU_FIELDS}", "--format=csv,noheader,nounits"]
    try:
        said = capture_output(query, env=env, timeout=_NVIDIA_SMI_TIMEOUT_S)
    except SetupError:
        return ""
    return said.stdout if said.ok else ""


class GpuProgram(NamedTuple):
    """A program that uses a GPU's memory, in MiB."""

    number: int
    name: str
    memory_mib: int


def driver_problem(env: Mapping[str, str]) -> str | None:
    """What nvidia-smi says instead of showing a GPU; None if it shows one, or is not installed."""
    try:
        said = capture_output(["nvidia-smi", "-L"], env=env, timeout=_NVIDIA_SMI_TIMEOUT_S)
    except SetupError:
        return None
    if said.ok and said.stdout.strip():
        return None
    lines = (said.stdout + said.stderr).strip().splitlines()
    return lines[0] if lines else "nvidia-smi"


def list_gpu_programs(env: Mapping[str, str]) -> tuple[GpuProgram, ...]:
    """The programs that calculate on GPUs now; empty where the driver does not tell."""
    query = ["nvidia-smi", "--query-compute-apps=pid,process_name,used_memory", "--format=csv,noheader,nounits"]
    try:
        said = capture_output(query, env=env, timeout=_NVIDIA_SMI_TIMEOUT_S)
    except SetupError:
        return ()
    return parse_gpu_programs(said.stdout) if said.ok else ()


def parse_gpu_programs(text: str) -> tuple[GpuProgram, ...]:
    """nvidia-smi's table; the largest first. A name may contain commas."""
    found: list[GpuProgram] = []
    for line in text.splitlines():
        number, _, rest = line.partition(",")
        name, _, memory = rest.rpartition(",")
        if number.strip().isdigit() and memory.strip().isdigit():
            found.append(GpuProgram(int(number), Path(name.strip()).name, int(memory)))
    return tuple(sorted(found, key=lambda program: -program.memory_mib))


def parse_gpus(text: str, visible: str | None = None) -> tuple[Gpu, ...]:
    """nvidia-smi's table as GPUs. ``visible`` is CUDA_VISIBLE_DEVICES: indices or starts of UUIDs, in CUDA's order,
    where everything after the first entry that names no GPU is hidden."""
    rows = _split_rows(text)
    if visible is not None:
        rows = _select_visible(rows, visible)
    return tuple(_parse_gpu(row) for row in rows)


def _split_rows(text: str) -> list[list[str]]:
    rows = [[field.strip() for field in line.split(",")] for line in text.splitlines() if line.strip()]
    return [row for row in rows if len(row) == len(_GPU_FIELDS.split(","))]


def _select_visible(rows: list[list[str]], visible: str) -> list[list[str]]:
    chosen: list[list[str]] = []
    for wanted in (part.strip() for part in visible.split(",")):
        found = [row for row in rows if wanted and (row[0] == wanted or row[1].startswith(wanted))]
        if not found:
            break
        chosen.append(found[0])
    return chosen


def _parse_gpu(row: list[str]) -> Gpu:
    _, _, name, memory, driver = row
    return Gpu(name=name, memory_mib=int(memory) if memory.isdigit() else 0, driver=driver)
