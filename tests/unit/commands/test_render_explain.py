"""The output of explain: one entry in full, many in short form, values with their rules, Markdown."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path

import click
import pytest

from languages import Backwards
from lorabake.analysis.explain import RECIPE_CODES, STATUSES, explain, find_rule
from lorabake.commands.output.explain import (
    describe_recipes,
    describe_status,
    explain_topics,
    first_sentence,
    format_book,
    format_explanation,
    format_status_counts,
    iter_entry_lines,
    status_counts_to_json,
)
from lorabake.commands.output.layout import TextLayout
from lorabake.errors import UnknownNameError
from lorabake.util.i18n import Translator
from lorabake_schemas.guide.book import BookEntry, load_book
from lorabake_schemas.guide.default_values import FAMILIES, KINDS, DefaultValue
from lorabake_schemas.guide.rules import list_rules
from lorabake_schemas.recipe import Ignore
from lorabake_schemas.sd_scripts import OPTIMIZERS
from published import hold
from situations import plan_of, recipe

PAGE = TextLayout()
ENTRY = BookEntry(id="G1.1", title="Title", action="W", guide="Said.", status="not-applicable", reason="A list.")


def at_length(entry: BookEntry, page: TextLayout = PAGE) -> list[str]:
    return [click.unstyle(line) for line in iter_entry_lines(entry, page)]


def told(topic: str, width: int | None = 80, *, whole: bool = False) -> str:
    return click.unstyle(format_explanation(explain(topic), TextLayout(width=width), whole=whole))


def test_an_entry_says_everything() -> None:
    rows = at_length(explain("G4.90").entries[0], TextLayout(width=100))
    assert rows[:3] == ["G4.90  Keep n tokens", "Guide, part 4: training settings", ""]
    said = "\n".join(rows)
    assert "  Value       2, or 3 with an outfit" in said
    assert "  The guide   It also counts the commas" in said
    assert "  In fact     It counts tags and nothing else (train_util.py:887)" in said
    assert "  Option      keep_tokens" in said
    assert "  In a recipe captions.keep_tokens, concept.keep_tokens" in said
    assert "  lorabake    reported by `lorabake check`, set in the plan." in said
    assert "  check       hint: keep_tokens counts tags, not tags and commas" in said


def test_what_a_findings_own_id_stands_for_comes_first() -> None:
    rule = find_rule("S12.stem")
    assert rule is not None
    rows = told("s12.stem", None).splitlines()
    assert rows[3].startswith(f"  S12.stem    warning: {rule.reason}")
    assert str(rule.unless) in rows[3]
    assert sum(str(rule.reason) in row for row in rows) == 1
    assert told("G4.90").splitlines()[3].startswith("  Value")


def test_when_a_check_does_not_apply_stands_behind_it() -> None:
    rule = find_rule("S12.stem")
    assert rule is not None
    rows = told("S12", None).splitlines()
    assert [row.split()[1].rstrip(",") for row in rows if str(rule.unless) in row] == ["S12.stem"]


def test_what_is_missing_is_named_and_what_is_empty_left_out() -> None:
    entry = ENTRY.model_copy(update={"id": "G1.0"})
    assert at_length(entry)[2:] == ["", "  The guide   Said.", "  lorabake    not applicable. A list."]
    finished = ENTRY.model_copy(update={"status": "implemented", "where": ("rule", "resolve"), "under": "G1.2"})
    assert describe_status(finished) == "reported by `lorabake check`, set in the plan (as G1.2). A list."
    assert (
        describe_status(finished.model_copy(update={"under": "", "reason": ""}))
        == "reported by `lorabake check`, set in the plan."
    )
    assert describe_status(ENTRY.model_copy(update={"status": "advice", "reason": ""})) == "advice only."
    assert describe_status(ENTRY) == "not applicable. A list."


@pytest.mark.parametrize("width", [40, 60, 80, 132])
def test_an_entry_is_as_wide_as_asked_and_loses_no_word(width: int) -> None:
    for entry in load_book():
        rows = at_length(entry, TextLayout(width=width))
        long = [row for row in rows if len(row) > width]
        assert [row for row in long if len(row.split()[-1]) <= width - 20] == []
        said = " ".join(" ".join(rows).split())
        for words in (entry.title, entry.guide, entry.truth, entry.value, entry.unless, entry.reason):
            assert " ".join(words.split()) in said


def test_few_entries_are_shown_whole_and_many_in_a_few_words() -> None:
    assert "  In fact " in told("G4.90")
    many = told("learning_rate")
    assert "  In fact " not in many
    assert many.splitlines()[-1] == "`lorabake explain G4.3` shows one entry in full"
    assert told("learning_rate", whole=True).count("  In fact ") > 5


@pytest.mark.parametrize("topic", ["learning_rate", "epochs", "locon", "sdxl", "Prodigy", "images", "style"])
def test_no_rule_of_a_topic_goes_unnamed_and_few_have_words(topic: str) -> None:
    rows = told(topic, 100).splitlines()
    names = [row.split()[0] for row in rows if re.match(r"  (G|S)\w*\.?\d+  +\S", row)]
    said = " ".join(rows)
    assert 3 <= len(names) <= 5
    assert f"`lorabake explain {topic} --full`" in said
    for entry in explain(topic).entries:
        assert re.search(rf"\b{re.escape(entry.id)}\b", said), entry.id


@pytest.mark.parametrize("topic", [*KINDS, *FAMILIES])
def test_every_kind_and_family_has_a_page(topic: str) -> None:
    assert told(topic).startswith(f"{topic}: ")
    assert explain(topic).entries


@pytest.mark.parametrize("topic", [*KINDS, "class_tokens"])
def test_words_of_the_sample_recipe_are_neutral(topic: str) -> None:
    assert "token, class" in told(topic) or "token, outfit, class" in told(topic)
    assert all("food" not in str(each.value) for given in explain(topic).defaults.values() for each in given)


def test_several_topics_are_answered_one_after_the_other() -> None:
    text = click.unstyle(explain_topics(("S12", "S27", "S12", "ignore"), TextLayout(width=80)))
    heads = [text.index(f"\n\n\n{head}") for head in ("S27  ", "ignore\n")]
    assert heads == sorted(heads)
    assert text.startswith("S12  ")
    assert text.count("S12  How") == 1
    both = json.loads(explain_topics(("S12", "S27", "ignore"), PAGE, as_json=True))
    hold(both, "explain")
    assert [entry["id"] for entry in both["entries"]] == ["S12", "S27"]
    assert both["text"] == RECIPE_CODES["ignore"]
    assert explain_topics(("clip", "skip"), PAGE) == explain_topics(("clip skip",), PAGE)
    with pytest.raises(UnknownNameError, match="nonsense"):
        explain_topics(("S12", "nonsense"), PAGE)


def test_a_ignore_is_shown_as_it_is_written() -> None:
    text = format_explanation(explain("ignore"), TextLayout(width=80))
    loaded = tomllib.loads(text.partition("    [[ignore]]")[2].join(("[[ignore]]", "")).replace("    ", ""))
    assert Ignore.model_validate(loaded["ignore"][0]).rule == "G1.2"
    assert explain_topics(("waive",), PAGE) == format_explanation(explain("ignore"), PAGE)


def test_in_another_language_the_book_says_that_it_is_english() -> None:
    page = TextLayout(Translator("xx", Backwards()), 80)
    for topic in ("G4.90", "rank"):
        said = click.unstyle(format_explanation(explain(topic), page))
        assert said.splitlines()[-1] == "~The entries are available in English only."
        assert "English only" not in told(topic)


def test_a_setting_shows_what_lorabake_writes() -> None:
    rows = [row.split() for row in told("network_dim", None).splitlines()]
    assert ["32", "G8.2", "style"] in rows
    assert ["128", "G7.22", "with", "network.type", "=", '"dylora"'] in rows
    assert any(row[:2] == ["network.network_dim", "Rank"] for row in rows)
    alphas = told("network_alpha", None).split("\n\n")[1].splitlines()[1:]
    assert alphas[-1].split()[:2] == ["1.0", "G4.73"]  # of all others, so it comes last
    assert [row.split()[0] for row in alphas[:-1]].count("16.0") == 2
    assert "sdxl, with AdamW, AdamW8bit, PagedAdamW*" in told("learning_rate", None)


def test_an_optimizer_shows_what_it_makes_of_a_plan() -> None:
    rows = [row.split() for row in told("AdamW8bit").splitlines()]
    assert ["text_encoder_lr", "5e-05", "G4.66", "sd15,", "sd2"] in rows
    assert ["lr_scheduler_num_cycles", "3", "G4.56"] in rows


@pytest.mark.parametrize("topic", ["lokr", "style", "sdxl", "Prodigy", "network_dim", "images", "webp"])
@pytest.mark.parametrize("width", [60, 80, 120])
def test_lines_fit(topic: str, width: int) -> None:
    rows = told(topic, width).splitlines()
    assert [row for row in rows if len(row) > width and len(row.split()) > 2] == []


def test_labels_are_in_the_pages_language() -> None:
    page = TextLayout(Translator("xx", Backwards()), 80)
    said = click.unstyle(format_explanation(explain("rank"), page))
    heads = [block.splitlines()[0] for block in said.split("\n\n")]
    assert all(head.startswith("~") for head in heads[:2])
    assert "~with" in said


@pytest.mark.parametrize("topic", ["network_dim", "Prodigy", "lokr", "style", "sdxl", "G4.90", "webp"])
def test_json_is_what_the_schema_says(topic: str) -> None:
    table = json.loads(explain_topics((topic,), PAGE, as_json=True))
    hold(table, "explain")
    assert [entry["id"] for entry in table["entries"]] == [entry.id for entry in explain(topic).entries]
    assert bool(table["values"]) is (topic not in ("G4.90", "webp"))


ROOT = Path(__file__).resolve().parents[3]
CODE = re.compile(r'(?:rule=|return |Error\(\s*|_make_error\(\s*|_fault\(\s*)"([a-z]+(?:-[a-z]+)*)"')


def test_every_id_that_a_finding_may_have_is_explained() -> None:
    places = [
        ROOT / "wrapper/lorabake/recipe",
        ROOT / "wrapper/lorabake/inputs",
        ROOT / "wrapper/lorabake/analysis/check.py",
        ROOT / "schemas/lorabake_schemas",
    ]
    files = [file for place in places for file in ([place] if place.is_file() else sorted(place.rglob("*.py")))]
    found = {
        code for file in files for code in CODE.findall(file.read_text("utf-8")) if "-" in code or code == "ignore"
    }
    assert found == set(RECIPE_CODES)
    for code in RECIPE_CODES:
        text = click.unstyle(format_explanation(explain(code), TextLayout(width=80)))
        assert text.splitlines()[0] == code
        assert " ".join(text.split()).startswith(f"{code} {RECIPE_CODES[code]}")
        hold(json.loads(explain_topics((code,), PAGE, as_json=True)), "explain")
    for rule in list_rules():
        assert explain(rule.id).entries, rule.id


@pytest.mark.parametrize(
    ("text", "first"),
    [
        ("One. Two.", "One."),
        ("See train_util.py:887 for it. Next", "See train_util.py:887 for it."),
        ("About 1.5 models. x", "About 1.5 models. x"),
        ("", ""),
    ],
)
def test_the_first_sentence(text: str, first: str) -> None:
    assert first_sentence(text) == first


def default(*groups: tuple[tuple[str, ...], tuple[str, ...]], also: tuple[str, ...] = ()) -> DefaultValue:
    recipes = [{"families": families, "kinds": kinds} for families, kinds in groups] or [{}]
    return DefaultValue.model_validate({"recipes": recipes, "also": also})


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (default(), "any"),
        (default((("sd15", "sd2"), KINDS)), "sd15, sd2"),
        (default((FAMILIES, ("style",))), "style"),
        (default((FAMILIES, tuple(kind for kind in KINDS if kind != "style"))), "any except style"),
        (default((("sdxl",), ("style",))), "sdxl: style"),
        (default((("sdxl",), KINDS[1:])), "sdxl (except character)"),
        (default((("sd15",), ("style",)), (("sdxl",), KINDS)), "sd15: style; sdxl"),
        (default(also=('a = "b"',)), 'with a = "b"'),
        (default(also=('a = "b"', 'a = "c"', "[[d]]")), 'with a = "b" / "c", [[d]]'),
        (default((("sdxl",), KINDS), also=('a = "b"',)), 'sdxl, with a = "b"'),
        (default(also=('train.optimizer = "Lion"',)), "with Lion"),
        (
            default(also=tuple(f'train.optimizer = "{name}"' for name in OPTIMIZERS[1:])),
            "with any optimizer except AdamW",
        ),
    ],
)
def test_for_whom_in_few_words(found: DefaultValue, words: str) -> None:
    assert describe_recipes(found) == words


def test_the_values_of_a_recipe_stand_below_the_defaults() -> None:
    plan = plan_of(recipe(train={"optimizer": "AdamW8bit"}, network={"network_alpha": 4}))
    for width in (60, 80, None):
        lines = click.unstyle(format_explanation(explain("AdamW8bit", plan), TextLayout(width=width))).splitlines()
        lines = lines[lines.index("In your recipe:") + 1 :]
        mine = [line.split(None, 2) for line in lines[: lines.index("")]]
        assert ["network_alpha", "4.0", "recipe"] in mine
        assert ["lr_scheduler_num_cycles", "3", "G4.56"] in mine
    table = json.loads(explain_topics(("AdamW8bit", "S12"), PAGE, plan, as_json=True))
    hold(table, "explain")
    assert {"option": "network_alpha", "value": 4.0, "where": ""}.items() <= table["recipe"][0].items()


def test_the_table_adds_up() -> None:
    rows = format_status_counts(PAGE).splitlines()
    assert len(rows) == 17
    numbers = [[int(cell) for cell in click.unstyle(row).split()[-4:]] for row in rows[1:]]
    assert [sum(row[:-1]) for row in numbers] == [row[-1] for row in numbers]
    assert [sum(column) for column in zip(*numbers[:-1], strict=True)] == numbers[-1]
    assert numbers[-1][-1] == len(load_book())
    table = json.loads(status_counts_to_json())
    assert table["sum"] == sum(table["all"].values()) == len(load_book())
    assert list(table["all"].values()) == numbers[-1][:-1]
    assert set(table["all"]) == set(STATUSES)


def test_markdown_is_the_whole_book_with_its_table() -> None:
    text = format_book()
    rows = [line for line in text.splitlines() if line.startswith("| ")][1:]
    numbers = [[int(cell) for cell in re.findall(r"(?<=\| )\d+(?= \|)", row)] for row in rows]
    assert len(rows) == 16
    assert [sum(row[:-1]) for row in numbers] == [row[-1] for row in numbers]
    assert numbers[-1][-1] == len(load_book())
    assert [sum(column) for column in zip(*numbers[:-1], strict=True)] == numbers[-1]
    headings = re.findall(r"^### (\S+) ", text, re.MULTILINE)
    assert headings == [entry.id for entry in load_book()]
    assert text.count("\n## ") == 15
    assert r"\*.fp16.\*" in text
    assert r"\_" not in text
    assert text.endswith("\n")
    assert not text.endswith("\n\n")


def test_markdowns_links_lead_to_headings() -> None:
    text = format_book()
    heads = re.findall(r"^## (.*)", text, re.MULTILINE)
    anchors = {re.sub(r"[^a-z0-9 -]", "", head.lower()).replace(" ", "-") for head in heads}
    links = re.findall(r"\]\(#([^)]*)\)", text)
    assert len(links) == 15
    assert set(links) <= anchors
