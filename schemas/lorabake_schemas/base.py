"""The one model every schema derives from."""

from __future__ import annotations

from typing import Annotated, TypeVar

from pydantic import BaseModel, ConfigDict, Field

T = TypeVar("T")


class StrictModel(BaseModel):
    """Frozen, no unknown keys, no silent conversion ("16" is not 16, 1 is not true; an int may stand for a float)."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


# TOML and JSON arrays arrive as lists; their elements stay under the strict rules.
Many = Annotated[tuple[T, ...], Field(strict=False)]

OptionValue = bool | int | float | str | tuple[str, ...] | tuple[float, ...] | tuple[int, ...]

__all__ = ["Many", "OptionValue", "StrictModel"]
