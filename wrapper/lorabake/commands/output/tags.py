"""What `lorabake tags` prints: the tags of each concept, what comes together, what an edit changes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TypeVar

from lorabake.commands.output.layout import TextLayout, align_rows, bold, dim
from lorabake_schemas.messages import Message, escape_invisible, join_list, literal, msg, nmsg, shorten_list
from lorabake_schemas.tag_report import CaptionEditReport, ConceptTags, Spelling, TagCompany, TagCount, TagReport

Item = TypeVar("Item")
MOST_TAGS, MOST_NAMED = 40, 24  # of a table, of a list; --all shows all
MAX_TAG_LENGTH = 48  # characters


def report_to_json(report: TagReport | CaptionEditReport) -> str:
    """As schemas/tags.schema.json or schemas/tag-edits.schema.json has it."""
    return report.model_dump_json(indent=2)


def format_tags(report: TagReport, page: TextLayout, *, everything: bool = False) -> str:
    """A table of tags for each concept, or what comes together with one tag."""
    if report.company is not None:
        return "\n".join(_iter_company_lines(report.company, page, everything))
    return "\n\n".join("\n".join(_iter_concept_lines(each, page, everything)) for each in report.concepts)


def _iter_concept_lines(concept: ConceptTags, page: TextLayout, everything: bool) -> Iterator[str]:
    yield f"{bold(page(concept.name))}  {dim(page(_describe_concept(concept)))}"
    if concept.tags:
        yield ""
        yield from _iter_tag_rows(concept.tags, page, everything)
    for said in _describe_lists(concept, everything):
        yield ""
        yield from page.paragraph(said, first="  ", rest="    ")


def _describe_concept(concept: ConceptTags) -> Message:
    found = [nmsg(concept.images, "{n} image", "{n} images")]
    if missing := concept.images - concept.captioned - concept.unreadable:
        found.append(msg("{n} without a caption", n=missing))
    if concept.unreadable:
        found.append(msg("{n} with a caption that cannot be read", n=concept.unreadable))
    if concept.sentences:
        found.append(nmsg(concept.sentences, "{n} with a sentence", "{n} with sentences"))
    if concept.tags:
        found.append(nmsg(len(concept.tags), "{n} tag", "{n} different tags"))
        found.append(msg("{mean:.1f} per image", mean=concept.mean))
    return join_list(found)


def _describe_lists(concept: ConceptTags, everything: bool) -> Iterator[Message]:
    if concept.constant:
        yield msg(
            "In every caption, so learned as part of the token: {tags}", tags=_list_tags(concept.constant, everything)
        )
    if concept.single:
        yield msg("On one image only ({n}): {tags}", n=len(concept.single), tags=_list_tags(concept.single, everything))
    if concept.alike:
        groups = concept.alike if everything else concept.alike[:MOST_NAMED]
        listed = join_list(map(_describe_spellings, groups), "; ")
        yield msg("Perhaps the same ({n}): {groups}", n=len(concept.alike), groups=listed)


def _describe_spellings(group: Sequence[Spelling]) -> Message:
    return join_list([literal(f"{_shorten(each.tag)} ({each.images})") for each in group], " = ")


def _list_tags(tags: Sequence[str], everything: bool) -> Message:
    return shorten_list(tags, len(tags) if everything else MOST_NAMED, lambda tag: literal(_shorten(tag)))


def _iter_tag_rows(tags: Sequence[TagCount], page: TextLayout, everything: bool) -> Iterator[str]:
    rows = [(page(msg("tag")), page(msg("images")), page(msg("share")))]
    rows += [(_shorten(each.tag), str(each.images), page(_share(each.share))) for each in _cut(tags, everything)]
    yield from _draw_table(rows, (1, 2))
    yield from _iter_more(len(tags), page, everything)


def _iter_company_lines(company: TagCompany, page: TextLayout, everything: bool) -> Iterator[str]:
    count = nmsg(company.images, "on {n} image", "on {n} images")
    yield f"{bold(escape_invisible(company.tag))}  {dim(page(count))}"
    if company.together:
        yield ""
        head = (msg("comes with"), msg("images"), msg("share there"), msg("elsewhere"))
        rows = [tuple(map(page, head))]
        rows += [
            (_shorten(each.tag), str(each.together), page(_share(each.share)), page(_share(each.share_elsewhere)))
            for each in _cut(company.together, everything)
        ]
        yield from _draw_table(rows, (1, 2, 3))
        yield from _iter_more(len(company.together), page, everything)
    if company.never:
        yield ""
        never = [f"{_shorten(each.tag)} ({each.images})" for each in company.never]
        listed = shorten_list(never, len(never) if everything else MOST_NAMED, literal)
        yield from page.paragraph(
            msg("Never together ({n}): {tags}", n=len(never), tags=listed), first="  ", rest="    "
        )


def _draw_table(rows: Sequence[Sequence[str]], numbers: Iterable[int]) -> Iterator[str]:
    head, *lines = ("\n".join(each) for each in align_rows(rows, numbers))
    yield f"  {dim(head)}"
    yield from (f"  {line}" for line in lines)


def _iter_more(count: int, page: TextLayout, everything: bool) -> Iterator[str]:
    if count > MOST_TAGS and not everything:
        yield f"  {dim(page(msg('and {n} more (--all shows them)', n=count - MOST_TAGS)))}"


def _cut(tags: Sequence[Item], everything: bool) -> Sequence[Item]:
    return tags if everything else tags[:MOST_TAGS]


def _share(share: float) -> Message:
    return msg("{share:.0%}", share=share)


def _shorten(tag: str) -> str:
    text = escape_invisible(tag)
    return text if len(text) <= MAX_TAG_LENGTH else f"{text[: MAX_TAG_LENGTH - 1]}…"
