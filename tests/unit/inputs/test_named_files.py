"""Other files that a recipe names: each has the right content, or is refused with the reason."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import pytest

from constant import must_not_be_called
from lorabake.inputs.base_model import inspect_base_model
from lorabake.inputs.hub import can_run_offline, list_missing_tokenizers
from lorabake.inputs.referenced_files import (
    find_lora_problem,
    find_pickles,
    find_vae_problem,
    iter_file_findings,
    iter_offline_findings,
)
from lorabake.util import safetensors
from lorabake_schemas.families.registry import get_family
from lorabake_schemas.findings import Finding
from lorabake_schemas.machine import Family
from situations import TORCH_OLD, TORCH_ZIP, base_facts, recipe, torch_zip, write_base

SD15 = get_family("sd15")
SD1 = {"lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn2_to_k.lora_down.weight": [4, 768]}
SD2 = {"lora_te_text_model_encoder_layers_0_mlp_fc1.lora_down.weight": [4, 1024]}
TEXT = {"lora_te_text_model_encoder_layers_0_mlp_fc1.lora_down.weight": [4, 768]}
XL = {"lora_unet_input_blocks_4_1_proj_in.lora_down.weight": [4, 640]}
FLUX = {"lora_unet_double_blocks_0_img_attn_proj.lora_down.weight": [4, 3072]}
LOHA = {"lora_unet_down_blocks_0_attentions_0_proj_in.hada_w1_a": [4, 4]}
VAE = {"first_stage_model.decoder.conv_in.weight": [1]}


def tensors(path: Path, shapes: dict[str, list[int]]) -> Path:
    """A safetensors file of these tensors, all zero."""
    header: dict[str, Any] = {}
    end = 0
    for name, shape in shapes.items():
        size = 2
        for side in shape:
            size *= side
        header[name] = {"dtype": "F16", "shape": shape, "data_offsets": [end, end := end + size]}
    told = json.dumps(header).encode()
    path.write_bytes(len(told).to_bytes(8, "little") + told + bytes(end))
    return path


def tokenizers(where: Path, family: Family) -> Path:
    for name in (encoder.tokenizer_cache for encoder in get_family(family).text_encoders):
        (where / name).mkdir(parents=True)
        for file in ("vocab.json", "merges.txt"):
            (where / name / file).touch()
    return where


@pytest.mark.parametrize(
    ("shapes", "family", "network", "words"),
    [
        (SD1, "sd15", "lora", None),
        (SD1, "sd15", None, None),
        (SD1, "sd15", "ia3", "a different type, not ia3"),
        (SD2, "sd2", "locon", None),
        (XL, "sdxl", "lora", None),
        (LOHA, "sd15", "loha", None),
        (LOHA, "sd2", "loha", None),
        (SD1, "sdxl", "lora", "a LoRA for sd15, but the base model is sdxl"),
        (SD1, "sd2", "lora", "a LoRA for sd15, but the base model is sd2"),
        (SD2, "sd15", "lora", "a LoRA for sd2"),
        (XL, "sd15", "lora", "a LoRA for sdxl"),
        (LOHA, "sdxl", "loha", "a LoRA for sd15 or sd2"),
        (FLUX, "sd15", "lora", "a LoRA for flux"),
        (SD1, "sd15", "loha", "a different type, not loha"),
        (LOHA, "sd15", "lora", "a different type, not lora"),
        (VAE, "sd15", "lora", "not a LoRA that sd-scripts can read (its tensors: first_stage_model"),
        ({}, "sd15", "lora", "(its tensors: none)"),
    ],
)
def test_a_lora_to_go_on_from(
    tmp_path: Path, shapes: dict[str, list[int]], family: Family, network: str | None, words: str | None
) -> None:
    problem = find_lora_problem(tensors(tmp_path / "w.safetensors", shapes), get_family(family), network)
    assert problem is None if words is None else words in (problem or "")


@pytest.mark.parametrize(
    ("shapes", "network", "found"),
    [
        ({**SD1, **TEXT}, {"network_train_unet_only": True}, [("wrong-file", "warning")]),
        ({**SD1, **TEXT}, {}, []),
        (SD1, {"network_train_unet_only": True}, []),
    ],
)
def test_going_on_without_the_text_encoder_loses_its_part(
    tmp_path: Path, shapes: dict[str, list[int]], network: dict[str, Any], found: list[tuple[str, str]]
) -> None:
    """sd-scripts reads what fits and leaves the rest out without a word."""
    tensors(tmp_path / "w.safetensors", shapes)
    made = recipe(network={"network_weights": "w.safetensors"} | network)
    said = iter_file_findings(made, tmp_path, SD15, "lora", rehearsing=False)
    assert [(each.rule, str(each.severity)) for each in said] == found


def test_what_is_no_lora_at_all(tmp_path: Path) -> None:
    assert "not a LoRA" in (find_lora_problem(write_base(tmp_path / "base.safetensors"), SD15) or "")
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(99))
    assert "not a model file" in (find_lora_problem(tmp_path / "a.png", SD15) or "")
    assert "is a folder" in (find_lora_problem(tmp_path, SD15) or "")
    (tmp_path / "old.pt").write_bytes(TORCH_ZIP)
    assert find_lora_problem(tmp_path / "old.pt", SD15) is None


def test_what_is_a_vae(tmp_path: Path) -> None:
    assert find_vae_problem(tensors(tmp_path / "v.safetensors", VAE)) is None
    assert find_vae_problem(tensors(tmp_path / "bare.safetensors", {"decoder.conv_in.weight": [1]})) is None
    (tmp_path / "v.ckpt").write_bytes(TORCH_ZIP)
    assert find_vae_problem(tmp_path / "v.ckpt") is None
    for folder in ("plain", "inner/vae"):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "config.json").touch()
        assert find_vae_problem(tmp_path / folder.partition("/")[0]) is None


def test_what_is_no_vae(tmp_path: Path) -> None:
    (tmp_path / "pics").mkdir()
    assert "no config.json" in (find_vae_problem(tmp_path / "pics") or "")
    assert "not a VAE" in (find_vae_problem(tensors(tmp_path / "l.safetensors", SD1)) or "")
    other = tensors(tmp_path / "d.safetensors", {"encoder.down_blocks.0.resnets.0.conv1.weight": [1]})
    assert "diffusers VAE" in (find_vae_problem(other) or "")
    (tmp_path / "e.safetensors").touch()
    with pytest.raises(safetensors.HeaderError, match="it is empty"):
        find_vae_problem(tmp_path / "e.safetensors")


def found(folder: Path, *, rehearsing: bool = False, **tables: Any) -> list[Finding]:
    return list(iter_file_findings(recipe(**tables), folder, SD15, "lora", rehearsing=rehearsing))


def test_a_wrong_file_is_an_error_and_a_warning_in_a_rehearsal(tmp_path: Path) -> None:
    tensors(tmp_path / "w.safetensors", XL)
    named: dict[str, Any] = {
        "network": {"network_weights": "w.safetensors"},
        "kohya": {"base_weights": ["w.safetensors"]},
    }
    spoken = [(f.rule, f.key, f.severity.value) for f in found(tmp_path, **named)]
    assert spoken == [
        ("wrong-file", "network.network_weights", "error"),
        ("wrong-file", "kohya.base_weights", "error"),
    ]
    assert {f.severity.value for f in found(tmp_path, rehearsing=True, **named)} == {"warning"}


def test_a_missing_tracker_configuration(tmp_path: Path) -> None:
    kohya = {"log_tracker_config": "t.toml"}
    assert [(f.rule, f.key) for f in found(tmp_path, kohya=kohya)] == [("missing-file", "kohya.log_tracker_config")]
    (tmp_path / "t.toml").touch()
    assert found(tmp_path, kohya=kohya) == []


def test_tokenizers_that_would_be_fetched_are_told_of(tmp_path: Path) -> None:
    base = {"tokenizer_cache_dir": "tokens"}
    spoken = found(tmp_path, base=base)
    assert [(f.rule, f.key, f.severity.value) for f in spoken] == [
        ("missing-file", "base.tokenizer_cache_dir", "warning"),
    ]  # fmt: skip
    assert "openai_clip-vit-large-patch14" in spoken[0].message
    tokenizers(tmp_path / "tokens", "sd15")
    assert found(tmp_path, base=base) == []


def test_each_family_has_tokenizers_of_its_own(tmp_path: Path) -> None:
    tokenizers(tmp_path, "sd15")
    assert list_missing_tokenizers(tmp_path, get_family("sd15")) == ()
    assert list_missing_tokenizers(tmp_path, get_family("sd2")) == ("stabilityai_stable-diffusion-2",)
    assert list_missing_tokenizers(tmp_path, get_family("sdxl")) == ("laion_CLIP-ViT-bigG-14-laion2B-39B-b160k",)


HERE: dict[str, Any] = {"model": "m.safetensors", "tokenizer_cache_dir": "tokens"}


@pytest.mark.parametrize(
    ("base", "kohya", "offline"),
    [
        ({}, {}, True),
        ({"vae": "tokens"}, {}, True),
        ({"vae": "someone/vae"}, {}, False),
        ({"tokenizer_cache_dir": "empty"}, {}, False),
        ({"tokenizer_cache_dir": None}, {}, False),
        ({"family": "sdxl"}, {}, False),
        ({}, {"huggingface_repo_id": "me/lora"}, False),
        ({}, {"resume_from_huggingface": True}, False),
        ({}, {"resume_from_huggingface": False}, True),
    ],
)
def test_only_what_is_all_here_is_kept_from_the_hub(
    tmp_path: Path, base: dict[str, Any], kohya: dict[str, Any], *, offline: bool
) -> None:
    tokenizers(tmp_path / "tokens", "sd15")
    assert can_run_offline(recipe(base=HERE | base, kohya=kohya), base_facts(), tmp_path) is offline
    assert not can_run_offline(recipe(base=HERE | base, kohya=kohya), base_facts(kind="hub"), tmp_path)


@pytest.mark.parametrize("name", ["m.ckpt", "m.pt", "m.safetensors"])
@pytest.mark.parametrize(
    ("content", "is_one"),
    [(TORCH_ZIP, True), (TORCH_OLD, True), (pickle.dumps({"a": 1}, 2), True), (pickle.dumps([1], 4), True)],
)
def test_what_can_run_code_is_told_by_content(tmp_path: Path, name: str, content: bytes, *, is_one: bool) -> None:
    (tmp_path / name).write_bytes(content)
    made = recipe(base={"model": name, "vae": "none.pt"}, network={"network_weights": name})
    assert find_pickles(made, tmp_path) == ((("base", "model"), name), (("network", "network_weights"), name))
    write_base(tmp_path / name)
    assert find_pickles(made, tmp_path) == ()
    assert find_pickles(recipe(base={"model": "no/such.ckpt"}), tmp_path) == ()


@pytest.mark.parametrize(
    ("content", "sound"),
    [
        (TORCH_ZIP, True),
        (TORCH_OLD, True),
        (torch_zip("other.txt"), False),
        (pickle.dumps({"a": 1}, 2), False),
        (pickle.dumps({"a": 1}, 4), False),
        (b"PK", False),
        (b"not a model", False),
        (b"", False),
    ],
)
def test_what_torch_did_not_save_is_an_error_wherever_it_is_named(
    tmp_path: Path, content: bytes, *, sound: bool
) -> None:
    path = tmp_path / "m.ckpt"
    path.write_bytes(content)
    assert (find_vae_problem(path) is None) is sound
    assert (find_lora_problem(path, SD15) is None) is sound
    assert (inspect_base_model("m.ckpt", tmp_path, "sd15").problem is None) is sound


@pytest.mark.usefixtures("ordinary")
def test_what_lies_behind_a_shut_folder_is_not_said_to_be_missing(tmp_path: Path) -> None:
    (tmp_path / "shut").mkdir(mode=0)
    made = recipe(base={"vae": "shut/v.pt"}, network={"network_weights": "shut/l.safetensors"})
    said = list(iter_file_findings(made, tmp_path, SD15, "lora", rehearsing=False))
    assert [(each.rule, each.key) for each in said] == [
        ("wrong-file", "base.vae"), ("wrong-file", "network.network_weights")
    ]  # fmt: skip
    assert "permission denied" in (inspect_base_model("shut/m.safetensors", tmp_path, "sd15").problem or "")


@pytest.mark.parametrize("sign", [b"[],", b"{},", b"1,"])
def test_a_header_that_would_fill_the_memory_is_not_parsed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sign: bytes
) -> None:
    monkeypatch.setattr(safetensors, "parse_json", must_not_be_called)
    header = b'{"a":[' + sign * 4_000_001 + b"1]}"
    (tmp_path / "m.safetensors").write_bytes(len(header).to_bytes(8, "little") + header)
    with pytest.raises(safetensors.HeaderError, match="not JSON"):
        find_lora_problem(tmp_path / "m.safetensors", SD15)


def test_a_unet_folder_is_no_vae(tmp_path: Path) -> None:
    for name, kind in (("unet", "UNet2DConditionModel"), ("vae", "AutoencoderKL"), ("plain", None)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text(json.dumps({"_class_name": kind} if kind else {}))
    assert "UNet2DConditionModel" in (find_vae_problem(tmp_path / "unet") or "")
    assert find_vae_problem(tmp_path / "vae") is None
    assert find_vae_problem(tmp_path / "plain") is None
    assert find_vae_problem(tmp_path) is None  # a whole model, whose VAE sd-scripts looks for, too


@pytest.mark.parametrize("launching", [True, False])
def test_a_model_of_the_hub_that_is_not_here_while_offline(tmp_path: Path, launching: bool) -> None:
    made = recipe(base={"model": "someone/model", "family": "sd15", "vae": "someone/vae"})
    base = inspect_base_model("someone/model", tmp_path, "sd15")
    offline = {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "hf")}

    def said(env: dict[str, str]) -> list[tuple[str, str, str]]:
        found = iter_offline_findings(made, base, tmp_path, env, launching=launching)
        return [(each.rule, each.key, each.severity) for each in found]

    severity = "error" if launching else "warning"
    keys = ("model", "vae", "tokenizer_cache_dir")
    assert said(offline) == [("missing-file", f"base.{key}", severity) for key in keys]
    assert said(offline | {"HF_HUB_OFFLINE": "0"}) == said({}) == []
    for name in ("someone--model", "openai--clip-vit-large-patch14"):
        kept = tmp_path / "hf" / "hub" / f"models--{name}"
        (kept / "refs").mkdir(parents=True)
        (kept / "refs" / "main").write_text("c" * 40)
        (kept / "snapshots" / ("c" * 40)).mkdir(parents=True)
    assert [key for _, key, _ in said(offline)] == ["base.vae"]


def test_a_file_for_tokenizers_is_one_error(tmp_path: Path) -> None:
    (tmp_path / "tokens").touch()
    spoken = found(tmp_path, base={"tokenizer_cache_dir": "tokens"})
    assert [(f.rule, f.key, f.severity.value) for f in spoken] == [
        ("wrong-file", "base.tokenizer_cache_dir", "error"),
    ]  # fmt: skip
    of, base = recipe(base={"tokenizer_cache_dir": "tokens"}), base_facts("sd15")
    offline = iter_offline_findings(of, base, tmp_path, {"HF_HUB_OFFLINE": "1"}, launching=False)
    assert [f.key for f in offline if f.key == "base.tokenizer_cache_dir"] == []


def test_missing_tokenizers_are_reported_once_offline(tmp_path: Path) -> None:
    of = recipe(base={"tokenizer_cache_dir": "tokens"})
    env = {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "hub")}
    named = iter_file_findings(of, tmp_path, SD15, "lora", rehearsing=False, offline=True)
    offline = iter_offline_findings(of, base_facts("sd15"), tmp_path, env, launching=False)
    assert [f.key for f in (*named, *offline)] == ["base.tokenizer_cache_dir"]
