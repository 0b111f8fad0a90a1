"""Base, precision, memory, files, samples, metadata, launch: what is neither network, optimizer nor dataset."""

from __future__ import annotations

from typing import Any

import pytest

from lorabake.planning.profile import build_profile
from lorabake.planning.settings_run import (
    base_settings,
    file_settings,
    memory_settings,
    metadata_settings,
    plan_launch,
    prior_loss_settings,
    sample_settings,
)
from lorabake_schemas.machine import AttentionProbe, Gpu, MachineFacts
from lorabake_schemas.messages import literal
from lorabake_schemas.recipe import Recipe
from situations import CPU, GPU, base_facts, concept, plan_of, recipe, sources, values

NO_XFORMERS = AttentionProbe(xformers=False, reason=literal("no kernel here"))


def memory(made: Recipe, machine: MachineFacts = GPU) -> dict[str, Any]:
    return values(memory_settings(made, build_profile(made, base_facts(made.base.family), machine), NO_XFORMERS))


def base(**more: Any) -> dict[str, Any]:
    made = recipe(base=more)
    return values(base_settings(made, build_profile(made, base_facts(made.base.family), GPU)))


@pytest.mark.parametrize(
    ("more", "wanted"),
    [
        ({"tags": "danbooru"}, 2),
        ({"tags": "e621"}, None),
        ({"tags": "natural"}, None),
        ({}, None),
        ({"tags": "danbooru", "clip_skip": 1}, 1),
        ({"clip_skip": 2}, 2),
        ({"family": "sdxl", "tags": "danbooru"}, None),
        ({"family": "sdxl", "clip_skip": 2}, None),
        ({"family": "sd2", "clip_skip": 2}, 2),
        ({"family": "sd2", "tags": "danbooru"}, None),
    ],
)
def test_clip_skip_is_for_sd15_anime_models(more: dict[str, Any], wanted: int | None) -> None:
    """G4.91, S23; T19: dropped for SDXL."""
    assert base(**more).get("clip_skip") == wanted


def test_model_vae_and_tokenizer() -> None:
    made = base(vae="v.safetensors", tokenizer_cache_dir="tok")
    assert (made["vae"], made["tokenizer_cache_dir"]) == ("v.safetensors", "tok")
    assert {"vae", "tokenizer_cache_dir", "v2", "v_parameterization", "zero_terminal_snr"}.isdisjoint(base())


def test_v_prediction_and_terminal_snr_off_are_absent() -> None:
    assert {"v_parameterization", "zero_terminal_snr"}.isdisjoint(base(v_prediction=False, zero_terminal_snr=False))
    assert base(v_prediction=True, zero_terminal_snr=True)["zero_terminal_snr"] is True


def test_75_tokens_are_what_happens_without_the_option() -> None:
    made = recipe(train={"max_token_length": 75})
    found = values(base_settings(made, build_profile(made, base_facts(), GPU)))
    assert "max_token_length" not in found


@pytest.mark.parametrize(
    ("family", "machine", "precision", "no_half_vae", "checkpointing"),
    [
        ("sd15", GPU, "fp16", False, False),
        ("sdxl", GPU, "fp16", True, True),
        ("sd15", CPU, "no", False, False),
        ("sdxl", CPU, "no", False, True),
        ("sd15", GPU.model_copy(update={"gpus": (Gpu(name="GTX 1060", memory_mib=6144),)}), "fp16", False, True),
    ],
)
def test_precision_and_memory_by_machine(
    family: str, machine: MachineFacts, precision: str, *, no_half_vae: bool, checkpointing: bool
) -> None:
    made = memory(recipe(base={"family": family}), machine)
    assert made["mixed_precision"] == precision
    assert made["save_precision"] == "fp16"
    assert made.get("no_half_vae", False) is no_half_vae
    assert made.get("gradient_checkpointing", False) is checkpointing


def test_bf16_on_sdxl_needs_no_full_vae() -> None:
    assert "no_half_vae" not in memory(recipe(base={"family": "sdxl"}, train={"mixed_precision": "bf16"}))
    assert memory(recipe(train={"mixed_precision": "no", "no_half_vae": True}))["no_half_vae"] is True


@pytest.mark.parametrize(
    ("given", "workers", "persistent"),
    [
        ({}, 1, True),
        ({"max_data_loader_n_workers": 0}, 0, None),
        ({"max_data_loader_n_workers": 4}, 4, True),
        ({"persistent_data_loader_workers": False}, 1, None),
    ],
)
def test_the_worker_count_is_always_written(given: dict[str, Any], workers: int, persistent: bool | None) -> None:
    """Results depend on it; persistent workers need one (S38)."""
    made = memory(recipe(train=given))
    assert made["max_data_loader_n_workers"] == workers
    assert made.get("persistent_data_loader_workers") is persistent


def test_the_seed_is_always_written() -> None:
    assert memory(recipe())["seed"] == 42
    assert memory(recipe(train={"seed": 0}))["seed"] == 0


