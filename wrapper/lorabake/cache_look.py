"""Looks at every cache that sd-scripts would use for a plan, and says which do not fit: S19 tells of them.

sd-scripts itself compares a cache with nothing (strategy_base.py:410-454). Here each is held beside what lorabake
remembers of its making: a cache that nobody remembers does not fit, whatever it holds.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from lorabake.files import exists
from lorabake.planning.cache_needs import FolderNeeds, InfoNeeds, Need, cache_needs, info_needs
from lorabake.reading import captions
from lorabake.reading.cache_files import content_of, read_info
from lorabake.reading.cache_origins import CacheMemory, Origins, OriginStore
from lorabake.reading.fingerprints import Digests, Files, Fingerprints
from lorabake.reading.hub import TOKENIZERS, tokenizer_ids
from lorabake.reading.inputs import TOKENIZER, every_again
from lorabake.reading.paths import hub_ids, recipe_paths, spellings
from lorabake_schemas.cache_origins import INFO_FILE, Conditions, Origin, StaleCache, changed
from lorabake_schemas.dataset import CAPTION_EXTENSION, DatasetFacts
from lorabake_schemas.plan import Plan
from lorabake_schemas.recipe import Recipe
from lorabake_schemas.record import Input, Role
from lorabake_schemas.words import Said, say

RUN = Path("runs", "run")  # a run folder's usual place beside the recipe, for paths that count from there
NOT_WHOLE = say("it was not written to its end")


@dataclass(frozen=True)
class Cached:
    """A plan, the pictures it is for, and the folder of its recipe."""

    recipe: Recipe
    plan: Plan
    dataset: DatasetFacts
    folder: Path


def stale_caches(of: Cached, memory: CacheMemory) -> tuple[StaleCache, ...]:
    """The caches that sd-scripts would use and that do not fit, or that nobody knows the origin of."""
    needs = [each for each in cache_needs(of.plan, of.dataset) if each.present]
    found = list(_of_info(of, memory))
    if needs:
        with Fingerprints(memory.facts, memory.progress) as fingerprints, OriginStore(memory.origins) as store:
            found += _judged(of, needs, memory, fingerprints, store)
    return tuple(found)


def _judged(
    of: Cached, needs: Sequence[FolderNeeds], memory: CacheMemory, fingerprints: Fingerprints, store: OriginStore
) -> Iterator[StaleCache]:
    origins = [dict[str, tuple[Origin, ...]]() for _ in needs]
    if store.knows_any():  # else nothing need be hashed
        caches = fingerprints.many([Files(of.folder / each.images, _caches(each)) for each in needs])
        origins = [_known(each, digests, store) for each, digests in zip(needs, caches, strict=True)]
    pictures = fingerprints.many(
        [Files(of.folder / each.images, _pictures(each, known)) for each, known in zip(needs, origins, strict=True)]
    )
    now = _conditions(of, [each for each, known in zip(needs, origins, strict=True) if known], memory, fingerprints)
    for each, known, digests in zip(needs, origins, pictures, strict=True):
        for need in each.present:
            if need.cache not in known:
                yield from _unknown(each, need, of.folder / each.images / need.cache)
                continue
            source = need.origin.source or _sha256(digests, need.picture)
            wanted = replace(need.origin, source=source, conditions=now[each.conditions])
            if why := _misfit(known[need.cache], wanted, trusting=each.trusting):
                yield StaleCache(each.table, each.index, each.kind, need.cache, need.picture, why)


def _misfit(known: Sequence[Origin], wanted: Origin, *, trusting: bool) -> Said | None:
    """None when one of a cache's origins fits; else what is told of the newest, first of those of the same picture."""
    reasons = [
        changed(origin, wanted, trusting=trusting)
        for origin in sorted(known, key=lambda each: each.source != wanted.source)
    ]
    return None if None in reasons else reasons[0]


def _caches(each: FolderNeeds) -> tuple[str, ...]:
    return tuple(dict.fromkeys(need.cache for need in each.present))


def _pictures(each: FolderNeeds, known: Origins) -> tuple[str, ...]:
    """Those whose own digest tells whether a cache fits."""
    if each.kind != "latents":
        return ()
    return tuple(need.picture for need in each.present if need.cache in known)


def _known(each: FolderNeeds, digests: Digests, store: OriginStore) -> dict[str, tuple[Origin, ...]]:
    """What is known of the caches of a folder, by their names."""
    by_name = {name: digest.sha256 for name, digest in digests.items() if digest}
    origins = store.known(each.identity, by_name.values())
    known = {
        name: tuple(origin for origin in origins.get(sha, ()) if origin.conditions.kind == each.kind)
        for name, sha in by_name.items()
    }
    return {name: several for name, several in known.items() if several}


def _sha256(digests: Digests, name: str) -> str:
    digest = digests[name]
    return digest.sha256 if digest else ""


