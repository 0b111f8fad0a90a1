"""Rules about caches next to the images: each one applies where it should, and only there."""

from __future__ import annotations

import pytest

from lorabake_schemas.cache_origins import StaleCache
from lorabake_schemas.caches import find_missizing_caches
from lorabake_schemas.dataset import FolderFacts
from lorabake_schemas.guide.registry import RuleContext
from lorabake_schemas.messages import msg
from lorabake_schemas.recipe import Recipe
from situations import Fires, Misses, dataset, folder, recipe, situation, spoken, topic

IMAGES = "concept[0].images"
DISK = recipe(train={"cache_latents_to_disk": True})
INFO = recipe(kohya={"cache_info": True})
OTHER_SIZE = folder(caches=("001_0512x0768_sd.npz",))
OLD = StaleCache("concept", 0, "latents", "001_0768x0768_sd.npz", "001.png", msg("made at 512, this run uses 768"))


def at(*folders: FolderFacts, of: Recipe | None = None, stale: tuple[StaleCache, ...] = ()) -> RuleContext:
    return situation(of or recipe(), dataset(*folders), stale=stale)


FIRES: list[Fires] = [
    ("S19.sizes", at(OTHER_SIZE), IMAGES, "error"),
    ("S19.sizes", at(OTHER_SIZE, of=DISK), IMAGES, "error"),
    ("S19.sizes", at(folder(count=1, caches=("0001_0512x0768_sd.npz",))), IMAGES, "error"),
    ("S19", at(of=DISK, stale=(OLD,)), IMAGES, "error"),
]
MISSES: list[Misses] = [
    ("S19.sizes", at(folder(caches=("001_0768x0768_sd.npz",)))),
    ("S19.sizes", at(folder(caches=("001.npz", "001_te_outputs.npz")))),
    ("S19.sizes", at(folder(caches=("001_0512x0768_sdxl.npz",)))),
    ("S19.sizes", at(OTHER_SIZE, of=INFO)),
    ("S19", at(of=DISK)),
    ("S19", at(folder(caches=("001_0768x0768_sd.npz",)), of=DISK)),
]


@pytest.mark.parametrize(("rule", "case", "key", "severity"), FIRES)
def test_fires(rule: str, case: RuleContext, key: str, severity: str) -> None:
    assert [(finding.key, finding.severity) for finding in spoken(rule, case)] == [(key, severity)]
    assert all("--refresh-cache" in finding.fix for finding in spoken(rule, case))


@pytest.mark.parametrize(("rule", "case"), MISSES)
def test_stays_silent(rule: str, case: RuleContext) -> None:
    assert spoken(rule, case) == []


def test_every_rule_of_the_topic_is_covered_both_ways() -> None:
    assert {rule for rule, *_ in FIRES} == {rule for rule, _ in MISSES} == topic("caches")


def said(*stale: StaleCache) -> list[str]:
    return [finding.message for finding in spoken("S19", at(of=DISK, stale=stale))]


def test_images_are_named_with_what_has_changed_one_finding_for_each_reason() -> None:
    why = "made at 512, this run uses 768"
    many = tuple(
        StaleCache("concept", 0, "latents", f"{n:03}_0768x0768_sd.npz", f"{n:03}.png", msg(why)) for n in range(5)
    )
    edited = StaleCache("concept", 0, "text", "007_te_outputs.npz", "007.png", msg("the caption was edited since"))
    latents, text = said(*many, edited)
    assert (
        latents
        == f"5 images have outdated latent caches that would be used ({why}): 000.png, 001.png, 002.png and 2 more"
    )
    assert text.endswith("that would be used (the caption was edited since): 007.png")
    assert "text encoder outputs" in text


def test_a_cache_of_unknown_origin_is_told_as_that() -> None:
    unknown = StaleCache("concept", 0, "latents", "003.npz", "003.png")
    assert said(unknown) == ["1 image has a latent cache of unknown origin: 003.png"]
    text = StaleCache("concept", 0, "text", "003_te_outputs.npz", "003.png")
    assert said(text) == ["1 image has cached text encoder outputs of unknown origin: 003.png"]


def test_what_is_no_cache_is_not_to_be_deleted() -> None:
    (found,) = spoken(
        "S19", at(of=DISK, stale=(StaleCache("concept", 0, "latents", "003.npz", "003.png", foreign=True),))
    )
    assert "003.npz" in found.message
    assert "overwrite it" in found.message
    assert "out of pics" in found.fix
    assert "--refresh-cache" not in found.fix


def test_a_list_of_images_that_is_out_of_date() -> None:
    stale = StaleCache("concept", 0, "info", "metadata_cache.json", why=msg("captions were edited since then"))
    (found,) = spoken("S19", at(of=INFO, stale=(stale,)))
    assert (
        found.message == "metadata_cache.json no longer matches the contents of pics: captions were edited since then"
    )
    assert "cache_info" in found.fix


def test_all_names_that_mislead_are_found_however_many_lie_behind_the_first() -> None:
    caches = ("001_0512x0512_sd.npz", "001_0640x0640_sd.npz", "001_0768x0768_sd.npz", "002_0512x0512_sdxl.npz")
    assert find_missizing_caches(folder(caches=caches), "_sd.npz") == caches[:2]
    assert find_missizing_caches(folder(), "_sd.npz") == ()
    # the cache of one picture, which is a good one, misleads about another whose name it begins with
    few = folder(count=1, caches=("0001_0512x0768_sd.npz",))
    assert find_missizing_caches(few, "_sd.npz") == ("0001_0512x0768_sd.npz",)
