"""What a cache of sd-scripts' was made from, and what of that no longer holds. Pure.

Plain dataclasses because there can be 100,000: a cache of latents and one of text for every picture.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from lorabake_schemas.bucket_fit import Size
from lorabake_schemas.messages import Message, literal, msg

CacheKind = Literal["latents", "text", "info"]
NO_SIZE: Size = (0, 0)


@dataclass(frozen=True, slots=True)
class CacheSettings:
    """What the caches of one folder and kind are made under, all of them alike.

    ``model`` is the SHA-256 of what makes them: of the VAE or the base model that brings it, for text of the base
    model; "" where there is nothing here to hash. ``commit`` is that of sd-scripts, "" when it is not known. Those of
    the other kind keep their defaults: text is encoded whatever the resolution is.
    """

    kind: CacheKind
    model: str = ""
    model_name: str = ""
    precision: str = ""
    commit: str = ""
    resolution: Size = NO_SIZE
    resize_interpolation: str = ""
    flip_aug: bool = False
    alpha_mask: bool = False
    tokenizer: str = ""
    max_token_length: int = 75
    weighted_captions: bool = False


@dataclass(frozen=True, slots=True)
class CacheOrigin:
    """What one cache was made from.

    ``source`` is the SHA-256 of the picture, for text that of the caption as sd-scripts encodes it. The sizes are those
    of a Fit: what the picture was taken for, its bucket, and its size after scaling.
    """

    source: str
    conditions: CacheSettings
    size: Size = NO_SIZE
    bucket: Size = NO_SIZE
    resized: Size = NO_SIZE


@dataclass(frozen=True, slots=True)
class StaleCache:
    """A cache that sd-scripts would use and that does not fit, by the folder it lies in.

    ``why`` says what has changed, None when nobody knows what it was made from. ``foreign`` is a file in the place of
    a cache that is none: sd-scripts would write over it. ``picture`` is "" for ``metadata_cache.json``.
    """

    table: Literal["concept", "regularization"]
    index: int
    kind: CacheKind
    cache: str
    picture: str = ""
    why: Message | None = None
    foreign: bool = False


def find_stale_reason(was: CacheOrigin, now: CacheOrigin, *, trusting: bool = False) -> Message | None:
    """What keeps a cache from fitting the run that comes, None when it fits. The first reason found is told.

    ``now`` is what this run would make it from. sd-scripts itself notices when a cache lacks the mirrored latents or
    the alpha mask that a run wants, and makes it anew (SB:441-451); ``trusting`` (skip_cache_check) it does not.
    """
    old, new = was.conditions, now.conditions
    if new.kind == "text":
        return next(_iter_text_reasons(was, now), None) or _find_common_reason(old, new)
    return (
        next(_iter_latent_reasons(was, now), None)
        or _find_common_reason(old, new)
        or _find_array_reason(old, new, trusting=trusting)
    )


def _iter_latent_reasons(was: CacheOrigin, now: CacheOrigin) -> Iterator[Message]:
    old, new = was.conditions, now.conditions
    if was.source != now.source:
        yield msg("the image was replaced or edited since")
    if (was.size, was.bucket, was.resized) != (now.size, now.bucket, now.resized):
        if old.resolution != new.resolution:
            yield msg(
                "made at {old}, this run uses {new}", old=_format_size(old.resolution), new=_format_size(new.resolution)
            )
        yield msg("made with other bucket settings, which crop the image differently")
    if old.model != new.model:
        if old.model_name == new.model_name:
            yield msg("made with another VAE that has the same name, {name}", name=new.model_name)
        yield msg("made with the VAE of {old}, this run uses the VAE of {new}", old=old.model_name, new=new.model_name)
    if old.resize_interpolation != new.resize_interpolation:
        yield msg("made with another resize_interpolation")


def _iter_text_reasons(was: CacheOrigin, now: CacheOrigin) -> Iterator[Message]:
    old, new = was.conditions, now.conditions
    if was.source != now.source:
        yield msg("the caption was edited since")
    if old.model != new.model:
        if old.model_name == new.model_name:
            yield msg("made with another base model that has the same name, {name}", name=new.model_name)
        yield msg("made with the text encoders of {old}, this run uses the text encoders of {new}", old=old.model_name,
                  new=new.model_name)  # fmt: skip
    if old.max_token_length != new.max_token_length:
        yield msg(
            "made with max_token_length {old}, this run uses {new}",
            old=old.max_token_length,
            new=new.max_token_length,
        )
    if old.weighted_captions != new.weighted_captions:
        yield msg("made with weighted_captions") if old.weighted_captions else msg("made without weighted_captions")
    if old.tokenizer != new.tokenizer:
        yield msg("made with another tokenizer")


def _find_common_reason(old: CacheSettings, new: CacheSettings) -> Message | None:
    if old.precision != new.precision:
        return msg("made in {old}, this run uses {new}", old=old.precision, new=new.precision)
    if old.commit and new.commit and old.commit != new.commit:
        return msg("made with another version of sd-scripts, {commit}", commit=old.commit[:8])
    return None


def _find_array_reason(old: CacheSettings, new: CacheSettings, *, trusting: bool) -> Message | None:
    """What the file holds beside the latents. An alpha mask in it is used, asked for or not (TU:1602, TN:471)."""
    if old.alpha_mask and not new.alpha_mask:
        return msg("made with alpha_mask, which this run does not set but would use")
    if trusting and new.alpha_mask and not old.alpha_mask:
        return msg("made without this run's alpha_mask, and skip_cache_check keeps sd-scripts from noticing")
    if trusting and new.flip_aug and not old.flip_aug:
        return msg("made without this run's flip_aug, and skip_cache_check keeps sd-scripts from noticing")
    return None


def _format_size(size: Size) -> Message:
    """A resolution as people write it: 768, or 768 x 1024."""
    width, height = size
    return literal(str(width)) if width == height else msg("{width} x {height}", width=width, height=height)
