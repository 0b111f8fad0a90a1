"""A run goes on in its own folder: from the newest whole state, under its own numbers, to the same last step."""

from __future__ import annotations

import os
from contextlib import closing, suppress
from dataclasses import dataclass, replace
from pathlib import Path, PurePath
from typing import TYPE_CHECKING

from lorabake import resources
from lorabake.errors import MachineError
from lorabake.files import copy_file, make_folders, open_append, open_file, replace_bytes
from lorabake.reading.timeless import all_made_timeless
from lorabake.runs.command import ACCELERATE_FILE, DETERMINISTIC_FILE
from lorabake.runs.ending import finish, loss_remarks, remarked
from lorabake.runs.events import EventLog, Fields, stamp, told_steps, utc_now
from lorabake.runs.folder import RunPaths, hold_room, read_record, write_record
from lorabake.runs.happenings import Seen
from lorabake.runs.inventory import refuse_foreign_files
from lorabake.runs.lock import acquire_run_lock
from lorabake.runs.loss import LossWatch
from lorabake.runs.parts import Names, Written, adopt, set_aside, told_of
from lorabake.runs.progress import Parser
from lorabake.runs.resumable import Outlook, Training, Way, advice, missing, outlook, saved_as, settings_of, written_by
from lorabake.runs.start import Sequel, Start, carried_out, gathered, judged
from lorabake_schemas.record import Part, Record
from lorabake_schemas.words import Said, legible, say

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lorabake.planning.continuation import Continuation
    from lorabake.runs.input_watch import InputWatch
    from lorabake.runs.resumable import Table
    from lorabake.runs.start import Watcher
    from lorabake.runs.states import Expected, State


@dataclass(frozen=True, slots=True)
class ResumeRequest:
    """``argv`` is the command of a first start, built from the plan and the trainer of today. ``files`` are lorabake's
    own, by name: those that are run, or that say how, are written again."""

    paths: RunPaths
    argv: tuple[str, ...]
    env: Mapping[str, str]
    files: Mapping[str, bytes]
    interrupt_s: float = 10.0
    terminate_s: float = 5.0
    watch: InputWatch | None = None


def resume(request: ResumeRequest, watcher: Watcher) -> Record:
    """Train the rest, and return the finished record.

    Raises MachineError when there is nothing to go on from, when the run is in progress or its folder cannot be
    written; SetupError when the trainer cannot be started; InterruptedRunError when the user stopped it.
    """
    paths = request.paths
    with acquire_run_lock(paths, read_record(paths.record).name):
        record = read_record(paths.record)
        if record.trained:
            return record
        if request.files:  # a trainer is to be started
            own_folder(paths, request.files)
        view = outlook(paths, record)
        tidied(paths, record, view)
        view = outlook(paths, record)
        if view.complete and view.training is not None:
            return completed(request, record, view.training)
        way = way_on(view, paths)
        written = next_part(paths, record, way.how)
        argv = command_of(request.argv, written, way)
        record = with_part(record, written, way.state, argv)
        with closing(begun(paths, record, written, way.training.names, request.files)) as events:
            start = start_of(request, argv, written, way.training, way.wanted)
            return carried_out(start, record, events, watcher)


def own_folder(paths: RunPaths, files: Mapping[str, bytes]) -> None:
    """Make sure that a trainer finds and writes nothing but this run's files. Raises MachineError.

    A file that is appended to and has another name, such as in a backup made of hard links, is copied first.
    """
    for path in refuse_foreign_files(paths, files, saved_as(settings_of(paths) or {})):
        try:
            copy_file(path, path, within=paths.root)
        except OSError as error:
            raise unmovable(paths, error) from error


def next_part(paths: RunPaths, record: Record, how: Continuation) -> Written:
    """Where the continuation will write."""
    return Written(paths.root, max(len(record.parts), 1) + 1, how.step, how.offset, how.stop_at)


def way_on(view: Outlook, paths: RunPaths) -> Way:
    """From where a run goes on, and how. Raises MachineError where it cannot."""
    if view.way is None:
        if (lacking := missing(paths)) is not None:
            said = say("{run} cannot be resumed: {why}", run=paths.root, why=lacking)
            raise MachineError(said, say("put it back as it was, or start again with `lorabake rerun`"))
        hint = advice(view, settings_of(paths))
        why = [say("{state}: {why}", state=place, why=reason) for place, reason in view.passed]
        said = say("there is no state to resume {run} from", run=paths.root)
        for each in why[:5]:
            said = say("{before}\n  {state}", before=said, state=each)
        raise MachineError(said, hint)
    refuse_uploads(view.way.training.settings, view.way.how)
    return view.way


