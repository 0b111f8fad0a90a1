"""Real trainings through lorabake's own command line: recipe in, LoRA of the pinned sd-scripts out.

Three run with every ``make test``; the matrix of optimizers, networks and families with ``make test-real``. Bases of
random weights are made once and kept beside the trainer. Each run adds a row to real-runs.md there.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import tomli_w
from PIL import Image
from safetensors import safe_open

from lorabake.analysis.check import check_recipe
from lorabake.exchange.trained import TrainerFacts, describe_plan, iter_differences
from lorabake.jobs import quickstart_files as quickstart
from lorabake.trainer.install import Trainer
from lorabake.util import machine, resources
from lorabake.util.environment import make_child_env, read_environment
from lorabake_schemas.families.registry import get_family
from lorabake_schemas.machine import Family
from lorabake_schemas.plan import Plan
from lorabake_schemas.record import Inputs, Record
from sample_images import draw_images, write_lighthouses

GB = 10**9
SHARE_OF_PICTURES = 4  # of each set, for the run with several
# Free disk that a base and a run of each family take.
DISK: dict[Family, int] = {"sd15": 3 * GB, "sd2": 3 * GB, "sdxl": 7 * GB}
LYCORIS_MEMORY = 5 * GB  # it computes whole changed weights of every layer and keeps them for the backward pass
UP = r"\.lora_up\.weight$"  # zero until trained, in networks.lora and in LyCORIS' LoRA, LoCon and DyLoRA
HEAD = "| run | steps | loss at the end | seconds | tensors moved off zero |\n|---|--:|--:|--:|--:|\n"


@dataclass(frozen=True)
class Case:
    """One run: what its recipe says beyond the common part, and ``grown``, the tensors that begin at zero. ``sized``:
    lorabake knows how large its file will be. ``alpha_mask``: the left half of the pictures is transparent, and
    whether that is a mask."""

    name: str
    network: dict[str, Any] = field(default_factory=dict[str, Any])
    train: dict[str, Any] = field(default_factory=dict[str, Any])
    family: Family = "sd15"
    v_prediction: bool = False
    both_concepts: bool = False
    grown: str = UP
    more: dict[str, Any] = field(default_factory=dict[str, Any])
    sized: bool = True
    alpha_mask: bool | None = None

    @property
    def base(self) -> str:
        return f"{self.family}-v" if self.v_prediction else self.family


@dataclass(frozen=True)
class Result:
    """What a run left: its record, its file's metadata, its tensors, its events."""

    record: Record
    metadata: dict[str, str]
    tensors: dict[str, np.ndarray[Any, Any]]
    events: tuple[dict[str, Any], ...]

    def grown(self, case: Case) -> tuple[int, int]:
        """How many of the tensors that start at zero have changed, and how many there are."""
        begun = [tensor for name, tensor in self.tensors.items() if re.search(case.grown, name)]
        return sum(bool(np.any(tensor)) for tensor in begun), len(begun)

    @property
    def losses(self) -> list[float]:
        return [float(event["loss_average"]) for event in self.events if event["event"] == "step"]


@pytest.fixture(scope="session")
def base_of(make_base: Callable[..., Path]) -> Callable[[Case], Path]:
    """A base of random weights for a case, made when it is first asked for."""

    def made(case: Case) -> Path:
        options = ("--v-prediction", "--zero-terminal-snr") if case.v_prediction else ()
        return make_base(case.family, case.base, *options)

    return made


@pytest.fixture(scope="session")
def table(cache: Path) -> Path:
    """The table of results, one row a run; a run of the same name replaces its row."""
    return cache / "real-runs.md"


def enter(table: Path, name: str, row: str) -> None:
    head = f"| {name} |"
    rows = table.read_text(encoding="utf-8").splitlines()[2:] if table.exists() else []
    rows = sorted([*(each for each in rows if not each.startswith(head)), f"{head} {row} |"])
    table.write_text(HEAD + "\n".join(rows) + "\n", encoding="utf-8")


def skip_where_too_small(case: Case, cache: Path) -> None:
    extra = LYCORIS_MEMORY if case.network.get("type", "lora") != "lora" else 0
    wanted = quickstart.resource_needs(case.family).memory_bytes + extra
    free = machine.get_available_memory()
    if free is not None and free < wanted:
        pytest.skip(f"{case.name} needs {wanted / GB:.1f} GB of memory, {free / GB:.1f} GB are free")
    disk = machine.get_free_disk(cache)
    if disk < DISK[case.family]:
        pytest.skip(f"{case.name} needs {DISK[case.family] / GB:.1f} GB of disk, {disk / GB:.1f} GB are free")


