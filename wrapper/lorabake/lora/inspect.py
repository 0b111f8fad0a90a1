"""Everything that one file tells of itself, put together: what it is, what is wrong with it, what is worth knowing."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from lorabake.lora.dataset_metadata import find_invalid_json, parse_datasets, parse_tag_counts
from lorabake.lora.lora_file import LoraFile, NotSafetensorsError, hash_lora, open_lora, read_scalars
from lorabake.lora.metadata import (
    list_training_values,
    parse_algorithm,
    parse_base_model,
    parse_family,
    parse_unix_time,
    parse_value,
)
from lorabake.lora.network import describe_network, detect_file_kind, detect_lora_family, list_lora_modules
from lorabake.lora.training_comment import parse_digest
from lorabake.util.files import reason
from lorabake_schemas.inspection import FileKind, Inspection, Integrity, LoraNetwork, ModelFamily, TensorVerdict
from lorabake_schemas.messages import Message, escape_undecodable, join_list, msg, nmsg

LORA_ALGORITHMS = frozenset({"lora", "locon"})  # others have no rank in a module that is smaller than it
FULL_READ_LIMIT = 64_000_000  # bytes: a file up to this is read whole, which takes a tenth of a second or two
MODEL_HASH_KEY, COMMENT_KEY = "sshs_model_hash", "ss_training_comment"
MODELSPEC_PREFIX = "modelspec."
FAMILY_NAMES: Mapping[ModelFamily, str] = MappingProxyType(
    {
        "sd15": "Stable Diffusion 1.x", "sd2": "Stable Diffusion 2.x", "sdxl": "SDXL", "sd3": "Stable Diffusion 3",
        "flux": "FLUX", "lumina": "Lumina", "hunyuan-image": "HunyuanImage", "anima": "Anima",
    }
)  # fmt: skip
ALGORITHM_NAMES: Mapping[str, str] = MappingProxyType(
    {
        "lora": "LoRA", "locon": "LoCon", "loha": "LoHa", "lokr": "LoKr", "glora": "GLoRA", "dylora": "DyLoRA",
        "diag-oft": "Diag-OFT", "boft": "BOFT", "ia3": "(IA)^3",
    }
)  # fmt: skip
KIND_DESCRIPTIONS: Mapping[FileKind, Message] = MappingProxyType(
    {
        "other-lora": msg("a LoRA, but not with sd-scripts' names: made by diffusers, PEFT or another trainer"),
        "checkpoint": msg("no LoRA: a whole model (checkpoint)"),
        "unet": msg("no LoRA: a UNet in diffusers' form"),
        "vae": msg("no LoRA: a VAE"),
        "text-encoder": msg("no LoRA: a text encoder"),
        "controlnet": msg("no LoRA: a ControlNet"),
        "embedding": msg("no LoRA: an embedding (textual inversion)"),
        "unknown": msg("a safetensors file, but no LoRA that is known here"),
    }
)


@dataclass(frozen=True, slots=True)
class InspectedFile:
    """A file's report, and the file where it could be opened."""

    report: Inspection
    file: LoraFile | None = None


def inspect_file(path: Path, *, deep: bool = False) -> InspectedFile:
    """Everything about a file; whatever is wrong with it is in ``faults``. ``deep`` looks at every number."""
    try:
        file = open_lora(path)
    except NotSafetensorsError as error:
        return InspectedFile(_report_unopened(path, "pickle" if error.pickle else "unreadable", error.why))
    except OSError as error:
        said = msg("{path} cannot be read: {why}", path=path, why=reason(error))
        return InspectedFile(_report_unopened(path, "unreadable", said))
    return InspectedFile(_build_report(file, deep=deep), file)


def _report_unopened(path: Path, kind: FileKind, why: Message) -> Inspection:
    """What there is to say about a file that cannot be opened."""
    size = path.stat().st_size if os.path.isfile(path) else None  # noqa: PTH113 - it may be out of reach
    what = msg("a torch checkpoint (pickle)") if kind == "pickle" else msg("cannot be read")
    return Inspection(
        file=escape_undecodable(str(path)), size=size, kind=kind, what=what, about={}, faults=(why,), metadata={}
    )


