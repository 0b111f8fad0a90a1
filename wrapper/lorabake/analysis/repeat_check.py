"""A run that repeats another one: its recorded recipe, and proof before it starts that the run will be the same."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from lorabake import __version__
from lorabake.analysis.diff import diff_plans
from lorabake.errors import MachineError
from lorabake.planning.digest import compute_run_digest
from lorabake.util.files import read_bytes
from lorabake.util.hashing import digest_bytes
from lorabake_schemas.messages import Message, escape_undecodable, msg

if TYPE_CHECKING:
    from lorabake.runs.index import FoundRun
    from lorabake.runs.launch_request import LaunchRequest
    from lorabake_schemas.check_report import SettingDifference, SideValue
    from lorabake_schemas.plan import Plan
    from lorabake_schemas.record import InputDigest, Record


@dataclass(frozen=True, slots=True)
class RepeatCheck:
    """The run that is repeated. ``plan`` is None if it cannot be read.

    ``known`` are the differences found since it was made; with ``allowed`` they do not prevent the run.
    """

    record: Record
    plan: Plan | None = None
    known: tuple[Message, ...] = ()
    allowed: bool = False

    def checked(self, request: LaunchRequest) -> LaunchRequest:
        """The request as a repetition. Raises MachineError when something else than the run would be made."""
        drift = self.known
        if not drift and request.provenance.digest != self.record.digest:
            drift = benign_changes(self.record, request)
            if not drift:
                drift = describe_changes(self.record, self.plan, request)
                if not self.allowed:
                    raise changed_repeat_error(self.record.name, drift)
        return replace(request, rerun_of=self.record.digest, drift=drift)


def benign_changes(then: Record, request: LaunchRequest) -> tuple[Message, ...]:
    """Why the digest is another one though nobody has changed anything; empty where that is not all of it.

    A run leaves caches behind that the next one takes up, and fetches from the hub what is not here when it begins.
    """
    made_from = request.provenance
    now = {each.key: each for each in (one.digest() for one in made_from.inputs.inputs)}
    was = {each.key: each for each in then.inputs}
    if {key for key in now if key[0] != "caches"} != {key for key in was if key[0] != "caches"}:
        return ()
    fetched = [each for key, each in was.items() if _was_fetched_since(each, now.get(key))]
    as_then = tuple(each if each.role == "caches" or each in fetched else now[key] for key, each in was.items())
    if compute_run_digest(made_from.files, as_then, request.trainer, request.plan.launch) != then.digest:
        return ()
    found = [
        msg(
            "{model} was downloaded by {run} itself, so its version at that time is unknown",
            model=each.name,
            run=then.name,
        )
        for each in fetched
    ]
    caches = [each.sha256 for each in then.inputs if each.role == "caches"]
    if caches != [each.sha256 for each in now.values() if each.role == "caches"]:
        found.append(
            msg("the caches differ from those of {run}, so the LoRA will be similar but not identical", run=then.name)
        )
    return tuple(found)


def _was_fetched_since(then: InputDigest, now: InputDigest | None) -> bool:
    """Whether a model of the hub was not here when the run began, and the same name is now."""
    return then.kind == "hub" and then.sha256 is None and now is not None and now.place == then.place and now != then


def changed_repeat_error(name: str, drift: tuple[Message, ...]) -> MachineError:
    """Why it was not started."""
    said = msg("this would not repeat {run}: {why}", run=name, why=drift[0])
    return MachineError(said, msg("restore the original, or train anyway with --with-drift"))


def describe_changes(then: Record, plan: Plan | None, request: LaunchRequest) -> tuple[Message, ...]:
    """Why the digest is different, as far as that is known; at least one reason."""
    found: list[Message] = []
    now, inputs = request.trainer, request.provenance.inputs.inputs
    if (then.trainer.commit, then.trainer.tree) != (now.commit, now.tree):
        found.append(msg("sd-scripts has changed"))
    if then.trainer.packages != now.packages or then.trainer.python_version != now.python_version:
        found.append(msg("the trainer's Python or packages have changed"))
    if [each.sha256 for each in then.inputs] != [each.digest().sha256 for each in inputs]:
        found.append(msg("images, captions, models or caches have changed"))
    if plan is not None:
        changes = diff_plans(request.plan, plan, ("", "")).settings
        found += [_setting_change_message(change) for change in changes]
    if not found and then.lorabake != __version__:
        new, old = __version__, then.lorabake
        found.append(msg("lorabake {new} compiles the recipe differently than {old} did", new=new, old=old))
    return tuple(found) or (msg("lorabake now compiles the recipe differently"),)


def _setting_change_message(change: SettingDifference) -> Message:
    return msg(
        "{option} would be {now} instead of {then}",
        option=change.option,
        now=_format_value(change.here),
        then=_format_value(change.there),
    )


def _format_value(side: SideValue | None) -> str:
    return "-" if side is None else escape_undecodable(str(side.value))


def read_run_recipe(found: FoundRun) -> tuple[Path, bytes]:
    """The path that the recipe of a run had, for the paths in it, and its original bytes.

    The record has them; the copy in the run folder counts only if it was not edited. Raises MachineError if neither is
    the original.
    """
    record, root = found.record, found.root
    for content in (record.recipe_text.encode(errors="replace"), _read_recipe_copy(found)):
        if digest_bytes(content, record.recipe.name).sha256 == record.recipe.sha256:
            start = root.parent.resolve() / root.name
            return Path(os.path.normpath(start / record.recipe_place)), content
    said = msg("the original recipe of {run} was not found in its record or its folder", run=found.name)
    raise MachineError(said, msg("run `lorabake verify` for details"))


def _read_recipe_copy(found: FoundRun) -> bytes:
    try:
        return read_bytes(found.paths.recipe, within=found.root)
    except OSError:
        return b""
