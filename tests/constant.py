"""Functions for ``monkeypatch.setattr`` that take any arguments."""

from __future__ import annotations

from typing import TYPE_CHECKING, NoReturn, TypeVar

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")


def must_not_be_called(*_: object, **__: object) -> NoReturn:
    pytest.fail("this must not be called")


def returning(value: T) -> Callable[..., T]:
    def same(*_: object, **__: object) -> T:
        return value

    return same
