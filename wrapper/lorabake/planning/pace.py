"""How long the steps of a plan may take, by runs of the same kind on the same machine. Pure; it never guesses."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import cast

from lorabake_schemas.history import PastRun, Stretch
from lorabake_schemas.machine import MachineFacts
from lorabake_schemas.plan import Plan, Timing
from lorabake_schemas.words import Said, say

Options = Mapping[str, object]
# What makes a step another piece of work: none of these may differ. A missing flag is an unset one.
DECIDING = (
    "resolution", "batch_size", "gradient_accumulation_steps", "mixed_precision", "full_fp16", "full_bf16",
    "gradient_checkpointing", "network_module", "network_train_unet_only", "mem_eff_attn",
    "torch_compile", "cache_latents", "cache_text_encoder_outputs", "bucket_no_upscale", "enable_bucket", "lowram",
)  # fmt: skip
BASE, XFORMERS = "pretrained_model_name_or_path", "xformers"
# What may make it somewhat slower or quicker: told when it differs. Whether xformers works is asked only when a run
# starts, so that a plan may not know its attention yet.
TOLD: tuple[tuple[str, Callable[[str], Said]], ...] = (
    (XFORMERS, lambda there: say("the attention ({value} there)", value="xformers" if there == "True" else "sdpa")),
    ("network_dim", lambda there: say("network_dim ({value} there)", value=there)),
    ("optimizer_type", lambda there: say("the optimizer ({value} there)", value=there)),
    (BASE, lambda there: say("the base model ({value} there)", value=there)),
    ("max_token_length", lambda there: say("max_token_length ({value} there)", value=there)),
)
CUT = 0.1  # of the steps, left out at each end of the range


def timing(plan: Plan, machine: MachineFacts, past: Sequence[PastRun]) -> Timing | None:
    """By the runs that are most alike; None when none is of this kind. Samples, caching and saves are not in it."""
    options = _options(plan)
    alike = [(_differences(options, run.options), run) for run in past if _same_kind(plan, machine, options, run)]
    if not alike:
        return None
    fewest = min(len(told) for told, _ in alike)
    chosen = [(told, run) for told, run in alike if len(told) == fewest]
    stretches = [stretch for _, run in chosen for stretch in run.stretches]
    low, high = _range(stretches)
    return Timing(
        step_low=low,
        step_high=high,
        low=low * plan.forecast.steps,
        high=high * plan.forecast.steps,
        runs=tuple(run.name for _, run in chosen),
        steps_measured=sum(stretch.steps for stretch in stretches),
        differs=tuple({str(word): word for told, _ in chosen for word in told}.values()),
    )


def _options(plan: Plan) -> Options:
    return {setting.option: setting.value for setting in (*plan.train, *plan.dataset)}


def _same_kind(plan: Plan, machine: MachineFacts, options: Options, run: PastRun) -> bool:
    return (
        bool(run.stretches)
        and run.family == plan.family
        and run.processes == plan.launch.num_processes
        and _hardware(run.machine) == _hardware(machine)
        and all(_value(options, name) == _value(run.options, name) for name in DECIDING)
        and _algorithm(options) == _algorithm(run.options)
    )


def _hardware(machine: MachineFacts) -> tuple[object, ...]:
    """A GPU is slow or quick by its name; without one it is the CPUs that count."""
    if machine.gpus:
        return (machine.system, *(gpu.name for gpu in machine.gpus))
    return machine.system, machine.cpus


def _value(options: Options, name: str) -> object:
    """An option that is left out is off; one batch is one; a model is its name, wherever it is named from."""
    value = options.get(name)
    if name == BASE:
        return str(value).replace("\\", "/").rstrip("/").rsplit("/", maxsplit=1)[-1]
    if name in {"batch_size", "gradient_accumulation_steps"}:
        return value or 1
    return value or False


def _algorithm(options: Options) -> tuple[str, ...]:
    """What of network_args decides how much is computed: the algorithm, and whether it is DoRA."""
    given = options.get("network_args")
    listed = list(map(str, cast("tuple[object, ...]", given))) if isinstance(given, tuple) else []
    return tuple(sorted(item for item in listed if item.split("=")[0] in {"algo", "dora_wd", "conv_dim", "preset"}))


def _differences(options: Options, there: Options) -> tuple[Said, ...]:
    return tuple(
        words(str(_value(there, name) or "-")) for name, words in TOLD if _value(options, name) != _value(there, name)
    )


def _range(stretches: Sequence[Stretch]) -> tuple[float, float]:
    """Seconds per step, from the quickest to the slowest tenth left out, by how many steps each stretch has."""
    paces = sorted((stretch.seconds / stretch.steps, stretch.steps) for stretch in stretches)
    cut = CUT * sum(steps for _, steps in paces)
    return _first(paces, cut), _first(paces[::-1], cut)


def _first(paces: Sequence[tuple[float, int]], cut: float) -> float:
    """The first pace beyond ``cut`` steps."""
    passed = 0
    for pace, steps in paces:
        passed += steps
        if passed > cut:
            return pace
    return paces[-1][0]


__all__ = ["timing"]
