"""The command that is named after a check: what is due first."""

from __future__ import annotations

from pathlib import Path

import pytest

from lorabake.analysis.check import CheckResult
from lorabake.commands.output.layout import TextLayout
from lorabake.commands.output.next_step import find_next_step, format_next_step
from lorabake.recipe.load import LoadedRecipe
from lorabake_schemas.dataset import DatasetFacts
from lorabake_schemas.findings import Finding, Severity
from lorabake_schemas.guide.registry import or_in_copy
from lorabake_schemas.messages import literal
from situations import CPU, concept, recipe

REPAIRED = or_in_copy(literal("do"))


def found(rule: str, severity: Severity, fix: str = "do") -> Finding:
    return Finding(rule=rule, severity=severity, message=literal("what"), fix=literal(fix))


def checked(*findings: Finding, captions: str | None = None, path: str = "r.toml") -> CheckResult:
    of = recipe(concepts=[concept("t", "pics", captions=captions)])
    return CheckResult(LoadedRecipe(Path(path), b"", of, None, ()), of, None, DatasetFacts(), CPU, None, findings)


ERROR, WARNING, HINT = Severity.ERROR, Severity.WARNING, Severity.HINT
RUN, CHECK = "lorabake run r.toml", "lorabake check r.toml"
PREPARE, CAPTION = "lorabake prepare r.toml --to FOLDER", "lorabake caption r.toml --help"


@pytest.mark.parametrize(
    ("findings", "named"),
    [
        ([], {RUN}),
        ([found("S27", ERROR)], {CHECK}),
        ([found("G4.7", ERROR)], {CHECK}),
        ([found("S12", ERROR, REPAIRED)], {PREPARE}),
        ([found("S12", ERROR, REPAIRED), found("G4.7", ERROR)], {PREPARE}),
        ([found("S12", ERROR, REPAIRED), found("S27", ERROR)], {CHECK}),
        ([found("G3.3", WARNING)], {CAPTION, RUN}),
        ([found("G2.4", WARNING, REPAIRED)], {PREPARE, RUN}),
        ([found("G2.3.content", HINT, REPAIRED)], {RUN}),
    ],
)
def test_what_is_due_first_is_named(findings: list[Finding], named: set[str]) -> None:
    step = find_next_step(checked(*findings))
    assert {command for command in (RUN, CHECK, PREPARE, CAPTION) if command in step} == named


def test_a_copy_that_was_just_made_is_not_copied_again() -> None:
    assert PREPARE not in find_next_step(checked(found("G2.4", WARNING, REPAIRED)), prepared=True)
    assert CHECK in find_next_step(checked(found("S12", ERROR, REPAIRED)), prepared=True)


def test_images_without_captions_are_captioned_first() -> None:
    assert CAPTION in find_next_step(checked(captions="none"))


def test_the_path_is_no_option() -> None:
    assert "lorabake run ./-r.toml" in find_next_step(checked(path="-r.toml"))


def test_a_file_of_another_program_has_no_next_step_but_its_fix() -> None:
    assert not list(format_next_step(checked(found("foreign-file", ERROR)), TextLayout()))
