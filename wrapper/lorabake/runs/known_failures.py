"""Failures that are recognized by the text of the trainer's last exception, each with a remedy that fits the run."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from lorabake_schemas.messages import Message, join_list, literal, msg


@dataclass(frozen=True, slots=True)
class RunFacts:
    """What a remedy depends on: the settings of sd-scripts, and whether the trainer is the user's own."""

    settings: Mapping[str, object] = field(default_factory=dict[str, object])
    own_trainer: bool = False

    def has(self, *options: str) -> bool:
        """Whether one of them is set and not off."""
        return any(self.settings.get(option) for option in options)


@dataclass(frozen=True, slots=True)
class KnownFailure:
    """A failure and the text of the exception that identifies it."""

    code: str
    words: re.Pattern[str]
    message: Message
    hint: Callable[[RunFacts], Message]


@dataclass(frozen=True, slots=True)
class Verdict:
    """A code, what is wrong in one sentence, and what to do."""

    code: str
    message: Message
    hint: Message | None = None


def gpu_memory_hint(facts: RunFacts) -> Message:
    """What is not done yet."""
    parts = [msg("use a lower resolution or train_batch_size")]
    parts += [
        msg("set {option} = true", option=option)
        for option in ("gradient_checkpointing", "cache_latents")
        if not facts.has(option)
    ]
    return join_list(parts)


def memory_hint(facts: RunFacts) -> Message:
    parts = [msg("close other programs")]
    if facts.settings.get("max_data_loader_n_workers") != 0:
        parts.append(msg("lower max_data_loader_n_workers"))
    return join_list([*parts, gpu_memory_hint(facts)])


def disk_space_hint(facts: RunFacts) -> Message:
    if facts.has("save_last_n_epochs", "save_last_n_steps"):
        return msg("free some space")
    return msg("free some space, or keep fewer files (save.save_last_n_epochs)")


def finite_loss_hint(facts: RunFacts) -> Message:
    """How to keep the loss finite: what helps at this precision, and what limits the gradients."""
    parts: list[Message] = []
    if facts.settings.get("mixed_precision", "fp16") == "fp16":
        parts.append(msg('set mixed_precision = "bf16"'))
        parts += [] if facts.has("no_half_vae") else [msg("set no_half_vae = true")]
    if facts.settings.get("max_grad_norm") == 0:
        parts.append(msg("set max_grad_norm = 1, because gradients are not clipped now"))
    adapts = str(facts.settings.get("optimizer_type", "")).lower().startswith("prodigy")
    parts.append(msg("lower d_coef in optimizer_args") if adapts else msg("lower the learning rate"))
    return join_list(parts, "; ")


def missing_package_hint(facts: RunFacts) -> Message:
    if facts.own_trainer:
        return msg("install it in the Python that runs your sd-scripts, or train without --sd-scripts and --python")
    return msg("run `lorabake trainer install --repair` to reinstall the trainer's packages")


def damaged_checkout_hint(facts: RunFacts) -> Message:
    if facts.own_trainer:
        return msg("restore your sd-scripts (`git status` there shows what is missing), or train without --sd-scripts")
    return msg("run `lorabake trainer install --repair` to restore it")


