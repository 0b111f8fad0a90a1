"""Rules about [kohya] options, and what a passed-through option can do."""

from __future__ import annotations

from typing import Any

import pytest

from lorabake.planning.compile import compile_plan
from lorabake.util import resources
from lorabake_schemas.findings import Severity
from lorabake_schemas.guide.registry import RuleContext
from lorabake_schemas.guide.rules import collect_findings
from lorabake_schemas.guide.rules.extra_options import OPTION_REPLACEMENTS, RESERVED_OPTIONS
from lorabake_schemas.machine import MachineFacts
from lorabake_schemas.options import DATASET_LEVELS, Option
from lorabake_schemas.plan import Script
from lorabake_schemas.recipe import find_written_place
from situations import CPU, GPU, Fires, Misses, plan_of, recipe, situation, spoken, topic


def at(machine: MachineFacts = GPU, **tables: Any) -> RuleContext:
    return situation(recipe(**tables), machine=machine)


def kohya(**options: Any) -> RuleContext:
    return at(kohya=options)


SDXL: dict[str, Any] = {"base": {"family": "sdxl"}}
PREDICTS_V: dict[str, Any] = {"base": {"v_prediction": True}}
UNET_ONLY: dict[str, Any] = {"network": {"network_train_unet_only": True}}
CACHED: dict[str, Any] = {"kohya": {"cache_text_encoder_outputs": True}}
CALM: dict[str, Any] = {"captions": {"shuffle_caption": False}}
UNCACHED: dict[str, Any] = {"train": {"cache_latents": False}}
FIRES: list[Fires] = [
    ("G4.97", at(kohya={"color_aug": True}, **UNCACHED), "kohya.color_aug", "warning"),
    ("G5.6", kohya(full_fp16=True), "kohya.full_fp16", "warning"),
    ("G5.6", at(kohya={"full_bf16": True}, train={"mixed_precision": "bf16"}), "kohya.full_bf16", "warning"),
    ("S1", kohya(multires_noise_iteration=6), "kohya.multires_noise_iteration", "error"),
    ("S1", kohya(output_dir="x"), "kohya.output_dir", "error"),
    ("S1", kohya(network_dim=8), "kohya.network_dim", "error"),
    ("S1", kohya(metadata_author="me"), "kohya.metadata_author", "error"),
    ("S1", kohya(loss_type="l3"), "kohya.loss_type", "error"),
    ("S1", kohya(min_timestep="0"), "kohya.min_timestep", "error"),
    ("S1", kohya(cache_text_encoder_outputs=True), "kohya.cache_text_encoder_outputs", "error"),
    ("S20", at(kohya={"color_aug": True}, train={"cache_latents": True}), "kohya.color_aug", "error"),
    ("S20", at(kohya={"random_crop": True}, train={"cache_latents": True}), "kohya.random_crop", "error"),
    ("S20", at(kohya={"random_crop": True}, train={"cache_latents": False, "cache_latents_to_disk": True}),
     "kohya.random_crop", "error"),
    ("S41", at(**SDXL, **CACHED, **CALM), "kohya.cache_text_encoder_outputs", "error"),
    (
        "S41",
        at(**SDXL, **CACHED, **UNET_ONLY, captions={"shuffle_caption": True}),
        "kohya.cache_text_encoder_outputs",
        "error",
    ),
    (
        "S41",
        at(**SDXL, **CACHED, **UNET_ONLY, concept={"shuffle_caption": True}),
        "kohya.cache_text_encoder_outputs",
        "error",
    ),
    (
        "S41",
        at(
            **SDXL,
            **CACHED,
            **UNET_ONLY,
            regularization=[{"images": "r", "class": "food", "shuffle_caption": True}],
        ),
        "kohya.cache_text_encoder_outputs",
        "error",
    ),
    (
        "S41",
        at(
            **SDXL,
            **UNET_ONLY,
            kohya={"cache_text_encoder_outputs": False, "cache_text_encoder_outputs_to_disk": True},
            captions={"shuffle_caption": True},
        ),
        "kohya.cache_text_encoder_outputs_to_disk",
        "error",
    ),
    (
        "S41",
        at(**SDXL, **CACHED, **UNET_ONLY, captions={"shuffle_caption": False, "caption_dropout_rate": 0.1}),
        "kohya.cache_text_encoder_outputs",
        "error",
    ),
    (
        "S41",
        at(**SDXL, **UNET_ONLY, **CALM, kohya={**CACHED["kohya"], "token_warmup_step": 0.1}),
        "kohya.cache_text_encoder_outputs",
        "error",
    ),
    ("S39", at(kohya={"full_fp16": True}, train={"mixed_precision": "bf16"}), "kohya.full_fp16", "error"),
    ("S39", at(kohya={"full_fp16": True, "full_bf16": True}), "kohya.full_bf16", "error"),
    ("S39", at(kohya={"fp8_base": True}, train={"mixed_precision": "no"}), "kohya.fp8_base", "error"),
    ("S1", kohya(console_log_level="ERROR"), "kohya.console_log_level", "error"),
    ("S1", kohya(resume="state"), "kohya.resume", "error"),
    ("S1", kohya(wandb_api_key="x"), "kohya.wandb_api_key", "error"),
    ("S1", kohya(deepspeed=True), "kohya.deepspeed", "error"),
    ("S1.together", kohya(adaptive_noise_scale=0.01), "kohya.adaptive_noise_scale", "error"),
    (
        "S1.together",
        kohya(scale_v_pred_loss_like_noise_pred=True),
        "kohya.scale_v_pred_loss_like_noise_pred",
        "error",
    ),
    ("S1.together", at(**PREDICTS_V, kohya={"v_pred_like_loss": 0.5}), "kohya.v_pred_like_loss", "error"),
    ("S1.together", kohya(dim_from_weights=True), "kohya.dim_from_weights", "error"),
    ("S1.together", kohya(min_timestep=501, max_timestep=500), "kohya.max_timestep", "error"),
    ("S1.together", kohya(min_timestep=1000), "kohya.min_timestep", "error"),
    ("S1.together", kohya(max_timestep=1001), "kohya.max_timestep", "error"),
    (
        "S1.together",
        kohya(base_weights=["a", "b"], base_weights_multiplier=[0.5]),
        "kohya.base_weights_multiplier",
        "warning",
    ),
]  # fmt: skip
MISSES: list[Misses] = [
    ("G4.97", at(kohya={"color_aug": True}, train={"cache_latents": True})),
    ("G4.97", at(kohya={"color_aug": True}, train={"cache_latents": False, "cache_latents_to_disk": True})),
    ("G4.97", at(kohya={"color_aug": False}, **UNCACHED)),
    ("G5.6", kohya(full_fp16=False)),
    ("G5.6", at(kohya={"full_bf16": True}, train={"mixed_precision": "fp16"})),
    ("G5.6", at(train={"mixed_precision": "bf16"})),
    ("S1", kohya(multires_noise_iterations=6, loss_type="huber", lowram=True, min_timestep=0)),
    ("S1", at(**SDXL, **CACHED)),
    ("S20", at(kohya={"color_aug": True}, train={"cache_latents": False})),
    ("S20", kohya(color_aug=False)),
    ("S20", kohya(color_aug=True)),
    ("S41", at(**SDXL, **CACHED, **UNET_ONLY, **CALM)),
    ("S41", at(base={"family": "sdxl", "tags": "natural"}, **CACHED, **UNET_ONLY)),
    ("S41", at(**SDXL, **CACHED, **UNET_ONLY)),  # the guide's shuffling gives way: nobody wrote it
    ("S41", at(**SDXL, captions={"shuffle_caption": True}, kohya={"cache_text_encoder_outputs": False})),
    ("S41", at(**SDXL)),
    ("S41", at(**SDXL, **UNET_ONLY, **CALM, kohya={**CACHED["kohya"], "enable_wildcard": False})),
    ("S39", at(kohya={"full_fp16": True}, train={"mixed_precision": "fp16"})),
    ("S39", at(kohya={"full_bf16": False})),
    ("S39", at(kohya={"full_fp16": True})),
    ("S39", at(CPU, kohya={"full_fp16": True})),
    ("S39", at(CPU, kohya={"fp8_base": True})),
    ("S39", at(kohya={"full_bf16": True})),
    ("S39", at(kohya={"fp8_base": True}, train={"mixed_precision": "bf16"})),
    ("S1.together", at(kohya={"adaptive_noise_scale": 0.01}, train={"noise_offset": 0.05})),
    ("S1.together", at(**PREDICTS_V, kohya={"scale_v_pred_loss_like_noise_pred": True})),
    ("S1.together", kohya(v_pred_like_loss=0.5)),
    ("S1.together", at(kohya={"dim_from_weights": True}, network={"network_weights": "a.safetensors"})),
    ("S1.together", kohya(min_timestep=0, max_timestep=1000)),
    ("S1.together", kohya(min_timestep=500, max_timestep=500)),
    ("S1.together", kohya(validate_every_n_epochs=1)),
    ("S1.together", kohya(base_weights=["a", "b"])),
    ("S1.together", kohya(base_weights=["a"], base_weights_multiplier=[0.5])),
]


