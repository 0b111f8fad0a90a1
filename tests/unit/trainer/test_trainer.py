"""Which packages a machine gets, which installed trainer counts, what is known about attention."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

import pytest

from lorabake.errors import ResourceError, SetupError
from lorabake.trainer import attention, select_packages, store, venv
from lorabake.trainer import install as trainer
from lorabake.trainer.build import BuildEnv
from lorabake.util import machine, resources
from lorabake.util.process import CommandOutput
from lorabake_schemas.machine import Gpu, MachineFacts
from lorabake_schemas.messages import literal
from lorabake_schemas.pin import LockName

LINUX, MAC = ("Linux", "x86_64"), ("Darwin", "arm64")
VERSION = venv.read_python_version(None, {})


def never() -> bool:
    raise AssertionError("pip was asked")


@pytest.mark.parametrize(
    ("asked", "gpu", "system", "python", "offers", "expected", "why"),
    [
        ("cuda", False, LINUX, "3.11", None, "cuda", "requested"),
        ("auto", True, LINUX, "3.11", None, "cuda", "NVIDIA GPU"),
        ("auto", False, LINUX, "3.11", True, "cpu", "no NVIDIA GPU"),
        ("auto", False, LINUX, "3.11", False, "cuda", "pip found no CPU build of torch; the CUDA build"),
        ("auto", False, LINUX, "3.12", None, "cuda", "Python 3.11 on x86_64"),
        ("auto", False, ("Linux", "aarch64"), "3.11", None, "cuda", "Python 3.11 on x86_64"),
        ("auto", False, MAC, "3.12", None, "cpu", "no NVIDIA GPU"),
        ("auto", False, ("Windows", "AMD64"), "3.13", None, "cpu", "no NVIDIA GPU"),
        ("cpu", False, LINUX, "3.11", True, "cpu", "requested"),
        ("cpu", False, MAC, "3.11", None, "cpu", "requested"),
    ],
)
def test_choosing_packages(
    asked: select_packages.LockChoice,
    gpu: bool,
    system: tuple[str, str],
    python: str,
    offers: bool | None,
    expected: str,
    why: str,
) -> None:
    ask = never if offers is None else lambda: offers
    name, reason = select_packages.choose_lock(asked, gpu=gpu, system=system, python=python, offers_cpu=ask)
    assert name == expected
    assert why in reason


@pytest.mark.parametrize(("python", "offers"), [("3.11", False), ("3.12", True)])
def test_cpu_packages_that_cannot_be_had_are_an_error(python: str, offers: bool) -> None:
    with pytest.raises(SetupError, match="the CPU packages are not available") as caught:
        select_packages.choose_lock("cpu", gpu=False, system=LINUX, python=python, offers_cpu=lambda: offers)
    assert "extra-index-url" in (caught.value.hint or "")


@pytest.mark.parametrize(("version", "word"), [("3.10", "too old"), ("3.14", "too new"), ("4.0", "too new")])
def test_a_python_without_builds_is_refused(version: str, word: str) -> None:
    with pytest.raises(SetupError, match=word) as caught:
        venv.check_python_version(version, "3.11", "3.13")
    assert "--python" in (caught.value.hint or "")


@pytest.mark.parametrize("version", ["3.11", "3.12", "3.13"])
def test_a_python_with_builds_is_taken(version: str) -> None:
    venv.check_python_version(version, "3.11", "3.13")


def test_packages_need_room_twice() -> None:
    pin = resources.load_pin()
    needed = pin.cpu.download_bytes + pin.cpu.disk_bytes
    select_packages.check_disk_space(pin, "cpu", Path("/home"), needed)
    with pytest.raises(ResourceError, match=r"not enough disk space in .*need 1\.9 GB, but only 1\.9 GB are free"):
        select_packages.check_disk_space(pin, "cpu", Path("/home"), needed - 1)


def world(*, gpu: bool = False) -> BuildEnv:
    def has_gpu(env: Mapping[str, str]) -> bool:
        return gpu

    return BuildEnv(lock_text=str, gpu=has_gpu)


def pretend(home: Path, name: LockName) -> Path:
    """The traces of a complete trainer, as install would have left them."""
    pin = resources.load_pin()
    store.trainers_folder(home).mkdir(parents=True, exist_ok=True)
    digest = hashlib.sha256(pin.lock(name).file.encode()).hexdigest()
    with store.stage_folder(home, "x") as folder:
        (folder / "sd-scripts").mkdir()
        (folder / "sd-scripts" / "train_network.py").touch()
        python = venv.interpreter_path(folder / "venv")
        python.parent.mkdir(parents=True)
        python.touch()
    marker = store.InstallManifest(
        folder=folder.name,
        url=pin.url,
        commit=pin.commit,
        lock=name,
        lock_sha256=digest,
        files_sha256="f",
        python="3",
        versions={},
    )
    store.activate_trainer(home, store.trainer_key(pin, name, digest, VERSION), marker)
    return folder


def found(home: Path, asked: select_packages.LockChoice, env: Mapping[str, str], *, gpu: bool = False) -> str | None:
    trainer_ = trainer.find_installed(resources.load_pin(), home, asked, env, world=world(gpu=gpu))
    return trainer_.lock if trainer_ else None


def test_nothing_is_found_in_an_empty_home(tmp_path: Path) -> None:
    assert found(tmp_path / "none", "auto", {}) is None


def test_a_cpu_trainer_is_not_taken_for_a_gpu(tmp_path: Path) -> None:
    pretend(tmp_path, "cpu")
    assert found(tmp_path, "auto", {}) == "cpu"
    assert found(tmp_path, "auto", {}, gpu=True) is None
    assert found(tmp_path, "cuda", {}) is None


def test_the_cuda_trainer_serves_both(tmp_path: Path) -> None:
    pretend(tmp_path, "cuda")
    assert found(tmp_path, "auto", {}) == "cuda"
    assert found(tmp_path, "auto", {}, gpu=True) == "cuda"
    assert found(tmp_path, "cpu", {}) is None


def test_of_both_the_fitting_one_is_found(tmp_path: Path) -> None:
    pretend(tmp_path, "cuda")
    pretend(tmp_path, "cpu")
    assert found(tmp_path, "auto", {}) == "cpu"
    assert found(tmp_path, "auto", {}, gpu=True) == "cuda"
    seen = trainer.collect_status(resources.load_pin(), tmp_path, "cpu", {}, world=world())
    assert [item.lock for item in seen.installed] == ["cuda", "cpu"]
    assert seen.trainer
    assert (seen.trainer.lock, seen.commit, seen.python) == ("cpu", resources.load_pin().commit, VERSION)


@pytest.mark.parametrize("lost", ["python", "checkout"])
def test_a_trainer_that_lost_a_part_is_none(tmp_path: Path, lost: str) -> None:
    folder = pretend(tmp_path, "cpu")
    path = venv.interpreter_path(folder / "venv") if lost == "python" else folder / "sd-scripts" / "train_network.py"
    path.unlink()
    assert found(tmp_path, "auto", {}) is None


def a_trainer(folder: Path) -> trainer.Trainer:
    (folder / "sd-scripts").mkdir(parents=True)
    return trainer.Trainer("pin", folder / "sd-scripts", Path("python"), None, "cuda", None, {})


def gpu(monkeypatch: pytest.MonkeyPatch, *gpus: Gpu) -> None:
    def facts(env: Mapping[str, str]) -> MachineFacts:
        return MachineFacts(system="Linux", cpus=1, memory_bytes=1, gpus=gpus)

    monkeypatch.setattr(machine, "detect_machine", facts)


def answers(monkeypatch: pytest.MonkeyPatch, *said: str) -> list[tuple[str, ...]]:
    """Stand in for the trainer's Python; returns the list of the commands it was given."""
    asked: list[tuple[str, ...]] = []
    waiting = list(said)

    def capture(argv: list[str], **kwargs: object) -> CommandOutput:
        asked.append(tuple(argv))
        return CommandOutput(tuple(argv), 1, waiting.pop(0), "")

    monkeypatch.setattr(attention, "capture_output", capture)
    return asked


