"""What lorabake does about sd-scripts' caches: it remembers what each was made from, and deletes those that do not fit.

Nothing else is ever deleted beside the user's pictures, and this only when --refresh-cache asks for it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Self

from lorabake.analysis.cache_check import CacheContext, compute_cache_settings
from lorabake.analysis.check import CheckResult
from lorabake.errors import MachineError
from lorabake.inputs import captions
from lorabake.inputs.cache_content import detect_cache_content, has_latents, has_text_outputs, read_metadata_cache
from lorabake.inputs.cache_provenance import CacheIndex, Origins, OriginStore, merge_origins
from lorabake.inputs.folders import file_stem, list_folder
from lorabake.jobs.display import Watcher
from lorabake.planning.expected_caches import ExpectedCache, ExpectedFolderCaches, list_expected_caches
from lorabake.runs.launch_request import LaunchRequest
from lorabake.util.files import is_file
from lorabake.util.hashing import Digests, FileHasher
from lorabake_schemas.cache_origins import CacheKind, CacheOrigin, CacheSettings
from lorabake_schemas.caches import find_missizing_caches
from lorabake_schemas.dataset import CAPTION_EXTENSION, DatasetFacts, FolderFacts, ImageFacts
from lorabake_schemas.events import ModelLoaded, ProgressEvent
from lorabake_schemas.guide.defaults import resolve_family
from lorabake_schemas.messages import Message, escape_undecodable, join_list, literal, msg
from lorabake_schemas.record import Inputs

STALE_CACHE_RULES = frozenset({"S19", "S19.sizes"})  # the errors that deleting caches can mend
NAMES_SHOWN = 3


@dataclass(frozen=True)
class CacheRecorder:
    """Remembers the caches of one run: ``start`` is what the run was made from as it was hashed before it started."""

    of: CacheContext
    start: Inputs
    memory: CacheIndex
    recorded_caches: set[tuple[str, ExpectedCache, str]] = field(
        default_factory=set[tuple[str, ExpectedCache, str]]
    )  # folder, cache, its SHA-256

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """However the run has ended: the caches are there."""
        self()

    def __call__(self) -> int:
        """How many caches were entered. Called when they are made, and once more when the run is over."""
        needs = list_expected_caches(self.of.plan, _with_current_caches(self.of))
        if not needs or self.memory.origins is None:
            return 0
        count, conditions = 0, dict[CacheSettings, CacheSettings]()
        with FileHasher(self.memory.facts) as fingerprints, OriginStore(self.memory.origins) as store:
            for each in needs:
                names = tuple(dict.fromkeys(need.cache for need in each.present))
                digests = fingerprints.of(self.of.folder / each.images, names)
                there = self._caches_at_start(each)
                new = [
                    need
                    for need in each.present
                    if (cache := digests[need.cache])
                    and there.get(escape_undecodable(need.cache)) != cache.sha256
                    and (each.identity, need, cache.sha256) not in self.recorded_caches
                ]
                if not new:
                    continue
                conditions = conditions or compute_cache_settings(self.of, needs, self.memory)
                made = self._find_certain_origins(each, new, conditions[each.conditions], digests, fingerprints)
                store.keep(
                    each.identity,
                    merge_origins(_origins_by_digest(made), self._known_origins(each, store, fingerprints)),
                )
                self.recorded_caches.update((each.identity, need, sha) for need, sha, _ in made)
                count += len(made)
        return count

    def watching(self, watcher: Watcher) -> Watcher:
        """The same watcher, and the caches are remembered as soon as they are made: a run may be killed later on."""

        def watch(event: ProgressEvent) -> None:
            watcher(event)
            if isinstance(event, ModelLoaded):
                with suppress(Exception):  # hours of training must not end for want of a memory; __exit__ tries again
                    self()

        return watch

    def _known_origins(self, each: ExpectedFolderCaches, store: OriginStore, fingerprints: FileHasher) -> Origins:
        """What is known of all caches that still lie in the folder, those of other recipes among them."""
        digests = fingerprints.of(self.of.folder / each.images, sorted(each.there))
        return store.known(each.identity, [digest.sha256 for digest in digests.values() if digest])

    def _find_certain_origins(
        self,
        each: ExpectedFolderCaches,
        new: Sequence[ExpectedCache],
        now: CacheSettings,
        caches: Digests,
        fingerprints: FileHasher,
    ) -> list[tuple[ExpectedCache, str, CacheOrigin]]:
        """New caches of which it is certain what they were made from, by their SHA-256."""
        folder, began = self.of.folder / each.images, self._began(each)
        facts = _folder_facts(self.of.dataset, each)
        images = {image.name: image for image in facts.images}
        names = [need.picture if each.kind == "latents" else self._caption_name(need.picture) for need in new]
        sources = fingerprints.of(folder, tuple(dict.fromkeys(names)))
        found = list[tuple[ExpectedCache, str, CacheOrigin]]()
        for need, name in zip(new, names, strict=True):
            source, cache = sources[name], caches[need.cache]
            same = began.get(escape_undecodable(name)) == (source.sha256 if source else None)
            if not same or cache is None:  # it was edited while the run went on
                continue
            path = folder / need.cache
            if each.kind == "text":
                certain = has_text_outputs(path) and self._is_caption_unchanged(images[need.picture], folder)
            else:
                certain = source is not None and _contains_latents(path, need, images[need.picture], now)
            if certain:
                sha = need.origin.source or (source.sha256 if source else "")
                found.append((need, cache.sha256, replace(need.origin, source=sha, conditions=now)))
        return found

    def _began(self, each: ExpectedFolderCaches) -> dict[str, str]:
        """The digests of the folder's files as they were when the run started."""
        return {
            file.name: file.sha256
            for one in self.start.inputs
            if one.role == each.table and one.index == each.index
            for file in one.files
        }

    def _caches_at_start(self, each: ExpectedFolderCaches) -> dict[str, str]:
        """The digests of the caches that lay there when the run started: it did not make these."""
        index = each.index if each.table == "concept" else len(self.of.dataset.concepts) + each.index
        return {
            file.name: file.sha256
            for one in self.start.inputs
            if one.role == "caches" and one.index == index
            for file in one.files
        }

    def _caption_name(self, picture: str) -> str:
        return file_stem(picture) + self._caption_extension

    @property
    def _caption_extension(self) -> str:
        return self.of.recipe.captions.caption_extension or CAPTION_EXTENSION

    def _is_caption_unchanged(self, image: ImageFacts, folder: Path) -> bool:
        """Whether the caption is what it was when the plan was made. One that is borrowed from afar is not followed."""
        return (
            image.caption.borrowed_from is None
            and captions.read_caption(str(folder / image.name), self._caption_extension) == image.caption
        )


