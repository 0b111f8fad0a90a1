"""Rules about what networks take, by the source of the trainer's own packages."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import cast

from lorabake_schemas.families.model_family import ModelFamily
from lorabake_schemas.guide.registry import ERROR, WARNING, RuleContext, RuleHit, rule
from lorabake_schemas.messages import Message, msg
from lorabake_schemas.sd_scripts import get_network_module, is_lycoris
from lorabake_schemas.signatures import KIND_WORDS, Kind, describe_wrong_value, fits_kind
from lorabake_schemas.values import find_gui_network_type, find_switched_network_type, format_value

Where = tuple[str | int, ...]
LYCORIS_MODULE = "lycoris.kohya"


@rule("S37.type", ERROR, "The network's module and its algorithm are looked up after the model is loaded.")
def unknown_network_type(situation: RuleContext) -> Iterator[RuleHit]:
    given, known = situation.recipe.network.type, situation.signatures
    choices = tuple(known.iter_network_types())
    where: Where = ("network", "type")
    if not known.networks:
        return
    if given is None or given in choices:
        if (lacking := get_network_module(situation.network)) not in known.networks:
            said = msg("{module} is missing in the trainer", module=lacking)
            yield RuleHit(where, said, msg("restore its files (`git status` in sd-scripts shows what is missing)"))
        return
    module = known.networks.get(given)
    if given == LYCORIS_MODULE:
        said = msg("{name} has several algorithms", name=given)
        yield RuleHit(where, said, msg("write one of {names}", names=", ".join(known.algorithms)))
        return
    if module is not None:
        said = msg("{name} trains other models than Stable Diffusion 1.5, 2 and SDXL", name=given)
        yield RuleHit(where, said, msg("write one of {names}", names=", ".join(choices)))
        return
    plain = given.removeprefix("networks.")
    near = find_gui_network_type(given) or (plain if plain in choices else None)
    near = near or next(iter(difflib.get_close_matches(given, choices, 1, 0.6)), None)
    said = msg('unknown network type "{name}"', name=given)
    if switched := find_switched_network_type(given):
        yield RuleHit(where, said, msg('write type = "{name}" and {setting}', name=switched[0], setting=switched[1]))
        return
    fix = msg("write one of {names}", names=", ".join(choices))
    yield RuleHit(where, said, msg('write type = "{name}"', name=near) if near else fix)


@rule(
    "S37.args",
    ERROR,
    "A network looks up its arguments by name and silently ignores every other; "
    "one that another network takes is only a warning.",
)
def wrong_network_arguments(situation: RuleContext) -> Iterator[RuleHit]:
    args = situation.recipe.network.args or {}
    module = situation.signatures.networks.get(get_network_module(situation.network))
    for name, value in args.items():
        where = ("network", "args", name)
        if name in NETWORK_KEYS:
            said = msg("{name} is set twice, under [network] and under [network.args]", name=name)
            yield RuleHit(where, said, msg("keep one of the two"))
        elif isinstance(value, str) and any(not sign.isprintable() for sign in value):
            yield RuleHit(where, msg("{name} contains a control character", name=name), msg("remove it"))
        elif module is not None and name not in module.arguments:
            said = msg(
                "{network} has no argument {name}, so it would have no effect", network=situation.network, name=name
            )
            fix = _suggest_network_argument(name, tuple(module.arguments), situation)
            is_known = any(name in each.arguments for each in situation.signatures.networks.values())
            yield RuleHit(where, said, fix, severity=WARNING if is_known else None)
        elif module is not None and (wanted := _find_expected_kind(value, module.arguments[name])):
            said = msg(
                "{argument} is {value}, which {owner} does not accept",
                argument=name,
                value=format_value(value),
                owner=situation.network,
            )
            yield RuleHit(where, said, msg("write {what}", what=wanted))
        elif is_lycoris(situation.network) and name in _list_unused(situation):
            yield RuleHit(where, *_describe_unused(name, situation), severity=WARNING)
        elif problem := _find_range_problem(name, value):
            yield RuleHit(where, *problem)
    yield from _check_network_keys(situation)


def _check_network_keys(situation: RuleContext) -> Iterator[RuleHit]:
    """Keys under [network] that a module of sd-scripts does not look up; networks.lora's are S37's, DoRA is G4.22's."""
    network, module = situation.recipe.network, situation.signatures.networks.get(get_network_module(situation.network))
    if module is None or situation.network == "lora" or is_lycoris(situation.network):
        return
    for name in ARGUMENT_KEYS:
        if name != "dora_wd" and getattr(network, name) is not None and name not in module.arguments:
            yield RuleHit(("network", name), *_describe_unused(name, situation), severity=WARNING)


