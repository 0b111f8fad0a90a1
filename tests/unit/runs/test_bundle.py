"""bundle: nothing private is in the archive, whatever file of the run had it; what helps is."""

from __future__ import annotations

import io
import json
import re
import zipfile
from pathlib import Path

import pytest

from ended_runs import record
from lorabake.runs.bundle import Bundle, make_bundle
from lorabake.runs.folder import RunPaths
from lorabake.runs.redaction import Redactor, make_redactor
from lorabake_schemas.record import Input, Inputs, Record

KEY = "0123456789abcdef0123456789abcdef01234567"  # as of Weights & Biases
TOKEN = "hf_AbCdEfGhIjKlMnOpQrStUvWx"  # noqa: S105 - made up
HOME = "/home/janedoe"
PROJECT = f"{HOME}/Secret Project"
IMAGES = f"{PROJECT}/10_zyxgirl woman"
CAPTION = "zyxgirl, very private caption, red scarf"
PRIVATE = (
    "janedoe", "Secret Project", "zyxgirl", "private caption", "red scarf", "annabelle", "aunt-mary", "thinkpad-jane",
    "My Model", "jane@example.org", KEY, TOKEN, "hunter2secret", "beach day", "192.168.7.31", "Familie",
    "D:\\Users", "DSC_0815",
)  # fmt: skip
ENV = {"HOME": HOME, "USER": "janedoe", "HOSTNAME": "thinkpad-jane", "PATH": "/usr/bin"}
LOG = f"""/x/site-packages/torch/a.py:13: UserWarning: in {HOME}/trainers/1/lib/python3.11/site-packages/a.py
2026-11-28 02:10:39 INFO     Loading settings from train.toml...               train_util.py:4744
                    INFO     found directory ../../10_zyxgirl woman contains 15 image files     train_util.py:2059
                                 image_dir: "../../10_zyxgirl woman"
                                 class_tokens: zyxgirl, woman
                                 caption_prefix: beach day
                                 num_repeats: 10
                    INFO     prompt: zyxgirl at the beach, wearing a very long dress that does not fit into the
                             line, beach day
                    INFO     height: 512
{HOME}/other/aunt-mary/photo.png D:\\Users\\Familie\\pics\\a.jpg jane@example.org http://user:hunter2secret@192.168.7.31/x
wandb_api_key={KEY} token: {TOKEN}
steps:  33%|###       | 4/12 [00:31<01:03,  7.90s/it, avr_loss=6.42]\rsteps:  42%|####      | 5/12 [00:33<00:46]
Traceback (most recent call last):
  File "{HOME}/own/sd-scripts/library/train_util.py", line 2957, in load_image
OSError: image file is truncated: '../../10_zyxgirl woman/DSC_0815 (aunt-mary).png'
"""


