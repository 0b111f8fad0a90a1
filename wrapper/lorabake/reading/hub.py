"""What a run would ask of the Hugging Face hub, and whether it is all on this machine already."""

from __future__ import annotations

from pathlib import Path

from lorabake_schemas.machine import BaseFacts, Family
from lorabake_schemas.recipe import Recipe

# The tokenizers sd-scripts loads, by the names of their folders in tokenizer_cache_dir (strategy_base.py:59,
# strategy_sd.py:17-18, strategy_sdxl.py:18-19 at the pin).
_CLIP_L = "openai_clip-vit-large-patch14"
TOKENIZERS: dict[Family, tuple[str, ...]] = {
    "sd15": (_CLIP_L,),
    "sd2": ("stabilityai_stable-diffusion-2",),
    "sdxl": (_CLIP_L, "laion_CLIP-ViT-bigG-14-laion2B-39B-b160k"),
}
_WORDS = ("vocab.json", "merges.txt")
# [kohya] options that speak with the hub while the trainer runs (TN:1310, TU:4776).
_ONLINE = ("huggingface_repo_id", "resume_from_huggingface")


def lacking_tokenizers(cache_dir: Path, family: Family) -> tuple[str, ...]:
    """The tokenizer folders that sd-scripts would have to fetch into ``cache_dir``, by name."""
    return tuple(name for name in TOKENIZERS[family] if not all((cache_dir / name / file).is_file() for file in _WORDS))


def is_offline(recipe: Recipe, base: BaseFacts | None, folder: Path) -> bool:
    """Whether a run needs nothing of the hub, so that it can be kept from asking. ``folder`` is the recipe's.

    Model, VAE and tokenizers are here, and nothing is uploaded.
    """
    cache, vae = recipe.base.tokenizer_cache_dir, recipe.base.vae
    family = recipe.base.family or (base.family if base else None)
    return (
        base is not None
        and base.kind in {"file", "folder"}
        and (vae is None or (folder / vae).exists())
        and cache is not None
        and family is not None
        and not lacking_tokenizers(folder / cache, family)
        and not any(recipe.kohya.get(name) for name in _ONLINE)
    )


__all__ = ["TOKENIZERS", "is_offline", "lacking_tokenizers"]