@rule(
    "S37.partner", WARNING, "Some arguments of a network act only together with others (networks/lora.py:445, LyCORIS)."
)
def idle_network_arguments(situation: RuleContext) -> Iterator[RuleHit]:
    network = situation.recipe.network
    given = {**(network.args or {}), "dora_wd": network.dora_wd or None}
    for name, partners in ARGUMENT_PARTNERS.items():
        if given.get(name) is not None and all(given.get(each) is None for each in partners):
            said = msg("{name} has no effect without {others}", name=name, others=", ".join(partners))
            yield RuleHit(("network", "args", name), said, msg("remove it, or add one of them"))


def parse_factors(value: object) -> list[float]:
    """The factors in a number, a list, text with commas, or the name of a curve with what is added to it."""
    pieces = cast("tuple[object, ...]", value) if isinstance(value, tuple) else str(value).split(",")
    found = list[float]()
    for piece in pieces:
        curve, _, base = str(piece).strip().partition("+")
        try:
            found += [float(base or 0)] if curve == "zeros" else [float(curve or 0)]
        except ValueError:
            found += [0.5, 1.0] if curve in BLOCK_CURVES else []
    return found


BLOCK_CURVES = ("cosine", "sine", "linear", "reverse_linear")
LR_WEIGHTS = ("down_lr_weight", "mid_lr_weight", "up_lr_weight")
NONNEGATIVE_ARGUMENTS = (
    *LR_WEIGHTS, "block_dims", "block_alphas", "conv_block_dims", "conv_block_alphas", "block_lr_zero_threshold",
)  # fmt: skip
ARGUMENT_PARTNERS = {
    "wd_on_output": ("dora_wd",),
    "block_alphas": ("block_dims", *LR_WEIGHTS),
    "conv_block_dims": ("block_dims", *LR_WEIGHTS),
    "conv_block_alphas": ("block_dims", *LR_WEIGHTS),
    "block_lr_zero_threshold": LR_WEIGHTS,
}
# Keys under [network] that are arguments of the network, and those with another name there.
ARGUMENT_KEYS = (
    "conv_dim", "conv_alpha", "rank_dropout", "module_dropout", "dora_wd", "factor", "block_size", "constraint",
    "preset", "use_tucker", "use_scalar", "rescaled", "train_norm",
)  # fmt: skip
NETWORK_KEYS = (*ARGUMENT_KEYS, "algo", "type", "dropout", "network_dim", "network_alpha", "network_dropout")


@rule(
    "S37.blocks",
    ERROR,
    "networks.lora wants a value for each block, and takes no other word for a list (networks/lora.py).",
)
def wrong_block_lists(situation: RuleContext) -> Iterator[RuleHit]:
    args = situation.recipe.network.args or {}
    if situation.network != "lora":
        return
    if any(args.get(name) is not None for name in ("block_dims", *LR_WEIGHTS)):
        for name in BLOCK_LISTS:
            if (value := args.get(name)) is not None:
                yield from _check_block_list(name, value, situation.family)
    for name in LR_WEIGHTS:
        if (value := args.get(name)) is not None:
            yield from _check_block_rates(name, value, situation.family, args)


BLOCK_LISTS = ("block_dims", "block_alphas", "conv_block_dims", "conv_block_alphas")
RATE_CURVES = ("cosine", "sine", "linear", "reverse_linear", "zeros")  # networks/lora.py:606
_NUMBER = re.compile(r"\s*[-+]?(\d+\.?\d*|\.\d+)(e[-+]?\d+)?\s*", re.IGNORECASE)


def _split_list(value: object) -> list[str]:
    """As the network splits the text that it gets."""
    return (
        [str(each) for each in cast("Sequence[object]", value)] if isinstance(value, tuple) else str(value).split(",")
    )


