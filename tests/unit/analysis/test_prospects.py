"""What a check estimates: the size of the files, and the time by runs next to the recipe."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

from lorabake.analysis.check import check_recipe
from lorabake.planning.compile import compile_plan
from lorabake.util import resources
from lorabake_schemas.machine import MachineFacts
from lorabake_schemas.plan import Forecast, Plan
from situations import CPU, GPU, XFORMERS, project


def counted(recipe: Path, machine: MachineFacts = GPU) -> Forecast:
    return planned(recipe, machine).forecast


def planned(recipe: Path, machine: MachineFacts = GPU) -> Plan:
    plan = check_recipe(recipe, machine).plan
    assert plan
    return plan


def has_run(folder: Path, plan: Plan, machine: MachineFacts, seconds: float) -> None:
    """A finished run of this plan, with as many seconds for each of its steps."""
    folder.mkdir(parents=True)
    made = compile_plan(plan, resources.load_script_options(plan.script), resources.load_dataset_options())
    for name, data in made.fill({}).items():
        (folder / name).write_bytes(data)
    start = datetime(2026, 1, 31, tzinfo=UTC)
    lines = [
        {"time": (start + timedelta(seconds=at * seconds)).isoformat(), "event": "step", "step": at + 1}
        for at in range(101)
    ]
    (folder / "events.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    record = {"rehearsal": False, "started": "2026", "machine": machine.model_dump(), "argv": ["train_network.py"]}
    (folder / "record.json").write_text(json.dumps(record), encoding="utf-8")


def test_a_plan_knows_how_large_its_files_will_be(tmp_path: Path) -> None:
    told = counted(project(tmp_path, pictures=30)).file_size
    assert told
    assert (told.tensors, told.tensor_bytes) == (792, 37_749_264)
    assert 80_000 < told.header_bytes < 120_000


def test_time_is_unknown_until_it_was_measured(tmp_path: Path) -> None:
    recipe = project(tmp_path, pictures=30)
    plan = planned(recipe)
    assert plan.forecast.timing is None
    has_run(tmp_path / "runs" / "x-001", plan, GPU, 1.5)
    told = counted(recipe).timing
    assert told
    assert (told.step_low, told.step_high) == (1.5, 1.5)
    assert (told.low, told.runs, told.differs) == (1.5 * plan.forecast.steps, ("x-001",), ())
    assert counted(recipe, CPU).timing is None, "another machine's time says nothing"


def test_the_time_of_another_attention_is_told(tmp_path: Path) -> None:
    made = check_recipe(project(tmp_path, pictures=30), GPU)
    assert made.plan
    has_run(tmp_path / "runs" / "x-001", made.plan, GPU, 1.5)
    _, plan = made.with_attention(XFORMERS).planned()
    assert plan.forecast.file_size
    assert plan.forecast.timing
    assert plan.forecast.timing.differs == ("the attention (sdpa there)",)


def test_runs_are_looked_for_where_the_recipe_keeps_them(tmp_path: Path) -> None:
    recipe = project(tmp_path, '[save]\nruns = "elsewhere"\n', pictures=30)
    has_run(tmp_path / "elsewhere" / "x-001", planned(recipe), GPU, 2.0)
    told = counted(recipe).timing
    assert told
    assert told.step_low == 2.0
