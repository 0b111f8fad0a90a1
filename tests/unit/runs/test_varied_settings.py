"""The settings in which runs of one recipe differ, from the copies of the recipe in their records."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ended_runs import record
from lorabake.runs.varied_settings import find_varied_settings
from lorabake_schemas.record import Record

HEAD = 'name = "{name}"\n[[concept]]\nimages = "data"\ntoken = "lum"\n'


def run(recipe: str, **changes: Any) -> Record:
    return record("finished", None).model_copy(
        update={"recipe_place": "../../x.toml", "recipe_text": recipe, **changes}
    )


def find_values(*recipes: str, **changes: Any) -> list[dict[str, Any]]:
    runs = {Path(f"/p/runs/x-{n:03d}"): run(text, **changes) for n, text in enumerate(recipes)}
    found = find_varied_settings(runs)
    return [found.get(root, {}) for root in runs]


def test_only_what_differs_is_named_by_the_key_of_set() -> None:
    more = "num_repeats = {n}\n[network]\nnetwork_dim = {dim}\n[train]\nseed = 1\n"
    texts = [HEAD.format(name=f"x-{dim}") + more.format(n=n, dim=dim) for n, dim in ((1, 8), (2, 8), (1, 16))]
    assert find_values(*texts) == [
        {"concept.num_repeats": 1, "network.network_dim": 8},
        {"concept.num_repeats": 2, "network.network_dim": 8},
        {"concept.num_repeats": 1, "network.network_dim": 16},
    ]
    assert find_values(texts[0], texts[0]) == [{}, {}]


def test_a_key_that_one_recipe_does_not_have_and_a_second_concept() -> None:
    plain = HEAD.format(name="x")
    assert find_values(plain, plain + "[train]\nseed = 7\n") == [{"train.seed": None}, {"train.seed": 7}]
    more = '[[concept]]\nimages = "data"\nnum_repeats = 3\n'
    assert find_values(plain, plain + more) == [
        {"concept#2.images": None, "concept#2.num_repeats": None},
        {"concept#2.images": "data", "concept#2.num_repeats": 3},
    ]


def test_a_key_in_its_other_place_is_the_same_key() -> None:
    own, other = "[network]\nrank_dropout = 0.1\n", "[network.args]\nrank_dropout = 0.1\n"
    head = HEAD.format(name="x")
    assert find_values(head + own, head + other + "[train]\nseed = 1\n")[0].keys() == {"train.seed"}


ODD = (
    "name = ", "x = " + "[" * 2000, "x = 2026-01-01", "x = nan", "x = [true, [1.5, inf]]",
    "x = 0x" + "f" * 8000, "x = " + "[" * 90 + "]" * 90,
)  # fmt: skip


@pytest.mark.parametrize("odd", ODD)
def test_odd_recipes_give_values_that_json_has(odd: str) -> None:
    first, second = find_values(odd, "x = 1")
    assert second == {"x": 1}
    assert json.loads(json.dumps(first, allow_nan=False)).keys() == {"x"}


def test_runs_of_other_recipes_and_rehearsals_are_not_compared() -> None:
    texts = ["[train]\nseed = 1\n", "[train]\nseed = 2\n"]
    one, other = Path("/p/runs/x-001"), Path("/p/runs/y-001")
    assert find_varied_settings({one: run(texts[0]), other: run(texts[1], recipe_place="../../y.toml")}) == {}
    assert find_varied_settings({one: run(texts[0]), other: run(texts[1], rehearsal=True)}) == {}
    assert find_varied_settings({one: run(texts[0]), Path("/q/runs/x-001"): run(texts[1])}) == {}
