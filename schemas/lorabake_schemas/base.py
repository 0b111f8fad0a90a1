"""The one model every schema derives from."""

from collections.abc import Sequence
from typing import Annotated, TypeVar

from pydantic import BaseModel, ConfigDict, Field, PlainValidator, WithJsonSchema
from pydantic_core import PydanticCustomError

from lorabake_schemas.messages import Message, RecordedMessage, escape_undecodable

T = TypeVar("T")
Model = TypeVar("Model", bound=BaseModel)


class StrictModel(BaseModel):
    """Frozen, no unknown keys, no silent conversion ("16" is not 16, 1 is not true; an int is accepted as a float)."""

    # defer_build: a command builds the validators it uses, not all of them (a third of the cost of `lorabake check`)
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False, defer_build=True)


def parse_lenient(model: type[Model], content: bytes) -> Model:
    """Parse JSON that this or a later lorabake wrote: unknown keys are ignored at any depth.

    A model that allows extra keys keeps those at its top level. Raises ValidationError.
    """
    found = model.model_validate_json(content, extra="ignore")
    if model.model_config.get("extra") != "allow":
        return found
    return found.model_copy(update=model.model_validate_json(content, extra="allow").model_extra)


# TOML and JSON arrays arrive as lists; their elements stay under the strict rules.
TupleOf = Annotated[tuple[T, ...], Field(strict=False)]


def _parse_message(text: object) -> Message:
    parsed = _parse_text(text)
    return parsed if isinstance(parsed, Message) else RecordedMessage(parsed)


def _parse_text(text: object) -> str:
    if not isinstance(text, str):
        raise ValueError("a string is needed")  # noqa: TRY004 - pydantic wants this kind
    return text if isinstance(text, Message) else escape_undecodable(text)


# A Message stays one (pydantic's own str would make a plain str of it), so that it can be translated. Text from JSON
# has lost its template.
MessageText = Annotated[Message, PlainValidator(_parse_message), WithJsonSchema({"type": "string"})]
EscapedText = Annotated[str, PlainValidator(_parse_text), WithJsonSchema({"type": "string"})]


def check_choice(value: object, choices: Sequence[str]) -> str:
    """Check one of the names in a list that can grow, as a Literal checks its names."""
    if isinstance(value, str) and value in choices:
        return value
    raise PydanticCustomError("bad-choice", "unknown value", {"choices": tuple(choices)})


OptionValue = bool | int | float | str | tuple[str, ...] | tuple[float, ...] | tuple[int, ...]
