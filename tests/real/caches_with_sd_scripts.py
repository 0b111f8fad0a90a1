"""Runs in the trainer's Python, from a run folder: what sd-scripts itself takes from the caches beside the pictures.

    python caches_with_sd_scripts.py CHECKOUT latents|text DATASET.toml ANSWER.json

sd-scripts' own dataset and caching strategies decide what is made anew and what is loaded; models of no weight stand in
for VAE and text encoders: they note what they were asked to encode, and text comes out as the numbers of its letters.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

LETTERS = 77


class Alone:
    """As much of accelerate's Accelerator as caching needs."""

    num_processes, process_index, device = 1, 0, "cpu"

    def wait_for_everyone(self) -> None:
        """Nobody else is there."""


class Vae:
    """Stands in for the VAE: an eighth of a picture's size, all zeros."""

    def __init__(self) -> None:
        self.torch: Any = import_module("torch")
        self.device, self.dtype = self.torch.device("cpu"), self.torch.float32
        self.encoded = 0

    def encode(self, pictures: Any) -> Any:
        self.encoded += len(pictures)
        count, _, height, width = pictures.shape
        latents = self.torch.zeros(count, 4, height // 8, width // 8)
        sampled = argparse.Namespace(sample=lambda: latents)
        return argparse.Namespace(latent_dist=sampled)


class Words:
    """Stands in for tokenizers and text encoders of SDXL."""

    def __init__(self) -> None:
        self.torch: Any = import_module("torch")
        self.encoded = list[str]()

    def tokenize(self, captions: list[str]) -> Any:
        self.encoded += captions
        rows = [[*map(ord, caption[:LETTERS].ljust(LETTERS))] for caption in captions]
        return self.torch.tensor(rows), self.torch.tensor(rows)

    def encode_tokens(self, _tokenize: Any, _models: Any, tokens: Any) -> Any:
        states = tokens[0].float().unsqueeze(-1)
        return states, states, states[:, 0]


def datasets(path: str) -> Any:
    config = import_module("library.config_util")
    generator = config.BlueprintGenerator(config.ConfigSanitizer(True, True, False, True))
    blueprint = generator.generate(config.load_user_config(path), argparse.Namespace())
    return config.generate_dataset_group_by_blueprint(blueprint.dataset_group)[0]


def latents(base: Any, path: str) -> dict[str, Any]:
    strategy = import_module("library.strategy_sd").SdSdxlLatentsCachingStrategy(True, True, 1, False)
    base.LatentsCachingStrategy.set_strategy(strategy)
    group, vae = datasets(path), Vae()
    group.new_cache_latents(vae, Alone())
    loaded = {
        Path(info.absolute_path).name: {
            "bucket": list(info.bucket_reso),
            "latents": list(strategy.load_latents_from_disk(info.latents_npz, info.bucket_reso)[0].shape),
        }
        for dataset in group.datasets
        for info in dataset.image_data.values()
    }
    return {"encoded": vae.encoded, "loaded": loaded}


def text(base: Any, path: str) -> dict[str, Any]:
    made = import_module("library.strategy_sdxl").SdxlTextEncoderOutputsCachingStrategy(True, 1, False)
    base.TextEncoderOutputsCachingStrategy.set_strategy(made)
    words = Words()
    base.TokenizeStrategy.get_strategy = base.TextEncodingStrategy.get_strategy = lambda: words
    group = datasets(path)
    group.new_cache_text_encoder_outputs([], Alone())
    loaded = {
        Path(info.absolute_path).name: "".join(
            chr(int(letter)) for letter in made.load_outputs_npz(info.text_encoder_outputs_npz)[0][:, 0]
        ).rstrip()
        for dataset in group.datasets
        for info in dataset.image_data.values()
    }
    return {"encoded": words.encoded, "loaded": loaded}


def main() -> None:
    checkout, what, dataset, answer = sys.argv[1:]
    sys.path.insert(0, os.fspath(Path(checkout)))
    base = import_module("library.strategy_base")
    told = latents(base, dataset) if what == "latents" else text(base, dataset)
    Path(answer).write_text(json.dumps(told), encoding="utf-8")


if __name__ == "__main__":
    main()
