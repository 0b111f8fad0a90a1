"""What a cache file is, judged by its content: only what is certainly a cache may be deleted."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from lorabake.inputs.cache_content import detect_cache_content, has_latents, read_metadata_cache

SIZE, BUCKET = (100, 60), (64, 32)


def latents(path: Path, **more: np.ndarray) -> Path:
    shape = (4, BUCKET[1] // 8, BUCKET[0] // 8)
    arrays = {"latents": np.ones(shape, np.float32), "original_size": np.array(SIZE), "crop_ltrb": np.array([0] * 4)}
    np.savez(path, **(arrays | more))  # type: ignore[arg-type]
    return path


def text(path: Path) -> Path:
    np.savez(path, hidden_state1=np.ones((77, 8)), hidden_state2=np.ones((77, 8)), pool2=np.ones(8))
    return path


def test_caches_are_known_by_their_arrays(tmp_path: Path) -> None:
    assert detect_cache_content(latents(tmp_path / "a.npz")) == "latents"
    assert (
        detect_cache_content(latents(tmp_path / "b.npz", latents_flipped=np.ones(3), alpha_mask=np.ones(3)))
        == "latents"
    )
    assert detect_cache_content(text(tmp_path / "c.npz")) == "text"
    assert detect_cache_content(tmp_path / "none.npz") == "gone"


def test_other_arrays_and_other_files_are_nobodys_caches(tmp_path: Path) -> None:
    np.savez(tmp_path / "pose.npz", points=np.ones(3))
    assert detect_cache_content(tmp_path / "pose.npz") == "other"
    assert detect_cache_content(latents(tmp_path / "more.npz", notes=np.ones(3))) == "other"
    np.savez(tmp_path / "size.npz", original_size=np.array(SIZE))
    assert detect_cache_content(tmp_path / "size.npz") == "other"
    (tmp_path / "words.npz").write_text("my notes", encoding="utf-8")
    assert detect_cache_content(tmp_path / "words.npz") == "other"
    (tmp_path / "folder.npz").mkdir()
    assert detect_cache_content(tmp_path / "folder.npz") == "other"


@pytest.mark.parametrize("length", [0, 2, 20, 60, 300])
def test_one_that_is_not_whole_is_known_by_its_beginning(tmp_path: Path, length: int) -> None:
    whole = latents(tmp_path / "whole.npz").read_bytes()
    (tmp_path / "torn.npz").write_bytes(whole[:length])
    assert detect_cache_content(tmp_path / "torn.npz") == "torn"
    assert not has_latents(tmp_path / "torn.npz", SIZE, BUCKET, flipped=False, masked=False)


def test_another_archive_that_is_not_whole_is_left_alone(tmp_path: Path) -> None:
    np.savez(tmp_path / "pose.npz", points=np.ones(300))
    (tmp_path / "pose.npz").write_bytes((tmp_path / "pose.npz").read_bytes()[:200])
    assert detect_cache_content(tmp_path / "pose.npz") == "other"


def test_latents_are_believed_when_all_is_as_sd_scripts_writes_it(tmp_path: Path) -> None:
    path = latents(tmp_path / "a.npz")
    assert has_latents(path, SIZE, BUCKET, flipped=False, masked=False)
    assert not has_latents(path, SIZE, (64, 64), flipped=False, masked=False)
    assert not has_latents(path, (60, 100), BUCKET, flipped=False, masked=False)
    assert not has_latents(path, SIZE, BUCKET, flipped=True, masked=False)
    assert not has_latents(path, SIZE, BUCKET, flipped=False, masked=True)
    assert not has_latents(text(tmp_path / "c.npz"), SIZE, BUCKET, flipped=False, masked=False)
    assert not has_latents(tmp_path / "none.npz", SIZE, BUCKET, flipped=False, masked=False)
    mirrored = latents(tmp_path / "b.npz", latents_flipped=np.ones(3), alpha_mask=np.ones(3))
    assert has_latents(mirrored, SIZE, BUCKET, flipped=True, masked=True)
    assert not has_latents(mirrored, SIZE, BUCKET, flipped=True, masked=False)


def test_a_flipped_bit_inside_is_noticed(tmp_path: Path) -> None:
    path = latents(tmp_path / "a.npz")
    data = bytearray(path.read_bytes())
    data[data.index(b"\x00\x00\x80\x3f") + 3] ^= 1
    path.write_bytes(data)
    assert not has_latents(path, SIZE, BUCKET, flipped=False, masked=False)


def test_the_list_of_images_that_cache_info_keeps(tmp_path: Path) -> None:
    path = tmp_path / "metadata_cache.json"
    path.write_text(json.dumps({"p/a.png": {"caption": "x, y", "resolution": [10, 20]}}), encoding="utf-8")
    assert read_metadata_cache(path) == {"p/a.png": ("x, y", (10, 20))}
    assert detect_cache_content(path) == "info"
    for other in ("[]", "{", '{"a": 1}', '{"a": {"caption": 1, "resolution": [1, 2]}}', '{"a": {"caption": "x"}}'):
        path.write_text(other, encoding="utf-8")
        assert read_metadata_cache(path) is None
        assert detect_cache_content(path) == "other"
    path.unlink()
    assert detect_cache_content(path) == "gone"
    with pytest.raises(FileNotFoundError):
        read_metadata_cache(path)
