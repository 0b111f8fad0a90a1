"""Reads image folders as sd-scripts would see them: headers and captions, one pass, nothing written beside them.

What was read is kept by the files' own stamps, so that a second look at unchanged folders opens no file.
"""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from PIL import __version__ as pillow

from lorabake.reading import captions, twins
from lorabake.reading.fact_store import FactStore, Memory, is_settled, stamp_of
from lorabake.reading.folders import Listing, holds_pictures, is_file, listing, stem, strays
from lorabake.reading.pictures import READER, look
from lorabake_schemas.dataset import (
    CaptionFacts,
    CaptionProblem,
    DatasetFacts,
    FolderFacts,
    ImageFacts,
    Place,
    Twins,
    repeat_folder,
)

PICTURES, CAPTIONS, DIGESTS = f"picture {READER}, Pillow {pillow}", "caption 1", "sha256"
STEP = 256  # pictures between two words about how far it is
PROBLEMS = {problem.value: problem for problem in CaptionProblem}


@dataclass(frozen=True)
class Scanning:
    """How to look: where facts are kept (None: nowhere), whether every picture is decoded, and whom to tell how far
    it is (how many are done, how many there are)."""

    store: Path | None = None
    deep: bool = False
    progress: Callable[[int, int], None] | None = None


@dataclass(slots=True)
class Scan:
    """One look at all folders, while it lasts."""

    how: Scanning
    store: FactStore
    now: int
    total: int = 0
    done: int = 0

    def step(self) -> None:
        self.done += 1
        if self.how.progress is not None and (self.done % STEP == 0 or self.done == self.total):
            self.how.progress(self.done, self.total)


@dataclass(frozen=True, slots=True)
class Seen:
    """A folder's names and facts; ``keys`` are length and mark of each picture, which equal files share."""

    names: Listing
    facts: FolderFacts
    keys: tuple[tuple[int, int], ...] = ()


def scan(folder: Path, caption_extension: str) -> FolderFacts:
    """All facts about one image folder, whose captions end in ``caption_extension`` (with its dot).

    Never raises for what is on the disk: a folder that cannot be read has ``problem`` set and no images. The
    five-underscore rule for captions is applied to the absolute path.
    """
    return _folder(
        listing(folder, caption_extension), caption_extension, Scan(Scanning(), FactStore(None), time.time_ns())
    ).facts


def survey(
    concepts: Sequence[Path], regularisation: Sequence[Path], caption_extension: str, how: Scanning
) -> DatasetFacts:
    """All facts about all folders, and which of their pictures are the same. Never raises for what is on the disk."""
    folders = [listing(folder, caption_extension) for folder in (*concepts, *regularisation)]
    store = FactStore(how.store)
    try:
        state = Scan(how, store, time.time_ns(), sum(len(names.pictures) for names in folders) * (2 if how.deep else 1))
        seen = [_folder(names, caption_extension, state) for names in folders]
        equal = _equal(seen, len(concepts), state)
        facts = [each.facts for each in seen]
        if how.deep:
            from lorabake.reading import deep

            rooms = [
                deep.Folder(each.names, each.facts, partial(place_of, number, len(concepts)))
                for number, each in enumerate(seen)
            ]
            facts, near = deep.look(rooms, equal, store, state.now, state.step)
            equal += near
        store.used(tuple(names.identity for names in folders if names.identity))
    finally:
        store.close()
    return DatasetFacts(tuple(facts[: len(concepts)]), tuple(facts[len(concepts) :]), equal, how.deep)


def _folder(names: Listing, ending: str, state: Scan) -> Seen:
    if names.problem is not None:
        return Seen(names, FolderFacts(names.root, problem=names.problem))
    pictures = Memory(state.store, PICTURES, names.identity, len(STORED))
    texts = Memory(state.store, CAPTIONS, names.identity, 2)
    images, keys = list[ImageFacts](), list[tuple[int, int]]()
    for name in names.pictures:
        image, key = _picture(names, name, _caption(names, name, ending, texts, state.now), pictures, state.now)
        images.append(image)
        keys.append(key)
        state.step()
    pictures.keep()
    texts.keep()
    return Seen(names, _folder_facts(names, tuple(images), ending), tuple(keys))


