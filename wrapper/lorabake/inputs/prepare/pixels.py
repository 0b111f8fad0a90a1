"""The steps that change an image's pixels, each a function of an image. Pure."""

from __future__ import annotations

import io
from collections.abc import Sequence
from contextlib import suppress
from hashlib import sha256
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from PIL import Image

    from lorabake_schemas.bucket_fit import Size

Box = tuple[int, int, int, int]
# G2.5: varied solid backgrounds, under the names that captions have for them.
BACKGROUNDS: dict[str, tuple[int, int, int]] = {
    "white": (255, 255, 255),
    "black": (0, 0, 0),
    "grey": (128, 128, 128),
    "blue": (64, 96, 208),
    "green": (72, 160, 88),
    "red": (200, 64, 64),
    "yellow": (236, 212, 96),
    "purple": (136, 88, 176),
}
WIDE_MODES = ("I", "F")  # Pillow's modes of more than 8 bits a value start with these
# 4:4:4 at 95: no visible difference at 1.5 times the size of the bucket, at a sixth of the time and size of a PNG.
JPEG_QUALITY, PNG_LEVEL = 95, 2
DRAFT_GAP = 2  # a JPEG is decoded at least at so many times the size that it is reduced to


def choose_background(name: str, wanted: Sequence[str] = ()) -> str:
    """The color's name for an image: one that its caption names, else one by its name alone, always the same."""
    for color in wanted:
        if color in BACKGROUNDS:
            return color
    colors = list(BACKGROUNDS)
    return colors[int.from_bytes(sha256(name.encode("utf-8", "surrogatepass")).digest()[:4]) % len(colors)]


def draft_jpeg(image: Image.Image, size: Size) -> None:
    """Let libjpeg decode a JPEG at a half, a quarter or an eighth, where it is to be reduced to far less."""
    image.draft(None, (size[0] * DRAFT_GAP, size[1] * DRAFT_GAP))


def to_eight_bits(image: Image.Image) -> Image.Image:
    """Grays of 16 or 32 bits, or of any range, as 8 bits; Pillow's own conversion makes nearly all of them white."""
    import numpy as np
    from PIL import Image

    values = np.asarray(image).astype(np.float64)
    values = np.nan_to_num(values, nan=0.0, posinf=0.0, neginf=0.0)
    top = float(values.max(initial=0.0))
    limit = next((limit for limit in (1.0, 255.0, 65535.0) if top <= limit), top)
    if not image.mode.startswith("F"):
        limit = max(65535.0, top)
    scaled = np.clip(values * (255.0 / limit), 0, 255).round().astype(np.uint8)
    return Image.fromarray(scaled)


def to_rgb(image: Image.Image) -> Image.Image:
    """Any color space as L or RGB, with LA and transparent palettes as RGBA. CMYK goes through its color profile."""
    if image.mode.startswith(WIDE_MODES):
        image = to_eight_bits(image)
    if image.mode == "CMYK":
        return _from_cmyk(image)
    if "transparency" in image.info or image.mode in {"LA", "PA", "RGBa"}:
        return image.convert("RGBA")
    if image.mode in {"L", "RGB", "RGBA"}:
        return image
    return image.convert("L" if image.mode == "1" else "RGB")


def _from_cmyk(image: Image.Image) -> Image.Image:
    found = to_srgb(image, image.info.get("icc_profile")) or image.convert("RGB")
    found.info = {}  # the profile is that of CMYK
    return found


def to_srgb(image: Image.Image, profile: bytes | None) -> Image.Image | None:
    """An image in the colors that its profile means, as sRGB, its alpha channel kept. None if that cannot be done."""
    from PIL import ImageCms

    if profile:
        with suppress(Exception):  # a damaged profile, or a Pillow without littleCMS
            source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
            space = ImageCms.createProfile("sRGB")  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
            mode = "RGB" if image.mode == "CMYK" else image.mode
            return ImageCms.profileToProfile(image, source, cast("Any", space), outputMode=mode)
    return None


def flatten(image: Image.Image, color: str) -> Image.Image:
    """An RGBA image on a solid background."""
    from PIL import Image

    ground = Image.new("RGB", image.size, BACKGROUNDS[color])
    ground.paste(image, mask=image.getchannel("A"))
    return ground


def is_opaque(image: Image.Image) -> bool:
    """Whether no pixel of an RGBA image is transparent."""
    return image.getchannel("A").getextrema() == (255, 255)


def resize(image: Image.Image, size: Size) -> Image.Image:
    """By Lanczos. Hidden colors under transparent parts do not come out: Pillow weighs RGBA by its alpha."""
    from PIL import Image

    return image if image.size == size else image.resize(size, Image.Resampling.LANCZOS)


def encode(image: Image.Image, extension: str, profile: bytes | None) -> bytes:
    """The file's bytes: PNG, or JPEG for .jpg. Nothing of the source's metadata but its color profile is in it."""
    image.info = {}
    into = io.BytesIO()
    space = (profile or b"")[16:20]  # a profile of another color space would make viewers refuse the file
    fits = space == (b"GRAY" if image.mode == "L" else b"RGB ")
    more = {"icc_profile": profile} if fits else {}
    if extension == ".jpg":
        image.save(into, "JPEG", quality=JPEG_QUALITY, subsampling=0, **more)
    else:
        image.save(into, "PNG", compress_level=PNG_LEVEL, **more)
    return into.getvalue()
