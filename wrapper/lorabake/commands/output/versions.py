"""In what two commits' options differ, for a person."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from lorabake.commands.output.layout import TextLayout
from lorabake_schemas.messages import Message, join_list, literal, msg

if TYPE_CHECKING:
    from lorabake_schemas.options import DatasetOption, Option
    from lorabake_schemas.versions import (
        CommitDifference,
        DatasetOptionChange,
        LevelDifference,
        OptionChange,
        ScriptDifference,
        TraitChange,
    )

    NamedValues = Sequence[tuple[str, Message]]


def format_commit_diff(found: CommitDifference, page: TextLayout) -> str:
    """Script by script and level by level; a part in which nothing differs takes one line."""
    lines = [
        page(
            msg("changes in sd-scripts options from {commit} to {against}", commit=found.commit, against=found.against)
        )
    ]
    if found.same:
        return "\n".join([*lines, page(msg("no changes"))])
    for title, script in _iter_scripts(found):
        lines += ["", page(title), *(f"  {page(line)}" for line in _iter_script_lines(script))]
    for level in found.dataset:
        title = msg("dataset file, {level}", level=level.level)
        lines += ["", page(title), *(f"  {page(line)}" for line in _iter_level_lines(level))]
    return "\n".join(lines)


def _iter_scripts(found: CommitDifference) -> Iterator[tuple[Message, ScriptDifference]]:
    """Both scripts, or the first for both where they differ in the same; most options are common to them."""
    first, second = found.scripts
    if first == second.model_copy(update={"script": first.script}):
        yield msg("{first} and {second}", first=first.script, second=second.script), first
    else:
        yield from ((literal(part.script), part) for part in found.scripts)


def _iter_script_lines(part: ScriptDifference) -> Iterator[Message]:
    added = [(option.name, _describe_option(option)) for option in part.added]
    removed = [(option.name, _describe_option(option)) for option in part.removed]
    return _iter_change_lines(added, removed, [_describe_change(each) for each in part.changed])


def _iter_change_lines(added: NamedValues, removed: NamedValues, changed: Sequence[Message]) -> Iterator[Message]:
    """What is new, what is gone and what is another, one a line."""
    if not (added or removed or changed):
        yield msg("no changes")
    for name, what in added:
        yield msg("+ {name}: {what}", name=name, what=what)
    for name, what in removed:
        yield msg("- {name}: {what}", name=name, what=what)
    yield from changed


def _describe_option(option: Option) -> Message:
    """What it takes, in one piece: ``float, default 0.1``."""
    if option.action in {"StoreTrueAction", "StoreFalseAction"}:
        return msg("true or false")
    kind = literal(option.type or "str")
    if option.nargs is not None:
        kind = msg("a list of {type}", type=kind)
    if option.choices is not None:
        kind = msg("one of {choices}", choices=", ".join(map(str, option.choices)))
    return (
        kind
        if option.default is None
        else msg("{kind}, default {value}", kind=kind, value=_format_default(option.default))
    )


def _describe_change(changed: OptionChange) -> Message:
    what = join_list(map(_describe_trait, changed.changes), "; ")
    return msg("~ {name}: {what}", name=changed.name, what=what)


def _describe_trait(change: TraitChange) -> Message:
    """The choices that came and went, since lists of them are long; else both values."""
    if isinstance(change.before, tuple) and isinstance(change.after, tuple):
        came = [str(choice) for choice in change.after if choice not in change.before]
        went = [str(choice) for choice in change.before if choice not in change.after]
        parts = [msg("added {names}", names=", ".join(came))] if came else []
        parts += [msg("removed {names}", names=", ".join(went))] if went else []
        return msg(
            "{trait}: {what}", trait=change.trait, what=join_list(parts) if parts else msg("in a different order")
        )
    if change.trait == "nargs":
        return msg(
            "changed from {before} to {after}",
            before=_describe_nargs(change.before),
            after=_describe_nargs(change.after),
        )
    return msg(
        "{trait} changed from {before} to {after}",
        trait=change.trait,
        before=_format_default(change.before),
        after=_format_default(change.after),
    )


def _describe_nargs(nargs: object) -> Message:
    """How many values an option takes, which argparse says in signs."""
    words: dict[object, Message] = {None: msg("one value"), "*": msg("a list"), 0: msg("no value")}
    return words.get(nargs, literal(str(nargs)))


def _format_default(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) or value is None else str(value)


def _iter_level_lines(part: LevelDifference) -> Iterator[Message]:
    added = [(option.name, _describe_shapes(option)) for option in part.added]
    removed = [(option.name, _describe_shapes(option)) for option in part.removed]
    return _iter_change_lines(added, removed, [_describe_shape_change(each) for each in part.changed])


def _describe_shapes(option: DatasetOption) -> Message:
    shapes = literal(", ".join(option.accepts))
    return msg("{shapes}, required", shapes=shapes) if option.required else shapes


def _describe_shape_change(changed: DatasetOptionChange) -> Message:
    return msg(
        "~ {name}: changed from {before} to {after}",
        name=changed.name,
        before=_describe_shapes(changed.before),
        after=_describe_shapes(changed.after),
    )
