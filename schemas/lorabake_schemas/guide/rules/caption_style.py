"""Rules about how captions are written: as tags, spelled one way, without repetition, with the kept tags marked."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator

from lorabake_schemas.guide.caption_settings import AFFIX_KEYS, find_caption_value, get_caption_text, has_wildcards
from lorabake_schemas.guide.defaults import count_leading_tags, is_shuffled
from lorabake_schemas.guide.registry import HINT, WARNING, RuleContext, RuleHit, rule
from lorabake_schemas.guide.rules.dataset import get_caption_names, summarize_names
from lorabake_schemas.guide.rules.tag_counts import (
    find_odd_separators,
    find_sentence_images,
    get_concept_tags,
    get_images_key,
    iter_captioned_folders,
    iter_tagged_folders,
    summarize_tags,
)
from lorabake_schemas.guide.tags import Tags, find_inseparable_pairs, get_caption_style, normalize_tag, split_tags
from lorabake_schemas.messages import Message, msg, nmsg
from lorabake_schemas.recipe import Recipe

SEPARATOR_MARK = "|||"  # what people write for keep_tokens_separator (S17)
MIN_UNDERSCORE_TAGS = 3  # tags with an underscore that make it a habit and no name (ours)
_UNDERSCORE_PATTERN = re.compile(r"[^\W_]{2,}_[^\W_]{2,}")  # long_hair, but not ^_^ and not score_9


@rule(
    "G3.7.sentences",
    WARNING,
    "Shuffling breaks sentences apart at their commas, and models trained on board tags expect tags.",
    unless="they are not shuffled: then it is a hint",
)
def sentence_captions(situation: RuleContext) -> Iterator[RuleHit]:
    recipe = situation.recipe
    for index, folder in iter_captioned_folders(situation):
        others = find_odd_separators(situation, index)  # S17.commas speaks of them
        wrong = get_caption_names(folder, [one for one in find_sentence_images(folder) if one.name not in others])
        n, names, concept = len(wrong), summarize_names(wrong), recipe.concept[index]
        if has_wildcards(concept, recipe):
            if wrong and is_shuffled(concept, recipe):
                yield RuleHit(
                    get_images_key(index),
                    nmsg(
                        n,
                        "{n} caption has sentences among its lines, whose parts are shuffled at every comma: {names}",
                        "{n} captions have sentences among their lines, whose parts are shuffled at every "
                        "comma: {names}",
                        names=names,
                    ),
                    msg("write shuffle_caption = false under this [[concept]]"),
                    file=wrong[0],
                )
        elif 10 * n > len(folder):
            cut = is_shuffled(concept, recipe)
            said = (
                nmsg(
                    n,
                    "{n} caption is a sentence, which is shuffled and cut like tags: {names}",
                    "{n} captions are sentences, which are shuffled and cut like tags: {names}",
                    names=names,
                )
                if cut
                else nmsg(
                    n,
                    "{n} caption is a sentence, but the base model knows tags: {names}",
                    "{n} captions are sentences, but the base model knows tags: {names}",
                    names=names,
                )
            )
            fix, severity = _suggest_natural(recipe), None if cut else HINT
            yield RuleHit(get_images_key(index), said, fix, file=wrong[0], severity=severity)


def _suggest_natural(recipe: Recipe) -> Message:
    if len(recipe.concept) > 1:
        return msg('write tags, or tags = "natural" under this [[concept]] if the model understands sentences')
    return msg('write tags, or tags = "natural" under [base] if the model understands sentences')


@rule("G3.18.twice", HINT, "sd-scripts passes a repeated tag to the text encoder twice.")
def repeated_tags(situation: RuleContext) -> Iterator[RuleHit]:
    for index, folder in iter_tagged_folders(situation):
        wrong = [(image, tags) for image, tags in folder if len(set(tags)) != len(tags)]
        if wrong:
            files = get_caption_names(folder, [image for image, _ in wrong])
            again = dict.fromkeys(tag for _, tags in wrong for tag, count in Counter(tags).items() if count > 1)
            yield RuleHit(
                get_images_key(index),
                nmsg(
                    len(wrong),
                    "{n} caption repeats a tag: {tags}",
                    "{n} captions repeat a tag: {tags}",
                    tags=summarize_tags(folder, again),
                ),
                _suggest_removal(situation, index, frozenset(again), summarize_names(files)),
                file=files[0],
            )


def _suggest_removal(situation: RuleContext, index: int, again: frozenset[str], names: Message) -> Message:
    """``again`` are the repeated tags, ``names`` the captions with them."""
    for key in AFFIX_KEYS:
        text = get_caption_text(situation.recipe.concept[index], situation.recipe, key)
        if any(normalize_tag(tag) in again for tag in split_tags(text)):
            return msg("{key} adds it to every caption: remove it from {key}, or from {names}", key=key, names=names)
    return msg("remove the duplicates from {names}", names=names)


@rule(
    "S17",
    HINT,
    "keep_tokens is one number; if captions start with more concept tags, the rest are shuffled.",
    unless="a keep_tokens_separator marks what is kept",
)
def uneven_leading_tags(situation: RuleContext) -> Iterator[RuleHit]:
    recipe = situation.recipe
    own = get_concept_tags(situation)
    for index, folder in iter_tagged_folders(situation):
        concept = recipe.concept[index]
        if get_caption_text(concept, recipe, "keep_tokens_separator"):
            continue
        given = find_caption_value(concept, recipe, "keep_tokens")
        keep = given if isinstance(given, int) else count_leading_tags(concept, recipe)
        leads = [(image, _count_leading(tags, own)) for image, tags in folder]
        longer = get_caption_names(folder, [image for image, lead in leads if lead > keep])
        if keep and is_shuffled(concept, recipe) and longer and any(0 < lead <= keep for _, lead in leads):
            yield RuleHit(
                get_images_key(index),
                msg(
                    "{longer} of {all} captions start with more concept tags than keep_tokens = {n} keeps in place",
                    n=keep,
                    longer=len(longer),
                    all=len(folder),
                ),
                msg(
                    "write {mark} after the tags that must stay in front, in every caption, and "
                    'keep_tokens_separator = "{mark}" under [captions]',
                    mark=SEPARATOR_MARK,
                ),
                file=longer[0],
            )


def _count_leading(tags: Tags, words: frozenset[str]) -> int:
    return next((at for at, tag in enumerate(tags) if tag not in words), len(tags))


@rule(
    "S17.marks",
    WARNING,
    "sd-scripts reads keep_tokens_separator only when it shuffles; without shuffling it is text.",
)
def unread_separator_marks(situation: RuleContext) -> Iterator[RuleHit]:
    recipe = situation.recipe
    for index, folder in iter_captioned_folders(situation):
        concept = recipe.concept[index]
        said = get_caption_text(concept, recipe, "keep_tokens_separator")
        mark = said or SEPARATOR_MARK
        changed = find_caption_value(concept, recipe, "caption_tag_dropout_rate") or recipe.kohya.get(
            "token_warmup_step"
        )
        shuffled = is_shuffled(concept, recipe) or bool(changed)  # TU:871
        marked = [image for image, _ in folder if any(mark in text for text in image.caption.texts)]
        wrong = get_caption_names(folder, marked)
        if wrong and not (said and shuffled):
            why = msg("captions are not shuffled") if said else msg("keep_tokens_separator is not set")
            yield RuleHit(
                get_images_key(index),
                nmsg(
                    len(wrong),
                    "{n} caption contains {mark}, but {why}, so it is trained as text",
                    "{n} captions contain {mark}, but {why}, so it is trained as text",
                    mark=mark,
                    why=why,
                ),
                msg("remove it from the captions, or write shuffle_caption = true")
                if said
                else msg(
                    'write keep_tokens_separator = "{mark}" under [captions], or remove it from the captions',
                    mark=mark,
                ),
                file=wrong[0],
            )


@rule("GC.14", WARNING, "Two tags that always appear together are one tag to the model.")
def inseparable_concepts(situation: RuleContext) -> Iterator[RuleHit]:
    concepts = situation.recipe.concept
    places: dict[
        str, tuple[tuple[str | int, ...], str]
    ] = {}  # a word, its key in the recipe, and the string that contains it
    for index, concept in enumerate(concepts):
        for key, text in (("token", concept.token or ""), ("outfit", concept.outfit or "")):
            for piece in split_tags(text):
                places.setdefault(normalize_tag(piece), (("concept", index, key), text))
    folders = [folder for _, folder in iter_tagged_folders(situation)]
    for one, other, count in find_inseparable_pairs(folders, list(places)):
        if places[one][1] != places[other][1] and count > 1:
            yield RuleHit(
                places[other][0],
                msg(
                    '"{one}" and "{other}" always appear together ({n} images), so the model cannot distinguish them',
                    one=one,
                    other=other,
                    n=count,
                ),
                msg(
                    'add images of "{one}" without "{other}", or of "{other}" on another subject',
                    one=one,
                    other=other,
                ),
            )


@rule("G3.6.underscores", HINT, "sd-scripts passes tags on unchanged: long_hair and long hair are two tags.")
def inconsistent_spelling(situation: RuleContext) -> Iterator[RuleHit]:
    own = get_concept_tags(situation)
    for index, folder in iter_tagged_folders(situation):
        spelt = [(piece, tag) for piece, tag in folder.written.items() if tag not in own]
        joined = {
            tag: piece
            for piece, tag in spelt
            if "_" in piece and " " not in piece and _UNDERSCORE_PATTERN.search(piece)
        }
        spaced = {tag for piece, tag in spelt if " " in piece}
        both = [tag for tag in joined if tag in spaced]
        if both or (spaced and len(joined) >= MIN_UNDERSCORE_TAGS):
            yield RuleHit(
                get_images_key(index),
                msg(
                    "some tags have underscores ({n}), others have spaces ({spaced}): {names}",
                    n=len(joined),
                    spaced=len(spaced),
                    names=summarize_names([f'"{joined[tag]}"' for tag in both or joined]),
                ),
                msg("write all tags the same way (with spaces for most models)"),
            )


@rule("G35.6.tags", WARNING, "A regularization set that contains the subject trains against it.")
def token_in_regularization(situation: RuleContext) -> Iterator[RuleHit]:
    own = get_concept_tags(situation, "token")
    for index, part in enumerate(situation.dataset.regularization):
        how = get_caption_style(situation.recipe.regularization[index], situation.recipe)
        folder = situation.tags.of(part, how)
        held = [image for image, _ in folder.iter_images_with(own)] if situation.recipe.base.tags != "natural" else []
        wrong = get_caption_names(folder, held)
        if wrong:
            yield RuleHit(
                ("regularization", index, "images"),
                nmsg(
                    len(wrong),
                    "{n} regularization caption contains the token of a concept: {names}",
                    "{n} regularization captions contain the token of a concept: {names}",
                    names=summarize_names(wrong),
                ),
                nmsg(
                    len(wrong),
                    "move this image to the concept, or delete the caption (the class is enough)",
                    "move these images to the concept, or delete the captions (the class is enough)",
                ),
                file=wrong[0],
            )


__all__: list[str] = []
