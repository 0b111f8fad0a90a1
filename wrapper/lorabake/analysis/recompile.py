"""A run compiled once more from what its record and its plan say: the texts that its digests stand for.

Nothing of the data is needed, and nothing is believed that does not lead to the digests in the record.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import chain, combinations
from pathlib import PurePath
from posixpath import dirname, join, normpath
from typing import TYPE_CHECKING

from pydantic import ValidationError

from lorabake.errors import LorabakeError
from lorabake.planning.compile import CompiledFiles, compile_plan
from lorabake.planning.digest import compute_run_digest, placeholder_paths
from lorabake.recipe.paths import list_hub_ids, list_recipe_paths
from lorabake.runs.command import ACCELERATE_FILE
from lorabake.util import resources
from lorabake.util.files import read_bytes
from lorabake.util.hashing import digest_bytes
from lorabake_schemas.messages import msg
from lorabake_schemas.recipe import Recipe
from lorabake_schemas.verification import VerifyDifference

if TYPE_CHECKING:
    from lorabake.runs.folder import RunPaths
    from lorabake_schemas.plan import Plan
    from lorabake_schemas.record import Record

TRAIN, DATASET = "train.toml", "dataset.toml"


@dataclass(frozen=True, slots=True)
class Recompiled:
    """``texts`` are the recipe and the compiled files as they were, by name, each with the digest that the record
    holds; ``paths`` are the recipe's paths in their order, None where the compiled files were not arrived at."""

    texts: Mapping[str, str] = field(default_factory=dict[str, str])
    paths: tuple[str, ...] | None = None


def recompile_run(record: Record, plan: Plan | None) -> Recompiled:
    """What the files were, as far as that can be told."""
    text = record.recipe_text
    if text is None or digest_bytes(text.encode(), record.recipe.name) != record.recipe:
        return Recompiled()
    recipe, texts = _parse_recipe(text), {record.recipe.name: text}
    if recipe is None or plan is None:
        return Recompiled(texts)
    for spelling in _iter_spellings(record, recipe):
        made = _try_compile(plan, spelling)
        if made is not None and _matches_record(made, record):
            return Recompiled(texts | {TRAIN: made.train.decode(), DATASET: made.dataset.decode()}, tuple(spelling))
    return Recompiled(texts)


def _parse_recipe(text: str) -> Recipe | None:
    try:
        return Recipe.model_validate(tomllib.loads(text))
    except (ValueError, ValidationError, RecursionError):
        return None


def _iter_spellings(record: Record, recipe: Recipe) -> Iterator[dict[str, str]]:
    """How the recipe's paths may have been spelled (reading/paths.spellings).

    A model's name may have been that of the hub, which is not spelled at all: where no hash tells, both are tried.
    """
    folder = dirname(record.recipe_place or "")
    known = {each.name: each.place for each in record.inputs if each.kind != "hub" and each.role != "tokenizer"}
    spelled = {path: known.get(path) or _spell_path(path, folder) for path in list_recipe_paths(recipe)}
    doubtful = [name for name in list_hub_ids(recipe) if name not in known]
    for ids in chain.from_iterable(combinations(doubtful, count) for count in range(len(doubtful) + 1)):
        yield {path: place for path, place in spelled.items() if path not in ids}


def _spell_path(path: str, folder: str) -> str:
    return PurePath(path).as_posix() if PurePath(path).is_absolute() else normpath(join(folder, path))


def _try_compile(plan: Plan, spelling: Mapping[str, str]) -> CompiledFiles | None:
    """None when it cannot be compiled (any more), such as for another commit of sd-scripts."""
    with suppress(LorabakeError, ValueError, LookupError):
        return compile_plan(
            plan, resources.load_script_options(plan.script), resources.load_dataset_options(), spelling
        )
    return None


def _matches_record(made: CompiledFiles, record: Record) -> bool:
    return digest_bytes(made.train, TRAIN) in record.compiled and digest_bytes(made.dataset, DATASET) in record.compiled


def changed_digest(
    folder: RunPaths, record: Record, plan: Plan | None, paths: tuple[str, ...] | None
) -> tuple[VerifyDifference, ...]:
    """Whether the run's digest still follows from what the record says.

    Not asked where the plan does not lead to the compiled files, or where one of those is not as it was: these are
    differences of their own.
    """
    if record.digest is None or plan is None or paths is None:
        return ()
    made, others = _try_compile(plan, placeholder_paths(record.inputs, paths)), dict(_iter_other_files(folder, record))
    if made is None or None in others.values():
        return ()
    files = {TRAIN: made.train, DATASET: made.dataset}
    files |= {name: data for name, data in others.items() if data is not None}
    now = compute_run_digest(files, record.inputs, record.trainer, plan.launch)
    if now == record.digest:
        return ()
    said = msg("record.json was edited and its digest does not match its contents")
    return (VerifyDifference(what="record", name="digest", change="changed", message=said, was=record.digest, now=now),)


def _iter_other_files(folder: RunPaths, record: Record) -> Iterator[tuple[str, bytes | None]]:
    """The ready files that hold no path: prompts and presets. None for one that is not as the record has it."""
    for file in record.compiled:
        if file.name not in {TRAIN, DATASET, ACCELERATE_FILE}:
            data: bytes | None = None
            with suppress(OSError):
                data = read_bytes(folder.root / file.name, within=folder.root)
            yield file.name, data if data is not None and digest_bytes(data, file.name) == file else None
