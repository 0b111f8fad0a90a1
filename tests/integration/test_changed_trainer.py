"""A trainer whose files were changed is not trained with: what git and pip do not see is seen, and can be repaired."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import trainer_world as small
from own_trainer import OwnTrainer, lorabake

from constant import returning
from lorabake.analysis.verify_trainer import changed_trainer
from lorabake.errors import SetupError
from lorabake.jobs import run
from lorabake.trainer import install as trainer
from lorabake.trainer import manifest, store, venv
from lorabake.trainer.environment import (
    TrainerContents,
    read_current_trainer,
    read_trainer_contents,
    trainer_record,
)
from lorabake.util.hashing import FileHasher
from lorabake_schemas.messages import Message
from situations import project


@pytest.fixture(scope="module")
def ready(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("ready")
    small.make(folder)
    venv.create_venv(folder / "venv", None, small.environment(folder))
    small.quick_python(folder, folder / "venv")
    made(trainer.ensure_installed, folder, folder / "home")
    return folder


def made(way: Callable[..., trainer.Trainer], folder: Path, home: Path) -> trainer.Trainer:
    where = {"python": folder / "python", "world": small.world(folder)}
    return way(small.pin(folder), home, "cuda", small.environment(folder), print, **where)


class World:
    """``folder`` has what a trainer is installed from; the trainer itself is a copy."""

    def __init__(self, folder: Path, home: Path) -> None:
        self.folder, self.home = folder, home
        self.env = small.environment(folder) | {"LORABAKE_HOME": str(self.home)}
        (self.trainer,) = trainer.list_trainers(home)

    def made(self, way: Callable[..., trainer.Trainer]) -> trainer.Trainer:
        return made(way, self.folder, self.home)

    @property
    def site(self) -> Path:
        (site,) = venv.find_package_folders(self.trainer.checkout.parent / "venv")
        return site

    def look(self) -> TrainerContents:
        return read_trainer_contents(self.trainer, self.env, FileHasher(self.home / "facts-2.sqlite3"))

    def refusal(self) -> SetupError | None:
        try:
            run.check_trainer(self.trainer, self.env, print)
        except SetupError as error:
            return error
        return None


@pytest.fixture
def world(tmp_path: Path, ready: Path) -> World:
    shutil.copytree(ready / "home", tmp_path / "home", symlinks=True)
    return World(ready, tmp_path / "home")


def in_place(path: Path, content: bytes) -> None:
    """A change that size and time of writing do not show."""
    state = path.stat()
    path.write_bytes(content)
    os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns))


def assumed_unchanged(world: World) -> str:
    small.git(world.trainer.checkout, "update-index", "--assume-unchanged", "train_network.py")
    in_place(world.trainer.checkout / "train_network.py", b"print('a stand-iN')\n")
    return "sd-scripts/train_network.py"


def excluded(world: World) -> str:
    (world.trainer.checkout / ".git" / "info" / "exclude").write_text("*\n")
    (world.trainer.checkout / "json.py").touch()
    return "sd-scripts/json.py"


def another_index(world: World) -> str:
    (world.trainer.checkout / "train_network.py").write_text("other\n")
    small.git(world.trainer.checkout, "commit", "-qam", "rewritten")
    small.git(world.trainer.checkout, "replace", "-f", world.trainer.commit or "", "HEAD")
    return "sd-scripts/train_network.py"


def planted_bytecode(world: World) -> str:
    (path,) = (world.trainer.checkout / "library" / "__pycache__").glob("train_util.*.pyc")
    in_place(path, path.read_bytes()[:-1] + b"x")
    return path.relative_to(world.trainer.checkout.parent).as_posix()


def patched_package(world: World) -> str:
    (world.site / "tiny.py").write_text("print('patched')\n")
    return (world.site / "tiny.py").relative_to(world.trainer.checkout.parent).as_posix()


def rewritten_record(world: World) -> str:
    path = world.site / "tiny-1.0.dist-info" / "RECORD"
    path.write_text("")
    return path.relative_to(world.trainer.checkout.parent).as_posix()


def planted_module(world: World) -> str:
    (world.site / "sitecustomize.py").write_text(f"open({str(world.home / 'ran')!r}, 'w')\n")
    return (world.site / "sitecustomize.py").relative_to(world.trainer.checkout.parent).as_posix()


def planted_path(world: World) -> str:
    (world.site / "x.pth").touch()
    return (world.site / "x.pth").relative_to(world.trainer.checkout.parent).as_posix()


def system_packages(world: World) -> str:
    path = world.trainer.checkout.parent / "venv" / "pyvenv.cfg"
    path.write_text(path.read_text().replace("false", "true"))
    return "venv/pyvenv.cfg"


def another_python(world: World) -> str:
    path = world.trainer.python
    path.unlink()
    path.symlink_to("/bin/false")
    return path.relative_to(world.trainer.checkout.parent).as_posix()


def another_manifest(world: World) -> str:
    (world.site / "tiny.py").write_text("print('patched')\n")
    manifest.write_file_hashes(world.trainer.checkout.parent)
    return manifest.MANIFEST_FILE


WAYS = (
    assumed_unchanged, excluded, another_index, planted_bytecode, patched_package, rewritten_record, planted_module,
    planted_path, system_packages, another_python, another_manifest,
)  # fmt: skip


@pytest.mark.parametrize("change", WAYS)
def test_a_changed_trainer_is_refused_with_the_files_name(world: World, change: Callable[[World], str]) -> None:
    assert world.refusal() is None
    assert world.look().changed == ()
    name = change(world)
    refusal = world.refusal()
    assert refusal is not None
    assert name in str(refusal.message)
    assert "--repair" in str(refusal.hint)
    found = world.look()
    assert (found.changed, found.python_version) == ((name,), "")  # its Python was not even started
    assert not (world.home / "ran").exists()


def test_it_is_read_once_and_looked_at_afterwards(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing was changed for a while, so what was found is kept."""
    read: list[Path] = []
    hashes = manifest.hash_files

    def counted(top: Path, names: object) -> object:
        read.append(top)
        return hashes(top, names)  # type: ignore[arg-type]

    monkeypatch.setattr(manifest, "hash_files", counted)
    monkeypatch.setattr("lorabake.trainer.environment.RACY_NS", 0)
    first = world.look()
    assert len(read) == 1
    assert world.look() == first
    assert len(read) == 1
    name = patched_package(world)
    assert world.look().changed == (name,)
    assert len(read) == 2


