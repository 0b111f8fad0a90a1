"""Runs in the trainer's Python, from the checkout: sd-scripts' own count of compiled dataset TOMLs, no model needed.

    python count_with_sd_scripts.py CASES.json ANSWER.json

Each case names a dataset TOML and the options of train_network.py that decide about steps. Each answer holds what
sd-scripts' dataset classes made of the file (their length, buckets, and every image), and the steps of the training.
"""

from __future__ import annotations

import argparse
import json
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

from steps_with_sd_scripts import Trainer

SMALL = 400_000  # pixels: one such picture of each dataset is really read and resized


class Cropper:
    """What trim_and_resize_if_required does to pictures, by pixels that know where they were."""

    def __init__(self) -> None:
        self.util: Any = import_module("library.train_util")
        self.numpy: Any = import_module("numpy")
        self.known: dict[tuple[Any, ...], list[int]] = {}

    def crop(self, info: Any) -> list[int]:
        """left, upper, width and height of what is left of the resized picture."""
        key = (*info.resized_size, *info.bucket_reso)
        if key not in self.known:
            width, height = info.resized_size
            places = self.numpy.stack(self.numpy.indices((height, width), dtype=self.numpy.uint16)[::-1], axis=-1)
            left, _, _ = self.util.trim_and_resize_if_required(False, places, info.bucket_reso, info.resized_size)
            self.known[key] = [*map(int, left[0, 0]), left.shape[1], left.shape[0]]
        return self.known[key]

    def read(self, infos: Any) -> list[Any]:
        """A small picture as sd-scripts loads, resizes and crops it: its path and what is left of it."""
        small = [info for info in infos if info.image_size[0] * info.image_size[1] <= SMALL]
        if not small:
            return []
        info = small[0]
        pixels = self.util.load_image(info.absolute_path)
        made, size, _ = self.util.trim_and_resize_if_required(False, pixels, info.bucket_reso, info.resized_size)
        return [info.absolute_path, list(size), [made.shape[1], made.shape[0]]]


def count(config: Any, cropper: Cropper, path: str, options: dict[str, Any]) -> list[dict[str, Any]]:
    """One dictionary per ``[[datasets]]`` block, by the road train_network.py takes (TN:515-560)."""
    generator = config.BlueprintGenerator(config.ConfigSanitizer(True, True, bool(options.get("masked_loss")), True))
    validation = {name: options[name] for name in ("validation_split", "validation_seed") if name in options}
    # the others are of train_network.py's parser
    given = argparse.Namespace(caption_separator=",", keep_tokens_separator="", **validation)
    blueprint = generator.generate(config.load_user_config(path), given)
    group, tested = config.generate_dataset_group_by_blueprint(blueprint.dataset_group)
    assert len(group) == sum(map(len, group.datasets))
    nothing: list[list[Any]] = [[]] * len(group.datasets)
    held_out = [sorted(dataset.image_data) for dataset in tested.datasets] if tested else nothing
    found = [_facts(dataset, cropper) for dataset in group.datasets]
    return [each | {"tested": names} for each, names in zip(found, held_out, strict=True)]


def _facts(dataset: Any, cropper: Cropper) -> dict[str, Any]:
    dataset = getattr(dataset, "dreambooth_dataset_delegate", dataset)  # behind one with masks
    manager, infos = dataset.bucket_manager, dataset.image_data.values()
    batches = [0] * len(manager.buckets)
    for index in dataset.buckets_indices:
        batches[index.bucket_index] += 1
    held = zip(manager.resos, manager.buckets, batches, strict=True) if dataset.enable_bucket else ()
    flat = [dataset.width, dataset.height, sum(map(len, manager.buckets)), len(dataset)]
    return {
        "length": len(dataset),
        "train": dataset.num_train_images,
        "buckets": [[*size, len(bucket), each] for size, bucket, each in held if bucket] or [flat],
        "pictures": len(infos),
        "read": cropper.read(infos),
        "images": [
            [
                info.absolute_path,
                info.num_repeats,
                _used_caption(dataset.image_to_subset[key], info.caption),
                *map(list, (info.image_size, info.bucket_reso, info.resized_size)),
                cropper.crop(info),
            ]
            for key, info in dataset.image_data.items()
        ],
    }


def _used_caption(subset: Any, caption: str) -> str:
    """All lines with enable_wildcard, else the first, as process_caption takes it (TU:837-861)."""
    return caption if subset.enable_wildcard else caption.split("\n", maxsplit=1)[0].strip()


def main() -> None:
    cases, answer = map(Path, sys.argv[1:])
    sys.path.insert(0, str(Path.cwd()))
    config = import_module("library.config_util")
    strategies = import_module("library.strategy_sd")
    caching = strategies.SdSdxlLatentsCachingStrategy(True, False, 1, False)
    import_module("library.strategy_base").LatentsCachingStrategy.set_strategy(caching)
    trainer, cropper, told = Trainer(), Cropper(), list[dict[str, Any]]()
    for case in json.loads(cases.read_text(encoding="utf-8")):
        blocks = count(config, cropper, case["dataset"], case["options"])
        training = trainer.train(sum(block["length"] for block in blocks), case["options"])
        told.append({"blocks": blocks, "training": training})
    answer.write_text(json.dumps(told), encoding="utf-8")


if __name__ == "__main__":
    main()
