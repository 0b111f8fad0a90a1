"""Where in sd-scripts a failure arose, as patterns for the frames of a traceback.

TN is train_network.py of sd-scripts at the pin, TU library/train_util.py, MU library/model_util.py, SB
library/strategy_base.py.
"""

from __future__ import annotations

BASE_MODEL = r":_?load_target_model"  # TU:5531, 5576; sdxl_train_util.py:27
VAE = r":load_vae"  # MU:1230
TOKENIZER = r":_load_tokenizer|:get_tokenize_strategy"  # SB:53, TN:193
DATASET = r":generate_dataset_group_by_blueprint|:load_dreambooth_dir"  # config_util.py:492, TU:1972
RUN_FILES = r":load_user_config|:read_config_from_file"  # config_util.py:716, TU:4720
OPTIMIZER = r"train_util\.py:get_optimizer"  # TU:4823
OPTIMIZER_STEP = (
    r"^(?!torch/optim/lr_scheduler)"
    r"(torch/optim|pytorch_optimizer|prodigyopt|dadaptation|lion_pytorch|schedulefree|transformers/optimization)"
)
SCHEDULER = r"train_util\.py:get_scheduler_fix"  # TU:5270
NETWORK = r":create_network\b|:create_network_from_weights|:apply_preset"  # networks/lora.py, lycoris/kohya.py
NETWORK_WEIGHTS = r":load_weights|:create_network_from_weights"  # TN:655, 713
STATE = r":load_accelerator_state|:load_state\b|:resume_from_local_or_hf_if_specified"  # TU:4778
SAVING = (  # TN:1300, TU:5620
    r"train_network\.py:save_model|:save_weights|:save_accelerator_state|:save_and_remove_state|:save_state"
)
SAMPLING = r":sample_images_common|:sample_image_inference"  # TU:6360, 6495
IMAGE = r"train_util\.py:load_image|:load_images_and_masks_for_caching|train_util\.py:get_image_size"  # TU:2940, 1490
LATENT_CACHE = r":_default_load_latents_from_disk|:load_latents_from_disk|:_default_is_disk_cached_latents_expected"
TEXT_CACHE = r":load_outputs_npz|:is_disk_cached_outputs_expected"  # strategy_sdxl.py:227
WRITING_CACHES = r":save_latents_to_disk|:cache_batch_outputs|:_default_cache_batch_latents|:savez"  # SB:600
LOGGING = r":init_trackers|event_file_writer\.py|:store_init_configuration"  # TN:1160
HUB = (  # that of the Hugging Face Hub, without the traceback's place
    r"LocalEntryNotFoundError|OfflineModeIsEnabled|couldn't connect to 'https?://huggingface"
    r"|huggingface\.co.*Max retries|annot find the requested files in the (?:disk|local) cache"
    r"|outgoing traffic has been disabled"
)
HUB_TROUBLE = (
    r"LocalEntryNotFoundError|OfflineModeIsEnabled|MaxRetryError|NameResolutionError|ConnectTimeout|ReadTimeout"
    r"|ConnectionError|couldn't connect to 'https?://|annot find the requested files in the (?:disk|local) cache"
    r"|outgoing traffic has been disabled|ConnectError|Temporary failure in name resolution"
)
DAMAGED_SAFETENSORS = (
    r"Error while deserializing|MetadataIncompleteBuffer|InvalidHeader|HeaderTooLarge|HeaderTooSmall|InvalidOffset"
    r"|[Hh]eader too (?:large|small)|incomplete metadata, file not fully covered"
)
DAMAGED_PICKLE = (
    r"Invalid magic number|PytorchStreamReader failed|invalid load key|unpickling stack underflow|UnpicklingError"
    r"|failed finding central directory|Ran out of input|pickle data was truncated|BadZipFile|Weights only load failed"
    r"|could not find MARK|not a ZIP archive|invalid header or archive is corrupted"
)
DAMAGED_TEXT = (
    r"is not a valid JSON file|JSONDecodeError|Unterminated string|UnicodeDecodeError"  # config.json and the like
)
DAMAGED = f"{DAMAGED_SAFETENSORS}|{DAMAGED_PICKLE}"
