"""Which cache files sd-scripts would read or write for a plan, and what each would have to be made from. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from lorabake_schemas.base import OptionValue
from lorabake_schemas.bucket_fit import BucketFit, SubsetFits
from lorabake_schemas.cache_origins import CacheKind, CacheOrigin, CacheSettings
from lorabake_schemas.caches import get_header_size, latent_cache_name, text_cache_name
from lorabake_schemas.dataset import CaptionProblem, DatasetFacts, FolderFacts, ImageFacts
from lorabake_schemas.families.registry import get_family
from lorabake_schemas.plan import Plan, Setting, SubsetPlan

FULL_PRECISION = "fp32"
Table = Literal["concept", "regularization"]


@dataclass(frozen=True, slots=True)
class ExpectedCache:
    """One cache by its file's name, the picture that it is of, and what it would have to be made from.

    The origin's ``source`` is "" for latents: the picture's SHA-256 is not known here. Nor are the digests among its
    conditions, nor the commit of sd-scripts.
    """

    cache: str
    picture: str
    origin: CacheOrigin


@dataclass(frozen=True, slots=True)
class ExpectedFolderCaches:
    """The caches of one kind that sd-scripts would look for in one picture folder.

    ``images`` is the folder as the recipe names it, ``there`` the names of all caches in it. ``trusting``: sd-scripts
    opens none of them to see whether what it needs is inside.
    """

    table: Table
    index: int
    images: str
    identity: str
    needs: tuple[ExpectedCache, ...]
    conditions: CacheSettings
    there: frozenset[str]
    trusting: bool = False

    @property
    def kind(self) -> CacheKind:
        return self.conditions.kind

    @property
    def present(self) -> tuple[ExpectedCache, ...]:
        """Those that are there."""
        return tuple(need for need in self.needs if need.cache in self.there) if self.there else ()


@dataclass(frozen=True, slots=True)
class ExpectedInfoCache:
    """What ``metadata_cache.json`` would have to say of a folder: each picture with its caption and size, in order."""

    table: Table
    index: int
    images: str
    pictures: tuple[tuple[str, str, tuple[int, int]], ...]


def list_expected_caches(plan: Plan, dataset: DatasetFacts) -> tuple[ExpectedFolderCaches, ...]:
    """All caches of latents and of text encoder outputs that this plan keeps on disk, there or not."""
    found = list[ExpectedFolderCaches]()
    for (table, index, folder), part, fits in zip(_iter_folders(dataset), plan.subsets, plan.fits, strict=True):
        if plan.value("cache_latents_to_disk"):
            under = _latent_cache_settings(plan, part)
            found.append(
                _folder_caches(table, index, folder, plan, under, _iter_latent_caches(plan, under, folder, fits))
            )
        if plan.value("cache_text_encoder_outputs_to_disk"):
            under = _text_cache_settings(plan)
            found.append(
                _folder_caches(table, index, folder, plan, under, _iter_text_caches(plan, part, under, folder, fits))
            )
    return tuple(found)


def list_expected_info_caches(plan: Plan, dataset: DatasetFacts) -> tuple[ExpectedInfoCache, ...]:
    """What cache_info would have to hold, for each folder; nothing where it is not asked for."""
    if not plan.value("cache_info"):
        return ()
    found = list[ExpectedInfoCache]()
    for (table, index, folder), part in zip(_iter_folders(dataset), plan.subsets, strict=True):
        pictures = tuple(
            (image.name, effective_caption(image, part), get_header_size(image)) for image in folder.images
        )
        found.append(ExpectedInfoCache(table, index, folder.path, pictures))
    return tuple(found)


def effective_caption(image: ImageFacts, part: SubsetPlan) -> str:
    """A caption as sd-scripts keeps it (TU:2066-2081): no prefix, no suffix; the class tokens for a missing one."""
    if image.caption.problem is CaptionProblem.MISSING:
        return str(_setting_value(part.settings, "class_tokens") or "")
    return image.caption.text


def _iter_folders(dataset: DatasetFacts) -> Iterator[tuple[Table, int, FolderFacts]]:
    for index, folder in enumerate(dataset.concepts):
        yield "concept", index, folder
    for index, folder in enumerate(dataset.regularization):
        yield "regularization", index, folder


def _folder_caches(
    table: Table, index: int, folder: FolderFacts, plan: Plan, under: CacheSettings, needs: Iterator[ExpectedCache]
) -> ExpectedFolderCaches:
    return ExpectedFolderCaches(
        table,
        index,
        folder.path,
        folder.identity,
        tuple(needs),
        under,
        frozenset(folder.caches),
        trusting=bool(plan.value("skip_cache_check")),
    )


def _latent_cache_settings(plan: Plan, part: SubsetPlan) -> CacheSettings:
    """The VAE is float32 with no_half_vae, else in the run's precision (TN:599)."""
    resolution = _setting_value(plan.dataset, "resolution")
    sides = resolution if isinstance(resolution, tuple) else (resolution, resolution)
    return CacheSettings(
        kind="latents",
        model_name=str(plan.value("vae") or plan.value("pretrained_model_name_or_path")),
        precision=FULL_PRECISION if plan.value("no_half_vae") else _run_precision(plan),
        resolution=(int(str(sides[0])), int(str(sides[1]))),
        resize_interpolation=str(plan.value("resize_interpolation") or ""),
        flip_aug=bool(_setting_value(part.settings, "flip_aug")),
        alpha_mask=bool(plan.value("alpha_mask")),
    )


