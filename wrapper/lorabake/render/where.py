"""For which typical recipes something holds, in as few words as there are: ``sdxl (not style)``."""

from __future__ import annotations

from collections.abc import Iterable, Sequence, Set
from fnmatch import fnmatchcase

from lorabake.typical import FAMILIES, KINDS, Case
from lorabake_schemas.vocabulary import OPTIMIZERS
from lorabake_schemas.words import Said, joined, quoted, say

OPTIMIZER = "train.optimizer"
SORTS = ("DAdapt*", "PagedAdamW*", "*ScheduleFree")  # each behaves as one; the rest are named


def where(cases: Sequence[Case]) -> Said:
    """Families and kinds, then what else the recipe says."""
    kinds: dict[tuple[str, ...], list[str]] = {}
    for family in FAMILIES:
        mine = tuple(kind for kind in KINDS if any(case.family == family and case.kind == kind for case in cases))
        if mine:
            kinds.setdefault(mine, []).append(family)
    parts = [_some(families, mine) for mine, families in kinds.items()]
    also = dict.fromkeys(case.also for case in cases if case.also)
    said = joined(parts, "; ")
    if not also:
        return said
    if len(parts) == 1 and parts[0] == say("any"):
        return say("with {what}", what=_merged(also))
    return say("{which}, with {what}", which=said, what=_merged(also))


def _some(families: Sequence[str], kinds: Sequence[str]) -> Said:
    of_any_family = len(families) == len(FAMILIES)
    names = ", ".join(families)
    left = [kind for kind in KINDS if kind not in kinds]
    if not left:
        return say("any") if of_any_family else quoted(names)
    if len(left) <= len(kinds):
        without = ", ".join(left)
        return (
            say("any but {kinds}", kinds=without)
            if of_any_family
            else say("{families} (not {kinds})", families=names, kinds=without)
        )
    some = ", ".join(kinds)
    return quoted(some) if of_any_family else say("{families}: {kinds}", families=names, kinds=some)


def _merged(also: Iterable[str]) -> Said:
    """``network.type = "locon" / "loha"`` for two of one key."""
    by_key: dict[str, list[str]] = {}
    for each in also:
        key, _, value = each.partition(" = ")
        by_key.setdefault(key, []).append(value)
    return joined([_key(key, values) for key, values in by_key.items()])


def _key(key: str, values: Sequence[str]) -> Said:
    if key != OPTIMIZER:
        return quoted(f"{key} = {' / '.join(values)}" if any(values) else key)
    given = {value.strip('"') for value in values}
    named, others = _short(given), _short(set(OPTIMIZERS) - given)
    if len(others) < len(named):
        return say("any optimizer but {names}", names=", ".join(others))
    return quoted(", ".join(named))


def _short(names: Set[str]) -> list[str]:
    """All optimizers of one sort as the sort, the others by their names."""
    shown: dict[str, None] = {}
    for name in OPTIMIZERS:
        sort = next((sort for sort in SORTS if fnmatchcase(name, sort)), None)
        whole = sort is not None and all(other in names for other in OPTIMIZERS if fnmatchcase(other, sort))
        if name in names:
            shown[sort if whole and sort else name] = None
    return list(shown)


__all__ = ["where"]
