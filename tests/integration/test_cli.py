"""The command line as people and scripts use it: real processes, exit codes, nothing written needlessly."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from lorabake.util import machine
from lorabake_schemas.families.registry import get_family
from sample_images import write_lighthouses

PIN_URL = "https://github.com/kohya-ss/sd-scripts"
RECIPE = """\
name = "lamp"
kind = "object"

[base]
model = "models/none.safetensors"
family = "sd15"
tags = "danbooru"

[[concept]]
token = "lumlighthouse"
class = "lighthouse"
images = "pictures"

[train]
optimizer = "Prodigy"
resolution = 64
max_train_steps = 16
"""
Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A HOME from which the pin's url leads nowhere."""
    folder = tmp_path / "home"
    folder.mkdir()
    (folder / ".gitconfig").write_text(f'[url "file:///nowhere/at/all"]\n\tinsteadOf = {PIN_URL}\n')
    return folder


@pytest.fixture
def lorabake(home: Path, tmp_path: Path) -> Run:
    def run(*args: object, cwd: Path = tmp_path, **env: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "lorabake", *map(str, args)],
            cwd=cwd,
            env=environment(home) | env,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    return run


def environment(home: Path) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("LORABAKE", "GIT_"))}
    return kept | {"HOME": str(home), "LORABAKE_HOME": str(home / "lorabake"), "XDG_CACHE_HOME": str(home / "cache")}


@pytest.fixture
def project(tmp_path: Path) -> Path:
    return make_project(tmp_path / "project")


def make_project(folder: Path, text: str = RECIPE) -> Path:
    write_lighthouses(folder / "pictures")
    (folder / "lamp.toml").write_text(text)
    return folder


def with_base(project: Path) -> Path:
    """A project with a model that has valid headers, so that a real run would start."""
    model = project / "models" / "none.safetensors"
    model.parent.mkdir()
    shape = {"dtype": "F16", "shape": [320, 768], "data_offsets": [0, 491520]}
    keys = (
        "cond_stage_model.transformer.text_model.embeddings.position_ids",
        "model.diffusion_model.input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight",
    )
    header = json.dumps({keys[1]: shape, keys[0]: {"dtype": "I64", "shape": [1], "data_offsets": [491520, 491528]}})
    model.write_bytes(len(header).to_bytes(8, "little") + header.encode() + bytes(491528))
    return project


def state(folder: Path) -> dict[str, tuple[str, int]]:
    """Every file below a folder with its content and its time."""
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {str(path): (hashlib.sha256(path.read_bytes()).hexdigest(), path.stat().st_mtime_ns) for path in files}


def test_check_is_green_and_changes_nothing(lorabake: Run, project: Path) -> None:
    with_base(project)
    before = state(project)
    done = lorabake("check", project / "lamp.toml")
    assert (done.returncode, done.stderr) == (0, "")
    last = done.stdout.splitlines()[-1]
    assert "no errors, no warnings, " in last
    assert last.endswith("; 15 samples per epoch, 2 epochs, 16 steps")
    assert state(project) == before


def test_check_names_file_and_line_and_fails(lorabake: Run, project: Path) -> None:
    done = lorabake("check", "lamp.toml", cwd=project)
    assert done.returncode == 1
    assert done.stdout.startswith("lamp.toml:5: error[G4.7] base.model: models/none.safetensors does not exist")


def test_check_json(lorabake: Run, project: Path) -> None:
    told = json.loads(lorabake("check", "lamp.toml", "--json", cwd=project).stdout)
    assert (told["version"], told["forecast"]) == (1, None)
    assert [(f["rule"], f["line"], f["severity"]) for f in told["findings"] if f["severity"] == "error"] == [
        ("G4.7", 5, "error")
    ]


def test_strict_lets_warnings_fail(lorabake: Run, project: Path) -> None:
    with_base(project)
    (project / "lamp.toml").write_text(RECIPE + 'lr_scheduler = "linear"\n')
    assert lorabake("check", "lamp.toml", cwd=project).returncode == 0
    assert lorabake("check", "lamp.toml", "--strict", cwd=project).returncode == 1


def test_no_recipe_is_one_clear_line(lorabake: Run) -> None:
    done = lorabake("check", "nothing.toml")
    assert done.returncode == 1
    assert "recipe not found: nothing.toml" in done.stderr
    assert "Traceback" not in done.stderr + done.stdout


def test_usage_is_exit_2(lorabake: Run) -> None:
    assert lorabake("check").returncode == 2
    assert lorabake("no-such-command").returncode == 2


