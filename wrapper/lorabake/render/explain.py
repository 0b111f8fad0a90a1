"""What the book has on a topic, laid out for a terminal: values first, then the rules in a few words each."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import click

from lorabake.errors import RecipeError
from lorabake.explain import CODES, EXAMPLES, PLACES, Subject, chapter_of, checks_of, find, meant, rule_of, subject_of
from lorabake.render.page import Page, bold, cells, dim, guided, padded
from lorabake.render.settings import value_text
from lorabake.render.where import where
from lorabake.speech import ENGLISH
from lorabake.typical import Typical
from lorabake_schemas.guide import Rule
from lorabake_schemas.guide.book import Entries, Entry
from lorabake_schemas.plan import Origin
from lorabake_schemas.report import ExplainedCase, ExplainedValue, ExplainReport
from lorabake_schemas.words import Said, joined, quoted, say

Values = Mapping[str, tuple[Typical, ...]]
LABEL = 12
WIDEST_VALUE = 28
NARROWEST_WHOM = 20
WHOLE = 2  # so many entries are shown whole, more of them in a few words each
FEWEST, MOST = 3, 5  # of those in a few words; the others are only named


def answers(topics: Sequence[str], page: Page, *, whole: bool = False, as_json: bool = False) -> str:
    """One answer after the other; for programs a single one. Raises RecipeError for what is not in the book.

    Words that are a title of the book together (clip skip) are one topic.
    """
    asked = _together(topics)
    if as_json:
        return _json(_merged([_report(topic) for topic in asked]))
    return "\n\n\n".join(_answer(topic, page, whole=whole) for topic in asked)


def _together(topics: Sequence[str]) -> tuple[str, ...]:
    phrase = " ".join(topics)
    try:
        find(phrase)
    except RecipeError:
        return tuple(dict.fromkeys(topics))
    return (phrase,)


def _answer(topic: str, page: Page, *, whole: bool) -> str:
    code = meant(topic).lower()
    return (
        code_text(code, page) if code in CODES else explained(topic, find(topic), subject_of(topic), page, whole=whole)
    )


def explained(topic: str, entries: Entries, subject: Subject | None, page: Page, *, whole: bool = False) -> str:
    """Everything for a person who asks about a topic; ``whole`` shows every entry at length."""
    values: Values = subject.values() if subject else {}
    blocks = [_values(topic, subject, values, page)] if subject and values else list[str]()
    if whole or len(entries) <= WHOLE:
        asked = rule_of(topic)
        blocks += ["\n".join(entry_lines(entry, page, asked)) for entry in entries]
    else:
        blocks += _in_a_few_words(topic, entries, values, page)
    if page.speech.language != ENGLISH.language:
        blocks.append("\n".join(map(dim, page.paragraph(say("The book of rules exists in English only.")))))
    return "\n\n".join(blocks)


def _in_a_few_words(topic: str, entries: Entries, values: Values, page: Page) -> Iterator[str]:
    """Those that decide a value, or the first ones, and the names of the others."""
    chosen = _deciding(entries, values)
    yield "\n".join(_short_list(chosen, page))
    more = page.paragraph(say("`lorabake explain {id}` says everything about one of them", id=chosen[0].id))
    if left := [entry.id for entry in entries if entry not in chosen]:
        command = f"lorabake explain {shlex.quote(topic)} --full"
        told_too = say("also: {ids}; `{command}` shows them all", ids=", ".join(left), command=command)
        more = [*page.paragraph(told_too), *more]
    yield "\n".join(map(dim, more))


def _deciding(entries: Entries, values: Values) -> Entries:
    """As many as fit, in the order of the book: first those that the table of values names."""
    sources = [each.source for typical in values.values() for each in typical if each.source]
    named = [rule.strip() for source in sources for rule in source.rule.split(",")]
    first = sorted((entry for entry in entries if entry.id in named), key=lambda entry: named.index(entry.id))[:MOST]
    rest = [entry for entry in entries if entry not in first]
    chosen = [*first, *rest[: (FEWEST if values else MOST) - len(first)]] if len(first) < FEWEST else first
    return tuple(entry for entry in entries if entry in chosen)


def entry_lines(entry: Entry, page: Page, asked: Rule | None = None) -> Iterator[str]:
    """One entry at length; what a finding's own id (S12.stem) stands for comes first."""
    yield from map(bold, page.paragraph(quoted(entry.title), first=f"{entry.id}  "))
    yield from map(dim, page.paragraph(quoted(chapter_of(entry).heading)))
    yield ""
    own = asked if asked and asked.id != entry.id else None
    if own:
        label = f"  {padded(own.id, LABEL)}"
        yield from page.paragraph(_check(own), first=label + " " * (cells(label) > LABEL + 2), rest=" " * (LABEL + 2))
        yield ""
    for label, words in rows(entry, but=own):
        yield from page.paragraph(words, first=f"  {padded(page(label), LABEL)}", rest=" " * (LABEL + 2))


