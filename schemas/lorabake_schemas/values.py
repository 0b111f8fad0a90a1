"""The kinds of values in a recipe, each with its range and what to write outside of it."""

import ast
import re
from collections.abc import Callable, Sequence
from typing import Annotated, Any, LiteralString, NamedTuple, cast

from pydantic import AfterValidator, BeforeValidator, Field, StringConstraints, ValidationInfo
from pydantic_core import PydanticCustomError

from lorabake_schemas.base import OptionValue, TupleOf
from lorabake_schemas.messages import Message, msg
from lorabake_schemas.sd_scripts import BROKEN_SCHEDULERS, OPTIMIZERS, SCHEDULERS


def _make_error(code: LiteralString, said: Message, write: Message) -> PydanticCustomError:
    """An error with a translatable text, which is in its context; pydantic passes that on unchanged."""
    return PydanticCustomError(code, "{said}", {"said": said, "write": write})


def _make_choice_error(said: Message, choices: Sequence[str]) -> PydanticCustomError:
    return PydanticCustomError("bad-choice", "{said}", {"said": said, "choices": choices})


def _check_name(value: str) -> str:
    """File systems allow 255 bytes, of which sd-scripts' extensions need some; control characters are confusing."""
    bad = any(sign in '/\\:*?"<>|' or not sign.isprintable() for sign in value)
    if bad or value != value.strip() or value.startswith(".") or len(value.encode()) > 200:
        said = msg(
            'the name is used as a file name, so it cannot contain / \\ : * ? " < > |, start with a '
            "dot, end in a space or be very long"
        )
        raise _make_error("out-of-range", said, msg("letters, digits, - and _"))
    return value


# What no honest recipe exceeds, so that whatever is computed from one stays small.
MAX_STEPS = 100_000_000  # at ten steps a second, four months
MAX_EPOCHS = MAX_REPEATS = 100_000
MAX_CYCLES = 10_000
MAX_PER_STEP = 10_000  # batch size, gradient accumulation
MAX_SIDE = 16_384
MAX_RANK = 10_000_000  # above 10,000 it means a full matrix (LoKr)
MAX_WORKERS = 1024  # data loader workers, processes, threads
MAX_KEEP_TOKENS = 10_000
MAX_NUMBER = 1e9  # a rate, an alpha, a weight
MAX_INTEGER = 2**31 - 1  # of an option under [kohya]
MAX_SEED = 2**64 - 1  # torch.manual_seed
MAX_SHOWN_LENGTH = 80  # characters of a value in a message
_WINDOWS_PATTERN = re.compile(r"[A-Za-z]:[\\/]|\\\\")
MAX_NAME_BYTES, MAX_PATH_BYTES = 255, 4095  # bytes, on Linux


def shorten_value(value: object) -> str:
    """A value as a message shows it. Python refuses to write out an integer of more than 4300 digits."""
    if isinstance(value, int) and value.bit_length() > 256:
        return msg("a number of {n} bits", n=value.bit_length())
    text = repr(value)
    return text if len(text) <= MAX_SHOWN_LENGTH else text[:MAX_SHOWN_LENGTH] + "..."


