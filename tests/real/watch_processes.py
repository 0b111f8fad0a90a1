"""Starts a script between the launcher and sd-scripts, and writes down what its process trained.

    ... watch_processes.py FOLDER SCRIPT ARGUMENTS...

FOLDER/process-N.json has the SHA-256 of the trained tensors at the end, of the first draws of noise, and of the
latents that they were drawn for.
"""

import hashlib
import json
import runpy
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

TORCH: Any = import_module("torch")
ACCELERATOR: Any = import_module("accelerate").Accelerator


def sha256(tensors: Any) -> str:
    seen = hashlib.sha256()
    for tensor in tensors:
        seen.update(tensor.detach().contiguous().cpu().numpy().tobytes())
    return seen.hexdigest()


def main() -> None:
    folder, script, arguments = Path(sys.argv[1]), sys.argv[2], sys.argv[3:]
    sys.argv = [script, *arguments]
    drawn: list[str] = []
    given: list[str] = []
    draw, end = TORCH.randn_like, ACCELERATOR.end_training

    def draw_and_note(like: Any, *args: Any, **kwargs: Any) -> Any:
        noise = draw(like, *args, **kwargs)
        given.append(sha256([like]))
        drawn.append(sha256([noise]))
        return noise

    def end_and_note(self: Any) -> None:
        network = self._models[-1]
        told = {"weights": sha256(network.parameters()), "noise": drawn, "latents": given}
        (folder / f"process-{self.process_index}.json").write_text(json.dumps(told), encoding="utf-8")
        end(self)

    TORCH.randn_like = draw_and_note
    ACCELERATOR.end_training = end_and_note
    runpy.run_path(script, run_name="__main__")


if __name__ == "__main__":
    main()
