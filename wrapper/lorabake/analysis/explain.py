"""Everything about a topic: the book's entries, the defaults, and the values of the reader's own recipe."""

from __future__ import annotations

import difflib
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from itertools import chain
from types import MappingProxyType
from typing import TYPE_CHECKING

from lorabake.errors import UnknownNameError
from lorabake.util.resources import load_snapshot
from lorabake_schemas.bucket_fit import Size
from lorabake_schemas.explanation import ExplainedKey, PlannedValue
from lorabake_schemas.families.registry import list_families
from lorabake_schemas.guide.book import (
    CHAPTERS,
    BookChapter,
    BookEntries,
    BookEntry,
    EntryStatus,
    find_entries,
    load_book,
)
from lorabake_schemas.guide.default_values import FAMILIES, KINDS, NETWORK_TYPES, Axis, DefaultValues, list_effects
from lorabake_schemas.messages import Message, join_list, literal, msg
from lorabake_schemas.plan import Plan, Setting
from lorabake_schemas.recipe_keys import find_key, list_recipe_keys, normalize_name
from lorabake_schemas.sd_scripts import (
    ADAM_OPTIMIZERS,
    BROKEN_SCHEDULERS,
    OPTIMIZERS,
    SCHEDULERS,
    is_adaptive,
)

if TYPE_CHECKING:
    from lorabake_schemas.guide.registry import Rule

MIN_WORD_LENGTH, MIN_BEGINNING = 3, 4  # letters of a title's word, and of the beginning of one
STATUSES: tuple[EntryStatus, ...] = ("implemented", "advice", "not-applicable")

