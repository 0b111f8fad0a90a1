"""Rules about the optimizer, its arguments and the learning rates."""

from __future__ import annotations

from collections.abc import Iterator

from lorabake_schemas.guide.defaults import has_own_rate, is_full_matrix
from lorabake_schemas.guide.registry import ERROR, HINT, WARNING, RuleContext, RuleHit, rule
from lorabake_schemas.guide.rules.network_arguments import parse_factors
from lorabake_schemas.messages import msg, nmsg
from lorabake_schemas.sd_scripts import ADAM_OPTIMIZERS, is_adaptive, requires_one_rate

GUIDE_OPTIMIZERS = ("Prodigy", "DAdaptAdam", "AdamW", "AdamW8bit")
RATE_KEYS = ("learning_rate", "unet_lr", "text_encoder_lr")
BLOCK_WEIGHTS = ("down_lr_weight", "mid_lr_weight", "up_lr_weight")


@rule("S27", ERROR, "Prodigy stops at the first step when two learning rates differ.")
def differing_adaptive_rates(situation: RuleContext) -> Iterator[RuleHit]:
    train, main = situation.recipe.train, situation.recipe.train.learning_rate or 1.0
    rates = {"unet_lr": main if train.unet_lr is None else train.unet_lr}  # unset means learning_rate (S26)
    if not situation.recipe.network.network_train_unet_only:
        rates["text_encoder_lr"] = main if train.text_encoder_lr is None else train.text_encoder_lr
    used = {name: value for name, value in rates.items() if value}  # 0 leaves the group out
    if requires_one_rate(situation.optimizer) and len(set(used.values())) > 1:
        listed = ", ".join(f"{name} = {value:g}" for name, value in used.items())
        given = [name for name in ("unet_lr", "text_encoder_lr") if getattr(train, name) is not None]
        yield RuleHit(
            ("train", given[-1]),
            msg(
                "{optimizer} needs one learning rate for everything, not {rates}",
                optimizer=situation.optimizer,
                rates=listed,
            ),
            nmsg(
                len(given),
                "remove {key}; to skip the text encoder, set network.network_train_unet_only = true",
                "remove unet_lr and text_encoder_lr; to skip the text encoder, set "
                "network.network_train_unet_only = true",
                key=given[0],
            ),
        )


@rule("S27.layers", ERROR, "Prodigy stops at the first step when layers have different learning rates.")
def differing_layer_rates(situation: RuleContext) -> Iterator[RuleHit]:
    if not requires_one_rate(situation.optimizer):
        return
    for name in _list_rate_factors(situation):
        said = msg(
            "{optimizer} needs one learning rate for all layers, but {name} gives them different ones",
            optimizer=situation.optimizer,
            name=name,
        )
        other = "AdamW8bit" if situation.machine.device == "cuda" else "AdamW"  # it needs bitsandbytes
        fix = msg("remove it, or use an optimizer with a learning rate, such as {other}", other=other)
        yield RuleHit(("network", "args", name), said, fix)


def _list_rate_factors(situation: RuleContext) -> list[str]:
    """Arguments of the network that make learning rates differ: LoRA+ and block weights (networks/lora.py:496, 390)."""
    network = situation.recipe.network
    args, unet_only = network.args or {}, bool(network.network_train_unet_only)
    parts = ("loraplus_unet_lr_ratio", *(() if unet_only else ("loraplus_text_encoder_lr_ratio",)))
    used = {name if name in args else "loraplus_lr_ratio" for name in parts}
    found = [name for name in args if name in used and set(parse_factors(args[name])) - {1.0}]
    given = [name for name in BLOCK_WEIGHTS if name in args]
    others = [1.0] if len(given) < len(BLOCK_WEIGHTS) or not unet_only else []
    factors = {factor for name in given for factor in parse_factors(args[name])} | set(others)
    return found + (given if len(factors - {0.0}) > 1 else [])  # 0 leaves the block out


@rule(
    "G4.52",
    WARNING,
    "An adaptive optimizer scales its own estimate by learning_rate, so 1 is right.",
    unless="other classes than those of prodigyopt and dadaptation: then it is a hint",
)
def wrong_adaptive_rate(situation: RuleContext) -> Iterator[RuleHit]:
    rates = {name: getattr(situation.recipe.train, name) for name in RATE_KEYS}
    wrong = [name for name, rate in rates.items() if rate and (rate <= 0.1 or rate > 2)]
    if is_adaptive(situation.optimizer) and wrong:
        name, settings = wrong[0], ", ".join(f"{name} = 1.0" for name in wrong)  # one alone would differ (S27)
        yield RuleHit(
            ("train", name),
            msg(
                "{optimizer} needs {name} near 1.0, not {rate:g}",
                name=name,
                rate=rates[name],
                optimizer=situation.optimizer,
            ),
            nmsg(
                len(wrong),
                "write {settings}, or remove it",
                "write {settings}, or remove them",
                settings=settings,
            ),
            severity=None if requires_one_rate(situation.optimizer) else HINT,
        )


@rule("G4.66", WARNING, "With a learning rate meant for Prodigy, AdamW ruins the network in a few steps.")
def adam_rate_too_high(situation: RuleContext) -> Iterator[RuleHit]:
    train = situation.recipe.train
    if situation.optimizer in ADAM_OPTIMIZERS:
        for name in RATE_KEYS:
            rate = getattr(train, name)
            if rate is not None and rate >= 0.1:
                yield RuleHit(
                    ("train", name),
                    msg(
                        "{name} {rate:g} is for adaptive optimizers, not {optimizer}",
                        name=name,
                        rate=rate,
                        optimizer=situation.optimizer,
                    ),
                    msg("write about 1e-4 (unet_lr) and 5e-5 (text_encoder_lr), or remove both"),
                )


