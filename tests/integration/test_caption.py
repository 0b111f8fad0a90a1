"""Captions from real programs: what they print and write, and everything that they can do wrong."""

from __future__ import annotations

import hashlib
import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from sample_images import LAMP_RECIPE

PRINTS = 'print("red_lamp, lamp, table")'
WRITES = """\
for image in sorted(Path(sys.argv[1]).glob("*.png")):
    image.with_suffix(".txt").write_text("red_lamp, table")
    image.write_bytes(b"the tool changes what it is given")
"""
Captioning = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """Four images, of which one has a caption; the names are what a shell would stumble over."""
    folder = tmp_path / "project"
    (folder / "img").mkdir(parents=True)
    for number, name in enumerate(("a b.png", "-rf.png", "$(x).PNG", "mine.png")):
        Image.new("RGB", (512, 512), (number, 9, 9)).save(folder / "img" / name)
    (folder / "img" / "mine.txt").write_text("lumlamp, lamp, my own words")
    (folder / "r.toml").write_text(LAMP_RECIPE)
    return folder


@pytest.fixture
def caption(project: Path, tmp_path: Path) -> Captioning:
    def run(*args: object, script: str = PRINTS, expected: int = 0) -> subprocess.CompletedProcess[str]:
        (project / "tool.py").write_text(f"import os, sys, time\nfrom pathlib import Path\n{script}\n")
        done = subprocess.run(
            [sys.executable, "-m", "lorabake", "caption", "r.toml", *map(str, args)],
            cwd=project,
            env=environment(tmp_path),
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == expected, done.stderr + done.stdout
        return done

    return run


def environment(folder: Path) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("LORABAKE")}
    scratch = folder / "scratch"
    scratch.mkdir(exist_ok=True)
    return kept | {"HOME": str(folder), "LORABAKE_HOME": str(folder / "home"), "TMPDIR": str(scratch)}


def tool(mark: str) -> str:
    return f"{sys.executable} tool.py {mark}"


def add_images(project: Path, count: int) -> None:
    for number in range(count):
        Image.new("RGB", (512, 512), (number, 99, 9)).save(project / "img" / f"more{number}.png")


def texts(project: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in sorted((project / "img").glob("*.txt"))}


def digests(project: Path) -> dict[str, str]:
    images = (path for path in (project / "img").iterdir() if path.suffix.lower() == ".png")
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in images}


MINE = {"mine.txt": "lumlamp, lamp, my own words"}
NAMES = ("$(x).txt", "-rf.txt", "a b.txt")


def test_a_command_that_prints(caption: Captioning, project: Path, tmp_path: Path) -> None:
    before = digests(project)
    found = json.loads(caption("--with", tool("{image}"), "--json").stdout)
    assert texts(project) == dict.fromkeys(NAMES, "lumlamp, lamp, red lamp, table\n") | MINE
    assert (found["missing"], found["kept"], found["failed"]) == (3, 1, [])
    assert {each["file"] for each in found["written"]} == {f"img/{name}" for name in NAMES}
    assert digests(project) == before
    assert not list((tmp_path / "scratch").iterdir())
    again = json.loads(caption("--with", tool("{image}"), "--json", script="sys.exit(9)").stdout)
    assert (again["missing"], again["written"]) == (0, [])


@pytest.mark.parametrize(("mark", "extension"), [("{folder}", ".txt"), ("{folder}", ".caption"), ("{images}", ".txt")])
def test_a_command_that_writes_files(caption: Captioning, project: Path, mark: str, extension: str) -> None:
    before = digests(project)
    script = WRITES.replace('".txt"', f'"{extension}"')
    if mark == "{images}":
        script = script.replace(
            'sorted(Path(sys.argv[1]).glob("*.png"))', "map(Path, open(sys.argv[1]).read().split())"
        )
    caption("--with", tool(mark), script=script)
    assert texts(project) == dict.fromkeys(NAMES, "lumlamp, lamp, red lamp, table\n") | MINE
    assert digests(project) == before


