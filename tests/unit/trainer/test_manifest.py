"""A trainer's files compared with the end of the installation, and with the packages' RECORD files."""

from __future__ import annotations

import hashlib
import os
from base64 import urlsafe_b64encode
from pathlib import Path

import pytest

from lorabake.trainer import manifest

SITE = "venv/lib/python3.11/site-packages"
UTIL, CACHED = "sd-scripts/library/train_util.py", "sd-scripts/library/__pycache__/train_util.cpython-311.pyc"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in (UTIL, CACHED, "sd-scripts/.git/index", "venv/bin/python3.11", f"{SITE}/torch/__init__.py"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    (tmp_path / "venv/bin/python").symlink_to("python3.11")
    (tmp_path / "venv/pyvenv.cfg").touch()
    package(tmp_path, "torch", {"torch/__init__.py": b"x" * 10, "../../../bin/tool": b"y"})
    return tmp_path


def package(folder: Path, name: str, files: dict[str, bytes]) -> None:
    site, rows = folder / SITE, [f"{name}/__pycache__/__init__.cpython-311.pyc,,", f"{name}-1.dist-info/RECORD,,"]
    for path, content in files.items():
        (site / path).parent.mkdir(parents=True, exist_ok=True)
        (site / path).write_bytes(content)
        digest = urlsafe_b64encode(hashlib.sha256(content).digest()).decode().rstrip("=")
        rows.append(f"{path},sha256={digest},{len(content)}")
    (site / f"{name}-1.dist-info").mkdir()
    (site / f"{name}-1.dist-info" / "RECORD").write_text("\n".join(rows) + "\n")


def differences(folder: Path, sha256: str) -> tuple[str, ...]:
    return manifest.find_changed_install(folder, sha256, manifest.list_trainer_files(folder))


def in_place(path: Path, content: bytes) -> None:
    """Another content of the same size, time and inode."""
    state = path.stat()
    path.write_bytes(content)
    os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns))


def test_what_was_left_alone_is_the_same(folder: Path) -> None:
    sha256, before = manifest.write_file_hashes(folder), manifest.list_trainer_files(folder)
    assert differences(folder, sha256) == ()
    assert manifest.list_trainer_files(folder) == before
    (folder / "sd-scripts/.git/index").write_text("git's own")
    (folder / "attention.json").write_text("{}")
    assert manifest.list_trainer_files(folder) == before


@pytest.mark.parametrize("name", [UTIL, CACHED, f"{SITE}/torch/__init__.py", f"{SITE}/torch-1.dist-info/RECORD"])
def test_a_file_of_the_same_size_and_time_is_another_one(folder: Path, name: str) -> None:
    sha256, before = manifest.write_file_hashes(folder), manifest.list_trainer_files(folder)
    in_place(folder / name, (folder / name).read_bytes()[:-1] + b"!")
    assert manifest.list_trainer_files(folder).digest != before.digest
    assert differences(folder, sha256) == (name,)


@pytest.mark.parametrize(
    "name",
    [
        f"{SITE}/sitecustomize.py", f"{SITE}/evil.pth", f"{SITE}/torch/__pycache__/__init__.cpython-311.pyc",
        "sd-scripts/json.py", "sd-scripts/library/.hidden.py", "venv/lib64/x",
    ],
)  # fmt: skip
def test_an_added_file_is_named(folder: Path, name: str) -> None:
    sha256 = manifest.write_file_hashes(folder)
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).touch()
    assert differences(folder, sha256) == (name,)


def test_a_missing_file_a_link_for_a_folder_and_a_link_elsewhere_are_named(folder: Path, tmp_path: Path) -> None:
    sha256 = manifest.write_file_hashes(folder)
    (folder / UTIL).unlink()
    (folder / "venv/bin/python").unlink()
    (folder / "venv/bin/python").symlink_to("/bin/true")
    (folder / SITE / "torch").rename(tmp_path / "away")
    (folder / SITE / "torch").symlink_to(tmp_path / "away")
    gone = {UTIL, "venv/bin/python", f"{SITE}/torch/__init__.py", f"{SITE}/torch"}
    assert set(differences(folder, sha256)) == gone


def test_another_manifest_is_none(folder: Path) -> None:
    sha256 = manifest.write_file_hashes(folder)
    (folder / UTIL).write_text("other")
    manifest.write_file_hashes(folder)
    assert differences(folder, sha256) == (manifest.MANIFEST_FILE,)
    (folder / manifest.MANIFEST_FILE).unlink()
    assert differences(folder, sha256) == (manifest.MANIFEST_FILE,)


def test_what_others_can_write_is_closed_when_made_and_named_later(folder: Path) -> None:
    (folder / UTIL).chmod(0o666)
    (folder / "venv/bin").chmod(0o777)
    sha256 = manifest.write_file_hashes(folder)
    assert [oct((folder / name).stat().st_mode & 0o777) for name in (UTIL, "venv/bin")] == ["0o644", "0o755"]
    assert differences(folder, sha256) == ()
    (folder / UTIL).chmod(0o646)
    (folder / "venv/bin").chmod(0o777)
    assert differences(folder, sha256) == (UTIL, "venv/bin/")


def test_packages_beside_their_own_record(folder: Path) -> None:
    manifest.write_file_hashes(folder)
    found = manifest.read_file_hashes(folder)
    assert manifest.find_wrong_packages(folder, folder / SITE, found) == ()
    (folder / SITE / "torch" / "__init__.py").write_bytes(b"y" * 10)
    (folder / "venv/bin/tool").write_bytes(b"z")
    for name in ("evil.pth", "torch/extra.py", "loose.py"):
        (folder / SITE / name).touch()
    manifest.write_file_hashes(folder)
    names = ("evil.pth", "loose.py", "torch/__init__.py", "torch/extra.py")
    wrong = ("venv/bin/tool", *(f"{SITE}/{name}" for name in names))
    assert manifest.find_wrong_packages(folder, folder / SITE, manifest.read_file_hashes(folder)) == wrong


def test_a_record_of_other_kinds_of_lines_says_nothing(tmp_path: Path) -> None:
    (tmp_path / "x-1.dist-info").mkdir()
    lines = ["a.py,md5=1,1", "b.py,sha256=?,1", "", "c.py", '"quo,ted.py",sha256=AA,1']
    (tmp_path / "x-1.dist-info" / "RECORD").write_text("\n".join(lines))
    told, every = manifest.read_package_records(tmp_path, "")
    assert every == {"a.py", "b.py", "c.py", "quo,ted.py"}
    assert told.get("quo,ted.py") == "00"
    assert set(told) <= {"b.py", "quo,ted.py"}


def test_many_names_are_cut() -> None:
    assert str(manifest.shorten_names(["a", "b"])) == "a, b"
    assert str(manifest.shorten_names(list("abcdefgh"))).startswith("a, b, c, d, e")
    assert "f" not in str(manifest.shorten_names(list("abcdefgh"))).split(",")[4]
