"""Finds the caches that sd-scripts would use for a plan and that do not fit it, for S19.

sd-scripts itself compares a cache with nothing (strategy_base.py:410-454). Here each is compared with what it was made
from (cache_origins): a cache of unknown origin does not fit, whatever it contains.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from lorabake.inputs import captions
from lorabake.inputs.cache_content import detect_cache_content, read_metadata_cache
from lorabake.inputs.cache_origins import Origins, read_cache_origins
from lorabake.inputs.dataset import ScanOptions
from lorabake.inputs.manifest import list_model_inputs, rehash_inputs
from lorabake.planning.expected_caches import (
    ExpectedCache,
    ExpectedFolderCaches,
    effective_caption,
    list_expected_caches,
)
from lorabake.recipe.paths import resolve_run_paths
from lorabake.util.files import exists
from lorabake.util.hashing import Digests, FileHasher, FileSet
from lorabake_schemas.bucket_fit import Size
from lorabake_schemas.cache_origins import CacheOrigin, CacheSettings, StaleCache, find_stale_reason
from lorabake_schemas.caches import CACHE_INFO_FILE, get_header_size
from lorabake_schemas.dataset import DatasetFacts, FolderFacts, ImageFacts
from lorabake_schemas.messages import Message, msg
from lorabake_schemas.plan import Plan, SubsetPlan
from lorabake_schemas.recipe import Recipe
from lorabake_schemas.record import InputRole

DEFAULT_RUN_PATH = Path("runs", "run")  # a run folder's usual place next to the recipe, for paths relative to it
INCOMPLETE_CACHE = msg("it is incomplete")


class CacheContext(NamedTuple):
    """A plan, the images it is for, and the folder of its recipe."""

    recipe: Recipe
    plan: Plan
    dataset: DatasetFacts
    folder: Path


def find_stale_caches(of: CacheContext, scanning: ScanOptions) -> tuple[StaleCache, ...]:
    """The caches that sd-scripts would use and that do not fit, or whose origin is unknown."""
    needs = [each for each in list_expected_caches(of.plan, of.dataset) if each.present]
    found = list(_iter_stale_info(of, scanning))
    if needs:
        with FileHasher(scanning.store, scanning.hashing) as hasher:
            found += _iter_stale_caches(of, needs, scanning, hasher)
    return tuple(found)


def _iter_stale_caches(
    of: CacheContext, needs: Sequence[ExpectedFolderCaches], scanning: ScanOptions, hasher: FileHasher
) -> Iterator[StaleCache]:
    known = [read_cache_origins(of.folder / each.folder.path) for each in needs]
    wanted = [  # without origins nothing need be hashed
        FileSet(of.folder / each.folder.path, _list_files_to_hash(each) if origins else ())
        for each, origins in zip(needs, known, strict=True)
    ]
    digests = hasher.hash_folders(wanted)
    settings = complete_settings(
        of, [each for each, origins in zip(needs, known, strict=True) if origins], scanning, hasher
    )
    for each, origins, found in zip(needs, known, digests, strict=True):
        for need in each.present:
            was = [origin for origin in _find_origins(origins, found, need) if origin.settings.kind == each.kind]
            if not was:
                yield from _iter_unknown_caches(each, need, of.folder / each.folder.path / need.cache)
                continue
            image = found.get(need.image.name)
            source = need.origin.source or (image.sha256 if image else "")
            now = need.origin._replace(source=source, settings=settings[each.settings])
            if why := _mismatch_reason(was, now, trusting=each.trusting):
                yield StaleCache(each.table, each.index, each.kind, need.cache, need.image.name, why)


def _list_files_to_hash(each: ExpectedFolderCaches) -> list[str]:
    """The caches, and of latents the images that they should be of."""
    images = [need.image.name for need in each.present] if each.kind == "latents" else []
    return [*dict.fromkeys(need.cache for need in each.present), *images]


def _find_origins(origins: Origins, digests: Digests, need: ExpectedCache) -> Sequence[CacheOrigin]:
    digest = digests.get(need.cache)
    return origins.get(digest.sha256, ()) if digest else ()


def _mismatch_reason(was: Sequence[CacheOrigin], now: CacheOrigin, *, trusting: bool) -> Message | None:
    """None when one of a cache's origins fits; else the reason of the first one, those of the same source first."""
    ordered = sorted(was, key=lambda each: each.source != now.source)
    reasons = [find_stale_reason(origin, now, trusting=trusting) for origin in ordered]
    return None if None in reasons else reasons[0]


