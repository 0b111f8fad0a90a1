"""Captioned images for tests that train or plan: the quickstart's, and drawn ones of other things."""

from __future__ import annotations

from pathlib import Path

from PIL import Image, ImageDraw

from lorabake.util import resources

COLOURS = ("red", "blue", "green", "yellow", "purple", "orange")

LAMP_RECIPE = """\
name = "lamp"
kind = "object"

[base]
model = "m.safetensors"
family = "sd15"
tags = "danbooru"

[[concept]]
token = "lumlamp"
class = "lamp"
images = "img"
"""  # it trains nothing: the base model does not exist


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


SKIES = {
    "blue sky": ((96, 160, 214), (226, 238, 240)),
    "sunset": ((74, 58, 110), (244, 164, 96)),
    "night": ((14, 20, 44), (52, 70, 110)),
    "fog": ((168, 176, 180), (224, 226, 224)),
}
GROUNDS = {"beach": (214, 190, 150), "grass": (96, 128, 78), "rock": (98, 94, 96), "snow": (232, 236, 240)}
STRIPES = {"red stripes": (178, 46, 40), "blue stripes": (38, 78, 140), "black stripes": (40, 40, 44)}
SIZES = ((768, 1152), (1216, 832), (1024, 1024), (900, 1400), (1600, 900), (640, 960), (1000, 760))


def draw_scenes(folder: Path, count: int, *, scale: float = 1.0) -> None:
    """``count`` painted lighthouses in several formats, each with the tags of what is on it; some captions have what
    people get wrong: underscores, a missing token, no commas, nothing."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        size = tuple(int(side * scale) for side in SIZES[number % len(SIZES)])
        sky, ground = list(SKIES)[number * 3 % 4], list(GROUNDS)[number * 5 % 7 % 4]
        stripes = list(STRIPES)[number % 3]
        image = _paint_scene((size[0], size[1]), SKIES[sky], GROUNDS[ground], STRIPES[stripes], number)
        image.save(folder / f"tower-{number + 1:03d}.jpg", quality=88)
        tags = ["lum", "lighthouse", stripes, sky, ground, *(["sea"] if number % 4 else []), "scenery"]
        tags += ["from below"] if size[1] > size[0] else ["wide shot"]
        tags += ["stars"] if sky == "night" else ["sun"] if sky != "fog" else []
        text = ", ".join(tag.replace(" ", "_") if number % 9 == 4 else tag for tag in tags)
        text = " ".join(tags) if number % 17 == 16 else text.removeprefix("lum, ") if number % 11 == 7 else text
        if number % 23 != 21:
            (folder / f"tower-{number + 1:03d}.txt").write_text(f"{text}\n", encoding="utf-8")


def _paint_scene(
    size: tuple[int, int],
    sky: tuple[tuple[int, int, int], tuple[int, int, int]],
    ground: tuple[int, int, int],
    stripes: tuple[int, int, int],
    number: int,
) -> Image.Image:
    width, height = size
    horizon, mask = int(height * 0.68), Image.linear_gradient("L").resize(size)
    image = Image.composite(Image.new("RGB", size, sky[1]), Image.new("RGB", size, sky[0]), mask)
    draw, unit = ImageDraw.Draw(image), min(size) / 100
    if sky is SKIES["night"]:
        for at in range(60):
            x, y = (at * 7919 + number * 101) % width, (at * 104729 + number * 31) % horizon
            draw.ellipse((x, y, x + unit * 0.5, y + unit * 0.5), fill=(220, 226, 240))
    elif sky is not SKIES["fog"]:
        across, down = width * (0.18 + number * 0.37 % 0.6), horizon * (0.3 + number * 0.23 % 0.45)
        sun = (across - 7 * unit, down - 7 * unit, across + 7 * unit, down + 7 * unit)
        draw.ellipse(sun, fill=(255, 240, 205))
    sea = tuple((2 * one + other) // 3 - 18 for one, other in zip(sky[0], sky[1], strict=True))
    draw.rectangle((0, horizon, width, height), fill=(sea[0], sea[1], sea[2]))
    middle = width * (0.3 + number * 0.29 % 0.42)
    draw.ellipse((middle - 62 * unit, height * 0.74, middle + 58 * unit, height * 1.3), fill=ground)
    top, foot = height * (0.2 + number * 0.17 % 0.2), height * 0.8
    for step in range(7):
        upper, lower = (top + (foot - top) * at / 7 for at in (step, step + 1))
        half, below = 6.5 * unit + step * 0.55 * unit, 6.5 * unit + (step + 1) * 0.55 * unit
        corners = [(middle - half, upper), (middle + half, upper), (middle + below, lower), (middle - below, lower)]
        draw.polygon(corners, fill=stripes if step % 2 else (242, 238, 230))
    draw.rectangle((middle - 5 * unit, top - 9 * unit, middle + 5 * unit, top), fill=(255, 226, 140))
    draw.rectangle((middle - 9 * unit, top - 1.5 * unit, middle + 9 * unit, top + unit), fill=(52, 48, 48))
    draw.polygon(
        [(middle - 7 * unit, top - 9 * unit), (middle, top - 17 * unit), (middle + 7 * unit, top - 9 * unit)],
        fill=stripes,
    )
    return image
