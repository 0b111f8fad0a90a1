"""Runs in the trainer's Python, from the checkout: the captions and masks that sd-scripts' datasets hand to training.

    python draw_with_sd_scripts.py DATASET.toml ANSWER.json

No model is needed: tokens are not looked at. For each ``[[datasets]]``: what every image is trained with in a number of
draws, by file name, and what is left of a loss of 1 in each batch.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

DRAWS = 40


def open_datasets(path: str) -> Any:
    """By the road train_network.py takes (TN:515-560)."""
    config = import_module("library.config_util")
    defaults = argparse.Namespace(caption_separator=",", keep_tokens_separator="")  # of train_network.py's parser
    generator = config.BlueprintGenerator(config.ConfigSanitizer(True, True, True, True))  # with masked_loss
    blueprint = generator.generate(config.load_user_config(path), defaults)
    return config.generate_dataset_group_by_blueprint(blueprint.dataset_group)[0]


def set_strategies() -> None:
    base, sd = import_module("library.strategy_base"), import_module("library.strategy_sd")
    torch: Any = import_module("torch")

    class Tokens:
        def tokenize(self, _caption: str) -> Any:
            return [torch.zeros(1, 1)]

    base.LatentsCachingStrategy.set_strategy(sd.SdSdxlLatentsCachingStrategy(True, False, 1, False))
    base.TokenizeStrategy.set_strategy(Tokens())


def describe(dataset: Any) -> dict[str, Any]:
    torch: Any = import_module("torch")
    masked = import_module("library.custom_train_functions").apply_masked_loss
    inner = getattr(dataset, "dreambooth_dataset_delegate", dataset)  # behind one with masks
    random.seed(1)
    draws = {
        Path(info.absolute_path).name: [
            inner.process_caption(inner.image_to_subset[key], info.caption) for _ in range(DRAWS)
        ]
        for key, info in inner.image_data.items()
    }
    losses = [masked(torch.ones(1, 4, 8, 8), dataset[at]).mean().item() for at in range(len(dataset))]
    return {"captions": draws, "losses": sorted(losses)}


def main() -> None:
    path, answer = sys.argv[1:]
    sys.path.insert(0, str(Path.cwd()))
    set_strategies()
    group = open_datasets(path)
    group.set_current_strategies()
    Path(answer).write_text(json.dumps([describe(dataset) for dataset in group.datasets]), encoding="utf-8")


if __name__ == "__main__":
    main()
