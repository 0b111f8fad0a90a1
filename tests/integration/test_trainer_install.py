"""Installing a trainer for real, in a small world: real git, real virtual environments, real pip, real signals."""

from __future__ import annotations

import importlib.util
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest

from lorabake.errors import ResourceError, SetupError
from lorabake.trainer import install as trainer
from lorabake.trainer import store, venv
from lorabake_schemas.messages import Message
from lorabake_schemas.pin import Pin

SCRIPT = Path(__file__).with_name("trainer_world.py")


def load() -> ModuleType:
    spec = importlib.util.spec_from_file_location("trainer_world", SCRIPT)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


small = load()


@pytest.fixture(scope="module")
def ready(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small world with a virtual environment in it, for tests of pip alone."""
    folder = tmp_path_factory.mktemp("ready")
    small.make(folder)
    venv.create_venv(folder / "venv", None, small.environment(folder))
    return folder


@pytest.fixture
def folder(tmp_path: Path, ready: Path) -> Path:
    small.make(tmp_path)
    small.quick_python(tmp_path, ready / "venv")
    return tmp_path


def install(
    folder: Path, pin: Pin | None = None, say: Callable[[str], None] = print, env: Mapping[str, str] | None = None
) -> trainer.Trainer:
    environment = small.environment(folder) | (env or {})
    chosen, python, world = pin or small.pin(folder), folder / "python", small.world(folder)
    return trainer.ensure_installed(chosen, folder / "home", "cuda", environment, say, python=python, world=world)


def left(folder: Path) -> list[str]:
    """What is in the store, besides its lock and the log of the last installation."""
    root = store.trainers_folder(folder / "home")
    return sorted(path.name for path in root.iterdir() if path.name not in {".lock", "install.log"})


def test_an_installation_is_the_pin_and_the_next_one_a_lookup(folder: Path) -> None:
    said: list[str] = []
    pin, home, world = small.pin(folder), folder / "home", small.world(folder)
    first = trainer.ensure_installed(pin, home, "cuda", small.environment(folder), said.append, world=world)
    assert first.commit == small.git(first.checkout, "rev-parse", "HEAD")
    assert (first.checkout / "train_network.py").read_text(encoding="utf-8") == "print('a stand-in')\n"
    assert not (first.checkout / "bitsandbytes_windows").exists()
    assert first.versions["tiny"] == "1.0"
    assert "installing 1/1 tiny 1.0" in said
    assert not (first.checkout.parent / "tmp").exists()
    assert b"tiny" in (store.trainers_folder(home) / "install.log").read_bytes()
    shutil.rmtree(folder / "origin")  # nothing is left to build from, and no program to build with
    again: list[str] = []
    second = trainer.ensure_installed(pin, home, "auto", {"PATH": ""}, again.append, world=world)
    assert (second, again) == (first, [])


def test_no_file_contents_are_fetched_for_left_out_folders(folder: Path) -> None:
    checkout = install(folder).checkout
    missing = small.git(checkout, "rev-list", "--objects", "--all", "--missing=print")
    assert [line[0] for line in missing.splitlines()].count("?") == 1


def test_a_trainer_is_found_by_the_python_it_was_made_with(folder: Path) -> None:
    installed, pin, env, home = install(folder), small.pin(folder), small.environment(folder), folder / "home"
    other = folder / "other-python"
    other.write_text("#!/bin/sh\necho 3.99\n", encoding="utf-8")
    other.chmod(0o755)
    seen = [
        trainer.collect_status(pin, home, "cuda", env, python=python, world=small.world(folder))
        for python in (folder / "python", other)
    ]
    assert [(status.trainer, status.python) for status in seen] == [
        (installed, venv.read_python_version(None, {})),
        (None, "3.99"),
    ]
    assert trainer.find_installed(pin, home, "cuda", env, python=other, world=small.world(folder)) is None


@contextmanager
def child(folder: Path, step: str) -> Generator[subprocess.Popen[str], None, None]:
    env = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    argv = [sys.executable, str(SCRIPT), str(folder), step, str(folder / "python")]
    pipe = subprocess.PIPE
    with subprocess.Popen(argv, stdin=pipe, stdout=pipe, stderr=subprocess.STDOUT, text=True, env=env) as process:
        try:
            yield process
        finally:
            process.kill()


def until(process: subprocess.Popen[str], start: str) -> list[str]:
    """Read what it says up to a line that starts so, that line included."""
    assert process.stdout
    seen: list[str] = []
    for line in process.stdout:
        seen.append(line.rstrip("\n"))
        if line.startswith(start):
            return seen
    raise AssertionError(f"it never said {start!r}: {seen}")


def go_on(process: subprocess.Popen[str]) -> None:
    assert process.stdin
    process.stdin.write("\n")
    process.stdin.flush()


def test_two_installations_at_once_build_one(folder: Path) -> None:
    with child(folder, "creating a virtual") as first:
        until(first, "creating a virtual")
        with child(folder, "waiting") as second:
            (waiting,) = until(second, "waiting")
            assert waiting.startswith("waiting for another installation to end")
            go_on(second)
            go_on(first)
            done = until(first, "done")[-1]
            assert until(second, "done") == [done]
    assert len(left(folder)) == 2  # one folder, one marker


@pytest.mark.parametrize("step", ["creating a virtual", "installing 1/1"])
def test_an_interrupted_installation_leaves_nothing_and_the_next_works(folder: Path, step: str) -> None:
    with child(folder, step) as process:
        until(process, step)
        process.send_signal(signal.SIGINT)
        go_on(process)
        process.wait(30)
        assert process.returncode not in {0, None}
    assert left(folder) == []
    assert install(folder).versions["tiny"] == "1.0"


def test_what_a_killed_installation_left_is_removed_by_the_next(folder: Path) -> None:
    with child(folder, "checking that the trainer works") as process:
        until(process, "checking")
        process.send_signal(signal.SIGKILL)
        process.wait(30)
    (dead,) = left(folder)
    said: list[str] = []
    done = install(folder, say=said.append)
    assert said[0] == f"removed {dead}, left by an unfinished installation"
    assert dead not in left(folder)
    assert done.checkout.exists()


def refused(folder: Path, pin: Pin | None = None, env: Mapping[str, str] | None = None) -> SetupError:
    """The error of an installation that cannot work; checks that it left nothing."""
    with pytest.raises(SetupError) as caught:
        install(folder, pin, env=env)
    assert left(folder) == []
    assert caught.value.exit_code == 4
    return caught.value


def test_a_server_that_gives_another_commit(folder: Path) -> None:
    """An annotated tag's own id is no commit: git follows it and checks out the commit behind it."""
    error = refused(folder, small.pin(folder, "v1"))
    assert error.message.startswith("file://")
    assert small.git(folder / "origin", "rev-parse", "HEAD~1") in error.message


def test_a_server_without_the_commit(folder: Path) -> None:
    error = refused(folder, small.pin(folder).model_copy(update={"commit": "0123456789" * 4}))
    assert "has no commit 0123456789" in error.message
    assert "git reported: " in (error.hint or "")


def closed_port() -> int:
    """A port on this machine where nobody listens."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


@pytest.mark.parametrize("kind", ["folder", "server"])
def test_a_url_that_cannot_be_reached(folder: Path, kind: str) -> None:
    url = (folder / "none").as_uri() if kind == "folder" else f"http://127.0.0.1:{closed_port()}/x"
    error = refused(folder, small.pin(folder).model_copy(update={"url": url}))
    assert error.message == f"cannot fetch sd-scripts from {url}"
    assert "git reported: fatal: " in (error.hint or "")
    assert f"git config --global url.MIRROR.insteadOf {url}" in (error.hint or "")


def test_a_mirror_in_the_users_git_configuration_is_used(folder: Path) -> None:
    url = "https://sd-scripts.invalid/repo"
    mirror = f'[url "{(folder / "origin").as_uri()}"]\n\tinsteadOf = {url}\n'
    (folder / ".gitconfig").write_text(mirror, encoding="utf-8")
    assert install(folder, small.pin(folder).model_copy(update={"url": url})).checkout.exists()


def bytes_of(folder: Path) -> dict[str, bytes]:
    """The files of a checkout, without what was compiled from them."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and not {".git", "__pycache__"} & set(path.relative_to(folder).parts)
    }


