"""A preset of the kohya_ss GUI as it is loaded: each field with what its author wrote, and with what the GUI reads."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import cast

from lorabake.errors import RecipeError
from lorabake.exchange.foreign import Source
from lorabake.exchange.kohya_gui.fields import (
    FRESH,
    LORA_TYPES,
    LOST_NAMES,
    OLD_LORA_TYPES,
    OLD_NAMES,
    SDXL,
    TEXT_TO_FLOAT,
    TEXT_TO_INT,
    Value,
)
from lorabake.exchange.reading import parse_json_table
from lorabake_schemas.families.known_models import guess_family
from lorabake_schemas.families.registry import find_family_by_other_name
from lorabake_schemas.messages import Message, msg

Raw = Mapping[str, object]
SIZE_LIMIT = 4 << 20  # bytes; a preset has about 10 KB
_LARGEST = 1e15  # no number of a training is as large
_SAVED_AS = ("safetensors", "ckpt")
_PERCENT = "lr_warmup"  # the GUI reads a whole number, though it may be a fraction


@dataclass(frozen=True, slots=True, kw_only=True)
class FieldValue:
    """What a field has. ``meant`` is None for a number that is not filled in; ``read`` is what the GUI reads there.
    ``key`` is the key that it comes from, None if the file has none and the field shows what a new GUI does.
    """

    meant: Value | None
    read: Value
    key: str | None
    repair: Message | None = None


State = Mapping[str, FieldValue]


def read_preset(source: Source) -> Raw:
    """The file's table. Raises RecipeError, with the line, for what is not a JSON object."""
    if len(source.content) > SIZE_LIMIT:
        raise RecipeError(msg("{file} is too large for a preset of the kohya_ss GUI", file=source.path))
    return parse_json_table(source)[1]


class PresetError(ValueError):
    """A value that is not of its field's kind; ``key`` is where, ``why`` what is wrong."""

    def __init__(self, key: str, why: Message) -> None:
        super().__init__(why)
        self.key, self.why = key, why


def find_line(content: bytes, key: str) -> int:
    """The line of a key at the top of a preset, 1 if it is not found."""
    found = re.search(rb"%s\s*:" % re.escape(json.dumps(key).encode()), content)
    return content.count(b"\n", 0, found.start()) + 1 if found else 1


def load_state(found: Raw) -> State:
    """All fields of the GUI. Raises PresetError for a value that no field can have."""
    state = {name: _load_field(name, name, found.get(name)) for name in FRESH}
    for old, name in LOST_NAMES.items():
        if found.get(old) and not found.get(name):  # the GUI does not look there
            state[name] = replace(_load_field(name, old, _join_list(found[old])), read=state[name].read)
    return {**state, **_load_old_keys(found, state), **_guess_missing(found, state)}


def _join_list(value: object) -> object:
    """[1024, 1024] as the text of the field."""
    return ",".join(map(str, cast("list[object]", value))) if isinstance(value, list) else value


def _guess_missing(found: Raw, state: State) -> State:
    """The boxes that no GUI saved, but the file shows what its author meant."""
    changed: dict[str, FieldValue] = {}
    sdxl = find_family_by_other_name(SDXL)
    if SDXL not in found and sdxl and guess_family(str(state["pretrained_model_name_or_path"].meant)) == sdxl.name:
        changed[SDXL] = FieldValue(meant=True, read=False, key=None)
    module = found.get("network_module")
    kind = next((name for name, each in LORA_TYPES.items() if each.module == module and not each.algo), None)
    if kind and "LoRA_type" not in found:
        changed["LoRA_type"] = FieldValue(meant=kind, read=state["LoRA_type"].read, key="network_module")
    return changed


