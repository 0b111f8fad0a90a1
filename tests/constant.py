"""A function for ``monkeypatch.setattr`` that returns the same value whatever it is called with."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")


def returning(value: T) -> Callable[..., T]:
    def same(*_: object, **__: object) -> T:
        return value

    return same
