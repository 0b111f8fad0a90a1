"""What following a long run costs a supervisor: log, TensorBoard's losses, events, and the watch, without a trainer.

    python tests/bench/watch_cost.py [STEPS] [SECONDS_PER_STEP]

Time is made up: a step takes SECONDS_PER_STEP, and the log is looked at five times a second, as in a run. Prints the
share of a core, and memory on the way. Judges nothing; at most 0.5 % of a core and no growth are wanted.
"""

from __future__ import annotations

import resource
import struct
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from lorabake.jobs.supervisor import POLL_INTERVAL_S, EventDispatcher, LogListener
from lorabake.runs.event_clock import Look
from lorabake.runs.events import EventLog
from lorabake.runs.metrics import MetricsReporter
from lorabake.runs.tensorboard import ScalarFile, mask_checksum
from lorabake.runs.watch.run_watch import RunWatch
from lorabake.util.gpu_sensors import GpuSensors
from lorabake_schemas.events import Phase, ProgressEvent, StallSign

SAVE_EVERY, SAMPLE_EVERY = 500, 1000
MARKS = 5
# What sd-scripts logs of a UNet and a text encoder with Prodigy (TN:84-126).
TAGS = (
    b"loss/current", b"loss/average", b"lr/textencoder", b"lr/d*lr/textencoder", b"lr/unet", b"lr/d*lr/unet",
    b"lr/group1", b"lr/d*lr/group1",
)  # fmt: skip


def varint(number: int) -> bytes:
    return bytes([number]) if number < 128 else bytes([number & 127 | 128]) + varint(number >> 7)


def write_losses(board: BinaryIO, step: int, loss: float) -> None:
    for tag in TAGS:
        value = b"\x0a%c%b\x15%b" % (len(tag), tag, struct.pack("<f", loss / step))
        summary = b"\x0a%c%b" % (len(value), value)
        event = b"\x09%b\x10%b\x2a%c%b" % (bytes(8), varint(step), len(summary), summary)
        length = struct.pack("<Q", len(event))
        board.write(b"".join(part + struct.pack("<I", mask_checksum(part)) for part in (length, event)))


def log_of_step(step: int, steps: int, seconds: float) -> bytes:
    clock = int(step * seconds)
    elapsed = f"{clock // 3600}:{clock // 60 % 60:02d}:{clock % 60:02d}"
    share = 100 * step // steps
    bar = f"\rsteps: {share:3d}%|##        | {step}/{steps} [{elapsed}<1:00:00, {seconds:5.2f}s/it, avr_loss=0.1"
    text = f"{bar}]"
    if step % SAMPLE_EVERY == 0:
        text += f"\n{'':20}INFO     generating sample images at step: {step}      train_util.py:6394\n"
        text += "".join(f"\r{5 * n:3d}%|##   | {n}/20 [00:{n:02d}<00:10,  1.00s/it]\x1b[A" for n in range(21))
    if step % SAVE_EVERY == 0:
        text += f"\nsaving checkpoint: output/x-step{step:08d}.safetensors\n"
    return (text + f"{bar[:-1]}2]").encode()


def looks(steps: int, seconds: float) -> Iterator[tuple[float, int]]:
    """The time of every look at the log, and the steps that are done by then."""
    for number in range(int(steps * seconds / POLL_INTERVAL_S) + 1):
        now = number * POLL_INTERVAL_S
        yield now, int(now / seconds)


def examine(_phase: Phase, _silent_s: float) -> tuple[StallSign, ...]:
    return ()


def ignore(_event: ProgressEvent) -> None: ...


def follow(root: Path, steps: int, seconds: float) -> None:
    folder = root / "tensorboard" / "1" / "network_train"
    events = EventLog(root / "events.jsonl")
    teller = EventDispatcher(events, ignore, RunWatch.of_plan(None), planned=steps)
    with ScalarFile(root, root / "tensorboard") as losses:
        folder.mkdir(parents=True)
        metrics = MetricsReporter(GpuSensors(()))
        listener, done, spent, begin = LogListener(losses), 0, 0.0, time.time() - steps * seconds
        with (folder / "events.out.tfevents.1.host.1.0").open("wb", buffering=0) as board:
            for now, reached in looks(steps, seconds):
                log = b"".join(log_of_step(step, steps, seconds) for step in range(done + 1, reached + 1))
                for step in range(done + 1, reached + 1):
                    write_losses(board, step, 0.1)
                done, before = reached, time.process_time()
                look = Look(begin + now, begin + now)
                teller.dispatch(listener.feed_log(log, look), look)
                teller.report(teller.watch.look(now, examine, lambda: 1 << 40), look)
                teller.report([*metrics.look(now, losses.rates)], look)
                spent += time.process_time() - before
                if reached and log and reached % (steps // MARKS) == 0:
                    memory, share = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 100 * spent / now
                    print(f"step {reached:6d}: {memory:6.1f} MB at most, {share:.3f} % of a core ({spent:.1f} s)")
    events.close()
    print(f"events.jsonl: {(root / 'events.jsonl').stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    given = [float(argument) for argument in sys.argv[1:]]
    steps, seconds = [*given, *[50_000.0, 1.0][len(given) :]]
    with tempfile.TemporaryDirectory() as folder:
        follow(Path(folder), int(steps), seconds)
