"""Rules about buckets, memory, files, sample pictures, and what this machine cannot do."""

from __future__ import annotations

from collections.abc import Iterator

from lorabake_schemas.defaults import native_of
from lorabake_schemas.guide.registry import ERROR, WARNING, Remark, Situation, rule
from lorabake_schemas.vocabulary import needs_bitsandbytes
from lorabake_schemas.words import Said, say, told


@rule("S15", ERROR, "sd-scripts asserts that the resolution lies within the bucket limits, after loading the model.")
def buckets_hold_the_resolution(situation: Situation) -> Iterator[Remark]:
    train = situation.recipe.train
    native = native_of(situation.recipe) or 1024
    sides = train.resolution or min(native // 64 * 64, 1024 if situation.family == "sdxl" else 768)
    low, high = (sides, sides) if isinstance(sides, int) else (min(sides), max(sides))
    if train.enable_bucket is False:
        return
    step = train.bucket_reso_steps or 64
    if train.min_bucket_reso and train.min_bucket_reso // step * step > low:  # sd-scripts rounds first (TU:747)
        yield Remark(
            ("train", "min_bucket_reso"),
            say("min_bucket_reso {side} is above the resolution {low}", side=train.min_bucket_reso, low=low),
            say("write {low} or less, or leave it out", low=low),
        )
    if train.max_bucket_reso and -(-train.max_bucket_reso // step) * step < high:
        yield Remark(
            ("train", "max_bucket_reso"),
            say("max_bucket_reso {side} is below the resolution {high}", side=train.max_bucket_reso, high=high),
            say("write {high} or more, or leave it out", high=high),
        )
    unit = 32 if situation.family == "sdxl" else 64
    if step % unit:
        said = say("bucket_reso_steps {step} does not divide by {unit}", step=step, unit=unit)
        yield Remark(("train", "bucket_reso_steps"), said, say("write {number}", number=unit))


@rule("S38", ERROR, "torch refuses persistent workers when there are none.")
def persistent_workers_exist(situation: Situation) -> Iterator[Remark]:
    train = situation.recipe.train
    if train.persistent_data_loader_workers and train.max_data_loader_n_workers == 0:
        yield Remark(
            ("train", "persistent_data_loader_workers"),
            say("persistent workers, but max_data_loader_n_workers = 0"),
            say("write max_data_loader_n_workers = 1, or take the line out"),
        )


@rule("G4.14", WARNING, "A float32 file is twice the size for nothing that a viewer could see.")
def file_is_not_bloated(situation: Situation) -> Iterator[Remark]:
    if situation.recipe.save.save_precision == "float":
        yield Remark(("save", "save_precision"), say("float doubles the file"), say('write "fp16"'))


@rule("G4.13", WARNING, "ckpt files can run code when loaded; lorabake cannot check their weights either.")
def file_is_safetensors(situation: Situation) -> Iterator[Remark]:
    if situation.recipe.save.save_model_as in {"ckpt", "pt"}:
        yield Remark(
            ("save", "save_model_as"),
            say("{format} instead of safetensors", format=str(situation.recipe.save.save_model_as)),
            say("take the line out"),
        )


@rule(
    "G4.96",
    ERROR,
    "What needs an NVIDIA GPU stops at once on a machine without one.",
    unless="check, plan and compile, where the training may happen elsewhere: there it is a warning",
)
def machine_can_do_it(situation: Situation) -> Iterator[Remark]:
    if situation.machine.device == "cuda" or situation.rehearsing:
        return
    train = situation.recipe.train
    if needs_bitsandbytes(situation.optimizer):
        said = say("{name} needs an NVIDIA GPU (bitsandbytes), and this machine has none", name=situation.optimizer)
        yield _lacking(situation, ("train", "optimizer"), said, say('write optimizer = "AdamW" to train here'))
    if train.attention == "xformers":
        fix = say('write attention = "sdpa", or leave it out')
        yield _lacking(situation, ("train", "attention"), say("xformers has no kernel for the CPU"), fix)
    if train.mixed_precision == "fp16":
        fix = say('write mixed_precision = "no", or leave it out')
        yield _lacking(situation, ("train", "mixed_precision"), say("fp16 training needs a GPU"), fix)


def _lacking(situation: Situation, where: tuple[str, str], what: Said, fix: Said) -> Remark:
    """An error where a training is about to start, elsewhere a warning that says so."""
    if situation.launching:
        return Remark(where, what, fix)
    said = say("{what}: `run` stops here, on a machine with one it goes on", what=what)
    return Remark(where, said, fix, severity=WARNING)


@rule(
    "G4.96.processes",
    ERROR,
    "Several processes need a GPU each; on the CPU they crash (facts 1.1), too few GPUs stop accelerate.",
    unless="check, plan and compile, where the training may happen elsewhere: there it is a warning",
)
def processes_have_gpus(situation: Situation) -> Iterator[Remark]:
    if situation.rehearsing:
        return
    launch, gpus = situation.recipe.launch, len(situation.machine.gpus)
    processes, severity = launch.num_processes or 1, ERROR if situation.launching else WARNING
    if processes > max(gpus, 1):
        there = told(gpus, "one GPU", "{n} GPUs") if gpus else say("no NVIDIA GPU")
        said = say("{processes} processes, and this machine has {there}", processes=processes, there=there)
        fix = say("write {number}, or leave it out", number=max(gpus, 1))
        yield Remark(("launch", "num_processes"), said, fix, severity=severity)
    if launch.gpu_ids is None or launch.gpu_ids == "all" or not gpus:
        return
    named = {int(identity) for identity in launch.gpu_ids.split(",")}
    where = ("launch", "gpu_ids")
    if max(named) >= gpus:
        said = say("this machine's GPUs are numbered 0 to {last}", last=gpus - 1)
        yield Remark(where, said, say("name GPUs that are there"), severity=severity)
    elif len(named) < processes:
        said = say("GPUs named: {named}, for {processes} processes", named=len(named), processes=processes)
        yield Remark(where, said, say("name one GPU for each process"), severity=ERROR)


@rule(
    "G4.37.disk",
    ERROR,
    "A disk that is full when a file is saved ends the training, and cuts the file off.",
    unless="check, plan and compile, where the training may happen elsewhere: there it is a warning",
    needs_plan=True,
)
def files_fit_the_disk(situation: Situation) -> Iterator[Remark]:
    fix = say("free some space, save less often, or keep fewer files (save_last_n_epochs, save_last_n_steps)")
    for need in () if situation.rehearsing else situation.disks:
        gigabytes = f"{need.room.least / 1e9:.1f}" if need.too_small else f"{need.room.most / 1e9:.1f}"
        free, severity = f"{need.free / 1e9:.1f}", ERROR if need.too_small and situation.launching else WARNING
        if need.too_small:
            said = say(
                "the run needs at least {n} GB on the disk of {folder}, but only {free} GB are free",
                n=gigabytes, folder=need.folder, free=free,
            )  # fmt: skip
            yield Remark(need.where, said, fix, severity=severity)
        elif need.tight:
            said = say(
                "the run may need {n} GB on the disk of {folder}, but only {free} GB are free",
                n=gigabytes, folder=need.folder, free=free,
            )  # fmt: skip
            yield Remark(need.where, said, fix, severity=severity)


@rule("S9.samples", WARNING, "Sampling by epochs makes sd-scripts ignore sample_every_n_steps (TU:6386).")
def samples_have_one_interval(situation: Situation) -> Iterator[Remark]:
    sample = situation.recipe.sample
    if sample and sample.sample_every_n_epochs and sample.sample_every_n_steps:
        where = ("sample", "sample_every_n_steps")
        yield Remark(where, say("sample_every_n_epochs is set, too, and wins"), say("keep one of the two"))


__all__: list[str] = []
