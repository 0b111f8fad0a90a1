"""Everything about a recipe that can be found without training: facts, plan and findings in one examination."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple, TypeVar, cast

from lorabake.analysis.compat import fit_plan_to_commit
from lorabake.analysis.estimate import RUNS_FOLDER, estimate_disk_needs, find_file_limit, with_estimates
from lorabake.analysis.preset_check import find_empty_preset
from lorabake.errors import RecipeError, ResourceError
from lorabake.inputs.base_model import inspect_base_model
from lorabake.inputs.continued_lora import with_continued_lora
from lorabake.inputs.dataset import ScanOptions
from lorabake.inputs.hub import is_hub_offline
from lorabake.inputs.referenced_files import find_pickles, iter_file_findings, iter_offline_findings
from lorabake.inputs.survey import read_dataset
from lorabake.planning.compile import iter_unreadable_texts
from lorabake.planning.resolve import resolve_plan
from lorabake.recipe.load import LoadedRecipe, load_recipe, with_positions
from lorabake.recipe.overrides import Override
from lorabake.util import resources
from lorabake_schemas.cache_origins import StaleCache
from lorabake_schemas.dataset import DatasetFacts
from lorabake_schemas.families.registry import DEFAULT_FAMILY, get_family
from lorabake_schemas.findings import Finding, Severity
from lorabake_schemas.guide.registry import RuleContext
from lorabake_schemas.guide.rules import collect_findings
from lorabake_schemas.guide.rules.caches import CACHE_OPTIONS
from lorabake_schemas.guide.rules.hardware import MACHINE_RULES
from lorabake_schemas.machine import AttentionProbe, BaseFacts, MachineFacts
from lorabake_schemas.messages import Message, msg, nmsg
from lorabake_schemas.options import OptionSnapshot
from lorabake_schemas.plan import Plan
from lorabake_schemas.recipe import Ignore, Recipe
from lorabake_schemas.unjudged import UNKNOWN, InvalidKeyError, UnknownFacts, evaluate_or_none

T = TypeVar("T")

DEFAULT_SCAN = ScanOptions()
ATTENTION_NOT_PROBED = AttentionProbe(xformers=False, reason=msg("xformers is tested on this GPU when a run starts"))


class AppliedIgnore(NamedTuple):
    """A finding that the recipe ignores, with the reason it gives."""

    finding: Finding
    reason: str


class _Purpose(NamedTuple):
    """What a check is for: a training that is about to start, a rehearsal, and among how many machines."""

    launching: bool
    rehearsing: bool
    machines: int


@dataclass(frozen=True)
class CheckResult:
    """A recipe and everything known about it. ``plan`` is None if an error prevents it. ``attention`` is the result
    of the trainer's test on this machine, if it ran. ``snapshot`` is what sd-scripts at the commit understands.
    ``stale`` are the caches that S19 reports. ``deep``: whether images were decoded completely.
    """

    loaded: LoadedRecipe
    recipe: Recipe | None
    base: BaseFacts | None
    dataset: DatasetFacts
    machine: MachineFacts
    plan: Plan | None
    findings: tuple[Finding, ...]
    ignored: tuple[AppliedIgnore, ...] = ()
    attention: AttentionProbe | None = None
    snapshot: OptionSnapshot = field(default_factory=resources.load_snapshot, repr=False)
    stale: tuple[StaleCache, ...] = ()
    deep: bool = False

    @property
    def errors(self) -> tuple[Finding, ...]:
        return tuple(finding for finding in self.findings if finding.severity is Severity.ERROR)

    def has_failures(self, *, strict: bool = False) -> bool:
        """Whether anything prevents a run; with ``strict`` warnings do, too."""
        bad = (Severity.ERROR, Severity.WARNING) if strict else (Severity.ERROR,)
        return any(finding.severity in bad for finding in self.findings)

    @property
    def is_machine_at_fault(self) -> bool:
        """Whether only this machine prevents a run: no GPU, too little disk space, a limit of the shell."""
        return bool(self.errors) and all(finding.rule in MACHINE_RULES for finding in self.errors)

    def planned(self) -> tuple[Recipe, Plan]:
        """The recipe and its plan. Raises RecipeError with every finding if there is no plan."""
        if self.recipe is None or self.plan is None:
            count = len(self.errors)
            said = nmsg(count, "{n} error in {recipe}", "{n} errors in {recipe}", recipe=self.loaded.path)
            raise RecipeError(said, self.findings)
        return self.recipe, self.plan

    def with_attention(self, probe: AttentionProbe) -> CheckResult:
        """The same with a plan that knows whether xformers works here.

        Raises ResourceError when it does not and the recipe insists on it: sd-scripts would fail at the first step.
        """
        recipe, _ = self.planned()
        if recipe.train.attention == "xformers" and not probe.xformers:
            hint = msg('write attention = "sdpa", or remove the key so that lorabake picks one that works')
            raise ResourceError(msg("xformers does not work here: {why}", why=probe.reason), hint)
        assert self.base is not None  # noqa: S101 - there is a plan
        plan = resolve_plan(recipe, self.base, self.dataset, self.machine, probe, self.snapshot.signatures)
        plan = with_estimates(plan, recipe, self.base, self.machine, self.loaded.folder)
        plan, found = _plan_at_commit(plan, recipe, self.snapshot)
        known = (*self.findings, *(ignored.finding for ignored in self.ignored))
        new = tuple(each for each in with_positions(found, self.loaded) if each not in known)
        wrong = any(finding.severity is Severity.ERROR for finding in new)
        ready = replace(self, plan=None if wrong else plan, attention=probe, findings=(*self.findings, *new))
        ready.planned()
        return ready

    def describe_attention(self) -> Message:
        """Which attention the run will use, and why."""
        _, plan = self.planned()
        chosen = next(setting for setting in plan.train if setting.option in {"xformers", "sdpa"})
        why = chosen.source.why or msg("set in the recipe")
        return msg("attention: {name} ({why})", name=chosen.option, why=why)


def check_recipe(  # noqa: PLR0913 - each of them is one thing that somebody may ask for
    path: Path,
    machine: MachineFacts,
    *,
    launching: bool = False,
    rehearsing: bool = False,
    machines: int = 1,
    scanning: ScanOptions = DEFAULT_SCAN,
    snapshot: OptionSnapshot | None = None,
    content: bytes | None = None,
    overrides: Sequence[Override] = (),
) -> CheckResult:
    """Read a recipe and everything it names; report all problems at once.

    ``machines`` are those that train together. ``content`` is a recipe's text, used as if it were at ``path``.

    A recipe with shape errors is judged without its faulty keys: every rule runs that does not need them, except those
    that need a plan. ``snapshot`` is what a commit of sd-scripts other than the pin understands. Raises RecipeError if
    the file cannot be read.
    """
    chosen = snapshot or resources.load_snapshot()
    loaded = load_recipe(path, content, overrides, scanning.env.get("HOME"))
    return replace(
        _check_loaded(loaded, machine, scanning, chosen, _Purpose(launching, rehearsing, machines)),
        snapshot=chosen,
        deep=scanning.deep,
    )


def _check_loaded(
    loaded: LoadedRecipe,
    machine: MachineFacts,
    scanning: ScanOptions,
    snapshot: OptionSnapshot,
    purpose: _Purpose,
) -> CheckResult:
    launching, rehearsing, machines = purpose
    recipe = loaded.recipe or loaded.salvage
    if recipe is None:
        return _build_result(loaded, None, machine, loaded.findings)
    base = _facts_or_unknown(lambda: _inspect_base(recipe, loaded.folder))
    facts = _facts_or_unknown(lambda: read_dataset(recipe, loaded.folder, scanning))
    family = evaluate_or_none(lambda: recipe.base.family or base.family)
    script = get_family(family or DEFAULT_FAMILY).script
    options = snapshot.of(script) if family else snapshot.merge_scripts()
    situation = RuleContext(recipe, base, facts, machine, options, None, launching, rehearsing, machines)
    situation = replace(situation, pickles=find_pickles(recipe, loaded.folder), signatures=snapshot.signatures)
    if snapshot.commit != resources.load_pin().commit:
        pin_has = frozenset(option.name for option in resources.load_script_options(script))
        situation = replace(situation, commit=snapshot.commit, pin_has=pin_has)
    run_family = evaluate_or_none(lambda: situation.family)
    network = evaluate_or_none(lambda: situation.network)
    named = iter_file_findings(
        recipe, loaded.folder, run_family, network, rehearsing=rehearsing, offline=is_hub_offline(scanning.env)
    )
    offline = iter_offline_findings(recipe, base, loaded.folder, scanning.env, launching=launching)
    found = (*named, *(() if rehearsing else offline), *collect_findings(situation))
    if loaded.recipe is None:
        return _build_result(
            loaded, None, machine, (*loaded.findings, *found), _known_or_none(base), _known_or_none(facts)
        )
    plan, stale = None, tuple[StaleCache, ...]()
    if not any(finding.severity is Severity.ERROR for finding in found):
        plan, stale, more = _plan_and_check(situation, loaded.folder, snapshot, scanning)
        found = (*found, *more)
    return replace(_build_result(loaded, recipe, machine, found, base, facts, plan), stale=stale)


def _inspect_base(recipe: Recipe, folder: Path) -> BaseFacts:
    return with_continued_lora(inspect_base_model(recipe.base.model, folder, recipe.base.family), recipe, folder)


def _plan_and_check(
    situation: RuleContext, folder: Path, snapshot: OptionSnapshot, scanning: ScanOptions
) -> tuple[Plan | None, tuple[StaleCache, ...], tuple[Finding, ...]]:
    try:
        probe = AttentionProbe.without_gpu() if situation.machine.device == "cpu" else ATTENTION_NOT_PROBED
        facts = (situation.base, situation.dataset, situation.machine)
        plan = resolve_plan(situation.recipe, *facts, probe, snapshot.signatures)
        plan = with_estimates(plan, situation.recipe, situation.base, situation.machine, folder)
    except RecipeError as error:
        if error.findings:
            return None, (), error.findings
        where = ("train", "resolution")
        fix = error.hint or msg("change the resolution or the bucket limits")
        return None, (), (Finding(rule="S15", severity=Severity.ERROR, where=where, message=error.message, fix=fix),)
    plan, more = _plan_at_commit(plan, situation.recipe, snapshot)
    runs = folder / (situation.recipe.save.runs or RUNS_FOLDER)
    disks = estimate_disk_needs(plan, situation.dataset, folder, runs)
    trained = replace(scanning, commit=scanning.commit or snapshot.commit)
    stale = _find_stale_caches(plan, situation, folder, trained)
    found = (
        *collect_findings(replace(situation, plan=plan, stale=stale, disks=disks, file_limit=find_file_limit(plan))),
        *find_empty_preset(plan, folder, snapshot.signatures),
        *more,
        *iter_unreadable_texts(plan),
    )
    return (None if any(finding.severity is Severity.ERROR for finding in found) else plan), stale, found


def _find_stale_caches(
    plan: Plan, situation: RuleContext, folder: Path, scanning: ScanOptions
) -> tuple[StaleCache, ...]:
    """Without the modules that read caches if the plan keeps none on disk: they take a fortieth of a check."""
    if not any(map(plan.value, CACHE_OPTIONS.values())):
        return ()
    from lorabake.analysis.cache_check import CacheContext, find_stale_caches

    return find_stale_caches(CacheContext(situation.recipe, plan, situation.dataset, folder), scanning)


def rebuild_plan(
    loaded: LoadedRecipe,
    machine: MachineFacts,
    attention: AttentionProbe | None,
    snapshot: OptionSnapshot,
    scanning: ScanOptions,
) -> CheckResult:
    """A recipe and its plan without the guide's findings, for a run that was started before.

    Raises RecipeError if it gives no plan.
    """
    recipe = loaded.recipe
    if recipe is None:
        return _build_result(loaded, None, machine, loaded.findings)
    base = _inspect_base(recipe, loaded.folder)
    facts = read_dataset(recipe, loaded.folder, scanning)
    probe = attention or (AttentionProbe.without_gpu() if machine.device == "cpu" else ATTENTION_NOT_PROBED)
    plan = resolve_plan(recipe, base, facts, machine, probe, snapshot.signatures)
    plan = with_estimates(plan, recipe, base, machine, loaded.folder)
    plan, _ = _plan_at_commit(plan, recipe, snapshot)
    return replace(_build_result(loaded, recipe, machine, (), base, facts, plan), snapshot=snapshot)


def _plan_at_commit(plan: Plan, recipe: Recipe, snapshot: OptionSnapshot) -> tuple[Plan, tuple[Finding, ...]]:
    """The plan at another commit than the pin, and what that commit does not know; nothing at the pin itself."""
    return (plan, ()) if snapshot.commit == resources.load_pin().commit else fit_plan_to_commit(plan, recipe, snapshot)


def _facts_or_unknown(facts: Callable[[], T]) -> T:
    """What can be found out about a recipe's model or folders, where the keys that name them are right."""
    try:
        return facts()
    except InvalidKeyError:
        return cast("T", UNKNOWN)


