"""The pictures, buckets and tags that a file's metadata tell of; what is not as sd-scripts writes it is left out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import cast

from lorabake.inspecting.values import Metadata, plain, read_json
from lorabake_schemas.inspection import Bucket, Dataset, Folder, FolderTags, Plain, Tag
from lorabake_schemas.words import legible

Table = Mapping[str, object]
JSON_KEYS = ("ss_datasets", "ss_dataset_dirs", "ss_reg_dataset_dirs", "ss_tag_frequency", "ss_bucket_info")
OF_A_FOLDER = (
    "shuffle_caption", "keep_tokens", "keep_tokens_separator", "secondary_separator", "enable_wildcard",
    "caption_prefix", "caption_suffix", "flip_aug", "color_aug", "random_crop",
)  # fmt: skip


def not_json(metadata: Metadata) -> tuple[str, ...]:
    """Keys whose value should be JSON and is not."""
    return tuple(
        key for key in (*JSON_KEYS, "ss_network_args") if metadata.get(key) and read_json(metadata, key) is None
    )


def datasets_of(metadata: Metadata) -> tuple[Dataset, ...]:
    """As sd-scripts wrote them: ss_datasets for a dataset configuration, single keys for folders given by flags."""
    given = read_json(metadata, "ss_datasets")
    if isinstance(given, list):
        return tuple(_dataset(_table(each)) for each in cast("list[object]", given))
    folders = (*_folders(metadata, "ss_dataset_dirs"), *_folders(metadata, "ss_reg_dataset_dirs", reg=True))
    buckets = _buckets(_table(read_json(metadata, "ss_bucket_info")))
    if not folders and not buckets:
        return ()
    width, height = _sides(metadata.get("ss_resolution", ""))
    return (
        Dataset(
            width=width,
            height=height,
            batch_size=_number(_typed(metadata, "ss_batch_size_per_device")),
            samples=_number(_typed(metadata, "ss_num_train_images")),
            regularisation_samples=_number(_typed(metadata, "ss_num_reg_images")),
            enable_bucket=_flag(_typed(metadata, "ss_enable_bucket")),
            folders=folders,
            buckets=buckets,
        ),
    )


def _dataset(given: Table) -> Dataset:
    sides = [_number(side) for side in _list(given.get("resolution"))]
    width, height = sides if len(sides) == 2 else (None, None)
    return Dataset(
        width=width,
        height=height,
        batch_size=_number(given.get("batch_size_per_device")),
        samples=_number(given.get("num_train_images")),
        regularisation_samples=_number(given.get("num_reg_images")),
        enable_bucket=_flag(given.get("enable_bucket")),
        folders=tuple(_subset(_table(each)) for each in _list(given.get("subsets"))),
        buckets=_buckets(_table(given.get("bucket_info"))),
    )


def _subset(given: Table) -> Folder:
    named = given.get("image_dir") or given.get("metadata_file") or "?"
    tokens = given.get("class_tokens")
    return Folder(
        name=legible(str(named)),
        pictures=_number(given.get("img_count")),
        repeats=_number(given.get("num_repeats")),
        regularisation=given.get("is_reg") is True,
        class_tokens=legible(tokens) if isinstance(tokens, str) and tokens else None,
        options=_options(given),
    )


def _options(given: Table) -> dict[str, Plain]:
    """What is on: sd-scripts writes the others as null, false or 0."""
    return {
        name: legible(value) if isinstance(value, str) else value
        for name in OF_A_FOLDER
        if isinstance(value := given.get(name), bool | int | float | str) and value
    }


def _folders(metadata: Metadata, key: str, *, reg: bool = False) -> tuple[Folder, ...]:
    return tuple(
        Folder(
            name=legible(name),
            pictures=_number(_table(told).get("img_count")),
            repeats=_number(_table(told).get("n_repeats")),
            regularisation=reg,
            options={},
        )
        for name, told in _table(read_json(metadata, key)).items()
    )


def _buckets(given: Table) -> tuple[Bucket, ...]:
    """The ones with pictures in them, small ones first."""
    found: list[Bucket] = []
    for each in map(_table, _table(given.get("buckets")).values()):
        sides, count = [_number(side) for side in _list(each.get("resolution"))], _number(each.get("count"))
        if len(sides) == 2 and sides[0] is not None and sides[1] is not None and count:
            found.append(Bucket(width=sides[0], height=sides[1], pictures=count))
    return tuple(sorted(found, key=lambda bucket: (bucket.width * bucket.height, bucket.width)))


def tags_of(metadata: Metadata) -> tuple[FolderTags, ...]:
    """The tags of each folder, the most frequent first."""
    return tuple(
        FolderTags(folder=legible(folder), tags=_ordered(_table(counts)))
        for folder, counts in _table(read_json(metadata, "ss_tag_frequency")).items()
    )


def _ordered(counts: Table) -> tuple[Tag, ...]:
    found = [(legible(tag), count) for tag, each in counts.items() if (count := _number(each)) is not None]
    return tuple(Tag(tag=tag, count=count) for tag, count in sorted(found, key=lambda each: (-each[1], each[0])))


def _typed(metadata: Metadata, key: str) -> Plain | None:
    return plain(metadata.get(key, ""))


def _sides(text: str) -> tuple[int | None, int | None]:
    """``512,768``, ``(512, 768)`` or ``512``."""
    numbers = [each.strip() for each in text.strip("()[]").split(",")]
    sides = [int(each) for each in numbers if each.isascii() and each.isdecimal() and len(each) < 10]
    return (sides[0], sides[-1]) if len(sides) == len(numbers) <= 2 else (None, None)


def _table(given: object) -> Table:
    return cast("Table", given) if isinstance(given, dict) else {}


def _list(given: object) -> Sequence[object]:
    return cast("Sequence[object]", given) if isinstance(given, list) else ()


def _number(given: object) -> int | None:
    """A whole number as people count things."""
    return given if isinstance(given, int) and not isinstance(given, bool) and abs(given) < 10**15 else None


def _flag(given: object) -> bool | None:
    return given if isinstance(given, bool) else None


__all__ = ["datasets_of", "not_json", "tags_of"]
