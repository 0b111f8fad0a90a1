"""Asking the book of rules: what it has on a topic, and which values of a plan the topic has or decides."""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from types import MappingProxyType
from typing import Literal

from lorabake.errors import RecipeError
from lorabake.typical import FAMILIES, KINDS, NETWORKS, Axis, Typical, defaults, effects, option_of
from lorabake_schemas.guide import Rule, rules
from lorabake_schemas.guide.book import CHAPTERS, Chapter, Entries, Entry, Place, Status, book
from lorabake_schemas.vocabulary import (
    ADAM,
    OPTIMIZERS,
    OTHER_WORDS,
    SCHEDULERS,
    SCHEDULERS_THAT_CRASH,
    TORCH_SCHEDULERS,
    is_adaptive,
)
from lorabake_schemas.words import Said, joined, say

SHORTEST_WORD = 3
STATUSES: Mapping[Status, Said] = MappingProxyType(
    {
        "implemented": say("Implemented"),
        "advice": say("Advice only"),
        "not-applicable": say("Not applicable"),
    }
)
PLACES: Mapping[Place, Said] = MappingProxyType(
    {
        "rule": say("told by `lorabake check`"),
        "resolve": say("set in the plan"),
        "schema": say("held to by the recipe's format"),
        "forecast": say("counted in the plan"),
        "recipes": say("done by a shipped recipe"),
        "scan": say("read from the files"),
        "compile": say("held to by the compiled files"),
        "trainer": say("seen to when the trainer is installed"),
        "run": say("seen to by every run"),
        "check": say("followed by `lorabake check` in order and severity"),
    }
)


# Findings about a recipe as a file have a word for a rule: there is nothing in the guide about them.
CODES: Mapping[str, Said] = MappingProxyType(
    {
        "toml-syntax": say(
            "The recipe cannot be read: it is no valid TOML (toml.io). Nothing else can be said of it before that is "
            "mended. sd-scripts would stop, too."
        ),
        "unknown-key": say(
            "A recipe has no such key. sd-scripts would take a misspelt key from its own files without a word and "
            "train with its default. Options that have no key of their own go into [kohya]."
        ),
        "missing-key": say("A recipe cannot do without this key: nothing could be guessed for it."),
        "wrong-type": say(
            'The value is of another type than its key: "16" is text, 16 a whole number, 16.0 one with a fraction, '
            "true or false a switch. sd-scripts would take any of them, and fail late or do something else."
        ),
        "out-of-range": say("The value lies outside of what sd-scripts can train with."),
        "bad-choice": say("The value is none of those that sd-scripts knows for this key."),
        "missing-file": say(
            "A file or folder that the recipe names is not there. Paths are relative to the recipe, and capital "
            "letters count."
        ),
        "wrong-file": say(
            "A file that the recipe names is there, but it is not what its key needs. sd-scripts would stop minutes "
            "later, or leave out what does not fit without a word."
        ),
        "waive": say(
            "A waiver says that you know of a warning or a hint and want to hear no more of it, and why. It is a "
            'table of the recipe, [[waive]] with rule = "G1.2", the id that stands in the finding, and reason = '
            '"...", in your own words; the report then counts it as waived. Errors cannot be waived. As a finding, '
            "`waive` means that a waiver waives nothing: what it was for is gone, its id is misspelt, or it is an "
            "error. Left there it would hide what comes back."
        ),
    }
)
EXAMPLES: Mapping[str, str] = MappingProxyType(
    {"waive": '[[waive]]\nrule = "G1.2"\nreason = "there are no more pictures of it"'}
)
# What people ask for, and what stands in the book instead: a setting that has it for a value, or another word.
_SCHEDULES = (*SCHEDULERS, *SCHEDULERS_THAT_CRASH, *TORCH_SCHEDULERS)
ASKED: Mapping[str, str] = MappingProxyType(
    {
        "trigger": "token",
        "activator": "token",
        "activation": "token",
        "trigger_word": "token",
        "vae": "cache_latents",
        "blip": "G3.2",
        "waiver": "waive",
        **{name.lower(): "lr_scheduler" for name in _SCHEDULES if name != "adafactor"},  # an optimizer, too
    }
)
NOT_TRAINED = ("flux", "flux.1", "flux1", "sd3", "sd3.5", "sd35", "lumina", "hunyuan", "wan", "chroma", "qwen")
ABOUT_KINDS = "g1.17"
LIKENESS = 0.75  # of a topic offered for one that is not there


def find(topic: str) -> Entries:
    """What the book has on a topic, in the order of the book.

    ``topic`` in any case of letters: a rule id (G4.52, S5.min_lr), an sd-scripts option or recipe key
    (learning_rate, train.resolution, rank), an optimizer, a LyCORIS algorithm or DoRA, sdxl, or words of a title.
    Raises RecipeError with the nearest topics as hint when there is nothing.
    """
    wanted = meant(topic).strip().lower()
    found = _by_id(wanted) or _by_key(wanted) or _by_title(wanted) or _by_name(wanted)
    if found:
        return found
    if wanted in NOT_TRAINED:
        raise RecipeError(
            say("{topic} is not supported yet: lorabake trains Stable Diffusion 1.x, 2.x and SDXL", topic=topic),
            hint=say("`lorabake explain sd15`, `sd2` or `sdxl` says what a family means"),
        )
    near = [topics()[name] for name in difflib.get_close_matches(wanted, topics(), 3, LIKENESS)]
    other = say("`lorabake explain --all` shows the whole book")
    hint = say("did you mean {names}?", names=joined(near, " / ")) if near else other
    raise RecipeError(say('the book has nothing on "{topic}"', topic=topic), hint=hint)


