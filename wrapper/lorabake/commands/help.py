"""--help in the reader's language: every text of a page is a message, looked up when the page is shown."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable
from typing import Any

import click

from lorabake.util.i18n import ENGLISH, LANGUAGES, Translator, find_language, load_translator
from lorabake_schemas.messages import Message, msg

_COMMANDS = msg("Commands")


def current_translator(ctx: click.Context | None = None) -> Translator:
    """The language of the command that runs (``ctx.find_root().obj``)."""
    context = ctx or click.get_current_context(silent=True)
    chosen = context.find_root().obj if context else None
    return load_translator(chosen) if isinstance(chosen, str) else ENGLISH


class TranslatedCommand(click.Command):
    """A command whose help is in the reader's language, wherever --lang is on the command line."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Choose the language first: --help ends the command before click has read what follows it."""
        given = self.make_parser(ctx).parse_args(list(args))[0].get("lang")
        if isinstance(given, str) and (language := find_language(given)):
            ctx.find_root().obj = language
        return super().parse_args(ctx, args)

    def format_usage(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        pieces = " ".join(self.collect_usage_pieces(ctx))
        formatter.write_usage(ctx.command_path, pieces, prefix=current_translator(ctx)(msg("Usage:")) + " ")

    def format_help_text(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        formatter.write_paragraph()
        with formatter.indentation():
            formatter.write_text(translate_help(self.help, ctx))

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        rows: list[tuple[str, str]] = []
        for option in self.get_params(ctx):
            if isinstance(option, click.Option):
                shown = copy.copy(option)
                shown.help = translate_help(option.help, ctx)
                shown.required = False  # click's "[required]" is in no catalogue; the help has it in words
                rows += filter(None, [shown.get_help_record(ctx)])
        with formatter.section(current_translator(ctx)(msg("Options"))):
            formatter.write_dl(rows)

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        if self.epilog:
            formatter.write_paragraph()
            with formatter.indentation():
                formatter.write_text(translate_help(self.epilog, ctx))


def translate_help(text: str | None, ctx: click.Context) -> str:
    """A help text from the catalogue. click keeps an option's as a plain ``str``, so the text itself is the key:
    its braces are the template's doubled ones."""
    plain = inspect.cleandoc(text or "")
    template = plain.replace("{", "{{").replace("}", "}}")
    return plain and current_translator(ctx).catalogue.gettext(template).format()


def _set_color(ctx: click.Context, _: click.Parameter, value: str | None) -> None:
    """For the complete command line, so that errors use it, too."""
    if value is not None:
        here: click.Context | None = ctx
        while here is not None:
            here.color = {"always": True, "never": False}.get(value)
            here = here.parent


COLOR_OPTION = click.option(
    "--color",
    type=click.Choice(["auto", "always", "never"]),
    expose_value=False,
    callback=_set_color,
    help=msg("Use colors on a terminal (auto), always or never. NO_COLOR and FORCE_COLOR work, too."),
)
LANG_OPTION = click.option(
    "--lang",
    type=click.Choice([*LANGUAGES, "pt"]),
    expose_value=False,
    help=msg("Language of messages (default: from the locale). JSON stays English."),
)
HELP_OPTION = click.help_option("-h", "--help", help=msg("Show this help and exit."))


def command(text: Message, name: str | None = None) -> Callable[[Callable[..., None]], TranslatedCommand]:
    """Make a command of a function. ``text`` is its help; its first line is listed in `lorabake --help`."""
    return click.command(name, cls=TranslatedCommand, help=text)


class CommandGroup(TranslatedCommand, click.Group):
    """A group that gives each of its commands the options that count everywhere, and lists them under headings."""

    command_class = TranslatedCommand

    def __init__(self, *args: Any, **extra: Any) -> None:
        super().__init__(*args, **extra)
        self._sections: dict[Message, list[str]] = {}

    def add_command(self, cmd: click.Command, name: str | None = None, *, section: Message = _COMMANDS) -> None:
        common = (HELP_OPTION,) if isinstance(cmd, click.Group) else (COLOR_OPTION, LANG_OPTION, HELP_OPTION)
        for option in common:
            option(cmd)
        super().add_command(cmd, name)
        self._sections.setdefault(section, []).append(name or cmd.name or "")

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        super().format_options(ctx, formatter)
        self.format_commands(ctx, formatter)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The first line of every command's help, in columns of the same width."""
        widest = max(map(len, self.commands), default=0)
        for section, names in self._sections.items():
            sentences = [translate_help(self.commands[name].help, ctx).partition("\n")[0] for name in names]
            with formatter.section(current_translator(ctx)(section)):
                formatter.write_dl([(name.ljust(widest), said) for name, said in zip(names, sentences, strict=True)])
