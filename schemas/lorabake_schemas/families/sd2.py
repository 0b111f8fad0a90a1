"""Stable Diffusion 2.x: the guide treats it as 1.x, sd-scripts with v2."""

from __future__ import annotations

from dataclasses import replace

from lorabake_schemas.families import sd15
from lorabake_schemas.families.model_family import GuideValue, LoraSigns, TextEncoder

FAMILY = replace(
    sd15.FAMILY,
    name="sd2",
    other_names=(
        "STABLE_DIFFUSION_20",
        "STABLE_DIFFUSION_20_BASE",
        "STABLE_DIFFUSION_21",
        "STABLE_DIFFUSION_21_BASE",
        "sd2",
        "is_v2",
    ),
    label="Stable Diffusion 2.x",
    script_options={"v2": GuideValue(value=True, rule="G4.10")},
    text_encoders=(
        TextEncoder(
            name="te",
            folder="text_encoder",
            width=1024,
            parameters=340_387_840,
            tokenizer="stabilityai/stable-diffusion-2",
            tokenizer_folder="tokenizer",
        ),
    ),
    unet_parameters=865_910_724,
    context_width=1024,
    text_encoder_prefix="cond_stage_model.model.",
    native_sides={
        r"stable-diffusion-2(-1)?-base|512-base-ema|v2-1_512-.*": 512,
        r"stable-diffusion-2(-1)?|768-v-ema|v2-1_768-.*": 768,
    },
    tag_model_sides={},
    board_models={},
    name_patterns=(r"sd[-_ ]?v?2[-_.]?[01]?", r"v2-1", r"stable-diffusion-2.*"),
    has_both_predictions=True,
    shapes_file="shapes-sd2.txt",
    lora=LoraSigns(architectures=("stable-diffusion-v2",), versions=("sd_v2",)),
    guide=replace(sd15.FAMILY.guide, anime_resolution=None, anime_clip_skip=None),
    quickstart=replace(sd15.FAMILY.quickstart, offered=False),
)
