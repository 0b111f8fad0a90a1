"""The forecast against the guide's worked examples (T4-T6, T14-T17) and sd-scripts' loops."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from lorabake.errors import RecipeError
from lorabake.planning.batches import DatasetBlock, SubsetInput, count_batches, effective_repeats
from lorabake.planning.buckets import BucketRules
from lorabake.planning.forecast import Schedule, forecast_run
from lorabake.planning.guide_targets import list_guide_targets
from lorabake.planning.repeats import epochs_for_exposures
from lorabake_schemas.families.registry import get_family
from lorabake_schemas.machine import Family
from lorabake_schemas.plan import Forecast
from lorabake_schemas.recipe import RecipeKind

SQUARE = BucketRules((512, 512), enable_bucket=True)


def subset(images: int, repeats: int = 1, *, reg: bool = False, title: str = "a") -> SubsetInput:
    return SubsetInput(title, ((512, 512),) * images, repeats, reg)


def run(*subsets: SubsetInput, batch_size: int = 1, epochs: int | None = 1, **options: Any) -> Forecast:
    schedule = Schedule("hamburger", max_train_epochs=epochs, **options)
    return forecast_run([DatasetBlock(subsets, SQUARE, batch_size)], schedule)


@pytest.mark.parametrize(("repeats", "epochs", "samples"), [(1, 30, 30), (10, 3, 300)])
def test_t4_900_steps_either_way(repeats: int, epochs: int, samples: int) -> None:
    assert epochs_for_exposures(30, repeats) == epochs
    told = run(subset(30, repeats), epochs=epochs)
    assert (told.train_samples, told.steps) == (samples, 900)


@pytest.mark.parametrize(
    ("images", "exposures", "batch_size", "reg", "steps"),
    [
        (30, 100, 1, 0, 3000),
        (20, 50, 1, 0, 1000),
        (30, 100, 1, 30, 6000),
        (20, 50, 1, 20, 2000),
        (30, 100, 2, 0, 1500),
        (20, 50, 2, 0, 500),
    ],
)
def test_t5_default_epochs(images: int, exposures: int, batch_size: int, reg: int, steps: int) -> None:
    subsets = (subset(images), subset(reg, reg=True)) if reg else (subset(images),)
    for repeats in (1, 10):
        told = run(
            *(SubsetInput(s.title, s.sizes, 1 if s.is_reg else repeats, s.is_reg) for s in subsets),
            batch_size=batch_size,
            epochs=epochs_for_exposures(exposures, repeats),
        )
        assert told.steps == steps


@pytest.mark.parametrize(
    ("epochs", "every", "saved"),
    [(10, 3, [3, 6, 9]), (5, 1, [1, 2, 3, 4]), (10, 5, [5]), (15, 5, [5, 10]), (10, 20, [])],
)
def test_t6_saved_epochs(epochs: int, every: int, saved: list[int]) -> None:
    told = run(subset(4), epochs=epochs, save_every_n_epochs=every)
    assert [save.epoch for save in told.saves] == [*saved, epochs]
    assert [save.step for save in told.saves] == [*(4 * epoch for epoch in saved), 4 * epochs]


def test_t6_names() -> None:
    told = run(subset(4), epochs=10, save_every_n_epochs=3)
    assert [save.file for save in told.saves] == [
        "hamburger-000003.safetensors",
        "hamburger-000006.safetensors",
        "hamburger-000009.safetensors",
        "hamburger.safetensors",
    ]


def test_step_saves_keep_the_last_step_and_come_before_an_epoch_save() -> None:
    told = run(subset(4), epochs=2, save_every_n_epochs=1, save_every_n_steps=4, extension="ckpt")
    assert [(save.file, save.step, save.epoch) for save in told.saves] == [
        ("hamburger-step00000004.ckpt", 4, None),
        ("hamburger-000001.ckpt", 4, 1),
        ("hamburger-step00000008.ckpt", 8, None),
        ("hamburger.ckpt", 8, 2),
    ]


@pytest.mark.parametrize(
    ("images", "epochs", "share", "expected"), [(30, 100, 0.1, 300), (20, 50, 0.1, 100), (20, 50, 0.2, 200)]
)
def test_t14_warm_up(images: int, epochs: int, share: float, expected: int) -> None:
    assert run(subset(images), epochs=epochs, lr_warmup_steps=share).warmup_steps == expected


def test_warm_up_steps_as_given_and_shares_floored() -> None:
    assert run(subset(33), lr_warmup_steps=7).warmup_steps == 7
    assert run(subset(33), lr_warmup_steps=0.1).warmup_steps == 3
    assert run(subset(33)).warmup_steps == 0


def test_warm_up_in_two_processes() -> None:
    assert run(subset(40), epochs=10, num_processes=2, lr_warmup_steps=100).warmup_steps == 50
    assert run(subset(40), epochs=10, num_processes=2, lr_warmup_steps=0.1).warmup_steps == 20


@pytest.mark.parametrize(
    ("images", "epochs", "steps"),
    [(150, 30, 4500), (268, 15, 4020), (268, 23, 6164), (268, 30, 8040), (268, 45, 12060)],
)
def test_t15_style(images: int, epochs: int, steps: int) -> None:
    assert run(subset(images), epochs=epochs).steps == steps


@pytest.mark.parametrize(
    ("train", "reg", "batches", "distinct"),
    [
        ((30, 1), (30, 1), 60, 30),
        ((30, 1), (30, 2), 60, 15),
        ((30, 1), (30, 10), 60, 3),
        ((30, 1), (100, 1), 60, 30),
        ((30, 10), (100, 1), 600, 100),
        ((30, 1), (20, 1), 60, 20),
    ],
)
def test_t16_regularization(train: tuple[int, int], reg: tuple[int, int], batches: int, distinct: int) -> None:
    told = run(subset(*train), subset(*reg, reg=True))
    assert (told.batches_per_epoch, told.shares[1].images_used) == (batches, distinct)
    assert told.reg_samples == told.train_samples == train[0] * train[1]


def test_t16_a_second_regularization_folder_may_stay_unused() -> None:
    told = run(subset(30), subset(100, reg=True), subset(30, reg=True))
    assert [(share.images_used, share.samples_per_epoch, share.exposures) for share in told.shares[1:]] == [
        (30, 30, 1.0),
        (0, 0, 0.0),
    ]


def loop(own: list[int], wanted: int) -> list[int]:
    """Regularization balancing as a plain loop, to compare the closed form with."""
    taken = [0] * len(own)
    for round_ in itertools.count():
        for at, repeats in enumerate(own):
            if sum(taken) >= wanted:
                return taken
            taken[at] += 1 if round_ else repeats
    raise AssertionError


@pytest.mark.parametrize("train", [0, 1, 5, 12, 31])
def test_balancing_equals_the_loop(train: int) -> None:
    for counts in itertools.product((1, 2, 5), (1, 3, 4), (1, 2, 7), (1, 6)):
        subsets = [subset(train), subset(counts[0], counts[1], reg=True), subset(counts[2], counts[3], reg=True)]
        own = [counts[1]] * counts[0] + [counts[3]] * counts[2]
        _, first, second = effective_repeats(subsets)
        assert [*first, *second] == loop(own, train)


def test_regularization_overshoots_by_less_than_its_repeats() -> None:
    assert run(subset(5), subset(3, 4, reg=True)).reg_samples == 8


def test_subsets_without_repeats_are_left_out() -> None:
    told = run(subset(5), subset(7, 0), subset(3, 0, reg=True))
    assert (told.train_samples, told.reg_samples, told.batches_per_epoch) == (5, 0, 5)
    assert [share.images_used for share in told.shares] == [5, 0, 0]


def test_t17_buckets_are_filled_over_all_subsets() -> None:
    rules = BucketRules((768, 768), enable_bucket=True, max_bucket_reso=960)
    subsets = (
        SubsetInput("a", ((600, 900), (300, 300)), 2),
        SubsetInput("b", ((600, 900),), 1),
        SubsetInput("c", ((768, 768),), 1, is_reg=True),
    )
    told = forecast_run([DatasetBlock(subsets, rules, batch_size=4)], Schedule("x", max_train_epochs=3))
    assert [(b.width, b.height, b.samples, b.batches) for b in told.buckets] == [(640, 896, 3, 1), (768, 768, 7, 2)]
    assert (told.batches_per_epoch, told.steps_per_epoch, told.steps) == (3, 3, 9)


def test_t17_a_resolution_outside_the_limits() -> None:
    with pytest.raises(RecipeError, match="max_bucket_reso"):
        forecast_run([DatasetBlock((subset(1),), BucketRules((1536, 1536), enable_bucket=True))], Schedule("x", 1))


def test_accumulation_and_processes_share_an_epoch() -> None:
    assert run(subset(33), gradient_accumulation_steps=4).steps_per_epoch == 9
    assert run(subset(33), gradient_accumulation_steps=4, num_processes=2).steps_per_epoch == 5


def test_steps_instead_of_epochs_cut_the_last_one_short() -> None:
    told = run(subset(10, 2), epochs=None, max_train_steps=50, save_every_n_epochs=1)
    assert (told.epochs, told.steps, told.shares[0].exposures) == (3, 50, 5.0)
    assert [save.step for save in told.saves] == [20, 40, 50]


@pytest.mark.parametrize(
    ("images", "epochs", "share", "cycles", "expected"),
    [
        (30, 100, 0.1, 3, (300, 1200, 2100)),  # T14
        (20, 50, 0.1, 3, (100, 400, 700)),  # T14
        (20, 50, 0.0, 4, (0, 250, 500, 750)),
        (10, 1, 0.0, 3, (0, 4, 7)),  # 10 steps in thirds: the first whole step of each
        (3, 1, 0.0, 9, (0, 1, 2)),  # more cycles than steps
        (10, 1, 20, 3, ()),  # the warm-up never ends
        (10, 1, 0.1, 0, ()),  # another scheduler
    ],
)
def test_t14_restarts(images: int, epochs: int, share: float, cycles: int, expected: tuple[int, ...]) -> None:
    assert run(subset(images), epochs=epochs, lr_warmup_steps=share, cycles=cycles).restarts == expected


def test_restarts_in_two_processes() -> None:
    """The scheduler moves twice a step: 200 steps are 400 ticks."""
    assert run(subset(40), epochs=10, num_processes=2, lr_warmup_steps=0.1, cycles=3).restarts == (20, 80, 140)
    assert run(subset(40), epochs=10, num_processes=2, lr_warmup_steps=100, cycles=2).restarts == (50, 125)


def test_an_epoch_is_dealt_evenly_and_its_last_step_is_short() -> None:
    told = run(subset(33), batch_size=2, gradient_accumulation_steps=4, num_processes=2).dealing
    assert told
    assert (told.batches_per_process, told.repeated_batches, told.last_step_batches) == (9, 1, 1)
    assert (told.processes, told.accumulation, told.samples_per_step) == (2, 4, 16)
    alone = run(subset(33)).dealing
    assert alone
    assert (alone.batches_per_process, alone.repeated_batches, alone.last_step_batches) == (33, 0, 1)
    assert alone.samples_per_step == 1


def test_underfilled_batches_and_what_they_cost() -> None:
    sizes = (((512, 512),) * 5, ((400, 800),) * 2, ((800, 400),))
    rules = BucketRules((512, 512), enable_bucket=True)
    subsets = tuple(SubsetInput(str(at), each) for at, each in enumerate(sizes))
    told = forecast_run([DatasetBlock(subsets, rules, batch_size=4)], Schedule("x", max_train_epochs=1))
    assert [(b.samples, b.batches, b.pictures, b.missing) for b in told.buckets] == [
        (2, 1, 2, 2), (5, 2, 5, 3), (1, 1, 1, 3),
    ]  # fmt: skip
    lost = told.underfilled
    assert lost
    assert (lost.batches, lost.share, lost.missing_samples) == (3, 0.75, 8)
    assert (lost.extra_batches, lost.lone_buckets) == (2, 1)


def test_repeats_fill_a_bucket_without_more_images() -> None:
    (bucket,) = run(subset(3, 4), batch_size=4).buckets
    assert (bucket.samples, bucket.pictures, bucket.missing) == (12, 3, 0)


@pytest.mark.parametrize(
    ("options", "kept"),
    [
        ({"save_every_n_epochs": 2, "save_last_n_epochs": 2}, {6, 8, 10}),
        ({"save_every_n_epochs": 3, "save_last_n_epochs": 1}, {9, 10}),
        ({"save_every_n_epochs": 3}, {3, 6, 9, 10}),
    ],
)
def test_old_epochs_are_deleted(options: dict[str, int], kept: set[int]) -> None:
    told = run(subset(4), epochs=10, **options)
    assert {save.epoch for save in told.saves if save.kept} == kept


def test_old_steps_are_deleted_by_steps_not_by_files() -> None:
    """sd-scripts' own example: every 10 steps, the last 30 steps: at step 50, step 10 goes (TU:5796)."""
    told = run(subset(5), epochs=10, save_every_n_steps=10, save_last_n_steps=30)
    assert [(save.step, save.kept) for save in told.saves[:-1]] == [
        (10, False), (20, True), (30, True), (40, True), (50, True),
    ]  # fmt: skip


