"""`lorabake verify` on run folders that real commands made, with an sd-scripts of one's own that trains nothing."""

from __future__ import annotations

import errno
import io
import json
import os
import shutil
import subprocess
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest
import tomli_w
from jsonschema import Draft202012Validator
from own_trainer import OwnTrainer, environment, lorabake
from PIL import Image

from lorabake.analysis.verify import verify_run
from lorabake.commands.output.layout import TextLayout
from lorabake.commands.output.verify import format_verification
from lorabake.runs.index import find_run
from lorabake.util import locks, machine
from lorabake.util.fact_cache import fact_store_path
from lorabake.util.hashing import FileHasher
from situations import project, write_base, write_pictures

SCHEMA = Path(__file__).resolve().parents[2] / "schemas" / "verify.schema.json"
MORE = """
[train]
resolution = 256
max_train_steps = 4
"""


TOKENIZER = "the tokenizer openai/clip-vit-large-patch14"  # of the hub, where it is not on this machine


class World:
    """A project with one finished run, beside a trainer of one's own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.home, self.project = folder / "home", folder / "project"
        self.home.mkdir(parents=True)
        self.trainer = OwnTrainer(folder / "trainer")
        project(self.project, MORE, pictures=6)
        done = lorabake(self.project, self.home, "run", "recipe.toml", *self.trainer.flags)
        assert done.returncode == 0, done.stderr + done.stdout
        (self.run,) = (path.parent for path in self.project.glob("runs/*/record.json"))

    @property
    def given(self) -> tuple[Path, Path]:
        return self.trainer.checkout, self.trainer.python

    def verify(self, *, cache: bool = True) -> dict[str, Any]:
        """What it says as JSON, whose schema it keeps."""
        env = environment(self.home)
        store = fact_store_path(Path(env["LORABAKE_HOME"]), env) if cache else None
        report = verify_run(
            find_run(self.run, self.project), env, FileHasher(store), machine.detect_machine(env), self.given
        )
        told: dict[str, Any] = json.loads(format_verification(report, TextLayout(), as_json=True))
        schema = json.loads(SCHEMA.read_text("utf-8"))
        check: Callable[[object], None] = cast("Any", Draft202012Validator(schema)).validate
        check(told)
        return told

    def differences(self, *, cache: bool = True) -> list[tuple[str, str, str]]:
        return [(each["what"], each["name"], each["change"]) for each in self.verify(cache=cache)["differences"]]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> World:
    return World(tmp_path_factory.mktemp("made"))


@pytest.fixture
def world(made: World, tmp_path: Path) -> World:
    """The same to spoil: the project is a copy that lies elsewhere, the trainer is where it was."""
    copy = World.__new__(World)
    copy.folder, copy.home, copy.trainer = tmp_path, made.home, made.trainer
    copy.project = tmp_path / "elsewhere" / "project"
    shutil.copytree(made.project, copy.project)
    copy.run = copy.project / made.run.relative_to(made.project)
    return copy


def flip(path: Path, at: int = -1) -> None:
    """One byte, the file's length and times as they were."""
    state, data = path.stat(), bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)
    os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns))


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text("utf-8")
    assert text.count(old) == 1
    path.write_text(text.replace(old, new), "utf-8")


def pixel(path: Path) -> None:
    with Image.open(path) as image:
        image.load()
        image.putpixel((0, 0), (9, 8, 7))
        image.save(path)


def test_untouched_it_is_identical_wherever_it_lies(made: World, world: World) -> None:
    for each in (made, world):
        told = each.verify()
        assert told["identical"]
        assert told["differences"] == []
        assert [words.split(" was not")[0] for words in told["unproven"]] in ([], [TOKENIZER])
        # 6 pictures, 6 captions, the model, the LoRA; recipe, train, dataset, accelerate, plan
        assert told["compared"]["files"] >= 6 + 6 + 1 + 1 + 5
        assert told["compared"]["packages"] == 2
    record = json.loads((made.run / "record.json").read_text("utf-8"))
    assert told["digest"] == record["digest"]


