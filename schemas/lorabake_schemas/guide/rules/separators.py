"""Rules about punctuation in captions: what separates the tags, and prompt syntax."""

from __future__ import annotations

import re
from collections.abc import Iterator

from lorabake_schemas.dataset import ImageFacts
from lorabake_schemas.guide.caption_settings import has_wildcards
from lorabake_schemas.guide.registry import WARNING, RuleContext, RuleHit, rule
from lorabake_schemas.guide.rules.dataset import get_caption_names, iter_concept_folders, summarize_names
from lorabake_schemas.guide.rules.tag_counts import find_odd_separators, get_images_key, iter_captioned_folders
from lorabake_schemas.guide.tags import TAG_SEPARATOR, get_caption_style, has_choice
from lorabake_schemas.messages import Message, literal, msg, nmsg


@rule(
    "S17.commas",
    WARNING,
    "sd-scripts splits captions at commas (caption_separator) only; tags separated differently are one long tag.",
    unless="natural-language captions",
)
def missing_commas(situation: RuleContext) -> Iterator[RuleHit]:
    for index, folder in iter_captioned_folders(situation):
        comma = get_caption_style(situation.recipe.concept[index], situation.recipe).separator
        ends = msg("commas") if comma == TAG_SEPARATOR else literal(f'"{comma}"')
        found: dict[str, list[ImageFacts]] = {}
        signs = find_odd_separators(situation, index)
        for image in folder.images if signs else ():
            if image.name in signs:
                found.setdefault(signs[image.name], []).append(image)
        for sign, images in found.items():
            files = get_caption_names(folder, images)
            message, fix = _describe_separator(sign, situation.recipe.concept[index].token or "", files, ends)
            yield RuleHit(get_images_key(index), message, fix, file=files[0])


WEIGHTS = (
    r"\([^()]*[^\W\d_][^()]*:\s*\d*\.?\d+\s*\)"  # (words:1.2); (16:9) has no words
    r"|\(\([^()]+\)\)|\[\[[^\[\]]+\]\]"  # ((words)), [[words]]
)
OTHER_PROMPT_SYNTAX = (
    r"<\w+:[^<>]+>"  # <lora:name:1>
    r"|\[[^\[\]]*\|[^\[\]]*\]|\[[^\[\]]*:[^\[\]]*:\s*\d*\.?\d+\s*\]"  # [one|other], [one:other:0.5]
    r"|\bBREAK\b"
)


@rule(
    "G5.11.prompts",
    WARNING,
    "Weights, LoRAs and alternatives are prompt syntax; in a caption they are plain text.",
    unless="weights with weighted_captions, which sd-scripts applies (TN:425)",
)
def prompt_syntax_in_captions(situation: RuleContext) -> Iterator[RuleHit]:
    weighted = situation.recipe.kohya.get("weighted_captions") is True
    syntax = re.compile(OTHER_PROMPT_SYNTAX if weighted else f"{WEIGHTS}|{OTHER_PROMPT_SYNTAX}")
    for index, folder in iter_concept_folders(situation):
        found = [
            (image, signs)
            for image in folder.images
            for text in image.caption.texts
            if (signs := _find_prompt_syntax(text, syntax))
        ]
        if found:
            files = get_caption_names(folder, [image for image, _ in found])
            yield RuleHit(
                get_images_key(index),
                nmsg(
                    len(files),
                    "{n} caption contains prompt syntax, which is trained as text: {signs} in {names}",
                    "{n} captions contain prompt syntax, which is trained as text: {signs} in {names}",
                    signs=summarize_names(list(dict.fromkeys(sign for _, signs in found for sign in signs))),
                    names=summarize_names(files),
                ),
                msg("keep the words and remove brackets, numbers and <...>"),
                file=files[0],
            )


@rule(
    "G5.11.wildcards",
    WARNING,
    "Only with enable_wildcard is {a|b} a choice; without it sd-scripts trains the braces.",
)
def unread_wildcards(situation: RuleContext) -> Iterator[RuleHit]:
    recipe = situation.recipe
    for index, folder in iter_concept_folders(situation):
        if has_wildcards(recipe.concept[index], recipe):
            continue
        files = get_caption_names(folder, [image for image in folder.images if has_choice(image.caption.text)])
        if files:
            said = msg(
                "captions with choices such as {example}, which are trained as text: {names} ({n} of {all})",
                example="{a|b}",
                n=len(files),
                all=len(folder.images),
                names=summarize_names(files),
            )
            fix = msg("write enable_wildcard = true under [captions], or keep one of the choices")
            yield RuleHit(get_images_key(index), said, fix, file=files[0])


def _find_prompt_syntax(text: str, syntax: re.Pattern[str]) -> list[str]:
    return syntax.findall(text) if any(sign in text for sign in _PROMPT_STARTS) else []


_PROMPT_STARTS = ("(", "[", "<", "BREAK")


def _describe_separator(sign: str, token: str, files: list[str], ends: Message) -> tuple[Message, Message]:
    n, names = len(files), summarize_names(files)
    if sign == " ":
        message = nmsg(
            n,
            '{n} caption has only a space after "{token}", so the token and the next tag become one: {names}',
            '{n} captions have only a space after "{token}", so the token and the next tag become one: {names}',
            token=token,
            names=names,
        )
        return message, msg("write {ends} between the tags", ends=ends)
    message = nmsg(
        n,
        '{n} caption has "{sign}" between its tags, but sd-scripts splits tags only at {ends}: {names}',
        '{n} captions have "{sign}" between their tags, but sd-scripts splits tags only at {ends}: {names}',
        ends=ends,
        sign=sign,
        names=names,
    )
    return message, msg('write {ends} instead of "{sign}"', ends=ends, sign=sign)


__all__: list[str] = []
