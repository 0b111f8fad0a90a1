"""The schema of a recipe: what it takes, and that every wrong value of every key gives exactly one finding."""

from __future__ import annotations

import random
import tomllib
from typing import Any

import pytest
from pydantic import ValidationError

from lorabake.recipe.validation import findings_from_errors, list_all_keys, list_keys
from lorabake_schemas.findings import Finding, Severity
from lorabake_schemas.recipe import Recipe
from situations import RECIPE, recipe

MINIMAL = tomllib.loads(RECIPE)


def found(raw: dict[str, Any]) -> list[Finding]:
    """The findings about a raw recipe; empty when it is valid."""
    try:
        Recipe.model_validate(raw)
    except ValidationError as error:
        return findings_from_errors(error.errors(include_url=False), raw)
    return []


def changed(table: str, key: str, value: Any) -> dict[str, Any]:
    """The minimal recipe with one value set."""
    raw: dict[str, Any] = tomllib.loads(RECIPE)
    if not table:
        return raw | {key: value}
    if table == "concept":
        raw["concept"][0][key] = value
        return raw
    beginnings: dict[str, Any] = {
        "sample": {"prompts": ["a"]},
        "regularization": {"class": "food", "images": "reg"},
        "ignore": {"rule": "G1.2", "reason": "known"},
    }
    rows = raw.setdefault(table, dict(beginnings.get(table, {})))
    rows[key] = value
    if table in {"regularization", "ignore"}:
        raw[table] = [rows]
    return raw


def test_the_minimal_recipe_leaves_everything_else_unsaid() -> None:
    made = Recipe.model_validate(MINIMAL)
    assert made.network.model_dump(exclude_none=True) == {}
    assert made.train.model_dump(exclude_none=True) == {}
    assert made.captions.model_dump(exclude_none=True) == {}
    assert made.save.model_dump(exclude_none=True) == {}
    assert made.sample is None
    assert made.kohya == {}
    assert made.concept[0].class_ == "food"


@pytest.mark.parametrize(
    ("table", "key"), [("network", "network_dim"), ("", "kind"), ("kohya", "x"), ("base", "model")]
)
def test_a_number_too_long_to_be_written_out_is_a_finding(table: str, key: str) -> None:
    assert len(found(changed(table, key, 16**5000))) == 1


def test_minus_zero_is_zero() -> None:
    made = recipe(train={"noise_offset": -0.0, "lr_warmup_steps": -0.0}, kohya={"huber_c": -0.0, "x": [-0.0, 1.0]})
    numbers = (made.train.noise_offset, made.train.lr_warmup_steps, made.kohya["huber_c"], made.kohya["x"])
    assert repr(numbers) == "(0.0, 0.0, 0.0, (0.0, 1.0))"


def test_a_wrong_bucket_step_is_the_only_mistake() -> None:
    wrong = changed("train", "bucket_reso_steps", "32") | {"train": {"bucket_reso_steps": "32", "resolution": 736}}
    assert [finding.key for finding in found(wrong)] == ["train.bucket_reso_steps"]


def test_a_recipe_cannot_be_changed() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        setattr(recipe(), "name", "other")  # noqa: B010 - the type checkers know it, too


