"""The tagger or captioner that `lorabake caption` runs: its command line, and sd-scripts' own WD14 script as one.

It is started as an argv list, never through a shell, and sees copies of the images in a scratch folder only: some
scripts convert, resize or rename what they are given. What it may do beyond that is the user's choice.
"""

from __future__ import annotations

import os
import shlex
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryFile
from typing import TYPE_CHECKING, NamedTuple

from lorabake.errors import InterruptedRunError, MachineError, SetupError, UnknownNameError
from lorabake.runs.command import trainer_env
from lorabake.util.environment import make_child_env
from lorabake.util.files import is_file, is_folder
from lorabake.util.process import Command, SupervisionOptions, capture_output, find_program, supervise
from lorabake_schemas.messages import Message, clean_log_line, literal, msg

if TYPE_CHECKING:
    from typing import IO

IMAGE, IMAGES, FOLDER, SCRATCH = "{image}", "{images}", "{folder}", "{scratch}"
IMAGE_TIMEOUT_S = 600.0  # for one image; loading a large model from a slow disk takes minutes
POLL_S = 0.5
_SHELL_MARKS = frozenset({"|", "||", "&", "&&", ";", "<", ">", ">>", "2>", "2>&1", "&>"})
_NEED_QUOTES = frozenset("'\"$`\\")
OUTPUT_LIMIT = 64 << 20  # bytes, of each stream; progress bars of a day are less
TAIL_LINES, TAIL_LIMIT = 5, 1 << 14

WD14 = "wd14"
WD14_SCRIPT = "finetune/tag_images_by_wd14_tagger.py"  # WD below
WD14_PACKAGES = ("onnx", "onnxruntime")  # imported by it with --onnx (WD:170-171); no part of the trainer's locks
# Its two layouts of a model (WD:105-122): files, the name that leads it to a folder below --model_dir, and options. At
# the pin the first one stops at the first character tag (WD:375 reads what WD:407 makes local): none must pass.
_WD14_LAYOUTS: tuple[tuple[tuple[str, str], str, str, tuple[str, ...]], ...] = (
    (("model.onnx", "selected_tags.csv"), "wd14", "wd14", ("--character_threshold", "2")),
    (("model_optimized.onnx", "tag_mapping.json"), "own/tagger/model", "own_tagger/model", ()),
)
# Packages that the trainer's own versions go before: a newer numpy among them must not replace the trainer's.
_RUN_WITH_PACKAGES = """import runpy, sys
sys.path.append(sys.argv.pop(1))
sys.argv.pop(0)
runpy.run_path(sys.argv[0], run_name="__main__")"""
_FIND_PACKAGES = """import importlib.util, sys
if sys.argv[1]:
    sys.path.append(sys.argv[1])
print(*(name for name in sys.argv[2:] if importlib.util.find_spec(name) is None))"""


class ToolError(Exception):
    """Why a command gave nothing. ``message`` is for the report."""

    def __init__(self, message: Message) -> None:
        super().__init__(message)
        self.message = message


@dataclass(frozen=True, slots=True)
class CaptionTool:
    """A command with its placeholders. ``links`` are made in the scratch folder, each with what it leads to."""

    argv: tuple[str, ...]
    cwd: Path
    env: Mapping[str, str] = field(repr=False)
    timeout_s: float | None = None
    links: tuple[tuple[str, Path], ...] = ()

    @property
    def per_image(self) -> bool:
        """Whether it is started for each image, and prints the text; else it writes files next to the images."""
        return any(IMAGE in argument for argument in self.argv)

    @property
    def name(self) -> str:
        """How messages call it."""
        script = next((word for word in self.argv[1:] if word.endswith(".py")), None)
        return Path(script or self.argv[0]).name


class TrainerPython(NamedTuple):
    """The sd-scripts folder and the Python that run its WD14 script. ``own``: it is lorabake's own installation."""

    checkout: Path
    python: Path
    own: bool


