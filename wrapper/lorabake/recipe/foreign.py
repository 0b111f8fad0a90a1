"""Configurations of other programs that are given as a recipe, by the keys that only they have."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from lorabake.util.files import parse_json
from lorabake_schemas.messages import Message, msg

Raw = Mapping[str, Any]
_GUI, _DATASET = msg("a preset of the kohya_ss GUI"), msg("an sd-scripts dataset configuration (--dataset_config)")
_CONFIG = msg("an sd-scripts configuration (--config_file)")
_ONE_TRAINER, _AI_TOOLKIT = msg("a configuration of OneTrainer"), msg("a job of ai-toolkit")
_EASY, _SCRIPTS = msg("a configuration of LoRA_Easy_Training_Scripts"), msg("a configuration of lora-scripts")


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
