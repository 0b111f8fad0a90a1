"""Finds the cause of a failure: the first row of the table of causes whose signs are all there.

Pure: evidence from the log and facts of the run go in. Nothing is recognized by half: a failure without a cause is
shown as it is.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import cast

from lorabake.runs.causes.cause import (
    DEFAULT_NETWORK_MODULES,
    NAMED_IMPORTS,
    UNQUOTED_OPTIONS,
    Advice,
    Cause,
    Sign,
    When,
)
from lorabake.runs.causes.gpu_memory import GIB, MAX_STEPS, SAVINGS, MemoryFacts, count_saving, gpu_memory_values
from lorabake.runs.causes.table import CAUSES
from lorabake.runs.log.evidence import LogEvidence, LogFailure
from lorabake_schemas.messages import Message, MessageTemplate, MessageValue, escape_invisible, join_list, literal, msg
from lorabake_schemas.recipe_keys import find_option_key
from lorabake_schemas.record import EvidenceLine

MAX_EVIDENCE = 6
UNKNOWN = "?"
WORDS_LIMIT = 300
# What an exception quotes, or names after a colon; a list of what would be right is no part of it.
QUOTED = re.compile(r"'([^']{2,})'(?! object)|\"([^\"]{2,})\"|: ([\w+-][\w.+-]+[\w+-])(?=[.,;]?(?:\s|$))")
CHOICES = re.compile(r"\[['\"]|\bone of\b|\b[Cc]ho(?:ose|ices)\b|\b[Ss]upported\b|\b[Aa]vailable\b")
USED_OPTION = re.compile(r"^\s.*\bargs\.(\w+)")  # in the source that a traceback shows


@dataclass(frozen=True, slots=True)
class RunFacts:
    """What a cure depends on: the settings of sd-scripts, and facts of the run, the trainer and the machine.

    ``facts`` are named ``run.device`` and the like for conditions, and are true or false, or a word. ``words`` fill
    gaps of sentences. ``processes`` are names of programs by their number, of those that a GPU's error may name.
    """

    settings: Mapping[str, object] = field(default_factory=dict[str, object])
    own_trainer: bool = False
    facts: Mapping[str, object] = field(default_factory=dict[str, object])
    words: Mapping[str, str] = field(default_factory=dict[str, str])
    memory: MemoryFacts = MemoryFacts()  # noqa: RUF009 - frozen
    processes: Mapping[str, str] = field(default_factory=dict[str, str])

    def get(self, name: str) -> object:
        """A setting or a fact; None if it is unknown."""
        if name == "run.own_trainer":
            return self.own_trainer
        if name in self.facts:
            return self.facts[name]
        return gpu_memory_values(self.memory).get(name, self.settings.get(name))


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """The cause of a failure, what to do about it, and the lines of the log that it was recognized by."""

    cause: str
    code: str
    message: Message
    cure: Message | None
    evidence: tuple[EvidenceLine, ...] = ()


@dataclass(frozen=True, slots=True)
class Ending:
    """How the trainer's process ended: a signal's name, or its exit code."""

    signal: str | None = None
    exit_code: int | None = None


@dataclass(slots=True)
class _Match:
    """What a sign found: values for gaps, and lines."""

    values: dict[str, str] = field(default_factory=dict[str, str])
    lines: list[EvidenceLine] = field(default_factory=list[EvidenceLine])

    def add(self, found: re.Match[str], line: EvidenceLine | None = None) -> None:
        self.values.update({name: text.strip() for name, text in found.groupdict().items() if text})
        if line is not None and line not in self.lines:
            self.lines.append(line)


def diagnose(evidence: LogEvidence, facts: RunFacts, ending: Ending | None = None) -> Diagnosis | None:
    """The cause of a failure, None for one that is not known.

    The last traceback decides. Only if that one merely follows from another, the earlier ones are asked, too.
    """
    ending = ending or Ending()
    chains: list[tuple[LogFailure, ...]] = [*reversed(evidence.chains)] or [()]
    secondary: Diagnosis | None = None
    for chain in chains:
        found = _find_cause(chain, evidence, facts, ending)
        if found is None:
            break
        cause, match = found
        if not cause.secondary:
            return _describe(cause, match, chain, facts, ending)
        secondary = secondary or _describe(cause, match, chain, facts, ending)
    return secondary


def diagnose_silent(evidence: LogEvidence, facts: RunFacts) -> Diagnosis | None:
    """The cause of what was printed while the trainer went on, such as a traceback of a process that loads images."""
    if not evidence.chains:
        return None
    return diagnose(evidence, facts)


def _find_cause(
    chain: Sequence[LogFailure], evidence: LogEvidence, facts: RunFacts, ending: Ending
) -> tuple[Cause, _Match] | None:
    for cause in CAUSES:
        for sign in cause.signs:
            if (match := _match_sign(sign, chain, evidence, facts, ending)) is not None:
                return cause, match
    return None


def _match_sign(
    sign: Sign, chain: Sequence[LogFailure], evidence: LogEvidence, facts: RunFacts, ending: Ending
) -> _Match | None:
    """What a sign found, None unless all of it is there."""
    if not _fits_ending(sign, chain, ending) or (sign.phases and evidence.phase not in sign.phases):
        return None
    match, last = _Match(), chain[-1:]
    searches = (
        (sign.exception, [(each.words, each.line) for each in last]),
        (sign.chain, [(each.words, each.line) for each in reversed(chain)]),
        (sign.innermost, [each.frames[-1] for each in last if each.frames]),
        (sign.within, [frame for each in reversed(chain) for frame in reversed(each.frames)]),
        (sign.error, [(line.text, line) for line in reversed(evidence.errors)]),
        (sign.line, [(line.text, line) for line in reversed(evidence.lines)]),
    )
    found = all(pattern is None or _search(pattern, texts, match) for pattern, texts in searches)
    if not found or not all(_holds(condition, facts, match) for condition in sign.when):
        return None
    if sign.names_setting and not _find_named_setting(facts, match):
        return None
    if sign.uses_setting and not _find_used_setting(evidence, facts, match):
        return None
    return match if not sign.quotes_setting or _find_quoted_setting(chain, facts, match) else None


def _fits_ending(sign: Sign, chain: Sequence[LogFailure], ending: Ending) -> bool:
    """An exception says more than how the process ended."""
    if chain:
        return not (sign.signals or sign.exit_codes or sign.silent)
    if sign.signals:
        return ending.signal in sign.signals
    return not sign.exit_codes or ending.exit_code in sign.exit_codes


def _search(pattern: str, texts: Sequence[tuple[str, EvidenceLine]], match: _Match) -> bool:
    for text, line in texts:
        if found := _compile(pattern).search(text):
            match.add(found, line)
            return True
    return False


@cache
def _compile(pattern: str) -> re.Pattern[str]:
    return re.compile(pattern)


def _holds(condition: When, facts: RunFacts, match: _Match | None = None) -> bool:
    value = facts.get(condition.name)
    if condition.matching is not None:
        found = _compile(condition.matching).search(str(value))
        if found and match is not None:
            match.add(found)
        answer = found is not None
    elif condition.values:
        answer = value in condition.values and not (value is True or value is False)
    else:
        answer = bool(value)
    return answer is not condition.negated


def _find_named_setting(facts: RunFacts, match: _Match) -> bool:
    """Whether what could not be imported is what a setting names: ``a.b.Class`` names a, a.b and Class."""
    values = match.values
    module = values.get("module") or values.get("source") or values.get("owner") or ""
    name = values.get("name") or values.get("member") or values.get("backend") or ""
    for option, key in NAMED_IMPORTS:
        value = facts.settings.get(option)
        if not isinstance(value, str) or value in DEFAULT_NETWORK_MODULES:
            continue
        named = value in (name, f"{module}.{name}") if name else value == module or value.startswith(f"{module}.")
        if named:
            match.values.update(key=key, value=value, missing=name or module)
            return True
    return False


def _find_quoted_setting(chain: Sequence[LogFailure], facts: RunFacts, match: _Match) -> bool:
    """Whether the last exception quotes, or names after a colon, the text of a setting or of one of its arguments."""
    words = CHOICES.split(chain[-1].words)[0] if chain else ""
    quoted = {text for texts in QUOTED.findall(words) for text in texts if text}
    for option, key, value in _iter_written_settings(facts):
        for name, text in _iter_texts(value):
            if text in quoted and not option.startswith("metadata_"):
                match.values.update(key=f"{key} ({name})" if name else key, value=text)
                return True
    return False


def _find_used_setting(evidence: LogEvidence, facts: RunFacts, match: _Match) -> bool:
    """Whether the source that the traceback shows last with a setting in it, as ``args.NAME``, has one of this run."""
    written = {option: (key, value) for option, key, value in _iter_written_settings(facts)}
    for line in reversed(evidence.tail):
        if (used := USED_OPTION.match(line.text)) and used[1] in written:
            key, value = written[used[1]]
            match.values.update(key=key, value=str(value))
            match.lines.append(line)
            return True
    return False


def _iter_written_settings(facts: RunFacts) -> Iterator[tuple[str, str, object]]:
    """Option, key of the recipe and value of every setting that a recipe can be wrong about."""
    for option, value in facts.settings.items():
        if option not in UNQUOTED_OPTIONS:
            yield option, find_option_key(option) or f"kohya.{option}", value


def _iter_texts(value: object) -> Iterator[tuple[str, str]]:
    """The text of a setting, or name and text of each of its arguments (``NAME=VALUE``)."""
    if isinstance(value, str):
        yield "", value
    elif isinstance(value, list | tuple):
        for each in cast("Sequence[object]", value):
            name, given, text = str(each).partition("=")
            yield (name, text.strip("'\"")) if given else ("", name)


def _describe(cause: Cause, match: _Match, chain: Sequence[LogFailure], facts: RunFacts, ending: Ending) -> Diagnosis:
    values = _gap_values(match, chain, facts, ending)
    steps = [*_select_advice(cause, facts, values)]
    if cause.saves_gpu_memory:
        steps += _gpu_memory_steps(facts, values)
    return Diagnosis(
        cause=cause.id,
        code=cause.code or cause.id,
        message=_fill(cause.message, values),
        cure=join_list(steps, "; ") if steps else None,
        evidence=tuple(sorted(match.lines[:MAX_EVIDENCE], key=lambda line: line.line or 0)),
    )


def _gap_values(
    match: _Match, chain: Sequence[LogFailure], facts: RunFacts, ending: Ending
) -> Mapping[str, MessageValue]:
    values: dict[str, MessageValue] = dict(facts.words)
    values["words"] = truncate_text(_drop_japanese(chain[-1].words)) if chain else ""
    values["signal"] = ending.signal or ""
    values |= {name: truncate_text(text) for name, text in match.values.items()}
    if "pid" in match.values:
        pid = match.values["pid"]
        values["process"] = facts.processes.get(pid) or msg("process {pid}", pid=pid)
    return values


def _drop_japanese(words: str) -> str:
    """sd-scripts' texts are "English / Japanese"."""
    english, found, rest = words.partition(" / ")
    return english if found and not rest.isascii() else words


