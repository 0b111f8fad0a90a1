"""Rules about the resolutions of a run: which there are, what they need, and what caches make of several."""

from __future__ import annotations

from collections.abc import Iterator

from lorabake_schemas.guide.defaults import resolve_native_side
from lorabake_schemas.guide.registry import ERROR, WARNING, RuleContext, RuleHit, rule
from lorabake_schemas.guide.resolutions import get_size, list_common_resolutions, list_training_resolutions
from lorabake_schemas.guide.rules.dataset import summarize_names
from lorabake_schemas.messages import msg
from lorabake_schemas.values import describe_unaligned_side

CACHE_OPTION = "cache_latents_to_disk"


@rule("G2.7.concept", ERROR, "sd-scripts floors each side to the bucket step, so another size would be trained.")
def unaligned_concept_resolution(situation: RuleContext) -> Iterator[RuleHit]:
    step = situation.recipe.train.bucket_reso_steps or 64
    for index, concept in enumerate(situation.recipe.concept):
        sides = concept.resolution
        for side in () if sides is None else get_size(sides):
            if wrong := describe_unaligned_side(side, step):
                said, write = wrong
                yield RuleHit(("concept", index, "resolution"), said, msg("write {what}", what=write))
                break


@rule("G2.7.both", ERROR, "A run has either one resolution or a list of several.")
def resolution_and_resolutions(situation: RuleContext) -> Iterator[RuleHit]:
    train = situation.recipe.train
    if train.resolution is not None and train.resolutions is not None:
        yield RuleHit(
            ("train", "resolution"),
            msg("resolution and resolutions are both set"),
            msg("remove resolution, or remove resolutions"),
        )


@rule("G2.7.twice", WARNING, "Each resolution is one dataset, so naming it again changes nothing.")
def repeated_resolution(situation: RuleContext) -> Iterator[RuleHit]:
    given = [get_size(sides) for sides in situation.recipe.train.resolutions or ()]
    for at, size in enumerate(given):
        if size in given[:at]:
            yield RuleHit(
                ("train", "resolutions", at),
                msg("{width}x{height} is already in the list, and counts once", width=size[0], height=size[1]),
                msg("remove it; num_repeats trains images more often"),
            )


@rule("G2.7.unused", WARNING, "A concept's own resolution replaces the one under [train].")
def unused_resolution(situation: RuleContext) -> Iterator[RuleHit]:
    recipe = situation.recipe
    key = "resolution" if recipe.train.resolution is not None else "resolutions"
    if getattr(recipe.train, key) is not None and all(each.resolution is not None for each in recipe.concept):
        yield RuleHit(
            ("train", key),
            msg("{key} has no effect, because every [[concept]] has its own resolution", key=key),
            msg("remove it"),
        )


@rule("G4.24.list", ERROR, "A list of batch sizes has one for each entry of train.resolutions.")
def unmatched_batch_sizes(situation: RuleContext) -> Iterator[RuleHit]:
    recipe = situation.recipe
    batches, where = recipe.train.train_batch_size, ("train", "train_batch_size")
    if batches is None or isinstance(batches, int):
        return
    common = list_common_resolutions(recipe, situation.family)
    if len(batches) != len(common):
        yield RuleHit(
            where,
            msg("{n} batch sizes for {resolutions} resolutions", n=len(batches), resolutions=len(common)),
            msg("write one number for all, or one for each entry of train.resolutions"),
        )
    alone = [
        each
        for each in list_training_resolutions(recipe, situation.family)
        if each.batch_size is None and each.where[0] == "concept"
    ]
    if alone:
        yield RuleHit(
            where,
            msg(
                "no batch size for a concept's resolution of {width}x{height}",
                width=alone[0].size[0],
                height=alone[0].size[1],
            ),
            msg("write one number for all, or add this resolution to train.resolutions"),
        )


@rule(
    "S19.resolutions",
    ERROR,
    "A latent cache on disk has one size for each image, and sd-scripts takes it for every resolution.",
    unless="cache_latents without cache_latents_to_disk, which keeps them in memory",
    needs_plan=True,
)
def shared_latent_caches(situation: RuleContext) -> Iterator[RuleHit]:
    plan = situation.plan
    if plan is None or not plan.value(CACHE_OPTION):
        return
    used: dict[str, dict[int, str]] = {}
    for number, block in enumerate(plan.datasets):
        for part in block.subsets:
            folder = situation.dataset.get_folder(part.table, part.index)
            used.setdefault(folder.key, {})[number] = folder.path
    several = list(dict.fromkeys(path for blocks in used.values() if len(blocks) > 1 for path in blocks.values()))
    if several:
        in_kohya = CACHE_OPTION in situation.recipe.kohya
        yield RuleHit(
            ("kohya" if in_kohya else "train", CACHE_OPTION),
            msg(
                "every resolution would be trained on the latents of the first one: {folders}",
                folders=summarize_names(several),
            ),
            msg("remove cache_latents_to_disk; latents are then kept in memory"),
        )


@rule("G4.59", WARNING, "Training above the model's native size harms it; crop several versions instead (GC.5).")
def resolution_above_native(situation: RuleContext) -> Iterator[RuleHit]:
    native = resolve_native_side(situation.recipe)
    for each in list_training_resolutions(situation.recipe, situation.family):
        largest = max(each.size)
        if native and each.given and largest > native:
            said = msg("{largest} is above the model's native resolution of {native}", largest=largest, native=native)
            yield RuleHit(each.where, said, msg("write {native}", native=native))


@rule(
    "G4.61",
    WARNING,
    "SDXL was trained at 1024 and loses quality below it.",
    unless="a quick trial; smaller resolutions besides one of 1024",
)
def low_sdxl_resolution(situation: RuleContext) -> Iterator[RuleHit]:
    family, least = situation.family, situation.family.guide.least_resolution
    largest = max(list_training_resolutions(situation.recipe, family), key=lambda each: min(each.size))
    smallest = min(largest.size)
    if least and largest.given and smallest < least:
        said = msg("{side} is below the native resolution of {family}", side=smallest, family=family.label)
        fix = msg("write resolution = {side}, or remove it", side=least)
        several = largest.where[1] == "resolutions"
        yield RuleHit(largest.where, said, msg("add {side} to the list", side=least) if several else fix)
