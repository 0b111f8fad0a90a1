"""Facts about a dataset, measured elsewhere and passed in; no pydantic models because there can be 100,000.

Images and captions are named tuples: a frozen dataclass takes four times as long to make.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from itertools import chain
from posixpath import normpath
from types import MappingProxyType
from typing import Literal, NamedTuple

FolderTable = Literal["concept", "regularization"]
CAPTION_EXTENSION = ".txt"  # ours (G3.3); sd-scripts' own default is .caption
# Extensions of the image formats that sd-scripts looks for (TU:104), by the format's name in Pillow.
FORMAT_EXTENSIONS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {"PNG": (".png",), "JPEG": (".jpg", ".jpeg"), "WEBP": (".webp",), "BMP": (".bmp",)}
)
IMAGE_EXTENSIONS = tuple(chain.from_iterable(FORMAT_EXTENSIONS.values()))
# Ends of OneTrainer's names for what belongs to an image: NAME-masklabel.png is the mask of NAME.jpg.
MASK_END, CONDITION_END = "-masklabel", "-condlabel"
FOREIGN_EXTENSIONS = (".heic", ".heif", ".jxl", ".jp2")  # of images that lorabake cannot read, either


MAX_CAPTION_BYTES = 1 << 18  # of a caption that are read; CLIP takes 225 tokens at most, which are about 1,000


class CaptionProblem(StrEnum):
    """A caption file on which sd-scripts stops, or that it misreads silently (S12).

    unreadable, not-utf8 and empty (zero bytes) stop it; of too-large only the first MAX_CAPTION_BYTES were read;
    bom, spaces (nothing else on any line), blank (first line blank) and no-words (numbers of a detector, or commas)
    are trained as they are; more-lines are ignored lines with text. One problem per file: the first of this list.
    """

    MISSING = "missing"
    UNREADABLE = "unreadable"
    NOT_UTF8 = "not-utf8"
    EMPTY = "empty"
    TOO_LARGE = "too-large"
    BOM = "bom"
    SPACES = "spaces"
    BLANK = "blank"
    NO_WORDS = "no-words"
    MORE_LINES = "more-lines"


class CaptionFacts(NamedTuple):
    """The caption that sd-scripts would use for an image: its first line, and what is wrong with the file.

    ``borrowed_from`` is another caption file that sd-scripts would use because of the underscores in the path (old
    face-crop names, TU:1946). It is None if the image has its own caption, or does not have a caption. ``others`` are
    the captions that enable_wildcard may use instead of ``text``: the other lines, and the other choices of ``{a|b}``
    (``expand_wildcards``).
    """

    text: str = ""
    problem: CaptionProblem | None = None
    borrowed_from: str | None = None
    others: tuple[str, ...] = ()

    @property
    def texts(self) -> tuple[str, ...]:
        """Every caption that the image may be trained with; the first is never missing, but may be empty."""
        return (self.text, *self.others)


class ImageFacts(NamedTuple):
    """One image by its header.

    ``name`` is the file name. Width and height are pixels as stored (EXIF ignored, as in sd-scripts). ``mode`` is
    Pillow's mode, ``alpha`` whether any transparency is declared. ``seen`` is the size that sd-scripts' own header
    reader finds, None if that is correct. ``problem`` is why sd-scripts could not read all of it; its size may be known
    anyway. ``format`` is the content's format, whatever the extension is (PNG, JPEG, WEBP, BMP, GIF ...).
    ``orientation`` is EXIF's 1 to 8, of which only 1 shows the image as it is stored. ``moving`` is whether there is
    more than one frame. ``wide_gamut`` means a color profile with more colors than sRGB, which sd-scripts ignores.
    ``opaque`` means that alpha is declared and nothing is transparent, which only a deep scan
    shows.
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
    wide_gamut: bool = False
    opaque: bool = False


class LongCaption(NamedTuple):
    """A caption that CLIP's tokenizer makes more tokens of than the text encoder is given, by its image's name."""

    name: str
    tokens: int


