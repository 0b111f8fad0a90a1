"""Several recipes, one after the other; with ``once`` safe to repeat, and to start on as many workers as there are.

There is no list of jobs anywhere: the run folders show what has finished, what is in progress and what was interrupted,
and the lock of a run's name decides between two workers.
"""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from lorabake.errors import (
    AlreadyFinishedError,
    BusyError,
    InterruptedRunError,
    LorabakeError,
    MachineError,
    RecipeError,
)
from lorabake.jobs import run as workflow
from lorabake.jobs.resume import prepare
from lorabake.recipe.load import load_recipe
from lorabake.recipe.sweep import combine_overrides, name_variants
from lorabake.runs.folder import RunPaths
from lorabake.runs.index import iter_runs_with_digest, list_runs_with_digest, read_index, read_run
from lorabake.runs.lock import find_active, find_running_trainer, iter_claimed, lock_path
from lorabake.runs.resume_points import resume_options
from lorabake.runs.status import IN_PROGRESS, read_state
from lorabake.util.files import exists
from lorabake.util.locks import find_holder
from lorabake.util.paths import lorabake_home
from lorabake_schemas.messages import Message, msg, nmsg

if TYPE_CHECKING:
    from lorabake.jobs.run import Env, PreparedRun, RunRequest, Tell
    from lorabake.recipe.overrides import Override
    from lorabake.runs.index import FoundRun
    from lorabake_schemas.queue_report import JobState
    from lorabake_schemas.record import Record

# The worst first: what a script has to know before anything else.
EXIT_CODES_BY_WEIGHT = (130, 3, 6, 4, 8, 1, 7, 5)
IDLE_STATES = frozenset({"in-progress", "already-finished"})
STOPPING_LIMIT_S, POLL_S = 60.0, 0.2  # the longest that a run which is being stopped is waited for
MAX_ATTEMPTS = 3  # at a run folder that another worker makes in the same moment


@dataclass(frozen=True, slots=True)
class JobResult:
    """What became of one recipe. ``code`` is the exit code of `lorabake run` for it alone."""

    order: RunRequest
    state: JobState
    code: int
    root: Path | None = None
    record: Record | None = None
    error: LorabakeError | None = None

    @property
    def message(self) -> Message | None:
        """How it ended, in one sentence."""
        if self.error is not None:
            return self.error.message
        return self.record.outcome.message if self.record is not None and self.record.outcome is not None else None


def expand_order(order: RunRequest, env: Env) -> list[RunRequest]:
    """One order for each combination of the values that --set gives (recipe/sweep.py), each with a name of its own.

    Raises RecipeError if the recipe cannot be read.
    """
    if not any("," in each.text for each in order.overrides):
        return [order]
    load = partial(load_recipe, order.recipe, order.content, home=env.get("HOME"))

    def is_one_value(override: Override) -> bool:
        where = [finding.where for finding in load(overrides=(override,)).findings]
        return not any(override.covers(each) for each in where)

    variants = combine_overrides(order.overrides, is_one_value)
    if len(variants) == 1:
        return [order]
    loaded = load(overrides=variants[0])
    recipe = loaded.recipe or loaded.salvage
    name = recipe.name if recipe is not None else order.recipe.stem
    return [replace(order, overrides=each) for each in name_variants(name, variants)]


def run_queue(
    orders: Sequence[RunRequest], env: Env, tell: Tell, show: Callable[[PreparedRun], None]
) -> Iterator[JobResult]:
    """Train the recipes in their order; a failed one does not stop the rest, an interrupted one does.

    ``show`` gets each run when it is prepared, and before the first one those with errors: they are known before hours
    of training, and can be corrected until it is their turn. The queue goes on if the terminal is closed.
    """
    if sys.platform != "win32":
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        _show_errors(orders[1:], env, tell, show)
        is_stopped = False
    except KeyboardInterrupt:
        is_stopped = True
    for order in orders:
        if is_stopped:
            error = InterruptedRunError(msg("not started, because the queue was stopped"))
            yield JobResult(order, "not-started", error.exit_code, error=error)
            continue
        result = _run_job(order, env, tell, show)
        is_stopped = result.state == "interrupted"
        yield result


def _show_errors(orders: Sequence[RunRequest], env: Env, tell: Tell, show: Callable[[PreparedRun], None]) -> None:
    """The errors of recipes whose turn comes later."""
    count = 0
    for order in orders:
        try:
            prepared = workflow.prepare_run(replace(order, refresh_cache=False), env)
        except RecipeError as error:
            count += 1
            tell(error.message)
            continue
        except LorabakeError:
            continue  # it may be gone by then: a run in progress, a folder that is not there yet
        if prepared.examination.errors:
            count += 1
            show(prepared)
    if count:
        tell(
            nmsg(
                count,
                "{n} recipe has errors: correct it before its turn",
                "{n} recipes have errors: correct them before their turn",
            )
        )


def worst_exit_code(results: Iterable[JobResult], *, once: bool) -> int:
    """The most serious exit code; with ``once`` a run elsewhere counts only if there was nothing else to do."""
    found = list(results)
    codes = {each.code for each in found}
    if once and any(each.state not in IDLE_STATES for each in found):
        codes.discard(BusyError.exit_code)
    return next((code for code in EXIT_CODES_BY_WEIGHT if code in codes), max(codes, default=0))


