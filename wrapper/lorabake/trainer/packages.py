"""The trainer's packages: the content of a lock, what a plan needs, and pip's output during the installation."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lorabake.errors import LorabakeError, ResourceError, SetupError, UnreachableError
from lorabake.util.environment import make_child_env
from lorabake_schemas.messages import Message, msg

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from lorabake_schemas.plan import Plan

_LOCK_BLOCK = re.compile(
    r"^(?P<name>[A-Za-z0-9][\w.-]*)==(?P<version>[^\s;\\]+)[^\n]*\n(?:[ \t]+[^\n]*\n)*", re.MULTILINE
)
_BUILD_FIRST = re.compile(r"^# build-first: (.+)$", re.MULTILINE)

# Python's own variables would let other packages into the trainer's environment; a virtual environment's name would
# mislead tools; pip's would install something else, elsewhere or not at all: see PIP_SETTINGS.
_DROPPED_VARIABLES = ("PYTHON", "VIRTUAL_ENV", "CONDA_", "__PYVENV_LAUNCHER__", "PIP_", "DIST_EXTRA_CONFIG")
# The options of pip that stay the user's, from pip's files and variables alike: where packages are got, by which way,
# and where they are kept. Of `target`, `prefix`, `user`, `dry-run`, `python`, `constraint` and all others none counts.
PIP_SETTINGS = (
    "cache-dir",
    "cert",
    "client-cert",
    "default-timeout",
    "extra-index-url",
    "find-links",
    "index-url",
    "keyring-provider",
    "no-cache-dir",
    "no-index",
    "proxy",
    "pypi-url",
    "resume-retries",
    "retries",
    "timeout",
    "trusted-host",
    "use-deprecated",
    "use-feature",
)


def python_environment(env: Mapping[str, str], **changes: str) -> dict[str, str]:
    """The environment for the trainer's Python: the user's, less what would mix in other Pythons."""
    ours = {"PYTHONNOUSERSITE": "1", "PYTHONUTF8": "1", "PYTHONUNBUFFERED": "1", "HF_HUB_OFFLINE": "1"}
    return make_child_env(env, drop=_DROPPED_VARIABLES, **(ours | changes))


def script_environment(env: Mapping[str, str]) -> dict[str, str]:
    """The environment for a script of lorabake's in a trainer's Python: it imports from there alone, and adds nothing.

    By the environment and not by -I or -P: a Python of the user's own may be older than 3.11, and its packages may be
    in the user's own folder of them, which a training sees, too. The virtual environment of lorabake's own does not.
    """
    return python_environment(env, PYTHONSAFEPATH="1", PYTHONNOUSERSITE="", PYTHONDONTWRITEBYTECODE="1")


def parse_lock(lock: str) -> dict[str, str]:
    """Every package of a lock with its version; of several for different platforms, the last."""
    return {block["name"]: block["version"] for block in _LOCK_BLOCK.finditer(lock)}


def select_build_first(lock: str) -> str:
    """The part of a lock to install before the rest: what builds packages that exist as source only. May be empty."""
    line = _BUILD_FIRST.search(lock)
    names = set(line[1].split()) if line else set[str]()
    return "".join(block[0] for block in _LOCK_BLOCK.finditer(lock) if block["name"] in names)


# Modules whose package has another name than its module with dashes.
_PACKAGE_BY_MODULE = {
    "PIL": "pillow",
    "cv2": "opencv-python",
    "lycoris": "lycoris-lora",
    "prodigyplus": "prodigy-plus-schedule-free",
}


def find_distributions(modules: Iterable[str]) -> tuple[str, ...]:
    """What to ask pip for, to have these modules; each once, in their order."""
    tops = (module.partition(".")[0] for module in modules)
    return tuple(dict.fromkeys(_PACKAGE_BY_MODULE.get(top, top.replace("_", "-")) for top in tops))


def list_required_modules(plan: Plan) -> tuple[str, ...]:
    """The modules that sd-scripts imports for this plan, in addition to the pin's ``modules``; sorted.

    Those of the network, the optimizer, the scheduler, attention and the loggers (TU:4881-5140, 5299, 5443-5457).
    """
    network = str(plan.value("network_module") or "")
    wanted = {
        *_optimizer_modules(plan),
        *_module_of_class(str(plan.value("lr_scheduler_type") or "")),
        *({network} if network and not network.startswith("networks.") else ()),  # those are sd-scripts' own
        *(("xformers.ops",) if plan.value("xformers") else ()),
        *(("wandb",) if plan.value("log_with") in {"wandb", "all"} else ()),
        *(("tensorboard",) if plan.value("logging_dir") and plan.value("log_with") != "wandb" else ()),
    }
    return tuple(sorted(wanted))


def _optimizer_modules(plan: Plan) -> set[str]:
    name = str(plan.value("optimizer_type") or "")
    low = name.lower()
    ways = {
        "lion_pytorch": low == "lion" or bool(plan.value("use_lion_optimizer")),
        "bitsandbytes": low.endswith("8bit") or low.startswith("pagedadamw") or bool(plan.value("use_8bit_adam")),
        "dadaptation": low.startswith("dadapt"),
        "prodigyopt": low == "prodigy",
        "schedulefree": low.endswith("schedulefree") or bool(plan.value("optimizer_schedulefree_wrapper")),
    }
    return {module for module, used in ways.items() if used} | _module_of_class(name)


def _module_of_class(name: str) -> set[str]:
    """The module before a class's name; without one the class is torch's."""
    module = name.rpartition(".")[0]
    return {module} if module else set()


def parse_requirements(text: str) -> dict[str, str]:
    """Every requirement of a requirements.txt by its package's name; a line without one is used as its own name."""
    lines = (line.partition(" #")[0].strip() for line in text.splitlines())
    found: dict[str, str] = {}
    for line in lines:
        if line and not line.startswith("#"):
            named = re.match(r"[A-Za-z0-9][\w.-]*", line)
            found[re.sub(r"[-_.]+", "-", named[0]).lower() if named else line] = line
    return found


