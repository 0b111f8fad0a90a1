#!/usr/bin/env python3
"""Compares what `lorabake import --faithful` makes of presets of the kohya_ss GUI with what the GUI itself writes.

beside_kohya_gui.py PRESETS TOMLS [--show]

PRESETS are saved presets (*.json), TOMLS the files that the GUI wrote for them under the same names (*.toml). Images
and models that the presets name have to exist. Each option that differs must be explained: sd-scripts does not have it,
both mean the same, lorabake puts it elsewhere, or a line of the import's report names its key. Exits 1 if one is not.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
import tempfile
import tomllib
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, cast

from lorabake.cli import main
from lorabake.util import resources

Table = Mapping[str, Any]
LISTS = ("network_args", "optimizer_args", "lr_scheduler_args")
# What a run folder has in its own place, and what lorabake adds for itself.
OWN = frozenset(
    {"output_dir", "logging_dir", "sample_prompts", "log_with", "train_data_dir", "reg_data_dir", "dataset_config",
     "metadata_trigger_phrase", "training_comment"}
)  # fmt: skip
# The same as the option left out.
NEUTRAL: Mapping[str, object] = {
    "clip_skip": 1, "max_token_length": 75, "max_timestep": 1000, "dynamo_backend": "no", "prior_loss_weight": 1.0,
    "lr_warmup_steps": 0,
}  # fmt: skip
FIELDS = {"resolution": "max_resolution", "optimizer_type": "optimizer", "network_module": "LoRA_type",
          "max_train_steps": "epoch", "lr_warmup_steps": "lr_warmup", "no_half_vae": "sdxl_no_half_vae",
          "cache_text_encoder_outputs": "sdxl_cache_text_encoder_outputs"}  # fmt: skip
BY_DATASET = {"train_batch_size": "batch_size"}
ARGUMENTS = {"preset": "LyCORIS_preset", "block_size": "unit", "constraint": "constrain", "algo": "LoRA_type"}
# Values that optimizers (Prodigy, Adafactor, DAdaptAdam) and LyCORIS have anyway. iA3 has no convolutions.
ANYWAY = frozenset(
    {"betas=0.9,0.999", "d_coef=1.0", "warmup_init=0.0", "use_bias_correction=0.0", "decouple=1.0", "decouple=0.0",
     "safeguard_warmup=0.0", "bypass_mode=0.0", "dora_wd=0.0", "module_dropout=0.0", "rank_dropout=0.0",
     "rank_dropout_scale=0.0", "train_norm=0.0", "use_scalar=0.0", "use_tucker=0.0", "train_on_input=1.0"}
)  # fmt: skip
RATES = ("unet_lr", "text_encoder_lr")
BUCKETS = ("min_bucket_reso", "max_bucket_reso", "bucket_reso_steps", "bucket_no_upscale")


def call(*arguments: str, output: Path) -> int:
    """lorabake in a child; its output in a file."""
    child = os.fork()
    if child == 0:
        descriptor = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(descriptor, 1)
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
        code: object = 99
        try:
            code = main(args=list(arguments), prog_name="lorabake", standalone_mode=False) or 0
        except SystemExit as end:
            code = end.code
        finally:
            sys.stdout.flush()
            os._exit(code if isinstance(code, int) else 1)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def compare_preset(preset: Path, toml: Path, place: Path) -> tuple[list[tuple[str, str]], str]:
    """Each option that differs with why, or an error in one line."""
    recipe, report_file, folder = place / "recipe.toml", place / "report.json", place / "compiled"
    call("import", str(preset), "--faithful", "--json", "-o", str(recipe), output=report_file)
    if not recipe.exists():
        return [], "refused"
    if call("compile", str(recipe), "-o", str(folder), "--json", output=place / "compile.json"):
        found = json.loads((place / "compile.json").read_text("utf-8")).get("findings", [])
        return [], f"errors: {sorted({each['rule'] for each in found if each['severity'] == 'error'})}"
    report = json.loads(report_file.read_text("utf-8"))
    report = report.get("import", report)
    theirs, ours = read(toml), read(folder / "train.toml")
    datasets = read(folder / "dataset.toml")["datasets"]
    lines = {each["key"]: each for each in (*report["keys"], *report["added"])}
    text = str(json.loads(preset.read_text("utf-8")).get("additional_parameters", ""))
    found = iter_differences(theirs, ours, datasets)
    return [(name, why or explain(name, one, other, lines, text)) for name, one, other, why in found], ""


def read(path: Path) -> dict[str, Any]:
    return tomllib.loads(path.read_text("utf-8"))


def iter_differences(
    theirs: Table, ours: Table, datasets: list[dict[str, Any]]
) -> Iterator[tuple[str, object, object, str]]:
    """Name, both values, and why they are the same after all; empty if that has to be in the report."""
    options = {option.name: option for option in resources.load_snapshot().merge_scripts()}
    level = [*datasets, *(part for block in datasets for part in block["subsets"])]
    for name in sorted({*theirs, *ours}):
        default = options[name].default if name in options else None
        one, other = theirs.get(name, default), ours.get(name, default)
        if name not in options:
            yield name, one, other, "sd-scripts does not have it"
            continue
        if same(name, one, other):
            continue
        values = [block[key] for block in level for key in (BY_DATASET.get(name, name),) if key in block]
        if values and all(same(name, one, value) for value in values):
            yield name, one, other, "in dataset.toml"
        else:
            yield name, one, other, find_reason(name, one, theirs, ours)


def find_reason(name: str, one: object, theirs: Table, ours: Table) -> str:
    """Why a difference is none."""
    rates = all(each in theirs for each in RATES)
    reasons = {
        "lorabake's own place": name in OWN,
        "the same as left out": name not in ours and NEUTRAL.get(name) == one,
        "the same as learning_rate": name in RATES and name not in ours and same(name, one, ours.get("learning_rate")),
        "no effect next to unet_lr and text_encoder_lr": name == "learning_rate" and rates,
        "attention = auto, which takes what this machine has": name in ("xformers", "sdpa"),
        "decided by this machine, which has no GPU": name == "mixed_precision" and ours.get(name) == "no",
        "no effect without log_with": name == "wandb_run_name" and theirs.get("log_with") not in ("wandb", "all"),
        "no effect without prompts": name == "sample_sampler" and "sample_prompts" not in ours,
        "no effect without enable_bucket": name in BUCKETS and not theirs.get("enable_bucket"),
        "no effect with bucket_no_upscale": name in BUCKETS[:2] and bool(theirs.get("bucket_no_upscale")),
    }
    return next((reason for reason, holds in reasons.items() if holds), "")


def same(name: str, one: object, other: object) -> bool:
    if name in LISTS:
        lists = [{normal(each) for each in cast("list[object]", value or [])} for value in (one, other)]
        return lists[0] == lists[1]
    values = [plain(value) for value in (one, other)]
    return values[0] == values[1]


def normal(argument: object) -> str:
    name, _, value = str(argument).partition("=")
    if name == "preset" and value.startswith("lycoris-preset-"):  # lorabake's own file of that name
        value = value.split("-")[2].removesuffix(".toml")
    return f"{name}={plain({'True': 1.0, 'False': 0.0}.get(value, value))}"


def plain(value: object) -> object:
    """1, 1.0, "1" and true the same; an array of two equal rates is one; paths absolute; "512,512" is 512."""
    if isinstance(value, list):
        items = [plain(each) for each in cast("list[object]", value)]
        return items[0] if items and len(set(map(str, items))) == 1 else items
    if isinstance(value, str):
        if re.fullmatch(r"(\d+),\1", value):
            return float(value.partition(",")[0])
        try:
            return float(value)
        except ValueError:
            return Path(value).name if "/" in value else value
    return None if value is None or value is False else float(value) if isinstance(value, bool | int | float) else value


def explain(name: str, one: object, other: object, lines: Mapping[str, Table], text: str) -> str:
    """The line of the report about the option's key."""
    if f"--{name}" in text:
        return "line additional_parameters"
    if name in LISTS:
        parts = [{normal(each) for each in cast("list[object]", value or [])} for value in (one, other)]
        apart = (parts[0] ^ parts[1]) - ANYWAY
        if not apart:
            return "the optimizer's or the network's own default"
        names = {each.partition("=")[0] for each in apart}
        silent = sorted(each for each in names if not explain_key(ARGUMENTS.get(each, each), lines))
        return f"UNEXPLAINED {silent}" if silent else f"lines of the arguments in {name}"
    return explain_key(name, lines) or explain_key(FIELDS.get(name, name), lines) or f"UNEXPLAINED {one!r} {other!r}"


