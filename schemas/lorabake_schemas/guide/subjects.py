"""Rules about what suits a subject: the algorithm, how long to train, how often to save, what a kind asks for."""

from __future__ import annotations

from collections.abc import Iterator

from lorabake_schemas.defaults import is_multi
from lorabake_schemas.guide.registry import HINT, WARNING, Remark, Situation, rule
from lorabake_schemas.vocabulary import is_adaptive
from lorabake_schemas.words import say, told

# What the guide gives each algorithm to do (G7.9-G7.12); networks.lora is right for everything but styles.
FOR_ANYTHING = ("locon", "dylora", "ia3", "diag-oft")
FOR_SEVERAL = ("locon", "loha", "lokr")
FOR_CONCEPTS = ("locon", "loha", "lokr", "glora")
FOR_STYLES = ("locon", "glora", "ia3")
MARK = 2000  # steps (G5.2)
STYLE_MARK = 4000  # steps at which a style is usually done (GC.19)
FEW_SAVES = 4
UNEVEN = 1.25  # ours: 51, 43 and 32 pictures with repeats of 1, 1 and 2 are above it (T3), with 5, 6 and 8 far below


def _suited(situation: Situation, types: tuple[str, ...], subject: str) -> Iterator[Remark]:
    """A hint unless the algorithm is among those that the guide names; the plain one was never in question."""
    if situation.network not in types:
        yield Remark(
            ("network", "type"),
            say("the guide does not name {network} for {subject}", network=situation.network, subject=subject),
            say("for that it has {types}", types=", ".join(types)),
        )


@rule("G7.9", HINT, "Some algorithms suit anything, others generalise and lose what is particular.")
def type_suits_one_thing(situation: Situation) -> Iterator[Remark]:
    one = situation.recipe.kind in {"object", "clothing"} and not is_multi(situation.recipe)
    if one and situation.network != "lora":
        yield from _suited(situation, FOR_ANYTHING, say("one particular thing"))


@rule("G7.10", HINT, "LoCon, LoHa and LoKr keep several concepts apart.")
def type_suits_several(situation: Situation) -> Iterator[Remark]:
    if is_multi(situation.recipe) and situation.recipe.kind != "style" and situation.network != "lora":
        yield from _suited(situation, FOR_SEVERAL, say("several concepts"))


@rule("G7.11", HINT, "LoCon, LoHa, LoKr and GLoRA learn what is general.")
def type_suits_concepts(situation: Situation) -> Iterator[Remark]:
    if situation.recipe.kind == "concept" and not is_multi(situation.recipe) and situation.network != "lora":
        yield from _suited(situation, FOR_CONCEPTS, say("concepts"))


@rule("G7.12", HINT, "Styles are broad: LoCon, GLoRA and iA3 suit them, and LyCORIS better than a plain LoRA (G1.20).")
def type_suits_styles(situation: Situation) -> Iterator[Remark]:
    if situation.recipe.kind == "style":
        yield from _suited(situation, FOR_STYLES, say("styles"))


@rule("G7.16", HINT, "LoHa and LoKr generalise and are poor at fine detail; GLoRA is weak on one subject (G7.25).")
def algorithm_suits_subject(situation: Situation) -> Iterator[Remark]:
    if situation.recipe.kind == "character" and situation.network in {"loha", "lokr", "glora"}:
        yield Remark(
            ("network", "type"),
            say("{network} tends to lose a character's details", network=situation.network),
            say("lora or locon suit a single character better"),
        )


@rule(
    "G6.17.kind",
    WARNING,
    "Outfits are several concepts of one character, each with its own folder, token and outfit tag.",
)
def outfits_are_outfits(situation: Situation) -> Iterator[Remark]:
    concepts = situation.recipe.concept
    if situation.recipe.kind != "outfits":
        return
    if len(concepts) == 1:
        said = say('kind = "outfits" with one [[concept]]: there is nothing to tell apart')
        yield Remark(("kind",), said, say('add a [[concept]] for each outfit, or write kind = "character"'))
    elif not any(concept.outfit for concept in concepts):
        said = say('kind = "outfits", and no [[concept]] has an outfit')
        yield Remark(("concept", 0, "token"), said, say('add outfit = "..." to them: a word of its own for each'))


@rule(
    "G6.14",
    WARNING,
    "Repeats in proportion give every concept its share; from 1 instead of 10 they round badly.",
    unless="the shares differ by less than a quarter",
    needs_plan=True,
)
def shares_are_even(situation: Situation) -> Iterator[Remark]:
    given = [index for index, concept in enumerate(situation.recipe.concept) if concept.num_repeats is not None]
    shares = [share for share in situation.plan.forecast.shares if not share.is_reg] if situation.plan else []
    samples = [share.samples_per_epoch for share in shares]
    if len(samples) > 1 and given and max(samples) > UNEVEN * min(samples):
        counts = ", ".join(str(count) for count in samples)
        yield Remark(
            ("concept", given[0], "num_repeats"),
            say("the concepts get unequal shares of an epoch: {samples} pictures", samples=counts),
            say("take num_repeats out of all of them: lorabake balances them, as the guide does from 10 repeats"),
        )


@rule(
    "G5.2",
    HINT,
    "About 2000 steps are a number to aim at; far more does no harm.",
    unless="the recipe leaves the duration to the guide",
    needs_plan=True,
)
def run_is_not_too_short(situation: Situation) -> Iterator[Remark]:
    train, plan = situation.recipe.train, situation.plan
    names = ("max_train_steps", "max_train_epochs", "exposures")
    given = next((name for name in names if getattr(train, name) is not None), None)
    if plan is not None and given and plan.forecast.steps < MARK // 2:
        yield Remark(
            ("train", given),
            told(plan.forecast.steps, "one step in all", "{n} steps in all; the guide aims at about 2000"),
            say("fine for a trial; else leave {name} out, and the guide's number is taken", name=given),
        )


@rule(
    "GC.19",
    HINT,
    "Prodigy hardly over-trains the UNet of a style but burns its text encoder; good ones came at 2000 steps.",
    unless="a UNet-only run",
    needs_plan=True,
)
def style_may_be_done_early(situation: Situation) -> Iterator[Remark]:
    recipe, plan = situation.recipe, situation.plan
    alone = recipe.network.network_train_unet_only is True
    if plan is None or recipe.kind != "style" or alone or not is_adaptive(situation.optimizer):
        return
    if plan.forecast.steps > STYLE_MARK:
        yield Remark(
            ("kind",),
            say(
                "{steps} steps of a style with {optimizer}: its text encoder may be over-trained by then",
                steps=plan.forecast.steps,
                optimizer=situation.optimizer,
            ),
            say(
                "compare the files from 2000 steps on; if composition breaks, add "
                "network_train_unet_only = true under [network]"
            ),
        )


@rule(
    "G4.22.saves",
    HINT,
    "LoCon seemed to overfit sooner, so there should be earlier files to go back to.",
    needs_plan=True,
)
def locon_is_saved_often(situation: Situation) -> Iterator[Remark]:
    save, plan = situation.recipe.save, situation.plan
    if plan is None or situation.network != "locon" or plan.forecast.steps < MARK // 2:
        return
    asked = next((name for name in ("save_every_n_epochs", "save_every_n_steps") if getattr(save, name)), None)
    if asked and len(plan.forecast.saves) < FEW_SAVES:
        yield Remark(
            ("save", asked),
            told(
                len(plan.forecast.saves),
                "only one file will be written, and a LoCon tends to overfit early",
                "only {n} files will be written, and a LoCon tends to overfit early",
            ),
            say("leave it out: then about ten are written"),
        )


__all__: list[str] = []
