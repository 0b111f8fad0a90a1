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

from lorabake import resources
from lorabake.errors import SetupError
from lorabake.process import absolute_folders, capture, child_env
from lorabake.stream import stream_lines
from lorabake.trainer import requirements
from lorabake_schemas.words import Said, quoted, say

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

_PIP = ("-P", "-m", "pip", "--no-input", "--disable-pip-version-check")
_INSTALL = ("install", "--no-deps", "--require-hashes", "--no-warn-script-location", "--progress-bar=off")
LANDMARKS = ("train_network.py", "sdxl_train_network.py", "library/train_util.py")
_OBJECT = TypeAdapter(dict[str, Any])
_VERSION = "import sys; print('.'.join(map(str, sys.version_info[:2])))"


def python_version(python: Path | None, env: Mapping[str, str]) -> str:
    """major.minor of a Python, None meaning the one that runs lorabake. Raises SetupError when it does not start."""
    if python is None:
        return f"{sys.version_info[0]}.{sys.version_info[1]}"
    done = capture([str(python), "-I", "-c", _VERSION], env=requirements.child_environment(env), timeout=30)
    if not done.ok or not re.fullmatch(r"\d+\.\d+\n?", done.stdout):
        raise SetupError(say("{python} is not a Python that starts", python=python), _tail(done.stderr))
    return done.stdout.strip()


def _tail(said: str) -> Said | None:
    """The end of what a program said, in its own words."""
    return quoted(said.strip()[-300:]) if said.strip() else None


def check_version(version: str, lowest: str, highest: str) -> None:
    """Raises SetupError when the trainer's packages have no builds for this Python."""
    this, low, high = (tuple(int(part) for part in text.split(".")) for text in (version, lowest, highest))
    if not low <= this <= high:
        age = say("too old") if this < low else say("too new")
        raise SetupError(
            say(
                "Python {version} is {age} for the trainer, which needs {lowest} to {highest}",
                version=version,
                age=age,
                lowest=lowest,
                highest=highest,
            ),
            say("install Python {version} and name it: --python python{version}", version=highest),
        )


def interpreter(venv: Path) -> Path:
    """The Python of a virtual environment."""
    return venv / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def own_place(sd_scripts: Path, python: Path | None, env: Mapping[str, str]) -> tuple[Path, Path]:
    """The user's checkout and its Python, as far as looking tells. Raises SetupError when it is none."""
    checkout = sd_scripts.absolute()
    lacking = [name for name in LANDMARKS if not (checkout / name).is_file()]
    if lacking:
        said = say("{path} is not a checkout of sd-scripts: it lacks {file}", path=sd_scripts, file=lacking[0])
        raise SetupError(said, say("see --sd-scripts"))
    if os.pathsep in str(checkout):  # it is on PYTHONPATH (runs/command.trainer_env)
        said = say("{path} has a {sign} in its path, at which Python would split it", path=checkout, sign=os.pathsep)
        raise SetupError(said, say("move or rename it"))
    return checkout, of_checkout(checkout, python, env)


def of_checkout(checkout: Path, python: Path | None, env: Mapping[str, str]) -> Path:
    """The Python for a checkout of the user's own: ``python``, else its venv's or .venv's. Raises SetupError."""
    hint = say("name the Python that sd-scripts runs with: --python")
    if python is not None:
        found = shutil.which(str(python), path=absolute_folders(env.get("PATH", "")) or None)
        if found is None:
            raise SetupError(say("{python} is not a program", python=python), hint)
        return Path(found).absolute()
    theirs = (interpreter(checkout / name) for name in ("venv", ".venv"))
    found_there = next((path for path in theirs if path.exists()), None)
    if found_there is None:
        raise SetupError(say("{folder} has no venv", folder=checkout), hint)
    return found_there


def make(venv: Path, python: Path | None, env: Mapping[str, str]) -> Path:
    """Make a virtual environment with pip in it and return its Python. Raises SetupError."""
    maker = str(python or sys.executable)
    done = capture([maker, "-I", "-m", "venv", str(venv)], env=requirements.child_environment(env), timeout=300)
    if done.ok:
        return interpreter(venv)
    said = done.stdout + done.stderr
    if "No space left on device" in said:
        raise SetupError(say("the disk is full"), say("free some space, or put LORABAKE_HOME on another disk"))
    if "ensurepip" in said or "No module named venv" in said:
        raise SetupError(
            say("{python} cannot make virtual environments: its venv or ensurepip is missing", python=maker),
            say("install it (Debian and Ubuntu: apt install python3-venv), or name another Python: --python"),
        )
    raise SetupError(say("{python} could not make a virtual environment", python=maker), _tail(said))


def compile_all(python: Path, checkout: Path, env: Mapping[str, str]) -> None:
    """Compile sd-scripts, as pip has compiled the packages: afterwards nothing is written there any more."""
    argv = [str(python), "-I", "-m", "compileall", "-q", str(checkout)]
    capture(argv, env=requirements.child_environment(env), timeout=300)  # what does not compile is not imported


def packages_of(venv: Path) -> tuple[Path, ...]:
    """The folders of packages of a virtual environment."""
    found = sorted(venv.glob("lib/python3*/site-packages")) or [venv / "Lib" / "site-packages"]
    return tuple(folder for folder in found if folder.is_dir())


