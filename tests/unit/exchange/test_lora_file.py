"""What a LoRA's metadata and tensors give for a recipe, and that nothing in a stranger's file does any harm."""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from lora_files import MB, SMALL, Shapes, Wanted, metadata, shapes_of, write, write_raw
from lorabake.errors import RecipeError
from lorabake.exchange.base_search import find_base_model, read_short_hash
from lorabake.exchange.foreign import UNSET, ForeignConfig, Options, Source, Unset
from lorabake.exchange.import_file import import_file
from lorabake.exchange.lora_file.reader import TENSORS, read_lora_file
from lorabake.lora.metadata import training_comment
from lorabake.runs.index import INDEX_FILE
from lorabake_schemas.base import OptionValue
from lorabake_schemas.import_report import ImportedKey
from lorabake_schemas.inspection import BaseModelInfo

FLUX = {"lora_unet_double_blocks_0_img_attn_proj.lora_down.weight": (4, 64)}
WAN = {"lora_unet_blocks_0_cross_attn_k.lora_down.weight": (4, 64)}
PEFT = {"unet.down_blocks.0.attentions.0.to_q.lora_A.weight": (4, 64)}
CHECKPOINT = {"model.diffusion_model.input_blocks.0.0.weight": (4, 4)}
EMBEDDING = {"emb_params": (2, 768)}


def read(path: Path, **more: Any) -> ForeignConfig:
    return read_lora_file(Source(path=path, content=b"", **more))


def values(options: Options) -> dict[str, OptionValue | Unset | None]:
    return {name: given.value for name, given in options.items()}


def folder_run(**more: Any) -> dict[str, Any]:
    """As sd-scripts writes them for folders that were given by flags."""
    gone = {"ss_datasets", "ss_tag_frequency"}
    return {key: value for key, value in metadata().items() if key not in gone} | {
        "ss_dataset_dirs": {"10_lum lighthouse": {"n_repeats": 10, "img_count": 15}},
        "ss_reg_dataset_dirs": {"2_lighthouse": {"n_repeats": 2, "img_count": 40}},
        "ss_tag_frequency": {"10_lum lighthouse": {"lum": 15, "sky": 3}},
        "ss_bucket_info": {"buckets": {"0": {"resolution": [512, 704], "count": 6}}},
        "ss_batch_size_per_device": "2",
        "ss_total_batch_size": "8",
        "ss_gradient_accumulation_steps": "2",
        "ss_resolution": "(512, 768)",
        "ss_shuffle_caption": "True",
        "ss_keep_tokens": "1",
        "ss_caption_dropout_rate": "0.1",
        "ss_enable_bucket": "True",
        "ss_bucket_no_upscale": "True",
        **more,
    }


# Every key ends as an option or as a line


@pytest.mark.parametrize("made", [metadata, folder_run])
def test_every_key_is_reported(tmp_path: Path, made: Callable[[], dict[str, Any]]) -> None:
    given = made() | {"ss_never_seen": "1", "mine": "2"}
    config = read(write(tmp_path / "lum.safetensors", SMALL, given))
    lines = {line.key: line.fate for line in config.keys}
    assert list_used_keys(config) - {TENSORS} | lines.keys() == {*given, "sshs_model_hash"}
    assert lines["ss_never_seen"] == lines["mine"] == "unknown"
    assert {lines[key] for key in ("ss_steps", "ss_epoch", "ss_new_sd_model_hash", "sshs_model_hash")} == {"result"}
    assert not config.complete


def list_used_keys(config: ForeignConfig) -> set[str]:
    tables = [config.options, config.launch]
    for dataset in config.datasets:
        tables += [dataset.options, *(subset.options for subset in dataset.subsets)]
    return {key for table in tables for option in table.values() for key in option.keys}