STORED = ("format", "width", "height", "mode", "alpha", "seen", "orientation", "moving", "mark")  # of a Look


def _picture(
    names: Listing, name: str, caption: CaptionFacts, memory: Memory, now: int
) -> tuple[ImageFacts, tuple[int, int]]:
    """Its facts and its key."""
    state = names.states.get(name)
    stamp = stamp_of(state) if state else ""
    row = memory.recall(stamp)
    problem = None
    if row is None:
        found = look(f"{names.root}{os.sep}{name}", state)
        problem, row = found.problem, [getattr(found, field) for field in STORED]
        if state and problem is None and is_settled(state, now):  # a fault is looked at again each time
            memory.learn(stamp, row)
    kind, width, height, mode, alpha, seen, orientation, moving, mark = row
    pair = (seen[0], seen[1]) if seen else None
    image = ImageFacts(name, width, height, mode, alpha, pair, problem, caption, kind, orientation, moving)
    return image, (state.st_size if state else 0, mark)


def _caption(names: Listing, name: str, ending: str, memory: Memory, now: int) -> CaptionFacts:
    state = names.states.get(stem(name) + ending)
    if state is None or not is_file(state):
        return captions.read(f"{names.root}{os.sep}{name}", ending)
    stamp = stamp_of(state)
    row = memory.recall(stamp)
    if row is not None:
        return CaptionFacts(row[0], PROBLEMS.get(row[1]))
    found = captions.read(f"{names.root}{os.sep}{name}", ending)
    if is_settled(state, now) and found.problem is not CaptionProblem.UNREADABLE and found.borrowed_from is None:
        memory.learn(stamp, (found.text, found.problem))
    return found


def _folder_facts(names: Listing, images: tuple[ImageFacts, ...], ending: str) -> FolderFacts:
    missing = frozenset(image.name for image in images if image.caption.problem is CaptionProblem.MISSING)
    taken = (image.caption.borrowed_from for image in images if image.caption.borrowed_from)
    stray = strays(names, ending, missing, frozenset(map(os.path.basename, taken)))
    holding = tuple(name for name in names.folders if holds_pictures(os.path.join(names.root, name)))  # noqa: PTH118
    return FolderFacts(
        path=names.root,
        images=images,
        ignored=names.ignored,
        subfolders=holding,
        repeat_folders=tuple(name for name in holding if repeat_folder(name) is not None),
        caches=names.caches,
        hidden=names.hidden,
        orphans=stray.orphans,
        miscased=stray.miscased,
        others=stray.others,
    )


def _equal(seen: Sequence[Seen], concepts: int, state: Scan) -> tuple[Twins, ...]:
    """Pictures that are equal files. A folder that is there twice is looked at once: S14 tells of it."""
    first = {each.names.identity: number for number, each in reversed(list(enumerate(seen)))}
    folders = [(number, seen[number]) for number in sorted(first.values())]
    counts = Counter(key for _, each in folders for key in each.keys)
    if len(counts) == counts.total():
        return ()
    memories = {number: Memory(state.store, DIGESTS, each.names.identity, 1) for number, each in folders}
    candidates = [
        twins.Candidate(place_of(number, concepts, image.name), number, key)
        for number, each in folders
        for image, key in zip(each.facts.images, each.keys, strict=True)
        if counts[key] > 1 and image.problem is None
    ]
    found = twins.exact(candidates, lambda one: _digest(one, seen[one.folder].names, memories[one.folder], state.now))
    for number, each in folders:
        memories[number].keep(map(stamp_of, each.names.states.values()))
    return found


def _digest(of: twins.Candidate, names: Listing, memory: Memory, now: int) -> str | None:
    own = names.states[of.place.name]
    row = memory.recall(stamp_of(own))
    if row is not None:
        return str(row[0])
    digest = twins.sha256(f"{names.root}{os.sep}{of.place.name}")
    if digest is not None and is_settled(own, now):
        memory.learn(stamp_of(own), (digest,))
    return digest


def place_of(folder: int, concepts: int, name: str) -> Place:
    """A picture of the folder of this number, concepts first."""
    return Place("concept", folder, name) if folder < concepts else Place("regularisation", folder - concepts, name)


__all__ = ["Scanning", "scan", "survey"]
