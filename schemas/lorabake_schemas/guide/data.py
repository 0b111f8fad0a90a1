"""Rules about image folders and left-over files that sd-scripts would trip or pass over in silence."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from posixpath import basename, dirname, normpath
from typing import TypeVar

from lorabake_schemas.dataset import CAPTION_EXTENSION, FolderFacts, ImageFacts, repeat_folder
from lorabake_schemas.guide.registry import ERROR, HINT, WARNING, Remark, Situation, rule
from lorabake_schemas.words import Said, joined, quoted, say, told

SHOWN = 3  # file names named in one finding
Thing = TypeVar("Thing")


def training(situation: Situation) -> Iterator[tuple[int, FolderFacts]]:
    """The folder of each concept, by the concept's index."""
    yield from enumerate(situation.dataset.concepts)


def folders(situation: Situation) -> Iterator[tuple[tuple[str | int, ...], FolderFacts]]:
    """Every folder, with the recipe key that names it."""
    for table, those in (
        ("concept", situation.dataset.concepts),
        ("regularisation", situation.dataset.regularisation),
    ):
        for index, folder in enumerate(those):
            yield (table, index, "images"), folder


def titled(situation: Situation, table: str | int, index: str | int) -> str:
    """A table of the recipe as findings name it: ``concept`` where there is one, else ``concept#2``, counted from 1."""
    recipe = situation.recipe
    count = len(recipe.concept if table == "concept" else recipe.regularisation)
    return f"{table}#{int(index) + 1}" if count > 1 else f"{table}"


def listed(names: Sequence[str]) -> Said:
    """The first few names, and how many more there are."""
    first = joined([quoted(name) for name in names[:SHOWN]])
    more = len(names) - SHOWN
    return told(more, "{names} and {n} more", "{names} and {n} more", names=first) if more > 0 else first


def caption_file(situation: Situation, image: ImageFacts) -> str:
    """The name of the file that a picture's caption is in."""
    if image.caption.borrowed_from:
        return image.caption.borrowed_from.replace("\\", "/").rpartition("/")[2]
    return image.name.rpartition(".")[0] + (situation.recipe.captions.caption_extension or CAPTION_EXTENSION)


def caption_files(situation: Situation, images: Sequence[ImageFacts]) -> list[str]:
    """The same for several pictures."""
    return [caption_file(situation, image) for image in images]


def described(things: Sequence[Thing], words: Callable[[Thing], str]) -> Said:
    """As ``listed``, of anything that words can be made of; only what is shown is put into words."""
    return listed([*map(words, things[:SHOWN]), *[""] * (len(things) - SHOWN)])


@rule("G4.9", ERROR, "sd-scripts looks into exactly this folder; at the wrong level it finds nothing and exits 0.")
def folder_has_pictures(situation: Situation) -> Iterator[Remark]:
    for where, folder in folders(situation):
        if folder.problem or not folder.images:
            yield Remark(where, *_emptiness(folder, f"[[{where[0]}]]"))


def _emptiness(folder: FolderFacts, table: str) -> tuple[Said, Said]:
    """What is wrong with a folder without pictures, and what to do; ``table`` is the header of its kind."""
    path = folder.path
    if folder.problem == "not a folder":
        return _no_folder(normpath(path))
    if folder.problem:
        why = PROBLEMS.get(folder.problem, quoted(folder.problem))
        return (
            say("the folder {path} is {problem}", path=path, problem=why),
            say('write images = "{path}": capital letters count', path=folder.spelt)
            if folder.spelt
            else say("give the folder that holds the pictures, relative to the recipe"),
        )
    if folder.repeat_folders:
        inner = folder.repeat_folders[0]
        return (
            say("{path} is one level too high: the pictures are in {names}", path=path, names=_all(folder)),
            say("write {lines}, one {table} for each such folder", lines=_moved(path, inner), table=table),
        )
    if folder.subfolders:
        return (
            say("{path} holds no picture itself; sd-scripts does not look into {names}", path=path, names=_all(folder)),
            say('write images = "{path}/{inner}"', path=path, inner=folder.subfolders[0]),
        )
    if folder.ignored or folder.hidden:
        return _unread(folder)
    return say("{path} holds no picture", path=path), say("png, jpg, jpeg, webp and bmp are read")


def _unread(folder: FolderFacts) -> tuple[Said, Said]:
    """Files that look like pictures, none of which sd-scripts takes."""
    said = say(
        "sd-scripts reads none of the files in {path}: {names}",
        path=folder.path,
        names=listed(folder.ignored or folder.hidden),
    )
    if not folder.ignored:
        return said, say("take the dot in front of their names away")
    if all(name.lower().endswith(PICTURES) for name in folder.ignored):
        return said, _renamed(folder.ignored)
    return said, say("convert them to PNG or JPEG with an ending in small letters")


def _no_folder(path: str) -> tuple[Said, Said]:
    """A file in the place of a folder, most often one of the pictures."""
    if path.lower().endswith(PICTURES):
        return (
            say("{path} is a picture, and images names the folder that all of them lie in", path=path),
            say('write images = "{folder}"', folder=dirname(path) or "."),
        )
    return say("{path} is a file, not a folder", path=path), say("give the folder that holds the pictures")


