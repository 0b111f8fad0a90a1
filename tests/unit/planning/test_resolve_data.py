"""The dataset side: resolution, buckets, repeats, subsets (F3, F7, S13, S15, S16)."""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from typing import Any

import pytest

from lorabake.planning.batches import count_looks
from lorabake.planning.dataset_blocks import count_blocks, image_size_reader
from lorabake.planning.profile import Profile, build_profile
from lorabake.planning.settings_dataset import (
    gradient_accumulation_settings,
    plan_datasets,
    resolve_repeats,
)
from lorabake_schemas.dataset import DatasetFacts
from lorabake_schemas.families.registry import get_family
from lorabake_schemas.guide.defaults import default_resolution
from lorabake_schemas.plan import SubsetPlan
from lorabake_schemas.recipe import Recipe
from situations import GPU, base_facts, concept, dataset, folder, pictures_for, recipe, sources, values


def profile(made: Recipe) -> Profile:
    return build_profile(made, base_facts(made.base.family), GPU)


def block(base: Mapping[str, Any] | None = None, **train: Any) -> dict[str, Any]:
    made = recipe(base=base, train=train)
    return values(plan_datasets(made, pictures_for(made), profile(made))[0].settings)


def subsets_of(made: Recipe, facts: DatasetFacts, of: Profile) -> tuple[SubsetPlan, ...]:
    (only,) = plan_datasets(made, facts, of)
    return only.subsets


def looks(made: Recipe, facts: DatasetFacts) -> Fraction:
    """How often an image of the largest concept is seen in an epoch."""
    reader = image_size_reader(made, profile(made).family)
    return count_looks(count_blocks(plan_datasets(made, facts, profile(made)), made, facts, reader, ()))


@pytest.mark.parametrize(
    ("resolution", "largest"), [(512, 640), (640, 832), (704, 896), (768, 960), (1024, 1280), ([512, 768], 960)]
)
def test_the_largest_bucket_is_a_quarter_above(resolution: Any, largest: int) -> None:
    """F7."""
    assert block(resolution=resolution)["max_bucket_reso"] == largest


def test_sdxl_has_buckets_up_to_2048() -> None:
    assert block({"family": "sdxl"})["max_bucket_reso"] == 2048
    assert block({"family": "sdxl"}, resolution=3072)["max_bucket_reso"] == 3072
    assert block({"family": "sdxl"}, resolution=768)["max_bucket_reso"] == 960


@pytest.mark.parametrize("resolution", [64, 128, 192, [128, 1024]])
def test_small_resolutions_lower_the_smallest_bucket(resolution: Any) -> None:
    low = resolution if isinstance(resolution, int) else min(resolution)
    assert block(resolution=resolution)["min_bucket_reso"] == low


@pytest.mark.parametrize(
    ("family", "native", "wanted"),
    [
        ("sd15", None, (768, "G4.57")),
        ("sd15", 512, (512, "G4.59")),
        ("sd15", 640, (640, "G4.59")),
        ("sd15", 500, (448, "G4.59")),
        ("sd15", 1024, (768, "G4.57")),
        ("sdxl", None, (1024, "G4.58")),
        ("sdxl", 768, (768, "G4.59")),
        ("sd2", None, (768, "G4.57")),
    ],
)
def test_never_above_the_native_size(family: str, native: int | None, wanted: tuple[int, str]) -> None:
    made = recipe(base={"family": family, "native_resolution": native})
    assert default_resolution(made, get_family(family)) == wanted


