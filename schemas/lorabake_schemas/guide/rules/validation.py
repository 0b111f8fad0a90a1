"""Rules about images that are excluded from training for validation, and about where a run is logged."""

from __future__ import annotations

from collections.abc import Iterator

from lorabake_schemas.guide.registry import ERROR, WARNING, RuleContext, RuleHit, rule
from lorabake_schemas.messages import msg
from lorabake_schemas.sd_scripts import split_validation


@rule("S44.cache_info", ERROR, "With cache_info, held-out images shift the captions of all others (TU:1990-2063).")
def validation_with_cache_info(situation: RuleContext) -> Iterator[RuleHit]:
    if situation.recipe.validation.validation_split and situation.recipe.kohya.get("cache_info") is True:
        said = msg("cache_info with validation_split gives images the captions of other images")
        yield RuleHit(("kohya", "cache_info"), said, msg("remove one of the two"))


@rule("S44.masks", ERROR, "sd-scripts stops at masks of images that are not trained on (TU:2487).")
def validation_with_masks(situation: RuleContext) -> Iterator[RuleHit]:
    for index, concept in enumerate(situation.recipe.concept):
        if concept.masks and situation.recipe.validation.validation_split:
            said = msg("sd-scripts cannot hold out images of a concept with masks for validation, so it stops")
            yield RuleHit(("concept", index, "masks"), said, msg("remove validation_split or masks"))


@rule(
    "S44.metadata",
    WARNING,
    "Images of a metadata file are never held out, but all are tested (config_util.py:496).",
)
def validation_with_metadata_file(situation: RuleContext) -> Iterator[RuleHit]:
    for index, concept in enumerate(situation.recipe.concept):
        if concept.metadata_file and situation.recipe.validation.validation_split:
            said = msg("no image of a metadata file is held out: validation tests images that are trained on")
            fix = msg("remove validation_split, or use caption files instead of metadata_file")
            yield RuleHit(("concept", index, "metadata_file"), said, fix)


@rule("S44", WARNING, "sd-scripts trains on a part that is rounded up and validates with one that is rounded (TU:173).")
def uneven_validation_split(situation: RuleContext) -> Iterator[RuleHit]:
    share, where = situation.recipe.validation.validation_split, ("validation", "validation_split")
    if not share:
        return
    folders = zip(situation.recipe.concept, situation.dataset.concepts, strict=True)
    sets = [(folder.path, len(folder.images)) for part, folder in folders if folder.images and not part.metadata_file]
    splits = [(path, *split_validation(count, share, 0)) for path, count in sets]
    none = [path for path, _, tested in splits if not tested]
    both = [path for path, held_out, tested in splits if tested - held_out]
    if none:
        said = msg(
            "validation_split {share:g} is too small to give a validation image for: {folders}",
            share=share,
            folders=", ".join(none),
        )
        least = max(1 / (2 * count) for path, count in sets if path in none)
        yield RuleHit(where, said, msg("write more than {least:.2g}", least=least))
    if both:
        said = msg("rounding puts one image into both training and validation: {folders}", folders=", ".join(both))
        fix = msg("ignore this, or write a share that gives a whole number of images")
        yield RuleHit(where, said, fix)


@rule("S45", WARNING, "wandb is not in the lock of the trainer that lorabake installs.")
def logger_not_installed(situation: RuleContext) -> Iterator[RuleHit]:
    if situation.recipe.log.log_with in {"wandb", "all"} and not situation.rehearsing:
        yield RuleHit(
            ("log", "log_with"),
            msg("the trainer that lorabake installs does not contain wandb, so `run` would stop before the training"),
            msg("pass --sd-scripts and --python of an installation that has wandb, or remove log_with"),
        )
