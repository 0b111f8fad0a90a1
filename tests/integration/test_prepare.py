"""`lorabake prepare` from the command line: what is made, what is left alone, and starts that are killed."""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
import tomllib
import unicodedata
from pathlib import Path
from typing import Any

import faulty_sets
import pytest
from click.testing import CliRunner, Result
from faulty_sets import encoded, picture
from PIL import Image

from lorabake.cli import main
from lorabake.util.locks import try_lock
from published import hold

KILLS = int(os.environ.get("LORABAKE_PREPARE_KILLS", "3"))


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """Eight images, a recipe and a base model."""
    folder = tmp_path / "project"
    faulty_sets.add(folder / "pictures", range(8))
    faulty_sets.base(folder / "base.safetensors")
    write_recipe(folder)
    return folder


def write_recipe(folder: Path, *, concept: str = "", more: str = "") -> None:
    text = faulty_sets.RECIPE.format(tags="danbooru", images="pictures", concept=concept, more=more)
    (folder / "recipe.toml").write_text(f"# kept\n{text}", "utf-8")


def start(folder: Path, *flags: str, to: str = "clean") -> Result:
    arguments = ["prepare", str(folder / "recipe.toml"), "--to", str(folder.parent / to), *flags]
    done = CliRunner().invoke(main, arguments, env={"LORABAKE_HOME": str(folder.parent / "home")})
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return done


def report(folder: Path, *flags: str, to: str = "clean") -> dict[str, Any]:
    done = start(folder, "--json", *flags, to=to)
    found: dict[str, Any] = json.loads(done.stdout)
    if "error" not in found:
        hold(found, "prepare")
    return found


def steps(found: dict[str, Any]) -> dict[str, int]:
    return {each["step"]: each["files"] for each in found["steps"]}


def reasons(found: dict[str, Any]) -> dict[str, int]:
    return {each["reason"]: each["files"] for each in found["reasons"]}


