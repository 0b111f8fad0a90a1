"""The forecast, the captions and the sizes against sd-scripts' own dataset code, image by image.

``LORABAKE_TEST_DATASETS`` sets how many generated datasets are compared (25 by default).
"""

from __future__ import annotations

import json
import random
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import pytest
import tomli_w
from PIL import Image

from lorabake.planning.buckets import BucketRules, placer
from lorabake.planning.forecast import Schedule, forecast
from lorabake.planning.samples import DatasetBlock, SubsetInput, effective_repeats
from lorabake.process import child_env, own_environment
from lorabake.reading.dataset import scan
from lorabake_schemas.caches import seen_sizes
from lorabake_schemas.dataset import FolderFacts
from lorabake_schemas.fits import Size

pytestmark = pytest.mark.real
COUNTER = Path(__file__).with_name("count_with_sd_scripts.py")
SIDES = (512, 640, 704, 768, 1024)


class Trainer(Protocol):
    """What these tests need of the ``trainer`` fixture."""

    @property
    def python(self) -> Path: ...
    @property
    def checkout(self) -> Path: ...


@dataclass(frozen=True)
class Case:
    """One generated dataset: the TOML as compiled, and our view of each of its blocks."""

    file: Path
    blocks: tuple[DatasetBlock, ...]
    folders: tuple[tuple[FolderFacts, ...], ...]


def picture(folder: Path, number: int, dice: random.Random) -> None:
    longest = dice.choice((300, 700, 1500, 2600))
    size = (dice.randint(200, longest), dice.randint(200, longest))
    stem = dice.choice((f"{number}", f"im {number}", f"a_b_c_{number}_d_e", f"Über.{number}"))
    suffix = dice.choice((".png", ".PNG", ".jpg", ".webp", ".bmp", ".Jpeg")) if number else ".png"  # .Jpeg is not seen
    mode = "1" if suffix in {".png", ".PNG", ".bmp"} else "L" if suffix != ".webp" else dice.choice(("L", "RGBA"))
    Image.new(mode, size).save(folder / (stem + suffix), format="JPEG" if suffix == ".Jpeg" else None)
    first = dice.choice(("tok, blue eyes", "  tok ", "\ufefftok, bom", "", "tok, maçã\r"))
    if dice.random() < 0.9:
        text = first + dice.choice(("", "\n", "\nsecond line\n"))
        (folder / (stem + ".txt")).write_bytes((text or "\n").encode())
    if dice.random() < 0.05:
        (folder / f"{stem}_{size[1]:04d}x{size[0]:04d}_sd.npz").write_bytes(b"")


def block(folder: Path, dice: random.Random) -> tuple[dict[str, Any], DatasetBlock, tuple[FolderFacts, ...]]:
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
    batch_size = dice.randint(1, 8)
    tables, inputs, facts = list[dict[str, Any]](), list[SubsetInput](), list[FolderFacts]()
    for at in range(dice.randint(1, 4)):
        images = folder / f"set{at}"
        images.mkdir(parents=True)
        for number in range(dice.randint(1, 14)):
            picture(images, number, dice)
        is_reg, repeats = at > 0 and dice.random() < 0.4, dice.choice((1, 1, 2, 3, 10))
        found = scan(images, ".txt")
        facts.append(found)
        inputs.append(SubsetInput(images.name, seen_sizes(found, "_sd.npz"), repeats, is_reg))
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


def case(folder: Path, seed: int) -> Case:
    dice = random.Random(seed)  # noqa: S311 - the same datasets every time
    made = [block(folder / f"block{at}", dice) for at in range(2 if dice.random() < 0.2 else 1)]
    file = folder / "dataset.toml"
    file.write_text(tomli_w.dumps({"datasets": [table for table, _, _ in made]}), encoding="utf-8")
    return Case(file, tuple(ours for _, ours, _ in made), tuple(facts for _, _, facts in made))


def images_as_we_see_them(ours: DatasetBlock, folders: tuple[FolderFacts, ...]) -> dict[str, list[Any]]:
    """Path -> repeats, caption, size, bucket, resized size of every image that is used."""
    place = placer(ours.rules)
    seen: dict[str, list[Any]] = {}
    for subset, each, folder in zip(ours.subsets, effective_repeats(ours.subsets), folders, strict=True):
        for image, size, repeats in zip(folder.images, subset.sizes, each, strict=True):
            if repeats:
                caption = image.caption.text if image.caption.problem != "missing" else "thing"
                placed = place(size)
                seen[f"{folder.path}/{image.name}"] = [
                    repeats,
                    caption,
                    list(size),
                    list(placed.bucket),
                    list(placed.resized),
                ]
    return seen


def sd_scripts_count(trainer: Trainer, cases: list[Case], answer: Path) -> list[list[dict[str, Any]]]:
    env = child_env(own_environment(), drop=("PYTHON",), HF_HUB_OFFLINE="1", PYTHONUTF8="1")
    argv = [str(trainer.python), str(COUNTER), str(answer), *(str(each.file) for each in cases)]
    done = subprocess.run(argv, cwd=trainer.checkout, env=env, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode("utf-8", "replace")[-3000:]
    counted: list[list[dict[str, Any]]] = json.loads(answer.read_text(encoding="utf-8"))
    return counted


def test_the_forecast_equals_sd_scripts_own_count(trainer: Trainer, tmp_path: Path) -> None:
    wanted = int(own_environment().get("LORABAKE_TEST_DATASETS", "25"))
    cases = [case(tmp_path / f"case{seed}", seed) for seed in range(wanted)]
    answers = sd_scripts_count(trainer, cases, tmp_path / "answer.json")
    assert len(answers) == len(cases) >= 25
    for ours, theirs in zip(cases, answers, strict=True):
        told = forecast(ours.blocks, Schedule("x", max_train_epochs=1))
        assert told.batches_per_epoch == sum(each["length"] for each in theirs), ours.file
        assert told.train_samples == sum(each["train"] for each in theirs), ours.file
        buckets = [[bucket.width, bucket.height, bucket.samples] for bucket in told.buckets]
        assert buckets == [bucket for each in theirs for bucket in each["buckets"]], ours.file
        for mine, folders, each in zip(ours.blocks, ours.folders, theirs, strict=True):
            assert images_as_we_see_them(mine, folders) == {key: rest for key, *rest in each["images"]}, ours.file
