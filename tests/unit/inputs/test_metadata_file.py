"""Captions in a metadata file: what is read of it, its place in the plan, and the findings about it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from lorabake.inputs.dataset import ImageFolder, ScanOptions, scan_folders
from lorabake.inputs.metadata_file import read_metadata_file
from lorabake.inputs.survey import read_dataset
from lorabake_schemas.caches import find_image_sizes
from lorabake_schemas.dataset import CaptionProblem, FolderFacts, MetadataFacts, MetadataOffer
from situations import CLASS, TOKEN, concept, dataset, folder, plan_of, recipe, situation, spoken, subset

GOOD = f"{TOKEN}, {CLASS}, beach"


def scanned(tmp_path: Path, table: Any, *, wildcard: bool = False, name: str = "meta.json") -> FolderFacts:
    """Three images of 64 by 48, and a metadata file."""
    (tmp_path / "pics" / "more").mkdir(parents=True, exist_ok=True)
    for each in ("0.png", "1.png", "more/2.png"):
        Image.new("RGB", (64, 48)).save(tmp_path / "pics" / each)
    text = table if isinstance(table, str) else json.dumps(table)
    (tmp_path / name).write_text(text, "utf-8")
    asked = ImageFolder(tmp_path / "pics", wildcard=wildcard, metadata=tmp_path / name)
    return scan_folders([asked], [], ScanOptions(tmp_path / "store")).concepts[0]


def test_names_are_relative_or_absolute_and_the_longest_come_first(tmp_path: Path) -> None:
    table = {
        "1.png": {"caption": GOOD},
        "more/2.png": {"tags": "a, b"},
        str(tmp_path / "pics" / "0.png"): {"caption": "c", "tags": "d"},
    }
    facts = scanned(tmp_path, table)
    assert [image.name for image in facts.images] == ["0.png", "more/2.png", "1.png"]
    assert [image.caption.text for image in facts.images] == ["c,d", "a, b", GOOD]
    assert [(image.width, image.height, image.problem) for image in facts.images] == [(64, 48, None)] * 3
    assert facts.metadata == MetadataFacts(str(tmp_path / "meta.json"), count=3)
    assert (facts.orphans, facts.others, facts.caption_extension) == ((), (), "")


@pytest.mark.parametrize(
    ("entry", "wildcard", "texts", "problem"),
    [
        ({"caption": "a\nb", "tags": "c"}, False, ("a",), CaptionProblem.MORE_LINES),
        ({"caption": "a\n \nb", "tags": "c\nd"}, True, ("a,c,d", "b,c,d"), None),
        ({"caption": "{x|y} z"}, True, ("x z", "y z"), None),
        ({"tags": "c"}, True, ("",), CaptionProblem.MISSING),
        ({"caption": None, "tags": None}, False, ("",), CaptionProblem.MISSING),
        ({}, False, ("",), CaptionProblem.MISSING),
    ],
)
def test_captions_are_those_of_sd_scripts(
    tmp_path: Path, entry: Any, wildcard: bool, texts: tuple[str, ...], problem: CaptionProblem | None
) -> None:
    caption = scanned(tmp_path, {"0.png": entry}, wildcard=wildcard).images[0].caption
    assert (caption.texts, caption.problem) == (texts, problem)


def test_json_lines(tmp_path: Path) -> None:
    lines = [{"image_path": "0.png", "caption": "a", "image_size": [128, 64]}, {"image_path": "1.png", "tags": "b"}]
    facts = scanned(tmp_path, "".join(f"{json.dumps(line)}\n" for line in lines), name="meta.jsonl")
    assert [image.caption.text for image in facts.images] == ["a", "b"]
    assert find_image_sizes(facts, "_sd.npz") == ((128, 64), (64, 48))
    assert facts.metadata
    assert facts.metadata.missized == ("0.png",)


@pytest.mark.parametrize(
    "text",
    [
        "", "[]", "{}", "3", "not json", '{"0.png": []}', '{"0.png": {"caption": 1}}', '{"0.png": {"tags": ["a"]}}',
        '{"0.png": {"image_size": [0, 1]}}', '{"0.png": {"image_size": [true, true]}}',
        '{"0.png": {"image_size": "1x1"}}', "[" * 100_000,
    ],
)  # fmt: skip
def test_what_is_no_metadata_is_a_fact(tmp_path: Path, text: str) -> None:
    facts = scanned(tmp_path, text)
    assert facts.images == ()
    assert facts.metadata
    assert facts.metadata.problem
    meant = recipe(concepts=[concept(TOKEN, "pics", metadata_file="meta.json")])
    found = situation(meant, dataset(facts))
    assert [each.key for each in spoken("S50", found)] == ["concept[0].metadata_file"]
    assert spoken("G4.9", found) == []


@pytest.mark.parametrize("data", [b"\xff\xfe{}", b'{"image_path": "a.png"}\n\n{}'])
def test_odd_bytes_are_a_fact(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "a.jsonl").write_bytes(data)
    assert read_metadata_file(tmp_path / "a.jsonl").problem
    assert read_metadata_file(tmp_path / "none.json").problem
    assert read_metadata_file(tmp_path).problem


def test_names_without_an_extension_are_the_mistake_that_is_named(tmp_path: Path) -> None:
    facts = scanned(tmp_path, {"0": {"caption": "a"}, "1": {"caption": "b"}, "7.png": {"caption": "c"}})
    assert facts.metadata
    assert (facts.metadata.missing, facts.metadata.stems) == (("7.png", "0", "1"), 2)
    assert facts.metadata.unlisted == ("0.png", "1.png")
    meant = recipe(concepts=[concept(TOKEN, "pics", metadata_file="meta.json")])
    found = spoken("S50", situation(meant, dataset(facts)))
    assert [(each.key, each.severity) for each in found] == [("concept[0].metadata_file", "error")]
    assert "extension" in found[0].fix


def test_a_cache_that_would_be_opened_as_the_image(tmp_path: Path) -> None:
    scanned(tmp_path, {})
    (tmp_path / "pics" / "0_0064x0048_sd.npz").write_bytes(b"")
    names = {str(tmp_path / "pics" / "0.png"): {"caption": "a"}, "1.png": {"caption": "b"}}
    facts = scanned(tmp_path, names)
    assert facts.metadata
    assert facts.metadata.cached == ("0.png",)


def judged(rule: str, metadata: MetadataFacts, **more: Any) -> list[str]:
    meant = recipe(concepts=[concept(TOKEN, "pics", metadata_file="meta.json")], **more)
    facts = replace(folder(), metadata=metadata, caption_extension="")
    return [each.key or "" for each in spoken(rule, situation(meant, dataset(facts)))]


@pytest.mark.parametrize(
    ("rule", "facts"),
    [
        ("S50", MetadataFacts("m", count=3, missing=("a.png",))),
        ("S50", MetadataFacts("m", count=3, cached=("a.png",))),
        ("S50.sizes", MetadataFacts("m", count=3, missized=("a.png",))),
        ("S50.unlisted", MetadataFacts("m", count=3, unlisted=("a.png",))),
    ],
)
def test_fires(rule: str, facts: MetadataFacts) -> None:
    assert judged(rule, facts) == ["concept[0].metadata_file"]
    assert judged(rule, MetadataFacts("m", count=3)) == []


def test_rules_about_captions_run_over_those_of_the_file(tmp_path: Path) -> None:
    facts = scanned(tmp_path, {"0.png": {"caption": GOOD}, "1.png": {"caption": "food, street"}, "more/2.png": {}})
    found = situation(recipe(concepts=[concept(TOKEN, "pics", metadata_file="meta.json")]), dataset(facts))
    assert [each.file for each in spoken("G3.10", found)] == ["1.png"]
    assert [each.file for each in spoken("S50.empty", found)] == ["more/2.png"]
    assert spoken("G3.3", found) == []


def test_the_subset_has_what_sd_scripts_takes() -> None:
    plan = plan_of(recipe(concepts=[concept(TOKEN, "pics", metadata_file="meta.json")]))
    assert subset(plan)["metadata_file"] == "meta.json"
    assert not {"class_tokens", "caption_extension", "is_reg"} & subset(plan).keys()


@pytest.mark.parametrize(("names", "usable"), [(("0.png", "1.png"), True), (("0", "1"), False), (("x.png", "y"), None)])
@pytest.mark.parametrize("place", ["meta.json", "pics/captions.jsonl"])
def test_a_metadata_file_beside_images_without_captions_is_offered(
    tmp_path: Path, names: tuple[str, ...], usable: bool | None, place: str
) -> None:
    scanned(tmp_path, {})
    table = {name: {"caption": GOOD} for name in names}
    lines = "".join(f"{json.dumps({'image_path': name} | entry)}\n" for name, entry in table.items())
    (tmp_path / place).write_text(lines if place.endswith("l") else json.dumps(table), "utf-8")
    meant = recipe(base={"model": "b.safetensors"})
    facts = read_dataset(meant, tmp_path, ScanOptions())
    assert facts.concepts[0].offer == (None if usable is None else MetadataOffer(place, usable))
    found = spoken("G3.3", situation(meant, facts))
    assert ('metadata_file = "' in found[0].fix) is (usable is True)
