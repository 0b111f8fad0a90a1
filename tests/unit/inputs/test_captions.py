"""Captions as sd-scripts takes them (S12)."""

from __future__ import annotations

from pathlib import Path

import pytest

from lorabake.inputs import captions
from lorabake_schemas.dataset import MAX_CAPTION_BYTES, CaptionFacts, CaptionProblem


@pytest.mark.parametrize(
    ("data", "text", "problem"),
    [
        (b"mizutsune, feral, blue eyes", "mizutsune, feral, blue eyes", None),
        (b"  a, b \r\n", "a, b", None),
        (b"a, b\n\n   \n", "a, b", None),
        (b"a, b\nc, d\n", "a, b", CaptionProblem.MORE_LINES),
        (b"a, b\rc, d", "a, b", CaptionProblem.MORE_LINES),
        ("a\u2028b, c\x0bd".encode(), "a\u2028b, c\x0bd", None),
        (b"", "", CaptionProblem.EMPTY),
        (b"\n", "", CaptionProblem.SPACES),
        (b"  \n \t", "", CaptionProblem.SPACES),
        (b"\nfirst tag on line two", "", CaptionProblem.BLANK),
        (b"\xef\xbb\xbfa, b", "\ufeffa, b", CaptionProblem.BOM),
        (b"\xef\xbb\xbf", "\ufeff", CaptionProblem.BOM),
        ("maçã, fruta".encode("latin-1"), "", CaptionProblem.NOT_UTF8),
        ("maçã, fruta".encode(), "maçã, fruta", None),
        ("a, b".encode("utf-16"), "", CaptionProblem.NOT_UTF8),
    ],
)
def test_parse_takes_the_first_line(data: bytes, text: str, problem: CaptionProblem | None) -> None:
    assert captions.parse_caption(data) == CaptionFacts(text, problem)


@pytest.mark.parametrize(
    ("data", "texts", "problem"),
    [
        (b"a, b\n\n  c d  \r\n", ("a, b", "c d"), None),
        (b"\n{red|blue|big} hat", ("red hat", "blue hat", "big hat"), None),
        (b"{a|b}, {c|d|e}", ("a, c", "b, d", "a, e"), None),
        (b"{{a|b}} {c}", ("{a|b} c",), None),
        (b"a\na", ("a",), None),
        (b" \n", ("",), CaptionProblem.SPACES),
        (b"", ("",), CaptionProblem.EMPTY),
        (b"\xef\xbb\xbfa\nb", ("\ufeffa", "b"), CaptionProblem.BOM),
    ],
)
def test_every_line_and_choice_is_a_caption_with_wildcards(
    data: bytes, texts: tuple[str, ...], problem: CaptionProblem | None
) -> None:
    found = captions.parse_caption(data, wildcard=True)
    assert (found.texts, found.problem) == (texts, problem)


def test_choices_are_bounded() -> None:
    line = "{" + "|".join(map(str, range(10_000))) + "}"
    assert len(list(captions.expand_wildcards(line))) == captions.MOST_VARIANTS


@pytest.mark.parametrize(
    ("image", "legacy"),
    [
        ("pics/1.png", None),
        ("pics/a_b_c_d.png", None),
        ("pics/a_b_c_d_e.png", "pics/a.txt"),
        ("pics/a_b_10_20_30_40.png", "pics/a_b.txt"),
        ("my_very_own_red_set/7.png", "my.txt"),
    ],
)
def test_legacy_path_counts_underscores_in_the_whole_path(image: str, legacy: str | None) -> None:
    assert captions.legacy_caption_path(image, ".txt") == legacy


def test_own_path_keeps_dots_in_the_stem() -> None:
    assert captions.caption_path("pics/v1.2.final.webp", ".caption") == "pics/v1.2.final.caption"


def test_read_prefers_the_images_own_caption(tmp_path: Path) -> None:
    (tmp_path / "a_1_2_3_4.txt").write_text("mine")
    (tmp_path / "a.txt").write_text("another")
    assert captions.read_caption(str(tmp_path / "a_1_2_3_4.png"), ".txt") == CaptionFacts("mine")


def test_read_names_the_file_that_would_be_borrowed(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("another\nline")
    facts = captions.read_caption(str(tmp_path / "a_1_2_3_4.png"), ".txt")
    assert facts == CaptionFacts("another", CaptionProblem.MORE_LINES, str(tmp_path / "a.txt"))


def test_read_of_no_file_is_a_missing_caption(tmp_path: Path) -> None:
    assert captions.read_caption(str(tmp_path / "a.png"), ".txt").problem is CaptionProblem.MISSING


def test_a_folder_with_the_captions_name_is_no_caption(tmp_path: Path) -> None:
    (tmp_path / "a.txt").mkdir()
    assert captions.read_caption(str(tmp_path / "a.png"), ".txt").problem is CaptionProblem.MISSING


def test_a_caption_that_cannot_be_opened_is_unreadable(tmp_path: Path) -> None:
    loop = tmp_path / "a.txt"
    loop.symlink_to(loop)
    assert captions.read_caption(str(tmp_path / "a.png"), ".txt").problem is CaptionProblem.UNREADABLE


@pytest.mark.usefixtures("ordinary")
def test_a_caption_without_permission_is_unreadable(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("x")
    (tmp_path / "a.txt").chmod(0)
    assert captions.read_caption(str(tmp_path / "a.png"), ".txt").problem is CaptionProblem.UNREADABLE


@pytest.mark.parametrize("tail", ["é", "ab", "\nlines"])
def test_only_the_beginning_of_what_is_too_large_is_read(tmp_path: Path, tail: str) -> None:
    (tmp_path / "a.txt").write_text("a" + tail * MAX_CAPTION_BYTES, encoding="utf-8")
    found = captions.read_caption(str(tmp_path / "a.png"), ".txt")
    assert found.problem is CaptionProblem.TOO_LARGE
    assert found.text is not None
    assert len(found.text.encode()) <= MAX_CAPTION_BYTES
    assert found.text.startswith("a" + tail.strip("\n")[:1]) is (tail != "\nlines")
    (tmp_path / "a.txt").write_text("a" * MAX_CAPTION_BYTES, encoding="utf-8")
    assert captions.read_caption(str(tmp_path / "a.png"), ".txt").problem is None
