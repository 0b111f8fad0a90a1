"""Rules about image folders and leftover files that stop sd-scripts or that it skips silently."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from posixpath import basename, dirname, normpath
from typing import TypeVar

from lorabake_schemas.bucket_fit import Size
from lorabake_schemas.dataset import FOREIGN_EXTENSIONS, IMAGE_EXTENSIONS, FolderFacts, ImageFacts, parse_repeat_folder
from lorabake_schemas.guide.defaults import group_concepts
from lorabake_schemas.guide.folder_names import read_folder_names
from lorabake_schemas.guide.registry import ERROR, HINT, WARNING, RuleContext, RuleHit, or_in_copy, rule
from lorabake_schemas.guide.resolutions import list_training_resolutions
from lorabake_schemas.guide.tags import FolderTags
from lorabake_schemas.messages import Message, literal, msg, nmsg, shorten_list

MAX_NAMES_SHOWN = 3  # file names named in one finding
Item = TypeVar("Item")


def iter_concept_folders(situation: RuleContext) -> Iterator[tuple[int, FolderFacts]]:
    """The folder of each concept, by the concept's index; one that a concept has at several resolutions once."""
    for group in group_concepts(situation.recipe):
        folders = {situation.dataset.concepts[index].key: index for index in reversed(group)}
        yield from ((index, situation.dataset.concepts[index]) for index in sorted(folders.values()))


def iter_concepts(situation: RuleContext) -> Iterator[tuple[int, list[FolderFacts]]]:
    """The different folders of each concept, by the index of its first table."""
    for group in group_concepts(situation.recipe):
        folders = [situation.dataset.concepts[index] for index in group]
        yield group[0], list({folder.key: folder for folder in folders}.values())


def count_concept_images(situation: RuleContext) -> int:
    """The images of all concepts, each folder once."""
    return sum(len(each.images) for each in {folder.key: folder for folder in situation.dataset.concepts}.values())


def count_image_folders(situation: RuleContext) -> int:
    """The different folders of all concepts that contain images."""
    return len({folder.key for folder in situation.dataset.concepts if folder.images})


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
    return summarize_items(names, literal)


def get_caption_name(folder: FolderFacts | FolderTags, image: ImageFacts) -> str:
    """The name of the file that an image's caption is in; the image's own where a metadata file has them all."""
    if image.caption.borrowed_from:
        return image.caption.borrowed_from.replace("\\", "/").rpartition("/")[2]
    extension = folder.caption_extension
    return image.name.rpartition(".")[0] + extension if extension else image.name


def get_caption_names(folder: FolderFacts | FolderTags, images: Sequence[ImageFacts]) -> list[str]:
    """The same for several images, each file once."""
    return list(dict.fromkeys(get_caption_name(folder, image) for image in images))


def summarize_items(things: Sequence[Item], words: Callable[[Item], str]) -> Message:
    """The same, for anything that can be formatted."""
    return shorten_list(things, MAX_NAMES_SHOWN, words)


@rule("G4.9", ERROR, "sd-scripts looks in exactly this folder; at the wrong level it finds nothing and exits with 0.")
def empty_folder(situation: RuleContext) -> Iterator[RuleHit]:
    for where, folder in iter_folders(situation):
        if folder.problem or not (folder.images or folder.metadata):  # S50 reports an unusable metadata file
            tables = () if folder.problem else suggest_tables(situation, where, folder)
            yield RuleHit(where, *_describe_empty_folder(folder, f"[[{where[0]}]]"), paste=tables)


def _describe_empty_folder(folder: FolderFacts, table: str) -> tuple[Message, Message]:
    """What is wrong with a folder without images, and what to do; ``table`` is the header of its kind."""
    path = folder.path
    if folder.problem == "not a folder":
        return _describe_non_folder(normpath(path))
    if folder.problem:
        why = FOLDER_PROBLEMS.get(folder.problem, literal(folder.problem))
        missing = folder.problem == "missing"
        return (
            msg("the folder {path} does not exist", path=path)
            if missing
            else msg("cannot read the folder {path}: {problem}", path=path, problem=why),
            msg('write images = "{path}" (file names are case-sensitive)', path=folder.spelt)
            if folder.spelt
            else msg("write the path of the folder that contains the images, relative to the recipe"),
        )
    if folder.repeat_folders:
        inner = folder.repeat_folders[0]
        return (
            msg(
                "{path} contains no images; they are in {names}",
                path=path,
                names=_summarize_subfolders(folder),
            ),
            msg(
                "write {lines}, with one {table} for each such folder",
                lines=_suggest_subfolder(path, inner),
                table=table,
            ),
        )
    if folder.subfolders:
        return (
            msg(
                "{path} contains no images, and sd-scripts does not look into {names}",
                path=path,
                names=_summarize_subfolders(folder),
            ),
            msg(
                'write images = "{path}/{inner}", with one {table} for each such folder',
                path=path,
                inner=folder.subfolders[0],
                table=table,
            ),
        )
    if folder.ignored or folder.hidden:
        return _describe_unread_files(folder)
    return msg("{path} contains no images", path=path), msg("add png, jpg, jpeg, webp or bmp files")


