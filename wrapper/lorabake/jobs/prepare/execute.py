"""Doing what was planned: images in parallel, then metadata, recipe and manifest. May be killed at any moment."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path, PurePosixPath

from lorabake import __version__
from lorabake.errors import MachineError
from lorabake.inputs.images import ignore_pillow_warnings
from lorabake.inputs.metadata_file import load_metadata_table
from lorabake.inputs.prepare.folder import (
    LOCK_NAME,
    STAGE_NAME,
    FolderState,
    Journal,
    clean_folder,
    write_manifest,
)
from lorabake.inputs.prepare.metadata import NewEntry, rewrite_metadata
from lorabake.inputs.prepare.plan import FolderPlan, FolderRequest
from lorabake.inputs.prepare.work import ImageJob, Place, do_job
from lorabake.jobs.dataset_places import hold_place
from lorabake.jobs.prepare.plan import Preparation, name_metadata, with_state
from lorabake.jobs.prepare.recipe import write_named_schema
from lorabake.util import files
from lorabake.util.hashing import FileHasher, ProgressCallback
from lorabake_schemas.messages import escape_undecodable, msg
from lorabake_schemas.prepared import (
    LeftOutFile,
    PreparedFile,
    PreparedImage,
    PreparedKind,
    PreparedSet,
    PreparedStep,
)

Upscale = Callable[[Sequence[ImageJob]], Mapping[str, Path]]
BATCH = 64  # images that are upscaled at a time, so that an interrupt loses few


@dataclass(frozen=True, slots=True)
class PreparedDataset:
    """What was made: the manifest, how many images were made now, and what there was before. ``changed``: whether
    anything is different from what an earlier start has made."""

    manifest: PreparedSet
    made: int
    state: FolderState
    changed: bool


def prepare_dataset(
    plan: Preparation, hasher: FileHasher, progress: ProgressCallback | None = None, upscale: Upscale | None = None
) -> PreparedDataset:
    """Make the new folder, or what it lacks. Raises MachineError and ResourceError for what the disk refuses, BusyError
    if another process is at it."""
    try:
        plan.root.mkdir(parents=True, exist_ok=True)
        with hold_place(plan.root, plan.root / LOCK_NAME):
            return _prepare(with_state(plan, hasher), progress, upscale)
    except OSError as error:
        said = msg("cannot write {path}: {why}", path=str(error.filename or plan.root), why=files.reason(error))
        raise files.disk_error(error, said, msg("fix this, then run the same command again to continue")) from error


def _prepare(plan: Preparation, progress: ProgressCallback | None, upscale: Upscale | None) -> PreparedDataset:
    root, jobs, done = plan.root, plan.jobs, dict(plan.state.kept)
    ahead = [job for job in jobs if job.path not in plan.state.kept]
    recipe = plan.recipe_text.encode()
    _refuse_edited(plan, plan.recipe_name, recipe)
    targets = {path for job in jobs for path in job.paths}
    journal = Journal(root)
    try:
        clean_folder(root, plan.state.surplus, {*targets, *plan.other_names})
        for folder in sorted({str(PurePosixPath(path).parent) for path in targets}):
            files.make_folder(root / folder, within=root)
        for image in _do_jobs(Place(root, journal.announce), ahead, progress, upscale):
            journal.note(image)
            done[image.path] = image
        extra = [*_make_metadata(plan, done), (_describe_recipe(plan, recipe), recipe)]
        for file, data in extra:
            _write_other(plan, journal, file, data)
    finally:
        journal.close()
        files.remove_tree(root / STAGE_NAME, within=root)
    manifest = PreparedSet(
        lorabake=__version__,
        recipe=escape_undecodable(str(plan.examination.loaded.path.absolute())),
        recipe_sha256=_describe_recipe(plan, recipe).source_sha256,
        images=tuple(done[job.path] for job in jobs),
        files=tuple(file for file, _ in extra),
        left_out=tuple(file for folder in plan.folders for file in folder.left_out),
    )
    write_named_schema(plan.recipe_text, root)
    changed = write_manifest(root, manifest)
    return PreparedDataset(manifest, len(ahead), plan.state, changed or bool(ahead))


def _do_jobs(
    place: Place, jobs: Sequence[ImageJob], progress: ProgressCallback | None, upscale: Upscale | None
) -> Iterator[PreparedImage]:
    """In threads: Pillow decodes, resizes and encodes without Python's lock."""
    growing = [job for job in jobs if job.upscaler] if upscale is not None else []
    batches = [
        [job for job in jobs if not job.upscaler or upscale is None],
        *(growing[at : at + BATCH] for at in range(0, len(growing), BATCH)),
    ]
    count = 0
    with ignore_pillow_warnings(), ThreadPoolExecutor(os.cpu_count() or 1, "prepare") as pool:
        try:
            for number, batch in enumerate(batches):
                ready: Mapping[str, Path] = upscale(batch) if upscale is not None and number else {}
                waiting = [pool.submit(do_job, place, job, ready.get(job.path)) for job in batch]
                for each in as_completed(waiting):
                    count += 1
                    if progress is not None:
                        progress(count, len(jobs))
                    yield each.result()
        except BaseException:
            pool.shutdown(wait=True, cancel_futures=True)
            raise


