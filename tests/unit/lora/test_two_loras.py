"""How far two LoRA files are apart, in every number format, and the message about it."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file  # pyright: ignore[reportUnknownVariableType]

from lorabake.commands.json_schema import generate_schema
from lorabake.commands.output.compare import format_comparison, render_comparison
from lorabake.commands.output.layout import TextLayout
from lorabake.errors import MachineError
from lorabake.lora.compare import compare_loras, measure_distance
from lorabake.lora.network import block_name, block_sort_key
from lorabake.lora.weights import decode_numbers
from lorabake.util.safetensors import NUMBER_FORMATS
from lorabake_schemas.comparison import LoraComparison

Tensors = dict[str, np.ndarray[Any, Any]]
DOWN, MIDDLE, TEXT = (
    "lora_unet_down_blocks_0_attentions_0_proj_in.lora_up.weight",
    "lora_unet_mid_block_attentions_0_proj_in.lora_up.weight",
    "lora_te_text_model_encoder_layers_3_mlp_fc1.lora_up.weight",
)


def numbers() -> Tensors:
    source = np.random.default_rng(3)
    return {name: source.standard_normal((4, 8)).astype(np.float32) for name in (DOWN, MIDDLE, TEXT)}


def saved(path: Path, tensors: Tensors, **metadata: str) -> Path:
    save_file(tensors, path, metadata or None)
    return path


def two(tmp_path: Path, first: Tensors, second: Tensors, **metadata: str) -> LoraComparison:
    return compare_loras(
        saved(tmp_path / "a.safetensors", first, same="1"), saved(tmp_path / "b.safetensors", second, **metadata)
    )


def test_one_file_twice_is_equal_to_the_byte(tmp_path: Path) -> None:
    found = two(tmp_path, numbers(), numbers(), same="1")
    assert found.likeness == "equal-bytes"
    assert found.whole.tensors == 3
    assert not found.metadata
    assert "identical byte for byte" in format_comparison(found, TextLayout())


def test_equal_tensors_under_another_header(tmp_path: Path) -> None:
    found = two(tmp_path, numbers(), numbers(), same="2", more="x" * 50)
    assert found.likeness == "equal-tensors"
    assert [(each.key, each.first, each.second) for each in found.metadata] == [
        ("more", None, "x" * 50),
        ("same", "1", "2"),
    ]
    assert (found.whole.differing, found.whole.largest, found.whole.relative) == (0, 0.0, 0.0)
    text = format_comparison(found, TextLayout())
    assert "all 3 tensors are equal, but the header differs" in text
    assert "x" * 40 + "..." in text


def test_the_difference_of_each_block_and_of_all(tmp_path: Path) -> None:
    other = numbers()
    other[DOWN][0, 0] += 0.5
    other[DOWN][1, 1] -= 0.25
    found = two(tmp_path, numbers(), other, same="1")
    assert found.likeness == "different"
    blocks = {block.block: block for block in found.blocks}
    assert list(blocks) == ["te", "down_blocks.0", "mid_block"]
    down, before = blocks["down_blocks.0"], numbers()[DOWN].astype(np.float64)
    assert (down.tensors, down.differing, down.numbers) == (1, 1, 32)
    gap = np.abs(before - other[DOWN].astype(np.float64))
    assert down.largest == pytest.approx(gap.max(), abs=0)
    assert down.mean == pytest.approx(gap.mean(), rel=1e-12)
    assert down.relative == pytest.approx(float(np.linalg.norm(gap) / np.linalg.norm(before)), rel=1e-12)
    assert (blocks["te"].differing, blocks["te"].largest) == (0, 0.0)
    assert (found.whole.tensors, found.whole.differing, found.whole.numbers) == (3, 1, 96)
    assert found.whole.mean == pytest.approx(gap.sum() / 96, rel=1e-12)
    text = format_comparison(found, TextLayout())
    assert "1 of 3 tensors differ" in text
    assert "down_blocks.0" in text
    assert "0.5" in text


def test_tensors_of_one_file_only_other_formats_and_other_shapes(tmp_path: Path) -> None:
    first, second = numbers(), numbers()
    del first[TEXT], second[MIDDLE]
    second[DOWN] = second[DOWN].astype(np.float16)
    first["lora_unet_up_blocks_1_x.alpha"] = np.ones((), np.float32)
    second["lora_unet_up_blocks_1_x.alpha"] = np.ones((2,), np.float32)
    found = two(tmp_path, first, second)
    assert found.likeness == "different"
    assert (found.only_first, found.only_second) == ((MIDDLE,), (TEXT,))
    assert [(each.name, each.first, each.second) for each in found.unlike] == [
        (DOWN, "F32 4x8", "F16 4x8"),
        ("lora_unet_up_blocks_1_x.alpha", "F32 1", "F32 2"),
    ]
    (block,) = found.blocks
    assert (block.block, block.differing) == ("down_blocks.0", 1)
    assert 0 < block.largest < 1e-2
    text = format_comparison(found, TextLayout())
    for words in ("1 tensor only in file 1", "1 tensor only in file 2", "F16 4x8"):
        assert words in text


def test_the_same_values_in_another_format_do_not_differ_but_are_not_equal(tmp_path: Path) -> None:
    found = two(tmp_path, {DOWN: np.ones((2, 2), np.float32)}, {DOWN: np.ones((2, 2), np.float16)})
    assert (found.whole.differing, found.likeness) == (0, "different")
    assert "the tensors in common are equal, but the files do not contain the same tensors" in format_comparison(
        found, TextLayout()
    )


def test_long_lists_are_cut_in_the_text_only(tmp_path: Path) -> None:
    many = {f"lora_unet_{number:02d}.alpha": np.ones((1,), np.float32) for number in range(25)}
    found = two(tmp_path, numbers() | many, numbers())
    assert len(found.only_first) == 25
    text = format_comparison(found, TextLayout())
    assert "and 15 more (list all with --json)" in text
    assert "lora_unet_24" not in text
    assert json.loads(render_comparison(found, TextLayout(), as_json=True))["only_first"] == sorted(many)


def test_nan_and_infinity_are_counted_apart() -> None:
    first = np.array([1, np.nan, np.inf, np.nan, 2], np.float32)
    second = np.array([1, np.nan, 1, 3, 2.5], np.float32)
    sums = measure_distance(first.tobytes(), second.tobytes(), "F32", "F32")
    assert (sums.differing, sums.not_finite, sums.numbers, sums.largest) == (1, 2, 2, 0.5)
    same = measure_distance(first.tobytes(), first.tobytes(), "F32", "F32")
    assert (same.differing, same.not_finite, same.largest) == (0, 0, 0.0)


def test_zeros_beside_something_have_no_relative_difference() -> None:
    nothing, one = np.zeros(3, np.float32).tobytes(), np.ones(3, np.float32).tobytes()
    assert measure_distance(nothing, one, "F32", "F32").to_distance().relative is None
    assert measure_distance(nothing, nothing, "F32", "F32").to_distance().relative == 0
    signed = measure_distance(nothing, (-np.zeros(3, np.float32)).tobytes(), "F32", "F32")
    assert (signed.differing, signed.largest) == (1, 0.0)


# A value, and its bits in the format: one, the smallest above zero, the largest, and a negative one.
BITS = {
    "F64": ((1.0, 0x3FF << 52), (5e-324, 1), (-2.5, 0xC004 << 48)),
    "F32": ((1.0, 0x3F80_0000), (2.0**-149, 1), (-2.5, 0xC020_0000)),
    "F16": ((1.0, 0x3C00), (2.0**-24, 1), (65504.0, 0x7BFF), (-2.5, 0xC100)),
    "BF16": ((1.0, 0x3F80), (2.0**-133, 1), (3.3895313892515355e38, 0x7F7F), (-2.5, 0xC020)),
    "F8_E5M2": ((1.0, 0x3C), (2.0**-16, 1), (57344.0, 0x7B), (-2.5, 0xC1)),
    "F8_E4M3": ((1.0, 0x38), (2.0**-9, 1), (448.0, 0x7E), (-2.5, 0xC2), (0.0, 0x00)),
    "I64": ((-1.0, 2**64 - 1), (5.0, 5)),
    "I32": ((-1.0, 2**32 - 1), (5.0, 5)),
    "I16": ((-1.0, 2**16 - 1), (5.0, 5)),
    "I8": ((-1.0, 255), (5.0, 5)),
    "U64": ((2.0**63, 2**63), (5.0, 5)),
    "U32": ((2.0**32 - 1, 2**32 - 1), (5.0, 5)),
    "U16": ((65535.0, 65535), (5.0, 5)),
    "U8": ((255.0, 255), (5.0, 5)),
    "BOOL": ((1.0, 1), (0.0, 0)),
}


@pytest.mark.parametrize("dtype", NUMBER_FORMATS)
def test_every_format_is_read_exactly(dtype: str) -> None:
    values, bits = zip(*BITS[dtype], strict=True)
    raw = np.array(bits, np.dtype(f"<u{NUMBER_FORMATS[dtype].size}")).tobytes()
    assert decode_numbers(raw, dtype).tolist() == list(values)


def test_what_is_no_number_in_a_short_format() -> None:
    assert math.isnan(decode_numbers(b"\x7f", "F8_E4M3")[0])
    assert math.isnan(decode_numbers(b"\xff", "F8_E4M3")[0])
    assert decode_numbers(b"\x7c", "F8_E5M2")[0] == math.inf
    assert math.isnan(decode_numbers((0x7FC0).to_bytes(2, "little"), "BF16")[0])


@pytest.mark.parametrize(
    ("name", "block"),
    [
        ("lora_te_text_model_encoder_layers_0_mlp_fc1.alpha", "te"),
        ("lora_te1_text_model_encoder_layers_11_mlp_fc1.lora_down.weight", "te1"),
        ("lora_te2_text_model_encoder_layers_31_self_attn_q_proj.hada_w1_a", "te2"),
        ("lora_unet_down_blocks_2_attentions_0_proj_in.lora_mid.weight", "down_blocks.2"),
        ("lora_unet_mid_block_attentions_0_proj_in.lokr_w1", "mid_block"),
        ("lora_unet_up_blocks_3_resnets_2_conv1.dora_scale", "up_blocks.3"),
        ("lora_unet_input_blocks_8_1_proj_in.lora_up.weight", "input_blocks.8"),
        ("lora_unet_middle_block_1_proj_in.a1.weight", "middle_block"),
        ("lora_unet_output_blocks_0_1_proj_in.oft_blocks", "output_blocks.0"),
        ("lora_unet_time_embedding_linear_1.lora_up.weight", "other"),
        ("lora_unet_conv_in.weight", "other"),
        ("lycoris_unet_down_blocks_1_resnets_0_conv1.lokr_w2", "down_blocks.1"),
        ("something", "other"),
    ],
)
def test_which_block_a_tensor_belongs_to(name: str, block: str) -> None:
    assert block_name(name) == block


def test_blocks_stand_from_what_comes_in_to_what_goes_out() -> None:
    wanted = [
        "te",
        "te1",
        "te2",
        "down_blocks.0",
        "input_blocks.2",
        "input_blocks.10",
        "mid_block",
        "up_blocks.1",
        "other",
    ]
    assert sorted(set(wanted), key=block_sort_key) == wanted


def test_what_is_no_lora_file_is_told(tmp_path: Path) -> None:
    good = saved(tmp_path / "a.safetensors", numbers())
    with pytest.raises(MachineError, match=r"cannot read .*: it does not exist"):
        compare_loras(good, tmp_path / "none.safetensors")
    with pytest.raises(MachineError, match=r"cannot read .*: it is a folder"):
        compare_loras(good, tmp_path)
    (tmp_path / "b.safetensors").write_bytes(b"PK\x03\x04" + bytes(40))
    with pytest.raises(MachineError, match=r"cannot read .*b\.safetensors: it is a torch checkpoint"):
        compare_loras(good, tmp_path / "b.safetensors")
    cut = tmp_path / "c.safetensors"
    cut.write_bytes(good.read_bytes()[:-5])
    with pytest.raises(MachineError, match=r"cannot read .*c\.safetensors: the file is cut off"):
        compare_loras(good, cut)
    with pytest.raises(MachineError, match=r"cannot read .*c\.safetensors: the file is cut off"):
        compare_loras(cut, good)


def test_what_is_printed_is_what_the_published_schema_says(tmp_path: Path) -> None:
    from jsonschema import Draft202012Validator

    other = numbers()
    other[DOWN] += 1
    printed = json.loads(render_comparison(two(tmp_path, numbers(), other), TextLayout(), as_json=True))
    published = json.loads(generate_schema("compare"))
    Draft202012Validator(published).validate(printed)  # pyright: ignore[reportUnknownMemberType]
    assert set(printed) == set(published["properties"])
