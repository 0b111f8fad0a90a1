"""What `lorabake export` reports: the files it wrote, and what the other program cannot say."""

from typing import Literal

from pydantic import model_validator

from lorabake_schemas.base import EscapedText, MessageText, StrictModel, TupleOf
from lorabake_schemas.secrets import hide_secrets_in_line, is_secret

ExportFormat = Literal["kohya_ss", "sd-scripts"]
EXPORT_FORMATS: tuple[ExportFormat, ...] = ("kohya_ss", "sd-scripts")


class ExportedKey(StrictModel):
    """An option of sd-scripts, or a key of the recipe, and why it is reported."""

    key: EscapedText
    value: EscapedText = ""
    why: MessageText

    @model_validator(mode="before")
    @classmethod
    def _hide_secrets(cls, found: dict[str, object]) -> dict[str, object]:
        """Whoever makes a line need not know what is a secret."""
        return hide_secrets_in_line(found, secret=is_secret(str(found.get("key", ""))))


class ExportReport(StrictModel):
    """``command`` starts the training in ``folder``. ``carried`` are options that are passed on as text, ``chosen``
    those that this machine decided and the recipe could, ``lost`` what the export does not have. ``version`` changes
    only if a reader of this one would stumble."""

    version: Literal[1] = 1
    source: EscapedText
    format: ExportFormat
    folder: EscapedText
    files: TupleOf[EscapedText]
    command: TupleOf[EscapedText] = ()
    carried: TupleOf[ExportedKey] = ()
    chosen: TupleOf[ExportedKey] = ()
    lost: TupleOf[ExportedKey] = ()