COMMITTED = {name: text.encode() for name, text in small.FILES.items() if "big.dll" not in name}
HOSTILE_GIT = """
[core]
    autocrlf = true
    eol = crlf
    safecrlf = true
    symlinks = false
    fileMode = false
    ignoreCase = true
    sparseCheckoutCone = true
    attributesFile = {folder}/attributes
    excludesFile = {folder}/attributes
[filter "shout"]
    smudge = "tr a-z A-Z"
    clean = cat
    required = true
[init]
    defaultObjectFormat = sha256
[index]
    sparse = true
"""


@pytest.mark.parametrize(
    ("named", "place", "attributes"),
    [
        ("attributesFile", "attributes", "*.py text eol=crlf\n*.py ident\n"),
        ("XDG_CONFIG_HOME", "xdg/git/attributes", "* working-tree-encoding=UTF-16\n"),
        ("HOME", ".config/git/attributes", "* filter=shout\n"),
    ],
)
def test_the_checkout_has_its_commits_bytes_whatever_git_is_configured_to_do(
    folder: Path, named: str, place: str, attributes: str
) -> None:
    (folder / place).parent.mkdir(parents=True, exist_ok=True)
    (folder / place).write_text(attributes, encoding="utf-8")
    config = HOSTILE_GIT.format(folder=folder)
    config = config if named == "attributesFile" else config.replace("attributesFile", "other")
    (folder / ".gitconfig").write_text(config, encoding="utf-8")
    env = {"XDG_CONFIG_HOME": str(folder / "xdg")} if named == "XDG_CONFIG_HOME" else {}
    assert bytes_of(install(folder, env=env).checkout) == COMMITTED


