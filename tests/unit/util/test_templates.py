"""Recorded sentences: English text without a template, in the reader's language again."""

from __future__ import annotations

import gettext
import io
import struct

import pytest

from lorabake.util.i18n import load_translator, read_catalog
from lorabake.util.templates import read_templates, recover_message
from lorabake_schemas.messages import Message, RecordedMessage, literal, msg, nmsg, translate
from lorabake_schemas.plan import Origin, Source

TEMPLATES = read_templates(read_catalog("pt_BR"))


def _compile(*keys: str) -> bytes:
    """The part of a compiled catalogue that has the keys."""
    encoded = [key.encode() for key in keys]
    start = 16 + 8 * len(keys)
    table = [(len(key), start + sum(map(len, encoded[:at]))) for at, key in enumerate(encoded)]
    rows = [number for row in table for number in row]
    return struct.pack(f"<4I{len(rows)}I", 0, 0, len(keys), 16, *rows) + b"".join(encoded)


@pytest.mark.parametrize(
    ("text", "filled", "number"),
    [
        ("cannot read a b: it is gone", {"path": "a b", "why": "it is gone"}, 1),
        ("1 image in x", {"n": 1, "place": "x"}, 1),
        ("12 images in x", {"n": 12, "place": "x"}, 12),
        ("takes 1,234.5 s, 35%", {"time": 1234.5, "share": 0.35}, 1),
        ("a{b}", {"name": "b"}, 1),
    ],
)
def test_the_message_of_a_recorded_text(text: str, filled: dict[str, object], number: int) -> None:
    found = recover_message(
        text,
        read_templates(
            _compile(
                "cannot read {path}: {why}",
                "{n} image in {place}\0{n} images in {place}",
                "takes {time:,.1f} s, {share:.0%}",
            )
        ),
    )
    if found.template == "{text}":
        assert (found, filled) == (text, {"name": "b"})
    else:
        assert (found, dict(found.filled), found.number) == (text, filled, number)


def test_the_template_with_the_most_letters_wins_and_a_name_stays_a_name() -> None:
    templates = read_templates(
        _compile("{file} is missing", "{file} is missing in {place}", "cannot remove the file {key}: {why}")
    )
    found = recover_message("cannot remove the file a: b.txt is missing in c", templates)
    assert found.template == "cannot remove the file {key}: {why}"
    nested = found.filled["why"]
    assert isinstance(nested, Message)
    assert nested.template == "{file} is missing in {place}"
    assert not isinstance(nested.filled["file"], Message)


def test_each_step_of_a_cure_is_found() -> None:
    templates = read_templates(_compile("set {key} in the recipe", "look here; then there", "{n} more"))
    text = "set a.b = 1 in the recipe; look here; then there; something else; set c in the recipe"
    catalogue = gettext.NullTranslations()
    found = recover_message(text, templates)
    assert translate(found, catalogue) == text
    translated = {"set {key} in the recipe": "S {key}", "look here; then there": "L"}
    catalogue.gettext = lambda message: translated.get(message, message)  # type: ignore[method-assign]
    assert translate(found, catalogue) == "S a.b = 1; L; something else; S c"


def test_a_number_decides_the_form() -> None:
    templates = read_templates(_compile("{n} file of {one} is kept\0{n} files are kept, {all} in total"))
    assert recover_message("1 file of a is kept", templates).number == 1
    assert recover_message("7 file of a is kept", templates).template == "{text}"
    assert recover_message("7 files are kept, b in total", templates).number == 7


def test_half_of_a_sentence_is_not_translated() -> None:
    templates = read_templates(_compile("the run failed: {why}"))
    assert recover_message("the run failed: disk full", templates).template == "the run failed: {why}"
    assert recover_message("the run failed: no one knows what went wrong here", templates).template == "{text}"
    assert recover_message("the run failed: " + "x" * 5000, templates).template == "{text}"


def test_every_message_is_found_again() -> None:
    """By its own template, or by another one with the same text."""
    lost: list[str] = []
    for template in TEMPLATES:
        count = 1 if template.plural and template.number == 1 else 7
        values = {name: 0.5 if how else count if name == "n" else "blub" for name, how in template.fields}
        gaps = [format(values[name], how) for name, how in template.fields]
        said = "".join(part for pair in zip(template.pieces, [*gaps, ""], strict=True) for part in pair)
        found = recover_message(said, TEMPLATES)
        if found.template == "{text}":
            lost.append(said)
        assert found == said
    assert lost == []


def test_what_was_read_from_a_plan_is_translated() -> None:
    speech = load_translator("pt_BR")
    why = msg("{n} exposures per image", n=100)
    read = Source.model_validate_json(Source(origin=Origin.GUIDE, rule="G5.1", why=why).model_dump_json())
    assert isinstance(read.why, RecordedMessage)
    assert speech(read.why) == speech(why) != why
    assert speech(literal(str(why))) == str(why)
    assert speech(msg("{problem}; {fix}", problem=read.why, fix=nmsg(1, "{n} image", "{n} images"))).startswith(
        speech(why)
    )


def test_the_keys_are_those_that_gettext_reads() -> None:
    read = gettext.GNUTranslations(io.BytesIO(read_catalog("pt_BR")))
    plain = [each.text for each in TEMPLATES if not each.plural and each.text not in {"JSON", "LoRA"}]
    assert len(plain) > 1000
    assert sum(read.gettext(text) != text for text in plain) > 0.9 * len(plain)
