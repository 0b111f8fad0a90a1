"""Deciding every setting, each with its source: (recipe, facts) to a plan. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from lorabake.planning.batches import DatasetBlock, SubsetInput, count_batches
from lorabake.planning.buckets import BucketRules
from lorabake.planning.forecast import Schedule, forecast_from_counts
from lorabake.planning.guide_targets import target_exposures, with_guide_targets
from lorabake.planning.profile import Profile, build_profile
from lorabake.planning.repeats import epochs_for_exposures, save_interval
from lorabake.planning.setting_sources import FROM_RECIPE, choose, default_by_guide, fixed, forced_by
from lorabake.planning.settings_dataset import (
    dataset_settings,
    gradient_accumulation_settings,
    largest_repeats,
    plan_subsets,
)
from lorabake.planning.settings_network import network_settings
from lorabake.planning.settings_optimizer import optimizer_settings
from lorabake.planning.settings_run import (
    base_settings,
    file_settings,
    memory_settings,
    metadata_settings,
    plan_launch,
    prior_loss_settings,
    sample_settings,
    validation_settings,
)
from lorabake_schemas.base import OptionValue
from lorabake_schemas.bucket_fit import Size
from lorabake_schemas.caches import find_run_sizes
from lorabake_schemas.dataset import DatasetFacts, FolderFacts
from lorabake_schemas.families.model_family import ModelFamily
from lorabake_schemas.guide.defaults import find_schedule_override, get_default_precision, resolve_scheduler
from lorabake_schemas.machine import AttentionProbe, BaseFacts, MachineFacts, Precision
from lorabake_schemas.messages import msg
from lorabake_schemas.plan import Forecast, Plan, Setting, SubsetPlan
from lorabake_schemas.recipe import Recipe
from lorabake_schemas.sd_scripts import split_validation

SizeReader = Callable[[FolderFacts], tuple[Size, ...]]


def resolve_plan(
    recipe: Recipe, base: BaseFacts, dataset: DatasetFacts, machine: MachineFacts, attention: AttentionProbe
) -> Plan:
    """Every setting of the run and the exact forecast.

    Needs at least one readable image per concept. Raises RecipeError where sd-scripts' own arithmetic would stop
    (an image that fits no bucket, a resolution outside the bucket limits).
    """
    profile = build_profile(recipe, base, machine)
    network = network_settings(recipe.network, profile)
    blocks = plan_subsets(recipe, dataset, profile)
    data = dataset_settings(recipe, profile)
    validating = validation_settings(recipe)
    block = _dataset_block(data, blocks, dataset, image_size_reader(recipe, profile.family), validating)
    launch = plan_launch(recipe, machine)
    head = (
        *base_settings(recipe, profile),
        *network.settings,
        *optimizer_settings(recipe.train, profile),
        *duration_settings(recipe, profile, blocks),
        *gradient_accumulation_settings(recipe.train, profile),
    )
    held = count_batches([block])
    saving = _save_interval_settings(
        recipe, forecast_from_counts(held, _make_schedule(recipe, head, launch.num_processes))
    )
    train = (
        *head,
        *memory_settings(recipe, profile, attention),
        *prior_loss_settings(recipe),
        *file_settings(recipe),
        *saving,
        *sample_settings(recipe, _int_setting(saving, "save_every_n_epochs")),
        *validating,
        *metadata_settings(recipe),
        *_resolution_for_metadata(block.rules),
        *_kohya_settings(recipe),
    )
    counted = forecast_from_counts(held, _make_schedule(recipe, train, launch.num_processes))
    return Plan(
        name=recipe.name,
        family=profile.family.name,
        script=profile.family.script,
        train=train,
        dataset=data,
        subsets=blocks,
        prompts=recipe.sample.prompts if recipe.sample else (),
        shipped_preset=network.shipped_preset,
        own_preset=network.own_preset,
        launch=launch,
        forecast=with_guide_targets(counted, profile.kind, profile.family, adaptive=profile.adaptive),
        fits=held.fits,
    )


def duration_settings(recipe: Recipe, profile: Profile, blocks: Sequence[SubsetPlan]) -> tuple[Setting, ...]:
    """Exactly one of epochs and steps (S9); neither given means the guide's exposures per image (F4)."""
    train = recipe.train
    if train.max_train_steps is not None:
        return choose("max_train_steps", train.max_train_steps)
    if train.max_train_epochs is not None:
        return choose("max_train_epochs", train.max_train_epochs)
    exposures, rule = target_exposures(profile.kind, profile.family)
    wanted = train.exposures or exposures
    epochs = epochs_for_exposures(wanted, largest_repeats(blocks))
    source = FROM_RECIPE if train.exposures else default_by_guide(rule, msg("{n} exposures per image", n=wanted))
    return fixed("max_train_epochs", epochs, source)


