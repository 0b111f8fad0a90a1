"""Everything that one file tells of itself, put together: what it is, what is wrong with it, what is worth knowing."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from lorabake.files import reason
from lorabake.inspecting.data import datasets_of, not_json, tags_of
from lorabake.inspecting.network import family_of, kind_of, network_of, stored
from lorabake.inspecting.values import algorithm_named, base_of, family_named, plain, time_of, values_of
from lorabake.planning.provenance import digest_in
from lorabake.reading.lora_file import LoraFile, NotSafetensorsError, hashed, opened, scalars
from lorabake_schemas.inspection import FileKind, Inspection, Integrity, ModelFamily, Network, TensorVerdict
from lorabake_schemas.words import Said, joined, legible, say, told

PLAIN = frozenset({"lora", "locon"})  # others have no rank in a module that is smaller than it
SMALL = 64_000_000  # bytes: a file up to this is read whole, which takes a tenth of a second or two
MODEL_HASH, COMMENT = "sshs_model_hash", "ss_training_comment"
ABOUT = "modelspec."
FAMILIES: Mapping[ModelFamily, str] = MappingProxyType(
    {
        "sd15": "Stable Diffusion 1.x", "sd2": "Stable Diffusion 2.x", "sdxl": "SDXL", "sd3": "Stable Diffusion 3",
        "flux": "FLUX", "lumina": "Lumina", "hunyuan-image": "HunyuanImage", "anima": "Anima",
    }
)  # fmt: skip
ALGORITHMS: Mapping[str, str] = MappingProxyType(
    {
        "lora": "LoRA", "locon": "LoCon", "loha": "LoHa", "lokr": "LoKr", "glora": "GLoRA", "dylora": "DyLoRA",
        "diag-oft": "Diag-OFT", "boft": "BOFT", "ia3": "(IA)^3",
    }
)  # fmt: skip
KINDS: Mapping[FileKind, Said] = MappingProxyType(
    {
        "other-lora": say("a LoRA, but not with sd-scripts' names: made by diffusers, PEFT or another trainer"),
        "checkpoint": say("no LoRA: a whole model (checkpoint)"),
        "unet": say("no LoRA: a UNet in diffusers' form"),
        "vae": say("no LoRA: a VAE"),
        "text-encoder": say("no LoRA: a text encoder"),
        "controlnet": say("no LoRA: a ControlNet"),
        "embedding": say("no LoRA: an embedding (textual inversion)"),
        "unknown": say("a safetensors file, but no LoRA that is known here"),
    }
)


@dataclass(frozen=True, slots=True)
class Looked:
    """A file's report, and the file where it could be opened."""

    report: Inspection
    file: LoraFile | None = None


def look(path: Path, *, deep: bool = False) -> Looked:
    """Everything about a file; whatever is wrong with it is in ``faults``. ``deep`` looks at every number."""
    try:
        file = opened(path)
    except NotSafetensorsError as error:
        return Looked(_closed(path, "pickle" if error.pickle else "unreadable", error.why))
    except OSError as error:
        said = say("{path} cannot be read: {why}", path=path, why=reason(error))
        return Looked(_closed(path, "unreadable", said))
    return Looked(_report(file, deep=deep), file)


def _closed(path: Path, kind: FileKind, why: Said) -> Inspection:
    """What there is to say about a file that cannot be opened."""
    size = path.stat().st_size if os.path.isfile(path) else None  # noqa: PTH113 - it may be out of reach
    what = say("a torch checkpoint (pickle)") if kind == "pickle" else say("cannot be read")
    return Inspection(file=legible(str(path)), size=size, kind=kind, what=what, about={}, faults=(why,), metadata={})


def _report(file: LoraFile, *, deep: bool) -> Inspection:
    shapes = {name: tensor.shape for name, tensor in file.tensors.items()}
    kind, modules, metadata = kind_of(shapes), stored(shapes), file.metadata
    alphas = scalars(file, [name for name in shapes if name.endswith(".alpha")]) if kind == "lora" else {}
    formats = {name: tensor.dtype for name, tensor in file.tensors.items()}
    network = network_of(shapes, formats, alphas) if kind == "lora" else None
    family = family_of(modules) or family_named(metadata)
    comment = metadata.get(COMMENT)
    began, finished = time_of(metadata, "ss_training_started_at"), time_of(metadata, "ss_training_finished_at")
    integrity = _integrity(file, deep=deep)
    return Inspection(
        file=legible(str(file.path)),
        size=file.size,
        kind=kind,
        what=_what(network, family, metadata) if network else KINDS[kind],
        family=family,
        network=network,
        base=base_of(metadata),
        values=values_of(metadata),
        about={key.removeprefix(ABOUT): text for key, text in metadata.items() if key.startswith(ABOUT)},
        started=began.isoformat(timespec="seconds") if began else None,
        finished=finished.isoformat(timespec="seconds") if finished else None,
        seconds=(finished - began).total_seconds() if began and finished else None,
        comment=comment if comment != "None" else None,
        digest=digest_in(comment) if comment else None,
        datasets=datasets_of(metadata),
        tags=tags_of(metadata),
        integrity=integrity,
        faults=tuple(_faults(integrity)),
        remarks=(*_remarks(file, kind, network, family_of(modules)), *_unseen(integrity, deep=deep)),
        metadata=dict(sorted(metadata.items())),
    )


