"""A plan's datasets as what is counted: the sizes of all images under each block's bucket settings. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from lorabake.planning.batches import DatasetBlock, SubsetInput
from lorabake.planning.buckets import BucketRules
from lorabake_schemas.base import OptionValue
from lorabake_schemas.bucket_fit import Size
from lorabake_schemas.caches import find_run_sizes
from lorabake_schemas.dataset import DatasetFacts, FolderFacts
from lorabake_schemas.families.model_family import ModelFamily
from lorabake_schemas.guide.defaults import group_concepts, name_concept
from lorabake_schemas.plan import DatasetPlan, Setting, SubsetPlan
from lorabake_schemas.recipe import Recipe
from lorabake_schemas.sd_scripts import split_validation

SizeReader = Callable[[FolderFacts], tuple[Size, ...]]


def image_size_reader(recipe: Recipe, family: ModelFamily) -> SizeReader:
    """The sizes sd-scripts will take, which are not always those of the files (left-over latent caches, WebP)."""
    return partial(find_run_sizes, suffix=family.latent_cache_suffix, cache_info=recipe.kohya.get("cache_info") is True)


def count_blocks(
    datasets: Sequence[DatasetPlan],
    recipe: Recipe,
    facts: DatasetFacts,
    sizes: SizeReader,
    validating: Sequence[Setting],
) -> tuple[DatasetBlock, ...]:
    """Each ``[[datasets]]`` of the plan; ``validating`` are the run's settings of validation."""
    owners = {index: number for number, group in enumerate(group_concepts(recipe)) for index in group}
    share, seed = _find_value(validating, "validation_split"), _find_value(validating, "validation_seed")

    def read_subset(part: SubsetPlan) -> SubsetInput:
        folder = facts.get_folder(part.table, part.index)
        found, repeats = sizes(folder), _find_value(part.settings, "num_repeats")
        held_out = frozenset[int]()
        whole = part.is_reg or _find_value(part.settings, "metadata_file") is not None  # S44
        if isinstance(share, float) and share and not whole:
            held_out = split_validation(len(found), share, seed if isinstance(seed, int) else 0)[0]
        return SubsetInput(
            title=part.title if part.is_reg else name_concept(recipe.concept[part.index], recipe),
            sizes=found,
            num_repeats=repeats if isinstance(repeats, int) else 1,
            is_reg=part.is_reg,
            names=tuple(image.name for image in folder.images),
            held_out=held_out,
            folder=folder.path,
            key=folder.key,
            index=part.index,
            owner=part.index if part.is_reg else owners[part.index],
        )

    return tuple(
        DatasetBlock(
            tuple(map(read_subset, block.subsets)), read_bucket_rules(block), _int_value(block, "batch_size", 1)
        )
        for block in datasets
    )


def read_bucket_rules(block: DatasetPlan) -> BucketRules:
    """The bucket settings of a block."""
    return BucketRules(
        resolution=block.resolution,
        enable_bucket=bool(block.value("enable_bucket")),
        bucket_no_upscale=bool(block.value("bucket_no_upscale")),
        min_bucket_reso=_int_value(block, "min_bucket_reso", 256),
        max_bucket_reso=_int_value(block, "max_bucket_reso", 1024),
        bucket_reso_steps=_int_value(block, "bucket_reso_steps", 64),
    )


def _int_value(block: DatasetPlan, option: str, default: int) -> int:
    value = block.value(option)
    return value if isinstance(value, int) else default


def _find_value(settings: Sequence[Setting], option: str) -> OptionValue | None:
    return next((setting.value for setting in settings if setting.option == option), None)
