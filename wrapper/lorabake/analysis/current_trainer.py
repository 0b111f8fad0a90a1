"""The trainer of a run as it is now: in lorabake's own store, or the one that this command line named.

A run folder may come from a stranger: the Python and the checkout that its record names are never started or looked at.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lorabake.errors import SetupError
from lorabake.trainer import environment, git
from lorabake.trainer.install import Trainer, list_trainers
from lorabake.util.hashing import FileHasher
from lorabake.util.paths import lorabake_home
from lorabake_schemas.messages import Message, escape_undecodable, msg

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from lorabake.trainer.environment import FileDigester
    from lorabake_schemas.record import TrainerRecord


@dataclass(frozen=True, slots=True)
class CurrentTrainer:
    """``trainer`` is None when it is missing, was a rehearsal's stand-in, or is not checked, for which ``unchecked``
    has the reason; ``edited`` names the files of its checkout that differ from its commit, ``patched`` those of the
    packages of lorabake's own that differ from what was installed."""

    trainer: TrainerRecord | None = None
    edited: tuple[str, ...] = ()
    patched: tuple[str, ...] = ()
    unchecked: Message | None = None


def read_current_trainer(
    then: TrainerRecord,
    env: Mapping[str, str],
    digests: FileDigester | None = None,
    given: tuple[Path, Path] | None = None,
) -> CurrentTrainer:
    """Look at the trainer of a run. Starts its Python and git for a moment, changes nothing."""
    if then.kind == "rehearsal" or then.checkout is None:
        return CurrentTrainer()
    trainer = find_recorded_trainer(then, env, given)
    if trainer is None:
        return CurrentTrainer(unchecked=unnamed_trainer_message(then) if then.kind == "own" else None)
    kept = digests.store if isinstance(digests, FileHasher) else None
    found = environment.read_trainer_contents(trainer, env, digests, kept)
    damaged = found.changed if trainer.files_sha256 is not None else ()
    now = then.model_copy(
        update={
            "commit": trainer.commit,
            "checkout": escape_undecodable(str(trainer.checkout)),
            "python": escape_undecodable(str(trainer.python)),
            # one that was changed is not started, so its version is not known: it counts as the same
            "python_version": found.python_version or (then.python_version if damaged else ""),
            "clean": found.clean,
            "tree": found.tree,
            "packages": dict(found.packages),
        }
    )
    return CurrentTrainer(
        now, found.edited, tuple(name for name in damaged if not name.startswith(environment.CHECKOUT_PREFIX))
    )


def find_recorded_trainer(
    then: TrainerRecord, env: Mapping[str, str], given: tuple[Path, Path] | None = None
) -> Trainer | None:
    """``given``, a checkout and its Python from the command line, else the same trainer in the store; None for neither.

    The store's is the same when commit and lock are.
    """
    if given is not None:
        checkout, python = given
        commit = None
        with suppress(SetupError):  # no git on this machine: then the files tell
            commit = git.read_head(checkout, env)
        return Trainer("own", checkout, python, commit, None, None, {})
    if then.kind != "pin":
        return None
    wanted = (then.commit, then.lock, then.lock_sha256)
    every = list_trainers(lorabake_home(env))
    return next((each for each in every if (each.commit, each.lock, each.lock_sha256) == wanted), None)


def unnamed_trainer_message(then: TrainerRecord) -> Message:
    """Why the user's own sd-scripts is not looked at, and how to name it."""
    return msg(
        (
            "the trainer was not checked because lorabake did not install it; if it is yours, add "
            "--sd-scripts {checkout} --python {python}"
        ),
        checkout=then.checkout or "",
        python=then.python,
    )
