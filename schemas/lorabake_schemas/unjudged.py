"""The unknown parts of a faulty recipe: reading one ends the rule, so that a mistake is not reported twice.

A recipe with a wrong key is judged without it. A rule that reads the key cannot know what was meant and reports
nothing; every other rule runs.
"""

from collections.abc import Callable
from typing import Any, NoReturn, TypeVar

T = TypeVar("T")


class InvalidKeyError(Exception):
    """A part of a recipe was read that is wrong or missing."""


class UnknownFacts:
    """In place of facts that are unknown because the key that names them is wrong."""

    def __getattr__(self, name: str) -> NoReturn:
        raise InvalidKeyError(name)


UNKNOWN: Any = UnknownFacts()


class PartialTable(dict[str, T]):
    """A table some of whose values are wrong: they are not in it, and asking for one ends the question."""

    def __init__(self, table: dict[str, T], wrong: frozenset[str]) -> None:
        super().__init__(table)
        self.wrong = wrong

    def __contains__(self, name: object) -> bool:
        if name in self.wrong:
            raise InvalidKeyError(name)
        return super().__contains__(name)

    def get(self, name: str, default: Any = None) -> Any:
        if name in self.wrong:
            raise InvalidKeyError(name)
        return super().get(name, default)


def evaluate_or_none(question: Callable[[], T]) -> T | None:
    """The answer, None where a part that it needs is wrong."""
    try:
        return question()
    except InvalidKeyError:
        return None