def test_five_faults_are_told_by_name_and_nothing_else(made: World, world: World) -> None:
    flip(world.project / "pics" / "002.txt")
    pixel(world.project / "pics" / "004.png")
    edit(world.run / "recipe.toml", "max_train_steps = 4", "max_train_steps = 5")
    (world.project / "base.safetensors").write_bytes(b"another model")
    world.trainer.install("accelerate", "1.6.1")
    try:
        told = world.verify()
        assert made.differences() == [("trainer", "accelerate", "changed")]
    finally:
        world.trainer.install("accelerate", "1.6.0")
    assert [(each["what"], each["name"], each["change"]) for each in told["differences"]] == [
        ("recipe", "train.max_train_steps", "changed"),
        ("base", "base.safetensors", "changed"),
        ("concept", "002.txt", "changed"),
        ("concept", "004.png", "changed"),
        ("trainer", "accelerate", "changed"),
    ]
    recipe, model, *_, package = told["differences"]
    assert (recipe["was"], recipe["now"], package["was"], package["now"]) == ("4", "5", "1.6.0", "1.6.1")
    assert model["message"] == "the base model base.safetensors changed after the run"
    assert not told["identical"]
    assert made.verify()["identical"]


def test_as_a_command(made: World) -> None:
    for named in (made.run, made.run.name, made.run / "output" / "hmbrgrlora.safetensors"):
        done = lorabake(made.project, made.home, "verify", named, *made.trainer.flags)
        assert (done.returncode, done.stderr) == (0, "")
        assert ": identical" in done.stdout.splitlines()[-1]


def test_text_is_a_difference_a_line_and_sums_up(world: World) -> None:
    flip(world.project / "pics" / "002.txt")
    done = lorabake(world.project, world.home, "verify", world.run.name, *world.trainer.flags)
    assert done.returncode == 1
    *_, line, _remark, last = done.stdout.splitlines()
    folder = f"runs/{world.run.name}"
    flags = ("--json", "--no-cache")
    told = json.loads(lorabake(world.project, world.home, "verify", world.run, *flags, *world.trainer.flags).stdout)
    assert [each["name"] for each in told["differences"]] == ["002.txt"]
    assert line == f"{folder}: concept: pics/002.txt changed after the run"
    assert last.startswith(f"{folder}: 1 difference; ")
    assert last.endswith("2 trainer packages")


SPOIL: dict[str, tuple[Callable[[World], object], list[tuple[str, str, str]]]] = {
    "a caption is gone": (
        lambda w: (w.project / "pics" / "001.txt").unlink(),
        [("concept", "001.txt", "missing")],
    ),
    "a picture is gone": (
        lambda w: (w.project / "pics" / "001.png").unlink(),
        [("concept", "001.png", "missing"), ("concept", "001.txt", "missing")],
    ),
    "a picture was added": (
        lambda w: shutil.copy(w.project / "pics" / "001.png", w.project / "pics" / "100.png"),
        [("concept", "100.png", "added")],
    ),
    "a picture has another name": (
        lambda w: (w.project / "pics" / "001.png").rename(w.project / "pics" / "x.png"),
        [("concept", "001.png", "renamed"), ("concept", "001.txt", "missing")],
    ),
    "the folder is gone": (
        lambda w: shutil.rmtree(w.project / "pics"),
        [("concept", "pics", "missing")],
    ),
    "the model is gone": (
        lambda w: (w.project / "base.safetensors").unlink(),
        [("base", "base.safetensors", "missing")],
    ),
    "a compiled key": (
        lambda w: edit(w.run / "train.toml", "seed = 42", "seed = 43"),
        [("compiled", "seed", "changed")],
    ),
    "a key of a subset": (
        lambda w: edit(w.run / "dataset.toml", "resolution = 256", "resolution = 320"),
        [("compiled", "datasets.resolution", "changed")],
    ),
    "accelerate's file": (
        lambda w: flip(w.run / "accelerate.yaml"),
        [("compiled", "accelerate.yaml", "changed")],
    ),
    "the plan": (
        lambda w: flip(w.run / "plan.json"),
        [("compiled", "plan.json", "changed")],
    ),
    "the command": (
        lambda w: edit(w.run / "command.json", '"TOKENIZERS_PARALLELISM": "false"', '"TOKENIZERS_PARALLELISM": "true"'),
        [("compiled", "command.json", "changed")],
    ),
    "the command is gone": (
        lambda w: (w.run / "command.json").unlink(),
        [("compiled", "command.json", "missing")],
    ),
    "a comment in the recipe": (
        lambda w: (w.run / "recipe.toml").write_text("# hm\n" + (w.run / "recipe.toml").read_text("utf-8"), "utf-8"),
        [("recipe", "recipe.toml", "changed")],
    ),
    "the list of inputs is gone": (
        lambda w: (w.run / "inputs.json").unlink(),
        [("inputs", "inputs.json", "missing")],
    ),
    "the list of inputs is torn": (
        lambda w: (w.run / "inputs.json").write_text("{"),
        [("inputs", "inputs.json", "changed")],
    ),
    "the LoRA": (
        lambda w: flip(next((w.run / "output").glob("*.safetensors"))),
        [("output", "output/hmbrgrlora.safetensors", "changed")],
    ),
    "the LoRA is gone": (
        lambda w: next((w.run / "output").glob("*.safetensors")).unlink(),
        [("output", "output/hmbrgrlora.safetensors", "missing")],
    ),
    "the trainer's files in the record": (
        lambda w: edit(w.run / "record.json", '"tree": "', '"tree": "0'),
        [("record", "digest", "changed"), ("trainer", "sd-scripts", "changed")],
    ),
    "the commit in the record": (
        lambda w: edit(w.run / "record.json", '"commit": "', '"commit": "0'),
        [("trainer", "sd-scripts", "changed")],
    ),
}


