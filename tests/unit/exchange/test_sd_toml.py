"""sd-scripts' own TOML files: every key is taken or reported, as sd-scripts reads them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from lorabake.errors import RecipeError
from lorabake.exchange import simplify
from lorabake.exchange.foreign import ForeignConfig, Source
from lorabake.exchange.readers import read_foreign_file
from lorabake.exchange.stand_ins import train_on
from lorabake.exchange.to_recipe import ImportedRecipe, make_recipe

FLAT = """
pretrained_model_name_or_path = "model.safetensors"
train_data_dir = "img"
network_module = "networks.lora"
network_dim = 16
network_alpha = 8
learning_rate = 1e-4
max_train_epochs = 10
resolution = "512,512"
"""


def read(folder: Path, text: str, name: str = "train.toml", dataset: Path | None = None) -> ForeignConfig:
    (folder / name).write_text(text, "utf-8")
    return read_foreign_file(Source(path=folder / name, content=b"", dataset=dataset))


def bring(folder: Path, text: str, name: str = "train.toml", dataset: Path | None = None) -> ImportedRecipe:
    source = Source(path=folder / name, content=b"", dataset=dataset)
    return make_recipe(read(folder, text, name, dataset), source)


def fates(made: ImportedRecipe) -> dict[str, str]:
    return {line.key: line.fate for line in made.report.keys}


def test_sections_have_no_meaning(tmp_path: Path) -> None:
    sections = FLAT.replace("network_module", "[network]\nnetwork_module").replace(
        "learning_rate", "[x]\nlearning_rate"
    )
    assert bring(tmp_path, sections).content == bring(tmp_path, FLAT).content


def test_every_key_has_a_line(tmp_path: Path) -> None:
    extra = 'no_such_option = 3\nflip_aug = false\nvae = ""\nbucket_reso_steps = 64\noutput_dir = "out"\nresume = "x"\n'
    found = fates(bring(tmp_path, FLAT + extra))
    assert found["no_such_option"] == "unknown"
    assert found["vae"] == "off"
    assert found["bucket_reso_steps"] == "default"
    assert (found["output_dir"], found["resume"]) == ("dropped", "dropped")
    assert found["network_alpha"] == "taken"
    assert found["pretrained_model_name_or_path"] == "renamed"
    assert found["resolution"] == "computed"
    names = [line.split("=")[0].strip() for line in (FLAT + extra).splitlines() if "=" in line]
    assert set(names) <= found.keys()


@pytest.mark.parametrize("name", ["wandb_api_key", "huggingface_token"])
def test_a_secret_is_not_copied(name: str, tmp_path: Path) -> None:
    made = bring(tmp_path, f'{FLAT}\n{name} = "hunter2"\n')
    assert fates(made)[name] == "dropped"
    assert "hunter2" not in f"{made}"


def test_numbers_as_text_are_read(tmp_path: Path) -> None:
    made = bring(tmp_path, FLAT.replace("1e-4", '"1e-3"').replace("network_dim = 16", 'network_dim = "64"'))
    assert made.content["train"]["learning_rate"] == 1e-3
    assert made.content["network"]["network_dim"] == 64
    assert fates(made)["network_dim"] == "repaired"


def test_a_value_of_another_kind_is_reported(tmp_path: Path) -> None:
    made = bring(tmp_path, FLAT + 'seed = "many"\nclip_skip = [1, 2]\n')
    assert (fates(made)["seed"], fates(made)["clip_skip"]) == ("dropped", "dropped")


DATASET = """
[general]
caption_extension = ".txt"
shuffle_caption = true
keep_tokens = 2

[[datasets]]
resolution = 512
batch_size = 4
  [[datasets.subsets]]
  image_dir = "sets/a"
  class_tokens = "zork girl"
  num_repeats = 10
  [[datasets.subsets]]
  is_reg = true
  image_dir = "sets/reg"
  class_tokens = "girl"