@pytest.fixture
def paths(tmp_path: Path) -> RunPaths:
    """A run folder with something private in each of its files."""
    found = RunPaths(tmp_path / "Secret Project" / "runs" / "annabelle-001")
    (found.root / "logs").mkdir(parents=True)
    (found.root / "output").mkdir()
    found.log.write_text(LOG)
    found.log.with_name("supervisor.log").write_text(f"started in {PROJECT}/runs/annabelle-001 by janedoe\n")
    found.prompts.write_text(f"{CAPTION} --w 512\n")
    found.recipe.write_text(f'name = "annabelle" # {CAPTION}\n')
    found.train.write_text(
        f'pretrained_model_name_or_path = "{HOME}/models/My Model.safetensors"\noutput_name = "annabelle"\n'
        f'optimizer_type = "AdamW"\nmixed_precision = "fp16"\nmetadata_author = "janedoe"\nwandb_api_key = "{KEY}"\n'
        'metadata_trigger_phrase = "zyxgirl"\nlearning_rate = 0.0001\nsample_prompts = "prompts.txt"\n'
    )
    found.dataset.write_text(
        '[[datasets]]\nresolution = 512\n[[datasets.subsets]]\nimage_dir = "../../10_zyxgirl woman"\n'
        'class_tokens = "zyxgirl woman"\ncaption_prefix = "beach day"\nnum_repeats = 10\n'
    )
    setting = {"option": "class_tokens", "value": "zyxgirl woman", "source": {"kind": "recipe"}}
    other = {"option": "optimizer_type", "value": "AdamW", "source": {"kind": "recipe"}}
    found.plan.write_text(json.dumps({"name": "annabelle", "train": [setting, other], "prompts": [CAPTION]}))
    inputs = Inputs(
        inputs=(
            Input(
                role="concept", name=IMAGES, place="../../10_zyxgirl woman", kind="folder",
                files=({"name": "DSC_0815 (aunt-mary).png", "sha256": "0", "size": 1},),  # type: ignore[arg-type]
            ),
            Input(role="base", name="My Model.safetensors", place=f"{HOME}/models/My Model.safetensors", kind="file"),
        )
    )  # fmt: skip
    found.inputs.write_text(inputs.model_dump_json())
    events = [
        {"time": "2026-11-28T02:00:00Z", "event": "started", "name": "annabelle"},
        {"event": "saved", "file": "output/annabelle.safetensors"},
        {"event": "failed", "code": "image-damaged", "message": f"{IMAGES}/DSC_0815 (aunt-mary).png", "token": TOKEN},
    ]
    found.events.write_text("".join(json.dumps(event) + "\n" for event in events) + "not json zyxgirl\n")
    (found.root / "output" / "annabelle.safetensors").write_bytes(b"weights")
    return found


def made_record(paths: RunPaths) -> Record:
    finding = {
        "rule": "G3.4", "severity": "warning", "where": ["concept", 0, "images"], "file": f"{IMAGES}/a.txt",
        "message": f"the caption is {CAPTION}", "fix": "remove red scarf",
    }  # fmt: skip
    outcome: dict[str, object] = {
        "code": "image-damaged", "message": "cannot be decoded: ../../10_zyxgirl woman/DSC_0815 (aunt-mary).png",
        "evidence": [{"line": 3, "text": "Error loading file: ../../10_zyxgirl woman/DSC_0815 (aunt-mary).png"}],
    }  # fmt: skip
    base = record("failed", outcome).model_dump(mode="json")
    return Record.model_validate(
        {
            **base, "name": "annabelle", "cwd": f"{PROJECT}/runs/annabelle-001", "recipe_text": CAPTION,
            "recipe_place": "../../annabelle.toml", "digest": "ab" * 32,
            "argv": [f"{HOME}/.cache/lorabake/trainers/1/venv/bin/python", "-m", "accelerate", "--x", f"{PROJECT}/y"],
            "environment": {"LD_LIBRARY_PATH": f"{HOME}/lib", "COLUMNS": "200"},
            "ignored": [{"finding": finding, "reason": f"because {CAPTION}"}], "findings": [finding],
            "trainer": {
                "kind": "own", "python": f"{HOME}/venv/bin/python", "checkout": f"{HOME}/own/sd-scripts",
                "commit": "48d368fa557731ad0488c07304dfeba8c07910eb", "packages": {"torch": "2.13.0"},
            },
            "inputs": [{"role": "concept", "name": IMAGES, "place": "../../10_zyxgirl woman", "kind": "folder",
                        "files": 1, "size": 1, "sha256": "0"}],
            "someday": TOKEN,
        },
        strict=False,
    )  # fmt: skip


def texts(made: Bundle) -> dict[str, str]:
    with zipfile.ZipFile(io.BytesIO(made.data)) as archive:
        return {name.partition("/")[2]: archive.read(name).decode() for name in archive.namelist()}


def test_nothing_private_is_in_it(paths: RunPaths) -> None:
    made = make_bundle(paths, made_record(paths), ENV)
    found = texts(made)
    assert len(found) >= 9
    for name, text in {"": made.name, **found}.items():
        for private in PRIVATE:
            assert private.lower() not in text.lower(), f"{private} in {name}"


