"""Two real trainings of the pinned sd-scripts: with launch.deterministic the same file, without what differs.

The CPU has two threads in all of them, where nothing but the deterministic mode makes sums come out the same. What the
ordinary ones differ in is written to repeatable.md beside the trainer: it is another time by time, and may be nothing.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import tomli_w

from lorabake.lora.compare import compare_loras
from lorabake.lora.reproducible import VOLATILE_KEYS
from lorabake.util.environment import make_child_env, read_environment
from lorabake_schemas.comparison import LoraComparison
from lorabake_schemas.record import Record
from sample_images import write_lighthouses

SAVED = ("twice-000001.safetensors", "twice.safetensors")
HEAD = "| runs | tensors differ | largest | mean | relative | metadata differs in |\n|---|--:|--:|--:|--:|---|\n"


def write_recipe(folder: Path, base: Path, **launch: Any) -> Path:
    """Everything random: shuffled captions, flipped images, dropout, two epochs of two batches."""
    write_lighthouses(folder / "lighthouse", 4)
    concept = {"token": "lumlighthouse", "class": "lighthouse", "images": "lighthouse"}
    recipe: dict[str, Any] = {
        "name": "twice",
        "kind": "object",
        "base": {
            "model": base.as_posix(),
            "family": "sd15",
            "tags": "danbooru",
            "tokenizer_cache_dir": (base / "tokenizers").as_posix(),
        },
        "concept": [{**concept, "num_repeats": 1, "flip_aug": True, "shuffle_caption": True}],
        "network": {"network_dim": 4, "network_dropout": 0.1},
        "train": {
            "optimizer": "AdamW",
            "learning_rate": 1e-3,
            "resolution": 64,
            "lr_warmup_steps": 0,
            "train_batch_size": 2,
            "max_train_epochs": 2,
        },
        "save": {"save_every_n_epochs": 1, "save_precision": "float"},
        "launch": {"num_cpu_threads_per_process": 2, **launch},
    }
    path = folder / "recipe.toml"
    path.write_text(tomli_w.dumps(recipe), encoding="utf-8")
    return path


def lorabake(cache: Path, folder: Path, *argv: str) -> str:
    env = make_child_env(read_environment(), HF_HUB_OFFLINE="1", LORABAKE_HOME=str(cache))
    done = subprocess.run(
        [sys.executable, "-m", "lorabake", *argv],
        cwd=folder, env=env, check=False, capture_output=True, text=True, encoding="utf-8",
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-6000:]
    return done.stdout + done.stderr


def twice(cache: Path, folder: Path, recipe: Path) -> tuple[Path, Path, str]:
    """A run, its rerun after the recipe was deleted, and the rerun's output."""
    lorabake(cache, folder, "run", str(recipe))
    recipe.unlink()
    said = lorabake(cache, folder, "rerun", "twice-001")
    return folder / "runs" / "twice-001", folder / "runs" / "twice-002", said


def record(run: Path) -> Record:
    return Record.model_validate_json((run / "record.json").read_bytes())


@pytest.mark.real
def test_deterministic_runs_give_the_same_files_byte_for_byte(tmp_path: Path, cache: Path, base: Path) -> None:
    one, two, said = twice(cache, tmp_path, write_recipe(tmp_path, base, deterministic=True))
    for name in SAVED:
        assert (one / "output" / name).read_bytes() == (two / "output" / name).read_bytes(), name
    assert "twice.safetensors is identical byte for byte to the one of" in said
    first, second = record(one), record(two)
    assert first.digest == second.digest == second.rerun_of
    assert first.compiled == second.compiled
    assert first.outcome
    assert second.outcome
    assert first.outcome.steps == 4
    assert first.outcome.outputs == second.outcome.outputs
    assert "identical byte for byte" in lorabake(cache, tmp_path, "compare", "twice-001", "twice-002")
    trained = compare_loras(one / "output" / SAVED[0], one / "output" / SAVED[1])
    assert trained.likeness == "different"  # the second epoch did something


@pytest.mark.real
def test_what_differs_between_two_ordinary_runs(tmp_path: Path, cache: Path, base: Path) -> None:
    """The files always do, their tensors as it happens; never by much, since the seed is the same."""
    one, two, said = twice(cache, tmp_path, write_recipe(tmp_path, base))
    assert record(one).digest == record(two).digest
    assert "twice.safetensors differs from the one of" in said
    found = compare_loras(one / "output" / SAVED[1], two / "output" / SAVED[1])
    print(row(found))
    enter(cache / "repeatable.md", found)
    assert found.likeness != "equal-bytes"
    assert (found.only_first, found.only_second, found.unlike) == ((), (), ())
    keys = {each.key for each in found.metadata}
    assert {"ss_session_id", "ss_training_started_at", "ss_training_finished_at"} <= keys
    assert keys <= VOLATILE_KEYS | {"sshs_model_hash"}
    assert ("sshs_model_hash" in keys) is (found.likeness == "different")
    assert found.whole.relative is not None
    assert found.whole.relative < 0.01


def row(found: LoraComparison) -> str:
    apart = found.whole
    keys = ", ".join(each.key for each in found.metadata)
    numbers = f"{apart.differing} of {apart.tensors} | {apart.largest:.2g} | {apart.mean:.2g} | {apart.relative:.2g}"
    return f"| ordinary, two threads | {numbers} | {keys} |"


def enter(table: Path, found: LoraComparison) -> None:
    """One row more: what differs once differs otherwise the next time."""
    before = table.read_text("utf-8") if table.exists() else HEAD
    table.write_text(f"{before}{row(found)}\n", encoding="utf-8")
