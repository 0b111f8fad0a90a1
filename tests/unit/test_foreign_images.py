"""Images are opened by an explicit list of formats: no other of Pillow's readers sees a stranger's file."""

from __future__ import annotations

import io
import os
from pathlib import Path

import pytest
from PIL import EpsImagePlugin, Image, UnidentifiedImageError

from constant import must_not_be_called
from lorabake.errors import RecipeError
from lorabake.inputs import image_decoding
from lorabake.jobs.rehearsal import decode_to_bucket
from lorabake_schemas.bucket_fit import BucketFit

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
    assert isinstance(image_decoding.read_pillow_header(str(path)), str)
    assert not image_decoding.is_decodable(str(path))
    assert image_decoding.decode_image(str(path)).problem
    with pytest.raises(UnidentifiedImageError), image_decoding.open_image(path):
        pass
    with pytest.raises(RecipeError):
        decode_to_bucket(path, BucketFit((64, 64), (64, 64), (64, 64)), exact=False)


@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF"])
def test_what_training_sets_are_made_of_is_opened(tmp_path: Path, form: str) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(encoded(form))
    with image_decoding.open_image(path) as image:
        assert (image.format, image.size) == (form, (64, 64))


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.png")
    assert isinstance(image_decoding.read_pillow_header(str(tmp_path / "a.png")), str)
    assert image_decoding.decode_image(str(tmp_path / "a.png")).problem
