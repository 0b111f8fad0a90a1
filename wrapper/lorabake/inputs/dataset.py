"""Reads image folders as sd-scripts does: headers and captions, in one pass; nothing is written there.

Facts are kept by the files' stamps, so that a second scan of unchanged folders opens no file. One thread: two took
twice the CPU and no less time.
"""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

from PIL import __version__ as pillow

from lorabake.inputs import captions
from lorabake.inputs.folders import (
    FolderListing,
    find_companions,
    find_unmatched_captions,
    list_folder,
    list_image_folders,
)
from lorabake.inputs.images import ImageFileFacts, make_image_facts, read_image
from lorabake.inputs.masks import read_masks
from lorabake.inputs.metadata_file import MetadataImages, list_metadata_images
from lorabake.util.fact_cache import FactStore, Row, is_file_stamp, is_settled
from lorabake.util.hashing import FileHasher, FileSet, ProgressCallback
from lorabake_schemas.dataset import (
    CAPTION_EXTENSION,
    CaptionFacts,
    CaptionProblem,
    DatasetFacts,
    DuplicateGroup,
    FolderFacts,
    ImageFacts,
    ImageRef,
    parse_repeat_folder,
)

# Kinds of facts; a number changes when the same file would give another one.
IMAGE_KIND, CAPTION_KIND, WILDCARD_KIND = f"image 4, Pillow {pillow}", "caption 2", "caption lines 2"
PROGRESS_INTERVAL = 32  # images between two reports of progress
MISSING = CaptionProblem.MISSING
PROBLEM_BY_VALUE: dict[str | None, CaptionProblem | None] = {None: None} | {each.value: each for each in CaptionProblem}


@dataclass(frozen=True)
class ScanOptions:
    """How to look: where facts are kept (None: nowhere), whether every image is decoded, and what gets the progress:
    (images done, all images), ``hashing`` (bytes done, all bytes).

    The rest decides whether sd-scripts' caches fit: ``env`` has where the hub's files are, ``commit`` is that of the
    sd-scripts that will run, where it is known, ``root`` the run folder, where it was named.
    """

    store: Path | None = None
    deep: bool = False
    progress: ProgressCallback | None = None
    hashing: ProgressCallback | None = None
    env: Mapping[str, str] = field(default_factory=dict[str, str])
    commit: str = ""
    root: Path | None = None


@dataclass(frozen=True, slots=True)
class ImageFolder:
    """An image folder, and how sd-scripts would read its captions: their extension, with its dot, and whether every
    line is one (enable_wildcard); or a ``metadata`` file that has them. ``masks`` is the folder of its masks."""

    path: Path
    caption_extension: str = CAPTION_EXTENSION
    wildcard: bool = False
    metadata: Path | None = None
    masks: Path | None = None


@dataclass(slots=True)
class ScanState:
    """One scan of all folders, while it lasts."""

    how: ScanOptions
    store: FactStore
    now: int
    total: int = 0
    done: int = 0

    def step(self) -> None:
        self.done += 1
        if self.how.progress is not None and (self.done % PROGRESS_INTERVAL == 0 or self.done == self.total):
            self.how.progress(self.done, self.total)


class ScannedFolder(NamedTuple):
    """A folder's names and facts; ``marks`` are those of its images, which equal files share."""

    names: FolderListing
    facts: FolderFacts
    marks: tuple[str, ...] = ()


def scan_folder(folder: Path, caption_extension: str) -> FolderFacts:
    """All facts about one image folder, whose captions end in ``caption_extension`` (with its dot).

    Never raises for what is on the disk: a folder that cannot be read has ``problem`` set and no images. The
    five-underscore rule for captions is applied to the absolute path.
    """
    state = ScanState(ScanOptions(), FactStore(None), time.time_ns())
    asked = ImageFolder(folder, caption_extension)
    return _scan_folder(*_list_images(asked), asked, state).facts