def _iter_unknown_caches(each: ExpectedFolderCaches, need: ExpectedCache, path: Path) -> Iterator[StaleCache]:
    """A file in the place of a cache that lorabake did not see made."""
    if not exists(path):  # a link that leads nowhere: sd-scripts makes a cache there
        return
    content = detect_cache_content(path)
    why = INCOMPLETE_CACHE if content == "torn" else None
    foreign = content not in {each.kind, "torn"}
    yield StaleCache(each.table, each.index, each.kind, need.cache, need.image.name, why, foreign)


def complete_settings(
    of: CacheContext, needs: Sequence[ExpectedFolderCaches], scanning: ScanOptions, hasher: FileHasher
) -> dict[CacheSettings, CacheSettings]:
    """The settings of these folders with the digests of the models that make their caches now."""
    latents: InputRole = "vae" if of.recipe.base.vae else "base"
    roles = {role for each in needs for role in ((latents,) if each.kind == "latents" else ("base", "tokenizer"))}
    root, models = expected_run_folder(of, scanning), dict[InputRole, str]()
    asked = [one for one in list_model_inputs(of.recipe, of.plan, of.folder, root) if one.role in roles]
    for one in rehash_inputs(asked, root, hasher, scanning.env):
        sha256 = one.files[0].sha256 if one.kind == "file" and one.files else one.digest().sha256 or ""
        models[one.role] = models.get(one.role, "") + sha256
    return {
        each.settings: each.settings.model_copy(
            update={
                "model": models[latents if each.kind == "latents" else "base"],
                "tokenizer": models.get("tokenizer", "") if each.kind == "text" else "",
                "commit": scanning.commit,
            }
        )
        for each in needs
    }


def expected_run_folder(of: CacheContext, scanning: ScanOptions) -> Path:
    """The run folder, or one in the place of the next one: paths in the compiled files are relative to it."""
    return scanning.root or of.folder / (of.recipe.save.runs or DEFAULT_RUN_PATH.parent) / DEFAULT_RUN_PATH.name


def _iter_stale_info(of: CacheContext, scanning: ScanOptions) -> Iterator[StaleCache]:
    """``metadata_cache.json``: it contains itself all that it was made from, so nothing need be kept of it."""
    if not of.plan.value("cache_info"):
        return
    root, parts = expected_run_folder(of, scanning), {(part.table, part.index): part for part in of.plan.subsets}
    folders = [(part, of.dataset.get_folder(part.table, part.index)) for part in parts.values()]
    places = resolve_run_paths([folder.path for _, folder in folders], of.folder, root)
    for part, folder in folders:
        try:
            found = read_metadata_cache(of.folder / folder.path / CACHE_INFO_FILE)
        except FileNotFoundError:
            continue
        why = _outdated_reason(of, folder, part, found, places[folder.path]) if found is not None else None
        if found is None or why:
            yield StaleCache(part.table, part.index, "info", CACHE_INFO_FILE, why=why, foreign=found is None)


def _outdated_reason(
    of: CacheContext, folder: FolderFacts, part: SubsetPlan, found: Mapping[str, tuple[str, Size]], place: str
) -> Message | None:
    """sd-scripts takes images, captions and sizes from this file and looks at no folder (TU:1990-1997)."""
    paths = [os.path.normpath(f"{place}/{image.name}") for image in folder.images]
    if [os.path.normpath(name) for name in found] != paths:
        return msg("images were added, removed or moved since then")
    texts = [_read_full_caption(of, folder, part, image) for image in folder.images]
    if [caption for caption, _ in found.values()] != texts:
        return msg("captions were edited since then")
    if [size for _, size in found.values()] != [get_header_size(image) for image in folder.images]:
        return msg("image sizes changed since then")
    return None


def _read_full_caption(of: CacheContext, folder: FolderFacts, part: SubsetPlan, image: ImageFacts) -> str:
    """With enable_wildcard a caption is all of its lines."""
    lines = None
    if of.recipe.kohya.get("enable_wildcard") is True:
        lines = captions.read_caption_lines(str(of.folder / folder.path / image.name), folder.caption_extension)
    return effective_caption(image, part) if lines is None else lines
