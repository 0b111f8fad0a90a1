"""A machine's place among several that train one LoRA together. It comes from the scheduler, never from the recipe."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from lorabake_schemas.base import StrictModel

Port = Annotated[int, Field(ge=1024, le=65535)]


class Seat(StrictModel):
    """``rank`` counts from 0; the first machine owns the run folder and is reached at ``address``.

    ``port`` is where the processes meet, if it is not the recipe's launch.main_process_port.
    """

    rank: int
    machines: int
    address: str
    port: Port | None = None
