"""The one door to files of others and to run folders: bounded reads of regular files, writes that follow no link.

Everything that a person, a recipe or a run folder names is opened here. A FIFO would keep its reader waiting, a device
has no end, and a symbolic link inside a run folder could lead a write anywhere on this machine: a run folder may come
from a stranger. With ``within`` a path is walked component by component below that folder, and no link below it is
followed; the folder itself may be reached through links, since the user named it.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Callable, Collection, Generator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from stat import S_IMODE, S_ISDIR, S_ISLNK, S_ISREG
from types import MappingProxyType
from typing import Any, BinaryIO, cast

from lorabake.errors import LorabakeError, MachineError, ResourceError
from lorabake_schemas.messages import Message, literal, msg

READ_LIMIT = 256 << 20  # bytes; a list of a million images takes less
TOML_LIMIT = 16 << 20  # bytes
DISK_FULL_ERRNOS = (errno.ENOSPC, errno.EDQUOT, errno.EIO)
PERMISSION_DENIED = msg("permission denied")
ERROR_REASONS: Mapping[int, Message] = MappingProxyType(
    {
        errno.EACCES: PERMISSION_DENIED,
        errno.EDQUOT: msg("your disk quota is used up"),
        errno.EEXIST: msg("something else has this name"),
        errno.EFBIG: msg("files of this size are not allowed here"),
        errno.ENOSPC: msg("the disk is full"),
        errno.EPERM: PERMISSION_DENIED,
        errno.ELOOP: msg("it is a symbolic link loop"),
        errno.ENAMETOOLONG: msg("the name is too long"),
        errno.EIO: msg("disk read error"),
        errno.ENOENT: msg("it does not exist"),
        errno.ENOTDIR: msg("part of its path is a file, not a folder"),
        errno.EISDIR: msg("it is a folder"),
        errno.EROFS: msg("the disk is read-only"),
        errno.ESTALE: msg("it is no longer on the network drive"),
    }
)
# Windows knows neither of them; nothing is run there, and its FIFOs have no paths.
_NOFOLLOW = getattr(os, "O_NOFOLLOW", 0)
_NONBLOCK = getattr(os, "O_NONBLOCK", 0)
_DIRECTORY = getattr(os, "O_DIRECTORY", 0)
_READ_FLAGS = os.O_RDONLY | _NONBLOCK | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
_WRITE_FLAGS = os.O_WRONLY | _NONBLOCK | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)


class UnreadableError(OSError):
    """``why`` describes what the file is instead of one that can be read or written."""

    def __init__(self, why: Message, path: Path | str) -> None:
        super().__init__(errno.EINVAL, str(why), str(path))
        self.why = why


class LinkError(UnreadableError):
    """A link, or another kind of file than lorabake makes, where a run folder has a file or a folder of lorabake's."""


def reason(error: OSError) -> Message:
    """Why something could not be read."""
    if isinstance(error, UnreadableError):
        return error.why
    return ERROR_REASONS.get(error.errno or 0) or literal(error.strerror or str(error))


def open_file(path: Path | str, *, within: Path | None = None) -> BinaryIO:
    """A regular file for reading, opened without waiting. Raises OSError, UnreadableError for any other kind."""
    return cast("BinaryIO", os.fdopen(open_descriptor(path, within=within), "rb"))


def open_descriptor(path: Path | str, *, within: Path | None = None, seen: bool = False) -> int:
    """As ``open_file``, for whoever reads many small files: the caller closes it.

    ``seen``: a listing made just now has it as a regular file, so it need not be looked at before it is opened.
    """
    if within is None:
        if not seen:
            _refuse_irregular(os.stat(path), path)  # noqa: PTH116 - 100,000 calls; opening a device can act
        return _require_regular(os.open(path, _READ_FLAGS), path)
    with _open_parent(path, within) as (name, folder):
        _refuse_irregular(os.stat(name, dir_fd=folder, follow_symlinks=False), path)
        descriptor = os.open(name, _READ_FLAGS | _NOFOLLOW, dir_fd=folder)
    return _require_regular(descriptor, path)


def read_bytes(path: Path | str, limit: int | None = None, *, within: Path | None = None) -> bytes:
    """A complete file of at most ``limit`` bytes, READ_LIMIT by default. Raises OSError."""
    limit = READ_LIMIT if limit is None else limit
    with open_file(path, within=within) as file:
        found = file.read(limit + 1)
    if len(found) > limit:
        raise UnreadableError(msg("it is too large for a file of this kind"), path)
    return found


