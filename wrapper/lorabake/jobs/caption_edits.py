"""Edits of the tags of all captions: what they would change, written into the files with an undo file, or undone.

Nothing outside of the recipe's image folders is read or written, links in them are not followed, and images are not
touched. Each file is replaced as one, after the undo file is complete on the disk.
"""

from __future__ import annotations

import hashlib
import os
import shlex
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import NamedTuple

from pydantic import ValidationError

from lorabake.analysis.captioned_recipe import CaptionedRecipe, read_unread_captions
from lorabake.analysis.tag_counts import TagTable
from lorabake.analysis.tag_edits import explain_edit
from lorabake.errors import InterruptedRunError, LorabakeError, MachineError, RecipeError
from lorabake.inputs.caption_lines import EditedText, LineStyle, TagEdit, edit_caption_text, get_line_style
from lorabake.inputs.captions import caption_path
from lorabake.inputs.metadata_file import METADATA_LIMIT
from lorabake.inputs.metadata_spans import TextSpan, find_entries, replace_texts
from lorabake.util.files import (
    disk_error,
    exists,
    identify_file,
    read_bytes,
    reason,
    remove_partial_files,
    replace_bytes,
)
from lorabake.util.hashing import ProgressCallback
from lorabake_schemas.dataset import MAX_CAPTION_BYTES, CaptionProblem
from lorabake_schemas.messages import Message, escape_undecodable, literal, msg, nmsg, shorten_list
from lorabake_schemas.tag_report import CaptionChange, CaptionEditReport, EditCount, SkippedCaption, UndoEntry, UndoFile

MAX_NAMES = 5  # of files, in an error
UNREAD = {CaptionProblem.MISSING, CaptionProblem.UNREADABLE}


Wanted = Callable[[int, str], bool]


@dataclass(frozen=True, slots=True)
class CaptionFile:
    """A file with captions, below ``root``, and the images in ``folder`` that it belongs to: by name, with the style of
    their captions."""

    path: Path
    root: Path
    folder: Path
    is_metadata: bool = False
    images: dict[str, LineStyle] = field(default_factory=dict[str, LineStyle])


class EditedFile(NamedTuple):
    """A file that edits change. ``before`` and ``after`` are all of its bytes."""

    file: CaptionFile
    before: bytes
    after: bytes


@dataclass(slots=True)
class EditPlan:
    """What edits change. ``counts`` is the number of captions that each edit changes, ``captions`` how many were
    looked at, ``tokenless`` are those that no longer start with the token."""

    counts: list[int]
    captions: int = 0
    files: list[EditedFile] = field(default_factory=list[EditedFile])
    changes: list[CaptionChange] = field(default_factory=list[CaptionChange])
    skipped: list[SkippedCaption] = field(default_factory=list[SkippedCaption])
    tokenless: list[str] = field(default_factory=list[str])


def list_caption_files(read: CaptionedRecipe, wanted: Wanted = lambda _number, _name: True) -> list[CaptionFile]:
    """The caption files of the images that are ``wanted``, by the concept's index and the image's name; each once,
    even if several images share one or it has several names through links to its folder."""
    found, folders = dict[tuple[object, str], CaptionFile](), dict[Path, tuple[int, int] | Path]()
    for number, (concept, folder) in enumerate(zip(read.recipe.concept, read.folders, strict=True)):
        root, style = Path(folder.path), get_line_style(concept, read.recipe)
        metadata = concept.metadata_file
        for image in folder.images:
            if not wanted(number, image.name) or image.caption.problem in UNREAD:
                continue
            if metadata is not None:
                path = Path(os.path.abspath(read.loaded.folder / metadata))  # noqa: PTH100 - links stay
                file = CaptionFile(path, path.parent, root, is_metadata=True)
            else:
                own = caption_path(f"{root}{os.sep}{image.name}", folder.caption_extension)
                file = CaptionFile(Path(image.caption.borrowed_from or own), root, root)
            found.setdefault(identify_file(file.path, folders), file).images.setdefault(image.name, style)
    return list(found.values())


