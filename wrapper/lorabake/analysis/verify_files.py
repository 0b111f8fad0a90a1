"""A run folder compared with its record: recipe, compiled files, command, outputs, and the record with the plan.

Recipe and plan are compiled again: that gives the text that a changed file had, and the values that record.json must
have. Nothing of the data is needed, and nothing counts that does not lead to the digests in the record.
"""

from __future__ import annotations

import json
import shlex
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import chain, combinations
from pathlib import Path, PurePath
from posixpath import dirname, join, normpath
from typing import TYPE_CHECKING, Any

from lorabake.analysis.differences import (
    Drift,
    count_files,
    describe_file_change,
    describe_record_changes,
    describe_value_change,
)
from lorabake.errors import LorabakeError
from lorabake.inputs.manifest import unescape_path
from lorabake.planning.compile import DATASET_FILE, TRAIN_FILE, CompiledPlan, compile_plan
from lorabake.planning.digest import compute_run_digest, hash_files, placeholder_paths
from lorabake.recipe.paths import list_hub_ids, list_recipe_paths
from lorabake.runs.command import ACCELERATE_FILE, planned_argv, recorded_env, rehearsal_argv, trainer_env
from lorabake.runs.launch_request import encode_command
from lorabake.runs.record import read_plan
from lorabake.util import resources
from lorabake.util.changes import Change, compare_listings
from lorabake.util.files import read_text, unreadable_reason
from lorabake.util.hashing import digest_bytes
from lorabake_schemas.messages import escape_undecodable, literal, msg
from lorabake_schemas.recipe import Recipe
from lorabake_schemas.verification import VerifyDifference, VerifySubject

if TYPE_CHECKING:
    from lorabake.runs.folder import RunPaths
    from lorabake.util.hashing import FileHasher
    from lorabake_schemas.plan import Plan
    from lorabake_schemas.record import FileDigest, Record


def compare_files(then: Sequence[FileDigest], root: Path, hasher: FileHasher) -> Iterator[Change]:
    """Files of a run folder by their digests; files added since are not a change."""
    hashed = hasher.of(root, [file.name for file in then])
    now = {name: found.sha256 for name, found in hashed.items() if found is not None}
    lost = {name: unreadable_reason(root / name) for name in hashed if name not in now}
    unreadable = {name: why for name, why in lost.items() if why is not None}
    return compare_listings({file.name: file.sha256 for file in then}, now, unreadable=unreadable)


def verify_outputs(paths: RunPaths, record: Record, hasher: FileHasher) -> Drift:
    """What the trainer wrote."""
    then = record.outcome.outputs if record.outcome is not None else ()
    found = [describe_file_change("output", change) for change in compare_files(then, paths.root, hasher)]
    return Drift(tuple(found), compared=count_files(then))


def verify_run_files(paths: RunPaths, record: Record, hasher: FileHasher) -> Drift:
    """The run's copy of the recipe, the compiled files, plan and command, and whether the record agrees with the plan.

    What runs is built from plan and trainer, never taken from the record: its command is only compared.
    """
    plan = read_plan(paths)
    was = _recompile(record, plan)
    command = digest_bytes(encode_command(record.argv, record.cwd, record.environment), paths.command.name)
    files, found = (record.recipe, *record.compiled, record.plan_file, command), list[VerifyDifference]()
    changes = {change.name: change for change in compare_files(files, paths.root, hasher)}
    for name, change in changes.items():
        text = _read_text_or_none(paths, name) if change.kind == "changed" else None
        what: VerifySubject = "recipe" if name == record.recipe.name else "compiled"
        found += describe_text_change(what, change, was.texts.get(name), text)
    if plan is not None and record.plan_file.name not in changes:
        found += describe_record_changes(_compare_record(record, plan, was))
    return Drift(tuple(found), compared=count_files(files))


def _read_text_or_none(paths: RunPaths, name: str) -> str | None:
    try:
        return read_text(paths.root / name, within=paths.root)
    except (OSError, ValueError):
        return None


def describe_text_change(
    what: VerifySubject, change: Change, was: str | None, now: str | None
) -> Iterator[VerifyDifference]:
    """A changed file; of TOML whose texts are known, each key that differs."""
    before, after = _parse_toml(was), _parse_toml(now)
    if not change.name.endswith(".toml") or before is None or after is None:
        yield describe_file_change(what, change)
        return
    keys = list(compare_listings(dict(_iter_values(before)), dict(_iter_values(after))))
    for key in keys:
        yield describe_value_change(what, key, literal(change.name))
    if not keys:
        said = msg("{file} was edited after the run, but all its settings are the same", file=change.name)
        yield describe_file_change(what, change).model_copy(update={"message": said})


def _parse_toml(text: str | None) -> dict[str, Any] | None:
    try:
        return tomllib.loads(text) if text is not None else None
    except (ValueError, RecursionError):
        return None


def _iter_values(table: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, str]]:
    """Every value, nearly as in TOML, by its key: ``concept.images``, of the second table ``concept#2.images``."""
    for name, value in table.items():
        key = f"{above}.{name}" if above else name
        tables: list[Any] = value if isinstance(value, list) else [value]  # pyright: ignore[reportUnknownVariableType]
        if not tables or not all(isinstance(each, dict) for each in tables):
            yield key, json.dumps(value, ensure_ascii=False, default=str)
            continue
        for number, each in enumerate(tables, 1):
            yield from _iter_values(each, key if number == 1 else f"{key}#{number}")


