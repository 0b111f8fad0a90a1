"""Rules about the options under [kohya]: that they exist, that they fit each other and the rest of a recipe."""

from __future__ import annotations

from collections.abc import Iterator

from lorabake_schemas.base import StrictModel
from lorabake_schemas.defaults import precision_of
from lorabake_schemas.guide.registry import ERROR, Remark, Situation, rule
from lorabake_schemas.options import nearest
from lorabake_schemas.recipe import Base, Captions, KohyaValue, Launch, Metadata, Network, Sample, Save, Train
from lorabake_schemas.vocabulary import OTHER_WORDS

TIMESTEPS = 1000  # of every model's noise schedule
# Options that lorabake sets itself, with what to use in their place.
OWN = {
    "config_file": "lorabake compiles it",
    "dataset_config": "lorabake compiles it",
    "output_config": "it makes sd-scripts stop without training",
    "output_dir": "it is the run folder's output/",
    "output_name": "it is the recipe's name",
    "logging_dir": "it is the run folder's tensorboard/",
    "log_with": "the run folder always gets TensorBoard logs",
    "train_data_dir": "pictures go into [[concept]]",
    "reg_data_dir": "pictures go into [[regularisation]]",
    "in_json": "captions are read from files beside the pictures",
    "dataset_class": "lorabake's forecast knows sd-scripts' own datasets only",
    "debug_dataset": "on Linux it never ends",
    "cpu_offload_checkpointing": "it fails on every SD and SDXL UNet",
    "fused_backward_pass": "it does nothing in the LoRA scripts",
    "skip_until_initial_step": "with gradient accumulation it trains nothing and exits 0",
    "sample_prompts": "prompts go into [sample]",
    "network_module": "it follows from network.type",
    "network_args": "they follow from [network]",
    "optimizer_type": "it is train.optimizer",
    "pretrained_model_name_or_path": "it is base.model",
    "resolution": "it is train.resolution",
    "caption_extention": "it is captions.caption_extension",
    "flip_aug": "it is the concept's flip_aug",
    "v2": "it follows from base.family",
    "v_parameterization": "it is base.v_prediction",
    "xformers": "it is train.attention",
    "sdpa": "it is train.attention",
    "mem_eff_attn": "it quarrels with train.attention",
    "use_8bit_adam": "it is train.optimizer",
    "use_lion_optimizer": "it is train.optimizer",
    "save_n_epoch_ratio": "it is save.save_every_n_epochs",
    "validation_split": "pictures held back are not in lorabake's forecast, and at the pin they leak into training",
    "console_log_level": "from sd-scripts' own words lorabake tells how a run goes and whether it has succeeded",
    "console_log_file": "logs/trainer.log holds all it says, and lorabake tells from it whether a run has succeeded",
    "resume": "sd-scripts counts the steps wrongly after it; to go on from a LoRA set network.network_weights",
    "resume_from_huggingface": "sd-scripts counts the steps wrongly after it",
    "initial_epoch": "sd-scripts counts the steps wrongly after it",
    "initial_step": "sd-scripts counts the steps wrongly after it",
    "huggingface_token": "it would be written into the run folder; set HF_TOKEN in the environment",
    "wandb_api_key": "it would be written into the run folder, and runs log to TensorBoard",
    "deepspeed": "it is not among the trainer's packages",
    "no_metadata": "from the metadata lorabake tells whether a run has succeeded",
}


TABLES: dict[str, type[StrictModel]] = {
    "base": Base,
    "network": Network,
    "train": Train,
    "captions": Captions,
    "save": Save,
    "sample": Sample,
    "launch": Launch,
}


def _recipe_key(option: str) -> str | None:
    """Where a recipe itself has a key for this option."""
    if option == "training_comment":
        return "metadata.comment"
    if option.removeprefix("metadata_") in Metadata.model_fields:
        return f"metadata.{option.removeprefix('metadata_')}"
    return next((f"{name}.{option}" for name, table in TABLES.items() if option in table.model_fields), None)


def _meant(name: str, situation: Situation) -> str:
    """What was probably meant, in the place where a recipe has it."""
    if name.lower() in OTHER_WORDS:
        return f"lorabake's word for it is {OTHER_WORDS[name.lower()]}"
    near = nearest(name, situation.options)
    own = _recipe_key(near) if near else None
    if near is None or near in OWN:
        return "take it out"
    return f"did you mean {own}, which has a place of its own?" if own else f"did you mean {near}?"


@rule("S1", ERROR, "sd-scripts takes any key, type and value from its TOML in silence.")
def kohya_options_exist(situation: Situation) -> Iterator[Remark]:
    known = {option.name: option for option in situation.options}
    for name, value in situation.recipe.kohya.items():
        where = ("kohya", name)
        own = _recipe_key(name)
        if name in OWN:
            yield Remark(where, f"{name} is not for recipes: {OWN[name]}", "take it out")
        elif own:
            yield Remark(where, f"{name} has a place of its own in a recipe", f"write it as {own}")
        elif name not in known:
            script = "sdxl_train_network.py" if situation.family == "sdxl" else "train_network.py"
            yield Remark(where, f"{script} at the pin has no option {name}", _meant(name, situation))
        else:
            problem = known[name].problem(value)
            if problem:
                yield Remark(where, *problem)


