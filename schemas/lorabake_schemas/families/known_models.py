"""What the name of a base model shows: whether it is one of the plain models, and the size it was trained at.

A name proves nothing, so only published names are known here. The recipe can always override what follows from them
(base.native_resolution, base.tags).
"""

from __future__ import annotations

import re

from lorabake_schemas.families.registry import list_families

_PRECISION_SUFFIX = re.compile(r"[._-](fp16|fp32|bf16)$")


def is_stock_model(model: str) -> bool:
    """Whether the name is that of a plain Stable Diffusion model, which was never trained on tags (GC.4)."""
    patterns = [pattern for family in list_families() for pattern in family.native_sides]
    return any(re.fullmatch(pattern, name) for name in _get_name_variants(model) for pattern in patterns)


def find_stock_family(model: str) -> str | None:
    """The family of a plain Stable Diffusion model with this name, None for any other name."""
    names = _get_name_variants(model)
    return next(
        (
            family.name
            for family in list_families()
            if any(re.fullmatch(pattern, name) for pattern in family.native_sides for name in names)
        ),
        None,
    )


def find_native_side(model: str) -> int | None:
    """The side in pixels at which a model of this name was trained, None for an unknown name."""
    sides = {pattern: side for each in list_families() for pattern, side in each.native_sides.items()}
    sides |= {pattern: side for each in list_families() for pattern, side in each.tag_model_sides.items()}
    names = _get_name_variants(model)
    return next((side for name in names for pattern, side in sides.items() if re.fullmatch(pattern, name)), None)


def find_known_boards(model: str) -> tuple[str, ...]:
    """The boards whose tags a model of this name was trained on, where there are several; empty for another name."""
    names = _get_name_variants(model)
    known = [pattern for family in list_families() for pattern in family.two_board_models]
    return ("danbooru", "e621") if any(re.fullmatch(pattern, name) for name in names for pattern in known) else ()


def find_trained_boards(model: str) -> tuple[str, ...]:
    """The boards whose tags a model of this name was trained on; empty for an unknown name."""
    one = {pattern: board for family in list_families() for pattern, board in family.board_models.items()}
    names = _get_name_variants(model)
    found = (board for pattern, board in one.items() if any(re.fullmatch(pattern, name) for name in names))
    return find_known_boards(model) or tuple(dict.fromkeys(found))


def guess_family(model: str) -> str | None:
    """The family that a model's name has, for a file that does not show it; None for any other name."""
    names = _get_name_variants(model)
    return next(
        (
            family.name
            for family in list_families()
            if any(re.fullmatch(pattern, name) for pattern in family.name_patterns for name in names)
        ),
        None,
    )


def guess_v_prediction(model: str) -> bool | None:
    """Whether a model's name says that it predicts v, for a file that does not show it; None if it says nothing."""
    names = _get_name_variants(model)
    return True if any(re.search(r"(^|[^a-z])v[-_ ]?pred", name) for name in names) else None


def _get_name_variants(model: str) -> tuple[str, ...]:
    """The file or repository name in lower case, with and without its precision."""
    last = model.replace("\\", "/").rstrip("/").rpartition("/")[2].lower()
    stem = last.removesuffix(".safetensors").removesuffix(".ckpt")
    return (stem, _PRECISION_SUFFIX.sub("", stem))
