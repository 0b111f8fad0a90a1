"""The network: module, rank, alpha and arguments of each algorithm (guide rules 3.5, S33-S37)."""

from __future__ import annotations

from typing import Any

import pytest

from lorabake.planning.profile import build_profile
from lorabake.planning.settings_network import NetworkChoice, network_settings
from lorabake.util import resources
from lorabake_schemas.base import OptionValue
from lorabake_schemas.plan import Origin
from lorabake_schemas.recipe import Recipe
from situations import GPU, base_facts, concept, plan_of, recipe, sources, values

FULL, IA3 = "lycoris-preset-full-sd15.toml", "lycoris-preset-ia3.toml"
CONV = ("conv_dim=16", "conv_alpha=1.0")
DROP = "rank_dropout=0.1"


def chosen(made: Recipe) -> NetworkChoice:
    return network_settings(made.network, build_profile(made, base_facts(made.base.family), GPU))


def network(kind: str, optimizer: str = "Prodigy", family: str = "sd15", **more: Any) -> NetworkChoice:
    return chosen(recipe(base={"family": family}, network={"type": kind} | more, train={"optimizer": optimizer}))


def arguments(choice: NetworkChoice) -> tuple[str, ...]:
    found = values(choice.settings).get("network_args", ())
    assert isinstance(found, tuple)
    return tuple(str(item) for item in found)


# algorithm: rank and its rule, alpha with AdamW and its rule, network_args after algo and preset, their rules
ALGORITHMS: dict[str, tuple[int | None, str, float | None, str, tuple[str, ...], str]] = {
    "locon": (32, "G7.14", 16.0, "G7.15", (*CONV, DROP), "G4.21, S35, G4.77, S34"),
    "loha": (32, "G4.70", 16.0, "G7.18", (*CONV, DROP), "G4.21, S35, G4.77, S34"),
    "lokr": (32, "G4.70", 16.0, "G7.15", (*CONV, DROP, "factor=-1"), "G4.21, S35, G4.77, S34, G7.19"),
    "dylora": (128, "G7.22", 64.0, "G7.22", (*CONV, "block_size=4"), "G4.21, S35, G4.77"),
    "glora": (32, "G4.70", 16.0, "G7.15", CONV, "G4.21, S35, G4.77"),
    "ia3": (None, "", None, "", (), "G4.21, S35"),
    "diag-oft": (32, "G4.70", None, "", (*CONV, DROP), "G4.21, S35, G4.77, S34"),
}


@pytest.mark.parametrize("kind", ALGORITHMS)
def test_each_algorithm_with_adamw_on_sd15(kind: str) -> None:
    rank, rank_rule, alpha, alpha_rule, more, rules = ALGORITHMS[kind]
    choice = network(kind, "AdamW")
    preset = IA3 if kind == "ia3" else FULL
    wanted: dict[str, tuple[OptionValue, str]] = {
        "network_module": ("lycoris.kohya", "G4.21" if kind == "locon" else "G7.8"),
        "network_args": ((f"algo={kind}", f"preset={preset}", *more), rules),
    }
    if rank is not None:
        wanted["network_dim"] = (rank, rank_rule)
    if alpha is not None:
        wanted["network_alpha"] = (alpha, alpha_rule)
    assert {s.option: (s.value, s.source.rule) for s in choice.settings} == wanted
    assert choice.shipped_preset == preset
    assert choice.own_preset is None


@pytest.mark.parametrize("kind", ALGORITHMS)
def test_each_algorithm_with_prodigy_keeps_alpha_at_one(kind: str) -> None:
    choice = network(kind)
    if ALGORITHMS[kind][2] is None:
        assert "network_alpha" not in values(choice.settings)
    else:
        assert repr(values(choice.settings)["network_alpha"]) == "1.0"
        assert sources(choice.settings)["network_alpha"].rule == "G4.73"


@pytest.mark.parametrize("kind", ALGORITHMS)
def test_each_algorithm_on_sdxl(kind: str) -> None:
    """Only iA3 needs a preset file there (S35); ranks are SDXL's unless the algorithm has its own."""
    choice = network(kind, "AdamW", "sdxl")
    assert f"preset={IA3 if kind == 'ia3' else 'full'}" in arguments(choice)
    assert choice.shipped_preset == (IA3 if kind == "ia3" else None)
    wanted = {"locon": 32, "dylora": 128, "ia3": None}.get(kind, 16)
    assert values(choice.settings).get("network_dim") == wanted


