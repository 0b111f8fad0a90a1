"""Rules about the options under [kohya]: that they exist, that they fit each other and the rest of a recipe."""

from __future__ import annotations

from collections.abc import Iterator

from lorabake_schemas.base import StrictModel
from lorabake_schemas.defaults import precision_of, shuffles
from lorabake_schemas.guide.registry import ERROR, WARNING, Remark, Situation, rule
from lorabake_schemas.options import nearest
from lorabake_schemas.recipe import Base, Captions, KohyaValue, Launch, Metadata, Network, Sample, Save, Train
from lorabake_schemas.unjudged import judged
from lorabake_schemas.vocabulary import OTHER_WORDS
from lorabake_schemas.words import Said, say

TIMESTEPS = 1000  # of every model's noise schedule
# Options that lorabake sets itself, with what to use in their place.
OWN: dict[str, str] = {
    "config_file": say("lorabake compiles it"),
    "dataset_config": say("lorabake compiles it"),
    "output_config": say("it makes sd-scripts stop without training"),
    "output_dir": say("it is the run folder's output/"),
    "output_name": say("it is the recipe's name"),
    "logging_dir": say("it is the run folder's tensorboard/"),
    "log_with": say("the run folder always gets TensorBoard logs"),
    "train_data_dir": say("pictures go into [[concept]]"),
    "reg_data_dir": say("pictures go into [[regularisation]]"),
    "in_json": say("captions are read from files beside the pictures"),
    "dataset_class": say("lorabake's forecast knows sd-scripts' own datasets only"),
    "debug_dataset": say("on Linux it never ends"),
    "cpu_offload_checkpointing": say("it fails on every SD and SDXL UNet"),
    "fused_backward_pass": say("it does nothing in the LoRA scripts"),
    "skip_until_initial_step": say("with gradient accumulation it trains nothing and exits 0"),
    "sample_prompts": say("prompts go into [sample]"),
    "network_module": say("it follows from network.type"),
    "network_args": say("they follow from [network]"),
    "optimizer_type": say("it is train.optimizer"),
    "pretrained_model_name_or_path": say("it is base.model"),
    "resolution": say("it is train.resolution"),
    "caption_extention": say("it is captions.caption_extension"),
    "flip_aug": say("it is the concept's flip_aug"),
    "v2": say("it follows from base.family"),
    "v_parameterization": say("it is base.v_prediction"),
    "xformers": say("it is train.attention"),
    "sdpa": say("it is train.attention"),
    "mem_eff_attn": say("it quarrels with train.attention"),
    "use_8bit_adam": say("it is train.optimizer"),
    "use_lion_optimizer": say("it is train.optimizer"),
    "save_n_epoch_ratio": say("it is save.save_every_n_epochs"),
    "validation_split": say(
        "pictures held back are not in lorabake's forecast, and in this version of sd-scripts they leak into training"
    ),
    "console_log_level": say("from sd-scripts' own words lorabake tells how a run goes and whether it has succeeded"),
    "console_log_file": say(
        "logs/trainer.log holds all it says, and lorabake tells from it whether a run has succeeded"
    ),
    "resume": say("sd-scripts counts the steps wrongly after it; to go on from a LoRA set network.network_weights"),
    "resume_from_huggingface": say("sd-scripts counts the steps wrongly after it"),
    "initial_epoch": say("sd-scripts counts the steps wrongly after it"),
    "initial_step": say("sd-scripts counts the steps wrongly after it"),
    "huggingface_token": say("it would be written into the run folder; set HF_TOKEN in the environment"),
    "wandb_api_key": say("it would be written into the run folder, and runs log to TensorBoard"),
    "deepspeed": say("it is not among the trainer's packages"),
    "no_metadata": say("from the metadata lorabake tells whether a run has succeeded"),
}

