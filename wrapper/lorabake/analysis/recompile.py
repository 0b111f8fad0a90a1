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
from lorabake.planning.compile import DATASET_FILE, TRAIN_FILE, CompiledPlan, compile_plan
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


@dataclass(frozen=True, slots=True)
class Recompiled:
    """``texts`` are the recipe and the compiled files as they were, by name, each with the digest that the record
    has; ``compiled`` is None where they could not be compiled again; ``paths`` are the recipe's, in its order."""

    texts: Mapping[str, str] = field(default_factory=dict[str, str])
    compiled: CompiledPlan | None = None
    paths: tuple[str, ...] = ()


def recompile_run(record: Record, plan: Plan | None) -> Recompiled:
    """What the files were, as far as that can be told."""
    text = record.recipe_text
    if text is None or digest_bytes(text.encode(), record.recipe.name) != record.recipe:
        return Recompiled()
    recipe, texts = _parse_recipe(text), {record.recipe.name: text}
    if recipe is None or plan is None:
        return Recompiled(texts)
    with suppress(LorabakeError, ValueError, LookupError):  # such as a plan for another commit of sd-scripts
        compiled = compile_plan(plan, resources.load_script_options(plan.script), resources.load_dataset_options())
        for paths in _iter_possible_paths(record, recipe):
            files = {name: data for name, data in compiled.fill(paths).items() if name in {TRAIN_FILE, DATASET_FILE}}
            if all(digest_bytes(data, name) in record.compiled for name, data in files.items()):
                texts |= {name: data.decode() for name, data in files.items()}
                return Recompiled(texts, compiled, tuple(paths))
    return Recompiled(texts)


def _parse_recipe(text: str) -> Recipe | None:
    try:
        return Recipe.model_validate(tomllib.loads(text))
    except (ValueError, ValidationError, RecursionError):
        return None


def _iter_possible_paths(record: Record, recipe: Recipe) -> Iterator[dict[str, str]]:
    """How the run folder may have seen the recipe's paths (recipe.paths.resolve_run_paths).

    A model's name may have been that of the hub, which is no path: where no hash shows which, both are tried.
    """
    folder = dirname(record.recipe_place or "")
    known = {each.name: each.place for each in record.inputs if each.kind != "hub" and each.role != "tokenizer"}
    spelled = {path: known.get(path) or _spell_path(path, folder) for path in list_recipe_paths(recipe)}
    doubtful = [name for name in list_hub_ids(recipe) if name not in known]
    for ids in chain.from_iterable(combinations(doubtful, count) for count in range(len(doubtful) + 1)):
        yield {path: place for path, place in spelled.items() if path not in ids}


def _spell_path(path: str, folder: str) -> str:
    return PurePath(path).as_posix() if PurePath(path).is_absolute() else normpath(join(folder, path))


def changed_digest(folder: RunPaths, record: Record, plan: Plan, was: Recompiled) -> tuple[VerifyDifference, ...]:
    """Whether the run's digest still follows from what the record says.

    Not asked where the plan does not lead to the compiled files, or where one of those is not as it was: these are
    differences of their own.
    """
    others = dict(_iter_other_files(folder, record))
    if record.digest is None or was.compiled is None or None in others.values():
        return ()
    files = was.compiled.fill(placeholder_paths(record.inputs, was.paths))
    files |= {name: data for name, data in others.items() if data is not None}
    now = compute_run_digest(files, record.inputs, record.trainer, plan.launch)
    if now == record.digest:
        return ()
    said = msg("record.json was edited and its digest does not match its contents")
    return (VerifyDifference(what="record", name="digest", change="changed", message=said, was=record.digest, now=now),)


def _iter_other_files(folder: RunPaths, record: Record) -> Iterator[tuple[str, bytes | None]]:
    """The ready files that hold no path: prompts and presets. None for one that is not as the record has it."""
    for file in record.compiled:
        if file.name not in {TRAIN_FILE, DATASET_FILE, ACCELERATE_FILE}:
            data: bytes | None = None
            with suppress(OSError):
                data = read_bytes(folder.root / file.name, within=folder.root)
            yield file.name, data if data is not None and digest_bytes(data, file.name) == file else None
