"""Continues a run in its own folder: from the newest intact state, with the run's numbers, to the same last step."""

from __future__ import annotations

from contextlib import closing, suppress
from dataclasses import dataclass, replace
from pathlib import Path, PurePath
from typing import TYPE_CHECKING

from lorabake.errors import LorabakeError, MachineError
from lorabake.jobs.resume.outputs import archive_outputs, collect_outputs, describe_uncollected
from lorabake.jobs.supervisor import LaunchContext, ResumeHooks, collect_result, run_trainer, with_verdict
from lorabake.lora.reproducible import strip_saved_loras
from lorabake.runs.command import ACCELERATE_FILE, CPU_PROCESSES_FILE, DETERMINISTIC_FILE
from lorabake.runs.events import EventFields, EventLog, format_timestamp, iter_recorded_steps, utc_now
from lorabake.runs.finalize import finalize_run, loss_remarks
from lorabake.runs.folder import RunPaths, reserve_space
from lorabake.runs.gpu_locks import reserve_gpus
from lorabake.runs.inventory import refuse_foreign_files
from lorabake.runs.lock import acquire_run_lock
from lorabake.runs.log.parser import LogParser
from lorabake.runs.record import first_part, read_plan, read_record, with_part, with_remarks, write_record
from lorabake.runs.resume_points import (
    OutputNames,
    PartOutputs,
    ResumeOptions,
    ResumePoint,
    Training,
    missing_files_problem,
    part_outputs,
    read_output_name,
    read_train_settings,
    resume_hint,
    resume_options,
)
from lorabake.runs.stop_request import clear_stop_requests
from lorabake.runs.watch.loss_monitor import LossMonitor
from lorabake.util import resources
from lorabake.util.files import (
    DISK_FULL_ERRNOS,
    copy_file,
    disk_error,
    make_folders,
    open_append,
    open_file,
    reason,
    replace_bytes,
)
from lorabake_schemas.events import LogSummary
from lorabake_schemas.messages import Message, escape_undecodable, msg
from lorabake_schemas.record import Record, RunPart

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from lorabake.jobs.display import Watcher
    from lorabake.planning.resume_steps import ResumeSteps
    from lorabake.runs.gpu_locks import GpuReservation
    from lorabake.runs.resume_points import Table
    from lorabake.runs.states import ExpectedFiles, SavedState
    from lorabake.runs.watch.input_watch import InputWatch
    from lorabake_schemas.seat import Seat


@dataclass(frozen=True, slots=True)
class ResumeRequest:
    """``argv`` is the command of a first start, built from today's plan and trainer. ``files`` are lorabake's own by
    name, those that are run or that configure the run; they are written again. ``gpus`` are those to lock for it,
    ``seat`` is this machine's among several.
    """

    paths: RunPaths
    argv: tuple[str, ...]
    env: Mapping[str, str]
    files: Mapping[str, bytes]
    interrupt_s: float = 10.0
    terminate_s: float = 5.0
    watch: InputWatch | None = None
    gpus: GpuReservation | None = None
    seat: Seat | None = None


def continue_training(
    request: ResumeRequest, watcher: Watcher, begun: Callable[[Record], None] | None = None
) -> Record:
    """Train the rest, and return the finished record. ``begun`` is called when the run folder is ready.

    Raises MachineError if there is no usable state, if the run is in progress or its folder cannot be written,
    BusyGpuError if another run uses its GPUs (nothing is written then);
    SetupError if the trainer cannot be started; InterruptedRunError if the user stopped it.
    """
    paths = request.paths
    with acquire_run_lock(paths, read_record(paths.record).name), reserve_gpus(request.gpus, paths.root):
        clear_stop_requests(paths)
        record = read_record(paths.record)
        if record.trained:
            return record
        if request.files:  # a trainer is to be started
            ensure_clean_folder(paths, request.files)
        view = resume_options(paths, record)
        collect_leftover_outputs(paths, record, view)
        view = resume_options(paths, record)
        if view.complete and view.training is not None:
            return judge_completed_run(request, record, view.training)
        way = choose_resume_point(view, paths)
        written = next_part_outputs(paths, record, way.how)
        argv = resume_argv(request.argv, written, way)
        record = with_part(record, new_part(written, way.state, argv, request.seat))
        with closing(begin_part(paths, record, written, way.training.names, request.files)) as events:
            if begun is not None:
                begun(record)
            start = part_launch_context(request, argv, written, way.training, way.wanted)
            return run_trainer(start, record, events, watcher)


def ensure_clean_folder(paths: RunPaths, files: Mapping[str, bytes]) -> None:
    """Make sure that a trainer finds and writes nothing but this run's files. Raises MachineError.

    A file that is appended to and has another name, such as in a backup made of hard links, is copied first.
    """
    for path in refuse_foreign_files(paths, files, read_output_name(read_train_settings(paths) or {})):
        try:
            copy_file(path, path, within=paths.root)
        except OSError as error:
            raise unmovable_outputs_error(paths, error) from error


