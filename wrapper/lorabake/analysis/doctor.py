"""Is this machine fit to train, and why did a run fail? Looks at everything, changes nothing.

Each check yields what it found; none waits long, and none raises.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from lorabake.errors import LorabakeError
from lorabake.inputs.hub import is_hub_offline
from lorabake.runs.causes.general import UNKNOWN_FAILURE
from lorabake.runs.finalize import resume_command_hint
from lorabake.runs.index import FoundRun
from lorabake.runs.lock import find_active
from lorabake.runs.log.evidence import read_log_evidence
from lorabake.runs.status import read_state
from lorabake.trainer import packages, store, venv
from lorabake.trainer.install import Trainer, collect_status, probe_attention
from lorabake.util import files, machine, network, resources
from lorabake.util.gpu_sensors import GpuSensors
from lorabake.util.process import capture_output, find_program
from lorabake_schemas.doctor import DoctorReport, HealthCheck, HealthLevel, HealthTopic, RunDiagnosis
from lorabake_schemas.events import GpuReading
from lorabake_schemas.machine import MachineFacts
from lorabake_schemas.messages import Message, escape_invisible, escape_undecodable, join_list, literal, msg
from lorabake_schemas.pin import Pin

GIB = 1 << 30
MIN_MEMORY_GIB, MIN_FREE_MEMORY_GIB = 8, 4  # loading SD1.5 takes about 4 GiB, SDXL 12
MIN_VRAM_MIB = 6 << 10
MIN_DISK_BYTES, SCARCE_DISK_BYTES = 1_000_000_000, 10_000_000_000
MIN_SHARED_MEMORY = 64 << 20  # bytes; a container's default, too little for several workers
MIN_OPEN_FILES = 1024
OTHER_PROGRAM_MIB = 1 << 10
NVML_TIMEOUT_S = 10.0  # a driver that is still waking the card takes seconds
TORCH_TIMEOUT_S = 120.0  # a cold import from a network drive
GIT_TIMEOUT_S = 20.0
USER_INFO = re.compile(r"//[^/@\s]*@")  # name and password in an address
HUB_URL = "https://huggingface.co"
Env = Mapping[str, str]


def examine(env: Env, here: Path, home: Path, found: FoundRun | None = None) -> DoctorReport:
    """The machine, and the run if one is given."""
    return DoctorReport(
        checks=tuple(check_machine(env, here, home)),
        diagnosis=diagnose_run(found) if found is not None else None,
    )


def _make(topic: HealthTopic, level: HealthLevel, message: Message, hint: Message | None = None) -> HealthCheck:
    return HealthCheck(topic=topic, level=level, message=message, hint=hint)


def check_machine(env: Env, here: Path, home: Path) -> Iterator[HealthCheck]:
    """Every check, in the order in which a training needs what it looks at."""
    facts, pin = machine.detect_machine(env), resources.load_pin()
    yield from check_gpus(facts, env)
    yield _check_memory(facts)
    yield from _check_shared_memory()
    yield from _check_disks(here, home)
    yield from _check_limits()
    yield _check_store(home)
    yield from check_trainer(pin, home, env, facts)
    yield from check_network(pin, env)


def check_gpus(facts: MachineFacts, env: Env) -> Iterator[HealthCheck]:
    if (problem := machine.driver_problem(env)) is not None and not facts.gpus:
        hint = msg("fix the NVIDIA driver (after an update, restart the machine)")
        yield _make("gpu", "problem", msg("nvidia-smi shows no GPU: {words}", words=escape_invisible(problem)), hint)
        return
    if not facts.gpus:
        hidden = env.get("CUDA_VISIBLE_DEVICES")
        if hidden is not None and find_program("nvidia-smi", env) is not None:
            message = msg("CUDA_VISIBLE_DEVICES hides every GPU")
            yield _make("gpu", "warning", message, msg("unset CUDA_VISIBLE_DEVICES"))
            return
        hint = msg("training on the CPU takes about a hundred times as long")
        yield _make("gpu", "warning", msg("no NVIDIA GPU"), hint)
        return
    for gpu in facts.gpus:
        message = msg("{gpu}, {size} MiB, driver {driver}", gpu=gpu.name, size=gpu.memory_mib, driver=gpu.driver)
        small = 0 < gpu.memory_mib < MIN_VRAM_MIB
        advice = msg("set train.gradient_checkpointing = true and train.train_batch_size = 1")
        yield _make("gpu", "warning" if small else "ok", message, advice if small else None)
    with GpuSensors(machine.list_gpus(env)) as sensors:
        readings = sensors.wait(NVML_TIMEOUT_S)
    yield from map(_check_gpu_memory, readings)
    others = [each for each in machine.list_gpu_programs(env) if each.memory_mib >= OTHER_PROGRAM_MIB]
    if others:
        names = [msg("{name} ({size} MiB)", name=each.name, size=each.memory_mib) for each in others]
        message = msg("other programs use the GPU's memory: {names}", names=join_list(names))
        yield _make("gpu-memory", "warning", message, msg("stop them before training"))


def _check_gpu_memory(gpu: GpuReading) -> HealthCheck:
    """What is in use, also by programs that nvidia-smi does not list: those that draw, and other users'."""
    name, used, total = gpu.name or gpu.uuid, gpu.used_mib, gpu.total_mib
    message = msg("{gpu}: {used} of {total} MiB in use", gpu=name, used=used, total=total)
    if gpu.temperature is not None:
        message = msg("{memory}, {degrees} °C", memory=message, degrees=gpu.temperature)
    if gpu.used_mib < OTHER_PROGRAM_MIB:
        return _make("gpu-memory", "ok", message)
    hint = msg("close what uses it before training, such as a browser, a game or a desktop")
    return _make("gpu-memory", "warning", message, hint)


