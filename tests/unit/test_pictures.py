"""The drawn picture sets: the same every time, captioned with what is in them, kept when edited."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image, ImageChops

from lorabake.errors import MachineError
from lorabake.inputs.sample_images import BALLOON, LIGHTHOUSE, PLAIN_LIGHTHOUSE, Scene, Subject, draw, paint


def caption_of(picture: Path) -> list[str]:
    return picture.with_suffix(".txt").read_text(encoding="utf-8").strip().split(", ")


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ...]:
    return draw(tmp_path_factory.mktemp("pictures") / "set")


def test_a_set_is_fifteen_small_pictures_of_varied_shape(pictures: tuple[Path, ...]) -> None:
    sizes: list[tuple[int, int]] = []
    for picture in pictures:
        with Image.open(picture) as image:
            assert image.mode == "RGB"
            sizes.append(image.size)
    assert len(pictures) == 15
    assert all(120 <= side <= 160 for size in sizes for side in size)
    assert all(max(size) < 1.25 * min(size) for size in sizes)  # a square bucket cuts off less than a fifth
    assert any(width > height for width, height in sizes)
    assert any(width < height for width, height in sizes)
    assert sum(picture.stat().st_size for picture in pictures) < 200_000


def test_drawing_twice_gives_the_same_bytes(tmp_path: Path, pictures: tuple[Path, ...]) -> None:
    for one, other in zip(draw(tmp_path, count=4), pictures, strict=False):
        assert one.name == other.name
        assert one.read_bytes() == other.read_bytes()
        assert caption_of(one) == caption_of(other)


def test_every_picture_is_another(pictures: tuple[Path, ...]) -> None:
    assert len({picture.read_bytes() for picture in pictures}) == 15


def test_captions_open_with_token_and_class_and_hold_three_to_eight_tags(pictures: tuple[Path, ...]) -> None:
    for picture in pictures:
        token, class_, *tags = caption_of(picture)
        assert (token, class_) == ("lumlighthouse", "lighthouse")
        assert 3 <= len(tags) <= 8
        assert len(set(tags)) == len(tags)


def test_captions_of_a_regularization_set_open_with_the_class(tmp_path: Path) -> None:
    pictures = draw(tmp_path, PLAIN_LIGHTHOUSE, 4)
    assert len(pictures) == 4
    assert {caption_of(picture)[0] for picture in pictures} == {"lighthouse"}


@pytest.mark.parametrize("number", range(6))
def test_tags_say_what_was_drawn(number: int) -> None:
    scene = Scene(number)
    with_stripes = f"{scene.paint[0]} stripes"
    assert with_stripes in scene.tags
    assert ("tilted" in scene.tags) == (scene.angle != 0)
    shown = paint(LIGHTHOUSE, scene)
    painted = Image.new("RGB", shown.size, scene.paint[1])
    apart = ImageChops.difference(shown, painted).convert("L")
    assert sum(apart.histogram()[:12]) > 20


def test_subjects_look_different() -> None:
    def picture(subject: Subject) -> bytes:
        return paint(subject, Scene(0)).tobytes()

    assert len({picture(subject) for subject in (LIGHTHOUSE, BALLOON, PLAIN_LIGHTHOUSE)}) == 3


def test_an_edited_caption_stays_and_a_missing_file_comes_back(tmp_path: Path) -> None:
    pictures = draw(tmp_path, count=3)
    edited = pictures[0].with_suffix(".txt")
    edited.write_text("mine, lighthouse\n", encoding="utf-8")
    pictures[1].unlink()
    draw(tmp_path, count=3)
    assert edited.read_text(encoding="utf-8") == "mine, lighthouse\n"
    assert pictures[1].is_file()
    assert not list(tmp_path.glob("*.part"))


def test_a_folder_that_is_a_file_is_told_in_words(tmp_path: Path) -> None:
    (tmp_path / "set").write_text("", encoding="utf-8")
    with pytest.raises(MachineError, match="cannot write pictures"):
        draw(tmp_path / "set")