def plan_edits(read: CaptionedRecipe, edits: Sequence[TagEdit], wanted: Wanted) -> EditPlan:
    """What the edits change in the captions of the images that are ``wanted``; nothing is written."""
    plan = EditPlan([0] * len(edits))
    for file in list_caption_files(read, wanted):
        named = relative_name(file.path, read.loaded.folder)
        try:
            before = _read_caption_file(file)
        except OSError as error:
            plan.skipped.append(SkippedCaption(file=named, why=reason(error)))
            continue
        except ValueError:
            why = msg("it is outside of {folder}", folder=relative_name(file.root, read.loaded.folder))
            plan.skipped.append(SkippedCaption(file=named, why=why))
            continue
        try:
            _edit_file(file, named, before, edits, plan)
        except UnicodeDecodeError:
            plan.skipped.append(SkippedCaption(file=named, why=msg("it is not UTF-8")))
        except ValueError:
            plan.skipped.append(SkippedCaption(file=named, why=msg("it is not valid JSON, or an entry is incomplete")))
    return plan


def relative_name(path: Path, folder: Path) -> str:
    """A path as the recipe would write it, from its folder; absolute on another drive."""
    try:
        return Path(os.path.relpath(path, folder)).as_posix()
    except ValueError:
        return path.as_posix()


def _read_caption_file(file: CaptionFile) -> bytes:
    """Raises OSError, also for a link, and ValueError for a file outside of the images' folder."""
    return read_bytes(file.path, METADATA_LIMIT if file.is_metadata else MAX_CAPTION_BYTES, within=file.root)


def _edit_file(file: CaptionFile, named: str, before: bytes, edits: Sequence[TagEdit], plan: EditPlan) -> None:
    """Add what changes in a file to the plan. Raises UnicodeDecodeError, ValueError for a damaged metadata file."""
    text = before.decode("utf-8")
    if file.is_metadata:
        after = _edit_metadata(file, text, named, edits, plan)
    else:
        image, style = next(iter(file.images.items()))
        edited = edit_caption_text(text, edits, style)
        after = edited.text
        if text.strip() and not after.strip():
            plan.skipped.append(SkippedCaption(file=named, why=msg("nothing would be left of it")))
            return
        _note_change(plan, edited, CaptionChange(file=named, image=image, before=text, after=after))
    if after != text:
        plan.files.append(EditedFile(file, before, after.encode()))


def _note_change(plan: EditPlan, edited: EditedText, change: CaptionChange) -> None:
    plan.captions += 1
    for number in edited.edits:
        plan.counts[number] += 1
    if change.before != change.after:
        plan.changes.append(change)
    if edited.loses_token:
        same = Path(change.file).stem == Path(change.image).stem
        plan.tokenless.append(change.file if same else f"{change.file}: {change.image}")


def _edit_metadata(file: CaptionFile, text: str, named: str, edits: Sequence[TagEdit], plan: EditPlan) -> str:
    """The text of a metadata file with the captions of the wanted images edited. Caption and tags of an entry are one
    caption: sd-scripts joins them (TU:2316)."""
    new: dict[TextSpan, str] = {}
    for entry in find_entries(text, lines=file.path.name.endswith(".jsonl")):
        image = os.path.relpath(entry.name, file.folder) if Path(entry.name).is_absolute() else entry.name
        spans = [span for span in (entry.caption, entry.tags) if span is not None]
        if image not in file.images or not spans:
            continue
        style = file.images[image]
        if "\n" in spans[0].value:  # without enable_wildcard sd-scripts drops all that follows, the tags too
            spans = [spans[0], *(spans[1:] if style.wildcard else [])]
        before = _BOUNDARY.join(span.value for span in spans)
        if len(spans) == 2 and "\n" in before:
            plan.skipped.append(SkippedCaption(file=f"{named}: {image}", why=msg("it has several lines and tags")))
            continue
        edited = edit_caption_text(before, edits, style._replace(boundary=_BOUNDARY) if len(spans) == 2 else style)
        shown = (each.replace(_BOUNDARY, ", ") for each in (before, edited.text))
        _note_change(plan, edited, CaptionChange(file=named, image=image, before=next(shown), after=next(shown)))
        if edited.edits:
            new |= dict(zip(spans, edited.text.split(_BOUNDARY), strict=True))
    return replace_texts(text, new) if new else text


