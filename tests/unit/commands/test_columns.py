"""Tables of runs: the settings that differ, and what a narrow terminal leaves out."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from click import unstyle

from lorabake.commands.output.layout import TextLayout, count_cells
from lorabake.commands.output.queue import format_queue
from lorabake.commands.output.status import format_run_list
from lorabake.runs.events import format_timestamp
from lorabake_schemas.queue_report import JobReport, QueueReport
from lorabake_schemas.run_status import RunSummary, StatusReport

NOW = datetime(2026, 1, 31, 9, 30, tzinfo=UTC)


def run(name: str, settings: dict[str, Any], **more: Any) -> RunSummary:
    facts = {"name": f"runs/{name}", "folder": f"/r/{name}", "state": "finished", "digest": "0", "rehearsal": False}
    started = format_timestamp(NOW - timedelta(minutes=5))
    return RunSummary.model_validate(facts | {"step": 5, "steps": 5, "started": started, "settings": settings} | more)


def list_runs(*runs: RunSummary, width: int | None = None) -> list[list[str]]:
    text = format_run_list(StatusReport(runs=runs), NOW, TextLayout(width=width))
    lines = unstyle(text).splitlines()
    assert width is None or all(count_cells(line) <= width for line in lines[: len(runs) + 1])
    return [line.split() for line in lines]


def test_a_column_for_each_setting() -> None:
    varied = {"network.network_dim": 8, "train.optimizer": "AdamW"}
    head, first, second, third = list_runs(
        run("a", varied, loss_average=0.125), run("b", {**varied, "train.optimizer": None}), run("other", {})
    )
    assert head == ["run", "state", "steps", "network_dim", "optimizer", "loss", "when"]
    assert first == ["runs/a", "finished", "5/5", "8", "AdamW", "0.125", "5", "min", "ago"]
    assert second[3:5] == ["8", "-"]
    assert third == ["runs/other", "finished", "5/5", "5", "min", "ago"]


def test_keys_of_the_same_name_and_values_that_are_long_or_odd() -> None:
    settings = {
        "concept.num_repeats": [1, True],
        "concept#2.num_repeats": "x" * 50,
        "train.a": "\x1b[31m",
    }
    head, line = list_runs(run("a", settings))
    assert head[3:7] == ["concept.num_repeats", "concept#2.num_repeats", "a", "when"]
    assert (line[3], line[4]) == ("1,true", "x" * 23 + "…")
    assert "\x1b" not in "".join(line)


@pytest.mark.parametrize("width", [140, 100, 80, 60, 40])
def test_a_narrow_terminal_keeps_three_settings_longest(width: int) -> None:
    settings = {f"train.setting_{n}": n for n in range(6)}
    head, _, *below = list_runs(run("a", settings, loss_average=0.5, seconds_left=5), width=width)
    shown, said = (
        [title for title in head if title.startswith("setting_")],
        " ".join(word for line in below for word in line),
    )
    assert shown == [f"setting_{n}" for n in range(len(shown))]
    assert [key for key in settings if key in said] == [*settings][len(shown) :]
    assert len(shown) >= 3 or ("when" not in head and "left" not in head)
    assert ("loss" in head) == (len(shown) > 0 or width > 40)


def test_of_many_settings_without_room_only_some_are_named() -> None:
    settings = {f"train.setting_{n}": n for n in range(3000)}
    below = list_runs(run("a", settings), width=80)[2:]
    assert sum(word.startswith("train.setting_") for line in below for word in line) == 8


def job(recipe: str, *given: str) -> JobReport:
    return JobReport(recipe=recipe, set=given, state="finished", code=0, run="runs/x-001", loss=0.25)


def test_the_table_of_a_sweep_has_a_column_for_each_setting() -> None:
    sweep = [
        job("r.toml", f"network.network_dim={dim}", f"train.seed={seed}", "a.b=1") for dim in (4, 8) for seed in (1, 2)
    ]
    lines = [unstyle(line).split() for line in format_queue(QueueReport(jobs=tuple(sweep)), TextLayout()).splitlines()]
    assert lines[0] == ["network_dim", "seed", "state", "loss", "run"]
    assert lines[3] == ["8", "1", "finished", "0.25", "runs/x-001"]
    both = (*sweep, job("q.toml", "network.network_dim=4", "train.seed=1", "a.b=1"))
    head, first, *_ = format_queue(QueueReport(jobs=both), TextLayout()).splitlines()
    assert (unstyle(head).split()[0], first.split()[0]) == ("recipe", "r.toml")
