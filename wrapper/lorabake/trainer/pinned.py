"""The checkout of sd-scripts at the pin or another commit: fetched, then compared with it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from lorabake.errors import SetupError
from lorabake.trainer import git
from lorabake_schemas.pin import Pin
from lorabake_schemas.words import Said, quoted, say

_SHOWN = 5


def check_out(pin: Pin, checkout: Path, env: Mapping[str, str]) -> None:
    """Make the checkout, a folder that does not exist yet. Raises SetupError."""
    git.init(checkout, env)
    git.fetch(checkout, pin.url, pin.commit, env)
    git.checkout(checkout, pin.commit, pin.sparse, env)
    verify(pin, checkout, env)


def verify(pin: Pin, checkout: Path, env: Mapping[str, str]) -> None:
    """Raises SetupError unless the checkout is the pin's commit, all of it and nothing else."""
    head = git.head(checkout, env)
    if head != pin.commit:
        said = say(
            "wrong commit: {url} gave {commit} for {pin}",
            url=pin.url,
            commit=head or say("none"),
            pin=pin.commit,
        )
        raise SetupError(said, say("use another mirror; a tag is no commit: name the one that it stands for"))
    changed = git.changes(checkout, env, pinned=True)
    if changed:
        raise SetupError(
            say("the checkout of sd-scripts differs from its commit: {files}", files=_listed(changed)),
            say("something changes these files during the installation; stop it, then install again"),
        )


def _listed(names: Sequence[str]) -> Said:
    """The first few names, and how many there are."""
    shown = ", ".join(names[:_SHOWN])
    rest = len(names) - _SHOWN
    return (
        quoted(shown) if rest <= 0 else say("{names}, {rest} more ({total})", names=shown, rest=rest, total=len(names))
    )


__all__ = ["check_out", "verify"]
