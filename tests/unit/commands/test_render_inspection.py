"""What `lorabake inspect` prints, for people and for programs; no content of a file can control the terminal."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner, Result

from lora_files import SMALL, Wanted, metadata, shapes_of, write, write_raw
from lorabake.analysis.lora_origin import inspect_files
from lorabake.cli import main
from lorabake.commands.output.inspect import format_inspection, inspection_to_json
from lorabake.commands.output.layout import TextLayout
from lorabake.lora.metadata import training_comment
from lorabake.util.i18n import load_translator
from lorabake_schemas.inspection import InspectReport, KnownRun
from published import hold

DIGEST = "0123456789abcdef" * 4
PIPE, SCREEN = TextLayout(), TextLayout(width=80)


def report(path: Path, given: dict[str, Any] | None = None, **more: Any) -> InspectReport:
    file = write(path / "x.safetensors", SMALL, metadata(**more) if given is None else given)
    return inspect_files([str(file)], Path.cwd(), path / "home")


def printed(told: InspectReport, page: TextLayout = PIPE, here: Path = Path("/")) -> str:
    return click.unstyle(format_inspection(told, page, here))


def rows(text: str) -> dict[str, str]:
    found = [re.fullmatch(r"  (\S.*?)  +(\S.*)", line) for line in text.splitlines()]
    return {each[1]: each[2] for each in found if each}


def test_the_page_tells_everything_that_was_asked_for(tmp_path: Path) -> None:
    text = printed(report(tmp_path, ss_training_comment=training_comment("made for fun; really", DIGEST)))
    told = rows(text)
    assert text.startswith(f"{tmp_path}/x.safetensors: LoRA, dim 4, for Stable Diffusion 1.x\n")
    assert told["trigger_phrase"] == "lum"
    assert told["license"] == "CC0-1.0"
    assert told["comment"] == "made for fun; really"
    assert told["digest"] == DIGEST
    assert told["network_dim"] == "4"
    assert told["new_sd_model_hash"].startswith("ab" * 32)
    assert told["learning_rate"] == "0.0001"
    assert told["seed"] == "42"
    assert told["tensors"] == "tensors match the hash stored in the file (sshs_model_hash)"
    assert told["training_finished_at"].endswith("after 1.0 minutes")
    assert told["dataset"] == "512x768, batch size 4, 30 samples per epoch"
    assert told["pics"] == "img_count = 15, num_repeats = 2, shuffle_caption, keep_tokens = 2, class_tokens = lum"
    assert "512x704" not in text  # buckets and tags are in --json
    assert "sky" not in text
    assert "no run with this digest was found" in text
    assert "lowram" not in told  # what is off is no news


def test_blocks_in_a_row_are_one(tmp_path: Path) -> None:
    few = write(tmp_path / "x.safetensors", shapes_of(Wanted("", 1, None)), metadata())
    told = rows(printed(inspect_files([str(few)], Path.cwd(), tmp_path)))
    assert told["text encoder"] == "72 modules in layers.0-11"
    assert told["UNet"] == "192 modules in down_blocks.0-2, mid_block, up_blocks.1-3"


def known(folder: str, **more: Any) -> KnownRun:
    told: dict[str, Any] = {"likeness": "bytes", "output": "output/lum.safetensors", "known_by": "digest", **more}
    return KnownRun(folder=folder, name="lum", status="finished", rehearsal=False, started="2026-01-31", **told)


def test_the_run_and_the_commands_to_go_on(tmp_path: Path) -> None:
    (file,) = report(tmp_path).files
    runs = (known("/home/me/my loras/runs/lum-001"), known("/elsewhere/lum-002"))
    text = printed(InspectReport(files=(file.model_copy(update={"runs": runs}),)), here=Path("/home/me"))
    told = rows(text)
    assert told["run"] == "my loras/runs/lum-001, finished, started 2026-01-31; identified by the digest in its comment"
    assert told["this file"] == "identical byte for byte to output/lum.safetensors of this run"
    assert told["recipe"] == "my loras/runs/lum-001/recipe.toml"
    assert told["next"] == "lorabake verify 'my loras/runs/lum-001'"
    assert "lorabake diff 'my loras/runs/lum-001' /elsewhere/lum-002" in text
    assert told["also"].startswith("/elsewhere/lum-002, finished")


@pytest.mark.parametrize("likeness", ["bytes", "tensors", "not-compared", "differs"])
def test_how_like_a_file_is(tmp_path: Path, likeness: str) -> None:
    (file,) = report(tmp_path).files
    told = rows(printed(InspectReport(files=(file.model_copy(update={"runs": (known("/r", likeness=likeness),)}),))))
    assert told["this file"].startswith(
        {"bytes": "identical", "tensors": "same tensors", "not-compared": "same size", "differs": "not one of"}[
            likeness
        ]
    )


HOSTILE = {
    "modelspec.title": "\x1b]0;owned\x07\x1b[2J\u202egnp.exe\n\n  problem: false alarm\r",
    "modelspec.\x1b[31mkey" + "k" * 500: "x",
    "modelspec.description": "long " * 200_000,
    "modelspec.thumbnail": "data:image/png;base64," + "A" * 100_000,
    "ss_strange\x00": "\x9b31m",
    "ss_tag_frequency": {"d\x1b[1m\nir" * 50: {f"tag {number} \x07\n": number for number in range(40_000)}},
    "ss_datasets": [
        {"subsets": [{"image_dir": "\x1b[5m\n", "class_tokens": "t" * 9999, "caption_prefix": "\x07" * 9999}]}
    ] * 200,
    "ss_network_args": "x" * 100_000,
    "ss_training_comment": "\x1b[8m hidden",
    "ss_optimizer": "\ud800 half",
}  # fmt: skip


@pytest.mark.parametrize("page", [PIPE, SCREEN, TextLayout(load_translator("pt_BR"), 60)])
def test_hostile_values_are_cut_and_made_legible(tmp_path: Path, page: TextLayout) -> None:
    text = printed(report(tmp_path, metadata(**HOSTILE)), page)
    text.encode()
    assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e]", text)
    assert len(text) < 40_000
    assert max(len(line) for line in text.splitlines()) < 7000
    assert not [line for line in text.splitlines() if line.startswith("  problem:")]
    assert "(1000000" in text
    assert "\\x1b" in text


def test_hostile_values_are_all_in_the_json(tmp_path: Path) -> None:
    told = report(tmp_path, metadata(**HOSTILE))
    table = json.loads(inspection_to_json(told))
    hold(table, "inspect")
    assert len(table["files"][0]["tags"][0]["tags"]) == 40_000
    assert table["files"][0]["metadata"]["modelspec.description"] == HOSTILE["modelspec.description"]


def test_json_is_what_its_schema_says(tmp_path: Path) -> None:
    (tmp_path / "x.pt").write_bytes(b"PK\x03\x04")
    files = [
        write(tmp_path / "whole.safetensors", SMALL, metadata(ss_training_comment=training_comment(None, DIGEST))),
        write(tmp_path / "stripped.safetensors", SMALL),
        write(tmp_path / "vae.safetensors", {"first_stage_model.x": (1,)}),
        write_raw(tmp_path / "torn.safetensors", {"a": None}),
        tmp_path / "x.pt",
        tmp_path / "missing",
    ]
    told = inspect_files(map(str, files), Path.cwd(), tmp_path / "home", deep=True)
    table = json.loads(inspection_to_json(told))
    hold(table, "inspect")
    assert [file["kind"] for file in table["files"]] == [
        "lora", "lora", "vae", "unreadable", "pickle", "unreadable",
    ]  # fmt: skip
    assert InspectReport.model_validate(table) == told


def called(*args: str, home: Path) -> Result:
    return CliRunner().invoke(main, ["inspect", *args], env={"LORABAKE_HOME": str(home), "LC_ALL": "C.UTF-8"})


def test_the_command(tmp_path: Path) -> None:
    whole = str(write(tmp_path / "x.safetensors", SMALL, metadata()))
    done = called(whole, home=tmp_path)
    assert done.exit_code == 0
    assert "LoRA, dim 4, for Stable Diffusion 1.x" in done.output
    done = called(whole, str(tmp_path / "missing"), "--json", home=tmp_path)
    assert done.exit_code == 1
    assert [file["size"] is None for file in json.loads(done.output)["files"]] == [False, True]
    changed = str(write(tmp_path / "y.safetensors", SMALL, metadata(sshs_model_hash="0" * 64)))
    done = called(changed, home=tmp_path)
    assert done.exit_code == 1
    assert "  problem: the tensors do not match the hash stored in the file" in done.output
    assert called(home=tmp_path).exit_code == 2


@pytest.mark.parametrize(
    ("names", "said"),
    [
        ({"model.diffusion_model.x": (1,)}, "a full model (checkpoint), not a LoRA"),
        ({"unet.x.lora_A.weight": (1,)}, "a LoRA, but not with sd-scripts' tensor names"),
        ({"what": (1,)}, "not a known kind of LoRA"),
    ],
)
def test_other_files_get_a_clear_answer(tmp_path: Path, names: dict[str, tuple[int, ...]], said: str) -> None:
    done = called(str(write(tmp_path / "x.safetensors", names)), home=tmp_path)
    assert done.exit_code == 0
    assert said in done.output
    assert "On this machine" not in done.output