def offers_cpu_torch(python: Path, lock: str, env: Mapping[str, str]) -> bool:
    """Whether pip, as it is configured here, can find a CPU build of the lock's torch ("2.13.0+cpu")."""
    wanted = requirements.packages(lock).get("torch", "")
    command = [str(python), *_PIP, "index", "versions", "torch"]
    try:
        done = capture(command, env=_pip_environment(python, "index", env), timeout=120)
    except SetupError:  # no answer in time is no offer
        return False
    return f"{wanted}+cpu" in re.split(r"[\s,]+", done.stdout)


def fill(
    python: Path, lock: str, folder: Path, env: Mapping[str, str], log: Path, tell: Callable[[Said], None]
) -> None:
    """Install a lock's packages with pip, their hashes checked; ``folder`` takes pip's temporary files.

    The lock's build tools come first and alone, so that the rest can be built without fetching anything that has no
    hash. Raises SetupError with the reason.
    """
    scratch = folder / "tmp"
    scratch.mkdir()
    first = requirements.build_first(lock)
    child = _pip_environment(python, "install", env) | dict.fromkeys(("TMPDIR", "TEMP", "TMP"), str(scratch))
    if first:
        tell(say("installing build tools"))
        _pip(python, _written(scratch / "build-first.txt", first), child, log, None)
    progress = requirements.Progress.of(lock)
    options = ["--no-build-isolation"] if first else []

    def show(line: str) -> None:
        if shown := progress.line(line):
            tell(shown)

    _pip(python, _written(scratch / "lock.txt", lock), child, log, show, options)


def _pip_environment(python: Path, command: str, env: Mapping[str, str]) -> dict[str, str]:
    """The environment for one of pip's commands: of pip's configuration only PIP_SETTINGS. Raises SetupError.

    They are read from wherever pip has them, and given to it as variables while it reads no file: an option such as
    `target` or `dry-run` in a file cannot be taken back on the command line.
    """
    asked = child_env(env, drop=("PYTHON",))
    with resources.trainer_side("pip_settings.py") as script:
        argv = [str(python), "-I", "-X", "utf8", str(script), command, *requirements.PIP_SETTINGS]
        done = capture(argv, env=asked, timeout=60)
    answer = last_json(done.stdout)
    if not done.ok or answer is None:
        raise SetupError(say("pip cannot read its configuration"), _tail(done.stderr))
    settings = {f"PIP_{name.upper().replace('-', '_')}": str(value) for name, value in answer.items()}
    return requirements.child_environment(env, **settings, PIP_CONFIG_FILE=os.devnull)


def _written(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8", newline="\n")
    return path


def _pip(
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

    argv = [str(python), *_PIP, *_INSTALL, *options, "-r", str(file)]
    if stream_lines(argv, cwd=Path.cwd(), env=env, log=log, on_line=heard) != 0:
        error = requirements.failure(list(last))
        raise type(error)(error.message, say("{hint} (all of it: {log})", hint=error.hint or "", log=log))


@dataclass(frozen=True, slots=True)
class Health:
    """What a Python said of itself: the ``versions`` of all installed packages and of "python", the imports that
    failed and why, and the modules that were not found."""

    versions: Mapping[str, str] = field(repr=False)
    failed: tuple[Said, ...] = ()
    missing: tuple[str, ...] = ()

    def refusal(self, python: Path) -> SetupError:
        """Why the user's own ``python`` cannot train, and the command that gets it what it lacks."""
        lacks = requirements.distributions(self.missing)
        other = say("name the Python that sd-scripts runs with: --python")
        if not lacks:
            return SetupError(say("{python} cannot train: {why}", python=python, why=self.failed[0]), other)
        what = say(
            "{python} lacks what this training needs: {packages} ({why})",
            python=python,
            packages=", ".join(lacks),
            why=self.failed[0],
        )
        command = f"{python} -m pip install {' '.join(lacks)}"
        return SetupError(what, say("{command}, or {other}", command=command, other=other))


def health(python: Path, modules: Sequence[str], env: Mapping[str, str]) -> Health:
    """Import what training needs in the trainer's own Python, in a folder that takes what a package leaves behind."""
    with resources.trainer_side("health.py") as script, TemporaryDirectory() as folder:
        argv = [str(python), str(script), *modules]
        done = capture(argv, cwd=Path(folder), env=requirements.script_environment(env), timeout=600)
    answer = last_json(done.stdout)
    if answer is None:
        tail = " / ".join(done.stderr.strip().splitlines()[-3:])
        said = say(
            "{python} ended with {code} during the health check: {words}",
            python=python,
            code=done.returncode,
            words=tail,
        )
        return Health({}, (said,))
    versions = {str(name): str(version) for name, version in answer["versions"].items()}
    versions = {"python": str(answer["python"])} | versions
    failed = tuple(quoted(str(words)) for words in answer["failed"])
    return Health(versions, failed, tuple(map(str, answer["missing"])))


def last_json(text: str) -> dict[str, Any] | None:
    """The JSON object on the last line of a script's output; what its imports print comes before it."""
    lines = text.rstrip().splitlines()
    try:
        return _OBJECT.validate_json(lines[-1]) if lines else None
    except ValidationError:
        return None


__all__ = [
    "LANDMARKS",
    "Health",
    "check_version",
    "fill",
    "health",
    "interpreter",
    "last_json",
    "make",
    "of_checkout",
    "offers_cpu_torch",
    "own_place",
    "python_version",
]
