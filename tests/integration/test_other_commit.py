"""Another commit of sd-scripts than the pin, installed and asked in a small world: real git, real pip, real parsers."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import trainer_world as small

from lorabake.errors import SetupError
from lorabake.trainer import install as trainers
from lorabake.trainer import options, store, venv
from lorabake.util import resources
from lorabake_schemas.pin import Pin
from sample_images import write_lighthouses
from situations import write_base

SCRIPT = """\
import argparse


def setup_parser():
    parser = argparse.ArgumentParser()
    for name, kind in {OPTIONS}:
        parser.add_argument("--" + name, type=kind)
    parser.add_argument("--lowram", action="store_true")
    return parser
"""
# As much of voluptuous as dump_options.py needs.
VOLUPTUOUS = """\
class Invalid(Exception):
    pass


class Required(str):
    pass


class Schema:
    def __init__(self, kind):
        self.kind = kind

    def __call__(self, sample):
        if not isinstance(sample, self.kind):
            raise Invalid
"""
CONFIG_UTIL = """\
from voluptuous import Required


class ConfigSanitizer:
    general_schema = {"resolution": int, "subsets": list}
    db_dataset_schema = {"resolution": int}
    db_subset_schema = {Required("image_dir"): str, "flip_aug": bool}
    ft_subset_schema = {Required("metadata_file"): str, "image_dir": str}

    def __init__(self, *args):
        pass
"""


def scripts(**kinds: str) -> dict[str, str]:
    """The files of a commit whose two scripts have these options."""
    text = SCRIPT.replace("{OPTIONS}", "(" + "".join(f'("{name}", {kind}), ' for name, kind in kinds.items()) + ")")
    return {"train_network.py": text, "sdxl_train_network.py": text}


ASIDE = {"voluptuous.py": VOLUPTUOUS, "library/config_util.py": CONFIG_UTIL}
PIN_FILES = {
    **ASIDE, **scripts(seed="int", huber_scale="float"), "requirements.txt": "# pins\ntiny==1.0\nold==3\nsame\n",
}  # fmt: skip
OTHER_FILES = {**scripts(seed="int"), "requirements.txt": "tiny==0.9\nsame\nmore==2\n"}


def commit(folder: Path, files: dict[str, str | None], message: str = "another") -> str:
    """A commit on top with these files changed, None taking one away; its full id."""
    repo = folder / "origin"
    for name, content in files.items():
        if content is None:
            (repo / name).unlink()
        else:
            (repo / name).write_text(content, encoding="utf-8")
    small.git(repo, "add", "--all", ".")
    small.git(repo, "commit", "-qm", message)
    return str(small.git(repo, "rev-parse", "HEAD"))


class Commits:
    """A world with a pin and a commit before it."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.home, self.env = folder, folder / "home", small.environment(folder)
        self.other = commit(folder, {**ASIDE, **OTHER_FILES})
        self.pinned = commit(folder, {**PIN_FILES})
        self.pin: Pin = small.pin(folder, self.pinned)
        self.said: list[str] = []

    def at(self, sha: str) -> Pin:
        return self.pin.model_copy(update={"commit": sha})

    def install(self, sha: str) -> trainers.Trainer:
        self.said.clear()
        world = replace(small.world(self.folder), lender=self.pin)
        python = self.folder / "python"
        return trainers.ensure_installed(
            self.at(sha), self.home, "cuda", self.env, self.said.append, python=python, world=world
        )

    def find(self, sha: str) -> trainers.Trainer | None:
        python, world = self.folder / "python", small.world(self.folder)
        return trainers.find_installed(self.at(sha), self.home, "cuda", self.env, python=python, world=world)

    def names(self, sha: str) -> list[str]:
        return [
            option.name for option in options.require_options(self.at(sha), self.home, self.env).of("train_network.py")
        ]


