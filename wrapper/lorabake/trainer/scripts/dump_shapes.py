"""Writes the shape of what the sd-scripts in the current folder trains, for forecasts of file sizes.

    cd SD-SCRIPTS && TRAINER-PYTHON dump_shapes.py FOLDER

shapes-sd15.txt, -sd2.txt and -sdxl.txt hold every module of the UNet and of the text encoders, one a line, indented
by depth: name, class, and for one with weights its kind and sizes. The text encoders' own numbers are read from
sd-scripts' source; the models are made on torch's meta device, so that nothing is downloaded and little memory taken.
lycoris-presets.json holds what each of LyCORIS' presets aims at, as far as these models have it.
"""

import ast
import json
import logging
import sys
import warnings
from pathlib import Path

warnings.simplefilter("ignore")  # torchvision's, about an image reader that nothing here uses
logging.disable(logging.WARNING)

import torch
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

TARGETS = (
    "ENABLE_CONV",
    "UNET_TARGET_REPLACE_MODULE",
    "UNET_TARGET_REPLACE_NAME",
    "TEXT_ENCODER_TARGET_REPLACE_MODULE",
    "TEXT_ENCODER_TARGET_REPLACE_NAME",
    "MODULE_ALGO_MAP",
    "NAME_ALGO_MAP",
    "USE_FNMATCH",
    "TARGET_EXCLUDE_NAME",
)


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


def sizes(module):
    """Kind and sizes of a module that a network can attach to; empty for any other."""
    bias = "bias" if getattr(module, "bias", None) is not None else ""
    if isinstance(module, torch.nn.Linear):
        return "linear", module.in_features, module.out_features, bias
    if isinstance(module, torch.nn.Conv2d):
        return "conv", module.in_channels // module.groups, module.out_channels, *module.kernel_size, bias
    if isinstance(module, torch.nn.LayerNorm):
        return "norm", module.normalized_shape[0], bias
    if isinstance(module, torch.nn.GroupNorm):
        return "norm", module.num_channels, bias
    return ()


def lines(name, module, depth=0):
    children = [line for key, child in module.named_children() for line in lines(key, child, depth + 1)]
    shape = sizes(module)
    if children or shape:  # activations and the like can hold nothing
        words = (name, type(module).__name__, *shape)
        yield " " * depth + " ".join(str(word) for word in words if word != "")
        yield from children


def presets(classes):
    """What each preset leaves in LyCORIS' class of networks, which begins with values of its own (preset "")."""
    from lycoris.config import PRESET
    from lycoris.kohya import LycorisNetworkKohya

    found = {}
    for name, preset in {"": {}, **PRESET}.items():
        fresh = type("Fresh", (LycorisNetworkKohya,), {})
        fresh.apply_preset(preset)
        found[name] = {target: getattr(fresh, target) for target in TARGETS}
        for target in ("UNET_TARGET_REPLACE_MODULE", "TEXT_ENCODER_TARGET_REPLACE_MODULE"):
            found[name][target] = [each for each in found[name][target] if each in classes]
    return found


def main():
    folder = Path(sys.argv[1])
    sys.dont_write_bytecode = True
    sys.path.insert(0, str(Path.cwd()))
    classes = set()
    for family in ("sd15", "sd2", "sdxl"):
        made = models(family)
        classes |= {type(module).__name__ for model in made.values() for module in model.modules()}
        text = "".join(f"{line}\n" for name, model in made.items() for line in lines(name, model))
        (folder / f"shapes-{family}.txt").write_text(text, encoding="utf-8", newline="\n")
    told = json.dumps(presets(classes), indent=1) + "\n"
    (folder / "lycoris-presets.json").write_text(told, encoding="utf-8", newline="\n")


if __name__ == "__main__":
    main()
