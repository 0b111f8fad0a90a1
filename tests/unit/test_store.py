"""The store: keys, markers that are whole or absent, folders that do not outlive a failure."""

from __future__ import annotations

from pathlib import Path

import pytest

from lorabake import resources
from lorabake.trainer import store
from lorabake_schemas.pin import Pin


def a_marker(folder: str = "f") -> store.Marker:
    return store.Marker(
        folder=folder, url="u", commit="c" * 40, lock="cpu", lock_sha256="s", python="3.11.7", versions={"torch": "2"}
    )


@pytest.fixture
def home(tmp_path: Path) -> Path:
    store.root(tmp_path).mkdir(parents=True)
    return tmp_path


def test_home_is_named_or_among_the_users_caches(tmp_path: Path) -> None:
    assert store.home({"LORABAKE_HOME": str(tmp_path)}) == tmp_path
    assert store.home({"LORABAKE_HOME": ""}).name == "lorabake"
    assert store.home({}).is_absolute()


def changed(pin: Pin, **values: object) -> Pin:
    return Pin.model_validate(pin.model_dump() | values)


def test_whatever_makes_another_trainer_makes_another_key() -> None:
    pin = resources.pin()
    keys = [
        store.key(pin, "cpu", "s", "3.11"),
        store.key(pin, "cuda", "s", "3.11"),
        store.key(pin, "cpu", "t", "3.11"),
        store.key(pin, "cpu", "s", "3.12"),
        store.key(changed(pin, commit="0" * 40), "cpu", "s", "3.11"),
        store.key(changed(pin, url="elsewhere"), "cpu", "s", "3.11"),
        store.key(changed(pin, sparse=["/*"]), "cpu", "s", "3.11"),
    ]
    assert len(set(keys)) == len(keys)
    assert store.key(changed(pin, python_max="3.99"), "cpu", "s", "3.11") == keys[0]


def test_a_marker_comes_back_as_it_was(home: Path) -> None:
    assert store.read(home, "k") is None
    store.publish(home, "k", a_marker())
    assert store.read(home, "k") == a_marker()
    assert [path.name for path in store.root(home).iterdir()] == ["k.json"]


@pytest.mark.parametrize("content", ["", "{", '{"version": 1}', '{"version": 2}', "[]"])
def test_a_broken_marker_is_none(home: Path, content: str) -> None:
    (store.root(home) / "k.json").write_text(content, encoding="utf-8")
    assert store.read(home, "k") is None


def test_a_marker_that_cannot_be_written_leaves_nothing(home: Path) -> None:
    (store.root(home) / "k.json").mkdir()
    with pytest.raises(OSError, match=r"k\.json"):
        store.publish(home, "k", a_marker())
    assert [path.name for path in store.root(home).iterdir()] == ["k.json"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_a_failed_build_leaves_nothing(home: Path, error: type[BaseException]) -> None:
    def build() -> None:
        with store.building(home, "x") as folder:
            (folder / "deep").mkdir()
            (folder / "deep" / "file").write_text("half", encoding="utf-8")
            raise error

    with pytest.raises(error):
        build()
    assert list(store.root(home).iterdir()) == []


def test_sweeping_keeps_what_is_complete(home: Path) -> None:
    with store.building(home, "x") as kept:
        (kept / "file").touch()
    store.publish(home, "k", a_marker(kept.name))
    with store.building(home, "x") as dead:
        (dead / "file").touch()
    (store.root(home) / "k.123.tmp").touch()
    (store.root(home) / "install.log").touch()
    assert set(store.sweep(home)) == {dead.name, "k.123.tmp"}
    assert sorted(path.name for path in store.root(home).iterdir()) == sorted([kept.name, "k.json", "install.log"])


@pytest.mark.parametrize(
    "content", ['{{"version": 2, "folder": "{0}", "new": 1}}', '{{"place": ["{0}"]}}', "half: {0}"]
)
def test_sweeping_keeps_what_a_newer_lorabakes_marker_names(home: Path, content: str) -> None:
    with store.building(home, "x") as theirs:
        (theirs / "file").touch()
    (store.root(home) / "n.json").write_text(content.format(theirs.name), encoding="utf-8")
    with store.building(home, "x") as dead:
        pass
    assert store.sweep(home) == (dead.name,)
    assert (theirs / "file").exists()


def test_nothing_is_swept_while_a_marker_cannot_be_read(home: Path) -> None:
    with store.building(home, "x") as kept:
        pass
    (store.root(home) / "n.json").mkdir()
    with pytest.raises(OSError, match=r"n\.json"):
        store.sweep(home)
    assert kept.exists()
