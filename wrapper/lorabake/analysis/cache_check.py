"""Looks at every cache that sd-scripts would use for a plan, and says which do not fit: S19 tells of them.

sd-scripts itself compares a cache with nothing (strategy_base.py:410-454). Here each is held beside what lorabake
remembers of its making: a cache that nobody remembers does not fit, whatever it holds.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from lorabake.inputs import captions
from lorabake.inputs.cache_content import detect_cache_content, read_metadata_cache
from lorabake.inputs.cache_provenance import CacheIndex, Origins, OriginStore
from lorabake.inputs.manifest import TOKENIZER_SUFFIXES, rehash_inputs
from lorabake.planning.expected_caches import (
    ExpectedCache,
    ExpectedFolderCaches,
    ExpectedInfoCache,
    list_expected_caches,
    list_expected_info_caches,
)
from lorabake.recipe.paths import list_hub_ids, list_recipe_paths, resolve_run_paths
from lorabake.util.files import exists
from lorabake.util.hashing import Digests, FileHasher, FileSet
from lorabake_schemas.cache_origins import CacheOrigin, CacheSettings, StaleCache, find_stale_reason
from lorabake_schemas.caches import CACHE_INFO_FILE
from lorabake_schemas.dataset import CAPTION_EXTENSION, DatasetFacts
from lorabake_schemas.families.registry import get_family
from lorabake_schemas.messages import Message, msg
from lorabake_schemas.plan import Plan
from lorabake_schemas.recipe import Recipe
from lorabake_schemas.record import Input, InputRole

DEFAULT_RUN_PATH = Path("runs", "run")  # a run folder's usual place beside the recipe, for paths that count from there
INCOMPLETE_CACHE = msg("it is incomplete")


@dataclass(frozen=True)
class CacheContext:
    """A plan, the pictures it is for, and the folder of its recipe."""

    recipe: Recipe
    plan: Plan
    dataset: DatasetFacts
    folder: Path


def find_stale_caches(of: CacheContext, memory: CacheIndex) -> tuple[StaleCache, ...]:
    """The caches that sd-scripts would use and that do not fit, or that nobody knows the origin of."""
    needs = [each for each in list_expected_caches(of.plan, of.dataset) if each.present]
    found = list(_iter_stale_info(of, memory))
    if needs:
        with FileHasher(memory.facts, memory.progress) as fingerprints, OriginStore(memory.origins) as store:
            found += _iter_stale_caches(of, needs, memory, fingerprints, store)
    return tuple(found)


def _iter_stale_caches(
    of: CacheContext,
    needs: Sequence[ExpectedFolderCaches],
    memory: CacheIndex,
    fingerprints: FileHasher,
    store: OriginStore,
) -> Iterator[StaleCache]:
    origins = [dict[str, tuple[CacheOrigin, ...]]() for _ in needs]
    if store.has_any():  # else nothing need be hashed
        caches = fingerprints.hash_folders([FileSet(of.folder / each.images, _cache_names(each)) for each in needs])
        origins = [_known_origins(each, digests, store) for each, digests in zip(needs, caches, strict=True)]
    pictures = fingerprints.hash_folders(
        [
            FileSet(of.folder / each.images, _image_names(each, known))
            for each, known in zip(needs, origins, strict=True)
        ]
    )
    now = _compute_settings(
        of, [each for each, known in zip(needs, origins, strict=True) if known], memory, fingerprints
    )
    for each, known, digests in zip(needs, origins, pictures, strict=True):
        for need in each.present:
            if need.cache not in known:
                yield from _iter_unknown_caches(each, need, of.folder / each.images / need.cache)
                continue
            source = need.origin.source or _find_sha256(digests, need.picture)
            wanted = replace(need.origin, source=source, conditions=now[each.conditions])
            if why := _mismatch_reason(known[need.cache], wanted, trusting=each.trusting):
                yield StaleCache(each.table, each.index, each.kind, need.cache, need.picture, why)


def _mismatch_reason(known: Sequence[CacheOrigin], wanted: CacheOrigin, *, trusting: bool) -> Message | None:
    """None when one of a cache's origins fits; else what is told of the newest, first of those of the same picture."""
    reasons = [
        find_stale_reason(origin, wanted, trusting=trusting)
        for origin in sorted(known, key=lambda each: each.source != wanted.source)
    ]
    return None if None in reasons else reasons[0]


def _cache_names(each: ExpectedFolderCaches) -> tuple[str, ...]:
    return tuple(dict.fromkeys(need.cache for need in each.present))


def _image_names(each: ExpectedFolderCaches, known: Origins) -> tuple[str, ...]:
    """Those whose own digest tells whether a cache fits."""
    if each.kind != "latents":
        return ()
    return tuple(need.picture for need in each.present if need.cache in known)


def _known_origins(
    each: ExpectedFolderCaches, digests: Digests, store: OriginStore
) -> dict[str, tuple[CacheOrigin, ...]]:
    """What is known of the caches of a folder, by their names."""
    by_name = {name: digest.sha256 for name, digest in digests.items() if digest}
    origins = store.known(each.identity, by_name.values())
    known = {
        name: tuple(origin for origin in origins.get(sha, ()) if origin.conditions.kind == each.kind)
        for name, sha in by_name.items()
    }
    return {name: several for name, several in known.items() if several}


def _find_sha256(digests: Digests, name: str) -> str:
    digest = digests[name]
    return digest.sha256 if digest else ""


