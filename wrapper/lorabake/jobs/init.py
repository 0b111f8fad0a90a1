"""A first recipe from a folder of images: look, draft, write."""

from __future__ import annotations

import json
import os
import re
import shlex
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from lorabake.analysis.draft import Draft, draft_recipe
from lorabake.analysis.draft_base import ModelChoice
from lorabake.analysis.draft_concepts import Answers
from lorabake.errors import MachineError, RecipeError
from lorabake.inputs import clip_tokens
from lorabake.inputs.base_model import inspect_base_model, looks_like_hub_id
from lorabake.inputs.dataset import ScanOptions
from lorabake.inputs.folders import list_folder
from lorabake.inputs.image_tree import FoundDataset, find_dataset
from lorabake.recipe.foreign import START_SIZE, recognize, recognize_bytes
from lorabake.recipe.writing import create_new_file, create_recipe_file, write_recipe
from lorabake.util.files import TOML_LIMIT, exists, is_file, open_file, read_bytes, reason
from lorabake.util.path_case import recipe_relative_path
from lorabake_schemas.dataset import CAPTION_EXTENSION, IMAGE_EXTENSIONS
from lorabake_schemas.guide.rules.dataset import FOLDER_PROBLEMS
from lorabake_schemas.messages import escape_undecodable, literal, msg, shorten_list

ARCHIVES = frozenset({".zip", ".7z", ".rar", ".tar", ".gz", ".tgz", ".parquet", ".arrow", ".cbz"})  # data sets, too
# Cameras' raw files, drawings in layers, videos.
NOT_READ = frozenset(
    {".nef", ".cr2", ".cr3", ".arw", ".dng", ".raf", ".orf", ".rw2", ".psd", ".kra", ".xcf", ".clip", ".tga", ".exr",
     ".mp4", ".mov", ".mkv", ".webm", ".avi"}
)  # fmt: skip
_HALF = re.compile("[\ud800-\udfff]")


def format_argument(path: str) -> str:
    """A path as a command takes it: one that starts with a hyphen would be an option."""
    return f"./{path}" if path.startswith("-") else path


@dataclass(frozen=True, slots=True)
class InitOrder:
    """``folder`` has the images. ``output`` is the recipe's file or folder, None for one named after the LoRA in
    ``here``, which is where the program was started."""

    folder: Path
    output: Path | None
    here: Path


def look_around(order: InitOrder, scanning: ScanOptions) -> FoundDataset:
    """What is in the folder and near it. Raises MachineError for a file or a folder that cannot be read, RecipeError
    for one without images.
    """
    root = Path(os.path.abspath(Path(order.here, order.folder)))  # noqa: PTH100 - its name counts, and .. has none
    if is_file(root):
        raise _describe_file(order.folder, root)
    try:
        found = find_dataset(root, [order.here.absolute()], scanning)
    except ValueError as error:
        why = str(error)
        said = msg("cannot read the folder {path}: {problem}", path=order.folder, problem=FOLDER_PROBLEMS.get(why, why))
        if why == "missing":
            said = msg("the folder {path} does not exist", path=order.folder)
        raise MachineError(said, msg("pass the folder that contains your images: `lorabake init FOLDER`")) from error
    if not found.of_role("concept"):
        raise _describe_empty(order.folder, found)
    return found


def _describe_file(shown: Path, path: Path) -> RecipeError:
    """A file in the place of a folder: what it is, and the command that takes it."""
    if path.suffix.lower() in IMAGE_EXTENSIONS:
        said = msg("{path} is an image, not a folder", path=shown)
        return RecipeError(said, hint=msg("pass its folder: `lorabake init {folder}`", folder=shown.parent))
    try:
        with open_file(path) as file:
            start = file.read(START_SIZE)
            what = recognize_bytes(start) or recognize(start + file.read(TOML_LIMIT))
    except OSError as error:
        return RecipeError(msg("cannot read {path}: {why}", path=shown, why=reason(error)))
    hint = msg("pass the folder that contains your images: `lorabake init FOLDER`")
    if inspect_base_model(path.name, path.parent).family:
        hint = msg("pass the folder of your images, too: `lorabake init FOLDER --model {path}`", path=shown)
    elif what and what.name:
        hint = msg("to make a recipe of it, run `lorabake import {path}`", path=shown)
    what_it_is = what.label if what else msg("a file")
    return RecipeError(msg("{path} is {what}, not a folder of images", path=shown, what=what_it_is), hint=hint)


