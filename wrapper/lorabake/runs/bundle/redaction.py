"""Replaces what is private in texts of a run: paths, names, trigger words, captions, keys.

What a run's record names is known, and is replaced wherever it stands; what else looks like a path, a file of a dataset
or a key is replaced by its form. Equal texts get equal placeholders.
"""

from __future__ import annotations

import os
import re
from bisect import insort
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING, Literal, cast

from lorabake.runs.bundle.secret_patterns import (
    ADDRESS,
    ADDRESS_V6,
    DIGEST,
    EMAIL,
    HARDWARE_ADDRESS,
    HEX,
    HOSTS,
    KEY_WORDS,
    KEYS,
    MIN_WEAK,
    NAMED_KEYS,
    NO_KEYS,
    USERS,
    WEAK_KEYS,
    find_named,
    is_private_v6,
    is_public_host,
)  # fmt: skip
from lorabake.runs.watch.stall_signs import iter_proxies
from lorabake_schemas.messages import ANSI_CODES
from lorabake_schemas.saved_names import STATE_SUFFIX

if TYPE_CHECKING:
    from lorabake_schemas.record import Input, Record

Kind = Literal["path", "file", "name", "word", "text", "key", "user", "host"]
MIN_WORD = 3  # characters of a name of a folder that is replaced wherever it stands
MAX_LINE = 4096  # characters; the rest of a longer line is cut
MAX_CUT_WORD = 256  # characters before a cut that are dropped, since a name without its end is not recognized
# Names of folders that say nothing about anybody.
_COMMON_FOLDERS_TEXT = """
home root usr mnt media data tmp var work workspace runs images image img dataset datasets train training models
model checkpoints checkpoint lora loras opt srv users cache .cache lorabake trainers venv bin lib lib64 python
python3 output outputs logs log tokenizers tokenizer base reg regularization class concept concepts share local
etc projects project parts sd-scripts site-packages content kaggle input working drive mydrive notebooks
"""
COMMON_FOLDERS = frozenset(_COMMON_FOLDERS_TEXT.split())
_COMMON_HOSTS_TEXT = "gpu cuda cpu node host server main master worker torch linux ubuntu windows"
COMMON_HOSTS = frozenset(_COMMON_HOSTS_TEXT.split())
# Files that a run folder has of itself, and those of sd-scripts' own models: their names tell nothing.
_OWN_FILES_TEXT = """
recipe.toml train.toml dataset.toml prompts.txt command.json record.json inputs.json plan.json trainer.log
supervisor.log events.jsonl accelerate.yaml config.json model_index.json tokenizer_config.json vocab.json
merges.txt special_tokens_map.json tokenizer.json scheduler_config.json preprocessor_config.json
train_state.json model.safetensors diffusion_pytorch_model.safetensors diffusion_pytorch_model.bin
diffusion_pytorch_model.fp16.safetensors pytorch_model.bin requirements.txt
"""
OWN_FILES = frozenset(_OWN_FILES_TEXT.split())
_EXTENSIONS_TEXT = """
png jpe?g webp bmp gif avif jxl tiff? txt caption cap npz jsonl? toml safetensors ckpt pth? bin csv md log ya?ml
"""
DATA_EXTENSIONS = "|".join(_EXTENSIONS_TEXT.split())
# sd-scripts' own lines that show what a user wrote.
TOLD_VALUES = re.compile(
    r"^(?P<head>[\d\s:-]*(?:INFO\s*)?(?:prompt|negative_prompt|class_tokens|caption_prefix|caption_suffix|image_dir"
    r"|conditioning_data_dir|metadata_file|keep_tokens_separator|caption|trigger[ _]phrase)\s*:\s)(?P<value>.*)$"
)
NEW_RECORD = re.compile(r"^\S|^\s{1,20}\S|^\s*(?:INFO|WARNING|ERROR|CRITICAL)\s|^\s*\w+:")
URL = re.compile(r"(?<=:)//(?:<key>@)?[^\s\"'<>|;,()\[\]{}]+")
POSIX_PATH = re.compile(r"(?<![\w<>./~-])~?/[^\s\"'<>|:;,()\[\]{}]+")
WINDOWS_PATH = re.compile(r"(?<![A-Za-z])[A-Za-z]:\\+[^\s\"'<>|;,()\[\]{}]*|(?<!\\)\\\\\\*[\w.-]+\\[^\s\"'<>|;,]*")
RELATIVE_PATH = re.compile(r"(?<![\w<>./~-])(?:\.\./)+(?!aten/|torch/|\.\./)[^\s\"'<>|:;,()\[\]{}]+")
QUOTED_PATH = re.compile(r"(?P<quote>[\"'])(?P<path>(?:~?/|[A-Za-z]:\\)[^\"'\n<>|]*)(?P=quote)")
# What follows the place of something private is as private; below a run folder and a trainer it helps.
BELOW_PRIVATE = re.compile(
    r"(?P<root><(?!run>|trainer>|python>|file-|key>|text>|word>|path-)[a-z_-]+(?:-\d+)?>)[/\\]+"
    r"(?P<rest>[^\s\"'|:;,()\[\]{}]*)"
)
SYSTEM_PATH = re.compile(r"^/(?:usr|lib|lib64|bin|sbin|proc|sys|dev|etc)(?:/|$)")
_IN_NAME = r"[^\s\"'<>|/\\:;,()\[\]{}=]"
FILE_NAME = re.compile(rf"(?<!{_IN_NAME}){_IN_NAME}+\.(?:{DATA_EXTENSIONS})\b", re.IGNORECASE)
PACKAGE_PATH = re.compile(r"(?<![^\s\"'])[^\s\"']*/(?=(?:site-packages|sd-scripts)/)")
KNOWN_START = re.compile(r"(?<![A-Za-z0-9<])(?=(...))", re.DOTALL)  # the first MIN_WORD characters
KNOWN_END = re.compile(r"(?![A-Za-z0-9>])")
COLORS = re.compile(rf"{ANSI_CODES}|\\(?:x1b|u001b|033)\[[0-9;]*m")  # also those that are spelled out


