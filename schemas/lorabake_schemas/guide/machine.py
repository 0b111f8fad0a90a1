"""Rules about buckets, memory, files, [kohya] options, and what this machine cannot do."""

from __future__ import annotations

from collections.abc import Iterator

from lorabake_schemas.base import StrictModel
from lorabake_schemas.defaults import precision_of
from lorabake_schemas.guide.registry import ERROR, WARNING, Remark, Situation, rule
from lorabake_schemas.options import nearest
from lorabake_schemas.recipe import Base, Captions, Launch, Metadata, Network, Sample, Save, Train

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
            near = nearest(name, situation.options)
            script = "sdxl_train_network.py" if situation.family == "sdxl" else "train_network.py"
            yield Remark(
                where, f"{script} at the pin has no option {name}", f"did you mean {near}?" if near else "take it out"
            )
        else:
            problem = known[name].problem(value)
            if problem:
                yield Remark(where, *problem)


@rule("S15", ERROR, "sd-scripts asserts that the resolution lies within the bucket limits, after loading the model.")
def buckets_hold_the_resolution(situation: Situation) -> Iterator[Remark]:
    train = situation.recipe.train
    native = situation.recipe.base.native_resolution or 1024
    sides = train.resolution or min(native // 64 * 64, 1024 if situation.family == "sdxl" else 768)
    low, high = (sides, sides) if isinstance(sides, int) else (min(sides), max(sides))
    if train.enable_bucket is False:
        return
    step = train.bucket_reso_steps or 64
    if train.min_bucket_reso and train.min_bucket_reso // step * step > low:  # sd-scripts rounds first (TU:747)
        yield Remark(
            ("train", "min_bucket_reso"),
            f"min_bucket_reso {train.min_bucket_reso} is above the resolution {low}",
            f"write {low} or less, or leave it out",
        )
    if train.max_bucket_reso and -(-train.max_bucket_reso // step) * step < high:
        yield Remark(
            ("train", "max_bucket_reso"),
            f"max_bucket_reso {train.max_bucket_reso} is below the resolution {high}",
            f"write {high} or more, or leave it out",
        )
    unit = 32 if situation.family == "sdxl" else 64
    if step % unit:
        yield Remark(
            ("train", "bucket_reso_steps"), f"bucket_reso_steps {step} does not divide by {unit}", f"write {unit}"
        )


@rule("S38", ERROR, "torch refuses persistent workers when there are none.")
def persistent_workers_exist(situation: Situation) -> Iterator[Remark]:
    train = situation.recipe.train
    if train.persistent_data_loader_workers and train.max_data_loader_n_workers == 0:
        yield Remark(
            ("train", "persistent_data_loader_workers"),
            "persistent workers, but max_data_loader_n_workers = 0",
            "write max_data_loader_n_workers = 1, or take the line out",
        )


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


@rule("G4.14", WARNING, "A float32 file is twice the size for nothing that a viewer could see.")
def file_is_not_bloated(situation: Situation) -> Iterator[Remark]:
    if situation.recipe.save.save_precision == "float":
        yield Remark(("save", "save_precision"), "float doubles the file", 'write "fp16"')


@rule("G4.13", WARNING, "ckpt files can run code when loaded; lorabake cannot check their weights either.")
def file_is_safetensors(situation: Situation) -> Iterator[Remark]:
    if situation.recipe.save.save_model_as in {"ckpt", "pt"}:
        yield Remark(
            ("save", "save_model_as"),
            f"{situation.recipe.save.save_model_as} instead of safetensors",
            "take the line out",
        )


@rule(
    "G4.96",
    ERROR,
    "What needs an NVIDIA GPU stops at once on a machine without one.",
    unless="check, plan and compile, where the training may happen elsewhere: there it is a warning",
)
def machine_can_do_it(situation: Situation) -> Iterator[Remark]:
    if situation.machine.device == "cuda" or situation.rehearsing:
        return
    train, severity = situation.recipe.train, ERROR if situation.launching else WARNING
    if situation.optimizer.lower().endswith("8bit"):
        yield Remark(
            ("train", "optimizer"),
            f"{situation.optimizer} needs an NVIDIA GPU (bitsandbytes), and this machine has none",
            'write optimizer = "AdamW" to train here',
            severity=severity,
        )
    if train.attention == "xformers":
        yield Remark(
            ("train", "attention"),
            "xformers has no kernel for the CPU",
            'write attention = "sdpa", or leave it out',
            severity=severity,
        )
    if train.mixed_precision == "fp16":
        yield Remark(
            ("train", "mixed_precision"),
            "fp16 training needs a GPU",
            'write mixed_precision = "no", or leave it out',
            severity=severity,
        )


__all__ = ["OWN"]
