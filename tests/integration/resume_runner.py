"""Runs launch() and resume() on the stand-in that saves states; as a separate process if it will be killed.

As a script: ``resume_runner.py run|resume RUN_FOLDER [SETTINGS_AS_TOML]``.
"""

from __future__ import annotations

import sys
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import tomli_w
from launch_runner import ignore, plan

import fake_sd_scripts
from lorabake.errors import LorabakeError
from lorabake.jobs.resume.continue_run import ResumeRequest, continue_training
from lorabake.jobs.supervisor import launch_run
from lorabake.runs.command import trainer_env
from lorabake.runs.folder import RunPaths
from lorabake.runs.launch_request import LaunchRequest, Provenance
from lorabake.runs.record import read_record
from lorabake.util.environment import read_environment
from lorabake_schemas.machine import MachineFacts
from lorabake_schemas.plan import LaunchPlan
from lorabake_schemas.record import Inputs, TrainerRecord

if TYPE_CHECKING:
    from lorabake_schemas.record import Record

FAKE = Path(fake_sd_scripts.__file__)
SETTINGS: dict[str, Any] = {
    "output_name": "x", "output_dir": "output", "batches": 5, "max_train_steps": 15, "save_state": True,
    "save_every_n_steps": 2, "save_every_n_epochs": 1, "seed": 7,
}  # fmt: skip


def env() -> dict[str, str]:
    return trainer_env(read_environment(), python=Path(sys.executable), launch=LaunchPlan(cpu=True))


def run(root: Path, checkout: Path | None = None, **changes: Any) -> Record:
    """A new run with the stand-in; its record has ``checkout`` as the trainer's folder."""
    settings = {key: value for key, value in {**SETTINGS, **changes}.items() if value is not None}
    files = {
        "recipe.toml": b"name = 'x'\n",
        "train.toml": tomli_w.dumps(settings).encode(),
        "dataset.toml": b"",
        "prompts.txt": b"",
    }
    flags = ("--config_file", "train.toml", "--dataset_config", "dataset.toml")
    request = LaunchRequest(
        root=root,
        files=files,
        plan=plan(settings["max_train_steps"]),
        argv=(sys.executable, str(FAKE), *flags),
        env=env(),
        trainer=TrainerRecord(
            kind="own", python=sys.executable, checkout=str(checkout) if checkout is not None else None
        ),
        machine=MachineFacts(system="test", cpus=1, memory_bytes=1),
        provenance=Provenance(Inputs(inputs=()), "d" * 64),
        recipe_place="../recipe.toml",
        interrupt_s=1.0,
        terminate_s=1.0,
    )
    return launch_run(request, ignore)


def go_on(root: Path) -> Record:
    """The same run, resumed."""
    paths = RunPaths(root)
    record = read_record(paths.record)
    first = record.parts[0].argv if record.parts else record.argv
    return continue_training(ResumeRequest(paths, tuple(first), env(), {}, interrupt_s=1.0, terminate_s=1.0), ignore)


def main() -> int:
    what, root, *settings = sys.argv[1:]
    try:
        if what == "run":
            run(Path(root), **(tomllib.loads(settings[0]) if settings else {}))
        else:
            go_on(Path(root))
    except LorabakeError as error:
        sys.stderr.write(f"{error.message}\n{error.hint or ''}\n")
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
