"""Shipped data: it exists, it matches the schemas, and it is consistent."""

from __future__ import annotations

import importlib.util
import shutil
from pathlib import Path
from types import ModuleType

import pytest

from lorabake.trainer import packages
from lorabake.util import resources
from lorabake_schemas.options import Option
from lorabake_schemas.pin import LockName
from lorabake_schemas.plan import Script

ROOT = Path(__file__).parents[3]


def test_the_pin_is_a_commit_with_two_locks() -> None:
    pin = resources.load_pin()
    assert pin.url == "https://github.com/kohya-ss/sd-scripts"
    assert pin.commit == "48d368fa557731ad0488c07304dfeba8c07910eb"
    assert {pin.lock("cuda").file, pin.lock("cpu").file} == {"trainer-cuda.txt", "trainer-cpu.txt"}


@pytest.mark.parametrize("name", ["cuda", "cpu"])
def test_a_lock_holds_what_the_health_check_imports(name: LockName) -> None:
    pin = resources.load_pin()
    locked = packages.parse_lock(resources.read_vendor_text(pin.lock(name).file))
    assert len(locked) > 55
    assert {"torch", "accelerate", "diffusers", "transformers", "lycoris-lora", "prodigyopt"} <= locked.keys()
    assert ("xformers" in locked) is (name == "cuda")
    assert set(packages.find_distributions((*pin.modules, *pin.lock(name).modules))) <= locked.keys()


def lock_maker() -> ModuleType:
    spec = importlib.util.spec_from_file_location("make_locks", ROOT / "vendor" / "make_locks.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_locks_are_complete_and_agree() -> None:
    maker = lock_maker()
    assert [*maker.problems("cuda"), *maker.problems("cpu"), *maker.differences(), *maker.own_problems()] == []


def test_lorabakes_own_locks_fit_its_pyproject(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    maker = lock_maker()
    shutil.copytree(ROOT / "vendor", tmp_path / "vendor")
    monkeypatch.setattr(maker, "HERE", tmp_path / "vendor")
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    for old, new in (
        ('"click>=8.1"', '"click>=99"'),
        ('"toml==0.10.2"', '"unheard_of"'),
        ('"setuptools>=77"', '"setuptools>=999"'),
        ('"babel>=2.17"', '"babel<2"'),
    ):
        assert old in project
        project = project.replace(old, new)
    monkeypatch.setattr(maker, "PROJECT", tmp_path / "pyproject.toml")
    maker.PROJECT.write_text(project, encoding="utf-8")
    with (tmp_path / "vendor" / "lorabake-dev.lock").open("a", encoding="utf-8") as lock:
        lock.write("--index-url https://example.org/simple\n")
    found = [line.split(",")[0] for line in maker.own_problems()]
    assert found[1:] == [
        "lorabake.lock: needs setuptools>=999",
        "lorabake.lock: needs click>=99",
        "lorabake.lock: needs unheard_of",
        "lorabake-dev.lock: needs babel<2",
    ]
    assert "--index-url" in "\n".join(maker.unlocked("lorabake-dev.lock"))
    assert maker.unlocked("lorabake.lock") == []


def test_a_bad_lock_is_found_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    maker = lock_maker()
    shutil.copytree(ROOT / "vendor", tmp_path / "vendor")
    monkeypatch.setattr(maker, "HERE", tmp_path / "vendor")
    lock = tmp_path / "vendor" / "trainer-cpu.txt"
    text = lock.read_text(encoding="utf-8")
    text = text.replace("accelerate==1.6.0 ", "accelerate==1.6.1 ").replace("toml==0.10.2 ", "tomb==0.10.2 ")
    lock.write_text(text + "unhashed==1.0\n", encoding="utf-8")
    found = maker.problems("cpu")
    assert "trainer-cpu.txt: lacks accelerate 1.6.0" in found
    assert "trainer-cpu.txt: lacks toml 0.10.2" in found
    assert "trainer-cpu.txt: not a pinned package with hashes: unhashed==1.0" in found
    assert any(line.startswith("accelerate: ") for line in maker.differences())


@pytest.mark.parametrize(
    ("script", "least", "some"),
    [("train_network.py", 190, "network_module"), ("sdxl_train_network.py", 193, "cache_text_encoder_outputs")],
)
def test_the_snapshots_hold_the_parsers_options(script: Script, least: int, some: str) -> None:
    options = {option.name: option for option in resources.load_script_options(script)}
    assert len(options) >= least
    assert some in options
    assert options["mixed_precision"] == Option(
        name="mixed_precision",
        type="str",
        default="no",
        choices=("no", "fp16", "bf16"),
        nargs=None,
        action="StoreAction",
    )
    assert options["optimizer_args"].nargs == "*"


def test_the_dataset_options_tell_levels_and_shapes() -> None:
    levels = resources.load_dataset_options()
    subsets = {option.name: option for option in levels.subsets}
    datasets = {option.name: option for option in levels.datasets}
    assert subsets["image_dir"].required
    assert subsets["num_repeats"].accepts == ("int",)
    assert subsets["caption_dropout_rate"].accepts == ("int", "float")
    assert datasets["resolution"].accepts == ("int", "int-pair")
    assert "resolution" not in subsets
    assert "is_reg" not in datasets
    assert len(levels.general) > 30


def test_unknown_names_are_errors() -> None:
    with pytest.raises(FileNotFoundError):
        resources.read_vendor_text("nonsense.toml")
    with pytest.raises(KeyError):
        resources.read_recipe_text("nonsense")


@pytest.mark.parametrize("name", ["health.py", "probe_attention.py", "dump_options.py"])
def test_scripts_for_the_trainers_python_are_files(name: str) -> None:
    with resources.trainer_script(name) as path:
        compile(path.read_text(encoding="utf-8"), name, "exec")


@pytest.mark.parametrize("name", ["lycoris-preset-full-sd15.toml", "lycoris-preset-ia3.toml"])
def test_presets_ship(name: str) -> None:
    assert "unet_target_module" in resources.read_vendor_text(name)
