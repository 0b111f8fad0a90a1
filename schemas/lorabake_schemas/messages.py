"""Messages that remember how they were made, so that they can be translated.

``msg`` and ``nmsg`` give an ordinary ``str`` in English; a catalogue finds its translation by the template. Only a
string literal may be the template, since pybabel extracts them from the source. What is filled in comes from recipes,
files and programs of others: ``escape_invisible`` shows what it could do to a terminal instead of doing it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from string import Formatter
from typing import Protocol, Self, TypeVar

Item = TypeVar("Item")


class Location(Protocol):
    """A path, without importing anything that reads one."""

    def __fspath__(self) -> str: ...


MessageValue = str | int | float | Location


def escape_undecodable(text: str) -> str:
    """For data: a file name's bytes that are not UTF-8 become ``\\udcff``, so that it can always be recorded."""
    return text if text.isascii() else text.encode("utf-8", "backslashreplace").decode()


# What nobody sees but a terminal, or a reader, is led by: control characters, line breaks, bidirectional and zero-width
# marks, half surrogate pairs, noncharacters, and the tags that repeat ASCII invisibly.
INVISIBLE_CHARACTERS = (
    r"\x00-\x1f\x7f-\x9f\xad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\ud800-\udfff"
    r"\ufdd0-\ufdef\ufffe\uffff\U000e0000-\U000e007f"
)
ANSI_CODES = r"\x1b\[[0-9;?]*[ -/]*[@-~]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)"


def escape_invisible(text: str) -> str:
    """For people: text of others on one line, with what cannot be seen spelled out: ``\\n``, ``\\u202e``."""
    return text if text.isprintable() else re.sub(f"[{INVISIBLE_CHARACTERS}]", _escape_character, text)


def _escape_character(sign: re.Match[str]) -> str:
    return sign[0].encode("unicode_escape").decode()


def clean_log_line(line: str) -> str:
    """A line of a program's output for people: without its colors and links, with its tabs as blanks, visible."""
    return escape_invisible(re.sub(ANSI_CODES, "", line).expandtabs(4))


class Message(str):
    """An English sentence with its template and the values filled in."""

    __slots__ = ("filled", "number", "plural", "template")
    template: str
    plural: str
    number: int
    filled: Mapping[str, str | int | float]

    def __new__(cls, template: str, filling: Mapping[str, MessageValue], *, plural: str = "", number: int = 1) -> Self:
        filled = {name: _make_fill_value(value) for name, value in filling.items()}
        chosen = plural if plural and number != 1 else template
        self = super().__new__(cls, chosen.format(**filled))
        self.template, self.plural, self.number, self.filled = template, plural, number, filled
        return self

    def __reduce__(self) -> tuple[object, ...]:
        return _rebuild_message, (self.template, dict(self.filled), self.plural, self.number)


def _rebuild_message(template: str, filled: Mapping[str, str | int | float], plural: str, number: int) -> Message:
    return Message(template, filled, plural=plural, number=number)


def _make_fill_value(value: MessageValue) -> str | int | float:
    if isinstance(value, Message | int | float):
        return value
    return escape_invisible(value if isinstance(value, str) else value.__fspath__())


class Catalog(Protocol):
    """What ``gettext`` gives."""

    def gettext(self, message: str, /) -> str: ...

    def ngettext(self, msgid1: str, msgid2: str, n: int, /) -> str: ...


def msg(template: str, /, **filled: MessageValue) -> Message:
    """A sentence; ``{name}`` in the template is filled in, with ``str.format``'s rules."""
    return Message(template, filled)


class MessageTemplate(str):
    """A sentence of a table of data, whose gaps are filled in later."""

    __slots__ = ()

    @property
    def gaps(self) -> frozenset[str]:
        """The names of what has to be filled in."""
        return frozenset(name for _, name, _, _ in Formatter().parse(self) if name)

    def fill(self, values: Mapping[str, MessageValue]) -> Message:
        """The sentence with its gaps filled in. Raises KeyError for a value that is missing."""
        return Message(str(self), {name: values[name] for _, name, _, _ in Formatter().parse(self) if name})


