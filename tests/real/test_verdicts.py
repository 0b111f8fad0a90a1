"""Runs of the real sd-scripts that end with exit code 0 although they failed, and one that crashes.

The compiled files are written by hand: a recipe with these faults would not pass the checks.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import tomli_w

from lorabake.jobs.supervisor import launch_run
from lorabake.runs.command import trainer_env, training_argv
from lorabake.runs.launch_request import LaunchRequest, Provenance
from lorabake.trainer.install import Trainer
from lorabake.util.environment import read_environment
from lorabake_schemas.events import ProgressEvent
from lorabake_schemas.machine import MachineFacts
from lorabake_schemas.plan import Forecast, LaunchPlan, Plan
from lorabake_schemas.record import Inputs, Outcome, TrainerRecord
from sample_images import write_lighthouses

pytestmark = pytest.mark.matrix
STEPS = 4


def trained(tmp_path: Path, trainer: Trainer, base: Path, images: str, **changes: Any) -> Outcome:
    """A run of a few steps on drawn images, with ``changes`` to train.toml."""
    write_lighthouses(tmp_path / "pictures", STEPS)
    train = {
        "pretrained_model_name_or_path": str(base), "tokenizer_cache_dir": str(base / "tokenizers"), "seed": 1,
        "output_dir": "output", "output_name": "x", "save_model_as": "safetensors", "network_module": "networks.lora",
        "network_dim": 4, "network_alpha": 4.0, "optimizer_type": "AdamW", "learning_rate": 1e-4, "sdpa": True,
        "max_train_steps": STEPS, "mixed_precision": "no", "max_data_loader_n_workers": 0, **changes,
    }  # fmt: skip
    subset = {"image_dir": str(tmp_path / images), "class_tokens": "x", "num_repeats": 1}
    block = {"resolution": 64, "batch_size": 1, "caption_extension": ".txt", "enable_bucket": True}
    data = {"datasets": [{**block, "min_bucket_reso": 64, "max_bucket_reso": 128, "subsets": [subset]}]}
    counts = Forecast(
        train_samples=4, reg_samples=0, batches_per_epoch=4, steps_per_epoch=4, epochs=1, steps=STEPS, warmup_steps=0
    )
    cpu = LaunchPlan(cpu=True, num_cpu_threads_per_process=2)
    plan = Plan(
        name="x", family="sd15", script="train_network.py", train=(), datasets=(), launch=cpu,
        forecast=counts,
    )  # fmt: skip
    request = LaunchRequest(
        root=tmp_path / "run",
        files={
            "recipe.toml": b"",
            "train.toml": tomli_w.dumps(train).encode(),
            "dataset.toml": tomli_w.dumps(data).encode(),
        },
        plan=plan,
        argv=training_argv(trainer.python, trainer.checkout / plan.script, cpu),
        env=trainer_env(read_environment(), python=trainer.python, checkout=trainer.checkout, launch=cpu, offline=True),
        trainer=TrainerRecord(kind="pin", python=str(trainer.python)),
        machine=MachineFacts(system="test", cpus=1, memory_bytes=1),
        provenance=Provenance(Inputs(inputs=()), "d" * 64),
        recipe_place="../recipe.toml",
    )

    def ignore(_event: ProgressEvent) -> None: ...

    outcome = launch_run(request, ignore).outcome
    assert outcome is not None
    return outcome


def test_no_images(tmp_path: Path, trainer: Trainer, base: Path) -> None:
    (tmp_path / "empty").mkdir()
    outcome = trained(tmp_path, trainer, base, "empty")
    assert (outcome.code, outcome.returncode) == ("no-data", 0)


def test_a_loss_that_became_nan(tmp_path: Path, trainer: Trainer, base: Path) -> None:
    outcome = trained(tmp_path, trainer, base, "pictures", learning_rate=1e30)
    assert (outcome.code, outcome.returncode) == ("not-finite", 0)
    assert "the loss became NaN" in outcome.message


def test_a_learning_rate_of_next_to_nothing(tmp_path: Path, trainer: Trainer, base: Path) -> None:
    outcome = trained(tmp_path, trainer, base, "pictures", learning_rate=1e-60)
    assert (outcome.code, outcome.returncode) == ("nothing-learned", 0)


def test_a_crash_is_told_by_its_own_exception_and_not_the_launchers(
    tmp_path: Path, trainer: Trainer, base: Path
) -> None:
    outcome = trained(tmp_path, trainer, base, "pictures", optimizer_args=["decouple=true"])
    assert (outcome.code, outcome.returncode) == ("crashed", 1)
    assert outcome.message.startswith("the trainer failed: ValueError: malformed node or string")
    assert "CalledProcessError" not in "".join(outcome.last_words)


def test_a_count_of_steps_that_is_not_the_plans(tmp_path: Path, trainer: Trainer, base: Path) -> None:
    outcome = trained(tmp_path, trainer, base, "pictures", max_train_steps=STEPS - 1)
    assert (outcome.code, outcome.returncode, outcome.steps) == ("wrong-steps", 0, STEPS - 1)
