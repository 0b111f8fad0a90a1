"""Public configurations as recipes: sd-scripts' own reader sees the values that each of them has.

public_recipes.toml has the settings of kohya_ss' presets and tests, and of the examples in sd-scripts' documentation:
what a recipe says, and what sd-scripts has to see. Where the two differ, ``reason`` says why.
"""

from __future__ import annotations

import ast
import json
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import pytest

from lorabake.planning.compile import compile_plan
from lorabake.planning.resolve import resolve_plan
from lorabake.trainer import install as trainers
from lorabake.trainer import packages
from lorabake.util import environment, process, resources
from lorabake_schemas.dataset import CaptionFacts, DatasetFacts, FolderFacts, ImageFacts
from lorabake_schemas.machine import AttentionProbe, BaseFacts, Gpu, MachineFacts
from lorabake_schemas.messages import literal
from lorabake_schemas.plan import Plan
from lorabake_schemas.recipe import Recipe

Config = dict[str, Any]
CONFIGS: list[Config] = tomllib.loads(Path(__file__).with_name("public_recipes.toml").read_text("utf-8"))["config"]
GPU = MachineFacts(system="Linux", cpus=8, memory_bytes=64 << 30, gpus=(Gpu(name="RTX 4090", memory_mib=24564),))
XFORMERS = AttentionProbe(xformers=True, reason=literal("it ran"))
SCRIPT = Path(__file__).with_name("read_with_sd_scripts.py")


def make_recipe(config: Config) -> Recipe:
    tables: dict[str, Any] = config["recipe"]
    base = {"model": "base.safetensors", "family": config["family"]} | tables.get("base", {})
    concept = {"token": "hmbrgrlora", "class": "food", "images": "pics"} | tables.get("concept", {})
    rest = {name: table for name, table in tables.items() if name not in {"base", "concept"}}
    return Recipe.model_validate({"name": "lum", "kind": "object", "base": base, "concept": [concept]} | rest)


def make_plan(recipe: Recipe) -> tuple[Plan, DatasetFacts, BaseFacts]:
    captions = [f"hmbrgrlora, food, thing {number}, street, profile" for number in range(30)]
    images = [
        ImageFacts(f"{at:03}.png", 1024, 1024, mode="RGB", caption=CaptionFacts(t)) for at, t in enumerate(captions)
    ]
    facts = DatasetFacts(tuple(FolderFacts(part.images, tuple(images)) for part in recipe.concept), ())
    base = BaseFacts(kind="file", family=recipe.base.family)
    signatures = resources.load_snapshot().signatures
    return resolve_plan(recipe, base, facts, GPU, XFORMERS, signatures), facts, base


def compile_recipe(recipe: Recipe) -> tuple[str, dict[str, bytes]]:
    plan = make_plan(recipe)[0]
    options = resources.load_script_options(plan.script)
    return plan.script, compile_plan(plan, options, resources.load_dataset_options()).fill({})


def test_there_are_sixty_of_several_kinds() -> None:
    assert len(CONFIGS) >= 60
    assert len({config["source"] for config in CONFIGS}) == len(CONFIGS)
    assert {config["family"] for config in CONFIGS} == {"sd15", "sdxl"}
    types = {config["recipe"].get("network", {}).get("type") for config in CONFIGS}
    assert {"lora", "locon", "loha", "lokr", "ia3", "dylora", "diag-oft", "networks.dylora"} <= types


@pytest.mark.real
def test_sd_scripts_sees_what_each_of_them_says(trainer: trainers.Trainer, tmp_path: Path) -> None:
    folder, answer = tmp_path / "compiled", tmp_path / "answer.json"
    for number, config in enumerate(CONFIGS):
        place = folder / f"{number:03}"
        place.mkdir(parents=True)
        script, files = compile_recipe(make_recipe(config))
        (place / "script.txt").write_text(script, encoding="utf-8")
        for name, content in files.items():
            (place / name).write_bytes(content)
    env = packages.python_environment(environment.read_environment())
    done = process.capture_output(
        [str(trainer.python), str(SCRIPT), str(folder), str(answer)], cwd=trainer.checkout, env=env, timeout=600
    )
    assert done.ok, done.stderr[-3000:]
    seen = json.loads(answer.read_text("utf-8"))
    wrong = {
        config["source"]: differences
        for number, config in enumerate(CONFIGS)
        if (differences := list_differences(config["expected"], seen[f"{number:03}"]))
    }
    assert wrong == {}


def list_differences(expected: Mapping[str, Any], seen: Mapping[str, Any]) -> list[str]:
    datasets = seen["datasets"]
    subsets = [subset for dataset in datasets for subset in dataset["subsets"]]
    found = compare(expected.get("train", {}), seen["train"])
    for name, scopes in (("dataset", datasets), ("subset", subsets)):
        for scope in scopes:
            found += compare(expected.get(name, {}), scope)
    arguments = parse_arguments(seen["train"]["network_args"])
    found += compare(expected.get("network_args", {}), arguments)
    if "resolutions" in expected and [dataset["resolution"] for dataset in datasets] != expected["resolutions"]:
        found.append(f"resolutions: {[dataset['resolution'] for dataset in datasets]}")
    return found


def compare(expected: Mapping[str, Any], seen: Mapping[str, Any]) -> list[str]:
    return [
        f"{name}: {seen.get(name)!r}" for name, value in expected.items() if not is_same(name, value, seen.get(name))
    ]


def is_same(name: str, wanted: Any, seen: Any) -> bool:
    """0, off and not set are the same to sd-scripts; its rate for the text encoders may be a list."""
    if name in {"optimizer_args", "lr_scheduler_args"}:
        given = parse_arguments(seen)
        return all(given.get(key) == value for key, value in parse_arguments(wanted).items())
    if name == "text_encoder_lr" and isinstance(seen, list):
        return set(cast("list[object]", seen)) == {wanted}
    if name == "max_token_length" and wanted == 75:
        return seen in {None, 75}
    if isinstance(wanted, bool) or not wanted:
        return bool(seen) == bool(wanted)
    return seen in (wanted, parse_value(wanted) if isinstance(wanted, str) else wanted)


def parse_arguments(given: list[str] | None) -> dict[str, Any]:
    pairs = (item.replace('"', "").partition("=") for item in given or ())
    return {name: parse_value(text) for name, _, text in pairs}


def parse_value(text: str) -> Any:
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text
