"""A family is one file: nothing else knows its name."""

from __future__ import annotations

import ast
import json
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from pydantic import ValidationError

from lorabake.cli import main
from lorabake.lora.metadata import parse_family
from lorabake.util import resources
from lorabake_schemas import families
from lorabake_schemas.families import registry
from lorabake_schemas.families.known_models import find_native_side, is_stock_model
from lorabake_schemas.families.model_family import ModelFamily
from lorabake_schemas.machine import BaseFacts
from situations import RECIPE, project, write_base

INVENTED = """\
from dataclasses import replace

from lorabake_schemas.families import sdxl
from lorabake_schemas.families.model_family import GuideValue, LoraSigns, TextEncoder

FAMILY = replace(
    sdxl.FAMILY,
    name="invented",
    label="Invented Diffusion",
    ignored_options=(),
    script_options={"lowram": GuideValue(True, "G4.10")},
    text_encoders=(
        TextEncoder(name="te1", folder="text_encoder", width=768, parameters=1, tokenizer="somebody/words"),
    ),
    unet_parameters=1,
    context_width=4096,
    text_encoder_prefix="reader.",
    native_sides={"invented-base-v[12]": 1280},
    latent_cache_suffix="_invented.npz",
    size_step=16,
    lora=LoraSigns(architectures=("invented-diffusion",), versions=("invented",)),
    guide=replace(sdxl.FAMILY.guide, resolution=GuideValue(1280, "G4.58"), rank=GuideValue(8, "G4.76"), images=(2, 3)),
)
"""
ROOT = Path(__file__).parents[3]


