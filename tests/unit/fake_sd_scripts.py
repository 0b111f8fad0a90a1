"""A stand-in for sd-scripts that really saves: states, LoRA files, and a loop that counts as train_network.py does.

Its only weight is the number of steps that were ever trained into it, so that a file tells whether a resumed training
did as many as an uninterrupted one. Standard library only; run as a script from a run folder, with sd-scripts' flags.
TN is train_network.py of the pin; tests/real/test_resumed.py compares this loop's numbers with its own.
"""

from __future__ import annotations

import argparse
import json
import os
import struct
import sys
import time
import tomllib
import zipfile
from collections.abc import Iterator, Mapping
from math import ceil
from pathlib import Path
from typing import Any

NAME = "lora_unet_a.lora_up.weight"
HOLD_AFTER = "STAND_IN_HOLD_AFTER"  # this variable has the step after which it waits to be stopped
HOLD_S = 300.0
LENGTH = 64


def loop(
    batches: int, accumulation: int, steps: int, initial: int = 0, *, skip: bool = False
) -> Iterator[tuple[str, int, int]]:
    """What happens, with sd-scripts' own numbers: ("epoch", n, step), ("step", epoch, step), ("end", epoch, step)."""
    per_epoch = ceil(batches / accumulation)  # TN:977
    epochs = ceil(steps / per_epoch)
    if initial:
        assert steps > initial  # TN:1249
    if skip:
        initial *= accumulation  # TN:1259
    start = initial // per_epoch
    own = initial = (initial - start * batches) if skip and initial else 0  # TN:1340-1345
    for epoch in range(start, epochs):
        yield "epoch", epoch + 1, own
        first, initial = initial, 0
        for batch in range(max(first, 0), batches):
            if (batch - max(first, 0) + 1) % accumulation and batch + 1 < batches:
                continue
            own += 1
            yield "step", epoch + 1, own
            if own >= steps:  # TN:1605
                break
        yield "end", epoch + 1, own


def write_lora(path: Path, trained: float, metadata: Mapping[str, str], length: int = LENGTH) -> None:
    """One tensor with the number of steps that trained it."""
    data = struct.pack(f"<{length}f", *[trained] * length)
    entry = {"dtype": "F32", "shape": [length], "data_offsets": [0, len(data)]}
    header = json.dumps({"__metadata__": dict(metadata), NAME: entry}).encode()
    path.write_bytes(len(header).to_bytes(8, "little") + header + data)


def weight(path: Path) -> float:
    """The steps that went into a LoRA or a state's model.safetensors."""
    numbers = {float(each) for each in struct.unpack(f"<{LENGTH}f", path.read_bytes()[-4 * LENGTH :])}
    assert len(numbers) == 1
    return numbers.pop()


def archive(path: Path, content: bytes) -> None:
    """As torch.save: a zip archive that is not compressed."""
    with zipfile.ZipFile(path, "w") as file:
        for name, data in {"data.pkl": b"\x80\x02}q\x00.", "data/0": content, "version": b"3\n"}.items():
            file.writestr(zipfile.ZipInfo(f"archive/{name}"), data)


