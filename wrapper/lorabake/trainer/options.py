"""What a commit of sd-scripts understands, read from its own parsers and saved next to its trainer."""

from __future__ import annotations

import hashlib
import shutil
import uuid
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory

from pydantic import TypeAdapter

from lorabake.errors import SetupError
from lorabake.trainer import checkout as pinned
from lorabake.trainer import packages, store, venv
from lorabake.util import resources
from lorabake.util.files import disk_error
from lorabake.util.process import capture_output
from lorabake_schemas.families.registry import list_scripts
from lorabake_schemas.messages import Message, msg
from lorabake_schemas.options import OptionSnapshot
from lorabake_schemas.pin import Pin
from lorabake_schemas.signatures import Signatures

Env = Mapping[str, str]
Tell = Callable[[Message], None]
FAILED_FILE = "failed.json"
_FAILED_ADAPTER = TypeAdapter(dict[str, str])
OPTIONS_SCRIPT, SIGNATURES_SCRIPT = "dump_options.py", "dump_signatures.py"


class ScriptImportError(SetupError):
    """Scripts cannot start, because something that they import is missing: ``failed`` has the exception of each."""

    def __init__(self, message: Message, hint: Message, failed: Mapping[str, str]) -> None:
        super().__init__(message, hint)
        self.failed = failed


def options_path(folder: Path) -> Path:
    """The file with the options in a trainer's folder; a different one for each version of the scripts that read
    them.
    """
    made_by = hashlib.sha256()
    for name in (OPTIONS_SCRIPT, SIGNATURES_SCRIPT):
        made_by.update(resources.trainer_script_text(name).encode())
    return folder / f"options-{made_by.hexdigest()[:8]}"


def extract_options(python: Path, checkout: Path, folder: Path, commit: str, env: Env) -> OptionSnapshot:
    """Ask the parsers of a checkout, with a Python that can import it, and keep the answer in ``folder``.

    Raises ScriptImportError when something is missing that its scripts import, SetupError when they do not answer for
    another reason, OSError when the folder cannot be written.
    """
    aside = folder.with_name(f"{folder.name}.{uuid.uuid4().hex}.tmp")
    aside.mkdir(parents=True)
    try:
        with resources.trainer_script(OPTIONS_SCRIPT) as script:
            argv = [str(python), str(script), str(aside), *list_scripts()]
            done = capture_output(argv, cwd=checkout, env=packages.script_environment(env), timeout=600)
        read_signatures(python, checkout, aside, env)
        made = load_options(aside, commit)
        if not done.ok or made is None:
            words = "".join(done.stderr.strip().splitlines()[-1:]) or f"{done.returncode}"
            said = msg("sd-scripts {commit} does not work with lorabake's packages: {why}", commit=commit, why=words)
            hint, failed = msg("use another commit, or omit --commit"), _read_failed(aside)
            raise ScriptImportError(said, hint, failed) if failed else SetupError(said, hint)
        shutil.rmtree(folder, ignore_errors=True)
        with suppress(OSError):  # another lorabake was quicker
            aside.rename(folder)
        return made
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _read_failed(folder: Path) -> dict[str, str]:
    try:
        return _FAILED_ADAPTER.validate_json((folder / FAILED_FILE).read_bytes())
    except (OSError, ValueError):
        return {}


def read_signatures(python: Path, checkout: Path, folder: Path, env: Env) -> Signatures:
    """Write what the networks, optimizers and schedulers of a trainer take into ``folder``: read from their source,
    nothing of it is run. Empty where it cannot be read. Raises OSError when the folder cannot be written."""
    with resources.trainer_script(SIGNATURES_SCRIPT) as script:
        argv = [str(python), str(script), str(folder)]
        capture_output(argv, cwd=checkout, env=packages.script_environment(env), timeout=600)
    file = folder / resources.SIGNATURES_FILE
    try:
        return Signatures.model_validate_json(file.read_bytes())
    except (OSError, ValueError):
        file.write_text("{}\n", encoding="utf-8")
        return Signatures()


def load_options(folder: Path, commit: str) -> OptionSnapshot | None:
    """What ``make`` kept there; None when that is not to be understood."""
    try:
        return resources.read_snapshot(commit, lambda name: (folder / name).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def find_installed_options(pin: Pin, home: Path, env: Env) -> OptionSnapshot | None:
    """What the pin's commit understands, or another one whose trainer is installed; None without a trainer.

    Raises SetupError if a trainer does not answer.
    """
    if pin.commit == resources.load_pin().commit:
        return resources.load_snapshot()
    for marker, folder in store.list_complete(home):
        python, checkout = venv.interpreter_path(folder / "venv"), folder / "sd-scripts"
        if (marker.url, marker.commit) == (pin.url, pin.commit) and python.exists() and checkout.is_dir():
            return load_options(options_path(folder), pin.commit) or extract_options(
                python, checkout, options_path(folder), pin.commit, env
            )
    return None


def require_options(pin: Pin, home: Path, env: Env) -> OptionSnapshot:
    """The same. Raises SetupError when the commit's trainer is not installed."""
    found = find_installed_options(pin, home, env)
    if found is None:
        raise not_installed_error(pin.commit)
    return found


def not_installed_error(commit: str) -> SetupError:
    """What to do about a commit whose trainer is not installed."""
    hint = msg("install it with `lorabake trainer install --commit {commit}`", commit=commit)
    return SetupError(msg("sd-scripts {commit} is not installed", commit=commit), hint)


def fetch_options(pin: Pin, home: Path, env: Env, tell: Tell) -> OptionSnapshot:
    """What a commit understands that need not be installed: fetched aside and asked with the packages of a trainer
    that is, once. Raises SetupError when it cannot be fetched, or when no trainer is installed."""
    found = find_installed_options(pin, home, env)
    kept = options_path(home / "options" / pin.commit)
    found = found or load_options(kept, pin.commit)
    if found is not None:
        return found
    python = _find_python(home)
    if python is None:
        said = msg(
            "reading the options of sd-scripts {commit} needs the trainer's packages, which are not installed",
            commit=pin.commit,
        )
        raise SetupError(said, msg("install them with `lorabake trainer install`"))
    try:
        with TemporaryDirectory() as folder:
            checkout = Path(folder) / "sd-scripts"
            tell(msg("fetching sd-scripts {commit} from {url}", commit=pin.commit[:12], url=pin.url))
            pinned.fetch_checkout(pin, checkout, env)
            tell(msg("reading the options of sd-scripts"))
            return extract_options(python, checkout, kept, pin.commit, env)
    except OSError as error:
        said = msg("cannot write to {folder}: {why}", folder=home, why=error.strerror or str(error))
        raise disk_error(
            error, said, msg("free some space, or set LORABAKE_HOME to a writable folder"), otherwise=SetupError
        ) from error


def _find_python(home: Path) -> Path | None:
    """That of any trainer: all have the pin's packages. The pin's own comes first."""
    trainers = sorted(store.list_complete(home), key=lambda each: each[0].commit != resources.load_pin().commit)
    pythons = (venv.interpreter_path(folder / "venv") for _, folder in trainers)
    return next((python for python in pythons if python.exists()), None)
