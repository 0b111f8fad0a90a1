"""Rules about image folders, captions and subsets that sd-scripts would trip over, or pass over in silence."""

from __future__ import annotations

from collections.abc import Iterator
from posixpath import normpath

from lorabake_schemas.dataset import CaptionProblem, FolderFacts
from lorabake_schemas.guide.registry import ERROR, HINT, WARNING, Remark, Situation, rule

SHOWN = 3  # file names named in one finding


def _training(situation: Situation) -> Iterator[tuple[int, FolderFacts]]:
    yield from enumerate(situation.dataset.concepts)


def _folders(situation: Situation) -> Iterator[tuple[tuple[str | int, ...], FolderFacts]]:
    for table, folders in (
        ("concept", situation.dataset.concepts),
        ("regularisation", situation.dataset.regularisation),
    ):
        for index, folder in enumerate(folders):
            yield (table, index, "images"), folder


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more


@rule("G4.9", ERROR, "sd-scripts looks into exactly this folder; at the wrong level it finds nothing and exits 0.")
def folder_has_pictures(situation: Situation) -> Iterator[Remark]:
    for where, folder in _folders(situation):
        if folder.problem:
            yield Remark(
                where,
                f"the folder {folder.path} is {folder.problem}",
                "give the folder that holds the pictures, relative to the recipe",
            )
        elif not folder.images and folder.repeat_folders:
            yield Remark(
                where,
                f"{folder.path} is one level too high: the pictures are in {_listed(list(folder.repeat_folders))}",
                f'write images = "{folder.path}/{folder.repeat_folders[0]}", one [[concept]] for each such folder',
            )
        elif not folder.images and folder.subfolders:
            yield Remark(
                where,
                f"{folder.path} holds no picture itself; sd-scripts does not look into "
                f"{_listed(list(folder.subfolders))}",
                f'write images = "{folder.path}/{folder.subfolders[0]}"',
            )
        elif not folder.images and folder.ignored:
            yield Remark(
                where,
                f"sd-scripts reads none of the files in {folder.path}: {_listed(list(folder.ignored))}",
                "convert them to PNG or JPEG with an ending in lower case",
            )
        elif not folder.images:
            yield Remark(where, f"{folder.path} holds no picture", "png, jpg, jpeg, webp and bmp are read")


@rule("G2.2", ERROR, "A picture that cannot be opened stops sd-scripts, often hours into the run.")
def pictures_open(situation: Situation) -> Iterator[Remark]:
    for where, folder in _folders(situation):
        broken = [image for image in folder.images if image.problem]
        if broken:
            yield Remark(
                where,
                f"{len(broken)} of {len(folder.images)} cannot be read: "
                f"{_listed([f'{image.name} ({image.problem})' for image in broken])}",
                "replace or remove them",
                file=broken[0].name,
            )


@rule("G2.3", WARNING, "Files with these endings are skipped in silence.")
def no_picture_is_skipped(situation: Situation) -> Iterator[Remark]:
    for where, folder in _folders(situation):
        if folder.images and folder.ignored:
            yield Remark(
                where,
                f"sd-scripts skips {len(folder.ignored)} files: {_listed(list(folder.ignored))}",
                "convert them to PNG or JPEG with an ending in lower case, or move them away",
            )


@rule(
    "G3.3",
    ERROR,
    "Without captions every picture gets the class token alone, and only a warning says so.",
    unless="regularisation, which needs no captions",
)
def there_are_captions(situation: Situation) -> Iterator[Remark]:
    extension = situation.recipe.captions.caption_extension or ".txt"
    for index, folder in _training(situation):
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
                f"{len(missing)} of {len(folder.images)} pictures have no caption: {_listed(missing)}",
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
    for where, folder in _folders(situation):
        for problem, (severity, message, fix) in said.items():
            names = [image.name for image in folder.images if image.caption.problem is problem]
            if names:
                yield Remark(where, f"{len(names)} {message}: {_listed(names)}", fix, file=names[0], severity=severity)


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
    for index, folder in _training(situation):
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
                f'"{situation.recipe.concept[index].token}": {_listed(wrong)}',
                "put the token first",
                file=wrong[0],
            )


