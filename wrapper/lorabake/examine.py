"""Everything about a recipe that can be found without training: facts, plan and findings in one examination."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeVar, cast

from lorabake import resources
from lorabake.cache_look import Cached, stale_caches
from lorabake.errors import MachineError, RecipeError
from lorabake.planning.at_commit import at_commit
from lorabake.planning.compile import unreadable
from lorabake.planning.resolve import resolve
from lorabake.prospects import RUNS, disk_needs, with_prospects
from lorabake.reading.base_model import inspect_base
from lorabake.reading.dataset import Scanning
from lorabake.reading.load import LoadedRecipe, load, with_lines
from lorabake.reading.named_files import file_findings, pickles
from lorabake.reading.survey import dataset_facts
from lorabake_schemas.cache_origins import StaleCache
from lorabake_schemas.dataset import DatasetFacts
from lorabake_schemas.findings import Finding, Severity
from lorabake_schemas.guide import Situation
from lorabake_schemas.guide import findings as guide_findings
from lorabake_schemas.machine import AttentionProbe, BaseFacts, Family, MachineFacts
from lorabake_schemas.options import Snapshot
from lorabake_schemas.plan import Plan, Script
from lorabake_schemas.recipe import Recipe, Waive
from lorabake_schemas.unjudged import UNKNOWN, UnjudgedError, Unknown, judged
from lorabake_schemas.words import Said, say, told

T = TypeVar("T")

SCANNING = Scanning()
NOT_PROBED = AttentionProbe(xformers=False, reason=say("xformers is tried on this GPU when a run starts"))


@dataclass(frozen=True)
class Waived:
    """A finding that the recipe waives, with the reason it gives."""

    finding: Finding
    reason: str


@dataclass(frozen=True)
class Examination:
    """A recipe and all that is known about it. ``plan`` is None when an error stands in the way; ``attention`` is the
    answer of the trainer on this machine, once it was asked; ``snapshot`` what sd-scripts at the commit understands,
    ``stale`` the caches that S19 speaks of."""

    loaded: LoadedRecipe
    recipe: Recipe | None
    base: BaseFacts | None
    dataset: DatasetFacts
    machine: MachineFacts
    plan: Plan | None
    findings: tuple[Finding, ...]
    waived: tuple[Waived, ...] = ()
    attention: AttentionProbe | None = None
    snapshot: Snapshot = field(default_factory=resources.snapshot, repr=False)
    stale: tuple[StaleCache, ...] = ()

    @property
    def errors(self) -> tuple[Finding, ...]:
        return tuple(finding for finding in self.findings if finding.severity is Severity.ERROR)

    def fails(self, *, strict: bool = False) -> bool:
        """Whether anything stands in the way; with ``strict`` warnings do, too."""
        bad = (Severity.ERROR, Severity.WARNING) if strict else (Severity.ERROR,)
        return any(finding.severity in bad for finding in self.findings)

    def planned(self) -> tuple[Recipe, Plan]:
        """The recipe and its plan. Raises RecipeError with every finding when there is none."""
        if self.recipe is None or self.plan is None:
            count = len(self.errors)
            said = told(count, "{n} error in {recipe}", "{n} errors in {recipe}", recipe=self.loaded.path)
            raise RecipeError(said, self.findings)
        return self.recipe, self.plan

    def with_attention(self, probe: AttentionProbe) -> Examination:
        """The same with a plan that knows whether xformers works here.

        Raises MachineError when it does not and the recipe insists on it: sd-scripts would fail at the first step.
        """
        recipe, _ = self.planned()
        if recipe.train.attention == "xformers" and not probe.xformers:
            hint = say('write attention = "sdpa", or leave it out: then lorabake takes what works')
            raise MachineError(say("xformers does not work here: {why}", why=probe.reason), hint)
        assert self.base is not None  # noqa: S101 - there is a plan
        plan = resolve(recipe, self.base, self.dataset, self.machine, probe)
        plan = with_prospects(plan, recipe, self.base, self.machine, self.loaded.folder)
        plan, found = _at(plan, recipe, self.snapshot)
        known = (*self.findings, *(waived.finding for waived in self.waived))
        new = tuple(each for each in with_lines(found, self.loaded.content) if each not in known)
        wrong = any(finding.severity is Severity.ERROR for finding in new)
        ready = replace(self, plan=None if wrong else plan, attention=probe, findings=(*self.findings, *new))
        ready.planned()
        return ready

    def attention_words(self) -> Said:
        """Which attention the run will use, and why."""
        _, plan = self.planned()
        chosen = next(setting for setting in plan.train if setting.option in {"xformers", "sdpa"})
        why = chosen.source.why or say("the recipe says so")
        return say("attention: {name} ({why})", name=chosen.option, why=why)


def examine(
    path: Path,
    machine: MachineFacts,
    *,
    launching: bool = False,
    rehearsing: bool = False,
    scanning: Scanning = SCANNING,
    snapshot: Snapshot | None = None,
    content: bytes | None = None,
) -> Examination:
    """Read a recipe and everything it names; report all problems at once.

    ``content`` is a recipe's, taken as if it lay at ``path``.

    A recipe with shape errors is judged without its faulty keys: every rule has its say that needs none of them, apart
    from those that need a plan. ``snapshot`` is what another commit of sd-scripts than the pin understands. Raises
    RecipeError when there is no file to read.
    """
    chosen = snapshot or resources.snapshot()
    return replace(_examined(load(path, content), machine, scanning, chosen, launching, rehearsing), snapshot=chosen)


def _examined(
    loaded: LoadedRecipe,
    machine: MachineFacts,
    scanning: Scanning,
    snapshot: Snapshot,
    launching: bool,
    rehearsing: bool,
) -> Examination:
    recipe = loaded.recipe or loaded.salvage
    if recipe is None:
        return _examination(loaded, None, machine, loaded.findings)
    base = _or_unknown(lambda: inspect_base(recipe.base.model, loaded.folder, recipe.base.family))
    facts = _or_unknown(lambda: dataset_facts(recipe, loaded.folder, scanning))
    family = judged(lambda: recipe.base.family or base.family)
    script: Script = "sdxl_train_network.py" if family == "sdxl" else "train_network.py"
    options = snapshot.of(script) if family else snapshot.of_either()
    situation = Situation(recipe, base, facts, machine, options, launching=launching, rehearsing=rehearsing)
    situation = replace(situation, pickles=pickles(recipe, loaded.folder))
    if snapshot.commit != resources.pin().commit:
        pin_has = frozenset(option.name for option in resources.option_snapshot(script))
        situation = replace(situation, commit=snapshot.commit, pin_has=pin_has)
    run_family: Family | None = judged(lambda: situation.family)
    network = judged(lambda: situation.network)
    named = file_findings(recipe, loaded.folder, run_family, network, rehearsing=rehearsing)
    found = (*named, *guide_findings(situation))
    if loaded.recipe is None:
        return _examination(loaded, None, machine, (*loaded.findings, *found), _had(base), _had(facts))
    plan, stale = None, tuple[StaleCache, ...]()
    if not any(finding.severity is Severity.ERROR for finding in found):
        plan, stale, more = _plan(situation, loaded.folder, snapshot, scanning)
        found = (*found, *more)
    return replace(_examination(loaded, recipe, machine, found, base, facts, plan), stale=stale)


def _plan(
    situation: Situation, folder: Path, snapshot: Snapshot, scanning: Scanning
) -> tuple[Plan | None, tuple[StaleCache, ...], tuple[Finding, ...]]:
    try:
        probe = AttentionProbe.without_gpu() if situation.machine.device == "cpu" else NOT_PROBED
        plan = resolve(situation.recipe, situation.base, situation.dataset, situation.machine, probe)
        plan = with_prospects(plan, situation.recipe, situation.base, situation.machine, folder)
    except RecipeError as error:
        if error.findings:
            return None, (), error.findings
        where = ("train", "resolution")
        fix = error.hint or say("change the resolution or the bucket limits")
        return None, (), (Finding(rule="S15", severity=Severity.ERROR, where=where, message=error.message, fix=fix),)
    plan, more = _at(plan, situation.recipe, snapshot)
    caches = replace(scanning.caches, commit=scanning.caches.commit or snapshot.commit)
    runs = folder / (situation.recipe.save.runs or RUNS)
    disks = disk_needs(plan, situation.dataset, folder, runs)
    stale = stale_caches(Cached(situation.recipe, plan, situation.dataset, folder), caches)
    found = (*guide_findings(replace(situation, plan=plan, stale=stale, disks=disks)), *more, *unreadable(plan))
    return (None if any(finding.severity is Severity.ERROR for finding in found) else plan), stale, found


def plan_again(
    loaded: LoadedRecipe,
    machine: MachineFacts,
    attention: AttentionProbe | None,
    snapshot: Snapshot,
    scanning: Scanning,
) -> Examination:
    """A recipe and the plan that it gives, whatever the guide says of it: of a run that was started before.

    Raises RecipeError when it gives none.
    """
    recipe = loaded.recipe
    if recipe is None:
        return _examination(loaded, None, machine, loaded.findings)
    base = inspect_base(recipe.base.model, loaded.folder, recipe.base.family)
    facts = dataset_facts(recipe, loaded.folder, scanning)
    probe = attention or (AttentionProbe.without_gpu() if machine.device == "cpu" else NOT_PROBED)
    plan = with_prospects(resolve(recipe, base, facts, machine, probe), recipe, base, machine, loaded.folder)
    plan, _ = _at(plan, recipe, snapshot)
    return replace(_examination(loaded, recipe, machine, (), base, facts, plan), snapshot=snapshot)


def _at(plan: Plan, recipe: Recipe, snapshot: Snapshot) -> tuple[Plan, tuple[Finding, ...]]:
    """The plan at another commit than the pin, and what that commit does not know; nothing at the pin itself."""
    return (plan, ()) if snapshot.commit == resources.pin().commit else at_commit(plan, recipe, snapshot)


def _or_unknown(facts: Callable[[], T]) -> T:
    """What can be found out about a recipe's model or folders, where the keys that name them are right."""
    try:
        return facts()
    except UnjudgedError:
        return cast("T", UNKNOWN)


