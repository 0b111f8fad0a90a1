"""Removing from a recipe what lorabake would choose anyway, so that the same is trained."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, cast

from lorabake.exchange.draft import Draft, KeyPath, iter_leaf_paths
from lorabake.exchange.stand_ins import list_stand_ins, read_recipe, train_on
from lorabake.exchange.trained import TrainerFacts, Training
from lorabake_schemas.messages import Message

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

    A recipe that cannot be planned keeps all that the source has.
    """
    stand_ins = list_stand_ins(content)
    wanted = train_on(content, stand_ins, trainer)
    added, protected = set(defaults), set(kept)
    if wanted is None:
        for path in added:
            content = without_key(content, path)
        return content
    paths = [path for path in iter_leaf_paths(content) if not _is_kept(path) and path not in protected]
    paths.sort(key=lambda path: (path not in added, path not in LATE))
    for path in paths:
        shorter = without_key(content, path)
        if _same(train_on(shorter, stand_ins, trainer), wanted):
            content = shorter
        else:
            content = _shorten_table(content, path, trainer, wanted)
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