_BOUNDARY = "\ue002"  # of the private use area: between caption and tags while both are edited


def report_edits(plan: EditPlan, edits: Sequence[TagEdit], read: CaptionedRecipe, table: TagTable) -> CaptionEditReport:
    """The plan as it is printed. ``table`` has the tags of the captions."""
    affixes = frozenset(tag for concept in read.recipe.concept for tag in get_line_style(concept, read.recipe).affixes)
    return CaptionEditReport(
        recipe=str(read.loaded.path),
        edits=tuple(
            EditCount(
                kind=edit.kind, given=edit.given, captions=captions, why=explain_edit(edit, captions, affixes, table)
            )
            for edit, captions in zip(edits, plan.counts, strict=True)
        ),
        captions=plan.captions,
        changes=tuple(plan.changes),
        skipped=tuple(plan.skipped),
        tokenless=tuple(plan.tokenless),
    )


def write_in_place(plan: EditPlan, read: CaptionedRecipe, progress: ProgressCallback | None = None) -> Path:
    """Write the undo file, then every changed file; the undo file's path.

    Raises MachineError if a file has changed meanwhile or cannot be written, InterruptedRunError; what was written by
    then can be undone, as the hint says.
    """
    undo = choose_undo_file(read)
    write_undo_file(undo, plan.files, read)
    _remove_partial_captions(list_caption_files(read))
    for number, each in enumerate(plan.files):
        if progress is not None:
            progress(number, len(plan.files))
        try:
            write_edited_file(each, read)
        except LorabakeError as error:
            error.hint = hint_at_undo(undo, read) if number else error.hint
            raise
        except KeyboardInterrupt as error:
            said = nmsg(number, "stopped; {n} caption is finished", "stopped; {n} captions are finished")
            raise InterruptedRunError(said, hint_at_undo(undo, read)) from error
    return undo


def hint_at_undo(undo: Path, read: CaptionedRecipe) -> Message:
    """The command that restores what an undo file has."""
    command = shlex.join(["lorabake", "tags", str(read.loaded.path), "--undo", str(undo)])
    return msg("to restore the old captions: `{command}`", command=command)


def choose_undo_file(read: CaptionedRecipe) -> Path:
    """A name next to the recipe that no file has yet."""
    path = read.loaded.path
    number = next(n for n in count(1) if not exists(path.with_name(f"{path.stem}.undo-{n}.json")))
    return path.with_name(f"{path.stem}.undo-{number}.json")


def write_undo_file(undo: Path, files: Sequence[EditedFile], read: CaptionedRecipe) -> None:
    """Raises MachineError, ResourceError."""
    entries = [
        UndoEntry(
            file=_name_in_undo_file(each.file, read),
            before=each.before.decode(),
            before_sha256=hash_bytes(each.before),
            after_sha256=hash_bytes(each.after),
        )
        for each in files
    ]
    try:
        replace_bytes(undo, UndoFile(files=tuple(entries)).model_dump_json(indent=1).encode() + b"\n")
    except OSError as error:
        raise disk_error(error, msg("cannot write {path}: {why}", path=undo, why=reason(error))) from error


def _name_in_undo_file(file: CaptionFile, read: CaptionedRecipe) -> str:
    return escape_undecodable(relative_name(file.path, read.loaded.folder))


