"""What a run is made from, every file by SHA-256: listed again by the same rule whenever it is compared."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

from lorabake.inputs import captions
from lorabake.inputs.folders import GLOB_EXTENSIONS, file_stem, list_folder
from lorabake.inputs.hub import find_hub_snapshot
from lorabake.recipe.paths import list_hub_ids, list_recipe_paths, resolve_run_paths
from lorabake.util.fact_cache import is_file_stamp
from lorabake.util.hashing import Digests, FileHasher, FileSet
from lorabake_schemas.caches import (
    CACHE_INFO_FILE,
    find_missized_images,
    find_reused_caches,
    match_size_caches,
    text_cache_name,
)
from lorabake_schemas.dataset import DatasetFacts, FolderFacts
from lorabake_schemas.families.registry import get_family
from lorabake_schemas.guide.caption_settings import resolve_caption_extension
from lorabake_schemas.messages import escape_undecodable
from lorabake_schemas.plan import Plan
from lorabake_schemas.recipe import Concept, Recipe, Regularization
from lorabake_schemas.record import Input, InputRole, Inputs

InputKind = Literal["file", "folder", "hub", "missing"]
DATASET_ROLES: tuple[InputRole, ...] = (
    "concept",
    "regularization",
)
TOKENIZER_SUFFIXES = (".json", ".txt")  # what a tokenizer is read from; a repository may have a model, too
LISTED_FILES_ONLY: tuple[str, ...] = ()
MODEL_FILE_LIMIT = 5_000  # a diffusers model in all its variants has about a hundred


@dataclass(frozen=True, slots=True)
class ManifestSpec:
    """What is known of a run that is about to start.

    ``folder`` is the recipe's, ``root`` the run folder, which need not exist yet; ``env`` has the place of the hub's
    files. ``weights`` False leaves out what a rehearsal does not read: models, networks and tokenizers.
    """

    recipe: Recipe
    plan: Plan
    dataset: DatasetFacts
    folder: Path
    root: Path
    env: Mapping[str, str]
    weights: bool = True


class InputSource(NamedTuple):
    """One input before it is hashed, and which files count."""

    asked: Input
    files: FileSet

    def with_digests(self, digests: Digests) -> Input:
        found = (digests[name] for name in self.files.names)
        return self.asked.model_copy(update={"files": tuple(digest for digest in found if digest)})


def hash_inputs(of: ManifestSpec, hasher: FileHasher) -> Inputs:
    """Everything that a run is made from, in the order of record.Role. A file that cannot be read is left out."""
    return Inputs(inputs=_hash_sources([*_iter_weight_sources(of), *_iter_data_sources(of)], hasher))


def rehash_inputs(
    several: Sequence[Input], root: Path, hasher: FileHasher, env: Mapping[str, str]
) -> tuple[Input, ...]:
    """The same places as they are now, seen from the run folder."""
    return _hash_sources([_relist_source(one, root, env) for one in several], hasher)


def _hash_sources(sources: Sequence[InputSource], hasher: FileHasher) -> tuple[Input, ...]:
    digests = hasher.hash_folders([source.files for source in sources])
    return tuple(source.with_digests(found) for source, found in zip(sources, digests, strict=True))


def _relist_source(one: Input, root: Path, env: Mapping[str, str]) -> InputSource:
    if one.endings != LISTED_FILES_ONLY:
        return _find_source(one, root, env)
    folder = Path(unescape_path(resolve_from_run(root, one.place)))
    return _make_listed_source(one, folder, [unescape_path(file.name, folder) for file in one.files])


def _make_listed_source(one: Input, folder: Path, names: Sequence[str]) -> InputSource:
    kind = "folder" if os.path.isdir(folder) else "missing"  # noqa: PTH112 - never raises
    return InputSource(one.model_copy(update={"kind": kind}), FileSet(folder, names))


def list_model_inputs(recipe: Recipe, plan: Plan, folder: Path, root: Path) -> list[Input]:
    """Models, networks and tokenizers, not yet hashed; ``folder`` is the recipe's, ``root`` the run folder."""
    tokenizers, encoders = recipe.base.tokenizer_cache_dir, get_family(plan.family).text_encoders
    several = recipe.kohya.get("base_weights")
    named: list[tuple[InputRole, int, str | None]] = [
        ("base", 0, recipe.base.model),
        ("vae", 0, recipe.base.vae),
        ("network_weights", 0, recipe.network.network_weights),
        *(("base_weights", at, str(name)) for at, name in enumerate(several if isinstance(several, tuple) else ())),
    ]
    places, asked = resolve_run_paths(list_recipe_paths(recipe), folder, root, list_hub_ids(recipe)), list[Input]()
    for role, index, name in named:
        if name is not None:
            kind: InputKind = "missing" if name in places else "hub"
            asked.append(Input(role=role, index=index, name=name, place=places.get(name, name), kind=kind))
    if tokenizers:
        for index, encoder in enumerate(encoders):
            place = f"{places[tokenizers]}/{encoder.tokenizer_cache}"
            asked.append(Input(role="tokenizer", index=index, name=tokenizers, place=place, kind="missing"))
    else:
        for index, name in enumerate(encoder.tokenizer_place for encoder in encoders):
            asked.append(
                Input(role="tokenizer", index=index, name=name, place=name, kind="hub", endings=TOKENIZER_SUFFIXES)
            )
    return asked


