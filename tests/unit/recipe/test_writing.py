"""The text of a recipe: what is read back is what was written, in one order, with comments that cannot break it."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest

from lorabake.errors import MachineError
from lorabake.recipe.load import load_recipe
from lorabake.recipe.writing import create_recipe_file, write_recipe

CONTENT: dict[str, Any] = {
    "kohya": {"weighted_captions": True, "ip_noise_gamma": 0.1},
    "train": {"optimizer_args": {"weight_decay": 0.01, "betas": [0.9, 0.99]}, "seed": 1, "optimizer": "AdamW"},
    "network": {"args": {"loraplus_lr_ratio": 16}, "type": "lora"},
    "concept": [{"images": "C:\\sets\\new", "class": "girl", "token": 'the "x"'}, {"images": "it's\\"}],
    "base": {"model": "m.safetensors", "tags": ["danbooru", "e621"]},
    "kind": "character",
    "name": "x",
    "sample": {"prompts": ["a long prompt " * 8, "b"]},
}


def test_what_was_written_is_read_back() -> None:
    assert tomllib.loads(write_recipe(CONTENT)) == CONTENT


def test_tables_and_keys_have_the_order_of_the_schema() -> None:
    text = write_recipe(CONTENT)
    order = ["name =", "[base]", "[[concept]]", "[network]", "[network.args]", "[train]", "[sample]", "[kohya]"]
    assert sorted(order, key=text.index) == order
    assert text.index("token =") < text.index("class =") < text.index("images =")
    assert text.index("ip_noise_gamma") < text.index("weighted_captions")
    assert text == write_recipe(dict(reversed(CONTENT.items())))


def test_comments_are_at_their_key_or_above_their_table() -> None:
    lines = write_recipe(
        CONTENT,
        ["first", "second"],
        {("train", "seed"): "why", ("concept", 1): "the other", ("base", "model"): "w " * 80},
    ).splitlines()
    assert lines[1:3] == ["# first", "# second"]
    assert next(line for line in lines if line.startswith("seed")).endswith("# why")
    at = [number for number, line in enumerate(lines) if line == "[[concept]]"][1]
    assert lines[at - 1] == "# the other"
    assert lines[lines.index('model = "m.safetensors"') - 1].startswith("#     w w")


@pytest.mark.parametrize("text", ["one\nname = 2", "\x1b[31m", "a\r[base]", "\u202e"])
def test_a_comment_stays_a_comment(text: str) -> None:
    written = write_recipe(CONTENT, [text], {("train", "seed"): text, ("base",): text})
    assert tomllib.loads(written) == CONTENT


def test_nothing_is_written_for_nothing() -> None:
    content: dict[str, Any] = {
        "name": "x",
        "train": {"seed": None},
        "kohya": {},
        "network": {"args": {}},
        "concept": [],
    }
    assert tomllib.loads(write_recipe(content)) == {"name": "x"}


def test_a_file_is_never_replaced(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    create_recipe_file(path, write_recipe(CONTENT))
    assert load_recipe(path).findings[0].rule == "windows-path"  # as written; of the shape nothing is wrong
    assert (tmp_path / "recipe.schema.json").is_file()
    with pytest.raises(MachineError):
        create_recipe_file(path, "name = 1")
    assert tomllib.loads(path.read_text("utf-8")) == CONTENT


INVISIBLE = "a\u202egpj\u200b\u2066\ufeff\x7f\x85\U000e0041"


@pytest.mark.parametrize("text", [INVISIBLE, f"C:\\{INVISIBLE}"])
def test_nothing_invisible_is_written(text: str) -> None:
    content = {"name": text, "sample": {"prompts": [text]}, "kohya": {text: text}, "network": {"args": {text: [text]}}}
    written = write_recipe(content)
    assert written.replace("\n", "").isprintable()
    assert tomllib.loads(written) == content


def test_half_a_surrogate_pair_gives_a_valid_file() -> None:
    assert tomllib.loads(write_recipe({"name": "a\ud800"}).encode().decode()) == {"name": "a\ufffd"}
