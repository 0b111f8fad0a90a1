"""The steps on pixels: depth, color space, transparency, and what is written."""

from __future__ import annotations

import io
from typing import Any, cast

import numpy as np
import pytest
from PIL import Image, ImageCms

from lorabake.inputs.prepare import pixels


def test_sixteen_bits_become_eight_of_the_same_gray() -> None:
    values = np.array([[0, 257, 32896, 65535]], np.uint16)
    found = pixels.to_rgb(Image.fromarray(values))
    assert found.mode == "L"
    assert list(found.tobytes()) == [0, 1, 128, 255]


@pytest.mark.parametrize(("top", "expected"), [(1.0, 128), (255.0, 128), (65535.0, 128), (1e9, 128)])
def test_floats_of_any_range_become_eight_bits(top: float, expected: int) -> None:
    values = np.array([[0, top / 2, top, np.nan]], np.float32)
    found = pixels.to_eight_bits(Image.fromarray(values))
    assert abs(found.getpixel((1, 0)) - expected) <= 1  # type: ignore[operator]
    assert found.getpixel((2, 0)) == 255
    assert found.getpixel((3, 0)) == 0


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "YCbCr", "CMYK", "HSV"])
def test_any_opaque_color_space_becomes_gray_or_rgb(mode: str) -> None:
    image = Image.new("RGB", (4, 4), (255, 0, 0)).convert(mode)
    assert pixels.to_rgb(image).mode in {"L", "RGB"}


@pytest.mark.parametrize("mode", ["LA", "PA", "RGBA", "RGBa"])
def test_transparency_becomes_rgba(mode: str) -> None:
    image = Image.new("RGBA", (4, 4)).convert(mode) if mode == "RGBa" else Image.new(mode, (4, 4))
    assert pixels.to_rgb(image).mode == "RGBA"


def test_cmyk_with_a_damaged_profile_is_converted_anyway() -> None:
    image = Image.new("CMYK", (4, 4), (0, 255, 255, 0))
    image.info["icc_profile"] = b"no profile"
    assert pixels.to_rgb(image).getpixel((0, 0)) == (255, 0, 0)


def test_a_background_is_seen_where_nothing_was() -> None:
    image = Image.new("RGBA", (2, 1), (1, 2, 3, 0))
    image.putpixel((1, 0), (1, 2, 3, 255))
    flat = pixels.flatten(image, "white")
    assert flat.mode == "RGB"
    assert [flat.getpixel((x, 0)) for x in (0, 1)] == [(255, 255, 255), (1, 2, 3)]


def test_backgrounds_vary_and_stay() -> None:
    names = [f"{number:03}" for number in range(100)]
    colors = [pixels.choose_background(name) for name in names]
    assert set(colors) == set(pixels.BACKGROUNDS)
    assert colors == [pixels.choose_background(name) for name in names]
    assert pixels.choose_background("a", ["simple", "blue"]) == "blue"


def test_only_the_profile_of_the_source_is_kept() -> None:
    image = Image.new("RGB", (8, 8))
    image.info["comment"] = b"secret"
    space: Any = cast("Any", ImageCms).createProfile("sRGB")
    profile = ImageCms.ImageCmsProfile(space).tobytes()
    for extension in (".jpg", ".png"):
        again = Image.open(io.BytesIO(pixels.encode(image, extension, profile)))
        assert again.info["icc_profile"] == profile
        assert "comment" not in again.info
    gray = Image.open(io.BytesIO(pixels.encode(image.convert("L"), ".png", profile)))
    assert "icc_profile" not in gray.info


def test_a_color_profile_is_applied() -> None:
    swapped = bytearray(ImageCms.ImageCmsProfile(cast("Any", ImageCms).createProfile("sRGB")).tobytes())
    red, blue = swapped.index(b"rXYZ"), swapped.index(b"bXYZ")
    swapped[red : red + 4], swapped[blue : blue + 4] = b"bXYZ", b"rXYZ"
    for mode, color in (("RGB", (200, 60, 20)), ("RGBA", (200, 60, 20, 7))):
        found = pixels.to_srgb(Image.new(mode, (2, 2), color), bytes(swapped))
        assert found is not None
        value = cast("tuple[int, ...]", found.getpixel((0, 0)))
        assert all(abs(one - two) <= 2 for one, two in zip(value, (20, 60, 200, 7), strict=False))
        assert value[3:] == color[3:]
    assert pixels.to_srgb(Image.new("RGB", (2, 2)), b"no profile") is None
