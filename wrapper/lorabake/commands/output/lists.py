"""What ships and what is installed: recipes and trainers, as lists."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from lorabake.commands.output.layout import TextLayout
from lorabake.trainer.manifest import shorten_names
from lorabake.util import resources
from lorabake_schemas.messages import msg

if TYPE_CHECKING:
    from lorabake.trainer.install import Trainer, TrainerStatus

ChangedFiles = Mapping[Path, tuple[str, ...]]  # by the trainer's checkout


def format_copied_recipe(path: Path, page: TextLayout) -> str:
    """What to do with a recipe that was copied."""
    return page(
        msg("wrote {path}; edit the values listed at the top, then run `lorabake check {path}`", path=str(path))
    )


def format_recipe_list(texts: Mapping[str, str], *, as_json: bool = False) -> str:
    """Every shipped recipe with the first line of its head, which says what it is for."""
    if as_json:
        heads = [{"name": name, "about": text.splitlines()[0].removeprefix("# ")} for name, text in texts.items()]
        return json.dumps({"version": 1, "recipes": heads}, indent=2)
    wide = max(map(len, texts))
    return "\n".join(f"{name:<{wide}}  {text.splitlines()[0].removeprefix('# ')}" for name, text in texts.items())


def format_trainer(trainer: Trainer, page: TextLayout) -> str:
    """An installed trainer in one line."""
    commit = trainer.commit[:12] if trainer.commit else msg("(unknown commit)")
    return page(
        msg(
            "sd-scripts {commit}, {lock} packages (torch {torch}): {folder}",
            commit=commit,
            lock=trainer.lock or msg("your own"),
            torch=trainer.versions.get("torch", "?"),
            folder=str(trainer.checkout),
        )
    )


def format_installed_trainer(trainer: Trainer, page: TextLayout, *, as_json: bool) -> str:
    """The trainer that is there now."""
    return json.dumps({"version": 1} | _trainer_json(trainer), indent=2) if as_json else format_trainer(trainer, page)


def format_trainer_status(status: TrainerStatus, changed: ChangedFiles, page: TextLayout, *, as_json: bool) -> str:
    """What is installed, for a person or a program; ``changed`` are each trainer's files that were changed."""
    if as_json:
        table = {
            "version": 1,
            "home": str(status.home),
            "url": status.url,
            "commit": status.commit,
            "installed": [_trainer_json(trainer) | _changed_json(trainer, changed) for trainer in status.installed],
            "in_use": _trainer_json(status.trainer) if status.trainer else None,
            "others": [_trainer_json(trainer) | _changed_json(trainer, changed) for trainer in status.others],
        }
        return json.dumps(table, indent=2)
    head = msg("pinned commit: {commit} from {url}", url=status.url, commit=status.commit)
    missing = msg("not installed; run `lorabake trainer install`, or start a run")
    if status.commit != resources.load_pin().commit:
        head = msg("not the pinned commit: {commit} from {url}", url=status.url, commit=status.commit)
        missing = msg("not installed; run `lorabake trainer install --commit {commit}`", commit=status.commit)
    lines = [page(head)]
    for trainer in status.installed:
        state = msg("in use:") if trainer == status.trainer else msg("installed:")
        lines += [f"{page(state)} {format_trainer(trainer, page)}", *_damage_lines(trainer, changed, page)]
    if not status.installed:
        lines.append(page(missing))
    for trainer in status.others:
        state = msg("another commit or Python:")
        lines += [f"{page(state)} {format_trainer(trainer, page)}", *_damage_lines(trainer, changed, page)]
    return "\n".join(lines)


def _damage_lines(trainer: Trainer, changed: ChangedFiles, page: TextLayout) -> list[str]:
    names = changed.get(trainer.checkout, ())
    hint = msg("  damaged (rebuild it with --repair); changed files: {files}", files=shorten_names(names))
    return [page(hint)] if names else []


def _changed_json(trainer: Trainer, changed: ChangedFiles) -> dict[str, object]:
    return {"changed": list(changed.get(trainer.checkout, ()))}


def _trainer_json(trainer: Trainer) -> dict[str, object]:
    return {
        "lock": trainer.lock,
        "commit": trainer.commit,
        "checkout": str(trainer.checkout),
        "python": str(trainer.python),
        "versions": dict(trainer.versions),
    }
