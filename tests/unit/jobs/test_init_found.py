"""init: folders of datasets that nobody has prepared for it: downloads, exports, phones, detectors."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from dataset_layouts import SEEN, draw, tags
from drafts import check, read, start

BOXES = "0 0.51 0.42 0.2 0.3\n1 0.2 0.2 0.1 0.15\n"


def test_dates_are_no_repeats(tmp_path: Path) -> None:
    for number, name in enumerate(("2024_01_02", "2023-05-01", "2023-06-11 beach")):
        draw(tmp_path / "data" / name, 5, first=10 * number)
    _, path = start(tmp_path / "data", tmp_path)
    assert len(read(path)["concept"]) == 3
    assert not any("num_repeats" in each for each in read(path)["concept"])


def test_the_number_of_a_download_is_no_repeats(tmp_path: Path) -> None:
    _, path = start(draw(tmp_path / "123456_training_data", 10, tags("mychr", "1girl")), tmp_path)
    assert {each.rule for each in check(path).errors} == {"G4.7"}  # no model


def test_class_images_are_regularization(tmp_path: Path) -> None:
    draw(tmp_path / "data" / "instance_images", 8)
    draw(tmp_path / "data" / "class_images_woman", 8, first=20)
    made = read(start(tmp_path / "data", tmp_path)[1])
    (concept,) = made["concept"]
    assert (concept["token"], concept["class"], concept["images"]) == ("ohwxlora", "woman", "data/instance_images")
    assert made["regularization"] == [{"class": "woman", "images": "data/class_images_woman"}]


def test_a_version_of_a_style_is_a_style(tmp_path: Path) -> None:
    draw(tmp_path / "data" / "5_style_v2", 12, lambda n: f"{('cat', 'city', 'tree')[n % 3]}, sky")
    assert read(start(tmp_path / "data", tmp_path)[1])["kind"] == "style"


@pytest.mark.parametrize("text", [BOXES, " , ,\n"])
def test_numbers_are_no_captions(tmp_path: Path, text: str) -> None:
    _, path = start(draw(tmp_path / "photos", 8, lambda _: text), tmp_path)
    (concept,) = read(path)["concept"]
    assert (concept["token"], concept["captions"]) == ("ohwxlora", "none")
    assert read(path)["captions"] == {"caption_extension": ".caption"}  # where `lorabake caption` may write
    assert {each.rule for each in check(path).findings}.isdisjoint({"G3.3.none", "S12"})


def test_a_few_boxes_among_captions_hide_no_token(tmp_path: Path) -> None:
    folder = draw(tmp_path / "set", 12, tags("zkwcar", "car"))
    for name in ("img02.txt", "img05.txt"):
        (folder / name).write_text(BOXES, encoding="utf-8")
    _, path = start(folder, tmp_path)
    (concept,) = read(path)["concept"]
    assert (concept["token"], concept["class"]) == ("zkwcar", "car")
    assert "S12" in {each.rule for each in check(path).findings}


@pytest.mark.parametrize("extension", [".caption", ".png.txt"])
def test_captions_next_to_boxes_are_found(tmp_path: Path, extension: str) -> None:
    folder = draw(tmp_path / "set", 8, tags("zkwcar", "car"), text=extension)
    draw(folder, 8, lambda _: BOXES)
    assert [each["token"] for each in read(start(folder, tmp_path)[1])["concept"]] == ["zkwcar"]


@pytest.mark.parametrize(("extension", "text"), [(".AAE", "x"), (".meta", "<?xml version='1.0'?><plist/>")])
def test_files_of_a_phone_are_no_captions(tmp_path: Path, extension: str, text: str) -> None:
    _, path = start(draw(tmp_path / "photos", 8, lambda _: text, text=extension), tmp_path)
    assert read(path)["concept"][0]["captions"] == "none"


def test_choices_are_read_as_choices(tmp_path: Path) -> None:
    folder = draw(tmp_path / "set", 8, lambda n: f"qqwild, {{red|blue}} dress, {SEEN[n]}")
    made = read(start(folder, tmp_path)[1])
    assert made["captions"]["enable_wildcard"] is True
    assert [(each["token"], each.get("class")) for each in made["concept"]] == [("qqwild", None)]


def read_converted(folder: Path, here: Path) -> set[str]:
    (concept,) = read(start(folder, here)[1])["concept"]
    return {each["caption"] for each in json.loads((here / concept["metadata_file"]).read_text("utf-8")).values()}


def test_comments_are_no_captions(tmp_path: Path) -> None:
    folder = draw(tmp_path / "set", 4, lambda n: f"# tagged by a program\nqqcomm, vase, {SEEN[n]}")
    assert read_converted(folder, tmp_path) == {f"qqcomm, vase, {SEEN[n]}" for n in range(4)}


def test_tags_about_the_file_are_left_out(tmp_path: Path) -> None:
    lines = "character:lum\nrating:safe\nsystem:inbox\nmeta:highres\ntitle:my art\n{}\n:3"
    folder = draw(tmp_path / "set", 4, lambda n: lines.format(SEEN[n]), text=".png.txt")
    assert read_converted(folder, tmp_path) == {f"lum, {SEEN[n]}, :3" for n in range(4)}


def test_what_a_vision_model_answered_is_a_caption(tmp_path: Path) -> None:
    folder, turns = draw(tmp_path / "data" / "images", 4), ("<image>\nDescribe it.", "a photo of zkwman man, {}")
    table = [
        {"image": f"images/img{n:02d}.png", "conversations": [
            {"from": who, "value": text.format(SEEN[n])} for who, text in zip(("human", "gpt"), turns, strict=True)
        ]}
        for n in range(4)
    ]  # fmt: skip
    (tmp_path / "data" / "captions.json").write_text(json.dumps(table), encoding="utf-8")
    assert read_converted(folder, tmp_path) == {f"a photo of zkwman man, {SEEN[n]}" for n in range(4)}
