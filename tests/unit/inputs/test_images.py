"""Single image files: the facts for every kind that people train on, damaged files, formats that are not opened."""

from __future__ import annotations

import io
import os
import random
import struct
from pathlib import Path
from typing import Any

import pytest
from PIL import EpsImagePlugin, Image, UnidentifiedImageError
from PIL.PngImagePlugin import PngInfo

from constant import must_not_be_called
from lorabake.errors import RecipeError
from lorabake.inputs.images import CUT_OFF, ImageFileFacts, decode_image, has_wide_gamut, open_image, read_image
from lorabake.jobs.rehearsal import decode_to_bucket
from lorabake.util.fact_cache import make_stamp
from lorabake_schemas.bucket_fit import BucketFit

ROTATED = Image.Exif()
ROTATED[0x010F], ROTATED[0x0112] = "maker", 6
NOTES = PngInfo()
NOTES.add_text("parameters", "a prompt, " * 700)
NOTES.add_text("packed", "y" * 3000, zip=True)
NOTES.add_itxt("Title", "ação")
EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 64 64\n%%EndComments\n(%pipe%touch ran) (w) file\nshowpage\n%%EOF\n"


def noise(mode: str = "RGB", size: tuple[int, int] = (61, 40)) -> Image.Image:
    pixels = random.Random(size[0]).randbytes(size[0] * size[1] * 3)  # noqa: S311
    image = Image.frombytes("RGB", size, pixels)
    return image.convert("L").convert(mode) if mode == "I;16" else image.convert(mode)


def clear(mode: str = "RGBA") -> Image.Image:
    image = noise("RGBA")
    image.putalpha(Image.linear_gradient("L").resize(image.size))
    return image.convert(mode)


def encoded(image: Image.Image, kind: str, **how: Any) -> bytes:
    into = io.BytesIO()
    image.save(into, kind, **how)
    return into.getvalue()


def facts(folder: Path, data: bytes) -> ImageFileFacts:
    path = folder / "a.png"
    path.write_bytes(data)
    return read_image(str(path), make_stamp(path.stat(), path.name))


def by_pillow(data: bytes) -> tuple[object, ...]:
    with Image.open(io.BytesIO(data)) as image:
        alpha = "A" in image.mode or "transparency" in image.info
        orientation = image.getexif().get(0x0112, 1)
        return image.format, image.size, image.mode, alpha, getattr(image, "is_animated", False), orientation


SOUND = {
    **{f"png-{mode}": encoded(noise(mode), "PNG") for mode in ("1", "L", "P", "RGB", "RGBA", "LA", "I;16")},
    "png-notes": encoded(noise(), "PNG", pnginfo=NOTES, dpi=(72, 72), exif=ROTATED, icc_profile=b"p" * 500),
    "png-transparent-palette": encoded(noise("P"), "PNG", transparency=3),
    "png-moving": encoded(noise(), "PNG", save_all=True, append_images=[noise("RGB").rotate(90)]),
    "jpeg": encoded(noise(), "JPEG"),
    "jpeg-grey": encoded(noise("L"), "JPEG"),
    "jpeg-cmyk": encoded(noise("CMYK"), "JPEG"),
    "jpeg-progressive": encoded(noise(), "JPEG", progressive=True),
    "jpeg-turned": encoded(noise(), "JPEG", exif=ROTATED),
    "jpeg-long-profile": encoded(noise(), "JPEG", icc_profile=b"i" * 70_000, comment="hello", exif=ROTATED),
    "webp": encoded(noise(), "WEBP"),
    "webp-lossless": encoded(noise(), "WEBP", lossless=True),
    "webp-lossless-clear": encoded(clear(), "WEBP", lossless=True),
    "webp-clear": encoded(clear(), "WEBP"),
    "webp-turned": encoded(clear(), "WEBP", exif=ROTATED, icc_profile=b"i" * 501),
    "webp-moving": encoded(noise(), "WEBP", save_all=True, append_images=[noise().rotate(90)]),
    "bmp": encoded(noise(), "BMP"),
    "bmp-palette": encoded(noise("P"), "BMP"),
    "gif": encoded(noise("P"), "GIF"),
    "tiff": encoded(noise(), "TIFF"),
    "one-pixel-jpeg": encoded(noise(size=(1, 1)), "JPEG"),
    "one-pixel-webp": encoded(clear().resize((1, 1)), "WEBP", exif=ROTATED),
    "large-png": encoded(Image.new("1", (5000, 3000)), "PNG"),
}
TRAINED = [name for name in SOUND if not name.startswith(("one-pixel", "large", "gif", "tiff"))]


@pytest.mark.parametrize("data", SOUND.values(), ids=SOUND)
def test_the_facts_of_a_sound_image(tmp_path: Path, data: bytes) -> None:
    found = facts(tmp_path, data)
    assert found.problem is None
    size = (found.width, found.height)
    assert (found.format, size, found.mode, found.alpha, found.moving, found.orientation) == by_pillow(data)
    assert found.seen is None or found.seen == (found.width - 1, found.height - 1)


def test_which_sizes_sd_scripts_misreads(tmp_path: Path) -> None:
    misread = {name for name, data in SOUND.items() if facts(tmp_path, data).seen}
    assert misread == {"webp-clear", "webp-turned", "webp-moving"}


@pytest.mark.parametrize("name", TRAINED)
@pytest.mark.parametrize("share", [0.3, 0.6, 0.9, 0.999])
def test_a_file_that_ends_too_early_has_a_problem_where_it_cannot_be_decoded(
    tmp_path: Path, name: str, share: float
) -> None:
    data = SOUND[name]
    found = facts(tmp_path, data[: int(len(data) * share)])
    assert bool(found.problem) == bool(decode_image(str(tmp_path / "a.png")).problem)


