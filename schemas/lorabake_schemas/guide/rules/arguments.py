"""Rules about what optimizers, schedulers and networks take, by the source of the trainer's own packages."""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import cast

from lorabake_schemas.families.model_family import ModelFamily
from lorabake_schemas.guide.defaults import find_schedule_override, has_own_rate, resolve_optimizer, resolve_scheduler
from lorabake_schemas.guide.registry import ERROR, WARNING, RuleContext, RuleHit, rule
from lorabake_schemas.messages import Message, msg
from lorabake_schemas.sd_scripts import (
    OPTIMIZERS,
    PASSED_TO_OPTIMIZERS,
    PASSED_TO_SCHEDULES,
    TORCH_SCHEDULERS,
    get_network_module,
    is_lycoris,
    is_schedule_free,
)
from lorabake_schemas.signatures import KIND_WORDS, Kind, Parameter, Signature, find_optimizer_path, fits_kind
from lorabake_schemas.values import find_gui_network_type, find_switched_network_type, parse_argument, shorten_value

Where = tuple[str | int, ...]
# Why sd-scripts cannot give an optimizer what a step of it asks for.
UNMET_NEEDS: dict[str, Message] = {
    "closure": msg("sd-scripts never passes the closure that it needs"),
    "create_graph": msg("sd-scripts never computes the second derivatives that it needs"),
}
UNSUITABLE_OPTIMIZERS: dict[str, Message] = {
    "torch.optim.Muon": msg("it accepts matrices only, and a LoRA has other tensors, too"),
    "torch.optim.SparseAdam": msg("it accepts sparse gradients only"),
}
# Of torch.optim.lr_scheduler: they need functions, other schedulers, or a loss at every step.
UNSUITABLE_SCHEDULERS = ("LambdaLR", "MultiplicativeLR", "SequentialLR", "ChainedScheduler", "ReduceLROnPlateau")
PARTLY_READ = {"torch", "transformers"}  # packages of which only the modules with optimizers are read
LYCORIS_MODULE = "lycoris.kohya"
SD_SCRIPTS_PACKAGES = ("library", "networks")
MOMENTUM_SCHEDULERS = ("CyclicLR", "OneCycleLR")


@rule("GC.12.class", ERROR, "sd-scripts looks for an optimizer's class after it has loaded the model.")
def missing_optimizer_class(situation: RuleContext) -> Iterator[RuleHit]:
    where, name = ("train", "optimizer"), resolve_optimizer(situation.recipe.train)
    path = find_optimizer_path(name, situation.signatures)
    if not situation.signatures.is_known:
        if path is None:
            said = msg(
                "{name} is not an optimizer of sd-scripts, and this trainer's packages could not be read", name=name
            )
            yield RuleHit(where, said, msg("make sure that it is a class of torch.optim"), severity=WARNING)
        return
    if path is None or (path == name and _is_missing_class(path, situation)):
        yield RuleHit(where, *_describe_missing_class(name, situation, schedulers=False))
        return
    signature = situation.optimizer_signature
    reasons = [UNMET_NEEDS[need] for need in (signature.needs if signature else ())]
    reasons += [UNSUITABLE_OPTIMIZERS[path]] if path in UNSUITABLE_OPTIMIZERS else []
    if signature and not signature.open and "lr" not in signature.by_name:
        reasons.append(msg("it does not accept the learning rate that sd-scripts passes"))
    if reasons:
        said = msg("{name} cannot train here: {why}", name=name, why=reasons[0])
        yield RuleHit(where, said, msg("use another optimizer, such as AdamW or Prodigy"))


def _is_missing_class(path: str, situation: RuleContext) -> bool:
    """Whether a dotted path surely leads nowhere: its package is not installed, or was read and has no such class."""
    known, package, module = situation.signatures, path.partition(".")[0], path.rpartition(".")[0]
    if path in known.paths:
        return False
    if module in {each.rpartition(".")[0] for each in known.paths}:
        return True
    read = {each.partition(".")[0] for each in known.paths} - PARTLY_READ
    return package in read or package not in {*known.packages, *SD_SCRIPTS_PACKAGES}


