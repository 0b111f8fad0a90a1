"""Rules about what suits a subject: the algorithm, how long to train, how often to save, what a kind asks for."""

from __future__ import annotations

from collections.abc import Iterator

from lorabake_schemas.guide.defaults import group_concepts, is_multi_concept
from lorabake_schemas.guide.registry import ERROR, HINT, WARNING, RuleContext, RuleHit, rule
from lorabake_schemas.messages import msg, nmsg
from lorabake_schemas.sd_scripts import is_adaptive

# What the guide gives each algorithm to do (G7.9-G7.12); networks.lora is right for everything but styles.
GENERAL_ALGORITHMS = ("locon", "dylora", "ia3", "diag-oft")
MULTI_CONCEPT_ALGORITHMS = ("locon", "loha", "lokr")
CONCEPT_ALGORITHMS = ("locon", "loha", "lokr", "glora")
STYLE_ALGORITHMS = ("locon", "glora", "ia3")
TARGET_STEPS = 2000  # steps (G5.2)
MAX_STYLE_STEPS = 4000  # steps at which a style is usually done (GC.19)
MIN_SAVES = 4
MAX_SHARE_RATIO = (
    1.25  # ours: 51, 43 and 32 images with repeats of 1, 1 and 2 are above it (T3), with 5, 6 and 8 far below
)


def _check_algorithm(situation: RuleContext, types: tuple[str, ...], subject: str) -> Iterator[RuleHit]:
    """A hint unless the guide names the algorithm; the plain LoRA is never reported."""
    if situation.network not in types:
        yield RuleHit(
            ("network", "type"),
            msg("the guide does not recommend {network} for {subject}", network=situation.network, subject=subject),
            msg("use one of the types the guide recommends: {types}", types=", ".join(types)),
        )


@rule("G7.9", HINT, "Some algorithms suit anything, others generalize and lose detail.")
def unsuitable_object_algorithm(situation: RuleContext) -> Iterator[RuleHit]:
    one = situation.recipe.kind in {"object", "clothing"} and not is_multi_concept(situation.recipe)
    if one and situation.network != "lora":
        yield from _check_algorithm(situation, GENERAL_ALGORITHMS, msg("a single object"))


@rule("G7.10", HINT, "LoCon, LoHa and LoKr keep several concepts separate.")
def unsuitable_multi_concept_algorithm(situation: RuleContext) -> Iterator[RuleHit]:
    if is_multi_concept(situation.recipe) and situation.recipe.kind != "style" and situation.network != "lora":
        yield from _check_algorithm(situation, MULTI_CONCEPT_ALGORITHMS, msg("several concepts"))


@rule("G7.11", HINT, "LoCon, LoHa, LoKr and GLoRA learn what is general.")
def unsuitable_concept_algorithm(situation: RuleContext) -> Iterator[RuleHit]:
    if situation.recipe.kind == "concept" and not is_multi_concept(situation.recipe) and situation.network != "lora":
        yield from _check_algorithm(situation, CONCEPT_ALGORITHMS, msg("concepts"))


@rule(
    "G7.12",
    HINT,
    "Styles are broad: LoCon, GLoRA and iA3 suit them, and LyCORIS suits them better than a plain LoRA (G1.20).",
)
def unsuitable_style_algorithm(situation: RuleContext) -> Iterator[RuleHit]:
    if situation.recipe.kind == "style":
        yield from _check_algorithm(situation, STYLE_ALGORITHMS, msg("styles"))


@rule("G7.16", HINT, "LoHa and LoKr generalize and are poor at fine detail; GLoRA is weak on one subject (G7.25).")
def unsuitable_character_algorithm(situation: RuleContext) -> Iterator[RuleHit]:
    if situation.recipe.kind == "character" and situation.network in {"loha", "lokr", "glora"}:
        yield RuleHit(
            ("network", "type"),
            msg("{network} tends to lose a character's details", network=situation.network),
            msg("use lora or locon for a single character"),
        )


@rule(
    "G6.17.kind",
    WARNING,
    "Outfits are several concepts of one character, each with its own folder, token and outfit tag.",
)
def incomplete_outfits(situation: RuleContext) -> Iterator[RuleHit]:
    concepts = situation.recipe.concept
    if situation.recipe.kind != "outfits":
        return
    if len(group_concepts(situation.recipe)) == 1:
        said = msg('kind = "outfits" needs more than one [[concept]]')
        yield RuleHit(("kind",), said, msg('add a [[concept]] for each outfit, or write kind = "character"'))
    elif not any(concept.outfit for concept in concepts):
        said = msg('kind = "outfits" is set, but no [[concept]] has an outfit')
        yield RuleHit(
            ("concept", 0, "token"), said, msg('add outfit = "..." to each [[concept]], with a different word for each')
        )


