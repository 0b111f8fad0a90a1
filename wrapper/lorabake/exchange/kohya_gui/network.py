"""The kohya_ss GUI's fields of a LoRA type as arguments of its network (train_model, bmaltais/kohya_ss 45088f04)."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

from lorabake.exchange.kohya_gui.fields import LORAPLUS, LYCORIS_ARGUMENTS, UNREAD_ARGUMENTS, LoraType, Value

_WITH_CONV_DIM = ("networks.loha", "networks.lokr")
_OFF_FACTOR = -1
# LyCORIS takes any text of decompose_both for true, also False, and use_cp=False instead of use_tucker (kohya.py:56-61,
# 117; modules/lokr.py:102).
MISREAD = ("use_cp", "decompose_both")
Argument = tuple[str, tuple[str, ...]]  # "name=value", and the fields that it comes from


def build_network_args(lora_type: LoraType, get: Callable[[str], Value | None], *, meant: bool) -> list[Argument]:
    """``get`` gives a field's value. Not ``meant``: as the GUI does it, which splits all values at their spaces. What
    LyCORIS does not read is left out in any case."""
    arguments = list(_iter_arguments(lora_type, get))
    if meant:
        written = [each for each in arguments if each[1] != "" and not (each[1] is False and each[0] in MISREAD)]
        return [(f"{name}={_join_lists(value)}", fields) for name, value, fields in written]
    if set(MISREAD) <= set(lora_type.always):
        arguments = list(_as_lycoris_reads(arguments))
    joined = [(f"{name}={value}".replace('"', ""), fields) for name, value, fields in arguments]
    return [(part, fields) for text, fields in joined for part in text.split()]


def _as_lycoris_reads(
    arguments: list[tuple[str, Value, tuple[str, ...]]],
) -> Iterator[tuple[str, Value, tuple[str, ...]]]:
    instead = next(value for name, value, _ in arguments if name == "use_cp")
    for name, value, fields in arguments:
        if name == "use_tucker":
            yield name, instead, (*fields, "use_cp")
        elif name != "use_cp":
            yield name, True if name == "decompose_both" else value, fields


def _iter_arguments(
    lora_type: LoraType, get: Callable[[str], Value | None]
) -> Iterator[tuple[str, Value, tuple[str, ...]]]:
    if lora_type.algo:
        yield "algo", lora_type.algo, ("LoRA_type",)
    for field in lora_type.always:
        value = get(field)
        if value is not None and field not in UNREAD_ARGUMENTS:
            yield LYCORIS_ARGUMENTS.get(field, field) if lora_type.algo else field, value, (field,)
    for field in (*lora_type.filled, *LORAPLUS):
        value = get(field)
        if not value or (field == "factor" and value == _OFF_FACTOR):
            continue
        if lora_type.module in _WITH_CONV_DIM and field in ("conv_dim", "factor"):
            value = int(value)
        yield field, value, (field,)
        alpha = get("conv_alpha")
        if lora_type.module in _WITH_CONV_DIM and field == "conv_dim" and alpha is not None:
            yield "conv_alpha", int(alpha) if float(alpha).is_integer() else alpha, ("conv_alpha",)


def _join_lists(value: Value) -> Value:
    """Text without the spaces of a list of numbers, which sd-scripts splits at its commas."""
    return re.sub(r"\s*,\s*", ",", value.replace('"', "").strip()) if isinstance(value, str) else value


def split_arguments(text: str, *, meant: bool) -> list[str]:
    """``key=value`` pairs as the GUI splits them, at every space; ``meant`` keeps the items of a list together."""
    plain = text.replace('"', "")
    if not meant:
        return plain.split()
    whole: list[str] = []
    for part in re.sub(r"\s*=\s*", "=", plain).split():
        if whole and ("=" not in part or whole[-1].endswith(",")):
            whole[-1] += part
        else:
            whole.append(part)
    return whole