def split_command(text: str, home: str | None) -> tuple[str, ...]:
    """The words of a command line, as a shell splits them, with ``home`` in place of ``~``. Raises UnknownNameError,
    also for a line that only a shell can run."""
    try:
        words = tuple(shlex.split(text))
    except ValueError as error:
        raise UnknownNameError(msg("--with has a quote without its other half")) from error
    if not words:
        raise UnknownNameError(msg("--with is empty"))
    if mark := next((word for word in words if word in _SHELL_MARKS), None):
        line = f"\"sh -c '{text}'\"" if _NEED_QUOTES.isdisjoint(text) else shlex.quote(shlex.join(["sh", "-c", text]))
        raise UnknownNameError(
            msg("--with starts a program, not a shell: {mark} means nothing to it", mark=mark),
            msg("to run it with a shell: --with {line}", line=line),
        )
    return tuple(f"{home}{word[1:]}" if home and word.startswith("~/") else word for word in words)


def is_wd14(words: tuple[str, ...]) -> bool:
    """Whether it is the short name of sd-scripts' WD14 script, with options of that script."""
    return words[0] == WD14 and not _find_placeholders(words)


def _find_placeholders(words: tuple[str, ...]) -> set[str]:
    return {mark for mark in (IMAGE, IMAGES, FOLDER) if any(mark in word for word in words)}


def make_own_tool(words: tuple[str, ...], cwd: Path, env: Mapping[str, str], timeout_s: float | None) -> CaptionTool:
    """The user's own command. Raises UnknownNameError if it does not say where the images go, SetupError if there is
    no such program."""
    marks = _find_placeholders(words)
    if not marks:
        raise UnknownNameError(
            msg("--with does not contain {image}, {folder} or {images}", image=IMAGE, folder=FOLDER, images=IMAGES),
            msg(
                "write {image} for a command that prints the text of one image, {folder} for one that writes .txt "
                "files into a folder of images, {images} for a file that lists them",
                image=IMAGE,
                folder=FOLDER,
                images=IMAGES,
            ),
        )
    if IMAGE in marks and len(marks) > 1:
        raise UnknownNameError(msg("--with has {image}, so it cannot have {others}", image=IMAGE, others=FOLDER))
    program = str((cwd / words[0]).absolute()) if os.sep in words[0] else find_program(words[0], env)
    if program is None or not is_file(program):
        raise SetupError(msg("cannot start {program}: not found", program=words[0]))
    if timeout_s is None and IMAGE in marks:
        timeout_s = IMAGE_TIMEOUT_S
    return CaptionTool((program, *words[1:]), cwd, make_child_env(env, PYTHONIOENCODING="utf-8"), timeout_s)


def make_wd14_tool(
    options: tuple[str, ...],
    weights: Path | None,
    packages: Path | None,
    find_trainer: Callable[[], TrainerPython],
    env: Mapping[str, str],
    timeout_s: float | None,
) -> CaptionTool:
    """sd-scripts' WD14 script with the user's own weights, offline.

    Raises UnknownNameError without weights, MachineError if they are not a model that it reads, SetupError if the
    script or a package that it needs is missing.
    """
    repo, link, fixed = _find_wd14_layout(weights)
    trainer = find_trainer()
    script = trainer.checkout / WD14_SCRIPT
    if not is_file(script):
        raise SetupError(msg("{folder} has no {file}", folder=trainer.checkout, file=WD14_SCRIPT))
    more = str(packages.absolute()) if packages else ""
    child = trainer_env(env, python=trainer.python, checkout=trainer.checkout, offline=True, complete=trainer.own)
    _require_packages(trainer.python, more, child)
    first = (str(trainer.python), "-c", _RUN_WITH_PACKAGES, more) if more else (str(trainer.python),)
    argv = (
        *first, str(script), "--onnx", "--model_dir", SCRATCH, "--repo_id", repo, "--caption_extension", ".txt",
        *fixed, *options, FOLDER,
    )  # fmt: skip
    assert weights is not None  # noqa: S101 - there is a layout
    return CaptionTool(argv, trainer.checkout, child, timeout_s, ((link, weights.absolute()),))


