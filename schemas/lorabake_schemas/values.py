"""The kinds of value that a recipe holds, each with its range and what to write where it is left."""

from collections.abc import Sequence
from typing import Annotated, LiteralString

from pydantic import AfterValidator, Field, StringConstraints, ValidationInfo
from pydantic_core import PydanticCustomError

from lorabake_schemas.vocabulary import OPTIMIZERS, SCHEDULERS, SCHEDULERS_THAT_CRASH, TORCH_OPTIMIZERS
from lorabake_schemas.words import Said, say


def _fault(code: LiteralString, said: Said, write: Said) -> PydanticCustomError:
    """An error whose words can be translated: they travel in its context, which pydantic hands on as it is."""
    return PydanticCustomError(code, "{said}", {"said": said, "write": write})


def _no_choice(said: Said, choices: Sequence[str]) -> PydanticCustomError:
    return PydanticCustomError("bad-choice", "{said}", {"said": said, "choices": choices})


def _not_a_path(value: str) -> str:
    """File systems take 255 bytes, of which sd-scripts' endings need some; control characters confuse everyone."""
    bad = any(sign in '/\\:*?"<>|' or not sign.isprintable() for sign in value)
    if bad or value != value.strip() or value.startswith(".") or len(value.encode()) > 200:
        said = say(
            'a name becomes a file name, so it cannot hold / \\ : * ? " < > |, start with a dot, end in a space or be '
            "very long"
        )
        raise _fault("out-of-range", said, say("letters, digits, - and _"))
    return value


def _an_ending(value: str) -> str:
    if not value.startswith(".") or len(value) < 2 or any(sign in value[1:] for sign in "./\\"):
        raise _fault("out-of-range", say("a file's ending begins with a dot"), say('".txt", with its dot'))
    return value


def _a_prompt(value: str) -> str:
    """prompts.txt holds one prompt a line, and lines that begin with # are skipped (TU:6334)."""
    if "\n" in value or "\r" in value or value.startswith("#"):
        raise _fault("out-of-range", say("a prompt is one line that does not begin with #"), say("one line"))
    return value


def _a_comment(value: str) -> str:
    """It goes to the trainer on the command line, the run's digest behind it: Linux takes 128 KiB there, and no NUL."""
    if "\0" in value or len(value.encode()) > 100_000:
        raise _fault(
            "out-of-range", say("a comment has at most 100,000 bytes, and no zero byte"), say("a shorter comment")
        )
    return value


def _known_optimizer(value: str) -> str:
    """sd-scripts takes its own names in any case, torch.optim's as they are spelt, and any dotted class path."""
    if "." in value or value in TORCH_OPTIMIZERS or value.lower() in {name.lower() for name in OPTIMIZERS}:
        return next((name for name in OPTIMIZERS if name.lower() == value.lower()), value)
    said = say('"{given}" is not an optimizer of sd-scripts or torch.optim', given=value)
    raise _no_choice(said, (*OPTIMIZERS, *TORCH_OPTIMIZERS))


def _known_scheduler(value: str) -> str:
    if value in SCHEDULERS:
        return value
    if value in SCHEDULERS_THAT_CRASH:
        raise _no_choice(say('sd-scripts lists "{given}" but always fails on it', given=value), SCHEDULERS)
    raise _no_choice(say('"{given}" is not a scheduler of sd-scripts', given=value), SCHEDULERS)


def _fits_the_buckets(value: int | tuple[int, ...], info: ValidationInfo) -> int | tuple[int, ...]:
    """sd-scripts floors the sides to bucket_reso_steps (64), so 700 would quietly train 640 (G2.7, TU:216)."""
    step = info.data.get("bucket_reso_steps") or 64
    for side in (value,) if isinstance(value, int) else value:
        if side < 64 or side % step:
            low = max(-(-64 // step) * step, side // step * step)
            said = say(
                "{side} is not a multiple of {step}: sd-scripts would quietly train at {low}",
                side=side,
                step=step,
                low=low,
            )
            raise _fault("G2.7", said, say("{low} or {high}", low=low, high=low + step))
    return value


def _warm_up(value: int | float) -> int | float:
    """An int is a number of steps, a float a ratio even when it is 100.0 (S4, TU:5275)."""
    if isinstance(value, float) and not 0 <= value < 1:
        said = say(
            "a float is a share of all steps, so it must be below 1 ({value} would mean {value} times the whole run)",
            value=value,
        )
        raise _fault("S4", said, say("{steps} for steps, or a share such as 0.1", steps=int(value)))
    return value


def _gpu_numbers(value: str) -> str:
    if value == "all" or all(part.isascii() and part.isdigit() for part in value.split(",")):
        return value
    raise _fault("out-of-range", say("GPUs are named by their numbers"), say('"0", "0,1" or "all"'))


Text = Annotated[str, StringConstraints(min_length=1)]
Comment = Annotated[Text, AfterValidator(_a_comment)]
Name = Annotated[str, StringConstraints(min_length=1, max_length=120), AfterValidator(_not_a_path)]
Count = Annotated[int, Field(ge=1)]
Share = Annotated[float, Field(ge=0, lt=1)]
Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]
Optimizer = Annotated[str, AfterValidator(_known_optimizer)]
Scheduler = Annotated[str, AfterValidator(_known_scheduler)]
Side = Annotated[int, Field(ge=64)]
Resolution = Annotated[int | Annotated[tuple[int, int], Field(strict=False)], AfterValidator(_fits_the_buckets)]
WarmUp = Annotated[int | float, Field(ge=0), AfterValidator(_warm_up)]
Ending = Annotated[str, AfterValidator(_an_ending)]
Prompt = Annotated[Text, AfterValidator(_a_prompt)]
GpuNumbers = Annotated[str, AfterValidator(_gpu_numbers)]

__all__ = [
    "Comment", "Count", "Ending", "GpuNumbers", "Name", "NotNegative", "Optimizer", "Positive", "Prompt", "Resolution",
    "Scheduler", "Share", "Side", "Text", "WarmUp",
]  # fmt: skip
