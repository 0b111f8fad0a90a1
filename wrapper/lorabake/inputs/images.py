"""One image file, through Pillow, with which sd-scripts opens and decodes it. A bad file is a fact."""

from __future__ import annotations

import io
import os
import struct
import warnings
from collections.abc import Generator
from contextlib import contextmanager, suppress
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, NamedTuple
from zlib import crc32

from lorabake.inputs.duplicates import THUMBNAIL_SIZE
from lorabake.util.fact_cache import is_file_stamp
from lorabake.util.files import open_descriptor, open_file, reason
from lorabake_schemas.dataset import CaptionFacts, ImageFacts
from lorabake_schemas.messages import msg

if TYPE_CHECKING:  # not needed where all images are known already: Pillow is a twentieth of a check
    from PIL import Image

HEAD_SIZE = 4096  # bytes of the checksum in a mark
TAIL_SIZE = 12
PNG_END, JPEG_END = b"\0\0\0\0IEND\xaeB`\x82", b"\xff\xd9"
COMMON_FORMATS = ("PNG", "JPEG", "BMP", "DIB", "GIF")
# A JPEG with more images behind the first, a BMP without its first bytes.
FORMAT_ALIASES = {"MPO": "JPEG", "DIB": "BMP"}
EXIF_ORIENTATION = 0x0112
# The colorants of sRGB in a color profile (ICC.1, tags rXYZ, gXYZ and bXYZ). Display P3 is 0.09 away.
SRGB_PRIMARIES = {
    b"rXYZ": (0.436, 0.222, 0.014), b"gXYZ": (0.385, 0.717, 0.097), b"bXYZ": (0.143, 0.061, 0.714),
}  # fmt: skip
PRIMARY_TOLERANCE = 0.02
MAX_PROFILE_TAGS = 100
CUT_OFF = msg("cut off before the end of the image")
# The first bytes of formats that only other programs read, and those after an ISO file's "ftyp".
OTHER_FORMATS = {
    b"8BPS": "PSD", b"\xff\x0a": "JPEG XL", b"\0\0\0\x0cJXL ": "JPEG XL", b"\0\0\0\x0cjP  ": "JPEG 2000",
}  # fmt: skip
OTHER_BRANDS = {
    b"avif": "AVIF", b"heic": "HEIC", b"heix": "HEIC", b"heim": "HEIC", b"heis": "HEIC", b"hevc": "HEIC",
    b"mif1": "HEIC",
}  # fmt: skip


class ImageFileFacts(NamedTuple):
    """The fields of ImageFacts that only depend on the file, and a mark that finds equal files.

    ``mark`` is the file's length and a checksum of its start: equal files have equal marks.
    """

    format: str = ""
    width: int = 0
    height: int = 0
    mode: str = ""
    alpha: bool = False
    seen: tuple[int, int] | None = None
    orientation: int = 1
    moving: bool = False
    wide_gamut: bool = False
    problem: str | None = None
    mark: str = ""


def make_image_facts(name: str, file: ImageFileFacts, caption: CaptionFacts) -> ImageFacts:
    """The facts of an image of this name."""
    seen = (file.seen[0], file.seen[1]) if file.seen else None  # a list, if it was kept
    return ImageFacts(
        name, file.width, file.height, file.mode, file.alpha, seen, file.problem, caption, file.format,
        file.orientation, file.moving, file.wide_gamut,
    )  # fmt: skip


class DecodedImage(NamedTuple):
    """What only the pixels show. ``small`` is the image at 8 by 8 pixels, RGB, in hexadecimal digits."""

    problem: str | None = None
    opaque: bool = False
    small: str = ""


@contextmanager
def open_image(path: Path | str) -> Generator[Image.Image]:
    """An image of a format that training sets are made of, nothing of it decoded.

    Whatever else Pillow knows is refused: some of it starts other programs. Raises OSError, UnidentifiedImageError,
    and whatever else damaged headers raise out of Pillow's readers.
    """
    with open_file(path) as file, _open_stream(file, file.read(16)) as image:
        yield image


def open_image_data(data: bytes) -> Image.Image:
    """The same for a file in memory; its pixels are decoded when they are needed. Raises as ``open_image``."""
    return _open_stream(io.BytesIO(data), data[:16])


def _open_stream(file: BinaryIO, head: bytes) -> Image.Image:
    from PIL import Image

    return Image.open(file, formats=_allowed_formats(head))


def _allowed_formats(head: bytes) -> tuple[str, ...]:
    """The formats that a file may have by its first bytes, their readers loaded: else Pillow loads all it has."""
    if head[8:12] == b"WEBP":
        rare = ("WEBP", "PIL.WebPImagePlugin")
    elif head[:2] in {b"II", b"MM"}:
        rare = ("TIFF", "PIL.TiffImagePlugin")
    elif head[4:8] == b"ftyp":
        rare = ("AVIF", "PIL.AvifImagePlugin")
    else:
        return COMMON_FORMATS
    try:
        import_module(rare[1])
    except ImportError:  # Pillow reads AVIF since 11.3
        return ()
    return (rare[0],)


def ignore_pillow_warnings() -> warnings.catch_warnings[None]:
    """Pillow warns of large or odd images that train anyway."""
    return warnings.catch_warnings(action="ignore")


def read_image(path: str, stamp: str | None) -> ImageFileFacts:
    """The facts that a file's header and its end give; ``stamp`` is the file's, links followed (fact_cache).

    A file that does not end as its format does is decoded: some programs append to a file, and that does no harm.
    """
    if not is_file_stamp(stamp):
        return ImageFileFacts(problem=_not_a_file_message(stamp))
    try:
        with os.fdopen(open_descriptor(path, seen=True), "rb") as file:
            head = file.read(HEAD_SIZE)
            size = os.fstat(file.fileno()).st_size
            found = _read_header(file, head, size)._replace(mark=f"{size}:{crc32(head)}")
            if found.problem is None and not _ends_properly(file, found.format) and not _is_decodable(file, head):
                found = found._replace(problem=CUT_OFF)
    except OSError as error:
        return ImageFileFacts(problem=_unreadable_message(error))
    return found


