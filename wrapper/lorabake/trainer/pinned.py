"""The checkout of sd-scripts at the pin or another commit: fetched, then compared with it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from lorabake.errors import SetupError
from lorabake.trainer import git, manifest
from lorabake_schemas.pin import Pin
from lorabake_schemas.words import say


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
            say("the checkout of sd-scripts differs from its commit: {files}", files=manifest.named(changed)),
            say("something changes these files during the installation; stop it, then install again"),
        )


__all__ = ["check_out", "verify"]