def test_an_image_that_is_cut_off_is_called_so(tmp_path: Path) -> None:
    cut = {
        name: facts(tmp_path, SOUND[name][: len(SOUND[name]) * 2 // 3]) for name in ("png-RGB", "jpeg", "webp", "bmp")
    }
    assert {found.problem for found in cut.values()} == {CUT_OFF}


@pytest.mark.parametrize("extra", [b"\0" * 20, b"more bytes behind"])
@pytest.mark.parametrize("name", TRAINED)
def test_what_follows_an_image_does_no_harm(tmp_path: Path, name: str, extra: bytes) -> None:
    assert facts(tmp_path, SOUND[name] + extra).problem is None


def test_damaged_beginnings_never_raise(tmp_path: Path) -> None:
    dice, sound = random.Random(5), 0  # noqa: S311
    for _ in range(600):
        data = bytearray(dice.choice([data for name, data in SOUND.items() if name != "jpeg-long-profile"]))
        for _ in range(dice.choice((1, 1, 2, 4))):
            data[dice.randrange(min(len(data), 100))] = dice.randrange(256)
        found = facts(tmp_path, bytes(data))
        sound += found.problem is None
        assert found.problem or (found.width > 0 and found.height > 0)
    assert sound > 50


@pytest.mark.parametrize(
    ("exif", "orientation"),
    [
        (b"", 1),
        (b"Exif\0\0II*\0", 1),
        (b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0\0", 6),
        (b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x08\0\0\0\0\0\0", 8),
        (b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x09\0\0\0\0\0\0", 1),
        (b"Exif\0\0II*\0\xff\xff\xff\xff", 1),
        (b"Exif\0\0nonsense", 1),
    ],
)
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_the_orientation_in_exif_data(tmp_path: Path, kind: str, exif: bytes, orientation: int) -> None:
    found = facts(tmp_path, encoded(noise(), kind, exif=exif))
    assert (found.problem, found.orientation) == (None, orientation)


def test_what_is_no_image_and_what_is_too_large(tmp_path: Path) -> None:
    assert facts(tmp_path, b"").problem == "the file is empty"
    assert "not an image" in str(facts(tmp_path, b"<html></html>").problem)
    assert "too many pixels" in str(facts(tmp_path, encoded(Image.new("1", (20_000, 9_000)), "PNG")).problem)


@pytest.mark.parametrize("content", [EPS, *(encoded(noise(), kind) for kind in ("PPM", "ICO", "PCX"))])
def test_other_formats_are_not_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes) -> None:
    monkeypatch.setattr(EpsImagePlugin.EpsImageFile, "_open", must_not_be_called)
    assert facts(tmp_path, content).problem
    path = tmp_path / "a.png"
    assert decode_image(str(path)).problem
    with pytest.raises(UnidentifiedImageError), open_image(path):
        pass
    with pytest.raises(RecipeError):
        decode_to_bucket(path, BucketFit((64, 64), (64, 64), (64, 64)), exact=False)


@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF"])
def test_what_training_sets_are_made_of_is_opened(tmp_path: Path, form: str) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(encoded(noise(), form))
    with open_image(path) as image:
        assert (image.format, image.size) == (form, (61, 40))
    assert decode_image(str(path)).problem is None


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    os.mkfifo(path)
    assert read_image(str(path), make_stamp(path.stat(), path.name)).problem
    assert decode_image(str(path)).problem


@pytest.mark.parametrize(
    ("data", "name"),
    [
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(99), "HEIC"),
        (b"\xff\x0a" + bytes(99), "JPEG XL"),
        (b"8BPS" + bytes(99), "PSD"),
    ],
)
def test_a_format_that_is_not_read_is_named(tmp_path: Path, data: bytes, name: str) -> None:
    assert name in (facts(tmp_path, data).problem or "")


def make_profile(*colorants: tuple[float, float, float]) -> bytes:
    """The head and the colorants of a color profile, which is all that is looked at."""
    names = (b"rXYZ", b"gXYZ", b"bXYZ")
    table = b"".join(name + struct.pack(">II", 168 + 20 * at, 20) for at, name in enumerate(names))
    values = (struct.pack(">3i", *(round(value * 65536) for value in each)) for each in colorants)
    return bytes(16) + b"RGB " + bytes(108) + b"\0\0\0\3" + table + b"".join(b"XYZ \0\0\0\0" + each for each in values)


def test_a_profile_with_more_colors_than_srgb_is_a_fact(tmp_path: Path) -> None:
    srgb = make_profile((0.4361, 0.2225, 0.0139), (0.3851, 0.7169, 0.0971), (0.1431, 0.0606, 0.7141))
    wide = make_profile((0.5151, 0.2412, -0.0011), (0.2919, 0.6922, 0.0419), (0.1572, 0.0666, 0.7841))
    for kind in ("PNG", "JPEG", "WEBP"):
        assert not facts(tmp_path, encoded(noise(), kind)).wide_gamut
        assert not facts(tmp_path, encoded(noise(), kind, icc_profile=srgb)).wide_gamut
        assert facts(tmp_path, encoded(noise(), kind, icc_profile=wide)).wide_gamut


@pytest.mark.parametrize("at", [0, 20, 131, 140, 170, 200])
def test_a_profile_that_is_cut_off_has_no_wide_gamut(at: int) -> None:
    srgb = make_profile((0.4361, 0.2225, 0.0139), (0.3851, 0.7169, 0.0971), (0.1431, 0.0606, 0.7141))
    assert not has_wide_gamut(srgb[:at])
