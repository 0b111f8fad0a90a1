"""The output of `explain`: defaults and the recipe's values first, then the rules in short form; and the book."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from fnmatch import fnmatchcase
from types import MappingProxyType
from typing import TYPE_CHECKING

import click

from lorabake.analysis.explain import (
    CODE_EXAMPLES,
    RECIPE_CODES,
    STATUSES,
    Explanation,
    count_statuses,
    explain,
    find_chapter,
    find_rule,
    is_topic,
    list_entry_rules,
)
from lorabake.commands.output.layout import (
    TextLayout,
    bold,
    count_cells,
    dim,
    format_table,
    pad_text,
    style_rule_id,
)
from lorabake.commands.output.plan import ORIGIN_LABELS, format_setting_value
from lorabake.util.i18n import ENGLISH
from lorabake_schemas.explanation import ExplainedCase, ExplainedKey, ExplainedValue, ExplainReport
from lorabake_schemas.guide.book import (
    CHAPTERS,
    BookChapter,
    BookEntries,
    BookEntry,
    EntryPlace,
    EntryStatus,
    load_book,
)
from lorabake_schemas.guide.default_values import FAMILIES, KINDS, DefaultValue, DefaultValues, RecipeGroup
from lorabake_schemas.messages import Message, join_list, literal, msg
from lorabake_schemas.plan import Origin, Plan
from lorabake_schemas.sd_scripts import OPTIMIZERS

if TYPE_CHECKING:
    from lorabake_schemas.guide.registry import Rule

STATUS_LABELS: Mapping[EntryStatus, Message] = MappingProxyType(
    {
        "implemented": msg("Implemented"),
        "advice": msg("Advice only"),
        "not-applicable": msg("Not applicable"),
    }
)
PLACE_LABELS: Mapping[EntryPlace, Message] = MappingProxyType(
    {
        "rule": msg("reported by `lorabake check`"),
        "resolve": msg("set in the plan"),
        "schema": msg("enforced by the recipe format"),
        "forecast": msg("calculated in the plan"),
        "recipes": msg("applied in a shipped recipe"),
        "scan": msg("read from the files"),
        "compile": msg("enforced by the compiled files"),
        "trainer": msg("handled when the trainer is installed"),
        "run": msg("handled in every run"),
        "check": msg("used by `lorabake check` for order and severity"),
    }
)
_Row = tuple[str, str, str, Message]
OPTIMIZER_KEY = "train.optimizer"
OPTIMIZER_PATTERNS = ("DAdapt*", "PagedAdamW*", "*ScheduleFree")  # each behaves as one; the rest are named
LABEL_WIDTH = 12
MAX_VALUE_WIDTH = 28
MIN_RECIPES_WIDTH = 20
MAX_FULL_ENTRIES = 2  # up to this many entries are shown in full, more of them in short form
MIN_SHORT_ENTRIES, MAX_SHORT_ENTRIES = 3, 5  # of those in short form; the others are only named
FOREWORD = """# The book of rules

