"""What a trainer is made of: every file, every package, and nothing that comes and goes by itself."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from lorabake.errors import SetupError
from lorabake.trainer import environment as looked_at
from lorabake.trainer import git
from lorabake.trainer.environment import read_current_trainer, trainer_record
from lorabake.trainer.install import Trainer
from lorabake.util.hashing import FileHasher
from lorabake.util.process import CommandOutput
from lorabake_schemas.messages import msg
from lorabake_schemas.record import FileDigest, TrainerRecord

HERE: Mapping[str, str] = {"PATH": os.environ.get("PATH", "")}


def answer(value: object) -> Callable[[Path, Mapping[str, str]], object]:
    """A function of git's that gives this answer for any repository."""
    return lambda _repo, _env: value


@pytest.fixture(autouse=True)
def python(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The trainer's Python, which does not exist, answers as one without a virtual environment."""
    folders: list[str] = []

    def capture(argv: Sequence[str], **_: object) -> CommandOutput:
        if not folders:
            raise SetupError(msg("cannot start"))
        listed = ", ".join(f'"{folder}"' for folder in folders)
        return CommandOutput(tuple(argv), 0, f'something first\n["3.11.7", ["", {listed}]]\n', "")

    monkeypatch.setattr(looked_at, "capture_output", capture)
    monkeypatch.setattr(git, "read_head", answer("c" * 40))
    return folders


@pytest.fixture
def trainer(tmp_path: Path) -> Trainer:
    checkout, folder = tmp_path / "sd-scripts", tmp_path / "venv"
    for name in ("train_network.py", "library/train_util.py", "networks/lora.py", "configs/a.json"):
        (checkout / name).parent.mkdir(parents=True, exist_ok=True)
        (checkout / name).write_text(f"# {name}\n", encoding="utf-8")
    (site(folder)).mkdir(parents=True)
    (folder / "pyvenv.cfg").write_text("home = /x\ninclude-system-site-packages = false\n", encoding="utf-8")
    dist_info(site(folder), "Torch", "2.13.0+cpu")
    dist_info(site(folder), "lycoris_lora", "4.1.3")
    return Trainer("pin", checkout, folder / "bin" / "python", "c" * 40, "cpu", "d" * 64, {})


def site(folder: Path) -> Path:
    return folder / "lib" / "python3.11" / "site-packages"


def dist_info(folder: Path, name: str, version: str, *, at: str = "") -> Path:
    place = folder / f"{at}{name}-{version}.dist-info"
    place.mkdir(parents=True)
    head = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\nSummary: x\n"
    (place / "METADATA").write_text(f"{head}\nName: not this\nVersion: 0\n", encoding="utf-8")
    return place


def seen(trainer: Trainer) -> looked_at.TrainerContents:
    return looked_at.read_trainer_contents(trainer, HERE, FileHasher(None))


def test_a_trainer_that_is_left_alone_stays_the_same(trainer: Trainer) -> None:
    assert seen(trainer) == seen(trainer)
    assert seen(trainer).packages == {"lycoris-lora": "4.1.3", "torch": "2.13.0+cpu"}
    assert list(seen(trainer).packages) == sorted(seen(trainer).packages)
    assert len(seen(trainer).tree) == 64


@pytest.mark.parametrize("name", ["train_network.py", "library/train_util.py", "configs/a.json"])
def test_one_byte_of_any_file_is_seen(trainer: Trainer, name: str) -> None:
    before, path = seen(trainer), trainer.checkout / name
    path.write_bytes(path.read_bytes()[:-1] + b"!")
    assert seen(trainer).tree != before.tree
    assert seen(trainer).packages == before.packages


def test_an_added_a_removed_and_a_renamed_file_are_seen(trainer: Trainer) -> None:
    trees = [seen(trainer).tree]
    (trainer.checkout / "library" / "new.py").write_text("x", encoding="utf-8")
    trees.append(seen(trainer).tree)
    (trainer.checkout / "library" / "new.py").rename(trainer.checkout / "new.py")
    trees.append(seen(trainer).tree)
    (trainer.checkout / "new.py").unlink()
    (trainer.checkout / "networks" / "lora.py").unlink()
    trees.append(seen(trainer).tree)
    assert len(set(trees)) == 4


def test_what_python_and_git_write_as_they_go_is_not_seen(trainer: Trainer) -> None:
    before = seen(trainer)
    for name in (".git/index", "library/__pycache__/a.cpython-311.pyc", "left.pyc"):
        (trainer.checkout / name).parent.mkdir(exist_ok=True)
        (trainer.checkout / name).write_bytes(b"x")
    assert seen(trainer) == before


def test_the_tree_is_the_same_under_another_path(trainer: Trainer, tmp_path: Path) -> None:
    before = seen(trainer).tree
    trainer.checkout.rename(tmp_path / "elsewhere")
    assert seen(replace(trainer, checkout=tmp_path / "elsewhere")).tree == before


def test_a_file_that_cannot_be_read_is_no_empty_one(trainer: Trainer) -> None:
    path = trainer.checkout / "networks" / "lora.py"
    path.write_bytes(b"")
    empty = seen(trainer).tree
    path.unlink()
    path.symlink_to("nowhere")
    assert seen(trainer).tree != empty


def test_a_link_to_a_folder_is_not_followed(trainer: Trainer) -> None:
    (trainer.checkout / "library" / "up").symlink_to("..", target_is_directory=True)
    assert len(seen(trainer).tree) == 64


def test_a_bumped_package_is_seen(trainer: Trainer) -> None:
    folder = site(trainer.python.parent.parent)
    (folder / "lycoris_lora-4.1.3.dist-info").rename(folder / "lycoris_lora-4.2.0.dist-info")
    text = (folder / "lycoris_lora-4.2.0.dist-info" / "METADATA").read_text(encoding="utf-8")
    (folder / "lycoris_lora-4.2.0.dist-info" / "METADATA").write_text(text.replace("4.1.3", "4.2.0"), encoding="utf-8")
    assert seen(trainer).packages["lycoris-lora"] == "4.2.0"


def test_a_package_that_lies_there_twice_gives_both_versions(trainer: Trainer) -> None:
    folder = site(trainer.python.parent.parent)
    dist_info(folder, "torch", "2.12.0")
    dist_info(folder, "torch", "2.11.0", at="~")  # what pip moves aside while it works
    (folder / "broken-1.dist-info").mkdir()
    (folder / "old-1.0.egg-info").write_text("Metadata-Version: 1.0\nName: old\nVersion: 1.0\n", encoding="utf-8")
    assert seen(trainer).packages == {"lycoris-lora": "4.1.3", "old": "1.0", "torch": "2.12.0, 2.13.0+cpu"}


def test_another_python_is_asked_where_it_looks(trainer: Trainer, tmp_path: Path, python: list[str]) -> None:
    dist_info(tmp_path / "user", "torch", "1.0")
    dist_info(tmp_path / "system", "torch", "2.0")
    dist_info(tmp_path / "system", "numpy", "2.1")
    python += [str(tmp_path / "python311.zip"), str(tmp_path / "user"), str(tmp_path / "system")]
    found = seen(replace(trainer, kind="own", python=tmp_path / "bin" / "python3"))
    assert found.packages == {"numpy": "2.1", "torch": "1.0"}
    assert found.python_version == "3.11.7"


@pytest.mark.parametrize("asks", [True, False])
def test_a_venv_that_sees_the_systems_packages_is_asked(trainer: Trainer, python: list[str], asks: bool) -> None:
    config = trainer.python.parent.parent / "pyvenv.cfg"
    config.write_text(f"include-system-site-packages = {str(asks).lower()}\n", encoding="utf-8")
    python.append(str(trainer.checkout))
    assert (seen(trainer).packages == {}) is asks


def test_a_python_that_does_not_start_has_no_version_and_still_its_packages(trainer: Trainer) -> None:
    assert seen(trainer).python_version == ""
    assert seen(trainer).packages["torch"] == "2.13.0+cpu"


def test_where_no_commit_is_known_nothing_is_compared(trainer: Trainer) -> None:
    assert seen(trainer).clean is None
    assert seen(replace(trainer, commit=None)).clean is None


def test_in_the_users_checkout_only_the_code_counts(trainer: Trainer, monkeypatch: pytest.MonkeyPatch) -> None:
    """People keep models, images and runs in it, and its venv."""
    own = replace(trainer, kind="own")
    tracked, others = ["train_network.py", "library/train_util.py", "docs/a.md"], ["networks/own.py", "models/x.st"]
    for name in (*others, "docs/a.md"):
        (own.checkout / name).parent.mkdir(exist_ok=True)
        (own.checkout / name).write_text("x", encoding="utf-8")
    monkeypatch.setattr(git, "list_repository_files", answer((tracked, others)))
    before = seen(own).tree
    (own.checkout / "models" / "x.st").write_text("y", encoding="utf-8")
    assert seen(own).tree == before
    for name in ("docs/a.md", "networks/own.py"):
        (own.checkout / name).write_text("y", encoding="utf-8")
        before, after = seen(own).tree, before
        assert before != after


def test_without_git_the_users_checkout_is_looked_through(trainer: Trainer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(git, "list_repository_files", answer(None))
    own, before = replace(trainer, kind="own"), seen(replace(trainer, kind="own")).tree
    (own.checkout / "venv").mkdir()
    for name in ("venv/pyvenv.cfg", "venv/code.py", "picture.png"):
        (own.checkout / name).write_text("x", encoding="utf-8")
    assert seen(own).tree == before
    (own.checkout / "library" / "code.py").write_text("x", encoding="utf-8")
    assert seen(own).tree != before


def test_digests_that_are_known_are_taken(trainer: Trainer) -> None:
    class Known(FileHasher):
        def __init__(self) -> None:
            super().__init__(None)
            self.asked: list[str] = []

        def of(self, folder: Path, names: Sequence[str]) -> dict[str, FileDigest | None]:
            self.asked += [(folder / name).relative_to(trainer.checkout).as_posix() for name in names]
            return {name: FileDigest(name=name, sha256="0" * 64, size=1) for name in names}

    known = Known()
    first = looked_at.read_trainer_contents(trainer, HERE, known)
    assert sorted(known.asked) == ["configs/a.json", "library/train_util.py", "networks/lora.py", "train_network.py"]
    (trainer.checkout / "train_network.py").write_text("changed", encoding="utf-8")
    assert looked_at.read_trainer_contents(trainer, HERE, known).tree == first.tree


@pytest.mark.skipif(os.name == "nt", reason="names are no bytes there")
def test_a_trainer_in_a_path_that_is_no_utf_8_is_recorded_and_found_again(trainer: Trainer, tmp_path: Path) -> None:
    odd = tmp_path / os.fsdecode(b"caf\xe9")
    trainer.checkout.rename(odd)
    there = replace(trainer, kind="own", checkout=odd, python=odd / "python")
    record = TrainerRecord.model_validate_json(trainer_record(there).model_dump_json())
    assert record.checkout == f"{tmp_path}/caf\\udce9"
    found = read_current_trainer(record, HERE, FileHasher(None), given=(odd, odd / "python")).trainer
    assert found is not None
    assert found.checkout == record.checkout
    assert found.tree == seen(there).tree
    unnamed = read_current_trainer(record, HERE, FileHasher(None))  # what a record names is not looked at
    assert unnamed.trainer is None
    assert unnamed.unchecked is not None


def test_notes_of_ones_own_beside_sd_scripts_are_not_its_files(
    trainer: Trainer, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = replace(trainer, kind="own")
    monkeypatch.setattr(
        git, "list_repository_files", answer((["train_network.py", "configs/a.json"], ["mine.json", "extra.py"]))
    )
    (own.checkout / "extra.py").write_text("x = 1\n", "utf-8")
    before = seen(own).tree
    (own.checkout / "mine.json").write_text("{}", "utf-8")
    assert seen(own).tree == before
    for name in ("configs/a.json", "extra.py"):
        (own.checkout / name).write_text("other", "utf-8")
        assert seen(own).tree != before
        before = seen(own).tree
