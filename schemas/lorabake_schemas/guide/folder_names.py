"""What the paths of image folders say: repeats, token, outfit and class, as kohya's GUI reads them and people write
them; and which folders have no images of a concept at all.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence
from posixpath import basename, dirname, normpath
from typing import Literal, NamedTuple

from lorabake_schemas.dataset import parse_repeat_folder

# What a folder has: images of a concept, regularization images, masks, or images that are not for training.
FolderRole = Literal["concept", "regularization", "masks", "other"]
_ROLES: tuple[tuple[FolderRole, re.Pattern[str]], ...] = (
    ("masks", re.compile(r"(.*[ _-])?masks?")),
    (
        "regularization",
        re.compile(
            r"(.*[ _-])?(regs?|regulari[sz]ation|class)([ _-]?images?)?"
            r"|(\d+_)?(regs?[_-]|(regulari[sz]ation([ _-]?images?)?|class[ _-]?images?)[ _-])(?P<class_>\w.*)",
            re.IGNORECASE,
        ),
    ),
    (
        "other",
        re.compile(
            r"logs?|models?|checkpoints?|outputs?|samples?|runs|backups?|unused|reject(ed|s)?|discard(ed)?|trash|old"
            r"|val(id|idation)?|test|eval(uation)?|(.*[ _-])?grids?"
            # images that guide a generation: ai-toolkit's NAME_controls, ControlNet's maps
            r"|control|(.*[ _-])?(controls|conditioning)([ _-]?(data|images?|maps?))?"
            r"|(depth|canny|lineart|openpose|scribble|segmentation)([ _-]?(images?|maps?))?"
        ),
    ),
)
# Names that say what is done with a folder and nothing about what its images show.
_STRUCTURE = re.compile(
    r"(train(ing)?|instance|raw|source|my|cropped|final|sd|lora|kohya)?[ _-]?"
    r"(imgs?|images?|jpegimages|pics?|pictures?|photos?|fotos?|imagens|set|data|datas?ets?|train(ing)?|inputs?|concepts?"
    r"|characters?|people|styles?|subjects?|outfits?|lora|raw|source|folder|new folder|nova pasta|root|home|tmp"
    r"|originals?|processed|crop(s|ped)?|resized|upscaled|captioned|hq|lq|frames|screenshots?|screencaps?"
    r"|exports?|downloads?|dcim|camera( roll)?|hydrus|danbooru|gelbooru|safebooru|pixiv|twitter|instagram)"
    r"[ _-]?(data|images?|files|exports?|downloads?|\(?\d+\)?)?"
    r"|\d+([x_-]\d+)*(px)?|\d+apple|(19|20)\d\d([ ._-].*)?"  # sizes, numbers, cameras' folders, dates
    r"|\d{4,}_training_data"  # Civitai's
)
MAX_REPEATS = 999  # what is larger in front of a name is a year or a number of something
# What people write after a class: 512, 512x768, v2, (2), copy, 2023-05-01.
_VERSION = re.compile(
    r"((^|[ _-]+)(v(er(sion)?)?[ ._]?\d+(\.\d+)*|\d+([x\u00d7]\d+)?(px)?|\(\d+\)|\(?(copy|kopie|c[o\u00f3]pia)\)?))+$",
    re.IGNORECASE,
)
# Names of what all images in a folder have in common, though the subject is that of the folders next to it.
_VIEWS = re.compile(
    r"faces?|heads?|(full|half|upper|lower)?[ _-]?bod(y|ies)|bust|close[ _-]?ups?|portraits?|profiles?"
    r"|(side|front|back|rear)([ _-]?views?)?|sitting|standing|poses?|indoors?|outdoors?|selfies?|solo|rosto"
    r"|corpo( inteiro)?"
)


class FolderName(NamedTuple):
    """``repeats`` is the number in front of the name, None without one. Without one ``token`` is the plain name, which
    may be anything. What a name does not say is None."""

    role: FolderRole = "concept"
    repeats: int | None = None
    token: str | None = None
    outfit: str | None = None
    class_: str | None = None


def is_structure(name: str) -> bool:
    """Whether a folder's name is a usual one that does not say whom or what its images show: img, photos, face."""
    plain = name.casefold().strip()
    return any(pattern.fullmatch(plain) for pattern in (_STRUCTURE, _VIEWS))


