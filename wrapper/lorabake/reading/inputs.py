"""What a run is made from, every file by SHA-256: listed anew by the same rule whenever it is to be compared."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

from lorabake.reading import captions
from lorabake.reading.fact_store import is_file
from lorabake.reading.fingerprints import Digests, Files, Fingerprints
from lorabake.reading.folders import LOWER, listing, stem
from lorabake.reading.hub import TOKENIZERS, snapshot, tokenizer_ids
from lorabake.reading.paths import hub_ids, recipe_paths, spellings
from lorabake_schemas.caches import cache_suffix, missized, reused, size_givers
from lorabake_schemas.dataset import CAPTION_EXTENSION, DatasetFacts, FolderFacts
from lorabake_schemas.plan import Plan
from lorabake_schemas.recipe import Concept, Recipe, Regularisation
from lorabake_schemas.record import Input, Inputs, Role
from lorabake_schemas.words import legible

Kind = Literal["file", "folder", "hub", "missing"]
PICTURES = tuple(ending for lower in LOWER for ending in (lower, lower.upper()))  # TU:104, as folders.SEEN
DATA: tuple[Role, ...] = ("concept", "regularisation")  # folders of pictures: PICTURES, then the captions' ending
TOKENIZER = (".json", ".txt")  # what a tokenizer is read from; a repository may hold a model beside it
TEXT_CACHE, SIZE_CACHE = "_te_outputs.npz", "metadata_cache.json"  # strategy_sdxl.py:223, TU:1897
EXACTLY_THESE: tuple[str, ...] = ()
MODEL_FILES = 5_000  # a diffusers model in all its variants has about a hundred


@dataclass(frozen=True, slots=True)
class Ingredients:
    """What is known of a run that is about to start.

    ``folder`` is the recipe's, ``root`` the run folder, which need not exist yet; ``env`` tells where the hub's files
    lie. ``weights`` False leaves out what a rehearsal does not read: models, networks and tokenizers.
    """

    recipe: Recipe
    plan: Plan
    dataset: DatasetFacts
    folder: Path
    root: Path
    env: Mapping[str, str]
    weights: bool = True


class Source(NamedTuple):
    """One of them before it is hashed, and which files count."""

    asked: Input
    files: Files

    def hashed(self, digests: Digests) -> Input:
        found = (digests[name] for name in self.files.names)
        return self.asked.model_copy(update={"files": tuple(digest for digest in found if digest)})


def inputs(of: Ingredients, fingerprints: Fingerprints) -> Inputs:
    """Everything that a run is made from, in the order of record.Role. A file that cannot be read is left out."""
    return Inputs(inputs=_hashed([*_weights(of), *_data(of)], fingerprints))


def again(one: Input, root: Path, fingerprints: Fingerprints, env: Mapping[str, str]) -> Input:
    """The same place as it is now, seen from the run folder."""
    return every_again([one], root, fingerprints, env)[0]


def every_again(
    several: Sequence[Input], root: Path, fingerprints: Fingerprints, env: Mapping[str, str]
) -> tuple[Input, ...]:
    """The same for several, which share one progress."""
    return _hashed([_anew(one, root, env) for one in several], fingerprints)


def _hashed(sources: Sequence[Source], fingerprints: Fingerprints) -> tuple[Input, ...]:
    digests = fingerprints.many([source.files for source in sources])
    return tuple(source.hashed(found) for source, found in zip(sources, digests, strict=True))


def _anew(one: Input, root: Path, env: Mapping[str, str]) -> Source:
    if one.endings != EXACTLY_THESE:
        return _source(one, root, env)
    folder = Path(on_disk(seen_from(root, one.place)))
    return _exactly(one, folder, [on_disk(file.name, folder) for file in one.files])


def _exactly(one: Input, folder: Path, names: Sequence[str]) -> Source:
    kind = "folder" if os.path.isdir(folder) else "missing"  # noqa: PTH112 - never raises
    return Source(one.model_copy(update={"kind": kind}), Files(folder, names))


def _weights(of: Ingredients) -> Iterator[Source]:
    """Models, networks and tokenizers, then a network's preset."""
    recipe, tokenizers = of.recipe, of.recipe.base.tokenizer_cache_dir
    several = recipe.kohya.get("base_weights")
    named: list[tuple[Role, int, str | None]] = [
        ("base", 0, recipe.base.model),
        ("vae", 0, recipe.base.vae),
        ("network_weights", 0, recipe.network.network_weights),
        *(("base_weights", at, str(name)) for at, name in enumerate(several if isinstance(several, tuple) else ())),
    ]
    places = _spelt(of, recipe_paths(recipe))
    asked = list[Input]()
    for role, index, name in named:
        if name is not None:
            kind: Kind = "missing" if name in places else "hub"
            asked.append(Input(role=role, index=index, name=name, place=places.get(name, name), kind=kind))
    if tokenizers:
        for index, folder in enumerate(TOKENIZERS[of.plan.family]):
            place = f"{places[tokenizers]}/{folder}"
            asked.append(Input(role="tokenizer", index=index, name=tokenizers, place=place, kind="missing"))
    else:
        for index, name in enumerate(tokenizer_ids(of.plan.family)):
            asked.append(Input(role="tokenizer", index=index, name=name, place=name, kind="hub", endings=TOKENIZER))
    if not of.weights:
        asked.clear()
    if preset := of.plan.own_preset:
        place = _spelt(of, (preset,))[preset]
        asked.append(Input(role="preset", name=preset, place=place, kind="missing"))
    return (_source(each, of.root, of.env) for each in asked)


