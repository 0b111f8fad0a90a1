"""What lorabake does about sd-scripts' caches: it remembers what each was made from, and deletes those that do not fit.

Nothing else is ever deleted beside the user's pictures, and this only when --refresh-cache asks for it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Self

from lorabake.cache_look import Cached, completed
from lorabake.errors import MachineError
from lorabake.examine import Examination
from lorabake.files import is_file
from lorabake.planning.cache_needs import FolderNeeds, Need, cache_needs
from lorabake.reading import captions
from lorabake.reading.cache_files import content_of, holds_latents, holds_text, read_info
from lorabake.reading.cache_origins import CacheMemory, Origins, OriginStore, with_new
from lorabake.reading.fingerprints import Digests, Fingerprints
from lorabake.reading.folders import listing, stem
from lorabake.runs.happenings import ModelLoaded, ProgressEvent
from lorabake.runs.request import LaunchRequest
from lorabake_schemas.cache_origins import CacheKind, Conditions, Origin
from lorabake_schemas.caches import cache_suffix, misnaming
from lorabake_schemas.dataset import CAPTION_EXTENSION, DatasetFacts, FolderFacts, ImageFacts
from lorabake_schemas.defaults import family_of
from lorabake_schemas.record import Inputs
from lorabake_schemas.words import Said, joined, legible, quoted, say, told

RULES = frozenset({"S19", "S19.sizes"})  # the errors that deleting caches can mend
SHOWN = 3
Watcher = Callable[[ProgressEvent], None]


@dataclass(frozen=True)
class Keeper:
    """Remembers the caches of one run: ``start`` is what the run was made from as it was hashed before it started."""

    of: Cached
    start: Inputs
    memory: CacheMemory
    entered: set[tuple[str, Need, str]] = field(
        default_factory=set[tuple[str, Need, str]]
    )  # folder, cache, its SHA-256

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """However the run has ended: the caches are there."""
        self()

    def __call__(self) -> int:
        """How many caches were entered. Called when they are made, and once more when the run is over."""
        needs = cache_needs(self.of.plan, _as_it_is(self.of))
        if not needs or self.memory.origins is None:
            return 0
        count, conditions = 0, dict[Conditions, Conditions]()
        with Fingerprints(self.memory.facts) as fingerprints, OriginStore(self.memory.origins) as store:
            for each in needs:
                names = tuple(dict.fromkeys(need.cache for need in each.present))
                digests = fingerprints.of(self.of.folder / each.images, names)
                there = self._there_before(each)
                new = [
                    need
                    for need in each.present
                    if (cache := digests[need.cache])
                    and there.get(legible(need.cache)) != cache.sha256
                    and (each.identity, need, cache.sha256) not in self.entered
                ]
                if not new:
                    continue
                conditions = conditions or completed(self.of, needs, self.memory)
                made = self._made(each, new, conditions[each.conditions], digests, fingerprints)
                store.keep(each.identity, with_new(_by_cache(made), self._kept(each, store, fingerprints)))
                self.entered.update((each.identity, need, sha) for need, sha, _ in made)
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

    def _kept(self, each: FolderNeeds, store: OriginStore, fingerprints: Fingerprints) -> Origins:
        """What is known of all caches that still lie in the folder, those of other recipes among them."""
        digests = fingerprints.of(self.of.folder / each.images, sorted(each.there))
        return store.known(each.identity, [digest.sha256 for digest in digests.values() if digest])

    def _made(
        self, each: FolderNeeds, new: Sequence[Need], now: Conditions, caches: Digests, fingerprints: Fingerprints
    ) -> list[tuple[Need, str, Origin]]:
        """New caches of which it is certain what they were made from, by their SHA-256."""
        folder, began = self.of.folder / each.images, self._began(each)
        facts = _facts(self.of.dataset, each)
        images = {image.name: image for image in facts.images}
        names = [need.picture if each.kind == "latents" else self._caption(need.picture) for need in new]
        sources = fingerprints.of(folder, tuple(dict.fromkeys(names)))
        found = list[tuple[Need, str, Origin]]()
        for need, name in zip(new, names, strict=True):
            source, cache = sources[name], caches[need.cache]
            same = began.get(legible(name)) == (source.sha256 if source else None)
            if not same or cache is None:  # it was edited while the run went on
                continue
            path = folder / need.cache
            if each.kind == "text":
                certain = holds_text(path) and self._still(images[need.picture], folder)
            else:
                certain = source is not None and _holds(path, need, images[need.picture], now)
            if certain:
                sha = need.origin.source or (source.sha256 if source else "")
                found.append((need, cache.sha256, replace(need.origin, source=sha, conditions=now)))
        return found

    def _began(self, each: FolderNeeds) -> dict[str, str]:
        """The digests of the folder's files as they were when the run started."""
        return {
            file.name: file.sha256
            for one in self.start.inputs
            if one.role == each.table and one.index == each.index
            for file in one.files
        }

    def _there_before(self, each: FolderNeeds) -> dict[str, str]:
        """The digests of the caches that lay there when the run started: it did not make these."""
        index = each.index if each.table == "concept" else len(self.of.dataset.concepts) + each.index
        return {
            file.name: file.sha256
            for one in self.start.inputs
            if one.role == "caches" and one.index == index
            for file in one.files
        }

    def _caption(self, picture: str) -> str:
        return stem(picture) + self._ending

    @property
    def _ending(self) -> str:
        return self.of.recipe.captions.caption_extension or CAPTION_EXTENSION

    def _still(self, image: ImageFacts, folder: Path) -> bool:
        """Whether the caption is what it was when the plan was made. One that is borrowed from afar is not followed."""
        return (
            image.caption.borrowed_from is None
            and captions.read(str(folder / image.name), self._ending) == image.caption
        )


