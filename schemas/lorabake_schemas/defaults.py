"""What a recipe means where it is silent: the choices that the rules judge and the resolve step writes."""

from __future__ import annotations

from typing import Literal

from lorabake_schemas.machine import BaseFacts, Family, Precision
from lorabake_schemas.recipe import NetworkType, Recipe, Train
from lorabake_schemas.vocabulary import is_adaptive, is_schedule_free

# DyLoRA's rank is an upper limit (G7.22), its block_size LyCORIS' own default; convolutions by G4.77.
DYLORA_RANK, DYLORA_BLOCK, CONV_RANK = 128, 4, 16


def family_of(recipe: Recipe, base: BaseFacts) -> Family:
    """The recipe's, else the model's own, else SD1.5, the guide's first case (a rule speaks up when nobody knows)."""
    return recipe.base.family or base.family or "sd15"


def optimizer_of(train: Train) -> str:
    """Prodigy, which needs no learning rate (G4.46)."""
    return train.optimizer or "Prodigy"


def network_of(recipe: Recipe) -> NetworkType:
    """A style is a LyCORIS LoCon when the recipe does not say (G8.1)."""
    return recipe.network.type or ("locon" if recipe.kind == "style" else "lora")


def precision_of(train: Train, device: Literal["cuda", "cpu"]) -> Precision:
    """The recipe's, else what suits the device."""
    return train.mixed_precision or default_precision(device)


def default_precision(device: Literal["cuda", "cpu"]) -> Precision:
    """fp16 like the saved file (G4.14); on the CPU accelerate refuses fp16 and nothing would be gained."""
    return "fp16" if device == "cuda" else "no"


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
    "network_of",
    "optimizer_of",
    "precision_of",
    "scheduler_of",
    "sets_own_rate",
]
