"""The memory of what caches were made from: found again by content, never trusted when it is torn."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from lorabake.inputs.cache_provenance import ORIGIN_LIMIT, OriginStore, merge_origins, origins_path
from lorabake.util.fact_cache import FactStore
from lorabake_schemas.cache_origins import CacheOrigin, CacheSettings

LATENTS = CacheSettings("latents", "v1", "base", "fp16", "c0", (512, 768), "area", flip_aug=True)
ONE = CacheOrigin("p1", LATENTS, (800, 600), (576, 448), (597, 448))
TWO = CacheOrigin("c2", CacheSettings("text", "b1", "base", "fp32", tokenizer="t", max_token_length=225))
BOTH = {"sha-one": (ONE,), "sha-two": (TWO,)}


def kept(home: Path, place: str = "1:2") -> Path:
    path = origins_path(home)
    with OriginStore(path) as store:
        store.keep(place, BOTH)
    return path


def test_what_is_kept_is_found_again(tmp_path: Path) -> None:
    with OriginStore(kept(tmp_path)) as store:
        assert store.has_any()
        assert store.known("1:2", ["sha-one", "sha-two", "sha-three"]) == BOTH
        assert store.known("1:2", ["sha-two"]) == {"sha-two": (TWO,)}


def test_caches_that_were_moved_with_their_pictures_are_known_there(tmp_path: Path) -> None:
    with OriginStore(kept(tmp_path)) as store:
        assert store.known("3:4", ["sha-one"]) == {"sha-one": (ONE,)}
        store.keep("3:4", {"sha-three": (TWO,)})
        assert store.known("3:4", ["sha-one", "sha-three"]) == {"sha-one": (ONE,), "sha-three": (TWO,)}


def test_a_cache_may_have_several_origins_the_newest_first(tmp_path: Path) -> None:
    alike = replace(ONE, source="p2"), ONE, replace(ONE, conditions=replace(LATENTS, commit="c1"))
    with OriginStore(origins_path(tmp_path)) as store:
        store.keep("1:2", {"sha-one": alike, "sha-two": (TWO,)})
    with OriginStore(origins_path(tmp_path)) as store:
        assert store.known("1:2", ["sha-one"]) == {"sha-one": alike}
        assert store.known("3:4", ["sha-one"]) == {"sha-one": alike}


def test_the_oldest_origins_are_forgotten_and_none_of_the_last_run() -> None:
    old = tuple(replace(ONE, source=f"old {number}") for number in range(ORIGIN_LIMIT))
    new = replace(ONE, source="new")
    assert merge_origins({"sha-one": (new,)}, {"sha-one": old, "sha-two": (TWO,)}) == {
        "sha-one": (new, *old[:-1]),
        "sha-two": (TWO,),
    }
    assert merge_origins({"sha-one": (old[3], old[3])}, {"sha-one": old}) == {"sha-one": (old[3], *old[:3], *old[4:])}
    many = tuple(replace(ONE, source=f"new {number}") for number in range(3 * ORIGIN_LIMIT))
    assert merge_origins({"sha-one": many}, {"sha-one": old}) == {"sha-one": many}


def test_nothing_is_known_without_a_store(tmp_path: Path) -> None:
    for path in (None, tmp_path / "none.sqlite3"):
        with OriginStore(path) as store:
            assert not store.has_any()
            assert store.known("1:2", ["sha-one"]) == {}


def test_a_torn_store_knows_nothing_and_is_made_anew(tmp_path: Path) -> None:
    path = kept(tmp_path)
    whole = path.read_bytes()
    for damage in (whole[: len(whole) // 2], b"nonsense" * 999, whole.replace(b"sha-one", b"sha-0ne")):
        path.write_bytes(damage)
        with OriginStore(path) as store:
            assert store.known("1:2", ["sha-one", "sha-0ne"]) == {}
            store.keep("1:2", BOTH)
            assert store.known("1:2", ["sha-one"]) == {"sha-one": (ONE,)}


FOREIGN: list[Any] = [
    [],
    [[], []],
    [[{}], [["sha-one", "p", 0, 1, 2, 3, 4, 5, 6]]],
    [[{"kind": "x"}], [["sha-one"]]],
    {"a": 1},
]


@pytest.mark.parametrize("facts", FOREIGN)
def test_rows_of_another_shape_are_nothing(tmp_path: Path, facts: Any) -> None:
    path = kept(tmp_path)
    store = FactStore(path)
    store.keep("origin 1", "1:2", facts)
    store.close()
    with OriginStore(path) as origins:
        assert origins.known("1:2", ["sha-one"]) == {}