def _iter_weight_sources(of: ManifestSpec) -> Iterator[InputSource]:
    """Models, networks and tokenizers, then a network's preset."""
    asked = list_model_inputs(of.recipe, of.plan, of.folder, of.root) if of.weights else []
    if preset := of.plan.own_preset:
        place = _resolve_paths(of, (preset,))[preset]
        asked.append(Input(role="preset", name=preset, place=place, kind="missing"))
    return (_find_source(each, of.root, of.env) for each in asked)


def _iter_data_sources(of: ManifestSpec) -> Iterator[InputSource]:
    """Images with their captions, then the caches next to them."""
    recipe, asked = of.recipe, list[Input]()
    places = _resolve_paths(of, list_recipe_paths(recipe))
    folders: tuple[tuple[InputRole, Sequence[Concept | Regularization]], ...] = (
        ("concept", recipe.concept),
        ("regularization", recipe.regularization),
    )
    for role, parts in folders:
        for index, part in enumerate(parts):
            place = places[part.images]
            endings = (*GLOB_EXTENSIONS, resolve_caption_extension(part, recipe))
            asked.append(Input(role=role, index=index, name=part.images, place=place, kind="missing", endings=endings))
    facts = (*of.dataset.concepts, *of.dataset.regularization)
    for each, known in zip(asked, facts, strict=True):
        yield _find_listed_images(each, known, of.root) if known.metadata else _find_source(each, of.root, of.env)
    for index, concept in enumerate(recipe.concept):
        if name := concept.masks:
            one = Input(role="masks", index=index, name=name, place=places[name], kind="missing")
            yield _find_source(one.model_copy(update={"endings": GLOB_EXTENSIONS}), of.root, of.env)
        if name := concept.metadata_file:
            one = Input(role="metadata_file", index=index, name=name, place=places[name], kind="missing")
            yield _find_source(one, of.root, of.env)
    for index, (each, known) in enumerate(zip(asked, facts, strict=True)):
        folder = Path(unescape_path(resolve_from_run(of.root, each.place)))
        names = [name for name in _list_caches(known, of.plan) if os.path.isfile(folder / name)]  # noqa: PTH113
        if names:
            update = {"role": "caches", "index": index, "endings": LISTED_FILES_ONLY}
            yield _make_listed_source(each.model_copy(update=update), folder, names)


def _find_listed_images(asked: Input, known: FolderFacts, root: Path) -> InputSource:
    """The images of a metadata file, which may be in any folder."""
    folder = Path(unescape_path(resolve_from_run(root, asked.place)))
    one = asked.model_copy(update={"endings": LISTED_FILES_ONLY})
    return _make_listed_source(one, folder, sorted({image.name for image in known.images}))


def _list_caches(folder: FolderFacts, plan: Plan) -> list[str]:
    """The files next to the images that sd-scripts reads instead of them, or that mislead it, by name."""
    family, found = get_family(plan.family), set[str]()
    suffix = family.latent_cache_suffix
    if folder.caches:
        wrong = frozenset(find_missized_images(folder, suffix))
        givers = zip(folder.images, match_size_caches(folder, suffix), strict=True)
        found.update(cache for image, cache in givers if cache and image.name in wrong)
        if plan.value("cache_latents_to_disk"):
            found.update(find_reused_caches(folder, suffix))
        if plan.value("cache_text_encoder_outputs_to_disk"):
            texts = {text_cache_name(image.name, family.text_cache_suffix) for image in folder.images}
            found.update(texts & frozenset(folder.caches))
    if plan.value("cache_info"):
        found.add(CACHE_INFO_FILE)
    return sorted(found)


