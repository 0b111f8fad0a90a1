"""Which of the checkpoints on this machine a LoRA was trained on: by the name in its metadata and by both hashes.

``ss_sd_model_hash`` is of 64 KiB at the first MiB (train_util.py:3222) and only a hint, since models that were made
from each other may be equal there; ``ss_new_sd_model_hash`` is the SHA-256 of the file.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from lorabake.util.files import is_file, is_folder, open_file
from lorabake.util.hashing import digest_file
from lorabake_schemas.inspection import BaseModelInfo
from lorabake_schemas.messages import Message, literal, msg, shorten_list

CHECKPOINT_EXTENSIONS = (".safetensors", ".ckpt")
_MAX_DEPTH = 3  # model folders of the web UIs have a folder for each family
_MAX_ENTRIES = 20_000
_MAX_NAMED = 4
_MAX_HASHED = 3  # checkpoints are large
_SAMPLE_START, _SAMPLE_SIZE = 0x100000, 0x10000
_SMALLEST = 100_000_000  # bytes: no checkpoint is smaller, and many a LoRA is


class FoundBase(NamedTuple):
    """A checkpoint or a diffusers folder, and how sure it is that it is the one."""

    path: Path
    how: Message
    sure: bool


def find_base_model(wanted: BaseModelInfo, places: Iterable[Path], *, smallest: int = _SMALLEST) -> FoundBase | None:
    """The base model in one of the folders: the same bytes if there are such, else the same name.

    Only names are compared with what the metadata has: no path in them is followed. Never raises for what is on the
    disk. A file of the right name is hashed completely, which takes seconds for each gigabyte.
    """
    name = (wanted.name or "").replace("\\", "/").rpartition("/")[2].casefold()
    entries = list(_iter_models(places, smallest))
    stem = name.removesuffix(Path(name).suffix) if Path(name).suffix in CHECKPOINT_EXTENSIONS else name
    same = [path for path in entries if name and name in {path.name.casefold(), path.stem.casefold()}]
    named = same or [path for path in entries if stem and stem == path.stem.casefold()]
    if wanted.is_folder:
        return FoundBase(named[0], msg("same name, but not verified: a folder has no hash"), False) if named else None
    files = [path for path in entries if path not in named and is_file(path)]
    alike = [path for path in files if wanted.short_hash and read_short_hash(path) == wanted.short_hash]
    for path in [*named, *alike][:_MAX_HASHED]:
        if wanted.sha256 and is_file(path) and hash_file(path) == wanted.sha256:
            return FoundBase(path, msg("its SHA-256 is the recorded one"), True)
    if not named:
        return None
    return FoundBase(named[0], _judge_name(named[0], wanted), False)


def list_models(place: Path) -> list[Path]:
    """The checkpoints and diffusers folders in a folder that the user named."""
    return list(_iter_models([place], 0))


def describe_search(place: Path) -> Message:
    """What is in a folder that the user named, in which the model was not found by name or hash."""
    found = list_models(place)
    if not found:
        return msg("there is no base model in {folder}; --model FILE names it", folder=str(place))
    names = shorten_list(found, _MAX_NAMED, lambda path: literal(path.name))
    said = msg("no model in {folder} has its name or hash; there are: {names}", folder=str(place), names=names)
    return msg("{said}; --model FILE names one", said=said)


def _judge_name(path: Path, wanted: BaseModelInfo) -> Message:
    if wanted.sha256 and is_file(path):
        return msg("it has the same name, but another SHA-256 than the recorded one: another version")
    if wanted.short_hash and is_file(path) and read_short_hash(path) != wanted.short_hash:
        return msg("it has the same name, but another hash than the recorded one: another version")
    return msg("same name, but not verified: the metadata has no hash")


def _iter_models(places: Iterable[Path], smallest: int) -> Iterator[Path]:
    """Checkpoints and diffusers folders in these folders, and in those below them; no links are followed."""
    seen = 0
    waiting = [(place, 0) for place in dict.fromkeys(places)]
    while waiting:
        folder, depth = waiting.pop(0)
        try:
            entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
        except OSError:
            continue
        for entry in entries:
            seen += 1
            if seen > _MAX_ENTRIES:
                return
            path = Path(entry.path)
            with suppress(OSError):
                if entry.is_dir(follow_symlinks=False):
                    if is_file(path / "model_index.json"):
                        yield path
                    elif depth < _MAX_DEPTH and not entry.name.startswith("."):
                        waiting.append((path, depth + 1))
                elif path.suffix.lower() in CHECKPOINT_EXTENSIONS and entry.stat().st_size >= smallest:
                    yield path


def hash_file(path: Path) -> str | None:
    """The SHA-256 of a file; None if it cannot be read."""
    try:
        return digest_file(path, path.name).sha256
    except OSError:
        return None


def read_short_hash(path: Path) -> str | None:
    """sd-scripts' old hash of a file; None if it cannot be read."""
    try:
        with open_file(path) as file:
            file.seek(_SAMPLE_START)
            return hashlib.sha256(file.read(_SAMPLE_SIZE)).hexdigest()[:8]
    except OSError:
        return None


def is_model_folder(path: Path) -> bool:
    """Whether a folder is a model in diffusers format, and not a folder of models."""
    return is_folder(path) and is_file(path / "model_index.json")
