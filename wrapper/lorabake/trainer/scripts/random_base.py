"""Writes a base model with random weights, in diffusers layout, for a training that only has to be real.

    TRAINER-PYTHON random_base.py FOLDER --family sd15|sd2|sdxl [--v-prediction] [--zero-terminal-snr] [--full-size]

The UNet has the family's full shape, because sd-scripts moves its weights into its own UNet of fixed shape
(library/train_util.py:5552, library/sdxl_train_util.py:119). Text encoders keep their widths, which the UNet reads, but
not the layers that nothing reads. The VAE keeps its factor of 8 and four channels and is small apart from that. With
--full-size both have the family's full shape, too, so that time and memory are those of a real base model. The
tokenizer is CLIP's byte-level one without merges, so that nothing has to be downloaded. Every tensor is drawn
separately and written directly to disk in fp16: memory stays near that of the largest tensor. Same arguments, same
bytes.
"""

import argparse
import json
import math
import os
import shutil
import struct
import warnings
import zlib
from pathlib import Path

warnings.simplefilter("ignore")  # torchvision's, about an image reader that nothing here uses

import torch
from diffusers import AutoencoderKL, DDIMScheduler, EulerDiscreteScheduler, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection
from transformers.models.clip.tokenization_clip import bytes_to_unicode

MARK = "random-base.json"
SEED = 42
START, END, VOCABULARY = "<|startoftext|>", "<|endoftext|>", 49408
# Where sd-scripts looks for a tokenizer before it asks the hub (library/strategy_base.py:54): the id with _ for /.
CLIP_L = "openai_clip-vit-large-patch14"
SD2_TOKENIZER = "stabilityai_stable-diffusion-2"
BIG_G = "laion_CLIP-ViT-bigG-14-laion2B-39B-b160k"
SHORT = ("DownBlock2D", "UpBlock2D")
CROSS = ("CrossAttnDownBlock2D", "CrossAttnUpBlock2D")


def unet_config(family, v_prediction):
    """The shapes of library/original_unet.py:123 and library/sdxl_original_unet.py, in diffusers' terms."""
    if family == "sdxl":
        return {
            "sample_size": 128,
            "block_out_channels": (320, 640, 1280),
            "layers_per_block": 2,
            "down_block_types": (SHORT[0], CROSS[0], CROSS[0]),
            "up_block_types": (CROSS[1], CROSS[1], SHORT[1]),
            "transformer_layers_per_block": (1, 2, 10),
            "attention_head_dim": (5, 10, 20),
            "cross_attention_dim": 2048,
            "use_linear_projection": True,
            "addition_embed_type": "text_time",
            "addition_time_embed_dim": 256,
            "projection_class_embeddings_input_dim": 2816,
        }
    shape = {
        "sample_size": 64,
        "block_out_channels": (320, 640, 1280, 1280),
        "layers_per_block": 2,
        "down_block_types": (CROSS[0],) * 3 + (SHORT[0],),
        "up_block_types": (SHORT[1],) + (CROSS[1],) * 3,
    }
    if family == "sd15":
        return shape | {"cross_attention_dim": 768, "attention_head_dim": 8}
    return shape | {
        "cross_attention_dim": 1024,
        "attention_head_dim": (5, 10, 20, 20),
        "use_linear_projection": True,
        "sample_size": 96 if v_prediction else 64,
    }


def text_encoders(family, full_size):
    """Folder name, model class and config of each text encoder.

    SDXL reads hidden state 11 of the first, so that one needs its 12 layers, and the last but one of the second
    (library/strategy_sdxl.py:118); SD reads the last, or with clip_skip 2 the one before it.
    """
    layers = {"sd15": 12, "sd2": 23, "sdxl": 32}[family] if full_size else 2
    shared = {"vocab_size": VOCABULARY, "bos_token_id": VOCABULARY - 2, "eos_token_id": VOCABULARY - 1}
    large = shared | {"hidden_size": 768, "intermediate_size": 3072, "num_attention_heads": 12}
    if family == "sd15":
        return [("text_encoder", CLIPTextModel, CLIPTextConfig(num_hidden_layers=layers, **large))]
    if family == "sd2":
        wide = shared | {"hidden_size": 1024, "intermediate_size": 4096, "num_attention_heads": 16}
        return [("text_encoder", CLIPTextModel, CLIPTextConfig(num_hidden_layers=layers, hidden_act="gelu", **wide))]
    big = shared | {"hidden_size": 1280, "intermediate_size": 5120, "num_attention_heads": 20}
    second = CLIPTextConfig(num_hidden_layers=layers, hidden_act="gelu", projection_dim=1280, **big)
    return [
        ("text_encoder", CLIPTextModel, CLIPTextConfig(num_hidden_layers=12, **large)),
        ("text_encoder_2", CLIPTextModelWithProjection, second),
    ]


