"""Rules about [kohya] options, buckets, memory, files and the machine; and what a passed-through option can do."""

from __future__ import annotations

from typing import Any

import pytest

from lorabake import resources
from lorabake.planning.compile import compile_plan
from lorabake_schemas.findings import Severity
from lorabake_schemas.guide import Situation, findings
from lorabake_schemas.guide.machine import OWN
from lorabake_schemas.machine import MachineFacts
from lorabake_schemas.options import Option
from lorabake_schemas.plan import Script
from situations import CPU, GPU, Fires, Misses, plan_of, recipe, situation, spoken, topic


def at(machine: MachineFacts = GPU, **tables: Any) -> Situation:
    return situation(recipe(**tables), machine=machine)


def kohya(**options: Any) -> Situation:
    return at(kohya=options)


def train(**given: Any) -> Situation:
    return at(train=given)


def on_cpu(*, launching: bool = False, rehearsing: bool = False, **given: Any) -> Situation:
    return situation(recipe(train=given), machine=CPU, launching=launching, rehearsing=rehearsing)


SDXL: dict[str, Any] = {"base": {"family": "sdxl"}}
UNET_ONLY: dict[str, Any] = {"network": {"network_train_unet_only": True}}
CACHED: dict[str, Any] = {"kohya": {"cache_text_encoder_outputs": True}}
CALM: dict[str, Any] = {"captions": {"shuffle_caption": False}}
FIRES: list[Fires] = [
    ("S1", kohya(multires_noise_iteration=6), "kohya.multires_noise_iteration", "error"),
    ("S1", kohya(output_dir="x"), "kohya.output_dir", "error"),
    ("S1", kohya(network_dim=8), "kohya.network_dim", "error"),
    ("S1", kohya(metadata_author="me"), "kohya.metadata_author", "error"),
    ("S1", kohya(loss_type="l3"), "kohya.loss_type", "error"),
    ("S1", kohya(min_timestep="0"), "kohya.min_timestep", "error"),
    ("S1", kohya(cache_text_encoder_outputs=True), "kohya.cache_text_encoder_outputs", "error"),
    ("S15", train(min_bucket_reso=832), "train.min_bucket_reso", "error"),
    ("S15", train(max_bucket_reso=640), "train.max_bucket_reso", "error"),
    ("S15", train(resolution=[512, 1024], max_bucket_reso=960), "train.max_bucket_reso", "error"),
    ("S15", train(max_bucket_reso=640, bucket_no_upscale=True), "train.max_bucket_reso", "error"),
    ("S15", train(bucket_reso_steps=96), "train.bucket_reso_steps", "error"),
    ("S15", train(bucket_reso_steps=96, bucket_no_upscale=True), "train.bucket_reso_steps", "error"),
    ("S15", at(**SDXL, train={"bucket_reso_steps": 48}), "train.bucket_reso_steps", "error"),
    ("S15", at(**SDXL, train={"max_bucket_reso": 960}), "train.max_bucket_reso", "error"),
    (
        "S38",
        train(persistent_data_loader_workers=True, max_data_loader_n_workers=0),
        "train.persistent_data_loader_workers",
        "error",
    ),
    ("S20", kohya(color_aug=True), "kohya.color_aug", "error"),
    ("S20", kohya(random_crop=True), "kohya.random_crop", "error"),
    ("S20", at(kohya={"random_crop": True}, train={"cache_latents": False, "cache_latents_to_disk": True}),
     "kohya.random_crop", "error"),
    ("S41", at(**SDXL, **CACHED, **CALM), "kohya.cache_text_encoder_outputs", "error"),
    ("S41", at(**SDXL, **CACHED, **UNET_ONLY), "kohya.cache_text_encoder_outputs", "error"),
    (
        "S41",
        at(**SDXL, **CACHED, **UNET_ONLY, captions={"shuffle_caption": False, "caption_dropout_rate": 0.1}),
        "kohya.cache_text_encoder_outputs",
        "error",
    ),
    ("S39", at(kohya={"full_fp16": True}, train={"mixed_precision": "bf16"}), "kohya.full_fp16", "error"),
    ("S39", at(CPU, kohya={"full_fp16": True}), "kohya.full_fp16", "error"),
    ("S39", at(CPU, kohya={"fp8_base": True}), "kohya.fp8_base", "error"),
    ("S39", at(kohya={"full_bf16": True}), "kohya.full_bf16", "error"),
    ("S39", at(kohya={"fp8_base": True}, train={"mixed_precision": "no"}), "kohya.fp8_base", "error"),
    ("G4.14", at(save={"save_precision": "float"}), "save.save_precision", "warning"),
    ("G4.13", at(save={"save_model_as": "ckpt"}), "save.save_model_as", "warning"),
    ("G4.13", at(save={"save_model_as": "pt"}), "save.save_model_as", "warning"),
    ("G4.96", on_cpu(optimizer="AdamW8bit"), "train.optimizer", "warning"),
    ("G4.96", on_cpu(optimizer="AdamW8bit", launching=True), "train.optimizer", "error"),
    ("G4.96", on_cpu(attention="xformers", launching=True), "train.attention", "error"),
    ("G4.96", on_cpu(mixed_precision="fp16", launching=True), "train.mixed_precision", "error"),
]  # fmt: skip
MISSES: list[Misses] = [
    ("S1", kohya(multires_noise_iterations=6, loss_type="huber", lowram=True, min_timestep=0)),
    ("S1", at(**SDXL, **CACHED)),
    ("S15", train(min_bucket_reso=768, max_bucket_reso=768)),
    ("S15", train(max_bucket_reso=750)),  # rounded up to 768 before it is looked at
    ("S15", at(base={"native_resolution": 512}, train={"max_bucket_reso": 640})),
    ("S15", train(max_bucket_reso=64, enable_bucket=False)),
    ("S15", at(**SDXL, train={"bucket_reso_steps": 32})),
    ("S15", train(bucket_reso_steps=128)),
    ("S38", train(persistent_data_loader_workers=True)),
    ("S38", train(max_data_loader_n_workers=0)),
    ("S38", train(persistent_data_loader_workers=False, max_data_loader_n_workers=0)),
    ("S20", at(kohya={"color_aug": True}, train={"cache_latents": False})),
    ("S20", kohya(color_aug=False)),
    ("S41", at(**SDXL, **CACHED, **UNET_ONLY, **CALM)),
    ("S41", at(base={"family": "sdxl", "tags": "natural"}, **CACHED, **UNET_ONLY)),
    ("S41", at(**SDXL)),
    ("S39", at(kohya={"full_fp16": True}, train={"mixed_precision": "fp16"})),
    ("S39", at(kohya={"full_bf16": False})),
    ("S39", at(kohya={"full_fp16": True})),
    ("S39", at(kohya={"fp8_base": True}, train={"mixed_precision": "bf16"})),
    ("G4.14", at(save={"save_precision": "bf16"})),
    ("G4.13", at(save={"save_model_as": "safetensors"})),
    ("G4.96", on_cpu(optimizer="AdamW", attention="sdpa", mixed_precision="bf16", launching=True)),
    ("G4.96", on_cpu(optimizer="AdamW8bit", rehearsing=True)),
    ("G4.96", train(optimizer="AdamW8bit", attention="xformers", mixed_precision="fp16")),
]


