"""Asking the book: what is found for a topic, and how it reads."""

from __future__ import annotations

import re

import pytest

from lorabake import explain
from lorabake.errors import RecipeError
from lorabake_schemas.guide.book import Entry, book


def ids(topic: str) -> list[str]:
    return [entry.id for entry in explain.find(topic)]


@pytest.mark.parametrize(
    ("topic", "found"),
    [
        ("G4.90", "G4.90"),
        ("g4.90", "G4.90"),
        (" gc.12 ", "GC.12"),
        ("s35", "S35"),
        ("S5.needs", "S5"),
        ("GL.1", "GL.1"),
    ],
)
def test_an_id_finds_its_entry_alone(topic: str, found: str) -> None:
    assert ids(topic) == [found]


def test_every_id_finds_itself() -> None:
    assert [ids(entry.id) for entry in book()] == [[entry.id] for entry in book()]


@pytest.mark.parametrize(
    ("topic", "among"),
    [
        ("learning_rate", {"G4.52", "GC.23", "S26"}),
        ("train.resolution", {"G2.7", "G4.59", "S6"}),
        ("keep_tokens", {"G4.90", "G6.17"}),
        ("rank", {"G4.70", "G4.76"}),
        ("network.network_dim", {"G4.70", "G4.76"}),
        ("v_parameterization", {"G4.11"}),
        ("base.v_prediction", {"G4.11"}),
        ("train.attention", {"G4.96"}),
        ("Images", {"G1.2", "G35.7"}),
        ("Prodigy", {"G4.46", "G4.50", "G4.52", "S27"}),
        ("prodigy", {"G4.46"}),
        ("DAdaptLion", {"G4.49", "G4.52"}),
        ("PagedAdamW8bit", {"G4.51", "GC.12"}),
        ("PagedAdamW", {"G4.51"}),
        ("Lion", {"G4.45"}),
        ("LoCon", {"G4.21", "G7.14", "S35"}),
        ("dora", {"G4.22", "GC.29"}),
        ("diag-oft", {"G7.28", "S33"}),
        ("style", {"G8.1", "G8.5"}),
        ("webp", {"G2.3"}),
        ("clip skip", {"G4.91"}),
    ],
)
def test_a_topic_finds_what_concerns_it(topic: str, among: set[str]) -> None:
    assert among <= set(ids(topic))


def test_a_recipe_key_does_not_find_its_namesakes() -> None:
    assert "G35.7" not in ids("concept.images")
    assert "G1.2" not in ids("regularisation.images")
    assert {"G1.2", "G35.7"} <= set(ids("images"))
    assert set(ids("AdamW")).isdisjoint({"G4.52", "G4.46"})


def test_what_is_found_keeps_the_order_of_the_book() -> None:
    order = [entry.id for entry in book()]
    for topic in ("learning_rate", "Prodigy", "locon", "images"):
        places = [order.index(identity) for identity in ids(topic)]
        assert len(places) > 3
        assert places == sorted(places)


def test_every_topic_that_is_offered_finds_something() -> None:
    assert len(explain.topics()) >= 590
    for topic, name in explain.topics().items():
        assert explain.find(topic), name


@pytest.mark.parametrize(
    ("topic", "hint"),
    [
        ("learnin_rate", "did you mean learning_rate"),
        ("Prodgy", "did you mean Prodigy?"),
        ("G4.900", "did you mean G4.9"),
        ("qqqqqqqq", "`lorabake explain --all` shows the whole book"),
        ("", "`lorabake explain --all` shows the whole book"),
        ("a of", "`lorabake explain --all` shows the whole book"),
    ],
)
def test_an_unknown_topic_names_the_nearest(topic: str, hint: str) -> None:
    with pytest.raises(RecipeError) as caught:
        explain.find(topic)
    assert caught.value.exit_code == 1
    assert topic in caught.value.message
    assert (caught.value.hint or "").startswith(hint)


def test_text_says_everything_about_an_entry() -> None:
    said = explain.text(explain.find("G4.90"), 100)
    assert said.splitlines()[:2] == ["G4.90  Keep n tokens", "  Guide, part 4: training settings"]
    assert "  The guide   Counts the commas as well" in said
    assert "  In fact     It counts tags and nothing else (train_util.py:887)" in said
    assert "  Value       2, or 3 with an outfit" in said
    assert "  Option      keep_tokens" in said
    assert "  In a recipe captions.keep_tokens, concept.keep_tokens" in said
    assert said.endswith("  lorabake    Told by `lorabake check`, set in the plan.")


ENTRY = Entry(id="G1.1", title="Title", action="W", guide="Said.", status="not-yet", reason="A list.")


def test_text_names_what_is_missing_and_leaves_out_what_is_empty() -> None:
    said = explain.text([ENTRY])
    assert said.splitlines()[1:] == [
        "  Guide, part 1: collecting pictures",
        "  The guide   Said.",
        "  lorabake    Not yet. It needs: A list.",
    ]
    done = ENTRY.model_copy(update={"status": "implemented", "where": ("rule", "resolve"), "under": "G1.2"})
    assert explain.text([done]).endswith("Told by `lorabake check`, set in the plan (as G1.2). A list.")
    idle = ENTRY.model_copy(update={"status": "advice", "reason": ""})
    assert explain.text([idle]).endswith("  lorabake    Advice for people.")


@pytest.mark.parametrize("width", [40, 60, 80, 132])
def test_text_is_as_wide_as_asked_and_loses_no_word(width: int) -> None:
    for entry in book():
        said = explain.text([entry], width)
        long = [line for line in said.splitlines() if len(line) > width]
        assert [line for line in long if len(line.split()[-1]) <= width - 14] == []
        for words in (entry.title, entry.guide, entry.truth, entry.value, entry.unless, entry.reason):
            assert words.split() == [] or " ".join(words.split()) in " ".join(said.split())


def test_a_terminal_narrower_than_forty_gets_forty() -> None:
    assert explain.text(explain.find("G4.90"), 3) == explain.text(explain.find("G4.90"), 40)


def test_entries_are_apart_by_an_empty_line() -> None:
    said = explain.text(explain.find("webp") + explain.find("G4.90"))
    assert said.count("\n\n") == 1


def test_counts_add_up_to_the_whole_book() -> None:
    table = explain.counts()
    assert sum(sum(row.values()) for row in table.values()) == 351
    assert sum(table["G4"].values()) == 103
    assert sum(table["S"].values()) == 40


def test_markdown_is_the_whole_book_with_its_table() -> None:
    page = explain.markdown()
    rows = [line for line in page.splitlines() if line.startswith("| ")][1:]
    numbers = [[int(cell) for cell in re.findall(r"(?<=\| )\d+(?= \|)", row)] for row in rows]
    assert len(rows) == 16
    assert [sum(row[:-1]) for row in numbers] == [row[-1] for row in numbers]
    assert numbers[-1][-1] == 351
    assert [sum(column) for column in zip(*numbers[:-1], strict=True)] == numbers[-1]
    headings = re.findall(r"^### (\S+) ", page, re.MULTILINE)
    assert headings == [entry.id for entry in book()]
    assert page.count("\n## ") == 15
    assert r"\*\_sd.npz" not in page
    assert r"\*_sd.npz" in page
    assert page.endswith(".\n")
