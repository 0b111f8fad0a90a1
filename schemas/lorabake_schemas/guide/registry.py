"""Rules with an identity: what a rule is, what it may look at, and the list of all of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

from lorabake_schemas.cache_origins import StaleCache
from lorabake_schemas.dataset import DatasetFacts
from lorabake_schemas.defaults import family_of, network_of, optimizer_of
from lorabake_schemas.disks import DiskNeed
from lorabake_schemas.findings import Finding, Severity
from lorabake_schemas.machine import BaseFacts, Family, MachineFacts
from lorabake_schemas.options import Option
from lorabake_schemas.plan import Plan
from lorabake_schemas.recipe import Recipe
from lorabake_schemas.tags import TagMemory
from lorabake_schemas.unjudged import UnjudgedError
from lorabake_schemas.words import Said

ERROR, WARNING, HINT = Severity.ERROR, Severity.WARNING, Severity.HINT


@dataclass(frozen=True, slots=True)
class Situation:
    """All that a rule may look at. ``plan`` is None for the rules that run before there is one.

    ``launching``: a real training is about to start on this machine, so what this machine lacks is an error;
    otherwise (check, plan, compile) the training may well happen elsewhere. ``rehearsing``: nothing will be trained.
    ``disks`` are those that the plan would write on, ``stale`` the caches that it would use and that do not fit.
    ``pickles`` are the keys and names of model files that are torch's own format, whatever their names say.
    ``commit`` is sd-scripts' where that is not the pin; ``options`` are that commit's, ``pin_has`` the pin's names.
    ``tags`` keeps what was counted in captions for the next rule that asks.
    """

    recipe: Recipe
    base: BaseFacts
    dataset: DatasetFacts
    machine: MachineFacts
    options: tuple[Option, ...]
    plan: Plan | None = None
    launching: bool = False
    rehearsing: bool = False
    commit: str | None = None
    pin_has: frozenset[str] = frozenset()
    stale: tuple[StaleCache, ...] = ()
    disks: tuple[DiskNeed, ...] = ()
    pickles: tuple[tuple[tuple[str, str], str], ...] = ()
    tags: TagMemory = field(default_factory=TagMemory, compare=False, repr=False)

    @property
    def family(self) -> Family:
        return family_of(self.recipe, self.base)

    @property
    def optimizer(self) -> str:
        return optimizer_of(self.recipe.train)

    @property
    def network(self) -> str:
        return network_of(self.recipe)


@dataclass(frozen=True, slots=True)
class Remark:
    """What a rule has to say: where in the recipe, what is wrong, what to write instead.

    ``severity`` overrides the rule's own for this remark.
    """

    where: tuple[str | int, ...]
    message: Said
    fix: Said
    file: str | None = None
    severity: Severity | None = None


Check = Callable[[Situation], Iterable[Remark]]


@dataclass(frozen=True, slots=True)
class Rule:
    """``reason`` is one sentence; ``unless`` says when the rule does not apply, empty when it always does."""

    id: str
    severity: Severity
    reason: str
    check: Check
    unless: str = ""
    needs_plan: bool = False

    def findings(self, situation: Situation) -> Iterator[Finding]:
        """What it has to say until it comes to a part of the recipe that is wrong."""
        try:
            for remark in self.check(situation):
                yield Finding(
                    rule=self.id,
                    severity=remark.severity or self.severity,
                    where=remark.where,
                    file=remark.file,
                    message=remark.message,
                    fix=remark.fix,
                )
        except UnjudgedError:
            return


_RULES: list[Rule] = []


def rule(
    identity: str, severity: Severity, reason: str, *, unless: str = "", needs_plan: bool = False
) -> Callable[[Check], Check]:
    """Enter a check into the registry under the guide's or sd-scripts' id."""

    def enter(check: Check) -> Check:
        _RULES.append(Rule(identity, severity, reason, check, unless, needs_plan))
        return check

    return enter


def rules() -> tuple[Rule, ...]:
    """Every rule, in the order of the topic modules (which the package imports)."""
    return tuple(_RULES)


__all__ = ["ERROR", "HINT", "WARNING", "Remark", "Rule", "Situation", "rule", "rules"]
