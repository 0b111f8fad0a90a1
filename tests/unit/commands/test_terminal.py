"""What a person sees: a bar on a terminal, few plain lines elsewhere, and never a crash of the display."""

from __future__ import annotations

import io
import re
from typing import TYPE_CHECKING

import pytest

from lorabake.commands.output.layout import format_duration
from lorabake.commands.output.metrics import describe_fullest_gpu, describe_gpus, describe_learning_rates
from lorabake.commands.output.progress import ProgressState, format_speed, line_printer, watch_progress
from lorabake.commands.output.sparkline import Sparkline
from lorabake_schemas.events import (
    EmptyDataset,
    Epoch,
    GpuReading,
    LogLine,
    Metrics,
    ModelLoaded,
    Phase,
    ProgressEvent,
    RunTotals,
    Saved,
    Saving,
    Started,
    Step,
)
from terminals import Clock, Terminal

if TYPE_CHECKING:
    from collections.abc import Iterable


def show(events: Iterable[ProgressEvent], stream: io.StringIO, tick: float = 1.0, *, verbose: bool = False) -> str:
    clock = Clock(tick)
    with watch_progress(stream, 100, verbose=verbose, clock=clock) as watcher:
        for event in events:
            clock.now += tick
            watcher(event)
    return stream.getvalue()


class Utf8Terminal(Terminal):
    encoding = "utf-8"


def steps(total: int) -> list[ProgressEvent]:
    return [Step(number, total, 0.5) for number in range(1, total + 1)]


def test_speed_and_time_left_are_those_of_the_events_own_times() -> None:
    """A run that went on for hours is read at once; it trained slowly first, then slept, then trained quickly."""
    times = [*(10.0 * number for number in range(20)), *(50_000.0 + 0.5 * number for number in range(140))]
    stream = io.StringIO()
    with watch_progress(stream, 1000, clock=lambda: 7.0) as watcher:
        for number, moment in enumerate(times, 1):
            watcher(Step(number, 1000, 0.5), moment)
    assert stream.getvalue().splitlines()[-1] == "step 160/1000  average loss 0.5  2.0 steps/s  7:00 min left"


def test_the_bar_fits_into_80_columns_and_shows_the_curve_of_the_loss(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "80")
    told: list[ProgressEvent] = [Epoch(10, 10)]
    told += [Step(number, 10_000, 12.0 / number, loss_current=0.1234) for number in range(9_000, 9_900)]
    told += [Saving("output/x.safetensors"), Phase("sampling")]
    text = show(told, Utf8Terminal(), tick=2.0)
    rows = re.sub(r"\x1b\[[^a-zA-Z]*[a-ln-zA-Z]|\r", "\n", re.sub(r"\x1b\[[^a-zA-Z]*m", "", text)).split("\n")
    bar, loss = [row for row in rows if row.strip()][-2:]
    assert len(bar) <= 80
    assert bar.startswith("making sample images ")
    for part in ("9899/10000", "2.00 s/step", "3:22 min left"):
        assert part in bar
    assert "█▇" in loss
    assert "▂▁" in loss
    assert loss.startswith("average loss 0.001212  current 0.1234  ")
    assert loss.rstrip().endswith("last save at step 9899")


MEASURED = Metrics(
    (("textencoder", 1.25e-5), ("unet", 1e-4)), 3.21e-5, (GpuReading("GPU-a", "NVIDIA RTX 6000", 20_480, 49_140, 65),)
)


MEASURED_TEXT = "lr textencoder 1.25e-05, unet 0.0001, d 3.21e-05  VRAM 20.0 of 48.0 GiB, 65 °C"


def test_rates_and_gpu_have_a_line_below_the_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "80")
    text = show([*steps(5), MEASURED, *steps(50)[5:]], Utf8Terminal(), tick=2.0)
    rows = re.sub(r"\x1b\[[^a-zA-Z]*[a-ln-zA-Z]|\r", "\n", re.sub(r"\x1b\[[^a-zA-Z]*m", "", text)).split("\n")
    assert max(map(len, rows)) <= 80
    assert [row for row in rows if row.strip()][-1].rstrip() == MEASURED_TEXT


