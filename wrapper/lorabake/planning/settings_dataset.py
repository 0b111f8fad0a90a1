"""The dataset side: a block for each resolution with its buckets and subsets, and balanced repeats."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial

from lorabake.planning.profile import Profile
from lorabake.planning.repeats import balance_repeats
from lorabake.planning.setting_sources import FROM_RECIPE, choose, default_by_guide, fixed, forced_by
from lorabake_schemas.dataset import CAPTION_EXTENSION, DatasetFacts
from lorabake_schemas.guide.caption_settings import (
    CaptionKey,
    caches_text_outputs,
    find_caption_value,
    is_from_kohya,
    is_natural,
)
from lorabake_schemas.guide.defaults import (
    count_leading_tags,
    default_resolution,
    format_class_tokens,
    group_concepts,
    is_shuffled,
    name_concept,
)
from lorabake_schemas.guide.resolutions import BUCKET_STEP, TrainingResolution, count_uses, list_training_resolutions
from lorabake_schemas.messages import msg
from lorabake_schemas.plan import DatasetPlan, Setting, Source, SubsetLevel, SubsetPlan
from lorabake_schemas.recipe import Concept, Recipe, Regularization, Train


def plan_datasets(recipe: Recipe, facts: DatasetFacts, profile: Profile) -> tuple[DatasetPlan, ...]:
    """A ``[[datasets]]`` block for each resolution and each kind of subset. Regularization is in all with caption
    files, or in those of its resolution: sd-scripts balances it with the training images of the same block (S13).
    """
    counts = [len(folder.images) * uses for folder, uses in zip(facts.concepts, count_uses(recipe), strict=True)]
    repeats = resolve_repeats(recipe, counts)
    reg = [
        _regularization_subset(at, part, len(facts.regularization[at].images), recipe)
        for at, part in enumerate(recipe.regularization)
    ]

    titled = tuple(_with_unique_titles(reg))

    def plan_blocks(trained: TrainingResolution) -> Iterator[DatasetPlan]:
        every = [
            _concept_subset(at, repeats[at], len(facts.concepts[at].images), recipe, profile) for at in trained.concepts
        ]
        settings = _block_settings(trained, recipe, profile)
        for parts in _split_by_kind(list(_with_unique_titles(every))):
            beside = [part for part in titled if part.index in trained.regularization]
            beside = beside if parts[0].level == "subsets" else []
            yield DatasetPlan(settings=settings, subsets=(*parts, *beside))

    return tuple(
        block for trained in list_training_resolutions(recipe, profile.family) for block in plan_blocks(trained)
    )


def _split_by_kind(parts: Sequence[SubsetPlan]) -> Iterator[list[SubsetPlan]]:
    """Subsets that may be in one block: sd-scripts mixes no kinds (CU:317-333), and in a block of several metadata
    files images of one name would take each other's place (TU:2344, register_image)."""
    levels: tuple[SubsetLevel, SubsetLevel] = ("subsets", "masked_subsets")
    for level in levels:
        if of_kind := [part for part in parts if part.level == level]:
            yield of_kind
    yield from ([part] for part in parts if part.level == "metadata_subsets")


def _block_settings(trained: TrainingResolution, recipe: Recipe, profile: Profile) -> tuple[Setting, ...]:
    """The ``[[datasets]]`` level of one resolution."""
    train, buckets, low = recipe.train, recipe.train.enable_bucket is not False, min(trained.size)
    limit, limit_source = _default_max_bucket(max(trained.size), profile)
    by_default = default_by_guide(default_resolution(recipe, profile.family).rule)
    return (
        *fixed("resolution", trained.sides, FROM_RECIPE if trained.given else by_default),
        *choose("batch_size", trained.train_batch_size, 1, default_by_guide(_batch_size_rule(profile))),
        *choose("enable_bucket", train.enable_bucket, True, default_by_guide("G4.62")),
        *choose(
            "bucket_no_upscale",
            train.bucket_no_upscale,
            False if buckets else None,
            forced_by("S16", msg("without this, the bucket limits have no effect")),
        ),
        *choose("min_bucket_reso", trained.min_bucket_reso, min(256, low) if buckets else None, forced_by("S15")),
        *choose("max_bucket_reso", trained.max_bucket_reso, limit if buckets else None, limit_source),
        *choose("bucket_reso_steps", trained.bucket_reso_steps, BUCKET_STEP if buckets else None, forced_by("S15")),
    )


def _batch_size_rule(profile: Profile) -> str:
    return "G6.2" if profile.multi else "G7.24" if profile.network == "dylora" else "G4.24"


