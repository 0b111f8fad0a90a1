"""A finding: one remark on a recipe, a dataset or a machine."""

from enum import StrEnum
from typing import Annotated

from pydantic import BeforeValidator

from lorabake_schemas.base import Many, StrictModel


def _legible(text: object) -> object:
    """A file name's bytes that are no UTF-8 become ``\\udcff``: a finding can always be printed and recorded."""
    return text.encode("utf-8", "backslashreplace").decode() if isinstance(text, str) else text


Words = Annotated[str, BeforeValidator(_legible)]


class Severity(StrEnum):
    """How bad it is.

    error: sd-scripts would stop, or train something other than what was asked, in silence.
    warning: the guide advises against it. hint: worth knowing.
    """

    ERROR = "error"
    WARNING = "warning"
    HINT = "hint"


class Finding(StrictModel):
    """``rule`` is a rule id (G4.52, S27) or the code of a shape error (unknown-key, wrong-type ...).

    ``where`` is the key path in the recipe (strings and list indices); ``file`` a file of the dataset or the
    machine, when the finding is about that. ``line`` and ``column`` count from 1 in the recipe and are filled
    in when the finding is reported.
    """

    rule: str
    severity: Severity
    where: Many[str | int] = ()
    file: Words | None = None
    line: int | None = None
    column: int | None = None
    message: Words
    fix: Words

    @property
    def key(self) -> str:
        """The key path as a person writes it: ``concept[0].images``."""
        text = ""
        for part in self.where:
            text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else str(part)
        return text


__all__ = ["Finding", "Severity"]