@rule("S14", ERROR, "sd-scripts drops the second use of a folder with no more than a warning.")
def folders_differ(situation: Situation) -> Iterator[Remark]:
    seen: dict[str, str] = {}
    for where, folder in _folders(situation):
        here, path = f"{where[0]}[{where[1]}]", normpath(folder.path)  # compiled, ./a and a are one
        if path in seen:
            yield Remark(
                where,
                f"{folder.path} is already the folder of {seen[path]}",
                "give every concept and every regularisation set its own folder",
            )
        seen.setdefault(path, here)


@rule(
    "G6.8",
    ERROR,
    "Two concepts with one token are one concept to the model.",
    unless="outfits of one character, told apart by outfit",
)
def tokens_differ(situation: Situation) -> Iterator[Remark]:
    keys = [(concept.token.casefold(), (concept.outfit or "").casefold()) for concept in situation.recipe.concept]
    for index, key in enumerate(keys):
        if key in keys[:index]:
            yield Remark(
                ("concept", index, "token"),
                f'the token "{situation.recipe.concept[index].token}" is taken',
                "give each concept its own token, or outfits of one character an outfit each",
            )


@rule("G2.19", ERROR, "Mirroring an asymmetric subject teaches that its sides are interchangeable.")
def no_flip_when_asymmetric(situation: Situation) -> Iterator[Remark]:
    for index, concept in enumerate(situation.recipe.concept):
        if concept.flip_aug and concept.asymmetric:
            yield Remark(("concept", index, "flip_aug"), "flip_aug with asymmetric = true", "take one of the two out")


@rule("G35.6", ERROR, "A regularisation set that holds the subject trains against it.")
def regularisation_is_other(situation: Situation) -> Iterator[Remark]:
    tokens = {concept.token.casefold() for concept in situation.recipe.concept}
    for index, part in enumerate(situation.recipe.regularisation):
        if part.class_.casefold() in tokens:
            yield Remark(
                ("regularisation", index, "class"),
                f'"{part.class_}" is what is being trained',
                "write the class token here: the general word for it",
            )


@rule(
    "G35.7",
    HINT,
    "sd-scripts uses as many regularisation samples as training samples, the first in name order.",
    needs_plan=True,
)
def regularisation_is_used(situation: Situation) -> Iterator[Remark]:
    shares = [share for share in situation.plan.forecast.shares if share.is_reg] if situation.plan else []
    for index, share in enumerate(shares):
        if share.images_used is not None and share.images_used < share.images:
            yield Remark(
                ("regularisation", index, "images"),
                f"only the first {share.images_used} of {share.images} pictures will be used",
                "fine if that is meant; else raise the concepts' num_repeats",
            )


@rule("G1.2", WARNING, "Too few pictures leave a LoRA nothing to generalise from.", unless="G1.3, G1.5: fewer can work")
def there_are_enough_pictures(situation: Situation) -> Iterator[Remark]:
    least, good = (12, 20) if situation.family == "sdxl" else (15, 30)
    count = sum(len(folder.images) for folder in situation.dataset.concepts)
    if 0 < count < least:
        yield Remark(("concept", 0, "images"), f"{count} pictures; the guide wants at least {least}", f"aim at {good}")
    elif least <= count < good:
        yield Remark(
            ("concept", 0, "images"),
            f"{count} pictures; the guide recommends about {good}",
            "more variety helps",
            severity=HINT,
        )


@rule("G6.16", WARNING, "A concept with few pictures is repeated so often that it over-trains on its own.")
def concepts_are_balanced(situation: Situation) -> Iterator[Remark]:
    counts = [len(folder.images) for folder in situation.dataset.concepts]
    for index, count in enumerate(counts):
        if count and max(counts) > 3 * count:
            yield Remark(
                ("concept", index, "images"),
                f"{count} pictures beside {max(counts)} of the largest concept",
                "add pictures: over three times the repeats tends to over-train",
            )


__all__: list[str] = []