def _read_header(file: BinaryIO, head: bytes, size: int) -> ImageFileFacts:
    try:
        with ignore_pillow_warnings():
            image = _open_stream(file, head)
            found = FORMAT_ALIASES.get(image.format or "", image.format or "")
            moving = found != "JPEG" and bool(getattr(image, "is_animated", False))
            # imagesize 1.4.1, with which the pin reads headers, takes an extended WebP for one pixel less each way;
            # where that gives 0 it asks Pillow (TU:1483)
            extended = found == "WEBP" and head[12:16] == b"VP8X" and image.width > 1
            seen = (image.width - 1, image.height - 1) if extended else None
            wide_gamut = has_wide_gamut(image.info.get("icc_profile"))
            return ImageFileFacts(
                found, *image.size, image.mode, _has_alpha(image), seen, _read_orientation(image), moving, wide_gamut
            )
    except Exception as error:  # noqa: BLE001 - a damaged header raises almost anything out of Pillow's readers
        return ImageFileFacts(problem=_describe_problem(error, head, size))


def has_wide_gamut(profile: object) -> bool:
    """Whether a color profile has other primaries than sRGB, such as Display P3 or Adobe RGB."""
    if not isinstance(profile, bytes) or profile[16:20] != b"RGB ":
        return False
    places = range(132, 132 + 12 * min(int.from_bytes(profile[128:132]), MAX_PROFILE_TAGS), 12)
    tags = {profile[at : at + 4]: int.from_bytes(profile[at + 4 : at + 8]) for at in places}
    for name, primary in SRGB_PRIMARIES.items():
        data = profile[tags.get(name, 0) :][8:20]
        if name in tags and len(data) == 12:
            found = (value / 65536 for value in struct.unpack(">3i", data))
            if any(abs(one - two) > PRIMARY_TOLERANCE for one, two in zip(found, primary, strict=True)):
                return True
    return False


def _has_alpha(image: Image.Image) -> bool:
    return "A" in image.mode or "a" in image.mode or "transparency" in image.info


def _read_orientation(image: Image.Image) -> int:
    """EXIF's orientation, 1 to 8; 1 if it is missing or damaged."""
    data = image.info.get("exif")
    if isinstance(data, bytes) and data:
        from PIL import Image

        with suppress(Exception):
            exif = Image.Exif()
            exif.load(data)
            value = exif.get(EXIF_ORIENTATION)
            return value if isinstance(value, int) and 1 <= value <= 8 else 1
    return 1


def _ends_properly(file: BinaryIO, found: str) -> bool:
    """Whether the last bytes are those that such a file ends with; False if they show nothing."""
    if found == "WEBP":  # the header has the file's length, and Pillow has read to the end
        return True
    with suppress(OSError):
        file.seek(-TAIL_SIZE, os.SEEK_END)
        end = file.read(TAIL_SIZE)
        return end == PNG_END or (found == "JPEG" and end.endswith(JPEG_END))
    return False


def _is_decodable(file: BinaryIO, head: bytes) -> bool:
    try:
        with ignore_pillow_warnings():
            _open_stream(file, head).load()
    except Exception:  # noqa: BLE001 - as above
        return False
    return True


def decode_image(path: str) -> DecodedImage:
    """Decode an image as sd-scripts does (TU:2948). Call it within ``ignore_pillow_warnings``, which is not for
    threads."""
    from PIL import Image

    try:
        with open_image(path) as image:
            image.load()
            opaque = _has_alpha(image) and image.convert("RGBA").getchannel("A").getextrema() == (255, 255)
            small = image.convert("RGB").resize((THUMBNAIL_SIZE, THUMBNAIL_SIZE), Image.Resampling.BOX)
        return DecodedImage(None, opaque, small.tobytes().hex())
    except Exception as error:  # noqa: BLE001 - as above
        return DecodedImage(msg("damaged: {why}", why=_error_text(error)))


def _describe_problem(error: Exception, head: bytes, size: int) -> str:
    from PIL import Image, UnidentifiedImageError

    match error:
        case Image.DecompressionBombError():
            return msg("too many pixels for Pillow, which sd-scripts reads images with")
        case _ if head[8:12] == b"WEBP" and int.from_bytes(head[4:8], "little") + 8 > size:
            return CUT_OFF
        case UnidentifiedImageError() if other := _name_other_format(head):
            return msg("a {format} file, which sd-scripts cannot read; save it as PNG or JPEG", format=other)
        case UnidentifiedImageError():
            return msg("not an image, despite its name") if size else msg("the file is empty")
        case _:
            return msg("damaged header: {why}", why=_error_text(error))


def _name_other_format(head: bytes) -> str | None:
    if head[4:8] == b"ftyp":
        return OTHER_BRANDS.get(head[8:12])
    return next((name for start, name in OTHER_FORMATS.items() if head.startswith(start)), None)


def _error_text(error: Exception) -> str:
    return str(error) or type(error).__name__


def _not_a_file_message(stamp: str | None) -> str:
    if stamp is None:
        return msg("a broken link")
    return msg("a folder with the name of an image") if stamp[0] == "d" else msg("not a file or a folder")


def _unreadable_message(error: OSError) -> str:
    match error:
        case PermissionError():
            return msg("no permission to read it")
        case FileNotFoundError():
            return msg("the file is missing")
        case _:
            return reason(error)
