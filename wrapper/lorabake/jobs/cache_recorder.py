"""Records what each of sd-scripts' caches was made from, and deletes those that do not fit.

Nothing else in an image folder is ever deleted, and this only with --refresh-cache.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

from lorabake.analysis.cache_check import CacheContext, complete_settings
from lorabake.analysis.check import CheckResult
from lorabake.errors import MachineError
from lorabake.inputs.cache_content import detect_cache_content, has_latents
from lorabake.inputs.cache_origins import read_cache_origins, write_cache_origins
from lorabake.inputs.dataset import ScanOptions
from lorabake.inputs.folders import file_stem, list_folder
from lorabake.jobs.display import Watcher
from lorabake.planning.expected_caches import ExpectedCache, ExpectedFolderCaches, list_expected_caches
from lorabake.runs.launch_request import LaunchRequest
from lorabake.util.hashing import Digests, FileHasher
from lorabake_schemas.cache_origins import CacheKind, CacheOrigin, CacheSettings
from lorabake_schemas.caches import find_missizing_caches
from lorabake_schemas.dataset import CAPTION_EXTENSION, DatasetFacts, FolderFacts
from lorabake_schemas.events import ModelLoaded, ProgressEvent
from lorabake_schemas.guide.defaults import resolve_family
from lorabake_schemas.messages import Message, escape_undecodable, literal, msg, nmsg, shorten_list
from lorabake_schemas.record import InputRole, Inputs

STALE_CACHE_RULES = frozenset({"S19", "S19.sizes"})  # the errors that deleting caches can fix
NAMES_SHOWN = 3


@dataclass(frozen=True)
class CacheRecorder:
    """Records where the caches of one run come from. ``start`` are the inputs of the run, hashed before it started."""

    of: CacheContext
    start: Inputs
    scanning: ScanOptions

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Record them however the run ended: the caches exist."""
        self.record()

    def watching(self, watcher: Watcher) -> Watcher:
        """The same watcher; caches are recorded as soon as they are made, since a run may be killed later."""

        def watch(event: ProgressEvent) -> None:
            watcher(event)
            if isinstance(event, ModelLoaded):
                with suppress(Exception):  # hours of training must not end for this; __exit__ tries again
                    self.record()

        return watch

    def record(self) -> int:
        """Write down what the caches in the image folders were made from that this run has made; how many are new."""
        needs = [each for each in list_expected_caches(self.of.plan, self._current_dataset()) if each.present]
        if not needs:
            return 0
        with FileHasher(self.scanning.store) as hasher:
            settings = complete_settings(self.of, needs, self.scanning, hasher)
            return sum(self._record_folder(each, settings[each.settings], hasher) for each in needs)

    def _record_folder(self, each: ExpectedFolderCaches, settings: CacheSettings, hasher: FileHasher) -> int:
        folder = self.of.folder / each.folder.path
        caches = hasher.of(folder, each.folder.caches)
        known, present = read_cache_origins(folder), {digest.sha256 for digest in caches.values() if digest}
        kept, count = {sha256: several for sha256, several in known.items() if sha256 in present}, 0
        for need, sha256, origin in self._iter_made(each, caches, hasher):
            completed = origin._replace(settings=settings)
            if completed not in kept.get(sha256, ()) and _has_right_content(folder / need.cache, need):
                kept[sha256] = (*kept.get(sha256, ()), completed)
                count += 1
        if kept != known:
            with suppress(OSError):  # then their origin stays unknown, which S19 reports
                write_cache_origins(folder, kept)
        return count

    def _iter_made(
        self, each: ExpectedFolderCaches, caches: Digests, hasher: FileHasher
    ) -> Iterator[tuple[ExpectedCache, str, CacheOrigin]]:
        """The caches that this run made, by their SHA-256, of images and captions that have not changed since its
        start.
        """
        latents, ending = each.kind == "latents", each.folder.caption_extension
        index = each.index if each.table == "concept" else len(self.of.dataset.concepts) + each.index
        caches_before = self._digests_at_start("caches", index)
        sources_before = self._digests_at_start(each.table, each.index)
        names = [need.image.name if latents else file_stem(need.image.name) + ending for need in each.present]
        sources = hasher.of(self.of.folder / each.folder.path, names)
        for need, name in zip(each.present, names, strict=True):
            cache, source = caches[need.cache], sources[name]
            sha256 = source.sha256 if source else None
            certain = sha256 is not None if latents else need.image.caption.borrowed_from is None
            unchanged = sources_before.get(escape_undecodable(name)) == sha256
            if cache and caches_before.get(escape_undecodable(need.cache)) != cache.sha256 and certain and unchanged:
                yield need, cache.sha256, need.origin._replace(source=need.origin.source or sha256 or "")

    def _digests_at_start(self, role: InputRole, index: int) -> dict[str, str]:
        return {
            file.name: file.sha256
            for one in self.start.inputs
            if (one.role, one.index) == (role, index)
            for file in one.files
        }

    def _current_dataset(self) -> DatasetFacts:
        """The folders with the caches that they now contain."""

        def update(folder: FolderFacts) -> FolderFacts:
            return replace(folder, caches=list_folder(self.of.folder / folder.path, CAPTION_EXTENSION).caches)

        dataset = self.of.dataset
        return replace(
            dataset,
            concepts=tuple(map(update, dataset.concepts)),
            regularization=tuple(map(update, dataset.regularization)),
        )


