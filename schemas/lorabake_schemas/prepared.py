"""What `lorabake prepare` makes: the manifest of the new folder, and what the command prints."""

from typing import Literal

from pydantic import Field

from lorabake_schemas.base import EscapedText, MessageText, StrictModel, TupleOf
from lorabake_schemas.machine import Family

PreparedKind = Literal["image", "mask", "caption", "metadata", "recipe"]
# What is done to a file. Of an image: first-frame of an animation; eight-bit from 16 or 32 bits; rgb from CMYK or
# another color space; srgb: a color profile with more colors was applied; background in place of transparent parts;
# opaque: an alpha channel without effect is dropped; converted: another file format. Of a caption: utf-8, one-line,
# token-first, background-tag, without-sheet-tags, and encoding-guessed: nothing shows it; invalid-characters: they
# were removed; adopted: it was another file's name. Of a mask: white, for an image without one. extension and renamed:
# only the name differs.
PreparedStep = Literal[
    "first-frame", "rotated", "eight-bit", "rgb", "srgb", "cropped", "background", "opaque", "reduced", "enlarged",
    "upscaled", "resized", "converted", "extension", "renamed", "utf-8", "encoding-guessed", "invalid-characters",
    "one-line", "token-first", "adopted", "background-tag", "without-sheet-tags", "own-text",
    "white",
]  # fmt: skip
# Why a file of the dataset is not in the new folder.
LeftOutReason = Literal[
    "unreadable", "duplicate", "cropped", "empty-caption", "wordless-caption", "unused-caption", "unread-caption",
    "unused-mask", "conditioning", "cache", "hidden", "subfolder", "unlisted",
]  # fmt: skip


class PreparedFile(StrictModel):
    """A file of the new folder: ``path`` below it, ``source`` the file it was made from. ``steps`` is empty for an
    exact copy; width and height are those of the result."""

    kind: PreparedKind
    path: EscapedText
    source: EscapedText
    source_sha256: str
    sha256: str
    size: int
    steps: TupleOf[PreparedStep] = ()
    width: int | None = None
    height: int | None = None


class LeftOutFile(StrictModel):
    """A file of the dataset that is not in the new folder. ``detail`` is the problem of an unreadable one, or the file
    that a duplicate equals."""

    source: EscapedText
    reason: LeftOutReason
    detail: MessageText | None = None


class PreparedImage(StrictModel):
    """An image of the dataset and what was made of it: the image, its mask, its caption. ``path`` is that of the image
    below the new folder, whether it could be made or not. ``job`` is a digest of what was to be done: the same one
    again gives the same files from the same sources. ``color`` is the background that it got."""

    path: EscapedText
    job: str
    files: TupleOf[PreparedFile] = ()
    left_out: TupleOf[LeftOutFile] = ()
    color: str | None = None


class StepCount(StrictModel):
    """How many files a step is for. ``sources`` are these files where somebody should look at the result."""

    kind: PreparedKind
    step: PreparedStep
    files: int
    sources: TupleOf[EscapedText] = ()


class ReasonCount(StrictModel):
    """How many files are left out for a reason."""

    reason: LeftOutReason
    files: int


class PreparedSet(StrictModel):
    """The manifest, ``prepared.json``. ``recipe`` is the one that was prepared; there is no time in it, so that the
    same dataset gives the same manifest."""

    version: Literal[1] = 1
    lorabake: str
    recipe: EscapedText
    recipe_sha256: str
    images: TupleOf[PreparedImage]
    files: TupleOf[PreparedFile] = ()
    left_out: TupleOf[LeftOutFile] = ()


class PrepareReport(StrictModel):
    """What `lorabake prepare` prints. Before anything is made (``dry_run``) the counts are those of the plan.

    ``copied`` images are exact copies. ``changed`` is false if there was nothing to do. ``kept`` were already there
    from an earlier start; ``edited`` files have been changed since and stay so; ``removed`` is what an earlier
    start had made and this one does not: ``removed_files``. Of those, ``left_files`` have been changed since, and
    stay.
    ``estimated_bytes`` is what the new folder may take. ``family`` and ``resolutions`` are what the sizes are made for;
    ``blurred`` are images enlarged more than twice without weights, and how many times. ``errors`` and ``warnings``
    are those of `lorabake check` for the new recipe.
    """

    version: Literal[1] = 1
    dry_run: bool
    recipe: EscapedText
    folder: EscapedText
    images: int
    copied: int
    steps: TupleOf[StepCount] = ()
    reasons: TupleOf[ReasonCount] = ()
    left_out: TupleOf[LeftOutFile] = ()
    estimated_bytes: int
    family: Family | None = None
    resolutions: TupleOf[tuple[int, int]] = ()
    blurred: dict[str, float] = Field(default_factory=dict[str, float])
    changed: bool = True
    made: int = 0
    kept: int = 0
    removed: int = 0
    removed_files: TupleOf[EscapedText] = ()
    left_files: TupleOf[EscapedText] = ()
    edited: TupleOf[EscapedText] = ()
    new_recipe: EscapedText | None = None
    manifest: EscapedText | None = None
    errors: int | None = None
    warnings: int | None = None
