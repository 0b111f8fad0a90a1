"""Rules about duration, scheduler, warm-up and loss weights."""

from __future__ import annotations

from collections.abc import Iterator

from lorabake_schemas.guide.defaults import find_schedule_override, has_own_rate, resolve_scheduler
from lorabake_schemas.guide.registry import ERROR, HINT, WARNING, RuleContext, RuleHit, rule
from lorabake_schemas.messages import msg
from lorabake_schemas.sd_scripts import (
    ADAM_OPTIMIZERS,
    NO_WARMUP_OPTIMIZER,
    is_adaptive,
    is_schedule_free,
)

GUIDE_SCHEDULERS = (None, "cosine", "cosine_with_restarts")


@rule("G4.36", ERROR, "sd-scripts silently lets max_train_epochs overwrite max_train_steps (S9).")
def conflicting_durations(situation: RuleContext) -> Iterator[RuleHit]:
    train = situation.recipe.train
    given = [name for name in ("max_train_epochs", "max_train_steps", "exposures") if getattr(train, name) is not None]
    if len(given) > 1:
        yield RuleHit(
            ("train", given[1]),
            msg("{names} are set together, but a run has only one length", names=", ".join(given)),
            msg("keep {first} or {second}, not both", first=given[0], second=given[1]),
        )


@rule("S5", ERROR, "sd-scripts raises an error for the constant scheduler with a warm-up, after loading the model.")
def warmup_with_constant(situation: RuleContext) -> Iterator[RuleHit]:
    train = situation.recipe.train
    if resolve_scheduler(situation.recipe) == "constant" and train.lr_warmup_steps:
        yield RuleHit(
            ("train", "lr_warmup_steps"),
            msg("the constant scheduler does not support warm-up"),
            msg('write lr_scheduler = "constant_with_warmup", or remove lr_warmup_steps'),
        )


@rule("S5.needs", ERROR, "Some schedulers stop without a certain option, and adafactor without Adafactor.")
def missing_scheduler_option(situation: RuleContext) -> Iterator[RuleHit]:
    name, kohya = situation.recipe.train.lr_scheduler, situation.recipe.kohya
    if is_schedule_free(situation.optimizer):
        return
    if name == "cosine_with_min_lr" and "lr_scheduler_min_lr_ratio" not in kohya:
        yield RuleHit(
            ("train", "lr_scheduler"),
            msg("cosine_with_min_lr needs lr_scheduler_min_lr_ratio"),
            msg("add lr_scheduler_min_lr_ratio = 0.1 under [kohya]"),
        )
    if name == "adafactor" and not has_own_rate(situation.recipe.train):
        yield RuleHit(
            ("train", "lr_scheduler"),
            msg("the adafactor scheduler works only with the Adafactor optimizer when it sets its own learning rate"),
            msg('write lr_scheduler = "cosine"'),
        )
    if name == "piecewise_constant" and "step_rules" not in (situation.recipe.train.lr_scheduler_args or {}):
        yield RuleHit(
            ("train", "lr_scheduler"),
            msg("piecewise_constant needs step_rules"),
            msg('add lr_scheduler_args = {{ step_rules = "1:10,0.1:20,0.01" }}'),
        )


@rule("S5.first_step", ERROR, "A warm-up starts at a rate of 0, and DAdaptSGD divides by it in its first step.")
def zero_initial_lr(situation: RuleContext) -> Iterator[RuleHit]:
    ramps = resolve_scheduler(situation.recipe) != "piecewise_constant"  # which has no warm-up; S5.ignored reports that
    if situation.optimizer == NO_WARMUP_OPTIMIZER and situation.recipe.train.lr_warmup_steps and ramps:
        said = msg("DAdaptSGD stops at the first step if there is a warm-up")
        yield RuleHit(("train", "lr_warmup_steps"), said, msg("remove it, or use DAdaptAdam"))


@rule("S5.type", ERROR, "lr_scheduler_type has no warm-up, and must be one that works.")
def unusable_scheduler_type(situation: RuleContext) -> Iterator[RuleHit]:
    train, where = situation.recipe.train, ("train", "lr_scheduler_type")
    name = train.lr_scheduler_type
    if not name or is_schedule_free(situation.optimizer):
        return
    if has_own_rate(train):  # its groups have no rate to start from
        said = msg("Adafactor has its own scheduler, and most others crash with it")
        yield RuleHit(where, said, msg("remove it"))
        return
    if train.lr_warmup_steps:
        said = msg("sd-scripts stops if {name} is used with a warm-up", name=name)
        fix = msg("remove it, or use lr_scheduler instead of lr_scheduler_type")
        yield RuleHit(("train", "lr_warmup_steps"), said, fix)


