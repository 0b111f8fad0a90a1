"""What kind of LoRA a word for a subject stands for. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lorabake_schemas.guide.vocabulary import get_kind_tags, is_clothing

if TYPE_CHECKING:
    from lorabake_schemas.recipe import RecipeKind

_LIVING = frozenset(
    {"anthro", "feral", "humanoid", "animal", "creature", "monster", "dragon", "taur", "semi-anthro", "cat", "dog",
     "fox", "wolf", "horse", "bird", "canine", "feline"}
)  # fmt: skip
_GESTURES = frozenset({"pose", "gesture", "expression", "concept", "action", "effect", "composition", "background"})


def find_kind_of_class(word: str) -> RecipeKind | None:
    """By the general word for it; None for a word that may be of any kind."""
    if word in _LIVING or word in get_kind_tags("person"):
        return "character"
    if word in _GESTURES:
        return "concept"
    if is_clothing(word):
        return "clothing"
    return "object" if word in get_kind_tags("classes") else None
