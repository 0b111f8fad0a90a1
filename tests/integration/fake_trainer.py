"""A stand-in for a training process: prints and writes like sd-scripts, starts children, and ignores signals if asked
to.

Writes every byte to its streams and then to a shadow file, so that a test can compare the log with it. Standard
library only; run as a script with the flags below.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import struct
import subprocess
import sys
import time
from pathlib import Path

SLEEPER = """import os, signal, time
[signal.signal(n, signal.SIG_IGN) for n in {ignored}]
os.close({ready})
time.sleep(600)"""


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--delay", type=float, default=0.0, help="seconds per step")
    parser.add_argument("--times", type=Path, help="where to write when each step was shown")
    parser.add_argument("--sample", nargs=2, type=float, help="every so many steps, for so many seconds")
    parser.add_argument("--load", type=float, default=0.0, help="seconds of loading without a word")
    parser.add_argument("--hang-at", type=int, default=0, help="a step that takes --hang seconds")
    parser.add_argument("--hang", type=float, default=0.0)
    parser.add_argument("--traceback-at", type=int, default=0, help="a step in which a thread fails")
    parser.add_argument("--jump", type=int, default=0, help="the step after which the loss is four times as high")
    parser.add_argument("--losses", default="", help="the loss of each step, by commas")
    parser.add_argument("--pause", type=float, default=0.0, help="seconds per step of --losses")
    parser.add_argument("--saves", action="store_true", help="say after each step that a file is saved")
    parser.add_argument("--no-tensorboard", action="store_true")
    parser.add_argument("--ignore", action="store_true", help="ignore SIGINT and SIGTERM, children too")
    parser.add_argument("--heard", type=Path, help="where to note SIGINT and SIGTERM; it takes a second to end")
    parser.add_argument("--children", choices=["none", "group", "session"], default="none")
    parser.add_argument("--pids", type=Path, help="where to write the process ids, own first")
    parser.add_argument("--shadow", type=Path, help="a second copy of every byte written")
    parser.add_argument("--exit", type=int, default=0)
    parser.add_argument("--die", type=int, default=0, help="end by this signal after the steps")
    parser.add_argument("--fail", default="", help="raise RuntimeError with these words after the steps")
    parser.add_argument("--move", type=Path, help="where to move the run folder after the steps")
    parser.add_argument("--delete", action="store_true", help="delete the run folder after the steps, and go on")
    parser.add_argument("--before", nargs=2, type=Path, help="the same for one that is saved before it")
    parser.add_argument("--copy", nargs=2, type=Path, help="a finished LoRA and where to save it")
    return parser.parse_args()


def child(kind: str, ignored: list[int]) -> list[int]:
    if kind == "none":
        return []
    ears, ready = os.pipe()  # closed by a child that has come up: one that is importing may swallow a SIGINT
    code = SLEEPER.format(ignored=ignored, ready=ready)
    started = subprocess.Popen([sys.executable, "-c", code], start_new_session=kind == "session", pass_fds=[ready])
    os.close(ready)
    os.read(ears, 1)
    return [started.pid]


def note_signals(path: Path | None) -> None:
    """Note every SIGINT and SIGTERM; the first one leads to an end one second later."""

    def heard(number: int, _frame: object) -> None:
        assert path is not None
        with path.open("a", encoding="utf-8") as file:
            file.write(f"{signal.Signals(number).name}\n")
        signal.setitimer(signal.ITIMER_REAL, 1.0)

    for number in (signal.SIGINT, signal.SIGTERM) if path is not None else ():
        signal.signal(number, heard)


class Speech:
    """Both streams and the shadow."""

    def __init__(self, shadow: Path | None) -> None:
        self.shadow = None if shadow is None else shadow.open("ab", buffering=0)

    def write(self, stream: int, words: str) -> None:
        data = words.encode()
        os.write(stream, data)
        if self.shadow is not None:
            self.shadow.write(data)


class Board:
    """TensorBoard's file: records with a length, data and checksums."""

    def __init__(self) -> None:
        folder = Path("tensorboard", "20260131093000", "network_train")
        folder.mkdir(parents=True)
        self.file = (folder / "events.out.tfevents.1.host.1.0").open("wb", buffering=0)
        self.write(b"\x1a\x0dbrain.Event:2")

    def log(self, step: int, numbers: dict[str, float]) -> None:
        for name, number in numbers.items():
            tag = name.encode()
            value = b"\x0a%c%b\x15%b" % (len(tag), tag, struct.pack("<f", number))
            summary = b"\x0a%c%b" % (len(value), value)
            self.write(b"\x09%b\x10%b\x2a%c%b" % (bytes(8), varint(step), len(summary), summary))

    def write(self, event: bytes) -> None:
        length = struct.pack("<Q", len(event))
        self.file.write(length + checksum(length) + event + checksum(event))


def checksum(data: bytes) -> bytes:
    """CRC-32C bit by bit, masked."""
    value = 0xFFFFFFFF
    for byte in data:
        value ^= byte
        for _ in range(8):
            value = value >> 1 ^ 0x82F63B78 * (value & 1)
    value ^= 0xFFFFFFFF
    return struct.pack("<I", ((value >> 15 | value << 17) + 0xA282EAD8) & 0xFFFFFFFF)


def varint(number: int) -> bytes:
    return bytes([number]) if number < 128 else bytes([number & 127 | 128]) + varint(number >> 7)


