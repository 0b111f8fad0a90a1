"""Facts from a base model's own files: family, prediction type, faults. Never reads a tensor or imports torch."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from itertools import takewhile
from pathlib import Path, PurePosixPath
from typing import cast

from lorabake.util.files import exists, inaccessible_reason, is_file, is_folder, parse_json, read_text, reason
from lorabake.util.path_case import match_case_insensitive, recipe_relative_path
from lorabake.util.safetensors import HeaderError, SafetensorsHeader, find_checkpoint_problem, read_header
from lorabake_schemas.families.model_family import ModelFamily
from lorabake_schemas.families.registry import find_family_by_context, list_families
from lorabake_schemas.machine import BaseFacts
from lorabake_schemas.messages import Message, literal, msg, shorten_list

_CONTEXT_KEY_PATTERN = re.compile(r"^model\.diffusion_model\..*\.attn2\.to_k\.weight$")
_LORA_KEY_PATTERN = re.compile(
    r"lora_down|lora_up|lora_A\.|lora_B\.|hada_w|lokr_w|oft_diag|oft_blocks|^lora_(unet|te)|\.dora_scale$"
)
_OTHER_MODELS = (
    ("joint_blocks.", msg("a Stable Diffusion 3 model")),
    ("double_blocks.", msg("a Flux model")),
    ("single_transformer_blocks.", msg("a Flux model")),
    ("conditioner.embedders.0.model.", msg("the SDXL refiner")),
    ("emb_params", msg("a textual inversion embedding")),
    ("clip_g", msg("a textual inversion embedding")),
    ("control_model.", msg("a ControlNet")),
)
_FIRST_LAYER = "model.diffusion_model.input_blocks.0.0.weight"  # its second dimension: latent channels
# What tools that merge models write into a file's metadata: ModelSpec's key, and those of the AUTOMATIC1111 web UI.
_MERGED_FROM, _MERGE_RECIPE, _MERGE_MODELS = "modelspec.merged_from", "sd_merge_recipe", "sd_merge_models"
_WEIGHT_EXTENSIONS = (".safetensors", ".bin")
_PICKLE_EXTENSIONS = (".ckpt", ".pt", ".pth", ".bin")
_MODEL_EXTENSIONS = (".safetensors", *_PICKLE_EXTENSIONS)
_HUB_ID_PATTERN = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
CONFIG_LIMIT = 1 << 20  # bytes; the configurations of diffusers take a thousandth


def inspect_base_model(model: str, base_dir: Path, declared_family: str | None = None) -> BaseFacts:
    """Facts about the base model a recipe names; ``model`` is relative to ``base_dir`` unless absolute.

    A file or folder is tried first; only what cannot be a path here is a hub id. ``declared_family`` is the recipe's.
    If the files do not show the family and the recipe does not set it either, that is the problem. A declared family is
    never compared here with the detected one. Never raises for anything on the disk.
    """
    path = base_dir / model
    try:
        facts = _inspect_path(path, model, base_dir)
    except (OSError, ValueError) as error:
        why = reason(error) if isinstance(error, OSError) else str(error)
        return BaseFacts(kind="missing", problem=msg("cannot read {file}: {why}", file=model, why=why))
    if facts.family is None and facts.problem is None and declared_family is None:
        return facts.model_copy(update={"problem": _unknown_family_message(facts, path.suffix)})
    return facts


def _supported_message() -> Message:
    return msg("lorabake trains on {families}", families=", ".join(family.label for family in list_families()))


def _unknown_family_message(facts: BaseFacts, suffix: str) -> Message:
    if facts.kind == "hub":
        return msg("this path does not exist, so it is taken as a Hugging Face id; set family under [base]")
    if facts.kind == "folder":
        return msg("cannot detect the model family from this folder; set family under [base]")
    return msg("cannot detect the model family from this {file}; set family under [base]", file=suffix or "file")


def _inspect_path(path: Path, model: str, base_dir: Path) -> BaseFacts:
    if is_folder(path):
        return _inspect_folder(path)
    if exists(path):
        return _inspect_file(path)
    if (why := inaccessible_reason(path)) is not None:
        return BaseFacts(kind="missing", problem=msg("cannot read {file}: {why}", file=model, why=why))
    if looks_like_hub_id(model) and not exists((base_dir / model).parent):
        return BaseFacts(kind="hub")
    return BaseFacts(kind="missing", problem=_missing_message(path, base_dir))


def looks_like_hub_id(model: str) -> bool:
    """Whether a name has the form of a Hugging Face id (owner/name)."""
    """owner/name, unless it ends in a model file's extension, also a misspelled one."""
    extension = PurePosixPath(model.lower()).suffix
    return _HUB_ID_PATTERN.fullmatch(model) is not None and not get_close_matches(extension, _MODEL_EXTENSIONS, 1, 0.8)


