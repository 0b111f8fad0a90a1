"""Masks: which file belongs to which image, what the plan does with them, and the findings about them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from lorabake.inputs.dataset import ImageFolder, ScanOptions, scan_folders
from lorabake.planning.compile import compile_plan
from lorabake.util import resources
from lorabake_schemas.dataset import CaptionFacts, CaptionProblem, FolderFacts, ImageFacts, MaskFacts
from lorabake_schemas.guide.registry import RuleContext
from lorabake_schemas.guide.rules.masks import has_masks_beside
from lorabake_schemas.recipe import Recipe
from situations import CLASS, TOKEN, concept, dataset, folder, plan_of, recipe, situation, spoken, subset, values

MASKED = concept(TOKEN, "pics", masks="masks")
REG = [{"class": CLASS, "images": "reg"}]


def make_masks(tmp_path: Path, masks: dict[str, Image.Image], *, images: int = 2) -> MaskFacts:
    for number in range(images):
        (tmp_path / "pics").mkdir(exist_ok=True)
        Image.new("RGB", (64, 48)).save(tmp_path / "pics" / f"{number}.png")
    (tmp_path / "masks").mkdir()
    for name, mask in masks.items():
        mask.save(tmp_path / "masks" / name)
    asked = ImageFolder(tmp_path / "pics", masks=tmp_path / "masks")
    first, again = (scan_folders([asked], [], ScanOptions(tmp_path / "store")).concepts[0].masks for _ in range(2))
    assert first
    assert first == again
    return first


def painted(mode: str = "L", size: tuple[int, int] = (64, 48)) -> Image.Image:
    mask = Image.new(mode, size)
    mask.paste(255, (8, 8, 24, 24))
    return mask


def test_masks_are_paired_by_stem_whatever_their_extension(tmp_path: Path) -> None:
    found = make_masks(tmp_path, {"0.png": painted(), "1.webp": painted("RGB")})
    assert found == MaskFacts(str(tmp_path / "masks"), count=2)


def test_masks_next_to_their_images_are_known(tmp_path: Path) -> None:
    """OneTrainer's; without such an image it is a name like any other, and a metadata file need not have them."""
    for name in ("0.png", "1.jpg", "0-masklabel.png", "1-condlabel.webp", "face-masklabel.png"):
        painted("RGB").save(tmp_path / name)
    (tmp_path / "1.txt").write_text("a", "utf-8")
    (tmp_path / "meta.json").write_text('{"0.png": {"caption": "a"}}', "utf-8")
    asked = [ImageFolder(tmp_path), ImageFolder(tmp_path, metadata=tmp_path / "meta.json")]
    found, listed = scan_folders(asked, [], ScanOptions()).concepts
    assert found.companions == ("0-masklabel.png", "1-condlabel.webp")
    assert [image.name for image in found.without_companions().images] == ["0.png", "1.jpg", "face-masklabel.png"]
    assert len(found.images) == 5  # as sd-scripts has them
    assert listed.companions == ()
    assert len(spoken("S49.beside", situation(recipe(), dataset(found)))) == 1
    assert [each.file for each in spoken("G3.3", situation(recipe(), dataset(found)))] == ["0.png"]
    assert not spoken("S49.beside", situation(recipe(), dataset(listed)))


def test_what_prepare_does_with_masks_next_to_images_is_said() -> None:
    """Used only where sd-scripts would take them; else they are left out of the copy."""
    facts = replace(folder("pics"), companions=("0-masklabel.png",))
    only = replace(facts, companions=("0-condlabel.png",))
    plain = concept(TOKEN, "pics")
    used = {
        str(each.fix)
        for part, found in (
            (plain, facts),
            (plain, only),
            (plain | {"masks": "masks"}, facts),
            (plain | {"alpha_mask": True}, facts),
        )
        for each in spoken("S49.beside", situation(recipe(concepts=[part]), dataset(found)))
    }
    assert len(used) == 2
    assert has_masks_beside(recipe(concepts=[plain]).concept[0], recipe(), facts)
    for part, found in ((plain, only), (plain | {"masks": "m"}, facts), (plain | {"alpha_mask": True}, facts)):
        assert not has_masks_beside(recipe(concepts=[part]).concept[0], recipe(), found)
    assert not has_masks_beside(recipe(regularization=REG).regularization[0], recipe(), facts)


