"""A finding: one remark on a recipe, a dataset or a machine."""

from enum import StrEnum

from lorabake_schemas.base import EscapedText, MessageText, StrictModel, TupleOf
from lorabake_schemas.messages import msg


class Severity(StrEnum):
    """How bad it is.

    error: sd-scripts would stop, or the recipe contradicts itself. warning: likely not what is wanted, or without
    effect. hint: worth knowing.
    """

    ERROR = "error"
    WARNING = "warning"
    HINT = "hint"


SEVERITY_LABELS = {Severity.ERROR: msg("error"), Severity.WARNING: msg("warning"), Severity.HINT: msg("hint")}


class Finding(StrictModel):
    """``rule`` is a rule id (G4.52, S27) or the code of a shape error (unknown-key, wrong-type ...).

    ``where`` is the key path in the recipe (strings and list indices); ``file`` a file of the dataset or the
    machine, when the finding is about that. ``line`` and ``column`` count from 1 in the recipe and are filled
    in when the finding is reported. ``paste`` are lines of TOML that may be pasted into the recipe as they are.
    """

    rule: str
    severity: Severity
    where: TupleOf[str | int] = ()
    file: EscapedText | None = None
    line: int | None = None
    column: int | None = None
    message: MessageText
    fix: MessageText
    paste: TupleOf[EscapedText] = ()

    @property
    def key(self) -> str:
        """The key path as programs write it, counted from 0: ``concept[0].images``."""
        text = ""
        for part in self.where:
            text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else str(part)
        return text
