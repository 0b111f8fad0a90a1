"""Runs the commands of the pages "Bring what you have" again, in English and Portuguese, and fills in their output.

The pages are written by hand; what follows a `$ lorabake` in them is real. Each page's commands run one after the
other in a folder with small example files, as on a terminal of 80 columns on a machine that is made up, so a page that
no longer fits the program is stale (`make docs`). A ``<!-- file: NAME -->`` is followed by that file's content.
"""

from __future__ import annotations

import contextlib
import io
import json
import math
import os
import re
import shlex
import shutil
import sys
import tempfile
from collections.abc import Callable, Generator, Mapping
from pathlib import Path
from unittest.mock import patch

import click
from PIL import Image, ImageDraw

from lorabake.cli import main
from lorabake.util import machine
from lorabake.util.hashing import digest_file
from lorabake_schemas.machine import Gpu, MachineFacts

DOCS = Path(__file__).resolve().parent
MACHINE = MachineFacts(
    system="Linux", cpus=16, memory_bytes=64 << 30, gpus=(Gpu(name="NVIDIA GeForce RTX 3060", memory_mib=12288),)
)
WIDTH = 80
CONSOLE = re.compile(r"```console\n\$ (?P<line>lorabake [^\n]*)\n.*?```", re.DOTALL)
SHOWN_FILE = re.compile(r"(?P<mark><!-- file: (?P<name>\S+) -->\n```\w*\n).*?```", re.DOTALL)
HEAD = re.compile(r" \| head -(\d+)$")
STEP = re.compile(rf"{CONSOLE.pattern}|{SHOWN_FILE.pattern}", re.DOTALL)
FAILED = {2, 3}  # usage, a bug: no page shows that
SIZES = ((768, 768), (896, 704), (704, 896), (832, 832), (960, 640), (768, 1024))


class _Screen(io.StringIO):
    """A terminal, or a pipe, that keeps what is written."""

    encoding = "utf-8"

    def __init__(self, *, terminal: bool) -> None:
        super().__init__()
        self._terminal = terminal

    def isatty(self) -> bool:
        return self._terminal

    def read_lines(self) -> list[str]:
        """Without styles, the current folder, and lines of progress, each of which was cleared."""
        text = re.sub(r"\r\x1b\[2K[^\r\n]*(?=\r\x1b\[2K)|\r\x1b\[2K", "", self.getvalue())
        return click.unstyle(text).replace(f"{Path.cwd()}{os.sep}", "").rstrip().splitlines()


def bring_pages() -> dict[Path, str]:
    """Every page with the output of today."""
    return {
        path: _refresh(path, make, language)
        for name, make in PAGES.items()
        for language, path in (("en", DOCS / name), ("pt_BR", DOCS / "pt" / name))
    }


def _refresh(path: Path, make: Callable[[], None], language: str) -> str:
    def fill(found: re.Match[str]) -> str:
        if found["name"]:
            return f"{found['mark']}{Path(found['name']).read_text(encoding='utf-8').rstrip()}\n```"
        return "\n".join(["```console", f"$ {found['line']}", *_run(found["line"], language), "```"])

    with _example_folder():
        make()
        return STEP.sub(fill, path.read_text(encoding="utf-8"))


def _get_machine(_env: Mapping[str, str]) -> MachineFacts:
    return MACHINE


@contextlib.contextmanager
def _example_folder() -> Generator[None]:
    """An empty folder to be in, and a home without anything of this machine's."""
    with tempfile.TemporaryDirectory() as home, tempfile.TemporaryDirectory() as folder:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("LORABAKE", "HF_", "LC_"))}
        known = {"HOME": home, "LORABAKE_HOME": home, "COLUMNS": str(WIDTH), "LANG": "C.UTF-8"}
        with (
            contextlib.chdir(folder),
            patch.dict(os.environ, kept | known, clear=True),
            patch.object(machine, "detect_machine", _get_machine),
        ):
            yield


def _run(line: str, language: str) -> list[str]:
    """What a command prints; ``| head -N`` works as in a shell."""
    head = HEAD.search(line)
    arguments = shlex.split(HEAD.sub("", line))[1:]
    screen, code = _Screen(terminal=head is None), 0
    with (
        patch.object(sys, "stdout", screen),
        patch.object(sys, "stderr", screen if head is None else io.StringIO()),
        patch.object(sys, "stdin", io.StringIO()),
    ):
        try:
            main.main([*arguments, "--lang", language], prog_name="lorabake", standalone_mode=False)
        except SystemExit as left:
            code = left.code if isinstance(left.code, int) else 0
    lines = screen.read_lines()
    if code in FAILED:
        raise ValueError("\n".join([line, *lines]))
    return lines[: int(head[1]) if head else None]


