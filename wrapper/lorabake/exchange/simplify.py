"""Removing from a recipe what lorabake would choose anyway, so that the same is trained."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, cast, get_args

from lorabake.exchange.draft import Draft, KeyPath, iter_leaf_paths
from lorabake.exchange.stand_ins import list_stand_ins, read_recipe, train_on
from lorabake.exchange.trained import TrainerFacts, Training
from lorabake_schemas.messages import Message
from lorabake_schemas.recipe import RecipeKind

Raw = Mapping[str, Any]
# What the comparison of two trainings does not see, or what a reader looks for first.
KEPT_KEYS = frozenset(("name", "kind", "model", "family", "token", "class", "images", "network_weights", "prompts"))
KEPT_TABLES = ("launch", "sample", "log")
LATE = (("train", "unet_lr"), ("train", "text_encoder_lr"))  # learning_rate alone means both


def remove_refused(draft: Draft) -> dict[KeyPath, Message]:
    """Remove the values that no recipe can have, and give the reason of each."""
    refused: dict[KeyPath, Message] = {}
    for _ in range(len(list(iter_leaf_paths(draft.content))) + 1):
        recipe, findings = read_recipe(draft.content)
        if recipe is not None:
            return refused
        for finding in findings:
            where = next((path for path in iter_leaf_paths(draft.content) if _covers(path, finding.where)), None)
            if where is not None and where not in refused:
                refused[where] = finding.message
                draft.content = without_key(draft.content, where)
    return refused


def _covers(path: KeyPath, where: Sequence[str | int]) -> bool:
    other = ("network", "args", *where[1:]) if where[:1] == ("network",) else where
    return path[: len(where)] == tuple(where)[: len(path)] or path == tuple(other)[: len(path)]


def simplify(content: Raw, trainer: TrainerFacts, defaults: Iterable[KeyPath], kept: Iterable[KeyPath] = ()) -> Raw:
    """``content`` without the keys that change nothing, those in ``defaults`` first; ``kept`` ones stay.

    What another ``kind`` would change stays, too: the kind is a guess, which the user replaces. A recipe that cannot be
    planned keeps all that the source has.
    """
    stand_ins = list_stand_ins(content)
    wanted = train_on(content, stand_ins, trainer)
    added, protected = set(defaults), set(kept)
    if wanted is None:
        return _without_keys(content, [path for path in added if not _is_kept(path)])
    paths = [path for path in iter_leaf_paths(content) if not _is_kept(path) and path not in protected]
    paths.sort(key=lambda path: (path not in added, path not in LATE))
    groups: dict[KeyPath, list[KeyPath]] = {}  # the same key of all folders is one group
    for path in paths:
        groups.setdefault((path[0], *path[2:]) if path[0] in _FOLDERS else path, []).append(path)
    shorter = content
    for group in groups.values():
        shorter = _remove_group(shorter, group, trainer, wanted)
    return _keep_for_other_kinds(content, shorter, trainer, wanted)


def _keep_for_other_kinds(content: Raw, shorter: Raw, trainer: TrainerFacts, wanted: tuple[Training, ...]) -> Raw:
    """``shorter`` with those keys of ``content`` that another kind of subject would choose differently."""
    removed = [path for path in iter_leaf_paths(content) if get_value(shorter, path) is None]
    kept: set[KeyPath] = set()
    for kind in get_args(RecipeKind):
        other = {**content, "kind": kind}
        if (found := train_on(other, list_stand_ins(other)[:1], trainer)) is not None:
            kept |= _find_needed(other, removed, trainer, found)
    full = _without_keys(content, [path for path in removed if path not in kept])
    return full if _same(train_on(full, list_stand_ins(full), trainer), wanted) else shorter


def _find_needed(
    content: Raw, paths: Sequence[KeyPath], trainer: TrainerFacts, wanted: tuple[Training, ...]
) -> set[KeyPath]:
    """Those of ``paths`` without which something else is trained, found by halves."""
    needed: set[KeyPath] = set()
    waiting = [list(paths)]
    while waiting:
        part = waiting.pop()
        shorter = _without_keys(content, part)
        if _same(train_on(shorter, list_stand_ins(shorter)[:1], trainer), wanted):
            content = shorter
        elif len(part) == 1:
            needed.add(part[0])
        else:
            waiting += [part[len(part) // 2 :], part[: len(part) // 2]]
    return needed


_FOLDERS = ("concept", "regularization")


def _remove_group(content: Raw, group: Sequence[KeyPath], trainer: TrainerFacts, wanted: tuple[Training, ...]) -> Raw:
    """Without the same key of several folders: from all at once, then from those that are trained as before, else in
    halves."""
    stand_ins = list_stand_ins(content)
    shorter = _without_keys(content, group)
    found = train_on(shorter, stand_ins, trainer)
    if _same(found, wanted):
        return shorter
    if len(group) == 1:
        return _shorten_table(content, group[0], trainer, wanted)
    if found is not None and (rest := _find_unchanged(content, group, found, wanted)) is not None:
        shorter = _without_keys(content, rest)
        if not rest or _same(train_on(shorter, stand_ins, trainer), wanted):
            return shorter
    half = len(group) // 2
    content = _remove_group(content, group[:half], trainer, wanted)
    return _remove_group(content, group[half:], trainer, wanted)


def _find_unchanged(
    content: Raw, group: Sequence[KeyPath], found: tuple[Training, ...], wanted: tuple[Training, ...]
) -> list[KeyPath] | None:
    """The folders of a group that are trained as before, by the path of their images; None if more than folders
    changed."""
    if any(one.train != two.train for one, two in zip(found, wanted, strict=True)):
        return None
    changed: set[object] = set()
    for one, two in zip(found, wanted, strict=True):
        before, now = _sort_by_folder(two), _sort_by_folder(one)
        changed |= {folder for folder in before.keys() | now.keys() if before.get(folder) != now.get(folder)}
    return [path for path in group if get_value(content, (*path[:2], "images")) not in changed]


def _sort_by_folder(training: Training) -> dict[object, list[Mapping[str, object]]]:
    found: dict[object, list[Mapping[str, object]]] = {}
    for each in training.images:
        found.setdefault(each.get("image_dir"), []).append(each)
    return found


def _without_keys(content: Raw, paths: Iterable[KeyPath]) -> Raw:
    for path in paths:
        content = without_key(content, path)
    return content


def _shorten_table(content: Raw, path: KeyPath, trainer: TrainerFacts, wanted: tuple[Training, ...]) -> Raw:
    """A table of arguments without those that change nothing."""
    holder = get_value(content, path)
    stand_ins = list_stand_ins(content)
    for name in list(cast("Raw", holder)) if isinstance(holder, dict) else ():
        shorter = without_key(content, (*path, name))
        if get_value(shorter, path) and _same(train_on(shorter, stand_ins, trainer), wanted):
            content = shorter
    return content


def _same(found: tuple[Training, ...] | None, wanted: tuple[Training, ...]) -> bool:
    return found == wanted


def _is_kept(path: KeyPath) -> bool:
    return path[-1] in KEPT_KEYS or path[0] in KEPT_TABLES


def get_value(content: Raw, path: KeyPath) -> object:
    """The value at a path, None where there is none."""
    value: Any = content
    for part in path:
        try:
            value = value[part]
        except (KeyError, IndexError, TypeError):
            return None
    return cast("object", value)


def without_key(content: Raw, path: KeyPath) -> dict[str, Any]:
    """``content`` without a key, and without the table that it was alone in; entries of a list stay."""
    head, rest = str(path[0]), path[1:]
    if not rest:
        return {key: value for key, value in content.items() if key != head}
    inner: Any = content.get(head)
    if isinstance(inner, list) and isinstance(rest[0], int):
        entries = list(cast("list[Raw]", inner))
        entries[rest[0]] = without_key(entries[rest[0]], rest[1:])
        return {**content, head: entries}
    if not isinstance(inner, dict):
        return dict(content)
    shorter = without_key(cast("Raw", inner), rest)
    if not shorter and head not in {"optimizer_args", "lr_scheduler_args"}:
        return {key: value for key, value in content.items() if key != head}
    return {**content, head: shorter}
