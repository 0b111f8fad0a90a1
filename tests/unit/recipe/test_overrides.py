"""--set: values from the command line, written into the recipe's text."""

from __future__ import annotations

import shlex
import tomllib
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from click.testing import CliRunner

from lorabake.analysis.check import CheckResult
from lorabake.cli import main
from lorabake.commands.output.findings import format_check_command
from lorabake.errors import RecipeError
from lorabake.recipe.load import LoadedRecipe, load_recipe, with_positions
from lorabake.recipe.overrides import Override, apply_overrides, parse_override
from lorabake.util.resources import load_pin

RECIPE = """# my burger
name = "burger"  # the file's name
kind = "object"

[base]
model = "base.safetensors"   # SD1.5
family = "sd15"

[[concept]]
token = "hmbrgr"
images = "one"  # first
num_repeats = 2

[[concept]]
token = "frs"
images = "two"

[train]
# quick
optimizer = "AdamW"
optimizer_args = { weight_decay = 0.1 }

[save]"""


def read(text: str, *given: str) -> LoadedRecipe:
    return load_recipe(
        Path("recipe.toml"), text.encode(), [override for one in given if (override := parse_override(one))]
    )


def written(text: str, *given: str) -> str:
    return read(text, *given).content.decode()


@pytest.mark.parametrize(
    ("given", "key", "value"),
    [
        ("train.seed=7", ("train", "seed"), 7),
        ("concept#1.num_repeats=3", ("concept", 0, "num_repeats"), 3),
        ("concept#2.num_repeats = 3", ("concept", 1, "num_repeats"), 3),
        ("sample.prompts#2=a", ("sample", "prompts", 1), "a"),
        ("launch.gpu_ids=0", ("launch", "gpu_ids"), "0"),
        ("name=8", ("name",), "8"),
        ("name=true", ("name",), "true"),
        ("concept#1.token=1e3", ("concept", 0, "token"), "1e3"),
        ("kohya.log_prefix=7", ("kohya", "log_prefix"), "7"),
        ("kohya.huber_c=7", ("kohya", "huber_c"), 7),
        ("train.optimizer=AdamW8bit", ("train", "optimizer"), "AdamW8bit"),
        ("train.learning_rate=1e-4", ("train", "learning_rate"), 1e-4),
        ("train.cache_latents=false", ("train", "cache_latents"), False),
        ("train.resolution=[640, 768]", ("train", "resolution"), [640, 768]),
        ('name="12"', ("name",), "12"),
        ("base.model=C:\\models\\a b.safetensors", ("base", "model"), "C:\\models\\a b.safetensors"),
        ("metadata.comment=a=b", ("metadata", "comment"), "a=b"),
        ("metadata.comment=x\ny = 1", ("metadata", "comment"), "x\ny = 1"),
        ("metadata.comment=", ("metadata", "comment"), ""),
        ("train.optimizer_args={ weight_decay = 0.2 }", ("train", "optimizer_args"), {"weight_decay": 0.2}),
    ],
)
def test_a_key_and_a_toml_value_or_text(given: str, key: tuple[str | int, ...], value: Any) -> None:
    found = parse_override(given)
    assert found is not None
    assert found.key == key
    assert tomllib.loads(f"x = {found.value}")["x"] == value


@pytest.mark.parametrize(
    "given",
    ["train.seed", "=3", "train..seed=3", ".seed=3", "concept[1].images=a", "concept.1.images=a", "concept#0.images=a"],
)
def test_what_is_no_key_and_value(given: str) -> None:
    assert parse_override(given) is None


@pytest.mark.parametrize(
    ("given", "old", "new"),
    [
        ("name=pizza", 'name = "burger"  #', 'name = "pizza"  #'),
        ("concept#1.num_repeats=5", "num_repeats = 2", "num_repeats = 5"),
        ("concept#2.num_repeats=5", 'images = "two"', 'images = "two"\nnum_repeats = 5'),
        ("train.seed=7", "weight_decay = 0.1 }", "weight_decay = 0.1 }\nseed = 7"),
        ("train.optimizer_args.weight_decay=0.2", "weight_decay = 0.1", "weight_decay = 0.2"),
        ("train.optimizer_args.eps=1e-8", "weight_decay = 0.1 }", "weight_decay = 0.1, eps = 1e-8 }"),
        ("save.save_state=true", "[save]", "[save]\nsave_state = true"),
        ("network.network_dim=8", "[save]", "[save]\n\n[network]\nnetwork_dim = 8\n"),
        ("train.made.up=8", "weight_decay = 0.1 }", "weight_decay = 0.1 }\nmade = { up = 8 }"),
        ("base.family=sd2", 'family = "sd15"', 'family = "sd2"'),
        ("base.vae=v.pt", 'family = "sd15"', 'family = "sd15"\nvae = "v.pt"'),
    ],
)
def test_the_rest_of_the_text_stays_as_it_is(given: str, old: str, new: str) -> None:
    assert written(RECIPE, given) == RECIPE.replace(old, new, 1)