def write_checkpoint(path: Path, padding: int = 1) -> None:
    """The header of an SD1.5 checkpoint over small tensors: only headers are read."""
    layer = "model.diffusion_model.input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight"
    write_safetensors(path, {"cond_stage_model.transformer.a": [padding], layer: [1, 768]}, {})


def write_safetensors(path: Path, shapes: Mapping[str, list[int]], metadata: Mapping[str, str]) -> None:
    """Tensors of zeros, which take no space on most disks."""
    header: dict[str, object] = {"__metadata__": metadata} if metadata else {}
    end = 0
    for name, shape in shapes.items():
        start, end = end, end + 2 * math.prod(shape)
        header[name] = {"dtype": "F16", "shape": shape, "data_offsets": [start, end]}
    text = json.dumps(header).encode()
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        file.truncate(8 + len(text) + end)


def draw_images(folder: str, count: int, name: str = "{:02}.png") -> None:
    """Images of several shapes, each another one."""
    Path(folder).mkdir(parents=True)
    for number in range(count):
        color = (40 + 7 * number, 210 - 6 * number, 60 + 5 * number)
        image = Image.new("RGB", SIZES[number % len(SIZES)], color)
        ImageDraw.Draw(image).ellipse((200, 200, 400 + 9 * number, 420), fill=color[::-1])
        image.save(Path(folder, name.format(number + 1)))


TAGGER = """\
# stands in for a real tagger: prints the tags of one image, or writes those of a folder
import sys
from pathlib import Path

places = ["plate", "wooden_table", "picnic_blanket", "tray", "counter"]
lights = ["daylight", "inside", "evening", "bright_light"]
views = ["close-up", "high-angle_view", "side_view"]


def tag(image):
    number = int(image.stem)
    return ", ".join(["food", places[number % 5], lights[number % 4], views[number % 3], "^_^"])


given = Path(sys.argv[1])
if given.is_file():
    print(tag(given))
for image in given.glob("*.png"):
    image.with_suffix(".txt").write_text(tag(image))
"""
BURGER = """\
name = "hmbrgrlora"
kind = "object"

[base]
model = "models/fluffyrock.safetensors"
tags = "e621"

[[concept]]
token = "hmbrgrlora"
class = "food"
images = "burger"
"""


def make_no_captions() -> None:
    write_checkpoint(Path("models/fluffyrock.safetensors"))
    draw_images("burger", 30)
    Path("burger.toml").write_text(BURGER, encoding="utf-8")
    Path("tagger.py").write_text(TAGGER, encoding="utf-8")


def make_photographs() -> None:
    """Photographs as a phone makes them: two are stored on their side, one was copied, one is large."""
    write_checkpoint(Path("models/realistic.safetensors"))
    draw_images("photos", 30, "IMG_{:04}.jpg")
    turned = Image.Exif()
    turned[274] = 6
    for number in (4, 17):
        path = Path(f"photos/IMG_{number:04}.jpg")
        with Image.open(path) as image:
            image.rotate(90, expand=True).save(path, exif=turned)
    Image.linear_gradient("L").resize((4000, 3000)).convert("RGB").save("photos/IMG_0009.jpg")
    shutil.copyfile("photos/IMG_0012.jpg", "photos/IMG_0012 (1).jpg")


VIEWS = ("close-up", "full body", "three-quarter view")


def make_from_kohya_ss() -> None:
    """A preset as the GUI saves it: mostly its defaults, paths of Windows, numbers as text, and folders by repeats."""
    write_checkpoint(Path("models/fluffyrock.safetensors"))
    draw_images("img/10_hmbrgrlora food", 30)
    for number in range(30):
        text = f"hmbrgrlora, food, {('plate', 'tray', 'counter')[number % 3]}, {VIEWS[number % 2]}, daylight"
        Path(f"img/10_hmbrgrlora food/{number + 1:02}.txt").write_text(text, encoding="utf-8")
    Path("burger-preset.json").write_text(json.dumps(PRESET, indent=2), encoding="utf-8")