def test_images_without_a_bucket_are_named_by_subset() -> None:
    rules = BucketRules((512, 512), enable_bucket=True, bucket_no_upscale=True)
    subsets = (
        SubsetInput("a", ((512, 512), (50, 200)), names=("good.png", "narrow.png")),
        SubsetInput("b", ((40, 40), (30, 900)), is_reg=True),
    )
    with pytest.raises(RecipeError) as caught:
        forecast_run([DatasetBlock(subsets, rules)], Schedule("x", max_train_epochs=1))
    first, second = caught.value.findings
    assert (first.where, "narrow.png" in first.message, "good.png" in first.message) == (
        ("concept", 0, "images"), True, False,
    )  # fmt: skip
    assert second.where == ("regularization", 0, "images")
    assert "40x40" in second.message


def test_fits_are_told_for_every_image_that_is_used() -> None:
    rules = BucketRules((768, 768), enable_bucket=True, max_bucket_reso=960)
    subsets = (
        SubsetInput("a", ((600, 900), (300, 300), (2000, 2000))),
        SubsetInput("b", ((768, 768),) * 5, is_reg=True),
        SubsetInput("c", ((768, 768),), num_repeats=0),
    )
    concept, reg, left = count_batches([DatasetBlock(subsets, rules)]).fits
    told = [(fit.bucket, round(fit.scale, 3), round(fit.cropped_share, 3)) for fit in concept if fit]
    assert told == [((640, 896), 1.067, 0.067), ((768, 768), 2.56, 0.0), ((768, 768), 0.384, 0.0)]
    assert [fit is None for fit in reg] == [False, False, False, True, True]
    assert left == (None,)


