"""Runs in the trainer's Python: how many tokens transformers' own CLIPTokenizer makes of each text.

    python count_clip_tokens.py TEXTS.json MERGES.txt ANSWER.json

The vocabulary follows from the merges: every byte, every byte at the end of a word, every merge, two signs of its own.
"""

from __future__ import annotations

import json
import sys
from importlib import import_module
from pathlib import Path
from typing import Any


def main() -> None:
    texts, merges, answer = map(Path, sys.argv[1:])
    module: Any = import_module("transformers.models.clip.tokenization_clip")
    pairs = merges.read_text(encoding="utf-8").split("\n")
    letters = list(module.bytes_to_unicode().values())
    words = [*letters, *(f"{letter}</w>" for letter in letters), *(pair.replace(" ", "") for pair in pairs)]
    words += ["<|startoftext|>", "<|endoftext|>"]
    vocabulary = answer.with_suffix(".vocabulary")
    vocabulary.write_text(json.dumps({word: number for number, word in enumerate(words)}), encoding="utf-8")
    ranked = answer.with_suffix(".merges")
    ranked.write_text("#version: 0.2\n" + "\n".join(pairs), encoding="utf-8")
    # the settings of openai/clip-vit-large-patch14's own tokenizer_config.json
    tokenizer = module.CLIPTokenizer(str(vocabulary), str(ranked), do_lower_case=True, model_max_length=77)
    assert tokenizer.fix_text is not None, "ftfy is not there"
    counts = [len(tokenizer(text)["input_ids"]) - 2 for text in json.loads(texts.read_text(encoding="utf-8"))]
    answer.write_text(json.dumps(counts), encoding="utf-8")


if __name__ == "__main__":
    main()
