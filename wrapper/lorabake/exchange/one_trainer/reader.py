"""JSON configurations of OneTrainer that train a LoRA for Stable Diffusion or SDXL, of all its versions.

What a file lacks is OneTrainer's default (modules/util/config/TrainConfig.py): its presets are only what differs.
Concepts and samples are in the file, or in files next to it.
"""

from __future__ import annotations

from pathlib import PurePosixPath, PureWindowsPath
from typing import TYPE_CHECKING

from lorabake.exchange.convert import to_switch, to_text, to_whole
from lorabake.exchange.foreign import ForeignConfig, ForeignDataset, Given
from lorabake.exchange.one_trainer.concepts import Concepts, parse_resolutions, read_concepts, read_samples
from lorabake.exchange.one_trainer.config import Config
from lorabake.exchange.one_trainer.keys import (
    DROPPED_KEYS,
    DROPPED_TABLES,
    MODEL_PARTS,
    PRECISIONS,
    UNKNOWN,
    V_PREDICTION,
    get_default,
)
from lorabake.exchange.one_trainer.optimizer import read_optimizer, read_rates, read_schedule
from lorabake.exchange.reading import find_json_line, flatten, make_error, parse_json_table
from lorabake_schemas.families.registry import find_family_by_other_name
from lorabake_schemas.messages import msg

if TYPE_CHECKING:
    from lorabake.exchange.foreign import Source
    from lorabake_schemas.families.model_family import ModelFamily

FORMAT = "one-trainer"
PROGRAM = msg("OneTrainer")
_SAME = msg("as in sd-scripts")
_SPLIT = msg("every image is trained at each of the resolutions in an epoch; OneTrainer draws one of them")
_ALL_LAYERS = msg("OneTrainer trains the convolution layers, too, unless layer_filter_preset limits it")


def read_one_trainer(source: Source) -> ForeignConfig:
    """Raises RecipeError for a damaged file, another training method, and other models than Stable Diffusion's."""
    text, table = parse_json_table(source)
    method = to_text(table.get("training_method")) or "FINE_TUNE"
    model = to_text(table.get("model_type")) or "STABLE_DIFFUSION_15"
    family = find_family_by_other_name(model)
    if method != "LORA" or family is None:
        key, what = ("training_method", method) if method != "LORA" else ("model_type", model)
        said = msg("it trains {model}, which lorabake cannot", model=what)
        raise make_error(source, said, find_json_line(text, key))
    if to_text(table.get("peft_type")) == "OFT_2":
        said = msg("it trains {model}, which lorabake cannot", model="OFT 2")
        raise make_error(source, said, find_json_line(text, "peft_type"))
    inner = {key: table.pop(key) for key in ("concepts", "samples") if key in table}
    config = Config(source, flatten(source, table))
    concepts = read_concepts(source, inner.get("concepts"), *config.name_file("concept_file_name"), config.ledger)
    named = config.name_file("sample_definition_file_name")
    prompts, sampler = read_samples(source, inner.get("samples"), *named, config.ledger)
    _read_model(config, model, family)
    _read_length(config)
    read_rates(config, tuple(encoder.folder for encoder in family.text_encoders))
    read_schedule(config)
    read_optimizer(config)
    _read_network(config)
    _read_loss(config, family)
    _read_memory(config)
    _read_saves(config)
    _read_sampling(config, prompts, sampler)
    datasets = _read_datasets(config, concepts)
    _read_rest(config)
    name = config.ledger.options.get("output_name")
    return ForeignConfig(
        format=FORMAT,
        program=PROGRAM,
        script=family.script,
        name=name.value if name is not None and isinstance(name.value, str) else None,
        options=config.ledger.options,
        launch=config.ledger.launch,
        datasets=datasets,
        prompts=prompts,
        keys=tuple(config.ledger.lines),
    )


