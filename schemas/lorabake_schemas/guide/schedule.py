"""Rules about duration, scheduler, warm-up and loss weights."""

from __future__ import annotations

import difflib
from collections.abc import Iterator

from lorabake_schemas.defaults import brings_schedule, scheduler_of, sets_own_rate
from lorabake_schemas.guide.registry import ERROR, HINT, WARNING, Remark, Situation, rule
from lorabake_schemas.recipe import KohyaValue
from lorabake_schemas.vocabulary import (
    ADAM,
    NEEDS_A_RATE_AT_ONCE,
    OPTIMIZER_ARGUMENTS,
    TORCH_SCHEDULERS,
    is_adaptive,
    is_schedule_free,
)
from lorabake_schemas.words import Said, say

# Which scheduler reads which option (TU:5329-5391); anything else is ignored in silence.
CYCLES_READ_BY = ("cosine_with_restarts", "cosine_with_min_lr", "warmup_stable_decay")
GUIDE_SCHEDULERS = (None, "cosine", "cosine_with_restarts")
CYCLES_MOMENTUM = ("CyclicLR", "OneCycleLR")
# Every word about a schedule, in [train] and in [kohya].
SCHEDULE_WORDS = (
    ("train", "lr_scheduler"), ("train", "lr_warmup_steps"), ("train", "lr_scheduler_num_cycles"),
    ("kohya", "lr_scheduler_type"), ("kohya", "lr_scheduler_args"), ("kohya", "lr_decay_steps"),
)  # fmt: skip


@rule("G4.36", ERROR, "sd-scripts lets max_train_epochs overwrite max_train_steps in silence (S9).")
def one_duration(situation: Situation) -> Iterator[Remark]:
    train = situation.recipe.train
    given = [name for name in ("max_train_epochs", "max_train_steps", "exposures") if getattr(train, name) is not None]
    if len(given) > 1:
        yield Remark(
            ("train", given[1]),
            say("{names} are set together, and a run has one length", names=", ".join(given)),
            say("keep {first} or {second}, not both", first=given[0], second=given[1]),
        )


@rule("S5", ERROR, "sd-scripts raises an error for the constant scheduler with warm-up, after loading the model.")
def constant_has_no_warm_up(situation: Situation) -> Iterator[Remark]:
    train = situation.recipe.train
    if scheduler_of(situation.recipe) == "constant" and train.lr_warmup_steps:
        yield Remark(
            ("train", "lr_warmup_steps"),
            say("the constant scheduler has no warm-up"),
            say('write lr_scheduler = "constant_with_warmup", or take lr_warmup_steps out'),
        )


@rule("S5.needs", ERROR, "Some schedulers stop without an option of their own, and adafactor without Adafactor.")
def scheduler_has_what_it_needs(situation: Situation) -> Iterator[Remark]:
    name, kohya = situation.recipe.train.lr_scheduler, situation.recipe.kohya
    if is_schedule_free(situation.optimizer):
        return
    if name == "cosine_with_min_lr" and "lr_scheduler_min_lr_ratio" not in kohya:
        yield Remark(
            ("train", "lr_scheduler"),
            say("cosine_with_min_lr needs lr_scheduler_min_lr_ratio"),
            say("add lr_scheduler_min_lr_ratio = 0.1 under [kohya]"),
        )
    if name == "adafactor" and not sets_own_rate(situation.recipe.train):
        yield Remark(
            ("train", "lr_scheduler"),
            say("the adafactor scheduler works only with the Adafactor optimizer that sets its own rate"),
            say('write lr_scheduler = "cosine"'),
        )
    if name == "piecewise_constant" and "lr_scheduler_args" not in kohya:
        yield Remark(
            ("train", "lr_scheduler"),
            say("piecewise_constant needs its step_rules"),
            say("add lr_scheduler_args = [\"step_rules='1:10,0.1:20,0.01'\"] under [kohya]"),
        )


@rule("S5.first_step", ERROR, "A warm-up begins at a rate of 0, by which DAdaptSGD divides at its first step.")
def first_step_has_a_rate(situation: Situation) -> Iterator[Remark]:
    ramps = scheduler_of(situation.recipe) != "piecewise_constant"  # which has no warm-up, and says so in S5.ignored
    if situation.optimizer == NEEDS_A_RATE_AT_ONCE and situation.recipe.train.lr_warmup_steps and ramps:
        said = say("DAdaptSGD stops at its first step when there is a warm-up")
        yield Remark(("train", "lr_warmup_steps"), said, say("take it out, or take DAdaptAdam"))


