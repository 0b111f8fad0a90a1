"""Mutated recipes, each taken through load, check, plan and compile: never a crash, never a hang, and what passes
check compiles to what sd-scripts' own reader reads back.

LORABAKE_MUTATIONS sets how many (400 by default), LORABAKE_MUTATION_SEED where they start.
"""

from __future__ import annotations

import copy
import datetime as dt
import os
import random
import signal
import tomllib
from collections.abc import Callable, Generator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any, cast

import pytest
import toml
import tomli_w

from lorabake.analysis.check import check_recipe
from lorabake.commands.output.findings import format_check_result
from lorabake.commands.output.layout import TextLayout
from lorabake.commands.output.plan import format_plan_page, plan_to_json
from lorabake.errors import RecipeError
from lorabake.jobs.run_files import build_run_files
from lorabake.planning.compile import SAFE_TEXT
from lorabake.recipe.load import load_recipe
from lorabake.recipe.validation import list_all_keys
from lorabake_schemas.base import OptionValue
from lorabake_schemas.plan import Plan
from situations import CPU, GPU, RECIPE, project, write_pictures

COUNT = int(os.environ.get("LORABAKE_MUTATIONS", "400"))
SEED = int(os.environ.get("LORABAKE_MUTATION_SEED", "0"))
PARTS = 8
LIMIT_S = 20
Raw = dict[str, Any]

# A recipe with nearly every key, and small ones of other kinds: what the mutations start from.
RICH = (
    RECIPE.replace('images = "pics"', 'images = "pics"\nnum_repeats = 2\nflip_aug = true\nkeep_tokens = 2')
    + """
[network]
type = "locon"
network_dim = 8
network_alpha = 4.0
conv_dim = 4
conv_alpha = 1.0
preset = "attn-mlp"
[train]
optimizer = "AdamW"
optimizer_args = { weight_decay = 0.1, betas = [0.9, 0.99] }
unet_lr = 1e-4
text_encoder_lr = 5e-5
lr_scheduler = "cosine_with_restarts"
lr_warmup_steps = 0.1
lr_scheduler_num_cycles = 3
max_train_epochs = 4
train_batch_size = 1
gradient_accumulation_steps = 2
resolution = 768
min_bucket_reso = 256
max_bucket_reso = 1024
mixed_precision = "bf16"
attention = "sdpa"
seed = 7
noise_offset = 0.05
[captions]
caption_extension = ".txt"
shuffle_caption = true
caption_prefix = "lamp,"
[save]
save_every_n_epochs = 1
save_last_n_epochs = 2
save_state = true
[sample]
prompts = ["hmbrgrlora --w 512 --h 512 --d 1", "food"]
sample_every_n_epochs = 1
[metadata]
title = "A title"
comment = "a comment"
[launch]
num_cpu_threads_per_process = 2
[kohya]
min_timestep = 0
max_timestep = 900
ip_noise_gamma = 0.1
huber_c = 0.1
log_prefix = "x"
"""
)
STARTS: tuple[Raw, ...] = (
    tomllib.loads(RICH),
    tomllib.loads(RICH),
    tomllib.loads(RECIPE),
    tomllib.loads(RECIPE + '[[regularization]]\nclass = "food"\nimages = "reg"\n'),
    tomllib.loads(RECIPE.replace('"object"', '"style"') + '[[ignore]]\nrule = "G1.2"\nreason = "few"\n'),
)
NUMBERS: tuple[Any, ...] = (
    *(-1, 0, 1, 2, 3, 64, 100, 1000, 4096, 10**6, 2**31, 2**32, 2**40, 2**53, 2**63, 2**64, -(2**63), 10**30),
    *(-0.0, 0.0, 0.1, 0.5, 0.999, 1.0, 2.0, 1e-7, 5e-324, 1e-300, 1e22, 1e308, float("nan"), float("inf"), -1.5),
)
LETTERS = (
    *(
        "a",
        "b",
        "Z",
        "9",
        " ",
        ",",
        ", ",
        ".",
        "/",
        "..",
        "~",
        "-",
        "--d 9",
        "_",
        ":",
        "*",
        "=",
        "#",
        "{",
        "}",
        "[",
        "]",
    ),
    *("%", "$", "`", "<", ">", "|", '"', "'", '"""', "'''", "\\", "\\u0041", "\\x41", "\n", "\r", "\t", "\0", "\x1b"),
    *("\x7f", "\x85", "\u2028", "\u202e", "\ufeff", "\u0301", "é", "漢", "😀", "true", "1e5", "x" * 90),
)
OPTIONS = (
    "base_weights", "cache_info", "color_aug", "dim_from_weights", "full_bf16", "huber_schedule", "log_tracker_config",
    "loss_type", "lr_decay_steps", "lr_scheduler_args", "lr_scheduler_type", "max_timestep", "max_token_length",
    "min_timestep", "multires_noise_iterations", "network_train_text_encoder_only", "resolution", "secondary_separator",
    "token_warmup_step", "vae_batch_size",
)  # fmt: skip
TIMES: tuple[Any, ...] = (
    dt.date(2026, 2, 3),
    dt.datetime(2026, 2, 3, 4, 5, tzinfo=dt.UTC),
    dt.time(4, 5, 6),
)