def content(folder: Path) -> dict[str, str]:
    """Every file with its digest."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_a_clean_set_is_copied_byte_for_byte(project: Path, tmp_path: Path) -> None:
    before = content(project)
    found = report(project)
    assert (found["images"], found["copied"], found["errors"]) == (8, 8, 0)
    assert content(project) == before
    made = content(tmp_path / "clean")
    assert {name: made[name] for name in made if name.startswith("pictures/")} == {
        name: digest for name, digest in before.items() if name.startswith("pictures/")
    }
    text = (tmp_path / "clean" / "recipe.toml").read_text("utf-8")
    assert text.startswith("# kept\n")
    assert tomllib.loads(text)["base"]["model"] == "../project/base.safetensors"
    hold(json.loads((tmp_path / "clean" / "prepared.json").read_text("utf-8")), "prepared")
    assert {path.name for path in (tmp_path / "clean").iterdir()} == {"pictures", "prepared.json", "recipe.toml"}


def test_captions_without_words_stay_behind(project: Path, tmp_path: Path) -> None:
    caption = min((project / "pictures").glob("*.txt"))
    caption.write_text("0 0.5 0.5 0.1 0.2", "utf-8")
    found = report(project)
    assert reasons(found)["wordless-caption"] == 1
    assert found["images"] == 8
    assert not (tmp_path / "clean" / "pictures" / caption.name).exists()


def test_a_dry_run_writes_nothing(project: Path, tmp_path: Path) -> None:
    found = report(project, "--dry-run")
    assert found["dry_run"]
    assert not (tmp_path / "clean").exists()


def test_every_fault_of_an_image_is_repaired(project: Path, tmp_path: Path) -> None:
    pictures = project / "pictures"
    for number in range(20, 30):
        (pictures / f"{number}.txt").write_text(faulty_sets.caption(number), "utf-8")
    picture(20).convert("CMYK").save(pictures / "20.jpg", quality=95)
    picture(21).convert("I;16").save(pictures / "21.png")
    picture(22).save(pictures / "22.gif", save_all=True, append_images=[picture(50)])
    exif = Image.Exif()
    exif[0x0112] = 6
    picture(23, (896, 640)).save(pictures / "23.jpg", exif=exif)
    clear = picture(24).convert("RGBA")
    clear.putalpha(Image.linear_gradient("L").resize(clear.size))
    clear.save(pictures / "24.png")
    picture(25).convert("RGBA").save(pictures / "25.png")
    picture(26, (4000, 3000)).save(pictures / "26.jpg")
    picture(27, (300, 300)).save(pictures / "27.png")
    (pictures / "28.jpg").write_bytes(encoded(28, "PNG"))
    picture(29).save(pictures / "29.avif")
    found = report(project)
    assert steps(found) == {
        "rgb": 1, "eight-bit": 1, "first-frame": 1, "converted": 2, "rotated": 1, "background": 1, "opaque": 1,
        "reduced": 1, "enlarged": 1, "extension": 1, "background-tag": 1,
    }  # fmt: skip
    clean = tmp_path / "clean" / "pictures"
    with Image.open(clean / "23.jpg") as turned:
        assert turned.size == (640, 896)
    with Image.open(clean / "26.jpg") as reduced:
        assert reduced.size[0] < 2000
    for path in clean.iterdir():
        if path.suffix != ".txt":
            with Image.open(path) as image:
                assert image.mode in {"RGB", "L"}
    assert (clean / "24.txt").read_text("utf-8").endswith(" background")
    assert (found["errors"], found["warnings"]) == (0, 0)


def test_alpha_can_be_kept_as_a_mask(project: Path, tmp_path: Path) -> None:
    clear = picture(7).convert("RGBA")
    clear.putalpha(Image.linear_gradient("L").resize(clear.size))
    clear.save(project / "pictures" / "07.png")
    report(project, "--alpha", "mask", to="masked")
    assert tomllib.loads((tmp_path / "masked" / "recipe.toml").read_text("utf-8"))["concept"][0]["alpha_mask"] is True
    for flags, to in ((("--alpha", "mask"), "masked"), (("--alpha", "keep"), "kept")):
        report(project, *flags, to=to)
        assert (tmp_path / to / "pictures" / "07.png").read_bytes() == (project / "pictures" / "07.png").read_bytes()
    write_recipe(project, concept="alpha_mask = true")
    assert "background" not in steps(report(project, to="used"))


def test_masks_follow_their_images(project: Path, tmp_path: Path) -> None:
    masks = project / "masks"
    masks.mkdir()
    for number in range(8):
        with Image.open(project / "pictures" / f"{number:02}.png") as image:
            Image.linear_gradient("L").resize(image.size).save(masks / f"{number:02}.png")
    exif = Image.Exif()
    exif[0x0112] = 6
    (project / "pictures" / "06.png").unlink()
    picture(6, (896, 640)).save(project / "pictures" / "06.jpg", exif=exif)
    Image.linear_gradient("L").resize((896, 640)).save(masks / "06.png")
    Image.linear_gradient("L").resize((100, 100)).save(masks / "05.png")
    Image.new("L", (8, 8)).save(masks / "99.png")
    picture(7, (4000, 3000)).save(project / "pictures" / "07.png")
    Image.linear_gradient("L").resize((4000, 3000)).convert("I;16").save(masks / "07.png")
    write_recipe(project, concept='masks = "masks"')
    found = report(project)
    assert reasons(found) == {"unused-mask": 1}
    clean = tmp_path / "clean"
    for path in (clean / "pictures").iterdir():
        if path.suffix != ".txt":
            with Image.open(path) as image, Image.open(clean / "pictures-masks" / f"{path.stem}.png") as mask:
                assert image.size == mask.size
                assert mask.mode == "L"
    with Image.open(clean / "pictures-masks" / "06.png") as turned:  # dark at the top before, at the right now
        assert turned.getpixel((0, 100)) > turned.getpixel((639, 100))  # type: ignore[operator]
    assert found["errors"] == 0


def test_the_other_file_of_a_phones_photograph_is_a_duplicate(project: Path) -> None:
    for name in ("03.HEIC", "99.HEIC"):
        (project / "pictures" / name).write_bytes(b"\0\0\0\x18ftypheic" + bytes(50))
    assert reasons(report(project)) == {"duplicate": 1, "unreadable": 1}


def test_masks_next_to_their_images_become_a_folder(project: Path, tmp_path: Path) -> None:
    pictures = project / "pictures"
    for number in (1, 2):
        with Image.open(pictures / f"{number:02}.png") as image:
            Image.linear_gradient("L").resize(image.size).save(pictures / f"{number:02}-masklabel.png")
    picture(3).save(pictures / "03-condlabel.png")
    found = report(project)
    clean = tmp_path / "clean"
    assert (found["images"], reasons(found), found["errors"]) == (8, {"conditioning": 1}, 0)
    assert steps(found)["white"] == 6
    masks = tomllib.loads((clean / "recipe.toml").read_text("utf-8"))["concept"][0]["masks"]
    assert len(list((clean / masks).iterdir())) == 8
    assert (clean / masks / "01.png").read_bytes() == (pictures / "01-masklabel.png").read_bytes()
    with Image.open(clean / masks / "00.png") as white:
        assert white.getextrema() == (255, 255)
    again = report(project)
    assert (again["made"], again["kept"], found["changed"], again["changed"]) == (0, 8, True, False)


def test_a_folder_with_nothing_but_duplicates_is_left_out_of_the_recipe(project: Path, tmp_path: Path) -> None:
    shutil.copytree(project / "pictures", project / "again")
    more = '[[concept]]  # again\ntoken = "lumtower"\nclass = "lighthouse"\nimages = "again"\n# kept, too'
    write_recipe(project, more=more)
    found = report(project)
    assert (found["images"], found["errors"]) == (8, 0)
    text = (tmp_path / "clean" / "recipe.toml").read_text("utf-8")
    assert [each["images"] for each in tomllib.loads(text)["concept"]] == ["pictures"]
    assert "# kept, too" in text


def test_metadata_follows_its_images(project: Path, tmp_path: Path) -> None:
    pictures = project / "pictures"
    table: dict[str, Any] = {
        f"{number:02}.png": {"caption": "sea", "tags": "lumtower, red", "image_size": [1, 1]} for number in range(4)
    }
    table |= {"05.png": {"tags": "sea\nsky", "other": 7}, "missing.png": {"caption": "x"}}
    (pictures / "04.png").unlink()
    clear = picture(5).convert("RGBA")
    clear.putalpha(100)
    clear.save(pictures / "05.png")
    (project / "meta.json").write_text(json.dumps(table), "utf-8")
    write_recipe(project, concept='metadata_file = "meta.json"')
    found = report(project)
    assert reasons(found) == {"unlisted": 2}
    made = json.loads((tmp_path / "clean" / "pictures.json").read_text("utf-8"))
    assert sorted(made) == ["00.png", "01.png", "02.png", "03.png", "05.png"]
    with Image.open(pictures / "00.png") as image:
        assert made["00.png"]["image_size"] == list(image.size)
    assert made["00.png"]["caption"].startswith("lumtower, lighthouse, sea")
    assert made["05.png"]["other"] == 7
    assert made["05.png"]["tags"].startswith("lumtower, lighthouse, sea, sky, ")
    assert made["05.png"]["tags"].endswith(" background")
    assert found["errors"] == 0


def test_a_sheet_is_cut_into_views(project: Path, tmp_path: Path) -> None:
    picture(40, (1600, 900)).save(project / "pictures" / "sheet.png")
    (project / "pictures" / "sheet.txt").write_text("lumtower, lighthouse, reference sheet, white background", "utf-8")
    (project / "crops.csv").write_text(
        "image,left,top,right,bottom,caption,tags\n"
        "sheet.png,0,0,800,900,,from side\nsheet.png,800,0,1600,900,,from behind\n"
    )
    found = report(project, "--crops", str(project / "crops.csv"))
    assert reasons(found) == {"cropped": 1}
    clean = tmp_path / "clean" / "pictures"
    assert not (clean / "sheet.png").exists()
    with Image.open(clean / "sheet-2.png") as view:
        assert view.size == (800, 900)
    assert (clean / "sheet-1.txt").read_text("utf-8") == "lumtower, lighthouse, white background, from side"
    for text in ("sheet.png,0,0,800,901", "nothing.png,0,0,64,64"):
        (project / "crops.csv").write_text(f"image,left,top,right,bottom\n{text}\n")
        assert "error" in report(project, "--crops", str(project / "crops.csv"), to="other")


def test_names_that_collide_are_told_apart(project: Path, tmp_path: Path) -> None:
    pictures = project / "pictures"
    (pictures / "07.jpg").write_bytes(encoded(30, "JPEG"))
    (pictures / "06.gif").write_bytes(encoded(31, "GIF"))
    (pictures / "Big.png").write_bytes(encoded(32, "PNG"))
    (pictures / "big.png").write_bytes(encoded(33, "PNG"))
    report(project)
    names = sorted(path.name for path in (tmp_path / "clean" / "pictures").iterdir() if path.suffix != ".txt")
    assert len({Path(name).stem.casefold() for name in names}) == len(names) == 12
    assert (tmp_path / "clean" / "pictures" / "07-png.txt").exists() != (
        tmp_path / "clean" / "pictures" / "07-jpg.txt"
    ).exists()


def test_links_are_followed_and_pipes_are_not(project: Path, tmp_path: Path) -> None:
    (project / "elsewhere.png").write_bytes(encoded(30, "PNG"))
    (project / "pictures" / "30.png").symlink_to(project / "elsewhere.png")
    os.mkfifo(project / "pictures" / "31.png")
    found = start(project, "--json")
    assert found.exit_code == 1
    assert reasons(json.loads(found.stdout)) == {"unreadable": 1}
    made = tmp_path / "clean" / "pictures" / "30.png"
    assert made.read_bytes() == encoded(30, "PNG")
    assert not made.is_symlink()


@pytest.mark.parametrize("to", ["project", "project/pictures", "project/pictures/new", "."])
def test_the_new_folder_is_never_the_datasets(project: Path, tmp_path: Path, to: str) -> None:
    before = content(project)
    (tmp_path / "link").symlink_to(project)
    for name in (to, to.replace("project", "link")):
        assert report(project, to=name)["error"]["exit_code"] == 1
    assert content(project) == before


def test_a_foreign_folder_is_left_alone(project: Path, tmp_path: Path) -> None:
    (tmp_path / "clean").mkdir()
    (tmp_path / "clean" / "mine.txt").write_text("x")
    assert "error" in report(project)
    assert content(tmp_path / "clean").keys() == {"mine.txt"}
    (tmp_path / "clean" / "prepared.json").write_text('{"images": [{"path": "../project/base.safetensors"}]}')
    assert "error" in report(project)
    assert (project / "base.safetensors").exists()


def test_a_manifest_of_a_stranger_removes_nothing_outside(project: Path, tmp_path: Path) -> None:
    report(project)
    path = tmp_path / "clean" / "prepared.json"
    path.write_text(
        path.read_text("utf-8").replace('"path": "pictures/07.png"', '"path": "../project/base.safetensors"')
    )
    assert "error" in report(project)
    assert (project / "base.safetensors").exists()


@pytest.mark.parametrize("kind", ["journal", "announced", "manifest"])
def test_a_stranger_cannot_have_files_removed_or_written_over(project: Path, tmp_path: Path, kind: str) -> None:
    """Only a digest that was recorded for a path makes a file ours."""
    new = tmp_path / "clean"
    (new / "docs").mkdir(parents=True)
    (new / "pictures").mkdir()
    (new / "docs" / "thesis.txt").write_text("precious")
    (new / "docs" / ".thesis.txt.part").write_text("precious")
    (new / "deep" / "er").mkdir(parents=True)
    names = ["docs/thesis.txt", *(["pictures/03.txt"] if kind != "manifest" else [])]
    wrong = {"kind": "caption", "source": "/x", "source_sha256": "0", "sha256": "0" * 64, "size": 1}
    lines: list[dict[str, Any]] = [{"making": names, "owned": names}]
    if kind == "announced":
        lines = [{"path": name, "sha256": "0" * 64} for name in names]
    elif kind == "manifest":
        image = {"path": names[0], "job": "0", "files": [{**wrong, "path": names[0]}]}
        lines = [{"version": 1, "lorabake": "1", "recipe": "/x", "recipe_sha256": "0", "images": [image]}]
    text = "".join(f"{json.dumps(line)}\n" for line in lines)
    (new / ("prepared.json" if kind == "manifest" else ".prepared.jsonl")).write_text(text)
    if kind != "manifest":
        (new / "pictures" / "03.txt").write_text("mine")
        assert "error" in report(project)
        assert (new / "pictures" / "03.txt").read_text() == "mine"
        (new / "pictures" / "03.txt").unlink()
    found = report(project)
    assert (found["removed"], found["removed_files"], found["made"]) == (0, [], 8)
    assert found["left_files"] == ([] if kind == "journal" else ["docs/thesis.txt"])
    assert (new / "docs" / "thesis.txt").read_text() == "precious"
    assert (new / "docs" / ".thesis.txt.part").exists()
    assert (new / "deep" / "er").is_dir()


def test_what_is_removed_is_named_before(project: Path, tmp_path: Path) -> None:
    report(project)
    for name in ("05.png", "06.png"):
        (project / "pictures" / name).unlink()
    (tmp_path / "clean" / "pictures" / "06.txt").write_text("mine")
    gone = ["pictures/05.png", "pictures/05.txt", "pictures/06.png"]
    for flags in (("--dry-run",), ()):
        found = report(project, *flags)
        assert (found["removed_files"], found["left_files"]) == (gone, ["pictures/06.txt"])
        assert (tmp_path / "clean" / gone[0]).exists() == bool(flags)
    assert (tmp_path / "clean" / "pictures" / "06.txt").read_text() == "mine"


def test_names_that_no_other_system_has_become_usual_ones(project: Path, tmp_path: Path) -> None:
    (project / "pictures" / "07.png").rename(project / "pictures" / "a\\b.png")
    (project / "pictures" / "07.txt").rename(project / "pictures" / "a\\b.txt")
    (project / "pictures").rename(project / "my\\pictures")
    text = (project / "recipe.toml").read_text("utf-8")
    (project / "recipe.toml").write_text(text.replace('images = "pictures"', "images = 'my\\pictures'"), "utf-8")
    assert report(project)["made"] == 8
    again = report(project)
    assert (again["made"], again["kept"]) == (0, 8)
    assert (tmp_path / "clean" / "my_pictures" / "a_b.txt").exists()


def test_many_images_of_one_name_are_named_in_time(project: Path) -> None:
    """20,000 that differ in case alone: each asks for names from where the last one stopped."""
    from lorabake.inputs.prepare.plan import FolderRequest, plan_folder
    from lorabake_schemas.dataset import FolderFacts, ImageFacts

    names = [f"{number}/{'aA'[number % 2]}.png" for number in range(20_000)]
    images = tuple(ImageFacts(name, 640, 640, "RGB", format="PNG") for name in names)
    facts = FolderFacts(path="x", identity="", images=images)
    plan = plan_folder(FolderRequest(root=str(project), name="x", facts=facts, find_target=lambda _: None))
    assert len({job.path.casefold() for job in plan.jobs}) == 20_000
    assert plan.jobs[-1].path == "x/A-20000.png" or plan.jobs[-1].path == "x/A-19999.png"


def test_captions_that_no_text_can_be_read_from_are_named(project: Path, tmp_path: Path) -> None:
    pictures = project / "pictures"
    tags = "lumtower, lighthouse, "
    (pictures / "00.txt").write_bytes(f"{tags}платье".encode("cp1251"))
    (pictures / "01.txt").write_bytes(f"{tags}赤い髪".encode("shift-jis"))
    (pictures / "02.txt").write_bytes(f"{tags}赤い髪".encode("utf-16-le"))
    (pictures / "03.txt").write_bytes(f"{tags}a\0b".encode())
    (pictures / "04.txt").unlink()
    os.mkfifo(pictures / "04.txt")
    (pictures / "05.txt").unlink()
    (pictures / "05.txt").mkdir()
    done = start(project, "--json")
    assert done.exit_code == 1
    found = json.loads(done.stdout)
    left = [Path(file["source"]).name for file in found["left_out"] if file["reason"] == "unreadable"]
    assert sorted(left) == ["00.txt", "01.txt", "04.txt", "05.txt"]
    guessed = next(each for each in found["steps"] if each["step"] == "encoding-guessed")
    assert [Path(source).name for source in guessed["sources"]] == ["02.txt"]
    assert steps(found)["invalid-characters"] == 1
    assert (tmp_path / "clean" / "pictures" / "02.txt").read_text("utf-8") == f"{tags}赤い髪"
    assert (tmp_path / "clean" / "pictures" / "03.txt").read_text("utf-8") == f"{tags}ab"


def test_captions_that_are_not_used_are_called_so(project: Path) -> None:
    write_recipe(project, concept='captions = "none"')
    assert reasons(report(project)) == {"unread-caption": 8}


def test_half_a_character_in_metadata_is_removed(project: Path, tmp_path: Path) -> None:
    table = {f"{number:02}.png": {"tags": "lumtower, lighthouse, \ud800é"} for number in range(8)}
    (project / "meta.json").write_text(json.dumps(table), "utf-8")
    write_recipe(project, concept='metadata_file = "meta.json"')
    assert steps(report(project)) == {"invalid-characters": 1}
    made = json.loads((tmp_path / "clean" / "pictures.json").read_text("utf-8"))
    assert made["00.png"]["tags"] == "lumtower, lighthouse, é"


@pytest.mark.parametrize("model", ["models/missing.safetensors", "../missing.ckpt", "./folder/model", "missing"])
def test_a_model_that_is_not_on_the_disk_is_moved_too(project: Path, tmp_path: Path, model: str) -> None:
    path = project / "recipe.toml"
    text = path.read_text("utf-8").replace('"base.safetensors"', f'"{model}"')
    path.write_text(f"#:schema recipe.schema.json\n{text}", "utf-8")
    report(project)
    moved = tomllib.loads((tmp_path / "clean" / "recipe.toml").read_text("utf-8"))["base"]["model"]
    assert (tmp_path / "clean" / moved).resolve() == (project / model).resolve()
    assert (tmp_path / "clean" / "recipe.schema.json").exists()
    assert report(project)["kept"] == 8


@pytest.mark.parametrize("model", ["owner/name", "stabilityai/stable-diffusion-xl-base-1.0"])
def test_a_model_on_the_hub_stays(project: Path, tmp_path: Path, model: str) -> None:
    path = project / "recipe.toml"
    path.write_text(path.read_text("utf-8").replace('"base.safetensors"', f'"{model}"'), "utf-8")
    report(project)
    assert tomllib.loads((tmp_path / "clean" / "recipe.toml").read_text("utf-8"))["base"]["model"] == model


def test_what_becomes_blurred_is_named(project: Path) -> None:
    picture(7, (150, 150)).save(project / "pictures" / "07.png")
    picture(6, (400, 400)).save(project / "pictures" / "06.png")
    for flags in (("--dry-run",), ()):
        found = report(project, *flags)
        assert [Path(name).name for name in found["blurred"]] == ["07.png"]
        small = next(each for each in found["steps"] if each["step"] == "enlarged")
        assert [Path(name).name for name in small["sources"]] == ["06.png", "07.png"]
        assert found["family"] == "sd15"
        assert found["resolutions"]
    assert "07.png (" in start(project, "--dry-run").stdout


def test_what_is_next_can_be_typed(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(project.parent)
    shown = start(project).stdout
    assert "next: lorabake run clean/recipe.toml" in shown
    (project / "base.safetensors").unlink()
    shown = start(project, to="other").stdout
    assert "G4.7" in shown
    assert "`lorabake check other/recipe.toml`" in shown


def test_a_smaller_jpeg_is_estimated_by_its_source(project: Path, tmp_path: Path) -> None:
    for number in range(8):
        (project / "pictures" / f"{number:02}.png").unlink()
        picture(number, (3000, 2400)).save(project / "pictures" / f"{number:02}.jpg", quality=60)
    found = report(project)
    assert steps(found)["reduced"] == 8
    real = sum(path.stat().st_size for path in (tmp_path / "clean" / "pictures").iterdir())
    originals = sum(path.stat().st_size for path in (project / "pictures").iterdir())
    assert real / 2 <= found["estimated_bytes"] <= originals


def test_a_new_tag_is_spelled_as_the_folder_does(project: Path, tmp_path: Path) -> None:
    for number in range(8):
        (project / "pictures" / f"{number:02}.txt").write_text("lumtower, lighthouse, blue_sky, long_hair")
    clear = picture(7).convert("RGBA")
    clear.putalpha(Image.linear_gradient("L").resize(clear.size))
    clear.save(project / "pictures" / "07.png")
    report(project)
    assert (tmp_path / "clean" / "pictures" / "07.txt").read_text("utf-8").endswith("_background")


def test_the_plainest_name_of_duplicates_stays(project: Path, tmp_path: Path) -> None:
    data = (project / "pictures" / "07.png").read_bytes()
    for name in ("07 (1)", "00 copy of 07"):
        (project / "pictures" / f"{name}.png").write_bytes(data)
        (project / "pictures" / f"{name}.txt").write_text("lumtower, lighthouse", "utf-8")
    assert reasons(report(project))["duplicate"] == 2
    assert (tmp_path / "clean" / "pictures" / "07.png").exists()


def test_a_repeat_makes_only_what_changed(project: Path, tmp_path: Path) -> None:
    report(project)
    first = content(tmp_path / "clean")
    again = report(project)
    assert (again["made"], again["kept"], again["removed"]) == (0, 8, 0)
    assert content(tmp_path / "clean") == first
    (project / "pictures" / "03.png").write_bytes(encoded(60, "PNG"))
    (project / "pictures" / "04.txt").write_text("lumtower, lighthouse, new", "utf-8")
    (project / "pictures" / "05.png").unlink()
    (tmp_path / "clean" / "pictures" / "06.png").unlink()
    changed = report(project)
    assert (changed["made"], changed["kept"], changed["removed"]) == (3, 4, 2)
    assert content(tmp_path / "clean") == (report(project, to="fresh") and content(tmp_path / "fresh"))


def test_what_somebody_edited_is_not_written_over(project: Path, tmp_path: Path) -> None:
    report(project)
    mine = tmp_path / "clean" / "pictures" / "03.txt"
    mine.write_text("lumtower, lighthouse, mine", "utf-8")
    recipe = tmp_path / "clean" / "recipe.toml"
    recipe.write_text(recipe.read_text("utf-8") + "\n[train]\nseed = 7\n")
    assert report(project)["edited"] == ["pictures/03.txt", "recipe.toml"]
    assert mine.read_text("utf-8").endswith("mine")
    assert "seed = 7" in recipe.read_text("utf-8")
    (project / "pictures" / "03.txt").write_text("lumtower, lighthouse, another", "utf-8")
    assert "error" in report(project)
    assert mine.read_text("utf-8").endswith("mine")


def test_a_changed_recipe_is_noticed(project: Path, tmp_path: Path) -> None:
    report(project)
    write_recipe(project, more="[train]\nseed = 5")
    assert report(project)["kept"] == 8
    assert tomllib.loads((tmp_path / "clean" / "recipe.toml").read_text("utf-8"))["train"]["seed"] == 5


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_cannot_be_written_is_an_error(project: Path, tmp_path: Path) -> None:
    (tmp_path / "shut").mkdir(mode=0o500)
    assert report(project, to="shut/clean")["error"]["exit_code"] == 1


def test_too_little_space_is_known_before(project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def free(path: Path) -> int:
        return 1000

    monkeypatch.setattr("lorabake.util.machine.get_free_disk", free)
    assert report(project)["error"]["exit_code"] == 6
    assert not (tmp_path / "clean").exists()


def test_killed_at_any_moment_and_started_again_gives_the_same(project: Path, tmp_path: Path) -> None:
    """LORABAKE_PREPARE_KILLS sets how often."""
    for number in range(8, 24):
        picture(number, (1700, 1500)).save(project / "pictures" / f"{number:02}.png")
        (project / "pictures" / f"{number:02}.txt").write_text(faulty_sets.caption(number), "utf-8")
    began = time.monotonic()
    run_for(project, None)
    whole = time.monotonic() - began
    wanted = content(tmp_path / "clean")
    chance = random.Random(7)  # noqa: S311
    interrupted, tries = 0, 0
    while tries < KILLS or (not interrupted and tries < 4 * KILLS):
        tries += 1
        shutil.rmtree(tmp_path / "clean")
        for _ in range(chance.randint(1, 3)):
            run_for(project, chance.uniform(0.3, 1.0) * whole)
        interrupted += (tmp_path / "clean" / ".prepared.jsonl").exists()
        run_for(project, None)
        assert content(tmp_path / "clean") == wanted
    assert interrupted, f"none of {tries} was killed while images were made"


def run_for(project: Path, seconds: float | None) -> None:
    """Start it in a process group of its own, which is killed after this time."""
    command = [
        sys.executable,
        "-m",
        "lorabake",
        "prepare",
        str(project / "recipe.toml"),
        "--to",
        str(project.parent / "clean"),
    ]
    env = {**os.environ, "LORABAKE_HOME": str(project.parent / "home")}
    running = subprocess.Popen(
        command, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )
    try:
        running.wait(seconds)
    except subprocess.TimeoutExpired:
        os.killpg(running.pid, signal.SIGKILL)
        running.wait()
    else:
        assert running.returncode == 0


FAKE_PYTHON = """#!{python}
import json, sys
from PIL import Image
asked = json.load(open(sys.argv[2]))
if {answer!r} == {{"done": True}}:
    for small, large in asked["images"]:
        with Image.open(small) as image:
            Image.new("RGB", (image.width * 4, image.height * 4), (1, 2, 3)).save(large)
