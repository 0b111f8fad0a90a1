"""The sheet: one HTML file with every image, its crop and its findings, whatever strangers have written."""

from __future__ import annotations

import io
import re
from base64 import b64decode
from html.parser import HTMLParser
from pathlib import Path

import pytest
from PIL import Image

from languages import Backwards
from lorabake.analysis.check import CheckResult, check_recipe
from lorabake.analysis.sheet import Sheet, make_sheet
from lorabake.commands.output.sheet import format_sheet, write_sheet
from lorabake.errors import MachineError
from lorabake.inputs.thumbnails import choose_thumbnail_size, make_thumbnails
from lorabake.util.i18n import ENGLISH, Translator
from situations import CPU

RECIPE = """name = "lum"
kind = "object"
[base]
model = "m.safetensors"
family = "sd15"
[[concept]]
token = "lum"
class = "tower"
images = "pics"
"""


def write_images(root: Path, captions: dict[str, str | None], size: tuple[int, int] = (600, 400)) -> None:
    (root / "pics").mkdir()
    for name, text in captions.items():
        Image.new("RGB", size, "teal").save(root / "pics" / name)
        if text is not None:
            (root / "pics" / name).with_suffix(".txt").write_text(text, encoding="utf-8")


def check(root: Path, recipe: str = RECIPE) -> CheckResult:
    (root / "r.toml").write_text(recipe, encoding="utf-8")
    return check_recipe(root / "r.toml", CPU, rehearsing=True)


def page_of(sheet: Sheet, words: Translator = ENGLISH) -> str:
    return "".join(format_sheet(sheet, words))


class _Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags = list[tuple[str, dict[str, str]]]()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, {name: value or "" for name, value in attrs}))


def parse(page: str) -> list[tuple[str, dict[str, str]]]:
    parser = _Tags()
    parser.feed(page)
    return parser.tags


def test_every_image_is_in_it_as_a_small_jpeg(tmp_path: Path) -> None:
    write_images(tmp_path, {f"{at}.png": f"lum, tower, tag {at}" for at in range(3)})
    images = [given for tag, given in parse(page_of(make_sheet(check(tmp_path), None))) if tag == "img"]
    assert [each["alt"] for each in images] == ["0.png", "1.png", "2.png"]
    kind, data = images[0]["src"].split(",", 1)
    assert kind == "data:image/jpeg;base64"
    with Image.open(io.BytesIO(b64decode(data))) as small:
        assert small.size == (int(images[0]["width"]), int(images[0]["height"])) == (512, 341)


def test_the_crop_of_the_bucket_is_drawn(tmp_path: Path) -> None:
    write_images(tmp_path, {"a.png": "lum, tower"}, size=(1000, 500))
    (image,) = make_sheet(check(tmp_path), None).concepts[0].images
    (fit,) = image.fits
    page = page_of(make_sheet(check(tmp_path), None))
    frame = next(given for tag, given in parse(page) if tag == "rect")
    assert fit.resized != fit.bucket
    assert float(frame["width"]) == pytest.approx(512 * fit.bucket[0] / fit.resized[0], abs=0.6)
    assert float(frame["height"]) == pytest.approx(256 * fit.bucket[1] / fit.resized[1], abs=0.6)
    assert f"{fit.bucket[0]}\u00d7{fit.bucket[1]}" in page


def test_each_resolution_has_a_frame(tmp_path: Path) -> None:
    write_images(tmp_path, {"a.png": "lum, tower"}, size=(1000, 620))
    sheet = make_sheet(check(tmp_path, f"{RECIPE}[train]\nresolutions = [512, 768]\n"), None)
    assert len(sheet.concepts[0].images[0].fits) == 2
    assert sum(tag == "rect" for tag, _ in parse(page_of(sheet))) == 2


def test_findings_are_on_the_images_that_they_name(tmp_path: Path) -> None:
    captions: dict[str, str | None] = {f"{at}.png": f"lum, tower, t{at}" for at in range(6)}
    captions |= {f"d{at}.png": "lum, tower, sea, sea" for at in range(9)}
    write_images(tmp_path, captions | {f"m{at}.png": None for at in range(5)} | {"x.png": "t9, lum"})
    sheet = make_sheet(check(tmp_path), None)
    named: dict[str, set[str]] = {}
    for image in sheet.concepts[0].images:
        for at in image.findings:
            named.setdefault(sheet.findings[at].rule, set()).add(image.facts.name)
    assert named["G3.3"] == {f"m{at}.png" for at in range(5)}  # also those that the list only counts
    assert named["G3.10"] == {"x.png"}
    assert named["G3.18.twice"] == {f"d{at}.png" for at in range(9)}  # listed in what to do


def test_a_recipe_with_errors_has_a_sheet(tmp_path: Path) -> None:
    write_images(tmp_path, {"a.png": "lum, tower", "b.png": ""})
    result = check(tmp_path)
    assert result.plan is None
    (tmp_path / "pics" / "0.png").write_bytes(b"no image")
    images = make_sheet(check(tmp_path), None).concepts[0].images
    assert [(each.facts.name, len(each.fits)) for each in images] == [("0.png", 0), ("a.png", 1), ("b.png", 1)]


