"""Checks of a value against what the pin's own parser takes."""

from __future__ import annotations

import pytest

from lorabake.util import resources
from lorabake_schemas.base import OptionValue
from lorabake_schemas.options import DatasetOption, find_nearest_option
from lorabake_schemas.plan import Script

OPTIONS = {option.name: option for option in resources.load_script_options("train_network.py")}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("seed", 42),
        ("learning_rate", 1e-4),
        ("learning_rate", 1),
        ("lowram", True),
        ("lowram", False),
        ("save_precision", "fp16"),
        ("max_token_length", 225),
        ("lr_warmup_steps", 0.1),
        ("lr_warmup_steps", 100),
        ("optimizer_args", ("a=1",)),
        ("text_encoder_lr", 1e-4),
        ("text_encoder_lr", (1e-4, 1e-5)),
        ("resolution", "768,768"),
    ],
)
def test_what_the_parser_takes(name: str, value: OptionValue) -> None:
    assert OPTIONS[name].problem(value) is None


@pytest.mark.parametrize(
    ("name", "value", "message", "fix"),
    [
        ("seed", "42", 'seed is set to "42", which is text', "write a whole number"),
        ("seed", 4.0, "seed is set to 4.0", "write a whole number"),
        ("seed", True, "seed is set to true", "write a whole number"),
        ("learning_rate", "1e-4", 'learning_rate is set to "1e-4", which is text', "write a number"),
        ("lowram", 1, "lowram is set to 1", "write true or false, without quotes"),
        ("lowram", "true", 'lowram is set to "true", which is text', "write true or false, without quotes"),
        (
            "optimizer_args",
            "a=1 b=2",
            'optimizer_args is set to "a=1 b=2", which is text',
            'write a list such as ["key=value"]',
        ),
        ("optimizer_args", (1, 2), "optimizer_args is set to (1, 2)", 'write a list such as ["key=value"]'),
        ("text_encoder_lr", ("a",), "text_encoder_lr is set to ('a',)", "write a list of numbers"),
        ("resolution", 768, "resolution is set to 768", "write text in quotes"),
    ],
)
def test_a_wrong_kind_says_what_to_write(name: str, value: OptionValue, message: str, fix: str) -> None:
    assert OPTIONS[name].problem(value) == (message, fix)


def test_a_wrong_choice_names_the_nearest() -> None:
    problem = OPTIONS["save_precision"].problem("fp61")
    assert problem is not None
    assert problem[0] == 'unknown value "fp61" for save_precision'
    assert problem[1].endswith('(did you mean "fp16"?)')
    unlike = OPTIONS["max_token_length"].problem(9)
    assert unlike is not None
    assert "150, 225" in unlike[1]


def test_nearest_understands_the_command_lines_spelling() -> None:
    options = tuple(OPTIONS.values())
    assert find_nearest_option("multires-noise-iteration", options) == "multires_noise_iterations"
    assert find_nearest_option("min_timesteps", options) == "min_timestep"
    assert find_nearest_option("qqqqqqqq", options) is None


@pytest.mark.parametrize(
    ("accepts", "value", "fits"),
    [
        ("int", 1, True),
        ("int", True, False),
        ("int", 1.0, False),
        ("float", 1, False),
        ("float", 0.1, True),
        ("bool", True, True),
        ("bool", 1, False),
        ("str", "a", True),
        ("int-pair", (512, 768), True),
        ("int-pair", (512.0, 768.0), False),
        ("int-pair", (512, 512, 512), False),
    ],
)
def test_the_dataset_file_is_strict_about_kinds(accepts: str, value: OptionValue, *, fits: bool) -> None:
    option = DatasetOption.model_validate({"name": "x", "accepts": [accepts], "required": False})
    assert (option.problem(value) is None) is fits


def test_levels_hold_what_belongs_to_them() -> None:
    options = resources.load_dataset_options()
    assert "resolution" in options.at("datasets")
    assert "image_dir" in options.at("subsets")
    assert options.at("subsets")["image_dir"].required
    assert "prior_loss_weight" not in options.at("subsets")


@pytest.mark.parametrize("script", ["train_network.py", "sdxl_train_network.py"])
def test_every_default_of_the_snapshot_passes_its_own_check(script: Script) -> None:
    """The parser's defaults are values it takes; the check must agree, whatever the type."""
    options = resources.load_script_options(script)
    checked = [option for option in options if option.default is not None and option.nargs != "*"]
    assert len(checked) > 50
    assert [option.name for option in checked if option.default is None or option.problem(option.default)] == []
