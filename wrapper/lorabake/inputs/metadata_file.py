"""Captions in one metadata file, as sd-scripts' fine-tuning datasets read it (TU:2240-2365 at the pin).

A JSON object with an entry for each image, or JSON lines with an ``image_path`` each. A name is a path that is
absolute or relative to the folder of the images, with its extension; ``caption`` and ``tags`` are joined.
"""

from __future__ import annotations

import os
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple, cast

from lorabake.inputs.captions import cut_text, expand_caption
from lorabake.inputs.folders import METADATA_EXTENSIONS, FolderListing, file_stem
from lorabake.util.fact_cache import make_stamp
from lorabake.util.files import is_file, parse_json, read_bytes, read_toml, reason
from lorabake_schemas.bucket_fit import Size
from lorabake_schemas.caches import CACHE_INFO_FILE
from lorabake_schemas.dataset import (
    MAX_CAPTION_BYTES,
    CaptionFacts,
    CaptionProblem,
    ImageFacts,
    MetadataFacts,
    MetadataOffer,
)
from lorabake_schemas.messages import msg
from lorabake_schemas.values import MAX_SIDE

METADATA_LIMIT = 256 << 20  # bytes
OFFER_LIMIT = 16 << 20  # bytes of a file that is only read because it exists
MAX_FILES_OFFERED = 8  # that are opened to see whether they have captions
SEPARATOR = ","


class MetadataEntry(NamedTuple):
    """An image by its name in the file, its caption, and its size if the file has it."""

    name: str
    caption: CaptionFacts
    size: Size | None


@dataclass(frozen=True, slots=True)
class MetadataContent:
    """The entries in sd-scripts' order, the longest names first; none where it would stop at the file."""

    entries: tuple[MetadataEntry, ...] = ()
    problem: str | None = None


def read_metadata_file(path: Path, *, wildcard: bool = False, separator: str = SEPARATOR) -> MetadataContent:
    """Never raises for what is on the disk."""
    try:
        table = load_metadata_table(path)
        entries = [_read_entry(name, entry, wildcard, separator) for name, entry in table.items()]
    except OSError as error:
        return MetadataContent(problem=reason(error))
    except ValueError as error:
        return MetadataContent(problem=str(error))
    if not entries:
        return MetadataContent(problem=msg("it has no images"))
    return MetadataContent(tuple(sorted(entries, key=lambda entry: len(entry.name), reverse=True)))


@dataclass(frozen=True, slots=True)
class MetadataImages:
    """A folder with the images of a metadata file instead of those in the folder: their captions and sizes, in
    order.

    Names are relative to the folder, whatever they are in the file.
    """

    listing: FolderListing
    captions: tuple[CaptionFacts, ...]
    sizes: tuple[Size | None, ...]
    facts: MetadataFacts

    def apply_sizes(self, images: Sequence[ImageFacts]) -> tuple[list[ImageFacts], MetadataFacts]:
        """The images with the sizes that sd-scripts believes, and the facts with those that are wrong."""
        pairs = list(zip(images, self.sizes, strict=True))
        wrong = [each.name for each, size in pairs if size and not each.problem and size != (each.width, each.height)]
        return (
            [each._replace(seen=size) if size else each for each, size in pairs],
            replace(self.facts, missized=tuple(wrong)),
        )


def list_metadata_images(names: FolderListing, path: Path, *, wildcard: bool) -> MetadataImages:
    """The images of the folder ``names`` that a metadata file has. Never raises for what is on the disk."""
    content = read_metadata_file(path, wildcard=wildcard)
    stamps, kept, missing = dict(names.stamps), list[tuple[str, MetadataEntry]](), list[str]()
    for entry in content.entries:
        name = os.path.relpath(entry.name, names.root) if Path(entry.name).is_absolute() else entry.name
        with suppress(OSError, ValueError):
            stamps[name] = make_stamp(os.stat(os.path.join(names.root, name)), name)  # noqa: PTH116, PTH118 - many
            kept.append((name, entry))
            continue
        missing.append(entry.name)
    listed, stems = {name for name, _ in kept}, set(map(file_stem, names.images))
    unsized = [name for name, entry in kept if Path(entry.name).is_absolute() and not entry.size]
    caches = sorted(names.caches)
    cached = [name for name in unsized if _has_prefix(caches, file_stem(name))]
    facts = MetadataFacts(
        str(path),
        problem=content.problem,
        count=len(content.entries),
        missing=tuple(missing),
        stems=sum(name in stems for name in missing),
        unlisted=tuple(name for name in names.images if name not in listed),
        cached=tuple(cached),
    )
    listing = replace(names, images=tuple(name for name, _ in kept), stamps=stamps)
    captions, sizes = tuple(entry.caption for _, entry in kept), tuple(entry.size for _, entry in kept)
    return MetadataImages(listing, captions, sizes, facts)


def _has_prefix(names: Sequence[str], start: str) -> bool:
    """Whether one of these sorted names starts so."""
    at = bisect_left(names, start)
    return at < len(names) and names[at].startswith(start)


def load_metadata_table(path: Path, limit: int = METADATA_LIMIT) -> Mapping[str, object]:
    """The entries by name, as they are in the file. Raises OSError, ValueError for what is no such file."""
    data = read_bytes(path, limit)
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        raise ValueError(msg("it is not UTF-8")) from None
    if path.name.endswith(".jsonl"):
        return _load_lines(text)
    try:
        table = parse_json(text)
    except ValueError:
        raise ValueError(msg("it is not JSON")) from None
    if not isinstance(table, dict):
        raise ValueError(msg("it is not an object with an entry for each image"))  # noqa: TRY004 - as above
    return cast("dict[str, object]", table)