@pytest.mark.parametrize(
    ("given", "counts", "wanted"),
    [
        ([None], [30], (1,)),
        ([7], [30], (7,)),
        ([None, None, None], [51, 43, 32], (5, 6, 8)),
        ([None, None, None], [30, 22, 24], (10, 14, 13)),
        ([2, 3], [10, 10], (2, 3)),
        ([10, None], [51, 43], (10, 12)),
        ([None, 1], [10, 40], (4, 1)),
        ([None, 1], [400, 10], (1, 1)),
    ],
)
def test_repeats(given: list[int | None], counts: list[int], wanted: tuple[int, ...]) -> None:
    """T1, T2; what the recipe gives is kept and the others follow its samples."""
    concepts = [concept(f"t{i}", f"f{i}") | ({"num_repeats": n} if n else {}) for i, n in enumerate(given)]
    assert resolve_repeats(recipe(concepts=concepts), counts) == wanted


def test_every_concept_and_every_set_is_a_subset_in_the_recipes_order() -> None:
    made = recipe(
        concepts=[concept("a", "fa"), concept("b", "fb")],
        regularization=[{"class": "food", "images": "ra"}, {"class": "dish", "images": "rb", "num_repeats": 3}],
    )
    parts = subsets_of(made, pictures_for(made), profile(made))
    assert [(part.title, part.is_reg, part.images) for part in parts] == [
        ("a", False, 30), ("b", False, 30), ("food", True, 30), ("dish", True, 30),
    ]  # fmt: skip
    assert values(parts[3].settings)["num_repeats"] == 3
    assert looks(made, pictures_for(made)) == 1


def test_sets_are_told_apart_by_outfit_and_else_by_number() -> None:
    made = recipe(
        concepts=[concept("a", "x", outfit="red dress"), concept("a", "y", outfit="coat"), concept("b", "z")],
        regularization=[{"class": "food", "images": "r"}, {"class": "food", "images": "s"}],
    )
    titles = [part.title for part in subsets_of(made, pictures_for(made), profile(made))]
    assert titles == ["a, red dress", "a, coat", "b", "food (#1)", "food (#2)"]


def test_the_largest_concept_counts_and_regularization_does_not() -> None:
    made = recipe(
        concepts=[concept("a", "fa", num_repeats=4), concept("b", "fb", num_repeats=2)],
        regularization=[{"class": "food", "images": "r", "num_repeats": 9}],
    )
    facts = dataset(folder("fa", 10), folder("fb", 20), regularization=[folder("r", 500)])
    assert looks(made, facts) == 2


@pytest.mark.parametrize(("tags", "shuffle"), [("e621", True), ("danbooru", True), (None, True), ("natural", False)])
def test_sentences_are_not_shuffled(tags: str | None, *, shuffle: bool) -> None:
    made = recipe(base={"tags": tags})
    assert values(subsets_of(made, pictures_for(made), profile(made))[0].settings)["shuffle_caption"] is shuffle


@pytest.mark.parametrize(
    ("cached", "written", "wanted"),
    [
        ("cache_text_encoder_outputs", None, (False, "S41", None)),
        ("cache_text_encoder_outputs_to_disk", None, (False, "S41", None)),
        ("cache_text_encoder_outputs", True, (True, "", 2)),
        (None, None, (True, "G4.93", 2)),
    ],
)
def test_default_shuffling_gives_way_to_cached_text(
    cached: str | None, written: bool | None, wanted: tuple[bool, str, int | None]
) -> None:
    """S41: no default overrides what somebody wrote."""
    made = recipe(
        base={"family": "sdxl"},
        network={"network_train_unet_only": True},
        kohya={cached: True} if cached else {},
        captions={"shuffle_caption": written},
    )
    settings = subsets_of(made, pictures_for(made), profile(made))[0].settings
    part = values(settings)
    assert (part["shuffle_caption"], sources(settings)["shuffle_caption"].rule, part.get("keep_tokens")) == wanted


@pytest.mark.parametrize(
    ("more", "words", "keep"),
    [
        ({}, "hmbrgrlora, food", 2),
        ({"class": None}, "hmbrgrlora", 1),
        ({"outfit": "coat"}, "hmbrgrlora, coat, food", 3),
        ({"token": "mizu, redcoat"}, "mizu, redcoat, food", 3),
    ],
)
def test_kept_tags_are_the_tokens(more: dict[str, Any], words: str, keep: int) -> None:
    """T13: the guide's 4 and 6 counted commas; 2 and 3 tags are meant."""
    made = recipe(concept=more)
    part = values(subsets_of(made, pictures_for(made), profile(made))[0].settings)
    assert (part["class_tokens"], part["keep_tokens"]) == (words, keep)


