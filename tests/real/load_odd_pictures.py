"""Runs in the trainer's Python, from the checkout: what sd-scripts reads and loads of each picture.

python load_odd_pictures.py ANSWER.json PICTURE...
"""

from __future__ import annotations

import json
import sys
from importlib import import_module
from pathlib import Path
from typing import Any


def answer(training: Any, path: str) -> dict[str, Any]:
    try:
        size = training.BaseDataset.get_image_size(None, path)
        pixels = training.load_image(path)
    except Exception as error:  # noqa: BLE001 - whatever stops it is the answer
        return {"failed": f"{type(error).__name__}: {error}"}
    return {
        "failed": "",
        "seen": list(size),
        "size": [pixels.shape[1], pixels.shape[0]],
        "first": pixels[0, 0].tolist(),
    }


def main() -> None:
    to, *paths = sys.argv[1:]
    sys.path.insert(0, str(Path.cwd()))
    training = import_module("library.train_util")
    Path(to).write_text(json.dumps([answer(training, path) for path in paths]), encoding="utf-8")


if __name__ == "__main__":
    main()
