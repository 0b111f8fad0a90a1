"""Past runs as they are read from their folders, intact or damaged, and the estimated time."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import tomli_w

from lorabake.planning.time_estimate import estimate_timing
from lorabake.runs.past_runs import read_past_runs
from lorabake_schemas.machine import Gpu, MachineFacts
from lorabake_schemas.past_runs import PastRun, StepTiming
from lorabake_schemas.plan import DatasetPlan, Forecast, LaunchPlan, Origin, Plan, Setting, Source

START = datetime(2026, 1, 31, 9, tzinfo=UTC)
MACHINE = MachineFacts(system="Linux", cpus=2, memory_bytes=8, gpus=(Gpu(name="RTX 3060", memory_mib=12288),))
OPTIONS: dict[str, Any] = {
    "pretrained_model_name_or_path": "models/base.safetensors",
    "network_module": "networks.lora",
    "network_dim": 32,
    "optimizer_type": "Prodigy",
    "mixed_precision": "fp16",
    "sdpa": True,
    "cache_latents": True,
}
DATASET: dict[str, Any] = {"resolution": 512, "batch_size": 1, "enable_bucket": True, "bucket_no_upscale": False}


def events(*told: tuple[float, str, int]) -> str:
    lines: list[dict[str, Any]] = []
    for seconds, kind, number in told:
        time = (START + timedelta(seconds=seconds)).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        lines.append({"time": time, "event": kind, "step": number})
    return "".join(json.dumps(line) + "\n" for line in lines)


def steps(count: int, pace: float, *, start: float = 0.0, first: int = 1) -> list[tuple[float, str, int]]:
    return [(start + pace * at, "step", first + at) for at in range(count)]


def run_folder(root: Path, name: str = "a-001", told: str | None = None, **record: Any) -> Path:
    folder = root / name
    folder.mkdir(parents=True)
    table: dict[str, Any] = {
        "rehearsal": False,
        "started": f"2026-01-31T09:00:00.{name[-3:]}Z",
        "machine": MACHINE.model_dump(),
        "argv": ["python", "-m", "accelerate", "--num_processes", "1", "sds/train_network.py"],
    }
    (folder / "record.json").write_text(json.dumps(table | record), encoding="utf-8")
    (folder / "train.toml").write_text(tomli_w.dumps(OPTIONS), encoding="utf-8")
    (folder / "dataset.toml").write_text(tomli_w.dumps({"datasets": [{**DATASET, "subsets": [{"a": 1}]}]}), "utf-8")
    (folder / "events.jsonl").write_text(told if told is not None else events(*steps(11, 2.0)), encoding="utf-8")
    return folder


def test_a_run_is_read_with_its_settings_and_its_pace(tmp_path: Path) -> None:
    run_folder(tmp_path)
    (run,) = read_past_runs(tmp_path)
    assert (run.name, run.family, run.machine, run.processes) == ("a-001", "sd15", MACHINE, 1)
    assert run.options == OPTIONS | DATASET
    assert run.stretches == (StepTiming(3, 6.0),) * 3  # 10 gaps; the tenth alone is too short to measure
    assert sum(stretch.steps for stretch in run.stretches) == 9


def test_what_interrupts_steps_is_left_out(tmp_path: Path) -> None:
    told = [
        *steps(4, 3.0),
        (10.0, "saved", 0),
        *steps(4, 3.0, start=100.0, first=5),  # after a save of 90 seconds
        (110.0, "epoch", 0),
        *steps(4, 3.0, start=500.0, first=9),
    ]
    run_folder(tmp_path, told=events(*told))
    (run,) = read_past_runs(tmp_path)
    assert {stretch.seconds / stretch.steps for stretch in run.stretches} == {3.0}
    assert sum(stretch.steps for stretch in run.stretches) == 6


def test_steps_with_samples_are_left_out(tmp_path: Path) -> None:
    slow = [(at * 2.0 + (60.0 if at >= 9 else 0.0), "step", at + 1) for at in range(20)]
    folder = run_folder(tmp_path, told=events(*slow))
    (folder / "train.toml").write_text(tomli_w.dumps({**OPTIONS, "sample_every_n_steps": 10}), encoding="utf-8")
    (run,) = read_past_runs(tmp_path)
    assert {stretch.seconds / stretch.steps for stretch in run.stretches} == {2.0}


def test_steps_that_the_bar_left_out_count(tmp_path: Path) -> None:
    run_folder(tmp_path, told=events((0, "step", 1), (5, "step", 51), (10, "step", 101)))
    (run,) = read_past_runs(tmp_path)
    assert run.stretches == (StepTiming(50, 5.0), StepTiming(50, 5.0))


def test_a_clock_that_was_set_back_measures_nothing(tmp_path: Path) -> None:
    run_folder(tmp_path, told=events((100, "step", 1), (3, "step", 2), (9, "step", 3)))
    (run,) = read_past_runs(tmp_path)
    assert run.stretches == (StepTiming(1, 6.0),)


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("record.json", b"{"),
        ("record.json", b"[]"),
        ("record.json", b"\xff\xfe"),
        ("record.json", b'{"rehearsal": true}'),
        ("record.json", b'{"rehearsal": false}'),
        ("train.toml", b"a = "),
        ("dataset.toml", b"datasets = []"),
        ("dataset.toml", b"datasets = 1"),
        ("dataset.toml", b"[datasets]"),
        ("train.toml", None),
        ("events.jsonl", None),
        ("record.json", None),
    ],
)
def test_damaged_and_rehearsed_runs_are_not_there(tmp_path: Path, file: str, content: bytes | None) -> None:
    folder = run_folder(tmp_path)
    run_folder(tmp_path, "b-002")
    if content is None:
        (folder / file).unlink()
    else:
        (folder / file).write_bytes(content)
    assert [run.name for run in read_past_runs(tmp_path)] == ["b-002"]


@pytest.mark.parametrize("line", ["", "{", "[]", "7", '{"event": "step"}', '{"event": "step", "step": "x", "time": 3}'])
def test_a_damaged_line_only_cuts_a_stretch(tmp_path: Path, line: str) -> None:
    told = events(*steps(4, 2.0)) + line + "\n" + events(*steps(4, 2.0, start=8, first=5))
    run_folder(tmp_path, told=told)
    (run,) = read_past_runs(tmp_path)
    assert sum(stretch.steps for stretch in run.stretches) == 6


def test_newest_first_and_no_folder_at_all(tmp_path: Path) -> None:
    for number in (2, 3, 1):
        run_folder(tmp_path, f"a-{number:03d}")
    (tmp_path / "a file").touch()
    assert [run.name for run in read_past_runs(tmp_path)] == ["a-003", "a-002", "a-001"]
    assert read_past_runs(tmp_path / "nothing") == ()


@pytest.mark.parametrize(
    ("script", "extra", "family"), [("sdxl_train_network.py", {}, "sdxl"), ("train_network.py", {"v2": True}, "sd2")]
)
def test_families(tmp_path: Path, script: str, extra: dict[str, Any], family: str) -> None:
    folder = run_folder(tmp_path, argv=["python", "--num_processes", "2", f"/sds/{script}"])
    (folder / "train.toml").write_text(tomli_w.dumps(OPTIONS | extra), encoding="utf-8")
    (run,) = read_past_runs(tmp_path)
    assert (run.family, run.processes) == (family, 2)


# --- what they foretell -------------------------------------------------------------------------------------------
def plan(**changed: Any) -> Plan:
    def settings(table: dict[str, Any]) -> tuple[Setting, ...]:
        merged = table | {name: value for name, value in changed.items() if name in table or table is OPTIONS}
        return tuple(
            Setting(option=name, value=value, source=Source(origin=Origin.RECIPE)) for name, value in merged.items()
        )

    own = {name: changed.pop(name) for name in tuple(changed) if name in DATASET}
    counted = Forecast(
        train_samples=1, reg_samples=0, batches_per_epoch=1, steps_per_epoch=1, epochs=1, steps=1000, warmup_steps=0
    )
    return Plan(
        name="x",
        family="sd15",
        script="train_network.py",
        train=settings(OPTIONS),
        datasets=(DatasetPlan(settings=settings(DATASET | own), subsets=()),),
        launch=LaunchPlan(),
        forecast=counted,
    )


def past(name: str = "a-001", *stretches: StepTiming, machine: MachineFacts = MACHINE, **options: Any) -> PastRun:
    return PastRun(name, "sd15", machine, 1, OPTIONS | DATASET | options, stretches or (StepTiming(10, 20.0),))


def test_nothing_measured_is_unknown() -> None:
    assert estimate_timing(plan(), MACHINE, ()) is None
    assert estimate_timing(plan(), MACHINE, [PastRun("a", "sd15", MACHINE, 1, OPTIONS | DATASET, ())]) is None


def test_the_range_comes_from_the_stretches_without_the_odd_ones() -> None:
    usual = (StepTiming(10, 20.0), StepTiming(10, 22.0), StepTiming(10, 24.0)) * 3
    told = estimate_timing(plan(), MACHINE, [past("a", *usual, StepTiming(1, 50.0), StepTiming(1, 0.5))])
    assert told
    assert (told.step_low, told.step_high) == (2.0, 2.4)
    assert (told.low, told.high, told.runs, told.steps_measured) == (2000.0, 2400.0, ("a",), 92)
    assert told.differs == ()


@pytest.mark.parametrize(
    "other",
    [
        past(resolution=768),
        past(resolution=(512, 768)),
        past(batch_size=2),
        past(gradient_accumulation_steps=4),
        past(mixed_precision="bf16"),
        past(gradient_checkpointing=True),
        past(network_train_unet_only=True),
        past(network_module="lycoris.kohya"),
        past(machine=MACHINE.model_copy(update={"gpus": (Gpu(name="RTX 4090", memory_mib=24564),)})),
        past(machine=MACHINE.model_copy(update={"gpus": ()})),
        PastRun("a", "sdxl", MACHINE, 1, OPTIONS | DATASET, (StepTiming(10, 20.0),)),
        PastRun("a", "sd15", MACHINE, 2, OPTIONS | DATASET, (StepTiming(10, 20.0),)),
    ],
)
def test_another_kind_of_work_says_nothing(other: PastRun) -> None:
    assert estimate_timing(plan(), MACHINE, [other]) is None


def test_another_algorithm_says_nothing() -> None:
    locon = plan(network_module="lycoris.kohya", network_args=("algo=locon", "rank_dropout=0.1"))
    loha = past(network_module="lycoris.kohya", network_args=("algo=loha",))
    same = past(network_module="lycoris.kohya", network_args=("algo=locon",))
    assert estimate_timing(locon, MACHINE, [loha]) is None
    assert estimate_timing(locon, MACHINE, [same])


def test_flags_that_are_left_out_are_off() -> None:
    assert estimate_timing(plan(gradient_accumulation_steps=1), MACHINE, [past(xformers=False, lowram=False)])


def test_small_differences_are_told_and_the_nearest_run_counts() -> None:
    near, far = past("near", network_dim=8), past("far", network_dim=8, optimizer_type="AdamW")
    told = estimate_timing(plan(), MACHINE, [far, near])
    assert told
    assert (told.runs, told.differs) == (("near",), ("network_dim (8 there)",))
    same = estimate_timing(plan(), MACHINE, [far, near, past("same")])
    assert same
    assert (same.runs, same.differs) == (("same",), ())


def test_another_attention_is_told() -> None:
    told = estimate_timing(plan(), MACHINE, [past(sdpa=False, xformers=True)])
    assert told
    assert told.differs == ("the attention (xformers there)",)
    back = estimate_timing(plan(xformers=True), MACHINE, [past()])
    assert back
    assert back.differs == ("the attention (sdpa there)",)


def test_a_base_is_known_by_its_name_wherever_it_is_named_from() -> None:
    told = estimate_timing(plan(), MACHINE, [past(pretrained_model_name_or_path="..\\..\\models\\base.safetensors")])
    assert told
    assert told.differs == ()


def test_without_a_gpu_the_cpus_count() -> None:
    cpu = MACHINE.model_copy(update={"gpus": ()})
    assert estimate_timing(plan(), cpu, [past(machine=cpu.model_copy(update={"memory_bytes": 9}))])
    assert estimate_timing(plan(), cpu, [past(machine=cpu.model_copy(update={"cpus": 4}))]) is None