def train_with_losses(speech: Speech, losses: list[float], board: Board | None, *, saves: bool, pause: float) -> None:
    """As sd-scripts does it: count, save, show the average with the loss of this step, write it."""
    shown, total = "", 0.0
    for n, loss in enumerate(losses, 1):
        time.sleep(pause)
        bar = f"\rsteps:  {100 * n // len(losses)}%|██        | {n}/{len(losses)} [00:01<00:06,  3.30it/s"
        speech.write(2, f"{bar}{shown}]")
        if saves:
            speech.write(1, f"\nsaving checkpoint: output/x-step{n:08d}.safetensors\n")
        total += loss
        shown = f", avr_loss={total / n:.3g}"
        speech.write(2, f"{bar}{shown}]")
        if board is not None:
            rate = 0.5 / n
            board.log(
                n,
                {
                    "loss/current": loss,
                    "loss/average": total / n,
                    "lr/unet": rate,
                    "lr/d*lr/unet": rate / 1024,
                    "lr/group0": rate,
                    "lr/d*lr/group0": rate / 1024,
                },
            )


class StepsBar:
    """tqdm's bar of steps with the seconds since its start, without those of pauses; ``times`` gets when it showed
    each step."""

    def __init__(self, speech: Speech, steps: int, times: Path | None) -> None:
        self.speech, self.steps, self.start = speech, steps, time.time()
        self.times = None if times is None else times.open("w", buffering=1)
        speech.write(2, f"\rsteps:   0%|          | 0/{steps} [00:00<?, ?it/s]")

    def show(self, n: int, loss: float | None) -> None:
        clock = int(time.time() - self.start)
        tail = "" if loss is None else f", avr_loss={loss}"
        share = 100 * n // self.steps
        elapsed = f"{clock // 60:02d}:{clock % 60:02d}"
        self.speech.write(2, f"\rsteps:  {share}%|██        | {n}/{self.steps} [{elapsed}<00:06,  3.30it/s{tail}]")
        if self.times is not None:
            self.times.write(f"{n} {time.time()}\n")

    def unpause(self, before: float) -> None:
        self.start += time.time() - before


def sample(speech: Speech, seconds: float) -> None:
    """One image in ten steps."""
    speech.write(
        2, "\n                    INFO     generating sample images at step / サンプル: 3  train_util.py:6394\n\n"
    )
    for n in range(11):
        speech.write(2, f"\r {10 * n}%|█         | {n}/10 [00:{int(n * seconds / 10):02d}<00:06,  3.30s/it]\x1b[A")
        if n < 10:
            time.sleep(seconds / 10)


def train(speech: Speech, args: argparse.Namespace) -> None:
    steps = args.steps
    if args.load:
        speech.write(2, "2026-01-31 10:00:00 INFO     Loading settings    train_util.py:4744\n")
        time.sleep(args.load)
    speech.write(1, "accelerator device: cpu\nimport network module: networks.lora\n")
    speech.write(1, "running training / 学習開始\n  num train images * repeats / 学習画像の数: 4\n")
    speech.write(1, "  num reg images / 正則化画像の数: 0\n  num batches per epoch / 1epochのバッチ数: 4\n")
    speech.write(1, f"  num epochs / epoch数: 1\n  total optimization steps / 学習ステップ数: {steps}\n")
    bar = StepsBar(speech, steps, args.times)
    speech.write(1, "\nepoch 1/1\n\n")
    for n in range(1, steps + 1):
        time.sleep(args.hang if n == args.hang_at else args.delay)
        if args.sample and n % args.sample[0] == 0:
            bar.show(n, 0.2)
            before = time.time()
            sample(speech, args.sample[1])
            bar.unpause(before)
        if n == args.traceback_at:
            speech.write(2, "\nTraceback (most recent call last):\n  File 'a', line 1, in b\nOSError: cut off\n")
        bar.show(n, 0.4 if args.jump and n > args.jump else 0.1)
        if args.saves:
            speech.write(1, f"\nsaving checkpoint: output/x-step{n:08d}.safetensors\n")


def main() -> None:
    args = parse()
    ignored = [signal.SIGINT, signal.SIGTERM] if args.ignore else []
    for number in ignored:
        signal.signal(number, signal.SIG_IGN)
    note_signals(args.heard)
    pids = [os.getpid(), *child(args.children, [int(number) for number in ignored])]
    if args.pids is not None:
        aside = args.pids.with_suffix(".part")
        aside.write_text(" ".join(map(str, pids)), "utf-8")
        aside.rename(args.pids)
    speech = Speech(args.shadow)
    if args.losses:
        board = None if args.no_tensorboard else Board()
        train_with_losses(
            speech, [float(loss) for loss in args.losses.split(",")], board, saves=args.saves, pause=args.pause
        )
    else:
        train(speech, args)
    if args.move is not None:
        Path.cwd().rename(args.move)
    if args.delete:
        shutil.rmtree(Path.cwd())
        time.sleep(600)
    if args.fail:
        raise RuntimeError(args.fail)
    if args.die:
        os.kill(os.getpid(), args.die)
    if args.before is not None:
        args.before[1].write_bytes(args.before[0].read_bytes())
    if args.copy is not None:
        speech.write(1, f"\nsaving checkpoint: {args.copy[1]}\n")
        args.copy[1].write_bytes(args.copy[0].read_bytes())
        speech.write(2, "[11/22/25 10:00:00] INFO     model saved.      train_network.py:1729\n")
    sys.exit(args.exit)


if __name__ == "__main__":
    main()