@pytest.mark.parametrize("value", ["", "None", "{}", "[]", "0", "x"])
@pytest.mark.parametrize("made", [metadata, folder_run])
def test_every_key_is_reported_whatever_it_has(tmp_path: Path, made: Callable[[], dict[str, Any]], value: str) -> None:
    for changed in made():
        given = made() | {changed: value}
        config = read(write(tmp_path / "lum.safetensors", SMALL, given))
        found = list_used_keys(config) | {line.key for line in config.keys}
        assert given.keys() - found == set(), changed


def test_settings_of_all_folders_stay_where_no_folder_is_known(tmp_path: Path) -> None:
    (dataset,) = read(write(tmp_path / "lum.safetensors", SMALL, folder_run(ss_dataset_dirs="{}"))).datasets
    assert values(dataset.subsets[0].options)["keep_tokens"] == 1


def test_a_dataset_configuration(tmp_path: Path) -> None:
    config = read(write(tmp_path / "lum.safetensors", SMALL, metadata()))
    (dataset,) = config.datasets
    (subset,) = dataset.subsets
    assert values(dataset.options) == {"enable_bucket": True, "batch_size": 4, "resolution": (512, 768)}
    assert values(subset.options) == {
        "image_dir": "pics", "num_repeats": 2, "shuffle_caption": True, "keep_tokens": 2, "flip_aug": False,
        "class_tokens": "lum",
    }  # fmt: skip
    found = values(config.options)
    assert (found["seed"], found["learning_rate"], found["unet_lr"]) == (42, 0.0001, UNSET)
    assert found["network_module"] == "networks.lora"
    assert config.script == "train_network.py"


def test_folders_that_were_given_by_flags(tmp_path: Path) -> None:
    config = read(write(tmp_path / "lum.safetensors", SMALL, folder_run()))
    (dataset,) = config.datasets
    assert values(dataset.options) == {
        "batch_size": 2, "resolution": (512, 768), "enable_bucket": True, "bucket_no_upscale": True,
    }  # fmt: skip
    train, regularization = dataset.subsets
    common = {"shuffle_caption": True, "keep_tokens": 1, "caption_dropout_rate": 0.1}
    assert values(train.options) == common | {
        "image_dir": "10_lum lighthouse", "num_repeats": 10, "class_tokens": "lum lighthouse",
    }  # fmt: skip
    assert regularization.is_reg
    assert values(regularization.options)["class_tokens"] == "lighthouse"
    assert values(config.launch) == {"num_processes": 2}
    assert "caption_dropout_rate" not in config.options


def test_dropout_of_a_dataset_configuration_is_unknown(tmp_path: Path) -> None:
    """The option's 0 is only the default of the configuration, whose own value is not written (S44)."""
    given = metadata(ss_caption_dropout_rate="0.0", ss_caption_tag_dropout_rate="0.2")
    config = read(write(tmp_path / "lum.safetensors", SMALL, given))
    assert "caption_dropout_rate" not in config.options
    assert values(config.options)["caption_tag_dropout_rate"] == 0.2
    assert any("captions.caption_dropout_rate" in line.key for line in config.missing)


@pytest.mark.parametrize(
    ("text", "name", "arguments"),
    [
        ("torch.optim.adamw.AdamW(weight_decay=0.1,betas=(0.9, 0.99))", "AdamW",
         ("weight_decay=0.1", "betas=(0.9, 0.99)")),
        ("bitsandbytes.optim.adamw.AdamW8bit", "AdamW8bit", None),
        ("prodigyopt.prodigy.Prodigy(decouple=True,d_coef=2)", "Prodigy", ("decouple=True", "d_coef=2")),
        ("dadaptation.experimental.dadapt_adam_preprint.DAdaptAdamPreprint", "DAdaptation", None),
        ("transformers.optimization.Adafactor(relative_step=False)", "Adafactor", ("relative_step=False",)),
        ("torch.optim.sgd.SGD(momentum=0.9)", "SGDNesterov", ("momentum=0.9",)),
        ("torch.optim.adam.Adam(eps=1e-08)", "Adam", ("eps=1e-08",)),
        ("somebody.optim.AdamW(mode=fast)", "somebody.optim.AdamW", ("mode='fast'",)),
    ],
)  # fmt: skip
def test_optimizers(tmp_path: Path, text: str, name: str, arguments: tuple[str, ...] | None) -> None:
    found = values(read(write(tmp_path / "lum.safetensors", SMALL, metadata(ss_optimizer=text))).options)
    assert found["optimizer_type"] == name
    assert found.get("optimizer_args") == arguments