def _read_model(config: Config, model: str, family: ModelFamily) -> None:
    config.give("pretrained_model_name_or_path", config.text("base_model_name"), "base_model_name")
    if config.text("vae.model_name"):
        config.give("vae", config.text("vae.model_name"), "vae.model_name")
    for option, set_to in family.script_options.items():
        config.give(option, set_to.value, "model_type")
    if config.switch("force_v_prediction") or (model in V_PREDICTION and not config.switch("force_epsilon_prediction")):
        config.give(
            "v_parameterization", True, "force_v_prediction" if config.switch("force_v_prediction") else "model_type"
        )
    config.same("force_v_prediction", "force_epsilon_prediction")
    if config.switch("rescale_noise_scheduler_to_zero_terminal_snr"):
        config.give("zero_terminal_snr", True, "rescale_noise_scheduler_to_zero_terminal_snr")
    config.same("rescale_noise_scheduler_to_zero_terminal_snr")
    config.drop(msg("it chooses the training script, as the base model does here"), "model_type")
    config.drop(msg("lorabake trains LoRAs only"), "training_method")


def _read_length(config: Config) -> None:
    config.give("max_train_epochs", int(config.number("epochs") or 1), "epochs")
    config.give(
        "gradient_accumulation_steps",
        int(config.number("gradient_accumulation_steps") or 1),
        "gradient_accumulation_steps",
    )
    clip = config.number("clip_grad_norm") if config.get("clip_grad_norm") is not None else 0.0
    config.give("max_grad_norm", clip or 0.0, "clip_grad_norm")


def _read_network(config: Config) -> None:
    """Type, rank and alpha, and which layers (peft_type, layer_filter_preset)."""
    kind, preset = config.text("peft_type"), config.text("layer_filter_preset")
    if ("__version" in config.names or config.has("unet.train")) and not config.has("peft_type"):
        preset = "attn-mlp"  # the versions before it could choose layers
    is_dora = kind == "LORA" and config.switch("lora_decompose")
    rank = "lokr_dim" if kind == "LOKR" and config.has("lokr_dim") else "lora_rank"
    dim, alpha = int(config.number(rank) or 1), config.number("lora_alpha") or 1.0
    config.give("network_dim", max(1, dim), rank)
    config.give("network_alpha", alpha, "lora_alpha")
    config.drop(msg("the chosen type has another key for its rank"), "lora_rank", "lokr_dim")
    arguments: dict[str, tuple[str, tuple[str, ...]]] = {}
    if kind == "LORA" and not is_dora and preset in {"attn-mlp", "full", ""}:
        config.give("network_module", "networks.lora", "peft_type")
        if preset != "attn-mlp":
            names = ("layer_filter_preset", rank)
            arguments = {
                "conv_dim": (str(dim), names),
                "conv_alpha": (str(alpha), ("layer_filter_preset", "lora_alpha")),
            }
    else:
        arguments["algo"] = ({"LOHA": "loha", "LOKR": "lokr"}.get(kind, "locon"), ("peft_type",))
        arguments["preset"] = (preset if preset in {"attn-mlp", "attn-only"} else "full", ("layer_filter_preset",))
        config.give("network_module", "lycoris.kohya", "peft_type", "lora_decompose")
        arguments |= _list_lycoris_arguments(config, kind, is_dora=is_dora)
    if arguments:
        keys = dict.fromkeys(name for _, names in arguments.values() for name in names)
        repair = _ALL_LAYERS if "conv_dim" in arguments and not config.has("layer_filter_preset") else None
        texts = tuple(f"{name}={text}" for name, (text, _) in arguments.items())
        config.give("network_args", texts, *keys, repair=repair)
    config.same("layer_filter_preset", "lora_decompose")
    if config.number("dropout_probability"):
        config.give("network_dropout", config.number("dropout_probability") or 0.0, "dropout_probability")
    if config.text("lora_model_name"):
        config.give("network_weights", config.text("lora_model_name"), "lora_model_name")


