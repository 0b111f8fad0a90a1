"""What sd-scripts' caches were made from, as recorded next to them, and what of that has changed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Literal, NamedTuple

from pydantic import Field, NonNegativeInt

from lorabake_schemas.base import StrictModel, TupleOf
from lorabake_schemas.bucket_fit import Size
from lorabake_schemas.messages import Message, literal, msg

ORIGINS_FILE = "lorabake-caches.json"  # lorabake's own, next to the caches: it is moved and copied with them
CacheKind = Literal["latents", "text", "info"]
NO_SIZE: Size = (0, 0)
ShortText = Annotated[str, Field(max_length=4096)]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
StoredSize = Annotated[tuple[int, int], Field(strict=False)]


class CacheSettings(StrictModel):
    """The settings that made the caches of one folder and kind; all of them share these.

    ``model`` is the SHA-256 of the model that makes them: for latents the VAE or the base model that contains it, for
    text the base model; "" if this machine has no file to hash. ``commit`` is sd-scripts' commit, "" if unknown.
    Settings of the other kind keep their defaults: text is encoded the same at any resolution.
    """

    kind: Literal["latents", "text"]
    model: ShortText = ""
    model_name: ShortText = ""
    precision: ShortText = ""
    commit: ShortText = ""
    resolution: StoredSize = NO_SIZE
    resize_interpolation: ShortText = ""
    flip_aug: bool = False
    alpha_mask: bool = False
    tokenizer: ShortText = ""
    max_token_length: int = 75
    weighted_captions: bool = False


class CacheOrigin(NamedTuple):
    """What one cache was made from.

    ``source`` is the SHA-256 of the image, for text that of the caption as sd-scripts encodes it. The sizes are those
    of a BucketFit: what the image was taken for, its bucket, and its size after scaling.
    """

    source: str
    settings: CacheSettings
    size: Size = NO_SIZE
    bucket: Size = NO_SIZE
    resized: Size = NO_SIZE


StoredOrigin = Annotated[tuple[Sha256, Sha256, NonNegativeInt, StoredSize, StoredSize, StoredSize], Field(strict=False)]


class CacheOriginsFile(StrictModel):
    """The content of ORIGINS_FILE: settings once, since all caches of a run share them; then a row for each cache.

    A row has the cache's own SHA-256, the source's, the index of its settings and the sizes of the origin.
    """

    version: Literal[1] = 1
    settings: TupleOf[CacheSettings]
    caches: TupleOf[StoredOrigin]


@dataclass(frozen=True, slots=True)
class StaleCache:
    """A cache that sd-scripts would use and that does not fit, with the folder that contains it.

    ``why`` is what has changed, None if its origin is unknown. ``foreign`` is a file with the name of a cache that is
    not a cache: sd-scripts would overwrite it. ``image`` is "" for ``metadata_cache.json``.
    """

    table: Literal["concept", "regularization"]
    index: int
    kind: CacheKind
    cache: str
    image: str = ""
    why: Message | None = None
    foreign: bool = False


SOURCE_CHANGED = {
    "latents": msg("the image was replaced or edited since"),
    "text": msg("the caption was edited since"),
}
COMPARED_KEYS = ("resize_interpolation", "max_token_length", "weighted_captions", "precision")


def find_stale_reason(was: CacheOrigin, now: CacheOrigin, *, trusting: bool = False) -> Message | None:
    """What keeps a cache from fitting the run that comes, None when it fits. The first reason found is reported.

    ``now`` is what this run would make it from. sd-scripts itself notices when a cache lacks the mirrored latents or
    the alpha mask that a run wants, and makes it again (SB:441-451); ``trusting`` (skip_cache_check) it does not.
    """
    return None if was == now else next(_iter_stale_reasons(was, now, trusting), None)


def _iter_stale_reasons(was: CacheOrigin, now: CacheOrigin, trusting: bool) -> Iterator[Message]:
    old, new = was.settings, now.settings
    if was.source != now.source:
        yield SOURCE_CHANGED[new.kind]
    if was[2:] != now[2:]:  # the sizes
        if old.resolution != new.resolution:
            yield _format_change("resolution", _format_size(old.resolution), _format_size(new.resolution))
        yield msg("made with other bucket settings, which crop the image differently")
    if old.model != new.model:
        yield _format_other_model(old.model_name, new.model_name, new.kind)
    for key in COMPARED_KEYS:
        if (before := getattr(old, key)) != (after := getattr(new, key)):
            yield _format_change(key, *(literal("" if not value else str(value).lower()) for value in (before, after)))
    if old.tokenizer != new.tokenizer:
        yield msg("made with another tokenizer")
    if old.commit and new.commit and old.commit != new.commit:
        yield msg("made with another version of sd-scripts, {commit}", commit=old.commit[:8])
    yield from _iter_array_reasons(old, new, trusting)


def _iter_array_reasons(old: CacheSettings, new: CacheSettings, trusting: bool) -> Iterator[Message]:
    """An alpha mask in a cache is used, asked for or not (TU:1602, TN:471)."""
    if old.alpha_mask and not new.alpha_mask:
        yield msg("made with alpha_mask, so this run would use masks that it does not ask for")
    for key in ("alpha_mask", "flip_aug") if trusting else ():
        if getattr(new, key) and not getattr(old, key):
            yield msg("made without this run's {key}, and skip_cache_check keeps sd-scripts from noticing", key=key)


def _format_change(key: str, old: Message, new: Message) -> Message:
    if not old:
        return msg("made without {key}, but this run uses {key} = {new}", key=key, new=new)
    if not new:
        return msg("made with {key} = {old}, but this run uses none", key=key, old=old)
    return msg("made with {key} = {old}, but this run uses {new}", key=key, old=old, new=new)


def _format_other_model(old: str, new: str, kind: CacheKind) -> Message:
    part = msg("VAE") if kind == "latents" else msg("text encoder")
    if old == new:
        return msg("made with another {part} from a model of the same name, {name}", part=part, name=new)
    return msg("made with the {part} of {old}, but this run uses the one of {new}", part=part, old=old, new=new)


def _format_size(size: Size) -> Message:
    """A resolution as people write it: 768, or 768 x 1024."""
    width, height = size
    return literal(str(width)) if width == height else msg("{width} x {height}", width=width, height=height)
