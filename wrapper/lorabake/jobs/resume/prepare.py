"""`lorabake resume` from a run's name to its finished record: whether it can resume, from where, with which trainer."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from lorabake.analysis.check import rebuild_plan
from lorabake.analysis.estimate import find_file_limit
from lorabake.analysis.repeat_check import read_run_recipe
from lorabake.analysis.verify_data import read_trusted_inputs
from lorabake.analysis.verify_files import describe_text_change
from lorabake.errors import MachineError, RecipeError, ResourceError, SetupError
from lorabake.inputs.dataset import ScanOptions
from lorabake.inputs.hub import can_run_offline
from lorabake.jobs import rerun, run
from lorabake.jobs.attach import run_supervised
from lorabake.jobs.display import Display
from lorabake.jobs.gpus import choose_gpus
from lorabake.jobs.join import Participation, join_training
from lorabake.jobs.machines import OtherMachines, TrainingSite, ensure_port_free, start_with_others
from lorabake.jobs.meeting import Meeting
from lorabake.jobs.resume.continue_run import (
    ResumeRequest,
    choose_resume_point,
    continue_training,
    next_part_outputs,
    resume_argv,
)
from lorabake.jobs.resume.join import digest_parts, list_continuation_parts, prepare_joined_part
from lorabake.jobs.run import TrainerChoice
from lorabake.jobs.run_files import build_run_files
from lorabake.planning.digest import hash_files
from lorabake.recipe.load import load_recipe
from lorabake.runs.command import ACCELERATE_CONFIG, ACCELERATE_FILE, planned_argv, trainer_env
from lorabake.runs.events import read_last_step
from lorabake.runs.gpu_locks import GpuUse
from lorabake.runs.index import FoundRun
from lorabake.runs.lock import ensure_idle, find_active
from lorabake.runs.record import read_plan
from lorabake.runs.resume_points import ResumePoint, resume_options
from lorabake.runs.seat import SeatOptions, find_seat
from lorabake.runs.watch.input_watch import InputWatch
from lorabake.trainer import versions
from lorabake.trainer.environment import find_recorded_trainer
from lorabake.trainer.install import Trainer
from lorabake.util import resources
from lorabake.util.changes import compare_listings
from lorabake.util.fact_cache import fact_store_path
from lorabake.util.files import read_bytes
from lorabake.util.paths import lorabake_home
from lorabake_schemas.compiled import UnknownOptionError
from lorabake_schemas.disks import RAISE_FILE_LIMIT
from lorabake_schemas.messages import Message, msg, nmsg
from lorabake_schemas.record import Inputs, Record, TrainerRecord
from lorabake_schemas.seat import Seat

if TYPE_CHECKING:
    from lorabake_schemas.options import OptionSnapshot
    from lorabake_schemas.plan import Plan, Script
    from lorabake_schemas.verification import VerifyDifference

Tell = Callable[[Message], None]
Env = Mapping[str, str]
MIN_SAFE_TORCH = (2, 4)  # accelerate loads states with weights_only from there on (1.6.0 utils/other.py:252)


@dataclass(frozen=True, slots=True)
class PreparedResume:
    """A run that can be resumed. ``way`` is None for one that reached its last step and was only not judged.

    ``passed`` are later states that cannot be used, each with the reason. ``again`` is how many steps are trained a
    second time.
    """

    found: FoundRun
    way: ResumePoint | None = None
    passed: tuple[tuple[str, Message], ...] = ()
    again: int = 0


def prepare_resume(found: FoundRun) -> PreparedResume:
    """Raises MachineError for a run that cannot resume: a rehearsal, one in progress, one without a usable state."""
    record, paths = found.record, found.paths
    if record.rehearsal:
        said = msg("{run} is a rehearsal that trained nothing, so there is nothing to resume", run=found.name)
        raise MachineError(said, msg("train with `lorabake run` and its recipe"))
    if (active := find_active(paths, record)) is not None:
        raise active.error
    ensure_idle(paths.root, record.name)
    view = resume_options(paths, record)
    if view.complete:
        return PreparedResume(found)
    way = choose_resume_point(view, paths)
    return PreparedResume(found, way, view.passed, max(0, read_last_step(paths) - way.how.step))


def describe_resume(ready: PreparedResume) -> tuple[Message, ...]:
    """From where it continues, and why not from later."""
    way = ready.way
    if way is None:
        return (
            msg(
                "{run} had already reached its last step; its outputs are checked and nothing more is trained",
                run=ready.found.name,
            ),
        )
    lines = [msg("{state} is not used: {why}", state=place, why=why) for place, why in ready.passed]
    said = msg(
        "{run} continues from {state}, after step {step} of {total}",
        run=ready.found.name,
        state=way.state.path.relative_to(ready.found.root),
        step=way.how.step,
        total=ready.found.record.planned_steps,
    )
    lines.append(said)
    if ready.again:
        lines.append(nmsg(ready.again, "{n} step after it is trained again", "{n} steps after it are trained again"))
    return tuple(lines)


@dataclass(frozen=True, slots=True)
class ReplannedRun:
    """A run planned again from its recipe: the ``plan``, the ``files`` that the trainer reads by name, whether it
    needs nothing from the hub, and the ``differences`` from the run folder.
    """

    plan: Plan
    files: Mapping[str, bytes]
    offline: bool
    differences: tuple[VerifyDifference, ...]


def resolve_trainer(then: TrainerRecord, choice: TrainerChoice, env: Env, tell: Tell) -> Trainer:
    """The trainer named on the command line, else the run's from lorabake's store, installed again if it is missing.
    Raises SetupError if it cannot be installed, or is the user's own and was not named.
    """
    if choice.sd_scripts is not None:
        own = run.ensure_trainer(choice, env, tell)
        torch = own.versions.get("torch", "")
        if (numbers := re.match(r"(\d+)\.(\d+)", torch)) and tuple(map(int, numbers.groups())) < MIN_SAFE_TORCH:
            tell(
                msg(
                    "warning: PyTorch {version} runs code contained in a state, so resume only your own runs",
                    version=torch,
                )
            )
        return own
    if then.commit != resources.load_pin().commit:
        said = msg(
            "lorabake has tested resuming only with the pinned commit of sd-scripts, not with "
            "{commit}; check the steps",
            commit=then.commit or msg("an unknown commit"),
        )
        tell(said)
    asked, here = rerun.trainer_choice_from_record(then), find_recorded_trainer(then, env)
    if here is None:
        return run.install_chosen_trainer(asked, env, tell)
    run.check_trainer(here, env, tell)
    return here


def read_option_snapshot(
    trainer: Trainer | None, then: TrainerRecord, env: Env, tell: Tell, script: Script | None = None
) -> OptionSnapshot:
    """The options of the trainer, or the pin's if it does not answer or is not installed yet. Raises SetupError if
    ``script`` is to be started and lacks something that it imports."""
    found: OptionSnapshot | None = None
    if trainer is not None and trainer.kind != "pin":
        found = versions.read_user_options(trainer, env, tell, script)
        pin = resources.load_snapshot()
        found = found or versions.with_own_signatures(pin, trainer.python, trainer.checkout, env)
    elif then.kind == "pin":
        with suppress(SetupError):
            found = versions.load_commit_options(then.commit, env)
    return found or resources.load_snapshot()


def replan_run(found: FoundRun, snapshot: OptionSnapshot, env: Env) -> ReplannedRun:
    """Plan and compile a run's recipe again, for the machine that it was planned for.

    The plan, command and compiled files in the run folder are not used: they may be edited, or a stranger's. Raises
    MachineError if the recipe is not available, RecipeError if it gives no plan or no files.
    """
    path, content = read_run_recipe(found)
    record, kept = found.record, fact_store_path(lorabake_home(env), env)
    examination = rebuild_plan(
        load_recipe(path, content, home=env.get("HOME")), record.machine, record.attention, snapshot, ScanOptions(kept)
    )
    recipe, plan = examination.planned()
    try:
        files = build_run_files(examination, found.root).fill_folder() | {ACCELERATE_FILE: ACCELERATE_CONFIG}
    except UnknownOptionError as error:  # [kohya] sets an option of lorabake's own: no run was started with that
        said = msg("the recipe of {run} sets options that lorabake sets itself: {why}", run=found.name, why=str(error))
        raise RecipeError(said) from error
    offline = can_run_offline(recipe, examination.base, examination.loaded.folder)
    read = {name: data for name, data in files.items() if name != found.paths.recipe.name}  # that one is a copy
    differences = (each for name, data in read.items() for each in _edited_differences(found, name, data))
    return ReplannedRun(plan, files, offline, tuple(differences))


def _edited_differences(found: FoundRun, name: str, wanted: bytes) -> Iterator[VerifyDifference]:
    """In what a file of the run folder differs from the one that the recipe gives."""
    now, texts = dict[str, str](), [wanted.decode("utf-8", "replace")]
    with suppress(OSError, ValueError):
        data = read_bytes(found.root / name, within=found.root)
        now |= hash_files({name: data})
        texts.append(data.decode("utf-8", "replace"))
    for change in compare_listings(hash_files({name: wanted}), now):
        yield from describe_text_change("compiled", change, texts[0], texts[-1])


def ensure_files_fit(plan: Plan) -> None:
    """Raises ResourceError where a file to be saved certainly exceeds the shell's limit."""
    if (limit := find_file_limit(plan)) is not None:
        raise ResourceError(limit.describe(), RAISE_FILE_LIMIT)