@rule("S5.type", ERROR, "lr_scheduler_type replaces lr_scheduler, takes no warm-up, and must be one that works.")
def scheduler_type_works(situation: Situation) -> Iterator[Remark]:
    train, where = situation.recipe.train, ("kohya", "lr_scheduler_type")
    name = situation.recipe.kohya.get("lr_scheduler_type")
    if not isinstance(name, str) or not name or is_schedule_free(situation.optimizer):
        return
    if sets_own_rate(train):  # its groups have no rate to start from
        said = say("Adafactor brings its own schedule, and most others crash on it")
        yield Remark(where, said, say("take it out"))
        return
    if train.lr_scheduler:
        said, fix = say("{name} takes its place", name=name), say("keep only one of the two")
        yield Remark(("train", "lr_scheduler"), said, fix)
    if train.lr_warmup_steps:
        said = say("sd-scripts stops when {name} is given a warm-up", name=name)
        fix = say("take it out, or use lr_scheduler in place of lr_scheduler_type")
        yield Remark(("train", "lr_warmup_steps"), said, fix)
    if "." not in name:
        yield from _torch_scheduler(name, situation.optimizer, situation.recipe.kohya.get("lr_scheduler_args", ()))


def _torch_scheduler(name: str, optimizer: str, given: KohyaValue) -> Iterator[Remark]:
    """What a class of torch.optim.lr_scheduler lacks."""
    if name not in TORCH_SCHEDULERS:
        near = difflib.get_close_matches(name, TORCH_SCHEDULERS, 1, 0.6)
        known = say("one of {names}, or a dotted class path", names=", ".join(TORCH_SCHEDULERS))
        fix = say('did you mean "{name}"?', name=near[0]) if near else known
        said = say("{name} is no scheduler of torch that works here", name=name)
        yield Remark(("kohya", "lr_scheduler_type"), said, fix)
        return
    set_ = {str(item).partition("=")[0] for item in (given if isinstance(given, tuple) else ())}
    missing = [argument for argument in TORCH_SCHEDULERS[name] if argument not in set_]
    arguments = OPTIMIZER_ARGUMENTS.get(optimizer, ("betas",))
    if name in CYCLES_MOMENTUM and not {"betas", "momentum"} & set(arguments) and "cycle_momentum" not in set_:
        missing.append("cycle_momentum")  # = False: there is no momentum to cycle
    if missing:
        listed = ", ".join(f'"{argument}=..."' for argument in missing)
        fix = say("add lr_scheduler_args = [{arguments}] under [kohya]", arguments=listed)
        said = say("{name} needs {arguments}", name=name, arguments=", ".join(missing))
        yield Remark(("kohya", "lr_scheduler_type"), said, fix)


@rule("S5.ignored", WARNING, "Schedule-free optimizers have no scheduler; sd-scripts reads none of its options.")
def schedule_is_read(situation: Situation) -> Iterator[Remark]:
    recipe = situation.recipe
    if is_schedule_free(situation.optimizer):
        for table, name in SCHEDULE_WORDS:
            if recipe.kohya.get(name) if table == "kohya" else getattr(recipe.train, name):
                fix = say("take it out; for a warm-up write optimizer_args = {{ warmup_steps = ... }}")
                yield Remark((table, name), _ignores(situation.optimizer, name), fix)
    elif brings_schedule(recipe) and recipe.train.lr_scheduler_num_cycles:
        said = _ignores(brings_schedule(recipe) or "", "lr_scheduler_num_cycles")
        yield Remark(("train", "lr_scheduler_num_cycles"), said, say("take it out"))
    if recipe.train.lr_scheduler == "piecewise_constant" and recipe.train.lr_warmup_steps:
        said, fix = say("piecewise_constant ignores the warm-up"), say("put it into step_rules, or take it out")
        yield Remark(("train", "lr_warmup_steps"), said, fix)


def _ignores(who: str, name: str) -> Said:
    return say("{who} ignores {name}", who=who, name=name)


