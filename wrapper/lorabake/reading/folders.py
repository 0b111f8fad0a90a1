"""What lies in an image folder, by name: pictures as sd-scripts globs them, and everything that it passes over.

The choice and the order are those of TU:104 and TU:2847-2856 at the pin: not recursive, a fixed list of extensions,
sorted by name.
"""

from __future__ import annotations

import errno
import os
from dataclasses import dataclass, field

from lorabake.reading.fact_store import is_file, stamp_of

LOWER = (".png", ".jpg", ".jpeg", ".webp", ".bmp")
# Globbing is case-blind on Windows and exact elsewhere: .Jpg is seen there only.
SEEN = frozenset(os.path.normcase(spelling) for ext in LOWER for spelling in (ext, ext.upper()))
LOOK_ALIKE = frozenset(
    (*LOWER, ".gif", ".tif", ".tiff", ".jfif", ".heic", ".heif", ".avif", ".jxl", ".jpe", ".apng", ".jp2")
)
CAPTIONS = (".txt", ".caption", ".tags")  # endings that captions have in other programs


@dataclass(frozen=True, slots=True)
class Listing:
    """The names in a folder. ``root`` is its absolute path, ``identity`` its device and inode.

    ``stamps`` are those of pictures and caption files, links followed; a name that has none there leads nowhere.
    ``problem`` is why the folder could not be read.
    """

    root: str
    identity: str = ""
    pictures: tuple[str, ...] = ()
    stamps: dict[str, str] = field(default_factory=dict[str, str])
    ignored: tuple[str, ...] = ()
    hidden: tuple[str, ...] = ()
    folders: tuple[str, ...] = ()
    caches: tuple[str, ...] = ()
    captions: tuple[str, ...] = ()
    problem: str | None = None


def listing(folder: str | os.PathLike[str], caption_extension: str) -> Listing:
    """The names in a folder, sorted. Never raises for what is on the disk."""
    root = os.path.abspath(folder)  # noqa: PTH100 - captions.legacy_path needs the path as sd-scripts gets it
    kinds: dict[str, list[str]] = {kind: [] for kind in KINDS}
    stamps: dict[str, str] = {}
    by_ending: dict[str, str] = {}
    endings = (*CAPTIONS, caption_extension.lower())
    try:
        own = os.stat(root)  # noqa: PTH116 - as above
        with os.scandir(root) as entries:
            for entry in entries:
                name = entry.name
                kind = by_ending.get(name[name.rfind(".") :])
                if kind is None:
                    kind = by_ending[name[name.rfind(".") :]] = _kind_of(name, endings)
                if kind == "other" or name[0] == ".":
                    kind = _other_kind(entry, endings)
                kinds[kind].append(name)
                if kind in STAMPED:
                    try:
                        stamps[name] = stamp_of(entry.stat(), name)
                    except OSError:  # a link that leads nowhere, or to itself
                        continue
    except (OSError, ValueError) as error:
        return Listing(root, problem=_problem(error))
    pictures, ignored, hidden, folders, caches, captions, _ = (tuple(sorted(kinds[kind])) for kind in KINDS)
    identity = f"{own.st_dev}:{own.st_ino}"
    return Listing(root, identity, pictures, stamps, ignored, hidden, folders, caches, captions)


KINDS = ("pictures", "ignored", "hidden", "folders", "caches", "captions", "")
STAMPED = frozenset({"pictures", "captions"})


def _kind_of(name: str, endings: tuple[str, ...]) -> str:
    """A file's kind, which for pictures and most captions its ending alone decides."""
    if os.path.normcase(extension(name)) in SEEN:  # glob goes by name alone: a folder called x.png counts as a picture
        return "pictures"
    return "captions" if extension(name).lower() in endings else "other"


def _other_kind(entry: os.DirEntry[str], endings: tuple[str, ...]) -> str:
    """The kind of what is no plain picture or caption; empty for what does not matter here."""
    name, ending = entry.name, extension(entry.name)
    if name.startswith("."):
        hidden = os.path.normcase(extension(name[1:])) in SEEN and not name.startswith("._")  # macOS' own files
        return "hidden" if hidden else ""
    if name.lower().endswith(endings):  # an ending with more than one dot
        return "captions"
    if is_folder(entry):
        return "folders"
    if ending.lower() in LOOK_ALIKE:
        return "ignored"
    return "caches" if name.endswith(".npz") else ""


def is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def _problem(error: OSError | ValueError) -> str:
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


def extension(name: str) -> str:
    """As ``os.path.splitext`` has it for a file name, at a fraction of its cost."""
    dot = name.rfind(".")
    return name[dot:] if dot > 0 else ""


def stem(name: str) -> str:
    dot = name.rfind(".")
    return name[:dot] if dot > 0 else name


def holds_pictures(folder: str) -> bool:
    try:
        with os.scandir(folder) as entries:
            return any(
                os.path.normcase(extension(entry.name)) in SEEN and not entry.name.startswith(".") for entry in entries
            )
    except OSError:
        return False


@dataclass(frozen=True, slots=True)
class Strays:
    """Caption files that no picture reads: see FolderFacts."""

    orphans: tuple[str, ...] = ()
    miscased: tuple[str, ...] = ()
    others: tuple[str, ...] = ()


def strays(found: Listing, caption_extension: str, missing: frozenset[str], borrowed: frozenset[str]) -> Strays:
    """``missing``: pictures without a caption; ``borrowed``: names of captions that other pictures read."""
    stems = set(map(stem, found.pictures))
    passed_over = set(map(stem, (*found.ignored, *found.hidden)))  # told as such, and their captions with them
    own = {one + caption_extension for one in stems | passed_over}
    wanted = {(stem(name) + caption_extension).lower() for name in missing}
    orphans, miscased, others = list[str](), list[str](), list[str]()
    for name in sorted(set(found.captions) - own - borrowed):
        if not is_file(found.stamps.get(name)):
            continue
        if name.lower() in wanted:
            miscased.append(name)
        elif name.endswith(caption_extension):
            orphans.append(name)
        elif stem(name) in stems and not name.lower().endswith(caption_extension.lower()):
            others.append(name)
    return Strays(tuple(orphans), tuple(miscased), tuple(others))


__all__ = ["Listing", "Strays", "extension", "holds_pictures", "listing", "stem", "strays"]