@pytest.mark.parametrize(("rule", "case", "key", "severity"), FIRES)
def test_fires(rule: str, case: RuleContext, key: str, severity: str) -> None:
    assert [(finding.key, finding.severity) for finding in spoken(rule, case)] == [(key, severity)]
    assert all(finding.fix for finding in spoken(rule, case))


@pytest.mark.parametrize(("rule", "case"), MISSES)
def test_stays_silent(rule: str, case: RuleContext) -> None:
    assert spoken(rule, case) == []


def test_every_rule_of_the_topic_is_covered_both_ways() -> None:
    assert {rule for rule, *_ in FIRES} == {rule for rule, _ in MISSES} == topic("extra_options")
    assert len(topic("extra_options")) >= 5


def test_the_place_of_an_option_that_a_recipe_has_is_named() -> None:
    def fix(name: str, value: Any) -> str:
        return spoken("S1", kohya(**{name: value}))[0].fix

    assert fix("network_dim", 8) == "write it as network.network_dim"
    assert fix("metadata_license", "x") == "write it as metadata.license"
    assert fix("training_comment", "x") == "write it as metadata.comment"
    assert fix("sample_every_n_steps", 5) == "write it as sample.sample_every_n_steps"
    assert "base.v_prediction" in spoken("S1", kohya(v_parameterization=True))[0].message


