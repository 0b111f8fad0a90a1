"""Rules that compare single values with the whole plan: its length, its guide values, the machine."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from typing import cast

from lorabake_schemas.guide.defaults import group_concepts, has_own_rate, resolve_scheduler
from lorabake_schemas.guide.registry import ERROR, WARNING, RuleContext, RuleHit, rule
from lorabake_schemas.guide.rules.hardware import suggest_no_workers
from lorabake_schemas.guide.rules.optimizer_arguments import (
    SCHEDULER_ARGS,
    Where,
    count_scheduler_steps,
    find_total_steps,
)
from lorabake_schemas.messages import msg
from lorabake_schemas.plan import DatasetPlan
from lorabake_schemas.sd_scripts import is_schedule_free
from lorabake_schemas.values import PROMPT_NUMBERS, PROMPT_TEXTS, split_prompt

LONGEST = 4  # times the guide's steps
LONG_WORK = 50 * 1024**2  # ours: pixels of all steps; on a CPU an image of 1024 x 1024 takes about a minute
STEP_OF_RULE = re.compile(r":\s*([0-9]{1,12})\s*(?:,|$)")
V_PREDICTION_NAME = re.compile(r"(?<![a-z])v[-_. ]?pred", re.IGNORECASE)
INTERVALS = (
    ("save", "save_every_n_epochs"), ("save", "save_every_n_steps"), ("sample", "sample_every_n_epochs"),
    ("sample", "sample_every_n_steps"), ("validation", "validate_every_n_epochs"),
    ("validation", "validate_every_n_steps"),
)  # fmt: skip
# Arguments of schedulers (vendor/signatures.json) that say how long a part of the schedule takes, and those that say
# at which steps the rate changes. OneCycleLR's epochs and steps_per_epoch are one length.
SCHEDULE_LENGTHS = (
    "T_max", "T_0", "total_iters", "first_cycle_steps", "warmup_steps", "step_size_up", "step_size_down",
    "anneal_epochs",
)  # fmt: skip
SCHEDULE_POINTS = ("step_size", "milestones", "step_rules")
CYCLED_SCHEDULERS = ("cosine_with_restarts", "cosine_with_min_lr", "warmup_stable_decay")  # G4.56
LENGTH_KEYS = ("max_train_steps", "max_train_epochs", "exposures")
LEAST_VALUES = {"vae_batch_size": 1, "text_encoder_batch_size": 1}  # TU:1281, range() in the caching loops

HUBER_LOSSES = ("huber", "smooth_l1")
DYNAMO_BACKENDS = ("eager", "aot_eager", "inductor", "cudagraphs")  # of torch itself
DYNAMO_PACKAGES = {"onnxrt": "onnxruntime", "tvm": "tvm", "ipex": "intel_extension_for_pytorch"}
BATCHES_AHEAD = 2  # that torch's loader keeps ready for each worker
LEAST_SHARED = 1 << 20  # bytes for each worker, whatever its batches


@rule("S1.least", ERROR, "sd-scripts stops when it divides its work into batches of nothing, after loading the model.")
def value_too_small(situation: RuleContext) -> Iterator[RuleHit]:
    for name, least in LEAST_VALUES.items():
        value = situation.recipe.kohya.get(name)
        if isinstance(value, int) and value < least:
            said = msg("{name} {value} is too small", name=name, value=value)
            yield RuleHit(("kohya", name), said, msg("write {least} or more, or remove it", least=least))


@rule("S1.values", ERROR, "sd-scripts stops at these values, some of them only after loading the model.")
def unusable_values(situation: RuleContext) -> Iterator[RuleHit]:
    kohya = situation.recipe.kohya
    crop = kohya.get("face_crop_aug_range")
    if isinstance(crop, str) and not _is_range(crop):
        said = msg("face_crop_aug_range {value} is not a lower and an upper number", value=crop)
        yield RuleHit(("kohya", "face_crop_aug_range"), said, msg('write two numbers, such as "2.0,4.0"'))
    threshold = kohya.get("huber_c")
    huber = kohya.get("loss_type") in HUBER_LOSSES
    if huber and kohya.get("huber_schedule") == "exponential" and isinstance(threshold, int | float) and threshold <= 0:
        said = msg("huber_c {value:g} has no logarithm, which the exponential schedule needs", value=threshold)
        yield RuleHit(("kohya", "huber_c"), said, msg("write huber_c = 0.1, or remove it"))
    backend = kohya.get("dynamo_backend")
    if kohya.get("torch_compile") is True and isinstance(backend, str) and backend not in DYNAMO_BACKENDS:
        package, known = DYNAMO_PACKAGES.get(backend), situation.signatures.packages
        if package is None or (known and package not in known):
            said = msg("dynamo_backend {value} does not exist in the trainer's PyTorch", value=backend)
            if package:
                said = msg("dynamo_backend {value} needs the package {package}", value=backend, package=package)
            yield RuleHit(("kohya", "dynamo_backend"), said, msg('write dynamo_backend = "inductor", or remove it'))


def _is_range(text: str) -> bool:
    """Whether sd-scripts accepts it as face_crop_aug_range (TU:5417-5421)."""
    try:
        numbers = [float(part) for part in text.split(",")]
    except ValueError:
        return False
    return len(numbers) == 2 and numbers[0] <= numbers[1]


@rule(
    "S1.huber", WARNING, "A negative Huber threshold makes the loss negative, so training moves away from the images."
)
def negative_huber_loss(situation: RuleContext) -> Iterator[RuleHit]:
    kohya = situation.recipe.kohya
    stops = kohya.get("huber_schedule") == "exponential"  # S1.values
    for name in ("huber_c", "huber_scale"):
        value = kohya.get(name)
        if kohya.get("loss_type") in HUBER_LOSSES and isinstance(value, int | float) and value < 0:
            if name == "huber_c" and stops:
                continue
            said = msg(
                "{name} {value:g} makes the loss negative, so the LoRA learns to avoid the images",
                name=name,
                value=value,
            )
            yield RuleHit(("kohya", name), said, msg("write a number above 0, or remove it"))


@rule(
    "S38.memory",
    WARNING,
    "Workers pass batches through /dev/shm (64 MB in a Docker container); a full one ends or hangs the training.",
    unless="max_data_loader_n_workers = 0",
    needs_plan=True,
)
def shared_memory_too_small(situation: RuleContext) -> Iterator[RuleHit]:
    plan, there = situation.plan, situation.machine.shared_memory_bytes
    workers = plan.value("max_data_loader_n_workers") if plan else 0
    if plan is None or there is None or situation.rehearsing or not isinstance(workers, int):
        return
    in_memory = plan.value("cache_latents") or plan.value("cache_latents_to_disk")
    largest = max((_count_batch_bytes(block, latents=bool(in_memory)) for block in plan.datasets), default=0)
    needed = min(workers, max(situation.machine.cpus, 1)) * max(BATCHES_AHEAD * largest, LEAST_SHARED)
    if needed > there:
        said = msg(
            "{workers} workers need about {need:.0f} MB of shared memory, but /dev/shm has {there:.1f} MB",
            workers=workers,
            need=needed / 1e6,
            there=there / 1e6,
        )
        fix = msg(
            "{change}, or give the container more shared memory (--shm-size)", change=suggest_no_workers(situation)
        )
        yield RuleHit(("train", "max_data_loader_n_workers"), said, fix)


def _count_batch_bytes(block: DatasetPlan, *, latents: bool) -> int:
    """The bytes of one batch of float32 images, or of their latents: 4 channels at an eighth of each side."""
    width, height = block.resolution
    batch = block.value("batch_size")
    values = 4 * width * height // 64 if latents else 3 * width * height
    return 4 * values * (batch if isinstance(batch, int) else 1)


@rule("G4.37.interval", WARNING, "An interval that is longer than the run never ends.", needs_plan=True)
def interval_longer_than_run(situation: RuleContext) -> Iterator[RuleHit]:
    if situation.plan is None:
        return
    counted = situation.plan.forecast
    for table, key in INTERVALS:
        length = counted.epochs if key.endswith("epochs") else counted.steps
        every = getattr(getattr(situation.recipe, table), key, None)
        if isinstance(every, int) and every > length:
            said = msg(
                "{key} {every} never happens: the run has {epochs} epochs and {steps} steps",
                key=key,
                every=every,
                epochs=counted.epochs,
                steps=counted.steps,
            )
            yield RuleHit((table, key), said, msg("write {length} or less, or remove it", length=length))


@rule("S5.cycles", WARNING, "What a scheduler would do after the last step never happens.", needs_plan=True)
def schedule_longer_than_run(situation: RuleContext) -> Iterator[RuleHit]:
    plan, train = situation.plan, situation.recipe.train
    if plan is None or is_schedule_free(situation.optimizer) or has_own_rate(train):
        return
    steps = count_scheduler_steps(plan)
    for where, length in _iter_schedule_lengths(situation):
        if length > steps:
            said = msg(
                "{name} {length} is longer than the run of {steps} steps, so the schedule is cut off",
                name=str(where[-1]),
                length=length,
                steps=steps,
            )
            fix = msg("write {number}", number=steps)
            yield RuleHit(where, said, msg("write total_steps = {number}", number=steps) if "epochs" in where else fix)
    given = train.lr_scheduler_args or {}
    for name in SCHEDULE_POINTS:
        late = [point for point in _list_steps(given.get(name)) if point >= steps]
        if late:
            said = msg(
                "{name}: step {late} is not reached in a run of {steps} steps, so nothing changes there",
                name=name,
                late=min(late),
                steps=steps,
            )
            yield RuleHit((*SCHEDULER_ARGS, name), said, msg("write only steps below {steps}", steps=steps))
    cycles, left = train.lr_scheduler_num_cycles, plan.forecast.steps - plan.forecast.warmup_steps
    if cycles and resolve_scheduler(situation.recipe) in CYCLED_SCHEDULERS and cycles > left > 0:
        said = msg("{cycles} cycles are more than the {steps} steps after the warm-up", cycles=cycles, steps=left)
        fix = msg("write {length} or less, or remove it", length=left)
        yield RuleHit(("train", "lr_scheduler_num_cycles"), said, fix)


def _iter_schedule_lengths(situation: RuleContext) -> Iterator[tuple[Where, int]]:
    given = situation.recipe.train.lr_scheduler_args or {}
    for name in SCHEDULE_LENGTHS:
        length = given.get(name)
        if isinstance(length, int):
            yield (*SCHEDULER_ARGS, name), length
    if found := find_total_steps(given):
        yield (*SCHEDULER_ARGS, found[0]), found[1]
    decay = situation.recipe.kohya.get("lr_decay_steps")
    if isinstance(decay, int) and resolve_scheduler(situation.recipe) == "warmup_stable_decay":
        yield ("kohya", "lr_decay_steps"), decay


def _list_steps(value: object) -> list[int]:
    """The steps of one number, of a list, or of piecewise_constant's rules, such as "1:10,0.1:20,0.01"."""
    if isinstance(value, str):
        return [int(found) for found in STEP_OF_RULE.findall(value)]
    several = cast("Sequence[object]", value) if isinstance(value, list | tuple) else (value,)
    return [each for each in several if isinstance(each, int)]


