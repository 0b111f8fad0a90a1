"""Rules about buckets, memory, files, sample pictures, and what this machine cannot do."""

from __future__ import annotations

from collections.abc import Iterator

from lorabake_schemas.guide.registry import ERROR, WARNING, Remark, Situation, rule
from lorabake_schemas.vocabulary import needs_bitsandbytes


@rule("S15", ERROR, "sd-scripts asserts that the resolution lies within the bucket limits, after loading the model.")
def buckets_hold_the_resolution(situation: Situation) -> Iterator[Remark]:
    train = situation.recipe.train
    native = situation.recipe.base.native_resolution or 1024
    sides = train.resolution or min(native // 64 * 64, 1024 if situation.family == "sdxl" else 768)
    low, high = (sides, sides) if isinstance(sides, int) else (min(sides), max(sides))
    if train.enable_bucket is False:
        return
    step = train.bucket_reso_steps or 64
    if train.min_bucket_reso and train.min_bucket_reso // step * step > low:  # sd-scripts rounds first (TU:747)
        yield Remark(
            ("train", "min_bucket_reso"),
            f"min_bucket_reso {train.min_bucket_reso} is above the resolution {low}",
            f"write {low} or less, or leave it out",
        )
    if train.max_bucket_reso and -(-train.max_bucket_reso // step) * step < high:
        yield Remark(
            ("train", "max_bucket_reso"),
            f"max_bucket_reso {train.max_bucket_reso} is below the resolution {high}",
            f"write {high} or more, or leave it out",
        )
    unit = 32 if situation.family == "sdxl" else 64
    if step % unit:
        yield Remark(
            ("train", "bucket_reso_steps"), f"bucket_reso_steps {step} does not divide by {unit}", f"write {unit}"
        )


@rule("S38", ERROR, "torch refuses persistent workers when there are none.")
def persistent_workers_exist(situation: Situation) -> Iterator[Remark]:
    train = situation.recipe.train
    if train.persistent_data_loader_workers and train.max_data_loader_n_workers == 0:
        yield Remark(
            ("train", "persistent_data_loader_workers"),
            "persistent workers, but max_data_loader_n_workers = 0",
            "write max_data_loader_n_workers = 1, or take the line out",
        )


@rule("G4.14", WARNING, "A float32 file is twice the size for nothing that a viewer could see.")
def file_is_not_bloated(situation: Situation) -> Iterator[Remark]:
    if situation.recipe.save.save_precision == "float":
        yield Remark(("save", "save_precision"), "float doubles the file", 'write "fp16"')


@rule("G4.13", WARNING, "ckpt files can run code when loaded; lorabake cannot check their weights either.")
def file_is_safetensors(situation: Situation) -> Iterator[Remark]:
    if situation.recipe.save.save_model_as in {"ckpt", "pt"}:
        yield Remark(
            ("save", "save_model_as"),
            f"{situation.recipe.save.save_model_as} instead of safetensors",
            "take the line out",
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
    train, severity = situation.recipe.train, ERROR if situation.launching else WARNING
    there = "" if situation.launching else ": `run` stops here, on a machine with one it goes on"
    if needs_bitsandbytes(situation.optimizer):
        yield Remark(
            ("train", "optimizer"),
            f"{situation.optimizer} needs an NVIDIA GPU (bitsandbytes), and this machine has none{there}",
            'write optimizer = "AdamW" to train here',
            severity=severity,
        )
    if train.attention == "xformers":
        yield Remark(
            ("train", "attention"),
            f"xformers has no kernel for the CPU{there}",
            'write attention = "sdpa", or leave it out',
            severity=severity,
        )
    if train.mixed_precision == "fp16":
        yield Remark(
            ("train", "mixed_precision"),
            f"fp16 training needs a GPU{there}",
            'write mixed_precision = "no", or leave it out',
            severity=severity,
        )


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
        there = f"{gpus} GPUs" if gpus > 1 else "one GPU" if gpus else "no NVIDIA GPU"
        message, fix = f"{processes} processes, and this machine has {there}", f"write {max(gpus, 1)}, or leave it out"
        yield Remark(("launch", "num_processes"), message, fix, severity=severity)
    if launch.gpu_ids is None or launch.gpu_ids == "all" or not gpus:
        return
    named = {int(identity) for identity in launch.gpu_ids.split(",")}
    if max(named) >= gpus:
        message, fix = f"this machine's GPUs are numbered 0 to {gpus - 1}", "name GPUs that are there"
        yield Remark(("launch", "gpu_ids"), message, fix, severity=severity)
    elif len(named) < processes:
        message = f"{len(named)} GPUs named for {processes} processes"
        yield Remark(("launch", "gpu_ids"), message, "name one GPU for each process", severity=ERROR)


@rule("S9.samples", WARNING, "Sampling by epochs makes sd-scripts ignore sample_every_n_steps (TU:6386).")
def samples_have_one_interval(situation: Situation) -> Iterator[Remark]:
    sample = situation.recipe.sample
    if sample and sample.sample_every_n_epochs and sample.sample_every_n_steps:
        where = ("sample", "sample_every_n_steps")
        yield Remark(where, "sample_every_n_epochs is set, too, and wins", "keep one of the two")


__all__: list[str] = []
