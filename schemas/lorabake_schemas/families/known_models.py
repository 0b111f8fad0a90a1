"""What the name of a base model tells: whether it is one of the plain models, and at what size it was trained.

A name is no proof, so only names that their publishers gave are known here, and what follows from them can always be
overruled in the recipe (base.native_resolution, base.tags).
"""

from __future__ import annotations

import re

# The models that everything else descends from, by repository or file name, and the side they were trained at
# (their model cards; SD 2.x has one of each).
_STOCK_MODELS: tuple[tuple[str, int], ...] = (
    (r"stable-diffusion-v1-[1-5]", 512),
    (r"sd-v1-[1-5]|v1-5-pruned(-emaonly)?", 512),
    (r"stable-diffusion-2(-1)?-base|512-base-ema|v2-1_512-.*", 512),
    (r"stable-diffusion-2(-1)?|768-v-ema|v2-1_768-.*", 768),
    (r"stable-diffusion-xl-base-[01]\.[09]|sd_xl_base_[01]\.[09].*", 1024),
)
# The NovelAI leak and the best known models made from it, trained at 640 by the guide (G4.60).
_NAI_NAMES = r"animefull-(final|latest)(-pruned)?|animesfw-(final|latest)(-pruned)?|anything-?v?[345].*"
_NAI_SIDE = 640
_PRECISION_SUFFIX = re.compile(r"[._-](fp16|fp32|bf16)$")


def is_stock_model(model: str) -> bool:
    """Whether the name is that of a plain Stable Diffusion model, which was never trained on tags (GC.4)."""
    return any(re.fullmatch(name, each) for each in _get_name_variants(model) for name, _ in _STOCK_MODELS)


def find_native_side(model: str) -> int | None:
    """The side at which a model of this name was trained, None for a name that tells nothing."""
    for each in _get_name_variants(model):
        if re.fullmatch(_NAI_NAMES, each):
            return _NAI_SIDE
        for name, side in _STOCK_MODELS:
            if re.fullmatch(name, each):
                return side
    return None


def _get_name_variants(model: str) -> tuple[str, ...]:
    """The file or repository name in lower case, with and without its precision."""
    last = model.replace("\\", "/").rstrip("/").rpartition("/")[2].lower()
    stem = last.removesuffix(".safetensors").removesuffix(".ckpt")
    return (stem, _PRECISION_SUFFIX.sub("", stem))
