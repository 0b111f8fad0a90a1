"""The lines of the report for the keys of a kohya_ss preset that became no option."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from lorabake.exchange.convert import show_value
from lorabake.exchange.kohya_gui.fields import (
    FAMILY_FIELDS,
    FRESH,
    LORA_TYPES,
    LORAPLUS,
    LOST_NAMES,
    NOISE_FIELDS,
    OLD_KEYS,
    OLD_NAMES,
    SDXL,
    SECRETS,
    UNREAD_ARGUMENTS,
)
from lorabake.exchange.kohya_gui.network import MISREAD
from lorabake.exchange.kohya_gui.state import Raw, State
from lorabake_schemas.import_report import ImportedKey, KeyFate
from lorabake_schemas.messages import Message, msg

_NETWORK_FIELDS = frozenset(
    field for lora_type in LORA_TYPES.values() for field in (*lora_type.always, *lora_type.filled)
) - set(LORAPLUS)
_WHY = {
    "model_list": msg("only the GUI uses it"),
    "lowvram": msg("the GUI does not pass it on; sd-scripts no longer has it"),
    "stop_text_encoder_training": msg("the GUI sets it to 0; sd-scripts does not have it"),
    "noise_offset_type": msg("it chooses which keys of noise are used"),
    "epoch": msg("another key sets the length of the training"),
    "max_train_steps": msg("max_train_epochs sets the length of the training"),
    "lr_warmup": msg("lr_warmup_steps is used instead, or lr_scheduler takes none"),
    "lr_warmup_steps": msg("lr_scheduler takes no warm-up"),
    "seed": msg("0 means another random seed in each run of the GUI; a recipe has a fixed one"),
    "train_inpainting": msg("sd-scripts does not have it at the pinned commit"),
    "extra_accelerate_launch_args": msg("lorabake starts accelerate itself; see [launch]"),
    "fp8_base_unet": msg("the GUI passes it on for Flux.1 only"),
    "t5xxl_lr": msg("the family has no T5 text encoder"),
    "sdxl_cache_text_encoder_outputs": msg("the GUI passes it on for SDXL only"),
    "sdxl_no_half_vae": msg("the GUI passes it on for SDXL only"),
    "network_weights": msg("lora_network_weights is used instead"),
    "learning_rate": msg("it has no effect: both parts have their own rate, or are not trained"),
    "wandb_run_name": msg("it has no effect without log_with"),
}
# A new GUI shows them so, and yet they say something; the same of 0.
_MEANINGFUL_DEFAULTS = frozenset({"epoch", "max_train_steps"})
_MEANINGFUL_ZEROS = frozenset({"seed", "learning_rate"})
_SECRET = msg("a secret is never copied; use the environment variable of the service")
_FRESH = msg("as in a new page of the GUI, which does nothing with it here")
_OLD = msg("the GUI no longer has it and ignores it")
_MISREAD = {
    "decompose_both": msg("LyCORIS takes the text False, which the GUI writes, for true"),
    "use_cp": msg("LyCORIS takes the text False, which the GUI writes, instead of use_tucker"),
}
_REPLACED = msg("additional_parameters sets it")
_SDXL = msg("it chooses sdxl_train_network.py")


def make_lines(
    found: Raw, state: State, used: Collection[str], replaced: Collection[str] = ()
) -> Iterator[ImportedKey]:
    """A line for each key of the file that is not in ``used``. ``replaced`` are those whose option the "Additional
    parameters" set."""
    for key, value in found.items():
        if key in used:
            continue
        if key in SECRETS:
            yield ImportedKey(key=key, fate="dropped" if value else "off", why=_SECRET if value else None)
            continue
        if key in MISREAD and key in LORA_TYPES[str(state["LoRA_type"].meant)].always and not state[key].meant:
            yield ImportedKey(key=key, value=show_value(value), fate="repaired", why=_MISREAD[key])
            continue
        fate, why = ("dropped", _REPLACED) if key in replaced else _judge(key, value, state)
        yield ImportedKey(key=key, value=show_value(value), fate=fate, why=why)


def _judge(key: str, value: object, state: State) -> tuple[KeyFate, Message | None]:
    if key not in FRESH:
        known = key in OLD_KEYS or key in OLD_NAMES or key in LOST_NAMES
        return ("unknown", None) if not known else ("dropped", _OLD) if value else ("off", None)
    read = state[key].meant
    if key == SDXL and read:
        return "computed", _SDXL
    if value in (None, "", []):
        return "off", None
    if not read or (read == FRESH[key] and key not in _MEANINGFUL_DEFAULTS):
        return ("dropped", _WHY[key]) if key in _MEANINGFUL_ZEROS else ("off", _FRESH if read else None)
    return "dropped", _WHY.get(key) or _explain(key, state)


def _explain(key: str, state: State) -> Message:
    """Why a field that is filled in does nothing."""
    family = next((name for name, fields in FAMILY_FIELDS.items() if key in fields), None)
    if family:
        return msg("it is for {family} only", family=family)
    kind = next((kind for kind, fields in NOISE_FIELDS.items() if key in fields), None)
    if kind and kind != state["noise_offset_type"].meant:
        return msg('it has no effect without noise_offset_type "{kind}"', kind=kind)
    if key in UNREAD_ARGUMENTS:
        return msg("LyCORIS has no such argument")
    if key in _NETWORK_FIELDS:
        return msg('it has no effect with LoRA_type "{kind}"', kind=str(state["LoRA_type"].meant))
    return msg("it has no effect")
