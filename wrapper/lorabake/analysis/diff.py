"""Two runs or recipes compared: settings, forecast, data, trainer, machine and outcome, and only what differs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import zip_longest
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from lorabake.errors import MachineError
from lorabake.inputs.input_changes import changed_inputs
from lorabake.inputs.manifest import DATASET_ROLES, ManifestSpec, hash_inputs
from lorabake.runs.activity import END_BYTES, read_recent_activity
from lorabake.runs.event_kinds import encode_number
from lorabake.runs.index import FoundRun, run_path
from lorabake.runs.record import read_inputs, read_plan
from lorabake.util.changes import compare_listings
from lorabake.util.files import os_errors_as_messages
from lorabake_schemas.check_report import (
    DURATION_NAME,
    CountDifference,
    DataDifference,
    PlanDifference,
    SettingDifference,
    SideValue,
    ValueDifference,
)
from lorabake_schemas.messages import Message, msg
from lorabake_schemas.plan import Forecast, Origin, Plan, Setting, Source
from lorabake_schemas.run_table import RunColumn, RunTable, TableRow

if TYPE_CHECKING:
    from lorabake.analysis.check import CheckResult
    from lorabake.util.hashing import FileHasher
    from lorabake_schemas.machine import MachineFacts
    from lorabake_schemas.record import Input, InputKey, InputRole, Record

FORECAST_COUNTS = (
    "steps", "epochs", "steps_per_epoch", "batches_per_epoch", "train_samples", "reg_samples", "warmup_steps",
)  # fmt: skip
FORECAST_TIMES = ("seconds_low", "seconds_high")
TRAINER_FILES = "files of sd-scripts"
# Variables that lorabake sets for the trainer (runs/command.py); those of a deterministic run follow from its launch.
LORABAKE_VARIABLES = (
    "COLUMNS", "CUBLAS_WORKSPACE_CONFIG", "GIT_CEILING_DIRECTORIES", "HF_HUB_OFFLINE", "MKL_CBWR", "MKL_DYNAMIC",
    "OMP_DYNAMIC", "PYTHON", "TOKENIZERS_PARALLELISM",
)  # fmt: skip
# Names of values; packages and files use their real names.
VALUE_LABELS: Mapping[str, Message] = MappingProxyType(
    {
        TRAINER_FILES: msg("sd-scripts files"),
        "packages": msg("packages"),
        "system": msg("system"),
        "memory": msg("memory"),
        "driver": msg("driver"),
        "status": msg("status"),
        "verdict": msg("verdict"),
        "steps": msg("steps"),
        DURATION_NAME: msg("duration"),
    }
)
Values = Mapping[str, str | None]


@dataclass(frozen=True, slots=True)
class DiffOperand:
    """One of them. ``loss`` is a run's last average. ``inputs`` are None where they are not known; a rehearsal's are
    images and captions only.
    """

    name: str
    plan: Plan
    inputs: tuple[Input, ...] | None = None
    record: Record | None = None
    loss: float | str | None = None

    @property
    def models_known(self) -> bool:
        return self.record is None or not self.record.rehearsal


def is_recipe_path(what: str, here: Path) -> bool:
    """Whether that is a recipe to check; anything else is a run. The copy of a recipe in a run folder means its run:
    its paths are not relative to that folder.
    """
    path = here / what
    with os_errors_as_messages(what):
        is_file = path.is_file()
    return is_file and path.suffix == ".toml" and run_path(path) is None


def operand_from_recipe(examination: CheckResult, env: Mapping[str, str], fingerprints: FileHasher) -> DiffOperand:
    """Everything known about a recipe. Raises RecipeError for one with errors."""
    recipe, plan = examination.planned()
    root = examination.loaded.folder / "run"  # only names are compared: any folder will do
    asked = ManifestSpec(recipe, plan, examination.dataset, examination.loaded.folder, root, env)
    return DiffOperand(str(examination.loaded.path), plan, hash_inputs(asked, fingerprints).inputs)


def operand_from_run(run: FoundRun) -> DiffOperand:
    """All that is known of a run. Raises MachineError when its plan cannot be read."""
    plan = read_plan(run.paths)
    if plan is None:
        said = msg("{run} has no valid {file}", run=run.name, file=run.paths.plan.name)
        raise MachineError(said, msg("its settings cannot be compared"))
    step = read_recent_activity(run.paths, END_BYTES).step
    loss = None if step is None else encode_number(step.loss_average)
    return DiffOperand(run.name, plan, read_inputs(run.paths), run.record, loss)


def diff_plans(here: Plan, there: Plan, names: tuple[str, str]) -> PlanDifference:
    """What differs in ``here`` from ``there``; ``names`` are their names."""
    return PlanDifference(
        here=names[0],
        there=names[1],
        settings=tuple(_diff_settings(here, there)),
        forecast=tuple(_diff_forecasts(here.forecast, there.forecast)),
    )


def tabulate_runs(operands: Sequence[DiffOperand]) -> RunTable:
    """The settings in which several runs or recipes differ: each is compared with the first one."""
    first, *others = operands
    changes = [{(each.table, each.option): each for each in _diff_settings(first.plan, one.plan)} for one in others]
    rows: list[TableRow] = []
    for table, option in dict.fromkeys(key for change in changes for key in change):
        found = [change.get((table, option)) for change in changes]
        here = next(each.here for each in found if each is not None)
        sides = (here, *(here if each is None else each.there for each in found))
        rows.append(
            TableRow(table=table, option=option, values=tuple(None if side is None else side.value for side in sides))
        )
    return RunTable(runs=tuple(map(_make_column, operands)), rows=tuple(rows))


def _make_column(one: DiffOperand) -> RunColumn:
    record = one.record
    outcome = record.outcome if record is not None else None
    return RunColumn(
        name=one.name,
        status=record.status if record is not None else None,
        steps=one.plan.forecast.steps if record is None else outcome.steps if outcome is not None else None,
        loss=one.loss,
        seconds=_run_seconds(record.started, record.ended) if record is not None and record.ended is not None else None,
        digest=record.digest if record is not None else None,
    )


def _diff_settings(here: Plan, there: Plan) -> Iterator[SettingDifference]:
    """Concepts are compared by position, so that another token is one difference and not a dozen."""
    yield from _diff_table("train", here.train, there.train)
    several = max(len(here.datasets), len(there.datasets)) > 1
    for number, blocks in enumerate(zip_longest(here.datasets, there.datasets)):
        ours, theirs = (block.settings if block else () for block in blocks)
        yield from _diff_table(f"dataset#{number + 1}" if several else "dataset", ours, theirs)
    for number, blocks in enumerate(zip_longest(here.datasets, there.datasets)):
        for reg in (False, True):
            sides = ([part for part in (block.subsets if block else ()) if part.is_reg is reg] for block in blocks)
            for one, other in zip_longest(*sides):
                title = f"{(one or other).title}, dataset#{number + 1}" if several else (one or other).title
                yield from _diff_table(title, one.settings if one else (), other.settings if other else ())
    yield from _diff_table("launch", _launch_settings(here), _launch_settings(there))
    yield from _diff_table("samples", _prompt_settings(here), _prompt_settings(there))


def _launch_settings(plan: Plan) -> list[Setting]:
    """accelerate's flags. A plan does not keep whether the recipe or the machine decided them."""
    source = Source(origin=Origin.LORABAKE, why=msg("[launch] in the recipe, or the machine"))
    told = plan.launch.model_dump().items()
    return [Setting(option=name, value=value, source=source) for name, value in told if value is not None]