def _run_job(order: RunRequest, env: Env, tell: Tell, show: Callable[[PreparedRun], None]) -> JobResult:
    root, was_there = None, False
    for attempt in range(MAX_ATTEMPTS):
        try:
            prepared = workflow.prepare_run(order, env)
            root, was_there = prepared.root, exists(prepared.root)
            if not attempt:
                show(prepared)
            return _train_or_leave(prepared, env, tell)
        except KeyboardInterrupt:
            error = InterruptedRunError(msg("interrupted"))
            return JobResult(order, "interrupted", error.exit_code, error=error)
        except LorabakeError as error:
            is_taken = order.once and order.run_dir is None and root is not None and exists(root) and not was_there
            if type(error) is not MachineError or not is_taken or attempt + 1 == MAX_ATTEMPTS:
                return JobResult(order, _state_after(error), error.exit_code, root, error=error)
    raise AssertionError


def _state_after(error: LorabakeError) -> JobState:
    match error:
        case AlreadyFinishedError():
            return "already-finished"
        case BusyError():
            return "in-progress"
        case InterruptedRunError():
            return "interrupted"
        case _:
            return "failed"


def _train_or_leave(prepared: PreparedRun, env: Env, tell: Tell) -> JobResult:
    order, seat = prepared.order, prepared.seat
    if order.once:
        _wait_for_stops(prepared)
    request = workflow.make_request(prepared, env, tell)
    same = _find_same_runs(request.provenance.digest, prepared.root.parent, env) if order.once else []
    for found in same:
        if found.record.status == "finished":
            return JobResult(order, "already-finished", 0, found.root, found.record)
        if (active := find_active(found.paths, found.record)) is not None:
            raise active.error
    if (begun := next(filter(_is_resumable, same), None)) is not None:
        return _judge(order, "resumed", begun.root, _resume(begun, prepared, env, tell))
    if seat is not None and seat.rank:
        code = workflow.join_first_machine(prepared, request, seat, tell)
        return _judge(order, "finished", prepared.root, code)
    return _judge(order, "finished", prepared.root, workflow.launch_prepared(prepared, request, env, tell))


def _judge(order: RunRequest, state: JobState, root: Path, ended: Record | int) -> JobResult:
    """The result of a training; ``state`` is for one that went well. Machines that only joined know its exit code."""
    if isinstance(ended, int):
        ends: Mapping[int, JobState] = {0: state, InterruptedRunError.exit_code: "interrupted"}
        return JobResult(order, ends.get(ended, "failed"), ended)
    code = workflow.exit_code(ended)
    return JobResult(order, state if code == 0 else "failed", code, root, ended)


def _wait_for_stops(prepared: PreparedRun) -> None:
    """Wait until no run of this name is being stopped: a batch job that was requeued can start before that, and would
    skip the run that it is to resume.
    """
    recipe, deadline = prepared.examination.recipe, time.monotonic() + STOPPING_LIMIT_S
    if recipe is not None:
        while _is_one_ending(prepared.root.parent, recipe.name) and time.monotonic() < deadline:
            time.sleep(POLL_S)


def _is_one_ending(folder: Path, name: str) -> bool:
    """A supervisor has the name a moment longer than its guard has the claim, and both longer than the record says."""
    with suppress(OSError):
        holder = find_holder(lock_path(folder, name))
        if holder is not None and holder.certain and holder.owner is not None and holder.owner.use:
            paths = RunPaths(folder / Path(holder.owner.use).name)
            if _is_ending(paths, alive=True):
                return True
    return any(_is_ending(paths, alive=find_running_trainer(paths) is not None) for paths in iter_claimed(folder, name))


def _is_ending(paths: RunPaths, *, alive: bool) -> bool:
    try:
        state = read_state(paths)
    except MachineError:  # its record cannot be read
        return False
    return state == "stopping" or (alive and state not in IN_PROGRESS)


def _find_same_runs(digest: str, folder: Path, env: Env) -> list[FoundRun]:
    """The runs of this digest that this machine knows or that are in ``folder``: the finished ones first."""
    noted = iter_runs_with_digest(read_index(lorabake_home(env)), digest)
    roots = dict.fromkeys(root.absolute() for root in (*noted, *list_runs_with_digest(folder, digest)))
    found = [read_run(root, Path.cwd()) for root in roots]
    return sorted(found, key=lambda each: each.record.status != "finished")


def _is_resumable(found: FoundRun) -> bool:
    if found.record.status != "interrupted" or found.record.rehearsal:
        return False
    view = resume_options(found.paths, found.record)
    return view.complete or view.way is not None


def _resume(found: FoundRun, prepared: PreparedRun, env: Env, tell: Tell) -> Record | int:
    """The rest of an interrupted run; its digest shows that its inputs and settings are today's."""
    order, seat, ready = prepared.order, prepared.seat, prepare.prepare_resume(found)
    made, trainer = prepare.prepare_continuation(ready, order.trainer, env, tell)
    if made is not None and made.differences:
        said = msg("files of {run} were edited: {what}", run=found.name, what=made.differences[0].message)
        raise MachineError(said, msg("see it with `lorabake verify {run}`", run=found.name))
    for line in prepare.describe_resume(ready):
        tell(line)
    how = prepare.StartOptions(order.display, False, order.use, tell, seat)
    if seat is not None and seat.rank:
        return prepare.join_resumed_run(ready, made, trainer, env, how, seat)
    return prepare.resume_run(ready, made, trainer, env, how)