def _known_or_none(facts: T) -> T | None:
    return None if isinstance(facts, UnknownFacts) else facts


def _build_result(
    loaded: LoadedRecipe,
    recipe: Recipe | None,
    machine: MachineFacts,
    findings: Sequence[Finding],
    base: BaseFacts | None = None,
    dataset: DatasetFacts | None = None,
    plan: Plan | None = None,
) -> CheckResult:
    known = with_positions(findings, loaded)
    read = recipe or loaded.salvage
    ignores = evaluate_or_none(lambda: read.ignore) if read else None
    kept, ignored = _apply_ignores(known, ignores or (), every_rule_ran=plan is not None)
    placed = with_positions(kept, loaded)  # again, because _ignore may add findings about unused ignores
    return CheckResult(loaded, recipe, base, dataset or DatasetFacts(), machine, plan, placed, ignored)


def _apply_ignores(
    findings: Sequence[Finding], ignores: Sequence[Ignore], *, every_rule_ran: bool
) -> tuple[tuple[Finding, ...], tuple[AppliedIgnore, ...]]:
    """Warnings and hints can be ignored; an error cannot, because sd-scripts would stop or train something else.

    Whether an ignore has any effect is only known if every rule ran, which an error elsewhere prevents.
    """
    ignores = [ignore for ignore in ignores if evaluate_or_none(lambda ignore=ignore: (ignore.rule, ignore.reason))]  # type: ignore[misc]
    reasons = {ignore.rule: ignore.reason for ignore in ignores}
    ignored = [f for f in findings if f.rule in reasons and f.severity is not Severity.ERROR]
    used, found = {finding.rule for finding in ignored}, {finding.rule for finding in findings}
    idle = [
        _unused_ignore(index, ignore, ignore.rule in found)
        for index, ignore in enumerate(ignores)
        if ignore.rule not in used and (every_rule_ran or ignore.rule in found)
    ]
    kept = [finding for finding in findings if finding not in ignored]
    return (*kept, *idle), tuple(AppliedIgnore(finding, reasons[finding.rule]) for finding in ignored)


def _unused_ignore(index: int, ignore: Ignore, is_error: bool) -> Finding:
    message = msg("the [[ignore]] for {rule} matches nothing in this recipe", rule=ignore.rule)
    if is_error:
        message = msg("{rule} is an error here, and errors cannot be ignored", rule=ignore.rule)
    return Finding(
        rule="ignore",
        severity=Severity.WARNING,
        where=("ignore", index, "rule"),
        message=message,
        fix=msg("fix the error") if is_error else msg("remove the [[ignore]]"),
    )