def write_state(folder: Path, trained: float, epoch: int, step: int, *, pause: float = 0.0) -> None:
    """The files of accelerate's save_state in their order (checkpointing.py:55-160), after the hook's own."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "train_state.json").write_text(json.dumps({"current_epoch": epoch, "current_step": step}), "utf-8")
    write_lora(folder / "model.safetensors", trained, {"format": "pt"})
    for name in ("optimizer.bin", "scheduler.bin", "random_states_0.pkl"):
        time.sleep(pause)
        archive(folder / name, f"{name} {trained}".encode() * 50)


class Trainer:
    """One start of it."""

    def __init__(self, settings: dict[str, Any]) -> None:
        self.settings = settings
        self.name, self.output = settings["output_name"], Path(settings["output_dir"])
        self.trained = 0.0
        if settings["resume"]:
            self.load_state(Path(settings["resume"]))

    def load_state(self, state: Path) -> None:
        """accelerate's; ``unloadable`` are the names of states that it fails to load for what is in them."""
        if state.name in self.settings["unloadable"]:
            raise RuntimeError("Error(s) in loading state_dict for LoRANetwork: size mismatch")
        for name in ("optimizer.bin", "scheduler.bin", "random_states_0.pkl"):
            with zipfile.ZipFile(state / name) as file:
                assert file.testzip() is None
        self.trained = weight(state / "model.safetensors")

    def save(self, name: str, epoch: int, step: int, *, state: bool) -> None:
        self.output.mkdir(parents=True, exist_ok=True)
        path = self.output / f"{name}.safetensors"
        print(f"\nsaving checkpoint: {path}", flush=True)
        write_lora(path, self.trained, {"ss_steps": str(step), "ss_epoch": str(epoch)})
        if state:
            write_state(self.output / f"{name}-state", self.trained, epoch, step, pause=self.settings["pause"])

    def announce(self, batches: int, accumulation: int, steps: int) -> None:
        print("accelerator device: cpu\nimport network module: networks.lora\nrunning training / x")
        print("  num train images * repeats / x: 4\n  num reg images / x: 0")
        print(f"  num batches per epoch / x: {batches}")
        print(f"  num epochs / x: {ceil(steps / ceil(batches / accumulation))}")
        print(f"  total optimization steps / x: {steps}", flush=True)

    def train(self) -> None:
        told = self.settings
        batches, accumulation, steps = told["batches"], told["gradient_accumulation_steps"], told["max_train_steps"]
        self.announce(batches, accumulation, steps)
        epochs, shown, epoch, step = ceil(steps / ceil(batches / accumulation)), 0, 0, 0
        by_steps, by_epochs = told["save_every_n_steps"], told["save_every_n_epochs"]
        for what, epoch, step in loop(
            batches, accumulation, steps, told["initial_step"], skip=told["skip_until_initial_step"]
        ):
            if what == "epoch":
                print(f"\nepoch {epoch}/{epochs}\n", flush=True)
            elif what == "step":
                time.sleep(told["delay"])
                self.trained += 1
                shown += 1
                self.bar(shown, steps, self.loss)
                if by_steps and step % by_steps == 0:
                    self.save(f"{self.name}-step{step:08d}", epoch - 1, step, state=told["save_state"])
                self.bar(shown, steps, self.loss)
                if os.environ.get(HOLD_AFTER) == f"{self.trained:.0f}":
                    time.sleep(HOLD_S)
            elif by_epochs and epoch % by_epochs == 0 and epoch < epochs:
                self.save(f"{self.name}-{epoch:06d}", epoch, step, state=told["save_state"])
        if told["save_state"]:
            write_state(self.output / f"{self.name}-state", self.trained, epoch, step)
        self.save(self.name, epochs, step, state=False)
        print("[11/22/25 10:00:00] INFO     model saved.      train_network.py:1729", file=sys.stderr, flush=True)

    @property
    def loss(self) -> str:
        """NaN from a step on; its states stay finite, as with fp16, where such a step is skipped."""
        return "nan" if self.trained >= self.settings["nan_from"] else "0.1"

    @staticmethod
    def bar(shown: int, steps: int, loss: str) -> None:
        share = 100 * shown // steps
        bar = f"\rsteps:  {share}%|##        | {shown}/{steps} [00:01<00:06,  3.30it/s, avr_loss={loss}]"
        os.write(2, bar.encode())


def parsed() -> dict[str, Any]:
    """The command line before the file, as sd-scripts has it (TU:4760)."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--config_file", type=Path, required=True)
    parser.add_argument("--dataset_config", type=Path)
    parser.add_argument("--resume")
    for name in ("output_dir", "training_comment"):
        parser.add_argument(f"--{name}")
    for name in ("initial_step", "save_every_n_steps"):
        parser.add_argument(f"--{name}", type=int)
    parser.add_argument("--skip_until_initial_step", action="store_true", default=None)
    flags = vars(parser.parse_args())
    settings: dict[str, Any] = {
        "gradient_accumulation_steps": 1, "save_every_n_steps": None, "save_every_n_epochs": None, "save_state": False,
        "delay": 0.0, "pause": 0.0, "resume": None, "initial_step": 0, "skip_until_initial_step": False,
        "unloadable": [], "nan_from": 1e9,
        **tomllib.loads(flags.pop("config_file").read_text(encoding="utf-8")),
    }  # fmt: skip
    return settings | {name: value for name, value in flags.items() if value is not None}


if __name__ == "__main__":
    Trainer(parsed()).train()
