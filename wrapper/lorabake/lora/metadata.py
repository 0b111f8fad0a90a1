"""The metadata that sd-scripts wrote into a LoRA about its training, with types, and harmless whatever it contains.

Also the mark by which the run of a LoRA is found: its training comment ends with "lorabake sha256:" and the run's
digest. lorabake's version is not in it: two versions that start the same training must make equal files.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import cast

from lorabake.util.files import parse_json
from lorabake_schemas.families.model_family import LoraFamily
from lorabake_schemas.families.registry import list_lora_families
from lorabake_schemas.inspection import (
    BaseModelInfo,
    BucketInfo,
    DatasetInfo,
    FolderInfo,
    FolderTagCounts,
    MetadataGroup,
    MetadataScalar,
    MetadataValue,
    TagCount,
)

Metadata = Mapping[str, str]
Table = Mapping[str, object]
# train_network.py:1003-1065 and 1183-1221 of the pin, without their ss_; the same names since 2023.
NAMES_BY_GROUP: Mapping[MetadataGroup, tuple[str, ...]] = {
    "network": ("network_module", "network_dim", "network_alpha", "network_dropout", "network_args"),
    "training": (
        "optimizer", "learning_rate", "unet_lr", "text_encoder_lr", "lr_scheduler", "lr_warmup_steps", "steps",
        "max_train_steps", "epoch", "num_epochs", "num_batches_per_epoch", "batch_size_per_device",
        "total_batch_size", "gradient_accumulation_steps", "max_grad_norm", "scale_weight_norms", "seed",
        "clip_skip", "max_token_length", "mixed_precision", "full_fp16", "full_bf16", "fp8_base", "fp8_base_unet",
        "gradient_checkpointing", "cache_latents", "lowram",
    ),
    "noise": (
        "loss_type", "huber_schedule", "huber_scale", "huber_c", "min_snr_gamma", "debiased_estimation",
        "noise_offset", "noise_offset_random_strength", "adaptive_noise_scale", "multires_noise_iterations",
        "multires_noise_discount", "ip_noise_gamma", "ip_noise_gamma_random_strength", "zero_terminal_snr",
    ),
    "data": (
        "num_train_images", "num_reg_images", "num_validation_images", "prior_loss_weight", "resolution",
        "enable_bucket", "bucket_no_upscale", "min_bucket_reso", "max_bucket_reso", "shuffle_caption",
        "keep_tokens", "flip_aug", "color_aug", "random_crop", "face_crop_aug_range", "caption_dropout_rate",
        "caption_dropout_every_n_epochs", "caption_tag_dropout_rate", "resize_interpolation", "validation_seed",
        "validation_split", "max_validation_steps", "validate_every_n_epochs", "validate_every_n_steps",
    ),
    "saving": ("output_name", "session_id", "sd_scripts_commit_hash"),
}  # fmt: skip
GROUP_BY_NAME: Mapping[str, MetadataGroup] = {name: group for group, names in NAMES_BY_GROUP.items() for name in names}
# Keys with a separate place in a report.
REPORTED_ELSEWHERE = frozenset({
    "datasets", "dataset_dirs", "reg_dataset_dirs", "tag_frequency", "bucket_info", "training_comment",
    "training_started_at", "training_finished_at", "sd_model_name", "sd_model_hash", "new_sd_model_hash",
    "vae_name", "vae_hash", "new_vae_hash", "base_model_version", "v2",
})  # fmt: skip
EMPTY_VALUES = frozenset({"None", ""})
UNHASHED_VALUES = frozenset({"IsADirectory", "NOFILE"})  # train_util.py:3232-3237: when no hash could be made
INTEGER_PATTERN = re.compile(r"[-+]?[0-9]{1,18}")
JSON_KEYS = (
    "ss_datasets", "ss_dataset_dirs", "ss_reg_dataset_dirs", "ss_tag_frequency", "ss_bucket_info", "ss_network_args",
)  # fmt: skip
FOLDER_OPTIONS = (
    "shuffle_caption", "keep_tokens", "keep_tokens_separator", "secondary_separator", "enable_wildcard",
    "caption_prefix", "caption_suffix", "flip_aug", "color_aug", "random_crop",
)  # fmt: skip
COMMENT_MARK = "lorabake sha256:"
COMMENT_SEPARATOR = "; "
# Only at the very end: a recipe's comment may quote the mark of another run.
MARK_PATTERN = re.compile(rf"(?:\A|{COMMENT_SEPARATOR}){COMMENT_MARK}([0-9a-f]{{64}})\Z")


def list_training_values(metadata: Metadata) -> tuple[MetadataValue, ...]:
    """All ``ss_`` keys without a separate place in a report, in groups, each in the order of its table."""
    order = {name: number for number, name in enumerate(GROUP_BY_NAME)}
    names = {key.removeprefix("ss_") for key in metadata if key.startswith("ss_")} - REPORTED_ELSEWHERE
    return tuple(
        MetadataValue(group=GROUP_BY_NAME.get(name, "other"), name=name, value=value)
        for name in sorted(names, key=lambda name: (order.get(name, len(order)), name))
        if (value := parse_value(metadata[f"ss_{name}"])) is not None
    )


def parse_value(text: str) -> MetadataScalar | None:
    """What ``str`` made this text of; None for "None". A number too large for a float stays text."""
    if text in EMPTY_VALUES:
        return None
    if text in {"True", "False"}:
        return text == "True"
    if INTEGER_PATTERN.fullmatch(text):
        return int(text)
    try:
        number = float(text)
    except ValueError:
        return text
    return number if math.isfinite(number) and len(text) < 30 else text


def parse_base_model(metadata: Metadata) -> BaseModelInfo | None:
    """The model that was trained on."""
    given = {name: text for name in REPORTED_ELSEWHERE if (text := metadata.get(f"ss_{name}", "")) not in EMPTY_VALUES}
    hashes = {name: text for name, text in given.items() if text not in UNHASHED_VALUES}
    found = BaseModelInfo(
        name=given.get("sd_model_name"),
        version=given.get("base_model_version"),
        sha256=hashes.get("new_sd_model_hash"),
        short_hash=hashes.get("sd_model_hash"),
        is_folder=given.get("sd_model_hash") == "IsADirectory",
        vae=given.get("vae_name"),
        vae_sha256=hashes.get("new_vae_hash"),
    )
    return None if found == BaseModelInfo() else found


def parse_family(metadata: Metadata) -> LoraFamily | None:
    """The family in the metadata."""
    architecture = metadata.get("modelspec.architecture", "").lower()
    version = metadata.get("ss_base_model_version", "").lower()
    named = next((each for each in list_lora_families() if architecture.startswith(each.lora.architectures)), None)
    return named or next((each for each in list_lora_families() if version.startswith(each.lora.versions)), None)


def parse_modelspec(metadata: Metadata) -> dict[str, str]:
    """The values of ModelSpec's keys, such as title, author and trigger_phrase."""
    return {key.removeprefix("modelspec."): text for key, text in metadata.items() if key.startswith("modelspec.")}


