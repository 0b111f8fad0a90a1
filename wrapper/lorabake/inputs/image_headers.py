"""What the first bytes of a picture say, for the four formats of training sets; anything unusual is left to Pillow.

Every function answers as Pillow and imagesize 1.4.1 (the pin's header reader) would, or not at all: a file that is
not plainly in order gives None, and Pillow decides. That is a fifth of what Pillow's own opening costs.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from zlib import crc32

from lorabake_schemas.messages import msg

HEAD_SIZE = 4096  # bytes that are read at once: in nearly every file the whole header is among them
TAIL_SIZE = 12
PIXEL_LIMIT = 2 * 89_478_485  # Pillow refuses more (Image.MAX_IMAGE_PIXELS)
CUT_OFF = msg("cut off: the file ends before the image does")
ReadAt = Callable[[int, int], bytes]


@dataclass(frozen=True, slots=True)
class ImageHeader:
    """A picture by its header: Pillow's format and mode, the size as stored, and what else matters to training.

    ``whole`` is False when the structure does not end as it should: then only decoding tells whether it is cut off.
    """

    format: str
    width: int
    height: int
    mode: str
    alpha: bool = False
    seen: tuple[int, int] | None = None
    orientation: int = 1
    moving: bool = False
    whole: bool = True


@dataclass(frozen=True, slots=True)
class FileHead:
    """The beginning of a file, its length, and a way to read more of it."""

    head: bytes
    size: int
    read_at: ReadAt

    def bytes_at(self, offset: int, count: int) -> bytes:
        """Fewer than ``count`` at the end of the file."""
        if offset + count <= len(self.head) or len(self.head) == self.size:
            return self.head[offset : offset + count]
        return self.read_at(offset, count)

    def tail(self) -> bytes:
        return self.bytes_at(max(0, self.size - TAIL_SIZE), TAIL_SIZE)


def read_image_header(file: FileHead) -> ImageHeader | None:
    """The header by the content's own format; None for what Pillow has to look at."""
    head = file.head
    if head.startswith(PNG_SIGNATURE):
        found = _read_png(file)
    elif head.startswith(b"\xff\xd8\xff"):
        found = _read_jpeg(file)
    elif head.startswith(b"RIFF") and head[8:12] == b"WEBP":
        found = _read_webp(file)
    elif head.startswith(b"BM"):
        found = _read_bmp(file)
    else:
        return None
    if found is None or not 0 < found.width * found.height <= PIXEL_LIMIT:
        return None
    return found


PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
PNG_END = b"\0\0\0\0IEND\xaeB`\x82"
# Bit depth and colour type to Pillow's mode (PngImagePlugin._MODES).
PNG_MODES = {
    (1, 0): "1", (2, 0): "L", (4, 0): "L", (8, 0): "L", (16, 0): "I;16", (8, 2): "RGB", (16, 2): "RGB",
    (1, 3): "P", (2, 3): "P", (4, 3): "P", (8, 3): "P", (8, 4): "LA", (16, 4): "RGBA", (8, 6): "RGBA", (16, 6): "RGBA",
}  # fmt: skip
IHDR = struct.Struct(">8xI4sIIBBBBBI")
PNG_CHUNK = struct.Struct(">I4s")
# Known chunks and the length up to which they can do no harm. Pillow unpacks three of them and refuses more than
# 1 MiB; zlib packs at most 1032 to 1, so that shorter ones cannot hold too much.
COMPRESSED_CHUNKS = (b"zTXt", b"iTXt", b"iCCP")
PLAIN_CHUNKS = (
    b"PLTE", b"tEXt", b"pHYs", b"gAMA", b"cHRM", b"sRGB", b"sBIT", b"bKGD", b"hIST", b"tIME", b"eXIf", b"acTL", b"fcTL",
    b"tRNS", b"caNv",
)  # fmt: skip
PNG_LIMITS = dict.fromkeys(COMPRESSED_CHUNKS, 1000) | dict.fromkeys(PLAIN_CHUNKS, 1 << 20)


