"""The catalogue: every message of the source is translated, with the same placeholders; nothing else is in it."""

from __future__ import annotations

import ast
import gettext
import io
import re
import string
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path

import click
import pytest
from babel.messages.catalog import Catalog, Message
from babel.messages.extract import extract_from_dir
from babel.messages.pofile import read_po

from lorabake.cli import main
from lorabake.util.i18n import LANGUAGES, detect_language, load_translator, read_catalog
from lorabake_schemas.messages import join_list, literal, msg, nmsg

ROOT = Path(__file__).resolve().parents[2]
SOURCES = (ROOT / "wrapper" / "lorabake", ROOT / "schemas" / "lorabake_schemas")
KEYWORDS = {"msg": None, "template": None, "nmsg": (2, 3)}
METHODS = [("**.py", "python"), ("*.toml", "lorabake.util.resources:extract_recipe_summary")]  # as in pyproject.toml
PO = ROOT / "wrapper" / "lorabake" / "locale" / "pt_BR" / "LC_MESSAGES" / "lorabake.po"
Template = tuple[str, ...]


@cache
def catalogue() -> Catalog:
    with PO.open("rb") as file:
        return read_po(file)


def entries() -> list[Message]:
    return [each for each in catalogue() if each.id]


def forms(words: object) -> Template:
    return (words,) if isinstance(words, str) else tuple(words)  # type: ignore[arg-type]


def extracted() -> set[Template]:
    """What pybabel finds. A message with one form and with two is kept with two."""
    found = {
        forms(each[2])
        for source in (*SOURCES, ROOT / "recipes")
        for each in extract_from_dir(source, METHODS, keywords=KEYWORDS)
    }
    plural = {(one,) for one, *many in found if many}
    return {each for each in found if len(each) > 1 or each not in plural}


def written() -> Iterator[tuple[str, ast.Call]]:
    """Every call in the source that makes a message."""
    for source in SOURCES:
        for path in sorted(source.rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text("utf-8"))):
                if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in KEYWORDS:
                    yield f"{path.relative_to(ROOT)}:{node.lineno}", node


def gaps(template: str) -> set[tuple[str, str, str]]:
    """The fields of a template, with how each is to be written."""
    parsed = string.Formatter().parse(template)
    return {(name, spec or "", conversion or "") for _, name, spec, conversion in parsed if name is not None}


def test_pybabel_finds_every_message() -> None:
    """It skips a call with an f-string among its arguments, and everything inside of one."""
    found = {each for template in extracted() for each in template}
    assert len(found) > 700
    for place, call in written():
        templates = call.args[1:3] if call.func.id == "nmsg" else call.args[:1]  # type: ignore[attr-defined]
        for template in templates:
            assert isinstance(template, ast.Constant), place
            assert template.value in found, place


def test_every_text_of_help_is_a_message() -> None:
    found = {each for template in extracted() for each in template}
    commands: list[click.Command] = [main]
    for command in commands:
        commands += command.commands.values() if isinstance(command, click.Group) else ()
        options = [param for param in command.params if isinstance(param, click.Option)]
        texts = [command.help, *(option.help for option in options)]
        assert {text and text.replace("{", "{{").replace("}", "}}") for text in texts} <= found, command.name


def test_nothing_is_missing_and_nothing_is_left_over() -> None:
    assert {forms(each.id) for each in entries()} == extracted(), "run `make catalogues`, then translate what is new"


def test_every_message_is_translated_and_none_by_guess() -> None:
    assert [each.id for each in entries() if each.fuzzy or not all(forms(each.string))] == []
    assert not catalogue().obsolete


def test_a_translation_has_the_gaps_of_its_template() -> None:
    """So that filling one in cannot fail, and no value of the English text is lost."""
    for each in entries():
        ids, said = forms(each.id), forms(each.string)
        assert len(said) == len(ids), ids
        for template, translation in zip(ids, said, strict=True):
            assert gaps(translation) == gaps(template), template


def test_a_translation_begins_and_ends_as_its_template_does() -> None:
    """Messages are put together from parts: spaces, line ends and a full stop at either end belong to the joint."""
    for each in entries():
        for template, translation in zip(forms(each.id), forms(each.string), strict=True):
            assert translation[:1].isspace() == template[:1].isspace(), template
            assert translation[-1:].isspace() == template[-1:].isspace(), template
            assert (translation[-1:] in ".;") == (template[-1:] in ".;"), template
            assert translation.count("\n") == template.count("\n"), template


def test_commands_and_options_are_not_translated() -> None:
    for each in entries():
        for template, translation in zip(forms(each.id), forms(each.string), strict=True):
            assert quoted_words(template) == quoted_words(translation), template