def ensure_options_supported(way: ResumePoint, script: Script, trainer: Trainer, snapshot: OptionSnapshot) -> None:
    """Raises SetupError for an older sd-scripts without the options that resuming needs."""
    known = {f"--{option.name}" for option in snapshot.of(script)}
    lacking = [flag for flag in ("--resume", *way.how.flags) if flag.startswith("--") and flag not in known]
    if lacking:
        said = msg(
            "sd-scripts {commit} has no {options}, so it cannot resume a run from the step of a saved state",
            commit=trainer.commit[:12] if trainer.commit else str(trainer.checkout),
            options=", ".join(lacking),
        )
        raise SetupError(said, msg("start again with `lorabake rerun RUN`"))


def prepare_continuation(
    ready: PreparedResume, choice: TrainerChoice, env: Env, tell: Tell
) -> tuple[ReplannedRun | None, Trainer | None]:
    """The plan of today and the trainer for the rest of a run; neither where nothing is left to train.

    Raises RecipeError, MachineError or SetupError for a recipe, a disk or a trainer that cannot continue it.
    """
    if ready.way is None:
        return None, None
    found, then = ready.found, ready.found.record.trainer
    trainer, plan = resolve_trainer(then, choice, env, tell), read_plan(found.paths)
    snapshot = read_option_snapshot(trainer, then, env, tell, plan.script if plan else None)
    made = replan_run(found, snapshot, env)
    ensure_files_fit(made.plan)
    ensure_options_supported(ready.way, made.plan.script, trainer, snapshot)
    return made, trainer


