"""Deciding every setting, each with its source: (recipe, facts) to a plan. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

from lorabake.planning.batches import count_batches, count_looks
from lorabake.planning.dataset_blocks import count_blocks, image_size_reader
from lorabake.planning.forecast import Schedule, forecast_from_counts
from lorabake.planning.guide_targets import target_exposures, with_guide_targets
from lorabake.planning.profile import Profile, build_profile
from lorabake.planning.repeats import epochs_for_exposures, save_interval
from lorabake.planning.setting_sources import FROM_RECIPE, choose, default_by_guide, fixed, forced_by
from lorabake.planning.settings_dataset import (
    gradient_accumulation_settings,
    plan_datasets,
)
from lorabake.planning.settings_network import network_settings
from lorabake.planning.settings_optimizer import optimizer_settings
from lorabake.planning.settings_run import (
    base_settings,
    file_settings,
    mask_settings,
    memory_settings,
    metadata_settings,
    plan_launch,
    plan_watch,
    prior_loss_settings,
    sample_settings,
    validation_settings,
)
from lorabake_schemas.base import OptionValue
from lorabake_schemas.dataset import DatasetFacts
from lorabake_schemas.guide.defaults import find_schedule_override, resolve_precision, resolve_scheduler
from lorabake_schemas.machine import AttentionProbe, BaseFacts, MachineFacts, Precision
from lorabake_schemas.messages import msg
from lorabake_schemas.plan import DatasetPlan, Forecast, Plan, Setting
from lorabake_schemas.recipe import Recipe
from lorabake_schemas.signatures import NO_SIGNATURES, Signatures


def resolve_plan(
    recipe: Recipe,
    base: BaseFacts,
    dataset: DatasetFacts,
    machine: MachineFacts,
    attention: AttentionProbe,
    signatures: Signatures = NO_SIGNATURES,
) -> Plan:
    """Every setting of the run and the exact forecast. ``signatures`` have the trainer's classes by name.

    Needs at least one readable image per concept. Raises RecipeError where sd-scripts' own arithmetic would stop
    (an image that fits no bucket, a resolution outside the bucket limits).
    """
    profile = build_profile(recipe, base, machine)
    network = network_settings(recipe.network, profile)
    datasets = plan_datasets(recipe, dataset, profile)
    validating = validation_settings(recipe)
    sizes = image_size_reader(recipe, profile.family)
    blocks = count_blocks(datasets, recipe, dataset, sizes, validating)
    launch = plan_launch(recipe, machine)
    head = (
        *base_settings(recipe, profile),
        *network.settings,
        *optimizer_settings(recipe.train, profile, signatures),
        *duration_settings(recipe, profile, count_looks(blocks)),
        *gradient_accumulation_settings(recipe.train, profile),
    )
    held = count_batches(blocks)
    saving = _save_interval_settings(
        recipe, forecast_from_counts(held, _make_schedule(recipe, head, launch.num_processes))
    )
    train = (
        *head,
        *memory_settings(recipe, profile, attention),
        *prior_loss_settings(recipe),
        *mask_settings(recipe),
        *file_settings(recipe),
        *saving,
        *sample_settings(recipe, _int_setting(saving, "save_every_n_epochs")),
        *validating,
        *metadata_settings(recipe),
        *_resolution_for_metadata(datasets),
        *_kohya_settings(recipe),
    )
    counted = forecast_from_counts(held, _make_schedule(recipe, train, launch.num_processes))
    return Plan(
        name=recipe.name,
        family=profile.family.name,
        script=profile.family.script,
        train=train,
        datasets=datasets,
        prompts=recipe.sample.prompts if recipe.sample else (),
        shipped_preset=network.shipped_preset,
        own_preset=network.own_preset,
        launch=launch,
        watch=plan_watch(recipe),
        forecast=with_guide_targets(counted, profile.kind, profile.family, adaptive=profile.adaptive),
        fits=held.fits,
    )


def duration_settings(recipe: Recipe, profile: Profile, looks: Fraction) -> tuple[Setting, ...]:
    """Exactly one of epochs and steps (S9); neither given means the guide's exposures per image (F4).

    ``looks`` is how often an image of the largest concept is seen in one epoch.
    """
    train = recipe.train
    if train.max_train_steps is not None:
        return choose("max_train_steps", train.max_train_steps)
    if train.max_train_epochs is not None:
        return choose("max_train_epochs", train.max_train_epochs)
    exposures, rule = target_exposures(profile.kind, profile.family)
    wanted = train.exposures or exposures
    epochs = epochs_for_exposures(wanted, looks)
    source = FROM_RECIPE if train.exposures else default_by_guide(rule, msg("{n} exposures per image", n=wanted))
    return fixed("max_train_epochs", epochs, source)


def choose_precision(recipe: Recipe, machine: MachineFacts) -> Precision:
    """The mixed precision the run will use here."""
    return resolve_precision(recipe, machine.device)


def _save_interval_settings(recipe: Recipe, counted: Forecast) -> tuple[Setting, ...]:
    """About ten files in all (F8), unless the recipe saves by steps."""
    given, by_steps = recipe.save.save_every_n_epochs, recipe.save.save_every_n_steps
    default = save_interval(counted.epochs) if counted.epochs > 1 and not by_steps else None
    return choose("save_every_n_epochs", given, default, default_by_guide("G4.37"))


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


def _resolution_for_metadata(datasets: Sequence[DatasetPlan]) -> tuple[Setting, ...]:
    """As a string in the train TOML (S6), where it only feeds modelspec.resolution (sd-scripts-facts 5.5): the largest
    of several."""
    width, height = max((block.resolution for block in datasets), key=lambda size: size[0] * size[1])
    return fixed("resolution", f"{width},{height}", forced_by("S6", msg("for the file's metadata")))


def _kohya_settings(recipe: Recipe) -> tuple[Setting, ...]:
    """By name, so that the order of lines under [kohya] changes no byte."""
    return tuple(Setting(option=name, value=value, source=FROM_RECIPE) for name, value in sorted(recipe.kohya.items()))


def _setting_value(settings: Sequence[Setting], option: str) -> OptionValue | None:
    return next((setting.value for setting in settings if setting.option == option), None)


def _int_setting(settings: Sequence[Setting], option: str) -> int | None:
    value = _setting_value(settings, option)
    return value if isinstance(value, int) else None