def write_edited_file(edited: EditedFile, read: CaptionedRecipe) -> None:
    """Replace one file. Raises MachineError if it has changed meanwhile or cannot be written, ResourceError."""
    _replace_file(edited.file, edited.before, edited.after, relative_name(edited.file.path, read.loaded.folder))


def _replace_file(file: CaptionFile, expected: bytes, new: bytes, name: str) -> None:
    try:
        if _read_caption_file(file) != expected:
            raise MachineError(msg("{file} has changed meanwhile", file=name), msg("run the same command again"))
        replace_bytes(file.path, new, within=file.root, keep_mode=True)
    except OSError as error:
        raise disk_error(error, msg("cannot write {path}: {why}", path=name, why=reason(error))) from error


def hash_bytes(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _remove_partial_captions(files: Iterable[CaptionFile]) -> None:
    """What an edit that was killed has left next to captions."""
    names = dict[tuple[Path, Path], set[str]]()
    for file in files:
        names.setdefault((file.path.parent, file.root), set()).add(file.path.name)
    for (folder, root), those in names.items():
        remove_partial_files(folder, those, within=root)


def undo_edits(read: CaptionedRecipe, undo: Path, progress: ProgressCallback | None = None) -> CaptionEditReport:
    """Restore every file of an undo file that is not as it was; those that are missing are reported as skipped.

    Only captions of the recipe's images are written, whatever the undo file names. Raises RecipeError, before anything
    is written, if one of them is neither as the edit left it nor as it was before, and if all are missing.
    """
    known = {_name_in_undo_file(file, read): file for file in list_caption_files(read_unread_captions(read))}
    todo, changed, skipped = list[tuple[UndoEntry, bytes]](), list[str](), list[SkippedCaption]()
    entries = _read_undo_file(undo)
    for entry in entries:
        if entry.file not in known:
            there = exists(read.loaded.folder / entry.file)
            why = msg("the recipe has no image for it") if there else msg("it does not exist")
            skipped.append(SkippedCaption(file=entry.file, why=why))
            continue
        try:
            data = _read_caption_file(known[entry.file])
        except OSError as error:
            skipped.append(SkippedCaption(file=entry.file, why=reason(error)))
            continue
        if hash_bytes(data) == entry.after_sha256:
            todo.append((entry, data))
        elif hash_bytes(data) != entry.before_sha256:
            changed.append(entry.file)
    if changed:
        names = shorten_list(changed, MAX_NAMES, literal)
        said = msg("nothing was undone: captions have changed since ({n}): {names}", n=len(changed), names=names)
        raise RecipeError(said, hint=msg("undo later edits first, the last one before the others"))
    if skipped and len(skipped) == len(entries):
        names = shorten_list([each.file for each in skipped], MAX_NAMES, literal)
        raise RecipeError(
            msg("nothing was undone: captions or their images are missing ({n}): {names}", n=len(skipped), names=names)
        )
    _remove_partial_captions(known.values())
    for number, (entry, data) in enumerate(todo):
        if progress is not None:
            progress(number, len(todo))
        _replace_file(known[entry.file], data, entry.before.encode(), entry.file)
    return CaptionEditReport(
        recipe=str(read.loaded.path),
        edits=(),
        captions=len(entries),
        changes=(),
        skipped=tuple(skipped),
        written=len(todo),
        undo=str(undo),
    )


def _read_undo_file(path: Path) -> tuple[UndoEntry, ...]:
    try:
        found = UndoFile.model_validate_json(read_bytes(path)).files
    except OSError as error:
        raise MachineError(msg("cannot read {path}: {why}", path=path, why=reason(error))) from error
    except ValidationError as error:
        raise MachineError(msg("{path} is not an undo file of `lorabake tags`", path=path)) from error
    if any(hash_bytes(each.before.encode(errors="surrogatepass")) != each.before_sha256 for each in found):
        raise MachineError(msg("{path} is damaged", path=path))
    return found
