"""The images that the user names, compared with those that a LoRA was trained on."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from lora_files import SMALL, metadata, write
from lorabake.exchange.foreign import Source
from lorabake.exchange.import_file import import_file
from lorabake.exchange.to_recipe import ImportedRecipe

Tags = Mapping[str, int]
LUM: Tags = {"lumla": 4, "sky": 3}


def subset(name: str = "pics", **more: Any) -> dict[str, Any]:
    return {"image_dir": name, "img_count": 4, "num_repeats": 2, "is_reg": False, "class_tokens": None, **more}


def make_lora(folder: Path, *subsets: dict[str, Any], tags: Mapping[str, Tags] | None = None, **more: Any) -> Path:
    dataset = {"subsets": subsets or (subset(),), "tag_frequency": {"pics": LUM} if tags is None else tags}
    return write(folder / "lum.safetensors", SMALL, metadata(ss_datasets=[dataset], **more))


def make_images(folder: Path, count: int = 4, caption: str = "") -> Path:
    """Only names and captions are looked at."""
    folder.mkdir(parents=True)
    for number in range(count):
        (folder / f"{number}.png").touch()
        if caption:
            (folder / f"{number}.txt").write_text(caption, encoding="utf-8")
    return folder


def load(path: Path, images: Path | None = None) -> ImportedRecipe:
    return import_file(Source(path=path, content=b"", images=images))


def list_remarks(made: ImportedRecipe) -> dict[str, str]:
    """What has to be checked about the concepts, where the metadata have no token."""
    wanted = {"token", "captions", "images"}
    found = [line for line in made.report.missing if line.key.startswith("concept") and "," not in line.key]
    return {line.key: line.value for line in found if line.key.rpartition(".")[2] in wanted}


@pytest.mark.parametrize(
    ("count", "repeats", "more", "expected"),
    [
        (4, "", {}, False),
        (3, "", {}, True),
        (4, "2_", {}, False),
        (4, "3_", {}, True),
        (5, "", {"ss_num_validation_images": "1"}, False),
        (6, "", {"ss_num_validation_images": "1"}, True),
    ],
)
def test_other_numbers_of_images_or_repeats(
    tmp_path: Path, count: int, repeats: str, more: dict[str, str], expected: bool
) -> None:
    lora = make_lora(tmp_path, subset(class_tokens="lumla"), tags={}, **more)
    images = make_images(tmp_path / f"{repeats}lumla", count, "lumla, sky")
    assert ("concept.images" in list_remarks(load(lora, images))) is expected


def test_tags_of_another_number_of_images_are_said_not_to_be_compared(tmp_path: Path) -> None:
    lora = make_lora(tmp_path, subset(class_tokens="lumla"), tags={"pics": {"lumla": 4}})
    made = load(lora, make_images(tmp_path / "lumla", 3, "lumla, sky"))
    whys = [str(line.why) for line in made.report.missing if line.key == "concept.images"]
    assert [why.endswith("their tags were not compared") for why in whys] == [True]


def test_as_many_images_with_other_captions(tmp_path: Path) -> None:
    lora = make_lora(tmp_path, subset(class_tokens="lumla"), tags={"pics": {"lumla": 4, "sky": 4}})
    assert list_remarks(load(lora, make_images(tmp_path / "same", caption="Lumla, sky"))) == {}
    assert list_remarks(load(lora, make_images(tmp_path / "other", caption="lumla, sea"))) == {
        "concept.images": "other"
    }


def test_regularization_images_of_the_same_name_stay(tmp_path: Path) -> None:
    lora = make_lora(tmp_path, subset(), subset(is_reg=True, img_count=9, class_tokens="house"), tags={"pics": LUM})
    made = load(lora, make_images(tmp_path / "all/pics", caption="lumla, sky").parent)
    assert made.content["concept"][0]["images"] == (tmp_path / "all/pics").as_posix()
    assert made.content["regularization"][0]["images"] == "pics"
    assert list_remarks(made) == {"concept.token": "lumla"}


def test_folders_are_found_by_name_at_any_depth(tmp_path: Path) -> None:
    lora = make_lora(tmp_path, subset(), subset("b", img_count=2), tags={})
    make_images(tmp_path / "all/deep/er/pics", caption="lumla, sky")
    make_images(tmp_path / "all/b", 3, "zorkla, sky")
    made = load(lora, tmp_path / "all")
    assert [each["images"] for each in made.content["concept"]] == [
        (tmp_path / "all/deep/er/pics").as_posix(),
        (tmp_path / "all/b").as_posix(),
    ]
    assert list_remarks(made) == {"concept.token": "lumla", "concept#2.token": "zorkla", "concept#2.images": "b"}


def test_folders_that_are_not_here_are_named(tmp_path: Path) -> None:
    lora = make_lora(tmp_path, subset(), subset("b", img_count=2), tags={})
    made = load(lora, make_images(tmp_path / "all", 3))
    assert sum(line.key == "concept.images" for line in made.report.missing) == 2


@pytest.mark.parametrize("images", ["empty", "missing"])
def test_a_folder_without_images_is_left_to_check(tmp_path: Path, images: str) -> None:
    (tmp_path / "empty").mkdir()
    made = load(make_lora(tmp_path), tmp_path / images)
    assert list_remarks(made) == {"concept.token": "lumla"}


# Tokens


@pytest.mark.parametrize(
    ("tags", "count", "token"),
    [
        ({"lum": 15, "sky": 3}, 15, "lum"),
        ({"sky": 3, "lumla": 15}, 15, "lumla"),
        ({"sky": 3, "lum": 15}, 15, None),  # a word of CLIP's that not all captions start with
        ({"1girl": 15, "sky": 3}, 15, None),
        ({"1girl": 15, "lumla": 15}, 15, "lumla"),
        ({"{red|blue}": 15, "sky": 3}, 15, None),
        ({"lum": 14}, 15, None),
        ({"lum": 1}, 1, None),
        ({"my lamp": 15, "sky": 3}, 15, "my lamp"),
    ],
)
def test_a_tag_of_all_captions_may_be_the_token(tmp_path: Path, tags: Tags, count: int, token: str | None) -> None:
    made = load(make_lora(tmp_path, subset(img_count=count), tags={"pics": tags}))
    concept = made.content["concept"][0]
    assert (concept.get("token"), concept.get("class")) == (token, None)
    assert list_remarks(made).get("concept.token") == token


@pytest.mark.parametrize(
    ("caption", "prefix", "token", "class_"),
    [
        ("zorkla, dog, park", None, "zorkla", "dog"),
        ("a zorkla dog is sitting in a park", None, "zorkla", "dog"),
        ("zorkla, dog, park", "krubla, dog,", "krubla", None),
        ("1girl, solo", None, "lumla", None),
        ("", None, "lumla", None),
    ],
)
def test_captions_that_are_here_come_before_those_that_were_counted(
    tmp_path: Path, caption: str, prefix: str | None, token: str, class_: str | None
) -> None:
    lora = make_lora(tmp_path, subset(caption_prefix=prefix))
    concept = load(lora, make_images(tmp_path / "new", caption=caption)).content["concept"][0]
    assert (concept["token"], concept.get("class")) == (token, class_)


def test_tags_of_several_folders_of_one_name_show_nothing(tmp_path: Path) -> None:
    lora = make_lora(tmp_path, subset(), subset(img_count=2), tags={"pics": {"lumla": 4}})
    assert "concept.token" not in list_remarks(load(lora))


# Trainings without captions


@pytest.mark.parametrize(
    ("tokens", "tags", "expected"),
    [
        ("zork dog", {"zork dog": 4}, True),
        ("Zork, dog", {"zork": 4, "dog": 4}, True),
        (None, {}, True),
        ("zork dog", {"zork dog": 3, "zork": 1}, False),
        ("zork", {"zork": 4, "sky": 1}, False),
        ("zork", {}, False),  # captions that are blank
    ],
)
def test_no_captions_by_the_counts(tmp_path: Path, tokens: str | None, tags: Tags, expected: bool) -> None:
    made = load(make_lora(tmp_path, subset(class_tokens=tokens), tags={"pics": tags}))
    assert (made.content["concept"][0].get("captions") == "none") is expected
    assert ("concept.captions" in list_remarks(made)) is expected


@pytest.mark.parametrize("more", [{"image_dir": None, "metadata_file": "pics"}, {"img_count": 0}])
def test_nothing_is_known_of_other_captions(tmp_path: Path, more: dict[str, Any]) -> None:
    """sd-scripts counts only part of the text of a metadata file."""
    made = load(make_lora(tmp_path, subset(**more), tags={"pics": {}}))
    assert "captions" not in made.content["concept"][0]


def test_captions_that_are_here_are_used(tmp_path: Path) -> None:
    lora = make_lora(tmp_path, subset(class_tokens="zork"), tags={"pics": {"zork": 4}})
    made = load(lora, make_images(tmp_path / "new", caption="zork, sky"))
    assert "captions" not in made.content["concept"][0]
    assert list_remarks(made) == {"concept.captions": ""}
    bare = load(lora, make_images(tmp_path / "bare"))
    assert bare.content["concept"][0]["captions"] == "none"


def test_folders_by_flags(tmp_path: Path) -> None:
    gone = {key: text for key, text in metadata().items() if key != "ss_datasets"}
    folders = {"10_zork dog": {"n_repeats": 10, "img_count": 4}, "meta.json": {"n_repeats": 1, "img_count": 4}}
    tags = {"10_zork dog": {"zork dog": 4}, "meta.json": {}}
    given = gone | {"ss_dataset_dirs": folders, "ss_tag_frequency": tags}
    first, second = load(write(tmp_path / "lum.safetensors", SMALL, given)).content["concept"]
    assert (first["token"], first["class"], first["captions"]) == ("zork", "dog", "none")
    assert second["metadata_file"] == "meta.json"
    assert "captions" not in second
