"""Runs in the trainer's Python, from the checkout: what sd-scripts' own process_caption makes of captions.

python split_with_sd_scripts.py CASES.json ANSWER.json
"""

from __future__ import annotations

import json
import random
import sys
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any


def said(util: Any, case: dict[str, Any]) -> list[str]:
    """The caption as it goes to the text encoder, for a few shuffles."""
    subset = SimpleNamespace(
        caption_prefix=case["prefix"],
        caption_suffix=case["suffix"],
        caption_dropout_rate=0.0,
        caption_dropout_every_n_epochs=0,
        caption_tag_dropout_rate=0.0,
        enable_wildcard=False,
        shuffle_caption=True,
        token_warmup_step=0,
        token_warmup_min=1,
        keep_tokens=case["keep_tokens"],
        keep_tokens_separator=case["keep_tokens_separator"],
        secondary_separator=case["secondary_separator"],
        caption_separator=case["separator"],
    )
    dataset = SimpleNamespace(replacements={}, current_epoch=0, current_step=0, max_train_steps=1)
    found: list[str] = []
    for seed in range(5):
        random.seed(seed)
        found.append(util.BaseDataset.process_caption(dataset, subset, case["caption"]))
    return found


def main() -> None:
    cases, answer = map(Path, sys.argv[1:3])
    sys.path.insert(0, str(Path.cwd()))
    util = import_module("library.train_util")
    answer.write_text(json.dumps([said(util, case) for case in json.loads(cases.read_text("utf-8"))]), "utf-8")


if __name__ == "__main__":
    main()
