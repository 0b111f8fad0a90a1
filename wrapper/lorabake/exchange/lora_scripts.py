"""TOML files of lora-scripts, the SD-trainer of Akegarasu: what its window exports and keeps, presets, config/*.toml.

The window turns its fields into sd-scripts' options before a training (``parseParams`` in its JavaScript), and its
server makes the sample prompt (mikazuki/app/api.py). An exported file has the options; a draft or a preset has the
fields. The older config/default.toml and config/lora.toml are sd-scripts' own --config_file in sections.
"""

from __future__ import annotations

import tomllib
from typing import TYPE_CHECKING, Any, cast

from lorabake.exchange.convert import to_argument, to_number, to_numbers, to_switch, to_text, to_whole
from lorabake.exchange.foreign import UNSET, ForeignConfig
from lorabake.exchange.ledger import Ledger
from lorabake.exchange.optimizers import find_optimizer
from lorabake.exchange.reading import find_toml_line, flatten, make_error, parse_toml_table
from lorabake_schemas.families.registry import find_family_by_other_name
from lorabake_schemas.messages import Message, msg

if TYPE_CHECKING:
    from lorabake.exchange.foreign import Source

FORMAT = "lora-scripts"
PROGRAM = msg("lora-scripts (SD-trainer)")
_FIELDS = (
    "lycoris_algo", "conv_dim", "conv_alpha", "dropout", "dylora_unit", "lokr_factor", "train_norm", "down_lr_weight",
    "mid_lr_weight", "up_lr_weight", "block_lr_zero_threshold", "enable_block_weights", "enable_preview",
    "network_args_custom", "optimizer_args_custom", "enable_base_weight", "prodigy_d0", "prodigy_d_coef",
    "ui_custom_params",
)  # fmt: skip
_SAMPLES = (
    "positive_prompts", "negative_prompts", "sample_width", "sample_height", "sample_cfg", "sample_seed",
    "sample_steps", "randomly_choice_prompt", "prompt_file", "sample_prompts", "sample_sampler",
    "sample_every_n_epochs", "sample_every_n_steps",
)  # fmt: skip
# Of a prompt line of sd-scripts: the field it comes from, and the server's default.
_PROMPT_MARKS = (
    ("n", "negative_prompts", ""), ("w", "sample_width", "512"), ("h", "sample_height", "512"),
    ("l", "sample_cfg", "7"), ("s", "sample_steps", "24"), ("d", "sample_seed", "2333"),
)  # fmt: skip
_ONLY_SD12 = ("v2", "clip_skip", "stop_text_encoder_training", "learning_rate_te")
_RENAMED = {"lr_restart_cycles": "lr_scheduler_num_cycles"}
_NO_EFFECT = msg("it chooses which fields the window shows, and has no effect itself")
_OFF = msg("the part of the window that it belongs to is off")
_NOT_THIS_NETWORK = msg("the chosen network has no such argument")
_UNKNOWN = msg("sd-scripts has no such option for LoRA training")
_SELECTS = msg("it chooses the training script, as the base model does here")


def read_lora_scripts(source: Source) -> ForeignConfig:
    """Raises RecipeError for a damaged file and for what does not train a LoRA for Stable Diffusion."""
    text, table = parse_toml_table(source)
    values = _flatten_sections(source, table)
    kind = to_text(values.get("model_train_type")) or _guess_kind(table)
    family = find_family_by_other_name(kind)
    if family is None:
        line = find_toml_line(text, "model_train_type") or find_toml_line(text, "metadata")
        raise make_error(source, msg("it trains {model}, which lorabake cannot", model=kind), line)
    ledger = Ledger(values)
    is_draft = any(field in values for field in _FIELDS)
    _apply_custom_text(ledger)
    ledger.drop_empty_and_secret()
    ledger.drop(_SELECTS, "model_train_type")
    ledger.drop(msg("it describes the preset"), *(key for key in ledger.list_open() if key.startswith("metadata.")))
    prompts = _read_samples(ledger)
    _read_network(ledger)
    _read_optimizer(ledger, is_draft=is_draft)
    _read_launch(ledger)
    if "clip_skip" in family.ignored_options and is_draft:
        _leave_out_for_sdxl(ledger)
    _read_rest(ledger)
    name = ledger.options.get("output_name")
    return ForeignConfig(
        format=FORMAT,
        program=PROGRAM,
        script=family.script,
        name=name.value if name is not None and isinstance(name.value, str) else None,
        options=ledger.options,
        launch=ledger.launch,
        prompts=prompts,
        keys=tuple(ledger.lines),
    )


def _flatten_sections(source: Source, table: dict[str, Any]) -> dict[str, object]:
    """Options without the sections that they are in, as sd-scripts reads them; a preset's are under [data]."""
    found: dict[str, object] = {}
    for key, value in flatten(source, table).items():
        section, _, option = key.rpartition(".")
        found[key if not option or section.startswith("metadata") else option] = value
    return found


