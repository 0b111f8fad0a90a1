"""A preset of the kohya_ss GUI (JSON) as options of sd-scripts: what its author meant, and what the GUI trains.

Both are worked out by the same rules, those of ``train_model`` in kohya_gui/lora_gui.py (bmaltais/kohya_ss 45088f04):
once with the zeros and epochs that the GUI loses, once as the GUI does it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

from lorabake.errors import RecipeError
from lorabake.exchange.command_line import read_arguments
from lorabake.exchange.foreign import UNSET, ForeignConfig, Given, Source, Unset
from lorabake.exchange.kohya_gui.fields import (
    COPIED,
    FAMILY_BOXES,
    FAMILY_TYPES,
    FRESH,
    LAUNCH,
    LORA_KEYS,
    LORA_TYPES,
    NOISE_FIELDS,
    OTHER_TABS,
    RENAMED,
    SDXL,
    ZEROS_THAT_COUNT,
    LoraType,
    Value,
)
from lorabake.exchange.kohya_gui.lines import make_lines
from lorabake.exchange.kohya_gui.network import build_network_args, split_arguments
from lorabake.exchange.kohya_gui.state import PresetError, State, find_line, load_state, read_preset
from lorabake.exchange.kohya_gui.steps import count_steps
from lorabake.exchange.sd_toml import with_dataset_file
from lorabake.util import resources
from lorabake_schemas.base import OptionValue
from lorabake_schemas.families.known_models import guess_family
from lorabake_schemas.families.registry import (
    DEFAULT_FAMILY,
    find_family_by_other_name,
    find_family_of_run,
    get_family,
)
from lorabake_schemas.import_report import ImportedKey
from lorabake_schemas.messages import Message, msg
from lorabake_schemas.options import Option
from lorabake_schemas.plan import Script
from lorabake_schemas.values import format_value

_LENGTH = ("max_train_epochs", "max_train_steps")


@dataclass(frozen=True, slots=True)
class _Chosen:
    """An option's value, the fields that it comes from, and why it is not simply their value."""

    value: OptionValue
    fields: tuple[str, ...]
    repair: Message | None = None


class _Reading:
    """One way to read a preset: what was ``meant``, or what the GUI does (which passes no zero on)."""

    def __init__(self, state: State, script: Script, *, meant: bool) -> None:
        self.state, self.script, self.meant = state, script, meant
        self.options: dict[str, _Chosen] = {}

    def get(self, field: str) -> Value | None:
        """None for a number that its author left empty."""
        return self.state[field].meant if self.meant else self.state[field].read

    def number(self, field: str) -> float:
        value = self.get(field)
        return value if isinstance(value, int | float) else 0

    def text(self, field: str) -> str:
        return str(self.get(field) or "")

    def put(
        self, option: str, value: Value | tuple[float, ...] | None, *fields: str, repair: Message | None = None
    ) -> None:
        """Pass the value on, unless the GUI would not. A zero of which nobody meant anything is left out, too."""
        if value is None or value is False or value == "":
            return
        if value == 0 and not (self.meant and option in ZEROS_THAT_COUNT):
            return
        fitted = value if isinstance(value, tuple) else _fit(self.script, option, value, self.state[fields[0]].key)
        self.options[option] = _Chosen(fitted, fields, repair)


