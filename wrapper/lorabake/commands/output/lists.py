"""Lists: shipped recipes, installed trainers, and the options in which two commits of sd-scripts differ."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from lorabake.commands.output.layout import TextLayout
from lorabake.trainer.manifest import shorten_names
from lorabake.util import resources
from lorabake_schemas.messages import Message, msg

if TYPE_CHECKING:
    from lorabake.trainer.install import Trainer, TrainerStatus
    from lorabake_schemas.versions import CommitDifference, OptionChange

ChangedFiles = Mapping[Path, tuple[str, ...]]  # by the trainer's checkout


def format_copied_recipe(path: Path, layout: TextLayout) -> str:
    """What to do with a recipe that was copied."""
    return layout(
        msg(
            "wrote {path}; edit the values listed at the top, then run `{command}`",
            path=str(path),
            command=shlex.join(["lorabake", "check", str(path)]),
        )
    )


def format_recipe_list(texts: Mapping[str, str], layout: TextLayout, *, as_json: bool = False) -> str:
    """Every shipped recipe with the first comment of its head, which describes it."""
    heads = {name: resources.read_recipe_summary(text) for name, text in texts.items()}
    if as_json:
        listed = [{"name": name, "about": about} for name, about in heads.items()]
        return json.dumps({"version": 1, "recipes": listed}, indent=2)
    wide = max(map(len, heads))
    return "\n".join(f"{name:<{wide}}  {layout(Message(about, {}))}" for name, about in heads.items())


def format_trainer(trainer: Trainer, layout: TextLayout) -> str:
    """An installed trainer in one line."""
    commit = trainer.commit[:12] if trainer.commit else msg("(unknown commit)")
    return layout(
        msg(
            "sd-scripts {commit}, {lock} packages (torch {torch}): {folder}",
            commit=commit,
            lock=trainer.lock or msg("your own"),
            torch=trainer.versions.get("torch", "?"),
            folder=str(trainer.checkout),
        )
    )


def format_installed_trainer(trainer: Trainer, layout: TextLayout, *, as_json: bool) -> str:
    """The trainer that is installed now."""
    return json.dumps({"version": 1} | _trainer_json(trainer), indent=2) if as_json else format_trainer(trainer, layout)


def format_trainer_status(status: TrainerStatus, changed: ChangedFiles, layout: TextLayout, *, as_json: bool) -> str:
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
    lines = [layout(head)]
    for trainer in status.installed:
        state = msg("in use:") if trainer == status.trainer else msg("installed:")
        lines += [f"{layout(state)} {format_trainer(trainer, layout)}", *_damage_lines(trainer, changed, layout)]
    if not status.installed:
        lines.append(layout(missing))
    for trainer in status.others:
        state = msg("another commit or Python:")
        lines += [f"{layout(state)} {format_trainer(trainer, layout)}", *_damage_lines(trainer, changed, layout)]
    return "\n".join(lines)


def _damage_lines(trainer: Trainer, changed: ChangedFiles, layout: TextLayout) -> list[str]:
    names = changed.get(trainer.checkout, ())
    hint = msg("  damaged, rebuild it with --repair (changed files: {files})", files=shorten_names(names))
    return [layout(hint)] if names else []


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


def format_commit_diff(found: CommitDifference, layout: TextLayout) -> str:
    """Options that were added (+), removed (-) or changed (~), each with the scripts or levels that have it."""
    head = msg("changes in sd-scripts options from {commit} to {against}", commit=found.commit, against=found.against)
    places: dict[str, list[str]] = {}
    for each in found.changes:
        places.setdefault(_describe_change(each), []).append(each.place)
    lines = [f"  {layout(change)} ({', '.join(names)})" for change, names in places.items()]
    return "\n".join([layout(head), *(lines or [layout(msg("no changes"))])])


def _describe_change(change: OptionChange) -> str:
    """``~ huber_c: default 0.1 -> 0.2``."""
    if change.before is None or change.after is None:
        return f"{'+' if change.before is None else '-'} {change.name}"
    before, after = change.before.model_dump(mode="json"), change.after.model_dump(mode="json")
    pairs = [(key, json.dumps(before[key]), json.dumps(after[key])) for key in before]
    traits = [f"{key} {older} -> {newer}" for key, older, newer in pairs if older != newer]
    return f"~ {change.name}: {', '.join(traits)}"
