"""The command that is named after a check: what is due first."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from lorabake.analysis.check import CheckResult
from lorabake.commands.output.layout import TextLayout
from lorabake.commands.output.next_step import find_next_step, format_next_step
from lorabake.recipe.load import LoadedRecipe
from lorabake.recipe.overrides import Override
from lorabake_schemas.dataset import CaptionFacts, CaptionProblem, DatasetFacts, FolderFacts, ImageFacts
from lorabake_schemas.findings import Finding, Severity
from lorabake_schemas.guide.registry import PREPARE_COMMAND, or_in_copy
from lorabake_schemas.messages import literal
from situations import CPU, concept, recipe

REPAIRED = or_in_copy(literal("do"))
ENLARGED = or_in_copy(literal("do"), f"{PREPARE_COMMAND} --upscaler FILE")


def found(rule: str, severity: Severity, fix: str = "do") -> Finding:
    return Finding(rule=rule, severity=severity, message=literal("what"), fix=literal(fix))


def checked(
    *findings: Finding, captions: str | None = None, path: str = "r.toml", overrides: tuple[Override, ...] = ()
) -> CheckResult:
    of = recipe(concepts=[concept("t", "pics", captions=captions)])
    loaded = LoadedRecipe(Path(path), b"", of, None, (), overrides)
    return CheckResult(loaded, of, None, DatasetFacts(), CPU, None, findings)


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
        ([found("G2.16", WARNING, ENLARGED)], {RUN}),
        ([found("S12", ERROR, ENLARGED)], {CHECK}),
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


@pytest.mark.parametrize(
    ("findings", "named"),
    [
        ([], {RUN}),
        ([found("G2.4", WARNING)], {CHECK}),
        ([found("G2.4", WARNING, REPAIRED)], {PREPARE}),
        ([found("G2.4", WARNING, REPAIRED), found("S12", ERROR)], {CHECK}),
        ([found("G3.3", WARNING)], {CHECK}),
        ([found("G2.3.content", HINT)], {RUN}),
    ],
)
def test_with_strict_warnings_are_errors(findings: list[Finding], named: set[str]) -> None:
    step = find_next_step(checked(*findings), strict=True)
    assert {command for command in (RUN, CHECK, PREPARE, CAPTION) if command in step} == named
    assert ("--strict" in step) is (CHECK in step)


@pytest.mark.parametrize(
    "findings",
    [[], [found("G3.3", WARNING)], [found("G2.4", WARNING, REPAIRED)], [found("S12", ERROR, REPAIRED)]],
)
def test_commands_without_set_are_not_named_for_a_recipe_with_one(findings: list[Finding]) -> None:
    other = Override("concept.images=other", ("concept", 0, "images"), '"other"')
    step = find_next_step(checked(*findings, overrides=(other,)))
    assert "--set concept.images=other" in step
    assert "lorabake prepare" not in step
    assert "lorabake caption" not in step


def test_some_captions_are_not_all() -> None:
    result = checked(found("G3.3", WARNING))
    missing, written = (
        ImageFacts("a.png", caption=CaptionFacts(problem=problem)) for problem in (CaptionProblem.MISSING, None)
    )
    none = replace(result, dataset=DatasetFacts(concepts=(FolderFacts("pics", images=(missing,)),)))
    some = replace(result, dataset=DatasetFacts(concepts=(FolderFacts("pics", images=(missing, written)),)))
    assert find_next_step(none) != find_next_step(some)
    assert CAPTION in find_next_step(some)
