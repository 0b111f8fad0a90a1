"""How captions are read, folder by folder: in the plan, in the compiled subsets, and by the rules."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from lorabake.inputs.dataset import ImageFolder, ScanOptions, scan_folders
from lorabake_schemas.dataset import CaptionFacts, FolderFacts, ImageFacts
from lorabake_schemas.guide.caption_settings import KOHYA_KEYS
from lorabake_schemas.guide.registry import RuleContext
from situations import CLASS, TOKEN, concept, dataset, folder, plan_of, recipe, situation, spoken, subset

TAGS, TEXT = concept(TOKEN, "tags"), concept(TOKEN, "text")
SENTENCE = f"A painting of {TOKEN}, a tall lighthouse with blue stripes, standing on a cliff above the sea."


def mixed(**more: Any) -> Any:
    """Tags in one folder, sentences in another."""
    return recipe(concepts=[TAGS, TEXT | {"tags": "natural"} | more], base={"tags": "danbooru"})


def test_the_guides_defaults_follow_the_kind_of_the_folders_captions() -> None:
    plan = plan_of(mixed(caption_extension=".caption", caption_dropout_rate=0.1))
    tags, text = subset(plan), subset(plan, 1)
    assert (tags["shuffle_caption"], tags["caption_extension"]) == (True, ".txt")
    assert (text["shuffle_caption"], text["caption_extension"], text["caption_dropout_rate"]) == (
        False,
        ".caption",
        0.1,
    )
    assert "caption_dropout_rate" not in tags


def test_a_folders_keys_come_before_those_of_all() -> None:
    own = TEXT | {"caption_prefix": "", "keep_tokens": 0, "enable_wildcard": False, "caption_tag_dropout_rate": 0.0}
    every = {"caption_prefix": "x,", "keep_tokens": 3, "enable_wildcard": True, "caption_tag_dropout_rate": 0.2}
    plan = plan_of(recipe(concepts=[TAGS, own], captions=every))
    assert {key: subset(plan)[key] for key in every} == every
    assert {key: subset(plan, 1)[key] for key in every} == {key: own[key] for key in every}


@pytest.mark.parametrize("key", KOHYA_KEYS)
def test_an_option_under_kohya_stays_there_unless_a_folder_has_another(key: str) -> None:
    value, other = {"enable_wildcard": (True, False), "caption_dropout_every_n_epochs": (2, 3)}.get(key, ("|||", ""))
    plan = plan_of(recipe(concepts=[TAGS, TEXT | {key: other}], kohya={key: value}))
    assert plan.value(key) == value
    assert key not in subset(plan)
    assert subset(plan, 1)[key] == other
    assert spoken("S1", situation(recipe(kohya={key: value}))) == []
    assert spoken("S1", situation(recipe(kohya={key: value}, captions={key: value})))


def test_regularization_has_its_own_keys() -> None:
    reg = {"class": CLASS, "images": "reg"}
    made = recipe(
        regularization=[reg, reg | {"images": "b", "caption_extension": ".cap", "caption_dropout_rate": 0.5}],
        captions={"caption_prefix": "x,", "enable_wildcard": True},
    )
    plan = plan_of(made)
    assert "caption_prefix" not in subset(plan, 1)
    assert subset(plan, 1)["enable_wildcard"] is True
    assert (subset(plan, 2)["caption_extension"], subset(plan, 2)["caption_dropout_rate"]) == (".cap", 0.5)


def test_tags_and_sentences_are_each_judged_as_what_they_are() -> None:
    text = FolderFacts(
        "text", tuple(ImageFacts(f"{i}.png", 768, 768, caption=CaptionFacts(SENTENCE)) for i in range(9))
    )
    pictures = dataset(folder("tags"), text)
    assert spoken("G3.7.sentences", situation(mixed(), pictures)) == []
    told = spoken("G3.7.sentences", situation(recipe(concepts=[TAGS, TEXT], base={"tags": "danbooru"}), pictures))
    assert [finding.key for finding in told] == ["concept[1].images"]
    shuffled = spoken("G3.7", situation(mixed(shuffle_caption=True), pictures))
    assert [finding.key for finding in shuffled] == ["concept[1].shuffle_caption"]


def lines(tmp_path: Path, *texts: str, name: str = "txt", wildcard: bool = True) -> FolderFacts:
    """A folder of these captions, each read with all its lines."""
    for number, text in enumerate(texts):
        Image.new("RGB", (64, 64)).save(tmp_path / f"{number}.png")
        (tmp_path / f"{number}.{name}").write_text(text, "utf-8")
    asked = ImageFolder(tmp_path, wildcard=wildcard)
    return scan_folders([asked], [], ScanOptions(tmp_path.parent / "store")).concepts[0]


def judged(facts: FolderFacts, **more: Any) -> RuleContext:
    return situation(recipe(captions={"enable_wildcard": True}, **more), dataset(facts))


GOOD = f"{TOKEN}, {CLASS}, beach"


def test_rules_look_at_every_line(tmp_path: Path) -> None:
    facts = lines(tmp_path, f"{GOOD}\na food on a {{beach|street}}", f"{GOOD}\n{TOKEN}, (night:1.2)", GOOD)
    assert facts.images[0].caption.texts == (GOOD, "a food on a beach", "a food on a street")
    assert [finding.file for finding in spoken("G3.10", judged(facts))] == ["0.txt"]
    assert [finding.file for finding in spoken("G5.11.prompts", judged(facts))] == ["1.txt"]
    assert [finding.file for finding in spoken("G3.12", judged(facts))] == ["1.txt"]
    again = lines(tmp_path, f"{GOOD}\na food on a {{beach|street}}", f"{GOOD}\n{TOKEN}, (night:1.2)", GOOD)
    assert again == facts, "what was kept is what was read"


def test_sentences_among_lines_of_tags_are_said_to_be_shuffled(tmp_path: Path) -> None:
    facts = lines(tmp_path, *[f"{GOOD}\n{SENTENCE}\n{TOKEN}, {CLASS}, street"] * 4)
    assert len(spoken("G3.7.sentences", judged(facts))) == 1
    assert spoken("G3.7.sentences", judged(facts, concept={"shuffle_caption": False})) == []
    assert spoken("G3.10", judged(facts)) == []


def test_without_wildcards_other_lines_are_ignored(tmp_path: Path) -> None:
    facts = lines(tmp_path, f"{GOOD}\nfood", wildcard=False)
    assert facts.images[0].caption.texts == (GOOD,)
    assert spoken("G3.10", situation(recipe(), dataset(facts))) == []
    assert spoken("S12", situation(recipe(), dataset(facts)))


@pytest.mark.parametrize(("name", "offered"), [("cap", True), ("Caption2", True), ("json", False), ("xmp", False)])
def test_text_files_of_another_extension_are_offered(tmp_path: Path, name: str, offered: bool) -> None:
    facts = lines(tmp_path, GOOD, GOOD, name=name)
    assert bool(facts.others) is offered
    found = spoken("G3.3", situation(recipe(), dataset(facts)))
    assert (f'caption_extension = ".{name}"' in found[0].fix) is offered


def test_what_is_no_text_is_not_offered(tmp_path: Path) -> None:
    facts = lines(tmp_path, "a\0b", GOOD, name="cap")
    assert facts.others == ()
    assert lines(tmp_path, GOOD, GOOD, name="txt").others == (), "captions are there"


PORTUGUESE = f"Uma foto de {TOKEN}, um farol alto com listras azuis, em uma praia com areia e mar ao fundo."


def told(rule: str, text: str, **more: Any) -> list[str]:
    images = tuple(ImageFacts(f"{at}.png", 768, 768, caption=CaptionFacts(text)) for at in range(9))
    return [str(each.severity) for each in spoken(rule, situation(recipe(**more), dataset(folder(images=images))))]


@pytest.mark.parametrize(
    ("rule", "natural", "danbooru"),
    [
        ("G3.6.sentences", ["hint"], []),
        ("G3.7.sentences", [], ["warning"]),
        ("G3.6.portuguese", [], []),
        ("G3.6.accents", [], []),
        ("S17.commas", [], []),
        ("G3.10", [], []),
    ],
)
def test_sentences_in_portuguese_are_sentences(rule: str, natural: list[str], danbooru: list[str]) -> None:
    assert told(rule, PORTUGUESE, base={"tags": "natural"}) == natural
    assert told(rule, PORTUGUESE, base={"tags": "danbooru"}) == danbooru
    assert told("G3.6.sentences", SENTENCE, base={"tags": "natural"}) == []


@pytest.mark.parametrize("text", ["uma foto de maria", "a photo of maria", "foto da maria, praia", "menina na praia"])
def test_the_beginning_of_a_sentence_is_no_token(text: str) -> None:
    images = tuple(ImageFacts(f"{at}.png", 768, 768, caption=CaptionFacts(f"{text}, {at}")) for at in range(9))
    found = spoken("G3.10", situation(recipe(), dataset(folder(images=images))))
    assert len(found) == 1
    assert "token = " not in found[0].fix


def test_choices_without_wildcards_are_text() -> None:
    text = f"{TOKEN}, {CLASS}, {{red|blue}} hat"
    assert told("G5.11.wildcards", text) == ["warning"]
    assert told("G5.11.wildcards", text, captions={"enable_wildcard": True}) == []
    assert told("G5.11.wildcards", f"{TOKEN}, {{red}} | hat") == []
