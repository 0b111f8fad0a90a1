"""All folders of a recipe at once: cached facts, equal and similar images, stray files, and what only the pixels
show.
"""

from __future__ import annotations

import os
import random
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
from PIL import Image

from lorabake.inputs import dataset
from lorabake.inputs.dataset import ImageFolder, ScanOptions, scan_folder, scan_folders
from lorabake.inputs.survey import find_long_captions, read_dataset
from lorabake_schemas.dataset import (
    CaptionFacts,
    CaptionProblem,
    DatasetFacts,
    DuplicateGroup,
    FolderFacts,
    ImageFacts,
    ImageRef,
    LongCaption,
)
from lorabake_schemas.recipe import Recipe
from situations import recipe


def drawn(number: int, size: tuple[int, int] = (96, 64)) -> Image.Image:
    """Coarse squares that only this number gives."""
    dice = random.Random(number)  # noqa: S311
    return Image.frombytes("RGB", (8, 8), dice.randbytes(192)).resize(size, Image.Resampling.NEAREST)


def picture(path: Path, number: int, caption: str | None = "tok") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    drawn(number).save(path)
    if caption is not None:
        path.with_suffix(".txt").write_text(caption, "utf-8")
    return path


@pytest.fixture
def later(monkeypatch: pytest.MonkeyPatch) -> None:
    """A minute later than it is, so that files written just now count as settled."""
    now = time.time_ns
    monkeypatch.setattr("lorabake.inputs.dataset.time.time_ns", lambda: now() + 60_000_000_000)


def only(facts: DatasetFacts) -> FolderFacts:
    assert len(facts.concepts) == 1
    return facts.concepts[0]


