"""Jobs of ai-toolkit (ostris) that train a LoRA for Stable Diffusion or SDXL, in YAML or JSON.

What a job lacks is ai-toolkit's default (toolkit/config_modules.py). It counts in steps, has a dataset for each folder
and resolution, and trains no text encoder unless it is told to.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, cast

from lorabake.exchange.ai_toolkit.datasets import JobDataset
from lorabake.exchange.ai_toolkit.keys import (
    ALIASES,
    DEFAULTS,
    DROPPED,
    EPSILON_OPTIMIZERS,
    OPTIMIZERS,
    OTHER_SWITCHES,
    PRECISIONS,
    SAME,
    START,
    UNKNOWN,
)
from lorabake.exchange.convert import to_argument, to_number, to_switch, to_text, to_whole
from lorabake.exchange.foreign import ForeignConfig, ForeignDataset
from lorabake.exchange.ledger import Ledger
from lorabake.exchange.optimizers import find_optimizer
from lorabake.exchange.reading import flatten, make_error, parse_json_table
from lorabake.exchange.yaml_reading import parse_yaml_table
from lorabake.recipe.foreign import decode_text
from lorabake_schemas.families.registry import DEFAULT_FAMILY, find_family_by_other_name, get_family
from lorabake_schemas.messages import Message, msg

if TYPE_CHECKING:
    from lorabake.exchange.foreign import Source
    from lorabake_schemas.base import OptionValue
    from lorabake_schemas.families.model_family import ModelFamily

FORMAT = "ai-toolkit"
PROGRAM = msg("ai-toolkit")
_TRAINERS = ("sd_trainer", "ui_trainer", "diffusion_trainer")
_LORA_TYPES = ("lora", "locon", "lycoris", "lokr", "dora")


def read_ai_toolkit(source: Source) -> ForeignConfig:
    """Raises RecipeError for a damaged file, another kind of job, and other models than Stable Diffusion's."""
    is_json = decode_text(source.content).lstrip().startswith("{")
    text, table = parse_json_table(source) if is_json else parse_yaml_table(source)
    process = _find_process(source, text, table)
    family = _find_family(source, text, process)
    name = to_text(cast("dict[str, object]", table["config"]).get("name"))
    job = _Job(source, table, name or "")
    job.read_model(family)
    job.read_length()
    job.read_rates()
    job.read_optimizer()
    job.read_schedule()
    job.read_network()
    job.read_loss()
    job.read_memory()
    job.read_saves(name)
    prompts = job.read_samples()
    datasets = job.read_datasets(process.get("datasets"))
    job.read_rest()
    return ForeignConfig(
        format=FORMAT,
        program=PROGRAM,
        script=family.script,
        name=name,
        options=job.ledger.options,
        launch=job.ledger.launch,
        datasets=datasets,
        prompts=prompts,
        keys=tuple(job.ledger.lines),
    )


def find_yaml_line(text: str, key: str) -> int | None:
    """The line where a key of a YAML or JSON file is first named."""
    found = re.search(rf"^[\s\-{{,]*[\"']?{re.escape(key)}[\"']?\s*:", text, re.MULTILINE)
    return text[: found.end()].count("\n") + 1 if found else None


def _find_process(source: Source, text: str, table: dict[str, Any]) -> dict[str, Any]:
    """The first process of the job, which has to train a LoRA."""
    config = table.get("config")
    listed = cast("dict[str, object]", config).get("process") if isinstance(config, dict) else None
    process = cast("list[object]", listed)[0] if isinstance(listed, list) and listed else None
    if not isinstance(process, dict):
        raise make_error(source, msg("it has no {key}", key="config.process"), find_yaml_line(text, "config"))
    found = cast("dict[str, Any]", process)
    kind = to_text(found.get("type")) or "?"
    network = found.get("network")
    if kind not in _TRAINERS:
        said = msg("it trains {model}, which lorabake cannot", model=kind)
        raise make_error(source, said, find_yaml_line(text, "type"))
    if not isinstance(network, dict):
        said = msg("it trains a whole model, not a LoRA: it has no {key}", key="network")
        raise make_error(source, said, find_yaml_line(text, "process"))
    lora = (to_text(cast("dict[str, object]", network).get("type")) or "lora").lower()
    if lora not in _LORA_TYPES:
        said = msg("it trains {model}, which lorabake cannot", model=lora)
        raise make_error(source, said, find_yaml_line(text, "network"))
    return found


