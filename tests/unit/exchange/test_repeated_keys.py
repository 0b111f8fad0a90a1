"""Keys that a file has twice, files with too many keys, and damaged files that are recognized anyway."""

from __future__ import annotations

from pathlib import Path

import pytest

from lora_files import SMALL, metadata, write
from lorabake.errors import RecipeError
from lorabake.exchange.foreign import ForeignConfig, Source
from lorabake.exchange.readers import read_foreign_file

GUI = """{"LoRA_type": "Standard", "network_dim": 0, "wandb_api_key": "sk-1", "network_dim": 16, "network_dim": 32,
"wandb_api_key": ""}"""
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
    "gui.json": (GUI, {"network_dim": "0, 16", "wandb_api_key": ""}),
    "one.json": (ONE, {"lora_rank": "4", "secrets.huggingface_token": "",
                       "concepts[0].text.x[0].hf_token": "", "concepts[0].path": "a"}),
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


def test_metadata_of_a_lora(tmp_path: Path) -> None:
    path = write(tmp_path / "lum.safetensors", SMALL, metadata(ss_seed="42"))
    content = path.read_bytes()
    size = int.from_bytes(content[:8], "little")
    header = content[8 : 8 + size].replace(b'"ss_seed": "42"', b'"ss_seed": "7", "ss_seed": "42"')
    path.write_bytes(len(header).to_bytes(8, "little") + header + content[8 + size :])
    config = read_foreign_file(Source(path=path, content=b""))
    assert config.options["seed"].value == 42
    assert [(line.key, line.value) for line in config.keys if line.key == "ss_seed"] == [("ss_seed", "7")]


def test_a_configuration_with_too_many_keys_is_refused(tmp_path: Path) -> None:
    different = 'pretrained_model_name_or_path = "m"\n' + "\n".join(f"k{at} = 1" for at in range(30_000))
    equal = '{"LoRA_type": "Standard", ' + ", ".join(f'"a": {at}' for at in range(30_000)) + "}"
    deep = f'{{"LoRA_type": "Standard", "a": {"[" * 900}{"]" * 900}, "a": 1}}'
    for name, text in {"many.toml": different, "many.json": equal, "deep.json": deep}.items():
        with pytest.raises(RecipeError) as caught:
            read(tmp_path, name, text)
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


def test_a_second_file_has_a_line_for_each(tmp_path: Path) -> None:
    dataset = tmp_path / "d.json"
    table = """{"datasets": [{"resolution": 512, "resolution": 768,
    "subsets": [{"image_dir": "a", "image_dir": "b", "hf_token": "sk-1", "hf_token": ""}]}]}"""
    dataset.write_text(table, "utf-8")
    config = tmp_path / "a.toml"
    config.write_text("network_module = 'networks.lora'\ndataset_config = 'd.json'\n", "utf-8")
    expected = {"datasets[0].resolution": "512", "datasets[0].subsets[0].image_dir": "a"}
    for source in (Source(path=config, content=b""), Source(path=config, content=b"", dataset=dataset)):
        lines = read_foreign_file(source).keys
        assert expected.items() <= {line.key: line.value for line in lines if line.fate == "dropped"}.items()
        assert "sk-1" not in str([line.model_dump() for line in lines])


def test_concepts_and_samples_of_their_own_files(tmp_path: Path) -> None:
    files = {
        "concepts.json": '[{"path": "x"}, {"path": "a", "path": "b"}]',
        "samples.json": '[{"prompt": "a", "prompt": "b", "enabled": true}]',
    }
    for name, text in files.items():
        (tmp_path / name).write_text(text, "utf-8")
    text = """{"training_method": "LORA", "model_type": "STABLE_DIFFUSION_15", "concept_file_name": "concepts.json",
    "sample_definition_file_name": "samples.json"}"""
    lines = {line.key: line.value for line in read(tmp_path, "one.json", text).keys if line.fate == "dropped"}
    assert {"concepts[1].path": "a", "samples[0].prompt": "a"}.items() <= lines.items()