def _missing_message(path: Path, base_dir: Path) -> Message:
    spelt = match_case_insensitive(path)
    if spelt is not None:
        there = recipe_relative_path(spelt, base_dir)
        return msg("{path} does not exist, but {there} does (names are case-sensitive)", path=path, there=there)
    if not is_folder(path.parent):
        return msg("{path} does not exist, and neither does the folder {folder}", path=path, folder=path.parent)
    alike = sorted(each.name for each in path.parent.iterdir() if each.suffix in {".safetensors", *_PICKLE_EXTENSIONS})
    if not alike:
        return msg("{path} does not exist", path=path)
    return msg("{path} does not exist (its folder contains {files})", path=path, files=_abbreviate_names(alike))


def _abbreviate_names(names: Iterable[str], most: int = 5) -> Message:
    return shorten_list(list(names), most, literal)


def _inspect_file(path: Path) -> BaseFacts:
    """sd-scripts only looks at the extension: .safetensors is safetensors, anything else is unpickled."""
    if path.suffix.lower() != ".safetensors":
        return BaseFacts(kind="file", problem=find_checkpoint_problem(path))
    try:
        return _inspect_checkpoint(read_header(path))
    except HeaderError as error:
        return BaseFacts(kind="file", problem=msg("cannot read {file}: {why}", file=path.name, why=error.why))


def _inspect_checkpoint(header: SafetensorsHeader) -> BaseFacts:
    """A single-file checkpoint by its tensor names, shapes and metadata."""
    family, problem = _detect_family(header)
    prediction = header.metadata.get("modelspec.prediction_type", "").lower()
    v_prediction = True if "v_pred" in header.shapes or prediction.startswith("v") else None
    if v_prediction is None and prediction.startswith("eps"):
        v_prediction = False
    zero_snr = True if "ztsnr" in header.shapes else None
    return BaseFacts(
        kind="file",
        family=family.name if family else None,
        v_prediction=v_prediction,
        zero_terminal_snr=zero_snr,
        merged=_find_merged_models(header.metadata),
        problem=problem,
    )


def _find_merged_models(metadata: Mapping[str, str]) -> str | None:
    """The models that a checkpoint was merged from, by its own metadata, which a merging tool may not have written."""
    if metadata.get(_MERGED_FROM):
        return metadata[_MERGED_FROM]
    if _MERGE_RECIPE not in metadata and _MERGE_MODELS not in metadata:
        return None
    models = _parse_json_object(metadata.get(_MERGE_MODELS, "")) or {}
    parts = [cast("dict[str, object]", each) for each in models.values() if isinstance(each, dict)]
    names = [str(part["name"]) for part in parts if part.get("name")]
    return _abbreviate_names(names) if names else _MERGE_RECIPE


def _detect_family(header: SafetensorsHeader) -> tuple[ModelFamily | None, Message | None]:
    """The family, or a description of what the file is instead."""
    names = header.shapes
    if any(_LORA_KEY_PATTERN.search(name) for name in names):
        return None, msg("this is a LoRA, not a base model; use the checkpoint it was trained on")
    by_text = next((each for each in list_families() if _any_starts_with(names, each.text_encoder_prefix)), None)
    by_unet = find_family_by_context(
        next((shape[-1] for name, shape in names.items() if _CONTEXT_KEY_PATTERN.match(name) and shape), 0)
    )
    if by_text and by_unet == by_text:
        return by_text, _channel_problem(next(iter(names.get(_FIRST_LAYER, (0, 4))[1:]), 0))
    other = next((words for part, words in _OTHER_MODELS if any(part in name for name in names)), None)
    if other:
        return None, msg("this is {what}; {supported}", what=other, supported=_supported_message())
    return None, _incomplete_message(names, by_text, by_unet)


def _channel_problem(channels: object) -> Message | None:
    if channels == 4:
        return None
    return msg(
        "its UNet has {found} input channels instead of 4 (an inpainting or edit model); sd-scripts cannot load it",
        found=str(channels),
    )


def _any_starts_with(names: Iterable[str], prefix: str) -> bool:
    return any(name.startswith(prefix) for name in names)


def _incomplete_message(names: Iterable[str], by_text: ModelFamily | None, by_unet: ModelFamily | None) -> Message:
    if by_text and by_unet:
        return msg("its text encoder is from {text}, but its UNet is from {unet}", text=by_text.name, unet=by_unet.name)
    if by_unet or _any_starts_with(names, "model.diffusion_model."):
        return msg("this is a UNet without a text encoder; sd-scripts needs the full checkpoint")
    if by_text:
        return msg("this has a text encoder but no UNet; sd-scripts needs the full checkpoint")
    if _any_starts_with(names, "first_stage_model.") or _any_starts_with(names, "decoder."):
        return msg("this is a VAE, not a base model; set it as vae under [base]")
    return msg(
        "this is not a Stable Diffusion checkpoint (its tensors: {tensors}); {supported}",
        tensors=_abbreviate_names(sorted(names), 3),
        supported=_supported_message(),
    )