def next_part_outputs(paths: RunPaths, record: Record, how: ResumeSteps) -> PartOutputs:
    """Where the continuation will write."""
    return PartOutputs(paths.root, max(len(record.parts), 1) + 1, how.step, how.offset, how.stop_at)


def choose_resume_point(view: ResumeOptions, paths: RunPaths) -> ResumePoint:
    """From where a run continues, and how. Raises MachineError if it cannot."""
    if view.way is None:
        if (lacking := missing_files_problem(paths)) is not None:
            said = msg("cannot resume {run}: {why}", run=paths.root, why=lacking)
            raise MachineError(said, msg("restore the original, or start again with `lorabake rerun RUN`"))
        hint = resume_hint(view, read_train_settings(paths))
        why = [msg("{state}: {why}", state=place, why=reason) for place, reason in view.passed]
        said = msg("{run} has no usable state to resume from", run=paths.root)
        for each in why[:5]:
            said = msg("{before}\n  {state}", before=said, state=each)
        raise MachineError(said, hint)
    refuse_uploads(view.way.training.settings, view.way.how)
    return view.way


def refuse_uploads(settings: Table, how: ResumeSteps) -> None:
    """Raises MachineError where sd-scripts would upload files under step numbers that are too low."""
    by_steps = settings.get("save_every_n_steps") is not None or how.stop_at is not None
    if settings.get("huggingface_repo_id") and how.offset and by_steps:
        said = msg("huggingface_repo_id is set, so a resumed run would upload its files with the wrong step numbers")
        raise MachineError(said, msg("remove it from the recipe and start again with `lorabake run`"))


def collect_leftover_outputs(paths: RunPaths, record: Record, view: ResumeOptions) -> None:
    """Move into output/ what continuations that were killed have left in their own folders. Raises MachineError."""
    if view.training is None or view.wanted is None:
        return
    try:
        for part in record.parts[1:]:
            collect_outputs(part_outputs(paths, part, view.training.course), view.training.names, view.wanted)
    except OSError as error:
        raise unmovable_outputs_error(paths, error) from error


def unmovable_outputs_error(paths: RunPaths, error: OSError) -> LorabakeError:
    said = msg("cannot move the trained files to {folder}: {why}", folder=paths.output, why=reason(error))
    is_full = error.errno in DISK_FULL_ERRNOS
    return disk_error(error, said, msg("free some space and try again (nothing is lost)") if is_full else None)


def resume_argv(argv: tuple[str, ...], written: PartOutputs, way: ResumePoint) -> tuple[str, ...]:
    """sd-scripts' flags come before its config file; paths are relative to the run folder, where it works.

    In a deterministic run the epoch's end is made the one that it was (trainer/scripts/resume_epoch.py).
    """
    state, output = way.state.path.relative_to(written.root), written.output.relative_to(written.root)
    if DETERMINISTIC_FILE in argv and not way.how.skip:
        script = argv.index(DETERMINISTIC_FILE) + 1
        epoch = way.how.step // way.training.course.steps_per_epoch
        helper = written.helper.relative_to(written.root).as_posix()
        argv = (*argv[:script], helper, str(epoch), *argv[script:])
    return (*argv, "--resume", state.as_posix(), *way.how.flags, "--output_dir", output.as_posix())


def new_part(written: PartOutputs, state: SavedState, argv: tuple[str, ...], seat: Seat | None = None) -> RunPart:
    paths = RunPaths(written.root)
    return RunPart(
        number=written.number,
        started=format_timestamp(utc_now()),
        status="started",
        argv=tuple(map(escape_undecodable, argv)),
        state=escape_undecodable(state.path.relative_to(paths.root).as_posix()),
        first_step=written.first_step,
        offset=written.offset,
        log_from=_file_size(paths.log),
        seat=seat,
    )


def _file_size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def begin_part(
    paths: RunPaths, record: Record, written: PartOutputs, names: OutputNames, files: Mapping[str, bytes]
) -> EventLog:
    """Prepare everything for the trainer to continue. Raises MachineError if that cannot be written. The record is
    written last except for the first event, so it never contains a part that could not start.
    """
    part = record.parts[-1]
    resumed: EventFields = {"event": "resumed", "part": part.number, "state": part.state, "from_step": part.first_step}
    try:
        write_own_files(written, part.argv, files)
        ensure_log(paths)
        reserve_space(paths)
        archive_outputs(written, names)
        events = EventLog(paths.events)
    except OSError as error:
        said = msg(
            "cannot write to the run folder {folder}: {why}", folder=paths.root, why=error.strerror or str(error)
        )
        raise disk_error(error, said) from error
    try:
        events.write([resumed])
        write_record(paths, record)
    except OSError as error:
        events.close()
        said = msg("cannot write {path}: {why}", path=paths.events, why=error.strerror or str(error))
        raise disk_error(error, said) from error
    except MachineError:
        events.close()
        raise
    return events