def test_images_named_as_masks_of_others() -> None:
    bare = CaptionFacts(problem=CaptionProblem.MISSING)
    image, worn = (ImageFacts(name, 64, 64, "RGB", caption=bare) for name in ("a.png", "a_mask.png"))
    captioned = worn._replace(caption=CaptionFacts("fox, wearing a mask"))
    others = tuple(ImageFacts(f"{n}.png", 64, 64, "RGB") for n in range(4))
    for images, count in (
        ((image, worn._replace(mode="L"), *others), 1),
        ((image, worn), 1),
        ((image, worn, *others), 0),  # somebody who wears one
        ((worn._replace(mode="L"), *others), 0),
        ((image, worn._replace(mode="P"), *others), 0),  # saved with few colors
        ((image, captioned), 0),
        ((image, captioned._replace(mode="L"), *others), 0),
    ):
        found = dataset(folder("pics", images=images))
        assert len(spoken("S49.likely", situation(recipe(), found))) == count


def test_what_is_wrong_with_masks(tmp_path: Path) -> None:
    white = Image.new("RGBA", (64, 48), (255, 255, 255, 0))
    odd = {"0.png": Image.new("L", (64, 48)), "2.png": painted(size=(48, 64)), "3.png": white, "9.png": painted()}
    found = make_masks(tmp_path, {**odd, "4.png": Image.new("I;16", (64, 48))}, images=6)
    assert (found.missing, found.extra, found.missized) == (("1.png", "5.png"), ("9.png",), ("2.png",))
    assert (found.black, found.white, found.transparent) == (("0.png", "4.png"), ("3.png",), ("3.png",))
    assert found.wide == ("4.png",)


def test_a_mask_that_is_no_image_is_a_fact(tmp_path: Path) -> None:
    make_masks(tmp_path, {"0.png": painted()})
    (tmp_path / "masks" / "1.png").write_bytes(b"\x89PNG\r\n\x1a\nnothing")
    asked = ImageFolder(tmp_path / "pics", masks=tmp_path / "masks")
    found = scan_folders([asked], [], ScanOptions()).concepts[0].masks
    assert found
    assert found.broken == ("1.png",)


@pytest.mark.parametrize(
    ("masks", "problem"), [("none", "missing"), ("pics", "images"), ("pics/0.png", "not a folder")]
)
def test_a_folder_that_cannot_be_one_of_masks(tmp_path: Path, masks: str, problem: str) -> None:
    make_masks(tmp_path, {})
    asked = ImageFolder(tmp_path / "pics", masks=tmp_path / masks)
    found = scan_folders([asked], [], ScanOptions()).concepts[0].masks
    assert found
    assert found.problem == problem


def test_masks_reach_sd_scripts_with_masked_loss_and_without_what_it_refuses() -> None:
    plan = plan_of(recipe(concepts=[MASKED]))
    assert plan.value("masked_loss") is True
    assert subset(plan)["conditioning_data_dir"] == "masks"
    assert not {"class_tokens", "alpha_mask", "is_reg"} & subset(plan).keys()
    options = resources.load_script_options(plan.script)
    compiled = compile_plan(plan, options, resources.load_dataset_options())
    assert compiled.fill({"masks": "../../masks"})["dataset.toml"].count(b'conditioning_data_dir = "../../masks"') == 1


def test_kinds_that_sd_scripts_cannot_mix_get_blocks_of_their_own() -> None:
    mixed = [
        MASKED,
        concept("b", "b"),
        concept("c", "c", metadata_file="c.json"),
        concept("d", "d", metadata_file="d.json"),
    ]
    plan = plan_of(recipe(concepts=mixed, regularization=REG, train={"resolution": 512}))
    kinds = [[(part.table, part.level) for part in block.subsets] for block in plan.datasets]
    assert kinds == [
        [("concept", "subsets"), ("regularization", "subsets")],
        [("concept", "masked_subsets")],
        [("concept", "metadata_subsets")],
        [("concept", "metadata_subsets")],
    ]
    assert all(block.resolution == (512, 512) for block in plan.datasets)
    compile_plan(plan, resources.load_script_options(plan.script), resources.load_dataset_options())


def test_alpha_masks_stay_in_the_block_of_all_others() -> None:
    mixed = [concept("a", "a", alpha_mask=True), concept("b", "b")]
    plan = plan_of(recipe(concepts=mixed, regularization=REG))
    assert len(plan.datasets) == 1
    assert (subset(plan)["alpha_mask"], plan.value("masked_loss")) == (True, True)
    assert "alpha_mask" not in subset(plan, 1)
    assert plan_of(recipe()).value("masked_loss") is None


def test_what_the_recipe_says_of_masked_loss_is_not_said_twice() -> None:
    plan = plan_of(recipe(concepts=[MASKED], kohya={"masked_loss": True}))
    assert values(plan.train)["masked_loss"] is True


def masked(facts: MaskFacts, of: Recipe | None = None) -> RuleContext:
    return situation(of or recipe(concepts=[MASKED]), dataset(replace(folder(), masks=facts)))


WELL = MaskFacts("masks", count=30)


