"""A command that starts sd-scripts, alone or in a script for bash, PowerShell or Windows' cmd."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import NamedTuple, Protocol, cast

from lorabake.errors import RecipeError
from lorabake.exchange.command_line import read_arguments, read_launch_arguments
from lorabake.exchange.convert import show_value
from lorabake.exchange.foreign import ForeignConfig, Given, Source
from lorabake.exchange.sd_toml import find_named_file, parse_content, read_if_found, read_sections, with_dataset_file
from lorabake.exchange.shell.bash import read_bash_commands
from lorabake.exchange.shell.batch import read_batch_commands
from lorabake.exchange.shell.budget import Budget, refuse_size
from lorabake.exchange.shell.powershell import read_powershell_commands
from lorabake.exchange.shell.script import ReadFile, Runner, Value
from lorabake.recipe.foreign import decode_text
from lorabake.util.files import TOML_LIMIT, read_bytes
from lorabake_schemas.families.registry import list_scripts
from lorabake_schemas.import_report import ImportedKey
from lorabake_schemas.messages import msg
from lorabake_schemas.secrets import hide_all_secrets

_SCRIPT = re.compile(r"[\w.-]{1,100}\.py")
_NO_TYPOGRAPHY = {0xA0: " ", 0x200B: None, 0xFEFF: None}
_QUOTED = re.compile(
    r"(?<=[\s=])[\u201c\u201d\u2018\u2019]([^\u201c-\u201d\u2018\u2019\"'\n]*)[\u201c\u201d\u2018\u2019](?=\s|$)"
)
_DASHES = re.compile(r"(?<=\s)[\u2013\u2014]{1,2}(?=[a-z]+[a-z_0-9]*[=\s])")
_FENCE = re.compile(r"^[ \t]*(?:```|~~~)[^\n]*$", re.MULTILINE)
_WINDOWS_PATH = re.compile(r"\.py\b[^\n]*[ =][A-Za-z]:\\(?!\s)")
# What starts a Python script, and what only writes its name.
_STARTING = re.compile(
    r"(?:^|[\\/.])(?:python[\d.]*w?|py|accelerate|launch|torchrun|deepspeed|srun|ipython)(?:\.exe)?$|[$%!{]",
    re.IGNORECASE,
)
_PRINTING = ("echo", "printf", "print", "write-host", "write-output", "cat", "ls", "grep")
_MAX_NESTED, _MAX_LISTED = 2, 8
_REDIRECTION = re.compile(r"\d?>{1,2}(&\d)?.*|<.*")
_UNSET = re.compile(
    r"\$\{?[!#]?(?:env:)?(\w+|[@*])|%(\w+)(?::[^%]*)?%|!(\w+)(?::[^!]*)?!|^\{(\w+)\}$|%%?([0-9*]|[A-Za-z]\b|~\w+)|[$<]\(|`",
    re.IGNORECASE,
)
_NOT_COMPUTED = msg("only a shell can tell what this becomes")


class ReadText(Protocol):
    def __call__(
        self, text: str, variables: Mapping[str, Value], read_file: ReadFile, budget: Budget, /, *, expects: bool
    ) -> Runner: ...


_PROGRAM = msg("sd-scripts' command line")


class Launch(NamedTuple):
    """A training command: where it starts, accelerate's words, the script, the script's words, and the files that are
    written before it."""

    line: int
    launcher: tuple[str, ...]
    script: str
    words: tuple[str, ...]
    written: Mapping[str, str] = MappingProxyType({})


def read_shell(source: Source) -> ForeignConfig:
    """The one training command in a text.

    Raises RecipeError if there is none or several, or if it starts another script than sd-scripts' for LoRAs.
    """
    script, launches = read_launches(source)
    launch = _choose(launches, source, _read_text(source), script.unclosed)
    source = replace(source, written=launch.written)
    found = read_arguments(launch.words)
    config = ForeignConfig(
        format="shell",
        program=_PROGRAM,
        script=launch.script,
        options=found.options,
        launch=read_launch_arguments(launch.launcher),
        keys=found.keys,
        missing=(*_find_unset(found.options, found.keys), *_report_doubts(script.doubts)),
        name=source.path.stem,
    )
    return with_dataset_file(_with_config_file(config, source), source)


def read_launches(source: Source) -> tuple[Runner, list[Launch]]:
    """The script as it was followed, and all its training commands."""
    text = _read_text(source)
    read = _find_dialect(text, source.path.suffix.lower())
    environment: dict[str, Value] = {"HOME": source.home} if source.home else {}
    for expects in (True, False):  # where a doubt is in the way of any training, it is taken the other way
        script = _follow(read, text, environment, lambda name: _read_script(name, source), Budget(), expects=expects)
        launches = list(_list_launches(script, read, _MAX_NESTED))
        if launches or not script.doubts:
            break
    return script, launches


def _read_script(name: str, source: Source) -> str | None:
    """A file that a script names."""
    path = find_named_file(name, source)
    try:
        return None if path is None else decode_text(read_bytes(path, TOML_LIMIT, within=source.path.parent))
    except (OSError, ValueError):
        return None


def _read_text(source: Source) -> str:
    """Without the typographic signs of a web page where options are, and of a document only its code."""
    text = decode_text(source.content).translate(_NO_TYPOGRAPHY)
    text = _DASHES.sub("--", text)
    text = "\n".join(_QUOTED.sub(r'"\1"', line) if " --" in line else line for line in text.split("\n"))
    if source.path.suffix.lower() in {".md", ".txt", ""} and len(parts := _FENCE.split(text)) > 2:
        return "".join(part if number % 2 else "\n" * part.count("\n") for number, part in enumerate(parts))
    return text


def _find_dialect(text: str, suffix: str) -> ReadText:
    """By the file's extension, else by how lines are continued and by Windows' paths."""
    named: dict[str, ReadText] = {
        ".sh": read_bash_commands,
        ".bash": read_bash_commands,
        ".ps1": read_powershell_commands,
    }
    named |= {".bat": read_batch_commands, ".cmd": read_batch_commands}
    if suffix in named:
        return named[suffix]
    if re.search(r"\^[ \t]*\r?\n", text) or _WINDOWS_PATH.search(text):
        return read_batch_commands
    return (
        read_powershell_commands
        if re.search(r"`[ \t]*\r?\n|^[ \t]*\$\w+[ \t]*=", text, re.MULTILINE)
        else read_bash_commands
    )


def _follow(
    read: ReadText, text: str, variables: Mapping[str, Value], read_file: ReadFile, budget: Budget, *, expects: bool
) -> Runner:
    """Raises RecipeError where too much is in one another, in a text or when its functions call one another."""
    try:
        return read(text, variables, read_file, budget, expects=expects)
    except RecursionError:
        refuse_size()


def _follow_inside(script: Runner, read: ReadText, text: str) -> Runner:
    return _follow(read, text, script.variables, script.read_file, script.budget, expects=script.expects)


def _list_launches(script: Runner, read: ReadText, depth: int) -> Iterator[Launch]:
    """Of the commands, and of those that are an argument of another one, as of ``bash -c``."""
    for line, words, written in script.commands:
        if not words or words[0].lower() in _PRINTING:
            continue
        if launch := find_launch(line, words):
            yield launch._replace(written=written)
            continue
        for word in words if depth else ():
            if " " in word.strip() and _SCRIPT.search(word):
                inner = _list_launches(_follow_inside(script, read, word), read, depth - 1)
                yield from (each._replace(line=line, written={**written, **each.written}) for each in inner)


def find_launch(line: int, words: Sequence[str]) -> Launch | None:
    """A command as one that trains; None for any other."""
    at = next((at for at, word in enumerate(words) if _is_script(word)), None)
    if at is None or not (at == 0 or any(_STARTING.search(word) for word in words[:at])):
        return None
    start = next((number + 1 for number, word in enumerate(words[:at]) if word.rpartition(".")[2] == "launch"), at)
    script, rest = re.split(r"[\\/]", words[at])[-1], list(words[at + 1 :])
    end = next((number for number, word in enumerate(rest) if _REDIRECTION.fullmatch(word)), len(rest))
    return Launch(line, tuple(words[start:at]), script, tuple(rest[:end]))


def _is_script(word: str) -> bool:
    name = re.split(r"[\\/]", word)[-1]
    return _SCRIPT.fullmatch(name) is not None and ("train" in name or name == "fine_tune.py")


def _choose(launches: Sequence[Launch], source: Source, text: str, unclosed: int | None) -> Launch:
    ours = [launch for launch in launches if launch.script in list_scripts()]
    number = (1 if len(ours) == 1 else 0) if source.command is None else source.command
    if 0 < number <= len(ours):
        return ours[number - 1]
    if ours:
        common = set(ours[0].words).intersection(*(launch.words for launch in ours))
        shown = "; ".join(_show_launch(number, launch, common) for number, launch in enumerate(ours[:_MAX_LISTED], 1))
        said = msg("{path} has several training commands: {commands}", path=source.path, commands=shown)
        raise RecipeError(said, hint=msg("choose one of the {count}: --command NUMBER", count=len(ours)))
    if launches:
        names = ", ".join(dict.fromkeys(launch.script for launch in launches))
        said = msg(
            "{path} starts {script}, which trains no LoRA for SD1.5, SD2 or SDXL", path=source.path, script=names
        )
        raise RecipeError(said, hint=msg("lorabake reads commands with {scripts}", scripts=" / ".join(list_scripts())))
    for number, line in enumerate(text.splitlines(), 1):
        named = next((script for script in list_scripts() if script in line), None)
        if named is not None and not line.lstrip().startswith(("#", "::", "rem ", "REM ")):
            said = msg(
                "{path} runs no training command, though line {line} names {script}",
                path=source.path, line=number, script=named,
            )  # fmt: skip
            why = msg("check the conditions above it, and that each block and quote is closed")
            if unclosed is not None:
                why = msg("line {line} starts a block or a text that has no end: close it", line=unclosed)
            raise RecipeError(said, hint=why)
    raise RecipeError(
        msg("{path} has no command with a training script of sd-scripts", path=source.path),
        hint=msg("lorabake reads commands with {scripts}", scripts=" / ".join(list_scripts())),
    )


def _show_launch(number: int, launch: Launch, common: Collection[str]) -> str:
    """Its number, its line, and what the others do not have."""
    shown = cast("Sequence[str]", hide_all_secrets(launch.words))
    words = zip(("", *launch.words), launch.words, shown, strict=False)
    parts = (f"{before} {own}" if before.startswith("--") else own for before, word, own in words if word not in common)
    own = " ".join(parts)
    return f"{number} ({show_value(f'line {launch.line}: {own}' if own else f'line {launch.line}')})"


def _report_doubts(doubts: Mapping[str, Sequence[str]]) -> Iterator[ImportedKey]:
    """Conditions that only a shell can answer, and what depends on each."""
    for condition, names in doubts.items():
        why = msg(
            "only a shell knows whether and how often this is run; check what depends on it: {names}",
            names=", ".join(names),
        )
        yield ImportedKey(key=show_value(condition), fate="unknown", why=why)


def shows_unset(text: str) -> bool:
    """Whether something stayed in a value that the file does not set."""
    return _UNSET.search(text) is not None


def _find_unset(options: Mapping[str, Given], keys: Sequence[ImportedKey]) -> list[ImportedKey]:
    """Values, and those that were no value, in which something stayed that the file does not set."""
    found = list[ImportedKey]()
    texts = [(given.keys[0], text) for given in options.values() for text in _list_texts(given.value)]
    for key, text in [*texts, *((line.key, line.value or "") for line in keys)]:
        if unset := _UNSET.search(text):
            name = next((group for group in unset.groups() if group), None)
            why = msg("the variable {name} has no value in the file", name=name) if name else _NOT_COMPUTED
            found.append(ImportedKey(key=key, value=text, fate="unknown", why=why))
    return found


def _list_texts(value: object) -> list[str]:
    items = cast("Sequence[object]", value) if isinstance(value, tuple) else [value]
    return [item for item in items if isinstance(item, str)]


def _with_config_file(config: ForeignConfig, source: Source) -> ForeignConfig:
    """With the options of --config_file, over which those of the command line go (TU:4764)."""
    named = config.options.get("config_file")
    if named is None or not isinstance(named.value, str):
        return config
    file = read_if_found(named.value if named.value.endswith(".toml") else f"{named.value}.toml", source)
    if file is None:
        why = msg("not found next to this file or below it: its options are missing here")
        line = ImportedKey(key="--config_file", value=named.value, fate="dropped", why=why)
        return replace(config, keys=(*config.keys, line), missing=(*config.missing, line), complete=False)
    options, keys = read_sections(parse_content(file))
    return replace(config, options={**options, **config.options}, keys=(*config.keys, *keys))