def _describe_unread_files(folder: FolderFacts) -> tuple[Message, Message]:
    """Files that look like images but that sd-scripts does not read."""
    said = msg(
        "sd-scripts reads none of the files in {path}: {names}",
        path=folder.path,
        names=summarize_names(folder.ignored or folder.hidden),
    )
    if not folder.ignored:
        return said, msg("remove the dot at the start of their names")
    if all(name.lower().endswith(IMAGE_EXTENSIONS) for name in folder.ignored):
        return said, or_in_copy(_suggest_rename(folder.ignored))
    return said, _or_convert(msg("convert them to PNG or JPEG with a lowercase extension"), folder.ignored)


def _describe_non_folder(path: str) -> tuple[Message, Message]:
    """A file in the place of a folder, most often one of the images."""
    if path.lower().endswith(IMAGE_EXTENSIONS):
        return (
            msg("{path} is an image, not a folder", path=path),
            msg('write images = "{folder}"', folder=dirname(path) or "."),
        )
    return msg("{path} is a file, not a folder", path=path), msg(
        "write the path of the folder that contains the images"
    )


FOLDER_PROBLEMS = {
    "not permitted": msg("permission denied"),
    "a link to itself": msg("a link to itself"),
}


def _summarize_subfolders(folder: FolderFacts) -> Message:
    return summarize_names([f"{name}/" for name in folder.repeat_folders or folder.subfolders])


def _suggest_subfolder(path: str, inner: str) -> Message:
    """The two lines that take the place of a folder name of kohya's GUI."""
    repeats = parse_repeat_folder(basename(inner))
    if repeats is None:
        return msg('images = "{path}/{inner}"', path=path, inner=inner)
    return msg('images = "{path}/{inner}" and num_repeats = {repeats}', path=path, inner=inner, repeats=repeats[0])


def _list_unused_subfolders(situation: RuleContext, folder: FolderFacts) -> list[str]:
    """Those with images that no other table of the recipe names."""
    recipe = situation.recipe
    paths = [path for part in recipe.concept for path in (part.images, part.masks) if path]
    named = {normpath(path) for path in (*paths, *(part.images for part in recipe.regularization))}
    return [path for path in folder.subfolders if normpath(f"{folder.path}/{path}") not in named]


def suggest_tables(situation: RuleContext, where: tuple[str | int, ...], folder: FolderFacts) -> tuple[str, ...]:
    """A table of the recipe for each subfolder with images, by what the folders' names say (``read_folder_names``).

    A folder without repeats is one more of the same concept.
    """
    recipe, lines = situation.recipe, list[str]()
    concept = recipe.concept[int(where[1])] if where[0] == "concept" else None
    paths = _list_unused_subfolders(situation, folder)[:MAX_TABLES]
    for path, name in zip(paths, read_folder_names(paths), strict=True):
        table, keys = str(where[0]), dict[str, str | int | None]()
        if concept is None:
            keys["class"] = name.class_ or name.token or recipe.regularization[int(where[1])].class_
        elif name.role == "regularization":
            table, keys = name.role, {"class": name.class_ or concept.class_ or "..."}
        elif name.role == "concept":
            named = name.repeats is not None
            keys["token"] = (name.token if named else None) or concept.token
            keys["outfit"] = name.outfit if named else None
            keys["class"] = (name.class_ if named else None) or concept.class_
        else:
            continue
        keys |= {"images": f"{normpath(folder.path)}/{path}", "num_repeats": name.repeats}
        lines += [f"[[{table}]]"]
        lines += [f"{key} = {_quote(value)}" for key, value in keys.items() if value is not None]
        lines += [""]
    return tuple(lines[:-1])


MAX_TABLES = 30


def _quote(value: str | int) -> str:
    """As TOML has it."""
    return f"{value}" if isinstance(value, int) else json.dumps(value, ensure_ascii=False)


@rule("G4.9.subfolders", HINT, "sd-scripts does not look in the subfolders of an image folder.")
def ignored_subfolders(situation: RuleContext) -> Iterator[RuleHit]:
    for where, folder in iter_folders(situation):
        unused = _list_unused_subfolders(situation, folder)
        if folder.images and unused:
            table = f"[[{where[0]}]]"
            yield RuleHit(
                where,
                msg("the images in {names} are not used for training", names=summarize_names(unused)),
                msg(
                    "ignore this if intended, else move them up one level or give each subfolder its own {table}",
                    table=table,
                ),
                paste=suggest_tables(situation, where, folder),
            )


