"""The other files that a recipe names apart from model and images: whether they exist and have the right content."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import reduce
from pathlib import Path
from typing import cast

from lorabake.inputs.base_model import looks_like_hub_id
from lorabake.inputs.hub import find_hub_snapshot, is_hub_offline, list_missing_tokenizers
from lorabake.util.files import (
    exists,
    inaccessible_reason,
    is_file,
    is_folder,
    parse_json,
    read_text,
    reason,
    unreadable_reason,
)
from lorabake.util.path_case import match_case_insensitive, recipe_relative_path
from lorabake.util.safetensors import SafetensorsHeader, can_run_code, find_checkpoint_problem, read_header
from lorabake_schemas.families.model_family import ModelFamily
from lorabake_schemas.families.registry import get_family, list_families
from lorabake_schemas.findings import Finding, Severity
from lorabake_schemas.machine import BaseFacts
from lorabake_schemas.messages import Message, literal, msg
from lorabake_schemas.recipe import Network, Recipe
from lorabake_schemas.unjudged import evaluate_or_none

RecipeKey = tuple[str, str]
CONFIG_LIMIT = 1 << 20  # bytes
VAE_EXTENSIONS = (".safetensors", ".pt", ".ckpt", ".bin")
_NETWORK_ALGORITHMS = {  # by their tensors
    "lora": "lora", "locon": "lora", "dylora": "lora", "loha": "loha", "lokr": "lokr", "glora": "glora", "ia3": "ia3",
    "diag-oft": "diag-oft", "boft": "boft", "full": "full",
}  # fmt: skip
_VAE_PREFIXES = ("first_stage_model.", "encoder.", "decoder.", "quant_conv.", "post_quant_conv.")


def iter_file_findings(
    recipe: Recipe,
    folder: Path,
    family: ModelFamily | None,
    network: str | None,
    *,
    rehearsing: bool,
    offline: bool = False,
) -> Iterator[Finding]:
    """Every such file that sd-scripts would stop at minutes later, or pass over in silence.

    ``folder`` is the recipe's; ``family`` and ``network`` are those of the run, None where a wrong key hides them. A
    rehearsal reads none of them. ``offline``: nothing can be downloaded.
    """
    unet_only = evaluate_or_none(lambda: recipe.network.network_train_unet_only)
    severity = Severity.WARNING if rehearsing else Severity.ERROR
    for where, name in _iter_referenced(recipe, folder):
        path = folder / name
        if (why := inaccessible_reason(path)) is not None:
            said, fix = msg("cannot read {file}: {why}", file=name, why=why), msg("check its path and permissions")
            yield Finding(rule="wrong-file", severity=severity, where=where, message=said, fix=fix)
            continue
        if not exists(path):
            said = msg("{path} does not exist", path=path)
            spelt = match_case_insensitive(path)
            fix = (
                msg("use a path relative to the recipe, or remove the line")
                if spelt is None
                else msg("write {path} (names are case-sensitive)", path=recipe_relative_path(spelt, folder))
            )
            yield Finding(rule="missing-file", severity=severity, where=where, message=said, fix=fix)
            continue
        found = _find_problem(where, path, family, network)
        if found:
            yield Finding(rule="wrong-file", severity=severity, where=where, message=found[0], fix=found[1])
        elif where[1] == "network_weights" and unet_only and _has_text_encoder(path):
            said = msg("{file} also contains text encoder weights, which a UNet-only run does not save", file=name)
            fix = msg("merge the two afterwards, or remove network_train_unet_only")
            yield Finding(rule="wrong-file", severity=Severity.WARNING, where=where, message=said, fix=fix)
    if family is not None:
        cache = evaluate_or_none(lambda: recipe.base.tokenizer_cache_dir)
        yield from _check_tokenizers(cache, folder, family, severity, offline=offline)


def _iter_referenced(recipe: Recipe, folder: Path) -> Iterator[tuple[RecipeKey, str]]:
    """Each file with its key; a key that is wrong names none."""
    for where, names in (
        (("base", "vae"), lambda: _vae_file(recipe.base.vae or "", folder)),
        (("network", "network_weights"), lambda: (recipe.network.network_weights,)),
        (("network", "preset"), lambda: _preset_file(recipe.network)),
        (("kohya", "log_tracker_config"), lambda: (recipe.kohya.get("log_tracker_config"),)),
        (("kohya", "base_weights"), lambda: _as_tuple(recipe.kohya.get("base_weights"))),
    ):
        yield from ((where, name) for name in evaluate_or_none(names) or () if isinstance(name, str) and name)


def _vae_file(name: str, folder: Path) -> tuple[str, ...]:
    is_id = looks_like_hub_id(name) and not exists((folder / name).parent)
    return (name,) if name.endswith(VAE_EXTENSIONS) or exists(folder / name) or not is_id else ()


def _preset_file(network: Network) -> tuple[str, ...]:
    preset = network.preset or ""
    return (preset,) if preset.endswith(".toml") and network.type != "lora" else ()


def _as_tuple(names: object) -> tuple[object, ...]:
    return cast("tuple[object, ...]", names) if isinstance(names, tuple) else ()


def _find_problem(
    where: RecipeKey, path: Path, family: ModelFamily | None, network: str | None
) -> tuple[Message, Message] | None:
    """What is wrong with the file that this key names, and what to do."""
    problem: Message | None = None
    fix = msg("use a LoRA of the same family")
    try:
        match where[1]:
            case "vae":
                problem, fix = find_vae_problem(path), msg("use a VAE file or the folder of a diffusers VAE")
            case "network_weights":
                problem = find_lora_problem(path, family, network)
                fix = msg("use a LoRA of the same family and type; weights that do not match are silently skipped")
            case "base_weights":
                problem = find_lora_problem(path, family)
            case _:
                problem, fix = unreadable_reason(path), msg("write the path of a file that can be read")
                if problem:
                    problem = msg("cannot read {file}: {why}", file=path, why=problem)
    except (OSError, ValueError) as error:
        why = reason(error) if isinstance(error, OSError) else str(error)
        problem = msg("cannot read {file}: {why}", file=path, why=why)
        fix = msg("check the file and its permissions")
    return (problem, fix) if problem else None


def find_pickles(recipe: Recipe, folder: Path) -> tuple[tuple[RecipeKey, str], ...]:
    """The single files among a recipe's models that are in torch's own format by content: a program. A diffusers
    folder is not: its loaders only read numbers from a .bin (diffusers' model_loading_utils.py:149).
    """
    named = [(("base", "model"), evaluate_or_none(lambda: recipe.base.model)), *_iter_referenced(recipe, folder)]
    return tuple((where, name) for where, name in named if name and can_run_code(folder / name))


def _check_tokenizers(
    cache: str | None, folder: Path, family: ModelFamily, severity: Severity, *, offline: bool
) -> Iterator[Finding]:
    """sd-scripts fetches what is missing in tokenizer_cache_dir, and keeps it there (strategy_base.py:54-71): it stops
    if that is a file. ``offline``: ``iter_offline_findings`` reports what is missing.
    """
    where, path = ("base", "tokenizer_cache_dir"), folder / (cache or "")
    if not cache:
        return
    if exists(path) and not is_folder(path):
        said, fix = msg("{path} is not a folder", path=path), msg("write the path of a folder, or remove the line")
        yield Finding(rule="wrong-file", severity=severity, where=where, message=said, fix=fix)
    elif not offline and (lacking := ", ".join(list_missing_tokenizers(path, family))):
        said = msg(
            "tokenizer missing in {folder} ({names}); sd-scripts will download it from the Hugging Face Hub",
            folder=path,
            names=lacking,
        )
        if not exists(path):
            said = msg(
                "{path} does not exist; sd-scripts will create it and download {names} from the Hugging Face Hub",
                path=path,
                names=lacking,
            )
        fix = msg("be online for the first run, or add the files first (vocab.json, merges.txt, tokenizer_config.json)")
        yield Finding(rule="missing-file", severity=Severity.WARNING, where=where, message=said, fix=fix)


def find_lora_problem(path: Path, family: ModelFamily | None, network: str | None = None) -> Message | None:
    """Why a file cannot be the LoRA to continue from, None if it can. Raises OSError."""
    if is_folder(path):
        return msg("{path} is a folder, not a LoRA file", path=path)
    if path.suffix != ".safetensors":
        return find_checkpoint_problem(path)
    return _find_mismatch(read_header(path), path.name, family, network)


def _has_text_encoder(path: Path) -> bool:
    """Whether a LoRA's file, which can be read, trained the text encoder as well."""
    try:
        names = read_header(path).tensors if path.suffix == ".safetensors" else ()
    except (OSError, ValueError):
        return False
    return any(name.startswith("lora_te") for name in names)


def _find_mismatch(
    header: SafetensorsHeader, file: str, family: ModelFamily | None, network: str | None
) -> Message | None:
    """sd-scripts loads with strict=False: what does not match is left out silently (networks/lora.py:1079)."""
    from lorabake.lora.network import detect_lora_family, list_lora_modules  # few recipes name a LoRA

    modules = list_lora_modules(header.shapes)
    if not modules:
        first = ", ".join(sorted(header.tensors)[:3]) or msg("none")
        return msg("{file} is not a LoRA that sd-scripts can read (its tensors: {tensors})", file=file, tensors=first)
    detected = detect_lora_family(modules)
    possible = [detected.name] if detected else [each.name for each in list_families() if not each.lora.modules]
    if family is not None and family.name not in possible:
        names = (literal(each) for each in possible)
        families = reduce(lambda some, one: msg("{first} or {second}", first=some, second=one), names)
        return msg(
            "{file} is a LoRA for {families}, but the base model is {family}",
            file=file,
            families=families,
            family=family.name,
        )
    algorithm = _NETWORK_ALGORITHMS.get(network or "")
    if algorithm and all(module.algorithm != algorithm for module in modules):
        return msg("{file} is a LoRA of a different type, not {network}", file=file, network=network or "")
    return None


def _read_class_name(config: Path) -> str:
    """What a part of a diffusers model says that it is, "" when it does not say."""
    try:
        found = parse_json(read_text(config, CONFIG_LIMIT))
    except (OSError, ValueError):
        return ""
    name = cast("dict[str, object]", found).get("_class_name") if isinstance(found, dict) else None
    return name if isinstance(name, str) else ""


def iter_offline_findings(
    recipe: Recipe, base: BaseFacts, folder: Path, env: Mapping[str, str], *, launching: bool
) -> Iterator[Finding]:
    """What is not on this machine, where the environment keeps the trainer from downloading it."""
    if not is_hub_offline(env):
        return
    for where, name in _iter_hub_needs(recipe, base, folder, env):
        yield Finding(
            rule="missing-file",
            severity=Severity.ERROR if launching else Severity.WARNING,
            where=where,
            message=msg("{name} is not downloaded yet, and HF_HUB_OFFLINE prevents the download", name=name),
            fix=_suggest_offline_fix(where, name),
        )


def _suggest_offline_fix(where: RecipeKey, name: str) -> Message:
    if where[-1] != "tokenizer_cache_dir":
        return msg("unset HF_HUB_OFFLINE for the first run, or write the path of a file on this machine")
    return msg(
        "unset HF_HUB_OFFLINE for the first run, or set base.tokenizer_cache_dir to a folder that contains {folder}",
        folder=name.replace("/", "_"),
    )


def _iter_hub_needs(
    recipe: Recipe, base: BaseFacts, folder: Path, env: Mapping[str, str]
) -> Iterator[tuple[RecipeKey, str]]:
    """Models and tokenizers that sd-scripts would have to download."""
    vae = evaluate_or_none(lambda: recipe.base.vae)
    named = [("model", recipe.base.model)] if evaluate_or_none(lambda: base.kind) == "hub" else []
    named += [("vae", vae)] if vae and not _vae_file(vae, folder) else []
    yield from ((("base", key), name) for key, name in named if find_hub_snapshot(name, env) is None)
    family = evaluate_or_none(lambda: recipe.base.family or base.family)
    cache = evaluate_or_none(lambda: recipe.base.tokenizer_cache_dir)
    if family is None or (cache and exists(folder / cache) and not is_folder(folder / cache)):
        return
    places = {each.tokenizer_cache: each.tokenizer_place for each in get_family(family).text_encoders}
    missing = list_missing_tokenizers(folder / cache, get_family(family)) if cache else tuple(places)
    for name in missing:
        if find_hub_snapshot(places[name], env) is None:
            yield ("base", "tokenizer_cache_dir"), places[name]


def _find_vae_folder_problem(path: Path) -> Message | None:
    configs = [config for part in ("", "vae") if is_file(config := path / part / "config.json")]
    kinds = [_read_class_name(config) for config in configs]
    if not configs:
        return msg("{path} is a folder without a diffusers VAE (no config.json)", path=path)
    if any(kind.startswith("Autoencoder") or not kind for kind in kinds):
        return None
    return msg("{path} is a {kind}, not a VAE", path=path, kind=kinds[0])


def find_vae_problem(path: Path) -> Message | None:
    """Why this cannot be a VAE, None when it may be (model_util.py:1269-1310 at the pin). Raises OSError."""
    if is_folder(path):
        return _find_vae_folder_problem(path)
    if path.suffix != ".safetensors":
        return find_checkpoint_problem(path)
    names = read_header(path).tensors
    if not any(name.startswith(_VAE_PREFIXES) for name in names):
        return msg("{file} is not a VAE", file=path.name)
    if any(name.startswith("encoder.down_blocks.") for name in names):
        return msg("{file} is a diffusers VAE, which sd-scripts loads only from its folder", file=path.name)
    return None
