"""Configurations of other programs that are given as a recipe, by the keys that only they have."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from lorabake.util.files import parse_json
from lorabake.util.safetensors import is_pickle
from lorabake_schemas.messages import Message, msg

Raw = Mapping[str, Any]
_GUI, _DATASET = msg("a preset of the kohya_ss GUI"), msg("an sd-scripts dataset configuration (--dataset_config)")
_CONFIG = msg("an sd-scripts configuration (--config_file)")
_ONE_TRAINER, _AI_TOOLKIT = msg("a configuration of OneTrainer"), msg("a job of ai-toolkit")
_EASY, _SCRIPTS = msg("a configuration of LoRA_Easy_Training_Scripts"), msg("a configuration of lora-scripts")


_IMAGE = (
    msg("an image"),
    msg("put it into a folder with the other images, and write that folder as images under [[concept]] in a recipe"),
)
_MODEL = (
    msg("a model or a LoRA (safetensors)"),
    msg("`lorabake inspect FILE` describes a LoRA; a base model is named in a recipe as base.model"),
)
_CHECKPOINT = (
    msg("a torch checkpoint or another pickle"),
    msg("a base model is named in a recipe as base.model; safetensors is the safer format"),
)
_ZIP = (msg("a zip archive"), msg("unpack it, and write the folder of its images under [[concept]] in a recipe"))
_DOCUMENT = (msg("a PDF document"), None)
_WEB_PAGE = (msg("a web page"), msg("download the file itself, on GitHub with its button Raw"))
_OTHER = (msg("a binary file"), None)
_IMAGE_STARTS = (b"\x89PNG", b"\xff\xd8\xff", b"GIF8", b"BM", b"II*\0", b"MM\0*", b"\xff\x0a")
_UTF16_STARTS = (b"\xff\xfe", b"\xfe\xff")  # text, though not as a recipe has to be saved
START_SIZE = 512
_TORCH_MEMBER = b"data.pkl"  # the first member of a zip archive that torch.save wrote


def recognize_bytes(start: bytes) -> tuple[Message, Message | None] | None:
    """What a file is that is not text, by its first START_SIZE bytes, and what to do with it."""
    zeros = b"\0" in start
    image = start.startswith(_IMAGE_STARTS) or start[4:8] == b"ftyp" or (start[:4], start[8:12]) == (b"RIFF", b"WEBP")
    kinds = (
        (start[:4] == b"PK\x03\x04", _CHECKPOINT if _TORCH_MEMBER in start else _ZIP),
        (start.startswith(b"%PDF"), _DOCUMENT),
        (start.lstrip().lower().startswith((b"<!doctype", b"<html")), _WEB_PAGE),
        (start.isascii() and not zeros, None),
        (image, _IMAGE),
        (start[8:9] == b"{" and b"\0" in start[:8], _MODEL),
        (is_pickle(start), _CHECKPOINT),
        (zeros and not start.startswith(_UTF16_STARTS), _OTHER),
    )
    return next((what for holds, what in kinds if holds), None)


def recognize_text(text: str) -> Message | None:
    """What a file is that is not TOML: the JSON or YAML of another program."""
    start = text.lstrip()
    if start.startswith("{"):
        try:
            found = parse_json(text)
        except ValueError:
            return None
        return _recognize_json(cast("Raw", found)) if isinstance(found, dict) else None
    if start.removeprefix("---").lstrip().startswith(("job:", "job :")):
        return _AI_TOOLKIT
    return None


def _recognize_json(found: Raw) -> Message:
    if {"LoRA_type", "train_data_dir"} & found.keys():
        return _GUI
    if {"training_method", "concept_file_name"} & found.keys():
        return _ONE_TRAINER
    if "config" in found and "job" in found:
        return _AI_TOOLKIT
    return msg("a JSON file")


def recognize_table(found: Raw) -> Message | None:
    """What a TOML file is that has none of a recipe's tables."""
    if {"base", "concept", "train"} & found.keys():
        return None
    if "subsets" in found or {"general_args", "network_args", "optimizer_args"} & _names_of_tables(found):
        return _EASY
    if "datasets" in found or isinstance(found.get("general"), dict):
        return _DATASET
    if "model_train_type" in found:
        return _SCRIPTS
    keys = {*found, *(key for table in found.values() if isinstance(table, dict) for key in cast("Raw", table))}
    if {"pretrained_model_name_or_path", "network_module", "train_data_dir", "dataset_config"} & keys:
        return _CONFIG
    return None


def _names_of_tables(found: Raw) -> set[str]:
    return {name for name, value in found.items() if isinstance(value, dict)}
