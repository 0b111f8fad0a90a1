"""The forecast, the captions, the sizes and the steps against sd-scripts' own code, dataset by dataset.

A dataset of one block is the compiled file of a recipe, and its forecast the plan's; one of several blocks, or with
settings that no recipe may have, is written here. ``LORABAKE_TEST_DATASETS`` sets how many are compared (100).
"""

from __future__ import annotations

import json
import random
import subprocess
import tomllib
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Protocol

import pytest
import tomli_w
from PIL import Image
from pydantic import ValidationError

from lorabake.inputs.dataset import ScanOptions, scan_folder, scan_folders
from lorabake.inputs.survey import describe_folder
from lorabake.planning.batches import DatasetBlock, SubsetInput, count_batches
from lorabake.planning.buckets import BucketRules
from lorabake.planning.compile import compile_plan
from lorabake.planning.dataset_blocks import count_blocks, image_size_reader
from lorabake.planning.forecast import Schedule, forecast_from_counts
from lorabake.planning.resolve import resolve_plan
from lorabake.util import resources
from lorabake.util.environment import make_child_env, read_environment
from lorabake_schemas.bucket_fit import Size, SubsetFits
from lorabake_schemas.caches import find_image_sizes
from lorabake_schemas.dataset import FolderFacts
from lorabake_schemas.guide.defaults import format_class_tokens, group_concepts, resolve_family
from lorabake_schemas.guide.resolutions import list_training_resolutions
from lorabake_schemas.machine import AttentionProbe, BaseFacts, MachineFacts
from lorabake_schemas.plan import Forecast, SubsetPlan
from lorabake_schemas.recipe import Recipe
from lorabake_schemas.sd_scripts import split_validation

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
    train_network.py that its formulas and its scheduler read. ``words`` are the class tokens of each subset, ``recipe``
    what it was compiled from."""

    file: Path
    blocks: tuple[DatasetBlock, ...]
    folders: tuple[tuple[FolderFacts, ...], ...]
    words: tuple[tuple[str, ...], ...]
    told: Forecast
    options: dict[str, Any]
    recipe: Recipe | None


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
    if count == 1 and (recipe := recipe_of(blocks[0], folders[0], trained, seed)):
        return compiled(folder, recipe)
    file = folder / "dataset.toml"
    file.write_text(tomli_w.dumps({"datasets": [table for table, _, _ in made]}), encoding="utf-8")
    options = asdict(trained) | {"lr_scheduler_num_cycles": trained.cycles, "save_model_as": trained.extension}
    told = forecast_from_counts(count_batches(blocks), trained)
    words = tuple(tuple("thing" for _ in each) for each in folders)
    return Case(file, blocks, folders, words, told, READ | options, None)


def recipe_of(block: DatasetBlock, folders: tuple[FolderFacts, ...], trained: Schedule, seed: int) -> Recipe | None:
    """A recipe of these folders; None where a recipe may not (a resolution that is no multiple of the step)."""
    dice = random.Random(f"recipe {seed}")  # noqa: S311 - the same recipes every time
    rules = block.rules
    parts = [
        (subset.is_reg, {"images": folder.path, "num_repeats": subset.num_repeats})
        for subset, folder in zip(block.subsets, folders, strict=True)
    ]
    concepts = [varied(part, rules, dice) for is_reg, part in parts if not is_reg]
    if dice.random() < 0.3:  # the first folder once more, at another resolution
        concepts.append(concepts[0] | {"resolution": dice.choice([side for side in SIDES if side % 128 == 0])})
    sides: list[int | list[int]] = [list(rules.resolution), *dice.sample(SIDES, dice.choice((0, 0, 1, 2)))]
    several = {"resolutions": sides} if len(sides) > 1 else {"resolution": sides[0]}
    own = [concept["resolution"] for concept in concepts if "resolution" in concept]
    batches = [block.batch_size, *(dice.randint(1, 8) for _ in sides[1:])]
    train = several | {
        "optimizer": "AdamW",
        "train_batch_size": batches if len(sides) > 1 and not own else block.batch_size,
        "lr_scheduler": "cosine_with_restarts",
        "lr_scheduler_num_cycles": trained.cycles,
        "lr_warmup_steps": trained.lr_warmup_steps,
        "enable_bucket": rules.enable_bucket,
        "bucket_no_upscale": rules.bucket_no_upscale,
        "min_bucket_reso": rules.min_bucket_reso,
        "max_bucket_reso": max(rules.max_bucket_reso, *(side for side in (*sides[1:], *own)), 0),
        "bucket_reso_steps": rules.bucket_reso_steps,
        **bucket_lists(sides, rules, dice),
        "gradient_accumulation_steps": trained.gradient_accumulation_steps,
    }
    saved = ("save_every_n_epochs", "save_every_n_steps", "save_last_n_epochs", "save_last_n_steps")
    length = {name: getattr(trained, name) for name in ("max_train_epochs", "max_train_steps")}
    table: dict[str, Any] = {
        "name": trained.output_name,
        "kind": "object",
        "base": {"model": "base.safetensors", "family": "sd15", "tags": dice.choice(("danbooru", "natural"))},
        "concept": concepts,
        "regularization": [
            {"class": "thing", **part} | ({"resolution": sides[-1]} if dice.random() < 0.3 else {})
            for is_reg, part in parts
            if is_reg
        ],
        "train": train | {name: value for name, value in length.items() if value},
        "save": {"save_model_as": trained.extension}
        | {name: value for name in saved if (value := getattr(trained, name)) is not None},
        "launch": {"num_processes": trained.num_processes},
    }
    alone = not any(concept.get("masks") or concept.get("metadata_file") for concept in concepts)  # S44
    if alone and dice.random() < 0.5:
        given: dict[str, Any] = {"validation_seed": dice.randint(0, 2**32 - 1)} if dice.random() < 0.5 else {}
        table["validation"] = {"validation_split": dice.choice((0.1, 0.2, 0.34, 0.5)), **given}
    try:
        recipe = Recipe.model_validate(table)
    except ValidationError:
        return None
    step = rules.bucket_reso_steps
    return None if any(side % step for side in own) or has_folder_twice(recipe) else recipe


def bucket_lists(sides: list[int | list[int]], rules: BucketRules, dice: random.Random) -> dict[str, Any]:
    """Limits of buckets with a value for each resolution, for some of the recipes with several."""
    if len(sides) == 1 or dice.random() < 0.5:
        return {}
    largest = [max(side) if isinstance(side, list) else side for side in sides]
    return {
        "min_bucket_reso": [rules.min_bucket_reso, *(dice.choice((128, 192, 256)) for _ in sides[1:])],
        "max_bucket_reso": [max(rules.max_bucket_reso, side + dice.choice((0, 64, 256))) for side in largest],
    }


def has_folder_twice(recipe: Recipe) -> bool:
    """At one resolution, which a recipe may not (S14)."""
    trained = list_training_resolutions(recipe, resolve_family(recipe, BaseFacts(kind="file", family="sd15")))
    named = [[recipe.concept[at].images for at in each.concepts] for each in trained]
    return any(len(set(folders)) < len(folders) for folders in named)


def varied(part: dict[str, Any], rules: BucketRules, dice: random.Random) -> dict[str, Any]:
    """A folder of one of two concepts or of a style without a token, perhaps without captions, or of its own size."""
    table = dict(part)
    if token := dice.choice(("thing", "thing", "other", None)):
        table["token"] = token
    if dice.random() < 0.4:
        table["class"] = "lamp"
    if dice.random() < 0.2:
        table["captions"] = "none"
    if dice.random() < 0.15:
        table["resolution"] = dice.choice(SIDES)
    if dice.random() < 0.15:
        table["enable_wildcard"] = True
    if (kind := dice.random()) < 0.15:
        table["masks"] = mask_images(Path(part["images"]))
    elif kind < 0.3:
        table |= {"metadata_file": list_images(Path(part["images"]), dice)}
    elif kind < 0.4:
        table["alpha_mask"] = True
    return table


def mask_images(images: Path) -> str:
    """A folder with a mask for each image; nothing here looks into them."""
    masks = images.with_name(f"{images.name}-masks")
    masks.mkdir(exist_ok=True)
    for image in scan_folder(images, ".txt").images:
        Image.new("L", (1, 1)).save(masks / f"{Path(image.name).stem}.png")
    return masks.as_posix()


def list_images(images: Path, dice: random.Random) -> str:
    """A metadata file with most of the images, by relative and absolute names, some with a size that is not theirs."""
    table: dict[str, dict[str, Any]] = {}
    for image in scan_folder(images, ".txt").images:
        if table and dice.random() < 0.2:
            continue
        entry: dict[str, Any] = dice.choice(
            ({"caption": "tok, a"}, {"tags": "b, c"}, {"caption": "tok, a\nd", "tags": "b"}, {})
        )
        relative = dice.random() < 0.5
        if not relative or dice.random() < 0.3:  # without a size, an absolute name could lead to a left-over cache
            entry = entry | {"image_size": [image.width, image.height + dice.choice((0, 0, 50))]}
        table[image.name if relative else (images / image.name).as_posix()] = entry
    file = images.with_name(f"{images.name}-{dice.randrange(10**6)}.json")
    file.write_text(json.dumps(table), "utf-8")
    return file.as_posix()


def compiled(folder: Path, recipe: Recipe) -> Case:
    """As `lorabake compile` writes it."""
    base = BaseFacts(kind="file", family="sd15")
    concepts, regularization = (
        [describe_folder(part, recipe, folder) for part in parts] for parts in (recipe.concept, recipe.regularization)
    )
    data = scan_folders(concepts, regularization, ScanOptions())
    plan = resolve_plan(recipe, base, data, MACHINE, AttentionProbe.without_gpu())
    made = compile_plan(plan, resources.load_script_options(plan.script), resources.load_dataset_options()).fill({})
    file = folder / "dataset.toml"
    file.write_bytes(made["dataset.toml"])
    options = READ | tomllib.loads(made["train.toml"].decode()) | {"num_processes": plan.launch.num_processes}
    blocks = count_blocks(
        plan.datasets, recipe, data, image_size_reader(recipe, resolve_family(recipe, base)), plan.train
    )
    folders = tuple(tuple(data.get_folder(part.table, part.index) for part in each.subsets) for each in plan.datasets)
    words = tuple(tuple(class_tokens(part) for part in each.subsets) for each in plan.datasets)
    return Case(file, blocks, folders, words, plan.forecast, options, recipe)


def class_tokens(part: SubsetPlan) -> str:
    return next((str(each.value) for each in part.settings if each.option == "class_tokens"), "")


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
    recipes = [each.recipe for each in cases if each.recipe]
    groups = [group for recipe in recipes for group in group_concepts(recipe)]
    concepts = [(recipe, concept) for recipe in recipes for concept in recipe.concept]
    often("several resolutions", sum(recipe.train.resolutions is not None for recipe in recipes))
    often("a batch size for each", sum(isinstance(recipe.train.train_batch_size, tuple) for recipe in recipes))
    often("limits of buckets for each resolution", sum(isinstance(r.train.max_bucket_reso, tuple) for r in recipes))
    often(
        "a regularization set's own resolution",
        sum(p.resolution is not None for r in recipes for p in r.regularization),
    )
    often("a concept's own resolution", sum(concept.resolution is not None for _, concept in concepts))
    often("several folders of a concept", sum(len(group) > 1 for group in groups))
    often("several concepts of a recipe", sum(len(group_concepts(recipe)) > 1 for recipe in recipes))
    often("one folder twice", sum(len({each.images for each in r.concept}) < len(r.concept) for r in recipes))
    often("no token", sum(concept.token is None for _, concept in concepts))
    often("neither token nor class", sum(not format_class_tokens(concept, recipe) for recipe, concept in concepts))
    for key in ("masks", "metadata_file", "alpha_mask", "enable_wildcard"):
        often(key, sum(bool(getattr(concept, key)) for _, concept in concepts))
    often("validation", sum(recipe.validation.validation_split is not None for recipe in recipes))
    often("no captions", sum(concept.captions == "none" for _, concept in concepts))
    assert len(recipes) > len(cases) / 2


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
    words: tuple[str, ...],
) -> dict[str, list[Any]]:
    """Path -> repeats, caption, size, bucket, resized size and crop of every image that is used."""
    seen: dict[str, list[Any]] = {}
    for subset, each, placed, folder, bare in zip(subsets, repeats, fits, folders, words, strict=True):
        for image, size, times, fit in zip(folder.images, subset.sizes, each, placed, strict=True):
            assert (fit is not None) is bool(times or subset.held_out)
            if fit and times:
                caption = "\n".join(image.caption.texts) if image.caption.problem != "missing" else bare
                left, upper, right, lower = fit.crop
                seen[f"{folder.path}/{image.name}"] = [
                    times,
                    caption,
                    *map(list, (size, fit.bucket, fit.resized)),
                    [left, upper, right - left, lower - upper],
                ]
    return seen


def list_tested_images(ours: Case, subsets: tuple[SubsetInput, ...], folders: tuple[FolderFacts, ...]) -> list[str]:
    """The paths of the images that a validation looks at."""
    share, seed = ours.options.get("validation_split") or 0.0, ours.options.get("validation_seed", 0)
    found = set[str]()
    for subset, folder in zip(subsets, folders, strict=True):
        if share and not subset.is_reg:
            places = split_validation(len(subset.sizes), share, seed)[1]
            found |= {f"{folder.path}/{folder.images[at].name}" for at in places}
    return sorted(found)


def check_dataset(ours: Case, told: Forecast, theirs: list[dict[str, Any]]) -> int:
    """Counts, buckets and every image; returns how many images there were."""
    held = count_batches(ours.blocks)
    assert told.batches_per_epoch == sum(each["length"] for each in theirs)
    assert told.train_samples == sum(each["train"] for each in theirs)
    buckets = [[bucket.width, bucket.height, bucket.samples, bucket.batches] for bucket in told.buckets]
    assert buckets == [bucket for each in theirs for bucket in each["buckets"]]
    assert sum(bucket.pictures for bucket in told.buckets) == sum(each["pictures"] for each in theirs)
    start, images = 0, 0
    for folders, words, each in zip(ours.folders, ours.words, theirs, strict=True):
        part = slice(start, start + len(folders))
        start += len(folders)
        mine = images_as_we_see_them(held.subsets[part], held.repeats[part], held.fits[part], folders, words)
        assert mine == {path: rest for path, *rest in each["images"]}
        assert list_tested_images(ours, held.subsets[part], folders) == each["tested"]
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
    whole = sum(each.recipe is not None for each in cases)
    print(f"\n{len(cases)} datasets ({whole} compiled from recipes), {images} pictures, {steps} steps: no difference")