def clear_the_left(folder: Path) -> None:
    for path in folder.glob("*.png"):
        image = Image.open(path).convert("RGBA")
        image.paste((0, 0, 0, 0), (0, 0, image.width // 2, image.height))
        image.save(path)


def concepts(case: Case, folder: Path) -> dict[str, Any]:
    """The recipe's tables of images, whose images are drawn; paths are relative to the recipe."""
    write_lighthouses(folder / "lighthouse", SHARE_OF_PICTURES)
    tables: dict[str, Any] = {"concept": [{"token": "lumlighthouse", "class": "lighthouse", "images": "lighthouse"}]}
    if case.alpha_mask is not None:
        clear_the_left(folder / "lighthouse")
        tables["concept"][0]["alpha_mask"] = case.alpha_mask
    if case.both_concepts:
        draw_images(folder / "balloon", "skyballoon, balloon", SHARE_OF_PICTURES)
        tables["concept"].append({"token": "skyballoon", "class": "balloon", "images": "balloon"})
        draw_images(folder / "plain", "lighthouse", SHARE_OF_PICTURES)
        tables["regularization"] = [{"class": "lighthouse", "images": "plain"}]
    return tables


def write_recipe(case: Case, folder: Path, base: Path) -> Path:
    model = {
        "model": base.as_posix(),
        "family": case.family,
        "tags": "danbooru",
        "tokenizer_cache_dir": (base / "tokenizers").as_posix(),
    }
    train = {"optimizer": "AdamW", "resolution": 64, "max_train_steps": 4, "lr_warmup_steps": 0, **case.train}
    network = {"network_dim": 4, **case.network}
    content: dict[str, Any] = {
        "name": case.name,
        "kind": "object",
        "base": model,
        "network": {key: value for key, value in network.items() if value is not None},
        "train": {key: value for key, value in train.items() if value is not None},
        **concepts(case, folder),
        **case.more,
    }
    recipe = folder / "recipe.toml"
    recipe.write_text(tomli_w.dumps(content), encoding="utf-8")
    return recipe


def trained(recipe: Path, cache: Path, run: Path) -> Result:
    """Run it as a user would, and read what it left with other code than lorabake's."""
    env = make_child_env(read_environment(), HF_HUB_OFFLINE="1", LORABAKE_HOME=str(cache))
    argv = [sys.executable, "-m", "lorabake", "run", str(recipe), "--run-dir", str(run)]
    done = subprocess.run(argv, env=env, check=False, capture_output=True, text=True, encoding="utf-8")
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-6000:]
    record = Record.model_validate_json((run / "record.json").read_bytes())
    lora = run / "output" / f"{record.name}.safetensors"
    with cast("Any", safe_open)(lora, framework="numpy") as opened:
        tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118 - not a mapping
        metadata = dict(opened.metadata())
    events = tuple(json.loads(line) for line in (run / "events.jsonl").read_text(encoding="utf-8").splitlines())
    return Result(record, metadata, tensors, events)


def judge(case: Case, result: Result) -> None:
    record, metadata = result.record, result.metadata
    assert record.status == "finished"
    assert not record.rehearsal
    assert record.trainer.commit == resources.load_pin().commit
    assert int(metadata["ss_steps"]) == record.planned_steps > 0
    assert len(result.losses) == record.planned_steps
    assert all(math.isfinite(loss) for loss in result.losses)
    assert all(np.isfinite(tensor).all() for tensor in result.tensors.values())
    moved, begun = result.grown(case)
    assert begun > 0, sorted(result.tensors)[:8]
    assert moved > begun * 0.9
    frequency = json.loads(metadata["ss_tag_frequency"])
    assert frequency["lighthouse"]["lumlighthouse"] == SHARE_OF_PICTURES
    assert metadata["ss_seed"] == str(record.seed)


def go(case: Case, tmp_path: Path, cache: Path, base_of: Callable[[Case], Path], table: Path) -> Result:
    """One run from recipe to row."""
    skip_where_too_small(case, cache)
    recipe = write_recipe(case, tmp_path, base_of(case))
    began = time.monotonic()
    result = trained(recipe, cache, tmp_path / "run")
    seconds = time.monotonic() - began
    moved, begun = result.grown(case)
    loss = result.losses[-1] if result.losses else math.nan
    enter(table, case.name, f"{result.record.planned_steps} | {loss:.3f} | {seconds:.0f} | {moved} of {begun}")
    judge(case, result)
    foretold(case, recipe, result, tmp_path / "run" / "output" / f"{case.name}.safetensors")
    led_back(case, result, tmp_path / "run", cache)
    return result


def led_back(case: Case, result: Result, run: Path, cache: Path) -> None:
    """The file alone, copied under another name, leads to its settings and its run."""
    copy = shutil.copy(run / "output" / f"{case.name}.safetensors", run.parent / "elsewhere.safetensors")
    argv = [sys.executable, "-m", "lorabake", "inspect", str(copy), "--json", "--deep"]
    env = make_child_env(read_environment(), LORABAKE_HOME=str(cache))
    done = subprocess.run(argv, env=env, check=False, capture_output=True, text=True, encoding="utf-8")
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    (told,) = json.loads(done.stdout)["files"]
    assert (told["kind"], told["family"], told["remarks"]) == ("lora", case.family, [])
    assert told["digest"] == result.record.digest is not None
    plain = result.metadata["ss_network_module"].startswith("networks.")
    assert told["integrity"]["verdict"] == ("same" if plain else "not-comparable")
    assert told["integrity"]["not_finite"] == []
    assert "unet" in {part["name"] for part in told["network"]["parts"]}
    known = told["runs"][0]
    assert (known["folder"], known["likeness"]) == (str(run), "bytes")
    assert known["output"] == f"output/{case.name}.safetensors"


# What no LoRA can contain, and where its images and its model are.
UNKNOWABLE = frozenset({
    "image_dir", "metadata_file", "pretrained_model_name_or_path", "tokenizer_cache_dir", "caption_dropout_rate",
    "caption_tag_dropout_rate", "lr_scheduler_num_cycles", "save_every_n_steps", "save_every_n_epochs",
    "sample_prompts", "sample_every_n_steps",
})  # fmt: skip
RECOVERED = 40  # settings at least


def imported_back(case: Case, recipe: Path, run: Path, base: Path, cache: Path) -> None:
    """The LoRA alone, its images and its base model give a recipe that trains the same, but for what is unknowable."""
    lora, made = run / "output" / f"{case.name}.safetensors", recipe.parent / "imported.toml"
    argv = [sys.executable, "-m", "lorabake", "import", str(lora), "-o", str(made), "--images", str(recipe.parent)]
    env = make_child_env(read_environment(), LORABAKE_HOME=str(cache))
    done = subprocess.run(
        [*argv, "--model", str(base), "--json"], env=env, check=False, capture_output=True, text=True, encoding="utf-8"
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    missing = [line["key"] for line in json.loads(done.stdout)["missing"]]
    assert {key for key in missing if ", " not in key} <= {"base.model", "kind", "recipe", "metadata.comment"}
    found = [check_recipe(path, machine.detect_machine(read_environment())).plan for path in (recipe, made)]
    snapshot, family = resources.load_snapshot(), get_family(case.family)
    options = {option.name: option for option in snapshot.of(family.script)}
    facts = TrainerFacts(options, snapshot.dataset, snapshot.signatures, family)
    plans = [plan for plan in found if plan]
    assert len(plans) == 2
    one, two = (describe_plan(plan, facts) for plan in plans)
    assert {name for name, *_ in iter_differences(one, two)} <= UNKNOWABLE | {"max_train_epochs", "max_train_steps"}
    assert plans[0].forecast.steps == plans[1].forecast.steps  # whole epochs are written as epochs
    settings, again = ({(each.option, str(each.value)) for each in plan.train} for plan in plans)
    assert len(settings & again) + len(one.images[0]) >= RECOVERED


# Reads what sd-scripts wrote for TensorBoard with TensorBoard's own code, in the trainer's Python.
BOARD = """\
import json, sys
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
board = EventAccumulator(sys.argv[1])
board.Reload()
print(json.dumps([[[each.step, each.value] for each in board.Scalars(f"loss/{name}")] for name in sys.argv[2:]]))
"""


def equal_to_tensorboard(result: Result, run: Path, trainer: Trainer) -> None:
    """Each step has its own average and its own loss, to the last bit, though each was saved."""
    (file,) = run.glob("tensorboard/*/*/events.out.tfevents.*")
    argv = [str(trainer.python), "-c", BOARD, str(file), "average", "current"]
    done = subprocess.run(argv, check=True, capture_output=True, text=True, encoding="utf-8")
    average, current = json.loads(done.stdout.splitlines()[-1])
    steps = [event for event in result.events if event["event"] == "step"]
    assert [[event["step"], event["loss_average"]] for event in steps] == average
    assert [[event["step"], event["loss_current"]] for event in steps] == current
    assert sum(event["event"] == "saved" and "-step" in event["file"] for event in result.events) == len(steps) == 20


def assert_batches_as_planned(result: Result, folder: Path) -> Plan:
    """Every dataset has the buckets, and an epoch the batches, of the forecast; the plan."""
    plan = check_recipe(folder / "recipe.toml", machine.detect_machine(read_environment())).plan
    assert plan
    assert int(result.metadata["ss_num_batches_per_epoch"]) == plan.forecast.batches_per_epoch
    datasets = json.loads(result.metadata["ss_datasets"])
    counted = [
        sorted((bucket["resolution"], bucket["count"]) for bucket in each["bucket_info"]["buckets"].values())
        for each in datasets
    ]
    assert counted == [
        [([bucket.width, bucket.height], bucket.samples) for bucket in plan.forecast.buckets if bucket.dataset == at]
        for at in range(len(datasets))
    ]
    return plan


def foretold(case: Case, recipe: Path, result: Result, file: Path) -> None:
    """The plan knew how large the file would be, within 1 %."""
    plan = check_recipe(recipe, machine.detect_machine(read_environment())).plan
    assert plan
    told = plan.forecast.file_size
    assert (told is not None) is case.sized
    if told is None:
        return
    size = file.stat().st_size
    assert abs(told.tensor_bytes + told.header_bytes - size) < size / 100


PRODIGY = {"optimizer": "Prodigy", "lr_warmup_steps": None}
ABOUT = {
    "author": "Ana Ção; e amigos",
    "title": 'A "lighthouse" 灯台',
    "description": "-- begins with dashes\nand goes on",
    "license": "CC0-1.0",
    "tags": "lighthouse, test",
    "usage_hint": "with 'lumlighthouse' at 100%",
}
COMMENT = '--made for fun; 灯台 "quoted" $HOME\nsecond line'
SD15 = Case(
    "sd15-lora-prodigy",
    train={**PRODIGY, "max_train_steps": 20},
    more={
        "metadata": {**ABOUT, "comment": COMMENT},
        "save": {"save_every_n_steps": 1},
        "sample": {"prompts": ["lumlighthouse --w 64 --h 64 --s 2"], "sample_every_n_steps": 10},
    },
)
LOCON = Case(
    "sd15-locon-two-concepts",
    network={"type": "locon"},
    both_concepts=True,
    train={**PRODIGY, "max_train_steps": None, "max_train_epochs": 1, "train_batch_size": 4},
)
SDXL = Case("sdxl-lora", family="sdxl", train=PRODIGY)


@pytest.mark.real
def test_sd15_lora_with_prodigy(
    tmp_path: Path, cache: Path, base_of: Callable[[Case], Path], table: Path, trainer: Trainer
) -> None:
    result = go(SD15, tmp_path, cache, base_of, table)
    imported_back(SD15, tmp_path / "recipe.toml", tmp_path / "run", base_of(SD15), cache)
    equal_to_tensorboard(result, tmp_path / "run", trainer)
    assert result.metadata["ss_optimizer"].startswith("prodigyopt.prodigy.Prodigy")
    assert result.metadata["ss_network_module"] == "networks.lora"
    assert result.metadata["ss_base_model_version"].startswith("sd_v1")
    about = {key.removeprefix("modelspec."): text for key, text in result.metadata.items()}
    assert {key: about[key] for key in ABOUT} == ABOUT
    assert about["trigger_phrase"] == "lumlighthouse"
    assert result.metadata["ss_training_comment"] == f"{COMMENT}; lorabake sha256:{result.record.digest}"


@pytest.mark.real
def test_sd15_locon_with_two_concepts_and_regularization(
    tmp_path: Path, cache: Path, base_of: Callable[[Case], Path], table: Path
) -> None:
    result = go(LOCON, tmp_path, cache, base_of, table)
    imported_back(LOCON, tmp_path / "recipe.toml", tmp_path / "run", base_of(LOCON), cache)
    assert result.metadata["ss_network_module"] == "lycoris.kohya"
    assert json.loads(result.metadata["ss_tag_frequency"])["balloon"]["skyballoon"] == SHARE_OF_PICTURES
    assert int(result.metadata["ss_num_reg_images"]) > 0
    assert int(result.metadata["ss_steps"]) == SHARE_OF_PICTURES  # as many of the class as of both concepts, by fours
    assert any(tensor.ndim == 4 and tensor.shape[-1] == 3 for tensor in result.tensors.values())


@pytest.mark.real
def test_sdxl_lora(tmp_path: Path, cache: Path, base_of: Callable[[Case], Path], table: Path) -> None:
    result = go(SDXL, tmp_path, cache, base_of, table)
    assert result.metadata["ss_base_model_version"].startswith("sdxl")
    assert any(name.startswith("lora_te2_") for name in result.tensors)


SIZES = Case(
    "sd15-lora-two-resolutions",
    train={
        "resolution": None, "resolutions": [64, 128], "train_batch_size": [4, 2],
        "max_train_steps": None, "max_train_epochs": 1,
    },
    more={
        "concept": [
            {"token": "lumlighthouse", "class": "lighthouse", "images": "lighthouse"},
            {"token": "lumlighthouse", "class": "lighthouse", "images": "bare", "captions": "none", "resolution": 64},
        ]
    },
)  # fmt: skip


@pytest.mark.real
def test_sd15_lora_at_two_resolutions_with_a_folder_without_captions(
    tmp_path: Path, cache: Path, base_of: Callable[[Case], Path], table: Path
) -> None:
    """Each resolution is a dataset with the batches that were forecast; the second folder has caption files that are
    not read."""
    draw_images(tmp_path / "bare", "another caption", SHARE_OF_PICTURES // 2)
    result = go(SIZES, tmp_path, cache, base_of, table)
    assert_batches_as_planned(result, tmp_path)
    sizes = [(each["resolution"], each["batch_size_per_device"]) for each in json.loads(result.metadata["ss_datasets"])]
    assert sizes == [([64, 64], 4), ([128, 128], 2)]
    words = json.loads(result.metadata["ss_tag_frequency"])["bare"]
    assert words == {"lumlighthouse": SHARE_OF_PICTURES // 2, "lighthouse": SHARE_OF_PICTURES // 2}


LISTED = Case(
    "sd15-lora-metadata-file",
    train={"max_train_steps": None, "max_train_epochs": 1, "train_batch_size": 2},
    more={
        "concept": [
            {"token": "lumlighthouse", "class": "lighthouse", "images": "lighthouse"},
            {"token": "lumlighthouse", "class": "lighthouse", "images": "listed", "metadata_file": "listed.json"},
        ]
    },
)


@pytest.mark.real
def test_sd15_lora_with_a_metadata_file(
    tmp_path: Path, cache: Path, base_of: Callable[[Case], Path], table: Path
) -> None:
    """Its images are a dataset of their own, with the captions of the file and not those next to the images."""
    draw_images(tmp_path / "listed", "another caption", 3)
    entry = {"caption": "lumlighthouse", "tags": "lighthouse, drawing"}
    listed = {f"image{number:02d}.png": entry for number in (1, 2, 3)}
    (tmp_path / "listed.json").write_text(json.dumps(listed), encoding="utf-8")
    result = go(LISTED, tmp_path, cache, base_of, table)
    plan = assert_batches_as_planned(result, tmp_path)
    assert plan.forecast.batches_per_epoch == len(result.losses) == 4 > SHARE_OF_PICTURES // 2
    words = json.loads(result.metadata["ss_tag_frequency"])["listed.json"]  # of tags alone (train_util.py:2339)
    assert words == {"lighthouse": 3, "drawing": 3}


CLEAR = Case(
    "sd15-lora-alpha-mask",
    train={"max_train_steps": 2, "lr_scheduler": "constant"},
    more={"save": {"save_precision": "float"}, "launch": {"deterministic": True}},
)


@pytest.mark.real
def test_sd15_lora_with_alpha_masks(tmp_path: Path, cache: Path, base_of: Callable[[Case], Path], table: Path) -> None:
    """The same images with and without their transparency: the loss of the first step and nearly every weight differ,
    though both trainings are deterministic."""
    results = [
        go(replace(CLEAR, alpha_mask=masked), tmp_path / str(masked), cache, base_of, table) for masked in (True, False)
    ]
    for result, masked in zip(results, (True, False), strict=True):
        assert_batches_as_planned(result, tmp_path / str(masked))
    with_mask, without = results
    assert 0 < with_mask.losses[0] < without.losses[0]
    trained_tensors = [name for name in without.tensors if not name.endswith(".alpha")]
    moved = sum(not np.array_equal(with_mask.tensors[name], without.tensors[name]) for name in trained_tensors)
    assert moved > len(trained_tensors) * 0.9


OLD = Case(
    "sd15-lora-to-continue",
    network={"network_dim": 6, "network_alpha": 3, "network_train_unet_only": True},
    train={"learning_rate": 1e-2, "lr_scheduler": "constant", "max_train_steps": 3},
    more={"save": {"save_precision": "float"}},
)
NEW_RATE = 1e-5
NEW = Case(
    "sd15-lora-continued",
    network={"network_dim": None, "network_weights": "old.safetensors"},
    train={"learning_rate": NEW_RATE, "lr_scheduler": "constant", "max_train_steps": 1},
    more={"save": {"save_precision": "float"}},
)


@pytest.mark.real
def test_sd15_lora_continued(tmp_path: Path, cache: Path, base_of: Callable[[Case], Path], table: Path) -> None:
    """Rank, alpha and parts are those of the file, and one step moves its weights by no more than the rate."""
    (tmp_path / "new").mkdir()
    old = go(OLD, tmp_path / "old", cache, base_of, table)
    file = shutil.copy(
        tmp_path / "old" / "run" / "output" / f"{OLD.name}.safetensors", tmp_path / "new" / "old.safetensors"
    )
    new = go(NEW, tmp_path / "new", cache, base_of, table)
    assert new.tensors.keys() == old.tensors.keys()
    for key in ("ss_network_module", "ss_network_dim", "ss_network_alpha"):
        assert new.metadata[key] == old.metadata[key], key
    furthest = {name: float(np.abs(tensor - old.tensors[name]).max()) for name, tensor in new.tensors.items()}
    assert 0 < max(furthest.values()) <= NEW_RATE * 1.1
    ups = [float(np.abs(tensor).max()) for name, tensor in old.tensors.items() if re.search(UP, name)]
    assert max(ups) > 100 * NEW_RATE
    inputs = Inputs.model_validate_json((tmp_path / "new" / "run" / "inputs.json").read_bytes())
    (started_from,) = (each for each in inputs.inputs if each.role == "network_weights")
    assert started_from.digest().sha256 == hashlib.sha256(Path(file).read_bytes()).hexdigest()


PLUS_RATE, PLUS_RATIO = 1e-3, 16
PLUS = Case(
    "sd15-lora-plus",
    network={"args": {"loraplus_lr_ratio": PLUS_RATIO, "down_lr_weight": [0] * 6 + [1] * 6, "mid_lr_weight": 1}},
    train={"learning_rate": PLUS_RATE, "lr_scheduler": "constant", "max_train_steps": 2},
    more={"save": {"save_precision": "float"}},
    sized=False,
)


@pytest.mark.real
def test_sd15_lora_plus_with_block_weights(
    tmp_path: Path, cache: Path, base_of: Callable[[Case], Path], table: Path
) -> None:
    """LoRA+ moves the up matrices 16 times as far as the rate in each of AdamW's first steps; a weight of 0 leaves a
    block out."""
    result = go(PLUS, tmp_path, cache, base_of, table)
    ups = {name: tensor for name, tensor in result.tensors.items() if re.search(UP, name)}
    furthest = max(float(np.abs(tensor).max()) for tensor in ups.values())
    assert math.isclose(furthest, 2 * PLUS_RATE * PLUS_RATIO, rel_tol=0.05)
    trained_blocks = {found[1] for name in ups if (found := re.match(r"lora_unet_down_blocks_(\d)", name))}
    assert trained_blocks == {"2"}


# Those for which the guide and lorabake have no learning rate, and the ones of its own choice.
RATES = {
    "Lion": 1e-4,
    "SGDNesterov": 1e-2,
    "SGDScheduleFree": 1e-1,
    "RAdamScheduleFree": 1e-3,
    "AdamWScheduleFree": 1e-3,
    "CAME": 1e-4,
    "torch.optim.NAdam": 1e-4,
}


def with_optimizer(name: str) -> Case:
    """Saved in full precision: in four steps some SGD moves weights by less than fp16 can represent."""
    rate = {"learning_rate": RATES[name]} if name in RATES else {}
    steps = {"max_train_steps": 10} if name == "RAdamScheduleFree" else {}  # it only watches during the first five
    exact = {"save": {"save_precision": "float"}}
    return Case(f"sd15-{name.rpartition('.')[2]}", train={"optimizer": name, **rate, **steps}, more=exact)


OPTIMIZERS = tuple(
    with_optimizer(name)
    for name in (
        "AdamW",
        "Adafactor",
        "DAdaptation",
        "DAdaptAdamPreprint",
        "DAdaptAdaGrad",
        "DAdaptAdam",
        "DAdaptAdan",
        "DAdaptAdanIP",
        "DAdaptLion",
        "DAdaptSGD",
        "prodigyplus.ProdigyPlusScheduleFree",
        *RATES,
    )
)
SHORT = {"max_train_steps": 2}  # a step of a LyCORIS network takes ten times that of a LoRA on the CPU
NETWORKS = (
    Case("sd15-lora-conv", network={"type": "lora", "conv_dim": 4}),
    Case("sd15-locon", network={"type": "locon"}, train=SHORT),
    Case("sd15-locon-dora", network={"type": "locon", "dora_wd": True}, train=SHORT),
    Case("sd15-loha", network={"type": "loha"}, train=SHORT, grown=r"\.hada_w2_a$"),
    Case("sd15-lokr", network={"type": "lokr"}, train=SHORT, grown=r"\.lokr_w2(_b)?$"),
    Case("sd15-dylora", network={"type": "dylora", "block_size": 2}, train=SHORT),
    Case("sd15-glora", network={"type": "glora"}, train=SHORT, grown=r"\.[ab]2\.weight$"),
    Case("sd15-ia3", network={"type": "ia3", "network_dim": 1}, train=SHORT, grown=r"\.weight$"),
    Case("sd15-diag-oft", network={"type": "diag-oft"}, train=SHORT, grown=r"\.oft_blocks$"),
    Case("sd15-full", network={"type": "full", "preset": "attn-only"}, train=SHORT, grown=r"\.diff$"),
    Case(
        "sd15-boft",
        network={"type": "boft", "network_dim": 16, "preset": "attn-only"},
        train=SHORT,
        grown=r"\.oft_blocks$",
    ),
    Case("sd15-networks-oft", network={"type": "networks.oft"}, train=SHORT, grown=r"\.oft_blocks$", sized=False),
    Case("sd15-networks-lora-fa", network={"type": "networks.lora_fa"}, train=SHORT, sized=False),
    Case("sd15-unet-only", network={"network_train_unet_only": True}),
    Case("sd15-style-unet-only", network={"network_train_unet_only": True}, train=SHORT, more={"kind": "style"}),
)
FAMILIES = (
    Case("sd15-v-prediction-zero-snr", v_prediction=True),
    Case("sd2", family="sd2"),
    Case("sd2-v-prediction-zero-snr", family="sd2", v_prediction=True),
    Case("sdxl-locon", family="sdxl", network={"type": "locon"}, train=SHORT),
    Case("sdxl-v-prediction-zero-snr", family="sdxl", v_prediction=True, train=SHORT),
)


@pytest.mark.matrix
@pytest.mark.parametrize("case", [*OPTIMIZERS, *NETWORKS, *FAMILIES], ids=lambda case: case.name)
def test_matrix(case: Case, tmp_path: Path, cache: Path, base_of: Callable[[Case], Path], table: Path) -> None:
    result = go(case, tmp_path, cache, base_of, table)
    if case.v_prediction:
        assert result.metadata["ss_zero_terminal_snr"] == "True"
        assert result.metadata["modelspec.prediction_type"] == "v"