def format_value(value: object) -> str:
    """A value as a person writes it in a recipe, shortened."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple | list):
        return "[" + ", ".join(map(str, cast("Sequence[object]", value))) + "]"
    return shorten_value(value) if not isinstance(value, float) else f"{value:g}"


def _check_text(value: str) -> str:
    """Spaces alone are meaningless everywhere, and files, command lines and captions do not accept a zero byte."""
    if "\0" in value:
        raise _make_error("out-of-range", msg("contains a zero byte"), msg("the text without it"))
    if not value.strip():
        raise _make_error("out-of-range", msg("is empty"), msg("some text"))
    return value


def _check_caption_text(value: str) -> str:
    return _check_text(value) if value else value


def _check_tag(value: str) -> str:
    if not any(
        sign.isprintable() and not sign.isspace() and sign != "," for sign in value
    ):  # a single mark is not a word
        raise _make_error("out-of-range", msg("contains no word"), msg("a word"))
    return value


class PathReader(NamedTuple):
    """What paths in a recipe mean on this machine: the ``home`` folder for ~, whether one ``exists``, and
    ``translate``, which gives the path that exists here for one that is written as on Windows."""

    home: str | None
    exists: Callable[[str], bool]
    translate: Callable[[str], str | None]


def _check_path(value: str, info: ValidationInfo) -> str:
    value, reader = _expand_home(value, info), cast("object", info.context)
    if isinstance(reader, PathReader) and not reader.exists(value):
        if any(sign in value for sign in "\t\n\r\b\f"):
            said = msg("contains a tab or a line break: in double quotes, \\t and \\n are not letters")
            raise _make_error("windows-path", said, msg("the path with /, or in single quotes"))
        found = reader.translate(value)
        if found is not None:
            said = msg("is a path in Windows form, which this machine does not understand")
            raise _make_error("windows-path", said, msg('"{found}"', found=found))
        if _WINDOWS_PATTERN.match(value):
            said = msg("is a Windows path, which does not exist on this machine")
            raise _make_error("windows-path", said, msg("a path of this machine (in WSL, D:\\train is /mnt/d/train)"))
    names = value.split("/")
    if len(value.encode()) > MAX_PATH_BYTES or any(len(name.encode()) > MAX_NAME_BYTES for name in names):
        raise _make_error("out-of-range", msg("is too long for a file name"), msg("a shorter path"))
    return value


def _expand_home(value: str, info: ValidationInfo) -> str:
    reader = cast("object", info.context)
    if isinstance(reader, PathReader) and reader.home and (value == "~" or value.startswith("~/")):
        return reader.home.rstrip("/") + value[1:]
    return value


def _normalize_zero(value: float) -> float:
    """-0.0 is 0.0 to everybody but sd-scripts' TOML reader, which makes one of the other."""
    return value + 0.0


def _read_text_encoder_rate(value: object) -> object:
    """One rate for all text encoders: of a list, networks.lora and LyCORIS are given the first (TN:735-741)."""
    if not isinstance(value, list):
        return value
    rates = cast("list[object]", value)
    if len(set(map(repr, rates))) > 1:
        said = msg("sd-scripts gives every text encoder of this network the same learning rate, the first of a list")
        raise _make_error("wrong-type", said, msg("one number, such as {first}", first=shorten_value(rates[0])))
    return rates[0] if rates else rates


def _check_option(value: OptionValue | None, info: ValidationInfo) -> OptionValue | None:
    """A value that goes to sd-scripts as it is: no whole number beyond 32 bits, no zero byte, and no -0.0."""
    if isinstance(value, tuple):
        return tuple(_check_option(item, info) for item in value)  # type: ignore[return-value]
    if isinstance(value, str) and "\0" in value:
        raise _make_error("out-of-range", msg("contains a zero byte"), msg("the text without it"))
    if isinstance(value, int) and abs(value) > MAX_INTEGER:
        said = msg("is larger than any sd-scripts option accepts")
        raise _make_error("out-of-range", said, msg("a number of at most {most}", most=MAX_INTEGER))
    if isinstance(value, str):
        return _expand_home(value, info)
    return _normalize_zero(value) if isinstance(value, float) else value


def _check_extension(value: str) -> str:
    wrong = not value.startswith(".") or len(value) < 2 or len(value.encode()) > 32
    if wrong or any(sign in "./\\" or not sign.isprintable() or sign.isspace() for sign in value[1:]):
        raise _make_error("out-of-range", msg("a file extension starts with a dot"), msg('".txt", with the dot'))
    return value


# sd-scripts' own patterns for what follows " --" (TU:6254-6320); what matches none of them is left out in silence.
_WHOLE, _DECIMAL = (re.compile(r"\d+"), msg("a whole number")), (re.compile(r"\d+(\.\d*)?|\.\d+"), msg("a number"))
_ANY_NUMBER = re.compile(r"[-+]?(\d+(\.\d*)?|\.\d+)"), msg("a number")
PROMPT_NUMBERS = {
    "w": _WHOLE, "h": _WHOLE, "d": _WHOLE, "s": _WHOLE, "l": _DECIMAL, "g": _DECIMAL, "ctr": _ANY_NUMBER,
    "rcfg": _ANY_NUMBER,
}  # fmt: skip
PROMPT_TEXTS = ("n", "ss", "cn", "fs")


