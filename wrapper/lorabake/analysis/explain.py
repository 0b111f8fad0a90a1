"""Asking the book of rules: what it has on a topic, and which values of a plan the topic has or decides."""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from types import MappingProxyType
from typing import Literal

from lorabake.analysis.default_values import (
    FAMILIES,
    KINDS,
    NETWORK_TYPES,
    Axis,
    DefaultValue,
    list_default_values,
    list_effects,
    option_for_key,
)
from lorabake.errors import RecipeError
from lorabake_schemas.guide.book import (
    CHAPTERS,
    BookChapter,
    BookEntries,
    BookEntry,
    EntryPlace,
    EntryStatus,
    load_book,
)
from lorabake_schemas.guide.registry import Rule
from lorabake_schemas.guide.rules import list_rules
from lorabake_schemas.messages import Message, join_list, msg
from lorabake_schemas.sd_scripts import (
    ADAM_OPTIMIZERS,
    BROKEN_SCHEDULERS,
    KEY_ALIASES,
    OPTIMIZERS,
    SCHEDULERS,
    TORCH_SCHEDULERS,
    is_adaptive,
)

MIN_WORD_LENGTH = 3
STATUS_LABELS: Mapping[EntryStatus, Message] = MappingProxyType(
    {
        "implemented": msg("Implemented"),
        "advice": msg("Advice only"),
        "not-applicable": msg("Not applicable"),
    }
)
PLACE_LABELS: Mapping[EntryPlace, Message] = MappingProxyType(
    {
        "rule": msg("told by `lorabake check`"),
        "resolve": msg("set in the plan"),
        "schema": msg("held to by the recipe's format"),
        "forecast": msg("counted in the plan"),
        "recipes": msg("done by a shipped recipe"),
        "scan": msg("read from the files"),
        "compile": msg("held to by the compiled files"),
        "trainer": msg("seen to when the trainer is installed"),
        "run": msg("seen to by every run"),
        "check": msg("followed by `lorabake check` in order and severity"),
    }
)


# Findings about a recipe as a file have a word for a rule: there is nothing in the guide about them.
RECIPE_CODES: Mapping[str, Message] = MappingProxyType(
    {
        "toml-syntax": msg(
            "The recipe cannot be read: it is no valid TOML (toml.io). Nothing else can be said of it before that is "
            "mended. sd-scripts would stop, too."
        ),
        "unknown-key": msg(
            "A recipe has no such key. sd-scripts would take a misspelt key from its own files without a word and "
            "train with its default. Options that have no key of their own go into [kohya]."
        ),
        "missing-key": msg("A recipe cannot do without this key: nothing could be guessed for it."),
        "wrong-type": msg(
            'The value is of another type than its key: "16" is text, 16 a whole number, 16.0 one with a fraction, '
            "true or false a switch. sd-scripts would take any of them, and fail late or do something else."
        ),
        "out-of-range": msg("The value lies outside of what sd-scripts can train with."),
        "bad-choice": msg("The value is none of those that sd-scripts knows for this key."),
        "missing-file": msg(
            "A file or folder that the recipe names is not there. Paths are relative to the recipe, and capital "
            "letters count."
        ),
        "wrong-file": msg(
            "A file that the recipe names is there, but it is not what its key needs. sd-scripts would stop minutes "
            "later, or leave out what does not fit without a word."
        ),
        "ignore": msg(
            "Hides a warning or a hint that you know about. Add a table [[ignore]] to the recipe, with rule = "
            '"G1.2" (the id shown in the finding) and reason = "..." in your own words; the report then counts it as '
            "ignored. Errors cannot be ignored. The finding `ignore` means that an [[ignore]] matches nothing: the "
            "cause is fixed, the id is misspelled, or it is an error. Remove it, or it will hide the finding when it "
            "comes back."
        ),
    }
)
CODE_EXAMPLES: Mapping[str, str] = MappingProxyType(
    {"ignore": '[[ignore]]\nrule = "G1.2"\nreason = "there are no more pictures of it"'}
)
# What people ask for, and what stands in the book instead: a setting that has it for a value, or another word.
_SCHEDULER_NAMES = (*SCHEDULERS, *BROKEN_SCHEDULERS, *TORCH_SCHEDULERS)
TOPIC_ALIASES: Mapping[str, str] = MappingProxyType(
    {
        "trigger": "token",
        "activator": "token",
        "activation": "token",
        "trigger_word": "token",
        "vae": "cache_latents",
        "blip": "G3.2",
        "waive": "ignore",
        **{name.lower(): "lr_scheduler" for name in _SCHEDULER_NAMES if name != "adafactor"},  # an optimizer, too
    }
)
UNSUPPORTED_FAMILIES = ("flux", "flux.1", "flux1", "sd3", "sd3.5", "sd35", "lumina", "hunyuan", "wan", "chroma", "qwen")
KINDS_RULE = "g1.17"
MATCH_CUTOFF = 0.75  # of a topic offered for one that is not there


