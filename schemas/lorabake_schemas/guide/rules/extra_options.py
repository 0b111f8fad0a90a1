"""Rules about the options under [kohya]: that they exist, that they fit each other and the rest of a recipe."""

from __future__ import annotations

from collections.abc import Iterator

from lorabake_schemas.base import StrictModel
from lorabake_schemas.guide.defaults import is_shuffled, resolve_precision
from lorabake_schemas.guide.registry import ERROR, WARNING, RuleContext, RuleHit, rule
from lorabake_schemas.messages import Message, msg
from lorabake_schemas.options import find_nearest_option
from lorabake_schemas.recipe import Base, Captions, Launch, Metadata, Network, Sample, Save, Train
from lorabake_schemas.sd_scripts import KEY_ALIASES
from lorabake_schemas.unjudged import evaluate_or_none
from lorabake_schemas.values import KohyaValue

MAX_TIMESTEP = 1000  # of every model's noise schedule
# Options that lorabake sets itself, with what to use in their place.
RESERVED_OPTIONS: dict[str, str] = {
    "config_file": msg("lorabake compiles it"),
    "dataset_config": msg("lorabake compiles it"),
    "output_config": msg("it makes sd-scripts stop without training"),
    "output_dir": msg("it is the run folder's output/"),
    "output_name": msg("it is the recipe's name"),
    "logging_dir": msg("it is the run folder's tensorboard/"),
    "log_with": msg("the run folder always gets TensorBoard logs"),
    "train_data_dir": msg("pictures go into [[concept]]"),
    "reg_data_dir": msg("pictures go into [[regularization]]"),
    "in_json": msg("captions are read from files beside the pictures"),
    "dataset_class": msg("lorabake's forecast knows sd-scripts' own datasets only"),
    "debug_dataset": msg("on Linux it never ends"),
    "cpu_offload_checkpointing": msg("it fails on every SD and SDXL UNet"),
    "fused_backward_pass": msg("it does nothing in the LoRA scripts"),
    "skip_until_initial_step": msg("with gradient accumulation it trains nothing and exits 0"),
    "sample_prompts": msg("prompts go into [sample]"),
    "network_module": msg("it follows from network.type"),
    "network_args": msg("they follow from [network]"),
    "optimizer_type": msg("it is train.optimizer"),
    "pretrained_model_name_or_path": msg("it is base.model"),
    "resolution": msg("it is train.resolution"),
    "caption_extention": msg("it is captions.caption_extension"),
    "flip_aug": msg("it is the concept's flip_aug"),
    "v2": msg("it follows from base.family"),
    "v_parameterization": msg("it is base.v_prediction"),
    "xformers": msg("it is train.attention"),
    "sdpa": msg("it is train.attention"),
    "mem_eff_attn": msg("it quarrels with train.attention"),
    "use_8bit_adam": msg("it is train.optimizer"),
    "use_lion_optimizer": msg("it is train.optimizer"),
    "save_n_epoch_ratio": msg("it is save.save_every_n_epochs"),
    "validation_split": msg(
        "pictures held back are not in lorabake's forecast, and in this version of sd-scripts they leak into training"
    ),
    "console_log_level": msg("from sd-scripts' own words lorabake tells how a run goes and whether it has succeeded"),
    "console_log_file": msg(
        "logs/trainer.log holds all it says, and lorabake tells from it whether a run has succeeded"
    ),
    "resume": msg("sd-scripts counts the steps wrongly after it; to go on from a LoRA set network.network_weights"),
    "resume_from_huggingface": msg("sd-scripts counts the steps wrongly after it"),
    "initial_epoch": msg("sd-scripts counts the steps wrongly after it"),
    "initial_step": msg("sd-scripts counts the steps wrongly after it"),
    "huggingface_token": msg("it would be written into the run folder; set HF_TOKEN in the environment"),
    "wandb_api_key": msg("it would be written into the run folder, and runs log to TensorBoard"),
    "deepspeed": msg("it is not among the trainer's packages"),
    "no_metadata": msg("from the metadata lorabake tells whether a run has succeeded"),
}

