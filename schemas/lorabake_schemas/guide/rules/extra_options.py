"""Rules about the options under [kohya]: that they exist, that they fit each other and the rest of a recipe."""

from __future__ import annotations

from collections.abc import Iterator

from lorabake_schemas.guide.caption_settings import (
    KOHYA_KEYS,
    TEXT_CACHE_KEYS,
    CaptionKey,
    Part,
    caches_text_outputs,
    find_caption_value,
)
from lorabake_schemas.guide.defaults import AUGMENTATIONS, resolve_precision
from lorabake_schemas.guide.registry import ERROR, WARNING, RuleContext, RuleHit, rule
from lorabake_schemas.messages import Message, msg
from lorabake_schemas.options import find_nearest_option
from lorabake_schemas.recipe_keys import (
    find_key,
    find_missing_feature,
    find_option_key,
    suggest_key,
    suggest_network_argument,
)
from lorabake_schemas.unjudged import evaluate_or_none
from lorabake_schemas.values import KohyaValue

MAX_TIMESTEP = 1000  # of every model's noise schedule
# Options that lorabake sets itself, with what to use in their place.
RESERVED_OPTIONS: dict[str, str] = {
    "config_file": msg("lorabake generates this file"),
    "dataset_config": msg("lorabake generates this file"),
    "output_config": msg("makes sd-scripts stop without training"),
    "output_dir": msg("always the run folder's output/"),
    "output_name": msg("set by the recipe's name"),
    "logging_dir": msg("always the run folder's tensorboard/"),
    "train_data_dir": msg("images belong under [[concept]]"),
    "reg_data_dir": msg("images belong under [[regularization]]"),
    "conditioning_data_dir": msg("masks belong under [[concept]]"),
    "in_json": msg("captions in a metadata file belong under [[concept]]"),
    "dataset_class": msg("lorabake can only forecast sd-scripts' own datasets"),
    "debug_dataset": msg("never finishes on Linux"),
    "cpu_offload_checkpointing": msg("fails with every SD and SDXL UNet"),
    "fused_backward_pass": msg("has no effect in the LoRA scripts"),
    "skip_until_initial_step": msg("trains nothing and exits 0 with gradient accumulation"),
    "sample_prompts": msg("prompts belong under [sample]"),
    "network_module": msg("set by network.type"),
    "network_args": msg("set by [network] and [network.args]"),
    "optimizer_type": msg("set by train.optimizer"),
    "pretrained_model_name_or_path": msg("set by base.model"),
    "resolution": msg("set by train.resolution"),
    "caption_extention": msg("a misspelling from older versions of sd-scripts"),
    "flip_aug": msg("set by the concept's flip_aug"),
    "v2": msg("set by base.family"),
    "v_parameterization": msg("set by base.v_prediction"),
    "xformers": msg("set by train.attention"),
    "sdpa": msg("set by train.attention"),
    "mem_eff_attn": msg("conflicts with train.attention"),
    "use_8bit_adam": msg("set by train.optimizer"),
    "use_lion_optimizer": msg("set by train.optimizer"),
    "save_n_epoch_ratio": msg("it would override save.save_every_n_epochs"),
    "console_log_level": msg("lorabake needs sd-scripts' messages to follow a run and check that it succeeded"),
    "console_log_file": msg("logs/trainer.log contains all output, and lorabake uses it to check that a run succeeded"),
    "resume": msg(
        "sd-scripts counts the steps incorrectly after it; to continue from a LoRA, set network.network_weights"
    ),
    "resume_from_huggingface": msg("sd-scripts counts the steps incorrectly after it"),
    "initial_epoch": msg("sd-scripts counts the steps incorrectly after it"),
    "initial_step": msg("sd-scripts counts the steps incorrectly after it"),
    "huggingface_token": msg("would be stored in the run folder; set HF_TOKEN in the environment instead"),
    "wandb_api_key": msg("would be stored in the run folder; set WANDB_API_KEY in the environment instead"),
    "deepspeed": msg("not among the trainer's packages"),
    "no_metadata": msg("lorabake uses the metadata to check that a run succeeded"),
}

# What to write for those of them that have a different key in a recipe.
OPTION_REPLACEMENTS: dict[str, Message] = {
    "train_data_dir": msg('write images = "..." under [[concept]]'),
    "reg_data_dir": msg('write images = "..." under [[regularization]]'),
    "in_json": msg('write metadata_file = "..." under [[concept]]'),
    "conditioning_data_dir": msg('write masks = "..." under [[concept]]'),
    "output_name": msg('write name = "..." at the top of the recipe'),
    "sample_prompts": msg("write prompts = [...] under [sample]"),
    "network_module": msg('write type = "lora", "locon" or another type under [network]'),
    "network_args": msg("write each argument under [network.args], such as loraplus_lr_ratio = 16"),
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
    "resume": msg(
        "remove it; use `lorabake resume RUN` to continue a run, or network.network_weights = "
        '"..." to continue from a LoRA'
    ),
}


