"""Counts of tags: what sd-scripts would split, per concept, with company and likely duplicates."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from lorabake.analysis.captioned_recipe import read_captioned_recipe
from lorabake.analysis.tag_counts import make_tag_report, match_tags
from lorabake.errors import RecipeError, UnknownNameError
from lorabake_schemas.tag_report import TagReport

HEAD = 'name = "x"\nkind = "object"\n[base]\nmodel = "m.safetensors"\nfamily = "sd15"\n'


def write_set(root: Path, captions: dict[str, str | bytes], more: str = "", name: str = "pics") -> Path:
    """A recipe of one concept, lum the lighthouse, with these captions; ``more`` are lines of its table."""
    (root / name).mkdir()
    for stem, text in captions.items():
        (root / name / f"{stem}.png").write_bytes(b"never opened")
        (root / name / f"{stem}.txt").write_bytes(text if isinstance(text, bytes) else text.encode())
    path = root / "r.toml"
    path.write_text(f'{HEAD}[[concept]]\ntoken = "lum"\nclass = "tower"\nimages = "{name}"\n{more}', encoding="utf-8")
    return path


def report(path: Path, wanted: str | None = None, company: str | None = None) -> TagReport:
    read = read_captioned_recipe(path, (), {}, cache=False)
    return make_tag_report(str(path), read.recipe, read.folders, wanted, company)


def counts(found: TagReport) -> dict[str, int]:
    return {each.tag: each.images for each in found.concepts[0].tags}


def test_counts_are_of_images(tmp_path: Path) -> None:
    one = report(write_set(tmp_path, {"a": "lum, tower, sea, sea", "b": "lum, tower, Sea", "c": "lum, sky"})).concepts[
        0
    ]
    assert [(each.tag, each.images) for each in one.tags] == [("lum", 3), ("sea", 2), ("tower", 2), ("sky", 1)]
    assert one.tags[1].share == pytest.approx(2 / 3)
    assert (one.images, one.captioned, one.single, one.constant) == (3, 3, ("sky",), ())
    assert one.mean == pytest.approx(8 / 3)


def test_what_is_in_every_caption_besides_token_and_class(tmp_path: Path) -> None:
    assert report(write_set(tmp_path, {"a": "lum, tower, sea", "b": "sea, lum, tower, sky"})).concepts[0].constant == (
        "sea",
    )


@pytest.mark.parametrize(
    ("captions", "groups"),
    [
        (("long hair", "long_hair"), [{"long hair", "long_hair"}]),
        (("long hair", "hair_long"), [{"long hair", "hair_long"}]),
        (("Red Hat", "red hats"), [{"Red Hat", "red hats"}]),
        (("cloudy-sky", "cloudy sky"), [{"cloudy-sky", "cloudy sky"}]),
        (("rock", "rocks", "berries", "berry"), [{"rock", "rocks"}, {"berries", "berry"}]),
        (("1girl", "2girls"), []),
        (("glass", "glasses", "grass"), []),
    ],
)
def test_likely_duplicates(tmp_path: Path, captions: tuple[str, ...], groups: list[set[str]]) -> None:
    path = write_set(tmp_path, {f"i{at}": f"lum, tower, {tag}" for at, tag in enumerate(captions)})
    found = [{each.tag for each in group} for group in report(path).concepts[0].alike]
    assert sorted(found, key=sorted) == sorted(groups, key=sorted)


@pytest.mark.parametrize(
    ("more", "caption", "expected"),
    [
        ("", "lum, tower\nnot read, at all", {"lum", "tower"}),
        ("enable_wildcard = true\n", "lum, {red|blue} sky\n\nlum, sea", {"lum", "red sky", "blue sky", "sea"}),
        ('keep_tokens_separator = "|||"\n', "lum, tower ||| sea", {"lum", "tower", "sea"}),
        ('secondary_separator = ";;;"\n', "lum, sea;;;sky", {"lum", "sea", "sky"}),
        ('caption_prefix = "lum, tower,"\ncaption_suffix = ", best"\n', "sea", {"lum", "tower", "sea", "best"}),
        ("", "\ufefflum, tower", {"lum", "tower"}),
        ("", " , lum,, tower , ", {"lum", "tower"}),
        ("", "lum, tower, a lighthouse that stands alone on a rock far out at sea.", {"lum", "tower"}),
        ('tags = "natural"\n', "a photo of lum, a tower", set[str]()),
    ],
)
def test_captions_are_split_as_sd_scripts_does(tmp_path: Path, more: str, caption: str, expected: set[str]) -> None:
    assert set(counts(report(write_set(tmp_path, {"a": caption}, more)))) == expected


@pytest.mark.parametrize(("bad", "unreadable"), [(b"", 0), (b"\xff\xfe\x00l", 1), (b"caf\xe9", 1), (b"\n\n", 0)])
def test_captions_that_cannot_be_read_are_not_counted(tmp_path: Path, bad: bytes, unreadable: int) -> None:
    one = report(write_set(tmp_path, {"a": "lum, tower", "b": bad})).concepts[0]
    assert (one.images, one.captioned, one.unreadable) == (2, 1, unreadable)


def test_captions_in_a_metadata_file(tmp_path: Path) -> None:
    path = write_set(tmp_path, {"a": "not this"}, 'metadata_file = "meta.json"\n')
    (tmp_path / "meta.json").write_text(f'{{"{tmp_path}/pics/a.png": {{"caption": "lum, tower", "tags": "sea"}}}}')
    assert set(counts(report(path))) == {"lum", "tower", "sea"}


def test_folders_of_one_concept_are_counted_together(tmp_path: Path) -> None:
    more = '[[concept]]\ntoken = "lum"\nclass = "tower"\nimages = "more"\n'
    more += '[[concept]]\ntoken = "k"\nclass = "cat"\nimages = "k"\n'
    path = write_set(tmp_path, {"a": "lum, sea"}, more)
    for name, caption in (("more", "lum, sky"), ("k", "k, cat")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.png").touch()
        (tmp_path / name / "a.txt").write_text(caption)
    both = report(path)
    assert [(each.name, each.images) for each in both.concepts] == [("lum, tower", 2), ("k, cat", 1)]
    assert [each.name for each in report(path, wanted="K").concepts] == ["k, cat"]
    with pytest.raises(UnknownNameError):
        report(path, wanted="nobody")


def test_company(tmp_path: Path) -> None:
    captions: dict[str, str | bytes] = {
        "a": "lum, sea, gull", "b": "lum, sea, fog", "c": "lum, sky, gull", "d": "lum, sky",
    }  # fmt: skip
    found = report(write_set(tmp_path, captions), company="SEA").company
    assert found is not None
    assert (found.tag, found.images) == ("sea", 2)
    rows = [(each.tag, each.together, each.share, each.share_elsewhere) for each in found.together]
    assert rows == [("lum", 2, 1.0, 1.0), ("gull", 1, 0.5, 0.5), ("fog", 1, 0.5, 0.0)]
    assert [each.tag for each in found.never] == ["sky"]


def test_company_of_a_tag_that_no_caption_has(tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError) as caught:
        report(write_set(tmp_path, {"a": "lum, lighthouse"}), company="ligthouse")
    assert caught.value.hint is not None
    assert caught.value.hint.filled["names"] == "lighthouse"


def test_a_folder_that_is_missing(tmp_path: Path) -> None:
    path = write_set(tmp_path, {})
    (tmp_path / "pics").rmdir()
    with pytest.raises(RecipeError):
        report(path)


@pytest.mark.parametrize(
    ("pattern", "tag", "known", "matches"),
    [
        ("*hair", "long hair", (), True),
        ("*_hair", "long hair", (), True),
        ("Long_Hair", "long hair", (), True),
        ("hair", "long hair", (), False),
        ("a.c", "abc", (), False),
        ("[ab]*", "ab", (), False),
        ("*_*", "long hair", (), True),
        ("*_*", "long hair", ("* *",), False),
        ("*_*", "* *", ("* *",), True),
    ],
)
def test_patterns(pattern: str, tag: str, known: tuple[str, ...], matches: bool) -> None:
    assert match_tags(pattern, known)(tag) is matches


def test_hostile_captions_are_text(tmp_path: Path) -> None:
    odd: dict[str, Any] = {"a": "lum, \x1b[31mred\x1b[0m, <script>, \u202eabc, {0}, %s, " + "x" * 100_000}
    assert counts(report(write_set(tmp_path, odd)))["{0}"] == 1
