"""Rules about a training in several processes: their GPUs, their noise, and what their number multiplies or divides."""

from __future__ import annotations

from collections.abc import Iterator

from lorabake_schemas.guide.defaults import is_multi_concept, resolve_scheduler
from lorabake_schemas.guide.registry import ERROR, HINT, WARNING, RuleContext, RuleHit, rule
from lorabake_schemas.messages import msg

PROCESSES = ("launch", "num_processes")


@rule(
    "G4.96.processes",
    ERROR,
    "Each process needs a GPU, and too few stop accelerate; without any GPU all of them train on the CPU.",
    unless="check, plan and compile, where the training may happen elsewhere: there it is a warning",
)
def too_few_gpus(situation: RuleContext) -> Iterator[RuleHit]:
    if situation.rehearsing:
        return
    launch, gpus = situation.recipe.launch, len(situation.machine.gpus)
    processes, severity = launch.num_processes or 1, ERROR if situation.launching else WARNING
    processes = -(-processes // situation.machines)
    if processes > max(gpus, 1):
        said = msg(
            "this machine has no NVIDIA GPU, so all {processes} processes train on its CPU, each with a copy of the "
            "model in memory",
            processes=processes,
        )
        fix = msg("write {number}, or remove it", number=max(gpus, 1) * situation.machines)
        if gpus:
            said = msg(
                "num_processes = {processes} needs as many GPUs, and this machine has {n}", processes=processes, n=gpus
            )
            fix = msg("write {number}, or start it on several machines (docs/machines.md)", number=gpus)
        if gpus and situation.machines > 1:
            said = msg(
                "num_processes = {all} needs {processes} GPUs on each of {machines} machines, and this one has {n}",
                all=launch.num_processes or 1,
                processes=processes,
                machines=situation.machines,
                n=gpus,
            )
            fix = msg("write {number}", number=gpus * situation.machines)
        yield RuleHit(PROCESSES, said, fix, severity=severity if gpus else WARNING)
    if launch.gpu_ids is None or launch.gpu_ids == "all" or not gpus:
        return
    named = {int(identity) for identity in launch.gpu_ids.split(",")}
    where = ("launch", "gpu_ids")
    if max(named) >= gpus:
        said = msg("gpu_ids names a GPU that this machine does not have (its GPUs are 0 to {last})", last=gpus - 1)
        yield RuleHit(where, said, msg("name GPUs that exist"), severity=severity)
    elif len(named) < processes:
        said = msg(
            "gpu_ids names fewer GPUs ({named}) than there are processes ({processes})",
            named=len(named),
            processes=processes,
        )
        yield RuleHit(where, said, msg("name one GPU for each process"), severity=ERROR)


@rule("G7.24", WARNING, "DyLoRA and several concepts need a batch size of one; more blends them (G6.2).")
def large_batch(situation: RuleContext) -> Iterator[RuleHit]:
    """A step learns from the batches of all processes at once. Accumulated batches blend concepts as well (G6.3), but
    the guide wants them for DyLoRA (G7.23), and they need no more memory (G4.24)."""
    train, processes = situation.recipe.train, situation.recipe.launch.num_processes or 1
    given, accumulated = train.train_batch_size or 1, train.gradient_accumulation_steps or 1
    batch = given if isinstance(given, int) else max(given)
    where, fix = ("train", "train_batch_size"), msg("write train_batch_size = 1")
    if batch == 1:
        where, fix = PROCESSES, msg("write num_processes = 1")
    size = msg("train_batch_size {batch}", batch=batch)
    if processes > 1:
        size = msg("train_batch_size {batch} in {processes} processes", batch=batch, processes=processes)
    if situation.network == "dylora":
        if batch * processes > 1:
            yield RuleHit(where, msg("{size} is too large for DyLoRA", size=size), fix)
    elif is_multi_concept(situation.recipe) and batch * processes * accumulated > 1:
        if batch * processes == 1:
            where, fix = ("train", "gradient_accumulation_steps"), msg("write gradient_accumulation_steps = 1")
            size = msg("gradient_accumulation_steps {n}", n=accumulated)
        yield RuleHit(where, msg("{size} puts images of different concepts into one step", size=size), fix)
    elif batch * processes > 4:
        said = msg("{size} is above 4, the guide's limit (G4.24)", size=size)
        yield RuleHit(where, said, msg("write 1 to 4"))


@rule("S4.processes", WARNING, "Each process moves the schedule on, so whole steps pass sooner.", needs_plan=True)
def shortened_schedule(situation: RuleContext) -> Iterator[RuleHit]:
    """accelerate steps the schedule once for each process; a share is multiplied likewise, steps are not (TU:5274)."""
    plan = situation.plan
    if plan is None or plan.launch.num_processes == 1 or resolve_scheduler(situation.recipe) is None:
        return
    processes, steps = plan.launch.num_processes, plan.forecast.steps
    given = (
        (("train", "lr_warmup_steps"), situation.recipe.train.lr_warmup_steps),
        (("kohya", "lr_decay_steps"), situation.recipe.kohya.get("lr_decay_steps")),
    )
    for where, wanted in given:
        if not isinstance(wanted, int) or not wanted:
            continue
        said = msg(
            "{key} = {wanted} lasts only {n} steps with {processes} processes",
            key=where[1],
            wanted=wanted,
            n=-(-wanted // processes),
            processes=processes,
        )
        fix = msg("write a share of all steps such as 0.1, or remove it")
        if wanted < steps:
            share = f"{wanted / steps:.3g}"
            fix = msg("write {share} to mean {wanted} of {steps} steps", share=share, wanted=wanted, steps=steps)
        yield RuleHit(where, said, fix)


@rule(
    "S51",
    HINT,
    "All processes are seeded alike and draw the same noise and timesteps, so a step sees less variety (TN:505, "
    "TU:6064, TU:6075).",
)
def shared_noise(situation: RuleContext) -> Iterator[RuleHit]:
    processes = situation.recipe.launch.num_processes or 1
    if processes > 1:
        said = msg(
            "sd-scripts gives all {n} processes the same seed, so in each step they train different images with the "
            "same noise and timesteps",
            n=processes,
        )
        fix = msg("remove it and use a larger train_batch_size, which draws noise for each image; or ignore this")
        yield RuleHit(PROCESSES, said, fix)


__all__: list[str] = []
