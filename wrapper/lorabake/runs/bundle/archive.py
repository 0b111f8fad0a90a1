"""An archive of a run that can be attached to a public report: what helps to understand it, without anything private.

Only files that lorabake and the trainer wrote under their known names are read, each inside the run folder and never
through a link. The same run gives the same bytes.
"""

from __future__ import annotations

import json
import tomllib
import zipfile
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from io import BytesIO
from typing import TYPE_CHECKING

import tomli_w

from lorabake import __version__
from lorabake.runs.bundle.redaction import MAX_LINE, Redactor, learn_words, make_redactor, redact_value
from lorabake.runs.lock import read_claim
from lorabake.runs.record import read_inputs
from lorabake.util.files import open_file, parse_json, read_bytes, read_text

if TYPE_CHECKING:
    from pathlib import Path

    from lorabake.runs.folder import RunPaths
    from lorabake_schemas.record import Record

FOLDER = "lorabake-bundle"
CONTENTS = "CONTENTS.txt"
LOG_HEAD_BYTES, LOG_TAIL_BYTES = 1 << 20, 8 << 20  # of a longer log its two ends
DATE = (1980, 1, 1, 0, 0, 0)  # the first that a zip archive can have
LEFT_OUT = (
    "images, captions, sample images, model weights, states, TensorBoard files, the recipe's own text",
    f"what a line has after its first {MAX_LINE} characters",
)
REPLACED = {
    "path": "paths",
    "file": "names of files",
    "name": "names of the run, of folders, users, hosts, triggers and inputs",
    "word": "trigger words",
    "text": "captions, prompts and other text of the recipe",
    "key": "keys, tokens and passwords",
    "user": "users",
    "host": "hosts and addresses",
}


@dataclass(frozen=True, slots=True)
class Bundle:
    """The archive, the names of its files with their sizes, and how often something was replaced, by kind."""

    name: str
    data: bytes
    files: Mapping[str, int]
    replaced: Mapping[str, int]


def make_bundle(paths: RunPaths, record: Record, env: Mapping[str, str]) -> Bundle:
    """Raises OSError if the run folder cannot be read."""
    settings = _read_toml(paths.train, paths.root)
    redactor = make_redactor(record, read_inputs(paths) or (), str(paths.root.absolute()), env, settings)
    plan = _read_json(paths.plan, paths.root)
    for known in (settings, _read_toml(paths.dataset, paths.root), plan, {"prompts": _read_prompts(paths)}):
        learn_words(redactor, known)
    logs = {path: _read_log(path, paths.root) for path in _list_logs(paths)}
    for text in logs.values():
        redactor.learn_log(text or "")
    if (claim := read_claim(paths)) is not None:
        redactor.learn_host(claim.owner.host)
    contents = {
        "record.json": _encode_json(redact_value(_strip_record(record), redactor)),
        "versions.txt": _encode_versions(record),
    }
    if plan is not None:
        contents["plan.json"] = _encode_json(redact_value(plan, redactor))
    for path in (paths.train, paths.dataset):
        if table := _read_toml(path, paths.root):
            contents[path.name] = tomli_w.dumps(redact_value(table, redactor)).encode()  # type: ignore[arg-type]
    for path, text in logs.items():
        if text is not None and path == paths.events:
            contents[path.name] = _redact_events(text, redactor)
        elif text is not None:
            contents[f"logs/{path.name}"] = redactor.replace(text).encode("utf-8", "replace")
    contents[CONTENTS] = _describe_contents(contents, redactor)
    name = f"{FOLDER}-{record.digest[:12] or 'run'}.zip"
    sizes = {each: len(data) for each, data in sorted(contents.items())}
    return Bundle(name, _pack(contents), sizes, {kind: n for kind, n in redactor.counts.items() if n})


def _strip_record(record: Record) -> dict[str, object]:
    """The fields that this lorabake knows, without the recipe's text, and without texts that quote captions."""
    fields: dict[str, object] = record.model_dump(mode="json", exclude={"recipe_text", "drift"})
    return {name: value for name, value in fields.items() if name in type(record).model_fields}


def _list_logs(paths: RunPaths) -> tuple[Path, ...]:
    return paths.log, paths.log.with_name("supervisor.log"), paths.events


def _read_toml(path: Path, root: Path) -> dict[str, object]:
    with suppress(OSError, ValueError, RecursionError):
        return tomllib.loads(read_text(path, within=root))
    return {}


def _read_json(path: Path, root: Path) -> object:
    with suppress(OSError, ValueError):
        return parse_json(read_bytes(path, within=root))
    return None


def _read_prompts(paths: RunPaths) -> list[str]:
    with suppress(OSError, ValueError):
        return read_text(paths.prompts, within=paths.root).splitlines()
    return []


def _read_log(path: Path, root: Path) -> str | None:
    """A log's text; of one that is too long its two ends."""
    with suppress(OSError, ValueError), open_file(path, within=root) as file:
        data = file.read(LOG_HEAD_BYTES)
        size = file.seek(0, 2)
        start = max(LOG_HEAD_BYTES, size - LOG_TAIL_BYTES)
        file.seek(min(start, size))
        between = b"\n[... left out ...]\n" if start > LOG_HEAD_BYTES else b""
        return (data + between + file.read(LOG_TAIL_BYTES)).decode("utf-8", "replace")
    return None


def _redact_events(text: str, redactor: Redactor) -> bytes:
    lines: list[str] = []
    for line in text.splitlines():
        with suppress(ValueError):
            lines.append(json.dumps(redact_value(parse_json(line), redactor), ensure_ascii=False))
    return "".join(f"{line}\n" for line in lines).encode("utf-8", "replace")


def _encode_json(value: object) -> bytes:
    return (json.dumps(value, indent=1, ensure_ascii=False) + "\n").encode("utf-8", "replace")


def _encode_versions(record: Record) -> bytes:
    trainer, machine = record.trainer, record.machine
    lines = [
        f"lorabake {record.lorabake} (bundled by {__version__})",
        f"sd-scripts {trainer.commit or 'unknown'} ({trainer.kind}), Python {trainer.python_version or 'unknown'}",
        f"{machine.system} {machine.release}, {machine.architecture}, {machine.cpus} CPUs",
        *(f"GPU {gpu.name}, {gpu.memory_mib} MiB, driver {gpu.driver}" for gpu in machine.gpus),
        *(f"{name}=={version}" for name, version in sorted(trainer.packages.items())),
    ]
    return ("\n".join(lines) + "\n").encode("utf-8", "replace")


def _describe_contents(contents: Mapping[str, bytes], redactor: Redactor) -> bytes:
    lines = ["Files:"]
    lines += [f"  {name} ({len(data)} bytes)" for name, data in sorted(contents.items())]
    lines += [
        "Left out:",
        *(f"  {each}" for each in LEFT_OUT),
        "Replaced by placeholders such as <file-1>, the same everywhere:",
    ]
    lines += [f"  {REPLACED[kind]} ({n} times)" for kind, n in sorted(redactor.counts.items()) if n]
    return ("\n".join(lines) + "\n").encode()


def _pack(contents: Mapping[str, bytes]) -> bytes:
    """A zip archive whose bytes depend on the contents only."""
    made = BytesIO()
    with zipfile.ZipFile(made, mode="w", compression=zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for name, data in sorted(contents.items()):
            entry = zipfile.ZipInfo(f"{FOLDER}/{name}", DATE)
            entry.compress_type, entry.external_attr, entry.create_system = zipfile.ZIP_DEFLATED, 0o644 << 16, 3
            archive.writestr(entry, data)
    return made.getvalue()