def test_adafactor_writes_its_rate_into_the_scheduler(tmp_path: Path) -> None:
    given = metadata(ss_lr_scheduler="adafactor:0.001", ss_learning_rate="None")
    found = values(read(write(tmp_path / "lum.safetensors", SMALL, given)).options)
    assert (found["lr_scheduler"], found["learning_rate"]) == ("adafactor", 0.001)


@pytest.mark.parametrize(
    ("steps", "epochs", "batches", "accumulated", "expected"),
    [
        ("120", "4", "30", "1", {"max_train_epochs": 4}),
        ("100", "4", "30", "1", {"max_train_steps": 100}),
        ("32", "4", "15", "2", {"max_train_epochs": 4}),
        ("-5", "4", "30", "1", {}),
        ("many", "4", "30", "0", {}),
    ],
)
def test_length(
    tmp_path: Path, steps: str, epochs: str, batches: str, accumulated: str, expected: dict[str, int]
) -> None:
    given = metadata(
        ss_max_train_steps=steps, ss_num_epochs=epochs, ss_num_batches_per_epoch=batches,
        ss_gradient_accumulation_steps=accumulated,
    )  # fmt: skip
    found = values(read(write(tmp_path / "lum.safetensors", SMALL, given)).options)
    assert {name: value for name, value in found.items() if name.startswith("max_train_")} == expected


# Tensors


def test_a_file_without_metadata_has_its_network(tmp_path: Path) -> None:
    wanted = Wanted("locon", 8, 4, {"dora": 1}, text=False)
    config = read(write(tmp_path / "lum.safetensors", shapes_of(wanted), value=4.0))
    assert values(config.options) == {
        "network_module": "lycoris.kohya", "network_dim": 8, "network_alpha": 4.0, "network_train_unet_only": True,
        "network_args": ("algo=locon", "conv_dim=4", "conv_alpha=4", "dora_wd=True"), "save_precision": "fp16",
    }  # fmt: skip
    assert config.name == "lum"
    assert {line.key for line in config.missing} == {"train"}  # images and model: whatever the source


def test_tensors_are_right_where_the_metadata_contradicts(tmp_path: Path) -> None:
    given = metadata(
        ss_network_dim="32", ss_network_alpha="16.0", ss_training_comment="dimension is resized from 32 to 4; x"
    )
    config = read(write(tmp_path / "lum.safetensors", SMALL, given, value=2.0))
    assert (values(config.options)["network_dim"], values(config.options)["network_alpha"]) == (4, 2.0)
    assert config.options["network_dim"].repair is not None
    assert "network.network_dim" in {line.key for line in config.missing}


def test_a_module_of_another_trainer_is_that_of_the_tensors(tmp_path: Path) -> None:
    config = read(write(tmp_path / "x.safetensors", SMALL, metadata(ss_network_module="peft.LoraModel")))
    assert values(config.options)["network_module"] == "networks.lora"
    assert config.options["network_module"].repair is not None


def test_an_sdxl_lora_names_its_script(tmp_path: Path) -> None:
    config = read(write(tmp_path / "lum.safetensors", shapes_of(Wanted("", 2, None), "sdxl"), {}))
    assert config.script == "sdxl_train_network.py"


# Other trainers


