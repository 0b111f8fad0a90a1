"""Failures that are known by the words of the trainer's last exception, each with a remedy that fits the run."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from lorabake_schemas.words import Said, joined, quoted, say


@dataclass(frozen=True, slots=True)
class RunFacts:
    """What a remedy depends on: the settings that sd-scripts was given, and whether the user brought the trainer."""

    settings: Mapping[str, object] = field(default_factory=dict[str, object])
    own_trainer: bool = False

    def has(self, *options: str) -> bool:
        """Whether one of them is set to something that is not off."""
        return any(self.settings.get(option) for option in options)


@dataclass(frozen=True, slots=True)
class Known:
    """A failure by the words it leaves in the trainer's last exception."""

    code: str
    words: re.Pattern[str]
    message: Said
    hint: Callable[[RunFacts], Said]


@dataclass(frozen=True, slots=True)
class Verdict:
    """A code, what is wrong in one sentence, and what to do."""

    code: str
    message: Said
    hint: Said | None = None


def less_memory(facts: RunFacts) -> Said:
    """What is not done yet."""
    parts = [say("use a lower resolution or train_batch_size")]
    parts += [
        say("set {option} = true", option=option)
        for option in ("gradient_checkpointing", "cache_latents")
        if not facts.has(option)
    ]
    return joined(parts)


def less_ram(facts: RunFacts) -> Said:
    parts = [say("close other programs")]
    if facts.settings.get("max_data_loader_n_workers") != 0:
        parts.append(say("lower max_data_loader_n_workers"))
    return joined([*parts, less_memory(facts)])


def more_room(facts: RunFacts) -> Said:
    if facts.has("save_last_n_epochs", "save_last_n_steps"):
        return say("free some space")
    return say("free some space, or keep fewer files (save.save_last_n_epochs)")


def finite_loss(facts: RunFacts) -> Said:
    """How to keep the loss finite: what helps at this precision, and what holds the gradients back."""
    parts: list[Said] = []
    if facts.settings.get("mixed_precision", "fp16") == "fp16":
        parts.append(say('set mixed_precision = "bf16"'))
        parts += [] if facts.has("no_half_vae") else [say("set no_half_vae = true")]
    if facts.settings.get("max_grad_norm") == 0:
        parts.append(say("set max_grad_norm = 1, since the gradients are not clipped"))
    adapts = str(facts.settings.get("optimizer_type", "")).lower().startswith("prodigy")
    parts.append(say("lower d_coef in optimizer_args") if adapts else say("lower the learning rate"))
    return joined(parts, "; ")


def complete_packages(facts: RunFacts) -> Said:
    if facts.own_trainer:
        return say("install it into the Python that runs your sd-scripts, or train without --sd-scripts and --python")
    return say("`lorabake trainer install --repair` installs the trainer's packages again")


def complete_checkout(facts: RunFacts) -> Said:
    if facts.own_trainer:
        return say("restore your sd-scripts (`git status` there shows what is missing), or train without --sd-scripts")
    return say("`lorabake trainer install --repair` restores it")