def _load_old_keys(found: Raw, state: State) -> State:
    """What the GUI makes of keys and values of older editions (update_my_data)."""
    changed: dict[str, FieldValue] = {}
    eight_bits = found.get("use_8bit_adam")
    if found.get("optimizer") is None:
        name = "AdamW8bit" if eight_bits else "AdamW"
        key = None if "use_8bit_adam" not in found else "use_8bit_adam"
        read = name if "optimizer" not in found else "AdamW8bit"
        lost = state["optimizer"]  # under the name that sd-scripts has for it
        changed["optimizer"] = replace(lost, read=read) if lost.key else FieldValue(meant=name, read=read, key=key)
    if found.get("lora_network_weights") is not None:
        old = next(old for old, name in OLD_NAMES.items() if name == "network_weights")
        changed["network_weights"] = _load_field("network_weights", old, found[old])
    if found.get("use_wandb") == "True":
        changed["log_with"] = FieldValue(meant="wandb", read="wandb", key="use_wandb")
    elif found.get("use_wandb") is True and not state["log_with"].meant:  # older editions; this one looks for the text
        changed["log_with"] = FieldValue(meant="wandb", read=state["log_with"].read, key="use_wandb")
    if isinstance(found.get("xformers"), bool):
        chosen = "xformers" if found["xformers"] else "none"
        changed["xformers"] = FieldValue(meant=chosen, read=chosen, key="xformers")
    lora_type = state["LoRA_type"].meant
    if lora_type in OLD_LORA_TYPES:
        chosen = OLD_LORA_TYPES[str(lora_type)]
        changed["LoRA_type"] = FieldValue(meant=chosen, read=chosen, key="LoRA_type")
    saved_as = state["save_model_as"]
    if saved_as.key and found.get("LoRA_type") and saved_as.meant not in _SAVED_AS:
        why = msg("the GUI no longer saves LoRAs as {format}", format=str(saved_as.meant))
        changed["save_model_as"] = FieldValue(meant="safetensors", read="safetensors", key=saved_as.key, repair=why)
    return changed


def _load_field(name: str, key: str, value: object) -> FieldValue:
    fresh = FRESH[name]
    if value is None or value == []:  # older editions saved empty lists of arguments
        return FieldValue(meant=fresh, read=fresh, key=None)
    if isinstance(value, dict | list):
        raise PresetError(key, msg("a list or a table is not a value of a GUI field"))
    if isinstance(fresh, bool):
        return _load_switch(key, value)
    if isinstance(fresh, int | float):
        return _load_number(name, key, value)
    if isinstance(value, bool) and name != "xformers":
        raise PresetError(key, msg("must be text, not true or false"))
    text = str(value)
    if "\0" in text:
        raise PresetError(key, msg("contains a zero byte"))
    return FieldValue(meant=text.strip() if name != "sample_prompts" else text, read=text, key=key)


def _load_switch(key: str, value: object) -> FieldValue:
    """A switch. For the GUI any text but an empty one is on."""
    if isinstance(value, bool):
        return FieldValue(meant=value, read=value, key=key)
    words = {"true": True, "false": False, "1": True, "0": False, "": False, "1.0": True, "0.0": False}
    said = words.get(str(value).strip().lower())
    if said is None:
        raise PresetError(key, msg("must be true or false"))
    read = bool(value)
    why = msg("the GUI takes any text for true") if read != said else None
    return FieldValue(meant=said, read=read, key=key, repair=why)


def _load_number(name: str, key: str, value: object) -> FieldValue:
    if isinstance(value, str):
        return _load_text_as_number(name, key, value.strip())
    number = _check_number(key, cast("int | float", value))
    read = int(number) if name in TEXT_TO_INT else number
    meant = number if name == _PERCENT else read
    return FieldValue(meant=meant, read=read, key=key, repair=_describe_reading(meant, read))


def _load_text_as_number(name: str, key: str, text: str) -> FieldValue:
    """A number in quotes, as older editions saved it. Raises PresetError for text that is no number: the GUI makes 0
    of it without a word, which would mean "do not train this part" for a learning rate."""
    fallback = TEXT_TO_INT.get(name, TEXT_TO_FLOAT.get(name, 0))
    if not text:
        return FieldValue(meant=None, read=fallback, key=key)
    try:
        number = _check_number(key, int(text) if re.fullmatch(r"[+-]?\d{1,15}", text) else float(text))
    except ValueError as error:
        if isinstance(error, PresetError):
            raise
        said = msg('"{text}" is not a number; the GUI would use {n} without a word', text=text, n=fallback)
        raise PresetError(key, said) from error
    if name not in TEXT_TO_INT:
        return FieldValue(meant=number, read=number, key=key)
    meant = number if name == _PERCENT else int(number)
    read = number if isinstance(number, int) else fallback
    return FieldValue(meant=meant, read=read, key=key, repair=_describe_reading(meant, read))


def _describe_reading(meant: Value, read: Value) -> Message | None:
    return None if meant == read else msg("the GUI reads {value} there", value=read)


def _check_number(key: str, number: int | float) -> int | float:
    number = int(number) if isinstance(number, bool) else number
    if isinstance(number, float) and not math.isfinite(number):
        raise PresetError(key, msg("must be a number that is neither infinite nor NaN"))
    if abs(number) > _LARGEST:
        raise PresetError(key, msg("the number is too large"))
    return number
