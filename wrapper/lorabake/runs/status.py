"""The true state of a run folder: by its locks and processes, and by its record if nothing of it is alive.

The end of a run whose supervisor was killed is written by whoever reads it next (runs/finalize.py).
"""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, cast

from lorabake.errors import MachineError
from lorabake.runs.activity import (
    END_BYTES,
    TAIL_BYTES,
    RunActivity,
    TimedNotice,
    read_activity,
    read_recent_activity,
)
from lorabake.runs.event_kinds import encode_number
from lorabake.runs.events import encode_event, format_timestamp
from lorabake.runs.finalize import KILLED_CODE, complete_record
from lorabake.runs.folder import RunPaths
from lorabake.runs.lock import ActiveRun, find_active, find_running_trainer, read_claim
from lorabake.runs.record import read_record
from lorabake.runs.stop_request import LATER_MODES, StopSchedule
from lorabake.runs.varied_settings import find_varied_settings
from lorabake.util.files import open_file
from lorabake_schemas.messages import escape_undecodable
from lorabake_schemas.record import Record
from lorabake_schemas.run_status import (
    GpuStatus,
    PhaseProgress,
    RunNotice,
    RunState,
    RunSummary,
    SavedFile,
    StatusReport,
)
from lorabake_schemas.saved_names import LORA_EXTENSIONS

if TYPE_CHECKING:
    from collections.abc import Iterable

    from lorabake_schemas.events import Metrics
    from lorabake_schemas.record import RunStatus

IN_PROGRESS: frozenset[RunState] = frozenset({"running", "stopping", "elsewhere"})


@dataclass(frozen=True, slots=True)
class RunEvidence:
    """What a state follows from: what of the run is alive, if anything is; the record's status and verdict; and whether
    a stop was requested that waits for nothing, or for what (runs/stop_request.py).
    """

    active: ActiveRun | None
    status: RunStatus
    code: str | None = None
    is_stopping: bool = False
    stop_after: str | None = None


def judge_state(found: RunEvidence) -> RunState:
    """The state of a run. Processes count for more than the record, except at the very end: the record of a run that is
    over was written when its trainer had ended, and its guard may need another moment.
    """
    active, over = found.active, found.status != "started"
    if over and active is not None and (not active.certain or (active.is_guarded and not active.pids)):
        active = None
    if active is not None and found.status not in {"finished", "inputs-changed"}:
        if not active.certain:
            return "elsewhere"
        lost = active.is_guarded and not active.is_supervised
        return "stopping" if lost or found.is_stopping else "running"
    if found.status == "started" or (found.status == "interrupted" and found.code == KILLED_CODE):
        return "died"
    return found.status


def read_state(paths: RunPaths) -> RunState:
    """The state alone. Raises MachineError for a record that cannot be read.

    By all events: a fast rehearsal makes more steps after "stopping" than the end of the file has room for.
    """
    record = read_record(paths.record)
    return judge_state(gather_evidence(paths, record, read_activity(paths)))


def is_in_progress(paths: RunPaths) -> bool:
    """Without a look at the events, so it may be asked often. Raises MachineError for a record that cannot be read."""
    return judge_state(gather_evidence(paths, read_record(paths.record), RunActivity())) in IN_PROGRESS


def gather_evidence(paths: RunPaths, record: Record, activity: RunActivity) -> RunEvidence:
    code, active = record.outcome.code if record.outcome is not None else None, find_active(paths, record)
    asked = StopSchedule(paths).poll() if active is not None else ()
    later = [mode for mode in asked if mode in LATER_MODES]
    stopping = activity.is_stopping or len(later) < len(asked)
    return RunEvidence(active, record.status, code, stopping, later[-1] if later else None)


def summarize_run(paths: RunPaths, record: Record, name: str, *, brief: bool = False) -> RunSummary:
    """The state and progress of a run. ``record`` has been completed if its supervisor was killed.

    ``brief`` reads the end of the events only, and does not search the trainer's processes.
    """
    tail = TAIL_BYTES if record.status == "started" else END_BYTES
    activity = read_recent_activity(paths, tail) if brief else read_activity(paths)
    evidence = gather_evidence(paths, record, activity)
    state, outcome = judge_state(evidence), record.outcome
    alive = state in IN_PROGRESS
    pace = activity.seconds_per_step
    step = _current_step(record, activity, alive=alive)
    last = _last_activity(paths, activity)
    ended = None if alive else record.ended or last
    changes: dict[str, object] = {}
    if alive and evidence.active is not None:
        changes |= _process_fields(paths, evidence.active, brief=brief)
        changes["stop_after"] = evidence.stop_after
        changes |= _measured_fields(activity.metrics) if evidence.active.is_supervised else {}
    elif state == "died" and (claim := read_claim(paths)) is not None:
        changes["host"] = claim.owner.host
    if outcome is not None and not alive:
        changes |= {"code": outcome.code, "message": outcome.message, "hint": outcome.hint}
        changes["resume_step"] = outcome.resume_step
    return RunSummary(
        name=name,
        folder=escape_undecodable(str(paths.root.absolute())),
        state=state,
        rehearsal=record.rehearsal,
        phase=_phase_progress(activity) if not record.trained or alive else None,
        step=step,
        steps=record.planned_steps,
        epoch=activity.epoch.number if activity.epoch is not None else None,
        epochs=activity.epoch.total if activity.epoch is not None else None,
        loss_average=encode_number(activity.step.loss_average) if activity.step is not None else None,
        loss=encode_number(activity.step.loss_current) if activity.step is not None else None,
        steps_per_second=1 / pace if pace else None,
        seconds_left=pace * max(record.planned_steps - step, 0) if pace and alive else None,
        started=record.started,
        ended=ended,
        last_activity=last if alive else ended,
        last_save=_saved_file(activity),
        lora=_finished_lora(record),
        stalled=alive and activity.is_stalled,
        notices=tuple(_describe_notice(each) for each in activity.notices),
        digest=record.digest,
    ).model_copy(update=changes)