def test_where_things_go() -> None:
    made = values(file_settings(recipe()))
    assert (made["output_dir"], made["logging_dir"], made["output_name"]) == ("output", "tensorboard", "hmbrgrlora")
    more = {
        "save_every_n_steps": 10, "save_last_n_epochs": 2, "save_last_n_steps": 20, "save_state": True,
        "save_state_on_train_end": True, "save_model_as": "ckpt",
    }  # fmt: skip
    assert more.items() <= values(file_settings(recipe(save=more))).items()
    off = values(file_settings(recipe(save={"save_state": False, "save_state_on_train_end": False})))
    assert off == made


def test_prior_loss_weight_needs_regularization_or_a_word_of_the_recipe() -> None:
    assert prior_loss_settings(recipe()) == ()
    reg = [{"class": "food", "images": "r"}]
    assert repr(values(prior_loss_settings(recipe(regularization=reg)))["prior_loss_weight"]) == "1.0"
    assert repr(values(prior_loss_settings(recipe(train={"prior_loss_weight": 0})))["prior_loss_weight"]) == "0.0"


@pytest.mark.parametrize(
    ("sample", "every", "wanted"),
    [
        ({}, 4, {"sample_every_n_epochs": 4}),
        ({}, None, {"sample_every_n_epochs": 1}),
        ({"sample_every_n_epochs": 2}, 4, {"sample_every_n_epochs": 2}),
        ({"sample_every_n_steps": 50}, 4, {"sample_every_n_steps": 50}),
        ({"sample_at_first": True}, 4, {"sample_every_n_epochs": 4, "sample_at_first": True}),
        ({"sample_at_first": False}, 4, {"sample_every_n_epochs": 4}),
        ({"sample_sampler": "euler_a"}, 4, {"sample_every_n_epochs": 4, "sample_sampler": "euler_a"}),
    ],
)
def test_samples_come_as_often_as_files(sample: dict[str, Any], every: int | None, wanted: dict[str, Any]) -> None:
    made = values(sample_settings(recipe(sample={"prompts": ["a"]} | sample), every))
    assert made == {"sample_prompts": "prompts.txt"} | wanted


def test_no_samples_no_settings() -> None:
    assert sample_settings(recipe(), 3) == ()


def test_the_trigger_phrase_is_the_tokens_once_each() -> None:
    made = recipe(concepts=[concept("mizu", "a", outfit="x"), concept("mizu", "b", outfit="y"), concept("arz", "c")])
    found = metadata_settings(made)
    assert values(found) == {"metadata_trigger_phrase": "mizu, arz"}
    assert sources(found)["metadata_trigger_phrase"].rule == "G4.16"


def test_all_metadata_is_passed_on() -> None:
    given = {
        "author": "a", "title": "t", "description": "d", "license": "l", "tags": "g", "usage_hint": "u",
        "trigger_phrase": "p", "comment": "c",
    }  # fmt: skip
    made = values(metadata_settings(recipe(metadata=given)))
    assert made.pop("training_comment") == "c"
    assert {name.removeprefix("metadata_"): value for name, value in made.items()} == {
        name: value for name, value in given.items() if name != "comment"
    }


def test_launching() -> None:
    alone = plan_launch(recipe(), GPU)
    assert (alone.num_processes, alone.gpu_ids, alone.num_cpu_threads_per_process, alone.cpu) == (1, None, 1, False)
    on_cpu = plan_launch(recipe(launch={"gpu_ids": "0,1"}), CPU)
    assert (on_cpu.gpu_ids, on_cpu.num_cpu_threads_per_process, on_cpu.cpu) == (None, 4, True)
    asked = {"num_processes": 2, "gpu_ids": "0,1", "num_cpu_threads_per_process": 8, "main_process_port": 29501}
    assert asked.items() <= plan_launch(recipe(launch=asked), GPU).model_dump().items()


def test_a_deterministic_run_takes_what_can_be_repeated() -> None:
    """One thread on any machine, PyTorch's own attention even where xformers works; the recipe may say otherwise."""
    made = recipe(launch={"deterministic": True})
    assert plan_launch(made, CPU).deterministic
    assert plan_launch(made, CPU).num_cpu_threads_per_process == 1
    asked = recipe(launch={"deterministic": True, "num_cpu_threads_per_process": 2})
    assert plan_launch(asked, CPU).num_cpu_threads_per_process == 2
    assert not plan_launch(recipe(launch={"deterministic": False}), CPU).deterministic
    works = AttentionProbe(xformers=True, reason=literal("it ran"))
    settings = memory_settings(made, build_profile(made, base_facts(made.base.family), GPU), works)
    assert values(settings)["sdpa"] is True
    assert "xformers" not in values(settings)
    assert next(each for each in settings if each.option == "sdpa").source.rule == "S40"
    assert values(settings)["seed"] == 42
    assert values(settings)["max_data_loader_n_workers"] == 1


def test_latents_are_not_cached_by_default_where_images_change() -> None:
    """S20: no default stops what the recipe asks for."""
    for option in ("color_aug", "random_crop"):
        assert "cache_latents" not in values(plan_of(recipe(kohya={option: True})).train)
        kept = recipe(kohya={option: True}, train={"cache_latents": True})
        assert values(plan_of(kept).train)["cache_latents"] is True
    assert values(plan_of(recipe()).train)["cache_latents"] is True