def _read_png(file: FileHead) -> ImageHeader | None:
    head = file.head
    if len(head) < 45:
        return None
    length, kind, width, height, depth, colour, _packing, _filter, _lace, crc = IHDR.unpack_from(head)
    mode = PNG_MODES.get((depth, colour))
    if kind != b"IHDR" or length != 13 or mode is None or crc32(head[12:29]) != crc:
        return None
    alpha, moving, orientation = colour in {4, 6}, False, 1
    if head[37:41] != b"IDAT":  # most often the picture follows at once
        chunks = _read_png_chunks(file)
        if chunks is None:
            return None
        alpha = alpha or b"tRNS" in chunks
        moving = int.from_bytes(chunks.get(b"acTL", b"")[:4], "big") > 1
        orientation = read_exif_orientation(chunks.get(b"eXIf", b""))
    return ImageHeader("PNG", width, height, mode, alpha, None, orientation, moving, file.tail() == PNG_END)


def _read_png_chunks(file: FileHead) -> dict[bytes, bytes] | None:
    """What stands between the first chunk and the picture, the last of each kind."""
    found, offset = dict[bytes, bytes](), 33
    while True:
        start = file.bytes_at(offset, 8)
        if len(start) < 8:
            return None
        length, kind = PNG_CHUNK.unpack(start)
        if kind == b"IDAT":
            return found
        if length > PNG_LIMITS.get(kind, -1):
            return None
        body = file.bytes_at(offset + 4, length + 8)
        if len(body) < length + 8 or crc32(body[:-4]) != int.from_bytes(body[-4:], "big"):
            return None
        found[kind] = body[4:-4]
        offset += length + 12


JPEG_MODES = {1: "L", 3: "RGB", 4: "CMYK"}
JPEG_FRAMES = frozenset({0xC0, 0xC1, 0xC2})  # baseline, extended, progressive: what libjpeg decodes
JPEG_TABLES = frozenset({0xC4, 0xDB, 0xDD, 0xFE, *range(0xE0, 0xF0)})  # segments that have a length and no picture
EXIF_PREFIX = b"Exif\0\0"
EXIF_LIMIT = 2048  # of a long EXIF segment: the first directory is at its beginning, a thumbnail at its end


def _read_jpeg(file: FileHead) -> ImageHeader | None:
    offset, frame, orientation = 2, None, 1
    while True:
        start = file.bytes_at(offset, 10)
        if len(start) < 10 or start[0] != 0xFF:
            return None
        marker, length = start[1], start[2] << 8 | start[3]
        if length < 2 or offset + 2 + length > file.size:
            return None
        if marker == 0xDA:
            break
        if marker in JPEG_FRAMES and frame is None:
            frame = _read_jpeg_frame(start[4:], length)
        elif marker not in JPEG_TABLES:
            return None
        elif marker == 0xE1 and start[4:] == EXIF_PREFIX:
            orientation = read_exif_orientation(file.bytes_at(offset + 10, min(length - 8, EXIF_LIMIT)))
        offset += 2 + length
    if frame is None:
        return None
    return ImageHeader("JPEG", *frame, orientation=orientation, whole=file.tail()[-2:] == b"\xff\xd9")


def _read_jpeg_frame(body: bytes, length: int) -> tuple[int, int, str] | None:
    """Width, height and mode by the beginning of a start-of-frame segment; 8 bits a sample are all there may be."""
    height, width, components = body[1] << 8 | body[2], body[3] << 8 | body[4], body[5]
    mode = JPEG_MODES.get(components)
    return (width, height, mode) if mode and body[0] == 8 and length == 8 + 3 * components else None


RIFF = struct.Struct("<4xI4x4sI")
ALPHA_FLAG, EXIF_FLAG, ANIMATION_FLAG = 0x10, 0x08, 0x02
STILL_CHUNKS = frozenset(
    {b"ICCP", b"ALPH", b"VP8 ", b"VP8L", b"EXIF", b"XMP "}
)  # chunks of a picture that does not move


