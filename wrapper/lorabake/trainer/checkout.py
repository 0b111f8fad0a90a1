"""The checkout of sd-scripts at the pin or another commit: fetched, then compared with it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from lorabake.errors import SetupError
from lorabake.trainer import git, manifest
from lorabake_schemas.messages import msg
from lorabake_schemas.pin import Pin


def fetch_checkout(pin: Pin, checkout: Path, env: Mapping[str, str]) -> None:
    """Make the checkout, a folder that does not exist yet. Raises SetupError."""
    git.init_repository(checkout, env)
    git.fetch_commit(checkout, pin.url, pin.commit, env)
    git.checkout_commit(checkout, pin.commit, pin.sparse, env)
    verify_checkout(pin, checkout, env)


def verify_checkout(pin: Pin, checkout: Path, env: Mapping[str, str]) -> None:
    """Raises SetupError unless the checkout is the pin's commit, all of it and nothing else."""
    head = git.read_head(checkout, env)
    if head != pin.commit:
        said = msg(
            "{url} returned the commit {commit} instead of {pin}",
            url=pin.url,
            commit=head or msg("none"),
            pin=pin.commit,
        )
        raise SetupError(said, msg("use another mirror; a tag is not a commit, so pass the commit it points to"))
    changed = git.list_changed_files(checkout, env, pinned=True)
    if changed:
        raise SetupError(
            msg("the sd-scripts folder differs from its commit: {files}", files=manifest.shorten_names(changed)),
            msg("another program is changing these files during the installation; stop it, then install again"),
        )
