"""The pin: which sd-scripts, from where, with which Python packages."""

from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from lorabake_schemas.base import StrictModel, TupleOf

LockName = Literal["cuda", "cpu"]


class PackageLock(StrictModel):
    """One set of locked requirements: its file under vendor/ and what installing it takes, in bytes.

    ``modules`` must be importable once it is installed, beside the pin's own; the health check imports them.
    """

    file: str
    download_bytes: Annotated[int, Field(gt=0)]
    disk_bytes: Annotated[int, Field(gt=0)]
    modules: TupleOf[str] = ()


class Pin(StrictModel):
    """A commit, never a branch or a tag: those move.

    ``sparse`` holds the git sparse-checkout patterns (left-out folders start with ``!``). ``modules`` is what every
    training imports, whatever its recipe: the least that an installation of the user's own must have.
    """

    url: str
    commit: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{40}$")]
    sparse: TupleOf[str]
    python_min: str
    python_max: str
    modules: TupleOf[str] = ()
    cuda: PackageLock
    cpu: PackageLock

    def lock(self, name: LockName) -> PackageLock:
        return self.cuda if name == "cuda" else self.cpu
