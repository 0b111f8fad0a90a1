"""What a plan will cost on this machine: how large its files will be, and how long it may take."""

from __future__ import annotations

import json
import tomllib
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import cast

from lorabake import resources
from lorabake.files import read_toml
from lorabake.planning import room
from lorabake.planning.pace import timing
from lorabake.planning.shapes import Models, parse, with_layers
from lorabake.planning.size import Options, file_size
from lorabake.reading.history import past_runs
from lorabake.reading.machine import file_system, free_disk
from lorabake_schemas.dataset import DatasetFacts
from lorabake_schemas.disks import DiskNeed, Room
from lorabake_schemas.machine import BaseFacts, Family, MachineFacts
from lorabake_schemas.plan import FileSize, Plan
from lorabake_schemas.recipe import Recipe

RUNS = "runs"


def with_prospects(plan: Plan, recipe: Recipe, base: BaseFacts, machine: MachineFacts, folder: Path) -> Plan:
    """The plan with the size of its files and with its time; ``folder`` is the recipe's."""
    counted = plan.forecast.model_copy(
        update={
            "file_size": size_of(plan, base, folder),
            "timing": timing(plan, machine, past_runs(folder / (recipe.save.runs or RUNS))),
        }
    )
    return plan.model_copy(update={"forecast": counted})


def disk_needs(plan: Plan, dataset: DatasetFacts, folder: Path, run_folder: Path) -> tuple[DiskNeed, ...]:
    """What the run will keep on each file system, and what is free there; ``folder`` is the recipe's."""
    rooms: list[tuple[tuple[str | int, ...], Path, Room]] = [(("save", "runs"), run_folder, room.run_folder(plan))]
    places = [
        ((table, at, "images"), facts)
        for table, those in (("concept", dataset.concepts), ("regularisation", dataset.regularisation))
        for at, facts in enumerate(those)
    ]
    rooms += [(where, folder / facts.path, room.caches(plan, at, facts)) for at, (where, facts) in enumerate(places)]
    found: dict[int, DiskNeed] = {}
    for where, path, needed in rooms:
        if not needed.most:
            continue
        try:
            device, free = file_system(path), free_disk(path)
        except OSError:
            continue
        known = found.get(device)
        found[device] = replace(known, room=known.room + needed) if known else DiskNeed(where, str(path), needed, free)
    return tuple(found.values())


def size_of(plan: Plan, base: BaseFacts, folder: Path) -> FileSize | None:
    """None where it cannot be told: no known network, a preset file or a base that is none."""
    models, presets, own = ingredients(plan, base, folder)
    return file_size(plan, models, presets, own) if models else None


def ingredients(plan: Plan, base: BaseFacts, folder: Path) -> tuple[Models, dict[str, Options], Options | None]:
    """The family's models (none where the base has others), LyCORIS' presets, and the plan's own preset."""
    return _models(plan.family, tuple(base.text_layers)) or {}, _presets(), _preset(plan, folder)


@cache
def _shapes(family: Family) -> Models:
    return parse(resources.vendor_text(f"shapes-{family}.txt"))


@cache
def _presets() -> dict[str, Options]:
    return cast("dict[str, Options]", json.loads(resources.vendor_text("lycoris-presets.json")))


def _models(family: Family, text_layers: tuple[int, ...]) -> Models | None:
    """The family's models with as many layers of the text encoders as the base has, where its files tell."""
    models = dict(_shapes(family))
    names = [name for name in models if name != "unet"]
    for name, layers in zip(names, text_layers, strict=False):
        cut = with_layers(models[name], layers)
        if cut is None:
            return None
        models[name] = cut
    return models


def _preset(plan: Plan, folder: Path) -> Options | None:
    """The LyCORIS preset file of the plan, ours or the recipe's own."""
    try:
        if plan.shipped_preset:
            return tomllib.loads(resources.vendor_text(plan.shipped_preset))
        if plan.own_preset:
            return read_toml(folder / plan.own_preset)
    except (OSError, ValueError):
        return None
    return None


__all__ = ["ingredients", "size_of", "with_prospects"]
