"""What `lorabake caption` prints: the captions that it wrote, or would write."""

from typing import Literal

from lorabake_schemas.base import EscapedText, MessageText, StrictModel, TupleOf


class WrittenCaption(StrictModel):
    """A caption: its ``image`` and its ``file``, as seen from the recipe, and its ``text``."""

    image: EscapedText
    file: EscapedText
    text: EscapedText


class FailedCaption(StrictModel):
    """An image that got no caption."""

    image: EscapedText
    why: MessageText


class CaptionReport(StrictModel):
    """``dry_run``: nothing was written; a command was then run for the first images only. ``missing`` is how many
    images were to get a caption, ``existing`` how many of them had one that was to change, ``kept`` how many had one
    that was left alone. ``unchanged`` ones had all tags already. ``untried`` is how many images the command was not
    started for after it had failed for others, ``undo`` the file that restores the changed ones. ``notes`` are about
    folders whose captions are not read from such files. ``next`` is the command to run now. ``version`` changes only if
    a reader of this one would stumble."""

    version: Literal[1] = 1
    recipe: EscapedText
    dry_run: bool
    missing: int
    existing: int = 0
    kept: int
    written: TupleOf[WrittenCaption]
    failed: TupleOf[FailedCaption]
    untried: int = 0
    unchanged: int = 0
    notes: TupleOf[MessageText]
    undo: EscapedText | None = None
    next: EscapedText