def _check_memory(facts: MachineFacts) -> HealthCheck:
    total, free = facts.memory_bytes / GIB, machine.get_available_memory()
    if free is None:
        return _make("memory", "ok", msg("memory: {total:.1f} GiB", total=total))
    message = msg("memory: {free:.1f} of {total:.1f} GiB available", free=free / GIB, total=total)
    if total < MIN_MEMORY_GIB:
        return _make("memory", "warning", message, msg("SD1.5 needs about 8 GiB, SDXL about 16 GiB"))
    low = free / GIB < MIN_FREE_MEMORY_GIB
    return _make("memory", "warning" if low else "ok", message, msg("close other programs") if low else None)


def _check_shared_memory() -> Iterator[HealthCheck]:
    space = machine.get_shared_memory_space()
    if space is None:
        return
    total, free = space
    message = msg("shared memory (/dev/shm): {free} of {total} MiB free", free=free >> 20, total=total >> 20)
    low = free < MIN_SHARED_MEMORY
    hint = msg("start the container with --shm-size=2g, or set train.max_data_loader_n_workers = 0") if low else None
    yield _make("shared-memory", "warning" if low else "ok", message, hint)


def _check_disks(here: Path, home: Path) -> Iterator[HealthCheck]:
    seen: set[int] = set()
    for folder in (here, home):
        try:
            device, free = machine.get_file_system_id(folder), machine.get_free_disk(folder)
        except OSError as error:
            message = msg("{folder} cannot be read: {why}", folder=folder, why=files.reason(error))
            yield _make("disk", "problem", message)
            continue
        if device in seen:
            continue
        seen.add(device)
        message = msg("disk of {folder}: {free:.1f} GB free", folder=folder, free=free / 1e9)
        level: HealthLevel = "problem" if free < MIN_DISK_BYTES else "warning" if free < SCARCE_DISK_BYTES else "ok"
        yield _make("disk", level, message, msg("free some space") if level != "ok" else None)


