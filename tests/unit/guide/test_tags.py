"""Facts about tags: split as sd-scripts splits them, compared in one spelling, counted by picture."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

import pytest

from lorabake_schemas.dataset import CaptionFacts, CaptionProblem, FolderFacts, ImageFacts
from lorabake_schemas.guide.rules.tag_counts import summarize_tags
from lorabake_schemas.guide.tags import (
    CaptionStyle,
    FolderTags,
    TagIndex,
    count_folder_tags,
    find_inseparable_pairs,
    get_caption_style,
    normalize_tag,
    split_tags,
)
from lorabake_schemas.messages import complete_lists, msg
from situations import recipe


def folder(*captions: str) -> FolderFacts:
    return FolderFacts("pics", tuple(ImageFacts(f"{at}.png", caption=CaptionFacts(c)) for at, c in enumerate(captions)))


def facts(*captions: str, how: CaptionStyle | None = None) -> FolderTags:
    return count_folder_tags(folder(*captions), how)


@pytest.mark.parametrize(
    ("piece", "tag"),
    [
        ("Long_Hair", "long hair"),
        ("  long   hair ", "long hair"),
        ("fate \\(series\\)", "fate (series)"),
        ("score_9", "score 9"),
        ("Straße", "strasse"),
        ("_", "_"),
        ("^_^", "^ ^"),
        ("  ", ""),
    ],
)
def test_one_spelling(piece: str, tag: str) -> None:
    assert normalize_tag(piece) == tag


@pytest.mark.parametrize(
    ("text", "how", "pieces"),
    [
        ("a, b ,c", None, ["a", "b", "c"]),
        ("a,, b, ", None, ["a", "b"]),
        ("\ufeffa, b", None, ["a", "b"]),
        ("", None, []),
        ("a; b, c", CaptionStyle(separator=";"), ["a", "b, c"]),
        ("a, b", CaptionStyle(prefix="x,", suffix=", y"), ["x", "a", "b", "y"]),
        ("a, b", CaptionStyle(prefix="x"), ["x a", "b"]),  # joined by a space (TU:824)
        ("a, b ||| c, d", CaptionStyle(marks=("|||",)), ["a", "b", "c", "d"]),
        ("a;;;b, c", CaptionStyle(marks=("|||", ";;;")), ["a", "b", "c"]),
        ("a;;;b, c", None, ["a;;;b", "c"]),
    ],
)
def test_split(text: str, how: CaptionStyle | None, pieces: list[str]) -> None:
    assert split_tags(text, how) == pieces
    assert list(facts(text, how=how).tags[0] if text else ()) == [normalize_tag(piece) for piece in pieces]


def test_what_the_recipe_says_of_it() -> None:
    plain = recipe()
    assert get_caption_style(plain.concept[0], plain) == CaptionStyle()
    said = recipe(
        captions={"caption_prefix": "x,", "caption_suffix": ", y"},
        kohya={"caption_separator": ";", "keep_tokens_separator": "|||", "secondary_separator": ";;;"},
    )
    assert get_caption_style(said.concept[0], said) == CaptionStyle(";", "x,", ", y", ("|||", ";;;"))
    empty = recipe(kohya={"caption_separator": "", "keep_tokens_separator": ""})
    assert get_caption_style(empty.concept[0], empty) == CaptionStyle()
    own = recipe(concept={"caption_prefix": "", "keep_tokens_separator": "@"}, captions={"caption_prefix": "x,"})
    assert get_caption_style(own.concept[0], own) == CaptionStyle(marks=("@",))


def test_counting() -> None:
    found = facts("tok, Cat, red_hat", "tok, cat, cat, sky", "tok, dog")
    assert len(found) == 3
    assert found.mean == 3
    assert dict(found.counts) == {"tok": 3, "cat": 2, "red hat": 1, "sky": 1, "dog": 1}
    assert found.single_tags == ("dog", "red hat", "sky")
    assert found.everywhere == ("tok",)
    assert dict(found.at(0)) == {"tok": 3}
    assert dict(found.at(1)) == {"cat": 2, "dog": 1}
    assert dict(found.at(9)) == {}
    assert [image.name for image, _ in found.iter_images_with(frozenset({"cat", "dog", "moon"}))] == [
        "0.png",
        "1.png",
        "2.png",
    ]
    assert [image.name for image, _ in found.iter_images_with(frozenset({"sky"}))] == ["1.png"]
    assert list(found.iter_images_with(frozenset({"moon"}))) == []
    assert found.known({"cat", "moon"}) == {"cat"}
    assert found.get_spelling("red hat") == "red_hat"
    assert found.get_spelling("cat") == "Cat"
    assert found.get_spelling("moon") == "moon"
    assert found.list_spellings() == {"tok": "tok", "cat": "Cat", "red hat": "red_hat", "sky": "sky", "dog": "dog"}


def test_a_long_list_looks_for_its_spellings_once() -> None:
    """A complete list, as --json shows it, has every tag of a large dataset."""
    found, asked = facts("tok, Cat, red_hat", "tok, dog"), list[int]()

    class Watched(Mapping[str, str]):
        def __getitem__(self, key: str) -> str:
            return known[key]

        def __len__(self) -> int:
            return len(known)

        def __iter__(self) -> Iterator[str]:
            asked.append(1)
            return iter(known)

    known = dict(found.written)
    said = summarize_tags(replace(found, written=Watched()), ["cat", "red hat", "dog"] * 50)
    assert str(complete_lists(msg("{tags}", tags=said))).count('"red_hat"') == 50
    assert len(asked) <= 1


def test_images_without_a_caption_do_not_count() -> None:
    missing = ImageFacts("x.png", caption=CaptionFacts(problem=CaptionProblem.MISSING))
    found = count_folder_tags(FolderFacts("pics", (*folder("a, b").images, missing)))
    assert (len(found), found.everywhere) == (1, ("a", "b"))
    empty = count_folder_tags(FolderFacts("pics", (missing,)))
    assert (len(empty), empty.mean, empty.single_tags, empty.everywhere, dict(empty.at(0))) == (0, 0.0, (), (), {})


def test_words_that_never_part() -> None:
    outfits = [facts("lola, red", "lola, red, sky"), facts("lola, blue", "lola, blue")]
    assert find_inseparable_pairs(outfits, ["lola", "red", "blue"]) == []
    assert find_inseparable_pairs(outfits[:1], ["lola", "red", "blue"]) == [("lola", "red", 2)]
    assert find_inseparable_pairs([facts("a, b"), facts("c"), facts("b, a")], ["a", "b", "c"]) == [("a", "b", 2)]
    assert find_inseparable_pairs(outfits, ["moon", "star"]) == []


def test_a_folder_is_counted_once_until_it_or_the_way_of_reading_changes() -> None:
    memory, one = TagIndex(), folder("a, b")
    first = memory.of(one, CaptionStyle())
    assert memory.of(one, CaptionStyle()) is first
    assert memory.of(one, CaptionStyle(separator=";")).tags == (("a, b",),)
    other = folder("a, b")
    assert memory.of(other, CaptionStyle()) is not first
    assert memory.of(other, CaptionStyle()).tags == first.tags
