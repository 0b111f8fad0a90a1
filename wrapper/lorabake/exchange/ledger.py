"""Accounts of a file of another program: each key ends as an option of sd-scripts or as a line of the report."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from lorabake.exchange.convert import (
    fit_dataset_key,
    fit_option,
    list_dataset_keys,
    list_script_options,
    show_value,
    to_number,
    to_switch,
    to_text,
    to_whole,
)
from lorabake.exchange.foreign import Given, Unset
from lorabake_schemas.import_report import ImportedKey, KeyFate
from lorabake_schemas.messages import Message, msg
from lorabake_schemas.secrets import is_secret

if TYPE_CHECKING:
    from lorabake_schemas.base import OptionValue

REPLACED = msg("another key sets the same option")
SECRET = msg("lorabake never copies access tokens and keys; log in with the program that needs one")
NO_NUMBER = msg("not a number, so it is left out")
NO_SWITCH = msg("not true or false, so it is left out")
NO_TEXT = msg("not text, so it is left out")
NOT_THAT_KIND = msg("not a value that sd-scripts takes here, so it is left out")


def _is_secret(key: str) -> bool:
    """A key that is never copied. No other program has its trigger word as ``token``."""
    return is_secret(key) or key.rpartition(".")[2].lower() == "token"


class Ledger:
    """The values of one source, and what became of each. ``give`` and ``note`` settle keys; ``settle_rest`` reports
    those that are left. A key that is settled twice keeps its first line.
    """

    def __init__(self, values: Mapping[str, object]) -> None:
        self.values = dict(values)
        self._open = dict.fromkeys(values)
        self.options: dict[str, Given] = {}
        self.launch: dict[str, Given] = {}
        self.lines: list[ImportedKey] = []

    def get(self, key: str) -> object:
        return self.values.get(key)

    def has(self, key: str) -> bool:
        """Whether the source has a value for the key: not missing, null or empty text."""
        return self.values.get(key) not in (None, "", [], {})

    def is_open(self, key: str) -> bool:
        """Whether the key is not settled yet."""
        return key in self._open

    def replace(self, key: str, value: object) -> None:
        """Another value for a key, or one that the source has elsewhere."""
        self.values[key] = value
        self._open.setdefault(key)

    def list_open(self, prefix: str = "") -> list[str]:
        """The keys that are not settled yet, in the order of the source."""
        return [key for key in self._open if key.startswith(prefix)]

    def settle(self, *keys: str) -> None:
        for key in keys:
            self._open.pop(key, None)

    def give(
        self,
        option: str,
        value: OptionValue,
        *keys: str,
        repair: Message | None = None,
        trained: OptionValue | Unset | None = None,
        into: dict[str, Given] | None = None,
    ) -> None:
        """An option of sd-scripts and the keys it comes from; ``into`` is the table of a dataset or of the launch."""
        self.settle(*keys)
        keys = tuple(dict.fromkeys(keys))
        each = {key: show_value(self.values.get(key)) for key in keys}
        written = each if len(keys) > 1 else next((text for text in each.values() if text != show_value(value)), None)
        given = Given(value=value, keys=keys, written=written, repair=repair, trained=trained)
        table = self.options if into is None else into
        if option in table:
            self._note_replaced(table[option], keys, option)
        table[option] = given

    def _note_replaced(self, given: Given, keys: tuple[str, ...], option: str) -> None:
        """A line for each key whose option another key sets, too: the last one counts."""
        for key in given.keys:
            if key not in keys:
                shown = show_value(self.values[key])
                self.lines.append(ImportedKey(key=key, value=shown, fate="dropped", to=option, why=REPLACED))

    def note(self, fate: KeyFate, why: Message | None, *keys: str, to: str | None = None) -> None:
        """A line of the report for each of the keys that is not settled yet."""
        for key in keys:
            if key in self._open:
                self.settle(key)
                shown = "" if _is_secret(key) else show_value(self.values[key])
                self.lines.append(ImportedKey(key=key, value=shown, fate=fate, to=to, why=why))

    def drop(self, why: Message, *keys: str) -> None:
        self.note("dropped", why, *keys)

    def drop_empty_and_secret(self) -> None:
        """Settles what says nothing, and what is never copied."""
        for key in self.list_open():
            if not self.has(key):
                self.note("off", None, key)
            elif _is_secret(key):
                self.note("dropped", SECRET, key)

    def settle_rest(self, why: Message) -> None:
        """Reports what no rule of the reader knows."""
        self.note("unknown", why, *self.list_open())

    def read_number(self, key: str) -> int | float | None:
        """The number of a key, if it has one. Any other value is reported, and gone from then on."""
        found = to_number(self.get(key))
        if found is None and self.has(key):
            self._spoil(key)
        return found

    def read_whole(self, key: str) -> int | None:
        """As ``read_number``, for a whole number."""
        found = to_whole(self.get(key))
        if found is None and self.has(key):
            self._spoil(key)
        return found

    def _spoil(self, key: str) -> None:
        self.drop(NO_NUMBER, key)
        self.values[key] = None

    def take_number(self, key: str, option: str, *, into: dict[str, Given] | None = None) -> None:
        self._take(key, option, to_number(self.get(key)), NO_NUMBER, into)

    def take_whole(self, key: str, option: str, *, into: dict[str, Given] | None = None) -> None:
        self._take(key, option, to_whole(self.get(key)), NO_NUMBER, into)

    def take_switch(self, key: str, option: str, *, into: dict[str, Given] | None = None) -> None:
        self._take(key, option, to_switch(self.get(key)), NO_SWITCH, into)

    def take_text(self, key: str, option: str, *, into: dict[str, Given] | None = None) -> None:
        self._take(key, option, to_text(self.get(key)), NO_TEXT, into)

    def take_option(self, key: str, option: str, *, into: dict[str, Given] | None = None) -> bool:
        """A value for an option of a training script; False if no script has it."""
        known = list_script_options().get(option)
        if known is None:
            return False
        self._take(key, option, fit_option(known, self.get(key)), NOT_THAT_KIND, into)
        return True

    def take_dataset_key(self, key: str, option: str, *, into: dict[str, Given]) -> bool:
        """A value for a key of the dataset file; False if it has no such key."""
        known = list_dataset_keys().get(option)
        if known is None:
            return False
        self._take(key, option, fit_dataset_key(known, self.get(key)), NOT_THAT_KIND, into)
        return True

    def _take(
        self, key: str, option: str, value: OptionValue | None, why: Message, into: dict[str, Given] | None
    ) -> None:
        if not self.has(key):
            self.note("off", None, key)
        elif value is None:
            self.drop(why, key)
        else:
            self.give(option, value, key, into=into)
