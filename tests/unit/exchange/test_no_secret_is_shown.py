"""No access token, key or password of another program's file is in anything that import prints or writes."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import cast

import pytest
from click.testing import CliRunner

from lora_files import SMALL, metadata, write
from lorabake.cli import main
from lorabake.exchange.foreign import Source
from lorabake.exchange.import_file import format_imported_recipe, import_file

MARK = "x1y2z"  # in every secret below, and in nothing else
NAMED = {
    "huggingface_token": f"{MARK}aa",
    "wandb_api_key": f"{MARK}bb0123456789abcdef0123456789abcdef012",
    "my_password": f"{MARK} cc, {MARK} dd",
    "civitaiApiKey": f"{MARK}dd",
}
TEXTS = (  # without a doubt
    f"hf_{MARK}ABCDEFGHIJKLMNOPQRSTUVWXYZ012",
    f"made with hf_{MARK}ABCDEFGHIJKLMNOPQRSTUVWXYZ013, by me",
    f"https://me:{MARK}ee@huggingface.co/a/b",
    f"https://civitai.com/api/download/models/1?type=Model&token={MARK}ff",
    f"https://h.example/a?X-Amz-Signature={MARK}gg&b=1",
    f"Authorization: Bearer {MARK}hhABCdef0123456789",
    f"AKIAX1Y2Z0123456789A {MARK.upper()}"[:20],
    f"eyJhbGciOiJIUzI1NiJ9.eyJ{MARK}iOjF9.{MARK}abc",
    f"see https://discord.com/api/webhooks/123456/{MARK}wh",
    f"https://hooks.slack.com/services/T0/B0/{MARK}sl",
)
DOUBTFUL = (  # only what is shown is without them
    f"Authorization: Bearer {MARK}hh",
    f"authorization: Basic {MARK}ii==",
    f"X-Api-Key: {MARK}jj",
    f"Cookie: session={MARK}kk; b={MARK}kl",
    f"sk-proj-{MARK}ABCdef0123456789",
    f"glpat-{MARK}ABCdef0123456789",
    f"wandb login {MARK}mm",
    f"HF_TOKEN={MARK}nn python x.py --wandb_api_key {MARK}oo",
    f"curl -u me:{MARK}pp https://h.example",
    f"ngrok config add-authtoken {MARK}ng",
    f"DB_PASS={MARK}db ./start --pass {MARK}pa",
)
# As like one as ordinary values get.
ORDINARY = (
    "secretary: a girl, (password: 1.2), red hair", "secretary: red dress", "rk_AnimeStyle2024Version1", "lora_key=5",
    'file_key="model.safetensors"', "text_encoder_token: 75", "Bearer standardofthenationxx", "basic training==",
    "pk-2girls20240101characterlora", "models/sk-anime2024abcdefghijk.safetensors", "sk-a1b2c3D4e5f6g7h8i9j0k/img",
    "API_KEY=a girl", "a girl, --token x", "sk-proj-x1A2b3C4d5E6f7G8h9", "https://civitai.com/models/1?modelVersionId=2",
    "wandb login me", "hf_my_characters_of_the_last_thirty_years", "xoxo-anime2024abcdefghijk", "git@github.com:a/b",
)  # fmt: skip
LISTS = (
    ["--wandb_api_key", f"{MARK}qq"],
    [f"Authorization: Bearer {MARK}rr", f"X-Api-Key: {MARK}ss"],
    [f"hf_token={MARK}tt", f"api_key='{MARK} uu'"],
    [{"name": "Authorization", "value": f"Bearer {MARK}vv"}, {"hf_token": f"{MARK}ww"}],
)
ARGUMENTS = [f"hf_token={MARK}xx", f"note=https://a:{MARK}yy@h", "conv_dim=4"]
# Keys that every program has somewhere, and keys that none has.
VALUES: dict[str, object] = {
    **NAMED,
    **{f"own_text_{at}": text for at, text in enumerate(TEXTS)},
    "training_comment": "; ".join(TEXTS[:4]),
    "metadata_description": TEXTS[5],
    "output_dir": TEXTS[2],
    "vae": TEXTS[3],
    "log_tracker_name": TEXTS[0],
    "network_args": ARGUMENTS,
    "optimizer_args": ARGUMENTS,
    "log_tracker_config": f"/x/{TEXTS[0]}.toml",
}
UNKNOWN = {  # where no key of any name is copied
    **{f"doubt_{at}": text for at, text in enumerate(DOUBTFUL)},
    **{f"own_list_{at}": items for at, items in enumerate(LISTS) if at < 3},
}
BASE: dict[str, object] = {
    "pretrained_model_name_or_path": "model.safetensors",
    "train_data_dir": "img",
    "network_module": "networks.lora",
    "output_name": "lum",
}


def write_toml(values: Mapping[str, object], table: str = "") -> str:
    lines = [f"[{table}]"] if table else []
    return "\n".join([*lines, *(f"{key} = {json.dumps(value)}" for key, value in values.items())]) + "\n"


def write_options(values: Mapping[str, object]) -> list[str]:
    words: list[str] = []
    for key, value in values.items():
        items = cast("list[object]", value) if isinstance(value, list) else [value]
        words.append(f"--{key} " + " ".join(f'"{item}"' for item in items))
    return words


def write_shell(assign: str, condition: str, end: str, go_on: str) -> str:
    """Variables, conditions that only a shell knows, logins, and the options themselves."""
    names = {"T": TEXTS[0], "MYVAR": TEXTS[1], "WANDB_API_KEY": f"{MARK}v1", "HF_TOKEN": f"{MARK}v2"}
    lines = [assign.format(name=name, value=value) for name, value in names.items()]
    for text in (*TEXTS, *DOUBTFUL):
        lines += [condition.format(text=text), assign.format(name="STEPS", value="10"), end]
    lines += [f"huggingface-cli login --token {MARK}lg && wandb login {MARK}lh && " + "echo done"]
    words = write_options({**BASE, **VALUES})
    return "\n".join([*lines, f" {go_on}\n  ".join(["accelerate launch train_network.py", *words])]) + "\n"


CASES = {
    "a.sh": write_shell("export {name}='{value}'", "if some_test '{text}'; then", "fi", "\\"),
    "a.bat": write_shell('set "{name}={value}"', 'if "%SOME%"=="{text}" (', ")", "^"),
    "a.ps1": write_shell("$env:{name} = '{value}'", "if ($some -eq '{text}') {{", "}", "`"),
    "config.toml": write_toml({**BASE, **VALUES, **UNKNOWN}),
    "sections.toml": write_toml(BASE, "model") + write_toml(VALUES, "other"),
    "dataset.toml": "[[datasets]]\nresolution = 512\n" + write_toml(VALUES)
    + '[[datasets.subsets]]\nimage_dir = "img"\n' + write_toml(VALUES) + write_toml(NAMED, "unknown"),
    "gui.json": json.dumps({"LoRA_type": "Standard", "max_resolution": "512,512", **BASE, **VALUES, **UNKNOWN,
        "additional_parameters": " ".join(write_options({**NAMED, **BASE})), "own_list_3": LISTS[3],
        "optimizer_args": " ".join(ARGUMENTS), "extra_accelerate_launch_args": DOUBTFUL[-4]}),
    "easy.toml": write_toml({**BASE, **VALUES}, "general_args.args")
    + "".join(write_toml(VALUES, name) for name in (
        "saving_args.args", "logging_args.args", "network_args.args.network_args", "optimizer_args.args",
        "general_args.dataset_args")) + "[[subsets]]\nimage_dir = 'img'\n" + write_toml(VALUES),
    "lora-scripts.toml": write_toml({**BASE, **VALUES, "model_train_type": "sd-lora",
        "ui_custom_params": write_toml(VALUES), "positive_prompts": TEXTS[1], "network_args_custom": ARGUMENTS,
        "optimizer_args_custom": ARGUMENTS}),
    "one.json": json.dumps({"training_method": "LORA", "model_type": "STABLE_DIFFUSION_15", "base_model_name": TEXTS[2],
        **VALUES, **UNKNOWN, "secrets": {"huggingface_token": f"{MARK}se"}, "own": LISTS[3],
        "concepts": [{"path": "img", "name": TEXTS[1], **VALUES, "text": VALUES}], "samples": [{"prompt": TEXTS[1]}]}),
    "job.yaml": json.dumps({"job": "extension", "meta": VALUES, "config": {"name": "lum", "process": [{
        "type": "sd_trainer", "network": {"type": "lora", "linear": 4, "network_kwargs": VALUES}, "own": LISTS[3],
        "train": {"steps": 10, "optimizer_params": VALUES, **VALUES}, "headers": LISTS[1], "save": VALUES,
        "model": {"name_or_path": TEXTS[2], **VALUES}, "datasets": [{"folder_path": "img", **VALUES}], **VALUES}]}}),
}  # fmt: skip
# Several commands, and damaged files: what is wrong is shown with what is around it.
TROUBLE = {
    "two.sh": "".join(" ".join(["accelerate launch train_network.py", *write_options({**BASE, "seed": n, key: text})])
                      + "\n" for n, (key, text) in enumerate(NAMED.items())),
    "none.sh": f"WANDB_API_KEY={MARK} huggingface-cli login --token {MARK}\necho {TEXTS[0]} train_network.py\n",
    "bare.toml": f"pretrained_model_name_or_path = 'a'\nnetwork_module = 'b'\nwandb_api_key = {MARK}\n",
    "open.toml": f"pretrained_model_name_or_path = 'a'\nnetwork_module = 'b'\nwandb_api_key = '{MARK}\n",
    "twice.toml": f"pretrained_model_name_or_path = 'a'\nwandb_api_key = '{MARK}'\nwandb_api_key = '{MARK}'\n",
    "open.json": f'{{"LoRA_type": "a", "wandb_api_key": "{MARK}',
    "bare.yaml": f"job: a\nconfig:\n  token: {MARK}: {TEXTS[0]}\n\tx: *{MARK}\n",
    "alias.yaml": f"job: a\nconfig: *hf_{MARK}ABCDEFGHIJKLMNOPQRSTUVWXYZ012\n",
    "flux.toml": write_toml({"model_train_type": f"flux {TEXTS[0]}", **BASE}),
    "clip.toml": write_toml({**BASE, "clip_l": TEXTS[3]}),
}  # fmt: skip


def run(folder: Path, *arguments: str) -> str:
    """Everything that comes of a command, with the files that it wrote."""
    before = {*folder.iterdir()}
    done = CliRunner().invoke(main, [*arguments])
    assert done.exit_code in {0, 1}, done.output
    new = sorted({*folder.iterdir()} - before)
    texts = [each.read_text("utf-8") for path in new for each in ([path] if path.is_file() else path.iterdir())]
    for path in new:
        path.unlink() if path.is_file() else None
    return "\n".join([done.output, done.stderr, *texts])


def assert_hidden(shown: str) -> None:
    found = [shown[max(at.start() - 60, 0) : at.end() + 9] for at in re.finditer(MARK, shown, re.IGNORECASE)]
    assert not found


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write_case(folder: Path, name: str) -> None:
    text = {**CASES, **TROUBLE}.get(name)
    if name.endswith(".safetensors"):
        found = {f"ss_{key}": value if isinstance(value, str) else json.dumps(value) for key, value in VALUES.items()}
        write(folder / name, SMALL, metadata(**found, **{key: str(value) for key, value in VALUES.items()}))
    else:
        (folder / name).write_text(text or "", "utf-8")


@pytest.mark.parametrize("name", [*CASES, "lum.safetensors"])
def test_neither_report_nor_recipe_has_one(name: str, folder: Path) -> None:
    write_case(folder, name)
    for faithful in (False, True):
        made = import_file(Source(path=Path(name), content=b""), faithful=faithful)
        assert len(made.report.keys) > len(VALUES) or name == "dataset.toml"
        assert_hidden(made.report.model_dump_json() + format_imported_recipe(made, str))


@pytest.mark.parametrize("name", ["a.sh", *TROUBLE])
def test_nothing_of_it_is_printed_or_written(name: str, folder: Path) -> None:
    write_case(folder, name)
    shown = run(folder, "import", name, "--keys")
    assert name in shown
    assert_hidden(shown)


@pytest.mark.parametrize("faithful", [False, True])
def test_ordinary_values_stay_as_they_are(faithful: bool, folder: Path) -> None:
    name = next(each for each in ORDINARY if each.startswith("rk_"))
    model = next(each for each in ORDINARY if each.endswith(".safetensors"))
    for text in ORDINARY:
        values = {**BASE, "output_name": name, "training_comment": text, "network_args": f"own={text}",
                  "pretrained_model_name_or_path": model, "vae": f"vae/{model}"}  # fmt: skip
        (folder / "m.sh").write_text("accelerate launch train_network.py " + " ".join(
            f"--{key} {shlex.quote(str(value))}"
            for key, value in values.items()), "utf-8")  # fmt: skip
        content = import_file(Source(path=Path("m.sh"), content=b""), faithful=faithful).content
        assert (content["name"], content["metadata"]["comment"]) == (name, text)
        assert content["base"]["model"].endswith(model)
        assert content["base"]["vae"].endswith(f"vae/{model}")
        assert content["network"]["args"]["own"] == text
