"""In what the options of two commits differ, for a program and for a person."""

from __future__ import annotations

import json
from typing import Any

import pytest

from lorabake.commands.output.layout import TextLayout
from lorabake.commands.output.lists import format_commit_diff
from lorabake.trainer.versions import diff_options
from lorabake.util import resources
from lorabake_schemas.options import DatasetOption, Option, OptionSnapshot
from lorabake_schemas.versions import CommitDifference
from published import hold

PIN = resources.load_snapshot()
OTHER = "f" * 40
NEW = Option(name="new_loss", type="float", default=0.5, choices=None, nargs=None, action="StoreAction")
KEY = DatasetOption(name="new_key", accepts=("int", "float"), required=True)


def at(**parts: Any) -> OptionSnapshot:
    return PIN.model_copy(update={"commit": OTHER} | parts)


def with_options(*options: Option) -> OptionSnapshot:
    """With other options of train_network.py."""
    return at(scripts={**PIN.scripts, "train_network.py": options})


def changed(name: str, **traits: Any) -> OptionSnapshot:
    options = PIN.of("train_network.py")
    return with_options(*(each.model_copy(update=traits) if each.name == name else each for each in options))


def lines(there: OptionSnapshot) -> list[str]:
    return format_commit_diff(diff_options(PIN, there), TextLayout()).splitlines()


def test_the_same_options_at_another_commit() -> None:
    found = diff_options(PIN, at())
    assert (found.commit, found.against, found.changes) == (PIN.commit, OTHER, ())
    assert len(lines(at())) == 2


def test_added_and_removed_change_sides() -> None:
    first, *rest = PIN.of("train_network.py")
    there = with_options(*rest, NEW)
    forth, back = diff_options(PIN, there).changes, diff_options(there, PIN).changes
    assert [(each.name, each.before, each.after) for each in forth] == [
        (first.name, first, None),
        (NEW.name, None, NEW),
    ]
    assert {(each.name, each.after, each.before) for each in back} == {
        (each.name, each.before, each.after) for each in forth
    }
    assert lines(there)[1:] == [f"  - {first.name} (train_network.py)", "  + new_loss (train_network.py)"]


@pytest.mark.parametrize(
    ("name", "traits", "line"),
    [
        ("huber_c", {"default": 0.2}, "~ huber_c: default 0.1 -> 0.2"),
        ("huber_c", {"type": "int"}, '~ huber_c: type "float" -> "int"'),
        ("text_encoder_lr", {"nargs": None}, '~ text_encoder_lr: nargs "*" -> null'),
        ("lowram", {"default": True, "nargs": 1}, "~ lowram: default false -> true, nargs 0 -> 1"),
        ("seed", {"default": 1.0, "type": None}, '~ seed: type "int" -> null, default null -> 1.0'),
    ],
)
def test_a_changed_option(name: str, traits: dict[str, Any], line: str) -> None:
    assert lines(changed(name, **traits))[1:] == [f"  {line} (train_network.py)"]


def test_a_default_of_another_form_is_another_one() -> None:
    assert diff_options(changed("clip_skip", default=1), changed("clip_skip", default=True)).changes


def test_keys_of_the_dataset_file() -> None:
    first, *rest = PIN.dataset.subsets
    there = at(dataset=PIN.dataset.model_copy(update={"subsets": (*rest, KEY)}))
    assert lines(there)[1:] == [f"  - {first.name} (subsets)", "  + new_key (subsets)"]


def test_what_both_scripts_share_is_said_once() -> None:
    there = at(scripts={script: (*options, NEW) for script, options in PIN.scripts.items()})
    assert lines(there)[1:] == [f"  + new_loss ({', '.join(PIN.scripts)})"]


def test_json_reads_back() -> None:
    found = diff_options(PIN, changed("loss_type", choices=("l2",), default="l2"))
    assert CommitDifference.model_validate_json(found.model_dump_json()) == found
    hold(json.loads(found.model_dump_json()), "commits")