@pytest.mark.parametrize(
    "facts",
    [
        replace(WELL, missing=("0.png",)),
        replace(WELL, extra=("x.png",)),
        replace(WELL, broken=("0.png",)),
        replace(WELL, missized=("0.png",)),
        replace(WELL, wide=("0.png",)),
        MaskFacts("masks", problem="missing"),
        MaskFacts("masks", problem="images"),
    ],
)
def test_what_stops_sd_scripts_is_an_error(facts: MaskFacts) -> None:
    found = spoken("S49", masked(facts))
    assert [(each.key, each.severity) for each in found] == [("concept[0].masks", "error")]


def test_without_buckets_masks_are_resized() -> None:
    facts = replace(WELL, missized=("0.png",))
    assert spoken("S49", masked(facts, recipe(concepts=[MASKED], train={"enable_bucket": False}))) == []


def test_good_masks_are_not_spoken_of() -> None:
    assert [rule for rule in ("S49", "S49.content", "S49.together", "S49.counts") if spoken(rule, masked(WELL))] == []


@pytest.mark.parametrize(
    "facts",
    [
        replace(WELL, black=("0.png",)),
        replace(WELL, white=("0.png",), transparent=("0.png",)),
        replace(WELL, white=tuple(f"{at}.png" for at in range(30))),
    ],
)
def test_masks_that_do_nothing_or_all_are_a_warning(facts: MaskFacts) -> None:
    assert [each.severity for each in spoken("S49.content", masked(facts))] == ["warning"]


@pytest.mark.parametrize(
    ("concepts", "more", "key"),
    [
        ([MASKED | {"alpha_mask": True}], {}, "concept[0].alpha_mask"),
        ([MASKED | {"metadata_file": "a.json"}], {}, "concept[0].metadata_file"),
        ([MASKED | {"captions": "none"}], {}, "concept[0].captions"),
        ([MASKED], {"kohya": {"masked_loss": False}}, "kohya.masked_loss"),
        ([MASKED], {"kohya": {"random_crop": True}}, "kohya.random_crop"),
        ([MASKED], {"regularization": REG}, "regularization[0].images"),
    ],
)
def test_what_masks_exclude_is_an_error(concepts: list[dict[str, Any]], more: dict[str, Any], key: str) -> None:
    found = spoken("S49.together", situation(recipe(concepts=concepts, **more)))
    assert [(each.key, each.severity) for each in found] == [(key, "error")]


def test_regularization_beside_a_concept_with_captions_is_fine() -> None:
    beside = recipe(concepts=[MASKED, concept("b", "b")], regularization=REG)
    assert spoken("S49.together", situation(beside)) == []
    prefixed = recipe(concepts=[MASKED | {"captions": "none", "caption_prefix": f"{TOKEN},"}])
    assert spoken("S49.together", situation(prefixed)) == []


def test_captions_that_masks_would_drop_in_every_epoch() -> None:
    assert spoken("S49.counts", situation(recipe(concepts=[MASKED], captions={"caption_dropout_every_n_epochs": 2})))
    own = MASKED | {"caption_dropout_every_n_epochs": 0}
    both = recipe(concepts=[own], captions={"caption_dropout_every_n_epochs": 2})
    assert spoken("S49.counts", situation(both)) == []


def clear(*alphas: bool) -> FolderFacts:
    images = tuple(ImageFacts(f"{at}.png", 768, 768, "RGBA", alpha) for at, alpha in enumerate(alphas))
    return folder(images=images)


def test_transparency_as_a_mask() -> None:
    alone = recipe(concepts=[concept(TOKEN, "pics", alpha_mask=True)])
    assert spoken("S49.alpha", situation(alone, dataset(clear(True, True)))) == []
    assert [each.severity for each in spoken("S49.alpha", situation(alone, dataset(clear(False, False))))] == [
        "warning"
    ]
    assert [each.severity for each in spoken("S49.alpha", situation(alone, dataset(clear(True, False))))] == ["hint"]
    assert spoken("G2.4", situation(alone, dataset(clear(True)))) == []
    assert spoken("G2.4", situation(recipe(), dataset(clear(True))))


def test_a_crop_that_the_mask_does_not_share() -> None:
    for size, count in (((768, 768), 0), ((512, 1800), 1)):
        pictures = dataset(replace(folder(size=size), masks=WELL))
        of = recipe(concepts=[MASKED], train={"resolution": 512, "max_bucket_reso": 512})
        found = spoken("S49.crop", situation(of, pictures, plan=plan_of(of, pictures)))
        assert len(found) == count


def test_a_crop_at_several_resolutions_is_reported_once() -> None:
    pictures = dataset(replace(folder(size=(512, 1800)), masks=WELL))
    of = recipe(concepts=[MASKED], train={"resolutions": [512, 448], "max_bucket_reso": 512})
    plan = plan_of(of, pictures)
    assert len(plan.fits) == 2
    assert len(spoken("S49.crop", situation(of, pictures, plan=plan))) == 1