def parse_algorithm(metadata: Metadata) -> str | None:
    """The algorithm that LyCORIS was asked for, in lower case."""
    given = as_table(parse_json_value(metadata, "ss_network_args")).get("algo")
    return given.lower() if isinstance(given, str) else None


def parse_unix_time(metadata: Metadata, key: str) -> datetime | None:
    """A Unix time, in UTC; None if the text is not a possible time."""
    try:
        return datetime.fromtimestamp(float(metadata[key]), UTC)
    except (KeyError, ValueError, OverflowError, OSError):
        return None


def training_comment(given: str | None, digest: str) -> str:
    """The comment that a run with this digest writes; ``given`` is the recipe's own."""
    return f"{given}{COMMENT_SEPARATOR}{COMMENT_MARK}{digest}" if given else f"{COMMENT_MARK}{digest}"


def training_comment_flag(given: str | None, digest: str) -> str:
    """The same as one argument for the script, which nothing can take apart: no shell comes between (accelerate 1.6.0
    utils/launch.py:129 passes a list), and a comment may start with a dash, which argparse takes only after "=".
    """
    return f"--training_comment={training_comment(given, digest)}"


def parse_digest(comment: str) -> str | None:
    """The digest of the run that wrote this comment; None when lorabake did not."""
    found = MARK_PATTERN.search(comment)
    return found[1] if found else None


def parse_own_comment(comment: str) -> str | None:
    """What the recipe's own comment was; None when there was none."""
    return MARK_PATTERN.sub("", comment) or None


def find_invalid_json(metadata: Metadata) -> tuple[str, ...]:
    """Keys whose value should be JSON and is not."""
    return tuple(key for key in JSON_KEYS if metadata.get(key) and parse_json_value(metadata, key) is None)


UNKNOWN_FOLDER = "?"  # of a folder without a name