def keeper(examination: Examination, request: LaunchRequest, memory: CacheMemory) -> Keeper:
    """What remembers the caches of this run; of a rehearsal, which makes none, and of one whose inputs are not known,
    it remembers nothing."""
    recipe, _ = examination.planned()
    start = request.provenance.inputs if request.provenance else Inputs(inputs=())
    here = replace(memory, commit=request.trainer.commit or "", root=request.root)
    of = Cached(recipe, request.plan, examination.dataset, examination.loaded.folder)
    return Keeper(of, start, replace(here, origins=None) if request.rehearsal else here)


def _by_cache(made: Iterable[tuple[Need, str, Origin]]) -> dict[str, tuple[Origin, ...]]:
    """Several may have come out alike."""
    found: dict[str, tuple[Origin, ...]] = {}
    for _, sha, origin in made:
        found[sha] = (*found.get(sha, ()), origin)
    return found


def _holds(path: Path, need: Need, image: ImageFacts, now: Conditions) -> bool:
    """Whether it is what sd-scripts makes of the picture as it was when the plan was made."""
    return holds_latents(
        path, (image.width, image.height), need.origin.bucket, flipped=now.flip_aug, masked=now.alpha_mask
    )


def _as_it_is(of: Cached) -> DatasetFacts:
    """The folders with the caches that lie in them by now."""

    def anew(folder: FolderFacts) -> FolderFacts:
        return replace(folder, caches=listing(of.folder / folder.path, CAPTION_EXTENSION).caches)

    return replace(
        of.dataset,
        concepts=tuple(map(anew, of.dataset.concepts)),
        regularisation=tuple(map(anew, of.dataset.regularisation)),
    )


def _facts(dataset: DatasetFacts, each: FolderNeeds) -> FolderFacts:
    return (dataset.concepts if each.table == "concept" else dataset.regularisation)[each.index]


def refreshed(
    first: Examination, again: Callable[[], Examination], allowed: Callable[[Sequence[Path]], None]
) -> tuple[Examination, tuple[Said, ...]]:
    """The recipe examined anew after its stale caches were deleted, and what was deleted.

    Nothing is deleted while anything else stands in the way of the run; ``allowed`` raises MachineError where it may
    not be in these folders. Raises MachineError for a file that cannot be deleted, too.
    """
    done = list[Said]()
    while {finding.rule for finding in first.errors} <= RULES and not any(each.foreign for each in first.stale):
        stale = list(_stale_files(first))
        if stale:
            allowed([path for path, _ in stale])
        gone = [said for path, names in stale if (said := _deleted(path, names))]
        if not gone:
            break
        done += gone
        first = again()
    return first, tuple(done)


def _stale_files(of: Examination) -> Iterator[tuple[Path, dict[str, CacheKind]]]:
    """Folder by folder, what is in the way by name."""
    if of.recipe is None or of.base is None:
        return
    suffix = cache_suffix(family_of(of.recipe, of.base))
    believed = of.recipe.kohya.get("cache_info") is not True
    for table, folders in (("concept", of.dataset.concepts), ("regularisation", of.dataset.regularisation)):
        for index, folder in enumerate(folders):
            names: dict[str, CacheKind] = {}
            if believed:
                names |= dict.fromkeys(misnaming(folder, suffix), "latents")
            names |= {
                each.cache: each.kind
                for each in of.stale
                if (each.table, each.index) == (table, index) and not each.foreign
            }
            if names:
                yield of.loaded.folder / folder.path, names


def _deleted(folder: Path, names: Mapping[str, CacheKind]) -> Said | None:
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
                say("cannot delete {path}: {why}", path=path, why=why), say("delete it yourself, or ask its owner")
            ) from error
        gone.append(name)
    if not gone:
        return None
    first = joined([*map(quoted, gone[:SHOWN]), *(["..."] if len(gone) > SHOWN else [])])
    return told(
        len(gone),
        "--refresh-cache: deleted {n} cache that does not fit from {folder}: {names}",
        "--refresh-cache: deleted {n} caches that do not fit from {folder}: {names}",
        folder=folder,
        names=first,
    )


def _is_cache(path: Path, kind: CacheKind) -> bool:
    if kind == "info":
        with suppress(FileNotFoundError):
            return read_info(path) is not None
        return False
    return is_file(path) and content_of(path) in {kind, "torn"}


__all__ = ["Keeper", "keeper", "refreshed"]