def _prompt_settings(plan: Plan) -> list[Setting]:
    return [Setting(option="prompts", value=plan.prompts, source=Source(origin=Origin.RECIPE))] if plan.prompts else []


def _diff_table(name: str, here: Sequence[Setting], there: Sequence[Setting]) -> Iterator[SettingDifference]:
    ours, theirs = _values_by_option(here), _values_by_option(there)
    for option in dict.fromkeys((*ours, *theirs)):
        one, other = ours.get(option), theirs.get(option)
        if one is None or other is None or one.value != other.value or type(one.value) is not type(other.value):
            yield SettingDifference(table=name, option=option, here=one, there=other)


def _values_by_option(settings: Sequence[Setting]) -> Mapping[str, SideValue]:
    return {setting.option: SideValue(value=setting.value, source=setting.source) for setting in settings}


def _diff_forecasts(here: Forecast, there: Forecast) -> Iterator[CountDifference]:
    ours, theirs = dict(_iter_forecast_numbers(here)), dict(_iter_forecast_numbers(there))
    for key in dict.fromkeys((*ours, *theirs)):
        one, other = ours.get(key), theirs.get(key)
        if one != other:
            yield CountDifference(name=key[0], subject=key[1], here=one, there=other)


def _iter_forecast_numbers(counted: Forecast) -> Iterator[tuple[tuple[str, str], float]]:
    """Every number of a forecast by its name and its subject."""
    for name in FORECAST_COUNTS:
        yield (name, ""), getattr(counted, name)
    yield ("files", ""), len(counted.saves)
    if counted.file_size:
        yield ("file_bytes", ""), counted.file_size.tensor_bytes + counted.file_size.header_bytes
    if counted.timing:
        yield from zip(((name, "") for name in FORECAST_TIMES), (counted.timing.low, counted.timing.high), strict=True)
    for share in counted.shares:
        yield ("samples_per_epoch", share.title), share.samples_per_epoch
        yield ("exposures", share.title), share.exposures
    samples = Counter[str]()
    for bucket in counted.buckets:  # several resolutions may have buckets of one size
        samples[f"{bucket.width}x{bucket.height}"] += bucket.samples
    yield from ((("bucket_samples", size), count) for size, count in samples.items())


