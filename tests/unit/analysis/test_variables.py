"""Environment variables that change numbers: what is reported when a run is verified or repeated."""

from __future__ import annotations

import pytest

from lorabake.analysis.verify_trainer import variable_remarks
from lorabake_schemas.machine import MachineFacts
from lorabake_schemas.record import FileDigest, Record, TrainerRecord
from situations import RECORDED

RECORD = Record(
    lorabake="0", name="x", rehearsal=False, status="finished", started="", seed=1, planned_steps=1,
    recipe=FileDigest(name="recipe.toml", sha256="a", size=1), compiled=(), argv=("python", "train_network.py"),
    trainer=TrainerRecord(kind="own", python="/p"), machine=MachineFacts(system="t", cpus=1, memory_bytes=1), cwd="/",
    environment={"COLUMNS": "200", "MKL_NUM_THREADS": "2", "PYTORCH_CUDA_ALLOC_CONF": "x"}, **RECORDED,
)  # fmt: skip
HERE = {
    "PATH": "/bin",
    "MKL_NUM_THREADS": "2",
    "PYTORCH_CUDA_ALLOC_CONF": "x",
    "HOME": "/h",
    "TORCH_KEY": "s",
    "OMP_NUM_THREADS": "7",
}


def said(record: Record, env: dict[str, str]) -> list[str]:
    return [str(each) for each in variable_remarks(record, env)]


def test_the_same_ones_need_no_word() -> None:
    """OMP_NUM_THREADS is set by accelerate's own flag, and never comes through."""
    assert said(RECORD, HERE) == []


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("NVIDIA_TF32_OVERRIDE", "1", "NVIDIA_TF32_OVERRIDE: 1 on this machine, none in the run"),
        ("CUDNN_LOGINFO_DBG", "\udcff", "CUDNN_LOGINFO_DBG: \\udcff on this machine, none in the run"),
        ("MKL_NUM_THREADS", "4", "MKL_NUM_THREADS: 4 on this machine, 2 in the run"),
        ("TORCH_UNHEARD_OF", "4", "TORCH_UNHEARD_OF: (value not recorded) on this machine, none in the run"),
    ],
)
def test_another_one_is_named(name: str, value: str, words: str) -> None:
    assert said(RECORD, HERE | {name: value}) == [words]


def test_one_that_is_gone_is_named() -> None:
    rest = {name: value for name, value in HERE.items() if not name.startswith("PYTORCH_")}
    assert said(RECORD, rest) == ["PYTORCH_CUDA_ALLOC_CONF: none on this machine, x in the run"]


def test_a_deterministic_run_gets_none_of_those_that_lorabake_keeps_away() -> None:
    kept = {"MKL_CBWR": "AUTO", "CUBLAS_WORKSPACE_CONFIG": ":4096:8", "PYTORCH_CUDA_ALLOC_CONF": "x"}
    record = RECORD.model_copy(update={"argv": ("python", "deterministic.py"), "environment": kept})
    assert said(record, HERE | {"NVIDIA_TF32_OVERRIDE": "1"}) == []
    assert said(RECORD.model_copy(update={"rehearsal": True}), {}) == []