def quoted_words(text: str) -> list[str]:
    """The text between backticks."""
    return sorted(text.split("`")[1::2])


def test_what_gettext_reads_was_compiled_from_what_people_read() -> None:
    read = gettext.GNUTranslations(io.BytesIO(read_catalog("pt_BR")))
    for each in entries():
        ids, said = forms(each.id), forms(each.string)
        if len(ids) == 1:
            assert read.gettext(ids[0]) == said[0]
        else:
            assert [read.ngettext(ids[0], ids[1], n) for n in (0, 1, 2)] == [said[1], said[0], said[1]]


def test_english_is_in_the_source() -> None:
    assert load_translator("en")(nmsg(2, "{n} image", "{n} images")) == "2 images"
    assert set(LANGUAGES) == {"en", PO.parent.parent.name}


def test_messages_are_made_by_functions_of_their_own_names() -> None:
    """pybabel looks for these two names, so they are imported as they are and nothing else has them."""
    for source in SOURCES:
        for path in sorted(source.rglob("*.py")):
            if path.name == "messages.py":
                continue
            tree = ast.parse(path.read_text(encoding="utf-8"))
            aliases = [alias for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) for alias in node.names]
            imported = {alias.name for alias in aliases} & set(KEYWORDS)
            called = {n.func.id for n in ast.walk(tree) if isinstance(n, ast.Call) and isinstance(n.func, ast.Name)}
            assert called & set(KEYWORDS) <= imported, path
            assert not imported & set(_bound(tree)), path
            assert not [alias for alias in aliases if alias.name in imported and alias.asname], path


def _bound(tree: ast.Module) -> Iterator[str]:
    """Every name that a file defines; a method is called by its object."""
    yield from (node.name for node in tree.body if isinstance(node, ast.FunctionDef))
    for node in ast.walk(tree):
        if isinstance(node, ast.arg):
            yield node.arg
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id


@pytest.mark.parametrize(
    ("env", "language"),
    [
        ({}, "en"),
        ({"LANG": "pt_BR.UTF-8"}, "pt_BR"),
        ({"LANG": "pt_PT@euro"}, "pt_BR"),
        ({"LANG": "pt"}, "pt_BR"),
        ({"LANG": "de_DE.UTF-8"}, "en"),
        ({"LANG": "pt_BR.UTF-8", "LC_ALL": "en_GB.UTF-8"}, "en"),
        ({"LANG": "en_US.UTF-8", "LC_MESSAGES": "pt_BR.UTF-8"}, "pt_BR"),
        ({"LANG": "pt_BR.UTF-8", "LC_ALL": "C"}, "en"),
        ({"LANG": "pt_BR.UTF-8", "LC_ALL": "C.UTF-8"}, "en"),
        ({"LANG": "pt_BR.UTF-8", "LC_ALL": ""}, "pt_BR"),
        ({"LANG": "de_DE.UTF-8", "LANGUAGE": "de:pt_BR:en"}, "pt_BR"),
        ({"LANG": "pt_BR.UTF-8", "LANGUAGE": "en_GB:pt_BR"}, "en"),
        ({"LANG": "C", "LANGUAGE": "pt_BR"}, "en"),
        ({"LANGUAGE": "pt_BR"}, "en"),
    ],
)
def test_the_locale_names_the_language(env: Mapping[str, str], language: str) -> None:
    assert detect_language(env) == language


def test_a_sentence_in_portuguese() -> None:
    speech = load_translator("pt_BR")
    assert speech(msg("cannot write {path}: {why}", path="a", why="b")) == "não foi possível gravar a: b"
    assert speech(msg("remove it")) == "remova a chave"
    row = join_list(
        [
            msg("remove it"),
            literal("remove it"),
            nmsg(2, "{n} error in {recipe}", "{n} errors in {recipe}", recipe="r"),
        ]
    )
    assert speech(row) == "remova a chave, remove it, 2 erros em r"


def test_no_english_word_is_filled_in() -> None:
    """A list that is joined with a word of English stays English in every language."""
    places = [path for root in SOURCES for path in root.rglob("*.py")]
    product = [path for path in places if "scripts" not in path.parts]
    assert [path.name for path in product if re.search(r"""["'] (and|or) ["']\.join""", path.read_text("utf-8"))] == []


def test_no_preposition_comes_before_a_program() -> None:
    """Programs have their article in Portuguese (a GUI kohya_ss), with which de, em and por would have to contract."""
    assert re.findall(r"\b(?:de|em|por|a) \{program\}", PO.read_text("utf-8")) == []
