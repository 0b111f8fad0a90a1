"""The trainer's virtual environment: made by a fitting Python, filled from a lock, and tried out."""

from __future__ import annotations

import os
import re
import shutil
import sys
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from pydantic import TypeAdapter, ValidationError

from lorabake.errors import ResourceError, SetupError
from lorabake.trainer import packages
from lorabake.util import resources
from lorabake.util.environment import filter_absolute_folders, make_child_env
from lorabake.util.process import capture_output
from lorabake.util.streams import stream_lines
from lorabake_schemas.families.registry import list_scripts
from lorabake_schemas.messages import Message, literal, msg

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

_PIP_ARGUMENTS = ("-P", "-m", "pip", "--no-input", "--disable-pip-version-check")
_INSTALL_ARGUMENTS = ("install", "--no-deps", "--require-hashes", "--no-warn-script-location", "--progress-bar=off")
SD_SCRIPTS_FILES = (*list_scripts(), "library/train_util.py")
_OBJECT_ADAPTER = TypeAdapter(dict[str, Any])
_VERSION_QUERY = "import sys; print('.'.join(map(str, sys.version_info[:2])))"


def read_python_version(python: Path | None, env: Mapping[str, str]) -> str:
    """major.minor of a Python, None meaning the one that runs lorabake. Raises SetupError when it does not start."""
    if python is None:
        return f"{sys.version_info[0]}.{sys.version_info[1]}"
    done = capture_output([str(python), "-I", "-c", _VERSION_QUERY], env=packages.python_environment(env), timeout=30)
    if not done.ok or not re.fullmatch(r"\d+\.\d+\n?", done.stdout):
        raise SetupError(msg("{python} is not a working Python", python=python), _output_tail(done.stderr))
    return done.stdout.strip()


def _output_tail(said: str) -> Message | None:
    """The end of a program's output."""
    return literal(said.strip()[-300:]) if said.strip() else None


def check_python_version(version: str, lowest: str, highest: str) -> None:
    """Raises SetupError when the trainer's packages have no builds for this Python."""
    this, low, high = (tuple(int(part) for part in text.split(".")) for text in (version, lowest, highest))
    if not low <= this <= high:
        age = msg("too old") if this < low else msg("too new")
        raise SetupError(
            msg(
                "Python {version} is {age} for the trainer, which needs {lowest} to {highest}",
                version=version,
                age=age,
                lowest=lowest,
                highest=highest,
            ),
            msg("install Python {version} and pass --python python{version}", version=highest),
        )


def interpreter_path(venv: Path) -> Path:
    """The Python of a virtual environment."""
    return venv / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def find_user_checkout(sd_scripts: Path, python: Path | None, env: Mapping[str, str]) -> tuple[Path, Path]:
    """The user's checkout and its Python, without running anything. Raises SetupError if it is not a checkout."""
    checkout = sd_scripts.absolute()
    lacking = [name for name in SD_SCRIPTS_FILES if not (checkout / name).is_file()]
    if lacking:
        said = msg("{path} is not an sd-scripts folder: {file} is missing", path=sd_scripts, file=lacking[0])
        raise SetupError(said, msg("pass the folder that contains train_network.py to --sd-scripts"))
    if os.pathsep in str(checkout):  # it is on PYTHONPATH (runs/command.trainer_env)
        said = msg(
            "the path {path} contains {sign}, which Python treats as a separator", path=checkout, sign=os.pathsep
        )
        raise SetupError(said, msg("move or rename the folder"))
    return checkout, find_checkout_python(checkout, python, env)