def template(words: str, /) -> MessageTemplate:
    """A sentence for a table of data: a string literal, so that it can be extracted for translation as ``msg``'s."""
    return MessageTemplate(words)


def nmsg(number: int, one: str, many: str, /, **filled: MessageValue) -> Message:
    """A sentence about a number of things, ``{n}``: ``one`` if there is one, else ``many``."""
    return Message(one, {"n": number} | filled, plural=many, number=number)


def literal(text: str) -> Message:
    """Text of another program, such as pip or the system, or a name: the same in every language, made visible."""
    return text if isinstance(text, Message) else Message("{text}", {"text": text})


class RecordedMessage(Message):
    """An English sentence from a record or a plan, which keep no template. A catalogue may find it again."""

    __slots__ = ()

    def __new__(cls, text: str) -> Self:
        return super().__new__(cls, "{text}", {"text": text})


def join_list(parts: Iterable[str], between: str = ", ") -> Message:
    """A list of terms; each of them is translated separately."""
    numbered = {f"part{number}": part for number, part in enumerate(parts)}
    return Message(between.join(f"{{{name}}}" for name in numbered), numbered)


class ShortenedList(Message):
    """The first items of a list and how many more there are. ``make_complete`` gives all of them."""

    __slots__ = ("make_complete",)
    make_complete: Callable[[], Message]


def shorten_list(items: Sequence[Item], most: int, words: Callable[[Item], str]) -> Message:
    """At most the first ``most`` items, and how many more there are; only what is shown is formatted."""
    shown, more = join_list(map(words, items[:most])), len(items) - most
    if more <= 0:
        return shown
    said = msg("{names} and {n} more", names=shown, n=more)
    shortened = ShortenedList(said.template, said.filled)
    shortened.make_complete = lambda: join_list(map(words, items))
    return shortened


def is_shortened(text: str) -> bool:
    """Whether a shortened list is in a message."""
    if not isinstance(text, Message):
        return False
    return isinstance(text, ShortenedList) or any(
        isinstance(value, str) and is_shortened(value) for value in text.filled.values()
    )


def complete_lists(text: str) -> str:
    """The same message with every list complete."""
    if not isinstance(text, Message) or not is_shortened(text):
        return text
    if isinstance(text, ShortenedList):
        return text.make_complete()
    filled = {name: complete_lists(value) if isinstance(value, str) else value for name, value in text.filled.items()}
    return _rebuild_message(text.template, filled, text.plural, text.number)


class _CommaNumber:
    """A number as ``1.234,5``, where the template gives it decimals or thousands; else as in a recipe, ``0.5``."""

    def __init__(self, value: float) -> None:
        self.value = value

    def __format__(self, how: str) -> str:
        text = format(self.value, how)
        return text.translate(str.maketrans(".,", ",.")) if how.endswith(("f", ",")) else text


def translate(
    words: str,
    catalogue: Catalog,
    *,
    decimal_comma: bool = False,
    recover: Callable[[str], Message] = literal,
) -> str:
    """The sentence in the catalogue's language, with what is filled in translated too; a plain ``str`` as it is.

    ``recover`` finds the message of a recorded sentence.
    """
    if isinstance(words, RecordedMessage):
        words = recover(str(words))
    if not isinstance(words, Message) or not words:  # gettext's empty message is the head of the catalogue
        return words

    def fill(value: str | float) -> str | float | _CommaNumber:
        if isinstance(value, str):
            return translate(value, catalogue, decimal_comma=decimal_comma, recover=recover)
        return _CommaNumber(value) if decimal_comma else value

    filled = {name: fill(value) for name, value in words.filled.items()}
    if words.plural:
        return catalogue.ngettext(words.template, words.plural, words.number).format(**filled)
    return catalogue.gettext(words.template).format(**filled)
