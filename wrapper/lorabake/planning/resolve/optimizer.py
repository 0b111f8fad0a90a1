"""Optimizer, learning rates, scheduler and loss weights."""

from __future__ import annotations

from collections.abc import Sequence

from lorabake.planning.resolve.profile import Profile
from lorabake.planning.resolve.sources import NO_WHY, always, guide, pick
from lorabake_schemas.plan import Setting
from lorabake_schemas.recipe import OptimizerArgument, Train
from lorabake_schemas.vocabulary import NEEDS_A_RATE_AT_ONCE
from lorabake_schemas.words import say

# Arguments of the guide's optimizers (G4.50, G4.51); values are Python literals for sd-scripts' literal_eval (S3).
ADAPTIVE_ARGUMENTS = ("decouple=True", "weight_decay=0.1", "betas=0.9,0.99")
# The others of the family (DAdaptSGD, DAdaptLion ...) stop with a TypeError on decouple or on two betas.
TAKES_ADAPTIVE_ARGUMENTS = ("Prodigy", "DAdaptAdam", "DAdaptation", "DAdaptAdamPreprint")
# One stops at a warm-up, the other ignores it (TU:5294, 5316).
WITHOUT_WARM_UP = ("constant", "piecewise_constant")
ADAM_ARGUMENTS = ("weight_decay=0.12", "betas=0.9,0.99")


def optimizer_settings(train: Train, profile: Profile) -> tuple[Setting, ...]:
    """Everything about how fast and in which direction weights move."""
    return (
        *pick("optimizer_type", train.optimizer, profile.optimizer, guide("G4.46")),
        *_arguments(train, profile),
        *_learning_rates(train, profile),
        *_scheduler(train, profile),
        *_loss(train, profile),
        *pick("max_grad_norm", train.max_grad_norm),
    )


def _arguments(train: Train, profile: Profile) -> tuple[Setting, ...]:
    """The guide's arguments, each replaced by the recipe's of that name, and what the recipe adds.

    An empty table is how a recipe says that it wants none.
    """
    if train.optimizer_args == {}:
        return ()
    given = {name: f"{name}={literal(value)}" for name, value in (train.optimizer_args or {}).items()}
    arguments, rule = dict[str, str](), ""
    if profile.optimizer in TAKES_ADAPTIVE_ARGUMENTS:
        arguments, rule = _by_name(ADAPTIVE_ARGUMENTS), "G4.50"
    elif profile.adam:
        arguments, rule = _by_name(ADAM_ARGUMENTS), "G4.51"
    if arguments.keys() <= given.keys():
        return pick("optimizer_args", tuple(given.values()) or None)
    why = say("from the recipe: {names}", names=", ".join(given)) if given else NO_WHY
    return always("optimizer_args", tuple((arguments | given).values()), guide(rule, why))


def _by_name(arguments: Sequence[str]) -> dict[str, str]:
    return {argument.partition("=")[0]: argument for argument in arguments}


def literal(value: OptimizerArgument) -> str:
    """A recipe value as the Python literal that sd-scripts evaluates (TU:4860): True, 'text', 0.9,0.99."""
    if isinstance(value, tuple):
        return ",".join(repr(item) for item in value) + ("," if len(value) == 1 else "")
    return repr(value)


def _learning_rates(train: Train, profile: Profile) -> tuple[Setting, ...]:
    """Adaptive: 1 and nothing else (S27). AdamW: all three, the main one equal to the UNet's (GC.23).

    A UNet-only run has no use for a text encoder's rate (TN:733).
    """
    if profile.adaptive:
        return (
            *pick("learning_rate", _real(train.learning_rate), 1.0, guide("G4.52")),
            *pick("unet_lr", _real(train.unet_lr)),
            *pick("text_encoder_lr", _real(train.text_encoder_lr)),
        )
    if not profile.adam:
        given = (train.learning_rate, train.unet_lr, train.text_encoder_lr)
        names = ("learning_rate", "unet_lr", "text_encoder_lr")
        return tuple(s for name, value in zip(names, given, strict=True) for s in pick(name, _real(value)))
    unet, text, rule = _adam_rates(profile)
    main = train.learning_rate or train.unet_lr or unet
    source = guide("GC.23", say("the recipe's learning_rate")) if train.learning_rate else guide(rule)
    return (
        *pick("learning_rate", _real(train.learning_rate), float(main), guide("GC.23")),
        *pick("unet_lr", _real(train.unet_lr), float(main), source),
        *pick("text_encoder_lr", _real(train.text_encoder_lr), None if profile.unet_only else text, guide(rule)),
    )


def _adam_rates(profile: Profile) -> tuple[float, float, str]:
    if profile.network == "ia3":
        return 5e-3, 5e-3, "G7.27"
    return (4e-4, 4.5e-4, "G4.67") if profile.sdxl else (1e-4, 5e-5, "G4.66")


def _scheduler(train: Train, profile: Profile) -> tuple[Setting, ...]:
    """Where something brings its own schedule, nothing of the guide's is added: a warm-up would stop sd-scripts."""
    name = profile.scheduler
    if name is None:
        return (
            *pick("lr_scheduler", train.lr_scheduler),
            *pick("lr_warmup_steps", train.lr_warmup_steps),
            *pick("lr_scheduler_num_cycles", train.lr_scheduler_num_cycles),
        )
    warm_up = (
        None if name in WITHOUT_WARM_UP or profile.optimizer == NEEDS_A_RATE_AT_ONCE else 0.2 if profile.sdxl else 0.1
    )
    restarts = 3 if name == "cosine_with_restarts" else None
    return (
        *pick("lr_scheduler", train.lr_scheduler, name, guide("G4.42" if profile.adaptive else "G4.43")),
        *pick("lr_warmup_steps", train.lr_warmup_steps, warm_up, guide("G4.55" if profile.sdxl else "G4.54")),
        *pick("lr_scheduler_num_cycles", train.lr_scheduler_num_cycles, restarts, guide("G4.56")),
    )


def _loss(train: Train, profile: Profile) -> tuple[Setting, ...]:
    """The guide sets Min-SNR and debiased estimation both, but sd-scripts multiplies them (TN:330-339).

    For epsilon models debiased alone weighs the timesteps as the pair does within half a percent; for
    v-prediction the pair would leave an eighth of the loss, so Min-SNR stands alone there (S31).
    """
    debiased = True if not profile.v_prediction and not train.min_snr_gamma else None
    gamma = 5.0 if profile.v_prediction and not train.debiased_estimation_loss else None
    return (
        *pick(
            "min_snr_gamma",
            _real(train.min_snr_gamma or None),
            None if train.min_snr_gamma == 0 else gamma,
            guide("G4.99", say("S31: alone with v-prediction")),
        ),
        *_flag("debiased_estimation_loss", train.debiased_estimation_loss, debiased),
        *pick("noise_offset", _real(train.noise_offset or None)),
    )


def _flag(option: str, given: bool | None, default: bool | None) -> tuple[Setting, ...]:
    if given is False:
        return ()
    return pick(option, given, default, guide("G4.100", say("S31: does what the guide's pair with Min-SNR does")))


def _real(value: float | None) -> float | None:
    return None if value is None else float(value)


__all__ = ["literal", "optimizer_settings"]