def _data(of: Ingredients) -> Iterator[Source]:
    """Pictures with their captions, then the caches beside them."""
    recipe, asked = of.recipe, list[Input]()
    endings = (*PICTURES, recipe.captions.caption_extension or CAPTION_EXTENSION)
    places = _spelt(of, recipe_paths(recipe))
    folders: tuple[tuple[Role, Sequence[Concept | Regularisation]], ...] = (
        ("concept", recipe.concept),
        ("regularisation", recipe.regularisation),
    )
    for role, parts in folders:
        for index, part in enumerate(parts):
            place = places[part.images]
            asked.append(Input(role=role, index=index, name=part.images, place=place, kind="missing", endings=endings))
    yield from (_source(each, of.root, of.env) for each in asked)
    facts = (*of.dataset.concepts, *of.dataset.regularisation)
    for index, (each, known) in enumerate(zip(asked, facts, strict=True)):
        folder = Path(on_disk(seen_from(of.root, each.place)))
        names = [name for name in _caches(known, of.plan) if os.path.isfile(folder / name)]  # noqa: PTH113
        if names:
            update = {"role": "caches", "index": index, "endings": EXACTLY_THESE}
            yield _exactly(each.model_copy(update=update), folder, names)


def _caches(folder: FolderFacts, plan: Plan) -> list[str]:
    """What lies beside the pictures that sd-scripts reads instead of them, or that misleads it, by name."""
    suffix, found = cache_suffix(plan.family), set[str]()
    if folder.caches:
        wrong = frozenset(missized(folder, suffix))
        givers = zip(folder.images, size_givers(folder, suffix), strict=True)
        found.update(cache for image, cache in givers if cache and image.name in wrong)
        if plan.value("cache_latents_to_disk"):
            found.update(reused(folder, suffix))
        if plan.value("cache_text_encoder_outputs_to_disk"):
            texts = {stem(image.name) + TEXT_CACHE for image in folder.images}
            found.update(texts & frozenset(folder.caches))
    if plan.value("cache_info"):
        found.add(SIZE_CACHE)
    return sorted(found)


def _spelt(of: Ingredients, paths: Sequence[str]) -> dict[str, str]:
    return spellings(paths, of.folder, of.root, hub_ids(of.recipe))


