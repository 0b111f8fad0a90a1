"""What networks, optimizers and schedulers of a trainer take: the shape of vendor/signatures.json, checks against it.

It is read from the source of sd-scripts and its packages (trainer/scripts/dump_signatures.py), which is never imported.
"""

from __future__ import annotations

import ast
import difflib
import operator
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Literal, cast

from pydantic import Field

from lorabake_schemas.base import StrictModel, TupleOf
from lorabake_schemas.messages import Message, msg
from lorabake_schemas.sd_scripts import OPTIMIZER_CLASSES, get_network_module, is_lycoris
from lorabake_schemas.values import format_value

# flag: a switch that any text turns on, "False", too.
Kind = Literal["bool", "int", "float", "str", "list", "flag"]
KIND_WORDS: dict[Kind, Message] = {
    "bool": msg("true or false, without quotes"),
    "flag": msg("true or false, without quotes"),
    "int": msg("a whole number"),
    "float": msg("a number"),
    "str": msg("text in quotes"),
    "list": msg("a list of numbers"),
}


class Parameter(StrictModel):
    """One argument: its kinds (none: anything), how many items a list has, its choices."""

    name: str
    kinds: TupleOf[Kind] = ()
    length: int | None = None
    choices: TupleOf[str] = ()
    required: bool = False
    default: bool | int | float | str | TupleOf[Any] | None = None

    def problem(self, value: object) -> Message | None:
        """What to write instead of ``value``; None where it fits."""
        if self.choices and isinstance(value, str) and value not in self.choices:
            return msg("one of: {choices}", choices=", ".join(self.choices))
        items = cast("Sequence[object]", value) if fits_kind(value, "list") and "list" in self.kinds else None
        if items is not None and self.length not in {None, len(items)}:
            return _describe_list(self)
        if (
            not self.kinds
            or (value is None and self.default is None and not self.required)
            or any(fits_kind(value, kind) for kind in self.kinds)
        ):
            return None
        return _describe_list(self) if self.kinds == ("list",) else KIND_WORDS[self.kinds[0]]


def _describe_list(wanted: Parameter) -> Message:
    if not isinstance(wanted.default, tuple | list):
        return KIND_WORDS["list"]
    shown = "[" + ", ".join(str(item) for item in wanted.default) + "]"
    return msg("a list of {n} numbers such as {example}", n=wanted.length or len(wanted.default), example=shown)


def describe_wrong_value(owner: str, argument: str, value: object) -> Message:
    return msg(
        "{owner} does not accept {value} for {argument}", argument=argument, value=format_value(value), owner=owner
    )


def fits_kind(value: object, kind: Kind) -> bool:
    """Whether a recipe's value is of this kind. An int is accepted as a float; true is not a number."""
    if kind in {"bool", "flag"}:
        return isinstance(value, bool)
    if kind == "list":
        return isinstance(value, tuple | list)
    kinds = {"int": (int,), "float": (int, float), "str": (str,)}[kind]
    return isinstance(value, kinds) and not isinstance(value, bool)


class Signature(StrictModel):
    """What building a class takes. ``open``: other names are accepted, too. ``refuses``: the conditions, in Python,
    under which it raises an error. ``needs``: what a step asks of its caller, which sd-scripts does not give."""

    parameters: TupleOf[Parameter]
    open: bool = False
    refuses: TupleOf[str] = ()
    needs: TupleOf[Literal["closure", "create_graph"]] = ()

    @property
    def by_name(self) -> dict[str, Parameter]:
        return {each.name: each for each in self.parameters}

    def find_refusal(self, given: Mapping[str, object]) -> tuple[str, str] | None:
        """The first condition that a value in ``given`` fulfills, and that argument's name."""
        values: dict[str, object] = {each.name: each.default for each in self.parameters if not each.required} | {
            **given
        }
        for condition in self.refuses:
            named = [name for name in _list_names(condition) if name in given]
            if named and evaluate_condition(condition, values):
                return named[0], condition
        return None


def _list_names(condition: str) -> list[str]:
    return [node.id for node in ast.walk(ast.parse(condition, mode="eval")) if isinstance(node, ast.Name)]


_COMPARISONS: dict[type[ast.cmpop], Callable[[Any, Any], Any]] = {
    ast.Lt: operator.lt, ast.LtE: operator.le, ast.Gt: operator.gt, ast.GtE: operator.ge, ast.Eq: operator.eq,
    ast.NotEq: operator.ne, ast.Is: operator.is_, ast.IsNot: operator.is_not,
    ast.In: lambda a, b: a in b, ast.NotIn: lambda a, b: a not in b,
}  # fmt: skip


def evaluate_condition(condition: str, values: Mapping[str, object]) -> bool:
    """Whether a condition made of comparisons alone is true; False if that is unknown."""
    try:
        return bool(_evaluate(ast.parse(condition, mode="eval").body, values))
    except (SyntaxError, LookupError, TypeError, ValueError, RecursionError):
        return False


