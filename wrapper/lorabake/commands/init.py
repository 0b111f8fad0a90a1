"""init: a first recipe from a folder of images."""

from __future__ import annotations

import functools
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from lorabake.commands.check import run_check
from lorabake.commands.help import command
from lorabake.commands.options import (
    JSON_OPTION,
    PATH_TYPE,
    CheckOptions,
    Command,
    get_environment,
    make_text_layout,
    show_progress,
)
from lorabake.commands.output.console import write_out
from lorabake_schemas.messages import msg

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lorabake.analysis.draft_concepts import Answers
    from lorabake.commands.output.progress import ProgressLine
    from lorabake.inputs.dataset import ScanOptions
    from lorabake.inputs.image_tree import FoundDataset
    from lorabake.jobs.init import InitOrder

KINDS = ("character", "style", "object", "clothing", "concept", "outfits")


def answer_options(wrapped: Command) -> Command:
    """What is known without looking, passed to the command as ``answers``."""

    @functools.wraps(wrapped)
    def with_answers(
        *,
        model: str | None,
        kind: str | None,
        token: str | None,
        class_: str | None,
        family: str | None,
        name: str | None,
        **others: object,
    ) -> None:
        known = {"model": model, "kind": kind, "token": token, "class": class_, "family": family, "name": name}
        wrapped(answers=_check_answers(known), **others)

    made: Command = with_answers
    for option in reversed(ANSWER_OPTIONS):
        made = option(made)
    return made


ANSWER_OPTIONS = (
    click.option("--model", metavar="MODEL", help=msg("Base model: a file, a diffusers folder or a Hugging Face id.")),
    click.option("--kind", type=click.Choice(KINDS), help=msg("What the images show.")),
    click.option("--token", metavar="WORD", help=msg("Trigger word of all images in the folder.")),
    click.option("--class", "class_", metavar="WORD", help=msg("General word for it, such as woman or food.")),
    click.option("--family", metavar="NAME", help=msg("Family of the base model: sd15, sd2 or sdxl.")),
    click.option("--name", metavar="NAME", help=msg("Name of the LoRA (default: the token or the folder's name).")),
)


@command(
    msg(
        "Write a recipe for a folder of images.\n\n"
        "Looks at images, captions, folder names and the base model, asks for what it cannot see, writes a new "
        "recipe and checks it. Without a terminal, or with --yes, it asks nothing.\n\n"
        "Exits 1 if the check finds an error, such as a missing model."
    )
)
@click.argument("folder", type=PATH_TYPE, default=Path())
@answer_options
@click.option("-o", "--output", type=PATH_TYPE, help=msg("File for the recipe (default: NAME.toml here)."))
@click.option("-y", "--yes", is_flag=True, help=msg("Ask nothing and use the defaults."))
@JSON_OPTION
def init(folder: Path, answers: Answers, output: Path | None, yes: bool, as_json: bool) -> None:
    from lorabake.commands.output.init import format_init, make_init_report
    from lorabake.commands.output.questions import can_ask
    from lorabake.jobs.init import InitOrder, look_around, make_draft, write_draft

    order = InitOrder(folder, output, Path.cwd())
    with show_progress() as progress:
        found = look_around(order, _make_scan_options(progress))
    if can_ask() and not yes and not as_json:
        answers = _ask_questions(order, found, answers)
    draft = make_draft(order, found, answers)
    path = write_draft(order, draft)
    result = run_check(path, CheckOptions())
    report = make_init_report(path, found, draft, result)
    write_out(report.model_dump_json(indent=2) if as_json else format_init(report, result, make_text_layout()))
    sys.exit(1 if result.has_failures() else 0)


def _check_answers(given: Mapping[str, str | None]) -> Answers:
    """The options as answers. Raises BadParameter for one that no recipe takes."""
    from lorabake.analysis.draft import find_answer_fault
    from lorabake.analysis.draft_concepts import Answers

    answers = Answers()
    for key, value in given.items():
        if value is not None:
            if fault := find_answer_fault(key, value):
                raise click.BadParameter(msg('"{given}" {fault}', given=value, fault=fault), param_hint=f"--{key}")
            answers = answers.with_answer(key, value)
    return answers


def _make_scan_options(progress: ProgressLine | None) -> ScanOptions:
    from lorabake.inputs.dataset import ScanOptions
    from lorabake.util.fact_cache import fact_store_path
    from lorabake.util.paths import lorabake_home

    env = get_environment()
    store = fact_store_path(lorabake_home(env), env)
    return ScanOptions(store, progress=progress, hashing=progress and progress.hashing, env=env)


def _ask_questions(order: InitOrder, found: FoundDataset, answers: Answers) -> Answers:
    """Ask for what cannot be seen, one after the other: an answer may make the next question superfluous."""
    from lorabake.commands.output.questions import ask
    from lorabake.jobs.init import make_draft

    asked = set[str]()
    layout = make_text_layout(err=True)
    while True:
        questions = [each for each in make_draft(order, found, answers).questions if each.key not in asked]
        if not questions:
            return answers
        question = questions[0]
        asked.add(question.key)
        if given := ask(question, layout):
            answers = answers.with_answer(question.key, given)
