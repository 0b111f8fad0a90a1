"""What the book has on a topic, laid out for a terminal: values first, then the rules in a few words each."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import click

from lorabake.explain import CODES, PLACES, Subject, chapter_of, checks_of
from lorabake.render.page import Page, bold, cells, dim, guided, padded
from lorabake.render.settings import value_text
from lorabake.render.where import where
from lorabake.typical import Typical
from lorabake_schemas.guide.book import Entries, Entry
from lorabake_schemas.plan import Origin
from lorabake_schemas.report import ExplainedCase, ExplainedValue, ExplainReport
from lorabake_schemas.words import Said, joined, quoted, say

Values = Mapping[str, tuple[Typical, ...]]
LABEL = 12
WIDEST_VALUE = 28
NARROWEST_WHOM = 20
WHOLE = 2  # so many entries are shown whole, more of them in a few words each


def explained(topic: str, entries: Entries, subject: Subject | None, page: Page, *, whole: bool = False) -> str:
    """Everything for a person who asks about a topic; ``whole`` shows every entry at length."""
    values: Values = subject.values() if subject else {}
    blocks = [_values(topic, subject, values, page)] if subject and values else list[str]()
    if whole or len(entries) <= WHOLE:
        blocks += ["\n".join(entry_lines(entry, page)) for entry in entries]
    else:
        blocks.append("\n".join(_short_list(entries, page)))
        more = say("`lorabake explain {id}` says everything about one of them", id=entries[0].id)
        blocks.append("\n".join(map(dim, page.paragraph(more))))
    return "\n\n".join(blocks)


def entry_lines(entry: Entry, page: Page) -> Iterator[str]:
    """One entry at length."""
    yield from map(bold, page.paragraph(quoted(entry.title), first=f"{entry.id}  "))
    yield from map(dim, page.paragraph(quoted(chapter_of(entry).heading)))
    yield ""
    for label, words in rows(entry):
        yield from page.paragraph(words, first=f"  {padded(page(label), LABEL)}", rest=" " * (LABEL + 2))


def rows(entry: Entry) -> Iterator[tuple[Said, str]]:
    """Label and words of everything there is to say about an entry, what one wants to know first."""
    options = [name for name in entry.options if "." not in name]
    keys = [name for name in entry.options if "." in name]
    unless = dict.fromkeys(rule.unless for rule in checks_of(entry) if rule.unless)
    told: Iterable[tuple[Said, str]] = (
        (say("Value"), entry.value),
        (say("The guide"), entry.guide),
        (say("In fact"), entry.truth),
        (say("Not when"), entry.unless or joined(unless, "; ")),
        (say("Option"), ", ".join(options)),
        (say("In a recipe"), ", ".join(keys)),
        (say("lorabake"), done(entry)),
    )
    yield from ((label, words) for label, words in told if words)
    for rule in checks_of(entry):
        yield say("check"), say("{severity}: {reason}", severity=rule.severity.value, reason=rule.reason)


def done(entry: Entry) -> Said:
    """What lorabake makes of it, in one sentence or two."""
    match entry.status:
        case "implemented":
            places = joined(PLACES[place] for place in entry.where)
            said = (
                say("{places} (as {id}).", places=places, id=entry.under) if entry.under else joined((places, ""), ".")
            )
        case "advice":
            said = say("advice for people.")
        case "not-applicable":
            said = say("does not apply.")
    return joined((said, quoted(entry.reason)), " ") if entry.reason else said


def _short_list(entries: Entries, page: Page) -> Iterator[str]:
    wide = max(cells(entry.id) for entry in entries)
    for entry in entries:
        title = f"{entry.title}: {entry.value}" if entry.value not in ("", entry.title) else entry.title
        first = f"  {padded(entry.id, wide)}  "
        lines = page.paragraph(quoted(title), first=first, rest=" " * cells(first))
        yield from (
            click.style(first, fg="cyan") + bold(line[len(first) :]) if not n else line for n, line in enumerate(lines)
        )
        yield from page.paragraph(quoted(first_sentence(entry.truth or entry.guide)), first=" " * cells(first))


def first_sentence(text: str) -> str:
    """Up to the first full stop that is followed by a capital letter."""
    return re.split(r"(?<=[.!?]) (?=[A-Z])", text, maxsplit=1)[0]


def _values(topic: str, subject: Subject, values: Values, page: Page) -> str:
    """What lorabake writes: value, why, and for which recipes."""
    option = subject.axis == "option"
    said = (
        say("{option}: what lorabake writes", option=subject.name)
        if option
        else say("{topic}: what lorabake makes of it", topic=topic)
    )
    every = [each for typical in values.values() for each in typical]
    shown = [wide for each in every if (wide := cells(_text(each, page))) <= WIDEST_VALUE]
    columns = _Columns(
        name=0 if option else max(map(cells, values)) + 2,
        value=max(shown, default=0) + 2,
        rule=max(cells(_rule(each)) for each in every) + 2,
    )
    lines = [bold(page(said))]
    for name, typical in values.items():
        for number, each in enumerate(typical):
            alone = len(typical) == 1 and not option
            lines += columns.lines("" if option or number else name, each, page, _for_whom(subject, each, alone=alone))
    return "\n".join(lines)


def _for_whom(subject: Subject, each: Typical, *, alone: bool) -> Said:
    """The recipes that get a value; what the topic itself says need not be said again."""
    if alone:
        return joined(())
    if subject.axis in ("optimizer", "network"):
        return quoted(", ".join(dict.fromkeys(case.family for case in each.cases)))
    if subject.axis == "kind":
        return quoted(", ".join(case.family for case in each.cases))
    if subject.axis == "family":
        return quoted(", ".join(case.kind for case in each.cases))
    return where(each.cases)


@dataclass(frozen=True, slots=True)
class _Columns:
    """How wide the columns of a table of values are; the last one takes what is left."""

    name: int
    value: int
    rule: int

    def lines(self, name: str, each: Typical, page: Page, whom: Said) -> list[str]:
        value = _text(each, page)
        below = cells(value) > self.value
        source = padded(guided(_rule(each)), self.rule)
        first = f"  {padded(name, self.name)}{padded('' if below else value, self.value)}{source}"
        if page.columns is not None and whom and page.columns - cells(first) < NARROWEST_WHOM:
            lines = [first.rstrip(), *page.paragraph(whom, first=" " * (self.name + 4))]
        else:
            lines = [line.rstrip() for line in page.paragraph(whom, first=first, rest=" " * cells(first))]
        return lines + (page.paragraph(quoted(value), first=" " * (self.name + 2)) if below else [])


def _text(each: Typical, page: Page) -> str:
    return page(say("not written")) if each.value is None else value_text(each.value)


def _rule(each: Typical) -> str:
    """The rule that decides; all rules that one list of arguments follows are told below."""
    source = each.source
    if source is None or source.origin is Origin.RECIPE:
        return ""
    return source.rule.partition(",")[0] + (" ..." if "," in source.rule else "") or source.origin.value


def code_text(code: str, page: Page) -> str:
    """What the word for a fault of the recipe as a file means."""
    return "\n".join([bold(code), "", *page.paragraph(CODES[code], first="  ")])


def code_json(code: str) -> str:
    """The same for programs, as schemas/explain.schema.json has it."""
    return _json(ExplainReport(topic=code, text=CODES[code], values=(), entries=()))


def explained_json(topic: str, entries: Entries, subject: Subject | None) -> str:
    """As schemas/explain.schema.json has it."""
    told: Values = subject.values() if subject else {}
    values = [
        ExplainedValue(
            option=option,
            value=each.value,
            source=each.source,
            cases=tuple(ExplainedCase(family=case.family, kind=case.kind, also=case.also) for case in each.cases),
        )
        for option, typical in told.items()
        for each in typical
    ]
    report = ExplainReport(topic=topic, values=tuple(values), entries=entries)
    return _json(report)


def _json(report: ExplainReport) -> str:
    return json.dumps(report.model_dump(mode="json"), indent=2, ensure_ascii=False)


__all__ = ["code_json", "code_text", "done", "entry_lines", "explained", "explained_json", "first_sentence", "rows"]