def test_rates_and_gpu_are_in_plain_lines() -> None:
    lines = show([Step(1, 100, 0.5), MEASURED, Step(2, 100, 0.5)], io.StringIO(), tick=20.0).splitlines()
    assert lines[-1].endswith(f"left  {MEASURED_TEXT}")


@pytest.mark.parametrize(
    ("rates", "d", "text"),
    [
        ((("unet", 1e-4),), None, "0.0001"),
        ((("unet", 1.0), ("textencoder", 1.0)), 2e-5, "1, d 2e-05"),
        ((("unet", 1e-4), ("unet plus", 1.6e-3), ("textencoder", 5e-5)), None, "5e-05 to 0.0016"),
        ((("unet\x1b", 1.0), ("x", float("nan"))), None, "unet\\x1b 1, x nan"),
        ((), 1.0, None),
    ],
)
def test_learning_rates(rates: tuple[tuple[str, float], ...], d: float | None, text: str | None) -> None:
    assert describe_learning_rates(rates, d) == text


def test_of_several_gpus_the_fullest_is_shown() -> None:
    gpus = [GpuReading(str(number), "x", used, 10_240, None) for number, used in enumerate((1024, 9216, 2048))]
    assert describe_fullest_gpu(gpus) == "fullest of 3 GPUs: VRAM 9.0 of 10.0 GiB"
    assert describe_gpus(gpus[1:]) == "x: VRAM 9.0 of 10.0 GiB, x: VRAM 2.0 of 10.0 GiB"


def test_training_has_begun_when_the_trainer_has_counted_its_steps() -> None:
    view = ProgressState(100, lambda: 0.0)
    view.take(Phase("loading"))
    assert view.activity == "loading"
    view.take(RunTotals(steps=100))
    assert view.activity == "steps"


def test_what_the_trainer_does() -> None:
    view, seen = ProgressState(100, lambda: 0.0), list[str]()
    seen.append(view.activity)
    for event in (
        Phase("caching", 3, 40, "latents"), Phase("loading"), Phase("training"), Step(1, 100), Phase("saving"),
        Phase("training"), Phase("sampling"), Step(2, 100),
    ):  # fmt: skip
        view.take(event)
        seen.append(view.activity)
    assert seen == [
        "loading", "caching 3/40", "loading", "loading", "steps", "saving", "steps", "making sample images", "steps",
    ]  # fmt: skip


def test_a_curve_of_any_length_has_a_fixed_width_and_all_of_its_course() -> None:
    curve = Sparkline()
    assert str(curve) == ""
    for number in range(100_000):
        curve.add(float("nan") if number % 1000 == 1 else 1.0 if number < 50_000 else 0.0)
    text = str(curve)
    assert 8 <= len(text) <= 16
    assert text[0] == "█"
    assert text[-1] == "▁"
    assert text.count("█") - text.count("▁") in {-1, 0, 1}


@pytest.mark.parametrize(
    ("seconds", "text"), [(None, "-"), (0.4, "0 s"), (59.4, "59 s"), (185, "3:05 min"), (7385, "2:03 h")]
)
def test_durations(seconds: float | None, text: str) -> None:
    assert format_duration(seconds) == text


@pytest.mark.parametrize(("pace", "text"), [(None, "-"), (0.0, "-"), (2.345, "2.35 s/step"), (0.25, "4.0 steps/s")])
def test_speeds(pace: float | None, text: str) -> None:
    assert format_speed(pace) == text


def test_plain_lines_are_few_and_hold_the_first_and_the_last_step() -> None:
    lines = show(steps(100), io.StringIO(), tick=2.0).splitlines()
    assert lines[0] == "step 1/100  average loss 0.5"
    assert lines[1] == "step 11/100  average loss 0.5  2.00 s/step  2:58 min left"
    assert lines[-1] == "step 100/100  average loss 0.5  2.00 s/step  0 s left"
    assert len(lines) == 11


def test_quick_steps_give_the_first_and_the_last_line_only() -> None:
    lines = show(steps(100), io.StringIO(), tick=0.001).splitlines()
    assert [line.split()[1] for line in lines] == ["1/100", "100/100"]


