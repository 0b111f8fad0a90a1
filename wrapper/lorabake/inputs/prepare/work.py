"""Making one image of the new folder, with its mask and its caption. Runs in several threads, and knows nothing but
its job."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from lorabake.inputs.images import open_image_data
from lorabake.inputs.prepare import pixels
from lorabake.inputs.prepare.texts import PLAIN_CAPTIONS, CaptionRules, add_background, find_named_backgrounds
from lorabake.util.files import read_bytes, reason, replace_bytes
from lorabake_schemas.bucket_fit import Size
from lorabake_schemas.messages import Message, escape_undecodable, literal, msg
from lorabake_schemas.prepared import LeftOutFile, PreparedFile, PreparedImage, PreparedStep

if TYPE_CHECKING:
    from PIL import Image

WORK_VERSION = 2  # changes when the same job would give another file
IMAGE_LIMIT = 1 << 30  # bytes of a file; Pillow refuses more pixels than fit into it
FIRST_ROTATED_SIDEWAYS = 5  # of EXIF's orientations: from here width and height are exchanged


@dataclass(frozen=True, slots=True, kw_only=True)
class CaptionJob:
    """A caption: its new ``text``, and the file that it comes from."""

    source: str
    sha256: str
    text: str
    path: str
    steps: tuple[PreparedStep, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageJob:
    """One image: where it is, and what becomes of it. Paths of results are below the new folder.

    ``rewrite``: its pixels or its format change; else it is an exact copy. ``size`` is the final one if it is resized,
    by ``growth``. ``named`` are the steps that only change its name. ``upscaler`` is the digest of the weights that
    enlarge it. ``mask_path`` without ``mask``: an all white one. ``planned`` is what the header lets expect.
    """

    source: str
    path: str
    rewrite: bool = False
    orientation: int = 1
    alpha: Literal["flatten", "keep"] = "flatten"
    crop: pixels.Box | None = None
    size: Size | None = None
    growth: Literal["reduced", "enlarged"] | None = None
    named: tuple[PreparedStep, ...] = ()
    mask: str | None = None
    mask_path: str | None = None
    caption: CaptionJob | None = None
    rules: CaptionRules = PLAIN_CAPTIONS
    hint: str = ""
    upscaler: str = ""
    planned: tuple[PreparedStep, ...] = ()

    @property
    def paths(self) -> tuple[str, ...]:
        """All that it makes."""
        caption = self.caption.path if self.caption else None
        return tuple(path for path in (self.path, self.mask_path, caption) if path)

    @property
    def key(self) -> str:
        """The same for the same job; the source's content is not in it."""
        table = {**asdict(self), "planned": None, "version": WORK_VERSION}
        return sha256(json.dumps(table, sort_keys=True).encode()).hexdigest()


class _SourceError(Exception):
    """``why`` an image cannot be used."""

    def __init__(self, why: Message) -> None:
        super().__init__(why)
        self.why = why


@dataclass(frozen=True, slots=True)
class Place:
    """Where files are made. ``announce`` gets the path below ``root`` and the digest of each before it is written."""

    root: Path
    announce: Callable[[str, str], None]

    def write(self, path: str, content: bytes) -> str:
        """The digest. Raises OSError."""
        digest = sha256(content).hexdigest()
        self.announce(path, digest)
        replace_bytes(self.root / path, content, within=self.root)
        return digest


def do_job(place: Place, job: ImageJob, upscaled: Path | None = None) -> PreparedImage:
    """Make the files of a job. A damaged source is left out; raises OSError where ``place`` cannot be written. Call it
    within ``ignore_pillow_warnings``, which is not for threads."""
    files, left_out = list[PreparedFile](), list[LeftOutFile]()
    color: str | None = None
    try:
        data = _read_source(job.source)
        image, done = _make_pixels(data, job)
        color = done.color
        file, size = _write_image(place, job, data, image, done, upscaled)
        files.append(file)
    except _SourceError as error:
        left = LeftOutFile(source=escape_undecodable(job.source), reason="unreadable", detail=error.why)
        return PreparedImage(path=escape_undecodable(job.path), job=job.key, left_out=(left,))
    if job.mask_path:
        try:
            files.append(_make_mask(place, job, data, done.sizes, size))
        except _SourceError as error:
            source = escape_undecodable(job.mask or job.source)
            left_out.append(LeftOutFile(source=source, reason="unreadable", detail=error.why))
    if job.caption is not None:
        files.append(_write_caption(place, job.caption, job.rules, color))
    path = escape_undecodable(job.path)
    return PreparedImage(path=path, job=job.key, files=tuple(files), left_out=tuple(left_out), color=color)