def test_plan_tells_values_with_sources(lorabake: Run, project: Path) -> None:
    with_base(project)
    done = lorabake("plan", "lamp.toml", cwd=project)
    assert done.returncode == 0
    lines = [" ".join(line.split()) for line in done.stdout.splitlines()]
    assert "learning_rate 1.0 G4.52" in lines
    assert "resolution 64 recipe" in lines
    told = json.loads(lorabake("plan", "lamp.toml", "--json", cwd=project).stdout)
    assert told["forecast"]["steps"] == 16


def test_compiled_bytes_are_the_same_anywhere(lorabake: Run, tmp_path: Path) -> None:
    compiled: list[dict[str, bytes]] = []
    for name in ("one", "a much longer place/with spaces/two"):
        project = with_base(make_project(tmp_path / name))
        done = lorabake("compile", "lamp.toml", "-o", "out/compiled", cwd=project, HOME=str(tmp_path / name))
        assert done.returncode == 0, done.stderr
        compiled.append({path.name: path.read_bytes() for path in (project / "out" / "compiled").iterdir()})
    assert compiled[0] == compiled[1]
    assert set(compiled[0]) == {"train.toml", "dataset.toml"}
    assert b"../../pictures" in compiled[0]["dataset.toml"]


def test_compile_never_overwrites(lorabake: Run, project: Path) -> None:
    with_base(project)
    (project / "out").mkdir()
    (project / "out" / "mine").write_text("keep")
    done = lorabake("compile", "lamp.toml", "-o", "out", cwd=project)
    assert (done.returncode, "already exists" in done.stderr) == (1, True)
    assert [path.name for path in (project / "out").iterdir()] == ["mine"]


def test_compile_fills_an_empty_folder(lorabake: Run, project: Path) -> None:
    with_base(project)
    (project / "out").mkdir()
    done = lorabake("compile", "lamp.toml", "-o", "out", cwd=project)
    assert done.returncode == 0, done.stderr
    assert sorted(path.name for path in (project / "out").iterdir()) == ["dataset.toml", "train.toml"]
    (project / "file").write_text("keep")
    done = lorabake("compile", "lamp.toml", "-o", "file", cwd=project)
    assert (done.returncode, "already exists" in done.stderr) == (1, True)


def test_a_dry_run_looks_at_an_own_installation(lorabake: Run, project: Path) -> None:
    with_base(project)
    done = lorabake("run", "lamp.toml", "--dry-run", "--sd-scripts", "/nope", cwd=project)
    assert done.returncode == 4
    assert "/nope is not an sd-scripts folder" in done.stderr
    assert done.stdout == ""


def test_output_formats_and_colour(lorabake: Run, project: Path) -> None:
    plain = lorabake("check", "lamp.toml", cwd=project)
    assert "\x1b[" not in plain.stdout
    assert lorabake("check", "lamp.toml", "--output-format", "concise", cwd=project).stdout == plain.stdout
    full = lorabake("check", "lamp.toml", "--output-format", "full", "--color", "always", cwd=project).stdout
    assert "\x1b[31m" in full
    assert "    → write the path" in full
    github = lorabake("check", project / "lamp.toml", "--output-format", "github", cwd=project).stdout
    assert github.startswith("::error file=lamp.toml,line=5,col=1,title=lorabake G4.7 base.model::")
    forced = lorabake("check", "lamp.toml", cwd=project, FORCE_COLOR="1")
    assert "\x1b[31m" in forced.stdout
    assert "\x1b[" not in lorabake("check", "lamp.toml", cwd=project, FORCE_COLOR="1", NO_COLOR="1").stdout
    assert "\x1b[" not in lorabake("check", "lamp.toml", "--color", "never", cwd=project, FORCE_COLOR="1").stdout


def test_two_recipes_beside_each_other(lorabake: Run, project: Path) -> None:
    with_base(project)
    (project / "other.toml").write_text(RECIPE.replace("16", "32"))
    same = lorabake("plan", "lamp.toml", "--diff", "lamp.toml", "--exit-code", cwd=project)
    assert (same.returncode, same.stdout.splitlines()[-1]) == (0, "the plans are the same")
    differ = lorabake("plan", "lamp.toml", "--diff", "other.toml", cwd=project)
    assert (differ.returncode, "    - 16  recipe" in differ.stdout) == (0, True)
    assert lorabake("plan", "lamp.toml", "--diff", "other.toml", "--exit-code", cwd=project).returncode == 1
    told = json.loads(lorabake("plan", "lamp.toml", "--diff", "other.toml", "--json", cwd=project).stdout)
    assert {change["option"] for change in told["settings"]} == {"max_train_steps"}
    (project / "broken.toml").write_text("oops")
    broken = lorabake("plan", "lamp.toml", "--diff", "broken.toml", cwd=project)
    assert (broken.returncode, broken.stdout) == (1, "")
    assert broken.stderr.startswith("nothing was compared; fix broken.toml first\nbroken.toml:1: error[")


