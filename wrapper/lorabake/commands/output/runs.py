"""Runs: the command of a dry run, how a run ended, which files were written."""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from lorabake.commands.output.layout import TextLayout, bold, format_file_size
from lorabake.commands.output.plan import format_plan
from lorabake.runs.finalize import resume_command_hint
from lorabake.runs.place import DELETED
from lorabake_schemas.messages import Message, clean_log_line, msg
from lorabake_schemas.record import Outcome, OutputFile, Record

if TYPE_CHECKING:
    from lorabake.jobs.run import PreparedRun

LAST_LOG_LINES = 12


def format_written_files(paths: Sequence[Path], page: TextLayout, *, as_json: bool) -> str:
    """The files that were written, one a line."""
    if as_json:
        return json.dumps({"version": 1, "written": [str(path) for path in paths]}, indent=2)
    return "\n".join(page(msg("wrote {path}", path=str(path))) for path in paths)


def format_dry_run(prepared: PreparedRun, command: Sequence[str], page: TextLayout, *, as_json: bool) -> str:
    """The plan and the command that would be run, as a shell takes it."""
    _, plan = prepared.examination.planned()
    if as_json:
        table = {"version": 1, "plan": plan.model_dump(mode="json"), "cwd": str(prepared.root)}
        return json.dumps(table | {"argv": list(command)}, indent=2)
    where = bold(page(msg("would run in {folder}", folder=str(prepared.root))))
    line = f"  {page(shlex.join(command))}"
    return "\n".join([format_plan(plan, page), "", where, line, page(msg("nothing was written or started"))])


def format_run_outcome(record: Record, root: Path, page: TextLayout) -> str:
    """How a run ended, what it left, and the trainer's last words when it failed."""
    outcome = record.outcome
    if outcome is None:
        return f"{page(record.name)}: {record.status}"
    root = root if outcome.moved_to is None else Path(outcome.moved_to)
    lines = [_outcome_line(record, outcome, page)]
    if record.status != "finished":
        lines += [f"  {clean_log_line(line)}" for line in outcome.last_words[-LAST_LOG_LINES:]]
        lines += [f"  {page(said)}" for said in (outcome.hint, resume_command_hint(record, root)) if said]
    lines += ["  " + page(msg("note: {remark}", remark=remark)) for remark in outcome.remarks]
    lines += [
        f"  {page(_describe_output(file, root))}" for file in outcome.outputs if not _is_in_state_folder(file.name)
    ]
    if outcome.code == DELETED:
        return "\n".join(lines)
    lines.append("  " + page(msg("run folder: {folder}", folder=str(root))))
    return "\n".join(lines)


def _describe_output(file: OutputFile, root: Path) -> Message:
    """A file that the run left; one that was cut off is never listed like a good one."""
    path, size = str(root / file.name), format_file_size(file.size)
    if file.incomplete is None:
        return msg("{path} ({size})", path=path, size=size)
    return msg("{path} ({size}): not usable ({why})", path=path, size=size, why=file.incomplete)


def _outcome_line(record: Record, outcome: Outcome, page: TextLayout) -> str:
    words = {"finished": (msg("done:"), "green"), "inputs-changed": (msg("finished, but inputs changed:"), "yellow")}
    word, color = words.get(record.status, (msg("failed:"), "red"))
    return f"{click.style(page(word), fg=color, bold=True)} {page(outcome.message)}"


def _is_in_state_folder(name: str) -> bool:
    """Whether an output lies in a folder with the state of a training, of which there are many files."""
    return any(part.endswith("-state") for part in Path(name).parent.parts)
