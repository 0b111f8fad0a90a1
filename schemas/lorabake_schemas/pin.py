"""The pin: which sd-scripts, from where, with which Python packages."""

from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from lorabake_schemas.base import StrictModel, TupleOf

LockName = Literal["cuda", "cpu"]


class PackageLock(StrictModel):
    """One set of locked requirements: its file under vendor/ and the space its installation needs, in bytes.

    ``modules`` must be importable once it is installed, in addition to the pin's; the health check imports them.
    """

    file: str
    download_bytes: Annotated[int, Field(gt=0)]
    disk_bytes: Annotated[int, Field(gt=0)]
    modules: TupleOf[str] = ()


class Pin(StrictModel):
    """A commit, never a branch or a tag: those move.

    ``sparse`` contains the git sparse-checkout patterns (excluded folders start with ``!``). ``modules`` is what every
    training imports, whatever its recipe: the minimum for a user's own installation.
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
