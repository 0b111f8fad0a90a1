"""Optimizer, learning rates, scheduler and loss weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from lorabake.planning.profile import Profile
from lorabake.planning.setting_sources import FROM_RECIPE, choose, default_by_guide, fixed, mixed
from lorabake_schemas.messages import msg
from lorabake_schemas.plan import Setting, Source
from lorabake_schemas.recipe import Train
from lorabake_schemas.sd_scripts import NO_WARMUP_OPTIMIZER, OPTIMIZERS
from lorabake_schemas.signatures import NO_SIGNATURES, Signatures, find_optimizer_path
from lorabake_schemas.values import ClassArgument

# Arguments of the guide's optimizers (G4.50, G4.51); values are Python literals for sd-scripts' literal_eval (S3).
ADAPTIVE_ARGUMENTS = ("decouple=True", "weight_decay=0.1", "betas=0.9,0.99")
# The others of the family (DAdaptSGD, DAdaptLion ...) stop with a TypeError on decouple or on two betas.
TAKE_ADAPTIVE_ARGUMENTS = ("Prodigy", "DAdaptAdam", "DAdaptation", "DAdaptAdamPreprint")
# One stops at a warm-up, the other ignores it (TU:5294, 5316).
SCHEDULERS_WITHOUT_WARMUP = ("constant", "piecewise_constant")
ADAM_ARGUMENTS = ("weight_decay=0.12", "betas=0.9,0.99")


def optimizer_settings(train: Train, profile: Profile, signatures: Signatures = NO_SIGNATURES) -> tuple[Setting, ...]:
    """Everything about how fast and in which direction weights move."""
    return (
        *_optimizer_type_settings(train, profile, signatures),
        *_optimizer_args_settings(train, profile),
        *_learning_rate_settings(train, profile),
        *_scheduler_settings(train, profile),
        *_loss_settings(train, profile),
        *choose("max_grad_norm", train.max_grad_norm),
    )


def _optimizer_type_settings(train: Train, profile: Profile, signatures: Signatures) -> tuple[Setting, ...]:
    """sd-scripts finds its own names and torch's; a class of another package needs its full path (TU:5121)."""
    name = train.optimizer or ""
    path = find_optimizer_path(name, signatures) or ""
    if train.optimizer in {None, path} or train.optimizer in OPTIMIZERS or path.startswith("torch.optim."):
        return choose("optimizer_type", train.optimizer, profile.optimizer, default_by_guide("G4.46"))
    if not path:
        return choose("optimizer_type", train.optimizer)
    why = msg("{name} is a class of the package {package}", name=name, package=path.partition(".")[0])
    return fixed("optimizer_type", path, FROM_RECIPE.model_copy(update={"why": why}))


def _optimizer_args_settings(train: Train, profile: Profile) -> tuple[Setting, ...]:
    """The guide's arguments, each replaced by the recipe's of that name, and what the recipe adds.

    An empty table means that the recipe wants none.
    """
    if train.optimizer_args == {}:
        return ()
    given = _format_arguments(train.optimizer_args)
    arguments, rule = dict[str, str](), ""
    if profile.optimizer in TAKE_ADAPTIVE_ARGUMENTS:
        arguments, rule = _arguments_by_name(ADAPTIVE_ARGUMENTS), "G4.50"
    elif profile.adam:
        arguments, rule = _arguments_by_name(ADAM_ARGUMENTS), "G4.51"
    if arguments.keys() <= given.keys():
        return choose("optimizer_args", tuple(given.values()) or None)
    guide = default_by_guide(rule)
    return mixed(
        "optimizer_args",
        {name: (value, guide) for name, value in arguments.items()}
        | {name: (value, FROM_RECIPE) for name, value in given.items()},
    )


def _format_arguments(arguments: Mapping[str, ClassArgument] | None) -> dict[str, str]:
    """Each as sd-scripts' name=value, by its name."""
    return {name: f"{name}={format_python_literal(value)}" for name, value in (arguments or {}).items()}


def _arguments_by_name(arguments: Sequence[str]) -> dict[str, str]:
    return {argument.partition("=")[0]: argument for argument in arguments}


def format_python_literal(value: ClassArgument) -> str:
    """A recipe value as the Python literal that sd-scripts evaluates (TU:4860): True, 'text', 0.9,0.99."""
    if isinstance(value, tuple):
        return ",".join(repr(item) for item in value) + ("," if len(value) == 1 else "")
    return repr(value)