def parse_datasets(metadata: Metadata) -> tuple[DatasetInfo, ...]:
    """As sd-scripts wrote them: ss_datasets for a dataset configuration, single keys for folders given by flags."""
    datasets = parse_json_value(metadata, "ss_datasets")
    if isinstance(datasets, list):
        return tuple(_parse_dataset(as_table(each)) for each in cast("list[object]", datasets))
    folders: list[Table] = [
        {"image_dir": folder, "img_count": given.get("img_count"), "num_repeats": given.get("n_repeats"), "is_reg": reg}
        for key, reg in (("ss_dataset_dirs", False), ("ss_reg_dataset_dirs", True))
        for folder, given in iter_tables(parse_json_value(metadata, key))
    ]
    names = ("batch_size_per_device", "num_train_images", "num_reg_images", "enable_bucket")
    values = {name: parse_value(metadata.get(f"ss_{name}", "")) for name in names}
    sides = [int(side) for side in re.findall(r"[0-9]{1,9}", metadata.get("ss_resolution", ""))]
    found = _parse_dataset(
        {
            **values,
            "resolution": sides * 2 if len(sides) == 1 else sides,
            "subsets": folders,
            "bucket_info": parse_json_value(metadata, "ss_bucket_info"),
        }
    )
    return (found,) if found.folders or found.buckets else ()


def _parse_dataset(given: Table) -> DatasetInfo:
    width, height = _parse_sides(given)
    flag = given.get("enable_bucket")
    return DatasetInfo(
        width=width,
        height=height,
        batch_size=as_count(given.get("batch_size_per_device")),
        samples=as_count(given.get("num_train_images")),
        regularization_samples=as_count(given.get("num_reg_images")),
        enable_bucket=flag if isinstance(flag, bool) else None,
        folders=tuple(_parse_folder(as_table(each)) for each in as_list(given.get("subsets"))),
        buckets=_parse_buckets(as_table(given.get("bucket_info")).get("buckets")),
    )


def _parse_folder(given: Table) -> FolderInfo:
    """With the options that are on: sd-scripts writes the others as null, false or 0."""
    tokens = given.get("class_tokens")
    return FolderInfo(
        name=str(given.get("image_dir") or given.get("metadata_file") or UNKNOWN_FOLDER),
        pictures=as_count(given.get("img_count")),
        repeats=as_count(given.get("num_repeats")),
        regularization=given.get("is_reg") is True,
        class_tokens=tokens if isinstance(tokens, str) and tokens else None,
        options={name: value for name in FOLDER_OPTIONS if (value := _as_option(given.get(name)))},
    )


def _parse_buckets(given: object) -> tuple[BucketInfo, ...]:
    """The ones with images in them, small ones first."""
    found = [(*_parse_sides(each), as_count(each.get("count"))) for _, each in iter_tables(given)]
    buckets = [
        BucketInfo(width=width, height=height, pictures=count)
        for width, height, count in found
        if width is not None and height is not None and count
    ]
    return tuple(sorted(buckets, key=lambda bucket: (bucket.width * bucket.height, bucket.width)))


def _parse_sides(given: Table) -> tuple[int | None, int | None]:
    sides = [as_count(side) for side in as_list(given.get("resolution"))]
    return (sides[0], sides[1]) if len(sides) == 2 else (None, None)


def parse_tag_counts(metadata: Metadata) -> tuple[FolderTagCounts, ...]:
    """The tags of each folder, the most frequent first."""
    return tuple(
        FolderTagCounts(folder=folder, tags=_sort_tags(counts))
        for folder, counts in iter_tables(parse_json_value(metadata, "ss_tag_frequency"))
    )


def _sort_tags(counts: Table) -> tuple[TagCount, ...]:
    found = [TagCount(tag=tag, count=count) for tag, each in counts.items() if (count := as_count(each)) is not None]
    return tuple(sorted(found, key=lambda each: (-each.count, each.tag)))


def parse_json_value(metadata: Metadata, key: str) -> object:
    """The JSON value of a key; None if it is missing or not JSON."""
    try:
        return parse_json(metadata[key])
    except (KeyError, ValueError):
        return None


def iter_tables(given: object) -> Iterator[tuple[str, Table]]:
    """The entries of a table of tables; anything but a table counts as an empty one."""
    return ((name, as_table(each)) for name, each in as_table(given).items())


def as_table(given: object) -> Table:
    return cast("Table", given) if isinstance(given, dict) else {}


def as_list(given: object) -> Sequence[object]:
    return cast("Sequence[object]", given) if isinstance(given, list) else ()


def as_count(given: object) -> int | None:
    """An integer as people count things."""
    return given if isinstance(given, int) and not isinstance(given, bool) and abs(given) < 10**15 else None


def _as_option(given: object) -> MetadataScalar | None:
    """A value that JSON can represent: not NaN, not infinity."""
    if isinstance(given, float):
        return given if math.isfinite(given) else None
    return given if isinstance(given, bool | int | str) else None