@pytest.mark.parametrize("value", ["", "cache"])
def test_an_invalid_folder_of_caches_is_as_none(folder: Path, value: str) -> None:
    """Packages, such as huggingface_hub's, would make it in the folder they happen to be in."""
    assert bytes_of(install(folder, env={"XDG_CACHE_HOME": value}).checkout) == COMMITTED
    assert (folder / ".cache" / "tiny" / "kept").exists()


def test_what_a_package_leaves_in_the_current_folder_is_not_in_the_checkout(folder: Path) -> None:
    assert bytes_of(install(folder, env={"TINY_STRAYS": "stray-{n}"}).checkout) == COMMITTED


def test_files_that_differ_from_the_commit_are_named(folder: Path) -> None:
    """Whatever the user has git ignore everywhere."""
    (folder / ".gitconfig").write_text(f"[core]\n    excludesFile = {folder}/ignored\n", encoding="utf-8")
    (folder / "ignored").write_text("stray*\n", encoding="utf-8")
    error = refused(folder, env={"TINY_STRAYS": "{prefix}/../sd-scripts/stray-{n}"})
    assert isinstance(error.message, Message)
    assert isinstance(error.message.filled["files"], Message)
    assert error.message.filled["files"].filled == {
        "names": ", ".join(f"stray-{n}" for n in range(5)),
        "n": 2,
    }


def test_git_is_missing(folder: Path) -> None:
    (folder / "bin").mkdir()
    error = refused(folder, env={"PATH": str(folder / "bin")})
    assert error.message == "git not found on this machine"
    assert "install git" in (error.hint or "")


def test_too_little_disk_is_seen_before_anything_is_downloaded(folder: Path) -> None:
    def full(path: Path) -> int:
        return 1 if path == folder / "home" else 2**40

    world, env = replace(small.world(folder), free_disk=full), small.environment(folder)
    with pytest.raises(ResourceError, match="not enough disk") as caught:
        trainer.ensure_installed(
            small.pin(folder), folder / "home", "cuda", env, print, python=folder / "python", world=world
        )
    assert "LORABAKE_HOME" in (caught.value.hint or "")
    assert left(folder) == []
    assert not (store.trainers_folder(folder / "home") / "install.log").exists()


def test_a_disk_that_fills_up_is_named_whatever_failed(folder: Path) -> None:
    """Here git stumbles over something else, while the free space is nearly gone: see trainer._or_disk_full."""

    def filling(path: Path) -> int:
        return 2**20

    world, env = replace(small.world(folder), free_disk=filling), small.environment(folder)
    pin = small.pin(folder).model_copy(update={"url": (folder / "none").as_uri()})
    with pytest.raises(ResourceError, match="the disk is full") as caught:
        trainer.ensure_installed(pin, folder / "home", "cuda", env, print, python=folder / "python", world=world)
    assert "cannot fetch sd-scripts" in (caught.value.hint or "")
    assert left(folder) == []