def _list_lycoris_arguments(config: Config, kind: str, *, is_dora: bool) -> dict[str, tuple[str, tuple[str, ...]]]:
    names = {"lora_decompose": "dora_wd", "lora_decompose_output_axis": "wd_on_output"} if is_dora else {}
    if kind == "LOKR":
        names = {"lokr_decompose_both": "decompose_both", "lokr_use_tucker": "use_tucker"}
        names |= {"lokr_full_matrix": "full_matrix", "lokr_weight_decompose": "dora_wd"}
        if config.switch("lokr_weight_decompose"):
            names["lokr_dora_on_output"] = "wd_on_output"
    found: dict[str, tuple[str, tuple[str, ...]]]
    found = {argument: ("True", (name,)) for name, argument in names.items() if config.switch(name)}
    if kind == "LOKR":
        found["factor"] = (str(int(config.number("lokr_decompose_factor") or -1)), ("lokr_decompose_factor",))
    return found


def _read_loss(config: Config, family: ModelFamily) -> None:
    strengths = {name: config.number(f"{name}_strength") or 0.0 for name in ("mse", "mae", "huber", "log_cosh")}
    used = [name for name, strength in strengths.items() if strength]
    chosen = {"mae": "l1", "huber": "huber"}.get(used[0], "l2") if used else "l2"
    if used and chosen != "l2":
        config.give("loss_type", chosen, f"{used[0]}_strength")
        if chosen == "huber":
            config.give("huber_c", config.number("huber_delta") or 1.0, "huber_delta")
            config.give("huber_schedule", "constant", "huber_strength")
    mixed = [
        f"{name}_strength" for name in used[1:] or [name for name in used if strengths[name] != 1 or name == "log_cosh"]
    ]
    config.drop(msg("sd-scripts has one kind of loss, without a strength"), *mixed)
    config.same("mse_strength", "mae_strength", "huber_strength", "log_cosh_strength", "huber_delta")
    _read_loss_weight(config)
    _read_noise(config)
    skip = int(config.number("text_encoder_layer_skip") or 0)
    if skip and "clip_skip" not in family.ignored_options:
        config.give("clip_skip", skip + 1, "text_encoder_layer_skip")
    elif skip:
        config.drop(msg("sd-scripts always uses the second to last layer for SDXL"), "text_encoder_layer_skip")
    config.same("text_encoder_layer_skip")


def _read_loss_weight(config: Config) -> None:
    chosen, strength = config.text("loss_weight_fn"), config.number("loss_weight_strength") or 0.0
    if config.number("min_snr_gamma"):  # the versions before 3
        config.give("min_snr_gamma", config.number("min_snr_gamma") or 0.0, "min_snr_gamma")
    elif chosen == "MIN_SNR_GAMMA":
        config.give("min_snr_gamma", strength, "loss_weight_fn", "loss_weight_strength")
    elif chosen == "DEBIASED_ESTIMATION":
        config.give("debiased_estimation_loss", True, "loss_weight_fn")
    elif chosen != "CONSTANT":
        config.drop(msg("sd-scripts has no such weighting of the loss"), "loss_weight_fn", "loss_weight_strength")
    config.drop(msg("the chosen weighting has no strength"), "loss_weight_strength")
    config.same("loss_weight_fn", "min_snr_gamma")


def _read_noise(config: Config) -> None:
    if (offset := config.number("offset_noise_weight") or 0.0) > 0:
        config.give("noise_offset", offset, "offset_noise_weight")
    elif config.has("offset_noise_weight"):
        config.give("noise_offset", 0.0, "offset_noise_weight")
    for name, option in (("min_noising_strength", "min_timestep"), ("max_noising_strength", "max_timestep")):
        strength = config.number(name)
        if strength is not None and strength != get_default(name):
            config.give(option, round(1000 * max(0.0, min(1.0, strength))), name)
        config.same(name)
    if config.text("timestep_distribution") != "UNIFORM":
        why = msg("sd-scripts draws all timesteps equally often")
        config.drop(why, "timestep_distribution", "noising_weight", "noising_bias", "timestep_shift")
    config.same(
        "timestep_distribution", "noising_weight", "noising_bias", "timestep_shift", "dynamic_timestep_shifting"
    )


