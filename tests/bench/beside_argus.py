"""lorabake check beside argus-forge 0.1.1 (`inspect`): CPU time, and how many of the faulty sets each one names.

    python tests/bench/beside_argus.py [RUNS]

Installs argus-forge into a virtual environment of its own. Start-up, 1,000 and 10,000 small pictures with captions;
lorabake once with nothing known of the files and once again with nothing changed. A fault counts as named by lorabake
when the finding has the rule and the words that tests/faults expects; by argus-forge, which knows no findings, when
`inspect` or `config --dry-run` says anything else than of the clean set: a generous count, a different number of
pictures is enough. Prints, judges nothing.
"""

from __future__ import annotations

import json
import os
import re
import resource
import statistics
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "faults"))

import faulty_sets

ARGUS = "argus-forge[cli]==0.1.1"
LORABAKE = [sys.executable, "-m", "lorabake"]
FLAGS = (("inspect",), ("config", "--trainer", "kohya", "--dry-run"))


def main(runs: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        argus = install(root / "argus")
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
        environment |= {"XDG_CACHE_HOME": str(root / "cache"), "COLUMNS": "1000", "NO_COLOR": "1"}
        times(root, argus, environment, runs)
        faults(root, argus, environment)


def install(folder: Path) -> str:
    venv.create(folder, with_pip=True)
    python = str(folder / "bin" / "python")
    subprocess.run([python, "-m", "pip", "install", "-q", ARGUS], check=True, stderr=subprocess.DEVNULL)
    return str(folder / "bin" / "argus-forge")


def times(root: Path, argus: str, environment: dict[str, str], runs: int) -> None:
    print(f"{'':<24}{'argus-forge inspect':>22}{'lorabake check':>18}{'again':>10}   s CPU, median of {runs}")
    print(row("start-up (--help)", [[argus, "--help"], [*LORABAKE, "--help"]], environment, runs))
    for count in (1_000, 10_000):
        project = root / f"set{count}"
        small_set(project, count)
        look = [argus, "inspect", str(project / "pictures")]
        check = [*LORABAKE, "check", str(project / "recipe.toml")]
        cold = [cpu_seconds(check, environment | {"XDG_CACHE_HOME": str(root / f"cache{n}")}) for n in range(runs)]
        warm = environment | {"XDG_CACHE_HOME": str(root / "cache0")}
        theirs = [cpu_seconds(look, environment) for _ in range(runs)]
        again = [cpu_seconds(check, warm) for _ in range(runs)]
        medians = [statistics.median(each) for each in (theirs, cold, again)]
        print(f"{count:>6,} pictures         {medians[0]:>22.2f}{medians[1]:>18.2f}{medians[2]:>10.2f}")


def row(name: str, commands: list[list[str]], environment: dict[str, str], runs: int) -> str:
    found = [statistics.median(cpu_seconds(each, environment) for _ in range(runs + 1)) for each in commands]
    return f"{name:<24}{found[0]:>22.2f}{found[1]:>18.2f}"


def cpu_seconds(command: list[str], environment: dict[str, str]) -> float:
    """User and system time of one run, whatever it finds."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False, env=environment)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def small_set(project: Path, count: int) -> None:
    """Different images of 96 pixels, with the captions of the clean set."""
    (project / "pictures").mkdir(parents=True)
    for number in range(count):
        faulty_sets.picture(number, (96, 96)).save(project / "pictures" / f"{number:06}.png")
        (project / "pictures" / f"{number:06}.txt").write_text(faulty_sets.caption(number), "utf-8")
    faulty_sets.base(project / "base.safetensors")
    (project / "recipe.toml").write_text(faulty_sets.recipe(), "utf-8")
    old = 1_700_000_000  # as a set is that lay there before
    for path in (project / "pictures").iterdir():
        os.utime(path, (old, old))


def faults(root: Path, argus: str, environment: dict[str, str]) -> None:
    clean = root / "clean"
    faulty_sets.write(clean)
    usual = said(argus, clean, environment)
    theirs = list[str]()
    ours = list[str]()
    for fault in faulty_sets.FAULTS:
        project = root / "faulty" / fault.name
        faulty_sets.write(project)
        fault.spoil(project)
        (project / "recipe.toml").write_text(faulty_sets.recipe(fault), "utf-8")
        if said(argus, project, environment) != usual:
            theirs.append(fault.name)
        if named(project, fault, environment):
            ours.append(fault.name)
    print(f"faulty sets named: argus-forge {len(theirs)} of {len(faulty_sets.FAULTS)}, lorabake {len(ours)}")
    print(f"argus-forge says something else than of the clean set for: {', '.join(theirs)}")


def said(argus: str, project: Path, environment: dict[str, str]) -> list[str]:
    """Everything it prints of a set, without the path."""
    words = list[str]()
    for first, *flags in FLAGS:
        command = [argus, first, str(project / "pictures"), *flags]
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
        words.append(re.sub(re.escape(str(project)), "PROJECT", done.stdout + done.stderr))
    return words


def named(project: Path, fault: faulty_sets.Fault, environment: dict[str, str]) -> bool:
    command = [*LORABAKE, "check", str(project / "recipe.toml"), "--json", *(["--deep"] if fault.deep else [])]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    return any(each["rule"] == fault.rule and fault.says in each["message"] for each in findings(done.stdout))


def findings(text: str) -> list[dict[str, str]]:
    report: dict[str, list[dict[str, str]]] = json.loads(text)
    return report["findings"]


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 3)
