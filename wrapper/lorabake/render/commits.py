"""In what two commits' options differ, for a person."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from lorabake.render.page import Page
from lorabake_schemas.words import Said, joined, quoted, say

if TYPE_CHECKING:
    from lorabake_schemas.commits import (
        CommitDifference,
        LevelDifference,
        OptionChange,
        ScriptDifference,
        ShapeChange,
        TraitChange,
    )
    from lorabake_schemas.options import DatasetOption, Option

    Named = Sequence[tuple[str, Said]]


def commits_text(found: CommitDifference, page: Page) -> str:
    """Script by script and level by level; a part in which nothing differs takes one line."""
    lines = [page(say("options of sd-scripts, from {commit} to {against}", commit=found.commit, against=found.against))]
    if found.same:
        return "\n".join([*lines, page(say("the same"))])
    for title, script in _scripts(found):
        lines += ["", page(title), *(f"  {page(line)}" for line in _script(script))]
    for level in found.dataset:
        title = say("dataset file, {level}", level=level.level)
        lines += ["", page(title), *(f"  {page(line)}" for line in _level(level))]
    return "\n".join(lines)


def _scripts(found: CommitDifference) -> Iterator[tuple[Said, ScriptDifference]]:
    """Both scripts, or the first for both where they differ in the same; most options are common to them."""
    first, second = found.scripts
    if first == second.model_copy(update={"script": first.script}):
        yield say("{first} and {second}", first=first.script, second=second.script), first
    else:
        yield from ((quoted(part.script), part) for part in found.scripts)


def _script(part: ScriptDifference) -> Iterator[Said]:
    added = [(option.name, _form(option)) for option in part.added]
    removed = [(option.name, _form(option)) for option in part.removed]
    return _listed(added, removed, [_changed(each) for each in part.changed])


def _listed(added: Named, removed: Named, changed: Sequence[Said]) -> Iterator[Said]:
    """What is new, what is gone and what is another, one a line."""
    if not (added or removed or changed):
        yield say("the same")
    for name, what in added:
        yield say("+ {name}: {what}", name=name, what=what)
    for name, what in removed:
        yield say("- {name}: {what}", name=name, what=what)
    yield from changed


def _form(option: Option) -> Said:
    """What it takes, in one piece: ``float, default 0.1``."""
    if option.action in {"StoreTrueAction", "StoreFalseAction"}:
        return say("true or false")
    kind = quoted(option.type or "str")
    if option.nargs is not None:
        kind = say("a list of {type}", type=kind)
    if option.choices is not None:
        kind = say("one of {choices}", choices=", ".join(map(str, option.choices)))
    return kind if option.default is None else say("{kind}, default {value}", kind=kind, value=_plain(option.default))


def _changed(changed: OptionChange) -> Said:
    what = joined(map(_trait, changed.changes), "; ")
    return say("~ {name}: {what}", name=changed.name, what=what)


def _trait(change: TraitChange) -> Said:
    """The choices that came and went, since lists of them are long; else both values."""
    if isinstance(change.before, tuple) and isinstance(change.after, tuple):
        came = [str(choice) for choice in change.after if choice not in change.before]
        went = [str(choice) for choice in change.before if choice not in change.after]
        parts = [say("with {names}", names=", ".join(came))] if came else []
        parts += [say("without {names}", names=", ".join(went))] if went else []
        return say("{trait} {what}", trait=change.trait, what=joined(parts) if parts else say("in another order"))
    if change.trait == "nargs":
        return say("takes {before}, now {after}", before=_many(change.before), after=_many(change.after))
    return say(
        "{trait} {before}, now {after}",
        trait=change.trait,
        before=_plain(change.before),
        after=_plain(change.after),
    )


def _many(nargs: object) -> Said:
    """How many values an option takes, which argparse says in signs."""
    words: dict[object, Said] = {None: say("one value"), "*": say("a list"), 0: say("no value")}
    return words.get(nargs, quoted(str(nargs)))


def _plain(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) or value is None else str(value)


def _level(part: LevelDifference) -> Iterator[Said]:
    added = [(option.name, _shapes(option)) for option in part.added]
    removed = [(option.name, _shapes(option)) for option in part.removed]
    return _listed(added, removed, [_reshaped(each) for each in part.changed])


def _shapes(option: DatasetOption) -> Said:
    shapes = quoted(", ".join(option.accepts))
    return say("{shapes}, has to be there", shapes=shapes) if option.required else shapes


def _reshaped(changed: ShapeChange) -> Said:
    return say(
        "~ {name}: {before}, now {after}",
        name=changed.name,
        before=_shapes(changed.before),
        after=_shapes(changed.after),
    )


__all__ = ["commits_text"]