def text(dice: random.Random) -> str:
    letters = LETTERS if dice.random() < 0.6 else LETTERS[:12]
    return "".join(dice.choice(letters) for _ in range(dice.choice((0, 1, 1, 2, 3, 5, 8, 40))))


def value(dice: random.Random, depth: int = 0) -> Any:
    """Any value that TOML can contain."""
    kinds: tuple[Callable[[], Any], ...] = (
        *[lambda: dice.choice(NUMBERS)] * 4,
        *[lambda: text(dice)] * 4,
        lambda: dice.random() < 0.5,
        lambda: dice.choice(TIMES),
        lambda: [value(dice, depth + 1) for _ in range(dice.randrange(3))],
        lambda: {text(dice) or "k": value(dice, depth + 1) for _ in range(dice.randrange(3))},
    )
    return dice.choice(kinds[:10] if depth > 3 else kinds)()


def places(raw: Raw) -> list[tuple[Any, Any]]:
    """Every table and list of a recipe with each of its keys and indices."""
    found: list[tuple[Any, Any]] = []
    todo: list[Any] = [raw]
    while todo:
        inside: Any = todo.pop()
        keys: list[Any] = list(cast("Raw", inside)) if isinstance(inside, dict) else list(range(len(inside)))
        found += [(inside, key) for key in keys]
        todo += [inside[key] for key in keys if isinstance(inside[key], dict | list)]
    return found


def set_a_value(raw: Raw, dice: random.Random) -> None:
    inside, key = dice.choice(places(raw))
    inside[key] = value(dice)


def change_a_value(raw: Raw, dice: random.Random) -> None:
    """Another value of the same type, which most often passes the shape."""
    inside, key = dice.choice(places(raw))
    old = inside[key]
    if isinstance(old, str):
        at = dice.randrange(len(old) + 1)
        inside[key] = old[:at] + text(dice) + old[at:]
    elif isinstance(old, bool):
        inside[key] = not old
    elif isinstance(old, int | float):
        numbers = [number for number in NUMBERS if type(number) is type(old)]
        inside[key] = dice.choice((old + 1, old * 2, old * 1.01, type(old)(old / 2), *dice.sample(numbers, 4)))


def remove_a_key(raw: Raw, dice: random.Random) -> None:
    inside, key = dice.choice(places(raw))
    del inside[key]


def add_a_key(raw: Raw, dice: random.Random) -> None:
    table, key = dice.choice(list_all_keys())
    inside: Any = raw.setdefault(table, {}) if table else raw
    if isinstance(inside, list) and inside:
        inside = cast("list[object]", inside)[0]
    if isinstance(inside, dict):
        inside[key] = value(dice)


def add_an_option(raw: Raw, dice: random.Random) -> None:
    name = text(dice) if dice.random() < 0.1 else dice.choice(OPTIONS)
    inside: Any = raw.setdefault("kohya", {})
    if isinstance(inside, dict):
        inside[name or "k"] = value(dice)


def rename_a_key(raw: Raw, dice: random.Random) -> None:
    inside, key = dice.choice(places(raw))
    if isinstance(inside, dict):
        table = cast("Raw", inside)
        at = dice.randrange(len(key) + 1)
        table[key[:at] + text(dice) + key[at + 1 :]] = table.pop(key)