@pytest.fixture(scope="module")
def ready(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("ready")
    venv.create_venv(folder / "venv", None, {"PATH": os.environ["PATH"], "HOME": str(folder)})
    return folder


@pytest.fixture
def commits(tmp_path: Path, ready: Path) -> Commits:
    small.make(tmp_path)
    small.quick_python(tmp_path, ready / "venv")
    return Commits(tmp_path)


def test_another_commit_gets_the_same_packages_and_its_own_options(commits: Commits) -> None:
    pinned = commits.install(commits.pinned)
    assert not any("warning" in line for line in commits.said)
    other = commits.install(commits.other)
    assert [line.strip() for line in commits.said if "==" in line and "this commit" in line] == [
        "this commit requires tiny==0.9, the pinned commit requires tiny==1.0",
        "this commit requires more==2, the pinned commit does not",
        "this commit does not require old==3, the pinned commit does",
    ]
    assert any(line.startswith("warning: ") and "requirements.txt differs" in line for line in commits.said)
    assert any(commits.pinned[:12] in line and commits.other[:12] in line for line in commits.said)
    assert other.commit == commits.other == small.git(other.checkout, "rev-parse", "HEAD")
    assert other.versions["tiny"] == pinned.versions["tiny"] == "1.0"
    assert other.checkout.parent != pinned.checkout.parent
    assert commits.names(commits.other) == ["seed", "lowram"]
    found = options.require_options(commits.at(commits.other), commits.home, commits.env)
    assert [(key.name, key.accepts, key.required) for key in found.dataset.subsets] == [
        ("image_dir", ("str",), True), ("flip_aug", ("bool",), False),
    ]  # fmt: skip
    assert (commits.find(commits.pinned), commits.find(commits.other)) == (pinned, other)
    assert commits.install(commits.other) == other
    assert commits.said == []
    python, world = commits.folder / "python", small.world(commits.folder)
    seen = trainers.collect_status(commits.pin, commits.home, "cuda", commits.env, python=python, world=world)
    assert (seen.trainer, seen.installed, seen.others) == (pinned, (pinned,), (other,))


def test_options_that_were_damaged_are_read_anew(commits: Commits) -> None:
    kept = options.options_path(commits.install(commits.other).checkout.parent)
    file = kept / "options-train_network.json"
    whole = file.read_bytes()
    for damage in (b"\xff{", whole[:-40], None):
        if damage is None:
            shutil.rmtree(kept)
        else:
            file.write_bytes(damage)
        assert commits.names(commits.other) == ["seed", "lowram"]
    assert file.read_bytes() == whole


def test_the_same_wishes_are_said_to_be_the_same(commits: Commits) -> None:
    later = commit(commits.folder, {"library/new.py": "later = 1\n"})
    commits.install(later)
    assert any("requirements.txt matches" in line for line in commits.said)


def test_requirements_that_cannot_be_compared_are_no_reason_to_stop(commits: Commits) -> None:
    bare = commit(commits.folder, {"requirements.txt": None})
    assert commits.install(bare).commit == bare
    assert any("cannot compare this commit's requirements.txt" in line for line in commits.said)


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({"train_network.py": "import no_such_module\n"}, "does not work with lorabake's packages"),
        ({"train_network.py": "print('no parser')\n"}, "does not work with lorabake's packages"),
        ({"sdxl_train_network.py": None}, "has no sdxl_train_network.py"),
    ],
)
def test_a_commit_that_cannot_be_used_leaves_nothing(
    commits: Commits, files: dict[str, str | None], words: str
) -> None:
    broken = commit(commits.folder, files)
    with pytest.raises(SetupError) as caught:
        commits.install(broken)
    assert words in caught.value.message
    assert broken in caught.value.message
    assert [path.name for path in store.trainers_folder(commits.home).glob("*-*")] == []
    if "sdxl" in words:
        assert not any("virtual environment" in line for line in commits.said)


def test_a_commit_that_is_nowhere(commits: Commits) -> None:
    with pytest.raises(SetupError, match="has no commit 0123456789") as caught:
        commits.install("0123456789" * 4)
    assert caught.value.exit_code == 4
    with pytest.raises(SetupError, match="is not installed") as caught:
        commits.names("0123456789" * 4)
    assert f"lorabake trainer install --commit {'0123456789' * 4}" in (caught.value.hint or "")


def test_a_tags_own_id_is_refused(commits: Commits) -> None:
    small.git(commits.folder / "origin", "tag", "-a", "v2", "-m", "x", commits.other)
    tag = small.git(commits.folder / "origin", "rev-parse", "v2")
    with pytest.raises(SetupError, match="returned the commit") as caught:
        commits.install(tag)
    assert "a tag is not a commit" in (caught.value.hint or "")
    assert commits.other in caught.value.message


