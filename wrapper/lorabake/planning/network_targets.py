"""Which modules of the models a network attaches to, in sd-scripts' networks.lora and in LyCORIS. Pure."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import cast

from lorabake.planning.model_shapes import Model, Models, Module, iter_submodules
from lorabake.planning.network_layout import NORM, TargetModule, UnknownNetworkError

Options = Mapping[str, object]
# networks/lora.py:867-869
LORA_UNET, LORA_CONV = ("Transformer2DModel",), ("ResnetBlock2D", "Downsample2D", "Upsample2D")
LORA_TEXT = ("CLIPAttention", "CLIPSdpaAttention", "CLIPMLP")
# A preset's keys and the settings of LyCORIS' network that they replace (lycoris/kohya.py, apply_preset).
PRESET_SETTINGS = {
    "enable_conv": "ENABLE_CONV",
    "unet_target_module": "UNET_TARGET_REPLACE_MODULE",
    "unet_target_name": "UNET_TARGET_REPLACE_NAME",
    "text_encoder_target_module": "TEXT_ENCODER_TARGET_REPLACE_MODULE",
    "text_encoder_target_name": "TEXT_ENCODER_TARGET_REPLACE_NAME",
    "module_algo_map": "MODULE_ALGO_MAP",
    "name_algo_map": "NAME_ALGO_MAP",
    "use_fnmatch": "USE_FNMATCH",
    "exclude_name": "TARGET_EXCLUDE_NAME",
}
PRESET_KEYS = {*PRESET_SETTINGS, "target_module", "target_name", "lora_prefix"}


@dataclass(frozen=True, slots=True)
class NetworkSpec:
    """What the settings ask of a network: ``algo`` is empty for networks.lora. ``conv`` None means that convolutions
    larger than 1x1 are left alone. ``options`` as LyCORIS' classes name them; ``train_norm`` adds the norms."""

    algo: str
    rank: int
    conv: int | None
    options: Options = field(default_factory=dict[str, object])
    train_norm: bool = False
    unet: bool = True
    text: bool = True


def find_target_modules(models: Models, wanted: NetworkSpec, preset: Options) -> list[TargetModule]:
    """Every module that is trained. ``preset`` is only for LyCORIS: its settings as ``applied`` gives them.

    Raises NoSuchNetworkError where LyCORIS stops, for one when a preset meets a module twice.
    """
    told = list[TargetModule]()
    for name, model in models.items():
        is_unet = name == "unet"
        prefix = f"lora_{name}"
        found = list(
            _iter_lycoris_modules(prefix, model, wanted, preset)
            if wanted.algo
            else _iter_lora_modules(prefix, model, wanted)
        )
        if len({each.lora_name for each in found}) < len(found):
            raise UnknownNetworkError("a module would be trained twice")
        told += found if (wanted.unet if is_unet else wanted.text) else []
    return told


def apply_preset(preset: Options, defaults: Options) -> dict[str, object]:
    """A preset file's settings over LyCORIS' own. Raises NoSuchNetworkError for a key it does not know."""
    if not preset.keys() <= PRESET_KEYS:
        raise UnknownNetworkError("a preset with unknown keys")
    return dict(defaults) | {PRESET_SETTINGS[key]: value for key, value in preset.items() if key in PRESET_SETTINGS}


def _iter_lora_modules(prefix: str, model: Model, wanted: NetworkSpec) -> Iterator[TargetModule]:
    targets = LORA_TEXT if prefix != "lora_unet" else LORA_UNET + (LORA_CONV if wanted.conv is not None else ())
    for block in model:
        if block.class_name not in targets:
            continue
        for name, module in iter_submodules(model, block):
            rank = wanted.rank if module.small else wanted.conv
            if module.kind in {"linear", "conv"} and rank:
                yield TargetModule(f"{prefix}.{block.name}.{name}".replace(".", "_"), module, "lora", rank)


