"""The guide's numbers of exposures and steps, to compare with the plan's. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from lorabake_schemas.families.model_family import GuideValue, ModelFamily
from lorabake_schemas.plan import ConceptShare, Forecast, GuideTarget
from lorabake_schemas.recipe import RecipeKind

STYLE_TARGET_STEPS = 4000


def target_exposures(kind: RecipeKind, family: ModelFamily) -> GuideValue[int]:
    """How often the guide uses each image, and the rule with that number (F4): styles less, SDXL half."""
    if kind == "style":
        return GuideValue(35, "G8.5")
    return family.guide.exposures


def with_guide_targets(counted: Forecast, kind: RecipeKind, family: ModelFamily, *, adaptive: bool) -> Forecast:
    """The forecast with the guide's targets."""
    return counted.model_copy(update={"marks": list_guide_targets(counted, kind, family, adaptive=adaptive)})


def list_guide_targets(
    counted: Forecast, kind: RecipeKind, family: ModelFamily, *, adaptive: bool
) -> tuple[GuideTarget, ...]:
    """Exposures of the concept with the most images, and steps: 2000 for anything (G5.2), about 4000 for a style
    unless an adaptive optimizer trains it (GC.19)."""
    wanted, rule = target_exposures(kind, family)
    seen = GuideTarget(rule=rule, measure="exposures", guide=wanted, planned=largest_concept(counted.shares).exposures)
    steps = [("G5.2", 2000)] + ([("GC.19", STYLE_TARGET_STEPS)] if kind == "style" and not adaptive else [])
    return (seen, *(GuideTarget(rule=rule, measure="steps", guide=to, planned=counted.steps) for rule, to in steps))


def largest_concept(shares: Sequence[ConceptShare]) -> ConceptShare:
    """The concept with the most images, the first of several."""
    return max((share for share in shares if not share.is_reg), key=lambda share: share.images)
