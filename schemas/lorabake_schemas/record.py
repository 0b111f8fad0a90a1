"""The record of a run: what it was made from and how it ended. Versioned, additive.

Two files: ``record.json``, which changes while a run is in progress, and ``inputs.json``, which never does and may be
long.
"""

import hashlib
from typing import Annotated, Literal, TypeVar

from pydantic import AfterValidator, ConfigDict, Field

from lorabake_schemas.base import EscapedText, MessageText, StrictModel, TupleOf
from lorabake_schemas.findings import Finding
from lorabake_schemas.machine import AttentionProbe, MachineFacts
from lorabake_schemas.seat import Seat

# inputs-changed: it finished, but what it was made from changed meanwhile.
RunStatus = Literal["started", "finished", "inputs-changed", "failed", "interrupted"]


def _check_file_name(name: str) -> str:
    if not name or name in {".", ".."} or "/" in name or "\0" in name:
        raise ValueError("a name without a path is needed")
    return name


FileName = Annotated[str, AfterValidator(_check_file_name)]


class FileDigest(StrictModel):
    """A file by its path from the run folder (or an input's folder), SHA-256 and size in bytes."""

    name: str
    sha256: str
    size: int


File = TypeVar("File", bound=FileDigest)


def _check_inside(file: File) -> File:
    """A record may come from a stranger: the names of a run's own files never lead out of its folder."""
    if file.name.startswith("/") or "\0" in file.name or ".." in file.name.split("/"):
        raise ValueError("a path inside the run folder is needed")
    return file


RunFile = Annotated[FileDigest, AfterValidator(_check_inside)]


# caches: existing latents and text encoder outputs that sd-scripts reads instead of an image.
InputRole = Literal[
    "base", "vae", "network_weights", "base_weights", "tokenizer", "preset", "concept", "regularization", "masks",
    "metadata_file", "caches",
]  # fmt: skip


InputKey = tuple[InputRole, int]
ChangeKind = Literal["missing", "changed", "added", "renamed", "unreadable"]


class InputDigest(StrictModel):
    """Something a run was made from, in short: ``index`` counts concepts and others of which there may be several.

    ``name`` is as the recipe has it, ``place`` how the trainer sees it: relative to the run folder, or absolute, or a
    hub id. ``files`` is how many files count, ``size`` their bytes together. ``sha256`` is the file's own, or that of
    the list of a folder's files (Input.digest); None when there is nothing here to hash: a hub id not downloaded yet,
    a file that is missing.
    """

    role: InputRole
    index: int = 0
    name: EscapedText
    place: EscapedText
    kind: Literal["file", "folder", "hub", "missing"]
    files: int
    size: int
    sha256: str | None

    @property
    def key(self) -> InputKey:
        return self.role, self.index


class Input(StrictModel):
    """The same with every file by name, in the order of the names.

    Names are relative to ``place``; a single file is listed by its own name. ``endings`` are the extensions of the
    files directly in a folder that count (".png"), so that it can be searched again by the same rule. None means all
    files at any depth. An empty list means exactly the files listed, whatever was added since.
    """

    role: InputRole
    index: int = 0
    name: EscapedText
    place: EscapedText
    kind: Literal["file", "folder", "hub", "missing"]
    endings: TupleOf[str] | None = None
    files: TupleOf[FileDigest] = ()

    @property
    def key(self) -> InputKey:
        return self.role, self.index

    def digest(self) -> InputDigest:
        """In short. A single file has its own SHA-256, whatever its name; in a folder names count, too."""
        lines = "".join(f"{file.sha256} {file.size} {file.name}\n" for file in self.files)
        whole = hashlib.sha256(lines.encode()).hexdigest() if self.files else None
        return InputDigest(
            role=self.role,
            index=self.index,
            name=self.name,
            place=self.place,
            kind=self.kind,
            files=len(self.files),
            size=sum(file.size for file in self.files),
            sha256=self.files[0].sha256 if self.kind == "file" and self.files else whole,
        )


class Inputs(StrictModel):
    """``inputs.json``: written before the trainer starts, never changed afterwards."""

    version: Literal[1] = 1
    inputs: TupleOf[Input]


class TrainerRecord(StrictModel):
    """The trainer that ran: ``rehearsal`` if the stand-in took its place.

    ``clean`` is whether git finds the checkout equal to the commit, None if git cannot answer. ``tree`` is the SHA-256
    over all of its files. ``packages`` has every installed one with its version.
    """

    kind: Literal["pin", "own", "rehearsal"]
    url: str | None = None
    commit: Annotated[str, Field(pattern="^[0-9A-Za-z]*$")] | None = None
    lock: str | None = None
    lock_sha256: str | None = None
    checkout: str | None = None
    python: str
    python_version: str | None = None
    clean: bool | None = None
    tree: str | None = None
    packages: dict[str, str] = Field(default_factory=dict)


