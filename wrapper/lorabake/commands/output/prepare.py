"""What `lorabake prepare` will do and has done: counts by step, files that are left out, and what is next."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from lorabake.commands.output.findings import format_report
from lorabake.commands.output.layout import align_rows, format_file_size
from lorabake.commands.output.next_step import format_next_step
from lorabake.inputs.prepare.folder import MANIFEST_NAME
from lorabake.jobs.prepare.execute import list_left_out
from lorabake.runs.folders import display_path
from lorabake_schemas.families.registry import get_family
from lorabake_schemas.findings import Severity
from lorabake_schemas.messages import Message, escape_undecodable, literal, msg, nmsg, shorten_list
from lorabake_schemas.prepared import (
    LeftOutFile,
    LeftOutReason,
    PreparedKind,
    PreparedStep,
    PrepareReport,
    ReasonCount,
    StepCount,
)

if TYPE_CHECKING:
    from lorabake.analysis.check import CheckResult
    from lorabake.commands.output.layout import TextLayout
    from lorabake.jobs.prepare.execute import PreparedDataset
    from lorabake.jobs.prepare.plan import Preparation

MAX_NAMES_SHOWN = 3
KIND_LABELS: Mapping[PreparedKind, Message] = MappingProxyType(
    {"image": msg("images"), "mask": msg("masks"), "caption": msg("captions"), "metadata": msg("metadata files")}
)
STEP_LABELS: Mapping[PreparedStep, Message] = MappingProxyType(
    {
        "first-frame": msg("only the first frame of an animation"),
        "rotated": msg("EXIF rotation applied"),
        "eight-bit": msg("reduced to 8 bits per channel"),
        "rgb": msg("converted to RGB"),
        "srgb": msg("colors converted to sRGB (sd-scripts ignores color profiles)"),
        "cropped": msg("cropped"),
        "background": msg("transparency replaced by a solid background"),
        "opaque": msg("alpha channel without effect removed"),
        "reduced": msg("reduced to 1.5 times what their bucket needs"),
        "enlarged": msg("enlarged with Lanczos to what their bucket needs"),
        "upscaled": msg("enlarged with the upscaler"),
        "resized": msg("resized to the size of their image"),
        "converted": msg("converted to PNG or JPEG"),
        "extension": msg("extension corrected"),
        "renamed": msg("renamed (another image has this name, or it is too long or not valid)"),
        "utf-8": msg("converted to UTF-8 without BOM"),
        "encoding-guessed": msg("not UTF-8, encoding guessed; check the text"),
        "invalid-characters": msg("characters removed that no text can contain (NUL, half a character)"),
        "one-line": msg("put on one line"),
        "token-first": msg("token and class put first"),
        "adopted": msg("renamed to match their image"),
        "background-tag": msg("tag of the background added"),
        "without-sheet-tags": msg("tags of a reference sheet removed"),
        "own-text": msg("text from the list of crops"),
        "white": msg("all white, for images without a mask"),
    }
)
STEPS_TO_SEE = frozenset({"enlarged", "upscaled", "encoding-guessed"})  # whose files are named
REASON_LABELS: Mapping[LeftOutReason, Message] = MappingProxyType(
    {
        "unreadable": msg("cannot be read"),
        "duplicate": msg("duplicates"),
        "cropped": msg("replaced by their crops"),
        "empty-caption": msg("empty captions"),
        "wordless-caption": msg("captions without words"),
        "unused-caption": msg("captions of no image"),
        "unread-caption": msg('captions that the recipe does not use (captions = "none")'),
        "unused-mask": msg("masks that are not used"),
        "conditioning": msg("conditioning images"),
        "cache": msg("caches of sd-scripts"),
        "hidden": msg("hidden images"),
        "subfolder": msg("subfolders"),
        "unlisted": msg("images that the metadata file does not have"),
    }
)


def make_report(
    plan: Preparation, done: PreparedDataset | None = None, checked: CheckResult | None = None
) -> PrepareReport:
    """The counts of the plan, or of what was done."""
    steps = dict[tuple[PreparedKind, PreparedStep], list[str]]()
    for kind, step, source in _list_done_steps(done) if done else _list_planned_steps(plan):
        steps.setdefault((kind, step), []).append(source)
    family, resolutions = plan.sizes
    left_out, state = list_left_out(plan, done), done.state if done else plan.state
    reasons = Counter(file.reason for file in left_out)
    copied = sum(not file.steps for image in done.manifest.images for file in image.files[:1]) if done else None
    severities = Counter(finding.severity for finding in checked.findings) if checked else Counter[Severity]()
    return PrepareReport(
        dry_run=done is None,
        recipe=escape_undecodable(str(plan.examination.loaded.path)),
        folder=escape_undecodable(str(plan.root)),
        images=len(plan.jobs),
        copied=sum(not job.planned for job in plan.jobs) if copied is None else copied,
        steps=tuple(
            StepCount(
                kind=kind, step=step, files=len(those), sources=tuple(sorted(those) if step in STEPS_TO_SEE else ())
            )
            for kind in KIND_LABELS
            for step in STEP_LABELS
            if (those := steps.get((kind, step)))
        ),
        reasons=tuple(ReasonCount(reason=why, files=reasons[why]) for why in REASON_LABELS if reasons[why]),
        left_out=left_out,
        estimated_bytes=plan.size,
        family=family,
        resolutions=tuple(resolutions),
        blurred={
            escape_undecodable(source): round(times, 1)
            for folder in plan.folders
            for source, times in folder.blurred.items()
        },
        changed=done.changed if done else True,
        made=done.made if done else 0,
        kept=len(state.kept),
        removed=len(state.surplus),
        removed_files=state.surplus,
        left_files=state.left,
        edited=state.changed,
        new_recipe=escape_undecodable(str(plan.root / plan.recipe_name)) if done else None,
        manifest=escape_undecodable(str(plan.root / MANIFEST_NAME)) if done else None,
        errors=severities[Severity.ERROR] if checked else None,
        warnings=severities[Severity.WARNING] if checked else None,
    )


Step = tuple[PreparedKind, PreparedStep, str]  # of which file


def _list_planned_steps(plan: Preparation) -> list[Step]:
    found = list[Step]()
    for job in plan.jobs:
        found.extend(("image", step, escape_undecodable(job.source)) for step in dict.fromkeys(job.planned))
        if job.caption:
            source = escape_undecodable(job.caption.source)
            found.extend(("caption", step, source) for step in dict.fromkeys(job.caption.steps))
    return found


def _list_done_steps(done: PreparedDataset) -> list[Step]:
    files = (*(file for image in done.manifest.images for file in image.files), *done.manifest.files)
    return [(file.kind, step, file.source) for file in files for step in dict.fromkeys(file.steps)]


def describe_plan(report: PrepareReport, layout: TextLayout) -> str:
    """What would be done, with counts."""
    n, names = report.images, {"recipe": report.recipe, "folder": display_path(Path(report.folder), Path.cwd())}
    lines = [layout(nmsg(n, "{n} image of {recipe} to {folder}", "{n} images of {recipe} to {folder}", **names))]
    lines += _list_counts(report, layout)
    if report.kept:
        lines.append(layout(nmsg(report.kept, "{n} image is already there", "{n} images are already there")))
    if report.removed:
        n, removed = report.removed, shorten_list(report.removed_files, MAX_NAMES_SHOWN, literal)
        said = nmsg(
            n,
            "{n} file of an earlier start will be removed: {names}",
            "{n} files of earlier starts will be removed: {names}",
            names=removed,
        )
        lines += layout.paragraph(said)
    if report.left_files:
        left = shorten_list(report.left_files, MAX_NAMES_SHOWN, literal)
        lines += layout.paragraph(msg("no longer needed, but edited since and left as they are: {names}", names=left))
    lines += _list_blurred(report, layout)
    if report.family:
        sizes = ", ".join(f"{width} x {height}" for width, height in report.resolutions)
        family = literal(get_family(report.family).label)
        lines.append(layout(msg("sizes are for {family} at {sizes}", family=family, sizes=sizes)))
    size = format_file_size(report.estimated_bytes)
    said = msg("the new folder takes about {size}; the original is not changed", size=size)
    return "\n".join([*lines, layout(said)])


def describe_result(report: PrepareReport, planned: PrepareReport, checked: CheckResult, layout: TextLayout) -> str:
    """What was made, where that is not what was planned, and what `check` reports about the new recipe."""
    made, kept, here = report.made, report.kept, Path.cwd()
    folder = display_path(Path(report.folder), here)
    lines = ["", layout(nmsg(made, "made {n} image in {folder}", "made {n} images in {folder}", folder=folder))]
    if not report.changed:
        lines = ["", layout(msg("nothing to do: {folder} is complete", folder=folder))]
    elif kept:
        lines.append(layout(nmsg(kept, "kept {n} image of an earlier start", "kept {n} images of earlier starts")))
    if report.edited:
        names = shorten_list(report.edited, MAX_NAMES_SHOWN, literal)
        lines += layout.paragraph(msg("edited since and left as they are: {names}", names=names))
    steps = tuple(each for each in report.steps if each not in planned.steps)
    reasons = tuple(each for each in report.reasons if each not in planned.reasons)
    lines += _list_counts(report.model_copy(update={"copied": 0, "steps": steps, "reasons": reasons}), layout)
    lines.append(
        layout(msg("what was done to each file: {path}", path=display_path(Path(report.manifest or ""), here)))
    )
    lines += _list_blurred(report, layout)
    return "\n".join([*lines, "", format_report(checked, layout), *format_next_step(checked, layout, prepared=True)])


def _list_blurred(report: PrepareReport, layout: TextLayout) -> list[str]:
    """The advice of G2.16, which the new sizes hide."""
    if not report.blurred:
        return []
    names = shorten_list(
        [msg("{name} ({n:.1f}x)", name=Path(source).name, n=times) for source, times in report.blurred.items()],
        MAX_NAMES_SHOWN,
        lambda each: each,
    )
    said = msg("enlarged so much that they are blurred: {names}; replace them, or pass --upscaler", names=names)
    return layout.paragraph(said)


def _list_counts(report: PrepareReport, layout: TextLayout) -> list[str]:
    rows = (
        [[str(report.copied), layout(KIND_LABELS["image"]), layout(msg("copied unchanged"))]] if report.copied else []
    )
    rows += [[str(each.files), layout(KIND_LABELS[each.kind]), layout(_describe_step(each))] for each in report.steps]
    lines = _indent_rows(rows)
    if report.reasons:
        lines.append(layout(msg("left out:")))
        files = report.left_out
        lines += _indent_rows(
            [
                [str(each.files), layout(REASON_LABELS[each.reason]), layout(_name_left_out(files, each.reason))]
                for each in report.reasons
            ]
        )
    return lines


def _describe_step(count: StepCount) -> Message:
    what = STEP_LABELS[count.step]
    if not count.sources:
        return what
    names = shorten_list([Path(source).name for source in count.sources], MAX_NAMES_SHOWN, literal)
    return msg("{what}: {names}", what=what, names=names)


def _indent_rows(rows: Sequence[Sequence[str]]) -> list[str]:
    return [f"  {line}" for row in align_rows(rows, [0]) for line in row] if rows else []


def _name_left_out(files: Sequence[LeftOutFile], why: LeftOutReason) -> Message:
    those = [file for file in files if file.reason == why]
    return shorten_list(those, MAX_NAMES_SHOWN, _name_file)


def _name_file(file: LeftOutFile) -> Message:
    name = Path(file.source).name
    if file.detail is None:
        return literal(name)
    if file.reason == "duplicate":
        return msg("{name} ({other} stays)", name=name, other=file.detail)
    return msg("{name} ({problem})", name=name, problem=file.detail)
