"""The pin: which sd-scripts, from where, with which Python packages."""

from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from lorabake_schemas.base import Many, StrictModel

LockName = Literal["cuda", "cpu"]


class Lock(StrictModel):
    """One set of locked requirements: its file under vendor/ and what installing it takes, in bytes.

    ``modules`` must be importable once it is installed, beside the pin's own; the health check imports them.
    """

    file: str
    download_bytes: Annotated[int, Field(gt=0)]
    disk_bytes: Annotated[int, Field(gt=0)]
    modules: Many[str] = ()


class Pin(StrictModel):
    """A commit, never a branch or a tag: those move.

    ``sparse`` holds the git sparse-checkout patterns (left-out folders start with ``!``). ``modules`` is what every
    training imports, whatever its recipe: the least that an installation of the user's own must have.
    """

    url: str
    commit: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{40}$")]
    sparse: Many[str]
    python_min: str
    python_max: str
    modules: Many[str] = ()
    cuda: Lock
    cpu: Lock

    def lock(self, name: LockName) -> Lock:
        return self.cuda if name == "cuda" else self.cpu


__all__ = ["Lock", "LockName", "Pin"]
