"""The committed option snapshots are what the pinned sd-scripts' own parsers say, no more and no less."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import TypeAdapter

from lorabake.trainer import install as trainers
from lorabake.trainer import packages
from lorabake.util import process, resources
from lorabake_schemas.families.registry import list_scripts
from lorabake_schemas.options import DatasetOptions, Option
from lorabake_schemas.plan import Script

pytestmark = pytest.mark.real

OPTIONS = TypeAdapter(tuple[Option, ...])


@pytest.fixture(scope="module")
def dumped(trainer: trainers.Trainer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What dump_options.py writes with the real trainer; the same command makes the snapshots (make snapshots)."""
    folder = tmp_path_factory.mktemp("options")
    env = packages.python_environment(process.read_environment())
    with resources.trainer_script("dump_options.py") as script:
        argv = [str(trainer.python), str(script), str(folder), *list_scripts()]
        done = process.capture_output(argv, cwd=trainer.checkout, env=env)
    assert done.ok, done.stderr
    return folder


@pytest.mark.parametrize(("script", "least"), [("train_network.py", 193), ("sdxl_train_network.py", 196)])
def test_the_parsers_options(dumped: Path, script: Script, least: int) -> None:
    name = f"options-{script.removesuffix('.py')}.json"
    real = {option.name: option for option in OPTIONS.validate_json((dumped / name).read_bytes())}
    ours = {option.name: option for option in resources.load_script_options(script)}
    assert len(real) >= least
    assert {name: real[name] for name in real.keys() - ours.keys()} == {}, "sd-scripts has them, the snapshot does not"
    assert {name: ours[name] for name in ours.keys() - real.keys()} == {}, "the snapshot has them, sd-scripts does not"
    assert [(ours[name], real[name]) for name in real if ours[name] != real[name]] == []
    assert (dumped / name).read_text(encoding="utf-8") == resources.read_vendor_text(name)


def test_the_dataset_files_options(dumped: Path) -> None:
    text = (dumped / "options-dataset.json").read_text(encoding="utf-8")
    real, ours = DatasetOptions.model_validate_json(text), resources.load_dataset_options()
    assert min(len(real.general), len(real.datasets), len(real.subsets)) >= 26
    assert real == ours
    assert text == resources.read_vendor_text("options-dataset.json")


def test_the_trainer_is_the_pin(trainer: trainers.Trainer) -> None:
    assert trainer.commit == resources.load_pin().commit
    assert trainer.versions["lycoris-lora"] == "4.1.3"
    assert trainer.versions["torch"].startswith("2.13.0")
    assert not (trainer.checkout / "bitsandbytes_windows").exists()