def _read_webp(file: FileHead) -> ImageHeader | None:
    head = file.head
    if len(head) < 30:
        return None
    length, kind, first = RIFF.unpack_from(head)
    if length + 8 > file.size or length < 12 + first:  # cut off, or not what it says
        return None
    if kind == b"VP8X":
        return _read_extended_webp(file, length + 8) if first == 10 and not head[20] & ANIMATION_FLAG else None
    frame = _read_webp_frame(kind, head[20:30], first)
    return ImageHeader("WEBP", frame[0], frame[1], "RGBA" if frame[2] else "RGB", frame[2]) if frame else None


def _read_webp_frame(kind: bytes, data: bytes, length: int) -> tuple[int, int, bool] | None:
    """Width, height and alpha of the frame whose chunk begins so; libwebp's own conditions (VP8GetInfo)."""
    if kind == b"VP8 " and data[3:6] == b"\x9d\x01\x2a":
        bits = int.from_bytes(data[:3], "little")
        if not bits & 1 and bits >> 1 & 7 <= 3 and bits >> 4 & 1 and bits >> 5 < length:
            return data[6] | (data[7] & 0x3F) << 8, data[8] | (data[9] & 0x3F) << 8, False
    elif kind == b"VP8L" and data[0] == 0x2F:
        bits = int.from_bytes(data[1:5], "little")
        if not bits >> 29:
            return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1, bool(bits >> 28 & 1)
    return None


def _read_extended_webp(file: FileHead, end: int) -> ImageHeader | None:
    """It stores width - 1 and height - 1, and imagesize 1.4.1, the pin's header reader, adds nothing."""
    flags, width, height = file.head[20], *(int.from_bytes(file.head[at : at + 3], "little") for at in (24, 27))
    orientation, pictures, offset = 1, 0, 30
    while offset + 8 <= end:
        start = file.bytes_at(offset, 18)
        kind, length = start[:4], int.from_bytes(start[4:8], "little")
        if len(start) < 8 or kind not in STILL_CHUNKS:
            return None
        if kind in {b"VP8 ", b"VP8L"}:
            frame = _read_webp_frame(kind, start[8:], length) if len(start) == 18 else None
            if frame is None or frame[:2] != (width + 1, height + 1):
                return None
            pictures += 1
        elif kind == b"EXIF" and flags & EXIF_FLAG:
            orientation = read_exif_orientation(
                file.bytes_at(offset + 8, min(length, EXIF_LIMIT)).removeprefix(EXIF_PREFIX)
            )
        offset += 8 + length + (length & 1)
    if pictures != 1 or offset > end + 1:
        return None
    alpha = bool(flags & ALPHA_FLAG)
    seen = (width, height) if width else None  # of a width of 0 sd-scripts asks Pillow (TU:1483)
    return ImageHeader("WEBP", width + 1, height + 1, "RGBA" if alpha else "RGB", alpha, seen, orientation)


BMP_HEADER = struct.Struct("<10xIIiiHHI")


def _read_bmp(file: FileHead) -> ImageHeader | None:
    """The plain kind: 24 bits a pixel, not packed. imagesize knows no BMP, so sd-scripts asks Pillow."""
    if len(file.head) < 54:
        return None
    start, length, width, height, planes, bits, packing = BMP_HEADER.unpack_from(file.head)
    if length not in {40, 108, 124} or (planes, bits, packing) != (1, 24, 0) or width < 1 or start < 14 + length:
        return None
    rows = abs(height)
    return ImageHeader("BMP", width, rows, "RGB", whole=file.size >= start + (width * 3 + 3) // 4 * 4 * rows)


def read_exif_orientation(data: bytes) -> int:
    """The orientation in a block of EXIF data (which begins as a TIFF file does): 1 to 8, and 1 where it says none."""
    order = {b"II*\0": "little", b"MM\0*": "big"}.get(data[:4])
    if order is None:
        return 1
    little = order == "little"
    at = int.from_bytes(data[4:8], "little" if little else "big")
    count = int.from_bytes(data[at : at + 2], "little" if little else "big")
    for entry in range(at + 2, min(at + 2 + 12 * count, len(data) - 11), 12):
        if int.from_bytes(data[entry : entry + 2], "little" if little else "big") == 0x0112:
            value = int.from_bytes(data[entry + 8 : entry + 10], "little" if little else "big")
            return value if 1 <= value <= 8 else 1
    return 1
