"""Files of other programs that are not UTF-8: a comment is of no interest, and no path becomes another one."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lorabake.errors import RecipeError
from lorabake.exchange.foreign import Source
from lorabake.exchange.import_file import import_file

OPTIONS = (
    "--pretrained_model_name_or_path m.safetensors --network_module networks.lora --output_name lum --train_data_dir "
)
JOB = """# {note}
job: extension
config:
  name: lum
  process:
  - type: sd_trainer
    network: {{type: lora, linear: 4}}
    train: {{steps: 10}}
    model: {{name_or_path: m.safetensors}}
    datasets: [{{folder_path: "{path}"}}]
"""
CONFIG = """pretrained_model_name_or_path = "m.safetensors" # {note}
network_module = "networks.lora"
train_data_dir = "{path}"
"""
DATASET = """# {note}
[[datasets]]
resolution = 512
[[datasets.subsets]]
image_dir = "{path}"
"""
GUI = {"LoRA_type": "Standard", "max_resolution": "512,512", "pretrained_model_name_or_path": "m.safetensors"}
# Each with a comment and a path; JSON has no comments.
TEXTS = {
    "a.sh": "# {note}\naccelerate launch train_network.py " + OPTIONS + "{path}\n",
    "a.bat": "rem {note}\r\naccelerate launch train_network.py ^\r\n" + OPTIONS + "{path}\r\n",
    "a.ps1": "# {note}\n$d = '{path}'\naccelerate launch train_network.py " + OPTIONS + "$d\n",
    "written.sh": "# {note}\ncat > d.toml <<EOF\n" + DATASET + "EOF\naccelerate launch train_network.py "
    + OPTIONS.replace("--train_data_dir", "--dataset_config d.toml") + "\n",
    "config.toml": CONFIG,
    "dataset.toml": DATASET,
    "easy.toml": "# {note}\n[general_args.args]\npretrained_model_name_or_path = 'm.safetensors'\n"
    "[[subsets]]\nimage_dir = '{path}'\n",
    "lora-scripts.toml": CONFIG + "model_train_type = 'sd-lora'\n",
    "job.yaml": JOB,
    "gui.json": json.dumps({**GUI, "train_data_dir": "PATH"}).replace("PATH", "{path}").replace('{"', '{{"')
    .replace('"}', '"}}'),
}  # fmt: skip
# Characters whose second bytes are a backslash, a bar, a caret and a brace, and others that look like UTF-8.
NOTES = {"gbk": "训练脚本 联通", "shift_jis": "表予能十ポ 学習 表"}


def read(folder: Path, name: str, content: bytes, dataset: Path | None = None) -> dict[str, object]:
    (folder / name).write_bytes(content)
    made = import_file(Source(path=folder / name, content=b"", dataset=dataset))
    found: dict[str, object] = made.content["concept"][0]
    return found


@pytest.mark.parametrize("name", TEXTS)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_marked_text_is_read_as_what_it_is(name: str, encoding: str, tmp_path: Path) -> None:
    path = "图片_表"
    text = TEXTS[name].format(note=NOTES["gbk"], path=path)
    assert path in str(read(tmp_path, name, text.encode(encoding))["images"])


@pytest.mark.parametrize("name", [name for name in TEXTS if name != "gui.json"])
@pytest.mark.parametrize("encoding", NOTES)
def test_a_comment_may_be_anything(name: str, encoding: str, tmp_path: Path) -> None:
    text = TEXTS[name].format(note=NOTES[encoding], path="img")
    assert "img" in str(read(tmp_path, name, text.encode(encoding))["images"])


@pytest.mark.parametrize("name", TEXTS)
@pytest.mark.parametrize("encoding", NOTES)
def test_a_path_is_never_another_one(name: str, encoding: str, tmp_path: Path) -> None:
    text = TEXTS[name].format(note="note", path=NOTES[encoding].replace(" ", "_"))
    with pytest.raises(RecipeError) as caught:
        read(tmp_path, name, text.encode(encoding))
    line = next(number for number, each in enumerate(text.split("\n"), 1) if NOTES[encoding][:2] in each)
    assert [each.line for each in caught.value.findings] == [line] or name == "written.sh"


def test_second_files_are_read_alike(tmp_path: Path) -> None:
    dataset = tmp_path / "d.toml"
    first = CONFIG.format(note="", path="img").encode()
    dataset.write_bytes(DATASET.format(note=NOTES["gbk"], path="other").encode("gbk"))
    assert "other" in str(read(tmp_path, "config.toml", first, dataset)["images"])
    dataset.write_bytes(DATASET.format(note="", path=NOTES["gbk"]).encode("gbk"))
    with pytest.raises(RecipeError) as caught:
        read(tmp_path, "config.toml", first, dataset)
    assert caught.value.findings[0].line == 5
    (tmp_path / "concepts.json").write_bytes(f'[{{"path": "{NOTES["gbk"]}"}}]'.encode("gbk"))
    one = {"training_method": "LORA", "model_type": "STABLE_DIFFUSION_15", "concept_file_name": "concepts.json"}
    with pytest.raises(RecipeError):
        read(tmp_path, "one.json", json.dumps(one).encode())
