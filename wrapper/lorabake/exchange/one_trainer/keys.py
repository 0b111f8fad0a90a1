"""Keys of OneTrainer: their names in older versions, its defaults, and what has no counterpart in sd-scripts."""

from __future__ import annotations

import re
from types import MappingProxyType
from typing import TYPE_CHECKING

from lorabake_schemas.messages import Message, msg

if TYPE_CHECKING:
    from collections.abc import Mapping

V_PREDICTION = ("STABLE_DIFFUSION_20", "STABLE_DIFFUSION_21")
PRECISIONS = {"FLOAT_16": "fp16", "BFLOAT_16": "bf16", "FLOAT_32": "float", "TFLOAT_32": "float"}
SAMPLERS = {
    "DDIM": "ddim", "EULER": "euler", "EULER_A": "euler_a", "DPMPP": "dpmsolver++", "DPMPP_SDE": "dpmsolver++",
    "EULER_KARRAS": "euler", "DPMPP_KARRAS": "dpmsolver++", "DPMPP_SDE_KARRAS": "dpmsolver++",
}  # fmt: skip
# Names that differ from those of the trainer's packages in more than their case and underscores.
REPLACED_OPTIMIZERS = {
    "ADAM": "torch.optim.Adam", "ADAM_8BIT": "bitsandbytes.optim.Adam8bit", "SGD": "torch.optim.SGD",
    "SGD_8BIT": "bitsandbytes.optim.SGD8bit", "SCHEDULE_FREE_ADAMW": "AdamWScheduleFree",
    "SCHEDULE_FREE_SGD": "SGDScheduleFree", "CAME_8BIT": "CAME", "ADAMW_ADV": "AdamW", "ADOPT_ADV": "ADOPT",
    "LION_ADV": "Lion", "PRODIGY_ADV": "Prodigy", "SIGNSGD_ADV": "SignSGD", "MUON_ADV": "pytorch_optimizer.Muon",
    "ADAMUON_ADV": "AdaMuon", "MUON": "pytorch_optimizer.Muon",
}  # fmt: skip
TECHNICAL_ARGUMENTS = frozenset((
    "foreach", "fused", "maximize", "capturable", "differentiable", "optim_bits", "min_8bit_size",
    "percentile_clipping", "block_wise", "is_paged", "fsdp_in_use", "log_every", "use_triton", "stochastic_rounding",
    "fused_back_pass", "compile", "quant_block_size", "__version",
))  # fmt: skip
MODEL_PARTS = ("unet", "text_encoder", "text_encoder_2", "vae")

# Defaults of modules/util/config/TrainConfig.py that differ from sd-scripts', or that a rule reads.
_DEFAULTS: Mapping[str, object] = MappingProxyType(
    {
        "base_model_name": "stable-diffusion-v1-5/stable-diffusion-v1-5",
        "concept_file_name": "training_concepts/concepts.json",
        "sample_definition_file_name": "training_samples/samples.json",
        "learning_rate_scheduler": "CONSTANT",
        "learning_rate": 3e-6,
        "learning_rate_warmup_steps": 200,
        "learning_rate_cycles": 1,
        "learning_rate_min_factor": 0,
        "learning_rate_scaler": "NONE",
        "epochs": 100,
        "batch_size": 1,
        "gradient_accumulation_steps": 1,
        "train_dtype": "FLOAT_16",
        "output_dtype": "FLOAT_32",
        "output_model_format": "SAFETENSORS",
        "resolution": "512",
        "attention_mechanism": "SDP",
        "gradient_checkpointing": True,
        "unet.gradient_checkpointing": True,
        "aspect_ratio_bucketing": True,
        "latent_caching": True,
        "mse_strength": 1,
        "loss_weight_fn": "CONSTANT",
        "loss_weight_strength": 5,
        "clip_grad_norm": 1,
        "timestep_distribution": "UNIFORM",
        "min_noising_strength": 0,
        "max_noising_strength": 1,
        "huber_delta": 1,
        "unet.train": True,
        "text_encoder.train": True,
        "text_encoder_2.train": True,
        "text_encoder.stop_training_after": 30,
        "text_encoder_2.stop_training_after": 30,
        "text_encoder.stop_training_after_unit": "EPOCH",
        "text_encoder_2.stop_training_after_unit": "EPOCH",
        "unet.stop_training_after_unit": "NEVER",
        "peft_type": "LORA",
        "layer_filter_preset": "full",
        "lora_rank": 16,
        "lora_alpha": 1,
        "lokr_dim": 16,
        "lokr_decompose_factor": -1,
        "lokr_dora_on_output": True,
        "optimizer.optimizer": "ADAMW",
        "sample_after": 10,
        "sample_after_unit": "MINUTE",
        "save_every_unit": "NEVER",
    }
)


