"""A plan: every setting with its source in groups, then what will happen."""

from __future__ import annotations

from lorabake.examine import Examination
from lorabake.render.forecast import forecast_lines
from lorabake.render.page import Page, bold, dim
from lorabake.render.report import counts
from lorabake.render.settings import GROUPS, in_group, lines, widths
from lorabake_schemas.findings import Severity
from lorabake_schemas.plan import Plan, SubsetPlan
from lorabake_schemas.report import FindingCounts, PlanReport
from lorabake_schemas.words import Said, say, told


def plan_page(examination: Examination, page: Page) -> str:
    """The plan and how many findings there are."""
    _, plan = examination.planned()
    parts = [plan_text(plan, page), "", bold(page(say("Findings")))]
    parts += [f"  {page(counts(examination))}"]
    if examination.findings or examination.waived:
        more = say("`lorabake check {recipe}` tells them", recipe=str(examination.loaded.path))
        parts += [dim(line) for line in page.paragraph(more, first="  ")]
    return "\n".join(parts)


def plan_text(plan: Plan, page: Page) -> str:
    """Every setting with its value and where it comes from, then what will happen."""
    head = say("{name}: {family}, {script}", name=plan.name, family=plan.family, script=plan.script)
    columns = widths(plan, page)
    parts = [bold(page(head))]
    for group, name in GROUPS.items():
        settings = plan.dataset if group == "data" else in_group(plan.train, group)
        if settings:
            parts += ["", bold(page(name)), *lines(settings, columns, page)]
        if group == "data":
            parts += [line for subset in plan.subsets for line in _subset(subset, columns, page)]
    if plan.launch.deterministic:
        parts += ["", bold(page(say("Deterministic"))), *page.paragraph(_repeatable(plan), first="  ")]
    return "\n".join([*parts, "", *forecast_lines(plan, page)])


def _repeatable(plan: Plan) -> Said:
    """What launch.deterministic holds out, no more than is true."""
    if plan.launch.cpu:
        return told(
            plan.launch.num_cpu_threads_per_process,
            "run again on such a CPU with {n} thread, it gives the same file byte for byte",
            "run again on such a CPU with {n} threads, it gives the same file byte for byte",
        )
    if plan.launch.num_processes > 1:
        return say("PyTorch keeps to kernels that repeat exactly; of sums over several GPUs nobody promises it")
    return say(
        "run again on the same kind of GPU with the same driver and packages, it should give the same file byte for "
        "byte: PyTorch promises that of its own kernels, lorabake has not tried it"
    )


def _subset(subset: SubsetPlan, columns: tuple[int, int], page: Page) -> list[str]:
    pictures = told(subset.images, "{n} picture", "{n} pictures")
    kind = (
        say("regularisation {title}, {pictures}", title=subset.title, pictures=pictures)
        if subset.is_reg
        else say("concept {title}, {pictures}", title=subset.title, pictures=pictures)
    )
    return ["", f"  {bold(page(kind))}", *lines(subset.settings, columns, page)]


def plan_json(examination: Examination) -> str:
    """As schemas/plan.schema.json has it."""
    import json

    _, plan = examination.planned()
    found = [finding.severity for finding in examination.findings]
    counted = FindingCounts(
        errors=found.count(Severity.ERROR),
        warnings=found.count(Severity.WARNING),
        hints=found.count(Severity.HINT),
        waived=len(examination.waived),
    )
    told_ = PlanReport.model_construct(**dict(plan), recipe=str(examination.loaded.path), counts=counted)
    table = told_.model_dump(mode="json")
    first = {name: table.pop(name) for name in ("version", "recipe")}
    return json.dumps(first | table, indent=2, ensure_ascii=False)


__all__ = ["plan_json", "plan_page", "plan_text"]
