"""Draws small tagged picture sets, so that a first training needs no download and no pictures of one's own.

No fonts and no chance: the same call gives the same bytes with the same Pillow. Every scene is a fixed function of
its number, and its caption says only what was drawn.
"""

from __future__ import annotations

import io
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageDraw

from lorabake.errors import MachineError
from lorabake.util.files import exists
from lorabake_schemas.messages import msg

Colour = tuple[int, int, int]
Point = tuple[float, float]

FINE = 3  # drawn three times as large and scaled down, which smooths the edges
# At 64 px there is one bucket, a square: these lose less than a fifth to it (G2.10).
SIZES = ((128, 128), (144, 120), (120, 144), (160, 136), (136, 160), (152, 128), (128, 152))
SKIES: tuple[tuple[Colour, Colour, tuple[str, ...]], ...] = (
    ((92, 160, 232), (196, 226, 250), ("blue sky", "sun")),
    ((16, 20, 58), (52, 58, 112), ("night", "stars")),
    ((232, 110, 62), (252, 206, 120), ("sunset", "orange sky")),
    ((136, 144, 156), (196, 200, 206), ("grey sky", "clouds")),
)
GROUNDS: tuple[tuple[Colour, str], ...] = (
    ((30, 92, 140), "ocean"),
    ((88, 148, 62), "grass"),
    ((222, 196, 132), "beach"),
    ((236, 240, 246), "snow"),
    ((116, 106, 100), "rock"),
)
PAINTS: tuple[tuple[str, Colour], ...] = (
    ("red", (204, 44, 48)),
    ("blue", (38, 84, 184)),
    ("green", (36, 136, 84)),
    ("black", (40, 40, 46)),
    ("yellow", (240, 194, 42)),
    ("purple", (124, 64, 164)),
)
ANGLES = (0, 0, 7, 0, -9, 0, 0, 12)
HEIGHTS = ((0.62, ""), (0.42, "far away"), (0.8, ""), (0.98, "close-up"))  # share of the picture's height, and its tag
PLACES = (0.5, 0.34, 0.64, 0.5, 0.42)
WHITE: Colour = (244, 240, 232)
LAMP: Colour = (255, 236, 150)


