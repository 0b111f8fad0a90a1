"""The guide's small arithmetic (F3, F4, F8)."""

from __future__ import annotations

import pytest

from lorabake.planning.repeats import balance_repeats, epochs_for_exposures, save_interval


@pytest.mark.parametrize(
    ("counts", "base", "expected"),
    [
        ((51, 43, 32), 10, (5, 6, 8)),  # T1: 10, 12, 16 before the common divisor
        ((30, 22, 24), 10, (10, 14, 13)),  # T2: 12.5 is 13
        ((51, 43, 32), 1, (1, 1, 2)),  # T3
        ((30,), 10, (1,)),
        ((7, 7), 10, (1, 1)),
        ((1000, 999), 1, (1, 1)),
        ((), 10, ()),
    ],
)
def test_balanced_repeats(counts: tuple[int, ...], base: int, expected: tuple[int, ...]) -> None:
    assert balance_repeats(counts, base) == expected


def test_t1_samples_per_epoch() -> None:
    assert sum(c * r for c, r in zip((51, 43, 32), balance_repeats((51, 43, 32)), strict=True)) == 769


@pytest.mark.parametrize(("counts", "base"), [((3, 0), 10), ((3,), 0)])
def test_an_empty_folder_cannot_be_balanced(counts: tuple[int, ...], base: int) -> None:
    with pytest.raises(ValueError, match="every folder"):
        balance_repeats(counts, base)


@pytest.mark.parametrize(
    ("exposures", "repeats", "expected"),
    [(100, 1, 100), (100, 10, 10), (50, 10, 5), (30, 1, 30), (30, 10, 3), (100, 8, 13), (3, 10, 1)],
)
def test_epochs_for(exposures: int, repeats: int, expected: int) -> None:
    assert epochs_for_exposures(exposures, repeats) == expected


@pytest.mark.parametrize(("epochs", "expected"), [(1, 1), (10, 1), (11, 2), (12, 5), (17, 2), (100, 11), (50, 6)])
def test_save_interval(epochs: int, expected: int) -> None:
    assert save_interval(epochs) == expected
    assert epochs <= 10 or epochs % save_interval(epochs)
