"""Facts about the machine and about the base model, measured elsewhere and passed in."""

from typing import Annotated, Literal, Self

from pydantic import PlainValidator, WithJsonSchema

from lorabake_schemas.base import MessageText, StrictModel, TupleOf, check_choice
from lorabake_schemas.families.registry import list_family_names
from lorabake_schemas.messages import msg


def _check_family(value: object) -> str:
    return check_choice(value, list_family_names())


# The name of a ModelFamily.
Family = Annotated[
    str, PlainValidator(_check_family), WithJsonSchema({"type": "string", "enum": list(list_family_names())})
]
Precision = Literal["no", "fp16", "bf16"]


class Gpu(StrictModel):
    """One NVIDIA GPU. ``memory_mib`` in MiB, 0 when the driver hides it."""

    name: str
    memory_mib: int
    driver: str = ""


class MachineFacts(StrictModel):
    """``memory_bytes`` is physical memory, ``cpus`` the CPUs this process may use.

    ``release`` is the system's version; ``architecture`` and ``processor`` identify the CPU. ``shared_memory_bytes`` is
    the size of /dev/shm, None without one.
    """

    system: str
    cpus: int
    memory_bytes: int
    gpus: TupleOf[Gpu] = ()
    release: str = ""
    architecture: str = ""
    processor: str = ""
    shared_memory_bytes: int | None = None

    @property
    def device(self) -> Literal["cuda", "cpu"]:
        return "cuda" if self.gpus else "cpu"


class AttentionProbe(StrictModel):
    """Whether xformers' attention ran forward and backward on this device at this precision, and why not.

    Importing xformers proves nothing: 0.0.35 has no kernel for float32 or for the CPU.
    """

    xformers: bool
    reason: MessageText

    @classmethod
    def without_gpu(cls) -> Self:
        """The answer on a machine without a GPU, which needs no test."""
        return cls(xformers=False, reason=msg("xformers needs an NVIDIA GPU, and this machine has none"))


class ContinuedLora(StrictModel):
    """A LoRA to continue from, by its tensors: the most frequent value first, empty where they do not show it.

    ``conv_ranks`` and ``conv_alphas`` are those of convolutions with a kernel larger than 1. ``type`` is a network's
    name as in a recipe. ``text_encoder`` is whether it has parts for a text encoder.
    """

    file: str
    type: str | None = None
    ranks: TupleOf[int] = ()
    alphas: TupleOf[float] = ()
    conv_ranks: TupleOf[int] = ()
    conv_alphas: TupleOf[float] = ()
    text_encoder: bool = True


class BaseFacts(StrictModel):
    """Facts from the base model's own files, without loading a tensor.

    ``kind``: file, folder (diffusers), hub (an id to download) or missing. Values that the files do not contain are
    None. ``problem`` is why the model cannot be used. ``merged`` names the models it was merged from, as in its
    metadata. Of a folder: ``fp16_files`` is whether any of its weights are named ``*.fp16.*``, ``plain_files`` whether
    every part has weights that are not, ``text_layers`` the number of layers of each text encoder.
    ``continued`` is the LoRA that training continues from, where the recipe names one that can be read.
    """

    kind: Literal["file", "folder", "hub", "missing"]
    family: Family | None = None
    v_prediction: bool | None = None
    zero_terminal_snr: bool | None = None
    fp16_files: bool = False
    plain_files: bool = True
    text_layers: TupleOf[int] = ()
    merged: str | None = None
    continued: ContinuedLora | None = None
    problem: MessageText | None = None
