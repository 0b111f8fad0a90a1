"""Compiled files as a preset of the kohya_ss GUI. What its fields cannot say goes into "Additional parameters".

The preset is read back by the rules of the GUI (exchange/kohya_gui.py), so that every difference is known.
"""

from __future__ import annotations

import math
import shlex
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, cast

from lorabake.exchange.compiled_source import CompiledSource, move_presets
from lorabake.exchange.kohya_gui.fields import (
    CHOICES,
    COPIED,
    FRESH,
    LIMITS,
    LORA_TYPES,
    LORAPLUS,
    LYCORIS_ARGUMENTS,
    RENAMED,
    SDXL,
    Value,
)
from lorabake.exchange.kohya_gui.reader import list_gui_options
from lorabake.exchange.trained import read_network
from lorabake.planning.settings_network import ALPHA_IGNORED_BY, RANK_IGNORED_BY
from lorabake.util import resources
from lorabake_schemas.export_report import ExportedKey
from lorabake_schemas.families.registry import find_family_by_other_name
from lorabake_schemas.messages import Message, msg
from lorabake_schemas.options import Option
from lorabake_schemas.sd_scripts import is_lycoris
from lorabake_schemas.values import format_value

State = dict[str, Value]
# Fields whose fresh value does what sd-scripts does without the option.
_NEUTRAL = {"clip_skip": 1, "max_token_length": 75, "max_timestep": 1000}
# What the GUI makes itself, or passes on without an effect.
_OWN = frozenset({"sample_prompts", "dataset_config", "network_args"})
_OFF = frozenset({"False", "0", "0.0"})
_TYPE_BY_MODULE = {"networks.lora_fa": "LoRA-FA", "networks.dylora": "Kohya DyLoRA", "networks.loha": "Kohya LoHa",
                   "networks.lokr": "Kohya LoKr"}  # fmt: skip
# Numbers that are the network's own without the argument, if they are not 0; of LyCORIS' networks and of sd-scripts'.
_UNSET_ARGUMENTS = {True: {"factor": -1, "unit": 4}, False: {"factor": -1, "unit": 1, "conv_alpha": 1}}
_CANNOT = msg("the GUI cannot pass it on: a value with spaces or quotes")


class GuiPreset(NamedTuple):
    """``fields`` are all of the GUI; ``carried`` and ``lost`` what has no field."""

    fields: State
    carried: tuple[ExportedKey, ...]
    lost: tuple[ExportedKey, ...]


def build_gui_preset(source: CompiledSource, folder: Path, dataset_file: str) -> GuiPreset:
    """``folder`` is where the export lies; the preset names it with its absolute path."""
    options = {option.name: option for option in resources.load_snapshot().of(source.script)}
    place = folder.absolute()
    moved = {name: (place / name).as_posix() for name in source.others}
    train = {**source.train, "network_args": move_presets(source.train.get("network_args", []), moved)}
    state: State = dict(FRESH) | dict(_copy_fields(train, options))
    state |= (
        _length_fields(train)
        | _rate_fields(train, options["learning_rate"].default)
        | _choice_fields(train, source)
        | _network_fields(train)
    )
    state |= _launch_fields(source)
    state |= {name: FRESH[name] for name, value in state.items() if not _fits(name, value)}
    state |= {
        "dataset_config": (place / dataset_file).as_posix(),
        "output_dir": (place / "output").as_posix(),
        "logging_dir": (place / "tensorboard").as_posix(),
        "sample_prompts": "\n".join(source.prompts),
    }
    expected = train | {name: state[name] for name in ("output_dir", "logging_dir")}
    carried, lost = _find_differences(expected, list_gui_options(state), options)
    words = [word for _, tokens in carried for word in tokens]
    state["additional_parameters"] = " ".join(words)
    why = msg('it is in "Additional parameters", since the GUI has no field for it, or would change it')
    listed = tuple(ExportedKey(key=name, value=format_value(expected[name]), why=why) for name, _ in carried)
    return GuiPreset(dict(sorted(state.items())), listed, tuple(lost))


def _fits(field: str, value: Value) -> bool:
    """Whether the page takes the value. Other values reach sd-scripts as text."""
    least, most = LIMITS.get(field, (-math.inf, math.inf))
    return value in CHOICES.get(field, (value,)) and (not isinstance(value, int | float) or least <= value <= most)


