"""Public configurations trained twice for two steps: as a recipe with `lorabake run`, and with bare sd-scripts.

The bare side (pairs.toml) is written in sd-scripts' options from the public configuration itself; nothing of it comes
from what lorabake compiles. Both sides get the same images, base, size and single thread. The files have to be equal
bit for bit in every tensor, and in sd-scripts' metadata but for what is named here. ``added`` in pairs.toml is what had
to be said to bare sd-scripts, since the guide sets it where the configuration says nothing.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest
import tomli_w
from PIL import Image

from lorabake.lora.reproducible import VOLATILE_KEYS
from lorabake.trainer.install import Trainer
from lorabake.util.environment import make_child_env, read_environment
from sample_images import draw_images, write_lighthouses

pytestmark = pytest.mark.matrix
Table = dict[str, Any]
HERE = Path(__file__).parent
CONTENT: Table = tomllib.loads((HERE / "pairs.toml").read_text("utf-8"))
PAIRS: list[Table] = CONTENT["pair"]
RECIPES: dict[str, Table] = {
    config["source"]: config for config in tomllib.loads((HERE / "public_recipes.toml").read_text("utf-8"))["config"]
}
FOLDER = "data/2_lumlighthouse lighthouse"
HEAD = "| pair | what | tensors | differ | metadata differs in | the guide added |\n|---|---|--:|--:|---|---|\n"
# What a training of seconds on a CPU needs, on both sides alike: 512 px becomes 128, 8-bit AdamW its sibling.
SMALL: Table = {
    "resolution": 128,
    "max_train_steps": 2,
    "min_bucket_reso": 64,
    "max_bucket_reso": 256,
    "bucket_reso_steps": 64,
    "mixed_precision": "no",  # bf16 with clip_skip stops on a CPU: mixed dtype (CPU) in layer_norm
}
SIZES = {512: 128, 768: 192, 1024: 128}
# sd-scripts logs through rich, whose styles draw from Python's `random` (rich/style.py:193) after the seed is set:
# the seed of the dataset, drawn next, would follow from what the log says, such as class tokens that nothing uses.
QUIET = {"console_log_simple": True}
EPOCHS = {"max_train_epochs", "save_every_n_epochs"}
# Only lorabake writes these: the digest of the recipe, the trigger phrase, and hashes over the whole header.
# ss_network_args is text that says the same in another order and with other defaults named.
OURS = {"ss_training_comment", "modelspec.trigger_phrase", "ss_network_args"}
# sd-scripts writes these of a dataset file and not of train_data_dir, or in another form.
DATASET_FORM = {
    "ss_caption_dropout_rate", "ss_caption_dropout_every_n_epochs", "ss_caption_tag_dropout_rate",
    "ss_datasets", "ss_batch_size_per_device", "ss_total_batch_size", "ss_resolution", "ss_color_aug", "ss_flip_aug",
    "ss_random_crop", "ss_shuffle_caption", "ss_enable_bucket", "ss_bucket_no_upscale", "ss_min_bucket_reso",
    "ss_max_bucket_reso", "ss_keep_tokens", "ss_dataset_dirs", "ss_reg_dataset_dirs", "ss_tag_frequency",
    "ss_bucket_info",
}  # fmt: skip


def make_data(root: Path) -> None:
    """All folders that a pair may name; each side has its own, since latents are cached beside the images."""
    write_lighthouses(root / FOLDER, 4)
    for name in ("masks", "clear"):
        (root / name).mkdir()
    for path in (root / FOLDER).glob("*.png"):
        image = Image.open(path).convert("RGB")
        mask = Image.new("L", image.size)
        mask.paste(255, (0, 0, image.width // 2, image.height))
        mask.save(root / "masks" / f"{path.stem}.png")
        image.putalpha(mask)
        image.save(root / "clear" / f"{path.stem}.png")
        (root / "clear" / f"{path.stem}.txt").write_bytes(path.with_suffix(".txt").read_bytes())
    for name, caption, count in (
        ("wild", "upper body, {simple|white} background, sky;;;cloud;;;day, {{retro}}", 6),
        ("hoge", "hoge, girl, from side, standing", 4),
        ("fuga", "fuga, boy, hat, sitting", 4),
        ("reg", "human, plain, standing", 4),
        ("piyo", "piyo, girl, running, outdoors", 4),
    ):
        draw_images(root / name, caption, count)
    (root / "wild" / "image02.txt").write_text("microphone, stage, hat\na girl on a stage\n{red|blue} art", "utf-8")
    listed = {path.stem: {"caption": path.read_text("utf-8").strip()} for path in (root / "piyo").glob("*.txt")}
    for path in (root / "piyo").glob("*.txt"):
        path.unlink()
    metadata = {f"{stem}.png": entry for stem, entry in sorted(listed.items())}
    (root / "piyo_md.json").write_text(json.dumps(metadata), "utf-8")


def shrink(values: Table, smaller: Table) -> Table:
    """The table, small enough for a CPU; what it leaves out stays so."""
    sizes = SMALL | smaller
    return {key: sizes.get(key, value) for key, value in values.items() if key not in EPOCHS}


def shrink_resolution(given: int | list[int]) -> int | list[int]:
    return [SIZES[each] for each in given] if isinstance(given, list) else SIZES[given]


def merge(one: Table, two: Table) -> Table:
    """Tables of the first with what the second has, key by key."""
    found = dict(one)
    for name, value in two.items():
        found[name] = found.get(name, {}) | value if isinstance(value, dict) else value
    return found


def write_recipe(pair: Table, root: Path, base: Path, family: str) -> Path:
    public: Table = RECIPES.get(pair["source"], {}).get("recipe", {})
    tables = merge(public, pair.get("recipe", {}))
    smaller: Table = pair.get("smaller", {})
    train: Table = {"resolution": 128, "max_train_steps": 2} | shrink(tables.pop("train"), smaller)
    if "resolutions" in train:
        train["resolutions"] = shrink_resolution(train["resolutions"])
        del train["resolution"]
    train["optimizer"] = str(train["optimizer"]).replace("AdamW8bit", "AdamW")
    if "attention" in train:
        train["attention"] = "sdpa"
    own: Table = {"token": "lumlighthouse", "class": "lighthouse", "images": FOLDER, "num_repeats": 2}
    concepts: list[Table] = tables.pop("concepts", [own | tables.pop("concept", {})])
    for concept in concepts:
        if "resolution" in concept:
            concept["resolution"] = shrink_resolution(concept["resolution"])
    machine_keys = {"model": base.as_posix(), "family": family, "tokenizer_cache_dir": (base / "tokenizers").as_posix()}
    content = {
        "name": "pair",
        "kind": "object",
        "base": tables.pop("base", {}) | machine_keys,
        "train": train,
        "network": shrink(tables.pop("network", {}), smaller),
        "save": shrink(tables.pop("save", {}), smaller),
        "concept": concepts,
        "launch": {"num_cpu_threads_per_process": 1},
        **tables,
        "kohya": tables.pop("kohya", {}) | QUIET,
    }
    path = root / "recipe.toml"
    path.write_text(tomli_w.dumps({key: table for key, table in content.items() if table != {}}), encoding="utf-8")
    return path


def train_with_lorabake(recipe: Path, cache: Path) -> Path:
    env = make_child_env(read_environment(), HF_HUB_OFFLINE="1", LORABAKE_HOME=str(cache))
    argv = [sys.executable, "-m", "lorabake", "run", str(recipe), "--run-dir", str(recipe.with_name("run"))]
    done = subprocess.run(argv, env=env, check=False, capture_output=True, text=True, encoding="utf-8")
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-6000:]
    return recipe.with_name("run") / "output" / "pair.safetensors"


def make_argv(options: Table) -> list[str]:
    argv: list[str] = []
    for key, value in options.items():
        if value is True:
            argv.append(f"--{key}")
        elif isinstance(value, list):
            argv += [f"--{key}", *map(str, cast("list[object]", value))]
        elif value is not False:
            argv += [f"--{key}", str(value)]
    return argv


def list_added(pair: Table) -> Table:
    """What the guide sets and the public configuration does not."""
    common: Table = CONTENT["document"] if pair.get("document") else {}
    own: Table = pair.get("added", {})
    return common | own


# LyCORIS' own preset, where it makes the layers of an SD1.x time embedding twice and stops.
FULL = """\
import json
from lycoris.config import PRESET
full = PRESET["full"]
names = ("enable_conv", "unet_target_module", "unet_target_name", "text_encoder_target_module")
found = {name: full[name] for name in names}
found["unet_target_module"] = [name for name in found["unet_target_module"] if name != "TimestepEmbedding"]
print(json.dumps(found))
"""


def write_full_preset(root: Path, trainer: Trainer) -> str:
    done = subprocess.run([str(trainer.python), "-c", FULL], check=True, capture_output=True, text=True)
    path = root / "full.toml"
    path.write_text(tomli_w.dumps(json.loads(done.stdout.splitlines()[-1])), encoding="utf-8")
    return path.name


def write_options(pair: Table, root: Path, base: Path, trainer: Trainer) -> Table:
    """The public configuration and what the guide adds, on the images and the base of this side."""
    preset = write_full_preset(root, trainer)
    smaller: Table = pair.get("smaller", {})
    options: Table = {"resolution": 128} | shrink(pair["options"], smaller) | list_added(pair)
    if options.pop("xformers", False):
        options["sdpa"] = True
    options["network_args"] = [str(each).replace("{full}", preset) for each in options.get("network_args", ())]
    options["optimizer_type"] = str(options["optimizer_type"]).replace("AdamW8bit", "AdamW")
    if "dataset" in pair:
        (root / "dataset.toml").write_text(tomli_w.dumps(make_dataset(pair, smaller)), encoding="utf-8")
        options["dataset_config"] = "dataset.toml"
    else:
        options["train_data_dir"] = "data"
    machine_keys = {"pretrained_model_name_or_path": base, "tokenizer_cache_dir": base / "tokenizers"}
    ours = {"max_train_steps": 2, "output_dir": "output", "output_name": "pair", "save_model_as": "safetensors"}
    return options | machine_keys | ours | QUIET


def make_dataset(pair: Table, smaller: Table) -> Table:
    """The configuration's dataset file, with the bounds of buckets that the guide adds to a dataset."""
    general: Table = pair["dataset"].get("general", {})
    datasets: list[Table] = pair["dataset"]["datasets"]
    added: list[Table] = pair.get("added_datasets", [{} for _ in datasets])
    written = [shrink_scope(one, smaller) | two for one, two in zip(datasets, added, strict=True)]
    return {"general": shrink_scope(general, smaller), "datasets": written}


