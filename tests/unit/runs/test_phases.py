"""Phases, warnings and errors as the pinned sd-scripts and its libraries print them."""

from __future__ import annotations

import pytest

from lorabake.runs.log.parser import LogParser, parse_clock
from lorabake.runs.log.remarks import MAX_TEXTS, TrainerRemarks, parse_record
from lorabake_schemas.events import LogLine, Phase, ProgressEvent, TrainerError, TrainerWarning


def parse(*pieces: str) -> list[ProgressEvent]:
    parser = LogParser()
    events = [event for piece in pieces for event in parser.feed(piece.encode())] + parser.close()
    return [event for event in events if not isinstance(event, LogLine)]


def phases(*pieces: str) -> list[tuple[object, ...]]:
    return [(each.name, each.done, each.total, each.of) for each in parse(*pieces) if isinstance(each, Phase)]


def line(text: str, level: str = "INFO", place: str = "train_util.py:1170") -> str:
    return f"                    {level:8} {text:150} {place}\n"


def small_bar(done: int, total: int, clock: str, name: str = "") -> str:
    return f"\r{name}{100 * done // total:3d}%|█▋        | {done}/{total} [{clock}<00:06,  3.30it/s]"


def step_bar(done: int, loss: str = "", clock: str = "00:01") -> str:
    return f"\rsteps: {10 * done:3d}%|█▋        | {done}/10 [{clock}<00:06,  3.30s/it{loss}]"


TRAINING = ("training", None, None, None)
SAMPLING = ("sampling", None, None, None)
SAVING = ("saving", None, None, None)
SAMPLES = line("generating sample images at step / サンプル画像生成 ステップ: 3", place="train_util.py:6394")


def test_from_loading_to_the_first_step() -> None:
    text = (
        "2026-11-28 01:55:21 INFO     Loading settings from train.toml...                    train_util.py:4744\n"
        + line("caching latents with caching strategy.")
        + line("caching latents...")
        + "".join(small_bar(n, 8, f"00:{n // 2:02d}") for n in range(9))
        + "\n"
        + line("caching Text Encoder outputs with caching strategy.")
        + "import network module: networks.lora\n"
        + "\rsteps:   0%|          | 0/10 [00:00<?, ?it/s]"
    )
    assert phases(text) == [
        ("loading", None, None, None),
        ("caching", None, None, "latents"),
        ("caching", 2, 8, "latents"),
        ("caching", 4, 8, "latents"),
        ("caching", 6, 8, "latents"),
        ("caching", 8, 8, "latents"),
        ("caching", None, None, "text encoder outputs"),
        ("loading", None, None, None),
        TRAINING,
    ]


def test_a_bar_of_days_gives_no_more_events_than_a_short_one() -> None:
    clocks = (f"{n // 3600}:{n // 60 % 60:02d}:{n % 60:02d}" for n in range(50_001))
    bars = "".join(small_bar(n, 50_000, clock) for n, clock in enumerate(clocks))
    found = phases(line("caching latents...") + bars)
    assert len(found) == 201
    assert found[-1] == ("caching", 50_000, 50_000, "latents")


def test_sampling_lasts_until_the_step_shows_its_own_loss() -> None:
    """tqdm redraws the unchanged bar of steps meanwhile."""
    before = step_bar(3, ", avr_loss=0.2")
    text = step_bar(2, ", avr_loss=0.2") + before + SAMPLES + "\n\n" + small_bar(1, 30, "00:52") + "\x1b[A"
    text += before + "\n" + small_bar(2, 30, "01:52") + "\x1b[A"
    found = phases(text)
    assert found == [TRAINING, SAMPLING, ("sampling", 1, 30, None), ("sampling", 2, 30, None)]
    assert phases(text, step_bar(3, ", avr_loss=0.1"))[len(found) :] == [TRAINING]
    assert phases(text, step_bar(4, ", avr_loss=0.2"))[len(found) :] == [TRAINING]


def test_the_bar_of_a_sample_is_read_before_the_next_one_is_shown() -> None:
    parser = LogParser()
    parser.feed(SAMPLES.encode())
    assert parser.feed(small_bar(1, 30, "00:52").encode()) == [Phase("sampling", 1, 30)]


def test_saves_and_states() -> None:
    text = step_bar(3) + "\nsaving checkpoint: output/x-step00000003.safetensors\n" + step_bar(3, ", avr_loss=0.1")
    assert phases(text) == [TRAINING, SAVING, TRAINING]
    assert phases(step_bar(3) + line("saving state at epoch 2") + "\nepoch 3/4\n") == [TRAINING, SAVING, TRAINING]
    assert phases(step_bar(3) + line("saving last state.")) == [TRAINING, SAVING]