@pytest.mark.parametrize(
    ("kind", "family", "adaptive", "expected"),
    [
        ("character", "sd15", True, [("G4.32", 100, 3.0), ("G5.2", 2000, 90.0)]),
        ("object", "sdxl", False, [("G4.33", 50, 3.0), ("G5.2", 2000, 90.0)]),
        ("style", "sd15", True, [("G8.5", 35, 3.0), ("G5.2", 2000, 90.0)]),
        ("style", "sdxl", False, [("G8.5", 35, 3.0), ("G5.2", 2000, 90.0), ("GC.19", 4000, 90.0)]),
    ],
)
def test_the_guides_marks(
    kind: RecipeKind, family: Family, adaptive: bool, expected: list[tuple[str, int, float]]
) -> None:
    told = run(subset(20, title="most"), subset(5, 2, title="few"), epochs=3)
    assert [
        (mark.rule, mark.guide, mark.planned)
        for mark in list_guide_targets(told, kind, get_family(family), adaptive=adaptive)
    ] == expected


def test_exposures() -> None:
    told = run(subset(51, 10, title="A"), subset(43, 12, title="B"), subset(32, 16, title="C"), epochs=10)
    assert told.steps == 15_380
    assert [(s.title, s.samples_per_epoch, s.exposures) for s in told.shares] == [
        ("A", 510, 100.0),
        ("B", 516, 120.0),
        ("C", 512, 160.0),
    ]


