"""A LyCORIS preset of the recipe's own that matches no layer: sd-scripts would stop after it has loaded the model."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import cast

from lorabake.analysis.estimate import load_layers
from lorabake.util.files import read_toml
from lorabake_schemas.families.registry import get_family
from lorabake_schemas.findings import Finding, Severity
from lorabake_schemas.messages import msg
from lorabake_schemas.plan import Plan
from lorabake_schemas.signatures import Signatures

PARTS = (("unet", "network_train_text_encoder_only", True), ("text_encoder", "network_train_unet_only", False))


def find_empty_preset(plan: Plan, folder: Path, signatures: Signatures) -> Iterator[Finding]:
    """``folder`` is the recipe's. A file that cannot be read is reported elsewhere."""
    if plan.own_preset is None or not signatures.modules:
        return
    try:
        preset = read_toml(folder / plan.own_preset)
    except (OSError, ValueError):
        return
    layers = [layer.name for layer in load_layers(get_family(plan.family).shapes_file)]
    trained = [(kind, by_default) for kind, without, by_default in PARTS if not plan.value(without)]
    if not any(_matches(preset, kind, signatures.modules, layers, by_default) for kind, by_default in trained):
        said = msg("the preset {preset} matches no layer that is trained", preset=plan.own_preset)
        fix = msg(
            'name classes such as Transformer2DModel or CLIPAttention in its target lists, or use preset = "full"'
        )
        yield Finding(rule="S35.nothing", severity=Severity.ERROR, where=("network", "preset"), message=said, fix=fix)


def _matches(
    preset: Mapping[str, object], kind: str, modules: Collection[str], layers: Sequence[str], by_default: bool
) -> bool:
    """Whether a part of the model may be trained; LyCORIS' own lists stand in for those that are left out, and only
    those of the UNet have names (lycoris/kohya.py, LycorisNetworkKohya)."""
    classes, names = preset.get(f"{kind}_target_module"), preset.get(f"{kind}_target_name")
    if classes is None or (names is None and by_default):
        return True
    if any(each in modules for each in _list_texts(classes)):
        return True
    own = [_plain(name.partition("_")[2]) for name in layers if name.startswith("unet_") is (kind == "unet")]
    return any(_may_match(pattern, own, preset) for pattern in _list_texts(names))


def _may_match(pattern: str, layers: Sequence[str], preset: Mapping[str, object]) -> bool:
    """The table of layers has _ for the dots of a name, so that both sides are compared with dots throughout."""
    if preset.get("use_fnmatch") is True:
        return any(fnmatch.fnmatch(layer, f"{_plain(pattern)}*") for layer in layers)
    try:
        compiled = re.compile(_plain(pattern))
    except re.error:
        return False
    return any(compiled.match(layer) for layer in layers)


def _plain(name: str) -> str:
    return name.replace("_", ".")


def _list_texts(value: object) -> list[str]:
    return [each for each in cast("list[object]", value) if isinstance(each, str)] if isinstance(value, list) else []