def read_kohya_gui(source: Source) -> ForeignConfig:
    """Raises RecipeError for a file that is damaged, has a value of the wrong kind, or trains another family."""
    found = read_preset(source)
    try:
        _refuse_tabs(found)
        state = load_state(found)
        _refuse_families(state)
        script = _find_script(state)
        meant, trained = _Reading(state, script, meant=True), _Reading(state, script, meant=False)
        for reading in (meant, trained):
            _choose(reading, source.path.parent)
    except PresetError as error:
        line = find_line(source.content, error.key)
        said = msg("{file}, line {line}: {key}: {why}", file=source.path, line=line, key=error.key, why=error.why)
        raise RecipeError(said) from error
    options = {name: _with_text(given, found) for name, given in _merge(meant, trained)}
    arguments = read_arguments(meant.text("additional_parameters").replace('"', "").split())
    replaced = {key for name in arguments.options if name in options for key in options[name].keys}
    replaced |= {field for field in COPIED if RENAMED.get(field, field) in arguments.options}
    for name, given in arguments.options.items():
        options[name] = replace(given, keys=tuple(f"additional_parameters {key}" for key in given.keys))
    _leave_out_placeholders(options, state, script)
    prompts = [line.strip() for line in meant.text("sample_prompts").splitlines()]
    prompts = [line for line in prompts if line and not line.startswith("#")]
    if prompts and state["sample_prompts"].key:
        options["sample_prompts"] = Given(value="\n".join(prompts), keys=("sample_prompts",))
    launch = dict(_choose_launch(meant))
    used = {key for given in (*options.values(), *launch.values()) for key in given.keys}
    used |= {"additional_parameters"} if meant.text("additional_parameters") else set()
    lines = (*make_lines(found, state, used, replaced), *arguments.keys)
    config = ForeignConfig(
        format="kohya-gui",
        program=msg("the kohya_ss GUI"),
        script=script,
        name=str(options["output_name"].value) if "output_name" in options else None,
        options=options,
        launch=launch,
        prompts=tuple(prompts),
        keys=lines,
        missing=(_note_family(script),) if state[SDXL].meant and not state[SDXL].key else (),
    )
    return with_dataset_file(config, source, separate=False)


def _note_family(script: Script) -> ImportedKey:
    why = msg("the preset does not have sdxl; the family is a guess from the name of the base model")
    family = find_family_of_run([script], {}).name
    return ImportedKey(key="base.family", value=family, fate="unknown", to="base.family", why=why)


def _find_script(state: State) -> Script:
    family = find_family_by_other_name(SDXL) if state[SDXL].meant else None
    return (family or get_family(DEFAULT_FAMILY)).script


def list_gui_options(preset: Mapping[str, object]) -> Mapping[str, OptionValue]:
    """What the GUI passes on to sd-scripts, without its "Additional parameters". Raises PresetError."""
    state = load_state(preset)
    trained = _Reading(state, _find_script(state), meant=False)
    _choose(trained, Path())
    return {option: chosen.value for option, chosen in trained.options.items()}


def _leave_out_placeholders(options: dict[str, Given], state: State, script: Script) -> None:
    """What a new GUI shows and nobody chose: a name for every LoRA, and a base model of another family."""
    family = find_family_of_run([script], {"v2": bool(state["v2"].meant)})
    for field in ("output_name", "pretrained_model_name_or_path"):
        fresh = str(FRESH[field])
        if state[field].meant == fresh and (field == "output_name" or guess_family(fresh) != family.name):
            options.pop(field, None)


def _refuse_tabs(found: Mapping[str, object]) -> None:
    """Only what the LoRA tab saves is read. Raises PresetError."""
    mark = next((key for key in OTHER_TABS if key in found), None)
    if mark is not None and (OTHER_TABS[mark] == "LECO" or not LORA_KEYS & found.keys()):
        why = msg(
            "saved in the {tab} tab of the GUI; lorabake trains LoRAs, as its LoRA tab does", tab=OTHER_TABS[mark]
        )
        raise PresetError(mark, why)


def _refuse_families(state: State) -> None:
    """Only SD1.5, SD2 and SDXL are trained. Raises PresetError."""
    for box, family in FAMILY_BOXES.items():
        if state[box].meant:
            raise PresetError(box, msg("lorabake does not train {family}", family=family))
    lora_type = str(state["LoRA_type"].meant)
    if lora_type in FAMILY_TYPES:
        raise PresetError("LoRA_type", msg("lorabake does not train {family}", family=FAMILY_TYPES[lora_type]))
    if lora_type not in LORA_TYPES:
        names = ", ".join(LORA_TYPES)
        raise PresetError("LoRA_type", msg('unknown type "{name}"; known are: {names}', name=lora_type, names=names))


def _merge(meant: _Reading, trained: _Reading) -> Iterable[tuple[str, Given]]:
    for option in dict.fromkeys((*meant.options, *trained.options)):
        said, done = meant.options.get(option), trained.options.get(option)
        chosen = said or done
        if chosen is None:
            continue
        default = _load_options(meant.script).get(option)
        unset = UNSET if default is None or default.default is None else default.default
        same = (said.value if said else unset) == (done.value if done else unset)
        if same and None in (said, done) and option not in _LENGTH:
            continue  # sd-scripts' own default, passed on or not
        value: OptionValue | Unset = said.value if said else UNSET
        really: OptionValue | Unset = done.value if done else UNSET
        parts = [meant.state[field] for field in chosen.fields]
        keys = tuple(dict.fromkeys(part.key for part in parts if part.key))
        repair = chosen.repair or next((part.repair for part in parts if part.repair), None)
        if said and said.repair and not done and option == "max_train_epochs" and "max_train_steps" in trained.options:
            steps = str(trained.options["max_train_steps"].value)
            repair = msg(
                "{why} (meant: max_train_epochs = {n}; trained: max_train_steps = {steps})",
                why=said.repair,
                n=str(said.value),
                steps=steps,
            )
        yield option, Given(value=value, keys=keys, repair=repair, trained=None if really == value else really)


