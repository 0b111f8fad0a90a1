"""Rules about caption files: whether they are there, are the right ones, can be read, and are not too long."""

from __future__ import annotations

from collections.abc import Iterator

from lorabake_schemas.dataset import CAPTION_EXTENSION, CaptionProblem, FolderFacts, ImageFacts
from lorabake_schemas.defaults import leading_words, token_limit_of
from lorabake_schemas.guide.caption_faults import fault
from lorabake_schemas.guide.data import caption_file, caption_files, folders, listed, training
from lorabake_schemas.guide.registry import ERROR, HINT, WARNING, Remark, Situation, rule
from lorabake_schemas.words import Said, say, told

LONGEST = 225  # tokens: more sd-scripts cannot be told to take (TU:3902)


def _ending(situation: Situation) -> str:
    return situation.recipe.captions.caption_extension or CAPTION_EXTENSION


@rule(
    "G3.3",
    ERROR,
    "Without captions every image trains as token and class alone, and only a warning reports it.",
    unless="regularisation, which needs no captions; captions whose name differs in capital letters (G3.3.other)",
)
def there_are_captions(situation: Situation) -> Iterator[Remark]:
    ending = _ending(situation)
    for index, folder in training(situation):
        missing = [image.name for image in folder.images if image.caption.problem is CaptionProblem.MISSING]
        where = ("concept", index, "images")
        if missing and len(missing) == len(folder.images):
            yield Remark(
                where,
                say("no picture in {path} has a {ending} caption beside it", path=folder.path, ending=ending),
                _instead(folder),
            )
        elif lacking := _without(missing, folder.miscased, ending):
            yield Remark(
                where,
                told(
                    len(lacking),
                    "{n} of {all} pictures has no caption: {names}",
                    "{n} of {all} pictures have no caption: {names}",
                    all=len(folder.images),
                    names=listed(lacking),
                ),
                told(
                    len(lacking),
                    'write it; until then the image trains as "{words}" alone',
                    'write them; until then these images train as "{words}" alone',
                    words=", ".join(leading_words(situation.recipe.concept[index])),
                ),
                file=lacking[0],
                severity=WARNING,
            )


def _without(missing: list[str], miscased: tuple[str, ...], ending: str) -> list[str]:
    """The pictures that have not even a caption with other capital letters."""
    known = {name[: -len(ending)].lower() for name in miscased}
    return [name for name in missing if name.rpartition(".")[0].lower() not in known]


def _instead(folder: FolderFacts) -> Said:
    """What to do when no picture has a caption: perhaps captions of another kind are there."""
    if folder.others:
        other = folder.others[0].rpartition(".")[2]
        return say('write caption_extension = ".{other}" under [captions]: such files are there', other=other)
    if folder.miscased:
        return say("capital letters count; rename {names}", names=listed(folder.miscased))
    return say("write one caption file per picture (token first, class second), or set captions.caption_extension")


@rule("G3.3.other", WARNING, "sd-scripts reads captions of one ending only, and capital letters count.")
def captions_are_those_that_are_read(situation: Situation) -> Iterator[Remark]:
    ending = _ending(situation)
    for where, folder in folders(situation):
        if all(image.caption.problem is CaptionProblem.MISSING for image in folder.images):
            continue  # G3.3 names them
        if folder.miscased:
            yield Remark(
                where,
                told(
                    len(folder.miscased),
                    "{n} caption is not read, because of its capital letters: {names}",
                    "{n} captions are not read, because of their capital letters: {names}",
                    names=listed(folder.miscased),
                ),
                say("name each caption like its picture, with {ending} at its end", ending=ending),
                file=folder.miscased[0],
            )
        if folder.others:
            yield Remark(
                where,
                told(
                    len(folder.others),
                    "{n} caption of another ending is not read: {names}",
                    "{n} captions of another ending are not read: {names}",
                    names=listed(folder.others),
                ),
                told(
                    len(folder.others),
                    "delete or move it, or set captions.caption_extension; now it is {ending}",
                    "delete or move them, or set captions.caption_extension; now it is {ending}",
                    ending=ending,
                ),
                file=folder.others[0],
                severity=HINT,
            )


@rule("G3.3.orphans", HINT, "A caption without a picture is read by nobody; often one of the two was renamed.")
def captions_have_pictures(situation: Situation) -> Iterator[Remark]:
    for where, folder in folders(situation):
        if folder.images and folder.orphans:
            yield Remark(
                where,
                told(
                    len(folder.orphans),
                    "{n} caption has no picture: {names}",
                    "{n} captions have no picture: {names}",
                    names=listed(folder.orphans),
                ),
                say("name each like its picture, or delete it"),
                file=folder.orphans[0],
            )