def test_own_options_are_the_parsers() -> None:
    """An entry that no parser knows would never be met."""
    scripts: tuple[Script, ...] = ("train_network.py", "sdxl_train_network.py")
    known = {option.name for script in scripts for option in resources.load_script_options(script)}
    dataset = resources.load_dataset_options()
    known |= {name for level in DATASET_LEVELS for name in dataset.at(level)}
    assert len(RESERVED_OPTIONS) > 25
    assert set(RESERVED_OPTIONS) - known == set()
    assert OPTION_REPLACEMENTS.keys() <= RESERVED_OPTIONS.keys()


@pytest.mark.parametrize(("value", "fix"), [(True, 'write attention = "xformers" under [train]'), (False, "remove it")])
def test_what_a_recipe_says_otherwise_is_offered(value: bool, fix: str) -> None:
    assert spoken("S1", situation(recipe(kohya={"xformers": value})))[0].fix == fix


def _value(option: Option) -> Any:
    """Some value that the option takes."""
    if option.action == "StoreTrueAction":
        return True
    if option.choices:
        return next(choice for choice in reversed(option.choices) if choice is not None)
    if option.nargs == "*":
        return [1.0] if option.type == "float" else ["last_epoch=-1"]
    return {"int": 3, "float": 0.5, "int_or_float": 3}.get(option.type or "", "x")


@pytest.mark.parametrize(("script", "family"), [("train_network.py", "sd15"), ("sdxl_train_network.py", "sdxl")])
def test_every_option_of_the_pin_is_passed_through_or_refused_by_name(script: Script, family: str) -> None:
    """None may end in an internal error: what the rules accept compiles, together with everything lorabake writes."""
    options, passed = resources.load_script_options(script), 0
    for option in options:
        made = recipe(
            base={"family": family, "v_prediction": True},
            train={"noise_offset": 0.1},
            network={"network_weights": "a.safetensors"},
            kohya={option.name: _value(option)},
            sample={"prompts": ["a"]},
            regularization=[{"class": "food", "images": "reg"}],
            metadata={"author": "me", "comment": "hi"},
        )
        refused = [f for f in collect_findings(situation(made)) if f.severity is Severity.ERROR]
        written = ("kohya", option.name)
        if refused:
            assert {find_written_place(f.where, {written}) for f in refused} == {written}, option.name
            continue
        compiled = compile_plan(plan_of(made), options, resources.load_dataset_options()).fill({})
        assert f"{option.name} = ".encode() in compiled["train.toml"]
        passed += 1
    assert passed > 70
    assert passed < len(options) - 80


@pytest.mark.parametrize(
    ("tables", "fix"),
    [
        ({"kohya": {"d_coef": 2.0}}, "use `train.optimizer_args.d_coef`"),
        ({"kohya": {"is_reg": True}}, "use `[[regularization]]`"),
        ({"kohya": {"additional_parameters": "x"}}, "write each of these options under [kohya], under its own name"),
        ({"kohya": {"use_cp": True}, "network": {"type": "locon"}}, "use `network.args.use_cp`"),
        ({"kohya": {"bypass_mode": True}, "network": {"type": "loha"}}, "use `network.args.bypass_mode`"),
    ],
)
def test_where_what_is_not_an_option_belongs(tables: dict[str, Any], fix: str) -> None:
    assert [str(each.fix) for each in collect_findings(at(**tables)) if each.rule == "S1"] == [fix]


def test_an_argument_of_other_networks_is_not_suggested() -> None:
    (found,) = (each for each in collect_findings(at(kohya={"bypass_mode": True})) if each.rule == "S1")
    assert "network.args" not in str(found.fix)


@pytest.mark.parametrize(("machine", "optimizer"), [(GPU, "AdamW8bit"), (CPU, "AdamW")])
def test_an_optimizer_that_this_machine_can_use(machine: MachineFacts, optimizer: str) -> None:
    tables: dict[str, Any] = {
        "train": {"optimizer": "Prodigy"},
        "network": {"type": "lora", "args": {"loraplus_lr_ratio": 16.0}},
    }
    (found,) = (each for each in collect_findings(at(machine, **tables)) if each.rule == "S27.layers")
    assert found.fix is not None
    assert str(found.fix).endswith(f"such as {optimizer}")
