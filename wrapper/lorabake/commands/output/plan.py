"""A plan: every setting with its source in groups, then what will happen."""

from __future__ import annotations

from lorabake.analysis.check import CheckResult
from lorabake.commands.output.findings import format_finding_counts
from lorabake.commands.output.forecast import format_forecast
from lorabake.commands.output.layout import TextLayout, bold, dim
from lorabake.commands.output.settings import GROUP_LABELS, iter_setting_lines, measure_columns, select_group
from lorabake_schemas.check_report import FindingCounts, PlanReport
from lorabake_schemas.findings import Severity
from lorabake_schemas.messages import Message, msg, nmsg
from lorabake_schemas.plan import Plan, SubsetPlan


def format_plan_page(examination: CheckResult, page: TextLayout) -> str:
    """The plan and how many findings there are."""
    _, plan = examination.planned()
    parts = [format_plan(plan, page), "", bold(page(msg("Findings")))]
    parts += [f"  {page(format_finding_counts(examination))}"]
    if examination.findings or examination.ignored:
        more = msg("`lorabake check {recipe}` shows them", recipe=str(examination.loaded.path))
        parts += [dim(line) for line in page.paragraph(more, first="  ")]
    return "\n".join(parts)


def format_plan(plan: Plan, page: TextLayout) -> str:
    """Every setting with its value and where it comes from, then what will happen."""
    head = msg("{name}: {family}, {script}", name=plan.name, family=plan.family, script=plan.script)
    columns = measure_columns(plan, page)
    parts = [bold(page(head))]
    for group, name in GROUP_LABELS.items():
        settings = plan.dataset if group == "data" else select_group(plan.train, group)
        if settings:
            parts += ["", bold(page(name)), *iter_setting_lines(settings, columns, page)]
        if group == "data":
            parts += [line for subset in plan.subsets for line in _subset_lines(subset, columns, page)]
    if plan.launch.deterministic:
        parts += ["", bold(page(msg("Deterministic"))), *page.paragraph(_describe_determinism(plan), first="  ")]
    return "\n".join([*parts, "", *format_forecast(plan, page)])


def _describe_determinism(plan: Plan) -> Message:
    """What launch.deterministic holds out, no more than is true."""
    if plan.launch.cpu:
        return nmsg(
            plan.launch.num_cpu_threads_per_process,
            "a rerun on the same kind of CPU with {n} thread gives the same file byte for byte",
            "a rerun on the same kind of CPU with {n} threads gives the same file byte for byte",
        )
    if plan.launch.num_processes > 1:
        return msg(
            "PyTorch uses only deterministic kernels, but sums over several GPUs are not guaranteed to repeat exactly"
        )
    return msg(
        "a rerun on the same kind of GPU with the same driver and packages should give the same "
        "file byte for byte. PyTorch guarantees this for its own kernels, but lorabake has not "
        "tested it"
    )


def _subset_lines(subset: SubsetPlan, columns: tuple[int, int], page: TextLayout) -> list[str]:
    pictures = nmsg(subset.images, "{n} image", "{n} images")
    kind = (
        msg("regularization {title}, {pictures}", title=subset.title, pictures=pictures)
        if subset.is_reg
        else msg("concept {title}, {pictures}", title=subset.title, pictures=pictures)
    )
    return ["", f"  {bold(page(kind))}", *iter_setting_lines(subset.settings, columns, page)]


def plan_to_json(examination: CheckResult) -> str:
    """As schemas/plan.schema.json has it."""
    import json

    _, plan = examination.planned()
    found = [finding.severity for finding in examination.findings]
    counted = FindingCounts(
        errors=found.count(Severity.ERROR),
        warnings=found.count(Severity.WARNING),
        hints=found.count(Severity.HINT),
        ignored=len(examination.ignored),
    )
    told_ = PlanReport.model_construct(**dict(plan), recipe=str(examination.loaded.path), counts=counted)
    table = told_.model_dump(mode="json")
    first = {name: table.pop(name) for name in ("version", "recipe")}
    return json.dumps(first | table, indent=2, ensure_ascii=False)