def test_shipped_presets_are_shipped() -> None:
    for name in (FULL, IA3):
        assert resources.read_vendor_text(name)


def test_sd2_needs_the_preset_file_too() -> None:
    assert network("locon", family="sd2").shipped_preset == FULL


def test_a_plain_lora_trains_no_convolutions_unless_asked() -> None:
    assert "network_args" not in values(network("lora").settings)
    assert arguments(network("lora", conv_dim=8, conv_alpha=4)) == ("conv_dim=8", "conv_alpha=4.0")
    assert sources(network("lora", conv_dim=8).settings)["network_args"].origin is Origin.RECIPE
    assert "network_args" not in values(network("lora", conv_dim=0).settings)


def test_conv_dim_zero_switches_convolutions_off_in_lycoris() -> None:
    """S37: left out, it would be network_dim."""
    assert "conv_dim=0" in arguments(network("locon", conv_dim=0))


def test_neuron_dropout_is_for_networks_lora_only() -> None:
    assert repr(values(network("lora").settings)["network_dropout"]) == "0.1"
    assert "network_dropout" not in values(network("lora", network_dropout=0.0).settings)
    assert values(network("lora", network_dropout=0.3).settings)["network_dropout"] == 0.3
    for kind in ALGORITHMS:
        assert "network_dropout" not in values(network(kind).settings)


def test_the_users_dropout_replaces_the_guides() -> None:
    assert "rank_dropout=0.0" in arguments(network("locon", rank_dropout=0.0))
    assert {"rank_dropout=0.2", "module_dropout=0.3"} <= set(
        arguments(network("locon", rank_dropout=0.2, module_dropout=0.3))
    )


@pytest.mark.parametrize(
    ("kind", "more", "written"),
    [
        ("locon", {"dora_wd": True}, "dora_wd=True"),
        ("locon", {"dora_wd": False}, "dora_wd=False"),
        ("lokr", {"factor": 8}, "factor=8"),
        ("dylora", {"block_size": 8}, "block_size=8"),
        ("diag-oft", {"constraint": 0.5, "rescaled": True}, "constraint=0.5"),
        ("loha", {"use_tucker": True}, "use_tucker=True"),
        ("loha", {"use_scalar": True}, "use_scalar=True"),
        ("locon", {"train_norm": True}, "train_norm=True"),
        ("loha", {"conv_alpha": 2}, "conv_alpha=2.0"),
    ],
)
def test_arguments_of_the_recipe_are_written_as_python_reads_them(
    kind: str, more: dict[str, Any], written: str
) -> None:
    made = arguments(network(kind, **more))
    assert written in made
    assert len({item.partition("=")[0] for item in made}) == len(made)


def test_presets_of_the_recipe() -> None:
    assert "preset=attn-mlp" in arguments(network("locon", preset="attn-mlp"))
    assert network("locon", preset="attn-mlp").shipped_preset is None
    assert network("locon", preset="full").shipped_preset == FULL
    own = network("locon", preset="my/presets/mine.toml")
    assert (own.own_preset, own.shipped_preset) == ("my/presets/mine.toml", None)
    assert "preset=mine.toml" in arguments(own)
    assert network("lora", preset="x.toml").own_preset is None


def test_lycoris_own_ia3_preset_is_never_named() -> None:
    """S35: it matches no layer, whatever the algorithm."""
    for kind in ("ia3", "locon"):
        choice = network(kind, preset="ia3")
        assert f"preset={IA3}" in arguments(choice)
        assert choice.shipped_preset == IA3


def test_the_rest_of_network_is_emitted_only_when_it_says_something() -> None:
    bare = values(network("lora").settings)
    assert {"network_train_unet_only", "network_weights", "scale_weight_norms"}.isdisjoint(bare)
    off = values(network("lora", network_train_unet_only=False, scale_weight_norms=0).settings)
    assert off == bare
    more: dict[str, Any] = {
        "network_train_unet_only": True,
        "network_weights": "w.safetensors",
        "scale_weight_norms": 1,
    }
    on = values(network("lora", **more).settings)
    assert {name: repr(on[name]) for name in more} == {
        "network_train_unet_only": "True", "network_weights": "'w.safetensors'", "scale_weight_norms": "1.0",
    }  # fmt: skip


