"""Starts the trainer's own TensorBoard over some runs, on this machine's loopback address only.

Its Python is that of an installed trainer, or of one that the command line names; a run folder may be a stranger's and
names none.
"""

from __future__ import annotations

import socket
from contextlib import closing, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from lorabake.errors import BusyError, MachineError, SetupError
from lorabake.trainer.environment import find_recorded_trainer
from lorabake.trainer.install import list_trainers
from lorabake.util.environment import make_child_env
from lorabake.util.files import is_folder, read_bytes
from lorabake.util.paths import lorabake_home
from lorabake.util.process import Command, SupervisionOptions, supervise
from lorabake_schemas.messages import Message, clean_log_line, literal, msg

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from lorabake.runs.index import FoundRun

HOST, DEFAULT_PORT = "127.0.0.1", 6006
POLL_S = 0.2
PACKAGE = "tensorboard"


def find_tensorboard(runs: Sequence[FoundRun], env: Mapping[str, str], given: tuple[Path, Path] | None = None) -> Path:
    """The Python that has TensorBoard: that of a run's trainer where it is installed, else of any installed trainer.

    ``given`` are the sd-scripts folder and the Python that the command line names. Raises SetupError.
    """
    if given is not None:
        return given[1]
    recorded = (find_recorded_trainer(run.record.trainer, env) for run in runs)
    installed = [*filter(None, recorded), *list_trainers(lorabake_home(env))]
    if not installed:
        said = msg("no trainer is installed, and TensorBoard comes with it")
        raise SetupError(said, msg("run `lorabake trainer install`, or pass --sd-scripts and --python"))
    for trainer in installed:
        if PACKAGE in trainer.versions:
            return trainer.python
    raise SetupError(msg("the trainer in {folder} has no TensorBoard", folder=installed[0].checkout.parent))


def choose_port(wanted: int | None) -> int:
    """``wanted`` if it is free, else the usual one, else any. Raises BusyError where ``wanted`` is taken."""
    for port in (DEFAULT_PORT, 0) if wanted is None else (wanted,):
        with closing(socket.socket(socket.AF_INET, socket.SOCK_STREAM)) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            with suppress(OSError):
                probe.bind((HOST, port))
                return int(probe.getsockname()[1])
    raise BusyError(msg("port {port} is taken", port=str(wanted)), msg("pass another one with --port"))


def serve_tensorboard(
    runs: Sequence[FoundRun], python: Path, port: int, env: Mapping[str, str], ready: Callable[[str], object]
) -> None:
    """Run it until somebody stops it; ``ready`` is called with its URL as soon as it answers.

    Raises MachineError if no run has anything to show, SetupError if TensorBoard ends by itself.
    """
    with TemporaryDirectory(prefix="lorabake-tensorboard-") as folder:
        shown, log = Path(folder, "runs"), Path(folder, "log")
        if not _link_runs(runs, shown):
            raise MachineError(msg("none of these runs has anything for TensorBoard"))
        options = ("--logdir", str(shown), "--host", HOST, "--port", str(port), "--reload_interval", "5")
        child = make_child_env(
            env, drop=("PYTHON", "VIRTUAL_ENV"), PYTHONSAFEPATH="1", PYTHONDONTWRITEBYTECODE="1", PYTHONUNBUFFERED="1"
        )
        command = Command((str(python), "-m", "tensorboard.main", *options), Path(folder), child)
        with supervise(command, SupervisionOptions(log=log, interrupt_s=2.0, terminate_s=2.0)) as running:
            told = False
            while not running.wait(POLL_S):
                if not told and _answers(port):
                    told = True
                    ready(f"http://{HOST}:{port}/")
            if running.stopped_by is None:
                raise SetupError(msg("TensorBoard ended: {why}", why=_last_line(log)))


def _link_runs(runs: Sequence[FoundRun], shown: Path) -> int:
    """A folder with a link for each run, by the name that TensorBoard is to show. How many there are."""
    shown.mkdir()
    names: set[str] = set()
    for run in runs:
        if not is_folder(run.paths.tensorboard) or run.paths.tensorboard.is_symlink():
            continue
        name = run.root.absolute().name
        while name in names:
            name += "+"
        names.add(name)
        (shown / name).symlink_to(run.paths.tensorboard.absolute(), target_is_directory=True)
    return len(names)


def _answers(port: int) -> bool:
    with suppress(OSError), closing(socket.create_connection((HOST, port), POLL_S)):
        return True
    return False


def _last_line(log: Path) -> Message:
    with suppress(OSError):
        lines = read_bytes(log).decode("utf-8", "replace").split("\n")
        return literal(next((clean_log_line(line) for line in reversed(lines) if line.strip()), "?"))
    return literal("?")