def _unknown(each: FolderNeeds, need: Need, path: Path) -> Iterator[StaleCache]:
    """A file in the place of a cache that lorabake did not see made."""
    if not exists(path):  # a link that leads nowhere: sd-scripts makes a cache there
        return
    content = content_of(path)
    why = NOT_WHOLE if content == "torn" else None
    yield StaleCache(
        each.table, each.index, each.kind, need.cache, need.picture, why, foreign=content not in {each.kind, "torn"}
    )


def completed(of: Cached, needs: Sequence[FolderNeeds], memory: CacheMemory) -> dict[Conditions, Conditions]:
    """The conditions of these folders with the digests of what makes their caches now."""
    with Fingerprints(memory.facts, memory.progress) as fingerprints:
        return _conditions(of, needs, memory, fingerprints)


def _conditions(
    of: Cached, needs: Sequence[FolderNeeds], memory: CacheMemory, fingerprints: Fingerprints
) -> dict[Conditions, Conditions]:
    kinds = {each.kind for each in needs}
    asked = list(_models(of, memory, text="text" in kinds, latents="latents" in kinds))
    root = run_folder(of, memory)
    models = dict[Role, str]()
    for one in every_again(asked, root, fingerprints, memory.env):
        sha = one.files[0].sha256 if one.kind == "file" and one.files else one.digest().sha256 or ""
        models[one.role] = models.get(one.role, "") + sha
    made: dict[Conditions, Conditions] = {}
    for each in needs:
        role: Role = "vae" if each.kind == "latents" and of.recipe.base.vae else "base"
        tokenizer = models.get("tokenizer", "") if each.kind == "text" else ""
        made[each.conditions] = replace(each.conditions, model=models[role], tokenizer=tokenizer, commit=memory.commit)
    return made


def _models(of: Cached, memory: CacheMemory, *, text: bool, latents: bool) -> Iterator[Input]:
    """What makes caches, as reading.inputs lists it; nothing is asked that no cache depends on."""
    base = of.recipe.base
    places = spellings(recipe_paths(of.recipe), of.folder, run_folder(of, memory), hub_ids(of.recipe))
    if text or (latents and base.vae is None):
        yield _model("base", base.model, places)
    if latents and base.vae is not None:
        yield _model("vae", base.vae, places)
    if text and (tokenizers := base.tokenizer_cache_dir):
        for index, folder in enumerate(TOKENIZERS[of.plan.family]):
            place = f"{places[tokenizers]}/{folder}"
            yield Input(role="tokenizer", index=index, name=tokenizers, place=place, kind="missing")
    elif text:
        for index, name in enumerate(tokenizer_ids(of.plan.family)):
            yield Input(role="tokenizer", index=index, name=name, place=name, kind="hub", endings=TOKENIZER)


def _model(role: Role, name: str, places: Mapping[str, str]) -> Input:
    return Input(role=role, name=name, place=places.get(name, name), kind="missing" if name in places else "hub")


def run_folder(of: Cached, memory: CacheMemory) -> Path:
    """The run folder, or one that lies where the next one will: paths in it count from there."""
    return memory.root or of.folder / (of.recipe.save.runs or RUN.parent) / RUN.name


def _of_info(of: Cached, memory: CacheMemory) -> Iterator[StaleCache]:
    """``metadata_cache.json``: it holds itself all that it was made from, so nothing need be remembered."""
    needs = info_needs(of.plan, of.dataset)
    if not needs:
        return
    root = run_folder(of, memory)
    places = spellings([each.images for each in needs], of.folder, root)
    for each in needs:
        try:
            told = read_info(of.folder / each.images / INFO_FILE)
        except FileNotFoundError:
            continue
        if of.recipe.kohya.get("enable_wildcard") is True:
            each = _with_all_lines(each, of)  # noqa: PLW2901 - the same, read again
        why = _outdated(each, told, places[each.images]) if told is not None else None
        if told is None or why:
            yield StaleCache(each.table, each.index, "info", INFO_FILE, why=why, foreign=told is None)


def _with_all_lines(each: InfoNeeds, of: Cached) -> InfoNeeds:
    """With enable_wildcard a caption is all of its lines."""
    folder, ending = of.folder / each.images, of.recipe.captions.caption_extension or CAPTION_EXTENSION
    pictures = tuple(
        (name, caption if (whole := captions.all_lines(str(folder / name), ending)) is None else whole, size)
        for name, caption, size in each.pictures
    )
    return replace(each, pictures=pictures)


def _outdated(each: InfoNeeds, told: Mapping[str, tuple[str, tuple[int, int]]], place: str) -> Said | None:
    """sd-scripts takes pictures, captions and sizes from this file and looks at no folder (TU:1990-1997)."""
    wanted = {os.path.join(place, name): (caption, size) for name, caption, size in each.pictures}  # noqa: PTH118 - text
    if [os.path.normpath(name) for name in told] != [os.path.normpath(name) for name in wanted]:
        return say("pictures were added, taken away or moved since")
    if [caption for caption, _ in told.values()] != [caption for caption, _ in wanted.values()]:
        return say("captions were edited since")
    if [size for _, size in told.values()] != [size for _, size in wanted.values()]:
        return say("pictures have another size since")
    return None


__all__ = ["Cached", "completed", "run_folder", "stale_caches"]
