"""Stable Diffusion 1.x, the guide's first case."""

from __future__ import annotations

from lorabake_schemas.families.model_family import (
    GuideValue,
    GuideValues,
    LoraSigns,
    ModelFamily,
    QuickstartNeeds,
    TextEncoder,
)
from lorabake_schemas.messages import msg

FAMILY = ModelFamily(
    name="sd15",
    other_names=("STABLE_DIFFUSION_15", "sd-lora", "sd1", "sd15", "sd"),
    label="Stable Diffusion 1.x",
    script="train_network.py",
    text_encoders=(TextEncoder(name="te", folder="text_encoder", width=768, parameters=123_060_480),),
    unet_parameters=859_520_964,
    context_width=768,
    text_encoder_prefix="cond_stage_model.transformer.",
    native_sides={r"stable-diffusion-v1-[1-5]": 512, r"sd-v1-[1-5]|v1-5-pruned(-emaonly)?": 512},
    # The NovelAI leak and the best-known models made from it, trained at 640 by the guide (G4.60).
    tag_model_sides={
        r"animefull-(final|latest)(-pruned)?|animesfw-(final|latest)(-pruned)?": 640,
        r"anything-?v?[345].*": 640,
    },
    board_models={r"animefull.*|animesfw.*|anything-?v?[345].*": "danbooru", r"fluffyrock.*|fluffy-rock.*": "e621"},
    name_patterns=(r"sd[-_ ]?v?1[-_.]?[45]?", r"v1-[1-5]", r"stable-diffusion-v1.*"),
    latent_cache_suffix="_sd.npz",  # strategy_sd.py:134-136
    shapes_file="shapes-sd15.txt",
    runs_pickles=True,  # MU:980
    broken_presets=("full-lin", "unet-only"),
    full_preset_file="lycoris-preset-full-sd15.toml",
    lora=LoraSigns(architectures=("stable-diffusion-v1",), versions=("sd_v1",)),
    guide=GuideValues(
        resolution=GuideValue(768, "G4.57"),
        images=(15, 30),
        exposures=GuideValue(100, "G4.32"),
        rank=GuideValue(32, "G4.70"),
        alpha_rule="G4.72",
        adam_unet_lr=GuideValue(1e-4, "G4.66"),
        adam_text_encoder_lr=5e-5,
        warmup=GuideValue(0.1, "G4.54"),
        anime_resolution=640,
        anime_clip_skip=2,
    ),
    # Measured with the pinned trainer on the CPU at 64 px, fp32, Prodigy: its processes used 7.0 GiB at most
    # (sd-scripts keeps two UNets in memory while it converts the base model). Disk: the base model and some runs.
    quickstart=QuickstartNeeds(memory_bytes=15 << 29, disk_bytes=2_000_000_000, duration=msg("a minute or two")),
)
