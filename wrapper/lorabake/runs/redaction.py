"""Replaces what is private in texts of a run: paths, names, trigger words, captions, keys.

What a run's record names is known, and is replaced wherever it stands; what else looks like a path, a file of a dataset
or a key is replaced by its form. Equal texts get equal placeholders.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, cast

from lorabake_schemas.saved_names import STATE_SUFFIX

if TYPE_CHECKING:
    from lorabake_schemas.record import Input, Record

Kind = Literal["path", "file", "name", "word", "text", "key", "user", "host"]
MIN_WORD = 3  # characters of a name of a folder that is replaced wherever it stands
# Names of folders that say nothing about anybody.
_COMMON_FOLDERS_TEXT = """
home root usr mnt media data tmp var work workspace runs images image img dataset datasets train training models
model checkpoints checkpoint lora loras opt srv users cache .cache lorabake trainers venv bin lib lib64 python
python3 output outputs logs log tokenizers tokenizer base reg regularization class concept concepts share local
etc projects project parts sd-scripts site-packages content kaggle input working drive mydrive notebooks
"""
COMMON_FOLDERS = frozenset(_COMMON_FOLDERS_TEXT.split())
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
    r"^(?P<head>[\d :-]*(?:INFO)?\s*(?:prompt|negative_prompt|class_tokens|caption_prefix|caption_suffix|image_dir"
    r"|conditioning_data_dir|metadata_file|keep_tokens_separator|caption|trigger[ _]phrase)\s*:\s)(?P<value>.*)$"
)
NEW_RECORD = re.compile(r"^\S|^\s{1,20}\S|^\s*(?:INFO|WARNING|ERROR|CRITICAL)\s|^\s*\w+:")
KEYS = (
    re.compile(r"\bhf_[A-Za-z0-9]{8,}"),
    re.compile(r"\b(?:sk|gh[pousr]|glpat|xox[abp]|AKIA|rpa)[-_A-Za-z0-9]{16,}"),
    re.compile(r"(?i)\bbearer\s+[\w.~+/=-]{8,}"),
    re.compile(
        r"(?i)(?<![A-Za-z])(?:api|access|secret|private|auth|wandb|hf|hub|huggingface)?[-_ ]?"
        r"(?:key|token|password|passwd|secret|credential)s?[\"']?\s*[=:]\s*[\"']?(?P<key>[^\s\"',;]{6,})"
    ),
    re.compile(r"(?<=://)[^/\s@]+:[^/\s@]+(?=@)"),
)
HEX_40 = re.compile(r"(?<![0-9a-f])[0-9a-f]{40}(?![0-9a-f])")
EMAIL = re.compile(r"\b[\w.+-]+@[\w-]+\.[\w.-]+\b")
ADDRESS = re.compile(r"(?<![\d.])(?!127\.|0\.)(?:\d{1,3}\.){3}\d{1,3}(?![\d.])")
POSIX_PATH = re.compile(r"(?<![\w<>./~-])~?/(?:[^\s\"'<>|:;,()\[\]{}]+/?)+")
WINDOWS_PATH = re.compile(r"(?<![A-Za-z])[A-Za-z]:\\+[^\s\"'<>|;,()\[\]{}]*|\\\\\\*[\w.-]+\\[^\s\"'<>|;,]*")
RELATIVE_PATH = re.compile(r"(?<![\w<>./~-])(?:\.\./)+(?!aten/|torch/|\.\./)[^\s\"'<>|:;,()\[\]{}]+")
QUOTED_PATH = re.compile(r"(?P<quote>[\"'])(?P<path>(?:~?/|[A-Za-z]:\\)[^\"'\n<>|]*)(?P=quote)")
# What follows the place of something private is as private; below a run folder and a trainer it helps.
BELOW_PRIVATE = re.compile(
    r"(?P<root><(?!run>|trainer>|python>|file-|key>|text>|word>|path-)[a-z_-]+(?:-\d+)?>)[/\\]+"
    r"(?P<rest>[^\s\"'|:;,()\[\]{}]*)"
)
SYSTEM_PATH = re.compile(r"^/(?:usr|lib|lib64|bin|sbin|proc|sys|dev|etc)(?:/|$)")
FILE_NAME = re.compile(rf"[^\s\"'<>|/\\:;,()\[\]{{}}=]+\.(?:{DATA_EXTENSIONS})\b", re.IGNORECASE)
PACKAGE_PATH = re.compile(r"[^\s\"']*/(?=(?:site-packages|sd-scripts)/)")


@dataclass(slots=True)
class Redactor:
    """Replaces; ``counts`` are how often each kind was."""

    known: dict[str, str] = field(default_factory=dict[str, str])  # by the text in lower case
    kept: set[str] = field(default_factory=set[str])  # commits, which look like keys
    counts: Counter[Kind] = field(default_factory=Counter[Kind])
    _numbers: dict[tuple[str, str], int] = field(default_factory=dict[tuple[str, str], int])
    _pattern: re.Pattern[str] | None = None

    def learn(self, text: str | None, placeholder: str) -> None:
        """A text that is private wherever it stands; the first placeholder for it stays."""
        text = (text or "").strip().rstrip("/\\")
        if len(text) < MIN_WORD or text.lower() in self.known or text.lower() in COMMON_FOLDERS:
            return
        for form in {text, text.replace("\\", "\\\\"), text.replace("\\", "/")}:
            self.known.setdefault(form.lower(), placeholder)
        self._pattern = None

    def learn_folders(self, path: str, placeholder: str = "<folder>") -> None:
        """The names of the folders of a path."""
        for part in re.split(r"[/\\]", path):
            if len(part) > MIN_WORD and not part.endswith(":"):
                self.learn(part, placeholder)

    def replace(self, text: str) -> str:
        """The text without anything private. Lines are taken one by one."""
        return "\n".join(self._replace_lines(text.split("\n")))

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
        text = self._replace_keys(text)
        text = PACKAGE_PATH.sub(lambda _: self.count("path", "<python>/"), text)
        text = self._known_pattern().sub(self._replace_known, text)
        text = BELOW_PRIVATE.sub(self._replace_below, text)
        text = QUOTED_PATH.sub(lambda found: f"{found[1]}{self._replace_path(found['path'])}{found[1]}", text)
        text = RELATIVE_PATH.sub(lambda found: self._replace_path(found[0]), text)
        text = WINDOWS_PATH.sub(lambda found: self._number("path", found[0]), text)
        text = POSIX_PATH.sub(lambda found: self._replace_path(found[0]), text)
        text = FILE_NAME.sub(self._replace_file, text)
        text = EMAIL.sub(lambda _: self.count("name", "<address>"), text)
        return ADDRESS.sub(lambda _: self.count("host", "<host>"), text)

    def _replace_keys(self, text: str) -> str:
        for pattern in KEYS:
            text = pattern.sub(self._replace_key, text)
        return HEX_40.sub(lambda found: found[0] if found[0] in self.kept else self.count("key", "<key>"), text)

    def _replace_key(self, found: re.Match[str]) -> str:
        if "key" not in found.re.groupindex:
            return self.count("key", "<key>")
        if found["key"] in {"None", "False", "True"} or found["key"].startswith("<"):
            return found[0]
        return self.count("key", found[0][: found.start("key") - found.start()] + "<key>")

    def _known_pattern(self) -> re.Pattern[str]:
        if self._pattern is None:
            words = sorted(self.known, key=len, reverse=True)
            choices = "|".join(re.escape(word) for word in words) or r"(?!)"
            self._pattern = re.compile(rf"(?<![A-Za-z0-9<])(?:{choices})(?![A-Za-z0-9>])", re.IGNORECASE)
        return self._pattern

    def _replace_known(self, found: re.Match[str]) -> str:
        return self.count("name", self.known[found[0].lower()])

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
        number = self._numbers.setdefault((kind, text), 1 + sum(each == kind for each, _ in self._numbers))
        return self.count(kind, f"<{kind}-{number}>")

    def count(self, kind: Kind, text: str) -> str:
        self.counts[kind] += 1
        return text


def make_redactor(
    record: Record, inputs: Iterable[Input], root: str, env: Mapping[str, str], settings: Mapping[str, object]
) -> Redactor:
    """A redactor that knows what this run names. ``root`` is the run folder, ``settings`` are those of sd-scripts."""
    found = Redactor(kept={text for text in (record.trainer.commit, record.trainer.lock_sha256) if text})
    for path, placeholder in _list_places(record, root, env):
        found.learn(path, placeholder)
    for each in inputs:
        _learn_input(found, each, root)
    for user in (env.get("USER"), env.get("LOGNAME"), env.get("USERNAME"), *_users_in([record.cwd, root])):
        found.learn(user, "<user>")
    for host in (env.get("HOSTNAME"), _host_name()):
        found.learn(host, "<host>")
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
FINDING_TEXTS = frozenset({"message", "fix", "paste"})


def redact_value(value: object, redactor: Redactor, key: str = "") -> object:
    """JSON or TOML without anything private; ``key`` is the name that the value has."""
    if isinstance(value, str):
        return redactor.count("text", "<text>") if key in PRIVATE_KEYS and value else redactor.replace(value)
    if isinstance(value, list | tuple):
        items = cast("list[object]", value)
        if key in PRIVATE_KEYS:
            return [redactor.count("text", "<text>") for _ in items]
        return [redact_value(item, redactor, key) for item in items]
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
