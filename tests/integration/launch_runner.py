"""Runs launch() on the fake trainer: imported by the launch tests, and a separate process in the kill tests.

As a script: ``launch_runner.py RUN_FOLDER FLAGS...``, with the flags of fake_trainer.py and ``--watch JSON``.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from lorabake.errors import LorabakeError
from lorabake.jobs.supervisor import launch_run
from lorabake.runs.command import trainer_env
from lorabake.runs.launch_request import LaunchRequest, Provenance
from lorabake.util.environment import read_environment
from lorabake_schemas.events import Stopping
from lorabake_schemas.machine import MachineFacts
from lorabake_schemas.plan import Forecast, LaunchPlan, Origin, Plan, Setting, Source, WatchPlan
from lorabake_schemas.record import Inputs, TrainerRecord

if TYPE_CHECKING:
    from typing import Literal

    from lorabake_schemas.events import ProgressEvent

FAKE = Path(__file__).with_name("fake_trainer.py")


def plan(steps: int, name: str = "x", watch: WatchPlan | None = None) -> Plan:
    """As little of a plan as a launch looks at."""
    counts = Forecast(
        train_samples=4, reg_samples=0, batches_per_epoch=4, steps_per_epoch=4, epochs=1, steps=steps, warmup_steps=0
    )
    values: dict[str, str | int] = {"output_name": name, "seed": 7}
    source = Source(origin=Origin.LORABAKE)
    settings = [Setting(option=option, value=value, source=source) for option, value in values.items()]
    return Plan(
        name=name, family="sd15", script="train_network.py", train=tuple(settings), datasets=(),
        forecast=counts, watch=watch or WatchPlan(),
    )  # fmt: skip


def request(
    root: Path,
    *flags: str,
    steps: int = 4,
    kind: Literal["pin", "own", "rehearsal"] = "own",
    name: str = "x",
    watch: WatchPlan | None = None,
) -> LaunchRequest:
    """The fake trainer as if it were sd-scripts, with a shutdown ladder that is quick where it has to be climbed."""
    python, patience = Path(sys.executable), 0.2 if "--ignore" in flags else 20.0
    return LaunchRequest(
        root=root,
        files={"recipe.toml": b"name = 'x'\n", "train.toml": b"", "dataset.toml": b"", "prompts.txt": b""},
        plan=plan(steps, name, watch),
        argv=(str(python), str(FAKE), "--steps", str(steps), *flags),
        env=trainer_env(read_environment(), python=python, launch=LaunchPlan(cpu=True)),
        trainer=TrainerRecord(kind=kind, python=str(python)),
        machine=MachineFacts(system="test", cpus=1, memory_bytes=1),
        provenance=Provenance(Inputs(inputs=()), "d" * 64),
        recipe_place="../recipe.toml",
        interrupt_s=patience,
        terminate_s=patience,
    )


def ignore(_event: ProgressEvent) -> None:
    """A watcher that looks away."""


def tell_stop(event: ProgressEvent) -> None:
    """A watcher that only reports when a stop was requested."""
    if isinstance(event, Stopping):
        sys.stderr.write(f"stopping: {event.signal}\n")


def main() -> int:
    root, *flags = sys.argv[1:]
    steps = int(flags[flags.index("--steps") + 1]) if "--steps" in flags else 4
    watch = WatchPlan()
    if "--watch" in flags:
        at = flags.index("--watch")
        watch = WatchPlan.model_validate_json(flags[at + 1])
        del flags[at : at + 2]
    try:
        launch_run(request(Path(root), *flags, steps=steps, watch=watch), tell_stop)
    except LorabakeError as error:
        sys.stderr.write(f"{error.message}\n")
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
