"""Rules about the number of tags and the number of images that have them, whatever the tags mean."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from lorabake_schemas.dataset import ImageFacts
from lorabake_schemas.guide.caption_settings import get_caption_text, is_natural
from lorabake_schemas.guide.registry import HINT, WARNING, RuleContext, RuleHit, rule
from lorabake_schemas.guide.rules.dataset import iter_concept_folders, summarize_items, summarize_names
from lorabake_schemas.guide.tags import FolderTags, get_caption_style, normalize_tag, split_tags
from lorabake_schemas.guide.vocabulary import get_kind_tags, is_artist, is_clothing, is_feature
from lorabake_schemas.messages import literal, msg

MIN_CAPTIONS = 8  # captions; with fewer a share is meaningless (lorabake's threshold)
MAX_IMAGE_TAGS, MIN_IMAGE_TAGS = 20, 5  # tags on an image (G3.18, G5.10)
MAX_UNSHARED_TAGS = 5  # tags of an image that no other has, on average (GC.3 calls ten of twenty many)


def iter_tagged_folders(situation: RuleContext) -> Iterator[tuple[int, FolderTags]]:
    """The tags of each concept's captions, unless most of them are sentences or have no commas to part them."""
    for index, folder in iter_captioned_folders(situation):
        if 2 * max(len(find_sentence_images(folder)), len(find_odd_separators(situation, index))) <= len(folder):
            yield index, folder


def get_concept_tags(situation: RuleContext, *keys: str) -> frozenset[str]:
    """Every tag that the concepts of the recipe are made of; ``keys`` (token, outfit, class_) limit it to these."""
    words = [getattr(concept, key) or "" for concept in situation.recipe.concept for key in keys or _CONCEPT_KEYS]
    return frozenset(normalize_tag(piece) for word in words for piece in split_tags(word))


_CONCEPT_KEYS = ("token", "outfit", "class_")


def summarize_tags(folder: FolderTags, tags: Iterable[str]) -> str:
    """The first few tags, as the captions spell them."""
    spellings = folder.list_spellings()  # once: a complete list may have each of 100,000 tags
    return summarize_items(tuple(tags), lambda tag: literal(f'"{spellings.get(tag, tag)}"'))


def get_images_key(index: int) -> tuple[str | int, ...]:
    return ("concept", index, "images")


def iter_captioned_folders(situation: RuleContext) -> Iterator[tuple[int, FolderTags]]:
    """The tags of each concept's captions, unless the recipe declares them as sentences."""
    recipe = situation.recipe
    for index, folder in iter_concept_folders(situation):
        concept = recipe.concept[index]
        if not is_natural(concept, recipe):
            tags = situation.tags.of(folder, get_caption_style(concept, recipe))
            if len(tags):
                yield index, tags


def find_odd_separators(situation: RuleContext, index: int) -> Mapping[str, str]:
    """The images of a concept whose captions separate tags with something other than a comma, and that separator."""
    concept, folder = situation.recipe.concept[index], situation.dataset.concepts[index]
    how = get_caption_style(concept, situation.recipe)
    return situation.tags.find_odd_separators(folder, how, concept.token or "")


def find_sentence_images(folder: FolderTags) -> list[ImageFacts]:
    """The images whose captions are sentences."""
    return [image for image, _ in folder.iter_images_with(folder.long)]


def _has_only_concept_tags(folder: FolderTags, own: frozenset[str]) -> bool:
    return all(len(tags) <= 1 or own.issuperset(tags) for tags in folder.tags)


@rule("G5.15", WARNING, "With a single tag, everything in the images becomes that tag: backgrounds, poses, clothes.")
def untagged_captions(situation: RuleContext) -> Iterator[RuleHit]:
    own = get_concept_tags(situation)
    for index, folder in iter_tagged_folders(situation):
        if len(folder) > 1 and _has_only_concept_tags(folder, own):
            broad = situation.recipe.kind in {"style", "concept"}
            yield RuleHit(
                get_images_key(index),
                msg(
                    "captions contain only {words}, so everything visible is learned as part of it",
                    words=_summarize_front_tags(folder),
                ),
                msg("tag what changes from image to image; nothing else works for a style or a concept (GC.10)")
                if broad
                else msg("tag what changes from image to image: view, pose, clothes, background"),
            )


def _summarize_front_tags(folder: FolderTags) -> str:
    return summarize_tags(folder, {**folder.at(0), **folder.at(1)})


@rule("G5.10", WARNING, "Beyond 20 tags on average, the learning is spread over too many of them.")
def too_many_tags(situation: RuleContext) -> Iterator[RuleHit]:
    for index, folder in iter_tagged_folders(situation):
        if folder.mean > MAX_IMAGE_TAGS:
            alone = folder.single_tags
            yield RuleHit(
                get_images_key(index),
                msg(
                    "{mean:.0f} tags per image on average, and {alone} of {all} different tags appear on only "
                    "one image",
                    mean=folder.mean,
                    all=len(folder.counts),
                    alone=len(alone),
                ),
                msg(
                    "keep only the key elements of each image; start by removing {names}",
                    names=summarize_tags(folder, alone),
                )
                if alone
                else msg("keep only the key elements of each image"),
            )