def move_a_key(raw: Raw, dice: random.Random) -> None:
    (inside, key), (other, _) = dice.choice(places(raw)), dice.choice(places(raw))
    if isinstance(inside, dict) and isinstance(other, dict):
        other[key] = copy.deepcopy(cast("Raw", inside)[key])


def repeat_an_entry(raw: Raw, dice: random.Random) -> None:
    lists = [inside[key] for inside, key in places(raw) if isinstance(inside[key], list) and inside[key]]
    if lists:
        chosen = dice.choice(lists)
        chosen.append(copy.deepcopy(chosen[0]))


CHANGES: tuple[Callable[[Raw, random.Random], None], ...] = (
    set_a_value, *[change_a_value] * 6, remove_a_key, add_a_key, add_a_key, add_an_option,
    rename_a_key, move_a_key, repeat_an_entry,
)  # fmt: skip


def mutated(dice: random.Random) -> bytes:
    raw = copy.deepcopy(dice.choice(STARTS))
    for _ in range(dice.choice((1, 1, 1, 1, 2, 4))):
        dice.choice(CHANGES)(raw, dice)
    content = tomli_w.dumps(raw).encode()
    return spoiled(content, dice) if dice.random() < 0.15 else content


LINES = (
    *(b"\nseed = 2026-02-30\n", b"\nx = 0x" + b"f" * 5000 + b"\n", b"\nx = " + b"9" * 5000 + b"\n", b"\nx = 1e400\n"),
    *(b"\nx = 25:61:00\n", b"\nx = " + b"[" * 2000 + b"]" * 2000 + b"\n", b'\nx = "\\ud800"\n', b"\n[train]\n"),
    *(b"\n'''\n", b"\na.b.c.d = 1\n", b"\nx = " + b"{a=" * 500 + b"1" + b"}" * 500, b"\n[kohya]\nx = 0x" + b"f" * 5000),
)


def spoiled(content: bytes, dice: random.Random) -> bytes:
    """The text itself damaged: bytes lost, doubled or replaced, or a line that no writer would write."""
    at, end = sorted(dice.randrange(len(content) + 1) for _ in range(2))
    return dice.choice(
        (
            content[:at] + content[end:],
            content[:end] + content[at:],
            content[:at] + bytes([dice.randrange(256)]) + content[at + 1 :],
            content[:at] + dice.choice(LINES) + content[at:],
            dice.choice(LINES) + content,
        )
    )


@contextmanager
def at_most(seconds: int) -> Generator[None]:
    def over(_number: int, _frame: object) -> None:
        raise TimeoutError(f"not done after {seconds} s")

    before = signal.signal(signal.SIGALRM, over)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def plain(value: OptionValue) -> object:
    return list(value) if isinstance(value, tuple) else value


def assert_read_back(plan: Plan, train: bytes, dataset: bytes) -> None:
    """Every value, apart from paths, which are written as the run folder sees them."""
    read = toml.loads(train.decode())
    assert set(read) == {setting.option for setting in plan.train}
    parts = [part for block in toml.loads(dataset.decode())["datasets"] for part in block["subsets"]]
    pairs = [(setting, read[setting.option]) for setting in plan.train]
    pairs += [(s, part[s.option]) for subset, part in zip(plan.subsets, parts, strict=True) for s in subset.settings]
    for setting, found in pairs:
        if setting.option not in PATHS:
            assert repr(found) == repr(plain(setting.value)), setting.option


PATHS = {
    "base_weights", "image_dir", "log_tracker_config", "network_weights", "pretrained_model_name_or_path",
    "tokenizer_cache_dir", "vae",
}  # fmt: skip


def whole_way(path: Path, content: bytes, dice: random.Random) -> str:
    """Load, check, plan and compile as the commands do. Returns how far it came."""
    machine = dice.choice((CPU, GPU))
    examined = check_recipe(path, machine, content=content, launching=dice.random() < 0.3)
    page = TextLayout(width=dice.choice((40, 100, None)))
    for form in ("full", "concise", "github", "json"):
        format_check_result(examined, form, page, path.parent)
    if examined.plan is None:
        assert examined.errors
        with pytest.raises(RecipeError):
            examined.planned()
        return "errors"
    format_plan_page(examined, page)
    plan_to_json(examined)
    compiled = build_run_files(examined, path.parent / "runs" / "x-001").fill_folder()
    assert_read_back(examined.plan, compiled["train.toml"], compiled["dataset.toml"])
    return "compiled"


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("mutated")
    project(folder)
    write_pictures(folder / "reg")
    return folder


