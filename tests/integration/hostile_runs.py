"""Hostile run folders: each tries to run, read, write, move or delete something outside itself, or to stop a process.

As a script it prints one line for each and a summary: ``python tests/integration/hostile_runs.py --program "python -P
-m lorabake" [CASE...]``. With ``--first`` for an edition whose verify and resume take no --sd-scripts.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shlex
import shutil
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from pathlib import Path
from stat import S_IFSOCK
from typing import Any

if __name__ == "__main__":
    sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1] / "unit")]

from hostile_world import FEW, LOOKS, PROGRAM, SECRET, STARTS, Base, Case, Verdict, World, tried, write_command

from lorabake.util import process_guard, resources
from lorabake.util.owners import current_owner

CASES: dict[str, Case] = {}


def case(*runs: str, name: str = "") -> Callable[[Callable[[World], object]], Callable[[World], object]]:
    def add(tamper: Callable[[World], object]) -> Callable[[World], object]:
        known = name or tamper.__name__.removeprefix("_").replace("_", "-")
        assert known not in CASES
        CASES[known] = Case(known, tamper, runs or FEW)
        return tamper

    return add


# A program, an environment or a folder that the record names


@case(*LOOKS, *STARTS)
def _another_python(w: World) -> None:
    w.record(trainer__python=str(w.canary("python")))


@case(*LOOKS, *STARTS)
def _another_checkout(w: World) -> None:
    w.record(trainer__checkout=str(w.checkout(w.outside / "evil")))


@case("verify", "diff", "diff-recipe", "rerun --dry-run", *STARTS)
def _checkout_and_python_in_the_run_folder(w: World) -> None:
    place = w.checkout(w.run / "sd-scripts")
    w.record(trainer__checkout=str(place), trainer__python=str(w.canary("python", w.run / "bin")))


@case()
def _relative_python(w: World) -> None:
    w.canary("python", w.run)
    w.cwd = w.run
    w.record(trainer__python="python", trainer__checkout=".")


@case()
def _pins_trainer_with_another_python(w: World) -> None:
    commit = resources.load_pin().commit
    w.env["PATH"] = str(w.outside / "empty")
    w.record(trainer__kind="pin", trainer__commit=commit, trainer__python=str(w.canary("python")))


@case()
def _argv_in_record_and_command(w: World) -> None:
    argv = [str(w.canary("evil")), "-c", "1"]
    w.record(argv=argv)
    write_command(w.run, w.json("command.json") | {"argv": argv})


@case()
def _argv_with_another_script(w: World) -> None:
    w.module("evil.py", where=w.outside)
    script = str(w.outside / "evil.py")
    argv = [script if each.endswith("train_network.py") else each for each in w.json("record.json")["argv"]]
    w.record(argv=argv)
    write_command(w.run, w.json("command.json") | {"argv": argv})


@case()
def _argv_with_code(w: World) -> None:
    argv = [w.json("record.json")["argv"][0], "-c", f"open({str(w.ran)!r}, 'a').write('argv')"]
    w.record(argv=argv)


@case()
def _argv_with_another_output(w: World) -> None:
    argv = [*w.json("record.json")["argv"], "--output_dir", str(w.outside / "output")]
    w.record(argv=argv)
    write_command(w.run, w.json("command.json") | {"argv": argv})


@case()
def _argv_of_a_part(w: World) -> None:
    record = w.json("record.json")
    part = {
        "number": 1, "started": record["started"], "ended": record["started"], "status": "interrupted",
        "argv": [str(w.canary("evil"))],
    }  # fmt: skip
    w.record(parts=[part])


@case(name="state-of-a-part-outside")
def _state(w: World) -> None:
    record = w.json("record.json")
    part = {"number": 1, "started": record["started"], "ended": None, "status": "interrupted", "argv": record["argv"],
            "state": "../../../outside/output/x-state"}  # fmt: skip
    w.record(parts=[part])


@case()
def _environment_with_a_path_of_modules(w: World) -> None:
    w.module("sitecustomize.py", "json.py", where=w.outside / "modules")
    changed = {"PYTHONPATH": str(w.outside / "modules"), "PATH": str(w.canary("git").parent)}
    w.record(environment=w.json("record.json")["environment"] | changed)
    command = w.json("command.json")
    write_command(w.run, command | {"environment": command["environment"] | changed})


@case()
def _environment_with_startup_and_preload(w: World) -> None:
    w.module("start.py", where=w.outside)
    changed = {
        "PYTHONSTARTUP": str(w.outside / "start.py"), "LD_PRELOAD": str(w.outside / "evil.so"),
        "PYTHONSAFEPATH": "", "GIT_SSH_COMMAND": str(w.canary("ssh")), "BASH_ENV": str(w.outside / "start.py"),
    }  # fmt: skip
    w.record(environment=w.json("record.json")["environment"] | changed)


@case()
def _current_folder_elsewhere(w: World) -> None:
    w.record(cwd=str(w.outside))
    write_command(w.run, w.json("command.json") | {"cwd": str(w.outside)})


@case("verify", "diff", "rerun --dry-run", "resume", "rerun")
def _commit_that_is_an_option(w: World) -> None:
    w.record(trainer__kind="pin", trainer__commit=f"--upload-pack={w.canary('evil')}")


@case("verify", "diff", "rerun --dry-run", "resume", "rerun")
def _url_that_is_a_program(w: World) -> None:
    program = w.canary("evil")
    w.record(trainer__kind="pin", trainer__url=f"ext::sh -c {program}", trainer__commit="a" * 40)


@case("verify", "diff", "resume", "rerun")
def _lock_of_packages_elsewhere(w: World) -> None:
    lock = w.outside / "lock.txt"
    lock.write_text(f"evil @ file://{w.outside}/keep\n# {SECRET}\n")
    w.record(trainer__kind="pin", trainer__lock=str(lock), trainer__lock_sha256="0" * 64)


# git


@case("verify", "diff", "rerun --dry-run", "resume --dry-run", "verify own", "resume", "rerun own", "resume own")
def _git_folder_in_the_run_folder(w: World) -> None:
    w.checkout(w.run)
    w.cwd = w.run


@case("verify", "plan", "verify own", "resume", "rerun own", "resume own")
def _git_folder_in_the_current_folder(w: World) -> None:
    w.checkout(w.project)


@case()
def _git_file_that_leads_elsewhere(w: World) -> None:
    w.checkout(w.outside / "evil")
    (w.run / ".git").write_text(f"gitdir: {w.outside}/evil/.git\n")
    w.cwd = w.run


@case()
def _git_includes(w: World) -> None:
    (w.outside / "more").write_text(f"[core]\n\tfsmonitor = {w.canary('monitor')}\n")
    w.checkout(w.run / "sd-scripts", f"[include]\n\tpath = {w.outside}/more\n")
    w.record(trainer__checkout="sd-scripts")
    w.cwd = w.run


# Programs and modules in the current folder


def _programs(w: World, path: str) -> None:
    for name in ("git", "nvidia-smi", "accelerate", "python", "python3", "python3.11", "lspci", "lscpu", "ldconfig"):
        w.canary(name, w.run)
    w.cwd = w.run
    w.env["PATH"] = path.format(path=w.env["PATH"])


for _name, _path in {
    "dot-in-path": ".:{path}",
    "empty-entry-in-path": ":{path}",
    "relative-entry-in-path": "../x-002:{path}",
    "path-of-nothing-else": ".",
    "dot-slash-in-path": "./:{path}",
}.items():

    @case("check", "verify own", "rerun own", name=_name)
    def _in_path(w: World, path: str = _path) -> None:
        _programs(w, path)


MODULES = {
    "modules-of-python": ("json.py", "platform.py", "venv.py", "argparse.py", "random.py", "sqlite3.py", "typing.py"),
    "modules-of-the-trainer": ("torch.py", "accelerate/__init__.py", "library/__init__.py", "toml.py",
                               "networks/lora.py", "networks/__init__.py"),
    "modules-at-start": ("sitecustomize.py", "usercustomize.py", "evil.pth", "_distutils_hack/__init__.py"),
    "modules-of-lorabake": ("lorabake/__init__.py", "lorabake_schemas/__init__.py", "pydantic/__init__.py",
                            "tomllib.py", "PIL/__init__.py"),
}  # fmt: skip
for _name, _names in MODULES.items():

    @case("plan", "rerun own", "resume own", name=f"{_name}-in-the-current-folder")
    def _here(w: World, names: tuple[str, ...] = _names) -> None:
        w.module(*names, where=w.project)

    @case("verify own", "resume", "resume own", name=f"{_name}-in-the-run-folder")
    def _there(w: World, names: tuple[str, ...] = _names) -> None:
        w.module(*names)
        w.cwd = w.run


@case()
def _pth_and_pyvenv(w: World) -> None:
    (w.run / "evil.pth").write_text(f"import os; open({str(w.ran)!r}, 'a')\n")
    (w.run / "pyvenv.cfg").write_text(f"home = {w.canary('python').parent}\ninclude-system-site-packages = true\n")
    w.cwd = w.run


@case()
def _modules_in_parts(w: World) -> None:
    w.module("parts/002/json.py", "parts/002/resume_epoch.py", "parts/002/sitecustomize.py")


# Code in the files that lorabake compiles


@case()
def _deterministic_with_code(w: World) -> None:
    w.module("deterministic.py")
    w.rewrite("deterministic.py", (w.run / "deterministic.py").read_text())


@case()
def _going_on_with_code(w: World) -> None:
    w.module("parts/002/resume_epoch.py")


@case()
def _states_that_are_skipped_by_going_on_with_code(w: World) -> None:
    w.module("resume_epoch.py", "parts/002/resume_epoch.py", "parts/001/resume_epoch.py")
    shutil.rmtree(w.run / "output" / "x-step00000012-state")


@case()
def _accelerate_with_code(w: World) -> None:
    text = (w.run / "accelerate.yaml").read_text()
    w.rewrite("accelerate.yaml", text + f"main_training_function: !!python/object/apply:os.system ['touch {w.ran}']\n")


for _option, _value in {
    "console_log_file": "{outside}/keep/a.txt", "logging_dir": "{outside}/output", "output_dir": "{outside}/output",
    "sample_prompts": "{outside}/secret.txt", "network_module": "evil", "output_name": "../../../outside/output/x",
    "save_model_as": "../../../../outside/x", "huggingface_repo_id": "evil/evil", "resume": "{outside}/output/x-state",
    "network_weights": "{outside}/keep/x.safetensors", "pretrained_model_name_or_path": "{outside}/secret.txt",
}.items():  # fmt: skip

    @case("verify", "resume own", name=f"train.toml-{_option}")
    def _edited(w: World, option: str = _option, value: str = _value) -> None:
        w.module("evil.py")
        w.setting(option, value.format(outside=w.outside))


@case()
def _prompts_of_another_file(w: World) -> None:
    w.link("prompts.txt", w.outside / "secret.txt")
    w.record(compiled=[*w.json("record.json")["compiled"], {"name": "prompts.txt", "sha256": "0" * 64, "size": 1}])


@case()
def _dataset_of_another_folder(w: World) -> None:
    text = (w.run / "dataset.toml").read_text().replace("../../pics", str(w.outside))
    w.rewrite("dataset.toml", text.replace('".txt"', '"/../secret.txt"'))


@case()
def _plan_with_other_launch(w: World) -> None:
    plan = w.json("plan.json")
    plan["launch"]["deterministic"] = True
    w.module("deterministic.py")
    w.rewrite("plan.json", json.dumps(plan))


# Links


OUTSIDE_FILES = (
    ".room", ".running", ".record.json.part", ".events.jsonl.part", "logs/trainer.log", "events.jsonl", "record.json",
    "accelerate.yaml", "train.toml", "plan.json", "inputs.json", "command.json", "recipe.toml", "output/x.safetensors",
    "output/x-step00000014.safetensors", "parts/002/resume_epoch.py", ".accelerate.yaml.part", "dataset.toml",
)  # fmt: skip
OUTSIDE_FOLDERS = (
    "logs", "tensorboard", "output", "output/sample", "parts", "parts/002", "parts/002/output", "parts/002/replaced",
    "output/x-step00000014-state", "parts/002/beyond", "output/x-step00000012-state",
)  # fmt: skip
for _name in OUTSIDE_FILES:

    @case("verify", "diff", "resume own", name=f"link-{_name}")
    def _file(w: World, name: str = _name) -> None:
        w.link(name, w.outside / "keep" / "a.txt")


for _name in OUTSIDE_FOLDERS:

    @case("verify", "resume --dry-run", "resume own", name=f"link-{_name}")
    def _folder(w: World, name: str = _name) -> None:
        w.link(name, w.outside / "keep")


@case()
def _link_that_leads_nowhere_yet(w: World) -> None:
    for name in (".room", "logs/trainer.log", "output/x.safetensors"):
        w.link(name, w.outside / "made")


@case()
def _link_to_a_record_that_is_started(w: World) -> None:
    shutil.copy(w.run / "record.json", w.outside / "keep" / "record.json")
    record = json.loads((w.outside / "keep" / "record.json").read_text()) | {"status": "started", "pid": 999999}
    (w.outside / "keep" / "record.json").write_text(json.dumps(record))
    w.link("record.json", w.outside / "keep" / "record.json")


@case(*FEW, "verify")
def _link_in_place_of_the_lock(w: World) -> None:
    for name in (".x.lock", ".x-001.lock", ".x-002.lock", ".x-003.lock", ".x-002.running"):
        (w.run.parent / name).unlink(missing_ok=True)
        (w.run.parent / name).symlink_to(w.outside / "keep" / "a.txt")


@case("verify", "diff", "plan", "rerun own", "resume own")
def _links_beside_the_run_folder(w: World) -> None:
    (w.run.parent / "x-003").symlink_to(w.outside / "keep")
    (w.run.parent / "x-004").symlink_to(w.outside / "nowhere")
    (w.run.parent / "x-005").write_text("a file")


@case("verify own", "rerun own", "resume own")
def _hard_links_to_files_written_in_place(w: World) -> None:
    for number, name in enumerate(("events.jsonl", "logs/trainer.log", ".room", ".running")):
        target = w.outside / "keep" / f"hard{number}"
        target.write_text(f"{SECRET}\n")
        (w.run / name).unlink(missing_ok=True)
        os.link(target, w.run / name)


@case("verify own", "resume own")
def _hard_link_of_the_record(w: World) -> None:
    os.link(w.run / "record.json", w.outside / "keep" / "hard")


@case("verify own", "resume --dry-run", "resume own")
def _hard_links_of_a_started_run(w: World) -> None:
    w.record(status="started", pid=w.sleeper.pid)
    os.link(w.run / "record.json", w.outside / "keep" / "hard")
    os.link(w.run / "events.jsonl", w.outside / "keep" / "hard2")


@case("verify own", "resume own")
def _hard_links_of_saved_files(w: World) -> None:
    for name in ("x.safetensors", "x-step00000014.safetensors"):
        os.link(w.outside / "keep" / "x.safetensors", w.run / "output" / name)


# Files of other kinds


for _name in ("record.json", "events.jsonl", "logs/trainer.log", ".running", "train.toml", "plan.json", "recipe.toml",
              "inputs.json", "output/x-step00000012-state/train_state.json", "output/x.safetensors"):  # fmt: skip

    @case("verify", "diff", "resume own", name=f"fifo-{_name}")
    def _fifo(w: World, name: str = _name) -> None:
        (w.run / name).unlink(missing_ok=True)
        os.mkfifo(w.run / name)


@case("verify", "diff", "resume --dry-run", "resume own")
def _sockets(w: World) -> None:
    for name in (".running", "events.jsonl", "command.json"):
        (w.run / name).unlink(missing_ok=True)
        os.mknod(w.run / name, S_IFSOCK | 0o600)


for _name, _device in (("events.jsonl", "/dev/zero"), ("record.json", "/dev/zero"), ("logs/trainer.log", "/dev/tty"),
                       ("output/x-step00000012.safetensors", "/dev/zero"), ("inputs.json", "/dev/tty")):  # fmt: skip

    @case("verify", "diff", "inspect", "compare", "resume --dry-run", "resume own", name=f"device-{_name}")
    def _device_link(w: World, name: str = _name, device: str = _device) -> None:
        w.link(name, device)


# Names that lead elsewhere


for _name in ("../../x", "../outside/x", "/tmp/x", "x/../../y", "..", "", "x\0y", "-x"):  # noqa: S108

    @case("verify", "resume own", name=f"name-{_name!r}")
    def _named(w: World, name: str = _name) -> None:
        w.record(name=name)


for _key in ("compiled", "outputs", "recipe", "inputs_file", "plan_file"):
    for _how in ("../../../outside/secret.txt", "{outside}/secret.txt"):

        @case("verify", "resume own", name=f"{_key}-{_how}")
        def _led(w: World, key: str = _key, how: str = _how) -> None:
            path = w.outside / "secret.txt"
            one = {"name": how.format(outside=w.outside), "size": path.stat().st_size,
                   "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}  # fmt: skip
            if key == "outputs":
                outcome = {"code": "killed", "message": "m", "outputs": [one]}
                w.record(outcome=outcome)
            else:
                w.record(**{key: [one] if key == "compiled" else one})


for _place in ("/", "/etc", "/dev", "/proc", "/sys", "../../../outside"):

    @case("verify", "resume --dry-run", name=f"inputs-{_place}")
    def _inputs(w: World, place: str = _place) -> None:
        inputs = w.json("inputs.json")
        for each in inputs["inputs"]:
            if each["kind"] == "folder":
                each |= {"place": place, "endings": None}
        w.rewrite("inputs.json", json.dumps(inputs))
        record = w.json("record.json")
        w.record(inputs=[each | {"place": place} if each["kind"] == "folder" else each for each in record["inputs"]])


@case("verify", "rerun own --refresh-cache", "resume own")
def _caches_that_are_other_files(w: World) -> None:
    caches = w.outside / "caches"
    caches.mkdir()
    for name in ("a_sd.npz", "b.npz", "a.txt"):
        (caches / name).write_bytes(SECRET.encode())
    inputs = w.json("inputs.json")
    places = [f"../../../outside/caches/{name}" for name in ("a_sd.npz", "a.txt")]
    files = [{"name": place, "sha256": "0" * 64, "size": 1} for place in places]
    one = {"role": "caches", "index": 0, "name": "pics", "place": "../../../outside/caches", "kind": "folder",
           "endings": [".npz", ".txt"], "files": files}  # fmt: skip
    inputs["inputs"].append(one)
    w.rewrite("inputs.json", json.dumps(inputs))


@case("verify", "diff", "rerun --dry-run", "rerun own", "resume own")
def _recipe_elsewhere(w: World) -> None:
    w.record(recipe_place=str(w.outside / "secret.txt"))


@case("verify", "diff", "rerun --dry-run", "rerun own", "resume own")
def _rerun_of_another(w: World) -> None:
    w.record(rerun_of="../../../outside/keep")


@case("verify", "diff", "rerun own", "resume own")
def _recipe_with_other_paths(w: World) -> None:
    w.recipe(lambda text: text.replace('"pics"', f'"{w.outside}"').replace("base.safetensors", "/dev/zero"))


@case("verify", "rerun own", "resume own")
def _recipe_with_another_output(w: World) -> None:
    w.recipe(lambda text: f'{text}\n[kohya]\noutput_dir = "{w.outside}/output"\nlogging_dir = "{w.outside}/output"\n')


@case("verify", "rerun own", "resume own")
def _recipe_with_a_module(w: World) -> None:
    w.module("evil.py")
    w.recipe(lambda text: f'{text}\n[kohya]\nconsole_log_file = "{w.outside}/keep/a.txt"\n')


@case("verify", "rerun own", "resume own")
def _recipe_with_another_name(w: World) -> None:
    w.recipe(lambda text: text.replace('name = "x"', 'name = "../../../outside/output/x"'))


@case("verify", "diff", "rerun own", "resume own")
def _model_folder_with_code(w: World) -> None:
    folder = w.outside / "model"
    w.module("modeling.py", "unet/model.py", where=folder)
    (folder / "model_index.json").write_text(json.dumps({"_class_name": ["modeling", "Evil"]}))
    w.recipe(lambda text: text.replace("base.safetensors", str(folder)))


@case("inspect", "compare", "verify")
def _register_with_planted_runs(w: World) -> None:
    home = w.home / "lorabake"
    home.mkdir()
    digest = w.json("record.json")["digest"]
    places = [w.outside / "keep", "/dev", "/proc/self", w.run]
    (home / "runs.jsonl").write_text("".join(json.dumps({"run": str(p), "digest": digest}) + "\n" for p in places))


# Pickles, JSON, processes


@case("verify own", "resume --dry-run", "resume own")
def _states_with_pickles_that_run_code(w: World) -> None:
    code = f"cposix\nsystem\n(S'echo unpickled >>{w.ran}'\ntR.".encode()
    for state in (w.run / "output").glob("*-state"):
        (state / "random_states_0.pkl").write_bytes(code)
        for name in ("optimizer.bin", "scheduler.bin"):
            with zipfile.ZipFile(state / name, "w") as file:
                file.writestr("archive/data.pkl", code)
                file.writestr("archive/data/0", b"")
                file.writestr("archive/version", b"3\n")


@case("verify", "inspect", "compare", "resume --dry-run", "resume own")
def _lora_that_is_a_pickle(w: World) -> None:
    for name in ("x-step00000012.safetensors", "x-step00000010.ckpt"):
        (w.run / "output" / name).write_bytes(f"cposix\nsystem\n(S'echo unpickled >>{w.ran}'\ntR.".encode())


for _name in ("record.json", "plan.json", "inputs.json", "command.json", "events.jsonl"):

    @case("verify", "resume own", name=f"deep-{_name}")
    def _deep(w: World, name: str = _name) -> None:
        (w.run / name).write_text("[" * 200_000 + "]" * 200_000)

    @case("verify", "resume own", name=f"huge-{_name}")
    def _huge(w: World, name: str = _name) -> None:
        with (w.run / name).open("wb") as file:
            file.truncate(8 << 30)


@case("verify", "diff", "resume --dry-run", "resume own")
def _numbers_without_end(w: World) -> None:
    text = (w.run / "record.json").read_text().replace('"seed": 42', '"seed": ' + "9" * 5000)
    (w.run / "record.json").write_text(text)


def _claim(w: World, **changes: Any) -> str:
    owner = asdict(current_owner("x")) | {
        "pid": w.sleeper.pid,
        "started": process_guard.read_process_stat(w.sleeper.pid)[2],
    }
    more = {"mark": w.mark, "folder": w.run.stat().st_ino, "trainer": w.sleeper.pid}
    return json.dumps(owner | more | changes)


@case(*FEW)
def _running_with_another_process(w: World) -> None:
    (w.run / ".running").write_text(_claim(w))
    w.record(status="started", pid=w.sleeper.pid)


@case(*FEW)
def _running_with_every_process(w: World) -> None:
    (w.run / ".running").write_text(_claim(w, pid=-1, trainer=-1, mark=""))
    w.record(status="started", pid=-1)


@case(*FEW)
def _record_with_the_pid_of_another_process(w: World) -> None:
    w.record(status="started", pid=w.sleeper.pid)


@case(*FEW)
def _name_of_files_in_events(w: World) -> None:
    with (w.run / "events.jsonl").open("a") as file:
        for name in ("../../../outside/keep/x.safetensors", str(w.outside / "keep" / "a.txt")):
            event = {"time": "2026-01-01T00:00:00Z", "event": "saving", "file": name, "path": name}
            file.write(json.dumps(event) + "\n")


@case(*FEW)
def _log_that_names_files(w: World) -> None:
    with (w.run / "logs" / "trainer.log").open("a") as file:
        file.write(f"\nsaving checkpoint: {w.outside}/keep/x.safetensors\nremoving old checkpoint: {w.outside}/keep\n")


@case("verify own", "resume --dry-run", "resume own")
def _state_that_counts_wrong(w: World) -> None:
    for state in (w.run / "output").glob("*-state"):
        (state / "train_state.json").write_text(json.dumps({"current_epoch": 1, "current_step": -(2**70)}))


@case("verify own", "resume own")
def _many_empty_folders(w: World) -> None:
    deep = w.run / "tensorboard"
    for _ in range(200):
        deep /= "d" * 10
    deep.mkdir(parents=True)


@case("verify", "rerun own", "resume own")
def _rehearsal_that_is_a_training(w: World) -> None:
    w.record(rehearsal=True, trainer__kind="rehearsal", trainer__python=str(w.canary("python")))


def corpus(
    base: Base,
    folder: Path,
    names: Sequence[str] = (),
    tell: Callable[[Verdict], object] = lambda _: None,
    only: Sequence[str] | None = None,
) -> list[Verdict]:
    """Every case, two at a time; ``only`` replaces its commands."""

    def one(each: Case) -> Verdict:
        place = folder / hashlib.sha256(each.name.encode()).hexdigest()[:8]
        verdict = tried(base, replace(each, runs=tuple(only)) if only else each, place)
        tell(verdict)
        shutil.rmtree(place, ignore_errors=True)
        return verdict

    with ThreadPoolExecutor(2) as pool:
        return list(pool.map(one, [CASES[name] for name in names or CASES]))


def summary(verdicts: Sequence[Verdict]) -> str:
    commands = sum(len(each.codes) for each in verdicts)
    successes = sum(bool(each.successes) for each in verdicts)
    return f"{len(verdicts)} hostile run folders, {commands} commands, {successes} successes"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--program", type=shlex.split, default=PROGRAM)
    parser.add_argument("--first", action="store_true")
    parser.add_argument("--only", type=lambda names: names.split(","), help="these commands, with commas between them")
    parser.add_argument("cases", nargs="*")
    told = parser.parse_args()

    def tell(verdict: Verdict) -> None:
        codes = " ".join(f"{name}={code}" for name, code in verdict.codes.items())
        print(f"{verdict.case}: {'succeeded' if verdict.successes else 'blocked'} [{codes}]", flush=True)
        for each in verdict.successes:
            print(f"    {each}", flush=True)

    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        base = Base(Path(folder) / "base", tuple(told.program), told.first)
        verdicts = corpus(base, Path(folder), told.cases, tell, told.only)
    print(f"{summary(verdicts)} ({time.monotonic() - began:.0f} s)")


if __name__ == "__main__":
    main()
