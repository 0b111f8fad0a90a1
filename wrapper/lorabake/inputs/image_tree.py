"""Finds what belongs to a dataset before there is a recipe: folders of images, regularization images, masks, models."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

from lorabake.inputs.base_model import inspect_base_model
from lorabake.inputs.captions import read_caption
from lorabake.inputs.dataset import ImageFolder, ScanOptions, scan_folders
from lorabake.inputs.folders import (
    MAX_SUBFOLDERS,
    FolderListing,
    file_extension,
    has_images,
    list_folder,
    list_image_folders,
)
from lorabake.inputs.foreign_captions import ForeignCaptions, find_foreign_captions, replace_captions
from lorabake.inputs.metadata_file import find_metadata_file
from lorabake.inputs.resized_copies import find_resized_copies
from lorabake.util.files import is_folder
from lorabake_schemas.dataset import (
    CAPTION_EXTENSION,
    CaptionProblem,
    FolderFacts,
    ImageFacts,
    MetadataOffer,
)
from lorabake_schemas.guide.folder_names import FolderName, find_role, is_structure, read_folder_names, split_repeats
from lorabake_schemas.machine import BaseFacts

TREE_DEPTH = 5  # train/Series/Character/img/1_Outfit; no more than MAX_SUBFOLDERS are looked into
MODEL_FOLDERS = ("model", "models", "checkpoint", "checkpoints", "base", "stable-diffusion", "ckpt")  # any case
MAX_MODELS, MAX_FOLDERS_SEARCHED = 40, 12
NEARBY_ROLES = ("regularization", "masks")


@dataclass(frozen=True, slots=True)
class FoundFolder:
    """A folder with images: its ``path``, what its name says, and its images and captions, which end in
    ``facts.caption_extension`` or are in ``offer``, a metadata file, if it is usable. ``foreign`` are captions that
    sd-scripts cannot read as they are; then ``facts`` has them."""

    path: Path
    name: FolderName
    facts: FolderFacts
    offer: MetadataOffer | None = None
    foreign: ForeignCaptions | None = None


@dataclass(frozen=True, slots=True)
class FoundModel:
    """A base model that can be trained on."""

    path: Path
    facts: BaseFacts


@dataclass(frozen=True, slots=True)
class FoundDataset:
    """Everything found in and near ``root``. ``unread`` counts the files in other folders that look like images and
    that sd-scripts does not read, by extension. ``left_out`` are folders with images that are not for training, or
    images next to folders that are. ``copies`` are folders with the images of another one at another size."""

    root: Path
    folders: tuple[FoundFolder, ...]
    models: tuple[FoundModel, ...]
    unread: Counter[str]
    left_out: tuple[Path, ...] = ()
    copies: Mapping[Path, Path] = field(default_factory=dict[Path, Path])

    def of_role(self, role: str) -> list[FoundFolder]:
        return [each for each in self.folders if each.name.role == role]


def find_dataset(root: Path, model_folders: Sequence[Path], scanning: ScanOptions) -> FoundDataset:
    """Look into ``root`` and its subfolders; ``model_folders`` are other places where models may be.

    Raises ValueError with the reason if the folder cannot be read. Never raises for what is in it.
    """
    listing = list_folder(root, CAPTION_EXTENSION)
    if listing.problem is not None:
        raise ValueError(listing.problem)
    unread = _count_unread(listing)
    paths, left_out = _choose_folders(listing)
    names = read_folder_names(paths)
    if not any(name.role == "concept" for name in names):  # models/, old/: names like any other where nothing else is
        names = tuple(FolderName() if name.role == "other" else name for name in names)
    if not any(name.role == "concept" for name in names):
        more = [path for path in unread if find_role(path) == "concept"]
        paths, names = [*paths, *more], (*names, *read_folder_names(more))
    named = [
        (root / path, _read_own_name(root) if path == "." else name) for path, name in zip(paths, names, strict=True)
    ]
    named += _find_nearby(root)
    folders = list(_scan(named, scanning))
    copies = _find_copies(folders)
    return FoundDataset(
        root,
        tuple(each for each in folders if each.path not in copies),
        tuple(find_base_models([root, *root.parents[:2], *model_folders])),
        sum((count for path, count in unread.items() if path not in paths), Counter[str]()),
        tuple(root / path for path in left_out),
        copies,
    )


def _find_copies(folders: Sequence[FoundFolder]) -> dict[Path, Path]:
    """Only folders whose names have the same words: others are other concepts."""
    copies, groups = dict[Path, Path](), dict[FolderName, list[FoundFolder]]()
    for each in folders:
        if each.name.role == "concept":
            groups.setdefault(each.name._replace(repeats=None), []).append(each)
    for group in groups.values():
        found = find_resized_copies([each.facts for each in group])
        copies |= {group[at].path: group[other].path for at, other in found.items()}
    return copies


def _choose_folders(listing: FolderListing) -> tuple[list[str], list[str]]:
    """The folders to use, by their paths from the root, and those to leave out.

    Where there are kohya's ``N_`` folders, images next to them are not for training (sd-scripts' train_data_dir). Else
    images of the root are the dataset, and subfolders may be anything.
    """
    below = list_image_folders(listing, TREE_DEPTH)
    others = [path for path in below if find_role(path) == "other"]
    inside = [path for path in below if path not in others]
    concepts = [path for path in inside if find_role(path) == "concept"]
    numbered = [path for path in concepts if split_repeats(path.rpartition("/")[2])]
    if not listing.images and not concepts:
        return [*inside, *others], []
    if numbered:
        dropped = [path for path in concepts if path not in numbered]
        return [path for path in inside if path not in dropped], [*(["."] if listing.images else []), *dropped, *others]
    if listing.images:
        return [".", *(path for path in inside if path not in concepts)], [*concepts, *others]
    return inside, others


def _count_unread(listing: FolderListing) -> dict[str, Counter[str]]:
    """The extensions of images that sd-scripts does not read, by the path of their folder."""
    found, ahead, left = dict[str, Counter[str]](), [(".", listing)], MAX_SUBFOLDERS
    while ahead and left:
        path, here = ahead.pop()
        left -= 1
        if here.ignored:
            found[path] = Counter(file_extension(name).lower() for name in here.ignored)
        if path == "." or path.count("/") + 1 < TREE_DEPTH:
            names = {name: name if path == "." else f"{path}/{name}" for name in reversed(here.folders)}
            ahead += [
                (inner, list_folder(f"{here.root}{os.sep}{name}", CAPTION_EXTENSION)) for name, inner in names.items()
            ]
    return found


def _read_own_name(root: Path) -> FolderName:
    """What the folder itself is called, whatever kind of folder it is."""
    (name,) = read_folder_names([root.name or "."])
    return name if name.role == "concept" else FolderName()


def _find_nearby(root: Path) -> list[tuple[Path, FolderName]]:
    """Regularization images and masks beside a folder that is one of several of a project: img, 10_token."""
    found, place = list[tuple[Path, FolderName]](), root
    for _ in range(2):
        if not is_structure(place.name) and not split_repeats(place.name):
            break
        place = place.parent
        listing = list_folder(place, CAPTION_EXTENSION)
        for name in listing.folders:
            if find_role(name) in NEARBY_ROLES and place / name != root:
                inner = list_image_folders(list_folder(place / name, CAPTION_EXTENSION), 1)
                paths = ([name] if has_images(f"{place / name}") else []) + [f"{name}/{path}" for path in inner]
                found += zip((place / path for path in paths), read_folder_names(paths), strict=True)
    return found


def _scan(named: Sequence[tuple[Path, FolderName]], scanning: ScanOptions) -> Iterator[FoundFolder]:
    """Images and captions of each folder, from the files that have its captions: .txt, .caption, metadata.json."""
    scanned = scan_folders([ImageFolder(path) for path, _ in named], [], scanning).concepts
    pairs = zip(scanned, named, strict=True)
    facts = [each if name.role == "masks" else each.without_companions() for each, (_, name) in pairs]
    offers = {at: offer for at, each in enumerate(facts) if (offer := _find_metadata(*named[at], each))}
    others = {
        at: ImageFolder(path, metadata=Path(offers[at].path)) if at in offers and offers[at].usable else ending
        for at, (path, _) in enumerate(named)
        if (ending := _find_captions(path, facts[at])) or at in offers
    }
    again = {at: folder for at, folder in others.items() if folder}
    for at, found in zip(again, scan_folders([*again.values()], [], scanning).concepts if again else (), strict=True):
        facts[at] = found.without_companions()
    for at, (path, name) in enumerate(named):
        offer, own = offers.get(at), _drop_numbers(facts[at]) if facts[at].images else _read_unread(facts[at])
        usable = name.role != "concept" or (offer and offer.usable) or not facts[at].images
        foreign = None if usable else find_foreign_captions(path, own)
        yield FoundFolder(path, name, replace_captions(own, foreign) if foreign else own, offer, foreign)


def _drop_numbers(facts: FolderFacts) -> FolderFacts:
    """Without the texts of captions that are none, such as a detector's boxes."""
    images = (
        image._replace(caption=image.caption._replace(text="", others=()))
        if image.caption.problem is CaptionProblem.NO_WORDS
        else image
        for image in facts.images
    )
    return replace(facts, images=tuple(images))


