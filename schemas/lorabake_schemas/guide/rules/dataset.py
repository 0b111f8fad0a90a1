"""Rules about image folders and left-over files that sd-scripts would trip or pass over in silence."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from posixpath import basename, dirname, normpath
from typing import TypeVar

from lorabake_schemas.dataset import CAPTION_EXTENSION, IMAGE_EXTENSIONS, FolderFacts, ImageFacts, parse_repeat_folder
from lorabake_schemas.guide.registry import ERROR, HINT, WARNING, RuleContext, RuleHit, rule
from lorabake_schemas.messages import Message, join_list, literal, msg, nmsg

MAX_NAMES_SHOWN = 3  # file names named in one finding
Item = TypeVar("Item")


def iter_concept_folders(situation: RuleContext) -> Iterator[tuple[int, FolderFacts]]:
    """The folder of each concept, by the concept's index."""
    yield from enumerate(situation.dataset.concepts)


def iter_folders(situation: RuleContext) -> Iterator[tuple[tuple[str | int, ...], FolderFacts]]:
    """Every folder, with the recipe key that names it."""
    for table, those in (
        ("concept", situation.dataset.concepts),
        ("regularization", situation.dataset.regularization),
    ):
        for index, folder in enumerate(those):
            yield (table, index, "images"), folder


def format_table_name(situation: RuleContext, table: str | int, index: str | int) -> str:
    """A table of the recipe as findings name it: ``concept`` where there is one, else ``concept#2``, counted from 1."""
    recipe = situation.recipe
    count = len(recipe.concept if table == "concept" else recipe.regularization)
    return f"{table}#{int(index) + 1}" if count > 1 else f"{table}"


def summarize_names(names: Sequence[str]) -> Message:
    """The first few names, and how many more there are."""
    first = join_list([literal(name) for name in names[:MAX_NAMES_SHOWN]])
    more = len(names) - MAX_NAMES_SHOWN
    return nmsg(more, "{names} and {n} more", "{names} and {n} more", names=first) if more > 0 else first


def get_caption_name(situation: RuleContext, image: ImageFacts) -> str:
    """The name of the file that a picture's caption is in."""
    if image.caption.borrowed_from:
        return image.caption.borrowed_from.replace("\\", "/").rpartition("/")[2]
    return image.name.rpartition(".")[0] + (situation.recipe.captions.caption_extension or CAPTION_EXTENSION)


def get_caption_names(situation: RuleContext, images: Sequence[ImageFacts]) -> list[str]:
    """The same for several pictures."""
    return [get_caption_name(situation, image) for image in images]


def summarize_items(things: Sequence[Item], words: Callable[[Item], str]) -> Message:
    """As ``listed``, of anything that words can be made of; only what is shown is put into words."""
    return summarize_names([*map(words, things[:MAX_NAMES_SHOWN]), *[""] * (len(things) - MAX_NAMES_SHOWN)])


@rule("G4.9", ERROR, "sd-scripts looks into exactly this folder; at the wrong level it finds nothing and exits 0.")
def empty_folder(situation: RuleContext) -> Iterator[RuleHit]:
    for where, folder in iter_folders(situation):
        if folder.problem or not folder.images:
            yield RuleHit(where, *_describe_empty_folder(folder, f"[[{where[0]}]]"))


def _describe_empty_folder(folder: FolderFacts, table: str) -> tuple[Message, Message]:
    """What is wrong with a folder without pictures, and what to do; ``table`` is the header of its kind."""
    path = folder.path
    if folder.problem == "not a folder":
        return _describe_non_folder(normpath(path))
    if folder.problem:
        why = FOLDER_PROBLEMS.get(folder.problem, literal(folder.problem))
        return (
            msg("the folder {path} is {problem}", path=path, problem=why),
            msg('write images = "{path}": capital letters count', path=folder.spelt)
            if folder.spelt
            else msg("give the folder that holds the pictures, relative to the recipe"),
        )
    if folder.repeat_folders:
        inner = folder.repeat_folders[0]
        return (
            msg(
                "{path} is one level too high: the pictures are in {names}",
                path=path,
                names=_summarize_subfolders(folder),
            ),
            msg("write {lines}, one {table} for each such folder", lines=_suggest_subfolder(path, inner), table=table),
        )
    if folder.subfolders:
        return (
            msg(
                "{path} holds no picture itself; sd-scripts does not look into {names}",
                path=path,
                names=_summarize_subfolders(folder),
            ),
            msg('write images = "{path}/{inner}"', path=path, inner=folder.subfolders[0]),
        )
    if folder.ignored or folder.hidden:
        return _describe_unread_files(folder)
    return msg("{path} holds no picture", path=path), msg("png, jpg, jpeg, webp and bmp are read")


def _describe_unread_files(folder: FolderFacts) -> tuple[Message, Message]:
    """Files that look like pictures, none of which sd-scripts takes."""
    said = msg(
        "sd-scripts reads none of the files in {path}: {names}",
        path=folder.path,
        names=summarize_names(folder.ignored or folder.hidden),
    )
    if not folder.ignored:
        return said, msg("take the dot in front of their names away")
    if all(name.lower().endswith(IMAGE_EXTENSIONS) for name in folder.ignored):
        return said, _suggest_rename(folder.ignored)
    return said, msg("convert them to PNG or JPEG with an ending in small letters")


