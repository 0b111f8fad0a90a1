"""How the captions of each folder are read: its own keys, else those of [captions], else the options under [kohya]."""

from __future__ import annotations

from typing import Literal

from lorabake_schemas.dataset import CAPTION_EXTENSION
from lorabake_schemas.recipe import Base, Concept, Recipe, Regularization, TagStyle

CaptionKey = Literal[
    "caption_extension", "shuffle_caption", "keep_tokens", "keep_tokens_separator", "secondary_separator",
    "enable_wildcard", "caption_prefix", "caption_suffix", "caption_dropout_rate", "caption_dropout_every_n_epochs",
    "caption_tag_dropout_rate",
]  # fmt: skip
# Options without a separate key in earlier versions, so recipes may have them under [kohya], too.
KOHYA_KEYS: tuple[CaptionKey, ...] = (
    "keep_tokens_separator", "secondary_separator", "enable_wildcard", "caption_dropout_every_n_epochs",
)  # fmt: skip
# The part of [captions] that also applies to regularization images: how files are read. The rest is for concepts.
READING_KEYS: tuple[CaptionKey, ...] = ("caption_extension", "enable_wildcard")

AFFIX_KEYS: tuple[CaptionKey, CaptionKey] = ("caption_prefix", "caption_suffix")
# For captions = "none". sd-scripts always looks for captions: this is the name of a file that nobody has.
NO_CAPTION_EXTENSION = ".no-captions"

TEXT_CACHE_KEYS = ("cache_text_encoder_outputs", "cache_text_encoder_outputs_to_disk")

Part = Concept | Regularization


def is_from_kohya(part: Part, recipe: Recipe, key: CaptionKey) -> bool:
    """Whether its value for this folder is the one under [kohya]."""
    return key in KOHYA_KEYS and _find_own_value(part, recipe, key) is None


def find_caption_value(part: Part, recipe: Recipe, key: CaptionKey) -> bool | int | float | str | None:
    """What the recipe has for this folder, None where it leaves the option to lorabake or sd-scripts."""
    if key == "caption_extension" and isinstance(part, Concept) and part.captions == "none":
        return NO_CAPTION_EXTENSION
    if is_from_kohya(part, recipe, key):
        value = recipe.kohya.get(key)
        return None if isinstance(value, tuple) else value
    return _find_own_value(part, recipe, key)


def _find_own_value(part: Part, recipe: Recipe, key: CaptionKey) -> bool | int | float | str | None:
    own: bool | int | float | str | None = getattr(part, key, None)
    shared = isinstance(part, Concept) or key in READING_KEYS
    return own if own is not None or not shared else getattr(recipe.captions, key)


def resolve_caption_extension(part: Part, recipe: Recipe) -> str:
    """.txt unless the recipe has another one (G3.3)."""
    return str(find_caption_value(part, recipe, "caption_extension") or CAPTION_EXTENSION)


def caches_text_outputs(recipe: Recipe) -> bool:
    """Whether captions are encoded once, before the training, so that they cannot change in it (S41)."""
    return any(recipe.kohya.get(key) is True for key in TEXT_CACHE_KEYS)


def has_wildcards(part: Part, recipe: Recipe) -> bool:
    """Whether every line of a caption file is a caption, and ``{a|b}`` a choice."""
    return find_caption_value(part, recipe, "enable_wildcard") is True


def get_caption_text(part: Part, recipe: Recipe, key: CaptionKey) -> str:
    """A text option, empty if it is not set."""
    value = find_caption_value(part, recipe, key)
    return value if isinstance(value, str) else ""


def list_tag_styles(base: Base) -> tuple[TagStyle, ...]:
    """The kinds of text that the model was trained on, as set in the recipe, in order."""
    return (base.tags,) if isinstance(base.tags, str) else base.tags or ()


def is_natural(concept: Concept, recipe: Recipe) -> bool:
    """Whether a concept's captions are sentences and nothing else."""
    return set((concept.tags,) if concept.tags else list_tag_styles(recipe.base)) == {"natural"}
