"""Findings about caption files that stop sd-scripts or that it reads differently than expected (S12)."""

from __future__ import annotations

from lorabake_schemas.dataset import MAX_CAPTION_BYTES, CaptionProblem
from lorabake_schemas.findings import Severity
from lorabake_schemas.guide.registry import ERROR, HINT, WARNING
from lorabake_schemas.guide.rules.dataset import summarize_names
from lorabake_schemas.messages import Message, msg, nmsg


def describe_caption_problem(problem: CaptionProblem, files: list[str]) -> tuple[Severity, Message, Message]:
    """How bad it is, what is wrong with these caption files, and what to do."""
    n, names = len(files), summarize_names(files)
    match problem:
        case CaptionProblem.EMPTY:
            message = nmsg(
                n,
                "{n} caption is empty, and sd-scripts stops on it: {names}",
                "{n} captions are empty, and sd-scripts stops on them: {names}",
                names=names,
            )
            return (
                ERROR,
                message,
                nmsg(n, "write the caption or delete the file", "write the captions or delete the files"),
            )
        case CaptionProblem.NOT_UTF8:
            message = nmsg(
                n,
                "{n} caption is not UTF-8, and sd-scripts stops on it: {names}",
                "{n} captions are not UTF-8, and sd-scripts stops on them: {names}",
                names=names,
            )
            return ERROR, message, nmsg(n, "save it as UTF-8", "save them as UTF-8")
        case CaptionProblem.UNREADABLE:
            message = nmsg(
                n, "{n} caption cannot be read: {names}", "{n} captions cannot be read: {names}", names=names
            )
            return ERROR, message, msg("check the permissions")
        case CaptionProblem.BOM:
            message = nmsg(
                n,
                "{n} caption starts with a byte order mark, which only CLIP's tokenizer drops: {names}",
                "{n} captions start with a byte order mark, which only CLIP's tokenizer drops: {names}",
                names=names,
            )
            return HINT, message, nmsg(n, "save it as UTF-8 without BOM", "save them as UTF-8 without BOM")
        case _:
            return WARNING, *_describe_ignored_text(problem, n, names)


def _describe_ignored_text(problem: CaptionProblem, n: int, names: Message) -> tuple[Message, Message]:
    """What sd-scripts ignores silently."""
    match problem:
        case CaptionProblem.TOO_LARGE:
            message = nmsg(
                n,
                "{n} caption is larger than {size} kB, so only its beginning was checked; sd-scripts trains on its "
                "first tokens: {names}",
                "{n} captions are larger than {size} kB, so only their beginnings were checked; sd-scripts trains on "
                "their first tokens: {names}",
                names=names,
                size=MAX_CAPTION_BYTES >> 10,
            )
            return message, msg("is this another file? a caption is a line of tags, or a few sentences")
        case CaptionProblem.SPACES:
            message = nmsg(
                n,
                "{n} caption contains only spaces: {names}",
                "{n} captions contain only spaces: {names}",
                names=names,
            )
            return message, nmsg(n, "write the caption", "write the captions")
        case CaptionProblem.NO_WORDS:
            message = nmsg(
                n,
                "{n} caption has no words, and is trained as it is: {names}",
                "{n} captions have no words, and are trained as they are: {names}",
                names=names,
            )
            return message, msg(
                "write captions; if these files are for another program, such as boxes of a detector, give the "
                'captions another extension, such as caption_extension = ".caption"'
            )
        case CaptionProblem.BLANK:
            message = nmsg(
                n,
                "{n} caption has a blank first line, and only the first line is used: {names}",
                "{n} captions have a blank first line, and only the first line is used: {names}",
                names=names,
            )
            return message, msg("put everything on the first line")
        case _:
            message = nmsg(
                n,
                "{n} caption has more than one line, and only the first line is used: {names}",
                "{n} captions have more than one line, and only the first line is used: {names}",
                names=names,
            )
            return message, msg("put everything on one line")