What the training guide recommends, what sd-scripts and LyCORIS really do, and what lorabake makes of it. Ids that
start with G are rules of the guide (GL its change log, GC the comments below it). Ids that start with S are facts
about sd-scripts at the pinned commit. `lorabake explain ID` shows one of them, and `lorabake explain SETTING` all that
concern a setting."""


def explain_topics(
    topics: Sequence[str], page: TextLayout, plan: Plan | None = None, *, whole: bool = False, as_json: bool = False
) -> str:
    """One answer after the other; for programs a single one. Raises UnknownNameError for what is not in the book."""
    found = [explain(topic, plan) for topic in _join_topics(topics)]
    if as_json:
        return _merge_reports([build_report(each) for each in found]).model_dump_json(indent=2)
    return "\n\n\n".join(format_explanation(each, page, whole=whole) for each in found)


def _join_topics(topics: Sequence[str]) -> tuple[str, ...]:
    """Join arguments that together are a title of the book (clip skip) into one topic."""
    phrase = " ".join(topics)
    return (phrase,) if is_topic(phrase) else tuple(dict.fromkeys(topics))


def format_explanation(found: Explanation, page: TextLayout, *, whole: bool = False) -> str:
    """The explanation as text; ``whole`` shows every entry in full."""
    if found.code:
        return _format_code(found.code, page)
    blocks = [_format_keys(found, page)] if found.keys else list[str]()
    if found.defaults:
        blocks.append(_format_defaults(found, page))
    if found.planned:
        blocks.append(_format_planned(found, page))
    if whole or len(found.entries) <= MAX_FULL_ENTRIES:
        asked = find_rule(found.topic)
        blocks += ["\n".join(iter_entry_lines(entry, page, asked)) for entry in found.entries]
    else:
        blocks += _iter_short_answer(found, page)
    if page.translator.language != ENGLISH.language:
        blocks.append("\n".join(map(dim, page.paragraph(msg("The entries are available in English only.")))))
    return "\n\n".join(blocks)


def _format_code(code: str, page: TextLayout) -> str:
    """What the id of a finding about the recipe as a file means."""
    lines = [bold(code), "", *page.paragraph(RECIPE_CODES[code], first="  ")]
    if code in CODE_EXAMPLES:
        lines += ["", *(f"    {line}" for line in CODE_EXAMPLES[code].splitlines())]
    return "\n".join(lines)


def _iter_short_answer(found: Explanation, page: TextLayout) -> Iterator[str]:
    """The entries that decide a value, or the first ones, and the names of the others."""
    chosen = _choose_entries(found)
    yield "\n".join(_iter_short_entries(chosen, page))
    more = page.paragraph(msg("`lorabake explain {id}` shows one entry in full", id=chosen[0].id))
    if left := [entry.id for entry in found.entries if entry not in chosen]:
        command = f"lorabake explain {shlex.quote(found.topic)} --full"
        told_too = msg("more entries: {ids} (show all with `{command}`)", ids=", ".join(left), command=command)
        more = [*page.paragraph(told_too), *more]
    yield "\n".join(map(dim, more))


def _choose_entries(found: Explanation) -> BookEntries:
    """As many as fit, in the order of the book: first those named in the table of defaults."""
    sources = [each.source for defaults in found.defaults.values() for each in defaults if each.source]
    named = list(dict.fromkeys(rule.strip() for source in sources for rule in source.rule.split(",")))
    first = [entry for rule in named for entry in found.entries if entry.id == rule][:MAX_SHORT_ENTRIES]
    most = MIN_SHORT_ENTRIES if found.defaults else MAX_SHORT_ENTRIES
    rest = [entry for entry in found.entries if entry not in first][: max(0, most - len(first))]
    return tuple(entry for entry in found.entries if entry in first or entry in rest)


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


def iter_entry_lines(entry: BookEntry, page: TextLayout, asked: Rule | None = None) -> Iterator[str]:
    """One entry in full, starting with the meaning of a finding's own id (S12.stem)."""
    yield from map(bold, page.paragraph(literal(entry.title), first=f"{entry.id}  "))
    yield from map(dim, page.paragraph(literal(find_chapter(entry).heading)))
    yield ""
    own = asked if asked and asked.id != entry.id else None
    if own:
        label = f"  {pad_text(own.id, LABEL_WIDTH)}"
        first = label + " " * (count_cells(label) > LABEL_WIDTH + 2)
        yield from page.paragraph(_describe_rule(own), first=first, rest=" " * (LABEL_WIDTH + 2))
        yield ""
    for label, words in iter_entry_rows(entry, but=own):
        yield from page.paragraph(words, first=f"  {pad_text(page(label), LABEL_WIDTH)}", rest=" " * (LABEL_WIDTH + 2))


