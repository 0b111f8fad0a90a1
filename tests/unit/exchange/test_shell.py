"""Commands as people have them: in a document, a shell script, PowerShell, a batch file."""

from __future__ import annotations

from pathlib import Path

import pytest

from lorabake.errors import RecipeError
from lorabake.exchange.command_line import read_arguments
from lorabake.exchange.foreign import ForeignConfig, Source
from lorabake.exchange.readers import read_foreign_file

BASH = r"""#!/bin/bash
# trains
model="a model.safetensors"; rank=32   # the rank
export EXTRA=1
args=()
if [[ $rank == 32 ]]; then args+=("--lowram"); fi
if [ "$EXTRA" == "2" ]; then
  args+=("--highvram")
elif [[ -n $rank ]]; then
  args+=("--network_args" "conv_dim=4" "algo=loha")
else
  args+=("--no_half_vae")
fi
CUDA_VISIBLE_DEVICES=0 accelerate launch --num_cpu_threads_per_process=2 --mixed_precision bf16 \
  "./sd-scripts/train_network.py" --pretrained_model_name_or_path="$model" \
  --network_dim ${rank} --unet_lr=${LR:-2e-4} --train_data_dir='C:\img' \
  --xformers "${args[@]}" 2>&1 | tee log.txt
"""
POWERSHELL = r"""# trains
$model = "a model.safetensors"
$rank = 32 # the rank
$ext_args = [System.Collections.ArrayList]::new()
if ($rank -gt 16) {
  [void]$ext_args.Add("--lowram")
}
if ($rank -eq 4) {
  [void]$ext_args.Add("--highvram")
}
elseif ($rank) {
  [void]$ext_args.Add("--network_args")
  [void]$ext_args.Add("conv_dim=4")
  [void]$ext_args.Add("algo=" + "loha")
}
else {
  [void]$ext_args.Add("--no_half_vae")
}
$script = if ($rank -eq 1) { "sdxl_train_network.py" } else { "train_network.py" }
python -m accelerate.commands.launch --num_cpu_threads_per_process=2 --mixed_precision bf16 "./sd-scripts/$script" `
  --pretrained_model_name_or_path="$model" `
  --network_dim $rank --unet_lr=2e-4 --train_data_dir='C:\img' `
  --xformers $ext_args
"""
BATCH = r"""@echo off
rem trains
set MODEL=a model.safetensors
set "RANK=32"
if "%RANK%"=="4" set RANK=8
call venv\Scripts\activate.bat & cd sd-scripts
accelerate launch --num_cpu_threads_per_process=2 --mixed_precision bf16 train_network.py ^
  --pretrained_model_name_or_path="%MODEL%" ^
  --network_dim %RANK% --unet_lr=2e-4 --train_data_dir="C:\img" ^
  --xformers --lowram --network_args "conv_dim=4" "algo=loha"
pause
"""


def read(folder: Path, text: str, name: str) -> ForeignConfig:
    (folder / name).write_text(text, "utf-8")
    return read_foreign_file(Source(path=folder / name, content=b""))


def values(config: ForeignConfig) -> dict[str, object]:
    return {name: given.value for name, given in config.options.items()}


@pytest.mark.parametrize(
    ("text", "name"), [(BASH, "a.sh"), (POWERSHELL, "a.ps1"), (BATCH, "a.bat"), (BATCH, "a.txt"), (POWERSHELL, "a.txt")]
)
def test_one_command_in_every_shell(text: str, name: str, tmp_path: Path) -> None:
    found = read(tmp_path, text, name)
    assert found.script == "train_network.py"
    assert values(found) == {
        "pretrained_model_name_or_path": "a model.safetensors",
        "network_dim": 32,
        "unet_lr": 2e-4,
        "train_data_dir": "C:\\img",
        "xformers": True,
        "lowram": True,
        "network_args": ("conv_dim=4", "algo=loha"),
    }
    assert found.launch["num_cpu_threads_per_process"].value == 2
    assert found.launch["mixed_precision"].value == "bf16"


