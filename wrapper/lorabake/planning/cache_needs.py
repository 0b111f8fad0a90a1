"""Which cache files sd-scripts would read or write for a plan, and what each would have to be made from. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from posixpath import splitext
from typing import Literal

from lorabake_schemas.base import OptionValue
from lorabake_schemas.cache_origins import TEXT_SUFFIX, CacheKind, Conditions, Origin
from lorabake_schemas.caches import cache_suffix, seen_size
from lorabake_schemas.dataset import CaptionProblem, DatasetFacts, FolderFacts, ImageFacts
from lorabake_schemas.fits import Fit, Fits
from lorabake_schemas.plan import Plan, Setting, SubsetPlan

FULL = "fp32"
Table = Literal["concept", "regularisation"]


@dataclass(frozen=True, slots=True)
class Need:
    """One cache by its file's name, the picture that it is of, and what it would have to be made from.

    The origin's ``source`` is "" for latents: the picture's SHA-256 is not known here. Nor are the digests among its
    conditions, nor the commit of sd-scripts.
    """

    cache: str
    picture: str
    origin: Origin


@dataclass(frozen=True, slots=True)
class FolderNeeds:
    """The caches of one kind that sd-scripts would look for in one picture folder.

    ``images`` is the folder as the recipe names it, ``there`` the names of all caches in it. ``trusting``: sd-scripts
    opens none of them to see whether what it needs is inside.
    """

    table: Table
    index: int
    images: str
    identity: str
    needs: tuple[Need, ...]
    conditions: Conditions
    there: frozenset[str]
    trusting: bool = False

    @property
    def kind(self) -> CacheKind:
        return self.conditions.kind

    @property
    def present(self) -> tuple[Need, ...]:
        """Those that are there."""
        return tuple(need for need in self.needs if need.cache in self.there) if self.there else ()


@dataclass(frozen=True, slots=True)
class InfoNeeds:
    """What ``metadata_cache.json`` would have to say of a folder: each picture with its caption and size, in order."""

    table: Table
    index: int
    images: str
    pictures: tuple[tuple[str, str, tuple[int, int]], ...]


def cache_needs(plan: Plan, dataset: DatasetFacts) -> tuple[FolderNeeds, ...]:
    """All caches of latents and of text encoder outputs that this plan keeps on disk, there or not."""
    found = list[FolderNeeds]()
    for (table, index, folder), part, fits in zip(_folders(dataset), plan.subsets, plan.fits, strict=True):
        if plan.value("cache_latents_to_disk"):
            under = _latents(plan, part)
            found.append(_folder(table, index, folder, plan, under, _of_latents(plan, under, folder, fits)))
        if plan.value("cache_text_encoder_outputs_to_disk"):
            under = _text(plan)
            found.append(_folder(table, index, folder, plan, under, _of_text(part, under, folder, fits)))
    return tuple(found)


def info_needs(plan: Plan, dataset: DatasetFacts) -> tuple[InfoNeeds, ...]:
    """What cache_info would have to hold, for each folder; nothing where it is not asked for."""
    if not plan.value("cache_info"):
        return ()
    found = list[InfoNeeds]()
    for (table, index, folder), part in zip(_folders(dataset), plan.subsets, strict=True):
        pictures = tuple((image.name, caption_used(image, part), seen_size(image)) for image in folder.images)
        found.append(InfoNeeds(table, index, folder.path, pictures))
    return tuple(found)


def caption_used(image: ImageFacts, part: SubsetPlan) -> str:
    """A caption as sd-scripts keeps it (TU:2066-2081): no prefix, no suffix; the class tokens for a missing one."""
    if image.caption.problem is CaptionProblem.MISSING:
        return str(_value(part.settings, "class_tokens") or "")
    return image.caption.text


def _folders(dataset: DatasetFacts) -> Iterator[tuple[Table, int, FolderFacts]]:
    for index, folder in enumerate(dataset.concepts):
        yield "concept", index, folder
    for index, folder in enumerate(dataset.regularisation):
        yield "regularisation", index, folder


def _folder(
    table: Table, index: int, folder: FolderFacts, plan: Plan, under: Conditions, needs: Iterator[Need]
) -> FolderNeeds:
    return FolderNeeds(
        table,
        index,
        folder.path,
        folder.identity,
        tuple(needs),
        under,
        frozenset(folder.caches),
        trusting=bool(plan.value("skip_cache_check")),
    )


def _latents(plan: Plan, part: SubsetPlan) -> Conditions:
    """The VAE is float32 with no_half_vae, else in the run's precision (TN:599)."""
    resolution = _value(plan.dataset, "resolution")
    sides = resolution if isinstance(resolution, tuple) else (resolution, resolution)
    return Conditions(
        kind="latents",
        model_name=str(plan.value("vae") or plan.value("pretrained_model_name_or_path")),
        precision=FULL if plan.value("no_half_vae") else _precision(plan),
        resolution=(int(str(sides[0])), int(str(sides[1]))),
        resize_interpolation=str(plan.value("resize_interpolation") or ""),
        flip_aug=bool(_value(part.settings, "flip_aug")),
        alpha_mask=bool(plan.value("alpha_mask")),
    )


def _text(plan: Plan) -> Conditions:
    """Text encoders are in the run's precision while they are cached (sdxl_train_network.py:108-112)."""
    length = plan.value("max_token_length")
    return Conditions(
        kind="text",
        model_name=str(plan.value("pretrained_model_name_or_path")),
        precision=_precision(plan),
        max_token_length=length if isinstance(length, int) else 75,
        weighted_captions=bool(plan.value("weighted_captions")),
    )


def _precision(plan: Plan) -> str:
    """weight_dtype of TU:5507."""
    mixed = str(plan.value("mixed_precision"))
    return mixed if mixed in {"fp16", "bf16"} else FULL


def _of_latents(plan: Plan, under: Conditions, folder: FolderFacts, fits: Fits) -> Iterator[Need]:
    """An old STEM.npz comes before STEM_0512x0768_sd.npz, in both families (strategy_sd.py:152-157)."""
    suffix, there = cache_suffix(plan.family), frozenset(folder.caches)
    for image, fit in _used(folder, fits):
        stem, (width, height) = splitext(image.name)[0], fit.size
        old = f"{stem}.npz"
        name = old if old in there else f"{stem}_{width:04d}x{height:04d}{suffix}"
        yield Need(name, image.name, Origin("", under, fit.size, fit.bucket, fit.resized))


def _of_text(part: SubsetPlan, under: Conditions, folder: FolderFacts, fits: Fits) -> Iterator[Need]:
    for image, _ in _used(folder, fits):
        caption = hashlib.sha256(caption_used(image, part).encode("utf-8", "surrogatepass")).hexdigest()
        yield Need(splitext(image.name)[0] + TEXT_SUFFIX, image.name, Origin(caption, under))


def _used(folder: FolderFacts, fits: Fits) -> Iterator[tuple[ImageFacts, Fit]]:
    """The pictures of a folder that are trained on at all."""
    for image, fit in zip(folder.images, fits, strict=True):
        if fit is not None:
            yield image, fit


def _value(settings: Sequence[Setting], option: str) -> OptionValue | None:
    return next((setting.value for setting in settings if setting.option == option), None)


__all__ = ["FolderNeeds", "InfoNeeds", "Need", "cache_needs", "caption_used", "info_needs"]
