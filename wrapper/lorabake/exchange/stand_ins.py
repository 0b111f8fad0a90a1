"""What a recipe would train without looking at any file: plans with made-up images, machines and models."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, cast

from pydantic import ValidationError

from lorabake.errors import RecipeError
from lorabake.exchange.trained import TrainerFacts, Training, describe_plan
from lorabake.planning.resolve import resolve_plan
from lorabake.recipe.validation import findings_from_errors
from lorabake_schemas.dataset import DatasetFacts, FolderFacts, ImageFacts
from lorabake_schemas.findings import Finding
from lorabake_schemas.machine import AttentionProbe, BaseFacts, ContinuedLora, Gpu, MachineFacts
from lorabake_schemas.messages import literal
from lorabake_schemas.plan import Plan
from lorabake_schemas.recipe import Recipe, lift_keys

Raw = Mapping[str, Any]
_PROMPTS = ["a prompt"]
_SIDE = 1024  # pixels of a made-up image
_ODD_LORA = ContinuedLora(
    file="x", type="lora", ranks=(7,), alphas=(3.0,), conv_ranks=(5,), conv_alphas=(2.0,), text_encoder=False
)


class StandIn(NamedTuple):
    """A machine and a base model that a recipe may meet."""

    machine: MachineFacts
    base: BaseFacts


def list_stand_ins(content: Raw) -> tuple[StandIn, ...]:
    """A large and a small GPU; a LoRA to continue from has values that nobody else would choose."""
    continues = "network_weights" in cast("Raw", content.get("network", {}))
    base = BaseFacts(kind="file", continued=_ODD_LORA if continues else None)
    return tuple(
        StandIn(
            MachineFacts(system="Linux", cpus=8, memory_bytes=64 << 30, gpus=(Gpu(name="x", memory_mib=memory),)), base
        )
        for memory in (24_000, 8_000)
    )


def read_recipe(content: Raw) -> tuple[Recipe | None, tuple[Finding, ...]]:
    """The recipe with this content, or what is wrong with it. Files that it names are not looked at."""
    raw = lift_keys(dict(content))
    sample = cast("Raw", raw.get("sample", {}))
    if isinstance(sample.get("prompts"), str):
        raw = {**raw, "sample": {**sample, "prompts": _PROMPTS}}
    try:
        return Recipe.model_validate(raw), ()
    except ValidationError as error:
        return None, tuple(findings_from_errors(error.errors(include_url=False), raw))


def make_facts(recipe: Recipe) -> DatasetFacts:
    """Another number of images in each folder, so that balanced repeats show."""

    def make_folder(path: str, number: int) -> FolderFacts:
        return FolderFacts(path, tuple(ImageFacts(f"{at}.png", _SIDE, _SIDE, "RGB") for at in range(number)))

    return DatasetFacts(
        concepts=tuple(make_folder(part.images, 7 + 4 * at) for at, part in enumerate(recipe.concept)),
        regularization=tuple(make_folder(part.images, 5) for part in recipe.regularization),
    )


def plan_recipe(recipe: Recipe, stand_in: StandIn, trainer: TrainerFacts) -> Plan | None:
    """The plan on a stand-in; None where sd-scripts' own arithmetic would stop."""
    probe = AttentionProbe(xformers=True, reason=literal(""))
    try:
        return resolve_plan(recipe, stand_in.base, make_facts(recipe), stand_in.machine, probe, trainer.signatures)
    except RecipeError:
        return None


def train_on(content: Raw, stand_ins: Sequence[StandIn], trainer: TrainerFacts) -> tuple[Training, ...] | None:
    """What the recipe trains on each; None if it is none, or cannot be planned."""
    recipe, _ = read_recipe(content)
    if recipe is None:
        return None
    plans = [plan_recipe(recipe, each, trainer) for each in stand_ins]
    known = [describe_plan(plan, trainer) for plan in plans if plan is not None]
    return tuple(known) if len(known) == len(plans) else None
