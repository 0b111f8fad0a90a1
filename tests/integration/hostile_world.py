"""A world for hostile run folders (hostile_runs.py): what they are made of, and what is looked at afterwards."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from stat import S_ISDIR, S_ISLNK, S_ISREG
from typing import Any

from own_trainer import OwnTrainer, environment
from trainer_world import git

import fake_sd_scripts
from lorabake.runs.launch_request import encode_command
from situations import RECIPE, project

PROGRAM = (sys.executable, "-P", "-m", "lorabake")
LIMIT_S = 60
SECRET = "xyzzy-93b1-secret"  # noqa: S105 - what nobody may print
# The size of this network is not planned: the stand-in's has 64 weights.
SETTINGS = """
[network]
type = "networks.lora_fa"
[train]
resolution = 256
max_train_steps = 15
[save]
save_state = true
save_every_n_steps = 2
save_every_n_epochs = 1
"""
# What sd-scripts does with these settings, which the stand-in else leaves out.
ACTS = """
def act(told):
    if told.get("console_log_file"):
        Path(told["console_log_file"]).write_text("overwritten")
    if told.get("sample_prompts"):
        print(Path(told["sample_prompts"]).read_text())
    Path(told["logging_dir"]).mkdir(parents=True, exist_ok=True)
    (Path(told["logging_dir"]) / "events.out.tfevents.1.x.1.0").write_text("written")
    if told["network_module"] != "networks.lora_fa":
        __import__(told["network_module"])


"""
RUNS = {
    "verify": ("verify", "{run}"),
    "diff": ("diff", "{run}", "{finished}"),
    "diff-recipe": ("diff", "{run}", "{project}/recipe.toml"),
    "inspect": ("inspect", "{run}/output/x-step00000012.safetensors"),
    "compare": ("compare", "{run}/output/x-step00000012.safetensors", "{finished}"),
    "check": ("check", "{project}/recipe.toml"),
    "plan": ("plan", "{project}/recipe.toml"),
    "rerun --dry-run": ("rerun", "{run}", "--dry-run"),
    "resume --dry-run": ("resume", "{run}", "--dry-run"),
    "resume": ("resume", "{run}", "--with-drift"),
    "rerun": ("rerun", "{run}", "--with-drift"),
    "verify own": ("verify", "{run}", "{flags}"),
    "rerun own": ("rerun", "{run}", "--with-drift", "{flags}"),
    "rerun own --refresh-cache": ("rerun", "{run}", "--with-drift", "--refresh-cache", "{flags}"),
    "resume own": ("resume", "{run}", "--with-drift", "{flags}"),
}
LOOKS = ("verify", "diff", "diff-recipe", "inspect", "compare", "check", "plan", "rerun --dry-run", "resume --dry-run")
STARTS = ("verify own", "resume", "rerun own", "resume own")
FEW = ("verify", "resume", "resume own")
Entry = tuple[object, ...]


@dataclass
class Base:
    """What every case starts from: a project with a finished and an interrupted run, and the user's own trainer."""

    folder: Path
    program: tuple[str, ...] = PROGRAM
    first: bool = False
    trainer: OwnTrainer = field(init=False)

    def __post_init__(self) -> None:
        self.trainer = OwnTrainer(self.folder / "trainer")
        script = Path(fake_sd_scripts.__file__).read_text("utf-8").replace('"delay": 0.0', '"batches": 5, "delay": 0.0')
        start = 'if __name__ == "__main__":\n'
        script = script.replace(start, f"{ACTS}{start}    act(parsed())\n")
        (self.trainer.checkout / "train_network.py").write_text(script, "utf-8")
        git(self.trainer.checkout, "commit", "-qam", "two")
        self.project = self.folder / "project"
        (self.folder / "home").mkdir(parents=True)
        project(self.project, SETTINGS, text=re.sub('name = "[a-z]+"', 'name = "x"', RECIPE, count=1), pictures=6)
        argv = [*self.program, "run", "recipe.toml", *self.trainer.flags]
        done = subprocess.run(
            argv, cwd=self.project, env=environment(self.folder / "home"), capture_output=True, text=True, timeout=120,
            check=False,
        )  # fmt: skip
        if done.returncode:
            raise RuntimeError(done.stdout + done.stderr)
        self._interrupt()

    def _interrupt(self) -> None:
        finished, root = self.project / "runs" / "x-001", self.project / "runs" / "x-002"
        shutil.copytree(finished, root)
        for name in ("x.safetensors", "x-step00000014.safetensors"):
            (root / "output" / name).unlink()
        for name in ("x-state", "x-step00000014-state"):
            shutil.rmtree(root / "output" / name)
        record = json.loads((root / "record.json").read_text("utf-8"))
        record |= {"status": "interrupted", "outcome": None, "cwd": str(root)}
        (root / "record.json").write_text(json.dumps(record), "utf-8")
        command = json.loads((root / "command.json").read_text("utf-8")) | {"cwd": str(root)}
        write_command(root, command)
        lines = (root / "events.jsonl").read_text("utf-8").splitlines(keepends=True)
        at = next(n for n, line in enumerate(lines) if '"step": 14,' in line)
        (root / "events.jsonl").write_text("".join(lines[:at]), "utf-8")


