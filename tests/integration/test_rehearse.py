"""The rehearsal as a real child process, its log read by the real progress parser."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import tomli_w
from PIL import Image

from lorabake.inputs.dataset import scan_folder
from lorabake.jobs.rehearsal import BANNER
from lorabake.jobs.rehearsal_input import read_rehearsal
from lorabake.runs.log.parser import LogParser
from lorabake.util.environment import read_environment
from lorabake.util.process import CommandOutput, capture_output
from lorabake_schemas.bucket_fit import Size
from lorabake_schemas.caches import find_image_sizes
from lorabake_schemas.events import Epoch, Step
from lorabake_schemas.families.registry import get_family
from lorabake_schemas.machine import Family

TRAIN: dict[str, Any] = {"output_dir": "output", "output_name": "hmb", "max_train_epochs": 2}


def images(folder: Path, count: int = 3, size: tuple[int, int] = (90, 60), suffix: str = ".png") -> Path:
    folder.mkdir(parents=True)
    for number in range(count):
        Image.effect_noise(size, 20).save(folder / f"{number}{suffix}")
        (folder / f"{number}.txt").write_text("hmb, food")
    return folder


def dataset(*subsets: dict[str, Any], **options: Any) -> dict[str, Any]:
    block = {
        "resolution": 128,
        "batch_size": 2,
        "enable_bucket": True,
        "min_bucket_reso": 64,
        "max_bucket_reso": 256,
        "caption_extension": ".txt",
    }
    return {"datasets": [{**block, **options, "subsets": list(subsets)}]}


def rehearse(folder: Path, data: dict[str, Any], train: dict[str, Any], *flags: str) -> CommandOutput:
    (folder / "train.toml").write_text(tomli_w.dumps(train))
    (folder / "dataset.toml").write_text(tomli_w.dumps(data))
    return capture_output(argv(*flags), cwd=folder, env=read_environment(), timeout=60)


def argv(*flags: str) -> list[str]:
    files = ("--config_file", "train.toml", "--dataset_config", "dataset.toml")
    return [sys.executable, "-m", "lorabake.jobs.rehearsal", *files, *flags]


def test_it_walks_every_step_and_writes_nothing(tmp_path: Path) -> None:
    images(tmp_path / "pics")
    done = rehearse(tmp_path, dataset({"image_dir": "pics", "num_repeats": 3}), TRAIN | {"save_every_n_epochs": 1})
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[0] == BANNER
    assert done.stdout.splitlines()[-1] == "rehearsal finished: 10 steps walked, nothing was trained"
    assert "rehearsal: would save output/hmb-000001.safetensors" in done.stdout
    assert "rehearsal: would save output/hmb.safetensors" in done.stdout
    assert sorted(path.name for path in tmp_path.iterdir()) == ["dataset.toml", "pics", "train.toml"]
    assert len(list((tmp_path / "pics").iterdir())) == 6


def test_it_claims_neither_a_loss_nor_a_save(tmp_path: Path) -> None:
    images(tmp_path / "pics")
    done = rehearse(tmp_path, dataset({"image_dir": "pics"}), TRAIN)
    said = done.stdout + done.stderr
    assert not [word for word in ("avr_loss", "saving checkpoint", "model saved") if word in said]


def test_its_log_reads_like_sd_scripts(tmp_path: Path) -> None:
    images(tmp_path / "pics", 5)
    images(tmp_path / "reg", 2)
    data = dataset({"image_dir": "pics"}, {"image_dir": "reg", "is_reg": True, "class_tokens": "food"})
    done = rehearse(tmp_path, data, TRAIN | {"gradient_accumulation_steps": 2})
    parser = LogParser()
    events = parser.feed(done.stdout.encode()) + parser.feed(done.stderr.encode()) + parser.close()
    totals = parser.seen.totals
    assert totals is not None
    assert (totals.train_samples, totals.reg_samples, totals.batches_per_epoch) == (5, 2, 5)
    assert (totals.epochs, totals.steps) == (2, 6)
    assert parser.seen.step is not None
    assert (parser.seen.step.number, parser.seen.step.total, parser.seen.step.loss_average) == (6, 6, None)
    assert [event.number for event in events if isinstance(event, Epoch)] == [1, 2]
    assert [event.number for event in events if isinstance(event, Step)] == [1, 2, 3, 4, 5, 6]
    assert not parser.seen.saved
    assert parser.seen.saves == ()


def test_steps_and_step_saves_and_processes(tmp_path: Path) -> None:
    images(tmp_path / "pics", 8)
    train = {"output_name": "x", "save_every_n_steps": 2, "max_train_steps": 5, "save_model_as": "ckpt"}
    done = rehearse(tmp_path, dataset({"image_dir": "pics"}), {"some section": train}, "--num_processes", "2")
    assert "  num batches per epoch: 2\n" in done.stdout
    assert [line for line in done.stdout.splitlines() if "would save" in line] == [
        f"rehearsal: would save {name}.ckpt" for name in ("x-step00000002", "x-step00000004", "x")
    ]


def test_values_fall_back_to_the_train_file(tmp_path: Path) -> None:
    images(tmp_path / "pics", 4)
    data = {
        "general": {"caption_extension": ".txt"},
        "datasets": [{"subsets": [{"image_dir": (tmp_path / "pics").as_posix()}]}],
    }
    train = TRAIN | {"resolution": "64,64", "train_batch_size": 4, "enable_bucket": True, "min_bucket_reso": 64}
    done = rehearse(tmp_path, data, train)
    assert "total optimization steps: 2\n" in done.stdout, done.stderr


def failure(folder: Path, data: dict[str, Any], train: dict[str, Any] | None = None) -> str:
    done = rehearse(folder, data, TRAIN if train is None else train)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert "rehearsal finished" not in done.stdout
    return done.stderr


def test_a_truncated_image_stops_it(tmp_path: Path) -> None:
    bad = images(tmp_path / "pics", suffix=".jpg") / "1.jpg"
    bad.write_bytes(bad.read_bytes()[:-900])
    assert "1.jpg: cut off" in failure(tmp_path, dataset({"image_dir": "pics"}))


@pytest.mark.parametrize(("content", "words"), [(b"", "empty"), (b"ma\xe7\xe3", "not UTF-8")])
def test_a_bad_caption_stops_it(tmp_path: Path, content: bytes, words: str) -> None:
    (images(tmp_path / "pics") / "2.txt").write_bytes(content)
    assert f"2.png is {words}" in failure(tmp_path, dataset({"image_dir": "pics"}))


def test_a_image_without_a_header_stops_it(tmp_path: Path) -> None:
    (images(tmp_path / "pics") / "0.png").write_text("text")
    assert "pics/0.png: not an image" in failure(tmp_path, dataset({"image_dir": "pics"}))


@pytest.mark.parametrize(
    ("subset", "options", "words"),
    [
        ({"image_dir": "nowhere"}, {}, "nowhere: missing"),
        ({}, {}, "none given"),
        ({"image_dir": "pics", "num_repeats": 0}, {}, "no images to train on"),
        ({"image_dir": "pics", "num_repeats": True}, {}, "num_repeats is True"),
        ({"image_dir": "pics"}, {"resolution": "big"}, "resolution is 'big'"),
        ({"image_dir": "pics"}, {"resolution": True}, "resolution is True"),
        ({"image_dir": "pics"}, {"resolution": 512}, "above max_bucket_reso"),
        ({"image_dir": "pics"}, {"enable_bucket": False}, "90 x 60 pixels, not 128 x 128"),
    ],
)
def test_a_dataset_that_cannot_be_trained_on(
    tmp_path: Path, subset: dict[str, Any], options: dict[str, Any], words: str
) -> None:
    images(tmp_path / "pics")
    assert words in failure(tmp_path, dataset(subset, **options))


def test_without_buckets_cached_latents_take_any_size(tmp_path: Path) -> None:
    images(tmp_path / "pics")
    data = dataset({"image_dir": "pics"}, enable_bucket=False)
    assert rehearse(tmp_path, data, TRAIN | {"cache_latents": True}).returncode == 0


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "train.toml").write_text("a = [1, 'x'")
    assert "cannot read train.toml as TOML" in capture_output(argv(), cwd=tmp_path).stderr
    (tmp_path / "train.toml").write_text("")
    missing = capture_output(argv(), cwd=tmp_path)
    assert (missing.returncode, "dataset.toml does not exist" in missing.stderr) == (1, True)
    (tmp_path / "dataset.toml").write_text("datasets = 3")
    assert "datasets in the dataset file is not a list of tables" in capture_output(argv(), cwd=tmp_path).stderr


@pytest.mark.skipif(sys.platform == "win32", reason="sends a POSIX signal")
def test_an_interrupt_ends_it_with_a_word(tmp_path: Path) -> None:
    images(tmp_path / "pics")
    rehearse(tmp_path, dataset({"image_dir": "pics"}), TRAIN)
    with subprocess.Popen(argv("--delay", "30"), cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as child:
        assert child.stdout is not None
        while b"epoch 1" not in (line := child.stdout.readline()):
            assert line, "it ended before its first epoch"
        child.send_signal(signal.SIGINT)
        _, stderr = child.communicate(timeout=60)
    assert child.returncode == 130
    assert b"rehearsal interrupted" in stderr


@pytest.mark.parametrize(("family", "sizes"), [("sd15", {(60, 90), (90, 60)}), ("sdxl", {(90, 60)})])
def test_left_over_caches_count_as_they_do_in_the_plan(tmp_path: Path, family: Family, sizes: set[Size]) -> None:
    """sd-scripts takes an image's size from the name of its family's cache."""
    folder = images(tmp_path / "pics")
    (folder / "1_0060x0090_sd.npz").touch()
    (tmp_path / "train.toml").write_text(tomli_w.dumps(TRAIN))
    (tmp_path / "dataset.toml").write_text(tomli_w.dumps(dataset({"image_dir": folder.as_posix()})))
    read = read_rehearsal(tmp_path / "train.toml", tmp_path / "dataset.toml", family=family)
    counted = read.blocks[0].counted.subsets[0].sizes
    assert set(counted) == sizes
    assert counted == find_image_sizes(scan_folder(folder, ".txt"), get_family(family).latent_cache_suffix)
