"""A process while it trains: when its log first shows each step, and the most memory that the GPU has in use."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from rows import TrialError

BAR = re.compile(rb"steps:\s*\d+%\|[^|]*\|\s*(\d+)/\d+ \[")
LOSS = re.compile(rb"avr_loss=([-+.\w]+)")
LOOK_EVERY_S = 0.02


class Memory:
    """The peak GPU memory that nvidia-smi reports; nothing without a GPU."""

    def __init__(self, gpu: str | None) -> None:
        self.most: int | None = None
        self._process: subprocess.Popen[str] | None = None
        if gpu is not None:
            argv = ["nvidia-smi", "-i", gpu, "--query-gpu=memory.used", "--format=csv,noheader,nounits", "-lms", "200"]
            self._process = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
            threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        assert self._process is not None
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line.strip().isdecimal():
                self.most = max(self.most or 0, int(line))

    def close(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()


@dataclass
class Watched:
    """A process, and when its log first showed each step."""

    process: subprocess.Popen[str]
    log: Path
    deadline: float
    seen: dict[int, float] = field(default_factory=dict[int, float])
    loss: float | None = None
    _read: int = 0
    _rest: bytes = b""

    def look(self) -> bool:
        """Read what is new in the log; whether the process still runs."""
        running = self.process.poll() is None
        if self.log.exists():
            with self.log.open("rb") as file:
                file.seek(self._read)
                new = file.read()
            self._read += len(new)
            for found in BAR.finditer(self._rest + new):
                self.seen.setdefault(int(found[1]), time.monotonic())
            for shown in LOSS.findall(self._rest + new):
                self.loss = float(shown)
            self._rest = (self._rest + new)[-500:]
        if running and time.monotonic() > self.deadline:
            raise TrialError("over its time")
        return running

    def stop(self) -> None:
        """End it and all it started, should it still run: as Ctrl-C does, then by force."""
        for ask, patience in ((signal.SIGINT, 30.0), (signal.SIGKILL, 10.0)):
            if self.process.poll() is None:
                with suppress(ProcessLookupError, subprocess.TimeoutExpired):
                    os.killpg(self.process.pid, ask)
                    self.process.wait(patience)

    def until(self, true: Callable[[], bool]) -> None:
        """Wait until something is so, or the process has ended."""
        while self.look() and not true():
            time.sleep(LOOK_EVERY_S)

    def ended(self) -> int:
        self.until(lambda: False)
        self.look()
        return self.process.wait()

    @property
    def step(self) -> int:
        return max(self.seen, default=0)

    @property
    def per_step(self) -> float | None:
        """Seconds from the second step on: the first one prepares what the others use."""
        later = {step: when for step, when in self.seen.items() if step >= 2}
        if len(later) < 2:
            return None
        first, last = min(later), max(later)
        return (later[last] - later[first]) / (last - first)
