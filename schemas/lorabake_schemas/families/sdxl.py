"""Stable Diffusion XL."""

from __future__ import annotations

from lorabake_schemas.families.model_family import (
    GuideValue,
    GuideValues,
    LoraBlocks,
    LoraSigns,
    ModelFamily,
    QuickstartNeeds,
    TextEncoder,
)
from lorabake_schemas.messages import msg

FAMILY = ModelFamily(
    two_board_models=(r"noobai.*",),  # its model card
    # By their model cards; Pony's authors keep what it was trained on to themselves, and people write e621's tags.
    board_models={r".*illustrious.*|animagine.*": "danbooru", r"pony.*": "e621"},
    name_patterns=(r"sd[-_ ]?xl.*", r".*xl([-_ .].*)?", r"pony.*", r".*illustrious.*", r"noobai.*", r"animagine.*"),
    name="sdxl",
    # OneTrainer's model_type, lora-scripts' model_train_type, ai-toolkit's arch and switches (is_sdxl is a misreading)
    other_names=("STABLE_DIFFUSION_XL_10_BASE", "sdxl-lora", "sdxl", "is_xl", "is_sdxl"),
    label="SDXL",
    script="sdxl_train_network.py",
    ignored_options=("clip_skip",),  # S23
    text_encoders=(
        TextEncoder(name="te1", folder="text_encoder", width=768, parameters=123_060_480),
        TextEncoder(
            name="te2",
            folder="text_encoder_2",
            width=1280,
            parameters=694_659_840,
            tokenizer="laion/CLIP-ViT-bigG-14-laion2B-39B-b160k",
        ),
    ),
    unet_parameters=2_567_463_684,
    context_width=2048,
    text_encoder_prefix="conditioner.embedders.1.",
    native_sides={r"stable-diffusion-xl-base-[01]\.[09]|sd_xl_base_[01]\.[09].*": 1024},
    latent_cache_suffix="_sdxl.npz",  # strategy_sd.py:134-136
    text_cache_suffix="_te_outputs.npz",  # strategy_sdxl.py:222
    shapes_file="shapes-sdxl.txt",
    lora_blocks=LoraBlocks(all=23, side=9, middle=3),
    size_step=32,
    latent_step=4,  # it halves them twice, and its upsampling only doubles (sdxl_original_unet.py:789)
    vae_needs_float32=True,
    wants_fp16_files=True,  # sdxl_train_util.py:86
    lora=LoraSigns(
        architectures=("stable-diffusion-xl",),
        versions=("sdxl",),
        modules=("te1_", "te2_", "unet_input_blocks_", "unet_middle_block_", "unet_output_blocks_"),
    ),
    guide=GuideValues(
        resolution=GuideValue(1024, "G4.58"),
        images=(12, 20),
        exposures=GuideValue(50, "G4.33"),
        rank=GuideValue(16, "G4.76"),
        alpha_rule="G4.76",
        adam_unet_lr=GuideValue(4e-4, "G4.67"),
        adam_text_encoder_lr=4.5e-4,
        warmup=GuideValue(0.2, "G4.55"),
        gradient_checkpointing=True,
        bucket_limit=GuideValue(2048, "G4.65"),
        least_resolution=1024,
    ),
    # Measured as for SD1.5: 12.1 GiB at most.
    quickstart=QuickstartNeeds(memory_bytes=14 << 30, disk_bytes=5_900_000_000, duration=msg("about five minutes")),
)