@pytest.mark.parametrize("fault", SPOIL)
def test_each_fault_alone_is_the_only_one_told(world: World, fault: str) -> None:
    spoil, expected = SPOIL[fault]
    spoil(world)
    assert world.differences() == expected


def test_files_of_ones_own_beside_the_data_and_the_lora_are_no_fault(world: World) -> None:
    (world.run / "output" / "notes.txt").write_text("mine")
    (world.run / "mine.txt").write_text("mine")
    (world.project / "pics" / "readme.md").write_text("mine")
    (world.project / "pics" / "sub").mkdir()
    assert world.verify()["identical"]


def test_an_edited_list_does_not_hide_an_edited_caption(world: World) -> None:
    """The record has the digest of the list, and that of each part of it."""
    caption = world.project / "pics" / "002.txt"
    path, before = world.run / "inputs.json", world.verify()
    assert before["identical"]
    told = json.loads(path.read_text("utf-8"))
    flip(caption)
    for each in (file for part in told["inputs"] for file in part["files"]):
        if each["name"] == "002.txt":
            each["sha256"] = subprocess.check_output(["sha256sum", caption], text=True).split()[0]
    path.write_text(json.dumps(told), "utf-8")
    found = world.verify()["differences"]
    assert [(each["what"], each["name"]) for each in found] == [("inputs", "inputs.json"), ("concept", "pics")]
    assert "inputs.json changed too" in found[1]["message"]
    flip(caption)
    assert world.differences() == [("inputs", "inputs.json", "changed")]


def test_an_unreadable_image_is_no_other_image(world: World) -> None:
    path = world.project / "pics" / "002.png"
    content = path.read_bytes()
    path.unlink()
    path.mkdir()
    assert ("concept", "002.png", "changed") not in world.differences()
    path.rmdir()
    path.write_bytes(content)
    assert world.verify()["identical"]


def test_a_trainer_that_was_edited_names_the_file_and_one_that_is_gone_is_a_difference(world: World) -> None:
    util = world.trainer.checkout / "library" / "train_util.py"
    before = util.read_text("utf-8")
    util.write_text("LOSS = 0\n")
    try:
        (found,) = world.verify()["differences"]
    finally:
        util.write_text(before)
    assert found["message"] == "sd-scripts/library/train_util.py changed after the run"


def test_a_trainer_that_only_the_record_names_is_never_started(world: World, tmp_path: Path) -> None:
    """It is named as not checked, and that is no difference."""
    started = tmp_path / "started"
    planted = tmp_path / "python"
    planted.write_text(f"#!/bin/sh\ntouch {started}\n")
    planted.chmod(0o755)
    record = json.loads((world.run / "record.json").read_text("utf-8"))
    record["trainer"]["python"] = str(planted)
    (world.run / "record.json").write_text(json.dumps(record), "utf-8")
    done = lorabake(world.project, world.home, "verify", world.run, "--json")
    told = json.loads(done.stdout)
    assert not started.exists()
    assert any("--sd-scripts" in each for each in told["unproven"])
    assert [each["name"] for each in told["differences"]] == ["argv"]