def _check_limits() -> Iterator[HealthCheck]:
    if machine.get_file_size_limit() is not None:
        hint = msg("run `ulimit -f unlimited`")
        yield _make("limits", "warning", msg("this shell limits the size of files"), hint)
    if machine.has_memory_limit():
        hint = msg("run `ulimit -v unlimited`")
        yield _make("limits", "warning", msg("this shell limits the memory of programs"), hint)
    limit = machine.open_file_limit()
    if limit is not None and limit < MIN_OPEN_FILES:
        hint = msg("run `ulimit -n 65536`")
        yield _make("limits", "warning", msg("a program may open only {n} files", n=limit), hint)


def _check_store(home: Path) -> HealthCheck:
    try:
        store.refuse_unsafe_store(home)
    except LorabakeError as error:
        return _make("store", "problem", error.message, error.hint)
    except OSError as error:
        return _make("store", "problem", msg("{path}: {why}", path=home, why=files.reason(error)))
    there = home if files.exists(home) else home.parent
    if files.exists(there) and not machine.is_writable(there):
        hint = msg("make it writable, or set LORABAKE_HOME to another folder")
        return _make("store", "problem", msg("lorabake's folder {folder} is not writable", folder=home), hint)
    return _make("store", "ok", msg("lorabake's folder: {folder}", folder=home))


def check_trainer(pin: Pin, home: Path, env: Env, facts: MachineFacts) -> Iterator[HealthCheck]:
    """The installed trainer and what its torch sees."""
    try:
        trainer = collect_status(pin, home, "auto", env).trainer
    except (LorabakeError, OSError) as error:
        message = error.message if isinstance(error, LorabakeError) else files.reason(error)
        yield _make("trainer", "problem", message)
        return
    if trainer is None:
        size = pin.lock("cuda" if facts.gpus else "cpu").disk_bytes / 1e9
        hint = msg("`lorabake trainer install` or the first run installs it ({size:.1f} GB)", size=size)
        yield _make("trainer", "warning", msg("the trainer is not installed"), hint)
        return
    message = msg(
        "sd-scripts {commit} with {lock} packages", commit=(trainer.commit or "")[:12], lock=trainer.lock or ""
    )
    yield _make("trainer", "ok", message)
    yield from _check_torch(trainer, env, facts)


def _check_torch(trainer: Trainer, env: Env, facts: MachineFacts) -> Iterator[HealthCheck]:
    found = _ask_torch(trainer.python, env)
    version = str(found.get("version") or trainer.versions.get("torch", ""))
    repair = msg("run `lorabake trainer install --repair`")
    if "version" not in found:
        words = escape_invisible(str(found.get("error") or ""))
        yield _make("torch", "problem", msg("torch cannot be imported: {words}", words=words), repair)
        return
    if not facts.gpus:
        yield _make("torch", "ok", msg("torch {version} on the CPU", version=version))
        return
    if not found.get("available"):
        words = escape_invisible(str(found.get("error") or msg("it was built without CUDA")))
        message = msg("torch {version} cannot use the GPU: {words}", version=version, words=words)
        hint = msg("update the NVIDIA driver (now: {driver})", driver=facts.gpus[0].driver)
        yield _make("torch", "problem", message, hint if found.get("cuda") else msg("install with --trainer cuda"))
        return
    cuda = str(found.get("cuda"))
    yield _make("torch", "ok", msg("torch {version} with CUDA {cuda} uses the GPU", version=version, cuda=cuda))
    try:
        probe = probe_attention(trainer, "bf16", env)
    except (LorabakeError, OSError) as error:
        yield _make("xformers", "warning", literal(str(error)))
        return
    if probe.xformers:
        yield _make("xformers", "ok", msg("xformers works"))
    else:
        hint = msg("attention is calculated by torch itself (sdpa), which is about as fast")
        yield _make("xformers", "ok", msg("xformers does not work here: {why}", why=probe.reason), hint)


def _ask_torch(python: Path, env: Env) -> dict[str, Any]:
    try:
        with resources.trainer_script("probe_torch.py") as script:
            done = capture_output(
                [str(python), str(script)], env=packages.script_environment(env), timeout=TORCH_TIMEOUT_S
            )
    except LorabakeError as error:
        return {"error": str(error.message)}
    last = done.stderr.strip().splitlines()[-1:]
    return venv.parse_last_json(done.stdout) or {"error": "".join(last) or f"exit code {done.returncode}"}


