"""Opening any file: sound ones are read without their tensors, damaged and foreign ones are told apart in words."""

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
from lorabake.analysis.inspect import inspect_files
from lorabake.lora.lora_file import NotSafetensorsError, hash_lora, open_lora, read_scalars
from lorabake.util.safetensors import find_content_mismatch, find_pickle_problem

A = {"dtype": "F16", "shape": [2], "data_offsets": [0, 4]}
B = {"dtype": "F16", "shape": [1], "data_offsets": [4, 6]}
JPEG = b"\xff\xd8\xff\xe0" + bytes(100)
BIG = 10**30


def why(path: Path) -> str:
    with pytest.raises(NotSafetensorsError) as caught:
        open_lora(path)
    return str(caught.value.why)


def test_what_the_library_writes_is_read(tmp_path: Path) -> None:
    tensors: dict[str, Any] = {
        "a": np.ones((3, 2), np.float32),
        "b": np.zeros((4,), np.int8),
        "none": np.zeros((0, 4), np.float16),
    }
    path = tmp_path / "x.safetensors"
    save_file(tensors, path, {"ss_seed": "1", "é": "日本"})
    file = open_lora(path)
    assert file.metadata == {"ss_seed": "1", "é": "日本"}
    assert {name: tensor.shape for name, tensor in file.tensors.items()} == {"a": (3, 2), "b": (4,), "none": (0, 4)}
    assert hash_lora(file)[0] == hashlib.sha256(path.read_bytes()).hexdigest()
    assert hash_lora(file)[1] == hashlib.sha256(path.read_bytes()[file.start :]).hexdigest()


@pytest.mark.parametrize(
    ("entries", "data", "words"),
    [
        ({"a": A, "b": B}, bytes(5), "1 bytes are missing"),
        ({"a": A, "b": B}, bytes(9), "3 bytes follow its last tensor"),
        ({"a": A, "b": {**B, "data_offsets": [2, 4]}}, bytes(4), "overlap"),
        ({"a": A, "b": {**B, "data_offsets": [6, 8]}}, bytes(8), "holes"),
        ({"a": {**A, "data_offsets": [4, 0]}}, bytes(4), "do not agree"),
        ({"a": {**A, "shape": [3]}}, bytes(4), "do not agree"),
        ({"a": {**A, "shape": [BIG, BIG]}}, bytes(4), "do not agree"),
        ({"a": {**A, "shape": [-2]}}, bytes(4), "does not describe"),
        ({"a": {**A, "shape": [2.0]}}, bytes(4), "does not describe"),
        ({"a": {**A, "shape": "2"}}, bytes(4), "does not describe"),
        ({"a": {**A, "data_offsets": [0]}}, bytes(4), "does not describe"),
        ({"a": {**A, "dtype": 16}}, bytes(4), "does not describe"),
        ({"a": None}, b"", "does not describe"),
        ({"\x1b[31m" * 100: None}, b"", "does not describe"),
        ([1, 2], b"", "does not start with a header"),
    ],
)
def test_damaged_files(tmp_path: Path, entries: Any, data: bytes, words: str) -> None:
    said = why(write_raw(tmp_path / "x.safetensors", entries, data))
    assert words in said
    assert "x.safetensors" in said
    assert len(said) < 400


@pytest.mark.parametrize("size", [0, 1, 7, 8, 9, 40])
def test_files_cut_off_in_the_header(tmp_path: Path, size: int) -> None:
    path = write(tmp_path / "x.safetensors", SMALL)
    path.write_bytes(path.read_bytes()[:size])
    assert "x.safetensors" in why(path)


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
    with pytest.raises(NotSafetensorsError) as caught:
        open_lora(path)
    assert caught.value.pickle
    assert "torch checkpoint" in caught.value.why


@pytest.mark.parametrize("length", [640, 640 + (1 << 16)])
def test_a_header_whose_length_looks_like_a_pickle(tmp_path: Path, length: int) -> None:
    """640 is 80 02 in bytes, with which a pickle begins, too."""
    path = write_raw(tmp_path / "x.safetensors", {"__metadata__": {"a": "b" * (length - 27)}})
    assert path.read_bytes()[:2] == b"\x80\x02"
    assert open_lora(path).metadata["a"].startswith("bbb")
    assert find_content_mismatch(path) is None
    assert "by content" in (find_pickle_problem(path) or "")


def test_metadata_are_always_text_that_can_be_printed(tmp_path: Path) -> None:
    given = {"number": 7, "list": [1], "lone \ud800": "half \udfff", "none": None, "control": "\x1b[2J\0\n"}
    metadata = open_lora(write_raw(tmp_path / "x.safetensors", {"__metadata__": given})).metadata
    assert metadata["number"] == "7"
    assert metadata["none"] == "None"
    for key, text in metadata.items():
        (key + text).encode()
    assert open_lora(write_raw(tmp_path / "y.safetensors", {"__metadata__": ["no", "table"]})).metadata == {}


@pytest.mark.parametrize(
    ("dtype", "raw", "value"),
    [("F16", b"\x00\x3c", 1.0), ("BF16", b"\x80\x3f", 1.0), ("F32", b"\x00\x00\x80\x41", 16.0), ("I8", b"\xff", -1.0)],
)
def test_single_numbers(tmp_path: Path, dtype: str, raw: bytes, value: float) -> None:
    entries = {"a.alpha": {"dtype": dtype, "shape": [], "data_offsets": [0, len(raw)]}}
    file = open_lora(write_raw(tmp_path / "x.safetensors", entries, raw))
    assert read_scalars(file, ["a.alpha"]) == {"a.alpha": value}


def test_what_is_no_single_number_has_no_value(tmp_path: Path) -> None:
    odd = {"dtype": "F7", "shape": [], "data_offsets": [0, 3]}
    two = {"dtype": "F16", "shape": [2], "data_offsets": [3, 7]}
    file = open_lora(write_raw(tmp_path / "x.safetensors", {"odd": odd, "two": two}, bytes(7)))
    assert read_scalars(file, ["odd", "two"]) == {}


@pytest.mark.skipif(not Path("/proc/self/io").exists(), reason="only Linux tells how much was read")
def test_a_large_file_is_opened_by_its_header(tmp_path: Path) -> None:
    """8 GB, of which all but the header is a hole: reading it would take seconds, opening it does not read it."""
    size = 8_000 * MB
    path = tmp_path / "x.safetensors"
    write_raw(path, {"a": {"dtype": "U8", "shape": [size], "data_offsets": [0, size]}})
    os.truncate(path, path.stat().st_size + size)
    counted = _bytes_read()
    assert open_lora(path).tensors["a"].numbers == size
    assert _bytes_read() - counted < 1 * MB


def _bytes_read() -> int:
    """What this process has read, cached or not."""
    told = dict(line.split(": ") for line in Path("/proc/self/io").read_text("utf-8").splitlines())
    return int(told["rchar"])


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.safetensors")
    with pytest.raises(OSError, match="it is not a regular file"):
        open_lora(tmp_path / "a.safetensors")
    (told,) = inspect_files([tmp_path / "a.safetensors"], tmp_path).files
    assert (told.kind, [str(fault) for fault in told.faults]) == (
        "unreadable", [f"{tmp_path / 'a.safetensors'} cannot be read: it is not a regular file"],
    )  # fmt: skip