def _suggest_option(name: str, situation: RuleContext) -> Message:
    """What was probably meant, with its key in a recipe."""
    if (key := find_key(name)) and key != f"kohya.{name}":
        return suggest_key(key, "kohya")
    if types := situation.signatures.list_types_with(name):
        return suggest_network_argument(name, situation.network, types)
    if situation.signatures.is_optimizer_argument(name):
        return suggest_key(f"train.optimizer_args.{name}")
    return _suggest_similar_option(name, situation)


def _suggest_similar_option(name: str, situation: RuleContext) -> Message:
    if name in situation.pin_has:
        return msg("remove it, or use the pinned commit, which supports it")
    near = find_nearest_option(name, situation.options)
    own = find_option_key(near) if near else None
    if near is None or near in RESERVED_OPTIONS:
        return msg("remove it")
    if own:
        return msg("did you mean {own}, which has its own key in the recipe?", own=own)
    return msg("did you mean {near}?", near=near)


def _format_unknown_option(name: str, situation: RuleContext) -> Message:
    family = evaluate_or_none(lambda: situation.family)
    script = family.script if family else "sd-scripts"
    if situation.commit is None:
        return msg("{script} in this version of sd-scripts has no option {name}", script=script, name=name)
    commit = situation.commit[:12]
    return msg("{place} in sd-scripts {commit} has no option {option}", place=script, commit=commit, option=name)


def find_refusal(name: str, *, twice: bool = False) -> tuple[Message, Message] | None:
    """Why an option of sd-scripts cannot be set under [kohya], and what to write; None if it can. ``twice``: it is also
    set in the recipe."""
    own = find_option_key(name)
    if name in RESERVED_OPTIONS:
        said = msg("{name} is not allowed under [kohya]: {why}", name=name, why=RESERVED_OPTIONS[name])
        return said, OPTION_REPLACEMENTS.get(name, msg("remove it"))
    if own and (twice or name not in KOHYA_KEYS):
        return msg("{name} has its own key in the recipe", name=name), msg("write it as {own}", own=own)
    return None


@rule("S1", ERROR, "sd-scripts silently accepts any key, type and value in its TOML.")
def invalid_extra_option(situation: RuleContext) -> Iterator[RuleHit]:
    known = {option.name: option for option in situation.options}
    for name, value in situation.recipe.kohya.items():
        where = ("kohya", name)
        twice = name in KOHYA_KEYS and getattr(situation.recipe.captions, name) is not None
        if refusal := find_refusal(name, twice=twice):
            said, fix = refusal
            yield RuleHit(where, said, msg("remove it") if value is False and name in RESERVED_OPTIONS else fix)
        elif missing := find_missing_feature(name):
            yield RuleHit(where, *missing)
        elif name not in known:
            yield RuleHit(where, _format_unknown_option(name, situation), _suggest_option(name, situation))
        else:
            problem = known[name].problem(value)
            if problem:
                yield RuleHit(where, *problem)


@rule("S1.together", ERROR, "Options that need or exclude each other stop sd-scripts late, or one of them is ignored.")
def conflicting_options(situation: RuleContext) -> Iterator[RuleHit]:
    kohya, recipe = situation.recipe.kohya, situation.recipe
    said = recipe.base.v_prediction
    predicts_v = said if said is not None else situation.base.v_prediction
    if kohya.get("adaptive_noise_scale") is not None and not recipe.train.noise_offset:
        fix = msg("set noise_offset = 0.05 under [train]")
        yield RuleHit(("kohya", "adaptive_noise_scale"), msg("needs noise_offset"), fix)
    if kohya.get("scale_v_pred_loss_like_noise_pred") and not predicts_v:
        where = ("kohya", "scale_v_pred_loss_like_noise_pred")
        yield RuleHit(where, msg("works with v-prediction models only"), msg("remove it"))
    if kohya.get("v_pred_like_loss") and predicts_v:
        where = ("kohya", "v_pred_like_loss")
        yield RuleHit(where, msg("does not work with v-prediction models"), msg("remove it"))
    if kohya.get("dim_from_weights") and not recipe.network.network_weights:
        fix = msg("add network_weights under [network]")
        yield RuleHit(("kohya", "dim_from_weights"), msg("needs network_weights"), fix)
    yield from _check_timesteps(kohya)
    yield from _check_multipliers(kohya)


def _check_timesteps(kohya: dict[str, KohyaValue]) -> Iterator[RuleHit]:
    """Where they are equal, every sample is trained at that one (TU:6063)."""
    low, high = kohya.get("min_timestep", 0), kohya.get("max_timestep", MAX_TIMESTEP)
    if isinstance(low, int) and isinstance(high, int) and (not 0 <= low <= high <= MAX_TIMESTEP or low == MAX_TIMESTEP):
        where = ("kohya", "max_timestep" if "max_timestep" in kohya else "min_timestep")
        fix = msg("write a min_timestep that is not above max_timestep, both from 0 to {last}", last=MAX_TIMESTEP)
        yield RuleHit(where, msg("invalid timestep range: {low} to {high}", low=low, high=high), fix)