def test_a_document_without_the_signs_for_long_lines(tmp_path: Path) -> None:
    text = "accelerate launch train_network.py\n    --network_dim=4\n    --seed 7\n"
    assert values(read(tmp_path, text, "line.txt")) == {"network_dim": 4, "seed": 7}


def test_sdxl_is_known_by_its_script(tmp_path: Path) -> None:
    assert read(tmp_path, "python sdxl_train_network.py --seed=1", "a.sh").script == "sdxl_train_network.py"


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("accelerate launch train_network.py --seed 1\n\naccelerate launch train_network.py --seed 2\n", "1, 3"),
        ("accelerate launch flux_train_network.py --seed 1\n", "flux_train_network.py"),
        ("accelerate launch train_text_to_image_lora_sdxl.py --seed 1\n", "train_text_to_image_lora_sdxl.py"),
        ("accelerate launch other.py\n", "sdxl_train_network.py"),
    ],
)
def test_what_cannot_be_chosen_is_named(text: str, word: str, tmp_path: Path) -> None:
    with pytest.raises(RecipeError) as caught:
        read(tmp_path, text, "a.sh")
    assert word in f"{caught.value.message} {caught.value.hint}"


def test_a_variable_without_a_value_is_missing(tmp_path: Path) -> None:
    found = read(tmp_path, 'accelerate launch train_network.py --vae="$VAE" --seed 1', "a.sh")
    assert found.options["vae"].value == "$VAE"
    assert [line.key for line in found.missing] == ["--vae"]


def test_the_options_of_a_config_file_come_first(tmp_path: Path) -> None:
    (tmp_path / "c.toml").write_text("seed = 1\nnetwork_dim = 8\n", "utf-8")
    found = values(read(tmp_path, "accelerate launch train_network.py --config_file=c.toml --seed=2", "a.sh"))
    assert (found["seed"], found["network_dim"]) == (2, 8)


@pytest.mark.parametrize(
    ("tokens", "option", "value"),
    [
        (["--seed=3"], "seed", 3),
        (["--optimizer_args", "a=1", "b=2", "--seed", "1"], "optimizer_args", ("a=1", "b=2")),
        (["--save_every_n_e", "2"], "save_every_n_epochs", 2),
        (["--text_encoder_lr", "1e-5"], "text_encoder_lr", (1e-5,)),
        (["--resolution=512,768"], "resolution", "512,768"),
    ],
)
def test_arguments_are_read_as_argparse_does(tokens: list[str], option: str, value: object) -> None:
    assert read_arguments(tokens).options[option].value == value


def test_unknown_arguments_are_kept_for_the_report() -> None:
    found = read_arguments(["--train_text_encoder", "--stop", "3", "--seed", "1"]).options
    assert {name: given.value for name, given in found.items()} == {"train_text_encoder": True, "stop": "3", "seed": 1}


def test_a_line_that_argparse_refuses_is_an_error() -> None:
    with pytest.raises(RecipeError):
        read_arguments(["--save_every_n", "2"])  # ambiguous
    with pytest.raises(RecipeError):
        read_arguments(["--seed"])


def test_a_value_that_only_a_shell_knows_is_missing(tmp_path: Path) -> None:
    text = "accelerate launch train_network.py --network_alpha ${ALPHA} --learning_rate $(cat lr) --network_args $A b=1"
    found = read(tmp_path, text, "a.sh")
    assert [line.key for line in found.missing] == ["--network_args", "--network_alpha", "--learning_rate"]


def test_a_config_file_elsewhere_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "c.toml").write_text("seed = 1\n", "utf-8")
    (tmp_path / "here").mkdir()
    found = read(tmp_path / "here", "accelerate launch train_network.py --config_file=../c.toml", "a.sh")
    assert "seed" not in found.options
    assert [line.key for line in found.missing] == ["--config_file"]
