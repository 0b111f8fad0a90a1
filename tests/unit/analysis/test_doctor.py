"""doctor: each check by itself, with programs that stand for nvidia-smi and git; and the diagnosis of a run."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path

import jsonschema
import pytest

from ended_runs import record
from fake_nvml import FIRST, FakeNvml
from lorabake.analysis import doctor
from lorabake.commands.json_schema import generate_schema
from lorabake.commands.output.doctor import format_doctor
from lorabake.commands.output.layout import TextLayout
from lorabake.runs.finalize import KILLED_CODE
from lorabake.runs.folder import RunPaths
from lorabake.runs.index import FoundRun
from lorabake.runs.record import write_record
from lorabake.util import machine, network, resources
from lorabake_schemas.doctor import DoctorReport, HealthCheck, HealthLevel
from lorabake_schemas.messages import Message, msg

SMI = """#!/bin/sh
case "$1" in
  -L) echo "GPU 0: made up" ;;
  --query-gpu*) echo "0, GPU-1, NVIDIA Made Up 4096, {memory}, 550.54" ;;
  --query-compute*) echo "77, /usr/bin/blender, 3000"; echo "78, [N/A], [N/A]" ;;
esac
"""
MISMATCH = "#!/bin/sh\necho 'Failed to initialize NVML: Driver/library version mismatch'\nexit 18\n"


def env_with(folder: Path, **programs: str) -> Mapping[str, str]:
    """An environment whose only programs are these, and those of the system."""
    place = folder / "bin"
    place.mkdir()
    for name, text in programs.items():
        file = place / name.replace("_", "-")
        file.write_text(text)
        file.chmod(0o755)
    return {"PATH": f"{place}{os.pathsep}/usr/bin{os.pathsep}/bin", "HOME": str(folder)}


def levels(env: Mapping[str, str]) -> list[tuple[str, str]]:
    checks = doctor.check_gpus(machine.detect_machine(env), env)
    return [(check.topic, check.level) for check in checks]


def test_a_gpu_and_who_else_uses_it(tmp_path: Path) -> None:
    env = env_with(tmp_path, nvidia_smi=SMI.format(memory=12288))
    assert levels(env) == [("gpu", "ok"), ("gpu-memory", "warning")]
    (_, other) = doctor.check_gpus(machine.detect_machine(env), env)
    assert "blender" in other.message


@pytest.mark.parametrize(("used", "level"), [(500, "ok"), (3000, "warning")])
def test_the_memory_in_use_is_what_the_driver_measures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, used: int, level: str
) -> None:
    """Also that of programs that draw, which nvidia-smi does not list as computing."""
    nvml = FakeNvml()
    nvml.used_mib = used
    monkeypatch.setitem(sys.modules, "pynvml", nvml)
    env = env_with(tmp_path, nvidia_smi=SMI.format(memory=12288).replace("3000", "30").replace("GPU-1", FIRST.uuid))
    assert levels(env) == [("gpu", "ok"), ("gpu-memory", level)]


def test_the_mirror_is_named_without_its_password(tmp_path: Path) -> None:
    script = "#!/bin/sh\n[ $2 = --get-url ] && echo https://name:secret@mirror/x && exit\nexit 0\n"
    env = {**env_with(tmp_path, git=script), "HF_HUB_OFFLINE": "1"}
    (pin, _) = doctor.check_network(resources.load_pin(), env)
    assert "https://mirror/x" in pin.message
    assert "secret" not in pin.message


def test_a_small_gpu_is_a_warning_with_what_to_set(tmp_path: Path) -> None:
    env = env_with(tmp_path, nvidia_smi=SMI.format(memory=4096))
    assert levels(env)[0] == ("gpu", "warning")


def test_a_broken_driver_is_a_problem_and_no_gpu_is_not(tmp_path: Path) -> None:
    assert levels(env_with(tmp_path, nvidia_smi=MISMATCH)) == [("gpu", "problem")]
    assert [level for _, level in levels({"PATH": str(tmp_path)})] == ["warning"]


def test_a_gpu_that_is_hidden_is_said(tmp_path: Path) -> None:
    env = {**env_with(tmp_path, nvidia_smi=SMI.format(memory=12288)), "CUDA_VISIBLE_DEVICES": ""}
    (check,) = doctor.check_gpus(machine.detect_machine(env), env)
    assert "CUDA_VISIBLE_DEVICES" in (check.hint or "")


def test_names_of_programs_may_contain_commas() -> None:
    (found, *_) = machine.parse_gpu_programs("7, /opt/a, b/c.exe, 2048\n8, x, 10\nnonsense\n")
    assert (found.number, found.name, found.memory_mib) == (7, "c.exe", 2048)


@pytest.mark.parametrize(
    ("env", "proxy"),
    [
        ({}, None),
        ({"HTTPS_PROXY": "http://user:secret@proxy:3128"}, "proxy:3128"),
        ({"https_proxy": "proxy:3128", "NO_PROXY": "localhost,.co"}, None),
        ({"ALL_PROXY": "socks5://proxy:1080"}, "proxy:1080"),
        ({"HTTP_PROXY": "proxy:3128"}, None),
    ],
)
def test_the_proxy_is_named_without_its_password(env: dict[str, str], proxy: str | None) -> None:
    assert network.proxy_of("https://huggingface.co", env) == proxy


def test_a_closed_port_is_said_and_no_traceback() -> None:
    assert network.unreachable_reason("http://127.0.0.1:9", {}) is not None


BAD_ADDRESSES = [
    "http://[bad", "http://name:secret@[bad", "http://proxy:port", "http://proxy:99999", "http://proxy:0", "http://",
    "http://name:sec/ret@proxy:3128", "[", "http://pro\axy:1", "http://[::1]x", "http://\u2100.org:1",
]  # fmt: skip


@pytest.mark.parametrize("name", ["https_proxy", "HTTPS_PROXY", "ALL_PROXY"])
@pytest.mark.parametrize("address", BAD_ADDRESSES)
def test_a_proxy_whose_address_is_not_one_is_named(name: str, address: str) -> None:
    env = {name: address}
    assert network.proxy_of("https://huggingface.co", env) is None
    said = network.unreachable_reason("https://huggingface.co", env)
    assert isinstance(said, Message)
    assert said.filled["name"] == name
    assert "sec" not in said
    assert said.isprintable()


@pytest.mark.parametrize("address", [*BAD_ADDRESSES, "ftp://name:secret@mirror", "mirror", "mirror:80"])
def test_a_hub_whose_address_is_not_one_is_a_problem(tmp_path: Path, address: str) -> None:
    from lorabake.util import resources

    env = {**env_with(tmp_path, git="#!/bin/sh\nexit 0\n"), "HF_ENDPOINT": address}
    (_, hub) = doctor.check_network(resources.load_pin(), env)
    assert (hub.topic, hub.level) == ("hub", "problem")
    assert "HF_ENDPOINT" in hub.message
    assert "sec" not in hub.message


def test_a_malformed_proxy_is_a_warning(tmp_path: Path) -> None:
    from lorabake.util import resources

    env = {**env_with(tmp_path, git="#!/bin/sh\nexit 0\n"), "HTTPS_PROXY": "http://[bad"}
    (_, hub) = doctor.check_network(resources.load_pin(), env)
    assert (hub.topic, hub.level) == ("hub", "warning")
    assert "HTTPS_PROXY" in hub.message


def test_downloads_that_are_turned_off_are_not_tried(tmp_path: Path) -> None:
    from lorabake.util import resources

    env = {**env_with(tmp_path, git="#!/bin/sh\nexit 0\n"), "HF_HUB_OFFLINE": "1"}
    checks = [*doctor.check_network(resources.load_pin(), env)]
    assert [(check.topic, check.level) for check in checks] == [("pin", "ok"), ("hub", "ok")]


def test_a_trainer_that_is_not_installed_is_no_problem(tmp_path: Path) -> None:
    from lorabake.util import resources

    env = env_with(tmp_path)
    (check,) = doctor.check_trainer(resources.load_pin(), tmp_path / "home", env, machine.detect_machine(env))
    assert (check.topic, check.level) == ("trainer", "warning")


def found_run(root: Path, outcome: dict[str, object], status: str = "failed") -> FoundRun:
    paths = RunPaths(root)
    paths.log.parent.mkdir(parents=True)
    paths.log.write_text("first\nTraceback (most recent call last):\nKeyError: 'x'\n")
    ended = record(status, outcome)
    write_record(paths, ended)
    return FoundRun(paths, ended, "lamp-001")


def test_a_known_cause_comes_with_its_lines(tmp_path: Path) -> None:
    line = {"line": 2, "text": "OSError: [Errno 28] No space left on device"}
    fields: dict[str, object] = {"code": "disk-full", "message": "the disk is full", "hint": "free", "evidence": [line]}
    found = doctor.diagnose_run(found_run(tmp_path / "r", fields))
    assert (found.known, found.code, found.last_lines, found.command) == (True, "disk-full", (), ())
    report = DoctorReport(checks=(), diagnosis=found)
    assert "log line 2: OSError" in format_doctor(report, TextLayout(), as_json=False)
    jsonschema.validate(report.model_dump(mode="json"), json.loads(generate_schema("doctor")))


def test_an_unknown_failure_is_shown_as_it_is(tmp_path: Path) -> None:
    run = found_run(tmp_path / "r", {"code": "crashed", "message": "the trainer failed: KeyError: 'x'"})
    found = doctor.diagnose_run(run)
    assert not found.known
    assert [(line.line, line.text) for line in found.last_lines][-1] == (3, "KeyError: 'x'")
    assert found.command == tuple(run.record.argv)


def test_a_run_that_nobody_ended_has_died(tmp_path: Path) -> None:
    found = doctor.diagnose_run(found_run(tmp_path / "r", {"code": KILLED_CODE, "message": "x"}, "interrupted"))
    assert found.state == "died"
    assert (
        "died" in format_doctor(DoctorReport(checks=(), diagnosis=found), TextLayout(), as_json=False).splitlines()[0]
    )


def test_a_run_without_an_end_is_no_failure(tmp_path: Path) -> None:
    run = found_run(tmp_path / "r", {"code": "x", "message": "y"})
    going = FoundRun(run.paths, record("started", None), "lamp-001")
    assert doctor.diagnose_run(going).code is None


@pytest.mark.parametrize(("level", "healthy"), [("ok", True), ("warning", True), ("problem", False)])
def test_only_a_problem_keeps_a_machine_from_training(level: HealthLevel, healthy: bool) -> None:
    report = DoctorReport(checks=(HealthCheck(topic="disk", level=level, message=msg("{n}", n=1)),))
    assert report.healthy is healthy
