"""The metadata that the pinned sd-scripts wrote in eight real trainings (trained_loras.toml), against what they were
started with: every option is recovered but for those that no LoRA has."""

from __future__ import annotations

import ast
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, cast

import pytest

from lora_files import write
from lorabake.exchange.foreign import ForeignConfig, Options, Source, Unset
from lorabake.exchange.lora_file.reader import read_lora_file
from lorabake_schemas.base import OptionValue

TRAINED = tomllib.loads((Path(__file__).parent / "trained_loras.toml").read_text(encoding="utf-8"))
RUNS: list[dict[str, Any]] = TRAINED["run"]
# Not in the metadata of a training with a dataset configuration, whatever it was trained with.
UNKNOWABLE = frozenset({
    "lr_scheduler_num_cycles", "save_every_n_steps", "caption_extension", "caption_dropout_rate",
    "caption_tag_dropout_rate", "bucket_no_upscale", "bucket_reso_steps", "validation_split", "validation_seed",
    "validate_every_n_steps", "max_validation_steps", "no_half_vae",
})  # fmt: skip
LEAST = 40  # different settings that are recovered from the eight
MODULES = (
    "text_model_encoder_layers_0_self_attn_q_proj",
    "down_blocks_0_attentions_0_transformer_blocks_0_attn2_to_k",
)
Settings = Iterator[tuple[str, object, object]]


def read(run: Mapping[str, Any], folder: Path) -> ForeignConfig:
    given: dict[str, str] = TRAINED["common"] | run["metadata"]
    rank, shapes = int(given["ss_network_dim"]), dict[str, tuple[int, ...]]()
    for part in run["parts"]:
        module = f"lora_{part}_{MODULES[part == 'unet']}"
        shapes |= {f"{module}.lora_down.weight": (rank, 768), f"{module}.lora_up.weight": (8, rank)}
    return read_lora_file(Source(path=write(folder / f"{run['name']}.safetensors", shapes, given), content=b""))


def iter_settings(run: Mapping[str, Any], config: ForeignConfig) -> Settings:
    """Each option of the training with what it was and what was recovered."""
    found = dict(config.options)
    for name, value in run["train"].items():
        if name not in {"resolution", "save_precision"}:  # only for the metadata; only in the tensors
            yield name, value, pick(found, name)
    for planned, block in zip(run["datasets"], config.datasets, strict=True):
        for name, value in planned.items():
            if name == "subsets":
                for one, two in zip(value, block.subsets, strict=True):
                    yield from ((key, each, pick(two.options, key)) for key, each in one.items() if key != "is_reg")
                    assert two.is_reg is one.get("is_reg", False)
            else:
                yield name, value, pick(block.options, name)


def pick(options: Options, name: str) -> OptionValue | None:
    given = options.get(name)
    return None if given is None or isinstance(given.value, Unset) else given.value


def normalize(name: str, value: object) -> object:
    """The forms in which a value may be written."""
    if not isinstance(value, list | tuple):
        return (value, value) if name == "resolution" else value
    items = tuple(cast("list[object]", value))
    if name.endswith("_args"):
        pairs = (str(item).partition("=") for item in items)
        return {key: read_literal(text) for key, _, text in pairs if not is_full_preset(key, text)}
    return (items[0], items[-1]) if name == "resolution" else items


def is_full_preset(key: str, text: str) -> bool:
    """lorabake trains with a file of its own for the preset "full" of LyCORIS."""
    return key == "preset" and (text == "full" or text.endswith(".toml"))


def read_literal(text: str) -> object:
    try:
        found: object = ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text
    return list(cast("tuple[object, ...]", found)) if isinstance(found, tuple) else found


def is_recovered(config: ForeignConfig, name: str, value: object, found: object) -> bool:
    if name in {"max_train_steps", "max_train_epochs"}:  # one follows from the other
        return any(key in config.options for key in ("max_train_steps", "max_train_epochs"))
    if value == found or normalize(name, value) == normalize(name, found):
        return True
    return found is None and value in (False, 0)  # what sd-scripts does anyway


@pytest.mark.parametrize("run", RUNS, ids=lambda run: str(run["name"]))
def test_what_was_trained_is_recovered(tmp_path: Path, run: dict[str, Any]) -> None:
    config = read(run, tmp_path)
    lost = {
        (name, str(value), str(found))
        for name, value, found in iter_settings(run, config)
        if not is_recovered(config, name, value, found)
    }
    assert {name for name, *_ in lost} <= UNKNOWABLE, lost
    assert all(line.fate != "unknown" for line in config.keys)


def test_at_least_forty_settings_are_recovered(tmp_path: Path) -> None:
    recovered: set[str] = set()
    for run in RUNS:
        config = read(run, tmp_path)
        recovered |= {
            name for name, value, found in iter_settings(run, config) if found is not None and value is not None
        }
    assert len(recovered - UNKNOWABLE) >= LEAST, sorted(recovered)