def _describe_non_folder(path: str) -> tuple[Message, Message]:
    """A file in the place of a folder, most often one of the pictures."""
    if path.lower().endswith(IMAGE_EXTENSIONS):
        return (
            msg("{path} is a picture, and images names the folder that all of them lie in", path=path),
            msg('write images = "{folder}"', folder=dirname(path) or "."),
        )
    return msg("{path} is a file, not a folder", path=path), msg("give the folder that holds the pictures")


FOLDER_PROBLEMS = {
    "missing": msg("missing"), "not permitted": msg("not permitted"),
    "a link to itself": msg("a link that leads back to itself"),
}  # fmt: skip


def _summarize_subfolders(folder: FolderFacts) -> Message:
    return summarize_names(folder.repeat_folders or folder.subfolders)


def _suggest_subfolder(path: str, inner: str) -> Message:
    """The two lines that take the place of a folder name of kohya's GUI."""
    repeats = parse_repeat_folder(inner)
    if repeats is None:
        return msg('images = "{path}/{inner}"', path=path, inner=inner)
    return msg('images = "{path}/{inner}" and num_repeats = {repeats}', path=path, inner=inner, repeats=repeats[0])


@rule("G4.9.subfolders", HINT, "sd-scripts does not look into the sub-folders of an image folder.")
def ignored_subfolders(situation: RuleContext) -> Iterator[RuleHit]:
    for where, folder in iter_folders(situation):
        if folder.images and folder.subfolders:
            table = f"[[{where[0]}]]"
            yield RuleHit(
                where,
                msg("the pictures in {names} are not trained on", names=summarize_names(folder.subfolders)),
                msg(
                    "fine if that is meant; else move them up, or give that folder its own {table}",
                    table=table,
                ),
            )


@rule("G4.9.repeats", HINT, "Repeats in a folder's name are for kohya's GUI; a dataset file does not read them.")
def ignored_folder_repeats(situation: RuleContext) -> Iterator[RuleHit]:
    recipe = situation.recipe
    given = [part.num_repeats for part in recipe.concept] + [part.num_repeats for part in recipe.regularization]
    for (where, folder), repeats in zip(iter_folders(situation), given, strict=True):
        found = parse_repeat_folder(basename(normpath(folder.path)))
        if found and found[0] > 1 and found[1] and repeats is None:
            yield RuleHit(
                where,
                msg("the {number}_ in front of {token} repeats nothing here", number=found[0], token=found[1]),
                msg("add num_repeats = {number} if it is meant (num_repeats = 1 says that it is not)", number=found[0]),
            )


@rule("G2.3", WARNING, "Files with these endings are skipped in silence.")
def skipped_images(situation: RuleContext) -> Iterator[RuleHit]:
    for where, folder in iter_folders(situation):
        miscased = [name for name in folder.ignored if name.lower().endswith(IMAGE_EXTENSIONS)]
        others = [name for name in folder.ignored if not name.lower().endswith(IMAGE_EXTENSIONS)]
        if folder.images and miscased:
            yield RuleHit(
                where,
                nmsg(
                    len(miscased),
                    "sd-scripts skips {n} file, because its ending has capital and small letters: {names}",
                    "sd-scripts skips {n} files, because their endings have capital and small letters: {names}",
                    names=summarize_names(miscased),
                ),
                _suggest_rename(miscased),
                file=miscased[0],
            )
        if folder.images and others:
            yield RuleHit(
                where,
                nmsg(
                    len(others),
                    "sd-scripts skips {n} file: {names}",
                    "sd-scripts skips {n} files: {names}",
                    names=summarize_names(others),
                ),
                nmsg(
                    len(others),
                    "convert it to PNG or JPEG, or move it away",
                    "convert them to PNG or JPEG, or move them away",
                ),
                file=others[0],
            )


def _suggest_rename(miscased: Sequence[str]) -> Message:
    """How to write an ending that sd-scripts takes."""
    stem, _, ending = miscased[0].rpartition(".")
    new = f"{stem}.{ending.lower()}"
    return nmsg(
        len(miscased),
        "rename {old} to {new}",
        "write their endings in small letters: {old} becomes {new}, and so on",
        old=miscased[0],
        new=new,
    )


@rule("G2.3.hidden", HINT, "sd-scripts does not see files whose name begins with a dot.")
def hidden_images(situation: RuleContext) -> Iterator[RuleHit]:
    for where, folder in iter_folders(situation):
        if folder.images and folder.hidden:
            yield RuleHit(
                where,
                nmsg(
                    len(folder.hidden),
                    "{n} picture is hidden and will not be trained on: {names}",
                    "{n} pictures are hidden and will not be trained on: {names}",
                    names=summarize_names(folder.hidden),
                ),
                msg("take the dot in front of the name away, or delete what is not meant"),
                file=folder.hidden[0],
            )


@rule("S14", ERROR, "sd-scripts drops the second use of a folder; by another name, it trains the pictures twice over.")
def duplicate_folder(situation: RuleContext) -> Iterator[RuleHit]:
    seen: dict[str, str] = {}
    for where, folder in iter_folders(situation):
        # compiled, ./a and a are one; what a link leads to is one folder, too
        here, path = format_table_name(situation, *where[:2]), folder.identity or normpath(folder.path)
        if path in seen:
            yield RuleHit(
                where,
                msg("{path} is already the folder of {other}", path=folder.path, other=seen[path]),
                msg("give every concept and every regularization set its own folder"),
            )
        seen.setdefault(path, here)
