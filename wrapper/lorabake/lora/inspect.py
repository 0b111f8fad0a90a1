"""The content of one model file, from its tensors and its metadata, with problems and remarks."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from lorabake.lora import metadata as typed
from lorabake.lora.network import describe_network, detect_file_kind, detect_lora_family, list_lora_modules
from lorabake.lora.weights import MODEL_HASH_KEY, hash_tensors, judge_numbers, read_scalars
from lorabake.recipe.load import advise_foreign, find_importable
from lorabake.util.files import is_file, open_file, reason
from lorabake.util.hashing import digest_file
from lorabake.util.safetensors import HeaderError, SafetensorsHeader, can_run_code, parse_header
from lorabake_schemas.families.model_family import LoraFamily
from lorabake_schemas.inspection import FileKind, Inspection, Integrity, LoraNetwork, TensorVerdict
from lorabake_schemas.messages import Message, join_list, msg

LORA_ALGORITHMS = frozenset({"lora", "locon"})  # others have no rank in a module that is smaller than it
FULL_READ_LIMIT = 64_000_000  # bytes: a file up to this is read completely, which takes a tenth of a second or two
ALGORITHM_NAMES: Mapping[str, str] = {
    "lora": "LoRA", "locon": "LoCon", "loha": "LoHa", "lokr": "LoKr", "glora": "GLoRA", "dylora": "DyLoRA",
    "diag-oft": "Diag-OFT", "boft": "BOFT", "ia3": "(IA)^3",
}  # fmt: skip
KIND_DESCRIPTIONS: Mapping[FileKind, Message] = {
    "other-lora": msg("a LoRA, but not with sd-scripts' tensor names (made by diffusers, PEFT or another trainer)"),
    "checkpoint": msg("a full model (checkpoint), not a LoRA"),
    "unet": msg("a UNet in diffusers format, not a LoRA"),
    "vae": msg("a VAE, not a LoRA"),
    "text-encoder": msg("a text encoder, not a LoRA"),
    "controlnet": msg("a ControlNet, not a LoRA"),
    "embedding": msg("an embedding (textual inversion), not a LoRA"),
    "unknown": msg("a safetensors file, but not a known kind of LoRA"),
}
UNKNOWN_FORMAT = msg("its number format is unknown, so its values were not checked")


def inspect_file(path: Path, *, deep: bool = False) -> Inspection:
    """Everything about a file; its faults are in ``faults``.

    A large file is only read completely if ``deep``, and then every number is checked.
    """
    try:
        if can_run_code(path):
            why = msg(
                "{file} is a torch checkpoint (pickle), which can run code, so lorabake does not load it",
                file=path.name,
            )
            whole = digest_file(path, path.name) if deep or path.stat().st_size <= FULL_READ_LIMIT else None
            integrity = Integrity(verdict="no-hash", file=whole.sha256) if whole else None
            return _report_unopened(path, "pickle", msg("a torch checkpoint (pickle)"), why, integrity)
        with open_file(path) as file:
            return _build_report(path, file, deep=deep)
    except OSError as error:
        why = msg("cannot read {path}: {why}", path=path, why=reason(error))
        if (foreign := find_importable(path)) is not None:
            why = msg("{path} is {what}; {fix}", path=path, what=foreign.label, fix=advise_foreign(foreign, path))
        return _report_unopened(path, "unreadable", msg("unreadable"), why)


def _report_unopened(
    path: Path, kind: FileKind, what: Message, why: Message, integrity: Integrity | None = None
) -> Inspection:
    size = path.stat().st_size if is_file(path) else None
    return Inspection(
        file=str(path), size=size, kind=kind, what=what, about={}, integrity=integrity, faults=(why,), metadata={}
    )


def _build_report(path: Path, file: BinaryIO, *, deep: bool) -> Inspection:
    header = parse_header(file)
    metadata, modules = header.metadata, list_lora_modules(header.shapes)
    kind, by_tensors = detect_file_kind(header.shapes), detect_lora_family(modules)
    family, network = by_tensors or typed.parse_family(metadata), None
    if kind == "lora":
        alphas = read_scalars(file, header, [name for name in header.tensors if name.endswith(".alpha")])
        network = describe_network(header.tensors, alphas)
    comment = metadata.get("ss_training_comment")
    began, finished = (typed.parse_unix_time(metadata, f"ss_training_{each}_at") for each in ("started", "finished"))
    integrity = _check_integrity(file, header, deep=deep)
    return Inspection(
        file=str(path),
        size=os.fstat(file.fileno()).st_size,
        kind=kind,
        what=_summarize_network(network, family, metadata) if network else KIND_DESCRIPTIONS[kind],
        family=family.name if family else None,
        network=network,
        base=typed.parse_base_model(metadata),
        values=typed.list_training_values(metadata),
        about=typed.parse_modelspec(metadata),
        started=began.isoformat(timespec="seconds") if began else None,
        finished=finished.isoformat(timespec="seconds") if finished else None,
        seconds=(finished - began).total_seconds() if began and finished else None,
        comment=comment if comment != "None" else None,
        digest=typed.parse_digest(comment or ""),
        datasets=typed.parse_datasets(metadata),
        tags=typed.parse_tag_counts(metadata),
        integrity=integrity,
        faults=tuple(_iter_faults(integrity)),
        remarks=(
            *_iter_remarks(metadata, network, by_tensors),
            *([UNKNOWN_FORMAT] if deep and integrity.not_finite is None else []),
        ),
        metadata=dict(sorted(metadata.items())),
    )


def _summarize_network(network: LoraNetwork, family: LoraFamily | None, metadata: Mapping[str, str]) -> Message:
    """``LoCon with DoRA, dim 16, for SDXL``."""
    names = [name for name in network.algorithms if name not in {"norm", "unknown"}]
    if "locon" in names:  # its linear layers are plain LoRA
        names = [name for name in names if name != "lora"]
    if typed.parse_algorithm(metadata) == "dylora":  # whose tensors look like a plain LoRA's
        names = ["dylora"]
    shown = [ALGORITHM_NAMES[name] if name in ALGORITHM_NAMES else msg("full matrices") for name in names]
    algorithms = join_list(shown or [msg("norms only")], " + ")
    words: list[Message] = [msg("{network} with DoRA", network=algorithms) if network.dora else algorithms]
    ranks = sorted({rank.rank for rank in network.ranks})
    if ranks:
        shown_rank = f"{ranks[0]}-{ranks[-1]}" if len(ranks) > 1 else ranks[0]
        words.append(msg("dim {rank}", rank=shown_rank))
    if family:
        words.append(msg("for {family}", family=family.label))
    return join_list(words)


def _check_integrity(file: BinaryIO, header: SafetensorsHeader, *, deep: bool) -> Integrity:
    saved = header.metadata.get(MODEL_HASH_KEY)
    if os.fstat(file.fileno()).st_size > FULL_READ_LIMIT and not deep:
        return Integrity(verdict="not-read", saved=saved)
    whole, tensors = hash_tensors(file, header)
    verdict: TensorVerdict = "no-hash" if saved is None else "same" if saved == tensors else "changed"
    if saved is not None and saved.startswith("0x"):  # lycoris/utils/__init__.py:33: one tensor after the other
        verdict = "not-comparable"
    not_finite = None
    if deep:
        with suppress(HeaderError):  # a number format that is not known here
            not_finite = judge_numbers(file, header).not_finite
    return Integrity(verdict=verdict, saved=saved, tensors=tensors, file=whole, not_finite=not_finite)


def _iter_faults(integrity: Integrity) -> Iterator[Message]:
    if integrity.verdict == "changed":
        yield msg(
            "the tensors do not match the hash stored in the file (sshs_model_hash is {saved}, the "
            "tensors' hash is {found})",
            saved=(integrity.saved or "")[:16],
            found=(integrity.tensors or "")[:16],
        )
    if broken := integrity.not_finite:
        yield msg(
            "tensors that contain NaN or infinity: {n} (the first is {first})",
            n=len(broken),
            first=broken[0],
        )


def _iter_remarks(
    metadata: Mapping[str, str], network: LoraNetwork | None, family: LoraFamily | None
) -> Iterator[Message]:
    """Where the metadata and the tensors do not agree; ``family`` is that of the tensors."""
    if network and not any(key.startswith("ss_") for key in metadata):
        yield msg("no sd-scripts metadata (stripped, or from another program); showing only what the tensors reveal")
    named = typed.parse_family(metadata)
    if family and named and family != named:
        yield msg(
            "the metadata is for {one}, but the tensors are for {other}",
            one=named.label,
            other=family.label,
        )
    rank = typed.parse_value(metadata.get("ss_network_dim", ""))
    ranks = {each.rank for each in network.ranks} if network and set(network.algorithms) <= LORA_ALGORITHMS else ()
    if isinstance(rank, int) and ranks and rank not in ranks:
        there = ", ".join(map(str, sorted(ranks)))
        yield msg(
            "network_dim is {one} in the metadata, but {other} in the tensors (was the LoRA resized?)",
            one=rank,
            other=there,
        )
    for key in typed.find_invalid_json(metadata):
        yield msg("{key} is not the JSON that sd-scripts writes; only --json shows it, as raw text", key=key)