def check_network(pin: Pin, env: Env) -> Iterator[HealthCheck]:
    """Git and the place of the pin; the Hugging Face Hub, from which models and tokenizers come."""
    if find_program("git", env) is None:
        yield _make("git", "problem", msg("git is not installed"), msg("install git; the trainer is fetched with it"))
    else:
        yield _check_pin(pin, env)
    if is_hub_offline(env):
        hint = msg("unset HF_HUB_OFFLINE to download models and tokenizers")
        yield _make("hub", "ok", msg("downloads from the Hugging Face Hub are turned off (HF_HUB_OFFLINE)"), hint)
        return
    url = (env.get("HF_ENDPOINT") or HUB_URL).rstrip("/")
    try:
        network.parse_address(url, "HF_ENDPOINT", {"http", "https"})
    except network.MalformedAddressError as error:
        yield _make("hub", "problem", error.said)
        return
    why, proxy = network.unreachable_reason(url, env), network.proxy_of(url, env)
    shown = msg("{url} through the proxy {proxy}", url=url, proxy=proxy) if proxy else literal(url)
    if why is None:
        yield _make("hub", "ok", msg("{url} answers", url=shown))
        return
    hint = msg("check HTTPS_PROXY, or use files on this machine: base.model, base.vae, base.tokenizer_cache_dir")
    yield _make("hub", "warning", msg("{url} does not answer: {why}", url=shown, why=why), hint)


def _check_pin(pin: Pin, env: Env) -> HealthCheck:
    """Whether the repository of sd-scripts, or the mirror that git's settings name instead, answers."""
    from lorabake.trainer.git import git_environment

    quiet = git_environment(env) | {"GIT_TERMINAL_PROMPT": "0"}
    shown: str | Message = pin.url
    try:
        asked = capture_output(["git", "ls-remote", "--get-url", pin.url], env=quiet, timeout=GIT_TIMEOUT_S)
        if (real := asked.stdout.strip()) not in {"", pin.url}:
            shown = msg("{url} (mirror: {mirror})", url=pin.url, mirror=USER_INFO.sub("//", escape_invisible(real)))
        done = capture_output(["git", "ls-remote", "--exit-code", pin.url, "HEAD"], env=quiet, timeout=GIT_TIMEOUT_S)
    except LorabakeError as error:
        words = str(error.message)
    else:
        if done.ok:
            return _make("pin", "ok", msg("git reaches {url}", url=shown))
        words = "".join(done.stderr.strip().splitlines()[-1:])
    hint = msg("only needed to install the trainer; git's url.MIRROR.insteadOf sets a mirror")
    message = msg("git does not reach {url}: {words}", url=shown, words=USER_INFO.sub("//", escape_invisible(words)))
    return _make("pin", "warning", message, hint)


def diagnose_run(found: FoundRun) -> RunDiagnosis:
    """Why a run ended as it did, from its record, and from its log if its cause is not known."""
    record, outcome = found.record, found.record.outcome
    run, state = escape_undecodable(found.name), read_state(found.paths)
    if outcome is None:
        active = find_active(found.paths, record)
        message = active.error.message if active is not None else msg("it is still running")
        return RunDiagnosis(run=run, state=state, code=None, known=True, message=message)
    known = outcome.code != UNKNOWN_FAILURE
    log = None
    if not known:
        begin = record.parts[-1].log_from if record.parts else 0
        log = read_log_evidence(found.paths.log, found.root, begin)
    return RunDiagnosis(
        run=run,
        state=state,
        code=outcome.code,
        known=known,
        message=outcome.message,
        hint=outcome.hint,
        evidence=outcome.evidence,
        remarks=outcome.remarks,
        next_step=resume_command_hint(record, found.root),
        last_lines=log.tail if log is not None else (),
        command=() if known else tuple(escape_undecodable(part) for part in record.argv),
    )