def _fill(text: MessageTemplate, values: Mapping[str, MessageValue]) -> Message:
    return text.fill({name: values.get(name, UNKNOWN) for name in text.gaps})


def _select_advice(cause: Cause, facts: RunFacts, values: Mapping[str, MessageValue]) -> Iterator[Message]:
    for advice in cause.cure:
        if all(_holds(condition, facts) for condition in advice.when):
            yield _fill(advice.text, values)
            if cause.first_only:
                return


def _gpu_memory_steps(facts: RunFacts, values: Mapping[str, MessageValue]) -> list[Message]:
    """What to turn down, in this order."""
    batch, memory = max(facts.memory.batch, 1), facts.memory
    half = max(batch // 2, 1)
    accumulation = facts.settings.get("gradient_accumulation_steps")
    before = accumulation if isinstance(accumulation, int) else 1
    numbers: dict[str, MessageValue] = {
        "half_batch": half,
        "accumulation": -(-before * batch // half),
        "batch_share": half / batch,
    }
    steps = [each for each in SAVINGS if all(_holds(condition, facts) for condition in each.when)]
    return [
        _fill(each.text, {**values, **numbers, "saving": _format_saving(count_saving(each.saves, memory) / GIB)})
        for each in steps[:MAX_STEPS]
    ]


def _format_saving(size: float) -> Message:
    return msg("about {size:.1f} GiB", size=size) if size >= 0.05 else msg("a little")


def advise(steps: Sequence[Advice], facts: RunFacts) -> Message:
    """The steps of a cure that are true for a run, for a verdict that no sign in the log is needed for."""
    return join_list(
        [_fill(step.text, facts.words) for step in steps if all(_holds(when, facts) for when in step.when)], "; "
    )


def truncate_text(text: str, limit: int = WORDS_LIMIT) -> Message:
    return literal(text if len(text) <= limit else f"{text[:limit]}...")


def failure_from_words(exception: str | None, last_words: Sequence[str]) -> LogEvidence:
    """Evidence from what the log parser kept, where the log itself cannot be read."""
    lines = tuple(EvidenceLine(text=escape_invisible(text)) for text in last_words)
    if exception is None:
        return LogEvidence(lines=lines)
    failure = LogFailure(escape_invisible(exception), EvidenceLine(text=escape_invisible(exception)))
    return LogEvidence(chains=((failure,),), lines=lines)


def known_words(settings: Mapping[str, object]) -> Mapping[str, str]:
    """Words of the settings that fill gaps of sentences."""

    def text(option: str, default: str = UNKNOWN) -> str:
        value = settings.get(option)
        return escape_invisible(str(value)) if value is not None else default

    full = next((name for name in ("full_fp16", "full_bf16", "fp8_base") if settings.get(name)), UNKNOWN)
    return {
        "optimizer": text("optimizer_type", "AdamW"),
        "scheduler": text("lr_scheduler_type", text("lr_scheduler", "constant")),
        "precision": text("mixed_precision", "no"),
        "network": text("network_module"),
        "model": text("pretrained_model_name_or_path"),
        "vae": text("vae"),
        "full_precision": full,
    }