def _read_memory(config: Config) -> None:
    for name, option in (("train_dtype", "mixed_precision"), ("output_dtype", "save_precision")):
        precision = PRECISIONS.get(config.text(name))
        if precision is None:
            config.drop(msg("sd-scripts cannot train or save in this number format"), name)
        else:
            config.give(option, "no" if precision == "float" and option == "mixed_precision" else precision, name)
    attention = {"XFORMERS": "xformers", "SDP": "sdpa"}.get(config.text("attention_mechanism"))
    if attention:
        config.give(attention, True, "attention_mechanism")
    names = ("gradient_checkpointing", "unet.gradient_checkpointing")
    on = all(to_switch(config.get(name)) is not False and config.get(name) != "OFF" for name in names)
    config.give("gradient_checkpointing", on, *names)
    caching = config.switch("latent_caching")
    config.give("cache_latents", caching, "latent_caching")
    config.give("cache_latents_to_disk", caching, "latent_caching")
    if (config.text("vae.weight_dtype") or "FLOAT_32") == "FLOAT_32":
        config.give("no_half_vae", True, "vae.weight_dtype")
    if config.text("unet.weight_dtype") == "FLOAT_8":
        config.give("fp8_base", True, "unet.weight_dtype")
    if config.switch("multi_gpu"):
        devices = [
            number for part in config.text("device_indexes").split(",") if (number := to_whole(part)) is not None
        ]
        if devices:
            config.give("gpu_ids", ",".join(map(str, devices)), "device_indexes", launch=True)
            config.give("num_processes", len(devices), "multi_gpu", launch=True)
    config.drop(msg("training on several GPUs is off"), "multi_gpu", "device_indexes")


def _read_saves(config: Config) -> None:
    place = config.text("output_model_destination")
    kind = PureWindowsPath if "\\" in place else PurePosixPath
    if place and config.has("output_model_destination"):
        path = kind(place)
        if path.suffix and path.stem:
            config.give("output_name", path.stem, "output_model_destination")
        if path.parent.name:
            config.give("output_dir", str(path.parent), "output_model_destination")
    save = config.text("output_model_format")
    if save in {"DIFFUSERS", "INTERNAL", "DIFFUSERS_LORA"}:
        config.drop(msg("sd-scripts saves a LoRA in one file, with kohya's names"), "output_model_format")
    else:
        config.give("save_model_as", "ckpt" if save == "CKPT" else "safetensors", "output_model_format")
    every, unit = config.number("save_every") or 0, config.text("save_every_unit")
    option = {"EPOCH": "save_every_n_epochs", "STEP": "save_every_n_steps"}.get(unit)
    if option and every >= 1:
        config.give(option, int(every), "save_every", "save_every_unit")
    elif unit in {"SECOND", "MINUTE", "HOUR"} and every:
        config.drop(msg("sd-scripts saves after epochs or steps, not after a time"), "save_every", "save_every_unit")
    config.same("save_every", "save_every_unit")


def _read_sampling(config: Config, prompts: tuple[str, ...], sampler: str | None) -> None:
    names = ("sample_after", "sample_after_unit")
    every, unit = config.number("sample_after") or 0, config.text("sample_after_unit")
    if not prompts or unit == "NEVER" or every < 1:
        config.drop(msg("there are no prompts for samples"), *names)
        return
    option = {"EPOCH": "sample_every_n_epochs", "STEP": "sample_every_n_steps"}.get(unit)
    if option:
        config.give(option, int(every), *names)
    else:
        why = msg("sd-scripts makes samples after epochs or steps, not after a time")
        config.give("sample_every_n_epochs", 1, *names, repair=why)
    if sampler:
        config.give("sample_sampler", sampler)