@dataclass(slots=True)
class Redactor:
    """Replaces; ``counts`` are how often each kind was."""

    known: dict[str, str] = field(default_factory=dict[str, str])  # by the text in lower case
    _lengths: dict[str, list[int]] = field(default_factory=dict[str, list[int]])  # by the first MIN_WORD characters
    kept: set[str] = field(default_factory=set[str])  # commits, which look like keys
    counts: Counter[Kind] = field(default_factory=Counter[Kind])
    _numbers: dict[Kind, dict[str, int]] = field(default_factory=dict["Kind", dict[str, int]])

    def learn(self, text: str | None, placeholder: str) -> None:
        """A text that is private wherever it stands; the first placeholder for it stays."""
        text = (text or "").strip().rstrip("/\\")
        if len(text) < MIN_WORD or text.lower() in self.known or text.lower() in COMMON_FOLDERS:
            return
        for form in {text, text.replace("\\", "\\\\"), text.replace("\\", "/")}:
            self.known.setdefault(form.lower(), placeholder)
            lengths = self._lengths.setdefault(form[:MIN_WORD].lower(), [])
            if len(form) not in lengths:
                insort(lengths, len(form), key=lambda length: -length)

    def learn_host(self, name: str | None) -> None:
        """The name or address of a machine; of a full name also its first part."""
        name = (name or "").strip(" .[]")
        if is_public_host(name) or name.lower() in COMMON_HOSTS:
            return
        self.learn(name, "<host>")
        first, _, rest = name.partition(".")
        if rest and not ADDRESS.fullmatch(name) and first.lower() not in COMMON_HOSTS:
            self.learn(first, "<host>")

    def learn_log(self, text: str) -> None:
        """The accounts and machines that a log names."""
        text = COLORS.sub("", text)
        for name in find_named(USERS, text):
            self.learn(name, "<user>")
        for name in find_named(HOSTS, text):
            self.learn_host(name)

    def learn_folders(self, path: str, placeholder: str = "<folder>") -> None:
        """The names of the folders of a path."""
        for part in re.split(r"[/\\]", path):
            if len(part) > MIN_WORD and not part.endswith(":"):
                self.learn(part, placeholder)

    def replace(self, text: str) -> str:
        """The text without anything private, and without colors. Lines are taken one by one; long ones are cut."""
        return "\n".join(self._replace_lines(COLORS.sub("", text).split("\n")))

    def _replace_lines(self, lines: Iterable[str]) -> Iterable[str]:
        continued = False
        for line in lines:
            if continued and not NEW_RECORD.match(line) and line.strip():
                yield self.count("text", "<text>")
                continue
            pieces = line.split("\r")
            told = [TOLD_VALUES.search(piece) for piece in pieces]
            continued = told[-1] is not None
            yield "\r".join(
                self._replace_line(piece) if found is None else self._replace_told(piece, found)
                for piece, found in zip(pieces, told, strict=True)
            )

    def _replace_told(self, line: str, found: re.Match[str]) -> str:
        value = found["value"].strip()
        kept = value in {"", "None", "True", "False"}
        shown = value if kept else self.count("text", "<text>")
        return self._replace_line(line[: found.start("value")]) + shown

    def _replace_line(self, text: str) -> str:
        # what may cross the place of the cut comes first
        text = _cut_line(self._replace_known(self._replace_keys(text)))
        text = self._replace_named(text)
        text = PACKAGE_PATH.sub(lambda _: self.count("path", "<python>/"), text)
        text = BELOW_PRIVATE.sub(self._replace_below, text)
        text = URL.sub(lambda found: self._number("path", found[0]), text)
        text = QUOTED_PATH.sub(lambda found: f"{found[1]}{self._replace_path(found['path'])}{found[1]}", text)
        text = RELATIVE_PATH.sub(lambda found: self._replace_path(found[0]), text)
        text = WINDOWS_PATH.sub(lambda found: self._number("path", found[0]), text)
        text = POSIX_PATH.sub(lambda found: self._replace_path(found[0]), text)
        text = FILE_NAME.sub(self._replace_file, text)
        text = EMAIL.sub(lambda _: self.count("name", "<address>"), text)
        text = HARDWARE_ADDRESS.sub(lambda _: self.count("host", "<host>"), text)
        text = ADDRESS_V6.sub(self._replace_v6, text)
        return ADDRESS.sub(lambda _: self.count("host", "<host>"), text)

    def _replace_keys(self, text: str) -> str:
        for pattern in KEYS:
            text = pattern.sub(lambda _: self.count("key", "<key>"), text)
        lowered = text.lower()
        if any(word in lowered for word in KEY_WORDS):
            for pattern in NAMED_KEYS:
                text = pattern.sub(self._replace_key, text)
            text = WEAK_KEYS.sub(self._replace_weak_key, text)
        text = OPTION.sub(self._replace_option, text)
        return HEX.sub(lambda found: found[0] if found[0] in self.kept else self.count("key", "<key>"), text)

    def _replace_key(self, found: re.Match[str]) -> str:
        group = "plain" if found["plain"] is not None else "quoted"
        value = found[group]
        if value.strip() in NO_KEYS:
            return found[0]
        return self.count("key", found[0][: found.start(group) - found.start()] + "<key>")

    def _replace_weak_key(self, found: re.Match[str]) -> str:
        value = found["plain"] or found["quoted"] or ""
        return found[0] if len(value) < MIN_WEAK or value.isdecimal() else self._replace_key(found)

    def _replace_option(self, found: re.Match[str]) -> str:
        group = "plain" if found["plain"] is not None else "quoted"
        shown = self.hide_value(found["option"], found[group])
        return found[0][: found.start(group) - found.start()] + shown

    def hide_value(self, key: str, value: str) -> str:
        """What is shown of a value that is private by its key."""
        if key in HOST_KEYS:
            return value if not value or is_public_host(value) else self.count("host", "<host>")
        return value if value in NO_KEYS else self.count("text", "<text>")

    def _replace_named(self, text: str) -> str:
        for pattern in USERS:
            text = pattern.sub(partial(self._replace_groups, "user"), text)
        for pattern in HOSTS:
            text = pattern.sub(partial(self._replace_groups, "host"), text)
        return text

    def _replace_groups(self, kind: Literal["user", "host"], found: re.Match[str]) -> str:
        text, start = found[0], found.start()
        for group in range(len(found.groups()), 0, -1):
            if found[group] and not is_public_host(found[group]):
                placeholder = self.count(kind, f"<{kind}>")
                text = text[: found.start(group) - start] + placeholder + text[found.end(group) - start :]
        return text

    def _replace_v6(self, found: re.Match[str]) -> str:
        if is_private_v6(found[0].partition("%")[0]):
            return self.count("host", "<host>")
        if is_private_v6(found["address"]):
            return (found["word"] or "") + self.count("host", "<host>")
        return found[0]

    def _replace_known(self, text: str) -> str:
        """The longest known text at each place that begins a word, by its first characters."""
        pieces: list[str] = []
        end = 0
        for found in KNOWN_START.finditer(text):
            start = found.start()
            for length in self._lengths.get(found[1].lower(), ()) if start >= end else ():
                placeholder = self.known.get(text[start : start + length].lower())
                if placeholder is not None and KNOWN_END.match(text, start + length):
                    pieces += [text[end:start], self.count("name", placeholder)]
                    end = start + length
                    break
        return "".join([*pieces, text[end:]])

    def _replace_path(self, path: str) -> str:
        """A path by its number, with the extension of a file."""
        if SYSTEM_PATH.match(path) or path in {"/", "~/"}:
            return path
        stem, extension = os.path.splitext(path)  # noqa: PTH122 - a path of another system
        known = FILE_NAME.fullmatch(f"x{extension}") is not None
        return self._number("path", stem if known else path) + (extension if known else "")

    def _replace_below(self, found: re.Match[str]) -> str:
        folders, _, file = found["rest"].rpartition("/")
        private = bool(folders) and "<" not in folders
        between = self._number("path", folders) if private else folders
        return "/".join([found["root"], *([between] if between else []), file])

    def _replace_file(self, found: re.Match[str]) -> str:
        name = found[0]
        stem, _, extension = name.rpartition(".")
        if name.lower() in OWN_FILES or stem.startswith(("<", "python3")) or ">" in stem:
            return name
        return f"{self.number_file(stem)}.{extension}"

    def number_file(self, stem: str) -> str:
        """The placeholder of a file by its name without the extension: an image and its caption have one number."""
        return self._number("file", stem.lower())

    def _number(self, kind: Literal["path", "file"], text: str) -> str:
        numbers = self._numbers.setdefault(kind, {})
        return self.count(kind, f"<{kind}-{numbers.setdefault(text, len(numbers) + 1)}>")

    def count(self, kind: Kind, text: str) -> str:
        self.counts[kind] += 1
        return text


