"""New metadata for a safetensors file: every tensor byte stays, the old file is never lost."""

from __future__ import annotations

import errno
import json
import shutil
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file, save_file  # pyright: ignore[reportUnknownVariableType]

from lorabake.util.safetensors import HeaderError, encode_header, read_header, rewrite_metadata

Tensors = dict[str, np.ndarray[Any, Any]]
METADATA = {"ss_steps": "16", "ss_tag_frequency": '{"täg": {"a \\"b\\"": 1}}', "empty": "", "emoji": "🦊\n"}


def some() -> Tensors:
    numbers = np.random.default_rng(7)
    return {
        "lora_unet_x.lora_down.weight": numbers.standard_normal((4, 33)).astype(np.float16),
        "lora_unet_x.alpha": np.array(1.5, np.float32),
        "lora_te_y.lora_up.weight": numbers.standard_normal((5, 3)),
    }


@pytest.fixture
def lora(tmp_path: Path) -> Path:
    path = tmp_path / "my lora.safetensors"
    save_file(some(), path, METADATA)
    return path


def header(path: Path) -> tuple[dict[str, Any], int]:
    """The JSON as it is in the file."""
    start = 8 + int.from_bytes(path.read_bytes()[:8], "little")
    return json.loads(path.read_bytes()[8:start]), start


def with_metadata(path: Path) -> dict[str, str]:
    with cast("Any", safe_open)(path, framework="numpy") as opened:
        return dict(opened.metadata() or {})


def tensor_bytes(path: Path) -> bytes:
    return path.read_bytes()[header(path)[1] :]


@pytest.mark.parametrize("extra", range(9))
def test_the_metadata_changes_and_no_tensor_does(lora: Path, extra: int) -> None:
    """Nine lengths in a row, so that every filling occurs."""
    before, (entries, _) = tensor_bytes(lora), header(lora)
    assert rewrite_metadata(lora, lambda found: {**found, "ss_steps": "9" * (extra + 1)})
    assert tensor_bytes(lora) == before
    after, start = header(lora)
    assert start % 8 == 0
    assert list(after) == ["__metadata__", *(name for name in entries if name != "__metadata__")]
    assert {name: entry for name, entry in after.items() if name != "__metadata__"} == {
        name: entry for name, entry in entries.items() if name != "__metadata__"
    }
    assert with_metadata(lora) == {**METADATA, "ss_steps": "9" * (extra + 1)}
    loaded = load_file(lora)
    assert all(np.array_equal(loaded[name], tensor) for name, tensor in some().items())
    assert [path.name for path in lora.parent.iterdir()] == [lora.name]


def test_the_order_is_what_the_change_makes_it(lora: Path) -> None:
    rewrite_metadata(lora, lambda found: dict(sorted(found.items(), reverse=True)))
    assert list(header(lora)[0]["__metadata__"]) == sorted(METADATA, reverse=True)


def test_a_header_as_the_library_writes_it(tmp_path: Path) -> None:
    """With one key, the order of which the library cannot choose, the bytes are the same."""
    save_file(some(), tmp_path / "a.safetensors", {"ss_steps": "ü\n16"})
    path = tmp_path / "a.safetensors"
    before = path.read_bytes()
    assert not rewrite_metadata(path, dict)
    found = read_header(path)
    assert encode_header(found.tensors, {"ss_steps": "ü\n16"}) == before[: found.start]


def test_a_file_with_nothing_to_change_is_not_written(lora: Path) -> None:
    rewrite_metadata(lora, lambda found: dict(sorted(found.items())))
    stamp = lora.stat()
    assert not rewrite_metadata(lora, lambda found: dict(sorted(found.items())))
    assert (lora.stat().st_ino, lora.stat().st_mtime_ns) == (stamp.st_ino, stamp.st_mtime_ns)


def test_all_metadata_taken_out_and_put_in_again(lora: Path) -> None:
    before = tensor_bytes(lora)
    assert rewrite_metadata(lora, lambda _: {})
    assert "__metadata__" not in header(lora)[0]
    assert rewrite_metadata(lora, lambda found: {**found, "new": "1"})
    assert with_metadata(lora) == {"new": "1"}
    assert tensor_bytes(lora) == before


@pytest.mark.parametrize("name", ["a.ckpt", "a.pt", "a.safetensors.bak"])
def test_other_formats_are_left_alone(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"PK\x03\x04")
    assert not rewrite_metadata(tmp_path / name, lambda _: {"x": "y"})
    assert (tmp_path / name).read_bytes() == b"PK\x03\x04"


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 and more than eight", b"\xff" * 40, b"\x02" + bytes(7) + b"[]"])
def test_what_is_no_safetensors_file_is_refused_and_kept(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.safetensors"
    path.write_bytes(content)
    with pytest.raises(HeaderError):
        rewrite_metadata(path, lambda found: found)
    assert path.read_bytes() == content
    assert [each.name for each in tmp_path.iterdir()] == ["a.safetensors"]


def test_metadata_that_is_no_table_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    text = json.dumps({"__metadata__": ["x"]}).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text)
    with pytest.raises(HeaderError):
        rewrite_metadata(path, lambda found: found)


def test_half_a_character_pair_stays_what_it_is(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    text = b'{"__metadata__":{"a":"\\ud83e!","b":"1"}}'
    path.write_bytes(len(text).to_bytes(8, "little") + text)
    assert rewrite_metadata(path, lambda found: {**found, "b": "22"})
    assert header(path)[0] == {"__metadata__": {"a": "\ud83e!", "b": "22"}}


def test_a_full_disk_leaves_the_old_file(lora: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = lora.read_bytes()

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(shutil, "copyfileobj", full)
    with pytest.raises(OSError, match="No space"):
        rewrite_metadata(lora, lambda _: {"x": "y"})
    assert lora.read_bytes() == before
    assert [path.name for path in lora.parent.iterdir()] == [lora.name]


def test_a_change_that_fails_leaves_the_old_file(lora: Path) -> None:
    before = lora.read_bytes()

    def failing(_: dict[str, str]) -> dict[str, str]:
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        rewrite_metadata(lora, failing)
    assert lora.read_bytes() == before


def test_a_link_stays_a_link_and_the_mode_stays(lora: Path, tmp_path: Path) -> None:
    lora.chmod(0o640)
    link = tmp_path / "link.safetensors"
    link.symlink_to(lora)
    assert rewrite_metadata(link, lambda _: {"x": "y"})
    assert link.is_symlink()
    assert with_metadata(lora) == {"x": "y"}
    assert lora.stat().st_mode & 0o777 == 0o640
