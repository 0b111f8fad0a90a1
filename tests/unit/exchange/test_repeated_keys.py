"""Keys that a file has twice, files with too many keys, and damaged files that are recognized anyway."""

from __future__ import annotations

from pathlib import Path

import pytest

from lorabake.errors import RecipeError
from lorabake.exchange.foreign import ForeignConfig, Source
from lorabake.exchange.readers import read_foreign_file

GUI = """{"LoRA_type": "Standard", "network_dim": 8, "wandb_api_key": "sk-1", "network_dim": 32, "wandb_api_key": ""}"""
ONE = """{"training_method": "LORA", "model_type": "STABLE_DIFFUSION_15", "lora_rank": 4, "lora_rank": 8,
"secrets": {"huggingface_token": "sk-1"}, "secrets": {},
"concepts": [{"path": "a", "text": {"x": [{"hf_token": "sk-1"}]}, "text": {}, "path": "b"}]}"""
JOB = """job: extension
config:
  name: a
  process:
  - type: sd_trainer
    shared: &shared {lr: 1e-4}
    network: {type: lora, linear: 4, linear: 8}
    train:
      <<: *shared
      <<: *shared
      steps: 10
      steps: 20
    model: {name_or_path: runwayml/stable-diffusion-v1-5}
    datasets: [{folder_path: img, hf_token: sk-1, hf_token: x}]
"""
PROCESS = "config.process[0]"
CASES = {
    "gui.json": (GUI, {"network_dim": "8", "wandb_api_key": ""}),
    "one.json": (ONE, {"lora_rank": "4", "secrets": "", "concepts[0].text": '{"x": [{}]}', "concepts[0].path": "a"}),
    "job.yaml": (JOB, {f"{PROCESS}.network.linear": "4", f"{PROCESS}.train.steps": "10",
                       f"{PROCESS}.datasets[0].hf_token": ""}),
}  # fmt: skip


def read(folder: Path, name: str, text: str) -> ForeignConfig:
    path = folder / name
    path.write_text(text, "utf-8")
    return read_foreign_file(Source(path=path, content=b""))


@pytest.mark.parametrize("name", CASES)
def test_each_value_that_a_later_one_replaces_has_a_line(name: str, tmp_path: Path) -> None:
    text, expected = CASES[name]
    config = read(tmp_path, name, text)
    lines = [line for line in config.keys if line.fate == "dropped"]
    assert expected.items() <= {line.key: line.value for line in lines}.items()
    assert "sk-1" not in str([line.model_dump() for line in lines])


def test_a_configuration_with_too_many_keys_is_refused(tmp_path: Path) -> None:
    keys = "\n".join(f"k{number} = 1" for number in range(30_000))
    with pytest.raises(RecipeError) as caught:
        read(tmp_path, "many.toml", f'pretrained_model_name_or_path = "m"\n{keys}')
    assert [each.rule for each in caught.value.findings] == ["foreign-file"]


@pytest.mark.parametrize(
    ("text", "line"),
    [('pretrained_model_name_or_path = "m"\nnetwork_module = "networks.lora"\nseed = 1\nseed = 2\n', 4),
     ("[general]\n[[datasets]]\nresolution = \n", 3)],
)  # fmt: skip
def test_a_damaged_toml_file_has_its_line(text: str, line: int, tmp_path: Path) -> None:
    with pytest.raises(RecipeError) as caught:
        read(tmp_path, "damaged.toml", text)
    assert [each.line for each in caught.value.findings] == [line]