def _guess_kind(table: dict[str, Any]) -> str:
    """A preset names the page of the window; a file without anything is of the first page."""
    about = table.get("metadata")
    page = to_text(cast("dict[str, object]", about).get("train_type")) if isinstance(about, dict) else None
    return page if page and not page.startswith(("lora-", "sd-lora")) else "sd-lora"


def _apply_custom_text(ledger: Ledger) -> None:
    """The window's text field of TOML replaces whatever the other fields have."""
    key = "ui_custom_params"
    text = to_text(ledger.get(key))
    if text is None:
        return
    try:
        custom = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError, ValueError):
        ledger.drop(msg("it is not valid TOML, and the program ignores it"), key)
        return
    for name, value in custom.items():
        if not isinstance(value, dict):
            ledger.replace(name, value)
    ledger.note("computed", msg("its options replaced those of the other fields"), key)


def _read_samples(ledger: Ledger) -> tuple[str, ...]:
    """The server writes one prompt with its settings into a file (get_sample_prompts)."""
    if to_switch(ledger.get("enable_preview")) is False:
        ledger.drop(_OFF, *_SAMPLES)
    ledger.note("computed", _NO_EFFECT, "enable_preview")
    if ledger.has("prompt_file"):
        ledger.take_text("prompt_file", "sample_prompts")
        ledger.drop(msg("the prompt file replaces it"), *_SAMPLES[:8], "sample_prompts")
        return ()
    if to_switch(ledger.get("randomly_choice_prompt")) and ledger.is_open("randomly_choice_prompt"):
        ledger.drop(msg("a random caption of the dataset was the prompt; write sample.prompts instead"), *_SAMPLES[:8])
        return ()
    if not ledger.has("positive_prompts"):
        ledger.drop(msg("there is no prompt that it belongs to"), *_SAMPLES[1:8])
        return ()
    if not ledger.is_open("positive_prompts"):
        return ()
    line = " ".join(str(to_text(ledger.get("positive_prompts"))).split())
    for mark, key, default in _PROMPT_MARKS:
        value = to_text(ledger.get(key)) or default
        line += f" --{mark} {' '.join(value.split())}" if value else ""
    ledger.note("computed", msg("one line of sample.prompts"), *_SAMPLES[:8], to="sample.prompts")
    return (line,)


def _read_network(ledger: Ledger) -> None:
    """The arguments of the network: those of an exported file, and those that its fields become."""
    module = to_text(ledger.get("network_module")) or "networks.lora"
    arguments: dict[str, tuple[str, str]] = {}  # name: (text, key of the source)
    for text in _list_texts(ledger.get("network_args")):
        name, _, value = text.partition("=")
        arguments[name.strip()] = (value.strip(), "network_args")
    for name, key in _list_network_fields(ledger, module).items():
        if ledger.has(key):
            arguments[name] = (to_argument(ledger.get(key)), key)
    for text in _list_texts(ledger.get("network_args_custom")):
        name, _, value = text.partition("=")
        arguments[name.strip()] = (value.strip(), "network_args_custom")
    arguments = {name: found for name, found in arguments.items() if name and found[0]}
    if arguments:
        keys = tuple(dict.fromkeys(key for _, key in arguments.values()))
        ledger.give("network_args", tuple(f"{name}={text}" for name, (text, _) in arguments.items()), *keys)
    ledger.note("off", None, "network_args", "network_args_custom")
    ledger.note("computed", _NO_EFFECT, "enable_block_weights")
    unused = ("lycoris_algo", "conv_dim", "conv_alpha", "dropout", "lokr_factor", "train_norm", "dylora_unit")
    ledger.drop(_NOT_THIS_NETWORK, *unused)
    ledger.drop(_OFF, "down_lr_weight", "mid_lr_weight", "up_lr_weight", "block_lr_zero_threshold")
    _read_base_weights(ledger)


def _list_network_fields(ledger: Ledger, module: str) -> dict[str, str]:
    """Arguments of the network by name, and the fields that they come from (parseParams)."""
    found: dict[str, str] = {}
    if module == "lycoris.kohya" and ledger.has("lycoris_algo"):
        found = {"conv_dim": "conv_dim", "conv_alpha": "conv_alpha", "dropout": "dropout", "algo": "lycoris_algo"}
        if ledger.has("lokr_factor"):
            found["factor"] = "lokr_factor"
        if to_switch(ledger.get("train_norm")):
            found["train_norm"] = "train_norm"
    elif module == "networks.dylora":
        found["unit"] = "dylora_unit"
    if to_switch(ledger.get("enable_block_weights")):
        names = ("down_lr_weight", "mid_lr_weight", "up_lr_weight", "block_lr_zero_threshold")
        found |= dict(zip(names, names, strict=True))
    return found


def _list_texts(value: object) -> list[str]:
    items = cast("list[object]", value) if isinstance(value, list) else [value]
    return [text for item in items if (text := to_text(item)) is not None]


