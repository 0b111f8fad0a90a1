"""Deciding every setting, each with its source: (recipe, facts) to a plan. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from lorabake.planning.buckets import BucketRules
from lorabake.planning.forecast import Schedule, forecast_of
from lorabake.planning.marks import marked, target_exposures
from lorabake.planning.repeats import epochs_for, save_interval
from lorabake.planning.resolve.data import dataset_settings, gradient_accumulation, largest_repeats, subsets
from lorabake.planning.resolve.network import network_settings
from lorabake.planning.resolve.optimizer import optimizer_settings
from lorabake.planning.resolve.profile import Profile, profile_of
from lorabake.planning.resolve.run import (
    base_settings,
    default_precision,
    file_settings,
    launch_plan,
    memory_settings,
    metadata_settings,
    prior_settings,
    sample_settings,
)
from lorabake.planning.resolve.sources import RECIPE, always, forced, guide, pick
from lorabake.planning.samples import DatasetBlock, SubsetInput, samples
from lorabake_schemas.base import OptionValue
from lorabake_schemas.caches import cache_suffix, sizes_taken
from lorabake_schemas.dataset import DatasetFacts, FolderFacts
from lorabake_schemas.defaults import brings_schedule, scheduler_of
from lorabake_schemas.fits import Size
from lorabake_schemas.machine import AttentionProbe, BaseFacts, Family, MachineFacts, Precision
from lorabake_schemas.plan import Forecast, Plan, Setting, SubsetPlan
from lorabake_schemas.recipe import Recipe
from lorabake_schemas.words import say

Sizes = Callable[[FolderFacts], tuple[Size, ...]]


def resolve(
    recipe: Recipe, base: BaseFacts, dataset: DatasetFacts, machine: MachineFacts, attention: AttentionProbe
) -> Plan:
    """Every setting of the run and the exact forecast.

    Needs at least one readable picture per concept. Raises RecipeError where sd-scripts' own arithmetic would stop
    (a picture that fits no bucket, a resolution outside the bucket limits).
    """
    profile = profile_of(recipe, base, machine)
    network = network_settings(recipe.network, profile)
    blocks = subsets(recipe, dataset, profile)
    data = dataset_settings(recipe, profile)
    block = _block(data, blocks, dataset, sizes_of(recipe, profile.family))
    launch = launch_plan(recipe, machine)
    head = (
        *base_settings(recipe, profile),
        *network.settings,
        *optimizer_settings(recipe.train, profile),
        *duration_settings(recipe, profile, blocks),
        *gradient_accumulation(recipe.train, profile),
    )
    held = samples([block])
    saving = _saving(recipe, forecast_of(held, _schedule(recipe, head, launch.num_processes)))
    train = (
        *head,
        *memory_settings(recipe, profile, attention),
        *prior_settings(recipe),
        *file_settings(recipe),
        *saving,
        *sample_settings(recipe, _number(saving, "save_every_n_epochs")),
        *metadata_settings(recipe),
        *_resolution_for_metadata(block.rules),
        *_passed_through(recipe),
    )
    counted = forecast_of(held, _schedule(recipe, train, launch.num_processes))
    return Plan(
        name=recipe.name,
        family=profile.family,
        script="sdxl_train_network.py" if profile.sdxl else "train_network.py",
        train=train,
        dataset=data,
        subsets=blocks,
        prompts=recipe.sample.prompts if recipe.sample else (),
        shipped_preset=network.shipped_preset,
        own_preset=network.own_preset,
        launch=launch,
        forecast=marked(counted, profile.kind, profile.family, adaptive=profile.adaptive),
        fits=held.fits,
    )


def duration_settings(recipe: Recipe, profile: Profile, blocks: Sequence[SubsetPlan]) -> tuple[Setting, ...]:
    """Exactly one of epochs and steps (S9); neither given means the guide's exposures per picture (F4)."""
    train = recipe.train
    if train.max_train_steps is not None:
        return pick("max_train_steps", train.max_train_steps)
    if train.max_train_epochs is not None:
        return pick("max_train_epochs", train.max_train_epochs)
    exposures, rule = target_exposures(profile.kind, profile.family)
    wanted = train.exposures or exposures
    epochs = epochs_for(wanted, largest_repeats(blocks))
    source = RECIPE if train.exposures else guide(rule, say("{n} exposures per picture", n=wanted))
    return always("max_train_epochs", epochs, source)


