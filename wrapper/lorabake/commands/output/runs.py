"""Runs: the command of a dry run, how a run ended, from where it is resumed, which files were written."""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from lorabake.commands.output.layout import TextLayout, bold, format_file_size
from lorabake.commands.output.plan import format_plan
from lorabake.runs.causes.general import UNKNOWN_FAILURE
from lorabake.runs.finalize import resume_command_hint
from lorabake.runs.folder import DELETED
from lorabake.runs.resume_points import read_train_settings
from lorabake_schemas.messages import Message, clean_log_line, msg
from lorabake_schemas.record import EvidenceLine, Outcome, OutputFile, Record
from lorabake_schemas.saved_names import LORA_EXTENSIONS

if TYPE_CHECKING:
    from lorabake.jobs.resume.prepare import PreparedResume
    from lorabake.jobs.run import PreparedRun
    from lorabake.runs.index import FoundRun
    from lorabake.runs.stop_request import StopMode

LAST_LOG_LINES = 30


def format_written_files(paths: Sequence[Path], layout: TextLayout, *, as_json: bool) -> str:
    """The files that were written, one a line."""
    if as_json:
        return json.dumps({"version": 1, "written": [str(path) for path in paths]}, indent=2)
    return "\n".join(layout(msg("wrote {path}", path=str(path))) for path in paths)


def format_dry_run(prepared: PreparedRun, command: Sequence[str], layout: TextLayout, *, as_json: bool) -> str:
    """The plan and the command that would be run, as a shell takes it."""
    _, plan = prepared.examination.planned()
    if as_json:
        table = {"version": 1, "plan": plan.model_dump(mode="json"), "cwd": str(prepared.root)}
        return json.dumps(table | {"argv": list(command)}, indent=2)
    where = bold(layout(msg("would run in {folder}", folder=str(prepared.root))))
    line = f"  {layout(shlex.join(command))}"
    return "\n".join([format_plan(plan, layout), "", where, line, layout(msg("nothing was written or started"))])


def format_run_outcome(record: Record, root: Path, layout: TextLayout, triggers: Sequence[str] = ()) -> str:
    """How a run ended, its outputs, and how to use them, or the end of the trainer's log if it failed. ``triggers`` are
    the trigger words of its recipe."""
    outcome = record.outcome
    if outcome is None:
        return "\n".join([layout(msg("{run} is training", run=str(root))), *_control_lines(root, layout)])
    root = root if outcome.moved_to is None else Path(outcome.moved_to)
    lines = [_outcome_line(record, outcome, layout)]
    if record.status != "finished":
        lines += _failure_lines(record, outcome, layout)
        lines += [f"  {layout(said)}" for said in (outcome.hint, resume_command_hint(record, root)) if said]
    lines += ["  " + layout(msg("note: {remark}", remark=remark)) for remark in outcome.remarks]
    lines += [
        f"  {layout(_describe_output(file, root))}" for file in outcome.outputs if not _is_in_state_folder(file.name)
    ]
    if outcome.code == DELETED:
        return "\n".join(lines)
    lines += [f"  {layout(line)}" for line in _describe_use(record, outcome, root, triggers)]
    lines.append("  " + layout(msg("run folder: {folder}", folder=str(root))))
    return "\n".join(lines)


def _describe_use(record: Record, outcome: Outcome, root: Path, triggers: Sequence[str]) -> list[Message]:
    """What to do with the LoRA of a finished training."""
    loras = [file for file in outcome.outputs if Path(file.name).suffix in LORA_EXTENSIONS and file.incomplete is None]
    loras = [file for file in loras if not _is_in_state_folder(file.name)]
    if record.rehearsal or not record.trained or not loras:
        return []
    lines = [msg("trigger words: {words}", words=", ".join(map(clean_log_line, triggers)))] if triggers else []
    lines.append(msg("to use it, copy it to models/Lora (A1111, Forge) or models/loras (ComfyUI)"))
    if len(loras) > 1:
        lines.append(msg("try the LoRAs of earlier epochs or steps, too: the last one is not always the best"))
    lines.append(msg("loss curves: lorabake tensorboard {run}", run=shlex.quote(str(root))))
    return lines


def _failure_lines(record: Record, outcome: Outcome, layout: TextLayout) -> list[str]:
    """The lines of the log that a cause rests on; of an unknown failure the log's end as it is, and the command."""
    if outcome.evidence and outcome.code != UNKNOWN_FAILURE:
        return [f"  {describe_excerpt(line, layout)}" for line in outcome.evidence]
    if record.status == "interrupted":
        return []
    lines = [f"  {clean_log_line(line)}" for line in outcome.last_words[-LAST_LOG_LINES:]]
    if outcome.code == UNKNOWN_FAILURE:
        lines.append("  " + layout(msg("command: {command}", command=shlex.join(record.argv))))
    return lines


