"""What a run would ask of the Hugging Face hub, and whether it is all on this machine already."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from lorabake.util.files import exists, is_file, is_folder, read_text
from lorabake_schemas.families.model_family import ModelFamily
from lorabake_schemas.families.registry import get_family
from lorabake_schemas.machine import BaseFacts
from lorabake_schemas.recipe import Recipe

COMMIT_LIMIT = 1 << 10  # bytes; the digits of a commit take 40
_TOKENIZER_FILES = ("vocab.json", "merges.txt")
# [kohya] options that speak with the hub while the trainer runs (TN:1310, TU:4776).
_ONLINE_OPTIONS = ("huggingface_repo_id", "resume_from_huggingface")


def list_missing_tokenizers(cache_dir: Path, family: ModelFamily) -> tuple[str, ...]:
    """The tokenizer folders that sd-scripts would have to fetch into ``cache_dir``, by name."""
    return tuple(
        name
        for name in (encoder.tokenizer_cache for encoder in family.text_encoders)
        if not all(is_file(cache_dir / name / file) for file in _TOKENIZER_FILES)
    )


def can_run_offline(recipe: Recipe, base: BaseFacts | None, folder: Path) -> bool:
    """Whether a run needs nothing of the hub, so that it can be kept from asking. ``folder`` is the recipe's.

    Model, VAE and tokenizers are here, and nothing is uploaded.
    """
    cache, vae = recipe.base.tokenizer_cache_dir, recipe.base.vae
    family = recipe.base.family or (base.family if base else None)
    return (
        base is not None
        and base.kind in {"file", "folder"}
        and (vae is None or exists(folder / vae))
        and cache is not None
        and family is not None
        and not list_missing_tokenizers(folder / cache, get_family(family))
        and not any(recipe.kohya.get(name) for name in _ONLINE_OPTIONS)
    )


def is_hub_offline(env: Mapping[str, str]) -> bool:
    """Whether huggingface_hub downloads nothing (its constants.py)."""
    given = env.get("HF_HUB_OFFLINE") or env.get("TRANSFORMERS_OFFLINE") or ""
    return given.upper() in {"1", "ON", "YES", "TRUE"}


def find_hub_snapshot(place: str, env: Mapping[str, str]) -> Path | None:
    """The folder with what was downloaded for a hub id (or for a folder in one, ``org/name/folder``).

    None if it was never downloaded. It is the snapshot of the id's main branch at the last request to the hub.
    """
    owner, _, rest = place.partition("/")
    name, _, inside = rest.partition("/")
    folder = find_hub_cache(env) / f"models--{owner}--{name}"
    try:
        commit = read_text(folder / "refs" / "main", COMMIT_LIMIT).strip()
    except (OSError, ValueError):
        return None
    found = folder / "snapshots" / commit / inside
    return found if commit and is_folder(found) else None


def find_hub_cache(env: Mapping[str, str]) -> Path:
    """Where huggingface_hub keeps what it downloads (its constants.py)."""
    for name in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"):
        if env.get(name):
            return _expand_home(env[name], env)
    if env.get("HF_HOME"):
        return _expand_home(env["HF_HOME"], env) / "hub"
    return _expand_home(env.get("XDG_CACHE_HOME") or "~/.cache", env) / "huggingface" / "hub"


def _expand_home(path: str, env: Mapping[str, str]) -> Path:
    home = env.get("HOME")
    return Path(home + path[1:]) if home and (path == "~" or path.startswith("~/")) else Path(path)
