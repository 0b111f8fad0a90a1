"""Values of sd-scripts' options that its parser does not list as choices."""

from __future__ import annotations

import math
import random

# TU:4825-5134: built-in names, matched without regard to case. Anything else must be a dotted class path.
OPTIMIZERS = (
    "AdamW",
    "AdamW8bit",
    "PagedAdamW",
    "PagedAdamW8bit",
    "PagedAdamW32bit",
    "Lion",
    "Lion8bit",
    "PagedLion8bit",
    "SGDNesterov",
    "SGDNesterov8bit",
    "DAdaptation",
    "DAdaptAdamPreprint",
    "DAdaptAdaGrad",
    "DAdaptAdam",
    "DAdaptAdan",
    "DAdaptAdanIP",
    "DAdaptLion",
    "DAdaptSGD",
    "Prodigy",
    "Adafactor",
    "RAdamScheduleFree",
    "AdamWScheduleFree",
    "SGDScheduleFree",
)

# Any other name without a dot is taken from torch.optim as it is spelled (TU:5121). Those of torch 2.13 that train a
# LoRA: LBFGS needs a closure, SparseAdam sparse gradients, Muon matrices only.
TORCH_OPTIMIZERS = (
    "Adam", "NAdam", "RAdam", "SGD", "Adamax", "ASGD", "Rprop", "RMSprop", "Adagrad", "Adadelta",
)  # fmt: skip

# sd-scripts-facts 3.4: every name that runs at the pin.
SCHEDULERS = (
    "cosine",
    "cosine_with_restarts",
    "constant",
    "constant_with_warmup",
    "linear",
    "polynomial",
    "inverse_sqrt",
    "cosine_with_min_lr",
    "warmup_stable_decay",
    "piecewise_constant",
    "adafactor",
)
BROKEN_SCHEDULERS = ("reduce_lr_on_plateau", "cosine_warmup_with_min_lr")

# [kohya] lr_scheduler_type without a dot is a class of torch.optim.lr_scheduler (TU:5300): those that a recipe can
# give what they need, with the arguments they cannot do without. The rest want functions, other schedulers, or, as
# ReduceLROnPlateau, a loss at every step.
TORCH_SCHEDULERS: dict[str, tuple[str, ...]] = {
    "ConstantLR": (),
    "CosineAnnealingLR": ("T_max",),
    "CosineAnnealingWarmRestarts": ("T_0",),
    "CyclicLR": ("base_lr", "max_lr"),
    "ExponentialLR": ("gamma",),
    "LinearLR": (),
    "MultiStepLR": ("milestones",),
    "OneCycleLR": ("max_lr", "total_steps"),
    "PolynomialLR": (),
    "StepLR": ("step_size",),
}

# LyCORIS 4.1.3 preset names (LY kohya.py).
LYCORIS_PRESETS = (
    "full",
    "full-lin",
    "attn-mlp",
    "attn-only",
    "unet-only",
    "unet-transformer-only",
    "unet-convblock-only",
    "ia3",
)

# LyCORIS algorithms in which rank_dropout does something (S34).
RANK_DROPOUT_ALGORITHMS = ("locon", "loha", "lokr", "diag-oft")

# The first rate of a warm-up is 0, and it divides by it (dadaptation 3.2).
NO_WARMUP_OPTIMIZER = "DAdaptSGD"
ADAPTIVE_PREFIXES = ("Prodigy", "DAdapt")
ADAM_OPTIMIZERS = ("AdamW", "AdamW8bit", "PagedAdamW", "PagedAdamW8bit", "PagedAdamW32bit")