def write_own_files(written: PartOutputs, argv: Sequence[str], files: Mapping[str, bytes]) -> None:
    """The part's folder, and everything of lorabake's own that is run or configures it. Raises OSError."""
    root = written.root
    make_folders(written.output, within=root)
    if written.helper.relative_to(root).as_posix() in argv:
        helper = resources.trainer_script_text(written.helper.name).encode()
        replace_bytes(written.helper, helper, within=root)
    for name in {ACCELERATE_FILE, DETERMINISTIC_FILE, CPU_PROCESSES_FILE} & files.keys():  # never a stranger's
        replace_bytes(root / name, files[name], within=root)


def ensure_log(paths: RunPaths) -> None:
    """The trainer's log, which is continued; an empty one if somebody removed it. Raises OSError."""
    make_folders(paths.log.parent, within=paths.root)
    open_append(paths.log, within=paths.root).close()


def part_launch_context(
    request: ResumeRequest,
    argv: tuple[str, ...],
    written: PartOutputs,
    training: Training,
    wanted: ExpectedFiles | None,
) -> LaunchContext:
    """The start of a part; also what a part that is over is judged by."""
    names, paths = training.names, request.paths
    plan = read_plan(paths)

    def named(path: str) -> str:
        return f"output/{names.of_the_run(PurePath(path).name, written)}"

    def gather() -> tuple[Message, ...]:
        if wanted is None:
            return ()
        try:
            left = describe_uncollected(collect_outputs(written, names, wanted))
        except OSError as error:
            return (unmovable_outputs_error(paths, error).message,)
        return (*left, *resume_remarks(training, written, plan.launch.num_processes if plan is not None else 1))

    return LaunchContext(
        paths=paths,
        argv=argv,
        env=request.env,
        output=f"output/{names.final_name}",
        planned_steps=training.course.steps,
        sequel=ResumeHooks(written.first_step, written.offset, written.stop_at is not None, named, gather),
        interrupt_s=request.interrupt_s,
        terminate_s=request.terminate_s,
        watch=request.watch,
        plan=plan,
        gpus=request.gpus,
    )


def resume_remarks(training: Training, written: PartOutputs, processes: int) -> tuple[Message, ...]:
    """The differences from a run that was not interrupted."""
    settings, course, found = training.settings, training.course, list[Message]()
    if written.stop_at is not None:
        said = msg(
            "sd-scripts can only end a resumed run at the end of an epoch, so lorabake made it save at "
            "step {step} and stopped it there; its last messages are missing from the log",
            step=course.steps,
        )
        found.append(said)
    if written.first_step % course.steps_per_epoch:
        said = msg("the rest of the interrupted epoch was shuffled again, so some images were used twice in it")
        found.append(said)
    if processes > 1:
        said = msg(
            "only the first of the {n} processes continued its random numbers; sd-scripts saves no others", n=processes
        )
        found.append(said)
    every = course.save_every_n_steps
    if every is not None and written.offset % every:
        said = msg("after step {step}, save_every_n_steps counts from that step", step=written.offset)
        found.append(said)
    if any(settings.get(name) for name in ("save_last_n_epochs", "save_last_n_steps")):
        found.append(msg("save_last_n is counted separately in each part of a resumed run, so more files are kept"))
    return tuple(found)


def judge_completed_run(request: ResumeRequest, record: Record, training: Training) -> Record:
    """The verdict on a run that reached its last step without one. Trains nothing."""
    paths, parser = request.paths, LogParser()
    remarks = [msg("it had already reached its last step, so nothing more was trained")]
    try:
        with open_file(paths.log, within=paths.root) as log:
            while piece := log.read(1 << 20):
                parser.feed(piece)
        parser.close()
        seen = replace(parser.seen, step=None)
    except OSError:  # the LoRA of the last step is intact (outlook): that has to do
        seen = LogSummary(saved=True)
        remarks.append(msg("cannot read the log, so the trainer's last messages are unknown"))
    part = record.parts[-1] if record.parts else first_part(record)
    start = part_launch_context(request, part.argv, part_outputs(paths, part, training.course), training, None)
    left = strip_saved_loras(paths.output, start.name) if start.deterministic else ()
    before = record.outcome.returncode if record.outcome is not None else None
    losses = read_recorded_losses(paths)
    evidence = collect_result(start, 0 if seen.saved else before, seen, losses.facts)
    record = with_verdict(start, record, evidence, None)
    record = with_remarks(record, (*loss_remarks(record, losses), *remarks, *left))
    with closing(EventLog(Path(paths.events))) as events:
        finalize_run(paths, record, events)
    return record


def read_recorded_losses(paths: RunPaths) -> LossMonitor:
    """The losses in the events."""
    losses = LossMonitor()
    with suppress(OSError):
        for step in iter_recorded_steps(paths.events, paths.root):
            losses.add_step(step)
    return losses
