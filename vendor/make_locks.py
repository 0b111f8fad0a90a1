"""Makes the trainer's two locks and lorabake's own two, or checks (--check, no network) that they still fit.

    python vendor/make_locks.py trainer    from the .in files in this folder; needs uv and a package index
    python vendor/make_locks.py lorabake   from pyproject.toml, with the newest versions that fit it
    python vendor/make_locks.py --check

A lock is a complete pip requirements file: every package with its version and hashes, for pip's --require-hashes.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement

HERE = Path(__file__).parent
PROJECT = HERE.parent / "pyproject.toml"
DEVICES = ("cuda", "cpu")
# lorabake's own locks: what it needs to be built and to run, and on top of that what its developers need.
OWN, OWN_DEV = "lorabake.lock", "lorabake-dev.lock"
OLDEST_PYTHON = "3.11"
# Packages that may differ between the locks: torch's own family and what only CUDA needs.
TORCH_FAMILY = re.compile(r"torch|torchvision|xformers|bitsandbytes|triton|nvidia-.*|cuda-.*")
BLOCK = re.compile(
    r"^(?P<name>[a-z0-9][a-z0-9._-]*)==(?P<version>[^\s;]+)(?P<marker> ; [^\\\n]+?)?"
    r"(?P<hashes>(?: \\\n    --hash=sha256:[0-9a-f]{64})+)$",
    re.MULTILINE,
)
HASH = re.compile(r"[0-9a-f]{64}")
CPU_BUILD = re.compile(r"^# cpu-build: torch-(?P<version>[^+]+)\+cpu-\S+\.whl (?P<hash>[0-9a-f]{64})$", re.MULTILINE)
BUILD_FIRST = re.compile(r"^# build-first: .+$", re.MULTILINE)


def uv(output: Path, *inputs: str) -> None:
    """Resolve requirements for every platform and Python version; the output's name determines uv's format."""
    tool = shutil.which("uv") or str(Path(sys.executable).with_name("uv"))
    command = [
        tool,
        "pip",
        "compile",
        *inputs,
        "--universal",
        "--python-version",
        OLDEST_PYTHON,
        "--generate-hashes",
        "--no-header",
        "--no-annotate",
        "--no-emit-index-url",
        "--no-emit-find-links",
        "--quiet",
        "--output-file",
        str(output),
    ]
    subprocess.run(command, cwd=HERE, check=True)  # noqa: S603 - a fixed argv list


def cpu_torch_hashes(pylock: str, extra: str) -> list[str]:
    """Hashes of the torch wheels that contain a CPU build: macOS and Windows from the index, and the named one."""
    packages = tomllib.loads(pylock)["packages"]
    wheels = next(package["wheels"] for package in packages if package["name"] == "torch")
    kept = [wheel["hashes"]["sha256"] for wheel in wheels if re.search(r"-(macosx|win)[^-]*\.whl", wheel["url"])]
    return sorted([*kept, extra])


def line(pattern: re.Pattern[str], name: str) -> re.Match[str]:
    """The line of a .in file that this script reads itself."""
    found = pattern.search((HERE / name).read_text(encoding="utf-8"))
    if found is None:
        sys.exit(f"{name} lacks a line like {pattern.pattern}")
    return found


def make_trainer(device: str) -> None:
    target, config = HERE / f"trainer-{device}.txt", HERE / f"trainer-{device}.uv.toml"
    inputs = [f"trainer-{device}.in", *(["--config-file", str(config)] if config.exists() else [])]
    with tempfile.TemporaryDirectory() as folder:
        text, pylock = Path(folder) / "requirements.txt", Path(folder) / "pylock.toml"
        if target.exists():  # uv keeps the versions it finds in its output, so that a new lock changes little
            shutil.copy(target, text)
        uv(text, *inputs)
        lock = "".join(row for row in text.read_text(encoding="utf-8").splitlines(True) if not row.startswith("#"))
        if device == "cpu":
            uv(pylock, *inputs)
            lock = with_cpu_torch(lock, pylock.read_text(encoding="utf-8"))
    first = line(BUILD_FIRST, "trainer.in")[0]
    head = f"# Made by vendor/make_locks.py from trainer-{device}.in; do not edit.\n{first}\n"
    target.write_text(head + lock, encoding="utf-8", newline="\n")


def make_own() -> None:
    """The developers' lock is resolved first, so that whoever only runs lorabake has the same versions."""
    build = "\n".join(own_required()["build"])
    with tempfile.TemporaryDirectory() as folder:
        whole, part, setup = (Path(folder) / name for name in ("whole.txt", "part.txt", "build.in"))
        setup.write_text(build, encoding="utf-8")
        uv(whole, str(PROJECT), str(setup), "--extra", "dev")
        uv(part, str(PROJECT), str(setup), "--constraint", str(whole))
        everything, own = whole.read_text(encoding="utf-8"), part.read_text(encoding="utf-8")
    kept = {block[0] for block in BLOCK.finditer(own)}
    dev = "".join(f"{block[0]}\n" for block in BLOCK.finditer(everything) if block[0] not in kept)
    head = "# Made by `make dev-locks` from pyproject.toml; do not edit.\n"
    (HERE / OWN).write_text(head + own, encoding="utf-8", newline="\n")
    (HERE / OWN_DEV).write_text(f"{head}-r {OWN}\n{dev}", encoding="utf-8", newline="\n")