def make_cache_recorder(examination: CheckResult, request: LaunchRequest, scanning: ScanOptions) -> CacheRecorder:
    """What keeps where the caches of this run come from."""
    recipe, _ = examination.planned()
    start = request.provenance.inputs
    here = replace(scanning, commit=request.trainer.commit or "", root=request.root)
    of = CacheContext(recipe, request.plan, examination.dataset, examination.loaded.folder)
    return CacheRecorder(of, start, here)


def _has_right_content(path: Path, need: ExpectedCache) -> bool:
    """Whether it is what sd-scripts makes of the image or caption that the plan was made for."""
    settings, image = need.origin.settings, need.image
    if settings.kind == "text":
        return detect_cache_content(path) == "text"
    return has_latents(
        path,
        (image.width, image.height),
        need.origin.bucket,
        flipped=settings.flip_aug,
        masked=settings.alpha_mask,
    )


def refresh_caches(
    first: CheckResult, again: Callable[[], CheckResult], allowed: Callable[[Sequence[Path]], None]
) -> tuple[CheckResult, tuple[Message, ...]]:
    """Delete a recipe's stale caches and check it again; returns the result and what was deleted.

    Deletes nothing while anything else prevents the run. ``allowed`` raises MachineError if files in these folders may
    not be deleted. Raises MachineError for a file that cannot be deleted, too.
    """
    done = list[Message]()
    while {finding.rule for finding in first.errors} <= STALE_CACHE_RULES and not any(
        each.foreign for each in first.stale
    ):
        stale = list(_iter_stale_files(first))
        if stale:
            allowed([path for path, _ in stale])
        gone = [said for path, names in stale if (said := _delete_caches(path, names))]
        if not gone:
            break
        done += gone
        first = again()
    return first, tuple(done)


def _iter_stale_files(of: CheckResult) -> Iterator[tuple[Path, dict[str, CacheKind]]]:
    """The files in the way, folder by folder."""
    if of.recipe is None or of.base is None:
        return
    suffix = resolve_family(of.recipe, of.base).latent_cache_suffix
    believed = of.recipe.kohya.get("cache_info") is not True
    for table, folders in (("concept", of.dataset.concepts), ("regularization", of.dataset.regularization)):
        for index, folder in enumerate(folders):
            names: dict[str, CacheKind] = {}
            if believed:
                names |= dict.fromkeys(find_missizing_caches(folder, suffix), "latents")
            names |= {
                each.cache: each.kind
                for each in of.stale
                if (each.table, each.index) == (table, index) and not each.foreign
            }
            if names:
                yield of.loaded.folder / folder.path, names


def _delete_caches(folder: Path, names: Mapping[str, CacheKind]) -> Message | None:
    """Deletes those of these files that are caches by content, and returns what was deleted."""
    gone = list[str]()
    for name, kind in names.items():
        path = folder / name
        if detect_cache_content(path) not in {kind, "torn"}:
            continue
        try:
            path.unlink()
        except OSError as error:
            why = error.strerror or str(error)
            raise MachineError(
                msg("cannot delete {path}: {why}", path=path, why=why), msg("delete it yourself, or ask its owner")
            ) from error
        gone.append(name)
    if not gone:
        return None
    first = shorten_list(gone, NAMES_SHOWN, literal)
    return nmsg(
        len(gone),
        "--refresh-cache deleted {n} outdated cache in {folder}: {names}",
        "--refresh-cache deleted {n} outdated caches in {folder}: {names}",
        folder=folder,
        names=first,
    )
