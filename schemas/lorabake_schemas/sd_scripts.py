"""Values of sd-scripts' options that its parser does not list as choices."""

from __future__ import annotations

import math
import random

# TU:4825-5134: built-in names, matched without regard to case, with their classes. Any other name is
# one of torch.optim as it is spelled (TU:5121), or a dotted class path.
OPTIMIZER_CLASSES = {
    "AdamW": "torch.optim.AdamW",
    "AdamW8bit": "bitsandbytes.optim.AdamW8bit",
    "PagedAdamW": "bitsandbytes.optim.PagedAdamW",
    "PagedAdamW8bit": "bitsandbytes.optim.PagedAdamW8bit",
    "PagedAdamW32bit": "bitsandbytes.optim.PagedAdamW32bit",
    "Lion": "lion_pytorch.Lion",
    "Lion8bit": "bitsandbytes.optim.Lion8bit",
    "PagedLion8bit": "bitsandbytes.optim.PagedLion8bit",
    "SGDNesterov": "torch.optim.SGD",
    "SGDNesterov8bit": "bitsandbytes.optim.SGD8bit",
    "DAdaptation": "dadaptation.experimental.DAdaptAdamPreprint",
    "DAdaptAdamPreprint": "dadaptation.experimental.DAdaptAdamPreprint",
    "DAdaptAdaGrad": "dadaptation.DAdaptAdaGrad",
    "DAdaptAdam": "dadaptation.DAdaptAdam",
    "DAdaptAdan": "dadaptation.DAdaptAdan",
    "DAdaptAdanIP": "dadaptation.experimental.DAdaptAdanIP",
    "DAdaptLion": "dadaptation.DAdaptLion",
    "DAdaptSGD": "dadaptation.DAdaptSGD",
    "Prodigy": "prodigyopt.Prodigy",
    "Adafactor": "transformers.optimization.Adafactor",
    "RAdamScheduleFree": "schedulefree.RAdamScheduleFree",
    "AdamWScheduleFree": "schedulefree.AdamWScheduleFree",
    "SGDScheduleFree": "schedulefree.SGDScheduleFree",
}
OPTIMIZERS = tuple(OPTIMIZER_CLASSES)
# What sd-scripts passes to an optimizer itself, so that it cannot be given once more (TU:4881-5134).
PASSED_TO_OPTIMIZERS = {"SGDNesterov": ("lr", "nesterov"), "SGDNesterov8bit": ("lr", "nesterov")}

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

# What sd-scripts passes to the function behind an lr_scheduler itself (TU:5316-5391).
_STEPS = ("num_warmup_steps", "num_training_steps")
PASSED_TO_SCHEDULES: dict[str, tuple[str, ...]] = {
    "constant_with_warmup": ("num_warmup_steps",),
    "inverse_sqrt": ("num_warmup_steps", "timescale"),
    "cosine_with_restarts": (*_STEPS, "num_cycles"),
    "polynomial": (*_STEPS, "power"),
    "cosine_with_min_lr": (*_STEPS, "num_cycles", "min_lr_rate"),
    "linear": _STEPS,
    "cosine": _STEPS,
    "warmup_stable_decay": (
        "num_warmup_steps", "num_training_steps", "num_stable_steps", "num_decay_steps", "num_cycles", "min_lr_ratio",
    ),
}  # fmt: skip
# An lr_scheduler_type without a dot is a class of torch.optim.lr_scheduler (TU:5300).
TORCH_SCHEDULERS = "torch.optim.lr_scheduler"

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

# Packages whose classes stop at two rates and need a rate near 1, as was measured (S27, G4.52).
_ONE_RATE_PACKAGES = ("prodigyopt", "dadaptation")


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


def requires_one_rate(optimizer: str) -> bool:
    """Whether it is Prodigy or D-Adaptation as sd-scripts has them, and no other class of a similar name."""
    package = OPTIMIZER_CLASSES.get(optimizer, optimizer).partition(".")[0]
    return package in _ONE_RATE_PACKAGES


def get_network_module(network: str) -> str:
    """The module of sd-scripts' network_module for a network.type: an algorithm is one of LyCORIS'."""
    if network == "lora":
        return "networks.lora"
    return network if network.startswith("networks.") else "lycoris.kohya"


def is_lycoris(network: str) -> bool:
    """Whether a network.type is an algorithm of LyCORIS."""
    return get_network_module(network) == "lycoris.kohya"
