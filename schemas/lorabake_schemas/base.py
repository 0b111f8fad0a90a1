"""The one model every schema derives from."""

from typing import Annotated, TypeVar

from pydantic import BaseModel, ConfigDict, Field

T = TypeVar("T")


class StrictModel(BaseModel):
    """Frozen, no unknown keys, no silent conversion ("16" is not 16, 1 is not true; an int may stand for a float)."""

    # defer_build: a command builds the validators it uses, not all of them (a third of the cost of `lorabake check`)
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False, defer_build=True)


# TOML and JSON arrays arrive as lists; their elements stay under the strict rules.
Many = Annotated[tuple[T, ...], Field(strict=False)]

OptionValue = bool | int | float | str | tuple[str, ...] | tuple[float, ...] | tuple[int, ...]

__all__ = ["Many", "OptionValue", "StrictModel"]