def _check_multipliers(kohya: dict[str, KohyaValue]) -> Iterator[RuleHit]:
    """A multiplier that is missing counts as 1, one too many as nothing (TN:649)."""
    weights, given = kohya.get("base_weights"), kohya.get("base_weights_multiplier")
    many = len(given) if isinstance(given, tuple) else 1
    count = len(weights) if isinstance(weights, tuple) else 1
    if weights is not None and given is not None and many != count:
        where = ("kohya", "base_weights_multiplier")
        said = msg(
            "different numbers of values: base_weights {count}, base_weights_multiplier {many}", count=count, many=many
        )
        fix = msg("write one multiplier for each file in base_weights")
        yield RuleHit(where, said, fix, severity=WARNING)


@rule("S20", ERROR, "Cached latents contain finished images, so color and crop augmentation cannot change them.")
def augmentation_with_cached_latents(situation: RuleContext) -> Iterator[RuleHit]:
    cached = situation.recipe.train.cache_latents or situation.recipe.train.cache_latents_to_disk
    for name in AUGMENTATIONS:
        if situation.recipe.kohya.get(name) is True and cached:
            never, out = msg("remove it (the guide never uses it, G4.97)"), msg("remove it")
            said = msg("{name} conflicts with cached latents", name=name)
            yield RuleHit(("kohya", name), said, never if name == "color_aug" else out)


@rule("G4.97", WARNING, "The guide never augments colors: that teaches wrong ones.")
def color_augmentation(situation: RuleContext) -> Iterator[RuleHit]:
    train = situation.recipe.train
    cached = train.cache_latents or train.cache_latents_to_disk  # then S20 is an error
    if situation.recipe.kohya.get("color_aug") is True and not cached:
        yield RuleHit(("kohya", "color_aug"), msg("color_aug teaches colors that no image has"), msg("remove it"))


@rule("S41", ERROR, "Cached text encoder outputs need a UNet-only run and captions that never change.")
def text_cache_conflict(situation: RuleContext) -> Iterator[RuleHit]:
    kohya, recipe = situation.recipe.kohya, situation.recipe
    if not caches_text_outputs(recipe):
        return
    where = ("kohya", next(name for name in TEXT_CACHE_KEYS if kohya.get(name) is True))
    if not recipe.network.network_train_unet_only:
        fix = msg("set network_train_unet_only = true under [network]")
        yield RuleHit(where, msg("needs a UNet-only run"), fix)
    parts: tuple[Part, ...] = (*recipe.concept, *recipe.regularization)
    if any(find_caption_value(part, recipe, "shuffle_caption") for part in parts):
        yield RuleHit(where, msg("conflicts with shuffled captions"), msg("remove shuffle_caption = true"))
    if any(find_caption_value(part, recipe, key) for part in parts for key in DROPOUT_RATES):
        fix = msg("remove caption_dropout_rate and caption_tag_dropout_rate")
        yield RuleHit(where, msg("conflicts with caption dropout"), fix)
    if kohya.get("token_warmup_step"):
        yield RuleHit(where, msg("conflicts with token_warmup_step"), msg("remove token_warmup_step"))


DROPOUT_RATES: tuple[CaptionKey, ...] = ("caption_dropout_rate", "caption_tag_dropout_rate")


@rule("S39", ERROR, "full_fp16 and full_bf16 require the same mixed precision, fp8 requires any but no (TN:815-833).")
def mismatched_precision(situation: RuleContext) -> Iterator[RuleHit]:
    precision = resolve_precision(situation.recipe, situation.machine.device)
    if situation.recipe.kohya.get("full_fp16") is True and situation.recipe.kohya.get("full_bf16") is True:
        said = msg("full_fp16 and full_bf16 are both set, but they need different mixed precision")
        yield RuleHit(("kohya", "full_bf16"), said, msg("remove one of the two"))
        return
    for name, wanted in (("full_fp16", "fp16"), ("full_bf16", "bf16")):
        if situation.recipe.kohya.get(name) is True and precision != wanted:
            said = msg('{name} needs mixed_precision = "{wanted}"', name=name, wanted=wanted)
            fix = msg('set mixed_precision = "{wanted}" under [train]', wanted=wanted)
            yield RuleHit(("kohya", name), said, fix)
    for name in ("fp8_base", "fp8_base_unet"):
        if situation.recipe.kohya.get(name) is True and precision == "no":
            fix = msg('write mixed_precision = "fp16" under [train] (or "bf16")')
            yield RuleHit(("kohya", name), msg("{name} needs mixed precision", name=name), fix)


@rule("G5.6", WARNING, "Full fp16 or bf16 keeps the weights themselves at half precision: fast but coarse.")
def full_half_precision(situation: RuleContext) -> Iterator[RuleHit]:
    precision = resolve_precision(situation.recipe, situation.machine.device)
    for name in ("full_fp16", "full_bf16"):
        if situation.recipe.kohya.get(name) is True and name.endswith(precision):  # else S39 is an error
            said = msg("with {name}, small changes to the weights are lost to rounding", name=name)
            yield RuleHit(("kohya", name), said, msg("remove it; the guide uses mixed precision"))
