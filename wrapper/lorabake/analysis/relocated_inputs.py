"""A run folder that was moved or copied away from the project that it was made in."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from posixpath import isabs
from typing import TYPE_CHECKING

from lorabake.inputs.manifest import resolve_from_run
from lorabake_schemas.messages import escape_undecodable, msg
from lorabake_schemas.record import Input
from lorabake_schemas.verification import VerifyDifference

if TYPE_CHECKING:
    from lorabake.runs.index import FoundRun


def find_relocated_inputs(run: FoundRun, then: Sequence[Input], now: Sequence[Input]) -> tuple[Input, ...]:
    """Everything that lay around the run folder, where none of it is there and the folder is not where it was made."""
    if run.record.cwd in {escape_undecodable(str(folder)) for folder in (run.root.absolute(), run.root.resolve())}:
        return ()
    around = [
        (before, here)
        for before, here in zip(then, now, strict=True)
        if before.files and before.kind != "hub" and not isabs(before.place) and not Path(before.place).is_absolute()
    ]
    if any(here.kind != "missing" or os.path.lexists(resolve_from_run(run.root, here.place)) for _, here in around):
        return ()
    return tuple(before for before, _ in around)


def relocation_difference(root: Path, inputs: Sequence[Input]) -> VerifyDifference:
    """Said once, and not of each of them."""
    first = inputs[0]
    message = msg(
        (
            "the run folder was moved out of its project, so {name} was not found in {folder}; move "
            "the whole project instead"
        ),
        name=first.name,
        folder=Path(resolve_from_run(root, first.place)).parent,
    )
    return VerifyDifference(what="inputs", name=first.name, change="gone", message=message, was=first.digest().sha256)