@rule("S4.decay", ERROR, "lr_decay_steps is read by warmup_stable_decay alone, as steps or a share below 1.")
def decay_is_read(situation: Situation) -> Iterator[Remark]:
    steps, name = situation.recipe.kohya.get("lr_decay_steps"), scheduler_of(situation.recipe)
    where = ("kohya", "lr_decay_steps")
    if isinstance(steps, float) and steps >= 1:
        said = say("{steps} is a share, {times:g} times the whole run", steps=str(steps), times=steps)
        yield Remark(where, said, say("write {steps} for steps", steps=int(steps)))
    if steps and name not in {None, "warmup_stable_decay"}:
        fix = say('remove it, or write lr_scheduler = "warmup_stable_decay" under [train]')
        yield Remark(where, _ignores(str(name), "lr_decay_steps"), fix)
    if not steps and name == "warmup_stable_decay":
        said = say("without lr_decay_steps the rate never decays")
        yield Remark(("train", "lr_scheduler"), said, say("add lr_decay_steps = 0.2 under [kohya]"))


@rule("S4.warm_up", ERROR, "A warm-up as long as the run never reaches the learning rate.", needs_plan=True)
def warm_up_ends(situation: Situation) -> Iterator[Remark]:
    if situation.plan is None or scheduler_of(situation.recipe) is None:
        return
    counted, given = situation.plan.forecast, situation.recipe.train.lr_warmup_steps
    if given and counted.warmup_steps >= counted.steps:
        yield Remark(
            ("train", "lr_warmup_steps"),
            say("a warm-up of {warm} steps in a run of {steps}", warm=counted.warmup_steps, steps=counted.steps),
            say("write a share such as 0.1, or leave it out"),
        )


@rule("G4.42", WARNING, "Adaptive optimizers estimate the step size over time; restarts disturb that.")
def adaptive_wants_cosine(situation: Situation) -> Iterator[Remark]:
    name = situation.recipe.train.lr_scheduler
    if is_adaptive(situation.optimizer) and name not in {None, "cosine"}:
        yield Remark(
            ("train", "lr_scheduler"),
            say("{optimizer} with {name}: the guide uses cosine only", optimizer=situation.optimizer, name=str(name)),
            say('write lr_scheduler = "cosine", or leave it out'),
        )


@rule("G4.44", HINT, "Schedulers other than the cosines change learning a great deal; the guide leaves them alone.")
def scheduler_is_the_guides(situation: Situation) -> Iterator[Remark]:
    name = situation.recipe.train.lr_scheduler
    if situation.optimizer in ADAM and name not in GUIDE_SCHEDULERS and not brings_schedule(situation.recipe):
        yield Remark(
            ("train", "lr_scheduler"),
            say("{name} changes how a run learns; the guide has no values for it", name=str(name)),
            say('leave it out, unless you know it well: then AdamW gets "cosine_with_restarts"'),
        )


@rule("G4.56", WARNING, "Most schedulers ignore lr_scheduler_num_cycles in silence.")
def cycles_are_read(situation: Situation) -> Iterator[Remark]:
    name = scheduler_of(situation.recipe)
    if situation.recipe.train.lr_scheduler_num_cycles and name is not None and name not in CYCLES_READ_BY:
        yield Remark(
            ("train", "lr_scheduler_num_cycles"),
            _ignores(name, "lr_scheduler_num_cycles"),
            say('take it out, or write lr_scheduler = "cosine_with_restarts"'),
        )


@rule("G4.100", WARNING, "sd-scripts multiplies the two loss weights; with both on Min-SNR hardly counts (S31).")
def one_loss_weight(situation: Situation) -> Iterator[Remark]:
    train = situation.recipe.train
    if train.min_snr_gamma and train.debiased_estimation_loss:
        yield Remark(
            ("train", "debiased_estimation_loss"),
            say("min_snr_gamma and debiased_estimation_loss are both on"),
            say("keep one: debiased_estimation_loss for epsilon models, min_snr_gamma = 5 for v-prediction"),
        )


@rule(
    "G35.12", WARNING, "Regularisation samples' loss is multiplied by it: nearer 0 means less regularisation, not more."
)
def prior_weight_is_one(situation: Situation) -> Iterator[Remark]:
    weight = situation.recipe.train.prior_loss_weight
    if weight is not None and weight != 1 and situation.recipe.regularisation:
        yield Remark(
            ("train", "prior_loss_weight"),
            say("{weight:g} makes regularisation weaker (the guide has it the wrong way round)", weight=weight)
            if weight < 1
            else say("{weight:g} makes regularisation stronger, and what you train is learned less", weight=weight),
            say("write 1.0 unless you mean that"),
        )


__all__: list[str] = []
