"""sd-scripts' own WD14 script, with a model of 10 tags that sees the mean color of an image."""

from __future__ import annotations

import os
import subprocess
import sys
from base64 import b64decode
from pathlib import Path

import pytest
from PIL import Image

from lorabake.trainer.install import Trainer
from sample_images import LAMP_RECIPE

PACKAGES = os.environ.get("LORABAKE_TEST_PACKAGES", "")
# onnx 1.23: Sigmoid(ReduceMean(input, axes=[1, 2]) @ W + b), input N x 448 x 448 x 3 in BGR, output N x 10.
MODEL = b64decode(
    "CAg67QIKNgoFaW5wdXQSAW0iClJlZHVjZU1lYW4qDQoEYXhlc0ABQAKgAQcqDwoIa2VlcGRpbXMYAKABAgoRCgFtCgFXEgF4IgZN"
    "YXRNdWwKDgoBeAoBYhIBeSIDQWRkChQKAXkSBm91dHB1dCIHU2lnbW9pZBICd2QqgwEIAwgKEAFCAVdKeAAAAAAAAAAAAAAAAAAA"
    "AAAAAAAAAAAAAM3MzD0AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAM3MzD0AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
    "AAAAAAAAAM3MzD0AAAAAAAAAAAAAAAAAAAAAzczMPSoxCAoQAUIBYkooAABAQAAAoMAAAKDAAACgwAAAIMEAACDBAAAgwQAAoEAA"
    "AABAAAAgwVoiCgVpbnB1dBIZChcIARITCgMSAU4KAwjAAwoDCMADCgIIA2IZCgZvdXRwdXQSDwoNCAESCQoDEgFOCgIICkIECgAQ"
    "DQ=="
)
TAGS = """\
tag_id,name,category,count
0,general,9,9
1,sensitive,9,9
2,questionable,9,9
3,explicit,9,9
4,red_background,0,9
5,green_background,0,9
6,blue_background,0,9
7,^_^,0,9
8,simple_background,0,9
9,lum_(series),4,9
"""


@pytest.mark.real
@pytest.mark.skipif(
    not PACKAGES, reason="LORABAKE_TEST_PACKAGES is not set: a folder with onnx and onnxruntime (pip install --target)"
)
def test_its_tags_become_captions(tmp_path: Path, trainer: Trainer) -> None:
    """The red image has a character's tag, at which the script would stop."""
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights/model.onnx").write_bytes(MODEL)
    (tmp_path / "weights/selected_tags.csv").write_text(TAGS)
    (tmp_path / "img").mkdir()
    for name, color in {"red": (250, 9, 9), "green": (9, 250, 9), "blue": (9, 9, 250)}.items():
        Image.new("RGB", (600, 400), color).save(tmp_path / "img" / f"{name}.png")
    (tmp_path / "r.toml").write_text(LAMP_RECIPE)
    named = ("--sd-scripts", str(trainer.checkout), "--python", str(trainer.python))
    options = ("--weights", "weights", "--packages", PACKAGES, *named)
    done = subprocess.run(
        [sys.executable, "-m", "lorabake", "caption", "r.toml", "--with", "wd14", *options],
        cwd=tmp_path,
        env={**os.environ, "LORABAKE_HOME": str(tmp_path / "home"), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    for name in ("red", "green", "blue"):
        text = (tmp_path / "img" / f"{name}.txt").read_text()
        assert text == f"lumlamp, lamp, {name} background, ^_^, simple background\n"
