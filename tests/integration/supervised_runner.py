"""A run of the fake trainer under a supervisor, as `lorabake run` starts one: ``supervised_runner.py RUN FLAGS...``.

With --detach it returns when training has begun. Events are shown on stderr by the terminal's own display.
"""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path

from launch_runner import request

from lorabake.commands.output.progress import TerminalDisplay
from lorabake.errors import LorabakeError
from lorabake.jobs.attach import run_supervised
from lorabake.jobs.display import ignore_event
from lorabake.jobs.supervisor import launch_run
from lorabake.runs.folder import RunPaths
from lorabake.runs.lock import ensure_idle


def main() -> int:
    root, *flags = sys.argv[1:]
    detach = "--detach" in flags
    flags = [flag for flag in flags if flag != "--detach"]
    steps = int(flags[flags.index("--steps") + 1])
    wanted = request(Path(root), *flags, steps=steps)
    try:
        ensure_idle(Path(root), wanted.plan.name)
        job = partial(launch_run, wanted, ignore_event)
        record = run_supervised(job, RunPaths(Path(root)), steps, TerminalDisplay(sys.stderr), detach=detach)
    except LorabakeError as error:
        sys.stderr.write(f"{error.message}\n")
        return error.exit_code
    sys.stdout.write(f"{record.status}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
