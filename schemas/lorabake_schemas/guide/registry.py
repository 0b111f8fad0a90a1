"""Rules with an identity: what a rule is, what it may look at, and the list of all of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from types import ModuleType
from typing import NamedTuple

from lorabake_schemas.cache_origins import StaleCache
from lorabake_schemas.dataset import DatasetFacts
from lorabake_schemas.disks import DiskNeed, FileLimit
from lorabake_schemas.families.model_family import ModelFamily
from lorabake_schemas.findings import Finding, Severity
from lorabake_schemas.guide.defaults import resolve_family, resolve_network_type, resolve_optimizer
from lorabake_schemas.guide.tags import TagIndex
from lorabake_schemas.machine import BaseFacts, MachineFacts
from lorabake_schemas.messages import Message, msg
from lorabake_schemas.options import Option
from lorabake_schemas.plan import Plan
from lorabake_schemas.recipe import Recipe
from lorabake_schemas.signatures import Signature, Signatures, find_optimizer_path
from lorabake_schemas.unjudged import InvalidKeyError

ERROR, WARNING, HINT = Severity.ERROR, Severity.WARNING, Severity.HINT


@dataclass(frozen=True, slots=True)
class RuleContext:
    """Everything that a rule may read. ``plan`` is None for the rules that run before the plan is made.

    ``launching``: a real training is about to start on this machine, so a missing GPU or too little disk space is an
    error. In check, plan and compile the training may happen elsewhere. ``rehearsing``: nothing will be trained.
    ``machines`` are those among which a training that is about to start divides its processes.
    ``disks`` are those that the plan would write on, ``file_limit`` is the system's limit for one file if the plan
    exceeds it, ``stale`` are the caches that it would use and that do not fit.
    ``pickles`` are the keys and names of model files in torch's own format, whatever their extension is. ``commit`` is
    sd-scripts' commit if it is not the pin; ``options`` are that commit's options, ``pin_has`` the pin's names.
    ``signatures`` are what the trainer's networks, optimizers and schedulers take.
    ``tags`` keeps the tag counts of the captions for the next rule.
    """

    recipe: Recipe
    base: BaseFacts
    dataset: DatasetFacts
    machine: MachineFacts
    options: tuple[Option, ...]
    plan: Plan | None = None
    launching: bool = False
    rehearsing: bool = False
    machines: int = 1
    commit: str | None = None
    pin_has: frozenset[str] = frozenset()
    stale: tuple[StaleCache, ...] = ()
    disks: tuple[DiskNeed, ...] = ()
    file_limit: FileLimit | None = None
    pickles: tuple[tuple[tuple[str, str], str], ...] = ()
    signatures: Signatures = field(default_factory=Signatures, repr=False)
    tags: TagIndex = field(default_factory=TagIndex, compare=False, repr=False)

    @property
    def family(self) -> ModelFamily:
        return resolve_family(self.recipe, self.base)

    @property
    def optimizer(self) -> str:
        """Its name in the recipe. Raises InvalidKeyError for one that the trainer does not have (GC.12.class)."""
        name = resolve_optimizer(self.recipe.train)
        if self.signatures.is_known and find_optimizer_path(name, self.signatures) is None:
            raise InvalidKeyError(name)
        return name

    @property
    def optimizer_path(self) -> str | None:
        """The class of the optimizer; None if nothing has that name."""
        return find_optimizer_path(self.optimizer, self.signatures)

    @property
    def optimizer_signature(self) -> Signature | None:
        return self.signatures.find_optimizer(self.optimizer_path or "")

    @property
    def network(self) -> str:
        """Its type. Raises InvalidKeyError for one that the trainer does not have (S37.type)."""
        name = resolve_network_type(self.recipe, self.base)
        if self.signatures.networks and name not in self.signatures.iter_network_types():
            raise InvalidKeyError(name)
        return name


class RuleHit(NamedTuple):
    """One problem that a rule found: where in the recipe, what is wrong, what to write instead.

    ``severity`` overrides the rule's own for this problem.
    """

    where: tuple[str | int, ...]
    message: Message
    fix: Message
    file: str | None = None
    severity: Severity | None = None
    paste: tuple[str, ...] = ()


PREPARE_COMMAND = "lorabake prepare RECIPE --to FOLDER"


def or_in_copy(fix: Message, command: str = PREPARE_COMMAND) -> Message:
    """What to do about a fault that a clean copy of the images does not have."""
    return msg("{fix}; or do it in a copy: `{command}`", fix=fix, command=command)


RuleCheck = Callable[[RuleContext], Iterable[RuleHit]]


class Rule(NamedTuple):
    """``reason`` is one sentence; ``unless`` is when the rule does not apply, empty if it always does."""

    id: str
    severity: Severity
    reason: str
    check: RuleCheck
    unless: str = ""
    needs_plan: bool = False

    def findings(self, situation: RuleContext) -> Iterator[Finding]:
        """Its findings up to the first part of the recipe that is wrong."""
        try:
            for remark in self.check(situation):
                yield Finding(
                    rule=self.id,
                    severity=remark.severity or self.severity,
                    where=remark.where,
                    file=remark.file,
                    message=remark.message,
                    fix=remark.fix,
                    paste=remark.paste,
                )
        except InvalidKeyError:
            return


_RULES: list[Rule] = []


def rule(
    identity: str, severity: Severity, reason: str, *, unless: str = "", needs_plan: bool = False
) -> Callable[[RuleCheck], RuleCheck]:
    """Enter a check into the registry under the guide's or sd-scripts' id."""

    def enter(check: RuleCheck) -> RuleCheck:
        _RULES.append(Rule(identity, severity, reason, check, unless, needs_plan))
        return check

    return enter


def rules_of(topics: Sequence[ModuleType]) -> tuple[Rule, ...]:
    """The rules of these modules, in their order."""
    return tuple(rule for topic in topics for rule in _RULES if rule.check.__module__ == topic.__name__)