def read_text(path: Path | str, limit: int | None = None, *, within: Path | None = None) -> str:
    """Raises OSError, and UnicodeDecodeError."""
    return read_bytes(path, limit, within=within).decode("utf-8")


def parse_json(data: str | bytes) -> object:
    """Raises ValueError for whatever is not JSON, or is nested too deeply to be read."""
    try:
        return json.loads(data)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error


def read_json(path: Path | str, limit: int | None = None, *, within: Path | None = None) -> object:
    """The JSON in a file. Raises OSError, ValueError."""
    return parse_json(read_bytes(path, limit, within=within))


def read_toml(path: Path | str, limit: int = TOML_LIMIT, *, within: Path | None = None) -> dict[str, Any]:
    """The TOML in a file. Raises OSError, ValueError."""
    import tomllib  # not needed by --help

    try:
        return tomllib.loads(read_text(path, limit, within=within))
    except RecursionError as error:
        raise ValueError("nested too deeply") from error


def exists(path: Path | str) -> bool:
    """Whether the path exists; also False if that cannot be determined (see ``hidden_reason``)."""
    return os.path.exists(path)  # noqa: PTH110 - Path.exists raises where the user may not look


def is_file(path: Path | str) -> bool:
    """Whether there is a regular file, links followed; False, too, where that cannot be looked at."""
    return os.path.isfile(path)  # noqa: PTH113 - as above


def is_folder(path: Path | str) -> bool:
    """Whether there is a folder, links followed; False, too, where that cannot be looked at."""
    return os.path.isdir(path)  # noqa: PTH112 - as above


def inaccessible_reason(path: Path | str) -> Message | None:
    """Why it is unknown whether something exists: a folder on the way cannot be entered, or the name is impossible."""
    try:
        os.stat(path)  # noqa: PTH116 - as above
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        return reason(error)
    except ValueError:  # a NUL in it, or characters that no file name has
        return msg("the name contains characters that file names cannot have")
    return None


def unreadable_reason(path: Path) -> Message | None:
    """Why a file or folder that exists cannot be read; None when it can be, or does not exist."""
    try:
        if is_folder(path):
            with os.scandir(path):
                return None
        with open_file(path):
            return None
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return None
    except OSError as error:
        return reason(error)


@contextmanager
def os_errors_as_messages(path: str | Path | None = None) -> Generator[None]:
    """Turn whatever the disk refuses into MachineError, about ``path`` or about the file in the error."""
    try:
        yield
    except OSError as error:
        named = path if path is not None else str(error.filename or "")
        raise MachineError(msg("cannot read {path}: {why}", path=named, why=reason(error))) from error


def disk_error(
    error: OSError, message: Message, hint: Message | None = None, *, otherwise: type[LorabakeError] = MachineError
) -> LorabakeError:
    """The failure of a write as an error for a person: ResourceError where the disk is full.

    What is in the place of a file of lorabake's is named, whatever was to be written.
    """
    if isinstance(error, UnreadableError):
        said = msg("cannot write {path}: {why}", path=str(error.filename), why=error.why)
        return otherwise(said, msg("move it elsewhere and try again"))
    return (ResourceError if error.errno in DISK_FULL_ERRNOS else otherwise)(message, hint)


def open_append(path: Path | str, *, within: Path | None = None) -> BinaryIO:
    """A regular file to append to, unbuffered, made if it does not exist. Raises OSError."""
    return cast("BinaryIO", os.fdopen(_open_to_write(path, os.O_APPEND, within), "ab", buffering=0))


def write_bytes(path: Path | str, data: bytes, *, within: Path | None = None, durable: bool = False) -> None:
    """Write a file in its place. ``durable`` waits until the disk has it. Raises OSError."""
    with os.fdopen(_open_to_write(path, os.O_TRUNC, within), "wb") as file:
        file.write(data)
        if durable:
            file.flush()
            os.fsync(file.fileno())


def create_bytes(path: Path, data: bytes) -> None:
    """Write a new file; what cannot be written completely is removed. Raises OSError, FileExistsError."""
    descriptor = os.open(path, _WRITE_FLAGS | os.O_CREAT | os.O_EXCL | _NOFOLLOW, 0o666)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
    except BaseException:
        with suppress(OSError):
            os.unlink(path)  # noqa: PTH108 - as above
        raise


