"""What `lorabake init` found, what it assumed, and what to do next."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from lorabake.commands.output.findings import format_report, make_check_report
from lorabake.commands.output.layout import TextLayout
from lorabake.commands.output.next_step import format_next_step
from lorabake.inputs.foreign_captions import PLACEHOLDER
from lorabake.jobs.init import format_argument
from lorabake_schemas.dataset import CaptionProblem
from lorabake_schemas.init_report import InitAssumption, InitFolder, InitReport
from lorabake_schemas.messages import Message, join_list, literal, msg, nmsg
from lorabake_schemas.recipe import TagStyle

if TYPE_CHECKING:
    from lorabake.analysis.check import CheckResult
    from lorabake.analysis.draft import Draft
    from lorabake.inputs.image_tree import FoundDataset

MAX_ROWS = 12  # folders that are listed
STYLES: dict[TagStyle, Message] = {
    "danbooru": msg("Danbooru tags"),
    "e621": msg("e621 tags"),
    "natural": msg("sentences"),
}
ROLES = {"regularization": msg("regularization images"), "masks": msg("masks"), "other": msg("not used")}
UNREADABLE = frozenset({CaptionProblem.NOT_UTF8, CaptionProblem.UNREADABLE})


def make_init_report(path: Path, found: FoundDataset, draft: Draft, result: CheckResult) -> InitReport:
    """Everything that `--json` prints, and that the text is made of."""
    concepts = {each.folder.path: each for each in draft.concepts}
    named = {id(found): name for name, found in draft.metadata.items()}
    masks = {concept.get("masks") for concept in draft.content["concept"]}
    folders = [
        InitFolder(
            path=_relative(each.path, found.root),
            role=each.name.role,
            used=each.name.role != "masks" or any(name and Path(name).name == each.path.name for name in masks),
            images=len(each.facts.images),
            captions=concepts[each.path].summary.count if each.path in concepts else 0,
            unreadable=sum(image.caption.problem in UNREADABLE for image in each.facts.images),
            companions=len(each.facts.companions),
            style=concepts[each.path].summary.style if each.path in concepts else None,
            token=concepts[each.path].token if each.path in concepts else None,
            converted=each.foreign.source if each.foreign else None,
            form=each.foreign.form if each.foreign else None,
            metadata=named.get(id(concepts[each.path].folder.foreign)) if each.path in concepts else None,
        )
        for each in found.folders
    ]
    folders += [InitFolder(path=_relative(each, found.root), role="other", used=False) for each in found.left_out]
    folders += [
        InitFolder(path=_relative(each, found.root), role="concept", used=False, copy_of=_relative(other, found.root))
        for each, other in sorted(found.copies.items())
    ]
    return InitReport(
        recipe=str(path),
        folder=str(found.root),
        model=draft.model.model,
        folders=tuple(folders),
        tags=() if any(each.captioned for each in draft.concepts) else _get_tags(draft),
        assumed=tuple(InitAssumption(key=q.key, question=q.text, answer=q.default) for q in draft.questions),
        unread=dict(found.unread),
        check=make_check_report(result),
    )


def _get_tags(draft: Draft) -> tuple[str, ...]:
    """base.tags, which only captions show."""
    tags = draft.content["base"]["tags"]
    return (tags,) if isinstance(tags, str) else tuple(tags)


def _relative(path: Path, root: Path) -> str:
    try:
        return path.relative_to(root).as_posix()
    except ValueError:
        return path.as_posix()


def format_init(report: InitReport, result: CheckResult, layout: TextLayout) -> str:
    """What was found and assumed, the findings as `lorabake check` shows them, and the next command."""
    found = [_describe_folder(each, Path(report.folder).name) for each in report.folders[:MAX_ROWS]]
    if len(report.folders) > MAX_ROWS:
        found.append(nmsg(len(report.folders) - MAX_ROWS, "{n} more folder", "{n} more folders"))
    found += [_describe_conversion(each) for each in report.folders if each.metadata]
    if report.model:
        found.append(msg("base model: {model}", model=report.model))
    if report.unread:
        names = join_list([literal(f"{count} {ending}") for ending, count in report.unread.items()], ", ")
        found.append(msg("not read by sd-scripts: {names}", names=names))
    assumed = [literal(f"{each.key} = {each.answer}") for each in report.assumed if each.answer]
    if report.tags:
        assumed.append(literal(f"tags = {' '.join(report.tags)}"))
    if assumed:
        values = join_list(assumed, ", ")
        found.append(msg("assumed: {values} (change them in the recipe if they are wrong)", values=values))
    rows = [line for each in found for line in layout.paragraph(each, first="  ", rest="    ")]
    wrote = layout(msg("wrote {path}", path=report.recipe))
    return "\n".join([wrote, *rows, "", format_report(result, layout), *_next_steps(report, result, layout)])


def _describe_folder(folder: InitFolder, root: str) -> Message:
    path = folder.path if folder.path != "." else root or "/"
    if folder.copy_of:
        return msg("{path}: not used, the images of {other} at another size", path=path, other=folder.copy_of)
    if folder.role != "concept":
        what = ROLES[folder.role] if folder.used else ROLES["other"]
        return msg("{path}: {what}", path=path, what=what)
    said = nmsg(folder.images, "{path}: {n} image", "{path}: {n} images", path=path)
    if folder.captions:
        kind = STYLES[folder.style or "danbooru"]
        said = nmsg(
            folder.captions, "{before}, {n} caption ({kind})", "{before}, {n} captions ({kind})", before=said, kind=kind
        )
    elif not folder.unreadable:
        said = msg("{before}, no captions", before=said)
    if folder.unreadable:
        n = folder.unreadable
        said = nmsg(n, "{before}, {n} unreadable caption", "{before}, {n} unreadable captions", before=said)
    if folder.companions:
        n = folder.companions
        said = nmsg(
            n, "{before}, {n} mask or conditioning image", "{before}, {n} masks and conditioning images", before=said
        )
    return msg("{before}, token {token}", before=said, token=folder.token) if folder.token else said


def _describe_conversion(folder: InitFolder) -> Message:
    """What was done with captions that sd-scripts cannot read."""
    source, file = folder.converted or "", folder.metadata or ""
    match folder.form:
        case "lines":
            said = msg(
                "{source} has one tag per line, which sd-scripts misreads; {file} has them with commas",
                source=source,
                file=file,
            )
        case "spaces":
            said = msg(
                "{source} has no commas, so sd-scripts would read one tag; {file} has them with commas",
                source=source,
                file=file,
            )
        case "comments":
            said = msg("{source} has comments, which sd-scripts would train; {file} has none", source=source, file=file)
        case "parameters":
            said = msg(
                "{source} has generation parameters, which sd-scripts would train; {file} has the prompts alone",
                source=source,
                file=file,
            )
        case "encoding":
            said = msg("{source} is not UTF-8, and sd-scripts stops on it; {file} is", source=source, file=file)
        case "placeholder":
            said = msg(
                "{source} has {placeholder}, which sd-scripts would train as text; {file} has {token} instead",
                source=source,
                file=file,
                placeholder=PLACEHOLDER,
                token=folder.token or "",
            )
        case _:
            said = msg("sd-scripts does not read {source}; {file} has these captions", source=source, file=file)
    return said


def _next_steps(report: InitReport, result: CheckResult, layout: TextLayout) -> Sequence[str]:
    recipe = format_argument(report.recipe)
    lines = list[str]()
    if result.errors and not any(
        folder.captions or folder.unreadable for folder in report.folders if folder.role == "concept"
    ):
        caption = literal(f"{shlex.join(['lorabake', 'caption', recipe])} --help")
        said = msg("to write captions with a tagger or from a template: {command}", command=caption)
        lines += layout.paragraph(said)
    return [*lines, *format_next_step(result, layout)]