@pytest.mark.parametrize("part", range(PARTS))
def test_a_mutated_recipe_is_judged_or_compiled(home: Path, part: int) -> None:
    failed, came = list[str](), dict[str, int]()
    for number in range(SEED + part, SEED + COUNT, PARTS):
        dice = random.Random(number)  # noqa: S311 - the same recipe every time
        content = mutated(dice)
        try:
            with at_most(LIMIT_S):
                end = whole_way(home / "recipe.toml", content, dice)
                came[end] = came.get(end, 0) + 1
        except Exception as error:  # noqa: BLE001 - whatever it is, it is the finding of this test
            failed.append(
                f"--- {number}: {type(error).__name__}: {str(error)[:300]}\n{content.decode('utf-8', 'replace')}"
            )
    print(came)
    assert not failed, f"{len(failed)} of {COUNT // PARTS}\n" + "\n".join(failed[:3])


def with_key(table: str, key: str, chosen: Any) -> bytes:
    """The rich recipe with one key set."""
    raw = copy.deepcopy(STARTS[0])
    raw.setdefault("regularization", [{"class": "food", "images": "reg"}])
    raw.setdefault("ignore", [{"rule": "G1.2", "reason": "few"}])
    inside: Any = raw.setdefault(table, {}) if table else raw
    (inside[0] if isinstance(inside, list) else inside)[key] = chosen
    return tomli_w.dumps(raw).encode()


@pytest.mark.parametrize("number", [2**40, 2**63, 10**30, -1, 0, -0.0, 1e300, 5e-324])
def test_no_number_hangs_or_crashes(home: Path, number: float) -> None:
    dice = random.Random(0)  # noqa: S311 - the same every time
    for table, key in list_all_keys():
        with at_most(LIMIT_S):
            end = whole_way(home / "recipe.toml", with_key(table, key, number), dice)
        assert end == "errors" or abs(number) < 2**40, (table, key)


NASTY = (
    *(
        " ",
        "\t",
        "\n",
        "\0",
        "a\0b",
        '"',
        '""',
        '"""',
        'a"',
        '"a"',
        "'",
        "'''",
        "\\",
        "\\\\",
        "a\\",
        "\\u0041",
        "\\x41",
    ),
    *(
        "a\nb",
        "a\r\nb",
        "\x1b[31m",
        "\x7f",
        "\x85",
        "\u2028",
        "\u202e",
        "\ufeff",
        "\ufeffa",
        "😀",
        "{x}",
        "%s",
        "$HOME",
        "~",
        ".",
    ),
    *(
        "..",
        "/",
        "//",
        "../../x",
        "a/b",
        "-x",
        "--help",
        "#a",
        "a # b",
        "[a]",
        "a]b",
        ",",
        ",a",
        "a,b",
        "=",
        "a=b",
        "true",
    ),
    *("x" * 256, "漢" * 100, "x/" * 3000, "2026-02-30", "1e5", "nan"),
)


@cache
def texts() -> tuple[tuple[str, str], ...]:
    """The keys that take any text, choices left out."""
    taken = [("sample", "prompts"), ("kohya", "log_prefix")]
    for table, key in list_all_keys():
        found = load_recipe(Path("recipe.toml"), with_key(table, key, "ab"))
        if found.recipe is not None:
            taken.append((table, key))
    return tuple(taken)


@pytest.mark.parametrize("nasty", NASTY, ids=lambda nasty: ascii(nasty)[:20])
def test_no_text_crashes_or_is_damaged(home: Path, nasty: str) -> None:
    dice = random.Random(0)  # noqa: S311 - the same every time
    for table, key in texts():
        chosen = [nasty] if key == "prompts" else nasty
        whole_way(home / "recipe.toml", with_key(table, key, chosen), dice)


@pytest.mark.parametrize("nasty", NASTY[:-3], ids=lambda nasty: ascii(nasty)[:20])
def test_a_text_that_is_called_plain_is_read_back(nasty: str) -> None:
    for whole in (nasty, f"a{nasty}", f"a{nasty}b{nasty}"):
        if SAFE_TEXT.fullmatch(whole):
            for table in ({"a": whole}, {"a": [whole, "x"]}, {"a": ["x", whole]}):
                assert toml.loads(tomli_w.dumps(table)) == table