def _describe_missing_class(name: str, situation: RuleContext, *, schedulers: bool) -> tuple[Message, Message]:
    package, dot, wanted = name.rpartition(".")
    known = situation.signatures
    if dot and package.partition(".")[0] not in known.packages:
        said = msg("the trainer's packages do not include {package}", package=package.partition(".")[0])
    elif dot:
        said = msg("{package} has no class {name} that sd-scripts can use", package=package, name=wanted)
    else:
        said = msg("the trainer's packages have no class {name}", name=name)
    near = known.find_nearest(name, schedulers=schedulers)
    if not schedulers and not dot:
        own = {each.lower(): each for each in OPTIMIZERS}
        near = next((own[each] for each in difflib.get_close_matches(name.lower(), own, 1, 0.7)), near)
    if near:
        return said, msg('did you mean "{name}"?', name=near)
    return said, msg("use a class of the trainer's packages, or an environment that has it (--sd-scripts, --python)")


@rule("GC.12", ERROR, "An argument that an optimizer does not have, or a value that it refuses, stops it.")
def wrong_optimizer_arguments(situation: RuleContext) -> Iterator[RuleHit]:
    name, signature = situation.optimizer, situation.optimizer_signature
    given = situation.recipe.train.optimizer_args or {}
    if signature is not None:
        where = ("train", "optimizer_args")
        passed = PASSED_TO_OPTIMIZERS.get(name, ("lr",))
        yield from _check_arguments(name, where, given, signature, passed)
        missing = [each.name for each in signature.parameters if each.required and each.name not in {*given, *passed}]
        if missing:
            said = msg("{name} needs {arguments}", name=name, arguments=", ".join(missing))
            yield RuleHit(("train", "optimizer"), said, msg("add it to train.optimizer_args"))


def _check_arguments(
    owner: str, where: Where, given: Mapping[str, object], signature: Signature, passed: Collection[str]
) -> Iterator[RuleHit]:
    """Unknown names, values of another kind, and values that are refused; ``where`` is the table or list of them."""
    known = {name: each for name, each in signature.by_name.items() if name not in passed}
    sound = dict[str, object]()
    for name, value in given.items():
        if name in passed or (name not in known and not signature.open):
            said = msg("{name} has no argument {argument} that a recipe can set", name=owner, argument=name)
            yield RuleHit(_locate(where, name), said, _in_list(where, _suggest_argument(name, tuple(known))))
        elif name not in known:
            said = msg("{name} silently ignores {argument}, which it does not know", name=owner, argument=name)
            yield RuleHit(_locate(where, name), said, _suggest_argument(name, tuple(known)), severity=WARNING)
        elif (wanted := known[name].problem(value)) is not None:
            said = _describe_wrong_value(owner, name, value)
            yield RuleHit(_locate(where, name), said, msg("write {what}", what=wanted))
        else:
            sound[name] = value
    if refusal := signature.find_refusal(sound):
        argument, condition = refusal
        said = msg("{owner} refuses {argument} = {value}", owner=owner, argument=argument, value=_show(given[argument]))
        yield RuleHit(_locate(where, argument), said, _describe_refusal(condition, known[argument]))


def _locate(where: Where, argument: str) -> Where:
    """An argument's own key in a table; under [kohya] the list that it is in."""
    return where if where[0] == "kohya" else (*where, argument)


def _in_list(where: Where, fix: Message) -> Message:
    return msg("in {option}: {fix}", option=str(where[-1]), fix=fix) if where[0] == "kohya" else fix


def _describe_wrong_value(owner: str, argument: str, value: object) -> Message:
    return msg("{owner} does not accept {value} for {argument}", argument=argument, value=_show(value), owner=owner)


def _describe_refusal(condition: str, parameter: Parameter) -> Message:
    """What to write, by the condition in the source that the value fulfills."""
    if condition.startswith("not ") and " and " not in condition:
        return msg("write a value for which {condition} holds", condition=condition.removeprefix("not "))
    if parameter.default is not None:
        return msg(
            "it stops if {condition}; the default is {value}", condition=condition, value=_show(parameter.default)
        )
    return msg("it stops if {condition}", condition=condition)