def _cut_line(text: str) -> str:
    """A line that is not too long; the last word before the cut goes, too."""
    if len(text) <= MAX_LINE:
        return text
    shown = text[:MAX_LINE]
    shown = shown[: max(shown.rfind(" ") + 1, MAX_LINE - MAX_CUT_WORD)]
    return f"{shown}[... {len(text) - len(shown)} characters left out ...]"


def make_redactor(
    record: Record, inputs: Iterable[Input], root: str, env: Mapping[str, str], settings: Mapping[str, object]
) -> Redactor:
    """A redactor that knows what this run names. ``root`` is the run folder, ``settings`` are those of sd-scripts."""
    kept = (record.trainer.commit, record.trainer.lock_sha256, record.trainer.tree, record.digest)
    found = Redactor(kept={text for text in kept if text})
    for path, placeholder in _list_places(record, root, env):
        found.learn(path, placeholder)
    for each in inputs:
        _learn_input(found, each, root)
    for user in (env.get("USER"), env.get("LOGNAME"), env.get("USERNAME"), *_users_in([record.cwd, root])):
        found.learn(user, "<user>")
    for host in (env.get("HOSTNAME"), _host_name(), *_hosts_of(record, env)):
        found.learn_host(host)
    found.learn(record.name, "<name>")
    found.learn(_text(settings.get("output_name")), "<name>")
    for path in (record.cwd, root, os.path.dirname(record.recipe_place)):  # noqa: PTH120
        found.learn_folders(path)
    return found