def preview_resume_command(
    ready: PreparedResume, made: ReplannedRun, trainer: Trainer | None, seat: Seat | None = None
) -> tuple[str, ...]:
    """What would be run, for --dry-run; nothing where nothing is left to train."""
    if ready.way is None:
        return ()
    record = ready.found.record
    argv = _first_start_argv(record, made, trainer, seat)
    return resume_argv(argv, next_part_outputs(ready.found.paths, record, ready.way.how), ready.way)


def _first_start_argv(
    record: Record, made: ReplannedRun, trainer: Trainer | None, seat: Seat | None
) -> tuple[str, ...]:
    """The command of the run's first start with the trainer and the seat of today."""
    python, checkout = (trainer.python, trainer.checkout) if trainer is not None else run.PLACEHOLDER_TRAINER
    return planned_argv(made.plan, record.digest or "", python, checkout, seat)


def find_resume_seat(
    ready: PreparedResume, made: ReplannedRun | None, options: SeatOptions, env: Env, *, detach: bool = False
) -> Seat | None:
    """This machine's seat among those that train the rest; None if it does so alone. Raises what find_seat raises."""
    plan = made.plan if made is not None else read_plan(ready.found.paths)
    return find_seat(options, env, plan.launch, detach=detach) if plan is not None else None


