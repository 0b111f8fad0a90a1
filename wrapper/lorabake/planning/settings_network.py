"""The network: module, rank, alpha, and the arguments of each LyCORIS algorithm."""

from __future__ import annotations

from pathlib import PurePath
from typing import NamedTuple

from lorabake.planning.profile import Profile
from lorabake.planning.setting_sources import (
    FROM_RECIPE,
    choose,
    default_by_guide,
    default_by_lorabake,
    fixed,
    forced_by,
    mixed,
)
from lorabake_schemas.guide.defaults import CONV_RANK, DYLORA_BLOCK_SIZE, DYLORA_RANK, is_full_matrix
from lorabake_schemas.messages import msg
from lorabake_schemas.plan import Setting, Source
from lorabake_schemas.recipe import Network
from lorabake_schemas.sd_scripts import RANK_DROPOUT_ALGORITHMS, get_network_module

CONVOLUTION_ALGORITHMS = ("locon", "loha", "lokr", "dylora", "glora", "diag-oft")
ALPHA_IGNORED_BY = ("ia3", "diag-oft", "boft", "full", "networks.oft")  # S33; the last one's is its constraint
RANK_IGNORED_BY = ("ia3", "full")
DROPOUT_MODULES = ("lora", "networks.lora_fa")  # those that take neuron_dropout
IA3_PRESET_FILE = "lycoris-preset-ia3.toml"


class NetworkChoice(NamedTuple):
    """The settings, and the LyCORIS preset file that has to be in the run folder, if any: lorabake's by its name
    under vendor/ (``shipped_preset``) or the recipe's own by its path (``own_preset``).
    """

    settings: tuple[Setting, ...]
    shipped_preset: str | None
    own_preset: str | None


# LyCORIS takes every text for true here, also "False" (lycoris/kohya.py: create_network, decompose_both).
FALSE_IF_ABSENT = frozenset({"decompose_both"})


def network_settings(network: Network, profile: Profile) -> NetworkChoice:
    """Everything that starts with ``network_``, plus scale_weight_norms."""
    preset = _choose_preset(network, profile)
    arguments = _lycoris_arguments(network, profile, preset) if profile.lycoris else _lora_arguments(network, profile)
    arguments |= {
        name: (_format_argument(value), FROM_RECIPE)
        for name, value in sorted((network.args or {}).items())
        if not (value is False and name in FALSE_IF_ABSENT)
    }
    settings = (
        *_module_settings(profile),
        *_rank_settings(network, profile),
        *_network_args_settings(arguments),
        *_dropout_settings(network, profile),
        *choose(
            "network_train_unet_only", network.network_train_unet_only or None, *_default_unet_only(network, profile)
        ),
        *choose("network_weights", network.network_weights),
        *choose("scale_weight_norms", network.scale_weight_norms or None),
    )
    own = network.preset if profile.lycoris and _is_preset_file(network.preset) else None
    shipped = preset[0] if preset and not own and _is_preset_file(preset[0]) else None
    return NetworkChoice(settings, shipped, own)


def _default_unet_only(network: Network, profile: Profile) -> tuple[bool | None, Source]:
    alone = profile.unet_only and network.network_train_unet_only is None
    return alone or None, _as_in_file(profile)


def _as_in_file(profile: Profile) -> Source:
    return forced_by("S47", msg("as in {file}", file=profile.continued.file if profile.continued else ""))


def _module_settings(profile: Profile) -> tuple[Setting, ...]:
    if profile.lycoris:
        return fixed(
            "network_module", "lycoris.kohya", default_by_guide("G4.21" if profile.network == "locon" else "G7.8")
        )
    if profile.network == "lora":
        return fixed("network_module", "networks.lora", default_by_guide("G4.20"))
    return fixed("network_module", get_network_module(profile.network), FROM_RECIPE)


def _rank_settings(network: Network, profile: Profile) -> tuple[Setting, ...]:
    if profile.network in RANK_IGNORED_BY:  # they mean nothing to it (S33), and a rule warns of them
        return (*choose("network_dim", network.network_dim), *choose("network_alpha", network.network_alpha))
    dim, source = default_rank(profile)
    if profile.continued and profile.continued.ranks:
        dim, source = profile.continued.ranks[0], _as_in_file(profile)
    rank = network.network_dim or dim
    alpha, why = _default_alpha(rank, profile)
    if is_full_matrix(network, profile.network):
        alpha = None
    if profile.continued and profile.continued.alphas and profile.network not in ALPHA_IGNORED_BY:
        alpha, why = profile.continued.alphas[0], _as_in_file(profile)
    return (
        *choose("network_dim", network.network_dim, dim, source),
        *choose("network_alpha", _to_float(network.network_alpha), alpha, why),
    )


def default_rank(profile: Profile) -> tuple[int, Source]:
    """network_dim by network, number of concepts, subject and family, in that order."""
    if profile.network == "dylora":
        return DYLORA_RANK, default_by_guide("G7.22")
    if profile.multi:
        return 32, default_by_guide("G6.5")
    if profile.kind == "style":
        return 32, default_by_guide("G8.2")
    if profile.network == "locon":
        return 32, default_by_guide("G7.14")
    rank, rule = profile.family.guide.rank
    return rank, default_by_guide(rule)


def _default_alpha(rank: int, profile: Profile) -> tuple[float | None, Source]:
    """Adaptive 1, LyCORIS half, else the rank (contradiction C3 resolved); always a float above 0 (S33)."""
    if profile.network in ALPHA_IGNORED_BY:
        return None, FROM_RECIPE
    if profile.adaptive:
        return 1.0, default_by_guide("G4.73")
    if profile.lycoris:
        rule = {"loha": "G7.18", "dylora": "G7.22"}.get(profile.network, "G7.15")
        return rank / 2, default_by_guide(rule)
    return float(rank), default_by_guide(profile.family.guide.alpha_rule)


