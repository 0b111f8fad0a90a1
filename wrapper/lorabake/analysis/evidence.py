"""What a run folder says of itself: its list of inputs, its plan, its command."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, cast

from pydantic import ValidationError

from lorabake.inputs.manifest import unescape_path
from lorabake.runs.command import planned_argv, recorded_env, rehearsal_argv, trainer_env
from lorabake.util.files import read_bytes, reason
from lorabake.util.hashing import digest_bytes
from lorabake_schemas.base import parse_lenient
from lorabake_schemas.messages import Message, escape_undecodable, msg
from lorabake_schemas.plan import Plan
from lorabake_schemas.record import FileDigest, Input, Inputs, Record, RunPart
from lorabake_schemas.verification import FileChange, VerifyDifference

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lorabake.runs.folder import RunPaths


@dataclass(frozen=True, slots=True)
class InputListing:
    """What inputs.json lists. ``doubtful`` are inputs of which it says something else than the record does: which of
    their files changed cannot be told."""

    inputs: tuple[Input, ...] = ()
    doubtful: tuple[Input, ...] = ()
    differences: tuple[VerifyDifference, ...] = ()
    unproven: tuple[Message, ...] = ()


def read_input_listing(paths: RunPaths, record: Record) -> InputListing:
    """The inputs of a run, as far as the record vouches for them."""
    then = record.inputs_file
    if then is None:
        said = msg("the record has no hashes of images, captions and models because an older lorabake wrote it")
        return InputListing(unproven=(said,))
    try:
        found = read_bytes(paths.inputs, within=paths.root)
    except OSError as error:
        said = msg("cannot read {file}: {why}", file=then.name, why=reason(error))
        return InputListing(differences=(_inputs_file_difference(then, None, said),))
    now = digest_bytes(found, then.name)
    try:
        inputs = parse_lenient(Inputs, found).inputs
    except ValidationError:
        said = msg("{file} changed and is not a list of inputs", file=then.name)
        return InputListing(differences=(_inputs_file_difference(then, now, said),))
    if now.sha256 == then.sha256:
        return InputListing(inputs)
    said = msg("{file} changed after the run", file=then.name)
    return InputListing(*_split_by_record(inputs, record), differences=(_inputs_file_difference(then, now, said),))


def _inputs_file_difference(then: FileDigest, now: FileDigest | None, said: Message) -> VerifyDifference:
    change: FileChange = "changed" if now is not None else "gone"
    return VerifyDifference(
        what="inputs", name=then.name, change=change, message=said, was=then.sha256, now=now.sha256 if now else None
    )


def _split_by_record(inputs: tuple[Input, ...], record: Record) -> tuple[tuple[Input, ...], tuple[Input, ...]]:
    """Those of which the record says the same, and the others."""
    sure = tuple(each for each in inputs if each.digest() in record.inputs)
    return sure, tuple(each for each in inputs if each not in sure)


def read_plan(paths: RunPaths) -> Plan | None:
    """The plan as it was when the run began; None where an older lorabake kept none, or it cannot be read."""
    try:
        return parse_lenient(Plan, read_bytes(paths.plan, within=paths.root))
    except (OSError, ValueError):
        return None


def changed_command(paths: RunPaths, record: Record) -> tuple[VerifyDifference, ...]:
    """command.json is for people to read and the record has no digest of it: its content is compared."""
    try:
        told: object = json.loads(read_bytes(paths.command, within=paths.root))
    except FileNotFoundError:
        said = msg("{file} is missing", file=paths.command.name)
        return (VerifyDifference(what="compiled", name=paths.command.name, change="gone", message=said),)
    except OSError as error:
        said = msg("cannot read {file}: {why}", file=paths.command.name, why=reason(error))
        return (VerifyDifference(what="compiled", name=paths.command.name, change="unreadable", message=said),)
    except (ValueError, RecursionError):
        told = None
    if isinstance(told, dict) and _is_same_command(cast("dict[str, object]", told), record):
        return ()
    said = msg("{file} changed after the run", file=paths.command.name)
    return (VerifyDifference(what="compiled", name=paths.command.name, change="changed", message=said),)


def _is_same_command(told: dict[str, object], record: Record) -> bool:
    argv, environment = told.get("argv"), told.get("environment")
    if not isinstance(argv, list) or not isinstance(environment, dict):
        return False
    values = {
        str(name): escape_undecodable(str(value)) for name, value in cast("dict[object, object]", environment).items()
    }
    return [escape_undecodable(str(each)) for each in cast("list[object]", argv)] == list(record.argv) and (
        values == record.environment and escape_undecodable(str(told.get("cwd"))) == record.cwd
    )


def changed_launch(record: Record, plan: Plan) -> tuple[VerifyDifference, ...]:
    """What the record has of the command and its environment that lorabake would not have made of the plan.

    Neither is ever run: a start is built from the plan and the trainer (runs/command.py).
    """
    trainer, found = record.trainer, list[VerifyDifference]()
    python = Path(unescape_path(trainer.python))
    if record.rehearsal:
        argv = (trainer.python, *rehearsal_argv(plan.launch, plan.family)[1:])
        env = trainer_env({}, python=python)
    else:
        checkout = Path(unescape_path(trainer.checkout or ""))
        argv = planned_argv(plan, record.digest or "", python, checkout)
        deterministic, offline = plan.launch.deterministic, record.environment.get("HF_HUB_OFFLINE") == "1"
        env = trainer_env(
            {}, python=python, checkout=checkout, offline=offline, cpu=plan.launch.cpu, deterministic=deterministic,
            complete=trainer.kind == "pin",
        )  # fmt: skip
    first, sequels = [record.argv, *(part.argv for part in record.parts[:1])], record.parts[1:]
    if any(tuple(map(escape_undecodable, argv)) != each for each in first) or not all(
        _is_resumed_command(argv, part) for part in sequels
    ):
        found.append(_edited_difference("argv", " ".join(map(escape_undecodable, argv)), " ".join(record.argv)))
    for name, value in recorded_env(env).items():
        if record.environment.get(name, escape_undecodable(value)) != escape_undecodable(
            value
        ):  # another lorabake may not set it
            found.append(
                _edited_difference(f"environment.{name}", escape_undecodable(value), record.environment.get(name))
            )
    return tuple(found)


def _is_resumed_command(argv: Sequence[str], part: RunPart) -> bool:
    """Whether a continuation's command is that of the first start with additions (runs/resume.command_of)."""
    rest = iter(part.argv)
    return all(escape_undecodable(each) in rest for each in argv[1:])


def _edited_difference(key: str, was: str, now: str | None) -> VerifyDifference:
    said = msg("{key} in record.json was edited and does not match the plan", key=key)
    return VerifyDifference(what="record", name=key, change="changed", message=said, was=was, now=now)


def changed_record(record: Record, plan: Plan) -> tuple[VerifyDifference, ...]:
    """What the record says for itself and the plan says, too; ``plan`` is proven by its digest."""
    seed = plan.value("seed")
    planned = {"seed": seed if isinstance(seed, int) else 0, "planned_steps": plan.forecast.steps}
    return tuple(
        VerifyDifference(
            what="record",
            name=key,
            change="changed",
            message=msg("{key} is {now} in record.json but {was} in plan.json", key=key, now=now, was=was),
            was=str(was),
            now=str(now),
        )
        for key, was in planned.items()
        if (now := int(getattr(record, key))) != was
    )