def describe_excerpt(line: EvidenceLine, layout: TextLayout) -> str:
    """A line of the trainer's log with its number."""
    text = clean_log_line(line.text).strip()
    return text if line.line is None else layout(msg("log line {number}: {text}", number=line.line, text=text))


def _control_lines(root: Path, layout: TextLayout) -> list[str]:
    """How a run that goes on is watched and stopped."""
    said = (
        msg("watch it with `lorabake attach {run}`", run=shlex.quote(str(root))),
        msg("stop it with `lorabake stop {run}`", run=shlex.quote(str(root))),
    )
    return [f"  {layout(line)}" for line in said]


def format_stop_request(found: FoundRun, mode: StopMode, layout: TextLayout, *, as_json: bool) -> str:
    """A request to stop later."""
    if as_json:
        return json.dumps({"version": 1, "run": str(found.root), "stop": mode}, indent=2)
    what = {
        "after-epoch": msg("{run} will stop when its epoch ends", run=found.name),
        "after-save": msg("{run} will stop after its next save", run=found.name),
    }
    settings = read_train_settings(found.paths)
    if settings is None or settings.get("save_state"):
        return layout(what[mode])
    note = msg("it saves no states (save.save_state), so it cannot be resumed")
    return f"{layout(what[mode])}\n  {layout(note)}"


def _describe_output(file: OutputFile, root: Path) -> Message:
    """A file that the run left; one that was cut off is never listed like a good one."""
    path, size = str(root / file.name), format_file_size(file.size)
    if file.incomplete is None:
        return msg("{path} ({size})", path=path, size=size)
    return msg("{path} ({size}): not usable ({why})", path=path, size=size, why=file.incomplete)


def _outcome_line(record: Record, outcome: Outcome, layout: TextLayout) -> str:
    words = {
        "finished": (msg("done:"), "green"),
        "inputs-changed": (msg("finished, but inputs changed:"), "yellow"),
        "interrupted": (msg("interrupted:"), "yellow"),
    }
    word, color = words.get(record.status, (msg("failed:"), "red"))
    return f"{click.style(layout(word), fg=color, bold=True)} {layout(outcome.message)}"


def _is_in_state_folder(name: str) -> bool:
    """Whether an output is in a folder with a saved state, which has many files."""
    return any(part.endswith("-state") for part in Path(name).parent.parts)


def format_already_finished(found: FoundRun, layout: TextLayout, *, as_json: bool) -> str:
    """A run that needs no resuming, and how to train it for longer.

    Its last state is no start for that: the optimizer's schedule was made for the planned steps and has ended, so that
    a longer one would jump up again in its middle (torch's LambdaLR restores the step, not the length, TU:5329).
    """
    record = found.record
    if as_json:
        return record.model_dump_json(indent=2)
    done = layout(msg("{run} is finished; all {n} steps were trained", run=found.name, n=record.planned_steps))
    if record.rehearsal:
        return done
    recipe = Path(os.path.normpath(found.root.resolve() / record.recipe_place))
    weights = shlex.quote(f"network.network_weights={found.root.resolve() / 'output' / record.name}.safetensors")
    command = f"lorabake run {shlex.quote(str(recipe))} --set {weights}"
    more = msg("its learning rate schedule has ended; to train it for longer, start a new run from its LoRA:")
    return "\n".join([done, *layout.paragraph(more, first="  "), f"    {layout(command)}"])


def format_resume(ready: PreparedResume, argv: Sequence[str], layout: TextLayout, *, as_json: bool) -> str:
    """The state, those that are further but no use, and the command as a shell takes it."""
    from lorabake.jobs.resume.prepare import describe_resume

    way = ready.way
    if as_json:
        table = {
            "version": 1,
            "run": str(ready.found.root),
            "state": way.state.path.relative_to(ready.found.root).as_posix() if way else None,
            "from_step": way.how.step if way else ready.found.record.planned_steps,
            "planned_steps": ready.found.record.planned_steps,
            "trained_again": ready.again,
            "not_used": [{"state": place, "why": why} for place, why in ready.passed],
            "cwd": str(ready.found.root),
            "argv": list(argv),
        }
        return json.dumps(table, indent=2)
    lines = [layout(line) for line in describe_resume(ready)]
    return "\n".join(
        [*lines, *([f"  {layout(shlex.join(argv))}"] if argv else []), layout(msg("nothing was written or started"))]
    )
