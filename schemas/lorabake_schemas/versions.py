"""In what the options of two commits of sd-scripts differ: what `trainer status --against` prints with ``--json``.

``version`` grows when a field goes or changes its meaning; new fields may come at any time.
"""

from typing import Literal

from lorabake_schemas.base import StrictModel, TupleOf
from lorabake_schemas.options import DatasetOption, Option


class OptionChange(StrictModel):
    """One option that is not the same in both commits; null where a commit does not have it. ``place`` is the script
    that takes it, or the level of the dataset file."""

    place: str
    name: str
    before: Option | DatasetOption | None
    after: Option | DatasetOption | None


class CommitDifference(StrictModel):
    """From ``commit`` to ``against``: only what differs."""

    version: Literal[1] = 1
    commit: str
    against: str
    changes: TupleOf[OptionChange]