def test_packages_that_do_not_import_are_not_a_trainer(folder: Path) -> None:
    pin = small.pin(folder)
    broken = pin.model_copy(update={"cuda": pin.cuda.model_copy(update={"modules": ("tiny", "torch_that_is_not")})})
    error = refused(folder, broken)
    assert "import torch_that_is_not: ModuleNotFoundError" in error.message


def test_a_home_that_cannot_be_written(folder: Path) -> None:
    (folder / "home").write_text("a file", encoding="utf-8")
    with pytest.raises(SetupError, match="cannot write to "):
        install(folder)


def fill(ready: Path, lock: str, **env: str) -> SetupError:
    """The error of filling a virtual environment from a lock that cannot be installed."""
    scratch = ready / "scratch"
    scratch.mkdir()
    python = venv.interpreter_path(ready / "venv")
    try:
        with pytest.raises(SetupError) as caught:
            venv.install_packages(python, lock, scratch, small.environment(ready) | env, ready / "log", print)
    finally:
        shutil.rmtree(scratch)
    assert str(ready / "log") in (caught.value.hint or "")
    return caught.value


def test_a_package_that_is_not_the_locked_one(ready: Path) -> None:
    error = fill(ready, f"tiny==1.0 --hash=sha256:{'0' * 64}\n")
    assert error.message.startswith("pip downloaded tiny==1.0")
    assert "hash does not match" in error.message


def test_a_package_that_is_not_there(ready: Path) -> None:
    error = fill(ready, f"enormous==1.0 --hash=sha256:{'0' * 64}\n")
    assert error.message == "pip found no enormous==1.0 for this Python and machine"


def test_an_index_that_cannot_be_reached(ready: Path) -> None:
    index = f"http://127.0.0.1:{closed_port()}/simple"
    env = {"PIP_NO_INDEX": "0", "PIP_INDEX_URL": index, "PIP_RETRIES": "1"}
    error = fill(ready, f"enormous==1.0 --hash=sha256:{'0' * 64}\n", **env)
    assert error.message == "pip cannot reach its package index to get enormous==1.0"


def test_a_lock_without_a_hash_is_not_installed(ready: Path) -> None:
    assert "pip" in fill(ready, "tiny==1.0\n").message


PIP_CONF = """
[global]
no-index = true
target = {folder}/target
python = {folder}/no-python
quiet = 3
user = true
no-binary = :all:
[install]
find-links =
    {folder}/none
    {folder}/wheels
dry-run = true
root = {folder}/root
prefix = {folder}/prefix
constraint = {folder}/constraint
editable = {folder}/origin
report = {folder}/report
"""
PLACES = {"user": ".config/pip/pip.conf", "old": ".pip/pip.conf", "machine": "etc/pip/pip.conf", "named": "my.conf"}


@pytest.mark.parametrize("place", PLACES)
def test_pips_configuration_says_where_from_and_never_where_to(folder: Path, place: str) -> None:
    """Without the find-links of the same file nothing could be installed."""
    there = folder / PLACES[place]
    there.parent.mkdir(parents=True, exist_ok=True)
    there.write_text(PIP_CONF.format(folder=folder), encoding="utf-8")
    env = {
        "PIP_CONFIG_FILE": str(there) if place == "named" else "",
        "XDG_CONFIG_DIRS": str(folder / "etc"),
        "PIP_FIND_LINKS": "",
        "PIP_NO_INDEX": "",
        "PIP_TARGET": str(folder / "target"),
    }
    assert install(folder, env=env).versions["tiny"] == "1.0"
    assert not [name for name in ("target", "root", "prefix", "report") if (folder / name).exists()]


def test_pips_variables_win_over_its_files_and_are_meant_from_the_current_folder(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "my.conf").write_text("[install]\nfind-links = /nowhere\nno-index = true\n", encoding="utf-8")
    monkeypatch.chdir(folder)
    env = {"PIP_CONFIG_FILE": "my.conf", "PIP_FIND_LINKS": "wheels", "PIP_NO_INDEX": ""}
    assert install(folder, env=env).versions["tiny"] == "1.0"