def test_what_helps_is_in_it(paths: RunPaths) -> None:
    found = texts(make_bundle(paths, made_record(paths), ENV))
    assert set(found) == {
        "CONTENTS.txt", "record.json", "plan.json", "train.toml", "dataset.toml", "events.jsonl", "versions.txt",
        "logs/trainer.log", "logs/supervisor.log",
    }  # fmt: skip
    assert 'optimizer_type = "AdamW"' in found["train.toml"]
    assert "learning_rate = 0.0001" in found["train.toml"]
    assert "num_repeats = 10" in found["dataset.toml"]
    assert "torch==2.13.0" in found["versions.txt"]
    log = found["logs/trainer.log"]
    assert "OSError: image file is truncated" in log
    assert "library/train_util.py" in log
    assert "line 2957, in load_image" in log
    assert "4/12 [00:31<01:03,  7.90s/it, avr_loss=6.42]" in log
    assert "site-packages/a.py" in log
    kept = json.loads(found["record.json"])
    assert kept["trainer"]["commit"] == "48d368fa557731ad0488c07304dfeba8c07910eb"
    assert kept["findings"][0]["rule"] == "G3.4"
    assert kept["outcome"]["code"] == "image-damaged"
    assert "train.toml" in found["CONTENTS.txt"]
    assert [json.loads(line)["event"] for line in found["events.jsonl"].splitlines()] == ["started", "saved", "failed"]


def test_the_same_file_has_the_same_placeholder_everywhere(paths: RunPaths) -> None:
    found = texts(make_bundle(paths, made_record(paths), ENV))
    names = {
        name: set(re.findall(r"<concept-1>/(<file-\d+>\.png)", found[name]))
        for name in ("logs/trainer.log", "record.json", "events.jsonl")
    }
    assert len(names["record.json"]) == 1
    assert names["logs/trainer.log"] == names["record.json"] == names["events.jsonl"]


def test_the_same_run_gives_the_same_bytes(paths: RunPaths) -> None:
    first, second = (make_bundle(paths, made_record(paths), ENV) for _ in range(2))
    assert first.data == second.data
    assert first.name == second.name


def test_nothing_is_followed_out_of_the_folder(paths: RunPaths, tmp_path: Path) -> None:
    outside = tmp_path / "outside.txt"
    outside.write_text("something of somebody else")
    for path in (paths.log, paths.events, paths.plan):
        path.unlink()
        path.symlink_to(outside)
    found = texts(make_bundle(paths, made_record(paths), ENV))
    assert {"logs/trainer.log", "events.jsonl", "plan.json"} & set(found) == set()
    assert not any("somebody else" in text for text in found.values())


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("wandb: login with key: abcdef123456", False),
        ("Authorization: Bearer abc.def-ghi12345", False),
        ("github_token ghp_abcdefghijklmnop1234", False),
        ("max_token_length: 225", True),
        ("keep_tokens: 2", True),
        ("clip_skip 2 at 12:30:01.500", True),
        ("torch 2.13.0+cu124, CUDA 12.4, address 127.0.0.1", True),
        ("the shape in current model is torch.Size([8, 768])", True),
        ("/usr/lib/x86_64-linux-gnu/libcuda.so.1", True),
        ("steps: 100%|###| 12/12 [00:57<00:00,  4.79s/it, avr_loss=6.23]", True),
        ("2026-11-28 02:10:39 INFO     make buckets", True),
    ],
)
def test_only_what_looks_private_is_replaced(text: str, kept: bool) -> None:
    assert (Redactor().replace(text) == text) is kept


def test_short_and_common_names_are_not_words(paths: RunPaths) -> None:
    """A folder named "data" says nothing, and a user named "a" must not empty the log of its letters."""
    redactor = make_redactor(made_record(paths), (), "/home/a/data/run", {"USER": "a"}, {})
    assert redactor.replace("a data loader") == "a data loader"
