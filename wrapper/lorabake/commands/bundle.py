"""bundle."""

from __future__ import annotations

from pathlib import Path

import click

from lorabake.commands.help import command
from lorabake.commands.options import JSON_OPTION, PATH_TYPE, RUN_ARGUMENT, get_environment, make_text_layout
from lorabake.commands.output.console import write_out
from lorabake_schemas.messages import msg


@command(
    msg(
        "Pack a run for a bug report, without anything private.\n\n"
        "The archive has the record, plan, compiled settings, log, events and versions. Images, weights, captions, "
        "names, keys and paths are left out or replaced. RUN is a run in ./runs, or its folder."
    )
)
@RUN_ARGUMENT
@click.option("--archive", type=PATH_TYPE, help=msg("Write the archive to this file, which must not exist."))
@JSON_OPTION
def bundle(run: str, archive: Path | None, as_json: bool) -> None:
    from lorabake.commands.output.bundle import format_bundle
    from lorabake.errors import MachineError
    from lorabake.runs.bundle.archive import make_bundle
    from lorabake.runs.index import find_run
    from lorabake.util import files

    env, here = get_environment(), Path.cwd()
    found = find_run(run, here)
    made = make_bundle(found.paths, found.record, env)
    path = archive or _choose_name(here / made.name)
    if files.exists(path):
        raise MachineError(
            msg("{path} already exists", path=path), msg("delete it, or pass another file with --archive")
        )
    try:
        files.replace_bytes(path, made.data)
    except OSError as error:
        raise files.disk_error(error, msg("cannot write {path}: {why}", path=path, why=files.reason(error))) from error
    write_out(format_bundle(made, path, make_text_layout(), as_json=as_json))


def _choose_name(path: Path) -> Path:
    """Runs of one recipe have one digest, which names the archive: the next ones get a number."""
    from lorabake.util.files import exists

    names = (path, *(path.with_stem(f"{path.stem}-{number}") for number in range(2, 1000)))
    return next((each for each in names if not exists(each)), path)
