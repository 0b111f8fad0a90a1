"""Two trainings of the same write the same numbers; without times and session their files are the same, too."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file  # pyright: ignore[reportUnknownVariableType]

from lorabake.lora.reproducible import VOLATILE_KEYS, strip_saved_loras, strip_volatile_metadata
from lorabake.lora.weights import read_weights

SAME = {"ss_steps": "8", "ss_seed": "42", "sshs_model_hash": "ab", "ss_tag_frequency": json.dumps({"ü": {"a": 1}})}
TIMES = {
    "ss_session_id": "3734756776",
    "ss_training_started_at": "1795388457.0046718",
    "ss_training_finished_at": "1795388481.9656076",
    "modelspec.date": "2026-11-22T23:01:21",
    "sshs_legacy_hash": "ded3c2bb",
}


def trained(path: Path, times: dict[str, str], *, backwards: bool = False) -> Path:
    metadata = {**SAME, **times}
    ordered = dict(sorted(metadata.items(), reverse=backwards))
    numbers = np.random.default_rng(1).standard_normal((8, 4)).astype(np.float32)
    save_file({"lora_unet_x.lora_up.weight": numbers}, path, ordered)
    return path


def test_the_same_training_twice_is_the_same_file(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
    longer = {key: value + "7" for key, value in TIMES.items()}
    a = [trained(tmp_path / "a" / name, TIMES) for name in ("x.safetensors", "x-000001.safetensors")]
    b = [trained(tmp_path / "b" / each.name, longer, backwards=True) for each in a]
    assert [each.read_bytes() for each in a] != [each.read_bytes() for each in b]
    assert strip_saved_loras(tmp_path / "a", "x") == strip_saved_loras(tmp_path / "b", "x") == ()
    assert [each.read_bytes() for each in a] == [each.read_bytes() for each in b]
    assert dict(read_weights(a[0]).metadata) == SAME


def test_only_what_passes_is_taken_out_and_the_rest_is_in_order() -> None:
    assert set(TIMES) == VOLATILE_KEYS
    assert list(strip_volatile_metadata({**TIMES, "b": "1", "a": "2"}).items()) == [("a", "2"), ("b", "1")]


def test_states_other_formats_and_damaged_files_are_left_alone(tmp_path: Path) -> None:
    state = tmp_path / "x-000001-state"
    state.mkdir()
    kept = {trained(state / "model.safetensors", TIMES), tmp_path / "x.ckpt", tmp_path / "x.safetensors"}
    (tmp_path / "x.ckpt").write_bytes(b"PK")
    (tmp_path / "x.safetensors").write_bytes(b"\x05" + bytes(20))
    before = {path: path.read_bytes() for path in kept}
    assert strip_saved_loras(tmp_path, "x") == ()
    assert {path: path.read_bytes() for path in kept} == before


def test_only_what_the_run_saved_is_written_anew(tmp_path: Path) -> None:
    elsewhere, output = tmp_path / "mine", tmp_path / "output"
    elsewhere.mkdir()
    output.mkdir()
    foreign = {trained(output / f"{name}.safetensors", TIMES) for name in ("mine", "xy", "x-best", "x-000001-mix")}
    foreign |= {trained(elsewhere / "x.safetensors", TIMES), trained(elsewhere / "other.safetensors", TIMES)}
    (output / "x-000002.safetensors").symlink_to(elsewhere / "x.safetensors")
    (output / "linked.safetensors").symlink_to(elsewhere / "other.safetensors")
    before = {path: path.read_bytes() for path in foreign}
    saved = [trained(output / f"{name}.safetensors", TIMES) for name in ("x", "x-000001", "x-step00000010")]
    assert strip_saved_loras(output, "x") == ()
    assert {path: path.read_bytes() for path in foreign} == before
    assert all(dict(read_weights(path).metadata) == SAME for path in saved)


def test_a_full_disk_is_told_and_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = trained(tmp_path / "x.safetensors", TIMES)
    before = path.read_bytes()

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    (said,) = strip_saved_loras(tmp_path, "x")
    assert (
        said
        == "could not remove the timestamps from x.safetensors, so it will differ from a rerun's file: the disk is full"
    )
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]
