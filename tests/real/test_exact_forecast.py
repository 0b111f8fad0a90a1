"""The forecast, the captions, the sizes and the steps against sd-scripts' own code, dataset by dataset.

A dataset of one block is the compiled file of a recipe, and its forecast the plan's; one of several blocks, or with
settings that no recipe may have, is written here. ``LORABAKE_TEST_DATASETS`` sets how many are compared (100).
"""

from __future__ import annotations

import json
import random
import subprocess
import tomllib
from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any, Protocol

import pytest
import tomli_w
from PIL import Image
from pydantic import ValidationError

from lorabake.inputs.dataset import scan_folder
from lorabake.planning.batches import DatasetBlock, SubsetInput, count_batches
from lorabake.planning.buckets import BucketRules
from lorabake.planning.compile import compile_plan
from lorabake.planning.forecast import Schedule, forecast_from_counts
from lorabake.planning.resolve import resolve_plan
from lorabake.util import resources
from lorabake.util.process import make_child_env, read_environment
from lorabake_schemas.bucket_fit import Size, SubsetFits
from lorabake_schemas.caches import find_image_sizes
from lorabake_schemas.dataset import DatasetFacts, FolderFacts
from lorabake_schemas.machine import AttentionProbe, BaseFacts, MachineFacts
from lorabake_schemas.plan import Forecast
from lorabake_schemas.recipe import Recipe

pytestmark = pytest.mark.real
COUNTER = Path(__file__).with_name("count_with_sd_scripts.py")
SIDES = (512, 640, 704, 768, 1024)
MACHINE = MachineFacts(system="Linux", cpus=4, memory_bytes=16 * 10**9)
# What sd-scripts takes for options that are not written (its parser's defaults), as far as steps depend on them.
READ: dict[str, Any] = {
    "optimizer_type": "AdamW",
    "lr_scheduler": "cosine_with_restarts",
    "lr_scheduler_power": 1,
    "lr_decay_steps": 0,
    "gradient_accumulation_steps": 1,
    "max_train_steps": 1600,
    **dict.fromkeys((
        "max_train_epochs", "lr_scheduler_type", "lr_scheduler_args", "lr_scheduler_min_lr_ratio",
        "lr_scheduler_timescale", "save_every_n_epochs", "save_every_n_steps", "save_last_n_epochs",
        "save_last_n_steps",
    )),
}  # fmt: skip
LEAST = 25  # datasets; with fewer the generator could miss a part of what it must cover


class Trainer(Protocol):
    """What these tests need of the ``trainer`` fixture."""

    @property
    def python(self) -> Path: ...
    @property
    def checkout(self) -> Path: ...


@dataclass(frozen=True)
class Case:
    """One generated dataset: its file, our view of each of its blocks, our forecast, and the options of
    train_network.py that its formulas and its scheduler read. ``compiled`` from a recipe."""

    file: Path
    blocks: tuple[DatasetBlock, ...]
    folders: tuple[tuple[FolderFacts, ...], ...]
    told: Forecast
    options: dict[str, Any]
    compiled: bool


def picture(folder: Path, number: int, dice: random.Random) -> None:
    longest = dice.choice((300, 700, 1500, 2600))
    size = (dice.randint(200, longest), dice.randint(200, longest))
    stem = dice.choice((f"{number}", f"im {number}", f"a_b_c_{number}_d_e", f"Über.{number}"))
    suffix = dice.choice((".png", ".PNG", ".jpg", ".webp", ".bmp", ".Jpeg")) if number else ".png"  # .Jpeg is not seen
    if suffix == ".webp" and longest > 700:
        suffix = ".png"  # large ones take long to write
    mode = "1" if suffix in {".png", ".PNG", ".bmp"} else "L" if suffix != ".webp" else dice.choice(("L", "RGBA"))
    Image.new(mode, size).save(folder / (stem + suffix), format="JPEG" if suffix == ".Jpeg" else None)
    first = dice.choice(("tok, blue eyes", "  tok ", "\ufefftok, bom", "", "tok, maçã\r"))
    if dice.random() < 0.9:
        text = first + dice.choice(("", "\n", "\nsecond line\n"))
        (folder / (stem + ".txt")).write_bytes((text or "\n").encode())
    if dice.random() < 0.05:
        (folder / f"{stem}_{size[1]:04d}x{size[0]:04d}_sd.npz").write_bytes(b"")