OUT_OF_RAM = Known(
    "out-of-memory",
    re.compile(r"an't allocate memory|^MemoryError|Cannot allocate memory|not enough memory|killed by signal: Killed"),
    say("this machine ran out of memory"),
    less_ram,
)
DISK_FULL = Known(
    "disk-full",
    re.compile(r"No space left on device|Disk quota exceeded"),
    say("the disk is full"),
    more_room,
)
KNOWN = (
    Known(
        "out-of-gpu-memory",
        re.compile(r"CUDA out of memory|OutOfMemoryError|CUBLAS_STATUS_ALLOC_FAILED"),
        say("the GPU ran out of memory"),
        less_memory,
    ),
    Known(  # before disk-full: it is /dev/shm that has no space left then
        "shared-memory",
        re.compile(r"shared memory|</torch_\d|killed by signal: Bus error"),
        say("not enough shared memory (/dev/shm) for the data loader"),
        lambda facts: (
            say("give the container more shared memory (docker: --shm-size)")
            if facts.settings.get("max_data_loader_n_workers") == 0
            else say("set max_data_loader_n_workers = 0, or give the container more shared memory (docker: --shm-size)")
        ),
    ),
    OUT_OF_RAM,
    DISK_FULL,
    Known(
        "offline",
        re.compile(
            r"Can't load tokenizer|LocalEntryNotFoundError|OfflineModeIsEnabled|couldn't connect to 'https?://"
            r"|MaxRetryError|Cannot find the requested files in the disk cache"
        ),
        say("a file from the Hugging Face hub is missing on this machine and could not be fetched"),
        lambda _: say(
            "connect once so that it is kept, or give base.tokenizer_cache_dir a folder that holds the tokenizer"
        ),
    ),
    Known(
        "missing-package",
        re.compile(r"ModuleNotFoundError|ImportError"),
        say("the trainer's Python lacks a package"),
        complete_packages,
    ),
    Known(
        "no-gpu",
        re.compile(r"No CUDA GPUs are available|NVIDIA driver|no kernel image is available|CUDA error: invalid device"),
        say("the GPU cannot be used"),
        lambda _: say("look whether nvidia-smi shows it and whether its driver is new enough for the trainer's torch"),
    ),
)
# Options whose value names something to import, and the recipe's key for each.
NAMING: Mapping[str, str] = {
    "optimizer_type": "train.optimizer",
    "lr_scheduler_type": "kohya.lr_scheduler_type",
    "network_module": "kohya.network_module",
    "dynamo_backend": "kohya.dynamo_backend",
}
OWN_CHOICES = ("networks.lora", "lycoris.kohya")  # of network_module, when no recipe names one
OWN_MODULES = ("library", "networks", "tools", "finetune", "train_network", "sdxl_train_network")  # of sd-scripts
_NAMES = (
    re.compile(r"No module named '(?P<module>[\w.]+)'"),
    re.compile(r"cannot import name '(?P<name>\w+)' from '(?P<module>[\w.]+)'"),
    re.compile(r"module '(?P<module>[\w.]+)' has no attribute '(?P<name>\w+)'"),
    re.compile(r"InvalidBackend: Invalid backend: '(?P<name>\w+)'"),
)


def not_found(exception: str, facts: RunFacts) -> Verdict | None:
    """Something that could not be imported: because the recipe names it, or because sd-scripts is incomplete."""
    match = next((found for pattern in _NAMES if (found := pattern.search(exception))), None)
    if match is None:
        return None
    parts = match.groupdict()
    module, name = parts.get("module") or "", parts.get("name") or ""
    for option, key in NAMING.items():
        value = facts.settings.get(option)
        if isinstance(value, str) and value not in OWN_CHOICES and _is_named(value, module, name):
            problem = say(
                '{key} = "{value}": the trainer\'s Python has no {missing}',
                missing=name or module,
                key=key,
                value=value,
            )
            message = say("{problem} ({words})", problem=problem, words=shortened(exception))
            hint = say("give {key} a name that the trainer's Python has, or remove it", key=key)
            return Verdict("wrong-name", message, hint)
    if module.partition(".")[0] in OWN_MODULES:
        problem = say("sd-scripts is incomplete or damaged")
        message = say("{problem} ({words})", problem=problem, words=shortened(exception))
        return Verdict("damaged-trainer", message, complete_checkout(facts))
    return None


def _is_named(value: str, module: str, name: str) -> bool:
    """Whether an option's value leads to what was not found: ``a.b.Class`` to the modules a and a.b, and to Class."""
    if name:
        return value in (name, f"{module}.{name}")
    return value == module or value.startswith(f"{module}.")


def verdict_on(exception: str, facts: RunFacts) -> Verdict | None:
    """What is known of an exception."""
    if (verdict := not_found(exception, facts)) is not None:
        return verdict
    for known in KNOWN:
        if known.words.search(exception):
            message = say("{problem} ({words})", problem=known.message, words=shortened(exception))
            return Verdict(known.code, message, known.hint(facts))
    return None


def shortened(text: str, limit: int = 300) -> Said:
    return quoted(text if len(text) <= limit else f"{text[:limit]}...")
