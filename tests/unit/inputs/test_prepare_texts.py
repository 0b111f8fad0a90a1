"""Captions for a clean copy: encoding, lines, the leading tags, the tag of a background, and those of crops."""

from __future__ import annotations

from contextlib import suppress
from time import process_time

import pytest

from lorabake.inputs.prepare.texts import CaptionRules, add_background, clean_caption, decode_text, edit_crop_caption

RULES = CaptionRules(leading=("lum", "tower"))
SENTENCES = RULES._replace(sentences=True)
WILDCARDS = RULES._replace(wildcard=True)


@pytest.mark.parametrize(
    "text",
    [
        "praia, café",
        "coração, Élan",
        "naïve girl\u2019s \u201cdress\u201d",
        "MAÇÃ, ÜBER",
        "¿qué? ¡sí!",
        "œuvre, 20 °C",
        "créée, Åsa",
    ],
)
def test_western_text_is_guessed(text: str) -> None:
    assert decode_text(text.encode("cp1252")) == (text, ("encoding-guessed",))


@pytest.mark.parametrize(
    ("text", "encoding"),
    [("1girl, 长发, 蓝眼", "gbk"), ("一个女孩站在海边", "gbk"), ("女孩", "gbk"), ("赤い髪", "shift_jis"),
     ("猫", "shift_jis"), ("1girl, 青い目", "shift_jis"), ("女孩", "big5"), ("여자, 긴 머리", "cp949"),
     ("девушка", "cp1251"), ("赤い髪", "euc-jp")],
)  # fmt: skip
def test_other_text_is_not_made_into_western(text: str, encoding: str) -> None:
    with pytest.raises(UnicodeDecodeError):
        decode_text(text.encode(encoding))


@pytest.mark.parametrize(
    ("data", "text", "steps"),
    [
        ("lum, tower, façade".encode(), "lum, tower, façade", ()),
        (b"\xef\xbb\xbflum", "lum", ("utf-8",)),
        ("façade".encode("cp1252"), "façade", ("encoding-guessed",)),
        ("\ufefffaçade".encode("utf-16-le"), "façade", ("utf-8",)),
        ("\ufefffaçade".encode("utf-16-be"), "façade", ("utf-8",)),
        ("lum, 赤い髪".encode("utf-16-le"), "lum, 赤い髪", ("encoding-guessed",)),
        ("lum, 赤い髪".encode("utf-16-be"), "lum, 赤い髪", ("encoding-guessed",)),
        (b"lum\0", "lum\0", ()),
        (b"", "", ()),
    ],
)
def test_text_is_decoded_whatever_it_is(data: bytes, text: str, steps: tuple[str, ...]) -> None:
    assert decode_text(data) == (text, steps)


@pytest.mark.parametrize("repeated", [b"\xb0", b"\xb0\xa1", b"a", b"\xe9", b"a\xb0", b"A\xb0", b"\xaa"])
@pytest.mark.parametrize("first", [b"", b"a"])
def test_long_text_is_judged_at_once(repeated: bytes, first: bytes) -> None:
    before = process_time()
    with suppress(UnicodeDecodeError):
        decode_text(first + repeated * 100_000 + b"Z\xe9")
    assert process_time() - before < 5  # seconds; one that looks twice at each takes minutes


@pytest.mark.parametrize("data", [b"\xff\xfe\x00", b"\x81\x8d", "赤い髪".encode("shift-jis")])
def test_what_is_no_text_is_not_made_one(data: bytes) -> None:
    with pytest.raises(UnicodeDecodeError):
        clean_caption(data, RULES)


@pytest.mark.parametrize(
    ("text", "clean", "steps"),
    [
        ("lum, tower, sea", "lum, tower, sea", ()),
        ("lum,tower,sea ", "lum,tower,sea", ()),
        ("tower, lum, sea", "lum, tower, sea", ("token-first",)),
        ("lum, sea, tower", "lum, tower, sea", ("token-first",)),
        ("sea, Lum", "lum, tower, sea", ("token-first",)),
        ("sea", "lum, tower, sea", ("token-first",)),
        ("\n lum, tower\r\nsea\n", "lum, tower, sea", ("one-line",)),
        ("lum, tower,\nsea", "lum, tower, sea", ("one-line",)),
        ("lum; tower; sea", "lum; tower; sea", ()),
        ("lum tower sea", "lum tower sea", ()),
        ("A photo of lum, the old tower by the sea, seen from a boat.",) * 2 + ((),),
        ("0 0.5 0.5 0.1 0.2", "0 0.5 0.5 0.1 0.2", ()),
        (" \n \n", "", ()),
        ("", "", ()),
        ("lum, tower\0, sea", "lum, tower, sea", ("invalid-characters",)),
    ],
)
def test_tags_start_with_token_and_class(text: str, clean: str, steps: tuple[str, ...]) -> None:
    assert clean_caption(text.encode(), RULES) == (clean, steps)
    assert clean_caption(clean.encode(), RULES).text == clean


def test_sentences_need_the_token_only_somewhere() -> None:
    assert clean_caption(b"an old lum by the sea", SENTENCES) == ("an old lum by the sea", ())
    assert clean_caption(b"the sea.\nA boat.", SENTENCES).text == "lum, tower, the sea. A boat."


def test_lines_of_wildcards_stay() -> None:
    text = b"lum, tower, {day|night}\n\nsea, lum\nsea"
    assert clean_caption(text, WILDCARDS) == (
        "lum, tower, {day|night}\nsea, lum\nlum, tower, sea", ("one-line", "token-first")
    )  # fmt: skip


def test_a_mark_of_kept_tokens_stays_where_it_is() -> None:
    rules = RULES._replace(mark="|||")
    assert clean_caption(b"lum, tower, red ||| sea, sky", rules).text == "lum, tower, red ||| sea, sky"
    assert clean_caption(b"red ||| sea, lum", rules).text == "lum, tower, red ||| sea"


def test_a_prefix_may_have_the_token() -> None:
    assert clean_caption(b"sea", CaptionRules()) == ("sea", ())


@pytest.mark.parametrize(
    ("text", "tagged"),
    [
        ("lum, sea", "lum, sea, red background"),
        ("lum, Transparent_background, sea", "lum, sea, red background"),
        ("lum, red background", "lum, red background"),
        ("A lum by the sea.", "A lum by the sea. red background"),
        ("lum,", "lum, red background"),
    ],
)
def test_the_new_background_is_tagged(text: str, tagged: str) -> None:
    assert add_background(text, "red", RULES) == tagged


def test_every_line_gets_the_background() -> None:
    assert add_background("lum\nsea", "red", WILDCARDS) == "lum, red background\nsea, red background"


def test_a_crop_is_no_sheet() -> None:
    assert edit_crop_caption("lum, reference sheet, red", None, ("from side",), RULES) == (
        "lum, red, from side", ("without-sheet-tags", "own-text")
    )  # fmt: skip
    assert edit_crop_caption("lum, sea", None, (), RULES) == ("lum, sea", ())
    assert edit_crop_caption("lum, sea", "from behind", (), RULES).text == "lum, tower, from behind"