def test_rehearsal_needs_no_model_and_says_what_it_is(lorabake: Run, project: Path) -> None:
    before = state(project)
    done = lorabake("run", "lamp.toml", "--rehearse", cwd=project)
    assert done.returncode == 0, done.stderr
    assert "nothing was trained" in done.stdout
    run = project / "runs" / "lamp-rehearsal-001"
    record = json.loads((run / "record.json").read_text())
    assert (record["rehearsal"], record["status"], record["outcome"]["code"]) == (True, "finished", "rehearsed")
    assert list((run / "output").iterdir()) == []
    assert "rehearsal" in (run / "logs" / "trainer.log").read_text()
    after = {name: found for name, found in state(project).items() if "/runs/" not in name}
    assert after == before


def test_runs_are_numbered(lorabake: Run, project: Path) -> None:
    for _ in range(2):
        assert lorabake("run", "lamp.toml", "--rehearse", cwd=project).returncode == 0
    names = sorted(path.name for path in (project / "runs").iterdir() if path.is_dir())
    assert names == ["lamp-rehearsal-001", "lamp-rehearsal-002"]


def test_dry_run_writes_nothing(lorabake: Run, project: Path) -> None:
    with_base(project)
    before = state(project)
    done = lorabake("run", "lamp.toml", "--dry-run", cwd=project)
    assert done.returncode == 0
    assert "accelerate.commands.launch" in done.stdout
    assert state(project) == before


def test_errors_stop_a_run_before_anything_is_written(lorabake: Run, project: Path) -> None:
    done = lorabake("run", "lamp.toml", cwd=project)
    assert done.returncode == 1
    assert "error[G4.7]" in done.stderr
    assert not (project / "runs").exists()


def test_existing_run_folder(lorabake: Run, project: Path) -> None:
    (project / "mine").mkdir()
    done = lorabake("run", "lamp.toml", "--rehearse", "--run-dir", "mine", cwd=project)
    assert (done.returncode, "mine already exists" in done.stderr) == (1, True)
    assert list((project / "mine").iterdir()) == []


@pytest.mark.usefixtures("ordinary")
def test_unwritable_place(lorabake: Run, project: Path) -> None:
    project.chmod(0o555)
    done = lorabake("run", "lamp.toml", "--rehearse", cwd=project)
    assert (done.returncode, "cannot write to " in done.stderr) == (1, True)


def test_a_file_where_the_runs_should_go(lorabake: Run, project: Path) -> None:
    (project / "runs").write_text("a file")
    done = lorabake("run", "lamp.toml", "--rehearse", cwd=project)
    assert (done.returncode, "cannot write to " in done.stderr) == (1, True)


def test_unreachable_pin_is_exit_4_in_clear_words(lorabake: Run, project: Path) -> None:
    with_base(project)
    done = lorabake("run", "lamp.toml", "--trainer", "cpu", cwd=project)
    assert done.returncode == 4
    assert f"cannot fetch sd-scripts from {PIN_URL}" in done.stderr
    assert "insteadOf" in done.stderr
    assert not (project / "runs").exists()
    assert "Traceback" not in done.stderr


def enough_memory() -> None:
    """The quickstart looks for the memory of a real training before it knows that there will be none."""
    free = machine.get_available_memory()
    if free is not None and free < get_family("sd15").quickstart.memory_bytes:
        needed = get_family("sd15").quickstart.memory_bytes
        pytest.skip(f"the quickstart needs {needed / 1e9:.1f} GB of memory, {free / 1e9:.1f} GB are free")


def test_quickstart_without_a_way_to_the_pin_is_a_rehearsal(lorabake: Run, tmp_path: Path) -> None:
    enough_memory()
    done = lorabake("quickstart", "--trainer", "cpu")
    assert done.returncode == 0, done.stderr
    assert "Continuing as a rehearsal" in done.stderr
    assert done.stdout.splitlines()[-1] == "This was a rehearsal. Nothing was trained, and no LoRA was created."
    assert not list((tmp_path / "quickstart").rglob("*.safetensors"))


def test_two_runs_of_one_name(lorabake: Run, project: Path, home: Path) -> None:
    """The first keeps the name while it runs; the second is refused and leaves nothing behind."""
    with slow_run(project, home) as first:
        done = lorabake("run", "lamp.toml", "--rehearse", cwd=project)
        assert (done.returncode, "is in progress" in done.stderr) == (5, True)
        assert first.poll() is None
    names = [path.name for path in (project / "runs").iterdir() if path.is_dir()]
    assert names == ["lamp-rehearsal-001"]