def _find_wd14_layout(weights: Path | None) -> tuple[str, str, tuple[str, ...]]:
    hint = msg(
        "download model.onnx and selected_tags.csv of a WD14 tagger, such as SmilingWolf/wd-vit-tagger-v3 on Hugging "
        "Face, into one folder"
    )
    if weights is None:
        raise UnknownNameError(msg("--with {name} needs --weights, the folder of the tagger's model", name=WD14), hint)
    if not is_folder(weights):
        raise MachineError(msg("{folder} is not a folder", folder=weights), hint)
    for files, repo, link, fixed in _WD14_LAYOUTS:
        if all(is_file(weights / name) for name in files):
            return repo, link, fixed
    raise MachineError(msg("{folder} has no model.onnx with its selected_tags.csv", folder=weights), hint)


def _require_packages(python: Path, more: str, env: Mapping[str, str]) -> None:
    """Raises SetupError, with the line that installs what is missing into a folder of its own."""
    done = capture_output([str(python), "-c", _FIND_PACKAGES, more, *WD14_PACKAGES], env=env, timeout=120)
    missing = done.stdout.split()
    if not done.ok:
        raise SetupError(msg("{python} is not a working Python", python=python), _describe_tail(done.stderr))
    if missing:
        words = [str(python), "-m", "pip", "install", "--target", more or "wd14-packages", *missing]
        raise SetupError(
            msg("the tagger needs packages that the trainer does not have: {names}", names=", ".join(missing)),
            msg(
                "run `{command}`, then pass --packages {folder}",
                command=shlex.join(words),
                folder=more or "wd14-packages",
            ),
        )


def run_tool(tool: CaptionTool, values: Mapping[str, str], watch: Callable[[], object] | None = None) -> bytes:
    """Run the command with its placeholders filled in; its stdout. ``watch`` is called while it runs.

    Raises ToolError when it fails, prints without end or takes too long, SetupError when it cannot be started,
    InterruptedRunError when somebody stops lorabake.
    """
    argv = tuple(_fill(argument, values) for argument in tool.argv)
    deadline = None if tool.timeout_s is None else time.monotonic() + tool.timeout_s
    with TemporaryFile() as out, TemporaryFile() as err:
        how = SupervisionOptions(streams=(out.fileno(), err.fileno()), interrupt_s=5.0, terminate_s=5.0)
        with supervise(Command(argv, tool.cwd, tool.env), how) as running:
            while not running.wait(POLL_S):
                if watch is not None:
                    watch()
                if max(os.fstat(file.fileno()).st_size for file in (out, err)) > OUTPUT_LIMIT:
                    raise ToolError(msg("{program} printed more than {n} MB", program=tool.name, n=OUTPUT_LIMIT >> 20))
                if deadline is not None and time.monotonic() >= deadline:
                    raise ToolError(
                        msg(
                            "{program} did not finish within {seconds:g} s",
                            program=tool.name,
                            seconds=tool.timeout_s or 0,
                        )
                    )
            if running.stopped_by is not None:
                raise InterruptedRunError(msg("stopped by {signal}", signal=running.stopped_by))
        if running.returncode != 0:
            tail = _read_end(err) or _read_end(out) or literal("-")
            code = str(running.returncode) if running.returncode is not None else "?"
            raise ToolError(
                msg("{program} failed with exit code {code}: {tail}", program=tool.name, code=code, tail=tail)
            )
        out.seek(0)
        return out.read(OUTPUT_LIMIT)


def _fill(argument: str, values: Mapping[str, str]) -> str:
    for mark, value in values.items():
        argument = argument.replace(mark, value)
    return argument


def _read_end(stream: IO[bytes]) -> Message | None:
    size = stream.seek(0, os.SEEK_END)
    stream.seek(max(0, size - TAIL_LIMIT))
    return _describe_tail(stream.read().decode("utf-8", "replace"))


def _describe_tail(text: str) -> Message | None:
    """The last lines of a program's output; a progress bar's own last state only."""
    lines = [clean_log_line(line.rstrip("\r").rpartition("\r")[2]) for line in text.split("\n")]
    shown = [line.strip() for line in lines if line.strip()][-TAIL_LINES:]
    return literal(" / ".join(shown)) if shown else None
