"""Opening any file: valid ones are read without their tensors, damaged and foreign ones are distinguished by
message.
"""

from __future__ import annotations

import hashlib
import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file  # pyright: ignore[reportUnknownVariableType]

from lora_files import MB, SMALL, write, write_raw
from lorabake.analysis.lora_origin import inspect_files
from lorabake.lora.weights import hash_tensors, read_scalars
from lorabake.util.safetensors import HeaderError, can_run_code, find_checkpoint_problem, parse_header, read_header

A = {"dtype": "F16", "shape": [2], "data_offsets": [0, 4]}
B = {"dtype": "F16", "shape": [1], "data_offsets": [4, 6]}
JPEG = b"\xff\xd8\xff\xe0" + bytes(100)
BIG = 10**30


def why(path: Path) -> str:
    with pytest.raises(HeaderError) as caught:
        read_header(path)
    return str(caught.value.why)


def test_what_the_library_writes_is_read(tmp_path: Path) -> None:
    tensors: dict[str, Any] = {
        "a": np.ones((3, 2), np.float32),
        "b": np.zeros((4,), np.int8),
        "none": np.zeros((0, 4), np.float16),
    }
    path = tmp_path / "x.safetensors"
    save_file(tensors, path, {"ss_seed": "1", "é": "日本"})
    with path.open("rb") as file:
        header = parse_header(file)
        hashes = hash_tensors(file, header)
    assert header == read_header(path)
    assert header.metadata == {"ss_seed": "1", "é": "日本"}
    assert header.shapes == {"a": (3, 2), "b": (4,), "none": (0, 4)}
    whole = path.read_bytes()
    assert hashes == tuple(hashlib.sha256(data).hexdigest() for data in (whole, whole[header.start :]))


@pytest.mark.parametrize(
    ("entries", "data", "words"),
    [
        ({"a": A, "b": B}, bytes(5), "1 bytes missing"),
        ({"a": A, "b": B}, bytes(9), "3 extra bytes after the last tensor"),
        ({"a": A, "b": {**B, "data_offsets": [2, 4]}}, bytes(4), "overlap"),
        ({"a": A, "b": {**B, "data_offsets": [6, 8]}}, bytes(8), "gaps"),
        ({"a": {**A, "data_offsets": [4, 0]}}, bytes(4), "does not match its shape"),
        ({"a": {**A, "shape": [3]}}, bytes(4), "does not match its shape"),
        ({"a": {**A, "shape": [BIG, BIG]}}, bytes(4), "does not match its shape"),
        ({"a": {**A, "shape": [-2]}}, bytes(4), "does not describe"),
        ({"a": {**A, "shape": [2.0]}}, bytes(4), "does not describe"),
        ({"a": {**A, "shape": "2"}}, bytes(4), "does not describe"),
        ({"a": {**A, "data_offsets": [0]}}, bytes(4), "does not describe"),
        ({"a": {**A, "dtype": 16}}, bytes(4), "does not describe"),
        ({"a": None}, b"", "does not describe"),
        ({"\x1b[31m" * 100: None}, b"", "does not describe"),
        ({"a": {**A, "shape": [1] * 65}}, bytes(4), "does not describe"),
        ({"__metadata__": {"number": 7}}, b"", "not a table of strings"),
        ({"__metadata__": ["no", "table"]}, b"", "not a table of strings"),
        ([1, 2], b"", "does not start with a header"),
    ],
)
def test_damaged_files(tmp_path: Path, entries: Any, data: bytes, words: str) -> None:
    said = why(write_raw(tmp_path / "x.safetensors", entries, data))
    assert words in said
    assert len(said) < 400