def test_ai_toolkit(tmp_path: Path) -> None:
    given = {
        "software": {"name": "ai-toolkit", "repo": "x"}, "training_info": {"step": 1500, "epoch": 3}, "name": "lum",
        "version": "1.0", "ss_base_model_version": "sd_1.5", "ss_output_name": "lum_v1", "format": "pt",
        "ss_tag_frequency": {"1_lum": {"lum": 1}},
    }  # fmt: skip
    config = read(write(tmp_path / "x.safetensors", SMALL, given))
    assert (config.program, config.name) == ("ai-toolkit", "lum_v1")
    assert values(config.options)["max_train_steps"] == 1500
    assert config.options["max_train_steps"].repair is not None
    assert "train" in {line.key for line in config.missing}
    (subset,) = config.datasets[0].subsets
    assert values(subset.options)["class_tokens"] == "lum"
    assert "ss_tag_frequency" not in {line.key for line in config.keys}


def test_the_configuration_of_onetrainer_is_imported_and_opens_nothing(tmp_path: Path) -> None:
    (tmp_path / "concepts.json").write_text("not to be opened", encoding="utf-8")
    own = {
        "training_method": "LORA", "model_type": "STABLE_DIFFUSION_15", "base_model_name": "C:/models/v1-5.safetensors",
        "learning_rate": 0.0003, "epochs": 20, "lora_rank": 16, "concept_file_name": str(tmp_path / "concepts.json"),
        "concepts": [{"name": "x", "path": "/home/me/pics"}], "secrets": {"huggingface_token": "hf_secret"},
    }  # fmt: skip
    given = {"ot_branch": "master", "ot_revision": "abc", "ot_config": own, "modelspec.author": "me"}
    config = read(write(tmp_path / "x.safetensors", SMALL, given))
    found = values(config.options)
    assert (config.program, config.format) == ("OneTrainer", "lora")
    assert (found["learning_rate"], found["max_train_epochs"], found["network_dim"]) == (0.0003, 20, 16)
    assert (found["pretrained_model_name_or_path"], found["metadata_author"]) == ("v1-5.safetensors", "me")
    assert values(config.datasets[0].subsets[0].options)["image_dir"] == "pics"
    assert "hf_secret" not in str(config)


def test_a_configuration_of_onetrainer_that_cannot_be_imported(tmp_path: Path) -> None:
    for own in ('{"training_method": "FINE_TUNE"}', "{", '{"model_type": 3}', "[" * 3000):
        config = read(write(tmp_path / "x.safetensors", SMALL, {"ot_revision": "abc", "ot_config": own}))
        assert {line.key: line.fate for line in config.keys}["ot_config"] == "dropped"
        assert values(config.options)["network_dim"] == 4


# Errors


@pytest.mark.parametrize("shapes", [FLUX, WAN, PEFT, CHECKPOINT, EMBEDDING, {"x": (2,)}, {}])
def test_other_files_are_clear_errors(tmp_path: Path, shapes: Shapes) -> None:
    with pytest.raises(RecipeError) as caught:
        read(write(tmp_path / "x.safetensors", shapes, metadata() if shapes is WAN else None))
    assert caught.value.hint


def with_length(length: int) -> bytes:
    return length.to_bytes(8, "little") + b'{"x":' + b" " * 64


@pytest.mark.parametrize(
    "content",
    [
        b"", b"abc", with_length(1 << 30), with_length(1 << 62), with_length(50), b"\x80\x02}q\x00.",
        b"PK\x03\x04" + b"\0" * 60, b"version https://git-lfs.github.com/spec/v1\n", b"<!doctype html><html>",
        (20).to_bytes(8, "little") + b'{"a":' + b"[" * 14 + b"\xff", b"\0" * 4096,
    ],
)  # fmt: skip
@pytest.mark.parametrize("suffix", [".safetensors", ".pt", ".ckpt"])
def test_damaged_files_are_clear_errors(tmp_path: Path, content: bytes, suffix: str) -> None:
    path = tmp_path / f"x{suffix}"
    path.write_bytes(content)
    with pytest.raises(RecipeError):
        read(path)