def compare_requirements(theirs: str, ours: str) -> tuple[Message, ...]:
    """In what a commit's requirements.txt differs from the pin's, line by line."""
    wanted, had = parse_requirements(theirs), parse_requirements(ours)
    found: list[Message] = []
    for name in dict.fromkeys((*wanted, *had)):
        there, here = wanted.get(name), had.get(name)
        if there is not None and here is None:
            found.append(msg("this commit requires {there}, the pinned commit does not", there=there))
        elif there is None and here is not None:
            found.append(msg("this commit does not require {here}, the pinned commit does", here=here))
        elif there is not None and here is not None and there != here:
            found.append(msg("this commit requires {there}, the pinned commit requires {here}", there=there, here=here))
    return tuple(found)


_PIP_STEP = re.compile(
    r"Collecting (?P<name>[^\s=]+)==(?P<version>\S+)"
    r"|Requirement already satisfied: (?P<had>[^\s=]+)==(?P<had_version>\S+)"
    r"|Processing (?:\S*[/\\])?(?P<file>[^/\\\s-]+)-(?P<file_version>[^-/\\\s]+)(?:-\S+\.whl|\.tar\.gz)"
)
_BIG_DOWNLOAD = re.compile(r"\s*Downloading (?P<file>[^\s-]+)-\S+ \((?P<size>\d{2,}(?:\.\d)? [MG]B)\)")


@dataclass(slots=True)
class PipProgress:
    """Turns pip's lines into a few short ones for a person. ``total`` counts the packages still to come and done."""

    total: int
    seen: int = 0

    @classmethod
    def of(cls, lock: str) -> PipProgress:
        return cls(sum(1 for _ in _LOCK_BLOCK.finditer(lock)))

    def line(self, said: str) -> Message | None:
        """What to show for one line of pip's, None for nothing."""
        if said.startswith("Ignoring "):  # its marker is for other machines
            self.total -= 1
        elif step := _PIP_STEP.match(said):
            self.seen += 1
            name, version = (part for part in step.groups() if part)
            return msg(
                "installing {number}/{total} {package} {version}",
                number=self.seen,
                total=self.total,
                package=name.replace("_", "-"),
                version=version,
            )
        elif big := _BIG_DOWNLOAD.match(said):
            return msg("downloading {package} ({size})", package=big["file"].replace("_", "-"), size=big["size"])
        elif said.startswith("Installing collected packages"):
            return msg("unpacking {total} packages", total=self.total)
        return None


_NO_NETWORK = (
    "NewConnectionError",
    "Failed to establish a new connection",
    "Max retries exceeded",
    "ConnectTimeoutError",
    "Temporary failure in name resolution",
    "ReadTimeoutError",
    "ProxyError",
    "SSLError",
    "ConnectionResetError",
    "Could not fetch URL",
)
_HASH_MISMATCH = "DO NOT MATCH THE HASHES"


def explain_pip_failure(said: Sequence[str]) -> LorabakeError:
    """Why pip failed, by its last output."""
    text = "\n".join(said)
    tail = msg("pip reported: {words}", words=" / ".join(line.strip() for line in said[-4:] if line.strip()))
    if "No space left on device" in text or "[Errno 28]" in text:
        return ResourceError(
            msg("the disk is full"), msg("free some space, or set LORABAKE_HOME to a folder on another disk")
        )
    if _HASH_MISMATCH in text:
        named = re.search(r"^\s+(\S+) from (\S+?)(?: \(from .*)?:?$", text.partition(_HASH_MISMATCH)[2], re.MULTILINE)
        what = msg("{package} from {url}", package=named[1], url=named[2]) if named else msg("a package")
        hint = msg(
            "do not install it: the package index that pip uses has a different file under this name; use another index"
        )
        return SetupError(msg("pip downloaded {what}, but its hash does not match the lock file", what=what), hint)
    missing = re.search(r"No matching distribution found for (\S+)", text)
    if any(words in text for words in _NO_NETWORK):
        hint = msg(
            "check the network, or pip's settings (pip config, PIP_INDEX_URL, PIP_PROXY, PIP_CERT); {words}",
            words=tail,
        )
        if missing:
            return UnreachableError(
                msg("pip cannot reach its package index to get {package}", package=missing[1]), hint
            )
        return UnreachableError(msg("pip cannot reach its package index"), hint)
    if missing:
        hint = msg("the index in pip's configuration (pip config list) does not have it or cannot be reached")
        return SetupError(msg("pip found no {package} for this Python and machine", package=missing[1]), hint)
    return SetupError(msg("pip could not install the trainer's packages"), tail)