# Findings about a recipe as a file have a word for a rule: there is nothing in the guide about them.
RECIPE_CODES: Mapping[str, Message] = MappingProxyType(
    {
        "toml-syntax": msg(
            "The recipe is not valid TOML (toml.io), so it cannot be read. Fix this first; the "
            "remaining checks run after that. sd-scripts would stop too."
        ),
        "unknown-key": msg(
            "A recipe has no such key. sd-scripts would silently accept a misspelled key in its own "
            "files and train with its default. Options without a recipe key go into [kohya]."
        ),
        "missing-key": msg("A recipe must have this key. It has no default."),
        "wrong-type": msg(
            'The value has the wrong type for its key. "16" is text, 16 is a whole number, 16.0 is a '
            "number with decimals, and true and false are switches. sd-scripts would accept any of "
            "them, then fail late or do something else."
        ),
        "out-of-range": msg("The value is outside the range that sd-scripts can train with."),
        "bad-choice": msg("The value is not one that sd-scripts accepts for this key."),
        "missing-file": msg(
            "A file or folder named in the recipe does not exist. Paths are relative to the recipe and case-sensitive."
        ),
        "wrong-file": msg(
            "A file named in the recipe exists but is not what its key needs. sd-scripts would stop "
            "minutes later, or silently leave out what does not fit."
        ),
        "foreign-file": msg(
            "The file is a configuration of another program. A recipe is shorter and has other keys; their names "
            "follow sd-scripts' options."
        ),
        "windows-path": msg(
            "The path is written as on Windows. This machine separates folders with / and has no drive letters; WSL "
            "shows drive D: as /mnt/d. In double quotes a backslash starts an escape sequence."
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
    {"ignore": '[[ignore]]\nrule = "G1.2"\nreason = "there are no more images of it"'}
)
SCHEDULER_NAMES = {name.lower() for name in (*SCHEDULERS, *BROKEN_SCHEDULERS)}
UNSUPPORTED_FAMILIES = ("flux", "flux.1", "flux1", "sd3", "sd3.5", "sd35", "lumina", "hunyuan", "wan", "chroma", "qwen")
KINDS_RULE = "g1.17"
OTHER_TOPICS = {"blip": "g3.2", "lora+": "loraplus_lr_ratio", "loraplus": "loraplus_lr_ratio"}
MATCH_CUTOFF = 0.75  # of a topic suggested for an unknown one


@dataclass(frozen=True, slots=True)
class Explanation:
    """``code`` is the id of a finding about the recipe as a file, which is in no book. Else ``entries`` of the book,
    the recipe's ``keys`` for it, and where the topic is a setting (``axis`` option) or something that decides settings,
    their ``defaults`` by option. ``planned``: what the reader's recipe has for these, and for the settings that the
    entries are about."""

    topic: str
    code: str = ""
    axis: Axis | None = None
    name: str = ""
    keys: tuple[ExplainedKey, ...] = ()
    defaults: Mapping[str, DefaultValues] = field(default_factory=dict[str, DefaultValues])
    planned: tuple[PlannedValue, ...] = ()
    entries: BookEntries = ()


def explain(topic: str, plan: Plan | None = None) -> Explanation:
    """Everything about a topic, in upper or lower case: a rule id (G4.52, S5.min_lr), the id of any other finding, a
    setting by any of its names (learning_rate, train.resolution, Network Rank), an optimizer, a LyCORIS algorithm or
    DoRA, a kind, a family, or part of a title. For an unknown topic raises UnknownNameError with the nearest ones.
    """
    wanted = resolve_topic(topic)
    if wanted in RECIPE_CODES:
        return Explanation(topic, wanted)
    axis, name = _find_axis(wanted)
    keys = () if axis else _find_keys(wanted)
    entries = _find_entries(topic, wanted)
    if axis is None and (keys or wanted in _list_names()):
        axis, name = "option", keys[0].option if keys else wanted.rpartition(".")[2]
    if not entries and not keys:
        raise _unknown_topic(topic, wanted)
    defaults: Mapping[str, DefaultValues] = list_effects(axis, name) if axis else {}
    options: Sequence[str] = [name] if axis == "option" else [*defaults] or _list_options(entries[0])
    planned = [_find_planned(plan, option) for option in options] if plan else []
    return Explanation(topic, "", axis, name, keys, defaults, tuple(chain.from_iterable(planned)), entries)


def is_topic(topic: str) -> bool:
    """Whether there is anything about it."""
    try:
        return bool(explain(topic))
    except UnknownNameError:
        return False


def _is_torch_scheduler(name: str) -> bool:
    return load_snapshot().signatures.find_by_class(name, schedulers=True) is not None


def resolve_topic(topic: str) -> str:
    """What the book and the recipe call it, in small letters: a trigger word is a token, cosine an lr_scheduler."""
    wanted = topic.strip().lower()
    if (wanted in SCHEDULER_NAMES or _is_torch_scheduler(wanted)) and wanted != "adafactor":  # an optimizer, too
        return "train.lr_scheduler"
    own = {normalize_name(key): key for name in list_recipe_keys() for key in (name, name.rpartition(".")[2])}
    if known := OTHER_TOPICS.get(wanted) or own.get(normalize_name(wanted)):
        return known
    key = find_key(wanted)
    return key.removeprefix("captions.") if key else wanted  # a concept may have it, too


def _find_axis(wanted: str) -> tuple[Axis | None, str]:
    axes: Mapping[Axis, Sequence[str]] = {
        "optimizer": OPTIMIZERS,
        "network": NETWORK_TYPES,
        "kind": KINDS,
        "family": FAMILIES,
    }
    for axis, names in axes.items():
        for name in names:
            if name.lower() == wanted:
                return axis, name
    return None, ""


def _find_keys(wanted: str) -> tuple[ExplainedKey, ...]:
    """The recipe's keys of that name, with or without their table; else how an option of sd-scripts is set."""
    found = [key for key in list_recipe_keys().values() if wanted in (key.name, key.name.rpartition(".")[2])]
    if found:
        return tuple(
            ExplainedKey(key=key.name, option=key.option, description=literal(key.description), choices=key.choices)
            for key in found
        )
    argument = wanted.removeprefix("network.args.")
    if types := load_snapshot().signatures.list_types_with(argument):
        said = msg("an argument of these networks: {types}; set it under [network.args]", types=", ".join(types))
        return (ExplainedKey(key=f"network.args.{argument}", option=argument, description=said),)
    option = wanted.removeprefix("kohya.")
    if option not in {each.name for each in load_snapshot().merge_scripts()}:
        return ()
    from lorabake_schemas.guide.rules.extra_options import find_refusal  # takes a while, as all rules do

    refusal = find_refusal(option)
    said = msg("an sd-scripts option without a recipe key; set it under [kohya]")
    if refusal is not None:
        said = msg("{problem}; {fix}", problem=refusal[0], fix=refusal[1])
    return (ExplainedKey(key=f"kohya.{option}", option=option, description=said),)


def _find_entries(topic: str, wanted: str) -> BookEntries:
    """In the order of the book."""
    asked = _expand_topic(wanted) | {topic.strip().lower()}
    return (
        _find_by_id(wanted)
        or tuple(entry for entry in find_entries(*(name.strip(".") for name in asked)) if asked & _entry_names(entry))
        or _find_by_title(wanted)
        or (_find_by_id(KINDS_RULE) if wanted in KINDS else ())
        or (_find_entries("", "base.family") if wanted in FAMILIES else ())
    )


def _unknown_topic(topic: str, wanted: str) -> UnknownNameError:
    if wanted in UNSUPPORTED_FAMILIES:
        return UnknownNameError(
            msg(
                "{topic} is not supported yet: lorabake trains {families}",
                topic=topic,
                families=", ".join(family.label for family in list_families()),
            ),
            hint=msg("`lorabake explain {family}` explains a model family", family=" / ".join(FAMILIES)),
        )
    near = [list_topics()[name] for name in difflib.get_close_matches(wanted, list_topics(), 3, MATCH_CUTOFF)]
    other = msg("`lorabake explain --all` shows every entry")
    hint = msg("did you mean {names}?", names=join_list(near, " / ")) if near else other
    return UnknownNameError(msg('nothing found for "{topic}"', topic=topic), hint=hint)


@cache
def list_topics() -> Mapping[str, str]:
    """Every topic by its lower case, except for other common names of a key."""
    names = [*(entry.id for entry in load_book()), *(rule.id for rule in _list_rules()), *_list_names().values()]
    names += [key for name in list_recipe_keys() for key in (name, name.rpartition(".")[2])]
    names += [option.name for option in load_snapshot().merge_scripts()]
    names += [name for module in load_snapshot().signatures.networks.values() if module.sd for name in module.arguments]
    return MappingProxyType({name.lower(): name for name in (*names, *OPTIMIZERS, *KINDS, *FAMILIES)})


@cache
def _list_names() -> Mapping[str, str]:
    """What the entries of the book are about, with and without a table, by its lower case."""
    names = [name for entry in load_book() for name in (*entry.options, *entry.about)]
    return {name.lower(): name for name in (*(name.rpartition(".")[2] for name in names), *names)}


def _list_rules() -> tuple[Rule, ...]:
    from lorabake_schemas.guide.rules import list_rules  # most topics can do without, and it takes a while

    return list_rules()


def find_rule(topic: str) -> Rule | None:
    """The rule of the registry that has this very id (S12.stem), if the topic is one."""
    wanted = topic.strip().lower()
    if not re.match(r"(g|s)[\w.]*\d", wanted):
        return None
    return next((rule for rule in _list_rules() if rule.id.lower() == wanted), None)


def _find_by_id(wanted: str) -> BookEntries:
    """A finding's id may have a suffix where one rule of the book needed two in the registry (S5.needs)."""
    if found := find_entries(f'id = "{wanted}"\n'):
        return found
    rule = find_rule(wanted)
    return find_entries(f'id = "{rule.id.rpartition(".")[0]}"\n') if rule else ()


def _entry_names(entry: BookEntry) -> set[str]:
    """Every name of an entry; a recipe key is also found by its last part."""
    names = {name.lower() for name in (*entry.options, *entry.about)}
    return names | {f".{name.rpartition('.')[2]}" for name in names if "." in name}


def _expand_topic(wanted: str) -> set[str]:
    """The names that a topic has in entries: train.resolution is resolution, base.v_prediction v_parameterization."""
    last = wanted.rpartition(".")[2]
    names = {wanted, last, *_related_optimizers(wanted)}
    options = [key.option for key in list_recipe_keys().values()]
    mine = {key.option for key in list_recipe_keys().values() if wanted in (key.name, key.name.rpartition(".")[2])}
    if "." in wanted:  # images of a concept are not those of a [[regularization]], though both are image_dir
        return names | {option for option in mine if options.count(option) == 1}
    return names | mine | {f".{wanted}"}


def _related_optimizers(wanted: str) -> set[str]:
    """An optimizer without its own settings in the guide means its kin, or optimizers in general."""
    name = next((name for name in OPTIMIZERS if name.lower() == wanted), None)
    if name is None or any(name in entry.about for entry in find_entries(name)):
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
    return tuple(entry for entry in find_entries(words[0]) if all(_is_in_title(word, entry.title) for word in words))


def _is_in_title(word: str, title: str) -> bool:
    """One of its words, or the beginning of one: bucket is in "Buckets on", but bla is not in "may stay blank"."""
    names = re.findall(r"[\w.+-]+", title.lower())
    return word in names or (len(word) >= MIN_BEGINNING and any(name.startswith(word) for name in names))


def _list_options(entry: BookEntry) -> list[str]:
    """The options of sd-scripts that an entry is about."""
    keys = list_recipe_keys()
    return list(dict.fromkeys(keys[name].option if name in keys else name for name in entry.options))


def _find_planned(plan: Plan, option: str) -> Iterable[PlannedValue]:
    """An option wherever the plan has it; a concept is named where it is not the same for all."""
    blocks = _merge_equal(
        [(part.title, each) for part in plan.subsets for each in part.settings if each.option == option]
    )
    sizes = [(_format_size(block.resolution), each) for block in plan.datasets for each in block.settings]
    blocks += _merge_equal([(size, each) for size, each in sizes if each.option == option])
    args = list_network_args(plan)
    blocks += [("", each) for each in (*plan.train, *args.values()) if each.option == option]
    return (PlannedValue(option=option, value=each.value, source=each.source, where=title) for title, each in blocks)


def _merge_equal(settings: list[tuple[str, Setting]]) -> list[tuple[str, Setting]]:
    """One setting where all of these have one value, else each different one with the name of its place."""
    if len({repr(each.value) for _, each in settings}) == 1:
        return [("", settings[0][1])]
    return list({(place, repr(each.value)): (place, each) for place, each in settings}.values())


def _format_size(size: Size) -> str:
    return f"{size[0]}x{size[1]}"


def list_network_args(plan: Plan) -> Mapping[str, Setting]:
    """Each of the network's arguments as a setting, with its own source where the recipe has some of them."""
    given = next((each for each in plan.train if each.option == "network_args"), None)
    if given is None or not isinstance(given.value, tuple):
        return {}
    source = given.source.model_copy(update={"rule": "", "why": ""})
    sources = given.parts or (source,) * len(given.value)
    parts = [str(item).partition("=") for item in given.value]
    pairs = zip(parts, sources, strict=True)
    return {name: Setting(option=name, value=value, source=each) for (name, _, value), each in pairs}


def list_entry_rules(entry: BookEntry) -> tuple[Rule, ...]:
    """The rules of the registry that carry an entry out; one of the book may be two there (S5.needs)."""
    names = {entry.id, entry.under} - {""}
    return tuple(rule for rule in _list_rules() if {rule.id, rule.id.rpartition(".")[0]} & names)


def find_chapter(entry: BookEntry) -> BookChapter:
    """The part of the book that contains an entry."""
    return next(chapter for chapter in CHAPTERS if chapter.prefix == entry.prefix)


def count_statuses() -> Mapping[str, Mapping[EntryStatus, int]]:
    """How many entries of each status every chapter has, by the beginning of its ids."""
    found = Counter((entry.prefix, entry.status) for entry in load_book())
    return {chapter.prefix: {status: found[chapter.prefix, status] for status in STATUSES} for chapter in CHAPTERS}
