"""Rules about how captions start: the trigger, the class, the outfit, and the prefix."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from lorabake_schemas.dataset import CaptionProblem, FolderFacts, ImageFacts
from lorabake_schemas.guide.caption_settings import (
    AFFIX_KEYS,
    get_caption_text,
    is_natural,
)
from lorabake_schemas.guide.defaults import list_leading_tags
from lorabake_schemas.guide.registry import HINT, WARNING, RuleContext, RuleHit, rule
from lorabake_schemas.guide.rules.dataset import (
    get_caption_names,
    iter_concept_folders,
    or_in_copied_captions,
    summarize_names,
)
from lorabake_schemas.guide.rules.tag_counts import find_odd_separators
from lorabake_schemas.guide.tags import (
    TAG_SEPARATOR,
    get_caption_style,
    has_sentence_words,
    has_words,
    is_sentence,
    normalize_tag,
    split_tags,
)
from lorabake_schemas.guide.vocabulary import is_common_tag
from lorabake_schemas.messages import Message, msg
from lorabake_schemas.recipe_keys import locate_option


@rule(
    "G3.10",
    WARNING,
    "The first tag of every caption is the trigger word; without it the LoRA responds to nothing.",
    unless="natural-language captions, where the token only has to be in the sentence",
)
def missing_token(situation: RuleContext) -> Iterator[RuleHit]:
    recipe = situation.recipe
    for index, folder in iter_concept_folders(situation):
        concept = recipe.concept[index]
        own = concept.token
        # a prefix comes first, and the token may be in it (TU:823)
        if own is None or get_caption_text(concept, recipe, "caption_prefix"):
            continue
        ends = get_caption_style(concept, recipe).separator
        sentences = is_natural(concept, recipe)
        if sentences:
            wrong = [image for image in folder.images if any(_lacks_token(own, text) for text in image.caption.texts)]
        else:
            wrong = _find_images_without_token(situation, index, folder, own, ends)
        if wrong:
            files = get_caption_names(folder, wrong)
            yield RuleHit(
                ("concept", index, "token"),
                *_describe_missing_token(
                    folder, own, files, len(wrong), None if sentences else ends, situation.dataset.known_tokens
                ),
                file=files[0],
            )


def _lacks_token(token: str, text: str) -> bool:
    """Whether a sentence has the token nowhere; text without words is no caption, which S12 reports."""
    return has_words(text) and token.casefold() not in text.casefold()


def _find_images_without_token(
    situation: RuleContext, index: int, folder: FolderFacts, own: str, ends: str
) -> list[ImageFacts]:
    """Those with a caption that does not start with it; in a sentence among tags it may be anywhere."""
    token, usual = _get_first_tag(own, TAG_SEPARATOR), own.partition(TAG_SEPARATOR)[0] + ends
    elsewhere = find_odd_separators(situation, index)  # S17.commas speaks of them
    mark = _get_mark(situation, index)

    def lacks(text: str) -> bool:
        if text.startswith(usual) or not has_words(text) or token in _list_front_tags(text, 1, ends, mark):
            return False
        return _lacks_token(own, text) if any(map(is_sentence, split_tags(text))) else True

    known = (image for image in folder.images if image.caption.problem is not CaptionProblem.MISSING)
    return [image for image in known if image.name not in elsewhere and any(map(lacks, image.caption.texts))]


def _describe_missing_token(
    folder: FolderFacts, token: str, files: list[str], wrong: int, ends: str | None, known: Sequence[str]
) -> tuple[Message, Message]:
    """``ends`` is None for sentences; ``known`` are words that CLIP knows."""
    names, every = summarize_names(files), len(folder.images)
    if ends is None:
        said = msg('captions without "{token}": {names} ({n} of {all})', n=wrong, all=every, token=token, names=names)
        return said, or_in_copied_captions(msg('write "{token}" in each of them', token=token), folder)
    return (
        msg(
            'captions that do not start with "{token}": {names} ({n} of {all})',
            n=wrong,
            all=every,
            token=token,
            names=names,
        ),
        _suggest_token(folder, wrong, ends, known),
    )


BOM = "\ufeff"


def _get_mark(situation: RuleContext, index: int) -> str:
    """The mark before which every tag keeps its place; empty where there is none (TU:874)."""
    return get_caption_text(situation.recipe.concept[index], situation.recipe, "keep_tokens_separator")


def _list_front_tags(text: str, kept: int, ends: str, mark: str) -> list[str]:
    """The tags that keep their place: those before the mark, and in a caption without one the first ``kept``."""
    if mark and mark in text:
        return _split_tags(text.partition(mark)[0], ends=ends)
    return _split_tags(text, kept, ends)


def _get_first_tag(text: str, ends: str) -> str:
    return text.partition(ends)[0].strip().casefold()


def _suggest_token(folder: FolderFacts, wrong: int, ends: str, known: Sequence[str]) -> Message:
    """Put the token first; or use the word that all captions start with as the token, unless it means something."""
    texts = [text for image in folder.images for text in image.caption.texts]
    firsts = {text.lstrip(BOM).split(ends)[0].strip() for text in texts}
    word = firsts.pop() if len(firsts) == 1 and wrong == len(folder.images) else ""
    if word and word not in known and not has_sentence_words(word) and not is_common_tag(normalize_tag(word)):
        return msg('put the token first, or write token = "{word}", which all captions start with', word=word)
    return or_in_copied_captions(msg("put the token first"), folder)


@rule(
    "G3.10.token",
    HINT,
    "Without a token nothing triggers the LoRA but the tags of its captions, and the class is not kept in front.",
    unless='kind = "style", or a caption_prefix',
)
def no_token(situation: RuleContext) -> Iterator[RuleHit]:
    recipe = situation.recipe
    for index, concept in enumerate(recipe.concept):
        if concept.token or concept.outfit or get_caption_text(concept, recipe, "caption_prefix"):
            continue  # G6.17.token speaks of an outfit
        fix = msg('write token = "..." and start each caption with it, or ignore this')
        if concept.class_ and concept.captions != "none":
            said = msg("without a token, class is only used for images without a caption")
            yield RuleHit(("concept", index, "class"), said, fix)
        elif recipe.kind != "style" and concept.captions != "none":
            said = msg("without a token the LoRA has no trigger word; only the tags in its captions bring it out")
            yield RuleHit(("concept", index, "token"), said, fix)


@rule(
    "G3.10.prefix",
    WARNING,
    "sd-scripts joins prefix, caption and suffix with a space, so without a comma two tags become one.",
    unless="natural-language captions",
)
def unseparated_prefix(situation: RuleContext) -> Iterator[RuleHit]:
    recipe = situation.recipe
    texts = dict[tuple[str | int, ...], str]()
    for index, concept in enumerate(recipe.concept):
        if not is_natural(concept, recipe):
            for key in AFFIX_KEYS:
                texts[locate_option(key, recipe, ("concept", index))] = get_caption_text(concept, recipe, key)
    for where, text in texts.items():
        yield from _check_affix(where, text)


def _check_affix(where: tuple[str | int, ...], text: str) -> Iterator[RuleHit]:
    prefix, suffix = (text if where[-1] == key else "" for key in AFFIX_KEYS)
    if prefix and not prefix.rstrip().endswith(","):
        yield RuleHit(
            where,
            msg(
                'it does not end in a comma, so its last tag joins the first tag of each caption: "{tag} ..."',
                tag=_split_tags(prefix)[-1],
            ),
            msg('write "{prefix},"', prefix=prefix.rstrip()),
        )
    if suffix and not suffix.lstrip().startswith(","):
        yield RuleHit(
            where,
            msg(
                'it does not start with a comma, so its first tag joins the last tag of each caption: "... {tag}"',
                tag=_split_tags(suffix)[0],
            ),
            msg('write ", {suffix}"', suffix=suffix.lstrip()),
        )


@rule(
    "G3.11",
    HINT,
    "A word that CLIP knows already has a meaning in the model, which the images must override.",
    unless="what is trained is that very thing, and results look right",
)
def known_token(situation: RuleContext) -> Iterator[RuleHit]:
    for index, concept in enumerate(situation.recipe.concept):
        if concept.token and concept.token in situation.dataset.known_tokens:
            yield RuleHit(
                ("concept", index, "token"),
                msg('"{token}" is in CLIP\'s vocabulary, so the model may already know it', token=concept.token),
                msg(
                    'if results look wrong, use a made-up word such as "{word}"',
                    word=make_unknown_word(concept.token),
                ),
            )


def make_unknown_word(word: str) -> str:
    """The word without its vowels and with a suffix that no word has, as in the guide: hmbrgrlora."""
    short = "".join(letter for letter in word.lower() if letter not in "aeiou") or word.lower()
    return f"{short}lora"


@rule(
    "G3.12",
    WARNING,
    "The class follows the token; elsewhere it is shuffled, and another tag is kept in its place.",
    unless="natural-language captions, or a caption_prefix",
)
def missing_class(situation: RuleContext) -> Iterator[RuleHit]:
    for index, folder in iter_concept_folders(situation):
        concept = situation.recipe.concept[index]
        if concept.class_:
            yield from _check_leading_tags(situation, index, folder, "class", concept.class_)


@rule(
    "G6.17",
    WARNING,
    "Token and outfit come first in every caption; an outfit that is missing there is not learned.",
    unless="natural-language captions, or a caption_prefix",
)
def missing_outfit(situation: RuleContext) -> Iterator[RuleHit]:
    for index, folder in iter_concept_folders(situation):
        concept = situation.recipe.concept[index]
        if concept.outfit:
            yield from _check_leading_tags(situation, index, folder, "outfit", concept.outfit)


def _check_leading_tags(
    situation: RuleContext, index: int, folder: FolderFacts, key: str, word: str
) -> Iterator[RuleHit]:
    """Captions that start with the token (G3.10 reports the others) but lack ``word`` among the kept tags."""
    recipe, concept = situation.recipe, situation.recipe.concept[index]
    words = list_leading_tags(concept)
    if not words or is_natural(concept, recipe) or get_caption_text(concept, recipe, "caption_prefix"):
        return
    kept, wanted = sum(len(_split_tags(each)) for each in words), set(_split_tags(word))
    ends, elsewhere = (
        get_caption_style(concept, recipe).separator,
        find_odd_separators(situation, index),
    )  # S17.commas speaks of those
    token, usual = _split_tags(words[0])[0], f"{f'{ends} '.join(words)}{ends}"
    others = [
        (image, text)
        for image in folder.images
        for text in image.caption.texts
        if text and not text.startswith(usual) and image.name not in elsewhere
    ]
    mark = _get_mark(situation, index)
    fronts = ((image, _list_front_tags(text, kept, ends, mark)) for image, text in others)
    without = [image for image, front in fronts if token in front[: None if mark else 1] and not wanted.issubset(front)]
    lacking = get_caption_names(folder, without)
    if lacking:
        yield RuleHit(
            ("concept", index, key),
            msg(
                'captions without "{word}" among the first {kept} tags: {names} ({n} of {all})',
                n=len(lacking),
                all=len(folder.images),
                word=word,
                kept=kept,
                names=summarize_names(lacking),
            ),
            or_in_copied_captions(msg('start each of them with "{words}"', words=(ends + " ").join(words)), folder),
            file=lacking[0],
        )


def _split_tags(text: str, most: int = -1, ends: str = TAG_SEPARATOR) -> list[str]:
    """The tags of a text, at most ``most`` of them."""
    return [tag.strip().casefold() for tag in text.lstrip(BOM).split(ends, most)[: most if most > 0 else None]]