def test_validation_between_steps_and_after_an_epoch() -> None:
    name = "validation steps: "
    text = step_bar(3, ", avr_loss=0.1") + small_bar(0, 4, "00:00", name) + small_bar(2, 4, "00:05", name)
    assert phases(text, step_bar(4)) == [
        TRAINING,
        ("validating", None, None, None),
        ("validating", 2, 4, None),
        TRAINING,
    ]
    after = f"\repoch {name} 25%|█ | 1/4 [00:02<00:01, 1.0it/s, val_epoch_avg_loss=0.1]\nepoch 2/3\n"
    assert phases(step_bar(3) + after) == [TRAINING, ("validating", 1, 4, None), TRAINING]


@pytest.mark.parametrize(
    ("shown", "seconds"), [("", 0), ("00:07", 7), ("12:34", 754), ("1:02:03", 3723), (b"01:00", 60)]
)
def test_the_clock_of_a_bar(shown: str | bytes, seconds: int) -> None:
    assert parse_clock(shown) == seconds


@pytest.mark.parametrize(
    ("text", "level", "message"),
    [
        ("2026-11-28 01:55:21 INFO     prepare images.            train_util.py:2112", "INFO", "prepare images."),
        ("[11/22/25 16:00:00] WARNING  not directory: a b         train_util.py:1974", "WARNING", "not directory: a b"),
        (
            "                    ERROR    Error loading file: a.png  train_util.py:2960",
            "ERROR",
            "Error loading file: a.png",
        ),
        ("2025-11-22 16:00:01|[LyCORIS]-WARNING: lora_dim 16", "WARNING", "lora_dim 16"),
        ("[WARNING|modeling.py:12] 2025-11-22 16:00:01,123 >> old", "WARNING", "old"),
        ("ERROR: Unexpected bus error encountered in worker.", "ERROR", "Unexpected bus error encountered in worker."),
        ("[rank1]:[E1122 16:00:00.123 ProcessGroupNCCL.cpp:629] Watchdog caught", "ERROR", "Watchdog caught"),
        ("[W1122 16:00:00.1 socket.cpp:752] [c10d] The client socket", "WARNING", "[c10d] The client socket"),
        ("E1122 16:00:00.123000 140 torch/distributed/elastic/multiprocessing/api.py:869] failed", "ERROR", "failed"),
        ("NaN found in latents, replacing with zeros", "WARNING", "NaN found in latents, replacing with zeros"),
        ("saving checkpoint: output/ERROR", None, "saving checkpoint: output/ERROR"),
        ("  num epochs: 3", None, "  num epochs: 3"),
    ],
)
def test_levels_in_every_form(text: str, level: str | None, message: str) -> None:
    assert parse_record(text) == (level, message)


def test_a_warning_that_goes_on_in_the_next_line_is_one() -> None:
    text = (
        line("No caption file found for 15 images. It will be used. /", "WARNING")
        + f"{'':29}15枚の画像に\n"
        + line("x")
    )
    assert parse(text)[1:] == [TrainerWarning("No caption file found for 15 images. It will be used.")]


def test_an_error_is_reported_before_anything_follows() -> None:
    parser = LogParser()
    events = parser.feed(line("No prompt file / プロンプトファイルがありません: a.txt", "ERROR").encode())
    assert TrainerError("No prompt file: a.txt") in events
    assert parser.seen.errors == ("No prompt file: a.txt",)


def test_what_every_run_without_regularization_images_warns_of_is_not_reported() -> None:
    assert [type(event) for event in parse(line("no regularization images / 正則化画像が", "WARNING"))] == [Phase]


def test_the_same_text_is_reported_with_its_count_and_not_each_time() -> None:
    found = parse(line("Could not load image", "ERROR") * 250)[1:]
    assert found == [TrainerError("Could not load image", count) for count in (1, 10, 100)]


def test_only_so_many_different_texts_are_kept() -> None:
    remarks = TrainerRemarks()
    assert sum(len(remarks.add("WARNING", f"image {n}.png")) for n in range(50_000)) == MAX_TEXTS
    assert remarks.add("WARNING", "*" * 40) == []
    assert len(remarks.add("WARNING", "image 7.png")) == 0


TRACEBACK = "Traceback (most recent call last):\n  File 'a', line 1, in b\n"


def test_a_traceback_is_reported_as_soon_as_it_ends() -> None:
    parser = LogParser()
    assert not [event for event in parser.feed(TRACEBACK.encode()) if isinstance(event, TrainerError)]
    assert TrainerError("OSError: cut off") in parser.feed(b"OSError: cut off\n")


def test_of_chained_exceptions_the_last_is_reported() -> None:
    text = f"{TRACEBACK}KeyError: 1\n\nDuring handling of the above exception, another exception occurred:\n\n"
    text += (
        f"{TRACEBACK}OSError: Caught OSError in DataLoader worker process 0.\nOriginal {TRACEBACK}OSError: cut off\n"
    )
    text += f"{TRACEBACK}subprocess.CalledProcessError: Command 'x' returned non-zero exit status 1.\n"
    assert [event for event in parse(text) if isinstance(event, TrainerError)] == [TrainerError("OSError: cut off")]


def test_an_interrupted_trainer_has_made_no_error() -> None:
    assert not [event for event in parse(f"{TRACEBACK}KeyboardInterrupt\n") if isinstance(event, TrainerError)]