def test_a_commit_that_is_not_installed_is_looked_up_once(commits: Commits) -> None:
    looked = commits.at(commits.other), commits.home, commits.env
    with pytest.raises(SetupError, match=f"options of sd-scripts {commits.other} needs") as caught:
        options.fetch_options(*looked, commits.said.append)
    assert caught.value.hint == "install them with `lorabake trainer install`"
    commits.install(commits.pinned)
    commits.said.clear()
    first = options.fetch_options(*looked, commits.said.append)
    assert commits.said == [
        f"fetching sd-scripts {commits.other[:12]} from {commits.pin.url}",
        "reading the options of sd-scripts",
    ]
    assert [option.name for option in first.of("train_network.py")] == ["seed", "lowram"]
    shutil.rmtree(commits.folder / "origin")
    assert options.fetch_options(*looked, commits.said.append) == first
    assert len(commits.said) == 2
    with pytest.raises(SetupError, match="is not installed"):  # looking is not installing
        commits.names(commits.other)


# The command line, with two commits in the store as an installation leaves them.

ONE, TWO = "1" * 40, "2" * 40
RECIPE = """\
name = "lamp"
kind = "object"

[base]
model = "model.safetensors"
family = "sd15"
tags = "danbooru"

[[concept]]
token = "lumlighthouse"
class = "lighthouse"
images = "pictures"

[train]
optimizer = "AdamW"
resolution = 64
max_train_steps = 16

[kohya]
huber_scale = 2.0
"""


def pretend(home: Path, sha: str, *without: str) -> None:
    """A trainer of this commit, whose scripts have the pin's options less some."""
    folder = store.trainers_folder(home) / f"{sha[:8]}-x"
    kept = options.options_path(folder)
    kept.mkdir(parents=True)
    (folder / "sd-scripts").mkdir()
    (folder / "sd-scripts" / "train_network.py").touch()
    venv.interpreter_path(folder / "venv").parent.mkdir(parents=True)
    venv.interpreter_path(folder / "venv").touch()
    for name in ("options-train_network.json", "options-sdxl_train_network.json", "options-dataset.json"):
        read: Any = json.loads(resources.read_vendor_text(name))
        if name != "options-dataset.json":
            read = [option for option in read if option["name"] not in without]
        (kept / name).write_text(json.dumps(read), encoding="utf-8")
    signatures = resources.read_vendor_text(resources.SIGNATURES_FILE)
    (kept / resources.SIGNATURES_FILE).write_text(signatures, encoding="utf-8")
    marker = store.InstallManifest(
        folder=folder.name, url=resources.load_pin().url, commit=sha, lock="cpu", lock_sha256="x", files_sha256="x",
        python="3", versions={},
    )  # fmt: skip
    store.activate_trainer(home, f"{sha[:8]}", marker)


Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def lorabake(tmp_path: Path) -> Run:
    pretend(tmp_path / "home", ONE, "huber_scale", "metadata_trigger_phrase")
    pretend(tmp_path / "home", TWO, "metadata_trigger_phrase")
    (tmp_path / "recipe.toml").write_text(RECIPE, encoding="utf-8")
    write_lighthouses(tmp_path / "pictures", 15)
    write_base(tmp_path / "model.safetensors")

    def run(*args: str) -> subprocess.CompletedProcess[str]:
        env = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "LORABAKE_HOME": str(tmp_path / "home")}
        argv = [sys.executable, "-m", "lorabake", *args]
        return subprocess.run(argv, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=120, check=False)

    return run


def test_check_at_a_commit_names_option_commit_file_and_line(lorabake: Run) -> None:
    assert lorabake("check", "recipe.toml").returncode == 0
    done = lorabake("check", "recipe.toml", "--commit", ONE, "--output-format", "concise")
    assert done.returncode == 1
    line = 1 + RECIPE.splitlines().index("huber_scale = 2.0")
    said = next(
        each
        for each in done.stdout.splitlines()
        if each.startswith(f"recipe.toml:{line}: error[S1] kohya.huber_scale: ")
    )
    assert f"train_network.py in sd-scripts {ONE[:12]} has no option huber_scale; remove it, or " in said
    assert "warning: " in done.stderr
    assert resources.load_pin().commit[:12] in done.stderr
    assert lorabake("check", "recipe.toml", "--commit", TWO).returncode == 0