def find_role(path: str) -> FolderRole:
    """What a folder is for, by its own name and those of the folders above it in this path."""
    names = [part.casefold().strip() for part in normpath(path).split("/")]
    for name in names:
        for role, pattern in _ROLES:
            if pattern.fullmatch(name):
                return role
    return "concept"


def read_folder_names(paths: Sequence[str]) -> tuple[FolderName, ...]:
    """What each of the image folders below one folder says, by their paths from there; ``.`` is that folder itself.

    ``10_token class`` is kohya's. Folders that share a character's folder are its outfits: ``Character/1_Outfit`` (the
    guide's G6.17 has ``1_character, outfit``). One alone, without such neighbors, or several that start with the same
    word are kohya's.
    """
    siblings: dict[str, list[str]] = defaultdict(list)
    for path in paths:
        if find_role(path) == "concept":
            siblings[dirname(normpath(path))].append(basename(normpath(path)))
    characters = {above for above, names in siblings.items() if _are_outfits(above, names)}
    series = {dirname(above) for above in characters}
    characters |= {above for above in siblings if dirname(above) in series and not is_structure(basename(above))}
    names = [_read_path(normpath(path), characters) for path in paths]
    classes = {name.class_.casefold() for name in names if name.role == "concept" and name.class_}
    return tuple(_read_as_class(name) if _is_class_alone(name, classes) else name for name in names)


def _is_class_alone(name: FolderName, classes: set[str]) -> bool:
    """``1_woman`` beside ``10_token woman``: images of the class in general."""
    own = name.token if name.repeats is not None and not name.class_ and not name.outfit else None
    return own is not None and own.casefold() in classes


def _read_as_class(name: FolderName) -> FolderName:
    return FolderName("regularization", name.repeats, class_=name.token)


def _are_outfits(above: str, names: Sequence[str]) -> bool:
    words = [_split_name(name)[1] for name in names]
    firsts = {name.partition(" ")[0].casefold() for name in words if not is_structure(name)}
    return bool(above) and not is_structure(basename(above)) and len(firsts) > 1


def split_repeats(name: str) -> tuple[int, str] | None:
    """Repeats and words of ``10_token``; None for any other name, such as a date, which sd-scripts would read so."""
    repeats, words = parse_repeat_folder(name) or (0, "")
    return (repeats, words.strip()) if 1 <= repeats <= MAX_REPEATS and any(map(str.isalpha, words)) else None


def _split_name(name: str) -> tuple[int | None, str]:
    return split_repeats(name) or (None, name)


def _drop_version(words: str) -> str | None:
    return _VERSION.sub("", words).strip() or None


def _read_path(path: str, characters: set[str]) -> FolderName:
    role, name = find_role(path), basename(path)
    repeats, words = _split_name(name)
    if role == "regularization":
        named = dict(_ROLES)[role].fullmatch(words)
        words = (named["class_"] or "") if named else words
        return FolderName(role, repeats, class_=None if is_structure(words) else _drop_version(words))
    if role != "concept" or path == ".":
        return FolderName(role)
    if dirname(path) in characters:
        return FolderName(role, repeats, basename(dirname(path)), None if is_structure(words) else _drop_version(words))
    if repeats is None or is_structure(words):
        return FolderName(role, repeats, None if is_structure(words) else words)
    token, comma, rest = (part.strip() for part in words.partition(","))
    if comma and token and rest:
        return FolderName(role, repeats, token, _drop_version(rest))
    token, _, rest = words.partition(" ")
    return FolderName(role, repeats, token, class_=_drop_version(rest))