def _read_base_weights(ledger: Ledger) -> None:
    """LoRA files that are merged into the base model first, one in each line of the field."""
    if to_switch(ledger.get("enable_base_weight")) is False:
        ledger.drop(_OFF, "base_weights", "base_weights_multiplier")
    ledger.note("computed", _NO_EFFECT, "enable_base_weight")
    weights = ledger.get("base_weights")
    if isinstance(weights, str) and ledger.is_open("base_weights"):
        paths = [path for line in weights.splitlines() if (path := line.strip())]
        ledger.give("base_weights", tuple(paths), "base_weights")
    factors = ledger.get("base_weights_multiplier")
    if isinstance(factors, str) and ledger.is_open("base_weights_multiplier"):
        numbers = to_numbers(",".join(factors.split()))
        if numbers is not None:
            ledger.give("base_weights_multiplier", numbers, "base_weights_multiplier")


def _read_optimizer(ledger: Ledger, *, is_draft: bool) -> None:
    """The optimizer under the trainer's name, and the arguments that the window adds for some (parseParams)."""
    name = to_text(ledger.get("optimizer_type"))
    arguments = [(text, "optimizer_args") for text in _list_texts(ledger.get("optimizer_args"))]
    if name and is_draft:
        arguments += [(text, key) for text, key in _list_added_arguments(ledger, name.lower())]
    arguments += [(text, "optimizer_args_custom") for text in _list_texts(ledger.get("optimizer_args_custom"))]
    last = {text.partition("=")[0].strip(): (text, key) for text, key in arguments if "=" in text}
    if last:
        keys = tuple(dict.fromkeys(key for _, key in last.values()))
        ledger.give("optimizer_args", tuple(text for text, _ in last.values()), *keys)
    ledger.note("off", None, "optimizer_args", "optimizer_args_custom")
    ledger.drop(msg("only Prodigy has it"), "prodigy_d0", "prodigy_d_coef")
    if name:
        found = find_optimizer(name) or name
        repair = None
        if found.lower() != name.lower():
            repair = msg("the trainer has {name} as {found}", name=name, found=found)
        ledger.give("optimizer_type", found, "optimizer_type", repair=repair)
        if is_draft and name.lower().startswith("dada"):
            _set_rates_to_one(ledger)


def _list_added_arguments(ledger: Ledger, name: str) -> list[tuple[str, str]]:
    kind = "optimizer_type"
    if name in {"dadaptation", "dadaptadam"}:
        return [("decouple=True", kind), ("weight_decay=0.01", kind)]
    if name != "prodigy":
        return []
    added = [("decouple=True", kind), ("weight_decay=0.01", kind), ("use_bias_correction=True", kind)]
    added.append((f"d_coef={to_text(ledger.get('prodigy_d_coef')) or '2.0'}", "prodigy_d_coef"))
    if to_number(ledger.get("lr_warmup_steps")):
        added.append(("safeguard_warmup=True", "lr_warmup_steps"))
    if ledger.has("prodigy_d0"):
        added.append((f"d0={to_text(ledger.get('prodigy_d0'))}", "prodigy_d0"))
    return [(text, key if ledger.has(key) else kind) for text, key in added]


def _set_rates_to_one(ledger: Ledger) -> None:
    why = msg("the program trains D-Adaptation with a rate of 1, whatever is written")
    for key in ("learning_rate", "unet_lr", "text_encoder_lr"):
        if ledger.has(key) and to_number(ledger.get(key)) != 1:
            ledger.give(key, 1.0, key, repair=why)


def _read_launch(ledger: Ledger) -> None:
    """Which GPUs, and a process for each (mikazuki/process.py)."""
    texts = _list_texts(ledger.get("gpu_ids"))
    found = [to_whole(text.removeprefix("GPU ").partition(":")[0]) for text in texts]
    numbers = [number for number in found if number is not None]
    if numbers:
        ledger.give("gpu_ids", ",".join(map(str, numbers)), "gpu_ids", into=ledger.launch)
        if len(numbers) > 1:
            ledger.give("num_processes", len(numbers), "gpu_ids", into=ledger.launch)


def _leave_out_for_sdxl(ledger: Ledger) -> None:
    ledger.drop(msg("the program leaves it out for SDXL"), *_ONLY_SD12)
    why = msg("the program leaves it out for SDXL, so it would have trained without it")
    for key in ("v_parameterization", "scale_v_pred_loss_like_noise_pred"):
        if to_switch(ledger.get(key)):
            ledger.give(key, True, key, repair=why, trained=UNSET)


def _read_rest(ledger: Ledger) -> None:
    for key in ledger.list_open():
        if key in _RENAMED:
            why: Message = msg("sd-scripts has no such option and ignores it")
            rounds = to_whole(ledger.get(key))
            if rounds:
                ledger.give(_RENAMED[key], rounds, key, repair=why, trained=UNSET)
        elif key == "max_token_length" and (to_whole(ledger.get(key)) or 0) > 225:
            why = msg("sd-scripts sees captions in parts of 75 tokens, so this is 225")
            ledger.give(key, 225, key, repair=why)
        elif not ledger.take_option(key, key):
            ledger.note("unknown", _UNKNOWN, key)
    ledger.settle_rest(_UNKNOWN)