@pytest.mark.parametrize(
    "text",
    [
        'train.seed = 1\nname = "a"',
        "train = { seed = 1 }",
        'name = "a"\n[train.optimizer_args]\nweight_decay = 1.0\n',
        "[train]\r\noptimizer_args.weight_decay = 0.5\r\n",
        "",
        "# only a comment",
        "train = {}",
        '[train]\noptimizer = """\nAdamW"""\n# end',
        '  [train]\n    optimizer = "AdamW" # x\n',
    ],
)
def test_however_a_table_is_written(text: str) -> None:
    """Whatever the text becomes, it has the value, and everything that it had."""
    for given, key in (("train.max_grad_norm=2", "max_grad_norm"), ("train.optimizer_args.eps=2", "optimizer_args")):
        override = parse_override(given)
        assert override is not None
        before = tomllib.loads(text)
        made, raw = apply_overrides(text, before, [override])
        assert tomllib.loads(made) == raw
        assert (raw["train"][key] if key == "max_grad_norm" else raw["train"][key]["eps"]) == 2
        assert raw.keys() >= before.keys()
        assert "#" not in text or "#" in made


def test_values_in_a_list_of_tables() -> None:
    text = 'name = "a"\nconcept = [{ token = "a" }, { token = "b" }]\n'
    assert written(text, "concept#2.token=c") == text.replace('"b"', '"c"')


def test_the_only_concept_needs_no_number() -> None:
    text = 'name = "a"\n[[concept]]\ntoken = "a"\n'
    assert written(text, "concept.token=c") == text.replace('token = "a"', 'token = "c"')
    assert read(text, "concept.token=c").find_override(("concept", 0, "token")) is not None


def test_later_ones_win_and_all_count() -> None:
    made = tomllib.loads(written(RECIPE, "train.seed=1", "train.seed=2", "train.max_train_epochs=3"))
    assert (made["train"]["seed"], made["train"]["max_train_epochs"]) == (2, 3)


@pytest.mark.parametrize("given", ["concept#3.token=a", "concept.token=a", "name.x=1", "train.optimizer.x=1"])
def test_a_place_that_a_recipe_does_not_have(given: str) -> None:
    with pytest.raises(RecipeError):
        read(RECIPE, given)


def test_findings_point_at_the_option_and_others_at_their_line_in_the_file() -> None:
    faulty = RECIPE.replace("# quick", "sedd = 1")
    loaded = read(faulty, "network.network_dim=abc", "train.unet_lrr=1", "base.family=sd15")
    placed = {f.key: (f.rule, f.line) for f in with_positions(loaded.findings, loaded)}
    assert placed == {
        "network.network_dim": ("wrong-type", None),
        "train.unet_lrr": ("unknown-key", None),
        "train.sedd": ("unknown-key", 19),
    }
    found = loaded.find_override(("network", "network_dim"))
    assert isinstance(found, Override)
    assert found.text == "network.network_dim=abc"


def test_commands_take_it(tmp_path: Path) -> None:
    (tmp_path / "recipe.toml").write_text(RECIPE)
    shown = CliRunner().invoke(
        main, ["check", str(tmp_path / "recipe.toml"), "--set", "network.network_dmi=8", "--output-format", "concise"]
    )
    assert "--set network.network_dmi: error[unknown-key]" in shown.output
    assert "network_dim" in shown.output
    wrong = CliRunner().invoke(main, ["check", str(tmp_path / "recipe.toml"), "--set", "seed"])
    assert wrong.exit_code == 2


def test_bytes_that_no_recipe_can_have() -> None:
    """A command line may have bytes that are not UTF-8; Python gives them as lone surrogates."""
    assert parse_override("name=\udcff") is None
    assert parse_override("ba\udcffse.model=x") is None
    assert parse_override("name=\u00e9") is not None


@pytest.mark.parametrize("key", ["kohya.wandb_api_key", "log.wandb_api_key", "base.model.wandb_api_key"])
@pytest.mark.parametrize("form", ["full", "concise", "json", "github"])
def test_a_secret_is_not_shown(tmp_path: Path, key: str, form: str) -> None:
    (tmp_path / "recipe.toml").write_text(RECIPE)
    shown = CliRunner().invoke(
        main, ["check", str(tmp_path / "recipe.toml"), "--set", f"{key}=abc123def", "--output-format", form]
    )
    assert shown.exit_code == 1
    assert "wandb_api_key" in shown.output
    assert "abc123def" not in shown.output


def test_only_values_of_keys_that_name_a_secret_are_hidden_in_a_command() -> None:
    model = "base.model=models/sk-anime2024abcdefghijk.safetensors"
    comment = "metadata.comment=secretary: red dress"
    texts = [model, comment, "kohya.wandb_api_key=abc123def"]
    loaded = SimpleNamespace(path=Path("e.toml"), overrides=[parse_override(text) for text in texts])
    snapshot = SimpleNamespace(commit=load_pin().commit)
    result = cast("CheckResult", SimpleNamespace(loaded=loaded, snapshot=snapshot, deep=False))
    words = shlex.split(format_check_command(result))
    assert words[4::2] == [model, comment, "kohya.wandb_api_key=..."]
