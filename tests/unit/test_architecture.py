"""The layers, read from the imports: nothing reaches upwards, and each outside thing has its one door."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
WRAPPER, SCHEMAS = ROOT / "wrapper" / "lorabake", ROOT / "schemas" / "lorabake_schemas"

# Lowest first. A module may import its own layer and those below; a new module has to be given its place here.
LAYERS: tuple[tuple[str, tuple[str, ...]], ...] = (
    (
        "mechanism",
        (
            "__init__", "errors", "files", "homes", "guard", "signals", "process", "owners", "locks", "stream",
            "resources", "speech",
        ),
    ),
    (
        "reading the outside world",
        (
            "reading", "reading.positions", "reading.shape", "reading.syntax", "reading.spelling", "reading.load",
            "reading.paths", "reading.captions", "reading.dataset", "reading.safetensors_header", "reading.base_model",
            "reading.machine", "reading.weights", "reading.hub", "reading.named_files", "reading.folders",
            "reading.headers", "reading.decoding", "reading.pictures", "reading.fact_store", "reading.twins",
            "reading.deep", "reading.clip_tokens", "reading.survey", "reading.history", "reading.lora_file",
            "reading.rewritten_header", "reading.timeless", "reading.two_loras", "reading.fingerprints",
            "reading.inputs", "reading.beside", "reading.cache_origins", "reading.cache_files",
        ),
    ),
    (
        "pure heart",
        (
            "planning", "planning.buckets", "planning.repeats", "planning.samples", "planning.forecast",
            "planning.marks", "planning.continuation", "planning.compile", "planning.drift", "planning.file_drift",
            "planning.trainer_drift", "planning.run_difference", "planning.difference", "planning.shapes",
            "planning.tensors", "planning.targets", "planning.size", "planning.room",
            "planning.pace", "planning.at_commit",
            "planning.option_difference", "planning.provenance", "planning.identity", "planning.cache_needs",
            "planning.resolve", "planning.resolve.data", "planning.resolve.network", "planning.resolve.optimizer",
            "planning.resolve.profile", "planning.resolve.run", "planning.resolve.sources",
        ),
    ),
    (
        "judging",
        (
            "prospects", "cache_look", "examine", "typical", "explain", "inspecting", "inspecting.network",
            "inspecting.values", "inspecting.data", "inspecting.whole",
        ),
    ),
    (
        "the trainer on disk",
        (
            "trainer", "trainer.ownership", "trainer.git", "trainer.git_tree", "trainer.requirements",
            "trainer.manifest", "trainer.store", "trainer.choice", "trainer.venv",
            "trainer.pinned", "trainer.attention", "trainer.options", "trainer.build", "trainer.install",
            "trainer.contents",
        ),
    ),
    (
        "one run",
        (
            "runs", "runs.happenings", "runs.progress", "runs.events", "runs.folder", "runs.loss", "runs.tensorboard",
            "runs.known_failures", "runs.outcome", "runs.variables", "runs.command", "runs.rehearse_input",
            "runs.rehearse", "runs.lock",
            "runs.find", "runs.request", "runs.ending", "runs.start", "runs.launch", "runs.states", "runs.parts",
            "runs.resumable", "runs.resume", "runs.evidence", "runs.trainer_now", "runs.recompiled", "runs.verify",
            "runs.inventory", "runs.settle", "runs.sides", "runs.lora", "runs.again", "runs.register", "runs.origin",
            "runs.in_use", "runs.moved", "runs.input_watch", "runs.place",
        ),
    ),
    (
        "what is seen while it goes on",
        (
            "output", "gauge", "terminal",
        ),
    ),
    (
        "whole jobs",
        (
            "shelf", "commits", "run_files", "starting", "cache_upkeep", "workflow", "resuming", "rerunning",
            "inspection", "first", "first.pictures", "first.ingredients", "first.story",
        ),
    ),
    (
        "surface",
        (
            "render", "render.page", "render.settings", "render.where", "render.forms", "render.lists", "render.report",
            "render.github", "render.forecast", "render.plan", "render.difference", "render.commits", "render.explain",
            "render.book", "render.runs", "render.resume", "render.verify", "render.comparison",
            "render.inspection_rows", "render.inspection", "usage", "boundary", "cli_options", "commands",
            "commands.files", "commands.runs", "commands.common", "commands.judging", "commands.training",
            "commands.keeping", "cli", "__main__",
        ),
    ),
)  # fmt: skip
PLACE = {module: number for number, (_, modules) in enumerate(LAYERS) for module in modules}
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
    paths = sorted(path for path in package.rglob("*.py") if "trainer_side" not in path.parts)
    return tuple(Source(_name(path, package), path, ast.parse(path.read_text("utf-8"))) for path in paths)


def _name(path: Path, package: Path) -> str:
    parts = path.relative_to(package).with_suffix("").parts
    return ".".join(parts[:-1] if len(parts) > 1 and parts[-1] == "__init__" else parts)


def own_imports(source: Source, package: str = "lorabake") -> set[str]:
    """The modules of its own package that a module imports."""
    names = {each.name for each in sources(WRAPPER if package == "lorabake" else SCHEMAS)}
    found: set[str] = set()
    for module, name in source.imports():
        if module == package:
            found.add(name if name in names else "__init__")
        elif module.startswith(f"{package}."):
            inner = module.removeprefix(f"{package}.")
            found.add(f"{inner}.{name}" if f"{inner}.{name}" in names else inner)
    return found - {source.name}


def test_enough_modules_are_looked_at() -> None:
    assert len(sources(WRAPPER)) >= 50
    assert len(sources(SCHEMAS)) >= 16


def test_every_module_has_a_place_and_every_place_a_module() -> None:
    assert {source.name for source in sources(WRAPPER)} == set(PLACE)


@pytest.mark.parametrize("source", sources(WRAPPER), ids=lambda source: source.name)
def test_nothing_imports_upwards(source: Source) -> None:
    above = {name for name in own_imports(source) if PLACE[name] > PLACE[source.name]}
    assert above == set()


@pytest.mark.parametrize("package", ["lorabake", "lorabake_schemas"])
def test_there_are_no_import_cycles(package: str) -> None:
    graph = {
        source.name: own_imports(source, package) for source in sources(WRAPPER if package == "lorabake" else SCHEMAS)
    }
    while graph:
        leaves = {name for name, below in graph.items() if not below & set(graph)}
        assert leaves, f"a cycle among {sorted(graph)}"
        graph = {name: below for name, below in graph.items() if name not in leaves}


def test_schemas_know_nothing_of_the_wrapper() -> None:
    for source in sources(SCHEMAS):
        assert not [m for m, _ in source.imports() if m.split(".")[0] == "lorabake"], source.name


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
    """guard is the script that the door runs outside of this process; it stands on the standard library alone."""
    users = {s.name for s in sources(WRAPPER) if any(m.split(".")[0] == "subprocess" for m, _ in s.imports())}
    assert users == {"process", "guard"}
    guard = next(source for source in sources(WRAPPER) if source.name == "guard")
    assert {module.split(".")[0] for module, _ in guard.imports()} <= _standard()
    spawning = {"system", "popen", "execv", "execve", "execvp", "execvpe", "spawnv", "spawnve", "posix_spawn", "fork"}
    for source in (*sources(WRAPPER), *sources(SCHEMAS)):
        if source.name not in {"process", "guard"}:
            assert not _of_os(source) & spawning, source.name


def test_the_environment_is_an_argument() -> None:
    """guard hands on what its one caller gave it; nothing else may look at the process's own."""
    doors = {"environ", "environb", "getenv", "getenvb", "putenv"}
    every = (*sources(WRAPPER), *sources(SCHEMAS))
    assert {source.name for source in every if _of_os(source) & doors} == {"process", "guard"}


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
    heart = next(modules for layer, modules in LAYERS if layer == "pure heart")
    for source in sources(WRAPPER):
        if source.name in heart:
            used = set(source.imports())
            assert not {module.split(".")[0] for module, _ in used} & PURE_FROM, source.name
            assert {name for module, name in used if module == "pathlib"} <= {"PurePath", "PurePosixPath"}, source.name
            calls = {
                n.func.id for n in ast.walk(source.tree) if isinstance(n, ast.Call) and isinstance(n.func, ast.Name)
            }
            assert not calls & {"open", "print", "input", "eval", "exec", "hash", "id"}, source.name


