"""The command that is due after one that has checked a recipe."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from typing import TYPE_CHECKING

from lorabake.commands.output.findings import format_check_command
from lorabake.commands.output.layout import TextLayout
from lorabake.jobs.init import format_argument
from lorabake_schemas.dataset import CaptionProblem
from lorabake_schemas.findings import Finding, Severity
from lorabake_schemas.guide.registry import PREPARE_COMMAND
from lorabake_schemas.messages import Message, msg

if TYPE_CHECKING:
    from lorabake.analysis.check import CheckResult

MODEL_RULE, CAPTION_RULE, FOREIGN_RULE = "G4.7", "G3.3", "foreign-file"


def format_next_step(
    result: CheckResult, layout: TextLayout, *, prepared: bool = False, strict: bool = False
) -> Iterator[str]:
    """What to do with a checked recipe; ``prepared``: its dataset is a copy that `prepare` has just made. Nothing for a
    file of another program, whose finding names `import`."""
    if all(finding.rule != FOREIGN_RULE for finding in result.errors):
        yield from layout.paragraph(find_next_step(result, prepared=prepared, strict=strict))


def find_next_step(result: CheckResult, *, prepared: bool = False, strict: bool = False) -> Message:
    """Errors first, then captions, then what `prepare` repairs; only what is left is trained. With ``strict`` warnings
    are errors, too. `prepare` and `caption` have no --set, so they would not work on what was checked with it."""
    recipe = format_argument(str(result.loaded.path))
    check, run = format_check_command(result), format_check_command(result, "run")
    check = f"{check} --strict" if strict else check
    prepare = f"{shlex.join(['lorabake', 'prepare', recipe])} --to FOLDER"
    overridden = bool(result.loaded.overrides)
    warnings = [finding for finding in result.findings if finding.severity is Severity.WARNING]
    errors = [finding for finding in result.errors if finding.rule != MODEL_RULE]
    failures = [*errors, *warnings] if strict else errors
    repairing = not prepared and not overridden
    if failures and repairing and all(map(_is_repaired, failures)):
        return msg("next: {command}", command=prepare)
    if failures:
        fix_all = msg("next: fix the errors and warnings, then run `{command}`", command=check)
        return (
            fix_all if len(failures) > len(errors) else msg("next: fix the errors, then run `{command}`", command=check)
        )
    if result.errors:
        return msg("next: write the path of your model as model under [base], then run `{command}`", command=check)
    if has_no_captions(result) and not overridden:
        caption = f"{shlex.join(['lorabake', 'caption', recipe])} --help"
        return _suggest_captions(result, caption, run)
    if repairing and any(map(_is_repaired, warnings)):
        return msg("next: repair a copy of the dataset (`{prepare}`), or train it as it is: {command}",
                   prepare=prepare, command=run)  # fmt: skip
    return msg("next: {command}", command=run)


def has_no_captions(result: CheckResult) -> bool:
    """Whether images of a concept would be trained without a text of their own."""
    return _are_captions_unread(result) or any(finding.rule == CAPTION_RULE for finding in result.findings)


def _are_captions_unread(result: CheckResult) -> bool:
    return result.recipe is not None and all(concept.captions == "none" for concept in result.recipe.concept)


def _suggest_captions(result: CheckResult, caption: str, run: str) -> Message:
    images = (image for folder in result.dataset.concepts for image in folder.images)
    if not _are_captions_unread(result) and any(
        image.caption.problem is not CaptionProblem.MISSING for image in images
    ):
        return msg("next: write the missing captions (`{caption}`), or train without them: {command}",
                   caption=caption, command=run)  # fmt: skip
    return msg("next: write captions (`{caption}`), or train without them: {command}", caption=caption, command=run)


def _is_repaired(finding: Finding) -> bool:
    """Whether its fix names `prepare` without options."""
    return f"`{PREPARE_COMMAND}`" in finding.fix