def _list_places(record: Record, root: str, env: Mapping[str, str]) -> Iterable[tuple[str, str]]:
    """Folders, the innermost first."""
    yield from ((path, "<run>") for path in (root, record.cwd))
    yield from ((os.path.dirname(path), "<runs>") for path in (root, record.cwd))  # noqa: PTH120 - of another system
    recipe = os.path.normpath(os.path.join(record.cwd, record.recipe_place))  # noqa: PTH118
    yield recipe, "<recipe>"
    yield os.path.dirname(recipe), "<recipe-folder>"  # noqa: PTH120
    if record.trainer.checkout:
        yield record.trainer.checkout, "<trainer>/sd-scripts"
    yield record.trainer.python, "<python>"
    for name in ("HOME", "USERPROFILE"):
        if env.get(name):
            yield env[name], "<home>"


def _learn_input(found: Redactor, each: Input, root: str) -> None:
    label = f"<{each.role.replace('_', '-')}-{each.index + 1}>"
    for path in (each.place, each.name, os.path.normpath(os.path.join(root, each.place))):  # noqa: PTH118
        found.learn(path, label)
    for path in (each.place, each.name):
        last = re.split(r"[/\\]", path.rstrip("/\\"))[-1]
        found.learn(last, label)
        found.learn(last.rpartition(".")[0], label)
        found.learn_folders(path)
    for file in each.files:
        if any(sign in file.name for sign in " ()[]{},;=':"):  # what FILE_NAME does not take as one
            stem, _, extension = file.name.rpartition("/")[2].rpartition(".")
            found.learn(f"{stem}.{extension}", f"{found.number_file(stem)}.{extension}")


def _users_in(paths: Iterable[str]) -> Iterable[str]:
    """The user in a path such as /home/NAME/... or C:\\Users\\NAME."""
    for path in paths:
        if user := re.search(r"(?:/home/|/Users/|\\Users\\|/mnt/[a-z]/Users/)([^/\\]+)", path):
            yield user[1]


