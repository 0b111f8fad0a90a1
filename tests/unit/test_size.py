"""Sizes of files: the guide's measured ones, the shapes of the algorithms, the walk over a model, what is unknown."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Any

import pytest

from lorabake.analysis import estimate
from lorabake.planning.file_size import estimate_file_size
from lorabake.planning.model_shapes import Module, cut_to_layers, iter_submodules, parse_models
from lorabake.planning.network_layout import TargetModule, UnknownNetworkError, factorize, list_tensors
from lorabake.planning.network_targets import NetworkSpec, apply_preset, find_target_modules
from lorabake.util import resources
from lorabake_schemas.machine import BaseFacts, Family
from lorabake_schemas.plan import FileSize, Forecast, Origin, Plan, Setting, Source

SD15 = parse_models(resources.read_vendor_text("shapes-sd15.txt"))
PRESETS: dict[str, dict[str, object]] = json.loads(resources.read_vendor_text("lycoris-presets.json"))
FULL = "lycoris-preset-full-sd15.toml"
COUNTED = Forecast(
    train_samples=1, reg_samples=0, batches_per_epoch=1, steps_per_epoch=1, epochs=1, steps=1, warmup_steps=0
)


def plan(family: Family = "sd15", *, shipped: str | None = None, own: str | None = None, **options: Any) -> Plan:
    options = {"network_module": "networks.lora", "network_dim": 32, "save_precision": "fp16", **options}
    train = [Setting(option=name, value=value, source=Source(origin=Origin.RECIPE)) for name, value in options.items()]
    return Plan(
        name="x",
        family=family,
        script="train_network.py",
        train=tuple(train),
        dataset=(),
        subsets=(),
        shipped_preset=shipped,
        own_preset=own,
        forecast=COUNTED,
    )


def lycoris(family: Family, algo: str, *arguments: str, dim: int = 32, preset: str | None = None) -> Plan:
    shipped = preset or (FULL if family == "sd15" else None)
    given = (f"algo={algo}", *arguments, f"preset={shipped or 'full'}")
    return plan(family, shipped=shipped, network_module="lycoris.kohya", network_args=given, network_dim=dim)


def size(of: Plan, base: BaseFacts | None = None, folder: Path | None = None) -> FileSize | None:
    return estimate.output_size(of, base or BaseFacts(kind="file"), folder or Path())


def megabytes(of: Plan) -> float:
    told = size(of)
    assert told
    return round(told.tensor_bytes / 1e6, 1)


@pytest.mark.parametrize(("dim", "expected"), [(8, 9.4), (16, 18.9), (32, 37.7), (128, 151.0)])
def test_the_guides_sizes_of_lora(dim: int, expected: float) -> None:
    assert megabytes(plan(network_dim=dim)) == expected


CONV = ("conv_dim=16", "conv_alpha=1")


@pytest.mark.parametrize(
    ("made", "sd15", "sdxl"),
    [
        (("locon", *CONV), 60.8, 243.2),
        (("locon",), 78.3, 254.6),
        (("loha", *CONV), 121.7, 486.3),
        (("lokr", "factor=-1"), 2.5, 7.6),
        (("lokr", "factor=8"), 9.8, 32.0),
        (("lokr", "factor=8", "full_matrix=True"), 29.5, 102.4),
        (("glora",), 126.6, 478.2),
        (("diag-oft",), 22.7, 121.3),
    ],
)
def test_the_measured_sizes_of_lycoris(made: tuple[str, ...], sd15: float, sdxl: float) -> None:
    assert (megabytes(lycoris("sd15", *made)), megabytes(lycoris("sdxl", *made))) == (sd15, sdxl)


def test_more_measured_sizes() -> None:
    assert megabytes(plan(network_args=CONV)) == 60.5
    assert megabytes(plan("sdxl", network_args=CONV)) == 243.2
    assert megabytes(lycoris("sd15", "loha", dim=8)) == 39.2
    assert megabytes(lycoris("sd15", "diag-oft", dim=4)) == 3.2
    assert megabytes(lycoris("sd15", "dylora", *CONV, dim=128)) == 190.8
    assert megabytes(lycoris("sd15", "ia3", preset="lycoris-preset-ia3.toml")) == 0.3
    assert megabytes(lycoris("sdxl", "ia3")) == 3.9


def test_float_takes_twice_as_much_and_the_text_encoder_its_part() -> None:
    half, whole, alone = size(plan()), size(plan(save_precision="float")), size(plan(network_train_unet_only=True))
    assert half
    assert whole
    assert alone
    assert (half.tensors, whole.tensors, alone.tensors) == (792, 792, 576)
    assert whole.tensor_bytes == 2 * half.tensor_bytes == 75_498_528
    assert alone.tensor_bytes < half.tensor_bytes
    text = size(plan(network_train_text_encoder_only=True))
    assert text
    assert text.tensor_bytes + alone.tensor_bytes == half.tensor_bytes


def test_the_header_of_another_format_is_guessed_otherwise() -> None:
    safe, pickled = size(plan()), size(plan(save_model_as="ckpt"))
    assert safe
    assert pickled
    assert safe.tensor_bytes == pickled.tensor_bytes
    assert safe.header_bytes != pickled.header_bytes


@pytest.mark.parametrize(
    "unknown",
    [
        plan(network_module="networks.dylora"),
        plan(save_precision="fp8"),
        plan(dim_from_weights=True),
        plan(network_args=("block_dims=2",)),
        plan(network_module="lycoris.kohya", network_args=("algo=tlora",)),
        lycoris("sd15", "dylora", dim=30),
        lycoris("sd15", "boft", dim=3),
        lycoris("sdxl", "locon", "conv_dim=many"),
        plan(network_module="lycoris.kohya", network_args=("algo=locon", "preset=full")),  # stops on SD1.5 (S35)
        plan(network_module="lycoris.kohya", network_args=("algo=locon", "preset=mine.toml"), own="mine.toml"),
    ],
)
def test_what_is_not_known_is_not_told(unknown: Plan) -> None:
    assert size(unknown) is None


def test_a_preset_of_ones_own(tmp_path: Path) -> None:
    asked = plan(network_module="lycoris.kohya", network_args=("algo=locon", "preset=mine.toml"), own="mine.toml")
    (tmp_path / "mine.toml").write_text(
        'unet_target_module = ["Transformer2DModel"]\nunet_target_name = []\n'
        'text_encoder_target_module = ["CLIPMLP"]\nenable_conv = false\n'
        '[module_algo_map.FeedForward]\nalgo = "lokr"\nfactor = 8\n',
        encoding="utf-8",
    )
    told = size(asked, folder=tmp_path)
    assert told
    assert told.tensors == 16 * 12 * 3 - 16 * 2 * 3 + 16 * 2 * 4 + 12 * 2 * 3
    (tmp_path / "mine.toml").write_text("unet_target_modules = []\n", encoding="utf-8")
    assert size(asked, folder=tmp_path) is None
    (tmp_path / "mine.toml").write_text("not toml", encoding="utf-8")
    assert size(asked, folder=tmp_path) is None


def test_a_base_with_fewer_layers_of_its_text_encoder() -> None:
    usual, short = size(plan()), size(plan(), BaseFacts(kind="folder", text_layers=(2,)))
    assert usual
    assert short
    assert usual.tensors - short.tensors == 10 * 6 * 3
    assert size(plan(), BaseFacts(kind="folder", text_layers=(99,))) is None


def test_shapes_are_read_as_a_tree() -> None:
    assert {name: len(model) for name, model in SD15.items()} == {"unet": 614, "te": 137}
    unet = SD15["unet"]
    assert (unet[0].name, unet[0].class_name, unet[0].end) == ("", "UNet2DConditionModel", len(unet))
    block = next(module for module in unet if module.class_name == "Transformer2DModel")
    inside = list(iter_submodules(unet, block))
    assert inside[0] == ("", block)
    assert {name.split(".")[0] for name, _ in inside[1:]} == {"norm", "proj_in", "transformer_blocks", "proj_out"}
    proj = dict(inside)["proj_in"]
    assert (proj.kind, proj.inputs, proj.outputs, proj.kernel, proj.bias) == ("conv", 320, 320, (1, 1), True)
    norm = dict(inside)["norm"]
    assert (norm.kind, norm.inputs, norm.outputs, norm.kernel) == ("norm", 320, 320, ())


def test_a_cut_text_encoder_keeps_its_tree() -> None:
    cut = cut_to_layers(SD15["te"], 3)
    assert cut
    assert {module.name.split(".")[3] for module in cut if module.name.count(".") >= 3} == {"0", "1", "2"}
    assert cut[0].end == len(cut)
    layer = next(module for module in cut if module.name.endswith("layers.2"))
    assert [name for name, _ in iter_submodules(cut, layer)][-1] == "layer_norm2"


def linear(inputs: int = 320, outputs: int = 1280) -> Module:
    return Module("x", "Linear", "linear", inputs, outputs, bias=True)


@pytest.mark.parametrize(
    ("dimension", "factor", "expected"),
    [
        (128, -1, (8, 16)),
        (128, 2, (2, 64)),
        (250, 8, (5, 50)),
        (360, 4, (4, 90)),
        (512, 8, (8, 64)),
        (127, 4, (1, 127)),
    ],
)
def test_factors(dimension: int, factor: int, expected: tuple[int, int]) -> None:
    assert factorize(dimension, factor) == expected


def test_shapes_of_single_modules() -> None:
    conv = Module("x", "Conv2d", "conv", 320, 640, (3, 3))
    assert list_tensors(TargetModule("a", conv, "locon", 4, {"use_tucker": True}))["lora_mid.weight"] == (4, 4, 3, 3)
    assert list_tensors(TargetModule("a", conv, "full", 4)) == {"diff": (640, 320, 3, 3)}
    assert list_tensors(TargetModule("a", linear(), "full", 4)) == {"diff": (1280, 320), "diff_b": (1280,)}
    assert list_tensors(TargetModule("a", linear(), "ia3", 4, {"train_on_input": True}))["weight"] == (320,)
    assert list_tensors(TargetModule("a", linear(), "locon", 4, {"weight_decompose": True}))["dora_scale"] == (1280, 1)
    with pytest.raises(UnknownNetworkError):
        list_tensors(TargetModule("a", linear(), "unheard-of", 4))


def test_norms_and_excluded_names() -> None:
    full = apply_preset(tomllib.loads(resources.read_vendor_text(FULL)), PRESETS[""])
    wanted = NetworkSpec("locon", 8, 8, train_norm=True)
    norms = [each for each in find_target_modules(SD15, wanted, full) if each.algo == "norm"]
    assert len(norms) == 16 * 4 + 22 * 2  # in every transformer and every residual block
    assert list_tensors(norms[0]) == {"w_norm": (320,), "b_norm": (320,)}
    without = apply_preset({"exclude_name": ["down_blocks"]}, full)
    assert not [each for each in find_target_modules(SD15, wanted, without) if "_down_blocks_" in each.lora_name]


def test_file_size_wants_presets_by_name() -> None:
    asked = plan(network_module="lycoris.kohya", network_args=("algo=locon", "preset=attn-only"))
    assert estimate_file_size(asked, SD15, PRESETS)
    assert estimate_file_size(asked, SD15, {"": PRESETS[""]}) is None