# What to write for those of them that a recipe says in another way.
OPTION_REPLACEMENTS: dict[str, Message] = {
    "train_data_dir": msg('write images = "..." under [[concept]]'),
    "reg_data_dir": msg('write images = "..." under [[regularization]]'),
    "output_name": msg("write it as name, at the head of the recipe"),
    "sample_prompts": msg("write prompts = [...] under [sample]"),
    "network_module": msg('write type = "lora", "locon" or another one under [network]'),
    "network_args": msg("write each of them as a key under [network]"),
    "optimizer_type": msg('write optimizer = "..." under [train]'),
    "pretrained_model_name_or_path": msg('write model = "..." under [base]'),
    "resolution": msg("write resolution = ... under [train]"),
    "caption_extention": msg('write caption_extension = "..." under [captions]'),
    "flip_aug": msg("write flip_aug = true under [[concept]]"),
    "v2": msg('write family = "sd2" under [base]'),
    "v_parameterization": msg("write v_prediction = true under [base]"),
    "xformers": msg('write attention = "xformers" under [train]'),
    "sdpa": msg('write attention = "sdpa" under [train]'),
    "use_8bit_adam": msg('write optimizer = "AdamW8bit" under [train]'),
    "use_lion_optimizer": msg('write optimizer = "Lion" under [train]'),
    "save_n_epoch_ratio": msg("write save_every_n_epochs = ... under [save]"),
    "resume": msg('take it out: `lorabake resume RUN` goes on with a run, network.network_weights = "..." with a LoRA'),
}


RECIPE_TABLES: dict[str, type[StrictModel]] = {
    "base": Base,
    "network": Network,
    "train": Train,
    "captions": Captions,
    "save": Save,
    "sample": Sample,
    "launch": Launch,
}


def find_recipe_key(option: str) -> str | None:
    """Where a recipe itself has a key for this option."""
    if option == "training_comment":
        return "metadata.comment"
    if option.removeprefix("metadata_") in Metadata.model_fields:
        return f"metadata.{option.removeprefix('metadata_')}"
    return next((f"{name}.{option}" for name, table in RECIPE_TABLES.items() if option in table.model_fields), None)


def _suggest_option(name: str, situation: RuleContext) -> Message:
    """What was probably meant, in the place where a recipe has it."""
    if name.lower() in KEY_ALIASES:
        return msg("lorabake's word for it is {word}", word=KEY_ALIASES[name.lower()])
    if name in situation.pin_has:
        return msg("take it out, or train with the pin, which has it")
    near = find_nearest_option(name, situation.options)
    own = find_recipe_key(near) if near else None
    if near is None or near in RESERVED_OPTIONS:
        return msg("take it out")
    if own:
        return msg("did you mean {own}, which has a place of its own?", own=own)
    return msg("did you mean {near}?", near=near)


def _format_unknown_option(name: str, situation: RuleContext) -> Message:
    family = evaluate_or_none(lambda: situation.family)
    script = "sdxl_train_network.py" if family == "sdxl" else "train_network.py" if family else "sd-scripts"
    if situation.commit is None:
        return msg("{script} of this version of sd-scripts has no option {name}", script=script, name=name)
    commit = situation.commit[:12]
    return msg("{place} of sd-scripts {commit} has no option {option}", place=script, commit=commit, option=name)


@rule("S1", ERROR, "sd-scripts takes any key, type and value from its TOML in silence.")
def invalid_extra_option(situation: RuleContext) -> Iterator[RuleHit]:
    known = {option.name: option for option in situation.options}
    for name, value in situation.recipe.kohya.items():
        where = ("kohya", name)
        own = find_recipe_key(name)
        if name in RESERVED_OPTIONS:
            said = msg("{name} is not for recipes: {why}", name=name, why=RESERVED_OPTIONS[name])
            yield RuleHit(
                where, said, msg("take it out") if value is False else OPTION_REPLACEMENTS.get(name, msg("take it out"))
            )
        elif own:
            said = msg("{name} has a place of its own in a recipe", name=name)
            yield RuleHit(where, said, msg("write it as {own}", own=own))
        elif name not in known:
            yield RuleHit(where, _format_unknown_option(name, situation), _suggest_option(name, situation))
        else:
            problem = known[name].problem(value)
            if problem:
                yield RuleHit(where, *problem)


