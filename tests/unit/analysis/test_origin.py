"""A LoRA file leads back to its run: by its place or its digest; renamed, moved, edited, or deleted."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from lora_files import SMALL, metadata, write
from lorabake.analysis.check import check_recipe
from lorabake.analysis.lora_origin import find_lora, inspect_files
from lorabake.errors import MachineError
from lorabake.lora.metadata import training_comment
from lorabake.runs import index
from lorabake.runs.folder import RunPaths, list_outputs
from lorabake.runs.index import IndexEntry, read_index, register_run
from lorabake.runs.record import read_record, write_record
from lorabake.util.safetensors import rewrite_metadata
from lorabake_schemas.inspection import KnownRun
from lorabake_schemas.machine import MachineFacts
from lorabake_schemas.messages import msg
from lorabake_schemas.record import FileDigest, Outcome, Record, TrainerRecord
from situations import CPU, RECORDED, project

ONE, TWO = "0123456789abcdef" * 4, "fedcba9876543210" * 4


def record(digest: str | None, started: str = "2026-01-31T09:30:00.123Z") -> Record:
    return Record(
        lorabake="0",
        name="lum",
        rehearsal=False,
        status="finished",
        started=started,
        recipe=FileDigest(name="recipe.toml", sha256="00", size=1),
        compiled=(),
        seed=1,
        trainer=TrainerRecord(kind="pin", python="python"),
        machine=MachineFacts(system="Linux", cpus=1, memory_bytes=1),
        argv=("python",),
        cwd="/somewhere",
        environment={},
        planned_steps=1,
        **(RECORDED | {"digest": digest or TWO}),  # pyright: ignore[reportArgumentType]
    )


def lora(path: Path, digest: str | None = ONE, *, value: float = 1.0, **more: str) -> Path:
    said = {"ss_training_comment": training_comment(None, digest)} if digest else {}
    return write(path, SMALL, metadata(**said, **more), value=value)


def run(home: Path, root: Path, digest: str | None = ONE, *, ended: bool = True, value: float = 1.0) -> Path:
    """A run folder with an epoch's file and the last one."""
    lora(root / "output" / "lum-000001.safetensors", digest, value=2.0, ss_epoch="1")
    lora(root / "output" / "lum.safetensors", digest, value=value)
    paths = RunPaths(root)
    outcome = Outcome(code="success", message=msg("done"), outputs=list_outputs(paths)) if ended else None
    write_record(paths, record(digest).model_copy(update={"outcome": outcome}))
    register_run(home, root, digest)
    return root


def found(home: Path, file: Path, *, deep: bool = False) -> tuple[KnownRun, ...]:
    return inspect_files([str(file)], Path.cwd(), home, deep=deep).files[0].runs


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


def test_a_file_that_lies_in_its_run(tmp_path: Path, home: Path) -> None:
    root = run(home, tmp_path / "runs" / "lum-001")
    for name in ("lum.safetensors", "lum-000001.safetensors"):
        (known,) = found(home, root / "output" / name)
        assert (known.folder, known.output, known.likeness) == (str(root), f"output/{name}", "bytes")


def test_without_any_register_a_file_inside_is_enough(tmp_path: Path, home: Path) -> None:
    root = run(home, tmp_path / "runs" / "lum-001")
    shutil.rmtree(home)
    moved = root.rename(tmp_path / "lum-final")
    (known,) = found(home, moved / "output" / "lum.safetensors")
    assert (known.folder, known.likeness) == (str(moved), "bytes")


def test_a_copy_elsewhere_under_another_name(tmp_path: Path, home: Path) -> None:
    root = run(home, tmp_path / "runs" / "lum-001")
    copy = tmp_path / "webui" / "my-best.safetensors"
    copy.parent.mkdir()
    shutil.copy(root / "output" / "lum-000001.safetensors", copy)
    (known,) = found(home, copy)
    assert (known.known_by, known.likeness, known.output) == ("digest", "bytes", "output/lum-000001.safetensors")


def test_a_renamed_run_folder_is_found_beside_where_it_was(tmp_path: Path, home: Path) -> None:
    root = run(home, tmp_path / "runs" / "lum-001")
    copy = Path(shutil.copy(root / "output" / "lum.safetensors", tmp_path / "copy.safetensors"))
    renamed = root.rename(root.with_name("the-good-one"))
    (known,) = found(home, copy)
    assert (known.folder, known.likeness) == (str(renamed), "bytes")


def test_a_run_that_is_gone_is_not_claimed(tmp_path: Path, home: Path) -> None:
    root = run(home, tmp_path / "runs" / "lum-001")
    copy = Path(shutil.copy(root / "output" / "lum.safetensors", tmp_path / "copy.safetensors"))
    shutil.rmtree(root)
    assert found(home, copy) == ()