def test_slow_steps_are_not_silent_for_more_than_five_minutes() -> None:
    lines = show(steps(1000)[:100], io.StringIO(), tick=60.0).splitlines()
    assert [line.split()[1] for line in lines][:3] == ["1/1000", "6/1000", "11/1000"]


def test_a_run_that_ends_early_still_shows_its_last_step() -> None:
    lines = show(steps(100)[:7], io.StringIO(), tick=0.001).splitlines()
    assert [line.split()[1] for line in lines] == ["1/100", "7/100"]


def test_announcements() -> None:
    events: list[ProgressEvent] = [
        Started("cuda"), ModelLoaded(), RunTotals(12, 0, 2, 5, 100), Epoch(1, 5), Step(1, 100, 0.25),
        Saving("output/x.safetensors"), Saved(), EmptyDataset(), LogLine("kept to itself"),
    ]  # fmt: skip
    assert show(events, io.StringIO()).splitlines() == [
        "device: cuda",
        "base model loaded",
        "12 samples per epoch, 5 epochs, 100 steps",
        "step 1/100  average loss 0.25  epoch 1/5",
        "saving output/x.safetensors",
        "the trainer reports that the model was saved",
        "the trainer found no images",
    ]


def test_a_count_that_is_not_the_plans_is_told_at_once() -> None:
    told = show([RunTotals(12, 0, 2, 5, 7)], io.StringIO())
    assert re.findall(r"\d+", told) == ["7", "100"]


@pytest.mark.parametrize("verbose", [True, False])
@pytest.mark.parametrize("stream", [io.StringIO, Terminal])
def test_what_the_trainer_says_is_shown_and_not_done(stream: type[io.StringIO], verbose: bool) -> None:
    evil = "x\x1b[2J\x1b]52;c;aGk=\x07\x1bc\u202e\x9b5m[link=http://x]y[/link]"
    text = show([Started(evil), Saving(evil), LogLine(evil)], stream(), verbose=verbose)
    assert not set("\x07\x9b\u202e") & set(text)
    assert "\x1bc" not in text
    assert "\x1b]" not in text
    assert "[2J" not in text.replace("\\x1b[2J", "")
    assert "\\u202e" in text
    assert "[link=http://x]y[/link]" in text


def test_verbose_gives_the_trainers_own_words_instead() -> None:
    text = show([Started("cuda"), LogLine("accelerator device: cuda")], io.StringIO(), verbose=True)
    assert text == "accelerator device: cuda\n"


def test_the_bar_shows_everything_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "160")
    events = [Epoch(1, 5), *steps(100)[:50], Saving("output/[x].safetensors"), LogLine("quiet")]
    text = show(events, Terminal(), tick=2.0)
    for part in (
        "50/100",
        "average loss 0.5",
        "2.00 s/step",
        "1:40 min left",
        "epoch 1/5",
        "saving output/[x].safetensors",
    ):
        assert part in text
    assert "quiet" not in text


class Broken(io.StringIO):
    """A pipe whose reader has left."""

    def write(self, text: str, /) -> int:
        raise BrokenPipeError(32, f"Broken pipe: {len(text)} characters lost")


def test_a_terminal_that_is_gone_does_not_disturb() -> None:
    with watch_progress(Broken(), 100) as watcher:
        for event in [Started("cuda"), *steps(100)]:
            watcher(event)
    assert watcher.broken
    assert watcher.view.step == Step(100, 100, 0.5)


class _Tty(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_an_installation_is_one_changing_line_on_a_terminal() -> None:
    stream = _Tty()
    say = line_printer(stream)
    say("fetching")
    say("installing 1/2 a")
    say("installing 2/2 b")
    say("done")
    clear = "\r\x1b[2K"
    expected = f"{clear}fetching\n{clear}installing 1/2 a{clear}installing 2/2 b{clear}done\n"
    assert stream.getvalue() == expected


def test_an_installation_is_every_tenth_line_elsewhere() -> None:
    stream = io.StringIO()
    say = line_printer(stream)
    for number in range(1, 25):
        say(f"installing {number}/24 x")
    say("done")
    assert stream.getvalue().splitlines() == ["installing 10/24 x", "installing 20/24 x", "done"]


def test_nobody_there_to_hear() -> None:
    stream = io.StringIO()
    say = line_printer(stream)
    stream.close()
    say("into the void")
