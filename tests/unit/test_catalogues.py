"""The catalogues: every sentence of the source is in both, translated, with the same gaps to fill in; nothing else."""

from __future__ import annotations

import ast
import gettext
import importlib.util
import io
import string
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from types import ModuleType

import pytest
from babel.messages.catalog import Catalog, Message

from lorabake.util import resources
from lorabake.util.i18n import LANGUAGES, detect_language, load_translator
from lorabake_schemas.messages import join_list, literal, msg, nmsg

ROOT = Path(__file__).resolve().parents[2]


@cache
def tool() -> ModuleType:
    """wrapper/catalogues.py, which is no part of the package."""
    spec = importlib.util.spec_from_file_location("catalogues", ROOT / "wrapper" / "catalogues.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def po(language: str) -> str:
    path: Path = tool().folder(language) / "lorabake.po"
    return path.read_text(encoding="utf-8")


def catalogue(language: str) -> Catalog:
    found: Catalog = tool().read(po(language))
    return found


def entries(language: str) -> list[Message]:
    found: list[Message] = tool().messages(catalogue(language))
    return found


def forms(words: object) -> tuple[str, ...]:
    return (words,) if isinstance(words, str) else tuple(words)  # type: ignore[arg-type]


def gaps(template: str) -> set[tuple[str, str, str]]:
    """The fields of a template, with how each is to be written."""
    parsed = string.Formatter().parse(template)
    return {(name, spec or "", conversion or "") for _, name, spec, conversion in parsed if name is not None}


def test_the_languages_are_those_of_the_command_line() -> None:
    assert tool().LANGUAGES == LANGUAGES


@pytest.mark.parametrize("language", LANGUAGES)
def test_nothing_is_missing_and_nothing_is_left_over(language: str) -> None:
    wanted = set(tool().collected())
    assert len(wanted) > 700
    there = {forms(each.id) for each in entries(language)}
    assert wanted - there == set(), "run `make catalogues`, then translate what is new"
    assert there - wanted == set(), "run `make catalogues`"


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_sentence_is_translated_and_none_by_guess(language: str) -> None:
    assert tool().open_points(catalogue(language)) == []
    assert not catalogue(language).obsolete


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_translation_has_the_gaps_of_its_template(language: str) -> None:
    """So that filling one in cannot fail, and that nothing which the English says is lost."""
    for each in entries(language):
        ids, said = forms(each.id), forms(each.string)
        assert len(said) == len(ids), ids
        for template, translation in zip(ids, said, strict=True):
            assert gaps(translation) == gaps(template), template


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_translation_begins_and_ends_as_its_template_does(language: str) -> None:
    """Sentences are put together from parts: spaces, line ends and a full stop at either end belong to the joint."""
    for each in entries(language):
        for template, translation in zip(forms(each.id), forms(each.string), strict=True):
            assert translation[:1].isspace() == template[:1].isspace(), template
            assert translation[-1:].isspace() == template[-1:].isspace(), template
            assert (translation[-1:] in ".;") == (template[-1:] in ".;"), template
            assert translation.count("\n") == template.count("\n"), template


@pytest.mark.parametrize("language", LANGUAGES)
def test_commands_and_options_are_not_translated(language: str) -> None:
    for each in entries(language):
        for template, translation in zip(forms(each.id), forms(each.string), strict=True):
            assert quoted_words(template) == quoted_words(translation), template


def quoted_words(text: str) -> list[str]:
    """What stands between backticks."""
    return sorted(text.split("`")[1::2])


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_files_are_as_the_tool_writes_them(language: str) -> None:
    """Same sentences, same bytes; and what gettext reads is made from what people read."""
    up_to_date = tool().updated(po(language), language, tool().collected())
    assert tool().po_text(up_to_date, language) == po(language)
    assert tool().mo_bytes(up_to_date, language) == resources.read_catalog(language)


@pytest.mark.parametrize("language", LANGUAGES)
def test_babels_table_of_plural_forms_changes_nothing(language: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Babel 2.19 has three forms for Portuguese, 2.17 had two."""
    wanted = [("{n} image", "{n} images"), ("one form",)]
    before = tool().updated("", language, wanted)
    text, compiled = tool().po_text(before, language), tool().mo_bytes(before, language)

    def other_forms(_: object) -> tuple[int, str]:
        return 5, "n % 5"

    monkeypatch.setattr("babel.messages.catalog.get_plural", other_forms)
    for started_from in ("", text):
        after = tool().updated(started_from, language, wanted)
        assert tool().po_text(after, language) == text
        assert tool().mo_bytes(after, language) == compiled


@pytest.mark.parametrize("language", LANGUAGES)
def test_gettext_reads_what_was_compiled(language: str) -> None:
    read = gettext.GNUTranslations(io.BytesIO(resources.read_catalog(language)))
    for each in entries(language):
        ids, said = forms(each.id), forms(each.string)
        if len(ids) == 1:
            assert read.gettext(ids[0]) == said[0]
        else:
            assert [read.ngettext(ids[0], ids[1], n) for n in (0, 1, 2)] == [said[1], said[0], said[1]]


def test_english_speaks_for_itself() -> None:
    assert all(each.id == each.string for each in entries("en"))


def test_only_literals_are_templates() -> None:
    found = list(tool().templates('msg("a" "b", x=msg("c"))\nnmsg(len(x), "d", "e")\nx.msg(f)', "here"))
    assert sorted(found) == [("ab",), ("c",), ("d", "e")]
    for source in ('msg(f"a {b}")', "msg(words)", 'nmsg(1, "a")', 'msg("a" if b else "c")'):
        with pytest.raises(ValueError, match="here:1"):
            list(tool().templates(source, "here"))


def test_say_and_told_are_what_they_seem() -> None:
    """The catalogues are collected by these two names, so they come from words.py, as they are, wherever called."""
    for path in tool().sources():
        if path.name == "words.py":
            continue
        tree = ast.parse(path.read_text(encoding="utf-8"))
        aliases = [alias for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) for alias in node.names]
        imported = {alias.name for alias in aliases} & {"msg", "nmsg"}
        called = {n.func.id for n in ast.walk(tree) if isinstance(n, ast.Call) and isinstance(n.func, ast.Name)}
        assert called & {"msg", "nmsg"} <= imported, path
        assert not imported & set(_bound(tree)), path
        assert not [alias for alias in aliases if alias.name in imported and alias.asname], path


def _bound(tree: ast.Module) -> Iterator[str]:
    """Every name that a file gives to something of its own; a method is called by its object."""
    yield from (node.name for node in tree.body if isinstance(node, ast.FunctionDef))
    for node in ast.walk(tree):
        if isinstance(node, ast.arg):
            yield node.arg
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id


def test_a_changed_sentence_keeps_its_translation_as_a_guess_only() -> None:
    before = tool().updated("", "pt_BR", [("the folder {path} is gone",), ("{n} picture", "{n} pictures")])
    for each in before:
        if each.id == "the folder {path} is gone":
            each.string = "a pasta {path} sumiu"
    text = tool().po_text(before, "pt_BR")
    after = tool().updated(text, "pt_BR", [("the folder {path} is gone now",), ("{n} picture", "{n} pictures")])
    assert sorted(tool().open_points(after)) == ["the folder {path} is gone now", "{n} picture"]
    assert b"sumiu" not in tool().mo_bytes(after, "pt_BR")
    assert b"sumiu" in tool().mo_bytes(before, "pt_BR")


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
    assert speech(msg("take it out")) == "remova"
    row = join_list(
        [
            msg("take it out"),
            literal("take it out"),
            nmsg(2, "{n} error in {recipe}", "{n} errors in {recipe}", recipe="r"),
        ]
    )
    assert speech(row) == "remova, take it out, 2 erros em r"
