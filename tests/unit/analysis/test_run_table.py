"""Several runs and recipes in a table: a row for each setting that is not the same in all of them."""

from __future__ import annotations

import json
from typing import Any

from click import unstyle

from ended_runs import record
from lorabake.analysis.diff import DiffOperand, tabulate_runs
from lorabake.commands.output.diff import format_run_table
from lorabake.commands.output.layout import TextLayout
from published import hold
from situations import plan_of, recipe


def operand(name: str, loss: float | str | None = None, steps: int | None = None, **changes: Any) -> DiffOperand:
    plan = plan_of(recipe(**changes))
    if steps is None:
        return DiffOperand(name, plan)
    ended = record("finished", {"code": "trained", "message": "trained", "steps": steps})
    times = {"started": "2026-01-31T09:30:00.000Z", "ended": "2026-01-31T09:40:05.000Z"}
    return DiffOperand(name, plan, record=ended.model_copy(update=times), loss=loss)


def rows(*operands: DiffOperand) -> dict[str, tuple[Any, ...]]:
    return {row.option: row.values for row in tabulate_runs(operands).rows}


def test_a_row_for_each_setting_that_differs_anywhere() -> None:
    same, ranked, seeded = (
        operand("a", network={"network_dim": 8}),
        operand("b", network={"network_dim": 16}),
        operand("c", network={"network_dim": 8}, train={"seed": 7}),
    )
    found = rows(same, ranked, seeded)
    assert found["network_dim"] == (8, 16, 8)
    assert found["seed"] == (42, 42, 7)
    assert rows(same, same, same) == {}
    assert rows(ranked, same, seeded)["network_dim"] == (16, 8, 8)


def test_a_setting_that_one_of_them_does_not_have() -> None:
    plain, wide = operand("a"), operand("b", train={"max_token_length": 150})
    first, middle, last = rows(plain, wide, plain)["max_token_length"]
    assert middle == 150
    assert first == last != 150


def test_losses_and_times_are_in_the_table() -> None:
    found = tabulate_runs([operand("a", 0.123456, 100), operand("b", "nan", 50, train={"seed": 7}), operand("r.toml")])
    hold(json.loads(found.model_dump_json()), "table")
    assert [(each.steps, each.loss, each.seconds) for each in found.runs[:2]] == [
        (100, 0.123456, 605),
        (50, "nan", 605),
    ]
    assert (found.runs[2].status, found.runs[2].loss, found.runs[2].digest) == (None, None, None)
    lines = [unstyle(line).split() for line in format_run_table(found, TextLayout()).splitlines()]
    assert lines[0] == ["a", "b", "r.toml"]
    assert lines[3] == ["final", "loss", "0.1235", "nan"]
    assert ["seed", "42", "7", "42"] in lines


def test_a_narrow_terminal_gets_several_tables() -> None:
    names = [f"runs/lum-{n}-001" for n in range(7)]
    found = tabulate_runs([operand(name, 0.1, 100, train={"seed": n}) for n, name in enumerate(names)])
    tables = [unstyle(table).splitlines() for table in format_run_table(found, TextLayout(width=60)).split("\n\n")]
    assert max(len(line) for table in tables for line in table) <= 60
    assert [title for table in tables for title in table[0].split()] == [f"lum-{n}-001" for n in range(7)]
    assert [value for table in tables for value in table[-1].split()[1:]] == [str(n) for n in range(7)]
    assert all(table[-1].split()[0] == "seed" for table in tables)


def test_the_name_of_the_output_is_left_out_where_the_run_has_it() -> None:
    for names, is_shown in ((("lum-001", "ler-001"), False), (("1.toml", "2.toml"), True)):
        plans = [plan_of(recipe(name=own)) for own in ("lum", "ler")]
        runs = [DiffOperand(f"runs/{name}", plan) for name, plan in zip(names, plans, strict=True)]
        assert ("output_name" in format_run_table(tabulate_runs(runs), TextLayout())) == is_shown