def _copy_fields(train: Mapping[str, Any], options: Mapping[str, Option]) -> Iterator[tuple[str, Value]]:
    for field in COPIED:
        name = RENAMED.get(field, field)
        default = options[name].default if name in options else None
        empty: Value = "" if isinstance(FRESH[field], str) else False if isinstance(FRESH[field], bool) else 0
        fallback = _NEUTRAL.get(field, default or empty)
        value = train.get(name, fallback)
        yield field, value if isinstance(value, bool | int | float | str) else empty


def _length_fields(train: Mapping[str, Any]) -> State:
    epochs, steps = train.get("max_train_epochs", 0), train.get("max_train_steps", 0)
    warmup = train.get("lr_warmup_steps", 0)
    percent = round(warmup * 100) if isinstance(warmup, float) else 0
    return {
        "epoch": epochs or 1,
        "max_train_epochs": epochs,
        "max_train_steps": steps,
        "lr_warmup": percent,
        "lr_warmup_steps": warmup if isinstance(warmup, int) else 0,
        "lr_scheduler_num_cycles": train.get("lr_scheduler_num_cycles", 1),
        "seed": train.get("seed", 0),
    }


def _rate_fields(train: Mapping[str, Any], default: Any) -> State:
    """A part without a rate of its own has learning_rate, or sd-scripts' ``default``; a rate of 0 means for the GUI
    that the part is not trained."""
    rate, unet, encoder = train.get("learning_rate", default), train.get("unet_lr"), train.get("text_encoder_lr")
    listed = cast("list[float]", encoder) if isinstance(encoder, list) else [encoder]
    first, second = listed[0] if listed else None, listed[1] if len(listed) > 1 else 0
    only_unet, only_encoder = (train.get(f"network_train_{part}_only") for part in ("unet", "text_encoder"))
    if first is None and unet is None and not only_unet and not only_encoder:
        return {"unet_lr": 0, "text_encoder_lr": 0, "t5xxl_lr": 0}
    unet = rate if unet is None else unet
    first = rate if first is None else first
    return {
        "unet_lr": 0 if only_encoder else unet or 0,
        "text_encoder_lr": 0 if only_unet else first or 0,
        "t5xxl_lr": 0 if only_unet or not first or second == first else second or 0,
    }


def _choice_fields(train: Mapping[str, Any], source: CompiledSource) -> State:
    multires = bool(train.get("multires_noise_iterations"))
    family = find_family_by_other_name(SDXL)
    sdxl = family is not None and source.script == family.script
    noise = ("noise_offset", "noise_offset_random_strength", "adaptive_noise_scale")
    return {
        SDXL: sdxl,
        "sdxl_cache_text_encoder_outputs": sdxl and bool(train.get("cache_text_encoder_outputs")),
        "sdxl_no_half_vae": sdxl and bool(train.get("no_half_vae")),
        "xformers": "xformers" if train.get("xformers") else "sdpa" if train.get("sdpa") else "none",
        "noise_offset_type": "Multires" if multires else "Original",
        **{name: train.get(name, FRESH[name]) for name in noise},
        "multires_noise_iterations": train.get("multires_noise_iterations", 0),
        "multires_noise_discount": train.get("multires_noise_discount", 0.3),
        "max_data_loader_n_workers": train.get("max_data_loader_n_workers", 8),
        "optimizer_args": " ".join(train.get("optimizer_args", [])),
        "lr_scheduler_args": " ".join(train.get("lr_scheduler_args", [])),
        "wandb_run_name": train.get("wandb_run_name", ""),
        "dynamo_backend": train.get("dynamo_backend", "no"),
    }


def _network_fields(train: Mapping[str, Any]) -> State:
    pairs = [str(each).partition("=") for each in train["network_args"]]
    given = {name: value for name, _, value in pairs}
    module = train.get("network_module", "")
    if module == "lycoris.kohya":
        algo = given.get("algo", "")
        found = next((name for name, kind in LORA_TYPES.items() if kind.algo == algo), "LyCORIS/LoCon")
    elif module == "networks.lora":
        found = "Kohya LoCon" if "conv_dim" in given else "Standard"
    else:
        found = _TYPE_BY_MODULE.get(module, "Standard")
    kind = LORA_TYPES[found]
    state: State = {"LoRA_type": found}
    for field in (*kind.always, *kind.filled, *LORAPLUS):
        name = LYCORIS_ARGUMENTS.get(field, field) if kind.algo else field
        if name in given:
            state[field] = _parse(field, given[name])
        elif kind.algo and field in ("conv_dim", "conv_alpha"):  # LyCORIS takes the network's own without them
            state[field] = train.get(f"network_{field.partition('_')[2]}", 1)
        elif not isinstance(FRESH[field], bool | str):
            state[field] = _UNSET_ARGUMENTS[bool(kind.algo)].get(field, 0)
    return state


