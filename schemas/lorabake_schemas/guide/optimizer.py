"""Rules about optimizer, learning rates, scheduler, duration and loss."""

from __future__ import annotations

from collections.abc import Iterator

from lorabake_schemas.guide.registry import ERROR, HINT, WARNING, Remark, Situation, rule
from lorabake_schemas.vocabulary import ADAM, is_adaptive

GUIDE_OPTIMIZERS = ("Prodigy", "DAdaptAdam", "AdamW", "AdamW8bit")
# Which scheduler reads which option (TU:5329-5391); anything else is ignored in silence.
CYCLES_READ_BY = ("cosine_with_restarts", "cosine_with_min_lr", "warmup_stable_decay")


def _scheduler(situation: Situation) -> str:
    default = "cosine" if is_adaptive(situation.optimizer) else "cosine_with_restarts"
    return situation.recipe.train.lr_scheduler or default


@rule("G4.36", ERROR, "sd-scripts lets max_train_epochs overwrite max_train_steps in silence (S9).")
def one_duration(situation: Situation) -> Iterator[Remark]:
    train = situation.recipe.train
    given = [name for name in ("max_train_epochs", "max_train_steps", "exposures") if getattr(train, name) is not None]
    if len(given) > 1:
        yield Remark(
            ("train", given[1]),
            f"{' and '.join(given)} are both set, and a run has one length",
            f"keep {given[0]} or {given[1]}, not both",
        )


@rule("S27", ERROR, "Prodigy stops at the first step when two learning rates differ.")
def adaptive_has_one_rate(situation: Situation) -> Iterator[Remark]:
    train, main = situation.recipe.train, situation.recipe.train.learning_rate or 1.0
    rates = {"unet_lr": main if train.unet_lr is None else train.unet_lr}  # unset means learning_rate (S26)
    if not situation.recipe.network.network_train_unet_only:
        rates["text_encoder_lr"] = main if train.text_encoder_lr is None else train.text_encoder_lr
    used = {name: value for name, value in rates.items() if value}  # 0 takes the group out
    if is_adaptive(situation.optimizer) and len(set(used.values())) > 1:
        said = " and ".join(f"{name} = {value:g}" for name, value in used.items())
        yield Remark(
            ("train", "text_encoder_lr" if train.text_encoder_lr is not None else "unet_lr"),
            f"{situation.optimizer} finds one step size for everything: {said}",
            "take out unet_lr and text_encoder_lr; to spare the text encoder set "
            "network.network_train_unet_only = true",
        )


@rule("G4.52", ERROR, "An adaptive optimizer scales its own estimate by learning_rate, so 1 is right.")
def adaptive_wants_one(situation: Situation) -> Iterator[Remark]:
    train = situation.recipe.train
    rates = {"learning_rate": train.learning_rate, "unet_lr": train.unet_lr, "text_encoder_lr": train.text_encoder_lr}
    wrong = [name for name, rate in rates.items() if rate and (rate <= 0.1 or rate > 2)]
    if is_adaptive(situation.optimizer) and wrong:
        yield Remark(
            ("train", wrong[0]),
            f"{wrong[0]} {rates[wrong[0]]:g} with {situation.optimizer}",
            f"write {wrong[0]} = 1.0, or leave it out",
        )


@rule("G4.66", ERROR, "AdamW with a learning rate meant for Prodigy burns the network in a few steps.")
def adam_rate_is_small(situation: Situation) -> Iterator[Remark]:
    train = situation.recipe.train
    if situation.optimizer in ADAM:
        for name in ("learning_rate", "unet_lr", "text_encoder_lr"):
            rate = getattr(train, name)
            if rate is not None and rate >= 0.1:
                yield Remark(
                    ("train", name),
                    f"{name} {rate:g} is for adaptive optimizers, not {situation.optimizer}",
                    "write about 1e-4 (unet_lr) and 5e-5 (text_encoder_lr), or leave both out",
                )


@rule("S26", ERROR, "Without a learning rate sd-scripts takes 2e-6, far too little for a LoRA.")
def others_need_a_rate(situation: Situation) -> Iterator[Remark]:
    name, train = situation.optimizer, situation.recipe.train
    free = is_adaptive(name) or name in ADAM or name == "Adafactor"
    parts = (train.unet_lr, 0.0 if situation.recipe.network.network_train_unet_only else train.text_encoder_lr)
    if not free and train.learning_rate is None and None in parts:
        yield Remark(
            ("train", "optimizer"),
            f"the guide gives no learning rate for {name}, and sd-scripts would train at 2e-6",
            "add learning_rate, for example 1e-4",
        )


@rule("GC.12", ERROR, "Arguments left over from Prodigy make AdamW stop with a TypeError.")
def no_leftover_arguments(situation: Situation) -> Iterator[Remark]:
    arguments = situation.recipe.train.optimizer_args or {}
    if situation.optimizer in ADAM:
        for name in ("decouple", "d_coef", "safeguard_warmup", "use_bias_correction", "growth_rate", "d0"):
            if name in arguments:
                yield Remark(
                    ("train", "optimizer_args", name),
                    f"{name} is Prodigy's; {situation.optimizer} has no such argument",
                    "take it out",
                )


