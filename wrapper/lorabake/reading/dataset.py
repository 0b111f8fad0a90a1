"""Reads image folders as sd-scripts would see them: headers and captions, one pass, nothing written beside them.

What was read is kept by the files' own stamps, so that a second look at unchanged folders opens no file. One thread:
headers are read by Python itself, and two threads took twice the CPU of one and no less time.
"""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from PIL import __version__ as pillow

from lorabake.reading import captions
from lorabake.reading.cache_origins import CacheMemory
from lorabake.reading.fact_store import FactStore, Memory, Row, is_file, is_settled
from lorabake.reading.folders import Listing, holds_pictures, listing, strays
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

# Kinds of facts; a number changes when the same file would give another one.
PICTURES, CAPTIONS, DIGESTS = f"picture 1, Pillow {pillow}", "caption 1", "sha256"
STEP = 32  # pictures between two words about how far it is
MISSING = CaptionProblem.MISSING
PROBLEMS: dict[str | None, CaptionProblem | None] = {None: None} | {each.value: each for each in CaptionProblem}


@dataclass(frozen=True)
class Scanning:
    """How to look: where facts are kept (None: nowhere), whether every picture is decoded, and whom to tell how far
    it is (how many are done, how many there are). ``caches`` is what is remembered of those that sd-scripts keeps."""

    store: Path | None = None
    deep: bool = False
    progress: Callable[[int, int], None] | None = None
    caches: CacheMemory = CacheMemory()  # noqa: RUF009 - frozen


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
    """A folder's names and facts; ``marks`` are those of its pictures, which equal files share."""

    names: Listing
    facts: FolderFacts
    marks: tuple[str, ...] = ()


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
    texts = _captions(names, ending, state)
    memory = Memory(state.store, PICTURES, names.identity, len(STORED))
    stamps = [names.stamps.get(name) for name in names.pictures]
    rows = memory.recall(stamps)
    images, marks = list[ImageFacts](), list[str]()
    for at, (name, stamp, row, text) in enumerate(zip(names.pictures, stamps, rows, texts, strict=True)):
        problem = None
        if row is None:
            row, problem = _looked(f"{names.root}{os.sep}{name}", stamp)  # noqa: PLW2901 - it was not known
            rows[at] = row if problem is None and is_settled(stamp, state.now) else None
        kind, width, height, mode, alpha, seen, orientation, moving, mark = row
        pair = (seen[0], seen[1]) if seen else None
        images.append(ImageFacts(name, width, height, mode, alpha, pair, problem, text, kind, orientation, moving))
        marks.append(mark)
        state.step()
    memory.keep(stamps, rows)
    return Seen(names, _folder_facts(names, tuple(images), ending), tuple(marks))


STORED = ("format", "width", "height", "mode", "alpha", "seen", "orientation", "moving", "mark")  # of a Look


def _looked(path: str, stamp: str | None) -> tuple[Row, str | None]:
    """What is stored of a picture, and its problem; a picture that has one is looked at again each time."""
    from lorabake.reading.pictures import look  # not needed where every picture is known

    found = look(path, stamp)
    seen = list(found.seen) if found.seen else None
    row = [found.format, found.width, found.height, found.mode, found.alpha, seen]
    return [*row, found.orientation, found.moving, found.mark], found.problem


def _captions(names: Listing, ending: str, state: Scan) -> list[CaptionFacts]:
    """The caption of each picture."""
    memory = Memory(state.store, CAPTIONS, names.identity, 2)
    stamps = [names.stamps.get(name[: name.rfind(".")] + ending) for name in names.pictures]
    rows = memory.recall(stamps)
    found = list[CaptionFacts]()
    for at, (name, stamp, row) in enumerate(zip(names.pictures, stamps, rows, strict=True)):
        if row is not None:
            found.append(CaptionFacts(row[0], PROBLEMS[row[1]]))
            continue
        text = captions.read(f"{names.root}{os.sep}{name}", ending, seen=is_file(stamp))
        found.append(text)
        known = text.borrowed_from is None and text.problem not in {MISSING, CaptionProblem.UNREADABLE}
        if known and is_settled(stamp, state.now):
            rows[at] = [text.text, text.problem]
    memory.keep(stamps, rows)
    return found


def _folder_facts(names: Listing, images: tuple[ImageFacts, ...], ending: str) -> FolderFacts:
    texts = [(image.name, image.caption) for image in images]
    missing = frozenset(name for name, caption in texts if caption.problem is MISSING)
    taken = (caption.borrowed_from for _, caption in texts if caption.borrowed_from)
    stray = strays(names, ending, missing, frozenset(map(os.path.basename, taken)))
    holding = tuple(name for name in names.folders if holds_pictures(os.path.join(names.root, name)))  # noqa: PTH118
    return FolderFacts(
        path=names.root,
        identity=names.identity,
        images=images,
        ignored=names.ignored,
        subfolders=holding,
        repeat_folders=tuple(name for name in holding if repeat_folder(name) is not None),
        caches=names.caches,
        hidden=names.hidden,
        orphans=stray.orphans,
        miscased=stray.miscased,
        others=stray.others,
        stamps=names.stamps,
    )


def _equal(seen: Sequence[Seen], concepts: int, state: Scan) -> tuple[Twins, ...]:
    """Pictures that are equal files. A folder that is there twice is looked at once: S14 tells of it."""
    first = {each.names.identity: number for number, each in reversed(list(enumerate(seen)))}
    folders = [(number, seen[number]) for number in sorted(first.values())]
    counts = Counter(mark for _, each in folders for mark in each.marks)
    if len(counts) == counts.total():
        return ()
    from lorabake.reading import twins

    candidates = [
        twins.Candidate(place_of(number, concepts, image.name), digest)
        for number, each in folders
        for image, digest in _digests(each, counts, state)
    ]
    return twins.exact(candidates)


def _digests(of: Seen, counts: Counter[str], state: Scan) -> Iterator[tuple[ImageFacts, str]]:
    """The pictures of a folder that share their mark with another one, with the digest of the whole file."""
    from lorabake.reading.twins import sha256

    memory = Memory(state.store, DIGESTS, of.names.identity, 1)
    stamps = [of.names.stamps.get(image.name) for image in of.facts.images]
    rows = memory.recall(stamps)
    for at, (image, stamp, mark) in enumerate(zip(of.facts.images, stamps, of.marks, strict=True)):
        if counts[mark] > 1 and image.problem is None:
            known = rows[at]
            digest = known[0] if known else sha256(f"{of.names.root}{os.sep}{image.name}")
            if is_settled(stamp, state.now):
                rows[at] = [digest] if digest else None
            if digest:
                yield image, digest
    memory.keep(stamps, rows)


def place_of(folder: int, concepts: int, name: str) -> Place:
    """A picture of the folder of this number, concepts first."""
    return Place("concept", folder, name) if folder < concepts else Place("regularisation", folder - concepts, name)


__all__ = ["Scanning", "scan", "survey"]