@pytest.mark.parametrize(("most", "is_open"), [(99, True), (0, False)])
def test_many_findings_do_not_hide_the_images(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, most: int, is_open: bool
) -> None:
    write_images(tmp_path, {"a.png": "lum, tower"})
    sheet = make_sheet(check(tmp_path), None)
    monkeypatch.setattr("lorabake.commands.output.sheet.MOST_OPEN_FINDINGS", most)
    (about,) = [given for tag, given in parse(page_of(sheet)) if tag == "details" and given.get("class") == "about"]
    assert ("open" in about) is is_open


HOSTILE = (
    "<script>alert(1)</script>, \"><img src=x onerror=alert(1)>, ' onclick=x, &lt;, \u202egnp, {0}, </style>, "
    "http://example.com/a.png, javascript:x, \x07bell"
)


def test_text_of_others_stays_text(tmp_path: Path) -> None:
    write_images(tmp_path, {"a.png": f"lum, {HOSTILE}", 'b"><b onclick=x>.png': "lum, tower", "c'&amp;.png": None})
    found = parse(page := page_of(make_sheet(check(tmp_path), None)))
    names = [tag for tag, _ in found]
    assert names.count("script") == 1
    assert not {"iframe", "link", "base", "object", "form"}.intersection(names)
    assert not [name for _, given in found for name in given if name.startswith("on")]
    sources = [given[name] for _, given in found for name in ("src", "href") if name in given]
    assert sources
    assert all(each.startswith("data:image/jpeg;base64,") for each in sources)
    assert not re.search("[\x00-\x08\u202e]", page)


def test_its_policy_allows_its_own_style_and_script_only(tmp_path: Path) -> None:
    write_images(tmp_path, {"a.png": "lum, tower"})
    found = parse(page_of(make_sheet(check(tmp_path), None)))
    policy = next(given["content"] for _, given in found if given.get("http-equiv") == "Content-Security-Policy")
    assert policy.startswith("default-src 'none'; img-src data:; style-src 'sha256-")
    assert "unsafe" not in policy
    assert "http" not in policy
    assert not [given for _, given in found if "style" in given]


def test_every_sentence_is_translated(tmp_path: Path) -> None:
    write_images(tmp_path, {"a.png": "lum, tower", "b.png": None}, size=(900, 500))
    page = page_of(make_sheet(check(tmp_path), None), Translator("pt_BR", Backwards()))
    texts = re.split("<[^>]*>", re.sub(r"<(style|script)>.*?</\1>", "", page, flags=re.DOTALL))
    ours = re.compile(r"\b(Findings|Tags|Filter|images?|cut off|filter|clear|no caption|warning)\b")
    assert [text for text in texts if ours.search(text) and "~" not in text] == []
    assert 'lang="pt-BR"' in page


def test_a_file_that_exists_is_not_changed(tmp_path: Path) -> None:
    write_images(tmp_path, {"a.png": "lum, tower"})
    sheet = make_sheet(check(tmp_path), None)
    (tmp_path / "s.html").write_text("mine")
    with pytest.raises(MachineError):
        write_sheet(sheet, tmp_path / "s.html", ENGLISH)
    assert (tmp_path / "s.html").read_text() == "mine"
    write_sheet(sheet, tmp_path / "t.html", ENGLISH)
    assert (tmp_path / "t.html").read_text(encoding="utf-8") == page_of(sheet)
    (tmp_path / "pics" / "a.txt").write_text("lum, other")
    newer = make_sheet(check(tmp_path), None)
    write_sheet(newer, tmp_path / "t.html", ENGLISH)
    assert (tmp_path / "t.html").read_text(encoding="utf-8") == page_of(newer)


def test_images_that_cannot_be_decoded(tmp_path: Path) -> None:
    write_images(tmp_path, {"a.png": "lum, tower", "b.png": "lum, tower"})
    (tmp_path / "pics" / "b.png").write_bytes(b"no image")
    page = page_of(make_sheet(check(tmp_path), None))
    assert sum(tag == "img" for tag, _ in parse(page)) == 1
    assert page.count('class="card"') == 2


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "P", "1", "CMYK", "I;16", "LA"])
def test_thumbnails_of_every_kind_of_image(tmp_path: Path, mode: str) -> None:
    path = tmp_path / ("x.tif" if mode == "CMYK" else "x.png")
    Image.new(mode, (700, 90)).save(path)
    (found,) = make_thumbnails([str(path)])
    assert found is not None
    assert (found.width, found.height) == (512, 66)


def test_many_images_have_smaller_thumbnails() -> None:
    sides = [choose_thumbnail_size(count)[0] for count in (1, 100, 500, 2000, 100_000)]
    assert sides == sorted(sides, reverse=True)
    assert len(set(sides)) > 2
