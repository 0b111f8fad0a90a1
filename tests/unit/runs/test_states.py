"""Which states of a run are intact: by their content, whatever their dates."""

from __future__ import annotations

import json
import os
import shutil
import struct
from pathlib import Path

import pytest

from fake_sd_scripts import LENGTH, archive, write_lora, write_state
from lorabake.planning.resume_steps import TrainingSchedule
from lorabake.runs.states import ExpectedFiles, SavedState, StateLocation, expected_files, list_states, state_problem
from lorabake.util.torch_archive import archive_problem
from lorabake_schemas.plan import FileSize
from lorabake_schemas.saved_names import STATE_SUFFIX, parse_saved_name
from situations import plan_of, recipe

COURSE = TrainingSchedule(5, 1, 3, 15)
FILES = ("model.safetensors", "optimizer.bin", "random_states_0.pkl", "scheduler.bin", "train_state.json")


def output(tmp_path: Path, *steps: int) -> Path:
    folder = tmp_path / "output"
    for step in steps:
        write_state(folder / f"x-step{step:08d}-state", step, step // 5 + 1, step)
    return folder


def found(folder: Path, course: TrainingSchedule = COURSE, offset: int = 0) -> tuple[list[SavedState], ExpectedFiles]:
    every = list_states([StateLocation(folder, 1, offset)], "x", course)
    return every, expected_files(every, {"optimizer_type": "AdamW"})


def why(folder: Path) -> str | None:
    """What is wrong with the state that is furthest."""
    every, wanted = found(folder)
    return state_problem(every[0], wanted)


def test_every_kind_of_state_by_its_name_the_furthest_first(tmp_path: Path) -> None:
    folder = output(tmp_path, 4, 12)
    write_state(folder / "x-000002-state", 10, 2, 10)
    write_state(folder / "x-state", 15, 3, 15)
    (folder / "other-state").mkdir()
    (folder / "x-step00000099-state").write_text("a file")
    every, wanted = found(folder)
    assert [(each.kind, each.step) for each in every] == [("last", 15), ("step", 12), ("epoch", 10), ("step", 4)]
    assert [state_problem(each, wanted) for each in every] == [None] * 4


def test_names_that_could_be_patterns() -> None:
    assert parse_saved_name("a+(b)-step00000003-state", "a+(b)", STATE_SUFFIX) == ("step", 3)
    assert parse_saved_name("x-step123456789-state", "x", STATE_SUFFIX) == ("step", 123456789)
    assert parse_saved_name("x-000012-state", "x", STATE_SUFFIX) == ("epoch", 12)
    assert parse_saved_name("x-state", "x", STATE_SUFFIX) == ("last", 0)
    assert parse_saved_name("x-000012", "x", STATE_SUFFIX) is None
    assert parse_saved_name("x-step3-state", "x", STATE_SUFFIX) is None


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file(tmp_path: Path, name: str) -> None:
    folder = output(tmp_path, 4, 12)
    (folder / "x-step00000012-state" / name).unlink()
    assert why(folder) == f"{name}: missing"


@pytest.mark.parametrize("name", FILES)
def test_a_file_cut_off_anywhere(tmp_path: Path, name: str) -> None:
    folder = output(tmp_path, 4, 12)
    path = folder / "x-step00000012-state" / name
    whole = path.read_bytes()
    for length in {0, 1, len(whole) // 3, len(whole) // 2, len(whole) - 1}:
        path.write_bytes(whole[:length])
        assert (why(folder) or "").startswith(f"{name}: "), length
    path.write_bytes(whole)
    assert why(folder) is None


def test_a_byte_that_changed_in_an_archive(tmp_path: Path) -> None:
    """Wherever the content is: each part has a CRC."""
    path = tmp_path / "optimizer.bin"
    archive(path, bytes(1000))
    whole = path.read_bytes()
    begin = whole.index(bytes(1000))
    for place in range(begin, begin + 1000, 37):
        path.write_bytes(whole[:place] + b"\x01" + whole[place + 1 :])
        assert archive_problem(path) == "damaged (archive/data/0)"


def test_an_archive_of_something_else(tmp_path: Path) -> None:
    import zipfile

    with zipfile.ZipFile(tmp_path / "scheduler.bin", "w") as file:
        file.writestr("readme.txt", "x")
    assert archive_problem(tmp_path / "scheduler.bin") == "damaged or cut off"


def test_a_bit_that_changed_at_an_archives_end(tmp_path: Path) -> None:
    """torch refuses what Python's zipfile lets pass: it would fail in the middle of a start."""
    path = tmp_path / "optimizer.bin"
    archive(path, bytes(100))
    whole = path.read_bytes()
    for place in range(len(whole) - 22, len(whole)):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 4]) + whole[place + 1 :])
        assert archive_problem(path) is not None, place
    path.write_bytes(whole)
    assert archive_problem(path) is None


