"""The word lists: large enough, spelt as they are looked up, and never against each other."""

from __future__ import annotations

import subprocess
import sys
import tomllib
import unicodedata
from collections.abc import Iterator, Mapping
from itertools import combinations
from pathlib import Path
from typing import Any, get_args

import pytest

from lorabake_schemas.guide.tags import normalize_tag
from lorabake_schemas.guide.vocabulary import (
    Board,
    TagKind,
    find_implied_tags,
    get_kind_tags,
    is_artist,
    is_asymmetric,
    is_background,
    is_clothing,
    is_feature,
    load_contradictions,
    load_vocabulary,
    translate_tag,
)

FOLDER = Path(__file__).resolve().parents[3] / "schemas" / "lorabake_schemas" / "guide" / "glossary"
KINDS: tuple[TagKind, ...] = get_args(TagKind)
BOARDS: tuple[Board, ...] = get_args(Board)


def table(name: str) -> dict[str, Any]:
    return tomllib.loads((FOLDER / f"{name}.toml").read_text("utf-8"))


def listed(text: str) -> list[str]:
    return [normalize_tag(word) for word in text.replace("\n", " ").split(",") if word.strip()]


def implications() -> Iterator[tuple[str, str]]:
    """Each special tag with the general one of its line."""
    for name, lines in table("implications").items():
        if name != "patterns":
            yield from (
                (special, normalize_tag(general)) for general, text in lines.items() for special in listed(text)
            )


DIRECT = list(implications())
PORTUGUESE = {
    name: dict(line.split(" = ") for line in text.splitlines() if line and line[0] != "#")
    for name, text in table("portuguese").items()
}
ENGLISH = {
    *(word for each in KINDS for word in get_kind_tags(each)),
    *(word for pair in DIRECT for word in pair),
    *load_vocabulary("e621").words,
    *load_vocabulary("danbooru").words,
}


def test_the_lists_are_of_some_size() -> None:
    assert len(DIRECT) > 1500
    assert min(len(load_vocabulary(board).words) for board in BOARDS) > 130
    assert len(load_vocabulary("e621").elsewhere) >= 40
    assert len(PORTUGUESE["words"]) > 600
    assert {each: len(get_kind_tags(each)) for each in KINDS if len(get_kind_tags(each)) < 15} == {}


def iter_words(given: Mapping[str, Any]) -> Iterator[str]:
    for key, value in given.items():
        if isinstance(value, str):
            yield from (key, *(word.strip() for word in " ".join(value.split()).split(",")))
        else:
            yield from iter_words(value)


@pytest.mark.parametrize("name", ["kinds", "implications", "boards"])
def test_tags_are_spelt_as_they_are_looked_up(name: str) -> None:
    names = {
        "not_after",
        "artist_endings",
        "artist_beginnings",
        "asymmetric_beginnings",
        *(f"{b}_endings" for b in BOARDS),
    }
    words = set(iter_words(table(name))) - names - {""}
    assert len(words) > 100
    assert {word for word in words if normalize_tag(word) != word} == set()


@pytest.mark.parametrize("each", KINDS)
def test_a_kind_has_no_word_twice(each: TagKind) -> None:
    words = listed(table("kinds")[each])
    assert sorted(word for word in set(words) if words.count(word) > 1) == []


def test_nothing_implies_itself() -> None:
    assert [tag for tag, general in DIRECT if tag == general or tag in find_implied_tags(general)] == []


def test_what_implies_another_does_not_contradict_it() -> None:
    against = load_contradictions()
    assert [(tag, one) for tag in ENGLISH for one in find_implied_tags(tag) & against.get(tag, frozenset())] == []


def test_what_is_said_to_go_together_does_not_imply() -> None:
    """The guide wants both tags on uncoloured sketches and on reference sheets (G3.22, G2.12)."""
    for one, other in (("monochrome", "greyscale"), ("reference sheet", "multiple views"), ("sketch", "monochrome")):
        assert one not in find_implied_tags(other)
        assert other not in find_implied_tags(one)
        assert other not in load_contradictions().get(one, ())


def test_contradictions_hold_both_ways() -> None:
    assert len(load_contradictions()) > 30
    for tag, others in load_contradictions().items():
        assert tag not in others
        assert all(tag in load_contradictions()[other] for other in others)


def test_views_that_contradict_are_composition_or_a_number_of_subjects() -> None:
    known = get_kind_tags("composition") | get_kind_tags("group") | {"solo", "1girl", "1boy"}
    assert set(load_contradictions()) - known == set()


def test_kinds_that_mean_opposites_do_not_overlap() -> None:
    apart: tuple[TagKind, ...] = ("composition", "group", "overlay", "clothing", "background", "meta")
    for one, other in combinations(apart, 2):
        assert get_kind_tags(one) & get_kind_tags(other) == set(), (one, other)
    for each in ("composition", "background", "clothing", "overlay", "sheet", "style", "features"):
        assert get_kind_tags(each) & get_kind_tags("meta") == set(), each


def test_no_word_is_of_both_boards() -> None:
    one, other = (load_vocabulary(board) for board in BOARDS)
    assert one.words & other.words == set()
    assert [word for word in one.words if other.has(word)] == [word for word in other.words if one.has(word)] == []


