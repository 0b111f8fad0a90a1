"""Writes what networks of the sd-scripts in the current folder attach to, for forecasts of file sizes.

    cd SD-SCRIPTS && TRAINER-PYTHON dump_shapes.py FOLDER

shapes-sd15.txt, -sd2.txt and -sdxl.txt name every layer of the UNet and of the text encoders that networks.lora or
LyCORIS trains, one a line: its name in a LoRA, its inputs, outputs and kernel, and a mark for each network that takes
it: those of the first line, which are networks.lora without and with convolutions, LyCORIS' presets that work on these
models, and the presets (lycoris-preset-*.toml) in FOLDER. The networks are built by sd-scripts and LyCORIS themselves.
A norm, which train_norm adds, has no inputs.

The text encoders' own numbers are read from sd-scripts' source; the models are made of fake tensors, so that nothing is
downloaded and little memory taken.
"""

import ast
import logging
import sys
import warnings
from copy import copy
from importlib import import_module
from pathlib import Path

warnings.simplefilter("ignore")  # torchvision's, about an image reader that nothing here uses
logging.disable(logging.CRITICAL)

import torch
import torch._subclasses.fake_tensor as faking
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

faking.CONSTANT_NUMEL_LIMIT = 8  # LyCORIS multiplies the sides of a kernel as a tensor, and asks for the number
LORA, LYCORIS = "networks.lora", "lycoris.kohya"
CLASSES = ("LoRANetwork", "LycorisNetworkKohya")


def text_configs(source):
    """The CLIPTextConfig(...) calls of a source file, in its order, as sd-scripts makes them."""
    calls = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call)]
    named = [node for node in calls if getattr(node.func, "id", "") == "CLIPTextConfig"]
    named.sort(key=lambda node: node.lineno)
    return [CLIPTextConfig(**{each.arg: ast.literal_eval(each.value) for each in node.keywords}) for node in named]


def models(family):
    """Name and model of everything that can be trained, on the meta device (MU:1002-1076, SXU and sdxl_model_util)."""
    from library import model_util, sdxl_original_unet
    from library.original_unet import UNet2DConditionModel

    sd2, sd15 = text_configs(Path("library/model_util.py").read_text(encoding="utf-8"))
    large, big = text_configs(Path("library/sdxl_model_util.py").read_text(encoding="utf-8"))
    with torch.device("meta"):
        if family == "sdxl":
            unet = sdxl_original_unet.SdxlUNet2DConditionModel()
            return {"unet": unet, "te1": CLIPTextModel(large), "te2": CLIPTextModelWithProjection(big)}
        unet = UNet2DConditionModel(**model_util.create_unet_diffusers_config(family == "sd2", False))
        return {"unet": unet, "te": CLIPTextModel(sd2 if family == "sd2" else sd15)}


def build(models, module_name, dim, **arguments):
    """A network on these models, by the road of train_network.py (TN:664-718)."""
    module = import_module(module_name)
    kept = [(each, key, copy(getattr(each, key))) for name in CLASSES if (each := getattr(module, name, None))
            for key in dir(each) if key.isupper()]  # fmt: skip
    texts = [model for name, model in models.items() if name != "unet"]
    text = texts if len(texts) > 1 else texts[0]
    dropout = arguments.pop("neuron_dropout", None)
    try:
        return module.create_network(1.0, dim, 1.0, None, text, models["unet"], neuron_dropout=dropout, **arguments)
    finally:
        for each, key, value in kept:  # a network changes them for the next one of the process
            setattr(each, key, value)


def networks(folder):
    """Name, and what it is made with, of each network; of rank 1, so that shapes show the layers' own sizes."""
    from lycoris.config import PRESET

    yield "lora", (LORA, 1), {}
    yield "lora-conv", (LORA, 1), {"conv_dim": "1"}
    for name in (*PRESET, *sorted(path.name for path in folder.glob("lycoris-preset-*.toml"))):
        algo = "ia3" if "ia3" in name else "locon"
        preset = str(folder / name) if name.endswith(".toml") else name
        yield name, (LYCORIS, 1), {"algo": algo, "conv_dim": "1", "preset": preset, "train_norm": "True"}


def layers(models):
    """By its name in a LoRA every module with weights: inputs, outputs and kernel."""
    for prefix, model in models.items():
        for path, module in model.named_modules():
            name = f"lora_{prefix}_{path.replace('.', '_')}"
            if isinstance(module, torch.nn.Linear):
                yield name, (module.in_features, module.out_features)
            elif isinstance(module, torch.nn.Conv2d):
                yield name, (module.in_channels // module.groups, module.out_channels, *module.kernel_size)
            elif isinstance(module, torch.nn.LayerNorm):
                yield name, (0, module.normalized_shape[0])
            elif isinstance(module, torch.nn.GroupNorm):
                yield name, (0, module.num_channels)


def table(family, folder):
    """A line for each layer that any network takes; i marks one whose inputs (IA)^3 scales."""
    made, columns = models(family), {}
    for name, network, arguments in networks(folder):
        try:
            built = build(made, *network, **arguments)
        except Exception:  # LyCORIS refuses a preset that meets a layer twice
            continue
        parts = [*built.text_encoder_loras, *built.unet_loras]
        if parts:
            columns[name] = {each.lora_name: "i" if getattr(each, "train_input", False) else "1" for each in parts}
    yield " ".join(columns)
    for name, sizes in layers(made):
        marks = "".join(column.get(name, "0") for column in columns.values())
        if marks.strip("0"):
            yield " ".join(map(str, (name.removeprefix("lora_"), *sizes, marks)))


def main():
    folder = Path(sys.argv[1]).resolve()
    sys.dont_write_bytecode = True
    sys.path.insert(0, str(Path.cwd()))
    for family in ("sd15", "sd2", "sdxl"):
        with faking.FakeTensorMode(allow_non_fake_inputs=True):
            text = "".join(f"{line}\n" for line in table(family, folder))
        (folder / f"shapes-{family}.txt").write_text(text, encoding="utf-8", newline="\n")


if __name__ == "__main__":
    main()
