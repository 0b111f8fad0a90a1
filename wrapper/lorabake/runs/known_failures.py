"""Failures that are known by the words they leave in the trainer's last exception, each with its remedy."""

from __future__ import annotations

import re
from dataclasses import dataclass

from lorabake_schemas.words import Said, say


@dataclass(frozen=True, slots=True)
class Known:
    """A failure by the words it leaves in the trainer's last exception."""

    code: str
    words: re.Pattern[str]
    message: Said
    hint: Said


LESS_MEMORY = say(
    "use a lower resolution or train_batch_size, set gradient_checkpointing = true, or cache_latents = true"
)
OUT_OF_RAM = Known(
    "out-of-memory",
    re.compile(r"an't allocate memory|^MemoryError|Cannot allocate memory|not enough memory|killed by signal: Killed"),
    say("this machine ran out of memory"),
    say("close other programs, lower max_data_loader_n_workers, or {others}", others=LESS_MEMORY),
)
DISK_FULL = Known(
    "disk-full",
    re.compile(r"No space left on device|Disk quota exceeded"),
    say("the disk is full"),
    say("free some space, or keep fewer files (save.save_last_n_epochs)"),
)
KNOWN = (
    Known(
        "out-of-gpu-memory",
        re.compile(r"CUDA out of memory|OutOfMemoryError|CUBLAS_STATUS_ALLOC_FAILED"),
        say("the GPU ran out of memory"),
        LESS_MEMORY,
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
        say("connect once so that it is kept, or give base.tokenizer_cache_dir a folder that holds the tokenizer"),
    ),
    Known(
        "missing-package",
        re.compile(r"ModuleNotFoundError|ImportError"),
        say("the trainer's Python lacks a package"),
        say("`lorabake trainer install` makes an environment that has them all"),
    ),
    Known(
        "no-gpu",
        re.compile(r"No CUDA GPUs are available|NVIDIA driver|no kernel image is available|CUDA error: invalid device"),
        say("the GPU cannot be used"),
        say("look whether nvidia-smi shows it and whether its driver is new enough for the trainer's torch"),
    ),
)

__all__ = ["DISK_FULL", "KNOWN", "OUT_OF_RAM", "Known"]