def iter_entry_rows(entry: BookEntry, but: Rule | None = None) -> Iterator[tuple[Message, str]]:
    """Label and text of each part of an entry, the most useful first; the rule ``but`` is left out."""
    options = [name for name in entry.options if "." not in name]
    keys = [name for name in entry.options if "." in name]
    told: Iterable[tuple[Message, str]] = (
        (msg("Value"), entry.value),
        (msg("The guide"), entry.guide),
        (msg("In fact"), entry.truth),
        (msg("Exception"), entry.unless),
        (msg("Option"), ", ".join(options)),
        (msg("In a recipe"), ", ".join(keys)),
        (msg("lorabake"), describe_status(entry)),
    )
    yield from ((label, words) for label, words in told if words)
    checks = list_entry_rules(entry)
    for rule in checks:
        if rule is not but:
            said = _describe_rule(rule)
            yield msg("check"), said if len(checks) == 1 else msg("{id}, {check}", id=rule.id, check=said)


def _describe_rule(rule: Rule) -> Message:
    """What a rule of the registry does, and when it does not."""
    said = msg("{severity}: {reason}", severity=rule.severity.value, reason=rule.reason)
    return msg("{check} Exception: {unless}.", check=said, unless=rule.unless) if rule.unless else said


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
            said = msg("advice only.")
        case "not-applicable":
            said = msg("not applicable.")
    return join_list((said, literal(entry.reason)), " ") if entry.reason else said


def _format_keys(found: Explanation, page: TextLayout) -> str:
    """What the keys of that name mean."""
    rows: list[_Row] = [(each.key, "", "", _describe_key(each)) for each in found.keys]
    return "\n".join([bold(page(msg("In a recipe:"))), *_iter_rows(rows, page)])


def _describe_key(key: ExplainedKey) -> Message:
    if not key.choices:
        return literal(key.description)
    return msg("{description} One of: {choices}.", description=key.description, choices=", ".join(key.choices))


def _format_planned(found: Explanation, page: TextLayout) -> str:
    """What the reader's recipe leads to, and why."""
    rows: list[_Row] = []
    for n, each in enumerate(found.planned):
        why = (each.where, each.source.rule or ORIGIN_LABELS[each.source.origin], each.source.why)
        again = n > 0 and found.planned[n - 1].option == each.option
        value = format_setting_value(each.value)
        rows.append(("" if again else each.option, value, "", join_list(filter(None, map(literal, why)), ": ")))
    return "\n".join([bold(page(msg("In your recipe:"))), *_iter_rows(rows, page)])


def _format_defaults(found: Explanation, page: TextLayout) -> str:
    """What lorabake writes: value, why, and for which recipes; what all others get comes last, as such."""
    option = found.axis == "option"
    said = (
        msg("{option}: values that lorabake writes", option=found.name)
        if option
        else msg("{topic}: settings that lorabake writes", topic=found.topic)
    )
    rows: list[_Row] = []
    for name, defaults in found.defaults.items():
        told = [(each, _describe_recipes(found, each, alone=len(defaults) == 1)) for each in defaults]
        for n, (each, whom) in enumerate(_move_rest_last(told)):
            value = page(msg("not written")) if each.value is None else format_setting_value(each.value)
            rows.append(("" if option or n else name, value, _format_rule(each), whom))
    return "\n".join([bold(page(said)), *_iter_rows(rows, page)])


def list_default_cases(defaults: DefaultValues) -> list[tuple[DefaultValue, Message]]:
    """Each default of an option with the recipes that get it."""
    return _move_rest_last([(each, describe_recipes(each)) for each in defaults])


def _move_rest_last(cases: list[tuple[DefaultValue, Message]]) -> list[tuple[DefaultValue, Message]]:
    """A value of any recipe comes first in the table; after named recipes it is that of all others."""
    if len(cases) > 1 and cases[0][1] == msg("any"):
        return [*cases[1:], (cases[0][0], msg("all others"))]
    return cases


def _format_rule(each: DefaultValue) -> str:
    """The rule that decides; all rules that one list of arguments follows are named below."""
    source = each.source
    if source is None or source.origin is Origin.RECIPE:
        return ""
    return source.rule.partition(",")[0] + (" ..." if "," in source.rule else "") or source.origin.value