def _learning_rate_settings(train: Train, profile: Profile) -> tuple[Setting, ...]:
    """Adaptive: 1 and nothing else (S27). AdamW: all three, the main one equal to the UNet's (GC.23).

    A UNet-only run has no use for a text encoder's rate (TN:733), and the reverse.
    """
    if profile.adaptive:
        return (
            *choose("learning_rate", _to_float(train.learning_rate), 1.0, default_by_guide("G4.52")),
            *choose("unet_lr", _to_float(train.unet_lr)),
            *choose("text_encoder_lr", _to_float(train.text_encoder_lr)),
        )
    if not profile.adam:
        given = (train.learning_rate, train.unet_lr, train.text_encoder_lr)
        names = ("learning_rate", "unet_lr", "text_encoder_lr")
        return tuple(s for name, value in zip(names, given, strict=True) for s in choose(name, _to_float(value)))
    unet, text, rule = _default_adam_rates(profile)
    main = train.learning_rate or train.unet_lr or (text if profile.text_only else unet)
    source = (
        default_by_guide("GC.23", msg("the recipe's learning_rate")) if train.learning_rate else default_by_guide(rule)
    )
    return (
        *choose("learning_rate", _to_float(train.learning_rate), float(main), default_by_guide("GC.23")),
        *choose("unet_lr", _to_float(train.unet_lr), None if profile.text_only else float(main), source),
        *choose("text_encoder_lr", _to_float(train.text_encoder_lr), *_default_text_rate(train, profile)),
    )


def _default_text_rate(train: Train, profile: Profile) -> tuple[float | None, Source]:
    """The recipe's learning_rate, which sd-scripts uses for both parts (networks/lora.py:1199); to its unet_lr alone,
    the rate that the guide's pair has to each other, or half where that is above it."""
    unet, text, rule = _default_adam_rates(profile)
    if profile.unet_only:
        return None, default_by_guide(rule)
    if train.learning_rate:
        return float(train.learning_rate), default_by_guide("GC.23", msg("the recipe's learning_rate"))
    if train.unet_lr:
        share = text / unet if text <= unet else 0.5
        return share * train.unet_lr, default_by_guide(rule, msg("{share:g} times the recipe's unet_lr", share=share))
    return text, default_by_guide(rule)


def _default_adam_rates(profile: Profile) -> tuple[float, float, str]:
    if profile.network == "ia3":
        return 5e-3, 5e-3, "G7.27"
    guide = profile.family.guide
    return guide.adam_unet_lr.value, guide.adam_text_encoder_lr, guide.adam_unet_lr.rule


def _scheduler_settings(train: Train, profile: Profile) -> tuple[Setting, ...]:
    """Where something brings its own schedule, nothing of the guide's is added: a warm-up would stop sd-scripts."""
    name = profile.scheduler
    own = (
        *choose("lr_scheduler_type", train.lr_scheduler_type or None),
        *choose("lr_scheduler_args", tuple(_format_arguments(train.lr_scheduler_args).values()) or None),
    )
    if name is None:
        return (
            *choose("lr_scheduler", train.lr_scheduler),
            *own,
            *choose("lr_warmup_steps", train.lr_warmup_steps),
            *choose("lr_scheduler_num_cycles", train.lr_scheduler_num_cycles),
        )
    warm_up, rule = profile.family.guide.warmup
    none = name in SCHEDULERS_WITHOUT_WARMUP or profile.optimizer == NO_WARMUP_OPTIMIZER
    restarts = 3 if name == "cosine_with_restarts" else None
    return (
        *choose("lr_scheduler", train.lr_scheduler, name, default_by_guide("G4.42" if profile.adaptive else "G4.43")),
        *own,
        *choose("lr_warmup_steps", train.lr_warmup_steps, None if none else warm_up, default_by_guide(rule)),
        *choose("lr_scheduler_num_cycles", train.lr_scheduler_num_cycles, restarts, default_by_guide("G4.56")),
    )


def _loss_settings(train: Train, profile: Profile) -> tuple[Setting, ...]:
    """The guide sets both Min-SNR and debiased estimation, but sd-scripts multiplies them (TN:330-339).

    For epsilon models debiased estimation alone weighs the timesteps as the pair does within half a percent. For
    v-prediction the pair would leave an eighth of the loss, so Min-SNR is used alone there (S31).
    """
    debiased = True if not profile.v_prediction and not train.min_snr_gamma else None
    gamma = 5.0 if profile.v_prediction and not train.debiased_estimation_loss else None
    return (
        *choose(
            "min_snr_gamma",
            _to_float(train.min_snr_gamma or None),
            None if train.min_snr_gamma == 0 else gamma,
            default_by_guide("G4.99", msg("with v-prediction, without debiased_estimation_loss (S31)")),
        ),
        *_debiased_loss_settings("debiased_estimation_loss", train.debiased_estimation_loss, debiased),
        *choose("noise_offset", _to_float(train.noise_offset or None)),
    )


def _debiased_loss_settings(option: str, given: bool | None, default: bool | None) -> tuple[Setting, ...]:
    if given is False:
        return ()
    return choose(
        option,
        given,
        default,
        default_by_guide("G4.100", msg("min_snr_gamma, which the guide adds, would change almost nothing (S31)")),
    )


def _to_float(value: float | None) -> float | None:
    return None if value is None else float(value)
