"""What is exported trains the same: the preset is read back by the GUI's rules, the files by sd-scripts' own."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest

from lorabake.analysis.check import check_recipe
from lorabake.errors import MachineError
from lorabake.exchange.compiled_source import CompiledSource, read_run, take_compiled
from lorabake.exchange.export import default_folder, list_chosen, list_own_keys, write_export
from lorabake.exchange.foreign import Source, Unset
from lorabake.exchange.import_file import import_file, write_import
from lorabake.exchange.kohya_gui.fields import FRESH
from lorabake.exchange.kohya_gui.reader import list_gui_options, read_kohya_gui
from lorabake.exchange.kohya_gui.writer import build_gui_preset
from lorabake.jobs.run_files import build_run_files
from lorabake.util import resources
from lorabake_schemas.export_report import ExportFormat
from lorabake_schemas.plan import LaunchPlan
from situations import CPU, GPU, project, write_pictures

TRAIN: dict[str, Any] = {
    "pretrained_model_name_or_path": "/models/base.safetensors", "network_module": "networks.lora", "network_dim": 16,
    "network_alpha": 8.0, "optimizer_type": "AdamW", "learning_rate": 1e-4, "lr_scheduler": "cosine",
    "lr_warmup_steps": 0.2, "max_train_epochs": 5, "mixed_precision": "bf16", "save_precision": "fp16", "sdpa": True,
    "cache_latents": True, "max_data_loader_n_workers": 2, "seed": 42, "output_name": "mine", "output_dir": "output",
    "logging_dir": "tensorboard", "resolution": "512,512", "save_model_as": "safetensors",
}  # fmt: skip
HARMLESS = {"clip_skip": 1, "max_token_length": 75, "max_timestep": 1000}


def compiled(
    train: Mapping[str, object], script: str = "train_network.py", launch: LaunchPlan | None = None
) -> CompiledSource:
    merged = {name: value for name, value in (TRAIN | dict(train)).items() if value is not None}
    dataset = {"resolution": 512, "batch_size": 1, "subsets": [{"image_dir": "/images/a", "num_repeats": 2}]}
    return CompiledSource(
        name="mine",
        script=script,
        launch=launch or LaunchPlan(),
        train=merged,
        datasets=[dataset],
        prompts=(),
        others={},
    )


def trained_by_gui(fields: Mapping[str, object]) -> dict[str, object]:
    """What sd-scripts gets: the fields, then the text that overrides them."""
    source = Source(path=Path("/x/preset.json"), content=json.dumps(fields).encode())
    text = read_kohya_gui(source).options
    done: dict[str, object] = dict(list_gui_options(fields))
    done |= {
        name: given.value
        for name, given in text.items()
        if given.keys[0].startswith("additional_parameters") and not isinstance(given.value, Unset)
    }
    return done


def assert_same(source: CompiledSource) -> Mapping[str, object]:
    preset = build_gui_preset(source, Path("/out"), "dataset.toml")
    assert preset.fields.keys() == FRESH.keys()
    assert not preset.lost
    done = trained_by_gui(preset.fields)
    for name, value in source.train.items():
        if name in ("output_dir", "logging_dir") or value is False:
            continue
        got = done.get(name)
        wanted: object = tuple(cast("list[object]", value)) if isinstance(value, list) else value
        if name == "network_args":
            assert isinstance(got, tuple)
            assert set(cast("list[str]", value)) <= set(cast("tuple[str, ...]", got))
        else:
            assert got == wanted or (got is None and wanted in (1, 1.0, [])), name
    return done


@pytest.mark.parametrize(
    "train",
    [{}, {"max_grad_norm": 0.0}, {"prior_loss_weight": 0.0}, {"lr_warmup_steps": 0.025}, {"lr_warmup_steps": 50},
     {"max_train_epochs": None, "max_train_steps": 900}, {"max_train_epochs": None, "max_train_steps": 900,
      "lr_warmup_steps": 30}, {"unet_lr": 2e-4}, {"text_encoder_lr": 1e-5, "unet_lr": 1e-4},
     {"network_train_unet_only": True}, {"network_train_unet_only": True, "unet_lr": 3e-4},
     {"network_train_text_encoder_only": True, "text_encoder_lr": 3e-5}, {"seed": 0}, {"noise_offset": 0.05},
     {"multires_noise_iterations": 6, "multires_noise_discount": 0.2}, {"no_half_vae": True},
     {"zero_terminal_snr": True}, {"optimizer_args": ["decouple=True", "betas=0.9,0.99"]},
     {"network_args": ["conv_dim=4", "conv_alpha=1"]}, {"network_args": ["loraplus_lr_ratio=16"]},
     {"network_args": ["down_lr_weight=1,1,0.5"]}, {"metadata_trigger_phrase": "mytoken"},
     {"xformers": True, "sdpa": None},
     {"network_module": "lycoris.kohya", "network_args": ["algo=locon", "conv_dim=16", "conv_alpha=1.0"]},
     {"network_module": "lycoris.kohya", "network_args": ["algo=lokr", "preset=full", "factor=8"]},
     {"network_module": "lycoris.kohya", "network_args": ["algo=full", "preset=full"]},
     {"network_module": "networks.dylora", "network_args": ["unit=4"]}, {"network_module": "networks.dylora"},
     {"network_dim": 1024}, {"min_snr_gamma": 25.0}, {"save_model_as": "pt"}, {"network_args": ["rank_dropout=1.5"]},
     {"clip_skip": 2, "max_token_length": 225},
     {"network_module": "networks.oft", "network_args": ["enable_conv=True"]}, {"min_snr_gamma": 5.0}],
)  # fmt: skip
def test_the_preset_trains_the_same(train: dict[str, object]) -> None:
    assert_same(compiled(train))


@pytest.mark.parametrize(
    ("train", "field", "carried"),
    [({"network_dim": 1024}, "network_dim", "network_dim"), ({"min_snr_gamma": 25.0}, "min_snr_gamma", "min_snr_gamma"),
     ({"save_model_as": "pt"}, "save_model_as", "save_model_as"),
     ({"network_module": "networks.dylora", "network_args": ["unit=128"]}, "unit", "network_args")],
)  # fmt: skip
def test_what_no_widget_takes_is_passed_on_as_text(train: dict[str, object], field: str, carried: str) -> None:
    preset = build_gui_preset(compiled(train), Path("/out"), "dataset.toml")
    assert preset.fields[field] == FRESH[field]
    assert [each.key for each in preset.carried] == [carried]


def test_a_network_without_rank_gets_one_that_the_widget_takes() -> None:
    train = {"network_module": "lycoris.kohya", "network_args": ["algo=ia3"], "network_dim": None}
    preset = build_gui_preset(compiled(train), Path("/out"), "dataset.toml")
    assert preset.fields["network_dim"] == FRESH["network_dim"]
    assert not preset.lost


def test_a_part_without_a_rate_keeps_that_of_sd_scripts() -> None:
    preset = build_gui_preset(compiled({"learning_rate": None, "unet_lr": 1e-4}), Path("/out"), "dataset.toml")
    assert (preset.fields["unet_lr"], preset.fields["text_encoder_lr"]) == (1e-4, 2e-6)
    assert not preset.lost


@pytest.mark.parametrize(
    ("network", "arguments"),
    [("networks.lora", ["conv_dim=4"]), ("lycoris.kohya", ["algo=ia3"]), ("lycoris.kohya", ["algo=boft"])],
)
def test_arguments_that_the_gui_always_writes_are_the_networks_own(network: str, arguments: list[str]) -> None:
    train = {"network_module": network, "network_args": arguments}
    assert not build_gui_preset(compiled(train), Path("/out"), "dataset.toml").carried


def test_the_name_that_the_gui_gives_a_run_is_listed() -> None:
    preset = build_gui_preset(compiled({"log_with": "wandb"}), Path("/out"), "dataset.toml")
    assert [each.key for each in preset.lost] == ["wandb_run_name"]
    assert not build_gui_preset(compiled({"log_with": "wandb", "wandb_run_name": "r"}), Path("/out"), "d.toml").lost


def test_sdxl_has_its_own_fields() -> None:
    source = compiled({"no_half_vae": True, "cache_text_encoder_outputs": True, "text_encoder_lr": [1e-5, 2e-5],
                       "unet_lr": 1e-4}, "sdxl_train_network.py")  # fmt: skip
    preset = build_gui_preset(source, Path("/out"), "dataset.toml")
    assert preset.fields["sdxl_no_half_vae"] is True
    assert preset.fields["sdxl_cache_text_encoder_outputs"] is True
    assert (preset.fields["text_encoder_lr"], preset.fields["t5xxl_lr"]) == (1e-5, 2e-5)
    assert_same(source)


def test_what_no_text_can_carry_is_listed() -> None:
    preset = build_gui_preset(compiled({"metadata_trigger_phrase": "two words"}), Path("/out"), "dataset.toml")
    assert [each.key for each in preset.lost] == ["metadata_trigger_phrase"]
    assert preset.fields["additional_parameters"] == ""
    carried = build_gui_preset(compiled({"max_grad_norm": 0.0}), Path("/out"), "dataset.toml")
    assert [each.key for each in carried.carried] == ["max_grad_norm"]
    assert carried.fields["additional_parameters"] == "--max_grad_norm 0.0"


def test_launch_and_paths() -> None:
    launch = LaunchPlan(num_processes=2, gpu_ids="0,1", main_process_port=29501, num_cpu_threads_per_process=3)
    fields = build_gui_preset(compiled({}, launch=launch), Path("/out"), "dataset.toml").fields
    assert (fields["num_processes"], fields["multi_gpu"], fields["gpu_ids"]) == (2, True, "0,1")
    assert (fields["main_process_port"], fields["num_cpu_threads_per_process"]) == (29501, 3)
    assert (fields["dataset_config"], fields["output_dir"]) == ("/out/dataset.toml", "/out/output")


def source_of(tmp_path: Path, more: str = "") -> tuple[CompiledSource, Path]:
    examination = check_recipe(project(tmp_path / "project", more), GPU)
    _, plan = examination.planned()
    folder = tmp_path / "elsewhere" / "out"
    return take_compiled(build_run_files(examination, folder).fill_folder(), plan, folder), folder


def test_files_for_sd_scripts_are_relative_to_their_folder(tmp_path: Path) -> None:
    source, folder = source_of(tmp_path, '[sample]\nprompts = ["a lamp"]\n[launch]\ngpu_ids = "1"\n')
    report = write_export(source, "sd-scripts", folder, "recipe.toml")
    assert set(report.files) == {"train.toml", "dataset.toml", "prompts.txt", "train.sh"}
    train = tomllib.loads((folder / "train.toml").read_text("utf-8"))
    assert (folder / train["pretrained_model_name_or_path"]).resolve() == tmp_path / "project" / "base.safetensors"
    assert (train["dataset_config"], train["sample_prompts"]) == ("dataset.toml", "prompts.txt")
    dataset = tomllib.loads((folder / "dataset.toml").read_text("utf-8"))
    assert (folder / dataset["datasets"][0]["subsets"][0]["image_dir"]).resolve() == tmp_path / "project" / "pics"
    start = (folder / "train.sh").read_text("utf-8")
    assert "--gpu_ids 1" in start
    assert '"$SD_SCRIPTS/train_network.py" --config_file train.toml' in start
    assert report.command[-2:] == ("--config_file", "train.toml")


@pytest.mark.parametrize("to", ["kohya_ss", "sd-scripts"])
def test_a_model_next_to_the_recipe_is_no_hub_id(to: ExportFormat, tmp_path: Path) -> None:
    examination = check_recipe(project(tmp_path), GPU)
    _, plan = examination.planned()
    folder = tmp_path / "out"
    source = take_compiled(build_run_files(examination, folder).fill_folder(), plan, folder)
    assert source.train["pretrained_model_name_or_path"] == str(tmp_path / "base.safetensors")
    write_export(source, to, folder, "recipe.toml")


def test_a_preset_file_comes_along(tmp_path: Path) -> None:
    source, folder = source_of(tmp_path, '[network]\ntype = "ia3"\n')
    report = write_export(source, "kohya_ss", folder, "recipe.toml")
    name = next(iter(source.others))
    assert (folder / name).read_bytes() == source.others[name]
    fields = json.loads((folder / report.files[0]).read_text("utf-8"))
    assert fields["LyCORIS_preset"] == str(folder / name)
    assert fields.keys() == FRESH.keys()


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    source, folder = source_of(tmp_path)
    folder.mkdir(parents=True)
    (folder / "mine").write_text("keep")
    with pytest.raises(MachineError):
        write_export(source, "sd-scripts", folder, "recipe.toml")
    assert [path.name for path in folder.iterdir()] == ["mine"]


def test_keys_that_only_lorabake_has_are_listed(tmp_path: Path) -> None:
    more = '[captions]\ntagging = "baked"\n[watch]\nnan_steps = 3\n[[ignore]]\nrule = "G1.2"\nreason = "a trial"\n'
    recipe, _ = check_recipe(project(tmp_path, more), GPU).planned()
    keys = {each.key for each in list_own_keys(recipe)}
    assert {"kind", "base.tags", "captions.tagging", "watch.nan_steps", "ignore.rule"} <= keys


@pytest.mark.parametrize(
    ("more", "keys"),
    [("", {"mixed_precision", "sdpa"}), ('[train]\nmixed_precision = "no"\nattention = "sdpa"\n', set[str]())],
)
def test_what_a_machine_without_a_gpu_decides_is_listed(more: str, keys: set[str], tmp_path: Path) -> None:
    """And nothing else is left of it: another machine trains on its GPU."""
    examination = check_recipe(project(tmp_path / "project", more), CPU)
    _, plan = examination.planned()
    assert {each.key for each in list_chosen(plan)} == keys
    source = take_compiled(build_run_files(examination, tmp_path).fill_folder(), plan, tmp_path)
    assert source.launch.cpu
    assert "--cpu" not in write_export(source, "sd-scripts", tmp_path / "out", "recipe").command


def test_a_run_is_exported_from_its_folder(tmp_path: Path) -> None:
    examination = check_recipe(project(tmp_path / "project"), GPU)
    _, plan = examination.planned()
    root = tmp_path / "runs" / "one"
    root.mkdir(parents=True)
    for name, content in build_run_files(examination, root).fill_folder().items():
        (root / name).write_bytes(content)
    (root / "plan.json").write_text(plan.model_dump_json())
    found = read_run(root)
    assert found.train["pretrained_model_name_or_path"] == str(tmp_path / "project" / "base.safetensors")
    assert found.train == take_compiled(build_run_files(examination, root).fill_folder(), plan, root).train
    (root / "plan.json").write_text("{}")
    with pytest.raises(MachineError):
        read_run(root)


@pytest.mark.parametrize("to", ["kohya_ss", "sd-scripts"])
@pytest.mark.parametrize("name", ["../../pwned", "/srv/pwned", "..\\..\\pwned", "C:pwned", ".."])
def test_a_run_of_others_names_no_place_outside_the_folder(name: str, to: ExportFormat, tmp_path: Path) -> None:
    examination = check_recipe(project(tmp_path / "project"), GPU)
    _, plan = examination.planned()
    files = build_run_files(examination, tmp_path).fill_folder()
    files["train.toml"] = files["train.toml"].replace(b'"mine"', json.dumps(name).encode())
    source = take_compiled(files, plan, tmp_path)
    assert len(default_folder(source.name, to).parts) == 1
    folder = tmp_path / "a" / "b" / "c"
    report = write_export(source, to, folder, "run")
    assert {path.name for path in folder.iterdir()} == set(report.files)
    assert not list(tmp_path.glob("**/pwned*"))
    assert [path.name for path in (tmp_path / "a").rglob("*") if path.is_dir()] == ["b", "c"]
    with pytest.raises(MachineError):
        write_export(replace(source, others={name: b""}), to, tmp_path / "other" / "out", "run")
    assert not (tmp_path / "other").exists()


@pytest.mark.parametrize("to", ["kohya_ss", "sd-scripts"])
def test_no_secret_is_exported(to: ExportFormat, tmp_path: Path) -> None:
    texts = {
        "network_args": ["hf_token=sk-123", "conv_dim=4"],
        "training_comment": "by me, Authorization: Bearer sk-123ABCdef0123456789",
        "logging_dir": "https://me:sk-123@h.example/logs",
    }
    source = compiled({"wandb_api_key": "sk-123", "huggingface_token": "sk-123", **texts})
    subset = {"image_dir": "/images/a", "caption_prefix": "https://h.example/?token=sk-123 "}
    dataset = {**source.datasets[0], "subsets": [subset]}
    token = "hf_sk-123".replace("-", "") + "ABCdef0123456789" * 2
    source = replace(source, datasets=[dataset], prompts=(f"a girl, {token} --w 512", "a boy"))
    report = write_export(source, to, tmp_path / "out", "run")
    written = "".join(path.read_text("utf-8") for path in (tmp_path / "out").iterdir()) + report.model_dump_json()
    assert "sk-123" not in written
    assert "hf_" not in written
    assert to == "kohya_ss" or (tmp_path / "out" / "prompts.txt").read_text("utf-8") == "a boy\n"
    assert "conv_dim" in written
    removed = {"wandb_api_key", "huggingface_token", *texts, "caption_prefix", "sample_prompts"}
    assert removed <= {each.key for each in report.lost}


def test_ordinary_values_are_exported_as_they_are(tmp_path: Path) -> None:
    texts = (
        "secretary: a girl, (password: 1.2), red hair", "models/sk-anime2024abcdefghijk.safetensors", "lora_key=5",
        "rk_AnimeStyle2024Version1", "basic training==", "Bearer standardofthenationxx", "API_KEY=x1 --token y2",
        'file_key="model.safetensors"', "text_encoder_token: 75", "pk-2girls20240101characterlora",
    )  # fmt: skip
    source = replace(compiled({f"own_{at}": text for at, text in enumerate(texts)}), prompts=texts)
    assert not write_export(source, "sd-scripts", tmp_path / "out", "run").lost
    train = tomllib.loads((tmp_path / "out" / "train.toml").read_text("utf-8"))
    assert [train[f"own_{at}"] for at in range(len(texts))] == [*texts]
    assert (tmp_path / "out" / "prompts.txt").read_text("utf-8") == "".join(f"{text}\n" for text in texts)


@pytest.mark.parametrize("name", ["dataset.toml", "DATASET.toml"])
@pytest.mark.parametrize("to", ["kohya_ss", "sd-scripts"])
def test_a_preset_replaces_no_other_file(name: str, to: ExportFormat, tmp_path: Path) -> None:
    source = replace(compiled({"network_args": [f"preset={name}"]}), others={name: b"evil = 1"})
    with pytest.raises(MachineError):
        write_export(source, to, tmp_path / "out", "run")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("to", ["kohya_ss", "sd-scripts"])
@pytest.mark.parametrize(
    "more",
    ['[train]\nmax_grad_norm = 0.0\nmax_train_epochs = 7\n[sample]\nprompts = ["a lamp --w 512"]\n',
     '[network]\ntype = "lokr"\nfactor = 8\n[[regularization]]\nclass = "food"\nimages = "reg"\n',
     "[train]\nresolutions = [512, 768]\nlr_warmup_steps = 40\n[network]\nnetwork_train_unet_only = true\n"],
)  # fmt: skip
def test_importing_the_export_trains_the_same(more: str, to: ExportFormat, tmp_path: Path) -> None:
    write_pictures(tmp_path / "project" / "reg")
    source, folder = source_of(tmp_path, more)
    report = write_export(source, to, folder, "recipe.toml")
    name = "train.sh" if to == "sd-scripts" else report.files[0]
    made = import_file(Source(path=folder / name, content=b""))
    (tmp_path / "back").mkdir()
    back = write_import(made, tmp_path / "back" / "recipe.toml", str, write_command=str)
    examination = check_recipe(back, GPU)
    _, plan = examination.planned()
    again = take_compiled(build_run_files(examination, folder).fill_folder(), plan, folder)
    assert again.datasets == source.datasets
    defaults = {option.name: option.default for option in resources.load_snapshot().of(source.script)}
    assert defaults | dict(again.train) == defaults | dict(source.train)
    assert again.prompts == source.prompts