def test_what_the_cache_of_digests_says_is_not_needed(world: World) -> None:
    assert world.verify(cache=False)["identical"]
    flip(world.project / "pics" / "002.txt")
    assert world.differences(cache=False) == [("concept", "002.txt", "changed")]


def test_a_rehearsal_a_failed_run_and_one_in_progress(world: World) -> None:
    done = lorabake(world.project, world.home, "run", "recipe.toml", "--rehearse")
    assert done.returncode == 0, done.stderr
    (world.run,) = world.project.glob("runs/*-rehearsal-*")
    told = world.verify()
    assert told["identical"]
    assert "this was a rehearsal, so nothing was trained" in told["remarks"]
    path = world.run / "record.json"
    edit(path, '"status": "finished"', '"status": "failed"')
    assert world.verify()["identical"]
    record = json.loads(path.read_text("utf-8"))
    path.write_text(json.dumps(record | {"status": "started", "outcome": None, "ended": None}), "utf-8")
    with locks.hold_lock(world.run.parent / f".{record['name']}.lock", lambda _: None):
        told = world.verify()
    assert told["remarks"][0] == "this run is in progress; its outputs are recorded when it ends"
    assert (told["status"], told["identical"]) == ("started", True)
    told = world.verify()  # nobody holds its name: it was killed
    assert (told["status"], told["identical"]) == ("interrupted", True)
    assert json.loads(path.read_text("utf-8"))["outcome"]["code"] == "lorabake-killed"


KINDS = {
    "deterministic": "[launch]\ndeterministic = true\n",
    "prompts": '[sample]\nprompts = ["hmbrgrlora"]\n[metadata]\nauthor = "me"\n',
    "a shipped preset": '[network]\ntype = "ia3"\n',
    "a preset of one's own": '[network]\ntype = "locon"\npreset = "mine.toml"\n',
    "tokenizers and a VAE beside the recipe": '[base]\nvae = "vae.safetensors"\ntokenizer_cache_dir = "tokenizers"\n',
    "weights to begin with": '[network]\nnetwork_weights = "old.safetensors"\n',
    "regularization": '[[regularization]]\nclass = "burger"\nimages = "regular"\n',
    "a model of the hub": '[base]\nmodel = "org/model"\n',
    "absolute paths": '[base]\nmodel = "{project}/base.safetensors"\n',
}


def with_more(recipe: Path, more: str) -> None:
    """The recipe with these tables, whose keys come before those of the same name."""
    table = tomllib.loads(recipe.read_text("utf-8"))
    for name, part in tomllib.loads(more).items():
        table[name] = part if isinstance(part, list) else {**table.get(name, {}), **part}
    recipe.write_text(tomli_w.dumps(table), "utf-8")


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_recipe_is_identical_at_first_and_names_a_key_that_changed(world: World, kind: str) -> None:
    """The digest follows from the record, and train.toml can be told from what it was, whatever the recipe names."""
    project = world.project
    write_pictures(project / "regular", 6, caption="food")
    shutil.copytree(project / "pics", project / "tokenizers")
    (project / "mine.toml").write_text('unet_target_module = ["CrossAttention"]\n')
    for name in ("vae.safetensors", "old.safetensors"):
        write_base(project / name)
    with_more(project / "recipe.toml", KINDS[kind].format(project=project))
    done = lorabake(project, world.home, "run", "recipe.toml", "--rehearse")
    assert done.returncode == 0, done.stderr
    (world.run,) = project.glob("runs/*-rehearsal-*")
    assert world.verify()["identical"]
    edit(world.run / "train.toml", "seed = 42", "seed = 43")
    assert world.differences() == [("compiled", "seed", "changed")]
    edit(world.run / "train.toml", "seed = 43", "seed = 42")
    edit(world.run / "record.json", '"digest": "', '"digest": "0')
    assert world.differences() == [("record", "digest", "changed")]


