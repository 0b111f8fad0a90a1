"""A recipe and the captions of its concepts, without its base model and without opening an image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from lorabake.errors import RecipeError
from lorabake.inputs.dataset import ScanOptions
from lorabake.inputs.survey import read_captions
from lorabake.recipe.load import LoadedRecipe, load_recipe
from lorabake.recipe.overrides import Override
from lorabake.util.fact_cache import fact_store_path
from lorabake.util.paths import lorabake_home
from lorabake_schemas.dataset import FolderFacts
from lorabake_schemas.findings import Severity
from lorabake_schemas.messages import msg, nmsg
from lorabake_schemas.recipe import Recipe


@dataclass(frozen=True, slots=True)
class CaptionedRecipe:
    """``folders`` are those of the concepts, in the recipe's order, under their absolute paths."""

    loaded: LoadedRecipe
    recipe: Recipe
    folders: tuple[FolderFacts, ...]


def read_captioned_recipe(
    path: Path, overrides: Sequence[Override], env: Mapping[str, str], *, cache: bool
) -> CaptionedRecipe:
    """Raises RecipeError for a recipe that cannot be read, and for a folder that cannot be."""
    loaded = load_recipe(path, None, overrides, env.get("HOME"))
    recipe = loaded.recipe
    if recipe is None:
        count = sum(finding.severity is Severity.ERROR for finding in loaded.findings)
        raise RecipeError(nmsg(count, "{n} error in {recipe}", "{n} errors in {recipe}", recipe=path), loaded.findings)
    store = fact_store_path(lorabake_home(env), env) if cache else None
    folders = read_captions(recipe, loaded.folder, ScanOptions(store))
    for concept, folder in zip(recipe.concept, folders, strict=True):
        problem = folder.problem or (folder.metadata and folder.metadata.problem)
        if problem:
            named = concept.images if folder.problem else concept.metadata_file or ""
            said = msg("cannot read {path}: {why}", path=named, why=problem)
            raise RecipeError(said, hint=msg("`lorabake check {recipe}` shows what is wrong", recipe=path))
    return CaptionedRecipe(loaded, recipe, folders)


def list_unread_images(read: CaptionedRecipe) -> dict[str, tuple[str, ...]]:
    """The images that sd-scripts does not read, by the folder as the recipe has it: they have no caption to write or to
    edit, and are not in a copy."""
    pairs = zip(read.recipe.concept, read.folders, strict=True)
    return {part.images: facts.ignored for part, facts in pairs if facts.ignored and not part.metadata_file}


def read_unread_captions(read: CaptionedRecipe) -> CaptionedRecipe:
    """The same with the caption files of concepts with captions = "none", which sd-scripts does not read."""
    if all(concept.captions is None for concept in read.recipe.concept):
        return read
    concepts = tuple(concept.model_copy(update={"captions": None}) for concept in read.recipe.concept)
    recipe = read.recipe.model_copy(update={"concept": concepts})
    return CaptionedRecipe(read.loaded, recipe, read_captions(recipe, read.loaded.folder, ScanOptions()))
