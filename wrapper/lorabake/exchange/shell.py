"""A command that starts sd-scripts, alone or in a script for bash, PowerShell or Windows' cmd."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

from lorabake.errors import RecipeError
from lorabake.exchange.bash import read_bash_commands
from lorabake.exchange.batch import read_batch_commands
from lorabake.exchange.command_line import read_arguments, read_launch_arguments
from lorabake.exchange.foreign import ForeignConfig, Given, Source
from lorabake.exchange.powershell import read_powershell_commands
from lorabake.exchange.sd_toml import flatten_sections, parse_content, read_option_table, with_dataset_file
from lorabake.recipe.foreign import decode_text
from lorabake.util.files import TOML_LIMIT, is_file, read_bytes
from lorabake_schemas.families.registry import list_scripts
from lorabake_schemas.import_report import ImportedKey
from lorabake_schemas.messages import msg

Command = tuple[int, list[str]]  # the line that it starts in, and its words
_SCRIPT = re.compile(r"([\w.-]*train[\w.-]*|fine_tune)\.py")
_REDIRECTION = re.compile(r"\d?>{1,2}(&\d)?.*|<.*")
_UNSET = re.compile(r"\$\{?(\w+)\}?|%(\w+)%")
_PROGRAM = msg("sd-scripts' command line")


class Launch(NamedTuple):
    """A training command: where it starts, accelerate's words, the script, and the script's words."""

    line: int
    launcher: tuple[str, ...]
    script: str
    words: tuple[str, ...]


def read_shell(source: Source) -> ForeignConfig:
    """The one training command in a text.

    Raises RecipeError if there is none or several, or if it starts another script than sd-scripts' for LoRAs.
    """
    text = decode_text(source.content)
    read = _find_dialect(text, source.path.suffix.lower())
    environment = {"HOME": source.home} if source.home else {}
    launches = [launch for line, words in read(text, environment) if (launch := find_launch(line, words))]
    launch = _choose(launches, source)
    found = read_arguments(launch.words)
    config = ForeignConfig(
        format="shell",
        program=_PROGRAM,
        script=launch.script,
        options=found.options,
        launch=read_launch_arguments(launch.launcher),
        keys=found.keys,
        missing=tuple(_find_unset(found.options)),
        name=source.path.stem,
    )
    return with_dataset_file(_with_config_file(config, source), source)


def _find_dialect(text: str, suffix: str) -> Callable[[str, Mapping[str, str]], list[Command]]:
    """By the file's extension, else by how lines are continued."""
    named = {".sh": read_bash_commands, ".bash": read_bash_commands, ".ps1": read_powershell_commands}
    named |= {".bat": read_batch_commands, ".cmd": read_batch_commands}
    if suffix in named:
        return named[suffix]
    if re.search(r"\^[ \t]*\r?\n", text):
        return read_batch_commands
    return (
        read_powershell_commands if re.search(r"`[ \t]*\r?\n|^\s*\$\w+\s*=", text, re.MULTILINE) else read_bash_commands
    )


def find_launch(line: int, words: Sequence[str]) -> Launch | None:
    """A command as one that trains; None for any other."""
    at = next((at for at, word in enumerate(words) if _SCRIPT.fullmatch(re.split(r"[\\/]", word)[-1])), None)
    if at is None:
        return None
    start = next((number + 1 for number, word in enumerate(words[:at]) if word.rpartition(".")[2] == "launch"), at)
    script, rest = re.split(r"[\\/]", words[at])[-1], list(words[at + 1 :])
    end = next((number for number, word in enumerate(rest) if _REDIRECTION.fullmatch(word)), len(rest))
    return Launch(line, tuple(words[start:at]), script, tuple(rest[:end]))


def _choose(launches: Sequence[Launch], source: Source) -> Launch:
    ours = [launch for launch in launches if launch.script in list_scripts()]
    if len(ours) == 1:
        return ours[0]
    if ours:
        lines = ", ".join(str(launch.line) for launch in ours)
        said = msg("{path} has several training commands, in lines {lines}", path=source.path, lines=lines)
        raise RecipeError(said, hint=msg("put one of them into a file, and import that"))
    if launches:
        names = ", ".join(dict.fromkeys(launch.script for launch in launches))
        said = msg(
            "{path} starts {script}, which trains no LoRA for SD1.5, SD2 or SDXL", path=source.path, script=names
        )
        raise RecipeError(said, hint=msg("lorabake reads commands with {scripts}", scripts=" / ".join(list_scripts())))
    raise RecipeError(
        msg("{path} has no command with a training script of sd-scripts", path=source.path),
        hint=msg("lorabake reads commands with {scripts}", scripts=" / ".join(list_scripts())),
    )


def _find_unset(options: Mapping[str, Given]) -> list[ImportedKey]:
    """Values in which a variable stayed that the file does not set."""
    found = list[ImportedKey]()
    for given in options.values():
        value = given.value if isinstance(given.value, str) else ""
        if unset := _UNSET.search(value):
            why = msg("the variable {name} has no value in the file", name=unset[1] or unset[2])
            found.append(ImportedKey(key=given.keys[0], value=value, fate="unknown", why=why))
    return found


def _with_config_file(config: ForeignConfig, source: Source) -> ForeignConfig:
    """With the options of --config_file, over which those of the command line go (TU:4764)."""
    named = config.options.get("config_file")
    if named is None or not isinstance(named.value, str):
        return config
    name = named.value if named.value.endswith(".toml") else f"{named.value}.toml"
    path = source.path.parent / name
    path = path if is_file(path) else source.path.parent / re.split(r"[\\/]", name)[-1]
    if not is_file(path):
        why = msg("not found: its options are missing here")
        line = ImportedKey(key="--config_file", value=named.value, fate="dropped", why=why)
        return replace(config, keys=(*config.keys, line), missing=(*config.missing, line))
    options, keys = read_option_table(dict(flatten_sections(parse_content(read_bytes(path, TOML_LIMIT), path))))
    return replace(config, options={**options, **config.options}, keys=(*config.keys, *keys))
