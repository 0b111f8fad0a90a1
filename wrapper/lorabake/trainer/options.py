"""What a commit of sd-scripts understands, read from its own parsers and kept beside its trainer."""

from __future__ import annotations

import hashlib
import shutil
import uuid
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory

from lorabake import resources
from lorabake.errors import SetupError
from lorabake.process import capture
from lorabake.trainer import pinned, requirements, store, venv
from lorabake_schemas.options import Snapshot
from lorabake_schemas.pin import Pin
from lorabake_schemas.words import Said, say

Env = Mapping[str, str]
Tell = Callable[[Said], None]
SCRIPT = "dump_options.py"


def place(folder: Path) -> Path:
    """Where options lie in a trainer's folder; another one for each version of the script that reads them."""
    with resources.trainer_side(SCRIPT) as script:
        made_by = hashlib.sha256(script.read_bytes()).hexdigest()[:8]
    return folder / f"options-{made_by}"


def make(python: Path, checkout: Path, folder: Path, commit: str, env: Env) -> Snapshot:
    """Ask the parsers of a checkout, with a Python that can import it, and keep the answer in ``folder``.

    Raises SetupError when that commit cannot be imported with these packages, OSError when the folder cannot be
    written.
    """
    aside = folder.with_name(f"{folder.name}.{uuid.uuid4().hex}.tmp")
    aside.mkdir(parents=True)
    try:
        with resources.trainer_side(SCRIPT) as script:
            argv = [str(python), str(script), str(aside)]
            done = capture(argv, cwd=checkout, env=requirements.script_environment(env), timeout=600)
        made = read(aside, commit)
        if not done.ok or made is None:
            words = " / ".join(done.stderr.strip().splitlines()[-2:]) or f"{done.returncode}"
            said = say("sd-scripts {commit} does not work with lorabake's packages: {why}", commit=commit, why=words)
            raise SetupError(said, say("name another commit, or leave --commit out"))
        shutil.rmtree(folder, ignore_errors=True)
        with suppress(OSError):  # another lorabake was quicker
            aside.rename(folder)
        return made
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def read(folder: Path, commit: str) -> Snapshot | None:
    """What ``make`` kept there; None when that is not to be understood."""
    try:
        return resources.read_snapshot(commit, lambda name: (folder / name).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def installed(pin: Pin, home: Path, env: Env) -> Snapshot | None:
    """What the pin's commit understands, or another one whose trainer is installed; None when there is none.

    Raises SetupError when a trainer does not answer.
    """
    if pin.commit == resources.pin().commit:
        return resources.snapshot()
    for marker, folder in store.complete(home):
        python, checkout = venv.interpreter(folder / "venv"), folder / "sd-scripts"
        if (marker.url, marker.commit) == (pin.url, pin.commit) and python.exists() and checkout.is_dir():
            return read(place(folder), pin.commit) or make(python, checkout, place(folder), pin.commit, env)
    return None


def known(pin: Pin, home: Path, env: Env) -> Snapshot:
    """The same. Raises SetupError when the commit's trainer is not installed."""
    found = installed(pin, home, env)
    if found is None:
        raise not_installed(pin.commit)
    return found


def not_installed(commit: str) -> SetupError:
    """What to do about a commit whose trainer is not there."""
    hint = say("install it: `lorabake trainer install --commit {commit}`", commit=commit)
    return SetupError(say("sd-scripts {commit} is not installed", commit=commit), hint)


def looked_up(pin: Pin, home: Path, env: Env, tell: Tell) -> Snapshot:
    """What a commit understands that need not be installed: fetched aside and asked with the packages of a trainer
    that is, once. Raises SetupError when it cannot be fetched, or when no trainer is installed."""
    found = installed(pin, home, env)
    kept = place(home / "options" / pin.commit)
    found = found or read(kept, pin.commit)
    if found is not None:
        return found
    python = _python(home)
    if python is None:
        said = say("the options of sd-scripts {commit} are read with the trainer's packages", commit=pin.commit)
        raise SetupError(said, say("install them: `lorabake trainer install`"))
    try:
        with TemporaryDirectory() as folder:
            checkout = Path(folder) / "sd-scripts"
            tell(say("fetching sd-scripts {commit} from {url}", commit=pin.commit[:12], url=pin.url))
            pinned.check_out(pin, checkout, env)
            tell(say("reading its options"))
            return make(python, checkout, kept, pin.commit, env)
    except OSError as error:
        said = say("cannot write in {folder}: {why}", folder=home, why=error.strerror or str(error))
        raise SetupError(said, say("free some space, or set LORABAKE_HOME to a folder that can be written")) from error


def _python(home: Path) -> Path | None:
    """That of any trainer: all have the pin's packages. The pin's own comes first."""
    trainers = sorted(store.complete(home), key=lambda each: each[0].commit != resources.pin().commit)
    pythons = (venv.interpreter(folder / "venv") for _, folder in trainers)
    return next((python for python in pythons if python.exists()), None)


__all__ = ["installed", "known", "looked_up", "make", "not_installed", "place", "read"]