def _iter_rows(rows: Sequence[_Row], page: TextLayout) -> Iterator[str]:
    """Name, value, rule and recipes in columns; a long value is continued on a separate line."""
    short = [value if count_cells(value) <= MAX_VALUE_WIDTH else "" for _, value, _, _ in rows]
    columns = zip(*((name, value, rule) for (name, _, rule, _), value in zip(rows, short, strict=True)), strict=True)
    wide, value_wide, rule_wide = (width + 2 if (width := max(map(count_cells, cells))) else 0 for cells in columns)
    for (name, value, rule, whom), shown in zip(rows, short, strict=True):
        first = f"  {pad_text(name, wide)}{pad_text(shown, value_wide)}{pad_text(style_rule_id(rule), rule_wide)}"
        if page.columns and page.columns - count_cells(first) < min(MIN_RECIPES_WIDTH, count_cells(page(whom))):
            yield first.rstrip()
            yield from page.paragraph(whom, first=" " * (wide + 4))
        else:
            yield from (line.rstrip() for line in page.paragraph(whom, first=first, rest=" " * count_cells(first)))
        if value and not shown:
            yield from page.paragraph(literal(value), first=" " * (wide + 2))


def _describe_recipes(found: Explanation, each: DefaultValue, *, alone: bool) -> Message:
    """The recipes that get a value, without repeating the topic itself."""
    match found.axis:
        case "option":
            return describe_recipes(each)
        case "family" if not alone:
            return literal(", ".join(each.recipes[0].kinds))
        case _ if not alone:
            return literal(", ".join(family for group in each.recipes for family in group.families))
        case _:
            return literal("")


def describe_recipes(each: DefaultValue) -> Message:
    """As short as possible: ``sdxl (not style)``; families and kinds, then what else the recipe has."""
    parts = [_describe_group(group) for group in each.recipes]
    said = join_list(parts, "; ")
    if not each.also:
        return said
    if parts == [msg("any")]:
        return msg("with {what}", what=_merge_additions(each.also))
    return msg("{which}, with {what}", which=said, what=_merge_additions(each.also))


def _describe_group(group: RecipeGroup) -> Message:
    of_any_family = len(group.families) == len(FAMILIES)
    names = ", ".join(group.families)
    left = [kind for kind in KINDS if kind not in group.kinds]
    if not left:
        return msg("any") if of_any_family else literal(names)
    if len(left) <= len(group.kinds):
        without = ", ".join(left)
        return (
            msg("any except {kinds}", kinds=without)
            if of_any_family
            else msg("{families} (except {kinds})", families=names, kinds=without)
        )
    some = ", ".join(group.kinds)
    return literal(some) if of_any_family else msg("{families}: {kinds}", families=names, kinds=some)


def _merge_additions(also: Iterable[str]) -> Message:
    """``network.type = "locon" / "loha"`` for two of one key."""
    by_key: dict[str, list[str]] = {}
    for each in also:
        key, _, value = each.partition(" = ")
        by_key.setdefault(key, []).append(value)
    return join_list([_describe_addition(key, values) for key, values in by_key.items()])


def _describe_addition(key: str, values: Sequence[str]) -> Message:
    if key != OPTIMIZER_KEY:
        return literal(f"{key} = {' / '.join(values)}" if any(values) else key)
    given = {value.strip('"') for value in values}
    named, others = _shorten_optimizers(given), _shorten_optimizers(set(OPTIMIZERS) - given)
    if len(others) < len(named):
        return msg("any optimizer except {names}", names=", ".join(others))
    return literal(", ".join(named))


def _shorten_optimizers(names: Set[str]) -> list[str]:
    """All optimizers of one sort as the sort, the others by their names."""
    shown: dict[str, None] = {}
    for name in OPTIMIZERS:
        sort = next((sort for sort in OPTIMIZER_PATTERNS if fnmatchcase(name, sort)), None)
        whole = sort is not None and all(other in names for other in OPTIMIZERS if fnmatchcase(other, sort))
        if name in names:
            shown[sort if whole and sort else name] = None
    return list(shown)


