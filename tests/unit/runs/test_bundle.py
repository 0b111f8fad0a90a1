"""bundle: nothing private is in the archive, whatever file of the run had it; what helps is."""

from __future__ import annotations

import io
import json
import re
import zipfile
from pathlib import Path

import pytest

from ended_runs import record
from lorabake.runs.bundle.archive import Bundle, make_bundle
from lorabake.runs.bundle.redaction import MAX_LINE, Redactor, make_redactor
from lorabake.runs.folder import RunPaths
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
        ("c10::Error at::add std::decay torch/x.cpp:12 sigmas[::2] steps[1::2] 00000000:01:00.0", True),
        ("huggingface.co answers, host='huggingface.co', ::1", True),
        ("max_token_length=225 keep_tokens=2 api_key=None key: '' token=None", True),
        ("get_hf_file_metadata hf_hub_download skip_until_initial_step skimage.transform.resize", True),
        ("load VAE: <All keys matched successfully>", True),
    ],
)
def test_only_what_looks_private_is_replaced(text: str, kept: bool) -> None:
    assert (Redactor().replace(text) == text) is kept


SECRETS = [
    "PASSWORD: x1y2z", "password=x1y2z", "password: <x1y2z", r"'a\nhf_abcdefx1y2z'",
    "dbPassword: 'x1y2z'", '{"passwd": "x1y2z"}', "passphrase: my own x1y2z",
    'api_key="two x1y2z"', "api-key: x1y2z", r'{\"apiKey\": \"two x1y2z\", \"a\": 1}', "AWS_SECRET_ACCESS_KEY=x1y2z",
    "Authorization: Basic x1y2zA==", "'Authorization': 'Token x1y2z'", "Proxy-Authorization: Digest a=b, c=x1y2z",
    "Cookie: session=x1y2z; a=b", "x = Basic x1y2zA==", "accessToken: x1y2z", "HF_TOKEN=x1y2z", "--hub-token x1y2z",
    "['--huggingface_token', 'x1y2z']", "'--training_comment=my x1y2z'", "--wandb_api_key=x1y2z",
    "--main_process_ip x1y2z",
    "https://x1y2z@example.org/a", "https://a:x1y2z@example.org/a", "GET https://cdn.example.org/a?Policy=x1y2z HTTP",
    "http://proxy.x1y2z.lan:3128/x1y2z", "http://a:b@x1y2z.lan:3128/",
    "github_pat_11ABCDEFG0x1y2zabcdefgh_abcdefgh", "AIzaSyA-x1y2zabcdefghijklmnopqrstuvw",
    "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJ4x1y2z.abc", "xoxp-123456789012-x1y2z", "\x1b[33mhf_abcdefx1y2z\x1b[0m",
    "wandb: Currently logged in as: x1y2z (acme-team) to https://api.wandb.ai. Use `wandb login`",
    "wandb: Currently logged in as: \x1b[33mmaria\x1b[0m (\x1b[33mx1y2z\x1b[0m) to https://api.wandb.ai",
    r"Currently logged in as: \x1b[33mx1y2z\x1b[0m", "wandb: Logged in as Weights & Biases user: x1y2z.",
    "  host      : x1y2z", "The server socket on [x1y2z.lan]:29500 failed", "trying to connect to (x1y2z, 29500)",
    "x1y2z:1234:1250 [0] NCCL INFO Bootstrap", "srun: error: x1y2z: task 0",
    "HTTPSConnectionPool(host='x1y2z', port=443)",
]  # fmt: skip


@pytest.mark.parametrize("line", SECRETS)
def test_whatever_is_secret_by_its_place_or_form_is_replaced(line: str) -> None:
    assert "x1y2z" not in Redactor().replace(line)


@pytest.mark.parametrize(
    "secret",
    [
        KEY.upper(), KEY[:32], KEY[:32].upper(), KEY + KEY[:24], "fe80::1ff:fe23:4567:890a", "2001:db8::5",
        "fd00:12::7", "2001:0db8:85a3:0000:0000:8a2e:0370:7334", "fe80::1ff%eth0", "aa:bb:cc:dd:ee:0f", "ip-10-0-12-7",
    ],
)  # fmt: skip
@pytest.mark.parametrize("line", ["{}", "in {}.", "address:{}", "[{}]:29500", "x={}, y"])
def test_keys_and_addresses_are_replaced_wherever_they_stand(secret: str, line: str) -> None:
    assert secret not in Redactor().replace(line.format(secret))


