"""TensorBoard's file is read while it grows, and a damaged one ends the reading."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

import pytest

from lorabake.runs.tensorboard import MAX_RATES, ScalarFile, StepLosses, mask_checksum

if TYPE_CHECKING:
    from pathlib import Path


def record(data: bytes) -> bytes:
    length = struct.pack("<Q", len(data))
    return b"".join(part + struct.pack("<I", mask_checksum(part)) for part in (length, data))


def scalar(step: int, tag: bytes, number: float) -> bytes:
    """As torch's SummaryWriter.add_scalar writes one: time, step, summary."""
    value = b"\x0a%c%b\x15%b" % (len(tag), tag, struct.pack("<f", number))
    summary = b"\x0a%c%b" % (len(value), value)
    return record(b"\x09%b\x10%c\x2a%c%b" % (struct.pack("<d", 1.7e9), step, len(summary), summary))


def logged(step: int, current: float, average: float) -> bytes:
    losses = scalar(step, b"loss/current", current) + scalar(step, b"loss/average", average)
    return losses + scalar(step, b"lr/unet", 1e-4)


HEAD = record(b"\x09%b\x1a\x0dbrain.Event:2" % bytes(8))


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "tensorboard" / "20260131093000" / "network_train" / "events.out.tfevents.1"
    path.parent.mkdir(parents=True)
    return path


def test_every_step_has_both_losses(tmp_path: Path, file: Path) -> None:
    with ScalarFile(tmp_path, tmp_path / "tensorboard") as losses:
        file.write_bytes(HEAD + logged(1, 0.5, 0.5) + logged(2, 0.25, 0.375))
        losses.read()
        assert [losses.take(step) for step in (1, 2, 3)] == [StepLosses(0.5, 0.5), StepLosses(0.375, 0.25), None]
        assert losses.take(1) is None


@pytest.mark.parametrize("size", [1, 7, 40])
def test_it_is_read_as_it_grows(tmp_path: Path, file: Path, size: int) -> None:
    data = HEAD + logged(1, 0.5, 0.5) + logged(2, 0.25, 0.375)
    with ScalarFile(tmp_path, tmp_path / "tensorboard") as losses, file.open("wb", buffering=0) as growing:
        for at in range(0, len(data), size):
            growing.write(data[at : at + size])
            losses.read()
        assert losses.take(2) == StepLosses(0.375, 0.25)


def test_the_first_of_accumulated_micro_batches_is_the_steps_own(tmp_path: Path, file: Path) -> None:
    with ScalarFile(tmp_path, tmp_path / "tensorboard") as losses:
        file.write_bytes(HEAD + logged(1, 0.5, 0.5) + logged(1, 0.25, 0.375))
        losses.read()
        assert losses.take(1) == StepLosses(0.5, 0.5)


def test_a_file_that_was_there_before_is_another_starts(tmp_path: Path, file: Path) -> None:
    file.write_bytes(HEAD + logged(1, 0.5, 0.5))
    with ScalarFile(tmp_path, tmp_path / "tensorboard") as losses:
        losses.read()
        assert losses.take(1) is None


@pytest.mark.parametrize(
    "damage",
    [
        b"\xff" * 64,
        bytes(64),
        record(b"\x2a\xff"),
        record(b"\xff" * 20),
        record(b"\x2a\x02\x0a\x7f"),
        record(b"\x0b"),
        scalar(2, b"loss/average", 7.0)[:-1] + b"x",
        scalar(2, b"loss/average", 7.0).replace(b"average", b"current"),
        struct.pack("<QI", 1 << 40, mask_checksum(struct.pack("<Q", 1 << 40))),
    ],
)
def test_what_is_damaged_ends_it_and_no_more(tmp_path: Path, file: Path, damage: bytes) -> None:
    with ScalarFile(tmp_path, tmp_path / "tensorboard") as losses:
        file.write_bytes(HEAD + logged(1, 0.5, 0.5) + damage + logged(2, 0.25, 0.375))
        losses.read()
        losses.read()
        assert (losses.take(1), losses.take(2)) == (StepLosses(0.5, 0.5), None)


def test_a_link_in_its_place_is_not_followed(tmp_path: Path, file: Path) -> None:
    outside = tmp_path / "outside"
    outside.write_bytes(HEAD + logged(1, 0.5, 0.5))
    with ScalarFile(tmp_path, tmp_path / "tensorboard") as losses:
        file.symlink_to(outside)
        losses.read()
        assert losses.take(1) is None


def test_the_checksum_is_that_of_tensorboards_own_files() -> None:
    """A loss of 0.5 at step 1, from a file that torch's SummaryWriter wrote."""
    data = "09ce84de9fcec2da4110012a150a130a0c6c6f73732f63757272656e74150000003f"
    assert mask_checksum(bytes.fromhex("2200000000000000")) == 0xFD3D1178
    assert mask_checksum(bytes.fromhex(data)) == 0x3B5FCAA1


def test_the_rates_of_the_step_that_was_taken_last(tmp_path: Path, file: Path) -> None:
    with ScalarFile(tmp_path, tmp_path / "tensorboard") as losses:
        file.write_bytes(HEAD + logged(1, 0.5, 0.5) + scalar(1, b"lr/textencoder", 5e-5) + logged(2, 0.25, 0.375))
        losses.read()
        assert losses.rates == {}
        losses.take(1)
        assert losses.rates == {"lr/unet": 1e-4, "lr/textencoder": 5e-5}
        losses.take(2)
        losses.take(3)
        assert losses.rates == {"lr/unet": 1e-4}


def test_rates_without_end_are_not_kept(tmp_path: Path, file: Path) -> None:
    with ScalarFile(tmp_path, tmp_path / "tensorboard") as losses:
        many = b"".join(scalar(1, b"lr/%d" % number, 1.0) for number in range(MAX_RATES + 9))
        file.write_bytes(HEAD + many + scalar(1, b"lr/" + b"x" * 90, 1.0))
        losses.read()
        losses.take(1)
        assert len(losses.rates) == MAX_RATES
