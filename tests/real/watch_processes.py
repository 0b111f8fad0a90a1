"""Watches each process of a training, as the sitecustomize.py of the Python that starts it (test_processes.py).

LORABAKE_TEST_WATCH is a folder. At the end process-N.json is there, with the SHA-256 of the trained tensors, of those
that a state has brought, of each draw of noise, and of the latents that it was drawn for. With LORABAKE_TEST_NOISE the
noise and the timestep of an image depend on nothing but its latents, so that it does not matter which process draws.
"""

import hashlib
import json
import os
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

FOLDER, SAME_NOISE = os.environ.get("LORABAKE_TEST_WATCH"), bool(os.environ.get("LORABAKE_TEST_NOISE"))
TIMESTEP = 500


def sha256(tensors: Any) -> str:
    seen = hashlib.sha256()
    for tensor in tensors:
        seen.update(tensor.detach().contiguous().cpu().numpy().tobytes())
    return seen.hexdigest()


def watch(folder: Path) -> None:
    torch: Any = import_module("torch")
    accelerator: Any = import_module("accelerate").Accelerator
    seen: dict[str, Any] = {"noise": [], "latents": [], "loaded": None}
    draw, draw_integers = torch.randn_like, torch.randint
    load, end = accelerator.load_state, accelerator.end_training

    def draw_and_note(like: Any, *args: Any, **kwargs: Any) -> Any:
        noise = draw(like, *args, **kwargs)
        if SAME_NOISE:
            for at, image in enumerate(like):
                generator = torch.Generator().manual_seed(int(sha256([image])[:8], 16))
                noise[at] = torch.randn(image.shape, generator=generator)
        seen["latents"] += [sha256([image]) for image in like]
        seen["noise"] += [sha256([image]) for image in noise]
        return noise

    def draw_timesteps(*args: Any, **kwargs: Any) -> Any:
        drawn = draw_integers(*args, **kwargs)
        return torch.full_like(drawn, TIMESTEP) if SAME_NOISE else drawn

    def load_and_note(self: Any, *args: Any, **kwargs: Any) -> None:
        load(self, *args, **kwargs)
        states = self._optimizers[-1].state_dict()["state"]
        moments = [each for number in sorted(states) for _, each in sorted(states[number].items())]
        seen["loaded"] = sha256([*self._models[-1].parameters(), *moments])

    def end_and_note(self: Any) -> None:
        seen["weights"] = sha256(self._models[-1].parameters())
        (folder / f"process-{self.process_index}.json").write_text(json.dumps(seen), encoding="utf-8")
        end(self)

    torch.randn_like, torch.randint = draw_and_note, draw_timesteps
    accelerator.load_state, accelerator.end_training = load_and_note, end_and_note


def is_training() -> bool:
    """Not the launcher, nor any other program."""
    started = sys.orig_argv
    return "accelerate.commands.launch" not in started and any(each.endswith("train_network.py") for each in started)


if FOLDER and is_training():
    watch(Path(FOLDER))
