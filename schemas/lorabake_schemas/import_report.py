"""What `lorabake import` reports: what became of every key of another program's file."""

from typing import Literal

from pydantic import model_validator

from lorabake_schemas.base import EscapedText, MessageText, StrictModel, TupleOf
from lorabake_schemas.check_report import CheckReport
from lorabake_schemas.secrets import hide_secrets_in_line, is_secret

# taken: under its own name. default: left out, since lorabake does the same. off: left out, since it is empty, off or
# zero. renamed: under another name. computed: its value was converted, or several keys became one. repaired: its value
# could not be meant as it is written. dropped: it has no effect on the training, or nothing in sd-scripts does it.
# result: not a setting, but a count, a hash, a date or another result. unknown: no program that is known here has it.
KeyFate = Literal["taken", "default", "off", "renamed", "computed", "repaired", "dropped", "result", "unknown"]


class ImportedKey(StrictModel):
    """One key of the source, as it has it. ``to`` is the key of the recipe, None if there is none. ``trained`` is what
    the other program would really have trained with, where that differs from what the recipe says."""

    key: EscapedText
    value: EscapedText = ""
    fate: KeyFate
    to: EscapedText | None = None
    why: MessageText | None = None
    trained: EscapedText | None = None

    @model_validator(mode="before")
    @classmethod
    def _hide_secrets(cls, found: dict[str, object]) -> dict[str, object]:
        """Whoever makes a line need not know what is a secret."""
        key = str(found.get("key", ""))
        secret = is_secret(key) or (key.lstrip("-").rpartition(".")[2] == "token" and found.get("to") is None)
        return hide_secrets_in_line(found, secret=secret)


class ImportReport(StrictModel):
    """``format`` is the kind of the source (kohya-gui, sd-scripts ...). ``added`` are recipe keys that are not in
    the source: defaults of the other program that lorabake does not share. ``missing`` has to be filled in by hand.
    ``check`` is what `lorabake check` finds in the recipe: its errors are why the exit code is 1.
    ``version`` changes only if a reader of this one would stumble."""

    version: Literal[1] = 1
    source: EscapedText
    format: EscapedText
    faithful: bool = False
    recipe: EscapedText | None = None
    keys: TupleOf[ImportedKey]
    added: TupleOf[ImportedKey] = ()
    missing: TupleOf[ImportedKey] = ()
    check: CheckReport | None = None
