"""How much a run will write on each disk, and how much space is free."""

from dataclasses import dataclass

from lorabake_schemas.messages import Message, msg


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

    def describe_shortage(self) -> Message:
        """What is certainly or probably missing."""
        needed, free = (self.room.least if self.is_too_small else self.room.most) / 1e9, self.free / 1e9
        if self.is_too_small:
            return msg(
                "the run needs at least {n:.1f} GB on the disk of {folder}, but only {free:.1f} GB are free",
                n=needed, folder=self.folder, free=free,
            )  # fmt: skip
        return msg(
            "the run may need {n:.1f} GB on the disk of {folder}, but only {free:.1f} GB are free",
            n=needed, folder=self.folder, free=free,
        )  # fmt: skip