class Opened:
    """Counts the files under a folder that are opened, by the interpreter's own audit events."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.names, self.on = str(folder), list[str](), False
        sys.addaudithook(self)

    def __call__(self, event: str, args: tuple[object, ...]) -> None:
        if self.on and event == "open" and str(args[0]).startswith(self.folder):
            self.names.append(Path(str(args[0])).name)

    def __enter__(self) -> Opened:
        self.names, self.on = [], True
        return self

    def __exit__(self, *_: object) -> None:
        self.on = False


# what is kept


@pytest.mark.usefixtures("later")
def test_a_second_look_opens_nothing_and_says_the_same(tmp_path: Path) -> None:
    for number in range(5):
        picture(tmp_path / "pics" / f"{number}.png", number, f"tok, {number}, ação")
    clear = drawn(9).convert("RGBA")
    clear.putalpha(200)
    clear.save(tmp_path / "pics" / "9.webp")
    (tmp_path / "pics" / "9.txt").write_text("tok")
    how, opened = ScanOptions(tmp_path / "store"), Opened(tmp_path / "pics")
    with opened:
        first = scan_folders([ImageFolder(tmp_path / "pics")], [], how)
    assert len(opened.names) >= 11
    with opened:
        second = scan_folders([ImageFolder(tmp_path / "pics")], [], how)
    assert opened.names == []
    assert second == first == scan_folders([ImageFolder(tmp_path / "pics")], [], ScanOptions())
    assert [image.seen for image in only(second).images] == [None] * 5 + [(95, 63)]


@pytest.mark.usefixtures("later")
def test_only_what_changed_is_read_again(tmp_path: Path) -> None:
    for number in range(5):
        picture(tmp_path / "pics" / f"{number}.png", number)
    how, opened = ScanOptions(tmp_path / "store"), Opened(tmp_path / "pics")
    scan_folders([ImageFolder(tmp_path / "pics")], [], how)
    (tmp_path / "pics" / "2.txt").write_text("another")
    drawn(3, (48, 32)).save(tmp_path / "pics" / "3.png")
    (tmp_path / "pics" / "4.png").rename(tmp_path / "pics" / "7.png")
    with opened:
        found = only(scan_folders([ImageFolder(tmp_path / "pics")], [], how))
    assert sorted(set(opened.names)) == ["2.txt", "3.png", "7.png"]
    assert [image.name for image in found.images] == ["0.png", "1.png", "2.png", "3.png", "7.png"]
    assert (found.images[2].caption.text, found.images[3].width) == ("another", 48)
    assert found.images[4].caption.problem is CaptionProblem.MISSING
    assert found.orphans == ("4.txt",)


def test_what_was_written_just_now_is_not_kept(tmp_path: Path) -> None:
    picture(tmp_path / "pics" / "0.png", 0)
    how, opened = ScanOptions(tmp_path / "store"), Opened(tmp_path / "pics")
    scan_folders([ImageFolder(tmp_path / "pics")], [], how)
    with opened:
        scan_folders([ImageFolder(tmp_path / "pics")], [], how)
    assert sorted(set(opened.names)) == ["0.png", "0.txt"]


@pytest.mark.usefixtures("later")
def test_a_fault_is_looked_at_each_time(tmp_path: Path) -> None:
    (tmp_path / "pics").mkdir()
    (tmp_path / "pics" / "0.png").write_bytes(b"nothing")
    how, opened = ScanOptions(tmp_path / "store"), Opened(tmp_path / "pics")
    for _ in range(2):
        with opened:
            assert only(scan_folders([ImageFolder(tmp_path / "pics")], [], how)).images[0].problem
        assert "0.png" in opened.names


@pytest.mark.usefixtures("later")
def test_a_store_full_of_nonsense_is_not_believed(tmp_path: Path) -> None:
    picture(tmp_path / "pics" / "0.png", 0)
    how = ScanOptions(tmp_path / "store")
    first = scan_folders([ImageFolder(tmp_path / "pics")], [], how)
    (tmp_path / "store").write_bytes(b"nonsense" * 1000)
    assert scan_folders([ImageFolder(tmp_path / "pics")], [], how) == first


@pytest.mark.usefixtures("later")
def test_nothing_in_the_folders_is_touched(tmp_path: Path) -> None:
    for number in range(3):
        picture(tmp_path / "pics" / f"{number}.png", number)
    before = [(path.name, path.stat().st_mtime_ns, path.read_bytes()) for path in sorted((tmp_path / "pics").iterdir())]
    scan_folders([ImageFolder(tmp_path / "pics")], [], ScanOptions(tmp_path / "store", deep=True))
    after = [(path.name, path.stat().st_mtime_ns, path.read_bytes()) for path in sorted((tmp_path / "pics").iterdir())]
    assert after == before


def test_how_far_it_is_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dataset, "PROGRESS_INTERVAL", 3)
    for number in range(8):
        picture(tmp_path / ("a" if number < 5 else "b") / f"{number}.png", number)
    told = list[tuple[int, int]]()
    how = ScanOptions(progress=lambda done, total: told.append((done, total)))
    scan_folders([ImageFolder(tmp_path / "a")], [ImageFolder(tmp_path / "b")], how)
    assert told == [(3, 8), (6, 8), (8, 8)]


# equal and alike pictures


def twins(tmp_path: Path, *, deep: bool = False, store: Path | None = None) -> tuple[DuplicateGroup, ...]:
    folders = sorted(path for path in tmp_path.iterdir() if path.is_dir() and not path.name.startswith("reg"))
    reg = [tmp_path / "reg"] if (tmp_path / "reg").exists() else []
    concepts, others = ([ImageFolder(each) for each in those] for those in (folders, reg))
    return scan_folders(concepts, others, ScanOptions(store, deep=deep)).twins


def at(index: int, name: str) -> ImageRef:
    return ImageRef("concept", index, name)


@pytest.mark.usefixtures("later")
def test_equal_files_are_found_within_and_between_folders(tmp_path: Path) -> None:
    for place, number in (("a/1", 1), ("a/2", 2), ("a/3", 1), ("b/1", 3), ("b/9", 2), ("reg/x", 1), ("reg/y", 4)):
        picture(tmp_path / f"{place}.png", number)
    wanted = {
        (at(0, "1.png"), at(0, "3.png"), ImageRef("regularization", 0, "x.png")),
        (at(0, "2.png"), at(1, "9.png")),
    }
    for _ in range(2):
        found = twins(tmp_path, store=tmp_path / "store")
        assert {each.places for each in found} == wanted
        assert not any(each.near for each in found)


def test_files_that_begin_alike_and_are_equally_long_are_compared(tmp_path: Path) -> None:
    for name, last in (("1", b"a"), ("2", b"b"), ("3", b"a")):
        path = picture(tmp_path / "a" / f"{name}.png", 1)
        path.write_bytes(path.read_bytes() + bytes(5000) + last)
    assert [each.places for each in twins(tmp_path)] == [(at(0, "1.png"), at(0, "3.png"))]


def test_a_folder_that_is_there_twice_has_no_twins_in_itself(tmp_path: Path) -> None:
    picture(tmp_path / "a" / "1.png", 1)
    (tmp_path / "b").symlink_to(tmp_path / "a")
    assert twins(tmp_path) == twins(tmp_path, deep=True) == ()


def test_alike_images_are_found_by_a_deep_look(tmp_path: Path) -> None:
    for number in range(12):
        picture(tmp_path / "a" / f"{number:02}.png", number)
    drawn(3).resize((80, 53)).save(tmp_path / "a" / "x.jpg", quality=70)
    drawn(3).rotate(180).save(tmp_path / "a" / "y.png")
    drawn(4).convert("L").save(tmp_path / "a" / "z.png")
    picture(tmp_path / "b" / "1.png", 5)
    assert [each.places for each in twins(tmp_path)] == [(at(0, "05.png"), at(1, "1.png"))]
    same, near = twins(tmp_path, deep=True)
    assert (same.near, near.near) == (False, True)
    assert near.places == (at(0, "03.png"), at(0, "x.jpg"))


def test_flat_images_are_alike_when_their_colour_is(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    for name, colour in (("1", (200, 0, 0)), ("2", (202, 0, 1)), ("3", (0, 200, 0))):
        Image.new("RGB", (40, 40), colour).save(tmp_path / "a" / f"{name}.png")
    assert [each.places for each in twins(tmp_path, deep=True)] == [(at(0, "1.png"), at(0, "2.png"))]


# what only the pixels tell


@pytest.mark.usefixtures("later")
def test_a_image_that_cannot_be_decoded(tmp_path: Path) -> None:
    path = picture(tmp_path / "a" / "1.png", 1)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0xFF
    path.write_bytes(bytes(data))
    assert only(scan_folders([ImageFolder(tmp_path / "a")], [], ScanOptions())).images[0].problem is None
    for _ in range(2):
        found = scan_folders([ImageFolder(tmp_path / "a")], [], ScanOptions(tmp_path / "store", deep=True))
        assert "damaged" in (only(found).images[0].problem or "")


def test_alpha_without_transparency_is_opaque(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    solid, clear = drawn(1).convert("RGBA"), drawn(2).convert("RGBA")
    clear.putalpha(200)
    solid.save(tmp_path / "a" / "1.png")
    clear.save(tmp_path / "a" / "2.png")
    drawn(3).convert("P").save(tmp_path / "a" / "3.png", transparency=250)
    drawn(4).save(tmp_path / "a" / "4.png")
    images = only(scan_folders([ImageFolder(tmp_path / "a")], [], ScanOptions(deep=True))).images
    assert [(image.alpha, image.opaque) for image in images][:2] == [(True, True), (True, False)]
    assert (images[3].alpha, images[3].opaque) == (False, False)


# pictures by their structure


@pytest.mark.parametrize(("ending", "kind"), [("png", "PNG"), ("jpg", "JPEG"), ("webp", "WEBP"), ("bmp", "BMP")])
def test_a_file_that_is_cut_off(tmp_path: Path, ending: str, kind: str) -> None:
    path = tmp_path / f"a.{ending}"
    drawn(1).save(path, kind)
    whole = path.read_bytes()
    for share in (0.5, 0.9):
        path.write_bytes(whole[: int(len(whole) * share)])
        assert "cut off" in (scan_folder(tmp_path, ".txt").images[0].problem or "")
    path.write_bytes(whole)
    assert scan_folder(tmp_path, ".txt").images[0].problem is None


@pytest.mark.parametrize(("ending", "kind"), [("png", "PNG"), ("jpg", "JPEG"), ("bmp", "BMP")])
def test_what_a_camera_adds_behind_a_image_does_no_harm(tmp_path: Path, ending: str, kind: str) -> None:
    path = tmp_path / f"a.{ending}"
    drawn(1).save(path, kind)
    path.write_bytes(path.read_bytes() + b"a trailer of some camera")
    found = scan_folder(tmp_path, ".txt").images[0]
    assert (found.problem, found.format, found.width) == (None, kind, 96)


def test_what_a_image_is_by_its_content(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 8
    drawn(1).save(tmp_path / "a.png", "JPEG", exif=exif)
    drawn(1).save(tmp_path / "b.png", "GIF", save_all=True, append_images=[drawn(2)])
    drawn(1).convert("CMYK").save(tmp_path / "c.jpg")
    Image.new("I;16", (9, 9), 300).save(tmp_path / "d.png")
    drawn(1).save(tmp_path / "e.webp", save_all=True, append_images=[drawn(2)])
    facts = [(i.format, i.mode, i.orientation, i.moving) for i in scan_folder(tmp_path, ".txt").images]
    assert facts == [
        ("JPEG", "RGB", 8, False), ("GIF", "P", 1, True), ("JPEG", "CMYK", 1, False), ("PNG", "I;16", 1, False),
        ("WEBP", "RGB", 1, True),
    ]  # fmt: skip


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_a_pipe_with_a_images_name_holds_nobody_up(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.png")
    os.mkfifo(tmp_path / "a.txt")
    found = scan_folder(tmp_path, ".txt").images[0]
    assert "not a file or a folder" in (found.problem or "")
    assert found.caption.problem is CaptionProblem.MISSING


# stray files


def strays(folder: Path, *names: str, ending: str = ".txt") -> FolderFacts:
    folder.mkdir(exist_ok=True)
    for name in names:
        if name.endswith((".png", ".PNG")):
            drawn(len(name)).save(folder / name, "PNG")
        else:
            (folder / name).write_text("tok", "utf-8")
    return scan_folder(folder, ending)


@pytest.mark.skipif(os.name == "nt", reason="names are case-blind on Windows")
def test_captions_that_no_image_reads(tmp_path: Path) -> None:
    found = strays(
        tmp_path / "a", "1.png", "1.TXT", "2.png", "2.txt", "2.caption", "3.txt", "B.PNG", "b.txt", "x.caption"
    )
    assert (found.orphans, found.miscased, found.others) == (("3.txt",), ("1.TXT", "b.txt"), ("2.caption",))


def test_a_caption_that_another_image_borrows_is_no_orphan(tmp_path: Path) -> None:
    found = strays(tmp_path / "a", "k_a_b_c_1.png", "k.txt", "q.txt")
    assert Path(found.images[0].caption.borrowed_from or "").name == "k.txt"
    assert found.orphans == ("q.txt",)


def test_an_ending_of_two_parts(tmp_path: Path) -> None:
    found = strays(tmp_path / "a", "1.png", "1.tags.txt", "1.txt", "2.tags.txt", ending=".tags.txt")
    assert found.images[0].caption.text == "tok"
    assert (found.orphans, found.others) == (("2.tags.txt",), ("1.txt",))


def test_hidden_images_are_named(tmp_path: Path) -> None:
    found = strays(tmp_path / "a", "1.png", ".2.png", "._1.png", ".notes")
    assert (found.hidden, found.ignored) == ((".2.png",), ())


# captions in tokens


def long_captions(of: Recipe, images: Sequence[ImageFacts]) -> tuple[LongCaption, ...]:
    return find_long_captions(of.concept[0], of, images)


def test_captions_beyond_the_limit_with_prefix_and_suffix() -> None:
    words = " ".join(["cat"] * 73)
    images = [ImageFacts("1.png", caption=CaptionFacts(words)), ImageFacts("2.png", caption=CaptionFacts("cat"))]
    short = {"max_token_length": 75}
    assert long_captions(recipe(train=short), images) == ()
    both = recipe(train=short, captions={"caption_prefix": "good,", "caption_suffix": ", end"})
    assert long_captions(both, images) == (LongCaption("1.png", 77),)
    assert long_captions(recipe(captions={"caption_prefix": "good,", "caption_suffix": ", end"}), images) == ()


def test_the_facts_of_a_recipe(tmp_path: Path) -> None:
    picture(tmp_path / "pics" / "1.png", 1, "tok, " + "cat, " * 200)
    made = recipe(concept={"token": "hamburger"}, regularization=[{"class": "food", "images": "none"}])
    found = read_dataset(made, tmp_path, ScanOptions())
    assert (only(found).path, only(found).overlong) == ("pics", (LongCaption("1.png", 402),))
    assert found.known_tokens == ("hamburger", "tok")
    assert (found.regularization[0].path, found.regularization[0].problem) == ("none", "missing")
