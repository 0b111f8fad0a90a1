"""The command line: named parameters in, one call, the result to `render`, an exit code out.

Everything heavy is imported inside a command, so that ``lorabake --help`` stays fast.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from lorabake import __version__
from lorabake.cli_options import JSON, RECIPE, page, pinned_options, speech, trainer_options

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lorabake.examine import Examination
    from lorabake.workflow import TrainerChoice
    from lorabake_schemas.machine import Family


class _Commands(click.Group):
    """A group whose commands all run inside the error boundary."""

    def invoke(self, ctx: click.Context) -> object:
        from lorabake.boundary import boundary

        with boundary(_env(), debug=bool(ctx.params.get("debug")), speech=speech):
            return super().invoke(ctx)


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="lorabake")
@click.option("--debug", is_flag=True, help="Show the traceback of an unexpected error.")
def main(debug: bool) -> None:
    """From a short recipe to a LoRA trained by kohya's sd-scripts.

    \b
    lorabake quickstart          try the whole way on drawn pictures
    lorabake recipes list        recipes to start from
    lorabake check my.toml       what is wrong with a recipe and its pictures
    lorabake run my.toml         train
    lorabake explain G4.52       what a rule means, or a setting
    """
    del debug  # read by the group


@main.command()
@RECIPE
@JSON
@click.option("--strict", is_flag=True, help="Let warnings fail too.")
def check(recipe: Path, as_json: bool, strict: bool) -> None:
    """Say everything that is wrong with RECIPE and its pictures.

    Exit code 0 when nothing stands in the way of training, 1 otherwise.
    """
    from lorabake.render import report

    examination = _examine(recipe)
    click.echo(report.report_json(examination) if as_json else report.report(examination, page()))
    sys.exit(1 if examination.fails(strict=strict) else 0)


@main.command()
@RECIPE
@JSON
def plan(recipe: Path, as_json: bool) -> None:
    """Show every setting RECIPE leads to, where it comes from, and what the run will do."""
    from lorabake.render.plan import plan_json, plan_page

    examination = _examine(recipe)
    if examination.plan is None:
        _show_findings(examination, as_json=as_json)
    click.echo(plan_json(examination) if as_json else plan_page(examination, page()))


@main.command("compile")
@RECIPE
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True, help="A new folder for the files.")
@JSON
def compile_(recipe: Path, output: Path, as_json: bool) -> None:
    """Write sd-scripts' train.toml and dataset.toml for RECIPE, and start nothing."""
    from lorabake import workflow
    from lorabake.render.runs import written

    examination = _examine(recipe)
    _show_findings(examination, as_json=as_json)
    click.echo(written(workflow.write_compiled(examination, output), page(), as_json=as_json))


@main.command()
@RECIPE
@click.option("--rehearse", is_flag=True, help="Go the whole way with a stand-in that trains nothing.")
@click.option("--dry-run", is_flag=True, help="Show the plan and the command, and stop.")
@click.option("--verbose", is_flag=True, help="Show the trainer's own words.")
@click.option("--run-dir", type=click.Path(path_type=Path), help="The run folder, which must not exist yet.")
@trainer_options
@JSON
def run(
    recipe: Path,
    rehearse: bool,
    dry_run: bool,
    verbose: bool,
    run_dir: Path | None,
    choice: TrainerChoice,
    as_json: bool,
) -> None:
    """Train RECIPE: check, compile, install the trainer if need be, launch.

    Exit code 0 when a usable LoRA lies in the run folder, 1 when the recipe or this machine is at fault, 4 when the
    trainer could not be had or failed, 130 when interrupted.
    """
    from lorabake import workflow
    from lorabake.render.runs import dry_run as would_run
    from lorabake.render.runs import ending

    order = workflow.RunOrder(recipe, choice, rehearse, run_dir, verbose, speech())
    prepared = workflow.prepare(order, _env())
    _show_findings(prepared.examination, as_json=as_json)
    workflow.check_place(prepared)
    if dry_run:
        click.echo(would_run(prepared, page(), as_json=as_json))
        return
    record = workflow.train(prepared, _env(), _sayer())
    click.echo(record.model_dump_json(indent=2) if as_json else ending(record, prepared.root, page()))
    sys.exit(workflow.exit_code(record))


@main.group()
def trainer() -> None:
    """The pinned sd-scripts with its own Python environment."""


@trainer.command("install")
@pinned_options
@JSON
def trainer_install(choice: TrainerChoice, as_json: bool) -> None:
    """Fetch the pinned sd-scripts and install its locked requirements."""
    from lorabake import workflow
    from lorabake.render.lists import trainer_installed

    click.echo(trainer_installed(workflow.install(choice, _env(), _sayer()), page(), as_json=as_json))