def test_what_changed_just_now_is_not_kept(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lorabake.trainer.environment.RACY_NS", 10**12)
    first = world.look()
    monkeypatch.setattr(manifest, "find_changed_install", returning(("another",)))
    assert (first.changed, world.look().changed) == ((), ("another",))


def test_repair_builds_it_in_another_folder_and_keeps_the_old_one_for_a_while(world: World) -> None:
    before, name = world.trainer, patched_package(world)
    world.trainer = world.made(trainer.repair_trainer)
    assert world.refusal() is None
    assert world.trainer.checkout != before.checkout
    assert trainer.list_trainers(world.home) == (world.trainer,)
    assert (before.checkout.parent / name).is_file()
    again = world.made(trainer.repair_trainer)
    assert before.checkout.is_dir()  # a training may still run from it
    assert again.checkout != world.trainer.checkout
    version = venv.read_python_version(None, {})
    key = store.trainer_key(small.pin(world.folder), "cuda", again.lock_sha256 or "", version)
    assert [path.name for path in store.trainers_folder(world.home).glob("*.json")] == [f"{key}.json"]


def test_an_installation_that_was_changed_meanwhile_is_none(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Something plants a module while the packages are being installed."""
    health = venv.check_health

    def planting(python: Path, *rest: object) -> object:
        (python.parent.parent / "lib" / f"python{sys.version_info[0]}.{sys.version_info[1]}").joinpath(
            "site-packages", "planted.pth"
        ).touch()
        return health(python, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(venv, "check_health", planting)
    with pytest.raises(SetupError, match=r"planted\.pth"):
        world.made(trainer.repair_trainer)
    assert trainer.list_trainers(world.home) == (world.trainer,)


def test_at_another_commit_than_the_pins_the_manifest_knows_its_files(world: World) -> None:
    assert world.look().clean is True
    in_place(world.trainer.checkout / "library" / "train_util.py", b"changed = 1\n")
    assert world.look().clean is False
    (world.trainer.checkout.parent / manifest.MANIFEST_FILE).write_text("{}")
    assert world.look().clean is None


def test_of_the_users_own_it_is_only_told(tmp_path: Path) -> None:
    own = OwnTrainer(tmp_path)
    env = small.environment(tmp_path) | {"LORABAKE_HOME": str(tmp_path / "home")}
    commit = small.git(own.checkout, "rev-parse", "HEAD")
    mine = trainer.Trainer("own", own.checkout, own.python, commit, None, None, {})
    said: list[Message] = []
    assert run.check_trainer(mine, env, said.append).clean is True
    assert said == []
    small.git(own.checkout, "update-index", "--assume-unchanged", "library/train_util.py")
    (own.checkout / "library" / "train_util.py").write_text("changed = 1\n")
    found = run.check_trainer(mine, env, said.append)
    assert (found.clean, found.edited) == (False, ("library/train_util.py",))
    assert "library/train_util.py" in str(said[0])


def test_a_settings_file_of_the_users_checkout_starts_no_program(tmp_path: Path) -> None:
    """Filters, hooks and monitors that .git/config names."""
    own = OwnTrainer(tmp_path)
    witness = tmp_path / "ran"
    (own.checkout / ".git" / "info" / "attributes").write_text("*.py filter=x diff=x\n")
    for name in ("filter.x.clean", "filter.x.smudge", "filter.x.process", "core.fsmonitor", "diff.x.textconv"):
        small.git(own.checkout, "config", name, f"touch {witness}; cat")
    os.utime(own.checkout / "train_network.py")
    commit = small.git(own.checkout, "rev-parse", "HEAD")
    mine = trainer.Trainer("own", own.checkout, own.python, commit, None, None, {})
    assert read_trainer_contents(mine, small.environment(tmp_path), FileHasher(None)).changed == ()
    assert not witness.exists()


def test_verify_names_what_was_changed_and_starts_nothing_of_it(world: World) -> None:
    record = trainer_record(world.trainer, world.look())
    assert read_current_trainer(record, world.env, FileHasher(None)).patched == ()
    planted, edited = planted_module(world), assumed_unchanged(world)
    now = read_current_trainer(record, world.env, FileHasher(None))
    assert (now.patched, now.edited) == ((planted,), (edited.removeprefix("sd-scripts/"),))
    assert not (world.home / "ran").exists()
    found = {each.name: each.change for each in changed_trainer(record, now)}
    assert found == {"sd-scripts": "changed", "packages": "changed"}


@pytest.mark.parametrize(
    ("script", "lacking"),
    [
        ("train_network.py", "from library import strategy_sd"),
        ("train_network.py", "import library.strategy_sd"),
        ("train_network.py", "import package_that_nobody_has"),
        ("sdxl_train_network.py", "from library import strategy_sd"),
    ],
)
def test_what_a_script_imports_and_lacks_is_reported_before_it_starts(
    tmp_path: Path, script: str, lacking: str
) -> None:
    """Only of the script that is to be started: the other one's does not matter."""
    own = OwnTrainer(tmp_path / "trainer")
    project(tmp_path, "[train]\nresolution = 256\nmax_train_steps = 2\n")
    (own.checkout / script).write_text(f"{lacking}\n" + (own.checkout / script).read_text())
    (tmp_path / "home").mkdir()
    done = lorabake(tmp_path, tmp_path / "home", "run", "recipe.toml", *own.flags)
    if script != "train_network.py":
        assert done.returncode == 0, done.stderr
        return
    assert done.returncode == 4
    assert not (tmp_path / "runs").exists()
    named = "package_that_nobody_has" if "package" in lacking else "library/strategy_sd.py"
    assert named in done.stderr
