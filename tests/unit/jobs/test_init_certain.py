"""init changes, joins and leaves out only what is certain: captions, tokens and folders stay as they are else."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from dataset_layouts import PLACES, draw, tags
from dataset_layouts import SEEN as SEEN_TAGS
from drafts import check, read, start
from lorabake.analysis.draft_concepts import Answers
from lorabake.commands.output.init import make_init_report
from lorabake.inputs.dataset import ScanOptions
from lorabake.jobs.init import InitOrder, look_around


def caption_all(folder: Path, *texts: str | bytes) -> Path:
    """A folder of as many images, each with its caption."""
    draw(folder, len(texts), name="{}")
    for number, text in enumerate(texts):
        data = text if isinstance(text, bytes) else text.encode()
        (folder / f"{number}.txt").write_bytes(data)
    return folder


def read_texts(recipe: Path, metadata_file: str) -> list[str]:
    table = json.loads((recipe.parent / metadata_file).read_text("utf-8"))
    return [table[name]["caption"] for name in sorted(table)]


def test_a_placeholder_becomes_the_token_of_its_own_folder(tmp_path: Path) -> None:
    for name in ("anna", "bella"):
        draw(tmp_path / "set" / f"5_{name} woman", 6, lambda n: f"[trigger], woman, {SEEN_TAGS[n]}")
    _, path = start(tmp_path / "set", tmp_path)
    concepts = read(path)["concept"]
    assert [(each["token"], each["class"]) for each in concepts] == [("anna", "woman"), ("bella", "woman")]
    assert [read_texts(path, each["metadata_file"])[0] for each in concepts] == [
        f"{name}, woman, {SEEN_TAGS[0]}" for name in ("anna", "bella")
    ]
    _, alone = start(tmp_path / "set" / "5_anna woman", tmp_path, output=tmp_path / "alone.toml")
    assert read(alone)["concept"][0]["token"] == "anna"  # noqa: S105 - a trigger word
    _, both = start(tmp_path / "set", tmp_path, Answers(token="zkw"), tmp_path / "both.toml")  # noqa: S106
    assert {each["token"] for each in read(both)["concept"]} == {"zkw"}


def test_a_style_has_the_token_that_its_captions_got(tmp_path: Path) -> None:
    folder = draw(tmp_path / "h" / "set", 6, lambda n: f"{PLACES[n % 5]} on a hill with number {n}, in [trigger] style")
    draft, path = start(folder.parent, tmp_path, Answers(kind="style"))
    (concept,) = read(path)["concept"]
    found = look_around(InitOrder(folder.parent, None, tmp_path), ScanOptions())
    report = make_init_report(path, found, draft, check(path))
    assert concept["token"] == report.folders[0].token == "hlora"  # noqa: S105 - a trigger word
    assert all("hlora style" in text for text in read_texts(path, concept["metadata_file"]))


def test_only_captions_of_a_form_are_cleaned_of_it(tmp_path: Path) -> None:
    plain = "artoria (fate), :), (o)_(o), [smile]"
    prompt = "zkwgirl, (blue hair:1.2)\nNegative prompt: bad\nSteps: 20, Seed: 1"
    _, path = start(caption_all(tmp_path / "a", plain, *[prompt] * 4), tmp_path)
    assert read_texts(path, read(path)["concept"][0]["metadata_file"]) == [plain, *["zkwgirl, blue hair"] * 4]
    lines, sentence = "zkwgirl\nlong hair\nsmile\n", "zkwgirl, a girl\nwith long hair"
    _, path = start(
        caption_all(tmp_path / "b", lines, sentence, lines, "zkwgirl\nhat", lines), tmp_path, output=tmp_path / "b.toml"
    )
    texts = read_texts(path, read(path)["concept"][0]["metadata_file"])
    tags_ = "zkwgirl, long hair, smile"
    assert texts == [tags_, "zkwgirl, a girl with long hair", tags_, "zkwgirl, hat", tags_]


@pytest.mark.parametrize("text", ["zkwgirl, praia, café", "zkwgirl\nlong hair\nsmile"])
def test_no_caption_is_lost_with_those_that_are_converted(tmp_path: Path, text: str) -> None:
    guessed = "zkwgirl, praia, café".encode("cp1252")
    wide = text.encode("utf-16") if "é" in text else text
    _, path = start(caption_all(tmp_path / "pics", *[wide] * 5, *[guessed] * 4), tmp_path)
    assert "metadata_file" not in read(path)["concept"][0]
    assert "S12" in {each.rule for each in check(path).errors}


def resize_all(folder: Path, target: Path) -> Path:
    draw(target, 0)
    for path in folder.glob("*.png"):
        with Image.open(path) as image:
            image.resize((image.width // 2, image.height // 2)).save(target / path.name)
    return target


@pytest.mark.parametrize("change", ["none", "more", "caption", "name"])
def test_only_what_another_folder_has_completely_is_a_copy(tmp_path: Path, change: str) -> None:
    folder = draw(tmp_path / "set" / "10_gchar", 12, tags("gchar", "1girl"))
    copy = resize_all(folder, tmp_path / "set" / ("3_pixel style" if change == "name" else "3_gchar"))
    if change == "more":
        draw(copy, 1, name="own")
    if change == "caption":
        (copy / "img03.txt").write_text("gchar, sleeping", "utf-8")
    _, path = start(tmp_path / "set", tmp_path)
    assert len(read(path)["concept"]) == (1 if change == "none" else 2)


def test_masks_have_no_masks_of_their_own(tmp_path: Path) -> None:
    """What would be a mask next to images is a mask without an image in a folder of masks."""
    draw(tmp_path / "set", 2, tags("gchar", "1girl"), name="{}")
    for name in ("0", "1", "1-masklabel"):
        draw(tmp_path / "set" / "masks", 1, name=name)
    _, path = start(tmp_path / "set", tmp_path)
    assert "masks" not in read(path)["concept"][0]
    text = path.read_text("utf-8").replace('images = "set"', 'images = "set"\nmasks = "set/masks"')
    path.write_text(text, "utf-8")
    assert "S49" in {each.rule for each in check(path).errors}


@pytest.mark.parametrize("captioned", [True, False])
def test_a_metadata_file_of_another_recipe_is_left_alone(tmp_path: Path, captioned: bool) -> None:
    """Images in two folders have the same names; only its own folder may use the file again."""
    draw(tmp_path / "r" / "5_anna woman", 6, lambda n: f"[trigger], woman, {SEEN_TAGS[n]}")
    draw(tmp_path / "u" / "5_bella woman", 6)
    _, first = start(tmp_path / "r", tmp_path)
    _, path = start(tmp_path / "u", tmp_path)
    (concept,) = read(path)["concept"]
    assert (concept["token"], concept["captions"]) == ("bella", "none")
    name = read(first)["concept"][0]["metadata_file"]
    if not captioned:
        for text in (tmp_path / "r" / "5_anna woman").glob("*.txt"):
            text.unlink()
    _, again = start(tmp_path / "r", tmp_path, output=tmp_path / "again.toml")
    assert read(again)["concept"][0]["metadata_file"] == name
