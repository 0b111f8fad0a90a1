"""The values of a OneTrainer configuration, and what becomes of each."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lorabake.exchange.convert import to_number, to_switch, to_text
from lorabake.exchange.ledger import Ledger
from lorabake.exchange.one_trainer.keys import find_newest_name, get_default
from lorabake_schemas.messages import Message, msg

if TYPE_CHECKING:
    from lorabake.exchange.foreign import Source
    from lorabake_schemas.base import OptionValue

_SAME = msg("as in sd-scripts")


class Config:
    """The values of a configuration under their newest names, with OneTrainer's defaults for those that it lacks."""

    def __init__(self, source: Source, values: dict[str, object]) -> None:
        self.source = source
        self.ledger = Ledger(values)
        is_flat = isinstance(values.get("optimizer"), str)
        self.names = {find_newest_name(key, is_flat=is_flat): key for key in values}
        self.ledger.drop_empty_and_secret()

    def has(self, name: str) -> bool:
        """Whether the source itself has it."""
        return name in self.names and self.ledger.has(self.names[name])

    def get(self, name: str) -> object:
        return self.ledger.get(self.names[name]) if self.has(name) else get_default(name)

    def text(self, name: str) -> str:
        return to_text(self.get(name)) or ""

    def name_file(self, name: str) -> tuple[str, str]:
        """The file that a key names, and the key as the source has it."""
        return self.text(name), self.names.get(name, name)

    def number(self, name: str) -> int | float | None:
        found = self.ledger.read_number(self.names[name]) if self.has(name) else None
        return to_number(get_default(name)) if found is None else found

    def switch(self, name: str) -> bool:
        return to_switch(self.get(name)) is True

    def give(
        self, option: str, value: OptionValue, *names: str, repair: Message | None = None, launch: bool = False
    ) -> None:
        """An option that comes from these keys, none of which the source has to have."""
        keys = tuple(self.names[name] for name in names if self.has(name))
        self.ledger.give(option, value, *keys, repair=repair, into=self.ledger.launch if launch else None)

    def drop(self, why: Message, *names: str) -> None:
        self.ledger.drop(why, *(self.names[name] for name in names if name in self.names))

    def same(self, *names: str) -> None:
        self.ledger.note("default", _SAME, *(self.names[name] for name in names if name in self.names))