def _build_report(file: LoraFile, *, deep: bool) -> Inspection:
    shapes = {name: tensor.shape for name, tensor in file.tensors.items()}
    kind, modules, metadata = detect_file_kind(shapes), list_lora_modules(shapes), file.metadata
    alphas = read_scalars(file, [name for name in shapes if name.endswith(".alpha")]) if kind == "lora" else {}
    formats = {name: tensor.dtype for name, tensor in file.tensors.items()}
    network = describe_network(shapes, formats, alphas) if kind == "lora" else None
    family = detect_lora_family(modules) or parse_family(metadata)
    comment = metadata.get(COMMENT_KEY)
    began, finished = (
        parse_unix_time(metadata, "ss_training_started_at"),
        parse_unix_time(metadata, "ss_training_finished_at"),
    )
    integrity = _check_integrity(file, deep=deep)
    return Inspection(
        file=escape_undecodable(str(file.path)),
        size=file.size,
        kind=kind,
        what=_summarize_network(network, family, metadata) if network else KIND_DESCRIPTIONS[kind],
        family=family,
        network=network,
        base=parse_base_model(metadata),
        values=list_training_values(metadata),
        about={
            key.removeprefix(MODELSPEC_PREFIX): text
            for key, text in metadata.items()
            if key.startswith(MODELSPEC_PREFIX)
        },
        started=began.isoformat(timespec="seconds") if began else None,
        finished=finished.isoformat(timespec="seconds") if finished else None,
        seconds=(finished - began).total_seconds() if began and finished else None,
        comment=comment if comment != "None" else None,
        digest=parse_digest(comment) if comment else None,
        datasets=parse_datasets(metadata),
        tags=parse_tag_counts(metadata),
        integrity=integrity,
        faults=tuple(_iter_faults(integrity)),
        remarks=(
            *_iter_remarks(file, kind, network, detect_lora_family(modules)),
            *_iter_unread_remarks(integrity, deep=deep),
        ),
        metadata=dict(sorted(metadata.items())),
    )


def _summarize_network(network: LoraNetwork, family: ModelFamily | None, metadata: Mapping[str, str]) -> Message:
    """``LoCon with DoRA, dim 16, for SDXL``."""
    names = [name for name in network.algorithms if name not in {"norm", "unknown"}]
    if "locon" in names:  # its linear layers are plain LoRA
        names = [name for name in names if name != "lora"]
    if parse_algorithm(metadata) == "dylora":  # whose tensors look like a plain LoRA's
        names = ["dylora"]
    shown = [ALGORITHM_NAMES[name] if name in ALGORITHM_NAMES else msg("full matrices") for name in names]
    algorithms = join_list(shown or [msg("norms alone")], " + ")
    words: list[Message] = [msg("{network} with DoRA", network=algorithms) if network.dora else algorithms]
    ranks = sorted({rank.rank for rank in network.ranks})
    if ranks:
        shown_rank = f"{ranks[0]}-{ranks[-1]}" if len(ranks) > 1 else ranks[0]
        words.append(msg("dim {rank}", rank=shown_rank))
    if family:
        words.append(msg("for {family}", family=FAMILY_NAMES[family]))
    return join_list(words)


def _check_integrity(file: LoraFile, *, deep: bool) -> Integrity:
    saved = file.metadata.get(MODEL_HASH_KEY)
    if file.size > FULL_READ_LIMIT and not deep:
        return Integrity(verdict="not-read", saved=saved)
    whole, tensors = hash_lora(file)
    verdict: TensorVerdict = "no-hash" if saved is None else "same" if saved == tensors else "changed"
    if saved is not None and saved.startswith("0x"):  # lycoris/utils/__init__.py:33: one tensor after the other
        verdict = "not-comparable"
    return Integrity(
        verdict=verdict,
        saved=saved,
        tensors=tensors,
        file=whole,
        not_finite=_find_not_finite(file) if deep else None,
    )


def _find_not_finite(file: LoraFile) -> tuple[str, ...] | None:
    """None where a number format is not known here."""
    from lorabake.lora.weights import WeightsError, read_weights

    try:
        return read_weights(file.path).not_finite
    except WeightsError:
        return None


def _iter_faults(integrity: Integrity) -> Iterator[Message]:
    if integrity.verdict == "changed":
        yield msg(
            "the tensors are not those that were saved: sshs_model_hash is {saved}, theirs is {found}",
            saved=(integrity.saved or "")[:16],
            found=(integrity.tensors or "")[:16],
        )
    if broken := integrity.not_finite:
        yield nmsg(
            len(broken),
            "{n} tensor holds NaN or infinity: {first}",
            "{n} tensors hold NaN or infinity, {first} first",
            first=broken[0],
        )


def _iter_unread_remarks(integrity: Integrity, *, deep: bool) -> Iterator[Message]:
    if deep and integrity.not_finite is None:
        yield msg("its numbers are in a format that is not known here: they were not looked at")


def _iter_remarks(
    file: LoraFile, kind: FileKind, network: LoraNetwork | None, family: ModelFamily | None
) -> Iterator[Message]:
    metadata = file.metadata
    if kind == "lora" and not any(key.startswith("ss_") for key in metadata):
        yield msg(
            "it has no metadata of sd-scripts: stripped, or made by another program; the tensors alone speak here"
        )
    named = parse_family(metadata)
    if family and named and family != named:
        yield msg("the metadata say {one}, the tensors {other}", one=FAMILY_NAMES[named], other=FAMILY_NAMES[family])
    rank = parse_value(metadata.get("ss_network_dim", ""))
    ranks = {each.rank for each in network.ranks} if network else set[int]()
    if (
        isinstance(rank, int)
        and ranks
        and rank not in ranks
        and set(network.algorithms if network else ()) <= LORA_ALGORITHMS
    ):
        there = ", ".join(map(str, sorted(ranks)))
        yield msg("the metadata say network_dim {one}, the tensors have {other}: resized?", one=rank, other=there)
    for key in find_invalid_json(metadata):
        yield msg("{key} is not the JSON that sd-scripts writes: it is shown raw in --json only", key=key)
