"""Files that are no recipe: named for what they are."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import pytest
from PIL import Image

from lorabake.errors import RecipeError
from lorabake.recipe.foreign import recognize, recognize_bytes
from lorabake.recipe.load import load_recipe


def _draw(form: str) -> bytes:
    data = io.BytesIO()
    Image.new("RGB", (40, 30), "red").save(data, form)
    return data.getvalue()


def _pack(member: str) -> bytes:
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as archive:
        archive.writestr(member, b"x" * 10)
    return data.getvalue()


HEADER = b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}'


@pytest.mark.parametrize(
    ("content", "what"),
    [
        *((_draw(form), "an image") for form in ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF")),
        (b"\0\0\0\x1cftypavif" + bytes(40), "an image"),
        (_pack("photo.png"), "a zip archive"),
        (_pack("archive/data.pkl"), "a torch checkpoint or another pickle"),
        (b"\x80\x02}q\0." + bytes(60), "a torch checkpoint or another pickle"),
        (len(HEADER).to_bytes(8, "little") + HEADER + bytes(4), "a model or a LoRA (safetensors)"),
        (b"%PDF-1.7\n%\xe2\xe3", "a PDF document"),
        (b"<!DOCTYPE html><html>", "a web page"),
        (b"\x7fELF" + bytes(60), "a binary file"),
    ],
)
def test_a_file_that_is_not_text_is_named(content: bytes, what: str, tmp_path: Path) -> None:
    file = tmp_path / "photo.toml"
    for padding in (b"", bytes(2 << 20)):  # also beyond the size of a recipe
        file.write_bytes(content + padding)
        (found,) = load_recipe(file).findings
        assert found.rule == "foreign-file"
        assert what in found.message


@pytest.mark.parametrize(
    "text",
    ["", 'name = "a"', "BMW = 1", "\ufeffname = 1", "# árvore", "II* = 1", "caf\u00e9 = 1", "{", "\U0001f3ee"],
)
def test_text_is_not_taken_for_another_file(text: str) -> None:
    assert recognize_bytes(text.encode()) is None
    assert recognize_bytes(text.encode("utf-16")) is None


def test_a_folder_leads_to_the_recipes_in_it(tmp_path: Path) -> None:
    with pytest.raises(RecipeError) as caught:
        load_recipe(tmp_path)
    assert "lorabake init" in (caught.value.hint or "")
    (tmp_path / "mine.toml").touch()
    with pytest.raises(RecipeError) as caught:
        load_recipe(tmp_path)
    assert "mine.toml" in (caught.value.hint or "")


def test_long_lines_and_blank_lines_are_read_once() -> None:
    assert recognize(b"accelerate " * 200_000) is None
    assert recognize(b"\n" * 1_000_000 + b"x") is None
    kind = recognize(b"x\n" * 10 + b"accelerate launch train.py\n")
    assert kind is not None
    assert kind.name == "shell"


def test_cut_off_json_is_named() -> None:
    found = recognize(b'{"a": ')
    assert found is not None
    assert found.name
