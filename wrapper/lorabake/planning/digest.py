"""The digest of a run: one SHA-256 over everything that determines its result, and over nothing else. Pure."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING

from lorabake_schemas.base import OptionValue

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from lorabake_schemas.plan import LaunchPlan
    from lorabake_schemas.record import InputDigest, TrainerRecord

DIGEST_VERSION = 1  # version of the digest's content: changing it changes every digest


def placeholder_paths(inputs: Sequence[InputDigest], paths: Sequence[str] = ()) -> dict[str, str]:
    """Each path of the recipe by its part in the run ("base-0", "concept-1"), to fill compiled files for the digest.

    ``paths`` are all of them in the recipe's order: some are not read in a rehearsal, or do not change what is trained.
    """
    others = {path: f"path-{number}" for number, path in enumerate(paths)}
    return others | {each.name: f"{each.role}-{each.index}" for each in reversed(inputs) if each.kind != "hub"}


def hash_files(files: Mapping[str, bytes]) -> dict[str, str]:
    return {name: hashlib.sha256(data).hexdigest() for name, data in files.items()}


def compute_run_digest(
    files: Mapping[str, str], inputs: Sequence[InputDigest], trainer: TrainerRecord, launch: LaunchPlan
) -> str:
    """``files`` are the SHA-256 of the run's compiled files by name, filled with placeholder_paths.

    What is left out does not change the training, or cannot be distinguished here: paths, names of machines and
    accounts, times, lorabake's version, the hardware. Two kinds of GPU may round differently; ``lorabake diff`` names
    them. Caches count: sd-scripts draws random numbers when it makes one, and none when it reads one.
    """
    parts = {
        "version": DIGEST_VERSION,
        "files": dict(files),
        "inputs": [[each.role, each.index, _content_key(each)] for each in inputs],
        "trainer": _trainer_key(trainer),
        "launch": {
            name: value
            for name, value in launch.model_dump(mode="json").items()
            if name not in {"gpu_ids", "main_process_port"}
        },
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def _content_key(of: InputDigest) -> str:
    """What identifies an input.

    The tokenizers that sd-scripts fetches have not changed in years and are identified by name: a machine that has them
    and one that fetches them during the run train the same.
    """
    if of.kind == "hub" and (of.role == "tokenizer" or of.sha256 is None):
        return of.name
    return of.sha256 or ""


def _trainer_key(trainer: TrainerRecord) -> dict[str, OptionValue | dict[str, str] | None]:
    """The trainer without its path; Python by its minor version, whose patches train the same.

    sd-scripts is identified by its files if they were checked: a copy of them without git's folder is the same.
    """
    return {
        "sd-scripts": trainer.tree or trainer.commit,
        "packages": dict(trainer.packages),
        "python": ".".join((trainer.python_version or "").split(".")[:2]),
    }