def _default_max_bucket(resolution: int, profile: Profile) -> tuple[int, Source]:
    """2048 for SDXL at its own size, else the next multiple of 64 from 1.25 times the resolution (F7)."""
    limit = profile.family.guide.bucket_limit
    if limit and resolution >= profile.family.guide.resolution.value:
        return max(limit.value, resolution), default_by_guide(limit.rule)
    return -(-resolution * 5 // 256) * 64, default_by_guide("G4.63")


def resolve_repeats(recipe: Recipe, counts: Sequence[int]) -> tuple[int, ...]:
    """Repeats per folder: the recipe's own; for several concepts without any, balanced (G6.11, T1-T3).

    ``counts`` are samples of one repeat. The folders of one concept are balanced against the other concepts together,
    never against each other: where one of them has repeats, the others of that concept come once.
    """
    given, groups = [concept.num_repeats for concept in recipe.concept], group_concepts(recipe)
    repeats = [each or 1 for each in given]
    samples = [sum(counts[at] for at in group) for group in groups]
    chosen = [any(given[at] for at in group) for group in groups]
    if len(groups) == 1:
        return tuple(repeats)
    if any(chosen):
        target = max(
            sum(counts[at] * repeats[at] for at in group) for group, own in zip(groups, chosen, strict=True) if own
        )
        balanced = [max(1, (2 * target + count) // (2 * count) if count else 1) for count in samples]
    else:
        balanced = list(balance_repeats(samples))
    for group, own, each in zip(groups, chosen, balanced, strict=True):
        if not own:
            for at in group:
                repeats[at] = each
    return tuple(repeats)


def _with_unique_titles(parts: Sequence[SubsetPlan]) -> Iterator[SubsetPlan]:
    """Sets of one title, such as two folders of one class, with the number that findings give their table."""
    titles = [part.title for part in parts]
    for part in parts:
        title = f"{part.title} (#{part.index + 1})"
        yield part if titles.count(part.title) == 1 else part.model_copy(update={"title": title})


def _concept_subset(index: int, repeats: int, images: int, recipe: Recipe, profile: Profile) -> SubsetPlan:
    concept = recipe.concept[index]
    repeat_rule = default_by_guide("G6.11") if profile.multi else default_by_guide("G2.20")
    given = partial(find_caption_value, concept, recipe)
    settings = (
        *fixed("image_dir", concept.images, FROM_RECIPE),
        *choose("num_repeats", concept.num_repeats, repeats, repeat_rule),
        *choose(
            "class_tokens",
            None,
            format_class_tokens(concept, recipe),
            default_by_guide("G6.17" if concept.outfit else "G2.21"),
        ),
        *_caption_source_settings(concept, recipe),
        *choose(
            "shuffle_caption", given("shuffle_caption"), is_shuffled(concept, recipe), _shuffle_source(concept, recipe)
        ),
        *choose(
            "keep_tokens",
            given("keep_tokens"),
            count_leading_tags(concept, recipe) if _are_tags_changed(concept, recipe) else None,
            default_by_guide("G4.90", msg("counted in tags: token, outfit, class")),
        ),
        *choose("flip_aug", concept.flip_aug, False, default_by_guide("G4.98")),
        *choose("alpha_mask", concept.alpha_mask),
        *choose("conditioning_data_dir", concept.masks),
        *_caption_settings(concept, recipe, CAPTION_KEYS),
    )
    return SubsetPlan(
        title=name_concept(concept, recipe),
        table="concept",
        index=index,
        images=images,
        settings=settings,
    )


def _shuffle_source(concept: Concept, recipe: Recipe) -> Source:
    if caches_text_outputs(recipe) and not is_natural(concept, recipe):
        return forced_by("S41", msg("cached text encoder outputs need captions that do not change"))
    return default_by_guide("G4.93")


def _are_tags_changed(concept: Concept, recipe: Recipe) -> bool:
    """Whether sd-scripts takes captions apart at all, so that tags can be kept in place (TU:867)."""
    dropout = find_caption_value(concept, recipe, "caption_tag_dropout_rate")
    return is_shuffled(concept, recipe) or bool(dropout or recipe.kohya.get("token_warmup_step"))


def _caption_source_settings(concept: Concept, recipe: Recipe) -> tuple[Setting, ...]:
    """Caption files or a metadata file: sd-scripts takes the options of one of them only."""
    if concept.metadata_file:
        return fixed("metadata_file", concept.metadata_file, FROM_RECIPE)
    given = find_caption_value(concept, recipe, "caption_extension")
    return choose("caption_extension", given, CAPTION_EXTENSION, default_by_guide("G3.3"))


CAPTION_KEYS: tuple[CaptionKey, ...] = (
    "caption_prefix", "caption_suffix", "caption_dropout_rate", "caption_tag_dropout_rate",
    "caption_dropout_every_n_epochs", "keep_tokens_separator", "secondary_separator", "enable_wildcard",
)  # fmt: skip


def _caption_settings(part: Concept | Regularization, recipe: Recipe, keys: Sequence[CaptionKey]) -> Iterator[Setting]:
    """What the recipe has of these for a folder; an option under [kohya] is in the train file, for all folders."""
    for key in keys:
        value = find_caption_value(part, recipe, key)
        if value is not None and not is_from_kohya(part, recipe, key):
            yield from fixed(key, value, FROM_RECIPE)


def _regularization_subset(index: int, part: Regularization, images: int, recipe: Recipe) -> SubsetPlan:
    settings = (
        *fixed("image_dir", part.images, FROM_RECIPE),
        *choose("num_repeats", part.num_repeats, 1, default_by_guide("G35.2")),
        *fixed("class_tokens", part.class_, default_by_guide("G35.3")),
        *fixed("is_reg", True, forced_by("S13")),
        *choose(
            "caption_extension",
            find_caption_value(part, recipe, "caption_extension"),
            CAPTION_EXTENSION,
            default_by_guide("G3.3"),
        ),
        *_caption_settings(part, recipe, ("shuffle_caption", "keep_tokens", *CAPTION_KEYS)),
    )
    return SubsetPlan(title=part.class_, table="regularization", index=index, images=images, settings=settings)


def gradient_accumulation_settings(train: Train, profile: Profile) -> tuple[Setting, ...]:
    """Written only when above 1; the guide asks DyLoRA for it without a number (G7.23)."""
    default = 2 if profile.network == "dylora" else None
    return choose(
        "gradient_accumulation_steps",
        train.gradient_accumulation_steps,
        default,
        default_by_guide("G7.23", msg("the number 2 is lorabake's choice")),
    )