@pytest.mark.parametrize(
    ("prefix", "keep"), [("masterpiece, best quality,", 4), ("masterpiece, best quality", 3), ("good", 2), (None, 2)]
)
def test_a_prefix_is_kept_with_token_and_class(prefix: str | None, keep: int) -> None:
    """sd-scripts joins it to the caption with a space (TU:824) and counts tags in the result (TU:886)."""
    made = recipe(captions={"caption_prefix": prefix})
    part = values(subsets_of(made, pictures_for(made), profile(made))[0].settings)
    assert part["keep_tokens"] == keep
    joined = f"{prefix} {part['class_tokens']}" if prefix else str(part["class_tokens"])
    assert len(joined.split(",")) == keep


def test_a_concept_goes_before_the_captions_table() -> None:
    made = recipe(
        captions={"shuffle_caption": True, "keep_tokens": 5},
        concepts=[concept("a", "fa", shuffle_caption=False, keep_tokens=0), concept("b", "fb")],
    )
    first, second = (values(part.settings) for part in subsets_of(made, pictures_for(made), profile(made)))
    assert (first["shuffle_caption"], first["keep_tokens"]) == (False, 0)
    assert (second["shuffle_caption"], second["keep_tokens"]) == (True, 5)


def test_captions_settings_reach_every_training_subset_and_the_ending_every_subset() -> None:
    made = recipe(
        captions={
            "caption_extension": ".caption", "caption_prefix": "a, ", "caption_suffix": ", z",
            "caption_dropout_rate": 0, "caption_tag_dropout_rate": 0.1,
        },
        regularization=[{"class": "food", "images": "r"}],
    )  # fmt: skip
    train, reg = subsets_of(made, pictures_for(made), profile(made))
    wanted = {
        "caption_prefix": "a, ",
        "caption_suffix": ", z",
        "caption_dropout_rate": 0.0,
        "caption_tag_dropout_rate": 0.1,
    }
    assert wanted.items() <= values(train.settings).items()
    assert wanted.keys().isdisjoint(values(reg.settings))
    assert values(reg.settings)["caption_extension"] == ".caption"


def test_flip_is_per_concept() -> None:
    """G6.4: the guide's limit does not exist in a dataset file."""
    made = recipe(concepts=[concept("a", "fa", flip_aug=True), concept("b", "fb")])
    parts = subsets_of(made, pictures_for(made), profile(made))
    assert [values(part.settings)["flip_aug"] for part in parts] == [True, False]


def test_dylora_accumulates_and_says_that_the_number_is_ours() -> None:
    made = recipe(network={"type": "dylora"})
    found = gradient_accumulation_settings(made.train, profile(made))
    assert values(found) == {"gradient_accumulation_steps": 2}
    assert "lorabake's choice" in sources(found)["gradient_accumulation_steps"].why
    assert gradient_accumulation_settings(recipe().train, profile(recipe())) == ()
    one = recipe(network={"type": "dylora"}, train={"gradient_accumulation_steps": 1})
    assert values(gradient_accumulation_settings(one.train, profile(one))) == {"gradient_accumulation_steps": 1}


def test_the_rule_for_a_batch_of_one_is_that_of_the_run() -> None:
    several = recipe(concepts=[concept("a", "fa"), concept("b", "fb")])
    for made, rule in ((recipe(), "G4.24"), (several, "G6.2"), (recipe(network={"type": "dylora"}), "G7.24")):
        assert sources(plan_datasets(made, pictures_for(made), profile(made))[0].settings)["batch_size"].rule == rule