@rule("S1.together", ERROR, "Options that need or exclude each other stop sd-scripts late, or it ignores one of them.")
def conflicting_options(situation: RuleContext) -> Iterator[RuleHit]:
    kohya, recipe = situation.recipe.kohya, situation.recipe
    said = recipe.base.v_prediction
    predicts_v = said if said is not None else situation.base.v_prediction
    if kohya.get("adaptive_noise_scale") is not None and not recipe.train.noise_offset:
        fix = msg("add noise_offset = 0.05 under [train]")
        yield RuleHit(("kohya", "adaptive_noise_scale"), msg("it needs noise_offset"), fix)
    if kohya.get("scale_v_pred_loss_like_noise_pred") and not predicts_v:
        where = ("kohya", "scale_v_pred_loss_like_noise_pred")
        yield RuleHit(where, msg("it is for v-prediction models only"), msg("take it out"))
    if kohya.get("v_pred_like_loss") and predicts_v:
        where = ("kohya", "v_pred_like_loss")
        yield RuleHit(where, msg("it is not for v-prediction models"), msg("take it out"))
    if kohya.get("dim_from_weights") and not recipe.network.network_weights:
        fix = msg("add network_weights under [network]")
        yield RuleHit(("kohya", "dim_from_weights"), msg("it needs network_weights"), fix)
    for name in ("validate_every_n_epochs", "validate_every_n_steps"):
        if kohya.get(name) == 0:
            yield RuleHit(("kohya", name), msg("sd-scripts divides by it"), msg("take it out"))
    yield from _check_timesteps(kohya)
    yield from _check_multipliers(kohya)


def _check_timesteps(kohya: dict[str, KohyaValue]) -> Iterator[RuleHit]:
    """Where they cross, every sample is trained at max_timestep (TU:6063)."""
    low, high = kohya.get("min_timestep", 0), kohya.get("max_timestep", MAX_TIMESTEP)
    if isinstance(low, int) and isinstance(high, int) and not 0 <= low < high <= MAX_TIMESTEP:
        where = ("kohya", "max_timestep" if "max_timestep" in kohya else "min_timestep")
        fix = msg("write min_timestep below max_timestep, both from 0 to {last}", last=MAX_TIMESTEP)
        yield RuleHit(where, msg("timesteps from {low} to {high}", low=low, high=high), fix)


def _check_multipliers(kohya: dict[str, KohyaValue]) -> Iterator[RuleHit]:
    """A multiplier that is missing counts as 1, one too many as nothing (TN:649)."""
    weights, given = kohya.get("base_weights", ()), kohya.get("base_weights_multiplier")
    many = len(given) if isinstance(given, tuple) else 1
    count = len(weights) if isinstance(weights, tuple) else 1
    if given is not None and many != count:
        where = ("kohya", "base_weights_multiplier")
        said = msg("base_weights: {count}, base_weights_multiplier: {many}", count=count, many=many)
        yield RuleHit(where, said, msg("write one multiplier for each of them"))


@rule("S20", ERROR, "Cached latents hold finished pictures, so colour and crop augmentation cannot change them.")
def augmentation_with_cached_latents(situation: RuleContext) -> Iterator[RuleHit]:
    cached = situation.recipe.train.cache_latents is not False or situation.recipe.train.cache_latents_to_disk
    for name in ("color_aug", "random_crop"):
        if situation.recipe.kohya.get(name) is True and cached:
            never, out = msg("take it out (the guide never uses it, G4.97)"), msg("take it out")
            said = msg("{name} needs cache_latents = false", name=name)
            yield RuleHit(("kohya", name), said, never if name == "color_aug" else out)


@rule("G4.97", WARNING, "The guide never augments colours: it teaches false ones.")
def color_augmentation(situation: RuleContext) -> Iterator[RuleHit]:
    train = situation.recipe.train
    cached = train.cache_latents is not False or train.cache_latents_to_disk  # then S20 is an error
    if situation.recipe.kohya.get("color_aug") is True and not cached:
        yield RuleHit(("kohya", "color_aug"), msg("color_aug teaches colours that no picture has"), msg("take it out"))