def diff_runs(here: DiffOperand, there: DiffOperand) -> PlanDifference:
    """Everything that can be compared of the two, and only what differs."""
    found = diff_plans(here.plan, there.plan, (here.name, there.name))
    if here.record is not None or there.record is not None:  # estimated from the runs that were known at the time
        counts = tuple(count for count in found.forecast if count.name not in FORECAST_TIMES)
        found = found.model_copy(update={"forecast": counts})
    parts: dict[str, object] = {"data": _diff_data(here, there)}
    if here.record is not None and there.record is not None:
        parts |= _diff_records(here.record, there.record)
        parts["outcome"] = tuple(_diff_values(_outcome_values(here.record), _outcome_values(there.record)))
    return found.model_copy(update=parts)


def _diff_records(here: Record, there: Record) -> dict[str, object]:
    trained = not (here.rehearsal or there.rehearsal)
    ours, theirs = (machine_values(one.machine) | _variable_values(one) for one in (here, there))
    return {
        "trainer": tuple(_diff_trainers(here, there)) if trained else None,
        "machine": tuple(_diff_values(ours, theirs)),
        "digests": (here.digest, there.digest),
    }


def _diff_trainers(here: Record, there: Record) -> Iterator[ValueDifference]:
    """Another commit has other files, which are not listed."""
    found = _diff_values(_trainer_values(here), _trainer_values(there))
    other_commit = here.trainer.commit != there.trainer.commit
    return (each for each in found if not (other_commit and each.name == TRAINER_FILES))


def _diff_values(here: Values, there: Values) -> Iterator[ValueDifference]:
    ours, theirs = ({name: value for name, value in one.items() if value is not None} for one in (here, there))
    for change in compare_listings(ours, theirs):
        yield ValueDifference(name=change.name, here=change.was, there=change.now)