def _what(network: Network, family: ModelFamily | None, metadata: Mapping[str, str]) -> Said:
    """``LoCon with DoRA, dim 16, for SDXL``."""
    names = [name for name in network.algorithms if name not in {"norm", "unknown"}]
    if "locon" in names:  # its linear layers are plain LoRA
        names = [name for name in names if name != "lora"]
    if algorithm_named(metadata) == "dylora":  # whose tensors look like a plain LoRA's
        names = ["dylora"]
    shown = [ALGORITHMS[name] if name in ALGORITHMS else say("full matrices") for name in names]
    algorithms = joined(shown or [say("norms alone")], " + ")
    words: list[Said] = [say("{network} with DoRA", network=algorithms) if network.dora else algorithms]
    ranks = sorted({rank.rank for rank in network.ranks})
    if ranks:
        words.append(say("dim {rank}", rank=f"{ranks[0]}-{ranks[-1]}" if len(ranks) > 1 else ranks[0]))
    if family:
        words.append(say("for {family}", family=FAMILIES[family]))
    return joined(words)


def _integrity(file: LoraFile, *, deep: bool) -> Integrity:
    saved = file.metadata.get(MODEL_HASH)
    if file.size > SMALL and not deep:
        return Integrity(verdict="not-read", saved=saved)
    whole, tensors = hashed(file)
    verdict: TensorVerdict = "no-hash" if saved is None else "same" if saved == tensors else "changed"
    if saved is not None and saved.startswith("0x"):  # lycoris/utils/__init__.py:33: one tensor after the other
        verdict = "not-comparable"
    return Integrity(
        verdict=verdict,
        saved=saved,
        tensors=tensors,
        file=whole,
        not_finite=_not_finite(file) if deep else None,
    )


def _not_finite(file: LoraFile) -> tuple[str, ...] | None:
    """None where a number format is not known here."""
    from lorabake.reading.weights import WeightsError, read_weights

    try:
        return read_weights(file.path).not_finite
    except WeightsError:
        return None


def _faults(integrity: Integrity) -> Iterator[Said]:
    if integrity.verdict == "changed":
        yield say(
            "the tensors are not those that were saved: sshs_model_hash is {saved}, theirs is {found}",
            saved=(integrity.saved or "")[:16],
            found=(integrity.tensors or "")[:16],
        )
    if broken := integrity.not_finite:
        yield told(
            len(broken),
            "{n} tensor holds NaN or infinity: {first}",
            "{n} tensors hold NaN or infinity, {first} first",
            first=broken[0],
        )


def _unseen(integrity: Integrity, *, deep: bool) -> Iterator[Said]:
    if deep and integrity.not_finite is None:
        yield say("its numbers are in a format that is not known here: they were not looked at")


def _remarks(file: LoraFile, kind: FileKind, network: Network | None, family: ModelFamily | None) -> Iterator[Said]:
    metadata = file.metadata
    if kind == "lora" and not any(key.startswith("ss_") for key in metadata):
        yield say(
            "it has no metadata of sd-scripts: stripped, or made by another program; the tensors alone speak here"
        )
    named = family_named(metadata)
    if family and named and family != named:
        yield say("the metadata say {one}, the tensors {other}", one=FAMILIES[named], other=FAMILIES[family])
    rank = plain(metadata.get("ss_network_dim", ""))
    ranks = {each.rank for each in network.ranks} if network else set[int]()
    if isinstance(rank, int) and ranks and rank not in ranks and set(network.algorithms if network else ()) <= PLAIN:
        there = ", ".join(map(str, sorted(ranks)))
        yield say("the metadata say network_dim {one}, the tensors have {other}: resized?", one=rank, other=there)
    for key in not_json(metadata):
        yield say("{key} is not the JSON that sd-scripts writes: it is shown raw in --json only", key=key)


__all__ = ["ALGORITHMS", "FAMILIES", "SMALL", "Looked", "look"]