def precision_of(recipe: Recipe, machine: MachineFacts) -> Precision:
    """The mixed precision the run will use here."""
    return recipe.train.mixed_precision or default_precision(machine.device)


def _saving(recipe: Recipe, counted: Forecast) -> tuple[Setting, ...]:
    """About ten files in all (F8), unless the recipe saves by steps."""
    given, by_steps = recipe.save.save_every_n_epochs, recipe.save.save_every_n_steps
    default = save_interval(counted.epochs) if counted.epochs > 1 and not by_steps else None
    return pick("save_every_n_epochs", given, default, guide("G4.37"))


def sizes_of(recipe: Recipe, family: Family) -> Sizes:
    """The sizes sd-scripts will take, which are not always those of the files (left-over latent caches, WebP)."""
    return partial(sizes_taken, suffix=cache_suffix(family), cache_info=recipe.kohya.get("cache_info") is True)


def _block(data: Sequence[Setting], parts: Sequence[SubsetPlan], facts: DatasetFacts, sizes: Sizes) -> DatasetBlock:
    values = {setting.option: setting.value for setting in data}
    sides = values["resolution"]
    rules = BucketRules(
        resolution=(sides, sides) if isinstance(sides, int) else (int(sides[0]), int(sides[1])),  # type: ignore[index]
        enable_bucket=bool(values["enable_bucket"]),
        bucket_no_upscale=bool(values["bucket_no_upscale"]),
        min_bucket_reso=_number(data, "min_bucket_reso") or 256,
        max_bucket_reso=_number(data, "max_bucket_reso") or 1024,
        bucket_reso_steps=_number(data, "bucket_reso_steps") or 64,
    )
    folders = (*facts.concepts, *facts.regularisation)
    inputs = tuple(_subset(part, folder, sizes(folder)) for part, folder in zip(parts, folders, strict=True))
    return DatasetBlock(inputs, rules, _number(data, "batch_size") or 1)


def _subset(part: SubsetPlan, folder: FolderFacts, sizes: tuple[Size, ...]) -> SubsetInput:
    names = tuple(image.name for image in folder.images)
    return SubsetInput(part.title, sizes, _number(part.settings, "num_repeats") or 1, part.is_reg, names)


def _schedule(recipe: Recipe, settings: Sequence[Setting], processes: int) -> Schedule:
    warm_up = None if brings_schedule(recipe) else _value(settings, "lr_warmup_steps")
    cycles = _number(settings, "lr_scheduler_num_cycles") or 1
    return Schedule(
        output_name=recipe.name,
        max_train_epochs=_number(settings, "max_train_epochs"),
        max_train_steps=_number(settings, "max_train_steps"),
        gradient_accumulation_steps=_number(settings, "gradient_accumulation_steps") or 1,
        num_processes=processes,
        lr_warmup_steps=warm_up if isinstance(warm_up, int | float) else 0,
        cycles=cycles if scheduler_of(recipe) == "cosine_with_restarts" else 0,
        save_every_n_epochs=_number(settings, "save_every_n_epochs"),
        save_every_n_steps=_number(settings, "save_every_n_steps"),
        save_last_n_epochs=_number(settings, "save_last_n_epochs"),
        save_last_n_steps=_number(settings, "save_last_n_steps"),
        extension=recipe.save.save_model_as or "safetensors",
    )


def _resolution_for_metadata(rules: BucketRules) -> tuple[Setting, ...]:
    """As a string in the train TOML (S6), where it only feeds modelspec.resolution (sd-scripts-facts 5.5)."""
    return always(
        "resolution", f"{rules.resolution[0]},{rules.resolution[1]}", forced("S6", say("for the file's metadata"))
    )


def _passed_through(recipe: Recipe) -> tuple[Setting, ...]:
    """By name, so that the order of lines under [kohya] changes no byte."""
    return tuple(Setting(option=name, value=value, source=RECIPE) for name, value in sorted(recipe.kohya.items()))


def _value(settings: Sequence[Setting], option: str) -> OptionValue | None:
    return next((setting.value for setting in settings if setting.option == option), None)


def _number(settings: Sequence[Setting], option: str) -> int | None:
    value = _value(settings, option)
    return value if isinstance(value, int) else None


__all__ = ["precision_of", "profile_of", "resolve"]
