"""A LoRA file is judged by its bits, in every number format, and a damaged one is detected."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
import pytest
from safetensors.numpy import save_file  # pyright: ignore[reportUnknownVariableType]

from lorabake.lora.weights import WeightFacts, read_weights
from lorabake.util.safetensors import NUMBER_FORMATS, HeaderError

if TYPE_CHECKING:
    from pathlib import Path
    from typing import Any

    Tensor = np.ndarray[tuple[Any, ...], np.dtype[Any]]


def write_raw(path: Path, dtype: str, patterns: list[int], name: str = "lora_a.lora_up.weight") -> Path:
    """A file with one tensor given bit by bit, for the formats numpy does not know."""
    data = np.array(patterns, np.dtype(f"<u{NUMBER_FORMATS[dtype].size}")).tobytes()
    entry = {"dtype": dtype, "shape": [len(patterns)], "data_offsets": [0, len(data)]}
    header = json.dumps({name: entry}).encode()
    path.write_bytes(len(header).to_bytes(8, "little") + header + data)
    return path


def test_metadata_shapes_and_steps(tmp_path: Path) -> None:
    tensors: dict[str, Tensor] = {"lora_a.lora_up.weight": np.ones((4, 2), np.float32)}
    tensors["lora_a.alpha"] = np.array(1.0, np.float16)
    save_file(tensors, tmp_path / "x.safetensors", {"ss_steps": "16", "ss_seed": "1"})
    facts = read_weights(tmp_path / "x.safetensors")
    assert facts.metadata == {"ss_steps": "16", "ss_seed": "1"}
    assert facts.steps == 16
    assert facts.shapes == {"lora_a.lora_up.weight": (4, 2), "lora_a.alpha": ()}
    assert facts.not_finite == facts.zero == ()
    assert not facts.is_all_zero
    assert not facts.is_untouched


@pytest.mark.parametrize(("metadata", "steps"), [({}, None), ({"ss_steps": "?"}, None), ({"ss_steps": "-4"}, -4)])
def test_steps_that_are_not_there(metadata: dict[str, str], steps: int | None) -> None:
    assert WeightFacts(metadata).steps == steps


ONE = {"F64": 0x3FF << 52, "F32": 0x3F80_0000, "F16": 0x3C00, "BF16": 0x3F80, "F8_E4M3": 0x38, "F8_E5M2": 0x3C}
NAN = {"F64": 0x7FF8 << 48, "F32": 0x7FC0_0000, "F16": 0x7E00, "BF16": 0x7FC0, "F8_E4M3": 0x7F, "F8_E5M2": 0x7E}
LARGEST = {
    "F64": 0x7FEF_FFFF_FFFF_FFFF,
    "F32": 0x7F7F_FFFF,
    "F16": 0x7BFF,
    "BF16": 0x7F7F,
    "F8_E4M3": 0x7E,
    "F8_E5M2": 0x7B,
}
INFINITY = {"F64": 0x7FF0 << 48, "F32": 0x7F80_0000, "F16": 0x7C00, "BF16": 0x7F80, "F8_E5M2": 0x7C}


def minus(dtype: str) -> int:
    """The sign bit: alone, it is a minus zero."""
    return NUMBER_FORMATS[dtype].magnitude + 1


@pytest.mark.parametrize("dtype", ONE)
def test_sound_numbers(tmp_path: Path, dtype: str) -> None:
    largest = LARGEST[dtype]
    facts = read_weights(write_raw(tmp_path / "x", dtype, [0, ONE[dtype], largest, largest | minus(dtype)]))
    assert facts.not_finite == ()
    assert facts.zero == ()


@pytest.mark.parametrize(
    ("dtype", "pattern"), [*NAN.items(), *INFINITY.items(), *((d, p | minus(d)) for d, p in NAN.items())]
)
def test_one_broken_number_is_enough(tmp_path: Path, dtype: str, pattern: int) -> None:
    facts = read_weights(write_raw(tmp_path / "x", dtype, [ONE[dtype], pattern, ONE[dtype]]))
    assert facts.not_finite == ("lora_a.lora_up.weight",)


@pytest.mark.parametrize("dtype", ONE)
def test_zero_and_minus_zero(tmp_path: Path, dtype: str) -> None:
    facts = read_weights(write_raw(tmp_path / "x", dtype, [0, minus(dtype), 0]))
    assert facts.is_all_zero
    assert facts.is_untouched
    assert facts.not_finite == ()


@pytest.mark.parametrize("dtype", sorted(NUMBER_FORMATS.keys() - ONE.keys()))
def test_whole_numbers_are_always_finite(tmp_path: Path, dtype: str) -> None:
    assert read_weights(write_raw(tmp_path / "x", dtype, [NUMBER_FORMATS[dtype].magnitude])).not_finite == ()
    assert read_weights(write_raw(tmp_path / "y", dtype, [0])).is_all_zero


def test_half_precision_agrees_with_numpy(tmp_path: Path) -> None:
    """Every one of the 65,536 half floats, one by one, against numpy's own isfinite."""
    every = np.arange(65536, dtype=np.uint16)
    layout = NUMBER_FORMATS["F16"]
    finite = (every & np.uint16(layout.exponent)) != layout.exponent
    assert bool(np.array_equal(finite, np.isfinite(every.view(np.float16))))


