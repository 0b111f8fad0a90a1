"""What people call a key leads to one that exists, and to no other."""

from __future__ import annotations

from collections import Counter

import pytest

from lorabake.recipe.validation import guess_key
from lorabake.util.resources import load_dataset_options, load_snapshot
from lorabake_schemas.options import DATASET_LEVELS
from lorabake_schemas.recipe_keys import (
    OPTION_BY_KEY,
    OWN_KEYS,
    find_key,
    list_key_names,
    list_recipe_keys,
    load_key_table,
    normalize_name,
)

KEYS = list_recipe_keys()
OPTIONS = {option.name for option in load_snapshot().merge_scripts()} | {
    name for level in DATASET_LEVELS for name in load_dataset_options().at(level)
}
BARE = {name.rpartition(".")[2] for name in KEYS}


@pytest.mark.parametrize("key", sorted(set(list_key_names().values())))
def test_a_name_leads_to_a_key_that_exists(key: str) -> None:
    assert key in KEYS or key in BARE or key.removeprefix("kohya.") in OPTIONS


def test_a_name_has_one_meaning() -> None:
    table = load_key_table()
    names = [normalize_name(name) for given in table["names"].values() for name in given.split(",")]
    assert [name for name, count in Counter(names).items() if count > 1] == []
    assert "" not in names
    assert not {normalize_name(key) for key in KEYS} & set(names)
    known = {normalize_name(key): key for key in BARE}
    assert {name: find_key(name) for name in names if name in known} == {}


def test_options_are_those_of_sd_scripts() -> None:
    assert set(OPTION_BY_KEY) <= set(KEYS)
    assert set(OPTION_BY_KEY.values()) <= OPTIONS


# Of networks.lora and LyCORIS, and of accelerate: no snapshot lists them.
NETWORK_ARGUMENTS = {
    "conv_dim", "conv_alpha", "rank_dropout", "module_dropout", "dora_wd", "factor", "block_size", "constraint",
    "preset", "use_tucker", "use_scalar", "rescaled", "train_norm",
}  # fmt: skip
ACCELERATE_OPTIONS = {"num_processes", "gpu_ids", "num_cpu_threads_per_process", "main_process_port"}


def test_every_key_becomes_an_option_or_is_lorabakes_own() -> None:
    others = {"network": NETWORK_ARGUMENTS, "launch": ACCELERATE_OPTIONS}
    tables = {name.rpartition(".")[0] for name in KEYS}
    without = {
        key.name
        for key in KEYS.values()
        if key.name not in tables and key.option not in OPTIONS | others.get(key.name.partition(".")[0], set())
    }
    assert without == OWN_KEYS


@pytest.mark.parametrize(
    ("where", "key"),
    [
        (("concept", 0, "repeats"), ("concept", "num_repeats")),
        (("regularization", 0, "image_dir"), ("regularization", "images")),
        (("Network Rank",), ("network", "network_dim")),
        (("train", "optimizer_type"), ("train", "optimizer")),
        (("train", "Loss_Type"), ("kohya", "loss_type")),
        (("output_name",), ("name",)),
        (("waive",), ("ignore",)),
        (("train", "learning_rte"), ("train", "learning_rate")),
        (("save", "precision"), ("save", "save_precision")),
        (("precision",), ("train", "mixed_precision")),
        (("captions", "dropout"), ("captions", "caption_dropout_rate")),
        (("network", "module"), ("network", "type")),
        (("save", "epochs"), ("save", "save_every_n_epochs")),
        (("trigger",), ("concept", "token")),
        (("metadata", "trigger"), ("metadata", "trigger_phrase")),
        (("noise_offset_type",), ("train", "noise_offset")),
        (("weight_decay",), ("train", "optimizer_args", "weight_decay")),
        (("network", "loraplus_lr_ratio"), ("network", "args", "loraplus_lr_ratio")),
        (("concept", 0, "is_reg"), ("regularization",)),
        (("additional_parameters",), ("kohya",)),
    ],
)
def test_an_unknown_key_is_understood(where: tuple[str | int, ...], key: tuple[str, ...]) -> None:
    assert guess_key(where) == key


@pytest.mark.parametrize("name", KEYS)
def test_every_key_is_described(name: str) -> None:
    text = KEYS[name].description
    assert text.endswith(".")
    assert len(text) <= 120
    assert "`" not in text
    assert text[0].isupper() or text.startswith("auto")