def make_cache_recorder(examination: CheckResult, request: LaunchRequest, memory: CacheIndex) -> CacheRecorder:
    """What remembers the caches of this run; of a rehearsal, which makes none, and of one whose inputs are not known,
    it remembers nothing."""
    recipe, _ = examination.planned()
    start = request.provenance.inputs
    here = replace(memory, commit=request.trainer.commit or "", root=request.root)
    of = CacheContext(recipe, request.plan, examination.dataset, examination.loaded.folder)
    return CacheRecorder(of, start, replace(here, origins=None) if request.rehearsal else here)


def _origins_by_digest(made: Iterable[tuple[ExpectedCache, str, CacheOrigin]]) -> dict[str, tuple[CacheOrigin, ...]]:
    """Several may have come out alike."""
    found: dict[str, tuple[CacheOrigin, ...]] = {}
    for _, sha, origin in made:
        found[sha] = (*found.get(sha, ()), origin)
    return found


def _contains_latents(path: Path, need: ExpectedCache, image: ImageFacts, now: CacheSettings) -> bool:
    """Whether it is what sd-scripts makes of the picture as it was when the plan was made."""
    return has_latents(
        path, (image.width, image.height), need.origin.bucket, flipped=now.flip_aug, masked=now.alpha_mask
    )


def _with_current_caches(of: CacheContext) -> DatasetFacts:
    """The folders with the caches that lie in them by now."""

    def anew(folder: FolderFacts) -> FolderFacts:
        return replace(folder, caches=list_folder(of.folder / folder.path, CAPTION_EXTENSION).caches)

    return replace(
        of.dataset,
        concepts=tuple(map(anew, of.dataset.concepts)),
        regularization=tuple(map(anew, of.dataset.regularization)),
    )


def _folder_facts(dataset: DatasetFacts, each: ExpectedFolderCaches) -> FolderFacts:
    return (dataset.concepts if each.table == "concept" else dataset.regularization)[each.index]


def refresh_caches(
    first: CheckResult, again: Callable[[], CheckResult], allowed: Callable[[Sequence[Path]], None]
) -> tuple[CheckResult, tuple[Message, ...]]:
    """The recipe examined anew after its stale caches were deleted, and what was deleted.

    Nothing is deleted while anything else stands in the way of the run; ``allowed`` raises MachineError where it may
    not be in these folders. Raises MachineError for a file that cannot be deleted, too.
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
    """Folder by folder, what is in the way by name."""
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
    """What was deleted of these: caches only, by their content, whatever they are called."""
    gone = list[str]()
    for name, kind in names.items():
        path = folder / name
        if not _is_cache(path, kind):
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
    first = join_list([*map(literal, gone[:NAMES_SHOWN]), *(["..."] if len(gone) > NAMES_SHOWN else [])])
    return msg(
        "--refresh-cache: deleted invalid caches in {folder}: {names} ({n})",
        n=len(gone),
        folder=folder,
        names=first,
    )


def _is_cache(path: Path, kind: CacheKind) -> bool:
    if kind == "info":
        with suppress(FileNotFoundError):
            return read_metadata_cache(path) is not None
        return False
    return is_file(path) and detect_cache_content(path) in {kind, "torn"}