def block(
    folder: Path, batch_size: int, dice: random.Random
) -> tuple[dict[str, Any], DatasetBlock, tuple[FolderFacts, ...]]:
    side = dice.choice(SIDES)
    size: Size = (side, side) if dice.random() < 0.8 else (side, dice.choice(SIDES))
    no_upscale = dice.random() < 0.3
    rules = BucketRules(
        resolution=size,
        enable_bucket=dice.random() < 0.9,
        bucket_no_upscale=no_upscale,
        min_bucket_reso=dice.choice((128, 256, 300)),
        max_bucket_reso=dice.choice((max(size), max(size) + 1, 1280, 2048)),
        bucket_reso_steps=dice.choice((64, 64, 128)) if not no_upscale else 64,
    )
    tables, inputs, facts = list[dict[str, Any]](), list[SubsetInput](), list[FolderFacts]()
    for at in range(dice.randint(1, 4)):
        images = folder / f"set{at}"
        images.mkdir(parents=True)
        for number in range(dice.randint(1, 14)):
            picture(images, number, dice)
        is_reg, repeats = at > 0 and dice.random() < 0.4, dice.choice((1, 1, 2, 3, 10))
        found = scan_folder(images, ".txt")
        facts.append(found)
        inputs.append(SubsetInput(images.name, find_image_sizes(found, "_sd.npz"), repeats, is_reg))
        tables.append(
            {
                "image_dir": images.as_posix(),
                "num_repeats": repeats,
                "is_reg": is_reg,
                "caption_extension": ".txt",
                "class_tokens": "thing",
            }
        )
    table = {
        "resolution": list(size),
        "batch_size": batch_size,
        "enable_bucket": rules.enable_bucket,
        "bucket_no_upscale": no_upscale,
        "min_bucket_reso": rules.min_bucket_reso,
        "max_bucket_reso": rules.max_bucket_reso,
        "bucket_reso_steps": rules.bucket_reso_steps,
        "subsets": tables,
    }
    return table, DatasetBlock(tuple(inputs), rules, batch_size), tuple(facts)


def schedule(seed: int, dice: random.Random) -> Schedule:
    """How long it is trained, and what is saved."""
    by_epochs = dice.random() < 0.6
    return Schedule(
        output_name=f"lora-{seed}",
        max_train_epochs=dice.randint(1, 6) if by_epochs else None,
        max_train_steps=None if by_epochs else dice.randint(20, 300),
        gradient_accumulation_steps=dice.choice((1, 1, 2, 3, 4, 5, 8)),
        num_processes=dice.choice((1, 1, 1, 2, 3, 4)),
        lr_warmup_steps=dice.choice((0, 0.1, 0.2, 5, 0.37)),
        cycles=dice.randint(1, 4),
        save_every_n_epochs=dice.choice((None, 1, 2, 3)),
        save_every_n_steps=dice.choice((None, None, 7, 20)),
        save_last_n_epochs=dice.choice((None, None, 1, 2)),
        save_last_n_steps=dice.choice((None, None, 20, 33)),
        extension=dice.choice(("safetensors", "ckpt")),
    )


def case(folder: Path, seed: int) -> Case:
    """The same for the same seed; batch sizes go round from 1 to 8."""
    dice = random.Random(seed)  # noqa: S311 - the same datasets every time
    count = 2 if dice.random() < 0.2 else 1
    made = [block(folder / f"block{at}", (seed + 3 * at) % 8 + 1, dice) for at in range(count)]
    blocks, folders = tuple(ours for _, ours, _ in made), tuple(facts for _, _, facts in made)
    trained = schedule(seed, dice)
    if count == 1 and (recipe := recipe_of(blocks[0], folders[0], trained)):
        return compiled(folder, recipe, blocks[0], folders[0])
    file = folder / "dataset.toml"
    file.write_text(tomli_w.dumps({"datasets": [table for table, _, _ in made]}), encoding="utf-8")
    options = asdict(trained) | {"lr_scheduler_num_cycles": trained.cycles, "save_model_as": trained.extension}
    return Case(
        file, blocks, folders, forecast_from_counts(count_batches(blocks), trained), READ | options, compiled=False
    )


def recipe_of(block: DatasetBlock, folders: tuple[FolderFacts, ...], trained: Schedule) -> Recipe | None:
    """The recipe that asks for this; None where a recipe may not (a resolution that is no multiple of the step)."""
    rules = block.rules
    parts = [
        (subset.is_reg, {"images": folder.path, "num_repeats": subset.num_repeats})
        for subset, folder in zip(block.subsets, folders, strict=True)
    ]
    train = {
        "optimizer": "AdamW",
        "resolution": list(rules.resolution),
        "train_batch_size": block.batch_size,
        "lr_scheduler": "cosine_with_restarts",
        "lr_scheduler_num_cycles": trained.cycles,
        "lr_warmup_steps": trained.lr_warmup_steps,
        "enable_bucket": rules.enable_bucket,
        "bucket_no_upscale": rules.bucket_no_upscale,
        "min_bucket_reso": rules.min_bucket_reso,
        "max_bucket_reso": rules.max_bucket_reso,
        "bucket_reso_steps": rules.bucket_reso_steps,
        "gradient_accumulation_steps": trained.gradient_accumulation_steps,
    }
    saved = ("save_every_n_epochs", "save_every_n_steps", "save_last_n_epochs", "save_last_n_steps")
    length = {name: getattr(trained, name) for name in ("max_train_epochs", "max_train_steps")}
    table = {
        "name": trained.output_name,
        "kind": "object",
        "base": {"model": "base.safetensors", "family": "sd15"},
        "concept": [{"token": "thing", **part} for is_reg, part in parts if not is_reg],
        "regularization": [{"class": "thing", **part} for is_reg, part in parts if is_reg],
        "train": train | {name: value for name, value in length.items() if value},
        "save": {"save_model_as": trained.extension}
        | {name: value for name in saved if (value := getattr(trained, name)) is not None},
        "launch": {"num_processes": trained.num_processes},
    }
    try:
        return Recipe.model_validate(table)
    except ValidationError:
        return None