@rule(
    "G5.2.steps",
    WARNING,
    "The guide needs about 2000 steps for a concept, or 4000 for a style; many more overtrain.",
    needs_plan=True,
)
def too_many_steps(situation: RuleContext) -> Iterator[RuleHit]:
    plan, train = situation.plan, situation.recipe.train
    marks = [mark.guide for mark in plan.forecast.marks if mark.measure == "steps"] if plan else []
    usual = max(marks, default=0) * len(group_concepts(situation.recipe))
    if plan is None or not usual or plan.forecast.steps <= LONGEST * usual:
        return
    key = next((("train", name) for name in LENGTH_KEYS if getattr(train, name) is not None), None)
    said = msg(
        "{steps} steps are {times:.0f} times what the guide uses ({usual})",
        steps=plan.forecast.steps,
        times=plan.forecast.steps / usual,
        usual=usual,
    )
    fix = msg("check max_train_epochs and num_repeats, or ignore this if you compare the saved files")
    yield RuleHit(key or ("concept", 0, "num_repeats"), said, fix)


@rule(
    "G4.58.cpu",
    WARNING,
    "On a CPU a step at 1024 pixels takes minutes, so that a whole training takes days.",
    needs_plan=True,
)
def long_training_on_cpu(situation: RuleContext) -> Iterator[RuleHit]:
    plan = situation.plan
    if plan is None or situation.machine.device != "cpu" or not situation.launching:
        return
    steps, train = plan.forecast.steps, situation.recipe.train
    width, height = max((block.resolution for block in plan.datasets), key=math.prod, default=(0, 0))
    if steps * width * height >= LONG_WORK:
        said = msg(
            "{steps} steps at {side} pixels take hours or days on this machine, which has no NVIDIA GPU",
            steps=steps,
            side=max(width, height),
        )
        given = next((name for name in LENGTH_KEYS if getattr(train, name) is not None), "max_train_steps")
        fix = msg("train on a machine with a GPU; for a trial here write max_train_steps = 2")
        if given != "max_train_steps":
            fix = msg("train on a machine with a GPU; for a trial here replace {key} by max_train_steps = 2", key=given)
        yield RuleHit(("train", given), said, fix)