def test_what_a_log_names_is_replaced_in_all_files(paths: RunPaths) -> None:
    """Hosts of the run and the account, from the record and the log; the bundling machine knows none of them."""
    log = (
        "wandb: Currently logged in as: maria-silva (acme-team) to https://api.wandb.ai\n"
        "  host      : gpu07.cluster.example\nmaria-silva: no permission for acme-team on gpu07, login01 or n2\n"
    )
    paths.log.write_text(log)
    paths.log.with_name("supervisor.log").write_text("maria-silva acme-team gpu07 login01\n")
    argv = ["python", "--main_process_ip", "n2", "--huggingface_token", "hush", "--training_comment=all of it hush"]
    seat = {"rank": 0, "machines": 2, "address": "login01"}
    fields = {**made_record(paths).model_dump(mode="json"), "seat": seat, "argv": argv}
    found = texts(make_bundle(paths, Record.model_validate(fields, strict=False), {}))
    for private in ("maria-silva", "acme-team", "gpu07", "login01", "cluster.example", "hush", '"n2"'):
        assert not [name for name, text in found.items() if private in text], private
    kept = json.loads(found["record.json"])
    assert kept["argv"][1::2] == ["--main_process_ip", "--huggingface_token", "--training_comment=<text>"]
    assert kept["seat"]["machines"] == 2


LONG = 100_000  # characters; a pattern of quadratic time would take minutes


@pytest.mark.parametrize(
    "piece",
    [
        "a",
        "a.",
        "a@",
        "a/",
        "-",
        "\\",
        " ",
        "1:",
        ":",
        "<",
        "'/",
        "://",
        "http://",
        "key=",
        "../",
        "--a",
        "[",
        "a,",
        "\t",
    ],
)
def test_a_long_line_is_cut_and_takes_no_longer_than_short_ones(piece: str) -> None:
    line = piece * (LONG // len(piece))
    found = Redactor().replace(f"first\n{line}\nlast")
    assert len(found) < 2 * MAX_LINE
    assert found.startswith("first\n")
    assert found.endswith("\nlast")


def test_a_cut_leaves_no_part_of_a_name_or_key() -> None:
    redactor = Redactor()
    redactor.learn("Secret Project", "<folder>")
    for secret in (TOKEN, "Secret Project", "some-private-name.png", 'api_key="two hush hush"'):
        for before in range(MAX_LINE - len(secret) - 1, MAX_LINE + 1):
            found = redactor.replace(f"{'x ' * (before // 2)}{secret} {'y' * 99}")
            assert not re.search("hf_|Secret|Project|private|hush", found)


def test_many_known_names_are_each_found() -> None:
    """The longest of several that begin alike; a letter that only looks the same in lower case is no fault."""
    redactor = Redactor()
    for number in range(4000):
        redactor.learn(f"img ({number})", f"<file-{number}>")
    redactor.learn("img (7) of Mary", "<longer>")
    assert redactor.replace("IMG (12) img (7) img (7) of mary, img (40000)") == (
        "<file-12> <file-7> <longer>, img (40000)"
    )
    redactor.learn("secret", "<name>")
    assert redactor.replace("\u017fecret") == "\u017fecret"


def test_numbers_of_placeholders_count_each_kind() -> None:
    found = Redactor().replace("/x/a /x/b one.png two.png /x/b one.txt")
    assert found == "<path-1> <path-2> <file-1>.png <file-2>.png <path-2> <file-1>.txt"


def test_short_and_common_names_are_not_words(paths: RunPaths) -> None:
    """A folder named "data" says nothing, and a user named "a" must not empty the log of its letters."""
    redactor = make_redactor(made_record(paths), (), "/home/a/data/run", {"USER": "a"}, {})
    assert redactor.replace("a data loader") == "a data loader"
