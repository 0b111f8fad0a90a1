"""Rules about how many tags there are and on how many pictures they stand, whatever they say."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from lorabake_schemas.dataset import ImageFacts
from lorabake_schemas.glossary import is_artist, is_clothing, is_feature, kind
from lorabake_schemas.guide.data import SHOWN, listed, training
from lorabake_schemas.guide.registry import HINT, WARNING, Remark, Situation, rule
from lorabake_schemas.tags import FolderTags, plain, split, writing
from lorabake_schemas.words import say, told

ENOUGH = 8  # captions; of fewer a share tells nothing (ours)
MOST, FEWEST = 20, 5  # tags on a picture (G3.18, G5.10)
UNSHARED = 5  # tags on a picture that stand on no other, on average (GC.3 calls ten of twenty much; ours)


def tagged(situation: Situation) -> Iterator[tuple[int, FolderTags]]:
    """The tags of each concept's captions, unless most of them are sentences or have no commas to part them."""
    for index, folder in captioned(situation):
        if 2 * max(len(sentences(folder)), len(parted(situation, index))) <= len(folder):
            yield index, folder


def own_words(situation: Situation, *keys: str) -> frozenset[str]:
    """Every tag that the concepts of the recipe are made of; ``keys`` (token, outfit, class_) limit it to these."""
    words = [getattr(concept, key) or "" for concept in situation.recipe.concept for key in keys or _KEYS]
    return frozenset(plain(piece) for word in words for piece in split(word))


_KEYS = ("token", "outfit", "class_")


def named(folder: FolderTags, tags: Iterable[str]) -> str:
    """The first few tags, as the captions spell them."""
    every = tuple(tags)
    return listed([*(f'"{folder.as_written(tag)}"' for tag in every[:SHOWN]), *every[SHOWN:]])


def images_of(index: int) -> tuple[str | int, ...]:
    return ("concept", index, "images")


def captioned(situation: Situation) -> Iterator[tuple[int, FolderTags]]:
    """The tags of each concept's captions, unless the recipe says that they are sentences."""
    if situation.recipe.base.tags == "natural":
        return
    how = writing(situation.recipe)
    for index, folder in training(situation):
        tags = situation.tags.of(folder, how)
        if len(tags):
            yield index, tags


def parted(situation: Situation, index: int) -> Mapping[str, str]:
    """The pictures of a concept whose captions part their tags with another sign than the comma, and the sign."""
    token, folder = situation.recipe.concept[index].token, situation.dataset.concepts[index]
    return situation.tags.parted(folder, writing(situation.recipe), token)


def sentences(folder: FolderTags) -> list[ImageFacts]:
    """The pictures whose captions are sentences."""
    return [image for image, _ in folder.holding(folder.long)]


def _says_nothing(folder: FolderTags, own: frozenset[str]) -> bool:
    return all(len(tags) <= 1 or own.issuperset(tags) for tags in folder.tags)


@rule("G5.15", WARNING, "With one tag everything in the pictures becomes that tag: backgrounds, poses, clothes.")
def captions_say_something(situation: Situation) -> Iterator[Remark]:
    own = own_words(situation)
    for index, folder in tagged(situation):
        if len(folder) > 1 and _says_nothing(folder, own):
            broad = situation.recipe.kind in {"style", "concept"}
            yield Remark(
                images_of(index),
                say("no caption has a tag beside {words}: all that is seen melts into that", words=_front(folder)),
                say("tag what changes from picture to picture; for a style or a concept nothing else can work (GC.10)")
                if broad
                else say("tag what changes from picture to picture: view, pose, clothes, background"),
            )


def _front(folder: FolderTags) -> str:
    return named(folder, {**folder.at(0), **folder.at(1)})


@rule("G5.10", WARNING, "Beyond 20 tags on average the learning is spread over too many of them.")
def tags_are_not_too_many(situation: Situation) -> Iterator[Remark]:
    for index, folder in tagged(situation):
        if folder.mean > MOST:
            alone = folder.once
            yield Remark(
                images_of(index),
                say(
                    "{mean:.0f} tags on a picture on average; of {all} different ones {alone} stand on one only",
                    mean=folder.mean,
                    all=len(folder.counts),
                    alone=len(alone),
                ),
                say("keep the key elements of each picture; begin with {names}", names=named(folder, alone))
                if alone
                else say("keep the key elements of each picture"),
            )


