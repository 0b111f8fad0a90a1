"""What several commands do: read the environment, examine a recipe, show findings, say a line."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from lorabake.commands.options import CheckOptions, current_translator, make_text_layout
from lorabake.commands.output.console import write_err, write_out

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lorabake.analysis.check import CheckResult
    from lorabake.commands.output.progress import TerminalDisplay
    from lorabake_schemas.options import OptionSnapshot


def program_name(started: str, found: str | None) -> str:
    """What a person types to start lorabake again: ``started`` is argv[0], ``found`` what a shell finds as lorabake."""
    program = Path(started)
    if found is not None and program.exists() and program.samefile(found):
        return "lorabake"
    if program.name == "__main__.py":
        return shlex.join([sys.executable, "-m", "lorabake"])
    return shlex.quote(started)


def get_environment() -> Mapping[str, str]:
    from lorabake.util.process import read_environment

    return read_environment()


def stderr_printer() -> Callable[[str], None]:
    from lorabake.commands.output import progress as terminal

    return terminal.line_printer(sys.stderr, current_translator())


def run_check(recipe: Path, look: CheckOptions, *, rehearsing: bool = False) -> CheckResult:
    """``rehearsing``: a model that is not there is no error."""
    from lorabake.analysis.check import check_recipe
    from lorabake.commands.output.progress_line import show_progress
    from lorabake.inputs.cache_provenance import CacheIndex
    from lorabake.inputs.dataset import ScanOptions
    from lorabake.util import machine
    from lorabake.util.fact_cache import fact_store_path
    from lorabake.util.paths import lorabake_home

    env = get_environment()
    store = fact_store_path(lorabake_home(env), env) if look.cache else None
    caches = CacheIndex.of(lorabake_home(env), env, store)
    snapshot = _load_snapshot(look.commit, env)
    with show_progress(sys.stderr, current_translator()) as progress:
        return check_recipe(
            recipe,
            machine.detect_machine(env),
            rehearsing=rehearsing,
            snapshot=snapshot,
            scanning=ScanOptions(store, look.deep, progress, replace(caches, progress=progress and progress.hashing)),
        )


def _load_snapshot(commit: str | None, env: Mapping[str, str]) -> OptionSnapshot | None:
    if commit is None:
        return None
    from lorabake.trainer import versions

    found = versions.load_commit_options(commit, env)
    if warned := versions.commit_warning(commit):
        stderr_printer()(warned)
    return found


def show_findings(examination: CheckResult, *, as_json: bool = False) -> None:
    """On stderr what is to be known before going on; ends with exit code 1 (and a JSON report when asked for) when one
    of the findings is an error."""
    from lorabake.commands.output.findings import findings_to_json, format_brief

    if told := format_brief(examination, make_text_layout(err=True)):
        write_err(told)
    if examination.plan is None:
        if as_json:
            write_out(findings_to_json(examination))
        sys.exit(1)


def terminal_display(verbose: bool) -> TerminalDisplay:
    """What a job shows of its progress."""
    from lorabake.commands.output.progress import TerminalDisplay

    return TerminalDisplay(sys.stderr, current_translator(), verbose)
