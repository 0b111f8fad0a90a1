"""Facts about a dataset, measured elsewhere and passed in; no pydantic models because there can be 100,000.

Images and captions are named tuples: a frozen dataclass takes four times as long to make.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import chain
from types import MappingProxyType
from typing import Literal, NamedTuple

CAPTION_EXTENSION = ".txt"  # ours (G3.3); sd-scripts' own default is .caption
# Extensions of the image formats that sd-scripts looks for (TU:104), by the format's name in Pillow.
FORMAT_EXTENSIONS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {"PNG": (".png",), "JPEG": (".jpg", ".jpeg"), "WEBP": (".webp",), "BMP": (".bmp",)}
)
IMAGE_EXTENSIONS = tuple(chain.from_iterable(FORMAT_EXTENSIONS.values()))


class CaptionProblem(StrEnum):
    """What sd-scripts would trip over, or swallow, in a caption file (S12).

    unreadable, not-utf8 and empty (zero bytes) stop it; bom, spaces (nothing else on any line) and blank (first line
    blank) go into the training as they are; more-lines are ignored lines that hold text. One file, one problem: the
    first of this list.
    """

    MISSING = "missing"
    UNREADABLE = "unreadable"
    NOT_UTF8 = "not-utf8"
    EMPTY = "empty"
    BOM = "bom"
    SPACES = "spaces"
    BLANK = "blank"
    MORE_LINES = "more-lines"


class CaptionFacts(NamedTuple):
    """The caption sd-scripts would use for an image: its first line, and what is wrong with the file.

    ``borrowed_from`` is another caption file that sd-scripts would take because of the underscores in the
    path (old face-crop names, TU:1946); None when the caption is the image's own or there is none.
    """

    text: str = ""
    problem: CaptionProblem | None = None
    borrowed_from: str | None = None


class ImageFacts(NamedTuple):
    """One image by its header.

    ``name`` is the file name; width and height are pixels as stored (EXIF ignored, as in sd-scripts);
    ``mode`` is Pillow's, ``alpha`` whether any transparency is declared; ``seen`` the size that sd-scripts' own
    header reader takes it for, None where that is correct; ``problem`` why sd-scripts could not read all of it,
    its size may be known anyway. ``format`` is the content's, whatever the name says (PNG, JPEG, WEBP, BMP,
    GIF ...); ``orientation`` EXIF's 1 to 8, of which only 1 shows the image as it is stored; ``moving`` whether
    there is more than one frame; ``opaque`` that alpha is declared and nothing is transparent, which only a deep
    scan shows.
    """

    name: str
    width: int = 0
    height: int = 0
    mode: str = ""
    alpha: bool = False
    seen: tuple[int, int] | None = None
    problem: str | None = None
    caption: CaptionFacts = CaptionFacts()
    format: str = ""
    orientation: int = 1
    moving: bool = False
    opaque: bool = False


@dataclass(frozen=True, slots=True)
class LongCaption:
    """A caption that CLIP's tokenizer makes more tokens of than the text encoder is given, by its image's name."""

    name: str
    tokens: int


@dataclass(frozen=True, slots=True)
class FolderFacts:
    """One image folder as sd-scripts would see it (not recursive, sd-scripts' own extensions only).

    ``images`` is in sd-scripts' order. ``ignored`` are files that look like images but that sd-scripts skips;
    ``subfolders`` the names of direct sub-folders that hold images; ``repeat_folders`` those of them named
    ``N_token``; ``caches`` the latent caches there (``*_sd.npz``, ``*_sdxl.npz``, ``STEM.npz``), from whose
    names sd-scripts takes image sizes; ``problem`` why the folder could not be read: ``missing``,
    ``not a folder``, ``not permitted``, ``a link to itself`` or the system's text.

    ``hidden`` are images whose name begins with a dot, which sd-scripts passes over. Of the caption files,
    ``orphans`` belong to no image, ``miscased`` would belong to one but for capital letters, ``others`` belong
    to one but have an extension that is not read here (``.caption`` instead of ``.txt``). ``overlong`` are the captions
    beyond the token limit of the recipe. ``caption_extension`` is the one that was looked for. ``spelt`` is a folder
    that is there where this one is missing, with the same name but for capital letters. ``identity`` is the folder's
    own on this machine, whatever it is called; ``stamps`` say by name which images and captions were seen there, and
    when those had changed last.
    """

    path: str
    images: tuple[ImageFacts, ...] = ()
    ignored: tuple[str, ...] = ()
    subfolders: tuple[str, ...] = ()
    repeat_folders: tuple[str, ...] = ()
    caches: tuple[str, ...] = ()
    problem: str | None = None
    hidden: tuple[str, ...] = ()
    orphans: tuple[str, ...] = ()
    miscased: tuple[str, ...] = ()
    others: tuple[str, ...] = ()
    overlong: tuple[LongCaption, ...] = ()
    spelt: str | None = None
    identity: str = ""
    caption_extension: str = CAPTION_EXTENSION
    stamps: Mapping[str, str] = field(default_factory=dict[str, str], repr=False, compare=False)


@dataclass(frozen=True, slots=True)
class ImageRef:
    """Where an image is: which table of the recipe, which of its folders, which file."""

    table: Literal["concept", "regularization"]
    index: int
    name: str


@dataclass(frozen=True, slots=True)
class DuplicateGroup:
    """Images that are the same: by every byte of the file, or, when ``near``, to the eye. In the recipe's order."""

    places: tuple[ImageRef, ...]
    near: bool = False


@dataclass(frozen=True, slots=True)
class DatasetFacts:
    """Folder facts in the recipe's order.

    ``twins`` are groups of images that are the same; near ones are looked for in a ``deep`` scan only.
    ``known_tokens`` are the concepts' tokens that are a word of their own to CLIP.
    """

    concepts: tuple[FolderFacts, ...] = ()
    regularization: tuple[FolderFacts, ...] = ()
    twins: tuple[DuplicateGroup, ...] = ()
    deep: bool = False
    known_tokens: tuple[str, ...] = ()


def parse_repeat_folder(name: str) -> tuple[int, str] | None:
    """Repeats and token of a folder named ``10_token`` as kohya's GUI has them, None for any other name.

    sd-scripts' rule (CU:607-644): the part before the first underscore is a whole number of at least 1.
    """
    number, _, token = name.partition("_")
    try:
        repeats = int(number)
    except ValueError:
        return None
    return (repeats, token) if repeats >= 1 else None
