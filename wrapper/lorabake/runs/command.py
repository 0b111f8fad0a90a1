"""The command line and the environment of a training: nothing of the user's machine leaks in unseen. Pure."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

from lorabake.errors import MachineError
from lorabake.lora.metadata import training_comment_flag
from lorabake.runs import variables
from lorabake.runs.seat import MAX_PORT
from lorabake.util.environment import make_child_env
from lorabake_schemas.families.registry import DEFAULT_FAMILY
from lorabake_schemas.messages import msg, nmsg

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from lorabake_schemas.machine import Family
    from lorabake_schemas.plan import LaunchPlan, Plan
    from lorabake_schemas.seat import Seat

# accelerate reads a default_config.yaml of the user's whenever it is given no --config_file (accelerate 1.6.0
# commands/launch.py:1016), and then takes from it what no flag can turn off: DeepSpeed, FSDP, several GPUs
# (launch.py:1028-1047) and every nested table (launch.py:1062-1071). Flags alone do not keep it out; a file of our
# own does. `distributed_type` is the one key it insists on (commands/config/config_args.py:108).
ACCELERATE_FILE = "accelerate.yaml"
ACCELERATE_CONFIG = b"""# Keeps accelerate from reading the user's own default configuration; the flags say the rest.
compute_environment: LOCAL_MACHINE
distributed_type: 'NO'
mixed_precision: 'no'
use_cpu: false
debug: false
"""
VISIBLE_GPUS = "CUDA_VISIBLE_DEVICES"
CONFIG_FLAGS = ("--config_file", "train.toml", "--dataset_config", "dataset.toml")

# What would silently change a training or its output. PYTHON*: a path or a switch of the user's
# (PYTHONSTARTUP, PYTHONHOME). GIT_*: a commit hook's repository would be recorded as
# sd-scripts' commit (TU:3302). LINES together with COLUMNS makes tqdm draw bars as wide as the screen. The last row
# makes accelerate believe that it is one of several processes (accelerate 1.6.0 state.py).
DROPPED_VARIABLES = (
    "ACCELERATE_", "PYTHON", "VIRTUAL_ENV", "GIT_", "TQDM_", "FORCE_COLOR", "TTY_", "LINES",
    "TORCHELASTIC_", "OMPI_", "PMI_", "MV2_", "RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "GROUP_RANK",
    "MASTER_ADDR", "MASTER_PORT", "OMP_NUM_THREADS",
)  # fmt: skip

# The scripts that come before the trainer's own in a deterministic run, and in several processes on the CPU; they are
# in the run folder.
DETERMINISTIC_FILE = "deterministic.py"
CPU_PROCESSES_FILE = "cpu_processes.py"
DEFAULT_PORT = 29500  # of several processes (accelerate 1.6.0 utils/launch.py:203)
# What changes how numbers are added up or rounded, beyond what PyTorch's own switch sees.
ARITHMETIC_VARIABLES = (
    "MKL_", "OMP_", "GOMP_", "KMP_", "ONEDNN_", "DNNL_", "CUBLAS_", "CUDNN_", "NVIDIA_TF32_OVERRIDE", "TORCH_ALLOW_",
)  # fmt: skip
NUMERIC_VARIABLES = (*ARITHMETIC_VARIABLES, "NCCL_", "PYTORCH_", "TORCH", "XFORMERS_")
# Where a sum is shared among threads, MKL splits it differently each time unless it is set to
# one way (MKL_CBWR, for a fixed number of threads: MKL_DYNAMIC, OMP_DYNAMIC). cuBLAS of CUDA 10.2 to 11 needs a
# separate workspace for the same (docs.nvidia.com/cuda/cublas, results reproducibility); later ones do not mind.
DETERMINISTIC_VARIABLES = {
    "MKL_CBWR": "AUTO",
    "MKL_DYNAMIC": "FALSE",
    "OMP_DYNAMIC": "FALSE",
    "CUBLAS_WORKSPACE_CONFIG": ":4096:8",
}


def training_argv(
    python: Path, script: Path, launch: LaunchPlan, flags: Sequence[str] = (), seat: Seat | None = None
) -> tuple[str, ...]:
    """accelerate's launcher with every value given, from the run folder. GPUs are chosen by trainer_env, not here.

    ``flags`` are for the script and for this start only. They override the compiled files (TU:4760-4761 parses the
    command line into a namespace that the file has filled), so the files are the same whenever the same is trained.
    ``seat`` is this machine's among several, whose processes launch.num_processes counts together. The
    run folder and the scripts' own folders are not on Python's path; trainer_env sets it.
    """
    several = launch.num_processes > 1  # accelerate refuses --cpu beside --multi_gpu; trainer_env hides the GPUs
    return (
        str(python), "-m", "accelerate.commands.launch",
        "--config_file", ACCELERATE_FILE,
        "--num_processes", str(launch.num_processes),
        "--num_machines", str(seat.machines if seat is not None else 1),
        *(("--machine_rank", str(seat.rank), "--main_process_ip", seat.address) if seat is not None else ()),
        "--mixed_precision", "no",  # without effect: train.toml decides (TU:5494-5502)
        "--dynamo_backend", "no",
        "--num_cpu_threads_per_process", str(launch.num_cpu_threads_per_process),
        *(("--multi_gpu",) if several else ("--cpu",) if launch.cpu else ()),
        *(("--main_process_port", str(process_port(launch, seat))) if several else ()),
        *first_scripts(launch), str(script), *CONFIG_FLAGS, *flags,
    )  # fmt: skip


def first_scripts(launch: LaunchPlan) -> tuple[str, ...]:
    """lorabake's own scripts that start the trainer's, in their order; each is a file of the run folder."""
    return (
        *((DETERMINISTIC_FILE,) if launch.deterministic else ()),
        *((CPU_PROCESSES_FILE,) if launch.cpu and launch.num_processes > 1 else ()),
    )


def process_port(launch: LaunchPlan, seat: Seat | None = None) -> int:
    """Where the processes of a training meet."""
    return (seat.port if seat is not None else None) or launch.main_process_port or DEFAULT_PORT


def meeting_port(port: int) -> int:
    """Where the machines of a training meet, next to the port of its processes."""
    return port + 1 if port < MAX_PORT else port - 1


def planned_argv(plan: Plan, digest: str, python: Path, checkout: Path, seat: Seat | None = None) -> tuple[str, ...]:
    """The command of a run's first start: it follows from its plan, its digest, the trainer and the machine's seat."""
    given = plan.value("training_comment")
    comment = training_comment_flag(given if isinstance(given, str) else None, digest)
    return training_argv(python, checkout / plan.script, plan.launch, (to_utf8_argument(comment),), seat)


def rehearsal_argv(launch: LaunchPlan, family: Family = DEFAULT_FAMILY) -> tuple[str, ...]:
    """The stand-in, in lorabake's own Python; it divides the work as accelerate's processes would.

    ``family`` decides which leftover latent caches count; the compiled files do not contain it.
    """
    return (
        sys.executable,
        "-P",
        "-m",
        "lorabake.jobs.rehearsal",
        *CONFIG_FLAGS,
        "--num_processes",
        str(launch.num_processes),
        "--family",
        family,
    )


def trainer_env(
    base: Mapping[str, str],
    *,
    python: Path,
    checkout: Path | None = None,
    launch: LaunchPlan | None = None,
    offline: bool = False,
    complete: bool = False,
) -> dict[str, str]:
    """The environment of the trainer: ``base`` without unwanted variables, plus those for readable, repeatable runs.

    ``launch`` decides which GPUs are visible, and whether the run is to be repeatable; None for the stand-in, which
    uses no GPU. Raises MachineError if gpu_ids names a GPU that ``base`` hides.

    ``offline`` means that every file is on this machine. ``checkout`` is sd-scripts' folder, above which git must not
    look for a repository. Columns are wide so that rich does not break lines.

    The launcher, the trainer and the workers of its data loader import only from ``checkout`` (it contains `library`
    and `networks`, and sd-scripts expects its own folder to be first), from Python's own library and from the installed
    packages. By default Python would put the current folder (-m) or the folder of a started script first, both of which
    are the run folder. A Python before 3.11 does not know PYTHONSAFEPATH and still does. ``complete`` means that the
    trainer is lorabake's own, whose bytecode is compiled at installation; nothing is added to it.
    """
    deterministic = launch is not None and launch.deterministic
    env = make_child_env(
        base,
        drop=(*DROPPED_VARIABLES, *ARITHMETIC_VARIABLES) if deterministic else DROPPED_VARIABLES,
        COLUMNS="200",
        PATH=":".join([str(python.parent), *filter(None, [base.get("PATH")])]),
        PYTHONHASHSEED="0",
        PYTHONIOENCODING="utf-8",
        PYTHONSAFEPATH="1",
        PYTHONUNBUFFERED="1",
        PYTHONUTF8="1",
        TOKENIZERS_PARALLELISM="false",
    )
    if checkout is not None:
        env |= {"GIT_CEILING_DIRECTORIES": str(checkout.parent), "PYTHONPATH": str(checkout)}
    env |= {"PYTHONDONTWRITEBYTECODE": "1"} if complete else {}
    env |= {"HF_HUB_OFFLINE": "1"} if offline else {}
    if launch is not None and (visible := select_gpus(launch, base.get(VISIBLE_GPUS))) is not None:
        env[VISIBLE_GPUS] = visible
    return env | (DETERMINISTIC_VARIABLES if deterministic else {})


def select_gpus(launch: LaunchPlan, visible: str | None) -> str | None:
    """CUDA_VISIBLE_DEVICES of the trainer: launch.gpu_ids counts the GPUs that ``visible`` leaves, so that what a
    scheduler has chosen is never overridden. None leaves all that there are.

    Raises MachineError if it names one more than there are.
    """
    if launch.cpu:
        return ""
    if visible is None or launch.gpu_ids in {None, "all"}:
        return visible if launch.gpu_ids in {None, "all"} else launch.gpu_ids
    there = [each.strip() for each in visible.split(",")]
    chosen = [int(index) for index in (launch.gpu_ids or "").split(",")]
    if max(chosen) >= len(there):
        said = msg(
            "launch.gpu_ids names GPU {n}, but CUDA_VISIBLE_DEVICES = {visible} leaves only {count}",
            n=max(chosen),
            visible=visible,
            count=nmsg(len(there), "{n} GPU", "{n} GPUs"),
        )
        raise MachineError(said, msg("write gpu_ids by their place in CUDA_VISIBLE_DEVICES, starting with 0"))
    return ",".join(there[index] for index in chosen)


def to_utf8_argument(argument: str) -> str:
    """An argument as the trainer has to get it: it takes UTF-8 (PYTHONUTF8), whatever the locale here."""
    return os.fsdecode(argument.encode())


def recorded_env(env: Mapping[str, str]) -> dict[str, str]:
    """The part of the environment that a training may depend on, sorted; nothing that may be a secret.

    LD_PRELOAD and LD_LIBRARY_PATH are kept, since drivers of shared GPUs and allocators come that way, and recorded.
    """
    known = ((name, variables.recordable_value(name, value)) for name, value in sorted(env.items()))
    return {name: value for name, value in known if value is not None}


def numeric_env(env: Mapping[str, str], *, deterministic: bool) -> dict[str, str]:
    """What of an environment changes the numbers of a training that is started in it."""
    seen = recorded_env(
        make_child_env(env, drop=(*DROPPED_VARIABLES, *ARITHMETIC_VARIABLES) if deterministic else DROPPED_VARIABLES)
    )
    return {
        name: value
        for name, value in seen.items()
        if name.startswith(NUMERIC_VARIABLES) and name not in DETERMINISTIC_VARIABLES
    }