def _evaluate(node: ast.expr, values: Mapping[str, object]) -> Any:
    """Raises LookupError or TypeError for anything but a comparison of known values."""
    if isinstance(node, ast.UnaryOp):
        inner = _evaluate(node.operand, values)
        return not inner if isinstance(node.op, ast.Not) else -inner
    match node:
        case ast.Constant():
            found: Any = node.value
        case ast.Name():
            found = values[node.id]
        case ast.Tuple() | ast.List() | ast.Set():
            found = tuple(_evaluate(each, values) for each in node.elts)
        case ast.Subscript():
            found = _evaluate(node.value, values)[_evaluate(node.slice, values)]
        case ast.BoolOp():
            parts = (bool(_evaluate(each, values)) for each in node.values)
            found = all(parts) if isinstance(node.op, ast.And) else any(parts)
        case ast.Compare():
            found = _compare(node, values)
        case _:
            raise LookupError(ast.dump(node))
    return found


def _compare(node: ast.Compare, values: Mapping[str, object]) -> bool:
    left = _evaluate(node.left, values)
    for comparison, right_node in zip(node.ops, node.comparators, strict=True):
        right = _evaluate(right_node, values)
        if not _COMPARISONS[type(comparison)](left, right):
            return False
        left = right
    return True


class NetworkModule(StrictModel):
    """The arguments that a network module looks up in network_args, each with the kinds that it makes of their text.
    ``sd``: it attaches to the UNets of SD1.5, SD2 and SDXL."""

    arguments: dict[str, TupleOf[Kind]]
    sd: bool


class Signatures(StrictModel):
    """All that was read from a trainer; empty if its source could not be read.

    ``algorithms`` are LyCORIS' with the arguments that each uses; ``paths`` every dotted path to an optimizer or
    a scheduler with the definition that it leads to; ``modules`` the classes that modules of a model can have;
    ``packages`` what can be imported at all.
    """

    networks: dict[str, NetworkModule] = Field(default_factory=dict)
    algorithms: dict[str, TupleOf[str]] = Field(default_factory=dict)
    optimizers: dict[str, Signature] = Field(default_factory=dict)
    schedulers: dict[str, Signature] = Field(default_factory=dict)
    schedules: dict[str, Signature] = Field(default_factory=dict)
    paths: dict[str, str] = Field(default_factory=dict)
    modules: TupleOf[str] = ()
    packages: TupleOf[str] = ()

    @property
    def is_known(self) -> bool:
        return bool(self.packages)

    def list_types_with(self, argument: str) -> tuple[str, ...]:
        """The values of network.type whose network takes this argument in network_args and uses it."""
        used = {name for names in self.algorithms.values() for name in names}
        return tuple(
            name
            for name in self.iter_network_types()
            if (module := self.networks.get(get_network_module(name)))
            and argument in module.arguments
            and (not is_lycoris(name) or argument not in used or argument in self.algorithms[name])
        )

    def is_optimizer_argument(self, name: str) -> bool:
        """Whether some optimizer takes this argument from a recipe."""
        return name != "lr" and any(name in each.by_name for each in self.optimizers.values())

    def find_optimizer(self, path: str) -> Signature | None:
        return self.optimizers.get(self.paths.get(path, ""))

    def find_scheduler(self, path: str) -> Signature | None:
        return self.schedulers.get(self.paths.get(path, ""))

    def list_paths(self, *, schedulers: bool = False) -> dict[str, str]:
        """The shortest path to each optimizer or scheduler, by the path that defines it."""
        known, found = self.schedulers if schedulers else self.optimizers, dict[str, str]()
        for path in sorted(self.paths, key=lambda path: (path.count("."), path)):
            if self.paths[path] in known:
                found.setdefault(self.paths[path], path)
        return found

    def find_by_class(self, name: str, *, schedulers: bool = False) -> str | None:
        """The shortest path to a class by its name alone, in any case."""
        paths = self.list_paths(schedulers=schedulers).values()
        named = [path for path in paths if path.rpartition(".")[2].lower() == name.lower()]
        exact = [path for path in named if path.rpartition(".")[2] == name]
        return next(iter(exact or named), None)

    def find_nearest(self, name: str, *, schedulers: bool = False) -> str | None:
        """The path whose class is most like that of ``name``, in its own package first."""
        paths = list(self.list_paths(schedulers=schedulers).values())
        package, _, wanted = name.rpartition(".")
        own = [path for path in paths if package and path.startswith(package.partition(".")[0] + ".")]
        for candidates in (own, paths):
            by_class = {path.rpartition(".")[2].lower(): path for path in reversed(candidates)}
            near = difflib.get_close_matches(wanted.lower(), by_class, 1, 0.7)
            if near:
                return by_class[near[0]]
        return None

    def iter_network_types(self) -> Iterator[str]:
        """Everything that network.type can be: LyCORIS' algorithms, and sd-scripts' own modules that suit SD."""
        yield "lora"
        yield from (name for name in self.algorithms if name != "lora")
        yield from (
            name
            for name, each in self.networks.items()
            if each.sd and name.startswith("networks.") and name != "networks.lora"
        )


NO_SIGNATURES = Signatures.model_construct()


def find_optimizer_path(name: str, signatures: Signatures) -> str | None:
    """The class of a recipe's optimizer: one of sd-scripts' names, a class path, a class of torch.optim or of
    another package of the trainer. None for an unknown name.
    """
    if name in OPTIMIZER_CLASSES or "." in name:
        return OPTIMIZER_CLASSES.get(name, name)
    torch = f"torch.optim.{name}"
    return torch if torch in signatures.paths else signatures.find_by_class(name)
