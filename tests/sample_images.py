"""Captioned images for tests that train or plan: the quickstart's, and drawn ones of other things."""

from __future__ import annotations

from pathlib import Path

from PIL import Image, ImageDraw

from lorabake.util import resources

COLOURS = ("red", "blue", "green", "yellow", "purple", "orange")


def write_lighthouses(folder: Path, count: int = 15) -> None:
    """The first ``count`` images of the quickstart with their captions."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in list(resources.read_sample_images().items())[: 2 * count]:
        (folder / name).write_bytes(content)


def draw_images(folder: Path, caption: str, count: int) -> None:
    """``count`` images, each with something else on it, and other ones for another caption, which theirs start with."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        turn = number + len(caption)
        colour, sky = COLOURS[turn % len(COLOURS)], COLOURS[(turn + number + 3) % len(COLOURS)]
        image = Image.new("RGB", (128, 136 - 8 * (number % 3)), sky)
        ImageDraw.Draw(image).ellipse((20 + number, 16, 90 + 2 * number, 100), fill=colour, outline="white", width=3)
        image.save(folder / f"image{number + 1:02d}.png")
        (folder / f"image{number + 1:02d}.txt").write_text(f"{caption}, {colour}, {sky} sky\n", encoding="utf-8")