def _make_metadata(plan: Preparation, done: Mapping[str, PreparedImage]) -> Iterator[tuple[PreparedFile, bytes]]:
    for request, folder in zip(plan.requests, plan.folders, strict=True):
        path = plan.metadata.get(request.name)
        if path is None:
            continue
        try:
            table = load_metadata_table(Path(path))
            source = files.read_bytes(path)
        except (OSError, ValueError) as error:
            why = files.reason(error) if isinstance(error, OSError) else msg("it is damaged")
            raise MachineError(msg("cannot read {path}: {why}", path=path, why=why)) from error
        entries = _list_entries(table, request, folder, done)
        data, steps = rewrite_metadata(table, entries, request.rules, lines=path.endswith(".jsonl"))
        yield _describe_file("metadata", name_metadata(request.name, path), path, source, data, steps), data


def _describe_recipe(plan: Preparation, data: bytes) -> PreparedFile:
    loaded = plan.examination.loaded
    source = loaded.source or loaded.content
    return _describe_file("recipe", plan.recipe_name, str(loaded.path.absolute()), source, data)


def _describe_file(
    kind: PreparedKind, path: str, source: str, content: bytes, data: bytes, steps: tuple[PreparedStep, ...] = ()
) -> PreparedFile:
    return PreparedFile(
        kind=kind,
        path=path,
        source=escape_undecodable(source),
        source_sha256=sha256(content).hexdigest(),
        sha256=sha256(data).hexdigest(),
        size=len(data),
        steps=steps,
    )


def _list_entries(
    table: Mapping[str, object], request: FolderRequest, folder: FolderPlan, done: Mapping[str, PreparedImage]
) -> dict[str, list[NewEntry]]:
    """What became of each image, by its name in the metadata file."""
    found: dict[str, list[NewEntry]] = {}
    for name in table:
        inside = os.path.relpath(name, request.root) if Path(name).is_absolute() else name
        crops = request.crops.get(inside) or (None,)
        for job, crop in zip(folder.names.get(inside, ()), crops, strict=False):
            image = done[job.path]
            made = next((file for file in image.files if file.kind == "image"), None)
            if made is not None and made.width and made.height:
                entry = NewEntry(PurePosixPath(made.path).name, (made.width, made.height), image.color, crop)
                found.setdefault(name, []).append(entry)
    return found


def _refuse_edited(plan: Preparation, name: str, data: bytes) -> bool:
    """Whether the file has to be written: one that has become another since it was made stays. Raises MachineError for
    one that somebody has edited and that would become another one."""
    recorded, wanted = plan.known.digests.get(name, set()), sha256(data).hexdigest()
    if not files.exists(plan.root / name):
        return True
    now = sha256(files.read_bytes(plan.root / name)).hexdigest()
    if now not in recorded and wanted not in recorded:
        raise MachineError(
            msg("{path} has changed since it was prepared, and would be written again", path=plan.root / name),
            msg("pass another folder with --to, or move this file elsewhere"),
        )
    return now in recorded and now != wanted


def _write_other(plan: Preparation, journal: Journal, file: PreparedFile, data: bytes) -> None:
    """Write a file of the folder itself, unless an earlier start has: it may have been edited since."""
    if _refuse_edited(plan, file.path, data):
        journal.announce(file.path, file.sha256)
        files.replace_bytes(plan.root / file.path, data, within=plan.root)


def list_left_out(plan: Preparation, done: PreparedDataset | None) -> tuple[LeftOutFile, ...]:
    """All that is not in the new folder; what could not be decoded is known when it is done."""
    known = tuple(file for folder in plan.folders for file in folder.left_out)
    return known + tuple(file for image in done.manifest.images for file in image.left_out) if done else known
