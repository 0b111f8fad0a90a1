"""What is built: sdist, wheel through the sdist, exactly the files that belong in it, and that it runs elsewhere."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FOLDERS, FILES = ("wrapper", "schemas", "recipes", "vendor"), ("README.md", "LICENSE", "pyproject.toml", "setup.py")
# Folder in the repository, package in the wheel, what of it is shipped (the rule that the wheel must meet exactly).
SHIPPED = (
    (
        "wrapper/lorabake",
        "lorabake",
        ("**/*.py", "py.typed", "locale/*/LC_MESSAGES/lorabake.?o", "jobs/sample_images/*", "commands/output/sheet.*"),
    ),
    (
        "schemas/lorabake_schemas",
        "lorabake_schemas",
        ("**/*.py", "py.typed", "guide/book/*.toml", "guide/book/*.json", "guide/glossary/*.toml"),
    ),
    ("recipes", "lorabake/_recipes", ("*.py", "*.toml")),
    ("vendor", "lorabake/_vendor", ("*.py", "*.toml", "*.txt", "*.in", "*.json", "*.gz")),
)
DIST_INFO = ("METADATA", "RECORD", "WHEEL", "entry_points.txt", "licenses/LICENSE", "top_level.txt")


@dataclass(frozen=True)
class Built:
    """The two files that a release uploads, and a Python that has the wheel installed and nothing of this checkout."""

    sdist: Path
    wheel: Path
    python: Path

    def names(self) -> set[str]:
        with zipfile.ZipFile(self.wheel) as archive:
            return {name for name in archive.namelist() if not name.endswith("/")}

    def run(self, *argv: str, cwd: Path) -> subprocess.CompletedProcess[str]:
        """Run the installed Python with the dependencies of this one, but not its lorabake (no .pth there)."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("COVERAGE", "PYTHON"))}
        env = kept | {"PYTHONPATH": sysconfig.get_path("purelib")}
        return subprocess.run([str(self.python), *argv], cwd=cwd, env=env, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module", name="built")
def _built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    """Built in a copy, so that nothing is left in the checkout, by the locked setuptools."""
    place = tmp_path_factory.mktemp("packaging")
    source, left_out = place / "source", shutil.ignore_patterns("__pycache__", "*.egg-info")
    for folder in FOLDERS:
        shutil.copytree(ROOT / folder, source / folder, ignore=left_out)
    for file in FILES:
        shutil.copy(ROOT / file, source / file)
    argv = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(place / "dist"), str(source)]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    (wheel,) = (place / "dist").glob("*.whl")
    (sdist,) = (place / "dist").glob("*.tar.gz")
    return Built(sdist, wheel, _installed(place / "venv", wheel))


def _installed(folder: Path, wheel: Path) -> Path:
    venv.create(folder, with_pip=False)
    python = folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    argv = [
        sys.executable,
        "-m",
        "pip",
        "--python",
        str(python),
        "install",
        "--no-deps",
        "--no-index",
        "-q",
        str(wheel),
    ]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return python


def expected() -> set[str]:
    found = {
        f"{package}/{path.relative_to(ROOT / folder).as_posix()}"
        for folder, package, patterns in SHIPPED
        for pattern in patterns
        for path in (ROOT / folder).glob(pattern)
        if "__pycache__" not in path.parts
    }
    version = metadata.version("lorabake")
    return found | {f"lorabake-{version}.dist-info/{name}" for name in DIST_INFO}


def test_the_wheel_holds_exactly_what_belongs_in_it(built: Built) -> None:
    assert built.names() == expected()


