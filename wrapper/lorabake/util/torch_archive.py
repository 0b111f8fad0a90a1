"""Whether a file that torch.save wrote is intact: a zip archive with a CRC for each part; nothing is unpickled."""

from __future__ import annotations

import errno
import struct
import zipfile
import zlib
from typing import TYPE_CHECKING

from lorabake.util.files import open_file
from lorabake_schemas.messages import Message, msg

if TYPE_CHECKING:
    from pathlib import Path

# The records at the end of a zip file: the last one, and the two of the 64 bit form before it.
ZIP_END = struct.Struct("<4s4H2LH")
LONG_END, LOCATOR = struct.Struct("<4sQ2H2L4Q"), struct.Struct("<4sLQL")
ZIP_TAIL_BYTES = LONG_END.size + LOCATOR.size + ZIP_END.size


def archive_problem(path: Path) -> Message | None:
    """What torch.save writes is a zip archive with a CRC for each part: nothing has to be unpickled to check it.

    Raises OSError when it cannot be read.
    """
    with open_file(path) as file:
        size = file.seek(0, 2)
        file.seek(max(0, size - ZIP_TAIL_BYTES))
        tail = file.read()
    if not size:
        return msg("empty")
    try:
        part = _find_damaged_entry(path) if _has_valid_end(tail, size) else ""
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, ValueError):
        part = ""
    except OSError as error:
        if error.errno != errno.EINVAL:  # a place in the file that cannot be
            raise
        part = ""
    if part:
        return msg("damaged ({part})", part=part)
    return None if part is None else msg("damaged or cut off")


def _find_damaged_entry(path: Path) -> str | None:
    """The first part of an archive whose CRC is wrong. It is "" if the archive is not one of torch's, which writes
    all parts alike and compresses nothing, or if parts are not described as they should be. None if it is intact.
    """
    with open_file(path) as file, zipfile.ZipFile(file) as archive:
        entries, broken = archive.infolist(), archive.testzip()
    alike = {
        (each.flag_bits, each.create_version, each.extract_version, each.volume, each.reserved) for each in entries
    }
    stored = all(not each.compress_type and each.file_size == each.compress_size for each in entries)
    torchs = any(each.filename.rpartition("/")[2] == "data.pkl" for each in entries)
    sound = len(alike) == 1 and stored and torchs and not entries[0].flag_bits & 1
    return broken or (None if sound else "")


def _has_valid_end(tail: bytes, size: int) -> bool:
    """Whether the records at an archive's end agree, of which zipfile reads some and torch others.

    The end of a zip file as in PKWARE's APPNOTE 4.3.14 to 4.3.16: where the list of entries is and how many there are,
    twice if the 64 bit form is present as well, as torch writes it.
    """
    if len(tail) < ZIP_END.size:
        return False
    sign, disk, disk_of_list, here, count, length, begin, comment = ZIP_END.unpack(tail[-ZIP_END.size :])
    if sign != b"PK\5\6" or disk or disk_of_list or here != count or comment:
        return False
    if len(tail) < ZIP_TAIL_BYTES or tail[LONG_END.size :][:4] != b"PK\6\7":
        return bool(begin + length == size - ZIP_END.size)
    long, locator = LONG_END.unpack(tail[: LONG_END.size]), LOCATOR.unpack(tail[LONG_END.size : -ZIP_END.size])
    told = zip((here, count, length, begin), long[6:], (0xFFFF, 0xFFFF, 0xFFFFFFFF, 0xFFFFFFFF), strict=True)
    agree = all(short == min(full, limit) for short, full, limit in told)  # the short form cannot represent more
    right = (b"PK\6\6", LONG_END.size - 12, *long[2:4], 0, 0)
    at = size - ZIP_TAIL_BYTES
    return agree and bool(long[:6] == right and locator == (b"PK\6\7", 0, at, 1) and long[8] + long[9] == at)
