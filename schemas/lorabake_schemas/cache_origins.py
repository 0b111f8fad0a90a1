"""What a cache of sd-scripts' was made from, and what of that no longer holds. Pure.

Plain dataclasses because there can be 100,000: a cache of latents and one of text for every picture.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from lorabake_schemas.fits import Size
from lorabake_schemas.words import Said, quoted, say

INFO_FILE = "metadata_cache.json"  # what cache_info writes into a picture folder (TU:1893)
TEXT_SUFFIX = "_te_outputs.npz"  # strategy_sdxl.py:222
CacheKind = Literal["latents", "text", "info"]
NOWHERE: Size = (0, 0)


@dataclass(frozen=True, slots=True)
class Conditions:
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
    resolution: Size = NOWHERE
    resize_interpolation: str = ""
    flip_aug: bool = False
    alpha_mask: bool = False
    tokenizer: str = ""
    max_token_length: int = 75
    weighted_captions: bool = False


@dataclass(frozen=True, slots=True)
class Origin:
    """What one cache was made from.

    ``source`` is the SHA-256 of the picture, for text that of the caption as sd-scripts encodes it. The sizes are those
    of a Fit: what the picture was taken for, its bucket, and its size after scaling.
    """

    source: str
    conditions: Conditions
    size: Size = NOWHERE
    bucket: Size = NOWHERE
    resized: Size = NOWHERE


@dataclass(frozen=True, slots=True)
class StaleCache:
    """A cache that sd-scripts would use and that does not fit, by the folder it lies in.

    ``why`` says what has changed, None when nobody knows what it was made from. ``foreign`` is a file in the place of
    a cache that is none: sd-scripts would write over it. ``picture`` is "" for ``metadata_cache.json``.
    """

    table: Literal["concept", "regularisation"]
    index: int
    kind: CacheKind
    cache: str
    picture: str = ""
    why: Said | None = None
    foreign: bool = False


def changed(was: Origin, now: Origin, *, trusting: bool = False) -> Said | None:
    """What keeps a cache from fitting the run that comes, None when it fits. The first reason found is told.

    ``now`` is what this run would make it from. sd-scripts itself notices when a cache lacks the mirrored latents or
    the alpha mask that a run wants, and makes it anew (SB:441-451); ``trusting`` (skip_cache_check) it does not.
    """
    old, new = was.conditions, now.conditions
    if new.kind == "text":
        return next(_of_text(was, now), None) or _of_both(old, new)
    return next(_of_latents(was, now), None) or _of_both(old, new) or _of_arrays(old, new, trusting=trusting)


def _of_latents(was: Origin, now: Origin) -> Iterator[Said]:
    old, new = was.conditions, now.conditions
    if was.source != now.source:
        yield say("the picture was replaced or edited since")
    if (was.size, was.bucket, was.resized) != (now.size, now.bucket, now.resized):
        if old.resolution != new.resolution:
            yield say("made at {old}, this run is {new}", old=_pixels(old.resolution), new=_pixels(new.resolution))
        yield say("made under other bucket settings, which cut the picture otherwise")
    if old.model != new.model:
        if old.model_name == new.model_name:
            yield say("made with another VAE, though it is still called {name}", name=new.model_name)
        yield say("made with the VAE of {old}, this run has that of {new}", old=old.model_name, new=new.model_name)
    if old.resize_interpolation != new.resize_interpolation:
        yield say("the picture was scaled with another resize_interpolation")


def _of_text(was: Origin, now: Origin) -> Iterator[Said]:
    old, new = was.conditions, now.conditions
    if was.source != now.source:
        yield say("the caption was edited since")
    if old.model != new.model:
        if old.model_name == new.model_name:
            yield say("made with another base model, though it is still called {name}", name=new.model_name)
        yield say("made with the text encoders of {old}, this run has those of {new}", old=old.model_name,
                  new=new.model_name)  # fmt: skip
    if old.max_token_length != new.max_token_length:
        yield say(
            "made with a max_token_length of {old}, this run has {new}",
            old=old.max_token_length,
            new=new.max_token_length,
        )
    if old.weighted_captions != new.weighted_captions:
        yield say("made with weighted_captions") if old.weighted_captions else say("made without weighted_captions")
    if old.tokenizer != new.tokenizer:
        yield say("made with another tokenizer")


def _of_both(old: Conditions, new: Conditions) -> Said | None:
    if old.precision != new.precision:
        return say("computed in {old}, this run does it in {new}", old=old.precision, new=new.precision)
    if old.commit and new.commit and old.commit != new.commit:
        return say("made by another version of sd-scripts, {commit}", commit=old.commit[:8])
    return None


def _of_arrays(old: Conditions, new: Conditions, *, trusting: bool) -> Said | None:
    """What the file holds beside the latents. An alpha mask in it is used, asked for or not (TU:1602, TN:471)."""
    if old.alpha_mask and not new.alpha_mask:
        return say("made with alpha_mask, which this run does not ask for and would get")
    if trusting and new.alpha_mask and not old.alpha_mask:
        return say("made without the alpha_mask of this run, and skip_cache_check keeps that from being noticed")
    if trusting and new.flip_aug and not old.flip_aug:
        return say("made without the flip_aug of this run, and skip_cache_check keeps that from being noticed")
    return None


def _pixels(size: Size) -> Said:
    """A resolution as people write it: 768, or 768 x 1024."""
    width, height = size
    return quoted(str(width)) if width == height else say("{width} x {height}", width=width, height=height)


__all__ = [
    "INFO_FILE", "TEXT_SUFFIX", "CacheKind", "Conditions", "Origin", "StaleCache", "changed",
]  # fmt: skip