def _show(value: object) -> str:
    """A value as a recipe has it."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple | list):
        return "[" + ", ".join(map(str, cast("Sequence[object]", value))) + "]"
    return shorten_value(value) if not isinstance(value, float) else f"{value:g}"


def _suggest_argument(argument: str, known: Sequence[str]) -> Message:
    if argument == "lr":
        return msg("use train.learning_rate instead")
    near = difflib.get_close_matches(argument, known, 1, 0.7)
    if near:
        return msg("did you mean {near}?", near=near[0])
    return msg("remove it; the supported arguments are {all}", all=", ".join(known)) if known else msg("remove it")


@rule("S3", ERROR, "sd-scripts splits every argument at each '=' and stops when there are two (TU:4860).")
def equals_in_optimizer_argument(situation: RuleContext) -> Iterator[RuleHit]:
    for name, value in (situation.recipe.train.optimizer_args or {}).items():
        if isinstance(value, str) and "=" in value:
            where = ("train", "optimizer_args", name)
            said = msg('{name} contains "=", which sd-scripts cannot read here', name=name)
            yield RuleHit(where, said, msg('write a value without "="'))


@rule("S5.class", ERROR, "sd-scripts looks for lr_scheduler_type's class after it has loaded the model (TU:5299).")
def wrong_scheduler_class(situation: RuleContext) -> Iterator[RuleHit]:
    name, known = situation.recipe.kohya.get("lr_scheduler_type"), situation.signatures
    idle = is_schedule_free(situation.optimizer) or has_own_rate(situation.recipe.train)
    if not isinstance(name, str) or not name or idle or not known.is_known:
        return
    where: Where = ("kohya", "lr_scheduler_type")
    path = name if "." in name else f"{TORCH_SCHEDULERS}.{name}"
    signature = known.find_scheduler(path)
    usable = sorted(
        each.rpartition(".")[2] for each in known.schedulers if each.startswith(TORCH_SCHEDULERS)
        and each.rpartition(".")[2] not in UNSUITABLE_SCHEDULERS
    )  # fmt: skip
    if path.startswith(f"{TORCH_SCHEDULERS}.") and path.rpartition(".")[2] not in usable:
        near = next(iter(difflib.get_close_matches(name, usable, 1, 0.6)), None)
        near = near or (None if signature else known.find_by_class(name, schedulers=True))
        choices = msg("write one of {names}, or a dotted class path", names=", ".join(usable))
        fix = msg('did you mean "{name}"?', name=near) if near else choices
        yield RuleHit(where, msg("{name} is not a PyTorch scheduler that sd-scripts can use", name=name), fix)
    elif signature is None and "." in name and _is_missing_class(path, situation):
        yield RuleHit(where, *_describe_missing_class(name, situation, schedulers=True))
    elif signature is not None:
        yield from _check_scheduler_arguments(name, signature, situation)


def _check_scheduler_arguments(name: str, signature: Signature, situation: RuleContext) -> Iterator[RuleHit]:
    given = parse_scheduler_args(situation)
    yield from _check_arguments(name, ("kohya", "lr_scheduler_args"), given, signature, ())
    missing = [each.name for each in signature.parameters if each.required and each.name not in given]
    short = name.rpartition(".")[2]
    if short == "OneCycleLR" and not {"total_steps", "epochs"} & given.keys():
        missing.append("total_steps")
    optimizer = situation.optimizer_signature
    momentum = optimizer is None or {"betas", "momentum"} & optimizer.by_name.keys()
    if short in MOMENTUM_SCHEDULERS and not momentum and "cycle_momentum" not in given:
        missing.append("cycle_momentum")  # = False: without momentum to cycle
    if missing:
        listed = ", ".join(f'"{argument}=..."' for argument in missing)
        fix = msg("add {arguments} to the list lr_scheduler_args under [kohya]", arguments=listed)
        said = msg("{name} needs {arguments}", name=name, arguments=", ".join(missing))
        yield RuleHit(("kohya", "lr_scheduler_type"), said, fix)


def parse_scheduler_args(situation: RuleContext) -> dict[str, object]:
    """[kohya] lr_scheduler_args as sd-scripts reads them (TU:5262); what it cannot read is left out."""
    given = situation.recipe.kohya.get("lr_scheduler_args", ())
    items = given if isinstance(given, tuple) else ()
    pairs = (str(item).partition("=") for item in items)
    return {name.strip(): parse_argument(text) for name, equals, text in pairs if equals}


@rule("S5.args", ERROR, "sd-scripts reads lr_scheduler_args as Python values and hands them to the scheduler.")
def wrong_scheduler_arguments(situation: RuleContext) -> Iterator[RuleHit]:
    given, where = situation.recipe.kohya.get("lr_scheduler_args", ()), ("kohya", "lr_scheduler_args")
    for item in given if isinstance(given, tuple) else ():
        name, equals, text = str(item).partition("=")
        if not equals or "=" in text or not name.isidentifier():
            said = msg("{value} is not name=value", value=shorten_value(item))
            yield RuleHit(where, said, msg("write each argument as name=value"))
        elif isinstance(value := parse_argument(text), str) and text[:1] not in {"'", '"'}:
            said = msg("{name} is text without quotes, which sd-scripts cannot read", name=name)
            quoted = f"{name}='{value}'"
            yield RuleHit(where, said, msg("put quotes around it: {what}", what=quoted))
        elif isinstance(value, bool) and text.strip() != str(value):
            right = f"{name}={value}"
            said = msg("sd-scripts reads only True and False as switches here, not {value}", value=text)
            yield RuleHit(where, said, msg("write it as {what}", what=right))
    chosen = resolve_scheduler(situation.recipe)
    signature = situation.signatures.schedules.get(chosen or "")
    if chosen and signature is not None and not find_schedule_override(situation.recipe):
        passed = PASSED_TO_SCHEDULES.get(chosen, ())
        yield from _check_arguments(chosen, where, parse_scheduler_args(situation), signature, passed)


@rule("S5.steps", ERROR, "OneCycleLR stops at the first step beyond its total_steps.", needs_plan=True)
def too_few_cycle_steps(situation: RuleContext) -> Iterator[RuleHit]:
    name, given = situation.recipe.kohya.get("lr_scheduler_type"), parse_scheduler_args(situation)
    if situation.plan is None or str(name).rpartition(".")[2] != "OneCycleLR":
        return
    total, per_epoch, epochs = (given.get(key) for key in ("total_steps", "steps_per_epoch", "epochs"))
    if total is None and isinstance(per_epoch, int) and isinstance(epochs, int):
        total = per_epoch * epochs
    steps = situation.plan.forecast.steps * (situation.plan.launch.num_processes or 1)
    if isinstance(total, int) and total < steps:
        said = msg("OneCycleLR has {total} steps, but the run has {steps}, so it stops early", total=total, steps=steps)
        right = f'lr_scheduler_args = ["total_steps={steps}", ...]'
        fix = msg("write {what}", what=right)
        yield RuleHit(("kohya", "lr_scheduler_args"), said, fix)


@rule("S37.type", ERROR, "The network's module and its algorithm are looked up after the model is loaded.")
def unknown_network_type(situation: RuleContext) -> Iterator[RuleHit]:
    given, known = situation.recipe.network.type, situation.signatures
    choices = tuple(known.iter_network_types())
    if given is None or not known.networks or given in choices:
        return
    where: Where = ("network", "type")
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


@rule("S37.args", ERROR, "A network looks up its arguments by name and silently ignores every other.")
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
            yield RuleHit(where, said, _suggest_network_argument(name, tuple(module.arguments), situation))
        elif module is not None and (wanted := _find_expected_kind(value, module.arguments[name])):
            said = msg(
                "{argument} is {value}, which {owner} does not accept",
                argument=name,
                value=_show(value),
                owner=situation.network,
            )
            yield RuleHit(where, said, msg("write {what}", what=wanted))
        elif is_lycoris(situation.network) and name in _list_unused(situation):
            yield RuleHit(where, *_describe_unused(name, situation))
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
            yield RuleHit(("network", name), *_describe_unused(name, situation))


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
        yield RuleHit(where, _describe_wrong_value("lora", name, value), msg("write {what}", what=kind))
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
        yield RuleHit(where, _describe_wrong_value("lora", name, value), fix)
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
        return msg("{name} must be above 0, not {value}", name=name, value=_show(value)), msg(
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


__all__: list[str] = []
