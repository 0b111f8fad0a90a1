"""Writes captions for images that have none: the text of a tagger or of a template, in the guide's order.

Each caption file is written complete or not at all, as soon as its text is known, and never over a text that somebody
wrote; so whoever interrupts it keeps what is finished, and the same command continues. Texts that are to be replaced
are in the undo file before.
"""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from enum import Enum
from pathlib import Path
from tempfile import gettempdir, mkdtemp
from typing import TYPE_CHECKING

from lorabake.analysis.captioned_recipe import CaptionedRecipe, list_unread_images, read_unread_captions
from lorabake.errors import InterruptedRunError, MachineError, RecipeError, ResourceError
from lorabake.inputs.caption_lines import LineStyle, TagEdit, edit_caption_text, get_line_style
from lorabake.inputs.caption_text import (
    TEXT_LIMIT,
    CaptionWriter,
    TextError,
    find_missing_words,
    in_braces,
    make_caption_writer,
    read_output,
)
from lorabake.inputs.captions import caption_path
from lorabake.inputs.prepare.folder import read_background_colors
from lorabake.inputs.prepare.texts import CaptionRules, add_background
from lorabake.jobs.caption_edits import (
    CaptionFile,
    EditedFile,
    choose_undo_file,
    hint_at_undo,
    write_edited_file,
    write_undo_file,
)
from lorabake.jobs.caption_tool import FOLDER, IMAGE, IMAGE_TIMEOUT_S, IMAGES, SCRATCH, CaptionTool, ToolError, run_tool
from lorabake.recipe.overrides import KeyPath, remove_keys
from lorabake.util.files import (
    UnreadableError,
    disk_error,
    identify_file,
    make_folders,
    os_errors_as_messages,
    read_bytes,
    reason,
    remove_file,
    remove_tree,
    replace_bytes,
    write_bytes,
)
from lorabake.util.machine import get_free_disk
from lorabake_schemas.caption_report import FailedCaption, WrittenCaption
from lorabake_schemas.dataset import CAPTION_EXTENSION, CaptionProblem, ImageFacts
from lorabake_schemas.guide.caption_settings import resolve_caption_extension
from lorabake_schemas.guide.defaults import name_concept
from lorabake_schemas.messages import Message, literal, msg, nmsg, shorten_list

if TYPE_CHECKING:
    from lorabake.util.hashing import ProgressCallback

# Images whose captions have no text in them.
WITHOUT_TEXT = (CaptionProblem.MISSING, CaptionProblem.EMPTY, CaptionProblem.SPACES)
# Those that an undo file cannot have.
UNREADABLE = (CaptionProblem.UNREADABLE, CaptionProblem.NOT_UTF8, CaptionProblem.TOO_LARGE)
MOST_NAMED = 5
TRIED_FIRST = 3  # images that a dry run gives to a command
# Failures in a row after which the rest would fail, too: before a command has given its first text, and later.
FIRST_FAILURES, LATER_FAILURES = 3, 10
REPLACED_EVERY_S = 2.0  # texts are replaced together, since the undo file is written before
UNSURE_NS = 100_000_000  # before a command failed; what it wrote then may be a part
# What taggers call the text of 1.png, in the order in which it is looked for.
_OUTPUT_EXTENSIONS = (CAPTION_EXTENSION, ".caption", ".tags", ".cap")


class ExistingCaptions(Enum):
    """What becomes of captions that have text."""

    KEEP = "keep"
    REPLACE = "replace"
    APPEND = "append"


@dataclass(frozen=True, slots=True)
class CaptionTarget:
    """An image that is to get a caption, and the file that it goes to; both also as named from the recipe.

    ``replaced`` is that file if it has a text, which somebody wants to be changed; ``appended`` is how its captions are
    split if tags are added to them, None if others take their place. ``background`` is the color that it got by
    `prepare`.
    """

    image: Path
    file: Path
    name: str
    file_name: str
    writer: CaptionWriter
    replaced: CaptionFile | None = None
    appended: LineStyle | None = None
    background: str | None = None