def get_default(name: str) -> object:
    """What OneTrainer takes for a key that the file does not have; None where that is nothing or off."""
    return _DEFAULTS.get(name)


# Names before version 2, 6 and 8 (the migrations of TrainConfig).
_PART = re.compile(r"(?:train_)?(unet|prior|text_encoder(?:_2)?|vae|effnet_encoder|decoder(?:_text_encoder|_vqgan)?)")
_PART_KEYS = {"_epochs": "stop_training_after", "_learning_rate": "learning_rate", "_weight_dtype": "weight_dtype"}
_RENAMED = {
    "save_after": "save_every", "save_after_unit": "save_every_unit", "lora_layers": "layer_filter",
    "lora_layer_preset": "layer_filter_preset", "lora_layers_regex": "layer_filter_regex",
}  # fmt: skip


def find_newest_name(key: str, *, is_flat: bool = False) -> str:
    """The newest version's name for a key. ``is_flat``: the optimizer's settings are single keys (version 0)."""
    if is_flat and not key.startswith("optimizer_defaults"):
        if key in {"optimizer", "weight_decay"}:
            return f"optimizer.{key}"
        if key.startswith("optimizer_"):
            return "optimizer." + key.removeprefix("optimizer_")
    return _RENAMED.get(key) or _find_part_name(key)


def _find_part_name(key: str) -> str:
    """``train_unet`` and ``unet_learning_rate`` are keys of the table unet."""
    found = _PART.match(key)
    if found is None or "." in key:
        return key
    rest = key[found.end() :]
    if not rest and key.startswith("train_"):
        return f"{found[1]}.train"
    if rest == "_model_name":
        return f"{found[1]}.model_name"
    return f"{found[1]}.{_PART_KEYS[rest]}" if rest in _PART_KEYS else key