# What to write for those of them that a recipe says in another way.
INSTEAD: dict[str, Said] = {
    "train_data_dir": say('write images = "..." under [[concept]]'),
    "reg_data_dir": say('write images = "..." under [[regularisation]]'),
    "output_name": say("write it as name, at the head of the recipe"),
    "sample_prompts": say("write prompts = [...] under [sample]"),
    "network_module": say('write type = "lora", "locon" or another one under [network]'),
    "network_args": say("write each of them as a key under [network]"),
    "optimizer_type": say('write optimizer = "..." under [train]'),
    "pretrained_model_name_or_path": say('write model = "..." under [base]'),
    "resolution": say("write resolution = ... under [train]"),
    "caption_extention": say('write caption_extension = "..." under [captions]'),
    "flip_aug": say("write flip_aug = true under [[concept]]"),
    "v2": say('write family = "sd2" under [base]'),
    "v_parameterization": say("write v_prediction = true under [base]"),
    "xformers": say('write attention = "xformers" under [train]'),
    "sdpa": say('write attention = "sdpa" under [train]'),
    "use_8bit_adam": say('write optimizer = "AdamW8bit" under [train]'),
    "use_lion_optimizer": say('write optimizer = "Lion" under [train]'),
    "save_n_epoch_ratio": say("write save_every_n_epochs = ... under [save]"),
    "resume": say('take it out: `lorabake resume RUN` goes on with a run, network.network_weights = "..." with a LoRA'),
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


def recipe_key(option: str) -> str | None:
    """Where a recipe itself has a key for this option."""
    if option == "training_comment":
        return "metadata.comment"
    if option.removeprefix("metadata_") in Metadata.model_fields:
        return f"metadata.{option.removeprefix('metadata_')}"
    return next((f"{name}.{option}" for name, table in TABLES.items() if option in table.model_fields), None)


def _meant(name: str, situation: Situation) -> Said:
    """What was probably meant, in the place where a recipe has it."""
    if name.lower() in OTHER_WORDS:
        return say("lorabake's word for it is {word}", word=OTHER_WORDS[name.lower()])
    if name in situation.pin_has:
        return say("take it out, or train with the pin, which has it")
    near = nearest(name, situation.options)
    own = recipe_key(near) if near else None
    if near is None or near in OWN:
        return say("take it out")
    if own:
        return say("did you mean {own}, which has a place of its own?", own=own)
    return say("did you mean {near}?", near=near)


def _no_option(name: str, situation: Situation) -> Said:
    family = judged(lambda: situation.family)
    script = "sdxl_train_network.py" if family == "sdxl" else "train_network.py" if family else "sd-scripts"
    if situation.commit is None:
        return say("{script} of this version of sd-scripts has no option {name}", script=script, name=name)
    commit = situation.commit[:12]
    return say("{place} of sd-scripts {commit} has no option {option}", place=script, commit=commit, option=name)


@rule("S1", ERROR, "sd-scripts takes any key, type and value from its TOML in silence.")
def kohya_options_exist(situation: Situation) -> Iterator[Remark]:
    known = {option.name: option for option in situation.options}
    for name, value in situation.recipe.kohya.items():
        where = ("kohya", name)
        own = recipe_key(name)
        if name in OWN:
            said = say("{name} is not for recipes: {why}", name=name, why=OWN[name])
            yield Remark(where, said, say("take it out") if value is False else INSTEAD.get(name, say("take it out")))
        elif own:
            said = say("{name} has a place of its own in a recipe", name=name)
            yield Remark(where, said, say("write it as {own}", own=own))
        elif name not in known:
            yield Remark(where, _no_option(name, situation), _meant(name, situation))
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
        fix = say("add noise_offset = 0.05 under [train]")
        yield Remark(("kohya", "adaptive_noise_scale"), say("it needs noise_offset"), fix)
    if kohya.get("scale_v_pred_loss_like_noise_pred") and not predicts_v:
        where = ("kohya", "scale_v_pred_loss_like_noise_pred")
        yield Remark(where, say("it is for v-prediction models only"), say("take it out"))
    if kohya.get("v_pred_like_loss") and predicts_v:
        where = ("kohya", "v_pred_like_loss")
        yield Remark(where, say("it is not for v-prediction models"), say("take it out"))
    if kohya.get("dim_from_weights") and not recipe.network.network_weights:
        fix = say("add network_weights under [network]")
        yield Remark(("kohya", "dim_from_weights"), say("it needs network_weights"), fix)
    for name in ("validate_every_n_epochs", "validate_every_n_steps"):
        if kohya.get(name) == 0:
            yield Remark(("kohya", name), say("sd-scripts divides by it"), say("take it out"))
    yield from _timesteps(kohya)
    yield from _multipliers(kohya)


def _timesteps(kohya: dict[str, KohyaValue]) -> Iterator[Remark]:
    """Where they cross, every sample is trained at max_timestep (TU:6063)."""
    low, high = kohya.get("min_timestep", 0), kohya.get("max_timestep", TIMESTEPS)
    if isinstance(low, int) and isinstance(high, int) and not 0 <= low < high <= TIMESTEPS:
        where = ("kohya", "max_timestep" if "max_timestep" in kohya else "min_timestep")
        fix = say("write min_timestep below max_timestep, both from 0 to {last}", last=TIMESTEPS)
        yield Remark(where, say("timesteps from {low} to {high}", low=low, high=high), fix)


def _multipliers(kohya: dict[str, KohyaValue]) -> Iterator[Remark]:
    """A multiplier that is missing counts as 1, one too many as nothing (TN:649)."""
    weights, given = kohya.get("base_weights", ()), kohya.get("base_weights_multiplier")
    many = len(given) if isinstance(given, tuple) else 1
    count = len(weights) if isinstance(weights, tuple) else 1
    if given is not None and many != count:
        where = ("kohya", "base_weights_multiplier")
        said = say("base_weights: {count}, base_weights_multiplier: {many}", count=count, many=many)
        yield Remark(where, said, say("write one multiplier for each of them"))


@rule("S20", ERROR, "Cached latents hold finished pictures, so colour and crop augmentation cannot change them.")
def cache_allows_augmentation(situation: Situation) -> Iterator[Remark]:
    cached = situation.recipe.train.cache_latents is not False or situation.recipe.train.cache_latents_to_disk
    for name in ("color_aug", "random_crop"):
        if situation.recipe.kohya.get(name) is True and cached:
            never, out = say("take it out (the guide never uses it, G4.97)"), say("take it out")
            said = say("{name} needs cache_latents = false", name=name)
            yield Remark(("kohya", name), said, never if name == "color_aug" else out)


@rule("G4.97", WARNING, "The guide never augments colours: it teaches false ones.")
def colours_stay(situation: Situation) -> Iterator[Remark]:
    train = situation.recipe.train
    cached = train.cache_latents is not False or train.cache_latents_to_disk  # then S20 is an error
    if situation.recipe.kohya.get("color_aug") is True and not cached:
        yield Remark(("kohya", "color_aug"), say("color_aug teaches colours that no picture has"), say("take it out"))


@rule("S41", ERROR, "Cached text encoder outputs need a UNet-only run and captions that never change.")
def text_cache_is_possible(situation: Situation) -> Iterator[Remark]:
    kohya, recipe = situation.recipe.kohya, situation.recipe
    if not (kohya.get("cache_text_encoder_outputs") or kohya.get("cache_text_encoder_outputs_to_disk")):
        return
    where = ("kohya", next(name for name in kohya if name.startswith("cache_text_encoder_outputs")))
    if not recipe.network.network_train_unet_only:
        fix = say("add network_train_unet_only = true under [network]")
        yield Remark(where, say("it needs a UNet-only run"), fix)
    if any(shuffles(concept, recipe) for concept in recipe.concept):
        fix = say("add shuffle_caption = false under [captions]")
        yield Remark(where, say("it cannot go with shuffled captions"), fix)
    if recipe.captions.caption_dropout_rate or recipe.captions.caption_tag_dropout_rate:
        fix = say("take the dropout rates out of [captions]")
        yield Remark(where, say("it cannot go with caption dropout"), fix)
    if kohya.get("token_warmup_step"):
        yield Remark(where, say("it cannot go with token_warmup_step"), say("take token_warmup_step out"))
    yield from _changed_captions(where, situation)


# Options that change a caption on its way into training, where the cached outputs are taken instead (TU:1709).
UNHEARD = ("enable_wildcard", "secondary_separator", "caption_dropout_every_n_epochs")


def _changed_captions(where: tuple[str | int, ...], situation: Situation) -> Iterator[Remark]:
    """Captions are encoded as their files have them, all lines of a wildcard at once (TU:1322, SSX:263-270)."""
    recipe = situation.recipe
    for name, given in (
        ("caption_prefix", recipe.captions.caption_prefix),
        ("caption_suffix", recipe.captions.caption_suffix),
    ):
        if given:
            said = say("{name} would have no effect: captions are encoded as they are in their files", name=name)
            yield Remark(where, said, say("write it into the captions and take {name} out", name=name))
    for name in UNHEARD:
        if recipe.kohya.get(name):
            said = say("{name} would have no effect: captions are encoded as they are in their files", name=name)
            yield Remark(where, said, say("take {name} out", name=name))


@rule("S39", ERROR, "full_fp16 and full_bf16 assert the same mixed precision, fp8 any but no (TN:815-833).")
def precisions_agree(situation: Situation) -> Iterator[Remark]:
    precision = precision_of(situation.recipe.train, situation.machine.device)
    for name, wanted in (("full_fp16", "fp16"), ("full_bf16", "bf16")):
        if situation.recipe.kohya.get(name) is True and precision != wanted:
            said = say('{name} needs mixed_precision = "{wanted}"', name=name, wanted=wanted)
            fix = say('add mixed_precision = "{wanted}" under [train]', wanted=wanted)
            yield Remark(("kohya", name), said, fix)
    for name in ("fp8_base", "fp8_base_unet"):
        if situation.recipe.kohya.get(name) is True and precision == "no":
            fix = say('write mixed_precision = "fp16" under [train], or mixed_precision = "bf16" under [train]')
            yield Remark(("kohya", name), say("{name} needs mixed precision", name=name), fix)


@rule("G5.6", WARNING, "Full fp16 or bf16 keeps the weights themselves at half precision: coarse, though quick.")
def precision_stays_mixed(situation: Situation) -> Iterator[Remark]:
    precision = precision_of(situation.recipe.train, situation.machine.device)
    for name in ("full_fp16", "full_bf16"):
        if situation.recipe.kohya.get(name) is True and name.endswith(precision):  # else S39 is an error
            said = say("{name} learns coarsely: small steps are lost in rounding", name=name)
            yield Remark(("kohya", name), said, say("take it out; mixed precision is what the guide uses"))


__all__ = ["INSTEAD", "OWN", "TABLES", "recipe_key"]