def split_prompt(line: str) -> list[tuple[str, str]]:
    """The flags of a sample prompt in lower case, each with what follows it."""
    parts = (part.partition(" ") for part in line.split(" --")[1:])
    return [(flag.lower(), value.strip()) for flag, _, value in parts]


def _check_prompt(value: str) -> str:
    """prompts.txt has one prompt per line, and lines that start with # are skipped (TU:6334)."""
    if "\n" in value or "\r" in value or value.startswith("#"):
        raise _make_error("out-of-range", msg("a prompt must be one line that does not start with #"), msg("one line"))
    for flag, given in split_prompt(value):
        if flag in PROMPT_NUMBERS:
            _check_prompt_number(flag, given)
        elif flag in PROMPT_TEXTS and not given:
            said = msg("--{flag} has no value, so sd-scripts ignores it", flag=flag)
            raise _make_error("out-of-range", said, msg("text after --{flag}", flag=flag))
    return value


def _check_prompt_number(flag: str, given: str) -> None:
    pattern, kind = PROMPT_NUMBERS[flag]
    number = pattern.match(given)
    if number is None:
        said = msg('--{flag} "{given}" is not {kind}, so sd-scripts ignores it', flag=flag, given=given[:40], kind=kind)
        raise _make_error("out-of-range", said, msg("{kind} after --{flag}", flag=flag, kind=kind))
    most = {"d": MAX_SEED, "w": MAX_SIDE, "h": MAX_SIDE}.get(flag)
    if most is not None and (len(number[0]) > 20 or int(number[0]) > most):
        said = msg("--{flag} {number} is too large", flag=flag, number=number[0][:40])
        raise _make_error("out-of-range", said, msg("a --{flag} of at most {most}", flag=flag, most=most))


def _check_comment(value: str) -> str:
    """It goes to the trainer on the command line, the run's digest behind it: Linux takes 128 KiB there."""
    if len(value.encode()) > 100_000:
        raise _make_error("out-of-range", msg("a comment can have at most 100,000 bytes"), msg("a shorter comment"))
    return value


def _check_optimizer(value: str) -> str:
    """sd-scripts takes its own names in any case. Whether the trainer has a class of another name, a rule finds out."""
    return next((name for name in OPTIMIZERS if name.lower() == value.lower()), _check_class(value))


def _check_class(value: str) -> str:
    """Python imports what is before the last dot, and looks for the rest in it (TU:5121, 5299)."""
    if value and not all(part.isidentifier() for part in value.split(".")):
        said = msg('"{given}" is not the name of a class', given=value[:MAX_SHOWN_LENGTH])
        raise _make_error("wrong-type", said, msg("a name such as AdamW, or a class path such as package.module.Class"))
    return value


# The GUI's names for a type, without case and punctuation.
GUI_NETWORK_TYPES = {
    "standard": "lora", "kohyalocon": "lora", "lorafa": "networks.lora_fa", "kohyadylora": "networks.dylora",
    "lycorislocon": "locon", "lycorisloha": "loha", "lycorislokr": "lokr", "lycorisdylora": "dylora",
    "lycorisglora": "glora", "lycorisboft": "boft", "lycorisdiagoft": "diag-oft", "lycorisia3": "ia3",
    "lycorisnativefinetuning": "full", "kohyaloha": "loha", "kohyalokr": "lokr", "oft": "networks.oft",
    "networkslora": "lora",
}  # fmt: skip

# Names of a type together with a switch, and what to write for both.
SWITCHED_NETWORK_TYPES = {
    "dora": ("locon", "dora_wd = true"), "docon": ("locon", "dora_wd = true"), "doha": ("loha", "dora_wd = true"),
    "dokr": ("lokr", "dora_wd = true"), "rslora": ("locon", "args = { rs_lora = true }"),
    "loraplus": ("lora", "args = { loraplus_lr_ratio = 16 }"),
}  # fmt: skip


def find_gui_network_type(value: str) -> str | None:
    """The type that kohya_ss' GUI has under this name."""
    return GUI_NETWORK_TYPES.get(_strip_punctuation(value))


def find_switched_network_type(value: str) -> tuple[str, str] | None:
    """The type and the switch that are meant by one name, such as DoRA."""
    return SWITCHED_NETWORK_TYPES.get(_strip_punctuation(value.replace("+", "plus")).removeprefix("lycoris"))