def rows(entry: Entry, but: Rule | None = None) -> Iterator[tuple[Said, str]]:
    """Label and words of everything there is to say about an entry (``but`` is said), what one wants to know first."""
    options = [name for name in entry.options if "." not in name]
    keys = [name for name in entry.options if "." in name]
    told: Iterable[tuple[Said, str]] = (
        (say("Value"), entry.value),
        (say("The guide"), entry.guide),
        (say("In fact"), entry.truth),
        (say("Not when"), entry.unless),
        (say("Option"), ", ".join(options)),
        (say("In a recipe"), ", ".join(keys)),
        (say("lorabake"), done(entry)),
    )
    yield from ((label, words) for label, words in told if words)
    checks = checks_of(entry)
    for rule in checks:
        if rule is but:
            continue
        said = _check(rule)
        yield say("check"), said if len(checks) == 1 else say("{id}, {check}", id=rule.id, check=said)


def _check(rule: Rule) -> Said:
    """What a rule of the registry does, and when it does not."""
    said = say("{severity}: {reason}", severity=rule.severity.value, reason=rule.reason)
    return say("{check} Not when: {unless}.", check=said, unless=rule.unless) if rule.unless else said


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
        for number, (each, whom) in enumerate(_rows(subject, typical)):
            lines += columns.lines("" if option or number else name, each, page, whom)
    return "\n".join(lines)


def _rows(subject: Subject, typical: Sequence[Typical]) -> list[tuple[Typical, Said]]:
    """Each value with the recipes that get it; what all others get comes last, as such."""
    alone = len(typical) == 1 and subject.axis != "option"
    told = [(each, _for_whom(subject, each, alone=alone)) for each in typical]
    if len(told) > 1 and told[0][1] == say("any"):
        return [*told[1:], (told[0][0], say("otherwise"))]
    return told


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
    lines = [bold(code), "", *page.paragraph(CODES[code], first="  ")]
    if code in EXAMPLES:
        lines += ["", *(f"    {line}" for line in EXAMPLES[code].splitlines())]
    return "\n".join(lines)


def explained_json(topic: str) -> str:
    """As schemas/explain.schema.json has it."""
    return _json(_report(topic))


def _report(topic: str) -> ExplainReport:
    code = meant(topic).lower()
    if code in CODES:
        return ExplainReport(topic=code, text=CODES[code], values=(), entries=())
    entries, subject = find(topic), subject_of(topic)
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
    return ExplainReport(topic=topic, values=tuple(values), entries=entries)


def _merged(reports: Sequence[ExplainReport]) -> ExplainReport:
    """Several as one: what two of them have is in it once."""
    texts = [report.text for report in reports if report.text]
    return ExplainReport(
        topic=" ".join(report.topic for report in reports),
        text=joined(texts, " ") if texts else None,
        values=tuple(value for report in reports for value in report.values),
        entries=tuple({entry.id: entry for report in reports for entry in report.entries}.values()),
    )


def _json(report: ExplainReport) -> str:
    return json.dumps(report.model_dump(mode="json"), indent=2, ensure_ascii=False)


__all__ = ["answers", "code_text", "done", "entry_lines", "explained", "explained_json", "first_sentence", "rows"]