def _find_family(source: Source, text: str, process: dict[str, Any]) -> ModelFamily:
    """By ``arch``, or by the older switches such as ``is_xl`` (ModelConfig); the first family if there is neither."""
    model = _get_table(process, "model")
    arch = (to_text(model.get("arch")) or "").partition(":")[0].lower()
    switches = [key for key, value in model.items() if to_switch(value)]
    known = [family for key in switches if (family := find_family_by_other_name(str(key)))]
    other = next((key for key in switches if key in OTHER_SWITCHES), None)
    found = find_family_by_other_name(arch) if arch else known[0] if known else get_family(DEFAULT_FAMILY)
    if found is None or (other and not arch):
        said = msg("it trains {model}, which lorabake cannot", model=arch or str(other).removeprefix("is_"))
        raise make_error(source, said, find_yaml_line(text, "arch" if arch else str(other)))
    matching = [
        key
        for key in (("train", "noise_scheduler"), ("sample", "sampler"))
        if _get_table(process, key[0]).get(key[1]) == "flowmatch"
    ]
    if matching and not arch and not known:
        key = matching[0][1]
        said = msg("{key}: flowmatch is for models other than Stable Diffusion 1.5, 2 and SDXL", key=key)
        raise make_error(source, said, find_yaml_line(text, key))
    return found


def _get_table(process: dict[str, Any], name: str) -> dict[str, object]:
    """Empty if there is none."""
    found = process.get(name)
    return cast("dict[str, object]", found) if isinstance(found, dict) else {}


