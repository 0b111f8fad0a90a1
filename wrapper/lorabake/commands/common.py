"""What several commands do: read the environment, examine a recipe, show findings, say a line."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from lorabake.cli_options import Look, page, speech
from lorabake.output import write_err, write_out

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lorabake.examine import Examination
    from lorabake_schemas.options import Snapshot


def called(started: str, found: str | None) -> str:
    """What a person types to start lorabake again: ``started`` is argv[0], ``found`` what a shell finds as lorabake."""
    program = Path(started)
    if found is not None and program.exists() and program.samefile(found):
        return "lorabake"
    if program.name == "__main__.py":
        return shlex.join([sys.executable, "-m", "lorabake"])
    return shlex.quote(started)


def environment() -> Mapping[str, str]:
    from lorabake.process import own_environment

    return own_environment()


def sayer() -> Callable[[str], None]:
    from lorabake import terminal

    return terminal.sayer(sys.stderr, speech())


def examined(recipe: Path, look: Look, *, rehearsing: bool = False) -> Examination:
    """``rehearsing``: a model that is not there is no error."""
    from lorabake.examine import examine
    from lorabake.gauge import gauge
    from lorabake.reading import machine
    from lorabake.reading.cache_origins import CacheMemory
    from lorabake.reading.dataset import Scanning
    from lorabake.reading.fact_store import store_path
    from lorabake.trainer.store import home

    env = environment()
    store = store_path(home(env), env) if look.cache else None
    caches = CacheMemory.of(home(env), env, store)
    snapshot = _snapshot(look.commit, env)
    with gauge(sys.stderr, speech()) as progress:
        return examine(
            recipe,
            machine.facts(env),
            rehearsing=rehearsing,
            snapshot=snapshot,
            scanning=Scanning(store, look.deep, progress, replace(caches, progress=progress and progress.hashing)),
        )


def _snapshot(commit: str | None, env: Mapping[str, str]) -> Snapshot | None:
    if commit is None:
        return None
    from lorabake import commits

    found = commits.snapshot(commit, env)
    if warned := commits.warning(commit):
        sayer()(warned)
    return found


def show_findings(examination: Examination, *, as_json: bool = False) -> None:
    """On stderr what is to be known before going on; ends with exit code 1 (and a JSON report when asked for) when one
    of the findings is an error."""
    from lorabake.render.report import brief, report_json

    if told := brief(examination, page(err=True)):
        write_err(told)
    if examination.plan is None:
        if as_json:
            write_out(report_json(examination))
        sys.exit(1)


__all__ = ["called", "environment", "examined", "sayer", "show_findings"]