def test_one_module_writes_to_the_terminal() -> None:
    """runs.rehearse stands in for the trainer, whose streams are a log; guard is a child with a protocol of its own."""
    writing = ("stdout.write", "stderr.write", "stream.write", "console.print", "buffer.write", "Console")
    writers: dict[str, set[str]] = {}
    for source in sources(WRAPPER):
        for node in ast.walk(source.tree):
            called = ast.unparse(node.func) if isinstance(node, ast.Call) else ""
            if called in {"print", "click.echo", "click.secho"} or called.endswith(writing):
                writers.setdefault(source.name, set()).add(called)
    assert writers.pop("output")
    assert writers.pop("runs.rehearse") == {"sys.stdout.write", "sys.stderr.write"}
    # rich draws the bar of a terminal on its own; its lines come from there already visible
    assert writers == {"terminal": {"Console", "self._progress.console.print"}}


# Who may open a file without lorabake.files: what is lorabake's own (its data, locks, logs, databases, what it has just
# written), the system's (/proc, /dev/null), or the trainer's, which is checked by content before it is used.
OPENERS = {
    "files", "resources", "guard", "process", "owners", "locks", "stream", "output", "reading.machine",
    "reading.fact_store", "reading.decoding", "reading.rewritten_header", "shelf", "resuming",
    "runs.register", "runs.states", "runs.parts", "runs.resumable", "runs.start", "runs.again", "runs.resume",
    "runs.events", "runs.folder", "runs.place",
}  # fmt: skip


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
    openers -= {name for name in openers if name.startswith(("trainer.", "trainer_side."))}
    assert openers <= OPENERS
    assert {"reading.captions", "reading.load", "reading.safetensors_header"}.isdisjoint(openers)