@rule("S4.decay", WARNING, "warmup_stable_decay reads lr_decay_steps as steps, or as a share below 1.")
def wrong_lr_decay(situation: RuleContext) -> Iterator[RuleHit]:
    steps, name = situation.recipe.kohya.get("lr_decay_steps"), resolve_scheduler(situation.recipe)
    if isinstance(steps, float) and steps >= 1:
        said = msg(
            "{steps} has a decimal point, so it means {times:g} times the whole run", steps=str(steps), times=steps
        )
        yield RuleHit(("kohya", "lr_decay_steps"), said, msg("write {steps} to mean steps", steps=int(steps)))
    if not steps and name == "warmup_stable_decay":
        said = msg("without lr_decay_steps the learning rate never decays")
        yield RuleHit(("train", "lr_scheduler"), said, msg("set lr_decay_steps = 0.2 under [kohya]"))


@rule("S4.warm_up", WARNING, "A warm-up as long as the run never reaches the learning rate.", needs_plan=True)
def endless_warmup(situation: RuleContext) -> Iterator[RuleHit]:
    if situation.plan is None or resolve_scheduler(situation.recipe) is None:
        return
    counted, given = situation.plan.forecast, situation.recipe.train.lr_warmup_steps
    if given and counted.warmup_steps >= counted.steps:
        yield RuleHit(
            ("train", "lr_warmup_steps"),
            msg(
                "a warm-up of {warm} steps in a run of {steps} never reaches the learning rate",
                warm=counted.warmup_steps,
                steps=counted.steps,
            ),
            msg("write a share of all steps such as 0.1, or remove it"),
        )


@rule("G4.42", WARNING, "Adaptive optimizers estimate the step size over time; restarts disturb that.")
def adaptive_without_cosine(situation: RuleContext) -> Iterator[RuleHit]:
    name = situation.recipe.train.lr_scheduler
    if is_schedule_free(situation.optimizer):
        return
    if is_adaptive(situation.optimizer) and name not in {None, "cosine"}:
        yield RuleHit(
            ("train", "lr_scheduler"),
            msg(
                "the guide uses only cosine with {optimizer}, not {name}", optimizer=situation.optimizer, name=str(name)
            ),
            msg('write lr_scheduler = "cosine", or remove it'),
        )


@rule("G4.44", HINT, "Schedulers other than cosine change learning a lot; the guide does not use them.")
def scheduler_not_in_guide(situation: RuleContext) -> Iterator[RuleHit]:
    name = situation.recipe.train.lr_scheduler
    if (
        situation.optimizer in ADAM_OPTIMIZERS
        and name not in GUIDE_SCHEDULERS
        and not find_schedule_override(situation.recipe)
    ):
        yield RuleHit(
            ("train", "lr_scheduler"),
            msg(
                'lr_scheduler = "{name}" changes how the LoRA learns, and the guide has no values for it',
                name=str(name),
            ),
            msg('remove it to use "cosine_with_restarts" (the default for AdamW), unless you know it well'),
        )


@rule("G4.100", WARNING, "sd-scripts multiplies the two loss weights; with both, Min-SNR has almost no effect (S31).")
def two_loss_weights(situation: RuleContext) -> Iterator[RuleHit]:
    train = situation.recipe.train
    if train.min_snr_gamma and train.debiased_estimation_loss:
        yield RuleHit(
            ("train", "debiased_estimation_loss"),
            msg("min_snr_gamma and debiased_estimation_loss are both on, so min_snr_gamma has little effect"),
            msg("keep one: debiased_estimation_loss for epsilon models, min_snr_gamma = 5 for v-prediction models"),
        )


@rule(
    "G35.12",
    WARNING,
    "The loss of regularization samples is multiplied by it: closer to 0 means less regularization, not more.",
)
def unusual_prior_weight(situation: RuleContext) -> Iterator[RuleHit]:
    weight = situation.recipe.train.prior_loss_weight
    if weight is not None and weight != 1 and situation.recipe.regularization:
        yield RuleHit(
            ("train", "prior_loss_weight"),
            msg(
                "prior_loss_weight {weight:g} makes regularization weaker (the guide states the opposite by mistake)",
                weight=weight,
            )
            if weight < 1
            else msg(
                "prior_loss_weight {weight:g} makes regularization stronger, so what you train is learned less",
                weight=weight,
            ),
            msg("write 1.0 unless this is intended"),
        )


__all__: list[str] = []
