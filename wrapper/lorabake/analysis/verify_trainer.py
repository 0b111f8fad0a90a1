"""A run's trainer, machine and environment compared with those of today. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from lorabake.analysis.diff import VALUE_LABELS, machine_values
from lorabake.analysis.differences import describe_file_change, describe_value_change
from lorabake.runs.command import DETERMINISTIC_FILE, numeric_env
from lorabake.trainer.environment import CHECKOUT_PREFIX, CurrentTrainer
from lorabake.trainer.manifest import shorten_names
from lorabake.util.changes import Change, compare_listings
from lorabake_schemas.machine import MachineFacts
from lorabake_schemas.messages import Message, escape_undecodable, literal, msg
from lorabake_schemas.record import Record, TrainerRecord
from lorabake_schemas.verification import VerifyDifference

DIGITS_SHOWN = 12  # of a commit
PYTHON = "python"
REMARKED = ("system", "CPU", "GPU", "driver")  # of a machine: what may change the last digits of a training done again


def changed_trainer(then: TrainerRecord, found: CurrentTrainer) -> Iterator[VerifyDifference]:
    """Commit, files, Python and packages; a rehearsal's stand-in is lorabake itself."""
    now = found.trainer
    if then.kind == "rehearsal":
        return
    if now is None:
        missing = describe_file_change("trainer", Change("sd-scripts", "missing", then.commit))
        yield missing.model_copy(update={"message": _missing_trainer_message(then)})
        return
    for change in compare_listings(_trainer_values(then, then), _trainer_values(now, then)):
        difference = describe_value_change("trainer", change, msg("the trainer"))
        if change.name == PYTHON and change.kind == "missing":
            said = msg("the trainer's Python does not start: {python}", python=now.python)
            difference = difference.model_copy(update={"message": said})
        yield difference
    if then.commit == now.commit and then.tree != now.tree:
        edited = [f"{CHECKOUT_PREFIX}{name}" for name in found.edited]
        files = shorten_names(edited) if edited else msg("sd-scripts files")
        yield describe_file_change("trainer", Change("sd-scripts", "changed", then.tree, now.tree), files)
    if found.patched:
        yield describe_file_change("trainer", Change("packages", "changed"), shorten_names(found.patched))


def _missing_trainer_message(then: TrainerRecord) -> Message:
    """lorabake's own can be installed again, the user's own has to be found."""
    if then.kind == "own":
        return msg("the sd-scripts of this run was not found in {folder}", folder=then.checkout or "")
    commit = (then.commit or "")[:DIGITS_SHOWN]
    return msg("the trainer of this run is not installed (sd-scripts {commit})", commit=commit)


def _trainer_values(of: TrainerRecord, then: TrainerRecord) -> dict[str, str]:
    """What a trainer is, named as in ``then`` where it trains the same: another patch of Python, or files that are the
    same though git does not report their commit. Of a Python that does not start the packages are not known."""
    same_files = of.commit is None and of.tree == then.tree
    values = {"sd-scripts": (then.commit if same_files else of.commit) or "unknown"}
    if of.python_version:
        same_python = _minor_version(of) == _minor_version(then)
        values[PYTHON] = (then.python_version if same_python else None) or of.python_version
    return values | (of.packages if of.python_version else then.packages)


def _minor_version(trainer: TrainerRecord) -> list[str]:
    return (trainer.python_version or "").split(".")[:2]


def trainer_remarks(then: TrainerRecord, now: TrainerRecord | None) -> Iterator[Message]:
    """What does not affect the result and is worth knowing."""
    if now is None or then.kind == "rehearsal":
        return
    was, here = then.python_version, now.python_version
    if was and here and was != here and _minor_version(then) == _minor_version(now):
        yield msg("the trainer's Python changed from {was} to {now}, which does not affect training", was=was, now=here)
    if then.checkout != now.checkout:
        yield msg("the trainer is now in {folder}", folder=now.checkout or "")


def machine_remarks(then: MachineFacts, now: MachineFacts) -> Iterator[Message]:
    was, here = machine_values(then), machine_values(now)
    return _describe_values_here({name: was[name] for name in REMARKED}, {name: here[name] for name in REMARKED})


def variable_remarks(record: Record, env: Mapping[str, str]) -> Iterator[Message]:
    """Environment variables that change how numbers are added up or rounded."""
    if record.rehearsal:
        return iter(())
    deterministic = DETERMINISTIC_FILE in record.argv
    here = {name: escape_undecodable(value) for name, value in numeric_env(env, deterministic=deterministic).items()}
    return _describe_values_here(numeric_env(record.environment, deterministic=deterministic), here)


def _describe_values_here(then: Mapping[str, str | None], now: Mapping[str, str | None]) -> Iterator[Message]:
    known = ({name: value for name, value in values.items() if value is not None} for values in (then, now))
    for change in compare_listings(*known):
        yield msg(
            "{what}: {now} on this machine, {was} in the run",
            what=VALUE_LABELS.get(change.name) or literal(change.name),
            now=msg("none") if change.now is None else literal(change.now),
            was=msg("none") if change.was is None else literal(change.was),
        )