@rule(
    "G35.4",
    WARNING,
    "A caption beside a regularisation picture takes the place of the class token.",
    unless="all of them have one",
)
def regularisation_needs_no_captions(situation: Situation) -> Iterator[Remark]:
    for index, folder in enumerate(situation.dataset.regularisation):
        those = [image for image in folder.images if image.caption.problem is not CaptionProblem.MISSING]
        own = caption_files(situation, those)
        if own and len(own) < len(folder.images):
            yield Remark(
                ("regularisation", index, "images"),
                told(
                    len(own),
                    '{n} of {all} pictures has a caption, which takes the place of "{token}": {names}',
                    '{n} of {all} pictures have captions, which take the place of "{token}": {names}',
                    all=len(folder.images),
                    token=situation.recipe.regularisation[index].class_,
                    names=listed(own),
                ),
                told(len(own), "delete it, or give every picture one", "delete them, or give every picture one"),
                file=own[0],
            )


# With enable_wildcard every line that is not blank counts, and one is picked each time (TU:1964, TU:841).
WITH_WILDCARDS = frozenset({CaptionProblem.BLANK, CaptionProblem.MORE_LINES})


@rule("S12", ERROR, "sd-scripts stops on an empty or undecodable caption and swallows the rest in silence.")
def captions_can_be_read(situation: Situation) -> Iterator[Remark]:
    lines = WITH_WILDCARDS if situation.recipe.kohya.get("enable_wildcard") is True else frozenset[CaptionProblem]()
    for where, folder in folders(situation):
        found: dict[CaptionProblem, list[str]] = {}
        for image in folder.images:
            if image.caption.problem is not None:
                found.setdefault(image.caption.problem, []).append(caption_file(situation, image))
        for problem in CaptionProblem:
            if problem in found and problem is not CaptionProblem.MISSING and problem not in lines:
                severity, message, fix = fault(problem, found[problem])
                yield Remark(where, message, fix, file=found[problem][0], severity=severity)


@rule(
    "S12.borrowed",
    ERROR,
    "For a picture without a caption and with four underscores in its path, sd-scripts looks for a shorter name.",
)
def captions_are_their_own(situation: Situation) -> Iterator[Remark]:
    for where, folder in folders(situation):
        taken = [(image.name, image.caption.borrowed_from) for image in folder.images if image.caption.borrowed_from]
        if taken:
            names = [
                say("{name} takes {caption}", name=name, caption=path.replace("\\", "/").rpartition("/")[2])
                for name, path in taken
            ]
            yield Remark(
                where,
                told(
                    len(taken),
                    "{n} picture without a caption takes another file's, because of the underscores: {names}",
                    "{n} pictures without a caption take another file's, because of the underscores: {names}",
                    names=listed(names),
                ),
                told(
                    len(taken),
                    "write a caption for it, or take underscores out of its name and folder",
                    "write captions for them, or take underscores out of their names and folders",
                ),
                file=taken[0][0],
            )


@rule(
    "G3.3.tokens",
    WARNING,
    "sd-scripts cuts a caption at the text encoder's limit in silence; what stands behind is never learned.",
    unless="tags are shuffled, where it is another part each time",
)
def captions_fit_the_text_encoder(situation: Situation) -> Iterator[Remark]:
    limit = token_limit_of(situation.recipe.train)
    for where, folder in folders(situation):
        if folder.overlong:
            pictures, n = {image.name: image for image in folder.images}, len(folder.overlong)
            files = caption_files(situation, [pictures.get(one.name, ImageFacts(one.name)) for one in folder.overlong])
            names = [
                say("{name} ({tokens})", name=name, tokens=one.tokens)
                for name, one in zip(files, folder.overlong, strict=True)
            ]
            fix = told(n, "shorten it", "shorten them")
            if limit < LONGEST:
                fix = say(
                    "{shorten}, or write max_token_length = {longest} under [train]", shorten=fix, longest=LONGEST
                )
            yield Remark(
                where,
                told(
                    n,
                    "{n} caption is longer than {limit} tokens, and the rest is cut off: {names}",
                    "{n} captions are longer than {limit} tokens, and the rest is cut off: {names}",
                    limit=limit,
                    names=listed(names),
                ),
                fix,
                file=files[0],
            )


__all__: list[str] = []
