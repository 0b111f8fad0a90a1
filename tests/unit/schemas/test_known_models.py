"""What a base model's name reveals, and what it does not."""

from __future__ import annotations

import pytest

from lorabake_schemas.families.known_models import find_native_side, is_stock_model


@pytest.mark.parametrize(
    ("model", "side"),
    [
        ("runwayml/stable-diffusion-v1-5", 512),
        ("models/v1-5-pruned.safetensors", 512),
        ("v1-5-pruned-emaonly-fp16.safetensors", 512),
        ("C:\\models\\v1-5-pruned-emaonly.ckpt", 512),
        ("CompVis/stable-diffusion-v1-4", 512),
        ("sd-v1-4.ckpt", 512),
        ("stabilityai/stable-diffusion-2-1-base", 512),
        ("stabilityai/stable-diffusion-2-1", 768),
        ("v2-1_768-ema-pruned.safetensors", 768),
        ("stabilityai/stable-diffusion-xl-base-1.0/", 1024),
        ("sd_xl_base_1.0_0.9vae.safetensors", 1024),
    ],
)
def test_plain_models_are_known_by_their_publishers_names(model: str, side: int) -> None:
    assert is_stock_model(model)
    assert find_native_side(model) == side


@pytest.mark.parametrize(
    "model", ["animefull-final-pruned.ckpt", "anything-v4.5.safetensors", "Anything-V3.0-fp16.ckpt"]
)
def test_models_from_the_leak_were_trained_at_640_and_know_tags(model: str) -> None:
    assert find_native_side(model) == 640
    assert not is_stock_model(model)


@pytest.mark.parametrize(
    "model",
    [
        "fluffyrock.safetensors",
        "my-v1-5-pruned.safetensors",
        "stable-diffusion-v1-5-furry",
        "stable-diffusion-v1-5/fluffyrock.safetensors",
        "base.safetensors",
        "",
    ],
)
def test_other_names_tell_nothing(model: str) -> None:
    assert find_native_side(model) is None
    assert not is_stock_model(model)