CARD = Gpu(name="A", memory_mib=1, driver="1")


def test_without_a_gpu_attention_is_not_tried(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gpu(monkeypatch)
    asked = answers(monkeypatch)
    probe = trainer.probe_attention(a_trainer(tmp_path), "no", {})
    assert (probe.xformers, probe.reason) == (False, "xformers needs an NVIDIA GPU, and this machine has none")
    assert asked == []


def test_attention_is_tried_once_per_card_and_precision(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gpu(monkeypatch, CARD)
    yes, no = 'noise\n{"xformers": true, "reason": "ran"}\n', '{"xformers": false, "reason": "no kernel"}'
    asked = answers(monkeypatch, yes, no, yes)
    one = a_trainer(tmp_path)
    assert [trainer.probe_attention(one, precision, {}).xformers for precision in ("bf16", "no", "bf16", "no")] == [
        True,
        False,
        True,
        False,
    ]
    assert [command[-1] for command in asked] == ["bf16", "no"]
    gpu(monkeypatch, CARD.model_copy(update={"driver": "2"}))
    assert trainer.probe_attention(one, "no", {}).xformers


def test_a_probe_that_crashes_is_no_and_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gpu(monkeypatch, CARD)
    asked = answers(monkeypatch, "Segmentation fault\n", "")
    one = a_trainer(tmp_path)
    assert trainer.probe_attention(one, "fp16", {}).reason == "the xformers test exited with code 1"
    assert not trainer.probe_attention(one, "fp16", {}).xformers
    assert len(asked) == 2


def test_a_package_that_is_there_but_does_not_work_is_not_one_to_install() -> None:
    broken = venv.HealthReport({}, (literal("import cv2: ImportError: libGL.so.1: cannot open shared object file"),))
    error = broken.refusal(Path("theirs"))
    assert error.message.startswith("theirs cannot train: import cv2: ImportError: libGL")
    assert error.hint == "use --python to choose the Python that runs sd-scripts"


def test_what_every_training_needs_is_in_sd_scripts_own_requirements() -> None:
    """So that --sd-scripts takes every installation made by sd-scripts' own instructions (its requirements.txt)."""
    pin = resources.load_pin()
    assert {"torch", "cv2", "safetensors.torch", "voluptuous"} <= set(pin.modules)
    optional = {"lycoris.kohya", "dadaptation", "prodigyopt", "lion_pytorch", "prodigyplus"}
    assert optional.isdisjoint(pin.modules)
    assert optional <= set(pin.cpu.modules) <= set(pin.cuda.modules)


def test_the_users_python_is_looked_for_on_the_path_given(tmp_path: Path) -> None:
    program = tmp_path / "bin" / "python-of-mine"
    program.parent.mkdir()
    program.touch(0o755)
    assert venv.find_checkout_python(tmp_path, Path("python-of-mine"), {"PATH": str(program.parent)}) == program
    with pytest.raises(SetupError, match="is not a program"):
        venv.find_checkout_python(tmp_path, Path("python-of-mine"), {"PATH": str(tmp_path)})


@pytest.mark.parametrize("name", ["venv", ".venv"])
def test_the_users_python_is_that_of_the_checkouts_venv(tmp_path: Path, name: str) -> None:
    with pytest.raises(SetupError, match="has no venv"):
        venv.find_checkout_python(tmp_path, None, {})
    python = venv.interpreter_path(tmp_path / name)
    python.parent.mkdir(parents=True)
    python.touch()
    assert venv.find_checkout_python(tmp_path, None, {}) == python