def stage_image(root: Path, job: ImageJob, place: str) -> bool:
    """Write what an upscaler gets: the image at its size in RGB. False for one that cannot be read."""
    try:
        image, _ = _make_pixels(_read_source(job.source), job)
    except _SourceError:
        return False
    replace_bytes(root / place, pixels.encode(image.convert("RGB"), ".png", None), within=root)
    return True


@dataclass(frozen=True, slots=True)
class _Done:
    """What was done to an image: ``sizes`` as stored and as shown, before it was cropped or resized."""

    steps: tuple[PreparedStep, ...]
    sizes: tuple[Size, Size]
    color: str | None = None
    profile: bytes | None = None


def _swap(size: Size) -> Size:
    return size[1], size[0]


def _read_source(path: str) -> bytes:
    try:
        return read_bytes(path, IMAGE_LIMIT)
    except (OSError, ValueError) as error:
        raise _SourceError(reason(error) if isinstance(error, OSError) else literal(str(error))) from error


def _make_pixels(data: bytes, job: ImageJob) -> tuple[Image.Image, _Done]:
    """The decoded image as it will be, but for its size. Raises _SourceError."""
    try:
        image = open_image_data(data)
        stored = image.size
        if job.growth == "reduced" and job.size and job.crop is None and image.format == "JPEG":
            sideways = job.orientation >= FIRST_ROTATED_SIDEWAYS
            pixels.draft_jpeg(image, _swap(job.size) if sideways else job.size)
        steps: list[PreparedStep] = ["first-frame"] if "first-frame" in job.planned else []
        image.load()
        return _change(image, job, steps, stored) if job.rewrite else (image, _Done((), (stored, stored)))
    except MemoryError:
        raise
    except Exception as error:
        raise _SourceError(msg("damaged: {why}", why=str(error) or type(error).__name__)) from error


def _change(image: Image.Image, job: ImageJob, steps: list[PreparedStep], stored: Size) -> tuple[Image.Image, _Done]:
    from PIL import Image

    color, profile = None, image.info.get("icc_profile")
    if image.mode == "CMYK":
        profile = None
    steps.extend(step for step in job.planned if step in {"eight-bit", "rgb"})
    image = pixels.to_rgb(image)
    shown = stored
    if job.orientation != 1:
        image = image.transpose(Image.Transpose(_TRANSPOSED[job.orientation]))
        shown = _swap(stored) if job.orientation >= FIRST_ROTATED_SIDEWAYS else stored
        steps.append("rotated")
    if job.crop is not None:
        image = image.crop(job.crop)
        steps.append("cropped")
    if "srgb" in job.planned and image.mode in {"RGB", "RGBA"}:
        converted = pixels.to_srgb(image, profile)
        if converted is not None:
            image, profile = converted, None
            steps.append("srgb")
    if image.mode == "RGBA" and job.alpha == "flatten":
        if pixels.is_opaque(image):
            image = image.convert("RGB")
            steps.append("opaque")
        else:
            wanted = find_named_backgrounds(job.hint, job.rules.separator)
            color = pixels.choose_background(Path(job.path).stem, wanted)
            image = pixels.flatten(image, color)
            steps.append("background")
    steps.extend(step for step in job.planned if step == "converted")
    return image, _Done(tuple(steps), (stored, shown), color, profile if isinstance(profile, bytes) else None)


def _write_image(
    place: Place, job: ImageJob, data: bytes, image: Image.Image, done: _Done, upscaled: Path | None
) -> tuple[PreparedFile, Size]:
    content, steps = data, job.named
    if job.rewrite:
        image, grown = _grow(image, job, upscaled)
        content = pixels.encode(image, Path(job.path).suffix, done.profile)
        steps = (*done.steps, *grown, *job.named)
    digest = place.write(job.path, content)
    file = PreparedFile(
        kind="image",
        path=escape_undecodable(job.path),
        source=escape_undecodable(job.source),
        source_sha256=sha256(data).hexdigest(),
        sha256=digest,
        size=len(content),
        steps=steps,
        width=image.width,
        height=image.height,
    )
    return file, image.size