UNKNOWN = msg("OneTrainer's versions that are known here have no such key")
_FOLDERS = msg("a run of lorabake has its own folder")
_SPEED = msg("it concerns speed and memory only; lorabake chooses them itself")
_FORMAT = msg("sd-scripts chooses the number formats of the model by mixed_precision")
_OTHER = msg("neither Stable Diffusion nor SDXL has this part")
_BACKUP = msg("a backup to resume from; lorabake has save.save_state")
_SAMPLES = msg("how OneTrainer writes its samples")
_EMBEDDING = msg("sd-scripts cannot train an embedding together with a LoRA")
_MASK = msg("sd-scripts' masked loss has no such setting: what is black in a mask is not learned at all")
_CLOUD = msg("where OneTrainer runs")
_TENSORBOARD = msg("lorabake always writes a log for TensorBoard")
_VALIDATION = msg("OneTrainer validates on concepts of their own; lorabake has validation.validation_split")
_CAPTIONS = msg("sd-scripts has max_token_length for the length of captions")
_EMA = msg("sd-scripts has no EMA")
DROPPED_TABLES: Mapping[str, Message] = MappingProxyType(
    {
        "__version": msg("the version of the file"),
        "secrets": msg("lorabake never copies access tokens and keys"),
        "cloud": _CLOUD,
        "optimizer_defaults": msg("a setting of an optimizer that is not chosen"),
        "scheduler_params": msg("only a scheduler of one's own has arguments"),
        "embedding": _EMBEDDING,
        "embeddings": _EMBEDDING,
        "additional_embeddings": _EMBEDDING,
        "quantization": _FORMAT,
        **dict.fromkeys(
            ("prior", "transformer", "unconditional_transformer", "text_encoder_3", "text_encoder_4", "effnet_encoder",
             "decoder", "decoder_text_encoder", "decoder_vqgan", "text_encoder_3_layer_skip",
             "text_encoder_4_layer_skip", "prior_layer_skip"),
            _OTHER,
        ),
    }
)  # fmt: skip
_GROUPS: tuple[tuple[Message, tuple[str, ...]], ...] = (
    (_FOLDERS, ("debug_mode", "debug_dir", "workspace_dir", "cache_dir", "clear_cache_before_training", "only_cache",
                "huggingface_cache_dir", "offline_mode", "include_train_config", "continue_last_backup",
                "prevent_overwrites", "save_filename_prefix")),
    (_SPEED, ("async_offloading", "enable_async_offloading", "enable_activation_offloading", "layer_offload_fraction",
              "compile", "dataloader_threads", "train_device", "temp_device", "enable_autocast_cache",
              "gradient_reduce_precision", "fused_gradient_reduce", "async_gradient_reduce",
              "async_gradient_reduce_buffer", "part.gradient_checkpointing", "part.offload_fraction",
              "part.activation_offloading", "lokr_vec_trick", "fallback_train_dtype")),
    (_FORMAT, ("weight_dtype", "part.weight_dtype", "lora_weight_dtype", "embedding_weight_dtype")),
    (_EMBEDDING, ("part.train_embedding", "embedding_learning_rate", "preserve_embedding_norm", "token_count",
                  "initial_embedding_text", "embedding_model_names", "bundle_additional_embeddings")),
    (_EMA, ("ema", "ema_decay", "ema_update_step_interval", "non_ema_sampling")),
    (_TENSORBOARD, ("tensorboard", "tensorboard_expose", "tensorboard_always_on", "tensorboard_port",
                    "samples_to_tensorboard")),
    (_VALIDATION, ("validation", "validate_after", "validate_after_unit")),
    (_SAMPLES, ("sample_skip_first", "sample_image_format", "sample_video_format", "sample_audio_format")),
    (_BACKUP, ("backup_after", "backup_after_unit", "rolling_backup", "rolling_backup_count", "backup_before_save")),
    (_MASK, ("unmasked_probability", "unmasked_weight", "normalize_masked_area_loss",
             "masked_prior_preservation_weight", "custom_conditioning_image")),
    (_CAPTIONS, ("text_encoder_sequence_length", "text_encoder_2_sequence_length")),
    (_OTHER, ("frames", "part.guidance_scale", "part.attention_mask", "extra_model_name", "transformer_attention_mask",
              "force_circular_padding", "vb_loss_strength", "text_encoder_2_layer_skip", "part.include",
              "part.train", "part.learning_rate", "part.stop_training_after", "part.stop_training_after_unit",
              "part.model_name", "part.dropout_probability")),
    (msg("with Adam and the like, a factor on the loss changes nothing"), ("loss_scaler",)),
    (msg("the type of the network chooses the layers in sd-scripts"), ("layer_filter", "layer_filter_regex")),
    (msg("sd-scripts has no such noise"), ("generalized_offset_noise", "perturbation_noise_weight")),
    (msg("the chosen type of network has no such key"), (
        "lora_decompose_norm_epsilon", "lora_decompose_output_axis", "oft_block_size", "oft_block_share", "oft_scaled",
        "lokr_decompose_both", "lokr_decompose_factor", "lokr_use_tucker", "lokr_weight_decompose",
        "lokr_dora_on_output", "lokr_full_matrix", "lokr_dim", "custom_learning_rate_scheduler")),
    (msg("the first saves are made, too"), ("save_skip_first",)),
    (msg("the part of OneTrainer that it belongs to is off"), (
        "align_prop", "align_prop_loss", "align_prop_probability", "align_prop_truncate_steps", "align_prop_weight",
        "align_prop_cfg_scale")),
    (msg("sd-scripts has no such change of images"), (
        "circular_mask_generation", "random_rotate_and_crop", "latent_caching_epochs", "random_flip")),
)  # fmt: skip
# "part.KEY" is KEY of each of MODEL_PARTS.
DROPPED_KEYS: Mapping[str, Message] = MappingProxyType({name: why for why, names in _GROUPS for name in names})