def choose_precision(recipe: Recipe, machine: MachineFacts) -> Precision:
    """The mixed precision the run will use here."""
    return recipe.train.mixed_precision or get_default_precision(machine.device)


def _save_interval_settings(recipe: Recipe, counted: Forecast) -> tuple[Setting, ...]:
    """About ten files in all (F8), unless the recipe saves by steps."""
    given, by_steps = recipe.save.save_every_n_epochs, recipe.save.save_every_n_steps
    default = save_interval(counted.epochs) if counted.epochs > 1 and not by_steps else None
    return choose("save_every_n_epochs", given, default, default_by_guide("G4.37"))


def image_size_reader(recipe: Recipe, family: ModelFamily) -> SizeReader:
    """The sizes sd-scripts will take, which are not always those of the files (left-over latent caches, WebP)."""
    return partial(find_run_sizes, suffix=family.latent_cache_suffix, cache_info=recipe.kohya.get("cache_info") is True)


def _dataset_block(
    data: Sequence[Setting],
    parts: Sequence[SubsetPlan],
    facts: DatasetFacts,
    sizes: SizeReader,
    validating: Sequence[Setting],
) -> DatasetBlock:
    values = {setting.option: setting.value for setting in data}
    sides = values["resolution"]
    rules = BucketRules(
        resolution=(sides, sides) if isinstance(sides, int) else (int(sides[0]), int(sides[1])),  # type: ignore[index]
        enable_bucket=bool(values["enable_bucket"]),
        bucket_no_upscale=bool(values["bucket_no_upscale"]),
        min_bucket_reso=_int_setting(data, "min_bucket_reso") or 256,
        max_bucket_reso=_int_setting(data, "max_bucket_reso") or 1024,
        bucket_reso_steps=_int_setting(data, "bucket_reso_steps") or 64,
    )
    folders = (*facts.concepts, *facts.regularization)
    share, seed = _setting_value(validating, "validation_split"), _int_setting(validating, "validation_seed") or 0
    held_out = share if isinstance(share, float) else 0.0
    inputs = tuple(
        _subset_input(part, folder, sizes(folder), held_out, seed) for part, folder in zip(parts, folders, strict=True)
    )
    return DatasetBlock(inputs, rules, _int_setting(data, "batch_size") or 1)


def _subset_input(
    part: SubsetPlan, folder: FolderFacts, sizes: tuple[Size, ...], share: float, seed: int
) -> SubsetInput:
    names = tuple(image.name for image in folder.images)
    held_out = split_validation(len(sizes), share, seed)[0] if share and not part.is_reg else frozenset[int]()
    return SubsetInput(part.title, sizes, _int_setting(part.settings, "num_repeats") or 1, part.is_reg, names, held_out)


def _make_schedule(recipe: Recipe, settings: Sequence[Setting], processes: int) -> Schedule:
    warm_up = None if find_schedule_override(recipe) else _setting_value(settings, "lr_warmup_steps")
    cycles = _int_setting(settings, "lr_scheduler_num_cycles") or 1
    return Schedule(
        output_name=recipe.name,
        max_train_epochs=_int_setting(settings, "max_train_epochs"),
        max_train_steps=_int_setting(settings, "max_train_steps"),
        gradient_accumulation_steps=_int_setting(settings, "gradient_accumulation_steps") or 1,
        num_processes=processes,
        lr_warmup_steps=warm_up if isinstance(warm_up, int | float) else 0,
        cycles=cycles if resolve_scheduler(recipe) == "cosine_with_restarts" else 0,
        save_every_n_epochs=_int_setting(settings, "save_every_n_epochs"),
        save_every_n_steps=_int_setting(settings, "save_every_n_steps"),
        save_last_n_epochs=_int_setting(settings, "save_last_n_epochs"),
        save_last_n_steps=_int_setting(settings, "save_last_n_steps"),
        extension=recipe.save.save_model_as or "safetensors",
    )


def _resolution_for_metadata(rules: BucketRules) -> tuple[Setting, ...]:
    """As a string in the train TOML (S6), where it only feeds modelspec.resolution (sd-scripts-facts 5.5)."""
    return fixed(
        "resolution", f"{rules.resolution[0]},{rules.resolution[1]}", forced_by("S6", msg("for the file's metadata"))
    )


def _kohya_settings(recipe: Recipe) -> tuple[Setting, ...]:
    """By name, so that the order of lines under [kohya] changes no byte."""
    return tuple(Setting(option=name, value=value, source=FROM_RECIPE) for name, value in sorted(recipe.kohya.items()))


def _setting_value(settings: Sequence[Setting], option: str) -> OptionValue | None:
    return next((setting.value for setting in settings if setting.option == option), None)


def _int_setting(settings: Sequence[Setting], option: str) -> int | None:
    value = _setting_value(settings, option)
    return value if isinstance(value, int) else None
