"""What a row of the table of causes is made of. Everything in it is data: patterns, sentences and conditions."""

from __future__ import annotations

from dataclasses import dataclass

from lorabake.runs.log.evidence import Phase
from lorabake_schemas.messages import MessageTemplate

# Options whose value names something to import, and the recipe's key for each.
NAMED_IMPORTS = (
    ("optimizer_type", "train.optimizer"),
    ("lr_scheduler_type", "train.lr_scheduler_type"),
    ("network_module", "kohya.network_module"),
    ("dynamo_backend", "kohya.dynamo_backend"),
    ("dataset_class", "kohya.dataset_class"),
)
# Options that lorabake itself sets, and texts that sd-scripts only writes down: no failure comes from their value.
UNQUOTED_OPTIONS = frozenset(
    {
        "output_dir",
        "output_name",
        "logging_dir",
        "sample_prompts",
        "training_comment",
        "class_tokens",
        "pretrained_model_name_or_path",
    }
)
DEFAULT_NETWORK_MODULES = ("networks.lora", "lycoris.kohya")  # of network_module, when no recipe names one
Pattern = str  # a regular expression; its named groups fill gaps of the sentences


@dataclass(frozen=True, slots=True)
class When:
    """A condition on a setting of sd-scripts, or on a fact of the run (diagnose.RunFacts: ``run.device`` ...).

    True if the value is one of ``values``; without ``values`` and ``matching`` if it is set and not off. ``matching``
    is a pattern for the value as text. ``negated`` turns the answer around.
    """

    name: str
    values: tuple[object, ...] = ()
    matching: Pattern | None = None
    negated: bool = False


def on(name: str, *values: object) -> When:
    """The setting is on, or has one of these values."""
    return When(name, values)


def off(name: str, *values: object) -> When:
    """The setting is off, or has none of these values."""
    return When(name, values, negated=True)


def matching(name: str, pattern: Pattern) -> When:
    """The setting's value as text matches."""
    return When(name, matching=pattern)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sign:
    """What a cause is recognized by: all that is given has to hold.

    ``exception`` is searched in the last exception as "Kind: message", ``chain`` in any of those that led to it,
    ``within`` in the frames of its traceback as "package/file.py:function", ``error`` in sd-scripts' ERROR lines,
    ``line`` in all lines of the log's end. ``innermost`` is searched in the last frame alone.
    ``names_setting``: what the exception names is the value of a setting that names something to import
    (NAMED_IMPORTS). ``quotes_setting``: it quotes the text that a setting has. ``uses_setting``: the traceback's last
    source lines use one as ``args.NAME``. ``silent``: there is no exception, as with all ``signals`` and
    ``exit_codes``.
    """

    exception: Pattern | None = None
    chain: Pattern | None = None
    within: Pattern | None = None
    innermost: Pattern | None = None
    error: Pattern | None = None
    line: Pattern | None = None
    signals: tuple[str, ...] = ()
    exit_codes: tuple[int, ...] = ()
    phases: tuple[Phase, ...] = ()
    when: tuple[When, ...] = ()
    names_setting: bool = False
    quotes_setting: bool = False
    uses_setting: bool = False
    silent: bool = False


@dataclass(frozen=True, slots=True)
class Advice:
    """A step of a cure, given if all conditions hold."""

    text: MessageTemplate
    when: tuple[When, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Cause:
    """A row of the table. ``message`` is one sentence, ``cure`` the steps that are true for a run, in their order.

    Of ``cure`` those steps are given whose conditions hold; ``first_only`` stops at the first of them. ``code`` is that
    of the verdict if it is not the cause's own id. ``saves_gpu_memory`` adds the steps that save memory of the
    GPU (gpu_memory.py). ``secondary`` failures follow from another one: an earlier traceback counts more.
    """

    id: str
    message: MessageTemplate
    signs: tuple[Sign, ...]
    cure: tuple[Advice, ...] = ()
    first_only: bool = False
    code: str | None = None
    saves_gpu_memory: bool = False
    secondary: bool = False