def _parse(field: str, text: str) -> Value:
    if isinstance(FRESH[field], bool):
        return text == "True"
    if isinstance(FRESH[field], str):
        return text
    try:
        return int(text) if text.lstrip("-").isdigit() else float(text)
    except ValueError:
        return text


def _launch_fields(source: CompiledSource) -> State:
    launch = source.launch
    return {
        "num_processes": launch.num_processes,
        "num_machines": 1,
        "multi_gpu": launch.num_processes > 1,
        "gpu_ids": launch.gpu_ids or "",
        "num_cpu_threads_per_process": launch.num_cpu_threads_per_process,
        "main_process_port": launch.main_process_port or 0,
    }


def _find_differences(
    expected: Mapping[str, Any], done: Mapping[str, Any], options: Mapping[str, Option]
) -> tuple[list[tuple[str, list[str]]], list[ExportedKey]]:
    """What has to be passed on as text, with its words, and what cannot be."""
    carried: list[tuple[str, list[str]]] = []
    lost: list[ExportedKey] = []
    for name in dict.fromkeys((*expected, *done)):
        if name in _OWN and not (name == "network_args" and not _same_arguments(expected, done)):
            continue
        default = options[name].default if name in options else None
        wanted, got = expected.get(name, default), done.get(name, default)
        if _plain(wanted) == _plain(got) or (name not in expected and _is_neutral(name, got, expected, options)):
            continue
        words = _write_words(name, wanted)
        if name in expected and words:
            carried.append((name, words))
        else:
            lost.append(ExportedKey(key=name, value=_show(wanted), why=_CANNOT if words == [] else _explain(got)))
    return carried, lost


def _plain(value: object) -> object:
    """Without the differences that sd-scripts does not see: an array, a list of equal rates, no arguments."""
    if isinstance(value, list | tuple):
        items = [*cast("Sequence[object]", value)]
        return items[0] if len(items) == 2 and items[0] == items[1] and isinstance(items[0], float) else items or None
    return None if value is False else value


def _is_neutral(name: str, got: object, expected: Mapping[str, Any], options: Mapping[str, Option]) -> bool:
    if name in ("unet_lr", "text_encoder_lr"):
        return bool(_plain(got) == expected.get("learning_rate", options["learning_rate"].default))
    ignored = {"network_dim": RANK_IGNORED_BY, "network_alpha": ALPHA_IGNORED_BY}.get(name)
    if ignored and read_network(expected)[0] in ignored:
        return True
    return _NEUTRAL.get(name) == got


def _same_arguments(expected: Mapping[str, Any], done: Mapping[str, Any]) -> bool:
    """Whether the network gets the same; arguments that the GUI always writes are at their defaults."""
    wanted, got = set(expected.get("network_args", ())), set(done.get("network_args", ()))
    if not wanted <= got:
        return False
    return all(_is_off(each, expected) for each in got - wanted)


def _is_off(argument: str, expected: Mapping[str, Any]) -> bool:
    name, _, value = argument.partition("=")
    field = {argument: field for field, argument in LYCORIS_ARGUMENTS.items()}.get(name, name)
    if name in ("conv_dim", "conv_alpha"):
        return _is_own_convolution(name, float(value), expected)
    if name == "block_size":
        return value == str(_UNSET_ARGUMENTS[True]["unit"])
    return value == str(FRESH.get(field)) or value in _OFF


def _is_own_convolution(name: str, value: float, expected: Mapping[str, Any]) -> bool:
    """Whether the convolutions get the rank or alpha that they have without the argument."""
    network, _ = read_network(expected)
    if not is_lycoris(network):
        return value == _UNSET_ARGUMENTS[False].get(name)
    if network in (RANK_IGNORED_BY if name == "conv_dim" else ALPHA_IGNORED_BY):
        return value > 0 or name == "conv_alpha"
    return bool(value == expected.get(f"network_{name.partition('_')[2]}"))


def _write_words(name: str, value: object) -> list[str] | None:
    """As a command line has it; None for what none can say, empty if the GUI would quote or split it."""
    if value is None or value is False:
        return None
    if value is True:
        return [f"--{name}"]
    items = [*cast("Sequence[object]", value)] if isinstance(value, list | tuple) else [value]
    words = [f"--{name}", *(repr(each) if isinstance(each, float) else str(each) for each in items)]
    return words if all(shlex.quote(word) == word for word in words) else []


def _show(value: object) -> str:
    return "" if value is None else format_value(value)


def _explain(got: object) -> Message:
    return msg("the GUI sets it to {value}", value=_show(got))
