"""The book of rules for people: what concerns a topic as text for a terminal, or the whole book as Markdown."""

from __future__ import annotations

import difflib
import textwrap
from collections import Counter
from collections.abc import Iterable, Mapping
from functools import cache
from types import MappingProxyType

from lorabake.errors import RecipeError
from lorabake_schemas.guide.book import CHAPTERS, Chapter, Entries, Entry, Place, Status, book
from lorabake_schemas.vocabulary import ADAM, OPTIMIZERS, OTHER_WORDS, is_adaptive

SHORTEST_WIDTH = 40
LABEL = 12
SHORTEST_WORD = 3
STATUSES: Mapping[Status, str] = MappingProxyType(
    {"implemented": "Implemented", "advice": "Advice only", "not-yet": "Not yet", "not-applicable": "Not applicable"}
)
PLACES: Mapping[Place, str] = MappingProxyType(
    {
        "rule": "told by `lorabake check`",
        "resolve": "set in the plan",
        "schema": "held to by the recipe's format",
        "forecast": "counted in the plan",
        "recipes": "done by a shipped recipe",
        "scan": "read from the files",
        "compile": "held to by the compiled files",
        "trainer": "seen to when the trainer is installed",
        "run": "seen to by every run",
        "check": "followed by `lorabake check` in order and severity",
    }
)


def find(topic: str) -> Entries:
    """What the book has on a topic, in the order of the book.

    ``topic`` in any case of letters: a rule id (G4.52, S5.min_lr), an sd-scripts option or recipe key
    (learning_rate, train.resolution, rank), an optimizer, a LyCORIS algorithm or DoRA, sdxl, or words of a title.
    Raises RecipeError with the nearest topics as hint when there is nothing.
    """
    wanted = topic.strip().lower()
    found = _by_id(wanted) or _by_key(wanted) or _by_title(wanted)
    if found:
        return found
    near = [topics()[name] for name in difflib.get_close_matches(wanted, topics(), 3, 0.6)]
    hint = f"did you mean {' or '.join(near)}?" if near else "`lorabake explain --all` shows the whole book"
    raise RecipeError(f'the book has nothing on "{topic}"', hint=hint)


@cache
def topics() -> Mapping[str, str]:
    """Everything that can be asked for, by its lower case."""
    names = [name for entry in book() for name in (entry.id, *entry.options, *entry.about)]
    names += [name.rpartition(".")[2] for name in names if not name.startswith(("G", "S"))]
    return MappingProxyType({name.lower(): name for name in (*names, *OPTIMIZERS, *OTHER_WORDS)})


def _by_id(wanted: str) -> Entries:
    """A finding's id may have a suffix where one rule of the book needed two in the registry (S5.min_lr)."""
    exact = {entry.id.lower(): entry for entry in book()}
    entry = exact.get(wanted) or exact.get(wanted.rpartition(".")[0])
    return (entry,) if entry else ()


def _by_key(wanted: str) -> Entries:
    asked = _meant(wanted)
    return tuple(entry for entry in book() if asked & _keys(entry))


def _keys(entry: Entry) -> set[str]:
    """Every name an entry answers to; a recipe key also answers to its last word alone."""
    names = {name.lower() for name in (*entry.options, *entry.about)}
    return names | {f".{name.rpartition('.')[2]}" for name in names if "." in name}


def _meant(wanted: str) -> set[str]:
    """The names that a topic stands for: train.resolution is resolution, rank is network.network_dim."""
    others = {OTHER_WORDS[wanted].lower()} if wanted in OTHER_WORDS else set[str]()
    others |= {word for word, key in OTHER_WORDS.items() if key.lower() == wanted}
    names = {wanted, *others, *_optimizer(wanted)}
    names |= {name.rpartition(".")[2] for name in names if "." in name}
    return names | {f".{name}" for name in (wanted, *others) if "." not in name}


def _optimizer(wanted: str) -> set[str]:
    """An optimizer without settings of its own in the guide stands for its kin, or for optimizers at all."""
    name = next((name for name in OPTIMIZERS if name.lower() == wanted), None)
    if name is None or any(name in entry.about for entry in book()):
        return set()
    if is_adaptive(name):
        return {"dadaptadam"}
    if name in ADAM:
        return {"adamw8bit" if name.endswith("8bit") else "adamw"}
    return {"optimizer_type"}


def _by_title(wanted: str) -> Entries:
    words = wanted.split()
    if not words or min(map(len, words)) < SHORTEST_WORD:
        return ()
    return tuple(entry for entry in book() if all(word in entry.title.lower() for word in words))


