"""`lorabake inspect` as a separate process: from a LoRA back to its run, in any locale."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
from launch_runner import ignore, request
from safetensors.numpy import save_file  # pyright: ignore[reportUnknownVariableType]

from lorabake.jobs.supervisor import launch_run
from lorabake.lora.metadata import training_comment
from lorabake.runs import index
from lorabake.runs.launch_request import Provenance
from lorabake_schemas.record import Inputs

DIGEST = "0123456789abcdef" * 4
NAME = "lora_unet_mid_block_attentions_0_proj_in.lora_down.weight"


def lora(path: Path) -> Path:
    tensors = {NAME: np.full((4, 320), 0.5, np.float16), NAME.replace("down", "up"): np.ones((320, 4), np.float16)}
    save_file(tensors, path, {"ss_steps": "4", "ss_training_comment": training_comment("灯台; mine", DIGEST)})
    return path


def inspect(*files: Path, home: Path, here: Path, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "lorabake", "inspect", *map(str, files)],
        cwd=here,
        env={**os.environ, "LORABAKE_HOME": str(home), **env},
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=120,
        check=False,
    )


def test_from_a_copy_back_to_the_run_that_wrote_it(tmp_path: Path) -> None:
    root, home = tmp_path / "runs" / "x-001", tmp_path / "home"
    saving = ("--copy", str(lora(tmp_path / "made.safetensors")), str(root / "output" / "x.safetensors"))
    asked = replace(request(root, *saving), provenance=Provenance(Inputs(inputs=()), DIGEST))
    index.register_run(home, root, DIGEST)
    assert launch_run(asked, ignore).status == "finished"
    copy = Path(shutil.copy(root / "output" / "x.safetensors", tmp_path / "renamed.safetensors"))
    done = inspect(copy, home=home, here=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "identical byte for byte to output/x.safetensors of this run" in done.stdout
    assert "runs/x-001, finished" in done.stdout
    assert f"digest   {DIGEST}" in done.stdout
    assert "灯台; mine" in done.stdout
    (told,) = json.loads(inspect(copy, Path("--json"), home=home, here=tmp_path).stdout)["files"]
    assert told["runs"][0]["folder"] == str(root)
    assert Path(told["runs"][0]["folder"], "recipe.toml").read_bytes() == asked.files["recipe.toml"]


def test_a_locale_that_knows_no_such_letters(tmp_path: Path) -> None:
    plain = {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0", "PYTHONIOENCODING": "ascii:backslashreplace"}
    done = inspect(lora(tmp_path / "x.safetensors"), home=tmp_path, here=tmp_path, **plain)
    assert done.returncode == 0, done.stderr
    assert "; mine" in done.stdout


def test_a_comment_reaches_the_trainer_whatever_the_locale() -> None:
    """Without as_utf8, such a comment could not even be handed to a process."""
    letters = ascii("灯台")
    code = f"""
import os
from lorabake.runs.command import to_utf8_argument
assert os.fsencode(to_utf8_argument({letters})) == {letters}.encode()
"""
    plain = {**os.environ, "LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}
    bare = subprocess.run(
        [sys.executable, "-c", f"import os; os.fsencode({letters})"], env=plain, capture_output=True, check=False
    )
    assert b"UnicodeEncodeError" in bare.stderr
    assert subprocess.run([sys.executable, "-c", code], env=plain, check=False).returncode == 0