def _check_block_list(name: str, value: object, family: ModelFamily) -> Iterator[RuleHit]:
    items, where, wanted = _split_list(value), ("network", "args", name), family.lora_blocks.all
    pattern = re.compile(r"\s*\+?\d+\s*") if name.endswith("dims") else _NUMBER
    if not all(map(pattern.fullmatch, items)):
        kind = msg("a list of whole numbers") if name.endswith("dims") else KIND_WORDS["list"]
        yield RuleHit(where, describe_wrong_value("lora", name, value), msg("write {what}", what=kind))
    elif len(items) != wanted:
        said = msg(
            "{name} has {count} values, but {family} has {wanted} blocks",
            name=name,
            count=len(items),
            family=family.label,
            wanted=wanted,
        )
        yield RuleHit(where, said, msg("write a list of {n} numbers", n=wanted))


def _check_block_rates(name: str, value: object, family: ModelFamily, args: Mapping[str, object]) -> Iterator[RuleHit]:
    """Weights of the learning rate: a list, whose missing values are 1, or for down and up the name of a curve."""
    items, where, middle = _split_list(value), ("network", "args", name), name == "mid_lr_weight"
    most = family.lora_blocks.middle if middle else family.lora_blocks.side
    curve, _, base = items[0].partition("+")
    is_curve = not middle and len(items) == 1 and curve in RATE_CURVES and (not base or _NUMBER.fullmatch(base))
    # an empty value in a list is 0; a number alone is taken for the name of a curve, and has no effect then
    is_list = all(_NUMBER.fullmatch(each) or (not each and len(items) > 1) for each in items)
    if not (is_curve or (is_list and (middle or len(items) > 1))):
        names = ", ".join(f'"{each}"' for each in RATE_CURVES)
        fix = msg("write a list of {n} numbers, or one of {names}", n=most, names=names)
        fix = msg("write a list of {n} numbers", n=most) if middle else fix
        yield RuleHit(where, describe_wrong_value("lora", name, value), fix)
    elif len(items) > most:
        said = msg(
            "{name} has {count} values, but {family} has {wanted} blocks",
            name=name,
            count=len(items),
            family=family.label,
            wanted=most,
        )
        # sd-scripts cuts down and up off together, and stops where one of them is missing
        stops = not middle and any(args.get(each) is None for each in ("down_lr_weight", "up_lr_weight"))
        yield RuleHit(where, said, msg("write a list of {n} numbers", n=most), severity=ERROR if stops else WARNING)


def _suggest_network_argument(name: str, known: Sequence[str], situation: RuleContext) -> Message:
    near = difflib.get_close_matches(name, known, 1, 0.7)
    if near:
        return msg("did you mean {near}?", near=near[0])
    others = [each for each, module in situation.signatures.networks.items() if module.sd and name in module.arguments]
    if others:
        return msg("remove it; networks with this argument: {names}", names=", ".join(others))
    return msg("remove it; the supported arguments are {all}", all=", ".join(n for n in known if n not in NETWORK_KEYS))


def _find_expected_kind(value: object, kinds: Sequence[Kind]) -> Message | None:
    """What to write instead. Text that a network splits at commas may be a list, one number, or text."""
    if not kinds or "list" in kinds or any(fits_kind(value, kind) for kind in kinds):
        if kinds == ("flag",) and value is False:
            return msg("true, or remove it: any value, even false, turns it on")
        return None
    return KIND_WORDS[kinds[0]]


def _find_range_problem(name: str, value: object) -> tuple[Message, Message] | None:
    """A factor of a learning rate, a rank or an alpha is not negative, a ratio (of LoRA+) not 0 either: the weights
    that it is for start at 0 and would stay there (networks/lora.py:496).
    """
    factors = parse_factors(value)
    if name.endswith("_ratio") and any(factor <= 0 for factor in factors):
        return msg("{name} must be above 0, not {value}", name=name, value=format_value(value)), msg(
            "write {name} = 16", name=name
        )
    if name in NONNEGATIVE_ARGUMENTS and any(factor < 0 for factor in factors):
        return msg("{name} must not be negative", name=name), msg("write numbers of at least 0")
    return None


def _list_unused(situation: RuleContext) -> set[str]:
    """The arguments that only other algorithms of LyCORIS make use of."""
    algorithms = situation.signatures.algorithms
    used = {name for names in algorithms.values() for name in names}
    return used - set(algorithms.get(situation.network, used))


def _describe_unused(name: str, situation: RuleContext) -> tuple[Message, Message]:
    said = msg("{network} does not support {name} and silently ignores it", name=name, network=situation.network)
    types = [each for each, names in situation.signatures.algorithms.items() if name in names and each != "lora"]
    if not types:
        return said, msg("remove it")
    return said, msg("remove it, or use one of these types: {types}", types=", ".join(types))