def shrink_scope(scope: Table, smaller: Table) -> Table:
    size = {"resolution": shrink_resolution(scope["resolution"])} if "resolution" in scope else {}
    return shrink(scope, smaller) | size


def train_bare(options: Table, root: Path, trainer: Trainer, family: str) -> Path:
    script = {"sdxl": "sdxl_train_network.py"}.get(family, "train_network.py")
    launch = ["-m", "accelerate.commands.launch", "--num_cpu_threads_per_process", "1"]
    argv = [str(trainer.python), *launch, str(trainer.checkout / script), *make_argv(options)]
    env = make_child_env(read_environment(), drop=("PYTHON", "ACCELERATE"), HF_HUB_OFFLINE="1", PYTHONUTF8="1")
    done = subprocess.run(argv, cwd=root, env=env, check=False, capture_output=True, text=True, encoding="utf-8")
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-6000:]
    return root / "output" / "pair.safetensors"


def read_lora(path: Path) -> tuple[dict[str, tuple[str, bytes]], dict[str, str]]:
    """Each tensor as its type, shape and bytes, and the metadata.

    Class tokens are left out of it: every folder of a recipe has them, and images with captions do not use them.
    """
    raw = path.read_bytes()
    size = int.from_bytes(raw[:8], "little")
    header = json.loads(raw[8 : 8 + size])
    metadata = header.pop("__metadata__")
    if "ss_datasets" in metadata:
        datasets = json.loads(metadata["ss_datasets"])
        for subset in (each for dataset in datasets for each in dataset["subsets"]):
            subset.pop("class_tokens", None)
        metadata["ss_datasets"] = json.dumps(datasets)
    body = raw[8 + size :]
    tensors = {
        name: (f"{entry['dtype']}{entry['shape']}", body[slice(*entry["data_offsets"])])
        for name, entry in header.items()
    }
    return tensors, metadata


