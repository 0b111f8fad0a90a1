"""Runs: the command of a dry run, how a run ended, which files were written."""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from lorabake.render.page import Page, bold, file_size
from lorabake.render.plan import plan_text
from lorabake.runs.ending import resumption
from lorabake.runs.place import DELETED
from lorabake_schemas.record import Outcome, OutputFile, Record
from lorabake_schemas.words import Said, log_text, say

if TYPE_CHECKING:
    from lorabake.workflow import Prepared

LAST_WORDS = 12


def written(paths: Sequence[Path], page: Page, *, as_json: bool) -> str:
    """The files that were written, one a line."""
    if as_json:
        return json.dumps({"version": 1, "written": [str(path) for path in paths]}, indent=2)
    return "\n".join(page(say("wrote {path}", path=str(path))) for path in paths)


def dry_run(prepared: Prepared, command: Sequence[str], page: Page, *, as_json: bool) -> str:
    """The plan and the command that would be run, as a shell takes it."""
    _, plan = prepared.examination.planned()
    if as_json:
        table = {"version": 1, "plan": plan.model_dump(mode="json"), "cwd": str(prepared.root)}
        return json.dumps(table | {"argv": list(command)}, indent=2)
    where = bold(page(say("would run in {folder}", folder=str(prepared.root))))
    line = f"  {page(shlex.join(command))}"
    return "\n".join([plan_text(plan, page), "", where, line, page(say("nothing was written or started"))])


def ending(record: Record, root: Path, page: Page) -> str:
    """How a run ended, what it left, and the trainer's last words when it failed."""
    outcome = record.outcome
    if outcome is None:
        return f"{page(record.name)}: {record.status}"
    root = root if outcome.moved_to is None else Path(outcome.moved_to)
    lines = [_verdict(record, outcome, page)]
    if record.status != "finished":
        lines += [f"  {log_text(line)}" for line in outcome.last_words[-LAST_WORDS:]]
        lines += [f"  {page(said)}" for said in (outcome.hint, resumption(record, root)) if said]
    lines += [f"  {page(say('note: {remark}', remark=remark))}" for remark in outcome.remarks]
    lines += [f"  {page(_listed(file, root))}" for file in outcome.outputs if not _in_state(file.name)]
    if outcome.code == DELETED:
        return "\n".join(lines)
    return "\n".join([*lines, f"  {page(say('everything about this run: {folder}', folder=str(root)))}"])


def _listed(file: OutputFile, root: Path) -> Said:
    """A file that the run left; one that was cut off is never listed like a good one."""
    path, size = str(root / file.name), file_size(file.size)
    if file.incomplete is None:
        return say("{path} ({size})", path=path, size=size)
    return say("{path} ({size}): not usable, {why}", path=path, size=size, why=file.incomplete)


def _verdict(record: Record, outcome: Outcome, page: Page) -> str:
    words = {"finished": (say("done:"), "green"), "inputs-changed": (say("finished, inputs changed:"), "yellow")}
    word, color = words.get(record.status, (say("failed:"), "red"))
    return f"{click.style(page(word), fg=color, bold=True)} {page(outcome.message)}"


def _in_state(name: str) -> bool:
    """Whether an output lies in a folder with the state of a training, of which there are many files."""
    return any(part.endswith("-state") for part in Path(name).parent.parts)


__all__ = ["LAST_WORDS", "dry_run", "ending", "written"]
