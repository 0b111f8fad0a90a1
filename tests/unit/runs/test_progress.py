"""The parser reads what sd-scripts prints, cut anywhere, and sees the two refreshes of a step as one."""

from __future__ import annotations

import math

import pytest

from lorabake.runs.log.parser import LogParser
from lorabake_schemas.events import (
    EmptyDataset,
    Epoch,
    LogLine,
    ModelLoaded,
    Phase,
    ProgressEvent,
    RunTotals,
    Saved,
    Saving,
    Started,
    Step,
)

HEAD = """accelerator device: cuda
[11/22/25 16:00:00] INFO     loading u-net: <All keys matched successfully>                  model_util.py:1011
import network module: lycoris.kohya
\x1b[32m2025-11-22 16:00:01|[LyCORIS]-INFO\x1b[0m: Using rank adaptation algo: lora
override steps. steps for 2 epochs is / 指定エポックまでのステップ数: 4
running training / 学習開始
  num train images * repeats / 学習画像の数×繰り返し回数: 12
  num validation images * repeats / 学習画像の数×繰り返し回数: 0
  num reg images / 正則化画像の数: 3
  num batches per epoch / 1epochのバッチ数: 2
  num epochs / epoch数: 2
  batch size per device / バッチサイズ: 6
  gradient accumulation steps / 勾配を合計するステップ数 = 1
  total optimization steps / 学習ステップ数: 4
"""  # noqa: RUF001  (sd-scripts' own sign)


def bar(n: int, total: int, loss: float | str | None, rate: str = "3.30it/s") -> str:
    tail = "" if loss is None else f", avr_loss={loss}"
    return f"\rsteps: {100 * n // total:3d}%|█▋        | {n}/{total} [00:01<00:06, {rate}{tail}]"


TAIL = (
    "\nsaving checkpoint: output/x.safetensors\n"
    "[11/22/25 16:00:09] INFO     model saved.                                    train_network.py:1729\n"
)
RUN = (
    HEAD
    + bar(0, 4, None, "?it/s")
    + "\nepoch 1/2\n\n"
    + bar(1, 4, None) + bar(1, 4, 0.5) + bar(2, 4, 0.5) + bar(2, 4, 0.4)
    + "\nepoch 2/2\n\n"
    + bar(3, 4, 0.4) + bar(3, 4, 0.3) + bar(4, 4, 0.3) + bar(4, 4, "1.25e-5")
    + TAIL
)  # fmt: skip


def parse(text: str, size: int = 1 << 20) -> tuple[LogParser, list[ProgressEvent]]:
    """Every event but plain lines and phases, from pieces of ``size`` bytes."""
    parser, data = LogParser(), text.encode()
    events = [event for at in range(0, len(data), size) for event in parser.feed(data[at : at + size])]
    events += parser.close()
    return parser, [event for event in events if not isinstance(event, LogLine | Phase)]


def steps(events: list[ProgressEvent]) -> list[tuple[int, float | None]]:
    return [(event.number, event.loss_average) for event in events if isinstance(event, Step)]


@pytest.mark.parametrize("size", [1, 7, 64, 1 << 20])
def test_a_whole_run(size: int) -> None:
    parser, events = parse(RUN, size)
    pace = 1 / 3.30
    assert events == [
        Started("cuda"),
        ModelLoaded(),
        RunTotals(12, 3, 2, 2, 4),
        Epoch(1, 2),
        Step(1, 4, 0.5, pace),
        Step(2, 4, 0.4, pace),
        Epoch(2, 2),
        Step(3, 4, 0.3, pace),
        Step(4, 4, 1.25e-5, pace),
        Saving("output/x.safetensors"),
        Saved(),
    ]
    seen = parser.seen
    assert seen.device == "cuda"
    assert seen.model_loaded
    assert seen.saved
    assert seen.saves == ("output/x.safetensors",)
    assert seen.totals == RunTotals(12, 3, 2, 2, 4)
    assert seen.step == Step(4, 4, 1.25e-5, pace)
    assert seen.exception is None


def test_quick_steps_are_shown_once_and_still_counted() -> None:
    _, events = parse(bar(0, 3, None) + bar(1, 3, 0.3) + bar(2, 3, 0.2) + bar(3, 3, 0.1) + TAIL)
    assert steps(events) == [(1, 0.3), (2, 0.2), (3, 0.1)]