def write_command(root: Path, command: dict[str, Any]) -> None:
    """command.json to the byte as lorabake writes it, so that nothing but its content is noticed."""
    (root / "command.json").write_bytes(encode_command(**command))


class World:
    """One case: a copy of the project, things outside that nothing may touch, and a process nothing may signal."""

    def __init__(self, base: Base, folder: Path) -> None:
        self.base, self.folder = base, folder
        self.project, self.outside, self.home = folder / "project", folder / "outside", folder / "home"
        self.ran = folder / "ran"
        self.home.mkdir(parents=True)
        shutil.copytree(base.project, self.project)
        self.run, self.finished = self.project / "runs" / "x-002", self.project / "runs" / "x-001"
        self.env = environment(self.home) | {"https_proxy": "http://127.0.0.1:9", "GIT_TERMINAL_PROMPT": "0"}
        self.cwd = self.project
        for name in ("keep", "empty", "output/x-state"):
            (self.outside / name).mkdir(parents=True)
        for name in ("secret.txt", "keep/a.txt", "keep/x.safetensors", "keep/trainer.log", "output/x.safetensors"):
            (self.outside / name).write_text(f"{SECRET} {name}\n")
        (self.outside / "keep" / "record.json").write_text(json.dumps({"status": "started", "note": SECRET}))
        self.mark = os.urandom(16).hex()  # no other test's run may have it
        self.sleeper = subprocess.Popen(
            ["sleep", "600"], start_new_session=True, env={"PATH": os.defpath, "LORABAKE_RUN_MARK": self.mark}
        )

    # what the cases are made of

    def json(self, name: str) -> Any:
        return json.loads((self.run / name).read_text("utf-8"))

    def record(self, **changes: Any) -> None:
        """Change the record; ``trainer__python`` is a key of a table in it."""
        record = self.json("record.json")
        for key, value in changes.items():
            table, _, inner = key.rpartition("__")
            (record[table] if table else record)[inner] = value
        (self.run / "record.json").write_text(json.dumps(record), "utf-8")

    def rewrite(self, name: str, content: str) -> None:
        """A file of the run folder with other content and its digest in the record."""
        data = content.encode()
        (self.run / name).write_bytes(data)
        told = {"name": name, "sha256": hashlib.sha256(data).hexdigest(), "size": len(data)}
        record = self.json("record.json")
        key = {"plan.json": "plan_file", "inputs.json": "inputs_file", "recipe.toml": "recipe"}.get(name)
        if key:
            self.record(**{key: told})
        else:
            self.record(compiled=[each for each in record["compiled"] if each["name"] != name] + [told])

    def setting(self, option: str, value: str) -> None:
        """An option in train.toml and plan.json, digests included."""
        text = (self.run / "train.toml").read_text("utf-8")
        text = re.sub(rf"(?m)^{option} = .*\n", "", text) + f"{option} = {json.dumps(value)}\n"
        self.rewrite("train.toml", text)
        plan = self.json("plan.json")
        for each in plan["train"]:
            if each["option"] == option:
                each["value"] = value
        self.rewrite("plan.json", json.dumps(plan))

    def recipe(self, change: Callable[[str], str]) -> None:
        """Another recipe in record and folder, digests included."""
        text = change((self.run / "recipe.toml").read_text("utf-8"))
        self.rewrite("recipe.toml", text)
        self.record(recipe_text=text)

    def canary(self, name: str, folder: Path | None = None) -> Path:
        """A program that notes that it was started, and then is a Python."""
        path = (folder or self.outside / "bin") / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f'#!/bin/sh\necho "started $0" >>{self.ran}\nexec {self.base.trainer.python} "$@"\n')
        path.chmod(0o755)
        return path

    def module(self, *names: str, where: Path | None = None) -> None:
        """Python files that note that they were imported."""
        for name in names:
            path = (where or self.run) / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(f"open({str(self.ran)!r}, 'a').write({f'imported {name}' + chr(10)!r})\n")

    def checkout(self, folder: Path, config: str = "") -> Path:
        """A git repository that runs a canary whenever git looks at it."""
        folder.mkdir(parents=True, exist_ok=True)
        self.module("train_network.py", "library/__init__.py", "library/train_util.py", where=folder)
        (folder / ".gitattributes").write_text("* filter=evil\n")
        git(folder, "init", "-q", ".")
        git(folder, "add", ".")
        git(folder, "commit", "-qm", "one")
        program = self.canary("git-canary")
        with (folder / ".git" / "config").open("a") as file:
            file.write(
                f'[filter "evil"]\n\tclean = {program}\n\tsmudge = {program}\n\trequired = true\n[core]\n\tfsmonitor = '
                f"{program}\n\tsshCommand = {program}\n\tpager = {program}\n\teditor = {program}\n\thooksPath = "
                f"{program.parent}\n[alias]\n\tstatus = !{program}\n\trev-parse = !{program}\n[diff]\n\texternal = "
                f"{program}\n{config}"
            )
        for hook in ("post-index-change", "post-checkout", "pre-commit"):
            self.canary(hook)
        os.utime(folder / "train_network.py", (1, 1))
        return folder

    def link(self, name: str, target: Path | str) -> None:
        """A link in the place of whatever the run folder has there."""
        path = self.run / name
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        path.unlink(missing_ok=True)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.symlink_to(target)

    # what is looked at

    def watched(self) -> dict[str, Entry]:
        """Names, contents, times and links of all that is the user's and no part of the run folder."""
        own = [self.outside, self.project / "recipe.toml", self.project / "base.safetensors", self.project / "pics"]
        if self.run != self.finished:
            own.append(self.finished)
        found: dict[str, Entry] = {}
        for root in own:
            for path in (root, *root.rglob("*")):
                found[str(path.relative_to(self.folder))] = looked_at(path)
        return found

    def leaks(self) -> list[str]:
        """Files in the project that now have what only a file outside had."""
        found: list[str] = []
        for path in self.project.rglob("*"):
            state = path.lstat()
            if S_ISREG(state.st_mode) and state.st_nlink == 1 and state.st_size < 1 << 20:
                with suppress(OSError):
                    if SECRET.encode() in path.read_bytes():
                        found.append(str(path.relative_to(self.project)))
        return found

    def close(self) -> None:
        self.sleeper.kill()
        self.sleeper.wait()