@pytest.mark.parametrize("size", [0, 1, 7, 8, 9, 40])
def test_files_cut_off_in_the_header(tmp_path: Path, size: int) -> None:
    path = write(tmp_path / "x.safetensors", SMALL)
    path.write_bytes(path.read_bytes()[:size])
    assert why(path)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is empty"),
        (b"<!DOCTYPE html><html>", "a web page"),
        (b"version https://git-lfs.github.com/spec/v1\n", "Git LFS pointer"),
        (JPEG, "not a safetensors file"),
        (b"\xff" * 500, "not a safetensors file"),
        ((500).to_bytes(8, "little") + b"{" * 500, "not JSON"),
        ((5).to_bytes(8, "little") + b'{"\xff":', "not JSON"),
    ],
)
def test_files_that_are_something_else(tmp_path: Path, content: bytes, words: str) -> None:
    path = tmp_path / "x.safetensors"
    path.write_bytes(content)
    assert words in why(path)


@pytest.mark.parametrize("name", ["x.ckpt", "x.pt", "x.safetensors"])
@pytest.mark.parametrize("content", [pickle.dumps({"a": 1}, 2), b"PK\x03\x04" + bytes(60)])
def test_torch_checkpoints_are_named_and_not_loaded(tmp_path: Path, name: str, content: bytes) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    assert can_run_code(path)
    assert "torch checkpoint" in why(path)


@pytest.mark.parametrize("length", [640, 640 + (1 << 16)])
def test_a_header_whose_length_looks_like_a_pickle(tmp_path: Path, length: int) -> None:
    """640 is 80 02 in bytes, with which a pickle begins, too."""
    path = write_raw(tmp_path / "x.safetensors", {"__metadata__": {"a": "b" * (length - 27)}})
    assert path.read_bytes()[:2] == b"\x80\x02"
    assert read_header(path).metadata["a"].startswith("bbb")
    assert not can_run_code(path)
    assert "is a safetensors file" in (find_checkpoint_problem(path) or "")


@pytest.mark.parametrize(
    ("dtype", "raw", "value"),
    [("F16", b"\x00\x3c", 1.0), ("BF16", b"\x80\x3f", 1.0), ("F32", b"\x00\x00\x80\x41", 16.0), ("I8", b"\xff", -1.0)],
)
def test_single_numbers(tmp_path: Path, dtype: str, raw: bytes, value: float) -> None:
    entries = {"a.alpha": {"dtype": dtype, "shape": [], "data_offsets": [0, len(raw)]}}
    assert scalars(write_raw(tmp_path / "x.safetensors", entries, raw)) == {"a.alpha": value}


def test_what_is_no_single_number_has_no_value(tmp_path: Path) -> None:
    odd = {"dtype": "F7", "shape": [], "data_offsets": [0, 3]}
    two = {"dtype": "F16", "shape": [2], "data_offsets": [3, 7]}
    assert scalars(write_raw(tmp_path / "x.safetensors", {"odd": odd, "two": two}, bytes(7))) == {}


def scalars(path: Path) -> dict[str, float]:
    with path.open("rb") as file:
        header = parse_header(file)
        return read_scalars(file, header, header.tensors)


@pytest.mark.skipif(not Path("/proc/self/io").exists(), reason="only Linux tells how much was read")
def test_a_large_file_is_opened_by_its_header(tmp_path: Path) -> None:
    """8 GB, of which all but the header is a hole: reading it would take seconds, opening it does not read it."""
    size = 8_000 * MB
    path = tmp_path / "x.safetensors"
    write_raw(path, {"a": {"dtype": "U8", "shape": [size], "data_offsets": [0, size]}})
    os.truncate(path, path.stat().st_size + size)
    counted = _bytes_read()
    assert read_header(path).tensors["a"].numbers == size
    assert _bytes_read() - counted < 1 * MB


def _bytes_read() -> int:
    """What this process has read, cached or not."""
    told = dict(line.split(": ") for line in Path("/proc/self/io").read_text("utf-8").splitlines())
    return int(told["rchar"])


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.safetensors")
    with pytest.raises(OSError, match="it is not a regular file"):
        read_header(tmp_path / "a.safetensors")
    (told,) = inspect_files([str(tmp_path / "a.safetensors")], Path.cwd(), tmp_path).files
    assert (told.kind, [str(fault) for fault in told.faults]) == (
        "unreadable", [f"cannot read {tmp_path / 'a.safetensors'}: it is not a regular file"],
    )  # fmt: skip
