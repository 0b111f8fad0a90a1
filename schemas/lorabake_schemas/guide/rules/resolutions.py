"""Rules about the resolutions of a run: which there are, what they need, and what caches make of several."""

from __future__ import annotations

from collections.abc import Iterator

from lorabake_schemas.families.known_models import find_stock_family
from lorabake_schemas.guide.defaults import resolve_native_side
from lorabake_schemas.guide.registry import ERROR, WARNING, RuleContext, RuleHit, rule
from lorabake_schemas.guide.resolutions import LIST_KEYS, get_size, list_common_resolutions, list_training_resolutions
from lorabake_schemas.guide.rules.dataset import summarize_names
from lorabake_schemas.messages import msg

LATENT_PIXELS = 8  # of an image for one of its latents
CACHE_OPTION = "cache_latents_to_disk"


@rule(
    "G2.7",
    WARNING,
    "The sides of buckets are multiples of bucket_reso_steps, so that another size is trained.",
    unless="without buckets only the UNet matters: that of SDXL stops at a side that is no multiple of 32 pixels",
)
def unaligned_resolution(situation: RuleContext) -> Iterator[RuleHit]:
    buckets = situation.recipe.train.enable_bucket is not False
    for each in list_training_resolutions(situation.recipe, situation.family):
        step = each.step if buckets else situation.family.latent_step * LATENT_PIXELS
        side = next((side for side in each.size if side % step), None)
        if side is None or not each.given:
            continue
        low = max(step, side // step * step)
        fix = msg("write {low} or {high}", low=low, high=low + step)
        if buckets:
            said = msg(
                "{side} is not a multiple of {step}, so images are trained at {low} instead",
                side=side,
                step=step,
                low=low,
            )
            yield RuleHit(each.where, said, fix)
        elif situation.family.latent_step > 1:
            said = msg("{side} is not a multiple of {step}, so the UNet stops at the first step", side=side, step=step)
            yield RuleHit(each.where, said, fix, severity=ERROR)
        else:
            said = msg("{side} is not a multiple of {step}, so the last pixels are not trained", side=side, step=step)
            yield RuleHit(each.where, said, fix)


@rule("G2.7.regularization", ERROR, "sd-scripts uses regularization images together with training images only (S13).")
def unused_regularization(situation: RuleContext) -> Iterator[RuleHit]:
    every = list_training_resolutions(situation.recipe, situation.family)
    used = {at for each in every for at in each.regularization}
    for at, part in enumerate(situation.recipe.regularization):
        if at not in used and part.resolution is not None:
            width, height = get_size(part.resolution)
            said = msg(
                "no [[concept]] is trained at {width}x{height}, so these images are never used",
                width=width,
                height=height,
            )
            sizes = ", ".join(f"{each.size[0]}x{each.size[1]}" for each in every)
            fix = msg("write one of {sizes}, or remove it to use them at every resolution", sizes=sizes)
            yield RuleHit(("regularization", at, "resolution"), said, fix)


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


@rule("G4.24.list", ERROR, "A list of batch sizes or bucket limits has one for each entry of train.resolutions.")
def unmatched_lists(situation: RuleContext) -> Iterator[RuleHit]:
    recipe = situation.recipe
    count = len(list_common_resolutions(recipe, situation.family))
    for key in LIST_KEYS:
        given: int | tuple[int, ...] | None = getattr(recipe.train, key)
        if isinstance(given, tuple) and len(given) != count:
            yield RuleHit(
                ("train", key),
                msg("{key} has {n} values for {resolutions} resolutions", key=key, n=len(given), resolutions=count),
                msg("write one number for all, or one for each entry of train.resolutions"),
            )
    batches, every = recipe.train.train_batch_size, list_training_resolutions(recipe, situation.family)
    alone = [each for each in every if each.train_batch_size is None and each.where[0] == "concept"]
    if isinstance(batches, tuple) and alone:
        yield RuleHit(
            ("train", "train_batch_size"),
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
    base = situation.recipe.base
    if base.native_resolution is None and find_stock_family(base.model) not in {None, situation.family.name}:
        return  # the size is that of another family's model, which G4.12.name reports
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