"""


def test_a_dataset_configuration_alone(tmp_path: Path) -> None:
    made = bring(tmp_path, DATASET, "data.toml")
    (concept,) = made.content["concept"]
    assert (concept["token"], concept["class"], concept["num_repeats"]) == ("zork", "girl", 10)
    (reg,) = made.content["regularization"]  # [general] is for them, too
    assert reg == {"class": "girl", "images": "sets/reg", "shuffle_caption": True, "keep_tokens": 2}
    assert made.content["train"]["train_batch_size"] == 4
    assert not made.report.added  # what trains it is unknown, so nothing is a default of it
    assert {"base.model"} <= {line.key for line in made.report.missing}


@pytest.mark.parametrize("named", [True, False])
def test_both_files_together(named: bool, tmp_path: Path) -> None:
    (tmp_path / "data.toml").write_text(DATASET, "utf-8")
    config = FLAT.replace('train_data_dir = "img"', "") + 'dataset_config = "C:\\\\kohya\\\\data.toml"\n'
    made = bring(tmp_path, config, dataset=None if named else tmp_path / "data.toml")
    assert made.content["concept"][0]["images"] == "sets/a"
    assert made.content["network"]["network_alpha"] == 8


def test_a_dataset_file_that_is_not_here_is_missing(tmp_path: Path) -> None:
    made = bring(tmp_path, FLAT.replace("train_data_dir", "dataset_config"))
    assert {"dataset_config", "concept.images"} <= {line.key for line in made.report.missing}


def test_several_resolutions_of_the_same_images(tmp_path: Path) -> None:
    block = '[[datasets]]\nresolution = {side}\nbatch_size = {batch}\n  [[datasets.subsets]]\n  image_dir = "a"\n'
    made = bring(tmp_path, block.format(side=512, batch=4) + block.format(side=768, batch=2), "data.toml")
    assert made.content["train"]["resolutions"] == [512, 768]
    assert made.content["train"]["train_batch_size"] == [4, 2]
    assert len(made.content["concept"]) == 1


def test_several_resolutions_of_different_images(tmp_path: Path) -> None:
    block = '[[datasets]]\nresolution = {side}\n  [[datasets.subsets]]\n  image_dir = "{name}"\n'
    made = bring(tmp_path, block.format(side=512, name="a") + block.format(side="[640, 768]", name="b"), "data.toml")
    assert [each["resolution"] for each in made.content["concept"]] == [512, [640, 768]]


def test_masks_and_metadata(tmp_path: Path) -> None:
    text = """
[[datasets]]
resolution = 512
  [[datasets.subsets]]
  image_dir = "a"
  conditioning_data_dir = "masks"
[[datasets]]
resolution = 512
  [[datasets.subsets]]
  image_dir = "b"
  metadata_file = "meta.json"