@dataclass(frozen=True, slots=True)
class _Recompiled:
    """``texts`` are the original recipe and compiled files by name, each with the digest in the record. ``compiled``
    is None if they could not be compiled again. ``paths`` are the recipe's, in its order.
    """

    texts: Mapping[str, str] = field(default_factory=dict[str, str])
    compiled: CompiledPlan | None = None
    paths: tuple[str, ...] = ()


def _recompile(record: Record, plan: Plan | None) -> _Recompiled:
    text = record.recipe_text
    if digest_bytes(text.encode(), record.recipe.name) != record.recipe:
        return _Recompiled()
    texts = {record.recipe.name: text}
    if plan is None:
        return _Recompiled(texts)
    with suppress(LorabakeError, ValueError, LookupError, RecursionError):  # such as a plan for another commit
        recipe = Recipe.model_validate(tomllib.loads(text))
        compiled = compile_plan(plan, resources.load_script_options(plan.script), resources.load_dataset_options())
        for paths in _iter_possible_paths(record, recipe):
            made = {name: data for name, data in compiled.fill(paths).items() if name in {TRAIN_FILE, DATASET_FILE}}
            if all(digest_bytes(data, name) in record.compiled for name, data in made.items()):
                return _Recompiled(texts | {name: data.decode() for name, data in made.items()}, compiled, tuple(paths))
    return _Recompiled(texts)


def _iter_possible_paths(record: Record, recipe: Recipe) -> Iterator[dict[str, str]]:
    """How the run folder may have seen the recipe's paths (recipe.paths.resolve_run_paths).

    A model's name may have been a hub id, which is not a path: if no hash shows which, both are tried.
    """
    folder = dirname(record.recipe_place)
    known = {each.name: each.place for each in record.inputs if each.kind != "hub" and each.role != "tokenizer"}
    seen = {path: known.get(path) or _path_from_run(path, folder) for path in list_recipe_paths(recipe)}
    doubtful = [name for name in list_hub_ids(recipe) if name not in known]
    for ids in chain.from_iterable(combinations(doubtful, count) for count in range(len(doubtful) + 1)):
        yield {path: place for path, place in seen.items() if path not in ids}


def _path_from_run(path: str, recipe_folder: str) -> str:
    return PurePath(path).as_posix() if PurePath(path).is_absolute() else normpath(join(recipe_folder, path))


def _compare_record(record: Record, plan: Plan, was: _Recompiled) -> Iterator[Change]:
    """What record.json has, and what it must have by the plan."""
    seed, then, now = plan.value("seed"), dict[str, str](), dict[str, str]()
    if was.compiled is not None:
        files = {file.name: file.sha256 for file in record.compiled if file.name != ACCELERATE_FILE}
        files |= hash_files(was.compiled.fill(placeholder_paths(record.inputs, was.paths)))
        then["digest"] = compute_run_digest(files, record.inputs, record.trainer, plan.launch)
        now["digest"] = record.digest
    then |= {"seed": str(seed if isinstance(seed, int) else 0), "planned_steps": str(plan.forecast.steps)}
    now |= {"seed": str(record.seed), "planned_steps": str(record.planned_steps)}
    argv, env = _plan_start(record, plan)
    then["argv"], now["argv"] = shlex.join(argv), shlex.join(_recorded_start(argv, record, plan))
    expected = {name: escape_undecodable(value) for name, value in recorded_env(env).items()}
    then |= {f"environment.{name}": value for name, value in expected.items()}
    now |= {f"environment.{name}": value for name, value in record.environment.items() if name in expected}
    return compare_listings(then, now)


def _plan_start(record: Record, plan: Plan) -> tuple[tuple[str, ...], Mapping[str, str]]:
    """The command that the plan gives for the record's trainer, and its environment variables."""
    trainer, python = record.trainer, Path(unescape_path(record.trainer.python))
    if record.rehearsal:
        argv = (trainer.python, *rehearsal_argv(plan.launch, plan.family)[1:])
        return tuple(map(escape_undecodable, argv)), trainer_env({}, python=python)
    checkout = Path(unescape_path(trainer.checkout or ""))
    argv = planned_argv(plan, record.digest, python, checkout, record.seat)
    env = trainer_env(
        {},
        python=python,
        checkout=checkout,
        offline=record.environment.get("HF_HUB_OFFLINE") == "1",
        launch=plan.launch.model_copy(update={"gpu_ids": None}),  # by its place among those of a machine
        complete=trainer.kind == "pin",
    )
    return tuple(map(escape_undecodable, argv)), env


def _recorded_start(argv: tuple[str, ...], record: Record, plan: Plan) -> tuple[str, ...]:
    """The first recorded command of the run or of a part that is not this one; a resumed part's has additions, and may
    be of another seat."""
    first, resumed = [record.argv, *(part.argv for part in record.parts[:1])], record.parts[1:]
    edited = [each for each in first if each != argv]
    for part in resumed:
        wanted, _ = _plan_start(record.model_copy(update={"seat": part.seat}), plan)
        edited += [] if _has_in_order(part.argv, wanted[1:]) else [part.argv]
    return edited[0] if edited else argv


def _has_in_order(argv: Sequence[str], wanted: Sequence[str]) -> bool:
    rest = iter(argv)
    return all(each in rest for each in wanted)