@pytest.mark.parametrize(("rank", "alpha"), [(8, 8.0), (64, 64.0), (5, 5.0)])
def test_alpha_follows_the_rank_of_the_recipe(rank: int, alpha: float) -> None:
    made = values(network("lora", "AdamW", network_dim=rank).settings)
    assert repr(made["network_alpha"]) == repr(alpha)
    halved = values(network("locon", "AdamW", network_dim=rank).settings)
    assert repr(halved["network_alpha"]) == repr(alpha / 2)


def test_alpha_of_the_recipe_is_always_a_float() -> None:
    """S33: an int alpha becomes an int64 buffer in the file."""
    for kind in ("lora", "locon", "ia3"):
        assert repr(values(network(kind, network_alpha=4).settings)["network_alpha"]) == "4.0"


def test_rank_of_several_concepts_goes_before_kind_and_family() -> None:
    made = chosen(
        recipe(kind="style", base={"family": "sdxl"}, concepts=[concept("a", "a"), concept("b", "b")],
               network={"type": "lora"})
    )  # fmt: skip
    assert values(made.settings)["network_dim"] == 32
    assert sources(made.settings)["network_dim"].rule == "G6.5"


@pytest.mark.parametrize(
    ("kind", "module", "more"),
    [
        ("networks.oft", "networks.oft", {"network_dim": 32}),
        ("networks.lora_fa", "networks.lora_fa", {"network_dim": 32, "network_alpha": 32.0, "network_dropout": 0.1}),
        ("networks.dylora", "networks.dylora", {"network_dim": 32, "network_alpha": 32.0}),
        ("full", "lycoris.kohya", {"network_args": ("algo=full", f"preset={FULL}")}),
        ("boft", "lycoris.kohya", {"network_dim": 32, "network_args": ("algo=boft", f"preset={FULL}")}),
    ],
)
def test_other_modules_and_algorithms(kind: str, module: str, more: dict[str, OptionValue]) -> None:
    assert values(network(kind, "AdamW").settings) == {"network_module": module} | more


def test_arguments_follow_in_the_order_of_their_names() -> None:
    given = {"loraplus_lr_ratio": 16, "block_dims": [2, 4], "down_lr_weight": "sine", "conv_dim": 4}
    choice = network("lora", "AdamW", args=given)
    assert arguments(choice) == ("conv_dim=4", "block_dims=2,4", "down_lr_weight=sine", "loraplus_lr_ratio=16")
    switches = network("lokr", "AdamW", args={"full_matrix": True, "bypass_mode": False})
    assert arguments(switches)[-2:] == ("bypass_mode=False", "full_matrix=True")


def test_a_false_that_lycoris_would_read_as_true_is_left_out() -> None:
    assert "decompose_both=True" in arguments(network("lokr", args={"decompose_both": True}))
    assert not any("decompose_both" in each for each in arguments(network("lokr", args={"decompose_both": False})))


def test_an_argument_replaces_lorabakes_own() -> None:
    choice = network("locon", "AdamW", args={"conv_dim": 4, "algo": "locon"})
    assert "conv_dim=4" in arguments(choice)
    assert len([each for each in arguments(choice) if each.startswith("conv_dim")]) == 1


@pytest.mark.parametrize("given", [{"network_dim": 100_000}, {"args": {"full_matrix": True}}])
def test_lokr_in_full_matrix_mode_has_no_alpha_and_no_rank_of_its_own_for_convolutions(given: dict[str, Any]) -> None:
    choice = network("lokr", "AdamW", **given)
    assert "network_alpha" not in values(choice.settings)
    assert not any(each.startswith("conv_") for each in arguments(choice))


@pytest.mark.parametrize(
    ("given", "save", "precision"),
    [
        ({"network_dim": 100_000}, {}, "bf16"),
        ({"network_dim": 10_000}, {}, "fp16"),
        ({"network_dim": 10_000, "args": {"rs_lora": True}}, {}, "bf16"),
        ({"network_dim": 100_000}, {"save_precision": "fp16"}, "fp16"),
        ({"network_dim": 64}, {}, "fp16"),
    ],
)
def test_the_rank_that_lokr_saves_as_alpha_fits(given: dict[str, Any], save: dict[str, Any], precision: str) -> None:
    made = recipe(network={"type": "lokr"} | given, save=save)
    assert values(plan_of(made).train)["save_precision"] == precision
