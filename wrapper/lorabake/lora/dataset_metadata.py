"""The pictures, buckets and tags that a file's metadata tell of; what is not as sd-scripts writes it is left out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import cast

from lorabake.lora.metadata import Metadata, parse_json_value, parse_value
from lorabake_schemas.inspection import BucketInfo, DatasetInfo, FolderInfo, FolderTagCounts, MetadataScalar, TagCount
from lorabake_schemas.messages import escape_undecodable

Table = Mapping[str, object]
JSON_KEYS = ("ss_datasets", "ss_dataset_dirs", "ss_reg_dataset_dirs", "ss_tag_frequency", "ss_bucket_info")
FOLDER_OPTIONS = (
    "shuffle_caption", "keep_tokens", "keep_tokens_separator", "secondary_separator", "enable_wildcard",
    "caption_prefix", "caption_suffix", "flip_aug", "color_aug", "random_crop",
)  # fmt: skip


def find_invalid_json(metadata: Metadata) -> tuple[str, ...]:
    """Keys whose value should be JSON and is not."""
    return tuple(
        key for key in (*JSON_KEYS, "ss_network_args") if metadata.get(key) and parse_json_value(metadata, key) is None
    )


def parse_datasets(metadata: Metadata) -> tuple[DatasetInfo, ...]:
    """As sd-scripts wrote them: ss_datasets for a dataset configuration, single keys for folders given by flags."""
    given = parse_json_value(metadata, "ss_datasets")
    if isinstance(given, list):
        return tuple(_parse_dataset(_as_table(each)) for each in cast("list[object]", given))
    folders = (*_parse_folders(metadata, "ss_dataset_dirs"), *_parse_folders(metadata, "ss_reg_dataset_dirs", reg=True))
    buckets = _parse_buckets(_as_table(parse_json_value(metadata, "ss_bucket_info")))
    if not folders and not buckets:
        return ()
    width, height = _parse_sides(metadata.get("ss_resolution", ""))
    return (
        DatasetInfo(
            width=width,
            height=height,
            batch_size=_as_count(_parse_field(metadata, "ss_batch_size_per_device")),
            samples=_as_count(_parse_field(metadata, "ss_num_train_images")),
            regularization_samples=_as_count(_parse_field(metadata, "ss_num_reg_images")),
            enable_bucket=_as_flag(_parse_field(metadata, "ss_enable_bucket")),
            folders=folders,
            buckets=buckets,
        ),
    )


def _parse_dataset(given: Table) -> DatasetInfo:
    sides = [_as_count(side) for side in _as_list(given.get("resolution"))]
    width, height = sides if len(sides) == 2 else (None, None)
    return DatasetInfo(
        width=width,
        height=height,
        batch_size=_as_count(given.get("batch_size_per_device")),
        samples=_as_count(given.get("num_train_images")),
        regularization_samples=_as_count(given.get("num_reg_images")),
        enable_bucket=_as_flag(given.get("enable_bucket")),
        folders=tuple(_parse_subset(_as_table(each)) for each in _as_list(given.get("subsets"))),
        buckets=_parse_buckets(_as_table(given.get("bucket_info"))),
    )


def _parse_subset(given: Table) -> FolderInfo:
    named = given.get("image_dir") or given.get("metadata_file") or "?"
    tokens = given.get("class_tokens")
    return FolderInfo(
        name=escape_undecodable(str(named)),
        pictures=_as_count(given.get("img_count")),
        repeats=_as_count(given.get("num_repeats")),
        regularization=given.get("is_reg") is True,
        class_tokens=escape_undecodable(tokens) if isinstance(tokens, str) and tokens else None,
        options=_parse_options(given),
    )


def _parse_options(given: Table) -> dict[str, MetadataScalar]:
    """What is on: sd-scripts writes the others as null, false or 0."""
    return {
        name: escape_undecodable(value) if isinstance(value, str) else value
        for name in FOLDER_OPTIONS
        if isinstance(value := given.get(name), bool | int | float | str) and value
    }


def _parse_folders(metadata: Metadata, key: str, *, reg: bool = False) -> tuple[FolderInfo, ...]:
    return tuple(
        FolderInfo(
            name=escape_undecodable(name),
            pictures=_as_count(_as_table(told).get("img_count")),
            repeats=_as_count(_as_table(told).get("n_repeats")),
            regularization=reg,
            options={},
        )
        for name, told in _as_table(parse_json_value(metadata, key)).items()
    )


def _parse_buckets(given: Table) -> tuple[BucketInfo, ...]:
    """The ones with pictures in them, small ones first."""
    found: list[BucketInfo] = []
    for each in map(_as_table, _as_table(given.get("buckets")).values()):
        sides, count = [_as_count(side) for side in _as_list(each.get("resolution"))], _as_count(each.get("count"))
        if len(sides) == 2 and sides[0] is not None and sides[1] is not None and count:
            found.append(BucketInfo(width=sides[0], height=sides[1], pictures=count))
    return tuple(sorted(found, key=lambda bucket: (bucket.width * bucket.height, bucket.width)))


def parse_tag_counts(metadata: Metadata) -> tuple[FolderTagCounts, ...]:
    """The tags of each folder, the most frequent first."""
    return tuple(
        FolderTagCounts(folder=escape_undecodable(folder), tags=_sort_tags(_as_table(counts)))
        for folder, counts in _as_table(parse_json_value(metadata, "ss_tag_frequency")).items()
    )


def _sort_tags(counts: Table) -> tuple[TagCount, ...]:
    found = [(escape_undecodable(tag), count) for tag, each in counts.items() if (count := _as_count(each)) is not None]
    return tuple(TagCount(tag=tag, count=count) for tag, count in sorted(found, key=lambda each: (-each[1], each[0])))


def _parse_field(metadata: Metadata, key: str) -> MetadataScalar | None:
    return parse_value(metadata.get(key, ""))


def _parse_sides(text: str) -> tuple[int | None, int | None]:
    """``512,768``, ``(512, 768)`` or ``512``."""
    numbers = [each.strip() for each in text.strip("()[]").split(",")]
    sides = [int(each) for each in numbers if each.isascii() and each.isdecimal() and len(each) < 10]
    return (sides[0], sides[-1]) if len(sides) == len(numbers) <= 2 else (None, None)


def _as_table(given: object) -> Table:
    return cast("Table", given) if isinstance(given, dict) else {}


def _as_list(given: object) -> Sequence[object]:
    return cast("Sequence[object]", given) if isinstance(given, list) else ()


def _as_count(given: object) -> int | None:
    """A whole number as people count things."""
    return given if isinstance(given, int) and not isinstance(given, bool) and abs(given) < 10**15 else None


def _as_flag(given: object) -> bool | None:
    return given if isinstance(given, bool) else None
