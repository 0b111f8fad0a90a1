"""Runs in the trainer's Python, from the checkout: sd-scripts' own count of compiled dataset TOMLs, no model needed.

    python count_with_sd_scripts.py ANSWER.json DATASET.toml...

Each answer holds what sd-scripts' dataset classes made of one file: their length, buckets, and every image.
"""

from __future__ import annotations

import argparse
import json
import sys
from importlib import import_module
from pathlib import Path
from typing import Any


def count(config: Any, path: str) -> list[dict[str, Any]]:
    """One dictionary per ``[[datasets]]`` block, by the road train_network.py takes (TN:515-560)."""
    generator = config.BlueprintGenerator(config.ConfigSanitizer(True, True, False, True))
    blueprint = generator.generate(config.load_user_config(path), argparse.Namespace())
    group, _ = config.generate_dataset_group_by_blueprint(blueprint.dataset_group)
    return [_facts(dataset) for dataset in group.datasets]


def _facts(dataset: Any) -> dict[str, Any]:
    manager = dataset.bucket_manager
    return {
        "length": len(dataset),
        "train": dataset.num_train_images,
        "buckets": [[*size, len(bucket)] for size, bucket in zip(manager.resos, manager.buckets, strict=True) if bucket]
        if dataset.enable_bucket
        else [[dataset.width, dataset.height, sum(len(bucket) for bucket in manager.buckets)]],
        "images": [
            [key, info.num_repeats, info.caption, *map(list, (info.image_size, info.bucket_reso, info.resized_size))]
            for key, info in dataset.image_data.items()
        ],
    }


def main() -> None:
    answer, *paths = sys.argv[1:]
    sys.path.insert(0, str(Path.cwd()))
    config = import_module("library.config_util")
    strategies = import_module("library.strategy_sd")
    caching = strategies.SdSdxlLatentsCachingStrategy(True, False, 1, False)
    import_module("library.strategy_base").LatentsCachingStrategy.set_strategy(caching)
    Path(answer).write_text(json.dumps([count(config, path) for path in paths]), encoding="utf-8")


if __name__ == "__main__":
    main()
