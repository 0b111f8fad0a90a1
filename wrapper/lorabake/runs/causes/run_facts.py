"""The facts of a run that a diagnosis depends on: settings, trainer, machine, and the limits of this process."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING

from lorabake.inputs.hub import is_hub_offline
from lorabake.runs.causes.diagnose import UNKNOWN, RunFacts, known_words
from lorabake.runs.causes.gpu_memory import MemoryFacts
from lorabake.runs.record import read_plan
from lorabake.util.machine import get_file_size_limit, has_memory_limit, read_process_name
from lorabake_schemas.families.registry import find_family_of_run
from lorabake_schemas.messages import escape_invisible

if TYPE_CHECKING:
    from lorabake.runs.folder import RunPaths
    from lorabake.runs.log.evidence import LogEvidence
    from lorabake_schemas.events import LogSummary
    from lorabake_schemas.families.model_family import ModelFamily
    from lorabake_schemas.plan import Plan
    from lorabake_schemas.record import Record

OTHER_PROCESS = re.compile(r"Process (\d+) has ")
TENSOR_BYTES = {"float": 4, "fp16": 2, "bf16": 2}
SAVING_KEYS = ("save_every_n_epochs", "save_every_n_steps")


def collect_run_facts(
    paths: RunPaths, record: Record, settings: Mapping[str, object], seen: LogSummary, log: LogEvidence | None
) -> RunFacts:
    """Everything that causes and cures ask for."""
    plan, family = read_plan(paths), find_family_of_run(record.argv, settings)
    device = "cuda" if (seen.device or record.machine.device).startswith("cuda") else "cpu"
    clip = settings.get("max_grad_norm")
    facts: Mapping[str, object] = {
        "run.device": device,
        "run.offline": is_hub_offline(record.environment),
        "run.several_processes": plan is not None and plan.launch.num_processes > 1,
        "run.full_precision": any(settings.get(name) for name in ("full_fp16", "full_bf16", "fp8_base")),
        "run.caches_text": bool(family.text_cache_suffix),
        "run.saves_often": any(settings.get(name) for name in SAVING_KEYS),
        "run.address_limit": has_memory_limit(),
        "run.file_limit": get_file_size_limit() is not None,
        "run.preset": "preset=" in str(settings.get("network_args") or ""),
        "run.unclipped": clip == 0 and clip is not None,
    }
    return RunFacts(
        settings=settings,
        own_trainer=record.trainer.kind == "own",
        facts=facts,
        words=_collect_words(record, settings, family),
        memory=_measure_memory(settings, family, plan),
        processes=_name_processes(log),
    )


def _collect_words(record: Record, settings: Mapping[str, object], family: ModelFamily) -> Mapping[str, str]:
    gpus = record.machine.gpus
    state = record.parts[-1].state if record.parts else None
    names = [encoder.tokenizer_cache for encoder in family.text_encoders]
    return {
        **known_words(settings),
        "torch": escape_invisible(record.trainer.packages.get("torch", "")),
        "gpu": escape_invisible(gpus[0].name) if gpus else UNKNOWN,
        "driver": escape_invisible(gpus[0].driver) if gpus and gpus[0].driver else UNKNOWN,
        "memory": f"{record.machine.memory_bytes / (1 << 30):.0f} GiB",
        "family": family.label,
        "state": escape_invisible(state) if state else UNKNOWN,
        "steps": str(record.planned_steps),
        "tokenizers": ", ".join(names),
        "tokenizer_ids": ", ".join(encoder.tokenizer for encoder in family.text_encoders),
    }


def _measure_memory(settings: Mapping[str, object], family: ModelFamily, plan: Plan | None) -> MemoryFacts:
    size = plan.forecast.file_size if plan is not None else None
    width = TENSOR_BYTES.get(str(settings.get("save_precision") or "float"), 4)
    rank = settings.get("network_dim")
    return MemoryFacts(
        unet=family.unet_parameters,
        text_encoders=sum(encoder.parameters for encoder in family.text_encoders),
        trained=size.tensor_bytes // width if size is not None else None,
        batch=max(_list_batch_sizes(plan), default=1),
        rank=rank if isinstance(rank, int) else 0,
        precision=str(settings.get("mixed_precision") or "no"),
        optimizer=str(settings.get("optimizer_type") or "AdamW"),
    )


def _list_batch_sizes(plan: Plan | None) -> list[int]:
    found = [block.value("batch_size") for block in plan.datasets] if plan is not None else []
    return [size for size in found if isinstance(size, int)]


def _name_processes(log: LogEvidence | None) -> Mapping[str, str]:
    """The programs that the last error names by their numbers."""
    words = (log.exception if log is not None else None) or ""
    names = {number: read_process_name(int(number)) for number in OTHER_PROCESS.findall(words)}
    return {number: name for number, name in names.items() if name is not None}
