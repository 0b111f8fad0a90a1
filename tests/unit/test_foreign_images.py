"""Images are opened by an explicit list of formats: no other of Pillow's readers sees a stranger's file."""

from __future__ import annotations

import io
import os
from pathlib import Path

import pytest
from PIL import EpsImagePlugin, Image, UnidentifiedImageError

from constant import must_not_be_called
from lorabake.errors import RecipeError
from lorabake.reading import decoding
from lorabake.runs.rehearse import open_image
from lorabake_schemas.fits import Fit

EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 64 64\n%%EndComments\n(%pipe%touch ran) (w) file\nshowpage\n%%EOF\n"


def encoded(form: str, mode: str = "RGB") -> bytes:
    stream = io.BytesIO()
    Image.new(mode, (64, 64), 1).save(stream, form)
    return stream.getvalue()


@pytest.mark.parametrize("content", [EPS, encoded("PPM"), encoded("ICO"), encoded("PCX")])
def test_other_formats_are_no_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes) -> None:
    monkeypatch.setattr(EpsImagePlugin.EpsImageFile, "_open", must_not_be_called)
    path = tmp_path / "a.png"
    path.write_bytes(content)
    assert isinstance(decoding.look(str(path)), str)
    assert not decoding.can_be_decoded(str(path))
    assert decoding.look_deep(str(path)).problem
    with pytest.raises(UnidentifiedImageError), decoding.open_image(path):
        pass
    with pytest.raises(RecipeError):
        open_image(path, Fit((64, 64), (64, 64), (64, 64)), exact=False)


@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF"])
def test_what_training_sets_are_made_of_is_opened(tmp_path: Path, form: str) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(encoded(form))
    with decoding.open_image(path) as image:
        assert (image.format, image.size) == (form, (64, 64))


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.png")
    assert isinstance(decoding.look(str(tmp_path / "a.png")), str)
    assert decoding.look_deep(str(tmp_path / "a.png")).problem