@rule("G4.11.name", WARNING, "Training v-prediction as noise prediction ruins the result (GC.6).")
def v_prediction_by_name(situation: RuleContext) -> Iterator[RuleHit]:
    base = situation.recipe.base
    name = base.model.replace("\\", "/").rstrip("/").rpartition("/")[2]
    if base.v_prediction is None and situation.base.v_prediction is None and V_PREDICTION_NAME.search(name):
        said = msg("the file name {name} suggests v-prediction, but the file itself does not show it", name=name)
        fix = msg("write v_prediction = true (or false) under [base]")
        yield RuleHit(("base", "model"), said, fix)


@rule("S48", WARNING, "sd-scripts removes an unknown flag, and the text after it, from a sample prompt (TU:6254).")
def unknown_prompt_flag(situation: RuleContext) -> Iterator[RuleHit]:
    known = {*PROMPT_NUMBERS, *PROMPT_TEXTS}
    for number, line in enumerate(situation.recipe.sample.prompts if situation.recipe.sample else ()):
        for flag, value in split_prompt(line):
            if flag not in known:
                said = msg(
                    '"--{flag} {value}" is not a flag of sd-scripts and is left out', flag=flag, value=value[:40]
                )
                fix = msg("use one of {flags}, or remove it", flags=", ".join(f"--{each}" for each in sorted(known)))
                yield RuleHit(("sample", "prompts", number), said, fix)
