"""init: folders of datasets that nobody has prepared for it: downloads, exports, phones, detectors."""

from __future__ import annotations

from pathlib import Path

from dataset_layouts import draw, tags
from drafts import check, read, start


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
    assert [(each["class"], each["images"]) for each in made["concept"]] == [("woman", "data/instance_images")]
    assert made["regularization"] == [{"class": "woman", "images": "data/class_images_woman"}]


def test_a_version_of_a_style_is_a_style(tmp_path: Path) -> None:
    draw(tmp_path / "data" / "5_style_v2", 12, lambda n: f"{('cat', 'city', 'tree')[n % 3]}, sky")
    assert read(start(tmp_path / "data", tmp_path)[1])["kind"] == "style"
