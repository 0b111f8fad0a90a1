"""Pictures through Pillow, with which sd-scripts opens and decodes them: for odd headers, and for a deep look."""

from __future__ import annotations

import os
import warnings
from collections.abc import Generator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from PIL import Image, UnidentifiedImageError, features

from lorabake.inputs.image_headers import CUT_OFF, EXIF_PREFIX, PNG_END, ImageHeader, read_exif_orientation
from lorabake.util.files import open_file
from lorabake_schemas.messages import msg

JPEG_END = b"\xff\xd9"
# What training sets are made of, by content. Pillow opens a PostScript file with Ghostscript, whatever its name.
IMAGE_FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "DIB", "GIF", "TIFF", *(("AVIF",) if features.check("avif") else ()))
FORMAT_ALIASES = {
    "MPO": "JPEG",
    "DIB": "BMP",
}  # a JPEG with more pictures behind the first, a BMP without its first bytes
THUMBNAIL_SIZE = 8  # side of the small picture that tells two pictures apart, in pixels


@contextmanager
def open_image(path: Path | str) -> Generator[Image.Image]:
    """An image of one of FORMATS. Whatever else Pillow knows is refused: some of it starts other programs.

    Raises OSError, UnidentifiedImageError, and whatever else damaged headers raise out of Pillow's readers.
    """
    with open_file(path) as file, Image.open(file, formats=IMAGE_FORMATS) as image:
        yield image


def read_pillow_header(path: str) -> ImageHeader | str:
    """What Pillow says of a file, without decoding it; a string says why it cannot be opened."""
    try:
        with ignore_pillow_warnings(), open_image(path) as image:
            found = FORMAT_ALIASES.get(image.format or "", image.format or "")
            moving = found != "JPEG" and bool(getattr(image, "is_animated", False))
            seen = _misread_webp_size(path, *image.size) if found == "WEBP" else None
            header = ImageHeader(
                found, *image.size, image.mode, _has_alpha(image), seen, _read_orientation(image), moving
            )
    except Exception as error:  # noqa: BLE001 - a damaged header raises almost anything out of Pillow's readers
        return _describe_problem(error, path)
    return header if _has_proper_end(path, found) else replace(header, whole=False)


def _has_proper_end(path: str, found: str) -> bool:
    """Whether the last bytes are those that such a file ends with; False where they tell nothing."""
    with suppress(OSError), open_file(path) as file:
        file.seek(-12, os.SEEK_END)
        end = file.read(12)
        return found == "WEBP" or end == PNG_END or (found == "JPEG" and end.endswith(JPEG_END))
    return False


def is_decodable(path: str) -> bool:
    try:
        with ignore_pillow_warnings(), open_image(path) as image:
            image.load()
    except Exception:  # noqa: BLE001 - as above
        return False
    return True


class DecodedImage(NamedTuple):
    """What only the pixels tell. ``small`` is the picture at 8 by 8 pixels, RGB, in hexadecimal digits."""

    problem: str | None = None
    opaque: bool = False
    small: str = ""


def decode_image(path: str) -> DecodedImage:
    """Decode a picture as sd-scripts does (TU:2948). Call it within ``quiet``, which is not for threads."""
    try:
        with open_image(path) as image:
            image.load()
            opaque = _has_alpha(image) and image.convert("RGBA").getchannel("A").getextrema() == (255, 255)
            plain = image.convert("RGB")
        return DecodedImage(
            None, opaque, plain.resize((THUMBNAIL_SIZE, THUMBNAIL_SIZE), Image.Resampling.BOX).tobytes().hex()
        )
    except Exception as error:  # noqa: BLE001 - as above
        return DecodedImage(msg("cannot be decoded ({why})", why=_error_text(error)))


def ignore_pillow_warnings() -> AbstractContextManager[object]:
    """Pillow warns of large or odd pictures that train all the same."""
    return warnings.catch_warnings(action="ignore")


def _has_alpha(image: Image.Image) -> bool:
    return "A" in image.mode or "a" in image.mode or "transparency" in image.info


def _read_orientation(image: Image.Image) -> int:
    data = image.info.get("exif")
    return read_exif_orientation(data.removeprefix(EXIF_PREFIX)) if isinstance(data, bytes) else 1


def _misread_webp_size(path: str, width: int, height: int) -> tuple[int, int] | None:
    """imagesize 1.4.1, the pin's header reader, takes such a picture for one pixel less; 0 it asks Pillow about."""
    with open_file(path) as file:
        return (width - 1, height - 1) if file.read(16)[12:] == b"VP8X" and width > 1 else None


def _describe_problem(error: Exception, path: str) -> str:
    match error:
        case Image.DecompressionBombError():
            return msg("too many pixels; Pillow, which sd-scripts uses to read images, refuses to open it")
        case PermissionError():
            return msg("no permission to read it")
        case _ if _is_short_webp(path):
            return CUT_OFF
        case UnidentifiedImageError():
            empty = os.path.getsize(path) == 0  # noqa: PTH202 - 100,000 calls
            return msg("the file is empty") if empty else msg("not an image, despite its name")
        case _:
            return msg("its header cannot be read ({why})", why=_error_text(error))


def _is_short_webp(path: str) -> bool:
    """A WebP file says at its beginning how long it is; Pillow does not say what is wrong with a shorter one."""
    with suppress(OSError), open_file(path) as file:
        head = file.read(12)
        told = head.startswith(b"RIFF") and head[8:] == b"WEBP"
        return told and int.from_bytes(head[4:8], "little") + 8 > file.seek(0, os.SEEK_END)
    return False


def _error_text(error: Exception) -> str:
    return str(error) or type(error).__name__
