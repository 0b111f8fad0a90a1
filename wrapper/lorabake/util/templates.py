"""From a recorded English sentence back to its message: a record and a plan keep the text, not its template."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from string import Formatter

from lorabake_schemas.messages import Message, join_list, literal

MIN_LETTERS = 4  # of a template; "{a}: {b}" would match anything
MIN_NESTED_WORDS = 3  # what is filled in may be a sentence itself from here on; less is a name
MAX_UNKNOWN_WORDS = 4  # more of them in a gap are a sentence that this template would leave in English
STEP_SEPARATOR, MAX_STEPS = "; ", 8  # of a cure
MAX_LENGTH, MAX_DEPTH = 2000, 4  # of a text, and of sentences in it: a record may come from a stranger


@dataclass(frozen=True, slots=True)
class Template:
    """``pieces`` are the texts between the gaps, one more than there are ``fields`` (name and format of each).

    ``number``: 1, or 2 for the plural's form.
    """

    text: str
    plural: str
    number: int
    pieces: tuple[str, ...]
    fields: tuple[tuple[str, str], ...]

    @property
    def letters(self) -> int:
        return sum(map(str.isalpha, "".join(self.pieces)))

    def match(self, text: str) -> dict[str, str | int | float] | None:
        """What is filled into the gaps; None for a text of another template. Each gap is as short as possible."""
        first, *others = self.pieces
        if not text.startswith(first) or not text.endswith(self.pieces[-1]):
            return None
        filled: dict[str, str | int | float] = {}
        at = len(first)
        for number, (piece, (name, how)) in enumerate(zip(others, self.fields, strict=True)):
            end = text.find(piece, at) if number < len(others) - 1 else len(text) - len(piece)
            if end < at:
                return None
            value = text[at:end]
            found = _read_number(value) if how or name == "n" else value
            if found is None or filled.setdefault(name, found) != found:
                return None
            at = end + len(piece)
        return filled if at == len(text) else None


def _read_number(text: str) -> int | float | None:
    plain = text.replace(",", "")
    try:
        if plain.endswith("%"):
            return float(plain[:-1]) / 100
        return float(plain) if set(plain) - set("-0123456789") else int(plain)
    except ValueError:
        return None


@cache
def read_templates(catalogue: bytes) -> tuple[Template, ...]:
    """The English templates of a compiled catalogue (.mo, as msgfmt and pybabel write it), the longest first."""
    found = [template for key in _read_keys(catalogue) for template in _make_templates(key)]
    return tuple(sorted((each for each in found if each.letters >= MIN_LETTERS), key=lambda each: -each.letters))


def _read_keys(catalogue: bytes) -> Iterator[str]:
    """The header is a magic number, a version, how many keys there are, and where their lengths and offsets start."""
    _, _, count, start = struct.unpack_from("<4I", catalogue)
    for number in range(count):
        length, offset = struct.unpack_from("<2I", catalogue, start + 8 * number)
        yield catalogue[offset : offset + length].decode()


def _make_templates(key: str) -> Iterator[Template]:
    """One of a message, two of a message with a plural, which has both forms as its key."""
    one, _, many = key.partition("\0")
    for number, form in enumerate((one, many) if many else (one,), start=1):
        pieces, fields = [""], list[tuple[str, str]]()
        for text, name, how, _ in Formatter().parse(form):
            pieces[-1] += text
            if name is not None:
                fields.append((name, how or ""))
                pieces.append("")
        yield Template(one, many, number, tuple(pieces), tuple(fields))


def recover_message(text: str, templates: Sequence[Template]) -> Message:
    """The message of a recorded text, found by the template with the most letters; the text as it is if none fits. The
    steps of a cure are recorded in one text, with semicolons between them.
    """
    found = _find_message(text, templates, MAX_DEPTH)
    steps = text.split(STEP_SEPARATOR, MAX_STEPS) if found is None else []
    return found or (join_list(_recover_steps(steps, templates), STEP_SEPARATOR) if len(steps) > 1 else literal(text))


def _recover_steps(steps: Sequence[str], templates: Sequence[Template]) -> Iterator[Message]:
    """Each step's message; one may have semicolons itself."""
    at = 0
    while at < len(steps):
        for end in range(len(steps), at, -1):
            text = STEP_SEPARATOR.join(steps[at:end])
            if (found := _find_message(text, templates, MAX_DEPTH)) is not None or end == at + 1:
                yield found or literal(text)
                at = end
                break


def _find_message(text: str, templates: Sequence[Template], depth: int) -> Message | None:
    if not depth or len(text) > MAX_LENGTH:
        return None
    for template in templates:
        filled = template.match(text)
        nested = filled and {name: _recover_value(value, templates, depth - 1) for name, value in filled.items()}
        if nested is None or any(map(_is_foreign_sentence, nested.values())):
            continue
        number = nested.get("n", template.number)
        count = number if isinstance(number, int) else template.number
        if not template.plural or (count == 1) is (template.number == 1):
            return Message(template.text, nested, plural=template.plural, number=count)
    return None


def _recover_value(value: str | float, templates: Sequence[Template], depth: int) -> str | float:
    found = isinstance(value, str) and len(value.split()) >= MIN_NESTED_WORDS and _find_message(value, templates, depth)
    return found or value


def _is_foreign_sentence(value: str | float) -> bool:
    return isinstance(value, str) and not isinstance(value, Message) and len(value.split()) > MAX_UNKNOWN_WORDS
