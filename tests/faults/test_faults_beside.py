"""What the real sd-scripts does with faulty sets, compared with lorabake's findings.

The sets are those of faulty_sets.py; sd-scripts' own dataset code of the pin runs on a dataset file
as a person would write it. The table that this prints is the one in docs/faults.md.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import faulty_sets
import pytest
import tomli_w
from click.testing import CliRunner

from lorabake.cli import main
from lorabake.trainer.install import Trainer
from lorabake.util.environment import make_child_env, read_environment

pytestmark = pytest.mark.real
BEHAVE = Path(__file__).with_name("behave_with_sd_scripts.py")
FAULTS = {fault.name: fault for fault in faulty_sets.FAULTS}
Answer = dict[str, Any]


def stops(words: str) -> Callable[[Answer], bool]:
    return lambda answer: words in answer["stopped"]


def picture(name: str, holds: Callable[[Answer], bool]) -> Callable[[Answer], bool]:
    """sd-scripts uses the one image of this name, and ``holds`` is true of it."""
    return lambda answer: not answer["stopped"] and holds(answer["pictures"][f"pictures/{name}"])


def number(count: int) -> Callable[[Answer], bool]:
    return lambda answer: not answer["stopped"] and len(answer["pictures"]) == count


@dataclass(frozen=True)
class Deed:
    """What sd-scripts did: a text for the table, and how it is checked."""

    fault: str
    did: str
    shown: Callable[[Answer], bool]


ALL = faulty_sets.COUNT
DEEDS = (
    Deed("one-level-too-high", "trained on nothing: 0 pictures, no error", number(0)),
    Deed("only-unknown-formats", "trained on nothing: 0 pictures, no error", number(0)),
    Deed("same-folder-twice", "dropped the second concept", number(ALL)),
    Deed("ending-in-mixed-case", "passed over the picture, without a word", number(ALL - 1)),
    Deed("sub-folder-beside", "passed over the sub-folder, without a word", number(ALL - 1)),
    Deed("not-a-picture", "stopped over its size of 0 x 0", stops("ZeroDivisionError")),
    Deed("png-cut-short", "stopped when that picture's turn came", picture(
        "07.png", lambda one: "truncated" in one["failed"] or "broken" in one["failed"])),
    Deed("jpeg-cut-short", "stopped when that picture's turn came", picture(
        "07.jpg", lambda one: "truncated" in one["failed"])),
    Deed("damaged-inside", "stopped when that picture's turn came", picture("07.png", lambda one: bool(one["failed"]))),
    Deed("wrong-ending", "trained it all the same", picture("07.jpg", lambda one: not one["failed"])),
    Deed("transparent", "trained the colours that the transparency hid", picture(
        "07.png", lambda one: one["corner"] == list(faulty_sets.picture(7).tobytes()[:3]))),
    Deed("turned-by-exif", "trained it lying on its side", picture(
        "07.jpg", lambda one: one["true_size"] == [896, 640])),
    Deed("too-small", "enlarged it almost four times", picture("07.png", lambda one: one["scale"] > 2)),
    Deed("panorama", "cut almost half of it away", picture("07.png", lambda one: one["kept"] < 0.55)),
    Deed("old-latents-of-another-size", "believed the size in the name of the old file", picture(
        "07.png", lambda one: one["size"] == [512, 512] != one["true_size"])),
    Deed("caption-missing", "trained it as the class token alone", picture(
        "07.png", lambda one: one["caption"] == "lighthouse")),
    Deed("caption-empty", "stopped", stops("AssertionError")),
    Deed("caption-not-utf8", "stopped", stops("UnicodeDecodeError")),
    Deed("caption-with-a-mark", "kept the mark as part of the first tag", picture(
        "07.png", lambda one: one["caption"].startswith("\ufeff"))),
    Deed("caption-blank", "trained it with an empty caption", picture("07.png", lambda one: one["caption"] == "")),
    Deed("caption-with-more-lines", "took the first line alone", picture(
        "07.png", lambda one: "second thought" not in one["caption"])),
    Deed("caption-of-another-picture", "took the caption of lum.txt", picture(
        "lum_a_b_c_7.png", lambda one: one["caption"] == faulty_sets.caption(7))),
    Deed("caption-ending-in-capitals", "trained it as the class token alone", picture(
        "07.png", lambda one: one["caption"] == "lighthouse")),
    Deed("one-stem-twice", "gave both pictures one caption", picture(
        "07.jpg", lambda one: one["caption"] == faulty_sets.caption(7))),
)  # fmt: skip


@pytest.fixture(scope="module")
def beside(trainer: Trainer, tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Answer, Answer]]:
    """For each fault what sd-scripts did, and lorabake's first finding."""
    root = tmp_path_factory.mktemp("beside")
    files, findings = list[Path](), list[Answer]()
    for deed in DEEDS:
        fault, project = FAULTS[deed.fault], root / deed.fault
        faulty_sets.write(project)
        fault.spoil(project)
        (project / "recipe.toml").write_text(faulty_sets.recipe(fault), "utf-8")
        findings.append(said(project / "recipe.toml", fault))
        files.append(dataset_file(project))
    answer = root / "answer.json"
    env = make_child_env(read_environment(), drop=("PYTHON",), HF_HUB_OFFLINE="1", PYTHONUTF8="1")
    argv = [str(trainer.python), str(BEHAVE), str(answer), *map(str, files)]
    done = subprocess.run(argv, cwd=trainer.checkout, env=env, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode("utf-8", "replace")[-3000:]
    answers = json.loads(answer.read_text("utf-8"))
    return {deed.fault: both for deed, both in zip(DEEDS, zip(answers, findings, strict=True), strict=True)}


def said(recipe: Path, fault: faulty_sets.Fault) -> Answer:
    done = CliRunner().invoke(main, ["check", str(recipe), "--json", *(["--deep"] if fault.deep else [])])
    found: list[Answer] = [each for each in json.loads(done.stdout)["findings"] if each["rule"] == fault.rule]
    return found[0]


def dataset_file(project: Path) -> Path:
    """The dataset TOML that somebody without lorabake would write for the project."""
    subset = {
        "image_dir": str(project / "pictures"),
        "class_tokens": "lighthouse",
        "caption_extension": ".txt",
        "num_repeats": 1,
    }
    subsets = [subset, subset] if project.name == "same-folder-twice" else [subset]
    sizes = {"resolution": 768, "enable_bucket": True, "min_bucket_reso": 256, "max_bucket_reso": 1024}
    path = project / "dataset.toml"
    path.write_text(tomli_w.dumps({"datasets": [{**sizes, "batch_size": 1, "subsets": subsets}]}), "utf-8")
    return path


@pytest.mark.parametrize("deed", DEEDS, ids=lambda deed: deed.fault)
def test_sd_scripts_does_what_the_finding_warns_of(deed: Deed, beside: dict[str, tuple[Answer, Answer]]) -> None:
    answer, finding = beside[deed.fault]
    print(f"{deed.fault} | sd-scripts {deed.did} | {finding['severity']}[{finding['rule']}] {finding['message']}")
    assert deed.shown(answer), answer
