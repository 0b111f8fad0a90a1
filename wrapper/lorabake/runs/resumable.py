"""Whether a run can go on, and from which of its states. Reads the run folder, changes nothing."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, cast

from lorabake.files import open_file, read_text
from lorabake.planning.continuation import Continuation, Course, continuation
from lorabake.reading import safetensors_header
from lorabake.runs.events import LINE
from lorabake.runs.happenings import Totals
from lorabake.runs.known_failures import RunFacts
from lorabake.runs.outcome import LOST_STATE, Evidence
from lorabake.runs.parts import Names, Written
from lorabake.runs.progress import Parser
from lorabake.runs.states import Expected, Spot, State, expected, problem, states, wrong_with_archive
from lorabake_schemas.words import Said, joined, legible, say

if TYPE_CHECKING:
    from pathlib import Path

    from lorabake.runs.folder import RunPaths
    from lorabake_schemas.record import Part, Record

Table = Mapping[str, object]
BEGINNING = 64 << 20  # bytes of events and log; sd-scripts counts before it trains


@dataclass(frozen=True, slots=True)
class Training:
    """A run as sd-scripts sees it: its compiled settings, how far it goes, what its files are called."""

    settings: Table
    names: Names

    @property
    def course(self) -> Course:
        return self.names.course


@dataclass(frozen=True, slots=True)
class Way:
    """From which state a training goes on, and how; ``wanted`` is what a whole state of it holds. ``lost``: the trainer
    has failed to load it before, and there is no other."""

    training: Training
    wanted: Expected
    state: State
    how: Continuation
    lost: bool = False


@dataclass(frozen=True, slots=True)
class Outlook:
    """``way`` is None when there is no state to go on from; ``passed`` are those that are further than the one that was
    taken, each with why it was not; ``complete`` says that the LoRA of the last step is there."""

    training: Training | None = None
    wanted: Expected | None = None
    way: Way | None = None
    passed: tuple[tuple[str, Said], ...] = ()
    complete: bool = False

    @property
    def next_step(self) -> int | None:
        """The step to advise to go on from."""
        return self.way.how.step if self.way is not None and not self.way.lost else None


def outlook(paths: RunPaths, record: Record) -> Outlook:
    """The newest whole state by content from which sd-scripts can truly go on; one that it failed to load only where
    there is no other, since what was wrong may have been fixed."""
    training = training_of(paths)
    if training is None:
        return Outlook()
    found = states(spots(paths, record), training.names.name, training.course)
    wanted = expected(found, training.settings)
    complete = any(True for _ in last_files(paths, record, training.names))
    passed: dict[str, Said] = {}
    lost = {part.state for part in record.parts if part.outcome is not None and part.outcome.code == LOST_STATE}
    again: Way | None = None
    for state in found:
        place = legible(state.path.relative_to(paths.root).as_posix())
        how = continuation(training.course, state.step)
        why = problem(state, wanted) if isinstance(how, Continuation) else how
        if isinstance(how, Continuation) and why is None:
            way = Way(training, wanted, state, how, lost=place in lost)
            if not way.lost:
                return Outlook(training, wanted, way, tuple(passed.items()), complete)
            again = again or way
            why = say("the trainer failed to load it before")
        if why is not None:
            passed[place] = why
    if again is not None:
        del passed[legible(again.state.path.relative_to(paths.root).as_posix())]
    return Outlook(training, wanted, again, tuple(passed.items()), complete)


def training_of(paths: RunPaths) -> Training | None:
    """None when sd-scripts never got as far as counting its steps, or the folder is damaged."""
    settings, totals = settings_of(paths), totals_of(paths)
    if settings is None or totals is None or not totals.batches_per_epoch:
        return None
    accumulation, every = settings.get("gradient_accumulation_steps"), settings.get("save_every_n_steps")
    course = Course(
        batches=totals.batches_per_epoch,
        accumulation=accumulation if isinstance(accumulation, int) else 1,
        epochs=totals.epochs,
        steps=totals.steps,
        save_every_n_steps=every if isinstance(every, int) else None,
    )
    kind = str(settings.get("save_model_as") or "safetensors")
    return Training(settings, Names(saved_as(settings), kind, course))


def saved_as(settings: Table) -> str:
    """What sd-scripts calls what it saves (TU:46)."""
    return str(settings.get("output_name") or "last")


def settings_of(paths: RunPaths) -> Table | None:
    """The compiled settings; None when the file is gone or damaged."""
    try:
        return tomllib.loads(read_text(paths.train, within=paths.root))
    except (OSError, ValueError, RecursionError):
        return None


def with_facts(evidence: Evidence, paths: RunPaths, record: Record) -> Evidence:
    """What remedies depend on, and whether the state is to blame that the last part was to resume from."""
    seen, part = evidence.seen, record.parts[-1] if record.parts else None
    return replace(
        evidence,
        facts=RunFacts(settings_of(paths) or {}, record.trainer.kind == "own"),
        lost_state=part.state if part is not None and seen.lost_state and seen.step is None else None,
    )


def totals_of(paths: RunPaths) -> Totals | None:
    """sd-scripts' own counts as the run began, from the events; from the log where a full disk kept them out, or where
    the events are gone."""
    with suppress(OSError, ValueError), open_file(paths.events, within=paths.root) as file:
        while file.tell() < BEGINNING and (line := file.readline(LINE)):
            if b'"totals"' in line and (found := _totals(line)) is not None:
                return found
    parser = Parser()
    with suppress(OSError, ValueError), open_file(paths.log, within=paths.root) as log:
        while parser.seen.totals is None and log.tell() < BEGINNING and (piece := log.read(1 << 20)):
            parser.feed(piece)
    return parser.seen.totals


def _totals(line: bytes) -> Totals | None:
    try:
        told = cast("dict[str, int]", json.loads(line))
        return Totals(**{each.name: told[each.name] for each in fields(Totals)})
    except (ValueError, TypeError, LookupError, RecursionError):
        return None


def spots(paths: RunPaths, record: Record) -> list[Spot]:
    """Where states may lie: output/, and what a continuation that was killed has left in its own folder."""
    found = [Spot(paths.output)]
    for part in record.parts[1:]:
        folder = paths.root / "parts" / f"{part.number:03d}" / "output"
        if folder.is_dir():
            found.append(Spot(folder, part.number, part.offset))
    return found


def written_by(paths: RunPaths, part: Part, course: Course) -> Written:
    """Where a start of the trainer wrote, and how its numbers become the run's."""
    how = continuation(course, part.first_step)
    stop_at = how.stop_at if isinstance(how, Continuation) else None
    return Written(paths.root, part.number, part.first_step, part.offset, stop_at)


