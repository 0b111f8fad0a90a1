"""Edits of one caption: what changes, and that nothing else does."""

from __future__ import annotations

import random

import pytest

from lorabake.analysis.tag_edits import find_edit_problem, make_edit
from lorabake.inputs.caption_lines import LineStyle, edit_caption_text, edit_line, split_line
from lorabake_schemas.guide.tags import normalize_tag
from lorabake_schemas.tag_report import EditKind

PLAIN = LineStyle()
KEEP = LineStyle(keeper="|||")
JOIN = LineStyle(joiner=";;;")


def edit(line: str, *edits: tuple[EditKind, str], style: LineStyle = PLAIN) -> str:
    known = {normalize_tag(tag) for tag in split_line(line, style)}
    return edit_line(line, [make_edit(kind, given, known) for kind, given in edits], style).text


@pytest.mark.parametrize(
    ("before", "kind", "given", "after"),
    [
        ("a, b", "add", "c", "a, b, c"),
        ("a,b", "add", "c", "a,b,c"),
        ("a", "add", "c", "a, c"),
        ("", "add", "c", "c"),
        ("a, b,", "add", "c", "a, b, c"),
        ("a, b", "add", "B", "a, b"),
        ("a, b", "add", "c@1", "c, a, b"),
        ("a,b", "add", "c@2", "a,c,b"),
        ("a, , b", "add", "c@2", "a, , c, b"),
        ("a, b", "add", "c@9", "a, b, c"),
        ("a", "add", "@_@", "a, @_@"),
        ("a, b", "add", "c, b, d", "a, b, c, d"),
        ("a, b, c", "remove", "a", "b, c"),
        ("a, b, c", "remove", "B", "a, c"),
        ("a, b, c", "remove", "c", "a, b"),
        ("a ,  b,c", "remove", "b", "a ,  c"),
        ("a, b, a", "remove", "a", "b"),
        ("a", "remove", "a", ""),
        ("long_hair, b", "remove", "long hair", "b"),
        ("smile \\(x\\), b", "remove", "smile (x)", "b"),
        ("red hair, b, long hair", "remove", "*hair", "b"),
        ("a, b", "rename", "b=c", "a, c"),
        ("a,  long_hair , b", "rename", "long hair=long hair", "a,  long hair , b"),
        ("long_hair, x, long hair", "rename", "long_hair=long hair", "long hair, x"),
        ("a, b, c", "rename", "b=c", "a, c"),
        ("a, b", "rename", "b=c, d, a", "a, c, d"),
        ("a, =_=", "rename", "=_==closed eyes", "a, closed eyes"),
        ("a, b, c", "front", "c", "c, a, b"),
        ("a, b, c", "front", "a", "a, b, c"),
        ("a,b,c", "front", "b", "b,a,c"),
        ("x, red hat, y, hat", "front", "*hat", "red hat, hat, x, y"),
        ("a, b", "front", "zzz", "a, b"),
    ],
)
def test_edits(before: str, kind: EditKind, given: str, after: str) -> None:
    assert edit(before, (kind, given)) == after


@pytest.mark.parametrize(
    ("before", "kind", "given", "after", "style"),
    [
        ("a ||| b, c", "remove", "a", "||| b, c", KEEP),
        ("a, x ||| b", "remove", "x", "a ||| b", KEEP),
        ("a ||| b, c", "remove", "b", "a ||| c", KEEP),
        ("a ||| b ||| c", "remove", "b", "a ||| ||| c", KEEP),
        ("a ||| b", "remove", "b", "a |||", KEEP),
        ("a ||| b", "add", "x@2", "a ||| x, b", KEEP),
        ("a ||| b, c", "front", "c", "c, a ||| b", KEEP),
        ("a, b;;;c, d", "remove", "b", "a, c, d", JOIN),
        ("a, b;;;c, d", "remove", "c", "a, b, d", JOIN),
        ("a, b;;;c;;;d", "remove", "c", "a, b;;;d", JOIN),
        ("a;b;c", "remove", "b", "a;c", LineStyle(separator=";")),
        ("a, {red, x|blue} sky, x", "remove", "x", "a, {red, x|blue} sky", LineStyle(wildcard=True)),
        ("a, {red, x", "remove", "x", "a, {red", PLAIN),
        ("a photo of b, c", "remove", "c", "a photo of b, c", LineStyle(natural=True)),
        ("a photo of b, c", "add", "lum@1", "lum, a photo of b, c", LineStyle(natural=True)),
    ],
)
def test_separators(before: str, kind: EditKind, given: str, after: str, style: LineStyle) -> None:
    assert edit(before, (kind, given), style=style) == after


