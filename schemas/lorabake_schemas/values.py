"""The kinds of value that a recipe holds, each with its range and what to write where it is left."""

import re
from collections.abc import Sequence
from typing import Annotated, LiteralString

from pydantic import AfterValidator, Field, StringConstraints, ValidationInfo
from pydantic_core import PydanticCustomError

from lorabake_schemas.base import Many, OptionValue
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


# What no honest recipe exceeds, so that whatever is computed from one stays small.
MOST_STEPS = 100_000_000  # at ten steps a second, four months
MOST_EPOCHS = MOST_REPEATS = 100_000
MOST_CYCLES = 10_000
MOST_PER_STEP = 10_000  # batch size, gradient accumulation
LARGEST_SIDE = 16_384
LARGEST_RANK = 16_384
MOST_WORKERS = 1024  # data loader workers, processes, threads
MOST_TAGS = 10_000
LARGEST_NUMBER = 1e9  # a rate, an alpha, a weight
LARGEST_INTEGER = 2**31 - 1  # of an option under [kohya]
LARGEST_SEED = 2**64 - 1  # torch.manual_seed
SHOWN = 80  # characters of a value in a message
LONGEST_NAME, LONGEST_PATH = 255, 4095  # bytes, on Linux


def shortened(value: object) -> str:
    """A value as a message shows it. Python refuses to write out an integer of more than 4300 digits."""
    if isinstance(value, int) and value.bit_length() > 256:
        return say("a number of {n} bits", n=value.bit_length())
    text = repr(value)
    return text if len(text) <= SHOWN else text[:SHOWN] + "..."


def _not_blank(value: str) -> str:
    """Spaces alone mean nothing anywhere, and no file, command line or caption takes a zero byte."""
    if "\0" in value:
        raise _fault("out-of-range", say("contains a zero byte"), say("the text without it"))
    if not value.strip():
        raise _fault("out-of-range", say("is empty"), say("some text"))
    return value


def _a_tag(value: str) -> str:
    if not any(sign.isprintable() and not sign.isspace() and sign != "," for sign in value):  # a lone mark is no word
        raise _fault("out-of-range", say("contains no word"), say("a word"))
    return value


def _a_path(value: str) -> str:
    names = value.split("/")
    if len(value.encode()) > LONGEST_PATH or any(len(name.encode()) > LONGEST_NAME for name in names):
        raise _fault("out-of-range", say("is too long for the name of a file"), say("a shorter path"))
    return value


def _positive_zero(value: float) -> float:
    """-0.0 is 0.0 to everybody but sd-scripts' TOML reader, which makes one of the other."""
    return value + 0.0


def _an_option(value: OptionValue) -> OptionValue:
    """A value that goes to sd-scripts as it is: no whole number beyond 32 bits, no zero byte, and no -0.0."""
    if isinstance(value, tuple):
        return tuple(_an_option(item) for item in value)  # type: ignore[return-value]
    if isinstance(value, str) and "\0" in value:
        raise _fault("out-of-range", say("contains a zero byte"), say("the text without it"))
    if isinstance(value, int) and abs(value) > LARGEST_INTEGER:
        said = say("no option of sd-scripts takes a number as large as this")
        raise _fault("out-of-range", said, say("a number of at most {most}", most=LARGEST_INTEGER))
    return _positive_zero(value) if isinstance(value, float) else value


def _an_ending(value: str) -> str:
    wrong = not value.startswith(".") or len(value) < 2 or len(value.encode()) > 32
    if wrong or any(sign in "./\\" or not sign.isprintable() or sign.isspace() for sign in value[1:]):
        raise _fault("out-of-range", say("a file's ending begins with a dot"), say('".txt", with its dot'))
    return value


PROMPT_NUMBERS = re.compile(r" --([wWhHdD]) ([0-9]+)")  # sd-scripts' own pattern (TU:6258)


def _a_prompt(value: str) -> str:
    """prompts.txt holds one prompt a line, and lines that begin with # are skipped (TU:6334)."""
    if "\n" in value or "\r" in value or value.startswith("#"):
        raise _fault("out-of-range", say("a prompt is one line that does not start with #"), say("one line"))
    for flag, number in PROMPT_NUMBERS.findall(value):
        most = LARGEST_SEED if flag.lower() == "d" else LARGEST_SIDE
        if len(number) > 20 or int(number) > most:
            said = say("--{flag} {number} is too large", flag=flag, number=number[:40])
            raise _fault("out-of-range", said, say("--{flag} with at most {most}", flag=flag, most=most))
    return value


def _a_comment(value: str) -> str:
    """It goes to the trainer on the command line, the run's digest behind it: Linux takes 128 KiB there."""
    if len(value.encode()) > 100_000:
        raise _fault("out-of-range", say("a comment has at most 100,000 bytes"), say("a shorter comment"))
    return value


