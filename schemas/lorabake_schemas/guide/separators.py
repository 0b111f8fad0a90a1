"""Rules about the signs in captions that are no words: what parts the tags, and what only prompts may hold."""

from __future__ import annotations

import re
from collections.abc import Iterator

from lorabake_schemas.dataset import ImageFacts
from lorabake_schemas.guide.data import caption_files, listed, training
from lorabake_schemas.guide.registry import WARNING, Remark, Situation, rule
from lorabake_schemas.guide.tags import captioned, images_of, parted
from lorabake_schemas.tags import SEPARATOR, writing
from lorabake_schemas.words import Said, quoted, say, told


@rule(
    "S17.commas",
    WARNING,
    "sd-scripts splits captions at commas (caption_separator) only; tags that are parted otherwise are one long tag.",
    unless="natural-language captions",
)
def tags_end_with_commas(situation: Situation) -> Iterator[Remark]:
    comma = writing(situation.recipe).separator
    ends = say("commas") if comma == SEPARATOR else quoted(f'"{comma}"')
    for index, folder in captioned(situation):
        found: dict[str, list[ImageFacts]] = {}
        signs = parted(situation, index)
        for image in folder.images if signs else ():
            if image.name in signs:
                found.setdefault(signs[image.name], []).append(image)
        for sign, images in found.items():
            files = caption_files(situation, images)
            message, fix = _parted_by(sign, situation.recipe.concept[index].token, files, ends)
            yield Remark(images_of(index), message, fix, file=files[0])


PROMPTING = re.compile(
    r"<\w+:[^<>]+>"  # <lora:name:1>
    r"|\([^()]*[^\W\d_][^()]*:\s*\d*\.?\d+\s*\)"  # (words:1.2); (16:9) has no words
    r"|\(\([^()]+\)\)|\[\[[^\[\]]+\]\]"  # ((words)), [[words]]
    r"|\[[^\[\]]*\|[^\[\]]*\]|\[[^\[\]]*:[^\[\]]*:\s*\d*\.?\d+\s*\]"  # [one|other], [one:other:0.5]
    r"|\bBREAK\b"
)


@rule("G5.11.prompts", WARNING, "Weights, LoRAs and alternatives are read by programs that take prompts, not here.")
def captions_are_no_prompts(situation: Situation) -> Iterator[Remark]:
    for index, folder in training(situation):
        found = [(image, signs) for image in folder.images if (signs := _prompting(image.caption.text))]
        if found:
            files = caption_files(situation, [image for image, _ in found])
            yield Remark(
                images_of(index),
                told(
                    len(files),
                    "{n} caption has signs of prompts, which are trained as letters: {signs} in {names}",
                    "{n} captions have signs of prompts, which are trained as letters: {signs} in {names}",
                    signs=listed(list(dict.fromkeys(sign for _, signs in found for sign in signs))),
                    names=listed(files),
                ),
                say("leave the words and take brackets, numbers and <...> out"),
                file=files[0],
            )


def _prompting(text: str) -> list[str]:
    return PROMPTING.findall(text) if any(sign in text for sign in _BEGINNINGS) else []


_BEGINNINGS = ("(", "[", "<", "BREAK")


def _parted_by(sign: str, token: str, files: list[str], ends: Said) -> tuple[Said, Said]:
    n, names = len(files), listed(files)
    if sign == " ":
        message = told(
            n,
            '{n} caption has nothing but a space behind "{token}", which joins it to what follows: {names}',
            '{n} captions have nothing but a space behind "{token}", which joins it to what follows: {names}',
            token=token,
            names=names,
        )
        return message, say("write {ends} between the tags", ends=ends)
    message = told(
        n,
        '{n} caption has "{sign}" between its tags; sd-scripts ends a tag at {ends} only: {names}',
        '{n} captions have "{sign}" between their tags; sd-scripts ends a tag at {ends} only: {names}',
        ends=ends,
        sign=sign,
        names=names,
    )
    return message, say('write {ends} in place of "{sign}"', ends=ends, sign=sign)


__all__: list[str] = []
