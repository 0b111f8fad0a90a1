"""Base models by their own files: small real safetensors files and diffusers folders."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file  # pyright: ignore[reportUnknownVariableType]

from lorabake.inputs.base_model import inspect_base_model
from lorabake_schemas.machine import BaseFacts, Family
from situations import TORCH_ZIP

TO_K = "model.diffusion_model.input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight"
FIRST = "model.diffusion_model.input_blocks.0.0.weight"
TEXT: dict[Family, str] = {
    "sd15": "cond_stage_model.transformer.text_model.embeddings.position_ids",
    "sd2": "cond_stage_model.model.positional_embedding",
    "sdxl": "conditioner.embedders.1.model.positional_embedding",
}
WIDTH: dict[Family, int] = {"sd15": 768, "sd2": 1024, "sdxl": 2048}
FAMILIES: tuple[Family, ...] = ("sd15", "sd2", "sdxl")


def write(path: Path, names: Mapping[str, tuple[int, ...]], metadata: dict[str, str] | None = None) -> Path:
    save_file({name: np.zeros(shape, np.float16) for name, shape in names.items()}, path, metadata)
    return path


def checkpoint(
    path: Path, family: Family, *extra: str, channels: int = 4, metadata: dict[str, str] | None = None
) -> Path:
    names = {FIRST: (2, channels, 3, 3), TO_K: (2, WIDTH[family]), TEXT[family]: (1, 2)}
    return write(path, names | dict.fromkeys(extra, (1,)), metadata)


def inspect(path: Path, declared: Family | None = None) -> BaseFacts:
    return inspect_base_model(path.name, path.parent, declared)


def problem(path: Path) -> str:
    found = inspect(path).problem
    assert found is not None
    return found


@pytest.mark.parametrize("family", FAMILIES)
def test_family_of_a_checkpoint(tmp_path: Path, family: Family) -> None:
    facts = inspect(checkpoint(tmp_path / "m.safetensors", family))
    assert facts == BaseFacts(kind="file", family=family)


def test_an_absolute_path_and_an_upper_case_suffix(tmp_path: Path) -> None:
    path = checkpoint(tmp_path / "m.SAFETENSORS", "sdxl")
    assert inspect_base_model(str(path), Path("elsewhere")).family == "sdxl"


def test_marker_keys_tell_v_prediction_and_zero_snr(tmp_path: Path) -> None:
    facts = inspect(checkpoint(tmp_path / "m.safetensors", "sdxl", "v_pred", "ztsnr"))
    assert (facts.v_prediction, facts.zero_terminal_snr, facts.problem) == (True, True, None)


@pytest.mark.parametrize(("told", "expected"), [("v", True), ("epsilon", False), ("", None)])
def test_metadata_tells_the_prediction_type(tmp_path: Path, told: str, *, expected: bool | None) -> None:
    path = checkpoint(tmp_path / "m.safetensors", "sd2", metadata={"modelspec.prediction_type": told})
    assert inspect(path).v_prediction is expected


@pytest.mark.parametrize(
    ("metadata", "merged"),
    [
        ({}, None),
        ({"modelspec.merged_from": "a, b"}, "a, b"),
        ({"sd_merge_models": '{"12ab": {"name": "first"}, "34cd": {"name": "second"}}'}, "first, second"),
        ({"sd_merge_recipe": '{"type": "webui"}'}, "sd_merge_recipe"),
        ({"sd_merge_models": "no JSON"}, "sd_merge_recipe"),
        ({"sd_merge_models": '["a list"]', "sd_merge_recipe": "{}"}, "sd_merge_recipe"),
    ],
)
def test_metadata_tells_of_a_merge(tmp_path: Path, metadata: dict[str, str], merged: str | None) -> None:
    assert inspect(checkpoint(tmp_path / "m.safetensors", "sd15", metadata=metadata)).merged == merged


@pytest.mark.parametrize(
    ("names", "words"),
    [
        ({"lora_unet_down_blocks_0.lora_down.weight": (4, 4)}, "LoRA"),
        ({"lora_te_x.hada_w1_a": (4, 4)}, "LoRA"),
        ({"unet.x.lora_A.weight": (4, 4)}, "LoRA"),
        ({TO_K: (2, 768)}, "without a text encoder"),
        ({TEXT["sd15"]: (1, 2)}, "no UNet"),
        ({TO_K: (2, 2048), TEXT["sd15"]: (1, 2)}, "text encoder is from sd15"),
        ({"first_stage_model.decoder.x": (1,)}, "VAE"),
        ({"model.diffusion_model.joint_blocks.0.x": (1,)}, "Stable Diffusion 3"),
        ({"double_blocks.0.x": (1,)}, "Flux"),
        ({TO_K: (2, 1280), "conditioner.embedders.0.model.x": (1,)}, "refiner"),
        ({"emb_params": (1, 768)}, "embedding"),
        ({"something": (1,)}, "something"),
        ({}, "not a Stable Diffusion checkpoint"),
    ],
)
def test_what_is_no_base_model_is_named(tmp_path: Path, names: dict[str, tuple[int, ...]], words: str) -> None:
    path = write(tmp_path / "m.safetensors", names)
    assert words in problem(path)
    assert inspect(path).family is None


def test_an_inpainting_model(tmp_path: Path) -> None:
    assert "9 input channels" in problem(checkpoint(tmp_path / "m.safetensors", "sd15", channels=9))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "empty"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n", "Git LFS"),
        (b"\n<!DOCTYPE html><html><body>404</body></html>", "web page"),
        (b"PK\x03\x04" + bytes(40), "torch checkpoint"),
        (b"abc", "does not start with a header"),
        (bytes(64), "does not start with a header"),
        ((20).to_bytes(8, "little") + b"{this is not JSON}  ", "not JSON"),
        ((7).to_bytes(8, "little") + b'{"a":1}', "does not describe tensor a"),
        ((18).to_bytes(8, "little") + b'{"__metadata__":7}', "not a table of strings"),
        (bytes(8) + b"{}", "does not start with a header"),
        ((500).to_bytes(8, "little") + b"{}", "cut off"),
    ],
)
def test_a_file_that_is_no_safetensors(tmp_path: Path, content: bytes, words: str) -> None:
    path = tmp_path / "m.safetensors"
    path.write_bytes(content)
    assert words in problem(path)
    assert inspect(path).kind == "file"


@pytest.mark.parametrize(("change", "words"), [(-5, "5 bytes missing"), (3, "3 extra bytes after the last tensor")])
def test_a_file_of_the_wrong_length(tmp_path: Path, change: int, words: str) -> None:
    path = checkpoint(tmp_path / "m.safetensors", "sd15")
    data = path.read_bytes()
    path.write_bytes(data[:change] if change < 0 else data + bytes(change))
    assert words in problem(path)


def test_a_pickle_keeps_its_family_to_itself(tmp_path: Path) -> None:
    path = tmp_path / "m.ckpt"
    path.write_bytes(TORCH_ZIP)
    assert inspect(path, "sd15") == BaseFacts(kind="file")
    assert "set family under [base]" in problem(path)


def test_other_suffixes_are_judged_by_content(tmp_path: Path) -> None:
    renamed = checkpoint(tmp_path / "m.ckpt", "sd15")
    assert "extension .safetensors" in problem(renamed)
    (tmp_path / "m.txt").write_text("not a model at all, whatever")
    assert "not a model file" in problem(tmp_path / "m.txt")
    (tmp_path / "n.ckpt").write_bytes(b"")
    assert "empty" in problem(tmp_path / "n.ckpt")


def diffusers(folder: Path, family: Family = "sdxl", **scheduler: object) -> Path:
    parts = ("unet", "text_encoder", "vae", "scheduler", *(("text_encoder_2",) if family == "sdxl" else ()))
    for part in parts:
        (folder / part).mkdir(parents=True)
        (folder / part / "model.safetensors").write_bytes(b"x")
    pipeline = "StableDiffusionXLPipeline" if family == "sdxl" else "StableDiffusionPipeline"
    (folder / "model_index.json").write_text(json.dumps({"_class_name": pipeline}))
    (folder / "unet" / "config.json").write_text(json.dumps({"cross_attention_dim": WIDTH[family], "in_channels": 4}))
    (folder / "scheduler" / "scheduler_config.json").write_text(json.dumps(scheduler))
    return folder


@pytest.mark.parametrize("family", FAMILIES)
def test_a_diffusers_folder(tmp_path: Path, family: Family) -> None:
    assert inspect(diffusers(tmp_path / "m", family)) == BaseFacts(kind="folder", family=family)


def test_a_diffusers_folder_tells_which_files_it_has(tmp_path: Path) -> None:
    folder = diffusers(tmp_path / "m")
    assert (inspect(folder).fp16_files, inspect(folder).plain_files) == (False, True)
    (folder / "unet" / "model.fp16.safetensors").write_bytes(b"x")
    assert (inspect(folder).fp16_files, inspect(folder).plain_files) == (True, True)
    (folder / "unet" / "model.safetensors").unlink()
    assert (inspect(folder).fp16_files, inspect(folder).plain_files) == (True, False)
    assert inspect(folder).problem is None


def test_a_diffusers_scheduler_tells_the_rest(tmp_path: Path) -> None:
    facts = inspect(diffusers(tmp_path / "m", prediction_type="v_prediction", rescale_betas_zero_snr=True))
    assert (facts.v_prediction, facts.zero_terminal_snr) == (True, True)
    plain = inspect(diffusers(tmp_path / "n", prediction_type="epsilon", rescale_betas_zero_snr=False))
    assert (plain.v_prediction, plain.zero_terminal_snr) == (False, False)


def test_a_list_of_attention_widths(tmp_path: Path) -> None:
    folder = diffusers(tmp_path / "m", "sd15")
    (folder / "unet" / "config.json").write_text(json.dumps({"cross_attention_dim": [768, 768]}))
    assert inspect(folder).family == "sd15"


def test_a_diffusers_folder_without_weights(tmp_path: Path) -> None:
    folder = diffusers(tmp_path / "m")
    (folder / "unet" / "model.safetensors").unlink()
    (folder / "text_encoder_2" / "model.safetensors").write_bytes(b"")
    assert "unet, text_encoder_2" in problem(folder)


@pytest.mark.parametrize("pipeline", ["FluxPipeline", "StableDiffusion3Pipeline"])
def test_a_diffusers_folder_of_another_model(tmp_path: Path, pipeline: str) -> None:
    folder = diffusers(tmp_path / "m")
    (folder / "model_index.json").write_text(json.dumps({"_class_name": pipeline}))
    assert pipeline in problem(folder)


@pytest.mark.parametrize("config", ["{}", "[]", "not json", '{"cross_attention_dim": 1280}'])
def test_a_diffusers_folder_of_no_known_family(tmp_path: Path, config: str) -> None:
    folder = diffusers(tmp_path / "m")
    (folder / "unet" / "config.json").write_text(config)
    assert "cross_attention_dim" in problem(folder)


def test_a_folder_that_is_no_model_says_what_is_in_it(tmp_path: Path) -> None:
    (tmp_path / "m").mkdir()
    assert "is empty" in problem(tmp_path / "m")
    for number in range(7):
        (tmp_path / "m" / f"{number}.png").touch()
    assert "0.png, 1.png, 2.png, 3.png, 4.png and 2 more" in problem(tmp_path / "m")
    checkpoint(tmp_path / "m" / "model.safetensors", "sd15")
    assert "contains model.safetensors" in problem(tmp_path / "m")


def test_a_hub_id(tmp_path: Path) -> None:
    assert inspect_base_model("org/name-v1.5", tmp_path, "sd15") == BaseFacts(kind="hub")
    assert "Hugging Face id" in (inspect_base_model("org/name-v1.5", tmp_path).problem or "")


@pytest.mark.parametrize(
    "model",
    [
        "models/x",
        "org/name.safetensors",
        "org/name.safetensor",
        "org/name.ckp",
        "org/name.ckpt",
        "name",
        "a/b/c",
        "./org/name",
        "/org/name",
        "org\0/x",
    ],
)
def test_what_cannot_be_a_hub_id_is_missing(tmp_path: Path, model: str) -> None:
    (tmp_path / "models").mkdir()
    facts = inspect_base_model(model, tmp_path, "sd15")
    assert facts.kind == "missing"
    assert facts.problem


def test_capital_letters_count(tmp_path: Path) -> None:
    (tmp_path / "Models").mkdir()
    (tmp_path / "Models" / "Nice.safetensors").touch()
    problem = inspect_base_model("models/nice.safetensors", tmp_path, "sd15").problem
    if not (tmp_path / "models").exists():  # a file system that tells them apart
        assert problem is not None
        assert "Models/Nice.safetensors" in problem


def test_one_part_of_a_diffusers_folder_is_no_model(tmp_path: Path) -> None:
    unet = tmp_path / "model" / "unet"
    unet.mkdir(parents=True)
    (unet / "config.json").write_text("{}")
    (unet / "diffusion_pytorch_model.safetensors").touch()
    problem = inspect_base_model("model/unet", tmp_path, "sd15").problem or ""
    assert problem.endswith("use its parent folder")
    assert "that file instead" not in problem


def test_a_missing_file_names_its_neighbours(tmp_path: Path) -> None:
    checkpoint(tmp_path / "right.safetensors", "sd15")
    assert "right.safetensors" in (inspect_base_model("wrong.safetensors", tmp_path).problem or "")
    assert f"neither does the folder {tmp_path / 'nowhere'}" in (
        inspect_base_model("nowhere/wrong.safetensors", tmp_path).problem or ""
    )


LAYERS: list[tuple[tuple[object, object], tuple[int, ...]]] = [
    ((12, 32), (12, 32)),
    ((2, None), (2,)),
    ((None, 32), ()),  # of the second alone nothing can be said
    (("12", 32), ()),
    ((True, 32), ()),
    ((0, 32), ()),
]


@pytest.mark.parametrize(("told", "layers"), LAYERS)
def test_a_diffusers_folder_tells_how_deep_its_text_encoders_are(
    tmp_path: Path, told: tuple[object, object], layers: tuple[int, ...]
) -> None:
    folder = diffusers(tmp_path / "m", "sdxl")
    for part, number in zip(("text_encoder", "text_encoder_2"), told, strict=True):
        (folder / part / "config.json").write_text(json.dumps({"num_hidden_layers": number}), encoding="utf-8")
    assert inspect(folder).text_layers == layers