print("noise")
print(json.dumps({answer!r}))
"""


def fake_python(folder: Path, answer: object) -> Path:
    path = folder / "fake-python"
    path.write_text(FAKE_PYTHON.format(python=sys.executable, answer=answer), "utf-8")
    path.chmod(0o755)
    return path


def test_small_images_are_enlarged_by_the_weights_that_were_given(project: Path, tmp_path: Path) -> None:
    (project / "weights.pth").write_bytes(b"weights")
    picture(7, (300, 200)).save(project / "pictures" / "07.png")
    clear = picture(6, (200, 300)).convert("RGBA")
    clear.putalpha(Image.linear_gradient("L").resize(clear.size))
    clear.save(project / "pictures" / "06.png")
    flags = ("--upscaler", str(project / "weights.pth"), "--alpha", "keep", "--python")
    answers: list[dict[str, Any]] = [{"missing": "spandrel"}, {"error": "no weights"}, {}]
    for answer in answers:
        found = report(project, *flags, str(fake_python(tmp_path, answer)))
        assert found["error"]["exit_code"] == (4 if answer == {"missing": "spandrel"} else 1)
    found = report(project, *flags, str(fake_python(tmp_path, {"done": True})))
    assert steps(found) == {"upscaled": 2}
    clean = tmp_path / "clean"
    with Image.open(clean / "pictures" / "07.png") as image:
        assert image.getpixel((5, 5)) == (1, 2, 3)
        assert min(image.size) >= 512
    with Image.open(clean / "pictures" / "06.png") as image:
        assert image.mode == "RGBA"
    assert {path.name for path in clean.iterdir()} == {"pictures", "prepared.json", "recipe.toml"}
    again = report(project, *flags, str(fake_python(tmp_path, {"error": "not asked"})))
    assert (again["made"], again["kept"]) == (0, 8)
    (project / "weights.pth").write_bytes(b"other weights")
    assert report(project, *flags, str(fake_python(tmp_path, {"done": True})))["made"] == 2


def test_names_that_some_file_system_takes_for_one_are_told_apart(project: Path, tmp_path: Path) -> None:
    for number, stem in enumerate(("\u00e9", "e\u0301"), 30):
        (project / "pictures" / f"{stem}.png").write_bytes(encoded(number, "PNG"))
    report(project)
    names = [unicodedata.normalize("NFC", path.stem) for path in (tmp_path / "clean" / "pictures").glob("*.png")]
    assert len(set(names)) == len(names) == 10


@pytest.mark.parametrize("name", ["prepared", "recipe.schema.json", "recipe.toml", "\u00e9" * 120])
def test_a_folder_never_gets_the_name_of_another_file(project: Path, tmp_path: Path, name: str) -> None:
    (project / "recipe.toml").unlink()
    (project / "pictures").rename(project / name)
    table = {f"{number:02}.png": {"tags": f"lumtower, lighthouse, x{number}"} for number in range(8)}
    (project / "meta.json").write_text(json.dumps(table), "utf-8")
    text = faulty_sets.RECIPE.format(tags="danbooru", images=name, concept='metadata_file = "meta.json"', more="")
    path = project / "other.toml"
    path.write_text(f"#:schema recipe.schema.json\n{text}", "utf-8")
    for _ in range(2):
        done = CliRunner().invoke(main, ["prepare", str(path), "--to", str(tmp_path / "clean"), "--json"])
        assert json.loads(done.stdout)["errors"] == 0, done.stdout
    assert len(json.loads((tmp_path / "clean" / "prepared.json").read_text("utf-8"))["images"]) == 8


def test_duplicates_that_sd_scripts_does_not_look_for_are_left_out(project: Path) -> None:
    for name, kind in (("a.gif", "GIF"), ("b.gif", "GIF"), ("c.tiff", "TIFF"), ("d.tif", "TIFF")):
        (project / "pictures" / name).write_bytes(encoded(31, kind))
    found = report(project)
    assert (found["images"], reasons(found)) == (10, {"duplicate": 2})


def test_a_crop_has_its_text_in_a_metadata_file(project: Path, tmp_path: Path) -> None:
    table = {
        f"{number:02}.png": {"caption": "sea", "tags": "lumtower, lighthouse, multiple views"} for number in range(3)
    }
    (project / "meta.json").write_text(json.dumps(table), "utf-8")
    write_recipe(project, concept='metadata_file = "meta.json"')
    rows = "00.png,0,0,400,400,own,\n01.png,0,0,400,400,,from side\n02.png,,,,,,\n"
    (project / "crops.csv").write_text(f"image,left,top,right,bottom,caption,tags\n{rows}")
    report(project, "--crops", str(project / "crops.csv"))
    made = json.loads((tmp_path / "clean" / "pictures.json").read_text("utf-8"))
    assert made == {
        "00-1.png": {"caption": "lumtower, lighthouse, own"},
        "01-1.png": {"caption": "lumtower, lighthouse, sea", "tags": "lumtower, lighthouse, from side"},
        "02.png": {"caption": "lumtower, lighthouse, sea", "tags": "lumtower, lighthouse"},
    }
    write_recipe(project, concept='captions = "none"')
    assert report(project, "--crops", str(project / "crops.csv"), to="other")["error"]["exit_code"] == 1


def test_names_that_are_not_utf_8_are_kept(project: Path) -> None:
    (project / "pictures" / os.fsdecode(b"\xff.png")).write_bytes(encoded(31, "PNG"))
    report(project)
    assert report(project)["kept"] == 9


def test_a_folder_that_is_being_prepared_is_busy(project: Path, tmp_path: Path) -> None:
    """Also while its files come and go."""
    new = tmp_path / "clean"
    (new / "pictures").mkdir(parents=True)
    (new / ".prepared.jsonl").touch()
    (new / "pictures" / "00.png").write_bytes(b"just made")
    with try_lock(new / ".prepare.lock"):
        assert report(project)["error"]["exit_code"] == 5
