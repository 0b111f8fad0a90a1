"""For which typical recipes something holds, in as few words as there are: ``sdxl (not style)``."""

from __future__ import annotations

from collections.abc import Iterable, Sequence, Set
from fnmatch import fnmatchcase

from lorabake.analysis.default_values import FAMILIES, KINDS, ExampleRecipe
from lorabake_schemas.messages import Message, join_list, literal, msg
from lorabake_schemas.sd_scripts import OPTIMIZERS

OPTIMIZER_KEY = "train.optimizer"
OPTIMIZER_PATTERNS = ("DAdapt*", "PagedAdamW*", "*ScheduleFree")  # each behaves as one; the rest are named


def describe_recipes(cases: Sequence[ExampleRecipe]) -> Message:
    """Families and kinds, then what else the recipe says."""
    kinds: dict[tuple[str, ...], list[str]] = {}
    for family in FAMILIES:
        mine = tuple(kind for kind in KINDS if any(case.family == family and case.kind == kind for case in cases))
        if mine:
            kinds.setdefault(mine, []).append(family)
    parts = [_describe_kinds(families, mine) for mine, families in kinds.items()]
    also = dict.fromkeys(case.also for case in cases if case.also)
    said = join_list(parts, "; ")
    if not also:
        return said
    if len(parts) == 1 and parts[0] == msg("any"):
        return msg("with {what}", what=_merge_additions(also))
    return msg("{which}, with {what}", which=said, what=_merge_additions(also))


def _describe_kinds(families: Sequence[str], kinds: Sequence[str]) -> Message:
    of_any_family = len(families) == len(FAMILIES)
    names = ", ".join(families)
    left = [kind for kind in KINDS if kind not in kinds]
    if not left:
        return msg("any") if of_any_family else literal(names)
    if len(left) <= len(kinds):
        without = ", ".join(left)
        return (
            msg("any but {kinds}", kinds=without)
            if of_any_family
            else msg("{families} (not {kinds})", families=names, kinds=without)
        )
    some = ", ".join(kinds)
    return literal(some) if of_any_family else msg("{families}: {kinds}", families=names, kinds=some)


def _merge_additions(also: Iterable[str]) -> Message:
    """``network.type = "locon" / "loha"`` for two of one key."""
    by_key: dict[str, list[str]] = {}
    for each in also:
        key, _, value = each.partition(" = ")
        by_key.setdefault(key, []).append(value)
    return join_list([_describe_key(key, values) for key, values in by_key.items()])


def _describe_key(key: str, values: Sequence[str]) -> Message:
    if key != OPTIMIZER_KEY:
        return literal(f"{key} = {' / '.join(values)}" if any(values) else key)
    given = {value.strip('"') for value in values}
    named, others = _shorten_optimizers(given), _shorten_optimizers(set(OPTIMIZERS) - given)
    if len(others) < len(named):
        return msg("any optimizer but {names}", names=", ".join(others))
    return literal(", ".join(named))


def _shorten_optimizers(names: Set[str]) -> list[str]:
    """All optimizers of one sort as the sort, the others by their names."""
    shown: dict[str, None] = {}
    for name in OPTIMIZERS:
        sort = next((sort for sort in OPTIMIZER_PATTERNS if fnmatchcase(name, sort)), None)
        whole = sort is not None and all(other in names for other in OPTIMIZERS if fnmatchcase(other, sort))
        if name in names:
            shown[sort if whole and sort else name] = None
    return list(shown)
