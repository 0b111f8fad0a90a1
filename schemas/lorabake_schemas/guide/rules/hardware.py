"""Rules about buckets, memory, files, sample images, and what this machine cannot do."""

from __future__ import annotations

from collections.abc import Iterator

from lorabake_schemas.disks import RAISE_FILE_LIMIT
from lorabake_schemas.guide.defaults import resolve_precision
from lorabake_schemas.guide.registry import ERROR, WARNING, RuleContext, RuleHit, rule
from lorabake_schemas.guide.resolutions import ListKey, TrainingResolution, list_training_resolutions
from lorabake_schemas.messages import Message, msg
from lorabake_schemas.recipe import Train
from lorabake_schemas.recipe_keys import KeyPath
from lorabake_schemas.sd_scripts import needs_bitsandbytes

# What a recipe cannot help: another machine could train it.
MACHINE_RULES = frozenset({"G4.96", "G4.96.processes", "G4.37.disk", "G4.37.limit"})


@rule(
    "S15",
    ERROR,
    "sd-scripts requires the resolution to be within the bucket limits, and checks only after loading the model.",
)
def resolution_outside_buckets(situation: RuleContext) -> Iterator[RuleHit]:
    train = situation.recipe.train
    if train.enable_bucket is False:
        return
    hits: dict[KeyPath, RuleHit] = {}
    for each in sorted(list_training_resolutions(situation.recipe, situation.family), key=lambda each: max(each.size)):
        for hit in _list_limit_problems(train, each, situation.family.size_step):
            if hit.where[1] == "max_bucket_reso" or hit.where not in hits:  # of one value for all, the worst
                hits[hit.where] = hit
    yield from hits.values()


