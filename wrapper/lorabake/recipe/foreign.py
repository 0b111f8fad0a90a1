"""Configurations of other programs that are given as a recipe, by the keys that only they have."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from typing import Any, NamedTuple, cast

from lorabake.util.files import parse_json
from lorabake.util.safetensors import is_pickle
from lorabake_schemas.families.registry import list_scripts
from lorabake_schemas.messages import Message, msg

Raw = Mapping[str, Any]


class ForeignKind(NamedTuple):
    """What a file is. ``name`` is the format that `lorabake import` reads it as, empty for one that it cannot read;
    ``fix`` is what to do with it otherwise."""

    label: Message
    name: str = ""
    fix: Message | None = None


GUI = ForeignKind(msg("a preset of the kohya_ss GUI"), "kohya-gui")
DATASET = ForeignKind(msg("an sd-scripts dataset configuration (--dataset_config)"), "sd-scripts-dataset")
CONFIG = ForeignKind(msg("an sd-scripts configuration (--config_file)"), "sd-scripts-config")
SHELL = ForeignKind(msg("a script that starts sd-scripts"), "shell")
ONE_TRAINER = ForeignKind(msg("a configuration of OneTrainer"), "one-trainer")
AI_TOOLKIT = ForeignKind(msg("a job of ai-toolkit"), "ai-toolkit")
EASY = ForeignKind(msg("a configuration of LoRA_Easy_Training_Scripts"), "easy-training-scripts")
LORA_SCRIPTS = ForeignKind(msg("a configuration of lora-scripts"), "lora-scripts")
_JSON = ForeignKind(msg("a JSON file"))
_DAMAGED_JSON = ForeignKind(
    msg("damaged JSON"),
    "json",
    msg(
        "export it again from its program; `lorabake import FILE` names the damaged line, and makes a recipe of presets"
    ),
)
_IMAGE = ForeignKind(
    msg("an image"),
    fix=msg(
        "put it into a folder with the other images, and write that folder as images under [[concept]] in a recipe"
    ),
)
_MODEL = ForeignKind(
    msg("a model or a LoRA (safetensors)"),
    "lora",
    msg(
        "`lorabake inspect FILE` describes a LoRA, and `lorabake import FILE` makes a recipe of it; a base model is "
        "named in a recipe as base.model"
    ),
)
_CHECKPOINT = ForeignKind(
    msg("a torch checkpoint or another pickle"),
    "lora",
    msg("a base model is named in a recipe as base.model; safetensors is the safer format"),
)
_ZIP = ForeignKind(
    msg("a zip archive"), fix=msg("unpack it, and write the folder of its images under [[concept]] in a recipe")
)
_DOCUMENT = ForeignKind(msg("a PDF document"))
_WEB_PAGE = ForeignKind(msg("a web page"), fix=msg("download the file itself, on GitHub with its button Raw"))
_OTHER = ForeignKind(msg("a binary file"))
_IMAGE_STARTS = (b"\x89PNG", b"\xff\xd8\xff", b"GIF8", b"BM", b"II*\0", b"MM\0*", b"\xff\x0a")
_UTF16_STARTS = (b"\xff\xfe", b"\xfe\xff")  # text, though not as a recipe has to be saved
START_SIZE = 512
_TORCH_MEMBER = b"data.pkl"  # the first member of a zip archive that torch.save wrote


def recognize(content: bytes) -> ForeignKind | None:
    """What a file is by its bytes; None for a recipe, and for what nobody knows."""
    if (found := recognize_bytes(content[:START_SIZE])) is not None:
        return found
    text = decode_text(content)
    try:
        return recognize_table(tomllib.loads(text))
    except (ValueError, RecursionError):
        return recognize_text(text)


# In place of what is in an unknown encoding; no text has it. The second byte of a character may look like ASCII.
LOST = "\ufdd0"
_OTHER_BYTES = re.compile(rb"[\x80-\xff][\x40-\x7e\x80-\xff]?")


def decode_text(content: bytes) -> str:
    """Text in UTF-8, or in UTF-16 with its mark. Of one in another encoding only what is ASCII is known."""
    if content.startswith(_UTF16_STARTS):
        return content.decode("utf-16", "replace").replace("\ufffd", LOST)
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        return _OTHER_BYTES.sub(LOST.encode(), content).decode()


def recognize_bytes(start: bytes) -> ForeignKind | None:
    """What a file is that is not text, by its first START_SIZE bytes."""
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


def recognize_text(text: str) -> ForeignKind | None:
    """What a file is that is not TOML: the JSON or YAML of another program, or a script for a shell."""
    start = text.lstrip()
    if start.startswith("{"):
        try:
            found = parse_json(text)
        except (ValueError, RecursionError):
            return _recognize_damaged(text) or _DAMAGED_JSON
        return _recognize_json(cast("Raw", found)) if isinstance(found, dict) else None
    launches = any("accelerate" in line and "launch" in line for line in text.splitlines())
    return SHELL if launches or any(script in text for script in list_scripts()) else _recognize_damaged(text)


def _recognize_damaged(text: str) -> ForeignKind | None:
    """YAML, and what cannot be parsed, by the keys that only one program has: its reader says what is wrong."""
    return next((kind for kind, *marks in _MARKS if all(mark.search(text) for mark in marks)), None)


_MARKS = (
    (GUI, re.compile(r'"LoRA_type"\s*:')),
    (AI_TOOLKIT, re.compile(r"^job\s*:", re.MULTILINE), re.compile(r"^config\s*:", re.MULTILINE)),
    (ONE_TRAINER, re.compile(r'"training_method"\s*:')),
    (EASY, re.compile(r"^[ \t]*\[(general|network|optimizer|saving)_args\.args", re.MULTILINE)),
    (LORA_SCRIPTS, re.compile(r"^[ \t]*model_train_type[ \t]*=", re.MULTILINE)),
    (DATASET, re.compile(r"^[ \t]*\[\[datasets(\.subsets)?\]\]", re.MULTILINE)),
    (
        CONFIG,
        re.compile(r"^[ \t]*pretrained_model_name_or_path[ \t]*=", re.MULTILINE),
        re.compile(r"^[ \t]*network_module[ \t]*=", re.MULTILINE),
    ),
)


def _recognize_json(found: Raw) -> ForeignKind:
    if _GUI_KEYS & found.keys() or ("train_data_dir" in found and _GUI_FIELDS & found.keys()):
        return GUI
    if {"training_method", "concept_file_name"} & found.keys():
        return ONE_TRAINER
    if "config" in found and "job" in found:
        return AI_TOOLKIT
    if "datasets" in found or isinstance(found.get("general"), dict):
        return DATASET
    if (
        _NETWORK_KEYS & found.keys() and _FILE_KEYS & found.keys()
    ):  # options of sd-scripts under their own names, as other programs save them
        return CONFIG
    return GUI if "train_data_dir" in found else _JSON


_GUI_KEYS = {"LoRA_type", "max_resolution", "leco_denoise_guidance_scale"}
_GUI_FIELDS = {"lr_warmup", "epoch", "optimizer"}  # which sd-scripts has under other names
_NETWORK_KEYS = {"network_module", "network_dim"}


def recognize_table(found: Raw) -> ForeignKind | None:
    """What a TOML file is that has none of a recipe's tables."""
    if {"base", "concept", "kind"} & found.keys():
        return None
    if "subsets" in found or {"general_args", "network_args", "optimizer_args"} & _names_of_tables(found):
        return EASY
    if "datasets" in found or isinstance(found.get("general"), dict):
        return DATASET
    keys = {*found, *(key for table in found.values() if isinstance(table, dict) for key in cast("Raw", table))}
    if _LORA_SCRIPTS_KEYS & keys or ({"metadata", "data"} <= found.keys() and isinstance(found["data"], dict)):
        return LORA_SCRIPTS
    return CONFIG if (_CONFIG_KEYS if "train" not in found else _FILE_KEYS) & keys else None


_LORA_SCRIPTS_KEYS = {"model_train_type", "lycoris_algo", "ui_custom_params", "lr_restart_cycles"}
_FILE_KEYS = {"pretrained_model_name_or_path", "train_data_dir", "dataset_config"}
_CONFIG_KEYS = _FILE_KEYS | {"network_module", "network_dim", "optimizer_type", "max_train_epochs", "max_train_steps"}


def _names_of_tables(found: Raw) -> set[str]:
    return {name for name, value in found.items() if isinstance(value, dict)}