def test_the_rule_names_what_a_user_needs() -> None:
    """So that an empty folder cannot make the comparison above pass."""
    names = expected()
    assert len([name for name in names if name.startswith("lorabake/_recipes/") and name.endswith(".toml")]) >= 17
    assert {
        "lorabake/py.typed",
        "lorabake/locale/pt_BR/LC_MESSAGES/lorabake.mo",
        "lorabake_schemas/py.typed",
        "lorabake/_vendor/sd-scripts.toml",
        "lorabake/_vendor/trainer-cpu.txt",
        "lorabake/_vendor/trainer-cuda.txt",
        "lorabake/_vendor/options-train_network.json",
        "lorabake/_vendor/options-sdxl_train_network.json",
        "lorabake/_vendor/options-dataset.json",
        "lorabake/_vendor/signatures.json",
        "lorabake/_vendor/lycoris-preset-full-sd15.toml",
        "lorabake/_vendor/lycoris-preset-ia3.toml",
        "lorabake/_vendor/shapes-sd15.txt",
        "lorabake/_vendor/shapes-sd2.txt",
        "lorabake/_vendor/shapes-sdxl.txt",
        "lorabake/trainer/scripts/probe_attention.py",
        "lorabake/trainer/scripts/random_base.py",
        "lorabake/trainer/scripts/cpu_processes.py",
        "lorabake/trainer/scripts/deterministic.py",
        "lorabake/trainer/scripts/resume_epoch.py",
        "lorabake/trainer/scripts/health.py",
    } <= names


def test_no_generic_name_reaches_site_packages(built: Built) -> None:
    tops = {name.split("/")[0] for name in built.names()}
    assert tops == {"lorabake", "lorabake_schemas", f"lorabake-{metadata.version('lorabake')}.dist-info"}
    assert not [name for name in built.names() if "test" in name or "__pycache__" in name or name.endswith(".pyc")]


def test_the_sdist_holds_everything_the_wheel_is_made_from(built: Built) -> None:
    with tarfile.open(built.sdist) as archive:
        names = {name.split("/", 1)[1] for name in archive.getnames() if "/" in name}
    assert {"pyproject.toml", "README.md", "LICENSE", "vendor/sd-scripts.toml", "recipes/outfits-sd15.toml"} <= names
    assert not [name for name in names if "__pycache__" in name]


def test_it_runs_from_another_directory(built: Built, tmp_path: Path) -> None:
    where = built.run("-c", "import lorabake, lorabake_schemas; print(lorabake.__file__)", cwd=tmp_path)
    assert where.returncode == 0, where.stderr
    assert Path(where.stdout.strip()).is_relative_to(built.python.parent.parent)
    script = built.python.with_name("lorabake")
    assert script.exists() or script.with_suffix(".exe").exists()
    shown = built.run("-m", "lorabake", "--help", cwd=tmp_path)
    assert (shown.returncode, shown.stderr) == (0, "")
    assert "lorabake quickstart" in shown.stdout
    version = built.run("-m", "lorabake", "--version", cwd=tmp_path)
    assert metadata.version("lorabake") in version.stdout


def test_its_data_is_found_where_it_is_installed(built: Built, tmp_path: Path) -> None:
    listed = built.run("-m", "lorabake", "recipes", "list", cwd=tmp_path)
    assert listed.returncode == 0, listed.stderr
    names = {path.stem for path in (ROOT / "recipes").glob("*.toml")}
    assert {line.split()[0] for line in listed.stdout.splitlines()} == names
    code = (
        "from lorabake.util import resources as r\n"
        "assert r.load_script_options('train_network.py') and r.load_dataset_options() and r.load_pin()\n"
        "assert r.read_vendor_text(r.load_pin().cpu.file) and len(r.read_sample_images()) == 30\n"
        "with r.trainer_script('health.py') as script: assert script.is_file()\n"
    )
    done = built.run("-c", code, cwd=tmp_path)
    assert done.returncode == 0, done.stderr


def test_every_module_can_be_imported(built: Built, tmp_path: Path) -> None:
    code = (
        "import importlib, pkgutil, lorabake, lorabake_schemas\n"
        "n = 0\n"
        "for package in (lorabake, lorabake_schemas):\n"
        "    for found in pkgutil.walk_packages(package.__path__, package.__name__ + '.'):\n"
        "        if 'trainer.scripts.' not in found.name and not found.name.endswith(('__main__', 'make_locks')):\n"
        "            importlib.import_module(found.name); n += 1\n"
        "print(n)\n"
    )
    done = built.run("-c", code, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) >= 65
