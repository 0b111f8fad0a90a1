"""The LoRA to continue from: what is read from it, what becomes of it, and what a recipe may not change."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from lora_files import Wanted, metadata, shapes_of, write
from lorabake.inputs.continued_lora import read_continued_lora, with_continued_lora
from lorabake_schemas.guide.registry import RuleContext
from lorabake_schemas.machine import ContinuedLora
from lorabake_schemas.plan import Plan
from situations import Fires, Misses, base_facts, plan_of, recipe, situation, spoken, topic, values

FILE = "old.safetensors"
FOUND = ContinuedLora(file=FILE, type="lora", ranks=(8,), alphas=(1.0,))
LOCON = ContinuedLora(file=FILE, type="locon", ranks=(8,), alphas=(4.0,), conv_ranks=(4,), conv_alphas=(1.0,))
MIXED = ContinuedLora(file=FILE, type="lora", ranks=(8, 4), alphas=(1.0,))
FROM_FILE: dict[str, Any] = {"dim_from_weights": True}


def network(**keys: Any) -> dict[str, Any]:
    return {"network_weights": FILE, **keys}


def at(found: ContinuedLora | None = FOUND, kohya: dict[str, Any] | None = None, **keys: Any) -> RuleContext:
    of = recipe(network=network(**keys), kohya=kohya or {})
    return situation(of, base=base_facts("sd15").model_copy(update={"continued": found}))


def planned(found: ContinuedLora, kind: str = "object", train: dict[str, Any] | None = None, **keys: Any) -> Plan:
    base = base_facts("sd15").model_copy(update={"continued": found})
    return plan_of(recipe(kind=kind, network=network(**keys), train=train or {}), base=base)


FIRES: list[Fires] = [
    ("S47", at(network_dim=16), "network.network_dim", "error"),
    ("S47", at(network_alpha=8.0), "network.network_alpha", "error"),
    ("S47", at(LOCON, conv_dim=8), "network.conv_dim", "error"),
    ("S47", at(LOCON, conv_dim=0), "network.conv_dim", "error"),
    ("S47", at(LOCON, conv_alpha=4.0), "network.conv_alpha", "error"),
    ("S47", at(MIXED), "network.network_weights", "error"),
    ("S47.ignored", at(kohya=FROM_FILE, network_dim=16), "network.network_dim", "warning"),
    ("S47.unread", at(None, network_weights="old.pt"), "network.network_weights", "warning"),
]
MISSES: list[Misses] = [
    ("S47", at(network_dim=8, network_alpha=1.0)),
    ("S47", at()),
    ("S47", at(conv_dim=8)),  # new parts beside those of the file
    ("S47", at(MIXED, kohya=FROM_FILE)),
    ("S47", at(kohya=FROM_FILE, network_dim=16)),
    ("S47", at(None, network_dim=16)),
    ("S47", at(FOUND.model_copy(update={"alphas": (0.0999755859375,)}), network_alpha=0.1)),
    ("S47.ignored", at(network_dim=16)),
    ("S47.ignored", at(kohya=FROM_FILE, network_dim=8)),
    ("S47.unread", at(None, network_weights="old.pt", network_dim=8, network_alpha=1.0)),
    ("S47.unread", at()),
]


@pytest.mark.parametrize(("rule", "case", "key", "severity"), FIRES)
def test_fires(rule: str, case: RuleContext, key: str, severity: str) -> None:
    assert [(finding.key, finding.severity) for finding in spoken(rule, case)] == [(key, severity)]


@pytest.mark.parametrize(("rule", "case"), MISSES)
def test_stays_silent(rule: str, case: RuleContext) -> None:
    assert spoken(rule, case) == []


def test_every_rule_of_the_topic_is_covered_both_ways() -> None:
    assert {rule for rule, *_ in FIRES} == {rule for rule, _ in MISSES} == topic("continued_lora")


@pytest.mark.parametrize("optimizer", ["Prodigy", "AdamW"])
def test_rank_and_alpha_are_the_files_own(optimizer: str) -> None:
    plan = planned(FOUND, train={"optimizer": optimizer})
    made = values(plan.train)
    assert (made["network_dim"], made["network_alpha"], made["network_module"]) == (8, 1.0, "networks.lora")
    sources = {setting.option: setting.source for setting in plan.train}
    assert sources["network_dim"].rule == sources["network_alpha"].rule == "S47"
    assert FILE in sources["network_dim"].why
    assert "network_train_unet_only" not in made


def test_a_style_stays_the_kind_of_network_that_it_was() -> None:
    assert values(planned(FOUND, "style").train)["network_module"] == "networks.lora"
    assert values(planned(LOCON).train)["network_module"] == "lycoris.kohya"


def test_convolutions_too() -> None:
    made = values(planned(LOCON).train)["network_args"]
    assert isinstance(made, tuple)
    assert {"conv_dim=4", "conv_alpha=1.0", "algo=locon"} <= set(made)
    own = FOUND.model_copy(update={"conv_ranks": (4,), "conv_alphas": (2.0,)})
    assert values(planned(own).train)["network_args"] == ("conv_dim=4", "conv_alpha=2.0")


def test_nothing_for_the_text_encoder_means_unet_only() -> None:
    alone = FOUND.model_copy(update={"text_encoder": False})
    assert values(planned(alone).train)["network_train_unet_only"] is True
    assert "network_train_unet_only" not in values(planned(alone, network_train_unet_only=False).train)
    rates = values(planned(alone, train={"optimizer": "AdamW"}).train)
    assert "text_encoder_lr" not in rates


def test_what_a_recipe_says_comes_first() -> None:
    made = values(planned(FOUND, network_dim=16, network_alpha=2.0).train)
    assert (made["network_dim"], made["network_alpha"]) == (16, 2.0)


@pytest.mark.parametrize(
    ("wanted", "told", "kind", "ranks", "conv_ranks"),
    [
        (Wanted("", 4, None), {}, "lora", (4,), ()),
        (Wanted("", 4, 2), {"ss_network_module": "networks.lora"}, "lora", (4,), (2,)),
        (Wanted("", 4, 2), {}, "locon", (4,), (2,)),
        (Wanted("locon", 4, 2), {"ss_network_args": '{"algo": "lora"}'}, "locon", (4,), (2,)),
        (Wanted("loha", 4, 2), {}, "loha", (4,), (2,)),
        (Wanted("lokr", 4, 4), {}, "lokr", (4,), (4,)),
        (Wanted("locon", 4, 2), {"ss_network_args": '{"algo": "dylora"}'}, "dylora", (4,), (2,)),
        (Wanted("ia3", 4, 2), {}, "ia3", (), ()),
    ],
)
def test_what_a_file_is(
    tmp_path: Path, wanted: Wanted, told: dict[str, Any], kind: str, ranks: tuple[int, ...], conv_ranks: tuple[int, ...]
) -> None:
    found = read_continued_lora(write(tmp_path / FILE, shapes_of(wanted), told, value=2.0), FILE)
    assert found is not None
    assert (found.type, found.ranks, found.conv_ranks) == (kind, ranks, conv_ranks)
    assert found.alphas == ((2.0,) if ranks else ())
    assert found.text_encoder


def test_an_alpha_is_the_one_that_was_meant(tmp_path: Path) -> None:
    """The file's tensors have 16 bits."""
    shapes = shapes_of(Wanted("", 4, None, text=False))
    found = read_continued_lora(write(tmp_path / FILE, shapes, metadata(ss_network_alpha="0.1"), value=0.1), FILE)
    assert found is not None
    assert (found.alphas, found.text_encoder) == ((0.1,), False)