@rule("S3", ERROR, "sd-scripts splits every argument at each '=' and stops when there are two (TU:4860).")
def arguments_can_be_split(situation: Situation) -> Iterator[Remark]:
    for name, value in (situation.recipe.train.optimizer_args or {}).items():
        if isinstance(value, str) and "=" in value:
            where = ("train", "optimizer_args", name)
            yield Remark(where, f'{name} holds an "=", which sd-scripts cannot read here', "give a value without it")


@rule("S5", ERROR, "sd-scripts raises an error for the constant scheduler with warm-up, after loading the model.")
def constant_has_no_warm_up(situation: Situation) -> Iterator[Remark]:
    train = situation.recipe.train
    if train.lr_scheduler == "constant" and train.lr_warmup_steps:
        yield Remark(
            ("train", "lr_warmup_steps"),
            "the constant scheduler has no warm-up",
            'write lr_scheduler = "constant_with_warmup", or take lr_warmup_steps out',
        )


@rule("S5.min_lr", ERROR, "cosine_with_min_lr stops without lr_scheduler_min_lr_ratio; adafactor needs Adafactor.")
def scheduler_has_what_it_needs(situation: Situation) -> Iterator[Remark]:
    name, kohya = situation.recipe.train.lr_scheduler, situation.recipe.kohya
    if name == "cosine_with_min_lr" and "lr_scheduler_min_lr_ratio" not in kohya:
        yield Remark(
            ("train", "lr_scheduler"),
            "cosine_with_min_lr needs lr_scheduler_min_lr_ratio",
            "add lr_scheduler_min_lr_ratio = 0.1 under [kohya]",
        )
    if name == "adafactor" and situation.optimizer != "Adafactor":
        yield Remark(
            ("train", "lr_scheduler"),
            "the adafactor scheduler works with the Adafactor optimizer only",
            'write lr_scheduler = "cosine"',
        )
    if name == "piecewise_constant" and "lr_scheduler_args" not in kohya:
        yield Remark(
            ("train", "lr_scheduler"),
            "piecewise_constant needs its step_rules",
            "add lr_scheduler_args = [\"step_rules='1:10,0.1:20,0.01'\"] under [kohya]",
        )


@rule("G4.42", WARNING, "Adaptive optimizers estimate the step size over time; restarts disturb that.")
def adaptive_wants_cosine(situation: Situation) -> Iterator[Remark]:
    name = situation.recipe.train.lr_scheduler
    if is_adaptive(situation.optimizer) and name not in {None, "cosine"}:
        yield Remark(
            ("train", "lr_scheduler"),
            f"{situation.optimizer} with {name}: the guide uses cosine only",
            'write lr_scheduler = "cosine", or leave it out',
        )


@rule("G4.56", WARNING, "Most schedulers ignore lr_scheduler_num_cycles in silence.")
def cycles_are_read(situation: Situation) -> Iterator[Remark]:
    if situation.recipe.train.lr_scheduler_num_cycles and _scheduler(situation) not in CYCLES_READ_BY:
        yield Remark(
            ("train", "lr_scheduler_num_cycles"),
            f"{_scheduler(situation)} ignores lr_scheduler_num_cycles",
            'take it out, or write lr_scheduler = "cosine_with_restarts"',
        )


@rule("G4.45", HINT, "The guide knows four optimizers; for others it has no values.")
def optimizer_is_the_guides(situation: Situation) -> Iterator[Remark]:
    if situation.optimizer not in GUIDE_OPTIMIZERS:
        yield Remark(
            ("train", "optimizer"),
            f"the guide gives no settings for {situation.optimizer}",
            f"any of {', '.join(GUIDE_OPTIMIZERS)} comes with the guide's values",
        )


@rule("G4.73", WARNING, "An adaptive optimizer finds the scale itself; the guide keeps alpha at 1 with it.")
def adaptive_wants_alpha_one(situation: Situation) -> Iterator[Remark]:
    alpha = situation.recipe.network.network_alpha
    if is_adaptive(situation.optimizer) and alpha not in {None, 1.0}:
        yield Remark(
            ("network", "network_alpha"),
            f"network_alpha {alpha:g} with {situation.optimizer}",
            "write network_alpha = 1.0, or leave it out",
        )


@rule("G4.100", WARNING, "sd-scripts multiplies the two loss weights; with both on Min-SNR hardly counts (S31).")
def one_loss_weight(situation: Situation) -> Iterator[Remark]:
    train = situation.recipe.train
    if train.min_snr_gamma and train.debiased_estimation_loss:
        yield Remark(
            ("train", "debiased_estimation_loss"),
            "min_snr_gamma and debiased_estimation_loss are both on",
            "keep one: debiased_estimation_loss for epsilon models, min_snr_gamma = 5 for v-prediction",
        )


@rule(
    "G35.12", WARNING, "Regularisation samples' loss is multiplied by it: nearer 0 means less regularisation, not more."
)
def prior_weight_is_one(situation: Situation) -> Iterator[Remark]:
    weight = situation.recipe.train.prior_loss_weight
    if weight is not None and weight != 1 and situation.recipe.regularisation:
        effect = "weaker" if weight < 1 else "stronger"
        yield Remark(
            ("train", "prior_loss_weight"),
            f"{weight:g} makes regularisation {effect} (the guide has it the wrong way round)",
            "write 1.0 unless you mean that",
        )


__all__: list[str] = []