def _iter_lycoris_modules(prefix: str, model: Model, wanted: NetworkSpec, preset: Options) -> Iterator[TargetModule]:
    """The walk of LycorisNetworkKohya.create_modules (lycoris/kohya.py)."""
    kind = "UNET" if prefix == "lora_unet" else "TEXT_ENCODER"
    walk = _ModuleMatcher(model, wanted, preset)
    classes, names = walk.listed(f"{kind}_TARGET_REPLACE_MODULE"), walk.listed(f"{kind}_TARGET_REPLACE_NAME")
    for module in model:
        if walk.is_excluded(module.name):
            continue
        matches = any(walk.matches(pattern, module.name) for pattern in names)
        if module.class_name in classes and not matches:
            yield from walk.iter_block(f"{prefix}_{module.name}", module, walk.class_options(module, {}), "")
        elif module.name in names or matches:
            options = walk.name_options(module.name)
            options = walk.class_options(module, {}) if options is None else options
            yield from walk.iter_module(f"{prefix}.{module.name}", module, options)


@dataclass(frozen=True, slots=True)
class _ModuleMatcher:
    """One model, with what a preset says of its modules."""

    model: Model
    wanted: NetworkSpec
    preset: Options

    def listed(self, setting: str) -> Sequence[str]:
        return cast("Sequence[str]", self.preset[setting])

    def matches(self, pattern: str, name: str) -> bool:
        if self.preset["USE_FNMATCH"]:
            return fnmatch.fnmatch(name, pattern)
        return re.match(pattern, name) is not None

    def is_excluded(self, name: str) -> bool:
        patterns = self.listed("TARGET_EXCLUDE_NAME")
        return bool(name) and any(name == pattern or self.matches(pattern, name) for pattern in patterns)

    def class_options(self, module: Module, otherwise: Options) -> Options:
        found = cast("Mapping[str, Options]", self.preset["MODULE_ALGO_MAP"])
        return found.get(module.class_name, otherwise)

    def name_options(self, name: str) -> Options | None:
        found = cast("Mapping[str, Options]", self.preset["NAME_ALGO_MAP"])
        if name in found:
            return found[name]
        return next((options for pattern, options in found.items() if self.matches(pattern, name)), None)

    def iter_block(self, prefix: str, block: Module, options: Options, path: str) -> Iterator[TargetModule]:
        """Everything in a block; a class with settings of its own gets them for all that is in it. The first of
        several by one name counts."""
        seen = set[str]()
        for each in self._iter_block_modules(prefix, block, options, path or block.name):
            if each.lora_name not in seen:
                seen.add(each.lora_name)
                yield each

    def _iter_block_modules(self, prefix: str, block: Module, options: Options, path: str) -> Iterator[TargetModule]:
        own = cast("Mapping[str, Options]", self.preset["MODULE_ALGO_MAP"])
        for name, module in iter_submodules(self.model, block):
            full = ".".join(part for part in (path, name) if part)
            if self.is_excluded(full):
                continue
            if module.class_name in own and module is not block:
                inner = {"algo": options.get("algo", self.wanted.algo)} | dict(own[module.class_name])
                yield from self.iter_block(f"{prefix}_{name}", module, inner, full)
            else:
                yield from self.iter_module(f"{prefix}.{name}" if name else prefix, module, options)

    def iter_module(self, name: str, module: Module, options: Options) -> Iterator[TargetModule]:
        """What create_single_module makes of a module: nothing where no rank is meant for it."""
        wanted = self.wanted
        merged = dict(wanted.options) | {key: value for key, value in options.items() if key not in {"algo", "dim"}}
        told = TargetModule(name.replace(".", "_"), module, str(options.get("algo", wanted.algo)), wanted.rank, merged)
        if wanted.train_norm and "Norm" in module.class_name:
            yield replace(told, algo=NORM)
            return
        given = cast("int | None", options.get("dim"))
        conv = (wanted.conv or 0) if self.preset["ENABLE_CONV"] else 0
        rank = given or (wanted.rank if module.small else conv)
        if module.kind in {"linear", "conv"} and rank and (not module.small or wanted.rank > 0):
            yield replace(told, rank=rank)