def test_the_background_that_prepare_made_is_in_the_caption(caption: Captioning, project: Path, tmp_path: Path) -> None:
    for path in (project / "img").iterdir():
        path.unlink()
    Image.new("RGBA", (512, 512), (9, 9, 9, 0)).save(project / "img" / "cut.png")
    Image.new("RGB", (512, 512), (9, 9, 9)).save(project / "img" / "whole.png")
    argv = [sys.executable, "-m", "lorabake", "prepare", "r.toml", "--to", "ready", "--yes"]
    subprocess.run(argv, cwd=project, env=environment(tmp_path), capture_output=True, timeout=120, check=False)
    ready = project / "ready"
    (color,) = filter(None, (each["color"] for each in json.loads((ready / "prepared.json").read_text())["images"]))
    done = [sys.executable, "-m", "lorabake", "caption", str(ready / "r.toml"), "--template", "photo of {token}"]
    subprocess.run(done, cwd=project, env=environment(tmp_path), capture_output=True, timeout=120, check=True)
    assert texts(ready) == {"cut.txt": f"photo of lumlamp, {color} background\n", "whole.txt": "photo of lumlamp\n"}


def test_a_dry_run_and_a_template(caption: Captioning, project: Path) -> None:
    for args in (("--with", tool("{image}")), ("--template", "photo of {token} {class}")):
        found = json.loads(caption(*args, "--dry-run", "--json").stdout)
        assert (found["dry_run"], len(found["written"])) == (True, 3)
        assert texts(project) == MINE
    caption("--template", "photo of {token} {class}")
    assert texts(project) == dict.fromkeys(NAMES, "photo of lumlamp lamp\n") | MINE


@pytest.mark.parametrize(
    "script",
    [
        "sys.stderr.write('no weights\\n' * 9); sys.exit(3)",
        "pass",
        "sys.stdout.buffer.write(bytes(99))",
        "sys.stdout.buffer.write(b'caf\\xe9')",
        "print('a' * 99_999)",
        "print('lamp')",
        "os.kill(os.getpid(), 9)",
    ],
)
def test_a_command_that_fails_is_not_asked_again(caption: Captioning, project: Path, script: str) -> None:
    found = json.loads(caption("--with", tool("{image}"), "--json", script=script, expected=4).stdout)
    assert (len(found["failed"]), found["untried"], found["written"]) == (3, 0, [])
    add_images(project, 6)
    found = json.loads(caption("--with", tool("{image}"), "--json", script=script, expected=4).stdout)
    assert (len(found["failed"]), found["untried"], found["written"]) == (3, 6, [])
    assert texts(project) == MINE


@pytest.mark.parametrize("bad", [{0}, {1}, {0, 1, 2}, {2, 3, 4, 5, 8}])
def test_bad_images_do_not_stop_the_others(caption: Captioning, project: Path, bad: set[int]) -> None:
    add_images(project, 6)
    script = f"sys.exit(5) if int(Path(sys.argv[1]).stem) in {bad} else print('red lamp')"
    found = json.loads(caption("--with", tool("{image}"), "--json", script=script, expected=4).stdout)
    assert (len(found["failed"]), len(found["written"]), found["untried"]) == (len(bad), 9 - len(bad), 0)
    assert "exit code 5" in found["failed"][0]["why"]
    files = [each["file"] for each in found["written"]]
    assert files == sorted(files)


def test_what_a_failed_command_finished_counts(caption: Captioning, project: Path) -> None:
    second = "    if '000001' in image.name: image.with_suffix('.txt').write_text('red_la'); sys.exit('disk full')\n"
    first, rest = WRITES.split("\n", 1)
    script = f"{first}\n{second}{rest}    time.sleep(0.3)\n"
    found = json.loads(caption("--with", tool("{folder}"), "--json", script=script, expected=4).stdout)
    assert (len(found["written"]), len(found["failed"])) == (1, 2)
    assert "disk full" in found["failed"][0]["why"]


