"""What sd-scripts calls the files and state folders that it saves (train_util.py:89-100, 6572-6576)."""

from __future__ import annotations

import re
from typing import Literal

STATE_SUFFIX = "-state"
LORA_EXTENSIONS = (".safetensors", ".ckpt", ".pt")  # of save_model_as; the last two are torch's own format
STEP_PATTERN, EPOCH_PATTERN = r"-step(\d{8,})", r"-(\d{6,})"
STEP_FILE = re.compile(rf"{STEP_PATTERN}\.[^./]+$")
# NAME_000012_00_20260131093000_7.png after a step, NAME_e000002_... after an epoch.
SAMPLE_NAME = re.compile(r"(.*_)(e?)(\d{6,})(_\d{2,}_\d{14}(?:_\d+)?\.png)")

SavedKind = Literal["step", "epoch", "last"]


def step_name(name: str, step: int) -> str:
    """Without the extension."""
    return f"{name}-step{step:08d}"


def epoch_name(name: str, epoch: int) -> str:
    """Without the extension. The last epoch's file has no number."""
    return f"{name}-{epoch:06d}"


def saved_pattern(name: str) -> str:
    """A regular expression for every file that is saved as ``name``, without the extension: its step, its epoch."""
    return re.escape(name) + rf"(?:{STEP_PATTERN}|{EPOCH_PATTERN})?"


def read_saved_step(path: str, last_step: int) -> int:
    """The step that a file was saved after: that in its name, else ``last_step``, the last one shown. sd-scripts saves
    before it shows the step with its loss (train_network.py:1497).
    """
    found = STEP_FILE.search(path)
    return int(found[1]) if found is not None else last_step


def parse_saved_name(entry: str, name: str, ending: str) -> tuple[SavedKind, int] | None:
    """The step or the epoch of a file (``ending`` is its extension) or of a state folder; None for a name that does not
    belong to this training.
    """
    found = re.fullmatch(saved_pattern(name) + re.escape(ending), entry)
    if found is None:
        return None
    if found[1]:
        return "step", int(found[1])
    return ("epoch", int(found[2])) if found[2] else ("last", 0)