def find_checkout_python(checkout: Path, python: Path | None, env: Mapping[str, str]) -> Path:
    """The Python for a checkout of the user's own: ``python``, else its venv's or .venv's. Raises SetupError."""
    hint = msg("use --python to choose the Python that runs sd-scripts")
    if python is not None:
        found = shutil.which(str(python), path=filter_absolute_folders(env.get("PATH", "")) or None)
        if found is None:
            raise SetupError(msg("{python} is not a program", python=python), hint)
        return Path(found).absolute()
    theirs = (interpreter_path(checkout / name) for name in ("venv", ".venv"))
    found_there = next((path for path in theirs if path.exists()), None)
    if found_there is None:
        raise SetupError(msg("{folder} has no venv or .venv", folder=checkout), hint)
    return found_there


def create_venv(venv: Path, python: Path | None, env: Mapping[str, str]) -> Path:
    """Make a virtual environment with pip in it and return its Python. Raises SetupError."""
    maker = str(python or sys.executable)
    done = capture_output([maker, "-I", "-m", "venv", str(venv)], env=packages.python_environment(env), timeout=300)
    if done.ok:
        return interpreter_path(venv)
    said = done.stdout + done.stderr
    if "No space left on device" in said:
        raise ResourceError(
            msg("the disk is full"), msg("free some space, or set LORABAKE_HOME to a folder on another disk")
        )
    if "ensurepip" in said or "No module named venv" in said:
        raise SetupError(
            msg("{python} cannot create virtual environments: venv or ensurepip is missing", python=maker),
            msg("install it (Debian and Ubuntu: apt install python3-venv), or choose another Python with --python"),
        )
    raise SetupError(msg("{python} could not create a virtual environment", python=maker), _output_tail(said))


def compile_checkout(python: Path, checkout: Path, env: Mapping[str, str]) -> None:
    """Compile sd-scripts, as pip has compiled the packages: afterwards nothing is written there."""
    argv = [str(python), "-I", "-m", "compileall", "-q", str(checkout)]
    capture_output(argv, env=packages.python_environment(env), timeout=300)  # what does not compile is not imported


def find_package_folders(venv: Path) -> tuple[Path, ...]:
    """The folders of packages of a virtual environment."""
    found = sorted(venv.glob("lib/python3*/site-packages")) or [venv / "Lib" / "site-packages"]
    return tuple(folder for folder in found if folder.is_dir())


def has_cpu_torch(python: Path, lock: str, env: Mapping[str, str]) -> bool:
    """Whether pip, as it is configured here, can find a CPU build of the lock's torch ("2.13.0+cpu")."""
    wanted = packages.parse_lock(lock).get("torch", "")
    command = [str(python), *_PIP_ARGUMENTS, "index", "versions", "torch"]
    try:
        done = capture_output(command, env=_pip_environment(python, "index", env), timeout=120)
    except SetupError:  # without an answer in time it is not offered
        return False
    return f"{wanted}+cpu" in re.split(r"[\s,]+", done.stdout)


def install_packages(
    python: Path, lock: str, folder: Path, env: Mapping[str, str], log: Path, tell: Callable[[Message], None]
) -> None:
    """Install a lock's packages with pip, their hashes checked; ``folder`` takes pip's temporary files.

    The lock's build tools come first and alone, so that the rest can be built without fetching anything that has no
    hash. Raises SetupError with the reason.
    """
    scratch = folder / "tmp"
    scratch.mkdir()
    first = packages.select_build_first(lock)
    child = _pip_environment(python, "install", env) | dict.fromkeys(("TMPDIR", "TEMP", "TMP"), str(scratch))
    if first:
        tell(msg("installing build tools"))
        _run_pip(python, _write_text(scratch / "build-first.txt", first), child, log, None)
    progress = packages.PipProgress.of(lock)
    options = ["--no-build-isolation"] if first else []

    def show(line: str) -> None:
        if shown := progress.line(line):
            tell(shown)

    _run_pip(python, _write_text(scratch / "lock.txt", lock), child, log, show, options)