@pytest.mark.parametrize(
    ("value", "told", "alphas"),
    [
        (float("nan"), "1", ()),
        (float("inf"), "inf", ()),
        (2.0, "inf", (2.0,)),
        (2.0, "nan", (2.0,)),
        (2.0, "9" * 400, (2.0,)),
        (2.0, "true", (2.0,)),
    ],
)
def test_an_alpha_that_is_no_number_is_not_known(
    tmp_path: Path, value: float, told: str, alphas: tuple[float, ...]
) -> None:
    shapes = shapes_of(Wanted("", 8, None))
    found = read_continued_lora(write(tmp_path / FILE, shapes, metadata(ss_network_alpha=told), value=value), FILE)
    assert found
    assert (found.ranks, found.alphas) == ((8,), alphas)


def test_what_is_no_lora_gives_no_facts(tmp_path: Path) -> None:
    (tmp_path / FILE).write_bytes(b"nothing")
    write(tmp_path / "vae.safetensors", {"first_stage_model.x": (1,)})
    base = base_facts("sd15")
    for name in (FILE, "vae.safetensors", "missing.safetensors", "old.pt"):
        assert with_continued_lora(base, recipe(network={"network_weights": name}), tmp_path) == base
    assert with_continued_lora(base, recipe(), tmp_path) is base
