"""Runs in the trainer's Python, from the checkout: what sd-scripts' own dataset code does with each faulty set.

    python behave_with_sd_scripts.py ANSWER.json DATASET.toml...

Each answer says how building the dataset ended, what it warned of, and for every picture the caption and the size it
took, and what came of loading it, cropped as it would be trained.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
from importlib import import_module
from pathlib import Path
from typing import Any


class Heard(logging.Handler):
    """Keeps what sd-scripts logs as a warning or worse."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.said: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.said.append(record.getMessage())


def behave(config: Any, training: Any, path: str) -> dict[str, Any]:
    heard = Heard()
    logging.getLogger().addHandler(heard)
    try:
        generator = config.BlueprintGenerator(config.ConfigSanitizer(True, True, False, True))
        blueprint = generator.generate(config.load_user_config(path), argparse.Namespace())
        group, _ = config.generate_dataset_group_by_blueprint(blueprint.dataset_group)
    except BaseException as error:  # noqa: BLE001 - whatever ends it is the answer, SystemExit too
        return {"stopped": f"{type(error).__name__}: {error}", "pictures": {}, "warnings": heard.said}
    finally:
        logging.getLogger().removeHandler(heard)
    pictures = {
        str(Path(key).relative_to(Path(path).parent)): _loaded(training, info)
        for dataset in group.datasets
        for key, info in dataset.image_data.items()
    }
    return {"stopped": "", "pictures": pictures, "warnings": heard.said}


def _loaded(training: Any, info: Any) -> dict[str, Any]:
    """One image, loaded as __getitem__ loads it without cached latents (TU:1836-1870)."""
    known = {"caption": info.caption, "size": list(info.image_size), "bucket": list(info.bucket_reso)}
    try:
        image = training.load_image(info.absolute_path)
        original = [image.shape[1], image.shape[0]]
        cut, _, _ = training.trim_and_resize_if_required(False, image, info.bucket_reso, info.resized_size)
    except Exception as error:  # noqa: BLE001 - as above
        return known | {"failed": f"{type(error).__name__}: {error}"}
    kept = cut.shape[0] * cut.shape[1] / (info.resized_size[0] * info.resized_size[1])
    return known | {
        "failed": "",
        "true_size": original,
        "scale": info.resized_size[0] / original[0],
        "kept": kept,
        "corner": [int(value) for value in image[0, 0]],
    }


def main() -> None:
    answer, *paths = sys.argv[1:]
    sys.path.insert(0, str(Path.cwd()))
    config, training = import_module("library.config_util"), import_module("library.train_util")
    caching = import_module("library.strategy_sd").SdSdxlLatentsCachingStrategy(True, False, 1, False)
    import_module("library.strategy_base").LatentsCachingStrategy.set_strategy(caching)
    Path(answer).write_text(json.dumps([behave(config, training, path) for path in paths]), encoding="utf-8")


if __name__ == "__main__":
    main()