def test_a_step_is_told_when_the_next_one_shows_that_its_own_loss_was_shown() -> None:
    parser = LogParser()
    assert parser.feed((bar(0, 9, None) + bar(1, 9, None) + bar(1, 9, 0.5)).encode()) == [Phase("training")]
    assert parser.held is not None
    assert parser.held.number == 1
    assert parser.feed(bar(2, 9, 0.5).encode()) == [Step(1, 9, 0.5, 1 / 3.30)]


def test_a_step_is_told_earlier_to_whoever_knows_its_loss() -> None:
    parser = LogParser()
    parser.feed((bar(0, 9, None) + bar(1, 9, None)).encode())
    assert [type(event) for event in parser.release()] == [Step]
    assert parser.feed((bar(1, 9, 0.5) + bar(1, 9, 0.4)).encode()) == []


def test_accumulated_micro_batches_are_one_step() -> None:
    _, events = parse(bar(0, 9, None) + bar(1, 9, None) + bar(1, 9, 0.5) + bar(1, 9, 0.4) + bar(2, 9, 0.4) + TAIL)
    assert steps(events) == [(1, 0.4), (2, 0.4)]


def test_validation_caching_and_sampling_bars_are_not_steps() -> None:
    text = (
        "\rvalidation steps:  50%|██   | 1/2 [00:01<00:01,  1.00it/s, timestep=200, val_avg_loss=0.1]"
        "\repoch validation steps:  50%|██   | 1/2 [00:01<00:01,  1.00it/s, val_epoch_avg_loss=0.1]"
        "\r100%|██████████| 6/6 [00:00<00:00, 20.00it/s]\n"
    )
    parser = LogParser()
    events = [*parser.feed(text.encode()), *parser.close()]
    assert {type(event) for event in events} <= {Phase}


STEPWISE = "\nsaving checkpoint: output/a-step0000000{}.safetensors\n"


@pytest.mark.parametrize("size", [1, 64, 1 << 20])
def test_a_step_after_which_it_saves_has_its_own_loss(size: int) -> None:
    """sd-scripts counts a step, samples and saves, and only then shows its loss."""
    text = "".join(
        bar(n, 3, before) + bar(n, 3, before) + STEPWISE.format(n) + bar(n, 3, own)
        for n, before, own in ((1, None, 0.5), (2, 0.5, 0.4), (3, 0.4, 0.3))
    )
    _, events = parse(text + TAIL, size)
    assert steps(events) == [(1, 0.5), (2, 0.4), (3, 0.3)]


@pytest.mark.parametrize("before", [bar(2, 3, 0.5), bar(2, 3, 0.5) + bar(2, 3, 0.5)])
def test_a_step_that_a_kill_cuts_short_in_its_save_has_no_loss_rather_than_a_wrong_one(before: str) -> None:
    _, events = parse(bar(1, 3, None) + bar(1, 3, 0.5) + before + STEPWISE.format(2))
    assert steps(events) == [(1, 0.5), (2, None)]


def test_a_save_at_the_end_of_an_epoch_comes_after_its_last_step() -> None:
    _, events = parse(bar(1, 2, None) + bar(1, 2, 0.5) + "\nsaving checkpoint: output/a-000001.safetensors\n")
    assert [type(event) for event in events] == [Step, Saving]
    assert steps(events) == [(1, 0.5)]


def test_a_postfix_with_other_numbers_before_the_loss() -> None:
    text = "\rsteps:  50%|█| 1/2 [00:01<00:01,  2.00s/it, Average key norm=0.1, Keys Scaled=0, avr_loss=0.2]"
    _, events = parse(text * 2)
    assert events == [Step(1, 2, 0.2, 2.0)]


@pytest.mark.parametrize(
    "line",
    [
        bar(4, 4, 0.1) + "[11/22/25 16:00:09] INFO     model saved.            train_network.py:1729\n",
        bar(4, 4, 0.1) + "model saved.\n",
        "                    INFO     model saved.            train_network.py:1729\n",
        "model saved.\n",
    ],
)
def test_model_saved_in_every_shape(line: str) -> None:
    assert parse(line)[0].seen.saved