def test_the_long_form_of_an_archives_end(tmp_path: Path) -> None:
    """As torch writes it: the same numbers twice, the short ones full where the long ones are larger."""
    path = tmp_path / "optimizer.bin"
    archive(path, bytes(100))
    whole = path.read_bytes()
    _, _, _, here, count, length, begin, _ = struct.unpack("<4s4H2LH", whole[-22:])
    at = len(whole) - 22
    long = struct.pack("<4sQ2H2L4Q", b"PK\6\6", 44, 45, 45, 0, 0, here, count, length, begin)
    locator = struct.pack("<4sLQL", b"PK\6\7", 0, at, 1)
    full = struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, here, count, length, 0xFFFFFFFF, 0)
    path.write_bytes(whole[:-22] + long + locator + whole[-22:])
    assert archive_problem(path) is None
    path.write_bytes(whole[:-22] + long + locator + full)
    assert archive_problem(path) == "damaged or cut off"  # begin fits into the short form
    path.write_bytes(whole[:-22] + long.replace(b"\x2d\x00", b"\x2d\x01", 1) + locator + whole[-22:])
    assert archive_problem(path) is None  # a version that nobody looks at
    path.write_bytes(whole[:-22] + long[:-1] + b"\x01" + locator + whole[-22:])
    assert archive_problem(path) == "damaged or cut off"


def test_weights_that_are_no_numbers(tmp_path: Path) -> None:
    folder = output(tmp_path, 4)
    write_lora(folder / "x-step00000004-state" / "model.safetensors", float("nan"), {})
    assert why(folder) == "model.safetensors: contains NaN or infinity"


def test_weights_of_another_network(tmp_path: Path) -> None:
    folder = output(tmp_path, 4, 8, 12)
    header = json.dumps({"y": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}).encode()
    strange = len(header).to_bytes(8, "little") + header + struct.pack("<f", 1.0)
    (folder / "x-step00000012-state" / "model.safetensors").write_bytes(strange)
    assert why(folder) == "model.safetensors: its tensors differ from those of the other states"


def test_weights_of_another_size_than_planned(tmp_path: Path) -> None:
    """Though most states have it; the network's shapes are those of the states of the planned size."""
    folder = output(tmp_path, 4, 8, 12)
    every, _ = found(folder)
    size = FileSize(tensors=1, tensor_bytes=LENGTH * 2, header_bytes=0)
    plan = plan_of(recipe())
    plan = plan.model_copy(update={"forecast": plan.forecast.model_copy(update={"file_size": size})})
    wanted = expected_files(every, {}, plan)
    assert [state_problem(each, wanted) for each in every] == [None] * 3
    for step in (8, 12):
        write_lora(folder / f"x-step{step:08d}-state" / "model.safetensors", step, {}, length=LENGTH // 2)
    wanted = expected_files(every, {}, plan)
    assert [state_problem(each, wanted) is None for each in every] == [False, False, True]


def test_a_folder_whose_name_and_content_disagree(tmp_path: Path) -> None:
    folder = output(tmp_path, 4)
    shutil.copytree(folder / "x-step00000004-state", folder / "x-step00000012-state")
    assert why(folder) == "train_state.json: contains step 4, but the folder name has step 12"


def test_fp16_has_a_scaler_and_schedule_free_no_scheduler(tmp_path: Path) -> None:
    every = list_states([StateLocation(output(tmp_path, 4))], "x", COURSE)
    assert state_problem(every[0], expected_files(every, {"mixed_precision": "fp16"})) == "scaler.pt: missing"
    (every[0].path / "scheduler.bin").unlink()
    assert state_problem(every[0], expected_files(every, {"optimizer_type": "AdamWScheduleFree"})) is None
    assert state_problem(every[0], expected_files(every, {"optimizer_type": "AdamW"})) == "scheduler.bin: missing"


def test_dates_say_nothing(tmp_path: Path) -> None:
    folder = output(tmp_path, 4, 12)
    for path in (folder / "x-step00000004-state").rglob("*"):
        os.utime(path, (2e9, 2e9))
    os.utime(folder / "x-step00000004-state", (2e9, 2e9))
    assert [each.step for each in found(folder)[0]] == [12, 4]


def test_a_continuations_states_count_from_where_it_began(tmp_path: Path) -> None:
    """Whether lorabake has set train_state.json right already or not."""
    folder = output(tmp_path, 2)
    write_state(folder / "x-000003-state", 15, 3, 5)
    course = TrainingSchedule(5, 1, 4, 20)
    for inside in (2, 12):
        (folder / "x-step00000002-state" / "train_state.json").write_text(json.dumps({"current_step": inside}))
        every, wanted = found(folder, course, offset=10)
        assert [(each.step, state_problem(each, wanted)) for each in every] == [(15, None), (12, None)]


def test_of_several_starts_the_last_one_comes_first(tmp_path: Path) -> None:
    first, second = tmp_path / "output", tmp_path / "parts" / "002" / "output"
    write_state(first / "x-step00000012-state", 12, 3, 12)
    write_state(second / "x-step00000002-state", 12, 3, 2)
    every = list_states([StateLocation(first), StateLocation(second, 2, 10)], "x", COURSE)
    assert [each.part for each in every] == [2, 1]


def test_writing_that_is_broken_off_after_any_file_leaves_no_whole_state(tmp_path: Path) -> None:
    """In the order in which accelerate writes them, the last one is the proof."""
    folder = output(tmp_path, 4, 12)
    order = ("train_state.json", "model.safetensors", "optimizer.bin", "scheduler.bin", "random_states_0.pkl")
    for kept in range(len(order)):
        shutil.rmtree(folder / "x-step00000012-state")
        write_state(folder / "x-step00000012-state", 12, 3, 12)
        for name in order[kept:]:
            (folder / "x-step00000012-state" / name).unlink()
        assert why(folder) is not None