def _text_cache_settings(plan: Plan) -> CacheSettings:
    """Text encoders are in the run's precision while they are cached (sdxl_train_network.py:108-112)."""
    length = plan.value("max_token_length")
    return CacheSettings(
        kind="text",
        model_name=str(plan.value("pretrained_model_name_or_path")),
        precision=_run_precision(plan),
        max_token_length=length if isinstance(length, int) else get_family(plan.family).token_limits[0],
        weighted_captions=bool(plan.value("weighted_captions")),
    )


def _run_precision(plan: Plan) -> str:
    """weight_dtype of TU:5507."""
    mixed = str(plan.value("mixed_precision"))
    return mixed if mixed in {"fp16", "bf16"} else FULL_PRECISION


def _iter_latent_caches(
    plan: Plan, under: CacheSettings, folder: FolderFacts, fits: SubsetFits
) -> Iterator[ExpectedCache]:
    suffix, there = get_family(plan.family).latent_cache_suffix, frozenset(folder.caches)
    for image, fit in _iter_trained_images(folder, fits):
        name = latent_cache_name(image.name, fit.size, suffix, there)
        yield ExpectedCache(name, image.name, CacheOrigin("", under, fit.size, fit.bucket, fit.resized))


def _iter_text_caches(
    plan: Plan, part: SubsetPlan, under: CacheSettings, folder: FolderFacts, fits: SubsetFits
) -> Iterator[ExpectedCache]:
    suffix = get_family(plan.family).text_cache_suffix
    for image, _ in _iter_trained_images(folder, fits):
        caption = hashlib.sha256(effective_caption(image, part).encode("utf-8", "surrogatepass")).hexdigest()
        yield ExpectedCache(text_cache_name(image.name, suffix), image.name, CacheOrigin(caption, under))


def _iter_trained_images(folder: FolderFacts, fits: SubsetFits) -> Iterator[tuple[ImageFacts, BucketFit]]:
    """The pictures of a folder that are trained on at all."""
    for image, fit in zip(folder.images, fits, strict=True):
        if fit is not None:
            yield image, fit


def _setting_value(settings: Sequence[Setting], option: str) -> OptionValue | None:
    return next((setting.value for setting in settings if setting.option == option), None)
