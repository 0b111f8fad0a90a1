"""The dataset side: resolution and buckets, one subset per concept and regularisation set, balanced repeats."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from lorabake.planning.repeats import balanced_repeats
from lorabake.planning.resolve.profile import Profile
from lorabake.planning.resolve.sources import RECIPE, always, forced, guide, pick
from lorabake_schemas.dataset import CAPTION_EXTENSION, DatasetFacts
from lorabake_schemas.defaults import leading_tags, leading_words, native_of, shuffles
from lorabake_schemas.plan import Setting, Source, SubsetPlan
from lorabake_schemas.recipe import Captions, Concept, Recipe, Regularisation, Train
from lorabake_schemas.words import say


def dataset_settings(recipe: Recipe, profile: Profile) -> tuple[Setting, ...]:
    """The ``[[datasets]]`` level."""
    train = recipe.train
    resolution, rule = default_resolution(recipe, profile)
    sides = train.resolution or resolution
    low, high = (sides, sides) if isinstance(sides, int) else (min(sides), max(sides))
    return (
        *pick("resolution", train.resolution, resolution, guide(rule)),
        *pick("batch_size", train.train_batch_size, 1, guide(_batch_rule(profile))),
        *pick("enable_bucket", train.enable_bucket, True, guide("G4.62")),
        *pick(
            "bucket_no_upscale", train.bucket_no_upscale, False, forced("S16", say("else the bucket limits do nothing"))
        ),
        *pick("min_bucket_reso", train.min_bucket_reso, min(256, low), forced("S15")),
        *pick("max_bucket_reso", train.max_bucket_reso, *_max_bucket(high, profile)),
        *pick("bucket_reso_steps", train.bucket_reso_steps, 64, forced("S15")),
    )


def _batch_rule(profile: Profile) -> str:
    return "G6.2" if profile.multi else "G7.24" if profile.network == "dylora" else "G4.24"


def default_resolution(recipe: Recipe, profile: Profile) -> tuple[int, str]:
    """Never above the model's native size, where the recipe or the model's name tells it (G4.59)."""
    size, rule = (1024, "G4.58") if profile.sdxl else (768, "G4.57")
    native = native_of(recipe)
    return (native // 64 * 64, "G4.59") if native and native < size else (size, rule)


def _max_bucket(resolution: int, profile: Profile) -> tuple[int, Source]:
    """2048 for SDXL at its own size, else the next multiple of 64 from 1.25 times the resolution (F7)."""
    if profile.sdxl and resolution >= 1024:
        return max(2048, resolution), guide("G4.65")
    return -(-resolution * 5 // 256) * 64, guide("G4.63")


def num_repeats(recipe: Recipe, counts: Sequence[int]) -> tuple[int, ...]:
    """Repeats per concept: the recipe's own; for several concepts without any, balanced (G6.11, T1-T3)."""
    given = [concept.num_repeats for concept in recipe.concept]
    if len(given) == 1:
        return (given[0] or 1,)
    if not any(given):
        return balanced_repeats(counts)
    target = max(count * repeats for count, repeats in zip(counts, given, strict=True) if repeats)
    return tuple(
        repeats or max(1, (2 * target + count) // (2 * count) if count else 1)
        for count, repeats in zip(counts, given, strict=True)
    )


def subsets(recipe: Recipe, facts: DatasetFacts, profile: Profile) -> tuple[SubsetPlan, ...]:
    """Training subsets first, then regularisation, all in one ``[[datasets]]`` block (S13)."""
    repeats = num_repeats(recipe, [len(folder.images) for folder in facts.concepts])
    train = tuple(
        _concept(concept, count, len(folder.images), recipe, profile)
        for concept, count, folder in zip(recipe.concept, repeats, facts.concepts, strict=True)
    )
    reg = tuple(
        _regularisation(part, len(folder.images), recipe.captions)
        for part, folder in zip(recipe.regularisation, facts.regularisation, strict=True)
    )
    return (*_told_apart(train), *_told_apart(reg))


def _told_apart(parts: Sequence[SubsetPlan]) -> Iterator[SubsetPlan]:
    """Sets of one title, such as two folders of one class, with their number among these."""
    titles = [part.title for part in parts]
    for place, part in enumerate(parts):
        number = titles[: place + 1].count(part.title)
        yield part if titles.count(part.title) == 1 else part.model_copy(update={"title": f"{part.title} ({number})"})


def _concept(concept: Concept, repeats: int, images: int, recipe: Recipe, profile: Profile) -> SubsetPlan:
    captions = recipe.captions
    repeat_rule = guide("G6.11") if profile.multi else guide("G2.20")
    shuffle = concept.shuffle_caption if concept.shuffle_caption is not None else captions.shuffle_caption
    keep = concept.keep_tokens if concept.keep_tokens is not None else captions.keep_tokens
    settings = (
        *always("image_dir", concept.images, RECIPE),
        *pick("num_repeats", concept.num_repeats, repeats, repeat_rule),
        *always("class_tokens", ", ".join(leading_words(concept)), guide("G6.17" if concept.outfit else "G2.21")),
        *pick("caption_extension", captions.caption_extension, CAPTION_EXTENSION, guide("G3.3")),
        *pick("shuffle_caption", shuffle, shuffles(concept, recipe), guide("G4.93")),
        *pick(
            "keep_tokens",
            keep,
            leading_tags(concept, captions),
            guide("G4.90", say("counted in tags: token, outfit, class")),
        ),
        *pick("flip_aug", concept.flip_aug, False, guide("G4.98")),
        *_caption_extras(captions),
    )
    return SubsetPlan(
        title=", ".join(leading_words(concept)[: 2 if concept.outfit else 1]),
        is_reg=False,
        images=images,
        settings=settings,
    )


def _caption_extras(captions: Captions) -> tuple[Setting, ...]:
    return (
        *pick("caption_prefix", captions.caption_prefix),
        *pick("caption_suffix", captions.caption_suffix),
        *pick("caption_dropout_rate", captions.caption_dropout_rate),
        *pick("caption_tag_dropout_rate", captions.caption_tag_dropout_rate),
    )


def _regularisation(part: Regularisation, images: int, captions: Captions) -> SubsetPlan:
    settings = (
        *always("image_dir", part.images, RECIPE),
        *pick("num_repeats", part.num_repeats, 1, guide("G35.2")),
        *always("class_tokens", part.class_, guide("G35.3")),
        *always("is_reg", True, forced("S13")),
        *pick("caption_extension", captions.caption_extension, CAPTION_EXTENSION, guide("G3.3")),
    )
    return SubsetPlan(title=part.class_, is_reg=True, images=images, settings=settings)


def largest_repeats(parts: Sequence[SubsetPlan]) -> int:
    """The repeats of the training subset with the most pictures (F4)."""
    biggest = max((part for part in parts if not part.is_reg), key=lambda part: part.images)
    return next(int(str(s.value)) for s in biggest.settings if s.option == "num_repeats")


def gradient_accumulation(train: Train, profile: Profile) -> tuple[Setting, ...]:
    """Written only when above 1; the guide asks DyLoRA for it without a number (G7.23)."""
    default = 2 if profile.network == "dylora" else None
    return pick(
        "gradient_accumulation_steps", train.gradient_accumulation_steps, default, guide("G7.23", say("2 is ours"))
    )


__all__ = [
    "dataset_settings",
    "default_resolution",
    "gradient_accumulation",
    "largest_repeats",
    "num_repeats",
    "subsets",
]
