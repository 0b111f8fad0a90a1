"""What a recipe means where it is silent: the choices that the rules judge and the resolve step writes."""

from __future__ import annotations

import math
from typing import Literal

from lorabake_schemas.families.known_models import find_native_side
from lorabake_schemas.families.model_family import GuideValue, ModelFamily
from lorabake_schemas.families.registry import DEFAULT_FAMILY, get_family
from lorabake_schemas.guide.caption_settings import (
    AFFIX_KEYS,
    caches_text_outputs,
    find_caption_value,
    get_caption_text,
    is_natural,
)
from lorabake_schemas.machine import BaseFacts, Precision
from lorabake_schemas.recipe import Concept, Network, Recipe, Train
from lorabake_schemas.sd_scripts import is_adaptive, is_schedule_free

# DyLoRA's rank is an upper limit (G7.22), its block_size LyCORIS' own default; convolutions by G4.77.
AUGMENTATIONS = ("color_aug", "random_crop")
NETWORK_TYPES = ("lora", "locon", "loha", "lokr", "dylora", "glora", "ia3", "diag-oft")  # that a file distinguishes
DYLORA_RANK, DYLORA_BLOCK_SIZE, CONV_RANK = 128, 4, 16


def resolve_family(recipe: Recipe, base: BaseFacts) -> ModelFamily:
    """The recipe's family, else the model's, else SD1.5, the guide's first case (a rule reports an unknown family)."""
    return get_family(recipe.base.family or base.family or DEFAULT_FAMILY)


def resolve_native_side(recipe: Recipe) -> int | None:
    """The side the model was trained at: the recipe's value, else that of a known model name (G4.59, G4.60)."""
    return recipe.base.native_resolution or find_native_side(recipe.base.model)