@pytest.fixture
def invented(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A file in a folder that belongs to the package of families as long as the test runs."""
    folder = tmp_path / "families"
    folder.mkdir()
    (folder / "invented.py").write_text(INVENTED, encoding="utf-8")
    monkeypatch.setattr(families, "__path__", [*families.__path__, str(folder)])
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    registry.load_families.cache_clear()
    yield
    registry.load_families.cache_clear()
    sys.modules.pop(f"{families.__name__}.invented", None)


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    """A recipe that does not name its family: the model does."""
    path = project(tmp_path / "project", text=RECIPE.replace('family = "sd15"\n', ""))
    write_base(path.parent / "base.safetensors", "invented")
    return path


def lorabake(*arguments: object) -> Result:
    return CliRunner().invoke(main, [*map(str, arguments)], env={"LC_ALL": "C.UTF-8"})


@pytest.mark.usefixtures("invented")
class TestInventedFamily:
    def test_check(self, recipe: Path) -> None:
        done = lorabake("check", recipe, "--json")
        assert done.exit_code == 0, done.output
        found = json.loads(done.stdout)
        assert "error" not in {finding["severity"] for finding in found["findings"]}
        assert "G1.2" not in {finding["rule"] for finding in found["findings"]}  # three images are enough for it

    def test_plan(self, recipe: Path) -> None:
        plan = json.loads(lorabake("plan", recipe, "--json").stdout)
        assert (plan["family"], plan["script"]) == ("invented", "sdxl_train_network.py")
        settings = {each["option"]: each["value"] for each in (*plan["datasets"][0]["settings"], *plan["train"])}
        assert (settings["lowram"], settings["network_dim"]) == (True, 8)
        assert plan["forecast"]["file_size"]["tensors"] > 1000  # by the shapes of SDXL, which it names

    def test_compile(self, recipe: Path, tmp_path: Path) -> None:
        out = tmp_path / "out"
        done = lorabake("compile", recipe, "-o", out)
        assert done.exit_code == 0, done.output
        train, dataset = (tomllib.loads((out / f"{name}.toml").read_text("utf-8")) for name in ("train", "dataset"))
        assert (train["lowram"], train["network_dim"]) == (True, 8)
        assert dataset["datasets"][0]["resolution"] == 1280

    def test_a_family_named_in_the_recipe(self, recipe: Path) -> None:
        text = recipe.read_text("utf-8")
        recipe.write_text(text.replace("tags =", 'family = "inventde"\ntags ='), encoding="utf-8")
        (finding,) = [each for each in _errors(recipe) if each["rule"] == "bad-choice"]
        assert (finding["where"], '"invented"' in finding["fix"]) == (["base", "family"], True)
        recipe.write_text(text.replace("tags =", 'family = "sdxl"\ntags ='), encoding="utf-8")
        assert "Invented Diffusion" in {each["rule"]: each["message"] for each in _errors(recipe)}["G4.12"]

    def test_rules_ask_it(self, recipe: Path) -> None:
        recipe.write_text(recipe.read_text("utf-8") + "\n[train]\nbucket_reso_steps = 40\n", encoding="utf-8")
        assert [each["rule"] for each in _errors(recipe)] == ["S15"]

    def test_its_loras_and_models_are_known_by_name(self) -> None:
        found = parse_family({"modelspec.architecture": "invented-diffusion/lora"})
        assert found is registry.get_family("invented")
        assert (is_stock_model("invented-base-v2"), find_native_side("invented-base-v2.safetensors")) == (True, 1280)

    def test_its_tokenizer(self) -> None:
        (encoder,) = registry.get_family("invented").text_encoders
        assert (encoder.tokenizer_cache, encoder.tokenizer_place) == ("somebody_words", "somebody/words")

    def test_its_name_is_one(self) -> None:
        assert BaseFacts.model_validate({"kind": "file", "family": "invented"}).family == "invented"


def _errors(recipe: Path) -> list[dict[str, Any]]:
    found = json.loads(lorabake("check", recipe, "--json").stdout)["findings"]
    return [each for each in found if each["severity"] == "error"]


def test_a_name_that_no_family_has() -> None:
    with pytest.raises(ValidationError, match="unknown value"):
        BaseFacts.model_validate({"kind": "file", "family": "invented"})


@pytest.mark.parametrize("family", registry.list_families(), ids=registry.list_family_names())
def test_what_a_family_names_is_shipped(family: ModelFamily) -> None:
    assert resources.load_script_options(family.script)
    assert resources.read_vendor_text(family.shapes_file)
    if family.full_preset_file:
        assert tomllib.loads(resources.read_vendor_text(family.full_preset_file))
    options = {option.name for option in resources.load_script_options(family.script)}
    assert {*family.script_options, *family.ignored_options} <= options


@pytest.mark.parametrize(
    ("argv", "train", "family"),
    [
        (("accelerate", "/x/sdxl_train_network.py"), {}, "sdxl"),
        (("accelerate", "/x/train_network.py"), {}, "sd15"),
        (("accelerate", "/x/train_network.py"), {"v2": True}, "sd2"),
        (("python", "-m", "lorabake.jobs.rehearsal"), {"v2": True}, "sd2"),
        ((), {}, "sd15"),
    ],
)
def test_the_family_of_a_run(argv: tuple[str, ...], train: dict[str, object], family: str) -> None:
    assert registry.find_family_of_run(argv, train).name == family


def test_families_can_be_told_apart() -> None:
    every = registry.list_families()
    assert len({(family.script, tuple(family.script_options)) for family in every}) == len(every)
    assert len({family.context_width for family in every}) == len({family.text_encoder_prefix for family in every}) == 3
    assert replace(every[0]) == every[0]


def test_no_other_module_knows_a_family_by_its_name() -> None:
    """But for messages, the names of another program's own fields, and the trainer's scripts, which run in its Python,
    where this package is not installed.
    """
    known = {*registry.list_family_names(), *registry.list_scripts()}
    found = [
        f"{path.relative_to(ROOT)}:{node.lineno}: {node.value}"
        for folder in ("schemas/lorabake_schemas", "wrapper/lorabake")
        for path in (ROOT / folder).rglob("*.py")
        if path.parts[-2] not in {"families", "scripts"} and path.parts[-2:] != ("kohya_gui", "fields.py")
        for node in ast.walk(ast.parse(path.read_bytes()))
        if isinstance(node, ast.Constant) and node.value in known
    ]
    assert found == []
