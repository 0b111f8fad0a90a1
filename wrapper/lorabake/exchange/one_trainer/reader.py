"""JSON configurations of OneTrainer that train a LoRA for Stable Diffusion or SDXL, of all its versions.

What a file lacks is OneTrainer's default (modules/util/config/TrainConfig.py): its presets are only what differs.
Concepts and samples are in the file, or in files next to it.
"""

from __future__ import annotations

from pathlib import PurePosixPath, PureWindowsPath
from typing import TYPE_CHECKING

from lorabake.exchange.convert import to_number, to_switch, to_text, to_whole
from lorabake.exchange.foreign import ForeignConfig, ForeignDataset, Given
from lorabake.exchange.ledger import Ledger
from lorabake.exchange.one_trainer.concepts import Concepts, parse_resolutions, read_concepts, read_samples
from lorabake.exchange.one_trainer.keys import (
    DROPPED_KEYS,
    DROPPED_TABLES,
    MODEL_PARTS,
    PRECISIONS,
    REPLACED_OPTIMIZERS,
    TECHNICAL_ARGUMENTS,
    UNKNOWN,
    V_PREDICTION,
    find_newest_name,
    get_default,
)
from lorabake.exchange.optimizers import find_optimizer, list_arguments
from lorabake.exchange.reading import find_json_line, flatten, make_error, parse_json_table
from lorabake_schemas.families.registry import find_family_by_other_name
from lorabake_schemas.messages import Message, msg

if TYPE_CHECKING:
    from lorabake.exchange.foreign import Source
    from lorabake_schemas.base import OptionValue
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
    config = _Config(source, flatten(source, table))
    concepts = read_concepts(source, inner.get("concepts"), *config.name_file("concept_file_name"), config.ledger)
    named = config.name_file("sample_definition_file_name")
    prompts, sampler = read_samples(source, inner.get("samples"), *named, config.ledger)
    config.read_model(model, family)
    config.read_length()
    config.read_rates(tuple(encoder.folder for encoder in family.text_encoders))
    config.read_schedule()
    config.read_optimizer()
    config.read_network()
    config.read_loss(family)
    config.read_memory()
    config.read_saves()
    config.read_sampling(prompts, sampler)
    datasets = config.read_datasets(concepts)
    config.read_rest()
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


