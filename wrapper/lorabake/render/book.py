"""The whole book as Markdown, and the count of what became of its rules."""

from __future__ import annotations

import json

from lorabake.explain import STATUSES, counts
from lorabake.render.explain import rows
from lorabake.render.page import Page, table
from lorabake_schemas.guide.book import CHAPTERS, Chapter, Entry, book
from lorabake_schemas.words import say

FOREWORD = """# The book of rules

What the training guide says, what sd-scripts and LyCORIS really do, and what lorabake makes of it. Ids that begin
with G are rules of the guide (GL its change log, GC the comments below it), ids that begin with S facts about
sd-scripts at the pinned commit. `lorabake explain ID` shows one of them, `lorabake explain SETTING` all that concern
a setting."""


def markdown() -> str:
    """The whole book, with a table of what became of its rules and of its parts, and a line end at the end."""
    parts = [_chapter(chapter) for chapter in CHAPTERS]
    return "\n\n".join([FOREWORD, _table(), *parts]) + "\n"


def counts_text(page: Page) -> str:
    """How many rules of each part are implemented, advice, not yet, not applicable."""
    head = [page(say("part")), *(page(status) for status in STATUSES.values()), page(say("sum"))]
    body = [[chapter.heading, *_numbers(chapter.prefix)] for chapter in CHAPTERS]
    last = [page(say("all")), *_numbers()]
    return "\n".join(table([head, *body, last], numbers=range(1, len(head)), indent=""))


def counts_json() -> str:
    """The same for programs: by the beginning of the ids, and in all."""
    every = counts()
    whole = {status: sum(row[status] for row in every.values()) for status in STATUSES}
    parts = {prefix: dict(row) for prefix, row in every.items()}
    return json.dumps({"version": 1, "parts": parts, "all": whole, "sum": sum(whole.values())}, indent=2)


def _numbers(prefix: str = "") -> list[str]:
    every = counts()
    chosen = [row for key, row in every.items() if not prefix or key == prefix]
    found = [sum(row[status] for row in chosen) for status in STATUSES]
    return [str(number) for number in (*found, sum(found))]


def _table() -> str:
    lines = [
        f"| Part | {' | '.join(STATUSES.values())} | Sum |",
        f"|---|{'---:|' * (len(STATUSES) + 1)}",
        *(_row(f"[{chapter.heading}](#{_anchor(chapter)}) ({chapter.prefix})", chapter.prefix) for chapter in CHAPTERS),
        _row("**All**", ""),
    ]
    return "\n".join(lines)


def _row(name: str, prefix: str) -> str:
    return f"| {name} | {' | '.join(_numbers(prefix))} |"


def _anchor(chapter: Chapter) -> str:
    """The name that Markdown viewers give a heading: lower case, blanks as hyphens, no other signs."""
    kept = "".join(sign for sign in chapter.heading.lower() if sign.isalnum() or sign in " -")
    return kept.replace(" ", "-")


def _chapter(chapter: Chapter) -> str:
    entries = [_section(entry) for entry in book() if entry.prefix == chapter.prefix]
    return "\n\n".join([f"## {chapter.heading}", *entries])


def _section(entry: Entry) -> str:
    told = [f"- **{label}:** {_plain(words)}" for label, words in rows(entry)]
    return "\n".join([f"### {entry.id} {_plain(entry.title)}", "", *told])


def _plain(words: str) -> str:
    """Signs that Markdown would take for its own; an underscore inside a word is none."""
    return words.replace("*", r"\*").replace("<", r"\<")


__all__ = ["counts_json", "counts_text", "markdown"]
