"""What a recipe means where it is silent: the choices that the rules judge and the resolve step writes."""

from __future__ import annotations

import math
from typing import Literal

from lorabake_schemas.known_models import native_side
from lorabake_schemas.machine import BaseFacts, Family, Precision
from lorabake_schemas.recipe import Captions, Concept, NetworkType, Recipe, Train
from lorabake_schemas.vocabulary import is_adaptive, is_schedule_free

# DyLoRA's rank is an upper limit (G7.22), its block_size LyCORIS' own default; convolutions by G4.77.
DYLORA_RANK, DYLORA_BLOCK, CONV_RANK = 128, 4, 16


def family_of(recipe: Recipe, base: BaseFacts) -> Family:
    """The recipe's, else the model's own, else SD1.5, the guide's first case (a rule speaks up when nobody knows)."""
    return recipe.base.family or base.family or "sd15"


def native_of(recipe: Recipe) -> int | None:
    """The side the model was trained at: the recipe's word, else what the model's name tells (G4.59, G4.60)."""
    return recipe.base.native_resolution or native_side(recipe.base.model)


def is_multi(recipe: Recipe) -> bool:
    """Several concepts in one run (guide part 6)."""
    return len(recipe.concept) > 1 or recipe.kind == "outfits"


def shuffles(concept: Concept, recipe: Recipe) -> bool:
    """Whether this concept's tags are shuffled: sentences are not, unless the recipe insists (G4.93, G3.7)."""
    given = concept.shuffle_caption if concept.shuffle_caption is not None else recipe.captions.shuffle_caption
    return given if given is not None else recipe.base.tags != "natural"


def leading_words(concept: Concept) -> tuple[str, ...]:
    """What every caption of a concept begins with (G3.10, G6.17, G3.12)."""
    return tuple(word for word in (concept.token, concept.outfit, concept.class_) if word)


def leading_tags(concept: Concept, captions: Captions) -> int:
    """How many tags that is: a token may be two, as in the folder names of G6.17, and a prefix comes before them.

    sd-scripts joins the prefix with a space (TU:824), so only its commas make tags.
    """
    return sum(word.count(",") + 1 for word in leading_words(concept)) + (captions.caption_prefix or "").count(",")


def optimizer_of(train: Train) -> str:
    """Prodigy, which needs no learning rate (G4.46)."""
    return train.optimizer or "Prodigy"


def network_of(recipe: Recipe) -> NetworkType:
    """A style is a LyCORIS LoCon when the recipe does not say (G8.1)."""
    return recipe.network.type or ("locon" if recipe.kind == "style" else "lora")


def scaled_alpha(rank: int) -> float:
    """The guide's experiment with alpha, rank to the power of 1.5, which only a hint mentions (G4.74)."""
    return rank * math.sqrt(rank)


def precision_of(train: Train, device: Literal["cuda", "cpu"]) -> Precision:
    """The recipe's, else what suits the device."""
    return train.mixed_precision or default_precision(device)


def default_precision(device: Literal["cuda", "cpu"]) -> Precision:
    """fp16 like the saved file (G4.14); on the CPU accelerate refuses fp16 and nothing would be gained."""
    return "fp16" if device == "cuda" else "no"


def token_limit_of(train: Train) -> int:
    """How many tokens of a caption the text encoder is given (GC.24); sd-scripts' own 75 goes unwritten."""
    return train.max_token_length or 225


def scheduler_of(recipe: Recipe) -> str | None:
    """The scheduler sd-scripts will use; None where the optimizer or [kohya] brings another."""
    if brings_schedule(recipe):
        return None
    default = "cosine" if is_adaptive(optimizer_of(recipe.train)) else "cosine_with_restarts"
    return recipe.train.lr_scheduler or default


def brings_schedule(recipe: Recipe) -> str | None:
    """What takes lr_scheduler's place: the optimizer's name, or ``lr_scheduler_type`` (TU:5270, 5058, 5299)."""
    optimizer = optimizer_of(recipe.train)
    if is_schedule_free(optimizer) or sets_own_rate(recipe.train):
        return optimizer
    return "lr_scheduler_type" if recipe.kohya.get("lr_scheduler_type") else None


def sets_own_rate(train: Train) -> bool:
    """Adafactor unless told ``relative_step = false``, and with ``warmup_init`` even then (TU:5031-5059)."""
    given = train.optimizer_args or {}
    relative = given.get("relative_step", True) or given.get("warmup_init", False)
    return optimizer_of(train) == "Adafactor" and bool(relative)


__all__ = [
    "CONV_RANK",
    "DYLORA_BLOCK",
    "DYLORA_RANK",
    "brings_schedule",
    "default_precision",
    "family_of",
    "is_multi",
    "leading_tags",
    "leading_words",
    "native_of",
    "network_of",
    "optimizer_of",
    "precision_of",
    "scaled_alpha",
    "scheduler_of",
    "sets_own_rate",
    "shuffles",
    "token_limit_of",
]
