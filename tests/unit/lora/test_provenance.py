"""The run's digest in a LoRA's comment: how it is written, how it is found again, what argparse does to it."""

from __future__ import annotations

import argparse

import pytest

from lorabake.lora.metadata import parse_digest, parse_own_comment, training_comment, training_comment_flag

ONE, TWO = "0123456789abcdef" * 4, "fedcba9876543210" * 4
GIVEN = [
    "made for fun",
    "a; b; c",
    "ends in a mark; ",
    "日本語 ção 🦊",
    "quotes \" and ' and \\ and $HOME `ls`",
    "two\nlines\ttabs",
    "-begins with a dash",
    "--training_comment=x",
    "@file",
    " blanks around ",
    "%d %(default)s {given}",
    f"lorabake sha256:{TWO}",
    f"copied from another file; lorabake sha256:{TWO}",
]


@pytest.mark.parametrize("given", GIVEN)
def test_digest_and_the_recipes_own_comment_are_found_again(given: str) -> None:
    written = training_comment(given, ONE)
    assert written.startswith(given)
    assert parse_digest(written) == ONE
    assert parse_own_comment(written) == given


@pytest.mark.parametrize("given", [None, ""])
def test_a_recipe_without_a_comment(given: str | None) -> None:
    assert training_comment(given, ONE) == f"lorabake sha256:{ONE}"
    assert parse_digest(training_comment(given, ONE)) == ONE
    assert parse_own_comment(training_comment(given, ONE)) is None


@pytest.mark.parametrize(
    "other",
    [
        "", "None", "sha256:" + ONE, f"lorabake sha256:{ONE} and more", f"lorabake sha256:{ONE}\n",
        f"notlorabake sha256:{ONE}", f"lorabake sha256:{ONE[:-1]}", f"lorabake sha256:{ONE.upper()}",
    ],
)  # fmt: skip
def test_what_lorabake_did_not_write_is_no_mark(other: str) -> None:
    assert parse_digest(other) is None


@pytest.mark.parametrize("given", GIVEN)
def test_two_argparses_one_behind_the_other_hand_it_on_unchanged(given: str) -> None:
    """accelerate takes the script's arguments as a remainder, the script its options after its config file's."""
    launcher = argparse.ArgumentParser()
    launcher.add_argument("--cpu", action="store_true")
    launcher.add_argument("script")
    launcher.add_argument("rest", nargs=argparse.REMAINDER)
    handed = launcher.parse_args(
        ["--cpu", "train_network.py", "--config_file", "c", training_comment_flag(given, ONE)]
    ).rest
    script = argparse.ArgumentParser()
    script.add_argument("--config_file")
    script.add_argument("--training_comment", default=None)
    script.add_argument("--training_rate", default=None)
    took = script.parse_args(handed, namespace=argparse.Namespace(training_comment=given))
    assert took.training_comment == training_comment(given, ONE)


def test_equal_runs_write_equal_comments_whatever_lorabakes_version() -> None:
    from lorabake import __version__

    assert __version__ not in training_comment("mine", "0" * 64)