def test_a_file_that_is_cut_off(tmp_path: Path) -> None:
    path = write(tmp_path / "x.safetensors", SMALL, metadata())
    whole = path.read_bytes()
    for size in (7, 40, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:size])
        with pytest.raises(RecipeError):
            read(path)


def test_a_missing_file_and_a_folder(tmp_path: Path) -> None:
    for path in (tmp_path / "missing.safetensors", tmp_path):
        with pytest.raises(RecipeError):
            read(path)


# A stranger's file


@pytest.mark.parametrize(
    ("folder", "expected"),
    [
        ("/etc", "etc"), ("../../x", "x"), ("..", "images"), ("", "images"), ("~root", "./~root"),
        ("a\x1b[2J", "images"),
        ("C:\\train\\10_lum", "10_lum"), ("x" * 5000, "images"), ("a\nb", "images"), ("\u202egpj", "images"),
    ],
)  # fmt: skip
def test_folders_lead_nowhere(tmp_path: Path, folder: str, expected: str) -> None:
    subset = {"image_dir": folder, "img_count": 3, "num_repeats": 1, "class_tokens": "lum", "is_reg": False}
    given = metadata(ss_datasets=[{"subsets": [subset]}])
    (dataset,) = read(write(tmp_path / "lum.safetensors", SMALL, given)).datasets
    assert values(dataset.subsets[0].options)["image_dir"] == expected


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("owner/model", "owner/model"), ("/etc/passwd", "passwd"), ("../../secret.safetensors", "secret.safetensors"),
        ("../model", "model"), ("C:\\m\\x.ckpt", "x.ckpt"), ("~/x.safetensors", "x.safetensors"),
    ],
)  # fmt: skip
def test_base_models_lead_nowhere(tmp_path: Path, name: str, expected: str) -> None:
    config = read(write(tmp_path / "lum.safetensors", SMALL, metadata(ss_sd_model_name=name)))
    assert values(config.options)["pretrained_model_name_or_path"] == expected


HOSTILE = (
    "", "None", "nan", "-inf", "-1", "1e400", "9" * 500, "\x1b[31mred\x07", "../../etc/passwd", "~root", "a\nb",
    "\ud800", "[1,2", "{}", "[]", "null", "[" * 5000, '{"a":{"b":{"c":1}}}', "(512, 512)", "adafactor:nan",
    "a.B(a=1,b=(1,c=)",
    "a(b=" + "(" * 3000 + ")", "x" * 100_000, "\"\"\"'''\\", "\0", '[{"subsets":[{}]}]',
    '[{"subsets":[{"image_dir":"..","is_reg":true,"num_repeats":1e30,"class_tokens":[1]}],"resolution":[1e9,-1]}]',
)  # fmt: skip


def mutate(chance: random.Random, given: Mapping[str, Any]) -> dict[str, str]:
    """Some values removed, replaced, cut or swapped."""
    made = {key: value if isinstance(value, str) else json.dumps(value) for key, value in given.items()}
    for _ in range(chance.randint(1, 6)):
        key, other = chance.choice(sorted(made)), chance.choice(sorted(made))
        at = chance.randint(0, len(made[key]))
        made[key] = chance.choice(
            (
                chance.choice(HOSTILE),
                made[key][:at],
                made[key][:at] + chance.choice(('"', "}", "]", "9" * 30, "\x00", "null")) + made[key][at + 2 :],
                made[other],
            )
        )
        if chance.random() < 0.2:
            made[chance.choice(("ss_network_args", "training_info", "software", "modelspec.timestep_range"))] = (
                chance.choice(HOSTILE)
            )
    return made


