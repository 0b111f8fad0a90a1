"""Images of every kind: their headers as lorabake reads them, compared with what the real sd-scripts loads."""

from __future__ import annotations

import io
import json
import random
import subprocess
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from lorabake.inputs.dataset import scan_folder
from lorabake.trainer.install import Trainer
from lorabake.util.environment import make_child_env, read_environment
from lorabake_schemas.caches import get_header_size
from lorabake_schemas.dataset import ImageFacts

pytestmark = pytest.mark.real
LOADER = Path(__file__).with_name("load_odd_pictures.py")
TURNED = Image.Exif()
TURNED[0x0112] = 6
SIZE = (70, 40)


def noise(mode: str = "RGB", size: tuple[int, int] = SIZE) -> Image.Image:
    return Image.frombytes("RGB", size, random.Random(size[0]).randbytes(size[0] * size[1] * 3)).convert(mode)  # noqa: S311


def clear() -> Image.Image:
    image = noise("RGBA")
    image.putalpha(Image.linear_gradient("L").resize(SIZE))
    return image


def grey(value: int) -> Image.Image:
    return Image.frombytes("I;16", SIZE, value.to_bytes(2, "little") * (SIZE[0] * SIZE[1]))


PICTURES: dict[str, tuple[Image.Image, dict[str, Any]]] = {
    "plain.png": (noise(), {}),
    "grey.png": (noise("L"), {}),
    "black-and-white.png": (noise("1"), {}),
    "palette.png": (noise("P"), {}),
    "palette-clear.png": (noise("P"), {"transparency": 3}),
    "clear.png": (clear(), {}),
    "deep-grey.png": (grey(20_000), {}),
    "moving.png": (noise(), {"save_all": True, "append_images": [noise().rotate(180)]}),
    "turned.png": (noise(), {"exif": TURNED}),
    "plain.jpg": (noise(), {}),
    "grey.jpg": (noise("L"), {}),
    "print.jpg": (noise("CMYK"), {}),
    "progressive.jpg": (noise(), {"progressive": True}),
    "turned.jpg": (noise(), {"exif": TURNED}),
    "profile.jpg": (noise(), {"icc_profile": bytes(70_000)}),
    "plain.webp": (noise(), {}),
    "lossless.webp": (noise(), {"lossless": True}),
    "clear.webp": (clear(), {}),
    "clear-lossless.webp": (clear(), {"lossless": True}),
    "turned.webp": (noise(), {"exif": TURNED}),
    "moving.webp": (noise(), {"save_all": True, "append_images": [noise().rotate(180)]}),
    "one-pixel.webp": (clear().resize((1, 1)), {"exif": TURNED}),
    "plain.bmp": (noise(), {}),
    "palette.bmp": (noise("P"), {}),
}  # fmt: skip
NAMED_OTHERWISE = {"jpeg.png": "JPEG", "png.jpg": "PNG", "gif.png": "GIF", "tiff.png": "TIFF", "webp.jpg": "WEBP"}


def write(folder: Path) -> None:
    for name, (image, how) in PICTURES.items():
        image.save(folder / name, **how)
    for name, kind in NAMED_OTHERWISE.items():
        noise().save(folder / name, kind)
    for kind, ending in (("PNG", "png"), ("JPEG", "jpg"), ("WEBP", "webp"), ("BMP", "bmp")):
        into = io.BytesIO()
        noise().save(into, kind)
        whole = into.getvalue()
        (folder / f"cut.{ending}").write_bytes(whole[: len(whole) * 2 // 3])
        (folder / f"longer.{ending}").write_bytes(whole + b"what a camera adds")
    (folder / "text.png").write_text("this is no picture")


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory, trainer: Trainer) -> dict[str, tuple[ImageFacts, dict[str, Any]]]:
    """lorabake's and sd-scripts' results by the image's name."""
    folder = tmp_path_factory.mktemp("pictures")
    write(folder)
    ours = scan_folder(folder, ".txt").images
    to = folder.with_name("answer.json")
    paths = [str(folder / image.name) for image in ours]
    argv = [str(trainer.python), str(LOADER), str(to), *paths]
    done = subprocess.run(
        argv, cwd=trainer.checkout, env=make_child_env(read_environment()), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    theirs = json.loads(to.read_text(encoding="utf-8"))
    assert len(ours) == len(theirs) >= 35
    return {image.name: (image, answer) for image, answer in zip(ours, theirs, strict=True)}


Both = dict[str, tuple[ImageFacts, dict[str, Any]]]


def test_what_stops_it_is_a_problem_and_nothing_else_is(both: Both) -> None:
    stopped = {name for name, (_, theirs) in both.items() if theirs["failed"]}
    assert stopped == {"cut.png", "cut.jpg", "cut.webp", "cut.bmp", "text.png"}
    assert {name for name, (ours, _) in both.items() if ours.problem} == stopped


def test_every_size_is_what_it_takes_the_image_for(both: Both) -> None:
    sound = [(name, ours, theirs) for name, (ours, theirs) in both.items() if not ours.problem]
    assert [(name, get_header_size(ours)) for name, ours, _ in sound] == [
        (name, tuple(theirs["seen"])) for name, _, theirs in sound
    ]
    assert [(name, (ours.width, ours.height)) for name, ours, _ in sound] == [
        (name, tuple(theirs["size"])) for name, _, theirs in sound
    ]
    assert {name for name, ours, _ in sound if ours.seen} == {"clear.webp", "turned.webp", "moving.webp"}


def test_orientation_is_ignored(both: Both) -> None:
    for name in ("turned.jpg", "turned.png", "turned.webp"):
        assert both[name][0].orientation == 6
        assert both[name][1]["size"] == list(SIZE)


def test_sixteen_bits_of_grey_become_white(both: Both) -> None:
    ours, theirs = both["deep-grey.png"]
    assert (ours.mode, theirs["first"]) == ("I;16", [255, 255, 255])


def test_transparency_is_thrown_away(both: Both) -> None:
    hidden = clear().getpixel((0, 0))
    assert isinstance(hidden, tuple)
    assert both["clear.png"][0].alpha
    assert hidden[3] < 10
    assert both["clear.png"][1]["first"] == list(hidden[:3])


def test_the_first_frame_is_taken(both: Both) -> None:
    assert both["moving.png"][0].moving
    assert both["moving.png"][1]["first"] == list(noise().tobytes()[:3])
