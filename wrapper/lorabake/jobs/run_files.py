"""The files that lie in a run folder before the trainer starts, for a run or for `lorabake compile`."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path

from lorabake.analysis.check import CheckResult
from lorabake.errors import LorabakeError, MachineError
from lorabake.planning.compile import CompiledFiles, compile_plan
from lorabake.recipe.paths import list_hub_ids, list_recipe_paths, resolve_run_paths
from lorabake.runs.command import DETERMINISTIC_FILE
from lorabake.util import resources
from lorabake.util.files import disk_error, read_bytes, reason
from lorabake_schemas.messages import msg
from lorabake_schemas.recipe import Recipe


def build_run_files(
    examination: CheckResult, root: Path, spelling: Mapping[str, str] | None = None
) -> dict[str, bytes]:
    """Every file that the recipe and its compilation give to a run folder, by name.

    ``spelling`` says how each path of the recipe is written, by default as seen from ``root``.
    """
    recipe, plan = examination.planned()
    compiled = compile_for_run(examination, root, spelling)
    files = {"recipe.toml": examination.loaded.content, "train.toml": compiled.train, "dataset.toml": compiled.dataset}
    if compiled.prompts:
        files["prompts.txt"] = compiled.prompts
    if plan.launch.deterministic:
        files[DETERMINISTIC_FILE] = resources.trainer_script_text(DETERMINISTIC_FILE).encode()
    if plan.shipped_preset:
        files[plan.shipped_preset] = resources.read_vendor_text(plan.shipped_preset).encode()
    if plan.own_preset:
        files[Path(plan.own_preset).name] = _read_preset(examination.loaded.folder / plan.own_preset, recipe)
    return files


def _read_preset(path: Path, recipe: Recipe) -> bytes:
    try:
        return read_bytes(path)
    except OSError as error:
        raise MachineError(
            msg("cannot read {file}: {why}", file=recipe.network.preset or "", why=reason(error)),
            msg("network.preset is relative to the recipe"),
        ) from error


def compile_for_run(examination: CheckResult, root: Path, spelling: Mapping[str, str] | None = None) -> CompiledFiles:
    """The compiled files of a run in ``root``."""
    recipe, plan = examination.planned()
    if spelling is None:
        spelling = resolve_run_paths(list_recipe_paths(recipe), examination.loaded.folder, root, list_hub_ids(recipe))
    return compile_plan(plan, examination.snapshot.of(plan.script), examination.snapshot.dataset, spelling)


def write_compiled(examination: CheckResult, folder: Path) -> tuple[Path, ...]:
    """The files of a run without the run, in a new or empty folder. Raises MachineError when something is in it, or
    when it cannot be written; then nothing of ours stays."""
    files = build_run_files(examination, folder)
    del files["recipe.toml"]
    there = folder.is_dir()
    try:
        if folder.exists() and not (there and not any(folder.iterdir())):
            raise MachineError(msg("{path} already exists", path=folder), msg("choose a new or empty folder"))
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in files.items():
            (folder / name).write_bytes(content)
    except OSError as error:
        _remove_written([folder / name for name in files], None if there else folder)
        raise _unwritable_error(folder, error) from error
    return tuple(folder / name for name in files)


def _remove_written(files: Iterable[Path], folder: Path | None) -> None:
    for path in files:
        with suppress(OSError):
            path.unlink(missing_ok=True)
    if folder is not None:
        shutil.rmtree(folder, ignore_errors=True)


def _unwritable_error(folder: Path, error: OSError) -> LorabakeError:
    said = msg("cannot write to {folder}: {why}", folder=folder, why=error.strerror or str(error))
    return disk_error(error, said, msg("choose another folder"))