OUT_OF_RAM = KnownFailure(
    "out-of-memory",
    re.compile(r"an't allocate memory|^MemoryError|Cannot allocate memory|not enough memory|killed by signal: Killed"),
    msg("this machine ran out of memory"),
    memory_hint,
)
DISK_FULL = KnownFailure(
    "disk-full",
    re.compile(r"No space left on device|Disk quota exceeded"),
    msg("the disk is full"),
    disk_space_hint,
)
KNOWN_FAILURES = (
    KnownFailure(
        "out-of-gpu-memory",
        re.compile(r"CUDA out of memory|OutOfMemoryError|CUBLAS_STATUS_ALLOC_FAILED"),
        msg("the GPU ran out of memory"),
        gpu_memory_hint,
    ),
    KnownFailure(  # before disk-full: it is /dev/shm that has no space left then
        "shared-memory",
        re.compile(r"shared memory|</torch_\d|killed by signal: Bus error"),
        msg("not enough shared memory (/dev/shm) for the data loader"),
        lambda facts: (
            msg("give the container more shared memory (docker: --shm-size)")
            if facts.settings.get("max_data_loader_n_workers") == 0
            else msg("set max_data_loader_n_workers = 0, or give the container more shared memory (docker: --shm-size)")
        ),
    ),
    OUT_OF_RAM,
    DISK_FULL,
    KnownFailure(
        "offline",
        re.compile(
            r"Can't load tokenizer|LocalEntryNotFoundError|OfflineModeIsEnabled|couldn't connect to 'https?://"
            r"|MaxRetryError|Cannot find the requested files in the disk cache"
        ),
        msg("a file from the Hugging Face Hub is not on this machine and could not be downloaded"),
        lambda _: msg(
            "go online once to download it, or set base.tokenizer_cache_dir to a folder that contains the tokenizer"
        ),
    ),
    KnownFailure(
        "missing-package",
        re.compile(r"ModuleNotFoundError|ImportError"),
        msg("a package is missing from the trainer's Python"),
        missing_package_hint,
    ),
    KnownFailure(
        "no-gpu",
        re.compile(r"No CUDA GPUs are available|NVIDIA driver|no kernel image is available|CUDA error: invalid device"),
        msg("the GPU cannot be used"),
        lambda _: msg("check that nvidia-smi shows it and that its driver is new enough for the trainer's torch"),
    ),
)
# Options whose value names something to import, and the recipe's key for each.
IMPORT_OPTIONS: Mapping[str, str] = {
    "optimizer_type": "train.optimizer",
    "lr_scheduler_type": "train.lr_scheduler_type",
    "network_module": "kohya.network_module",
    "dynamo_backend": "kohya.dynamo_backend",
}
DEFAULT_NETWORK_MODULES = ("networks.lora", "lycoris.kohya")  # of network_module, when no recipe names one
SD_SCRIPTS_MODULES = (
    "library",
    "networks",
    "tools",
    "finetune",
    "train_network",
    "sdxl_train_network",
)  # of sd-scripts
_IMPORT_ERRORS = (
    re.compile(r"No module named '(?P<module>[\w.]+)'"),
    re.compile(r"cannot import name '(?P<name>\w+)' from '(?P<module>[\w.]+)'"),
    re.compile(r"module '(?P<module>[\w.]+)' has no attribute '(?P<name>\w+)'"),
    re.compile(r"InvalidBackend: Invalid backend: '(?P<name>\w+)'"),
)


def diagnose_import_error(exception: str, facts: RunFacts) -> Verdict | None:
    """Something that could not be imported: because the recipe names it, or because sd-scripts is incomplete."""
    match = next((found for pattern in _IMPORT_ERRORS if (found := pattern.search(exception))), None)
    if match is None:
        return None
    parts = match.groupdict()
    module, name = parts.get("module") or "", parts.get("name") or ""
    for option, key in IMPORT_OPTIONS.items():
        value = facts.settings.get(option)
        if isinstance(value, str) and value not in DEFAULT_NETWORK_MODULES and _names_import(value, module, name):
            problem = msg(
                '{key} = "{value}": {missing} not found in the trainer\'s Python',
                missing=name or module,
                key=key,
                value=value,
            )
            message = msg("{problem} ({words})", problem=problem, words=truncate_text(exception))
            hint = msg("set {key} to a name that exists in the trainer's Python, or remove it", key=key)
            return Verdict("wrong-name", message, hint)
    if module.partition(".")[0] in SD_SCRIPTS_MODULES:
        problem = msg("sd-scripts is incomplete or damaged")
        message = msg("{problem} ({words})", problem=problem, words=truncate_text(exception))
        return Verdict("damaged-trainer", message, damaged_checkout_hint(facts))
    return None


def _names_import(value: str, module: str, name: str) -> bool:
    """Whether an option's value refers to a missing import: ``a.b.Class`` to the modules a and a.b, and to Class."""
    if name:
        return value in (name, f"{module}.{name}")
    return value == module or value.startswith(f"{module}.")


def diagnose_exception(exception: str, facts: RunFacts) -> Verdict | None:
    """What is known of an exception."""
    if (verdict := diagnose_import_error(exception, facts)) is not None:
        return verdict
    for known in KNOWN_FAILURES:
        if known.words.search(exception):
            message = msg("{problem} ({words})", problem=known.message, words=truncate_text(exception))
            return Verdict(known.code, message, known.hint(facts))
    return None


def truncate_text(text: str, limit: int = 300) -> Message:
    return literal(text if len(text) <= limit else f"{text[:limit]}...")
