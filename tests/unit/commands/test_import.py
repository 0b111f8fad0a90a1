"""The command: what it writes, what it prints, and with which code it ends."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from lorabake.cli import main
from lorabake.recipe.load import load_recipe

CONFIG = """
pretrained_model_name_or_path = "model.safetensors"
train_data_dir = "img"
network_module = "networks.lora"
output_name = "zork"
wandb_api_key = "hunter2"
no_such_thing = 1
"""


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["import", *arguments])


@pytest.fixture(autouse=True)
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "old.toml"
    path.write_text(CONFIG, "utf-8")
    return path


def test_a_recipe_is_written_and_checked(tmp_path: Path) -> None:
    done = run("old.toml")
    assert done.exit_code == 1  # there is no model and no image
    assert load_recipe(tmp_path / "zork.toml").recipe is not None
    assert "G4.9" in done.output
    assert "no_such_thing" in done.output
    assert "hunter2" not in done.output


def test_nothing_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text("mine", "utf-8")
    assert run("old.toml", "-o", "mine.toml").exit_code == 1
    assert (tmp_path / "mine.toml").read_text("utf-8") == "mine"


def test_json_is_the_report() -> None:
    report = json.loads(run("old.toml", "--json").stdout)
    assert report["recipe"] == "zork.toml"
    assert {line["key"]: line["fate"] for line in report["keys"]}["no_such_thing"] == "unknown"


@pytest.mark.parametrize(
    "content", [b"", b"\x89PNG\r\n\x1a\n", b"name = 1\nkind = 2\n", b'{"a": 1}', b"{", b"\xff\xfe"]
)
def test_what_is_not_known_is_an_error(content: bytes, config: Path) -> None:
    config.write_bytes(content)
    done = run("old.toml")
    assert (done.exit_code, done.exception.__class__) == (1, SystemExit)


def test_check_names_the_command(config: Path) -> None:
    (found,) = load_recipe(config).findings
    assert found.rule == "foreign-file"
    assert "lorabake import" in (found.fix or "")


def test_json_says_why_it_fails() -> None:
    done = run("old.toml", "--json")
    assert done.exit_code == 1
    found = json.loads(done.stdout)["check"]["findings"]
    assert "G4.9" in {each["rule"] for each in found if each["severity"] == "error"}


def test_a_second_import_names_the_option_for_another_file(tmp_path: Path) -> None:
    run("old.toml")
    before = (tmp_path / "zork.toml").read_bytes()
    (tmp_path / "zork-2.toml").write_text("mine", "utf-8")
    assert "lorabake import old.toml --images 'my images' -o zork-3.toml" in run(
        "old.toml", "--images", "my images"
    ).stderr.replace("\n", " ")
    assert (tmp_path / "zork.toml").read_bytes() == before


@pytest.mark.parametrize(
    ("name", "content"),
    [("cut.json", b'{\n"LoRA_type": "Standard",\n"a'), ("none.toml", b""), ("four.json", b"\0" * 4)],
)
def test_a_damaged_file_is_an_error(name: str, content: bytes, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    done = run(name)
    assert done.exit_code == 1
    assert name in done.stderr
    assert ("line 3" in done.stderr) == (name == "cut.json")


@pytest.mark.parametrize(
    ("arguments", "shown"),
    [
        (("sub",), "lorabake init sub"),
        (("ol.toml",), "old.toml"),
        (("C:\\x\\y.toml",), "/mnt/d"),
        (("old.toml", "-o", "nowhere/x.toml"), "nowhere"),
        (("old.toml", "-o", "sub"), "sub"),
        (("old.toml", "--image", "x"), "--images"),
    ],
)
def test_a_wrong_path_says_what_was_meant(arguments: tuple[str, ...], shown: str, tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    done = run(*arguments)
    assert done.exit_code in {1, 2}
    assert shown in done.stderr


@pytest.mark.parametrize("option", ["--rank", "--base", "--xyz"])
def test_only_near_options_are_suggested(option: str) -> None:
    assert "--lang" not in (text := run("old.toml", option, "3").stderr)
    assert "--dataset" not in text


@pytest.mark.parametrize("command", [("export", "--to", "kohya_ss"), ("inspect",), ("compile", "-o", "x"), ("status",)])
def test_every_command_names_import(command: tuple[str, ...], tmp_path: Path) -> None:
    (tmp_path / "preset.json").write_text('{"LoRA_type": "Standard", "train_data_dir": "x"}', "utf-8")
    assert "lorabake import preset.json" in CliRunner().invoke(main, [command[0], "preset.json", *command[1:]]).output