def _strip_punctuation(value: str) -> str:
    return "".join(sign for sign in value.lower() if sign.isalnum())


def _check_network_type(value: str) -> str:
    """Algorithms in any case; whether the trainer has it, a rule finds out."""
    return "lora" if value == "networks.lora" else value if value.startswith("networks.") else value.lower()


def _parse_class_arguments(value: object) -> object:
    """A table as it is; sd-scripts' list of "name=value" and the GUI's one text with spaces as a table (TU:4858)."""
    if isinstance(value, str):
        parts: list[str] = []
        for word in value.replace('"', "").split():  # the GUI drops its quotes; "betas=0.9, 0.99" is one argument
            if parts and parts[-1].endswith(","):
                parts[-1] += word
            else:
                parts.append(word)
        value = parts
    if not isinstance(value, list | tuple):
        return value
    found: dict[str, object] = {}
    for item in cast("Sequence[object]", value):
        name, equals, text = item.partition("=") if isinstance(item, str) else ("", "", "")
        if not (equals and name.strip().isidentifier()):
            shown = shorten_value(item)
            raise _make_error("wrong-type", msg("{value} is not name=value", value=shown), msg('["weight_decay=0.01"]'))
        name, given = name.strip(), parse_argument(text.strip())
        if name in found and repr(found[name]) != repr(given):
            said = msg(
                "{name} is set twice, to {first} and to {second}",
                name=name,
                first=format_value(found[name]),
                second=format_value(given),
            )
            raise _make_error("wrong-type", said, msg("each argument once"))
        found[name] = given
    return found


def parse_argument(text: str) -> object:
    """A Python literal, as sd-scripts reads it; true and false in any case, and anything else as text."""
    if text.lower() in {"true", "false"}:
        return text.lower() == "true"
    try:
        found = ast.literal_eval(text)
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        return text
    return cast("object", found) if isinstance(found, bool | int | float | str | tuple | list | None) else text


def _check_scheduler(value: str) -> str:
    if value in SCHEDULERS:
        return value
    if value in BROKEN_SCHEDULERS:
        raise _make_choice_error(msg('sd-scripts lists "{given}", but always fails with it', given=value), SCHEDULERS)
    raise _make_choice_error(
        msg('"{given}" is not a scheduler of sd-scripts', given=value[:MAX_SHOWN_LENGTH]), SCHEDULERS
    )


def _read_resolution(value: object) -> object:
    """sd-scripts' own "640,768", and what people write for it."""
    text = value if isinstance(value, str) else ""
    sides = re.fullmatch(r"\s*(\d{1,6})\s*(?:[,x\u00d7]\s*(\d{1,6})\s*)?", text, re.IGNORECASE)
    if sides is None:
        return value
    return [int(sides[1]), int(sides[2])] if sides[2] else int(sides[1])


def _read_warmup(value: object) -> object:
    """A share in percent."""
    share = re.fullmatch(r"\s*(\d{1,3}(?:\.\d{1,6})?)\s*%\s*", value) if isinstance(value, str) else None
    return float(share[1]) / 100 if share else value


def _check_warmup(value: int | float) -> int | float:
    """An int is a number of steps, a float a ratio even when it is 100.0 (S4, TU:5275)."""
    if isinstance(value, int):
        if value > MAX_STEPS:
            said = msg("{steps} is too large", steps=shorten_value(value))
            raise _make_error("out-of-range", said, msg("a number of at most {most}", most=MAX_STEPS))
        return value
    if not 0 <= value < 1:
        said = msg(
            "a number with a decimal point is a share of all steps, so it must be below 1 ({value} would mean {value} "
            "times the whole run)",
            value=value,
        )
        raise _make_error("S4", said, msg("{steps} for steps, or a share of all steps such as 0.1", steps=int(value)))
    return _normalize_zero(value)


def _check_gpu_ids(value: str) -> str:
    if value == "all" or re.fullmatch(r"[0-9]{1,4}(,[0-9]{1,4})*", value):
        return value
    raise _make_error("out-of-range", msg("GPUs are given by their numbers"), msg('"0", "0,1" or "all"'))


