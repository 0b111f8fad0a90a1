"""A LyCORIS preset of the recipe's own that matches nothing is found before the start, and no other is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from lorabake.analysis.preset_check import find_empty_preset
from lorabake.util import resources
from lorabake_schemas.signatures import Signatures
from situations import plan_of, recipe

SIGNATURES = resources.load_snapshot().signatures
NOTHING = """
unet_target_module = ["NoSuchBlock"]
unet_target_name = []
text_encoder_target_module = ["NoSuchLayer"]
text_encoder_target_name = []
"""


def found(folder: Path, preset: str, known: Signatures = SIGNATURES, **network: Any) -> list[str]:
    (folder / "mine.toml").write_text(preset, encoding="utf-8")
    made = recipe(network={"type": "locon", "preset": "mine.toml"} | network)
    return [f"{each.rule} {each.key}" for each in find_empty_preset(plan_of(made), folder, known)]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("NoSuchBlock", "ResnetBlockTwo"),
        ("unet_target_name = []", 'unet_target_name = ["no_such_part.*"]'),
        ("unet_target_name = []", 'unet_target_name = ["("]'),
        ("unet_target_name = []", 'unet_target_name = ["no_such*"]\nuse_fnmatch = true'),
    ],
)
def test_nothing_matches(tmp_path: Path, old: str, new: str) -> None:
    assert found(tmp_path, NOTHING.replace(old, new)) == ["S35.nothing network.preset"]


def test_only_the_parts_that_are_trained_count(tmp_path: Path) -> None:
    text = NOTHING.replace("NoSuchLayer", "CLIPMLP")
    assert found(tmp_path, text) == []
    assert found(tmp_path, text, network_train_unet_only=True) == ["S35.nothing network.preset"]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("NoSuchBlock", "Transformer2DModel"),
        ("NoSuchLayer", "CLIPAttention"),
        ("NoSuchBlock", "Linear"),
        ('unet_target_module = ["NoSuchBlock"]\n', ""),  # LyCORIS' own list stands in
        ("unet_target_name = []", 'unet_target_name = ["down_blocks.0.attentions.0.proj_in"]'),
        ("unet_target_name = []", 'unet_target_name = [".*attn1"]'),
        ("unet_target_name = []", 'unet_target_name = ["down_blocks.*"]\nuse_fnmatch = true'),
        ("text_encoder_target_name = []", 'text_encoder_target_name = ["text_model.encoder.layers.0"]'),
    ],
)
def test_something_matches(tmp_path: Path, old: str, new: str) -> None:
    assert found(tmp_path, NOTHING.replace(old, new)) == []


def test_what_is_not_known_is_not_refused(tmp_path: Path) -> None:
    assert found(tmp_path, NOTHING, Signatures()) == []
    assert found(tmp_path, "no toml") == []
    assert list(find_empty_preset(plan_of(recipe()), tmp_path, SIGNATURES)) == []
