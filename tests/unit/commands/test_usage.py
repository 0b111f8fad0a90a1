"""--help, and a wrong command line in the reader's language."""

from __future__ import annotations

import re
from collections.abc import Iterator

import click
import pytest
from click.testing import CliRunner

from languages import Backwards
from lorabake.cli import main
from lorabake.commands import help as language
from lorabake.commands.recipes import read_shipped_recipe
from lorabake.commands.run import quickstart
from lorabake.errors import UnknownNameError
from lorabake.util.i18n import ENGLISH, Translator
from lorabake_schemas.families.registry import DEFAULT_FAMILY, list_families


def said(*args: str, lang: str = "pt_BR") -> tuple[int, str]:
    done = CliRunner().invoke(main, list(args), env={"LC_ALL": f"{lang}.UTF-8", "LANGUAGE": ""})
    return done.exit_code, click.unstyle(done.stderr)


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (("chek", "r.toml"), "comando desconhecido chek"),
        (("check",), "falta RECIPE"),
        (("check", "r.toml", "--strickt"), "opção desconhecida --strickt; você quis dizer --strict?"),
        (("check", "r.toml", "--color", "blue"), "--color precisa ser uma destas opções: auto, always, never"),
        (("check", "r.toml", "another"), "argumentos demais: another"),
        (("quickstart", "--family"), "--family precisa de um valor"),
        (("explain",), "informe uma regra"),
    ],
)
def test_what_is_wrong_with_a_command_line(args: tuple[str, ...], words: str) -> None:
    code, text = said(*args)
    assert code == 2
    assert text.splitlines()[-1].startswith(f"erro: {words}")
    assert "Usage" not in text
    assert "Try" not in text


def test_the_usage_line_and_the_help_are_named() -> None:
    _, text = said("check")
    assert text.splitlines()[:2] == ["uso: main check [OPTIONS] RECIPE", "use `main check --help` para ver a ajuda"]


def test_what_was_typed_is_made_visible() -> None:
    for args in (
        ("check", "r.toml", "--no\x1b[2J"),
        ("che\x1b[2J",),
        ("--no\x1b[2J",),
        ("compare", "a", "b", "c\x1b[2J"),
    ):
        code, text = said(*args, lang="en_GB")
        assert code == 2
        assert "\x1b" not in text
        assert "\\x1b[2J" in text


def test_a_group_without_a_command_shows_its_help_as_ever() -> None:
    assert said("trainer")[0] == said("trainer", lang="en_GB")[0]
    assert "Uso:" in CliRunner().invoke(main, ["trainer"], env={"LC_ALL": "pt_BR.UTF-8"}).output


def test_help_lists_every_command_once_and_no_sentence_is_cut_at_80_columns() -> None:
    lines = CliRunner().invoke(main, ["--help"], terminal_width=80).output.splitlines()
    shown = [
        line.split(maxsplit=1) for line in lines[lines.index("Start:") :] if line.startswith("  ") and "`" not in line
    ]
    assert sorted(name for name, _ in shown) == sorted(main.commands)
    assert all(sentence.endswith(".") and "..." not in sentence for _, sentence in shown)


def test_help_with_braces_is_found_under_its_template(monkeypatch: pytest.MonkeyPatch) -> None:
    """The catalogue has the doubled braces of msg; the help shows single ones."""
    asked: list[str] = []

    class Catalogue:
        def gettext(self, text: str) -> str:
            asked.append(text)
            return text

    class Speech:
        catalogue = Catalogue()

    def speak(_context: object) -> Speech:
        return Speech()

    monkeypatch.setattr(language, "current_translator", speak)
    assert language.translate_help("with {image} or {folder}", click.Context(main)) == "with {image} or {folder}"
    assert asked == ["with {{image}} or {{folder}}"]


def test_an_option_has_the_same_help_everywhere() -> None:
    texts: dict[str, set[str]] = {}
    for command in main.commands.values():
        for option in command.params:
            # --deep of inspect hashes; --all of ls lists runs, of explain it prints the book, of tags it shows all;
            # --dry-run of what trains shows a command, of what writes it shows files; --with of caption is a program;
            # what --family, --model, --output and --to name is another thing for each command that makes something
            other = {"deep", "everywhere", "everything", "dry_run", "line", "family", "model", "output", "to", "yes"}
            if isinstance(option, click.Option) and option.name not in other:
                texts.setdefault(option.opts[-1], set()).add(option.help or "")
    assert {name: found for name, found in texts.items() if len(found) > 1 or not all(found)} == {}


def _walk(command: click.Command, *path: str) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    yield path, command
    for name, each in command.commands.items() if isinstance(command, click.Group) else ():
        yield from _walk(each, *path, name)


@pytest.mark.parametrize(("path", "command"), list(_walk(main)), ids=str)
def test_every_text_of_help_is_translated(
    path: tuple[str, ...], command: click.Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = Translator("xx", Backwards())
    monkeypatch.setattr(language, "load_translator", {"en": other, "pt_BR": other}.__getitem__)
    done = CliRunner().invoke(main, [*path, "--help"], terminal_width=9000, max_content_width=9000)
    wanted = {"Usage:", "Options:", *(command.help or "?").splitlines()} - {""}
    wanted |= {param.help or "?" for param in command.params if isinstance(param, click.Option)}
    for each in command.commands.values() if isinstance(command, click.Group) else ():
        wanted.add((each.help or "?").splitlines()[0])
    said = {line.strip().rpartition("~")[2].partition(" main")[0] for line in done.output.splitlines()}
    assert {text for text in wanted if text not in said} == set()


@pytest.mark.parametrize("args", [("--lang", "pt", "check", "--help"), ("check", "--help", "--lang=pt")])
def test_help_is_in_the_language_named_before_or_after_it(
    args: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    known = {"en": ENGLISH, "pt_BR": Translator("pt_BR", Backwards())}
    monkeypatch.setattr(language, "load_translator", known.__getitem__)
    assert "~Usage:" in CliRunner().invoke(main, args, env={"LC_ALL": "C"}).output
    assert "~Usage:" in CliRunner().invoke(main, ["check", "--help"], env={"LC_ALL": "pt_BR.UTF-8"}).output
    assert "~" not in CliRunner().invoke(main, ["check", "--help"], env={"LC_ALL": "C"}).output


def test_the_help_names_every_family_of_the_quickstart() -> None:
    family = next(option for option in quickstart.params if option.name == "family")
    assert isinstance(family, click.Option)
    offered = [each.name for each in list_families() if each.quickstart.offered]
    assert re.findall(r"sd\w+", family.help or "") == offered
    assert offered[0] == DEFAULT_FAMILY


@pytest.mark.parametrize(("word", "command"), [("train", "run"), ("validate", "check"), ("continue", "resume")])
def test_what_other_programs_call_a_command(word: str, command: str) -> None:
    code, text = said(word, "r.toml", lang="en_GB")
    assert code == 2
    assert text.rstrip().endswith(f"did you mean {command}?")
    assert command in main.commands


def test_pt_is_brazilian_portuguese() -> None:
    runner = CliRunner()
    short, long = (
        runner.invoke(main, ["--lang", name, "chek"], env={"LC_ALL": "C"}).stderr for name in ("pt", "pt_BR")
    )
    assert short == long
    assert "comando desconhecido" in click.unstyle(short)


def test_a_part_of_a_recipes_name_suggests_each_that_starts_with_it() -> None:
    with pytest.raises(UnknownNameError) as caught:
        read_shipped_recipe("person")
    assert "person-sd15 / person-sdxl" in str(caught.value.hint)