PICTURES = (".png", ".jpg", ".jpeg", ".webp", ".bmp")
PROBLEMS = {
    "missing": say("missing"), "not permitted": say("not permitted"),
    "a link to itself": say("a link that leads back to itself"),
}  # fmt: skip


def _all(folder: FolderFacts) -> Said:
    return listed(folder.repeat_folders or folder.subfolders)


def _moved(path: str, inner: str) -> Said:
    """The two lines that take the place of a folder name of kohya's GUI."""
    repeats = repeat_folder(inner)
    if repeats is None:
        return say('images = "{path}/{inner}"', path=path, inner=inner)
    return say('images = "{path}/{inner}" and num_repeats = {repeats}', path=path, inner=inner, repeats=repeats[0])


@rule("G4.9.subfolders", HINT, "sd-scripts does not look into the sub-folders of an image folder.")
def subfolders_are_meant(situation: Situation) -> Iterator[Remark]:
    for where, folder in folders(situation):
        if folder.images and folder.subfolders:
            yield Remark(
                where,
                say("the pictures in {names} are not trained on", names=listed(folder.subfolders)),
                say(
                    "fine if that is meant; else move them up, or give that folder its own {table}",
                    table=f"[[{where[0]}]]",
                ),
            )


@rule("G4.9.repeats", HINT, "Repeats in a folder's name are for kohya's GUI; a dataset file does not read them.")
def repeats_are_written(situation: Situation) -> Iterator[Remark]:
    recipe = situation.recipe
    given = [part.num_repeats for part in recipe.concept] + [part.num_repeats for part in recipe.regularisation]
    for (where, folder), repeats in zip(folders(situation), given, strict=True):
        found = repeat_folder(basename(normpath(folder.path)))
        if found and found[0] > 1 and found[1] and repeats is None:
            yield Remark(
                where,
                say("the {number}_ in front of {token} repeats nothing here", number=found[0], token=found[1]),
                say("add num_repeats = {number} if it is meant (num_repeats = 1 says that it is not)", number=found[0]),
            )


@rule("G2.3", WARNING, "Files with these endings are skipped in silence.")
def no_picture_is_skipped(situation: Situation) -> Iterator[Remark]:
    for where, folder in folders(situation):
        miscased = [name for name in folder.ignored if name.lower().endswith(PICTURES)]
        others = [name for name in folder.ignored if not name.lower().endswith(PICTURES)]
        if folder.images and miscased:
            yield Remark(
                where,
                told(
                    len(miscased),
                    "sd-scripts skips {n} file, because its ending has capital and small letters: {names}",
                    "sd-scripts skips {n} files, because their endings have capital and small letters: {names}",
                    names=listed(miscased),
                ),
                _renamed(miscased),
                file=miscased[0],
            )
        if folder.images and others:
            yield Remark(
                where,
                told(
                    len(others),
                    "sd-scripts skips {n} file: {names}",
                    "sd-scripts skips {n} files: {names}",
                    names=listed(others),
                ),
                told(
                    len(others),
                    "convert it to PNG or JPEG, or move it away",
                    "convert them to PNG or JPEG, or move them away",
                ),
                file=others[0],
            )


def _renamed(miscased: Sequence[str]) -> Said:
    """How to write an ending that sd-scripts takes."""
    stem, _, ending = miscased[0].rpartition(".")
    return told(
        len(miscased),
        "rename {old} to {new}",
        "write their endings in small letters: {old} becomes {new}, and so on",
        old=miscased[0],
        new=f"{stem}.{ending.lower()}",
    )


@rule("G2.3.hidden", HINT, "sd-scripts does not see files whose name begins with a dot.")
def no_picture_is_hidden(situation: Situation) -> Iterator[Remark]:
    for where, folder in folders(situation):
        if folder.images and folder.hidden:
            yield Remark(
                where,
                told(
                    len(folder.hidden),
                    "{n} picture is hidden and will not be trained on: {names}",
                    "{n} pictures are hidden and will not be trained on: {names}",
                    names=listed(folder.hidden),
                ),
                say("take the dot in front of the name away, or delete what is not meant"),
                file=folder.hidden[0],
            )


@rule("S14", ERROR, "sd-scripts drops the second use of a folder; by another name, it trains the pictures twice over.")
def folders_differ(situation: Situation) -> Iterator[Remark]:
    seen: dict[str, str] = {}
    for where, folder in folders(situation):
        # compiled, ./a and a are one; what a link leads to is one folder, too
        here, path = titled(situation, *where[:2]), folder.identity or normpath(folder.path)
        if path in seen:
            yield Remark(
                where,
                say("{path} is already the folder of {other}", path=folder.path, other=seen[path]),
                say("give every concept and every regularisation set its own folder"),
            )
        seen.setdefault(path, here)


__all__ = ["SHOWN", "caption_file", "caption_files", "described", "folders", "listed", "titled", "training"]