def refuse_uploads(settings: Table, how: Continuation) -> None:
    """Raises MachineError where sd-scripts would upload files under step numbers that are too low."""
    by_steps = settings.get("save_every_n_steps") is not None or how.stop_at is not None
    if settings.get("huggingface_repo_id") and how.offset and by_steps:
        said = say("huggingface_repo_id is set: a continuation would upload its files under the wrong steps")
        raise MachineError(said, say("take it out of the recipe and start again with `lorabake run`"))


def tidied(paths: RunPaths, record: Record, view: Outlook) -> None:
    """Move into output/ what continuations that were killed have left in their own folders. Raises MachineError."""
    if view.training is None or view.wanted is None:
        return
    try:
        for part in record.parts[1:]:
            adopt(written_by(paths, part, view.training.course), view.training.names, view.wanted)
    except OSError as error:
        raise unmovable(paths, error) from error


def unmovable(paths: RunPaths, error: OSError) -> MachineError:
    why = error.strerror or str(error)
    said = say("cannot move what was trained into {folder}: {why}", folder=paths.output, why=why)
    return MachineError(said, say("make room and try again: nothing is lost"))


def command_of(argv: tuple[str, ...], written: Written, way: Way) -> tuple[str, ...]:
    """sd-scripts' flags come before its config file; paths are relative to the run folder, where it works.

    In a deterministic run the epoch's end is made the one that it was (trainer_side/going_on.py).
    """
    state, output = way.state.path.relative_to(written.root), written.output.relative_to(written.root)
    if DETERMINISTIC_FILE in argv and not way.how.skip:
        script = argv.index(DETERMINISTIC_FILE) + 1
        epoch = way.how.step // way.training.course.steps_per_epoch
        helper = written.helper.relative_to(written.root).as_posix()
        argv = (*argv[:script], helper, str(epoch), *argv[script:])
    return (*argv, "--resume", state.as_posix(), *way.how.flags, "--output_dir", output.as_posix())


def with_part(record: Record, written: Written, state: State, argv: tuple[str, ...]) -> Record:
    """The record as it is before the trainer goes on."""
    now = stamp(utc_now())
    part = Part(
        number=written.number,
        started=now,
        status="started",
        argv=tuple(map(legible, argv)),
        state=legible(state.path.relative_to(written.root).as_posix()),
        first_step=written.first_step,
        offset=written.offset,
        log_from=_size(RunPaths(written.root).log),
    )
    parts = (*map(over, record.parts or (first_part(record),)), part)
    changes = {"status": "started", "ended": None, "outcome": None, "pid": os.getpid(), "parts": parts}
    return record.model_copy(update=changes)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def over(part: Part) -> Part:
    """A part that has no end was killed together with its guard."""
    return part.model_copy(update={"status": "interrupted"}) if part.status == "started" else part


def first_part(record: Record) -> Part:
    """The run as it was before it was resumed for the first time."""
    outcome = record.outcome.model_copy(update={"outputs": ()}) if record.outcome is not None else None
    return Part(
        number=1,
        started=record.started,
        ended=record.ended,
        status=record.status,
        argv=record.argv,
        outcome=outcome,
    )


def begun(paths: RunPaths, record: Record, written: Written, names: Names, files: Mapping[str, bytes]) -> EventLog:
    """Everything in place for the trainer to go on. Raises MachineError when it cannot be written; the record is
    written last but for the first event, so that it never speaks of a part that could not begin."""
    part = record.parts[-1]
    told: Fields = {"event": "resumed", "part": part.number, "state": part.state, "from_step": part.first_step}
    try:
        make_folders(written.output, within=paths.root)
        if written.helper.relative_to(written.root).as_posix() in part.argv:
            helper = resources.trainer_side_text(written.helper.name).encode()
            replace_bytes(written.helper, helper, within=paths.root)
        for name in {ACCELERATE_FILE, DETERMINISTIC_FILE} & files.keys():  # never a stranger's
            replace_bytes(paths.root / name, files[name], within=paths.root)
        log_there(paths)
        hold_room(paths)
        set_aside(written, names)
        events = EventLog(paths.events)
    except OSError as error:
        why = error.strerror or str(error)
        raise MachineError(say("cannot write to the run folder {folder}: {why}", folder=paths.root, why=why)) from error
    try:
        events.write([told])
        write_record(paths, record)
    except OSError as error:
        events.close()
        why = error.strerror or str(error)
        raise MachineError(say("cannot write {path}: {why}", path=paths.events, why=why)) from error
    except MachineError:
        events.close()
        raise
    return events


