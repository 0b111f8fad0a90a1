"""The resolutions that a recipe trains at: each becomes a ``[[datasets]]`` block with the folders it is for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from lorabake_schemas.bucket_fit import Size
from lorabake_schemas.families.model_family import ModelFamily
from lorabake_schemas.guide.defaults import default_resolution
from lorabake_schemas.recipe import Recipe, Train

Sides = int | tuple[int, int]


# Keys under [train] that may have a list, with a value for each of train.resolutions.
ListKey = Literal["train_batch_size", "min_bucket_reso", "max_bucket_reso", "bucket_reso_steps"]
LIST_KEYS: tuple[ListKey, ...] = ("train_batch_size", "min_bucket_reso", "max_bucket_reso", "bucket_reso_steps")
BUCKET_STEP = 64  # sd-scripts' default of bucket_reso_steps


@dataclass(frozen=True, slots=True)
class TrainingResolution:
    """One resolution, as the recipe writes it, and where; ``concepts`` are the folders that are trained at it, and
    ``regularization`` the sets that come with them.

    ``given`` is False for the guide's. The others are what the recipe has for this resolution, None where it has
    nothing.
    """

    sides: Sides
    where: tuple[str | int, ...]
    given: bool
    concepts: tuple[int, ...]
    regularization: tuple[int, ...]
    train_batch_size: int | None
    min_bucket_reso: int | None
    max_bucket_reso: int | None
    bucket_reso_steps: int | None

    @property
    def step(self) -> int:
        """What the sides of its buckets are multiples of."""
        return self.bucket_reso_steps or BUCKET_STEP

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
    places: dict[Size, tuple[Sides, tuple[str | int, ...], int | None]] = {}
    concepts: dict[Size, set[int]] = {}
    common = {at for at, concept in enumerate(recipe.concept) if concept.resolution is None}
    for at, (sides, where) in enumerate(list_common_resolutions(recipe, family)):
        places.setdefault(get_size(sides), (sides, where, at))
        concepts[get_size(sides)] = set(common)
    for at, concept in enumerate(recipe.concept):
        if concept.resolution is not None:
            size = get_size(concept.resolution)
            places.setdefault(size, (concept.resolution, ("concept", at, "resolution"), None))
            concepts.setdefault(size, set()).add(at)
    given = recipe.train.resolution is not None or recipe.train.resolutions is not None
    return tuple(
        TrainingResolution(
            sides=sides,
            where=where,
            given=given or number is None,
            concepts=tuple(sorted(concepts[size])),
            regularization=_list_regularization(recipe, size),
            **{key: find_list_value(recipe.train, key, number) for key in LIST_KEYS},
        )
        for size, (sides, where, number) in places.items()
        if concepts[size]
    )


def _list_regularization(recipe: Recipe, size: Size) -> tuple[int, ...]:
    """The regularization sets of a resolution: without its own, a set is for all of them."""
    given = [part.resolution for part in recipe.regularization]
    return tuple(at for at, sides in enumerate(given) if sides is None or get_size(sides) == size)


def find_list_value(train: Train, key: ListKey, number: int | None) -> int | None:
    """Its value for the resolution with this number in train.resolutions, or for one of a concept's own (None)."""
    value: int | tuple[int, ...] | None = getattr(train, key)
    if value is None or isinstance(value, int):
        return value
    return None if number is None else dict(enumerate(value)).get(number)


def count_uses(recipe: Recipe) -> tuple[int, ...]:
    """At how many resolutions the images of each ``[[concept]]`` are trained."""
    several = len({get_size(sides) for sides in recipe.train.resolutions or ()}) or 1
    return tuple(1 if concept.resolution is not None else several for concept in recipe.concept)