@rule("G3.18", HINT, "Five to twenty tags on a picture; too few do less harm than too many.", unless="baked tagging")
def tags_are_as_many_as_they_should(situation: Situation) -> Iterator[Remark]:
    own = own_words(situation)
    for index, folder in tagged(situation):
        over = [image.name for image, tags in folder if len(tags) > MOST]
        if folder.mean <= MOST and 4 * len(over) > len(folder):
            yield Remark(
                images_of(index),
                told(
                    len(over),
                    "{n} of {all} pictures has more than 20 tags: {names}",
                    "{n} of {all} pictures have more than 20 tags: {names}",
                    all=len(folder),
                    names=listed(over),
                ),
                say("keep the key elements of each"),
                file=over[0],
            )
        bare = situation.recipe.captions.tagging != "baked" and not _says_nothing(folder, own)
        if bare and folder.mean < FEWEST and len(folder) >= ENOUGH:
            yield Remark(
                images_of(index),
                say("{mean:.1f} tags on a picture on average, token and class included", mean=folder.mean),
                say("fine if there is no more to say; what returns and has no tag becomes part of the token"),
            )


@rule("GC.3", HINT, "A tag on a single picture is learned from that picture alone; many of them drown the others.")
def tags_are_shared(situation: Situation) -> Iterator[Remark]:
    for index, folder in tagged(situation):
        alone = folder.once
        if len(folder) >= ENOUGH and folder.mean <= MOST and len(alone) > UNSHARED * len(folder):
            yield Remark(
                images_of(index),
                say(
                    "{alone} of {all} tags stand on one picture only: {names}",
                    alone=len(alone),
                    all=len(folder.counts),
                    names=named(folder, alone),
                ),
                say("harmless for words the model knows; take out those it hardly knows and those of no importance"),
            )


@rule(
    "G3.15",
    HINT,
    "What stands in every caption cannot be told from the token.",
    unless="features, clothes and looks of the subject, which may well be on every picture",
)
def common_tags_were_checked(situation: Situation) -> Iterator[Remark]:
    own = own_words(situation) | kind("classes") | kind("style") | kind("meta") | kind("praise")
    for index, folder in tagged(situation):
        constant = [tag for tag in folder.everywhere if tag not in own and tag != "solo" and not _is_looks(tag)]
        prefix = {plain(piece) for piece in split(situation.recipe.captions.caption_prefix or "")}
        constant = [tag for tag in constant if tag not in prefix]
        if constant and len(folder) >= ENOUGH:
            yield Remark(
                images_of(index),
                told(
                    len(constant),
                    "{tags} stands in every caption: it is learned as one with the token",
                    "{tags} stand in every caption: they are learned as one with the token",
                    tags=named(folder, constant),
                ),
                say("take it out where it is not to be seen; if it always is, add pictures without it"),
            )


def _is_looks(tag: str) -> bool:
    return is_feature(tag) or is_clothing(tag) or is_artist(tag)


@rule("G3.2", HINT, "Automatic taggers say much about a picture and nothing of its subject.")
def tags_are_by_hand(situation: Situation) -> Iterator[Remark]:
    for index, folder in tagged(situation):
        first = plain(split(situation.recipe.concept[index].token)[0])
        begun = folder.at(0)[first]
        if folder.mean > MOST and 2 * begun < len(folder):
            yield Remark(
                images_of(index),
                say(
                    "{mean:.0f} tags on a picture and the token in front of {begun} of {all}: this looks auto-tagged",
                    mean=folder.mean,
                    begun=begun,
                    all=len(folder),
                ),
                say("put token and class in front of each caption and keep the key elements only"),
            )


__all__ = ["ENOUGH", "captioned", "images_of", "named", "own_words", "parted", "sentences", "tagged"]