@pytest.mark.parametrize("seed", range(20))
def test_mutated_metadata_never_gives_a_traceback(tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)  # noqa: S311 - repeatable
    for _ in range(50):
        given = mutate(chance, chance.choice((metadata(), folder_run())))
        config = read(write(tmp_path / "lum.safetensors", SMALL, given))
        for dataset in config.datasets:
            for subset in dataset.subsets:
                assert "/" not in str(values(subset.options).get("image_dir", "")).removeprefix("./")


def test_many_keys_are_bounded(tmp_path: Path) -> None:
    path = write(tmp_path / "lum.safetensors", SMALL, {f"key{number}": "x" for number in range(20_000)})
    config = read(path)
    assert len(config.keys) <= 1000
    assert "metadata" in {line.key for line in config.missing}


# The run that made it


def test_the_run_that_made_it_is_named(tmp_path: Path) -> None:
    digest, run = "ab" * 32, tmp_path / "runs" / "lum-001"
    run.mkdir(parents=True)
    (run / "record.json").write_text(json.dumps({"digest": digest}), encoding="utf-8")
    (tmp_path / INDEX_FILE).write_text(json.dumps({"run": str(run), "digest": digest}) + "\n", encoding="utf-8")
    given = metadata(ss_training_comment=training_comment("mine", digest))
    path = write(tmp_path / "lum.safetensors", SMALL, given)
    config = read(path, runs=tmp_path)
    (line,) = (line for line in config.missing if line.key == "recipe")
    assert str(run) in str(line.why)
    assert values(config.options)["training_comment"] == "mine"
    (run / "record.json").unlink()
    for home in (tmp_path, None):
        assert "recipe" not in {line.key for line in read(path, runs=home).missing}


# The base model


