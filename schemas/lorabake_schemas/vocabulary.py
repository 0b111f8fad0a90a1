"""sd-scripts' own words that its parser does not list as choices, and words people write for others."""

from __future__ import annotations

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

# sd-scripts-facts 3.4: every name that was seen to run at the pin.
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
SCHEDULERS_THAT_CRASH = ("reduce_lr_on_plateau", "cosine_warmup_with_min_lr")

# LyCORIS 4.1.3 preset names (LY kohya.py), and those that crash on SD1.5 (S35).
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
LYCORIS_PRESETS_BROKEN_ON_SD1 = ("full", "full-lin", "unet-only")

# What people coming from the GUI or from a train TOML write, and the recipe's word for it.
OTHER_WORDS = {
    "optimizer_type": "train.optimizer",
    "rank": "network.network_dim",
    "dim": "network.network_dim",
    "alpha": "network.network_alpha",
    "conv_rank": "network.conv_dim",
    "algo": "network.type",
    "network_module": "network.type",
    "dora": "network.dora_wd",
    "epochs": "train.max_train_epochs",
    "steps": "train.max_train_steps",
    "batch_size": "train.train_batch_size",
    "lr": "train.learning_rate",
    "te_lr": "train.text_encoder_lr",
    "warmup": "train.lr_warmup_steps",
    "scheduler": "train.lr_scheduler",
    "repeats": "num_repeats",
    "image_dir": "images",
    "class_tokens": "class",
    "instance_token": "token",
    "output_name": "name",
    "pretrained_model_name_or_path": "base.model",
    "v_parameterization": "base.v_prediction",
    "regularization": "regularisation",
    "xformers": "train.attention",
    "sdpa": "train.attention",
}

ADAPTIVE = ("Prodigy", "DAdapt")
ADAM = ("AdamW", "AdamW8bit", "PagedAdamW", "PagedAdamW8bit", "PagedAdamW32bit")


def is_adaptive(optimizer: str) -> bool:
    """Whether the optimizer finds its own step size, so that learning_rate 1 is right (G4.52)."""
    return optimizer.rsplit(".", 1)[-1].startswith(ADAPTIVE)


__all__ = [
    "ADAM",
    "ADAPTIVE",
    "LYCORIS_PRESETS",
    "LYCORIS_PRESETS_BROKEN_ON_SD1",
    "OPTIMIZERS",
    "OTHER_WORDS",
    "SCHEDULERS",
    "SCHEDULERS_THAT_CRASH",
    "is_adaptive",
]
