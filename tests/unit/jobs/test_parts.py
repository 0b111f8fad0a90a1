"""What a continuation wrote comes under the run's own numbers; broken off anywhere, it can be done again."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from fake_sd_scripts import weight, write_lora, write_state
from lorabake.jobs.resume.outputs import (
    CollectedOutputs,
    archive_outputs,
    collect_outputs,
    describe_uncollected,
    rename_sample,
)
from lorabake.planning.resume_steps import TrainingSchedule
from lorabake.runs.resume_points import OutputNames, PartOutputs
from lorabake.runs.states import StateLocation, expected_files, list_states
from lorabake.util.safetensors import SafetensorsHeader, read_header

COURSE = TrainingSchedule(5, 1, 3, 15, 2)
NAMES = OutputNames("x", "safetensors", COURSE)


def steps(path: Path) -> str | None:
    header = read_header(path)
    assert isinstance(header, SafetensorsHeader)
    return header.metadata.get("ss_steps")


def lora(path: Path, trained: float, said: int, epoch: int = 1) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_lora(path, trained, {"ss_steps": str(said), "ss_epoch": str(epoch)})


def continued(root: Path, offset: int = 10, stop_at: int | None = None) -> PartOutputs:
    """A continuation from step 10 that wrote everything it could, up to step 15."""
    written = PartOutputs(root, 2, 10, offset, stop_at)
    (root / "output").mkdir(parents=True, exist_ok=True)
    for own in (2, 4):
        lora(written.output / f"x-step{own:08d}.safetensors", own + offset, own)
        write_state(written.output / f"x-step{own:08d}-state", own + offset, 3, own)
    lora(written.output / "x.safetensors", 15, 5, 3)
    write_state(written.output / "x-state", 15, 3, 5)
    return written


def adopted(written: PartOutputs, names: OutputNames = NAMES) -> CollectedOutputs:
    found = list_states([StateLocation(written.output, 2, written.offset)], "x", names.course)
    return collect_outputs(written, names, expected_files(found, {}))


def tree(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def test_names_and_numbers_become_the_runs(tmp_path: Path) -> None:
    written = continued(tmp_path)
    assert adopted(written).files == [
        "output/x-state", "output/x-step00000012-state", "output/x-step00000012.safetensors",
        "output/x-step00000014-state", "output/x-step00000014.safetensors", "output/x.safetensors",
    ]  # fmt: skip
    for name, right in {"x-step00000012": 12, "x-step00000014": 14, "x": 15}.items():
        assert steps(tmp_path / "output" / f"{name}.safetensors") == str(right)
        assert weight(tmp_path / "output" / f"{name}.safetensors") == right
        state = json.loads((tmp_path / "output" / f"{name}-state" / "train_state.json").read_text("utf-8"))
        assert state == {"current_epoch": 3, "current_step": right}
    assert not written.output.exists()


def test_a_second_time_changes_nothing(tmp_path: Path) -> None:
    written = continued(tmp_path)
    adopted(written)
    before = {name: (tmp_path / name).read_bytes() for name in tree(tmp_path)}
    assert adopted(written) == CollectedOutputs()
    assert {name: (tmp_path / name).read_bytes() for name in tree(tmp_path)} == before


@pytest.mark.parametrize("broken_at", range(1, 40))
def test_broken_off_anywhere_it_can_be_done_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broken_at: int
) -> None:
    """At any rename, of a file that is written again or of one that is moved."""
    whole = continued(tmp_path / "whole", stop_at=None)
    adopted(whole)
    written, calls = continued(tmp_path / "broken"), 0
    rename, replace = os.rename, os.replace

    class KilledError(Exception):
        pass

    def counting(original: object) -> object:
        def call(*given: object, **folders: object) -> object:
            nonlocal calls
            calls += 1
            if calls == broken_at:
                raise KilledError
            return original(*given, **folders)  # type: ignore[operator]

        return call

    monkeypatch.setattr(os, "rename", counting(rename))
    monkeypatch.setattr(os, "replace", counting(replace))
    try:
        adopted(written)
    except KilledError:
        adopted(written)
    assert calls > 6
    left = {name: (written.root / name).read_bytes() for name in tree(written.root) if ".part" not in name}
    assert left == {name: (whole.root / name).read_bytes() for name in tree(whole.root)}


def test_halves_stay_where_they_are(tmp_path: Path) -> None:
    written = continued(tmp_path)
    torn = written.output / "x.safetensors"
    torn.write_bytes(torn.read_bytes()[:-1])
    (written.output / "x-step00000004-state" / "random_states_0.pkl").unlink()
    found = adopted(written)
    assert [name for name, _ in found.left] == [
        "parts/002/output/x-step00000004-state", "parts/002/output/x.safetensors",
    ]  # fmt: skip
    assert torn.exists()
    assert not (tmp_path / "output" / "x.safetensors").exists()
    assert describe_uncollected(found)[0] == (
        "parts/002/output/x-step00000004-state is incomplete and was left in place: random_states_0.pkl: missing"
    )


def test_what_is_in_the_way_is_kept(tmp_path: Path) -> None:
    written = continued(tmp_path)
    lora(tmp_path / "output" / "x-step00000012.safetensors", 99, 12)
    adopted(written)
    assert weight(written.replaced / "x-step00000012.safetensors") == 99
    assert weight(tmp_path / "output" / "x-step00000012.safetensors") == 12


def test_files_of_later_steps_are_set_aside_before_it_goes_on(tmp_path: Path) -> None:
    output = tmp_path / "output"
    for step in (8, 10, 12):
        lora(output / f"x-step{step:08d}.safetensors", step, step)
        write_state(output / f"x-step{step:08d}-state", step, 1, step)
    lora(output / "x-000002.safetensors", 10, 10)
    lora(output / "x.safetensors", 15, 15)
    (output / "notes.txt").write_text("mine")
    written = PartOutputs(tmp_path, 2, 10, 10, None)
    assert archive_outputs(written, NAMES) == 3
    assert tree(written.replaced)[-1] == "x.safetensors"
    assert not (output / "x-step00000012-state").exists()
    assert (output / "x-000002.safetensors").exists()
    assert (output / "notes.txt").exists()
    lora(output / "x.safetensors", 14, 15)
    assert archive_outputs(written, NAMES) == 1
    assert weight(written.replaced / "x.safetensors.2") == 14


def test_a_run_that_ends_inside_an_epoch_gets_its_last_file_from_the_last_step(tmp_path: Path) -> None:
    names = OutputNames("x", "safetensors", TrainingSchedule(5, 1, 3, 13))
    written = PartOutputs(tmp_path, 2, 10, 10, 3)
    (tmp_path / "output").mkdir()
    lora(written.output / "x-step00000003.safetensors", 13, 3)
    write_state(written.output / "x-step00000003-state", 13, 3, 3)
    lora(written.output / "x.safetensors", 15, 5)
    write_state(written.output / "x-state", 15, 3, 5)
    assert adopted(written, names).files == ["output/x-state", "output/x.safetensors"]
    assert (weight(tmp_path / "output" / "x.safetensors"), steps(tmp_path / "output" / "x.safetensors")) == (13, "13")
    header = read_header(tmp_path / "output" / "x.safetensors")
    assert isinstance(header, SafetensorsHeader)
    assert header.metadata["ss_epoch"] == "3"
    assert weight(written.beyond / "x.safetensors") == 15
    assert names.of_the_run("x-step00000003.safetensors", written) == "x.safetensors"


def test_a_file_of_the_last_step_too_where_the_recipe_wants_one(tmp_path: Path) -> None:
    names = OutputNames("x", "safetensors", TrainingSchedule(5, 1, 3, 14, 2))
    written = PartOutputs(tmp_path, 2, 10, 10, 4)
    (tmp_path / "output").mkdir()
    for own in (2, 4):
        lora(written.output / f"x-step{own:08d}.safetensors", 10 + own, own)
    adopted(written, names)
    found: dict[str, float] = {path.name: weight(path) for path in (tmp_path / "output").iterdir()}
    assert found == {"x-step00000012.safetensors": 12, "x-step00000014.safetensors": 14, "x.safetensors": 14}
    assert {steps(tmp_path / "output" / name) for name in ("x.safetensors", "x-step00000014.safetensors")} == {"14"}


def test_a_count_that_is_neither_right_nor_as_expected_is_left_to_be_judged(tmp_path: Path) -> None:
    written = PartOutputs(tmp_path, 2, 10, 10, None)
    (tmp_path / "output").mkdir()
    lora(written.output / "x.safetensors", 1, -4)
    adopted(written)
    assert steps(tmp_path / "output" / "x.safetensors") == "-4"


@pytest.mark.parametrize(
    ("name", "right"),
    [
        ("x_000003_00_20260131093000_7.png", "x_000013_00_20260131093000_7.png"),
        ("x_e000003_01_20260131093000.png", "x_e000003_01_20260131093000.png"),
        ("x_e000000_00_20260131093000_7.png", "x_000012_00_20260131093000_7.png"),
        ("mine.png", "mine.png"),
    ],
)
def test_samples(tmp_path: Path, name: str, right: str) -> None:
    assert rename_sample(name, PartOutputs(tmp_path, 2, 12, 10, None)) == right


def test_samples_move_too(tmp_path: Path) -> None:
    written = continued(tmp_path)
    (written.output / "sample").mkdir()
    (written.output / "sample" / "x_000003_00_20260131093000_7.png").write_bytes(b"png")
    assert "output/sample/x_000013_00_20260131093000_7.png" in adopted(written).files
    assert not written.output.exists()
