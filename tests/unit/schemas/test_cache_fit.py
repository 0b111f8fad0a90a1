"""Why a cache does not fit a run, by what it was made from."""

from __future__ import annotations

from typing import Any

import pytest

from lorabake_schemas.cache_origins import CacheOrigin, CacheSettings, find_stale_reason

BASE: dict[str, Any] = {"model_name": "base.safetensors", "precision": "fp16", "commit": "c0ffee00"}
LATENTS = CacheSettings(kind="latents", model="v1", resolution=(512, 512), **BASE)
PICTURE = CacheOrigin("p1", LATENTS, (800, 600), (576, 448), (597, 448))
TEXT = CacheSettings(kind="text", model="b1", tokenizer="t1", **BASE)
CAPTION = CacheOrigin("c1", TEXT)


def under(origin: CacheOrigin, **other: Any) -> CacheOrigin:
    return origin._replace(settings=origin.settings.model_copy(update=other))


@pytest.mark.parametrize(
    ("now", "why"),
    [
        (PICTURE._replace(source="p2"), "the image was replaced or edited since"),
        (
            under(PICTURE._replace(bucket=(832, 640), resized=(853, 640)), resolution=(768, 768)),
            "made with resolution = 512, but this run uses 768",
        ),
        (
            under(PICTURE._replace(bucket=(832, 640)), resolution=(768, 1024)),
            "made with resolution = 512, but this run uses 768 x 1024",
        ),
        (
            PICTURE._replace(bucket=(512, 512), resized=(683, 512)),
            "made with other bucket settings, which crop the image differently",
        ),
        (under(PICTURE, model="v2"), "made with another VAE from a model of the same name, base.safetensors"),
        (
            under(PICTURE, model="v2", model_name="kl-f8.safetensors"),
            "made with the VAE of base.safetensors, but this run uses the one of kl-f8.safetensors",
        ),
        (
            under(PICTURE, resize_interpolation="area"),
            "made without resize_interpolation, but this run uses resize_interpolation = area",
        ),
        (under(PICTURE, precision="fp32"), "made with precision = fp16, but this run uses fp32"),
        (under(PICTURE, commit="deadbeef" * 5), "made with another version of sd-scripts, c0ffee00"),
    ],
)
def test_latents_that_no_longer_fit(now: CacheOrigin, why: str) -> None:
    assert find_stale_reason(PICTURE, now) == why


@pytest.mark.parametrize(
    ("now", "why"),
    [
        (CAPTION._replace(source="c2"), "the caption was edited since"),
        (under(CAPTION, model="b2"), "made with another text encoder from a model of the same name, base.safetensors"),
        (
            under(CAPTION, model="b2", model_name="pony.safetensors"),
            "made with the text encoder of base.safetensors, but this run uses the one of pony.safetensors",
        ),
        (under(CAPTION, max_token_length=225), "made with max_token_length = 75, but this run uses 225"),
        (
            under(CAPTION, weighted_captions=True),
            "made without weighted_captions, but this run uses weighted_captions = true",
        ),
        (under(CAPTION, tokenizer="t2"), "made with another tokenizer"),
        (under(CAPTION, precision="bf16"), "made with precision = fp16, but this run uses bf16"),
    ],
)
def test_text_that_no_longer_fits(now: CacheOrigin, why: str) -> None:
    assert find_stale_reason(CAPTION, now) == why


def test_what_makes_no_difference_fits() -> None:
    assert find_stale_reason(PICTURE, PICTURE) is None
    assert find_stale_reason(CAPTION, CAPTION) is None
    assert (
        find_stale_reason(PICTURE, under(PICTURE, resolution=(768, 768))) is None
    )  # a small picture that is not enlarged
    assert find_stale_reason(PICTURE, under(PICTURE, model_name="renamed.safetensors")) is None
    assert find_stale_reason(PICTURE, under(PICTURE, commit="")) is None


def test_mirrored_latents_are_no_harm_and_missing_ones_are_made() -> None:
    assert find_stale_reason(under(PICTURE, flip_aug=True), PICTURE) is None
    assert find_stale_reason(PICTURE, under(PICTURE, flip_aug=True)) is None
    assert "flip_aug" in (find_stale_reason(PICTURE, under(PICTURE, flip_aug=True), trusting=True) or "")


def test_an_alpha_mask_that_nobody_asked_for_would_be_used() -> None:
    assert "alpha_mask" in (find_stale_reason(under(PICTURE, alpha_mask=True), PICTURE) or "")
    assert find_stale_reason(PICTURE, under(PICTURE, alpha_mask=True)) is None
    assert "alpha_mask" in (find_stale_reason(PICTURE, under(PICTURE, alpha_mask=True), trusting=True) or "")
