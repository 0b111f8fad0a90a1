"""What a plan will cost on this machine: how large its files will be, and how long it may take."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path

from lorabake.planning import disk_needs
from lorabake.planning.file_size import Layer, cut_text_encoders, estimate_file_size, parse_layers
from lorabake.planning.time_estimate import estimate_timing
from lorabake.util import resources
from lorabake.util.files import is_folder
from lorabake.util.machine import get_file_size_limit, get_file_system_id, get_free_disk
from lorabake_schemas.dataset import DatasetFacts
from lorabake_schemas.disks import DiskNeed, DiskSpace, FileLimit
from lorabake_schemas.families.registry import get_family
from lorabake_schemas.machine import BaseFacts, MachineFacts
from lorabake_schemas.past_runs import PastRun
from lorabake_schemas.plan import FileSize, Plan
from lorabake_schemas.recipe import Recipe

RUNS_FOLDER = "runs"


def with_estimates(plan: Plan, recipe: Recipe, base: BaseFacts, machine: MachineFacts, folder: Path) -> Plan:
    """The plan with the size of its files and with its time; ``folder`` is the recipe's."""
    size, runs = output_size(plan, base), _read_past_runs(folder / (recipe.save.runs or RUNS_FOLDER))
    counted = plan.forecast.model_copy(update={"file_size": size, "timing": estimate_timing(plan, machine, runs)})
    return plan.model_copy(update={"forecast": counted})


def _read_past_runs(runs: Path) -> tuple[PastRun, ...]:
    """Without the modules that read runs where there are none: they take a twentieth of a check."""
    if not is_folder(runs):
        return ()
    from lorabake.runs.past_runs import read_past_runs

    return read_past_runs(runs)


def estimate_disk_needs(plan: Plan, dataset: DatasetFacts, folder: Path, run_folder: Path) -> tuple[DiskNeed, ...]:
    """What the run will keep on each file system, and what is free there; ``folder`` is the recipe's."""
    rooms: list[tuple[tuple[str | int, ...], Path, DiskSpace]] = [
        (("save", "runs"), run_folder, disk_needs.estimate_run_folder(plan))
    ]
    cached = set[str]()  # a folder at several resolutions has one cache of each kind for each image
    for part, fits in zip(plan.subsets, plan.fits, strict=True):
        facts = dataset.get_folder(part.table, part.index)
        if facts.key not in cached:
            cached.add(facts.key)
            needed = disk_needs.estimate_caches(plan, part, fits, facts)
            rooms.append(((part.table, part.index, "images"), folder / facts.path, needed))
    found: dict[int, DiskNeed] = {}
    for where, path, needed in rooms:
        if not needed.most:
            continue
        try:
            device, free = get_file_system_id(path), get_free_disk(path)
        except OSError:
            continue
        known = found.get(device)
        found[device] = replace(known, room=known.room + needed) if known else DiskNeed(where, str(path), needed, free)
    return tuple(found.values())


def find_file_limit(plan: Plan) -> FileLimit | None:
    """The limit for the size of one file, if the plan certainly exceeds it."""
    allowed, needed = get_file_size_limit(), disk_needs.estimate_largest_file(plan)
    return FileLimit(allowed, needed) if allowed is not None and needed > allowed else None


def output_size(plan: Plan, base: BaseFacts) -> FileSize | None:
    """None if it is unknown: the network is not known, or the base model is not of its family."""
    layers = cut_text_encoders(load_layers(get_family(plan.family).shapes_file), base.text_layers)
    return estimate_file_size(plan, layers) if layers else None


@cache
def load_layers(file: str) -> tuple[Layer, ...]:
    return parse_layers(resources.read_vendor_text(file))
