"""What `lorabake compare --json` prints: the differences of two LoRA files, number by number."""

from typing import Literal

from lorabake_schemas.base import EscapedText, StrictModel, TupleOf

# equal-bytes: the same file. equal-tensors: the same numbers, another header. different: anything else.
FileLikeness = Literal["equal-bytes", "equal-tensors", "different"]


class TensorDistance(StrictModel):
    """The distance of two sets of numbers: ``differing`` of ``tensors`` are not equal bit for bit.

    ``largest`` and ``mean`` are absolute differences over all ``numbers``; ``relative`` is the length of the difference
    as a vector, divided by that of the first file's numbers (null where those are all zero and the others are not).
    ``not_finite`` numbers are NaN or infinite in one of the two and not the same in the other; they are not counted
    into the rest.
    """

    tensors: int = 0
    differing: int = 0
    numbers: int = 0
    largest: float = 0.0
    mean: float = 0.0
    relative: float | None = 0.0
    not_finite: int = 0


class BlockDistance(TensorDistance):
    """The same of one block: ``te``, ``te1``, ``te2``, ``down_blocks.0``, ``mid_block``, ``up_blocks.3``, ``other``."""

    block: str


class Mismatch(StrictModel):
    """A tensor of another number format or shape in the two files, such as ``F16 4x320``."""

    name: EscapedText
    first: EscapedText
    second: EscapedText


class MetadataDifference(StrictModel):
    """A key of the metadata with both values; null where a file has no such key."""

    key: EscapedText
    first: EscapedText | None
    second: EscapedText | None


class LoraComparison(StrictModel):
    """``first`` and ``second`` are the files.

    ``blocks`` and ``whole`` are about the tensors that both have in one shape; ``only_first`` and ``only_second`` name
    those that the other file does not have, ``unlike`` those with another format or shape.
    """

    version: Literal[1] = 1
    first: EscapedText
    second: EscapedText
    likeness: FileLikeness
    whole: TensorDistance
    blocks: TupleOf[BlockDistance] = ()
    only_first: TupleOf[EscapedText] = ()
    only_second: TupleOf[EscapedText] = ()
    unlike: TupleOf[Mismatch] = ()
    metadata: TupleOf[MetadataDifference] = ()