def _read_datasets(config: Config, concepts: Concepts) -> tuple[ForeignDataset, ...]:
    """A dataset for each resolution: several of them are written with commas, "512,768"."""
    shared: dict[str, Given] = {}
    keys = {
        name: tuple(config.names[name] for name in (name,) if config.has(name))
        for name in ("batch_size", "aspect_ratio_bucketing", "resolution")
    }
    batch = int(config.number("batch_size") or 1)
    config.ledger.give("batch_size", max(1, batch), *keys["batch_size"], into=shared)
    config.ledger.give(
        "enable_bucket", config.switch("aspect_ratio_bucketing"), *keys["aspect_ratio_bucketing"], into=shared
    )
    _read_dropout(config, shared)
    if config.switch("masked_training"):
        why = msg(
            "OneTrainer has masks as NAME-masklabel.png next to the images; `lorabake prepare` puts them in a "
            "separate folder, which its recipe uses as masks"
        )
        config.drop(why, "masked_training")
    config.same("masked_training")
    sizes = parse_resolutions(config.text("resolution"))
    if not sizes:
        config.drop(msg("not a resolution"), "resolution")
    if config.switch("aspect_ratio_bucketing"):
        _widen_buckets(config, sizes, concepts, shared)
    found: list[ForeignDataset] = []
    for own, subsets in concepts.by_resolution:
        several = own or tuple((size, keys["resolution"]) for size in sizes or ((512, 512),))
        for size, written in several:
            options = dict(shared)
            side = size[0] if size[0] == size[1] else size
            config.ledger.give("resolution", side, *written, repair=_SPLIT if len(several) > 1 else None, into=options)
            found.append(ForeignDataset(options=options, subsets=subsets))
    if not found:
        side = (sizes or ((512, 512),))[0]
        repair = msg("the first one, as there are no concepts") if len(sizes) > 1 else None
        value = side[0] if side[0] == side[1] else side
        config.ledger.give("resolution", value, *keys["resolution"], repair=repair, into=shared)
        config.ledger.give("caption_extension", ".txt", into=shared)
        found.append(ForeignDataset(options=shared))
    return tuple(found)


def _widen_buckets(
    config: Config, sizes: tuple[tuple[int, int], ...], concepts: Concepts, shared: dict[str, Given]
) -> None:
    """Its buckets have up to four times the width for the height, twice the width of a square one."""
    used = [*sizes, *(size for own, _subsets in concepts.by_resolution for size, _keys in own or ())]
    side = max((max(size) for size in used), default=512)
    config.ledger.give("max_bucket_reso", 2 * side, into=shared)


def _read_dropout(config: Config, shared: dict[str, Given]) -> None:
    """Captions are dropped for each text encoder on its own; sd-scripts drops them for both at once."""
    names = ("text_encoder.dropout_probability", "text_encoder_2.dropout_probability")
    rates = [config.number(name) or 0.0 for name in names]
    if rates[0]:
        keys = tuple(config.names[name] for name in names if config.has(name))
        why = msg("OneTrainer drops captions for each text encoder on its own, sd-scripts for both at once")
        config.ledger.give("caption_dropout_rate", rates[0], *keys, repair=why if rates[1] else None, into=shared)
    elif rates[1]:
        config.drop(msg("sd-scripts cannot drop captions for one text encoder only"), names[1])
    config.same(*names)


def _read_rest(config: Config) -> None:
    for name, key in config.names.items():
        table = name.partition(".")[0].partition("[")[0]
        why = DROPPED_KEYS.get(name) or DROPPED_TABLES.get(table)
        if why is None and table in MODEL_PARTS:
            why = DROPPED_KEYS.get("part." + name.partition(".")[2])
        config.ledger.note("dropped" if why else "unknown", why or UNKNOWN, key)
