"""Two runs, or a run and a recipe, held beside each other: settings, data, trainer, machine, outcome. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from lorabake.analysis.diff import FORECAST_TIMES, diff_plans
from lorabake.inputs.input_changes import DATASET_ROLES, changed_inputs
from lorabake_schemas.check_report import DURATION_NAME, DataDifference, PlanDifference, ValueDifference
from lorabake_schemas.machine import MachineFacts
from lorabake_schemas.plan import Plan
from lorabake_schemas.record import Input, InputRole, Record

TRAINER_FILES = "files of sd-scripts"
# Variables that lorabake sets for the trainer (runs/command.py); those of a deterministic run follow from its launch.
LORABAKE_VARIABLES = (
    "COLUMNS", "CUBLAS_WORKSPACE_CONFIG", "GIT_CEILING_DIRECTORIES", "HF_HUB_OFFLINE", "MKL_CBWR", "MKL_DYNAMIC",
    "OMP_DYNAMIC", "PYTHON", "TOKENIZERS_PARALLELISM",
)  # fmt: skip
Values = Mapping[str, str | None]


@dataclass(frozen=True, slots=True)
class DiffOperand:
    """One of the two. ``inputs`` are None where they are not known; a rehearsal's hold pictures and captions only.

    ``seconds`` is how long a run took, None for one that has not ended. ``forecast_known`` is False for a run of an
    older lorabake, which kept its settings and no forecast.
    """

    name: str
    plan: Plan
    inputs: tuple[Input, ...] | None = None
    record: Record | None = None
    seconds: float | None = None
    forecast_known: bool = True

    @property
    def models_known(self) -> bool:
        return self.record is None or not self.record.rehearsal


def diff_runs(here: DiffOperand, there: DiffOperand) -> PlanDifference:
    """Everything that can be compared of the two, and only what differs."""
    found = diff_plans(here.plan, there.plan, (here.name, there.name))
    if not (here.forecast_known and there.forecast_known):
        found = found.model_copy(update={"forecast": ()})
    if here.record is not None or there.record is not None:  # estimated from the runs that were known at the time
        counts = tuple(count for count in found.forecast if count.name not in FORECAST_TIMES)
        found = found.model_copy(update={"forecast": counts})
    parts: dict[str, object] = {"data": _diff_data(here, there)}
    if here.record is not None and there.record is not None:
        parts |= _diff_records(here.record, there.record)
        parts["outcome"] = tuple(
            _diff_values(_outcome_values(here.record, here.seconds), _outcome_values(there.record, there.seconds))
        )
    return found.model_copy(update=parts)


def _diff_records(here: Record, there: Record) -> dict[str, object]:
    digests = (here.digest, there.digest)
    trained = not (here.rehearsal or there.rehearsal)
    return {
        "trainer": tuple(_diff_trainers(here, there)) if trained else None,
        "machine": tuple(
            _diff_values(
                _machine_values(here.machine) | _variable_values(here),
                _machine_values(there.machine) | _variable_values(there),
            )
        ),
        "digests": digests if None not in digests else None,
    }


def _diff_trainers(here: Record, there: Record) -> Iterator[ValueDifference]:
    """Another commit has other files: that goes without saying."""
    found = _diff_values(_trainer_values(here), _trainer_values(there))
    other_commit = here.trainer.commit != there.trainer.commit
    return (each for each in found if not (other_commit and each.name == TRAINER_FILES))


def _diff_values(here: Values, there: Values) -> Iterator[ValueDifference]:
    for name in dict.fromkeys((*here, *there)):
        if here.get(name) != there.get(name):
            yield ValueDifference(name=name, here=here.get(name), there=there.get(name))


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


def _machine_values(machine: MachineFacts) -> dict[str, str | None]:
    drivers = dict.fromkeys(gpu.driver for gpu in machine.gpus if gpu.driver)
    return {
        "system": f"{machine.system} {machine.release}".strip(),
        "CPU": machine.processor or machine.architecture or None,
        "CPUs": str(machine.cpus),
        "memory": f"{machine.memory_bytes / 2**30:.0f} GiB",
        "GPU": ", ".join(gpu.name for gpu in machine.gpus) or None,
        "driver": ", ".join(drivers) or None,
    }


def _outcome_values(record: Record, seconds: float | None) -> Values:
    """How it ended, and the SHA-256 of each file that it made, without the states beside them."""
    outcome = record.outcome
    steps = outcome.steps if outcome is not None else None
    files = [file for file in outcome.outputs if file.name.count("/") <= 1] if outcome is not None else []
    return {
        "status": record.status,
        "verdict": outcome.code if outcome is not None else None,
        "steps": None if steps is None else str(steps),
        DURATION_NAME: None if seconds is None else f"{seconds:.0f} s",
        **{file.name: file.sha256 for file in files},
    }


def _diff_data(here: DiffOperand, there: DiffOperand) -> tuple[DataDifference, ...] | None:
    """Files by name, folder against folder; None where one side did not keep them."""
    if here.inputs is None or there.inputs is None:
        return None
    roles = None if here.models_known and there.models_known else DATASET_ROLES
    ours, theirs = _inputs_by_key(here.inputs, roles), _inputs_by_key(there.inputs, roles)
    found: list[DataDifference] = []
    for place in dict.fromkeys((*ours, *theirs)):
        found += _diff_input(ours.get(place), theirs.get(place))
    return tuple(found)


def _inputs_by_key(inputs: Iterable[Input], roles: Sequence[InputRole] | None) -> dict[tuple[InputRole, int], Input]:
    return {(each.role, each.index): each for each in inputs if roles is None or each.role in roles}


def _diff_input(here: Input | None, there: Input | None) -> Iterator[DataDifference]:
    """One folder or model. A model is one file, whatever it is called."""
    some = here or there
    if some is None:
        return
    if here is None or there is None or _is_one_file(here) or _is_one_file(there):
        ours, theirs = (each.digest().sha256 if each else None for each in (here, there))
        if ours != theirs:
            yield _data_difference(some, some.name, there.name if there else None, (ours, theirs))
        return
    known = {file.name: file.sha256 for file in here.files}
    for change in changed_inputs((here,), (there,)):
        if change.change == "renamed":
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