def _current_step(record: Record, activity: RunActivity, *, alive: bool) -> int:
    first = record.parts[-1].first_step if record.parts else 0
    judged = record.outcome.steps if record.outcome is not None and not alive else None
    return judged if judged is not None else activity.last_step or first


def _phase_progress(activity: RunActivity) -> PhaseProgress | None:
    phase = activity.phase
    return None if phase is None else PhaseProgress(name=phase.name, done=phase.done, total=phase.total, of=phase.of)


def _saved_file(activity: RunActivity) -> SavedFile | None:
    saved = activity.last_save
    return None if saved is None else SavedFile(file=saved.file, time=saved.time, step=saved.step)


def _describe_notice(notice: TimedNotice) -> RunNotice:
    """The event as its line in events.jsonl has it."""
    fields = encode_event(notice.event) or {}
    return RunNotice.model_validate(
        {"kind": fields.pop("event", ""), "time": notice.time, "values": _escape_values(fields)}
    )


def _escape_values(value: object) -> object:
    """JSON whose texts can be written as UTF-8."""
    if isinstance(value, dict):
        return {key: _escape_values(each) for key, each in cast("dict[str, object]", value).items()}
    if isinstance(value, list):
        return [_escape_values(each) for each in cast("list[object]", value)]
    return escape_undecodable(value) if isinstance(value, str) else value


def _process_fields(paths: RunPaths, active: ActiveRun, *, brief: bool) -> dict[str, object]:
    """Who runs it. Only of this machine's processes the trainer's are known."""
    owner = active.owner
    below = find_running_trainer(paths) if active.is_supervised and not brief else active
    supervised = active.is_supervised or not active.certain
    return {
        "supervised": supervised,
        "supervisor": owner.pid if owner is not None and supervised else None,
        "trainer": below.pids if below is not None else (),
        "host": owner.host if owner is not None else None,
    }


def _measured_fields(found: Metrics) -> dict[str, object]:
    return {
        "learning_rates": {escape_undecodable(name): encode_number(rate) for name, rate in found.learning_rates},
        "d": encode_number(found.d),
        "gpus": tuple(GpuStatus.model_validate(asdict(gpu)) for gpu in found.gpus),
    }


def _last_activity(paths: RunPaths, activity: RunActivity) -> str | None:
    """When the trainer last wrote to its log, or the time of the last event if that is later."""
    times = [activity.last_time] if activity.last_time is not None else []
    with suppress(OSError, ValueError, OverflowError), open_file(paths.log, within=paths.root) as log:
        state = os.fstat(log.fileno())
        if state.st_size:
            times.append(format_timestamp(datetime.fromtimestamp(state.st_mtime, UTC)))
    return max(times, default=None)


def _finished_lora(record: Record) -> str | None:
    """The LoRA of the last step, relative to the run folder."""
    if not record.trained or record.outcome is None:
        return None
    names = {f"output/{record.name}{extension}" for extension in LORA_EXTENSIONS}
    whole = (file.name for file in record.outcome.outputs if file.name in names and file.incomplete is None)
    return next(whole, None)


def list_statuses(roots: Iterable[tuple[Path, str]]) -> StatusReport:
    """Every run of these folders, with the names to show; the one that was started last comes first. With the settings
    in which runs of one recipe differ.
    """
    found, records, bad = dict[Path, RunSummary](), dict[Path, Record](), list[str]()
    for root, name in roots:
        paths = RunPaths(root)
        try:
            record = complete_record(paths, read_record(paths.record), only_own=True)
        except MachineError:
            bad.append(escape_undecodable(str(root)))
            continue
        found[root], records[root] = summarize_run(paths, record, name, brief=True), record
    varied = find_varied_settings(records)
    runs = [run.model_copy(update={"settings": varied.get(root, {})}) for root, run in found.items()]
    runs.sort(key=lambda each: (each.started, each.folder), reverse=True)
    return StatusReport(runs=tuple(runs), unreadable=tuple(bad))
