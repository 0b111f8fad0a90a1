"""What verify shows a person, a pipe and a program."""

from __future__ import annotations

import json

import click

from lorabake.commands.output.layout import TextLayout
from lorabake.commands.output.verify import format_differences, format_verification, summarize_verification
from lorabake_schemas.messages import msg
from lorabake_schemas.verification import ComparedCounts, VerifyDifference, VerifyReport

SCREEN, PIPE = TextLayout(width=60), TextLayout()


def difference(what: str, name: str, message: str) -> VerifyDifference:
    return VerifyDifference.model_validate({"what": what, "name": name, "change": "changed", "message": message})


FOUND = (
    difference("recipe", "train.seed", "train.seed in recipe.toml changed from 1 to 2"),
    difference("trainer", "torch", "torch in the trainer changed from 2.12.0 to 2.13.0"),
    difference("concept", "1.txt", "the caption of 1.png (pics) changed after the run, and this is a long\nsentence"),
)


def report(*found: VerifyDifference, identical: bool | None = None, unproven: bool = False) -> VerifyReport:
    return VerifyReport(
        run="runs/lum-001",
        name="lum",
        status="finished",
        rehearsal=False,
        digest=None,
        identical=not found if identical is None else identical,
        differences=found,
        unproven=(msg("the tokenizer was not here"),) if unproven else (),
        remarks=(msg("driver: 2 on this machine, 1 in the run"),),
        compared=ComparedCounts(files=12, size=2_100_000_000, packages=1),
    )


def text(of: VerifyReport, page: TextLayout) -> list[str]:
    return click.unstyle(format_verification(of, page)).splitlines()


def test_elsewhere_than_on_a_terminal_a_difference_is_a_line() -> None:
    assert text(report(*FOUND), PIPE) == [
        "runs/lum-001: recipe: train.seed in recipe.toml changed from 1 to 2",
        "runs/lum-001: trainer: torch in the trainer changed from 2.12.0 to 2.13.0",
        "runs/lum-001: concept: the caption of 1.png (pics) changed after the run, and this is a long\\nsentence",
        "runs/lum-001: driver: 2 on this machine, 1 in the run",
        "runs/lum-001: 3 differences; 12 files (2.1 GB) compared, 1 trainer package",
    ]


def test_on_a_terminal_there_are_groups_in_one_order() -> None:
    assert text(report(*FOUND, unproven=True), SCREEN) == [
        "Recipe, settings and record",
        "  train.seed in recipe.toml changed from 1 to 2",
        "",
        "Images and captions",
        "  the caption of 1.png (pics) changed after the run, and",
        "    this is a long\\nsentence",
        "",
        "Trainer",
        "  torch in the trainer changed from 2.12.0 to 2.13.0",
        "",
        "Also",
        "  the tokenizer was not here",
        "  driver: 2 on this machine, 1 in the run",
        "",
        "runs/lum-001: 3 differences; 12 files (2.1 GB) compared, 1",
        "trainer package",
    ]


def test_a_terminal_is_not_flooded() -> None:
    found = tuple(difference("concept", f"{number}.txt", f"caption {number}") for number in range(53))
    assert text(report(*found), SCREEN)[50:53] == [
        "  caption 49",
        "  and 3 more (list all with --json)",
        "",
    ]
    assert len(text(report(*found), PIPE)) == 55


def test_the_verdict_in_a_few_words() -> None:
    def verdict(of: VerifyReport) -> str:
        return summarize_verification(of).removeprefix("runs/lum-001: ").partition(";")[0]

    assert verdict(report()) == "identical"
    assert verdict(report(unproven=True)) == "identical, as far as the record shows"
    assert verdict(report(identical=False, unproven=True)) == "cannot be verified"
    assert verdict(report(FOUND[0])) == "1 difference"


def test_json_is_the_report() -> None:
    assert VerifyReport.model_validate_json(format_verification(report(*FOUND), PIPE, as_json=True)) == report(*FOUND)
    assert json.loads(format_verification(report(), PIPE, as_json=True))["identical"] is True


def test_the_list_alone_is_for_who_refuses_because_of_it() -> None:
    assert click.unstyle(format_differences(FOUND[1:2], SCREEN)).splitlines() == [
        "Trainer",
        "  torch in the trainer changed from 2.12.0 to 2.13.0",
    ]