def _host_name() -> str:
    return os.uname().nodename if hasattr(os, "uname") else ""


def _hosts_of(record: Record, env: Mapping[str, str]) -> Iterable[str]:
    """The machines that a run's command names, and the proxies of this one."""
    if record.seat is not None:
        yield record.seat.address
    for argv in (record.argv, *(part.argv for part in record.parts)):
        yield from (value for name, value in pairwise(argv) if name.removeprefix("--") in HOST_KEYS)
    yield from (host for host, _ in iter_proxies(env))


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None


# Values that a user wrote: they are never shown, whatever they are.
_PRIVATE_KEYS_TEXT = """
class_tokens image_dir conditioning_data_dir metadata_file caption_prefix caption_suffix prompts sample_prompts
metadata_author metadata_title metadata_description metadata_license metadata_tags metadata_usage_hint
metadata_trigger_phrase training_comment wandb_api_key wandb_run_name log_tracker_name log_prefix
log_tracker_config huggingface_token huggingface_repo_id huggingface_path_in_repo recipe_text reason
message_text own_preset keep_tokens_separator secondary_separator caption_separator token class outfit author
title description license usage_hint trigger_phrase comment
"""
PRIVATE_KEYS = frozenset(_PRIVATE_KEYS_TEXT.split())
HOST_KEYS = frozenset({"address", "main_process_ip", "master_addr", "host", "hostname"})
# An option of a command line with its value, as a shell has it or as Python shows a list.
OPTION = re.compile(
    rf"(?<![\w-])(?:(?P<outer>[\"'])(?=--\w+=))?--(?P<option>{'|'.join(sorted(PRIVATE_KEYS | HOST_KEYS))})"
    r"(?:=|[\"']?,?\s+)(?:(?P<quote>[\"'])(?P<quoted>(?:(?!(?P=quote)).)*)"
    r"|(?P<plain>(?(outer)(?:(?!(?P=outer)).)+|(?!--)[^\s\"',]+)))"
)
FINDING_TEXTS = frozenset({"message", "fix", "paste"})


def redact_value(value: object, redactor: Redactor, key: str = "") -> object:
    """JSON or TOML without anything private; ``key`` is the name that the value has."""
    if isinstance(value, str):
        return _redact_text(value, redactor, key)
    if isinstance(value, list | tuple):
        items = cast("list[object]", value)
        if key in PRIVATE_KEYS:
            return [redactor.count("text", "<text>") for _ in items]
        before = ["", *items[:-1]] if items else []  # in a command line, the name of an option
        return [
            redact_value(item, redactor, _option_name(name) or key) for item, name in zip(items, before, strict=True)
        ]
    if isinstance(value, dict):
        table = cast("dict[str, object]", value)
        if "rule" in table and "severity" in table:  # a finding quotes captions and tags
            table = {name: item for name, item in table.items() if name not in FINDING_TEXTS}
        option = table.get("option")
        named = {"value": option} if isinstance(option, str) else {}
        return {
            redactor.replace(name): redact_value(item, redactor, named.get(name, name)) for name, item in table.items()
        }
    return value


def _redact_text(text: str, redactor: Redactor, key: str) -> str:
    if text and key in PRIVATE_KEYS | HOST_KEYS:
        return redactor.hide_value(key, text)
    option, _, value = text.partition("=")
    if value and _option_name(option) in PRIVATE_KEYS | HOST_KEYS:
        return f"{option}={redactor.hide_value(option[2:], value)}"
    return text if DIGEST.fullmatch(text) else redactor.replace(text)


def _option_name(value: object) -> str:
    return value[2:] if isinstance(value, str) and value.startswith("--") else ""


def learn_words(redactor: Redactor, plan: object) -> None:
    """Trigger words, classes, captions and prompts, from the settings of sd-scripts and the datasets of a plan."""
    for key, text in _iter_private(plan, ""):
        for piece in (text, *re.split(r"[,\n]|\s--\w ", text), *(text.split() if key == "class_tokens" else ())):
            redactor.learn(piece, "<word>" if key == "class_tokens" else "<text>")


def _iter_private(value: object, key: str) -> Iterable[tuple[str, str]]:
    if isinstance(value, str):
        if key in PRIVATE_KEYS and not value.endswith((".txt", STATE_SUFFIX)):
            yield key, value
    elif isinstance(value, list | tuple):
        for item in cast("list[object]", value):
            yield from _iter_private(item, key)
    elif isinstance(value, dict):
        table = cast("dict[str, object]", value)
        option = table.get("option")
        for name, item in table.items():
            yield from _iter_private(item, option if name == "value" and isinstance(option, str) else name)
