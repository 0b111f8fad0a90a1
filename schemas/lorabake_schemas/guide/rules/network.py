"""Rules about the network and its LyCORIS arguments."""

from __future__ import annotations

from collections.abc import Iterator

from lorabake_schemas.guide.defaults import (
    CONV_RANK,
    DYLORA_BLOCK_SIZE,
    DYLORA_RANK,
    FP16_LIMIT,
    FULL_MATRIX_RANK,
    find_saved_alpha,
    is_full_matrix,
    scale_alpha,
)
from lorabake_schemas.guide.registry import ERROR, HINT, WARNING, RuleContext, RuleHit, rule
from lorabake_schemas.messages import Message, msg
from lorabake_schemas.sd_scripts import (
    LYCORIS_PRESETS,
    RANK_DROPOUT_ALGORITHMS,
    is_adaptive,
    is_lycoris,
)

DORA_ALGORITHMS = ("locon", "loha", "lokr")
NORM_SCALING_ALGORITHMS = ("lora", "locon", "loha", "lokr", "diag-oft")
LYCORIS_ALGORITHMS = ("locon", "loha", "lokr", "dylora", "glora", "ia3", "diag-oft", "boft", "full", "tlora")
ARGUMENT_ALGORITHMS = {
    "factor": ("lokr",),
    "block_size": ("dylora",),
    "constraint": ("diag-oft", "boft"),
    "rescaled": ("diag-oft", "boft"),
    "use_tucker": ("locon", "loha", "lokr", "glora"),
    "use_scalar": ("locon", "loha", "lokr", "glora"),
    "train_norm": LYCORIS_ALGORITHMS,  # norms get their own modules whatever the algorithm (lycoris/kohya.py)
    "preset": LYCORIS_ALGORITHMS,
}
ALPHA_IGNORED = ("ia3", "diag-oft", "boft", "full", "networks.oft")  # S33
# The sides of the layers of SD1.5, SD2 and SDXL, and the root of the largest.
LAYER_SIDES = (320, 640, 768, 960, 1024, 1280, 1920, 2048, 2560, 2816, 3072, 4096, 5120, 8192, 10240)
MAX_FACTOR = 101
MIN_BOFT_RANK = 10  # 320 = 10 * 32, and all other sides have such a number below it
RESERVED_FILE_NAMES = ("recipe.toml", "train.toml", "dataset.toml")
RANK_LIMITS = {"lora": (64, "G4.71"), "locon": (64, "G7.14"), "loha": (32, "G7.17")}