def find_entries(topic: str) -> BookEntries:
    """What the book has on a topic, in the order of the book.

    ``topic`` in any case of letters: a rule id (G4.52, S5.min_lr), an sd-scripts option or recipe key
    (learning_rate, train.resolution, rank), an optimizer, a LyCORIS algorithm or DoRA, sdxl, or words of a title.
    Raises RecipeError with the nearest topics as hint when there is nothing.
    """
    wanted = resolve_topic_alias(topic).strip().lower()
    found = _find_by_id(wanted) or _find_by_key(wanted) or _find_by_title(wanted) or _find_by_name(wanted)
    if found:
        return found
    if wanted in UNSUPPORTED_FAMILIES:
        raise RecipeError(
            msg("{topic} is not supported yet: lorabake trains Stable Diffusion 1.x, 2.x and SDXL", topic=topic),
            hint=msg("`lorabake explain sd15`, `sd2` or `sdxl` says what a family means"),
        )
    near = [list_topics()[name] for name in difflib.get_close_matches(wanted, list_topics(), 3, MATCH_CUTOFF)]
    other = msg("`lorabake explain --all` shows the whole book")
    hint = msg("did you mean {names}?", names=join_list(near, " / ")) if near else other
    raise RecipeError(msg('the book has nothing on "{topic}"', topic=topic), hint=hint)


@cache
def list_topics() -> Mapping[str, str]:
    """Everything that can be asked for, by its lower case."""
    names = [name for entry in load_book() for name in (entry.id, *entry.options, *entry.about)]
    names += [name.rpartition(".")[2] for name in names if not name.startswith(("G", "S"))]
    names += [*OPTIMIZERS, *KEY_ALIASES, *KINDS, *FAMILIES, *(rule.id for rule in list_rules())]
    names += [name for name, word in TOPIC_ALIASES.items() if word not in RECIPE_CODES]
    return MappingProxyType({name.lower(): name for name in names})


def resolve_topic_alias(topic: str) -> str:
    """The word of the book for what people ask: a trigger is a token, cosine an lr_scheduler."""
    return TOPIC_ALIASES.get(topic.strip().lower().replace(" ", "_"), topic)


def find_rule(topic: str) -> Rule | None:
    """The rule of the registry that has this very id (S12.stem), if the topic is one."""
    wanted = topic.strip().lower()
    return next((rule for rule in list_rules() if rule.id.lower() == wanted), None)


def _find_by_id(wanted: str) -> BookEntries:
    """A finding's id may have a suffix where one rule of the book needed two in the registry (S5.needs)."""
    exact = {entry.id.lower(): entry for entry in load_book()}
    rule = find_rule(wanted)
    entry = exact.get(wanted) or (exact.get(rule.id.rpartition(".")[0].lower()) if rule else None)
    return (entry,) if entry else ()


def _find_by_name(wanted: str) -> BookEntries:
    """A kind or a family that no rule is about has what the book says of kinds and families at all."""
    return _find_by_id(KINDS_RULE) if wanted in KINDS else _find_by_key("base.family") if wanted in FAMILIES else ()


