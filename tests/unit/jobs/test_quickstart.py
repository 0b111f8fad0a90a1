"""Quickstart's ingredients: what it asks for, what it writes, what it leaves alone, what it prints at the end."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from PIL import Image

from lorabake.analysis.check import check_recipe
from lorabake.commands.run import program_name
from lorabake.errors import MachineError, ResourceError
from lorabake.jobs import quickstart_files as quickstart
from lorabake.recipe.load import load_recipe
from lorabake.util import resources
from lorabake_schemas.families.registry import list_family_names
from lorabake_schemas.machine import Family, MachineFacts
from lorabake_schemas.messages import literal

MACHINE = MachineFacts(system="Linux", cpus=2, memory_bytes=16 * 2**30)
FAMILIES: tuple[Family, ...] = list_family_names()


def write_base(folder: Path, family: Family) -> None:
    """A folder that looks like a complete random base model, without the weights."""
    context, pipeline = {"sd15": (768, ""), "sd2": (1024, ""), "sdxl": (2048, "XL")}[family]
    files = {
        "model_index.json": json.dumps({"_class_name": f"StableDiffusion{pipeline}Pipeline"}),
        "unet/config.json": json.dumps({"cross_attention_dim": context, "in_channels": 4}),
        "scheduler/scheduler_config.json": json.dumps({"prediction_type": "epsilon", "rescale_betas_zero_snr": False}),
        **{f"{part}/model.safetensors": "weights" for part in ("unet", "vae", "text_encoder", "text_encoder_2")},
    }
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")
    mark = {
        "random": True,
        "seed": 42,
        "family": family,
        "v_prediction": False,
        "zero_terminal_snr": False,
        "full_size": False,
        "files": {name: len(text) for name, text in files.items()},
    }
    (folder / quickstart.BASE_MARKER).write_text(json.dumps(mark), encoding="utf-8")


def prepare(folder: Path, family: Family = "sd15") -> tuple[quickstart.QuickstartFiles, list[str]]:
    said: list[str] = []
    return quickstart.write_quickstart_files(folder, family, None, {}, said.append), said


@pytest.mark.parametrize("family", FAMILIES)
def test_the_recipe_reads_and_plans_without_an_error(tmp_path: Path, family: Family) -> None:
    prepared, _ = prepare(tmp_path, family)
    write_base(tmp_path / f"base-{family}", family)
    examination = check_recipe(prepared.recipe, MACHINE)
    assert examination.errors == ()
    _, plan = examination.planned()
    assert plan.forecast.steps == quickstart.QUICKSTART_STEPS
    assert plan.family == family


@pytest.mark.parametrize("family", FAMILIES)
def test_a_first_try_is_not_told_off_for_being_one(tmp_path: Path, family: Family) -> None:
    prepared, _ = prepare(tmp_path, family)
    write_base(tmp_path / f"base-{family}", family)
    found = check_recipe(prepared.recipe, MACHINE)
    assert {finding.rule for finding in found.findings} <= {"missing-file"}  # only a real base has its tokenizer
    assert [ignored.finding.rule for ignored in found.ignored] == [
        "G1.2",
        "G5.2",
        *(["G4.61"] if family == "sdxl" else []),
    ]


def test_fifteen_small_images_of_several_shapes_are_shipped() -> None:
    images = {name: content for name, content in resources.read_sample_images().items() if name.endswith(".png")}
    sizes = [Image.open(io.BytesIO(content)).size for content in images.values()]
    assert len(set(images.values())) == 15
    assert sum(map(len, images.values())) < 100_000
    assert all(120 <= side <= 160 for size in sizes for side in size)
    assert all(max(size) < 1.25 * min(size) for size in sizes)  # a square bucket cuts off less than a fifth
    assert any(width > height for width, height in sizes)
    assert any(width < height for width, height in sizes)


def test_each_shipped_image_has_a_caption_of_token_class_and_tags() -> None:
    files = resources.read_sample_images()
    assert {name.removesuffix(".txt") for name in files if name.endswith(".txt")} == {
        name.removesuffix(".png") for name in files if name.endswith(".png")
    }
    for name in files:
        if name.endswith(".txt"):
            token, class_, *tags = files[name].decode().strip().split(", ")
            assert (token, class_) == ("lumlighthouse", "lighthouse")
            assert 3 <= len(set(tags)) == len(tags) <= 8


def test_an_edited_caption_stays_and_a_missing_image_comes_back(tmp_path: Path) -> None:
    prepare(tmp_path)
    edited, missing = (tmp_path / quickstart.IMAGES / name for name in ("lighthouse01.txt", "lighthouse02.png"))
    edited.write_text("mine, lighthouse\n", encoding="utf-8")
    missing.unlink()
    prepare(tmp_path)
    assert edited.read_text(encoding="utf-8") == "mine, lighthouse\n"
    assert missing.is_file()
    assert len(list((tmp_path / quickstart.IMAGES).iterdir())) == 30


def test_a_folder_with_other_files_is_refused_and_one_of_a_quickstart_is_not(tmp_path: Path) -> None:
    quickstart.check_folder(tmp_path / "new")
    quickstart.check_folder(tmp_path)
    prepare(tmp_path / "made")
    (tmp_path / "made" / "notes.txt").write_text("mine", encoding="utf-8")
    quickstart.check_folder(tmp_path / "made")
    for name in ("recipe.toml", "images/a.png", "anything"):
        folder = tmp_path / name.replace("/", "-")
        (folder / name).parent.mkdir(parents=True)
        (folder / name).write_text("mine", encoding="utf-8")
        with pytest.raises(MachineError) as caught:
            quickstart.check_folder(folder)
        assert name.partition("/")[0] in caught.value.message
    interrupted = tmp_path / "interrupted"
    (interrupted / quickstart.IMAGES).mkdir(parents=True)
    (interrupted / ".lock").touch()
    quickstart.check_folder(interrupted)


def test_the_readme_names_what_a_quickstart_needs() -> None:
    readme = (Path(__file__).resolve().parents[3] / "README.md").read_text("utf-8")
    paragraph = next(line for line in readme.splitlines() if line.startswith("`make quickstart` takes"))
    pin = resources.load_pin()
    cpu, gpu = quickstart.resource_needs("sd15", pin.cpu), quickstart.resource_needs("sd15", pin.cuda)
    for part in (
        f"{cpu.memory_bytes / 1e9:.0f} GB of free memory and {cpu.disk_bytes / 1e9:.0f} GB of disk",
        f"{cpu.download_bytes / 1e9:.1f} GB ({cpu.trainer_bytes / 1e9:.1f} GB on disk)",
        f"{gpu.download_bytes / 1e9:.0f} GB ({gpu.trainer_bytes / 1e9:.0f} GB on disk)",
    ):
        assert part in paragraph


def test_comments_of_each_table_stand_in_one_column() -> None:
    for family in FAMILIES:
        for table in quickstart.quickstart_recipe(family).split("\n\n"):
            lines = [line for line in table.splitlines() if "#" in line and not line.startswith("#")]
            assert len({line.index("#") for line in lines}) <= 1


def test_a_second_time_changes_nothing(tmp_path: Path) -> None:
    prepare(tmp_path)
    before = {file: file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()}
    again, said = prepare(tmp_path)
    assert not again.edited
    assert said == []
    assert {file: file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()} == before


def test_an_edited_recipe_stays_and_it_says_so(tmp_path: Path) -> None:
    first, _ = prepare(tmp_path)
    mine = first.recipe.read_text(encoding="utf-8").replace("= 64 ", "= 128")
    first.recipe.write_text(mine, encoding="utf-8")
    again, said = prepare(tmp_path)
    assert again.edited
    assert "edited" in " ".join(said)
    assert first.recipe.read_text(encoding="utf-8") == mine


def test_a_recipe_of_ours_for_another_family_is_replaced(tmp_path: Path) -> None:
    prepare(tmp_path, "sd15")
    again, _ = prepare(tmp_path, "sdxl")
    assert not again.edited
    loaded = load_recipe(again.recipe).recipe
    assert loaded is not None
    assert loaded.base.family == "sdxl"


def test_a_folder_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(MachineError, match="cannot write"):
        prepare(tmp_path / "file")


def test_a_base_is_whole_only_with_every_file_at_its_size(tmp_path: Path) -> None:
    base = tmp_path / "base"
    assert not quickstart.is_complete_base(base)
    write_base(base, "sd15")
    assert quickstart.is_complete_base(base)
    (base / "unet/model.safetensors").write_text("weigh", encoding="utf-8")
    assert not quickstart.is_complete_base(base)


def test_a_whole_base_is_used_again_without_any_python(tmp_path: Path) -> None:
    write_base(tmp_path / "base", "sd15")
    said: list[str] = []
    quickstart.make_base(tmp_path / "base", "sd15", tmp_path / "no-python", {}, said.append)
    assert said == [f"using the base model in {tmp_path / 'base'}"]


def test_a_folder_of_somebody_else_is_never_touched(tmp_path: Path) -> None:
    base = tmp_path / "base"
    base.mkdir()
    (base / "thesis.txt").write_text("years of work", encoding="utf-8")
    with pytest.raises(MachineError, match="already exists and was not created by lorabake"):
        quickstart.make_base(base, "sd15", tmp_path / "no-python", {}, lambda _: None)
    assert (base / "thesis.txt").is_file()


def test_needs_count_the_trainer_only_when_it_must_be_fetched() -> None:
    lock = resources.load_pin().cpu
    with_it, without = quickstart.resource_needs("sd15", lock), quickstart.resource_needs("sd15")
    assert with_it.download_bytes == lock.download_bytes
    assert with_it.trainer_bytes == lock.disk_bytes
    assert without.download_bytes == without.trainer_bytes == 0
    assert with_it.memory_bytes == without.memory_bytes
    assert quickstart.resource_needs("sdxl").memory_bytes > without.memory_bytes
    assert quickstart.resource_needs("sdxl", rehearsal=True).memory_bytes < without.memory_bytes


def test_the_announcement_names_memory_disk_and_download() -> None:
    what = quickstart.ResourceNeeds(7 * 10**9, 2 * 10**9, 346 * 10**6, 15 * 10**8)
    said = quickstart.start_message("sd15", what, Path("quickstart"))
    for part in (
        "7.0 GB of memory",
        "2.0 GB of disk space in quickstart",
        "download of 0.3 GB",
        "1.5 GB of disk space",
    ):
        assert part in said
    assert "download" not in quickstart.start_message("sd15", quickstart.resource_needs("sd15"), Path("quickstart"))


@pytest.mark.parametrize(("memory", "disk", "word"), [(10, 99, "memory"), (99, 10, "disk"), (None, 10, "disk")])
def test_too_little_room_is_an_error_that_names_what_is_short(
    tmp_path: Path, memory: int | None, disk: int, word: str
) -> None:
    with pytest.raises(ResourceError, match=f"not enough {word}"):
        quickstart.check_resources(quickstart.ResourceNeeds(50, 50), tmp_path, memory, disk)


def test_enough_room_and_unknown_memory_pass(tmp_path: Path) -> None:
    quickstart.check_resources(quickstart.ResourceNeeds(50, 50), tmp_path, 50, 50)
    quickstart.check_resources(quickstart.ResourceNeeds(50, 50), tmp_path, None, 50)


def test_a_base_made_before_counts_as_room(tmp_path: Path) -> None:
    (tmp_path / "base-sd15").mkdir()
    (tmp_path / "base-sd15" / "weights").write_bytes(b"x" * 40)
    quickstart.check_resources(quickstart.ResourceNeeds(50, 50), tmp_path, None, 10)


def test_farewell_after_a_training_names_the_lora_and_two_commands() -> None:
    lines = quickstart.final_message(Path("recipe.toml"), "sdxl", Path("runs/1/lum.safetensors"))
    assert "runs/1/lum.safetensors" in lines[0]
    commands = [line.split() for line in lines if line.startswith("  lorabake ")]
    assert [command[1] for command in commands] == ["init", "run"]
    assert commands[0][4] == commands[1][2]


def test_farewell_after_a_rehearsal_ends_with_nothing_trained() -> None:
    lines = quickstart.final_message(
        Path("my folder/recipe.toml"), "sd15", None, literal("the trainer could not be fetched")
    )
    assert "the trainer could not be fetched" in lines[0]
    assert lines[1].endswith('lorabake quickstart --folder "my folder"')
    assert "Nothing was trained" in lines[-1]


def test_commands_are_told_as_they_work_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    program = tmp_path / ".venv" / "bin" / "lorabake"
    program.parent.mkdir(parents=True)
    program.write_text("", encoding="utf-8")
    other = tmp_path / "lorabake"
    other.write_text("", encoding="utf-8")
    assert program_name(".venv/bin/lorabake", None) == ".venv/bin/lorabake"
    assert program_name(".venv/bin/lorabake", str(other)) == ".venv/bin/lorabake"
    assert program_name(str(program), str(program)) == "lorabake"
    assert program_name("my venv/bin/lorabake", None) == "'my venv/bin/lorabake'"
    assert program_name("lorabake/__main__.py", None).endswith(" -m lorabake")
    lines = quickstart.final_message(Path("recipe.toml"), "sd15", Path("x.safetensors"), program=".venv/bin/lorabake")
    assert [line.split()[0] for line in lines[2:]] == [".venv/bin/lorabake"] * 2