def explain_key(key: str, lines: Mapping[str, Table]) -> str:
    line = lines.get(key)
    if line is None or line["fate"] == "taken":
        return ""
    return f"line {key}: {line['fate']}{': ' + line['why'] if line.get('why') else ''}"


def run() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("presets", type=Path)
    parser.add_argument("tomls", type=Path)
    parser.add_argument("--show", action="store_true", help="print every difference")
    asked = parser.parse_args()
    states, reasons, silent = Counter[str](), Counter[str](), 0
    for preset in sorted(asked.presets.glob("*.json")):
        toml = asked.tomls / f"{preset.stem}.toml"
        if not toml.exists():
            continue
        with tempfile.TemporaryDirectory() as place:
            found, error = compare_preset(preset, toml, Path(place))
        states[error or "compared"] += 1
        if error:
            print(f"{preset.name}: {error}")
        for name, why in found:
            reasons[f"{name}: {why}" if asked.show or why.startswith("UNEXPLAINED") else why.partition(": ")[0]] += 1
            if why.startswith("UNEXPLAINED"):
                silent += 1
                print(f"{preset.name}: {name} {why}")
    for text, number in (*states.most_common(), *reasons.most_common()):
        print(f"{number:5} {text}")
    return 1 if silent else 0


if __name__ == "__main__":
    sys.exit(run())