def test_several_blocks_add_up() -> None:
    block = DatasetBlock((subset(5),), SQUARE, 2)
    assert forecast_run([block, block], Schedule("x", max_train_epochs=2)).steps == 12


@pytest.mark.parametrize("schedule", [Schedule("x"), Schedule("x", max_train_epochs=1, max_train_steps=1)])
def test_exactly_one_of_epochs_and_steps(schedule: Schedule) -> None:
    with pytest.raises(RecipeError, match="exactly one"):
        forecast_run([DatasetBlock((subset(1),), SQUARE)], schedule)


@pytest.mark.parametrize("subsets", [(), (subset(0),), (subset(3, reg=True),)])
def test_nothing_to_train_on(subsets: tuple[SubsetInput, ...]) -> None:
    with pytest.raises(RecipeError, match="no images to train on"):
        run(*subsets)


@pytest.mark.parametrize(
    ("lasting", "key"),
    [
        ({"epochs": 100_000}, "train.max_train_epochs"),
        ({"epochs": None, "max_train_steps": 100_000, "save_every_n_steps": 1}, "save.save_every_n_steps"),
        ({"epochs": 30_000, "save_every_n_epochs": 1}, "save.save_every_n_epochs"),
    ],
)
def test_what_nobody_can_mean_is_refused_before_it_is_counted_out(lasting: dict[str, Any], key: str) -> None:
    with pytest.raises(RecipeError) as refused:
        run(subset(2, 100_000 if key == "train.max_train_epochs" else 1), **lasting)
    assert [(finding.rule, finding.key) for finding in refused.value.findings] == [("out-of-range", key)]
