"""Machine facts: nvidia-smi's table, hidden GPUs, the kernel's numbers."""

from __future__ import annotations

from pathlib import Path

import pytest

from lorabake.util import machine
from lorabake.util.process import CommandOutput
from lorabake_schemas.machine import Gpu

TABLE = "0, GPU-aaaa-1, NVIDIA GeForce RTX 4090, 24564, 560.35\n1, GPU-bbbb-2, NVIDIA A10, 23028, 560.35\n"
FIRST = Gpu(name="NVIDIA GeForce RTX 4090", memory_mib=24564, driver="560.35")
SECOND = Gpu(name="NVIDIA A10", memory_mib=23028, driver="560.35")


@pytest.mark.parametrize(
    ("visible", "expected"),
    [
        (None, (FIRST, SECOND)),
        ("1", (SECOND,)),
        ("1,0", (SECOND, FIRST)),
        ("GPU-bbbb", (SECOND,)),
        ("0,7,1", (FIRST,)),  # CUDA hides what comes after the first entry it does not know
        ("nonsense", ()),
    ],
)
def test_gpus_as_cuda_would_show_them(visible: str | None, expected: tuple[Gpu, ...]) -> None:
    assert machine.parse_gpus(TABLE, visible) == expected


def test_a_driver_that_hides_values_is_no_error() -> None:
    (gpu,) = machine.parse_gpus("0, GPU-1, NVIDIA X, [N/A], 1\nsome warning\n")
    assert gpu == Gpu(name="NVIDIA X", memory_mib=0, driver="1")


@pytest.mark.parametrize("hidden", ["", "-1", " "])
def test_hidden_gpus_are_not_asked_for(hidden: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*args: object, **kwargs: object) -> CommandOutput:
        raise AssertionError("nvidia-smi was called")

    monkeypatch.setattr(machine, "capture_output", never)
    assert machine.detect_machine({"CUDA_VISIBLE_DEVICES": hidden}).gpus == ()


def test_the_driver_tells(monkeypatch: pytest.MonkeyPatch) -> None:
    def table(argv: list[str], **kwargs: object) -> CommandOutput:
        return CommandOutput(tuple(argv), 0, TABLE, "")

    monkeypatch.setattr(machine, "capture_output", table)
    facts = machine.detect_machine({})
    assert facts.gpus == (FIRST, SECOND)
    assert facts.device == "cuda"
    assert facts.cpus >= 1
    assert facts.memory_bytes > 2**28


def test_a_driver_that_fails_means_no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(argv: list[str], **kwargs: object) -> CommandOutput:
        return CommandOutput(tuple(argv), 9, "NVIDIA-SMI has failed, because, of, a, lot", "")

    monkeypatch.setattr(machine, "capture_output", broken)
    assert machine.detect_machine({}).device == "cpu"


def test_free_disk_of_a_folder_that_will_be_made(tmp_path: Path) -> None:
    assert machine.get_free_disk(tmp_path / "not" / "yet") == pytest.approx(machine.get_free_disk(tmp_path), rel=0.2)


def cgroup(path: Path, **files: str) -> Path:
    for name, text in files.items():
        (path / name.replace("_", ".")).write_text(text, encoding="ascii")
    return path


def test_a_containers_limit_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = cgroup(tmp_path, memory_max="1000\n", memory_current="700\n", memory_stat="anon 5\ninactive_file 200\n")
    monkeypatch.setattr(machine, "_CGROUP", folder)
    assert machine.get_available_memory() == 500
    assert machine.detect_machine({"CUDA_VISIBLE_DEVICES": ""}).memory_bytes == 1000


def test_no_limit_is_no_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "_CGROUP", cgroup(tmp_path, memory_max="max\n", memory_current="7\n"))
    assert machine.detect_machine({"CUDA_VISIBLE_DEVICES": ""}).memory_bytes > 2**28
