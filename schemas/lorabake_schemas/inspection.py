"""What `lorabake inspect --json` prints: what a model file contains, and which runs of this machine it comes from."""

from typing import Annotated, Literal

from pydantic import PlainValidator, WithJsonSchema

from lorabake_schemas.base import EscapedText, MessageText, StrictModel, TupleOf, check_choice
from lorabake_schemas.families.registry import list_lora_families
from lorabake_schemas.record import RunStatus

# lora: by sd-scripts or a tool that names tensors as it does. other-lora: one that names them differently (PEFT,
# diffusers). pickle: a torch checkpoint, which is a program and is not read. unreadable: none of these, or damaged.
FileKind = Literal[
    "lora", "other-lora", "checkpoint", "unet", "vae", "text-encoder", "controlnet", "embedding", "pickle", "unknown",
    "unreadable",
]  # fmt: skip
Algorithm = Literal["lora", "locon", "loha", "lokr", "glora", "full", "diag-oft", "boft", "ia3", "norm"]
MetadataScalar = bool | int | float | EscapedText
MetadataGroup = Literal["network", "base", "training", "noise", "data", "saving", "other"]


def _check_family(value: object) -> str:
    return check_choice(value, [family.name for family in list_lora_families()])


# The name of a LoraFamily.
LoraFamilyName = Annotated[
    str,
    PlainValidator(_check_family),
    WithJsonSchema({"type": "string", "enum": [family.name for family in list_lora_families()]}),
]


class MetadataValue(StrictModel):
    """One of sd-scripts' own metadata (``ss_`` left out of its name), with the type that its text had before.

    What sd-scripts wrote as "None" is not among them.
    """

    group: MetadataGroup
    name: EscapedText
    value: MetadataScalar


class LoraPart(StrictModel):
    """A text encoder or the UNet: how many of its modules are trained, and how many in each of its blocks."""

    name: EscapedText
    modules: int
    blocks: dict[str, int]


class RankCount(StrictModel):
    """The number of modules with this rank; ``conv`` are convolutions with a kernel larger than 1."""

    rank: int
    conv: bool
    modules: int


class LoraNetwork(StrictModel):
    """By the tensors' names, shapes and (for alpha) values; the metadata are not used.

    ``algorithms`` and ``alphas`` have the number of modules with each value. ``numbers`` counts all stored numbers;
    ``formats`` has their count by number format.
    """

    algorithms: dict[str, int]
    parts: TupleOf[LoraPart]
    ranks: TupleOf[RankCount] = ()
    alphas: dict[str, int]
    dora: bool
    tucker: bool
    tensors: int
    numbers: int
    formats: dict[EscapedText, int]


class BaseModelInfo(StrictModel):
    """The model that was trained on, according to the metadata.

    ``sha256`` is the complete file's (ss_new_sd_model_hash). ``short_hash`` is the first eight digits of the SHA-256 of
    64 KiB at its first MiB (ss_sd_model_hash), which older programs use. A folder has neither.
    """

    name: EscapedText | None = None
    version: EscapedText | None = None
    sha256: EscapedText | None = None
    short_hash: EscapedText | None = None
    is_folder: bool = False
    vae: EscapedText | None = None
    vae_sha256: EscapedText | None = None


class BucketInfo(StrictModel):
    width: int
    height: int
    pictures: int


class FolderInfo(StrictModel):
    """A folder with ``pictures`` images; ``class_tokens`` was the caption of images without one."""

    name: EscapedText
    pictures: int | None = None
    repeats: int | None = None
    regularization: bool = False
    class_tokens: EscapedText | None = None
    options: dict[str, MetadataScalar]


class DatasetInfo(StrictModel):
    """``samples`` and ``regularization_samples`` are images times repeats; ``width`` and ``height`` are the resolution
    they were scaled to."""

    width: int | None = None
    height: int | None = None
    batch_size: int | None = None
    samples: int | None = None
    regularization_samples: int | None = None
    enable_bucket: bool | None = None
    folders: TupleOf[FolderInfo]
    buckets: TupleOf[BucketInfo]


class TagCount(StrictModel):
    tag: EscapedText
    count: int


class FolderTagCounts(StrictModel):
    """How often each tag is in the captions of a folder, the most frequent first."""

    folder: EscapedText
    tags: TupleOf[TagCount]


# same: the tensors match sshs_model_hash. changed: they do not. no-hash: the file has none. not-comparable: LyCORIS'
# hash has the tensors in an order that the file does not keep. not-read: the file is large; --deep reads it.
TensorVerdict = Literal["same", "changed", "no-hash", "not-comparable", "not-read"]


class Integrity(StrictModel):
    """``saved`` is sshs_model_hash, ``tensors`` the SHA-256 of the tensors' bytes, ``file`` that of the complete file.

    ``not_finite`` names tensors with a NaN or an infinity; None if they were not checked.
    """

    verdict: TensorVerdict
    saved: EscapedText | None = None
    tensors: str | None = None
    file: str | None = None
    not_finite: TupleOf[EscapedText] | None = None


# bytes: the file is this output. tensors: the same tensors with other metadata. not-compared: the file is large.
OutputLikeness = Literal["bytes", "tensors", "differs", "not-compared"]


class KnownRun(StrictModel):
    """A run of this machine that the file comes from.

    ``output`` is what of the run is most like the file, relative to ``folder``; ``known_by`` is how the run was found:
    the digest in the file's comment, or that the file is in the run's folder.
    """

    folder: EscapedText
    name: EscapedText
    status: RunStatus
    rehearsal: bool
    started: EscapedText
    known_by: Literal["digest", "place"]
    likeness: OutputLikeness
    output: EscapedText | None = None


class Inspection(StrictModel):
    """One file. ``faults`` are its problems, ``remarks`` other things worth knowing."""

    file: EscapedText
    size: int | None = None
    kind: FileKind
    what: MessageText
    family: LoraFamilyName | None = None
    network: LoraNetwork | None = None
    base: BaseModelInfo | None = None
    values: TupleOf[MetadataValue] = ()
    about: dict[EscapedText, EscapedText]
    started: EscapedText | None = None
    finished: EscapedText | None = None
    seconds: float | None = None
    comment: EscapedText | None = None
    digest: str | None = None
    datasets: TupleOf[DatasetInfo] = ()
    tags: TupleOf[FolderTagCounts] = ()
    integrity: Integrity | None = None
    runs: TupleOf[KnownRun] = ()
    faults: TupleOf[MessageText] = ()
    remarks: TupleOf[MessageText] = ()
    metadata: dict[EscapedText, EscapedText]


class InspectReport(StrictModel):
    version: Literal[1] = 1
    files: TupleOf[Inspection]