def test_metadata_edited_since(tmp_path: Path, home: Path) -> None:
    root = run(home, tmp_path / "runs" / "lum-001")
    copy = Path(shutil.copy(root / "output" / "lum.safetensors", tmp_path / "copy.safetensors"))
    rewrite_metadata(copy, lambda told: told | {"modelspec.author": "somebody"})
    (known,) = found(home, copy)
    assert (known.likeness, known.output) == ("tensors", "output/lum.safetensors")


def test_tensors_changed_since(tmp_path: Path, home: Path) -> None:
    run(home, tmp_path / "runs" / "lum-001")
    (known,) = found(home, lora(tmp_path / "other.safetensors", value=3.0))
    assert (known.known_by, known.likeness, known.output) == ("digest", "differs", None)


def test_lycoris_files_are_compared_by_their_bytes(tmp_path: Path, home: Path) -> None:
    """Its hash is not the one of the tensors' bytes: equal hashes are a hint, the bytes decide."""
    root = tmp_path / "runs" / "lum-001"
    mark = "0x" + "1" * 64
    lora(root / "output" / "lum.safetensors", sshs_model_hash=mark)
    done = Outcome(code="success", message=msg("done"), outputs=list_outputs(RunPaths(root)))
    write_record(RunPaths(root), record(ONE).model_copy(update={"outcome": done}))
    register_run(home, root, ONE)
    same = lora(tmp_path / "same.safetensors", sshs_model_hash=mark, ss_seed="7")
    assert found(home, same)[0].likeness == "tensors"
    other = lora(tmp_path / "other.safetensors", sshs_model_hash=mark, ss_seed="7", value=5.0)
    assert found(home, other)[0].likeness == "differs"


def test_a_stripped_file_is_found_by_its_place_only(tmp_path: Path, home: Path) -> None:
    root = run(home, tmp_path / "runs" / "lum-001", None)
    copy = Path(shutil.copy(root / "output" / "lum.safetensors", tmp_path / "copy.safetensors"))
    assert found(home, copy) == ()
    (known,) = found(home, root / "output" / "lum.safetensors")
    assert (known.folder, known.known_by, known.likeness) == (str(root), "place", "bytes")


def test_of_several_runs_with_one_digest_the_one_that_wrote_the_file_is_first(tmp_path: Path, home: Path) -> None:
    first = run(home, tmp_path / "runs" / "lum-001", value=4.0)
    run(home, tmp_path / "runs" / "lum-002", value=5.0)
    run(home, tmp_path / "runs" / "other-001", TWO)
    copy = Path(shutil.copy(first / "output" / "lum.safetensors", tmp_path / "copy.safetensors"))
    runs = found(home, copy)
    assert [Path(known.folder).name for known in runs] == ["lum-001", "lum-002"]
    assert [known.likeness for known in runs] == ["bytes", "differs"]


def test_a_run_that_goes_on_still(tmp_path: Path, home: Path) -> None:
    root = run(home, tmp_path / "runs" / "lum-001", ended=False)
    (known,) = found(home, root / "output" / "lum-000001.safetensors")
    assert (known.likeness, known.output) == ("not-compared", "output/lum-000001.safetensors")