def vae_config(family, full_size):
    return {
        "block_out_channels": (128, 256, 512, 512) if full_size else (32, 32, 32, 32),
        "layers_per_block": 2 if full_size else 1,
        "latent_channels": 4,
        "norm_num_groups": 32,
        "down_block_types": ("DownEncoderBlock2D",) * 4,
        "up_block_types": ("UpDecoderBlock2D",) * 4,
        "scaling_factor": 0.13025 if family == "sdxl" else 0.18215,
    }


def scheduler(family, v_prediction, zero_terminal_snr):
    kind = EulerDiscreteScheduler if family == "sdxl" else DDIMScheduler
    settings = {
        "beta_start": 0.00085,
        "beta_end": 0.012,
        "beta_schedule": "scaled_linear",
        "num_train_timesteps": 1000,
        "prediction_type": "v_prediction" if v_prediction else "epsilon",
        "rescale_betas_zero_snr": zero_terminal_snr,
        "timestep_spacing": "trailing" if zero_terminal_snr else "leading",
    }
    return kind(**settings)


def draw(name, shape):
    """One tensor in fp16, seeded by its name, so that it depends on nothing drawn before it.

    Weights get a deviation of 1/sqrt(fan in), which keeps activations, and so the loss, near 1; norms start as the
    identity and embeddings as CLIP's do.
    """
    if len(shape) < 2:
        return torch.full(shape, 0.0 if name.endswith("bias") else 1.0, dtype=torch.float16)
    deviation = 0.02 if "embedding.weight" in name else 1 / math.sqrt(math.prod(shape[1:]))
    generator = torch.Generator().manual_seed(SEED + zlib.crc32(name.encode()))
    return torch.empty(shape).normal_(0.0, deviation, generator=generator).half()


def write_weights(model, file):
    """The model's tensors as safetensors, one at a time: 8 bytes of header length, the header, the data."""
    shapes = {name: tuple(tensor.shape) for name, tensor in sorted(model.state_dict().items())}
    header, end = {"__metadata__": {"format": "pt"}}, 0
    for name, shape in shapes.items():
        begin, end = end, end + 2 * math.prod(shape)
        header[name] = {"dtype": "F16", "shape": list(shape), "data_offsets": [begin, end]}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with file.open("wb") as stream:
        stream.write(struct.pack("<Q", len(text)))
        stream.write(text)
        for name, shape in shapes.items():
            stream.write(draw(name, shape).numpy().data)


def write_json(file, content):
    file.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def write_tokenizer(folder, pad):
    """CLIP's tokenizer with an empty list of merges: every byte is a token, and the rest of the vocabulary idle."""
    folder.mkdir(parents=True)
    letters = list(bytes_to_unicode().values())
    words = letters + [letter + "</w>" for letter in letters]
    words += [f"<|unused {number}|>" for number in range(len(words), VOCABULARY - 2)] + [START, END]
    write_json(folder / "vocab.json", {word: number for number, word in enumerate(words)})
    (folder / "merges.txt").write_text("#version: 0.2\n", encoding="utf-8")
    special = {"bos_token": START, "eos_token": END, "unk_token": END, "pad_token": pad}
    write_json(folder / "special_tokens_map.json", special)
    settings = {"model_max_length": 77, "do_lower_case": True, "add_prefix_space": False, "errors": "replace"}
    write_json(folder / "tokenizer_config.json", {"tokenizer_class": "CLIPTokenizer", **settings, **special})