def _read_unread(facts: FolderFacts) -> FolderFacts:
    """A folder with nothing but images that sd-scripts does not read, by their names and captions."""
    paths = {name: f"{facts.path}{os.sep}{name}" for name in facts.ignored}
    images = [ImageFacts(name, caption=read_caption(path, CAPTION_EXTENSION)) for name, path in paths.items()]
    return replace(facts, images=tuple(images))


def _find_metadata(path: Path, name: FolderName, facts: FolderFacts) -> MetadataOffer | None:
    """A file with captions of images that have no caption files at all."""
    if name.role != "concept" or not facts.images or not _lacks_captions(facts) or facts.others or facts.miscased:
        return None
    return find_metadata_file(path, (path, path.parent, path.parent.parent), [image.name for image in facts.images])


def _lacks_captions(facts: FolderFacts) -> bool:
    without = {CaptionProblem.MISSING, CaptionProblem.NO_WORDS}
    return all(image.caption.problem in without for image in facts.images)


def _find_captions(path: Path, facts: FolderFacts) -> ImageFolder | None:
    """The folder with the extension of most of its captions, if none of them has the usual one (.caption, .TXT); or
    with every line as a caption, if most have several."""
    problems = Counter(image.caption.problem for image in facts.images)
    if 2 * problems[CaptionProblem.MORE_LINES] >= max(1, len(facts.images)):
        return ImageFolder(path, wildcard=True)
    if not facts.images or not _lacks_captions(facts):
        return None
    stems = {image.name.rpartition(".")[0] for image in facts.images}
    names = [name for name in (*facts.others, *facts.miscased) if name.rpartition(".")[0] in stems]
    common = Counter(map(file_extension, names)).most_common(1)
    return ImageFolder(path, common[0][0]) if common else None