def looked_at(path: Path) -> Entry:
    state = path.lstat()
    if S_ISLNK(state.st_mode):
        return "link", path.readlink()
    content = hashlib.sha256(path.read_bytes()).hexdigest() if S_ISREG(state.st_mode) else ""
    times = () if S_ISDIR(state.st_mode) and path.name == "empty" else (state.st_mtime_ns,)
    return state.st_mode, content, *times


@dataclass(frozen=True)
class Case:
    name: str
    tamper: Callable[[World], object]
    runs: tuple[str, ...]


@dataclass(frozen=True)
class Verdict:
    """``successes`` is empty when everything was blocked; ``codes`` are the exit codes, command by command."""

    case: str
    codes: dict[str, int]
    successes: tuple[str, ...]


def tried(base: Base, one: Case, folder: Path) -> Verdict:
    """Tamper with a copy, run the commands, and list what the run folder achieved."""
    world = World(base, folder)
    try:
        one.tamper(world)
        before, leaks = world.watched(), set(world.leaks())
        codes: dict[str, int] = {}
        found: list[str] = []
        for name in one.runs:
            code, said = started(world, name)
            codes[name] = code
            found += judged(name, code, said)
        after = world.watched()
        found += [f"changed {name}" for name in sorted({*before, *after}) if before.get(name) != after.get(name)]
        found += [f"copied a secret to {name}" for name in sorted({*world.leaks()} - leaks)]
        if world.ran.exists():
            found += sorted({f"ran: {line}" for line in world.ran.read_text().splitlines()})
        if world.sleeper.poll() is not None:
            found.append("signalled the user's process")
        return Verdict(one.name, codes, tuple(found))
    finally:
        world.close()


def judged(name: str, code: int, said: str) -> list[str]:
    found: list[str] = []
    if code == -signal.SIGKILL:
        found.append(f"{name}: did not end within {LIMIT_S} s")
    elif code == 3 or code < 0 or "Traceback (most" in said:
        found.append(f"{name}: crashed ({code}): {said.strip().splitlines()[-1][:150] if said.strip() else ''}")
    if SECRET in said:
        found.append(f"{name}: printed a secret")
    return found


def started(world: World, name: str) -> tuple[int, str]:
    """A command's exit code and all that it printed."""
    words: list[str] = []
    for each in RUNS[name]:
        if each == "{flags}":
            words += () if world.base.first and RUNS[name][0] in ("verify", "resume") else world.base.trainer.flags
        else:
            words.append(each.format(run=world.run, finished=world.finished, project=world.project))
    with tempfile.TemporaryFile() as out:
        child = subprocess.Popen(
            [*world.base.program, *words], cwd=world.cwd, env=world.env, stdin=subprocess.DEVNULL, stdout=out,
            stderr=out, start_new_session=True,
        )  # fmt: skip
        try:
            child.wait(LIMIT_S)
        except subprocess.TimeoutExpired:
            os.killpg(child.pid, signal.SIGKILL)
            child.wait()
        out.seek(0)
        return child.returncode, out.read().decode("utf-8", "replace")
