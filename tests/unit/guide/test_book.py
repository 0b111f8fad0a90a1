"""The book of rules: it is complete, and what it says about lorabake is correct."""

from __future__ import annotations

import re
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import get_args

import pytest
from pydantic import ValidationError

from lorabake.analysis import explain
from lorabake.util import resources
from lorabake_schemas.guide.book import CHAPTERS, BookEntry, EntryStatus, load_book
from lorabake_schemas.guide.rules import list_rules
from lorabake_schemas.options import DATASET_LEVELS
from lorabake_schemas.recipe import Recipe, RecipeTable
from lorabake_schemas.sd_scripts import OPTIMIZERS

ROOT = Path(__file__).resolve().parents[3]
ENTRIES = load_book()
BY_ID = {entry.id: entry for entry in ENTRIES}
# How many rules each part of the guide has, and how many facts about sd-scripts there are.
COUNTS = {
    "G0": 4, "G1": 21, "G2": 22, "G25": 8, "G3": 25, "G35": 13, "G36": 4, "G4": 103, "G5": 16, "G6": 20, "G7": 28,
    "G8": 5, "GL": 10, "GC": 32, "S": sum(entry.prefix == "S" for entry in ENTRIES),
}  # fmt: skip
UNUSED = {"S25", "S29"}
SOURCE = re.compile(r'\b(?:default_by_guide|forced_by)\(\s*"(\w+(?:\.\d+)?)"')
QUOTED_ID = re.compile(r'"(G\w+\.\d+|S\d+)"')


def in_book(identity: str) -> str:
    """The book's id for a rule of the registry, which may have a suffix (S5.min_lr)."""
    return identity if identity in BY_ID else identity.rpartition(".")[0]


def resolve_sources() -> str:
    """The text of every module that decides settings, wherever the package keeps it."""
    texts = [
        path.read_text("utf-8") for path in (ROOT / "wrapper" / "lorabake").rglob("*.py") if "scripts" not in path.parts
    ]
    families = [path.read_text("utf-8") for path in (ROOT / "schemas" / "lorabake_schemas" / "families").glob("*.py")]
    return "\n".join([*(text for text in texts if SOURCE.search(text)), *families])


def test_every_rule_of_the_guide_and_every_fact_is_there_once() -> None:
    wanted = {f"{part}.{at}" for part, count in COUNTS.items() if part != "S" for at in range(1, count + 1)}
    wanted |= {f"S{at}" for at in range(1, COUNTS["S"] + len(UNUSED) + 1)} - UNUSED  # without a gap
    assert {entry.id for entry in ENTRIES} == wanted
    assert len(ENTRIES) == 311 + COUNTS["S"]
    assert Counter(entry.prefix for entry in ENTRIES) == COUNTS


def test_entries_stand_in_their_chapter_in_order() -> None:
    order = [chapter.prefix for chapter in CHAPTERS]
    places = [(order.index(entry.prefix), int(re.sub(r"^.*\.|^S", "", entry.id))) for entry in ENTRIES]
    assert places == sorted(places)
    folder = ROOT / "schemas" / "lorabake_schemas" / "guide" / "book"
    assert {path.stem for path in folder.glob("*.toml")} == {chapter.file for chapter in CHAPTERS}


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.id)
def test_an_entry_is_complete(entry: BookEntry) -> None:
    assert len(entry.title.split()) <= 8
    assert len(set(entry.action)) == len(entry.action)
    assert bool(entry.guide) is entry.id.startswith("G")
    assert bool(entry.lines) is entry.id.startswith("G")
    assert entry.truth or entry.guide
    assert bool(entry.where) is (entry.status == "implemented")
    assert entry.status == "implemented" or not entry.under
    assert not entry.under or entry.under in BY_ID
    for words in (entry.guide, entry.truth, entry.reason):
        assert not words or words.endswith("."), words
    if entry.status == "implemented":
        assert not entry.reason or entry.reason.startswith("Still missing: ")


@pytest.mark.parametrize("entry", [e for e in ENTRIES if e.status != "implemented"], ids=lambda entry: entry.id)
def test_what_a_program_could_do_is_done_or_has_a_reason(entry: BookEntry) -> None:
    if set(entry.action) - {"X"} or entry.status != "advice":
        assert entry.reason, f"{entry.id}: why not?"


# What is partly done: each says what is missing, and why, behind "Still missing".
PARTLY = {"G5.11"}


