"""Enlarging small images with the user's own weights, by spandrel in the trainer's Python."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from lorabake.errors import LorabakeError, MachineError, SetupError
from lorabake.inputs.images import ignore_pillow_warnings
from lorabake.inputs.prepare.folder import STAGE_NAME
from lorabake.inputs.prepare.work import ImageJob, stage_image
from lorabake.trainer.packages import script_environment
from lorabake.trainer.venv import parse_last_json
from lorabake.util import files, resources
from lorabake.util.process import capture_output
from lorabake_schemas.messages import literal, msg

SCRIPT_NAME = "upscale.py"


class Upscaler:
    """Calls the script for a batch of images; ``python`` is the trainer's."""

    def __init__(self, root: Path, weights: Path, python: Path, env: Mapping[str, str]) -> None:
        self._root, self._weights, self._python, self._env = root, weights, python, env

    def __call__(self, jobs: Sequence[ImageJob]) -> Mapping[str, Path]:
        """The enlarged image of each job, by the job's path. Raises SetupError without spandrel, MachineError for
        weights that cannot be used."""
        stage = self._root / STAGE_NAME
        files.remove_tree(stage, within=self._root)
        files.make_folder(stage, within=self._root)
        pairs: dict[str, tuple[Path, Path]] = {}
        with ignore_pillow_warnings():
            for number, job in enumerate(jobs):
                if stage_image(self._root, job, f"{STAGE_NAME}/{number}.png"):
                    pairs[job.path] = stage / f"{number}.png", stage / f"{number}-large.png"
        asked = {"weights": str(self._weights), "images": [[str(small), str(large)] for small, large in pairs.values()]}
        files.replace_bytes(stage / "asked.json", json.dumps(asked).encode(), within=self._root)
        self._run(stage / "asked.json")
        return {path: large for path, (_, large) in pairs.items()}

    def _run(self, asked: Path) -> None:
        with resources.trainer_script(SCRIPT_NAME) as script:
            done = capture_output([str(self._python), str(script), str(asked)], env=script_environment(self._env))
        answer = parse_last_json(done.stdout) or {}
        if answer.get("done") is True:
            return
        raise _describe_failure(answer, self._python, self._weights, done.stderr)


def _describe_failure(answer: Mapping[str, object], python: Path, weights: Path, complaint: str) -> LorabakeError:
    if answer.get("missing"):
        return SetupError(
            msg("--upscaler needs the package {name} in the trainer's Python", name=str(answer["missing"])),
            msg("install it: {python} -m pip install {name}", python=python, name=str(answer["missing"])),
        )
    tail = " / ".join(complaint.strip().splitlines()[-2:])
    why = literal(str(answer.get("error") or tail or "?"))
    return MachineError(msg("cannot enlarge images with {weights}: {why}", weights=weights, why=why))
