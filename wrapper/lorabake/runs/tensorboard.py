"""The losses and learning rates that sd-scripts writes for TensorBoard, read while the file grows.

Losses are exact where the bar of steps is rounded; ``loss/current`` and the rates are nowhere else (TN:84-126, 1515).
accelerate flushes the file after each step (accelerate 1.6.0 tracking.py:226-260), before the next one begins. The file
is a chain of records: 8 bytes little-endian length, 4 of a checksum, the data, 4 of a checksum (tensorboard's
record_writer.py); each is an Event of tensorflow's event.proto with a step (2) and a summary (5) of values (1), each
with a tag (1) and a number (2).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import BinaryIO, NamedTuple

from lorabake.util.files import open_file

EVENT_FILES_GLOB = (
    "*/*/events.out.tfevents.*"  # TU:5449-5460 and accelerate's tracking.py:191; the settings are one level lower
)
LOSS_TAGS = {b"loss/average": "average", b"loss/current": "current"}
RATE_TAG = b"lr/"
MAX_RECORD_BYTES = 1 << 20  # bytes; no record of sd-scripts' is as long
MAX_READ_BYTES = 1 << 22  # bytes in one look
MAX_RATES, MAX_TAG_BYTES = 256, 64  # SDXL with a rate for each block logs 75
MAX_VARINT_BITS = 70  # 10 bytes with 7 bits each
STEP, SUMMARY, VALUE, TAG, NUMBER = 2, 5, 1, 1, 2


class StepLosses(NamedTuple):
    """The recorded losses of a step: the moving average, and the loss of this step."""

    average: float | None = None
    current: float | None = None


class ScalarFile:
    """What one start of the trainer logs, which writes a separate file below ``folder``.

    ``rates`` are the learning rates of the step that was taken last, by their tags.
    """

    def __init__(self, root: Path, folder: Path) -> None:
        self._root, self._folder = root, folder
        self._older = set(folder.glob(EVENT_FILES_GLOB))
        self._file: BinaryIO | None = None
        self._rest = b""
        self._over = False
        self._losses: dict[int, StepLosses] = {}
        self._rates: dict[int, dict[str, float]] = {}
        self.rates: Mapping[str, float] = {}

    def __enter__(self) -> ScalarFile:
        return self

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            self._file.close()

    def read(self) -> None:
        """Read what was written since; a file that cannot be read, or is damaged, gives nothing more."""
        if self._over:
            return
        try:
            self._file = self._file or self._open_new_file()
            if self._file is not None:
                self._rest += self._file.read(MAX_READ_BYTES)
                self._parse_records()
        except (OSError, ValueError, IndexError, struct.error):
            self._over = True

    def take(self, step: int) -> StepLosses | None:
        """Everything known of a step, by the trainer's own number. Earlier steps are forgotten."""
        for known in (self._losses, self._rates):
            for number in [number for number in known if number < step]:
                del known[number]
        self.rates = self._rates.get(step, self.rates)
        return self._losses.get(step)

    def _open_new_file(self) -> BinaryIO | None:
        found = sorted(set(self._folder.glob(EVENT_FILES_GLOB)) - self._older)
        return open_file(found[0], within=self._root) if found else None

    def _parse_records(self) -> None:
        """Every complete record in the data that was read."""
        at = 0
        while len(self._rest) >= at + 12:
            length, checksum = struct.unpack_from("<QI", self._rest, at)
            if length > MAX_RECORD_BYTES or checksum != mask_checksum(self._rest[at : at + 8]):
                raise ValueError("not a record")
            if len(self._rest) < at + 16 + length:
                break
            data = self._rest[at + 12 : at + 12 + length]
            if struct.unpack_from("<I", self._rest, at + 12 + length)[0] != mask_checksum(data):
                raise ValueError("damaged")
            self._parse_event(data)
            at += 16 + length
        self._rest = self._rest[at:]

    def _parse_event(self, data: bytes) -> None:
        step = 0
        for number, content in iter_fields(data):
            if number == STEP and isinstance(content, int):
                step = content
            elif number == SUMMARY and isinstance(content, bytes):
                for kind, value in iter_fields(content):
                    if kind == VALUE and isinstance(value, bytes):
                        self._store_value(step, dict(iter_fields(value)))

    def _store_value(self, step: int, value: dict[int, int | bytes]) -> None:
        """The first one of a step is its own: further micro-batches of gradient accumulation belong to the next."""
        tag, data = _as_bytes(value.get(TAG)), _as_bytes(value.get(NUMBER))
        if len(data) != 4:
            return
        (number,) = struct.unpack("<f", data)
        if (name := LOSS_TAGS.get(tag)) is not None:
            known = self._losses.get(step, StepLosses())
            if getattr(known, name) is None:
                self._losses[step] = known._replace(**{name: number})
        elif tag.startswith(RATE_TAG) and len(tag) <= MAX_TAG_BYTES:
            rates = self._rates.setdefault(step, {})
            if len(rates) < MAX_RATES:
                rates.setdefault(tag.decode("ascii", "replace"), float(f"{number:.7g}"))


def _make_checksum_table() -> tuple[int, ...]:
    table: list[int] = []
    for byte in range(256):
        checksum = byte
        for _ in range(8):
            checksum = checksum >> 1 ^ (0x82F63B78 if checksum & 1 else 0)
        table.append(checksum)
    return tuple(table)


CHECKSUM_TABLE = _make_checksum_table()


def mask_checksum(data: bytes) -> int:
    """CRC-32C, turned by 15 bits and with a constant added, as TensorFlow's records have it."""
    checksum = 0xFFFFFFFF
    for byte in data:
        checksum = CHECKSUM_TABLE[(checksum ^ byte) & 0xFF] ^ checksum >> 8
    checksum ^= 0xFFFFFFFF
    return ((checksum >> 15 | checksum << 17) + 0xA282EAD8) & 0xFFFFFFFF


def _as_bytes(value: int | bytes | None) -> bytes:
    return value if isinstance(value, bytes) else b""


def iter_fields(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    """The fields of a message of protocol buffers by number: whole numbers, or bytes. Raises ValueError, IndexError."""
    at = 0
    while at < len(data):
        key, at = _read_varint(data, at)
        kind = key & 7
        if kind == 0:
            content, at = _read_varint(data, at)
            yield key >> 3, content
            continue
        if kind == 2:
            size, at = _read_varint(data, at)
        else:
            size = {1: 8, 5: 4}.get(kind, -1)
        if size < 0 or at + size > len(data):
            raise ValueError("not a message")
        yield key >> 3, data[at : at + size]
        at += size


def _read_varint(data: bytes, at: int) -> tuple[int, int]:
    number = shift = 0
    while shift < MAX_VARINT_BITS:
        byte = data[at]
        number |= (byte & 0x7F) << shift
        at += 1
        shift += 7
        if byte < 0x80:
            return number, at
    raise ValueError("not a number")