def test_tags_in_sentences_are_not_edited() -> None:
    sentence = "lum, a tower that stands alone on a rock far out at sea., sea"
    assert edit(sentence, ("remove", "sea"), ("rename", "*tower*=x"), ("front", "*rock*")) == sentence[:-5]


def test_edits_are_applied_in_order() -> None:
    assert edit("c, a, b", ("front", "a"), ("front", "b")) == "a, b, c"
    assert edit("b, a", ("remove", "a"), ("add", "a@1")) == "a, b"
    assert edit("b, a", ("add", "a@1"), ("remove", "a")) == "b"
    assert edit("a, x", ("rename", "a=b"), ("rename", "b=c")) == "c, x"
    assert edit("a, b, c", ("front", "c"), ("remove", "a")) == "c, b"


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("\ufeffa, b\r\nsecond, b\r\n", "\ufeffa\r\nsecond, b\r\n"),
        ("  a, b \t\n", "  a \t\n"),
        ("a, b", "a"),
        ("a, b\rc", "a\rc"),
        ("\nb\n", "\nb\n"),
    ],
)
def test_only_the_first_line_is_a_caption(before: str, after: str) -> None:
    assert edit_caption_text(before, [make_edit("remove", "b", {"b"})], PLAIN).text == after


def test_every_line_is_a_caption_with_wildcards() -> None:
    before = "a, b\n\n  b, c\r\nd\n"
    assert edit_caption_text(before, [make_edit("remove", "b", {"b"})], LineStyle(wildcard=True)).text == (
        "a\n\n  c\r\nd\n"
    )


def test_an_edit_that_changes_nothing_keeps_every_character() -> None:
    dice = random.Random(7)  # noqa: S311
    signs = ["a", "b", ", ", ",", " ", "\n", "\r\n", "|||", ";;;", "{", "}", "{a|b}", "\t", "\u3000", "\ufeff", "é"]
    styles = [PLAIN, KEEP, JOIN, LineStyle(wildcard=True), LineStyle(keeper="|||", joiner=";;;", wildcard=True)]
    for _ in range(3000):
        text = "".join(dice.choices(signs, k=dice.randrange(30)))
        none = [make_edit("remove", "zz", ()), make_edit("rename", "zz=y", ()), make_edit("front", "zz", ())]
        assert edit_caption_text(text, none, dice.choice(styles)).text == text


def test_random_edits_change_the_tags_that_they_name() -> None:
    dice = random.Random(8)  # noqa: S311
    for _ in range(3000):
        line = dice.choice([", ", ",", " , "]).join(dice.choices(["a", "b", "c", "d e"], k=dice.randrange(1, 7)))
        tags = split_line(line, PLAIN)
        assert split_line(edit(line, ("remove", "a")), PLAIN) == [tag for tag in tags if tag != "a"]
        first = [tag for tag in tags if tag == "b"] + [tag for tag in tags if tag != "b"]
        assert split_line(edit(line, ("front", "b")), PLAIN) == first
        assert set(split_line(edit(line, ("rename", "c=x")), PLAIN)) == {"x" if tag == "c" else tag for tag in tags}
        new = split_line(edit(line, ("add", "y@2")), PLAIN)
        assert new == [tags[0], "y", *tags[1:]]


@pytest.mark.parametrize(
    ("kind", "given"),
    [
        ("add", ""), ("add", " , "), ("add", "a\nb"), ("remove", "a\u202eb"), ("rename", "a"), ("rename", "=b"),
        ("rename", "a="), ("rename", "a= , "), ("rename", "*hair=* cut"), ("front", "\x1b[0m"),
    ],
)  # fmt: skip
def test_what_is_not_an_edit(kind: EditKind, given: str) -> None:
    assert find_edit_problem(kind, given) is not None
