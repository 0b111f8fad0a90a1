"""Enlarging small images with the user's own weights, by spandrel in the trainer's Python or another one with torch."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from lorabake.errors import MachineError, SetupError
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
    """Calls the script for a batch of images. ``own``: whether ``python`` is the user's, and not lorabake's trainer."""

    def __init__(self, root: Path, weights: Path, python: Path, env: Mapping[str, str], *, own: bool) -> None:
        self._root, self._weights, self._python, self._env, self._own = root, weights, python, env, own

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
        if missing := answer.get("missing"):
            raise _describe_missing(str(missing), self._python, own=self._own)
        tail = " / ".join(done.stderr.strip().splitlines()[-2:])
        why = literal(str(answer.get("error") or tail or "?"))
        raise MachineError(msg("cannot enlarge images with {weights}: {why}", weights=self._weights, why=why))


def _describe_missing(package: str, python: Path, *, own: bool) -> SetupError:
    """A trainer of lorabake's own has locked packages: one more would be a change that `run` refuses."""
    said = msg("--upscaler needs the package {name}, which {python} does not have", name=package, python=python)
    if own:
        return SetupError(said, msg("install it: {python} -m pip install {name}", python=python, name=package))
    return SetupError(
        said,
        msg(
            "make another Python for it and pass it with --python: python3 -m venv upscaling && "
            "upscaling/bin/pip install torch spandrel"
        ),
    )
