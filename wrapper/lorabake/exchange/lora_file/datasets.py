"""The images that a LoRA was trained on, as far as its metadata has them: folders by name, repeats, sizes, tags.

sd-scripts writes ``ss_datasets`` for a dataset configuration (train_network.py:1069-1152), and single keys for folders
that were given by flags (:1153-1196). Neither has the place of a folder, a caption or an image.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, cast

from lorabake.exchange.convert import fit_dataset_key, list_dataset_keys, to_numbers
from lorabake.exchange.foreign import ForeignDataset, ForeignSubset, Given
from lorabake.lora.metadata import (
    Metadata,
    Table,
    as_count,
    as_list,
    as_table,
    iter_tables,
    parse_digest,
    parse_json_value,
)
from lorabake_schemas.messages import Message, escape_undecodable, msg

if TYPE_CHECKING:
    from lorabake.exchange.ledger import Ledger
    from lorabake_schemas.base import OptionValue

DATASETS = "ss_datasets"
_BY_FLAGS = {False: "ss_dataset_dirs", True: "ss_reg_dataset_dirs"}
_TAGS, _BUCKETS = "ss_tag_frequency", "ss_bucket_info"
_DATASET_KEYS = ("enable_bucket", "min_bucket_reso", "max_bucket_reso", "resize_interpolation")
_FOLDER_KEYS = (
    "num_repeats", "shuffle_caption", "keep_tokens", "keep_tokens_separator", "secondary_separator", "enable_wildcard",
    "caption_prefix", "caption_suffix", "flip_aug", "color_aug", "random_crop",
)  # fmt: skip
# Of a training without a dataset configuration: what all its folders have.
_COMMON_DATASET = (
    "enable_bucket", "min_bucket_reso", "max_bucket_reso", "bucket_no_upscale", "resize_interpolation",
)  # fmt: skip
_COMMON_FOLDERS = (
    "shuffle_caption", "keep_tokens", "flip_aug", "color_aug", "random_crop", "face_crop_aug_range",
    "caption_dropout_rate", "caption_dropout_every_n_epochs", "caption_tag_dropout_rate",
)  # fmt: skip
_REPEATS = re.compile(r"([0-9]{1,9})_(.*)", re.DOTALL)
_USUAL_STEP = 64  # pixels: sd-scripts' bucket_reso_steps
_SMALL_STEP = 32  # the only other that a family's UNet can be trained with (SDXL's)
_MAX_FOLDERS = 500  # of a real LoRA, a few
_MAX_NAME = 200
PLACEHOLDER_FOLDER = "images"
_SAME = msg("the same as in ss_datasets")
_INVALID = msg("not the JSON that sd-scripts writes here")
_GUESSED = msg("a guess: the first tag of the captions of this folder, which all of them have")


class Folder(NamedTuple):
    """One folder as a file has it, whichever of the two forms."""

    name: str
    options: Table
    is_reg: bool
    images: int | None


@dataclass(frozen=True, slots=True)
class Trained:
    """The datasets of a LoRA, and the tags of its folders in the order in which they were first read."""

    datasets: tuple[ForeignDataset, ...]
    by_flags: bool


def read_datasets(ledger: Ledger, metadata: Metadata) -> Trained:
    """Settles the keys of the images; no dataset where the file has none."""
    tags = {name: list(counts.items()) for name, counts in iter_tables(parse_json_value(metadata, _TAGS))}
    if parse_digest(metadata.get("ss_training_comment", "")):
        tags = {}  # lorabake writes every token, so that there is nothing to guess
    found = parse_json_value(metadata, DATASETS)
    if isinstance(found, list):
        datasets = tuple(_read_dataset(as_table(each), tags) for each in as_list(cast("object", found))[:_MAX_FOLDERS])
        ledger.settle(DATASETS)
        ledger.note("result", _SAME, *_BY_FLAGS.values(), _BUCKETS)
    else:
        if metadata.get(DATASETS):
            ledger.drop(_INVALID, DATASETS)
        datasets = _read_flags(ledger, metadata, tags)
    for key in (*_BY_FLAGS.values(), _BUCKETS, _TAGS):
        if metadata.get(key) and parse_json_value(metadata, key) is None:
            ledger.drop(_INVALID, key)
    said = msg("the tags of the captions with their counts; the captions themselves are not in a LoRA")
    ledger.note("result", said, _TAGS)
    used = tuple(dataset for dataset in datasets if dataset.subsets or dataset.options)
    return Trained(used, not isinstance(found, list))


def _read_dataset(given: Table, tags: Mapping[str, list[tuple[str, object]]]) -> ForeignDataset:
    options = _take(given, _DATASET_KEYS, DATASETS)
    size, sides = as_count(given.get("batch_size_per_device")), _as_sides(given.get("resolution"))
    if size:
        options["batch_size"] = Given(value=size, keys=(DATASETS,))
    if sides:
        options["resolution"] = Given(value=sides, keys=(DATASETS,))
    options |= _find_bucket_step(given.get("bucket_info"), DATASETS)
    folders = [_as_folder(as_table(each)) for each in as_list(given.get("subsets"))[:_MAX_FOLDERS]]
    subsets = tuple(
        ForeignSubset(options=_make_folder_options(folder, DATASETS, tags), is_reg=folder.is_reg) for folder in folders
    )
    return ForeignDataset(options=options, subsets=subsets)


def _as_folder(given: Table) -> Folder:
    """A folder of images, or a metadata file, whose images are wherever it has them."""
    name = given.get("image_dir") or given.get("metadata_file")
    return Folder(
        str(name) if isinstance(name, str) else "",
        given,
        given.get("is_reg") is True,
        as_count(given.get("img_count")),
    )


def _read_flags(
    ledger: Ledger, metadata: Metadata, tags: Mapping[str, list[tuple[str, object]]]
) -> tuple[ForeignDataset, ...]:
    """Folders that were given as train_data_dir and reg_data_dir: N_token class, with the settings of all."""
    common: dict[str, Given] = {}
    for name in _COMMON_FOLDERS:
        _take_common(ledger, name, common)
    options: dict[str, Given] = {}
    for name in _COMMON_DATASET:
        _take_common(ledger, name, options)
    ledger.take_whole("ss_batch_size_per_device", "batch_size", into=options)
    _read_resolution(ledger, metadata, options)
    options |= _find_bucket_step(parse_json_value(metadata, _BUCKETS), _BUCKETS)
    ledger.note("result", msg("how the images were sorted by size"), _BUCKETS)
    subsets: list[ForeignSubset] = []
    for is_reg, key in _BY_FLAGS.items():
        for name, given in list(iter_tables(parse_json_value(metadata, key)))[:_MAX_FOLDERS]:
            numbered, parts = _REPEATS.fullmatch(name), as_table(given)
            table: dict[str, object] = {"num_repeats": parts.get("n_repeats"), "class_tokens": None}
            if numbered:
                table["class_tokens"] = numbered[2].strip() or None
            folder = Folder(name, table, is_reg, as_count(parts.get("img_count")))
            subsets.append(ForeignSubset(options=common | _make_folder_options(folder, key, tags), is_reg=is_reg))
        ledger.settle(key)
    return (ForeignDataset(options=options, subsets=tuple(subsets)),) if options or subsets else ()


def _take_common(ledger: Ledger, name: str, into: dict[str, Given]) -> None:
    key = f"ss_{name}"
    if ledger.has(key):
        ledger.take_dataset_key(key, name, into=into)


def _read_resolution(ledger: Ledger, metadata: Metadata, options: dict[str, Given]) -> None:
    for key in ("ss_resolution", "modelspec.resolution"):
        text = metadata.get(key, "").strip("()[] ").replace("x", ",")
        sides = to_numbers(text.removesuffix(",")) if text and text != "None" else None
        found = _as_sides([int(side) for side in sides] * (2 if len(sides) == 1 else 1)) if sides else None
        if found:
            ledger.give("resolution", found, key, into=options)
            return


def _take(given: Table, names: tuple[str, ...], key: str) -> dict[str, Given]:
    """The values of a table of ``ss_datasets`` that are what sd-scripts takes there."""
    found: dict[str, Given] = {}
    for name in names:
        raw = given.get(name)
        value: OptionValue | None = None if raw in (None, "") else fit_dataset_key(list_dataset_keys()[name], raw)
        if value is not None:
            fitted = escape_undecodable(value) if isinstance(value, str) else value
            found[name] = Given(value=fitted, keys=(key,))
    return found


def _make_folder_options(folder: Folder, key: str, tags: Mapping[str, list[tuple[str, object]]]) -> dict[str, Given]:
    options = _take(folder.options, _FOLDER_KEYS, key)
    is_file = not folder.options.get("image_dir") and bool(folder.options.get("metadata_file"))
    name, repair = clean_path(folder.name)
    place = "metadata_file" if is_file else "image_dir"
    options[place] = Given(value=name or PLACEHOLDER_FOLDER, keys=(key,), repair=repair)
    tokens = folder.options.get("class_tokens")
    if isinstance(tokens, str) and tokens.strip():
        options["class_tokens"] = Given(value=escape_undecodable(tokens), keys=(key,))
    elif not folder.is_reg and not is_file and (guess := _guess_token(tags.get(folder.name, []), folder.images)):
        options["class_tokens"] = Given(value=guess, keys=(_TAGS,), repair=_GUESSED)
    return options


def clean_path(path: str) -> tuple[str | None, Message | None]:
    """The last part of a path from somebody else's file, which leads nowhere but next to the recipe, and why it is
    another one than in the file. None if it cannot be the name of a file."""
    last = path.replace("\\", "/").rstrip("/").rpartition("/")[2].strip()
    if not last or last in {".", ".."} or not last.isprintable() or len(last.encode("utf-8", "replace")) > _MAX_NAME:
        return None, msg("not a name that a file can have")
    last = f"./{last}" if last.startswith("~") else last
    return last, None if last == path else msg("only the name is taken from the file, not its place")


def _guess_token(tags: list[tuple[str, object]], images: int | None) -> str | None:
    """sd-scripts counts tags as it first meets them (train_util.py:733), so the first is that of the first caption."""
    if not tags or not images or images < 2 or tags[0][1] != images:
        return None
    first = tags[0][0].strip()
    return first if first and first.isprintable() and len(first) <= _MAX_NAME and not _is_known_tag(first) else None


def _is_known_tag(tag: str) -> bool:
    """A tag that images of anything have is nobody's trigger word."""
    return tag.casefold() in {"1girl", "1boy", "1other", "solo", "solo focus", "no humans", "anthro", "multiple girls"}


def _find_bucket_step(given: object, key: str) -> dict[str, Given]:
    """The steps of the buckets' sides, where they cannot be sd-scripts' own: all sides are multiples of them. Smaller
    ones than 32 work with no family (the UNet halves the latents), so that the sides were not made by steps."""
    sides = list(_iter_sides(as_table(given).get("buckets")))
    if len(sides) < 4 or (step := math.gcd(*sides)) % _USUAL_STEP == 0 or step % _SMALL_STEP:
        return {}
    said = msg("computed from the buckets: their sides are multiples of {n}", n=_SMALL_STEP)
    return {"bucket_reso_steps": Given(value=_SMALL_STEP, keys=(key,), repair=said)}


def _iter_sides(buckets: object) -> Iterator[int]:
    for _, each in iter_tables(buckets):
        yield from _as_sides(each.get("resolution")) or ()


def _as_sides(given: object) -> tuple[int, int] | None:
    sides = [side for each in as_list(given) if (side := as_count(each)) and side > 0]
    return (sides[0], sides[1]) if len(sides) == 2 else None
