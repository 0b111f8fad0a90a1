"""What a run folder says of itself: its list of inputs, its plan, and the texts that its digests stand for."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from pydantic import ValidationError

from lorabake import resources
from lorabake.errors import LorabakeError
from lorabake.planning.compile import Compiled, compile_plan
from lorabake.planning.identity import content_spelling, run_digest
from lorabake.runs.command import ACCELERATE_FILE
from lorabake.runs.folder import digest_of
from lorabake_schemas.plan import Plan
from lorabake_schemas.record import FileDigest, Input, Inputs, Record
from lorabake_schemas.verification import Change, Difference
from lorabake_schemas.words import Said, legible, say

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from lorabake.runs.folder import RunPaths


@dataclass(frozen=True, slots=True)
class Listing:
    """What inputs.json lists. ``doubtful`` are inputs of which it says something else than the record does: which of
    their files changed cannot be told."""

    inputs: tuple[Input, ...] = ()
    doubtful: tuple[Input, ...] = ()
    differences: tuple[Difference, ...] = ()
    unproven: tuple[Said, ...] = ()


def listing(paths: RunPaths, record: Record) -> Listing:
    """The inputs of a run, as far as the record vouches for them."""
    then = record.inputs_file
    if then is None:
        said = say(
            "the record holds no hashes of pictures, captions and models: lorabake {version} kept none",
            version=record.lorabake,
        )
        return Listing(unproven=(said,))
    try:
        content = paths.inputs.read_bytes()
    except OSError as error:
        said = say("{file} cannot be read: {why}", file=then.name, why=error.strerror or str(error))
        return Listing(differences=(_about_list(then, None, said),))
    now = digest_of(content, then.name)
    try:
        inputs = Inputs.model_validate_json(content).inputs
    except ValidationError:
        said = say("{file} changed and is no list of inputs any more", file=then.name)
        return Listing(differences=(_about_list(then, now, said),))
    if now.sha256 == then.sha256:
        return Listing(inputs)
    said = say("{file} changed after the run", file=then.name)
    return Listing(*_split(inputs, record), differences=(_about_list(then, now, said),))


def _about_list(then: FileDigest, now: FileDigest | None, said: Said) -> Difference:
    change: Change = "changed" if now is not None else "gone"
    return Difference(
        what="inputs", name=then.name, change=change, message=said, was=then.sha256, now=now.sha256 if now else None
    )


def _split(inputs: tuple[Input, ...], record: Record) -> tuple[tuple[Input, ...], tuple[Input, ...]]:
    """Those of which the record says the same, and the others."""
    sure = tuple(each for each in inputs if each.digest() in record.inputs)
    return sure, tuple(each for each in inputs if each not in sure)


def plan_of(paths: RunPaths) -> Plan | None:
    """The plan as it was when the run began; None where an older lorabake kept none, or it cannot be read."""
    try:
        return Plan.model_validate_json(paths.plan.read_bytes())
    except (OSError, ValueError):
        return None


def _compiled(plan: Plan, spelling: Mapping[str, str]) -> Compiled | None:
    """The compiled files of a plan that was read back; None when it cannot be compiled (any more)."""
    with suppress(LorabakeError, ValueError, LookupError):
        return compile_plan(plan, resources.option_snapshot(plan.script), resources.dataset_options(), spelling)
    return None


def original_texts(record: Record, plan: Plan | None) -> dict[str, str]:
    """The recipe and the compiled files as they were, by name; only what has the digest that the record holds."""
    held = {file.name: file.sha256 for file in (record.recipe, *record.compiled)}
    known = dict(_texts(record, plan))
    return {name: text for name, text in known.items() if digest_of(text.encode(), name).sha256 == held.get(name)}


def _texts(record: Record, plan: Plan | None) -> Iterator[tuple[str, str]]:
    if record.recipe_text is not None:
        yield record.recipe.name, record.recipe_text
    if plan is None:
        return
    made = _compiled(plan, {each.name: each.place for each in record.inputs if each.kind != "hub"})
    if made is not None:
        yield "train.toml", made.train.decode()
        yield "dataset.toml", made.dataset.decode()


def digest_drift(
    paths: RunPaths, record: Record, plan: Plan | None, texts: Mapping[str, str]
) -> tuple[Difference, ...]:
    """Whether the run's digest still follows from what the record says; not asked where the plan does not lead to the
    compiled files, which is a difference of its own, or belongs to a lorabake that compiled otherwise."""
    if record.digest is None or plan is None or not {"train.toml", "dataset.toml"} <= set(texts):
        return ()
    made = _compiled(plan, content_spelling(record.inputs))
    others = dict(_others(paths, record))
    if made is None or None in others.values():
        return ()
    files = {"train.toml": made.train, "dataset.toml": made.dataset}
    files |= {name: data for name, data in others.items() if data is not None}
    now = run_digest(files, record.inputs, record.trainer, plan.launch)
    if now == record.digest:
        return ()
    said = say("record.json was edited: its digest does not follow from what it says any more")
    return (Difference(what="record", name="digest", change="changed", message=said, was=record.digest, now=now),)


def _others(paths: RunPaths, record: Record) -> Iterator[tuple[str, bytes | None]]:
    """The compiled files that hold no path: prompts and presets. None for one that is not as the record has it."""
    for file in record.compiled:
        if file.name not in {"train.toml", "dataset.toml", ACCELERATE_FILE}:
            data: bytes | None = None
            with suppress(OSError):
                data = (paths.root / file.name).read_bytes()
            yield file.name, data if data is not None and digest_of(data, file.name) == file else None


def command_drift(paths: RunPaths, record: Record) -> tuple[Difference, ...]:
    """command.json is for people to read and the record has no digest of it: its content is compared."""
    try:
        told: object = json.loads(paths.command.read_bytes())
    except FileNotFoundError:
        said = say("{file} is gone", file=paths.command.name)
        return (Difference(what="compiled", name=paths.command.name, change="gone", message=said),)
    except (OSError, ValueError, RecursionError):
        told = None
    if isinstance(told, dict) and _same_command(cast("dict[str, object]", told), record):
        return ()
    said = say("{file} changed after the run", file=paths.command.name)
    return (Difference(what="compiled", name=paths.command.name, change="changed", message=said),)


def _same_command(told: dict[str, object], record: Record) -> bool:
    argv, environment = told.get("argv"), told.get("environment")
    if not isinstance(argv, list) or not isinstance(environment, dict):
        return False
    values = {str(name): legible(str(value)) for name, value in cast("dict[object, object]", environment).items()}
    return [legible(str(each)) for each in cast("list[object]", argv)] == list(record.argv) and (
        values == record.environment and legible(str(told.get("cwd"))) == record.cwd
    )


__all__ = ["Listing", "command_drift", "digest_drift", "listing", "original_texts", "plan_of"]
