"""Each outside thing has its one door. What may import what is a contract in pyproject.toml (import-linter)."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
WRAPPER, SCHEMAS = ROOT / "wrapper" / "lorabake", ROOT / "schemas" / "lorabake_schemas"

TRAINERS_OWN = ("torch", "diffusers", "transformers", "accelerate", "lycoris", "bitsandbytes", "xformers", "library")
PURE_FROM = {
    "os",
    "time",
    "random",
    "datetime",
    "secrets",
    "uuid",
    "socket",
    "platform",
    "tempfile",
    "shutil",
    "locale",
}


@dataclass(frozen=True)
class Source:
    """A module's dotted name below its package, its path and its syntax tree."""

    name: str
    path: Path
    tree: ast.Module

    def imports(self) -> Iterator[tuple[str, str]]:
        """Every (module, name) that is imported, anywhere in it; ``import a.b`` gives ("a.b", "")."""
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Import):
                yield from ((alias.name, "") for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                assert node.level == 0, f"{self.name}: a relative import"
                yield from ((node.module or "", alias.name) for alias in node.names)


@cache
def sources(package: Path) -> tuple[Source, ...]:
    """The modules of a package apart from the scripts that run in the trainer's own Python."""
    paths = sorted(path for path in package.rglob("*.py") if "scripts" not in path.relative_to(package).parts)
    return tuple(Source(_name(path, package), path, ast.parse(path.read_text("utf-8"))) for path in paths)


def _name(path: Path, package: Path) -> str:
    parts = path.relative_to(package).with_suffix("").parts
    return ".".join(parts[:-1] if len(parts) > 1 and parts[-1] == "__init__" else parts)


def test_enough_modules_are_looked_at() -> None:
    assert len(sources(WRAPPER)) >= 50
    assert len(sources(SCHEMAS)) >= 16


def test_schemas_need_pydantic_and_the_standard_library_only() -> None:
    allowed = {"pydantic", "pydantic_core", "lorabake_schemas", "annotated_types"}
    for source in sources(SCHEMAS):
        used = {module.split(".")[0] for module, _ in source.imports()}
        assert used - allowed <= _standard(), source.name
        assert not used & {"os", "subprocess", "pathlib", "io"}, source.name


def _standard() -> frozenset[str]:
    import sys

    return sys.stdlib_module_names


def test_processes_are_started_through_one_door() -> None:
    """guard is the script that the door runs outside of this process; it uses the standard library only."""
    users = {s.name for s in sources(WRAPPER) if any(m.split(".")[0] == "subprocess" for m, _ in s.imports())}
    assert users == {"util.process", "util.process_guard"}
    guard = next(source for source in sources(WRAPPER) if source.name == "util.process_guard")
    assert {module.split(".")[0] for module, _ in guard.imports()} <= _standard()
    spawning = {"system", "popen", "execv", "execve", "execvp", "execvpe", "spawnv", "spawnve", "posix_spawn", "fork"}
    for source in (*sources(WRAPPER), *sources(SCHEMAS)):
        if source.name not in {"util.process", "util.process_guard", "util.background"}:
            assert not _of_os(source) & spawning, source.name


def test_the_environment_is_an_argument() -> None:
    """The guard passes on what its one caller gave it; nothing else may read the process's own."""
    doors = {"environ", "environb", "getenv", "getenvb", "putenv"}
    every = (*sources(WRAPPER), *sources(SCHEMAS))
    assert {source.name for source in every if _of_os(source) & doors} == {"util.environment", "util.process_guard"}


def _of_os(source: Source) -> set[str]:
    """Every name that a module uses of ``os``, by ``os.name`` or by import."""
    nodes = [node for node in ast.walk(source.tree) if isinstance(node, ast.Attribute)]
    used = {node.attr for node in nodes if isinstance(node.value, ast.Name) and node.value.id == "os"}
    return used | {name for module, name in source.imports() if module == "os"}


def test_what_belongs_to_the_trainer_is_never_imported_here() -> None:
    for source in (*sources(WRAPPER), *sources(SCHEMAS)):
        assert not {module.split(".")[0] for module, _ in source.imports()} & set(TRAINERS_OWN), source.name


def test_the_heart_is_pure() -> None:
    """No disk, clock, randomness or environment: what it is given decides everything."""
    for source in sources(WRAPPER):
        if source.name.startswith("planning."):
            used = set(source.imports())
            assert not {module.split(".")[0] for module, _ in used} & PURE_FROM, source.name
            assert {name for module, name in used if module == "pathlib"} <= {"PurePath", "PurePosixPath"}, source.name
            calls = {
                n.func.id for n in ast.walk(source.tree) if isinstance(n, ast.Call) and isinstance(n.func, ast.Name)
            }
            assert not calls & {"open", "print", "input", "eval", "exec", "hash", "id"}, source.name


def test_one_module_writes_to_the_terminal() -> None:
    """runs.rehearse stands in for the trainer, whose streams are a log; guard is a child with its own protocol."""
    writing = ("stdout.write", "stderr.write", "stream.write", "console.print", "buffer.write", "Console")
    writers: dict[str, set[str]] = {}
    for source in sources(WRAPPER):
        for node in ast.walk(source.tree):
            called = ast.unparse(node.func) if isinstance(node, ast.Call) else ""
            if called in {"print", "click.echo", "click.secho"} or called.endswith(writing):
                writers.setdefault(source.name, set()).add(called)
    assert writers.pop("commands.output.console")
    assert writers.pop("jobs.rehearsal") == {"sys.stdout.write", "sys.stderr.write"}
    assert writers.pop("commands.output.layout") == {"Console", "console.print"}  # captured: rich wraps lines there
    # rich draws the bar of a terminal on its own; its lines come from there already visible
    assert writers == {"commands.output.progress": {"Console", "self._progress.console.print"}}


# Who may open a file without lorabake.files: what is lorabake's own (its data, locks, logs, databases, what it has just
# written), the system's (/proc, /dev/null), or the trainer's, which is checked by content before it is used.
OPENERS = {
    "util.files",
    "util.resources",
    "util.i18n",  # the catalogue: `--help` in another language has no time for util.resources
    "util.process_guard",
    "util.background",  # nothing but devnull
    "util.process",
    "util.owners",
    "util.locks",
    "util.streams",
    "commands.output.console",
    "util.machine",
    "util.process_status",
    "util.fact_cache",
    "inputs.images",
    "jobs.resume.prepare",
    "runs.states",
    "jobs.resume.outputs",
    "runs.resume_points",
    "jobs.supervisor",
    "analysis.repeat_check",
    "jobs.resume.continue_run",
    "runs.events",
    "runs.folder",
}


def test_files_of_others_are_opened_by_one_module() -> None:
    doors = {"open", "read_text", "read_bytes", "os.open", "io.open", "np.load", "Image.open", "tomllib.load"}
    owned = {"files", "resources"}  # functions of lorabake's own with such names
    openers = set[str]()
    for source in sources(WRAPPER):
        imported = {name for module, name in source.imports() if module.rpartition(".")[2] in owned}
        for node in ast.walk(source.tree):
            called = ast.unparse(node.func) if isinstance(node, ast.Call) else ""
            if called.startswith("files.") or called in imported or called == "np.load":
                continue
            if called in doors or called.endswith((".open", ".read_text", ".read_bytes", "sqlite3.connect")):
                openers.add(source.name)
    openers -= {name for name in openers if name.startswith("trainer.")}
    assert openers <= OPENERS
    assert {"inputs.captions", "recipe.load", "util.safetensors"}.isdisjoint(openers)


def test_only_the_surface_prints() -> None:
    for source in sources(WRAPPER):
        calls = {n.func.id for n in ast.walk(source.tree) if isinstance(n, ast.Call) and isinstance(n.func, ast.Name)}
        uses = {module.split(".")[0] for module, _ in source.imports()}
        if source.name.split(".")[0] not in {"commands", "cli"}:
            assert "print" not in calls, source.name
            assert not uses & {"click", "rich"}, source.name


@pytest.mark.parametrize("source", [*sources(WRAPPER), *sources(SCHEMAS)], ids=lambda source: source.name)
def test_modules_say_what_they_are_for(source: Source) -> None:
    assert ast.get_docstring(source.tree), "a sentence saying what it is for"


WRITING = {
    "write_text", "write_bytes", "mkdir", "makedirs", "unlink", "rename", "touch", "symlink_to", "hardlink_to",
    "remove", "copyfile", "copy", "copy2", "move",
}  # fmt: skip
RUNS = [source for source in sources(WRAPPER) if source.name.startswith(("runs.", "jobs.resume."))]
# Folders that are made new, or not a run's.
OWN_FOLDER = {name: {"mkdir"} for name in ("runs.folder", "runs.gpu_locks", "runs.index", "runs.lock")}


@pytest.mark.parametrize(
    "source", [s for s in sources(WRAPPER) if s.name.startswith(("runs.", "jobs.resume"))], ids=lambda s: s.name
)
def test_a_run_folder_is_written_through_files_alone(source: Source) -> None:
    """It follows no link; what is in a run folder may come from a stranger."""
    nodes = [node for node in ast.walk(source.tree) if isinstance(node, ast.Call)]
    called = {
        node.func.attr
        for node in nodes
        if isinstance(node.func, ast.Attribute)
        and not (isinstance(node.func.value, ast.Name) and node.func.value.id == "files")
    }
    assert called & WRITING <= OWN_FOLDER.get(source.name, set())
    modes = [arg.value for node in nodes for arg in node.args if isinstance(arg, ast.Constant)]
    assert not {"w", "wb", "a", "ab", "x", "xb", "r+b"} & {mode for mode in modes if isinstance(mode, str)}


def test_a_check_of_known_files_imports_nothing_that_is_slow() -> None:
    """Pillow reads new images, rich wraps lines on a terminal, numpy looks into weights."""
    slow = {"numpy", "PIL.Image", "rich.console", "lorabake_schemas.check_report", "lorabake.runs"}
    code = (
        "import sys, lorabake.commands.check, lorabake.analysis.check, lorabake.inputs.survey\n"
        "import lorabake.commands.output.findings, lorabake.commands.output.plan\n"
        f"print(*{slow} & {{*sys.modules}})"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
