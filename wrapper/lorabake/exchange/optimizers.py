"""Optimizers under the names that other programs have for them."""

from __future__ import annotations

from functools import cache

from lorabake.util.resources import load_snapshot
from lorabake_schemas.sd_scripts import OPTIMIZER_CLASSES


@cache
def _list_names() -> dict[str, str]:
    """Every optimizer of the trainer by its short name in lower case: sd-scripts' own names first."""
    found = {name.lower(): name for name in OPTIMIZER_CLASSES}
    for package in ("torch.optim.", "pytorch_optimizer.", "prodigyplus.", "bitsandbytes.optim."):
        for path in sorted(load_snapshot().signatures.paths):
            name = path.removeprefix(package)
            if name != path and "." not in name:
                found.setdefault(name.lower(), path)
    return found


def find_optimizer(name: str) -> str | None:
    """sd-scripts' name or class path for an optimizer, whatever its letters' case; None if the trainer has none."""
    name = name.strip()
    if name in load_snapshot().signatures.paths or name in OPTIMIZER_CLASSES:
        return name
    return _list_names().get(name.rpartition(".")[2].lower())


@cache
def list_arguments(name: str) -> frozenset[str]:
    """The arguments of an optimizer that sd-scripts or a class path names; none if the trainer has no such class."""
    found = load_snapshot().signatures.find_optimizer(OPTIMIZER_CLASSES.get(name, name))
    return frozenset() if found is None else frozenset(each.name for each in found.parameters)
