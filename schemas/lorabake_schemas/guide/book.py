"""The guide as a book: every rule and every fact in plain words, and what lorabake makes of each.

The texts are TOML files in ``book/``, one for each part. Only `lorabake explain` reads them, so that a check does not
load text that it does not show.
"""

import tomllib
from functools import cache
from importlib.resources import files
from typing import Annotated, Literal, NamedTuple

from pydantic import StringConstraints

from lorabake_schemas.base import StrictModel, TupleOf

EntryStatus = Literal["implemented", "advice", "not-applicable"]
# rule: the registry; resolve: a value of the plan; schema: the recipe's format; forecast: counted; recipes: a shipped
# recipe; scan: read from the files; compile: the compiled files; trainer: the installation; run: a run and its record;
# check: order and severities of the findings.
EntryPlace = Literal["rule", "resolve", "schema", "forecast", "recipes", "scan", "compile", "trainer", "run", "check"]
NonEmptyText = Annotated[str, StringConstraints(min_length=1)]


class BookChapter(NamedTuple):
    """A part of the book: the prefix of its ids, its file's name without ``.toml``, its heading."""

    prefix: str
    file: str
    heading: str


class BookEntry(StrictModel):
    """One rule of the guide (G, GL its change log, GC its comments) or one fact about sd-scripts (S).

    ``guide`` is the guide's advice, empty for a fact. ``truth`` is what sd-scripts or LyCORIS does beyond it or
    contrary to it. ``options`` are sd-scripts options and recipe keys (with a dot); ``about`` the optimizers,
    algorithms, families and kinds that it concerns; ``lines`` the lines of the guide's text. ``action`` is what a tool
    can do about it: D default, E error, W warning, H hint, F fix, C computed value, P preset, X text only.

    ``where`` lists the places that implement it. ``under`` is the id that implements it, if that is a different one.
    ``reason`` is why it is not implemented and what that would need, or what is still missing.
    """

    id: Annotated[str, StringConstraints(pattern=r"^(G\d+|GL|GC)\.\d+$|^S\d+$")]
    title: NonEmptyText
    lines: str = ""
    action: Annotated[str, StringConstraints(pattern=r"^[DEWHFCPX]*$")]
    guide: str = ""
    truth: str = ""
    value: str = ""
    unless: str = ""
    options: TupleOf[NonEmptyText] = ()
    about: TupleOf[NonEmptyText] = ()
    status: EntryStatus
    where: TupleOf[EntryPlace] = ()
    under: str = ""
    reason: str = ""

    @property
    def prefix(self) -> str:
        """The start of its id, which identifies its chapter."""
        return self.id.partition(".")[0] if self.id.startswith("G") else "S"


BookEntries = tuple[BookEntry, ...]

CHAPTERS = tuple(
    BookChapter(*each)
    for each in (
        ("G0", "part-0", "Guide, introduction"),
        ("G1", "part-1", "Guide, part 1: collecting images"),
        ("G2", "part-2", "Guide, part 2: preparing images"),
        ("G25", "part-2.5", "Guide, part 2.5: poisoned images"),
        ("G3", "part-3", "Guide, part 3: tagging"),
        ("G35", "part-3.5", "Guide, part 3.5: regularization"),
        ("G36", "part-3.6", "Guide, part 3.6: tagging examples"),
        ("G4", "part-4", "Guide, part 4: training settings"),
        ("G5", "part-5", "Guide, part 5: questions and answers"),
        ("G6", "part-6", "Guide, part 6: several concepts"),
        ("G7", "part-7", "Guide, part 7: LyCORIS algorithms"),
        ("G8", "part-8", "Guide, part 8: styles"),
        ("GL", "changelog", "Guide, change log"),
        ("GC", "comments", "Guide, comments"),
        ("S", "sd-scripts", "Facts about sd-scripts and LyCORIS"),
    )
)


def load_book() -> BookEntries:
    """Every entry, in the order of the chapters."""
    return tuple(map(_parse_entry, _read_texts()))


def find_entries(*words: str) -> BookEntries:
    """The entries that contain one of these words anywhere, in upper or lower case; only these are parsed."""
    found = (text for text in _read_texts() if any(word.lower() in text.lower() for word in words))
    return tuple(map(_parse_entry, found))


@cache
def _read_texts() -> tuple[str, ...]:
    """Each entry as TOML."""
    folder = files("lorabake_schemas.guide") / "book"
    pages = ((folder / f"{chapter.file}.toml").read_bytes().decode("utf-8") for chapter in CHAPTERS)
    return tuple(text for page in pages for text in page.split("[[entry]]\n")[1:])


@cache
def _parse_entry(text: str) -> BookEntry:
    return BookEntry.model_validate(tomllib.loads(text))
