"""What each option of the LoRA scripts needs to act, and what disables it: one table for every option of the pin."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

from lorabake_schemas.base import OptionValue
from lorabake_schemas.messages import Message, msg

GENERIC_RULE = "S46"
# A source is a line of one of these modules of sd-scripts at the pin: TU:6076.
SOURCE_MODULES: Mapping[str, str] = MappingProxyType(
    {
        "TN": "train_network",
        "SX": "sdxl_train_network",
        "TU": "library/train_util",
        "CU": "library/config_util",
        "DS": "library/deepspeed_utils",
        "HU": "library/huggingface_util",
        "UT": "library/utils",
        "SXU": "library/sdxl_train_util",
        "SB": "library/strategy_base",
        "SSD": "library/strategy_sd",
        "SDXL": "library/sdxl_model_util",
    }
)


class Condition(NamedTuple):
    """An option that is on or, where ``values`` are given, has one of them. ``write`` is what to suggest for it."""

    option: str
    values: tuple[OptionValue, ...] = ()
    write: OptionValue = True

    def is_met(self, value: OptionValue | None) -> bool:
        return value in self.values if self.values else bool(value)


class Partner(NamedTuple):
    """``needs``: it acts only if one of these is met; ``blocked``: it does not act if one of these is met.

    ``source`` is where sd-scripts decides that. ``rule`` reports it: a rule of the table (TABLE_RULES), or another one
    that knows more, or that is an error because sd-scripts would stop (``stops``).
    """

    source: str
    needs: tuple[Condition, ...] = ()
    blocked: tuple[Condition, ...] = ()
    rule: str = GENERIC_RULE
    stops: bool = False


# What is not an option, but decides whether one acts: how a message names it, and what can be done about it.
FACTS: Mapping[str, tuple[Message, Message]] = MappingProxyType(
    {
        "is_reg": (msg("regularization images"), msg("add a [[regularization]] table, or remove it")),
        "several_gpus": (msg("several GPUs"), msg("remove it, or write num_processes under [launch]")),
        "own_schedule": (
            msg("an optimizer that has its own schedule (ScheduleFree, or Adafactor with relative_step)"),
            msg("remove it"),
        ),
        "own_rate": (
            msg("an optimizer that sets its own learning rate (Adafactor with relative_step)"),
            msg("remove it, or write optimizer_args = {{ relative_step = false }} and learning_rate = 1e-4"),
        ),
        "separate_rates": (
            msg("unet_lr and text_encoder_lr"),
            msg("remove it, or remove the rate that it should replace"),
        ),
        "safetensors_model": (msg("a base model in one .safetensors file"), msg("remove it")),
        "family_without_use": (msg("a model family that does not use it (SDXL)"), msg("remove it")),
        "network_without_norms": (msg("a network without weight norms"), msg("remove it")),
        "num_repeats": (
            msg("a dataset file, which has the repeats of each concept"),
            msg("write num_repeats under [[concept]], and remove this line"),
        ),
    }
)
# The rules that report from the table; every other rule named in it is a separate function.
SCHEDULE_RULE, CYCLES_RULE, SAMPLES_RULE = "S5.ignored", "G4.56", "S9.samples"
TABLE_RULES = (GENERIC_RULE, SCHEDULE_RULE, CYCLES_RULE, SAMPLES_RULE)


def _on(option: str, *values: OptionValue, write: OptionValue = True) -> Condition:
    return Condition(option, values, values[0] if values else write)


def _needs(source: str, *conditions: Condition, rule: str = GENERIC_RULE, stops: bool = False) -> Partner:
    return Partner(source, needs=conditions, rule=rule, stops=stops)


def _blocked(source: str, *conditions: Condition, rule: str = GENERIC_RULE, stops: bool = False) -> Partner:
    return Partner(source, blocked=conditions, rule=rule, stops=stops)


_SHUFFLED = (_on("shuffle_caption"), _on("token_warmup_step", write=0.5), _on("caption_tag_dropout_rate", write=0.1))
_BUCKETS = _needs("TU:1932", _on("enable_bucket"))
_HUBER = _needs("TU:6111", _on("loss_type", "huber", "smooth_l1"))
_WANDB = (_on("log_with", "wandb", "all"),)
_TRACKED = (_on("log_with", "tensorboard", "wandb", "all"), _on("logging_dir"))
_HUB = _needs("HU:29", _on("huggingface_repo_id", write="owner/name"))
_VALIDATED = _needs("CU:502", _on("validation_split", write=0.1))
_SEVERAL_GPUS = _needs("TU:5485", _on("several_gpus"))
_DEEPSPEED = _needs("DS:73", _on("deepspeed"))
_SAVED_EPOCHS = _needs("TN:1693", _on("save_every_n_epochs", write=1))
_SAVED_STEPS = _needs("TN:1497", _on("save_every_n_steps", write=500))
_SAMPLED = _needs("TU:6395", _on("sample_prompts"), rule="missing-key", stops=True)
_CACHED_TEXT = _on("cache_text_encoder_outputs"), _on("cache_text_encoder_outputs_to_disk")
_ENCODED_ONCE = _blocked("TU:1700", *_CACHED_TEXT)
_ENCODED_ONCE_STOPS = _blocked("SX:34", *_CACHED_TEXT, rule="S41", stops=True)
_CACHED = _blocked("TU:1099", _on("cache_latents"), _on("cache_latents_to_disk"), rule="S20", stops=True)
_UNET_ONLY = _needs("SX:39", _on("network_train_unet_only"), rule="S41", stops=True)
_MIXED = _needs("TN:831", _on("mixed_precision", "fp16", "bf16"), rule="S39", stops=True)
_FROM_WEIGHTS = _blocked("TN:671", _on("dim_from_weights"))
_OWN_RATE = _on("own_rate")
_OWN_SCHEDULE = _blocked("TU:5270", _on("own_schedule"), rule=SCHEDULE_RULE)
_OWN_TYPE = _blocked("TU:5300", _on("lr_scheduler_type", write="..."), rule=SCHEDULE_RULE)


def _of_scheduler(source: str, *names: str, rule: str = SCHEDULE_RULE) -> tuple[Partner, ...]:
    return (_OWN_SCHEDULE, _OWN_TYPE, _needs(source, _on("lr_scheduler", *names), rule=rule))


_PARTNERS: dict[str, tuple[Partner, ...]] = {
    # logging
    "console_log_simple": (_blocked("UT:58", _on("console_log_file")),),
    "log_prefix": (_needs("TU:5437", _on("logging_dir")),),
    "log_tracker_name": (_needs("TU:6600", *_TRACKED),),
    "log_tracker_config": (_needs("TU:6597", *_TRACKED),),
    "log_config": (_needs("TU:4322", *_TRACKED),),
    "wandb_run_name": (_needs("TU:6595", *_WANDB), _blocked("TU:6597", _on("log_tracker_config"))),
    "wandb_api_key": (_needs("TU:5463", *_WANDB),),
    # the files of the dataset
    "train_data_dir": (_blocked("TN:521", _on("dataset_config")),),
    "reg_data_dir": (_blocked("TN:521", _on("dataset_config")),),
    "in_json": (_blocked("TN:521", _on("dataset_config")),),
    "dataset_repeats": (_blocked("CU:263", _on("num_repeats")),),
    "train_batch_size": (_blocked("CU:262", _on("batch_size")),),
    "caption_extension": (_blocked("CU:91", _on("metadata_file")),),
    "cache_info": (
        _blocked("CU:91", _on("metadata_file")),
        _blocked("TU:2045", _on("validation_split"), rule="S44.cache_info", stops=True),
    ),
    "class_tokens": (_blocked("CU:91", _on("metadata_file")),),
    "prior_loss_weight": (_needs("TU:1586", _on("is_reg")),),
    "conditioning_data_dir": (_needs("CU:320", _on("masked_loss"), rule="S49.together", stops=True),),
    "alpha_mask": (_blocked("CU:97", _on("conditioning_data_dir")),),
    "masked_loss": (_needs("TN:471", _on("alpha_mask"), _on("conditioning_data_dir")),),
    # captions
    "caption_separator": (
        _needs("TU:867", *_SHUFFLED, _on("secondary_separator", write=";;;"), _on("metadata_file")),
        _ENCODED_ONCE,
    ),
    "keep_tokens": (_needs("TU:867", *_SHUFFLED),),
    "keep_tokens_separator": (_needs("TU:867", *_SHUFFLED),),
    "secondary_separator": (_ENCODED_ONCE,),
    "enable_wildcard": (_ENCODED_ONCE,),
    "caption_prefix": (_ENCODED_ONCE,),
    "caption_suffix": (_ENCODED_ONCE,),
    "caption_dropout_every_n_epochs": (_ENCODED_ONCE,),
    "shuffle_caption": (_ENCODED_ONCE_STOPS,),
    "caption_dropout_rate": (_ENCODED_ONCE_STOPS,),
    "caption_tag_dropout_rate": (_ENCODED_ONCE_STOPS,),
    "token_warmup_step": (_ENCODED_ONCE_STOPS,),
    "token_warmup_min": (_needs("TU:892", _on("token_warmup_step", write=0.5)),),
    # images, buckets and caches
    "color_aug": (_CACHED,),
    "random_crop": (_CACHED, _blocked("TU:2396", _on("conditioning_data_dir"), rule="S49.together", stops=True)),
    "face_crop_aug_range": (_blocked("TU:1622", _on("enable_bucket"), _on("cache_latents")),),
    "min_bucket_reso": (_BUCKETS, _blocked("TU:1029", _on("bucket_no_upscale"))),
    "max_bucket_reso": (_BUCKETS, _blocked("TU:1029", _on("bucket_no_upscale"))),
    "bucket_reso_steps": (_BUCKETS,),
    "bucket_no_upscale": (_BUCKETS,),
    "skip_cache_check": (
        _needs("SB:452", _on("cache_latents_to_disk"), _on("cache_text_encoder_outputs_to_disk")),
    ),
    "highvram": (_needs("SSD:170", _on("cache_latents"), _on("cache_latents_to_disk")),),
    "cache_text_encoder_outputs": (_UNET_ONLY,),
    "cache_text_encoder_outputs_to_disk": (_UNET_ONLY,),
    # uploads
    "huggingface_repo_id": (_needs("HU:32", _on("huggingface_path_in_repo", write="lora")),),
    "huggingface_repo_type": (_HUB,),
    "huggingface_path_in_repo": (_HUB,),
    "huggingface_repo_visibility": (_HUB,),
    "huggingface_token": (_needs("HU:31", _on("huggingface_repo_id"), _on("resume_from_huggingface")),),
    "async_upload": (_HUB,),
    "save_state_to_huggingface": (
        _HUB, _needs("TU:5947", _on("save_state"), _on("save_state_on_train_end")),
    ),
    "resume_from_huggingface": (_needs("TU:4773", _on("resume")),),
    # saving and resuming
    "save_last_n_epochs": (_SAVED_EPOCHS,),
    "save_last_n_steps": (_SAVED_STEPS,),
    "save_last_n_epochs_state": (_SAVED_EPOCHS, _needs("TN:1704", _on("save_state"))),
    "save_last_n_steps_state": (_SAVED_STEPS, _needs("TN:1503", _on("save_state"))),
    "skip_until_initial_step": (_needs("TN:1258", _on("initial_step"), _on("initial_epoch"), _on("resume")),),
    "initial_epoch": (_blocked("TN:1239", _on("initial_step")),),
    "output_config": (_needs("TU:4701", _on("config_file")),),
    "training_comment": (_blocked("TN:1305", _on("no_metadata")),),
    # model, length
    "clip_skip": (_blocked("SXU:351", _on("family_without_use"), rule="S23"),),
    "max_train_steps": (_blocked("TN:799", _on("max_train_epochs"), rule="G4.36", stops=True),),
    # precision, memory, processes
    "dynamo_backend": (_needs("TU:5468", _on("torch_compile")),),
    "xformers": (_blocked("TU:3363", _on("mem_eff_attn")),),
    "sdpa": (_blocked("TU:3363", _on("mem_eff_attn"), _on("xformers")),),
    "persistent_data_loader_workers": (
        _needs("TN:786", _on("max_data_loader_n_workers", write=1), rule="S38", stops=True),
    ),
    "full_fp16": (_needs("TN:814", _on("mixed_precision", "fp16"), rule="S39", stops=True),),
    "full_bf16": (_needs("TN:820", _on("mixed_precision", "bf16"), rule="S39", stops=True),),
    "fp8_base": (_MIXED, _blocked("TN:839", _on("fp8_base_unet"))),
    "fp8_base_unet": (_MIXED,),
    "no_half_vae": (_needs("TN:599", _on("mixed_precision", "fp16", "bf16")),),
    "cpu_offload_checkpointing": (_needs("TN:716", _on("gradient_checkpointing")),),
    "disable_mmap_load_safetensors": (_needs("SDXL:174", _on("safetensors_model")),),
    "ddp_timeout": (_needs("TU:5480", _on("several_gpus")),),
    "ddp_gradient_as_bucket_view": (_SEVERAL_GPUS,),
    "ddp_static_graph": (_SEVERAL_GPUS,),
    **dict.fromkeys(
        (
            "zero_stage", "offload_optimizer_device", "offload_param_device", "zero3_init_flag",
            "zero3_save_16bit_model",
        ),
        (_DEEPSPEED,),
    ),
    "offload_optimizer_nvme_path": (_DEEPSPEED, _needs("DS:89", _on("offload_optimizer_device", "nvme"))),
    "offload_param_nvme_path": (_DEEPSPEED, _needs("DS:91", _on("offload_param_device", "nvme"))),
    "fp16_master_weights_and_gradients": (_DEEPSPEED, _needs("DS:104", _on("offload_optimizer_device", "cpu"))),
    # noise and loss
    "noise_offset_random_strength": (_needs("TU:6076", _on("noise_offset", write=0.05)),),
    "adaptive_noise_scale": (_needs("TU:4443", _on("noise_offset", write=0.05), rule="S1.together", stops=True),),
    "multires_noise_discount": (_needs("TU:6082", _on("multires_noise_iterations", write=6)),),
    "ip_noise_gamma_random_strength": (_needs("TU:6095", _on("ip_noise_gamma", write=0.1)),),
    "huber_schedule": (_HUBER,),
    "huber_c": (_HUBER,),
    "huber_scale": (_HUBER, _needs("TU:6118", _on("huber_schedule", "exponential", "constant"))),
    "scale_v_pred_loss_like_noise_pred": (
        _needs("TU:4446", _on("v_parameterization"), rule="S1.together", stops=True),
    ),
    "v_pred_like_loss": (_blocked("TU:4451", _on("v_parameterization"), rule="S1.together", stops=True),),
    # samples and validation
    "sample_prompts": (
        _needs(
            "TU:6383", _on("sample_every_n_epochs", write=1), _on("sample_every_n_steps", write=500),
            _on("sample_at_first"),
        ),
    ),
    "sample_every_n_epochs": (_SAMPLED,),
    "sample_every_n_steps": (_SAMPLED, _blocked("TU:6385", _on("sample_every_n_epochs", write=1), rule=SAMPLES_RULE)),
    "sample_at_first": (_SAMPLED,),
    "sample_sampler": (_SAMPLED,),
    "validation_split": (
        _blocked("TU:2483", _on("conditioning_data_dir"), rule="S44.masks", stops=True),
        _blocked("CU:496", _on("metadata_file"), rule="S44.metadata"),
    ),
    "validation_seed": (_VALIDATED,),
    "validate_every_n_epochs": (_VALIDATED,),
    "validate_every_n_steps": (_VALIDATED,),
    "max_validation_steps": (_VALIDATED,),
    # rates and schedule
    "learning_rate": (_blocked("TU:5062", _OWN_RATE), _blocked("TN:746", _on("separate_rates"))),
    "unet_lr": (_blocked("TU:5074", _OWN_RATE), _blocked("TN:707", _on("network_train_text_encoder_only"))),
    "text_encoder_lr": (_blocked("TU:5075", _OWN_RATE), _blocked("TN:222", _on("network_train_unet_only"))),
    "lr_scheduler": (_OWN_SCHEDULE, _OWN_TYPE),
    "lr_scheduler_type": (_OWN_SCHEDULE,),
    "lr_scheduler_args": (_OWN_SCHEDULE,),
    "lr_warmup_steps": (
        _OWN_SCHEDULE,
        _blocked("TU:5321", _on("lr_scheduler", "piecewise_constant"), rule=SCHEDULE_RULE),
        _blocked("TU:5329", _on("lr_scheduler", "constant"), rule="S5", stops=True),
        _blocked("TU:5300", _on("lr_scheduler_type"), rule="S5.type", stops=True),
    ),
    "lr_decay_steps": _of_scheduler("TU:5382", "warmup_stable_decay"),
    "lr_scheduler_num_cycles": _of_scheduler(
        "TU:5346", "cosine_with_restarts", "cosine_with_min_lr", "warmup_stable_decay", rule=CYCLES_RULE
    ),
    "lr_scheduler_power": _of_scheduler("TU:5355", "polynomial"),
    "lr_scheduler_timescale": _of_scheduler("TU:5339", "inverse_sqrt"),
    "lr_scheduler_min_lr_ratio": _of_scheduler("TU:5360", "cosine_with_min_lr", "warmup_stable_decay"),
    # network
    "network_dim": (_FROM_WEIGHTS,),
    "network_alpha": (_FROM_WEIGHTS,),
    "network_dropout": (_FROM_WEIGHTS,),
    "dim_from_weights": (_needs("TN:671", _on("network_weights", write="..."), rule="S1.together", stops=True),),
    "network_train_text_encoder_only": (
        _blocked("TN:707", _on("network_train_unet_only"), rule="S26.zero", stops=True),
    ),
    "scale_weight_norms": (_blocked("TN:698", _on("network_without_norms"), rule="S32"),),
    "base_weights_multiplier": (_needs("TN:646", _on("base_weights", write="...")),),
}  # fmt: skip

# Options that the LoRA scripts accept and never use, with the line that shows it.
NEVER_READ: Mapping[str, str] = MappingProxyType(
    {
        "fused_backward_pass": "TU:4848",  # asserts the optimizer, and nothing else reads it
        "network_multiplier": "TU:1822",  # handed to each batch, which nobody looks at
    }
)

# Options that act whatever the others are set to.
WITHOUT_PARTNERS = frozenset(
    (
        "metadata_file",
        "console_log_level", "console_log_file", "v2", "v_parameterization", "pretrained_model_name_or_path",
        "tokenizer_cache_dir", "metadata_title", "metadata_author", "metadata_description", "metadata_license",
        "metadata_tags", "metadata_usage_hint", "metadata_thumbnail", "metadata_merged_from",
        "metadata_trigger_phrase", "metadata_preprocessor", "metadata_is_negative_embedding", "caption_extention",
        "flip_aug", "debug_dataset", "resolution", "cache_latents", "vae_batch_size", "cache_latents_to_disk",
        "enable_bucket", "resize_interpolation", "dataset_class", "output_dir", "output_name", "save_precision",
        "save_every_n_epochs", "save_every_n_steps", "save_n_epoch_ratio", "save_state", "save_state_on_train_end",
        "resume", "max_token_length", "mem_eff_attn", "torch_compile", "vae", "max_train_epochs",
        "max_data_loader_n_workers", "seed", "gradient_checkpointing", "gradient_accumulation_steps",
        "mixed_precision", "logging_dir", "log_with", "noise_offset", "multires_noise_iterations",
        "ip_noise_gamma", "zero_terminal_snr", "min_timestep", "max_timestep", "loss_type", "lowram", "config_file",
        "deepspeed", "optimizer_type", "use_8bit_adam", "use_lion_optimizer", "max_grad_norm", "optimizer_args",
        "dataset_config", "min_snr_gamma", "debiased_estimation_loss", "weighted_captions", "no_metadata",
        "save_model_as", "network_weights", "network_module", "network_args", "network_train_unet_only",
        "base_weights", "initial_step", "batch_size", "image_dir",
        "is_reg", "num_repeats", "custom_attributes", "metadata_file",
    )
)  # fmt: skip

OPTION_PARTNERS: Mapping[str, tuple[Partner, ...]] = MappingProxyType(_PARTNERS)
