"""Folders as sd-scripts sees them."""

from __future__ import annotations

import os
import struct
import zlib
from pathlib import Path

import pytest
from PIL import Image

from lorabake.inputs.dataset import scan_folder
from lorabake_schemas.caches import find_image_sizes, find_missized_images, find_reused_caches, get_header_size
from lorabake_schemas.dataset import CaptionProblem, FolderFacts, ImageFacts, parse_repeat_folder


def picture(path: Path, size: tuple[int, int] = (20, 10), mode: str = "RGB", caption: str | None = "tok") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size).save(path)
    if caption is not None:
        path.with_suffix(".txt").write_text(caption)


def names(facts: FolderFacts) -> list[str]:
    return [image.name for image in facts.images]


def one(facts: FolderFacts) -> ImageFacts:
    assert len(facts.images) == 1
    return facts.images[0]


def test_a_plain_folder_in_sd_scripts_order(tmp_path: Path) -> None:
    for name in ("b.png", "a10.jpg", "a2.webp", "Z.BMP", "c.JPEG"):
        picture(tmp_path / name)
    facts = scan_folder(tmp_path, ".txt")
    assert names(facts) == ["Z.BMP", "a10.jpg", "a2.webp", "b.png", "c.JPEG"]
    assert facts.problem is None
    assert facts.path == str(tmp_path)
    assert {(i.width, i.height, i.mode, i.alpha, i.problem) for i in facts.images} == {(20, 10, "RGB", False, None)}
    assert {i.caption.text for i in facts.images} == {"tok"}


def test_captions_of_another_extension_are_missing(tmp_path: Path) -> None:
    picture(tmp_path / "a.png")
    assert one(scan_folder(tmp_path, ".caption")).caption.problem is CaptionProblem.MISSING


@pytest.mark.skipif(os.name == "nt", reason="globbing is case-blind on Windows")
def test_look_alikes_are_ignored_and_named(tmp_path: Path) -> None:
    for name in ("a.Jpg", "b.gif", "c.TIFF", "d.jfif", "e.heic", "f.avif", "g.jxl", "h.txt", ".i.png", "j.tif.bak"):
        (tmp_path / name).write_bytes(b"x")
    facts = scan_folder(tmp_path, ".txt")
    assert facts.images == ()
    assert facts.ignored == ("a.Jpg", "b.gif", "c.TIFF", "d.jfif", "e.heic", "f.avif", "g.jxl")


def test_subfolders_are_named_not_entered(tmp_path: Path) -> None:
    picture(tmp_path / "10_token" / "a.png")
    picture(tmp_path / "more" / "b.jpg")
    picture(tmp_path / "0_zero" / "c.jpg")
    (tmp_path / "3_empty").mkdir()
    picture(tmp_path / "tree" / "1_coat" / "d.png")
    picture(tmp_path / "tree" / "deeper" / "still" / "e.png")
    facts = scan_folder(tmp_path, ".txt")
    assert facts.images == ()
    assert facts.subfolders == ("0_zero", "10_token", "more", "tree/1_coat")
    assert facts.repeat_folders == ("10_token", "tree/1_coat")


@pytest.mark.parametrize(
    ("mode", "suffix", "alpha"), [("RGBA", ".png", True), ("LA", ".png", True), ("L", ".jpg", False)]
)
def test_mode_and_alpha(tmp_path: Path, mode: str, suffix: str, *, alpha: bool) -> None:
    picture(tmp_path / f"a{suffix}", mode=mode)
    facts = one(scan_folder(tmp_path, ".txt"))
    assert (facts.mode, facts.alpha) == (mode, alpha)


def test_a_transparent_palette_has_alpha(tmp_path: Path) -> None:
    Image.new("P", (8, 8)).save(tmp_path / "a.png", transparency=0)
    assert one(scan_folder(tmp_path, ".txt")).alpha


def test_exif_rotation_is_ignored_as_in_sd_scripts(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (30, 10)).save(tmp_path / "a.jpg", exif=exif)
    assert (one(scan_folder(tmp_path, ".txt")).width, one(scan_folder(tmp_path, ".txt")).height) == (30, 10)


@pytest.mark.parametrize(("mode", "seen"), [("RGB", None), ("RGBA", (19, 9))])
def test_an_extended_webp_looks_one_pixel_smaller_to_sd_scripts(
    tmp_path: Path, mode: str, seen: tuple[int, int] | None
) -> None:
    picture(tmp_path / "a.webp", mode=mode)
    image = one(scan_folder(tmp_path, ".txt"))
    assert (image.width, image.height, image.seen) == (20, 10, seen)
    assert get_header_size(image) == (seen or (20, 10))


def test_the_content_counts_not_the_name(tmp_path: Path) -> None:
    Image.new("RGB", (9, 7)).save(tmp_path / "a.png", format="JPEG")
    assert (one(scan_folder(tmp_path, ".txt")).width, one(scan_folder(tmp_path, ".txt")).problem) == (9, None)


