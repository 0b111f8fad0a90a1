"""How long the steps of a plan may take, by runs of the same kind on the same machine. Pure; it never guesses."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import cast

from lorabake_schemas.machine import MachineFacts
from lorabake_schemas.messages import Message, msg
from lorabake_schemas.past_runs import PastRun, StepTiming
from lorabake_schemas.plan import Plan, TimeEstimate

Options = Mapping[str, object]
# What makes a step another piece of work: none of these may differ. A missing flag is an unset one.
STEP_COST_OPTIONS = (
    "resolution", "batch_size", "gradient_accumulation_steps", "mixed_precision", "full_fp16", "full_bf16",
    "gradient_checkpointing", "network_module", "network_train_unet_only", "mem_eff_attn",
    "torch_compile", "cache_latents", "cache_text_encoder_outputs", "bucket_no_upscale", "enable_bucket", "lowram",
)  # fmt: skip
BASE, XFORMERS = "pretrained_model_name_or_path", "xformers"
# What may make it somewhat slower or faster: reported when it differs. Whether xformers works is tested only when a run
# starts, so that a plan may not know its attention yet.
MINOR_COST_OPTIONS: tuple[tuple[str, Callable[[str], Message]], ...] = (
    (XFORMERS, lambda there: msg("the attention ({value} there)", value="xformers" if there == "True" else "sdpa")),
    ("network_dim", lambda there: msg("network_dim ({value} there)", value=there)),
    ("optimizer_type", lambda there: msg("the optimizer ({value} there)", value=there)),
    (BASE, lambda there: msg("the base model ({value} there)", value=there)),
    ("max_token_length", lambda there: msg("max_token_length ({value} there)", value=there)),
)
TRIMMED_SHARE = 0.1  # of the steps, left out at each end of the range


def estimate_timing(plan: Plan, machine: MachineFacts, past: Sequence[PastRun]) -> TimeEstimate | None:
    """By the runs that are most alike; None when none is of this kind. Samples, caching and saves are not in it."""
    options = _options_by_name(plan)
    alike = [
        (_describe_differences(options, run.options), run)
        for run in past
        if _is_comparable(plan, machine, options, run)
    ]
    if not alike:
        return None
    fewest = min(len(told) for told, _ in alike)
    chosen = [(told, run) for told, run in alike if len(told) == fewest]
    stretches = [stretch for _, run in chosen for stretch in run.stretches]
    low, high = _trimmed_range(stretches)
    return TimeEstimate(
        step_low=low,
        step_high=high,
        low=low * plan.forecast.steps,
        high=high * plan.forecast.steps,
        runs=tuple(run.name for _, run in chosen),
        steps_measured=sum(stretch.steps for stretch in stretches),
        differs=tuple({str(word): word for told, _ in chosen for word in told}.values()),
    )


def _options_by_name(plan: Plan) -> Options:
    """Those of a block: its own where there is one, all of several blocks together."""
    blocks: list[Options] = [{setting.option: setting.value for setting in block.settings} for block in plan.datasets]
    return {**{setting.option: setting.value for setting in plan.train}, **combine_blocks(blocks)}


def combine_blocks(blocks: Sequence[Options]) -> Options:
    """The options of several ``[[datasets]]``: a list of all values where they differ."""
    names = dict.fromkeys(name for block in blocks for name in block)
    values = {name: tuple(dict.fromkeys(block.get(name) for block in blocks)) for name in names}
    return {name: several[0] if len(several) == 1 else several for name, several in values.items()}


def _is_comparable(plan: Plan, machine: MachineFacts, options: Options, run: PastRun) -> bool:
    return (
        bool(run.stretches)
        and run.family == plan.family
        and run.processes == plan.launch.num_processes
        and _hardware_key(run.machine) == _hardware_key(machine)
        and all(_normalized_value(options, name) == _normalized_value(run.options, name) for name in STEP_COST_OPTIONS)
        and _network_key(options) == _network_key(run.options)
    )


def _hardware_key(machine: MachineFacts) -> tuple[object, ...]:
    """A GPU is slow or quick by its name; without one it is the CPUs that count."""
    if machine.gpus:
        return (machine.system, *(gpu.name for gpu in machine.gpus))
    return machine.system, machine.cpus


def _normalized_value(options: Options, name: str) -> object:
    """An option that is left out is off; one batch is one; a model is its name, wherever it is named from."""
    value = options.get(name)
    if name == BASE:
        return str(value).replace("\\", "/").rstrip("/").rsplit("/", maxsplit=1)[-1]
    if name in {"batch_size", "gradient_accumulation_steps"}:
        return value or 1
    return value or False


def _network_key(options: Options) -> tuple[str, ...]:
    """What of network_args decides how much is computed: the algorithm, and whether it is DoRA."""
    given = options.get("network_args")
    listed = list(map(str, cast("tuple[object, ...]", given))) if isinstance(given, tuple) else []
    return tuple(sorted(item for item in listed if item.split("=")[0] in {"algo", "dora_wd", "conv_dim", "preset"}))


def _describe_differences(options: Options, there: Options) -> tuple[Message, ...]:
    return tuple(
        words(str(_normalized_value(there, name) or "-"))
        for name, words in MINOR_COST_OPTIONS
        if _normalized_value(options, name) != _normalized_value(there, name)
    )


def _trimmed_range(stretches: Sequence[StepTiming]) -> tuple[float, float]:
    """Seconds per step, from the quickest to the slowest tenth left out, by how many steps each stretch has."""
    paces = sorted((stretch.seconds / stretch.steps, stretch.steps) for stretch in stretches)
    cut = TRIMMED_SHARE * sum(steps for _, steps in paces)
    return _pace_after(paces, cut), _pace_after(paces[::-1], cut)


def _pace_after(paces: Sequence[tuple[float, int]], cut: float) -> float:
    """The first pace beyond ``cut`` steps."""
    passed = 0
    for pace, steps in paces:
        passed += steps
        if passed > cut:
            return pace
    return paces[-1][0]
