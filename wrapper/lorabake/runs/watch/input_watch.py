"""Whether the inputs of a run have changed: checked before the trainer starts, and when it has ended."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from lorabake.errors import MachineError
from lorabake.inputs.folders import list_folder
from lorabake.inputs.input_changes import changed_inputs
from lorabake.inputs.manifest import rehash_inputs
from lorabake.util.hashing import FileHasher
from lorabake_schemas.messages import Message, literal, msg, shorten_list
from lorabake_schemas.record import InputChange, Inputs

if TYPE_CHECKING:
    from lorabake.util.hashing import KnownDigests
    from lorabake_schemas.dataset import DatasetFacts

KEPT, SHOWN = 100, 5
NO_KNOWN_HASHES: Mapping[tuple[str, str], str] = {}


@dataclass(frozen=True, slots=True)
class InputWatch:
    """The inputs of a run as hashed at its start, seen from ``root``.

    ``known`` are those hashes by the files' stamps at that time, so that only changed files are hashed again. ``store``
    keeps more of them. ``before`` is what changed in earlier parts of a resumed run.
    """

    inputs: Inputs
    root: Path
    env: Mapping[str, str] = field(repr=False)
    store: Path | None = None
    known: KnownDigests = field(default_factory=lambda: NO_KNOWN_HASHES, repr=False)
    before: tuple[InputChange, ...] = ()

    def changes(self, root: Path | None = None) -> tuple[InputChange, ...]:
        """Every file that was replaced, edited, removed or added since.

        ``root`` is where the run folder is now: if it was moved together with everything around it, its inputs are
        searched from there.
        """
        found = self._changes_from(self.root)
        if not found or root is None or root == self.root:
            return found
        return min(found, self._changes_from(root), key=len)

    def _changes_from(self, root: Path) -> tuple[InputChange, ...]:
        """Caches are left out, since sd-scripts itself writes them, and so is what it had to fetch from the hub."""
        then = [each for each in self.inputs.inputs if each.role != "caches" and each.files]
        with FileHasher(self.store, known=self.known) as fingerprints:
            now = rehash_inputs(then, root, fingerprints, self.env)
        found = {
            (one.role, one.index, change.name): InputChange(
                role=one.role, index=one.index, input=one.name, name=change.name, change=change.kind
            )
            for one, change in changed_inputs(then, now)
        }
        earlier = [each for each in self.before if (each.role, each.index, each.name) not in found]
        return (*earlier, *found.values())


def format_changed_names(changes: Sequence[InputChange]) -> Message:
    """``a.txt, b.png and 3 more``."""
    return shorten_list(changes, SHOWN, lambda each: literal(each.name))


def ensure_dataset_unchanged(dataset: DatasetFacts, folder: Path) -> None:
    """Raises MachineError when images or captions are not those that were checked: the plan would not fit them."""
    for facts in (*dataset.concepts, *dataset.regularization):
        now = list_folder(folder / facts.path, facts.caption_extension).stamps
        changed = [name for name in sorted({*facts.stamps, *now}) if facts.stamps.get(name) != now.get(name)]
        if changed:
            said = msg(
                "{folder} changed after it was checked: {names}",
                folder=facts.path,
                names=shorten_list(changed, SHOWN, literal),
            )
            raise MachineError(said, msg("nothing was started; run it again"))
