"""Which LoRA is meant, what it contains, and which runs of this machine it comes from."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from lorabake.errors import MachineError
from lorabake.lora.inspect import inspect_file
from lorabake.lora.metadata import UNKNOWN_FOLDER
from lorabake.lora.weights import MODEL_HASH_KEY, hash_tensors
from lorabake.runs import index
from lorabake.runs.finalize import complete_record
from lorabake.runs.folder import RunPaths
from lorabake.runs.index import FoundRun, find_run, run_path
from lorabake.runs.record import read_plan, read_record
from lorabake.util.files import exists, is_folder, open_file, os_errors_as_messages, unreadable_reason
from lorabake.util.safetensors import parse_header
from lorabake_schemas.inspection import (
    BucketInfo,
    DatasetInfo,
    FolderInfo,
    Inspection,
    InspectReport,
    KnownRun,
    OutputLikeness,
)
from lorabake_schemas.messages import msg
from lorabake_schemas.saved_names import LORA_EXTENSIONS

if TYPE_CHECKING:
    from lorabake_schemas.plan import Plan, SubsetPlan
    from lorabake_schemas.record import Record

SAFETENSORS_EXTENSION = ".safetensors"
MAX_RUNS = 20  # runs that are reported
LIKENESS_ORDER: tuple[OutputLikeness, ...] = ("bytes", "tensors", "not-compared", "differs")


def find_lora(named: str, here: Path) -> Path:
    """The file ``named``, or the finished LoRA of the run that it means (runs/index.py).

    Raises MachineError for an unknown run, or for one without a LoRA that can be read without torch.
    """
    path = here / named
    with os_errors_as_messages(named):
        is_file = path.is_file()
    if is_file and path.suffix.lower() in LORA_EXTENSIONS:
        return _require_safetensors(path)
    found = _find_trained_run(named, here)
    kept = sorted(each for each in found.paths.output.glob(f"{found.record.name}.*") if each.stem == found.record.name)
    if kept:
        return _require_safetensors(kept[-1])
    others = sorted(each.name for each in found.paths.output.glob(f"*{SAFETENSORS_EXTENSION}"))
    hint = msg("pass the path of one of these files: {files}", files=", ".join(others)) if others else None
    raise MachineError(msg("{run} has no finished LoRA", run=found.name), hint)


def _require_safetensors(path: Path) -> Path:
    if path.suffix.lower() != SAFETENSORS_EXTENSION:
        raise MachineError(
            msg("{file} is not a safetensors file; only torch can read it", file=path),
            msg('use save_model_as = "safetensors", which is lorabake\'s default'),
        )
    return path


def _find_trained_run(named: str, here: Path) -> FoundRun:
    found = find_run(named, here)
    if found.record.rehearsal:
        said = msg("{run} is a rehearsal, so it has no LoRA", run=found.name)
        raise MachineError(said, msg("pass a run or a .safetensors file"))
    return found


def inspect_files(named: Iterable[str], here: Path, home: Path, *, deep: bool = False) -> InspectReport:
    """A report of every file; a folder means the .safetensors files in it, a run those of its output.

    Raises MachineError for a folder or a run without any, and for a name that is not a file or a run.
    """
    paths = [path for name in named for path in _iter_files(name, here)]
    return InspectReport(files=tuple(_inspect_with_runs(path, home, deep=deep) for path in paths))


def _iter_files(named: str, here: Path) -> Iterator[Path]:
    """``here`` is the working directory: paths stay as typed."""
    path = Path(named)
    if not is_folder(path):
        if path.name != named or path.suffix.lower() in LORA_EXTENSIONS or exists(path):
            yield path
            return
        output = _find_trained_run(named, here).paths.output
        path = output.relative_to(here) if output.is_relative_to(here) else output
    if refused := unreadable_reason(path):
        raise MachineError(msg("cannot read {path}: {why}", path=path, why=refused))
    with os_errors_as_messages(path):
        inside = sorted(path.glob(f"*{SAFETENSORS_EXTENSION}")) or sorted(path.glob(f"output/*{SAFETENSORS_EXTENSION}"))
    if not inside:
        raise MachineError(msg("no .safetensors file found in {folder}", folder=path), msg("pass a LoRA file"))
    yield from inside


def _inspect_with_runs(path: Path, home: Path, *, deep: bool) -> Inspection:
    report = inspect_file(path, deep=deep)
    if report.kind not in {"lora", "pickle"}:
        return report
    report = report.model_copy(update={"runs": find_origin_runs(path, report, home)})
    return report if report.kind == "pickle" or _has_folders(report.datasets) else _with_planned_datasets(report)


def _has_folders(datasets: Sequence[DatasetInfo]) -> bool:
    return any(folder.name != UNKNOWN_FOLDER for dataset in datasets for folder in dataset.folders)


def _with_planned_datasets(report: Inspection) -> Inspection:
    """The datasets of its run's plan where the metadata have none: sd-scripts writes none of images with masks."""
    for run in (run for run in report.runs if run.likeness != "differs"):
        plan = read_plan(RunPaths(Path(run.folder)))
        if plan is not None:
            said = msg("the dataset is from the plan of {run}: the metadata has no folders of images", run=run.folder)
            break
    else:
        said = msg("the metadata has no folders of images; with masks, for example, sd-scripts does not write them")
        return report.model_copy(update={"remarks": (*report.remarks, said)}) if report.values else report
    datasets = tuple(_describe_planned_dataset(plan, number) for number in range(len(plan.datasets)))
    return report.model_copy(update={"datasets": datasets, "remarks": (*report.remarks, said)})