def _with_text(given: Given, found: Mapping[str, object]) -> Given:
    """With what each key has in the file, for the report."""
    if len(given.keys) < 2:
        return given
    return replace(given, written={key: format_value(found.get(key)) for key in given.keys})


def _choose(reading: _Reading, folder: Path) -> None:
    _choose_copied(reading)
    for field in NOISE_FIELDS.get(reading.text("noise_offset_type"), ()):
        reading.put(field, reading.get(field), field)
    if reading.get(SDXL):
        reading.put("cache_text_encoder_outputs", reading.get("sdxl_cache_text_encoder_outputs"),
                    "sdxl_cache_text_encoder_outputs")  # fmt: skip
        reading.put("no_half_vae", reading.get("sdxl_no_half_vae"), "sdxl_no_half_vae")
    if reading.text("xformers") in ("xformers", "sdpa"):
        reading.put(reading.text("xformers"), True, "xformers")
    if reading.text("dynamo_backend") != "no":
        reading.put("dynamo_backend", reading.get("dynamo_backend"), "dynamo_backend")
    if reading.text("log_with") in ("wandb", "all"):
        name = "wandb_run_name" if reading.text("wandb_run_name") else "output_name"
        reading.put("wandb_run_name", reading.get(name), name)
    reading.put("seed", reading.get("seed"), "seed")
    workers = int(reading.number("max_data_loader_n_workers"))
    reading.options["max_data_loader_n_workers"] = _Chosen(workers, ("max_data_loader_n_workers",))
    _choose_rates(reading)
    _choose_length(reading, folder)
    _choose_warmup(reading)
    _choose_cycles(reading)
    _choose_network(reading)
    for field in ("optimizer_args", "lr_scheduler_args"):
        given = split_arguments(reading.text(field), meant=reading.meant)
        if given:
            reading.options[field] = _Chosen(tuple(given), (field,))


def _choose_copied(reading: _Reading) -> None:
    for field in COPIED:
        reading.put(RENAMED.get(field, field), reading.get(field), field)
    if reading.meant and reading.get("network_alpha") == 0 and reading.number("network_dim"):
        why = msg("sd-scripts takes 0 as the rank; the GUI passes no 0 on, so that sd-scripts uses 1")
        reading.put("network_alpha", reading.get("network_dim"), "network_alpha", repair=why)
    if reading.get("train_inpainting") and not reading.meant:
        for option in ("cache_latents", "cache_latents_to_disk"):
            reading.options.pop(option, None)


def _choose_rates(reading: _Reading) -> None:
    """A part whose own rate is 0 is not trained, unless both are 0 (resolve_network_train_flags)."""
    encoder, unet, second = reading.get("text_encoder_lr"), reading.get("unet_lr"), reading.number("t5xxl_lr")
    if not (encoder or unet or reading.get("learning_rate")):
        raise PresetError("learning_rate", msg("all learning rates are 0, so that nothing would be trained"))
    if second and encoder == 0:
        raise PresetError("t5xxl_lr", msg("the GUI refuses a t5xxl_lr without a text_encoder_lr"))
    if isinstance(encoder, float | int) and encoder:
        both: OptionValue = (float(encoder), float(second)) if second and second != encoder else float(encoder)
        reading.options["text_encoder_lr"] = _Chosen(both, ("text_encoder_lr", *(("t5xxl_lr",) if second else ())))
    reading.put("unet_lr", unet, "unet_lr")
    if encoder == 0 and unet != 0:
        reading.put("network_train_unet_only", True, "text_encoder_lr")
    if unet == 0 and encoder != 0:
        reading.put("network_train_text_encoder_only", True, "unet_lr")