def _resolve_paths(of: ManifestSpec, paths: Sequence[str]) -> dict[str, str]:
    return resolve_run_paths(paths, of.folder, of.root, list_hub_ids(of.recipe))


def _find_source(one: Input, root: Path, env: Mapping[str, str]) -> InputSource:
    """What is now in a place; a source of the kind "hub" is not changed."""
    path = Path(unescape_path(resolve_from_run(root, one.place)))
    kind: InputKind = "missing"
    files = FileSet(path, ())
    if one.kind == "hub":
        kind, found = "hub", find_hub_snapshot(one.place, env)
        files = FileSet(found, _list_files(found, one.endings)) if found else files
    elif one.role in DATASET_ROLES and one.endings:
        kind, files = _list_images(path, one.place, root, one.endings[-1])
    elif os.path.isdir(path):  # noqa: PTH112 - never raises, whatever the disk refuses
        kind, files = "folder", FileSet(path, _list_files(path, one.endings))
    elif os.path.isfile(path):  # noqa: PTH113
        kind, files = "file", FileSet(path.parent, (path.name,))
    return InputSource(one.model_copy(update={"kind": kind}), files)


def _list_images(folder: Path, place: str, root: Path, caption: str) -> tuple[InputKind, FileSet]:
    """The images of a folder and the captions that sd-scripts reads for them (S12; captions.legacy_path)."""
    found = list_folder(folder, caption)
    if found.problem is not None:
        return "missing", FileSet(folder, ())
    names = set(found.images)
    for image in found.images:
        own = file_stem(image) + caption
        if is_file_stamp(found.stamps.get(own)):
            names.add(own)
        elif other := captions.legacy_caption_path(f"{place}/{image}", caption):  # as the trainer sees it, not absolute
            path = resolve_from_run(root, other)
            if os.path.isfile(path):  # noqa: PTH113
                names.add(Path(os.path.relpath(path, folder)).as_posix())
    return "folder", FileSet(folder, sorted(names), found.stamps)


def _list_files(folder: Path, endings: Sequence[str] | None) -> tuple[str, ...]:
    """The files that count in a folder: those with such an extension directly in it, or all at any depth.

    Hidden files never count (.git, .cache, .DS_Store). Links are followed, but never in a circle. A folder with more
    than MODEL_FILES files at any depth is not a model's, and nothing in it counts: a record from somebody else may name
    the whole disk.
    """
    if endings is not None:
        right = (entry for entry in _scan_entries(folder) if entry.name.endswith(tuple(endings)))
        return tuple(sorted(entry.name for entry in right if os.path.isfile(entry)))  # noqa: PTH113 - a link to itself
    found, ahead, seen = list[str](), [""], set[tuple[int, int]]()
    while ahead:
        inside = ahead.pop()
        if len(found) + len(ahead) > MODEL_FILE_LIMIT:
            return ()
        for entry in _scan_entries(folder / inside):
            name = f"{inside}/{entry.name}" if inside else entry.name
            try:
                if entry.is_file():
                    found.append(name)
                elif entry.is_dir() and (which := _file_identity(entry)) not in seen:
                    seen.add(which)
                    ahead.append(name)
            except OSError:  # a link to itself
                continue
    return tuple(sorted(found))


def _scan_entries(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return [entry for entry in entries if not entry.name.startswith(".")]
    except OSError:
        return []


def _file_identity(entry: os.DirEntry[str]) -> tuple[int, int]:
    state = entry.stat()
    return state.st_dev, state.st_ino


def resolve_from_run(root: Path, place: str) -> str:
    """An absolute path for what the compiled files name from the run folder; it need not exist (paths.spellings)."""
    start = root.parent.resolve() / root.name
    return os.path.normpath(start / place)


def unescape_path(path: str, folder: Path | None = None) -> str:
    """A path whose unusual bytes a record has escaped (words.legible), as the file system has it."""
    if "\\udc" not in path or os.path.lexists(os.path.join(folder or "", path)):  # noqa: PTH118 - text
        return path
    whole = ""
    for part in path.split("/"):
        there = Path(folder or "/", whole)
        whole = os.path.join(whole, part)  # noqa: PTH118 - text
        if not os.path.exists(there / part):  # noqa: PTH110 - what cannot be read counts as missing
            names = [entry.name for entry in _scan_entries(there) if escape_undecodable(entry.name) == part]
            whole = os.path.join(os.path.dirname(whole), *names[:1] or [part])  # noqa: PTH118, PTH120 - text
    return f"/{whole}" if folder is None and not whole.startswith("/") else whole
