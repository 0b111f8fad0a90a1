"""How much a run will write on each disk and into one file, and how much it may."""

from dataclasses import dataclass

from lorabake_schemas.messages import Message, msg

RAISE_FILE_LIMIT = msg("run `ulimit -f unlimited` in this shell, then start again")


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


@dataclass(frozen=True, slots=True)
class FileLimit:
    """Bytes that one file may have at most (`ulimit -f`), and that the largest file of a run will have at least."""

    allowed: int
    needed: int

    def describe(self) -> Message:
        return msg(
            "the run saves files of at least {n:.1f} MB, but this shell allows only {allowed:.1f} MB (`ulimit -f`)",
            n=self.needed / 1e6, allowed=self.allowed / 1e6,
        )  # fmt: skip