# The arguments of optimizer_args that the classes of the locked packages accept (torch 2.13, bitsandbytes 0.50.2,
# lion-pytorch 0.2.3, dadaptation 3.2, prodigyopt 1.1.2, schedulefree 1.4, transformers 4.54.1), less what sd-scripts
# passes itself (lr, nesterov). bitsandbytes' 8-bit AdamW takes amsgrad and optim_bits only to refuse them.
_TORCH_ARGUMENTS = ("foreach", "maximize", "differentiable")
_ADAM_ARGUMENTS = ("betas", "eps", "weight_decay")
_SGD_ARGUMENTS = ("momentum", "dampening", "weight_decay")
_PAGED_ARGUMENTS = (*_ADAM_ARGUMENTS, "amsgrad", "optim_bits", "args", "min_8bit_size")
_EIGHT_BIT_ARGUMENTS = ("args", "min_8bit_size")
_DADAPT_ARGUMENTS = ("weight_decay", "log_every", "d0")
OPTIMIZER_ARGUMENTS: dict[str, tuple[str, ...]] = {
    "AdamW": (*_ADAM_ARGUMENTS, "amsgrad", *_TORCH_ARGUMENTS, "capturable", "fused"),
    "AdamW8bit": (*_ADAM_ARGUMENTS, *_EIGHT_BIT_ARGUMENTS, "is_paged"),
    "PagedAdamW": _PAGED_ARGUMENTS,
    "PagedAdamW8bit": (*_ADAM_ARGUMENTS, *_EIGHT_BIT_ARGUMENTS),
    "PagedAdamW32bit": _PAGED_ARGUMENTS,
    "Lion": ("betas", "weight_decay", "use_triton", "decoupled_weight_decay"),
    "Lion8bit": ("betas", "weight_decay", *_EIGHT_BIT_ARGUMENTS, "is_paged"),
    "PagedLion8bit": ("betas", "weight_decay", *_EIGHT_BIT_ARGUMENTS),
    "SGDNesterov": (*_SGD_ARGUMENTS, *_TORCH_ARGUMENTS, "fused"),
    "SGDNesterov8bit": (*_SGD_ARGUMENTS, *_EIGHT_BIT_ARGUMENTS),
    "DAdaptation": (*_DADAPT_ARGUMENTS, "betas", "eps", "decouple", "growth_rate", "fsdp_in_use"),
    "DAdaptAdamPreprint": (*_DADAPT_ARGUMENTS, "betas", "eps", "decouple", "growth_rate", "fsdp_in_use"),
    "DAdaptAdaGrad": (*_DADAPT_ARGUMENTS, "momentum", "eps", "growth_rate"),
    "DAdaptAdam": (*_DADAPT_ARGUMENTS, "betas", "eps", "decouple", "use_bias_correction", "growth_rate", "fsdp_in_use"),
    "DAdaptAdan": (*_DADAPT_ARGUMENTS, "betas", "eps", "no_prox", "growth_rate"),
    "DAdaptAdanIP": (*_DADAPT_ARGUMENTS, "betas", "eps", "no_prox", "growth_rate"),
    "DAdaptLion": (*_DADAPT_ARGUMENTS, "betas", "fsdp_in_use"),
    "DAdaptSGD": (*_DADAPT_ARGUMENTS, "momentum", "growth_rate", "fsdp_in_use"),
    "Prodigy": (
        *_ADAM_ARGUMENTS, "beta3", "decouple", "use_bias_correction", "safeguard_warmup", "d0", "d_coef", "growth_rate",
        "fsdp_in_use", "slice_p",
    ),
    "Adafactor": (
        "eps", "clip_threshold", "decay_rate", "beta1", "weight_decay", "scale_parameter", "relative_step",
        "warmup_init",
    ),
    "RAdamScheduleFree": (*_ADAM_ARGUMENTS, "r", "weight_lr_power", "foreach", "silent_sgd_phase"),
    "AdamWScheduleFree": (*_ADAM_ARGUMENTS, "warmup_steps", "r", "weight_lr_power", "foreach"),
    "SGDScheduleFree": ("momentum", "weight_decay", "warmup_steps", "r", "weight_lr_power", "foreach"),
    "Adam": (*_ADAM_ARGUMENTS, "amsgrad", *_TORCH_ARGUMENTS, "capturable", "fused", "decoupled_weight_decay"),
    "NAdam": (*_ADAM_ARGUMENTS, "momentum_decay", "decoupled_weight_decay", *_TORCH_ARGUMENTS, "capturable"),
    "RAdam": (*_ADAM_ARGUMENTS, "decoupled_weight_decay", *_TORCH_ARGUMENTS, "capturable"),
    "SGD": (*_SGD_ARGUMENTS, "nesterov", *_TORCH_ARGUMENTS, "fused"),
    "Adamax": (*_ADAM_ARGUMENTS, *_TORCH_ARGUMENTS, "capturable"),
    "ASGD": ("lambd", "alpha", "t0", "weight_decay", *_TORCH_ARGUMENTS, "capturable"),
    "Rprop": ("etas", "step_sizes", *_TORCH_ARGUMENTS, "capturable"),
    "RMSprop": ("alpha", "eps", "weight_decay", "momentum", "centered", *_TORCH_ARGUMENTS, "capturable"),
    "Adagrad": ("lr_decay", "weight_decay", "initial_accumulator_value", "eps", *_TORCH_ARGUMENTS, "fused"),
    "Adadelta": ("rho", "eps", "weight_decay", *_TORCH_ARGUMENTS, "capturable"),
}  # fmt: skip


def is_schedule_free(optimizer: str) -> bool:
    """Whether sd-scripts gives it a scheduler that does nothing; it looks at the name's end alone (TU:5228)."""
    return optimizer.lower().endswith("schedulefree")


def needs_bitsandbytes(optimizer: str) -> bool:
    """Whether it comes from bitsandbytes, which works on NVIDIA GPUs and is not in the CPU lock (TU:4883-4973)."""
    name = optimizer.lower()
    return name.startswith(("paged", "bitsandbytes.")) or name.endswith("8bit")


def is_adaptive(optimizer: str) -> bool:
    """Whether the optimizer finds its own step size, so that learning_rate 1 is right (G4.52)."""
    return optimizer.rsplit(".", 1)[-1].startswith(ADAPTIVE_PREFIXES)


def split_validation(count: int, share: float, seed: int) -> tuple[frozenset[int], frozenset[int]]:
    """The places of a subset's images that are not trained on, and of those that are validated with.

    sd-scripts shuffles the images with the seed, trains on the first part, rounded up, and validates with the last,
    rounded: an image may be in both (TU:142-178).
    """
    order = list(range(count))
    random.Random(seed).shuffle(order)  # noqa: S311 - as sd-scripts does
    return frozenset(order[math.ceil(count * (1 - share)) :]), frozenset(order[count - round(count * share) :])