def scan_captions(folders: Sequence[ImageFolder], how: ScanOptions) -> tuple[FolderFacts, ...]:
    """The images of these folders by name, with their captions; no image is opened. Never raises for what is on the
    disk."""
    store = FactStore(how.store)
    try:
        state = ScanState(how, store, time.time_ns())
        return tuple(_scan_captions(*_list_images(asked), asked, state) for asked in folders)
    finally:
        store.close()


def _scan_captions(
    names: FolderListing, listed: MetadataImages | None, asked: ImageFolder, state: ScanState
) -> FolderFacts:
    texts = () if names.problem else listed.captions if listed else _read_captions(names, asked, state)
    images = tuple(ImageFacts(name, caption=text) for name, text in zip(names.images, texts, strict=True))
    metadata = listed.facts if listed else None
    extension = "" if listed else asked.caption_extension
    return FolderFacts(
        names.root,
        images,
        problem=names.problem,
        ignored=names.ignored,
        caption_extension=extension,
        identity=names.identity,
        metadata=metadata,
    )


def scan_folders(
    concepts: Sequence[ImageFolder], regularization: Sequence[ImageFolder], how: ScanOptions
) -> DatasetFacts:
    """All facts about all folders, and which of their images are the same. Never raises for what is on the disk."""
    asked = (*concepts, *regularization)
    folders = [_list_images(each) for each in asked]
    store = FactStore(how.store)
    try:
        state = ScanState(
            how, store, time.time_ns(), sum(len(names.images) for names, _ in folders) * (2 if how.deep else 1)
        )
        seen = [_scan_folder(*names, each, state) for names, each in zip(folders, asked, strict=True)]
        equal = _find_equal_images(seen, len(concepts), how.store)
        facts = [each.facts for each in seen]
        if how.deep:
            from lorabake.inputs import deep_scan as deep

            rooms = [
                deep.DeepScanFolder(each.names, each.facts, partial(make_image_ref, number, len(concepts)))
                for number, each in enumerate(seen)
            ]
            facts, near = deep.decode_folders(rooms, equal, store, state.now, state.step)
            equal += near
    finally:
        store.close()
    return DatasetFacts(tuple(facts[: len(concepts)]), tuple(facts[len(concepts) :]), equal, how.deep)


def _list_images(asked: ImageFolder) -> tuple[FolderListing, MetadataImages | None]:
    """The names in a folder, or those in its metadata file if it has one."""
    names = list_folder(asked.path, asked.caption_extension)
    if asked.metadata is None or names.problem is not None:
        return names, None
    listed = list_metadata_images(names, asked.metadata, wildcard=asked.wildcard)
    return listed.listing, listed


def _scan_folder(
    names: FolderListing, listed: MetadataImages | None, asked: ImageFolder, state: ScanState
) -> ScannedFolder:
    if names.problem is not None:
        facts = FolderFacts(names.root, problem=names.problem, caption_extension=asked.caption_extension)
        return ScannedFolder(names, facts)
    texts = listed.captions if listed else _read_captions(names, asked, state)
    stamps = [names.stamps.get(name) for name in names.images]
    rows = state.store.recall(IMAGE_KIND, names.identity, stamps, len(ImageFileFacts._fields))
    images, marks, fresh = list[ImageFacts](), list[str](), list[tuple[str, Row]]()
    for name, stamp, row, text in zip(names.images, stamps, rows, texts, strict=True):
        file = ImageFileFacts(*row) if row else read_image(f"{names.root}{os.sep}{name}", stamp)
        if row is None and file.problem is None and stamp and is_settled(stamp, state.now):
            fresh.append((stamp, list(file)))  # an image with a problem is read again each time
        images.append(make_image_facts(name, file, text))
        marks.append(file.mark)
        state.step()
    state.store.keep(IMAGE_KIND, names.identity, fresh)
    metadata = None
    if listed:
        images, metadata = listed.apply_sizes(images)
    masks = read_masks(asked.masks, images, names.root, state.store, state.now) if asked.masks else None
    found = _build_folder_facts(names, tuple(images), asked.caption_extension)
    if metadata is not None:
        found = replace(found, caption_extension="", orphans=(), miscased=(), others=(), companions=())
    return ScannedFolder(names, replace(found, metadata=metadata, masks=masks), tuple(marks))


