"""Rules about the caches that sd-scripts writes next to the images and uses again, whether they fit or not."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby

from lorabake_schemas.cache_origins import StaleCache
from lorabake_schemas.caches import find_missized_images
from lorabake_schemas.dataset import FolderFacts
from lorabake_schemas.findings import Severity
from lorabake_schemas.guide.registry import ERROR, WARNING, RuleContext, RuleHit, rule
from lorabake_schemas.guide.rules.dataset import iter_folders, summarize_names
from lorabake_schemas.messages import Message, msg, nmsg

CACHE_OPTIONS = {"latents": "cache_latents_to_disk", "text": "cache_text_encoder_outputs_to_disk", "info": "cache_info"}


@rule(
    "S19.sizes",
    ERROR,
    "sd-scripts takes an image's size from the name of a latent cache next to it, even when it caches nothing on disk.",
    unless="cache_info, where sizes come from the images or from metadata_cache.json",
)
def wrong_cached_size(situation: RuleContext) -> Iterator[RuleHit]:
    if situation.recipe.kohya.get("cache_info") is True:
        return
    suffix = situation.family.latent_cache_suffix
    for where, folder in iter_folders(situation):
        wrong = find_missized_images(folder, suffix)
        if wrong:
            yield RuleHit(
                where,
                nmsg(
                    len(wrong),
                    "{n} image would be squeezed to the size in the name of a leftover latent cache: {names}",
                    "{n} images would be squeezed to the sizes in the names of leftover latent caches: {names}",
                    names=summarize_names(wrong),
                ),
                msg("start the run with --refresh-cache, or remove these .npz files from {path}", path=folder.path),
                file=wrong[0],
            )


@rule(
    "S19",
    ERROR,
    "sd-scripts does not check whether a cache belongs to the image, its size, its caption or the model.",
    unless="caches whose origin lorabake recorded; those of unknown origin may be right: then it is a warning",
    needs_plan=True,
)
def mismatched_caches(situation: RuleContext) -> Iterator[RuleHit]:
    parts = {where[:2]: (where, folder) for where, folder in iter_folders(situation)}
    for key, group in groupby(sorted(situation.stale, key=_sort_key), key=_sort_key):
        caches, (where, folder) = tuple(group), parts[key[0], key[1]]
        first = caches[0]
        if first.foreign:
            yield _report_foreign_files(where, folder, caches)
        elif first.kind == "info":
            said = msg(
                "metadata_cache.json no longer matches the contents of {path}: {why}",
                path=folder.path,
                why=_format_reason(first),
            )
            yield RuleHit(where, said, _format_fix(first, folder), file=first.cache, severity=_rate(first))
        else:
            said = _format_message(caches)
            yield RuleHit(where, said, _format_fix(first, folder), file=first.cache, severity=_rate(first))


def _rate(cache: StaleCache) -> Severity:
    """A cache of another image, size or model contradicts the recipe; one of unknown origin may be right."""
    return ERROR if cache.why else WARNING


def _sort_key(cache: StaleCache) -> tuple[str, int, str, bool, str]:
    return cache.table, cache.index, cache.kind, cache.foreign, cache.why or ""


def _format_reason(cache: StaleCache) -> Message:
    return cache.why or msg("its origin is unknown")


def _format_message(caches: Sequence[StaleCache]) -> Message:
    names, why = summarize_names([cache.image for cache in caches]), caches[0].why
    text = caches[0].kind == "text"
    if why is None and text:
        return nmsg(
            len(caches),
            "{n} image has cached text encoder outputs of unknown origin: {names}",
            "{n} images have cached text encoder outputs of unknown origin: {names}",
            names=names,
        )
    if why is None:
        return nmsg(
            len(caches),
            "{n} image has a latent cache of unknown origin: {names}",
            "{n} images have latent caches of unknown origin: {names}",
            names=names,
        )
    if text:
        return nmsg(
            len(caches),
            "{n} image has outdated cached text encoder outputs that would be used ({why}): {names}",
            "{n} images have outdated cached text encoder outputs that would be used ({why}): {names}",
            names=names,
            why=why,
        )
    return nmsg(
        len(caches),
        "{n} image has an outdated latent cache that would be used ({why}): {names}",
        "{n} images have outdated latent caches that would be used ({why}): {names}",
        names=names,
        why=why,
    )


def _format_fix(cache: StaleCache, folder: FolderFacts) -> Message:
    return msg(
        "start the run with --refresh-cache (deletes these caches in {path}, and sd-scripts "
        "creates them again), or remove {option}",
        path=folder.path,
        option=CACHE_OPTIONS[cache.kind],
    )


def _report_foreign_files(where: tuple[str | int, ...], folder: FolderFacts, caches: Sequence[StaleCache]) -> RuleHit:
    names = [cache.cache for cache in caches]
    said = nmsg(
        len(names),
        "{n} file is named like a cache but is not one, and sd-scripts would overwrite it or stop: {names}",
        "{n} files are named like caches but are not caches, and sd-scripts would overwrite them or stop: {names}",
        names=summarize_names(names),
    )
    fix = msg(
        "move your own files out of {path}, or remove {option}", path=folder.path, option=CACHE_OPTIONS[caches[0].kind]
    )
    return RuleHit(where, said, fix, file=names[0])