def _lora_arguments(network: Network, profile: Profile) -> dict[str, tuple[object, Source]]:
    """networks.lora trains 3x3 convolutions only when conv_dim is given (S37)."""
    given = {
        "conv_dim": network.conv_dim or None,
        "conv_alpha": network.conv_alpha,
        "rank_dropout": network.rank_dropout or None,
        "module_dropout": network.module_dropout or None,
    }
    kept = _convolutions_in_file(profile) if network.conv_dim is None else {}
    return kept | {name: (value, FROM_RECIPE) for name, value in given.items() if value is not None}


def _convolutions_in_file(profile: Profile) -> dict[str, tuple[object, Source]]:
    """Rank and alpha of the convolutions of the LoRA to continue from."""
    found, source = profile.continued, _as_in_file(profile)
    kept = dict[str, tuple[object, Source]]()
    if found and found.conv_ranks:
        kept["conv_dim"] = (found.conv_ranks[0], source)
    if found and found.conv_alphas:
        kept["conv_alpha"] = (found.conv_alphas[0], source)
    return kept


def _lycoris_arguments(
    network: Network, profile: Profile, preset: tuple[str, Source] | None
) -> dict[str, tuple[object, Source]]:
    chosen: dict[str, tuple[object, Source]] = {"algo": (profile.network, default_by_guide("G4.21"))}
    if preset:
        chosen["preset"] = preset
    defaults = _lycoris_defaults(profile)
    if is_full_matrix(network, profile.network):  # full for convolutions, too, as network_dim alone means it
        defaults = {name: value for name, value in defaults.items() if not name.startswith("conv_")}
    for name in (
        "conv_dim",
        "conv_alpha",
        "rank_dropout",
        "module_dropout",
        "factor",
        "block_size",
        "constraint",
        "dora_wd",
        "use_tucker",
        "use_scalar",
        "rescaled",
        "train_norm",
    ):
        value = getattr(network, name)
        if value is not None:
            chosen[name] = (value, FROM_RECIPE)
        elif name in defaults:
            chosen[name] = defaults[name]
    return chosen


def _lycoris_defaults(profile: Profile) -> dict[str, tuple[object, Source]]:
    defaults: dict[str, tuple[object, Source]] = {}
    if profile.network in CONVOLUTION_ALGORITHMS:  # left out, they would equal network_dim and network_alpha (S37)
        defaults["conv_dim"] = (CONV_RANK, default_by_guide("G4.77"))
        defaults["conv_alpha"] = (1.0, default_by_guide("G4.77"))
        defaults |= _convolutions_in_file(profile)
    if profile.network in RANK_DROPOUT_ALGORITHMS:
        defaults["rank_dropout"] = (
            0.1,
            forced_by("S34", msg("the guide's dropout of 0.1 (G4.86), set where it works")),
        )
    if profile.network == "lokr":
        defaults["factor"] = (-1, default_by_guide("G7.19"))
    if profile.network == "dylora":
        defaults["block_size"] = (
            DYLORA_BLOCK_SIZE,
            default_by_lorabake(msg("LyCORIS' default, written out because it must divide the rank evenly")),
        )
    return defaults


def _choose_preset(network: Network, profile: Profile) -> tuple[str, Source] | None:
    """LyCORIS 4.x crashes on SD1.5 with three of its presets and matches nothing with its ia3 preset (S35)."""
    if not profile.lycoris:
        return None
    if network.preset and _is_preset_file(network.preset):
        return PurePath(network.preset).name, FROM_RECIPE
    if network.preset == "ia3" or (profile.network == "ia3" and network.preset is None):
        return IA3_PRESET_FILE, forced_by("S35", msg("LyCORIS' ia3 preset matches no layer"))
    replacement = profile.family.full_preset_file
    if replacement and network.preset in {None, "full"}:
        return replacement, forced_by(
            "S35",
            msg(
                "preset full crashes LyCORIS 4 on {family}; this file trains the same layers",
                family=profile.family.label,
            ),
        )
    return (network.preset, FROM_RECIPE) if network.preset else ("full", default_by_guide("G4.23"))


def _is_preset_file(preset: str | None) -> bool:
    return preset is not None and preset.endswith(".toml")


def _network_args_settings(arguments: dict[str, tuple[object, Source]]) -> tuple[Setting, ...]:
    """network_args in sd-scripts' format: a list of "key=value" strings (S3), with every source named."""
    return mixed("network_args", {name: (f"{name}={value}", source) for name, (value, source) in arguments.items()})


def _dropout_settings(network: Network, profile: Profile) -> tuple[Setting, ...]:
    """Neuron dropout works in networks.lora only (S34)."""
    if profile.lycoris:
        return choose("network_dropout", network.network_dropout)
    if network.network_dropout == 0:
        return ()
    if profile.network not in DROPOUT_MODULES:
        return choose("network_dropout", network.network_dropout)
    return choose("network_dropout", network.network_dropout, 0.1, default_by_guide("G4.86"))


def _format_argument(value: bool | float | str | tuple[float, ...]) -> str:
    """As network_args has it: a network splits a list at its commas."""
    return ",".join(str(item) for item in value) if isinstance(value, tuple) else str(value)


def _to_float(value: float | None) -> float | None:
    return None if value is None else float(value)
