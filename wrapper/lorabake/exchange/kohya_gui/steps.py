"""How many steps the kohya_ss GUI trains when its length is given in epochs."""

from __future__ import annotations

import math
import os
import re
from pathlib import Path

_IMAGES = (".jpg", ".jpeg", ".png", ".webp")
_LARGEST = 10**9


def count_steps(folder: Path, *, batch: int, accumulated: int, epochs: int, regularized: bool) -> int | None:
    """Repeats times images of each ``N_name`` folder, over batches and epochs, twice with regularization images.

    None if the folder cannot be read here. bmaltais/kohya_ss 45088f04, lora_gui.py, train_model.
    """
    try:
        with os.scandir(folder) as entries:
            parts = [(entry.name, entry.path) for entry in entries if entry.is_dir()]
        looks = sum(int(name.partition("_")[0]) * _count_images(path) for name, path in parts if _has_repeats(name))
    except OSError:
        return None
    if batch < 1 or accumulated < 1:
        return None
    return min(math.ceil(float(looks) / batch / accumulated * epochs * (2 if regularized else 1)), _LARGEST)


def _has_repeats(name: str) -> bool:
    return re.fullmatch(r"\d{1,9}", name.partition("_")[0]) is not None


def _count_images(folder: str) -> int:
    with os.scandir(folder) as entries:
        return sum(entry.name.lower().endswith(_IMAGES) for entry in entries)