@dataclass(frozen=True, slots=True)
class StartOptions:
    """What is shown, whether the terminal stays, what to do if another run uses the GPU, and whom to tell of that.

    ``seat`` is this machine's among several, ``differences`` are those from when the run was made, which are allowed.
    """

    display: Display
    detach: bool
    use: GpuUse
    tell: Tell
    seat: Seat | None = None
    differences: tuple[VerifyDifference, ...] = ()


def resume_run(
    ready: PreparedResume,
    made: ReplannedRun | None,
    trainer: Trainer | None,
    env: Env,
    how: StartOptions,
) -> Record:
    """Train the rest; the finished record. Without ``made`` and ``trainer`` nothing is left to train.

    Raises MachineError for the run folder or another machine, SetupError when the trainer cannot be started,
    InterruptedRunError when the user stopped it, BusyGpuError as start_with_others does.
    """
    found, record = ready.found, ready.found.record
    request, meeting = _make_request(ready, made, trainer, env, how), None
    if made is not None:
        ensure_port_free(made.plan.launch, how.seat, is_resumed=True)
        if how.seat is not None and ready.way is not None:
            meeting = _plan_meeting(found, made, ready.way, how.seat, how.differences)
        if how.seat is None and (then := (record.parts[-1] if record.parts else record).seat) is not None:
            how.tell(msg("the run was trained on {n} machines and continues on this one only", n=then.machines))

    def start(others: OtherMachines) -> Record:
        def train() -> Record:
            return continue_training(request, others.watch, others.begin)

        job = partial(others.accompany, train, run.exit_code)
        return run_supervised(job, found.paths, record.planned_steps, how.display, detach=how.detach)

    return start_with_others(TrainingSite(found.root, request.gpus, how.use), meeting, start, how.tell)


def join_resumed_run(
    ready: PreparedResume, made: ReplannedRun | None, trainer: Trainer | None, env: Env, how: StartOptions, seat: Seat
) -> int:
    """Train the rest along with the first machine; the exit code of the run. Raises what join_training raises."""
    if made is None or ready.way is None:  # the first machine judges
        return 0
    found, request = ready.found, _make_request(ready, made, trainer, env, how)
    prepare = partial(prepare_joined_part, request, made.plan, found.record, ready.way)
    part = Participation(request.env, prepare, request.interrupt_s, request.terminate_s)
    site = TrainingSite(found.root, request.gpus, how.use)
    return join_training(part, site, _plan_meeting(found, made, ready.way, seat, how.differences), how.tell)


def _make_request(
    ready: PreparedResume, made: ReplannedRun | None, trainer: Trainer | None, env: Env, how: StartOptions
) -> ResumeRequest:
    """What this machine starts. Raises what choose_gpus raises."""
    paths, record, watch = ready.found.paths, ready.found.record, make_input_watch(ready.found, env)
    if made is None or trainer is None:
        return ResumeRequest(paths, (), {}, {}, watch=watch)
    machines = how.seat.machines if how.seat is not None else 1
    gpus = choose_gpus(made.plan.launch, env, how.use, machines) if record.trainer.lock != "cpu" else None
    child = trainer_env(
        env,
        python=trainer.python,
        checkout=trainer.checkout,
        offline=made.offline,
        launch=made.plan.launch,
        complete=trainer.kind == "pin",
    )
    argv = _first_start_argv(record, made, trainer, how.seat)
    return ResumeRequest(paths, argv, child, made.files, watch=watch, gpus=gpus, seat=how.seat)


def _plan_meeting(
    found: FoundRun, made: ReplannedRun, way: ResumePoint, seat: Seat, differences: tuple[VerifyDifference, ...]
) -> Meeting:
    """Where all machines meet that continue the run."""
    parts = list_continuation_parts(found.paths, found.record, way, differences)
    return Meeting.next_to_processes(made.plan.launch, seat, digest_parts(parts), parts)


def make_input_watch(found: FoundRun, env: Env) -> InputWatch:
    """What the run was made from when it began, and what had changed while its earlier parts ran."""
    ended = [found.record.outcome, *(part.outcome for part in found.record.parts)]
    before = {(each.role, each.index, each.name): each for one in ended if one for each in one.inputs_changed}
    inputs = Inputs(inputs=read_trusted_inputs(found))
    return InputWatch(inputs, found.root, env, fact_store_path(lorabake_home(env), env), before=tuple(before.values()))
