"""Families that lorabake does not train: `inspect` recognizes their LoRAs."""

from __future__ import annotations

from lorabake_schemas.families.model_family import LoraFamily, LoraSigns

RECOGNIZED = (
    LoraFamily(
        name="sd3",
        label="Stable Diffusion 3",
        lora=LoraSigns(architectures=("stable-diffusion-3",), versions=("sd3",), modules=("unet_joint_blocks_",)),
    ),
    LoraFamily(
        name="flux",
        label="FLUX",
        lora=LoraSigns(
            architectures=("flux", "chroma"),
            versions=("flux", "chroma"),
            modules=("unet_double_blocks_", "unet_single_blocks_"),
        ),
    ),
    LoraFamily(name="lumina", label="Lumina", lora=LoraSigns(architectures=("lumina",), versions=("lumina",))),
    LoraFamily(
        name="hunyuan-image",
        label="HunyuanImage",
        lora=LoraSigns(architectures=("hunyuan-image",), versions=("hunyuan",)),
    ),
    LoraFamily(name="anima", label="Anima", lora=LoraSigns(architectures=("anima",), versions=("anima",))),
)