def test_only_the_surface_prints() -> None:
    shown = dict(LAYERS)
    surface = {*shown["what is seen while it goes on"], *shown["surface"], "guard"}
    for source in sources(WRAPPER):
        calls = {n.func.id for n in ast.walk(source.tree) if isinstance(n, ast.Call) and isinstance(n.func, ast.Name)}
        uses = {module.split(".")[0] for module, _ in source.imports()}
        if source.name not in {*surface, "rehearse", "rehearse_input"}:
            assert "print" not in calls, source.name
            assert not uses & {"click", "rich"}, source.name


@pytest.mark.parametrize("source", [*sources(WRAPPER), *sources(SCHEMAS)], ids=lambda source: source.name)
def test_modules_and_functions_stay_small(source: Source) -> None:
    assert len(source.path.read_text("utf-8").splitlines()) <= 500
    long = {
        node.name: (node.end_lineno or 0) - node.lineno + 1
        for node in ast.walk(source.tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }
    assert {name: lines for name, lines in long.items() if lines > 60} == {}


@pytest.mark.parametrize("source", [*sources(WRAPPER), *sources(SCHEMAS)], ids=lambda source: source.name)
def test_modules_say_what_they_are_for(source: Source) -> None:
    assert ast.get_docstring(source.tree), "a sentence saying what it is for"


def test_the_layers_of_this_table_are_in_order() -> None:
    modules = [module for _, names in LAYERS for module in names]
    assert len(modules) == len(set(modules))
    assert all(first != second for first, second in pairwise(LAYERS))


WRITING = {
    "write_text", "write_bytes", "mkdir", "makedirs", "unlink", "rename", "touch", "symlink_to", "hardlink_to",
    "remove", "copyfile", "copy", "copy2", "move",
}  # fmt: skip
OWN_FOLDER = {"runs.folder": {"mkdir"}, "runs.lock": {"mkdir"}, "runs.register": {"mkdir"}}  # made new, or not a run's


@pytest.mark.parametrize("source", [s for s in sources(WRAPPER) if s.name.startswith("runs.")], ids=lambda s: s.name)
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