def test_a_large_file_is_compared_when_asked_for(tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lorabake.lora.inspect.FULL_READ_LIMIT", 100)
    root = run(home, tmp_path / "runs" / "lum-001")
    file = root / "output" / "lum.safetensors"
    (known,) = found(home, file)
    assert (known.likeness, known.output) == ("not-compared", "output/lum.safetensors")
    integrity = inspect_files([str(file)], Path.cwd(), home).files[0].integrity
    assert integrity
    assert (integrity.verdict, integrity.file) == ("not-read", None)
    assert found(home, file, deep=True)[0].likeness == "bytes"


def test_a_checkpoint_of_torch_is_compared_by_its_bytes(tmp_path: Path, home: Path) -> None:
    root = tmp_path / "runs" / "lum-001"
    file = root / "output" / "lum.pt"
    file.parent.mkdir(parents=True)
    file.write_bytes(b"PK\x03\x04" + bytes(100))
    done = Outcome(code="success", message=msg("done"), outputs=list_outputs(RunPaths(root)))
    write_record(RunPaths(root), record(ONE).model_copy(update={"outcome": done}))
    register_run(home, root, ONE)
    (known,) = found(home, file)
    assert (known.known_by, known.likeness) == ("place", "bytes")


def test_damaged_records_and_registers_do_no_harm(tmp_path: Path, home: Path) -> None:
    root = run(home, tmp_path / "runs" / "lum-001")
    copy = Path(shutil.copy(root / "output" / "lum.safetensors", tmp_path / "copy.safetensors"))
    torn = b'{"run": 7}\n[]\n{"run": "/x\\u0000y"}\n{"run": "/gone", "digest": 9}\n\xff\xfe\n{"run": "/tor'
    (home / index.INDEX_FILE).write_bytes(torn + b"\n" + (home / index.INDEX_FILE).read_bytes() + torn)
    assert found(home, copy)[0].folder == str(root)
    assert IndexEntry(Path("/gone"), None) in read_index(home)
    (root / "record.json").write_text('{"digest": "' + ONE)
    assert found(home, copy) == ()
    assert found(home, root / "output" / "lum.safetensors") == ()


def test_a_home_that_cannot_be_written_stops_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    register_run(tmp_path / "file" / "home", tmp_path, ONE)
    assert read_index(tmp_path / "file" / "home") == []


def test_the_register_tidies_itself(tmp_path: Path, home: Path) -> None:
    root = run(home, tmp_path / "runs" / "lum-001")
    line = json.dumps({"run": str(tmp_path / "gone" / ("x" * 200)), "digest": ONE}) + "\n"
    with (home / index.INDEX_FILE).open("a") as file:
        file.write(line * (index.MAX_INDEX_BYTES // len(line) + 1))
    register_run(home, root, ONE)
    assert read_index(home) == [IndexEntry(root, ONE)]
    assert (home / index.INDEX_FILE).stat().st_size < 1000
    assert list(home.iterdir()) == [home / index.INDEX_FILE]


def test_a_folder_stands_for_the_files_in_it(tmp_path: Path, home: Path) -> None:
    root = run(home, tmp_path / "runs" / "lum-001")
    names = [Path(file.file).name for file in inspect_files([str(root)], Path.cwd(), home).files]
    assert names == ["lum-000001.safetensors", "lum.safetensors"]
    assert len(inspect_files([str(root / "output")], Path.cwd(), home).files) == 2
    with pytest.raises(MachineError, match=r"no \.safetensors file"):
        inspect_files([str(tmp_path / "runs")], Path.cwd(), home)


def test_a_run_is_named_as_elsewhere(tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run(home, tmp_path / "runs" / "lum-001")
    monkeypatch.chdir(tmp_path)
    names = [file.file for file in inspect_files(["lum-001"], tmp_path, home).files]
    assert names == ["runs/lum-001/output/lum-000001.safetensors", "runs/lum-001/output/lum.safetensors"]
    assert find_lora("lum-001", tmp_path) == tmp_path / "runs" / "lum-001" / "output" / "lum.safetensors"
    with pytest.raises(MachineError, match="run not found: lum-002") as caught:
        inspect_files(["lum-002"], tmp_path, home)
    assert "lum-001" in str(caught.value.hint)
    (missing,) = inspect_files(["lum-001.safetensors"], tmp_path, home).files  # surely meant as a file
    assert missing.kind == "unreadable"


def test_records_stay_as_they_were(tmp_path: Path, home: Path) -> None:
    root = run(home, tmp_path / "runs" / "lum-001")
    before = (root / "record.json").read_bytes()
    found(home, root / "output" / "lum.safetensors", deep=True)
    assert (root / "record.json").read_bytes() == before
    assert read_record(root / "record.json").digest == ONE


def test_without_folders_in_the_metadata_the_plan_of_the_run_has_them(tmp_path: Path, home: Path) -> None:
    """sd-scripts writes no dataset of images with masks."""
    root = run(home, tmp_path / "runs" / "lum-001")
    file = lora(root / "output" / "lum.safetensors", ss_datasets="[]", ss_tag_frequency="{}")
    write_record(RunPaths(root), record(ONE))
    (alone,) = inspect_files([str(file)], tmp_path, home).files
    assert (alone.datasets, len(alone.remarks)) == ((), 1)
    plan = check_recipe(project(tmp_path / "recipes", "num_repeats = 3\n", pictures=5), CPU).plan
    assert plan is not None
    RunPaths(root).plan.write_text(plan.model_dump_json(), encoding="utf-8")
    (beside,) = inspect_files([str(file)], tmp_path, home).files
    (dataset,) = beside.datasets
    (folder,) = dataset.folders
    assert (folder.name, folder.pictures, folder.repeats, dataset.samples) == ("pics", 5, 3, 15)
    assert sum(bucket.pictures for bucket in dataset.buckets) == 15
    assert len(beside.remarks) == 1
    (whole,) = inspect_files([str(lora(root / "output" / "lum.safetensors"))], tmp_path, home).files
    assert [each.pictures for each in whole.datasets[0].folders] == [15]
