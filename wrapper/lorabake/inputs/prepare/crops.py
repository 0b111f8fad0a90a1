"""A list of crops: which parts of which images become images of their own (G2.11). CSV or TOML.

    image,left,top,right,bottom,caption,tags
    sheet.png,0,0,512,1024,,"from front, full body"

    [[crop]]
    image = "sheet.png"
    box = [0, 0, 512, 1024]
    tags = "from front"

Pixels count in the image as it is shown, its EXIF rotation applied. A row without a box keeps the whole image, too.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from lorabake.errors import RecipeError
from lorabake.recipe.positions import find_key_positions, find_position
from lorabake.util.files import read_text, read_toml, reason
from lorabake_schemas.messages import Message, literal, msg, shorten_list

CROPS_LIMIT = 16 << 20  # bytes
SIDES = ("left", "top", "right", "bottom")
CSV_KEYS = ("image", *SIDES, "caption", "tags")
TOML_KEYS = ("image", "box", "caption", "tags")
MIN_SIDE = 32  # pixels; nothing can be learned from less
Box = tuple[int, int, int, int]


@dataclass(frozen=True, slots=True)
class Crop:
    """A part of an image: left, top, right, bottom in pixels; None for all of it. ``place`` is where it is listed."""

    image: str
    box: Box | None
    caption: str | None
    tags: tuple[str, ...]
    place: Message


def read_crops(path: Path) -> tuple[Crop, ...]:
    """Raises RecipeError for a file that cannot be read or an entry that is not one."""
    try:
        rows = list(_iter_toml(path) if path.suffix.lower() == ".toml" else _iter_csv(path))
    except OSError as error:
        raise RecipeError(msg("cannot read {path}: {why}", path=path, why=reason(error))) from error
    except UnicodeDecodeError as error:
        raise RecipeError(
            msg("{path}: {why}", path=path, why=msg("it is not UTF-8")), hint=msg("save it as UTF-8")
        ) from error
    except ValueError as error:
        raise RecipeError(msg("{path}: {why}", path=path, why=literal(str(error)))) from error
    if not rows:
        raise RecipeError(msg("{path}: it lists no crops", path=path))
    found = dict[tuple[str, Box | None], Crop]()
    for crop in (_read_crop(row, place) for row, place in rows):
        if (crop.image, crop.box) in found:
            raise RecipeError(
                msg("{place}: the same part of {image} is listed twice", place=crop.place, image=crop.image),
                hint=msg("remove one of them"),
            )
        found[crop.image, crop.box] = crop
    return tuple(found.values())


def _iter_csv(path: Path) -> Iterator[tuple[Mapping[str, Any], Message]]:
    """Separated by commas or, as spreadsheets do where numbers have decimal commas, by semicolons."""
    text = read_text(path, CROPS_LIMIT).removeprefix("\ufeff")
    first = text.partition("\n")[0]
    table = csv.reader(io.StringIO(text), strict=True, delimiter=";" if ";" in first and "," not in first else ",")
    try:
        names = [name.strip() for name in next(table, list[str]())]
        _refuse_unknown(msg("{path}, line {line}", path=path, line=1), names, CSV_KEYS)
        if len(set(names)) < len(names):
            raise RecipeError(msg("{path}, line {line}: a column is given twice", path=path, line=1))
        if "image" not in names:
            raise RecipeError(
                msg("{path}: the first line has no column called image", path=path),
                hint=msg("write image,left,top,right,bottom,caption,tags as the first line"),
            )
        for row in filter(None, table):
            place = msg("{path}, line {line}", path=path, line=table.line_num)
            if len(row) > len(names):
                raise RecipeError(
                    msg("{place}: more values than columns", place=place),
                    hint=msg('write texts with commas in "quotes"'),
                )
            values = {key: value for key, value in zip(names, row, strict=False) if value.strip()}
            sides = [values.get(side) for side in SIDES]
            box = [_to_int(side) for side in sides] if any(side is not None for side in sides) else None
            yield {**values, "box": box}, place
    except csv.Error as error:
        place = msg("{path}, line {line}", path=path, line=table.line_num)
        raise RecipeError(
            msg("{place}: a quote is missing or in the wrong place", place=place),
            hint=msg('write texts with commas in "quotes"'),
        ) from error


def _to_int(text: str | None) -> object:
    try:
        return int((text or "").strip())
    except ValueError:
        return text


def _iter_toml(path: Path) -> Iterator[tuple[Mapping[str, Any], Message]]:
    content = read_toml(path, CROPS_LIMIT)
    lines = find_key_positions(read_text(path, CROPS_LIMIT))
    _refuse_unknown(path, content, ("crop",))
    entries: object = content.get("crop")
    if not isinstance(entries, list):
        raise RecipeError(msg("{path}: it has no [[crop]]", path=path))
    for number, entry in enumerate(cast("list[object]", entries)):
        line, _ = find_position(lines, ("crop", number)) or (1, 1)
        place = msg("{path}, line {line}", path=path, line=line)
        if not isinstance(entry, dict):
            raise RecipeError(msg("{place}: it is not a table", place=place))
        _refuse_unknown(place, cast("dict[str, Any]", entry), TOML_KEYS)
        yield cast("dict[str, Any]", entry), place


def _refuse_unknown(place: Message | Path, names: Iterable[str], known: Sequence[str]) -> None:
    """Raises RecipeError for keys or columns that have no effect."""
    unknown = [name for name in names if name not in known]
    if unknown:
        raise RecipeError(
            msg("{place}: unknown key or column: {names}", place=place, names=shorten_list(unknown, 3, _quote)),
            hint=msg("use {names}", names=", ".join(known)),
        )


def _quote(name: str) -> Message:
    return literal(f'"{name}"')


def _read_crop(row: Mapping[str, Any], place: Message) -> Crop:
    image, caption, tags = row.get("image"), row.get("caption"), row.get("tags")
    if not isinstance(image, str) or not image.strip():
        raise RecipeError(msg("{place}: image is missing", place=place))
    if isinstance(tags, list):
        tags = ", ".join(map(str, cast("list[object]", tags)))
    if not (caption is None or isinstance(caption, str)) or not (tags is None or isinstance(tags, str)):
        raise RecipeError(msg("{place}: caption and tags have to be text", place=place))
    words = tuple(tag.strip() for tag in (tags or "").split(",") if tag.strip())
    return Crop(image.strip(), _read_box(row.get("box"), place), caption, words, place)


def _read_box(box: object, place: Message) -> Box | None:
    if box is None:
        return None
    sides = cast("list[object]", box) if isinstance(box, list) else []
    whole = [side for side in sides if isinstance(side, int) and not isinstance(side, bool)]
    if len(sides) != 4 or len(whole) != 4:
        raise RecipeError(
            msg("{place}: the box is not four whole numbers", place=place),
            hint=msg("write left, top, right and bottom in pixels"),
        )
    left, top, right, bottom = whole
    if left < 0 or top < 0 or right - left < MIN_SIDE or bottom - top < MIN_SIDE:
        raise RecipeError(
            msg("{place}: the box is smaller than {n} x {n} pixels", place=place, n=MIN_SIDE)
            if left >= 0 and top >= 0
            else msg("{place}: the box starts outside of the image", place=place)
        )
    return left, top, right, bottom
