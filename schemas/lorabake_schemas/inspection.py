"""What a LoRA file tells of itself, and what this machine knows of it: what `lorabake inspect --json` prints."""

from typing import Literal

from lorabake_schemas.base import Legible, Many, StrictModel, Words
from lorabake_schemas.record import Status

# lora: by sd-scripts or a tool that names tensors as it does. other-lora: one that names them otherwise (PEFT,
# diffusers). pickle: a torch checkpoint, which is a program and is not read. unreadable: none of these, or damaged.
FileKind = Literal[
    "lora", "other-lora", "checkpoint", "unet", "vae", "text-encoder", "controlnet", "embedding", "pickle", "unknown",
    "unreadable",
]  # fmt: skip
# sd15, sd2 and sdxl are what lorabake trains; the others it only recognises.
ModelFamily = Literal["sd15", "sd2", "sdxl", "sd3", "flux", "lumina", "hunyuan-image", "anima"]
Algorithm = Literal["lora", "locon", "loha", "lokr", "glora", "full", "diag-oft", "boft", "ia3", "norm"]
Plain = bool | int | float | str
Group = Literal["network", "base", "training", "noise", "data", "saving", "other"]


class Value(StrictModel):
    """One of sd-scripts' own metadata (``ss_`` left out of its name), with the type that its text stands for.

    What sd-scripts wrote as "None" is not among them.
    """

    group: Group
    name: Legible
    value: Plain


class Part(StrictModel):
    """One of the models: how many of its modules are trained, and how many in each of its blocks."""

    name: Legible
    modules: int
    blocks: dict[str, int]


class Rank(StrictModel):
    """So many modules have this rank; ``conv`` are convolutions with a kernel larger than 1."""

    rank: int
    conv: bool
    modules: int


class Network(StrictModel):
    """By the tensors' names, shapes and (for alpha) values, whatever the metadata say.

    ``algorithms`` with how many modules have each, ``alphas`` likewise. ``numbers`` are all that is stored;
    ``formats`` says in which number format how many of them are.
    """

    algorithms: dict[str, int]
    parts: Many[Part]
    ranks: Many[Rank] = ()
    alphas: dict[str, int]
    dora: bool
    tucker: bool
    tensors: int
    numbers: int
    formats: dict[str, int]


class BaseNamed(StrictModel):
    """The model that was trained on, as the metadata name it.

    ``sha256`` is that of the whole file (ss_new_sd_model_hash), ``short_hash`` the first eight digits of the SHA-256
    of 64 KiB at its first MiB (ss_sd_model_hash), by which older programs know a model. A folder has neither.
    """

    name: Legible | None = None
    version: Legible | None = None
    sha256: Legible | None = None
    short_hash: Legible | None = None
    is_folder: bool = False
    vae: Legible | None = None
    vae_sha256: Legible | None = None


class Bucket(StrictModel):
    width: int
    height: int
    pictures: int


class Folder(StrictModel):
    """A folder of pictures; ``class_tokens`` were the caption of pictures that had none."""

    name: Legible
    pictures: int | None = None
    repeats: int | None = None
    regularisation: bool = False
    class_tokens: Legible | None = None
    options: dict[str, Plain]


class Dataset(StrictModel):
    """``samples`` and ``regularisation_samples`` are pictures times repeats; ``width`` and ``height`` what they were
    scaled towards."""

    width: int | None = None
    height: int | None = None
    batch_size: int | None = None
    samples: int | None = None
    regularisation_samples: int | None = None
    enable_bucket: bool | None = None
    folders: Many[Folder]
    buckets: Many[Bucket]


class Tag(StrictModel):
    tag: Legible
    count: int


class FolderTags(StrictModel):
    """How often each tag stood in the captions of a folder, the most frequent first."""

    folder: Legible
    tags: Many[Tag]


# same: the tensors are those that were saved. changed: they are not. no-hash: none was saved. not-comparable: LyCORIS'
# hash runs over the tensors in an order that the file does not keep. not-read: the file is large; --deep reads it.
TensorVerdict = Literal["same", "changed", "no-hash", "not-comparable", "not-read"]


class Integrity(StrictModel):
    """``saved`` is sshs_model_hash, ``tensors`` the SHA-256 of the tensors' bytes, ``file`` that of the whole file.

    ``not_finite`` names tensors with a NaN or an infinity; None when they were not looked at.
    """

    verdict: TensorVerdict
    saved: Legible | None = None
    tensors: str | None = None
    file: str | None = None
    not_finite: Many[str] | None = None


# bytes: the file is this output. tensors: the same tensors under other metadata. not-compared: the file is large.
Likeness = Literal["bytes", "tensors", "differs", "not-compared"]


class KnownRun(StrictModel):
    """A run of this machine that the file comes from.

    ``output`` is what of the run is most like the file, relative to ``folder``; ``known_by`` is how the run was found:
    the digest in the file's comment, the file's SHA-256 in the run's record, or that the file lies in the run's folder.
    """

    folder: Legible
    name: Legible
    status: Status
    rehearsal: bool
    started: Legible
    known_by: Literal["digest", "bytes", "place"]
    likeness: Likeness
    output: Legible | None = None


class Inspection(StrictModel):
    """One file. ``faults`` are what is wrong with it, ``remarks`` what is worth knowing besides."""

    file: Legible
    size: int | None = None
    kind: FileKind
    what: Words
    family: ModelFamily | None = None
    network: Network | None = None
    base: BaseNamed | None = None
    values: Many[Value] = ()
    about: dict[str, str]
    started: Legible | None = None
    finished: Legible | None = None
    seconds: float | None = None
    comment: Legible | None = None
    digest: str | None = None
    datasets: Many[Dataset] = ()
    tags: Many[FolderTags] = ()
    integrity: Integrity | None = None
    runs: Many[KnownRun] = ()
    faults: Many[Words] = ()
    remarks: Many[Words] = ()
    metadata: dict[str, str]


class InspectReport(StrictModel):
    version: Literal[1] = 1
    files: Many[Inspection]


__all__ = [
    "Algorithm", "BaseNamed", "Bucket", "Dataset", "FileKind", "Folder", "FolderTags", "Group", "InspectReport",
    "Inspection", "Integrity", "KnownRun", "Likeness", "ModelFamily", "Network", "Part", "Plain", "Rank", "Tag",
    "TensorVerdict", "Value",
]  # fmt: skip
