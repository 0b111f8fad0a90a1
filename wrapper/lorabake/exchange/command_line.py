"""sd-scripts' command line: argparse's rules over the options of the pin."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator, Sequence
from functools import cache
from typing import NamedTuple, NoReturn, cast

from lorabake.errors import RecipeError
from lorabake.exchange.foreign import Given
from lorabake.exchange.sd_toml import read_option
from lorabake.util import resources
from lorabake_schemas.import_report import ImportedKey
from lorabake_schemas.messages import msg
from lorabake_schemas.options import Option


class ReadArguments(NamedTuple):
    """Options by their name, and a line for each argument that became none."""

    options: dict[str, Given]
    keys: tuple[ImportedKey, ...]


class _Parser(argparse.ArgumentParser):
    """One that neither prints nor ends the program."""

    def error(self, message: str) -> NoReturn:
        said = msg("not a command line that sd-scripts accepts: {why}", why=message)
        raise RecipeError(said)


@cache
def _make_parser() -> tuple[_Parser, dict[str, Option]]:
    known = {option.name: option for option in resources.load_snapshot().merge_scripts()}
    parser = _Parser(prog="sd-scripts", add_help=False, argument_default=argparse.SUPPRESS)
    for name, option in known.items():
        if option.nargs == 0:
            parser.add_argument(f"--{name}", action="store_true")
        else:
            parser.add_argument(f"--{name}", nargs="*" if option.nargs == "*" else None)
    return parser, known


def read_arguments(tokens: Sequence[str]) -> ReadArguments:
    """What follows the script: long options, abbreviations as argparse takes them, ``--name=value`` and lists.

    Raises RecipeError where sd-scripts' parser would stop for a reason other than an unknown option.
    """
    parser, known = _make_parser()
    found, rest = parser.parse_known_args([token for token in tokens if token != ""])
    options, keys = dict[str, Given](), list[ImportedKey]()
    for name, written in vars(found).items():
        value = [_unquote(item) for item in cast("list[str]", written)] if isinstance(written, list) else written
        given = read_option(known[name], value, f"--{name}", from_text=True)
        if isinstance(given, Given):
            options[name] = given
        else:
            keys.append(given)
    for name, value in _pair_unknown(rest):
        key = name.lstrip("-").replace("-", "_")
        options.setdefault(key or name, Given(value=value or True, keys=(name,)))
    return ReadArguments(options, tuple(keys))


def _unquote(argument: str) -> str:
    """ "key=value" in quotes that no shell removed, as scripts for Windows escape them."""
    found = re.fullmatch(r"""(["'])([^"']*)\1""", argument)
    return found[2] if found else argument


def _pair_unknown(tokens: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Unknown options, each with what follows it."""
    name, values = "", list[str]()
    for token in tokens:
        if re.match(r"--?[A-Za-z_]", token):
            if name or values:
                yield name or values[0], " ".join(values)
            name, _, value = token.partition("=")
            values = [value] if value else []
        else:
            values.append(token)
    if name or values:
        yield name or values[0], " ".join(values)


def read_launch_arguments(tokens: Sequence[str]) -> dict[str, Given]:
    """accelerate's own options: everything between ``launch`` and the script."""
    found = dict[str, Given]()
    for name, value in _pair_unknown(tokens):
        key = name.lstrip("-").replace("-", "_")
        number = int(value) if key in _NUMBERS and value.isdecimal() else value
        found[key] = Given(value=number if value else True, keys=(name,))
    return found


_NUMBERS = ("num_processes", "num_cpu_threads_per_process", "main_process_port", "num_machines", "machine_rank")
