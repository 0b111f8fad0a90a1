"""What is to be done with each file of a dataset, from headers and captions alone; nothing is written."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from hashlib import sha256
from itertools import chain, count
from pathlib import Path
from typing import Literal, NamedTuple

from lorabake.inputs.captions import caption_path
from lorabake.inputs.folders import file_extension, file_stem, list_folder
from lorabake.inputs.images import make_image_facts, read_image
from lorabake.inputs.prepare.crops import Crop
from lorabake.inputs.prepare.pixels import WIDE_MODES
from lorabake.inputs.prepare.texts import PLAIN_CAPTIONS, CaptionRules, CleanText, clean_caption, edit_crop_caption
from lorabake.inputs.prepare.work import FIRST_ROTATED_SIDEWAYS, CaptionJob, ImageJob
from lorabake.util.fact_cache import make_stamp
from lorabake.util.files import open_file, read_bytes, reason
from lorabake_schemas.bucket_fit import Size
from lorabake_schemas.dataset import (
    CONDITION_END,
    FORMAT_EXTENSIONS,
    MASK_END,
    CaptionFacts,
    CaptionProblem,
    FolderFacts,
    ImageFacts,
)
from lorabake_schemas.guide.tags import has_words
from lorabake_schemas.messages import Message, escape_undecodable, literal, msg
from lorabake_schemas.prepared import LeftOutFile, LeftOutReason, PreparedStep

CAPTION_LIMIT = 16 << 20  # bytes
BLURRED = 2.0  # times that an image is enlarged without weights; above it lacks detail (ours)
MAX_NAME_BYTES = 180  # a file name has 255 at most, with its extension and what it is called until it is complete
# Modes whose meaning Pillow's RGB keeps; of the others a rewritten image says that its color space changed.
PLAIN_MODES = frozenset({"1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBa", "RGBX"})
JPEG_BYTES_PER_PIXEL, PNG_BYTES_PER_PIXEL = 0.8, 2.4  # of photographs, rather too much than too little


def make_plain_name(name: str) -> str:
    """A file's or folder's name as UTF-8 without backslashes, and so short that its relatives fit, too."""
    data = escape_undecodable(name).replace("\\", "_").encode("utf-8", "replace")
    if len(data) > MAX_NAME_BYTES:
        return data[: MAX_NAME_BYTES - 9].decode("utf-8", "ignore") + f"-{sha256(data).hexdigest()[:8]}"
    return data.decode()


def fold_name(name: str) -> str:
    """The same for names that some file system takes for one: it ignores case, or how accents are stored."""
    return unicodedata.normalize("NFC", name.casefold())


class Target(NamedTuple):
    """The size that an image gets, and whether it becomes smaller or larger."""

    size: Size
    growth: Literal["reduced", "enlarged"]


@dataclass(frozen=True, kw_only=True)
class FolderRequest:
    """A folder to prepare: its facts, what it will be called, and how its images and captions have to be.

    ``root`` is its absolute path. ``duplicates`` has the images to leave out, with the file that each equals.
    ``find_target`` gives the size for an image of a size, None to leave it. ``captions``: whether they are read.
    ``masks`` is the absolute path of the folder with masks; ``masks_beside``: the masks next to the images are used,
    and an image without one gets an all white one. ``crops`` are those of each image, by its name.
    """

    root: str
    name: str
    facts: FolderFacts
    find_target: Callable[[Size], Target | None]
    rules: CaptionRules = PLAIN_CAPTIONS
    captions: bool = True
    alpha: Literal["flatten", "keep"] = "flatten"
    masks: str | None = None
    masks_beside: bool = False
    lossless: bool = False
    upscaler: str = ""
    duplicates: Mapping[str, str] = field(default_factory=dict[str, str])
    crops: Mapping[str, Sequence[Crop]] = field(default_factory=dict[str, Sequence[Crop]])

    @property
    def masks_name(self) -> str:
        return f"{self.name}-masks"


@dataclass(frozen=True, slots=True)
class FolderPlan:
    """The jobs for a folder, in the order of its images, and what is left out. ``names`` has the jobs of each image
    by its name in the folder. ``size`` is about how many bytes the new folder takes. ``blurred`` are the images that
    are enlarged so much that they lack detail, and how many times."""

    jobs: tuple[ImageJob, ...]
    left_out: tuple[LeftOutFile, ...]
    names: Mapping[str, Sequence[ImageJob]]
    size: int
    blurred: Mapping[str, float] = field(default_factory=dict[str, float])


class CropError(Exception):
    """A crop that is not within its image."""

    def __init__(self, crop: Crop, why: Message) -> None:
        super().__init__(why)
        self.crop, self.why = crop, why


def plan_folder(asked: FolderRequest) -> FolderPlan:
    """Raises CropError for a box outside of its image. Files that cannot be read are left out."""
    return _Planner(asked).plan()


class _Planner:
    def __init__(self, asked: FolderRequest) -> None:
        self.asked = asked
        self.facts = asked.facts
        self.ignored = frozenset(asked.facts.ignored)
        self.taken = set[str]()
        self.numbers = dict[str, Iterator[int]]()
        self.left_out = list[LeftOutFile]()
        self.used_captions = set[str]()
        self.other_captions = _group_captions(self.facts)
        self.masks = self._list_masks_beside() if asked.masks_beside else _list_masks(asked.masks)
        self.size = 0.0
        self.blurred = dict[str, float]()

    def plan(self) -> FolderPlan:
        asked, facts = self.asked, self.facts
        jobs, names, twins = list[ImageJob](), dict[str, list[ImageJob]](), facts.twins
        for image in (*facts.images, *self._read_ignored()):
            if image.problem and image.name in twins:
                self._leave_out(image.name, "duplicate", literal(twins[image.name]))
            elif image.problem:
                self._leave_out(image.name, "unreadable", _as_message(image.problem))
            elif image.name in asked.duplicates:
                self._leave_out(image.name, "duplicate", literal(asked.duplicates[image.name]))
            else:
                names[image.name] = self._plan_image(image)
                jobs += names[image.name]
        self._note_rest(jobs)
        return FolderPlan(tuple(jobs), tuple(self.left_out), names, int(self.size), self.blurred)

    def _path(self, name: str) -> str:
        return f"{self.asked.root}{os.sep}{name}"

    def _list_masks_beside(self) -> dict[str, str]:
        masks = [name for name in self.facts.companions if file_stem(name).endswith(MASK_END)]
        return {file_stem(name).removesuffix(MASK_END): self._path(name) for name in masks}

    def _leave_out(self, name: str, why: LeftOutReason, detail: Message | None = None) -> None:
        path = name if Path(name).is_absolute() else self._path(name)
        self.left_out.append(LeftOutFile(source=escape_undecodable(path), reason=why, detail=detail))

    def _read_ignored(self) -> list[ImageFacts]:
        """The images whose extension sd-scripts does not look for."""
        if self.facts.metadata is not None:
            return []
        found = list[ImageFacts]()
        for name in self.facts.ignored:
            stamp: str | None = None
            with suppress(OSError):
                stamp = make_stamp(os.stat(self._path(name)), name)  # noqa: PTH116 - bytes that are not UTF-8
            found.append(make_image_facts(name, read_image(self._path(name), stamp), CaptionFacts()))
        return found

    def _plan_image(self, image: ImageFacts) -> list[ImageJob]:
        crops = self.asked.crops.get(image.name, ())
        if not crops:
            return [self._plan_part(image, None, file_stem(_base(image.name)))]
        made, stem = list[ImageJob](), file_stem(_base(image.name))
        for number, crop in enumerate(crops, 1):
            made.append(self._plan_part(image, crop, f"{stem}-{number}" if crop.box else stem))
        if all(crop.box for crop in crops):
            self._leave_out(image.name, "cropped")
        return made

    def _plan_part(self, image: ImageFacts, crop: Crop | None, stem: str) -> ImageJob:
        asked = self.asked
        shown = (image.width, image.height)
        if image.orientation >= FIRST_ROTATED_SIDEWAYS:
            shown = (image.height, image.width)
        box = crop.box if crop else None
        if box is not None:
            if crop is not None and (box[2] > shown[0] or box[3] > shown[1]):
                said = msg("the image has {width} x {height} pixels", width=shown[0], height=shown[1])
                raise CropError(crop, said)
            shown = (box[2] - box[0], box[3] - box[1])
        target = asked.find_target(shown)
        steps = _list_pixel_steps(image, asked.alpha, cropped=box is not None)
        if target is not None:
            steps.append("upscaled" if asked.upscaler and target.growth == "enlarged" else target.growth)
        rewrite = bool(steps)
        extension, named = self._choose_extension(image, rewrite=rewrite)
        if rewrite and _format_of(extension) != image.format and "converted" not in steps:
            steps.append("converted")
        new_stem = self._allocate(stem, image, cropped=box is not None)
        if new_stem != stem:
            named.append("renamed")
        job = ImageJob(
            source=self._path(image.name),
            path=f"{asked.name}/{new_stem}{extension}",
            rewrite=rewrite,
            orientation=image.orientation,
            alpha=asked.alpha,
            crop=box,
            size=target.size if target else None,
            growth=target.growth if target else None,
            named=tuple(named),
            mask=self.masks.get(file_stem(_base(image.name))),
            rules=asked.rules,
            upscaler=asked.upscaler if target and target.growth == "enlarged" else "",
            planned=(*steps, *named),
        )
        if job.mask or asked.masks_beside:
            job = replace(job, mask_path=f"{asked.masks_name}/{new_stem}.png")
        self._estimate(job, image, target.size if target else shown)
        if target is not None and not job.upscaler and target.size[0] > BLURRED * shown[0]:
            self.blurred[job.source] = target.size[0] / shown[0]
        return self._with_caption(job, image, crop, new_stem)

    def _choose_extension(self, image: ImageFacts, *, rewrite: bool) -> tuple[str, list[PreparedStep]]:
        own = file_extension(image.name)
        if rewrite:
            keeps_alpha = image.alpha and self.asked.alpha == "keep"
            lossy = not self.asked.lossless and not image.alpha and not keeps_alpha and self._is_lossy(image)
            return (".jpg" if lossy else ".png"), []
        fitting = FORMAT_EXTENSIONS[image.format]
        if own.lower() in fitting:
            return own.lower(), ["extension"] if own not in {own.lower(), own.upper()} else []
        return fitting[0], ["extension"]

    def _is_lossy(self, image: ImageFacts) -> bool:
        if image.format in {"JPEG", "AVIF"}:
            return True
        if image.format != "WEBP":
            return False
        with suppress(OSError), open_file(self._path(image.name)) as file:
            return b"VP8L" not in file.read(1 << 16)
        return True

    def _allocate(self, stem: str, image: ImageFacts, *, cropped: bool) -> str:
        """A stem that no other image of the folder has, on any file system: it names caption, mask and cache, too."""
        plain = make_plain_name(stem)
        kind = file_extension(image.name).lower().removeprefix(".")
        names = chain([plain], [] if cropped else [f"{plain}-{kind}"], self._number(plain))
        found = next(name for name in names if fold_name(name) not in self.taken)
        self.taken.add(fold_name(found))
        return found

    def _number(self, plain: str) -> Iterator[str]:
        """The names with a number, from the first that has not been asked for: many images may have one name."""
        numbers = self.numbers.setdefault(fold_name(plain), count(2))
        return (f"{plain}-{number}" for number in numbers)

    def _estimate(self, job: ImageJob, image: ImageFacts, size: Size) -> None:
        """Add what the image takes: a file of the same format has about as much for each pixel as its source, a smaller
        one a little more, and a JPEG is saved at a high quality."""
        own = 0
        with suppress(OSError):
            own = os.stat(job.source).st_size  # noqa: PTH116 - as above
        jpeg = job.path.endswith(".jpg")
        each = JPEG_BYTES_PER_PIXEL if jpeg else PNG_BYTES_PER_PIXEL
        if image.format == ("JPEG" if jpeg else "PNG") and image.width and image.height:
            each = min(each, 2 * own / (image.width * image.height))
        whole = size[0] * size[1] * each
        smaller = job.growth == "reduced" and image.format == _format_of(job.path[-4:])
        self.size += (min(whole, own) if smaller else whole) if job.rewrite else own
        if job.mask_path:
            self.size += size[0] * size[1] * 0.1

    def _with_caption(self, job: ImageJob, image: ImageFacts, crop: Crop | None, stem: str) -> ImageJob:
        asked, extension = self.asked, self.facts.caption_extension
        if not asked.captions or self.facts.metadata is not None:
            return replace(job, hint=image.caption.text)
        source, adopted = self._find_caption(image)
        data, clean = b"", CleanText("")
        if source is not None:
            try:
                data = read_bytes(source, CAPTION_LIMIT)
                clean = clean_caption(data, asked.rules)
            except UnicodeDecodeError:
                self._leave_out(
                    source, "unreadable", msg("it is not UTF-8, and its encoding is unknown; save it as UTF-8")
                )
                source = None
            except (OSError, ValueError) as error:
                self._leave_out(source, "unreadable", reason(error) if isinstance(error, OSError) else None)
                source = None
        if source is not None and clean.text and not has_words(clean.text):
            self._leave_out(source, "wordless-caption")
            source, clean = None, CleanText("")
        if crop is not None:
            edited = edit_crop_caption(clean.text, crop.caption, crop.tags, asked.rules)
            clean = edited._replace(steps=(*clean.steps, *edited.steps))
        if not clean.text:
            if source is not None:
                self._leave_out(source, "empty-caption")
            return job
        steps = (*clean.steps, "adopted") if adopted else clean.steps
        made = CaptionJob(
            source=source or (str(crop.place) if crop else ""),
            sha256=sha256(data).hexdigest(),
            text=clean.text,
            path=f"{asked.name}/{stem}{extension}",
            steps=steps,
        )
        return replace(job, caption=made, hint=clean.text)

    def _find_caption(self, image: ImageFacts) -> tuple[str | None, bool]:
        """An image's caption file, and whether it has another name than it should have."""
        facts = self.facts
        own = caption_path(self._path(image.name), facts.caption_extension)
        ignored = image.name in self.ignored
        if image.caption.borrowed_from:
            return image.caption.borrowed_from, True
        if image.caption.problem is not CaptionProblem.MISSING and not ignored:
            self.used_captions.add(_base(own))
            return own, False
        if ignored and os.path.isfile(own):  # noqa: PTH113 - as above
            self.used_captions.add(_base(own))
            return own, False
        stem = file_stem(_base(image.name))
        name = self.other_captions.get(_base(own).lower()) or self.other_captions.get(f"{stem}.")
        if name is None:  # a pipe or a folder in the place of a file is named
            return (own, False) if os.path.lexists(own) else (None, False)
        self.used_captions.add(name)
        return self._path(name), True

    def _note_rest(self, jobs: Sequence[ImageJob]) -> None:
        """What is in the folder and stays behind."""
        facts = self.facts
        stems: set[str] = set() if self.asked.captions else {file_stem(_base(image.name)) for image in facts.images}
        for name in (*facts.orphans, *facts.others, *facts.miscased):
            if name not in self.used_captions:
                self._leave_out(name, "unread-caption" if file_stem(name) in stems else "unused-caption")
        for name in facts.caches:
            self._leave_out(name, "cache")
        for name in facts.hidden:
            self._leave_out(name, "hidden")
        for name in facts.subfolders:
            self._leave_out(name, "subfolder")
        if facts.metadata is not None:
            for name in facts.metadata.unlisted:
                self._leave_out(name, "unlisted")
        self._note_masks(jobs)

    def _note_masks(self, jobs: Sequence[ImageJob]) -> None:
        beside = {self._path(name) for name in self.facts.companions}
        for path in sorted(beside - set(self.masks.values())):
            conditioning = file_stem(path).endswith(CONDITION_END)
            self._leave_out(path, "conditioning" if conditioning else "unused-mask")
        used = {job.mask for job in jobs}
        for path in self.masks.values():
            if path not in used:
                self._leave_out(path, "unused-mask")