@dataclass(frozen=True, slots=True)
class Scene:
    """Everything drawn in one picture, from its number: sizes in pixels, shares of the picture, degrees."""

    number: int

    @property
    def size(self) -> tuple[int, int]:
        return SIZES[self.number % len(SIZES)]

    @property
    def angle(self) -> int:
        return ANGLES[self.number % len(ANGLES)]

    @property
    def paint(self) -> tuple[str, Colour]:
        return PAINTS[self.number % len(PAINTS)]

    @property
    def tags(self) -> tuple[str, ...]:
        """Three to eight, and each of them to be seen."""
        _, size_tag = HEIGHTS[self.number // 2 % len(HEIGHTS)]
        _, ground = GROUNDS[self.number % len(GROUNDS)]
        said = (
            f"{self.paint[0]} stripes",
            *SKIES[self.number % len(SKIES)][2],
            ground,
            size_tag,
            "tilted" if self.angle else "",
        )
        return tuple(tag for tag in said if tag)


@dataclass(frozen=True, slots=True)
class Pen:
    """Draws in the subject's own space: x to the right and y up from its foot, its height being 1."""

    canvas: ImageDraw.ImageDraw
    foot: Point
    height: float
    angle: float

    def place(self, point: Point) -> Point:
        """A point of the subject in pixels of the canvas."""
        turn = math.radians(self.angle)
        x, y = point[0] * self.height, point[1] * self.height
        return (
            round(self.foot[0] + x * math.cos(turn) + y * math.sin(turn)),
            round(self.foot[1] + x * math.sin(turn) - y * math.cos(turn)),
        )

    def shape(self, colour: Colour, *points: Point) -> None:
        self.canvas.polygon([self.place(point) for point in points], fill=colour)

    def disc(self, colour: Colour, centre: Point, radius: float) -> None:
        (x, y), size = self.place(centre), round(radius * self.height)
        self.canvas.ellipse((x - size, y - size, x + size, y + size), fill=colour)


Painter = Callable[[Pen, Scene], None]


@dataclass(frozen=True, slots=True)
class Subject:
    """A thing that can be drawn. ``token`` is None for pictures of the class in general (regularization)."""

    token: str | None
    class_: str
    painter: Painter

    def caption(self, scene: Scene) -> str:
        """Instance token, class token, then what else is there: the order that the guide asks for."""
        return ", ".join((*((self.token,) if self.token else ()), self.class_, *scene.tags))


def _shade(colour: Colour, share: float) -> Colour:
    red, green, blue = (round(part * share) for part in colour)
    return red, green, blue


def _tower(pen: Pen, colour: Colour, widths: tuple[float, float], stripes: int) -> None:
    """A tapering tower of ``stripes`` bands up to three quarters of the height, its right side in shadow."""

    def half_width(y: float) -> float:
        return widths[0] + (widths[1] - widths[0]) * y / 0.75

    for band in range(stripes):
        low, high = 0.75 * band / stripes, 0.75 * (band + 1) / stripes
        shown = WHITE if band % 2 else colour
        left, right = half_width(low), half_width(high)
        pen.shape(shown, (-left, low), (left, low), (right, high), (-right, high))
        pen.shape(_shade(shown, 0.8), (left * 0.35, low), (left, low), (right, high), (right * 0.35, high))


def _lighthouse(pen: Pen, scene: Scene) -> None:
    """The thing to learn: a striped tower with a round lamp, an onion roof and a crooked little flag."""
    colour = scene.paint[1]
    _tower(pen, colour, (0.19, 0.11), 5)
    pen.shape((60, 56, 60), (-0.16, 0.75), (0.16, 0.75), (0.16, 0.79), (-0.16, 0.79))
    pen.disc(LAMP, (0, 0.835), 0.085)
    pen.disc(colour, (0, 0.905), 0.07)
    pen.shape(colour, (-0.07, 0.9), (0.07, 0.9), (0, 1.0))
    pen.shape(colour, (0, 1.0), (0.13, 0.985), (0.02, 0.94))
    pen.shape((70, 48, 40), (-0.05, 0), (0.05, 0), (0.05, 0.1), (-0.05, 0.1))
    for height in (0.32, 0.5):
        pen.disc((50, 60, 84), (0, height), 0.028)


def _balloon(pen: Pen, scene: Scene) -> None:
    """The second concept: a striped balloon with a basket, flying above its foot."""
    colour = scene.paint[1]
    for reach, shown in ((0.3, colour), (0.2, WHITE), (0.1, colour)):
        edge = [(reach * math.sin(math.pi * step / 24) ** 0.8, 1 - 0.66 * step / 24) for step in range(25)]
        pen.shape(shown, *edge, *((-x, y) for x, y in reversed(edge)))
    pen.shape((96, 72, 52), (-0.05, 0.36), (-0.03, 0.36), (-0.04, 0.24), (-0.06, 0.24))
    pen.shape((96, 72, 52), (0.05, 0.36), (0.03, 0.36), (0.04, 0.24), (0.06, 0.24))
    pen.shape((142, 98, 56), (-0.08, 0.25), (0.08, 0.25), (0.06, 0.12), (-0.06, 0.12))


def _plain_tower(pen: Pen, scene: Scene) -> None:
    """A lighthouse as others draw it: straight, a square lamp room, a pointed roof, no flag."""
    colour = scene.paint[1]
    _tower(pen, colour, (0.14, 0.14), 3)
    pen.shape(LAMP, (-0.09, 0.75), (0.09, 0.75), (0.09, 0.88), (-0.09, 0.88))
    pen.shape((70, 70, 76), (-0.13, 0.88), (0.13, 0.88), (0, 1.0))


LIGHTHOUSE = Subject("lumlighthouse", "lighthouse", _lighthouse)
BALLOON = Subject("skyballoon", "balloon", _balloon)
PLAIN_LIGHTHOUSE = Subject(None, "lighthouse", _plain_tower)


def _sky(canvas: ImageDraw.ImageDraw, width: int, height: int, scene: Scene) -> None:
    """A gradient from top to bottom, with what the scene's tags promise in it."""
    top, bottom, tags = SKIES[scene.number % len(SKIES)]
    for y in range(height):
        line = tuple(round(a + (b - a) * y / height) for a, b in zip(top, bottom, strict=True))
        canvas.line((0, y, width, y), fill=line)
    unit = height // 16
    if "sun" in tags or "sunset" in tags:
        x, y = (width - 3 * unit, 3 * unit) if "sun" in tags else (width // 6, height * 5 // 8)
        canvas.ellipse((x - unit, y - unit, x + unit, y + unit), fill=(255, 244, 190))
    for step in range(14 if "stars" in tags else 0):
        x, y, size = width * (37 * step % 97) // 97, height * (23 * step % 53) // 90, unit // 6 + 1
        canvas.ellipse((x - size, y - size, x + size, y + size), fill=(250, 250, 230))
    for step in range(5 if "clouds" in tags else 0):
        x, y = width * (step * 2 + 1) // 10, unit * (2 + step % 3)
        canvas.ellipse((x - 3 * unit, y - unit, x + 3 * unit, y + unit), fill=(222, 224, 230))


def paint(subject: Subject, scene: Scene) -> Image.Image:
    """One RGB picture of the scene's size."""
    width, height = (side * FINE for side in scene.size)
    picture = Image.new("RGB", (width, height))
    canvas = ImageDraw.Draw(picture)
    _sky(canvas, width, height, scene)
    ground = GROUNDS[scene.number % len(GROUNDS)][0]
    canvas.rectangle((0, height * 13 // 16, width, height), fill=ground)
    canvas.rectangle((0, height * 13 // 16, width, height * 13 // 16 + FINE), fill=_shade(ground, 1.06))
    tall = HEIGHTS[scene.number // 2 % len(HEIGHTS)][0] * height * 0.9
    place = PLACES[scene.number % len(PLACES)] * width
    subject.painter(Pen(canvas, (place, height * 0.93), tall, scene.angle), scene)
    return picture.resize(scene.size, Image.Resampling.LANCZOS)


def _write(file: Path, content: bytes) -> None:
    """Write aside and rename, so that a drawing cut short leaves no half a picture."""
    aside = file.with_name(file.name + ".part")
    aside.write_bytes(content)
    aside.replace(file)


def _draw_one(folder: Path, subject: Subject, scene: Scene) -> Path:
    file = folder / f"{subject.class_}{scene.number + 1:02d}.png"
    if not exists(file):
        stream = io.BytesIO()
        paint(subject, scene).save(stream, format="png", optimize=True)
        _write(file, stream.getvalue())
    caption = file.with_suffix(".txt")
    if not exists(caption):
        _write(caption, f"{subject.caption(scene)}\n".encode())
    return file


def draw(folder: Path, subject: Subject = LIGHTHOUSE, count: int = 15) -> tuple[Path, ...]:
    """Write ``count`` pictures (120 to 160 px a side) with a caption file each; the pictures' paths, in order.

    The folder is made when it is missing. A file that is there already stays as it is: somebody may have edited its
    caption. Raises MachineError when the folder cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        return tuple(_draw_one(folder, subject, Scene(number)) for number in range(count))
    except OSError as error:
        raise MachineError(
            msg("cannot write pictures to {folder}: {why}", folder=folder, why=error.strerror or str(error)),
            msg("choose a folder you may write to"),
        ) from error
