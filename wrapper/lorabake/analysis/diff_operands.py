"""What is to be compared with something else: a run from its own folder, a recipe from what lies around it now."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from pydantic import TypeAdapter, ValidationError

from lorabake.analysis import evidence
from lorabake.analysis.run_diff import DiffOperand
from lorabake.errors import MachineError
from lorabake.inputs.manifest import ManifestSpec, hash_inputs
from lorabake.planning.compile import PATH_OPTIONS
from lorabake.runs.index import FoundRun, run_path
from lorabake.util.files import os_errors_as_messages, read_text
from lorabake_schemas.base import OptionValue
from lorabake_schemas.families.registry import find_family_of_run
from lorabake_schemas.messages import msg
from lorabake_schemas.plan import Forecast, LaunchPlan, Origin, Plan, Setting, Source, SubsetPlan

if TYPE_CHECKING:
    from lorabake.analysis.check import CheckResult
    from lorabake.util.hashing import FileHasher
    from lorabake_schemas.record import Record

_VALUE: TypeAdapter[Any] = TypeAdapter(OptionValue)
AS_COMPILED = Source(
    origin=Origin.LORABAKE, why=msg("from the compiled files")
)  # an older lorabake kept no plan, and so no sources


def is_recipe_path(what: str, here: Path) -> bool:
    """Whether that is a recipe to examine; any other is a run. The copy of a recipe in a run folder stands for its run:
    its paths do not count from there."""
    path = here / what
    with os_errors_as_messages(what):
        is_file = path.is_file()
    return is_file and path.suffix == ".toml" and run_path(path) is None


def operand_from_recipe(examination: CheckResult, env: Mapping[str, str], fingerprints: FileHasher) -> DiffOperand:
    """All that can be said of a recipe. Raises RecipeError for one with errors."""
    recipe, plan = examination.planned()
    root = examination.loaded.folder / "run"  # only names are compared: any folder will do
    asked = ManifestSpec(recipe, plan, examination.dataset, examination.loaded.folder, root, env)
    return DiffOperand(str(examination.loaded.path), plan, hash_inputs(asked, fingerprints).inputs)


def operand_from_run(run: FoundRun) -> DiffOperand:
    """All that can be said of a run. Raises MachineError when neither its plan nor its compiled files can be read."""
    listed = evidence.read_input_listing(run.paths, run.record)
    known = (*listed.inputs, *listed.doubtful) or None
    plan = evidence.read_plan(run.paths)
    if plan is not None:
        return DiffOperand(run.name, plan, known, run.record, _run_seconds(run.record))
    return DiffOperand(
        run.name, _plan_from_compiled(run), known, run.record, _run_seconds(run.record), forecast_known=False
    )


def _run_seconds(record: Record) -> float | None:
    """From its start to its end; of a run that was resumed, the pauses are in it."""
    if record.ended is None:
        return None
    return (datetime.fromisoformat(record.ended) - datetime.fromisoformat(record.started)).total_seconds()


def _plan_from_compiled(run: FoundRun) -> Plan:
    """The settings of a run whose plan was not kept, from what the trainer was given."""
    record = run.record
    try:
        train = tomllib.loads(read_text(run.paths.train))
        block = tomllib.loads(read_text(run.paths.dataset))["datasets"][0]
        return _build_plan(record, train, block, run.root)
    except (OSError, ValueError, LookupError, TypeError, AttributeError, ValidationError) as error:
        said = msg("cannot read the compiled files of {run}: {why}", run=run.name, why=str(error))
        raise MachineError(said, msg("its settings cannot be compared")) from error


def _build_plan(record: Record, train: dict[str, Any], block: dict[str, Any], root: Path) -> Plan:
    family = find_family_of_run(record.argv, train)
    counts = Forecast(
        train_samples=0,
        reg_samples=0,
        batches_per_epoch=0,
        steps_per_epoch=0,
        epochs=0,
        steps=record.planned_steps,
        warmup_steps=0,
    )
    subsets = cast("list[dict[str, Any]]", block.pop("subsets", []))
    return Plan(
        name=record.name,
        family=family.name,
        script=family.script,
        train=_make_settings(train, root),
        dataset=_make_settings(block, root),
        subsets=tuple(
            SubsetPlan(
                title=Path(str(each.get("image_dir", ""))).name,
                is_reg=bool(each.get("is_reg")),
                images=0,
                settings=_make_settings(each, root),
            )
            for each in subsets
        ),
        launch=_launch_from_argv(record),
        forecast=counts,
    )


def _launch_from_argv(record: Record) -> LaunchPlan:
    """accelerate's flags as they were given. A rehearsal has few of them: the rest follows from the machine, as
    planning.resolve.run has it."""
    flags = dict(pairwise(record.argv))
    on_cpu = record.machine.device == "cpu"
    port, threads = flags.get("--main_process_port"), str(record.machine.cpus if on_cpu else 1)
    return LaunchPlan(
        num_processes=int(flags.get("--num_processes", "1")),
        gpu_ids=flags.get("--gpu_ids"),
        num_cpu_threads_per_process=int(flags.get("--num_cpu_threads_per_process", threads)),
        main_process_port=int(port) if port else None,
        cpu=on_cpu if record.rehearsal else "--cpu" in record.argv,
    )


def _make_settings(table: Mapping[str, object], root: Path) -> tuple[Setting, ...]:
    return tuple(
        Setting(option=name, value=_setting_value(name, value, root), source=AS_COMPILED)
        for name, value in table.items()
    )


def _setting_value(option: str, value: object, root: Path) -> OptionValue:
    """As a recipe has it: paths count from the folder above the one that holds the runs, where it mostly lies."""
    if isinstance(value, str) and option in PATH_OPTIONS and value.startswith("."):
        return Path(os.path.relpath(os.path.normpath(root / value), root.parent.parent)).as_posix()
    plain = tuple(cast("list[object]", value)) if isinstance(value, list) else value
    checked: OptionValue = _VALUE.validate_python(plain)
    return checked