def text(entries: Iterable[Entry], width: int = 80) -> str:
    """For a terminal ``width`` characters wide (40 at least), without colour and without a line end.

    Only a name that is longer than a line sticks out.
    """
    return "\n\n".join("\n".join(_entry_lines(entry, max(width, SHORTEST_WIDTH))) for entry in entries)


def _entry_lines(entry: Entry, width: int) -> Iterable[str]:
    yield from textwrap.wrap(f"{entry.id}  {entry.title}", width)
    for label, words in (("", chapter_of(entry).heading), *_rows(entry)):
        yield from textwrap.wrap(
            words,
            width,
            initial_indent=f"  {label:{LABEL}}" if label else "  ",
            subsequent_indent=" " * (LABEL + 2 if label else 2),
            break_on_hyphens=False,
            break_long_words=False,
        )


def _rows(entry: Entry) -> Iterable[tuple[str, str]]:
    """Label and words of everything there is to say about an entry."""
    options = [name for name in entry.options if "." not in name]
    keys = [name for name in entry.options if "." in name]
    rows = (
        ("The guide", entry.guide),
        ("In fact", entry.truth),
        ("Value", entry.value),
        ("Not when", entry.unless),
        ("Option", ", ".join(options)),
        ("In a recipe", ", ".join(keys)),
        ("lorabake", _done(entry)),
    )
    return ((label, words) for label, words in rows if words)


def _done(entry: Entry) -> str:
    """What lorabake makes of it, in one sentence or two."""
    if entry.status == "implemented":
        done = ", ".join(PLACES[place] for place in entry.where) + (f" (as {entry.under})" if entry.under else "")
        return f"{done[0].upper()}{done[1:]}. {entry.reason}".strip()
    said = {"advice": "Advice for people.", "not-yet": "Not yet. It needs:", "not-applicable": "Does not apply."}
    return f"{said[entry.status]} {entry.reason}".strip()


def chapter_of(entry: Entry) -> Chapter:
    """The part of the book that an entry stands in."""
    return next(chapter for chapter in CHAPTERS if chapter.prefix == entry.prefix)


def counts() -> Mapping[str, Mapping[Status, int]]:
    """How many entries of each status every chapter has, by the beginning of its ids."""
    found = Counter((entry.prefix, entry.status) for entry in book())
    return {chapter.prefix: {status: found[chapter.prefix, status] for status in STATUSES} for chapter in CHAPTERS}


def markdown() -> str:
    """The whole book, with a table of what became of its rules, and a line end at the end."""
    parts = [_chapter(chapter) for chapter in CHAPTERS]
    return "\n\n".join([_FOREWORD, _table(), *parts]) + "\n"


_FOREWORD = """# The book of rules

What the training guide says, what sd-scripts and LyCORIS really do, and what lorabake makes of it. Ids that begin
with G are rules of the guide (GL its change log, GC the comments below it), ids that begin with S facts about
sd-scripts at the pinned commit. `lorabake explain ID` shows one of them, `lorabake explain SETTING` all that concern
a setting."""


def _table() -> str:
    table = counts()
    lines = [
        f"| Part | {' | '.join(STATUSES.values())} | Sum |",
        f"|---|{'---:|' * (len(STATUSES) + 1)}",
        *(_row(f"{chapter.heading} ({chapter.prefix})", table[chapter.prefix]) for chapter in CHAPTERS),
        _row("**All**", {status: sum(row[status] for row in table.values()) for status in STATUSES}),
    ]
    return "\n".join(lines)


def _row(name: str, row: Mapping[Status, int]) -> str:
    return f"| {name} | {' | '.join(str(row[status]) for status in STATUSES)} | {sum(row.values())} |"


def _chapter(chapter: Chapter) -> str:
    entries = [_section(entry) for entry in book() if entry.prefix == chapter.prefix]
    return "\n\n".join([f"## {chapter.heading}", *entries])


def _section(entry: Entry) -> str:
    rows = [f"- **{label}:** {_plain(words)}" for label, words in _rows(entry)]
    return "\n".join([f"### {entry.id} {_plain(entry.title)}", "", *rows])


def _plain(words: str) -> str:
    """Signs that Markdown would take for its own; an underscore inside a word is none."""
    return words.replace("*", r"\*").replace("<", r"\<")


__all__ = ["PLACES", "STATUSES", "chapter_of", "counts", "find", "markdown", "text", "topics"]
