"""Rules about what tags say of the subject and its surroundings: look, features, clothes, backgrounds, notes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator

from lorabake_schemas.glossary import is_artist, is_asymmetric, is_background, is_clothing, is_feature, kind
from lorabake_schemas.guide.data import listed
from lorabake_schemas.guide.registry import HINT, WARNING, Remark, Situation, rule
from lorabake_schemas.guide.tags import ENOUGH, images_of, named, own_words, tagged
from lorabake_schemas.tags import FolderTags
from lorabake_schemas.words import say, told

COLOURLESS_MODES = frozenset({"1", "L", "LA", "La", "I", "I;16", "F"})  # Pillow's modes without colour


def _frequent(folder: FolderTags, test: Callable[[str], bool]) -> Iterator[tuple[str, int]]:
    """Tags that pass, with the number of pictures they are on, the most frequent first."""
    found = [(tag, count) for tag, count in folder.counts.items() if test(tag)]
    yield from sorted(found, key=lambda each: (-each[1], each[0]))


@rule(
    "G1.11",
    HINT,
    "A look that most pictures share sticks to the subject and is hard to get rid of.",
    unless="a style is what is trained",
)
def looks_vary(situation: Situation) -> Iterator[Remark]:
    own, looks = own_words(situation), kind("style")
    for index, folder in tagged(situation):
        common = [
            (tag, count)
            for tag, count in _frequent(folder, lambda tag: tag not in own and (tag in looks or is_artist(tag)))
            if 2 * count > len(folder) >= ENOUGH
        ]
        if common and situation.recipe.kind != "style":
            tag, count = folder.as_written(common[0][0]), common[0][1]
            yield Remark(
                images_of(index),
                say('{n} of {all} pictures share a look: "{tag}"', n=count, all=len(folder), tag=tag),
                say(
                    "add pictures of other looks, or a [[regularisation]] set of this one with class = "
                    '"{tag}" (G35.8); the tag stays',
                    tag=tag,
                ),
            )


@rule("G2.14", HINT, "What lies in the same place on many pictures is learned; the tag only softens that.")
def overlays_are_few(situation: Situation) -> Iterator[Remark]:
    for index, folder in tagged(situation):
        marked = list(folder.holding(kind("overlay") - own_words(situation)))
        if len(marked) > 2 and 4 * len(marked) > len(folder):
            counts = Counter(tag for _, tags in marked for tag in tags if tag in kind("overlay"))
            yield Remark(
                images_of(index),
                say(
                    "{n} of {all} pictures have something written or drawn over them: {tags}",
                    n=len(marked),
                    all=len(folder),
                    tags=named(folder, [tag for tag, _ in counts.most_common()]),
                ),
                say("crop or paint it out where you can; a handful does no harm, and those keep their tag"),
                file=marked[0][0].name,
            )


@rule("G3.22", HINT, "A drawing without colour teaches that the subject has none, unless its tags say so.")
def colourless_pictures_are_tagged(situation: Situation) -> Iterator[Remark]:
    for index, folder in tagged(situation):
        grey = [image for image, tags in folder if image.mode in COLOURLESS_MODES and not kind("colourless") & {*tags}]
        if grey:
            yield Remark(
                images_of(index),
                told(
                    len(grey),
                    "{n} picture is stored without colour and not tagged so: {names}",
                    "{n} pictures are stored without colour and not tagged so: {names}",
                    names=listed([image.name for image in grey]),
                ),
                say('add "monochrome" and "greyscale", and "sketch" where it is one'),
                file=grey[0].name,
            )


@rule("G36.3", WARNING, "Mirrored, what is on one side is taught on both (G2.19).", unless="no flip_aug")
def nothing_asymmetric_is_mirrored(situation: Situation) -> Iterator[Remark]:
    for index, folder in tagged(situation):
        sided = [tag for tag, _ in _frequent(folder, is_asymmetric)]
        if sided and situation.recipe.concept[index].flip_aug:
            yield Remark(
                ("concept", index, "flip_aug"),
                say("flip_aug mirrors what stands on one side only: {tags}", tags=named(folder, sided)),
                say("take flip_aug out if that belongs to the subject, and write asymmetric = true"),
            )


@rule("GC.15", HINT, "A feature with a tag of its own is not learned into the token.", unless='tagging is not "baked"')
def baked_features_have_no_tag(situation: Situation) -> Iterator[Remark]:
    if situation.recipe.captions.tagging != "baked":
        return
    for index, folder in tagged(situation):
        common = [tag for tag, count in _frequent(folder, is_feature) if 2 * count > len(folder)]
        if common:
            yield Remark(
                images_of(index),
                say("most captions describe what the token is to hold by itself: {tags}", tags=named(folder, common)),
                say('leave such tags to images where it is different, or write tagging = "flexible" under [captions]'),
            )


@rule("G5.16", HINT, "What no caption describes cannot be changed by a prompt.", unless='tagging is not "flexible"')
def flexible_features_have_tags(situation: Situation) -> Iterator[Remark]:
    if situation.recipe.captions.tagging != "flexible" or situation.recipe.kind not in {"character", "outfits"}:
        return
    own, folders = own_words(situation), [folder for _, folder in tagged(situation)]
    words = {tag for folder in folders for tag in folder.counts} - own
    if folders and not any(is_feature(tag) or is_clothing(tag) for tag in words):
        yield Remark(
            ("captions", "tagging"),
            say('tagging = "flexible", and no caption describes eyes, hair, skin or clothes'),
            say('tag them, or write tagging = "baked"'),
        )


@rule("G5.11", HINT, "A tag for nothing that is to be seen gets filled with something, and is needed ever after.")
def tags_can_be_seen(situation: Situation) -> Iterator[Remark]:
    notes, praise = kind("meta") - own_words(situation), kind("praise") - own_words(situation)
    for index, folder in tagged(situation):
        frequent = sum(1 for _ in folder.holding(notes))
        many = frequent > 2 and 5 * frequent > len(folder)  # a few do no harm; praise is always a slip
        unseen = notes | praise if many else praise
        marked = list(folder.holding(unseen))
        if marked:
            tags = [tag for tag, _ in _frequent(folder, unseen.__contains__)]
            yield Remark(
                images_of(index),
                told(
                    len(marked),
                    "{n} of {all} captions holds notes of a board, or praise: {tags}",
                    "{n} of {all} captions hold notes of a board, or praise: {tags}",
                    all=len(folder),
                    tags=named(folder, tags),
                ),
                say("take out what is not to be seen: the LoRA would ask for it in prompts"),
            )


@rule("G8.4", HINT, "What has no tag is learned as the style: backgrounds and clothes first of all.", unless="no style")
def styles_are_tagged_thoroughly(situation: Situation) -> Iterator[Remark]:
    if situation.recipe.kind != "style":
        return
    for index, folder in tagged(situation):
        nowhere = [image.name for image, tags in folder if not any(map(is_background, tags))]
        worn = [(image.name, any(map(is_clothing, tags))) for image, tags in folder.holding(kind("person"))]
        bare = [name for name, clothed in worn if not clothed]
        if len(folder) >= ENOUGH and 2 * len(nowhere) > len(folder):
            yield Remark(
                images_of(index),
                say("{n} of {all} captions have no background", n=len(nowhere), all=len(folder)),
                say("tag it, a plain one too: {names}", names=listed(nowhere)),
                file=nowhere[0],
            )
        elif len(worn) >= ENOUGH and 2 * len(bare) > len(worn):
            yield Remark(
                images_of(index),
                say("{n} of {all} captions with a figure name no clothes", n=len(bare), all=len(worn)),
                say("tag what is worn, or that nothing is: {names}", names=listed(bare)),
                file=bare[0],
            )


__all__: list[str] = []