def or_text(pattern: str) -> Callable[[dict[str, Any]], None]:
    """For the published schema: a value that may also be written as such a text."""

    def add(schema: dict[str, Any]) -> None:
        others = {key: schema.pop(key) for key in list(schema) if key not in {"title", "description", "default"}}
        schema["anyOf"] = [*others.pop("anyOf", [others]), {"type": "string", "pattern": pattern}]

    return add


Text = Annotated[str, StringConstraints(min_length=1), AfterValidator(_check_text)]
CaptionText = Annotated[str, AfterValidator(_check_caption_text)]  # "" turns off what the whole run has
Tag = Annotated[Text, AfterValidator(_check_tag)]
FilePath = Annotated[Text, AfterValidator(_check_path), Field(json_schema_extra={"format": "path"})]
Comment = Annotated[Text, AfterValidator(_check_comment)]
RunName = Annotated[str, StringConstraints(min_length=1, max_length=120), AfterValidator(_check_name)]
Steps = Annotated[int, Field(ge=1, le=MAX_STEPS)]
StepsOrZero = Annotated[int, Field(ge=0, le=MAX_STEPS)]
Epochs = Annotated[int, Field(ge=1, le=MAX_EPOCHS)]
EpochsOrZero = Annotated[int, Field(ge=0, le=MAX_EPOCHS)]
Repeats = Annotated[int, Field(ge=1, le=MAX_REPEATS)]
PerStep = Annotated[int, Field(ge=1, le=MAX_PER_STEP)]
Rank = Annotated[int, Field(ge=1, le=MAX_RANK)]
RankOrZero = Annotated[int, Field(ge=0, le=MAX_RANK)]
KeepTokens = Annotated[int, Field(ge=0, le=MAX_KEEP_TOKENS)]
Processes = Annotated[int, Field(ge=1, le=MAX_WORKERS)]
Workers = Annotated[int, Field(ge=0, le=MAX_WORKERS)]
Fraction = Annotated[float, Field(ge=0, lt=1), AfterValidator(_normalize_zero)]
PositiveNumber = Annotated[float, Field(gt=0, le=MAX_NUMBER)]
NonNegativeNumber = Annotated[float, Field(ge=0, le=MAX_NUMBER), AfterValidator(_normalize_zero)]
TextEncoderRate = Annotated[NonNegativeNumber, BeforeValidator(_read_text_encoder_rate)]
OptimizerName = Annotated[Text, AfterValidator(_check_optimizer)]
SchedulerClass = Annotated[str, AfterValidator(_check_class)]  # "" is none, as the GUI writes it
NetworkType = Annotated[Text, AfterValidator(_check_network_type)]
SchedulerName = Annotated[str, AfterValidator(_check_scheduler), Field(json_schema_extra={"enum": [*SCHEDULERS]})]
Seed = Annotated[int, Field(ge=0, lt=2**32)]
Side = Annotated[int, Field(ge=64, le=MAX_SIDE)]
BucketStep = Annotated[int, Field(ge=32, le=MAX_SIDE)]
Resolution = Annotated[
    Side | Annotated[tuple[Side, Side], Field(strict=False)],
    BeforeValidator(_read_resolution),
    Field(json_schema_extra=or_text("^ *[0-9]+ *([,xX] *[0-9]+ *)?$")),
]
Warmup = Annotated[
    int | float,
    Field(ge=0),
    BeforeValidator(_read_warmup),
    AfterValidator(_check_warmup),
    Field(json_schema_extra=or_text("^ *[0-9.]+ *% *$")),
]
Extension = Annotated[str, AfterValidator(_check_extension)]
Prompt = Annotated[Text, AfterValidator(_check_prompt)]
GpuIds = Annotated[str, AfterValidator(_check_gpu_ids)]
# None is Python's, which only a list or a text can have
ClassArgument = Annotated[
    bool | int | float | str | TupleOf[int] | TupleOf[float] | None, AfterValidator(_check_option)
]
ClassArguments = Annotated[
    dict[str, ClassArgument],
    BeforeValidator(_parse_class_arguments, json_schema_input_type=dict[str, ClassArgument] | list[str] | str),
]
NetworkArgument = Annotated[bool | int | float | str | TupleOf[int] | TupleOf[float], AfterValidator(_check_option)]
KohyaValue = Annotated[
    bool | int | float | str | TupleOf[str] | TupleOf[int] | TupleOf[float], AfterValidator(_check_option)
]