@rule("S41", ERROR, "Cached text encoder outputs need a UNet-only run and captions that never change.")
def text_cache_conflict(situation: RuleContext) -> Iterator[RuleHit]:
    kohya, recipe = situation.recipe.kohya, situation.recipe
    if not (kohya.get("cache_text_encoder_outputs") or kohya.get("cache_text_encoder_outputs_to_disk")):
        return
    where = ("kohya", next(name for name in kohya if name.startswith("cache_text_encoder_outputs")))
    if not recipe.network.network_train_unet_only:
        fix = msg("add network_train_unet_only = true under [network]")
        yield RuleHit(where, msg("it needs a UNet-only run"), fix)
    if any(is_shuffled(concept, recipe) for concept in recipe.concept):
        fix = msg("add shuffle_caption = false under [captions]")
        yield RuleHit(where, msg("it cannot go with shuffled captions"), fix)
    if recipe.captions.caption_dropout_rate or recipe.captions.caption_tag_dropout_rate:
        fix = msg("take the dropout rates out of [captions]")
        yield RuleHit(where, msg("it cannot go with caption dropout"), fix)
    if kohya.get("token_warmup_step"):
        yield RuleHit(where, msg("it cannot go with token_warmup_step"), msg("take token_warmup_step out"))
    yield from _check_caption_changes(where, situation)


# Options that change a caption on its way into training, where the cached outputs are taken instead (TU:1709).
UNCACHED_CAPTION_OPTIONS = ("enable_wildcard", "secondary_separator", "caption_dropout_every_n_epochs")


def _check_caption_changes(where: tuple[str | int, ...], situation: RuleContext) -> Iterator[RuleHit]:
    """Captions are encoded as their files have them, all lines of a wildcard at once (TU:1322, SSX:263-270)."""
    recipe = situation.recipe
    for name, given in (
        ("caption_prefix", recipe.captions.caption_prefix),
        ("caption_suffix", recipe.captions.caption_suffix),
    ):
        if given:
            said = msg("{name} would have no effect: captions are encoded as they are in their files", name=name)
            yield RuleHit(where, said, msg("write it into the captions and take {name} out", name=name))
    for name in UNCACHED_CAPTION_OPTIONS:
        if recipe.kohya.get(name):
            said = msg("{name} would have no effect: captions are encoded as they are in their files", name=name)
            yield RuleHit(where, said, msg("take {name} out", name=name))


@rule("S39", ERROR, "full_fp16 and full_bf16 assert the same mixed precision, fp8 any but no (TN:815-833).")
def mismatched_precision(situation: RuleContext) -> Iterator[RuleHit]:
    precision = resolve_precision(situation.recipe.train, situation.machine.device)
    for name, wanted in (("full_fp16", "fp16"), ("full_bf16", "bf16")):
        if situation.recipe.kohya.get(name) is True and precision != wanted:
            said = msg('{name} needs mixed_precision = "{wanted}"', name=name, wanted=wanted)
            fix = msg('add mixed_precision = "{wanted}" under [train]', wanted=wanted)
            yield RuleHit(("kohya", name), said, fix)
    for name in ("fp8_base", "fp8_base_unet"):
        if situation.recipe.kohya.get(name) is True and precision == "no":
            fix = msg('write mixed_precision = "fp16" under [train], or mixed_precision = "bf16" under [train]')
            yield RuleHit(("kohya", name), msg("{name} needs mixed precision", name=name), fix)


@rule("G5.6", WARNING, "Full fp16 or bf16 keeps the weights themselves at half precision: coarse, though quick.")
def full_half_precision(situation: RuleContext) -> Iterator[RuleHit]:
    precision = resolve_precision(situation.recipe.train, situation.machine.device)
    for name in ("full_fp16", "full_bf16"):
        if situation.recipe.kohya.get(name) is True and name.endswith(precision):  # else S39 is an error
            said = msg("{name} learns coarsely: small steps are lost in rounding", name=name)
            yield RuleHit(("kohya", name), said, msg("take it out; mixed precision is what the guide uses"))
