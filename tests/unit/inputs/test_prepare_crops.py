"""The list of crops: both forms, and everything that can be wrong with one."""

from __future__ import annotations

from pathlib import Path

import pytest

from lorabake.errors import RecipeError
from lorabake.inputs.prepare.crops import read_crops


def written(tmp_path: Path, name: str, text: str) -> Path:
    path = tmp_path / name
    path.write_text(text, "utf-8")
    return path


@pytest.mark.parametrize("name", ["a.csv", "a.toml"])
def test_another_encoding_is_one_plain_message(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes("image\ncafé.png\n".encode("utf-16"))
    with pytest.raises(RecipeError) as caught:
        read_crops(tmp_path / name)
    assert "codec" not in str(caught.value)


def test_both_forms_say_the_same(tmp_path: Path) -> None:
    table = written(
        tmp_path, "a.csv",
        "image,left,top,right,bottom,caption,tags\n"
        'b.png,0,0,64,96,,"from side, red"\nb.png,,,,,,\na.png,1,2,40,50,x,\n',
    )  # fmt: skip
    toml = written(
        tmp_path, "a.toml",
        '[[crop]]\nimage = "b.png"\nbox = [0, 0, 64, 96]\ntags = ["from side", "red"]\n[[crop]]\nimage = "b.png"\n'
        '[[crop]]\nimage = "a.png"\nbox = [1, 2, 40, 50]\ncaption = "x"\n',
    )  # fmt: skip
    both = [[(crop.image, crop.box, crop.caption, crop.tags) for crop in read_crops(path)] for path in (table, toml)]
    assert both[0] == both[1]
    assert both[0][0] == ("b.png", (0, 0, 64, 96), None, ("from side", "red"))
    assert both[0][1][1] is None


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.csv", "left,top\n1,2\n"),
        ("a.csv", ""),
        ("a.csv", "image,left,top,right,bottom\na.png,0,0,64\n"),
        ("a.csv", "image,left,top,right,bottom\na.png,0,0,64,96,7\n"),
        ("a.csv", "image,left,top,right,bottom\na.png,0,0,6.5,96\n"),
        ("a.csv", "image,left,top,right,bottom\na.png,0,0,8,96\n"),
        ("a.csv", "image,left,top,right,bottom\na.png,-4,0,80,96\n"),
        ("a.csv", "image,left\n,4\n"),
        ("a.csv", 'image,left\n"a.png,4\n'),
        ("a.csv", "image,box\na.png,0 0 64 96\n"),
        ("a.csv", "image,left,top,right,bottom,tag\na.png,0,0,64,96,x\n"),
        ("a.toml", '[[crop]]\nimage = "a"\nbbox = [0, 0, 64, 64]'),
        ("a.toml", '[[crops]]\nimage = "a"\n[[crop]]\nimage = "a"'),
        ("a.toml", "oops"),
        ("a.toml", "crop = 3"),
        ("a.toml", "crop = [3]"),
        ("a.toml", "[[crop]]\nimage = 3"),
        ("a.toml", '[[crop]]\nimage = "a"\nbox = [0, 0, true, 64]'),
        ("a.toml", '[[crop]]\nimage = "a"\ncaption = 4'),
    ],
)
def test_a_wrong_list_is_an_error_of_the_user(tmp_path: Path, name: str, text: str) -> None:
    if text:
        with pytest.raises(RecipeError):
            read_crops(written(tmp_path, name, text))
    else:
        with pytest.raises(RecipeError):
            read_crops(tmp_path / name)


def test_semicolons_and_blanks_are_read(tmp_path: Path) -> None:
    path = written(tmp_path, "a.csv", "image; left;top;right;bottom;tags\r\n\r\na.png;0;0;64;96;red, blue\r\n")
    assert [(crop.image, crop.box, crop.tags) for crop in read_crops(path)] == [
        ("a.png", (0, 0, 64, 96), ("red", "blue"))
    ]


@pytest.mark.parametrize(
    ("name", "text", "line"),
    [
        ("a.csv", 'image,left,top,right,bottom\na.png,0,0,64,96\n"a.png"x,1,1,64,96\n', 3),
        ("a.csv", "image,left,top,right,bottom\n\na.png,0,0,64,96\na.png,0,0,64,96\n", 4),
        ("a.csv", "image,image\na.png,b.png\n", 1),
        ("a.toml", '[[crop]]\nimage = "a"\n\n[[crop]]\nimage = "a"\nbox = [0, 0, 64]\n', 4),
        ("a.toml", 'crop = [\n{image = "a"},\n{image = "b", bbox = 1},\n]\n', 3),
    ],
)
def test_the_line_is_named(tmp_path: Path, name: str, text: str, line: int) -> None:
    with pytest.raises(RecipeError) as caught:
        read_crops(written(tmp_path, name, text))
    assert f"{name}, line {line}:" in str(caught.value)


@pytest.mark.parametrize(("name", "text"), [("a.csv", "image,left\n"), ("a.toml", "crop = []\n")])
def test_a_list_without_crops_is_an_error(tmp_path: Path, name: str, text: str) -> None:
    with pytest.raises(RecipeError):
        read_crops(written(tmp_path, name, text))