def _known_optimizer(value: str) -> str:
    """sd-scripts takes its own names in any case, torch.optim's as they are spelt, and any dotted class path."""
    if "." in value or value in TORCH_OPTIMIZERS or value.lower() in {name.lower() for name in OPTIMIZERS}:
        return next((name for name in OPTIMIZERS if name.lower() == value.lower()), value)
    said = say('"{given}" is not an optimizer of sd-scripts or torch.optim', given=value[:SHOWN])
    raise _no_choice(said, (*OPTIMIZERS, *TORCH_OPTIMIZERS))


def _known_scheduler(value: str) -> str:
    if value in SCHEDULERS:
        return value
    if value in SCHEDULERS_THAT_CRASH:
        raise _no_choice(say('sd-scripts lists "{given}" but always fails on it', given=value), SCHEDULERS)
    raise _no_choice(say('"{given}" is not a scheduler of sd-scripts', given=value[:SHOWN]), SCHEDULERS)


def _fits_the_buckets(value: int | tuple[int, ...], info: ValidationInfo) -> int | tuple[int, ...]:
    """sd-scripts floors the sides to bucket_reso_steps (64), so 700 would quietly train 640 (G2.7, TU:216)."""
    if "bucket_reso_steps" not in info.data:  # it is wrong itself
        return value
    step = info.data["bucket_reso_steps"] or 64
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
    if isinstance(value, int):
        if value > MOST_STEPS:
            said = say("{steps} is too large", steps=shortened(value))
            raise _fault("out-of-range", said, say("a number of at most {most}", most=MOST_STEPS))
        return value
    if not 0 <= value < 1:
        said = say(
            "a float is a share of all steps, so it must be below 1 ({value} would mean {value} times the whole run)",
            value=value,
        )
        raise _fault("S4", said, say("{steps} for steps, or a share such as 0.1", steps=int(value)))
    return _positive_zero(value)


def _gpu_numbers(value: str) -> str:
    if value == "all" or re.fullmatch(r"[0-9]{1,4}(,[0-9]{1,4})*", value):
        return value
    raise _fault("out-of-range", say("GPUs are named by their numbers"), say('"0", "0,1" or "all"'))


Text = Annotated[str, StringConstraints(min_length=1), AfterValidator(_not_blank)]
Tag = Annotated[Text, AfterValidator(_a_tag)]
FilePath = Annotated[Text, AfterValidator(_a_path)]
Comment = Annotated[Text, AfterValidator(_a_comment)]
Name = Annotated[str, StringConstraints(min_length=1, max_length=120), AfterValidator(_not_a_path)]
Steps = Annotated[int, Field(ge=1, le=MOST_STEPS)]
Epochs = Annotated[int, Field(ge=1, le=MOST_EPOCHS)]
Repeats = Annotated[int, Field(ge=1, le=MOST_REPEATS)]
PerStep = Annotated[int, Field(ge=1, le=MOST_PER_STEP)]
Rank = Annotated[int, Field(ge=1, le=LARGEST_RANK)]
RankOrNone = Annotated[int, Field(ge=0, le=LARGEST_RANK)]
Tags = Annotated[int, Field(ge=0, le=MOST_TAGS)]
Processes = Annotated[int, Field(ge=1, le=MOST_WORKERS)]
Workers = Annotated[int, Field(ge=0, le=MOST_WORKERS)]
Share = Annotated[float, Field(ge=0, lt=1), AfterValidator(_positive_zero)]
Positive = Annotated[float, Field(gt=0, le=LARGEST_NUMBER)]
NotNegative = Annotated[float, Field(ge=0, le=LARGEST_NUMBER), AfterValidator(_positive_zero)]
Optimizer = Annotated[str, AfterValidator(_known_optimizer)]
Scheduler = Annotated[str, AfterValidator(_known_scheduler)]
Side = Annotated[int, Field(ge=64, le=LARGEST_SIDE)]
_AnySide = Annotated[int, Field(le=LARGEST_SIDE)]
Resolution = Annotated[
    _AnySide | Annotated[tuple[_AnySide, _AnySide], Field(strict=False)], AfterValidator(_fits_the_buckets)
]
WarmUp = Annotated[int | float, Field(ge=0), AfterValidator(_warm_up)]
Ending = Annotated[str, AfterValidator(_an_ending)]
Prompt = Annotated[Text, AfterValidator(_a_prompt)]
GpuNumbers = Annotated[str, AfterValidator(_gpu_numbers)]
OptimizerArgument = Annotated[bool | int | float | str | Many[float], AfterValidator(_an_option)]
KohyaValue = Annotated[bool | int | float | str | Many[str] | Many[int] | Many[float], AfterValidator(_an_option)]