@rule("G6.17.token", ERROR, "An outfit's word follows the character's token in every caption.")
def outfit_without_token(situation: RuleContext) -> Iterator[RuleHit]:
    for index, concept in enumerate(situation.recipe.concept):
        if concept.outfit and concept.token is None:
            yield RuleHit(
                ("concept", index, "outfit"),
                msg("outfit is set, but this [[concept]] has no token"),
                msg('add the character\'s token, or write token = "{word}" instead of outfit', word=concept.outfit),
            )


@rule(
    "G6.14",
    WARNING,
    "Proportional repeats give every concept its share; based on 1 instead of 10 they round badly.",
    unless="the shares differ by less than a quarter",
    needs_plan=True,
)
def uneven_concept_shares(situation: RuleContext) -> Iterator[RuleHit]:
    given = [index for index, concept in enumerate(situation.recipe.concept) if concept.num_repeats is not None]
    shares = [share for share in situation.plan.forecast.shares if not share.is_reg] if situation.plan else []
    samples = [share.samples_per_epoch for share in shares]
    if len(samples) > 1 and given and max(samples) > MAX_SHARE_RATIO * min(samples):
        counts = ", ".join(str(count) for count in samples)
        yield RuleHit(
            ("concept", given[0], "num_repeats"),
            msg("the concepts get unequal shares of an epoch: {samples} images", samples=counts),
            msg(
                "remove num_repeats from all of them; lorabake then balances them starting at 10 repeats, "
                "as the guide does"
            ),
        )


@rule(
    "G5.2",
    HINT,
    "About 2000 steps are a target; far more does no harm.",
    unless="the recipe leaves the duration to the guide",
    needs_plan=True,
)
def short_run(situation: RuleContext) -> Iterator[RuleHit]:
    train, plan = situation.recipe.train, situation.plan
    names = ("max_train_steps", "max_train_epochs", "exposures")
    given = next((name for name in names if getattr(train, name) is not None), None)
    if plan is not None and given and plan.forecast.steps < TARGET_STEPS // 2:
        yield RuleHit(
            ("train", given),
            msg(
                "total steps: {n} (the guide recommends about 2000)",
                n=plan.forecast.steps,
            ),
            msg("ignore this if it is a test run, else remove {name} to use the guide's number", name=given),
        )


@rule(
    "GC.19",
    HINT,
    "Prodigy hardly overtrains the UNet of a style but ruins its text encoder; good ones came at 2000 steps.",
    unless="a UNet-only run",
    needs_plan=True,
)
def long_style_run(situation: RuleContext) -> Iterator[RuleHit]:
    recipe, plan = situation.recipe, situation.plan
    alone = recipe.network.network_train_unet_only is True
    if plan is None or recipe.kind != "style" or alone or not is_adaptive(situation.optimizer):
        return
    if plan.forecast.steps > MAX_STYLE_STEPS:
        yield RuleHit(
            ("kind",),
            msg(
                "a style trained for {steps} steps with {optimizer} may overtrain its text encoder",
                steps=plan.forecast.steps,
                optimizer=situation.optimizer,
            ),
            msg(
                "compare the files saved from step 2000 on; if composition breaks, set "
                "network_train_unet_only = true under [network]"
            ),
        )


@rule(
    "G4.22.saves",
    HINT,
    "LoCon seemed to overfit sooner, so save earlier files to go back to.",
    needs_plan=True,
)
def few_locon_saves(situation: RuleContext) -> Iterator[RuleHit]:
    save, plan = situation.recipe.save, situation.plan
    if plan is None or situation.network != "locon" or plan.forecast.steps < TARGET_STEPS // 2:
        return
    asked = next((name for name in ("save_every_n_epochs", "save_every_n_steps") if getattr(save, name)), None)
    if asked and len(plan.forecast.saves) < MIN_SAVES:
        yield RuleHit(
            ("save", asked),
            nmsg(
                len(plan.forecast.saves),
                "only one file will be saved, and a LoCon tends to overfit early",
                "only {n} files will be saved, and a LoCon tends to overfit early",
            ),
            msg("remove it to save about ten files"),
        )


__all__: list[str] = []