def log_there(paths: RunPaths) -> None:
    """The trainer's log, which goes on; an empty one where somebody took it away. Raises OSError."""
    make_folders(paths.log.parent, within=paths.root)
    open_append(paths.log, within=paths.root).close()


def start_of(
    request: ResumeRequest, argv: tuple[str, ...], written: Written, training: Training, wanted: Expected | None
) -> Start:
    """The start of a part; also what a part that is over is judged by."""
    names, paths = training.names, request.paths

    def named(path: str) -> str:
        return f"output/{names.of_the_run(PurePath(path).name, written)}"

    def gather() -> tuple[Said, ...]:
        if wanted is None:
            return ()
        try:
            left = told_of(adopt(written, names, wanted))
        except OSError as error:
            return (unmovable(paths, error).message,)
        return (*left, *remarks(training, written))

    return Start(
        paths=paths,
        argv=argv,
        env=request.env,
        output=f"output/{names.final}",
        planned_steps=training.course.steps,
        sequel=Sequel(written.first_step, written.offset, written.stop_at is not None, named, gather),
        interrupt_s=request.interrupt_s,
        terminate_s=request.terminate_s,
        watch=request.watch,
    )


def remarks(training: Training, written: Written) -> tuple[Said, ...]:
    """What is otherwise than in a run of one piece."""
    settings, course, found = training.settings, training.course, list[Said]()
    if written.stop_at is not None:
        said = say(
            "once resumed, sd-scripts ends at the end of an epoch only: lorabake had it save at step {step} and "
            "stopped it there, so the log lacks its closing words",
            step=course.steps,
        )
        found.append(said)
    if written.first_step % course.steps_per_epoch:
        said = say("the rest of the epoch in which it had stopped was dealt out anew: some pictures came twice in it")
        found.append(said)
    every = course.save_every_n_steps
    if every is not None and written.offset % every:
        said = say("after step {step} the files of save_every_n_steps are counted from there", step=written.offset)
        found.append(said)
    if any(settings.get(name) for name in ("save_last_n_epochs", "save_last_n_steps")):
        found.append(say("save_last_n counts in each part of a resumed run on its own: more files than that are left"))
    return tuple(found)


def completed(request: ResumeRequest, record: Record, training: Training) -> Record:
    """The verdict on a run that had reached its last step and was not judged: nothing is trained any more."""
    paths, parser = request.paths, Parser()
    remarks = [say("it had reached its last step before: nothing was trained any more")]
    try:
        with open_file(paths.log, within=paths.root) as log:
            while piece := log.read(1 << 20):
                parser.feed(piece)
        parser.close()
        seen = replace(parser.seen, step=None)
    except OSError:  # the LoRA of the last step is whole (outlook): that has to do
        seen = Seen(saved=True)
        remarks.append(say("the log cannot be read: what the trainer said at its end is not known"))
    part = record.parts[-1] if record.parts else first_part(record)
    start = start_of(request, part.argv, written_by(paths, part, training.course), training, None)
    left = all_made_timeless(paths.output, start.name) if start.deterministic else ()
    before = record.outcome.returncode if record.outcome is not None else None
    losses = told_losses(paths)
    evidence = gathered(start, 0 if seen.saved else before, seen, losses.facts)
    record = judged(start, record, evidence, None)
    record = remarked(record, (*loss_remarks(record, losses), *remarks, *left))
    with closing(EventLog(Path(paths.events))) as events:
        finish(paths, record, events)
    return record


def told_losses(paths: RunPaths) -> LossWatch:
    """What the events tell of the loss."""
    losses = LossWatch()
    with suppress(OSError):
        for step in told_steps(paths.events, paths.root):
            losses.see(step)
    return losses