def _group_captions(facts: FolderFacts) -> dict[str, str]:
    """The first caption file that is not named as it should be, by its name in lower case, and by its stem and a
    point where only its extension is another one."""
    found: dict[str, str] = {}
    for name in (*facts.miscased, *facts.others):
        found.setdefault(name.lower(), name)
    for name in facts.others:
        found.setdefault(f"{file_stem(name)}.", name)
    return found


def _base(name: str) -> str:
    return os.path.basename(name)  # noqa: PTH119 - bytes that are not UTF-8


def _as_message(text: str) -> Message:
    return text if isinstance(text, Message) else literal(text)


def _list_masks(folder: str | None) -> dict[str, str]:
    """The masks of a folder by stem: sd-scripts takes the first of several (TU:2652)."""
    found: dict[str, str] = {}
    if folder is not None:
        listing = list_folder(folder, ".txt")
        for name in sorted((*listing.images, *listing.ignored)):
            found.setdefault(file_stem(name), f"{listing.root}{os.sep}{name}")
    return found


def _list_pixel_steps(image: ImageFacts, alpha: str, *, cropped: bool) -> list[PreparedStep]:
    """What has to be done to the pixels of an image at its size, by its header."""
    found = list[PreparedStep]()
    if image.moving:
        found.append("first-frame")
    if image.mode.startswith(WIDE_MODES):
        found.append("eight-bit")
    elif image.mode not in PLAIN_MODES and (image.mode == "CMYK" or image.format not in FORMAT_EXTENSIONS):
        found.append("rgb")
    if image.wide_gamut:
        found.append("srgb")
    if image.orientation != 1:
        found.append("rotated")
    if cropped:
        found.append("cropped")
    if image.alpha and alpha == "flatten":
        found.append("background")
    if image.format not in FORMAT_EXTENSIONS and not found:
        found.append("converted")
    return found


def _format_of(extension: str) -> str:
    return "JPEG" if extension == ".jpg" else "PNG"