def find_base_models(folders: Iterable[Path]) -> Iterator[FoundModel]:
    """The checkpoints and diffusers models in these folders and in those below them that are named after models, each
    once, in order of their paths."""
    places = [place for folder in dict.fromkeys(folders) for place in (folder, *_list_model_folders(folder))]
    seen = set[Path]()
    for place in list(dict.fromkeys(places))[:MAX_FOLDERS_SEARCHED]:
        for path in _list_models(place):
            if path not in seen and len(seen) < MAX_MODELS:
                seen.add(path)
                facts = inspect_base_model(path.name, path.parent)
                if facts.problem is None and facts.family is not None:
                    yield FoundModel(path, facts)


def _list_model_folders(folder: Path) -> list[Path]:
    with suppress(OSError, ValueError), os.scandir(folder) as entries:
        return sorted(folder / entry.name for entry in entries if entry.name.casefold() in MODEL_FOLDERS)
    return []


def _list_models(folder: Path) -> list[Path]:
    with suppress(OSError, ValueError), os.scandir(folder) as entries:
        names = sorted(entry.name for entry in entries if not entry.name.startswith("."))
        return [
            folder / name
            for name in names
            if name.lower().endswith(".safetensors") or _is_diffusers_folder(folder / name)
        ]
    return []


def _is_diffusers_folder(path: Path) -> bool:
    return is_folder(path) and os.path.isfile(path / "model_index.json")  # noqa: PTH113 - False where it may not look