@rule("G3.18", HINT, "Use five to twenty tags per image; too few do less harm than too many.", unless="baked tagging")
def unusual_tag_count(situation: RuleContext) -> Iterator[RuleHit]:
    own = get_concept_tags(situation)
    for index, folder in iter_tagged_folders(situation):
        over = [image.name for image, tags in folder if len(tags) > MAX_IMAGE_TAGS]
        if folder.mean <= MAX_IMAGE_TAGS and 4 * len(over) > len(folder):
            yield RuleHit(
                get_images_key(index),
                msg(
                    "images with more than 20 tags: {names} ({n} of {all})",
                    n=len(over),
                    all=len(folder),
                    names=summarize_names(over),
                ),
                msg("keep only the key elements of each image"),
                file=over[0],
            )
        bare = situation.recipe.captions.tagging != "baked" and not _has_only_concept_tags(folder, own)
        has_token = situation.recipe.concept[index].token is not None
        if bare and folder.mean < MIN_IMAGE_TAGS and len(folder) >= MIN_CAPTIONS:
            yield RuleHit(
                get_images_key(index),
                msg("only {mean:.1f} tags per image on average, including token and class", mean=folder.mean)
                if has_token
                else msg("only {mean:.1f} tags per image on average", mean=folder.mean),
                msg("ignore this if there is nothing more to tag; what recurs without a tag becomes part of the token")
                if has_token
                else msg("ignore this if there is nothing more to tag; what recurs without a tag is learned anyway"),
            )


@rule("GC.3", HINT, "A tag on a single image is learned from that image alone; many such tags drown out the others.")
def unshared_tags(situation: RuleContext) -> Iterator[RuleHit]:
    for index, folder in iter_tagged_folders(situation):
        alone = folder.single_tags
        if (
            len(folder) >= MIN_CAPTIONS
            and folder.mean <= MAX_IMAGE_TAGS
            and len(alone) > MAX_UNSHARED_TAGS * len(folder)
        ):
            yield RuleHit(
                get_images_key(index),
                msg(
                    "{alone} of {all} tags appear on only one image: {names}",
                    alone=len(alone),
                    all=len(folder.counts),
                    names=summarize_tags(folder, alone),
                ),
                msg("keep tags that the model knows well; remove rare and unimportant ones"),
            )


@rule(
    "G3.15",
    HINT,
    "What is in every caption cannot be separated from the token.",
    unless="features, clothes and looks of the subject, which may well be on every image; a concept without a token",
)
def constant_tags(situation: RuleContext) -> Iterator[RuleHit]:
    own = (
        get_concept_tags(situation)
        | get_kind_tags("classes")
        | get_kind_tags("style")
        | get_kind_tags("meta")
        | get_kind_tags("praise")
    )
    for index, folder in iter_tagged_folders(situation):
        if situation.recipe.concept[index].token is None:
            continue
        constant = [
            tag for tag in folder.everywhere if tag not in own and tag != "solo" and not _is_appearance_tag(tag)
        ]
        prefix = {normalize_tag(piece) for piece in split_tags(_get_prefix(situation, index))}
        constant = [tag for tag in constant if tag not in prefix]
        if constant and len(folder) >= MIN_CAPTIONS:
            yield RuleHit(
                get_images_key(index),
                msg(
                    "tags in every caption, which are learned as part of the token: {tags}",
                    tags=summarize_tags(folder, constant),
                ),
                msg("remove the tag from images that do not show it; if all of them do, add images that do not"),
            )


def _get_prefix(situation: RuleContext, index: int) -> str:
    return get_caption_text(situation.recipe.concept[index], situation.recipe, "caption_prefix")


def _is_appearance_tag(tag: str) -> bool:
    return is_feature(tag) or is_clothing(tag) or is_artist(tag)


@rule("G3.2", HINT, "Automatic taggers describe the image but do not know its subject.")
def auto_tagged_captions(situation: RuleContext) -> Iterator[RuleHit]:
    for index, folder in iter_tagged_folders(situation):
        token = situation.recipe.concept[index].token
        begun = folder.at(0)[normalize_tag(split_tags(token)[0])] if token else len(folder)
        if folder.mean > MAX_IMAGE_TAGS and 2 * begun < len(folder):
            yield RuleHit(
                get_images_key(index),
                msg(
                    "captions look auto-tagged: {mean:.0f} tags per image, and the token comes first in only "
                    "{begun} of {all}",
                    mean=folder.mean,
                    begun=begun,
                    all=len(folder),
                ),
                msg("put token and class first in each caption and keep only the key elements"),
            )
