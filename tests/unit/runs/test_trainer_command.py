"""Nothing of the user's machine leaks into a training unseen, and no secret into its record."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from lorabake.errors import MachineError
from lorabake.runs.command import (
    ACCELERATE_CONFIG,
    CPU_PROCESSES_FILE,
    DETERMINISTIC_FILE,
    recorded_env,
    rehearsal_argv,
    trainer_env,
    training_argv,
)
from lorabake.runs.variables import UNRECORDED
from lorabake_schemas.plan import LaunchPlan

PYTHON, SCRIPT = Path("/t/env/bin/python"), Path("/t/sd-scripts/train_network.py")
TAIL = (str(SCRIPT), "--config_file", "train.toml", "--dataset_config", "dataset.toml")


def flags(launch: LaunchPlan) -> tuple[str, ...]:
    argv = training_argv(PYTHON, SCRIPT, launch)
    assert argv[:3] == (str(PYTHON), "-m", "accelerate.commands.launch")
    assert argv[-5:] == TAIL
    return argv[3:-5]


def test_every_value_is_given() -> None:
    assert flags(LaunchPlan(num_cpu_threads_per_process=4)) == (
        "--config_file", "accelerate.yaml", "--num_processes", "1", "--num_machines", "1", "--mixed_precision", "no",
        "--dynamo_backend", "no", "--num_cpu_threads_per_process", "4",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("launch", "more"),
    [
        (LaunchPlan(cpu=True), ("--cpu",)),
        (LaunchPlan(cpu=True, gpu_ids="0"), ("--cpu",)),
        (LaunchPlan(gpu_ids="1"), ()),
        (LaunchPlan(cpu=True, num_processes=2), ("--multi_gpu", "--main_process_port", "29500", CPU_PROCESSES_FILE)),
        (LaunchPlan(num_processes=2), ("--multi_gpu", "--main_process_port", "29500")),
        (LaunchPlan(main_process_port=29501), ()),
        (
            LaunchPlan(num_processes=2, gpu_ids="0,1", main_process_port=29501),
            ("--multi_gpu", "--main_process_port", "29501"),
        ),
    ],
)
def test_devices_and_processes(launch: LaunchPlan, more: tuple[str, ...]) -> None:
    assert flags(launch)[12:] == more
    assert flags(launch)[3] == str(launch.num_processes)


def test_accelerates_own_file_asks_for_nothing() -> None:
    assert b"distributed_type: 'NO'" in ACCELERATE_CONFIG  # unquoted, YAML reads it as false


def test_the_rehearsal_runs_in_this_python_and_knows_the_processes() -> None:
    argv = rehearsal_argv(LaunchPlan(num_processes=2), "sdxl")
    assert argv[:4] == (sys.executable, "-P", "-m", "lorabake.jobs.rehearsal")
    assert argv[4:] == (*TAIL[1:], "--num_processes", "2", "--family", "sdxl")


LEAKS = {
    "ACCELERATE_GRADIENT_ACCUMULATION_STEPS": "4", "ACCELERATE_MIXED_PRECISION": "bf16", "PYTHONHOME": "/x",
    "VIRTUAL_ENV": "/v", "GIT_DIR": "/repo/.git", "TQDM_DISABLE": "1",
    "FORCE_COLOR": "1", "LINES": "24", "LOCAL_RANK": "1", "RANK": "1", "WORLD_SIZE": "2", "MASTER_PORT": "1",
    "OMPI_COMM_WORLD_SIZE": "2", "OMP_NUM_THREADS": "64",
}  # fmt: skip
KEPT = {
    "HOME": "/h", "HF_TOKEN": "hf_x", "WANDB_API_KEY": "w", "LD_PRELOAD": "/usr/lib/libvgpu.so", "HTTPS_PROXY": "p",
    "CUDA_VISIBLE_DEVICES": "1", "HF_HOME": "/hf",
}  # fmt: skip


def test_what_leaks_is_dropped_and_what_a_machine_needs_is_kept() -> None:
    base = LEAKS | KEPT | {"PATH": "/bin"}
    env = trainer_env(base, python=PYTHON, checkout=SCRIPT.parent)
    assert not set(LEAKS) & set(env)
    assert {name: env[name] for name in KEPT} == KEPT
    assert env["PATH"] == "/t/env/bin:/bin"
    assert env["GIT_CEILING_DIRECTORIES"] == "/t"
    assert env["PYTHONUNBUFFERED"] == env["PYTHONUTF8"] == "1"
    assert "PYTHONDONTWRITEBYTECODE" not in env
    assert env["TOKENIZERS_PARALLELISM"] == "false"
    assert int(env["COLUMNS"]) >= 160
    assert "HF_HUB_OFFLINE" not in env
    assert base == LEAKS | KEPT | {"PATH": "/bin"}


def test_imports_come_from_sd_scripts_and_the_packages_alone() -> None:
    env = trainer_env({"PYTHONPATH": "/mine", "PYTHONSAFEPATH": ""}, python=PYTHON, checkout=SCRIPT.parent)
    assert env["PYTHONPATH"] == "/t/sd-scripts"
    assert env["PYTHONSAFEPATH"] == "1"
    assert "PYTHONPATH" not in trainer_env({"PYTHONPATH": "/mine"}, python=PYTHON)
    assert trainer_env({}, python=PYTHON, complete=True)["PYTHONDONTWRITEBYTECODE"] == "1"


def test_offline_cpu_and_an_empty_base() -> None:
    env = trainer_env({}, python=PYTHON, launch=LaunchPlan(cpu=True), offline=True)
    assert env["HF_HUB_OFFLINE"] == "1"
    assert env["CUDA_VISIBLE_DEVICES"] == ""
    assert env["PATH"] == "/t/env/bin"
    assert "GIT_CEILING_DIRECTORIES" not in env


@pytest.mark.parametrize(
    ("visible", "gpu_ids", "cpu", "given"),
    [
        (None, None, False, None),
        (None, "1", False, "1"),
        ("2,5", None, False, "2,5"),
        ("2,5", "all", False, "2,5"),
        ("2,5", "1", False, "5"),
        ("2,5", "1,0", False, "5,2"),
        ("GPU-aa, MIG-bb", "1", False, "MIG-bb"),
        ("2,5", "0", True, ""),
    ],
)
def test_what_a_scheduler_has_chosen_is_only_counted(
    visible: str | None, gpu_ids: str | None, given: str | None, *, cpu: bool
) -> None:
    base = {} if visible is None else {"CUDA_VISIBLE_DEVICES": visible}
    env = trainer_env(base, python=PYTHON, launch=LaunchPlan(gpu_ids=gpu_ids, cpu=cpu))
    assert env.get("CUDA_VISIBLE_DEVICES") == given


@pytest.mark.parametrize("visible", ["5", ""])
def test_a_gpu_that_the_scheduler_hides_is_not_taken(visible: str) -> None:
    with pytest.raises(MachineError):
        trainer_env({"CUDA_VISIBLE_DEVICES": visible}, python=PYTHON, launch=LaunchPlan(gpu_ids="1"))


def test_the_record_holds_what_matters_and_no_secret() -> None:
    env = trainer_env(KEPT | {"NCCL_AUTH_TOKEN": "s", "PYTORCH_CUDA_ALLOC_CONF": "x", "PATH": "/b"}, python=PYTHON)
    recorded = recorded_env(env)
    assert list(recorded) == sorted(recorded)
    assert recorded["LD_PRELOAD"] == "/usr/lib/libvgpu.so"
    assert recorded["PYTORCH_CUDA_ALLOC_CONF"] == "x"
    assert recorded["TOKENIZERS_PARALLELISM"] == "false"
    for name in ("HF_TOKEN", "WANDB_API_KEY", "NCCL_AUTH_TOKEN", "HTTPS_PROXY", "HOME", "PATH"):
        assert name not in recorded


@pytest.mark.parametrize(
    ("name", "value", "recorded"),
    [
        ("CUDA_VISIBLE_DEVICES", "1", "1"),
        ("PYTORCH_CUDA_ALLOC_CONF", "expandable_segments:True", "expandable_segments:True"),
        ("TORCHINDUCTOR_CACHE_DIR", "https://host/a@b", "https://host/a@b"),
        ("TORCH_HOME", "https://me:word@host/x", UNRECORDED),
        ("HF_HOME", "s3://bucket/x?X-Amz-Signature=0a", UNRECORDED),
        ("TORCH_HUB_MINE", "me:word", UNRECORDED),
        ("PYTORCH_OF_MINE", "1", UNRECORDED),
        ("CUDA_MINE", "1", UNRECORDED),
        ("NCCL_MINE", "1", UNRECORDED),
        ("MKL_MINE", "1", UNRECORDED),
        ("TORCH_HUB_CREDS", "me:word", None),
        ("CUDA_KEY", "k", None),
        ("MINE", "1", None),
    ],
)
def test_only_known_variables_are_recorded_with_their_values(name: str, value: str, recorded: str | None) -> None:
    assert recorded_env({name: value}).get(name) == recorded
    assert value == recorded or value not in str(recorded_env({name: value}))


def test_a_deterministic_run_starts_our_script_first() -> None:
    plain = training_argv(PYTHON, SCRIPT, LaunchPlan(), ("--x",))
    argv = training_argv(PYTHON, SCRIPT, LaunchPlan(deterministic=True), ("--x",))
    at = argv.index(str(SCRIPT))
    assert argv[at - 1] == DETERMINISTIC_FILE
    assert argv[: at - 1] + argv[at:] == plain


ROUNDING = {
    "MKL_NUM_THREADS": "7", "MKL_CBWR": "COMPATIBLE", "OMP_SCHEDULE": "dynamic", "KMP_AFFINITY": "none",
    "ONEDNN_MAX_CPU_ISA": "SSE41", "NVIDIA_TF32_OVERRIDE": "0", "TORCH_ALLOW_TF32_CUBLAS_OVERRIDE": "1",
}  # fmt: skip


def test_what_changes_rounding_is_recorded_and_does_not_reach_a_deterministic_run() -> None:
    plain = trainer_env(ROUNDING | KEPT, python=PYTHON)
    assert ROUNDING.items() <= plain.items()
    assert ROUNDING.items() <= recorded_env(plain).items()
    env = trainer_env(ROUNDING | KEPT, python=PYTHON, launch=LaunchPlan(deterministic=True))
    assert {name for name in ROUNDING if name in env} == {"MKL_CBWR"}
    assert env["MKL_CBWR"] == "AUTO"
    assert {name: env[name] for name in KEPT} == KEPT
    assert recorded_env(env)["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"