@pytest.mark.parametrize(("rule", "case", "key", "severity"), FIRES)
def test_fires(rule: str, case: Situation, key: str, severity: str) -> None:
    assert [(finding.key, finding.severity) for finding in spoken(rule, case)] == [(key, severity)]
    assert all(finding.fix for finding in spoken(rule, case))


@pytest.mark.parametrize(("rule", "case"), MISSES)
def test_stays_silent(rule: str, case: Situation) -> None:
    assert spoken(rule, case) == []


def test_every_rule_of_the_topic_is_covered_both_ways() -> None:
    assert {rule for rule, *_ in FIRES} == {rule for rule, _ in MISSES} == topic("machine")
    assert len(topic("machine")) >= 9


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
    known = {option.name for script in scripts for option in resources.option_snapshot(script)}
    dataset = resources.dataset_options()
    known |= {name for level in ("general", "datasets", "subsets") for name in dataset.at(level)}
    assert len(OWN) > 25
    assert set(OWN) - known == set()


def _value(option: Option) -> Any:
    """Some value that the option takes."""
    if option.action == "StoreTrueAction":
        return True
    if option.choices:
        return next(choice for choice in reversed(option.choices) if choice is not None)
    if option.nargs == "*":
        return [1.0] if option.type == "float" else ["a=1"]
    return {"int": 3, "float": 0.5, "int_or_float": 3}.get(option.type or "", "x")


@pytest.mark.parametrize(("script", "family"), [("train_network.py", "sd15"), ("sdxl_train_network.py", "sdxl")])
def test_every_option_of_the_pin_is_passed_through_or_refused_by_name(script: Script, family: str) -> None:
    """None may end in our own error: what the rules let pass, compiles, beside everything lorabake writes."""
    options, passed = resources.option_snapshot(script), 0
    for option in options:
        made = recipe(
            base={"family": family, "v_prediction": True},
            kohya={option.name: _value(option)},
            sample={"prompts": ["a"]},
            regularisation=[{"class": "food", "images": "reg"}],
            metadata={"author": "me", "comment": "hi"},
        )
        refused = [f for f in findings(situation(made)) if f.severity is Severity.ERROR]
        if refused:
            assert {f.where for f in refused} == {("kohya", option.name)}, option.name
            continue
        compiled = compile_plan(plan_of(made), options, resources.dataset_options(), {})
        assert f"{option.name} = ".encode() in compiled.train
        passed += 1
    assert passed > 80
    assert passed < len(options) - 80