def list_differing(one: dict[str, Any], two: dict[str, Any]) -> list[str]:
    return sorted(key for key in one.keys() | two.keys() if one.get(key) != two.get(key))


@pytest.mark.parametrize("pair", PAIRS, ids=[pair["name"] for pair in PAIRS])
def test_equal_to_bare_sd_scripts(
    pair: Table, tmp_path: Path, cache: Path, trainer: Trainer, make_base: Callable[..., Path]
) -> None:
    family: str = pair.get("family") or RECIPES[pair["source"]]["family"]
    base = make_base(family, trainings=1)
    for side in ("recipe", "bare"):
        make_data(tmp_path / side)
    ours, our_metadata = read_lora(train_with_lorabake(write_recipe(pair, tmp_path / "recipe", base, family), cache))
    options = write_options(pair, tmp_path / "bare", base, trainer)
    bare, bare_metadata = read_lora(train_bare(options, tmp_path / "bare", trainer, family))
    differ = list_differing(ours, bare)
    apart: list[str] = pair.get("apart", [])
    known = {*VOLATILE_KEYS, *OURS, *apart, *(() if "dataset" in pair else DATASET_FORM)}
    metadata = [key for key in list_differing(our_metadata, bare_metadata) if key not in known]
    added = ", ".join(
        [*list_added(pair), *(f"{key} (dataset)" for each in pair.get("added_datasets", ()) for key in each)]
    )
    enter(
        cache / "pairs.md",
        pair["name"],
        f"{pair['kind']} | {len(ours)} | {len(differ)} | {', '.join(metadata)} | {added}",
    )
    for key in metadata:
        print(f"{key}: recipe {our_metadata.get(key)}, bare {bare_metadata.get(key)}")
    assert our_metadata["ss_steps"] == bare_metadata["ss_steps"] == "2"
    assert (differ, metadata) == ([], [])


def test_an_option_left_out_is_seen(
    tmp_path: Path, cache: Path, trainer: Trainer, make_base: Callable[..., Path]
) -> None:
    """Otherwise equal files would prove nothing."""
    (pair,) = (pair for pair in PAIRS if pair["name"] == "block-rates")
    base = make_base("sd15", trainings=1)
    files = list[Path]()
    for left_out in ("", "debiased_estimation_loss"):
        root = tmp_path / f"without-{left_out}"
        make_data(root)
        options = write_options(pair, root, base, trainer)
        options.pop(left_out, None)
        files.append(train_bare(options, root, trainer, "sd15"))
    (one, first), (two, second) = map(read_lora, files)
    assert list_differing(one, two) != []
    assert "ss_debiased_estimation" in list_differing(first, second)


def enter(table: Path, name: str, row: str) -> None:
    """Print the row, and write it in place of the pair's last one."""
    print(f"\n| {name} | {row} |")
    rows = table.read_text("utf-8").splitlines()[2:] if table.exists() else []
    rows = sorted([*(each for each in rows if not each.startswith(f"| {name} |")), f"| {name} | {row} |"])
    table.write_text(HEAD + "\n".join(rows) + "\n", encoding="utf-8")
