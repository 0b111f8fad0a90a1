"""The resolutions that a recipe trains at: each becomes a ``[[datasets]]`` block with the folders it is for."""

from __future__ import annotations

from dataclasses import dataclass

from lorabake_schemas.bucket_fit import Size
from lorabake_schemas.families.model_family import ModelFamily
from lorabake_schemas.guide.defaults import default_resolution
from lorabake_schemas.recipe import Recipe

Sides = int | tuple[int, int]


@dataclass(frozen=True, slots=True)
class TrainingResolution:
    """One resolution, as the recipe writes it, and where; ``concepts`` are the folders that are trained at it.

    ``given`` is False for the guide's; ``batch_size`` is None where the recipe gives none for it.
    """

    sides: Sides
    where: tuple[str | int, ...]
    given: bool
    batch_size: int | None
    concepts: tuple[int, ...]

    @property
    def size(self) -> Size:
        return get_size(self.sides)


def get_size(sides: Sides) -> Size:
    """Width and height in pixels."""
    return (sides, sides) if isinstance(sides, int) else sides


def list_common_resolutions(recipe: Recipe, family: ModelFamily) -> tuple[tuple[Sides, tuple[str | int, ...]], ...]:
    """The resolutions of all folders without their own, with their keys; the guide's if the recipe sets none."""
    train = recipe.train
    if train.resolutions:
        return tuple((sides, ("train", "resolutions", at)) for at, sides in enumerate(train.resolutions))
    return ((train.resolution or default_resolution(recipe, family).value, ("train", "resolution")),)


def list_training_resolutions(recipe: Recipe, family: ModelFamily) -> tuple[TrainingResolution, ...]:
    """In the order of the blocks: those of [train] that a folder is trained at, then those of the concepts."""
    train, batches = recipe.train, recipe.train.train_batch_size
    given = train.resolution is not None or train.resolutions is not None
    found: dict[Size, TrainingResolution] = {}
    common = tuple(at for at, concept in enumerate(recipe.concept) if concept.resolution is None)
    for at, (sides, where) in enumerate(list_common_resolutions(recipe, family)):
        batch = batches if batches is None or isinstance(batches, int) else dict(enumerate(batches)).get(at)
        found.setdefault(get_size(sides), TrainingResolution(sides, where, given, batch, common))
    for at, concept in enumerate(recipe.concept):
        if concept.resolution is not None:
            size, where = get_size(concept.resolution), ("concept", at, "resolution")
            batch = batches if isinstance(batches, int) else None
            own = found.get(size) or TrainingResolution(concept.resolution, where, True, batch, ())
            folders = tuple(sorted((*own.concepts, at)))
            found[size] = TrainingResolution(own.sides, own.where, own.given, own.batch_size, folders)
    return tuple(each for each in found.values() if each.concepts)


def count_uses(recipe: Recipe) -> tuple[int, ...]:
    """At how many resolutions the images of each ``[[concept]]`` are trained."""
    several = len({get_size(sides) for sides in recipe.train.resolutions or ()}) or 1
    return tuple(1 if concept.resolution is not None else several for concept in recipe.concept)
