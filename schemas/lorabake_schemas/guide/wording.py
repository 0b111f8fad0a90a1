"""Rules about how captions are written: as tags, spelt one way, each once, with what is kept marked and told apart."""

from __future__ import annotations

import re
from collections.abc import Iterator

from lorabake_schemas.defaults import leading_tags, shuffles
from lorabake_schemas.guide.data import caption_files, listed
from lorabake_schemas.guide.registry import HINT, WARNING, Remark, Situation, rule
from lorabake_schemas.guide.tags import captioned, images_of, named, own_words, parted, sentences, tagged
from lorabake_schemas.tags import Tags, inseparable, plain, split, writing
from lorabake_schemas.words import say, told

MARK = "|||"  # what people write for keep_tokens_separator (S17)
ENOUGH_JOINED = 3  # tags with an underscore that make it a habit and no name (ours)
_JOINED = re.compile(r"[^\W_]{2,}_[^\W_]{2,}")  # long_hair, but neither ^_^ nor score_9


@rule("G3.7.sentences", WARNING, "Shuffling tears sentences apart at their commas, and models of board tags want tags.")
def captions_are_tags(situation: Situation) -> Iterator[Remark]:
    for index, folder in captioned(situation):
        others = parted(situation, index)  # S17.commas speaks of them
        wrong = caption_files(situation, [one for one in sentences(folder) if one.name not in others])
        if 10 * len(wrong) > len(folder):
            yield Remark(
                images_of(index),
                told(
                    len(wrong),
                    "{n} caption is a sentence, which is shuffled and cut like tags: {names}",
                    "{n} captions are sentences, which are shuffled and cut like tags: {names}",
                    names=listed(wrong),
                ),
                say('write tags; or, for a model that reads sentences, tags = "natural" under [base]'),
                file=wrong[0],
            )


@rule("G3.18.twice", HINT, "sd-scripts hands a tag that stands twice to the text encoder twice.")
def no_tag_stands_twice(situation: Situation) -> Iterator[Remark]:
    for index, folder in tagged(situation):
        wrong = [(image, tags) for image, tags in folder if len(set(tags)) != len(tags)]
        if wrong:
            files = caption_files(situation, [image for image, _ in wrong])
            again = dict.fromkeys(tag for _, tags in wrong for at, tag in enumerate(tags) if tag in tags[:at])
            yield Remark(
                images_of(index),
                told(
                    len(wrong),
                    "{n} caption has a tag twice: {tags}",
                    "{n} captions have a tag twice: {tags}",
                    tags=named(folder, again),
                ),
                say("take the second one out of {names}", names=listed(files)),
                file=files[0],
            )


@rule(
    "S17",
    HINT,
    "keep_tokens is one number; where captions begin with more of the concepts' words, the others are shuffled.",
    unless="a keep_tokens_separator marks what is kept",
)
def as_many_are_kept_everywhere(situation: Situation) -> Iterator[Remark]:
    recipe = situation.recipe
    if recipe.kohya.get("keep_tokens_separator"):
        return
    own = own_words(situation)
    for index, folder in tagged(situation):
        concept = recipe.concept[index]
        given = concept.keep_tokens if concept.keep_tokens is not None else recipe.captions.keep_tokens
        keep = leading_tags(concept, recipe.captions) if given is None else given
        leads = [(image, _lead(tags, own)) for image, tags in folder]
        longer = caption_files(situation, [image for image, lead in leads if lead > keep])
        if keep and shuffles(concept, recipe) and longer and any(0 < lead <= keep for _, lead in leads):
            yield Remark(
                images_of(index),
                told(
                    keep,
                    "{longer} of {all} captions begin with more of the concepts' words than the one that is kept",
                    "{longer} of {all} captions begin with more of the concepts' words than the {n} that are kept",
                    longer=len(longer),
                    all=len(folder),
                ),
                say(
                    "write {mark} behind what is to stay in front, in every caption, and "
                    'keep_tokens_separator = "{mark}" under [kohya]',
                    mark=MARK,
                ),
                file=longer[0],
            )


def _lead(tags: Tags, words: frozenset[str]) -> int:
    return next((at for at, tag in enumerate(tags) if tag not in words), len(tags))


