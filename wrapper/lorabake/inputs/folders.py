"""What is in an image folder, by name: the images that sd-scripts finds, and everything that it ignores.

The choice and the order are those of TU:104 and TU:2847-2856 at the pin: not recursive, a fixed list of extensions,
sorted by name.
"""

from __future__ import annotations

import errno
import os
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import NamedTuple

from lorabake.util.fact_cache import is_file_stamp, make_stamp
from lorabake.util.files import read_bytes
from lorabake_schemas.caches import CACHE_EXTENSION
from lorabake_schemas.dataset import CONDITION_END, IMAGE_EXTENSIONS, MASK_END

GLOB_EXTENSIONS = tuple(spelling for ext in IMAGE_EXTENSIONS for spelling in (ext, ext.upper()))
# Globbing is case-blind on Windows and exact elsewhere: .Jpg is seen there only.
GLOBBED_EXTENSIONS = frozenset(map(os.path.normcase, GLOB_EXTENSIONS))
ALL_IMAGE_EXTENSIONS = frozenset(
    (*IMAGE_EXTENSIONS, ".gif", ".tif", ".tiff", ".jfif", ".heic", ".heif", ".avif", ".jxl", ".jpe", ".apng", ".jp2")
)
CAPTION_EXTENSIONS = (".txt", ".caption", ".tags")  # of captions in other programs
# Text files next to images that are not captions; of any other extension captions may be.
SIDECAR_EXTENSIONS = frozenset(
    {".json", ".jsonl", ".xmp", ".xml", ".yaml", ".yml", ".toml", ".html", ".svg", ".log", ".aae"}
)
METADATA_EXTENSIONS = (".json", ".jsonl")  # of files that may have the captions of many images
MAX_TEXT_BYTES = 1 << 16  # more than any caption
# Folders that systems and programs make, in lower case; what looks like images in them are thumbnails or deleted files.
SYSTEM_FOLDERS = frozenset(
    {"@eadir", "#recycle", "@recycle", "$recycle.bin", "system volume information", "lost+found", "__macosx",
     "thumbnails", "thumbs", "__pycache__"}
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class FolderListing:
    """The names in a folder. ``root`` is its absolute path, ``identity`` its device and inode.

    ``stamps`` are those of images and caption files, links followed; a name that has none is a broken link.
    ``unknown`` are files of any other kind. ``problem`` is why the folder could not be read.
    """

    root: str
    identity: str = ""
    images: tuple[str, ...] = ()
    stamps: dict[str, str] = field(default_factory=dict[str, str])
    ignored: tuple[str, ...] = ()
    hidden: tuple[str, ...] = ()
    folders: tuple[str, ...] = ()
    caches: tuple[str, ...] = ()
    captions: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()
    problem: str | None = None


def list_folder(folder: str | os.PathLike[str], caption_extension: str) -> FolderListing:
    """The names in a folder, sorted. Never raises for what is on the disk."""
    root = os.path.abspath(folder)  # noqa: PTH100 - captions.legacy_path needs the path as sd-scripts gets it
    kinds: dict[str, list[str]] = {kind: [] for kind in ENTRY_KINDS}
    stamps: dict[str, str] = {}
    by_ending: dict[str, str] = {}
    endings = (*CAPTION_EXTENSIONS, caption_extension.lower())
    try:
        own = os.stat(root)  # noqa: PTH116 - as above
        with os.scandir(root) as entries:
            for entry in entries:
                name = entry.name
                kind = by_ending.get(name[name.rfind(".") :])
                if kind is None:
                    kind = by_ending[name[name.rfind(".") :]] = _classify_name(name, endings)
                if kind == "other" or name[0] == ".":
                    kind = _classify_other(entry, endings)
                kinds[kind].append(name)
                if kind in STAMPED_KINDS:
                    try:
                        stamps[name] = make_stamp(entry.stat(), name)
                    except OSError:  # a link that leads nowhere, or to itself
                        continue
    except (OSError, ValueError) as error:
        return FolderListing(root, problem=_describe_problem(error))
    images, ignored, hidden, folders, caches, captions, unknown, _ = (
        tuple(sorted(kinds[kind])) for kind in ENTRY_KINDS
    )
    identity = f"{own.st_dev}:{own.st_ino}"
    return FolderListing(root, identity, images, stamps, ignored, hidden, folders, caches, captions, unknown)


def find_companions(images: Sequence[str]) -> tuple[str, ...]:
    """OneTrainer's masks and conditioning images among these, each with its image."""
    named = [name for name in images if file_stem(name).endswith((MASK_END, CONDITION_END))]
    stems = set(map(file_stem, images)) if named else set[str]()
    return tuple(name for name in named if file_stem(name).removesuffix(MASK_END).removesuffix(CONDITION_END) in stems)


ENTRY_KINDS = ("images", "ignored", "hidden", "folders", "caches", "captions", "unknown", "")
STAMPED_KINDS = frozenset({"images", "captions"})


def _classify_name(name: str, endings: tuple[str, ...]) -> str:
    """A file's kind, which for images and most captions depends only on its extension."""
    if (
        os.path.normcase(file_extension(name)) in GLOBBED_EXTENSIONS
    ):  # glob goes by name alone: a folder called x.png counts as an image
        return "images"
    return "captions" if file_extension(name).lower() in endings else "other"


def _classify_other(entry: os.DirEntry[str], endings: tuple[str, ...]) -> str:
    """The kind of anything but a plain image or caption; empty for what does not matter here."""
    name, ending = entry.name, file_extension(entry.name)
    if name.startswith("."):
        hidden = os.path.normcase(file_extension(name[1:])) in GLOBBED_EXTENSIONS and not name.startswith(
            "._"
        )  # macOS' own files
        return "hidden" if hidden else ""
    if name.lower().endswith(endings):  # an extension with more than one dot
        return "captions"
    if is_folder_entry(entry):
        return "" if name.lower() in SYSTEM_FOLDERS else "folders"
    if ending.lower() in ALL_IMAGE_EXTENSIONS:
        return "ignored"
    return "caches" if name.endswith(CACHE_EXTENSION) else "unknown"


def is_folder_entry(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def _describe_problem(error: OSError | ValueError) -> str:
    match error:
        case FileNotFoundError():
            return "missing"
        case NotADirectoryError():
            return "not a folder"
        case PermissionError():
            return "not permitted"
        case OSError(errno=errno.ELOOP):
            return "a link to itself"
        case _:
            return str(error)


def file_extension(name: str) -> str:
    """As ``os.path.splitext`` has it for a file name, at a fraction of its cost."""
    dot = name.rfind(".")
    return name[dot:] if dot > 0 else ""


def file_stem(name: str) -> str:
    dot = name.rfind(".")
    return name[:dot] if dot > 0 else name


MAX_SUBFOLDERS = 1000  # that are looked into below one image folder


def list_image_folders(listing: FolderListing, depth: int = 2) -> tuple[str, ...]:
    """The subfolders with images, by their paths from the folder, down to ``depth`` levels: Character/1_Outfit. Each
    once: a link may lead to one of them, or to one above."""
    found, left = {os.path.realpath(listing.root): ""}, MAX_SUBFOLDERS
    ahead = [(name, 1) for name in reversed(listing.folders)]
    while ahead and left:
        path, level = ahead.pop()
        left -= 1
        whole = os.path.join(listing.root, path)  # noqa: PTH118 - text, and quick
        if has_images(whole):
            found.setdefault(os.path.realpath(whole), path)
        if level < depth:
            ahead += [(f"{path}/{name}", level + 1) for name in reversed(_list_subfolders(whole))]
    return tuple(path for path in found.values() if path)


def _list_subfolders(folder: str) -> list[str]:
    try:
        with os.scandir(folder) as entries:
            names = (entry.name for entry in entries if entry.name[0] != "." and is_folder_entry(entry))
            return sorted(name for name in names if name.lower() not in SYSTEM_FOLDERS)
    except OSError:
        return []


def has_images(folder: str) -> bool:
    try:
        with os.scandir(folder) as entries:
            return any(
                os.path.normcase(file_extension(entry.name)) in GLOBBED_EXTENSIONS and not entry.name.startswith(".")
                for entry in entries
            )
    except OSError:
        return False


class UnmatchedCaptions(NamedTuple):
    """Caption files that no image reads: see FolderFacts."""

    orphans: tuple[str, ...] = ()
    miscased: tuple[str, ...] = ()
    others: tuple[str, ...] = ()


def find_unmatched_captions(
    found: FolderListing, caption_extension: str, missing: frozenset[str], borrowed: frozenset[str]
) -> UnmatchedCaptions:
    """``missing``: images without a caption; ``borrowed``: names of captions that other images read."""
    stems = set(map(file_stem, found.images))
    passed_over = set(map(file_stem, (*found.ignored, *found.hidden)))  # reported as such, and their captions with them
    own = {one + caption_extension for one in stems | passed_over}
    wanted = {(file_stem(name) + caption_extension).lower() for name in missing}
    orphans, miscased, others = list[str](), list[str](), list[str]()
    for name in sorted(set(found.captions) - own - borrowed):
        if not is_file_stamp(found.stamps.get(name)):
            continue
        if name.lower() in wanted:
            miscased.append(name)
        elif name.endswith(caption_extension):
            orphans.append(name)
        elif file_stem(name) in stems and not name.lower().endswith(caption_extension.lower()):
            others.append(name)
    if len(missing) == len(found.images) and not others:
        others = _find_foreign_captions(found, stems)
    return UnmatchedCaptions(tuple(orphans), tuple(miscased), tuple(others))


def _find_foreign_captions(found: FolderListing, stems: set[str]) -> list[str]:
    """Text files named like the images, with an extension that no program is known for (.cap)."""
    named = [name for name in found.unknown if file_stem(name) in stems]
    extensions = Counter(file_extension(name) for name in named)
    for extension, count in extensions.most_common():
        if extension and extension.lower() not in SIDECAR_EXTENSIONS and 2 * count >= len(found.images):
            names = [name for name in named if file_extension(name) == extension]
            if _is_short_text(f"{found.root}{os.sep}{names[0]}"):
                return names
    return []


def _is_short_text(path: str) -> bool:
    with suppress(OSError, ValueError):
        text = read_bytes(path, MAX_TEXT_BYTES).decode("utf-8")
        return "\0" not in text and not text.startswith(("<?", "<!"))
    return False