def compiled(folder: Path, recipe: Recipe, block: DatasetBlock, folders: tuple[FolderFacts, ...]) -> Case:
    """As `lorabake compile` writes it; a recipe has its regularization last."""
    order = sorted(range(len(folders)), key=lambda at: block.subsets[at].is_reg)
    facts = [(block.subsets[at].is_reg, folders[at]) for at in order]
    data = DatasetFacts(
        tuple(each for is_reg, each in facts if not is_reg), tuple(each for is_reg, each in facts if is_reg)
    )
    plan = resolve_plan(recipe, BaseFacts(kind="file", family="sd15"), data, MACHINE, AttentionProbe.without_gpu())
    made = compile_plan(plan, resources.load_script_options(plan.script), resources.load_dataset_options()).fill({})
    file = folder / "dataset.toml"
    file.write_bytes(made["dataset.toml"])
    options = READ | tomllib.loads(made["train.toml"].decode()) | {"num_processes": plan.launch.num_processes}
    ours = replace(block, subsets=tuple(block.subsets[at] for at in order))
    return Case(file, (ours,), (tuple(folders[at] for at in order),), plan.forecast, options, compiled=True)


def covered(cases: list[Case]) -> None:
    """What the issue wants compared is there, and not once only."""
    blocks = [block for each in cases for block in each.blocks]
    subsets = [(block, subset) for block in blocks for subset in block.subsets]

    def often(what: str, there: int) -> None:
        assert there >= 3, f"the generated datasets have {what} {there} times only"

    for batch_size in range(1, 9):
        often(f"batch {batch_size}", sum(block.batch_size == batch_size for block in blocks))
    for side in SIDES:
        often(f"{side} px", sum(block.rules.resolution == (side, side) for block in blocks))
    often("sides of two lengths", sum(len(set(block.rules.resolution)) == 2 for block in blocks))
    often("no upscaling", sum(block.rules.bucket_no_upscale and block.rules.enable_bucket for block in blocks))
    often("no buckets", sum(not block.rules.enable_bucket for block in blocks))
    often("several concepts", sum(sum(not subset.is_reg for subset in block.subsets) > 1 for block in blocks))
    often("regularization", sum(any(subset.is_reg for subset in block.subsets) for block in blocks))
    often("repeats of regularization", sum(subset.is_reg and subset.num_repeats > 1 for _, subset in subsets))
    often("repeats", sum(not subset.is_reg and subset.num_repeats > 1 for _, subset in subsets))
    often("tall and wide pictures", sum(mixed(subset.sizes) for _, subset in subsets))
    often("accumulation", sum(each.options["gradient_accumulation_steps"] > 1 for each in cases))
    often("processes", sum(each.options["num_processes"] > 1 for each in cases))
    often("several blocks", sum(len(each.blocks) > 1 for each in cases))
    assert sum(each.compiled for each in cases) > len(cases) / 2


def mixed(sizes: tuple[Size, ...]) -> bool:
    ratios = [width / height for width, height in sizes]
    return min(ratios) < 0.75 and max(ratios) > 1.33


