"""The images that a LoRA was trained on, as far as its metadata has them: folders by name, repeats, sizes, tags.

sd-scripts writes ``ss_datasets`` for a dataset configuration (train_network.py:1069-1152), and single keys for folders
that were given by flags (:1153-1196). Neither has the place of a folder, a caption or an image.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple, cast

from lorabake.exchange.convert import fit_dataset_key, list_dataset_keys, to_numbers, to_whole
from lorabake.exchange.foreign import UNSET, CountedImages, ForeignDataset, ForeignSubset, Given
from lorabake.inputs.folders import METADATA_EXTENSIONS
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
TAGS, _BUCKETS = "ss_tag_frequency", "ss_bucket_info"
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


class Folder(NamedTuple):
    """One folder as a file has it, whichever of the two forms."""

    name: str
    options: Table
    is_reg: bool
    images: int | None

    @property
    def is_file(self) -> bool:
        """Whether it is a metadata file, of whose images sd-scripts counts only some of the text (TU:2338)."""
        return not self.options.get("image_dir") and bool(self.options.get("metadata_file"))


@dataclass(frozen=True, slots=True)
class Counts:
    """What a file has of all its folders: their tags, how many images were kept for validation, and whether its trainer
    writes every token."""

    tags: object
    spare: int
    writes_tokens: bool


@dataclass(frozen=True, slots=True)
class Trained:
    """The datasets of a LoRA."""

    datasets: tuple[ForeignDataset, ...]
    by_flags: bool


def read_datasets(ledger: Ledger, metadata: Metadata) -> Trained:
    """Settles the keys of the images; no dataset where the file has none."""
    counts = Counts(
        parse_json_value(metadata, TAGS),
        max(0, to_whole(metadata.get("ss_num_validation_images")) or 0),
        parse_digest(metadata.get("ss_training_comment", "")) is not None,
    )
    found = parse_json_value(metadata, DATASETS)
    if isinstance(found, list):
        datasets = tuple(
            _read_dataset(as_table(each), counts) for each in as_list(cast("object", found))[:_MAX_FOLDERS]
        )
        if any(dataset.subsets for dataset in datasets):
            ledger.settle(DATASETS)
        ledger.note("result", _SAME, *_BY_FLAGS.values(), _BUCKETS)
    else:
        if metadata.get(DATASETS):
            ledger.drop(_INVALID, DATASETS)
        datasets = _read_flags(ledger, metadata, counts)
    for key in (*_BY_FLAGS.values(), _BUCKETS, TAGS):
        if metadata.get(key) and parse_json_value(metadata, key) is None:
            ledger.drop(_INVALID, key)
    ledger.note("off", None, DATASETS, *_BY_FLAGS.values())
    said = msg("the tags of the captions with their counts; the captions themselves are not in a LoRA")
    ledger.note("result", said, TAGS)
    used = tuple(dataset for dataset in datasets if dataset.subsets or dataset.options)
    return Trained(used, not isinstance(found, list))


def _read_dataset(given: Table, counts: Counts) -> ForeignDataset:
    options = _take(given, _DATASET_KEYS, DATASETS)
    size, sides = as_count(given.get("batch_size_per_device")), _as_sides(given.get("resolution"))
    if size:
        options["batch_size"] = Given(value=size, keys=(DATASETS,))
    if sides:
        options["resolution"] = Given(value=sides, keys=(DATASETS,))
    options |= _find_bucket_step(given.get("bucket_info"), DATASETS)
    folders = [_as_folder(as_table(each)) for each in as_list(given.get("subsets"))[:_MAX_FOLDERS]]
    own = replace(counts, tags=given.get("tag_frequency", counts.tags))
    return ForeignDataset(options=options, subsets=tuple(_make_subsets(folders, (DATASETS,) * len(folders), own, {})))


def _as_folder(given: Table) -> Folder:
    """A folder of images, or a metadata file, whose images are wherever it has them."""
    name = given.get("image_dir") or given.get("metadata_file")
    return Folder(
        str(name) if isinstance(name, str) else "",
        given,
        given.get("is_reg") is True,
        as_count(given.get("img_count")),
    )


def _read_flags(ledger: Ledger, metadata: Metadata, counts: Counts) -> tuple[ForeignDataset, ...]:
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
    folders, keys = list[Folder](), list[str]()
    for is_reg, key in _BY_FLAGS.items():
        for name, given in list(iter_tables(parse_json_value(metadata, key)))[:_MAX_FOLDERS]:
            numbered, parts = _REPEATS.fullmatch(name), as_table(given)
            place = "metadata_file" if name.lower().endswith(METADATA_EXTENSIONS) and not numbered else "image_dir"
            table: dict[str, object] = {"num_repeats": parts.get("n_repeats"), "class_tokens": None, place: name}
            if numbered:
                table["class_tokens"] = numbered[2].strip() or None
            folders.append(Folder(name, table, is_reg, as_count(parts.get("img_count"))))
            keys.append(key)
    ledger.settle(*keys)
    subsets = tuple(_make_subsets(folders, keys, counts, common))
    if common and all(part.is_reg for part in subsets):
        here = common | {"image_dir": Given(value=PLACEHOLDER_FOLDER, keys=())}
        subsets = (ForeignSubset(options=here), *subsets)
    return (ForeignDataset(options=options, subsets=subsets),) if options or subsets else ()


def _make_subsets(
    folders: Sequence[Folder], keys: Sequence[str], counts: Counts, common: Mapping[str, Given]
) -> Iterator[ForeignSubset]:
    for folder, key in zip(folders, keys, strict=True):
        options = {**common, **_make_folder_options(folder, key)}
        if counts.writes_tokens and not folder.is_reg:
            options.setdefault("class_tokens", Given(value=UNSET, keys=(key,)))
        counted = _count_images(folder, folders, counts)
        yield ForeignSubset(options=options, is_reg=folder.is_reg, counted=counted)


def _count_images(folder: Folder, folders: Sequence[Folder], counts: Counts) -> CountedImages | None:
    """sd-scripts counts the tags of folders with the same name together, also of regularization images."""
    same = [each for each in folders if each.name == folder.name]
    if folder.is_reg or folder.is_file or not folder.images or sum(not each.is_reg for each in same) > 1:
        return None
    tags: Counter[str] | None = None
    given = as_table(counts.tags).get(folder.name)
    if len(same) == 1 and isinstance(given, dict):
        tags = Counter()
        for tag, count in as_table(cast("object", given)).items():
            tags[escape_undecodable(tag).lower()] += as_count(count) or 0
    repeats = max(1, as_count(folder.options.get("num_repeats")) or 1)
    name = escape_undecodable(folder.name)
    return CountedImages(name=name, images=folder.images, repeats=repeats, spare=counts.spare, tags=tags)


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


def _make_folder_options(folder: Folder, key: str) -> dict[str, Given]:
    options = _take(folder.options, _FOLDER_KEYS, key)
    name, repair = clean_path(folder.name)
    place = "metadata_file" if folder.is_file else "image_dir"
    options[place] = Given(value=name or PLACEHOLDER_FOLDER, keys=(key,), repair=repair)
    tokens = folder.options.get("class_tokens")
    if isinstance(tokens, str) and tokens.strip():
        options["class_tokens"] = Given(value=escape_undecodable(tokens), keys=(key,))
    return options


def clean_path(path: str) -> tuple[str | None, Message | None]:
    """The last part of a path from somebody else's file, which leads nowhere but next to the recipe, and why it is
    another one than in the file. None if it cannot be the name of a file."""
    last = path.replace("\\", "/").rstrip("/").rpartition("/")[2].strip()
    if not last or last in {".", ".."} or not last.isprintable() or len(last.encode("utf-8", "replace")) > _MAX_NAME:
        return None, msg("not a name that a file can have")
    last = f"./{last}" if last.startswith("~") else last
    return last, None if last == path else msg("only the name is taken from the file, not its place")


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
