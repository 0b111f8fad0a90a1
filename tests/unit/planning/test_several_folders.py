"""Several folders of one concept, a concept without a token, no captions, several resolutions: what is planned."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from lorabake.planning.batches import DatasetBlock, SubsetInput, count_batches
from lorabake.planning.buckets import BucketRules
from lorabake.recipe.load import load_recipe
from lorabake_schemas.dataset import DatasetFacts
from lorabake_schemas.plan import DatasetPlan, Plan
from lorabake_schemas.recipe import Recipe
from situations import TOKEN, concept, dataset, folder, pictures_for, plan_of, recipe, situation, spoken, subset, values

LENGTH = {"max_train_epochs": 2}
EMPTY_TOKEN = b'name = "x"\nkind = "style"\n[base]\nmodel = "m"\n[[concept]]\ntoken = ""\nimages = "p"\n'


def several(counts: tuple[int, ...], *concepts: dict[str, Any], **more: Any) -> Plan:
    """A plan of folders with so many images each."""
    made = recipe(concepts=list(concepts), **more)
    return plan_of(made, DatasetFacts(tuple(folder(f"p{at}", count) for at, count in enumerate(counts))))


def repeats(plan: Plan) -> list[object]:
    return [values(part.settings)["num_repeats"] for part in plan.subsets]


def shares(plan: Plan) -> list[tuple[str, int, int, float]]:
    return [(each.title, each.images, each.samples_per_epoch, each.exposures) for each in plan.forecast.shares]


def test_folders_of_one_concept_are_not_balanced_and_have_one_share() -> None:
    """Good and filler images (case 48b)."""
    plan = several((12, 8), concept("a", "p0", num_repeats=3), concept("A", "p1"), train=LENGTH)
    assert repeats(plan) == [3, 1]
    assert shares(plan) == [("a", 20, 44, 4.4)]
    assert [(each.folder, each.num_repeats, each.exposures) for each in plan.forecast.shares[0].folders] == [
        ("p0", 3, 6.0),
        ("p1", 1, 2.0),
    ]


def test_concepts_are_balanced_by_all_their_folders() -> None:
    """Eight and two images against five: as 10 against 5 in single folders."""
    plan = several((8, 2, 5), concept("a", "p0"), concept("a", "p1"), concept("b", "p2"))
    assert repeats(plan) == [1, 1, 2]
    assert [(title, samples) for title, _, samples, _ in shares(plan)] == [("a", 10), ("b", 10)]


def test_a_concept_follows_the_samples_of_the_one_that_has_repeats() -> None:
    plan = several((8, 2, 6), concept("a", "p0", num_repeats=4), concept("a", "p1"), concept("b", "p2"))
    assert repeats(plan) == [4, 1, 6]


def test_one_concept_in_two_folders_is_one_concept() -> None:
    one = several((30, 30), concept("a", "p0"), concept("a", "p1"), train={"train_batch_size": 2})
    two = several((30, 30), concept("a", "p0"), concept("b", "p1"), train={"train_batch_size": 2})
    for second, told in (("a", 0), ("b", 1)):
        made = recipe(concepts=[concept("a", "p0"), concept(second, "p1")], train={"train_batch_size": 2})
        assert len(spoken("G7.24", situation(made))) == told
    assert [len(plan.forecast.shares) for plan in (one, two)] == [1, 2]
    assert values(one.train)["metadata_trigger_phrase"] == "a"


def test_each_folder_may_have_its_own_settings() -> None:
    plan = several((5, 5), concept("a", "p0", flip_aug=True, keep_tokens=3), concept("a", "p1"))
    assert [(subset(plan, at)["flip_aug"], subset(plan, at)["keep_tokens"]) for at in (0, 1)] == [(True, 3), (False, 2)]


def test_epochs_follow_the_average_of_a_concepts_folders() -> None:
    """Half the images three times and half once are two looks an epoch."""
    plan = several((10, 10), concept("a", "p0", num_repeats=3), concept("a", "p1"), train={"exposures": 40})
    assert values(plan.train)["max_train_epochs"] == 20


def test_a_style_without_a_token_pins_and_triggers_nothing() -> None:
    """Case 02."""
    made = recipe(kind="style", concepts=[{"images": "p0"}])
    facts = dataset(folder("p0", caption="tower"))
    plan = plan_of(made, facts)
    assert "class_tokens" not in subset(plan)
    assert subset(plan)["keep_tokens"] == 0
    assert "metadata_trigger_phrase" not in values(plan.train)
    assert plan.subsets[0].title == made.name
    found = situation(made, facts, plan=plan)
    assert [rule for rule in ("G3.10", "G3.11", "G3.12", "G4.93", "G3.2", "G6.8") if spoken(rule, found)] == []


def test_an_empty_token_is_left_out() -> None:
    (finding,) = load_recipe(Path("x.toml"), EMPTY_TOKEN).findings
    assert (finding.rule, finding.key) == ("out-of-range", "concept[0].token")
    assert "remove token" in finding.fix


def test_a_class_without_a_token_is_the_prompt_of_images_without_captions() -> None:
    plan = plan_of(recipe(concepts=[{"images": "p0", "class": "tower"}]))
    assert (subset(plan)["class_tokens"], subset(plan)["keep_tokens"]) == ("tower", 0)


def test_an_outfit_without_a_token_is_an_error() -> None:
    made = recipe(kind="outfits", concepts=[{"images": "p0", "outfit": "coat"}, {"images": "p1", "outfit": "hat"}])
    assert [each.key for each in spoken("G6.17.token", situation(made))] == ["concept[0].outfit", "concept[1].outfit"]


@pytest.mark.parametrize(
    ("tags", "words"), [("natural", f"{TOKEN} food"), ("danbooru", f"{TOKEN}, food"), (None, f"{TOKEN}, food")]
)
def test_class_tokens_are_words_of_a_sentence_in_natural_language(tags: str | None, words: str) -> None:
    """Case 48."""
    plan = plan_of(recipe(base={"tags": tags}, concept={"captions": "none"}))
    assert subset(plan)["class_tokens"] == words
    assert subset(plan)["caption_extension"] == ".no-captions"


def of_resolutions(*sides: Any, train: dict[str, Any] | None = None, own: Any = None) -> Recipe:
    return recipe(
        concepts=[concept("a", "p0"), concept("a", "p1", resolution=own)],
        regularization=[{"class": "food", "images": "r"}],
        train={"resolutions": list(sides)} | (train or {}),
    )


def test_each_resolution_is_a_dataset_with_the_same_subsets() -> None:
    """Case 01."""
    plan = plan_of(of_resolutions(512, [640, 768], 1024, train={"train_batch_size": [4, 2, 1], "max_train_epochs": 1}))
    assert [(block.resolution, block.value("batch_size")) for block in plan.datasets] == [
        ((512, 512), 4), ((640, 768), 2), ((1024, 1024), 1),
    ]  # fmt: skip
    assert [block.value("max_bucket_reso") for block in plan.datasets] == [640, 960, 1280]
    assert [[(part.table, part.index) for part in block.subsets] for block in plan.datasets] == [
        [("concept", 0), ("concept", 1), ("regularization", 0)]
    ] * 3
    assert values(plan.train)["resolution"] == "1024,1024"
    concepts, reg = plan.forecast.shares
    assert (concepts.images, concepts.samples_per_epoch, concepts.exposures) == (60, 180, 3.0)
    assert (reg.images, reg.images_used, reg.samples_per_epoch) == (30, 30, 180)
    assert plan.forecast.batches_per_epoch == 120 // 4 + 120 // 2 + 120
    assert [(bucket.dataset, bucket.batches) for bucket in plan.forecast.buckets] == [(0, 30), (1, 60), (2, 120)]


def trained(block: DatasetPlan) -> list[int]:
    return [part.index for part in block.subsets if not part.is_reg]


def test_bucket_limits_are_those_of_each_resolution() -> None:
    keys = ("min_bucket_reso", "max_bucket_reso", "bucket_reso_steps")
    given = {"min_bucket_reso": [320, 384], "max_bucket_reso": [1024, 2048], "bucket_reso_steps": [64, 128]}
    plan = plan_of(of_resolutions(512, 1024, own=640, train=given))
    assert [tuple(block.value(key) for key in keys) for block in plan.datasets] == [
        (320, 1024, 64), (384, 2048, 128), (256, 832, 64),
    ]  # fmt: skip
    one = plan_of(of_resolutions(512, 1024, train={"max_bucket_reso": 1536}))
    assert [block.value("max_bucket_reso") for block in one.datasets] == [1536, 1536]


def test_regularization_with_a_resolution_is_used_at_that_one_alone() -> None:
    made = recipe(
        concepts=[concept("a", "p0")],
        regularization=[{"class": "food", "images": "r0", "resolution": [512, 512]}, {"class": "food", "images": "r1"}],
        train={"resolutions": [512, 768], "max_train_epochs": 1},
    )
    plan = plan_of(made, pictures_for(made, 8))
    sets = [[part.index for part in block.subsets if part.is_reg] for block in plan.datasets]
    assert sets == [[0, 1], [1]]
    without = made.model_copy(update={"regularization": ()})
    alone = plan_of(without, pictures_for(without, 8))
    assert plan.forecast.steps == 2 * alone.forecast.steps  # as many regularization images as there are others


def test_a_concepts_own_resolution_is_a_dataset_of_its_own() -> None:
    plan = plan_of(of_resolutions(512, 768, own=1024))
    assert [block.resolution[0] for block in plan.datasets] == [512, 768, 1024]
    assert [trained(block) for block in plan.datasets] == [[0], [0], [1]]
    assert all(any(part.is_reg for part in block.subsets) for block in plan.datasets)
    joined = plan_of(of_resolutions(512, 768, own=768))
    assert [trained(block) for block in joined.datasets] == [[0], [0, 1]]


def test_the_same_folder_may_be_trained_at_two_resolutions_and_not_twice_at_one() -> None:
    here = folder("p0", identity="1:1")
    for sides, found in (((512, 768), []), ((512, 512), ["concept[1].images"]), ((512, None), [])):
        made = recipe(concepts=[concept("a", "p0", resolution=side) for side in sides])
        assert [each.key for each in spoken("S14", situation(made, dataset(here, here)))] == found
    made = recipe(concepts=[concept("a", "p0", resolution=side) for side in (512, 768)], train=LENGTH)
    assert shares(plan_of(made, dataset(here, here))) == [("a", 30, 60, 4.0)]


def test_looks_of_all_resolutions_count() -> None:
    exposures = {"exposures": 60}
    assert values(plan_of(recipe(train=exposures | {"resolutions": [512, 768, 640]})).train)["max_train_epochs"] == 20
    assert values(plan_of(recipe(train=exposures)).train)["max_train_epochs"] == 60


def test_the_counts_of_an_image_go_by_its_folder() -> None:
    """The same folder in two blocks is one, and two folders without a key are two."""
    rules = BucketRules((512, 512), enable_bucket=True)
    part = SubsetInput("a", ((512, 512),) * 4, owner=0, key="1:1")
    blocks = [DatasetBlock((part,), rules), DatasetBlock((replace(part, num_repeats=2),), rules, 2)]
    held = count_batches(blocks)
    assert (held.blocks, [bucket.batches for bucket in held.buckets], held.batch_size) == ((0, 1), [4, 4], 2)


def test_numbers_of_images_are_those_of_the_concept() -> None:
    made = recipe(concepts=[concept("a", "p0"), concept("a", "p1")])
    facts = dataset(folder("p0", 40), folder("p1", 20))
    assert [each.key for each in spoken("G1.6", situation(made, facts))] == ["concept[0].images"]
    assert spoken("G6.16", situation(made, dataset(folder("p0", 40), folder("p1", 5)))) == []
    apart = recipe(concepts=[concept("a", "p0"), concept("b", "p1")])
    assert len(spoken("G6.16", situation(apart, dataset(folder("p0", 40), folder("p1", 5))))) == 1
