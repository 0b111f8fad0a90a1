"""init: whatever layout a dataset has, the recipe has no error, first try."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from dataset_layouts import LAYOUTS, draw, sentences, tags
from drafts import check, read, start
from lorabake.analysis.draft import find_answer_fault
from lorabake.analysis.draft_concepts import Answers
from lorabake.commands.output.init import make_init_report
from lorabake.errors import LorabakeError, MachineError, RecipeError
from lorabake.inputs.dataset import ScanOptions
from lorabake.jobs.init import InitOrder, look_around, make_draft, write_draft
from ordinary import ordinary_user
from situations import write_base


@pytest.mark.parametrize("name", LAYOUTS)
def test_every_layout_gives_a_recipe_without_an_error(tmp_path: Path, name: str) -> None:
    write_base(tmp_path / "models" / "base.safetensors")
    _, path = start(LAYOUTS[name](tmp_path / "data"), tmp_path)
    result = check(path)
    assert [(each.rule, each.message) for each in result.errors] == []
    assert result.plan is not None
    assert read(path)["base"]["model"] == "models/base.safetensors"


@pytest.mark.parametrize("name", LAYOUTS)
def test_without_a_model_nothing_else_is_missing(tmp_path: Path, name: str) -> None:
    draft, path = start(LAYOUTS[name](tmp_path / "data"), tmp_path)
    assert {each.rule for each in check(path).errors} == {"G4.7"}
    assert draft.questions[0].key == "model"


# Each layout with what its recipe has: kind, then token, outfit, class and images of each concept.
SEEN: Mapping[str, tuple[str, list[tuple[str | None, str | None, str | None, str]]]] = {
    "kohya_tree": ("character", [("ohwx", None, "man", "img/20_ohwx man")]),
    "kohya_img_itself": ("character", [("ohwx", None, "man", "img/20_ohwx man")]),
    "kohya_numbered_folder_itself": ("character", [("ohwx", None, "man", "img/20_ohwx man")]),
    "kohya_no_captions": ("character", [("zkw", None, "woman", "img/40_zkw woman")]),
    "flat_with_tags": ("character", [("mztsn", None, "feral", "mizutsune")]),
    "flat_tagged_without_trigger": ("character", [("hatsunemiku", None, None, "hatsune miku")]),
    "flat_photographs": ("character", [("ohwxlora", None, "person", "photos")]),
    "photographs_by_name": ("character", [("annaschmidt", None, "person", "Anna Schmidt")]),
    "folder_per_concept": ("character", [("bluecatx", None, "cat", "bluecatx"), ("redfoxy", None, "fox", "redfoxy")]),
    "folders_of_one_concept": ("object", [("hmbrgr", None, "food", "closeups"), ("hmbrgr", None, "food", "from afar")]),
    "series_tree": (
        "outfits",
        [
            ("Arzaros", "armoroutfit", "anthro", "Monster Series/Arzaros/1_armoroutfit"),
            ("Arzaros", "casualoutfit", "anthro", "Monster Series/Arzaros/1_casualoutfit"),
            ("Belmira", "swimoutfit", "anthro", "Monster Series/Belmira/1_swimoutfit"),
        ],
    ),
    "outfits_by_comma": (
        "outfits",
        [
            ("arzarm", "armoroutfit", None, "1_arzarm, armoroutfit"),
            ("arzarm", "casualoutfit", None, "1_arzarm, casualoutfit"),
        ],
    ),
    "style_from_tags": ("style", [(None, None, None, "set")]),
    "style_with_trigger": ("style", [("nkwsh", None, "style", "30_nkwsh style")]),
    "caption_sentences": ("character", [("ohwxlena", None, "woman", "anna")]),
    "short_sentences": ("character", [("zkwdog", None, "dog", "dataset")]),
    "with_regularization": ("character", [("zkw", None, "woman", "10_zkw woman")]),
    "images_and_leftovers": ("object", [("kttlx", None, "kettle", "kettle")]),
    "two_levels_and_mixed_formats": ("character", [("kazelum", None, "1girl", "datasets/my set/img")]),
    "japanese": ("object", [("灯台ルミ", None, "建物", "10_灯台 建物")]),
    "names_alone": ("character", [("cat", None, None, "cat"), ("dog", None, None, "dog")]),
    "artist_in_front": ("style", [("by nkwash", None, None, "set")]),
    "portuguese_sentences": ("object", [("zkwmaria", None, None, "fotos")]),
    "named_like_something_else": ("character", [("qqx", None, "1girl", "model")]),
    "deep_inside": ("character", [("xqzz", None, "1girl", "train/series/char/img/10_xqzz")]),
    "links": ("object", [("qqx", None, "vase", "10_qqx vase")]),
    "separator_captions": ("character", [("lumgirl", None, None, "set")]),
    "outfits_in_captions": (
        "outfits",
        [("rem", "rem_armor", "1girl", "rem/armor"), ("rem", "rem_casual", "1girl", "rem/casual")],
    ),
    "views_of_one": (
        "character",
        [
            ("lrlora", None, None, "Laura/2023-07-01"),
            ("lrlora", None, None, "Laura/face"),
            ("lrlora", None, None, "Laura/full body"),
        ],
    ),
    "on_a_network_drive": ("character", [("aliceqx", None, None, "alice")]),
    "cropped_next_to_raw": (
        "character",
        [("zkwdog dog", None, None, "dog/cropped"), ("zkwdog dog", None, None, "dog/raw")],
    ),
    "a_pose": ("concept", [("hands on hips", None, None, "hands_on_hips")]),
    "a_camera": ("character", [("ohwxlora", None, "person", "DCIM/100APPLE")]),
    "downloaded": ("character", [("wlop", None, "1girl", "danbooru/wlop")]),
    "hugging_face": ("character", [("zkwman", None, "man", "train")]),
    "json_for_each": ("character", [("zkwwolf", None, "anthro", "wolf")]),
    "generation_parameters": ("character", [("zkwgirl", None, "1girl", "set")]),
    "placeholders": ("object", [("janedoe", None, None, "jane doe")]),
    "boxes_of_a_detector": ("character", [("ohwxlora", None, "person", "JPEGImages")]),
}


@pytest.mark.parametrize("name", SEEN)
def test_concepts_are_seen_in_folder_names_and_captions(tmp_path: Path, name: str) -> None:
    _, path = start(LAYOUTS[name](tmp_path / "data"), tmp_path)
    made = read(path)
    kind, concepts = SEEN[name]
    found = [(each.get("token"), each.get("outfit"), each.get("class"), each["images"]) for each in made["concept"]]
    assert (made["kind"], found) == (kind, [(*words, f"data/{images}") for *words, images in concepts])


# Each layout with more keys of its recipe, below the table in front of the dot; None is a key that it does not have.
KEYS: Mapping[str, Mapping[str, object]] = {
    "kohya_tree": {
        "concept.num_repeats": 20,
        "concept.captions": None,
        "regularization": [{"class": "man", "images": "data/reg/1_man"}],
    },
    "kohya_no_captions": {"concept.captions": "none", "concept.num_repeats": 40, "base.tags": "natural"},
    "flat_tagged_without_trigger": {"concept.caption_prefix": "hatsunemiku,", "captions.keep_tokens": 1},
    "flat_photographs": {"concept.captions": "none", "concept.num_repeats": None, "base.tags": "natural"},
    "series_tree": {"concept.num_repeats": None},  # balanced
    "caption_sentences": {"captions.caption_extension": ".caption", "base.tags": "natural"},
    "captions_of_windows": {"captions.caption_extension": ".TXT"},
    "metadata_json": {"concept.metadata_file": "data/meta_cap.json", "concept.token": "lumhouse"},
    "with_masks": {"concept.masks": "data/masks"},
    "masks_and_no_captions": {"concept.masks": "data/masks", "concept.caption_prefix": "ohwxlora person"},
    "separator_captions": {"captions.keep_tokens_separator": "|||"},
    "several_lines": {"captions.enable_wildcard": True, "captions.shuffle_caption": False},
    "e621_tags": {"base.tags": "e621"},
    "with_regularization": {
        "regularization": [
            {"class": "woman", "images": "data/1_woman"},
            {"class": "woman", "images": "data/regularization"},
        ]
    },
}


@pytest.mark.parametrize("name", KEYS)
def test_what_is_seen_becomes_a_key(tmp_path: Path, name: str) -> None:
    _, path = start(LAYOUTS[name](tmp_path / "data"), tmp_path)
    made = read(path)
    tables = {"concept": made["concept"][0], "base": made["base"], "captions": made.get("captions", {})}
    for key, value in KEYS[name].items():
        table, _, own = key.partition(".")
        assert (tables[table].get(own) if own else made[table]) == value, key


# Each layout with the caption of its first image, and the files that it is from.
CONVERTED: Mapping[str, tuple[str, str, str]] = {
    "downloaded": ("files", "*.*.txt", "wlop, 1girl, long hair, smile, sitting, from side"),
    "tags_in_lines": ("lines", "*.txt", "asuka langley, 1girl, smile, sitting, from side"),
    "tags_between_spaces": ("spaces", "*.txt", "1girl, long hair, blue eyes, smile"),
    "booru_download": ("files", "*.*.txt", "1girl, solo, smile, sitting, from side"),
    "hugging_face": ("files", "metadata.jsonl", sentences("A photo of zkwman man")(0)),
    "a_table": ("files", "captions.csv", "zkwman, 1boy, smile, sitting, from side"),
    "json_for_each": ("files", "*.*.json", "zkwwolf, anthro, smile"),
    "captions_in_a_folder": ("files", "captions/*.txt", "zkwgirl, 1girl, smile, sitting, from side"),
    "generation_parameters": ("parameters", "*.txt", "zkwgirl, 1girl, blue hair, smile"),
    "placeholders": ("placeholder", "*.txt", "janedoe standing in a rainy street, wearing a coat number 0"),
    "metadata_by_stems": ("files", "meta_cap.json", sentences("A photo of zkwman man")(0) + ", 1boy"),
}


@pytest.mark.parametrize("name", CONVERTED)
def test_captions_that_sd_scripts_cannot_read_become_a_metadata_file(tmp_path: Path, name: str) -> None:
    form, source, text = CONVERTED[name]
    order = InitOrder(LAYOUTS[name](tmp_path / "data"), None, tmp_path)
    seen = look_around(order, ScanOptions())
    draft = make_draft(order, seen, Answers())
    path = tmp_path / write_draft(order, draft)
    (concept,) = read(path)["concept"]
    table = json.loads((tmp_path / concept["metadata_file"]).read_text("utf-8"))
    images = tmp_path / concept["images"]
    assert table[min(table)] == {"caption": text}
    assert sorted(table) == sorted(each.name for each in images.glob("*.png"))
    assert "captions" not in concept
    report = make_init_report(path, seen, draft, check(path))
    (found,) = (each for each in report.folders if each.role == "concept")
    assert (found.form, found.converted, found.captions) == (form, source, len(table))


@pytest.mark.parametrize("name", ["hugging_face", "captions_in_a_folder", "booru_download"])
def test_the_check_names_captions_that_are_not_read(tmp_path: Path, name: str) -> None:
    _, path = start(LAYOUTS[name](tmp_path / "data"), tmp_path)
    lines = [line for line in path.read_text("utf-8").splitlines() if not line.startswith("metadata_file")]
    path.write_text("\n".join(lines), encoding="utf-8")
    next(tmp_path.glob("*-captions.json")).unlink()
    (found,) = (each for each in check(path).findings if each.rule == "G3.3")
    assert CONVERTED[name][1] in str(found.fix)


def test_a_recipe_that_is_not_written_leaves_no_metadata_file(tmp_path: Path) -> None:
    folder = LAYOUTS["hugging_face"](tmp_path / "data")
    (tmp_path / "zkwman.toml").touch()
    with pytest.raises(MachineError):
        start(folder, tmp_path)
    assert not list(tmp_path.glob("*.json"))
    start(folder, tmp_path, output=tmp_path / "a.toml")
    start(folder, tmp_path, output=tmp_path / "b.toml")  # with the same captions
    (tmp_path / "zkwman-captions.json").write_text("{}", encoding="utf-8")
    with pytest.raises(MachineError):
        start(folder, tmp_path, output=tmp_path / "c.toml")


def test_an_archive_is_named(tmp_path: Path) -> None:
    (tmp_path / "set" / "data").mkdir(parents=True)
    (tmp_path / "set" / "data" / "train-00000.parquet").write_bytes(b"PAR1")
    with pytest.raises(RecipeError) as caught:
        start(tmp_path / "set", tmp_path)
    assert "train-00000.parquet" in str(caught.value.hint)


@pytest.mark.parametrize("name", ["DSC_0001.NEF", "clip.mp4", "sketch.psd"])
def test_files_that_have_images_to_save_are_named(tmp_path: Path, name: str) -> None:
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / name).write_bytes(b"II*")
    with pytest.raises(RecipeError) as caught:
        start(tmp_path / "set", tmp_path)
    assert Path(name).suffix.lower() in str(caught.value.hint)


def test_the_same_folder_gives_the_same_bytes(tmp_path: Path) -> None:
    folder = LAYOUTS["series_tree"](tmp_path / "data")
    texts = {
        start(folder, tmp_path, output=tmp_path / f"{n}" / "x.toml")[1].read_bytes()
        for n in range(2)
        if _make(tmp_path / f"{n}")
    }
    assert len(texts) == 1


def _make(folder: Path) -> Path:
    folder.mkdir()
    return folder


def test_nothing_is_written_over_and_the_schema_lies_beside(tmp_path: Path) -> None:
    folder = LAYOUTS["flat_with_tags"](tmp_path / "data")
    _, path = start(folder, tmp_path)
    before = path.read_bytes()
    assert (tmp_path / "recipe.schema.json").is_file()
    with pytest.raises(MachineError):
        start(folder, tmp_path, Answers(name="mztsn"))
    assert path.read_bytes() == before


def test_an_answer_replaces_what_is_seen(tmp_path: Path) -> None:
    folder = LAYOUTS["folder_per_concept"](tmp_path / "data")
    _, path = start(folder, tmp_path, Answers(kind="object", class_="animal", name="pets").with_answer("token", "both"))
    made = read(path)
    assert (path.name, made["kind"]) == ("pets.toml", "object")
    assert {(each["token"], each["class"]) for each in made["concept"]} == {("both", "animal")}


def test_captions_with_the_token_elsewhere_keep_it_where_it_is(tmp_path: Path) -> None:
    folder = draw(tmp_path / "10_lumgirl", 12, tags("1girl", "lumgirl"))
    _, path = start(folder, tmp_path)
    assert (read(path)["concept"][0]["token"], read(path)["captions"]["keep_tokens"]) == ("lumgirl", 2)


def test_a_folder_in_sentences_and_one_in_tags_are_one_concept(tmp_path: Path) -> None:
    draw(tmp_path / "data" / "tags", 8, tags("lumhouse", "lighthouse"))
    draw(tmp_path / "data" / "text", 8, sentences("A painting of lumhouse, a lighthouse"), text=".caption", first=20)
    _, path = start(tmp_path / "data", tmp_path)
    one, two = read(path)["concept"]
    assert (one["token"], one["class"]) == (two["token"], two["class"]) == ("lumhouse", "lighthouse")
    assert (two["tags"], two["caption_extension"], one.get("caption_extension")) == ("natural", ".caption", None)


@pytest.mark.parametrize(
    ("model", "family", "keys"),
    [
        ("noobai-xl-vpred.safetensors", "sdxl", {"tags": ["danbooru", "e621"], "v_prediction": True}),
        ("illustrious-xl.safetensors", "sdxl", {"tags": "danbooru", "v_prediction": None, "family": None}),
        ("ponyDiffusionV6XL.safetensors", "sdxl", {"tags": "e621"}),
        ("v1-5-pruned-emaonly.safetensors", "sd15", {"tags": "danbooru"}),  # as the captions are; GC.4 warns
    ],
)
def test_a_models_name_and_file_show_what_it_knows(
    tmp_path: Path, model: str, family: str, keys: dict[str, Any]
) -> None:
    write_base(tmp_path / model, family)
    _, path = start(LAYOUTS["folders_of_one_concept"](tmp_path / "data"), tmp_path)
    base = read(path)["base"]
    assert {key: base.get(key) for key in keys} == keys
    assert check(path).errors == ()


def test_a_hub_id_needs_a_family_which_its_name_may_have(tmp_path: Path) -> None:
    folder = LAYOUTS["flat_with_tags"](tmp_path / "data")
    draft, path = start(folder, tmp_path, Answers(model="stabilityai/stable-diffusion-xl-base-1.0"))
    assert read(path)["base"]["family"] == "sdxl"
    assert "G4.7" not in {each.rule for each in check(path).errors}
    assert [each.key for each in draft.questions] == ["family"]


def test_several_models_are_asked_about_and_a_lora_is_none(tmp_path: Path) -> None:
    for name in ("b", "a"):
        write_base(tmp_path / "models" / f"{name}.safetensors")
    (tmp_path / "models" / "a-lora.safetensors").write_bytes(b"\x02\0\0\0\0\0\0\0{}")
    draft, path = start(LAYOUTS["flat_with_tags"](tmp_path / "data"), tmp_path)
    assert read(path)["base"]["model"] == "models/a.safetensors"
    assert (draft.questions[0].key, draft.model.others) == ("model", ("models/b.safetensors",))


def test_a_model_of_another_kind_is_not_asked_for_its_family(tmp_path: Path) -> None:
    (tmp_path / "flux.gguf").write_bytes(b"GGUF" + bytes(64))
    draft, _ = start(LAYOUTS["kohya_tree"](tmp_path / "data"), tmp_path, Answers(model="flux.gguf"))
    assert draft.questions == ()


def test_the_commands_in_the_recipe_are_quoted(tmp_path: Path) -> None:
    _, path = start(LAYOUTS["a_pose"](tmp_path / "data"), tmp_path)
    assert "lorabake check 'hands on hips.toml'" in path.read_text("utf-8")


def test_at_most_four_questions_and_none_about_what_is_seen(tmp_path: Path) -> None:
    counts = dict[str, list[str]]()
    for name, make in LAYOUTS.items():
        (tmp_path / name).mkdir()
        order = InitOrder(make(tmp_path / name), None, tmp_path / name)
        draft = make_draft(order, look_around(order, ScanOptions()), Answers())
        counts[name] = [each.key for each in draft.questions]
    assert max(map(len, counts.values())) == 4
    assert counts["kohya_tree"] == counts["series_tree"] == counts["outfits_by_comma"] == ["model"]
    assert counts["flat_photographs"] == ["model", "kind", "token", "class"]


FAULTS: Mapping[str, type[LorabakeError]] = {
    "empty": RecipeError,
    "missing": MachineError,
    "image.png": RecipeError,
    "preset.json": RecipeError,
    "base.safetensors": RecipeError,
    "masks-alone": RecipeError,
}


@pytest.mark.parametrize("name", FAULTS)
def test_what_is_no_dataset_is_named(tmp_path: Path, name: str) -> None:
    (tmp_path / "empty" / "sub").mkdir(parents=True)
    Image.new("RGB", (8, 8)).save(tmp_path / "image.png")
    (tmp_path / "preset.json").write_text('{"LoRA_type": "Standard", "train_data_dir": "x"}', encoding="utf-8")
    write_base(tmp_path / "base.safetensors")
    draw(tmp_path / "masks-alone" / "masks", 2)
    with pytest.raises(FAULTS[name]) as caught:
        start(tmp_path / name, tmp_path)
    assert caught.value.hint
    assert ("lorabake import" in caught.value.hint) == (name == "preset.json")
    assert ("--model" in caught.value.hint) == (name == "base.safetensors")
    assert list(tmp_path.glob("*.toml")) == []


def test_formats_that_sd_scripts_does_not_read_are_drafted_for_prepare(tmp_path: Path) -> None:
    draw(tmp_path / "phone" / "10_kazelum", 6, tags("kazelum", "1girl"), ends=(".avif",))
    (tmp_path / "phone" / "model").mkdir()
    _, path = start(tmp_path / "phone", tmp_path)
    (concept,) = read(path)["concept"]
    assert (concept["token"], concept["class"], concept["num_repeats"]) == ("kazelum", "1girl", 10)
    assert {each.rule for each in check(path).errors} == {"G4.7", "G4.9"}


def test_a_folder_that_may_not_be_read(tmp_path: Path) -> None:
    shut = draw(tmp_path / "shut", 2)
    shut.chmod(0)
    try:
        with ordinary_user(), pytest.raises(MachineError):
            start(shut, tmp_path)
    finally:
        shut.chmod(0o755)


def test_a_name_that_is_no_text_is_named(tmp_path: Path) -> None:
    folder = draw(Path(str(tmp_path) + "/caf\udce9"), 3, tags("qtx", "vase"))
    with pytest.raises(RecipeError):
        start(folder, tmp_path)


@pytest.mark.parametrize(
    ("key", "good", "bad"),
    [("kind", "style", "portrait"), ("family", "sdxl", "flux"), ("token", "zkw", "  "), ("name", "a b", "a/b")],
)
def test_an_answer_that_no_recipe_takes(key: str, good: str, bad: str) -> None:
    assert find_answer_fault(key, good) is None
    assert find_answer_fault(key, bad)


def test_no_name_is_an_option(tmp_path: Path) -> None:
    assert find_answer_fault("name", "-rf") is not None
    draft, path = start(draw(tmp_path / "-rf", 3), tmp_path)
    assert not path.name.startswith("-")
    order = InitOrder(tmp_path / "-rf", Path("-rf.toml"), tmp_path)
    write_draft(order, draft)
    assert "lorabake check ./-rf.toml" in (tmp_path / "-rf.toml").read_text("utf-8")


def test_an_existing_recipe_names_the_option_for_another(tmp_path: Path) -> None:
    draft, _ = start(draw(tmp_path / "set", 3), tmp_path)
    with pytest.raises(MachineError) as caught:
        write_draft(InitOrder(tmp_path / "set", None, tmp_path), draft)
    assert "-o" in str(caught.value.hint)


def test_a_name_that_no_recipe_can_have_is_named(tmp_path: Path) -> None:
    draw(tmp_path / "set" / "b\udcffd", 3)
    with pytest.raises(RecipeError, match="dcff"):
        start(tmp_path / "set", tmp_path)


@pytest.mark.parametrize("captioned", ["1024", "512"])
def test_the_same_images_at_several_sizes_are_trained_once(tmp_path: Path, captioned: str) -> None:
    draw(tmp_path / "set" / "1024", 6, tags("lumgirl", "1girl") if captioned == "1024" else None)
    for side in (0.5, 0.75):
        folder = draw(tmp_path / "set" / f"{int(1024 * side)}", 0)
        for path in (tmp_path / "set" / "1024").glob("*.png"):
            with Image.open(path) as image:
                image.resize((int(image.width * side), int(image.height * side))).save(folder / path.name)
            if folder.name == captioned:
                (folder / f"{path.stem}.txt").write_text("lumgirl, 1girl, smile", "utf-8")
    draft, path = start(tmp_path / "set", tmp_path)
    assert [each["images"] for each in read(path)["concept"]] == [f"set/{captioned}"]
    found = look_around(InitOrder(tmp_path / "set", None, tmp_path), ScanOptions())
    copies = {each.path: each.copy_of for each in make_init_report(path, found, draft, check(path)).folders}
    assert copies == {name: None if name == captioned else captioned for name in ("1024", "512", "768")}


def test_other_images_of_the_same_names_are_no_copies(tmp_path: Path) -> None:
    draw(tmp_path / "cat", 4, tags("zkwcat"), name="{}", ends=(".png",))
    draw(tmp_path / "dog", 4, tags("zkwdog"), name="{}", ends=(".png",))
    for path in (tmp_path / "dog").glob("*.png"):
        with Image.open(path) as image:
            image.transpose(Image.Transpose.ROTATE_180).resize((image.width * 2, image.height * 2)).save(path)
    _, path = start(tmp_path, tmp_path)
    assert len(read(path)["concept"]) == 2


def test_images_that_guide_a_generation_are_left_out(tmp_path: Path) -> None:
    draw(tmp_path / "data" / "jane", 6, tags("lumjane", "1girl"))
    for name in ("jane_controls", "depth", "conditioning_images"):
        draw(tmp_path / "data" / name, 6)
    _, path = start(tmp_path / "data", tmp_path)
    assert [each["images"] for each in read(path)["concept"]] == ["data/jane"]


def test_masks_of_one_trainer_are_not_images(tmp_path: Path) -> None:
    folder = draw(tmp_path / "set", 6, tags("lumgirl", "1girl"))
    for path in list(folder.glob("*.png")):
        Image.new("L", (96, 120)).save(folder / f"{path.stem}-masklabel.png")
    draft, path = start(folder, tmp_path)
    assert (draft.concepts[0].summary.images, draft.concepts[0].summary.count) == (6, 6)
    result = check(path)
    assert "S49.beside" in {each.rule for each in result.findings}
    assert len(result.dataset.concepts[0].images) == 12  # as sd-scripts would train


@pytest.mark.parametrize("name", ["a", "x", "zk"])
def test_a_short_folder_name_is_no_unknown_word(tmp_path: Path, name: str) -> None:
    _, path = start(draw(tmp_path / name, 3), tmp_path)
    assert read(path)["concept"][0]["token"] == f"{name}lora"


def test_tags_that_nothing_shows_are_assumed(tmp_path: Path) -> None:
    draft, path = start(draw(tmp_path / "set", 3), tmp_path)
    order = InitOrder(tmp_path / "set", None, tmp_path)
    found = look_around(order, ScanOptions())
    assert make_init_report(path, found, draft, check(path)).tags == ("natural",)


def test_masks_belong_to_the_folder_that_their_path_fits(tmp_path: Path) -> None:
    """Images of the same names in several folders."""
    for name in ("boat", "girl"):
        draw(tmp_path / "data" / name, 4, tags(f"zkw{name}x", "1girl"), name="{}")
    draw(tmp_path / "data" / "girl_masks", 4, name="{}")
    _, path = start(tmp_path / "data", tmp_path)
    assert [each.get("masks") for each in read(path)["concept"]] == [None, "data/girl_masks"]
    (tmp_path / "data" / "girl_masks").rename(tmp_path / "data" / "masks")
    _, path = start(tmp_path / "data", tmp_path, output=tmp_path / "unsure.toml")
    assert [each.get("masks") for each in read(path)["concept"]] == [None, None]


def test_captions_in_utf16_become_a_metadata_file(tmp_path: Path) -> None:
    write_base(tmp_path / "base.safetensors")
    for path in draw(tmp_path / "pics", 3).glob("*.png"):
        path.with_suffix(".txt").write_bytes("zkwgirl, 1girl, praia, café".encode("utf-16"))
    draft, path = start(tmp_path / "pics", tmp_path)
    assert draft.concepts[0].token == "zkwgirl"  # noqa: S105 - a trigger word
    assert check(path).errors == ()


@pytest.mark.parametrize("encoding", ["cp1252"])
def test_captions_in_another_encoding_are_not_called_missing(tmp_path: Path, encoding: str) -> None:
    write_base(tmp_path / "base.safetensors")
    for path in draw(tmp_path / "pics", 3).glob("*.png"):
        path.with_suffix(".txt").write_bytes("mulher, praia, café".encode(encoding))
    draft, path = start(tmp_path / "pics", tmp_path)
    assert "captions" not in read(path)["concept"][0]
    result = check(path)
    assert {each.rule for each in result.errors} == {"S12"}
    order = InitOrder(tmp_path / "pics", None, tmp_path)
    report = make_init_report(path, look_around(order, ScanOptions()), draft, result)
    assert (report.folders[0].captions, report.folders[0].unreadable) == (0, 3)