@pytest.mark.parametrize(
    "name",
    [
        "lora_te_x.lora_up.weight", "lora_unet_x.hada_w2_a", "lora_unet_x.lokr_w2", "lora_unet_x.lokr_w2_b",
        "lora_unet_x.a2.weight", "lora_unet_x.b2.weight", "lora_unet_x.oft_blocks", "lora_unet_x.w_norm",
        "lora_te_x_k_proj.weight",
    ],
)  # fmt: skip
def test_what_begins_at_zero_shows_whether_anything_was_learned(tmp_path: Path, name: str) -> None:
    other = {"lora_te_x.lora_down.weight": np.ones(3, np.float32), "lora_te_x.alpha": np.ones((), np.float32)}
    save_file({name: np.zeros(3, np.float32), **other}, tmp_path / "fresh")
    save_file({name: np.array([0, 0, 1e-9], np.float32), **other}, tmp_path / "trained")
    assert read_weights(tmp_path / "fresh").is_untouched
    assert not read_weights(tmp_path / "trained").is_untouched
    assert not read_weights(tmp_path / "fresh").is_all_zero


def test_an_infinite_alpha_that_nothing_reads_is_told_apart(tmp_path: Path) -> None:
    """Full-matrix LoKr saves its rank as alpha, which may not fit fp16; its scale is 1 anyway."""
    full = {"a.lokr_w1": np.ones(2, np.float16), "a.lokr_w2": np.ones(2, np.float16)}
    split = {"b.lokr_w1": np.ones(2, np.float16), "b.lokr_w2_a": np.ones(2, np.float16)}
    alphas = {name: np.array(np.inf, np.float16) for name in ("a.alpha", "b.alpha")}
    save_file({**full, **split, **alphas}, tmp_path / "x")
    found = read_weights(tmp_path / "x")
    assert (found.not_finite, found.infinite_alphas) == (("b.alpha",), ("a.alpha",))


def test_one_up_weight_that_learned_is_enough() -> None:
    shapes = {"a.lora_up.weight": (1,), "b.lora_up.weight": (1,)}
    assert not WeightFacts(shapes=shapes, zero=("a.lora_up.weight",)).is_untouched
    assert not WeightFacts(shapes={"a.unknown": (1,)}, zero=("a.unknown",)).is_untouched


def sound(tmp_path: Path) -> bytes:
    save_file({"a.lora_up.weight": np.ones((3, 5), np.float32)}, tmp_path / "sound")
    return (tmp_path / "sound").read_bytes()


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (b'"F32"', b'"F99"', "unknown number format: F99"),
        (b"[3,5]", b"[5,5]", "does not match its shape"),
        (b'"shape"', b'"shade"', "does not describe"),
        (b'{"', b'?"', "does not start with a header"),
        (b'"F32"', b" F32 ", "header is not JSON"),
        (b"[0,60]", b"[0,64]", "does not match its shape"),
    ],
)
def test_headers_that_lie(tmp_path: Path, old: bytes, new: bytes, message: str) -> None:
    data = sound(tmp_path)
    assert old in data
    broken = tmp_path / "broken"
    broken.write_bytes(data.replace(old, new))
    with pytest.raises(HeaderError, match=message):
        read_weights(broken)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "is empty"),
        (b"PK\x03\x04 a zip file, as torch writes them", "torch checkpoint"),
        ((60).to_bytes(8, "little") + b'{"a":', "header needs 60 bytes"),
        ((2).to_bytes(8, "little") + b"[]", "does not start with a header"),
    ],
)
def test_files_of_another_kind(tmp_path: Path, data: bytes, message: str) -> None:
    (tmp_path / "broken").write_bytes(data)
    with pytest.raises(HeaderError, match=message):
        read_weights(tmp_path / "broken")


def test_every_cut_is_noticed(tmp_path: Path) -> None:
    data = sound(tmp_path)
    for length in range(len(data)):
        (tmp_path / "cut").write_bytes(data[:length])
        with pytest.raises(HeaderError):
            read_weights(tmp_path / "cut")


def test_an_empty_network_is_all_zero(tmp_path: Path) -> None:
    save_file({}, tmp_path / "empty")
    assert read_weights(tmp_path / "empty").is_all_zero