def test_translations_lead_from_one_board_to_the_other() -> None:
    e621, danbooru = load_vocabulary("e621"), load_vocabulary("danbooru")
    for word, there in e621.elsewhere.items():
        assert e621.has(word)
        assert not e621.has(there), (word, there)
        assert danbooru.elsewhere[there] in e621.elsewhere
    assert e621.elsewhere["side view"] == "from side"
    assert danbooru.elsewhere["from side"] == "side view"


def test_the_boards_of_examples() -> None:
    assert load_vocabulary("e621").select_tags({"feral", "anthro", "canid", "horn (anatomy)", "smile", "solo"}) == {
        "feral", "anthro", "canid", "horn (anatomy)",
    }  # fmt: skip
    every = {"1girl", "solo focus", "from side", "acrylic paint (medium)", "sitting"}
    assert load_vocabulary("danbooru").select_tags(every) == {
        "1girl", "solo focus", "from side", "acrylic paint (medium)",
    }  # fmt: skip


def test_portuguese_words_are_no_english_tags() -> None:
    every = {word for name in ("words", "colours") for word in PORTUGUESE[name]}
    assert {word for word in every if word.casefold() in ENGLISH} == set()
    assert [tag for tag in ENGLISH if translate_tag(tag)] == []
    assert {word for word in PORTUGUESE["words"].values() if translate_tag(normalize_tag(word))} == set()


def test_portuguese_words_are_spelt_as_they_are_looked_up() -> None:
    for name in ("words", "nouns", "colours"):
        words = PORTUGUESE[name]
        assert [word for word in words if unicodedata.normalize("NFC", normalize_tag(word)) != word] == []
        assert [word for word in PORTUGUESE[name].values() if normalize_tag(word) != word] == []


@pytest.mark.parametrize(
    ("tag", "meaning"),
    [
        # what the guide's own text shows in Portuguese
        ("fundo branco", "white background"),
        ("esboço colorido", "colored sketch"),
        ("várias vistas", "multiple views"),
        ("folha de referência", "reference sheet"),
        ("monocromático", "monochrome"),
        ("escala de cinza", "greyscale"),
        ("pernas abertas", "spread legs"),
        ("pastor alemão", "german shepherd"),
        ("arma", "weapon"),
        ("antropomorfo", "anthro"),
        # without accents, and put together
        ("esboco colorido", "colored sketch"),
        ("varias vistas", "multiple views"),
        ("pastor alemao", "german shepherd"),
        ("olhos verdes", "green eyes"),
        ("cabelo azul", "blue hair"),
        ("camisa vermelha", "red shirt"),
        ("boné", "baseball cap"),
        ("círculo vermelho", "red circle"),
        ("ci\u0301rculo", "circle"),
        ("quadrado azul", "blue square"),
        ("caixa pequena", "small box"),
        # English after all
        ("bone", None),
        ("cafe", None),
        ("revolver", None),
        ("white background", None),
        ("fundo", "background"),
        ("azul", None),
    ],
)
def test_portuguese(tag: str, meaning: str | None) -> None:
    assert translate_tag(tag) == meaning


@pytest.mark.parametrize(
    ("tag", "general"),
    [
        ("german shepherd", {"dog", "canine", "canid", "mammal"}),
        ("spread legs", {"legs"}),
        ("white shirt", {"shirt", "topwear", "clothing"}),
        ("katana", {"sword", "weapon"}),
        ("holding sword", {"holding", "holding weapon"}),
        ("sitting on chair", {"sitting"}),
        ("long hair", {"hair"}),
    ],
)
def test_implied(tag: str, general: set[str]) -> None:
    assert general <= find_implied_tags(tag)


@pytest.mark.parametrize(
    "tag", ["no shirt", "missing teeth", "unworn hat", "facial hair", "dog", "hair", "hatching", ""]
)
def test_not_implied(tag: str) -> None:
    assert not find_implied_tags(tag) & {"shirt", "teeth", "hat", "hair"}


def test_patterns() -> None:
    assert all(
        map(is_artist, ("by somebody", "art by somebody", "artist:somebody", "somebody (artist)", "1990s (style)"))
    )
    assert not any(map(is_artist, ("bystander", "artistic", "standing by")))
    assert all(map(is_asymmetric, ("asymmetrical armwear", "heterochromia", "left glove", "mismatched socks")))
    assert not any(map(is_asymmetric, ("leftover", "symmetrical", "gloves")))
    assert all(map(is_feature, ("blue eyes", "long hair", "no sclera", "white fur")))
    assert not any(map(is_feature, ("looking at viewer", "open mouth", "eyes closed")))
    assert all(map(is_background, ("red background", "green sky", "forest")))
    assert all(map(is_clothing, ("red shirt", "shirt", "nude", "striped socks")))
    assert not any(map(is_clothing, ("blue eyes", "shirtless")))


def test_the_lists_are_read_when_a_caption_is_judged_and_not_before() -> None:
    code = (
        "import lorabake_schemas.guide.rules, lorabake_schemas.guide.vocabulary as g;"
        "print(g._load_vocabulary_file.cache_info().currsize)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "0"
