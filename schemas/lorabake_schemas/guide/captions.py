"""Rules about captions: whether they are there, can be read, and begin as a trigger has to."""

from __future__ import annotations

from collections.abc import Iterator

from lorabake_schemas.dataset import CAPTION_EXTENSION, CaptionProblem, FolderFacts
from lorabake_schemas.guide.data import folders, listed, training
from lorabake_schemas.guide.registry import ERROR, WARNING, Remark, Situation, rule


@rule(
    "G3.3",
    ERROR,
    "Without captions every picture gets the class token alone, and only a warning says so.",
    unless="regularisation, which needs no captions",
)
def there_are_captions(situation: Situation) -> Iterator[Remark]:
    extension = situation.recipe.captions.caption_extension or CAPTION_EXTENSION
    for index, folder in training(situation):
        missing = [image.name for image in folder.images if image.caption.problem is CaptionProblem.MISSING]
        if missing and len(missing) == len(folder.images):
            yield Remark(
                ("concept", index, "images"),
                f"no picture in {folder.path} has a {extension} caption beside it",
                "write one caption file per picture (token first, class second), or set captions.caption_extension",
            )
        elif missing:
            yield Remark(
                ("concept", index, "images"),
                f"{len(missing)} of {len(folder.images)} pictures have no caption: {listed(missing)}",
                "write them; until then they train as the class token alone",
                severity=WARNING,
            )


@rule("S12", ERROR, "sd-scripts stops on an empty or undecodable caption and swallows the rest in silence.")
def captions_can_be_read(situation: Situation) -> Iterator[Remark]:
    said = {
        CaptionProblem.EMPTY: (
            ERROR,
            "captions are empty files, on which sd-scripts stops",
            "write them or delete the files",
        ),
        CaptionProblem.NOT_UTF8: (ERROR, "captions are not UTF-8, on which sd-scripts stops", "save them as UTF-8"),
        CaptionProblem.UNREADABLE: (ERROR, "captions cannot be read", "check the permissions"),
        CaptionProblem.BOM: (
            WARNING,
            "captions begin with a byte order mark, which becomes part of the first tag",
            "save them as UTF-8 without BOM",
        ),
        CaptionProblem.BLANK: (
            WARNING,
            "captions have a blank first line, and only the first line is used",
            "put everything on the first line",
        ),
        CaptionProblem.MORE_LINES: (
            WARNING,
            "captions have more than one line; only the first is used",
            "put everything on one line",
        ),
    }
    for where, folder in folders(situation):
        for problem, (severity, message, fix) in said.items():
            names = [image.name for image in folder.images if image.caption.problem is problem]
            if names:
                yield Remark(where, f"{len(names)} {message}: {listed(names)}", fix, file=names[0], severity=severity)


@rule(
    "G3.10",
    WARNING,
    "The first tag of every caption is the trigger; without it the LoRA answers to nothing.",
    unless="natural-language captions, where the token only has to be in the sentence",
)
def token_comes_first(situation: Situation) -> Iterator[Remark]:
    if situation.recipe.base.tags == "natural":
        return
    if situation.recipe.captions.caption_prefix:  # it comes first, and the token may be in it (TU:823)
        return
    for index, folder in training(situation):
        token = situation.recipe.concept[index].token.split(",")[0].strip().casefold()
        captioned = [image for image in folder.images if image.caption.problem is not CaptionProblem.MISSING]
        wrong = [
            image.name
            for image in captioned
            if image.caption.text and image.caption.text.lstrip("\ufeff").split(",")[0].strip().casefold() != token
        ]
        if wrong:
            yield Remark(
                ("concept", index, "token"),
                f"{len(wrong)} of {len(folder.images)} captions do not begin with "
                f'"{situation.recipe.concept[index].token}": {listed(wrong)}',
                _token_or(folder, wrong),
                file=wrong[0],
            )


def _token_or(folder: FolderFacts, wrong: list[str]) -> str:
    """Put the token first; or take the word that all captions begin with as the token."""
    firsts = {image.caption.text.lstrip("\ufeff").split(",")[0].strip() for image in folder.images}
    if len(firsts) == 1 and len(wrong) == len(folder.images):
        return f'put the token first, or write token = "{firsts.pop()}", with which all of them begin'
    return "put the token first"


@rule(
    "G3.10.prefix",
    WARNING,
    "sd-scripts joins prefix, caption and suffix with a space, so without a comma two tags become one.",
    unless="natural-language captions",
)
def prefix_is_apart(situation: Situation) -> Iterator[Remark]:
    captions = situation.recipe.captions
    if situation.recipe.base.tags == "natural":
        return
    prefix, suffix = captions.caption_prefix, captions.caption_suffix
    if prefix and not prefix.rstrip().endswith(","):
        yield Remark(
            ("captions", "caption_prefix"),
            f'its last tag and the first of the caption become one: "{_tags(prefix)[-1]} ..."',
            f'write "{prefix.rstrip()},"',
        )
    if suffix and not suffix.lstrip().startswith(","):
        yield Remark(
            ("captions", "caption_suffix"),
            f'the last tag of the caption and its first become one: "... {_tags(suffix)[0]}"',
            f'write ", {suffix.lstrip()}"',
        )


@rule(
    "G3.12",
    WARNING,
    "The class stands right behind the token; elsewhere it is shuffled, and another tag is kept in its place.",
    unless="natural-language captions, or a caption_prefix",
)
def class_is_in_front(situation: Situation) -> Iterator[Remark]:
    for index, folder in training(situation):
        concept = situation.recipe.concept[index]
        if concept.class_:
            yield from _in_front(situation, index, folder, "class", concept.class_)


@rule(
    "G6.17",
    WARNING,
    "Token and outfit come first in every caption; an outfit that is not there is not learned.",
    unless="natural-language captions, or a caption_prefix",
)
def outfit_is_in_front(situation: Situation) -> Iterator[Remark]:
    for index, folder in training(situation):
        concept = situation.recipe.concept[index]
        if concept.outfit:
            yield from _in_front(situation, index, folder, "outfit", concept.outfit)


def _in_front(situation: Situation, index: int, folder: FolderFacts, key: str, word: str) -> Iterator[Remark]:
    """Captions that begin with the token (G3.10 speaks of the others) but lack ``word`` among the kept tags."""
    recipe, concept = situation.recipe, situation.recipe.concept[index]
    if recipe.base.tags == "natural" or recipe.captions.caption_prefix:
        return
    words = [each for each in (concept.token, concept.outfit, concept.class_) if each]
    kept, wanted = sum(len(_tags(each)) for each in words), set(_tags(word))
    fronts = [(image.name, _tags(image.caption.text)[:kept]) for image in folder.images if image.caption.text]
    begun = [(name, front) for name, front in fronts if front[0] == _tags(concept.token)[0]]
    lacking = [name for name, front in begun if not wanted <= set(front)]
    if lacking:
        yield Remark(
            ("concept", index, key),
            f'{len(lacking)} of {len(folder.images)} captions lack "{word}" among their first {kept} tags: '
            f"{listed(lacking)}",
            f'begin them with "{", ".join(words)}"',
            file=lacking[0],
        )


def _tags(text: str) -> list[str]:
    return [tag.strip().casefold() for tag in text.lstrip("\ufeff").split(",")]


__all__: list[str] = []
