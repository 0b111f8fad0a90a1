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

from lorabake import resources
from lorabake.errors import LorabakeError
from lorabake.files import read_bytes
from lorabake.planning.compile import Compiled, compile_plan
from lorabake.planning.identity import content_spelling, run_digest
from lorabake.reading.paths import hub_ids, recipe_paths
from lorabake.runs.command import ACCELERATE_FILE
from lorabake.runs.folder import digest_of
from lorabake_schemas.recipe import Recipe
from lorabake_schemas.verification import Difference
from lorabake_schemas.words import say

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


def recompiled(record: Record, plan: Plan | None) -> Recompiled:
    """What the files were, as far as that can be told."""
    text = record.recipe_text
    if text is None or digest_of(text.encode(), record.recipe.name) != record.recipe:
        return Recompiled()
    recipe, texts = _parsed(text), {record.recipe.name: text}
    if recipe is None or plan is None:
        return Recompiled(texts)
    for spelling in _spellings(record, recipe):
        made = _compiled(plan, spelling)
        if made is not None and _is_it(made, record):
            return Recompiled(texts | {TRAIN: made.train.decode(), DATASET: made.dataset.decode()}, tuple(spelling))
    return Recompiled(texts)


def _parsed(text: str) -> Recipe | None:
    try:
        return Recipe.model_validate(tomllib.loads(text))
    except (ValueError, ValidationError, RecursionError):
        return None


def _spellings(record: Record, recipe: Recipe) -> Iterator[dict[str, str]]:
    """How the recipe's paths may have been spelled (reading/paths.spellings).

    A model's name may have been that of the hub, which is not spelled at all: where no hash tells, both are tried.
    """
    folder = dirname(record.recipe_place or "")
    known = {each.name: each.place for each in record.inputs if each.kind != "hub" and each.role != "tokenizer"}
    spelled = {path: known.get(path) or _place(path, folder) for path in recipe_paths(recipe)}
    doubtful = [name for name in hub_ids(recipe) if name not in known]
    for ids in chain.from_iterable(combinations(doubtful, count) for count in range(len(doubtful) + 1)):
        yield {path: place for path, place in spelled.items() if path not in ids}


def _place(path: str, folder: str) -> str:
    return PurePath(path).as_posix() if PurePath(path).is_absolute() else normpath(join(folder, path))


def _compiled(plan: Plan, spelling: Mapping[str, str]) -> Compiled | None:
    """None when it cannot be compiled (any more), such as for another commit of sd-scripts."""
    with suppress(LorabakeError, ValueError, LookupError):
        return compile_plan(plan, resources.option_snapshot(plan.script), resources.dataset_options(), spelling)
    return None


def _is_it(made: Compiled, record: Record) -> bool:
    return digest_of(made.train, TRAIN) in record.compiled and digest_of(made.dataset, DATASET) in record.compiled


def digest_drift(
    folder: RunPaths, record: Record, plan: Plan | None, paths: tuple[str, ...] | None
) -> tuple[Difference, ...]:
    """Whether the run's digest still follows from what the record says.

    Not asked where the plan does not lead to the compiled files, or where one of those is not as it was: these are
    differences of their own.
    """
    if record.digest is None or plan is None or paths is None:
        return ()
    made, others = _compiled(plan, content_spelling(record.inputs, paths)), dict(_others(folder, record))
    if made is None or None in others.values():
        return ()
    files = {TRAIN: made.train, DATASET: made.dataset}
    files |= {name: data for name, data in others.items() if data is not None}
    now = run_digest(files, record.inputs, record.trainer, plan.launch)
    if now == record.digest:
        return ()
    said = say("record.json was edited: its digest does not follow from what it says any more")
    return (Difference(what="record", name="digest", change="changed", message=said, was=record.digest, now=now),)


def _others(folder: RunPaths, record: Record) -> Iterator[tuple[str, bytes | None]]:
    """The ready files that hold no path: prompts and presets. None for one that is not as the record has it."""
    for file in record.compiled:
        if file.name not in {TRAIN, DATASET, ACCELERATE_FILE}:
            data: bytes | None = None
            with suppress(OSError):
                data = read_bytes(folder.root / file.name, within=folder.root)
            yield file.name, data if data is not None and digest_of(data, file.name) == file else None


__all__ = ["Recompiled", "digest_drift", "recompiled"]