@cache
def topics() -> Mapping[str, str]:
    """Everything that can be asked for, by its lower case."""
    names = [name for entry in book() for name in (entry.id, *entry.options, *entry.about)]
    names += [name.rpartition(".")[2] for name in names if not name.startswith(("G", "S"))]
    names += [*OPTIMIZERS, *OTHER_WORDS, *KINDS, *FAMILIES, *(rule.id for rule in rules())]
    names += [name for name, word in ASKED.items() if word not in CODES]
    return MappingProxyType({name.lower(): name for name in names})


def meant(topic: str) -> str:
    """The word of the book for what people ask: a trigger is a token, cosine an lr_scheduler."""
    return ASKED.get(topic.strip().lower().replace(" ", "_"), topic)


def rule_of(topic: str) -> Rule | None:
    """The rule of the registry that has this very id (S12.stem), if the topic is one."""
    wanted = topic.strip().lower()
    return next((rule for rule in rules() if rule.id.lower() == wanted), None)


def _by_id(wanted: str) -> Entries:
    """A finding's id may have a suffix where one rule of the book needed two in the registry (S5.needs)."""
    exact = {entry.id.lower(): entry for entry in book()}
    rule = rule_of(wanted)
    entry = exact.get(wanted) or (exact.get(rule.id.rpartition(".")[0].lower()) if rule else None)
    return (entry,) if entry else ()


def _by_name(wanted: str) -> Entries:
    """A kind or a family that no rule is about has what the book says of kinds and families at all."""
    return _by_id(ABOUT_KINDS) if wanted in KINDS else _by_key("base.family") if wanted in FAMILIES else ()


def _by_key(wanted: str) -> Entries:
    asked = _meant(wanted)
    return tuple(entry for entry in book() if asked & _keys(entry))


def _keys(entry: Entry) -> set[str]:
    """Every name an entry answers to; a recipe key also answers to its last word alone."""
    names = {name.lower() for name in (*entry.options, *entry.about)}
    return names | {f".{name.rpartition('.')[2]}" for name in names if "." in name}


def _meant(wanted: str) -> set[str]:
    """The names that a topic stands for: train.resolution is resolution, rank is network.network_dim."""
    others = {OTHER_WORDS[wanted].lower()} if wanted in OTHER_WORDS else set[str]()
    others |= {word for word, key in OTHER_WORDS.items() if key.lower() == wanted}
    names = {wanted, *others, *_optimizer(wanted)}
    names |= {name.rpartition(".")[2] for name in names if "." in name}
    return names | {f".{name}" for name in (wanted, *others) if "." not in name}


def _optimizer(wanted: str) -> set[str]:
    """An optimizer without settings of its own in the guide stands for its kin, or for optimizers at all."""
    name = next((name for name in OPTIMIZERS if name.lower() == wanted), None)
    if name is None or any(name in entry.about for entry in book()):
        return set()
    if is_adaptive(name):
        return {"dadaptadam"}
    if name in ADAM:
        return {"adamw8bit" if name.endswith("8bit") else "adamw"}
    return {"optimizer_type"}


def _by_title(wanted: str) -> Entries:
    words = wanted.split()
    if not words or min(map(len, words)) < SHORTEST_WORD:
        return ()
    return tuple(entry for entry in book() if all(word in entry.title.lower() for word in words))


def checks_of(entry: Entry) -> tuple[Rule, ...]:
    """The rules of the registry that carry an entry out; one of the book may be two there (S5.needs)."""
    names = {entry.id, entry.under} - {""}
    return tuple(rule for rule in rules() if {rule.id, rule.id.rpartition(".")[0]} & names)


def subject_of(topic: str) -> Subject | None:
    """What a topic is apart from words in a book: something that has, or decides, values of a plan."""
    wanted = meant(topic).strip().lower()
    network = next((name for name in NETWORKS if name == wanted), None)
    optimizer = next((name for name in OPTIMIZERS if name.lower() == wanted), None)
    axes: tuple[tuple[Axis, str | None], ...] = (
        ("optimizer", optimizer),
        ("network", network),
        ("kind", wanted if wanted in KINDS else None),
        ("family", wanted if wanted in FAMILIES else None),
    )
    for axis, name in axes:
        if name is not None:
            return Subject(axis, name)
    key = OTHER_WORDS.get(wanted, wanted)
    return None if _by_id(wanted) or key.lower() not in topics() else Subject("option", option_of(key))


@dataclass(frozen=True, slots=True)
class Subject:
    """An sd-scripts option, or an optimizer, network, kind or family by its name."""

    axis: Axis | Literal["option"]
    name: str

    def values(self) -> Mapping[str, tuple[Typical, ...]]:
        """By option, what typical recipes get; empty where none gets anything."""
        if self.axis != "option":
            return effects(self.axis, self.name)
        found = defaults(self.name)
        return {self.name: found} if found else {}


def chapter_of(entry: Entry) -> Chapter:
    """The part of the book that an entry stands in."""
    return next(chapter for chapter in CHAPTERS if chapter.prefix == entry.prefix)


def counts() -> Mapping[str, Mapping[Status, int]]:
    """How many entries of each status every chapter has, by the beginning of its ids."""
    found = Counter((entry.prefix, entry.status) for entry in book())
    return {chapter.prefix: {status: found[chapter.prefix, status] for status in STATUSES} for chapter in CHAPTERS}


__all__ = [
    "CODES",
    "EXAMPLES",
    "PLACES",
    "STATUSES",
    "Subject",
    "chapter_of",
    "checks_of",
    "counts",
    "find",
    "meant",
    "rule_of",
    "subject_of",
    "topics",
]