def _find_by_key(wanted: str) -> BookEntries:
    asked = _expand_topic(wanted)
    return tuple(entry for entry in load_book() if asked & _entry_names(entry))


def _entry_names(entry: BookEntry) -> set[str]:
    """Every name an entry answers to; a recipe key also answers to its last word alone."""
    names = {name.lower() for name in (*entry.options, *entry.about)}
    return names | {f".{name.rpartition('.')[2]}" for name in names if "." in name}


def _expand_topic(wanted: str) -> set[str]:
    """The names that a topic stands for: train.resolution is resolution, rank is network.network_dim."""
    others = {KEY_ALIASES[wanted].lower()} if wanted in KEY_ALIASES else set[str]()
    others |= {word for word, key in KEY_ALIASES.items() if key.lower() == wanted}
    names = {wanted, *others, *_related_optimizers(wanted)}
    names |= {name.rpartition(".")[2] for name in names if "." in name}
    return names | {f".{name}" for name in (wanted, *others) if "." not in name}


def _related_optimizers(wanted: str) -> set[str]:
    """An optimizer without settings of its own in the guide stands for its kin, or for optimizers at all."""
    name = next((name for name in OPTIMIZERS if name.lower() == wanted), None)
    if name is None or any(name in entry.about for entry in load_book()):
        return set()
    if is_adaptive(name):
        return {"dadaptadam"}
    if name in ADAM_OPTIMIZERS:
        return {"adamw8bit" if name.endswith("8bit") else "adamw"}
    return {"optimizer_type"}


def _find_by_title(wanted: str) -> BookEntries:
    words = wanted.split()
    if not words or min(map(len, words)) < MIN_WORD_LENGTH:
        return ()
    return tuple(entry for entry in load_book() if all(word in entry.title.lower() for word in words))


def rules_for(entry: BookEntry) -> tuple[Rule, ...]:
    """The rules of the registry that carry an entry out; one of the book may be two there (S5.needs)."""
    names = {entry.id, entry.under} - {""}
    return tuple(rule for rule in list_rules() if {rule.id, rule.id.rpartition(".")[0]} & names)


def find_subject(topic: str) -> TopicSubject | None:
    """What a topic is apart from words in a book: something that has, or decides, values of a plan."""
    wanted = resolve_topic_alias(topic).strip().lower()
    network = next((name for name in NETWORK_TYPES if name == wanted), None)
    optimizer = next((name for name in OPTIMIZERS if name.lower() == wanted), None)
    axes: tuple[tuple[Axis, str | None], ...] = (
        ("optimizer", optimizer),
        ("network", network),
        ("kind", wanted if wanted in KINDS else None),
        ("family", wanted if wanted in FAMILIES else None),
    )
    for axis, name in axes:
        if name is not None:
            return TopicSubject(axis, name)
    key = KEY_ALIASES.get(wanted, wanted)
    return (
        None if _find_by_id(wanted) or key.lower() not in list_topics() else TopicSubject("option", option_for_key(key))
    )


@dataclass(frozen=True, slots=True)
class TopicSubject:
    """An sd-scripts option, or an optimizer, network, kind or family by its name."""

    axis: Axis | Literal["option"]
    name: str

    def values(self) -> Mapping[str, tuple[DefaultValue, ...]]:
        """By option, what typical recipes get; empty where none gets anything."""
        if self.axis != "option":
            return list_effects(self.axis, self.name)
        found = list_default_values(self.name)
        return {self.name: found} if found else {}


def find_chapter(entry: BookEntry) -> BookChapter:
    """The part of the book that an entry stands in."""
    return next(chapter for chapter in CHAPTERS if chapter.prefix == entry.prefix)


def count_statuses() -> Mapping[str, Mapping[EntryStatus, int]]:
    """How many entries of each status every chapter has, by the beginning of its ids."""
    found = Counter((entry.prefix, entry.status) for entry in load_book())
    return {chapter.prefix: {status: found[chapter.prefix, status] for status in STATUS_LABELS} for chapter in CHAPTERS}
