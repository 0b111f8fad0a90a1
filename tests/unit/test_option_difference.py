"""Two commits' options side by side, for a program and for a person."""

from __future__ import annotations

import json
from typing import Any

import pytest

from lorabake.commands.output.layout import TextLayout
from lorabake.commands.output.lists import format_commit_diff
from lorabake.trainer.option_diff import diff_options
from lorabake.util import resources
from lorabake_schemas.options import DatasetOption, Option, OptionSnapshot
from lorabake_schemas.versions import CommitDifference
from test_published_schemas import hold

PIN = resources.load_snapshot()
OTHER = "f" * 40
NEW = Option(name="new_loss", type="float", default=0.5, choices=None, nargs=None, action="StoreAction")
KEY = DatasetOption(name="new_key", accepts=("int", "float"), required=True)


def changed(name: str, **traits: Any) -> tuple[Option, ...]:
    return tuple(o.model_copy(update=traits) if o.name == name else o for o in PIN.of("train_network.py"))


def at(**parts: Any) -> OptionSnapshot:
    return PIN.model_copy(update={"commit": OTHER} | parts)


def with_options(*options: Option) -> OptionSnapshot:
    """With other options of train_network.py."""
    return at(scripts={**PIN.scripts, "train_network.py": options})


def text(there: OptionSnapshot) -> list[str]:
    return format_commit_diff(diff_options(PIN, there), TextLayout()).splitlines()


def test_the_same_options_at_another_commit() -> None:
    found = diff_options(PIN, at())
    assert found.same
    assert (found.commit, found.against) == (PIN.commit, OTHER)
    assert len(text(at())) == 2


def test_added_and_removed_change_sides() -> None:
    there = with_options(*PIN.of("train_network.py")[1:], NEW)
    (one, other), (back, _) = diff_options(PIN, there).scripts, diff_options(there, PIN).scripts
    assert (one.added, one.removed, one.changed) == ((NEW,), PIN.of("train_network.py")[:1], ())
    assert (back.added, back.removed) == (one.removed, one.added)
    assert (other.script, other.added, other.removed) == ("sdxl_train_network.py", (), ())


@pytest.mark.parametrize(
    ("name", "traits", "line"),
    [
        ("huber_c", {"default": 0.2}, "~ huber_c: default 0.1 -> 0.2"),
        ("huber_c", {"type": "int"}, '~ huber_c: type "float" -> "int"'),
        (
            "loss_type",
            {"choices": ("l2", "new")},
            '~ loss_type: choices ["l1", "l2", "huber", "smooth_l1"] -> ["l2", "new"]',
        ),
        ("text_encoder_lr", {"nargs": None}, '~ text_encoder_lr: nargs "*" -> null'),
        ("lowram", {"action": "StoreFalseAction"}, '~ lowram: action "StoreTrueAction" -> "StoreFalseAction"'),
        ("lowram", {"default": True, "nargs": 1}, "~ lowram: default false -> true, nargs 0 -> 1"),
        ("seed", {"default": 1.0, "type": None}, '~ seed: type "int" -> null, default null -> 1.0'),
    ],
)
def test_a_changed_option(name: str, traits: dict[str, Any], line: str) -> None:
    there = with_options(*changed(name, **traits))
    assert f"  {line}" in text(there)
    (one, _) = diff_options(PIN, there).scripts
    assert [(change.name, len(change.changes)) for change in one.changed] == [(name, len(traits))]


def test_a_default_of_another_form_is_another_one() -> None:
    there = with_options(*changed("clip_skip", default=True))
    here = with_options(*changed("clip_skip", default=1))
    assert not diff_options(here, there).same


def test_keys_of_the_dataset_file() -> None:
    more = PIN.dataset.model_copy(update={"subsets": (*PIN.dataset.subsets[1:], KEY)})
    found = diff_options(PIN, at(dataset=more))
    assert [(part.level, len(part.added), len(part.removed)) for part in found.dataset] == [
        ("general", 0, 0), ("datasets", 0, 0), ("subsets", 1, 1),
    ]  # fmt: skip
    assert "  + new_key" in text(at(dataset=more))
    first = PIN.dataset.subsets[0]
    other = first.model_copy(update={"accepts": ("table",)})
    shaped = PIN.dataset.model_copy(update={"subsets": (other, *PIN.dataset.subsets[1:])})
    assert f"  ~ {first.name}: {'|'.join(first.accepts)} -> table" in text(at(dataset=shaped))


def test_a_part_without_changes_is_not_listed() -> None:
    lines = text(with_options(*PIN.of("train_network.py"), NEW))
    assert lines[1:] == ["", "train_network.py", "  + new_loss"]


def test_json_reads_back() -> None:
    found = diff_options(PIN, with_options(*changed("loss_type", choices=("l2",), default="l2")))
    again = CommitDifference.model_validate_json(found.model_dump_json())
    assert again == found
    table = json.loads(found.model_dump_json())
    assert table["version"] == 1
    hold(table, "commits")


def test_every_option_is_listed() -> None:
    empty = DatasetOption(name="image_dir", accepts=("str",), required=True)
    bare = at(
        scripts=dict.fromkeys(PIN.scripts, ()),
        dataset=PIN.dataset.model_copy(update=dict.fromkeys(("general", "datasets", "subsets"), (empty,))),
    )
    assert len([line for line in text(bare) if line.startswith("  - ")]) >= 193
