"""The store: keys, markers that are complete or absent, folders that are removed after a failure."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest

from constant import returning
from lorabake.errors import SetupError
from lorabake.runs import index
from lorabake.trainer import ownership, store
from lorabake.util import resources
from lorabake.util.fact_cache import FactStore
from lorabake.util.paths import lorabake_home
from lorabake_schemas.pin import Pin


def a_marker(folder: str = "f") -> store.InstallManifest:
    return store.InstallManifest(
        folder=folder,
        url="u",
        commit="c" * 40,
        lock="cpu",
        lock_sha256="s",
        files_sha256="f",
        python="3.11.7",
        versions={"torch": "2"},
    )


@pytest.fixture
def home(tmp_path: Path) -> Path:
    store.trainers_folder(tmp_path).mkdir(parents=True)
    return tmp_path


def test_home_is_named_or_among_the_users_caches(tmp_path: Path) -> None:
    assert lorabake_home({"LORABAKE_HOME": str(tmp_path)}) == tmp_path
    assert lorabake_home({"LORABAKE_HOME": ""}).name == "lorabake"
    assert lorabake_home({}).is_absolute()


def changed(pin: Pin, **values: object) -> Pin:
    return Pin.model_validate(pin.model_dump() | values)


def test_whatever_makes_another_trainer_makes_another_key() -> None:
    pin = resources.load_pin()
    keys = [
        store.trainer_key(pin, "cpu", "s", "3.11"),
        store.trainer_key(pin, "cuda", "s", "3.11"),
        store.trainer_key(pin, "cpu", "t", "3.11"),
        store.trainer_key(pin, "cpu", "s", "3.12"),
        store.trainer_key(changed(pin, commit="0" * 40), "cpu", "s", "3.11"),
        store.trainer_key(changed(pin, url="elsewhere"), "cpu", "s", "3.11"),
        store.trainer_key(changed(pin, sparse=["/*"]), "cpu", "s", "3.11"),
    ]
    assert len(set(keys)) == len(keys)
    assert store.trainer_key(changed(pin, python_max="3.99"), "cpu", "s", "3.11") == keys[0]


def test_a_marker_comes_back_as_it_was(home: Path) -> None:
    assert store.read_marker(home, "k") is None
    store.activate_trainer(home, "k", a_marker())
    assert store.read_marker(home, "k") == a_marker()
    assert [path.name for path in store.trainers_folder(home).iterdir()] == ["k.json"]


@pytest.mark.parametrize("content", ["", "{", '{"version": 1}', '{"version": 2}', '{"version": 3}', "[]"])
def test_a_broken_marker_is_none(home: Path, content: str) -> None:
    (store.trainers_folder(home) / "k.json").write_text(content, encoding="utf-8")
    assert store.read_marker(home, "k") is None


def test_a_marker_that_cannot_be_written_leaves_nothing(home: Path) -> None:
    (store.trainers_folder(home) / "k.json").mkdir()
    with pytest.raises(OSError, match=r"k\.json"):
        store.activate_trainer(home, "k", a_marker())
    assert [path.name for path in store.trainers_folder(home).iterdir()] == ["k.json"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_a_failed_build_leaves_nothing(home: Path, error: type[BaseException]) -> None:
    def build() -> None:
        with store.stage_folder(home, "x") as folder:
            (folder / "deep").mkdir()
            (folder / "deep" / "file").write_text("half", encoding="utf-8")
            raise error

    with pytest.raises(error):
        build()
    assert list(store.trainers_folder(home).iterdir()) == []


def test_sweeping_keeps_what_is_complete(home: Path) -> None:
    with store.stage_folder(home, "x") as kept:
        (kept / "file").touch()
    store.activate_trainer(home, "k", a_marker(kept.name))
    with store.stage_folder(home, "x") as dead:
        (dead / "file").touch()
    (store.trainers_folder(home) / "k.123.tmp").touch()
    (store.trainers_folder(home) / "install.log").touch()
    assert set(store.remove_stale(home)) == {dead.name, "k.123.tmp"}
    assert sorted(path.name for path in store.trainers_folder(home).iterdir()) == sorted(
        [kept.name, "k.json", "install.log"]
    )


@pytest.mark.parametrize(
    "content", ['{{"version": 2, "folder": "{0}", "new": 1}}', '{{"place": ["{0}"]}}', "half: {0}"]
)
def test_sweeping_keeps_what_a_newer_lorabakes_marker_names(home: Path, content: str) -> None:
    with store.stage_folder(home, "x") as theirs:
        (theirs / "file").touch()
    (store.trainers_folder(home) / "n.json").write_text(content.format(theirs.name), encoding="utf-8")
    with store.stage_folder(home, "x") as dead:
        pass
    assert store.remove_stale(home) == (dead.name,)
    assert (theirs / "file").exists()


def test_nothing_is_swept_while_a_marker_cannot_be_read(home: Path) -> None:
    with store.stage_folder(home, "x") as kept:
        pass
    (store.trainers_folder(home) / "n.json").mkdir()
    with pytest.raises(OSError, match=r"n\.json"):
        store.remove_stale(home)
    assert kept.exists()


def unsafe(home: Path) -> str | None:
    """What is not used, by its path; None when all of it is."""
    try:
        return None if store.read_marker(home, "k") else "no marker"
    except SetupError as error:
        return str(error.message)


def stored(home: Path) -> Path:
    """A trainer's folder with its marker."""
    with store.stage_folder(home, "x") as folder:
        store.activate_trainer(home, "k", a_marker(folder.name))
    return folder


