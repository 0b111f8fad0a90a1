"""Headers read by hand: the same answers as Pillow's, for every kind of picture that people train on."""

from __future__ import annotations

import io
import random
from typing import Any

import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from lorabake.inputs.image_headers import HEAD_SIZE, FileHead, ImageHeader, read_exif_orientation, read_image_header

ROTATED = Image.Exif()
ROTATED[0x010F], ROTATED[0x0112] = "maker", 6
NOTES = PngInfo()
NOTES.add_text("parameters", "a prompt, " * 700)
NOTES.add_text("packed", "y" * 3000, zip=True)
NOTES.add_itxt("Title", "ação")


def noise(mode: str = "RGB", size: tuple[int, int] = (61, 40)) -> Image.Image:
    pixels = random.Random(size[0]).randbytes(size[0] * size[1] * 3)  # noqa: S311
    image = Image.frombytes("RGB", size, pixels)
    return image.convert("L").convert(mode) if mode == "I;16" else image.convert(mode)


def encoded(image: Image.Image, kind: str, **how: Any) -> bytes:
    into = io.BytesIO()
    image.save(into, kind, **how)
    return into.getvalue()


def header(data: bytes) -> ImageHeader | None:
    return read_image_header(FileHead(data[:HEAD_SIZE], len(data), lambda offset, count: data[offset : offset + count]))


def by_pillow(data: bytes) -> tuple[object, ...]:
    with Image.open(io.BytesIO(data)) as image:
        alpha = "A" in image.mode or "transparency" in image.info
        moving = image.format != "MPO" and getattr(image, "is_animated", False)
        orientation = image.getexif().get(0x0112, 1)
        return image.format, image.size, image.mode, alpha, moving, orientation


def clear(mode: str = "RGBA") -> Image.Image:
    image = noise("RGBA")
    image.putalpha(Image.linear_gradient("L").resize(image.size))
    return image.convert(mode)


PLAIN = {
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
    "bmp": encoded(noise(), "BMP"),
    "one-pixel-jpeg": encoded(noise(size=(1, 1)), "JPEG"),
    "one-pixel-webp": encoded(clear().resize((1, 1)), "WEBP", exif=ROTATED),
    "large-png": encoded(Image.new("1", (5000, 3000)), "PNG"),
}
LEFT_TO_PILLOW = {
    "gif": encoded(noise("P"), "GIF"),
    "tiff": encoded(noise(), "TIFF"),
    "bmp-palette": encoded(noise("P"), "BMP"),
    "webp-moving": encoded(noise(), "WEBP", save_all=True, append_images=[noise().rotate(90)]),
    "png-long-profile": encoded(noise(), "PNG", icc_profile=random.Random(1).randbytes(3000)),  # noqa: S311
    "too-many-pixels": encoded(Image.new("1", (20_000, 9_000)), "PNG"),
    "empty": b"",
    "text": b"<html></html>",
}


@pytest.mark.parametrize("data", PLAIN.values(), ids=PLAIN)
def test_a_plain_picture_is_what_pillow_says(data: bytes) -> None:
    found = header(data)
    assert found is not None
    assert found.whole
    size = (found.width, found.height)
    assert (found.format, size, found.mode, found.alpha, found.moving, found.orientation) == by_pillow(data)
    assert found.seen is None or found.seen == (found.width - 1, found.height - 1)


def test_which_sizes_sd_scripts_misreads() -> None:
    misread = {name for name, data in PLAIN.items() if (found := header(data)) and found.seen}
    assert misread == {"webp-clear", "webp-turned"}


@pytest.mark.parametrize("data", LEFT_TO_PILLOW.values(), ids=LEFT_TO_PILLOW)
def test_anything_else_is_left_to_pillow(data: bytes) -> None:
    assert header(data) is None


@pytest.mark.parametrize("name", [name for name in PLAIN if not name.startswith(("one-pixel", "large"))])
@pytest.mark.parametrize("share", [0.3, 0.6, 0.9, 0.999])
def test_a_file_that_ends_too_early_is_not_taken_for_whole(name: str, share: float) -> None:
    data = PLAIN[name]
    found = header(data[: int(len(data) * share)])
    assert found is None or not found.whole


@pytest.mark.parametrize("extra", [b"\0" * 20, b"more bytes behind"])
def test_what_follows_a_picture_makes_it_doubtful_only(extra: bytes) -> None:
    assert [header(PLAIN[name] + extra).whole for name in ("jpeg", "png-RGB")] == [False, False]  # type: ignore[union-attr]


def damaged(dice: random.Random) -> bytes:
    data = bytearray(dice.choice([data for name, data in PLAIN.items() if name != "jpeg-long-profile"]))
    for _ in range(dice.choice((1, 1, 2, 4))):
        data[dice.randrange(min(len(data), 100))] = dice.randrange(256)
    return bytes(data)


def test_damaged_beginnings_never_raise_and_sizes_agree_with_pillow() -> None:
    """Three thousand files with other bytes in the first hundred: an answer that differs in size would be a fault."""
    dice, answers = random.Random(5), 0  # noqa: S311
    for _ in range(3000):
        data = damaged(dice)
        found = header(data)
        if found is None:
            continue
        try:
            with Image.open(io.BytesIO(data)) as image:
                size, mode = image.size, image.mode
        except Exception:  # noqa: BLE001, S112 - damage that only the whole header shows, such as a quantisation table
            continue
        answers += 1
        assert (found.width, found.height) == size
        assert found.mode == mode or found.format == "WEBP"  # the colour of a damaged frame is nobody's concern
    assert answers > 500


@pytest.mark.parametrize(
    ("data", "orientation"),
    [
        (b"", 1),
        (b"II*\0", 1),
        (b"II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0", 6),
        (b"MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x08\0\0", 8),
        (b"MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x09\0\0", 1),
        (b"MM\0*\0\0\0\x08\xff\xff\x01\x12\0\x03\0\0\0\x01\0\x03\0\0", 3),
        (b"II*\0\xff\xff\xff\xff", 1),
    ],
)
def test_the_orientation_in_exif_data(data: bytes, orientation: int) -> None:
    assert read_exif_orientation(data) == orientation


def test_only_what_is_needed_is_read() -> None:
    """Of a JPEG with a long profile: its head, the places between segments, and its end."""
    data = PLAIN["jpeg-long-profile"]
    asked = list[int]()

    def read_at(offset: int, count: int) -> bytes:
        asked.append(count)
        return data[offset : offset + count]

    assert read_image_header(FileHead(data[:HEAD_SIZE], len(data), read_at)) is not None
    assert 0 < sum(asked) < 500
