"""The fields of the kohya_ss GUI's LoRA tab: what a new one shows, and what each becomes for sd-scripts.

Facts about bmaltais/kohya_ss 45088f04 (kohya_gui/lora_gui.py: train_model, open_configuration; common_gui.py:
update_my_data). Keys are in the order of the GUI.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

Value = bool | int | float | str

SDXL = "sdxl"  # the GUI's own field; the family of that name is asked for its script

_MAIN: dict[str, Value] = {
    "pretrained_model_name_or_path": "runwayml/stable-diffusion-v1-5", "v2": False, "v_parameterization": False,
    SDXL: False, "flux1_checkbox": False, "dataset_config": "", "save_model_as": "safetensors",
    "save_precision": "fp16", "train_data_dir": "", "output_name": "last", "model_list": "", "training_comment": "",
    "logging_dir": "", "reg_data_dir": "", "output_dir": "", "max_resolution": "512,512", "learning_rate": 0.0001,
    "lr_scheduler": "cosine", "lr_warmup": 10, "lr_warmup_steps": 0, "train_batch_size": 1, "epoch": 1,
    "save_every_n_epochs": 1, "seed": 0, "cache_latents": True, "cache_latents_to_disk": False,
    "train_inpainting": False, "caption_extension": ".txt", "enable_bucket": True, "stop_text_encoder_training": 0,
    "min_bucket_reso": 256, "max_bucket_reso": 2048, "max_train_epochs": 0, "max_train_steps": 1600,
    "lr_scheduler_num_cycles": 1, "lr_scheduler_power": 1.0, "optimizer": "AdamW8bit", "optimizer_args": "",
    "lr_scheduler_args": "", "lr_scheduler_type": "", "max_grad_norm": 1.0, "mixed_precision": "fp16",
    "num_cpu_threads_per_process": 2, "num_processes": 1, "num_machines": 1, "multi_gpu": False, "gpu_ids": "",
    "main_process_port": 0, "dynamo_backend": "no", "dynamo_mode": "default", "dynamo_use_fullgraph": False,
    "dynamo_use_dynamic": False, "extra_accelerate_launch_args": "", "gradient_checkpointing": False,
    "fp8_base": False, "fp8_base_unet": False, "full_fp16": False, "highvram": False, "lowvram": False,
    "xformers": "xformers", "shuffle_caption": False, "save_state": False, "save_state_on_train_end": False,
    "resume": "", "prior_loss_weight": 1.0, "color_aug": False, "flip_aug": False, "masked_loss": False,
    "clip_skip": 1, "gradient_accumulation_steps": 1, "mem_eff_attn": False, "max_token_length": 75,
    "max_data_loader_n_workers": 0, "keep_tokens": 0, "persistent_data_loader_workers": False,
    "bucket_no_upscale": True, "random_crop": False, "bucket_reso_steps": 64, "v_pred_like_loss": 0,
    "caption_dropout_every_n_epochs": 0, "caption_dropout_rate": 0, "noise_offset_type": "Original",
    "noise_offset": 0, "noise_offset_random_strength": False, "adaptive_noise_scale": 0,
    "multires_noise_iterations": 0, "multires_noise_discount": 0.3, "ip_noise_gamma": 0,
    "ip_noise_gamma_random_strength": False, "additional_parameters": "", "loss_type": "l2", "huber_schedule": "snr",
    "huber_c": 0.1, "huber_scale": 1.0, "vae_batch_size": 0, "min_snr_gamma": 0, "save_every_n_steps": 0,
    "save_last_n_steps": 0, "save_last_n_steps_state": 0, "save_last_n_epochs": 0, "save_last_n_epochs_state": 0,
    "skip_cache_check": False, "log_with": "", "wandb_api_key": "", "wandb_run_name": "", "log_tracker_name": "",
    "log_tracker_config": "", "log_config": False, "scale_v_pred_loss_like_noise_pred": False, "full_bf16": False,
    "min_timestep": 0, "max_timestep": 1000, "vae": "", "weighted_captions": False, "debiased_estimation_loss": False,
    "sdxl_cache_text_encoder_outputs": False, "sdxl_no_half_vae": False, "text_encoder_lr": 0.0001, "t5xxl_lr": 0,
    "unet_lr": 0.0001, "network_dim": 8, "network_weights": "", "dim_from_weights": False, "network_alpha": 1,
    "LoRA_type": "Standard", "factor": -1, "bypass_mode": False, "dora_wd": False, "use_cp": False,
    "use_tucker": False, "use_scalar": False, "rank_dropout_scale": False, "constrain": 0.0, "rescaled": False,
    "train_norm": False, "decompose_both": False, "train_on_input": True, "conv_dim": 1, "conv_alpha": 1,
    "sample_every_n_steps": 0, "sample_every_n_epochs": 0, "sample_sampler": "euler_a", "sample_prompts": "",
    "down_lr_weight": "", "mid_lr_weight": "", "up_lr_weight": "", "block_lr_zero_threshold": "", "block_dims": "",
    "block_alphas": "", "conv_block_dims": "", "conv_block_alphas": "", "unit": 1, "scale_weight_norms": 0,
    "network_dropout": 0, "rank_dropout": 0, "module_dropout": 0.0, "LyCORIS_preset": "full", "loraplus_lr_ratio": 0,
    "loraplus_text_encoder_lr_ratio": 0, "loraplus_unet_lr_ratio": 0, "train_lora_ggpo": False, "ggpo_sigma": 0.03,
    "ggpo_beta": 0.01, "huggingface_repo_id": "", "huggingface_token": "", "huggingface_repo_type": "",
    "huggingface_repo_visibility": "", "huggingface_path_in_repo": "", "save_state_to_huggingface": False,
    "resume_from_huggingface": "", "async_upload": False, "metadata_author": "", "metadata_description": "",
    "metadata_license": "", "metadata_tags": "", "metadata_title": "",
}  # fmt: skip
_FLUX: dict[str, Value] = {
    "flux1_cache_text_encoder_outputs": False, "flux1_cache_text_encoder_outputs_to_disk": False,
    "model_type": "flux", "ae": "", "clip_l": "", "t5xxl": "", "discrete_flow_shift": 3.0,
    "model_prediction_type": "sigma_scaled", "timestep_sampling": "sigma", "split_mode": False, "train_blocks": "all",
    "t5xxl_max_token_length": 512, "enable_all_linear": False, "guidance_scale": 3.5, "mem_eff_save": False,
    "apply_t5_attn_mask": False, "split_qkv": False, "train_t5xxl": False, "cpu_offload_checkpointing": False,
    "blocks_to_swap": 0, "single_blocks_to_swap": 0, "double_blocks_to_swap": 0, "show_timesteps": "",
    "show_timesteps_resolution": "1024", "img_attn_dim": "", "img_mlp_dim": "", "img_mod_dim": "", "single_dim": "",
    "txt_attn_dim": "", "txt_mlp_dim": "", "txt_mod_dim": "", "single_mod_dim": "", "in_dims": "",
    "train_double_block_indices": "all", "train_single_block_indices": "all",
}  # fmt: skip
_SD3: dict[str, Value] = {
    "sd3_cache_text_encoder_outputs": False, "sd3_cache_text_encoder_outputs_to_disk": False,
    "sd3_fused_backward_pass": False, "clip_g": "", "clip_g_dropout_rate": 0.0, "sd3_clip_l": "",
    "sd3_clip_l_dropout_rate": 0.0, "sd3_disable_mmap_load_safetensors": False, "sd3_enable_scaled_pos_embed": False,
    "logit_mean": 0.0, "logit_std": 1.0, "mode_scale": 1.29, "pos_emb_random_crop_rate": 0.0, "save_clip": False,
    "save_t5xxl": False, "sd3_t5_dropout_rate": 0.0, "sd3_t5xxl": "", "t5xxl_device": "", "t5xxl_dtype": "bf16",
    "sd3_text_encoder_batch_size": 1, "weighting_scheme": "logit_normal", "sd3_checkbox": False,
}  # fmt: skip
_HUNYUAN: dict[str, Value] = {
    "hunyuan_image_cache_text_encoder_outputs": False, "hunyuan_image_cache_text_encoder_outputs_to_disk": False,
    "hunyuan_text_encoder": "", "hunyuan_byt5": "", "hunyuan_vae": "", "hunyuan_discrete_flow_shift": 5.0,
    "hunyuan_model_prediction_type": "raw", "hunyuan_timestep_sampling": "sigma", "hunyuan_sigmoid_scale": 1.0,
    "hunyuan_attn_mode": "torch", "hunyuan_split_attn": False, "hunyuan_fp8_scaled": False, "hunyuan_fp8_vl": False,
    "hunyuan_text_encoder_cpu": False, "hunyuan_vae_chunk_size": 0, "hunyuan_image_checkbox": False,
}  # fmt: skip
_ANIMA: dict[str, Value] = {
    "anima_cache_text_encoder_outputs": False, "anima_cache_text_encoder_outputs_to_disk": False, "anima_qwen3": "",
    "anima_vae": "", "anima_llm_adapter_path": "", "anima_t5_tokenizer_path": "", "anima_discrete_flow_shift": 1.0,
    "anima_timestep_sampling": "sigmoid", "anima_sigmoid_scale": 1.0, "anima_qwen3_max_token_length": 512,
    "anima_t5_max_token_length": 512, "anima_attn_mode": "torch", "anima_split_attn": False,
    "anima_vae_chunk_size": 0, "anima_vae_disable_cache": False, "anima_unsloth_offload_checkpointing": False,
    "anima_qwen_image_vae_2d": False, "anima_compile": False, "anima_torch_compile": False,
    "anima_compile_backend": "inductor", "anima_compile_mode": "default", "anima_compile_dynamic": "auto",
    "anima_compile_fullgraph": False, "anima_compile_cache_size_limit": 0, "anima_checkbox": False,
}  # fmt: skip
_LUMINA: dict[str, Value] = {
    "lumina_cache_text_encoder_outputs": False, "lumina_cache_text_encoder_outputs_to_disk": False,
    "lumina_gemma2": "", "lumina_ae": "", "lumina_discrete_flow_shift": 6.0, "lumina_model_prediction_type": "raw",
    "lumina_timestep_sampling": "shift", "lumina_sigmoid_scale": 1.0, "lumina_gemma2_max_token_length": 256,
    "lumina_system_prompt": "", "lumina_use_flash_attn": False, "lumina_use_sage_attn": False,
    "lumina_checkbox": False,
}  # fmt: skip

FAMILY_FIELDS: Mapping[str, Mapping[str, Value]] = MappingProxyType(
    {"Flux.1": _FLUX, "SD3": _SD3, "HunyuanImage-2.1": _HUNYUAN, "Anima": _ANIMA, "Lumina Image 2.0": _LUMINA}
)
# All 287, with what a new GUI shows.
FRESH: Mapping[str, Value] = MappingProxyType(_MAIN | _FLUX | _SD3 | _HUNYUAN | _ANIMA | _LUMINA)

# The box or the LoRA type that makes it the training of a family that lorabake does not train.
FAMILY_BOXES = {
    "flux1_checkbox": "Flux.1", "sd3_checkbox": "SD3", "hunyuan_image_checkbox": "HunyuanImage-2.1",
    "anima_checkbox": "Anima", "lumina_checkbox": "Lumina Image 2.0",
}  # fmt: skip
FAMILY_TYPES = {
    "Flux1": "Flux.1", "Flux1 OFT": "Flux.1", "HunyuanImage-2.1": "HunyuanImage-2.1", "Anima": "Anima",
    "Lumina": "Lumina Image 2.0",
}  # fmt: skip

# What other tabs of the GUI save, by a key that only they have; the last is what is left of one without LoRA keys.
LORA_KEYS = frozenset({"LoRA_type", "network_dim", "network_alpha", "unet_lr", "text_encoder_lr"})
OTHER_TABS = {
    "leco_denoise_guidance_scale": "LECO", "num_vectors_per_token": "Textual Inversion", "token_string":
    "Textual Inversion", "full_path": "Finetuning", "image_folder": "Finetuning", "dataset_repeats": "Finetuning",
    "train_data_dir": "Dreambooth",
}  # fmt: skip

# Fields that become the option of the same name, or of this one.
RENAMED = {"max_resolution": "resolution", "optimizer": "optimizer_type"}
COPIED = (
    "pretrained_model_name_or_path", "v2", "v_parameterization", "dataset_config", "save_model_as", "save_precision",
    "train_data_dir", "output_name", "training_comment", "logging_dir", "reg_data_dir", "output_dir", "max_resolution",
    "learning_rate", "lr_scheduler", "train_batch_size", "save_every_n_epochs", "cache_latents",
    "cache_latents_to_disk", "caption_extension", "enable_bucket", "min_bucket_reso", "max_bucket_reso",
    "lr_scheduler_power", "optimizer", "lr_scheduler_type", "max_grad_norm", "mixed_precision",
    "gradient_checkpointing", "fp8_base", "full_fp16", "highvram", "shuffle_caption", "save_state",
    "save_state_on_train_end", "resume", "prior_loss_weight", "color_aug", "flip_aug", "masked_loss", "clip_skip",
    "gradient_accumulation_steps", "mem_eff_attn", "max_token_length", "keep_tokens", "persistent_data_loader_workers",
    "bucket_no_upscale", "random_crop", "bucket_reso_steps", "v_pred_like_loss", "caption_dropout_every_n_epochs",
    "caption_dropout_rate", "ip_noise_gamma", "ip_noise_gamma_random_strength", "loss_type", "huber_schedule",
    "huber_c", "huber_scale", "vae_batch_size", "min_snr_gamma", "save_every_n_steps", "save_last_n_steps",
    "save_last_n_steps_state", "save_last_n_epochs", "save_last_n_epochs_state", "skip_cache_check", "log_with",
    "log_tracker_name", "log_tracker_config", "log_config", "scale_v_pred_loss_like_noise_pred", "full_bf16",
    "min_timestep", "max_timestep", "vae", "weighted_captions", "debiased_estimation_loss", "network_dim",
    "network_weights", "dim_from_weights", "network_alpha", "sample_every_n_steps", "sample_every_n_epochs",
    "sample_sampler", "scale_weight_norms", "network_dropout", "huggingface_repo_id", "huggingface_repo_type",
    "huggingface_repo_visibility", "huggingface_path_in_repo", "save_state_to_huggingface", "resume_from_huggingface",
    "async_upload", "metadata_author", "metadata_description", "metadata_license", "metadata_tags", "metadata_title",
)  # fmt: skip
# Which of the two kinds of noise they belong to.
NOISE_FIELDS = {
    "Original": ("noise_offset", "noise_offset_random_strength", "adaptive_noise_scale"),
    "Multires": ("multires_noise_iterations", "multires_noise_discount"),
}
# Fields of which 0 says something that sd-scripts' default does not. The GUI passes no zero on.
ZEROS_THAT_COUNT = frozenset({"max_grad_norm", "prior_loss_weight", "lr_scheduler_power", "multires_noise_discount"})
SECRETS = frozenset({"wandb_api_key", "huggingface_token"})
NEVER_PASSED_ON = frozenset({"model_list", "lowvram", "stop_text_encoder_training", "epoch", "noise_offset_type"})
LAUNCH = (
    "num_cpu_threads_per_process", "num_processes", "num_machines", "multi_gpu", "gpu_ids", "main_process_port",
    "dynamo_mode", "dynamo_use_fullgraph", "dynamo_use_dynamic", "extra_accelerate_launch_args",
)  # fmt: skip

LORAPLUS = ("loraplus_lr_ratio", "loraplus_unet_lr_ratio", "loraplus_text_encoder_lr_ratio")
# What the widgets of the page take; a training with another value is refused there.
LIMITS: Mapping[str, tuple[float, float]] = MappingProxyType(
    {
        **dict.fromkeys(("text_encoder_lr", "t5xxl_lr", "unet_lr", "v_pred_like_loss", "caption_dropout_rate",
                         "noise_offset", "multires_noise_discount", "ip_noise_gamma", "huber_c", "network_dropout",
                         "rank_dropout", "module_dropout"), (0, 1)),
        **dict.fromkeys(("learning_rate", "adaptive_noise_scale"), (-1, 1)),
        **dict.fromkeys(("min_bucket_reso", "max_bucket_reso"), (64, 4096)),
        **dict.fromkeys(("min_timestep", "max_timestep"), (0, 1000)),
        **dict.fromkeys(("conv_dim", "conv_alpha"), (0, 512)),
        **dict.fromkeys(LORAPLUS, (0, 128)),
        "lr_warmup": (0, 100), "train_batch_size": (1, 64),
        "main_process_port": (0, 65535), "clip_skip": (0, 12), "gradient_accumulation_steps": (1, 120),
        "keep_tokens": (0, 32), "bucket_reso_steps": (1, 128), "multires_noise_iterations": (0, 64),
        "huber_scale": (0, 10), "vae_batch_size": (0, 32), "min_snr_gamma": (0, 20), "network_dim": (1, 512),
        "network_alpha": (1e-5, 1024), "factor": (-1, 64), "unit": (1, 64), "scale_weight_norms": (0, 10),
    }
)  # fmt: skip
CHOICES: Mapping[str, tuple[Value, ...]] = MappingProxyType(
    {
        "lr_scheduler": ("adafactor", "constant", "constant_with_warmup", "cosine", "cosine_with_restarts", "linear",
                         "piecewise_constant", "polynomial", "cosine_with_min_lr", "inverse_sqrt",
                         "warmup_stable_decay"),
        "caption_extension": ("", ".cap", ".caption", ".txt"),
        "mixed_precision": ("no", "fp16", "bf16", "fp8"),
        "max_token_length": (75, 150, 225),
        "save_model_as": ("ckpt", "safetensors"),
        "save_precision": ("float", "fp16", "bf16"),
        "loss_type": ("huber", "smooth_l1", "l1", "l2"),
        "huber_schedule": ("constant", "exponential", "snr"),
        "log_with": ("", "wandb", "tensorboard", "all"),
        "dynamo_backend": ("no", "eager", "aot_eager", "inductor", "aot_ts_nvfuser", "nvprims_nvfuser", "cudagraphs",
                           "ofi", "fx2trt", "onnxrt", "tensorrt", "ipex", "tvm"),
        "sample_sampler": ("ddim", "pndm", "lms", "euler", "euler_a", "heun", "dpm_2", "dpm_2_a", "dpmsolver",
                           "dpmsolver++", "dpmsingle", "k_lms", "k_euler", "k_euler_a", "k_dpm_2", "k_dpm_2_a"),
    }
)  # fmt: skip

# What loading makes of text in a field of a number that cannot be read (an empty one, too). int() reads no "1.0".
TEXT_TO_INT = {
    "clip_skip": 0, "epoch": 0, "gradient_accumulation_steps": 0, "keep_tokens": 0, "lr_warmup": 0,
    "max_data_loader_n_workers": 0, "max_train_epochs": 0, "save_every_n_epochs": 0, "seed": 0,
    "lr_scheduler_num_cycles": 1, "max_train_steps": 0, "caption_dropout_every_n_epochs": 0, "max_token_length": 75,
}  # fmt: skip
TEXT_TO_FLOAT = {
    "adaptive_noise_scale": 0.0, "noise_offset": 0.0, "learning_rate": 0.0, "text_encoder_lr": 0.0, "unet_lr": 0.0,
    "lr_scheduler_power": 1.0,
}  # fmt: skip

# Keys of older editions and sd-scripts' own names: those that the GUI still reads, those that it ignores though it has
# a field for them, and those that it ignores.
OLD_NAMES = {"lora_network_weights": "network_weights", "use_8bit_adam": "optimizer", "use_wandb": "log_with"}
LOST_NAMES = {
    "conv_dims": "conv_block_dims", "conv_alphas": "conv_block_alphas", "resolution": "max_resolution",
    "optimizer_type": "optimizer", "no_half_vae": "sdxl_no_half_vae",
    "cache_text_encoder_outputs": "sdxl_cache_text_encoder_outputs",
}  # fmt: skip
OLD_KEYS = frozenset({"no_token_padding", "stop_text_encoder_training_pct", "save_as_bool", "training_preset"})

_BLOCK_ARGUMENTS = (
    "down_lr_weight", "mid_lr_weight", "up_lr_weight", "block_lr_zero_threshold", "block_dims", "block_alphas",
    "conv_block_dims", "conv_block_alphas", "rank_dropout", "module_dropout",
)  # fmt: skip
_CONV, _DROPOUTS = ("conv_dim", "conv_alpha"), ("rank_dropout", "module_dropout")
_LOCON = (
    *_CONV, "use_tucker", *_DROPOUTS, "rank_dropout_scale", "bypass_mode", "dora_wd", "use_scalar", "train_norm",
)  # fmt: skip
_GLORA = (*_CONV, "use_tucker", *_DROPOUTS, "rank_dropout_scale", "train_norm")


class LoraType:
    """The network of one LoRA type. ``always`` are fields that are always arguments of the network, ``filled`` those
    that are if they are neither empty nor 0; ``algo`` that of LyCORIS.
    """

    __slots__ = ("algo", "always", "filled", "module")

    def __init__(
        self, module: str, *, algo: str = "", always: tuple[str, ...] = (), filled: tuple[str, ...] = ()
    ) -> None:
        self.module, self.algo, self.always, self.filled = module, algo, always, filled


def _lycoris(algo: str, always: tuple[str, ...]) -> LoraType:
    return LoraType("lycoris.kohya", algo=algo, always=("LyCORIS_preset", *always))


LORA_TYPES: Mapping[str, LoraType] = MappingProxyType(
    {
        "Standard": LoraType("networks.lora", filled=_BLOCK_ARGUMENTS),
        "Kohya LoCon": LoraType("networks.lora", always=_CONV, filled=_BLOCK_ARGUMENTS),
        "LoRA-FA": LoraType("networks.lora_fa", filled=_BLOCK_ARGUMENTS),
        "Kohya DyLoRA": LoraType("networks.dylora", filled=(*_CONV, *_BLOCK_ARGUMENTS, "unit")),
        "Kohya LoHa": LoraType("networks.loha", filled=("conv_dim", "use_tucker", *_DROPOUTS)),
        "Kohya LoKr": LoraType("networks.lokr", filled=("conv_dim", "use_tucker", "factor", *_DROPOUTS)),
        "LyCORIS/LoCon": _lycoris("locon", _LOCON),
        "LyCORIS/LoHa": _lycoris("loha", _LOCON),
        "LyCORIS/LoKr": _lycoris("lokr", (*_LOCON, "factor", "use_cp", "decompose_both")),
        "LyCORIS/DyLoRA": _lycoris("dylora", (*_CONV, "use_tucker", "unit", *_DROPOUTS, "train_norm")),
        "LyCORIS/GLoRA": _lycoris("glora", _GLORA),
        "LyCORIS/BOFT": _lycoris("boft", _GLORA),
        "LyCORIS/Diag-OFT": _lycoris("diag-oft", (*_GLORA, "constrain", "rescaled")),
        "LyCORIS/iA3": _lycoris("ia3", (*_CONV, "train_on_input")),
        "LyCORIS/Native Fine-Tuning": _lycoris("full", (*_DROPOUTS, "rank_dropout_scale", "train_norm")),
    }
)
OLD_LORA_TYPES = {"LoCon": "LyCORIS/LoCon"}
# The name of a field as an argument of LyCORIS, if it is another one.
LYCORIS_ARGUMENTS = {"LyCORIS_preset": "preset", "unit": "block_size", "constrain": "constraint"}
# What the GUI writes for LyCORIS though it has no such argument (lycoris/kohya.py, create_network).
UNREAD_ARGUMENTS = frozenset({"rank_dropout_scale", "train_on_input"})
