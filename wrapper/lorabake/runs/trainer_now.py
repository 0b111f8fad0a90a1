"""The trainer of a run as it is now: where the run had it, or where the same one is installed today."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from lorabake import resources
from lorabake.errors import SetupError
from lorabake.reading.fingerprints import Fingerprints
from lorabake.reading.inputs import on_disk
from lorabake.trainer import contents, git, store, venv
from lorabake.trainer.install import Trainer, find, stored
from lorabake_schemas.words import legible

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lorabake.trainer.contents import Digests
    from lorabake_schemas.record import TrainerRecord


@dataclass(frozen=True, slots=True)
class TrainerNow:
    """``trainer`` is None when it is not there any more (or was a rehearsal's stand-in); ``edited`` names the files of
    its checkout that are not as in its commit, ``patched`` those of the packages of lorabake's own that are not as they
    were installed."""

    trainer: TrainerRecord | None = None
    edited: tuple[str, ...] = ()
    patched: tuple[str, ...] = ()


def trainer_now(then: TrainerRecord, env: Mapping[str, str], digests: Digests | None = None) -> TrainerNow:
    """Look at the trainer that a record speaks of. Starts its Python and git for a moment, changes nothing."""
    if then.kind == "rehearsal" or then.checkout is None:
        return TrainerNow()
    trainer = place(then, env)
    if trainer is None:
        return TrainerNow()
    kept = digests.store if isinstance(digests, Fingerprints) else None
    found = contents.contents(trainer, env, digests, kept)
    damaged = found.changed if trainer.files_sha256 is not None else ()
    now = then.model_copy(
        update={
            "commit": trainer.commit,
            "checkout": legible(str(trainer.checkout)),
            "python": legible(str(trainer.python)),
            # one that was changed is not started, so its version is not known: it counts as the same
            "python_version": found.python_version or (then.python_version if damaged else ""),
            "clean": found.clean,
            "tree": found.tree,
            "packages": dict(found.packages),
        }
    )
    return TrainerNow(now, found.edited, tuple(name for name in damaged if not name.startswith(contents.CHECKOUT)))


def place(then: TrainerRecord, env: Mapping[str, str]) -> Trainer | None:
    """Where the run had it, or where the same one is installed today; None when it is not there any more."""
    return _there(then, env) or _elsewhere(then, env)


def _there(then: TrainerRecord, env: Mapping[str, str]) -> Trainer | None:
    """Where the run had it."""
    checkout, python = Path(on_disk(then.checkout or "")), Path(on_disk(then.python))
    if then.kind == "rehearsal" or not (checkout / venv.LANDMARKS[0]).is_file():
        return None
    for trainer in stored(store.home(env)):
        if trainer.checkout == checkout:
            return trainer
    try:
        commit = git.head(checkout, env)
    except SetupError:  # no git on this machine: then the files tell
        commit = then.commit
    return Trainer(then.kind, checkout, python, commit, None, then.lock_sha256, {})


def _elsewhere(then: TrainerRecord, env: Mapping[str, str]) -> Trainer | None:
    """The same commit with the same packages below another LORABAKE_HOME, or on another machine."""
    pin = resources.pin()
    if then.kind != "pin" or then.commit != pin.commit or then.lock not in {"cpu", "cuda"}:
        return None
    with suppress(SetupError):
        return find(pin, store.home(env), "cuda" if then.lock == "cuda" else "cpu", env)
    return None


__all__ = ["TrainerNow", "place", "trainer_now"]