class _Config:
    """The values of a configuration under their newest names, with OneTrainer's defaults for those that it lacks."""

    def __init__(self, source: Source, values: dict[str, object]) -> None:
        self.source = source
        self.ledger = Ledger(values)
        is_flat = isinstance(values.get("optimizer"), str)
        self._names = {find_newest_name(key, is_flat=is_flat): key for key in values}
        self.ledger.drop_empty_and_secret()

    def has(self, name: str) -> bool:
        """Whether the source itself has it."""
        return name in self._names and self.ledger.has(self._names[name])

    def get(self, name: str) -> object:
        return self.ledger.get(self._names[name]) if self.has(name) else get_default(name)

    def text(self, name: str) -> str:
        return to_text(self.get(name)) or ""

    def name_file(self, name: str) -> tuple[str, str]:
        """The file that a key names, and the key as the source has it."""
        return self.text(name), self._names.get(name, name)

    def number(self, name: str) -> int | float | None:
        found = self.ledger.read_number(self._names[name]) if self.has(name) else None
        return to_number(get_default(name)) if found is None else found

    def switch(self, name: str) -> bool:
        return to_switch(self.get(name)) is True

    def give(
        self, option: str, value: OptionValue, *names: str, repair: Message | None = None, launch: bool = False
    ) -> None:
        """An option that comes from these keys, none of which the source has to have."""
        keys = tuple(self._names[name] for name in names if self.has(name))
        self.ledger.give(option, value, *keys, repair=repair, into=self.ledger.launch if launch else None)

    def drop(self, why: Message, *names: str) -> None:
        self.ledger.drop(why, *(self._names[name] for name in names if name in self._names))

    def same(self, *names: str) -> None:
        self.ledger.note("default", _SAME, *(self._names[name] for name in names if name in self._names))

    def read_model(self, model: str, family: ModelFamily) -> None:
        self.give("pretrained_model_name_or_path", self.text("base_model_name"), "base_model_name")
        if self.text("vae.model_name"):
            self.give("vae", self.text("vae.model_name"), "vae.model_name")
        for option, set_to in family.script_options.items():
            self.give(option, set_to.value, "model_type")
        if self.switch("force_v_prediction") or (model in V_PREDICTION and not self.switch("force_epsilon_prediction")):
            self.give(
                "v_parameterization", True, "force_v_prediction" if self.switch("force_v_prediction") else "model_type"
            )
        self.same("force_v_prediction", "force_epsilon_prediction")
        if self.switch("rescale_noise_scheduler_to_zero_terminal_snr"):
            self.give("zero_terminal_snr", True, "rescale_noise_scheduler_to_zero_terminal_snr")
        self.same("rescale_noise_scheduler_to_zero_terminal_snr")
        self.drop(msg("it chooses the training script, as the base model does here"), "model_type")
        self.drop(msg("lorabake trains LoRAs only"), "training_method")

    def read_length(self) -> None:
        self.give("max_train_epochs", int(self.number("epochs") or 1), "epochs")
        self.give(
            "gradient_accumulation_steps",
            int(self.number("gradient_accumulation_steps") or 1),
            "gradient_accumulation_steps",
        )
        clip = self.number("clip_grad_norm") if self.get("clip_grad_norm") is not None else 0.0
        self.give("max_grad_norm", clip or 0.0, "clip_grad_norm")

    def read_rates(self, encoders: tuple[str, ...]) -> None:
        """One rate, and one for each part that has its own; a part that is not trained has 0."""
        scale, scaled = self._find_rate_scale()
        rate = self.number("learning_rate") or 0.0
        self.give("learning_rate", _multiply(rate, scale), "learning_rate", *scaled)
        trained = [self._is_trained(part) for part in encoders]
        switches = [f"{part}.train" for part in encoders]
        if not any(trained):
            self.give("network_train_unet_only", True, *switches)
        else:
            rates = [self._find_rate(part, rate) if on else 0.0 for part, on in zip(encoders, trained, strict=True)]
            if any(found != rate for found in rates) or self.has("text_encoder.learning_rate"):
                value = tuple(_multiply(found, scale) for found in rates)
                names = [f"{part}.learning_rate" for part in encoders]
                self.give("text_encoder_lr", value, *names, *switches, *scaled)
        if not self.switch("unet.train"):
            self.give("network_train_text_encoder_only", True, "unet.train")
        elif self.number("unet.learning_rate") is not None:
            self.give("unet_lr", _multiply(self._find_rate("unet", rate), scale), "unet.learning_rate", *scaled)
        self.same("unet.train", *switches)
        self.drop(msg("this part is not trained"), *(f"{part}.learning_rate" for part in encoders))
        self._read_stops(("unet", *encoders))

    def _find_rate_scale(self) -> tuple[float, tuple[str, ...]]:
        """OneTrainer multiplies the rate by the square root of the batch, the accumulation or both."""
        batch, steps = (self.number(name) or 1 for name in ("batch_size", "gradient_accumulation_steps"))
        chosen = self.text("learning_rate_scaler")
        factors = {"BATCH": batch, "GLOBAL_BATCH": batch, "GRADIENT_ACCUMULATION": steps}
        factor = factors.get(chosen, batch * steps if chosen in {"BOTH", "GLOBAL_BOTH"} else 1)
        self.same("learning_rate_scaler") if factor == 1 else None
        return max(factor, 0) ** 0.5, () if factor == 1 else ("learning_rate_scaler",)

    def _is_trained(self, part: str) -> bool:
        """The oldest versions had one switch and one rate for both text encoders of SDXL."""
        return self.switch("text_encoder.train" if self._is_single(part) else f"{part}.train")

    def _is_single(self, part: str) -> bool:
        is_flat = self._names.get("text_encoder.train") == "train_text_encoder"
        return part == "text_encoder_2" and is_flat and not any(name.startswith(part) for name in self._names)

    def _find_rate(self, part: str, rate: float) -> float:
        own = self.number(f"{'text_encoder' if self._is_single(part) else part}.learning_rate")
        return rate if own is None else own

    def _read_stops(self, parts: tuple[str, ...]) -> None:
        """A part may stop earlier than the run, which no option of sd-scripts does."""
        epochs = self.number("epochs") or 0
        for part in parts:
            after, unit = f"{part}.stop_training_after", f"{part}.stop_training_after_unit"
            limit = self.number(after)
            never = not limit or self.text(unit) == "NEVER" or (self.text(unit) == "EPOCH" and limit >= epochs)
            if never or not self.switch(f"{part}.train"):
                self.drop(msg("it is not reached"), after, unit)
            self.drop(msg("sd-scripts cannot stop one part earlier; it trains to the end"), after, unit)

    def read_schedule(self) -> None:
        """Warm-up above 1 is in steps of images, up to 1 a share of the run (create_lr_scheduler)."""
        chosen = self.text("learning_rate_scheduler")
        lowest = self.number("learning_rate_min_factor") or 0.0
        cycles = self.number("learning_rate_cycles") or 1
        warmup = self.number("learning_rate_warmup_steps") or 0
        steps = self.number("gradient_accumulation_steps") or 1
        key = "learning_rate_scheduler"
        if "SCHEDULE_FREE" in self.text("optimizer.optimizer"):
            why = msg("a schedule-free optimizer has no scheduler, and its own warm-up")
            self.give("lr_scheduler", "constant", key, repair=why if chosen != "CONSTANT" else None)
            self.drop(why, "learning_rate_cycles", "learning_rate_min_factor")
            return
        if warmup > 1:
            self.give("lr_warmup_steps", int(warmup / max(steps, 1)), "learning_rate_warmup_steps")
        else:
            self.give("lr_warmup_steps", float(warmup) if warmup < 1 else 0.999, "learning_rate_warmup_steps")
        self._read_curve(chosen, lowest, cycles, warmed=warmup > 0)
        self.drop(msg("the scheduler has no cycles"), "learning_rate_cycles")
        self.drop(
            msg("this scheduler of sd-scripts always goes down to 0"), *["learning_rate_min_factor"] * (lowest > 0)
        )
        self.same("learning_rate_min_factor")

    def _read_curve(self, chosen: str, lowest: float, cycles: float, *, warmed: bool) -> None:
        key = "learning_rate_scheduler"
        match chosen:
            case "COSINE" if 0 < lowest < 1:
                self.give("lr_scheduler", "cosine_with_min_lr", key)
                self.give("lr_scheduler_min_lr_ratio", lowest, "learning_rate_min_factor")
            case "COSINE" | "LINEAR" | "ADAFACTOR":
                self.give("lr_scheduler", chosen.lower(), key)
            case "COSINE_WITH_RESTARTS":
                self.give("lr_scheduler", "cosine", key)
                self.give("lr_scheduler_args", (f"num_cycles={cycles}",), "learning_rate_cycles", key)
            case "COSINE_WITH_HARD_RESTARTS":
                self.give("lr_scheduler", "cosine_with_restarts", key)
                self.give("lr_scheduler_num_cycles", max(1, round(cycles)), "learning_rate_cycles")
            case "REX":
                why = msg("sd-scripts has no REX scheduler; polynomial with power 0.2 has nearly the same curve")
                self.give("lr_scheduler", "polynomial", key, repair=why)
                self.give("lr_scheduler_power", 0.2, key, repair=why)
            case "CUSTOM":
                self._read_custom_scheduler()
            case _:
                self.give("lr_scheduler", "constant_with_warmup" if warmed else "constant", key)

    def _read_custom_scheduler(self) -> None:
        self.give(
            "lr_scheduler_type",
            self.text("custom_learning_rate_scheduler"),
            "custom_learning_rate_scheduler",
            "learning_rate_scheduler",
        )
        arguments: list[str] = []
        keys: list[str] = []
        for key in self.ledger.list_open("scheduler_params["):
            if key.endswith("].key"):
                value = key.removesuffix("key") + "value"
                keys += [key, value]
                arguments.append(f"{to_text(self.ledger.get(key))}={to_text(self.ledger.get(value))}")
        if any("%" in argument for argument in arguments):
            self.ledger.drop(msg("it depends on the number of steps; write train.lr_scheduler_args by hand"), *keys)
        elif arguments:
            self.ledger.give("lr_scheduler_args", tuple(arguments), *keys)

    def read_optimizer(self) -> None:
        """The optimizer under the trainer's name, and those of its arguments that it has there."""
        chosen = self.text("optimizer.optimizer")
        name = REPLACED_OPTIMIZERS.get(chosen, chosen.replace("_", ""))
        if chosen == "ADAMW_8BIT" and self.switch("optimizer.is_paged"):
            name = "PagedAdamW8bit"
        if chosen == "SGD" and self.switch("optimizer.nesterov"):
            name = "SGDNesterov"
        found = find_optimizer(name)
        repair = msg("the trainer has no optimizer of this name; write one that it has") if found is None else None
        if chosen.endswith("_ADV") and found is not None:
            repair = msg("{name} is OneTrainer's own variant of {found}", name=chosen, found=found)
        self.give("optimizer_type", found or chosen, "optimizer.optimizer", repair=repair)
        known = list_arguments(found) if found else frozenset[str]()
        given = self._list_optimizer_arguments(known)
        if given:
            self.give(
                "optimizer_args",
                tuple(f"{name}={value}" for name, (value, _) in given.items()),
                *(name for _, names in given.values() for name in names),
            )
        names = [name for name in self._names if name.startswith("optimizer.")]
        self.drop(
            msg("it concerns speed and memory only"), *(name for name in names if name[10:] in TECHNICAL_ARGUMENTS)
        )
        self.drop(msg("the optimizer of the trainer has no such argument"), *names)
        others = [name for name in self._names if name.startswith("optimizer_defaults.")]
        self.drop(msg("a setting of an optimizer that is not chosen"), *others)

    def _list_optimizer_arguments(self, known: frozenset[str]) -> dict[str, tuple[str, tuple[str, ...]]]:
        """Arguments by name, each with its text and the keys that it comes from."""
        found: dict[str, tuple[str, tuple[str, ...]]] = {}
        start = "optimizer."
        for single, parts in (("betas", ("beta1", "beta2", "beta3")), ("eps", ("eps", "eps2"))):
            numbers = {start + part: self.number(start + part) for part in parts if self.has(start + part)}
            usable = {name: number for name, number in numbers.items() if number is not None}
            if single in known and ((single == "eps" and len(usable) == 1) or len(usable) >= 2):
                values = list(usable.values())
                text = str(values[0]) if len(values) == 1 else "(" + ",".join(map(str, values)) + ")"
                found[single] = (text, tuple(usable))
        for name in self._names:
            argument = name.removeprefix(start)
            if name == argument or argument not in known or argument in found or argument in TECHNICAL_ARGUMENTS:
                continue
            value = self.get(name)
            if (isinstance(value, bool | int | float) and to_number(value) is not None) or isinstance(value, bool):
                found[argument] = (str(value), (name,))
        return found

    def read_network(self) -> None:
        """Type, rank and alpha, and which layers (peft_type, layer_filter_preset)."""
        kind, preset = self.text("peft_type"), self.text("layer_filter_preset")
        if ("__version" in self._names or self.has("unet.train")) and not self.has("peft_type"):
            preset = "attn-mlp"  # the versions before it could choose layers
        is_dora = kind == "LORA" and self.switch("lora_decompose")
        rank = "lokr_dim" if kind == "LOKR" and self.has("lokr_dim") else "lora_rank"
        dim, alpha = int(self.number(rank) or 1), self.number("lora_alpha") or 1.0
        self.give("network_dim", max(1, dim), rank)
        self.give("network_alpha", alpha, "lora_alpha")
        self.drop(msg("the chosen type has another key for its rank"), "lora_rank", "lokr_dim")
        arguments: dict[str, tuple[str, tuple[str, ...]]] = {}
        if kind == "LORA" and not is_dora and preset in {"attn-mlp", "full", ""}:
            self.give("network_module", "networks.lora", "peft_type")
            if preset != "attn-mlp":
                names = ("layer_filter_preset", rank)
                arguments = {
                    "conv_dim": (str(dim), names),
                    "conv_alpha": (str(alpha), ("layer_filter_preset", "lora_alpha")),
                }
        else:
            arguments["algo"] = ({"LOHA": "loha", "LOKR": "lokr"}.get(kind, "locon"), ("peft_type",))
            arguments["preset"] = (preset if preset in {"attn-mlp", "attn-only"} else "full", ("layer_filter_preset",))
            self.give("network_module", "lycoris.kohya", "peft_type", "lora_decompose")
            arguments |= self._list_lycoris_arguments(kind, is_dora=is_dora)
        if arguments:
            keys = dict.fromkeys(name for _, names in arguments.values() for name in names)
            repair = _ALL_LAYERS if "conv_dim" in arguments and not self.has("layer_filter_preset") else None
            texts = tuple(f"{name}={text}" for name, (text, _) in arguments.items())
            self.give("network_args", texts, *keys, repair=repair)
        self.same("layer_filter_preset", "lora_decompose")
        if self.number("dropout_probability"):
            self.give("network_dropout", self.number("dropout_probability") or 0.0, "dropout_probability")
        if self.text("lora_model_name"):
            self.give("network_weights", self.text("lora_model_name"), "lora_model_name")

    def _list_lycoris_arguments(self, kind: str, *, is_dora: bool) -> dict[str, tuple[str, tuple[str, ...]]]:
        names = {"lora_decompose": "dora_wd", "lora_decompose_output_axis": "wd_on_output"} if is_dora else {}
        if kind == "LOKR":
            names = {"lokr_decompose_both": "decompose_both", "lokr_use_tucker": "use_tucker"}
            names |= {"lokr_full_matrix": "full_matrix", "lokr_weight_decompose": "dora_wd"}
            if self.switch("lokr_weight_decompose"):
                names["lokr_dora_on_output"] = "wd_on_output"
        found: dict[str, tuple[str, tuple[str, ...]]]
        found = {argument: ("True", (name,)) for name, argument in names.items() if self.switch(name)}
        if kind == "LOKR":
            found["factor"] = (str(int(self.number("lokr_decompose_factor") or -1)), ("lokr_decompose_factor",))
        return found

    def read_loss(self, family: ModelFamily) -> None:
        strengths = {name: self.number(f"{name}_strength") or 0.0 for name in ("mse", "mae", "huber", "log_cosh")}
        used = [name for name, strength in strengths.items() if strength]
        chosen = {"mae": "l1", "huber": "huber"}.get(used[0], "l2") if used else "l2"
        if used and chosen != "l2":
            self.give("loss_type", chosen, f"{used[0]}_strength")
            if chosen == "huber":
                self.give("huber_c", self.number("huber_delta") or 1.0, "huber_delta")
                self.give("huber_schedule", "constant", "huber_strength")
        mixed = [
            f"{name}_strength"
            for name in used[1:] or [name for name in used if strengths[name] != 1 or name == "log_cosh"]
        ]
        self.drop(msg("sd-scripts has one kind of loss, without a strength"), *mixed)
        self.same("mse_strength", "mae_strength", "huber_strength", "log_cosh_strength", "huber_delta")
        self._read_loss_weight()
        self._read_noise()
        skip = int(self.number("text_encoder_layer_skip") or 0)
        if skip and "clip_skip" not in family.ignored_options:
            self.give("clip_skip", skip + 1, "text_encoder_layer_skip")
        elif skip:
            self.drop(msg("sd-scripts always uses the second to last layer for SDXL"), "text_encoder_layer_skip")
        self.same("text_encoder_layer_skip")

    def _read_loss_weight(self) -> None:
        chosen, strength = self.text("loss_weight_fn"), self.number("loss_weight_strength") or 0.0
        if self.number("min_snr_gamma"):  # the versions before 3
            self.give("min_snr_gamma", self.number("min_snr_gamma") or 0.0, "min_snr_gamma")
        elif chosen == "MIN_SNR_GAMMA":
            self.give("min_snr_gamma", strength, "loss_weight_fn", "loss_weight_strength")
        elif chosen == "DEBIASED_ESTIMATION":
            self.give("debiased_estimation_loss", True, "loss_weight_fn")
        elif chosen != "CONSTANT":
            self.drop(msg("sd-scripts has no such weighting of the loss"), "loss_weight_fn", "loss_weight_strength")
        self.drop(msg("the chosen weighting has no strength"), "loss_weight_strength")
        self.same("loss_weight_fn", "min_snr_gamma")

    def _read_noise(self) -> None:
        if (offset := self.number("offset_noise_weight") or 0.0) > 0:
            self.give("noise_offset", offset, "offset_noise_weight")
        elif self.has("offset_noise_weight"):
            self.give("noise_offset", 0.0, "offset_noise_weight")
        for name, option in (("min_noising_strength", "min_timestep"), ("max_noising_strength", "max_timestep")):
            strength = self.number(name)
            if strength is not None and strength != get_default(name):
                self.give(option, round(1000 * max(0.0, min(1.0, strength))), name)
            self.same(name)
        if self.text("timestep_distribution") != "UNIFORM":
            why = msg("sd-scripts draws all timesteps equally often")
            self.drop(why, "timestep_distribution", "noising_weight", "noising_bias", "timestep_shift")
        self.same(
            "timestep_distribution", "noising_weight", "noising_bias", "timestep_shift", "dynamic_timestep_shifting"
        )

    def read_memory(self) -> None:
        for name, option in (("train_dtype", "mixed_precision"), ("output_dtype", "save_precision")):
            precision = PRECISIONS.get(self.text(name))
            if precision is None:
                self.drop(msg("sd-scripts cannot train or save in this number format"), name)
            else:
                self.give(option, "no" if precision == "float" and option == "mixed_precision" else precision, name)
        attention = {"XFORMERS": "xformers", "SDP": "sdpa"}.get(self.text("attention_mechanism"))
        if attention:
            self.give(attention, True, "attention_mechanism")
        names = ("gradient_checkpointing", "unet.gradient_checkpointing")
        on = all(to_switch(self.get(name)) is not False and self.get(name) != "OFF" for name in names)
        self.give("gradient_checkpointing", on, *names)
        caching = self.switch("latent_caching")
        self.give("cache_latents", caching, "latent_caching")
        self.give("cache_latents_to_disk", caching, "latent_caching")
        if (self.text("vae.weight_dtype") or "FLOAT_32") == "FLOAT_32":
            self.give("no_half_vae", True, "vae.weight_dtype")
        if self.text("unet.weight_dtype") == "FLOAT_8":
            self.give("fp8_base", True, "unet.weight_dtype")
        if self.switch("multi_gpu"):
            devices = [
                number for part in self.text("device_indexes").split(",") if (number := to_whole(part)) is not None
            ]
            if devices:
                self.give("gpu_ids", ",".join(map(str, devices)), "device_indexes", launch=True)
                self.give("num_processes", len(devices), "multi_gpu", launch=True)
        self.drop(msg("training on several GPUs is off"), "multi_gpu", "device_indexes")

    def read_saves(self) -> None:
        place = self.text("output_model_destination")
        kind = PureWindowsPath if "\\" in place else PurePosixPath
        if place and self.has("output_model_destination"):
            path = kind(place)
            if path.suffix and path.stem:
                self.give("output_name", path.stem, "output_model_destination")
            if path.parent.name:
                self.give("output_dir", str(path.parent), "output_model_destination")
        save = self.text("output_model_format")
        if save in {"DIFFUSERS", "INTERNAL", "DIFFUSERS_LORA"}:
            self.drop(msg("sd-scripts saves a LoRA in one file, with kohya's names"), "output_model_format")
        else:
            self.give("save_model_as", "ckpt" if save == "CKPT" else "safetensors", "output_model_format")
        every, unit = self.number("save_every") or 0, self.text("save_every_unit")
        option = {"EPOCH": "save_every_n_epochs", "STEP": "save_every_n_steps"}.get(unit)
        if option and every >= 1:
            self.give(option, int(every), "save_every", "save_every_unit")
        elif unit in {"SECOND", "MINUTE", "HOUR"} and every:
            self.drop(msg("sd-scripts saves after epochs or steps, not after a time"), "save_every", "save_every_unit")
        self.same("save_every", "save_every_unit")

    def read_sampling(self, prompts: tuple[str, ...], sampler: str | None) -> None:
        names = ("sample_after", "sample_after_unit")
        every, unit = self.number("sample_after") or 0, self.text("sample_after_unit")
        if not prompts or unit == "NEVER" or every < 1:
            self.drop(msg("there are no prompts for samples"), *names)
            return
        option = {"EPOCH": "sample_every_n_epochs", "STEP": "sample_every_n_steps"}.get(unit)
        if option:
            self.give(option, int(every), *names)
        else:
            why = msg("sd-scripts makes samples after epochs or steps, not after a time")
            self.give("sample_every_n_epochs", 1, *names, repair=why)
        if sampler:
            self.give("sample_sampler", sampler)

    def read_datasets(self, concepts: Concepts) -> tuple[ForeignDataset, ...]:
        """A dataset for each resolution: several of them are written with commas, "512,768"."""
        shared: dict[str, Given] = {}
        keys = {
            name: tuple(self._names[name] for name in (name,) if self.has(name))
            for name in ("batch_size", "aspect_ratio_bucketing", "resolution")
        }
        batch = int(self.number("batch_size") or 1)
        self.ledger.give("batch_size", max(1, batch), *keys["batch_size"], into=shared)
        self.ledger.give(
            "enable_bucket", self.switch("aspect_ratio_bucketing"), *keys["aspect_ratio_bucketing"], into=shared
        )
        self._read_dropout(shared)
        if self.switch("masked_training"):
            why = msg(
                "OneTrainer has masks as NAME-masklabel.png next to the images, on which sd-scripts would train; move "
                "them to a folder, under the images' names, and write it as masks under [[concept]]"
            )
            self.drop(why, "masked_training")
        self.same("masked_training")
        sizes = parse_resolutions(self.text("resolution"))
        if not sizes:
            self.drop(msg("not a resolution"), "resolution")
        if self.switch("aspect_ratio_bucketing"):
            self._widen_buckets(sizes, concepts, shared)
        found: list[ForeignDataset] = []
        for own, subsets in concepts.by_resolution:
            several = own or tuple((size, keys["resolution"]) for size in sizes or ((512, 512),))
            for size, written in several:
                options = dict(shared)
                side = size[0] if size[0] == size[1] else size
                self.ledger.give(
                    "resolution", side, *written, repair=_SPLIT if len(several) > 1 else None, into=options
                )
                found.append(ForeignDataset(options=options, subsets=subsets))
        if not found:
            side = (sizes or ((512, 512),))[0]
            repair = msg("the first one, as there are no concepts") if len(sizes) > 1 else None
            value = side[0] if side[0] == side[1] else side
            self.ledger.give("resolution", value, *keys["resolution"], repair=repair, into=shared)
            self.ledger.give("caption_extension", ".txt", into=shared)
            found.append(ForeignDataset(options=shared))
        return tuple(found)

    def _widen_buckets(self, sizes: tuple[tuple[int, int], ...], concepts: Concepts, shared: dict[str, Given]) -> None:
        """Its buckets have up to four times the width for the height, twice the width of a square one."""
        used = [*sizes, *(size for own, _subsets in concepts.by_resolution for size, _keys in own or ())]
        side = max((max(size) for size in used), default=512)
        self.ledger.give("max_bucket_reso", 2 * side, into=shared)

    def _read_dropout(self, shared: dict[str, Given]) -> None:
        """Captions are dropped for each text encoder on its own; sd-scripts drops them for both at once."""
        names = ("text_encoder.dropout_probability", "text_encoder_2.dropout_probability")
        rates = [self.number(name) or 0.0 for name in names]
        if rates[0]:
            keys = tuple(self._names[name] for name in names if self.has(name))
            why = msg("OneTrainer drops captions for each text encoder on its own, sd-scripts for both at once")
            self.ledger.give("caption_dropout_rate", rates[0], *keys, repair=why if rates[1] else None, into=shared)
        elif rates[1]:
            self.drop(msg("sd-scripts cannot drop captions for one text encoder only"), names[1])
        self.same(*names)

    def read_rest(self) -> None:
        for name, key in self._names.items():
            table = name.partition(".")[0].partition("[")[0]
            why = DROPPED_KEYS.get(name) or DROPPED_TABLES.get(table)
            if why is None and table in MODEL_PARTS:
                why = DROPPED_KEYS.get("part." + name.partition(".")[2])
            self.ledger.note("dropped" if why else "unknown", why or UNKNOWN, key)


def _multiply(rate: float, scale: float) -> float:
    return rate if scale == 1 else float(f"{rate * scale:.6g}")