@rule("G4.9.repeats", HINT, "Repeats in a folder's name are for kohya's GUI; a dataset file ignores them.")
def ignored_folder_repeats(situation: RuleContext) -> Iterator[RuleHit]:
    recipe = situation.recipe
    given = [part.num_repeats for part in recipe.concept] + [part.num_repeats for part in recipe.regularization]
    for (where, folder), repeats in zip(iter_folders(situation), given, strict=True):
        found = parse_repeat_folder(basename(normpath(folder.path)))
        if found and found[0] > 1 and found[1] and repeats is None:
            yield RuleHit(
                where,
                msg("the {number}_ in the folder name has no effect here", number=found[0]),
                msg("add num_repeats = {number} if repeats are intended, else num_repeats = 1", number=found[0]),
                severity=WARNING if recipe.train.max_train_epochs is not None else None,
            )


@rule("G2.3", WARNING, "Files with these extensions are skipped silently.")
def skipped_images(situation: RuleContext) -> Iterator[RuleHit]:
    for where, folder in iter_folders(situation):
        miscased = [name for name in folder.ignored if name.lower().endswith(IMAGE_EXTENSIONS)]
        known = {*miscased, *folder.twins}
        others = [name for name in folder.ignored if name not in known]
        if folder.images and miscased:
            yield RuleHit(
                where,
                nmsg(
                    len(miscased),
                    "sd-scripts skips {n} file because its extension mixes upper and lower case: {names}",
                    "sd-scripts skips {n} files because their extensions mix upper and lower case: {names}",
                    names=summarize_names(miscased),
                ),
                or_in_copy(_suggest_rename(miscased)),
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
                _or_convert(
                    nmsg(
                        len(others),
                        "convert it to PNG or JPEG, or move it elsewhere",
                        "convert them to PNG or JPEG, or move them elsewhere",
                    ),
                    others,
                ),
                file=others[0],
            )


def or_in_copied_captions(fix: Message, folder: FolderFacts) -> Message:
    """What to do about a fault that the caption files of a clean copy do not have; a metadata file is only copied."""
    return fix if folder.metadata else or_in_copy(fix)


def _or_convert(fix: Message, names: Sequence[str]) -> Message:
    """The fix, and the command that does it where it can read one of the files."""
    return fix if all(name.lower().endswith(FOREIGN_EXTENSIONS) for name in names) else or_in_copy(fix)


def _suggest_rename(miscased: Sequence[str]) -> Message:
    """How to write an extension that sd-scripts reads."""
    stem, _, ending = miscased[0].rpartition(".")
    new = f"{stem}.{ending.lower()}"
    return nmsg(
        len(miscased),
        "rename {old} to {new}",
        "write the extensions in lowercase (rename {old} to {new}, and so on)",
        old=miscased[0],
        new=new,
    )


@rule("G2.3.hidden", HINT, "sd-scripts does not see files whose name starts with a dot.")
def hidden_images(situation: RuleContext) -> Iterator[RuleHit]:
    for where, folder in iter_folders(situation):
        if folder.images and folder.hidden:
            yield RuleHit(
                where,
                nmsg(
                    len(folder.hidden),
                    "{n} image is hidden and not used for training: {names}",
                    "{n} images are hidden and not used for training: {names}",
                    names=summarize_names(folder.hidden),
                ),
                msg("remove the dot at the start of the name, or delete images you do not need"),
                file=folder.hidden[0],
            )


@rule(
    "S14",
    ERROR,
    "sd-scripts drops the second use of a folder in a dataset; under another name, it trains the images twice.",
    unless="one folder at several resolutions; a folder under another name: then it is a warning",
)
def duplicate_folder(situation: RuleContext) -> Iterator[RuleHit]:
    seen: dict[tuple[str, Size], tuple[str, str]] = {}
    for where, folder in iter_folders(situation):
        here = (format_table_name(situation, *where[:2]), normpath(folder.path))
        sizes = _list_folder_sizes(situation, where)
        if taken := [seen[folder.key, size] for size in sizes if (folder.key, size) in seen]:
            other, path = taken[0]
            dropped = path == here[1]  # sd-scripts compares what is written (TU:2124)
            yield RuleHit(
                where,
                msg("{path} is already used by {other}, so sd-scripts ignores it here", path=folder.path, other=other)
                if dropped
                else msg("{path} is the folder of {other}, so its images train twice", path=folder.path, other=other),
                msg(
                    "give each concept and each regularization set a separate folder; to train one folder at several "
                    "resolutions, write resolution = ... under each [[concept]], or resolutions = [...] under [train]"
                ),
                severity=None if dropped else WARNING,
            )
        for size in sizes:
            seen.setdefault((folder.key, size), here)


def _list_folder_sizes(situation: RuleContext, where: tuple[str | int, ...]) -> list[Size]:
    every = list_training_resolutions(situation.recipe, situation.family)
    return [
        each.size for each in every if where[1] in (each.concepts if where[0] == "concept" else each.regularization)
    ]
