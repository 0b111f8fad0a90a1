"""Rules about the LoRA that a training continues from."""

from __future__ import annotations

from collections.abc import Iterator
from math import isclose

from lorabake_schemas.guide.registry import ERROR, WARNING, RuleContext, RuleHit, rule
from lorabake_schemas.messages import msg

FP16_PRECISION = 1e-3  # relative: of an alpha in a saved file


@rule(
    "S47",
    ERROR,
    "sd-scripts stops at another rank; at another alpha it saves the old one but trains with the new one (lora.py:61).",
    unless="dim_from_weights, which takes all of them from the file",
)
def changed_network(situation: RuleContext) -> Iterator[RuleHit]:
    found, network = situation.base.continued, situation.recipe.network
    if found is None or situation.recipe.kohya.get("dim_from_weights") is True:
        return
    for name, ranks, alphas in (("network", found.ranks, found.alphas), ("conv", found.conv_ranks, found.conv_alphas)):
        if len(ranks) > 1 or len(alphas) > 1:
            said = msg("{file} has layers of different rank or alpha, and sd-scripts would use one", file=found.file)
            yield RuleHit(("network", "network_weights"), said, msg("set dim_from_weights = true under [kohya]"))
            return
        rank, alpha = getattr(network, f"{name}_dim"), getattr(network, f"{name}_alpha")
        if ranks and rank is not None and rank != ranks[0]:
            said = msg(
                "{file} has rank {found}, so sd-scripts would stop with a size mismatch after loading the model",
                file=found.file,
                found=ranks[0],
            )
            fix = msg("write {key} = {value}, or remove it", key=name + "_dim", value=ranks[0])
            yield RuleHit(("network", f"{name}_dim"), said, fix)
        if alphas and alpha is not None and not isclose(alpha, alphas[0], rel_tol=FP16_PRECISION):
            said = msg(
                "{file} has alpha {found:g}; sd-scripts would train with {alpha:g} but save {found:g}, so the saved "
                "LoRA would be {times:.3g} times as strong as the one that was trained",
                file=found.file,
                found=alphas[0],
                alpha=alpha,
                times=alphas[0] / alpha,
            )
            fix = msg("write {key} = {value:g}, or remove it", key=name + "_alpha", value=alphas[0])
            yield RuleHit(("network", f"{name}_alpha"), said, fix)


@rule("S47.ignored", WARNING, "With dim_from_weights sd-scripts takes rank and alpha from the file (TN:671).")
def ignored_by_dim_from_weights(situation: RuleContext) -> Iterator[RuleHit]:
    found, network = situation.base.continued, situation.recipe.network
    if found is None or situation.recipe.kohya.get("dim_from_weights") is not True:
        return
    for name, values in (
        ("network_dim", found.ranks),
        ("network_alpha", found.alphas),
        ("conv_dim", found.conv_ranks),
        ("conv_alpha", found.conv_alphas),
    ):
        given = getattr(network, name)
        if given is not None and given not in values:
            said = msg("dim_from_weights takes {name} from {file}, so this has no effect", name=name, file=found.file)
            yield RuleHit(("network", name), said, msg("remove it"))


@rule("S47.unread", WARNING, "A LoRA that is not a safetensors file is not opened here, because it may be a program.")
def unread_lora(situation: RuleContext) -> Iterator[RuleHit]:
    network = situation.recipe.network
    name = network.network_weights
    if name and not name.endswith(".safetensors") and None in (network.network_dim, network.network_alpha):
        said = msg("rank and alpha of {file} are unknown, because it is not a safetensors file", file=name)
        yield RuleHit(("network", "network_weights"), said, msg("write the file's own network_dim and network_alpha"))
