"""The file with what caches were made from: found again by content, never trusted when it is anything else."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from lorabake.inputs import cache_origins
from lorabake.inputs.cache_origins import read_cache_origins, write_cache_origins
from lorabake_schemas.cache_origins import ORIGINS_FILE, CacheOrigin, CacheSettings

FIRST, SECOND, IMAGE, CAPTION = (letter * 64 for letter in "abcd")
LATENTS = CacheSettings(
    kind="latents", model="v1", model_name="base", precision="fp16", commit="c0", resolution=(512, 768), flip_aug=True
)
TEXT = CacheSettings(kind="text", model="b1", model_name="base", precision="fp32", tokenizer="t", max_token_length=225)
ONE = CacheOrigin(IMAGE, LATENTS, (800, 600), (576, 448), (597, 448))
TWO = CacheOrigin(CAPTION, TEXT)
SEVERAL = (ONE, ONE._replace(source=CAPTION), ONE._replace(settings=LATENTS.model_copy(update={"commit": "c1"})))
ORIGINS = {FIRST: SEVERAL, SECOND: (TWO,)}


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    assert read_cache_origins(tmp_path) == {}
    write_cache_origins(tmp_path, ORIGINS)
    assert read_cache_origins(tmp_path) == ORIGINS
    write_cache_origins(tmp_path, {SECOND: (TWO,)})
    assert read_cache_origins(tmp_path) == {SECOND: (TWO,)}
    assert [path.name for path in tmp_path.iterdir()] == [ORIGINS_FILE]


def test_a_link_in_its_place_is_replaced_and_not_followed(tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("my notes", encoding="utf-8")
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / ORIGINS_FILE).symlink_to(tmp_path / "mine")
    write_cache_origins(tmp_path / "images", ORIGINS)
    assert (tmp_path / "mine").read_text("utf-8") == "my notes"
    assert read_cache_origins(tmp_path / "images") == ORIGINS


def test_what_cannot_be_read_is_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "folder" / ORIGINS_FILE).mkdir(parents=True)
    assert read_cache_origins(tmp_path / "folder") == {}
    os.mkfifo(tmp_path / ORIGINS_FILE)
    assert read_cache_origins(tmp_path) == {}
    (tmp_path / ORIGINS_FILE).unlink()
    write_cache_origins(tmp_path, ORIGINS)
    monkeypatch.setattr(cache_origins, "ORIGINS_LIMIT", 100)
    assert read_cache_origins(tmp_path) == {}


def test_a_torn_file_is_nothing(tmp_path: Path) -> None:
    write_cache_origins(tmp_path, ORIGINS)
    whole = (tmp_path / ORIGINS_FILE).read_bytes()
    for length in range(0, len(whole) - 1, 7):
        (tmp_path / ORIGINS_FILE).write_bytes(whole[:length])
        assert read_cache_origins(tmp_path) == {}


SETTINGS: dict[str, Any] = {"kind": "latents"}
ROW = [FIRST, IMAGE, 0, [1, 2], [3, 4], [5, 6]]


@pytest.mark.parametrize(
    "content",
    [
        [],
        {"version": 2, "settings": [SETTINGS], "caches": [ROW]},
        {"version": 1, "settings": [SETTINGS | {"kind": "info"}], "caches": [ROW]},
        {"version": 1, "settings": [SETTINGS | {"model": 1}], "caches": [ROW]},
        {"version": 1, "settings": [SETTINGS | {"model_name": "x" * 5000}], "caches": [ROW]},
        {"version": 1, "settings": [SETTINGS | {"more": 1}], "caches": [ROW]},
        {"version": 1, "settings": [], "caches": [ROW]},
        {"version": 1, "settings": [SETTINGS], "caches": [ROW, ROW[:-1]]},
        {"version": 1, "settings": [SETTINGS], "caches": [["../x", *ROW[1:]]]},
        {"version": 1, "settings": [SETTINGS], "caches": [[*ROW[:3], [1, 2, 3], [3, 4], [5, 6]]]},
        {"version": 1, "settings": [SETTINGS], "caches": [[*ROW[:2], "0", *ROW[3:]]]},
    ],
)
def test_a_file_of_another_shape_is_nothing(tmp_path: Path, content: object) -> None:
    (tmp_path / ORIGINS_FILE).write_text(
        json.dumps({"version": 1, "settings": [SETTINGS], "caches": [ROW]}), encoding="utf-8"
    )
    assert len(read_cache_origins(tmp_path)) == 1
    (tmp_path / ORIGINS_FILE).write_text(json.dumps(content), encoding="utf-8")
    assert read_cache_origins(tmp_path) == {}


def test_an_index_below_zero_names_no_settings(tmp_path: Path) -> None:
    content = {"version": 1, "settings": [SETTINGS], "caches": [[*ROW[:2], -1, *ROW[3:]]]}
    (tmp_path / ORIGINS_FILE).write_text(json.dumps(content), encoding="utf-8")
    assert read_cache_origins(tmp_path) == {}