def _list_limit_problems(train: Train, trained: TrainingResolution, unit: int) -> Iterator[RuleHit]:
    """sd-scripts rounds the limits to the step first (TU:747)."""
    step, low, high = trained.step, min(trained.size), max(trained.size)
    least, most = trained.min_bucket_reso, trained.max_bucket_reso
    if least and least // step * step > low:
        said = msg("min_bucket_reso {side} is above the resolution {low}", side=least, low=low)
        where = _locate(train, "min_bucket_reso", trained)
        fix = (
            msg("write {low} or less, or remove it", low=low)
            if len(where) == 2
            else msg("write {low} or less", low=low)
        )
        yield RuleHit(where, said, fix)
    if most and -(-most // step) * step < high:
        said = msg("max_bucket_reso {side} is below the resolution {high}", side=most, high=high)
        where = _locate(train, "max_bucket_reso", trained)
        fix = msg("write {high} or more, or remove it", high=high)
        yield RuleHit(where, said, fix if len(where) == 2 else msg("write {high} or more", high=high))
    if step % unit:
        said = msg("bucket_reso_steps {step} is not divisible by {unit}", step=step, unit=unit)
        yield RuleHit(_locate(train, "bucket_reso_steps", trained), said, msg("write {number}", number=unit))


def _locate(train: Train, key: ListKey, trained: TrainingResolution) -> KeyPath:
    """The key, or the entry of its list that is for this resolution."""
    listed = isinstance(getattr(train, key), tuple) and trained.where[:2] == ("train", "resolutions")
    return ("train", key, trained.where[2]) if listed else ("train", key)


@rule("S38", ERROR, "torch refuses persistent workers without any workers.")
def persistent_without_workers(situation: RuleContext) -> Iterator[RuleHit]:
    train = situation.recipe.train
    if train.persistent_data_loader_workers and train.max_data_loader_n_workers == 0:
        yield RuleHit(
            ("train", "persistent_data_loader_workers"),
            msg("persistent_data_loader_workers needs workers, but max_data_loader_n_workers is 0"),
            msg("write max_data_loader_n_workers = 1, or remove persistent_data_loader_workers"),
        )


def suggest_no_workers(situation: RuleContext) -> Message:
    """Without what would then be refused (S38)."""
    if situation.recipe.train.persistent_data_loader_workers:
        return msg("write max_data_loader_n_workers = 0 and remove persistent_data_loader_workers")
    return msg("write max_data_loader_n_workers = 0 under [train]")


@rule("G4.14", WARNING, "A float32 file is twice the size without a visible benefit.")
def float32_file(situation: RuleContext) -> Iterator[RuleHit]:
    if situation.recipe.save.save_precision == "float":
        yield RuleHit(
            ("save", "save_precision"), msg('save_precision = "float" doubles the file size'), msg('write "fp16"')
        )


@rule("G4.13", WARNING, "ckpt files can run code when loaded; lorabake cannot check their weights either.")
def unsafe_file_format(situation: RuleContext) -> Iterator[RuleHit]:
    if situation.recipe.save.save_model_as in {"ckpt", "pt"}:
        yield RuleHit(
            ("save", "save_model_as"),
            msg(
                "{format} files can run code when loaded, unlike safetensors",
                format=str(situation.recipe.save.save_model_as),
            ),
            msg("remove it"),
        )


@rule(
    "G4.96",
    ERROR,
    "What needs an NVIDIA GPU stops at once on a machine without one.",
    unless="check, plan and compile, where the training may happen elsewhere: there it is a warning",
)
def missing_gpu(situation: RuleContext) -> Iterator[RuleHit]:
    if situation.machine.device == "cuda" or situation.rehearsing:
        return
    train = situation.recipe.train
    if needs_bitsandbytes(situation.optimizer):
        said = msg("{name} needs an NVIDIA GPU (bitsandbytes). This machine has none", name=situation.optimizer)
        yield _report_missing_gpu(
            situation, ("train", "optimizer"), said, msg('write optimizer = "AdamW" to train here')
        )
    if train.attention == "xformers":
        fix = msg('write attention = "sdpa", or remove it')
        yield _report_missing_gpu(
            situation, ("train", "attention"), msg("xformers needs an NVIDIA GPU. This machine has none"), fix
        )
    if resolve_precision(situation.recipe, "cpu") == "fp16":
        given = train.mixed_precision is not None
        where = ("train", "mixed_precision") if given else ("kohya", "full_fp16")  # which alone makes it the default
        fix = msg('write mixed_precision = "no", or remove it') if given else msg("remove it")
        yield _report_missing_gpu(situation, where, msg("fp16 training needs a GPU. This machine has none"), fix)


def _report_missing_gpu(situation: RuleContext, where: tuple[str, str], what: Message, fix: Message) -> RuleHit:
    """An error if a training is about to start, a warning in all other cases."""
    if situation.launching:
        return RuleHit(where, what, fix)
    said = msg("{what}, so `run` would fail here", what=what)
    return RuleHit(where, said, fix, severity=WARNING)


@rule(
    "G4.37.disk",
    ERROR,
    "If the disk is full when a file is saved, the training ends and the file is cut off.",
    unless="check, plan and compile, where the training may happen elsewhere: there it is a warning",
    needs_plan=True,
)
def insufficient_disk_space(situation: RuleContext) -> Iterator[RuleHit]:
    fix = msg("free some space, save less often, or keep fewer files (save_last_n_epochs, save_last_n_steps)")
    for need in () if situation.rehearsing else situation.disks:
        if need.is_too_small or need.is_tight:
            severity = ERROR if need.is_too_small and situation.launching else WARNING
            yield RuleHit(need.where, need.describe_shortage(), fix, severity=severity)


@rule(
    "G4.37.limit",
    ERROR,
    "A file that grows beyond the shell's limit ends the training and is cut off.",
    unless="check, plan and compile, where the training may happen elsewhere: there it is a warning",
    needs_plan=True,
)
def file_size_limit(situation: RuleContext) -> Iterator[RuleHit]:
    if situation.file_limit is not None and not situation.rehearsing:
        severity = ERROR if situation.launching else WARNING
        yield RuleHit(("save", "runs"), situation.file_limit.describe(), RAISE_FILE_LIMIT, severity=severity)


__all__: list[str] = []