# One value of a wrong kind, out of range or out of choice per key, with the code of the finding it must give.
WRONG: list[tuple[str, str, Any, str]] = [
    ("", "name", 3, "wrong-type"),
    ("", "name", "", "out-of-range"),
    ("", "name", "a/b", "out-of-range"),
    ("", "name", "a\\b", "out-of-range"),
    ("", "name", ".hidden", "out-of-range"),
    ("", "name", "trailing ", "out-of-range"),
    ("", "name", "a\nb", "out-of-range"),
    ("", "name", "a\x00b", "out-of-range"),
    ("", "name", "x" * 121, "out-of-range"),
    ("", "name", "漢" * 100, "out-of-range"),
    ("metadata", "comment", "a\0b", "out-of-range"),
    ("metadata", "comment", "漢" * 33_334, "out-of-range"),
    ("metadata", "comment", "", "out-of-range"),
    ("concept", "token", " ", "out-of-range"),
    ("concept", "token", ",", "out-of-range"),
    ("concept", "token", "a\0b", "out-of-range"),
    ("concept", "images", "x" * 256, "out-of-range"),
    ("concept", "images", "x/" * 3000, "out-of-range"),
    ("concept", "num_repeats", 2**40, "out-of-range"),
    ("train", "lr_scheduler_num_cycles", 5_000_000, "out-of-range"),
    ("train", "lr_warmup_steps", 2**40, "out-of-range"),
    ("train", "max_train_steps", 2**40, "out-of-range"),
    ("train", "resolution", 2**40, "out-of-range"),
    ("train", "learning_rate", 1e300, "out-of-range"),
    ("train", "optimizer_args", {"d0": 2**40}, "out-of-range"),
    ("network", "network_dim", 2**40, "out-of-range"),
    ("kohya", "min_timestep", 2**40, "out-of-range"),
    ("kohya", "huber_c", "a\0b", "out-of-range"),
    ("launch", "gpu_ids", "9" * 5000, "out-of-range"),
    ("launch", "num_processes", 2**40, "out-of-range"),
    ("captions", "caption_extension", ".a b", "out-of-range"),
    ("sample", "prompts", ["a --d 99999999999999999999"], "out-of-range"),
    ("sample", "prompts", ["a --w 99999999"], "out-of-range"),
    ("", "kind", "caracter", "bad-choice"),
    ("", "kind", 1, "bad-choice"),
    ("", "base", "model.safetensors", "wrong-type"),
    ("", "concept", {"token": "a", "images": "b"}, "wrong-type"),
    ("", "concept", [], "out-of-range"),
    ("", "concept", "x", "wrong-type"),
    ("", "network", 3, "wrong-type"),
    ("base", "model", 1, "wrong-type"),
    ("base", "model", "", "out-of-range"),
    ("base", "family", "sd14", "bad-choice"),
    ("base", "tags", "e612", "bad-choice"),
    ("base", "v_prediction", "true", "wrong-type"),
    ("base", "v_prediction", 1, "wrong-type"),
    ("base", "zero_terminal_snr", 0, "wrong-type"),
    ("base", "native_resolution", 32, "out-of-range"),
    ("base", "native_resolution", 512.0, "wrong-type"),
    ("base", "clip_skip", 0, "out-of-range"),
    ("base", "clip_skip", 13, "out-of-range"),
    ("base", "vae", True, "wrong-type"),
    ("base", "tokenizer_cache_dir", [], "wrong-type"),
    ("concept", "token", 5, "wrong-type"),
    ("concept", "token", "", "out-of-range"),
    ("concept", "class", 5, "wrong-type"),
    ("concept", "captions", "no", "bad-choice"),
    ("concept", "resolution", "512;512", "wrong-type"),
    ("concept", "resolution", 2**40, "out-of-range"),
    ("train", "resolutions", [], "out-of-range"),
    ("train", "resolutions", 512, "wrong-type"),
    ("train", "resolutions", [512, 7], "out-of-range"),
    ("regularization", "resolution", "512;512", "wrong-type"),
    ("train", "min_bucket_reso", [], "out-of-range"),
    ("train", "max_bucket_reso", [768, 7], "out-of-range"),
    ("train", "bucket_reso_steps", [64, 7], "out-of-range"),
    ("train", "resolutions", [512, "76a"], "wrong-type"),
    ("train", "train_batch_size", [], "out-of-range"),
    ("train", "train_batch_size", [1, 0], "out-of-range"),
    ("concept", "outfit", False, "wrong-type"),
    ("concept", "images", [], "wrong-type"),
    ("concept", "num_repeats", -1, "out-of-range"),
    ("concept", "num_repeats", 0, "out-of-range"),
    ("concept", "num_repeats", 1.0, "wrong-type"),
    ("concept", "num_repeats", True, "wrong-type"),
    ("concept", "asymmetric", "yes", "wrong-type"),
    ("concept", "flip_aug", 1, "wrong-type"),
    ("concept", "shuffle_caption", "on", "wrong-type"),
    ("concept", "keep_tokens", -1, "out-of-range"),
    ("regularization", "class", 1, "wrong-type"),
    ("regularization", "images", 1, "wrong-type"),
    ("regularization", "num_repeats", 0, "out-of-range"),
    ("network", "type", 3, "wrong-type"),
    ("network", "args", "loraplus_lr_ratio=16", "wrong-type"),
    ("network", "network_dim", "sixteen", "wrong-type"),
    ("network", "network_dim", 0, "out-of-range"),
    ("network", "network_alpha", 0, "out-of-range"),
    ("network", "network_alpha", "1", "wrong-type"),
    ("network", "conv_dim", -1, "out-of-range"),
    ("network", "conv_alpha", 0.0, "out-of-range"),
    ("network", "network_dropout", 1.0, "out-of-range"),
    ("network", "rank_dropout", -0.1, "out-of-range"),
    ("network", "module_dropout", "0.1", "wrong-type"),
    ("network", "dora_wd", 1, "wrong-type"),
    ("network", "factor", -2, "out-of-range"),
    ("network", "block_size", 0, "out-of-range"),
    ("network", "constraint", -1.0, "out-of-range"),
    ("network", "preset", 1, "wrong-type"),
    ("network", "use_tucker", "True", "wrong-type"),
    ("network", "use_scalar", 0, "wrong-type"),
    ("network", "rescaled", 0, "wrong-type"),
    ("network", "train_norm", 0, "wrong-type"),
    ("network", "network_train_unet_only", "true", "wrong-type"),
    ("network", "network_weights", 1, "wrong-type"),
    ("network", "scale_weight_norms", -1, "out-of-range"),
    ("train", "optimizer", " ", "out-of-range"),
    ("train", "optimizer", 8, "wrong-type"),
    ("train", "optimizer", ".", "wrong-type"),
    ("train", "optimizer", "torch.optim.AdamW.", "wrong-type"),
    ("train", "optimizer", "8bit", "wrong-type"),
    ("train", "optimizer_args", "decouple", "wrong-type"),
    ("train", "optimizer_args", ["eps=1e-8", "d=1", "eps=1e-6"], "wrong-type"),
    ("train", "lr_scheduler_type", "torch..StepLR", "wrong-type"),
    ("train", "lr_scheduler_args", ["T_max"], "wrong-type"),
    ("train", "optimizer_args", ["decouple=True", 1], "wrong-type"),
    ("train", "optimizer_args", 1, "wrong-type"),
    ("train", "optimizer_args", {"betas": "0.9", "d0": {}}, "wrong-type"),
    ("train", "learning_rate", 0, "out-of-range"),
    ("train", "learning_rate", "1e-4", "wrong-type"),
    ("train", "learning_rate", float("inf"), "out-of-range"),
    ("train", "unet_lr", -1e-4, "out-of-range"),
    ("train", "text_encoder_lr", float("nan"), "out-of-range"),
    ("train", "lr_scheduler", "cosinus", "bad-choice"),
    ("train", "lr_scheduler", "reduce_lr_on_plateau", "bad-choice"),
    ("train", "lr_warmup_steps", 1.0, "S4"),
    ("train", "lr_warmup_steps", 100.0, "S4"),
    ("train", "lr_warmup_steps", -1, "out-of-range"),
    ("train", "lr_warmup_steps", "10 percent", "wrong-type"),
    ("train", "lr_scheduler_num_cycles", 0, "out-of-range"),
    ("train", "max_train_epochs", "ten", "wrong-type"),
    ("train", "max_train_epochs", 0, "out-of-range"),
    ("train", "max_train_steps", 1.5, "wrong-type"),
    ("train", "exposures", 0, "out-of-range"),
    ("train", "train_batch_size", 0, "out-of-range"),
    ("train", "gradient_accumulation_steps", 0, "out-of-range"),
    ("train", "resolution", 0, "out-of-range"),
    ("train", "resolution", [768, 63], "out-of-range"),
    ("train", "resolution", "768 by 768", "wrong-type"),
    ("train", "enable_bucket", "true", "wrong-type"),
    ("train", "min_bucket_reso", 32, "out-of-range"),
    ("train", "max_bucket_reso", "960", "wrong-type"),
    ("train", "bucket_reso_steps", 16, "out-of-range"),
    ("train", "bucket_no_upscale", 0, "wrong-type"),
    ("train", "mixed_precision", "bf17", "bad-choice"),
    ("train", "mixed_precision", False, "bad-choice"),
    ("train", "attention", "xformer", "bad-choice"),
    ("train", "gradient_checkpointing", 1, "wrong-type"),
    ("train", "cache_latents", 1, "wrong-type"),
    ("train", "cache_latents_to_disk", 1, "wrong-type"),
    ("train", "seed", -1, "out-of-range"),
    ("train", "seed", 2**32, "out-of-range"),
    ("train", "max_data_loader_n_workers", -1, "out-of-range"),
    ("train", "persistent_data_loader_workers", 1, "wrong-type"),
    ("train", "min_snr_gamma", -5, "out-of-range"),
    ("train", "debiased_estimation_loss", 1, "wrong-type"),
    ("train", "noise_offset", -0.1, "out-of-range"),
    ("train", "prior_loss_weight", "1", "wrong-type"),
    ("train", "max_grad_norm", -1, "out-of-range"),
    ("train", "max_token_length", 200, "bad-choice"),
    ("train", "no_half_vae", 1, "wrong-type"),
    ("captions", "caption_extension", "txt", "out-of-range"),
    ("captions", "caption_extension", ".", "out-of-range"),
    ("captions", "shuffle_caption", 1, "wrong-type"),
    ("captions", "keep_tokens", 2.0, "wrong-type"),
    ("captions", "caption_prefix", 1, "wrong-type"),
    ("captions", "caption_suffix", "", "out-of-range"),
    ("captions", "caption_dropout_rate", 1, "out-of-range"),
    ("captions", "caption_tag_dropout_rate", -0.5, "out-of-range"),
    ("captions", "caption_dropout_every_n_epochs", -1, "out-of-range"),
    ("captions", "keep_tokens_separator", " ", "out-of-range"),
    ("captions", "secondary_separator", 3, "wrong-type"),
    ("captions", "enable_wildcard", "yes", "wrong-type"),
    ("captions", "tagging", "mixed", "bad-choice"),
    ("concept", "tags", "booru", "bad-choice"),
    ("concept", "masks", 1, "wrong-type"),
    ("concept", "alpha_mask", "yes", "wrong-type"),
    ("concept", "metadata_file", " ", "out-of-range"),
    ("concept", "caption_extension", "cap", "out-of-range"),
    ("concept", "keep_tokens_separator", "\0", "out-of-range"),
    ("concept", "secondary_separator", " ", "out-of-range"),
    ("concept", "enable_wildcard", 1, "wrong-type"),
    ("concept", "caption_prefix", " ", "out-of-range"),
    ("concept", "caption_suffix", 2, "wrong-type"),
    ("concept", "caption_dropout_rate", 1.0, "out-of-range"),
    ("concept", "caption_dropout_every_n_epochs", 0.5, "wrong-type"),
    ("concept", "caption_tag_dropout_rate", -1, "out-of-range"),
    ("regularization", "caption_extension", "", "out-of-range"),
    ("regularization", "shuffle_caption", "no", "wrong-type"),
    ("regularization", "keep_tokens", -1, "out-of-range"),
    ("regularization", "enable_wildcard", 1, "wrong-type"),
    ("regularization", "caption_prefix", " ", "out-of-range"),
    ("regularization", "caption_suffix", 2, "wrong-type"),
    ("regularization", "caption_dropout_rate", 1.0, "out-of-range"),
    ("regularization", "caption_tag_dropout_rate", -1, "out-of-range"),
    ("save", "runs", 1, "wrong-type"),
    ("save", "save_every_n_epochs", 0, "out-of-range"),
    ("save", "save_every_n_steps", 0, "out-of-range"),
    ("save", "save_last_n_epochs", 0, "out-of-range"),
    ("save", "save_last_n_steps", 0, "out-of-range"),
    ("save", "save_precision", "fp8", "bad-choice"),
    ("save", "save_model_as", "safetensor", "bad-choice"),
    ("save", "save_state", 1, "wrong-type"),
    ("save", "save_state_on_train_end", 1, "wrong-type"),
    ("sample", "prompts", [], "out-of-range"),
    ("sample", "prompts", "a cat", "wrong-type"),
    ("sample", "prompts", ["a\nb"], "out-of-range"),
    ("sample", "prompts", ["# a"], "out-of-range"),
    ("sample", "sample_every_n_epochs", 0, "out-of-range"),
    ("sample", "sample_every_n_steps", 0, "out-of-range"),
    ("sample", "sample_at_first", 1, "wrong-type"),
    ("sample", "sample_sampler", "eular", "bad-choice"),
    ("train", "text_encoder_lr", [5e-5, 1e-5], "wrong-type"),
    ("validation", "validation_split", 1, "out-of-range"),
    ("validation", "validation_seed", -1, "out-of-range"),
    ("validation", "validate_every_n_epochs", 0, "out-of-range"),
    ("validation", "validate_every_n_steps", 0, "out-of-range"),
    ("validation", "max_validation_steps", 0, "out-of-range"),
    ("log", "log_with", "comet", "bad-choice"),
    ("log", "log_tracker_name", "", "out-of-range"),
    ("log", "wandb_run_name", 1, "wrong-type"),
    *[("metadata", key, 1, "wrong-type") for key in list_keys(("metadata",))],
    ("launch", "num_processes", 0, "out-of-range"),
    ("launch", "gpu_ids", "0;1", "out-of-range"),
    ("launch", "num_cpu_threads_per_process", 0, "out-of-range"),
    ("launch", "main_process_port", 80, "out-of-range"),
    ("launch", "deterministic", "yes", "wrong-type"),
    ("watch", "nan_steps", -1, "out-of-range"),
    ("watch", "stall_seconds", -0.5, "out-of-range"),
    ("watch", "loss_jump", 1, "wrong-type"),
    ("watch", "disk_space", "no", "wrong-type"),
    ("ignore", "rule", 1, "wrong-type"),
    ("ignore", "reason", "a", "out-of-range"),
    ("kohya", "lowram", {"a": 1}, "wrong-type"),
    ("kohya", "loss_type", [1, "a"], "wrong-type"),
]