@rule("S36", ERROR, "LyCORIS requires DyLoRA's rank to be divisible by its block_size.")
def indivisible_dylora_rank(situation: RuleContext) -> Iterator[RuleHit]:
    network = situation.recipe.network
    if situation.network != "dylora":
        return
    block = network.block_size or DYLORA_BLOCK_SIZE
    for name, size, at in (
        ("network_dim", network.network_dim or DYLORA_RANK, "network_dim"),
        ("conv_dim", CONV_RANK if network.conv_dim is None else network.conv_dim, "conv_dim"),
    ):
        if size % block:
            key = at if getattr(network, at) is not None else "block_size"
            yield RuleHit(
                ("network", key),
                msg(
                    "{name} {size} is not divisible by DyLoRA's block_size {block}",
                    name=name,
                    size=size,
                    block=block,
                ),
                msg(
                    "write {name} = {number}, or another block_size",
                    name=name,
                    number=max(block, size // block * block),
                ),
            )


@rule("S36.unit", ERROR, "networks.dylora divides its rank by unit (networks/dylora.py:39).")
def indivisible_dylora_unit(situation: RuleContext) -> Iterator[RuleHit]:
    network, where = situation.recipe.network, ("network", "args", "unit")
    unit = (network.args or {}).get("unit")
    if situation.network != "networks.dylora" or not isinstance(unit, int):
        return
    if unit < 1:
        yield RuleHit(where, msg("unit must be at least 1"), msg("write unit = 1"))
    elif network.network_dim is not None and network.network_dim % unit:
        said = msg("network_dim {size} is not divisible by unit {unit}", size=network.network_dim, unit=unit)
        number = max(unit, network.network_dim // unit * unit)
        yield RuleHit(where, said, msg("write network.network_dim = {number}, or another unit", number=number))


@rule("S36.boft", ERROR, "BOFT stops if a layer's side divided by an even number up to the rank is no power of two.")
def indivisible_boft_rank(situation: RuleContext) -> Iterator[RuleHit]:
    if situation.network != "boft":
        return
    for name in ("network_dim", "conv_dim"):
        size = getattr(situation.recipe.network, name)
        if size is not None and size < MIN_BOFT_RANK:
            said = msg(
                "with {name} {size}, BOFT cannot divide layers of side 320, so sd-scripts stops", name=name, size=size
            )
            yield RuleHit(("network", name), said, msg("write {name} = 16", name=name))


@rule("G4.22", ERROR, "DoRA is an option of LyCORIS' locon, loha and lokr; elsewhere it is ignored.")
def unsupported_dora(situation: RuleContext) -> Iterator[RuleHit]:
    if situation.recipe.network.dora_wd and situation.network not in DORA_ALGORITHMS:
        said = msg("{network} does not support DoRA", network=situation.network)
        yield RuleHit(("network", "dora_wd"), said, msg('write type = "locon" to use dora_wd = true'))


@rule("S37", ERROR, "An argument that an algorithm does not know is ignored silently.")
def unsupported_network_argument(situation: RuleContext) -> Iterator[RuleHit]:
    for name, algorithms in ARGUMENT_ALGORITHMS.items():
        own = situation.network == "lora" or is_lycoris(situation.network)  # of other modules S37.args knows
        if getattr(situation.recipe.network, name) is not None and own and situation.network not in algorithms:
            yield RuleHit(
                ("network", name),
                msg("{network} does not support {name} and silently ignores it", name=name, network=situation.network),
                msg("remove it, or use one of these types: {types}", types=", ".join(algorithms)),
            )


@rule("S35", ERROR, "LyCORIS 4 crashes on SD1.5 with some of its presets, and stops on a name it does not know.")
def broken_preset(situation: RuleContext) -> Iterator[RuleHit]:
    preset = situation.recipe.network.preset
    if preset is None or not is_lycoris(situation.network):
        return
    if preset.endswith(".toml"):
        yield from _check_preset_file(preset)
    elif preset not in LYCORIS_PRESETS:
        yield RuleHit(
            ("network", "preset"),
            msg('"{preset}" is not a LyCORIS preset', preset=preset),
            msg("write one of {names}, or the path of a .toml file", names=", ".join(LYCORIS_PRESETS)),
        )
    elif preset in situation.family.broken_presets:
        yield RuleHit(
            ("network", "preset"),
            msg(
                'LyCORIS crashes on {family} with "{preset}" (duplicated lora name)',
                family=situation.family.label,
                preset=preset,
            ),
            msg('write preset = "full" (lorabake includes a file that works), "attn-mlp" or "unet-transformer-only"'),
        )


def _check_preset_file(preset: str) -> Iterator[RuleHit]:
    """It is copied into the run folder under its own name."""
    name = preset.replace("\\", "/").rpartition("/")[2]
    if name in RESERVED_FILE_NAMES:
        said = msg("a preset file cannot be named {name}, because the run folder has its own {name}", name=name)
        yield RuleHit(("network", "preset"), said, msg("rename the file"))


@rule("S34", WARNING, "LyCORIS has no neuron dropout in its normal mode, and not every algorithm has rank dropout.")
def ineffective_dropout(situation: RuleContext) -> Iterator[RuleHit]:
    if situation.recipe.network.network_dropout and is_lycoris(situation.network):
        yield RuleHit(
            ("network", "network_dropout"),
            _format_no_effect("network_dropout", situation),
            msg("write rank_dropout (locon, loha, lokr, diag-oft) or module_dropout"),
        )
    lycoris = is_lycoris(situation.network)
    if situation.recipe.network.rank_dropout and lycoris and situation.network not in RANK_DROPOUT_ALGORITHMS:
        said = _format_no_effect("rank_dropout", situation)
        yield RuleHit(("network", "rank_dropout"), said, msg("remove it, or write module_dropout"))


def _format_no_effect(name: str, situation: RuleContext) -> Message:
    return msg("{name} has no effect with {network}", name=name, network=situation.network)


@rule("S37.conv_alpha", WARNING, "networks.lora trains 3x3 convolutions only when conv_dim is given.")
def conv_alpha_without_dim(situation: RuleContext) -> Iterator[RuleHit]:
    network = situation.recipe.network
    if situation.network == "lora" and network.conv_alpha and not network.conv_dim:
        where = ("network", "conv_alpha")
        said = msg("conv_alpha has no effect without conv_dim")
        yield RuleHit(where, said, msg("set conv_dim = 16, or remove conv_alpha"))


@rule("S33", WARNING, "iA3 and full do not use rank and alpha; Diag-OFT and BOFT do not use alpha.")
def ignored_rank(situation: RuleContext) -> Iterator[RuleHit]:
    ignored = {
        "ia3": ("network_dim", "network_alpha", "conv_dim", "conv_alpha"),
        "diag-oft": ("network_alpha", "conv_alpha"),
        "boft": ("network_alpha", "conv_alpha"),
        "full": ("network_dim", "network_alpha", "conv_dim", "conv_alpha"),
    }
    for name in ignored.get(situation.network, ()):
        if getattr(situation.recipe.network, name) is not None:
            said = msg("{network} ignores {name}", network=situation.network, name=name)
            yield RuleHit(("network", name), said, msg("remove it"))
    if is_full_matrix(situation.recipe.network, situation.network):
        for name in ("network_alpha", "conv_alpha"):
            if getattr(situation.recipe.network, name) is not None:
                said = msg("LoKr ignores {name} in full-matrix mode, where its scale is 1", name=name)
                yield RuleHit(("network", name), said, msg("remove it"), severity=HINT)


def _ignores_alpha(situation: RuleContext) -> bool:
    return situation.network in ALPHA_IGNORED or is_full_matrix(situation.recipe.network, situation.network)


@rule("S33.saved", WARNING, "Full-matrix LoKr saves its rank as alpha, and fp16 ends at 65504 (modules/lokr.py).")
def saved_alpha_too_large(situation: RuleContext) -> Iterator[RuleHit]:
    network, alpha = situation.recipe.network, find_saved_alpha(situation.recipe.network, situation.network)
    if situation.recipe.save.save_precision == "fp16" and alpha > FP16_LIMIT:
        said = msg("LoKr saves alpha {alpha:.0f} in this mode, which becomes infinity in fp16", alpha=alpha)
        fix = msg('write save_precision = "bf16", or remove it')
        if not (network.args or {}).get("rs_lora"):
            fix = msg('write save_precision = "bf16", or network.network_dim = {rank}', rank=FULL_MATRIX_RANK)
        yield RuleHit(("save", "save_precision"), said, fix)


@rule("S37.factor", WARNING, "LoKr splits a layer by its factor; one that divides no layer acts like -1.")
def useless_factor(situation: RuleContext) -> Iterator[RuleHit]:
    factor = situation.recipe.network.factor or -1
    if situation.network == "lokr" and factor > MAX_FACTOR and all(side % factor for side in LAYER_SIDES):
        said = msg("factor {factor} divides no layer of Stable Diffusion, so it has the effect of -1", factor=factor)
        yield RuleHit(("network", "factor"), said, msg("write a small factor such as 8, or -1"))


@rule("S32", WARNING, "scale_weight_norms does nothing for some LyCORIS algorithms.")
def ineffective_norm_scaling(situation: RuleContext) -> Iterator[RuleHit]:
    if situation.recipe.network.scale_weight_norms and situation.network not in NORM_SCALING_ALGORITHMS:
        said = _format_no_effect("scale_weight_norms", situation)
        yield RuleHit(("network", "scale_weight_norms"), said, msg("remove it"))


@rule(
    "G4.79",
    HINT,
    "Regularization makes LoRAs combine better than scaled norms do, which partly destroy what was learned.",
)
def norm_scaling_without_regularization(situation: RuleContext) -> Iterator[RuleHit]:
    scaled = situation.recipe.network.scale_weight_norms and situation.network in NORM_SCALING_ALGORITHMS  # else S32
    if scaled and not situation.recipe.regularization:
        yield RuleHit(
            ("network", "scale_weight_norms"),
            msg("scale_weight_norms removes part of what was learned; the guide prefers regularization images"),
            msg("remove it and add a [[regularization]] set, or keep it for a LoRA that is used together with others"),
        )


@rule("G4.83", HINT, "Above 1, scaled weight norms change less and help less.")
def norm_scale_too_high(situation: RuleContext) -> Iterator[RuleHit]:
    norm = situation.recipe.network.scale_weight_norms or 0
    if norm > 1 and situation.network in NORM_SCALING_ALGORITHMS:
        said = msg("scale_weight_norms {norm:g} is above 1, where it interferes less and helps less", norm=norm)
        yield RuleHit(("network", "scale_weight_norms"), said, msg("write 1.0"))


@rule(
    "G4.71",
    WARNING,
    "A rank far above what the subject needs makes the file larger and can harm.",
    unless="DyLoRA, whose rank is an upper limit (G7.22)",
)
def rank_too_high(situation: RuleContext) -> Iterator[RuleHit]:
    rank = situation.recipe.network.network_dim or 0
    limit, source = RANK_LIMITS.get(situation.network, (64, "G4.71"))
    if situation.recipe.kind == "style":
        limit, source = min(limit, 32), "G8.2"
    free = situation.network in {"dylora", "ia3", "full", "networks.dylora", "networks.oft"}
    if not free and not is_full_matrix(situation.recipe.network, situation.network) and rank > limit:
        yield RuleHit(
            ("network", "network_dim"),
            msg(
                "network_dim {rank} is above {limit}, the guide's limit here ({source})",
                rank=rank,
                limit=limit,
                source=source,
            ),
            msg("write network_dim = {limit}", limit=limit),
        )


@rule("G7.15", WARNING, "LyCORIS needs an alpha of at least 0.01.")
def alpha_too_low(situation: RuleContext) -> Iterator[RuleHit]:
    alpha = situation.recipe.network.network_alpha
    if alpha is not None and alpha < 0.01 and is_lycoris(situation.network):
        yield RuleHit(
            ("network", "network_alpha"),
            msg("network_alpha {alpha:g} is too low for LyCORIS", alpha=alpha),
            msg("write 0.01 or more"),
        )


@rule(
    "G5.3",
    HINT,
    "Updates are scaled by alpha divided by rank (networks/lora.py:71): half the rank learns half as fast.",
    unless="adaptive optimizers, and half the rank with LyCORIS, which are the guide's own values",
    needs_plan=True,
)
def alpha_below_rank(situation: RuleContext) -> Iterator[RuleHit]:
    network, plan = situation.recipe.network, situation.plan
    rank = plan.value("network_dim") if plan else None
    if network.network_alpha is None or not isinstance(rank, int) or _ignores_alpha(situation):
        return
    usual = rank / 2 if is_lycoris(situation.network) else rank
    if network.network_alpha < usual and not is_adaptive(situation.optimizer):
        share = network.network_alpha / rank
        yield RuleHit(
            ("network", "network_alpha"),
            msg(
                "network_alpha {alpha:g} with network_dim {rank} multiplies the effective learning rate by {share:g}",
                alpha=network.network_alpha,
                rank=rank,
                share=share,
            ),
            msg("ignore this if you train longer, else write network_alpha = {usual:g}", usual=float(usual)),
        )


@rule(
    "G4.74",
    HINT,
    "An alpha above the rank multiplies the updates; the guide tried only rank x sqrt(rank), and dropped it.",
    unless="adaptive optimizers, which G4.73 covers",
    needs_plan=True,
)
def alpha_above_rank(situation: RuleContext) -> Iterator[RuleHit]:
    network, plan = situation.recipe.network, situation.plan
    rank = plan.value("network_dim") if plan else None
    if network.network_alpha is None or not isinstance(rank, int) or _ignores_alpha(situation):
        return
    if network.network_alpha > rank and not is_adaptive(situation.optimizer):
        times, tried = network.network_alpha / rank, scale_alpha(rank)
        said = msg(
            "network_alpha {alpha:g} with network_dim {rank} multiplies the effective learning rate by {times:.3g}",
            alpha=network.network_alpha,
            rank=rank,
            times=times,
        )
        fix = msg("write network_alpha = {rank}.0 (the guide's experiment used {tried:.2f})", rank=rank, tried=tried)
        yield RuleHit(("network", "network_alpha"), said, fix)


@rule("G4.77", WARNING, "Convolution ranks above 16 bring little and can harm.")
def conv_rank_too_high(situation: RuleContext) -> Iterator[RuleHit]:
    conv = situation.recipe.network.conv_dim or 0
    full = is_full_matrix(situation.recipe.network, situation.network)
    if conv > 16 and situation.network not in {"ia3", "full"} and not full:
        yield RuleHit(
            ("network", "conv_dim"),
            msg("conv_dim {conv} is above 16, which brings little and can harm", conv=conv),
            msg("write conv_dim = 16 or less"),
        )


@rule(
    "G4.77.lora", HINT, "networks.lora with a conv_dim becomes a separate kind of LoCon, and nothing else reports that."
)
def conv_dim_on_plain_lora(situation: RuleContext) -> Iterator[RuleHit]:
    if situation.network == "lora" and situation.recipe.network.conv_dim:
        said = msg("conv_dim turns this into sd-scripts' own LoCon, with a larger file")
        fix = msg('remove it for a plain LoRA, or write type = "locon" for the LyCORIS LoCon')
        yield RuleHit(("network", "conv_dim"), said, fix)


@rule("G7.27", WARNING, "iA3 needs a high learning rate when the optimizer does not find it.")
def wrong_ia3_rate(situation: RuleContext) -> Iterator[RuleHit]:
    rate = situation.recipe.train.unet_lr or situation.recipe.train.learning_rate
    if situation.network == "ia3" and rate and not is_adaptive(situation.optimizer) and not 5e-3 <= rate <= 1e-2:
        said = msg("a learning rate of {rate:g} does not suit iA3", rate=rate)
        yield RuleHit(("train", "learning_rate"), said, msg("write 5e-3 to 1e-2, or remove it"))


__all__: list[str] = []
