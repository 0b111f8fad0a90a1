"""Recipes that a seed draws from the values of most keys."""

from __future__ import annotations

import random
from typing import Any

VALUES: dict[str, dict[str, list[Any]]] = {
    "base": {"clip_skip": [1, 2], "v_prediction": [True], "zero_terminal_snr": [True], "vae": ["v.safetensors"]},
    "network": {
        "type": ["lora", "locon", "loha", "lokr", "networks.dylora", "ia3", "dylora", "full", "diag-oft"],
        "network_dim": [4, 8, 32],
        "network_alpha": [1, 4.5],
        "conv_dim": [4, 16, 0],
        "conv_alpha": [1, 8],
        "network_dropout": [0, 0.1],
        "rank_dropout": [0, 0.1],
        "module_dropout": [0, 0.2],
        "network_train_unet_only": [True, False],
        "scale_weight_norms": [0, 1],
        "args": [{"loraplus_lr_ratio": 16}],
        "preset": ["attn-mlp", "full"],
    },
    "train": {
        "optimizer": ["AdamW8bit", "Prodigy", "Lion", "Adafactor", "DAdaptAdam"],
        "optimizer_args": [{}, {"weight_decay": 0.01}, {"weight_decay": 0.1, "betas": [0.9, 0.999]}],
        "learning_rate": [1e-4, 1.0],
        "unet_lr": [1e-4, 3e-4],
        "text_encoder_lr": [5e-5, 0.0],
        "lr_scheduler": ["cosine", "constant", "cosine_with_restarts", "polynomial"],
        "lr_warmup_steps": [0, 100, 0.1],
        "lr_scheduler_num_cycles": [1, 2],
        "max_train_epochs": [1, 10],
        "train_batch_size": [1, 4],
        "gradient_accumulation_steps": [2],
        "enable_bucket": [True, False],
        "bucket_no_upscale": [True, False],
        "max_bucket_reso": [1024, 1536],
        "mixed_precision": ["fp16", "bf16", "no"],
        "attention": ["xformers", "sdpa"],
        "gradient_checkpointing": [True, False],
        "cache_latents": [True, False],
        "cache_latents_to_disk": [True, False],
        "seed": [1, 42],
        "max_data_loader_n_workers": [0, 8],
        "persistent_data_loader_workers": [True, False],
        "min_snr_gamma": [0, 5],
        "debiased_estimation_loss": [True, False],
        "noise_offset": [0, 0.05],
        "max_token_length": [75, 150, 225],
        "no_half_vae": [True, False],
    },
    "captions": {
        "caption_extension": [".txt", ".caption"],
        "shuffle_caption": [True, False],
        "keep_tokens": [0, 3],
        "caption_dropout_rate": [0, 0.1],
        "caption_prefix": ["x,"],
    },
    "save": {"save_every_n_epochs": [1, 2], "save_precision": ["float", "bf16"], "save_state": [True, False]},
    "validation": {"validation_split": [0.1], "validation_seed": [3]},
    "log": {"log_with": ["wandb"], "wandb_run_name": ["r"]},
    "metadata": {"author": ["me"], "trigger_phrase": ["zz"]},
    "kohya": {"ip_noise_gamma": [0.1], "loss_type": ["huber"], "min_timestep": [100], "weighted_captions": [True]},
}
FOLDER_VALUES: dict[str, list[Any]] = {
    "num_repeats": [1, 10],
    "flip_aug": [True, False],
    "keep_tokens": [0, 2],
    "alpha_mask": [True],
    "caption_prefix": ["p"],
    "resolution": [512, [640, 768]],
}


def draw_recipe(seed: int) -> dict[str, Any]:
    draw = random.Random(seed)  # noqa: S311 - not a secret
    recipe: dict[str, Any] = {
        "name": "n",
        "kind": draw.choice(["character", "style", "object"]),
        "base": {"model": "m.safetensors", "family": draw.choice(["sd15", "sd2", "sdxl"])},
    }
    for table, keys in VALUES.items():
        share = draw.choice([0.1, 0.3, 0.6])
        recipe.setdefault(table, {}).update(
            {key: draw.choice(values) for key, values in keys.items() if draw.random() < share}
        )
    recipe["concept"] = [
        {"images": f"set{at}", "token": f"tok{at}", "class": draw.choice(["girl", "big cat"])}
        | {key: draw.choice(values) for key, values in FOLDER_VALUES.items() if draw.random() < 0.15}
        for at in range(draw.choice([1, 1, 2, 3]))
    ]
    if draw.random() < 0.3:
        recipe["train"]["resolutions"] = [512, 768]
    if draw.random() < 0.3:
        recipe["regularization"] = [{"class": "girl", "images": "reg"}]
    if draw.random() < 0.3:
        recipe["sample"] = {"prompts": ["a"], "sample_every_n_epochs": 2}
    return recipe
