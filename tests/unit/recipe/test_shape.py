"""pydantic's errors in a user's words: the code, the nearest name, what to write."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from lorabake.recipe.validation import findings_from_errors, list_all_keys, list_keys
from lorabake_schemas.findings import Finding
from lorabake_schemas.recipe import Recipe

MINIMAL: dict[str, Any] = {
    "name": "x",
    "kind": "object",
    "base": {"model": "m.safetensors"},
    "concept": [{"token": "tok", "images": "pics"}],
}


def one(**more: Any) -> Finding:
    raw = MINIMAL | more
    with pytest.raises(ValidationError) as caught:
        Recipe.model_validate(raw)
    findings = findings_from_errors(caught.value.errors(include_url=False), raw)
    assert len(findings) == 1, findings
    return findings[0]


@pytest.mark.parametrize(
    ("table", "key", "named"),
    [
        ("train", "learning_rat", "learning_rate"),
        ("train", "resolutoin", "resolution"),
        ("train", "max_train_epoch", "train.max_train_epochs"),
        ("network", "network_dims", "network_dim"),
        ("network", "rank", "network.network_dim"),
        ("network", "alpha", "network.network_alpha"),
        ("network", "algo", "network.type"),
        ("train", "optimizer_type", "train.optimizer"),
        ("train", "epochs", "train.max_train_epochs"),
        ("train", "batch_size", "train.train_batch_size"),
        ("train", "lr", "train.learning_rate"),
        ("train", "network_dim", "network.network_dim"),
        ("train", "v_parameterization", "base.v_prediction"),
        ("network", "learning_rate", "train.learning_rate"),
        ("network", "lerning_rate", "train.learning_rate"),
        ("captions", "caption_extention", "caption_extension"),
        ("save", "save_every_n_epoch", "save_every_n_epochs"),
    ],
)
def test_an_unknown_key_names_the_nearest_valid_one(table: str, key: str, named: str) -> None:
    finding = one(**{table: {key: 1}})
    assert finding.rule == "unknown-key"
    assert finding.key == f"{table}.{key}"
    assert f"`{named.removeprefix(f'{table}.')}`" in finding.fix  # within its own table the key alone


@pytest.mark.parametrize(
    ("key", "named"), [("trian", "`train`"), ("regularisation", "`[[regularization]]`"), ("output_name", "`name`")]
)
def test_an_unknown_table_names_the_nearest_valid_one(key: str, named: str) -> None:
    finding = one(**{key: {}})
    assert finding.rule == "unknown-key"
    assert named in finding.fix


def test_a_key_like_nothing_else_is_told_what_there_is_and_where_sd_scripts_options_go() -> None:
    finding = one(train={"zzzzqqqq": 1})
    assert "learning_rate" in finding.fix
    assert "[kohya]" in finding.fix


def test_a_key_of_another_table_is_told_its_place() -> None:
    finding = one(train={"token": "x"})
    assert (finding.message, finding.fix) == ("wrong table for this key", "use `concept.token`")


@pytest.mark.parametrize(
    ("table", "key", "value", "named"),
    [
        ("train", "lr_scheduler", "cosinus", '"cosine"'),
        ("train", "lr_scheduler", "cosine_with_restart", '"cosine_with_restarts"'),
        ("train", "mixed_precision", "bf17", '"bf16"'),
        ("base", "family", "SDXL", '"sdxl"'),
        ("sample", "sample_sampler", "eular_a", '"euler_a"'),
    ],
)
def test_a_wrong_choice_names_the_nearest(table: str, key: str, value: str, named: str) -> None:
    raw: dict[str, Any] = {"base": {"model": "m"}, "sample": {"prompts": ["a"]}}
    finding = one(**{table: raw.get(table, {}) | {key: value}})
    assert finding.rule == "bad-choice"
    assert f'"{value}"' in finding.message
    assert f"did you mean {named}?" in finding.fix


def test_a_short_choice_lists_all_of_it() -> None:
    assert "character, style, object, clothing, concept, outfits" in one(kind="person").fix


def test_a_scheduler_that_always_crashes_is_said_to() -> None:
    assert "always fails" in one(train={"lr_scheduler": "cosine_warmup_with_min_lr"}).message


def test_wrong_kinds_are_said_in_a_users_words() -> None:
    finding = one(network={"network_dim": "sixteen"})
    assert finding.message == 'must be a whole number, not text ("sixteen")'
    assert finding.fix == "write a whole number without quotes or decimals, such as 16"
    assert one(train={"cache_latents": 1}).message == "must be true or false, not a whole number (1)"
    assert one(train={"max_train_steps": True}).message == "must be a whole number, not true/false (true)"
    assert one(base=3).message == "must be a table, not a whole number (3)"
    assert one(base={"model": ["a"]}).message == "must be text, not a list"


def test_out_of_range_says_the_limits() -> None:
    assert one(concept=[{"token": "t", "images": "p", "num_repeats": -1}]).fix == "write a number of at least 1"
    assert one(network={"network_dropout": 1.5}).fix == "write a number less than 1"
    assert one(launch={"main_process_port": 1}).fix == "write a number of at least 1024"
    assert one(train={"seed": 2**32}).fix == "write a number less than 4294967296"


def test_text_of_the_wrong_length_is_said_to_be() -> None:
    def said(**tables: Any) -> tuple[str, str]:
        finding = one(**tables)
        return finding.message, finding.fix

    assert said(base={"model": ""}) == ("is empty", "write some text")
    assert said(ignore=[{"rule": "S1", "reason": "a"}]) == ("is too short", "write at least 3 characters")
    assert said(name="a" * 121) == ("is too long", "write at most 120 characters")


def test_gpus_are_named_by_number() -> None:
    finding = one(launch={"gpu_ids": "gpu0"})
    assert finding.message == "GPUs are given by their numbers"
    assert finding.fix == 'write "0", "0,1" or "all"'


def test_a_ratio_above_one_is_explained() -> None:
    finding = one(train={"lr_warmup_steps": 100.0})
    assert finding.rule == "S4"
    assert "100 for steps" in finding.fix


@pytest.mark.parametrize("value", [[512], [512, 512, 512], [512, "a"], "512;512", []])
def test_what_is_no_resolution_is_one_finding(value: Any) -> None:
    assert "[width, height]" in one(train={"resolution": value}).fix


def test_one_bracket_where_two_are_needed() -> None:
    finding = one(concept={"token": "a", "images": "b"})
    assert (finding.key, finding.fix) == ("concept", "write [[concept]]")


def test_what_is_missing_is_named_as_it_is_written() -> None:
    with pytest.raises(ValidationError) as caught:
        Recipe.model_validate({"base": {}})
    findings = findings_from_errors(caught.value.errors(include_url=False), {"base": {}})
    assert {(finding.rule, finding.key, finding.fix) for finding in findings} == {
        ("missing-key", "name", "add `name = ...`"),
        ("missing-key", "kind", "add `kind = ...`, one of: character, style, object, clothing, concept, outfits"),
        ("missing-key", "base.model", "add `model = ...`"),
        ("missing-key", "concept", "add [[concept]]"),
    }


def test_a_missing_class_of_regularization_has_its_written_name() -> None:
    assert one(regularization=[{"images": "reg"}]).key == "regularization[0].class"


def test_optimizer_arguments_are_told_by_their_own_key() -> None:
    finding = one(train={"optimizer_args": {"betas": {"a": 1}}})
    assert finding.key == "train.optimizer_args.betas"
    assert finding.rule == "wrong-type"


def test_each_faulty_key_is_told_once_however_many_there_are() -> None:
    raw: dict[str, Any] = MINIMAL | {
        "train": {"resolution": "x", "lr_warmup_steps": "x", "seed": "x"},
        "kohya": {"a": {}, "b": [{}]},
    }
    with pytest.raises(ValidationError) as caught:
        Recipe.model_validate(raw)
    findings = findings_from_errors(caught.value.errors(include_url=False), raw)
    assert sorted(finding.key for finding in findings) == [
        "kohya.a",
        "kohya.b",
        "train.lr_warmup_steps",
        "train.resolution",
        "train.seed",
    ]


def test_known_keys_follow_tables_and_lists() -> None:
    assert list_keys(())[:3] == ("name", "kind", "base")
    assert "class" in list_keys(("concept", 0))
    assert "class_" not in list_keys(("concept", 0))
    assert list_keys(("concept", 0, "token")) == ()
    assert list_keys(("nowhere",)) == ()
    assert ("train", "learning_rate") in list_all_keys()
    assert ("", "kohya") in list_all_keys()
