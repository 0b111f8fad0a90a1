"""Runs in the trainer's Python, from the checkout: what sd-scripts' own reader makes of compiled files.

    python read_with_sd_scripts.py FOLDER ANSWER.json

FOLDER has a folder for each recipe, with train.toml, dataset.toml and the name of the script in script.txt. The answer
has, by the folder's name, the options that the trainer would use, and those of its datasets and subsets.
"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from importlib import import_module
from pathlib import Path
from typing import Any


def read_options(folder: Path) -> dict[str, Any]:
    util: Any = import_module("library.train_util")
    config: Any = import_module("library.config_util")
    script: Any = import_module((folder / "script.txt").read_text(encoding="utf-8").removesuffix(".py"))
    parser = script.setup_parser()
    sys.argv = [sys.argv[0], "--config_file", str(folder / "train.toml")]  # its reader parses the command line again
    args = util.read_config_from_file(parser.parse_args(), parser)
    util.verify_training_args(args)
    util.prepare_dataset_args(args, True)
    user = config.load_user_config(str(folder / "dataset.toml"))
    sanitizer = config.ConfigSanitizer(True, True, args.masked_loss, True)
    group = config.BlueprintGenerator(sanitizer).generate(user, args).dataset_group
    datasets = [
        {**asdict(dataset.params), "subsets": [asdict(subset.params) for subset in dataset.subsets]}
        for dataset in group.datasets
    ]
    return {"train": vars(args), "datasets": datasets}


def main() -> None:
    sys.path.insert(0, str(Path.cwd()))
    folder, answer = Path(sys.argv[1]), Path(sys.argv[2])
    read = {each.name: read_options(each) for each in sorted(folder.iterdir())}
    answer.write_text(json.dumps(read, default=str), encoding="utf-8")


if __name__ == "__main__":
    main()
