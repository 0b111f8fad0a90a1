"""Keys of ai-toolkit: its defaults, older names, and what has no counterpart in sd-scripts."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING

from lorabake_schemas.messages import Message, msg

if TYPE_CHECKING:
    from collections.abc import Mapping

# The older switches for architectures that lorabake does not train.
OTHER_SWITCHES = (
    "is_flux", "is_v3", "is_pixart", "is_pixart_sigma", "is_auraflow", "is_lumina2", "is_ssd", "is_vega",
)  # fmt: skip
PRECISIONS = {
    "fp16": "fp16", "float16": "fp16", "bf16": "bf16", "bfloat16": "bf16", "fp32": "float", "float32": "float",
    "float": "float",
}  # fmt: skip
OPTIMIZERS = {
    "adam": "torch.optim.Adam", "adam8bit": "bitsandbytes.optim.Adam8bit", "adam8": "bitsandbytes.optim.Adam8bit",
    "adamw8": "AdamW8bit", "ademamix8bit": "bitsandbytes.optim.AdEMAMix8bit", "adagrad": "torch.optim.Adagrad",
    "prodigy8bit": "Prodigy", "prodigyopt": "Prodigy", "dadaptation": "DAdaptAdam", "dadaptationadam": "DAdaptLion",
    "dadaptationlion": "DAdaptLion",
}  # fmt: skip
# get_optimizer gives these an epsilon of 1e-6; torch and bitsandbytes have 1e-8.
EPSILON_OPTIMIZERS = (
    "adam", "adamw", "adam8bit", "adamw8bit", "adam8", "adamw8", "prodigy", "prodigy8bit", "ademamix8bit",
)  # fmt: skip
# Another name of a key, by its newest one.
ALIASES: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {"network.linear": ("network.rank",), "network.linear_alpha": ("network.alpha",)}
)
# Defaults of toolkit/config_modules.py that differ from sd-scripts', or that a rule reads.
DEFAULTS: Mapping[str, object] = MappingProxyType(
    {
        "train.steps": 1000,
        "train.lr": 1e-6,
        "train.optimizer": "adamw",
        "train.lr_scheduler": "constant",
        "train.batch_size": 1,
        "train.dtype": "fp32",
        "train.train_unet": True,
        "train.train_text_encoder": False,
        "train.gradient_checkpointing": True,
        "train.gradient_accumulation": 1,
        "train.max_grad_norm": 1,
        "train.loss_type": "mse",
        "train.noise_scheduler": "ddpm",
        "network.linear": 4,
        "network.linear_alpha": 1,
        "network.lokr_full_rank": True,
        "save.save_every": 1000,
        "save.dtype": "float16",
        "save.max_step_saves_to_keep": 5,
        "sample.sample_every": 100,
        "sample.width": 512,
        "sample.height": 512,
        "sample.guidance_scale": 7,
        "sample.sample_steps": 20,
        "datasets[].resolution": 512,
        "datasets[].caption_ext": ".txt",
        "datasets[].buckets": True,
    }
)
START = "config.process[0]."
SAME = msg("as in sd-scripts")
UNKNOWN = msg("ai-toolkit as it is known here has no such key")
_SPEED = msg("it concerns speed and memory only; lorabake chooses them itself")
_LOG = msg("lorabake writes its own log")
_FLOW = msg("only models with flow matching have it")
_NONE = msg("sd-scripts has no counterpart")
_VIDEO = msg("it is for video or sound")
_CONTROL = msg("it is for control images, which a LoRA for Stable Diffusion does not take")
_EMA = msg("sd-scripts has no EMA")
_HUB = msg("lorabake uploads nothing")
_GROUPS: tuple[tuple[Message, tuple[str, ...]], ...] = (
    (_SPEED, ("device", "train.unload_text_encoder", "train.cache_text_embeddings", "train.attention_backend",
              "train.single_item_batching", "train.do_paramiter_swapping", "train.paramiter_swapping_factor",
              "model.quantize", "model.quantize_te", "model.qtype", "model.qtype_te", "model.low_vram",
              "model.quantize_kwargs", "model.layer_offloading", "model.layer_offloading_transformer_percent",
              "model.layer_offloading_text_encoder_percent", "model.auto_memory", "model.compile",
              "model.block_compile", "model.compile_mode", "model.compile_fullgraph", "model.compile_dynamic",
              "model.cache_size_limit", "model.vae_device", "model.te_device", "model.text_encoder_bits",
              "model.split_model_over_gpus", "network.layer_offloading", "datasets[].num_workers",
              "datasets[].prefetch_factor", "datasets[].cache_text_embeddings", "datasets[].fast_image_size",
              "datasets[].cache_latents_num_workers", "datasets[].load_image_when_caching_latents",
              "datasets[].cache_clip_vision_to_disk", "datasets[].cache_tensors_to_disk")),
    (_LOG, ("performance_log_every", "log_dir", "sqlite_db_path", "logging", "logging.log_every", "logging.verbose",
            "train.max_loss_debug", "datasets[].debug")),
    (_FLOW, ("train.timestep_type", "train.bypass_guidance_embedding", "train.linear_timesteps",
             "train.linear_timesteps2", "train.switch_boundary_every", "train.do_guidance_loss",
             "train.guidance_loss_target", "train.do_differential_guidance", "train.differential_guidance_scale",
             "train.next_sample_timesteps", "model.use_flux_cfg", "model.attn_masking", "model.is_flux",
             "model.is_v3", "model.model_kwargs", "model.model_paths", "model.extras_name_or_path",
             "network.transformer_only", "network.split_multistage_loras", "network.old_lokr_format")),
    (_EMA, ("train.ema_config", "ema_config")),
    (_HUB, ("save.push_to_hub", "save.hf_repo_id", "save.hf_private")),
    (_VIDEO, ("datasets[].num_frames", "datasets[].fps", "datasets[].shrink_video_to_frames", "datasets[].do_i2v",
              "datasets[].do_audio", "datasets[].auto_frame_count", "datasets[].audio_normalize",
              "datasets[].audio_preserve_pitch", "datasets[].trim_auto_frame_count_tail", "sample.fps",
              "sample.num_frames", "train.audio_loss_multiplier")),
    (_CONTROL, ("datasets[].control_path", "datasets[].control_path_1", "datasets[].control_path_2",
                "datasets[].control_path_3", "datasets[].controls", "datasets[].inpaint_path",
                "datasets[].clip_image_path", "datasets[].full_size_control_images", "adapter", "guidance",
                "train.adapter_lr", "train.match_adapter_assist", "train.match_adapter_chance")),
    (msg("sd-scripts has another set of samplers"), ("sample.sampler",)),
    (msg("sd-scripts' prompts have no such setting"), ("sample", "first_sample")),
    (msg("sd-scripts draws all timesteps equally often"), ("train.content_or_style", "train.content_or_style_reg")),
    (msg("sd-scripts saves a LoRA in one file, with kohya's names"), ("save.save_format",)),
    (msg("the first process has it; a recipe has tables for the metadata of a LoRA"), ("meta",)),
    (msg("sd-scripts trains the layers of the type of network"), ("network.network_kwargs", "network.all_layers",
        "network.lorm", "model.only_if_contains", "model.ignore_if_contains")),
    (msg("sd-scripts has no dropout before the text encoder; write captions.caption_dropout_rate"), (
        "train.prompt_dropout_prob",)),
    (_NONE, (
        "train.snr_gamma", "train.learnable_snr_gos", "train.refiner_lr", "train.embedding_lr", "train.train_refiner",
        "train.train_turbo", "train.show_turbo_outputs", "train.force_first_sample", "train.weight_jitter",
        "train.merge_network_on_save", "train.merge_network_on_save_strength", "train.start_step", "train.free_u",
        "train.noise_multiplier", "train.target_noise_multiplier", "train.random_noise_multiplier",
        "train.random_noise_shift", "train.img_multiplier", "train.noisy_latent_multiplier",
        "train.latent_multiplier", "train.negative_prompt", "train.max_negative_prompts", "train.num_train_timesteps",
        "train.adaptive_scaling_factor", "train.match_noise_norm", "train.short_and_long_captions",
        "train.short_and_long_captions_encoder_split", "train.loss_target", "train.inverted_mask_prior",
        "train.inverted_mask_prior_multiplier", "train.diff_output_preservation",
        "train.diff_output_preservation_multiplier", "train.diff_output_preservation_class",
        "train.blank_prompt_preservation", "train.blank_prompt_preservation_multiplier", "train.standardize_images",
        "train.standardize_latents", "train.dynamic_noise_offset", "train.do_cfg", "train.do_random_cfg",
        "train.cfg_scale", "train.max_cfg_scale", "train.cfg_rescale", "train.correct_pred_norm",
        "train.correct_pred_norm_multiplier", "train.pred_scaler", "train.prompt_saturation_chance",
        "train.do_prior_divergence", "train.target_norm_std", "train.target_norm_std_value", "train.max_loss",
        "train.optimal_noise_pairing_samples", "train.force_consistent_noise", "train.blended_blur_noise",
        "train.do_blank_stabilization", "train.unconditional_prompt", "train.validation_config",
        "train.disable_sampling", "train.skip_first_sample", "model.refiner_name_or_path", "model.refiner_start_at",
        "model.assistant_lora_path", "model.inference_lora_path", "model.unconditional_lora_path", "model.dtype",
        "model.vae_dtype", "model.te_dtype", "model.te_name_or_path", "model.unet_path", "model.use_text_encoder_1",
        "model.use_text_encoder_2", "model.experimental_xl", "model.latent_space_version", "model.is_v_pred",
        "model.accuracy_recovery_adapter", "model.unet_sample_size", "model.in_context", "embedding", "decorator",
        "datasets[].type", "datasets[].scale", "datasets[].random_scale", "datasets[].prior_reg",
        "datasets[].network_weight", "datasets[].loss_multiplier", "datasets[].flip_y", "datasets[].augments",
        "datasets[].augmentations", "datasets[].shuffle_augmentations", "datasets[].random_triggers",
        "datasets[].random_triggers_max", "datasets[].invert_mask", "datasets[].mask_min_value",
        "datasets[].unconditional_path", "datasets[].use_short_captions", "datasets[].standardize_images",
        "datasets[].guidance_type", "datasets[].replacements", "datasets[].extra_values", "datasets[].square_crop",
        "datasets[].replay_transforms", "datasets[].shuffle_tokens", "datasets[].caption_dropout_rate",
        "datasets[].token_dropout_rate", "datasets[].dataset_path", "datasets[].folder_path", "is_ui_trainer")),
)  # fmt: skip
# By a key's name, of a table's keys by the table's name; "[]" stands for any index.
DROPPED: Mapping[str, Message] = MappingProxyType({name: why for why, names in _GROUPS for name in names})
