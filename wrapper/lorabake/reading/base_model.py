"""What a base model's own files say about it: family, prediction type, faults. No tensor is read, torch never."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import cast

from lorabake.reading import safetensors_header
from lorabake.reading.safetensors_header import Header
from lorabake_schemas.machine import BaseFacts, Family

# A prefix that only this family's checkpoints have, in the order sd-scripts' own loaders expect them (MU, SXU).
_TEXT_ENCODERS: tuple[tuple[str, Family], ...] = (
    ("conditioner.embedders.1.", "sdxl"),
    ("cond_stage_model.model.", "sd2"),
    ("cond_stage_model.transformer.", "sd15"),
)
# Width of the text that the UNet attends to, and which family has it.
_CONTEXT: dict[int, Family] = {768: "sd15", 1024: "sd2", 2048: "sdxl"}
_CONTEXT_KEY = re.compile(r"^model\.diffusion_model\..*\.attn2\.to_k\.weight$")
_ADAPTER = re.compile(
    r"lora_down|lora_up|lora_A\.|lora_B\.|hada_w|lokr_w|oft_diag|oft_blocks|^lora_(unet|te)|\.dora_scale$"
)
_OTHERS = (
    ("joint_blocks.", "a Stable Diffusion 3 model"),
    ("double_blocks.", "a Flux model"),
    ("single_transformer_blocks.", "a Flux model"),
    ("conditioner.embedders.0.model.", "the SDXL refiner"),
    ("emb_params", "a textual inversion embedding"),
    ("clip_g", "a textual inversion embedding"),
    ("control_model.", "a ControlNet"),
)
_FIRST_LAYER = "model.diffusion_model.input_blocks.0.0.weight"  # its second dimension: latent channels
_WEIGHTS = (".safetensors", ".bin")
_PICKLES = (".ckpt", ".pt", ".pth", ".bin")
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
_SUPPORTED = "lorabake trains on SD1.5, SD2 and SDXL"
_NO_FAMILY = "which family it is cannot be read from {}: write family under [base]"


def inspect_base(model: str, base_dir: Path, declared_family: Family | None = None) -> BaseFacts:
    """Facts about the base model a recipe names; ``model`` is relative to ``base_dir`` unless absolute.

    A file or folder is looked at first; a hub id is only what cannot be a path here. ``declared_family`` is the
    recipe's: where the files do not tell the family and the recipe does not either, that is the problem. A
    declared family is never checked here against the one found. Never raises for what is on the disk.
    """
    path = base_dir / model
    try:
        facts = _by_path(path, model, base_dir)
    except (OSError, ValueError) as error:
        return BaseFacts(kind="missing", problem=f"{model} cannot be read: {error}")
    if facts.family is None and facts.problem is None and declared_family is None:
        source = "a hub id" if facts.kind == "hub" else f"this {path.suffix or facts.kind}"
        return facts.model_copy(update={"problem": _NO_FAMILY.format(source)})
    return facts


def _by_path(path: Path, model: str, base_dir: Path) -> BaseFacts:
    if path.is_dir():
        return _folder(path)
    if path.is_file():
        return _file(path)
    if _looks_like_hub_id(model) and not (base_dir / model).parent.exists():
        return BaseFacts(kind="hub")
    return BaseFacts(kind="missing", problem=_missing(path))


def _looks_like_hub_id(model: str) -> bool:
    return _HUB_ID.fullmatch(model) is not None and not model.lower().endswith((".safetensors", *_PICKLES))


def _missing(path: Path) -> str:
    if not path.parent.is_dir():
        return f"{path} does not exist, nor does the folder {path.parent}"
    alike = sorted(each.name for each in path.parent.iterdir() if each.suffix in {".safetensors", *_PICKLES})
    return f"{path} does not exist" + (f"; in its folder: {_some(alike)}" if alike else "")


def _some(names: Iterable[str], most: int = 5) -> str:
    every = list(names)
    return ", ".join(every[:most]) + (f" and {len(every) - most} more" if len(every) > most else "")


def _file(path: Path) -> BaseFacts:
    """sd-scripts goes by the suffix alone: .safetensors is safetensors, anything else is unpickled."""
    if path.suffix.lower() != ".safetensors":
        problem = safetensors_header.impostor(path) or safetensors_header.not_a_pickle(path)
        return BaseFacts(kind="file", problem=problem)
    header = safetensors_header.read(path)
    return BaseFacts(kind="file", problem=header) if isinstance(header, str) else _checkpoint(header)


def _checkpoint(header: Header) -> BaseFacts:
    """A single-file checkpoint by its tensor names, shapes and metadata."""
    family, problem = _family(header)
    prediction = header.metadata.get("modelspec.prediction_type", "").lower()
    v_prediction = True if "v_pred" in header.shapes or prediction.startswith("v") else None
    if v_prediction is None and prediction.startswith("eps"):
        v_prediction = False
    zero_snr = True if "ztsnr" in header.shapes else None
    return BaseFacts(kind="file", family=family, v_prediction=v_prediction, zero_terminal_snr=zero_snr, problem=problem)


def _family(header: Header) -> tuple[Family | None, str | None]:
    """The family, or in words what the file is instead."""
    names = header.shapes
    if any(_ADAPTER.search(name) for name in names):
        return None, "this is a LoRA, not a base model: name the checkpoint it was trained on"
    by_text: Family | None = next((each for prefix, each in _TEXT_ENCODERS if _any_starts(names, prefix)), None)
    by_unet = _CONTEXT.get(next((shape[-1] for name, shape in names.items() if _CONTEXT_KEY.match(name) and shape), 0))
    if by_text and by_unet == by_text:
        return by_text, _channels(next(iter(names.get(_FIRST_LAYER, (0, 4))[1:]), 0))
    other = next((words for part, words in _OTHERS if any(part in name for name in names)), None)
    if other:
        return None, f"this is {other}; {_SUPPORTED}"
    return None, _incomplete(names, by_text, by_unet)


def _channels(channels: object) -> str | None:
    if channels == 4:
        return None
    return f"its UNet takes {channels} channels, not 4 (an inpainting or edit model): sd-scripts cannot load it"


def _any_starts(names: Iterable[str], prefix: str) -> bool:
    return any(name.startswith(prefix) for name in names)


def _incomplete(names: Iterable[str], by_text: Family | None, by_unet: Family | None) -> str:
    if by_text and by_unet:
        return f"its text encoder is that of {by_text}, its UNet that of {by_unet}"
    if by_unet or _any_starts(names, "model.diffusion_model."):
        return "this is a UNet without its text encoder: sd-scripts needs the whole checkpoint"
    if by_text:
        return "this has a text encoder but no UNet: sd-scripts needs the whole checkpoint"
    if _any_starts(names, "first_stage_model.") or _any_starts(names, "decoder."):
        return "this is a VAE, not a base model: it belongs to vae under [base]"
    return f"this is no Stable Diffusion checkpoint (its tensors: {_some(sorted(names), 3)}); {_SUPPORTED}"


def _folder(folder: Path) -> BaseFacts:
    index = _json(folder / "model_index.json")
    if index is None:
        return BaseFacts(kind="folder", problem=_no_index(folder))
    pipeline = str(index.get("_class_name", "an unnamed pipeline"))
    unet = _json(folder / "unet" / "config.json") or {}
    family = _CONTEXT.get(_context(unet))
    scheduler = _json(folder / "scheduler" / "scheduler_config.json") or {}
    prediction, zero_snr = scheduler.get("prediction_type"), scheduler.get("rescale_betas_zero_snr")
    weights = [_weights(folder / part) for part in _parts(family)]
    return BaseFacts(
        kind="folder",
        family=family,
        fp16_files=any(_is_fp16(name) for names in weights for name in names),
        plain_files=all(any(not _is_fp16(name) for name in names) for names in weights if names),
        v_prediction=prediction == "v_prediction" if isinstance(prediction, str) else None,
        zero_terminal_snr=zero_snr if isinstance(zero_snr, bool) else None,
        problem=_folder_problem(folder, pipeline, unet, family),
    )


def _folder_problem(folder: Path, pipeline: str, unet: Mapping[str, object], family: Family | None) -> str | None:
    if not pipeline.startswith("StableDiffusion") or pipeline.startswith("StableDiffusion3"):
        return f"model_index.json says {pipeline}; {_SUPPORTED}"
    if family is None:
        return f"unet/config.json has no cross_attention_dim of a known family (found {_context(unet) or 'none'})"
    bare = [part for part in _parts(family) if not _weights(folder / part)]
    if bare:
        return f"no weights (.safetensors or .bin) in {_some(bare)} of {folder}"
    return _channels(unet.get("in_channels", 4))


def _parts(family: Family | None) -> tuple[str, ...]:
    return ("unet", "text_encoder", "vae", *(("text_encoder_2",) if family == "sdxl" else ()))


def _weights(folder: Path) -> list[str]:
    """The names of the files with weights in one part of a diffusers folder."""
    entries = folder.iterdir() if folder.is_dir() else ()
    return [each.name for each in entries if each.suffix in _WEIGHTS and each.is_file() and each.stat().st_size > 0]


def _is_fp16(name: str) -> bool:
    """diffusers 0.32.1 looks at what stands behind the first dot (pipeline_loading_utils.py:785)."""
    return name.split(".")[1].startswith("fp16")


def _context(unet: Mapping[str, object]) -> int:
    found = unet.get("cross_attention_dim")
    first = next(iter(cast("list[object]", found)), 0) if isinstance(found, list) else found
    return first if isinstance(first, int) else 0


def _no_index(folder: Path) -> str:
    names = sorted(each.name for each in folder.iterdir())
    start = f"{folder} is not a diffusers model (no readable model_index.json)"
    models = [name for name in names if name.lower().endswith(".safetensors")]
    if len(models) == 1:
        return f"{start}, but it holds {models[0]}: name that file instead"
    return f"{start}; it holds {_some(names)}" if names else f"{start}; it is empty"


def _json(path: Path) -> dict[str, object] | None:
    """A JSON object from a file, None when there is none that can be read."""
    try:
        loaded: object = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return cast("dict[str, object]", loaded) if isinstance(loaded, dict) else None


__all__ = ["inspect_base"]
