"""Requests to stop a run, as lines of a file in its folder: so any terminal can make one, also on another host.

The supervisor reads them while its trainer runs. One that nobody reads, such as in a copied folder, has no effect.
"""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, get_args

from lorabake.runs.events import format_timestamp, parse_event, utc_now
from lorabake.util.files import open_append, open_file, remove_file
from lorabake_schemas.events import Epoch, Saving, Step

if TYPE_CHECKING:
    from collections.abc import Iterable

    from lorabake.runs.folder import RunPaths
    from lorabake_schemas.events import ProgressEvent

StopMode = Literal["soon", "now", "after-save", "after-epoch"]
MODES: dict[object, StopMode] = {mode: mode for mode in get_args(StopMode)}
LATER_MODES = frozenset({"after-save", "after-epoch"})
MAX_REQUEST_BYTES = 1 << 16  # bytes of the file that are read


def request_stop(paths: RunPaths, mode: StopMode) -> None:
    """Ask the supervisor of a run to stop it. Raises OSError when the request cannot be written."""
    line = "\n" + json.dumps({"time": format_timestamp(utc_now()), "stop": mode}) + "\n"  # a torn one may be there
    with open_append(paths.stop, within=paths.root) as file:
        file.write(line.encode())


def clear_stop_requests(paths: RunPaths) -> None:
    """Forget requests of an earlier part of the run."""
    with suppress(OSError):
        remove_file(paths.stop, within=paths.root)


@dataclass(slots=True)
class StopSchedule:
    """What was asked for, and when it is due.

    sd-scripts prints the name of a file before it writes it, and the state after that, but nothing when they are
    complete (TN:1300, TU:5947): a save is over when the next step or epoch begins.
    """

    paths: RunPaths
    _read: int = 0
    _waits_for: StopMode | None = None
    _is_saving: bool = False
    _is_due: bool = False
    _is_hard: bool = False

    def poll(self) -> tuple[StopMode, ...]:
        """New requests."""
        try:
            with open_file(self.paths.stop, within=self.paths.root) as file:
                file.seek(self._read)
                data = file.read(MAX_REQUEST_BYTES)
        except OSError:
            return ()
        whole = data if len(data) == MAX_REQUEST_BYTES else data[: data.rfind(b"\n") + 1]
        self._read += len(whole)
        found: list[StopMode] = [mode for line in whole.splitlines() if (mode := _parse_request(line)) is not None]
        for mode in found:
            if mode in LATER_MODES:
                self._waits_for, self._is_saving = mode, False
            else:
                self._is_due, self._is_hard = True, self._is_hard or mode == "now"
        return tuple(found)

    def feed(self, events: Iterable[ProgressEvent]) -> None:
        """What the trainer did meanwhile."""
        for event in events:
            if self._waits_for == "after-epoch" and isinstance(event, Epoch):
                self._is_due = True
            elif self._waits_for == "after-save":
                self._is_due = self._is_due or (self._is_saving and isinstance(event, Step | Epoch))
                self._is_saving = self._is_saving or isinstance(event, Saving)

    def take(self) -> StopMode | None:
        """``soon`` or ``now`` once for each request that is due."""
        if not self._is_due:
            return None
        mode: StopMode = "now" if self._is_hard else "soon"
        self._is_due, self._is_hard, self._waits_for = False, False, None
        return mode


def _parse_request(line: bytes) -> StopMode | None:
    mode = parse_event(line).get("stop")
    return MODES.get(mode) if isinstance(mode, str) else None