@pytest.mark.parametrize(
    ("content", "words"),
    [(b"", "empty"), (b"<html></html>", "not an image"), (b"\x89PNG\r\n\x1a\n", "not an image")],
)
def test_a_bad_header_is_a_fact(tmp_path: Path, content: bytes, words: str) -> None:
    (tmp_path / "a.png").write_bytes(content)
    facts = one(scan_folder(tmp_path, ".txt"))
    assert words in (facts.problem or "")
    assert (facts.width, facts.height) == (0, 0)


def test_a_image_too_large_for_pillow_is_a_fact(tmp_path: Path) -> None:
    header = struct.pack(">II5B", 60_000, 60_000, 8, 2, 0, 0, 0)
    chunk = struct.pack(">I", 13) + b"IHDR" + header + struct.pack(">I", zlib.crc32(b"IHDR" + header))
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n" + chunk + struct.pack(">I", 0) + b"IDAT" + bytes(4))
    assert "pixels" in (one(scan_folder(tmp_path, ".txt")).problem or "")


def test_a_folder_named_like_an_image_and_a_dead_link_are_facts(tmp_path: Path) -> None:
    (tmp_path / "a.png").mkdir()
    (tmp_path / "b.png").symlink_to(tmp_path / "nowhere")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    facts = scan_folder(tmp_path, ".txt")
    assert [image.problem for image in facts.images] == [
        "a folder with the name of an image",
        "a broken link",
    ]
    assert facts.problem is None


def test_a_missing_folder(tmp_path: Path) -> None:
    assert scan_folder(tmp_path / "none", ".txt").problem == "missing"


def test_a_file_instead_of_a_folder(tmp_path: Path) -> None:
    picture(tmp_path / "a.png")
    assert scan_folder(tmp_path / "a.png", ".txt").problem == "not a folder"


def test_a_path_that_no_system_takes() -> None:
    assert scan_folder(Path("a\0b"), ".txt").problem


@pytest.mark.usefixtures("ordinary")
def test_a_folder_without_permission(tmp_path: Path) -> None:
    (tmp_path / "x").mkdir(mode=0)
    assert scan_folder(tmp_path / "x", ".txt").problem == "not permitted"


def test_nothing_is_written(tmp_path: Path) -> None:
    picture(tmp_path / "a.png")
    before = [(p.name, p.stat().st_mtime_ns, p.read_bytes()) for p in sorted(tmp_path.iterdir())]
    scan_folder(tmp_path, ".txt")
    assert [(p.name, p.stat().st_mtime_ns, p.read_bytes()) for p in sorted(tmp_path.iterdir())] == before


# T9 of the guide's worked examples
@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("1_Hamburger", (1, "Hamburger")),
        ("10_Hamburger", (10, "Hamburger")),
        ("1_charactertag, outfittag", (1, "charactertag, outfittag")),
        ("5_a_b_c", (5, "a_b_c")),
        ("Raw", None),
        ("0_zero", None),
    ],
)
def test_repeat_folder(name: str, expected: tuple[int, str] | None) -> None:
    assert parse_repeat_folder(name) == expected


def test_sizes_come_from_the_names_of_latent_caches() -> None:
    images = tuple(ImageFacts(name, 100, 50) for name in ("1.png", "10.png", "b.png"))
    caches = ("10_0512x0768_sd.npz", "b_0640x0640_sdxl.npz", "b.npz")
    facts = FolderFacts("x", images, caches=caches)
    # 1.png takes the size of 10's cache: sd-scripts compares as many characters as the stem has
    assert find_image_sizes(facts, "_sd.npz") == ((512, 768), (512, 768), (100, 50))
    assert find_image_sizes(facts, "_sdxl.npz") == ((100, 50), (100, 50), (640, 640))
    assert find_image_sizes(FolderFacts("x", images), "_sd.npz") == ((100, 50),) * 3


def test_which_old_latents_would_be_trained_on() -> None:
    """Those that sd-scripts would look for by name: STEM.npz first, else with the size it assumes for the image."""
    images = tuple(ImageFacts(name, 100, 50) for name in ("1.png", "10.png", "b.png"))
    caches = ("10_0512x0768_sd.npz", "b_0640x0640_sd.npz", "b.npz", "c_0100x0050_sd.npz")
    facts = FolderFacts("x", images, caches=caches)
    assert find_reused_caches(facts, "_sd.npz") == ("10_0512x0768_sd.npz", "b.npz")
    assert find_reused_caches(facts, "_sdxl.npz") == ("b.npz",)
    assert find_missized_images(facts, "_sd.npz") == ("1.png", "10.png", "b.png")
    assert find_missized_images(facts, "_sdxl.npz") == find_reused_caches(FolderFacts("x", images), "_sd.npz") == ()


def test_a_cache_name_without_a_size_is_passed_over() -> None:
    facts = FolderFacts("x", (ImageFacts("a.png", 7, 5),), caches=("a_odd_sd.npz",))
    assert find_image_sizes(facts, "_sd.npz") == ((7, 5),)


def test_scan_lists_caches(tmp_path: Path) -> None:
    picture(tmp_path / "a.png")
    (tmp_path / "a_0020x0010_sd.npz").write_bytes(b"")
    assert scan_folder(tmp_path, ".txt").caches == ("a_0020x0010_sd.npz",)