@pytest.mark.parametrize("command", [("plan",), ("compile", "-o", "out"), ("run",), ("run", "--rehearse")])
def test_nothing_goes_on_at_a_commit_that_lacks_an_option(
    lorabake: Run, tmp_path: Path, command: tuple[str, ...]
) -> None:
    name, *more = command
    wanted = () if name != "run" else ("--dry-run",)
    done = lorabake(name, "recipe.toml", *more, *wanted, "--commit", ONE)
    assert done.returncode == 1
    assert ONE[:12] in done.stdout + done.stderr
    assert not (tmp_path / "out").exists()


def test_plan_compile_and_rehearse_at_a_commit(lorabake: Run, tmp_path: Path) -> None:
    assert "metadata_trigger_phrase" in lorabake("plan", "recipe.toml").stdout
    assert "metadata_trigger_phrase" not in lorabake("plan", "recipe.toml", "--commit", TWO).stdout
    assert lorabake("compile", "recipe.toml", "-o", "out", "--commit", TWO).returncode == 0
    compiled = (tmp_path / "out" / "train.toml").read_text(encoding="utf-8")
    assert "huber_scale = 2.0" in compiled
    assert "metadata_trigger_phrase" not in compiled
    done = lorabake("run", "recipe.toml", "--rehearse", "--commit", TWO, "--run-dir", "run")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "run" / "train.toml").read_text(encoding="utf-8") == compiled


@pytest.mark.parametrize("sha", ["v0.9.1", "1111111", "main", ""])
def test_a_commit_has_to_be_named_in_full(lorabake: Run, sha: str) -> None:
    for args in (("check", "recipe.toml", "--commit", sha), ("trainer", "status", "--against", sha)):
        done = lorabake(*args)
        assert done.returncode == 2
        assert "40 characters" in done.stderr


def test_a_commit_that_is_not_installed(lorabake: Run) -> None:
    for args in (("check", "recipe.toml"), ("run", "recipe.toml", "--rehearse"), ("trainer", "path")):
        done = lorabake(*args, "--commit", "3" * 40)
        assert done.returncode == 4
        assert f"`lorabake trainer install --commit {'3' * 40}`" in done.stderr


def test_commit_and_sd_scripts_exclude_each_other(lorabake: Run) -> None:
    done = lorabake("run", "recipe.toml", "--commit", ONE, "--sd-scripts", "x")
    assert done.returncode == 2
    assert "--commit and --sd-scripts" in done.stderr


def test_what_differs_between_two_commits(lorabake: Run) -> None:
    done = lorabake("trainer", "status", "--commit", ONE, "--against", TWO)
    assert done.returncode == 0
    head, *lines = done.stdout.splitlines()
    assert ONE in head
    assert TWO in head
    assert lines[0] == "  + huber_scale (train_network.py, sdxl_train_network.py)"
    found = json.loads(lorabake("trainer", "status", "--against", ONE, "--json").stdout)
    assert (found["commit"], found["against"]) == (resources.load_pin().commit, ONE)
    removed = [each["name"] for each in found["changes"] if each["place"] == "train_network.py" and not each["after"]]
    assert removed == ["metadata_trigger_phrase", "huber_scale"]
    same = lorabake("trainer", "status", "--commit", ONE, "--against", ONE, "--json")
    assert json.loads(same.stdout)["changes"] == []


def test_status_names_the_others(lorabake: Run) -> None:
    lines = lorabake("trainer", "status").stdout.splitlines()
    assert sum(line.startswith("another commit or Python: sd-scripts ") for line in lines) == 2
    seen = json.loads(lorabake("trainer", "status", "--json").stdout)
    assert sorted(each["commit"] for each in seen["others"]) == [ONE, TWO]
    asked = lorabake("trainer", "status", "--commit", "3" * 40).stdout
    assert f"lorabake trainer install --commit {'3' * 40}" in asked
