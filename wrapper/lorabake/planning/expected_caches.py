"""Which cache files sd-scripts would read or write for a plan, and what each would have to be made from. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from lorabake_schemas.base import OptionValue
from lorabake_schemas.cache_origins import CacheKind, CacheOrigin, CacheSettings
from lorabake_schemas.caches import latent_cache_name, text_cache_name
from lorabake_schemas.dataset import CaptionProblem, DatasetFacts, FolderFacts, FolderTable, ImageFacts
from lorabake_schemas.families.registry import get_family
from lorabake_schemas.plan import DatasetPlan, Plan, Setting, SubsetPlan

FULL_PRECISION = "fp32"


class ExpectedCache(NamedTuple):
    """One cache by its file's name, its image, and the origin it would have to have.

    The origin's ``source`` is "" for latents: the image's SHA-256 is not known here. The digests in its settings and
    the commit of sd-scripts are not either.
    """

    cache: str
    image: ImageFacts
    origin: CacheOrigin


@dataclass(frozen=True, slots=True)
class ExpectedFolderCaches:
    """The caches of one kind that sd-scripts would look for in one image folder.

    ``trusting``: sd-scripts opens none of them to see whether what it needs is inside.
    """

    table: FolderTable
    index: int
    folder: FolderFacts
    settings: CacheSettings
    needs: tuple[ExpectedCache, ...]
    trusting: bool

    @property
    def kind(self) -> CacheKind:
        return self.settings.kind

    @property
    def present(self) -> tuple[ExpectedCache, ...]:
        there = frozenset(self.folder.caches)
        return tuple(need for need in self.needs if need.cache in there) if there else ()


def list_expected_caches(plan: Plan, dataset: DatasetFacts) -> tuple[ExpectedFolderCaches, ...]:
    """All caches of latents and of text encoder outputs that this plan keeps on disk, there or not."""
    found = list[ExpectedFolderCaches]()
    trusting, family = bool(plan.value("skip_cache_check")), get_family(plan.family)
    texts = set[tuple[str, object]]()  # a folder at several resolutions has one text cache for each caption
    parts = [(block, part) for block in plan.datasets for part in block.subsets]
    for (block, part), fits in zip(parts, plan.fits, strict=True):
        folder = dataset.get_folder(part.table, part.index)
        trained = [(image, fit) for image, fit in zip(folder.images, fits, strict=True) if fit is not None]
        if plan.value("cache_latents_to_disk"):
            settings, there = _latent_cache_settings(plan, block, part), frozenset(folder.caches)
            needs = tuple(
                ExpectedCache(
                    latent_cache_name(image.name, fit.size, family.latent_cache_suffix, there),
                    image,
                    CacheOrigin("", settings, fit.size, fit.bucket, fit.resized),
                )
                for image, fit in trained
            )
            found.append(ExpectedFolderCaches(part.table, part.index, folder, settings, needs, trusting))
        if (
            plan.value("cache_text_encoder_outputs_to_disk")
            and (named := (folder.key, _setting_value(part.settings, "class_tokens"))) not in texts
        ):
            texts.add(named)
            settings = _text_cache_settings(plan)
            needs = tuple(
                ExpectedCache(
                    text_cache_name(image.name, family.text_cache_suffix),
                    image,
                    CacheOrigin(_hash_caption(image, part), settings),
                )
                for image, _ in trained
            )
            found.append(ExpectedFolderCaches(part.table, part.index, folder, settings, needs, trusting))
    return tuple(found)


def effective_caption(image: ImageFacts, part: SubsetPlan) -> str:
    """A caption as sd-scripts keeps it (TU:2066-2081): no prefix, no suffix; the class tokens for a missing one."""
    if image.caption.problem is CaptionProblem.MISSING:
        return str(_setting_value(part.settings, "class_tokens") or "")
    return image.caption.text


def _hash_caption(image: ImageFacts, part: SubsetPlan) -> str:
    return hashlib.sha256(effective_caption(image, part).encode("utf-8", "surrogatepass")).hexdigest()


def _latent_cache_settings(plan: Plan, block: DatasetPlan, part: SubsetPlan) -> CacheSettings:
    """The VAE is float32 with no_half_vae, else in the run's precision (TN:599)."""
    return CacheSettings(
        kind="latents",
        model_name=str(plan.value("vae") or plan.value("pretrained_model_name_or_path")),
        precision=FULL_PRECISION if plan.value("no_half_vae") else _run_precision(plan),
        resolution=block.resolution,
        resize_interpolation=str(plan.value("resize_interpolation") or ""),
        flip_aug=bool(_setting_value(part.settings, "flip_aug")),
        alpha_mask=_has_alpha_mask(plan, part),
    )


def _has_alpha_mask(plan: Plan, part: SubsetPlan) -> bool:
    """Its own value, else the train file's; images with a folder of masks have none (CU:97)."""
    own = _setting_value(part.settings, "alpha_mask")
    return part.level != "masked_subsets" and bool(plan.value("alpha_mask") if own is None else own)


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


def _setting_value(settings: Sequence[Setting], option: str) -> OptionValue | None:
    return next((setting.value for setting in settings if setting.option == option), None)