def test_nothing_else_is_left_for_later() -> None:
    """There is no status for what is not done yet: a rule is implemented, or there is a reason why it cannot be."""
    assert {entry.id for entry in ENTRIES if entry.reason.startswith("Still missing")} == PARTLY
    assert set(get_args(EntryStatus)) == {"implemented", "advice", "not-applicable"}


def test_the_table_of_rules_adds_up_to_the_guide_and_the_facts() -> None:
    table = explain.count_statuses()
    rows = {facts: [row for name, row in table.items() if (name == "S") is facts] for facts in (False, True)}
    assert [sum(sum(row.values()) for row in rows[facts]) for facts in (False, True)] == [311, COUNTS["S"]]
    assert {status for row in table.values() for status in row} == set(get_args(EntryStatus))


@pytest.mark.parametrize("identity", [rule.id for rule in list_rules()])
def test_every_rule_of_the_registry_is_in_the_book(identity: str) -> None:
    entry = BY_ID[in_book(identity)]
    assert entry.status == "implemented", f"in the book {entry.id} is still {entry.status}"
    assert "rule" in entry.where, f'add "rule" to where of {entry.id} in the book'
    assert entry.action != "X"


def test_a_rule_in_the_book_is_in_the_registry_or_under_one_that_is() -> None:
    known = {in_book(rule.id) for rule in list_rules()}
    claimed = [entry for entry in ENTRIES if "rule" in entry.where]
    assert len(claimed) >= 70
    assert [entry.id for entry in claimed if entry.id not in known and entry.under not in known] == []


def test_every_source_of_a_setting_is_in_the_book() -> None:
    text = resolve_sources()
    used = {*SOURCE.findall(text), *QUOTED_ID.findall(text)} & BY_ID.keys()
    assert len(used) >= 70
    assert set(SOURCE.findall(text)) <= BY_ID.keys()
    wrong = {identity for identity in used if BY_ID[identity].status != "implemented"}
    assert wrong == set()


def test_what_is_said_to_be_resolved_is_named_where_settings_are_decided() -> None:
    text = resolve_sources()

    def named(word: str) -> bool:
        return bool(word) and re.search(rf"\b{re.escape(word)}\b", text) is not None

    claimed = [entry for entry in ENTRIES if "resolve" in entry.where]
    assert len(claimed) >= 100
    options = {entry.id: [name.rpartition(".")[2] for name in entry.options] for entry in claimed}
    lost = [e.id for e in claimed if not any(map(named, (e.id, e.under, *options[e.id])))]
    assert lost == []


def test_options_are_sd_scripts_or_the_recipes() -> None:
    known = {option.name for script in SCRIPTS for option in resources.load_script_options(script)}
    known |= {name for level in DATASET_LEVELS for name in resources.load_dataset_options().at(level)}
    known |= recipe_keys()
    named = {option for entry in ENTRIES for option in entry.options}
    assert len(named) >= 120
    assert named - known == set()


SCRIPTS = ("train_network.py", "sdxl_train_network.py")


def recipe_keys() -> set[str]:
    """Every key of the recipe as ``table.key``, by the name that people write."""
    found = set(Recipe.model_fields)
    for table, field in Recipe.model_fields.items():
        for model in TABLES:
            if model.__name__.lower() == table:
                found |= {f"{table}.{inner.alias or name}" for name, inner in model.model_fields.items()}
        assert field is not None
    return found


TABLES = tuple(each for each in RecipeTable.__subclasses__())


def test_what_entries_are_about_is_a_word_people_know() -> None:
    words = {word for entry in ENTRIES for word in entry.about}
    algorithms = {"lora", "locon", "loha", "lokr", "dylora", "glora", "ia3", "diag-oft", "dora"}
    assert words <= {*OPTIMIZERS, *algorithms, "sdxl", "style", "character"}
    assert algorithms | {"Prodigy", "DAdaptAdam", "AdamW", "AdamW8bit"} <= words


def test_an_unknown_field_or_place_is_refused() -> None:
    good = {"id": "G1.1", "title": "t", "action": "X", "status": "advice"}
    assert BookEntry.model_validate(good).prefix == "G1"
    for bad in ({"id": "G1"}, {"status": "done"}, {"where": ["nowhere"]}, {"action": "Q"}, {"colour": "red"}):
        with pytest.raises(ValidationError):
            BookEntry.model_validate({**good, **bad})


def test_checking_does_not_read_the_book() -> None:
    """Its text is for `lorabake explain` alone."""
    code = "import sys, lorabake.analysis.check; print('lorabake_schemas.guide.book' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