def _iter_unknown_caches(each: ExpectedFolderCaches, need: ExpectedCache, path: Path) -> Iterator[StaleCache]:
    """A file in the place of a cache that lorabake did not see made."""
    if not exists(path):  # a link that leads nowhere: sd-scripts makes a cache there
        return
    content = detect_cache_content(path)
    why = INCOMPLETE_CACHE if content == "torn" else None
    yield StaleCache(
        each.table, each.index, each.kind, need.cache, need.picture, why, foreign=content not in {each.kind, "torn"}
    )


def compute_cache_settings(
    of: CacheContext, needs: Sequence[ExpectedFolderCaches], memory: CacheIndex
) -> dict[CacheSettings, CacheSettings]:
    """The conditions of these folders with the digests of what makes their caches now."""
    with FileHasher(memory.facts, memory.progress) as fingerprints:
        return _compute_settings(of, needs, memory, fingerprints)


def _compute_settings(
    of: CacheContext, needs: Sequence[ExpectedFolderCaches], memory: CacheIndex, fingerprints: FileHasher
) -> dict[CacheSettings, CacheSettings]:
    kinds = {each.kind for each in needs}
    asked = list(_iter_model_inputs(of, memory, text="text" in kinds, latents="latents" in kinds))
    root = expected_run_folder(of, memory)
    models = dict[InputRole, str]()
    for one in rehash_inputs(asked, root, fingerprints, memory.env):
        sha = one.files[0].sha256 if one.kind == "file" and one.files else one.digest().sha256 or ""
        models[one.role] = models.get(one.role, "") + sha
    made: dict[CacheSettings, CacheSettings] = {}
    for each in needs:
        role: InputRole = "vae" if each.kind == "latents" and of.recipe.base.vae else "base"
        tokenizer = models.get("tokenizer", "") if each.kind == "text" else ""
        made[each.conditions] = replace(each.conditions, model=models[role], tokenizer=tokenizer, commit=memory.commit)
    return made


def _iter_model_inputs(of: CacheContext, memory: CacheIndex, *, text: bool, latents: bool) -> Iterator[Input]:
    """What makes caches, as reading.inputs lists it; nothing is asked that no cache depends on."""
    base = of.recipe.base
    places = resolve_run_paths(
        list_recipe_paths(of.recipe), of.folder, expected_run_folder(of, memory), list_hub_ids(of.recipe)
    )
    if text or (latents and base.vae is None):
        yield _build_model_input("base", base.model, places)
    if latents and base.vae is not None:
        yield _build_model_input("vae", base.vae, places)
    encoders = get_family(of.plan.family).text_encoders
    if text and (tokenizers := base.tokenizer_cache_dir):
        for index, encoder in enumerate(encoders):
            place = f"{places[tokenizers]}/{encoder.tokenizer_cache}"
            yield Input(role="tokenizer", index=index, name=tokenizers, place=place, kind="missing")
    elif text:
        for index, name in enumerate(encoder.tokenizer_place for encoder in encoders):
            yield Input(role="tokenizer", index=index, name=name, place=name, kind="hub", endings=TOKENIZER_SUFFIXES)


def _build_model_input(role: InputRole, name: str, places: Mapping[str, str]) -> Input:
    return Input(role=role, name=name, place=places.get(name, name), kind="missing" if name in places else "hub")


def expected_run_folder(of: CacheContext, memory: CacheIndex) -> Path:
    """The run folder, or one that lies where the next one will: paths in it count from there."""
    return memory.root or of.folder / (of.recipe.save.runs or DEFAULT_RUN_PATH.parent) / DEFAULT_RUN_PATH.name


def _iter_stale_info(of: CacheContext, memory: CacheIndex) -> Iterator[StaleCache]:
    """``metadata_cache.json``: it holds itself all that it was made from, so nothing need be remembered."""
    needs = list_expected_info_caches(of.plan, of.dataset)
    if not needs:
        return
    root = expected_run_folder(of, memory)
    places = resolve_run_paths([each.images for each in needs], of.folder, root)
    for each in needs:
        try:
            told = read_metadata_cache(of.folder / each.images / CACHE_INFO_FILE)
        except FileNotFoundError:
            continue
        if of.recipe.kohya.get("enable_wildcard") is True:
            each = _with_full_captions(each, of)  # noqa: PLW2901 - the same, read again
        why = _outdated_reason(each, told, places[each.images]) if told is not None else None
        if told is None or why:
            yield StaleCache(each.table, each.index, "info", CACHE_INFO_FILE, why=why, foreign=told is None)


def _with_full_captions(each: ExpectedInfoCache, of: CacheContext) -> ExpectedInfoCache:
    """With enable_wildcard a caption is all of its lines."""
    folder, ending = of.folder / each.images, of.recipe.captions.caption_extension or CAPTION_EXTENSION
    pictures = tuple(
        (name, caption if (whole := captions.read_caption_lines(str(folder / name), ending)) is None else whole, size)
        for name, caption, size in each.pictures
    )
    return replace(each, pictures=pictures)


def _outdated_reason(
    each: ExpectedInfoCache, told: Mapping[str, tuple[str, tuple[int, int]]], place: str
) -> Message | None:
    """sd-scripts takes pictures, captions and sizes from this file and looks at no folder (TU:1990-1997)."""
    wanted = {os.path.join(place, name): (caption, size) for name, caption, size in each.pictures}  # noqa: PTH118 - text
    if [os.path.normpath(name) for name in told] != [os.path.normpath(name) for name in wanted]:
        return msg("images were added, removed or moved since then")
    if [caption for caption, _ in told.values()] != [caption for caption, _ in wanted.values()]:
        return msg("captions were edited since then")
    if [size for _, size in told.values()] != [size for _, size in wanted.values()]:
        return msg("image sizes changed since then")
    return None