def test_model_saved_in_a_path_or_a_caption_proves_nothing() -> None:
    assert not parse("loading picture 'the model saved. jpg'\n  caption: model saved.\n")[0].seen.saved


def test_no_data() -> None:
    parser, events = parse("[16:00:00] ERROR    No data found. Please verify arguments / 画像  train_network.py:576\n")
    assert EmptyDataset() in events
    assert parser.seen.no_data


def test_a_nan_loss_is_seen() -> None:
    _, events = parse(bar(1, 2, "nan") + bar(2, 2, "nan") + TAIL)
    assert all(loss is not None and math.isnan(loss) for _, loss in steps(events))


CRASH = """Traceback (most recent call last):
  File "train_network.py", line 1913, in <module>
    trainer.train(args)
    ^^^^^^^^^^^^^^^^^^^
torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB.
"""
LAUNCHERS_OWN = """Traceback (most recent call last):
  File "launch.py", line 777, in simple_launcher
subprocess.CalledProcessError: Command '['python', 'train_network.py']' returned non-zero exit status 1.
"""


def test_the_launchers_own_traceback_does_not_hide_the_trainers() -> None:
    parser, _ = parse(bar(3, 9, 0.1) + CRASH + LAUNCHERS_OWN)
    assert parser.seen.exception == "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB."
    assert parser.seen.killed_by is None
    assert parser.seen.last_words == tuple(CRASH.splitlines())


def test_a_death_by_signal_is_told_by_the_launcher_alone() -> None:
    text = LAUNCHERS_OWN.replace("returned non-zero exit status 1.", "died with <Signals.SIGKILL: 9>.")
    parser, _ = parse(text)
    assert parser.seen.exception is None
    assert parser.seen.killed_by == "SIGKILL"


def test_a_workers_traceback_is_the_innermost() -> None:
    text = (
        "Traceback (most recent call last):\n  File 'a'\nOSError: Caught OSError in DataLoader worker process 0.\n"
        "Original Traceback (most recent call last):\n  File 'b'\nOSError: image file is truncated\n"
    )
    assert parse(text)[0].seen.exception == "OSError: image file is truncated"


def test_ranks_and_late_messages() -> None:
    text = "[rank0]: Traceback (most recent call last):\n[rank0]:   File 'a'\n[rank0]: ImportError:\n[rank0]: no xyz\n"
    assert parse(text)[0].seen.exception == "ImportError: no xyz"


def test_words_have_no_colours_and_bars_are_not_words() -> None:
    parser = LogParser()
    events = parser.feed(f"{HEAD}{bar(1, 2, 0.1)} glued\n".encode())
    words = [event.text for event in events if isinstance(event, LogLine)]
    assert words[3] == "2025-11-22 16:00:01|[LyCORIS]-INFO: Using rank adaptation algo: lora"
    assert words[-1] == " glued"


def test_bytes_that_are_not_utf8_do_no_harm() -> None:
    parser = LogParser()
    parser.feed(b"\xff\xfe\r\xe2\x96" + bar(1, 2, 0.1).encode() * 2)
    parser.close()
    assert parser.seen.step == Step(1, 2, 0.1, 1 / 3.30)


def test_a_rehearsals_own_failure() -> None:
    text = "\nrehearsal failed: cannot decode a.png: cut off\n  save it anew\n"
    assert parse(text)[0].seen.exception == "rehearsal failed: cannot decode a.png: cut off"


def test_a_flood_of_bars_is_thinned_and_nothing_else_is() -> None:
    """At full speed a rehearsal shows more bars between two looks than anybody could read."""
    flood = b"".join(
        b"\rsteps:  50%%|#####     | %d/9000 [00:01<00:01, 90000.00it/s, rehearsal]" % step for step in range(1, 9001)
    )
    parser = LogParser()
    events = parser.feed(b"accelerator device: cpu\n" + flood[:300_000] + b"\nsaving checkpoint: a\n" + flood[300_000:])
    events += parser.close()
    steps = [event.number for event in events if isinstance(event, Step)]
    assert steps[-1] == 9000
    assert len(steps) < 100
    assert [type(event) for event in events if not isinstance(event, (Step, LogLine, Phase))] == [Started, Saving]
    assert parser.seen.step is not None
    assert parser.seen.step.number == 9000
