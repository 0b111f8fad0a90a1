"""Messages that can be translated."""

from __future__ import annotations

import copy
import gettext
import pickle
from pathlib import Path

import pytest
from pydantic import ValidationError

from lorabake_schemas.findings import Finding, Severity
from lorabake_schemas.messages import Message, escape_undecodable, join_list, literal, msg, nmsg, translate


class Shouting(gettext.NullTranslations):
    """A language whose templates differ from the English ones."""

    def gettext(self, message: str) -> str:
        return {"{what} is gone": "CADÊ {what}", "the folder": "A PASTA"}.get(message, message)

    def ngettext(self, msgid1: str, msgid2: str, n: int) -> str:
        return {"{n} picture": "{n} FOTO", "{n} pictures": "{n} FOTOS"}[msgid1 if n == 1 else msgid2]


def test_a_sentence_is_english_until_it_is_translated() -> None:
    said = msg("{what} is gone", what=msg("the folder"))
    assert said == "the folder is gone"
    assert translate(said, Shouting()) == "CADÊ A PASTA"
    assert translate("{what} is gone", Shouting()) == "{what} is gone"


@pytest.mark.parametrize(("number", "english", "shouted"), [(1, "1 picture", "1 FOTO"), (2, "2 pictures", "2 FOTOS")])
def test_numbers_choose_the_form(number: int, english: str, shouted: str) -> None:
    said = nmsg(number, "{n} picture", "{n} pictures")
    assert said == english
    assert translate(said, Shouting()) == shouted


def test_bytes_of_a_file_name_that_are_no_text_can_be_printed() -> None:
    assert escape_undecodable("a\udcff.png") == "a\\udcff.png"
    assert msg("{name}", name="a\udcff.png") == "a\\udcff.png"


def test_words_in_a_row_and_words_of_others() -> None:
    row = join_list([msg("the folder"), literal("the folder"), "the folder"], " | ")
    assert row == "the folder | the folder | the folder"
    assert translate(row, Shouting()) == "A PASTA | the folder | the folder"
    assert literal("{what} is gone") == "{what} is gone"
    assert translate(literal("{what} is gone"), Shouting()) == "{what} is gone"
    said = msg("the folder")
    assert literal(said) is said


def test_a_path_can_be_filled_in() -> None:
    assert msg("{what} is gone", what=Path("a", "b.toml")) == f"{Path('a', 'b.toml')} is gone"


@pytest.mark.parametrize(
    "said", [msg("{what} is gone", what=msg("the folder")), nmsg(2, "{n} picture", "{n} pictures")]
)
def test_sentences_travel_between_processes(said: Message) -> None:
    again = pickle.loads(pickle.dumps(said))  # noqa: S301 - made here
    assert again == said
    assert translate(again, Shouting()) == translate(said, Shouting())
    assert copy.deepcopy(said) == said


def test_a_finding_keeps_what_can_be_translated() -> None:
    finding = Finding(
        rule="G1.1", severity=Severity.HINT, message=msg("{what} is gone", what="x"), fix=literal("a\udcff")
    )
    assert isinstance(finding.message, Message)
    assert finding.fix == "a\\udcff"
    again = Finding.model_validate_json(finding.model_dump_json())
    assert again == finding
    assert isinstance(again.message, Message)
    assert translate(again.message, Shouting()) == "x is gone"
    with pytest.raises(ValidationError):
        Finding.model_validate({"rule": "G1.1", "severity": Severity.HINT, "message": 1, "fix": ""})


def test_nothing_is_nothing_in_any_language() -> None:
    """gettext answers the empty message with the head of its catalogue."""
    assert translate(join_list(()), Headed()) == ""
    assert translate(msg("{what}!", what=join_list(())), Headed()) == "!"


class Headed(gettext.NullTranslations):
    def gettext(self, message: str) -> str:
        return message or "Content-Type: text/plain"


def test_decimals_and_thousands_follow_the_language_but_settings_do_not() -> None:
    said = msg("{n:,} numbers, {size}, alpha {alpha:g}", n=22544, size=msg("{size:.1f} MB", size=1.5), alpha=0.5)
    assert said == "22,544 numbers, 1.5 MB, alpha 0.5"
    assert translate(said, gettext.NullTranslations(), decimal_comma=True) == "22.544 numbers, 1,5 MB, alpha 0.5"
