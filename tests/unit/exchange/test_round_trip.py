"""A recipe that is compiled, and imported from the two files again, trains the same."""

from __future__ import annotations

import tomllib
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from drawn_recipes import draw_recipe
from lorabake.exchange.foreign import Source
from lorabake.exchange.import_file import format_imported_recipe
from lorabake.exchange.readers import read_foreign_file
from lorabake.exchange.stand_ins import list_stand_ins, plan_recipe, read_recipe
from lorabake.exchange.to_recipe import make_recipe
from lorabake.exchange.trained import TrainerFacts, Training, describe_plan, iter_differences
from lorabake.planning.compile import compile_plan
from lorabake.util import resources
from lorabake.util.i18n import ENGLISH
from lorabake_schemas.families.registry import get_family


def compile_content(content: dict[str, Any]) -> tuple[dict[str, bytes], Training, str]:
    recipe, findings = read_recipe(content)
    assert recipe is not None, [each.message for each in findings]
    snapshot, family = resources.load_snapshot(), get_family(str(recipe.base.family))
    options = snapshot.of(family.script)
    trainer = TrainerFacts({each.name: each for each in options}, snapshot.dataset, snapshot.signatures, family)
    plan = plan_recipe(recipe, list_stand_ins(content)[0], trainer)
    if plan is None:
        pytest.skip("no image fits these buckets")
    files = compile_plan(plan, options, snapshot.dataset).fill({})
    return files, describe_plan(plan, trainer), family.script


@pytest.mark.parametrize("seed", range(30))
def test_what_is_imported_from_the_compiled_files_trains_the_same(seed: int, tmp_path: Path) -> None:
    files, trained, script = compile_content(draw_recipe(seed))
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
    source = Source(path=tmp_path / "train.toml", content=b"", dataset=tmp_path / "dataset.toml")
    config = replace(read_foreign_file(source), script=script)
    made = make_recipe(config, source)
    content = tomllib.loads(format_imported_recipe(made, ENGLISH))
    again, trained_again, _ = compile_content(content)
    assert list(iter_differences(trained, trained_again)) == []
    first, second = (tomllib.loads(each["train.toml"].decode()) for each in (files, again))
    named = {line.key for line in (*made.report.keys, *made.report.added)} | {"unet_lr", "text_encoder_lr"}
    assert {name for name in first if first[name] != second.get(name)} <= named