@rule("S17.marks", WARNING, "sd-scripts looks for keep_tokens_separator when it shuffles; else the mark is text.")
def marks_are_read(situation: Situation) -> Iterator[Remark]:
    recipe = situation.recipe
    said = recipe.kohya.get("keep_tokens_separator")
    mark = said if isinstance(said, str) and said else MARK
    changed = bool(recipe.captions.caption_tag_dropout_rate or recipe.kohya.get("token_warmup_step"))  # TU:871
    for index, folder in captioned(situation):
        shuffled = shuffles(recipe.concept[index], recipe) or changed
        wrong = caption_files(situation, [image for image, _ in folder if mark in image.caption.text])
        if wrong and not (said and shuffled):
            why = say("captions are not shuffled") if said else say("no keep_tokens_separator is set")
            yield Remark(
                images_of(index),
                told(
                    len(wrong),
                    "{n} caption holds {mark}, and {why}: it is trained as text",
                    "{n} captions hold {mark}, and {why}: it is trained as text",
                    mark=mark,
                    why=why,
                ),
                say("take it out of the captions, or write shuffle_caption = true")
                if said
                else say(
                    'write keep_tokens_separator = "{mark}" under [kohya], or take it out of the captions', mark=mark
                ),
                file=wrong[0],
            )


@rule("GC.14", WARNING, "Two words that always stand together are one word to the model.")
def concepts_can_be_told_apart(situation: Situation) -> Iterator[Remark]:
    concepts = situation.recipe.concept
    places: dict[str, tuple[tuple[str | int, ...], str]] = {}  # a word, where the recipe says it, and in which string
    for index, concept in enumerate(concepts):
        for key, text in (("token", concept.token), ("outfit", concept.outfit or "")):
            for piece in split(text):
                places.setdefault(plain(piece), (("concept", index, key), text))
    folders = [folder for _, folder in tagged(situation)]
    for one, other, count in inseparable(folders, list(places)):
        if places[one][1] != places[other][1] and count > 1:
            yield Remark(
                places[other][0],
                say(
                    '"{one}" and "{other}" stand on the same {n} pictures: nothing tells them apart',
                    one=one,
                    other=other,
                    n=count,
                ),
                say(
                    'add pictures of "{one}" without "{other}", or of "{other}" on another subject',
                    one=one,
                    other=other,
                ),
            )


@rule("G3.6.underscores", HINT, "sd-scripts hands tags on as they stand: long_hair and long hair are two tags.")
def tags_are_spelt_one_way(situation: Situation) -> Iterator[Remark]:
    own = own_words(situation)
    for index, folder in tagged(situation):
        spelt = [(piece, tag) for piece, tag in folder.written.items() if tag not in own]
        joined = {tag: piece for piece, tag in spelt if "_" in piece and " " not in piece and _JOINED.search(piece)}
        spaced = {tag for piece, tag in spelt if " " in piece}
        both = [tag for tag in joined if tag in spaced]
        if both or (spaced and len(joined) >= ENOUGH_JOINED):
            yield Remark(
                images_of(index),
                told(
                    len(joined),
                    "{n} tag is written with underscores and {spaced} with spaces: {names}",
                    "{n} tags are written with underscores and {spaced} with spaces: {names}",
                    spaced=len(spaced),
                    names=listed([f'"{joined[tag]}"' for tag in both or joined]),
                ),
                say("write all of them one way, with spaces for most models"),
            )


@rule("G35.6.tags", WARNING, "A regularisation set that holds the subject trains against it.")
def regularisation_has_other_tags(situation: Situation) -> Iterator[Remark]:
    own = own_words(situation, "token")
    how = writing(situation.recipe)
    for index, part in enumerate(situation.dataset.regularisation):
        folder = situation.tags.of(part, how)
        held = [image for image, _ in folder.holding(own)] if situation.recipe.base.tags != "natural" else []
        wrong = caption_files(situation, held)
        if wrong:
            yield Remark(
                ("regularisation", index, "images"),
                told(
                    len(wrong),
                    "{n} caption here has the token of a concept: {names}",
                    "{n} captions here have the token of a concept: {names}",
                    names=listed(wrong),
                ),
                told(
                    len(wrong),
                    "move this picture to the concept, or take the caption away: the class is enough",
                    "move these pictures to the concept, or take the captions away: the class is enough",
                ),
                file=wrong[0],
            )


__all__: list[str] = []
