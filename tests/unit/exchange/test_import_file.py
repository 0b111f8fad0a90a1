"""Paths in an imported recipe: the file's are seen from the file, the user's from the current folder."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest

from dataset_layouts import draw, sentences, tags
from lorabake.errors import RecipeError
from lorabake.exchange.foreign import Source
from lorabake.exchange.import_file import import_file, write_import
from lorabake.exchange.to_recipe import ImportedRecipe
from situations import write_base

FLAT = """
pretrained_model_name_or_path = "m.safetensors"
train_data_dir = "img"
network_module = "networks.lora"
network_dim = 4
learning_rate = 1e-4
max_train_epochs = 3
log_tracker_config = "tracker.toml"
base_weights = ["w.safetensors"]
base_weights_multiplier = [1.0]
"""


def bring(file: Path, target: Path, images: Path | None = None, model: Path | None = None) -> dict[str, Any]:
    made = import_file(Source(path=file, content=b"", images=images, model=model))
    return tomllib.loads(write_import(made, target, str, (images, model), write_command=str).read_text("utf-8"))


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder; another one has the file, and something of every name."""
    for place in ("here", "there"):
        (tmp_path / place / "img" / "10_zork girl").mkdir(parents=True)
        (tmp_path / place / "mine").mkdir()
        for name in ("m.safetensors", "n.safetensors", "tracker.toml", "w.safetensors"):
            (tmp_path / place / name).write_bytes(b"")
    (tmp_path / "there" / "old.toml").write_text(FLAT, "utf-8")
    (tmp_path / "here" / "deep").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path / "here"


def test_the_paths_of_the_file_are_seen_from_the_file(here: Path) -> None:
    made = bring(here.parent / "there" / "old.toml", Path("made.toml"))
    assert made["base"]["model"] == "../there/m.safetensors"
    assert [each["images"] for each in made["concept"]] == ["../there/img/10_zork girl"]
    assert made["kohya"]["log_tracker_config"] == "../there/tracker.toml"
    assert made["kohya"]["base_weights"] == ["../there/w.safetensors"]


@pytest.mark.parametrize(("target", "up"), [("made.toml", ""), ("deep/made.toml", "../")])
def test_what_the_user_names_is_seen_from_the_current_folder(target: str, up: str, here: Path) -> None:
    made = bring(Path("../there/old.toml"), Path(target), Path("mine"), Path("n.safetensors"))
    assert made["base"]["model"] == f"{up}n.safetensors"
    assert [each["images"] for each in made["concept"]] == [f"{up}mine"]
    made = bring(Path("../there/old.toml"), here / "deep" / "second.toml", here / "mine", here / "n.safetensors")
    assert made["base"]["model"] == str(here / "n.safetensors")


@pytest.mark.usefixtures("here")
def test_a_hub_id_stays() -> None:
    made = bring(Path("../there/old.toml"), Path("deep/made.toml"), model=Path("some/model"))
    assert made["base"]["model"] == "some/model"


BARE = 'network_module = "networks.lora"\nnetwork_dim = 4\nlearning_rate = 1e-4\nmax_train_epochs = 3\n'


def load(place: Path, text: str = BARE, images: Path | None = None, model: Path | None = None) -> ImportedRecipe:
    (place / "preset.toml").write_text(text, "utf-8")
    return import_file(Source(path=place / "preset.toml", content=b"", images=images, model=model))


def list_missing(made: ImportedRecipe) -> dict[str, str]:
    return {line.key: line.value for line in made.report.missing}


def test_the_only_model_of_a_folder_is_used_where_the_file_names_none(tmp_path: Path) -> None:
    models = tmp_path / "models"
    models.mkdir()
    assert load(tmp_path, model=models).content["base"]["model"] == "models/base-model.safetensors"
    write_base(models / "one.safetensors")
    made = load(tmp_path, model=models)
    assert made.content["base"]["model"] == str(models / "one.safetensors")
    assert list_missing(made)["base.model"] == str(models / "one.safetensors")
    write_base(models / "two.safetensors")
    with pytest.raises(RecipeError, match=r"one\.safetensors, two\.safetensors"):
        load(tmp_path, model=models)


@pytest.mark.parametrize("named", [False, True])
def test_captions_that_are_sentences_are_seen_as_init_sees_them(tmp_path: Path, named: bool) -> None:
    draw(tmp_path / "pics" / "1_ohwxzed", 6, sentences("A photo of ohwxzed"))
    draw(tmp_path / "tagged" / "1_ohwxzed", 6, tags("ohwxzed"))
    text = BARE + ('train_data_dir = "nowhere"\n' if named else 'train_data_dir = "pics"\ncaption_extension = ".txt"\n')
    made = load(tmp_path, text + 'caption_extension = ".txt"\n' * named, tmp_path / "pics" if named else None)
    assert made.content["base"]["tags"] == list_missing(made)["base.tags"] == "natural"
    made = load(tmp_path, text.replace("pics", "tagged"), tmp_path / "tagged" if named else None)
    assert "tags" not in made.content["base"]


def test_text_for_other_images_is_named(tmp_path: Path) -> None:
    text = f'{BARE}training_comment = "oldword"\ncaption_prefix = "oldword,"\ntrain_data_dir = "old"\n'
    draw(tmp_path / "pics", 2)
    kept = {"metadata.comment": "oldword", "captions.caption_prefix": "oldword,"}
    assert kept.items() <= list_missing(load(tmp_path, text, images=tmp_path / "pics")).items()
    assert not kept.keys() & list_missing(load(tmp_path, text)).keys()
