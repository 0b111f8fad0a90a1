"""Rules about tags: each one applies where it should, and only there."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from lorabake_schemas.dataset import CaptionFacts, DatasetFacts, FolderFacts, ImageFacts
from lorabake_schemas.guide import tags
from lorabake_schemas.guide.registry import RuleContext
from lorabake_schemas.guide.rules import collect_findings
from lorabake_schemas.recipe import Recipe
from situations import TOKEN, Fires, Misses, concept, plan_of, recipe, seen, situation, spoken, topic

Change = Callable[[int, list[str]], list[str]]
TOPICS = ("separators", "tag_counts", "caption_style", "composition", "appearance", "tag_vocabulary")
IMAGES = "concept[0].images"
FLEXIBLE, BAKED = {"tagging": "flexible"}, {"tagging": "baked"}


def every_rule() -> set[str]:
    return {identity for each in TOPICS for identity in topic(each)}


def made(number: int, head: str = f"{TOKEN}, food") -> list[str]:
    return [*head.split(", "), *seen(number).split(", ")]


def same(_number: int, old: list[str]) -> list[str]:
    return old


def pictures(
    change: Change = same, count: int = 30, *, head: str = f"{TOKEN}, food", path: str = "pics", **image: Any
) -> FolderFacts:
    """Images with good captions, each changed by its number."""
    how: dict[str, Any] = {"width": 768, "height": 768, "mode": "RGB"} | image
    captions = [", ".join(change(number, made(number, head))) for number in range(count)]
    return FolderFacts(
        path, tuple(ImageFacts(f"{at:02}.png", **how, caption=CaptionFacts(t)) for at, t in enumerate(captions))
    )


def at(change: Change = same, of: Recipe | None = None, **more: Any) -> RuleContext:
    return situation(of or recipe(), DatasetFacts((pictures(change, **more),)))


def adding(*more: str, every: int = 1) -> Change:
    """These tags at the end of every so many captions, beginning with the first."""
    return lambda number, old: [*old, *more] if number % every == 0 else old


def only(*all_of_them: str) -> Change:
    return lambda _number, _old: list(all_of_them)


def numbered(count: int) -> Change:
    """So many more tags, each of which is on no other image."""
    return lambda number, old: [*old, *(f"thing{number}x{each}" for each in range(count))]


def marked(_number: int, old: list[str]) -> list[str]:
    return [f"{old[0]}, {old[1]} ||| {old[2]}", *old[3:]]


def planned(change: Change, of: Recipe | None = None, **more: Any) -> RuleContext:
    chosen, facts = of or recipe(), DatasetFacts((pictures(change, **more),))
    return situation(chosen, facts, plan=plan_of(chosen, facts))


def boards(board: str | None, change: Change) -> RuleContext:
    return at(change, recipe(base={"tags": board}))


def several(*parts: tuple[dict[str, Any], FolderFacts], **more: Any) -> RuleContext:
    return situation(
        recipe(concepts=[part for part, _ in parts], **more), DatasetFacts(tuple(facts for _, facts in parts))
    )


def regularised(caption: str) -> RuleContext:
    reg = FolderFacts("reg", (ImageFacts("r.png", 768, 768, caption=CaptionFacts(caption)),))
    facts = DatasetFacts((pictures(),), (reg,))
    return situation(recipe(regularization=[{"class": "food", "images": "reg"}]), facts)


def dressed(outfit: str | None, path: str, head: str, change: Change = same) -> tuple[dict[str, Any], FolderFacts]:
    part = concept("lola", path, **({"outfit": outfit} if outfit else {}))
    return part, pictures(change, 10, head=head, path=path)


MARK: dict[str, Any] = {"keep_tokens_separator": "|||"}
KEPT = recipe(kohya=MARK)
UNSHUFFLED = recipe(kohya=MARK, captions={"shuffle_caption": False})
DROPPED = recipe(kohya=MARK, captions={"shuffle_caption": False, "caption_tag_dropout_rate": 0.1})
CHARACTER = recipe(kind="character")
STYLE = recipe(kind="style", network={"type": "locon"})
MIRRORED = recipe(concept={"flip_aug": True})
NATURAL = recipe(base={"tags": "natural"})
WEIGHTED = recipe(kohya={"weighted_captions": True})
SENTENCE = "a photo of a hamburger that lies on a wooden table"
ONE_OUTFIT = dressed("redcoat", "a", "lola, redcoat, food")
PLAIN = dressed(None, "b", "lola, food")
SHEET = adding("reference sheet", "multiple views", every=10)


def parted(by: str, every: int = 1) -> Change:
    """Another character than the comma between the tags of some of the captions."""
    return lambda number, old: [by.join(old)] if number % every == 0 else old


FIRES: list[Fires] = [
    # separators
    ("G5.11.wildcards", at(adding("{red|blue} hat", every=9)), IMAGES, "warning"),
    ("G3.6.sentences", at(adding("uma moça com chapéu na praia", "em um dia de sol"), NATURAL), IMAGES, "hint"),
    ("G5.11.prompts", at(adding("(red circle:1.2)", every=9)), IMAGES, "warning"),
    ("G5.11.prompts", at(adding("<lora:foo:1>", every=30)), IMAGES, "warning"),
    ("G5.11.prompts", at(adding("<lora:foo:1>", every=30), WEIGHTED), IMAGES, "warning"),
    ("G5.11.prompts", at(adding("[red|blue]", "((wet))", "BREAK", "[a:b:0.5]"), NATURAL), IMAGES, "warning"),
    ("S17.commas", at(parted(" ")), IMAGES, "warning"),
    ("S17.commas", at(parted("; ")), IMAGES, "warning"),
    ("S17.commas", at(parted(". ", every=9)), IMAGES, "warning"),
    ("S17.commas", at(parted("\uff0c", every=9)), IMAGES, "warning"),
    ("S17.commas", at(lambda _n, old: [*old[:2], "; ".join(old[2:])]), IMAGES, "warning"),
    ("S17.commas", at(parted(", "), recipe(kohya={"caption_separator": ";"})), IMAGES, "warning"),
    # tags
    ("G5.15", at(only(TOKEN)), IMAGES, "warning"),
    ("G5.15", at(only(TOKEN, "food")), IMAGES, "warning"),
    ("G5.15", at(only("something"), STYLE), IMAGES, "warning"),
    ("G5.10", at(adding(*(f"thing {n}" for n in range(15)))), IMAGES, "warning"),
    ("G5.10", at(numbered(15)), IMAGES, "warning"),
    ("G3.18", at(adding(*(f"thing {n}" for n in range(15)), every=3)), IMAGES, "hint"),
    ("G3.18", at(lambda _n, old: old[:4]), IMAGES, "hint"),
    ("GC.3", at(numbered(6)), IMAGES, "hint"),
    ("G3.15", at(adding("lens flare")), IMAGES, "hint"),
    ("G3.2", at(lambda _n, old: [*old[2:], *(f"thing {n}" for n in range(20))]), IMAGES, "hint"),
    # wording
    ("G3.7.sentences", at(lambda n, old: [*old, SENTENCE] if n % 3 == 0 else old), IMAGES, "warning"),
    ("G3.7.sentences", at(only(SENTENCE)), IMAGES, "warning"),
    ("G3.7.sentences", at(only(SENTENCE), recipe(concept={"shuffle_caption": False})), IMAGES, "hint"),
    ("G3.7.sentences", at(only("Two dogs on a beach.")), IMAGES, "warning"),
    ("G3.18.twice", at(lambda n, old: [*old, "Close_Up", "close up"] if n == 4 else old), IMAGES, "hint"),
    (
        "S17",
        at(lambda n, old: old if n % 2 else [old[0], "food", *old], recipe(concept={"keep_tokens": 2})),
        IMAGES,
        "hint",
    ),
    ("S17.marks", at(marked), IMAGES, "warning"),
    ("S17.marks", at(marked, UNSHUFFLED), IMAGES, "warning"),
    ("GC.14", several(ONE_OUTFIT), "concept[0].outfit", "warning"),
    (
        "GC.14",
        several(
            (concept("lola", "a"), pictures(head="lola, bugs")), (concept("bugs", "b"), pictures(head="bugs, lola"))
        ),
        "concept[1].token",
        "warning",
    ),
    ("G3.6.underscores", at(adding("long_hair", "blue_eyes", "red_hat", "an apple")), IMAGES, "hint"),
    ("G3.6.underscores", at(lambda n, old: [*old, "long_hair" if n % 2 else "long hair"]), IMAGES, "hint"),
    ("G35.6.tags", regularised(f"food, {TOKEN}"), "regularization[0].images", "warning"),
    # scenes
    ("G1.18", at(adding("duo", every=3)), IMAGES, "hint"),
    ("G1.18", at(adding("2girls", every=2)), IMAGES, "hint"),
    ("G1.19", at(lambda n, old: [*old[:2], "trio"] if n == 9 else old), IMAGES, "hint"),
    ("G2.11", planned(SHEET, width=1536, height=768), IMAGES, "hint"),
    ("G2.11", planned(SHEET, recipe(train={"resolution": (512, 768)}), width=1024, height=768), IMAGES, "hint"),
    ("G2.12", at(adding("reference sheet", every=30)), IMAGES, "hint"),
    ("G3.16", at(lambda _n, old: [*old[:2], *old[3:]]), IMAGES, "hint"),
    (
        "GC.6",
        at(lambda n, old: [*old[:2], "profile", "from side", "action pose"] if n % 5 == 0 else old),
        IMAGES,
        "hint",
    ),
    ("GC.6.contradicting", at(adding("from above", "from below", every=30)), IMAGES, "warning"),
    ("GC.6.contradicting", at(adding("solo", "2girls", every=30)), IMAGES, "warning"),
    # looks
    ("G1.11", at(lambda n, old: [*old, "3d"] if n % 3 else old), IMAGES, "hint"),
    ("G1.11", at(lambda n, old: [*old, "by somebody"] if n % 3 else old), IMAGES, "hint"),
    ("G1.11", at(lambda n, old: [*old, "somebody (artist)"] if n % 3 else old), IMAGES, "hint"),
    ("G2.14", at(adding("watermark", every=3)), IMAGES, "hint"),
    ("G3.22", at(mode="L"), IMAGES, "hint"),
    ("G36.3", at(adding("asymmetrical armwear", every=10), MIRRORED), "concept[0].flip_aug", "warning"),
    ("G36.3", at(adding("eyepatch", every=10), MIRRORED), "concept[0].flip_aug", "warning"),
    ("GC.15", at(adding("blue eyes"), recipe(captions=BAKED)), IMAGES, "hint"),
    ("G5.16", at(of=recipe(kind="character", captions=FLEXIBLE)), "captions.tagging", "hint"),
    ("G5.11", at(adding("highres", "masterpiece", every=2)), IMAGES, "hint"),
    ("G5.11", at(adding("score_9", every=30), recipe(base={"tags": "e621"})), IMAGES, "hint"),
    ("G8.4", at(lambda n, old: old if n % 3 == 0 else [*old[:3], *old[5:]], STYLE), IMAGES, "hint"),
    ("G8.4", at(adding("1boy"), STYLE), IMAGES, "hint"),
    # boards
    ("G3.21", at(adding("spread legs", "legs", every=3)), IMAGES, "warning"),
    ("G3.21", at(adding("spread legs", "legs", every=30)), IMAGES, "hint"),
    ("G3.21", at(adding("german shepherd", "canine", every=3)), IMAGES, "warning"),
    ("G3.21", at(adding("torn shirt", "shirt", every=3)), IMAGES, "warning"),
    ("G3.6", boards("danbooru", adding("side view", every=3)), IMAGES, "warning"),
    ("G3.6", boards("e621", adding("1girl", "solo focus", every=3)), IMAGES, "warning"),
    ("GC.27", boards(None, lambda n, old: [*old, "anthro" if n % 3 else "1girl"]), IMAGES, "hint"),
    ("GC.27", boards("e621", lambda n, old: [*old, "anthro" if n % 3 else "1girl"]), IMAGES, "hint"),
    ("GC.27", boards("danbooru", lambda n, old: [*old, "feral" if n % 4 == 0 else "solo focus"]), IMAGES, "hint"),
    ("G36.1", boards("danbooru", lambda n, old: [*old, "from side" if n else "side view"]), IMAGES, "hint"),
    ("G3.6.portuguese", at(adding("fundo branco", every=30)), IMAGES, "warning"),
    ("G3.6.portuguese", at(adding("c\u00edrculo vermelho", "quadrado azul", every=30)), IMAGES, "warning"),
    ("G3.6.accents", at(adding("cora\u00e7\u00e3ozinho", every=30)), IMAGES, "hint"),
    ("G3.6.accents", at(adding("corac\u0327a\u0303ozinho", every=30)), IMAGES, "hint"),
    ("G3.6.portuguese", at(of=recipe(concept={"class": "arma"}), head=f"{TOKEN}, arma"), IMAGES, "warning"),
]
MISSES: list[Misses] = [
    # separators
    ("G5.11.wildcards", at(adding("{red} | {{blue}}"))),
    ("G3.6.sentences", at(adding("uma moça com chapéu na praia", "em um dia de sol"))),
    ("G3.6.sentences", at(adding("a girl with a hat on the beach", "em um dia de sol"), NATURAL)),
    ("G5.11.prompts", at(adding("(red circle:1.2)", "((wet))"), WEIGHTED)),
    ("G5.11.prompts", at(adding("bow (weapon)", ":)", "picture (16:9)", "hakurei reimu \\(touhou\\)", "[x]", "<3"))),
    ("S17.commas", at()),
    ("S17.commas", at(adding("steins;gate", ";d", "mr. bean", "red/blue"))),
    ("S17.commas", at(parted("; "), recipe(kohya={"caption_separator": ";"}))),
    ("S17.commas", at(only(f"{TOKEN} on a table", "food"))),
    ("S17.commas", at(parted("; "), NATURAL)),
    ("S17.commas", at(lambda _n, old: old[2:])),
    # tags
    ("G5.15", at()),
    ("G5.15", at(only(TOKEN), count=1)),
    ("G5.15", at(only(TOKEN), NATURAL)),
    ("G5.10", at(adding(*(f"thing {n}" for n in range(14))))),
    ("G3.18", at()),
    ("G3.18", at(adding(*(f"thing {n}" for n in range(15)), every=5))),
    ("G3.18", at(lambda _n, old: old[:4], recipe(captions=BAKED))),
    ("G3.18", at(only(TOKEN))),
    ("GC.3", at(numbered(5))),
    ("GC.3", at(numbered(15))),
    ("G3.15", at(lambda n, old: [*old, "lens flare"] if n else old)),
    ("G3.15", at(adding("blue eyes", "red shirt", "male", "solo", "3d"))),
    ("G3.15", at(adding("lens flare"), count=7)),
    ("G3.15", at(of=recipe(captions={"caption_prefix": "lens flare,"}))),
    ("G3.2", at(adding(*(f"thing {n}" for n in range(20))))),
    ("G3.2", at(lambda _n, old: old[2:])),
    # wording
    ("G3.7.sentences", at(only(SENTENCE), NATURAL)),
    ("G3.7.sentences", at(lambda n, old: [*old, SENTENCE] if n < 3 else old)),
    ("G3.18.twice", at()),
    ("G3.18.twice", at(lambda n, old: [*old, old[3]] if n == 4 else old, NATURAL)),
    ("S17", at(of=recipe(concept={"keep_tokens": 1}))),
    ("S17", at(lambda n, old: old if n % 2 else [old[0], "food", *old], KEPT)),
    ("S17", at(lambda n, old: old if n % 2 else [old[0], "food", *old], recipe(concept={"shuffle_caption": False}))),
    ("S17.marks", at(marked, KEPT)),
    ("S17.marks", at()),
    ("S17.marks", at(of=UNSHUFFLED)),
    ("S17.marks", at(marked, DROPPED)),
    ("GC.14", several(ONE_OUTFIT, PLAIN)),
    ("GC.14", several(ONE_OUTFIT, dressed("bluecoat", "c", "lola, bluecoat, food"))),
    ("GC.14", several((concept("lola, redcoat", "a"), pictures(head="lola, redcoat, food")))),
    ("G3.6.underscores", at(only(TOKEN, "food", "long_hair", "blue_eyes", "red_hat"))),
    ("G3.6.underscores", at(adding("score_9", "^_^", "an apple", every=2))),
    ("G3.6.underscores", at(adding("an apple"), recipe(concept={"token": "my_token"}), head="my_token, food")),
    ("G35.6.tags", regularised("food, bread")),
    # scenes
    ("G1.18", at(adding("duo", every=5))),
    ("G1.18", at(adding("duo"), STYLE)),
    ("G1.19", at(lambda n, old: [*old, "trio", "dog", "cat"] if n == 9 else old)),
    ("G1.19", at(lambda _n, old: [*old[:2], "trio"])),
    ("G2.11", planned(SHEET, width=1024, height=1024)),
    ("G2.11", planned(same, width=4096, height=4096)),
    ("G2.12", at(SHEET)),
    ("G2.12", at(adding("multiple views", every=30))),
    ("G3.16", at(lambda n, old: old if n == 3 else [*old[:2], *old[3:]])),
    ("G3.16", at(lambda _n, old: [*old[:2], *old[3:], "watercolor"])),
    ("G3.16", at(only(TOKEN, "food"))),
    ("GC.6", at(adding("from side", every=3))),
    ("GC.6", at(lambda n, old: [*old[:2], "profile", "from side", "action pose"] if n < 3 else old)),
    ("GC.6.contradicting", at(adding("from above", "from side"))),
    ("GC.6.contradicting", at(adding("from above", "from below", "multiple views"))),
    # looks
    ("G1.11", at(adding("3d", every=2))),
    ("G1.11", at(adding("3d"), STYLE)),
    ("G1.11", at(adding("3d"), recipe(concept={"class": "3d"}), head=f"{TOKEN}, 3d")),
    ("G2.14", at(adding("watermark", every=5))),
    ("G3.22", at(adding("monochrome"), mode="L")),
    ("G3.22", at()),
    ("G36.3", at(adding("asymmetrical armwear"))),
    ("G36.3", at(of=MIRRORED)),
    ("GC.15", at(adding("blue eyes"))),
    ("GC.15", at(adding("blue eyes", every=2), recipe(captions=BAKED))),
    ("G5.16", at(of=recipe(kind="character", captions=BAKED))),
    ("G5.16", at(of=CHARACTER)),
    ("G5.16", at(adding("blue eyes", every=10), recipe(kind="character", captions=FLEXIBLE))),
    ("G5.11", at(adding("highres", every=5))),
    ("G5.11", at(adding("masterpiece"), recipe(concept={"class": "masterpiece"}))),
    ("G8.4", at(of=STYLE)),
    ("G8.4", at(lambda _n, old: old[:3])),
    ("G8.4", at(adding("1boy", "red shirt"), STYLE)),
    # boards
    ("G3.21", at(adding("spread legs"))),
    ("G3.21", at(adding("shirt", "no shirt"))),
    ("G3.21", at(adding("german shepherd"), recipe(concept={"class": "dog"}), head=f"{TOKEN}, dog")),
    ("G3.21", at(adding("monochrome", "greyscale"))),
    ("G3.6", boards("e621", adding("side view", every=3))),
    ("G3.6", boards(None, adding("1girl"))),
    ("G3.6", at(adding("1girl"), NATURAL)),
    ("G3.6", at(of=recipe(base={"tags": "danbooru"}, concept={"class": "feral"}), head=f"{TOKEN}, feral")),
    ("GC.27", boards("e621", adding("anthro"))),
    ("GC.27", boards("e621", lambda n, old: [*old, "anthro" if n else "1girl"])),
    ("GC.27", boards("e621", adding("1girl"))),
    ("G36.1", boards("danbooru", adding("side view"))),
    ("G36.1", boards("danbooru", adding("from side"))),
    ("G3.6.portuguese", at(adding("white background"))),
    ("G3.6.accents", at(adding("fundo branco", "c\u00edrculo vermelho", "pok\u00e9mon (species)", "caf\u00e9"))),
    ("G3.6.accents", at(adding("by Jos\u00e9 Silva", every=9))),
    ("G3.6.accents", at(adding("cora\u00e7\u00e3ozinho"), NATURAL)),
    ("G3.6.portuguese", at(of=recipe(concept={"token": "raposa"}), head="raposa, food")),
]


@pytest.mark.parametrize(("rule", "case", "key", "severity"), FIRES)
def test_fires(rule: str, case: RuleContext, key: str, severity: str) -> None:
    assert [(finding.key, finding.severity) for finding in spoken(rule, case)] == [(key, severity)]
    assert all(finding.fix for finding in spoken(rule, case))


@pytest.mark.parametrize(("rule", "case"), MISSES)
def test_stays_silent(rule: str, case: RuleContext) -> None:
    assert spoken(rule, case) == []


def test_every_rule_of_these_topics_is_covered_both_ways() -> None:
    assert {rule for rule, *_ in FIRES} == {rule for rule, _ in MISSES} == every_rule()
    assert len(every_rule()) >= 33


def test_a_clean_set_is_silent_whatever_the_subject() -> None:
    """Also with features, clothes and gender on every image, and with a few of everything that is checked."""
    ordinary = adding("anthro", "male", "blue eyes", "red shirt", "white background", every=2)
    for kind in ("character", "style", "object", "clothing", "concept"):
        for board in ("e621", None):
            of = recipe(kind=kind, base={"tags": board}, network={"type": "locon"} if kind == "style" else {})
            assert [found for found in collect_findings(at(ordinary, of)) if found.rule in every_rule()] == []


def said(rule: str, case: RuleContext) -> tuple[str, str]:
    (found,) = spoken(rule, case)
    return str(found.message), str(found.fix)


@pytest.mark.parametrize("sign", [" ", "; ", ". ", "\uff0c", " | "])
def test_captions_without_commas_are_told_of_once(sign: str) -> None:
    case = at(parted(sign))
    assert {found.rule for found in collect_findings(case)} == {"S17.commas"}
    (found,) = spoken("S17.commas", case)
    assert found.file == "00.txt"
    assert "00.txt, 01.txt, 02.txt and 27 more" in found.message


def test_the_separator_of_the_recipe_is_offered() -> None:
    message, fix = said("S17.commas", at(parted("; ", every=30)))
    assert message == '1 caption has ";" between its tags, but sd-scripts splits tags only at commas: 00.txt'
    assert fix == 'write commas instead of ";"'
    message, fix = said("S17.commas", at(parted(", ", every=30), recipe(kohya={"caption_separator": ";"})))
    assert message.startswith('30 captions have "," between their tags, but sd-scripts splits tags only at ";": ')
    assert fix == 'write ";" instead of ","'


def test_names_are_three_at_most() -> None:
    message, fix = said("G5.10", at(numbered(15)))
    assert message == "21 tags per image on average, and 450 of 471 different tags appear on only one image"
    assert fix.endswith('removing "thing0x0", "thing0x1", "thing0x10" and 447 more')


def test_what_implies_is_kept_and_what_is_implied_goes() -> None:
    message, fix = said("G3.21", at(adding("German_Shepherd", "dog", "Shirt", "white shirt", every=3)))
    pairs = '"dog" next to "German_Shepherd", "Shirt" next to "white shirt"'
    assert message == f"captions with redundant tags: {pairs} (10 of 30)"
    assert fix == 'keep the specific tag and remove the general one: "dog", "Shirt"'


def test_the_other_boards_word_is_offered() -> None:
    assert said("G3.6", boards("danbooru", adding("side view")))[1] == 'write "from side" instead of "side view"'
    fix = said("G3.6", boards("danbooru", adding("side view", "detailed background")))[1]
    assert fix == 'write "from side" instead of "side view", and remove "detailed background"'
    assert 'tags = "e621"' in said("G3.6", boards("danbooru", adding("feral")))[1]
    fix = said("G3.6", boards("e621", adding("from side", "from above", "from behind", "1girl", "indoors")))[1]
    assert fix.startswith('write "female" instead of "1girl", "high-angle view" instead of "from above"')
    assert fix.endswith("and 2 more")


def test_the_english_word_is_offered() -> None:
    _, fix = said("G3.6.portuguese", at(adding("olhos verdes", "esboco colorido")))
    assert fix == 'write "colored sketch" instead of "esboco colorido", "green eyes" instead of "olhos verdes"'


def test_pairs_that_contradict_are_named() -> None:
    message, _ = said("GC.6.contradicting", at(lambda n, old: [*old, "from above", "from below"] if n == 3 else old))
    assert message == '1 caption contradicts itself: "from above", "from below" in 03.txt'


def test_regularization_of_the_look_is_offered() -> None:
    assert 'class = "3D"' in said("G1.11", at(lambda n, old: [*old, "3D"] if n % 3 else old))[1]


def test_a_single_tag_is_worse_for_a_style() -> None:
    assert "GC.10" in said("G5.15", at(only(TOKEN), STYLE))[1]
    assert "GC.10" not in said("G5.15", at(only(TOKEN), CHARACTER))[1]


def test_captions_are_split_as_the_recipe_says() -> None:
    semicolons = recipe(kohya={"caption_separator": ";"})
    assert spoken("G5.15", at(lambda _n, _old: [f"{TOKEN}; food; a beach"], semicolons)) == []
    assert spoken("G3.21", at(lambda _n, old: ["; ".join([*old, "spread legs", "legs"])], semicolons)) != []


def test_natural_captions_are_exempt_from_everything_about_tags() -> None:
    noisy = adding("spread legs", "legs", "fundo branco", "watermark", "1girl", "anthro", "legs")
    assert [rule for rule in every_rule() if spoken(rule, at(noisy, NATURAL))] == []
    assert len([rule for rule in every_rule() if spoken(rule, at(noisy))]) >= 5


def test_of_sentences_only_that_they_are_is_said() -> None:
    noisy = adding("spread legs", "legs", "watermark", SENTENCE)
    assert [rule for rule in every_rule() if spoken(rule, at(noisy))] == ["G3.7.sentences"]


def test_tags_are_counted_once_for_all_rules(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []
    count = tags.count_folder_tags

    def counted(folder: FolderFacts, how: tags.CaptionStyle) -> tags.FolderTags:
        calls.append(folder.path)
        return count(folder, how)

    monkeypatch.setattr(tags, "count_folder_tags", counted)
    collect_findings(several(ONE_OUTFIT, PLAIN))
    assert sorted(calls) == ["a", "b"]


@pytest.mark.parametrize(("token", "named"), [(TOKEN, True), (None, False)])
def test_few_tags_name_a_token_only_if_there_is_one(token: str | None, named: bool) -> None:
    of = recipe(kind="style", concept={"token": token, "class": None})
    (found,) = (each for each in collect_findings(at(lambda _n, old: old[2:5], of)) if each.rule == "G3.18")
    assert ("token" in f"{found.message} {found.fix}") == named