class _Job:
    """The values of a job by their names below the first process, with ai-toolkit's defaults for those it lacks."""

    def __init__(self, source: Source, table: dict[str, Any], name: str) -> None:
        self.source = source
        self.name = name
        self.ledger = Ledger(flatten(source, table))
        self.ledger.drop_empty_and_secret()

    def find(self, name: str) -> str | None:
        """The key of the source for a name: an older name of it, too."""
        keys = (START + each for each in (name, *ALIASES.get(name, ())))
        return next((key for key in keys if self.ledger.has(key)), None)

    def get(self, name: str) -> object:
        key = self.find(name)
        return DEFAULTS.get(name) if key is None else self.ledger.get(key)

    def text(self, name: str) -> str:
        return (to_text(self.get(name)) or "").replace("[name]", self.name)

    def number(self, name: str) -> int | float | None:
        key = self.find(name)
        found = None if key is None else self.ledger.read_number(key)
        return to_number(DEFAULTS.get(name)) if found is None else found

    def switch(self, name: str) -> bool:
        return to_switch(self.get(name)) is True

    def give(self, option: str, value: OptionValue, *names: str, repair: Message | None = None) -> None:
        """An option that comes from these keys, none of which the source has to have."""
        self.ledger.give(option, value, *filter(None, map(self.find, names)), repair=repair)

    def drop(self, why: Message, *names: str) -> None:
        self.ledger.drop(why, *filter(None, map(self.find, names)))

    def same(self, *names: str) -> None:
        self.ledger.note("default", SAME, *filter(None, map(self.find, names)))

    def read_model(self, family: ModelFamily) -> None:
        self.give("pretrained_model_name_or_path", self.text("model.name_or_path"), "model.name_or_path")
        if self.text("model.vae_path"):
            self.give("vae", self.text("model.vae_path"), "model.vae_path")
        if self.text("model.lora_path"):
            self.give("base_weights", (self.text("model.lora_path"),), "model.lora_path")
        for option, set_to in family.script_options.items():
            self.give(option, set_to.value, "model.arch", "model.is_v2")
        if self.switch("model.is_v_pred"):
            self.give("v_parameterization", True, "model.is_v_pred")
        why = msg("it chooses the training script, as the base model does here")
        self.drop(why, "model.arch", "model.is_xl", "model.is_v2", "type")
        misread = msg("ai-toolkit's own switch is is_xl; it ignores this one")
        self.ledger.note("repaired", misread, *filter(None, [self.find("model.is_sdxl")]))
        self.ledger.drop(why, "job")

    def read_length(self) -> None:
        """Steps are those of the optimizer, but for the older gradient_accumulation_steps, which counts each part."""
        steps, parts = (
            int(self.number("train.steps") or 1),
            to_whole(self.get("train.gradient_accumulation_steps")) or 1,
        )
        whole = int(self.number("train.gradient_accumulation") or 1)
        if parts > 1:
            self.give("max_train_steps", max(1, steps // parts), "train.steps", "train.gradient_accumulation_steps")
            self.give("gradient_accumulation_steps", parts, "train.gradient_accumulation_steps")
        else:
            self.give("max_train_steps", max(1, steps), "train.steps")
            self.give("gradient_accumulation_steps", max(1, whole), "train.gradient_accumulation")
        if parts < 0:
            self.drop(msg("sd-scripts cannot accumulate for a whole epoch"), "train.gradient_accumulation_steps")
        self.same("train.gradient_accumulation_steps", "train.gradient_accumulation")
        self.give("max_grad_norm", self.number("train.max_grad_norm") or 0.0, "train.max_grad_norm")

    def read_rates(self) -> None:
        """The text encoder is not trained unless the job says so; an adaptive optimizer starts at 1."""
        rate = self.number("train.lr") or 0.0
        why = None
        if self.text("train.optimizer").lower().startswith(("prodigy", "dadapt")) and rate < 0.1:
            rate, why = 1.0, msg("ai-toolkit trains with a rate of 1 with this optimizer")
        self.give("learning_rate", rate, "train.lr", repair=why)
        for part, switch, option in (
            ("train.unet_lr", "train.train_unet", "unet_lr"),
            ("train.text_encoder_lr", "train.train_text_encoder", "text_encoder_lr"),
        ):
            own = to_number(self.get(part))
            if self.switch(switch) and own is not None:
                self.give(option, (own,) if option == "text_encoder_lr" else own, part)
            self.drop(msg("this part is not trained"), part)
        if not self.switch("train.train_text_encoder"):
            self.give("network_train_unet_only", True, "train.train_text_encoder")
        elif not self.switch("train.train_unet"):
            self.give("network_train_text_encoder_only", True, "train.train_unet")
        self.same("train.train_unet", "train.train_text_encoder")

    def read_optimizer(self) -> None:
        name = self.text("train.optimizer").lower()
        found = find_optimizer(OPTIMIZERS.get(name, name))
        repair = msg("the trainer has no optimizer of this name; write one that it has") if found is None else None
        self.give("optimizer_type", found or name, "train.optimizer", repair=repair)
        start = START + "train.optimizer_params."
        arguments = {key.removeprefix(start): key for key in self.ledger.list_open(start)}
        texts = [f"{argument}={to_argument(self.ledger.get(key))}" for argument, key in arguments.items()]
        if name in EPSILON_OPTIMIZERS and "eps" not in arguments:
            texts.insert(0, "eps=1e-06")
        if name == "adafactor":
            fixed = ("relative_step", "scale_parameter", "warmup_init")
            texts += [f"{argument}=False" for argument in fixed if argument not in arguments]
        if texts:
            self.ledger.give("optimizer_args", tuple(texts), *arguments.values())

    def read_schedule(self) -> None:
        """Schedulers of torch over all steps (toolkit/scheduler.py), and those of diffusers by name."""
        name, start = self.text("train.lr_scheduler"), START + "train.lr_scheduler_params."
        arguments = {key.removeprefix(start): key for key in self.ledger.list_open(start)}
        warmup = self.ledger.read_whole(arguments.get("num_warmup_steps", ""))
        lowest, rate = self.ledger.read_number(arguments.get("eta_min", "")), self.number("train.lr")
        repair = None
        if name == "linear":
            repair = msg(
                "a linear schedule of ai-toolkit goes up, from a third of the rate; that of sd-scripts goes down"
            )
        elif name in {"step", "lognorm_blend"}:
            name, repair = "constant", msg("sd-scripts has no schedule of this name")
        if name == "constant_with_warmup" or warmup is not None:
            keys = [arguments["num_warmup_steps"]] if warmup is not None else []
            self.ledger.give("lr_warmup_steps", 1000 if warmup is None else warmup, *keys)
        if name == "cosine" and lowest and rate:
            self.give("lr_scheduler", "cosine_with_min_lr", "train.lr_scheduler")
            ratio = float(f"{lowest / rate:.6g}")
            self.ledger.give("lr_scheduler_min_lr_ratio", ratio, arguments["eta_min"])
        else:
            self.give("lr_scheduler", name, "train.lr_scheduler", repair=repair)
        self.ledger.drop(msg("sd-scripts' scheduler has no such argument"), *arguments.values())

    def read_network(self) -> None:
        kind = (self.text("network.type") or "lora").lower()
        rank, alpha = int(self.number("network.linear") or 1), self.number("network.linear_alpha") or 1.0
        conv = to_whole(self.get("network.conv"))
        arguments: dict[str, tuple[str, tuple[str, ...]]] = {}
        if conv:
            size = self.number("network.conv_alpha") or conv
            arguments["conv_dim"] = (str(conv), ("network.conv",))
            arguments["conv_alpha"] = (str(size), ("network.conv_alpha", "network.conv"))
        if kind == "lokr":
            arguments["algo"] = ("lokr", ("network.type",))
            arguments["factor"] = (str(to_whole(self.get("network.lokr_factor")) or -1), ("network.lokr_factor",))
            if self.switch("network.lokr_full_rank"):
                arguments["full_matrix"] = ("True", ("network.lokr_full_rank",))
        elif kind in {"locon", "lycoris", "dora"}:
            arguments["algo"] = ("locon", ("network.type",))
            if kind == "dora":
                arguments["dora_wd"] = ("True", ("network.type",))
        self.give("network_module", "lycoris.kohya" if "algo" in arguments else "networks.lora", "network.type")
        self.give("network_dim", max(1, min(rank, 10_000)), "network.linear")
        self.give("network_alpha", alpha, "network.linear_alpha")
        if arguments:
            keys = dict.fromkeys(name for _, names in arguments.values() for name in names)
            self.give("network_args", tuple(f"{name}={text}" for name, (text, _) in arguments.items()), *keys)
        if self.number("network.dropout"):
            self.give("network_dropout", self.number("network.dropout") or 0.0, "network.dropout")
        if self.text("network.pretrained_lora_path"):
            self.give("network_weights", self.text("network.pretrained_lora_path"), "network.pretrained_lora_path")
        self.drop(msg("the chosen type of network has no such key"), "network.lokr_factor", "network.lokr_full_rank")

    def read_loss(self) -> None:
        loss = {"mae": "l1", "pseudo_huber": "huber", "mse": None}.get(self.text("train.loss_type"), "")
        if loss:
            self.give("loss_type", loss, "train.loss_type")
        elif loss == "":
            self.drop(msg("sd-scripts has no such kind of loss"), "train.loss_type")
        if self.number("train.min_snr_gamma"):
            self.give("min_snr_gamma", self.number("train.min_snr_gamma") or 0.0, "train.min_snr_gamma")
        self.give("noise_offset", self.number("train.noise_offset") or 0.0, "train.noise_offset")
        if self.find("train.reg_weight"):
            self.give("prior_loss_weight", self.number("train.reg_weight") or 0.0, "train.reg_weight")
        for name, option, edge in (
            ("train.min_denoising_steps", "min_timestep", 0),
            ("train.max_denoising_steps", "max_timestep", 999),
        ):
            step = to_whole(self.get(name))
            if step is not None and 0 <= step <= 1000 and (step < edge or (edge == 0 and step > 0)):
                self.give(option, step, name)
        names = ("train.loss_type", "train.min_snr_gamma", "train.min_denoising_steps", "train.max_denoising_steps")
        self.same(*names)
        if self.text("train.noise_scheduler") not in {"ddpm", ""}:
            self.drop(msg("sd-scripts trains Stable Diffusion with the schedule of DDPM"), "train.noise_scheduler")
        self.same("train.noise_scheduler")

    def read_memory(self) -> None:
        precision = PRECISIONS.get(self.text("train.dtype").lower())
        if precision is None:
            self.drop(msg("sd-scripts cannot train or save in this number format"), "train.dtype")
        else:
            self.give("mixed_precision", "no" if precision == "float" else precision, "train.dtype")
        for name, option in (("train.xformers", "xformers"), ("train.sdp", "sdpa")):
            if self.switch(name):
                self.give(option, True, name)
        self.same("train.xformers", "train.sdp")
        self.give("gradient_checkpointing", self.switch("train.gradient_checkpointing"), "train.gradient_checkpointing")

    def read_saves(self, name: str | None) -> None:
        if name:
            self.ledger.give("output_name", name, "config.name")
        if self.text("training_folder"):
            self.give("output_dir", self.text("training_folder"), "training_folder")
        every, kept = int(self.number("save.save_every") or 0), int(self.number("save.max_step_saves_to_keep") or 0)
        if every >= 1:
            self.give("save_every_n_steps", every, "save.save_every")
            if kept >= 1:
                self.give(
                    "save_last_n_steps", max(1, (kept - 1) * every), "save.max_step_saves_to_keep", "save.save_every"
                )
        precision = PRECISIONS.get(self.text("save.dtype").lower())
        if precision is None:
            self.drop(msg("sd-scripts cannot train or save in this number format"), "save.dtype")
        else:
            self.give("save_precision", precision, "save.dtype")
        if self.switch("logging.use_wandb"):
            self.give("log_with", "wandb", "logging.use_wandb")
            for key, option in (("logging.project_name", "log_tracker_name"), ("logging.run_name", "wandb_run_name")):
                if self.text(key):
                    self.give(option, self.text(key), key)
        self.drop(
            msg("logging to Weights & Biases is off"), "logging.use_wandb", "logging.project_name", "logging.run_name"
        )

    def read_samples(self) -> tuple[str, ...]:
        """Prompts, or samples with settings of their own; samples are made before the first step, too."""
        start = START + "sample."
        listed = self.get("sample.prompts")
        items = cast("list[object]", listed) if isinstance(listed, list) else []
        tables: list[dict[str, str]] = [{"prompt": text} for item in items if (text := to_text(item))]
        index = 0
        while keys := self.ledger.list_open(f"{start}samples[{index}]."):
            entry = {key.rpartition(".")[2]: to_text(self.ledger.get(key)) or "" for key in keys}
            tables.append(entry) if entry.get("prompt") else None
            self.ledger.note("computed", msg("one line of sample.prompts"), *keys, to="sample.prompts")
            index += 1
        prompts = tuple(self._write_prompt(entry, at) for at, entry in enumerate(tables))
        names = ("prompts", "neg", "seed", "walk_seed", "guidance_scale", "sample_steps", "width", "height")
        every = int(self.number("sample.sample_every") or 0)
        if not prompts or every < 1 or self.switch("train.disable_sampling"):
            self.drop(msg("there are no prompts for samples"), *self.list_names("sample."))
            return ()
        self.ledger.note(
            "computed",
            msg("part of each line of sample.prompts"),
            *(start + name for name in names),
            to="sample.prompts",
        )
        self.give("sample_every_n_steps", every, "sample.sample_every")
        if not self.switch("train.skip_first_sample"):
            self.give("sample_at_first", True, "train.skip_first_sample")
        self.same("train.skip_first_sample")
        return prompts

    def list_names(self, table: str) -> list[str]:
        """The names in a table that are not settled yet."""
        return [key.removeprefix(START) for key in self.ledger.list_open(START + table)]

    def _write_prompt(self, entry: dict[str, str], at: int) -> str:
        trigger = self.text("trigger_word")
        text = entry["prompt"].replace("[name]", self.name)
        line = " ".join((text.replace("[trigger]", trigger) if trigger else text).split())
        seed = to_whole(entry.get("seed") or self.get("sample.seed")) or 0
        if self.switch("sample.walk_seed") and "seed" not in entry:
            seed += at
        values = {"n": entry.get("neg") or self.text("sample.neg"), "d": str(seed)}
        for mark, name in (("w", "width"), ("h", "height"), ("l", "guidance_scale"), ("s", "sample_steps")):
            values[mark] = entry.get(name) or to_text(self.get(f"sample.{name}")) or ""
        marks = re.findall(r"--(\w+)", line)
        added = (
            f" --{mark} {' '.join(value.split())}" for mark, value in values.items() if value and mark not in marks
        )
        return line + "".join(added)

    def read_datasets(self, listed: object) -> tuple[ForeignDataset, ...]:
        tables = cast("list[object]", listed) if isinstance(listed, list) else []
        found: list[ForeignDataset] = []
        cached: list[bool] = []
        for index, table in enumerate(tables):
            if isinstance(table, dict):
                entry = JobDataset(self, f"datasets[{index}].")
                found += entry.read()
                cached.append(entry.switch("cache_latents") or entry.switch("cache_latents_to_disk"))
                entry.settle_caches()
        names = [f"datasets[{index}].cache_latents_to_disk" for index in range(len(tables))]
        if cached:
            self.give("cache_latents", all(cached))
            self.give("cache_latents_to_disk", all(cached) and all(self.switch(name) for name in names))
        self.drop(msg("each dataset has its trigger word"), "trigger_word")
        self.same("train.batch_size")
        return tuple(found)

    def read_rest(self) -> None:
        for key in self.ledger.list_open():
            name = key.removeprefix(START)
            generic = re.sub(r"\[\d+\]", "[]", name)
            table = generic.partition(".")[0]
            why = DROPPED.get(generic) or DROPPED.get(".".join(generic.split(".")[:2])) or DROPPED.get(table)
            if key.startswith("config.process[") and not key.startswith(START):
                why = msg("only the first process of a job is imported")
            self.ledger.note("dropped" if why else "unknown", why or UNKNOWN, key)
