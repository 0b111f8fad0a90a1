"""Writes captions for images that have none: the text of a tagger or of a template, in the guide's order.

Each caption file is written complete or not at all, as soon as its text is known, and never over a text that somebody
wrote; so whoever interrupts it keeps what is finished, and the same command continues.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory, gettempdir
from typing import TYPE_CHECKING

from lorabake.analysis.captioned_recipe import CaptionedRecipe
from lorabake.errors import InterruptedRunError, RecipeError, ResourceError
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
from lorabake.inputs.dataset import ScanOptions
from lorabake.inputs.survey import read_captions
from lorabake.jobs.caption_edits import CaptionFile, EditedFile, EditPlan, write_in_place
from lorabake.jobs.caption_tool import FOLDER, IMAGE, IMAGES, SCRATCH, CaptionTool, ToolError, run_tool
from lorabake.util.files import disk_error, make_folders, os_errors_as_messages, read_bytes, replace_bytes, write_bytes
from lorabake.util.machine import get_free_disk
from lorabake_schemas.caption_report import FailedCaption, WrittenCaption
from lorabake_schemas.dataset import CAPTION_EXTENSION, CaptionProblem, ImageFacts
from lorabake_schemas.guide.caption_settings import resolve_caption_extension
from lorabake_schemas.guide.defaults import name_concept
from lorabake_schemas.messages import Message, msg, nmsg

if TYPE_CHECKING:
    from lorabake.util.hashing import ProgressCallback

# Images whose captions have no text in them.
WITHOUT_TEXT = (CaptionProblem.MISSING, CaptionProblem.EMPTY, CaptionProblem.SPACES)
# Those that an undo file cannot have.
UNREADABLE = (CaptionProblem.UNREADABLE, CaptionProblem.NOT_UTF8, CaptionProblem.TOO_LARGE)
TRIED_FIRST = 3  # images that a dry run gives to a command
FAILURES_IN_A_ROW = 3  # after which the rest would fail, too
# What taggers call the text of 1.png, in the order in which it is looked for.
_OUTPUT_EXTENSIONS = (CAPTION_EXTENSION, ".caption", ".tags", ".cap")


@dataclass(frozen=True, slots=True)
class CaptionTarget:
    """An image that is to get a caption, and the file that it goes to; both also as named from the recipe.

    ``replaced`` is that file if it has a text, which somebody wants to be replaced.
    """

    image: Path
    file: Path
    name: str
    file_name: str
    writer: CaptionWriter
    replaced: CaptionFile | None = None


@dataclass(frozen=True, slots=True)
class CaptionPlan:
    """``kept`` is how many images have a caption that is left alone; ``notes`` are about folders whose captions are not
    read from such files."""

    read: CaptionedRecipe
    targets: tuple[CaptionTarget, ...]
    kept: int
    notes: tuple[Message, ...]


@dataclass(slots=True)
class CaptionOutcome:
    """What was written so far, and what could not be. ``edits`` are the texts to be replaced at the end, when their
    undo file can be complete; ``undo`` is that file."""

    written: list[WrittenCaption] = field(default_factory=list[WrittenCaption])
    failed: list[FailedCaption] = field(default_factory=list[FailedCaption])
    edits: list[EditedFile] = field(default_factory=list[EditedFile])
    undo: Path | None = None


def plan_captions(
    read: CaptionedRecipe, *, template: str | None, drop: Sequence[str], overwrite: bool = False
) -> CaptionPlan:
    """The images of the concepts that have no caption; with ``overwrite`` those that have one, too.

    Regularization images are left alone: without a caption they are trained on their class (G35.3). Raises RecipeError
    when a concept lacks a word that the template wants.
    """
    read, notes = _with_captions_read(read)
    targets, kept, files = list[CaptionTarget](), 0, set[Path]()
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
            if not bare and not (overwrite and own and image.caption.problem not in UNREADABLE):
                kept += 1
                continue
            target = _make_target(Path(found.path), concept.images, image, extension, writer)
            if target.file not in files:  # 1.png and 1.jpg share a caption, and so does a folder that is named twice
                files.add(target.file)
                old = None if bare else CaptionFile(target.file, Path(found.path), Path(found.path))
                targets.append(replace(target, replaced=old))
    return CaptionPlan(read, tuple(targets), kept, tuple(notes))


def _with_captions_read(read: CaptionedRecipe) -> tuple[CaptionedRecipe, list[Message]]:
    """The same with the caption files of concepts with captions = "none", which sd-scripts would not read."""
    off = [concept.images for concept in read.recipe.concept if concept.captions == "none"]
    if not off:
        return read, []
    concepts = tuple(concept.model_copy(update={"captions": None}) for concept in read.recipe.concept)
    recipe = read.recipe.model_copy(update={"concept": concepts})
    folders = read_captions(recipe, read.loaded.folder, ScanOptions())
    notes = [
        msg('{folder}: remove captions = "none" from the recipe, or its captions are not read', folder=images)
        for images in off
    ]
    return CaptionedRecipe(read.loaded, recipe, folders), notes


def _make_target(root: Path, images: str, image: ImageFacts, extension: str, writer: CaptionWriter) -> CaptionTarget:
    path, name = root / image.name, f"{images.rstrip('/')}/{image.name}"
    return CaptionTarget(path, Path(caption_path(str(path), extension)), name, caption_path(name, extension), writer)


def write_template_captions(plan: CaptionPlan, *, dry_run: bool) -> CaptionOutcome:
    """The template alone, for every image."""
    done = CaptionOutcome()
    for target in plan.targets:
        _finish(target, lambda target=target: target.writer.compose(()), done, dry_run=dry_run)  # type: ignore[misc]
    _replace_texts(plan, done)
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
    with TemporaryDirectory(prefix="lorabake-caption-") as scratch:
        work = _CaptionWork(Path(scratch), tool, targets, done, dry_run, progress or _ignore)
        try:
            work.prepare()
            work.caption_each() if tool.per_image else work.caption_all()
        except (InterruptedRunError, KeyboardInterrupt) as error:
            _replace_texts(plan, done)
            said = nmsg(len(done.written), "stopped; {n} caption is finished", "stopped; {n} captions are finished")
            raise InterruptedRunError(said, msg("run the same command again to continue")) from error
    _replace_texts(plan, done)
    return done


def _replace_texts(plan: CaptionPlan, done: CaptionOutcome) -> None:
    """Write the captions that replace others, after the undo file that brings those back."""
    if done.edits:
        done.undo = write_in_place(EditPlan([], files=done.edits), plan.read)


def _ignore(_done: int, _total: int) -> None: ...


@dataclass(frozen=True, slots=True)
class _CaptionWork:
    scratch: Path
    tool: CaptionTool
    targets: Sequence[CaptionTarget]
    done: CaptionOutcome
    dry_run: bool
    progress: ProgressCallback

    @property
    def images(self) -> Path:
        return self.scratch / "images"

    def prepare(self) -> None:
        make_folders(self.images, within=self.scratch)
        for name, place in self.tool.links:
            link = self.scratch / name
            if link.parent != self.scratch:
                make_folders(link.parent, within=self.scratch)
            link.symlink_to(place, target_is_directory=True)

    def caption_each(self) -> None:
        """One start of the command for each image; what it prints is the text."""
        in_a_row = 0
        for number, target in enumerate(self.targets):
            self.progress(number, len(self.targets))
            failures = len(self.done.failed)
            copy = self._copy(number, target)
            values = {IMAGE: str(copy), SCRATCH: str(self.scratch)}
            self._finish(target, lambda values=values: run_tool(self.tool, values))  # type: ignore[misc]
            copy.unlink(missing_ok=True)
            in_a_row = in_a_row + 1 if len(self.done.failed) > failures else 0
            if in_a_row and (not self.done.written or in_a_row == FAILURES_IN_A_ROW):
                return

    def caption_all(self) -> None:
        """One start of the command for all images; the text is in the files that it writes next to them."""
        self._require_room()
        copies = [self._copy(number, target) for number, target in enumerate(self.targets)]
        listed = self.scratch / "images.txt"
        write_bytes(listed, "".join(f"{copy}\n" for copy in copies).encode())
        values = {FOLDER: str(self.images), IMAGES: str(listed), SCRATCH: str(self.scratch)}
        problem: Message | None = None
        try:
            run_tool(self.tool, values, lambda: self.progress(len(self._list_outputs()), len(copies)))
        except ToolError as error:
            problem = error.message
        except (InterruptedRunError, KeyboardInterrupt):
            self._collect(copies, None, unfinished=max(self._list_outputs(), default=None))
            raise
        self._collect(copies, problem)

    def _require_room(self) -> None:
        """Raises ResourceError when the copies do not fit."""
        with os_errors_as_messages():
            needed = sum(target.image.stat().st_size for target in self.targets)
        if needed > get_free_disk(self.scratch):
            raise ResourceError(
                msg("the copies for the command need {n} MB in {folder}", n=needed >> 20, folder=gettempdir()),
                msg("set TMPDIR to a folder on another disk"),
            )

    def _copy(self, number: int, target: CaptionTarget) -> Path:
        """A copy with a plain name that no other image has: 000012.png."""
        copy = self.images / f"{number:06}{target.image.suffix.lower()}"
        with os_errors_as_messages(target.image):
            write_bytes(copy, read_bytes(target.image))
        return copy

    def _list_outputs(self) -> list[tuple[int, str]]:
        """The text files that the command has written so far, each with its time."""
        with os.scandir(self.images) as entries:
            return [
                (entry.stat(follow_symlinks=False).st_mtime_ns, entry.name)
                for entry in entries
                if entry.name.endswith(_OUTPUT_EXTENSIONS)
            ]

    def _collect(
        self, copies: Sequence[Path], problem: Message | None, *, unfinished: tuple[int, str] | None = None
    ) -> None:
        """Write the captions that the command made. ``unfinished``: it was stopped, perhaps while it wrote this file;
        then an image without text has not failed."""
        names = {name for _, name in self._list_outputs()} - ({unfinished[1]} if unfinished else set())
        lacking = problem or msg("{program} wrote no text for it", program=self.tool.name)
        for copy, target in zip(copies, self.targets, strict=True):
            wanted = [before + extension for extension in _OUTPUT_EXTENSIONS for before in (copy.stem, copy.name)]
            name = next((name for name in wanted if name in names), None)
            if name is not None:
                self._finish(target, lambda name=name: self._read_output(name))  # type: ignore[misc]
            elif unfinished is None:
                self.done.failed.append(FailedCaption(image=target.name, why=lacking))

    def _read_output(self, name: str) -> bytes:
        try:
            return read_bytes(self.images / name, TEXT_LIMIT + 1, within=self.images)
        except OSError as error:
            raise TextError(msg("its text file cannot be read")) from error

    def _finish(self, target: CaptionTarget, read: Callable[[], bytes]) -> None:
        _finish(target, lambda: target.writer.compose(read_output(read())), self.done, dry_run=self.dry_run)


def _finish(target: CaptionTarget, compose: Callable[[], str], done: CaptionOutcome, *, dry_run: bool) -> None:
    """Write one caption, unless there is a text by now."""
    try:
        text = compose()
    except (TextError, ToolError) as error:
        done.failed.append(FailedCaption(image=target.name, why=error.message))
        return
    data = f"{text}\n".encode()
    if not dry_run and target.replaced is not None:
        done.edits.append(EditedFile(target.replaced, read_bytes(target.file), data))
    elif not dry_run:
        if _has_text(target.file):
            done.failed.append(FailedCaption(image=target.name, why=msg("it has a caption by now")))
            return
        try:
            replace_bytes(target.file, data)
        except OSError as error:
            raise disk_error(error, msg("cannot write {path}", path=target.file)) from error
    done.written.append(WrittenCaption(image=target.name, file=target.file_name, text=text))


def _has_text(path: Path) -> bool:
    try:
        return bool(read_bytes(path).strip())
    except FileNotFoundError:
        return False
    except OSError:
        return True