@rule("S1.together", ERROR, "Options that need or exclude each other stop sd-scripts late, or it ignores one of them.")
def options_agree(situation: Situation) -> Iterator[Remark]:
    kohya, recipe = situation.recipe.kohya, situation.recipe
    said = recipe.base.v_prediction
    predicts_v = said if said is not None else situation.base.v_prediction
    if kohya.get("adaptive_noise_scale") is not None and not recipe.train.noise_offset:
        yield Remark(
            ("kohya", "adaptive_noise_scale"), "it needs noise_offset", "add noise_offset = 0.05 under [train]"
        )
    if kohya.get("scale_v_pred_loss_like_noise_pred") and not predicts_v:
        where = ("kohya", "scale_v_pred_loss_like_noise_pred")
        yield Remark(where, "it is for v-prediction models only", "take it out")
    if kohya.get("v_pred_like_loss") and predicts_v:
        yield Remark(("kohya", "v_pred_like_loss"), "it is not for v-prediction models", "take it out")
    if kohya.get("dim_from_weights") and not recipe.network.network_weights:
        yield Remark(("kohya", "dim_from_weights"), "it needs network_weights", "add network_weights under [network]")
    for name in ("validate_every_n_epochs", "validate_every_n_steps"):
        if kohya.get(name) == 0:
            yield Remark(("kohya", name), "sd-scripts divides by it", "take it out")
    yield from _timesteps(kohya)
    yield from _multipliers(kohya)


def _timesteps(kohya: dict[str, KohyaValue]) -> Iterator[Remark]:
    """Where they cross, every sample is trained at max_timestep (TU:6063)."""
    low, high = kohya.get("min_timestep", 0), kohya.get("max_timestep", TIMESTEPS)
    if isinstance(low, int) and isinstance(high, int) and not 0 <= low < high <= TIMESTEPS:
        where = ("kohya", "max_timestep" if "max_timestep" in kohya else "min_timestep")
        fix = f"write min_timestep below max_timestep, both from 0 to {TIMESTEPS}"
        yield Remark(where, f"timesteps from {low} to {high}", fix)


def _multipliers(kohya: dict[str, KohyaValue]) -> Iterator[Remark]:
    """A multiplier that is missing counts as 1, one too many as nothing (TN:649)."""
    weights, given = kohya.get("base_weights", ()), kohya.get("base_weights_multiplier")
    many = len(given) if isinstance(given, tuple) else 1
    count = len(weights) if isinstance(weights, tuple) else 1
    if given is not None and many != count:
        where = ("kohya", "base_weights_multiplier")
        yield Remark(where, f"{many} multipliers for {count} base_weights", "write one multiplier for each of them")


@rule("S20", ERROR, "Cached latents hold finished pictures, so colour and crop augmentation cannot change them.")
def cache_allows_augmentation(situation: Situation) -> Iterator[Remark]:
    cached = situation.recipe.train.cache_latents is not False or situation.recipe.train.cache_latents_to_disk
    for name in ("color_aug", "random_crop"):
        if situation.recipe.kohya.get(name) is True and cached:
            yield Remark(
                ("kohya", name),
                f"{name} needs cache_latents = false",
                "take it out (the guide never uses it, G4.97)" if name == "color_aug" else "take it out",
            )


@rule("S41", ERROR, "Cached text encoder outputs need a UNet-only run and captions that never change.")
def text_cache_is_possible(situation: Situation) -> Iterator[Remark]:
    kohya, recipe = situation.recipe.kohya, situation.recipe
    if not (kohya.get("cache_text_encoder_outputs") or kohya.get("cache_text_encoder_outputs_to_disk")):
        return
    where = ("kohya", next(name for name in kohya if name.startswith("cache_text_encoder_outputs")))
    if not recipe.network.network_train_unet_only:
        yield Remark(where, "it needs a UNet-only run", "add network_train_unet_only = true under [network]")
    shuffled = [
        concept.shuffle_caption if concept.shuffle_caption is not None else recipe.captions.shuffle_caption
        for concept in recipe.concept
    ]
    if any(shuffle or (shuffle is None and recipe.base.tags != "natural") for shuffle in shuffled):
        yield Remark(where, "it cannot go with shuffled captions", "add shuffle_caption = false under [captions]")
    if recipe.captions.caption_dropout_rate or recipe.captions.caption_tag_dropout_rate:
        yield Remark(where, "it cannot go with caption dropout", "take the dropout rates out of [captions]")


@rule("S39", ERROR, "full_fp16 and full_bf16 assert the same mixed precision, fp8 any but no (TN:815-833).")
def precisions_agree(situation: Situation) -> Iterator[Remark]:
    precision = precision_of(situation.recipe.train, situation.machine.device)
    for name, wanted in (("full_fp16", "fp16"), ("full_bf16", "bf16")):
        if situation.recipe.kohya.get(name) is True and precision != wanted:
            yield Remark(
                ("kohya", name),
                f'{name} needs mixed_precision = "{wanted}"',
                f'add mixed_precision = "{wanted}" under [train]',
            )
    for name in ("fp8_base", "fp8_base_unet"):
        if situation.recipe.kohya.get(name) is True and precision == "no":
            yield Remark(("kohya", name), f"{name} needs mixed precision", 'write mixed_precision = "fp16" or "bf16"')


__all__ = ["OWN"]
