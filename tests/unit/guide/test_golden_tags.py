"""The guide's own captions and tag examples, as it gives them (its parts 3, 3.6 and 6)."""

from __future__ import annotations

from typing import Any

import pytest

from lorabake_schemas.dataset import CaptionFacts, DatasetFacts, FolderFacts, ImageFacts
from lorabake_schemas.findings import Finding
from lorabake_schemas.guide.rules import collect_findings
from lorabake_schemas.guide.tags import count_folder_tags, split_tags
from lorabake_schemas.guide.vocabulary import find_implied_tags, get_kind_tags, is_asymmetric
from situations import concept, folder, plan_of, recipe, situation, spoken, subset

MIZUTSUNE = (
    "mizutsune, feral, blue eyes, no sclera, bubbles, soap, side view, action pose, open mouth, realistic, "
    "twisted torso, looking back, hand on ground, white background"
)
ARZARMORM = (
    "arzarmorm, human, male, black hair, brown eyes, dark skin, three-quarter view, full-length portrait, "
    "asymmetrical armwear, skirt, pouches, armband, pants"
)
BESIDE = {"G1.2", "G4.60"}  # that one picture is few, and at what size the model was made


def one(caption: str, path: str = "pics") -> FolderFacts:
    return FolderFacts(path, (ImageFacts("a.png", 768, 768, mode="RGB", caption=CaptionFacts(caption)),))


def about(caption: str, **concept_and_base: Any) -> list[Finding]:
    of = recipe(kind="character", **concept_and_base)
    return [each for each in collect_findings(situation(of, DatasetFacts((one(caption),)))) if each.rule not in BESIDE]


def mizutsune(board: str) -> list[Finding]:
    return about(MIZUTSUNE, base={"tags": board}, concept={"token": "mizutsune", "class": "feral"})


def arzarmorm(**more: Any) -> list[Finding]:
    return about(ARZARMORM, base={"tags": "e621"}, concept={"token": "arzarmorm", "class": "human"} | more)


def test_t11_mizutsune() -> None:
    tags = split_tags(MIZUTSUNE)
    assert len(tags) == 14
    assert tags[:2] == ["mizutsune", "feral"]
    assert get_kind_tags("composition") & {*tags} == {"side view", "action pose"}  # the limit of GC.6
    assert mizutsune("e621") == []


def test_t11_mizutsune_for_the_other_board() -> None:
    (found,) = mizutsune("danbooru")
    assert (found.rule, found.severity) == ("G3.6", "warning")
    assert found.fix == 'write "from side" instead of "side view"'


def test_t12_arzarmorm() -> None:
    tags = split_tags(ARZARMORM)
    assert len(tags) == 13
    assert tags[:2] == ["arzarmorm", "human"]
    reinforcement = tags[-5:]
    assert reinforcement == ["asymmetrical armwear", "skirt", "pouches", "armband", "pants"]
    assert [tag for tag in tags if is_asymmetric(tag)] == ["asymmetrical armwear"]
    assert arzarmorm() == []


def test_t12_what_is_asymmetric_is_not_mirrored() -> None:
    (found,) = arzarmorm(flip_aug=True)
    assert (found.rule, found.key) == ("G36.3", "concept[0].flip_aug")
    assert '"asymmetrical armwear"' in found.message
    assert [each.rule for each in arzarmorm(flip_aug=True, asymmetric=True)] == ["G2.19", "G36.3"]


@pytest.mark.parametrize(
    ("keep", "front"),
    [
        (2, ["mizutsune", "feral"]),
        (4, ["mizutsune", "feral", "blue eyes", "no sclera"]),
        (6, ["mizutsune", "feral", "blue eyes", "no sclera", "bubbles", "soap"]),
    ],
)
def test_t13_tags_are_kept_by_their_number(keep: int, front: list[str]) -> None:
    """keep_tokens counts tags, not commas as the guide has it: its 4 and 6 keep four and six tags."""
    assert list(count_folder_tags(one(MIZUTSUNE)).tags[0][:keep]) == front


def test_t13_what_the_guide_means_is_compiled() -> None:
    plain = recipe(concept={"token": "mizutsune", "class": "feral"})
    outfit = recipe(concept={"token": "mizutsune", "class": "feral", "outfit": "redcoat"})
    assert (subset(plan_of(plain))["keep_tokens"], subset(plan_of(outfit))["keep_tokens"]) == (2, 3)


def test_t20_implied_tags() -> None:
    def dropped(caption: str, class_: str = "animal") -> list[str]:
        of = recipe(concept={"token": "tok", "class": class_})
        found = spoken("G3.21", situation(of, DatasetFacts((one(f"tok, {class_}, {caption}"),))))
        return [each.fix for each in found]

    assert "legs" in find_implied_tags("spread legs")
    assert dropped("spread legs, legs") == ['keep the specific tag and remove the general one: "legs"']
    assert dropped("german shepherd, dog") == ['keep the specific tag and remove the general one: "dog"']
    assert dropped("german shepherd", class_="dog") == []


def test_t22_outfit_tokens() -> None:
    def taken(*tokens: str) -> list[tuple[str, str]]:
        words = ("food", "armor")
        of = recipe(
            kind="clothing",
            concepts=[concept(token, f"p{at}", **{"class": words[at]}) for at, token in enumerate(tokens)],
        )
        parts = DatasetFacts(
            tuple(folder(f"p{at}", caption=f"{token}, {words[at]}") for at, token in enumerate(tokens))
        )
        assert [set(count_folder_tags(part).at(0)) for part in parts.concepts] == [{token} for token in tokens]
        return [(each.rule, each.severity) for each in collect_findings(situation(of, parts))]

    assert taken("armortagm", "armortagf") == []
    assert taken("armortagm", "armortagm") == [("G6.8", "warning")]
