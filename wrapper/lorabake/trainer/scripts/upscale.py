"""Enlarges images with an upscaler's weights, through spandrel; prints JSON on the last line: done, missing or error.

    python upscale.py ASKED.json        {"weights": PATH, "images": [[SMALL, LARGE], ...]}

An image is cut into tiles with a margin, so that memory does not limit its size.
"""

import json
import sys

TILE, MARGIN = 512, 32


def upscale(model, image, torch, np):
    values = torch.from_numpy(np.asarray(image, dtype=np.float32) / 255.0).permute(2, 0, 1).unsqueeze(0)
    height, width = values.shape[2:]
    scale = model.scale
    whole = torch.zeros((1, 3, height * scale, width * scale))
    for top in range(0, height, TILE):
        for left in range(0, width, TILE):
            above, before = min(MARGIN, top), min(MARGIN, left)
            tile = values[:, :, top - above : top + TILE + MARGIN, left - before : left + TILE + MARGIN]
            large = model(tile.to(model.device)).float().cpu()
            high, wide = min(TILE, height - top) * scale, min(TILE, width - left) * scale
            cut = large[:, :, above * scale : above * scale + high, before * scale : before * scale + wide]
            whole[:, :, top * scale : top * scale + high, left * scale : left * scale + wide] = cut
    return (whole[0].clamp(0, 1) * 255).round().byte().permute(1, 2, 0).numpy()


def main(path):
    try:
        import numpy as np
        import torch
        from PIL import Image
    except ImportError as error:
        return {"missing": error.name}
    try:
        import spandrel
    except ImportError as error:
        return {"missing": "spandrel", "error": str(error)}
    with open(path, encoding="utf-8") as file:
        asked = json.load(file)
    try:
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        model = spandrel.ModelLoader(device=device).load_from_file(asked["weights"])
        if (
            not isinstance(model, spandrel.ImageModelDescriptor)
            or model.input_channels != 3
            or model.output_channels != 3
        ):
            return {"error": "it is not a model that enlarges RGB images"}
        model.eval()
        with torch.inference_mode():
            for small, large in asked["images"]:
                with Image.open(small) as image:
                    pixels = upscale(model, image.convert("RGB"), torch, np)
                Image.fromarray(pixels).save(large, compress_level=1)
    except Exception as error:
        return {"error": f"{type(error).__name__}: {error}".splitlines()[0]}
    return {"done": True}


if __name__ == "__main__":
    answer = main(sys.argv[1])
    print()
    print(json.dumps(answer))
