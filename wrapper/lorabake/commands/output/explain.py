"""What the book has on a topic, laid out for a terminal: values first, then the rules in a few words each."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import click

from lorabake.analysis.default_values import DefaultValue
from lorabake.analysis.explain import (
    CODE_EXAMPLES,
    PLACE_LABELS,
    RECIPE_CODES,
    TopicSubject,
    find_chapter,
    find_entries,
    find_rule,
    find_subject,
    resolve_topic_alias,
    rules_for,
)
from lorabake.commands.output.layout import TextLayout, bold, count_cells, dim, pad_text, style_rule_id
from lorabake.commands.output.locations import describe_recipes
from lorabake.commands.output.settings import format_setting_value
from lorabake.errors import RecipeError
from lorabake.util.i18n import ENGLISH
from lorabake_schemas.check_report import ExplainedCase, ExplainedValue, ExplainReport
from lorabake_schemas.guide.book import BookEntries, BookEntry
from lorabake_schemas.guide.registry import Rule
from lorabake_schemas.messages import Message, join_list, literal, msg
from lorabake_schemas.plan import Origin

ValuesByOption = Mapping[str, tuple[DefaultValue, ...]]
LABEL_WIDTH = 12
MAX_VALUE_WIDTH = 28
MIN_RECIPES_WIDTH = 20
MAX_FULL_ENTRIES = 2  # so many entries are shown whole, more of them in a few words each
MIN_SHORT_ENTRIES, MAX_SHORT_ENTRIES = 3, 5  # of those in a few words; the others are only named


def explain_topics(topics: Sequence[str], page: TextLayout, *, whole: bool = False, as_json: bool = False) -> str:
    """One answer after the other; for programs a single one. Raises RecipeError for what is not in the book.

    Words that are a title of the book together (clip skip) are one topic.
    """
    asked = _join_topics(topics)
    if as_json:
        return _report_to_json(_merge_reports([_build_report(topic) for topic in asked]))
    return "\n\n\n".join(_format_answer(topic, page, whole=whole) for topic in asked)


def _join_topics(topics: Sequence[str]) -> tuple[str, ...]:
    phrase = " ".join(topics)
    try:
        find_entries(phrase)
    except RecipeError:
        return tuple(dict.fromkeys(topics))
    return (phrase,)


def _format_answer(topic: str, page: TextLayout, *, whole: bool) -> str:
    code = resolve_topic_alias(topic).lower()
    return (
        explain_code(code, page)
        if code in RECIPE_CODES
        else explain_topic(topic, find_entries(topic), find_subject(topic), page, whole=whole)
    )


def explain_topic(
    topic: str, entries: BookEntries, subject: TopicSubject | None, page: TextLayout, *, whole: bool = False
) -> str:
    """Everything for a person who asks about a topic; ``whole`` shows every entry at length."""
    values: ValuesByOption = subject.values() if subject else {}
    blocks = [_value_table(topic, subject, values, page)] if subject and values else list[str]()
    if whole or len(entries) <= MAX_FULL_ENTRIES:
        asked = find_rule(topic)
        blocks += ["\n".join(iter_entry_lines(entry, page, asked)) for entry in entries]
    else:
        blocks += _iter_short_answer(topic, entries, values, page)
    if page.speech.language != ENGLISH.language:
        blocks.append("\n".join(map(dim, page.paragraph(msg("The book of rules exists in English only.")))))
    return "\n\n".join(blocks)


def _iter_short_answer(topic: str, entries: BookEntries, values: ValuesByOption, page: TextLayout) -> Iterator[str]:
    """Those that decide a value, or the first ones, and the names of the others."""
    chosen = _choose_entries(entries, values)
    yield "\n".join(_iter_short_entries(chosen, page))
    more = page.paragraph(msg("`lorabake explain {id}` says everything about one of them", id=chosen[0].id))
    if left := [entry.id for entry in entries if entry not in chosen]:
        command = f"lorabake explain {shlex.quote(topic)} --full"
        told_too = msg("also: {ids}; `{command}` shows them all", ids=", ".join(left), command=command)
        more = [*page.paragraph(told_too), *more]
    yield "\n".join(map(dim, more))


def _choose_entries(entries: BookEntries, values: ValuesByOption) -> BookEntries:
    """As many as fit, in the order of the book: first those that the table of values names."""
    sources = [each.source for typical in values.values() for each in typical if each.source]
    named = [rule.strip() for source in sources for rule in source.rule.split(",")]
    first = sorted((entry for entry in entries if entry.id in named), key=lambda entry: named.index(entry.id))[
        :MAX_SHORT_ENTRIES
    ]
    rest = [entry for entry in entries if entry not in first]
    chosen = (
        [*first, *rest[: (MIN_SHORT_ENTRIES if values else MAX_SHORT_ENTRIES) - len(first)]]
        if len(first) < MIN_SHORT_ENTRIES
        else first
    )
    return tuple(entry for entry in entries if entry in chosen)


def iter_entry_lines(entry: BookEntry, page: TextLayout, asked: Rule | None = None) -> Iterator[str]:
    """One entry at length; what a finding's own id (S12.stem) stands for comes first."""
    yield from map(bold, page.paragraph(literal(entry.title), first=f"{entry.id}  "))
    yield from map(dim, page.paragraph(literal(find_chapter(entry).heading)))
    yield ""
    own = asked if asked and asked.id != entry.id else None
    if own:
        label = f"  {pad_text(own.id, LABEL_WIDTH)}"
        yield from page.paragraph(
            _describe_rule(own),
            first=label + " " * (count_cells(label) > LABEL_WIDTH + 2),
            rest=" " * (LABEL_WIDTH + 2),
        )
        yield ""
    for label, words in iter_entry_rows(entry, but=own):
        yield from page.paragraph(words, first=f"  {pad_text(page(label), LABEL_WIDTH)}", rest=" " * (LABEL_WIDTH + 2))


