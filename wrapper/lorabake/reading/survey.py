"""The facts about a recipe's pictures and captions: its folders as it names them, and what CLIP makes of the words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from lorabake.files import is_folder
from lorabake.reading import clip_tokens
from lorabake.reading.dataset import Scanning, survey
from lorabake.reading.spelling import as_spelt, as_written
from lorabake_schemas.dataset import CAPTION_EXTENSION, DatasetFacts, FolderFacts, ImageFacts, LongCaption
from lorabake_schemas.defaults import token_limit_of
from lorabake_schemas.recipe import Concept, Recipe, Regularisation


def dataset_facts(recipe: Recipe, folder: Path, scanning: Scanning) -> DatasetFacts:
    """Facts of every image folder, each named as the recipe names it; ``folder`` is the recipe's own."""
    ending = recipe.captions.caption_extension or CAPTION_EXTENSION
    concepts, others = ([folder / part.images for part in parts] for parts in (recipe.concept, recipe.regularisation))
    found = survey(concepts, others, ending, scanning)
    return replace(
        found,
        concepts=_named(recipe, folder, recipe.concept, found.concepts),
        regularisation=_named(recipe, folder, recipe.regularisation, found.regularisation),
        known_tokens=tuple(one.token for one in recipe.concept if clip_tokens.is_known_word(one.token)),
    )


def _named(
    recipe: Recipe, where: Path, parts: Sequence[Concept | Regularisation], folders: Sequence[FolderFacts]
) -> tuple[FolderFacts, ...]:
    return tuple(
        replace(
            folder,
            path=part.images,
            overlong=overlong(recipe, folder.images),
            spelt=_spelt(where, part.images) if folder.problem else None,
        )
        for part, folder in zip(parts, folders, strict=True)
    )


def _spelt(where: Path, images: str) -> str | None:
    found = as_spelt(where / images)
    return as_written(found, where) if found and is_folder(found) else None


def overlong(recipe: Recipe, images: Sequence[ImageFacts]) -> tuple[LongCaption, ...]:
    """Captions of more tokens than the text encoder is given, with the recipe's prefix and suffix (TU:823-826)."""
    limit, captions = token_limit_of(recipe.train), recipe.captions
    before = f"{captions.caption_prefix} " if captions.caption_prefix else ""
    after = f" {captions.caption_suffix}" if captions.caption_suffix else ""
    found = list[LongCaption]()
    for image in images:
        text = image.caption.text
        if text and not clip_tokens.cannot_exceed(whole := before + text + after, limit):
            tokens = clip_tokens.tokenizer().count(whole)
            if tokens > limit:
                found.append(LongCaption(image.name, tokens))
    return tuple(found)


__all__ = ["dataset_facts", "overlong"]
