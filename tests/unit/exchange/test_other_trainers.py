"""Files of other trainers and front ends: recognized, and all the way to a recipe."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest

from lorabake.errors import RecipeError
from lorabake.exchange.foreign import Source
from lorabake.exchange.import_file import format_imported_recipe
from lorabake.exchange.readers import read_foreign_file
from lorabake.exchange.stand_ins import read_recipe
from lorabake.exchange.to_recipe import ImportedRecipe, make_recipe
from lorabake.recipe.foreign import recognize
from lorabake.util.i18n import ENGLISH

COPIED_NEVER = "hf_abcdefghijklmnop"
EASY = """
[[subsets]]
image_dir = "images"
num_repeats = 3
caption_extension = ".txt"

[train_mode]
train_mode = "lora"

[general_args.args]
pretrained_model_name_or_path = "ponyXL.safetensors"
sdxl = true
max_train_epochs = 8
mixed_precision = "bf16"
seed = 7

[general_args.dataset_args]
resolution = 1024
batch_size = 2

[network_args.args]
network_dim = 16
network_alpha = 8

[optimizer_args.args]
optimizer_type = "AdamW8bit"
learning_rate = 2e-4
lr_scheduler = "cosine"
warmup_ratio = 0.1

[saving_args.args]
output_name = "lum"
huggingface_token = "hf_abcdefghijklmnop"

[bucket_args.dataset_args]
enable_bucket = true
max_bucket_reso = 2048
"""
LORA_SCRIPTS = """
model_train_type = "sdxl-lora"
pretrained_model_name_or_path = "ponyXL.safetensors"
train_data_dir = "images"
resolution = "1024,1024"
max_bucket_reso = 2048
max_train_epochs = 8
train_batch_size = 2
unet_lr = "2e-4"
text_encoder_lr = "1e-5"
network_module = "lycoris.kohya"
lycoris_algo = "lokr"
lokr_factor = 8
network_dim = 16
network_alpha = 8
optimizer_type = "AdamW8bit"
lr_scheduler = "cosine"
output_name = "lum"
wandb_api_key = "hf_abcdefghijklmnop"
"""
ONE_TRAINER = """{
  "__version": 10,
  "training_method": "LORA",
  "model_type": "STABLE_DIFFUSION_XL_10_BASE",
  "base_model_name": "ponyXL.safetensors",
  "output_model_destination": "models/lum.safetensors",
  "epochs": 8,
  "batch_size": 2,
  "resolution": "1024",
  "lora_rank": 16,
  "lora_alpha": 8.0,
  "learning_rate": 0.0002,
  "learning_rate_scheduler": "COSINE",
  "optimizer": {"optimizer": "ADAMW_8BIT"},
  "secrets": {"huggingface_token": "hf_abcdefghijklmnop"},
  "concepts": [{"name": "lum", "path": "images", "balancing": 3.0, "balancing_strategy": "REPEATS"}]
}"""
AI_TOOLKIT = """# a job
job: extension
config:
  name: lum
  process:
    - type: sd_trainer
      trigger_word: lum
      network: {type: lora, linear: 16, linear_alpha: 8}
      save: {save_every: 100, push_to_hub: true, hf_token: hf_abcdefghijklmnop}
      datasets:
        - {folder_path: images, num_repeats: 3, resolution: [1024], caption_ext: txt}
      train: {steps: 800, batch_size: 2, lr: 0.0002, optimizer: adamw8bit, dtype: bf16}
      model: {name_or_path: ponyXL.safetensors, is_xl: true}
"""
SOURCES = {
    "easy-training-scripts": EASY,
    "lora-scripts": LORA_SCRIPTS,
    "one-trainer": ONE_TRAINER,
    "ai-toolkit": AI_TOOLKIT,
}


def make(text: str, folder: Path) -> ImportedRecipe:
    file = folder / "other.file"
    file.write_text(text, encoding="utf-8")
    source = Source(path=file, content=b"")
    return make_recipe(read_foreign_file(source), source)


@pytest.mark.parametrize("name", SOURCES)
def test_a_file_becomes_a_recipe(name: str, tmp_path: Path) -> None:
    made = make(SOURCES[name], tmp_path)
    assert made.report.format == name
    written = format_imported_recipe(made, ENGLISH)
    content: dict[str, Any] = tomllib.loads(written)
    recipe, findings = read_recipe(content)
    assert recipe is not None, findings
    assert COPIED_NEVER not in written + made.report.model_dump_json()
    assert (content["name"], content["base"]["family"]) == ("lum", "sdxl")
    assert content["base"]["model"] == "ponyXL.safetensors"
    assert content["concept"][0]["images"] == "images"
    network, train = content["network"], content["train"]
    # Without a key: lorabake's own value, which is the same one.
    assert (network.get("network_dim", 16), network.get("network_alpha", 8), train["train_batch_size"]) == (16, 8, 2)
    assert train["optimizer"] == "AdamW8bit"
    assert "max_bucket_reso" not in train
    if name != "lora-scripts":  # whose file names a folder of folders
        assert train["learning_rate"] == pytest.approx(2e-4)
        assert content["concept"][0]["num_repeats"] == 3
        assert "caption_extension" not in content["captions"]


DAMAGED = {
    "easy-training-scripts": EASY + "\nx =",
    "lora-scripts": LORA_SCRIPTS + "\nx =",
    "one-trainer": ONE_TRAINER.replace('"epochs": 8,', '"epochs": ,'),
    "ai-toolkit": AI_TOOLKIT + "  - x\n",
}


@pytest.mark.parametrize("name", DAMAGED)
def test_a_damaged_file_is_known_by_its_keys_and_says_the_line(name: str, tmp_path: Path) -> None:
    with pytest.raises(RecipeError) as caught:
        make(DAMAGED[name], tmp_path)
    (finding,) = caught.value.findings
    assert finding.line is not None


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("---\n# x\njob: train\nconfig: {}\n", "ai-toolkit"),
        ("job: train\n", None),
        ('{"training_method": "LORA", ', "one-trainer"),
        ('{"a": ', "json"),
        ('{"train_data_dir": "img", "network_dim": 8, "optimizer_type": "Lion"}', "sd-scripts-config"),
        ('{"train_data_dir": "img", "network_dim": 8, "epoch": 3}', "kohya-gui"),
        ('{"network_dim": 8, "optimizer_type": "Lion"}', ""),
        ("[network_args.args]\nnetwork_dim = \n", "easy-training-scripts"),
        ('name = "a"\nkind = \n[base]\n', None),
    ],
)
def test_recognized_by_their_own_keys(text: str, name: str | None) -> None:
    found = recognize(text.encode())
    assert (found and found.name) == name
