"""How much a script may be, make and do before it is refused."""

from __future__ import annotations

from typing import NoReturn

from lorabake.errors import RecipeError
from lorabake_schemas.messages import msg

MAX_KIB = 64  # of a statement or a value, in 1024 characters
MAX_STEPS = 20_000
_MAX_SCRIPT = 1 << 20  # characters
_MAX_WORK = 8 << 20  # of which a character that is set or read is one


class Budget:
    """What a script and the texts that it runs may still do."""

    def __init__(self) -> None:
        self.steps = MAX_STEPS
        self.work = _MAX_WORK

    def take_step(self) -> None:
        self.steps -= 1
        self.spend(50)
        if self.steps < 0:
            refuse_size()

    def spend(self, work: int) -> None:
        self.work -= work
        if self.work < 0:
            refuse_size()


def get_size(value: str | list[str]) -> int:
    """In characters. Raises RecipeError above the size of a value."""
    size = len(value) if isinstance(value, str) else sum(map(len, value)) + len(value)
    check_size(size)
    return size


def check_size(size: int) -> None:
    """Raises RecipeError above the size of a value."""
    if size > MAX_KIB << 10:
        refuse_size()


def check_script(text: str) -> None:
    """Raises RecipeError above the size of a script."""
    if len(text) > _MAX_SCRIPT:
        refuse_size()


def refuse_size() -> NoReturn:
    """Raises RecipeError."""
    said = msg("the script is too long, or makes a value of more than {size} KB", size=MAX_KIB)
    raise RecipeError(said, hint=msg("write the training command with its values into a file, and import that"))
