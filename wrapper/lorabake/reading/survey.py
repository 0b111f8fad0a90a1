"""The facts about a recipe's pictures and captions: its folders as it names them, and what CLIP makes of the words."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from lorabake.files import is_folder
from lorabake.reading import clip_tokens
from lorabake.reading.dataset import Scanning, survey
from lorabake.reading.spelling import as_spelt, as_written
from lorabake_schemas.dataset import CAPTION_EXTENSION, DatasetFacts, FolderFacts, ImageFacts, LongCaption
from lorabake_schemas.defaults import token_limit_of
from lorabake_schemas.recipe import Concept, Recipe, Regularisation
from lorabake_schemas.unjudged import UNKNOWN, judged

Part = Concept | Regularisation


def dataset_facts(recipe: Recipe, folder: Path, scanning: Scanning) -> DatasetFacts:
    """Facts of every image folder, each named as the recipe names it; ``folder`` is the recipe's own.

    A folder whose key is wrong is UNKNOWN, and then pictures that are the same are not looked for. Raises
    UnjudgedError where not even the captions' extension is known.
    """
    ending = recipe.captions.caption_extension or CAPTION_EXTENSION
    parts = (recipe.concept, judged(lambda: recipe.regularisation) or ())
    known = [[part for part in table if judged(lambda part=part: part.images)] for table in parts]  # type: ignore[misc]
    concepts, others = ([folder / part.images for part in table] for table in known)
    found = survey(concepts, others, ending, scanning)
    named = [_named(recipe, folder, *both) for both in zip(known, (found.concepts, found.regularisation), strict=True)]
    whole = all(len(table) == len(those) for table, those in zip(parts, known, strict=True))
    tokens = (judged(lambda one=one: one.token) for one in recipe.concept)  # type: ignore[misc]
    return replace(
        found,
        concepts=_in_place(parts[0], named[0]),
        regularisation=_in_place(parts[1], named[1]),
        twins=found.twins if whole else (),
        known_tokens=tuple(token for token in tokens if token and clip_tokens.is_known_word(token)),
    )


def _in_place(parts: Sequence[Part], known: Iterator[FolderFacts]) -> tuple[FolderFacts, ...]:
    return tuple(next(known) if judged(lambda part=part: part.images) else UNKNOWN for part in parts)  # type: ignore[misc]


def _named(recipe: Recipe, where: Path, parts: Sequence[Part], folders: Sequence[FolderFacts]) -> Iterator[FolderFacts]:
    for part, folder in zip(parts, folders, strict=True):
        yield replace(
            folder,
            path=part.images,
            overlong=judged(partial(overlong, recipe, folder.images)) or (),
            spelt=_spelt(where, part.images) if folder.problem else None,
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
