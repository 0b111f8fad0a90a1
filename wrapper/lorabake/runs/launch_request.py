"""The request of a run, the files it starts with, and its record before the trainer starts."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from lorabake import __version__
from lorabake.runs.command import ACCELERATE_CONFIG, ACCELERATE_FILE, recorded_env
from lorabake.runs.events import format_timestamp, utc_now
from lorabake.util.hashing import digest_bytes
from lorabake_schemas.findings import Finding
from lorabake_schemas.machine import AttentionProbe, MachineFacts
from lorabake_schemas.messages import Message, escape_undecodable
from lorabake_schemas.plan import Plan
from lorabake_schemas.record import IgnoredFinding, Inputs, Record, TrainerRecord

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from lorabake.runs.gpu_locks import GpuReservation
    from lorabake.runs.watch.input_watch import InputWatch
    from lorabake_schemas.seat import Seat

INPUTS_FILE = "inputs.json"
PLAN_FILE = "plan.json"


@dataclass(frozen=True, slots=True)
class Provenance:
    """The hashed inputs of a run, and the one digest over everything that determines its result.

    ``files`` are the SHA-256 of the files in the digest, which contain no path.
    """

    inputs: Inputs
    digest: str
    files: Mapping[str, str] = field(default_factory=dict[str, str], repr=False)


@dataclass(frozen=True, slots=True)
class LaunchRequest:
    """Everything a run is made from.

    ``root`` is the run folder, which must not exist. ``files`` contains its files by name: recipe.toml, train.toml,
    dataset.toml, prompts.txt, LyCORIS presets. ``argv`` and ``env`` come from runs.command. ``recipe_place`` is the
    path of the recipe from the run folder. ``rerun_of`` is the digest of the run that this one repeats, ``drift`` what
    has changed since. The two waits are those of the shutdown ladder, in seconds. ``watch`` reports at the end whether
    its inputs changed, if it is not None. ``seat`` is this machine's among several; it trains on ``gpus``. With
    ``once`` it is not launched if the same run has finished meanwhile.
    """

    root: Path
    files: Mapping[str, bytes]
    plan: Plan
    argv: tuple[str, ...]
    env: Mapping[str, str]
    trainer: TrainerRecord
    machine: MachineFacts
    provenance: Provenance
    recipe_place: str
    attention: AttentionProbe | None = None
    findings: Sequence[Finding] = ()
    ignored: Sequence[IgnoredFinding] = ()
    rerun_of: str | None = None
    drift: Sequence[Message] = ()
    interrupt_s: float = 10.0
    terminate_s: float = 5.0
    watch: InputWatch | None = None
    seat: Seat | None = None
    once: bool = False
    gpus: GpuReservation | None = None

    @property
    def rehearsal(self) -> bool:
        return self.trainer.kind == "rehearsal"

    @property
    def recorded_start(self) -> tuple[tuple[str, ...], str, dict[str, str]]:
        """Command, folder and environment as the record has them."""
        environment = {name: escape_undecodable(value) for name, value in recorded_env(self.env).items()}
        return tuple(map(escape_undecodable, self.argv)), escape_undecodable(str(self.root.absolute())), environment

    @property
    def output(self) -> str:
        """The LoRA, relative to the run folder."""
        named, kind = self.plan.value("output_name") or self.plan.name, self.plan.value("save_model_as")
        return f"output/{named}.{kind or 'safetensors'}"


def build_initial_files(request: LaunchRequest) -> dict[str, bytes]:
    """Every file in the run folder before the trainer starts, by name, apart from the record."""
    return {
        **request.files,
        ACCELERATE_FILE: ACCELERATE_CONFIG,
        "command.json": encode_command(*request.recorded_start),
        PLAN_FILE: encode_plan(request),
        INPUTS_FILE: encode_inputs(request),
    }


def encode_plan(request: LaunchRequest) -> bytes:
    """Every setting with its source, and the forecast: what `lorabake plan` would have shown as the run began."""
    return (request.plan.model_dump_json(indent=1) + "\n").encode()


def encode_inputs(request: LaunchRequest) -> bytes:
    return (request.provenance.inputs.model_dump_json(indent=1) + "\n").encode()


def new_record(request: LaunchRequest) -> Record:
    """The record as it is before the trainer starts."""
    compiled = {**request.files, ACCELERATE_FILE: ACCELERATE_CONFIG}
    recipe = compiled.pop("recipe.toml")
    seed = request.plan.value("seed")
    argv, cwd, environment = request.recorded_start
    return Record(
        lorabake=__version__,
        name=request.plan.name,
        rehearsal=request.rehearsal,
        status="started",
        started=format_timestamp(utc_now()),
        pid=os.getpid(),
        recipe=digest_bytes(recipe, "recipe.toml"),
        recipe_text=recipe.decode(errors="replace"),
        recipe_place=request.recipe_place,
        compiled=tuple(digest_bytes(data, name) for name, data in compiled.items()),
        seed=seed if isinstance(seed, int) else 0,
        trainer=request.trainer,
        machine=request.machine,
        attention=request.attention,
        argv=argv,
        cwd=cwd,
        environment=environment,
        findings=tuple(request.findings),
        ignored=tuple(request.ignored),
        planned_steps=request.plan.forecast.steps,
        digest=request.provenance.digest,
        inputs=tuple(each.digest() for each in request.provenance.inputs.inputs),
        inputs_file=digest_bytes(encode_inputs(request), INPUTS_FILE),
        plan_file=digest_bytes(encode_plan(request), PLAN_FILE),
        rerun_of=request.rerun_of,
        drift=tuple(request.drift),
        seat=request.seat,
    )


def encode_command(argv: Sequence[str], cwd: str, environment: Mapping[str, str]) -> bytes:
    """command.json, from what the record has: what was run, for a person to run again; secrets are left out."""
    started = {"argv": [*argv], "cwd": cwd, "environment": dict(environment)}
    text = json.dumps(started, indent=2, ensure_ascii=False) + "\n"
    return text.replace(r"\\udc", r"\udc").encode(errors="backslashreplace")  # odd bytes: a record spells them out


def list_digest_parts(request: LaunchRequest) -> dict[str, str]:
    """What the run's digest is made of, by a name for each part, to tell which parts of two runs differ."""
    trainer, inputs = request.trainer, [each.digest() for each in request.provenance.inputs.inputs]
    return {
        **request.provenance.files,
        **{f"{each.role} {each.index + 1}": each.sha256 or each.name for each in inputs},
        "sd-scripts": str(trainer.tree or trainer.commit),
        "Python": ".".join((trainer.python_version or "").split(".")[:2]),
        **{f"package {name}": version for name, version in trainer.packages.items()},
    }