def _had(facts: T) -> T | None:
    return None if isinstance(facts, Unknown) else facts


def _examination(
    loaded: LoadedRecipe,
    recipe: Recipe | None,
    machine: MachineFacts,
    findings: Sequence[Finding],
    base: BaseFacts | None = None,
    dataset: DatasetFacts | None = None,
    plan: Plan | None = None,
) -> Examination:
    known = with_lines(findings, loaded.content)
    read = recipe or loaded.salvage
    waivers = judged(lambda: read.waive) if read else None
    kept, waived = _waive(known, waivers or (), every_rule_ran=plan is not None)
    placed = with_lines(kept, loaded.content)  # once more for what _waive has to say of idle waivers
    return Examination(loaded, recipe, base, dataset or DatasetFacts(), machine, plan, placed, waived)


def _waive(
    findings: Sequence[Finding], waivers: Sequence[Waive], *, every_rule_ran: bool
) -> tuple[tuple[Finding, ...], tuple[Waived, ...]]:
    """Warnings and hints can be waived; an error cannot, because sd-scripts would stop or train something else.

    Whether a waiver waives anything can be told only where every rule ran, which an error elsewhere prevents.
    """
    waivers = [waiver for waiver in waivers if judged(lambda waiver=waiver: (waiver.rule, waiver.reason))]  # type: ignore[misc]
    reasons = {waiver.rule: waiver.reason for waiver in waivers}
    waived = [f for f in findings if f.rule in reasons and f.severity is not Severity.ERROR]
    used, found = {finding.rule for finding in waived}, {finding.rule for finding in findings}
    idle = [
        _idle(index, waiver, waiver.rule in found)
        for index, waiver in enumerate(waivers)
        if waiver.rule not in used and (every_rule_ran or waiver.rule in found)
    ]
    kept = [finding for finding in findings if finding not in waived]
    return (*kept, *idle), tuple(Waived(finding, reasons[finding.rule]) for finding in waived)


def _idle(index: int, waiver: Waive, is_error: bool) -> Finding:
    message = say("{rule} waives nothing in this recipe", rule=waiver.rule)
    if is_error:
        message = say("{rule} is an error here, and errors cannot be waived", rule=waiver.rule)
    return Finding(
        rule="waive",
        severity=Severity.WARNING,
        where=("waive", index, "rule"),
        message=message,
        fix=say("mend what it is about") if is_error else say("take the [[waive]] out"),
    )


__all__ = ["NOT_PROBED", "Examination", "Waived", "examine", "plan_again"]
