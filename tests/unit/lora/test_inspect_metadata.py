"""What a file's metadata contain: with types, in groups; values that sd-scripts would not write do no harm."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from lora_files import SMALL, Wanted, metadata, shapes_of, write, write_raw
from lorabake.lora.inspect import inspect_file
from lorabake.lora.metadata import (
    find_invalid_json,
    list_training_values,
    parse_base_model,
    parse_datasets,
    parse_family,
    parse_tag_counts,
    parse_unix_time,
    parse_value,
    training_comment,
)
from lorabake_schemas.inspection import Inspection

DIGEST = "0123456789abcdef" * 4


def texts(**more: Any) -> dict[str, str]:
    return {key: value if isinstance(value, str) else json.dumps(value) for key, value in metadata(**more).items()}


def looked(path: Path, *, deep: bool = False) -> Inspection:
    return inspect_file(path, deep=deep)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("None", None), ("", None), ("True", True), ("False", False), ("42", 42), ("-1", -1), ("0.0001", 0.0001),
        ("1e-05", 1e-05), ("1.0", 1.0), ("cosine", "cosine"), ("nan", "nan"), ("inf", "inf"), ("1e999", "1e999"),
        ("9" * 40, "9" * 40), ("0x10", "0x10"), ("(512, 768)", "(512, 768)"), ("true", "true"),
    ],
)  # fmt: skip
def test_text_becomes_what_it_was(text: str, value: object) -> None:
    assert parse_value(text) == value
    assert type(parse_value(text)) is type(value)


def test_values_are_in_groups_and_without_what_is_told_elsewhere() -> None:
    told = list_training_values(texts(ss_new_in_a_later_version="7"))
    by_name = {value.name: (value.group, value.value) for value in told}
    assert by_name["network_dim"] == ("network", 4)
    assert by_name["learning_rate"] == ("training", 0.0001)
    assert by_name["lowram"] == ("training", False)
    assert by_name["new_in_a_later_version"] == ("other", 7)
    assert "unet_lr" not in by_name  # None
    assert not {"datasets", "tag_frequency", "training_comment", "sd_model_name"} & set(by_name)


def test_the_base_and_what_its_hashes_are() -> None:
    base = parse_base_model(texts())
    assert base
    assert (base.name, base.sha256, base.short_hash) == ("model.safetensors", "ab" * 32, "e1441589")
    folder = parse_base_model(texts(ss_sd_model_hash="IsADirectory", ss_new_sd_model_hash="IsADirectory"))
    assert folder
    assert folder.is_folder
    assert folder.sha256 is folder.short_hash is None
    assert parse_base_model({"ss_sd_model_name": "None"}) is None


@pytest.mark.parametrize(
    ("given", "family"),
    [
        ({"modelspec.architecture": "stable-diffusion-xl-v1-base/lora"}, "sdxl"),
        ({"modelspec.architecture": "stable-diffusion-v2-768-v/lora"}, "sd2"),
        ({"modelspec.architecture": "stable-diffusion-v1/lora"}, "sd15"),
        ({"modelspec.architecture": "stable-diffusion-3-m/lora"}, "sd3"),
        ({"modelspec.architecture": "flux-1-dev/lora"}, "flux"),
        ({"ss_base_model_version": "sdxl_base_v1-0"}, "sdxl"),
        ({"ss_base_model_version": "sd_v2_v"}, "sd2"),
        ({"ss_base_model_version": "unheard of"}, None),
        ({}, None),
    ],
)
def test_the_family_that_metadata_name(given: dict[str, str], family: str | None) -> None:
    found = parse_family(given)
    assert (found.name if found else None) == family


def test_datasets_of_a_configuration() -> None:
    (dataset,) = parse_datasets(texts())
    assert (dataset.width, dataset.height, dataset.batch_size, dataset.samples) == (512, 768, 4, 30)
    (folder,) = dataset.folders
    assert (folder.name, folder.pictures, folder.repeats, folder.class_tokens) == ("pics", 15, 2, "lum")
    assert folder.options == {"shuffle_caption": True, "keep_tokens": 2}
    assert [(each.width, each.height, each.pictures) for each in dataset.buckets] == [(512, 704, 6)]


def test_datasets_given_by_flags() -> None:
    (dataset,) = parse_datasets({
        "ss_dataset_dirs": '{"10_lum": {"n_repeats": 10, "img_count": 15}}',
        "ss_reg_dataset_dirs": '{"1_house": {"n_repeats": 1, "img_count": 9}}',
        "ss_bucket_info": '{"buckets": {"1": {"resolution": [512, 512], "count": 3}}}',
        "ss_resolution": "(512, 512)", "ss_batch_size_per_device": "2", "ss_num_train_images": "150",
        "ss_num_reg_images": "9", "ss_enable_bucket": "True",
    })  # fmt: skip
    assert [(f.name, f.repeats, f.pictures, f.regularization) for f in dataset.folders] == [
        ("10_lum", 10, 15, False),
        ("1_house", 1, 9, True),
    ]
    assert (dataset.width, dataset.height, dataset.batch_size, dataset.samples) == (512, 512, 2, 150)
    assert (dataset.regularization_samples, dataset.enable_bucket) == (9, True)


def test_tags_by_count_then_by_name() -> None:
    (folder,) = parse_tag_counts(texts())
    assert [(tag.tag, tag.count) for tag in folder.tags] == [("lighthouse", 15), ("lum", 15), ("sky", 3)]


@pytest.mark.parametrize("key", ["ss_datasets", "ss_dataset_dirs", "ss_tag_frequency", "ss_bucket_info"])
@pytest.mark.parametrize(
    "odd",
    ["", "None", "{", "[]", "{}", "7", "null", '"x"', "[null]", "[[[]]]", '{"a": 1}', '{"a": {"b": "c"}}',
     '{"buckets": {"a": {"resolution": ["x", 1], "count": 2}}}', '[{"resolution": {}, "subsets": [{"img_count": []}]}]',
     '[{"subsets": [{"keep_tokens": NaN, "flip_aug": 1e400}]}]',
     '{"a": {"b": 1e400, "c": true, "d": 99999999999999999999}}', "[" * 5000, '{"\\ud800": {"\\udfff": 1}}'],
)  # fmt: skip
def test_hostile_json(key: str, odd: str, tmp_path: Path) -> None:
    report = looked(write(tmp_path / "x.safetensors", SMALL, metadata(**{key: odd})))
    assert json.loads(report.model_dump_json())["kind"] == "lora"
    assert report.metadata[key] == odd


def test_json_that_is_none_is_told() -> None:
    assert find_invalid_json(texts(ss_datasets="{", ss_network_args="nonsense")) == ("ss_datasets", "ss_network_args")
    assert find_invalid_json(texts()) == ()


@pytest.mark.parametrize("text", ["None", "", "nan", "inf", "1e300", "-1e300", "yesterday"])
def test_times_that_there_cannot_be(text: str) -> None:
    assert parse_unix_time({"t": text}, "t") is None


def test_a_time_is_told_in_utc() -> None:
    assert parse_unix_time({"t": "1795368307.58"}, "t") == datetime(2026, 11, 22, 17, 25, 7, 580000, UTC)


def test_everything_of_a_file_together(tmp_path: Path) -> None:
    written = training_comment("made for fun; really", DIGEST)
    report = looked(write(tmp_path / "x.safetensors", SMALL, metadata(ss_training_comment=written)))
    assert report.what == "LoRA, dim 4, for Stable Diffusion 1.x"
    assert (report.comment, report.digest) == (written, DIGEST)
    assert report.about["trigger_phrase"] == "lum"
    assert report.about["license"] == "CC0-1.0"
    assert (report.started, report.seconds) == ("2026-11-22T17:25:07+00:00", 60.0)
    assert report.network
    assert report.network.alphas == {"1": 1}
    assert report.integrity
    assert report.integrity.verdict == "same"
    assert report.faults == report.remarks == ()


@pytest.mark.parametrize(
    ("wanted", "family", "more", "what"),
    [
        (Wanted("locon", 2, 1, {"dora": 1}, text=False), "sd15", {},
         "LoCon with DoRA, dim 1-2, for Stable Diffusion 1.x"),
        (Wanted("lora", 2, 2, unet=False), "sd15", {"ss_network_args": {"algo": "DyLoRA"}},
         "DyLoRA, dim 2, for Stable Diffusion 1.x"),
        (Wanted("full", 2, 2, unet=False), "sd2", {}, "full matrices, for Stable Diffusion 2.x"),
        (Wanted("lokr", 2, 2, unet=False), "sdxl", {}, "LoKr, dim 2, for SDXL"),
        (Wanted("ia3", 2, 2, unet=False), "sd15", {}, "(IA)^3, for Stable Diffusion 1.x"),
    ],
)  # fmt: skip
def test_a_file_in_a_few_words(tmp_path: Path, wanted: Wanted, family: str, more: dict[str, Any], what: str) -> None:
    names = metadata(**more, **({"modelspec.architecture": "", "ss_base_model_version": "sd_v1"}))
    names["ss_base_model_version"] = {"sd15": "sd_v1", "sd2": "sd_v2", "sdxl": "sdxl_base_v1-0"}[family]
    shapes = shapes_of(wanted, family)
    few = {name: shape for name, shape in shapes.items() if "_layers_0_" in name or "down_blocks_0" in name}
    assert looked(write(tmp_path / "x.safetensors", few, names)).what == what


def test_changed_tensors_and_numbers_that_are_none(tmp_path: Path) -> None:
    changed = looked(write(tmp_path / "x.safetensors", SMALL, metadata(sshs_model_hash="0" * 64)))
    assert changed.integrity
    assert changed.integrity.verdict == "changed"
    assert "do not match the hash stored in the file" in changed.faults[0]
    path = write(tmp_path / "nan.safetensors", SMALL, metadata(), value=float("nan"))
    assert looked(path).faults == ()
    (fault,) = looked(path, deep=True).faults
    assert fault.startswith("tensors that contain NaN or infinity: 3 ")
    sound = looked(write(tmp_path / "y.safetensors", SMALL, metadata()), deep=True)
    assert sound.integrity
    assert sound.integrity.not_finite == ()


def test_a_hash_of_lycoris_cannot_be_compared(tmp_path: Path) -> None:
    report = looked(write(tmp_path / "x.safetensors", SMALL, metadata(sshs_model_hash="0x" + "0" * 64)))
    assert report.integrity
    assert report.integrity.verdict == "not-comparable"
    assert report.faults == ()


def test_a_stripped_file_is_told_by_its_tensors(tmp_path: Path) -> None:
    report = looked(write(tmp_path / "x.safetensors", SMALL))
    assert report.what == "LoRA, dim 4, for Stable Diffusion 1.x"
    assert report.integrity
    assert report.integrity.verdict == "no-hash"
    assert "no sd-scripts metadata" in report.remarks[0]


def test_metadata_and_tensors_that_do_not_agree(tmp_path: Path) -> None:
    given = metadata(ss_network_dim="64", **{"modelspec.architecture": "stable-diffusion-xl-v1-base/lora"})
    report = looked(write(tmp_path / "x.safetensors", SMALL, given))
    assert report.family == "sd15"
    assert "the metadata is for SDXL, but the tensors are for Stable Diffusion 1.x" in report.remarks
    assert "network_dim is 64 in the metadata, but 4 in the tensors (was the LoRA resized?)" in report.remarks


@pytest.mark.parametrize("name", ["missing.safetensors", "folder.safetensors/"])
def test_what_cannot_be_read_is_a_fault(tmp_path: Path, name: str) -> None:
    (tmp_path / "folder.safetensors").mkdir()
    report = looked(tmp_path / name)
    assert report.kind == "unreadable"
    assert "cannot read" in report.faults[0]


def test_an_unknown_number_format_is_no_crash(tmp_path: Path) -> None:
    name = "lora_unet_x.lora_down.weight"
    entries = {name: {"dtype": "F4", "shape": [4, 2], "data_offsets": [0, 4]}}
    report = looked(write_raw(tmp_path / "x.safetensors", entries, bytes(4)), deep=True)
    assert report.network
    assert report.network.formats == {"F4": 8}
    assert report.faults == ()
    assert "number format is unknown" in report.remarks[-1]