@pytest.mark.parametrize(("table", "key", "value", "code"), WRONG)
def test_a_wrong_value_is_one_finding_at_its_key(table: str, key: str, value: Any, code: str) -> None:
    findings = found(changed(table, key, value))
    assert [(finding.rule, finding.severity) for finding in findings] == [(code, Severity.ERROR)]
    named = [part for part in findings[0].where if isinstance(part, str)]
    assert named[:2] == ([table, key] if table else [key])
    assert findings[0].message
    assert findings[0].fix


def test_every_key_of_a_recipe_has_a_wrong_value_above() -> None:
    covered = {(table, key) for table, key, _, _ in WRONG}
    tables = {key for table, key in list_all_keys() if not table and list_keys((key,))}
    everything = {(table, key) for table, key in list_all_keys() if table or key not in tables}
    missing = everything - covered - {("", "kohya")}
    assert len(everything) > 100
    assert missing == set()


@pytest.mark.parametrize(
    ("table", "key", "value"),
    [
        ("", "name", "Ünïcode 漢-1.2"),
        ("concept", "keep_tokens", 0),
        ("network", "network_alpha", 1),
        ("network", "conv_dim", 0),
        ("network", "factor", -1),
        ("train", "lr_warmup_steps", 100),
        ("train", "lr_warmup_steps", 0.1),
        ("train", "lr_warmup_steps", 0),
        ("train", "unet_lr", 0),
        ("train", "resolution", 704),
        ("train", "resolution", [512, 768]),
        ("train", "resolutions", [512, [640, 768], 1024]),
        ("train", "train_batch_size", [4, 2, 1]),
        ("concept", "resolution", [512, 768]),
        ("concept", "captions", "none"),
        ("train", "bucket_reso_steps", 32),
        ("train", "optimizer", "adamw8bit"),
        ("train", "optimizer", "RAdam"),
        ("train", "optimizer", "my.package.Optimizer"),
        ("network", "args", {"block_dims": [2, 2], "loraplus_lr_ratio": 16, "full_matrix": True, "x": "y"}),
        ("train", "optimizer_args", ["betas=0.9,0.99", "decouple=True"]),
        ("train", "optimizer_args", "betas=0.9,0.99 decouple=True"),
        ("train", "optimizer_args", "eps=1e-8 eps=1e-8 d_limiter=None"),
        ("train", "lr_scheduler_type", ""),
        ("train", "resolution", 700),
        ("train", "resolution", "512,650"),
        ("train", "max_bucket_reso", [768, 1024]),
        ("train", "lr_scheduler_args", {"milestones": [30, 80], "gamma": 0.1}),
        ("train", "optimizer_args", {"betas": [0.9, 0.99], "decouple": True, "eps": 1e-8, "d": 1, "s": "x"}),
        ("train", "max_token_length", 75),
        ("captions", "caption_extension", ".caption"),
        ("captions", "tagging", "baked"),
        ("concept", "caption_prefix", ""),
        ("concept", "tags", "natural"),
        ("concept", "caption_dropout_every_n_epochs", 0),
        ("launch", "gpu_ids", "0,1"),
        ("kohya", "lr_scheduler_args", ["a=1"]),
        ("kohya", "multires_noise_iterations", 6),
    ],
)
def test_a_right_value_is_taken(table: str, key: str, value: Any) -> None:
    assert found(changed(table, key, value)) == []