def _read_captions(names: FolderListing, asked: ImageFolder, state: ScanState) -> list[CaptionFacts]:
    """The caption of each image."""
    ending, kind = asked.caption_extension, WILDCARD_KIND if asked.wildcard else CAPTION_KIND
    stamps = [names.stamps.get(name[: name.rfind(".")] + ending) for name in names.images]
    rows = state.store.recall(kind, names.identity, stamps, 3 if asked.wildcard else 2)
    found, fresh = list[CaptionFacts](), list[tuple[str, Row]]()
    for name, stamp, row in zip(names.images, stamps, rows, strict=True):
        if row is not None:
            found.append(CaptionFacts(row[0], PROBLEM_BY_VALUE[row[1]], None, tuple(row[2]) if asked.wildcard else ()))
            continue
        path = f"{names.root}{os.sep}{name}"
        text = captions.read_caption(path, ending, seen=is_file_stamp(stamp), wildcard=asked.wildcard)
        found.append(text)
        known = text.borrowed_from is None and text.problem not in {MISSING, CaptionProblem.UNREADABLE}
        if known and stamp and is_settled(stamp, state.now):
            fresh.append((stamp, [text.text, text.problem, *([text.others] if asked.wildcard else [])]))
    state.store.keep(kind, names.identity, fresh)
    return found


def _build_folder_facts(names: FolderListing, images: tuple[ImageFacts, ...], ending: str) -> FolderFacts:
    texts = [(image.name, image.caption) for image in images]
    missing = frozenset(name for name, caption in texts if caption.problem is MISSING)
    taken = (caption.borrowed_from for _, caption in texts if caption.borrowed_from)
    stray = find_unmatched_captions(names, ending, missing, frozenset(map(os.path.basename, taken)))
    holding = list_image_folders(names)
    return FolderFacts(
        path=names.root,
        identity=names.identity,
        images=images,
        ignored=names.ignored,
        subfolders=holding,
        repeat_folders=tuple(path for path in holding if parse_repeat_folder(path.rpartition("/")[2]) is not None),
        caches=names.caches,
        hidden=names.hidden,
        orphans=stray.orphans,
        miscased=stray.miscased,
        others=stray.others,
        companions=find_companions(names.images),
        stamps=names.stamps,
        caption_extension=ending,
    )


def _find_equal_images(seen: Sequence[ScannedFolder], concepts: int, store: Path | None) -> tuple[DuplicateGroup, ...]:
    """Images that are equal files. A folder that is listed twice counts once: S14 reports it."""
    first = {each.names.identity: number for number, each in reversed(list(enumerate(seen)))}
    folders = [(number, seen[number]) for number in sorted(first.values())]
    counts = Counter(mark for _, each in folders for mark in each.marks)
    if len(counts) == counts.total():
        return ()
    from lorabake.inputs import duplicates

    wanted = [
        FileSet(
            Path(each.names.root),
            [
                image.name
                for image, mark in zip(each.facts.images, each.marks, strict=True)
                if counts[mark] > 1 and image.problem is None
            ],
            each.names.stamps,
        )
        for _, each in folders
    ]
    digests = FileHasher(store).hash_folders(wanted)
    return duplicates.find_exact_duplicates(
        duplicates.DuplicateCandidate(make_image_ref(number, concepts, name), digest.sha256)
        for (number, _), found in zip(folders, digests, strict=True)
        for name, digest in found.items()
        if digest
    )


def make_image_ref(folder: int, concepts: int, name: str) -> ImageRef:
    """An image of the folder of this number, concepts first."""
    return (
        ImageRef("concept", folder, name) if folder < concepts else ImageRef("regularization", folder - concepts, name)
    )