@rule(
    "G4.67",
    WARNING,
    "A text encoder that learns faster than the UNet overtrains first; the guide's SDXL pair does that, too.",
    unless="the guide's own SDXL rates: then it is a hint",
    needs_plan=True,
)
def text_encoder_rate_too_high(situation: RuleContext) -> Iterator[RuleHit]:
    plan, train = situation.plan, situation.recipe.train
    if plan is None or is_adaptive(situation.optimizer) or situation.recipe.network.network_train_unet_only:
        return
    unet, text = plan.value("unet_lr"), plan.value("text_encoder_lr")
    if not isinstance(unet, float) or not isinstance(text, float) or not 0 < unet < text:
        return
    given = [name for name in reversed(RATE_KEYS) if getattr(train, name) is not None]
    fix = msg("write text_encoder_lr = {half:g} or less; the sd-scripts documentation suggests 1e-5", half=unet / 2)
    if given:
        said = msg(
            "text_encoder_lr {text:g} is above unet_lr {unet:g}, so the text encoder overtrains first",
            text=text,
            unet=unet,
        )
        yield RuleHit(("train", given[0]), said, fix)
    else:
        said = msg(
            "the guide's {family} learning rates are {text:g} for the text encoder and {unet:g} for the UNet",
            family=situation.family.label,
            text=text,
            unet=unet,
        )
        yield RuleHit(("train", "optimizer"), said, fix, severity=HINT)


@rule("S26", WARNING, "Without a learning rate sd-scripts uses 2e-6, far too little for a LoRA.")
def missing_learning_rate(situation: RuleContext) -> Iterator[RuleHit]:
    name, train = situation.optimizer, situation.recipe.train
    free = is_adaptive(name) or name in ADAM_OPTIMIZERS or has_own_rate(train)
    parts = (train.unet_lr, 0.0 if situation.recipe.network.network_train_unet_only else train.text_encoder_lr)
    if not free and train.learning_rate is None and None in parts:
        yield RuleHit(
            ("train", "optimizer"),
            msg("the guide has no learning rate for {name}, so sd-scripts would train at 2e-6", name=name),
            msg("add learning_rate, for example 1e-4"),
        )


@rule(
    "S26.zero",
    WARNING,
    "A rate of 0 only removes a part from the optimizer; its gradients keep growing.",
    unless="both parts are off, which stops sd-scripts: then it is an error",
)
def zero_learning_rate(situation: RuleContext) -> Iterator[RuleHit]:
    train = situation.recipe.train
    unet_only = situation.recipe.network.network_train_unet_only is True
    text_only = situation.recipe.kohya.get("network_train_text_encoder_only") is True
    no_unet, no_text = text_only or train.unet_lr == 0, unet_only or train.text_encoder_lr == 0
    if no_unet and no_text:
        key = ("kohya", "network_train_text_encoder_only") if text_only else ("train", "unet_lr")
        yield RuleHit(
            key,
            msg("UNet and text encoder training are both off, so sd-scripts stops after loading the model"),
            msg("remove it")
            if text_only and unet_only
            else msg("set {name} to a value above 0", name="text_encoder_lr" if text_only else "unet_lr"),
            severity=ERROR,
        )
    elif train.text_encoder_lr == 0 and not unet_only:
        yield RuleHit(
            ("train", "text_encoder_lr"),
            msg("at 0, the text encoder's gradients still accumulate and strengthen the clipping of all others"),
            msg("set network_train_unet_only = true under [network], and remove this line"),
        )
    elif train.unet_lr == 0 and not text_only:
        yield RuleHit(
            ("train", "unet_lr"),
            msg("at 0, the UNet's gradients still accumulate and strengthen the clipping of all others"),
            msg("set network_train_text_encoder_only = true under [kohya], and remove this line"),
        )


@rule("S26.adafactor", ERROR, "Adafactor has its own scheduler without a warm-up, unless relative_step is false.")
def warmup_with_adafactor(situation: RuleContext) -> Iterator[RuleHit]:
    train = situation.recipe.train
    if has_own_rate(train) and train.lr_warmup_steps:
        said = msg("Adafactor with its own scheduler does not support warm-up, so sd-scripts stops")
        fix = msg("remove it, or write optimizer_args = {{ relative_step = false }} and learning_rate = 1e-4")
        yield RuleHit(("train", "lr_warmup_steps"), said, fix)


@rule("G4.45", HINT, "The guide knows four optimizers; for others it has no values.")
def optimizer_not_in_guide(situation: RuleContext) -> Iterator[RuleHit]:
    if situation.optimizer not in GUIDE_OPTIMIZERS:
        yield RuleHit(
            ("train", "optimizer"),
            msg("the guide has no settings for {name}", name=situation.optimizer),
            msg("use one of these to get the guide's values: {names}", names=", ".join(GUIDE_OPTIMIZERS)),
        )


@rule("G4.73", WARNING, "An adaptive optimizer finds the scale itself; the guide keeps alpha at 1 with it.")
def alpha_with_adaptive_optimizer(situation: RuleContext) -> Iterator[RuleHit]:
    alpha = situation.recipe.network.network_alpha
    full = is_full_matrix(situation.recipe.network, situation.network)
    if is_adaptive(situation.optimizer) and alpha is not None and alpha != 1 and not full:
        yield RuleHit(
            ("network", "network_alpha"),
            msg(
                "the guide uses network_alpha 1 with {optimizer}, not {alpha:g}",
                alpha=alpha,
                optimizer=situation.optimizer,
            ),
            msg("write network_alpha = 1.0, or remove it"),
        )


__all__: list[str] = []
