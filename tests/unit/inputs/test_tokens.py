"""CLIP tokens by lorabake's own reading of the merges; tests/real compares them with transformers' tokenizer."""

from __future__ import annotations

import subprocess
import sys

import pytest

from lorabake.inputs.clip_tokens import cannot_exceed, is_known_word, load_tokenizer, split_word
from lorabake.util import resources


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("", 0),
        ("   \n", 0),
        ("hamburger", 1),
        ("Hamburger", 1),
        ("hmbrgrlora", 5),
        ("a photo of a cat", 5),
        ("1girl, solo", 4),
        ("2024", 4),
        ("it's", 2),
        ("(((cat)))", 3),
        ("&amp;", 1),
        ("&", 1),
        ("maçã", 4),
        ("<|endoftext|>", 1),
        ("cat<|endoftext|>cat", 3),
    ],
)
def test_counts(text: str, count: int) -> None:
    assert load_tokenizer().count(text) == count


@pytest.mark.parametrize(
    ("word", "parts"),
    [
        ("cat", ["cat"]),
        ("cat2dog", ["cat", "2", "dog"]),
        ("1,000", ["1", ",", "0", "0", "0"]),
        ("they're", ["they", "'re"]),
        ("((cat)),", ["((", "cat", ")),"]),
        ("x²é", ["x", "²", "é"]),
        ("🍔🍔", ["🍔🍔"]),
    ],
)
def test_pieces(word: str, parts: list[str]) -> None:
    assert split_word(word) == parts


def test_a_text_of_few_bytes_cannot_have_more_tokens() -> None:
    assert cannot_exceed("a" * 75, 75)
    assert not cannot_exceed("a" * 76, 75)
    assert not cannot_exceed("é" * 20, 75)
    for text in ("a b " * 18, "@ # $ % " * 9, "9 " * 37):
        assert load_tokenizer().count(text) <= 75


@pytest.mark.parametrize("word", ["hamburger", "food", "Cat", "sks"])
def test_words_that_clip_knows(word: str) -> None:
    assert is_known_word(word)
    assert load_tokenizer().count(word) == 1


@pytest.mark.parametrize("word", ["hmbrgrlora", "hu tao", "a, b", "", "x", "é", "12", "mizutsune"])
def test_words_that_it_does_not_know(word: str) -> None:
    assert not is_known_word(word)


def test_the_merges_are_all_there() -> None:
    merges = resources.read_clip_merges().split("\n")
    assert len(merges) == 48_894
    assert (merges[0], merges[-1]) == ("i n", "jeky ll</w>")
    assert len({pair.replace(" ", "") for pair in merges} | {*merges}) > 90_000


def test_the_script_that_makes_them_finds_nothing_wrong() -> None:
    done = subprocess.run(
        [sys.executable, "vendor/make_clip_merges.py", "--check"], capture_output=True, text=True, check=False
    )
    assert (done.returncode, "48894 pairs" in done.stdout) == (0, True), done.stdout + done.stderr