@dataclass(frozen=True, slots=True)
class CaptionPlan:
    """``kept`` is how many images have a caption that is left alone; ``notes`` are about folders whose captions are not
    read from such files, ``unread`` the keys of the recipe that are why."""

    read: CaptionedRecipe
    targets: tuple[CaptionTarget, ...]
    kept: int
    notes: tuple[Message, ...]
    unread: tuple[KeyPath, ...] = ()


@dataclass(slots=True)
class CaptionOutcome:
    """What was written so far, and what could not be. ``unchanged`` is how many captions had all tags already, ``undo``
    the file with the texts that were replaced, ``untried`` how many images the command was not started for because it
    had failed for others."""

    written: list[WrittenCaption] = field(default_factory=list[WrittenCaption])
    failed: list[FailedCaption] = field(default_factory=list[FailedCaption])
    undo: Path | None = None
    untried: int = 0
    unchanged: int = 0


def plan_captions(
    read: CaptionedRecipe,
    *,
    template: str | None,
    drop: Sequence[str],
    existing: ExistingCaptions = ExistingCaptions.KEEP,
) -> CaptionPlan:
    """The images of the concepts that have no caption; those that have one, too, unless ``existing`` ones are kept.

    Regularization images are left alone: without a caption they are trained on their class (G35.3). Raises RecipeError
    when a concept lacks a word that the template wants.
    """
    unread = tuple(
        ("concept", number, "captions") for number, each in enumerate(read.recipe.concept) if each.captions == "none"
    )
    read, notes = read_unread_captions(read), list[Message]()
    targets, kept, files = list[CaptionTarget](), 0, set[object]()
    known, colors = dict[Path, tuple[int, int] | Path](), read_background_colors(read.loaded.folder)
    for concept, found in zip(read.recipe.concept, read.folders, strict=True):
        if concept.metadata_file:
            said = msg("{folder}: its captions are in {file}", folder=concept.images, file=concept.metadata_file)
            notes.append(said)
            continue
        writer = make_caption_writer(concept, read.recipe, found, template, drop)
        if template is not None and (missing := find_missing_words(template, writer)):
            raise RecipeError(
                msg(
                    "--template uses {word}, but {concept} has none",
                    word=in_braces(next(iter(missing))),
                    concept=name_concept(concept, read.recipe),
                ),
                hint=msg("set it in the [[concept]], or leave it out of --template"),
            )
        extension = resolve_caption_extension(concept, read.recipe)
        for image in found.images:
            bare, own = image.caption.problem in WITHOUT_TEXT, image.caption.borrowed_from is None
            kept_text = existing is ExistingCaptions.KEEP or not own or image.caption.problem in UNREADABLE
            if not bare and kept_text:
                kept += 1
                continue
            target = _make_target(Path(found.path), concept.images, image, extension, writer, colors)
            same = identify_file(target.file, known)
            if same not in files:  # 1.png and 1.jpg share a caption, and so does a folder that is named twice
                files.add(same)
                if not bare:
                    old = CaptionFile(target.file, Path(found.path), Path(found.path))
                    style = get_line_style(concept, read.recipe) if existing is ExistingCaptions.APPEND else None
                    target = replace(target, replaced=old, appended=style)
                targets.append(target)
    for folder, names in list_unread_images(read).items():
        shown = shorten_list(names, MOST_NAMED, literal)
        notes.append(
            msg("{folder}: left out, since sd-scripts does not read them: {names}", folder=folder, names=shown)
        )
    return CaptionPlan(read, tuple(targets), kept, tuple(notes), unread)


def remove_unread_marks(plan: CaptionPlan) -> bool:
    """Remove captions = "none" from the recipe, whose other lines stay; False if it cannot be removed from its text.

    Raises MachineError if the recipe cannot be written.
    """
    path = plan.read.loaded.path
    try:
        before = read_bytes(path)
        text = remove_keys(before.decode(), plan.unread)
        if text is not None:
            replace_bytes(Path(os.path.realpath(path)), text.encode(), keep_mode=True)
    except OSError as error:
        raise disk_error(error, msg("cannot write {path}: {why}", path=path, why=reason(error))) from error
    except ValueError:
        return False
    return text is not None


