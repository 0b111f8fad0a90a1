"""The files in a run folder before the trainer starts, for a run or for `lorabake compile`."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from lorabake.analysis.check import CheckResult
from lorabake.errors import LorabakeError, MachineError
from lorabake.planning.compile import CompiledPlan, compile_plan
from lorabake.planning.digest import hash_files, placeholder_paths
from lorabake.recipe.paths import list_hub_ids, list_recipe_paths, resolve_run_paths
from lorabake.runs.command import first_scripts
from lorabake.util import resources
from lorabake.util.files import disk_error, read_bytes, reason
from lorabake_schemas.messages import msg
from lorabake_schemas.recipe import Recipe
from lorabake_schemas.record import InputDigest


@dataclass(frozen=True, slots=True)
class RunFiles:
    """The files that a recipe gives for a run folder, compiled once. ``paths`` are the recipe's paths seen from the
    run folder, ``others`` the files without any path, by name.
    """

    recipe: bytes
    compiled: CompiledPlan
    paths: Mapping[str, str]
    others: Mapping[str, bytes]

    def fill_folder(self) -> dict[str, bytes]:
        """Every file of the run folder by name."""
        return {"recipe.toml": self.recipe, **self.compiled.fill(self.paths), **self.others}

    def hash_placeholders(self, inputs: Sequence[InputDigest]) -> dict[str, str]:
        """The SHA-256 of the files that the run's digest is made of: the recipe's settings count, not its text."""
        return hash_files({**self.compiled.fill(placeholder_paths(inputs, tuple(self.paths))), **self.others})


def build_run_files(examination: CheckResult, root: Path) -> RunFiles:
    """The files of a run in ``root``."""
    recipe, plan = examination.planned()
    folder, snapshot = examination.loaded.folder, examination.snapshot
    others = {name: resources.trainer_script_text(name).encode() for name in first_scripts(plan.launch)}
    if plan.shipped_preset:
        others[plan.shipped_preset] = resources.read_vendor_text(plan.shipped_preset).encode()
    if plan.own_preset:
        others[Path(plan.own_preset).name] = _read_preset(folder / plan.own_preset, recipe)
    return RunFiles(
        examination.loaded.content,
        compile_plan(plan, snapshot.of(plan.script), snapshot.dataset),
        resolve_run_paths(list_recipe_paths(recipe), folder, root, list_hub_ids(recipe)),
        others,
    )


def _read_preset(path: Path, recipe: Recipe) -> bytes:
    try:
        return read_bytes(path)
    except OSError as error:
        raise MachineError(
            msg("cannot read {file}: {why}", file=recipe.network.preset or "", why=reason(error)),
            msg("network.preset is relative to the recipe"),
        ) from error


def write_compiled(examination: CheckResult, folder: Path) -> tuple[Path, ...]:
    """The files of a run without the run, in a new or empty folder. Raises MachineError when something is in it, or
    when it cannot be written; then nothing of ours stays."""
    files = build_run_files(examination, folder).fill_folder()
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
