"""In the trainer's Python: how many steps a training takes, by sd-scripts' own formulas, scheduler and file names, and
by accelerate's own loaders and accumulation. Only the dataset is a stand-in of the same length.

The loop follows TN:1395-1516 and TN:1694-1730 as far as steps go: what it counts is decided by accelerate and by
sd-scripts, not here.
"""

from __future__ import annotations

import ast
import math
from argparse import Namespace
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any

SOURCE = "train_network.py"
# The assignments of train_network.py that decide how long a training is (TN:800, TN:978, TN:979).
FORMULAS = {"args.max_train_steps": "math.ceil(", "num_update_steps_per_epoch": "", "num_train_epochs": ""}


def formulas(source: str) -> dict[str, Any]:
    """sd-scripts' own expressions, compiled from its source as it stands in the current folder."""
    found: dict[str, Any] = {}
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Assign) and len(node.targets) == 1:
            name = ast.unparse(node.targets[0])
            if name in FORMULAS and FORMULAS[name] in ast.unparse(node.value):
                assert name not in found, f"{name} is computed twice"
                found[name] = compile(ast.Expression(node.value), SOURCE, "eval")
    assert found.keys() == FORMULAS.keys(), found.keys()
    return found


class Trainer:
    """What is the same for every training: the formulas, torch, accelerate, one Accelerator."""

    def __init__(self) -> None:
        self.torch: Any = import_module("torch")
        self.loaders: Any = import_module("accelerate.data_loader")
        self.scheduling: Any = import_module("accelerate.scheduler")
        self.util: Any = import_module("library.train_util")
        self.formulas = formulas(Path(SOURCE).read_text(encoding="utf-8"))
        self.accelerator: Any = import_module("accelerate").Accelerator(cpu=True)

    def train(self, length: int, asked: dict[str, Any]) -> dict[str, Any]:
        """Everything that a training of ``length`` batches an epoch does, by the step."""
        args, processes = Namespace(**asked), asked["num_processes"]
        self._start_anew(args.gradient_accumulation_steps)
        if args.max_train_epochs is not None:
            args.max_train_steps = self._formula("args.max_train_steps", args, length, processes)
        loaders = [self._loader(length, processes, rank) for rank in range(processes)]
        args.num_update_steps_per_epoch = self._formula("num_update_steps_per_epoch", args, len(loaders[0]), 1)
        epochs = self._formula("num_train_epochs", args, len(loaders[0]), 1)
        dealt = sum(len(list(loader)) for loader in loaders)
        told = self._epochs(loaders[0], epochs, args, processes)
        return {"steps": args.max_train_steps, "epochs": epochs, "repeated": dealt - length, **told}

    def _start_anew(self, accumulation: int) -> None:
        """The one Accelerator of this process as a new one would be: a training that ends within an epoch leaves its
        loader and its place in the accumulation behind."""
        self.accelerator.gradient_state.dataloader_references = [None]
        self.accelerator.step = 0
        self.accelerator.gradient_accumulation_steps = accumulation

    def _formula(self, name: str, args: Namespace, length: int, processes: int) -> int:
        given = {
            "args": args,
            "math": math,
            "train_dataloader": range(length),
            "accelerator": SimpleNamespace(num_processes=processes),
            "num_update_steps_per_epoch": getattr(args, "num_update_steps_per_epoch", None),
        }
        return int(eval(self.formulas[name], given))  # noqa: S307 - an expression of the pinned sd-scripts

    def _loader(self, length: int, processes: int, rank: int) -> Any:
        """As Accelerator.prepare makes it for one of several processes."""
        data = self.torch.utils.data.DataLoader(range(length), batch_size=1, shuffle=True)
        return self.loaders.prepare_data_loader(data, num_processes=processes, process_index=rank)

    def _epochs(self, loader: Any, epochs: int, args: Namespace, processes: int) -> dict[str, Any]:
        model = self.torch.nn.Linear(1, 1)
        optimizer = self.torch.optim.SGD(model.parameters(), lr=1.0)
        made = self.util.get_scheduler_fix(args, optimizer, processes)
        rates = recorded(made)
        scheduler = self._accelerated(made, optimizer, processes)
        done, ends, files, last, in_step = 0, list[int](), Files(self.util, args), 0, 0
        optimizer.step()  # torch warns when a scheduler moves first
        for epoch in range(epochs):
            for _ in loader:
                last += 1
                with self.accelerator.accumulate(model):
                    scheduler.step()
                if not self.accelerator.sync_gradients:
                    continue
                done += 1
                in_step, last = last, 0
                files.after_step(done)
                if done >= args.max_train_steps:
                    break
            ends.append(in_step)
            files.after_epoch(epoch + 1, epochs, done)
        files.at_end(done)
        return {"done": done, "ends": ends, "rates": rates, "files": files.written, "kept": sorted(files.kept)}

    def _accelerated(self, made: Any, optimizer: Any, processes: int) -> Any:
        """sd-scripts' scheduler, moved by accelerate's own rules for that many processes."""
        told = SimpleNamespace(num_processes=processes)
        self.scheduling.AcceleratorState = lambda: told
        optimizer.step_was_skipped = False
        return self.scheduling.AcceleratedScheduler(made, optimizer)


def recorded(scheduler: Any) -> list[float]:
    """The rate before the scheduler first moves, and after each of its moves, as they come."""
    rates: list[float] = [scheduler.get_last_lr()[0]]
    step = scheduler.step

    def remember() -> None:
        step()
        rates.append(scheduler.get_last_lr()[0])

    scheduler.step = remember
    return rates


class Files:
    """The files a training writes and deletes, by sd-scripts' own names."""

    def __init__(self, util: Any, args: Namespace) -> None:
        self.util, self.args, self.ending = util, args, "." + args.save_model_as
        self.written: list[tuple[str, int]] = []
        self.kept: set[str] = set()

    def after_step(self, step: int) -> None:
        every = self.args.save_every_n_steps
        if every is not None and step % every == 0:
            self._save(self.util.get_step_ckpt_name(self.args, self.ending, step), step)
            old = self.util.get_remove_step_no(self.args, step)
            if old is not None:
                self.kept.discard(self.util.get_step_ckpt_name(self.args, self.ending, old))

    def after_epoch(self, epoch: int, epochs: int, step: int) -> None:
        every = self.args.save_every_n_epochs
        if every is not None and epoch % every == 0 and epoch < epochs:
            self._save(self.util.get_epoch_ckpt_name(self.args, self.ending, epoch), step)
            old = self.util.get_remove_epoch_no(self.args, epoch)
            if old is not None:
                self.kept.discard(self.util.get_epoch_ckpt_name(self.args, self.ending, old))

    def at_end(self, step: int) -> None:
        self._save(self.util.get_last_ckpt_name(self.args, self.ending), step)

    def _save(self, name: str, step: int) -> None:
        self.written.append((name, step))
        self.kept.add(name)