def _trainer_values(record: Record) -> Values:
    """What a trainer is, and each of its packages."""
    trainer = record.trainer
    return {
        "sd-scripts": trainer.commit,
        TRAINER_FILES: trainer.tree,
        "Python": trainer.python_version,
        "packages": trainer.lock,
        **trainer.packages,
        "lorabake": record.lorabake,
    }


def _variable_values(record: Record) -> dict[str, str | None]:
    """The user's own of the environment variables that were recorded."""
    return {
        name: value or None for name, value in record.environment.items() if not name.startswith(LORABAKE_VARIABLES)
    }


def machine_values(machine: MachineFacts) -> dict[str, str | None]:
    drivers = dict.fromkeys(gpu.driver for gpu in machine.gpus if gpu.driver)
    return {
        "system": f"{machine.system} {machine.release}".strip(),
        "CPU": machine.processor or machine.architecture or None,
        "CPUs": str(machine.cpus),
        "memory": f"{machine.memory_bytes / 2**30:.0f} GiB",
        "GPU": ", ".join(gpu.name for gpu in machine.gpus) or None,
        "driver": ", ".join(drivers) or None,
    }


def _outcome_values(record: Record) -> Values:
    """How it ended, and the SHA-256 of each file that it made, without the states."""
    outcome = record.outcome
    steps = outcome.steps if outcome is not None else None
    files = [file for file in outcome.outputs if file.name.count("/") <= 1] if outcome is not None else []
    return {
        "status": record.status,
        "verdict": outcome.code if outcome is not None else None,
        "steps": None if steps is None else str(steps),
        DURATION_NAME: None if record.ended is None else f"{_run_seconds(record.started, record.ended):.0f} s",
        **{file.name: file.sha256 for file in files},
    }


def _run_seconds(started: str, ended: str) -> float:
    """From its start to its end; of a run that was resumed, the pauses are in it."""
    return (datetime.fromisoformat(ended) - datetime.fromisoformat(started)).total_seconds()


def _diff_data(here: DiffOperand, there: DiffOperand) -> tuple[DataDifference, ...] | None:
    """Files by name, folder against folder; None where one side did not keep them."""
    if here.inputs is None or there.inputs is None:
        return None
    roles = None if here.models_known and there.models_known else DATASET_ROLES
    ours, theirs = _inputs_by_key(here.inputs, roles), _inputs_by_key(there.inputs, roles)
    found: list[DataDifference] = []
    for key in dict.fromkeys((*ours, *theirs)):
        found += _diff_input(ours.get(key), theirs.get(key))
    return tuple(found)


def _inputs_by_key(inputs: Iterable[Input], roles: Sequence[InputRole] | None) -> dict[InputKey, Input]:
    return {each.key: each for each in inputs if roles is None or each.role in roles}


def _diff_input(here: Input | None, there: Input | None) -> Iterator[DataDifference]:
    """One folder or model. A model is one file under any name."""
    some = here or there
    if some is None:
        return
    if here is None or there is None or _is_one_file(here) or _is_one_file(there):
        ours, theirs = (each.digest().sha256 if each else None for each in (here, there))
        if ours != theirs:
            yield _data_difference(some, some.name, there.name if there else None, (ours, theirs))
        return
    known = {file.name: file.sha256 for file in here.files}
    for _, change in changed_inputs((here,), (there,)):
        if change.kind == "renamed":
            digest = known[change.name]
            yield _data_difference(here, change.name, change.now, (digest, digest))
        else:
            yield _data_difference(here, change.name, None, (change.was, change.now))


def _is_one_file(each: Input) -> bool:
    return each.kind == "file" or (each.kind != "folder" and not each.files)


def _data_difference(
    of: Input, name: str, name_there: str | None, digests: tuple[str | None, str | None]
) -> DataDifference:
    other = name_there if name_there != name else None
    return DataDifference(
        what=of.role, index=of.index, where=of.name, name=name, name_there=other, here=digests[0], there=digests[1]
    )
