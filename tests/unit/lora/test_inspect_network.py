"""Which network a file contains, by its tensors alone: every algorithm of LyCORIS and networks.lora, every family."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import pytest

from lora_files import Wanted, shapes_of
from lorabake.lora.network import LoraModule, describe_network, detect_file_kind, detect_lora_family, list_lora_modules
from lorabake.util.safetensors import Tensor
from lorabake_schemas.inspection import LoraNetwork

LORA = Wanted("", 8, None)


def seen(shapes: Mapping[str, tuple[int, ...]]) -> LoraNetwork:
    return describe_network({name: Tensor("F16", shape, 0, 0) for name, shape in shapes.items()}, {})


def family_name(modules: list[LoraModule]) -> str | None:
    found = detect_lora_family(modules)
    return found.name if found else None


@pytest.mark.parametrize("family", ["sd15", "sd2", "sdxl"])
def test_a_plain_lora_of_every_family(family: str) -> None:
    shapes = shapes_of(LORA, family)
    assert detect_file_kind(shapes) == "lora"
    assert family_name(list_lora_modules(shapes)) == family
    network = seen(shapes)
    assert network.algorithms == {"lora": len(shapes) // 3}
    assert [(rank.rank, rank.conv) for rank in network.ranks] == [(8, False)]
    assert network.tensors == len(shapes)
    assert not network.dora
    assert not network.tucker


@pytest.mark.parametrize("family", ["sd15", "sd2", "sdxl"])
@pytest.mark.parametrize("algorithm", ["", "locon", "loha", "lokr", "glora", "full"])
@pytest.mark.parametrize("text", [True, False])
def test_the_family_is_told_from_either_part_alone(family: str, algorithm: str, text: bool) -> None:
    shapes = shapes_of(replace(LORA, algo=algorithm, conv=8 if algorithm else None, text=text, unet=not text), family)
    assert family_name(list_lora_modules(shapes)) == family


@pytest.mark.parametrize(
    ("algorithm", "rank"),
    [("locon", 8), ("loha", 8), ("lokr", 8), ("glora", 8), ("full", None), ("diag-oft", None), ("boft", None),
     ("ia3", None)],
)  # fmt: skip
def test_every_algorithm_of_lycoris(algorithm: str, rank: int | None) -> None:
    sides = (16, 16) if algorithm == "boft" else (8, 4)  # boft divides by a power of two
    network = seen(shapes_of(Wanted(algorithm, *sides)))
    told = {name for name in network.algorithms if (algorithm, name) != ("locon", "lora")}
    assert told == {algorithm}
    linear = {each.rank for each in network.ranks if not each.conv}
    convolved = {each.rank for each in network.ranks if each.conv}
    assert linear == ({rank} if rank else set())
    assert convolved == ({4} if rank else set())


@pytest.mark.parametrize("family", ["sd15", "sdxl"])
@pytest.mark.parametrize("algorithm", ["locon", "loha", "lokr", "glora"])
def test_convolutions_are_told_from_layers(family: str, algorithm: str) -> None:
    """By the shape, or by the name where a factor has swallowed the kernel."""
    wanted = Wanted(algorithm, 8, 4)
    found = {module.name: module.is_conv for module in list_lora_modules(shapes_of(wanted, family))}
    assert found == {f"lora_{layer.name}": layer.is_conv for layer, _ in wanted.layers(family)}


def test_dora_tucker_norms_and_mixtures() -> None:
    network = seen(shapes_of(Wanted("locon", 8, 4, {"tucker": 1, "dora": 1}, train_norm=True)))
    assert network.dora
    assert network.tucker
    assert set(network.algorithms) == {"lora", "locon", "norm"}
    mixed = shapes_of(Wanted("lokr", 8, 8, text=False)) | shapes_of(Wanted("loha", 8, 8, unet=False))
    assert set(seen(mixed).algorithms) == {"lokr", "loha"}


def test_parts_and_blocks_in_the_models_order() -> None:
    text, unet = seen(shapes_of(LORA)).parts
    assert (text.name, unet.name) == ("te", "unet")
    assert list(text.blocks) == [f"layers.{number}" for number in range(12)]
    assert list(unet.blocks) == [
        "down_blocks.0", "down_blocks.1", "down_blocks.2", "mid_block", "up_blocks.1", "up_blocks.2", "up_blocks.3",
    ]  # fmt: skip
    assert sum(unet.blocks.values()) == unet.modules == 192
    large = seen(shapes_of(Wanted("locon", 4, 4), "sdxl")).parts
    assert [part.name for part in large] == ["te1", "te2", "unet"]
    assert list(large[2].blocks)[:3] == ["input_blocks.1", "input_blocks.2", "input_blocks.3"]
    assert list(large[2].blocks)[-2:] == ["output_blocks.7", "output_blocks.8"]


@pytest.mark.parametrize(
    ("names", "kind"),
    [
        (["unet.down_blocks.0.attn1.to_q.lora_A.weight"], "other-lora"),
        (["text_encoder.layers.0.q_proj.lora_linear_layer.up.weight"], "other-lora"),
        (["diffusion_model.blocks.0.attn.lora_up.weight"], "other-lora"),
        (["model.diffusion_model.input_blocks.0.0.weight", "first_stage_model.x"], "checkpoint"),
        (["down_blocks.0.resnets.0.conv1.weight"], "unet"),
        (["encoder.down_blocks.0.x", "decoder.up_blocks.0.x"], "vae"),
        (["text_model.encoder.layers.0.x"], "text-encoder"),
        (["control_model.input_blocks.0.0.weight"], "controlnet"),
        (["emb_params"], "embedding"),
        (["lora_unet_without_any_known_tensor.strange"], "unknown"),
        ([], "unknown"),
    ],
)
def test_what_is_no_lora_of_sd_scripts(names: list[str], kind: str) -> None:
    assert detect_file_kind(dict.fromkeys(names, (4, 4))) == kind


@pytest.mark.parametrize(
    ("name", "family"),
    [("double_blocks_0_img_attn_proj", "flux"), ("joint_blocks_3_x_block_attn_qkv", "sd3"), ("layers_1_x", None)],
)
def test_models_that_lorabake_does_not_train_are_recognised(name: str, family: str | None) -> None:
    assert family_name(list_lora_modules({f"lora_unet_{name}.lora_down.weight": (4, 3072)})) == family


def test_odd_shapes_do_no_harm() -> None:
    shapes: dict[str, tuple[int, ...]] = {
        "lora_unet_a.lora_down.weight": (),
        "lora_unet_attn2_to_k.lokr_w1": (1,),
        "lora_unet_attn2_to_k.lokr_w2": (),
        "lora_te_b.hada_w1_a": (0, 0),
        "lora_unet_c.oft_blocks": (1,),
    }
    network = seen(shapes)
    assert network.numbers == 4
    assert detect_lora_family(list_lora_modules(shapes)) is None