def sd_scripts_count(trainer: Trainer, cases: list[Case], folder: Path) -> list[dict[str, Any]]:
    asked, answer = folder / "cases.json", folder / "answer.json"
    told = [{"dataset": str(each.file), "options": each.options} for each in cases]
    asked.write_text(json.dumps(told), encoding="utf-8")
    env = make_child_env(read_environment(), drop=("PYTHON", "ACCELERATE"), HF_HUB_OFFLINE="1", PYTHONUTF8="1")
    argv = [str(trainer.python), str(COUNTER), str(asked), str(answer)]
    done = subprocess.run(argv, cwd=trainer.checkout, env=env, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode("utf-8", "replace")[-3000:]
    counted: list[dict[str, Any]] = json.loads(answer.read_text(encoding="utf-8"))
    return counted


def images_as_we_see_them(
    subsets: tuple[SubsetInput, ...],
    repeats: tuple[tuple[int, ...], ...],
    fits: tuple[SubsetFits, ...],
    folders: tuple[FolderFacts, ...],
) -> dict[str, list[Any]]:
    """Path -> repeats, caption, size, bucket, resized size and crop of every image that is used."""
    seen: dict[str, list[Any]] = {}
    for subset, each, placed, folder in zip(subsets, repeats, fits, folders, strict=True):
        for image, size, times, fit in zip(folder.images, subset.sizes, each, placed, strict=True):
            assert (fit is not None) is bool(times)
            if fit:
                caption = image.caption.text if image.caption.problem != "missing" else "thing"
                left, upper, right, lower = fit.crop
                seen[f"{folder.path}/{image.name}"] = [
                    times,
                    caption,
                    *map(list, (size, fit.bucket, fit.resized)),
                    [left, upper, right - left, lower - upper],
                ]
    return seen


def check_dataset(ours: Case, told: Forecast, theirs: list[dict[str, Any]]) -> int:
    """Counts, buckets and every image; returns how many images there were."""
    held = count_batches(ours.blocks)
    assert told.batches_per_epoch == sum(each["length"] for each in theirs)
    assert told.train_samples == sum(each["train"] for each in theirs)
    buckets = [[bucket.width, bucket.height, bucket.samples, bucket.batches] for bucket in told.buckets]
    assert buckets == [bucket for each in theirs for bucket in each["buckets"]]
    assert sum(bucket.pictures for bucket in told.buckets) == sum(each["pictures"] for each in theirs)
    start, images = 0, 0
    for folders, each in zip(ours.folders, theirs, strict=True):
        part = slice(start, start + len(folders))
        start += len(folders)
        mine = images_as_we_see_them(held.subsets[part], held.repeats[part], held.fits[part], folders)
        assert mine == {key: rest for key, *rest in each["images"]}
        images += len(mine)
        if each["read"]:
            path, _, left = each["read"]
            assert left == mine[path][3], "the picture that was really resized is not of its bucket's size"
    return images


def check_training(told: Forecast, theirs: dict[str, Any], cycles: int) -> None:
    """Steps, epochs, warm-up, restarts, files, and how batches were dealt and gathered."""
    assert (told.steps, told.epochs) == (theirs["steps"], theirs["epochs"])
    assert theirs["done"] == told.steps, "accelerate made another number of steps than sd-scripts reckons"
    dealing = told.dealing
    assert dealing
    assert dealing.repeated_batches == theirs["repeated"]
    whole = theirs["ends"] if told.steps % told.steps_per_epoch == 0 else theirs["ends"][:-1]
    assert set(whole) <= {dealing.last_step_batches}
    assert [[save.file, save.step] for save in told.saves] == theirs["files"]
    assert sorted(save.file for save in told.saves if save.kept) == theirs["kept"]
    check_rates(told, theirs["rates"], dealing.processes, cycles)


def check_rates(told: Forecast, rates: list[float], processes: int, cycles: int) -> None:
    """The scheduler moves once per process and step: where its rate rises, it warms up at first and restarts later."""
    assert len(rates) == told.steps * processes + 1
    rises = [tick for tick, (before, after) in enumerate(pairwise(rates), start=1) if after > before]
    warm = next((at for at in range(len(rises) + 1) if rises[at : at + 1] != [at + 1]), 0)
    if (len(rates) - warm) / cycles < 3:  # it would restart at every tick, which no rise could tell from a warm-up
        return
    assert told.warmup_steps == -(-warm // processes), "the warm-up"
    peaks = dict.fromkeys(-(-tick // processes) for tick in (warm, *rises[warm:]))
    assert list(told.restarts) == [step for step in peaks if step < told.steps], "the restarts"


def test_the_forecast_equals_sd_scripts_own_count(trainer: Trainer, tmp_path: Path) -> None:
    wanted = int(read_environment().get("LORABAKE_TEST_DATASETS", "100"))
    cases = [case(tmp_path / f"case{seed}", seed) for seed in range(wanted)]
    if wanted >= LEAST:
        covered(cases)
    answers = sd_scripts_count(trainer, cases, tmp_path)
    assert len(answers) == len(cases)
    images = steps = 0
    for ours, theirs in zip(cases, answers, strict=True):
        images += check_dataset(ours, ours.told, theirs["blocks"])
        check_training(ours.told, theirs["training"], ours.options["lr_scheduler_num_cycles"])
        steps += ours.told.steps
    whole = sum(each.compiled for each in cases)
    print(f"\n{len(cases)} datasets ({whole} compiled from recipes), {images} pictures, {steps} steps: no difference")