def own_required() -> dict[str, list[str]]:
    """What pyproject.toml asks for: to build lorabake, to run it, to develop it."""
    project: dict[str, Any] = tomllib.loads(PROJECT.read_text(encoding="utf-8"))
    declared = project["project"]
    return {
        "build": project["build-system"]["requires"],
        "run": declared["dependencies"],
        "dev": declared["optional-dependencies"]["dev"],
    }


def with_cpu_torch(lock: str, pylock: str) -> str:
    """The lock with torch's hashes replaced by those of its CPU builds."""
    build = line(CPU_BUILD, "trainer-cpu.in")
    hashes = cpu_torch_hashes(pylock, build["hash"])
    block = f"torch=={build['version']}" + "".join(f" \\\n    --hash=sha256:{value}" for value in hashes)
    return BLOCK.sub(lambda found: block if found["name"] == "torch" else found[0], lock)


def required(name: str) -> dict[str, set[str]]:
    """name -> versions ("" for any) that a .in file and the files it includes ask for."""
    wanted: dict[str, set[str]] = {}
    for line in (HERE / name).read_text(encoding="utf-8").splitlines():
        if line.startswith("-r "):
            wanted |= required(line[3:].strip())
        elif line and not line.startswith("#"):
            package, _, version = line.partition(";")[0].strip().partition("==")
            wanted.setdefault(package, set()).add(version)
    return wanted


def locked(text: str) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for block in BLOCK.finditer(text):
        found.setdefault(block["name"], set()).add(block["version"])
    return found


def unlocked(name: str) -> list[str]:
    """The lines of a lock that are not a package with its version and hashes."""
    text = BLOCK.sub("", (HERE / name).read_text(encoding="utf-8"))
    rest = [line for line in text.splitlines() if line and not line.startswith("#")]
    if name == OWN_DEV and rest[:1] == [f"-r {OWN}"]:
        del rest[0]
    return [f"{name}: not a pinned package with hashes: {line}" for line in rest]


def own_problems() -> list[str]:
    """What is wrong with lorabake's own locks. That nothing is missing deeper down pip sees: it refuses to install."""
    found = unlocked(OWN) + unlocked(OWN_DEV)
    own, dev = (locked((HERE / name).read_text(encoding="utf-8")) for name in (OWN, OWN_DEV))
    required = own_required()
    for name, lock, wanted in (
        (OWN, own, required["build"] + required["run"]),
        (OWN_DEV, own | dev, required["dev"]),
    ):
        for each in map(Requirement, wanted):
            versions = lock.get(re.sub(r"[-_.]+", "-", each.name).lower(), set())
            if not versions or not all(each.specifier.contains(version) for version in versions):
                found.append(f"{name}: needs {each}, has {' '.join(sorted(versions)) or 'none'}; run `make dev-locks`")
    return found


def problems(device: str) -> list[str]:
    """What is wrong with one of the trainer's locks by itself."""
    name = f"trainer-{device}.txt"
    text = (HERE / name).read_text(encoding="utf-8")
    lock, found = locked(text), unlocked(name)
    for package, versions in required(f"trainer-{device}.in").items():
        missing = {version for version in versions if version not in lock.get(package, set())} - {""}
        if package not in lock or missing:
            found.append(f"{name}: lacks {package} {' '.join(sorted(missing))}")
    first = BUILD_FIRST.search(text)
    tools = first[0].split()[2:] if first else ["a build-first line"]
    found += [f"{name}: lacks {tool}" for tool in tools if tool not in lock]
    if device == "cpu":
        build = CPU_BUILD.search((HERE / "trainer-cpu.in").read_text(encoding="utf-8"))
        if not build or build["hash"] not in HASH.findall(text):
            found.append(f"{name}: lacks the CPU build of torch")
    return found


def differences() -> list[str]:
    """Packages whose versions differ between the locks without a reason to."""
    cuda, cpu = (locked((HERE / f"trainer-{device}.txt").read_text(encoding="utf-8")) for device in DEVICES)
    return [
        f"{name}: cuda has {sorted(cuda.get(name, set()))}, cpu has {sorted(cpu.get(name, set()))}"
        for name in sorted(cuda.keys() | cpu.keys())
        if cuda.get(name) != cpu.get(name) and not TORCH_FAMILY.fullmatch(name)
    ]


def main() -> int:
    if sys.argv[1:] not in (["trainer"], ["lorabake"], ["--check"]):
        print(__doc__)
        return 2
    if sys.argv[1:] == ["lorabake"]:
        make_own()
    elif sys.argv[1:] == ["trainer"]:
        for device in DEVICES:
            make_trainer(device)
    found = [*(problem for device in DEVICES for problem in problems(device)), *differences(), *own_problems()]
    print("\n".join(found) or "four locks are complete and agree")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