def iter_entry_rows(entry: BookEntry, but: Rule | None = None) -> Iterator[tuple[Message, str]]:
    """Label and words of everything there is to say about an entry (``but`` is said), what one wants to know first."""
    options = [name for name in entry.options if "." not in name]
    keys = [name for name in entry.options if "." in name]
    told: Iterable[tuple[Message, str]] = (
        (msg("Value"), entry.value),
        (msg("The guide"), entry.guide),
        (msg("In fact"), entry.truth),
        (msg("Not when"), entry.unless),
        (msg("Option"), ", ".join(options)),
        (msg("In a recipe"), ", ".join(keys)),
        (msg("lorabake"), describe_status(entry)),
    )
    yield from ((label, words) for label, words in told if words)
    checks = rules_for(entry)
    for rule in checks:
        if rule is but:
            continue
        said = _describe_rule(rule)
        yield msg("check"), said if len(checks) == 1 else msg("{id}, {check}", id=rule.id, check=said)


def _describe_rule(rule: Rule) -> Message:
    """What a rule of the registry does, and when it does not."""
    said = msg("{severity}: {reason}", severity=rule.severity.value, reason=rule.reason)
    return msg("{check} Not when: {unless}.", check=said, unless=rule.unless) if rule.unless else said


def describe_status(entry: BookEntry) -> Message:
    """What lorabake makes of it, in one sentence or two."""
    match entry.status:
        case "implemented":
            places = join_list(PLACE_LABELS[place] for place in entry.where)
            said = (
                msg("{places} (as {id}).", places=places, id=entry.under)
                if entry.under
                else join_list((places, ""), ".")
            )
        case "advice":
            said = msg("advice for people.")
        case "not-applicable":
            said = msg("does not apply.")
    return join_list((said, literal(entry.reason)), " ") if entry.reason else said


def _iter_short_entries(entries: BookEntries, page: TextLayout) -> Iterator[str]:
    wide = max(count_cells(entry.id) for entry in entries)
    for entry in entries:
        title = f"{entry.title}: {entry.value}" if entry.value not in ("", entry.title) else entry.title
        first = f"  {pad_text(entry.id, wide)}  "
        lines = page.paragraph(literal(title), first=first, rest=" " * count_cells(first))
        yield from (
            click.style(first, fg="cyan") + bold(line[len(first) :]) if not n else line for n, line in enumerate(lines)
        )
        yield from page.paragraph(literal(first_sentence(entry.truth or entry.guide)), first=" " * count_cells(first))


def first_sentence(text: str) -> str:
    """Up to the first full stop that is followed by a capital letter."""
    return re.split(r"(?<=[.!?]) (?=[A-Z])", text, maxsplit=1)[0]