def default_resolution(recipe: Recipe, family: ModelFamily) -> GuideValue[int]:
    """Never above the model's native size, if the recipe or the model's name gives it (G4.59)."""
    native, usual = resolve_native_side(recipe), family.guide.resolution
    return GuideValue(native // 64 * 64, "G4.59") if native and native < usual.value else usual


def group_concepts(recipe: Recipe) -> tuple[tuple[int, ...], ...]:
    """The folders of each concept, by their place in the recipe: equal token, outfit and class are one concept."""
    groups: dict[tuple[str, ...], list[int]] = {}
    for index, concept in enumerate(recipe.concept):
        key = tuple((word or "").casefold() for word in (concept.token, concept.outfit, concept.class_))
        groups.setdefault(key, []).append(index)
    return tuple(map(tuple, groups.values()))


def is_multi_concept(recipe: Recipe) -> bool:
    """Several concepts in one run (guide part 6)."""
    return len(group_concepts(recipe)) > 1 or recipe.kind == "outfits"


def is_shuffled(concept: Concept, recipe: Recipe) -> bool:
    """Whether this concept's tags are shuffled: sentences and cached text encoder outputs are not, unless the recipe
    insists (G4.93, G3.7, S41)."""
    given = find_caption_value(concept, recipe, "shuffle_caption")
    return bool(given) if given is not None else not (is_natural(concept, recipe) or caches_text_outputs(recipe))


def list_leading_tags(concept: Concept) -> tuple[str, ...]:
    """The tags that every caption of a concept starts with (G3.10, G6.17, G3.12)."""
    if concept.token is None:
        return ()
    return tuple(word for word in (concept.token, concept.outfit, concept.class_) if word)


def name_concept(concept: Concept, recipe: Recipe) -> str:
    """What a concept is called: by its token and outfit, else by its class, else by the recipe."""
    return ", ".join(list_leading_tags(concept)[: 2 if concept.outfit else 1]) or concept.class_ or recipe.name


def format_class_tokens(concept: Concept, recipe: Recipe) -> str | None:
    """The prompt for images without a caption, as tags or as a sentence; None without token and class.

    sd-scripts takes no class tokens for images with masks or a metadata file (CU:225-247).
    """
    if concept.masks or concept.metadata_file:
        return None
    words = list_leading_tags(concept) or ((concept.class_,) if concept.class_ else ())
    return (" " if is_natural(concept, recipe) else ", ").join(words) or None


def format_bare_prompt(concept: Concept, recipe: Recipe) -> str:
    """What an image without a caption is trained with (TU:823-826, 2066); empty without token, class and prefix."""
    prefix, suffix = (get_caption_text(concept, recipe, key) for key in AFFIX_KEYS)
    return " ".join(part for part in (prefix, format_class_tokens(concept, recipe), suffix) if part)


def count_leading_tags(concept: Concept, recipe: Recipe) -> int:
    """How many tags that is: a token may be two, as in the folder names of G6.17, and a prefix comes before them.

    sd-scripts joins the prefix with a space (TU:824), so only its commas make tags.
    """
    prefix = get_caption_text(concept, recipe, "caption_prefix")
    return sum(word.count(",") + 1 for word in list_leading_tags(concept)) + prefix.count(",")


def uses_alpha_mask(concept: Concept, recipe: Recipe) -> bool:
    """Whether transparent parts of its images are not learned; a folder of masks rules that out (CU:97)."""
    given = concept.alpha_mask if concept.alpha_mask is not None else recipe.kohya.get("alpha_mask") is True
    return given and not concept.masks


def resolve_optimizer(train: Train) -> str:
    """Prodigy, which needs no learning rate (G4.46)."""
    return train.optimizer or "Prodigy"


def resolve_network_type(recipe: Recipe, base: BaseFacts) -> str:
    """Without a type in the recipe: that of the LoRA to continue from, else a LyCORIS LoCon for a style (G8.1)."""
    found = base.continued.type if base.continued else None
    known = next((name for name in NETWORK_TYPES if name == found), None)
    return recipe.network.type or known or ("locon" if recipe.kind == "style" else "lora")


FULL_MATRIX_RANK = 10_000  # above half of every layer's side in SD and SDXL
FP16_LIMIT = 65_504


def is_full_matrix(network: Network, kind: str) -> bool:
    """LoKr in full-matrix mode: its scale is 1 whatever alpha is, and it saves its rank as alpha (modules/lokr.py)."""
    args, rank = network.args or {}, network.network_dim or 0
    return kind == "lokr" and (args.get("full_matrix") is True or rank >= FULL_MATRIX_RANK)


def find_saved_alpha(network: Network, kind: str) -> float:
    """The largest alpha that full-matrix LoKr writes into the file: the rank, times its root with rs_lora; else 0."""
    if not is_full_matrix(network, kind):
        return 0.0
    rank = float(max(network.network_dim or 0, network.conv_dim or 0))
    return rank * math.sqrt(rank) if (network.args or {}).get("rs_lora") is True else rank


def scale_alpha(rank: int) -> float:
    """The guide's experiment with alpha, rank to the power of 1.5, which only a hint mentions (G4.74)."""
    return rank * math.sqrt(rank)


def resolve_precision(recipe: Recipe, device: Literal["cuda", "cpu"]) -> Precision:
    """The recipe's, else what its other options need, else what suits the device."""
    return recipe.train.mixed_precision or find_needed_precision(recipe, device) or get_default_precision(device)


# Options under [kohya] with the mixed precision that each needs (TN:814-833); None is any but "no".
PRECISION_NEEDS: dict[str, Precision | None] = {
    "full_fp16": "fp16", "full_bf16": "bf16", "fp8_base": None, "fp8_base_unet": None,
}  # fmt: skip


def find_needed_precision(recipe: Recipe, device: Literal["cuda", "cpu"]) -> Precision | None:
    """The mixed precision that an option under [kohya] needs, None if there is no such option."""
    needed: list[Precision | None] = [
        precision for name, precision in PRECISION_NEEDS.items() if recipe.kohya.get(name) is True
    ]
    any_of_them: Precision = "fp16" if device == "cuda" else "bf16"  # a CPU has no fp16 training
    return (needed[0] or any_of_them) if needed else None


def get_default_precision(device: Literal["cuda", "cpu"]) -> Precision:
    """fp16 like the saved file (G4.14); on the CPU accelerate refuses fp16 and nothing would be gained."""
    return "fp16" if device == "cuda" else "no"


def changes_images(recipe: Recipe) -> bool:
    """Whether [kohya] has an image changed at every use, so that its latents cannot be cached (S20)."""
    return any(recipe.kohya.get(name) is True for name in AUGMENTATIONS)


def resolve_token_limit(train: Train) -> int:
    """How many tokens of a caption the text encoder is given (GC.24); sd-scripts' own 75 goes unwritten."""
    return train.max_token_length or 225


def resolve_scheduler(recipe: Recipe) -> str | None:
    """The scheduler sd-scripts will use; None where the optimizer or [kohya] brings another."""
    if find_schedule_override(recipe):
        return None
    default = "cosine" if is_adaptive(resolve_optimizer(recipe.train)) else "cosine_with_restarts"
    return recipe.train.lr_scheduler or default


def find_schedule_override(recipe: Recipe) -> str | None:
    """What takes lr_scheduler's place: the optimizer's name, or ``lr_scheduler_type`` (TU:5270, 5058, 5299)."""
    optimizer = resolve_optimizer(recipe.train)
    if is_schedule_free(optimizer) or has_own_rate(recipe.train):
        return optimizer
    return "lr_scheduler_type" if recipe.train.lr_scheduler_type else None


def has_own_rate(train: Train) -> bool:
    """Adafactor unless ``relative_step = false``, and with ``warmup_init`` even then (TU:5031-5059)."""
    given = train.optimizer_args or {}
    relative = given.get("relative_step", True) or given.get("warmup_init", False)
    return resolve_optimizer(train) == "Adafactor" and bool(relative)
