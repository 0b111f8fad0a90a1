"""Rules about what optimizers and schedulers take, by the source of the trainer's own packages."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterator, Mapping, Sequence

from lorabake_schemas.guide.defaults import has_own_rate, resolve_optimizer, resolve_scheduler
from lorabake_schemas.guide.registry import ERROR, WARNING, RuleContext, RuleHit, rule
from lorabake_schemas.messages import Message, msg
from lorabake_schemas.plan import Plan
from lorabake_schemas.sd_scripts import (
    OPTIMIZERS,
    PASSED_TO_OPTIMIZERS,
    PASSED_TO_SCHEDULES,
    TORCH_SCHEDULERS,
    is_schedule_free,
)
from lorabake_schemas.signatures import Parameter, Signature, describe_wrong_value, find_optimizer_path
from lorabake_schemas.values import format_value

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
SD_SCRIPTS_PACKAGES = ("library", "networks")
SCHEDULER_ARGS = ("train", "lr_scheduler_args")
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
            yield RuleHit((*where, name), said, _suggest_argument(name, tuple(known)))
        elif name not in known:
            said = msg("{name} silently ignores {argument}, which it does not know", name=owner, argument=name)
            yield RuleHit((*where, name), said, _suggest_argument(name, tuple(known)), severity=WARNING)
        elif (wanted := known[name].problem(value)) is not None:
            said = describe_wrong_value(owner, name, value)
            yield RuleHit((*where, name), said, msg("write {what}", what=wanted))
        else:
            sound[name] = value
    if refusal := signature.find_refusal(sound):
        argument, condition = refusal
        said = msg(
            "{owner} refuses {argument} = {value}", owner=owner, argument=argument, value=format_value(given[argument])
        )
        yield RuleHit((*where, argument), said, _describe_refusal(condition, known[argument]))


def _describe_refusal(condition: str, parameter: Parameter) -> Message:
    """What to write, by the condition in the source that the value fulfills."""
    if condition.startswith("not ") and " and " not in condition:
        return msg("write a value for which {condition} holds", condition=condition.removeprefix("not "))
    if parameter.default is not None:
        return msg(
            "it stops if {condition}; the default is {value}",
            condition=condition,
            value=format_value(parameter.default),
        )
    return msg("it stops if {condition}", condition=condition)


def _suggest_argument(argument: str, known: Sequence[str]) -> Message:
    if argument == "lr":
        return msg("use train.learning_rate instead")
    near = difflib.get_close_matches(argument, known, 1, 0.7)
    if near:
        return msg("did you mean {near}?", near=near[0])
    return msg("remove it; the supported arguments are {all}", all=", ".join(known)) if known else msg("remove it")


@rule("S3", ERROR, "sd-scripts splits every argument at each '=' and stops when there are two (TU:4860, 5290).")
def equals_in_argument(situation: RuleContext) -> Iterator[RuleHit]:
    train = situation.recipe.train
    for key, given in (("optimizer_args", train.optimizer_args), ("lr_scheduler_args", train.lr_scheduler_args)):
        for name, value in (given or {}).items():
            if isinstance(value, str) and "=" in value:
                said = msg('{name} contains "=", which sd-scripts cannot read here', name=name)
                yield RuleHit(("train", key, name), said, msg('write a value without "="'))


@rule("S5.class", ERROR, "sd-scripts looks for lr_scheduler_type's class after it has loaded the model (TU:5299).")
def wrong_scheduler_class(situation: RuleContext) -> Iterator[RuleHit]:
    name, known = situation.recipe.train.lr_scheduler_type, situation.signatures
    idle = is_schedule_free(situation.optimizer) or has_own_rate(situation.recipe.train)
    if not name or idle or not known.is_known:
        return
    where: Where = ("train", "lr_scheduler_type")
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
    given = situation.recipe.train.lr_scheduler_args or {}
    yield from _check_arguments(name, SCHEDULER_ARGS, given, signature, ())
    missing = [each.name for each in signature.parameters if each.required and each.name not in given]
    short = name.rpartition(".")[2]
    if short == "OneCycleLR" and not {"total_steps", "epochs"} & given.keys():
        missing.append("total_steps")
    optimizer = situation.optimizer_signature
    momentum = optimizer is None or {"betas", "momentum"} & optimizer.by_name.keys()
    if short in MOMENTUM_SCHEDULERS and not momentum and "cycle_momentum" not in given:
        missing.append("cycle_momentum")  # = False: without momentum to cycle
    if missing:
        fix = msg("add {arguments} to train.lr_scheduler_args", arguments=", ".join(missing))
        said = msg("{name} needs {arguments}", name=name, arguments=", ".join(missing))
        yield RuleHit(("train", "lr_scheduler_type"), said, fix)


@rule("S5.args", ERROR, "An argument that a scheduler does not have, or a value that it refuses, stops it.")
def wrong_scheduler_arguments(situation: RuleContext) -> Iterator[RuleHit]:
    chosen = resolve_scheduler(situation.recipe)
    signature = situation.signatures.schedules.get(chosen or "")
    given = situation.recipe.train.lr_scheduler_args or {}
    if chosen and signature is not None:
        passed = PASSED_TO_SCHEDULES.get(chosen, ())
        yield from _check_arguments(chosen, SCHEDULER_ARGS, given, signature, passed)


@rule("S5.steps", ERROR, "OneCycleLR stops at the first step beyond its total_steps.", needs_plan=True)
def too_few_cycle_steps(situation: RuleContext) -> Iterator[RuleHit]:
    given = situation.recipe.train.lr_scheduler_args or {}
    name = str(situation.recipe.train.lr_scheduler_type).rpartition(".")[2]
    if situation.plan is None or name != "OneCycleLR" or (found := find_total_steps(given)) is None:
        return
    key, total = found
    steps = count_scheduler_steps(situation.plan)
    if total < steps:
        said = msg("OneCycleLR has {total} steps, but the run has {steps}, so it stops early", total=total, steps=steps)
        yield RuleHit((*SCHEDULER_ARGS, key), said, msg("write total_steps = {number}", number=steps))


def find_total_steps(given: Mapping[str, object]) -> tuple[str, int] | None:
    """The length of OneCycleLR's cycle, and the argument that it is from; None without one that can be read."""
    total, per_epoch, epochs = (given.get(key) for key in ("total_steps", "steps_per_epoch", "epochs"))
    if total is None and isinstance(per_epoch, int) and isinstance(epochs, int):
        return "epochs", per_epoch * epochs
    return ("total_steps", total) if isinstance(total, int) else None


def count_scheduler_steps(plan: Plan) -> int:
    """Steps of the scheduler: accelerate makes one for each process in every step of the run."""
    return plan.forecast.steps * (plan.launch.num_processes or 1)