def replace_bytes(path: Path, data: bytes, *, within: Path | None = None, keep_mode: bool = False) -> None:
    """Write a file so that a reader, or a power cut, finds the old content or the new one, never a part of it.

    ``keep_mode``: with the permissions of the old one. Raises OSError.
    """

    def write(file: BinaryIO) -> None:
        file.write(data)
        if keep_mode:
            with _open_parent(path, within) as (name, folder), suppress(FileNotFoundError):
                mode = os.stat(name, dir_fd=folder, follow_symlinks=within is None).st_mode
                if hasattr(os, "fchmod"):  # not on Windows
                    os.fchmod(file.fileno(), S_IMODE(mode))

    replace_with(path, write, within=within)


def replace_with(path: Path, write: Callable[[BinaryIO], object], *, within: Path | None = None) -> None:
    """The same for what ``write`` writes.

    What is written first, ``.NAME.part``, is made new: a left-over one is removed, a link there is not followed.
    Raises OSError.
    """
    aside = path.with_name(partial_file_name(path.name))
    with _open_parent(path, within) as (name, folder):
        part = partial_file_name(name) if folder is not None else str(aside)
        with suppress(FileNotFoundError):
            os.unlink(part, dir_fd=folder)
        try:
            descriptor = os.open(part, _WRITE_FLAGS | os.O_CREAT | os.O_EXCL | _NOFOLLOW, 0o666, dir_fd=folder)
            with os.fdopen(descriptor, "wb") as file:
                write(file)
                file.flush()
                os.fsync(file.fileno())
            os.replace(part, name, src_dir_fd=folder, dst_dir_fd=folder)
        except BaseException:
            with suppress(OSError):
                os.unlink(part, dir_fd=folder)
            raise
    sync_folder(path.parent)


def remove_partial_files(folder: Path, names: Collection[str], *, within: Path) -> None:
    """Remove what is left of files of these names that were being written when a process was killed."""
    partial = set(map(partial_file_name, names))
    with suppress(OSError):
        for name in os.listdir(folder):  # noqa: PTH208 - names alone
            if name in partial:
                remove_file(folder / name, within=within)


def partial_file_name(name: str) -> str:
    """What a file is called until it is complete."""
    return f".{name}.part"


def make_folder(path: Path, *, within: Path | None = None, exist_ok: bool = True) -> None:
    """Make a folder in one that exists. Raises OSError, LinkError when a link, or no folder, is in its place."""
    with _open_parent(path, within) as (name, folder):
        try:
            os.mkdir(name, dir_fd=folder)
        except FileExistsError:
            state = os.stat(name, dir_fd=folder, follow_symlinks=within is None)
            if not exist_ok:
                raise
            if not S_ISDIR(state.st_mode):
                raise LinkError(_describe_file_type(state.st_mode), path) from None


def make_folders(path: Path, *, within: Path) -> None:
    """The same with every folder between ``within``, which must exist, and it. Raises OSError."""
    for folder in reversed([path, *path.parents[: len(path.relative_to(within).parts) - 1]]):
        make_folder(folder, within=within)


def move_file(path: Path, place: Path, *, within: Path) -> None:
    """Give a file or a folder another name below ``within``. Raises OSError."""
    with _open_parent(path, within) as (name, folder), _open_parent(place, within) as (new, there):
        os.rename(name, new, src_dir_fd=folder, dst_dir_fd=there)


def copy_file(path: Path, place: Path, *, within: Path) -> None:
    """Copy a file below ``within`` so that ``place`` is never a part of it. Raises OSError."""
    with open_file(path, within=within) as file:
        replace_with(place, lambda new: shutil.copyfileobj(file, new, 1 << 20), within=within)


def copy_into(path: Path, place: Path, *, within: Path) -> None:
    """Copy a file to a place below ``within``; on a disk that can share blocks (Btrfs, XFS), without writing them
    again. Raises OSError."""
    with open_file(path) as file, os.fdopen(_open_to_write(place, os.O_TRUNC, within), "wb") as new:
        if hasattr(os, "copy_file_range"):  # Linux only; copies what it can, from one position in both files to another
            with suppress(OSError):
                while os.copy_file_range(file.fileno(), new.fileno(), 1 << 30):
                    pass
        shutil.copyfileobj(file, new, 1 << 20)