def write_tokenizers(folder, family):
    first = SD2_TOKENIZER if family == "sd2" else CLIP_L
    write_tokenizer(folder / "tokenizers" / first, "!" if family == "sd2" else END)
    write_tokenizer(folder / "tokenizer", "!" if family == "sd2" else END)
    if family == "sdxl":
        write_tokenizer(folder / "tokenizers" / BIG_G, "!")
        write_tokenizer(folder / "tokenizer_2", "!")


def write_model(folder, model, weights):
    print(f"  {folder.name}: {sum(tensor.numel() for tensor in model.state_dict().values()):,} weights", flush=True)
    folder.mkdir()
    if hasattr(model, "save_config"):
        model.save_config(folder)
    else:
        model.config.architectures = [type(model).__name__]
        model.config.save_pretrained(folder)
    write_weights(model, folder / weights)


def write_index(folder, family, encoders, scheduler_name):
    parts = {
        "scheduler": ["diffusers", scheduler_name],
        "tokenizer": ["transformers", "CLIPTokenizer"],
        "unet": ["diffusers", "UNet2DConditionModel"],
        "vae": ["diffusers", "AutoencoderKL"],
        **{name: ["transformers", kind.__name__] for name, kind, _ in encoders},
    }
    if family == "sdxl":
        kind, extra = "StableDiffusionXLPipeline", {"tokenizer_2": ["transformers", "CLIPTokenizer"]}
    else:
        kind = "StableDiffusionPipeline"
        extra = {"safety_checker": [None, None], "feature_extractor": [None, None], "requires_safety_checker": False}
    write_json(folder / "model_index.json", {"_class_name": kind, **parts, **extra})


def write_base(folder, family, v_prediction, zero_terminal_snr, full_size):
    encoders = text_encoders(family, full_size)
    with torch.device("meta"):
        unet = UNet2DConditionModel(**unet_config(family, v_prediction))
        vae = AutoencoderKL(**vae_config(family, full_size))
        texts = [(name, kind(config)) for name, kind, config in encoders]
    schedule = scheduler(family, v_prediction, zero_terminal_snr)
    schedule.save_config(folder / "scheduler")
    write_tokenizers(folder, family)
    write_index(folder, family, encoders, type(schedule).__name__)
    for name, text in texts:
        write_model(folder / name, text, "model.safetensors")
    write_model(folder / "vae", vae, "diffusion_pytorch_model.safetensors")
    if family == "sdxl":
        # At fp16 sd-scripts asks for the variant "fp16" (library/sdxl_train_util.py:86). Where no part of a folder
        # has it, diffusers stops; where one has, it takes the others as they are. So the smallest has it.
        write_weights(vae, folder / "vae" / "diffusion_pytorch_model.fp16.safetensors")
    write_model(folder / "unet", unet, "diffusion_pytorch_model.safetensors")


def write_mark(folder, asked):
    """The arguments and the size of every file, last of all: a base model without this file is not complete."""
    sizes = {file.relative_to(folder).as_posix(): file.stat().st_size for file in folder.rglob("*") if file.is_file()}
    write_json(folder / MARK, {"random": True, "seed": SEED, **asked, "files": dict(sorted(sizes.items()))})


def main():
    parser = argparse.ArgumentParser(description="Write a base model with random weights.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--family", choices=["sd15", "sd2", "sdxl"], default="sd15")
    parser.add_argument("--v-prediction", action="store_true")
    parser.add_argument("--zero-terminal-snr", action="store_true")
    parser.add_argument("--full-size", action="store_true")
    asked = vars(parser.parse_args())
    folder = asked.pop("folder").resolve()
    if folder.exists() and not (folder / MARK).is_file():
        parser.error(f"{folder} exists and was not made by this script: it stays as it is")
    aside = folder.with_name(f".{folder.name}.{os.getpid()}")
    print(f"writing a {asked['family']} base with random weights to {folder}", flush=True)
    try:
        aside.mkdir(parents=True)
        write_base(aside, **asked)
        write_mark(aside, asked)
        shutil.rmtree(folder, ignore_errors=True)
        aside.rename(folder)
    finally:
        shutil.rmtree(aside, ignore_errors=True)


if __name__ == "__main__":
    main()