class slow_run:  # noqa: N801 - reads as a statement
    """A rehearsal that is stopped while it goes."""

    def __init__(self, project: Path, home: Path) -> None:
        (project / "lamp.toml").write_text(RECIPE.replace("16", "50000000"))
        command = [sys.executable, "-m", "lorabake", "run", "lamp.toml", "--rehearse"]
        self.process = subprocess.Popen(
            command, cwd=project, env=environment(home), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        self.log = project / "runs" / "lamp-rehearsal-001" / "logs" / "trainer.log"

    def __enter__(self) -> subprocess.Popen[bytes]:
        end = time.monotonic() + 60
        while not (self.log.exists() and b"steps:" in self.log.read_bytes()) and time.monotonic() < end:
            time.sleep(0.05)
        return self.process

    def __exit__(self, *_: object) -> None:
        self.process.terminate()
        self.process.wait(60)


def test_recipes_can_be_taken_away(lorabake: Run, tmp_path: Path) -> None:
    listed = lorabake("recipes", "list").stdout.splitlines()
    assert len(listed) >= 17
    name = listed[0].split()[0]
    assert lorabake("recipes", "copy", name, "mine.toml").returncode == 0
    text = (tmp_path / "mine.toml").read_text()
    assert "lorabake run mine.toml" in text
    assert text.startswith("#:schema recipe.schema.json\n")
    assert (tmp_path / "recipe.schema.json").read_text() == lorabake("schema", "recipe").stdout
    again = lorabake("recipes", "copy", name, "mine.toml")
    assert (again.returncode, "mine.toml already exists" in again.stderr) == (1, True)
    assert (tmp_path / "mine.toml").read_text() == text
    wrong = lorabake("recipes", "show", name + "x")
    assert (wrong.returncode, f"did you mean {name}?" in wrong.stderr) == (2, True)


def test_a_bug_of_ours_leaves_a_crash_file(home: Path, tmp_path: Path) -> None:
    code = (
        "import sys, lorabake.analysis.check as e\n"
        "def broken(*a, **k): raise ZeroDivisionError('planted')\n"
        "e.check_recipe = broken\n"
        "sys.argv = ['lorabake', 'check', 'x.toml']\n"
        "from lorabake.cli import main; main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment(home), cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 3
    assert "this is a bug in lorabake: ZeroDivisionError: planted" in done.stderr
    [crash] = (home / "lorabake" / "crashes").iterdir()
    assert "ZeroDivisionError: planted" in crash.read_text()
    assert "Traceback" not in done.stderr


def test_quickstart_tells_what_is_wrong_with_an_edited_recipe(lorabake: Run, tmp_path: Path) -> None:
    enough_memory()
    assert lorabake("quickstart", "--trainer", "cpu").returncode == 0
    recipe = tmp_path / "quickstart" / "recipe.toml"
    recipe.write_text(recipe.read_text().replace('"Prodigy"', '"Prodgy"'))
    done = lorabake("quickstart", "--trainer", "cpu")
    assert done.returncode == 1
    assert "was edited, so it is left unchanged" in done.stderr
    assert 'did you mean "Prodigy"?' in done.stderr


def test_what_programs_read(lorabake: Run, project: Path) -> None:
    with_base(project)
    assert len(json.loads(lorabake("recipes", "list", "--json").stdout)["recipes"]) >= 17
    told = json.loads(lorabake("run", "lamp.toml", "--dry-run", "--json", cwd=project).stdout)
    assert told["argv"][1:3] == ["-m", "accelerate.commands.launch"]
    status = json.loads(lorabake("trainer", "status", "--json").stdout)
    assert (status["installed"], status["in_use"]) == ([], None)
    (project / "lamp.toml").write_text(RECIPE.replace('"Prodigy"', '"Prodgy"'))
    failed = lorabake("run", "lamp.toml", "--json", cwd=project)
    assert failed.returncode == 1
    assert json.loads(failed.stdout)["findings"][0]["rule"] == "GC.12.class"


def test_explain(lorabake: Run) -> None:
    done = lorabake("explain", "keep_tokens")
    assert done.returncode == 0
    assert "G4.90" in done.stdout
    wrong = lorabake("explain", "keep_tokns")
    assert (wrong.returncode, "keep_tokens" in wrong.stderr) == (2, True)
    assert lorabake("explain", "--all").stdout.startswith("# ")
    assert int(lorabake("explain", "--table").stdout.splitlines()[-1].split()[-1]) > 350
    assert json.loads(lorabake("explain", "Prodigy", "--json").stdout)["topic"] == "Prodigy"
    assert "In fact" in lorabake("explain", "learning_rate", "--full").stdout
    two = lorabake("explain", "S12.stem", "S27").stdout
    assert two.index("S12.stem") < two.index("S27  Prodigy")
    assert lorabake("explain").returncode == 2
