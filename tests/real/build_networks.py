"""Runs in the trainer's Python, from the checkout: builds networks with sd-scripts and LyCORIS and says what they save.

    python build_networks.py CASES.json ANSWER.json

Each case names a family and the options of train_network.py that make a network. The answer holds, for each, every
tensor of the network's state by name with its shape, or the error. Tensors are fake ones (torch's own, for shapes
only): nothing is loaded, and a network of any size takes no memory.
"""

from __future__ import annotations

import json
import logging
import sys
import warnings
from copy import copy
from importlib import import_module
from pathlib import Path
from typing import Any


def attributes(module: Any) -> dict[Any, dict[str, Any]]:
    """The networks' class attributes, which a network built in a process changes for the next one."""
    found = [getattr(module, name, None) for name in ("LoRANetwork", "LycorisNetworkKohya")]
    return {
        network: {key: copy(getattr(network, key)) for key in dir(network) if key.isupper()}
        for network in found
        if network is not None
    }


def build(case: dict[str, Any], models: dict[str, Any]) -> dict[str, list[int]]:
    """By the road of train_network.py (TN:664-718), up to the state that save_weights writes."""
    options = case["options"]
    module = import_module(options["network_module"])
    kept = attributes(module)
    arguments = dict(item.split("=", 1) for item in options.get("network_args", []))
    arguments.setdefault("dropout", options.get("network_dropout"))
    unet = models["unet"]
    texts = [model for name, model in models.items() if name != "unet"]
    text = texts if len(texts) > 1 else texts[0]
    try:
        network = module.create_network(
            1.0,
            options.get("network_dim"),
            options.get("network_alpha"),
            None,
            text,
            unet,
            neuron_dropout=options.get("network_dropout"),
            **arguments,
        )
        if hasattr(network, "prepare_network"):
            network.prepare_network(None)
        network.apply_to(text, unet, not options.get("network_train_unet_only"), True)
        return {name: list(tensor.shape) for name, tensor in network.state_dict().items()}
    finally:
        for each, values in kept.items():
            for key, value in values.items():
                setattr(each, key, value)


def main() -> None:
    cases, answer = map(Path, sys.argv[1:3])
    warnings.simplefilter("ignore")
    sys.path[:0] = [str(Path.cwd()), sys.argv[3]]
    dump = import_module("dump_shapes")
    logging.disable(logging.CRITICAL)
    faking: Any = import_module("torch._subclasses.fake_tensor")
    faking.CONSTANT_NUMEL_LIMIT = 8  # LyCORIS multiplies the sides of a kernel as a tensor, and asks for the number
    told: list[Any] = []
    made: dict[str, dict[str, Any]] = {}
    with faking.FakeTensorMode(allow_non_fake_inputs=True):
        for case in json.loads(cases.read_text(encoding="utf-8")):
            family = case["family"]
            if family not in made:
                made[family] = dump.models(family)
            try:
                told.append(build(case, made[family]))
            except Exception as error:  # noqa: BLE001 - whatever stops the network is the answer
                told.append(f"{type(error).__name__}: {error}")
    answer.write_text(json.dumps(told), encoding="utf-8")


if __name__ == "__main__":
    main()