class InputChange(StrictModel):
    """A file that a run was made from and that changed while it ran.

    ``role``, ``index`` and ``input`` are those of the input that it belongs to (Input), ``name`` is its own.
    """

    role: InputRole
    index: int = 0
    input: EscapedText
    name: EscapedText
    change: ChangeKind


class OutputFile(FileDigest):
    """A file that the trainer wrote. ``incomplete`` is why a LoRA is not complete; None for a complete one, and for any
    other file.
    """

    incomplete: MessageText | None = None


class EvidenceLine(StrictModel):
    """A line of the trainer's log, and its number there, None in a log that is too long to count."""

    line: int | None = None
    text: EscapedText


class Outcome(StrictModel):
    """How it ended.

    ``code`` names the verdict or the cause of a failure, ``message`` describes it, ``hint`` is what to do about it, and
    ``evidence`` are the lines of the trainer's log that a cause was recognized by. ``returncode`` is the
    trainer's own (128 + n for a signal; None if unknown). ``steps`` is the number of trained steps. ``remarks`` are
    other things worth knowing, also of a successful run. ``resume_step`` is the step of the state from which it can be
    resumed, None if there is no such state or nothing is left to train. ``inputs_changed`` are files that changed while
    it ran, at most 100 of them. ``moved_to`` is the run folder's place at the end, if somebody moved it meanwhile.
    """

    code: str
    message: MessageText
    hint: MessageText | None = None
    returncode: int | None = None
    steps: int | None = None
    outputs: TupleOf[Annotated[OutputFile, AfterValidator(_check_inside)]] = ()
    remarks: TupleOf[MessageText] = ()
    evidence: TupleOf[EvidenceLine] = ()
    last_words: TupleOf[str] = ()
    resume_step: int | None = None
    inputs_changed: TupleOf[InputChange] = ()
    moved_to: EscapedText | None = None


class IgnoredFinding(StrictModel):
    """A finding that the recipe ignores, and why."""

    finding: Finding
    reason: EscapedText


class RunPart(StrictModel):
    """One start of the trainer in a run that was resumed, counted from 1; the last one's end is the run's.

    ``state`` is the state folder that it was resumed from, relative to the run folder. ``first_step`` is how many steps
    were trained before. sd-scripts counts steps from 0 again; ``offset`` converts its numbers to the run's.
    ``log_from`` is the length of the trainer's log at its start, in bytes. ``seat`` is this machine's own of a start on
    several, None on one.
    """

    number: Annotated[int, Field(ge=1, le=999)]
    started: str
    ended: str | None = None
    status: RunStatus
    argv: TupleOf[str]
    state: EscapedText | None = None
    first_step: int = 0
    offset: int = 0
    log_from: int = 0
    seat: Seat | None = None
    outcome: Outcome | None = None


class Record(StrictModel):
    """``version`` 1. Times are UTC, ISO 8601. ``pid`` is lorabake's own: signal it to stop the run.

    ``digest`` is one SHA-256 over everything that determines the result and nothing else (planning/digest.py): equal
    for the same recipe, data, model and trainer, whatever the paths. ``inputs_file`` is inputs.json's SHA-256,
    ``plan_file`` that of plan.json, which contains every setting with its source. ``attention`` is the result of the
    trainer's xformers test on this machine; None if it was not tested. ``parts`` are all starts of a run that was
    resumed, empty for a run that was not. ``rerun_of`` is the digest of the run that this one repeats, ``drift`` the
    differences that were allowed. ``seat`` is the machine's own of a run on several, None on one. ``ignored`` are the
    findings that the recipe ignores. ``recipe_text`` is the recipe that was used. ``recipe_place`` is the path of its
    file, relative to the run folder (or absolute); paths in the recipe are relative to that. Keys of a later lorabake
    are kept but not understood.
    """

    model_config = ConfigDict(extra="allow")

    version: Literal[1] = 1
    lorabake: str
    name: FileName
    rehearsal: bool
    status: RunStatus
    started: str
    ended: str | None = None
    pid: int | None = None
    recipe: RunFile
    recipe_text: str
    recipe_place: EscapedText
    compiled: TupleOf[RunFile]
    seed: int
    trainer: TrainerRecord
    machine: MachineFacts
    attention: AttentionProbe | None = None
    argv: TupleOf[str]
    cwd: str
    environment: dict[str, str]
    findings: TupleOf[Finding] = ()
    ignored: TupleOf[IgnoredFinding] = ()
    planned_steps: int
    outcome: Outcome | None = None
    digest: str
    inputs: TupleOf[InputDigest] = ()
    inputs_file: RunFile
    plan_file: RunFile
    parts: TupleOf[RunPart] = ()
    rerun_of: str | None = None
    drift: TupleOf[MessageText] = ()
    seat: Seat | None = None

    @property
    def trained(self) -> bool:
        """Whether it reached its end and its LoRA is sound, maybe from inputs that changed meanwhile."""
        return self.status in {"finished", "inputs-changed"}

    @property
    def inputs_changed(self) -> tuple[InputChange, ...]:
        """Files that changed while it ran."""
        return self.outcome.inputs_changed if self.outcome is not None else ()