def _make_target(
    root: Path, images: str, image: ImageFacts, extension: str, writer: CaptionWriter, colors: Mapping[str, str]
) -> CaptionTarget:
    path, name = root / image.name, f"{images.rstrip('/')}/{image.name}"
    file, file_name = Path(caption_path(str(path), extension)), caption_path(name, extension)
    return CaptionTarget(path, file, name, file_name, writer, background=colors.get(name))


def write_template_captions(plan: CaptionPlan, *, dry_run: bool) -> CaptionOutcome:
    """The template alone, for every image."""
    done = CaptionOutcome()
    with _open_writer(plan, done, dry_run=dry_run) as writer:
        for target in plan.targets:
            writer.finish(target, list)
    return done


def write_tool_captions(
    plan: CaptionPlan, tool: CaptionTool, *, dry_run: bool, progress: ProgressCallback | None = None
) -> CaptionOutcome:
    """The text of a command for every image; a dry run gives it the first images only, and writes nothing.

    Raises ResourceError when the copies of the images do not fit on the disk, SetupError when the command cannot be
    started, InterruptedRunError when somebody stops it: what is finished stays.
    """
    targets = plan.targets[:TRIED_FIRST] if dry_run else plan.targets
    done = CaptionOutcome()
    with os_errors_as_messages():
        scratch = Path(mkdtemp(prefix="lorabake-caption-"))
    try:
        with _open_writer(plan, done, dry_run=dry_run) as writer:
            work = _CaptionWork(scratch, tool, targets, writer, progress or _ignore)
            work.prepare()
            work.caption_each() if tool.per_image else work.caption_all()
    except (InterruptedRunError, KeyboardInterrupt) as error:
        said = nmsg(len(done.written), "stopped; {n} caption is finished", "stopped; {n} captions are finished")
        hint = msg("run the same command again to continue")
        if done.undo is not None:
            hint = hint_at_undo(done.undo, plan.read)
        raise InterruptedRunError(said, hint) from error
    finally:
        remove_tree(scratch, within=scratch.parent)
    return done


@dataclass(slots=True)
class _CaptionWriter:
    """Writes captions as their texts become known. ``edits`` are those that replace a text and wait for the undo file
    that has them all; ``replaced`` those in it."""

    plan: CaptionPlan
    done: CaptionOutcome
    dry_run: bool
    edits: list[tuple[CaptionTarget, EditedFile, str]] = field(
        default_factory=list[tuple[CaptionTarget, EditedFile, str]]
    )
    replaced: list[EditedFile] = field(default_factory=list[EditedFile])
    last: float = field(default_factory=time.monotonic)

    def fail(self, target: CaptionTarget, why: Message) -> None:
        self.done.failed.append(FailedCaption(image=target.name, why=why))

    def finish(self, target: CaptionTarget, read_lines: Callable[[], Sequence[str]]) -> None:
        """Write one caption, unless there is a text by now that is not to be changed."""
        try:
            before, after, text = _make_text(target, read_lines())
        except (TextError, ToolError) as error:
            self.fail(target, error.message)
        except OSError as error:
            self.fail(target, reason(error))
        except UnicodeDecodeError:
            self.fail(target, msg("it is not UTF-8"))
        else:
            if target.appended is not None and after == before:
                self.done.unchanged += 1
            elif self.dry_run:
                self._note(target, text)
            elif target.replaced is not None:
                self.edits.append((target, EditedFile(target.replaced, before, after), text))
            elif _has_text(target.file):
                self.fail(target, msg("it has a caption by now"))
            else:
                self._write_new(target, after, text)

    def _write_new(self, target: CaptionTarget, data: bytes, text: str) -> None:
        try:
            replace_bytes(target.file, data)
        except OSError as error:
            said = msg("cannot write {path}: {why}", path=target.file, why=reason(error))
            raise disk_error(error, said) from error
        self._note(target, text)

    def _note(self, target: CaptionTarget, text: str) -> None:
        self.done.written.append(WrittenCaption(image=target.name, file=target.file_name, text=text))

    def replace_some(self) -> None:
        """Replace what is waiting if the last time is long enough ago."""
        if time.monotonic() >= self.last + REPLACED_EVERY_S:
            self.replace_all()

    def replace_all(self) -> None:
        """Write the undo file with all that is to be replaced, then replace it."""
        waiting, self.edits = self.edits, []
        if waiting:
            self.replaced += (edit for _, edit, _ in waiting)
            undo = self.done.undo or choose_undo_file(self.plan.read)
            write_undo_file(undo, self.replaced, self.plan.read)
            self.done.undo = undo
        for target, edit, text in waiting:
            try:
                write_edited_file(edit, self.plan.read)
            except ResourceError:
                raise
            except MachineError as error:
                self.fail(target, error.message)
            else:
                self._note(target, text)
        self.last = time.monotonic()