def last_files(paths: RunPaths, record: Record, names: Names) -> Iterator[Path]:
    """The LoRA of the last step where it is whole, in output/ or still where a continuation wrote it."""
    if whole(paths.output / names.final, names.course.steps, 0):
        yield paths.output / names.final
    for part in record.parts[1:]:
        written = written_by(paths, part, names.course)
        final = names.final if written.stop_at is None else names.stepped(written.stop_at, state=False)
        if whole(written.output / final, names.course.steps, part.offset):
            yield written.output / final


def whole(path: Path, steps: int, offset: int) -> bool:
    """Whether a LoRA is there to its last byte and says that many steps; ckpt and pt do not say."""
    try:
        if path.suffix != ".safetensors":
            return wrong_with_archive(path) is None
        found = safetensors_header.read(path)
    except OSError:
        return False
    if isinstance(found, str):
        return False
    return found.metadata.get("ss_steps") in {None, str(steps), str(steps - offset)}


def missing(paths: RunPaths) -> Said | None:
    """The files without which nobody can tell whether a run can go on: which is gone, or of no use."""
    for path in (paths.train, paths.output):
        if not path.exists():
            return say("{file} is gone", file=path.name)
    if not paths.output.is_dir():
        return say("{file} is no folder any more", file=paths.output.name)
    if settings_of(paths) is None:
        return say("{file} changed and is no TOML any more", file=paths.train.name)
    if not paths.events.exists() and not paths.log.exists():
        events, log = paths.events.name, paths.log.relative_to(paths.root).as_posix()
        return say("{events} and {log} are gone, which say how far the training goes", events=events, log=log)
    return None


def advice(view: Outlook, settings: Table | None) -> Said:
    """Why a run cannot be resumed, and what to do the next time."""
    if view.passed or view.way is not None:
        return say("none of its states can be used: start it again with `lorabake rerun`")
    settings = settings or {}
    keys = [] if settings.get("save_state") else ["save.save_state = true"]
    if not any(settings.get(name) for name in ("save_every_n_epochs", "save_every_n_steps")):
        keys.append("save.save_every_n_epochs")
    if not keys or (view.training is None and settings.get("save_state")):
        return say("it did not get as far as its first state: start it again with `lorabake rerun`")
    return say("no state was saved: set {keys} in the recipe, and run it again", keys=joined(keys))
