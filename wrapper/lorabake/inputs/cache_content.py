"""Whether a file with the name of one of sd-scripts' caches is a cache, by its content: a name alone never deletes
it.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal
from zipfile import BadZipFile, ZipFile

from lorabake.util.files import open_file, read_json
from lorabake_schemas.bucket_fit import Size
from lorabake_schemas.caches import CACHE_INFO_FILE

if TYPE_CHECKING:
    import numpy as np

# The arrays of a latent cache (strategy_base.py:600-632), of other architectures with their size in the name, and those
# of SDXL's text encoder outputs (strategy_sdxl.py:287-293).
LATENT_NAME_PATTERN = re.compile(r"(latents|latents_flipped|original_size|crop_ltrb|alpha_mask)(_\d+x\d+)?\.npy")
TEXT_ARRAY_NAMES = frozenset({"hidden_state1.npy", "hidden_state2.npy", "pool2.npy"})
ZIP_LOCAL_HEADER = struct.Struct(
    "<4s22xHH"
)  # of a zip's member: signature, then lengths of its name and its extra field

ARRAYS_LIMIT = 1 << 28  # bytes; the latents of an image of 8192 by 8192 pixels take a tenth

CacheContent = Literal["latents", "text", "info", "torn", "other", "gone"]


def detect_cache_content(path: Path) -> CacheContent:
    """What a file in the place of a cache is: ``torn`` is one of which not all was written, or nothing at all.

    A torn one still begins as numpy writes it, with a member of a name that only such a cache has.
    """
    try:
        if path.name == CACHE_INFO_FILE:
            return "info" if read_metadata_cache(path) is not None else "other"
        with open_file(path) as file, ZipFile(file) as archive:
            return _classify_arrays(archive.namelist())
    except BadZipFile:
        return "torn" if _starts_like_cache(path) else "other"
    except FileNotFoundError:
        return "gone"
    except (OSError, ValueError, NotImplementedError, struct.error):
        return "other"


def _classify_arrays(names: list[str]) -> CacheContent:
    if any(name.startswith("latents") for name in names) and all(map(LATENT_NAME_PATTERN.fullmatch, names)):
        return "latents"
    return "text" if sorted(names) == sorted(TEXT_ARRAY_NAMES) else "other"


def _starts_like_cache(path: Path) -> bool:
    try:
        with open_file(path) as file:
            head = file.read(ZIP_LOCAL_HEADER.size + 64)
    except OSError:
        return False
    if not head:
        return True
    if len(head) < ZIP_LOCAL_HEADER.size:
        return b"PK\x03\x04".startswith(head[:4])
    signature, length, _ = ZIP_LOCAL_HEADER.unpack_from(head)
    name = head[ZIP_LOCAL_HEADER.size : ZIP_LOCAL_HEADER.size + length].decode("ascii", "replace")
    return signature == b"PK\x03\x04" and (name in TEXT_ARRAY_NAMES or LATENT_NAME_PATTERN.fullmatch(name) is not None)


def has_latents(path: Path, size: Size, bucket: Size, *, flipped: bool, masked: bool) -> bool:
    """Whether a file has, undamaged, what sd-scripts writes for an image of this size in this bucket."""
    arrays = _read_arrays(path)
    if "latents" not in arrays or "original_size" not in arrays:
        return False
    shape, there = arrays["latents"].shape, "latents_flipped" in arrays or not flipped
    fits = shape[-2:] == (bucket[1] // 8, bucket[0] // 8) and arrays["original_size"].tolist() == list(size)
    return fits and there and masked == ("alpha_mask" in arrays)


def _read_arrays(path: Path) -> dict[str, np.ndarray[Any, Any]]:
    """All arrays of a file by name; none when it is damaged anywhere, by its own checksums."""
    import numpy as np  # takes longer to load than all else here

    try:
        with open_file(path) as file, np.load(file) as archive:  # np.load leaves a torn file open
            if sum(member.file_size for member in archive.zip.infolist()) > ARRAYS_LIMIT:
                return {}
            return {name: archive[name] for name in archive.files}
    except Exception:  # noqa: BLE001 - numpy parses a header as Python, and a damaged one raises almost anything
        return {}


def read_metadata_cache(path: Path) -> dict[str, tuple[str, Size]] | None:
    """Path, caption and size of each image that metadata_cache.json names, in its order (TU:2099-2107).

    None for any other content. Raises FileNotFoundError for a missing file.
    """
    try:
        entries: Any = read_json(path)
        if not isinstance(entries, dict):
            return None
        return {str(name): _parse_entry(each) for name, each in entries.items()}  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]
    except FileNotFoundError:
        raise
    except (OSError, ValueError, TypeError, KeyError):
        return None


def _parse_entry(entry: Mapping[str, Any]) -> tuple[str, Size]:
    """Raises ValueError, TypeError or KeyError for anything else."""
    width, height = entry["resolution"]
    if not isinstance(entry["caption"], str) or set(entry) != {"caption", "resolution"}:
        raise ValueError(entry)
    return entry["caption"], (int(width), int(height))