def test_numbers_keep_their_kind() -> None:
    """An integer warm-up is steps and a float a share (S4); sizes stay whole."""
    made = recipe(train={"lr_warmup_steps": 100, "resolution": [512, 768]}, kohya={"a": 1, "b": 1.0, "c": True})
    assert repr(made.train.lr_warmup_steps) == "100"
    assert repr(made.train.resolution) == "(512, 768)"
    assert repr(made.kohya) == "{'a': 1, 'b': 1.0, 'c': True}"
    assert repr(recipe(train={"lr_warmup_steps": 0.0}).train.lr_warmup_steps) == "0.0"
    assert repr(recipe(network={"network_alpha": 1}).network.network_alpha) == "1.0"


def test_the_optimizer_gets_its_own_spelling() -> None:
    assert recipe(train={"optimizer": "adamw8BIT"}).train.optimizer == "AdamW8bit"
    assert recipe(train={"optimizer": "prodigy"}).train.optimizer == "Prodigy"


def test_random_damage_never_gets_past_the_schema_unnamed() -> None:
    """Any kind of value at any key: either it is valid, or every finding names a key and a fix."""
    picked = random.Random(7)  # noqa: S311 - no secrets here
    values: list[Any] = [None, True, -1, 0, 3, 2.5, float("nan"), "", "x", "1", [], [1], ["a"], [1, "a"], {}, {"a": 1}]
    keys = [pair for pair in list_all_keys() if pair[0] != ""]
    refused = 0
    for _ in range(2000):
        table, key = picked.choice(keys)
        findings = found(changed(table, key, picked.choice(values)))
        refused += bool(findings)
        assert len({finding.where[:2] for finding in findings}) <= 1, (table, key, findings)  # items of one list
        for finding in findings:
            assert finding.where[0] == table
            assert "Input should" not in finding.message
            assert finding.fix
    assert refused > 1000


@pytest.mark.parametrize("given", ["d0=1e-5 betas=0.9,0.99", '"d0=1e-5" "betas=0.9, 0.99"'])
def test_the_guis_optimizer_arguments_are_one_text(given: str) -> None:
    """With or without its quotes, which it drops as well."""
    arguments = recipe(train={"optimizer_args": given}).train.optimizer_args
    assert arguments == {"d0": 1e-5, "betas": (0.9, 0.99)}