def _choose_length(reading: _Reading, folder: Path) -> None:
    """The GUI turns its epochs into steps if max_train_steps is 0, and trains 1600 if the preset does not have it."""
    epochs, steps = int(reading.number("max_train_epochs")), int(reading.number("max_train_steps"))
    if epochs > 0:
        return reading.put("max_train_epochs", epochs, "max_train_epochs")
    by_epoch = int(reading.number("epoch")) if reading.state["epoch"].key else 0
    if steps > 0 and (not reading.meant or reading.state["max_train_steps"].key or not by_epoch):
        return reading.put("max_train_steps", steps, "max_train_steps")
    if reading.meant:
        why = None
        if steps > 0:
            why = msg("the preset has no max_train_steps, so that the GUI trains {n} steps whatever epoch is", n=steps)
        elif reading.text("dataset_config"):
            why = msg("with a dataset file the GUI ignores epoch, and sd-scripts trains its default of 1600 steps")
        return reading.put("max_train_epochs", by_epoch or int(reading.number("epoch")), "epoch", repair=why)
    if reading.text("dataset_config"):
        return None
    counted = count_steps(
        folder / reading.text("train_data_dir"),
        batch=int(reading.number("train_batch_size")),
        accumulated=int(reading.number("gradient_accumulation_steps")),
        epochs=int(reading.number("epoch")),
        regularized=bool(reading.text("reg_data_dir")),
    )
    if counted is None:
        return reading.put("max_train_epochs", int(reading.number("epoch")), "epoch")
    return reading.put("max_train_steps", counted, "epoch")


def _choose_warmup(reading: _Reading) -> None:
    """Steps as a whole number; a percentage as a share of all steps (resolve_lr_warmup_steps)."""
    steps, percent = reading.number("lr_warmup_steps"), reading.number("lr_warmup")
    dataset, length = reading.text("dataset_config"), int(reading.number("max_train_steps"))
    if dataset and not length and not reading.meant:
        steps = 0
    in_steps = bool(dataset) and length > 0 and (not reading.meant or "max_train_steps" in reading.options)
    field = "lr_warmup_steps" if steps > 0 else "lr_warmup"
    chosen: float = int(steps) if steps > 0 else round(percent * length / 100) if in_steps else percent / 100
    constant = reading.text("lr_scheduler") == "constant" and not reading.text("lr_scheduler_type")
    if chosen and not (constant and reading.meant):  # the page clears it for this scheduler; sd-scripts refuses both
        reading.options["lr_warmup_steps"] = _Chosen(chosen, (field,))


def _choose_cycles(reading: _Reading) -> None:
    """Older editions took the number of epochs where it was empty."""
    cycles = reading.get("lr_scheduler_num_cycles")
    if cycles is None and reading.text("lr_scheduler") == "cosine_with_restarts":
        return reading.put("lr_scheduler_num_cycles", reading.get("epoch"), "lr_scheduler_num_cycles", "epoch")
    return reading.put("lr_scheduler_num_cycles", cycles or 1, "lr_scheduler_num_cycles")


def _choose_network(reading: _Reading) -> None:
    lora_type: LoraType = LORA_TYPES[reading.text("LoRA_type")]
    reading.put("network_module", lora_type.module, "LoRA_type")
    arguments = build_network_args(lora_type, reading.get, meant=reading.meant)
    if arguments:
        fields = tuple(dict.fromkeys(field for _, fields in arguments for field in fields))
        texts = tuple(dict.fromkeys(text for text, _ in arguments))
        reading.options["network_args"] = _Chosen(texts, fields)


def _choose_launch(reading: _Reading) -> Iterable[tuple[str, Given]]:
    for field in LAUNCH:
        value, key = reading.get(field), reading.state[field].key
        if key and value and field != "extra_accelerate_launch_args" and value != "default":
            whole = isinstance(value, float) and value.is_integer()
            yield field, Given(value=int(value) if whole else value, keys=(key,))


@cache
def _load_options(script: Script) -> Mapping[str, Option]:
    return {option.name: option for option in resources.load_snapshot().of(script)}


def _fit(script: Script, option: str, value: Value, key: str | None) -> Value:
    """A whole number where sd-scripts has one, though JSON has 64.0. Raises PresetError for another number."""
    known = _load_options(script).get(option)
    if known is not None and known.type == "int" and isinstance(value, float):
        if not value.is_integer():
            raise PresetError(key or option, msg("must be a whole number"))
        return int(value)
    return value