PRESET: dict[str, object] = {
    "LoRA_type": "Standard", "adaptive_noise_scale": 0, "additional_parameters": "", "bucket_no_upscale": True,
    "bucket_reso_steps": 64, "cache_latents": True, "cache_latents_to_disk": False, "caption_dropout_every_n_epochs": 0,
    "caption_dropout_rate": 0, "caption_extension": ".txt", "clip_skip": 1, "color_aug": False, "conv_alpha": 1,
    "conv_dim": 1, "debiased_estimation_loss": False, "dim_from_weights": False, "enable_bucket": True, "epoch": 8,
    "flip_aug": False, "full_bf16": False, "full_fp16": False, "gpu_ids": "", "gradient_accumulation_steps": 1,
    "gradient_checkpointing": True, "huggingface_token": "", "keep_tokens": "2", "learning_rate": 0.0001,
    "logging_dir": "C:/kohya/log", "lr_scheduler": "cosine", "lr_scheduler_num_cycles": "", "lr_warmup": 10,
    "max_bucket_reso": 2048, "max_data_loader_n_workers": "0", "max_token_length": "75", "max_train_epochs": "",
    "max_train_steps": "", "mem_eff_attn": False, "min_bucket_reso": 256, "min_snr_gamma": 5, "mixed_precision": "fp16",
    "model_list": "custom", "module_dropout": 0, "multires_noise_iterations": 0, "network_alpha": 16, "network_dim": 32,
    "network_dropout": 0, "noise_offset": 0.05, "noise_offset_type": "Original", "num_cpu_threads_per_process": 2,
    "optimizer": "AdamW8bit", "optimizer_args": "", "output_dir": "C:/kohya/out", "output_name": "hmbrgrlora",
    "persistent_data_loader_workers": False, "pretrained_model_name_or_path": "C:/kohya/models/fluffyrock.safetensors",
    "prior_loss_weight": 1.0, "reg_data_dir": "", "resume": "", "save_every_n_epochs": 2,
    "save_model_as": "safetensors",
    "save_precision": "fp16", "save_state": False, "scale_v_pred_loss_like_noise_pred": False, "sdxl": False,
    "seed": "1234", "shuffle_caption": True, "text_encoder_lr": 5e-05, "train_batch_size": 2,
    "train_data_dir": "C:/kohya/img", "training_comment": "trigger: hmbrgrlora", "unet_lr": 0.0001, "v2": False,
    "v_parameterization": False, "vae_batch_size": 0, "wandb_api_key": "", "weighted_captions": False,
    "xformers": "xformers",
}  # fmt: skip


def make_from_a_lora() -> None:
    """A LoRA as sd-scripts writes it, over two tensors; its base model in a folder of models, and new images."""
    model = Path("models/sd15/fluffyrock-e184.safetensors")
    write_checkpoint(model, padding=1 << 26)  # a search leaves smaller files out
    draw_images("photos", 20)
    for image in Path("photos").glob("*.png"):
        image.with_suffix(".txt").write_text("ashlora, woman, sitting, park", encoding="utf-8")
    module = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn2_to_k"
    text = "lora_te_text_model_encoder_layers_0_self_attn_q_proj"
    shapes = {f"{name}.lora_down.weight": [16, 768] for name in (module, text)}
    subset = {
        "img_count": 24, "num_repeats": 5, "flip_aug": True, "shuffle_caption": True, "keep_tokens": 2,
        "image_dir": "5_ashlora woman", "class_tokens": "ashlora woman", "is_reg": False,
    }  # fmt: skip
    dataset = {
        "batch_size_per_device": 2, "resolution": [512, 512], "enable_bucket": True, "min_bucket_reso": 256,
        "max_bucket_reso": 1024, "subsets": [subset],
    }  # fmt: skip
    metadata = {
        "ss_output_name": "ash", "ss_sd_model_name": model.name, "ss_network_module": "networks.lora",
        "ss_network_dim": "16", "ss_network_alpha": "8.0", "ss_learning_rate": "0.0003", "ss_unet_lr": "None",
        "ss_text_encoder_lr": "5e-05", "ss_lr_scheduler": "cosine", "ss_lr_warmup_steps": "0", "ss_seed": "42",
        "ss_optimizer": "torch.optim.adamw.AdamW(weight_decay=0.05)", "ss_max_train_steps": "600",
        "ss_num_epochs": "10", "ss_num_batches_per_epoch": "60", "ss_min_snr_gamma": "5.0", "ss_steps": "600",
        "ss_noise_offset": "None", "ss_clip_skip": "1", "ss_mixed_precision": "fp16", "ss_epoch": "10",
        "ss_session_id": "1630417423", "ss_training_started_at": "1795909878.0", "ss_base_model_version": "sd_v1",
        "ss_datasets": json.dumps([dataset]), "ss_new_sd_model_hash": digest_file(model, model.name).sha256,
    }  # fmt: skip
    write_safetensors(Path("ash.safetensors"), shapes, metadata)


PAGES = {
    "from-a-lora.md": make_from_a_lora,
    "from-kohya-ss.md": make_from_kohya_ss,
    "no-captions.md": make_no_captions,
    "photographs.md": make_photographs,
}