def _describe_planned_dataset(plan: Plan, number: int) -> DatasetInfo:
    block = plan.datasets[number]
    width, height = block.resolution
    folders = tuple(map(_describe_planned_folder, block.subsets))
    totals = {
        reg: sum((each.pictures or 0) * (each.repeats or 1) for each in folders if each.regularization is reg)
        for reg in (False, True)
    }
    buckets = [bucket for bucket in plan.forecast.buckets if bucket.dataset == number]
    batch_size, enable_bucket = block.value("batch_size"), block.value("enable_bucket")
    return DatasetInfo(
        width=width,
        height=height,
        batch_size=batch_size if isinstance(batch_size, int) else None,
        samples=totals[False],
        regularization_samples=totals[True],
        enable_bucket=enable_bucket if isinstance(enable_bucket, bool) else None,
        folders=folders,
        buckets=tuple(BucketInfo(width=each.width, height=each.height, pictures=each.samples) for each in buckets),
    )


def _describe_planned_folder(part: SubsetPlan) -> FolderInfo:
    values = {setting.option: setting.value for setting in part.settings}
    repeats, tokens = values.get("num_repeats"), values.get("class_tokens")
    return FolderInfo(
        name=str(values.get("image_dir") or values.get("metadata_file") or part.title),
        pictures=part.images,
        repeats=repeats if isinstance(repeats, int) else None,
        regularization=part.is_reg,
        class_tokens=tokens if isinstance(tokens, str) else None,
        options={},
    )


def find_origin_runs(path: Path, report: Inspection, home: Path) -> tuple[KnownRun, ...]:
    """The likest first. A run folder that is missing, and a record that cannot be read, count as not there."""
    found: dict[Path, KnownRun] = {}
    for root, known_by in _iter_candidates(path, report.digest, home):
        with suppress(MachineError, OSError):
            real = root.resolve()
            if real not in found and len(found) < MAX_RUNS:
                record = complete_record(RunPaths(root), read_record(RunPaths(root).record))
                if known_by == "place" or record.digest == report.digest:
                    found[real] = _describe_run(root, record, known_by, path, report)
    newest = sorted(found.values(), key=lambda run: run.started, reverse=True)
    return tuple(sorted(newest, key=lambda run: (LIKENESS_ORDER.index(run.likeness), run.known_by != "place")))


def _iter_candidates(path: Path, digest: str | None, home: Path) -> Iterator[tuple[Path, Literal["digest", "place"]]]:
    """The run that the file is in, then those with the digest that is in its comment."""
    with suppress(MachineError):  # a folder above that may not be looked into
        around = run_path(path.resolve())
        if around is not None:
            by_digest = digest is not None and index.has_digest(around, digest)
            yield around, "digest" if by_digest else "place"
    if digest is not None:
        for root in index.iter_runs_with_digest(index.read_index(home), digest):
            yield root, "digest"


def _describe_run(
    root: Path, record: Record, known_by: Literal["digest", "place"], path: Path, report: Inspection
) -> KnownRun:
    likeness, output = _compare_outputs(root, record, path, report)
    return KnownRun(
        folder=str(root),
        name=record.name,
        status=record.status,
        rehearsal=record.rehearsal,
        started=record.started,
        known_by=known_by,
        likeness=likeness,
        output=output,
    )


def _compare_outputs(root: Path, record: Record, path: Path, report: Inspection) -> tuple[OutputLikeness, str | None]:
    """By the SHA-256 that the record has of each output; then by the tensors of those that still exist."""
    whole, tensors = (report.integrity.file, report.integrity.tensors) if report.integrity else (None, None)
    outputs = record.outcome.outputs if record.outcome else ()
    ordered = sorted(outputs, key=lambda each: Path(each.name).name != path.name)  # those of the same name first
    for each in ordered:
        if each.size == report.size and whole in {None, each.sha256}:
            return ("bytes" if whole else "not-compared"), each.name
    for each in ordered:
        if tensors is not None and _has_tensors(root / each.name, tensors):
            return "tensors", each.name
    if not outputs and path.resolve().is_relative_to(root.resolve()):  # a run that has not ended yet
        return "not-compared", str(path.resolve().relative_to(root.resolve()))
    return "differs", None


def _has_tensors(path: Path, tensors: str) -> bool:
    """By sd-scripts' own hash of the tensors; LyCORIS' (0x...) is another one, so that the file itself is read."""
    try:
        with open_file(path) as file:
            header = parse_header(file)
            saved = header.metadata.get(MODEL_HASH_KEY, "0x")
            return (hash_tensors(file, header)[1] if saved.startswith("0x") else saved) == tensors
    except OSError:
        return False