@trainer.command("status")
@pinned_options
@JSON
def trainer_status(choice: TrainerChoice, as_json: bool) -> None:
    """Say which trainers are installed, and whether they are the pin's."""
    from lorabake import workflow
    from lorabake.render import lists

    click.echo(lists.trainer_status(workflow.trainer_status(choice, _env()), page(), as_json=as_json))


@trainer.command("path")
@pinned_options
def trainer_path(choice: TrainerChoice) -> None:
    """Print the folder of the installed trainer's sd-scripts."""
    from lorabake import workflow

    click.echo(workflow.installed(choice, _env()).checkout)


@main.group()
def recipes() -> None:
    """Recipes that ship with lorabake."""


@recipes.command("list")
@JSON
def recipes_list(as_json: bool) -> None:
    """Name the shipped recipes and what each is for."""
    from lorabake import resources
    from lorabake.render.lists import recipe_list

    texts = {name: resources.recipe_text(name) for name in resources.recipe_names()}
    click.echo(recipe_list(texts, as_json=as_json))


@recipes.command("show")
@click.argument("name")
def recipes_show(name: str) -> None:
    """Print a shipped recipe."""
    from lorabake import shelf

    click.echo(shelf.shipped_recipe(name), nl=False)


@recipes.command("copy")
@click.argument("name")
@click.argument("target", type=click.Path(path_type=Path), required=False)
def recipes_copy(name: str, target: Path | None) -> None:
    """Write a shipped recipe to TARGET (default: NAME.toml here) for you to edit."""
    from lorabake import shelf
    from lorabake.render.lists import copied

    click.echo(copied(shelf.copy_recipe(name, target), page()))


@main.command()
@click.option("--family", type=click.Choice(["sd15", "sdxl"]), default="sd15", show_default=True)
@click.option("--folder", type=click.Path(path_type=Path), default=Path("quickstart"), show_default=True)
@click.option("--verbose", is_flag=True, help="Show the trainer's own words.")
@trainer_options
def quickstart(family: Family, folder: Path, verbose: bool, choice: TrainerChoice) -> None:
    """Draw pictures, make a base model of random weights, and really train on them for a minute."""
    from lorabake import workflow
    from lorabake.first import story
    from lorabake.render.runs import ending

    wish = story.Wish(family, folder, choice, verbose, speech())
    done = story.first_run(wish, _env(), _sayer(), _show_findings)
    click.echo(ending(done.record, Path(done.record.cwd), page()))
    for line in done.last_words:
        click.echo(speech()(line))
    sys.exit(workflow.exit_code(done.record))


@main.command()
@click.argument("topic", required=False)
@click.option("--all", "whole", is_flag=True, help="Print the whole book as Markdown.")
def explain(topic: str | None, whole: bool) -> None:
    """Explain a rule (G4.52, S27), a setting, an optimizer or an algorithm: what the guide says, what is true."""
    from lorabake import explain as book

    if whole:
        click.echo(book.markdown(), nl=False)
    elif topic is None:
        raise click.UsageError("name a rule, a setting, an optimizer or an algorithm, or --all")
    else:
        click.echo(book.text(book.find(topic), shutil.get_terminal_size().columns))


@main.command()
@click.option("--check", "check_file", type=click.Path(path_type=Path), help="Fail when this file is not up to date.")
def schema(check_file: Path | None) -> None:
    """Print the JSON schema of a recipe, for editors."""
    from lorabake import shelf

    text = shelf.recipe_schema()
    if check_file is None:
        click.echo(text, nl=False)
    elif not check_file.is_file() or check_file.read_text(encoding="utf-8") != text:
        raise click.ClickException(f"{check_file} is out of date: lorabake schema > {check_file}")


def _examine(recipe: Path) -> Examination:
    from lorabake.examine import examine
    from lorabake.reading import machine

    return examine(recipe, machine.facts(_env()))


def _show_findings(examination: Examination, *, as_json: bool = False) -> None:
    """Findings on stderr; ends with exit code 1 (and a JSON report when asked for) when one of them is an error."""
    from lorabake.render.report import report, report_json

    if examination.findings or examination.plan is None:
        click.echo(report(examination, page(err=True)), err=True)
    if examination.plan is None:
        if as_json:
            click.echo(report_json(examination))
        sys.exit(1)


def _env() -> Mapping[str, str]:
    from lorabake.process import own_environment

    return own_environment()


def _sayer() -> Callable[[str], None]:
    from lorabake.terminal import sayer

    return sayer(sys.stderr, speech())


__all__ = ["main"]