def test_links_that_a_command_makes_are_not_followed(caption: Captioning, project: Path, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("a secret")
    script = f"os.symlink({str(tmp_path / 'secret')!r}, Path(sys.argv[1]) / '000000.txt')"
    found = json.loads(caption("--with", tool("{folder}"), "--json", script=script, expected=4).stdout)
    assert found["written"] == []
    assert texts(project) == MINE


def test_one_that_never_ends_is_stopped(caption: Captioning, project: Path) -> None:
    script = "time.sleep(600)"
    found = json.loads(caption("--with", tool("{folder}"), "--timeout", 1, "--json", script=script, expected=4).stdout)
    assert len(found["failed"]) == 3
    found = json.loads(caption("--with", tool("{image}"), "--timeout", 1, "--json", script=script, expected=4).stdout)
    assert (len(found["failed"]), found["untried"]) == (1, 2)
    endless = "while True: print('a' * 999_999)"
    found = json.loads(caption("--with", tool("{image}"), "--json", script=endless, expected=4).stdout)
    assert len(found["failed"]) == 3
    assert texts(project) == MINE


def test_an_interrupt_keeps_what_is_finished(caption: Captioning, project: Path, tmp_path: Path) -> None:
    del caption
    (project / "tool.py").write_text(
        "import sys, time\nprint('red lamp', flush=True)\nif '000001' in sys.argv[1]:\n    time.sleep(600)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-m", "lorabake", "caption", "r.toml", "--with", tool("{image}")],
        cwd=project,
        env=environment(tmp_path),
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as running:
        deadline = time.monotonic() + 60
        while len(texts(project)) < 2 and time.monotonic() < deadline:
            time.sleep(0.05)
        running.send_signal(signal.SIGINT)
        running.communicate(timeout=60)
    assert running.returncode == 130
    assert len(texts(project)) == 2
    assert not list((tmp_path / "scratch").iterdir())


@pytest.mark.parametrize(
    ("args", "code"),
    [
        ((), 2),
        (("--with", ""), 2),
        (("--with", "python3 'x"), 2),
        (("--with", "python3 tool.py"), 2),
        (("--with", "python3 tool.py {image} {folder}"), 2),
        (("--with", "cat {image} | python3 tool.py"), 2),
        (("--with", "python3 tool.py {images} > out.txt"), 2),
        (("--with", "~/no-such-tagger {image}"), 4),
        (("--append",), 2),
        (("--append", "--template", "x"), 2),
        (("--append", "--overwrite", "--with", "python3 tool.py {image}"), 2),
        (("--with", "no-such-tagger {image}"), 4),
        (("--with", "./no/such {image}"), 4),
        (("--with", "wd14"), 2),
        (("--with", "python3 tool.py {image}", "--weights", "img"), 2),
        (("--with", "python3 tool.py {image}", "--timeout", "0"), 2),
        (("--with", "python3 tool.py {image}", "--timeout", "nan"), 2),
        (("--template", "photo of {tok}"), 2),
        (("--template", "{outfit} {token}"), 1),
    ],
)
def test_bad_requests_change_nothing(caption: Captioning, project: Path, args: tuple[str, ...], code: int) -> None:
    caption(*args, expected=code)
    assert texts(project) == MINE


def test_folders_whose_captions_are_not_read(caption: Captioning, project: Path) -> None:
    (project / "r.toml").write_text(LAMP_RECIPE + 'captions = "none"\n')
    found = json.loads(caption("--template", "x", "--json").stdout)
    assert (found["missing"], found["kept"], len(found["notes"])) == (3, 1, 1)
    assert texts(project) == dict.fromkeys(NAMES, "x\n") | MINE
    assert "none" in (project / "r.toml").read_text()
    more = '\n# mine\n  captions = "none"  # why\nnum_repeats = 2 # two\n'
    (project / "r.toml").write_text(LAMP_RECIPE + more)
    caption("--template", "x", "--yes")
    assert (project / "r.toml").read_text() == f"{LAMP_RECIPE}\n# mine\nnum_repeats = 2 # two\n"
    (project / "meta.json").write_text('{"mine.png": {"caption": "x", "train_resolution": [512, 512]}}')
    (project / "r.toml").write_text(LAMP_RECIPE + 'metadata_file = "meta.json"\n')
    found = json.loads(caption("--template", "y", "--json", "--overwrite").stdout)
    assert (found["missing"], len(found["notes"])) == (0, 1)


@pytest.mark.parametrize("mark", ["{image}", "{folder}"])
@pytest.mark.parametrize("what", ["images", "."])
def test_links_in_place_of_its_folder_lead_nowhere(
    caption: Captioning, project: Path, tmp_path: Path, mark: str, what: str
) -> None:
    victim = tmp_path / "victim"
    (victim / "images").mkdir(parents=True)
    kept = [victim / folder / f"{n:06}.png" for n in range(4) for folder in ("images", ".")]
    for each in kept:
        each.write_bytes(b"precious")
    place = "Path(sys.argv[1]).parent" if mark == "{image}" else "Path(sys.argv[1])"
    place += "" if what == "images" else ".parent"
    script = f"import shutil; place = {place}; shutil.rmtree(place); place.symlink_to({str(victim)!r}); print('red')"
    caption("--with", tool(mark), "--json", script=script, expected=1 if mark == "{image}" else 4)
    assert [each.read_bytes() for each in kept] == [b"precious"] * 8
    assert len(list(victim.rglob("*"))) == 9


def test_a_command_that_removes_its_folder(caption: Captioning, project: Path) -> None:
    script = "import shutil; shutil.rmtree(Path(sys.argv[1])); print('red lamp')"
    found = json.loads(caption("--with", tool("{folder}"), "--json", script=script, expected=4).stdout)
    assert (len(found["failed"]), found["written"]) == (3, [])
    script = script.replace("[1])", "[1]).parent")
    assert len(json.loads(caption("--with", tool("{image}"), "--json", script=script).stdout)["written"]) == 3
    assert len(texts(project)) == 4


def test_images_and_captions_that_disappear(caption: Captioning, project: Path) -> None:
    script = "[(Path('img') / name).unlink(missing_ok=True) for name in ('mine.txt', 'a b.png')]; print('red')"
    found = json.loads(caption("--with", tool("{image}"), "--overwrite", "--json", script=script, expected=4).stdout)
    assert {each["image"] for each in found["failed"]} == {"img/mine.png", "img/a b.png"}
    assert len(found["written"]) == 2


def test_a_failure_keeps_the_texts_that_replaced_others(caption: Captioning, project: Path, tmp_path: Path) -> None:
    for name in NAMES:
        (project / "img" / name).write_text(f"old {name}")
    script = (
        "import shutil\nif '000002' in sys.argv[1]:\n    place = Path(sys.argv[1]).parent; shutil.rmtree(place)\n"
        "    place.write_text('')\nprint('red')"
    )
    caption("--with", tool("{image}"), "--overwrite", script=script, expected=1)
    assert sum("red" in text for text in texts(project).values()) == 3
    undo = [sys.executable, "-m", "lorabake", "tags", "r.toml", "--undo", "r.undo-1.json"]
    subprocess.run(undo, cwd=project, env=environment(tmp_path), check=True, capture_output=True)
    assert texts(project) == {name: f"old {name}" for name in NAMES} | MINE


def test_torn_texts_are_not_taken(caption: Captioning, project: Path) -> None:
    script = "(Path(sys.argv[1]) / '000001.txt').write_text('red_la'); time.sleep(600)"
    args = ("--with", tool("{folder}"), "--timeout", 2, "--json")
    assert json.loads(caption(*args, script=script, expected=4).stdout)["written"] == []
    assert texts(project) == MINE


def test_the_command_that_undoes_can_be_pasted(caption: Captioning, project: Path, tmp_path: Path) -> None:
    del caption
    (project / "r.toml").rename(project / "my lamp's.toml")
    edit = [sys.executable, "-m", "lorabake", "tags", "my lamp's.toml", "--add", "new", "--in-place"]
    done = subprocess.run(edit, cwd=project, env=environment(tmp_path), check=True, capture_output=True, text=True)
    line = done.stdout.split("`")[1]
    undo = [sys.executable, "-m", *shlex.split(line)]
    subprocess.run(undo, cwd=project, env=environment(tmp_path), check=True, capture_output=True)
    assert texts(project) == MINE


def test_undo_of_captions_that_the_recipe_does_not_read(caption: Captioning, project: Path, tmp_path: Path) -> None:
    (project / "r.toml").write_text(LAMP_RECIPE + 'captions = "none"\n')
    found = json.loads(caption("--template", "new", "--overwrite", "--json").stdout)
    undo = [sys.executable, "-m", "lorabake", "tags", "r.toml", "--undo", found["undo"]]
    subprocess.run(undo, cwd=project, env=environment(tmp_path), check=True, capture_output=True)
    assert texts(project) == dict.fromkeys(NAMES, "new\n") | MINE


def test_replaced_captions_can_be_brought_back(caption: Captioning, project: Path, tmp_path: Path) -> None:
    (project / "img" / "a b.txt").write_bytes(b"caf\xe9")  # no undo file can have it
    found = json.loads(caption("--template", "{token} here", "--overwrite", "--json", "--dry-run").stdout)
    assert (found["missing"], found["kept"], found["undo"]) == (3, 1, None)
    found = json.loads(caption("--with", tool("{image}"), "--overwrite", "--json").stdout)
    assert (found["missing"], found["kept"]) == (3, 1)
    mine = project / "img" / "mine.txt"
    assert mine.read_text() == "lumlamp, lamp, red lamp, table\n"
    undo = [sys.executable, "-m", "lorabake", "tags", "r.toml", "--undo", found["undo"]]
    subprocess.run(undo, cwd=project, env=environment(tmp_path), check=True, capture_output=True)
    assert mine.read_text() == MINE["mine.txt"]
    assert (project / "img" / "-rf.txt").exists()
    assert (project / "img" / "a b.txt").read_bytes() == b"caf\xe9"


def test_tags_are_added_to_captions(caption: Captioning, project: Path, tmp_path: Path) -> None:
    (project / "img" / "a b.txt").write_bytes(b"\xef\xbb\xbflumlamp, red_lamp,table\r\nmore\r\n")
    (project / "img" / "-rf.txt").write_bytes(b"caf\xe9")
    args = ("--with", tool("{folder}"), "--append", "--json")
    script = WRITES.replace("red_lamp, table", "lamp, lumlamp, red lamp, blue_sky, table")
    before = {path.name: path.read_bytes() for path in (project / "img").glob("*.txt")}
    found = json.loads(caption(*args, "--dry-run", script=script).stdout)
    assert (found["missing"], found["existing"], found["kept"], len(found["written"])) == (3, 2, 1, 3)
    assert {path.name: path.read_bytes() for path in (project / "img").glob("*.txt")} == before
    found = json.loads(caption(*args, script=script).stdout)
    after = {
        "$(x).txt": b"lumlamp, lamp, red lamp, blue sky, table\n",
        "-rf.txt": b"caf\xe9",
        "a b.txt": b"\xef\xbb\xbflumlamp, red_lamp,table, blue sky\r\nmore\r\n",
        "mine.txt": b"lumlamp, lamp, my own words, red lamp, blue sky, table",
    }
    assert {path.name: path.read_bytes() for path in (project / "img").glob("*.txt")} == after
    again = json.loads(caption(*args, script=script).stdout)
    assert (again["written"], again["unchanged"], again["undo"]) == ([], 3, None)
    undo = [sys.executable, "-m", "lorabake", "tags", "r.toml", "--undo", found["undo"]]
    subprocess.run(undo, cwd=project, env=environment(tmp_path), check=True, capture_output=True)
    restored = {path.name: path.read_bytes() for path in (project / "img").glob("*.txt")}
    assert restored == before | {"$(x).txt": after["$(x).txt"]}


def test_a_program_in_the_home_folder(caption: Captioning, project: Path, tmp_path: Path) -> None:
    home_tool = tmp_path / "home tool.py"
    home_tool.write_text("print('red lamp')")
    caption("--with", f"{sys.executable} '~/home tool.py' {{image}}")
    assert texts(project) == dict.fromkeys(NAMES, "lumlamp, lamp, red lamp\n") | MINE


FAKE_WD14 = """\
import json, os, sys
from pathlib import Path
import library.train_util, onnx, onnxruntime
given = dict(zip(sys.argv[1:], sys.argv[2:]))
place = Path(given["--model_dir"], given["--repo_id"].replace("/", "_", 1))
assert "--onnx" in sys.argv and (place / "model.onnx").is_file() or (place / "model_optimized.onnx").is_file()
assert os.environ["HF_HUB_OFFLINE"] == "1"
for image in Path(sys.argv[-1]).iterdir():
    image.with_suffix(given["--caption_extension"]).write_text("red_lamp, " + given.get("--thresh", "-") + "\\n")
"""


@pytest.mark.parametrize("files", [("model.onnx", "selected_tags.csv"), ("model_optimized.onnx", "tag_mapping.json")])
def test_wd14_is_the_script_of_sd_scripts(
    caption: Captioning, project: Path, tmp_path: Path, files: tuple[str, ...]
) -> None:
    theirs = tmp_path / "sd-scripts"
    for name in ("train_network.py", "sdxl_train_network.py", "library/train_util.py", "library/__init__.py"):
        (theirs / name).parent.mkdir(parents=True, exist_ok=True)
        (theirs / name).touch()
    (theirs / "finetune").mkdir()
    (theirs / "finetune/tag_images_by_wd14_tagger.py").write_text(FAKE_WD14)
    weights, packages = tmp_path / "my tagger", tmp_path / "packages"
    weights.mkdir()
    args = ("--with", "wd14 --thresh 0.5", "--weights", weights, "--sd-scripts", theirs, "--python", sys.executable)
    caption(*args, expected=1)
    for name in files:
        (weights / name).touch()
    if not _has_onnx():
        assert "--packages" in caption(*args, expected=4).stderr
    for name in ("onnx", "onnxruntime"):
        (packages / name).mkdir(parents=True)
        (packages / name / "__init__.py").touch()
    caption(*args, "--packages", packages)
    assert texts(project) == dict.fromkeys(NAMES, "lumlamp, lamp, red lamp, 0.5\n") | MINE


def _has_onnx() -> bool:
    found = subprocess.run([sys.executable, "-c", "import onnx, onnxruntime"], capture_output=True, check=False)
    return found.returncode == 0