"""
    concepts = bring(tmp_path, text, "data.toml").content["concept"]
    assert concepts[0]["masks"] == "masks"
    assert concepts[1]["metadata_file"] == "meta.json"


@pytest.mark.parametrize("text", ["[[datasets]]\nresolution = [[\n", "general = {"])
def test_damage_is_an_error(text: str, tmp_path: Path) -> None:
    with pytest.raises(RecipeError):
        read(tmp_path, text)


def test_folders_with_repeats_are_found(tmp_path: Path) -> None:
    for name in ("10_zork girl", "3_mork", "notes"):
        (tmp_path / "img" / name).mkdir(parents=True)
    (tmp_path / "reg" / "1_girl").mkdir(parents=True)
    made = bring(tmp_path, FLAT + 'reg_data_dir = "reg"\n')
    found = [
        (each["images"], each["num_repeats"], each["token"], each.get("class")) for each in made.content["concept"]
    ]
    assert found == [("img/10_zork girl", 10, "zork", "girl"), ("img/3_mork", 3, "mork", None)]
    assert made.content["regularization"] == [{"class": "girl", "images": "reg/1_girl"}]
    assert made.content["kind"] == "character"


def test_what_the_user_names_takes_the_place(tmp_path: Path) -> None:
    (tmp_path / "mine" / "5_zork girl").mkdir(parents=True)
    path = tmp_path / "train.toml"
    path.write_text(FLAT, "utf-8")
    source = Source(path=path, content=b"", images=tmp_path / "mine", model=tmp_path / "other.safetensors")
    made = make_recipe(read_foreign_file(source), source)
    assert made.content["base"]["model"] == str(tmp_path / "other.safetensors")
    assert made.content["concept"][0]["images"] == str(tmp_path / "mine" / "5_zork girl")
    assert made.content["concept"][0]["num_repeats"] == 5


def test_what_is_no_table_has_a_line_and_general_is_kept(tmp_path: Path) -> None:
    made = bring(tmp_path, 'datasets = "x"\n[general]\nresolution = 640\nshuffle_caption = "yes"\n', "data.toml")
    assert fates(made)["datasets"] == "dropped"
    assert fates(made)["general.shuffle_caption"] == "repaired"
    assert made.content["train"]["resolution"] == 640
    text = 'general = 3\n[[datasets]]\nsubsets = "x"\n[[datasets]]\nsubsets = [1, 2]\n'
    lines = fates(bring(tmp_path, text, "data.toml"))
    assert {"general", "datasets[0].subsets", "datasets[1].subsets[0]", "datasets[1].subsets[1]"} <= lines.keys()


def test_a_key_in_two_sections_has_two_lines(tmp_path: Path) -> None:
    made = bring(tmp_path, FLAT + '[a]\nnetwork_dim = 4\nwandb_api_key = "hunter2"\n[b]\nwandb_api_key = "hunter3"\n')
    found = {line.key: line for line in made.report.keys}
    assert (found["network_dim"].fate, found["a.network_dim"].to) == ("dropped", "network.network_dim")
    assert "hunter" not in f"{made}"


@pytest.mark.parametrize("named", ["/{here}/../data.toml", "../data.toml", "/etc/passwd", "link.toml"])
def test_no_file_elsewhere_is_read(named: str, tmp_path: Path) -> None:
    (tmp_path / "data.toml").write_text('[[datasets]]\n[[datasets.subsets]]\nimage_dir = "secret"\n', "utf-8")
    folder = tmp_path / "here"
    folder.mkdir()
    (folder / "link.toml").symlink_to(tmp_path / "data.toml")
    text = FLAT + f'dataset_config = "{named.format(here=folder)}"\n'
    if named == "link.toml":
        with pytest.raises(RecipeError):
            read(folder, text)
        return
    made = bring(folder, text)
    assert "secret" not in f"{made}"
    assert "dataset_config" in {line.key for line in made.report.missing}


def test_many_folders_are_planned_few_times(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def write(count: int) -> str:
        part = '[[datasets]]\nresolution = {0}\n[[datasets.subsets]]\nimage_dir = "d{0}"\nclass_tokens = "t{0} girl"\n'
        return "".join(part.format(512 + 64 * at) for at in range(count))

    planned = 0

    def count_plans(*given: Any) -> Any:
        nonlocal planned
        planned += 1
        return train_on(*given)

    monkeypatch.setattr(simplify, "train_on", count_plans)
    assert len(bring(tmp_path, write(8), "data.toml").content["concept"]) == 8
    few, planned = planned, 0
    assert len(bring(tmp_path, write(24), "data.toml").content["concept"]) == 24
    assert planned == few
    with pytest.raises(RecipeError):
        bring(tmp_path, write(301), "data.toml")


@pytest.mark.parametrize(
    "line", ['network_module = "networks.lora_sd3"', 't5xxl = "t5xxl.safetensors"', 'ae = "ae.sft"']
)
def test_what_trains_other_models_is_refused(tmp_path: Path, line: str) -> None:
    text = FLAT.replace('network_module = "networks.lora"', line)
    with pytest.raises(RecipeError) as caught:
        bring(tmp_path, text)
    assert line.split(" = ", maxsplit=1)[0] in str(caught.value)


def test_a_file_that_cannot_be_planned_keeps_what_every_recipe_needs(tmp_path: Path) -> None:
    made = bring(tmp_path, FLAT.replace('"512,512"', '"64,64"') + "min_bucket_reso = 2048\nenable_bucket = true\n")
    assert {"name", "kind", "base", "concept"} <= made.content.keys()
    assert made.content["base"]["family"] == "sd15"


def test_a_dataset_file_is_found_from_any_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = tmp_path / "team"
    place.mkdir()
    (place / "data.toml").write_text(
        '[[datasets]]\n[[datasets.subsets]]\nimage_dir = "img"\nnum_repeats = 3\n', "utf-8"
    )
    monkeypatch.chdir(tmp_path)
    for name in ("data.toml", "./data.toml", str(place / "data.toml"), "C:\\\\team\\\\data.toml"):
        made = bring(Path("team"), FLAT + f'dataset_config = "{name}"\n')
        assert made.content["concept"][0]["num_repeats"] == 3
    made = bring(Path("team"), FLAT + 'dataset_config = "../team/../secret.toml"\n')
    assert fates(made)["dataset_config"] == "dropped"


def test_epochs_replace_steps_as_in_sd_scripts(tmp_path: Path) -> None:
    made = bring(tmp_path, FLAT + "max_train_steps = 2000\n")
    assert made.content["train"]["max_train_epochs"] == 10
    assert (fates(made)["max_train_epochs"], fates(made)["max_train_steps"]) == ("taken", "dropped")


@pytest.mark.parametrize(("interval", "fate"), [("", "repaired"), ("sample_every_n_steps = 100\n", "renamed")])
def test_prompts_without_an_interval_made_no_samples(interval: str, fate: str, tmp_path: Path) -> None:
    made = bring(tmp_path, FLAT + 'sample_prompts = "prompts.txt"\n' + interval)
    assert made.content["sample"]["prompts"] == "prompts.txt"
    assert fates(made)["sample_prompts"] == fate


def test_without_the_images_their_settings_are_unknown(tmp_path: Path) -> None:
    alone = FLAT.replace('train_data_dir = "img"\n', "")
    lost = alone + 'dataset_config = "dataset.toml"\n'
    for text, known in ((FLAT, True), (alone, False), (lost, False), (lost + 'train_data_dir = "img"\n', False)):
        made = bring(tmp_path, text)
        assert ("caption_extension" in made.content.get("captions", {})) == known
        assert ("enable_bucket" in made.content["train"]) == known


def test_false_is_no_text(tmp_path: Path) -> None:
    found = fates(bring(tmp_path, FLAT + "resume = false\nvae = false\n"))
    assert (found["resume"], found["vae"]) == ("off", "off")


def test_regularization_without_a_class_has_one_to_fill_in(tmp_path: Path) -> None:
    subsets = '[[datasets.subsets]]\nimage_dir = "img"\n[[datasets.subsets]]\nis_reg = true\nimage_dir = "reg"\n'
    made = bring(tmp_path, "[[datasets]]\nresolution = 512\n" + subsets, "dataset.toml")
    assert "regularization.class" in [each.to for each in made.report.missing]


@pytest.mark.parametrize(("name", "family"), [("copi-ki_SDXL.toml", "sdxl"), ("copi-ki.toml", "sd15")])
def test_without_a_base_model_the_name_of_the_file_shows_the_family(name: str, family: str, tmp_path: Path) -> None:
    text = FLAT.replace('pretrained_model_name_or_path = "model.safetensors"\n', "")
    assert bring(tmp_path, text, name).content["base"]["family"] == family
