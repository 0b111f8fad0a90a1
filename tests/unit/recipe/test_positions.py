"""The position of a key in a TOML text, in every way that TOML can write keys."""

from __future__ import annotations

import random
import tomllib
from typing import Any

import pytest
import tomli_w

from lorabake.recipe.positions import KeyPath, find_key_positions, find_position
from situations import RECIPE

TEXT = """\
name = "x"
base.model = "m"
"quoted key" = 1
'single.quoted' = 2

[train]
  seed = 1  # indented
optimizer_args = { decouple = true, betas = [0.9, 0.99] }
optimizer_args2.d0 = 1

[[concept]]
token = "a"
[concept.extra]
deep = 1
[[concept.list]]
n = 1
[[concept.list]]
n = 2
[[concept]]
token = "b"
[[concept.list]]
n = 3

[a."b.c".d]
e = 1
"""


@pytest.mark.parametrize(
    ("path", "position"),
    [
        (("name",), (1, 1)),
        (("base",), (2, 1)),
        (("base", "model"), (2, 1)),
        (("quoted key",), (3, 1)),
        (("single.quoted",), (4, 1)),
        (("train",), (6, 1)),
        (("train", "seed"), (7, 3)),
        (("train", "optimizer_args"), (8, 1)),
        (("train", "optimizer_args", "decouple"), (8, 20)),
        (("train", "optimizer_args", "betas"), (8, 37)),
        (("train", "optimizer_args", "betas", 0), (8, 46)),
        (("train", "optimizer_args", "betas", 1), (8, 51)),
        (("train", "optimizer_args2", "d0"), (9, 1)),
        (("concept",), (11, 1)),
        (("concept", 0), (11, 1)),
        (("concept", 0, "token"), (12, 1)),
        (("concept", 0, "extra"), (13, 1)),
        (("concept", 0, "extra", "deep"), (14, 1)),
        (("concept", 0, "list", 0, "n"), (16, 1)),
        (("concept", 0, "list", 1, "n"), (18, 1)),
        (("concept", 1), (19, 1)),
        (("concept", 1, "token"), (20, 1)),
        (("concept", 1, "list", 0, "n"), (22, 1)),
        (("a", "b.c", "d", "e"), (25, 1)),
    ],
)
def test_every_way_of_writing_a_key(path: KeyPath, position: tuple[int, int]) -> None:
    assert find_key_positions(TEXT)[path] == position


def test_an_array_of_inline_tables_counts_like_headers() -> None:
    text = 'concept = [\n  { token = "a" },  # one\n  # a comment between\n  { token = "b", images = "p" },\n]\n'
    found = find_key_positions(text)
    assert found[("concept", 0, "token")] == (2, 5)
    assert found[("concept", 1, "images")] == (4, 18)
    assert found[("concept", 1)] == (4, 3)


def test_an_unwritten_key_is_where_its_parent_stands() -> None:
    positions = find_key_positions(TEXT)
    assert find_position(positions, ("train", "nothing", "below")) == (6, 1)
    assert find_position(positions, ("concept", 1, "images")) == (19, 1)
    assert find_position(positions, ("nowhere",)) is None
    assert find_position(positions, ()) is None


def test_broken_toml_gives_what_can_be_read() -> None:
    assert find_key_positions("") == {}
    assert find_key_positions('name = "x"\nkind = = 3\n[train]\nseed = 1\n')[("name",)] == (1, 1)


def _paths(value: Any, path: KeyPath = ()) -> set[KeyPath]:
    found = {path} if path else set[KeyPath]()
    if isinstance(value, dict):
        for key, item in value.items():  # pyright: ignore[reportUnknownVariableType]
            found |= _paths(item, (*path, str(key)))  # pyright: ignore[reportUnknownArgumentType]
    elif isinstance(value, list):
        for index, item in enumerate(value):  # pyright: ignore[reportUnknownVariableType,reportUnknownArgumentType]
            found |= _paths(item, (*path, index))
    return found


def _random_table(picked: random.Random, depth: int) -> dict[str, Any]:
    def value() -> Any:
        kinds: list[Any] = [1, 2.5, True, "text", [1, 2], ["a"], []]
        if depth > 0:
            kinds += [_random_table(picked, depth - 1), [_random_table(picked, depth - 1) for _ in range(2)]]
        return picked.choice(kinds)

    return {f"k{picked.randrange(50)}": value() for _ in range(picked.randrange(1, 6))}


def test_every_key_of_random_documents_is_found() -> None:
    picked = random.Random(11)  # noqa: S311 - no secrets here
    seen = 0
    for _ in range(200):
        text = tomli_w.dumps(_random_table(picked, 3))
        expected = _paths(tomllib.loads(text))
        assert expected <= set(find_key_positions(text)), text
        seen += len(expected)
    assert seen > 2000


def test_every_key_of_a_recipe_stands_on_its_own_line() -> None:
    rows = RECIPE.splitlines()
    for path, (line, column) in find_key_positions(RECIPE).items():
        key = path[-1]
        if isinstance(key, str) and not rows[line - 1].startswith("["):
            assert rows[line - 1][column - 1 :].startswith(key)