def _load_lines(text: str) -> Mapping[str, object]:
    table: dict[str, object] = {}
    for number, line in enumerate(text.removesuffix("\n").split("\n"), start=1):
        entry: object = None
        with suppress(ValueError):
            entry = parse_json(line)
        found = cast("dict[str, object]", entry) if isinstance(entry, dict) else {}
        name = found.get("image_path")
        if not isinstance(name, str):
            raise ValueError(msg("line {n} is not an object with an image_path", n=number))  # noqa: TRY004 - as above
        table[name] = {key: found[key] for key in ("caption", "tags", "image_size") if key in found}
    return table


def _read_entry(name: str, entry: object, wildcard: bool, separator: str) -> MetadataEntry:
    """Raises ValueError for what would stop sd-scripts."""
    if not isinstance(entry, dict):
        raise ValueError(msg('the entry of "{name}" is not an object', name=name))  # noqa: TRY004 - as above
    fields = cast("dict[str, Any]", entry)
    caption, tags = fields.get("caption") or "", fields.get("tags")
    if not isinstance(caption, str) or not (tags is None or isinstance(tags, str)):
        raise ValueError(msg('the caption or the tags of "{name}" are not text', name=name))
    return MetadataEntry(name, _join_caption(caption, tags, wildcard, separator), _read_size(name, fields))


def _join_caption(caption: str, tags: str | None, wildcard: bool, separator: str) -> CaptionFacts:
    """Caption and tags as one (TU:2316-2337); without lines of a caption, enable_wildcard loses the tags."""
    size = len(caption) + len(tags or "")
    if 4 * size > MAX_CAPTION_BYTES and (cut_text(caption), cut_text(tags or "")) != (caption, tags or ""):
        kept = _join_caption(cut_text(caption), cut_text(tags) if tags is not None else None, wildcard, separator)
        return kept._replace(problem=CaptionProblem.TOO_LARGE)
    if wildcard:
        end = f"{separator}{tags}".replace("\n", separator) if tags is not None else ""
        lines = [f"{line}{end}".strip() for line in caption.split("\n") if line.strip()]
        return expand_caption(lines) if lines else CaptionFacts(problem=CaptionProblem.MISSING)
    whole = separator.join(part for part in (caption, tags) if part)
    first, *others = whole.split("\n")
    if not first.strip():
        return CaptionFacts(problem=CaptionProblem.BLANK if others else CaptionProblem.MISSING)
    return CaptionFacts(first.strip(), CaptionProblem.MORE_LINES if any(map(str.strip, others)) else None)


def _read_size(name: str, fields: Mapping[str, Any]) -> Size | None:
    """The size that sd-scripts believes instead of looking at the image (TU:2344)."""
    size = fields.get("image_size")
    if size is None:
        return None
    if isinstance(size, list):
        sides = cast("list[object]", size)
        whole = [side for side in sides if isinstance(side, int) and not isinstance(side, bool)]
        if len(sides) == len(whole) == 2 and all(0 < side <= MAX_SIDE * 16 for side in whole):
            return whole[0], whole[1]
    raise ValueError(msg('image_size of "{name}" is not [width, height]', name=name))


def find_metadata_file(root: Path, folders: Iterable[Path], images: Iterable[str]) -> MetadataOffer | None:
    """A file in one of these folders that has captions for at least half of the images in ``root``, by name or stem."""
    names = set(images)
    wanted = names | set(map(file_stem, names))
    for path in _list_candidates(folders):
        with suppress(OSError, ValueError):
            table = load_metadata_table(path, OFFER_LIMIT)
            captioned = [name for name, entry in table.items() if _has_caption(entry)]
            fits = 2 * len({Path(name).name for name in captioned} & wanted) >= len(names)
            if fits and not is_of_other_images(path, root):
                return MetadataOffer(str(path), all(is_file(root / name) for name in table))
    return None


def is_of_other_images(path: Path, root: Path) -> bool:
    """Whether recipes next to a metadata file use it, none of them for the images in ``root``: images in another folder
    may have the same names."""
    users = {os.path.realpath(images) for images in _list_users(path)}
    return bool(users) and os.path.realpath(root) not in users


def _list_users(path: Path) -> Iterator[Path]:
    """The folders whose captions are in a metadata file, as the recipes next to it have them."""
    with suppress(OSError):
        for name in sorted(os.listdir(path.parent)):  # noqa: PTH208 - names alone
            if name.endswith(".toml"):
                with suppress(OSError, ValueError):
                    yield from _read_users(path, read_toml(path.parent / name).get("concept"))


def _read_users(path: Path, concepts: object) -> Iterator[Path]:
    for concept in cast("list[object]", concepts) if isinstance(concepts, list) else ():
        fields = cast("dict[str, object]", concept) if isinstance(concept, dict) else {}
        file, images = fields.get("metadata_file"), fields.get("images")
        if isinstance(file, str) and isinstance(images, str) and _is_same(path.parent / file, path):
            yield path.parent / images


def _is_same(one: Path, two: Path) -> bool:
    return os.path.realpath(one) == os.path.realpath(two)


def _has_caption(entry: object) -> bool:
    return isinstance(entry, dict) and ("caption" in entry or "tags" in entry)


def _list_candidates(folders: Iterable[Path]) -> list[Path]:
    found = list[Path]()
    for folder in dict.fromkeys(folders):
        with suppress(OSError):
            names = sorted(os.listdir(folder))  # noqa: PTH208 - names alone
            found += [
                folder / name
                for name in names
                if name.lower().endswith(METADATA_EXTENSIONS) and name != CACHE_INFO_FILE
            ]
    return found[:MAX_FILES_OFFERED]
