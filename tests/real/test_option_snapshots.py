"""The committed option snapshots are what the pinned sd-scripts' own parsers say, no more and no less."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from pydantic import TypeAdapter

from lorabake.trainer import install as trainers
from lorabake.trainer import options, packages
from lorabake.util import environment, process, resources
from lorabake_schemas.families.registry import list_scripts
from lorabake_schemas.options import DatasetOptions, Option
from lorabake_schemas.plan import Script

pytestmark = pytest.mark.real

OPTIONS = TypeAdapter(tuple[Option, ...])


@pytest.fixture(scope="module")
def dumped(trainer: trainers.Trainer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What dump_options.py writes with the real trainer; the same command makes the snapshots (make snapshots)."""
    folder = tmp_path_factory.mktemp("options")
    env = packages.python_environment(environment.read_environment())
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


def test_what_networks_optimizers_and_schedulers_take(trainer: trainers.Trainer, tmp_path: Path) -> None:
    """All but bitsandbytes, which the CPU's packages lack."""
    real = options.read_signatures(trainer.python, trainer.checkout, tmp_path, environment.read_environment())
    ours = resources.load_snapshot().signatures
    assert real.networks == ours.networks
    assert real.algorithms == ours.algorithms
    assert real.schedulers == ours.schedulers
    assert real.schedules == ours.schedules
    known = {name: each for name, each in ours.optimizers.items() if not name.startswith("bitsandbytes.")}
    assert len(known) > 150
    assert {name: (known.get(name), each) for name, each in real.optimizers.items() if known.get(name) != each} == {}
    assert real.paths == {path: at for path, at in ours.paths.items() if not path.startswith("bitsandbytes.")}
    assert set(real.packages) <= set(ours.packages)
    assert {"torch", "lycoris", "pytorch_optimizer", "prodigyplus"} <= set(real.packages)


def test_signatures_are_what_python_says(trainer: trainers.Trainer) -> None:
    """The arguments read from source are those that the imported classes have, in their order."""
    ours = resources.load_snapshot().signatures
    asked = {path: at for at, path in (ours.list_paths() | ours.list_paths(schedulers=True)).items()}
    asked = {path: at for path, at in asked.items() if not path.startswith("bitsandbytes.")}
    done = process.capture_output(
        [str(trainer.python), "-c", INSPECT, *asked],
        cwd=trainer.checkout,
        env=packages.script_environment(environment.read_environment()),
    )
    assert done.ok, done.stderr
    said = json.loads(done.stdout.splitlines()[-1])
    for path, at in asked.items():
        signature = ours.optimizers.get(at) or ours.schedulers[at]
        read = [each.name for each in signature.parameters]
        assert said[path][1:] == read + (["**"] if signature.open else []), path


INSPECT = """
import importlib, inspect, json, sys, warnings
warnings.simplefilter("ignore")
def names(path):
    module, _, name = path.rpartition(".")
    init = getattr(importlib.import_module(module), name).__init__
    found = list(inspect.signature(inspect.unwrap(init)).parameters.values())[1:]
    return ["**" if each.kind is each.VAR_KEYWORD else each.name for each in found]
print(json.dumps({path: names(path) for path in sys.argv[1:]}))
"""


def test_the_trainer_is_the_pin(trainer: trainers.Trainer) -> None:
    assert trainer.commit == resources.load_pin().commit
    assert trainer.versions["lycoris-lora"] == "4.1.3"
    assert trainer.versions["torch"].startswith("2.13.0")
    assert not (trainer.checkout / "bitsandbytes_windows").exists()
