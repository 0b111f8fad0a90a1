"""The whole book as Markdown, and the count of what became of its rules."""

from __future__ import annotations

import json

from lorabake.analysis.explain import STATUS_LABELS, count_statuses
from lorabake.commands.output.explain import iter_entry_rows
from lorabake.commands.output.layout import TextLayout, format_table
from lorabake_schemas.guide.book import CHAPTERS, BookChapter, BookEntry, load_book
from lorabake_schemas.messages import msg

FOREWORD = """# The book of rules

What the training guide says, what sd-scripts and LyCORIS really do, and what lorabake makes of it. Ids that begin
with G are rules of the guide (GL its change log, GC the comments below it), ids that begin with S facts about
sd-scripts at the pinned commit. `lorabake explain ID` shows one of them, `lorabake explain SETTING` all that concern
a setting."""


def format_book() -> str:
    """The whole book, with a table of what became of its rules and of its parts, and a line end at the end."""
    parts = [_format_chapter(chapter) for chapter in CHAPTERS]
    return "\n\n".join([FOREWORD, _count_table(), *parts]) + "\n"


def format_status_counts(page: TextLayout) -> str:
    """How many rules of each part are implemented, advice, not yet, not applicable."""
    head = [page(msg("part")), *(page(status) for status in STATUS_LABELS.values()), page(msg("sum"))]
    body = [[chapter.heading, *_count_numbers(chapter.prefix)] for chapter in CHAPTERS]
    last = [page(msg("all")), *_count_numbers()]
    return "\n".join(format_table([head, *body, last], numbers=range(1, len(head)), indent=""))


def status_counts_to_json() -> str:
    """The same for programs: by the beginning of the ids, and in all."""
    every = count_statuses()
    whole = {status: sum(row[status] for row in every.values()) for status in STATUS_LABELS}
    parts = {prefix: dict(row) for prefix, row in every.items()}
    return json.dumps({"version": 1, "parts": parts, "all": whole, "sum": sum(whole.values())}, indent=2)


def _count_numbers(prefix: str = "") -> list[str]:
    every = count_statuses()
    chosen = [row for key, row in every.items() if not prefix or key == prefix]
    found = [sum(row[status] for row in chosen) for status in STATUS_LABELS]
    return [str(number) for number in (*found, sum(found))]


def _count_table() -> str:
    lines = [
        f"| Part | {' | '.join(STATUS_LABELS.values())} | Sum |",
        f"|---|{'---:|' * (len(STATUS_LABELS) + 1)}",
        *(
            _count_row(f"[{chapter.heading}](#{_heading_anchor(chapter)}) ({chapter.prefix})", chapter.prefix)
            for chapter in CHAPTERS
        ),
        _count_row("**All**", ""),
    ]
    return "\n".join(lines)


def _count_row(name: str, prefix: str) -> str:
    return f"| {name} | {' | '.join(_count_numbers(prefix))} |"


def _heading_anchor(chapter: BookChapter) -> str:
    """The name that Markdown viewers give a heading: lower case, blanks as hyphens, no other signs."""
    kept = "".join(sign for sign in chapter.heading.lower() if sign.isalnum() or sign in " -")
    return kept.replace(" ", "-")


def _format_chapter(chapter: BookChapter) -> str:
    entries = [_format_entry(entry) for entry in load_book() if entry.prefix == chapter.prefix]
    return "\n\n".join([f"## {chapter.heading}", *entries])


def _format_entry(entry: BookEntry) -> str:
    told = [f"- **{label}:** {_escape_markdown(words)}" for label, words in iter_entry_rows(entry)]
    return "\n".join([f"### {entry.id} {_escape_markdown(entry.title)}", "", *told])


def _escape_markdown(words: str) -> str:
    """Signs that Markdown would take for its own; an underscore inside a word is none."""
    return words.replace("*", r"\*").replace("<", r"\<")