def _describe_empty(shown: Path, found: FoundDataset) -> RecipeError:
    hint = msg("add png, jpg, jpeg, webp or bmp files, or pass another folder: `lorabake init FOLDER`")
    if found.folders:
        names = [each.path.name for each in found.folders]
        said = msg(
            "{path} contains only masks or regularization images: {names}",
            path=shown,
            names=shorten_list(names, 3, literal),
        )
        return RecipeError(said, hint=hint)
    files = _list_files(found.root)
    if packed := [path.name for path in files if path.suffix.lower() in ARCHIVES]:
        hint = msg("unpack {names} first", names=shorten_list(packed, 3, literal))
    elif kinds := sorted({path.suffix.lower() for path in files} & NOT_READ):
        hint = msg("save the images of the {names} files as PNG or JPEG first", names=shorten_list(kinds, 3, literal))
    return RecipeError(msg("no images in {path} and its subfolders", path=shown), hint=hint)


def _list_files(root: Path) -> list[Path]:
    """Those of a folder and of its subfolders."""
    folders = [root, *(root / name for name in list_folder(root, CAPTION_EXTENSION).folders)]
    listed = [list_folder(folder, CAPTION_EXTENSION) for folder in folders]
    return [Path(each.root, name) for each in listed for name in each.unknown]


def make_draft(order: InitOrder, found: FoundDataset, answers: Answers) -> Draft:
    """The recipe as far as it is known now."""
    folder = order.here / (order.output.parent if order.output and not order.output.is_dir() else order.output or ".")

    def name_path(path: Path) -> str:
        return recipe_relative_path(path, folder.absolute())

    return draft_recipe(
        found, _choose_model(order, found, answers, folder.absolute()), answers, name_path, clip_tokens.is_known_word
    )


def _choose_model(order: InitOrder, found: FoundDataset, answers: Answers, folder: Path) -> ModelChoice:
    """The answer, which is a path from where the program was started; else what was found."""
    if answers.model is None:
        names = [recipe_relative_path(each.path, folder) for each in found.models]
        facts = found.models[0].facts if found.models else None
        return ModelChoice(names[0] if names else None, facts, tuple(names[1:]))
    path = Path(order.here, answers.model).expanduser().absolute()
    local = exists(path) or not looks_like_hub_id(answers.model)
    model = recipe_relative_path(path, folder) if local else answers.model
    return ModelChoice(model, inspect_base_model(model, folder, answers.family))


def write_draft(order: InitOrder, draft: Draft) -> Path:
    """Write the recipe to a new file, and its metadata files next to it. Raises MachineError if one exists, RecipeError
    for what no recipe can name."""
    name = f"{draft.content['name']}.toml"
    path = order.output or Path(name)
    if path.is_dir():
        path /= name
    shown = shlex.quote(format_argument(path.name))
    check = f"Check it, then train: lorabake check {shown} && lorabake run {shown}"
    if wrong := _find_undecodable(draft.content):
        said = msg("{name} is not valid UTF-8, so a recipe cannot contain it", name=escape_undecodable(wrong))
        raise RecipeError(said, hint=msg("rename it"))
    text = write_recipe(draft.content, [*draft.head, check], draft.comments)
    made = list[Path]()
    try:
        for name, captions in draft.metadata.items():
            made += _write_captions(order.here / path.parent / name, captions.texts)
        create_recipe_file(order.here / path, text, msg("choose another file with -o"))
    except BaseException:
        for file in made:
            file.unlink(missing_ok=True)
        raise
    return path


def _write_captions(path: Path, texts: Mapping[str, str]) -> Iterator[Path]:
    """Write a metadata file, unless it is there already."""
    table = {name: {"caption": text} for name, text in texts.items()}
    data = f"{json.dumps(table, ensure_ascii=False, indent=1)}\n".encode()
    if not (is_file(path) and read_bytes(path) == data):
        create_new_file(path, data, msg("choose another name with --name"))
        yield path


def _find_undecodable(content: object) -> str:
    """The first text of a recipe that is no UTF-8, empty if there is none."""
    if isinstance(content, str):
        return "" if content.isascii() or not _HALF.search(content) else content
    inner: Iterable[object] = ()
    if isinstance(content, Mapping):
        inner = cast("Mapping[str, object]", content).values()
    elif isinstance(content, list | tuple):
        inner = cast("Iterable[object]", content)
    return next((wrong for each in inner if (wrong := _find_undecodable(each))), "")