def _make_text(target: CaptionTarget, lines: Sequence[str]) -> tuple[bytes, bytes, str]:
    """What the file has before and after, and its new caption. Raises OSError, TextError, UnicodeDecodeError."""
    before = read_bytes(target.file, within=target.replaced.root) if target.replaced is not None else b""
    if target.appended is None:
        text, writer = target.writer.compose(lines), target.writer
        if target.background is not None:
            rules = CaptionRules(separator=writer.style.separator, underscores=writer.underscores)
            text = add_background(text, target.background, rules)
        return before, f"{text}\n".encode(), text
    after, tags = before.decode(), target.writer.clean(lines)
    if tags:
        edit = TagEdit("add", tags, lambda _: False, tags)
        after = edit_caption_text(after, [edit], target.appended).text
    return before, after.encode(), after.strip()


@contextmanager
def _open_writer(plan: CaptionPlan, done: CaptionOutcome, *, dry_run: bool) -> Generator[_CaptionWriter]:
    """However the work ends, the texts that are known are written."""
    writer = _CaptionWriter(plan, done, dry_run)
    try:
        yield writer
    finally:
        writer.replace_all()


def _ignore(_done: int, _total: int) -> None: ...


@dataclass(frozen=True, slots=True)
class _CaptionWork:
    """The command at work. It may do anything in ``scratch``, such as put links there: no link on the way is followed,
    not even one in the place of ``scratch`` itself."""

    scratch: Path
    tool: CaptionTool
    targets: Sequence[CaptionTarget]
    writer: _CaptionWriter
    progress: ProgressCallback

    @property
    def images(self) -> Path:
        return self.scratch / "images"

    @property
    def _base(self) -> Path:
        return self.scratch.parent

    def prepare(self) -> None:
        with os_errors_as_messages():
            make_folders(self.images, within=self._base)
            for name, place in self.tool.links:
                link = self.scratch / name
                if link.parent != self.scratch:
                    make_folders(link.parent, within=self._base)
                link.symlink_to(place, target_is_directory=True)

    def caption_each(self) -> None:
        """One start of the command for each image; what it prints is the text. It is not started for all images if it
        fails for the first ones, and for those of other parts of the folder."""
        done, rest, works, in_a_row = self.writer.done, deque(enumerate(self.targets)), False, 0
        last = time.monotonic() + (self.tool.timeout_s or IMAGE_TIMEOUT_S)  # for the first text
        while rest:
            self.progress(len(self.targets) - len(rest), len(self.targets))
            number, target = rest.popleft()
            failures = len(done.failed)
            copy = self._copy(number, target)
            if copy is None:
                continue
            values = {IMAGE: str(copy), SCRATCH: str(self.scratch)}
            self._finish(target, lambda values=values: run_tool(self.tool, values))  # type: ignore[misc]
            with suppress(OSError):
                remove_file(copy, within=self._base)
            self.writer.replace_some()
            if len(done.failed) == failures:
                works, in_a_row = True, 0
                continue
            in_a_row += 1
            if in_a_row >= (LATER_FAILURES if works else FIRST_FAILURES) or (not works and time.monotonic() > last):
                done.untried = len(rest)
                return
            if not works:
                rest.rotate(-(len(rest) // 2))

    def caption_all(self) -> None:
        """One start of the command for all images; the text is in the files that it writes next to them."""
        self._require_room()
        tried = ((self._copy(number, target), target) for number, target in enumerate(self.targets))
        copies = [(copy, target) for copy, target in tried if copy is not None]
        if not copies:
            return
        listed = self.scratch / "images.txt"
        with os_errors_as_messages(listed):
            write_bytes(listed, "".join(f"{copy}\n" for copy, _ in copies).encode(), within=self._base)
        values = {FOLDER: str(self.images), IMAGES: str(listed), SCRATCH: str(self.scratch)}
        problem: Message | None = None
        try:
            run_tool(self.tool, values, lambda: self.progress(len(self._list_outputs()), len(copies)))
        except ToolError as error:
            problem = error.message
        except (InterruptedRunError, KeyboardInterrupt):
            self._collect(copies, None, finished=False)
            raise
        self._collect(copies, problem)

    def _require_room(self) -> None:
        """Raises ResourceError when the copies do not fit."""
        needed = 0
        for target in self.targets:
            with suppress(OSError):  # it fails when it is copied
                needed += target.image.stat().st_size
        if needed > get_free_disk(self.scratch):
            raise ResourceError(
                msg("the copies for the command need {n} MB in {folder}", n=needed >> 20, folder=gettempdir()),
                msg("set TMPDIR to a folder on another disk"),
            )

    def _copy(self, number: int, target: CaptionTarget) -> Path | None:
        """A copy with a plain name that no other image has: 000012.png; None for an image that cannot be read."""
        copy = self.images / f"{number:06}{target.image.suffix.lower()}"
        try:
            data = read_bytes(target.image)
        except OSError as error:
            self.writer.fail(target, reason(error))
            return None
        try:
            make_folders(self.images, within=self._base)
            write_bytes(copy, data, within=self._base)
        except UnreadableError as error:
            said = msg(
                "{program} replaced {path}: {why}", program=self.tool.name, path=str(error.filename), why=error.why
            )
            raise MachineError(said, msg("use a command that leaves the folder of its images in place")) from error
        except OSError as error:
            raise disk_error(error, msg("cannot write {path}: {why}", path=copy, why=reason(error))) from error
        return copy

    def _list_outputs(self) -> list[tuple[int, str]]:
        """The text files that the command has written so far, each with its time."""
        found = list[tuple[int, str]]()
        with suppress(OSError), os.scandir(self.images) as entries:
            for entry in entries:
                if entry.name.endswith(_OUTPUT_EXTENSIONS):
                    with suppress(OSError):  # it has got its final name meanwhile
                        found.append((entry.stat(follow_symlinks=False).st_mtime_ns, entry.name))
        return found

    def _collect(
        self, copies: Sequence[tuple[Path, CaptionTarget]], problem: Message | None, *, finished: bool = True
    ) -> None:
        """Write the captions that the command made. With a problem, or if it was stopped, without those that it may
        have been writing at the end. If it is not ``finished``, an image without text has not failed."""
        outputs = self._list_outputs()
        newest = max(outputs)[0] if outputs and (problem or not finished) else None
        names = {name for when, name in outputs if newest is None or when < newest - UNSURE_NS}
        lacking = problem or msg("{program} wrote no text for it", program=self.tool.name)
        for copy, target in copies:
            wanted = [before + extension for extension in _OUTPUT_EXTENSIONS for before in (copy.stem, copy.name)]
            name = next((name for name in wanted if name in names), None)
            if name is not None:
                self._finish(target, lambda name=name: self._read_output(name))  # type: ignore[misc]
            elif finished:
                self.writer.fail(target, lacking)

    def _read_output(self, name: str) -> bytes:
        try:
            return read_bytes(self.images / name, TEXT_LIMIT + 1, within=self._base)
        except OSError as error:
            raise TextError(msg("its text file cannot be read")) from error

    def _finish(self, target: CaptionTarget, read: Callable[[], bytes]) -> None:
        self.writer.finish(target, lambda: read_output(read()))


def _has_text(path: Path) -> bool:
    try:
        return bool(read_bytes(path).strip())
    except FileNotFoundError:
        return False
    except OSError:
        return True