def test_what_is_no_run_is_said_in_one_line(world: World) -> None:
    done = lorabake(world.project, world.home, "verify", "recipe.toml")
    assert done.returncode == 1
    assert done.stderr.startswith("error: recipe.toml is not in a run folder\n")
    assert "Traceback" not in done.stderr


def refuse(monkeypatch: pytest.MonkeyPatch, *shut: Path) -> None:
    """Nobody may read these, nor what lies in them (root may read everything)."""

    def guarded(true: Callable[..., Any]) -> Callable[..., Any]:
        def asked(path: Any, *how: Any, **more: Any) -> Any:
            named = Path() if isinstance(path, int) else Path(os.fsdecode(path))
            if named in shut or any(each in named.parents for each in shut):
                raise PermissionError(errno.EACCES, "Permission denied", str(path))
            return true(path, *how, **more)

        return asked

    monkeypatch.setattr(os, "open", guarded(os.open))
    monkeypatch.setattr(os, "scandir", guarded(os.scandir))
    monkeypatch.setattr(io, "open", guarded(io.open))  # what Path.open calls


def test_what_may_not_be_read_is_not_said_to_be_gone(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    pictures, lora = world.project / "pics", world.run / "output" / "hmbrgrlora.safetensors"
    refuse(monkeypatch, pictures, world.run / "plan.json", lora, world.project / "base.safetensors")
    found = world.verify(cache=False)["differences"]
    assert [(each["what"], each["change"], each["name"]) for each in found] == [
        ("compiled", "unreadable", "plan.json"),
        ("base", "unreadable", "base.safetensors"),
        ("concept", "unreadable", "pics"),
        ("output", "unreadable", "output/hmbrgrlora.safetensors"),
    ]
    assert all(each["message"].endswith(": permission denied") for each in found)


def test_one_image_that_may_not_be_read_is_the_only_one_told(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    refuse(monkeypatch, world.project / "pics" / "001.png")
    assert world.differences(cache=False) == [("concept", "001.png", "unreadable")]


@pytest.mark.parametrize("name", ["plan.json", "command.json", "inputs.json", "train.toml", "recipe.toml"])
def test_a_pipe_or_an_endless_device_is_not_read(world: World, name: str) -> None:
    path = world.run / name
    kept = path.read_bytes()
    for endless in (False, True):
        path.unlink()
        if endless:
            path.symlink_to("/dev/zero")
        else:
            os.mkfifo(path)
        said = " ".join(each["message"] for each in world.verify()["differences"])
        assert "it is not a regular file" in said or "it is a symbolic link" in said
    path.unlink()
    path.write_bytes(kept)
    assert world.verify()["identical"]


def test_a_run_folder_that_was_moved_away_says_so_once(world: World) -> None:
    away = world.folder / "away" / "runs" / world.run.name
    shutil.copytree(world.run, away)
    shutil.copytree(world.project, world.folder / "whole")
    world.run = away
    (found,) = world.verify()["differences"]
    assert (found["what"], found["change"]) == ("inputs", "missing")
    assert f"base.safetensors was not found in {away.parents[1]}" in found["message"]
    world.run = world.folder / "whole" / "runs" / away.name
    assert world.verify()["identical"]
    shutil.rmtree(world.folder / "whole" / "pics")
    assert world.differences() == [("concept", "pics", "missing")]


def test_what_the_record_says_of_itself_is_held_against_the_plan(world: World) -> None:
    path = world.run / "record.json"
    told = json.loads(path.read_text("utf-8"))
    path.write_text(json.dumps(told | {"seed": 7, "planned_steps": 9}), "utf-8")
    found = world.verify()["differences"]
    assert [(each["what"], each["name"], each["was"], each["now"]) for each in found] == [
        ("record", "seed", "42", "7"),
        ("record", "planned_steps", "4", "9"),
    ]


def test_a_folder_that_is_a_link_to_itself_is_said_in_words(world: World) -> None:
    shutil.rmtree(world.project / "pics")
    (world.project / "pics").symlink_to("pics")
    (found,) = world.verify()["differences"]
    assert found["message"] == "cannot read pics: it is a symbolic link loop"
    done = lorabake(world.project, world.home, "check", "recipe.toml")
    assert "the folder pics: a link to itself" in done.stdout
    assert "Errno" not in done.stdout + done.stderr
