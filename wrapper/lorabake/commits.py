"""Questions about commits of sd-scripts other than the pin: what they understand, and in what two of them differ."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

from lorabake import resources
from lorabake.errors import SetupError
from lorabake.planning.option_difference import option_difference
from lorabake.trainer import git_tree, options, store
from lorabake.trainer.install import Trainer
from lorabake.trainer.options import not_installed
from lorabake_schemas.commits import CommitDifference
from lorabake_schemas.options import Snapshot
from lorabake_schemas.pin import Pin
from lorabake_schemas.words import Said, say


def at(commit: str | None) -> Pin:
    """lorabake's own pin, with another commit if one is named: the same url, packages and Pythons."""
    pin = resources.pin()
    return pin if commit is None else pin.model_copy(update={"commit": commit})


def snapshot(commit: str | None, env: Mapping[str, str]) -> Snapshot:
    """What the pin understands, or an installed commit. Raises SetupError when that is not installed."""
    return options.known(at(commit), store.home(env), env)


def own(trainer: Trainer, env: Mapping[str, str], tell: Callable[[Said], None]) -> Snapshot | None:
    """What the user's own sd-scripts understands; None where that is the pin as it was made, or the pin's trainer.

    One that does not answer is only warned of: it may still train.
    """
    if trainer.kind == "pin" or (trainer.commit == resources.pin().commit and _untouched(trainer)):
        return None
    name = trainer.commit or str(trainer.checkout)
    name += "" if name != resources.pin().commit else " (changed)"  # else it would count as the pin
    try:
        with TemporaryDirectory() as folder:
            return options.make(trainer.python, trainer.checkout, Path(folder) / "options", name, env)
    except (SetupError, OSError) as error:
        tell(say("warning: its options could not be read, so nobody checks them: {why}", why=str(error)))
        return None


def _untouched(trainer: Trainer) -> bool:
    """Whether each file is as in the pin: compared here, since `git status` runs what the repository's settings say."""
    blobs = git_tree.from_text(resources.vendor_text(resources.PIN_FILES))
    return not git_tree.changed(trainer.checkout, git_tree.checked_out(blobs, resources.pin().sparse))


def warning(commit: str | None) -> Said | None:
    """What to say to whoever uses another commit than the pin."""
    pin = resources.pin().commit
    if commit is None or commit == pin:
        return None
    return say(
        "warning: at sd-scripts {commit} the options are checked, but rules and forecasts are those of the pin, {pin}",
        commit=commit[:12],
        pin=pin[:12],
    )


def differ(commit: str | None, against: str, env: Mapping[str, str], tell: Callable[[Said], None]) -> CommitDifference:
    """In what ``against`` differs from ``commit`` (the pin when None); neither has to be installed.

    Raises SetupError when one of them cannot be fetched, or when no trainer is there to read it with.
    """
    here, there = (options.looked_up(at(name), store.home(env), env, tell) for name in (commit, against))
    return option_difference(here, there)


__all__ = ["at", "differ", "not_installed", "own", "snapshot", "warning"]
