"""Reads an image folder as sd-scripts would see it: headers and captions, one pass, nothing written.

The order and the choice of files are those of TU:104 and TU:2847-2856 at the pin: not recursive, a fixed list
of extensions, sorted by name. A bad file is a fact, never an exception.
"""

from __future__ import annotations

import os
import warnings
from pathlib import Path

from PIL import Image, UnidentifiedImageError

from lorabake.reading import captions
from lorabake_schemas.dataset import FolderFacts, ImageFacts, repeat_folder

_LOWER = (".png", ".jpg", ".jpeg", ".webp", ".bmp")
# Globbing is case-blind on Windows and exact elsewhere: .Jpg is seen there only.
_SEEN = frozenset(os.path.normcase(spelling) for ext in _LOWER for spelling in (ext, ext.upper()))
_LOOK_ALIKE = frozenset(
    (*_LOWER, ".gif", ".tif", ".tiff", ".jfif", ".heic", ".heif", ".avif", ".jxl", ".jpe", ".apng", ".jp2")
)


def scan(folder: Path, caption_extension: str) -> FolderFacts:
    """All facts about one image folder, whose captions end in ``caption_extension`` (with its dot).

    Never raises for what is on the disk: a folder that cannot be read has ``problem`` set and no images. The
    five-underscore rule for captions is applied to the absolute path.
    """
    root = os.path.abspath(folder)  # noqa: PTH100 - captions.legacy_path needs the path as sd-scripts gets it
    try:
        with os.scandir(root) as entries:
            found = [(entry.name, _is_folder(entry)) for entry in entries]
    except (OSError, ValueError) as error:
        return FolderFacts(root, problem=_folder_problem(error))
    # glob matches by name alone, so a folder called x.png counts as an image: it fails later, with a fact
    names = sorted(name for name, _ in found if _is_seen(name))
    folders = sorted(name for name, is_dir in found if is_dir and not _is_seen(name))
    holding = tuple(name for name in folders if _holds_images(os.path.join(root, name)))  # noqa: PTH118
    return FolderFacts(
        path=root,
        images=_images(root, names, caption_extension),
        ignored=tuple(sorted(name for name, is_dir in found if not is_dir and _is_look_alike(name))),
        subfolders=holding,
        repeat_folders=tuple(name for name in holding if repeat_folder(name) is not None),
        caches=tuple(sorted(name for name, is_dir in found if name.endswith(".npz") and not is_dir)),
    )


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def _folder_problem(error: OSError | ValueError) -> str:
    match error:
        case FileNotFoundError():
            return "missing"
        case NotADirectoryError():
            return "not a folder"
        case PermissionError():
            return "not permitted"
        case _:
            return str(error)


def _extension(name: str) -> str:
    dot = name.rfind(".")
    return name[dot:] if dot > 0 else ""


def _is_seen(name: str) -> bool:
    return os.path.normcase(_extension(name)) in _SEEN and not name.startswith(".")


def _is_look_alike(name: str) -> bool:
    return not _is_seen(name) and not name.startswith(".") and _extension(name).lower() in _LOOK_ALIKE


def _holds_images(folder: str) -> bool:
    try:
        with os.scandir(folder) as entries:
            return any(_is_seen(entry.name) for entry in entries)
    except OSError:
        return False


def _images(root: str, names: list[str], caption_extension: str) -> tuple[ImageFacts, ...]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow warns of large or odd pictures that train all the same
        return tuple(_image(root, name, caption_extension) for name in names)


def _image(root: str, name: str, caption_extension: str) -> ImageFacts:
    path = os.path.join(root, name)  # noqa: PTH118 - no Path objects in a loop over 100,000 files
    caption = captions.read(path, caption_extension)
    try:
        with Image.open(path) as image:
            width, height = image.size
            alpha = "A" in image.mode or "a" in image.mode or "transparency" in image.info
            seen = (width - 1, height - 1) if image.format == "WEBP" and _is_extended_webp(path) else None
            return ImageFacts(name, width, height, image.mode, alpha=alpha, seen=seen, caption=caption)
    except Exception as error:  # noqa: BLE001 - a damaged header raises almost anything out of Pillow's readers
        return ImageFacts(name, problem=_image_problem(error, path), caption=caption)


def _is_extended_webp(path: str) -> bool:
    """Such files store width - 1 and height - 1, and imagesize 1.4.1, the pin's header reader, adds nothing."""
    with open(path, "rb", buffering=0) as file:  # noqa: PTH123 - as above
        return file.read(16)[12:] == b"VP8X"


def _image_problem(error: Exception, path: str) -> str:
    match error:
        case UnidentifiedImageError():
            empty = os.path.getsize(path) == 0  # noqa: PTH202 - as above
            return "the file is empty" if empty else "not an image, whatever its name says"
        case Image.DecompressionBombError():
            return "so many pixels that Pillow, which sd-scripts reads with, refuses to open it"
        case IsADirectoryError():
            return "a folder with the name of an image"
        case FileNotFoundError():
            return "a link that leads nowhere"
        case PermissionError():
            return "no permission to read it"
        case _:
            return f"its header cannot be read ({error})"


__all__ = ["scan"]
