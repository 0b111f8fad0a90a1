"""Sizes of files: the guide's measured ones, what each algorithm adds to a layer, what is unknown."""

from __future__ import annotations

from typing import Any

import pytest

from lorabake.analysis import estimate
from lorabake.planning.file_size import (
    Layer,
    NetworkSpec,
    UnknownNetworkError,
    count_weights,
    cut_text_encoders,
    factorize,
    iter_targets,
    parse_layers,
)
from lorabake_schemas.machine import BaseFacts, Family
from lorabake_schemas.plan import FileSize, Forecast, Origin, Plan, Setting, Source

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
        datasets=(),
        shipped_preset=shipped,
        own_preset=own,
        forecast=COUNTED,
    )


def lycoris(family: Family, algo: str, *arguments: str, dim: int = 32, preset: str | None = None) -> Plan:
    shipped = preset or (FULL if family == "sd15" else None)
    given = (f"algo={algo}", *arguments, f"preset={shipped or 'full'}")
    return plan(family, shipped=shipped, network_module="lycoris.kohya", network_args=given, network_dim=dim)


def size(of: Plan, base: BaseFacts | None = None) -> FileSize | None:
    return estimate.output_size(of, base or BaseFacts(kind="file"))


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


def test_a_base_with_fewer_layers_of_its_text_encoder() -> None:
    usual, short = size(plan()), size(plan(), BaseFacts(kind="folder", text_layers=(2,)))
    assert usual
    assert short
    assert usual.tensors - short.tensors == 10 * 6 * 3
    assert size(plan(), BaseFacts(kind="folder", text_layers=(99,))) is None


TABLE = """\
lora full ia3
te_text_model_encoder_layers_0_mlp_fc1 768 3072 111
te_text_model_encoder_layers_1_mlp_fc1 768 3072 11i
unet_norm 0 320 010
unet_conv 320 640 3 3 010
unet_proj 320 320 1 1 110
"""


def test_a_table_of_layers() -> None:
    first, second, norm, conv, proj = parse_layers(TABLE)
    assert (first.inputs, first.outputs, first.kernel) == (768, 3072, ())
    assert first.networks == {"lora": False, "full": False, "ia3": False}
    assert second.networks == {"lora": False, "full": False, "ia3": True}
    assert [each.is_conv for each in (first, norm, conv, proj)] == [False, False, True, False]
    assert (conv.area, proj.area, first.area) == (9, 1, 1)


def ranks(**given: Any) -> dict[str, int]:
    asked: dict[str, Any] = {"network": "full", "algo": "locon", "rank": 8, "conv": 4, **given}
    spec = NetworkSpec(**asked)
    return {layer.name.rpartition("_")[2]: rank for layer, rank in iter_targets(parse_layers(TABLE)[1:], spec)}


def test_which_layers_are_trained_and_at_which_rank() -> None:
    assert ranks() == {"fc1": 8, "conv": 4, "proj": 8}
    assert ranks(train_norm=True).keys() == {"fc1", "norm", "conv", "proj"}
    assert ranks(conv=0) == {"fc1": 8, "proj": 8}
    assert ranks(network="lora") == {"fc1": 8, "proj": 8}
    assert ranks(text=False).keys() == {"conv", "proj"}
    assert ranks(unet=False).keys() == {"fc1"}
    assert ranks(network="mine.toml") == {}


def test_text_encoders_cut_to_their_first_layers() -> None:
    layers = parse_layers(TABLE)
    assert cut_text_encoders(layers, ()) == layers
    assert cut_text_encoders(layers, (1,)) == (layers[0], *layers[2:])
    assert cut_text_encoders(layers, (3,)) is None


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


CONV_LAYER, LINEAR, NORM = Layer("c", 320, 640, (3, 3), {}), Layer("l", 320, 1280, (), {}), Layer("n", 0, 320, (), {})


@pytest.mark.parametrize(
    ("layer", "algo", "options", "expected"),
    [
        (LINEAR, "locon", {}, (3, 1 + 4 * 320 + 4 * 1280)),
        (LINEAR, "locon", {"weight_decompose": 1, "wd_on_out": 1}, (4, 1 + 4 * 320 + 4 * 1280 + 1280)),
        (CONV_LAYER, "locon", {}, (3, 1 + 4 * 320 * 9 + 4 * 640)),
        (CONV_LAYER, "locon", {"use_tucker": 1}, (4, 1 + 4 * 320 + 4 * 640 + 4 * 4 * 9)),
        (CONV_LAYER, "full", {}, (2, 640 * 320 * 9 + 640)),
        (NORM, "locon", {}, (2, 640)),
    ],
)
def test_what_an_algorithm_adds_to_a_layer(
    layer: Layer, algo: str, options: dict[str, int], expected: tuple[int, int]
) -> None:
    assert count_weights(layer, 4, NetworkSpec("full", algo, 4, 4, options)) == expected


def test_an_algorithm_that_is_not_known() -> None:
    with pytest.raises(UnknownNetworkError):
        count_weights(LINEAR, 4, NetworkSpec("full", "unheard-of", 4, 4))
