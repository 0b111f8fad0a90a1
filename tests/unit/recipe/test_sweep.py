"""Several values in one --set."""

from __future__ import annotations

import pytest

from lorabake.errors import RecipeError
from lorabake.recipe.overrides import Override, parse_override
from lorabake.recipe.sweep import combine_overrides, name_variants, split_values


def override(text: str) -> Override:
    found = parse_override(text)
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("network.network_dim=8,16,32", ["8", "16", "32"]),
        ("train.optimizer=Prodigy,AdamW", ['"Prodigy"', '"AdamW"']),
        ('train.optimizer="Prodigy,AdamW"', ['"Prodigy,AdamW"']),
        ("train.resolutions=[512,768],[640]", ["[512,768]", "[640]"]),
        ("concept.caption_prefix=masterpiece, best quality", ['"masterpiece, best quality"']),
        ("concept.caption_prefix=photo,", ['"photo,"']),
        ("train.seed=7", ["7"]),
    ],
)
def test_values_are_separated_by_commas(text: str, values: list[str]) -> None:
    assert [each.value for each in split_values(override(text))] == values


def test_every_combination_with_a_name_of_its_own() -> None:
    asked = [override("network.network_dim=8,16"), override("train.seed=1"), override("train.optimizer=Prodigy,a.B")]
    found = combine_overrides(asked, lambda _: False)
    assert [[each.value for each in one] for one in found] == [
        ["8", "1", '"Prodigy"'],
        ["8", "1", '"a.B"'],
        ["16", "1", '"Prodigy"'],
        ["16", "1", '"a.B"'],
    ]
    assert [one[-1].value for one in name_variants("lum", found)] == [
        '"lum-8-Prodigy"', '"lum-8-a.B"', '"lum-16-Prodigy"', '"lum-16-a.B"',
    ]  # fmt: skip
    assert all(parse_override(each.text) == each for one in name_variants("lum", found) for each in one)  # to be typed


def test_a_width_and_a_height_are_one_value_where_the_recipe_takes_them() -> None:
    asked = [override("train.resolution=512,768")]
    assert len(combine_overrides(asked, lambda _: True)) == 1
    assert len(combine_overrides(asked, lambda _: False)) == 2


def test_equal_values_count_once_and_names_differ() -> None:
    assert len(split_values(override("train.seed=1,1,2"))) == 2
    found = combine_overrides([override("network.network_alpha=-1,1")], lambda _: False)
    assert [one[-1].value for one in name_variants("lum", found)] == ['"lum-1"', '"lum-1-2"']


def test_too_many_combinations() -> None:
    numbers = ",".join(map(str, range(200)))
    with pytest.raises(RecipeError):
        combine_overrides([override(f"train.seed={numbers}"), override(f"sample.seed={numbers}")], lambda _: False)