def _value_table(topic: str, subject: TopicSubject, values: ValuesByOption, page: TextLayout) -> str:
    """What lorabake writes: value, why, and for which recipes."""
    option = subject.axis == "option"
    said = (
        msg("{option}: what lorabake writes", option=subject.name)
        if option
        else msg("{topic}: what lorabake makes of it", topic=topic)
    )
    every = [each for typical in values.values() for each in typical]
    shown = [wide for each in every if (wide := count_cells(_format_value(each, page))) <= MAX_VALUE_WIDTH]
    columns = _Columns(
        name=0 if option else max(map(count_cells, values)) + 2,
        value=max(shown, default=0) + 2,
        rule=max(count_cells(_rule_label(each)) for each in every) + 2,
    )
    lines = [bold(page(said))]
    for name, typical in values.items():
        for number, (each, whom) in enumerate(_value_rows(subject, typical)):
            lines += columns.lines("" if option or number else name, each, page, whom)
    return "\n".join(lines)


def _value_rows(subject: TopicSubject, typical: Sequence[DefaultValue]) -> list[tuple[DefaultValue, Message]]:
    """Each value with the recipes that get it; what all others get comes last, as such."""
    alone = len(typical) == 1 and subject.axis != "option"
    told = [(each, _describe_recipes(subject, each, alone=alone)) for each in typical]
    if len(told) > 1 and told[0][1] == msg("any"):
        return [*told[1:], (told[0][0], msg("otherwise"))]
    return told


def _describe_recipes(subject: TopicSubject, each: DefaultValue, *, alone: bool) -> Message:
    """The recipes that get a value; what the topic itself says need not be said again."""
    if alone:
        return join_list(())
    if subject.axis in ("optimizer", "network"):
        return literal(", ".join(dict.fromkeys(case.family for case in each.cases)))
    if subject.axis == "kind":
        return literal(", ".join(case.family for case in each.cases))
    if subject.axis == "family":
        return literal(", ".join(case.kind for case in each.cases))
    return describe_recipes(each.cases)


@dataclass(frozen=True, slots=True)
class _Columns:
    """How wide the columns of a table of values are; the last one takes what is left."""

    name: int
    value: int
    rule: int

    def lines(self, name: str, each: DefaultValue, page: TextLayout, whom: Message) -> list[str]:
        value = _format_value(each, page)
        below = count_cells(value) > self.value
        source = pad_text(style_rule_id(_rule_label(each)), self.rule)
        first = f"  {pad_text(name, self.name)}{pad_text('' if below else value, self.value)}{source}"
        if page.columns is not None and whom and page.columns - count_cells(first) < MIN_RECIPES_WIDTH:
            lines = [first.rstrip(), *page.paragraph(whom, first=" " * (self.name + 4))]
        else:
            lines = [line.rstrip() for line in page.paragraph(whom, first=first, rest=" " * count_cells(first))]
        return lines + (page.paragraph(literal(value), first=" " * (self.name + 2)) if below else [])


def _format_value(each: DefaultValue, page: TextLayout) -> str:
    return page(msg("not written")) if each.value is None else format_setting_value(each.value)


def _rule_label(each: DefaultValue) -> str:
    """The rule that decides; all rules that one list of arguments follows are told below."""
    source = each.source
    if source is None or source.origin is Origin.RECIPE:
        return ""
    return source.rule.partition(",")[0] + (" ..." if "," in source.rule else "") or source.origin.value


def explain_code(code: str, page: TextLayout) -> str:
    """What the word for a fault of the recipe as a file means."""
    lines = [bold(code), "", *page.paragraph(RECIPE_CODES[code], first="  ")]
    if code in CODE_EXAMPLES:
        lines += ["", *(f"    {line}" for line in CODE_EXAMPLES[code].splitlines())]
    return "\n".join(lines)


def topic_to_json(topic: str) -> str:
    """As schemas/explain.schema.json has it."""
    return _report_to_json(_build_report(topic))


def _build_report(topic: str) -> ExplainReport:
    code = resolve_topic_alias(topic).lower()
    if code in RECIPE_CODES:
        return ExplainReport(topic=code, text=RECIPE_CODES[code], values=(), entries=())
    entries, subject = find_entries(topic), find_subject(topic)
    told: ValuesByOption = subject.values() if subject else {}
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


def _merge_reports(reports: Sequence[ExplainReport]) -> ExplainReport:
    """Several as one: what two of them have is in it once."""
    texts = [report.text for report in reports if report.text]
    return ExplainReport(
        topic=" ".join(report.topic for report in reports),
        text=join_list(texts, " ") if texts else None,
        values=tuple(value for report in reports for value in report.values),
        entries=tuple({entry.id: entry for report in reports for entry in report.entries}.values()),
    )


def _report_to_json(report: ExplainReport) -> str:
    return json.dumps(report.model_dump(mode="json"), indent=2, ensure_ascii=False)
