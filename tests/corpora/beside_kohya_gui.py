#!/usr/bin/env python3
"""Compares what lorabake trains with what the kohya_ss GUI itself writes, option by option.

beside_kohya_gui.py CHECKOUT PYTHON FILES... [--show] [--keep FOLDER]

FILES are saved presets, recipes, and folders of them. A preset is imported with --faithful and compiled; a recipe is
exported to kohya_ss and compiled. kohya_gui_writes.py (see its head for CHECKOUT, and for PYTHON, the GUI's own) has
the GUI write the TOML of the preset. Paths in presets are replaced by made-up files first, since both check that they
exist.

An option that differs must mean the same (sd-scripts does not have it, or another option decides), or a line of the
import's or export's report must name it. Exits 1 if one does not.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, cast

sys.path.insert(0, str(Path(__file__).parents[1] / "unit"))

from lora_files import Wanted, shapes_of, write
from lorabake.cli import main
from lorabake.exchange.command_line import read_arguments as read_words
from lorabake.exchange.trained import TrainerFacts, describe_training, read_network
from lorabake.planning.settings_network import ALPHA_IGNORED_BY, RANK_IGNORED_BY
from lorabake.recipe.foreign import GUI, recognize
from lorabake.recipe.load import load_recipe
from lorabake.util import resources
from lorabake_schemas.families.registry import get_family
from situations import write_base, write_pictures

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
ARGUMENTS = {"preset": "LyCORIS_preset", "block_size": "unit", "constraint": "constrain", "algo": "LoRA_type",
             "use_tucker": "use_cp"}  # fmt: skip
# Values that optimizers (Prodigy, Adafactor, DAdaptAdam) and LyCORIS have anyway.
ANYWAY = frozenset(
    {"betas=0.9,0.999", "d_coef=1.0", "warmup_init=0.0", "use_bias_correction=0.0", "decouple=1.0", "decouple=0.0",
     "safeguard_warmup=0.0", "bypass_mode=0.0", "dora_wd=0.0", "module_dropout=0.0", "rank_dropout=0.0",
     "rank_dropout_scale=0.0", "constraint=0.0", "rescaled=0.0", "train_norm=0.0", "use_scalar=0.0", "use_tucker=0.0",
     "train_on_input=1.0", "unit=1.0"}
)  # fmt: skip
RATES = ("unet_lr", "text_encoder_lr")
BUCKETS = ("min_bucket_reso", "max_bucket_reso", "bucket_reso_steps", "bucket_no_upscale")
FOLDERS = {"train_data_dir": "img", "reg_data_dir": "reg", "output_dir": "out", "logging_dir": "log", "resume": "state"}
NEEDED = ("train_data_dir", "output_dir")
DATASET = '[[datasets]]\nresolution = 512\n[[datasets.subsets]]\nimage_dir = "img/7_sks girl"\nnum_repeats = 7\n'


class Pair(NamedTuple):
    """A file, the folder in which it is worked on, and the preset that the GUI reads."""

    file: Path
    place: Path
    preset: Path


class Compared(NamedTuple):
    """How many options were compared, each that differs with why, or an error in one line."""

    number: int
    differences: list[tuple[str, str]]
    error: str = ""


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


def make_pair(file: Path, place: Path) -> Pair | None:
    """The preset that the GUI is to read: that of a preset, with made-up files, or what a recipe is exported to."""
    place.mkdir()
    if file.suffix == ".json":
        return Pair(file, place, make_ready(file, place)) if recognize(file.read_bytes()) == GUI else None
    recipe = draw_project(file, place)
    if recipe is None:
        return None
    options = ("--to", "kohya_ss", "-o", str(place / "out"), "--json")
    call("export", str(recipe), *options, output=place / "report.json")
    return Pair(file, place, next((place / "out").glob("*.json"), place / "refused"))


def make_ready(preset: Path, place: Path) -> Path:
    """A copy in which every path is that of a made-up file."""
    found = json.loads(preset.read_text("utf-8-sig"))
    family: Any = "sdxl" if found.get("sdxl") else "sd2" if found.get("v2") else "sd15"
    write_images(place, {".txt", ".caption", str(found.get("caption_extension") or ".txt")})
    for name in FOLDERS.values():
        (place / name).mkdir(exist_ok=True)
    found |= {key: str(place / FOLDERS[key]) for key in FOLDERS if found.get(key) or key in NEEDED}
    files = {"vae": write_base(place / "vae.safetensors"), "dataset_config": place / "dataset.toml"}
    weights = write(place / "weights.safetensors", shapes_of(Wanted("", 8, None), family))
    files |= dict.fromkeys(("network_weights", "lora_network_weights"), weights)
    (place / "dataset.toml").write_text(DATASET.replace("img/", f"{place}/img/"))
    found |= {key: str(path) for key, path in files.items() if found.get(key)}
    if not re.fullmatch(r"[\w-]+/[\w-]+", str(found.get("pretrained_model_name_or_path"))):
        found["pretrained_model_name_or_path"] = str(write_base(place / "base.safetensors", family))
    ready = place / "preset.json"
    ready.write_text(json.dumps(found), "utf-8")
    return ready


def write_images(place: Path, extensions: set[str]) -> None:
    """Images of a concept and of its class, with captions of these extensions."""
    for name in ("img/7_sks girl", "reg/1_girl"):
        copy_captions(write_pictures(place / name, 5, caption="sks girl"), extensions)


def copy_captions(folder: Path, extensions: Iterable[str | None]) -> None:
    for caption in list(folder.glob("*.txt")):
        for extension in {*extensions} - {".txt"}:
            shutil.copyfile(caption, caption.with_suffix(str(extension)))


def draw_project(recipe: Path, place: Path) -> Path | None:
    """A copy of the recipe with all that it names; None if it is none."""
    copy = place / recipe.name
    shutil.copyfile(recipe, copy)
    made = load_recipe(copy).recipe
    if made is None:
        return None
    family = cast("Any", made.base.family or "sd15")
    for name in (made.base.model, made.base.vae):
        if name:
            write_base(place / name, family)
    for part in made.concept:
        words = ", ".join(word for word in (part.token, part.outfit, part.class_) if word) or "scenery"
        write_pictures(place / part.images, 30, caption=words, size=(1024, 1024))
        copy_captions(place / part.images, {made.captions.caption_extension, part.caption_extension} - {None})
    if made.network.network_weights:
        write(place / made.network.network_weights, shapes_of(Wanted("", 8, None), family))
    for reg in made.regularization:
        write_pictures(place / reg.images, 20, caption=None, size=(1024, 1024))
    return copy


def compare_preset(pair: Pair, theirs: Table) -> Compared:
    """What a faithful import compiles to, next to what the GUI writes."""
    recipe, folder = pair.place / "recipe.toml", pair.place / "compiled"
    call("import", str(pair.preset), "--faithful", "--json", "-o", str(recipe), output=pair.place / "report.json")
    if not recipe.exists():
        return Compared(0, [], "refused")
    if error := compile_recipe(recipe, folder):
        return Compared(0, [], error)
    report = json.loads((pair.place / "report.json").read_text("utf-8"))
    report = report.get("import", report)
    lines = {each["key"]: each for each in (*report["keys"], *report["added"])}
    text = str(json.loads(pair.preset.read_text("utf-8")).get("additional_parameters", ""))
    count, found = list_differences(theirs, folder)
    return Compared(count, [(name, why or explain(name, one, other, lines, text)) for name, one, other, why in found])


def compare_export(pair: Pair, theirs: Table, widgets: Mapping[str, str]) -> Compared:
    """What the recipe compiles to, next to what the GUI writes for its export."""
    folder = pair.place / "compiled"
    if error := compile_recipe(pair.place / pair.file.name, folder):
        return Compared(0, [], error)
    lost = {each["key"] for each in json.loads((pair.place / "report.json").read_text("utf-8"))["lost"]}
    count, found = list_differences(theirs, folder)
    named = [
        (name, why or ("the report says so" if name in lost else explain_arguments(name, one, other, {})))
        for name, one, other, why in found
    ]
    if read_datasets(Path(theirs["dataset_config"])) != read_datasets(folder / "dataset.toml"):
        named.append(("dataset_config", "UNEXPLAINED: another dataset.toml"))
    named += [(name, f"UNEXPLAINED: the widget refuses {why}") for name, why in widgets.items()]
    return Compared(count, named)


def read_datasets(path: Path) -> list[dict[str, Any]]:
    """With paths that do not depend on where the file is."""
    found = read(path)["datasets"]
    for part in (part for block in found for part in block["subsets"]):
        for key in part.keys() & {"image_dir", "conditioning_data_dir", "metadata_file"}:
            part[key] = str((path.parent / part[key]).resolve())
    return cast("list[dict[str, Any]]", found)


def compile_recipe(recipe: Path, folder: Path) -> str:
    """Why it cannot be compiled, or nothing."""
    output = folder.parent / "compile.json"
    if not call("compile", str(recipe), "-o", str(folder), "--json", output=output):
        return ""
    found = json.loads(output.read_text("utf-8")).get("findings", [])
    return f"errors: {sorted({each['rule'] for each in found if each['severity'] == 'error'})}"


def read(path: Path) -> dict[str, Any]:
    return tomllib.loads(path.read_text("utf-8"))


def list_differences(theirs: Table, folder: Path) -> tuple[int, list[tuple[str, object, object, str]]]:
    """How many options there are, and name and both values of those that differ, with why they are the same after all;
    empty if that has to be in the report."""
    ours, datasets = read(folder / "train.toml"), read(folder / "dataset.toml")["datasets"]
    found = list(iter_options(theirs, ours, datasets))
    return len(found), [(name, one, other, why) for name, one, other, why in found if why is not None]


def iter_options(
    theirs: Table, ours: Table, datasets: list[dict[str, Any]]
) -> Iterator[tuple[str, object, object, str | None]]:
    options = {option.name: option for option in resources.load_snapshot().merge_scripts()}
    level = [*datasets, *(part for block in datasets for part in block["subsets"])]
    for name in sorted({*theirs, *ours}):
        default = options[name].default if name in options else None
        one, other = theirs.get(name, default), ours.get(name, default)
        values = [block[key] for block in level for key in (BY_DATASET.get(name, name),) if key in block]
        if name not in options:
            yield name, one, other, "sd-scripts does not have it"
        elif same(name, one, other):
            yield name, one, other, None
        elif values and all(same(name, one, value) for value in values):
            yield name, one, other, "in dataset.toml"
        else:
            yield name, one, other, find_reason(name, one, theirs, ours)


def find_reason(name: str, one: object, theirs: Table, ours: Table) -> str:
    """Why a difference is none."""
    rates = all(each in theirs for each in RATES)
    ignored = {"network_dim": RANK_IGNORED_BY, "network_alpha": ALPHA_IGNORED_BY}.get(name, ())
    reasons = {
        "the network ignores it": read_network(theirs)[0] in ignored,
        "lorabake's own place": name in OWN,
        "the same as left out": name not in ours and NEUTRAL.get(name) == one,
        "the same as learning_rate": name in RATES and same(name, one or theirs.get("learning_rate"),
                                                            ours.get(name, ours.get("learning_rate", 2e-6))),
        "the network's own": name == "network_args" and describe_network(theirs) == describe_network(ours),
        "no effect next to unet_lr and text_encoder_lr": name == "learning_rate" and rates,
        "attention = auto, which takes what this machine has": name in ("xformers", "sdpa"),
        "decided by this machine, which has no GPU": name == "mixed_precision" and ours.get(name) == "no",
        "no effect without log_with": name == "wandb_run_name" and theirs.get("log_with") not in ("wandb", "all"),
        "no effect without prompts": name == "sample_sampler" and "sample_prompts" not in ours,
        "no effect without enable_bucket": name in BUCKETS and not theirs.get("enable_bucket"),
        "no effect with bucket_no_upscale": name in BUCKETS[:2] and bool(theirs.get("bucket_no_upscale")),
    }  # fmt: skip
    return next((reason for reason, holds in reasons.items() if holds), "")


def describe_network(options: Table) -> Mapping[str, object]:
    """What import takes for the same network."""
    facts = resources.load_snapshot()
    known = {option.name: option for option in facts.merge_scripts()}
    trainer = TrainerFacts(known, facts.dataset, facts.signatures, get_family("sd15"))
    moved = [text for text in map(normal, options.get("network_args", ())) if text not in ANYWAY]
    values = {name: value for name, value in options.items() if name in ("network_module", "network_dim")}
    found = describe_training(values | {"network_args": tuple(moved)}, (), trainer)
    return {name: value for name, value in found.train.items() if name.startswith("network_")}


def same(name: str, one: object, other: object) -> bool:
    if name in LISTS:
        lists = [{normal(each) for each in cast("list[object]", value or [])} for value in (one, other)]
        return lists[0] == lists[1]
    values = [plain(value) for value in (one, other)]
    return values[0] == values[1]


def normal(argument: object) -> str:
    name, _, value = str(argument).partition("=")
    if name == "preset" and "lycoris-preset-" in value:  # lorabake's own file of that name
        value = Path(value).name.split("-")[2].removesuffix(".toml")
    return f"{name}={plain({'True': 1.0, 'False': 0.0}.get(value, value))}"


def plain(value: object) -> object:
    """1, 1.0, "1" and true the same; an array of two equal rates is one; paths absolute; "512,512" is 512."""
    if isinstance(value, list | tuple):
        items = [plain(each) for each in cast("Sequence[object]", value)]
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
        return explain_arguments(name, one, other, lines)
    return explain_key(name, lines) or explain_key(FIELDS.get(name, name), lines) or f"UNEXPLAINED {one!r} {other!r}"


def explain_arguments(name: str, one: object, other: object, lines: Mapping[str, Table]) -> str:
    if name not in LISTS:
        return f"UNEXPLAINED {one!r} {other!r}"
    parts = [{normal(each) for each in cast("list[object]", value or [])} for value in (one, other)]
    apart = (parts[0] ^ parts[1]) - ANYWAY
    if not apart:
        return "the optimizer's or the network's own default"
    names = {each.partition("=")[0] for each in apart}
    keys = {each: (each, ARGUMENTS.get(each, each), f"LoRA_type {each}", f"{name} {each}") for each in names}
    silent = sorted(each for each in names if not any(explain_key(key, lines) for key in keys[each]))
    return f"UNEXPLAINED {silent}: {sorted(apart)}" if silent else f"lines of the arguments in {name}"


def explain_key(key: str, lines: Mapping[str, Table]) -> str:
    line = lines.get(key)
    if line is None or line["fate"] == "taken":
        return ""
    return f"line {key}: {line['fate']}{': ' + line['why'] if line.get('why') else ''}"


def compare(pair: Pair, written: Path) -> Compared:
    """A preset or a recipe with what the GUI wrote for it, its "Additional parameters" over its TOML."""
    toml = written / f"{pair.place.name}.toml"
    if not toml.exists():
        error = written / f"{pair.place.name}.error"
        return Compared(0, [], f"the GUI refuses it: {error.read_text('utf-8')}" if error.exists() else "refused")
    words = json.loads(toml.with_suffix(".words").read_text("utf-8"))[3:]  # after the script and --config_file TOML
    said = {name: given.value for name, given in read_words(words).options.items()}
    theirs = read(toml) | said
    widgets = json.loads(toml.with_suffix(".widgets").read_text("utf-8"))
    return compare_export(pair, theirs, widgets) if pair.file.suffix == ".toml" else compare_preset(pair, theirs)


def list_files(named: Sequence[Path]) -> Iterator[Path]:
    for path in named:
        found = sorted(path.rglob("*")) if path.is_dir() else [path]
        yield from (each for each in found if each.suffix in (".json", ".toml") and each.is_file())


def run() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkout", type=Path)
    parser.add_argument("python", type=Path)
    parser.add_argument("files", type=Path, nargs="+")
    parser.add_argument("--show", action="store_true", help="print every difference")
    parser.add_argument("--keep", type=Path, help="folder for all that is made")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        place = asked.keep or Path(scratch)
        presets, written = place / "presets", place / "written"
        for folder in (presets, written):
            folder.mkdir(parents=True)
        made = [make_pair(file, place / f"{at:03}") for at, file in enumerate(list_files(asked.files))]
        pairs = [each for each in made if each is not None]
        for each in pairs:
            if each.preset.exists():
                shutil.copyfile(each.preset, presets / f"{each.place.name}.json")
        driver = Path(__file__).with_name("kohya_gui_writes.py")
        with (place / "gui.log").open("wb") as log:
            subprocess.run([asked.python, driver, asked.checkout, presets, written], check=True, stdout=log)
        return show([(each.file, compare(each, written)) for each in pairs], everything=asked.show)


def show(found: Sequence[tuple[Path, Compared]], *, everything: bool) -> int:
    states, reasons, silent, count = Counter[str](), Counter[str](), 0, 0
    for file, compared in found:
        states["not compared" if compared.error else "compared"] += 1
        count += compared.number
        if compared.error:
            print(f"{file.name}: {compared.error}")
        for name, why in compared.differences:
            unknown = why.startswith("UNEXPLAINED")
            reasons[f"{name}: {why}" if everything or unknown else why.partition(": ")[0]] += 1
            silent += unknown
            if unknown:
                print(f"{file.name}: {name} {why}")
    total = reasons.total()
    print(f"{count} options compared, {total} differ, {total - silent} explained, {silent} silent")
    for text, number in (*states.most_common(), *reasons.most_common()):
        print(f"{number:5} {text}")
    return 1 if silent else 0


if __name__ == "__main__":
    sys.exit(run())