def _pip_environment(python: Path, command: str, env: Mapping[str, str]) -> dict[str, str]:
    """The environment for one of pip's commands: of pip's configuration only PIP_SETTINGS. Raises SetupError.

    They are read from wherever pip has them, and given to it as variables while it reads no file: an option such as
    `target` or `dry-run` in a file cannot be taken back on the command line.
    """
    asked = make_child_env(env, drop=("PYTHON",))
    with resources.trainer_script("pip_settings.py") as script:
        argv = [str(python), "-I", "-X", "utf8", str(script), command, *packages.PIP_SETTINGS]
        done = capture_output(argv, env=asked, timeout=60)
    answer = parse_last_json(done.stdout)
    if not done.ok or answer is None:
        raise SetupError(msg("pip cannot read its configuration"), _output_tail(done.stderr))
    settings = {f"PIP_{name.upper().replace('-', '_')}": str(value) for name, value in answer.items()}
    return packages.python_environment(env, **settings, PIP_CONFIG_FILE=os.devnull)


def _write_text(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8", newline="\n")
    return path


def _run_pip(
    python: Path,
    file: Path,
    env: Mapping[str, str],
    log: Path,
    show: Callable[[str], None] | None,
    options: Sequence[str] = (),
) -> None:
    last = deque[str](maxlen=60)

    def heard(line: str) -> None:
        last.append(line)
        if show:
            show(line)

    argv = [str(python), *_PIP_ARGUMENTS, *_INSTALL_ARGUMENTS, *options, "-r", str(file)]
    if stream_lines(argv, cwd=Path.cwd(), env=env, log=log, on_line=heard) != 0:
        error = packages.explain_pip_failure(list(last))
        raise type(error)(error.message, msg("{hint} (full log: {log})", hint=error.hint or "", log=log))


@dataclass(frozen=True, slots=True)
class HealthReport:
    """The health check of a Python: the ``versions`` of all installed packages and of "python", the imports that
    failed and why, and the modules that were not found.
    """

    versions: Mapping[str, str] = field(repr=False)
    failed: tuple[Message, ...] = ()
    missing: tuple[str, ...] = ()

    def refusal(self, python: Path) -> SetupError:
        """Why the user's own ``python`` cannot train, and the command that installs what is missing."""
        lacks = packages.find_distributions(self.missing)
        other = msg("use --python to choose the Python that runs sd-scripts")
        if not lacks:
            return SetupError(msg("{python} cannot train: {why}", python=python, why=self.failed[0]), other)
        what = msg(
            "{python} is missing packages that this training needs: {packages} ({why})",
            python=python,
            packages=", ".join(lacks),
            why=self.failed[0],
        )
        command = f"{python} -m pip install {' '.join(lacks)}"
        return SetupError(what, msg("{command}, or {other}", command=command, other=other))


def check_health(python: Path, modules: Sequence[str], env: Mapping[str, str]) -> HealthReport:
    """Import what training needs in the trainer's own Python, in a folder that takes what a package leaves behind."""
    with resources.trainer_script("health.py") as script, TemporaryDirectory() as folder:
        argv = [str(python), str(script), *modules]
        done = capture_output(argv, cwd=Path(folder), env=packages.script_environment(env), timeout=600)
    answer = parse_last_json(done.stdout)
    if answer is None:
        tail = " / ".join(done.stderr.strip().splitlines()[-3:])
        said = msg(
            "{python} exited with code {code} during the health check: {words}",
            python=python,
            code=done.returncode,
            words=tail,
        )
        return HealthReport({}, (said,))
    versions = {str(name): str(version) for name, version in answer["versions"].items()}
    versions = {"python": str(answer["python"])} | versions
    failed = tuple(literal(str(words)) for words in answer["failed"])
    return HealthReport(versions, failed, tuple(map(str, answer["missing"])))


def parse_last_json(text: str) -> dict[str, Any] | None:
    """The JSON object on the last line of a script's output; what its imports print comes before it."""
    lines = text.rstrip().splitlines()
    try:
        return _OBJECT_ADAPTER.validate_json(lines[-1]) if lines else None
    except ValidationError:
        return None
