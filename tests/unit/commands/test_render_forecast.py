"""The forecast as text: every number it has is shown, and nothing is invented."""

from __future__ import annotations

from typing import Any

import click
import pytest

from lorabake.commands.output.layout import TextLayout
from lorabake.commands.output.plan import MAX_SAVES_SHOWN, format_forecast
from lorabake_schemas.plan import BatchDistribution, FileSize, Forecast, Plan, PlannedSave, TimeEstimate
from situations import dataset, folder, plan_of, recipe


def of(plan: Plan, **more: Any) -> list[str]:
    counted = plan.forecast.model_copy(update=more)
    return [
        click.unstyle(line) for line in format_forecast(plan.model_copy(update={"forecast": counted}), TextLayout())
    ]


def words(rows: list[str]) -> list[list[str]]:
    return [row.split() for row in rows]


PLAN = plan_of(recipe(train={"max_train_epochs": 2}))


def test_steps_and_warm_up() -> None:
    rows = of(PLAN)
    assert rows[:3] == [
        "Forecast", "  30 samples per epoch, 2 epochs, 60 steps",
        "  30 batches and 30 steps per epoch; warm-up over the first 6 steps",
    ]  # fmt: skip
    assert "  30 batches and 30 steps per epoch; no warm-up" in of(PLAN, warmup_steps=0)
    assert "  the learning rate peaks at the start of each cosine cycle (after step 6, 24, 42)" in of(
        PLAN, restarts=(6, 24, 42)
    )


def test_the_guides_marks_stand_beside_the_plans_numbers() -> None:
    rows = words(of(PLAN))
    assert ["times", "each", "image", "is", "seen", "2", "100", "G4.32"] in rows
    assert ["steps", "60", "2000", "G5.2"] in rows
    assert not any(row[:3] == ["compared", "with", "the"] for row in words(of(PLAN, marks=())))


def test_a_step_of_several_batches_is_told() -> None:
    assert not any("per step" in row for row in of(PLAN))
    dealt = BatchDistribution(
        processes=1, accumulation=4, batches_per_process=30, samples_per_step=8, repeated_batches=0, last_step_batches=2
    )
    rows = of(PLAN, dealing=dealt)
    assert "  4 batches per step: 8 samples" in rows
    assert "  the last step of an epoch has only 2 batches and counts proportionally less" in rows
    rows = of(PLAN, dealing=dealt.model_copy(update={"processes": 2, "repeated_batches": 1, "last_step_batches": 4}))
    assert "  4 batches per step from each of 2 processes, 8 samples in all" in rows
    assert "  1 batch is trained twice per epoch so that all processes get the same number" in rows
    assert not any("the last step" in row for row in rows)


def test_buckets_and_what_is_lost_by_them() -> None:
    pictures = dataset(folder(count=5), folder("b", 3, size=(512, 1024)))
    two = recipe(concepts=[{"token": "a", "images": "p"}, {"token": "b", "images": "b"}], train={"train_batch_size": 4})
    plan = plan_of(two, pictures)
    rows = words(of(plan))
    at = rows.index(["bucket", "images", "samples", "batches", "last", "batch"])
    told = {row[0]: row[1:] for row in rows[at + 1 : at + 1 + len(plan.forecast.buckets)]}
    for bucket in plan.forecast.buckets:
        last = [str(bucket.missing), "missing"] if bucket.missing else ["full"]
        counts = [bucket.pictures, bucket.samples, bucket.batches]
        assert told[f"{bucket.width}x{bucket.height}"] == [*map(str, counts), *last]
    lost = plan.forecast.underfilled
    assert lost is not None
    assert lost.missing_samples > 0
    assert any(f"{lost.batches} of {plan.forecast.batches_per_epoch} batches" in row for row in of(plan))
    assert not any("not full" in row for row in of(PLAN))


def test_concepts_and_the_images_that_regularization_uses() -> None:
    plan = plan_of(recipe(regularization=[{"class": "food", "images": "r"}]))
    [concept, reg] = plan.forecast.shares
    rows = words(of(plan, shares=(concept, reg.model_copy(update={"images_used": 7}))))
    assert ["hmbrgrlora", "30", "1", "30", "100", "times"] in rows
    assert ["food", "(regularization)", "7", "of", "30", "1"] in [row[:6] for row in rows]


def test_saves_and_the_room_they_take() -> None:
    rows = of(PLAN, file_size=FileSize(tensors=4, tensor_bytes=37_000_000, header_bytes=900_000))
    assert ["hmbrgrlora-000001.safetensors", "30", "1"] in words(rows)
    assert "  2 files of 37.9 MB each are kept, 75.8 MB in total" in rows
    first, last = PLAN.forecast.saves
    rows = of(PLAN, saves=(first.model_copy(update={"kept": False}), last))
    assert ["hmbrgrlora-000001.safetensors", "30", "1", "deleted", "later"] in words(rows)
    assert "  1 file is kept (size unknown for this network)" in of(PLAN, saves=(last,), file_size=None)
    one = FileSize(tensors=4, tensor_bytes=900, header_bytes=99)
    assert "  1 file of 1 kB is kept" in of(PLAN, saves=(last,), file_size=one)


def test_many_saves_are_not_all_shown() -> None:
    saves = tuple(PlannedSave(file=f"x-{n}.safetensors", step=n) for n in range(1, 31))
    rows = of(PLAN, saves=saves)
    shown = [row for row in rows if row.startswith("  x-")]
    assert len(shown) == MAX_SAVES_SHOWN
    assert words(shown)[0] == ["x-1.safetensors", "1"]
    assert words(shown)[-1] == ["x-30.safetensors", "30"]
    assert f"  ... {30 - MAX_SAVES_SHOWN} more" in rows


def test_time_is_a_range_with_its_source_or_unknown() -> None:
    assert of(PLAN, timing=None)[-1] == "  time: unknown (no similar run has been measured on this machine)"
    timing = TimeEstimate(step_low=1, step_high=2, low=60, high=120, runs=("runs/a-001",), steps_measured=50)
    told = "  time: 1:00 min to 2:00 min for the steps only, estimated from 50 steps of runs/a-001"
    assert of(PLAN, timing=timing)[-1] == told
    other = timing.model_copy(update={"differs": ("the resolution", "the batch size")})
    assert of(PLAN, timing=other)[-1] == f"{told}, which differs in the resolution, the batch size"


@pytest.mark.parametrize("width", [60, 80, 120])
def test_lines_fit(width: int) -> None:
    rows = [click.unstyle(line) for line in format_forecast(PLAN, TextLayout(width=width))]
    assert max(map(len, rows)) <= width


def test_nothing_counted_is_nothing_shown() -> None:
    empty = Forecast(
        train_samples=0, reg_samples=0, batches_per_epoch=0, steps_per_epoch=0, epochs=0, steps=0, warmup_steps=0
    )
    assert len(of(PLAN.model_copy(update={"forecast": empty}))) == 7