def build_report(found: Explanation) -> ExplainReport:
    """As schemas/explain.schema.json has it."""
    if found.code:
        return ExplainReport(topic=found.code, text=RECIPE_CODES[found.code], values=(), entries=())
    values = [
        ExplainedValue(option=option, value=each.value, source=each.source, cases=tuple(_iter_cases(each)))
        for option, defaults in found.defaults.items()
        for each in defaults
    ]
    return ExplainReport(
        topic=found.topic, keys=found.keys, recipe=found.planned, values=tuple(values), entries=found.entries
    )


def _iter_cases(each: DefaultValue) -> Iterator[ExplainedCase]:
    for also in each.also or ("",):
        for group in each.recipes:
            for family in group.families:
                yield from (ExplainedCase(family=family, kind=kind, also=also) for kind in group.kinds)


def _merge_reports(reports: Sequence[ExplainReport]) -> ExplainReport:
    """Several as one: what two of them have is in it once."""
    texts = [report.text for report in reports if report.text]
    return ExplainReport(
        topic=" ".join(report.topic for report in reports),
        text=join_list(texts, " ") if texts else None,
        keys=tuple(key for report in reports for key in report.keys),
        recipe=tuple(value for report in reports for value in report.recipe),
        values=tuple(value for report in reports for value in report.values),
        entries=tuple({entry.id: entry for report in reports for entry in report.entries}.values()),
    )


def format_book() -> str:
    """The complete book as Markdown, with a table of the status of its rules, and a line end at the end."""
    rows = [
        _format_count_row(f"[{chapter.heading}](#{heading_anchor(chapter.heading)}) ({chapter.prefix})", chapter.prefix)
        for chapter in CHAPTERS
    ]
    head = [f"| Part | {' | '.join(STATUS_LABELS.values())} | Sum |", f"|---|{'---:|' * (len(STATUSES) + 1)}"]
    table = "\n".join([*head, *rows, _format_count_row("**All**")])
    return "\n\n".join([FOREWORD, table, *map(_format_chapter, CHAPTERS)]) + "\n"


def _format_count_row(name: str, prefix: str = "") -> str:
    return f"| {name} | {' | '.join(_count_numbers(prefix))} |"


def _count_numbers(prefix: str = "") -> list[str]:
    chosen = [row for key, row in count_statuses().items() if not prefix or key == prefix]
    found = [sum(row[status] for row in chosen) for status in STATUSES]
    return [str(number) for number in (*found, sum(found))]


def heading_anchor(heading: str) -> str:
    """The name that Markdown viewers give a heading: lower case, blanks as hyphens, no punctuation."""
    kept = "".join(sign for sign in heading.lower() if sign.isalnum() or sign in " -_")
    return kept.replace(" ", "-")


def _format_chapter(chapter: BookChapter) -> str:
    entries = [_format_markdown_entry(entry) for entry in load_book() if entry.prefix == chapter.prefix]
    return "\n\n".join([f"## {chapter.heading}", *entries])


def _format_markdown_entry(entry: BookEntry) -> str:
    told = [f"- **{label}:** {escape_markdown(words)}" for label, words in iter_entry_rows(entry)]
    return "\n".join([f"### {entry.id} {escape_markdown(entry.title)}", "", *told])


def escape_markdown(words: str) -> str:
    """Escape characters that are Markdown syntax; an underscore inside a word is not."""
    return words.replace("*", r"\*").replace("<", r"\<")


def format_status_counts(page: TextLayout) -> str:
    """How many rules of each part are implemented, advice, not applicable."""
    head = [page(msg("part")), *(page(status) for status in STATUS_LABELS.values()), page(msg("total"))]
    body = [[chapter.heading, *_count_numbers(chapter.prefix)] for chapter in CHAPTERS]
    last = [page(msg("all")), *_count_numbers()]
    return "\n".join(format_table([head, *body, last], numbers=range(1, len(head)), indent=""))


def status_counts_to_json() -> str:
    """The same for programs: by the beginning of the ids, and in all."""
    every = count_statuses()
    whole = {status: sum(row[status] for row in every.values()) for status in STATUSES}
    parts = {prefix: dict(row) for prefix, row in every.items()}
    return json.dumps({"version": 1, "parts": parts, "all": whole, "sum": sum(whole.values())}, indent=2)
