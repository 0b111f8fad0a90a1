"""Questions about commits of sd-scripts other than the pin: what they understand, and in what two of them differ."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import get_args

from lorabake.errors import SetupError
from lorabake.runs.causes.diagnose import RunFacts, diagnose, failure_from_words
from lorabake.trainer import git_tree, options, venv
from lorabake.trainer.install import Trainer
from lorabake.util import resources
from lorabake.util.paths import lorabake_home
from lorabake_schemas.families.registry import list_scripts
from lorabake_schemas.messages import Message, msg
from lorabake_schemas.options import DatasetLevel, DatasetOption, Option, OptionSnapshot
from lorabake_schemas.pin import Pin
from lorabake_schemas.plan import Script
from lorabake_schemas.signatures import Signatures
from lorabake_schemas.versions import CommitDifference, OptionChange

Options = Mapping[str, Option] | Mapping[str, DatasetOption]


def pin_at_commit(commit: str | None) -> Pin:
    """lorabake's own pin, with another commit if one is named: the same url, packages and Pythons."""
    pin = resources.load_pin()
    return pin if commit is None else pin.model_copy(update={"commit": commit})


def load_commit_options(commit: str | None, env: Mapping[str, str]) -> OptionSnapshot:
    """What the pin understands, or an installed commit. Raises SetupError when that is not installed."""
    return options.require_options(pin_at_commit(commit), lorabake_home(env), env)


def load_run_options(
    commit: str | None, sd_scripts: Path | None, python: Path | None, env: Mapping[str, str]
) -> OptionSnapshot:
    """What a run is checked against before its trainer is started: the options of the pin or of ``commit``, and the
    signatures of the user's own sd-scripts and Python if they are named. Raises SetupError for a missing commit."""
    found = load_commit_options(commit, env)
    if sd_scripts is None:
        return found
    try:
        checkout, chosen = venv.find_user_checkout(sd_scripts, python, env)
    except SetupError:  # which the run reports
        return found.model_copy(update={"signatures": Signatures()})
    return with_own_signatures(found, chosen, checkout, env)


def with_own_signatures(
    snapshot: OptionSnapshot, python: Path, checkout: Path, env: Mapping[str, str]
) -> OptionSnapshot:
    """The snapshot with what the packages of this Python take; nothing is known of them if they cannot be read."""
    try:
        with TemporaryDirectory() as folder:
            signatures = options.read_signatures(python, checkout, Path(folder), env)
    except OSError:
        signatures = Signatures()
    return snapshot.model_copy(update={"signatures": signatures})


def read_user_options(
    trainer: Trainer, env: Mapping[str, str], tell: Callable[[Message], None], script: Script | None = None
) -> OptionSnapshot | None:
    """What the user's own sd-scripts understands; None if that is the unmodified pin, or the pin's trainer.

    One that does not answer only causes a warning: it may still train. Raises SetupError if ``script`` is to be started
    and lacks something that it imports.
    """
    if trainer.kind == "pin" or (trainer.commit == resources.load_pin().commit and _is_unmodified(trainer)):
        return None
    name = trainer.commit or str(trainer.checkout)
    name += "" if name != resources.load_pin().commit else " (changed)"  # else it would count as the pin
    try:
        with TemporaryDirectory() as folder:
            return options.extract_options(trainer.python, trainer.checkout, Path(folder) / "options", name, env)
    except (SetupError, OSError) as error:
        if script is not None and isinstance(error, options.ScriptImportError) and script in error.failed:
            raise _describe_import_failure(error.failed[script]) from error
        tell(msg("warning: cannot read the options of this sd-scripts, so they are not checked: {why}", why=str(error)))
        return None


def _describe_import_failure(exception: str) -> SetupError:
    found = diagnose(failure_from_words(exception, ()), RunFacts(own_trainer=True))
    if found is None:
        return SetupError(msg("sd-scripts cannot start: {why}", why=exception))
    return SetupError(msg("{problem} ({words})", problem=found.message, words=exception), found.cure)


def _is_unmodified(trainer: Trainer) -> bool:
    """Whether each file is equal to the pin's. Compared here, since `git status` runs what the repository's settings
    name.
    """
    blobs = git_tree.parse_blobs(resources.read_vendor_text(resources.PIN_FILE_LIST))
    return not git_tree.find_changed_blobs(trainer.checkout, git_tree.filter_sparse(blobs, resources.load_pin().sparse))


def commit_warning(commit: str | None) -> Message | None:
    """The warning about a commit other than the pin."""
    pin = resources.load_pin().commit
    if commit is None or commit == pin:
        return None
    return msg(
        "warning: options are checked against sd-scripts {commit}, but rules and forecasts are "
        "those of the pinned commit {pin}",
        commit=commit[:12],
        pin=pin[:12],
    )


def compare_commits(
    commit: str | None, against: str, env: Mapping[str, str], tell: Callable[[Message], None]
) -> CommitDifference:
    """The differences of ``against`` from ``commit`` (the pin if None); neither has to be installed.

    Raises SetupError if one of them cannot be fetched, or if no trainer is installed to read it with.
    """
    here, there = (
        options.fetch_options(pin_at_commit(name), lorabake_home(env), env, tell) for name in (commit, against)
    )
    return diff_options(here, there)


def diff_options(here: OptionSnapshot, there: OptionSnapshot) -> CommitDifference:
    """From ``here`` to ``there``, what both know first."""
    return CommitDifference(commit=here.commit, against=there.commit, changes=tuple(_iter_changes(here, there)))


def _iter_changes(here: OptionSnapshot, there: OptionSnapshot) -> Iterator[OptionChange]:
    for script in list_scripts():
        older, newer = ({option.name: option for option in each.of(script)} for each in (here, there))
        yield from _diff_options_of(script, older, newer)
    levels: tuple[DatasetLevel, ...] = get_args(DatasetLevel)
    for level in levels:
        yield from _diff_options_of(level, here.dataset.at(level), there.dataset.at(level))


def _diff_options_of(place: str, older: Options, newer: Options) -> Iterator[OptionChange]:
    for name in {**older, **newer}:
        if repr(older.get(name)) != repr(newer.get(name)):  # 1, 1.0 and true are different defaults
            yield OptionChange(place=place, name=name, before=older.get(name), after=newer.get(name))