def identify_file(path: Path, folders: dict[Path, tuple[int, int] | Path]) -> tuple[object, str]:
    """What a file's names through links to its folder have in common. ``folders`` remembers what was looked up."""
    folder = path.parent
    if folder not in folders:
        folders[folder] = get_identity(folder) or folder
    return folders[folder], path.name


def get_identity(path: Path) -> tuple[int, int] | None:
    """The numbers of a file or folder on its disk, links followed; None for one that cannot be looked at."""
    try:
        state = path.stat()
    except (OSError, ValueError):
        return None
    return state.st_dev, state.st_ino


def remove_file(path: Path, *, within: Path | None = None, missing_ok: bool = True) -> None:
    """Remove a file, or a link itself. Raises OSError."""
    with suppress(FileNotFoundError) if missing_ok else _do_nothing(), _open_parent(path, within) as (name, folder):
        os.unlink(name, dir_fd=folder)


def remove_tree(path: Path, *, within: Path | None = None) -> None:
    """Remove a folder with all that is in it, as far as it can be; links in it are removed, never followed."""
    with suppress(OSError), _open_parent(path, within) as (name, folder):
        if S_ISDIR(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode):
            shutil.rmtree(name, ignore_errors=True, dir_fd=folder)


def sync_folder(folder: Path) -> None:
    """Wait until the disk has the names in a folder, where the system knows how to."""
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _open_to_write(path: Path | str, how: int, within: Path | None) -> int:
    extra = 0 if within is None else _NOFOLLOW
    with _open_parent(path, within) as (name, folder):
        with suppress(FileNotFoundError):
            _refuse_irregular(os.stat(name, dir_fd=folder, follow_symlinks=within is None), path)
        descriptor = os.open(name, _WRITE_FLAGS | os.O_CREAT | extra | how, 0o666, dir_fd=folder)
    return _require_regular(descriptor, path)


def _require_regular(descriptor: int, path: Path | str) -> int:
    """The descriptor of a regular file: it may have become another kind since it was checked."""
    try:
        _refuse_irregular(os.fstat(descriptor), path)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _refuse_irregular(state: os.stat_result, path: Path | str) -> None:
    if not S_ISREG(state.st_mode):
        raise (LinkError if S_ISLNK(state.st_mode) else UnreadableError)(_describe_file_type(state.st_mode), path)


def _describe_file_type(mode: int) -> Message:
    if S_ISLNK(mode):
        return msg("it is a symbolic link")
    return msg("it is a folder") if S_ISDIR(mode) else msg("it is not a regular file")


@contextmanager
def _open_parent(path: Path | str, within: Path | None) -> Generator[tuple[str, int | None]]:
    """The name to use and the folder to use it in: below ``within`` a folder reached without following any link.

    Raises ValueError if the path is not below ``within``, LinkError if a link is on the way.
    """
    if within is None:
        yield str(path), None
        return
    parts = Path(path).relative_to(within).parts
    if not parts or ".." in parts:
        raise ValueError(f"{path} is not below {within}")
    if os.open not in os.supports_dir_fd:  # Windows: looked at one by one, which a race could get around
        for depth in range(1, len(parts)):
            _refuse_link(within.joinpath(*parts[:depth]))
        yield str(path), None
        return
    descriptor = os.open(within, os.O_RDONLY | _DIRECTORY)
    try:
        for depth, part in enumerate(parts[:-1], 1):
            try:
                below = os.open(part, os.O_RDONLY | _DIRECTORY | _NOFOLLOW, dir_fd=descriptor)
            except OSError as error:
                here = within.joinpath(*parts[:depth])
                if error.errno in (errno.ELOOP, errno.ENOTDIR) and here.is_symlink():
                    raise LinkError(msg("it is a symbolic link"), here) from error
                raise
            os.close(descriptor)
            descriptor = below
        yield parts[-1], descriptor
    except OSError as error:
        if isinstance(error.filename, str) and os.sep not in error.filename:  # the system has only seen its last name
            error.filename = str(path)
        raise
    finally:
        os.close(descriptor)


def _refuse_link(path: Path) -> None:
    if path.is_symlink():
        raise LinkError(msg("it is a symbolic link"), path)


@contextmanager
def _do_nothing() -> Generator[None]:
    yield