def _grow(image: Image.Image, job: ImageJob, upscaled: Path | None) -> tuple[Image.Image, tuple[PreparedStep, ...]]:
    if job.size is None or job.growth is None:
        return image, ()
    step: PreparedStep = job.growth
    if upscaled is not None:
        step = "upscaled"
        larger = open_image_data(read_bytes(upscaled, IMAGE_LIMIT)).convert("RGB")
        if image.mode == "RGBA":
            alpha = pixels.resize(image.getchannel("A"), job.size)
            larger = pixels.resize(larger, job.size)
            larger.putalpha(alpha)
        image = larger.convert("L") if image.mode == "L" else larger
    return pixels.resize(image, job.size), (step,)


def _make_mask(place: Place, job: ImageJob, image: bytes, sizes: tuple[Size, Size], size: Size) -> PreparedFile:
    """The mask of an image, or a white one for an image without. Raises _SourceError."""
    assert job.mask_path is not None  # noqa: S101 - the caller asked
    source, content, steps = image, b"", list[PreparedStep](["white"])
    if job.mask:
        source = _read_source(job.mask)
        content, steps = _fit_mask(source, job, sizes, size)
    else:
        from PIL import Image

        content = pixels.encode(Image.new("L", size, 255), ".png", None)
    digest = place.write(job.mask_path, content)
    return PreparedFile(
        kind="mask",
        path=escape_undecodable(job.mask_path),
        source=escape_undecodable(job.mask or job.source),
        source_sha256=sha256(source).hexdigest(),
        sha256=digest,
        size=len(content),
        steps=tuple(steps),
        width=size[0],
        height=size[1],
    )


def _fit_mask(data: bytes, job: ImageJob, sizes: tuple[Size, Size], size: Size) -> tuple[bytes, list[PreparedStep]]:
    """A mask with the same rotation, crop and size as its image. Raises _SourceError.

    A mask of the image's stored size is rotated with it; one of another shape is taken as the image is shown.
    """
    from PIL import Image

    steps = list[PreparedStep]()
    try:
        mask: Image.Image = open_image_data(data)
        mask.load()
        plain = mask.format == "PNG" and not mask.mode.startswith(pixels.WIDE_MODES)
        if mask.mode.startswith(pixels.WIDE_MODES):
            steps.append("eight-bit")
        elif not plain:
            steps.append("converted")
        stored, shown = sizes
        if job.orientation != 1 and mask.size == stored:
            mask = mask.transpose(Image.Transpose(_TRANSPOSED[job.orientation]))
            steps.append("rotated")
        if job.crop is not None:
            mask = mask.resize(shown) if mask.size != shown else mask
            mask = mask.crop(job.crop)
            steps.append("cropped")
        if mask.size != size:
            steps.append("resized")
        if not steps:
            return data, steps
        red = pixels.to_rgb(mask).convert("RGB").getchannel("R")
        return pixels.encode(pixels.resize(red, size), ".png", None), steps
    except MemoryError:
        raise
    except Exception as error:
        raise _SourceError(msg("damaged: {why}", why=str(error) or type(error).__name__)) from error


def _write_caption(place: Place, caption: CaptionJob, rules: CaptionRules, color: str | None) -> PreparedFile:
    text, steps = caption.text, caption.steps
    if color is not None:
        tagged = add_background(text, color, rules)
        steps = (*steps, "background-tag") if tagged != text else steps
        text = tagged
    content = text.encode("utf-8", "replace")
    digest = place.write(caption.path, content)
    return PreparedFile(
        kind="caption",
        path=escape_undecodable(caption.path),
        source=escape_undecodable(caption.source),
        source_sha256=caption.sha256,
        sha256=digest,
        size=len(content),
        steps=steps,
    )


# EXIF's orientations 2 to 8 as numbers of PIL.Image.Transpose: the way back to how the image is shown.
_TRANSPOSED = {2: 0, 3: 3, 4: 1, 5: 5, 6: 4, 7: 6, 8: 2}