@dataclass(frozen=True, slots=True)
class MaskFacts:
    """The masks of a folder's images, by file name: sd-scripts pairs them by stem.

    ``problem`` is why the folder could not be read, as that of FolderFacts, or ``images``: it is the folder of the
    images itself. ``count`` masks belong to an image; ``missing`` are images without one, ``extra`` masks without an
    image. Of those that belong to one, ``broken`` cannot be decoded, ``missized`` have another size than their image,
    ``wide`` have more than 8 bits a value, ``black`` and ``white`` are so all over, ``transparent`` have an alpha
    channel, which sd-scripts drops.
    """

    path: str
    problem: str | None = None
    count: int = 0
    missing: tuple[str, ...] = ()
    extra: tuple[str, ...] = ()
    broken: tuple[str, ...] = ()
    missized: tuple[str, ...] = ()
    wide: tuple[str, ...] = ()
    black: tuple[str, ...] = ()
    white: tuple[str, ...] = ()
    transparent: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class MetadataFacts:
    """A metadata file that has the captions of a folder.

    ``problem`` is why sd-scripts would stop at it. ``missing`` are the names in it that lead to no file, ``stems`` how
    many of them are names of images without their extension; ``unlisted`` the images of the folder that it does not
    have, ``missized`` those for which it has another size than the file, ``cached`` those of which sd-scripts would
    open a left-over cache as the image.
    """

    path: str
    problem: str | None = None
    count: int = 0
    missing: tuple[str, ...] = ()
    stems: int = 0
    unlisted: tuple[str, ...] = ()
    missized: tuple[str, ...] = ()
    cached: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class MetadataOffer:
    """A metadata file with captions of images that have none; ``usable`` if its names lead to the images, ``foreign``
    if sd-scripts does not read files of this form at all."""

    path: str
    usable: bool
    foreign: bool = False


@dataclass(frozen=True, slots=True)
class FolderFacts:
    """One image folder as sd-scripts would see it (not recursive, sd-scripts' own extensions only).

    ``images`` is in sd-scripts' order. ``ignored`` are files that look like images but that sd-scripts skips;
    ``subfolders`` the paths of subfolders with images, two levels deep; ``repeat_folders`` those named ``N_token``;
    ``caches`` the latent caches there (``*_sd.npz``, ``*_sdxl.npz``, ``STEM.npz``), from whose names sd-scripts takes
    image sizes. ``problem`` is why the folder could not be read: ``missing``, ``not a folder``, ``not permitted``, ``a
    link to itself`` or the system's text.

    ``hidden`` are images whose name starts with a dot, which sd-scripts skips. Of the caption files, ``orphans`` do not
    belong to an image, ``miscased`` would belong to one except for capital letters, ``others`` belong to one but have
    an extension that is not read here (``.caption`` instead of ``.txt``; any extension where no image has a caption).
    ``overlong`` are the captions above the recipe's token limit. ``caption_extension`` is the extension that was
    searched for, empty if a metadata file has the captions. ``offer`` is a metadata file with captions of
    these images, which have none. ``companions`` are those images that are OneTrainer's masks and conditioning images
    of others, on which sd-scripts trains; none with a metadata file. ``spelt`` is an existing folder whose name differs
    from this missing one in capital letters only. ``identity`` identifies the folder on this machine under any name.
    ``stamps`` has the name of each image and caption that was found, with the time of its last change.
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
    companions: tuple[str, ...] = ()
    spelt: str | None = None
    identity: str = ""
    caption_extension: str = CAPTION_EXTENSION
    masks: MaskFacts | None = None
    metadata: MetadataFacts | None = None
    offer: MetadataOffer | None = None
    stamps: Mapping[str, str] = field(default_factory=dict[str, str], repr=False, compare=False)

    def without_companions(self) -> FolderFacts:
        """The same without those of its images."""
        those = frozenset(self.companions)
        return replace(self, images=tuple(each for each in self.images if each.name not in those)) if those else self

    @property
    def twins(self) -> dict[str, str]:
        """The files that cannot be read, each with the image of its name: a phone's HEIC next to its JPEG."""
        stems = {image.name.rpartition(".")[0]: image.name for image in self.images}
        foreign = (name for name in self.ignored if name.lower().endswith(FOREIGN_EXTENSIONS))
        return {name: stems[stem] for name in foreign if (stem := name.rpartition(".")[0]) in stems}

    @property
    def key(self) -> str:
        """The same for one folder under two names: pics and ./pics are one, and what a link leads to is, too."""
        return self.identity or normpath(self.path)


@dataclass(frozen=True, slots=True)
class ImageRef:
    """Where an image is: which table of the recipe, which of its folders, which file."""

    table: FolderTable
    index: int
    name: str


class DuplicateGroup(NamedTuple):
    """Images that are the same: by every byte of the file, or, when ``near``, to the eye. In the recipe's order."""

    places: tuple[ImageRef, ...]
    near: bool = False


@dataclass(frozen=True, slots=True)
class DatasetFacts:
    """Folder facts in the recipe's order.

    ``twins`` are groups of equal images; similar ones are searched only in a ``deep`` scan. ``known_tokens`` are
    words that CLIP has as a single token, of the concepts' tokens and of what all captions of a folder start with.
    """

    concepts: tuple[FolderFacts, ...] = ()
    regularization: tuple[FolderFacts, ...] = ()
    twins: tuple[DuplicateGroup, ...] = ()
    deep: bool = False
    known_tokens: tuple[str, ...] = ()

    def get_folder(self, table: FolderTable, index: int) -> FolderFacts:
        """The folder of a [[concept]] or [[regularization]], by its place in the recipe."""
        return (self.concepts if table == "concept" else self.regularization)[index]


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
