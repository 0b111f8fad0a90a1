"""How much a run will write on each disk, and how much space is free."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class DiskSpace:
    """Bytes that a run keeps at the same time, at least and at most."""

    least: int = 0
    most: int = 0

    def __add__(self, other: "DiskSpace") -> "DiskSpace":
        return DiskSpace(self.least + other.least, self.most + other.most)


@dataclass(frozen=True, slots=True)
class DiskNeed:
    """One file system: ``folder`` is one on it as people know it, ``where`` the recipe's key for it."""

    where: tuple[str | int, ...]
    folder: str
    room: DiskSpace
    free: int

    @property
    def is_too_small(self) -> bool:
        """Certainly."""
        return self.room.least > self.free

    @property
    def is_tight(self) -> bool:
        """Probably too small."""
        return self.room.most > self.free