def _source(one: Input, root: Path, env: Mapping[str, str]) -> Source:
    """What is at a place now; of the kind "hub" stays what was."""
    path = Path(on_disk(seen_from(root, one.place)))
    kind: Kind = "missing"
    files = Files(path, ())
    if one.kind == "hub":
        kind, found = "hub", snapshot(one.place, env)
        files = Files(found, _below(found, one.endings)) if found else files
    elif one.role in DATA and one.endings:
        kind, files = _pictures(path, one.place, root, one.endings[-1])
    elif os.path.isdir(path):  # noqa: PTH112 - never raises, whatever the disk refuses
        kind, files = "folder", Files(path, _below(path, one.endings))
    elif os.path.isfile(path):  # noqa: PTH113
        kind, files = "file", Files(path.parent, (path.name,))
    return Source(one.model_copy(update={"kind": kind}), files)


def _pictures(folder: Path, place: str, root: Path, caption: str) -> tuple[Kind, Files]:
    """The pictures of a folder and the captions that sd-scripts reads for them (S12; captions.legacy_path)."""
    found = listing(folder, caption)
    if found.problem is not None:
        return "missing", Files(folder, ())
    names = set(found.pictures)
    for picture in found.pictures:
        own = stem(picture) + caption
        if is_file(found.stamps.get(own)):
            names.add(own)
        elif other := captions.legacy_path(f"{place}/{picture}", caption):  # as the trainer sees it, not absolute
            path = seen_from(root, other)
            if os.path.isfile(path):  # noqa: PTH113
                names.add(Path(os.path.relpath(path, folder)).as_posix())
    return "folder", Files(folder, sorted(names), found.stamps)


def _below(folder: Path, endings: Sequence[str] | None) -> tuple[str, ...]:
    """The files that count in a folder: those with such an ending right in it, or all at any depth.

    Nothing hidden counts (.git, .cache, .DS_Store). Links are followed, but never round in a circle. A folder with more
    files than MODEL_FILES at any depth is not a model's, and nothing in it counts: a record that somebody else made may
    name the whole disk.
    """
    if endings is not None:
        right = (entry for entry in _entries(folder) if entry.name.endswith(tuple(endings)))
        return tuple(sorted(entry.name for entry in right if os.path.isfile(entry)))  # noqa: PTH113 - a link to itself
    found, ahead, seen = list[str](), [""], set[tuple[int, int]]()
    while ahead:
        inside = ahead.pop()
        if len(found) + len(ahead) > MODEL_FILES:
            return ()
        for entry in _entries(folder / inside):
            name = f"{inside}/{entry.name}" if inside else entry.name
            try:
                if entry.is_file():
                    found.append(name)
                elif entry.is_dir() and (which := _which(entry)) not in seen:
                    seen.add(which)
                    ahead.append(name)
            except OSError:  # a link to itself
                continue
    return tuple(sorted(found))


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return [entry for entry in entries if not entry.name.startswith(".")]
    except OSError:
        return []


def _which(entry: os.DirEntry[str]) -> tuple[int, int]:
    state = entry.stat()
    return state.st_dev, state.st_ino


def seen_from(root: Path, place: str) -> str:
    """An absolute path for what the compiled files name from the run folder; it need not exist (paths.spellings)."""
    start = root.parent.resolve() / root.name
    return os.path.normpath(start / place)


def on_disk(path: str, folder: Path | None = None) -> str:
    """A path whose odd bytes a record has spelt out (words.legible), as the file system has it."""
    if "\\udc" not in path or os.path.lexists(os.path.join(folder or "", path)):  # noqa: PTH118 - text
        return path
    whole = ""
    for part in path.split("/"):
        there = Path(folder or "/", whole)
        whole = os.path.join(whole, part)  # noqa: PTH118 - text
        if not os.path.exists(there / part):  # noqa: PTH110 - what cannot be looked at is not there
            names = [entry.name for entry in _entries(there) if legible(entry.name) == part]
            whole = os.path.join(os.path.dirname(whole), *names[:1] or [part])  # noqa: PTH118, PTH120 - text
    return f"/{whole}" if folder is None and not whole.startswith("/") else whole


__all__ = ["DATA", "PICTURES", "TOKENIZER", "Ingredients", "again", "every_again", "inputs", "on_disk", "seen_from"]