def test_a_configuration_that_pip_cannot_read(folder: Path) -> None:
    (folder / "my.conf").write_text("no section\n", encoding="utf-8")
    error = refused(folder, env={"PIP_CONFIG_FILE": str(folder / "my.conf")})
    assert "my.conf" in (error.hint or "")


def test_asking_pip_for_a_cpu_build(ready: Path) -> None:
    """Wheels that pip would take for torch, by their names alone; nothing is opened."""
    python, lock = venv.interpreter_path(ready / "venv"), "torch==2.13.0 --hash=sha256:00\n"
    env = small.environment(ready)
    assert not venv.has_cpu_torch(python, lock, env)
    (ready / "wheels" / "torch-2.13.0-py3-none-any.whl").touch()
    assert not venv.has_cpu_torch(python, lock, env)
    (ready / "wheels" / "torch-2.13.0+cpu-py3-none-any.whl").touch()
    assert venv.has_cpu_torch(python, lock, env)


def test_a_python_without_venv(tmp_path: Path) -> None:
    fake = tmp_path / "python"
    fake.write_text("#!/bin/sh\necho 'ensurepip is not available.'\nexit 1\n", encoding="utf-8")
    fake.chmod(0o755)
    with pytest.raises(SetupError, match="venv or ensurepip is missing") as caught:
        venv.create_venv(tmp_path / "venv", fake, {"PATH": os.environ["PATH"]})
    assert "python3-venv" in (caught.value.hint or "")


def test_a_program_that_is_no_python(tmp_path: Path) -> None:
    with pytest.raises(SetupError, match="/bin/false is not a working Python"):
        venv.read_python_version(Path("/bin/false"), {"PATH": ""})
    assert venv.read_python_version(Path(sys.executable), {"PATH": ""}) == venv.read_python_version(None, {})


def own(
    ready: Path, pin: Pin, python: Path | None, say: Callable[[str], None] = print, needed: tuple[str, ...] = ()
) -> trainer.Trainer:
    return trainer.check_user_trainer(ready / "origin", python, pin, say, small.environment(ready), needed=needed)


@pytest.fixture
def tried(ready: Path) -> Pin:
    """The pin of the small world, whose core any Python has and whose locks have more."""
    pin: Pin = small.pin(ready)
    return pin.model_copy(update={"modules": ("json",)})


def test_the_users_own_installation(ready: Path, tried: Pin) -> None:
    said: list[str] = []
    mine = own(ready, tried, Path(sys.executable), said.append)
    assert (mine.kind, mine.lock, mine.checkout) == ("own", None, ready / "origin")
    assert mine.commit == small.git(ready / "origin", "rev-parse", "HEAD")
    assert mine.versions["python"].startswith("3.")
    assert any(line.startswith("warning: ") and tried.commit in line for line in said)


def test_the_users_own_installation_at_the_pin_has_no_warning(ready: Path, tried: Pin) -> None:
    said: list[str] = []
    pin = tried.model_copy(update={"commit": small.git(ready / "origin", "rev-parse", "HEAD")})
    own(ready, pin, Path(sys.executable), said.append)
    assert not [line for line in said if line.startswith("warning")]


def test_own_installations_that_will_not_do(ready: Path, tried: Pin) -> None:
    with pytest.raises(SetupError, match="has no venv"):
        own(ready, tried, None)
    with pytest.raises(SetupError, match="is not a program"):
        own(ready, tried, ready / "none")
    core = tried.model_copy(update={"modules": ("json", "tiny")})
    with pytest.raises(SetupError, match="import tiny: ModuleNotFoundError"):
        own(ready, core, Path(sys.executable))
    with pytest.raises(SetupError, match=r"train_network\.py"):
        trainer.check_user_trainer(ready, Path(sys.executable), tried, print, small.environment(ready))


def test_an_own_installation_needs_what_its_plan_needs_and_no_more(ready: Path, tried: Pin) -> None:
    """lycoris-lora is in neither sd-scripts' requirements nor this Python; only some recipes want it."""
    python = Path(sys.executable)
    assert own(ready, tried, python, needed=("sqlite3",)).kind == "own"
    with pytest.raises(SetupError, match=r"lycoris-lora, dadaptation \(import ") as caught:
        own(ready, tried, python, needed=("lycoris.kohya", "dadaptation", "sqlite3"))
    assert f"{python} -m pip install lycoris-lora dadaptation, or " in (caught.value.hint or "")
