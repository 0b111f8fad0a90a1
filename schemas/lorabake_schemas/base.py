"""The one model every schema derives from."""

from typing import Annotated, TypeVar

from pydantic import BaseModel, ConfigDict, Field, PlainValidator, WithJsonSchema

from lorabake_schemas.words import Said, legible, quoted

T = TypeVar("T")
Model = TypeVar("Model", bound=BaseModel)


class StrictModel(BaseModel):
    """Frozen, no unknown keys, no silent conversion ("16" is not 16, 1 is not true; an int may stand for a float)."""

    # defer_build: a command builds the validators it uses, not all of them (a third of the cost of `lorabake check`)
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False, defer_build=True)


def kept(model: type[Model], content: bytes) -> Model:
    """What this or a later lorabake wrote as JSON: a key that is new is no fault, however deep it lies.

    A model that allows others has those of its own level. Raises ValidationError.
    """
    found = model.model_validate_json(content, extra="ignore")
    if model.model_config.get("extra") != "allow":
        return found
    return found.model_copy(update=model.model_validate_json(content, extra="allow").model_extra)


# TOML and JSON arrays arrive as lists; their elements stay under the strict rules.
Many = Annotated[tuple[T, ...], Field(strict=False)]


def _words(text: object) -> Said:
    return quoted(_legible(text))


def _legible(text: object) -> str:
    if not isinstance(text, str):
        raise ValueError("a string is needed")  # noqa: TRY004 - pydantic wants this kind
    return text if isinstance(text, Said) else legible(text)


# A Said stays one (pydantic's own str would make a plain str of it), so that it can be said in another language. Words
# that come back from JSON have lost their template: they stay as they are.
Words = Annotated[Said, PlainValidator(_words), WithJsonSchema({"type": "string"})]
Legible = Annotated[str, PlainValidator(_legible), WithJsonSchema({"type": "string"})]

OptionValue = bool | int | float | str | tuple[str, ...] | tuple[float, ...] | tuple[int, ...]

__all__ = ["Legible", "Many", "OptionValue", "StrictModel", "Words", "kept"]