@pytest.mark.parametrize("name", ["", "..", ".", "/etc", "../x", "a/b", "a\\b", ".hidden", "a\n", "a b", "x" * 300])
def test_a_folder_elsewhere_is_none_of_the_store(home: Path, name: str) -> None:
    text = a_marker().model_dump_json().replace('"folder":"f"', f'"folder":{json.dumps(name)}')
    (store.trainers_folder(home) / "k.json").write_text(text)
    assert store.read_marker(home, "k") is None
    assert store.list_complete(home) == ()


@pytest.mark.parametrize("mode", [0o777, 0o757, 0o775])
@pytest.mark.parametrize("what", ["home", "root", "folder", "marker"])
def test_what_others_can_write_is_not_used(home: Path, monkeypatch: pytest.MonkeyPatch, what: str, mode: int) -> None:
    monkeypatch.setattr(ownership, "_is_private_group", returning(False))
    folder = stored(home)
    assert unsafe(home) is None
    path = {
        "home": home,
        "root": store.trainers_folder(home),
        "folder": folder,
        "marker": store.trainers_folder(home) / "k.json",
    }[what]
    path.chmod(mode)
    assert str(path) in (unsafe(home) or "")
    assert store.list_complete(home) == ()
    path.chmod(0o755)
    assert unsafe(home) is None
    assert len(store.list_complete(home)) == 1


def test_a_group_of_ones_own_may_write(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = stored(home)
    monkeypatch.setattr(ownership, "_is_private_group", returning(True))
    folder.chmod(0o775)
    assert unsafe(home) is None
    folder.chmod(0o777)
    assert unsafe(home) is not None


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root can give files away")
@pytest.mark.parametrize("what", ["home", "root", "folder", "marker"])
def test_what_another_user_owns_is_not_used(home: Path, what: str) -> None:
    folder = stored(home)
    path = {
        "home": home,
        "root": store.trainers_folder(home),
        "folder": folder,
        "marker": store.trainers_folder(home) / "k.json",
    }[what]
    os.chown(path, 4242, 4242)
    assert str(path) in (unsafe(home) or "")


def test_the_store_may_be_on_another_disk(home: Path) -> None:
    stored(home)
    store.trainers_folder(home).rename(home / "elsewhere")
    store.trainers_folder(home).symlink_to(home / "elsewhere")
    assert unsafe(home) is None
    (home / "elsewhere").chmod(0o777)
    assert str(home / "elsewhere") in (unsafe(home) or "")


@pytest.mark.parametrize("what", ["folder", "marker"])
def test_a_link_in_the_store_is_not_followed(home: Path, tmp_path: Path, what: str) -> None:
    folder = stored(home)
    path = {"folder": folder, "marker": store.trainers_folder(home) / "k.json"}[what]
    path.rename(home / "elsewhere")
    path.symlink_to(home / "elsewhere")
    assert str(path) in (unsafe(home) or "")


def test_a_home_that_is_a_link_is_followed(home: Path) -> None:
    stored(home)
    (home / "link").symlink_to(home)
    assert unsafe(home / "link") is None


def test_the_store_is_made_for_its_user_alone(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        store.create_store(tmp_path / "new")
        folder = stored(tmp_path / "new")
    finally:
        os.umask(before)
    assert unsafe(tmp_path / "new") is None
    assert [
        oct(path.stat().st_mode & 0o22) for path in (tmp_path / "new", store.trainers_folder(tmp_path / "new"), folder)
    ] == ["0o0"] * 3


def test_whoever_makes_the_home_first_makes_it_for_its_user_alone(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        facts = FactStore(tmp_path / "facts" / "facts.sqlite3")
        facts.keep("kind", "place", [("stamp", [1])])
        facts.close()
        index.register_run(tmp_path / "runs", tmp_path / "run", None)
    finally:
        os.umask(before)
    assert [(tmp_path / name).stat().st_mode & 0o22 for name in ("facts", "runs")] == [0, 0]


def test_a_folder_that_was_just_replaced_stays_for_a_while(home: Path) -> None:
    old = stored(home)
    new = stored(home)
    assert store.remove_stale(home) == ()
    week = time.time() - store.REPLACED_KEEP_SECONDS - 60
    os.utime(old / store.REPLACED_FILE, (week, week))
    assert store.remove_stale(home) == (old.name,)
    assert new.is_dir()
