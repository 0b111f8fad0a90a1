"""A copy with edited captions: complete or not there, trainable, and the original as it was."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from lorabake.analysis.captioned_recipe import CaptionedRecipe, list_unread_images, read_captioned_recipe
from lorabake.analysis.tag_counts import tag_images
from lorabake.analysis.tag_edits import make_edit, select_images
from lorabake.errors import BusyError, MachineError, ResourceError
from lorabake.jobs.caption_copy import copy_dataset
from lorabake.jobs.caption_edits import EditPlan, plan_edits
from lorabake.recipe.load import load_recipe
from lorabake.util.files import copy_into

RECIPE = """# mine
name = "x"
kind = "object"
[base]
model = "models/m.safetensors"
family = "sd15"
[[concept]]
token = "lum"
class = "tower"
images = "pics"
[[concept]]
token = "k"
class = "cat"
images = "cats/pics"
masks = "masks"
[[regularization]]
class = "tower"
images = "reg"
"""


def write_project(root: Path) -> Path:
    for folder in ("pics", "cats/pics", "reg", "models", "masks"):
        (root / folder).mkdir(parents=True)
    (root / "models" / "m.safetensors").touch()
    for name, text in (("pics/a", b"lum, sea\r\n"), ("pics/b", b"lum, sky"), ("cats/pics/a", b"k, sea")):
        (root / f"{name}.png").write_bytes(name.encode())
        (root / f"{name}.txt").write_bytes(text)
    (root / "pics" / "c.png").write_bytes(b"no caption")
    path = root / "r.toml"
    path.write_text(RECIPE, encoding="utf-8")
    return path


def test_images_that_are_not_trained_are_listed(tmp_path: Path) -> None:
    path = write_project(tmp_path)
    for name in ("pics/d.gif", "cats/pics/e.Jpg", "reg/f.gif"):
        (tmp_path / name).write_bytes(b"GIF89a")
    read = read_captioned_recipe(path, (), {}, cache=False)
    assert list_unread_images(read) == {"pics": ("d.gif",), "cats/pics": ("e.Jpg",)}


def plan(path: Path) -> tuple[EditPlan, CaptionedRecipe]:
    read = read_captioned_recipe(path, (), {}, cache=False)
    table = tag_images(read.recipe, read.folders)
    return plan_edits(
        read, [make_edit("remove", "sea", table.spellings)], select_images(read.recipe, table, None, ())
    ), read


def snapshot(root: Path) -> dict[str, tuple[bytes, int]]:
    return {str(each): (each.read_bytes(), each.stat().st_mtime_ns) for each in root.rglob("*") if each.is_file()}


def test_a_copy_has_all_images_the_edited_captions_and_a_recipe_for_them(tmp_path: Path) -> None:
    path = write_project(tmp_path / "set")
    before = snapshot(tmp_path / "set")
    copied = copy_dataset(*plan(path), tmp_path / "new")
    assert snapshot(tmp_path / "set") == before
    loaded = load_recipe(copied)
    assert loaded.recipe is not None
    assert copied == tmp_path / "new" / "r.toml"
    assert copied.read_text().startswith("# mine\n")
    first, second = (
        {each.name: each.read_bytes() for each in (tmp_path / "new" / part.images).iterdir()}
        for part in loaded.recipe.concept
    )
    assert first == {
        "a.png": b"pics/a", "b.png": b"pics/b", "c.png": b"no caption", "a.txt": b"lum\r\n", "b.txt": b"lum, sky",
    }  # fmt: skip
    assert second == {"a.png": b"cats/pics/a", "a.txt": b"k"}
    for named in (loaded.recipe.base.model, loaded.recipe.concept[1].masks, loaded.recipe.regularization[0].images):
        assert named is not None
        assert (tmp_path / "new" / named).resolve().is_relative_to((tmp_path / "set").resolve())
        assert (tmp_path / "new" / named).exists()


def test_captions_of_the_copy_are_not_those_of_the_original(tmp_path: Path) -> None:
    path = write_project(tmp_path / "set")
    copied = copy_dataset(*plan(path), tmp_path / "new")
    for each in copied.parent.rglob("*.txt"):
        each.write_text("other")
    assert (tmp_path / "set" / "pics" / "b.txt").read_bytes() == b"lum, sky"


def test_writing_into_the_copy_leaves_the_original(tmp_path: Path) -> None:
    path = write_project(tmp_path / "set")
    before = snapshot(tmp_path / "set")
    copied = copy_dataset(*plan(path), tmp_path / "new")
    for each in copied.parent.rglob("*.png"):
        with each.open("ab") as file:
            file.write(b"more")
    assert snapshot(tmp_path / "set") == before


def test_a_folder_with_two_names_is_copied_once(tmp_path: Path) -> None:
    path = write_project(tmp_path / "set")
    (tmp_path / "set" / "link").symlink_to("pics")
    path.write_text(RECIPE.replace("cats/pics", "link"), encoding="utf-8")
    loaded = load_recipe(copy_dataset(*plan(path), tmp_path / "new"))
    assert loaded.recipe is not None
    assert {part.images for part in loaded.recipe.concept} == {"pics"}
    assert (tmp_path / "new" / "pics" / "a.txt").read_bytes() == b"lum\r\n"


@pytest.mark.parametrize("place", ["pics/new", "cats/pics/deep/new", "masks/new", "reg/new"])
def test_a_copy_in_the_dataset_is_refused(tmp_path: Path, place: str) -> None:
    path = write_project(tmp_path / "set")
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(MachineError):
        copy_dataset(*plan(path), tmp_path / "set" / place)
    assert sorted(tmp_path.rglob("*")) == before


def test_too_little_space(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_project(tmp_path / "set")

    def get_free_disk(_folder: Path) -> int:
        return 10

    monkeypatch.setattr("lorabake.util.machine.get_free_disk", get_free_disk)
    with pytest.raises(ResourceError):
        copy_dataset(*plan(path), tmp_path / "new")


def test_folders_of_others_stay(tmp_path: Path) -> None:
    path = write_project(tmp_path / "set")
    mine = tmp_path / ".new.lorabake-part" / "mine"
    mine.parent.mkdir()
    mine.touch()
    with pytest.raises(MachineError):
        copy_dataset(*plan(path), tmp_path / "new")
    assert mine.exists()


def test_a_folder_that_exists_is_not_touched(tmp_path: Path) -> None:
    path = write_project(tmp_path / "set")
    (tmp_path / "new").mkdir()
    with pytest.raises(MachineError):
        copy_dataset(*plan(path), tmp_path / "new")
    assert list((tmp_path / "new").iterdir()) == []


def test_interrupted_and_repeated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_project(tmp_path / "set")

    def interrupt(*_: object) -> str:
        raise KeyboardInterrupt

    monkeypatch.setattr("lorabake.jobs.caption_copy.rewrite_recipe", interrupt)
    with pytest.raises(KeyboardInterrupt):
        copy_dataset(*plan(path), tmp_path / "new")
    assert not (tmp_path / "new").exists()
    monkeypatch.undo()
    copy_dataset(*plan(path), tmp_path / "new")
    assert sorted(each.name for each in tmp_path.iterdir()) == ["new", "set"]


def test_captions_in_a_metadata_file(tmp_path: Path) -> None:
    path = write_project(tmp_path / "set")
    path.write_text(RECIPE.replace('images = "pics"', 'images = "pics"\nmetadata_file = "meta.json"'))
    image = tmp_path / "set" / "pics" / "a.png"
    (tmp_path / "set" / "meta.json").write_text(f'{{"{image}": {{"tags": "lum, sea"}}}}')
    loaded = load_recipe(copy_dataset(*plan(path), tmp_path / "new"))
    assert loaded.recipe is not None
    assert (tmp_path / "new" / "meta.json").read_text() == f'{{"{image}": {{"tags": "lum"}}}}'
    assert loaded.recipe.concept[0].metadata_file == "meta.json"
    assert (tmp_path / "new" / loaded.recipe.concept[0].images).samefile(tmp_path / "set" / "pics")


def test_two_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second one stops, and the first one's copy is complete."""
    path = write_project(tmp_path / "set")

    def meanwhile(*given: Any, **named: Any) -> None:
        with pytest.raises(BusyError):
            copy_dataset(*plan(path), tmp_path / "deep" / "new")
        copy_into(*given, **named)

    monkeypatch.setattr("lorabake.jobs.caption_copy.copy_into", meanwhile)
    copied = copy_dataset(*plan(path), tmp_path / "deep" / "new")
    assert len(list(copied.parent.rglob("*.png"))) == 4
    assert [each.name for each in copied.parent.parent.iterdir()] == ["new"]


def test_a_link_that_leads_nowhere_is_not_replaced(tmp_path: Path) -> None:
    path = write_project(tmp_path / "set")
    (tmp_path / "new").symlink_to("nowhere")
    with pytest.raises(MachineError):
        copy_dataset(*plan(path), tmp_path / "new")
    assert {each.name for each in tmp_path.iterdir()} == {"set", "new"}