def _inspect_folder(folder: Path) -> BaseFacts:
    index = _read_json_object(folder / "model_index.json")
    if index is None:
        return BaseFacts(kind="folder", problem=_missing_index_message(folder))
    pipeline = str(index.get("_class_name", "an unnamed pipeline"))
    unet = _read_json_object(folder / "unet" / "config.json") or {}
    family = find_family_by_context(_read_context_dim(unet))
    scheduler = _read_json_object(folder / "scheduler" / "scheduler_config.json") or {}
    prediction, zero_snr = scheduler.get("prediction_type"), scheduler.get("rescale_betas_zero_snr")
    weights = [_list_weight_files(folder / part) for part in (family.folder_parts if family else ())]
    return BaseFacts(
        kind="folder",
        family=family.name if family else None,
        fp16_files=any(_is_fp16(name) for names in weights for name in names),
        plain_files=all(any(not _is_fp16(name) for name in names) for names in weights if names),
        v_prediction=prediction == "v_prediction" if isinstance(prediction, str) else None,
        zero_terminal_snr=zero_snr if isinstance(zero_snr, bool) else None,
        text_layers=_count_text_layers(folder, family),
        problem=_folder_problem(folder, pipeline, unet, family),
    )


def _folder_problem(
    folder: Path, pipeline: str, unet: Mapping[str, object], family: ModelFamily | None
) -> Message | None:
    if not pipeline.startswith("StableDiffusion") or pipeline.startswith("StableDiffusion3"):
        return msg("model_index.json has {pipeline}; {supported}", pipeline=pipeline, supported=_supported_message())
    if family is None:
        found = _read_context_dim(unet)
        said = msg("the cross_attention_dim in unet/config.json does not match a known family")
        return msg("{problem} (found {value})", problem=said, value=found) if found else said
    bare = [part for part in family.folder_parts if not _list_weight_files(folder / part)]
    if bare:
        return msg(
            "no weights (.safetensors or .bin) in {parts} of {folder}", parts=_abbreviate_names(bare), folder=folder
        )
    return _channel_problem(unet.get("in_channels", 4))


def _count_text_layers(folder: Path, family: ModelFamily | None) -> tuple[int, ...]:
    """The layers of each text encoder, if its configuration has them: sd-scripts uses the folder's."""
    parts = [encoder.folder for encoder in family.text_encoders] if family else []
    configs = [_read_json_object(folder / part / "config.json") or {} for part in parts]
    told = takewhile(lambda layers: type(layers) is int and layers > 0, (c.get("num_hidden_layers") for c in configs))
    return tuple(cast("Iterable[int]", told))


def _list_weight_files(folder: Path) -> list[str]:
    """The names of the files with weights in one part of a diffusers folder."""
    entries = folder.iterdir() if is_folder(folder) else ()
    return [
        each.name for each in entries if each.suffix in _WEIGHT_EXTENSIONS and is_file(each) and each.stat().st_size > 0
    ]


def _is_fp16(name: str) -> bool:
    """diffusers 0.32.1 reads what follows the first dot (pipeline_loading_utils.py:785)."""
    return name.split(".")[1].startswith("fp16")


def _read_context_dim(unet: Mapping[str, object]) -> int:
    found = unet.get("cross_attention_dim")
    first = next(iter(cast("list[object]", found)), 0) if isinstance(found, list) else found
    return first if type(first) is int else 0


def _missing_index_message(folder: Path) -> Message:
    names = sorted(each.name for each in folder.iterdir())
    start = msg("{folder} is not a diffusers model (no readable model_index.json)", folder=folder)
    models = [name for name in names if name.lower().endswith(".safetensors")]
    if models and is_file(folder / "config.json"):
        return msg("{problem} and looks like one part of a model; use its parent folder", problem=start)
    if len(models) == 1:
        return msg("{problem}, but it contains {file}; use that file instead", problem=start, file=models[0])
    if not names:
        return msg("{problem} and is empty", problem=start)
    return msg("{problem}, but contains {files}", problem=start, files=_abbreviate_names(names))


def _read_json_object(path: Path) -> dict[str, object] | None:
    """A JSON object from a file, None if it cannot be read."""
    try:
        return _parse_json_object(read_text(path, CONFIG_LIMIT))
    except (OSError, ValueError):
        return None


def _parse_json_object(text: str) -> dict[str, object] | None:
    """The JSON object in a text, None for anything else."""
    try:
        loaded = parse_json(text)
    except ValueError:
        return None
    return cast("dict[str, object]", loaded) if isinstance(loaded, dict) else None
