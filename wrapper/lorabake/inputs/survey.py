"""The facts about a recipe's images and captions: its folders as it names them, and their captions' CLIP tokens."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from lorabake.inputs import clip_tokens
from lorabake.inputs.dataset import ImageFolder, ScanOptions, scan_captions, scan_folders
from lorabake.inputs.foreign_captions import find_foreign_captions
from lorabake.inputs.metadata_file import find_metadata_file
from lorabake.util.files import is_folder
from lorabake.util.path_case import match_case_insensitive, recipe_relative_path
from lorabake_schemas.dataset import CaptionProblem, DatasetFacts, FolderFacts, ImageFacts, LongCaption, MetadataOffer
from lorabake_schemas.guide.caption_settings import get_caption_text, has_wildcards, resolve_caption_extension
from lorabake_schemas.guide.defaults import resolve_token_limit
from lorabake_schemas.recipe import Concept, Recipe, Regularization
from lorabake_schemas.unjudged import UNKNOWN, evaluate_or_none

RecipeFolder = Concept | Regularization


def read_dataset(recipe: Recipe, folder: Path, scanning: ScanOptions) -> DatasetFacts:
    """Facts of every image folder, each named as the recipe names it; ``folder`` is the recipe's own.

    A folder whose key is wrong is UNKNOWN, and then no duplicates are searched for. Raises
    UnjudgedError where not even the captions' extension is known.
    """
    parts = (recipe.concept, evaluate_or_none(lambda: recipe.regularization) or ())
    known = [[part for part in table if evaluate_or_none(lambda part=part: part.images)] for table in parts]  # type: ignore[misc]
    concepts, others = ([describe_folder(part, recipe, folder) for part in table] for table in known)
    found = scan_folders(concepts, others, scanning)
    named = [
        _name_folders(recipe, folder, *both) for both in zip(known, (found.concepts, found.regularization), strict=True)
    ]
    whole = all(len(table) == len(those) for table, those in zip(parts, known, strict=True))
    tokens = [evaluate_or_none(lambda one=one: one.token) for one in recipe.concept]  # type: ignore[misc]
    words = dict.fromkeys(word for word in (*tokens, *map(_find_first_word, found.concepts)) if word)
    return replace(
        found,
        concepts=_fill_unknown(parts[0], named[0]),
        regularization=_fill_unknown(parts[1], named[1]),
        twins=found.twins if whole else (),
        known_tokens=tuple(filter(clip_tokens.is_known_word, words)),
    )


def read_captions(recipe: Recipe, folder: Path, scanning: ScanOptions) -> tuple[FolderFacts, ...]:
    """The captions of each concept's folder, whose ``path`` is absolute; ``folder`` is the recipe's own."""
    return scan_captions([describe_folder(part, recipe, folder) for part in recipe.concept], scanning)


def _find_first_word(folder: FolderFacts) -> str | None:
    """What all captions of a folder start with, which might be its token."""
    firsts = {text.partition(",")[0].strip() for image in folder.images for text in image.caption.texts}
    return firsts.pop() if len(firsts) == 1 else None


def describe_folder(part: RecipeFolder, recipe: Recipe, folder: Path) -> ImageFolder:
    """The folder of a concept or a regularization set, and how its captions are read; ``folder`` is the recipe's."""
    metadata, masks = (part.metadata_file, part.masks) if isinstance(part, Concept) else (None, None)
    return ImageFolder(
        folder / part.images,
        resolve_caption_extension(part, recipe),
        wildcard=has_wildcards(part, recipe),
        metadata=folder / metadata if metadata else None,
        masks=folder / masks if masks else None,
    )


def _fill_unknown(parts: Sequence[RecipeFolder], known: Iterator[FolderFacts]) -> tuple[FolderFacts, ...]:
    return tuple(next(known) if evaluate_or_none(lambda part=part: part.images) else UNKNOWN for part in parts)  # type: ignore[misc]


def _name_folders(
    recipe: Recipe, where: Path, parts: Sequence[RecipeFolder], folders: Sequence[FolderFacts]
) -> Iterator[FolderFacts]:
    for part, folder in zip(parts, folders, strict=True):
        yield replace(
            folder,
            path=part.images,
            overlong=evaluate_or_none(partial(find_long_captions, part, recipe, folder.images)) or (),
            spelt=_find_other_case(where, part.images) if folder.problem else None,
            offer=_find_metadata(where, part.images, folder) if _lacks_captions(folder) else None,
        )


def _lacks_captions(folder: FolderFacts) -> bool:
    return not folder.metadata and all(image.caption.problem is CaptionProblem.MISSING for image in folder.images)


def _find_metadata(where: Path, images: str, folder: FolderFacts) -> MetadataOffer | None:
    """A metadata file next to the images, next to their folder or next to the recipe, named as the recipe would; or
    captions in another form."""
    root = where / images
    found = find_metadata_file(root, (root, root.parent, where), [image.name for image in folder.images])
    if found and folder.images:
        return replace(found, path=recipe_relative_path(Path(found.path), where))
    foreign = None if folder.others or folder.miscased else find_foreign_captions(root, folder)
    return MetadataOffer(foreign.source, usable=False, foreign=True) if foreign else None


def _find_other_case(where: Path, images: str) -> str | None:
    found = match_case_insensitive(where / images)
    return recipe_relative_path(found, where) if found and is_folder(found) else None


def find_long_captions(part: RecipeFolder, recipe: Recipe, images: Sequence[ImageFacts]) -> tuple[LongCaption, ...]:
    """Captions of more tokens than the text encoder is given, with the recipe's prefix and suffix (TU:823-826)."""
    limit = resolve_token_limit(recipe.train)
    prefix, suffix = (get_caption_text(part, recipe, key) for key in ("caption_prefix", "caption_suffix"))
    before, after = f"{prefix} " if prefix else "", f" {suffix}" if suffix else ""
    found = list[LongCaption]()
    for image in images:
        long = [
            before + text + after
            for text in image.caption.texts
            if text and not clip_tokens.cannot_exceed(before + text + after, limit)
        ]
        tokens = max(map(clip_tokens.load_tokenizer().count, long)) if long else 0
        if tokens > limit:
            found.append(LongCaption(image.name, tokens))
    return tuple(found)
