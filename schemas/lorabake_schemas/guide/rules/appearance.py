"""Rules about tags for the subject and its surroundings: look, features, clothes, backgrounds, notes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator

from lorabake_schemas.guide.registry import HINT, WARNING, RuleContext, RuleHit, rule
from lorabake_schemas.guide.rules.dataset import summarize_names
from lorabake_schemas.guide.rules.tag_counts import (
    MIN_CAPTIONS,
    get_concept_tags,
    get_images_key,
    iter_tagged_folders,
    summarize_tags,
)
from lorabake_schemas.guide.tags import FolderTags
from lorabake_schemas.guide.vocabulary import (
    get_kind_tags,
    is_artist,
    is_asymmetric,
    is_background,
    is_clothing,
    is_feature,
)
from lorabake_schemas.messages import msg, nmsg

GRAYSCALE_MODES = frozenset({"1", "L", "LA", "La", "I", "I;16", "F"})  # Pillow's modes without color


def _iter_frequent_tags(folder: FolderTags, test: Callable[[str], bool]) -> Iterator[tuple[str, int]]:
    """Tags that pass, with the number of images they are on, the most frequent first."""
    found = [(tag, count) for tag, count in folder.counts.items() if test(tag)]
    yield from sorted(found, key=lambda each: (-each[1], each[0]))


@rule(
    "G1.11",
    HINT,
    "A style that most images share becomes part of the subject and is hard to remove.",
    unless="a style is what is trained",
)
def uniform_look(situation: RuleContext) -> Iterator[RuleHit]:
    own, looks = get_concept_tags(situation), get_kind_tags("style")
    for index, folder in iter_tagged_folders(situation):
        common = [
            (tag, count)
            for tag, count in _iter_frequent_tags(
                folder, lambda tag: tag not in own and (tag in looks or is_artist(tag))
            )
            if 2 * count > len(folder) >= MIN_CAPTIONS
        ]
        if common and situation.recipe.kind != "style":
            tag, count = folder.get_spelling(common[0][0]), common[0][1]
            yield RuleHit(
                get_images_key(index),
                msg('{n} of {all} images have the same style: "{tag}"', n=count, all=len(folder), tag=tag),
                msg(
                    "add images in other styles, or a [[regularization]] set in this style with class = "
                    '"{tag}" (G35.8); keep the tag',
                    tag=tag,
                ),
            )


@rule("G2.14", HINT, "What is in the same place on many images is learned; a tag only weakens that.")
def frequent_overlays(situation: RuleContext) -> Iterator[RuleHit]:
    for index, folder in iter_tagged_folders(situation):
        marked = list(folder.iter_images_with(get_kind_tags("overlay") - get_concept_tags(situation)))
        if len(marked) > 2 and 4 * len(marked) > len(folder):
            counts = Counter(tag for _, tags in marked for tag in tags if tag in get_kind_tags("overlay"))
            yield RuleHit(
                get_images_key(index),
                msg(
                    "{n} of {all} images have text or graphics over them: {tags}",
                    n=len(marked),
                    all=len(folder),
                    tags=summarize_tags(folder, [tag for tag, _ in counts.most_common()]),
                ),
                msg("crop or paint it out where possible; a few such images do no harm if they keep the tag"),
                file=marked[0][0].name,
            )


@rule("G3.22", HINT, "A drawing without color teaches that the subject has none, unless its tags name it.")
def untagged_grayscale(situation: RuleContext) -> Iterator[RuleHit]:
    for index, folder in iter_tagged_folders(situation):
        grey = [
            image
            for image, tags in folder
            if image.mode in GRAYSCALE_MODES and not get_kind_tags("colourless") & {*tags}
        ]
        if grey:
            yield RuleHit(
                get_images_key(index),
                nmsg(
                    len(grey),
                    "{n} image is grayscale but not tagged as such: {names}",
                    "{n} images are grayscale but not tagged as such: {names}",
                    names=summarize_names([image.name for image in grey]),
                ),
                msg('add "monochrome" and "greyscale", and "sketch" if it is a sketch'),
                file=grey[0].name,
            )


@rule(
    "G36.3", WARNING, "Flipping teaches what is on one side of the subject on both sides (G2.19).", unless="no flip_aug"
)
def mirrored_asymmetry(situation: RuleContext) -> Iterator[RuleHit]:
    for index, folder in iter_tagged_folders(situation):
        sided = [tag for tag, _ in _iter_frequent_tags(folder, is_asymmetric)]
        if sided and situation.recipe.concept[index].flip_aug:
            yield RuleHit(
                ("concept", index, "flip_aug"),
                msg("flip_aug mirrors features that are on one side only: {tags}", tags=summarize_tags(folder, sided)),
                msg("if they belong to the subject, remove flip_aug and write asymmetric = true"),
            )


@rule(
    "GC.15", HINT, "A feature with a separate tag is not learned as part of the token.", unless='tagging is not "baked"'
)
def tagged_baked_features(situation: RuleContext) -> Iterator[RuleHit]:
    if situation.recipe.captions.tagging != "baked":
        return
    for index, folder in iter_tagged_folders(situation):
        common = [tag for tag, count in _iter_frequent_tags(folder, is_feature) if 2 * count > len(folder)]
        if common:
            yield RuleHit(
                get_images_key(index),
                msg(
                    "most captions tag features that the token should learn: {tags}",
                    tags=summarize_tags(folder, common),
                ),
                msg(
                    'use these tags only on images where the feature differs, or write tagging = "flexible" '
                    "under [captions]"
                ),
            )


@rule("G5.16", HINT, "What no caption describes cannot be changed by a prompt.", unless='tagging is not "flexible"')
def untagged_flexible_features(situation: RuleContext) -> Iterator[RuleHit]:
    if situation.recipe.captions.tagging != "flexible" or situation.recipe.kind not in {"character", "outfits"}:
        return
    own, folders = get_concept_tags(situation), [folder for _, folder in iter_tagged_folders(situation)]
    words = {tag for folder in folders for tag in folder.counts} - own
    if folders and not any(is_feature(tag) or is_clothing(tag) for tag in words):
        yield RuleHit(
            ("captions", "tagging"),
            msg('tagging = "flexible" is set, but no caption describes eyes, hair, skin or clothes'),
            msg('tag them, or write tagging = "baked"'),
        )


@rule(
    "G5.11",
    HINT,
    "A tag for something that is not visible is learned as something else, and is needed in every prompt.",
)
def invisible_tags(situation: RuleContext) -> Iterator[RuleHit]:
    notes, praise = (
        get_kind_tags("meta") - get_concept_tags(situation),
        get_kind_tags("praise") - get_concept_tags(situation),
    )
    for index, folder in iter_tagged_folders(situation):
        frequent = sum(1 for _ in folder.iter_images_with(notes))
        many = frequent > 2 and 5 * frequent > len(folder)  # a few do no harm; praise is always a slip
        unseen = notes | praise if many else praise
        marked = list(folder.iter_images_with(unseen))
        if marked:
            tags = [tag for tag, _ in _iter_frequent_tags(folder, unseen.__contains__)]
            yield RuleHit(
                get_images_key(index),
                msg(
                    "captions with meta or quality tags: {tags} ({n} of {all})",
                    n=len(marked),
                    all=len(folder),
                    tags=summarize_tags(folder, tags),
                ),
                msg("remove these tags; they describe nothing in the image, and prompts would need them later"),
            )


@rule(
    "G8.4", HINT, "Untagged content is learned as part of the style: backgrounds and clothes first.", unless="no style"
)
def incomplete_style_tags(situation: RuleContext) -> Iterator[RuleHit]:
    if situation.recipe.kind != "style":
        return
    for index, folder in iter_tagged_folders(situation):
        nowhere = [image.name for image, tags in folder if not any(map(is_background, tags))]
        worn = [
            (image.name, any(map(is_clothing, tags)))
            for image, tags in folder.iter_images_with(get_kind_tags("person"))
        ]
        bare = [name for name, clothed in worn if not clothed]
        if len(folder) >= MIN_CAPTIONS and 2 * len(nowhere) > len(folder):
            yield RuleHit(
                get_images_key(index),
                msg("{n} of {all} captions do not tag the background", n=len(nowhere), all=len(folder)),
                msg("tag the background, even a plain one: {names}", names=summarize_names(nowhere)),
                file=nowhere[0],
            )
        elif len(worn) >= MIN_CAPTIONS and 2 * len(bare) > len(worn):
            yield RuleHit(
                get_images_key(index),
                msg(
                    "{n} of {all} captions with a person or character do not tag the clothes",
                    n=len(bare),
                    all=len(worn),
                ),
                msg("tag the clothes, or that there are none: {names}", names=summarize_names(bare)),
                file=bare[0],
            )


__all__: list[str] = []