def checkpoint(path: Path, content: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content * (2 * MB // len(content)))
    return path


def test_the_base_model_is_found_by_hash_and_by_name(tmp_path: Path) -> None:
    same = checkpoint(tmp_path / "models" / "SD" / "renamed.safetensors", b"same")
    named = checkpoint(tmp_path / "models" / "base.safetensors", b"other bytes!")
    wanted = BaseModelInfo(
        name="base.safetensors",
        sha256=hashlib.sha256(same.read_bytes()).hexdigest(),
        short_hash=read_short_hash(same),
    )
    found = find_base_model(wanted, [tmp_path / "models"], smallest=1000)
    assert found is not None
    assert (found.path, found.sure) == (same, True)
    same.unlink()
    found = find_base_model(wanted, [tmp_path / "models"], smallest=1000)
    assert found is not None
    assert (found.path, found.sure) == (named, False)
    named.unlink()
    assert find_base_model(wanted, [tmp_path / "models", tmp_path / "missing"], smallest=1000) is None


def test_a_short_hash_alone_is_only_a_name_away(tmp_path: Path) -> None:
    """Models made from each other may have the same first MiB."""
    near = checkpoint(tmp_path / "near.safetensors", b"same")
    wanted = BaseModelInfo(name="base", sha256="ab" * 32, short_hash=read_short_hash(near))
    assert find_base_model(wanted, [tmp_path], smallest=1000) is None


def test_links_are_not_followed(tmp_path: Path) -> None:
    checkpoint(tmp_path / "elsewhere" / "base.safetensors", b"same")
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "link").symlink_to(tmp_path / "elsewhere")
    assert find_base_model(BaseModelInfo(name="base"), [tmp_path / "models"], smallest=1000) is None


def test_the_model_that_is_named_is_compared(tmp_path: Path) -> None:
    model = write_raw(tmp_path / "base.safetensors", {"x": 1})
    digest = hashlib.sha256(model.read_bytes()).hexdigest()
    for recorded, sure in ((digest, True), ("ab" * 32, False)):
        path = write(tmp_path / "lum.safetensors", SMALL, metadata(ss_new_sd_model_hash=recorded))
        config = read(path, model=model)
        assert values(config.options)["pretrained_model_name_or_path"] == str(model)
        assert ("base.model" not in {line.key for line in config.missing}) is sure


def find_line(path: Path, key: str, **more: Any) -> ImportedKey:
    lines = import_file(Source(path=path, content=b"", **more)).report.keys
    return next(line for line in lines if line.key == key)


def test_each_of_several_keys_has_its_own_value(tmp_path: Path) -> None:
    given = metadata(ss_max_train_steps="40", ss_num_epochs="4", ss_num_batches_per_epoch="10")
    path = write(tmp_path / "lum.safetensors", SMALL, given)
    found = {key: find_line(path, key).value for key in ("ss_max_train_steps", "ss_num_epochs")}
    assert found == {"ss_max_train_steps": "40", "ss_num_epochs": "4"}


def test_a_model_that_cannot_be_verified_is_to_be_checked_and_not_repaired(tmp_path: Path) -> None:
    write_raw(tmp_path / "sd15" / "model_index.json", {})
    path = write(
        tmp_path / "lum.safetensors", SMALL, metadata(ss_sd_model_name="sd15", ss_sd_model_hash="IsADirectory")
    )
    for model in (tmp_path, tmp_path / "sd15"):
        assert "base.model" in {line.key for line in read(path, model=model).missing}
        assert find_line(path, "ss_sd_model_name", model=model).fate == "computed"


def test_a_learning_rate_that_is_the_default_has_an_effect(tmp_path: Path) -> None:
    given = metadata(ss_optimizer="prodigyopt.prodigy.Prodigy", ss_learning_rate="1.0", ss_text_encoder_lr="None")
    line = find_line(write(tmp_path / "lum.safetensors", SMALL, given), "ss_learning_rate")
    assert (line.fate, line.why) == ("default", None)
    given |= {"ss_unet_lr": "0.5", "ss_text_encoder_lr": "0.5"}
    line = find_line(write(tmp_path / "lum.safetensors", SMALL, given), "ss_learning_rate")
    assert line.fate == "dropped"


def test_what_the_tensors_show_has_the_name_of_its_option(tmp_path: Path) -> None:
    config = read(write(tmp_path / "lum.safetensors", SMALL))
    given = {name: each for name, each in config.options.items() if each.keys == (TENSORS,)}
    assert given
    assert all(str(each.written).startswith(f"{name}=") for name, each in given.items())


def test_a_folder_that_the_user_named_is_searched_by_name_alone(tmp_path: Path) -> None:
    model = write_raw(tmp_path / "models" / "sd15.safetensors", {"x": 1})
    made = metadata(ss_sd_model_name="/home/x/sd15", ss_sd_model_hash="IsADirectory")
    config = read(write(tmp_path / "lum.safetensors", SMALL, made), model=model.parent)
    assert values(config.options)["pretrained_model_name_or_path"] == str(model)
    assert config.options["pretrained_model_name_or_path"].written == "/home/x/sd15"


def test_what_a_folder_has_instead_is_said(tmp_path: Path) -> None:
    model = write_raw(tmp_path / "models" / "other.safetensors", {"x": 1})
    config = read(write(tmp_path / "lum.safetensors", SMALL, metadata()), model=model.parent)
    why = next(str(line.why) for line in config.missing if line.key == "base.model")
    assert "other.safetensors" in why
    assert "next to the LoRA" not in why


def test_old_texts_are_to_be_checked(tmp_path: Path) -> None:
    made = metadata(**{"modelspec.author": "somebody", "modelspec.description": "a lighthouse"})
    path = write(tmp_path / "lum.safetensors", SMALL, made)
    named = {key for line in read(path, images=tmp_path).missing for key in line.key.split(", ")}
    assert named >= {"concept.token", "concept.class", "metadata.author", "metadata.description"}
    assert {key for line in read(path).missing for key in line.key.split(", ")} >= {"metadata.author"}
